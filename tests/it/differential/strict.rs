//! RFC 9112 to the letter, and nothing beside it: what a sender may send as a request, byte by byte. Made without a look
//! at any other parser, so that it errs otherwise than these.

/// One request as it stands in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// Names in lower case, values without the white space around them.
    pub(super) fields: Vec<(String, String)>,
    /// How many bytes its content has without framing.
    pub(super) content: usize,
    /// How many bytes of the stream it is.
    pub(super) length: usize,
}

impl Request {
    /// The field's values on all its lines.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

/// What a stream begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Whole(Request),
    /// A head, and less content than it promises.
    Head(Request),
    /// Less than a head.
    Less,
}

/// Fields that would change a request's framing or its way, and that no trailer may be. RFC 9110 section 6.5.1.
const NOT_TRAILERS: [&str; 8] =
    ["content-length", "transfer-encoding", "host", "trailer", "connection", "expect", "te", "upgrade"];

/// Reads the first request of `stream`; an error says what is wrong with it.
pub(super) fn read(stream: &[u8]) -> Result<Begin, String> {
    let mut rest = stream;
    let Some(line) = line(&mut rest)? else { return Ok(Begin::Less) };
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(format!("no request line: {}", line.escape_ascii()));
    };
    if !is_token(method) {
        return Err(format!("no method: {}", method.escape_ascii()));
    }
    if !target.iter().all(|byte| (0x21..0x7f).contains(byte))
        || !(target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS"))
    {
        return Err(format!("neither origin-form nor OPTIONS *: {}", line.escape_ascii()));
    }
    if target.contains(&b'#') {
        return Err(format!("a fragment: {}", target.escape_ascii()));
    }
    if version != b"HTTP/1.1" {
        return Err(format!("another version: {}", version.escape_ascii()));
    }
    let Some(fields) = section(&mut rest)? else { return Ok(Begin::Less) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut request = Request { method: text(method), target: text(target), fields, content: 0, length: 0 };
    if request.all("host").count() != 1 {
        return Err(format!("{} Host lines", request.all("host").count()));
    }
    let whole = content(&mut request, &mut rest)?;
    request.length = stream.len() - rest.len();
    Ok(if whole { Begin::Whole(request) } else { Begin::Head(request) })
}

/// Reads what the head promises. RFC 9112 section 6.3. Whether all of it is there.
fn content(request: &mut Request, rest: &mut &[u8]) -> Result<bool, String> {
    let codings: Vec<_> = request.all("transfer-encoding").collect();
    let lengths: Vec<_> = request.all("content-length").collect();
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(true),
        ([], [length]) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("Content-Length {length:?}"));
            }
            let length = length.parse().map_err(|_| format!("Content-Length {length:?}"))?;
            let there = rest.len() >= length;
            request.content = length;
            *rest = &rest[length.min(rest.len())..];
            Ok(there)
        }
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => {
            let (there, size) = chunks(rest)?;
            request.content = size;
            Ok(there)
        }
        _ => Err(format!("framing by Transfer-Encoding {codings:?} and Content-Length {lengths:?}")),
    }
}

/// Reads chunks and trailers. Whether all of it is there, and how much content it has.
fn chunks(rest: &mut &[u8]) -> Result<(bool, usize), String> {
    let mut sum = 0_usize;
    loop {
        let Some(size) = line(rest)? else { return Ok((false, sum)) };
        if size.is_empty() || size.len() > 16 || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("a chunk's size: {}", size.escape_ascii()));
        }
        let size =
            size.iter().fold(0, |sum, digit| (sum << 4) | u64::from((*digit as char).to_digit(16).unwrap()));
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).unwrap();
        if rest.len() <= size {
            return Ok((false, sum));
        }
        sum += size;
        *rest = &rest[size..];
        match rest {
            [b'\r'] => return Ok((false, sum)),
            [b'\r', b'\n', ..] => *rest = &rest[2..],
            _ => return Err(format!("a chunk's end: {}", rest[..rest.len().min(8)].escape_ascii())),
        }
    }
    let Some(trailers) = section(rest)? else { return Ok((false, sum)) };
    match trailers.iter().find(|(name, _)| NOT_TRAILERS.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("{name} as a trailer")),
        None => Ok((true, sum)),
    }
}

