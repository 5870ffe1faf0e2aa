//! THE table of what happens to each field: hop-by-hop? stored? replaced by a 304? allowed as a trailer?
//!
//! RFC 9110 sections 6.5.1 and 7.6.1, RFC 9111 sections 3.1 and 3.2. A field that is not in the table is end-to-end,
//! may be named by Connection, is stored, is replaced by a 304 and may be a trailer.
//!
//! Stripping comes before everything that looks at the fields: what Connection removes must neither select a stored
//! response nor count as a condition, or a client could store one variant under another's name.
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, UPGRADE};

/// How one field is treated: independent answers, as columns of the table.
#[expect(clippy::struct_excessive_bools, reason = "one column each")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// Never passed on, never stored: about this connection or this proxy alone.
    pub hop_by_hop: bool,
    /// Connection can't remove it: caching, framing or security hang on it. RFC 9110 section 7.6.1.
    pub protected: bool,
    /// A 304 does not replace the stored lines: they describe the stored bytes. RFC 9111 section 3.2.
    pub kept_at_304: bool,
    /// Dropped from trailers: it would have been needed in the head. RFC 9110 section 6.5.1.
    pub not_a_trailer: bool,
}

const END_TO_END: Treatment =
    Treatment { hop_by_hop: false, protected: false, kept_at_304: false, not_a_trailer: false };
/// Removed at every hop.
const HOP: Treatment = Treatment { hop_by_hop: true, not_a_trailer: true, ..END_TO_END };
/// Connection can't name it, and the head is its only place.
const PROTECTED: Treatment = Treatment { protected: true, not_a_trailer: true, ..END_TO_END };
/// Describes the stored bytes.
const BYTES: Treatment = Treatment { kept_at_304: true, ..PROTECTED };
/// Only the head is its place.
const HEAD: Treatment = Treatment { not_a_trailer: true, ..END_TO_END };
/// May be a trailer, but Connection can't name it.
const KEPT: Treatment = Treatment { protected: true, ..END_TO_END };

/// Lower-case names. Ordered by length, so that a lookup compares with the few names that are as long.
#[rustfmt::skip]
const TABLE: &[(&str, Treatment)] = &[
    ("te", HOP),
    ("age", PROTECTED), ("via", KEPT),
    ("date", PROTECTED), ("etag", PROTECTED), ("host", PROTECTED), ("vary", PROTECTED),
    ("proxy", HOP), ("range", HEAD),
    ("cookie", HEAD), ("expect", HEAD), ("pragma", PROTECTED),
    ("expires", PROTECTED), ("trailer", HEAD), ("upgrade", HOP),
    ("if-match", HEAD), ("if-range", HEAD), ("location", HEAD),
    ("connection", HOP), ("keep-alive", HOP), ("set-cookie", PROTECTED),
    ("retry-after", HEAD), ("set-cookie2", PROTECTED),
    ("cache-status", KEPT), ("content-type", PROTECTED), ("max-forwards", PROTECTED), ("proxy-status", KEPT),
    ("authorization", PROTECTED), ("cache-control", PROTECTED), ("content-range", BYTES), ("if-none-match", HEAD),
    ("last-modified", PROTECTED),
    ("content-length", BYTES), ("http2-settings", HOP),
    ("content-encoding", BYTES), ("proxy-connection", HOP), ("www-authenticate", HEAD),
    ("if-modified-since", HEAD), ("transfer-encoding", HOP),
    ("proxy-authenticate", HOP),
    ("authentication-info", HEAD), ("if-unmodified-since", HEAD), ("proxy-authorization", HOP),
    ("proxy-authentication-info", HOP),
];

/// More trailers than this Connection names for nobody: then none goes on. Each is looked for among them.
const MOST_TRAILERS: usize = 64;

/// Longest name in the table.
const LONGEST: usize = "proxy-authentication-info".len();

/// `STARTS[n]` is where the names of `n` bytes begin.
const STARTS: [u8; LONGEST + 2] = {
    let mut starts = [0; LONGEST + 2];
    let mut at = 0;
    let mut length = 0;
    while length < starts.len() {
        while at < TABLE.len() && TABLE[at].0.len() < length {
            at += 1;
        }
        starts[length] = at as u8;
        length += 1;
    }
    starts
};

/// The treatment of a field.
pub fn of(name: &HeaderName) -> Treatment {
    of_name(name.as_str())
}

