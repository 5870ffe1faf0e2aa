//! Fields: what `larder::field` reads and writes, and the scan for trailers.

use crate::dice::{Dice, fields, halves, values};
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use larder::body::trailers::Scan;
use larder::field::cache_control::{DELTA_MAX, Delta, RequestDirectives, ResponseDirectives, says_no_cache};
use larder::field::etag::{EntityTag, is_strong, strong_match, weak_match};
use larder::field::range::{ContentRange, RangeSpec};
use larder::field::status::{CacheStatus, Forward, ProxyError, ProxyStatus};
use larder::field::via::Pseudonym;
use larder::field::{date, list, range, tags, treatment, vary};
use sfv::Parser;

/// Members of lines without a quote, as the simplest reader has them: name in lower case, and argument.
pub fn plain_members(lines: &[HeaderValue]) -> Vec<(String, Option<String>)> {
    let plain = |line: &&HeaderValue| !line.as_bytes().contains(&b'"');
    let texts = lines.iter().filter(plain).map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
    let members = texts.flat_map(|text| {
        text.split(',').map(|member| member.trim_matches([' ', '\t']).to_owned()).collect::<Vec<_>>()
    });
    let parts = members.map(|member| match member.split_once('=') {
        Some((name, value)) => (name.to_ascii_lowercase(), Some(value.to_owned())),
        None => (member.to_ascii_lowercase(), None),
    });
    parts.filter(|(name, value)| !name.is_empty() || value.is_some()).collect()
}

pub fn cache_control(bytes: &[u8]) {
    let (first, second) = halves(bytes);
    let (lines, pragma) = (values(first), values(second));
    let found = ResponseDirectives::parse(lines.iter().map(HeaderValue::as_bytes));
    let asked = RequestDirectives::parse(lines.iter(), pragma.iter());
    for (name, argument) in plain_members(&lines) {
        assert!(found.present);
        match (name.as_str(), argument.is_some()) {
            ("no-store", false) => assert!(found.no_store && asked.no_store),
            ("private", _) => assert!(found.private),
            ("no-cache", false) => {
                assert!(found.no_cache.is_whole() && asked.no_cache);
            }
            ("must-revalidate", false) => assert!(found.must_revalidate),
            ("proxy-revalidate", false) => assert!(found.proxy_revalidate),
            ("only-if-cached", false) => assert!(asked.only_if_cached),
            ("max-age", _) => {
                let value = argument.unwrap_or_default();
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                assert!(found.max_age.is_some());
                if digits {
                    let seconds = value.parse::<i64>().unwrap_or(DELTA_MAX).min(DELTA_MAX);
                    assert!(
                        matches!(found.max_age, Some(Delta::INVALID))
                            || found.max_age == Some(Delta::of(seconds as u64))
                    );
                    assert!(asked.max_age.is_some_and(|age| age <= seconds));
                } else {
                    assert_eq!(found.max_age, Some(Delta::INVALID));
                    assert_eq!(asked.max_age, Some(0));
                }
            }
            _ => {}
        }
    }
    for delta in [found.max_age, found.s_maxage, found.stale_if_error, found.stale_while_revalidate]
        .into_iter()
        .flatten()
    {
        assert!(
            delta.millis() >= 0 && delta.seconds().is_none_or(|seconds| (0..=DELTA_MAX).contains(&seconds))
        );
    }
    // What a line forbids, no other line takes back.
    for line in &lines {
        let alone = ResponseDirectives::parse(std::iter::once(line.as_bytes()));
        assert!(found.no_store >= alone.no_store && found.private >= alone.private);
        assert!(
            found.must_revalidate >= alone.must_revalidate
                && found.proxy_revalidate >= alone.proxy_revalidate
        );
        let alone = RequestDirectives::parse(std::iter::once(line), std::iter::empty());
        assert!(asked.no_store >= alone.no_store && asked.no_cache >= alone.no_cache);
    }
    let pragma = pragma.iter().map(HeaderValue::as_bytes);
    assert!(!asked.pragma_no_cache || (!found.present && says_no_cache(pragma)));
}

pub fn dates(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let now = match dice.byte() {
        0..250 => 1_795_392_000,
        _ => dice.number() as i64,
    };
    let value = dice.rest();
    let read = date::parse(value, now);
    if let Some(unix) = read {
        if (0..=253_402_300_799).contains(&unix) {
            assert_eq!(date::parse(date::format(unix).as_bytes(), now), Some(unix));
        }
        // Neither earlier than the year 0 nor later than 9999, a leap second more.
        assert!((-62_167_219_200..=253_402_300_800).contains(&unix), "{unix}");
    }
    // Another reader of the same grammar, where that has no two-digit year to guess.
    if let Some(theirs) =
        std::str::from_utf8(value).ok().and_then(|text| httpdate::parse_http_date(text).ok())
        && !value.iter().any(|byte| matches!(byte, b'-' | 0x0a..=0x0d))
    {
        let unix = theirs.duration_since(std::time::UNIX_EPOCH).map(|since| since.as_secs() as i64).ok();
        assert_eq!(read, unix, "{}", String::from_utf8_lossy(value));
    }
    let (written, unix) = (date::format(now), now.clamp(0, 253_402_300_799));
    assert_eq!(date::parse(written.as_bytes(), 0), Some(unix));
}

