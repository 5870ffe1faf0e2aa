//! How much memory there is: what defaults that are shares of it are made from.

use std::path::Path;

/// What is assumed where nothing tells: 1 GiB.
const UNKNOWN: u64 = 1 << 30;

/// Bytes that the process may use: the least of the machine's RAM and the limits of its control groups. 1 GiB
/// where nothing tells.
pub fn usable_memory() -> u64 {
    usable(|path| std::fs::read_to_string(path).ok()).unwrap_or(UNKNOWN)
}

/// Bytes that the process may use, as the files of Linux that `read` gives tell. `None` elsewhere.
fn usable(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let ram = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(place).flat_map(|(root, group, file)| {
        // A limit of an ancestor holds too. In a container the group's path may be seen from outside, and
        // its files lie at the root.
        let mut limits = Vec::new();
        for at in Path::new(group).ancestors() {
            let at = at.strip_prefix("/").unwrap_or(at);
            limits.extend(
                read(&Path::new(root).join(at).join(file)).and_then(|text| text.trim().parse::<u64>().ok()),
            );
        }
        limits
    });
    // "max" does not parse. Version 1 writes a number near 2^63 for "no limit": RAM is less.
    ram.into_iter().chain(limits).filter(|limit| *limit > 0).min()
}

/// Where the group of a line of /proc/self/cgroup has its limit: the mount, the path in it, and the file.
fn place(line: &str) -> Option<(&'static str, &str, &'static str)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
    if id == "0" && controllers.is_empty() {
        Some(("/sys/fs/cgroup", group, "memory.max"))
    } else if controllers.split(',').any(|controller| controller == "memory") {
        Some(("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
    } else {
        None
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
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
        check(&[MEMINFO, group, ("/sys/fs/cgroup/a/b/memory.max", "1000000\n")], Some(1_000_000));
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
