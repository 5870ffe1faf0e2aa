//! The file, the flags, the environment: what is read, what is refused, and in which order they count.

use crate::support::proxy::{command, root};
use crate::support::{Origin, Proxy, nobody};
use clap::ValueEnum as _;
use std::io::{BufRead, BufReader};
use std::process::Output;

fn check(toml: &str) -> (Output, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("larder.toml");
    std::fs::write(&file, toml).unwrap();
    let output = command().arg("check").arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, told)
}

#[test]
fn the_files_in_the_tree_are_right() {
    for file in ["config/larder.toml", "config/open.toml", "tests/conformance/larder.toml"] {
        let output = command().arg("check").arg(root().join(file)).output().unwrap();
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_error_is_told_at_once_with_its_place() {
    let (output, told) = check(
        "[cache]\nmemory = 'lots'\nmemroy = '1GiB'\nvariants = -1\n\n[server]\nlisten = 'here'\ndrain = 30\n\n[bogus]\nx = 1\n",
    );
    assert_eq!(output.status.code(), Some(2));
    for (line, key, found) in [
        (2, "cache.memory", "lots"),
        (3, "memroy", ""),
        (4, "cache.variants", "-1"),
        (7, "server.listen", "here"),
        (8, "server.drain", "30"),
        (10, "bogus", ""),
    ] {
        let place = format!("larder.toml:{line}:");
        let fits = |l: &str| l.contains(&place) && l.contains(key) && l.contains(found);
        assert!(told.lines().any(fits), "line {line}, {key}, {found} in:\n{told}");
    }
    assert!(told.lines().filter(|l| l.contains("larder.toml:")).all(|l| l.contains("expected")), "{told}");
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let (output, told) = check("[cache]\nmemory = \n");
    assert!(!output.status.success());
    assert!(told.contains("larder.toml:2:"), "{told}");
}

#[test]
fn contradictions_are_errors() {
    for (toml, word) in [
        ("cache = { memory = '1MiB', max_object = '2MiB' }", "max_object"),
        ("proxy.upgrades = ['h2c']", "h2c"),
        ("proxy.upgrades = ['H2C/1']", "h2c"),
        ("proxy.upgrades = ['foo/']", "foo/1"),
        ("proxy.upgrades = ['foo/1/2']", "foo/1"),
        ("server.listen = ['127.0.0.1:4000']\nadmin.listen = '127.0.0.1:4000'", "admin"),
        ("upstream = { dns_min_ttl = '2h', dns_max_ttl = '1h' }", "dns_min_ttl"),
    ] {
        let (output, told) = check(toml);
        assert!(!output.status.success() && told.contains(word), "{toml}: {told}");
    }
}

#[test]
fn a_file_of_authorities_is_read_before_the_start_and_before_a_reload() {
    let toml = "[upstream]\nca_file = '/dev/null'\n";
    let (output, told) = check(toml);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("larder.toml:2:11: upstream.ca_file: found /dev/null, "), "{told}");
    let proxy = Proxy::open();
    proxy.write_config_raw(toml);
    let reloaded = proxy.run(&["reload"]);
    assert_eq!(reloaded.status.code(), Some(2), "{reloaded:?}");
    let told = String::from_utf8_lossy(&reloaded.stderr).into_owned();
    assert!(told.contains("larder.toml:2:11: upstream.ca_file: found /dev/null, "), "{told}");
}

#[test]
fn what_cannot_be_read_of_no_proxy_is_left_out_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("larder.toml");
    std::fs::write(&file, "upstream.from_environment = true").unwrap();
    let no_proxy = "localhost,169.254/16,192.168.*,.example.com";
    let output = command().arg("check").arg(&file).env("NO_PROXY", no_proxy).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let warnings: Vec<_> = told.lines().filter(|line| line.contains("NO_PROXY: found ")).collect();
    assert!(warnings.len() == 2 && told.contains("169.254/16") && told.contains("192.168.*"), "{told}");
}

