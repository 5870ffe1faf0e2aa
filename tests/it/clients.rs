//! Real clients, each as its users run it. What is not installed is skipped, and told: `tests/run` installs all.

use crate::sources::tell;
use crate::support::authority::Authority;
use crate::support::proxy::root;
use crate::support::{Origin, Proxy, skip};
use std::path::PathBuf;
use std::process::Command;

/// Whether the program runs at all.
pub(crate) fn installed(program: impl AsRef<std::ffi::OsStr>) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// What `tests/run` made ready for the clients.
pub(crate) fn prepared(path: &str) -> PathBuf {
    root().join("target/clients").join(path)
}

/// A command without the machine's own proxy settings.
pub(crate) fn plain(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ] {
        command.env_remove(name);
    }
    command
}

/// Asks twice for a cacheable resource: head and body come out, and the second time from the store.
#[track_caller]
fn check(name: &str, ask: impl Fn(&str, &str) -> Command) {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60", "Content-Type: text/plain"], b"the body");
    let proxy = Proxy::open();
    let ask = || {
        let output = ask(&format!("http://{}", proxy.address), &origin.url("/x")).output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        // wget tells the head on standard error.
        String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).replace('\r', "").to_lowercase()
    };
    let (miss, hit) = (ask(), ask());
    assert!(miss.contains("cache-status: larder; fwd=uri-miss"), "{name}: {miss}");
    assert!(
        hit.contains("cache-status: larder; hit; ttl=") && hit.contains("\nage: ") | hit.contains("  age: "),
        "{name}: {hit}"
    );
    for answer in [&miss, &hit] {
        assert!(answer.contains(" 200") && answer.ends_with("the body"), "{name}: {answer}");
    }
    assert_eq!(origin.hits("/x"), 1, "{name}");
    tell(name, "a local source", &[("hit".to_owned(), 1)].into());
}

#[test]
fn curl_gets_a_hit() {
    if !installed("curl") {
        return skip("curl", "not installed");
    }
    check("curl", |proxy, url| {
        let mut curl = plain("curl");
        curl.args(["-sS", "-i", "-x", proxy, url]);
        curl
    });
}

#[test]
fn curl_tunnels_https() {
    if !installed("curl") {
        return skip("curl over https", "not installed");
    }
    let authority = Authority::new();
    let origin = authority.origin(&["localhost"]);
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"secure");
    let proxy = Proxy::open();
    let output = plain("curl")
        .args(["-sS", "-x", &format!("http://{}", proxy.address), "--cacert"])
        .arg(authority.file.path())
        .arg(origin.url_at("localhost", "/x"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "secure", "{output:?}");
    let line = proxy.log.wait("the log", |l| l.contains("CONNECT"));
    assert!(line.contains("\"tunnel\""), "{line}");
    assert_eq!(origin.last("/x").field("via"), None, "the proxy saw only bytes");
}

#[test]
fn curl_uploads_with_expect_and_downloads_ranges() {
    if !installed("curl") {
        return skip("curl uploads", "not installed");
    }
    let origin = Origin::start();
    origin.on("/x", |x| {
        if x.request.field("expect").is_some() {
            x.write("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let length = x.body().len();
        x.reply("200 OK", &["Cache-Control: max-age=60"], format!("{length:010}"));
    });
    let proxy = Proxy::open();
    let address = format!("http://{}", proxy.address);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("upload");
    std::fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    let upload = plain("curl")
        .args(["-sS", "-x", &address, "-H", "Expect: 100-continue", "-T"])
        .arg(&file)
        .arg(origin.url("/x"))
        .output()
        .unwrap();
    assert_eq!(upload.stdout, b"0003000000", "{upload:?}");
    let get = |range: &[&str]| {
        plain("curl").args(["-sS", "-x", &address]).args(range).arg(origin.url("/x")).output().unwrap()
    };
    assert_eq!(get(&[]).stdout, b"0000000000");
    assert_eq!(get(&["-r", "0-3"]).stdout, b"0000");
}

#[test]
fn wget_gets_a_hit() {
    if !installed("wget") {
        return skip("wget", "not installed");
    }
    check("wget", |proxy, url| {
        let mut wget = plain("wget");
        wget.args(["-q", "-S", "-O", "-", "-e", "use_proxy=on", "-e", &format!("http_proxy={proxy}"), url]);
        wget
    });
}

#[test]
fn httpx_gets_a_hit() {
    let python = prepared("venv/bin/python");
    if !installed(&python) {
        return skip("Python httpx", "no environment in target/clients/venv");
    }
    check("httpx", |proxy, url| {
        let mut command = plain(&python);
        command.arg(root().join("tests/clients/get.py")).args([proxy, url]);
        command
    });
}

#[test]
fn node_fetch_gets_a_hit() {
    if !installed("node") || !root().join("tests/clients/node_modules/undici").exists() {
        return skip("Node's fetch", "Node or tests/clients/node_modules is missing");
    }
    check("node", |proxy, url| {
        let mut command = plain("node");
        command.arg(root().join("tests/clients/get.mjs")).args([proxy, url]);
        command
    });
}

#[test]
fn go_gets_a_hit() {
    let program = prepared("get");
    if !program.exists() {
        return skip("Go", "target/clients/get was not built");
    }
    check("go", |proxy, url| {
        let mut command = plain(&program);
        command.args([proxy, url]);
        command
    });
}
