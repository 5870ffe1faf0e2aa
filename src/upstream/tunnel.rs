//! CONNECT through a parent, and the bare connections of our own clients' CONNECT.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION, VIA};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;

use super::Way;
use super::connect::{self, Destination, within};
use super::error::{UpstreamError, awaiting_head};
use super::parent::{Route, authority};
use super::wire::{Stream, Traffic, Wire};
use crate::access::Grant;
use crate::field::status::ProxyError;
use crate::field::target::{Host, Scheme};

/// A connection that bytes may be copied to and from.
#[derive(Debug)]
pub struct Dialed {
    /// The connection.
    pub stream: Stream,
    /// Its other end: the destination, or the parent.
    pub address: SocketAddr,
    /// Bytes that the destination sent already, to be given to the client first.
    pub early: Bytes,
}

/// Opens a tunnel for a client's CONNECT.
pub(super) async fn dial(
    way: &Way,
    host: &Host,
    port: u16,
    via: &[HeaderValue],
    grant: &Grant,
) -> Result<Dialed, UpstreamError> {
    let routes = way.parents.routes(Scheme::Https, host, port, || way.clock.now().mono);
    if routes.is_empty() {
        let (tcp, address, _) = connect::tcp(way, host, port, Some(grant)).await?;
        return Ok(Dialed { stream: Stream::Tcp(tcp), address, early: Bytes::new() });
    }
    let mut last = None;
    for parent in routes.into_iter().filter_map(|at| way.parents.get(at)) {
        let to = Destination { scheme: Scheme::Https, host, port, parent: Some(parent), via, grant };
        connect::judge_literal(&to)?;
        match connect::reach(way, parent).await {
            Ok((stream, address, begun)) => {
                let limit = way.options.connect_timeout;
                let through = through(way, stream, parent, &to);
                let (stream, early) =
                    within(limit, begun, "the tunnel through the parent", address, through).await?;
                return Ok(Dialed { stream, address, early });
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| UpstreamError::new(ProxyError::ProxyInternalError, "no parent is left")))
}

/// Asks a parent to connect on. RFC 9110 section 9.3.6.
pub(super) async fn through(
    way: &Way,
    stream: Stream,
    parent: &Route,
    to: &Destination<'_>,
) -> Result<(Stream, Bytes), UpstreamError> {
    let at = authority(to.host, to.port);
    let malformed = |error: &dyn std::fmt::Display| {
        UpstreamError::new(ProxyError::HttpRequestError, format!("{at:?} cannot be asked for: {error}"))
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = at.parse::<Uri>().map_err(|e| malformed(&e))?;
    let authority = HeaderValue::try_from(at.as_str()).map_err(|e| malformed(&e))?;
    request.headers_mut().insert(HOST, authority);
    for line in to.via {
        request.headers_mut().append(VIA, line.clone());
    }
    if let Some(authorization) = &parent.authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
    }

    let traffic = Arc::new(Traffic::new());
    let wire = Wire::new(stream, Arc::clone(&traffic), Arc::clone(&way.counters));
    let shaken = way.engine.handshake(TokioIo::new(wire)).await;
    let (mut sender, connection) = shaken.map_err(|error| awaiting_head(error, false))?;
    // Ends when the stream is taken out of it, or when `sender` and the response are gone.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a parent");
        }
    });
    let sent = sender.send_request(request).await;
    let response = sent.map_err(|error| awaiting_head(error, traffic.read() > 0))?;
    let status = response.status();
    // Any 2xx opens a tunnel, but hyper takes a 204 for an answer like any other.
    if !status.is_success() || status == StatusCode::NO_CONTENT {
        return Err(refused(status, parent));
    }
    let taken = hyper::upgrade::on(response).await.map_err(|error| awaiting_head(error, true))?;
    match taken.downcast::<TokioIo<Wire>>() {
        Ok(parts) => Ok((parts.io.into_inner().into_stream(), parts.read_buf)),
        Err(_) => Err(UpstreamError::new(ProxyError::ProxyInternalError, "the tunnel is of a foreign kind")),
    }
}

/// What a parent's refusal is for our client: what it says of the destination goes on; any other says only that
/// the destination can't be had this way.
fn refused(status: StatusCode, parent: &Route) -> UpstreamError {
    let kind = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => return asks_for_credentials(parent),
        StatusCode::FORBIDDEN => ProxyError::HttpRequestDenied,
        StatusCode::SERVICE_UNAVAILABLE => ProxyError::DestinationUnavailable,
        StatusCode::GATEWAY_TIMEOUT => ProxyError::ConnectionTimeout,
        StatusCode::LOOP_DETECTED => ProxyError::ProxyLoopDetected,
        _ => ProxyError::DestinationNotFound,
    };
    let (name, says) = (parent.name(), status.as_u16());
    let what = match kind {
        ProxyError::HttpRequestDenied => {
            format!("the parent proxy {name} forbids this destination ({says})")
        }
        ProxyError::ProxyLoopDetected => {
            format!("the parent proxy {name} says that the request runs in a loop ({says})")
        }
        _ => format!("the parent proxy {name} opened no tunnel: it answered {says}"),
    };
    UpstreamError::new(kind, what)
}

/// A 407 is between a proxy and its client, and here that client is us. RFC 9110 section 15.5.8.
pub(super) fn asks_for_credentials(parent: &Route) -> UpstreamError {
    let given = if parent.authorization.is_some() { "other" } else { "a user and password as" };
    let what = format!(
        "the parent proxy {} asks for {given} credentials (407): they belong into its URL in upstream.parents",
        parent.name()
    );
    UpstreamError::new(ProxyError::HttpProtocolError, what)
}
