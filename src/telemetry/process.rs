//! Figures of the process itself, from Linux's /proc; nothing elsewhere.

use std::fs;

/// `USER_HZ`, in which /proc counts time: 100 on every architecture that Rust's standard library runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// What /proc tells; each is `None` where it can't be read.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) start_seconds: Option<f64>,
}

impl Process {
    pub(super) fn read() -> Self {
        if !cfg!(target_os = "linux") {
            return Self::default();
        }
        let stat = read("/proc/self/stat");
        let status = read("/proc/self/status");
        let boot = line_value(&read("/proc/stat"), "btime").and_then(|seconds| seconds.parse::<f64>().ok());
        Self {
            cpu_seconds: stat_field(&stat, 14)
                .zip(stat_field(&stat, 15))
                .map(|(user, system)| (user + system) / TICKS_A_SECOND),
            resident_bytes: kibibytes(&status, "VmRSS:"),
            virtual_bytes: kibibytes(&status, "VmSize:"),
            threads: line_value(&status, "Threads:").and_then(|count| count.parse().ok()),
            // One of them is the directory's own.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: line_value(&read("/proc/self/limits"), "Max open files")
                .and_then(|soft| soft.parse().ok()),
            start_seconds: stat_field(&stat, 22).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS_A_SECOND),
        }
    }
}

/// What can't be read is as good as empty: every figure in it is then missing.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The field of /proc/self/stat with this number in proc(5). The second one, the name, may hold spaces and
/// parentheses: fields are counted from the last `)`.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The first word after `name` on the line that begins with it.
fn line_value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    line_value(status, name)?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_moves_no_field() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 5 0 4200 1 2";
        assert_eq!(stat_field(stat, 14), Some(150.0));
        assert_eq!(stat_field(stat, 22), Some(4200.0));
        assert_eq!(stat_field("", 14), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_every_figure() {
        let process = Process::read();
        assert!(process.cpu_seconds.is_some_and(|seconds| seconds >= 0.0));
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(process.virtual_bytes >= process.resident_bytes);
        assert!(process.threads.is_some_and(|count| count >= 1));
        assert!(process.open_fds.is_some_and(|count| count >= 3));
        assert!(process.start_seconds.is_some_and(|seconds| seconds > 1.7e9));
    }
}
