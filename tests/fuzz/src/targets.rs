//! Targets: URLs as they are received, what is sent of them, their keys, and references seen from them.

use crate::dice::{halves, with_text};
use http::Uri;
use larder::cache::{host_of, is_of_host, parse_host, parse_url};
use larder::field::target::{Host, Target, authority};
use larder::policy::invalidates;
use larder::store::CacheKey;

pub fn targets(bytes: &[u8]) {
    let (first, second) = halves(bytes);
    if let Ok(uri) = Uri::try_from(first) {
        if let Ok(target) = Target::connect(&uri) {
            assert!(target.path.is_empty() && target.port != 0 && target.authority.as_str().contains(':'));
            assert_eq!(target.url(), target.authority.as_str());
            assert_eq!(Target::connect(&target.origin_form()).as_ref(), Ok(&target));
        }
        if let Ok(target) = Target::absolute(&uri) {
            check(&target);
            if let Some(named) = target.resolve(second) {
                check(&named);
            }
            // What is named by itself is itself.
            assert_eq!(
                target.resolve(target.url().as_bytes()).map(|named| named.same_origin(&target)),
                Some(true)
            );
            let mut answer = http::HeaderMap::new();
            if let Ok(value) = http::HeaderValue::from_bytes(second) {
                answer.insert(http::header::LOCATION, value);
            }
            let gone = invalidates(&http::Method::POST, http::StatusCode::OK, &target, &answer);
            assert!(gone[0] == target && gone.iter().all(|named| named.same_origin(&target)));
        }
    }
    if let Ok((host, port)) = authority(first) {
        host_is_one(&host);
        assert!(port != Some(0));
        let again = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        assert_eq!(authority(again.as_bytes()), Ok((host, port)));
    }
    with_text(first, |text| {
        if let Ok((uri, target)) = parse_url(text) {
            assert_eq!(Target::absolute(&uri), Ok(target));
        }
        if let Ok(host) = parse_host(text) {
            let url =
                if host.contains(':') { format!("http://[{host}]/") } else { format!("http://{host}/") };
            assert_eq!(host_of(&url), host);
        }
    });
}

/// What goes out is what comes in again as the same, and so is the key.
fn check(target: &Target) {
    let url = target.url();
    assert_eq!(CacheKey::of(target, None).as_str(), url);
    assert!(url.bytes().all(|byte| (0x21..0x7f).contains(&byte)), "{url}");
    assert!(target.path.as_str().starts_with('/') && target.port != 0);
    let uri = Uri::try_from(&url);
    let again = uri.ok().and_then(|uri| Target::absolute(&uri).ok());
    assert_eq!(again.as_ref(), Some(target), "{url}");
    assert_eq!(target.origin_form().to_string(), target.path.as_str());
    host_is_one(&target.host);
    let host = parse_host(&target.host.to_string());
    assert!(host.is_ok_and(|host| is_of_host(&url, &host)), "{url}");
    assert!(
        !target.without_query().contains(|c: char| c.is_whitespace())
            && !url.contains('@') | target.path.as_str().contains('@')
    );
}

fn host_is_one(host: &Host) {
    if let Host::Name(name) = host {
        let legal = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._~!$&'()*+,;=".contains(&byte)
        };
        assert!(!name.is_empty() && name.len() <= 254 && name.bytes().all(legal), "{name}");
        assert!(name.parse::<std::net::IpAddr>().is_err(), "{name}");
    }
    assert!(host.matches("*") && host.matches(&host.to_string()));
}
