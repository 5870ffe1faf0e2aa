//! Rules: what the indexes find is what one finds who looks at rule after rule.

use crate::dice::Dice;
use http::{Method, Uri};
use ipnet::IpNet;
use larder::access::hours::Hours;
use larder::access::rules::{Action, Asked, Rule};
use larder::access::{Access, Options, Ports};
use larder::field::target::{Host, Scheme, Target, authority};
use larder::policy::rules::{self, Rules, glob_matches};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const HOSTS: &[&str] = &[
    "a.example",
    "b.a.example",
    ".a.example",
    ".example",
    "example",
    "A.Example",
    "a.example.",
    "1.2.3.4",
    "[2001:db8::1]",
    "2001:db8::1",
    "127.0.0.1",
    "10.0.0.1",
    "xa.example",
    "a",
    "0x7f.1",
    "169.254.169.254",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::a00:1]",
    ".1.2.3.4",
    "1.2.3.4.",
    "[1.2.3.4]",
    "localhost",
];
const NETS: &[&str] = &[
    "10.0.0.0/8",
    "0.0.0.0/0",
    "::/0",
    "1.2.3.4/32",
    "2001:db8::/32",
    "127.0.0.0/8",
    "192.168.0.0/16",
    "64:ff9b::/96",
];
const ADDRESSES: &[&str] = &[
    "127.0.0.1",
    "10.0.0.1",
    "1.2.3.4",
    "2001:db8::1",
    "::1",
    "192.168.3.4",
    "169.254.169.254",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "8.8.8.8",
    "fec0::1",
    "2002:a00:1::",
];
const USERS: &[&str] = &["anna", "*", "otto"];
const METHODS: &[&str] = &["GET", "POST", "CONNECT", "get"];
const HOURS: &[&str] = &["Mon-Fri 08:00-18:00", "00:00-24:00", "Sat 22:00-06:00"];

fn some<T, U>(dice: &mut Dice, from: &[T], read: impl Fn(&T) -> U) -> Vec<U> {
    (0..dice.below(3)).map(|_| read(&from[dice.below(from.len())])).collect()
}

fn nets(dice: &mut Dice) -> Vec<IpNet> {
    some(dice, NETS, |net| net.parse().unwrap_or_default())
}

fn ports(dice: &mut Dice) -> Ports {
    match dice.below(3) {
        0 => Ports::Any,
        1 => Ports::List(vec![80..=80, 8000..=8999]),
        _ => Ports::NONE,
    }
}

fn rule(dice: &mut Dice, index: usize) -> Rule {
    Rule {
        name: format!("rule {index}").into(),
        action: dice.once_in(2).then_some(Action::Allow),
        hosts: some(dice, HOSTS, |host| (*host).to_owned()),
        clients: if dice.once_in(4) { nets(dice) } else { Vec::new() },
        addresses: if dice.once_in(4) { nets(dice) } else { Vec::new() },
        users: if dice.once_in(4) { some(dice, USERS, |user| (*user).to_owned()) } else { Vec::new() },
        methods: if dice.once_in(4) {
            some(dice, METHODS, |method| (*method).to_owned())
        } else {
            Vec::new()
        },
        schemes: if dice.once_in(4) { vec![Scheme::Http] } else { Vec::new() },
        hours: if dice.once_in(4) {
            some(dice, HOURS, |hours| Hours::parse(hours)).into_iter().flatten().collect()
        } else {
            Vec::new()
        },
        ports: if dice.once_in(4) { ports(dice) } else { Ports::Any },
        time_limit: None,
    }
}

