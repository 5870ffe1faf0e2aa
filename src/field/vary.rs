//! Vary, and the normal forms of the fields it names: RFC 9111 section 4.1. Syntax only; which variant a
//! request selects is policy's.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::list::{digits, members, parameters, trim};

/// More names than this select nothing that anybody would ask for again; each is looked for in every request.
const MOST_NAMES: usize = 64;

/// What Vary says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// These fields of the request select; none if there is no Vary. In order of appearance, each once.
    Names(Vec<HeaderName>),
    /// A member `*`, or one that is no field name, or far too many: no request can be known to select it.
    Any,
}

/// Reads all lines.
pub fn parse<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> Vary {
    let mut names = Vec::new();
    for member in members(lines.map(HeaderValue::as_bytes)) {
        if member == b"*" {
            return Vary::Any;
        }
        match HeaderName::from_bytes(member) {
            Ok(name) if names.contains(&name) => {}
            Ok(name) if names.len() < MOST_NAMES => names.push(name),
            Ok(_) | Err(_) => return Vary::Any,
        }
    }
    Vary::Names(names)
}

/// The normal form of a selecting field of a request; `None` where it is absent. `any_language_order` makes
/// the order in Accept-Language not matter. A normal form is its own normal form.
pub fn normal(headers: &HeaderMap, name: &HeaderName, any_language_order: bool) -> Option<Vec<u8>> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.as_bytes();
    let joined = match lines.next() {
        None => tight(first, b','),
        // Quotes count over all of it, as they will when it is read again.
        Some(second) => {
            let all = [first, second.as_bytes()].into_iter().chain(lines.map(HeaderValue::as_bytes));
            tight(&all.collect::<Vec<_>>().join(&b','), b',')
        }
    };
    Some(if *name == header::ACCEPT_ENCODING {
        accept_encoding(&joined).unwrap_or(joined)
    } else if *name == header::ACCEPT_LANGUAGE {
        accept_language(&joined, any_language_order)
    } else {
        joined
    })
}

