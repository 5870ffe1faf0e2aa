//! Settings that are right one by one and wrong together.

use std::net::SocketAddr;

use super::problem::{Place, Problem};
use super::resolve::Draft;
use crate::telemetry::MAX_SITES;
use crate::upstream::{Resolver, SetupError, check_ca_file};

/// What contradicts itself: the keys, the one to change first; what is found; what is expected.
struct Contradiction {
    keys: &'static [&'static str],
    found: String,
    expected: &'static str,
}

/// Adds a problem for each contradiction, at the place of the first of its keys that was given. A key whose own
/// value could not be read contradicts nothing.
pub(super) fn find(draft: &mut Draft) {
    rules(draft);
    access_rules(draft);
    let mut found = Vec::new();
    storing(draft, &mut found);
    buffering(draft, &mut found);
    origins(draft, &mut found);
    clients(draft, &mut found);
    counting(draft, &mut found);
    for Contradiction { keys, found, expected } in found {
        if keys.iter().any(|key| draft.unread.contains(*key)) {
            continue;
        }
        let given = keys.iter().find_map(|&key| draft.places.get(key).map(|place| (key, place.clone())));
        let (key, place) = given.unwrap_or((keys.first().copied().unwrap_or_default(), Place::Default));
        draft.problems.push(Problem { place, key: key.to_owned(), found, expected: expected.to_owned() });
    }
}

