//! First match, row by row.
use super::super::Options;
use super::*;
use crate::field::target;

/// A rule by its condition: `name action key=value...`, values of a list with `,` between them.
fn rule(text: &str) -> Rule {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default();
    let action = if words.next() == Some("allow") { Action::Allow } else { Action::Deny };
    let mut rule = Rule { name: name.into(), action: Some(action), ..Rule::default() };
    for word in words {
        let (key, values) = word.split_once('=').unwrap();
        let values = || values.split(',').map(str::to_owned);
        let networks = || values().map(|value| value.parse().unwrap()).collect();
        match key {
            "clients" => rule.clients = networks(),
            "users" => rule.users = values().collect(),
            "methods" => rule.methods = values().collect(),
            "schemes" => {
                let scheme = |value: String| if value == "http" { Scheme::Http } else { Scheme::Https };
                rule.schemes = values().map(scheme).collect();
            }
            // The tests' time is the epoch's first second, of a Thursday.
            "hours" => {
                rule.hours = values().map(|value| Hours::parse(&value.replace('_', " ")).unwrap()).collect();
            }
            "hosts" => rule.hosts = values().collect(),
            "addresses" => rule.addresses = networks(),
            "ports" => {
                let ports = values().map(|value| value.parse().unwrap()).map(|port: u16| port..=port);
                rule.ports = Ports::List(ports.collect());
            }
            _ => panic!("{key}"),
        }
    }
    rule
}

fn access(rules: &[&str]) -> Arc<Access> {
    let rules = rules.iter().map(|text| rule(text)).collect();
    Arc::new(Access::new(Options { rules, ..Options::default() }, vec!["127.0.0.1:3128".parse().unwrap()]))
}

