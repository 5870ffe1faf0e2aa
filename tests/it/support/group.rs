//! A control group of a test's own with a limit of memory, where the system lets one be made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A group below this process's. It is removed when dropped, with all that runs in it ended before.
pub(crate) struct Group {
    pub(crate) directory: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl Group {
    /// `None` where none can be made: no rights, or no controller of memory.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        own.lines().find_map(|line| Self::below(line, bytes))
    }

    /// Below the group that a line of /proc/self/cgroup tells.
    fn below(line: &str, bytes: u64) -> Option<Self> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let (root, limit, usage) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            _ => return None,
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("larder-test-{}-{number}", std::process::id());
        // In a container the path may be that outside of it.
        let parents = [Path::new(root).join(group.trim_start_matches('/')), PathBuf::from(root)];
        let directory =
            parents.iter().map(|parent| parent.join(&name)).find(|at| fs::create_dir(at).is_ok())?;
        let made = Self { directory, limit, usage };
        fs::write(made.directory.join(limit), bytes.to_string()).ok()?;
        Some(made)
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        fs::write(self.directory.join(self.limit), bytes.to_string()).unwrap();
    }

    /// Bytes that are used in it.
    pub(crate) fn usage(&self) -> u64 {
        fs::read_to_string(self.directory.join(self.usage)).unwrap().trim().parse().unwrap()
    }

    /// A line of the shell by which it enters the group.
    pub(crate) fn entry(&self) -> String {
        format!("echo $$ > '{}'", self.directory.join("cgroup.procs").display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was ended leaves the group a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