/// What the rules themselves find wrong, beyond what their keys' kinds do.
fn rules(draft: &mut Draft) {
    for (index, rule) in draft.settings.rules.iter().enumerate() {
        let idle: Vec<_> = [
            ("ignore_query", !rule.ignore_query.is_empty()),
            ("stale_if_error", rule.stale_if_error.is_some()),
            ("stale_while_revalidate", rule.stale_while_revalidate.is_some()),
            ("set_cookie", rule.set_cookie.is_some()),
            ("freshness", !rule.freshness.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        if rule.cache == Some(false) && !idle.is_empty() {
            let rule = format!("rules[{index}]");
            draft.problems.push(Problem {
                place: draft.places.get(&rule).cloned().unwrap_or(Place::Default),
                key: format!("{rule}.cache"),
                found: format!("false beside {}, of which nothing comes then", idle.join(", ")),
                expected: "either caching, or none of these".to_owned(),
            });
        }
    }
    for error in crate::policy::rules::check(&draft.settings.rules) {
        let rule = format!("rules[{}]", error.index);
        draft.problems.push(Problem {
            place: draft.places.get(&rule).cloned().unwrap_or(Place::Default),
            key: format!("{rule}.{}", error.key),
            found: error.found,
            expected: error.expected.trim_start_matches("expected ").to_owned(),
        });
    }
}

/// The same of the rules of access; one without a name gets one first.
fn access_rules(draft: &mut Draft) {
    for (index, rule) in draft.settings.access.rules.iter_mut().enumerate() {
        if rule.name.is_empty() {
            rule.name = format!("access-rule-{}", index + 1).into();
        }
    }
    let access = &draft.settings.access;
    let nobody = access.authentication.basic_file.is_none() && access.authentication.digest_file.is_none();
    if let Some(index) = access.rules.iter().position(|rule| nobody && !rule.users.is_empty()) {
        draft.problems.push(Problem {
            place: draft.places.get("access.rules").cloned().unwrap_or(Place::Default),
            key: format!("access.rules[{index}].users"),
            found: "users, and nobody has to say who it is".to_owned(),
            expected: "access.basic_file or access.digest_file beside it".to_owned(),
        });
    }
    for error in crate::access::rules::check(&draft.settings.access.rules) {
        draft.problems.push(Problem {
            place: draft.places.get("access.rules").cloned().unwrap_or(Place::Default),
            key: format!("access.rules[{}].{}", error.index, error.key),
            found: error.found,
            expected: error.expected,
        });
    }
}

fn storing(draft: &Draft, contradictions: &mut Vec<Contradiction>) {
    let store = &draft.settings.store;
    if store.max_object > store.capacity {
        contradictions.push(Contradiction {
            keys: &["cache.max_object", "cache.memory"],
            found: format!("{}, and cache.memory is {}", bytes(store.max_object), bytes(store.capacity)),
            expected: "at most cache.memory",
        });
    }
    if store.max_object_unknown_length > store.max_object {
        let (unknown, known) = (store.max_object_unknown_length, store.max_object);
        contradictions.push(Contradiction {
            keys: &["cache.max_object_unknown_length", "cache.max_object"],
            found: format!("{}, and cache.max_object is {}", bytes(unknown), bytes(known)),
            expected: "at most cache.max_object",
        });
    }
}

fn buffering(draft: &Draft, contradictions: &mut Vec<Contradiction>) {
    let buffers = &draft.settings.buffers;
    let upload = buffers.request.saturating_add(buffers.response);
    // One half is for those of which hardly anything has come.
    if buffers.total / 2 < upload {
        contradictions.push(Contradiction {
            keys: &["limits.buffers", "limits.buffer", "limits.request_head", "limits.response_head"],
            found: format!("{}, and one upload may take {}", bytes(buffers.total), bytes(upload)),
            expected: "limits.buffers at least twice what one upload may take",
        });
    }
}

fn origins(draft: &Draft, contradictions: &mut Vec<Contradiction>) {
    let upstream = &draft.settings.upstream;
    if upstream.dns_min_ttl > upstream.dns_max_ttl {
        contradictions.push(Contradiction {
            keys: &["upstream.dns_min_ttl", "upstream.dns_max_ttl"],
            found: "a minimum above the maximum".to_owned(),
            expected: "dns_min_ttl at most dns_max_ttl",
        });
    }
    // A lower cap alone is no mistake: it caps the idle ones too.
    let (idle, all) = (upstream.idle_per_origin, upstream.connections_per_origin);
    if idle > all && draft.places.contains_key("upstream.idle_per_origin") {
        contradictions.push(Contradiction {
            keys: &["upstream.idle_per_origin"],
            found: format!("{idle}, and upstream.connections_per_origin is {all}"),
            expected: "at most connections_per_origin",
        });
    }
    let v4 = upstream.source_address.iter().filter(|address| address.is_ipv4()).count();
    if v4 > 1 || upstream.source_address.len() - v4 > 1 {
        contradictions.push(Contradiction {
            keys: &["upstream.source_address"],
            found: "two addresses of one family".to_owned(),
            expected: "at most one IPv4 and one IPv6 address",
        });
    }
    if !upstream.nameservers.is_empty() && upstream.resolver == Resolver::System {
        contradictions.push(Contradiction {
            keys: &["upstream.nameservers", "upstream.resolver"],
            found: "name servers, and upstream.resolver is \"system\", which knows its own".to_owned(),
            expected: "resolver = \"hickory\", or no nameservers",
        });
    }
    if let Some(path) = &upstream.ca_file
        && let Err(error) = check_ca_file(path)
    {
        let why = match error {
            SetupError::CaFile { what, .. } => what,
            other => other.to_string(),
        };
        contradictions.push(Contradiction {
            keys: &["upstream.ca_file"],
            found: format!("{}, of which no authority can be read ({why})", path.display()),
            expected: "a PEM file with certificates",
        });
    }
    if draft.from_environment && draft.places.contains_key("upstream.parents") {
        contradictions.push(Contradiction {
            keys: &["upstream.from_environment", "upstream.parents"],
            found: "true beside upstream.parents".to_owned(),
            expected: "one of both",
        });
    }
}

fn clients(draft: &Draft, contradictions: &mut Vec<Contradiction>) {
    let proxy = &draft.settings.proxy;
    if proxy.upgrades.iter().any(|protocol| crate::proxy::is_h2c(protocol)) {
        contradictions.push(Contradiction {
            keys: &["proxy.upgrades"],
            found: "\"h2c\", whose requests would pass unseen".to_owned(),
            expected: "other protocols, such as \"websocket\"",
        });
    }
    if proxy.max_request_line > proxy.max_head {
        contradictions.push(Contradiction {
            keys: &["limits.request_line", "limits.request_head"],
            found: "a request line longer than a whole head".to_owned(),
            expected: "request_line at most request_head",
        });
    }
    let listen = &draft.settings.server.listen;
    if listen.is_empty() {
        contradictions.push(Contradiction {
            keys: &["server.listen"],
            found: "no address".to_owned(),
            expected: "at least one",
        });
    }
    for (index, &address) in listen.iter().enumerate() {
        if listen[..index].iter().any(|&other| collide(address, other)) {
            contradictions.push(Contradiction {
                keys: &["server.listen"],
                found: format!("{address} beside another address that covers it"),
                expected: "each address once",
            });
        }
        if draft.settings.admin.listen.is_some_and(|admin| collide(address, admin)) {
            contradictions.push(Contradiction {
                keys: &["admin.listen", "server.listen"],
                found: format!("{address} for the proxy and the admin listener"),
                expected: "another port for the admin listener",
            });
        }
    }
}

fn counting(draft: &Draft, contradictions: &mut Vec<Contradiction>) {
    let telemetry = &draft.settings.telemetry;
    let sites = telemetry.sites.len().saturating_add(telemetry.first_sites);
    if sites > MAX_SITES {
        contradictions.push(Contradiction {
            keys: &["metrics.first_sites", "metrics.sites"],
            found: format!("{sites} sites in all"),
            expected: "at most 1000, listed ones and first ones together",
        });
    }
}

/// Whether two listeners can't both be bound. Port 0 takes a free port each time; an unspecified IPv6 address
/// leaves IPv4 alone, as the listeners are bound.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers =
        |all: SocketAddr, one: SocketAddr| all.ip().is_unspecified() && all.is_ipv4() == one.is_ipv4();
    let same_address = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    one.port() != 0 && one.port() == other.port() && same_address
}

fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
