//! Why the way to an origin failed, in the terms of RFC 9209 section 2.3.
//!
//! What a failure means for the client (502, 504, 403, a stale response) is decided elsewhere.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::stats::Bound;
use crate::access::Denied;
use crate::body;
use crate::field::status::ProxyError;

/// A failure before a response head could be handed out.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct UpstreamError {
    /// Its type. RFC 9209 section 2.3.
    pub kind: ProxyError,
    /// What happened, in words that an error page can show. Holds no query and no credentials.
    pub what: String,
    /// The address that was dialled, where it came to that.
    pub address: Option<SocketAddr>,
    /// The rule that forbade the destination; then `kind` is `DestinationIpProhibited`.
    pub denied: Option<Box<Denied>>,
    /// The limit that was reached, where it was one.
    pub bound: Option<Bound>,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl UpstreamError {
    pub(super) fn new(kind: ProxyError, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), address: None, denied: None, bound: None, source: None }
    }

    pub(super) fn caused(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    pub(super) fn over(mut self, bound: impl Into<Option<Bound>>) -> Self {
        self.bound = bound.into();
        self
    }

    pub(super) fn at(mut self, address: SocketAddr) -> Self {
        self.address.get_or_insert(address);
        self
    }

    pub(super) fn denied(denied: Denied, address: SocketAddr) -> Self {
        Self { address: Some(address), ..Self::refused(denied) }
    }

    /// An answer whose body can't be read from its first byte on.
    pub(super) fn unreadable(error: body::Error) -> Self {
        Self::new(error.kind, error.what.clone()).caused(error)
    }

    /// The same where it came to no address.
    pub(super) fn refused(denied: Denied) -> Self {
        Self {
            kind: ProxyError::DestinationIpProhibited,
            what: denied.to_string(),
            address: None,
            denied: Some(Box::new(denied)),
            bound: None,
            source: None,
        }
    }
}

/// The type of a failed attempt to connect.
pub(super) fn connecting(error: &io::Error) -> ProxyError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ProxyError::ConnectionRefused,
        io::ErrorKind::TimedOut => ProxyError::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::InvalidInput => {
            ProxyError::DestinationIpUnroutable
        }
        // What lies on this side: a source address that is not ours, no ports or descriptors left.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => {
            ProxyError::ProxyInternalError
        }
        _ if is_want(error) => ProxyError::ProxyInternalError,
        _ => ProxyError::DestinationUnavailable,
    }
}

/// Descriptors or memory have run out on this side.
pub(super) fn is_want(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error)
        .is_some_and(|no| matches!(no, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Judges hyper's error while a response head was awaited. `answered`: whether any byte of it had come.
pub(super) fn awaiting_head(error: hyper::Error, answered: bool) -> UpstreamError {
    let closed = if answered { ProxyError::HttpResponseIncomplete } else { ProxyError::ConnectionTerminated };
    if let Some(body) = find::<body::Error>(&error) {
        let what = format!("the request's body broke off: {body}");
        return UpstreamError::new(ProxyError::HttpRequestError, what).caused(error);
    }
    let (kind, what) = if error.is_parse_too_large() {
        (ProxyError::HttpResponseHeaderSectionSize, "the response head is larger than allowed")
    } else if error.is_parse() {
        (ProxyError::HttpProtocolError, "the answer is not valid HTTP/1.1")
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        match closed {
            ProxyError::HttpResponseIncomplete => {
                (closed, "the connection was closed within the response head")
            }
            _ => (closed, "the connection was closed before an answer"),
        }
    } else if error.is_user() {
        (ProxyError::HttpRequestError, "the request cannot be sent as HTTP/1.1")
    } else if let Some(tls) = find_in_io::<rustls::Error>(&error) {
        (super::tls::kind(tls), "TLS failed")
    } else {
        match find::<io::Error>(&error).map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => (ProxyError::ConnectionReadTimeout, "the connection timed out"),
            _ => (closed, "the connection broke before a whole response head had come"),
        }
    };
    let bound = (kind == ProxyError::HttpResponseHeaderSectionSize).then_some(Bound::ResponseHead);
    UpstreamError::new(kind, what).over(bound).caused(error)
}

/// Judges hyper's error while a response body was read.
pub(super) fn reading_body(error: hyper::Error) -> body::Error {
    let (kind, what) = if let Some(tls) = find_in_io::<rustls::Error>(&error) {
        (super::tls::kind(tls), "TLS failed within the response body")
    } else {
        match find::<io::Error>(&error).map(io::Error::kind) {
            Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                (ProxyError::HttpResponseTransferCoding, "the response's chunks are malformed")
            }
            _ => (ProxyError::HttpResponseIncomplete, "the response's body broke off"),
        }
    };
    body::Error { kind, what: what.into(), source: Some(Arc::new(error)) }
}

/// The first cause of type `E`.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The same behind an I/O error, which hides what it holds from `source`.
fn find_in_io<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    find::<io::Error>(error)?.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn what_lies_on_this_side_is_not_blamed_on_the_destination() {
        for (error, kind) in [
            (Errno::CONNREFUSED, ProxyError::ConnectionRefused),
            (Errno::TIMEDOUT, ProxyError::ConnectionTimeout),
            (Errno::HOSTUNREACH, ProxyError::DestinationIpUnroutable),
            (Errno::CONNRESET, ProxyError::DestinationUnavailable),
            (Errno::ADDRNOTAVAIL, ProxyError::ProxyInternalError),
            (Errno::MFILE, ProxyError::ProxyInternalError),
            (Errno::NFILE, ProxyError::ProxyInternalError),
            (Errno::NOBUFS, ProxyError::ProxyInternalError),
        ] {
            assert_eq!(connecting(&error.into()), kind, "{error}");
        }
    }
}
