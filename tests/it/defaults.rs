//! What the built-in defaults refuse, and how a refusal says what would allow it.

use crate::support::dns::{Answer, NameServer};
use crate::support::proxy::{Lines, Running, command, command_of};
use crate::support::{Origin, Proxy, skip};
use std::process::{Command, Stdio};

#[test]
fn destinations_on_this_machine_and_its_networks_are_refused_by_any_spelling() {
    let origin = Origin::start();
    let port = origin.address.port();
    let proxy = Proxy::closed().start();
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
        "240.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "[ff02::1]",
        "[2002:7f00:1::]",
        "[fec0::1]",
    ] {
        let response = proxy.get(&format!("http://{host}:{port}/x"));
        assert_eq!(response.status, 403, "{host}: {response}");
        let text = response.text();
        assert!(text.contains("--allow-private"), "{host}: {text}");
        assert!(text.contains("destination-"), "{host} names its rule: {text}");
        assert!(response.proxy_status().contains("destination_ip_prohibited"), "{host}");
    }
    // What resolvers of old took for an address is a name, and is nowhere, or refused.
    for host in ["127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1"] {
        let response = proxy.get(&format!("http://{host}:{port}/x"));
        assert!(matches!(response.status, 400 | 403 | 502 | 504), "{host}: {response}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn names_are_judged_by_the_addresses_that_they_resolve_to() {
    let origin = Origin::start();
    let names = NameServer::start();
    names.address_of("inside.test", [127, 0, 0, 1]);
    names.set("mixed.test", Answer::Addresses(vec![[127, 0, 0, 1].into(), [10, 0, 0, 1].into()], 0));
    let proxy = Proxy::closed().config(&names.config()).start();
    for name in ["inside.test", "mixed.test"] {
        let response = proxy.get(&origin.url_at(name, "/x"));
        response.assert_error(403, "destination_ip_prohibited");
    }
    let mut client = proxy.client();
    client.send("CONNECT inside.test:443 HTTP/1.1\r\nHost: inside.test:443\r\n\r\n");
    client.response("GET").assert_error(403, "destination_ip_prohibited");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn networks_hosts_and_the_flag_allow_what_they_name() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    for start in [
        Proxy::closed().arguments(&["--allow-private"]),
        Proxy::closed().environment("LARDER_ALLOW_PRIVATE", "true"),
        Proxy::closed().config("access.allow_private = true"),
        Proxy::closed().config("access.allow_destinations = ['127.0.0.0/8']"),
        Proxy::closed().config("access.allow_hosts = ['127.0.0.1']"),
    ] {
        start.start().get(&origin.url("/x")).assert_body("x");
    }
    let narrow = Proxy::closed().config("access.allow_destinations = ['127.0.0.2/32']").start();
    narrow.get(&origin.url("/x")).assert_status(403);
}

#[test]
fn ports_that_browsers_refuse_are_refused() {
    let proxy = Proxy::closed().arguments(&["--allow-private"]).start();
    for port in [22, 25, 110, 143, 6000, 6667] {
        let response = proxy.get(&format!("http://127.0.0.1:{port}/"));
        response.assert_error(403, "http_request_denied");
        assert!(response.text().contains("access.ports"), "{port}: {response}");
    }
}

#[test]
fn the_proxy_leads_to_none_of_its_own_listeners() {
    let proxy = Proxy::open();
    for target in [proxy.address, proxy.admin] {
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.0.0.2"] {
            let response = proxy.get(&format!("http://{host}:{}/metrics", target.port()));
            // On this one nobody listens.
            let expected = if host == "127.0.0.2" { 502 } else { 403 };
            assert_eq!(response.status, expected, "{host}:{} {response}", target.port());
            assert!(!response.text().contains("larder_build_info"), "{host}");
        }
    }
    let mut client = proxy.client();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", proxy.admin));
    client.response("GET").assert_status(403);
}

#[test]
fn a_refusal_is_logged_with_its_rule_and_counted_as_denied() {
    let proxy = Proxy::closed().start();
    proxy.get("http://127.0.0.1:8080/x");
    let line = proxy.log.wait("the log", |l| l.contains("/x"));
    let log: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&log["result"], &log["rule"]), (&"denied".into(), &"destination-loopback".into()), "{line}");
    assert!((proxy.metric("larder_requests_total", &["denied"]) - 1.0).abs() < 0.1);
}

/// A network of its own with addresses of all kinds, in which larder listens on all of them: whoever connects to one
/// has it as its own, too. Ended when dropped.
struct Network {
    larder: Running,
    enter: Vec<String>,
    told: Lines,
    log: Lines,
}

