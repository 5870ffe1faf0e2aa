//! Who may do what, row by row, with the defaults of the security page.
use super::*;
use crate::field::target;

fn access(options: Options) -> Access {
    Access::new(options, vec!["127.0.0.1:3128".parse().unwrap(), "[::1]:3128".parse().unwrap()])
}

fn host(text: &str) -> Host {
    target::authority(text.as_bytes()).unwrap().0
}

fn rule_of(access: &Access, name: &str, address: &str) -> Option<String> {
    access.destination(&host(name), address.parse().unwrap()).err().map(|denied| denied.rule.to_string())
}

#[track_caller]
fn check(ip: &str, expected: Option<&str>) {
    let ip: IpAddr = ip.parse().unwrap();
    let denied = access(Options::default()).destination(&host("name.example"), SocketAddr::new(ip, 80));
    assert_eq!(denied.err().as_ref().map(|denied| &*denied.rule), expected, "{ip}");
}

#[test]
fn addresses_inside_are_refused_and_no_others() {
    for (ip, expected) in [
        ("127.0.0.1", "destination-loopback"),
        ("127.255.255.254", "destination-loopback"),
        ("::1", "destination-loopback"),
        ("::ffff:127.0.0.1", "destination-loopback"),
        ("::7f00:1", "destination-loopback"),
        ("64:ff9b::127.0.0.1", "destination-loopback"),
        ("64:ff9b:1::127.0.0.1", "destination-loopback"),
        ("::ffff:0:127.0.0.1", "destination-loopback"),
        ("::ffff:0:169.254.169.254", "destination-link-local"),
        ("2002:7f00:1::1", "destination-loopback"),
        // Teredo: the client's address is inverted; the server's is not.
        ("2001:0:c000:201::80ff:fffe", "destination-loopback"),
        ("2001:0:7f00:1::3fff:fdfe", "destination-loopback"),
        ("169.254.169.254", "destination-link-local"),
        ("::ffff:169.254.169.254", "destination-link-local"),
        ("64:ff9b::a9fe:a9fe", "destination-link-local"),
        ("2002:a9fe:a9fe::", "destination-link-local"),
        ("fe80::1", "destination-link-local"),
        ("febf::1", "destination-link-local"),
        ("10.0.0.1", "destination-private"),
        ("10.255.255.255", "destination-private"),
        ("172.16.0.1", "destination-private"),
        ("172.31.255.255", "destination-private"),
        ("192.168.1.1", "destination-private"),
        ("100.64.0.1", "destination-private"),
        ("100.127.255.255", "destination-private"),
        ("2002:c0a8:101::1", "destination-private"),
        ("fc00::1", "destination-private"),
        ("fd12:3456::1", "destination-private"),
        ("fec0::1", "destination-private"),
        ("feff::1", "destination-private"),
        ("fd00:ec2::254", "destination-private"),
        ("0.0.0.0", "destination-reserved"),
        ("0.1.2.3", "destination-reserved"),
        ("::", "destination-reserved"),
        ("::ffff:0.0.0.0", "destination-reserved"),
        ("224.0.0.1", "destination-reserved"),
        ("239.255.255.255", "destination-reserved"),
        ("240.0.0.1", "destination-reserved"),
        ("255.255.255.255", "destination-reserved"),
        ("ff02::1", "destination-reserved"),
        ("ff0e::1", "destination-reserved"),
    ] {
        check(ip, Some(expected));
    }
    for ip in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.2.77",
        "192.167.255.255",
        "198.18.0.1",
        "198.51.100.77",
        "203.0.113.77",
        "223.255.255.255",
        "::ffff:203.0.113.77",
        "2606:4700::1",
        "2001:db8::77",
        "2001:4860::8888",
        "2002:cb00:714d::1",
        "64:ff9b::203.0.113.77",
        "2001:0:c000:201::34ff:8efe",
        "fbff::1",
    ] {
        check(ip, None);
    }
}

#[test]
fn destinations_are_allowed_by_network_host_or_all_at_once() {
    let open = access(Options { allow_private: true, ..Options::default() });
    assert_eq!(rule_of(&open, "10.0.0.1", "10.0.0.1:80"), None);
    assert_eq!(rule_of(&open, "127.0.0.1", "127.0.0.1:80"), None);

    let networks = vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let some = access(Options { allow_destinations: networks, ..Options::default() });
    assert_eq!(rule_of(&some, "a.example", "10.1.2.3:80"), None);
    assert_eq!(rule_of(&some, "a.example", "[::ffff:10.1.2.3]:80"), None);
    assert_eq!(rule_of(&some, "a.example", "[64:ff9b::10.1.2.3]:80"), None);
    assert_eq!(rule_of(&some, "a.example", "[fd00::1]:80"), None);
    assert_eq!(rule_of(&some, "a.example", "10.2.0.1:80").as_deref(), Some("destination-private"));

    let hosts = vec!["printer.example".to_owned(), ".lab.example".to_owned()];
    let named = access(Options { allow_hosts: hosts, ..Options::default() });
    assert_eq!(rule_of(&named, "printer.example", "10.0.0.1:80"), None);
    assert_eq!(rule_of(&named, "Printer.example.", "10.0.0.1:80"), None);
    assert_eq!(rule_of(&named, "a.lab.example", "127.0.0.1:80"), None);
    assert_eq!(rule_of(&named, "other.example", "10.0.0.1:80").as_deref(), Some("destination-private"));
}