pub fn lists(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    for member in list::members(lines.iter().copied()) {
        assert!(!member.is_empty() && list::trim(member) == member);
        assert!(list::parameters(member).all(|part| list::trim(part) == part));
        if let Some(text) = list::token_or_quoted(member) {
            assert!(text.len() <= member.len());
        }
        assert_eq!(list::is_token(member), HeaderName::from_bytes(member).is_ok() && member.len() < 65_536);
    }
    for line in &lines {
        let expected = (!line.is_empty() && line.iter().all(u8::is_ascii_digit)).then(|| {
            std::str::from_utf8(line).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX)
        });
        assert_eq!(list::digits(line), expected);
        for name in [tags::SURROGATE_KEY, tags::CACHE_TAG, tags::CACHE_GROUPS] {
            let found = tags::tags(&name, line);
            assert!(found.iter().all(|tag| tag.len() <= line.len()));
            assert!(name == tags::CACHE_GROUPS || found.iter().all(|tag| !tag.is_empty()));
        }
        // A line has the members that it has alone.
        let alone = list::members(std::iter::once(*line)).count();
        assert!(list::members(lines.iter().copied()).count() >= alone);
    }
    let entity: Vec<&[u8]> = list::entity_tags(lines.iter().copied()).collect();
    for a in entity.iter().take(16) {
        if let Some(tag) = EntityTag::parse(a) {
            assert!(tag.weak != is_strong(a) && tag.opaque.len() >= 2);
        }
        assert!(weak_match(a, a) && strong_match(a, a) == is_strong(a));
        for b in entity.iter().take(16) {
            assert_eq!(weak_match(a, b), weak_match(b, a));
            assert_eq!(strong_match(a, b), strong_match(b, a));
            assert!(weak_match(a, b) || !strong_match(a, b));
        }
    }
}

pub fn ranges(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let most = dice.below(40);
    let value = dice.rest();
    if let Some(specs) = range::parse(value, most) {
        assert!(!specs.is_empty() && specs.len() <= most);
        let written: Vec<String> = specs
            .iter()
            .map(|spec| match spec {
                RangeSpec::FromTo(first, last) => {
                    assert!(first <= last);
                    format!("{first}-{last}")
                }
                RangeSpec::From(first) => format!("{first}-"),
                RangeSpec::Suffix(length) => format!("-{length}"),
            })
            .collect();
        assert!(!value.contains(&b'+'));
        assert_eq!(range::parse(format!("bytes={}", written.join(",")).as_bytes(), most), Some(specs));
    }
    if let Some(part) = ContentRange::parse(value) {
        assert!(part.first <= part.last && part.length() >= 1 && !value.contains(&b'+'));
        assert!(part.complete.is_none_or(|complete| part.last < complete));
        assert_eq!(ContentRange::parse(part.value().as_bytes()), Some(part));
    }
}

pub fn vary(bytes: &[u8]) {
    let (first, second) = halves(bytes);
    let lines = values(first);
    match vary::parse(lines.iter()) {
        vary::Vary::Any => {}
        vary::Vary::Names(names) => {
            for (name, argument) in plain_members(&lines) {
                assert!(argument.is_none() && names.iter().any(|known| *known == *name), "{name}");
            }
        }
    }
    for name in [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::ACCEPT, header::COOKIE] {
        let mut asked = HeaderMap::new();
        for value in values(second) {
            asked.append(&name, value);
        }
        for any_order in [false, true] {
            let Some(normal) = vary::normal(&asked, &name, any_order) else {
                assert!(asked.is_empty());
                continue;
            };
            // A normal form is its own.
            let Ok(value) = HeaderValue::from_bytes(&normal) else { panic!("a normal form is a value") };
            let again = HeaderMap::from_iter([(name.clone(), value)]);
            assert_eq!(vary::normal(&again, &name, any_order), Some(normal));
        }
        if let Some(language) = vary::preferred_language(values(second).iter().map(HeaderValue::as_bytes)) {
            assert!(language != b"*");
        }
    }
}

