//! What may happen to the process itself: descriptors that are closed or a terminal, being stopped for a while.

use crate::authentication::{BOB, Users, carol};
use crate::support::proxy::{Lines, Signal, command, command_of, render, root};
use crate::support::{Client, Gate, Origin, Proxy, eventually, nobody, skip};
use std::io::{BufRead, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

/// Ends a process that a test started by itself.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn origin() -> Origin {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    origin
}

/// Asks on new connections, and for what breaks off in the middle.
#[track_caller]
fn assert_serves(proxy: SocketAddr, origin: &Origin) {
    for _ in 0..20 {
        drop(TcpStream::connect(proxy).unwrap());
        Client::connect(proxy).send("GET http://[ HTTP/9.9\r\n\r\n");
        Client::connect(proxy).get(&origin.url("/x")).assert_body("x");
    }
}

/// The default ports, in a network of its own: here they may be taken.
#[test]
fn without_arguments_it_listens_on_loopback_and_says_how_to_use_it() {
    const WHAT: &str = "larder without arguments";
    let works = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    // With a user namespace where that is needed.
    let Some(own) =
        ["-n", "-rn"].into_iter().find(|own| works("unshare", &[own, "ip", "link", "set", "lo", "up"]))
    else {
        return skip(WHAT, "no network namespace can be made, or there is no ip(8)");
    };
    let mut child = command_of("unshare");
    child.args([own, "sh", "-c", "ip link set lo up && exec \"$0\""]).arg(command().get_program());
    let mut child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (told, log) = (Lines::read(child.stderr.take().unwrap()), Lines::read(child.stdout.take().unwrap()));
    let child = Ended(child);
    told.wait("the banner", |line| {
        line == "larder: try twice: curl -x http://127.0.0.1:3128 -i http://example.com/"
    });
    let banner = told.all();
    for line in [
        "proxy listening on 127.0.0.1:3128",
        "admin listening on 127.0.0.1:9128",
        "clients: loopback (not private",
    ] {
        assert!(banner.iter().any(|told| told.contains(line)), "{line} is missing: {banner:#?}");
    }
    assert!(
        banner.iter().any(|told| told.contains("listening on [::1]:3128")),
        "also where there is no IPv6: {banner:#?}"
    );
    assert!(banner.len() <= 8 && log.all().is_empty(), "{banner:#?}");
    // And its own commands find it.
    let pid = child.0.id().to_string();
    let mut inside = command_of("nsenter");
    inside.args(if own == "-n" { &["-n", "-t"][..] } else { &["--preserve-credentials", "-U", "-n", "-t"] });
    let stats = inside.arg(pid).arg(command().get_program()).args(["stats", "--json"]).output().unwrap();
    let stats: serde_json::Value =
        serde_json::from_slice(&stats.stdout).unwrap_or_else(|e| panic!("{e}: {stats:?}"));
    assert_eq!(stats["ready"], true);
}

#[test]
fn it_serves_with_its_standard_descriptors_closed_from_the_start() {
    let origin = origin();
    // Nobody can be told which port it took, so it is given one, of a loopback address that no other test uses.
    let address = SocketAddr::from(([127, 0, 0, 77], nobody().address.port()));
    let binary = command();
    let mut child = Ended(
        Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"])
            .arg(binary.get_program())
            .arg("--config")
            .arg(root().join("config/open.toml"))
            .args(["--listen", &address.to_string(), "--admin-listen", "off"])
            .env("RUST_LOG", "debug")
            .spawn()
            .unwrap(),
    );
    eventually("a listener", || TcpStream::connect(address).ok());
    assert_serves(address, &origin);
    assert!(child.0.try_wait().unwrap().is_none());
}

