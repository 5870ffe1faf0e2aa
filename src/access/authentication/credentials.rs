//! `Proxy-Authorization`: syntax, and Digest's arithmetic. RFC 9110 section 11.4, RFC 7616 section 3.4, RFC 7617
//! section 2.

use super::digest::Algorithm;
use super::file::LONGEST_USER;
use crate::field::list;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, PROXY_AUTHORIZATION};
use http::{Method, Uri};
use std::borrow::Cow;
use subtle::ConstantTimeEq as _;

/// Longer passwords are nobody's, and SHA-crypt takes longer for them with their square.
const LONGEST_PASSWORD: usize = 512;
/// Longer texts of a Digest are nobody's either: ours are shorter, and cnonces are short everywhere.
const LONGEST_TEXT: usize = 512;

/// What a client says of itself.
#[derive(PartialEq, Eq)]
pub(super) enum Credentials {
    Basic { user: String, password: Vec<u8> },
    Digest(DigestResponse),
}

/// Neither passwords nor responses are shown.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Digest(_) => "Digest",
        })
    }
}

/// The parameters of Digest with qop=auth, without their quotes.
#[derive(PartialEq, Eq)]
pub(super) struct DigestResponse {
    pub(super) user: String,
    pub(super) realm: String,
    pub(super) algorithm: Algorithm,
    pub(super) nonce: String,
    /// `nc` as a number.
    pub(super) count: u32,
    /// `nc` as it was sent.
    nc: Vec<u8>,
    cnonce: Vec<u8>,
    uri: Vec<u8>,
    response: Vec<u8>,
}

impl Credentials {
    /// `None`: there are none. The error says what is wrong, and nothing of what is there.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, &'static str> {
        let mut lines = headers.get_all(PROXY_AUTHORIZATION).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err("there are several lines of it");
        }
        let line = list::trim(line.as_bytes());
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (scheme, rest) = line.split_at(end);
        if scheme.eq_ignore_ascii_case(b"basic") {
            basic(list::trim(rest)).map(Some)
        } else if scheme.eq_ignore_ascii_case(b"digest") {
            digest(rest).map(|response| Some(Self::Digest(response)))
        } else {
            Err("the scheme is neither Basic nor Digest")
        }
    }
}

fn basic(token: &[u8]) -> Result<Credentials, &'static str> {
    /// Characters of Base64 for the longest of both.
    const LONGEST: usize = (LONGEST_USER + 1 + LONGEST_PASSWORD).div_ceil(3) * 4;
    if token.len() > LONGEST {
        return Err("it is too long");
    }
    let mut decoded = STANDARD.decode(token).map_err(|_| "it is not Base64")?;
    let colon = decoded.iter().position(|byte| *byte == b':').ok_or("there is no colon in it")?;
    let password = decoded.split_off(colon + 1);
    decoded.truncate(colon);
    if password.len() > LONGEST_PASSWORD {
        return Err("the password is too long");
    }
    // RFC 7617 section 2: neither may hold control characters.
    if password.iter().any(u8::is_ascii_control) {
        return Err("the password has control characters");
    }
    Ok(Credentials::Basic { user: user(decoded)?, password })
}

fn user(bytes: Vec<u8>) -> Result<String, &'static str> {
    let user = String::from_utf8(bytes).map_err(|_| "the user is not UTF-8")?;
    if user.is_empty() || user.len() > LONGEST_USER || user.chars().any(char::is_control) {
        return Err("the user is empty, too long or has control characters");
    }
    Ok(user)
}

fn digest(parameters: &[u8]) -> Result<DigestResponse, &'static str> {
    const NAMES: [&[u8]; 10] = [
        b"username",
        b"realm",
        b"nonce",
        b"uri",
        b"response",
        b"algorithm",
        b"cnonce",
        b"nc",
        b"qop",
        b"userhash",
    ];
    let mut found: [Option<Cow<'_, [u8]>>; NAMES.len()] = Default::default();
    for member in list::members(std::iter::once(parameters)) {
        let equals = member.iter().position(|byte| *byte == b'=').ok_or("a parameter has no value")?;
        let (name, value) = (list::trim(&member[..equals]), list::trim(&member[equals + 1..]));
        if !list::is_token(name) {
            return Err("a parameter has no name");
        }
        // Others are ignored. RFC 7616 section 3.4: "Any new parameters MUST be ignored if not recognized".
        let Some(at) = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known)) else { continue };
        let value = list::token_or_quoted(value).ok_or("a parameter's value can't be read")?;
        if found[at].replace(value).is_some() {
            return Err("a parameter is there twice");
        }
    }
    let [username, realm, nonce, uri, response, algorithm, cnonce, nc, qop, userhash] = found;
    let text = |value: Option<Cow<'_, [u8]>>, missing: &'static str| {
        let value = value.ok_or(missing)?;
        if value.len() > LONGEST_TEXT { Err("a parameter is too long") } else { Ok(value.into_owned()) }
    };
    if userhash.is_some_and(|value| !value.eq_ignore_ascii_case(b"false")) {
        return Err("the user is hashed, which was not offered");
    }
    if !qop.ok_or("qop is missing")?.eq_ignore_ascii_case(b"auth") {
        return Err("qop is not auth");
    }
    let algorithm = match algorithm {
        None => Algorithm::Md5,
        Some(name) => Algorithm::ALL
            .into_iter()
            .find(|known| name.eq_ignore_ascii_case(known.name().as_bytes()))
            .ok_or("the algorithm is not offered")?,
    };
    let nc = text(nc, "nc is missing")?;
    let digits = std::str::from_utf8(&nc).ok().filter(|nc| nc.len() == 8 && !nc.starts_with('+'));
    let count = digits.and_then(|nc| u32::from_str_radix(nc, 16).ok()).ok_or("nc is not 8 digits")?;
    let mut response = text(response, "response is missing")?;
    response.make_ascii_lowercase();
    if response.len() != algorithm.digits() {
        return Err("response has not the algorithm's length");
    }
    let plain = |bytes: Vec<u8>, wrong: &'static str| String::from_utf8(bytes).map_err(|_| wrong);
    Ok(DigestResponse {
        user: user(text(username, "username is missing")?)?,
        realm: plain(text(realm, "realm is missing")?, "the realm is not UTF-8")?,
        algorithm,
        nonce: plain(text(nonce, "nonce is missing")?, "the nonce is not UTF-8")?,
        count,
        nc,
        cnonce: text(cnonce, "cnonce is missing")?,
        // As long as a target may be.
        uri: uri.ok_or("uri is missing")?.into_owned(),
        response,
    })
}

impl DigestResponse {
    /// Whether it was made for this target: as it was received, or the path of it alone, which curl and others say to
    /// a proxy as they do to an origin.
    pub(super) fn is_for(&self, uri: &Uri) -> bool {
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        if uri.scheme().is_some() && self.uri == path.as_bytes() {
            return true;
        }
        Uri::try_from(self.uri.as_slice()).is_ok_and(|given| given == *uri)
    }

    /// Whether it is the answer of whoever knows `first`, which is HA1.
    pub(super) fn is_right(&self, first: &str, method: &Method) -> bool {
        let algorithm = self.algorithm;
        let second = algorithm.hash(&[method.as_str().as_bytes(), &self.uri]);
        let expected = algorithm.hash(&[
            first.as_bytes(),
            self.nonce.as_bytes(),
            &self.nc,
            &self.cnonce,
            b"auth",
            second.as_bytes(),
        ]);
        expected.as_bytes().ct_eq(&self.response).into()
    }
}
