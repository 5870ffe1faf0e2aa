//! The API: queries, the content of a purge, and who may send them.

use crate::dice::{Dice, fields, halves, with_text};
use http::{Method, Uri, Version, header};
use larder::admin::{Options, Stored, fuzzing};
use larder::cache::{MAX_LIMIT, MAX_OFFSET};

pub fn admin(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    match dice.below(3) {
        0 => with_text(dice.rest(), query),
        1 => {
            let content = dice.rest();
            if let Ok(purge) = fuzzing::purge(content) {
                let value: Result<serde_json::Value, _> = serde_json::from_slice(content);
                let dry = value.ok().map(|value| value["dry_run"] == true);
                assert_eq!(dry, Some(purge.dry_run));
            }
        }
        _ => guarded(dice.rest()),
    }
}

fn query(text: &str) {
    // A query is part of a target, where a plus stands for a space.
    let numbers_are_plain = |name: &str| {
        let parts = text.split('&').filter_map(|part| part.split_once('='));
        parts
            .filter(|(known, _)| *known == name)
            .all(|(_, value)| !value.starts_with("%2B") && !value.starts_with("%2b"))
    };
    if fuzzing::exchanges(text).is_ok() {
        assert!(numbers_are_plain("after"), "{text}");
    }
    match fuzzing::stored(text) {
        Ok(Stored::Responses(asked)) => {
            assert!(asked.offset <= MAX_OFFSET && asked.limit <= MAX_LIMIT);
            assert!(numbers_are_plain("offset") && numbers_are_plain("limit"), "{text}");
        }
        Ok(Stored::Sites { .. }) => panic!("sites were not asked for"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(Stored::Sites { limit, .. }) = fuzzing::sites(text) {
        assert!(limit <= MAX_LIMIT && numbers_are_plain("limit"), "{text}");
    }
    if let Ok(asked) = fuzzing::explain(text) {
        assert!(!asked.url.is_empty() && (asked.method == Method::GET || asked.method == Method::HEAD));
        assert!(numbers_are_plain("exchange"), "{text}");
    }
}

/// What is let through came to an address or a name of ours, and from no other page.
fn guarded(bytes: &[u8]) {
    let (target, head) = halves(bytes);
    let Ok(uri) = Uri::try_from(target) else { return };
    let headers = fields(head);
    let options = Options { hosts: vec!["larder.example".to_owned()], ..Options::default() };
    if !fuzzing::lets_change(&options, Version::HTTP_11, &uri, &headers) {
        return;
    }
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        panic!("there is one")
    };
    let name = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_name = |known: &str| name.eq_ignore_ascii_case(known);
    assert!(
        name.parse::<std::net::IpAddr>().is_ok() || is_name("localhost") || is_name("larder.example"),
        "{host}"
    );
    for origin in headers.get_all(header::ORIGIN) {
        let from = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, from)| from);
        assert!(from.is_some_and(|from| from.eq_ignore_ascii_case(host)), "{origin:?}");
    }
}