#[test]
fn it_goes_on_when_the_readers_of_its_output_leave() {
    let origin = origin();
    let mut child = Ended(
        command()
            .arg("--config")
            .arg(root().join("config/open.toml"))
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    drop(child.0.stdout.take());
    let mut told = BufReader::new(child.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut address_of = |what: &str| -> SocketAddr {
        told.find_map(|line| line.strip_prefix(what)?.parse().ok()).unwrap_or_else(|| panic!("no {what}"))
    };
    let proxy = address_of("larder: proxy listening on ");
    let admin = address_of("larder: admin listening on ");
    drop(told);
    assert_serves(proxy, &origin);
    let metrics = || {
        let mut client = Client::connect(admin);
        client.send(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
        client.response("GET").text()
    };
    eventually("lost lines to be counted", || {
        (!metrics().contains("larder_access_log_dropped_lines_total 0\n")).then_some(())
    });
    let panics = metrics().lines().find(|l| l.starts_with("larder_panics_total")).map(str::to_owned);
    assert_eq!(panics.as_deref(), Some("larder_panics_total 0"));
    assert!(child.0.try_wait().unwrap().is_none());
}

/// Neither its log nor what it tells by the way, which is much: both pipes fill up, and stay so to the end.
#[test]
fn it_goes_on_when_nobody_reads_its_output() {
    let origin = origin();
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("larder.toml");
    // Whoever waited to write would be the one that serves.
    std::fs::write(&file, render(true, "server.workers = 1")).unwrap();
    let mut child = Ended(
        command()
            .arg("--config")
            .arg(&file)
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut told = BufReader::new(child.0.stderr.take().unwrap());
    let mut address_of = |what: &str| -> SocketAddr {
        let mut lines = told.by_ref().lines().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix(what)?.parse().ok()).unwrap_or_else(|| panic!("no {what}"))
    };
    let proxy = address_of("larder: proxy listening on ");
    let admin = address_of("larder: admin listening on ");
    eventually("a full pipe", || {
        assert_serves(proxy, &origin);
        (rustix::io::ioctl_fionread(told.get_ref()).unwrap() > 48 << 10).then_some(())
    });
    for _ in 0..3 {
        assert_serves(proxy, &origin);
    }
    let mut client = Client::connect(admin);
    client.send(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
    let metrics = client.response("GET").text();
    assert!(metrics.contains("\nlarder_panics_total 0\n"), "{metrics}");
    let pid = rustix::process::Pid::from_child(&child.0);
    for signal in [Signal::HUP, Signal::TERM] {
        assert_serves(proxy, &origin);
        rustix::process::kill_process(pid, signal).unwrap();
    }
    let end = eventually("the end", || child.0.try_wait().unwrap());
    assert_eq!(end.code(), Some(0));
}

/// A panic as it may happen: where no thread can be had, the library that is to verify a password on one panics.
#[cfg(target_os = "linux")]
#[test]
fn a_panic_in_an_exchange_ends_its_connection_alone_and_is_counted() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let origin = origin();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/held", move |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
        held.pass();
        x.write("dy");
    });
    let users = Users::new();
    // By Digest nothing is verified on another thread, and the one that serves is there.
    let mut proxy = users.start("server.workers = 1");
    let mut kept = proxy.client();
    let challenge = kept.get(&origin.url("/x")).head.all("proxy-authenticate")[1].to_owned();
    let carol = |path: &str, count| carol(&challenge, "GET", &origin.url(path), count);
    kept.get_with(&origin.url("/x"), &[&carol("/x", 1)]).assert_body("x");
    let mut reading = proxy.client();
    reading.begin("GET", &origin.url("/held"), &[&carol("/held", 2)], "");
    let begun = reading.head("GET");
    begun.assert_status(200);

    let pid = Pid::from_raw(proxy.pid().cast_signed());
    let before = getrlimit(Resource::As);
    // Too little for a thread's stack, and enough for all else.
    let little = Some(proxy.memory("VmSize") + (1 << 20));
    prlimit(pid, Resource::As, Rlimit { current: little, ..before }).unwrap();
    // More often than passwords are verified at once.
    for _ in 0..3 {
        let mut struck = proxy.client();
        struck.begin("GET", &origin.url("/x?struck"), &[BOB], "");
        assert!(struck.wire.ends(), "no answer, and the connection ends");
    }
    kept.get_with(&origin.url("/x"), &[&carol("/x", 3)]).assert_hit().assert_body("x");
    proxy.get_with(&origin.url("/x"), &[&carol("/x", 4)]).assert_hit().assert_body("x");
    prlimit(pid, Resource::As, before).unwrap();
    gate.open();
    reading.finish(begun).assert_body("body");
    let line = proxy.log.wait("its record", |l| l.contains("struck") || l.contains("\"complete\":false"));
    assert!(line.contains("\"complete\":false"), "{line}");
    proxy.get_with(&origin.url("/x"), &[BOB]).assert_hit();
    proxy.diagnostics.wait("what happened", |l| l.contains("panicked at"));
    assert!((proxy.metric("larder_panics_total", &[]) - 3.0).abs() < 0.1);
    assert!((proxy.metric("larder_connections", &[]) - 2.0).abs() < 0.1, "kept and reading");
    assert!(proxy.running());
}

/// A reload has nobody to read the files then; it serves on, reloads later, and comes to its end as ever.
#[cfg(target_os = "linux")]
#[test]
fn it_goes_on_when_no_thread_can_be_had_for_a_reload_and_ends_well() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let origin = origin();
    let proxy = Proxy::with("server.workers = 1\nproxy.forwarded_for = 'delete'");
    assert_serves(proxy.address, &origin);
    let pid = Pid::from_raw(proxy.pid().cast_signed());
    let before = getrlimit(Resource::As);
    let little = Some(proxy.memory("VmSize") + (1 << 20));
    prlimit(pid, Resource::As, Rlimit { current: little, ..before }).unwrap();
    proxy.write_config("server.workers = 1\nproxy.forwarded_for = 'add'");
    proxy.signal(Signal::HUP);
    proxy.diagnostics.wait("the failure", |l| l.contains("panicked at"));
    assert_serves(proxy.address, &origin);
    assert!(origin.all().iter().all(|r| r.field("x-forwarded-for").is_none()));
    prlimit(pid, Resource::As, before).unwrap();
    proxy.signal(Signal::HUP);
    // The runtime may do what it could not do before first, and then there is nothing left to be changed.
    proxy.diagnostics.wait("the reload", |l| l.starts_with("larder: reloaded: "));
    proxy.get(&origin.url("/x?after")).assert_body("x");
    assert!(origin.last("/x?after").field("x-forwarded-for").is_some());
    assert!((proxy.metric("larder_panics_total", &[]) - 1.0).abs() < 0.1);
    drop(proxy);

    // Not even a thread that is idle still is there for the end.
    let mut proxy = Proxy::with("server.workers = 1");
    proxy.get(&origin.url("/x")).assert_body("x");
    let pid = Pid::from_raw(proxy.pid().cast_signed());
    let little = Some(proxy.memory("VmSize") + (1 << 20));
    prlimit(pid, Resource::As, Rlimit { current: little, ..before }).unwrap();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().code(), Some(0));
    proxy.log.wait("the last line", |l| l.contains("/x"));
}