impl Network {
    /// `None` where there can't be one, or no curl in it.
    fn new(addresses: &[&str]) -> Option<Self> {
        let works = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        // With a user namespace where that is needed.
        let own = ["-n", "-rn"]
            .into_iter()
            .find(|own| works("unshare", &[own, "ip", "link", "set", "lo", "up"]))?;
        if !works("curl", &["--version"]) {
            return None;
        }
        // What needs IPv6 may fail: then nobody asks from there.
        let add: String =
            addresses.iter().map(|ip| format!("ip addr add {ip} dev lo nodad 2>/dev/null; ")).collect();
        let add = add.replace(".7/32 dev lo nodad", ".7/32 dev lo");
        let line = format!("ip link set lo up; {add} exec \"$0\" \"$@\"");
        let mut start = command_of("unshare");
        start.args([own, "sh", "-c", &line]).arg(command().get_program());
        start.args(["--listen", "0.0.0.0:3128", "--admin-listen", "off"]);
        let listens6 =
            works("unshare", &[own, "sh", "-c", "ip link set lo up; ip addr show lo | grep -q inet6"]);
        if listens6 {
            start.args(["--listen", "[::]:3129"]);
        }
        start.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut larder = Running::start(&mut start);
        let told = Lines::read(larder.0.stderr.take().unwrap());
        let log = Lines::read(larder.0.stdout.take().unwrap());
        told.wait("the start", |line| line.starts_with("larder: try twice"));
        let namespaces =
            if own == "-n" { &["-n", "-t"][..] } else { &["--preserve-credentials", "-U", "-n", "-t"] };
        let pid = larder.0.id().to_string();
        let enter = namespaces.iter().copied().chain([pid.as_str()]).map(str::to_owned).collect();
        Some(Self { larder, enter, told, log })
    }

    /// Asks from an address; `None` where the network has none of its kind.
    fn ask(&self, ip: &str, arguments: &[&str]) -> Option<String> {
        let proxy =
            if ip.contains(':') { format!("http://[{ip}]:3129") } else { format!("http://{ip}:3128") };
        let mut curl = command_of("nsenter");
        curl.args(&self.enter).args(["curl", "-sS", "-i", "--max-time", "50", "-x", &proxy]).args(arguments);
        let output = curl.output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        // curl's code for a connection that can't be made.
        (output.status.code() != Some(7)).then_some(found)
    }
}

#[test]
fn clients_from_public_addresses_are_refused_and_those_of_local_networks_served() {
    const SERVED: [&str; 7] = [
        "127.0.0.7/32",
        "10.1.2.7/32",
        "172.31.0.7/32",
        "192.168.9.7/32",
        "169.254.3.7/32",
        "fd00:1::7/128",
        "::1/128",
    ];
    const REFUSED: [&str; 6] = [
        "203.0.113.7/32",
        "198.51.100.7/32",
        "100.64.0.7/32",
        "172.32.0.7/32",
        "2001:db8::7/128",
        "64:ff9b::a01:207/128",
    ];
    let Some(mut network) = Network::new(&[&SERVED[..], &REFUSED].concat()) else {
        return skip(
            "clients from public addresses",
            "no network of its own can be made, or there is no curl",
        );
    };
    let here = |address: &str| address.split('/').next().unwrap().to_owned();
    let own = ["-X", "OPTIONS", "-H", "Max-Forwards: 0", "http://192.0.2.9/"];
    for ip in SERVED.map(here) {
        let Some(told) = network.ask(&ip, &own) else { continue };
        assert!(told.starts_with("HTTP/1.1 200 "), "{ip}: {told}");
    }
    let mut asked = 0;
    for ip in REFUSED.map(here) {
        for (what, arguments) in [
            ("a request", &["http://192.0.2.9/"][..]),
            ("one for this proxy", &own),
            ("an upload", &["-d", "content", "http://192.0.2.9/"]),
            ("a tunnel", &["https://192.0.2.9/"]),
            ("a page of its own", &["--noproxy", "*"]),
        ] {
            let page =
                if ip.contains(':') { format!("http://[{ip}]:3129/") } else { format!("http://{ip}:3128/") };
            let mut arguments = arguments.to_vec();
            if what.starts_with("a page") {
                arguments.push(&page);
            }
            let Some(told) = network.ask(&ip, &arguments) else { continue };
            asked += 1;
            assert!(told.starts_with("HTTP/1.1 403 "), "{ip}, {what}: {told}");
            assert!(what == "a tunnel" || told.contains("access.clients"), "{ip}, {what}: {told}");
            assert!(told.contains("http_request_denied"), "{ip}, {what}: {told}");
        }
    }
    assert!(asked >= 4 * 5, "{asked} were answered");
    let lines = network.log.wait_count("the refusals", asked, |line| line.contains("\"denied\""));
    assert!(lines.iter().all(|line| line.contains("\"rule\":\"client\"")), "{lines:#?}");
    assert!(network.larder.0.try_wait().unwrap().is_none(), "{:?}", network.told.all());
}

