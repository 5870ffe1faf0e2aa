//! What a service manager does: hand over sockets, be told of readiness and of the drain, read the units.

use crate::support::proxy::{Lines, Signal, command, command_of, root};
use crate::support::{Client, Origin, skip};
use crate::workers::assert_all_serve;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Larder with a socket that was handed over, as its third descriptor. Ended when dropped.
struct Handed {
    child: Child,
    address: SocketAddr,
    told: Lines,
}

impl Handed {
    fn start(manager: &Path, config: &Path) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut child = command_of("sh")
            .args(["-c", "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 0</dev/null"])
            .arg(command().get_program())
            .arg("--config")
            .arg(config)
            .args(["--listen", "192.0.2.1:1", "--admin-listen", "127.0.0.1:0"])
            .env("NOTIFY_SOCKET", manager)
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = Lines::read(child.stderr.take().unwrap());
        Self { child, address, told }
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn it_serves_on_a_socket_that_was_handed_over_and_tells_its_state() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let next = || {
        let mut state = [0; 64];
        let length = manager.recv(&mut state).unwrap();
        String::from_utf8_lossy(&state[..length]).trim().to_owned()
    };
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let config = directory.path().join("larder.toml");
    let open = std::fs::read_to_string(root().join("config/open.toml")).unwrap();
    std::fs::write(&config, format!("{open}\n[server]\nworkers = 4\n")).unwrap();
    let mut larder = Handed::start(&path, &config);
    assert_eq!(next(), "READY=1");
    let line = format!("larder: proxy listening on {}", larder.address);
    larder.told.wait("the listener", |told| told == line);
    Client::connect(larder.address).get(&origin.url("/x")).assert_body("x");
    // One worker accepts on it, and all serve.
    assert_all_serve(larder.child.id(), larder.address, [4, 8], &origin.url("/x"));
    // The sockets stay what they are: no reload finds a change in them.
    larder.signal(Signal::HUP);
    larder.told.wait("the reload", |line| line == "larder: reloaded: nothing changed");
    larder.signal(Signal::TERM);
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(larder.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_socket_of_another_kind_is_refused_at_the_start() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut child = command_of("sh")
        .args(["-c", "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" 3<&0"])
        .arg(command().get_program())
        .stdin(Stdio::from(file))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{told}");
    assert!(told.starts_with("larder: socket 0 that was handed over (LISTEN_FDS): "), "{told}");
}

#[test]
fn the_units_are_understood_by_systemd() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip("the units of systemd", "no systemd-analyze");
    }
    let directory = tempfile::tempdir().unwrap();
    for unit in ["larder.service", "larder.socket"] {
        let text = std::fs::read_to_string(root().join("config").join(unit)).unwrap();
        // The program must exist.
        let text = text.replace("/usr/local/bin/larder", command().get_program().to_str().unwrap());
        std::fs::write(directory.path().join(unit), text).unwrap();
    }
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(["larder.service", "larder.socket"].map(|unit| directory.path().join(unit)))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !told.contains("larder."), "{told}");
}
