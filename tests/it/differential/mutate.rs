//! Requests as they are and as nobody should send them, drawn from a seed.
//!
//! Each stream is made of one to three shapes, and a few changes to their bytes. [`AUTHORITY`] stands for where the
//! origin is, and is filled in last, so that the same seed makes the same streams.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Stands for the origin's authority.
const AUTHORITY: u8 = 0xf7;

/// A client's bytes, and where they are cut into writes.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    bytes: Vec<u8>,
    cuts: Vec<usize>,
    /// How many whole requests it has at most, where that is known.
    pub(super) whole: Option<usize>,
}

impl Stream {
    /// The one of that number.
    pub(super) fn draw(seed: u64, number: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..random.random_range(1..=3) {
            bytes.extend(shape(&mut random));
            ends.push(bytes.len());
        }
        let changes = [0, 1, 1, 1, 1, 2, 2, 4].choose(&mut random).copied().unwrap();
        for _ in 0..changes {
            change(&mut bytes, &mut random);
        }
        // Those that are as they should be may break off.
        if changes == 0 && random.random_bool(0.5) {
            bytes.truncate(at(&bytes, &mut random));
        }
        let whole = (changes == 0).then(|| ends.iter().filter(|end| **end <= bytes.len()).count());
        let mut cuts: Vec<_> = (0..random.random_range(0..3)).map(|_| at(&bytes, &mut random)).collect();
        cuts.sort_unstable();
        Self { bytes, cuts, whole }
    }

    /// The bytes of each write, for an origin at `authority`.
    pub(super) fn writes(&self, authority: &str) -> Vec<Vec<u8>> {
        let mut writes = Vec::new();
        let mut from = 0;
        for to in self.cuts.iter().copied().chain([self.bytes.len()]) {
            let part = self.bytes[from..to].iter();
            writes.push(
                part.flat_map(|byte| match *byte {
                    AUTHORITY => authority.as_bytes().to_vec(),
                    byte => vec![byte],
                })
                .collect(),
            );
            from = to;
        }
        writes
    }
}

