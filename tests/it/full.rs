//! Its output goes to a file, and that can't grow: a full disk, a quota, the largest size that the shell allows. Lines are
//! lost and counted; the service goes on, and so does the log when there is room again.

use crate::support::{Origin, Proxy, eventually, skip};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn start(origin: &Origin, before: &[String]) -> Proxy {
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=600"], b"x");
    before.iter().fold(Proxy::builder(), |start, line| start.after(line.clone())).start()
}

/// Asks until lines were lost.
fn fill(proxy: &mut Proxy, origin: &Origin) {
    let mut client = proxy.client();
    let long = "y".repeat(2000);
    eventually("lost lines", || {
        for _ in 0..50 {
            client.get(&origin.url(&format!("/{long}"))).assert_status(404);
        }
        (proxy.metric("larder_access_log_dropped_lines_total", &[]) > 0.0).then_some(())
    });
    assert!(proxy.running());
    proxy.get(&origin.url("/x")).assert_body("x");
    proxy.get(&origin.url("/x")).assert_hit().assert_body("x");
}

fn ends_whole(file: &Path) -> bool {
    let text = fs::read(file).unwrap();
    text.last() == Some(&b'\n')
}

#[test]
fn a_device_that_is_full_costs_lines_alone() {
    let origin = Origin::start();
    let mut proxy = start(&origin, &["exec >/dev/full".into()]);
    fill(&mut proxy, &origin);
}

#[test]
fn a_file_that_may_grow_no_more_costs_lines_alone() {
    let origin = Origin::start();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("log");
    // Blocks of 512 or 1024 bytes.
    let mut proxy = start(&origin, &[format!("exec >'{}'", file.display()), "ulimit -f 64".into()]);
    fill(&mut proxy, &origin);
    assert!(fs::metadata(&file).unwrap().len() <= 64 << 10);
}

#[test]
fn a_disk_that_has_room_again_gets_whole_lines_again() {
    let directory = TempDir::new().unwrap();
    let disk = directory.path().to_owned();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(&disk)
        .output()
        .is_ok_and(|done| done.status.success());
    if !mounted {
        return skip("a full disk", "nothing can be mounted");
    }
    let unmounted = Unmount(&disk);
    let (file, ballast) = (disk.join("log"), disk.join("ballast"));
    fs::write(&ballast, vec![0; 40 << 10]).unwrap();
    let origin = Origin::start();
    let mut proxy = start(&origin, &[format!("exec >>'{}'", file.display())]);
    fill(&mut proxy, &origin);
    fs::remove_file(&ballast).unwrap();
    eventually("a line in the log", || {
        proxy.get(&origin.url("/x?later")).assert_body("x");
        let text = fs::read_to_string(&file).unwrap();
        text.lines().last().is_some_and(|line| line.contains("/x") && ends_whole(&file)).then_some(())
    });
    // What was cut by the end of the disk is no part of another line.
    let text = fs::read_to_string(&file).unwrap();
    let broken = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err()).count();
    assert!(broken <= 1, "{broken} lines of {}", text.lines().count());
    drop(proxy);
    drop(unmounted);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}
