//! The threads that serve: connections go to all of them, wherever they were accepted.

use crate::support::proxy::Proxy;
use crate::support::{Client, Origin};
use std::collections::HashMap;
use std::net::SocketAddr;

/// How often each thread of a process had the processor, by its name.
fn turns(pid: u32) -> HashMap<String, u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let turns = threads.map(|thread| {
        let thread = thread.unwrap().path();
        let read = |name| std::fs::read_to_string(thread.join(name)).unwrap();
        let turns = read("schedstat").split(' ').nth(2).unwrap().trim().parse().unwrap();
        (read("comm").trim().to_owned(), turns)
    });
    turns.collect()
}

/// Each of so many clients asks and is answered while all are connected; then every worker has done something.
pub(crate) fn assert_all_serve(pid: u32, address: SocketAddr, [workers, clients]: [usize; 2], url: &str) {
    let before = turns(pid);
    let mut clients: Vec<_> = (0..clients).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.begin("GET", url, &[], "");
    }
    for client in &mut clients {
        client.response("GET").assert_body("x");
    }
    let after = turns(pid);
    let names = (1..workers).map(|at| format!("larder-{at}")).chain(["larder".to_owned()]);
    for name in names {
        assert!(after[&name] > before[&name], "{name} has served nobody: {before:?}, {after:?}");
    }
}

#[test]
fn all_workers_serve() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    for workers in [1, 4] {
        let proxy = Proxy::with(&format!("server.workers = {workers}"));
        // So many that the kernel leaves no socket out.
        assert_all_serve(proxy.pid(), proxy.address, [workers, 50], &origin.url("/x"));
    }
}