/// Without whitespace round a delimiter that stands outside quotes, and at the ends.
fn tight(value: &[u8], delimiter: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let (mut quoted, mut escaped) = (false, false);
    for &byte in trim(value) {
        let blank = matches!(byte, b' ' | b'\t');
        if blank && !quoted && out.last() == Some(&delimiter) {
            continue;
        }
        if byte == delimiter && !quoted {
            while let Some(b' ' | b'\t') = out.last() {
                out.pop();
            }
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        out.push(byte);
    }
    out
}

/// The codings that are told apart, by their first name; a second name means the same.
const CODINGS: &[(&str, &str)] = &[
    ("br", "br"),
    ("compress", "x-compress"),
    ("dcb", "dcb"),
    ("dcz", "dcz"),
    ("deflate", "deflate"),
    ("gzip", "x-gzip"),
    ("identity", "identity"),
    ("zstd", "zstd"),
    ("*", "*"),
];

/// The known codings with a weight above 0, sorted; a refusal of `identity` or `*` stays as `;q=0`. `None`
/// where there is anything else in it: such a value stands for itself.
fn accept_encoding(value: &[u8]) -> Option<Vec<u8>> {
    let (mut taken, mut refused) = (0_u16, 0_u16);
    for member in members(std::iter::once(value)) {
        let mut parts = parameters(member);
        let name = parts.next()?;
        let weight = match parts.next() {
            None => 1000,
            Some(parameter) => weight(parameter)?,
        };
        if parts.next().is_some() {
            return None;
        }
        let index = CODINGS.iter().position(|(first, second)| {
            name.eq_ignore_ascii_case(first.as_bytes()) || name.eq_ignore_ascii_case(second.as_bytes())
        })?;
        let bit = 1 << index;
        if (taken | refused) & bit != 0 {
            return None;
        }
        if weight > 0 {
            taken |= bit;
        } else {
            refused |= bit;
        }
    }
    let mut out = Vec::new();
    for (index, (name, _)) in CODINGS.iter().enumerate() {
        let bit = 1 << index;
        let is_refusal = refused & bit != 0 && matches!(*name, "identity" | "*");
        // With `*` taken, a refused coding is an exception from it.
        let is_exception = refused & bit != 0 && taken & (1 << (CODINGS.len() - 1)) != 0;
        if taken & bit != 0 || is_refusal || is_exception {
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
            if taken & bit == 0 {
                out.extend_from_slice(b";q=0");
            }
        }
    }
    Some(out)
}

/// In lower case, without whitespace round `;`, its members sorted if their order does not matter.
fn accept_language(value: &[u8], any_order: bool) -> Vec<u8> {
    let lower = tight(&value.to_ascii_lowercase(), b';');
    // No language has quotes: in another order, other parts would stand between them.
    if !any_order || lower.contains(&b'"') {
        return lower;
    }
    let mut languages: Vec<_> = members(std::iter::once(lower.as_slice())).collect();
    languages.sort_unstable();
    languages.join(&b',')
}

/// Thousandths of `q=0.8`. RFC 9110 section 12.4.2.
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else { return None };
    let (whole, fraction) = match value {
        [whole] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    let mut thousandths = 0_u16;
    for place in 0..3 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        thousandths = thousandths * 10 + u16::try_from(digits(&[digit])?).ok()?;
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// The language that Accept-Language weighs highest, if it is the only one there.
pub fn preferred_language<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let mut best: Option<(u16, &[u8], bool)> = None;
    for member in members(lines) {
        let mut parts = parameters(member);
        let language = parts.next()?;
        let weight = match parts.next() {
            None => 1000,
            Some(parameter) => weight(parameter)?,
        };
        best = Some(match best {
            Some((known, ..)) if weight > known => (weight, language, true),
            Some((known, other, _)) if weight == known => (known, other, false),
            Some(lower) => lower,
            None => (weight, language, true),
        });
    }
    match best {
        Some((1.., language, true)) if language != b"*" => Some(language),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(lines: &[&str]) -> Vec<HeaderValue> {
        lines.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_star_anywhere_makes_it_any() {
        for lines in [
            &["*"][..],
            &["*, *"],
            &["*", "*"],
            &[", *"],
            &["", "*"],
            &["*, Foo"],
            &["Foo, *"],
            &["Foo", "Bar", "*"],
            &["not a name"],
        ] {
            assert_eq!(parse(values(lines).iter()), Vary::Any, "{lines:?}");
        }
    }

    #[test]
    fn names_are_case_insensitive_and_counted_once() {
        let expected = Vary::Names(vec![header::ACCEPT_ENCODING, HeaderName::from_static("foo")]);
        assert_eq!(parse(values(&["Accept-Encoding, FOO", "foo,accept-encoding"]).iter()), expected);
        assert_eq!(parse([].into_iter()), Vary::Names(vec![]));
    }

    #[test]
    fn far_too_many_names_make_it_any() {
        let list = |count: usize| (0..count).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(",");
        let parsed = |count| parse([HeaderValue::try_from(list(count)).unwrap()].iter());
        assert!(matches!(parsed(64), Vary::Names(names) if names.len() == 64));
        assert_eq!((parsed(65), parsed(9_000)), (Vary::Any, Vary::Any));
        let twice = [list(64), list(64)].map(|list| HeaderValue::try_from(list).unwrap());
        assert!(matches!(parse(twice.iter()), Vary::Names(_)), "each counts once");
    }

    #[track_caller]
    fn check(name: &HeaderName, lines: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for line in values(lines) {
            headers.append(name, line);
        }
        let found = normal(&headers, name, true).unwrap();
        assert_eq!(String::from_utf8_lossy(&found), expected, "{lines:?}");
        let mut again = HeaderMap::new();
        again.insert(name, HeaderValue::from_bytes(&found).unwrap());
        assert_eq!(normal(&again, name, true).unwrap(), found, "its own normal form: {lines:?}");
    }

    #[test]
    fn unknown_fields_lose_line_breaks_and_space_round_commas_only() {
        let foo = || HeaderName::from_static("foo");
        check(&foo(), &["1, 2"], "1,2");
        check(&foo(), &["1", "2"], "1,2");
        check(&foo(), &[" 1 ,\t2 "], "1,2");
        check(&foo(), &["A b, C"], "A b,C");
        check(&foo(), &["\"a , b\" , c"], "\"a , b\",c");
        check(&foo(), &[r#""a\" , b" , c"#], r#""a\" , b",c"#);
        check(&foo(), &[""], "");
        check(&foo(), &["a\"", "b, \", c"], "a\",b, \",c");
        assert_eq!(normal(&HeaderMap::new(), &foo(), true), None);
    }

    #[test]
    fn accept_language_loses_case_space_and_order() {
        let language = || header::ACCEPT_LANGUAGE;
        check(&language(), &["en, de"], "de,en");
        check(&language(), &["de", "eN"], "de,en");
        check(&language(), &[" en ,   De ; q=0.5"], "de;q=0.5,en");
        check(&language(), &["x=\"y, b ;q, A"], "x=\"y, b ;q, a");
        let mut headers = HeaderMap::new();
        headers.insert(language(), HeaderValue::from_static("EN , de"));
        assert_eq!(normal(&headers, &language(), false).unwrap(), b"en,de");
    }

    #[test]
    fn accept_encoding_becomes_the_sorted_set_of_known_codings() {
        let encoding = || header::ACCEPT_ENCODING;
        check(&encoding(), &["gzip, deflate, br, zstd"], "br,deflate,gzip,zstd");
        check(&encoding(), &["zstd;q=0.1, br", "X-GZIP ; q=1.000"], "br,gzip,zstd");
        check(&encoding(), &["gzip, br;q=0"], "gzip");
        check(&encoding(), &["gzip, identity;q=0"], "gzip,identity;q=0");
        check(&encoding(), &["gzip, *;q=0"], "gzip,*;q=0");
        check(&encoding(), &["*, gzip;q=0"], "gzip;q=0,*");
        check(&encoding(), &["identity"], "identity");
        check(&encoding(), &[""], "");
    }

    #[test]
    fn an_accept_encoding_that_is_not_understood_stands_for_itself() {
        let encoding = || header::ACCEPT_ENCODING;
        for odd in
            ["gzip,foo", "gzip;q=2", "gzip;q=0.1234", "gzip;x=1", "gzip;q=1;q=0", "gzip,gzip;q=0", "Gzip,foo"]
        {
            check(&encoding(), &[odd], odd);
        }
        check(&encoding(), &["gzip, foo"], "gzip,foo");
    }

    #[test]
    fn the_preferred_language_is_the_only_one_with_the_highest_weight() {
        for (lines, expected) in [
            (&["fr;q=0.5, de;q=1.0"][..], Some("de")),
            (&["fr;q=0.5", "de"], Some("de")),
            (&["fr, de"], None),
            (&["fr, de, en;q=0.9"], None),
            (&["de;q=0"], None),
            (&["*"], None),
            (&["de;q=x"], None),
            (&[], None),
        ] {
            let found = preferred_language(lines.iter().map(|line| line.as_bytes()));
            assert_eq!(found, expected.map(str::as_bytes), "{lines:?}");
        }
    }
}