/// Requests; `@` is the origin's authority, which has 15 bytes, and lines end with an LF here.
const SHAPES: &[&str] = &[
    // Targets and versions.
    "GET http://@/a HTTP/1.1\nHost: @\n\n",
    "GET http://@/a?b=c&d=%20 HTTP/1.1\nHost: @\nAccept: */*\n\n",
    "GET http://@?q HTTP/1.1\nHost: @\n\n",
    "GET http://@ HTTP/1.1\nHost: @\n\n",
    "GET HTTP://@/%zz/%00/%0d%0a/.. HTTP/1.1\nHost: @\n\n",
    "GET http://u:p@@/a HTTP/1.1\nHost: @\n\n",
    "GET http://@//b/../c;d?e?f HTTP/1.1\nHost: other.test\n\n",
    "GET http://@/a|b\"c<d>e`f{g}h\\i^j HTTP/1.1\nHost: @\n\n",
    "GET http://@/\u{e9}\u{4e2d} HTTP/1.1\nHost: @\n\n",
    "GET http://@/a#b HTTP/1.1\nHost: @\n\n",
    "GET http://@/a HTTP/1.0\n\n",
    "GET http://@/a HTTP/1.0\nHost: @\nConnection: keep-alive\n\n",
    "OPTIONS http://@ HTTP/1.1\nHost: @\n\n",
    "OPTIONS http://@/a HTTP/1.1\nHost: @\nMax-Forwards: 2\n\n",
    "\n\nHEAD http://@/a HTTP/1.1\nHost: @\n\n",
    // Methods.
    "DELETE http://@/a HTTP/1.1\nHost: @\n\n",
    "PROPFIND http://@/a HTTP/1.1\nHost: @\nDepth: 1\nContent-Length: 4\n\n<a/>",
    "get http://@/a HTTP/1.1\nHost: @\n\n",
    "M-SEARCH http://@/a HTTP/1.1\nHost: @\n\n",
    "X!#$%&'*+.^_`|~ http://@/a HTTP/1.1\nHost: @\n\n",
    // Fields.
    "GET http://@/a HTTP/1.1\nHost: @\nX-A: \t b \t\nX-B:\nX-A:c\nx_c: d\nX.D: \u{e9}\n\n",
    "GET http://@/a HTTP/1.1\nHost: @\nConnection: X-A, Host, Content-Length, close\nX-A: b\nKeep-Alive: 1\n\n",
    "GET http://@/a HTTP/1.1\nHost: @\nProxy-Connection: keep-alive\nTE: trailers, deflate\nCookie: a=b; c=d\n\n",
    "GET http://@/a HTTP/1.1\nHost: @\nRange: bytes=0-1\nIf-None-Match: \"a\"\nCache-Control: no-cache\n\n",
    "GET http://@/a HTTP/1.1\nHost: @\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n",
    "GET http://@/a HTTP/1.1\nHost: @\nUpgrade: h2c\nConnection: Upgrade, HTTP2-Settings\nHTTP2-Settings: AAMAAABk\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nUpgrade: x\nConnection: Upgrade\nContent-Length: 3\n\nabc",
    // Content by length.
    "POST http://@/a HTTP/1.1\nHost: @\nContent-Length: 5\n\nhello",
    "POST http://@/a HTTP/1.1\nHost: @\nContent-Length: 0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\n\n",
    "PUT http://@/a HTTP/1.0\nContent-Length: 5\n\nhello",
    "PUT http://@/a HTTP/1.1\nHost: @\nContent-Length: 005\n\nhello",
    "PUT http://@/a HTTP/1.1\nHost: @\nContent-Length: 5\nContent-Length: 5\n\nhello",
    "GET http://@/a HTTP/1.1\nHost: @\nContent-Length: 4\n\nbody",
    "HEAD http://@/a HTTP/1.1\nHost: @\nContent-Length: 4\n\nbody",
    "DELETE http://@/a HTTP/1.1\nHost: @\nConnection: Content-Length\nContent-Length: 4\n\nbody",
    "PUT http://@/a HTTP/1.1\nHost: @\nContent-Length: 5\nExpect: 100-continue\n\nhello",
    "PUT http://@/a HTTP/1.1\nHost: @\nContent-Length: 5\nExpect: 200-maybe\n\nhello",
    "POST http://@/a HTTP/1.1\nHost: @\nContent-Length: 55\n\nGET http://@/hidden HTTP/1.1\nHost: h\n\n",
    // Content in chunks.
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\n\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: Chunked\n\n3;a=b;c=\"d;e\"\nabc\n2 \nde\n000;f\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\nTrailer: X-T\nTE: trailers\n\n1\na\n0\nX-T: u\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\nConnection: TE\nTE: trailers\n\nA\n0123456789\n0\nX-T: u\nContent-Length: 1\nHost: h\n\n",
    "GET http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\nExpect: 100-continue\n\n3\nabc\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\n\n37\nGET http://@/hidden HTTP/1.1\nHost: h\n\n\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nConnection: Transfer-Encoding\nTransfer-Encoding: chunked\n\n1\na\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer_Encoding: chunked\nContent_Length: 3\nContent-Length: 1\n\na",
];

