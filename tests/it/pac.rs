//! The PAC file and the set-up page as clients get them, and what a browser's engine makes of the former.

use crate::support::proxy::Start;
use crate::support::{Proxy, skip};
use std::process::Command;

/// Asks the proxy itself, as a browser does that is given its address.
#[track_caller]
fn own(proxy: &Proxy, path: &str, host: &str) -> String {
    let answer = proxy.raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n"));
    answer.assert_status(200);
    answer.text()
}

/// What the PAC file says for each URL, by Node's engine.
fn answers(pac: &str, urls: &[&str]) -> Vec<String> {
    let ask = "const [urls] = process.argv.slice(1)
        for (const url of urls.split(' ')) {
            console.log(FindProxyForURL(url, new URL(url).hostname.replace(/^\\[|\\]$/g, '')))
        }";
    let output =
        Command::new("node").args(["-e", &format!("{pac}\n{ask}"), &urls.join(" ")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_pac_file_decides_as_no_proxy_does() {
    let config = "pac.direct = ['intern.example', '.below.example', 'port.example:8080', '198.51.100.0/24', \
        '2001:db8::/33']\n";
    let proxy = Proxy::with(config);
    let pac = own(&proxy, "/proxy.pac", &proxy.address.to_string());
    assert_eq!(own(&proxy, "/wpad.dat", &proxy.address.to_string()), pac);
    if Command::new("node").arg("--version").output().is_err() {
        return skip("the PAC file's answers", "Node is not installed");
    }
    let direct = [
        "http://printer/",
        "http://localhost:8080/",
        "http://a.localhost/",
        "http://nas.local/",
        "http://127.9.9.9/",
        "http://10.1.2.3/",
        "http://172.31.255.255/",
        "http://192.168.0.1/",
        "http://169.254.0.1/",
        "http://100.64.0.1/",
        "http://0.0.0.0:8000/",
        "http://[fec0::1]/",
        "http://[::1]/",
        "http://[fd12::1]/",
        "http://[fe80::1]/",
        "http://intern.example/",
        "https://A.Intern.example/",
        "http://a.below.example/",
        "http://port.example:8080/",
        "ws://a.port.example:8080/x",
        "http://198.51.100.7/",
        "http://[2001:db8:7fff::1]/",
    ];
    let proxied = [
        "http://example.com/",
        "https://example.com/",
        "http://172.32.0.1/",
        "http://172.15.0.1/",
        "http://11.0.0.1/",
        "http://100.128.0.1/",
        "http://xintern.example/",
        "http://below.example/",
        "http://port.example/",
        "https://port.example/",
        "http://198.51.101.7/",
        "http://[2001:db8:8000::1]/",
        "http://[2600::1]:8080/",
        "http://10.example/",
    ];
    for (url, answer) in direct.iter().zip(answers(&pac, &direct)) {
        assert_eq!(answer, "DIRECT", "{url}");
    }
    for (url, answer) in proxied.iter().zip(answers(&pac, &proxied)) {
        assert_eq!(answer, format!("PROXY {}; DIRECT", proxy.address), "{url}");
    }
    proxy.write_config("");
    assert!(proxy.run(&["reload"]).status.success());
    assert!(!own(&proxy, "/proxy.pac", "x").contains("intern.example"), "the running configuration's");
}

#[test]
fn the_address_is_the_one_that_the_client_used_if_it_is_ours() {
    let proxy = Proxy::open();
    let (address, port) = (proxy.address.to_string(), proxy.address.port());
    for (host, told) in [
        (address.clone(), address.clone()),
        (format!("localhost:{port}"), format!("localhost:{port}")),
        (format!("evil.example:{port}"), address.clone()),
        ("127.0.0.1:1".to_owned(), address.clone()),
    ] {
        assert!(own(&proxy, "/proxy.pac", &host).contains(&format!("\"PROXY {told}; DIRECT\"")), "{host}");
        let page = own(&proxy, "/", &host);
        assert!(page.contains(&format!("curl -x http://{told} -i")) && !page.contains("evil"), "{host}");
    }
}

#[test]
fn the_admin_listener_has_the_set_up_page_with_the_proxys_address() {
    let proxy = Start::default().listen(&["127.0.0.2:0", "127.0.0.1:0"]).start();
    let page = proxy.admin("GET", "/setup", &["Accept: text/html"], "");
    page.assert_status(200);
    let near = proxy.listeners.iter().find(|address| address.ip() == proxy.admin.ip()).unwrap();
    assert!(page.text().contains(&format!("http://{near}/proxy.pac")), "{page}");
    assert!(page.field("content-security-policy").unwrap().contains("style-src 'sha256-"), "its own style");
    proxy.admin("POST", "/setup", &[], "").assert_status(405);
}