/// The same for a name in lower case.
fn of_name(name: &str) -> Treatment {
    if name.len() <= LONGEST {
        let same_length = usize::from(STARTS[name.len()])..usize::from(STARTS[name.len() + 1]);
        // Most names are told apart by their first byte, without a call that compares.
        let begins_alike = |known: &str| known.as_bytes().first() == name.as_bytes().first();
        let mut same = TABLE[same_length].iter().filter(|(known, _)| begins_alike(known));
        if let Some((_, treatment)) = same.find(|(known, _)| *known == name) {
            return *treatment;
        }
    }
    // Content-* describes the bytes; *-Cache-Control may be a targeted field (RFC 9213).
    if name.starts_with("content-") || name.ends_with("-cache-control") {
        return KEPT;
    }
    END_TO_END
}

/// Removes what is not for the origin: hop-by-hop fields and those that Connection names. `Expect` stays. TE, Upgrade
/// and Connection go too: whoever sends the request on writes its own.
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers);
}

/// Removes what is not for the client: hop-by-hop fields, a parent's or origin's authentication of proxies, and what
/// Connection names.
pub fn strip_response(headers: &mut HeaderMap) {
    strip(headers);
}

/// The same for an interim response, which has no content to be framed. RFC 9110 section 8.6: "A server MUST NOT send a
/// Content-Length header field in any response with a status code of 1xx".
pub fn strip_interim(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(CONTENT_LENGTH);
}

/// One pass over the names, nothing else, when there is nothing to remove.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        strip_named(headers);
    }
    // Seldom more than one or two; the names of the table are few.
    while let Some(name) = headers.keys().find(|name| of(name).hop_by_hop).cloned() {
        headers.remove(name);
    }
}

/// RFC 9110 section 7.6.1: "Intermediaries MUST [...] remove any header or trailer field(s) from the message with the
/// same name as the connection-option". Options that name a protected field are not followed.
fn strip_named(headers: &mut HeaderMap) {
    // No more than there are fields.
    for name in named(headers, |name| headers.contains_key(name), usize::MAX) {
        headers.remove(name);
    }
}

/// The trailer fields that Connection names, to be asked for before the head is stripped. Those that can't be trailers
/// anyway are left out, so that for most messages there is nothing to remember; of far too many the rest.
pub fn named_trailers(headers: &HeaderMap) -> Vec<HeaderName> {
    named(headers, |name| !not_a_trailer(name), MOST_TRAILERS)
}

/// Ends with the first that is one too many.
fn named(headers: &HeaderMap, counts: impl Fn(&HeaderName) -> bool, most: usize) -> Vec<HeaderName> {
    let mut named = Vec::new();
    for line in headers.get_all(CONNECTION) {
        for option in line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if option.is_empty() || option.eq_ignore_ascii_case(b"close") {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(option)
                && counts(&name)
                && !of(&name).protected
                && !named.contains(&name)
            {
                named.push(name);
                if named.len() > most {
                    return named;
                }
            }
        }
    }
    named
}

/// Whether a field of a (stripped) response is stored with it. RFC 9111 section 3.1.
pub fn is_stored(name: &HeaderName) -> bool {
    !of(name).hop_by_hop
}

/// Whether a 304's lines of this name replace the stored ones. RFC 9111 section 3.2. A different strong `ETag` is no
/// question of replacing: then the 304 is not about the stored response.
pub fn replaced_by_304(name: &HeaderName) -> bool {
    let treatment = of(name);
    !treatment.hop_by_hop && !treatment.kept_at_304
}

/// Removes fields that can't be trailers: framing, routing, authentication, conditions, caching, and what is about the
/// content. RFC 9110 section 6.5.1: a recipient must not merge those into the head. And those that Connection named, by
/// [`named_trailers`]; where these are too many, all.
pub fn strip_trailers(trailers: &mut HeaderMap, named: &[HeaderName]) {
    if named.len() > MOST_TRAILERS {
        return trailers.clear();
    }
    let forbidden = |name: &&HeaderName| not_a_trailer(name) || named.contains(name);
    let gone: Vec<_> = trailers.keys().filter(forbidden).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

fn not_a_trailer(name: &HeaderName) -> bool {
    of(name).not_a_trailer || name.as_str().starts_with("content-")
}

/// The protocols that Upgrade names, in order, where Connection has the option `upgrade`. RFC 9110 section 7.8.
pub fn upgrade_protocols(headers: &HeaderMap) -> Vec<&str> {
    if !has_option(headers, "upgrade") {
        return Vec::new();
    }
    let lines = headers.get_all(UPGRADE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|protocol| !protocol.is_empty()).collect()
}

/// Whether Connection has an option, in any case, on any line.
pub fn has_option(headers: &HeaderMap, option: &str) -> bool {
    let lines = headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    lines
        .flat_map(|line| line.split(|&byte| byte == b','))
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

#[cfg(test)]
mod tests;
