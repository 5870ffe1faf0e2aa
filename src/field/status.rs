//! `Cache-Status` (RFC 9211) and `Proxy-Status` (RFC 9209): the terms, and how they are written.
//!
//! Members of other caches and proxies stay as they were received; ours is a line behind theirs. Nothing here reads
//! received ones.
use http::StatusCode;
use http::header::{CACHE_STATUS, HeaderMap, HeaderName, HeaderValue};

use super::places;

/// `Proxy-Status`. RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The name of our member in both fields.
pub const NAME: &str = "larder";

/// Longest text of a `details` or `next-hop` parameter. Bytes: enough for a sentence, too short to flood a log.
const LONGEST_TEXT: usize = 256;

macro_rules! forwards {
    ($($(#[$doc:meta])* $name:ident = $token:literal;)*) => {
        /// Why a request was forwarded. RFC 9211 section 2.2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Forward { $($(#[$doc])* $name,)* }

        impl Forward {
            /// Every one, in the order of this table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The value of the `fwd` parameter.
            pub const fn token(self) -> &'static str { match self { $(Self::$name => $token,)* } }
        }
    };
}

forwards! {
    /// The cache is configured not to handle this request.
    Bypass = "bypass";
    /// The method's semantics require it.
    Method = "method";
    /// No stored response for the URI.
    UriMiss = "uri-miss";
    /// Stored responses for the URI, none selected by the request's fields.
    VaryMiss = "vary-miss";
    /// A fresh response was stored; the request's own directives forbade it.
    Request = "request";
    /// A response was selected, but it is stale.
    Stale = "stale";
    /// A partial response is stored that does not hold the range that was asked for.
    Partial = "partial";
}

macro_rules! errors {
    ($($name:ident = $token:literal, $status:ident, $says:literal, $todo:literal;)*) => {
        /// The types of error of RFC 9209 section 2.3 that this proxy generates.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProxyError { $(#[doc = $says] $name,)* }

        impl ProxyError {
            /// Every one, in the order of RFC 9209.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The value of the `error` parameter, and the metrics' label.
            pub const fn token(self) -> &'static str { match self { $(Self::$name => $token,)* } }

            /// The status code of an answer with this error: as RFC 9209 recommends, but 403 for what access refuses,
            /// 502 where no next hop was found, and 508 for a loop.
            pub const fn status(self) -> StatusCode { match self { $(Self::$name => StatusCode::$status,)* } }

            /// What failed: one sentence for a person.
            pub const fn says(self) -> &'static str { match self { $(Self::$name => $says,)* } }

            /// What to do about it: one sentence for a person.
            pub const fn todo(self) -> &'static str { match self { $(Self::$name => $todo,)* } }
        }
    };
}

errors! {
    DnsTimeout = "dns_timeout", GATEWAY_TIMEOUT,
        "The name server did not answer in time.",
        "Try again; if it stays, check the name server of the machine that the proxy runs on.";
    DnsError = "dns_error", BAD_GATEWAY,
        "The host's name could not be resolved to an address.",
        "Check the spelling of the host; if it is right, ask its owner or check the proxy's name server.";
    DestinationNotFound = "destination_not_found", BAD_GATEWAY,
        "The proxy found no way to the host.",
        "Check the address, and the proxy's configuration of parent proxies.";
    DestinationUnavailable = "destination_unavailable", SERVICE_UNAVAILABLE,
        "The server was unreachable a moment ago, and is not tried again yet.",
        "Try again in a moment.";
    DestinationIpProhibited = "destination_ip_prohibited", FORBIDDEN,
        "The host's address is one that this proxy may not connect to.",
        "If it should be reachable, ask the proxy's operator to allow it.";
    DestinationIpUnroutable = "destination_ip_unroutable", BAD_GATEWAY,
        "There is no route to the host's address.",
        "Check the network of the machine that the proxy runs on.";
    ConnectionRefused = "connection_refused", BAD_GATEWAY,
        "The server refused the connection.",
        "Check the port; if it is right, the server is probably not running.";
    ConnectionTerminated = "connection_terminated", BAD_GATEWAY,
        "The server closed the connection without an answer.",
        "Try again; if it stays, the server is at fault.";
    ConnectionTimeout = "connection_timeout", GATEWAY_TIMEOUT,
        "The server could not be connected to in time.",
        "Try again; if it stays, the server is down or a firewall drops the packets.";
    ConnectionReadTimeout = "connection_read_timeout", GATEWAY_TIMEOUT,
        "The server stopped sending.",
        "Try again.";
    ConnectionWriteTimeout = "connection_write_timeout", GATEWAY_TIMEOUT,
        "The server stopped reading the request.",
        "Try again.";
    ConnectionLimitReached = "connection_limit_reached", SERVICE_UNAVAILABLE,
        "The proxy has as many connections to this server as it may open.",
        "Try again in a moment.";
    TlsProtocolError = "tls_protocol_error", BAD_GATEWAY,
        "The TLS handshake with the server failed.",
        "Check that the port speaks TLS, in version 1.2 or 1.3.";
    TlsCertificateError = "tls_certificate_error", BAD_GATEWAY,
        "The server's certificate is not valid for this host.",
        "Check the host's name and the proxy's clock; else the server's owner has to mend the certificate.";
    TlsAlertReceived = "tls_alert_received", BAD_GATEWAY,
        "The server ended the TLS handshake with an alert.",
        "Check that the host's name is right for this server.";
    HttpRequestError = "http_request_error", BAD_REQUEST,
        "The request is not valid HTTP.",
        "Check the program that sent it.";
    HttpRequestDenied = "http_request_denied", FORBIDDEN,
        "This proxy's rules do not allow the request.",
        "If it should be allowed, ask the proxy's operator.";
    HttpResponseIncomplete = "http_response_incomplete", BAD_GATEWAY,
        "The server's answer broke off.",
        "Try again.";
    HttpResponseHeaderSectionSize = "http_response_header_section_size", BAD_GATEWAY,
        "The head of the server's answer is too large.",
        "The proxy's operator can raise limits.response_head or limits.response_fields.";
    HttpResponseTransferCoding = "http_response_transfer_coding", BAD_GATEWAY,
        "The server's answer could not be decoded from its transfer coding.",
        "The server is at fault; its owner has to mend it.";
    HttpResponseContentCoding = "http_response_content_coding", BAD_GATEWAY,
        "The server's answer could not be decoded from its content coding.",
        "The server is at fault; its owner has to mend it.";
    HttpResponseTimeout = "http_response_timeout", GATEWAY_TIMEOUT,
        "The server took the request, but did not answer in time.",
        "Try again; for slow servers, the proxy's operator can raise upstream.first_byte_timeout.";
    HttpUpgradeFailed = "http_upgrade_failed", BAD_GATEWAY,
        "The change to another protocol failed.",
        "Check that the server speaks the protocol that was asked for.";
    HttpProtocolError = "http_protocol_error", BAD_GATEWAY,
        "The server's answer is not valid HTTP.",
        "Check the port; if it is right, the server is at fault.";
    ProxyInternalResponse = "proxy_internal_response", BAD_GATEWAY,
        "The proxy made this answer itself.",
        "Nothing has to be done.";
    ProxyInternalError = "proxy_internal_error", INTERNAL_SERVER_ERROR,
        "The proxy failed.",
        "Try again; if it stays, tell the proxy's operator the id below.";
    ProxyConfigurationError = "proxy_configuration_error", INTERNAL_SERVER_ERROR,
        "The proxy's configuration does not let it answer this request.",
        "Tell the proxy's operator the id below.";
    ProxyLoopDetected = "proxy_loop_detected", LOOP_DETECTED,
        "The request came back to this proxy: it runs in a loop.",
        "Check the proxy settings of the client, of the host's address and of parent proxies.";
}

/// Our member of `Cache-Status`. RFC 9211 section 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Answered from the store, without going forward.
    pub hit: bool,
    /// Why it went forward; left out with `hit`.
    pub forward: Option<Forward>,
    /// The status that was received, where it differs from the one sent.
    pub forward_status: Option<StatusCode>,
    /// Whether the response was stored.
    pub stored: bool,
    /// Whether it was answered by another request's fetch.
    pub collapsed: bool,
    /// Seconds of freshness left, negative when stale.
    pub ttl: Option<i64>,
    /// A token of the closed set of reasons.
    pub detail: Option<&'static str>,
}

impl CacheStatus {
    /// Adds our member behind those of others: `larder; hit; ttl=30`. One allocation, no formatting machinery.
    pub fn append(&self, headers: &mut HeaderMap) {
        if let Some(value) = self.value() {
            places::append(headers, CACHE_STATUS, value);
        }
    }

    fn value(&self) -> Option<HeaderValue> {
        let mut line = Line::new(NAME);
        if self.hit {
            line.put("; hit");
        } else if let Some(forward) = self.forward {
            line.put("; fwd=");
            line.put(forward.token());
        }
        if let Some(status) = self.forward_status {
            line.put("; fwd-status=");
            line.put(status.as_str());
        }
        if let Some(ttl) = self.ttl {
            line.put("; ttl=");
            line.put_integer(ttl);
        }
        for (name, set) in [("; stored", self.stored), ("; collapsed", self.collapsed)] {
            if set {
                line.put(name);
            }
        }
        if let Some(detail) = self.detail {
            line.put("; detail=");
            line.put(detail);
        }
        HeaderValue::from_bytes(line.written()).ok()
    }
}

/// Text in a fixed buffer, long enough for the longest `Cache-Status` member there can be (shown by a test). What does
/// not fit is left out.
struct Line {
    bytes: [u8; 192],
    length: usize,
}

impl Line {
    fn new(start: &str) -> Self {
        let mut line = Self { bytes: [0; 192], length: 0 };
        line.put(start);
        line
    }

    fn put(&mut self, text: &str) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + text.len()) {
            room.copy_from_slice(text.as_bytes());
            self.length += text.len();
        }
    }

    /// RFC 8941 section 3.3.1: at most 15 digits.
    fn put_integer(&mut self, value: i64) {
        let value = value.clamp(-999_999_999_999_999, 999_999_999_999_999);
        if value < 0 {
            self.put("-");
        }
        let mut digits = [0; 15];
        let mut start = digits.len();
        let mut rest = value.unsigned_abs();
        while start > 0 {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if let Ok(digits) = str::from_utf8(&digits[start..]) {
            self.put(digits);
        }
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Our member of `Proxy-Status`. RFC 9209 section 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyStatus<'a> {
    /// What failed.
    pub error: Option<ProxyError>,
    /// The status that the next hop sent, where ours differs.
    pub received_status: Option<StatusCode>,
    /// Who was asked: a name or an address.
    pub next_hop: Option<&'a str>,
    /// The rule of access that refused (a parameter of our own).
    pub rule: Option<&'a str>,
    /// One sentence.
    pub details: Option<&'a str>,
}

impl ProxyStatus<'_> {
    /// Adds our member behind those of others: `larder; error=dns_error; details="..."`.
    pub fn append(&self, headers: &mut HeaderMap) {
        let mut line = String::from(NAME);
        if let Some(error) = self.error {
            line.push_str("; error=");
            line.push_str(error.token());
        }
        if let Some(status) = self.received_status {
            line.push_str("; received-status=");
            line.push_str(status.as_str());
        }
        for (name, text) in
            [("; next-hop=", self.next_hop), ("; rule=", self.rule), ("; details=", self.details)]
        {
            if let Some(text) = text {
                line.push_str(name);
                push_string(&mut line, text);
            }
        }
        if let Ok(value) = HeaderValue::try_from(line) {
            headers.append(PROXY_STATUS, value);
        }
    }
}