/// What the README and the sample file promise, as the process that runs has it.
#[test]
fn the_limits_are_those_that_are_promised() {
    let proxy = Proxy::closed().start();
    let told = proxy.admin_json("GET", "/api/v1/config");
    let settings = told["settings"].as_array().unwrap();
    for (key, value) in [
        ("access.connect_ports", "[443]"),
        ("access.ports", "\"auto\""),
        ("access.clients", "\"auto\""),
        ("access.allow_private", "false"),
        ("access.allow_destinations", "[]"),
        ("access.allow_hosts", "[]"),
        ("access.trace", "false"),
        ("proxy.forwarded_for", "\"delete\""),
        ("proxy.upgrades", "[\"websocket\"]"),
        ("proxy.via", "\"auto\""),
        ("proxy.head_timeout", "\"10s\""),
        ("proxy.idle_timeout", "\"1m\""),
        ("proxy.between_bytes_timeout", "\"1m\""),
        ("proxy.tunnel_idle", "\"15m\""),
        ("upstream.connect_timeout", "\"10s\""),
        ("upstream.first_byte_timeout", "\"1m\""),
        ("upstream.between_bytes_timeout", "\"1m\""),
        ("upstream.dns_timeout", "\"5s\""),
        ("server.drain", "\"30s\""),
        ("cache.collapse_wait", "\"5s\""),
        ("cache.set_cookie", "\"strict\""),
        ("cache.variants", "64"),
        ("cache.max_ranges", "32"),
        ("limits.connections", "10000"),
        ("limits.connections_per_client", "256"),
        ("limits.buffer", "\"64.0 KiB\""),
        ("limits.request_line", "\"8.0 KiB\""),
        ("limits.request_head", "\"64.0 KiB\""),
        ("limits.request_fields", "100"),
        ("limits.response_head", "\"64.0 KiB\""),
        ("limits.response_fields", "200"),
        ("limits.response_trailers", "\"16.0 KiB\""),
        ("limits.interim", "10"),
        ("log.query", "false"),
        ("admin.hosts", "[]"),
        ("admin.token", "null"),
    ] {
        let found = settings.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("no {key}"));
        assert_eq!(
            (found["value"].to_string().as_str(), &found["is_default"]),
            (value, &true.into()),
            "{key}"
        );
    }
}

/// With what is shipped, but that an origin on this machine may be reached: just within, and just beyond.
#[test]
fn what_an_origin_may_answer_is_bounded_by_default() {
    let origin = Origin::start();
    let proxy = Proxy::closed().arguments(&["--allow-private"]).start();
    let fields = |count: usize| (0..count).map(|at| format!("X-{at}: 1\r\n")).collect::<String>();
    let field = |size: usize| format!("X: {}\r\n", "v".repeat(size));
    let interim = |count: usize| "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
    for (what, bytes, status) in [
        ("200 fields", format!("HTTP/1.1 200 OK\r\n{}Content-Length: 1\r\n\r\nx", fields(199)), 200),
        ("201 fields", format!("HTTP/1.1 200 OK\r\n{}Content-Length: 1\r\n\r\nx", fields(200)), 502),
        (
            "a head of 60 KiB",
            format!("HTTP/1.1 200 OK\r\n{}Content-Length: 1\r\n\r\nx", field(60 << 10)),
            200,
        ),
        (
            "a head of 80 KiB",
            format!("HTTP/1.1 200 OK\r\n{}Content-Length: 1\r\n\r\nx", field(80 << 10)),
            502,
        ),
        ("ten hints", format!("{}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", interim(10)), 200),
        ("eleven hints", format!("{}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", interim(11)), 502),
    ] {
        let path = format!("/{}", what.replace(' ', "-"));
        origin.on(&path, move |x| x.write(&bytes));
        let response = proxy.get(&origin.url(&path));
        assert_eq!(response.status, status, "{what}: {}", response.head.line);
        assert!(status == 200 || !response.text().contains("vvvv"), "{what}");
    }
}

/// Nothing that anybody but the operator sees tells which version this is.
#[test]
fn no_answer_tells_the_version() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let fields = x.request.head.bytes.clone();
        x.reply("200 OK", &["Cache-Control: max-age=60"], fields);
    });
    let proxy = Proxy::open();
    let version = env!("CARGO_PKG_VERSION");
    let url = origin.url("/x");
    let own = proxy.address;
    let mut answers = vec![proxy.get(&url), proxy.get(&url)];
    for accept in ["text/plain", "text/html", "application/json"] {
        for request in [
            "GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: h\r\n".to_owned(),
            "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n".to_owned(),
            "GET http://h:99999/ HTTP/1.1\r\nHost: h\r\n".to_owned(),
            "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: h\r\n".to_owned(),
            format!("TRACE {url} HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n"),
            format!("OPTIONS {url} HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n"),
            format!("GET / HTTP/1.1\r\nHost: {own}\r\n"),
            format!("GET /proxy.pac HTTP/1.1\r\nHost: {own}\r\n"),
            format!("GET /nothing HTTP/1.1\r\nHost: {own}\r\n"),
        ] {
            answers.push(proxy.raw(format!("{request}Accept: {accept}\r\n\r\n")));
        }
    }
    for answer in answers {
        let shown =
            String::from_utf8_lossy(&answer.head.bytes).to_lowercase() + &answer.text().to_lowercase();
        for word in
            [&format!("larder/{version}"), &format!("larder {version}"), &format!("v{version}"), "server:"]
        {
            assert!(!shown.contains(word), "{word}: {answer}");
        }
    }
}