#[test]
fn a_broken_configuration_ends_the_start_before_anything_listens() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("larder.toml");
    std::fs::write(&file, "[cache]\nmemroy = '1GiB'\n").unwrap();
    let missing = directory.path().join("missing.toml");
    for file in [&file, &missing] {
        let output = command()
            .arg("--config")
            .arg(file)
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(!told.contains("listening"), "{told}");
        assert!(told.contains(&file.display().to_string()), "{told}");
    }
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let proxy = Proxy::open();
    let output = command()
        .args(["--listen", &proxy.address.to_string(), "--admin-listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&proxy.address.to_string()), "{told}");
}

#[test]
fn a_flag_comes_before_the_environment_that_before_the_file() {
    let capacity = |proxy: Proxy| proxy.metric("larder_store_capacity_bytes", &[]) / f64::from(1 << 20);
    let file = "cache.memory = '16MiB'";
    assert!((capacity(Proxy::with(file)) - 16.0).abs() < 0.1);
    assert!(
        (capacity(Proxy::builder().config(file).environment("LARDER_MEMORY", "32MiB").start()) - 32.0).abs()
            < 0.1
    );
    let all =
        Proxy::builder().config(file).environment("LARDER_MEMORY", "32MiB").arguments(&["--memory", "64MiB"]);
    assert!((capacity(all.start()) - 64.0).abs() < 0.1);
}

/// Starts without the tests' own flags and tells what it says until it listens.
fn start(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut child = command()
        .args(arguments)
        .envs(environment.iter().copied())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while !told.contains(": try") && lines.read_line(&mut told).unwrap() > 0 {}
    child.kill().unwrap();
    child.wait().unwrap();
    told
}

#[test]
fn every_flag_is_also_a_variable() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("larder.toml");
    std::fs::write(&file, "cache.memory = '11MiB'\n").unwrap();
    let file = file.to_str().unwrap();
    let listen = ("LARDER_LISTEN", "127.0.0.1:0,[::1]:0");
    let by_variables = start(
        &[],
        &[listen, ("LARDER_ADMIN_LISTEN", "off"), ("LARDER_CONFIG", file), ("LARDER_ALLOW_PRIVATE", "true")],
    );
    for word in ["on 127.0.0.1:", "on [::1]:", "admin listener off", "11.0 MiB"] {
        assert!(by_variables.contains(word), "{word} is missing:\n{by_variables}");
    }
    assert!(!by_variables.contains("--allow-private"), "{by_variables}");
    let by_flags = start(
        &[
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--memory",
            "12MiB",
            "--allow-private=false",
        ],
        &[
            listen,
            ("LARDER_ADMIN_LISTEN", "off"),
            ("LARDER_MEMORY", "13MiB"),
            ("LARDER_ALLOW_PRIVATE", "true"),
        ],
    );
    for word in ["admin listening on 127.0.0.1:", "12.0 MiB", "--allow-private"] {
        assert!(by_flags.contains(word), "{word} is missing:\n{by_flags}");
    }
    assert!(!by_flags.contains("[::1]"), "a flag replaces the variable's whole list: {by_flags}");

    let port = origin.address.port().to_string();
    let connect = |proxy: &Proxy| {
        let mut client = proxy.client();
        client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address));
        client.any_head().0
    };
    let ports = |value: &str| {
        Proxy::closed().arguments(&["--allow-private"]).environment("LARDER_CONNECT_PORTS", value)
    };
    assert_eq!(connect(&ports(&port).start()), 200);
    assert_eq!(connect(&ports("any").start()), 200);
    assert_eq!(connect(&ports("443").start()), 403);
    assert_eq!(connect(&ports("443").arguments(&["--connect-ports", &port]).start()), 200);
    for (name, value, flag, right) in [
        ("LARDER_MEMORY", "lots", "--memory", "1GiB"),
        ("LARDER_MEMORY", "", "--memory", "1GiB"),
        ("LARDER_LISTEN", "here", "--listen", "127.0.0.1:0"),
        ("LARDER_ADMIN_LISTEN", "here", "--admin-listen", "off"),
        ("LARDER_CONNECT_PORTS", "0", "--connect-ports", "443"),
        ("LARDER_ALLOW_PRIVATE", "perhaps", "--allow-private", "true"),
    ] {
        let told = |arguments: &[String]| {
            let output = command().args(arguments).arg("check").env(name, value).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, variable) = told(&[]);
        assert!(code == Some(2) && variable.contains(&format!("'{name} (for {flag}")), "{variable}");
        let (code, by_flag) = told(&[format!("{flag}=wrong")]);
        assert!(code == Some(2) && by_flag.contains(flag) && !by_flag.contains(name), "{by_flag}");
        let (_, beside) = told(&[format!("{flag}={right}")]);
        assert!(beside.is_empty() || beside.contains(name), "a right flag is not blamed: {beside}");
    }
}