#[test]
fn it_goes_on_after_it_was_stopped_for_a_while() {
    let origin = origin();
    let mut proxy = Proxy::open();
    let mut kept = proxy.client();
    kept.get(&origin.url("/x")).assert_body("x");
    proxy.signal(Signal::STOP);
    eventually("the stop", || (proxy.state() == 'T').then_some(()));
    // The kernel takes them; nobody answers yet.
    let mut waiting: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in waiting.iter_mut().chain([&mut kept]) {
        client.begin("GET", &origin.url("/x"), &[], "");
    }
    proxy.signal(Signal::CONT);
    for client in waiting.iter_mut().chain([&mut kept]) {
        client.response("GET").assert_body("x").assert_hit();
    }
    assert!(proxy.running());
}

/// Also one that it can't tell any more: relative paths, a reload, a purge, the end.
#[test]
fn it_goes_on_when_its_working_directory_is_removed() {
    let origin = origin();
    let gone = tempfile::TempDir::new().unwrap();
    let kept = tempfile::TempDir::new().unwrap();
    let file = kept.path().join("larder.toml");
    std::fs::copy(root().join("config/open.toml"), &file).unwrap();
    let mut child = Ended(
        command()
            .current_dir(gone.path())
            .arg("--config")
            .arg(&file)
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let told = Lines::read(child.0.stderr.take().unwrap());
    let address_of = |what: &str| -> SocketAddr {
        told.wait(what, |line| line.starts_with(what))[what.len()..].parse().unwrap()
    };
    let admin = address_of("larder: admin listening on ");
    let proxy = address_of("larder: proxy listening on ");
    gone.close().unwrap();
    let directory = std::fs::read_link(format!("/proc/{}/cwd", child.0.id())).unwrap();
    assert!(directory.to_string_lossy().ends_with("(deleted)"), "{directory:?}");
    assert_serves(proxy, &origin);
    for words in [&["reload"][..], &["purge", "--all"], &["stats"], &["healthcheck"]] {
        let done = command().args(["--admin-listen", &admin.to_string()]).args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
    }
    assert_serves(proxy, &origin);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child.0), Signal::TERM).unwrap();
    let end = eventually("the end", || child.0.try_wait().unwrap());
    assert_eq!(end.code(), Some(0));
}

#[test]
fn nothing_is_sized_by_the_limit_of_open_files() {
    let [few, many] = ["-n 256", "-n $(ulimit -H -n)"].map(|limit| Proxy::builder().ulimit(limit).start());
    for name in ["larder_connections_limit", "larder_store_capacity_bytes", "larder_buffer_capacity_bytes"] {
        assert!((few.metric(name, &[]) - many.metric(name, &[])).abs() < 1.0, "{name}");
    }
    let [few, many] = [few, many].map(|proxy| proxy.metric("process_resident_memory_bytes", &[]));
    assert!(many < few + 4e6, "{few} and {many} bytes of memory");
}