/// What a proxy refuses, or answers itself.
const WRONG: &[&str] = &[
    "GET /a HTTP/1.1\nHost: @\n\n",
    "GET * HTTP/1.1\nHost: @\n\n",
    "GET @ HTTP/1.1\nHost: @\n\n",
    "GET http://@/a\n",
    "OPTIONS * HTTP/1.1\nHost: @\nMax-Forwards: 0\n\n",
    "CONNECT @ HTTP/1.1\nHost: @\n\n",
    "TRACE http://@/a HTTP/1.1\nHost: @\n\n",
    "GET http://@/a HTTP/1.1\nHost: @\nX-A: b\n c\n\n",
    "GET http://@/a HTTP/1.1\nHost : @\n\n",
    "GET http://@/a HTTP/1.1\n Host: @\nHost: @\n\n",
    "GET http://@/a HTTP/1.1\nHost: @\nHost: other.test\n\n",
    "PUT http://@/a HTTP/1.1\nHost: @\nContent-Length: 5, 5\n\nhello",
    "PUT http://@/a HTTP/1.1\nHost: @\nContent-Length: 5\nContent-Length: 0\n\nhello",
    "PUT http://@/a HTTP/1.1\nHost: @\nContent-Length: +5\n\nhello",
    "POST http://@/a HTTP/1.1\nHost: @\nContent-Length: 6\nTransfer-Encoding: chunked\n\n0\n\nG",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\nContent-Length: 3\n\n1\na\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: gzip, chunked\n\n1\na\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked, identity\n\n1\na\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: chunked\nTransfer-Encoding: cow\n\n1\na\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding : chunked\n\n1\na\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nTransfer-Encoding: \x0bchunked\nContent-Length: 3\n\n1\na\n0\n\n",
    "POST http://@/a HTTP/1.1\nHost: @\nX-A: b\rTransfer-Encoding: chunked\nContent-Length: 1\n\na",
    "POST http://@/a HTTP/1.1\nHost: @\nX: y\n\tTransfer-Encoding: chunked\nContent-Length: 1\n\na",
    "POST http://@/a HTTP/1.0\nTransfer-Encoding: chunked\n\n1\na\n0\n\n",
];

/// What is put in somewhere.
const TOKENS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    "\n\r",
    "\r\r\n",
    "\r\n ",
    "\r\n\t",
    "\n ",
    " ",
    "\t",
    "  ",
    "\0",
    "\x0b",
    "\x0c",
    "\x7f",
    "\x1b",
    "\x08",
    "\u{85}",
    "\u{a0}",
    "\u{10a}",
    "\u{10d}",
    "\u{2028}",
    ":",
    ": ",
    " :",
    ",",
    ", ",
    ";",
    ";a=b",
    ";a=\"\r\n\"",
    "\"",
    "\\",
    "#",
    "?",
    "%",
    "%0d%0a",
    "%00",
    "%20HTTP/1.1",
    "@",
    "//",
    "/../",
    "..;/",
    "*",
    "+",
    "-",
    "_",
    "0x",
    "0",
    "00",
    "1",
    "7",
    "ffffffffffffffff",
    "10000000000000000",
    "18446744073709551616",
    "4294967296",
    "5",
    ", 5",
    "chunked",
    ", chunked",
    "chunked, ",
    "identity",
    "xchunked",
    "\x0bchunked",
    "0\r\n\r\n",
    "0\r\n",
    "1\r\na\r\n",
    "1;\r\na\r\n",
    "1\na\n",
    "0\n\n",
    "5\r\nhello\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 1\r\n",
    "Content-Length:\r\n",
    "Content-Length: 3 \r\n",
    "Content-Length\t: 5\r\n",
    "content_length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding:\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "transfer-encoding:chunked\n",
    "Transfer-Encoding\r\n : chunked\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Host: other.test\r\n",
    "Host:\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Connection: Transfer-Encoding\r\n",
    "Connection: Content-Length, Host\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Trailer: Content-Length\r\n",
    "X-A: b\r\n",
    "X-A: b\n",
    ": b\r\n",
    "X-A\r\n",
    "X-T: u\r\n",
    "GET http://@/hidden HTTP/1.1\r\nHost: @\r\n\r\n",
    "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n",
    " HTTP/1.1",
    " HTTP/1.0",
    " HTTP/0.9",
    "HTTP/1.1 200 OK\r\n\r\n",
    "http://",
    "http:",
    "https://@/",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "X-A:",
];