/// Field lines up to an empty one.
fn section(rest: &mut &[u8]) -> Result<Option<Vec<(String, String)>>, String> {
    let mut fields = Vec::new();
    loop {
        let Some(line) = line(rest)? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or_else(|| format!("no colon: {}", line.escape_ascii()))?);
        let value = &value[1..];
        if !is_token(name) {
            return Err(format!("a field's name: {}", line.escape_ascii()));
        }
        if value.iter().any(|byte| matches!(byte, 0..=0x08 | 0x0a..=0x1f | 0x7f)) {
            return Err(format!("a control byte: {}", line.escape_ascii()));
        }
        let value: String = value.iter().copied().map(char::from).collect();
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// The next line without its CRLF; `None` while that is not there. A CR or an LF alone is an error.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
    let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return Ok(None) };
    match (rest[at], rest.get(at + 1)) {
        (b'\r', None) => Ok(None),
        (b'\r', Some(b'\n')) => {
            let line = &rest[..at];
            *rest = &rest[at + 2..];
            Ok(Some(line))
        }
        _ => Err(format!("a line's end: {}", rest[..rest.len().min(at + 8)].escape_ascii())),
    }
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[test]
fn what_is_not_strictly_a_request_is_none() {
    let whole = |stream: &str| match read(stream.as_bytes()) {
        Ok(Begin::Whole(request)) => Some((request.content, request.length)),
        _ => None,
    };
    let get = "GET /x HTTP/1.1\r\nHost: h\r\nX-A:\tb \r\n\r\n";
    assert_eq!(whole(&format!("{get}next")), Some((0, get.len())));
    let put = "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
    assert_eq!(whole(put), Some((10, put.len())));
    assert_eq!(whole("OPTIONS * HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"), Some((2, 52)));
    for cut in 0..put.len() {
        let begin = read(&put.as_bytes()[..cut]);
        let in_head = cut < put.find("\r\n\r\n").unwrap() + 4;
        assert!(
            if in_head { begin == Ok(Begin::Less) } else { matches!(begin, Ok(Begin::Head(_))) },
            "{cut}"
        );
    }
    for (what, wrong) in [
        ("a bare LF", get.replacen("\r\n", "\n", 1)),
        ("a bare CR", get.replace("\tb", "a\rb")),
        ("a folded line", get.replace("\tb", "\r\n b")),
        ("a space before the colon", get.replace("X-A:", "X-A :")),
        ("no name", get.replace("X-A:", ":")),
        ("no colon", get.replace("X-A:", "X-A")),
        ("a NUL", get.replace("\tb", "\0")),
        ("DEL", get.replace("\tb", "\x7f")),
        ("two spaces", get.replacen(' ', "  ", 1)),
        ("a tab", get.replacen(' ', "\t", 1)),
        ("absolute-form", get.replace("/x", "http://h/x")),
        ("*", get.replace("/x", "*")),
        ("a fragment", get.replace("/x", "/x#y")),
        ("a byte beyond ASCII", get.replace("/x", "/\u{e9}")),
        ("1.0", get.replace("1.1", "1.0")),
        ("0.9", get.replace(" HTTP/1.1", "")),
        ("an empty line before", format!("\r\n{get}")),
        ("no Host", get.replace("Host", "Ghost")),
        ("two Hosts", get.replace("X-A", "host")),
        ("no method", get.replace("GET", "")),
        ("a method of separators", get.replace("GET", "G(T")),
        ("no length", get.replace("X-A:\tb", "Content-Length: ")),
        ("a signed length", get.replace("X-A:\tb", "Content-Length: +0")),
        ("two lengths", get.replace("X-A:\tb", "Content-Length: 0\r\nContent-Length: 0")),
        ("both", put.replace("Host: h", "Host: h\r\nContent-Length: 0")),
        ("two codings", put.replace("chunked", "gzip, chunked")),
        ("a coding twice", put.replace("Host: h", "Host: h\r\nTransfer-Encoding: chunked")),
        ("an extension", put.replace("\na\r", "\na;b\r")),
        ("a size that is none", put.replace("\na\r", "\n0xa\r")),
        ("no size", put.replace("\na\r", "\n\r")),
        ("a chunk too long", put.replace("\na\r", "\n9\r")),
        ("a bare LF after a chunk", put.replace("9\r\n", "9\n")),
        ("a trailer that frames", put.replace("X: y", "Content-Length: 1")),
    ] {
        assert!(read(wrong.as_bytes()).is_err(), "{what}");
    }
}