/// Who asks for what, as `client [user@]METHOD host port`; and the address that is dialled.
#[track_caller]
fn verdict(rules: &[&str], asked: &str, address: &str) -> String {
    let words: Vec<_> = asked.split(' ').collect();
    let [client, method, host, port] = words[..] else { panic!("{asked}") };
    let (user, method) = method.split_once('@').map_or((None, method), |(user, method)| (Some(user), method));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let (host, port) = (target::authority(host.as_bytes()).unwrap().0, port.parse().unwrap());
    let scheme = if method == Method::CONNECT { Scheme::Https } else { Scheme::Http };
    let asked =
        Asked { client: client.parse().unwrap(), user, method: &method, scheme, host: &host, port, unix: 0 };
    let granted = access(rules).ask(asked, false);
    let grant = match granted {
        Err(denied) => return format!("no {}", denied.rule),
        Ok(grant) => grant,
    };
    match grant.destination(&host, SocketAddr::new(address.parse().unwrap(), port)) {
        Err(denied) => format!("later no {}", denied.rule),
        Ok(Some(rule)) => format!("yes {}", rule.name),
        Ok(None) => "yes".to_owned(),
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    const PUBLIC: &str = "203.0.113.7";
    let get = "127.0.0.1 GET www.example.com 80";
    for (rules, asked, address, expected) in [
        (&[][..], get, PUBLIC, "yes"),
        (&["a deny"], get, PUBLIC, "no a"),
        (&["a allow", "b deny"], get, PUBLIC, "yes a"),
        (&["a deny", "b allow"], get, PUBLIC, "no a"),
        // Each condition, met and not.
        (&["a deny clients=127.0.0.0/8"], get, PUBLIC, "no a"),
        (&["a deny clients=10.0.0.0/8"], get, PUBLIC, "yes"),
        (&["a deny clients=127.0.0.0/8"], "::ffff:127.0.0.1 GET www.example.com 80", PUBLIC, "no a"),
        (&["a deny methods=POST,PUT"], "127.0.0.1 PUT www.example.com 80", PUBLIC, "no a"),
        (&["a deny methods=POST,PUT"], get, PUBLIC, "yes"),
        (&["a deny methods=get"], get, PUBLIC, "yes"),
        (&["a deny schemes=http"], get, PUBLIC, "no a"),
        (&["a deny schemes=https"], get, PUBLIC, "yes"),
        (&["a deny schemes=https"], "127.0.0.1 CONNECT www.example.com 443", PUBLIC, "no a"),
        (&["a deny hosts=www.example.com"], get, PUBLIC, "no a"),
        (&["a deny hosts=example.com"], get, PUBLIC, "yes"),
        (&["a deny hosts=.example.com"], get, PUBLIC, "no a"),
        (&["a deny hosts=.example.com"], "127.0.0.1 GET EXAMPLE.com. 80", PUBLIC, "no a"),
        (&["a deny hosts=.example.com"], "127.0.0.1 GET badexample.com 80", PUBLIC, "yes"),
        (&["a deny hosts=203.0.113.7"], "127.0.0.1 GET 203.0.113.7 80", PUBLIC, "no a"),
        (&["a deny ports=8080"], "127.0.0.1 GET www.example.com 8080", PUBLIC, "no a"),
        (&["a deny ports=8080"], get, PUBLIC, "yes"),
        (&["a deny hours=Thu_00:00-01:00"], get, PUBLIC, "no a"),
        (&["a deny hours=Thu_01:00-24:00,Fri_00:00-24:00"], get, PUBLIC, "yes"),
        (&["a deny users=eve"], "127.0.0.1 eve@GET www.example.com 80", PUBLIC, "no a"),
        (&["a deny users=eve"], "127.0.0.1 bob@GET www.example.com 80", PUBLIC, "yes"),
        (&["a deny users=*"], "127.0.0.1 bob@GET www.example.com 80", PUBLIC, "no a"),
        (&["a deny users=*"], get, PUBLIC, "yes"),
        // All conditions of a rule together.
        (&["a deny hosts=.example.com methods=POST"], get, PUBLIC, "yes"),
        (&["a deny hosts=.other.example,.example.com methods=GET"], get, PUBLIC, "no a"),
        // In the order of the file, whatever the index that finds them.
        (&["a allow hosts=www.example.com", "b deny hosts=.example.com", "c deny"], get, PUBLIC, "yes a"),
        (&["b deny hosts=.example.com", "a allow hosts=www.example.com"], get, PUBLIC, "no b"),
        (&["c deny methods=GET", "a allow hosts=www.example.com"], get, PUBLIC, "no c"),
    ] {
        assert_eq!(verdict(rules, asked, address), expected, "{rules:?} {asked}");
    }
}

#[test]
fn allow_lifts_the_defaults_that_it_names_and_no_others() {
    const PUBLIC: &str = "203.0.113.7";
    for (rules, asked, address, expected) in [
        (&["a allow"][..], "127.0.0.1 CONNECT www.example.com 22", PUBLIC, "no connect-port"),
        (&["a allow ports=22"], "127.0.0.1 CONNECT www.example.com 22", PUBLIC, "yes a"),
        (&["a allow"], "127.0.0.1 GET www.example.com 25", PUBLIC, "no port"),
        (&["a allow ports=25"], "127.0.0.1 GET www.example.com 25", PUBLIC, "yes a"),
        (&["a allow"], "198.51.100.9 GET www.example.com 80", PUBLIC, "no client"),
        (&["a allow clients=198.51.100.0/24"], "198.51.100.9 GET www.example.com 80", PUBLIC, "yes a"),
        (
            &["a allow clients=198.51.100.0/24"],
            "198.51.100.9 CONNECT h.example 22",
            PUBLIC,
            "no connect-port",
        ),
        // A name is nobody's address.
        (
            &["a allow hosts=in.example"],
            "127.0.0.1 GET in.example 80",
            "10.0.0.1",
            "later no destination-private",
        ),
        (&["a allow addresses=10.0.0.0/8"], "127.0.0.1 GET in.example 80", "10.0.0.1", "yes a"),
        (&["a allow addresses=10.0.0.0/8"], "127.0.0.1 GET 10.0.0.1 80", "10.0.0.1", "yes a"),
        (
            &["a allow addresses=10.0.0.0/8"],
            "127.0.0.1 GET in.example 80",
            "192.168.0.1",
            "later no destination-private",
        ),
        (
            &["a allow addresses=0.0.0.0/0"],
            "127.0.0.1 GET h.example 3128",
            "127.0.0.1",
            "later no destination-self",
        ),
        (
            &["a allow addresses=127.0.0.0/8"],
            "127.0.0.1 CONNECT h.example 22",
            "127.0.0.1",
            "no connect-port",
        ),
    ] {
        assert_eq!(verdict(rules, asked, address), expected, "{rules:?} {asked}");
    }
}

#[test]
fn rules_with_addresses_wait_for_them_in_their_place() {
    let get = "127.0.0.1 GET www.example.com 80";
    for (rules, asked, address, expected) in [
        (&["a deny addresses=203.0.113.0/24"][..], get, "203.0.113.7", "later no a"),
        (&["a deny addresses=203.0.113.0/24"], get, "198.51.100.7", "yes"),
        (&["a deny addresses=203.0.113.0/24", "b allow"], get, "198.51.100.7", "yes b"),
        (&["b allow", "a deny addresses=203.0.113.0/24"], get, "203.0.113.7", "yes b"),
        (&["a allow addresses=203.0.113.0/24", "b deny"], get, "203.0.113.7", "yes a"),
        (&["a allow addresses=203.0.113.0/24", "b deny"], get, "198.51.100.7", "later no b"),
        // Nothing is left that could allow it: there is nothing to wait for.
        (&["a deny addresses=203.0.113.0/24", "b deny"], get, "198.51.100.7", "no b"),
        // An address that is written as one is known.
        (&["a deny addresses=203.0.113.0/24"], "127.0.0.1 GET 203.0.113.7 80", "203.0.113.7", "no a"),
        (&["a deny addresses=203.0.113.0/24"], "127.0.0.1 GET 198.51.100.7 80", "198.51.100.7", "yes"),
        // In other spellings, and inside of others.
        (&["a deny addresses=203.0.113.0/24"], get, "::ffff:203.0.113.7", "later no a"),
        (&["a deny addresses=203.0.113.0/24"], get, "64:ff9b::203.0.113.7", "later no a"),
        (&["a allow addresses=10.0.0.0/8"], get, "64:ff9b::10.0.0.1", "later no destination-private"),
    ] {
        assert_eq!(verdict(rules, asked, address), expected, "{rules:?} {asked} {address}");
    }
}

#[test]
fn wrong_rules_are_told_by_key() {
    let rules = [rule("a deny"), rule("port deny"), rule("b deny"), rule("b allow")];
    let errors: Vec<_> =
        check(&rules).into_iter().map(|error| (error.index, error.key, error.found)).collect();
    let expected = [(1, "name", "\"port\""), (3, "name", "\"b\", which rule 3 has too")];
    assert_eq!(errors, expected.map(|(index, key, found)| (index, key, found.to_owned())));
}

/// Ten thousand rules for hosts cost about what a hundred do: those that are tried are counted.
#[test]
fn rules_for_other_hosts_are_not_tried() {
    let all = (0..10_000).map(|number| rule(&format!("r{number} deny hosts=.h{number}.example"))).collect();
    let rules = Rules::new(all);
    let host = target::authority(b"www.h77.example").unwrap().0;
    let names: Vec<_> = rules.candidates(&host).map(|rule| rule.name.to_string()).collect();
    assert_eq!(names, ["r77"]);
}

/// Where all rules must be tried, since they are for clients: how long ten thousand take.
#[test]
#[ignore = "prints a time"]
fn time_of_ten_thousand_rules_that_are_all_tried() {
    let network = |number: u32| format!("198.{}.{}.0/28", 18 + number % 2, number / 64 % 256);
    let all =
        (0..10_000).map(|number| rule(&format!("r{number} deny clients={}", network(number)))).collect();
    let access = Arc::new(Access::new(Options { rules: all, ..Options::default() }, Vec::new()));
    let host = target::authority(b"www.example.com").unwrap().0;
    let client = "127.0.0.1".parse().unwrap();
    let asked = Asked {
        client,
        user: None,
        method: &Method::GET,
        scheme: Scheme::Http,
        host: &host,
        port: 80,
        unix: 0,
    };
    let began = crate::clock::Stopwatch::start();
    for _ in 0..1_000 {
        assert!(access.ask(asked, false).is_ok());
    }
    println!("{:?} for each request", began.elapsed() / 1_000);
}