/// Bytes that mean something to some parser.
const BYTES: &[u8] =
    b"\0\x01\x08\t\n\x0b\x0c\r\x1b \"#%&'*+,-./:;<=>?@[\\]_{|}~\x7f\x80\x85\xa0\xff09aAfFgxX";

/// With the origin's place marked.
fn marked(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for at in 0..bytes.len() {
        // Two of them are userinfo's, and the authority.
        if bytes[at] == b'@' && bytes.get(at + 1) != Some(&b'@') {
            bytes[at] = AUTHORITY;
        }
    }
    bytes
}

fn shape(random: &mut StdRng) -> Vec<u8> {
    let shapes = if random.random_bool(0.1) { WRONG } else { SHAPES };
    let shape = shapes.choose(random).unwrap();
    marked(shape)
        .into_iter()
        .flat_map(|byte| if byte == b'\n' { vec![b'\r', b'\n'] } else { vec![byte] })
        .collect()
}

/// A place in the bytes; half of them where lines begin or end, or next to what separates.
fn at(bytes: &[u8], random: &mut StdRng) -> usize {
    if random.random_bool(0.5) {
        return random.random_range(0..=bytes.len());
    }
    let telling: Vec<_> = (0..bytes.len()).filter(|at| b"\r\n:; ,".contains(&bytes[*at])).collect();
    let at = telling.choose(random).copied().unwrap_or(0);
    (at + random.random_range(0..=1)).min(bytes.len())
}

/// Begin and end of a line, with what ends it.
fn line(bytes: &[u8], random: &mut StdRng) -> std::ops::Range<usize> {
    let at = random.random_range(0..=bytes.len());
    let begin = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| at + end + 1);
    begin..end
}

fn change(bytes: &mut Vec<u8>, random: &mut StdRng) {
    let place = at(bytes, random);
    match random.random_range(0..16) {
        0 => {
            if let Some(byte) = bytes.get_mut(place).filter(|byte| **byte != AUTHORITY) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = *BYTES.choose(random).unwrap();
            }
        }
        2 => bytes.insert(place, *BYTES.choose(random).unwrap()),
        3..=6 => {
            let token = marked(TOKENS.choose(random).unwrap());
            bytes.splice(place..place, token);
        }
        7 => {
            let end = (place + random.random_range(1..=4)).min(bytes.len());
            bytes.drain(place..end);
        }
        8 => {
            let line = line(bytes, random);
            let copy = bytes[line.clone()].to_vec();
            bytes.splice(line.end..line.end, copy);
        }
        9 => {
            let line = line(bytes, random);
            bytes.drain(line);
        }
        10 => {
            // To another place, which is the end of another line.
            let taken = line(bytes, random);
            let taken: Vec<_> = bytes.drain(taken).collect();
            let to = line(bytes, random).end;
            bytes.splice(to..to, taken);
        }
        11 => {
            let line = line(bytes, random);
            for byte in &mut bytes[line] {
                if byte.is_ascii_alphabetic() && random.random_bool(0.5) {
                    *byte ^= 0x20;
                }
            }
        }
        12 => {
            // Another line end.
            if let Some(cr) =
                (0..bytes.len()).filter(|at| bytes[*at] == b'\r').collect::<Vec<_>>().choose(random)
            {
                bytes.remove(*cr);
            }
        }
        13 => bytes.truncate(place),
        14 => {
            let digits: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
            if let Some(digit) = digits.choose(random) {
                bytes[*digit] = b'0' + random.random_range(0..10_u8);
            }
        }
        _ => {
            let copy = bytes.get(place).copied().unwrap_or(b'0');
            let count = *[2, 8, 70, 300].choose(random).unwrap();
            let count = if copy == AUTHORITY { 1 } else { count };
            bytes.splice(place..place, vec![copy; count]);
        }
    }
}
