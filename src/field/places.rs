//! Places for the fields that every response from the store gets, kept in its map from the begin.
//!
//! A clone of a map has room for what it has and no more: the first field that is added moves all of it into a larger
//! allocation, which costs as much as four look-ups. So the map that is cloned holds an empty value for each of them,
//! and [`append`] fills it.

use http::header::{AGE, CACHE_STATUS, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, header::Entry};

/// Adds an empty value for Age, Via and Cache-Status, where there is none yet.
pub fn keep(map: &mut HeaderMap) {
    for name in [AGE, VIA, CACHE_STATUS] {
        if let Ok(Entry::Vacant(place)) = map.try_entry(name) {
            // A map that is full keeps its fields.
            drop(place.try_insert(HeaderValue::from_static("")));
        }
    }
}

/// Adds a line behind those of others, in the place that is kept for it if there is one. An empty line of others that
/// stands alone says nothing, and may go.
pub fn append(map: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    match map.try_entry(name) {
        Ok(Entry::Occupied(mut place)) if place.get().is_empty() && place.iter().nth(1).is_none() => {
            drop(place.insert(value));
        }
        Ok(Entry::Occupied(mut place)) => place.append(value),
        Ok(Entry::Vacant(place)) => drop(place.try_insert(value)),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        lines.iter().map(line).fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    #[test]
    fn a_kept_place_is_filled_and_lines_of_others_stay_before_ours() {
        for (before, expected) in [
            (&[][..], &[("age", ""), ("via", "ours"), ("cache-status", "")][..]),
            (&[("via", "theirs")], &[("via", "theirs"), ("via", "ours"), ("age", ""), ("cache-status", "")]),
            (
                &[("via", "a"), ("x", "y"), ("via", "b")],
                &[("via", "a"), ("via", "b"), ("via", "ours"), ("x", "y"), ("age", ""), ("cache-status", "")],
            ),
            (
                &[("via", ""), ("via", "theirs")],
                &[("via", ""), ("via", "theirs"), ("via", "ours"), ("age", ""), ("cache-status", "")],
            ),
            (&[("age", "7")], &[("age", "7"), ("via", "ours"), ("cache-status", "")]),
        ] {
            let mut map = headers(before);
            keep(&mut map);
            append(&mut map, VIA, HeaderValue::from_static("ours"));
            assert_eq!(map, headers(expected), "{before:?}");
        }
    }

    #[test]
    fn where_no_place_is_kept_a_line_is_added() {
        let mut map = headers(&[("via", "theirs")]);
        append(&mut map, VIA, HeaderValue::from_static("ours"));
        append(&mut map, CACHE_STATUS, HeaderValue::from_static("larder"));
        assert_eq!(map, headers(&[("via", "theirs"), ("via", "ours"), ("cache-status", "larder")]));
    }
}
