//! How much memory there is: what defaults that are shares of it are made from, and what is left of it.

use std::path::{Path, PathBuf};

/// What is assumed where nothing tells: 1 GiB.
const UNKNOWN: u64 = 1 << 30;

/// Bytes that the process may use: the least of the machine's RAM and the limits of its control groups. 1 GiB
/// where nothing tells.
pub fn usable_memory() -> u64 {
    usable(|path| std::fs::read_to_string(path).ok()).unwrap_or(UNKNOWN)
}

/// Bytes of this process that are resident. `None` where nothing tells.
pub fn resident_memory() -> Option<u64> {
    figure(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// A limit of a control group, and how near to it the group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strain {
    /// Bytes that the group's processes may use.
    pub limit: u64,
    /// Bytes that they use, without what the kernel takes back by itself: pages of files.
    pub used: u64,
}

impl Strain {
    /// Of all groups with a limit that the process is in, the one with the least left. `None` without a limit. May take
    /// a while: the kernel sums up.
    pub fn read() -> Option<Self> {
        strain(|path| std::fs::read_to_string(path).ok())
    }

    /// The same at once, with the pages of files among what is used.
    pub fn at_most() -> Option<Self> {
        strain(|path| if path.ends_with(STAT) { None } else { std::fs::read_to_string(path).ok() })
    }

    /// Bytes left.
    pub fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

fn strain(read: impl Fn(&Path) -> Option<String>) -> Option<Strain> {
    let ram = ram(&read).unwrap_or(u64::MAX);
    let strains = limits(&read).into_iter().filter(|(_, _, limit)| *limit < ram);
    let strains = strains.filter_map(|(directory, files, limit)| {
        let usage = read(&directory.join(files.usage))?.trim().parse::<u64>().ok()?;
        let stat = read(&directory.join(STAT)).unwrap_or_default();
        let pages = stat.lines().filter_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            files.pages.contains(&name).then(|| bytes.trim().parse::<u64>().ok())?
        });
        Some(Strain { limit, used: usage.saturating_sub(pages.sum()) })
    });
    strains.min_by_key(Strain::free)
}

/// Bytes that the process may use, as the files of Linux that `read` gives tell. `None` elsewhere.
fn usable(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = limits(&read).into_iter().map(|(_, _, limit)| limit);
    ram(&read).into_iter().chain(limits).min()
}

fn ram(read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    read(Path::new("/proc/meminfo")).and_then(|text| figure(&text, "MemTotal:")).filter(|bytes| *bytes > 0)
}

/// What the memory of a group is used for.
const STAT: &str = "memory.stat";

/// The files of a control group about memory, in one of the two versions.
#[derive(Clone, Copy)]
struct Files {
    root: &'static str,
    /// The least holds. Above `memory.high` nobody is ended, but the kernel makes them all wait.
    limits: &'static [&'static str],
    usage: &'static str,
    /// The lines of memory.stat about pages of files.
    pages: [&'static str; 2],
}

const VERSION_1: Files = Files {
    root: "/sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    pages: ["total_active_file", "total_inactive_file"],
};

const VERSION_2: Files = Files {
    root: "/sys/fs/cgroup",
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    pages: ["active_file", "inactive_file"],
};

/// The groups that have a limit, by their directories. A limit of an ancestor holds too.
fn limits(read: &impl Fn(&Path) -> Option<String>) -> Vec<(PathBuf, Files, u64)> {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for (files, group) in groups.lines().filter_map(place) {
        // In a container the group's path may be seen from outside, and its files lie at the root.
        for at in Path::new(group).ancestors() {
            let directory = Path::new(files.root).join(at.strip_prefix("/").unwrap_or(at));
            // "max" does not parse. Version 1 writes a number near 2^63 for "no limit": RAM is less.
            let limit =
                |file: &&str| read(&directory.join(file))?.trim().parse().ok().filter(|limit| *limit > 0);
            let least = files.limits.iter().filter_map(limit).min();
            limits.extend(least.map(|limit| (directory, files, limit)));
        }
    }
    limits
}

/// The group of a line of /proc/self/cgroup, and the names of its files.
fn place(line: &str) -> Option<(Files, &str)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
    if id == "0" && controllers.is_empty() {
        Some((VERSION_2, group))
    } else if controllers.split(',').any(|controller| controller == "memory") {
        Some((VERSION_1, group))
    } else {
        None
    }
}