/// RFC 8941 section 3.3.3: printable ASCII in quotes, `"` and `\` escaped. Other characters are dropped.
fn push_string(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars().filter(|c| matches!(c, ' '..='~')).take(LONGEST_TEXT) {
        if matches!(character, '"' | '\\') {
            line.push('\\');
        }
        line.push(character);
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: CacheStatus, expected: &str) {
        let mut headers = HeaderMap::new();
        status.append(&mut headers);
        assert_eq!(headers[CACHE_STATUS], expected);
    }

    #[test]
    fn cache_status_says_what_happened() {
        check(CacheStatus { hit: true, ttl: Some(30), ..CacheStatus::default() }, "larder; hit; ttl=30");
        check(CacheStatus { hit: true, ttl: Some(-5), ..CacheStatus::default() }, "larder; hit; ttl=-5");
        check(CacheStatus { hit: true, ttl: Some(0), ..CacheStatus::default() }, "larder; hit; ttl=0");
        check(
            CacheStatus {
                forward: Some(Forward::UriMiss),
                stored: true,
                ttl: Some(60),
                ..CacheStatus::default()
            },
            "larder; fwd=uri-miss; ttl=60; stored",
        );
        check(
            CacheStatus {
                forward: Some(Forward::Stale),
                forward_status: Some(StatusCode::NOT_MODIFIED),
                collapsed: true,
                detail: Some("expired"),
                ..CacheStatus::default()
            },
            "larder; fwd=stale; fwd-status=304; collapsed; detail=expired",
        );
        // A hit went nowhere.
        check(
            CacheStatus { hit: true, forward: Some(Forward::Stale), ..CacheStatus::default() },
            "larder; hit",
        );
    }

    #[test]
    fn the_longest_cache_status_fits_the_buffer() {
        // Far longer than any reason's token.
        let longest = "a-reason-that-would-be-far-too-long-for-a-token-of-the-closed-set";
        let forward = Forward::ALL.iter().copied().max_by_key(|forward| forward.token().len());
        let status = CacheStatus {
            hit: false,
            forward,
            forward_status: Some(StatusCode::NOT_MODIFIED),
            stored: true,
            collapsed: true,
            ttl: Some(i64::MIN),
            detail: Some(longest),
        };
        let value = status.value().unwrap();
        let text = value.to_str().unwrap();
        assert!(
            text.ends_with(&format!("; ttl=-999999999999999; stored; collapsed; detail={longest}")),
            "{text}"
        );
    }

    #[test]
    fn members_of_others_stay_and_ours_is_last() {
        let mut headers = HeaderMap::new();
        headers.append(CACHE_STATUS, HeaderValue::from_static("a; hit, b; fwd=miss"));
        headers.append(CACHE_STATUS, HeaderValue::from_static("c"));
        headers.append(PROXY_STATUS, HeaderValue::from_static("a"));
        CacheStatus { hit: true, ..CacheStatus::default() }.append(&mut headers);
        ProxyStatus { error: Some(ProxyError::DnsError), ..ProxyStatus::default() }.append(&mut headers);
        let lines = |name| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(lines(CACHE_STATUS), ["a; hit, b; fwd=miss", "c", "larder; hit"]);
        assert_eq!(lines(PROXY_STATUS), ["a", "larder; error=dns_error"]);
    }

    #[test]
    fn proxy_status_escapes_and_drops_what_a_string_cannot_hold() {
        let mut headers = HeaderMap::new();
        ProxyStatus {
            error: Some(ProxyError::ConnectionRefused),
            received_status: Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED),
            next_hop: Some("b\u{fc}cher.example\r\nX: y"),
            rule: Some("connect-port"),
            details: Some(r#"say "no" \ twice"#),
        }
        .append(&mut headers);
        assert_eq!(
            headers[PROXY_STATUS],
            r#"larder; error=connection_refused; received-status=407; next-hop="bcher.exampleX: y"; rule="connect-port"; details="say \"no\" \\ twice""#
        );
    }

    #[test]
    fn both_fields_are_valid_structured_fields() {
        let mut headers = HeaderMap::new();
        CacheStatus {
            forward: Some(Forward::VaryMiss),
            ttl: Some(-3),
            detail: Some("vary-mismatch"),
            ..CacheStatus::default()
        }
        .append(&mut headers);
        ProxyStatus {
            error: Some(ProxyError::TlsCertificateError),
            details: Some("a \"b\", c; d"),
            ..ProxyStatus::default()
        }
        .append(&mut headers);
        for name in [CACHE_STATUS, PROXY_STATUS] {
            let list = sfv::Parser::new(headers[&name].as_bytes()).parse::<sfv::List>().unwrap();
            assert_eq!(list.len(), 1, "{name}");
        }
    }

    #[test]
    fn failures_towards_the_origin_are_gateway_errors() {
        for error in ProxyError::ALL {
            assert!(error.status().is_client_error() || error.status().is_server_error(), "{error:?}");
            assert!(error.says().ends_with('.') && error.todo().ends_with('.'), "{error:?}");
        }
        assert_eq!(ProxyError::ConnectionRefused.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(ProxyError::ConnectionTimeout.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(ProxyError::DestinationIpProhibited.status(), StatusCode::FORBIDDEN);
        assert_eq!(ProxyError::ProxyLoopDetected.status(), StatusCode::LOOP_DETECTED);
    }
}