#[test]
fn our_own_listeners_are_refused_whatever_is_allowed() {
    let options = Options {
        allow_private: true,
        allow_hosts: vec!["*".to_owned()],
        allow_destinations: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        ..Options::default()
    };
    let loopback = access(options.clone());
    for address in [
        "127.0.0.1:3128",
        "[::1]:3128",
        "[::ffff:127.0.0.1]:3128",
        "0.0.0.0:3128",
        "[::]:3128",
        "[64:ff9b::127.0.0.1]:3128",
        "[2002:7f00:1::]:3128",
    ] {
        assert_eq!(
            rule_of(&loopback, "any.example", address).as_deref(),
            Some("destination-self"),
            "{address}"
        );
    }
    assert_eq!(rule_of(&loopback, "any.example", "127.0.0.1:3129"), None);
    assert_eq!(rule_of(&loopback, "any.example", "127.0.0.2:3128"), None);
    assert_eq!(rule_of(&loopback, "any.example", "203.0.113.77:3128"), None);

    let wildcard = Access::new(options, vec!["0.0.0.0:9128".parse().unwrap()]);
    for address in ["127.0.0.1:9128", "127.1.2.3:9128", "0.0.0.0:9128", "[::1]:9128"] {
        assert_eq!(
            rule_of(&wildcard, "any.example", address).as_deref(),
            Some("destination-self"),
            "{address}"
        );
    }
    assert_eq!(rule_of(&wildcard, "any.example", "203.0.113.77:9128"), None);
}

/// The address of this machine that faces outside, where there is one.
fn outward() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("203.0.113.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn this_machines_own_addresses_lead_inside() {
    let Some(ip) = outward() else { return };
    let guarded = access(Options::default());
    assert!(guarded.destination(&host("me.example"), SocketAddr::new(ip, 80)).is_err());
    let wildcard = Access::new(
        Options { allow_private: true, ..Options::default() },
        vec!["[::]:9128".parse().unwrap()],
    );
    let denied = wildcard.destination(&host("me.example"), SocketAddr::new(ip, 9128)).unwrap_err();
    assert_eq!(&*denied.rule, "destination-self");
    assert!(wildcard.destination(&host("me.example"), SocketAddr::new(ip, 9129)).is_ok());
}

#[track_caller]
fn check_client(options: &Options, peer: &str, beyond: bool, expected: bool) {
    let allowed = access(options.clone()).client(peer.parse().unwrap(), beyond).is_ok();
    assert_eq!(allowed, expected, "{peer}");
}

#[test]
fn clients_are_local_unless_networks_are_named() {
    let default = Options::default();
    for (peer, on_loopback, beyond) in [
        ("127.0.0.1", true, true),
        ("::1", true, true),
        ("::ffff:127.0.0.1", true, true),
        ("10.0.0.1", false, true),
        ("::ffff:192.168.0.1", false, true),
        ("172.17.0.1", false, true),
        ("169.254.0.1", false, true),
        ("fe80::1", false, true),
        ("fd00::1", false, true),
        ("203.0.113.1", false, false),
        ("100.64.0.1", false, false),
        ("2001:db8::1", false, false),
    ] {
        check_client(&default, peer, false, on_loopback);
        check_client(&default, peer, true, beyond);
    }
    let named =
        Options { clients: Allowed::only(vec!["203.0.113.0/24".parse().unwrap()]), ..Options::default() };
    check_client(&named, "203.0.113.7", true, true);
    check_client(&named, "::ffff:203.0.113.7", true, true);
    check_client(&named, "127.0.0.1", true, true);
    check_client(&named, "10.0.0.1", true, false);
}

#[test]
fn ports_are_refused_with_the_line_that_would_allow_them() {
    let default = access(Options::default());
    assert!(default.connect_port(443).is_ok());
    let denied = default.connect_port(8443).unwrap_err();
    assert_eq!(&*denied.rule, "connect-port");
    assert_eq!(denied.allow, "--connect-ports 443,8443, or access.connect_ports = [443, 8443]");
    let any = access(Options { connect_ports: Ports::Any, ..Options::default() });
    assert!(any.connect_port(25).is_ok());

    let denied = default.port(Scheme::Http, 25).unwrap_err();
    assert_eq!((&*denied.rule, denied.allow.as_str()), ("port", "access.ports = [\"auto\", 25]"));
    assert!(default.port(Scheme::Http, 80).is_ok());
    assert!(default.port(Scheme::Http, 443).is_err());
    assert!(default.port(Scheme::Https, 443).is_ok());
    let listed = access(Options {
        ports: Allowed::only(Ports::List(vec![80..=80, 8000..=8999])),
        ..Options::default()
    });
    assert!(listed.port(Scheme::Http, 8080).is_ok());
    let denied = listed.port(Scheme::Http, 3000).unwrap_err();
    assert_eq!(denied.allow, "access.ports = [80, \"8000-8999\", 3000]");
}

#[test]
fn a_refusal_names_host_address_rule_and_remedy() {
    let denied = access(Options::default())
        .destination(&host("intranet.example"), "10.1.2.3:80".parse().unwrap())
        .unwrap_err();
    assert_eq!(
        denied.to_string(),
        "intranet.example (address 10.1.2.3:80) is in a private network (10.1.2.3) (rule destination-private; \
         allowed by: --allow-private, access.allow_destinations = [\"10.1.2.3/32\"], or access.allow_hosts = \
         [\"intranet.example\"])"
    );
    for denied in [
        access(Options::default()).client("203.0.113.1".parse().unwrap(), true).unwrap_err(),
        access(Options::default()).connect_port(1).unwrap_err(),
        access(Options::default()).port(Scheme::Http, 1).unwrap_err(),
        access(Options::default()).destination(&host("[::1]"), "[::1]:3128".parse().unwrap()).unwrap_err(),
        denied,
    ] {
        assert!(RULES.contains(&&*denied.rule), "{denied}");
    }
}