/// A figure of /proc/meminfo or the like, in bytes.
fn figure(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal:       16384 kB\nMemFree:  1 kB\n");

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &Path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(usable(read), expected);
    }

    #[track_caller]
    fn check_strain(files: &[(&str, &str)], expected: Option<(u64, u64)>) {
        let read = |path: &Path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(strain(read), expected.map(|(limit, used)| Strain { limit, used }));
    }

    #[test]
    fn what_is_left_is_what_the_nearest_limit_leaves() {
        let group = ("/proc/self/cgroup", "0::/a/b\n");
        let max = ("/sys/fs/cgroup/a/b/memory.max", "5000\n");
        let current = ("/sys/fs/cgroup/a/b/memory.current", "4000\n");
        let stat =
            ("/sys/fs/cgroup/a/b/memory.stat", "anon 1\nactive_file 500\ninactive_file 1500\nfile 2000\n");
        check_strain(&[], None);
        check_strain(&[MEMINFO, group], None);
        check_strain(&[MEMINFO, group, max, current], Some((5000, 4000)));
        check_strain(&[MEMINFO, group, max, current, stat], Some((5000, 2000)));
        // No figure of usage, no limit, or one above what there is.
        check_strain(&[MEMINFO, group, max], None);
        check_strain(&[MEMINFO, group, ("/sys/fs/cgroup/a/b/memory.max", "max\n"), current], None);
        check_strain(&[MEMINFO, group, ("/sys/fs/cgroup/a/b/memory.max", "999999999\n"), current], None);
        let high = ("/sys/fs/cgroup/a/b/memory.high", "4500\n");
        check_strain(&[MEMINFO, group, max, high, current], Some((4500, 4000)));
        // An ancestor's, with other processes in it.
        let above =
            [("/sys/fs/cgroup/a/memory.max", "9000\n"), ("/sys/fs/cgroup/a/memory.current", "8500\n")];
        check_strain(&[MEMINFO, group, max, current, above[0], above[1]], Some((9000, 8500)));
        let first = [
            MEMINFO,
            ("/proc/self/cgroup", "5:memory:/docker/1\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n"),
            (
                "/sys/fs/cgroup/memory/memory.stat",
                "active_file 1\ntotal_inactive_file 100\ntotal_active_file 10\n",
            ),
        ];
        check_strain(&first, Some((7000, 5890)));
    }

    #[test]
    fn what_a_process_may_use_is_the_least_of_ram_and_limits() {
        let ram = Some(16384 * 1024);
        check(&[], None);
        check(&[MEMINFO], ram);
        check(&[("/proc/meminfo", "MemTotal: lots\n")], None);
        // Version 2: the group itself, and its ancestors.
        let group = ("/proc/self/cgroup", "0::/a/b\n");
        check(&[MEMINFO, group], ram);
        check(&[MEMINFO, group, ("/sys/fs/cgroup/a/b/memory.max", "max\n")], ram);
        let max = ("/sys/fs/cgroup/a/b/memory.max", "1000000\n");
        check(&[MEMINFO, group, max], Some(1_000_000));
        check(&[MEMINFO, group, max, ("/sys/fs/cgroup/a/b/memory.high", "900000\n")], Some(900_000));
        check(&[MEMINFO, group, max, ("/sys/fs/cgroup/a/b/memory.high", "max\n")], Some(1_000_000));
        check(
            &[
                MEMINFO,
                group,
                ("/sys/fs/cgroup/a/b/memory.max", "2000\n"),
                ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ],
            Some(1000),
        );
        check(&[MEMINFO, group, ("/sys/fs/cgroup/memory.max", "3000\n")], Some(3000));
        check(&[MEMINFO, group, ("/sys/fs/cgroup/memory.max", "99999999999\n")], ram);
        // Version 1, and both at once.
        let groups = ("/proc/self/cgroup", "7:cpu,cpuacct:/x\n5:memory:/docker/1\n0::/\n");
        check(
            &[MEMINFO, groups, ("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "5000\n")],
            Some(5000),
        );
        check(
            &[MEMINFO, groups, ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")],
            ram,
        );
        check(&[group, ("/sys/fs/cgroup/a/b/memory.max", "7000\n")], Some(7000));
    }
}