fn address(dice: &mut Dice) -> IpAddr {
    dice.pick(ADDRESSES).parse().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

/// Everything but the address, read off the rule's own words.
fn fits(rule: &Rule, asked: &Asked) -> bool {
    let client = asked.client.to_canonical();
    rule.ports.contains(asked.port)
        && (rule.hosts.is_empty() || rule.hosts.iter().any(|host| asked.host.matches(host)))
        && (rule.clients.is_empty() || rule.clients.iter().any(|net| net.contains(&client)))
        && (rule.methods.is_empty() || rule.methods.iter().any(|method| method == asked.method.as_str()))
        && (rule.schemes.is_empty() || rule.schemes.contains(&asked.scheme))
        && (rule.hours.is_empty() || rule.hours.iter().any(|hours| hours.contains(asked.unix)))
        && (rule.users.is_empty()
            || asked.user.is_some_and(|user| rule.users.iter().any(|named| named == "*" || named == user)))
}

pub fn access(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let rules: Vec<Rule> = (0..dice.below(6)).map(|index| rule(&mut dice, index)).collect();
    let options = Options {
        rules: rules.clone(),
        connect_ports: ports(&mut dice),
        allow_private: dice.once_in(4),
        allow_destinations: nets(&mut dice),
        allow_hosts: some(&mut dice, HOSTS, |host| (*host).to_owned()),
        ..Options::default()
    };
    let own = vec![SocketAddr::from(([127, 0, 0, 1], 3128)), SocketAddr::from(([0, 0, 0, 0], 3129))];
    let access = Arc::new(Access::new(options, own));
    let beyond = dice.once_in(2);
    while !dice.is_empty() {
        let Ok((host, _)) = authority(dice.pick(HOSTS).as_bytes()) else { continue };
        let method = Method::from_bytes(dice.pick(METHODS).as_bytes()).unwrap_or_default();
        let asked = Asked {
            client: address(&mut dice),
            user: dice.once_in(2).then_some("anna"),
            method: &method,
            scheme: dice.pick(&[Scheme::Http, Scheme::Https]),
            host: &host,
            port: dice.pick(&[80, 443, 8080, 25, 3128, 3129]),
            unix: i64::from(dice.number() as i32),
        };
        let to = SocketAddr::new(address(&mut dice), asked.port);
        let answer = access.ask(asked, beyond);
        let first = rules.iter().find(|rule| fits(rule, &asked));
        match (first, &answer) {
            // Nothing fits: it is as if there were no rules.
            (None, Ok(grant)) => assert!(grant.by().is_none() && !grant.wants_address()),
            (None, Err(denied)) => assert!(!denied.rule.starts_with("rule ")),
            // The first that fits refuses whatever the address is.
            (Some(rule), answer) if rule.action.is_none() && rule.addresses.is_empty() => {
                assert!(answer.as_ref().is_err_and(|denied| *denied.rule == *rule.name), "{answer:?}");
            }
            (Some(rule), Ok(grant)) if rule.addresses.is_empty() => {
                assert!(grant.by().is_some_and(|by| by.name == rule.name));
            }
            (Some(_), _) => {}
        }
        let Ok(grant) = answer else { continue };
        let dialled = grant.destination(&host, to);
        // Nobody gets to ourselves, whoever allows it.
        let ip = to.ip().to_canonical();
        if (ip == IpAddr::from([127, 0, 0, 1]) && to.port() == 3128)
            || (ip.is_loopback() && to.port() == 3129)
        {
            assert!(dialled.is_err(), "{to}");
        }
        let addressed = rules.iter().filter(|rule| fits(rule, &asked));
        let named =
            |rule: &&Rule| rule.addresses.is_empty() || rule.addresses.iter().any(|net| net.contains(&ip));
        let plain_v4 = ip.is_ipv4();
        if let (Some(rule), true, Host::Name(_)) = (addressed.clone().find(named), plain_v4, &host)
            && rule.action.is_none()
        {
            assert!(dialled.is_err(), "{rule:?} {to}");
        }
        // Private destinations need somebody's word: about the address that is dialled, or the one in it.
        let inner = match ip.to_string().as_str() {
            "64:ff9b::a00:1" | "2002:a00:1::" => Some(IpAddr::from([10, 0, 0, 1])),
            "10.0.0.1" | "127.0.0.1" | "169.254.169.254" | "192.168.3.4" | "::1" | "fec0::1" => Some(ip),
            _ => None,
        };
        let options = access.options();
        let is_in = |net: &IpNet| net.contains(&ip) || inner.is_some_and(|inner| net.contains(&inner));
        let allowed = options.allow_private
            || options.allow_destinations.iter().any(is_in)
            || options.allow_hosts.iter().any(|pattern| host.matches(pattern))
            || rules.iter().any(|rule| {
                rule.action == Some(Action::Allow) && !(rule.addresses.is_empty() && rule.hosts.is_empty())
            });
        assert!(allowed || inner.is_none() || dialled.is_err(), "{host} {to}");
    }
}

const GLOBS: &[&str] = &[
    "*",
    "http://a.example/*",
    "*.png",
    "*/x?",
    "HTTP://A.EXAMPLE/b",
    "http://*.example/**",
    "*a*b*c*",
    "?ttp://*",
    "*example*",
    "abc",
];
const URLS: &[&str] = &[
    "http://a.example/",
    "http://a.example/b",
    "https://b.a.example:8443/x.png?q",
    "http://1.2.3.4/xy",
    "http://[2001:db8::1]/abc",
    "http://a.example./xa",
    "http://example/a/b/c",
];

pub fn rules(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let rules: Vec<rules::Rule> = (0..dice.below(8))
        .map(|index| rules::Rule {
            name: index.to_string(),
            hosts: some(&mut dice, HOSTS, |host| (*host).to_owned()),
            urls: some(&mut dice, GLOBS, |glob| (*glob).to_owned()),
            cache: Some(false),
            ..rules::Rule::default()
        })
        .collect();
    let Ok(found) = Rules::new(rules.clone()) else { return };
    for url in URLS {
        let Some(target) = url.parse::<Uri>().ok().and_then(|uri| Target::absolute(&uri).ok()) else {
            continue;
        };
        let fits = |rule: &&rules::Rule| {
            (rule.hosts.is_empty() || rule.hosts.iter().any(|host| target.host.matches(host)))
                && (rule.urls.is_empty() || rule.urls.iter().any(|glob| glob_matches(glob, &target.url())))
        };
        assert_eq!(found.find(&target), rules.iter().find(fits), "{url}");
    }
    // A glob of any text against any, and against the plainest reading of it.
    let text = String::from_utf8_lossy(dice.rest()).into_owned();
    let (glob, url) = text.split_once('\n').unwrap_or((&text, ""));
    let (glob, url) = (&glob[..glob.floor_char_boundary(24)], &url[..url.floor_char_boundary(24)]);
    if !glob.contains("://") {
        assert_eq!(glob_matches(glob, url), plainly(glob.as_bytes(), url.as_bytes()), "{glob:?} {url:?}");
    }
}

fn plainly(glob: &[u8], text: &[u8]) -> bool {
    // Whether the glob so far matches the first n bytes.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for byte in glob {
        let before = reached.clone();
        for end in 0..=text.len() {
            reached[end] = match byte {
                b'*' => before[..=end].contains(&true),
                byte => end > 0 && before[end - 1] && (*byte == b'?' || text[end - 1] == *byte),
            };
        }
    }
    reached[text.len()]
}