/// A wrong address in a script must not read as a purge that is done.
#[test]
fn no_other_server_is_taken_for_a_proxy() {
    let other = Origin::start();
    for path in
        ["/api/v1/purge", "/api/v1/reload", "/api/v1/stored", "/api/v1/stats", "/api/v1/explain", "/readyz"]
    {
        other.serve(path, "200 OK", &["Content-Type: text/plain"], b"hello");
    }
    let proxy = Proxy::open();
    for address in [other.address, proxy.address].map(|address| address.to_string()) {
        for command_line in
            ["purge --all", "reload", "ls", "stats", "top --count 1", "explain http://h/", "healthcheck"]
        {
            let asked =
                command().args(["--admin-listen", &address]).args(command_line.split(' ')).output().unwrap();
            let told = String::from_utf8_lossy(&asked.stderr);
            assert_eq!(asked.status.code(), Some(1), "{command_line}: {asked:?}");
            let says = format!("what answers at {address} is no admin listener of larder");
            assert!(told.contains(&says) && asked.stdout.is_empty(), "{command_line}: {asked:?}");
        }
    }
}

/// Runs a health check; its exit code and all that it printed.
fn healthcheck(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let check =
        command().args(arguments).arg("healthcheck").envs(environment.iter().copied()).output().unwrap();
    let told = [check.stdout, check.stderr].concat();
    (check.status.code(), String::from_utf8(told).unwrap())
}

#[test]
fn a_health_check_says_in_a_line_whether_the_proxy_takes_requests() {
    let proxy = Proxy::open();
    let admin = proxy.admin.to_string();
    let well = (Some(0), "ready\n".to_owned());
    assert_eq!(healthcheck(&["--admin-listen", &admin], &[]), well);
    assert_eq!(healthcheck(&[], &[("LARDER_ADMIN_LISTEN", &admin)]), well);
    // Where the listener's address is known, a file that became wrong since the start does not matter.
    proxy.write_config_raw("[admin");
    let file = proxy.config_file();
    let file = file.to_str().unwrap();
    assert_eq!(healthcheck(&["--config", file, "--admin-listen", &admin], &[]), well);
    let (code, told) = healthcheck(&["--config", file], &[]);
    assert_eq!((code, told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("the configuration is refused: "), "{told}");
    // And where the file has the address, it is read there.
    proxy.write_config_raw(&format!("[admin]\nlisten = \"{admin}\"\n"));
    assert_eq!(healthcheck(&["--config", file], &[]), well);
}

#[test]
fn a_health_check_fails_where_nobody_listens_and_where_nobody_answers() {
    let nobody = nobody();
    let (code, told) = healthcheck(&["--admin-listen", &nobody.address.to_string()], &[]);
    assert_eq!((code, told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.starts_with("larder: not ready: no proxy's admin listener at 127.0.0.1:"), "{told}");

    let (code, told) = healthcheck(&["--admin-listen", "off"], &[]);
    assert_eq!((code, told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("the admin listener is off"), "{told}");

    // The kernel takes the connection; nobody reads it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, told) = healthcheck(&["--admin-listen", &silent.local_addr().unwrap().to_string()], &[]);
    assert_eq!((code, told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.starts_with("larder: not ready: no answer from 127.0.0.1:"), "{told}");
}

/// Larder as `script` runs it on a terminal of its own; ended by its id, since the terminal's end only reloads it.
struct OnTerminal {
    script: Child,
    larder: i32,
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if let Some(larder) = rustix::process::Pid::from_raw(self.larder) {
            rustix::process::kill_process(larder, Signal::TERM).ok();
        }
        self.script.wait().ok();
    }
}

#[test]
fn the_access_log_is_text_on_a_terminal_and_json_in_a_pipe() {
    let origin = origin();
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    let line = proxy.log.wait("the log", |l| l.contains("/x"));
    serde_json::from_str::<serde_json::Value>(&line).unwrap();

    if Command::new("script").arg("--version").output().is_err() {
        return skip("the access log on a terminal", "no script(1)");
    }
    let line = format!(
        "echo pid $$; exec '{}' --config '{}' --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0",
        command().get_program().display(),
        root().join("config/open.toml").display()
    );
    let mut script = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = Lines::read(script.stdout.take().unwrap());
    let pid = told.wait("its id", |l| l.starts_with("pid "));
    let _running = OnTerminal { script, larder: pid[4..].trim().parse().unwrap() };
    let listening = "larder: proxy listening on ";
    let address = told.wait("the listener", |l| l.starts_with(listening));
    let address: SocketAddr = address[listening.len()..].trim().parse().unwrap();
    Client::connect(address).get(&origin.url("/x")).assert_body("x");
    let line = told.wait("the log", |l| l.contains(&origin.url("/x")));
    assert!(!line.starts_with('{') && line.contains(" GET ") && line.contains(" 200 "), "{line}");
}