#[test]
fn a_rust_log_that_cannot_be_read_is_told_once_and_ignored() {
    for (value, told) in [("larder=loud", 1), ("warn", 0)] {
        let output = command().arg("check").env("RUST_LOG", value).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.matches("RUST_LOG: found \"larder=loud\", expected").count(), told, "{text}");
    }
}

#[test]
fn diagnostics_go_to_standard_error_as_rust_log_says() {
    let quick = "proxy = { head_timeout = '1ms' }";
    let told = Proxy::builder().config(quick).environment("RUST_LOG", "larder=debug").start();
    let silent = Proxy::with(quick);
    for proxy in [&told, &silent] {
        let mut client = proxy.client();
        client.send("GET");
        assert!(client.wire.ends());
        assert_eq!(proxy.log.all(), Vec::<String>::new());
    }
    told.diagnostics.wait("a diagnostic", |l| l.contains("DEBUG") && l.contains("a client was too slow"));
    assert!(silent.diagnostics.all().iter().all(|l| l.starts_with("larder: ")));
}

#[test]
fn listeners_may_be_several_and_their_free_ports_are_printed() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::builder().listen(&["127.0.0.1:0", "[::1]:0"]).start();
    assert_eq!(proxy.listeners.len(), 2);
    for address in &proxy.listeners {
        assert_ne!(address.port(), 0);
        crate::support::Client::connect(*address).get(&origin.url("/x")).assert_body("x");
    }
    let by_environment = Proxy::builder().listen(&[]).environment("LARDER_LISTEN", "127.0.0.1:0").start();
    by_environment.get(&origin.url("/x")).assert_body("x");
}

#[test]
fn the_banner_says_where_who_how_much_and_how_to_try() {
    let proxy = Proxy::with("cache.memory = '64MiB'");
    let told = crate::support::eventually("the banner", || {
        let told = proxy.diagnostics.all().join("\n");
        told.contains("curl").then_some(told)
    });
    assert!(told.contains(&proxy.address.to_string()), "{told}");
    assert!(told.contains("loopback"), "{told}");
    assert!(told.contains("64"), "{told}");
    assert!(told.contains(&format!("curl -x http://{} -i http://", proxy.address)), "{told}");
    assert!(told.lines().count() <= 8, "{told}");
    assert!(proxy.log.all().is_empty(), "standard output is the access log's");
}

#[test]
fn the_command_line_explains_itself() {
    let version = command().arg("--version").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&version.stdout).trim(),
        format!("larder {}", env!("CARGO_PKG_VERSION"))
    );
    let help = command().arg("--help").output().unwrap();
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in [
        "serve",
        "check",
        "explain",
        "purge",
        "stats",
        "reload",
        "completions",
        "--listen",
        "--admin-listen",
        "--memory",
        "--config",
        "--connect-ports",
        "--allow-private",
        "LARDER_LISTEN",
    ] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let shells: Vec<String> =
        clap_complete::Shell::value_variants().iter().map(ToString::to_string).collect();
    assert!(shells.len() >= 5, "{shells:?}");
    for shell in shells {
        let output = command().args(["completions", &shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        let known = ["explain", "purge", "connect-ports"].iter().all(|word| script.contains(word));
        assert!(output.status.success() && known, "{shell}: {script}");
    }
    for wrong in [&["--bogus"][..], &["bogus"], &["--memory", "lots"], &["--listen", "here"], &["purge"]] {
        let output = command().args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn commands_say_so_when_no_proxy_answers() {
    let held = nobody();
    let nobody = held.to_string();
    for command_line in [&["stats"][..], &["purge", "http://h/"], &["reload"]] {
        let output = command().args(["--admin-listen", &nobody]).args(command_line).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command_line:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&nobody), "{output:?}");
    }
}