pub fn treatment(bytes: &[u8]) {
    let (head, trailers) = halves(bytes);
    let received = fields(head);
    for strip in [treatment::strip_request, treatment::strip_response, treatment::strip_interim] {
        let mut left = received.clone();
        strip(&mut left);
        for name in left.keys() {
            assert!(!treatment::of(name).hop_by_hop, "{name}");
            assert_eq!(left.get_all(name).iter().count(), received.get_all(name).iter().count());
        }
        for name in received.keys() {
            let kept = treatment::of(name);
            assert!(
                !kept.protected
                    || kept.hop_by_hop
                    || left.contains_key(name)
                    || *name == header::CONTENT_LENGTH,
                "{name}"
            );
            let named = treatment::has_option(&received, name.as_str()) && name != "close";
            assert!(!named || kept.protected || !left.contains_key(name), "{name}");
        }
    }
    let named = treatment::named_trailers(&received);
    let mut left = fields(trailers);
    treatment::strip_trailers(&mut left, &named);
    for name in left.keys() {
        assert!(
            !treatment::of(name).hop_by_hop
                && !named.contains(name)
                && !name.as_str().starts_with("content-")
        );
        assert!(*name != header::SET_COOKIE && *name != header::AUTHORIZATION && *name != header::HOST);
    }
    for protocol in treatment::upgrade_protocols(&received) {
        assert!(!protocol.is_empty() && treatment::has_option(&received, "upgrade"));
    }
    let Some(pseudonym) = Pseudonym::new("larder-1a2b") else { return };
    let mut sent = received.clone();
    pseudonym.append(&mut sent, Version::HTTP_11);
    assert!(pseudonym.looped(&sent));
    assert_eq!(
        pseudonym.carried(&received, Version::HTTP_11).len(),
        sent.get_all(header::VIA).iter().count()
    );
}

/// The first bytes say where the others are cut.
pub fn trailers(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let cuts: Vec<usize> = (0..4).map(|_| usize::from(dice.byte())).collect();
    let bytes = dice.rest();
    let mut whole = Scan::default();
    whole.read(bytes);
    let mut pieces = Scan::default();
    let mut left = bytes;
    for cut in cuts {
        let (piece, rest) = left.split_at(cut.min(left.len()));
        pieces.read(piece);
        left = rest;
    }
    pieces.read(left);
    assert_eq!(whole.is_clean(), pieces.is_clean());
    let mut one_by_one = Scan::default();
    bytes.chunks(1).for_each(|byte| one_by_one.read(byte));
    assert_eq!(whole.is_clean(), one_by_one.is_clean());
    // Behind much else, where another search is used, it is the same.
    let mut behind = Scan::default();
    behind.read(&[&[b'x'; 2000][..], b"\r\n", bytes].concat());
    let mut alone = Scan::default();
    alone.read(b"\r\n");
    alone.read(bytes);
    assert_eq!(behind.is_clean(), alone.is_clean());
    assert!(!alone.is_clean() || is_clean(&[b"\r\n", bytes].concat()));
}

/// The plainest reading of what the scan promises: from each last chunk to its empty line, no CR and no LF alone.
fn is_clean(bytes: &[u8]) -> bool {
    for at in 0..bytes.len() {
        let Some(section) = bytes[at..].strip_prefix(b"\n0\r\n") else { continue };
        let end =
            section.windows(4).position(|window| window == b"\r\n\r\n").map_or(section.len(), |end| end + 4);
        let section = if section.starts_with(b"\r\n") { &section[..2] } else { &section[..end] };
        for (at, byte) in section.iter().enumerate() {
            let after = section.get(at + 1);
            match byte {
                b'\r' if after.is_some_and(|byte| *byte != b'\n') => return false,
                b'\n' if at == 0 || section[at - 1] != b'\r' => return false,
                _ => {}
            }
        }
    }
    true
}

pub fn status(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let status = CacheStatus {
        hit: dice.once_in(2),
        forward: dice.once_in(2).then(|| dice.pick(Forward::ALL)),
        forward_status: http::StatusCode::from_u16(100 + dice.number() as u16 % 900).ok(),
        stored: dice.once_in(2),
        collapsed: dice.once_in(2),
        ttl: dice.once_in(2).then(|| dice.number() as i64),
        detail: Some("expired"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (hop, rule, details) = (text(dice.bytes(60)), text(dice.bytes(60)), text(dice.rest()));
    let told = ProxyStatus {
        error: Some(ProxyError::DnsError),
        received_status: status.forward_status,
        next_hop: Some(&hop),
        rule: Some(&rule),
        details: Some(&details),
    };
    let mut headers = HeaderMap::new();
    status.append(&mut headers);
    told.append(&mut headers);
    assert_eq!(headers.len(), 2);
    for value in headers.values() {
        let parsed = Parser::new(value.as_bytes()).parse::<sfv::List>();
        assert!(parsed.is_ok_and(|list| list.len() == 1), "{value:?}");
    }
}
