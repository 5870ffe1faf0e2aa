//! Requests that are answered by the store or an origin, and tunnels: from the admitted request to the
//! finished response.

use http::header::{CONNECTION, EXPECT, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use hyper::ext::ReasonPhrase;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::exchange::{Answer, Exchange, silent};
use super::link::{Link, interim_head};
use super::refusal::{self, Refusal};
use super::relay::Far;
use super::repeat::Words;
use super::tunnel::{FarEnd, Tunnel};
use super::{Call, Counts, ForwardedFor, Handling, Late, Proxy, Settings, admit, upgrade};
use crate::access::Grant;
use crate::body::stall::Stall;
use crate::body::{self, Body};
use crate::cache::{Ask, CacheResult, Hop, Look, Outcome, Served};
use crate::field::places;
use crate::field::status::{CacheStatus, ProxyError};
use crate::field::target::Target;
use crate::field::treatment;
use crate::store::Generation;
use crate::upstream::{OnInterim, Stream, UpstreamError};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Answers from the store at once, or goes and asks.
pub(crate) fn forward(
    proxy: &Arc<Proxy>,
    call: &Call,
    (settings, generation): (Arc<Settings>, Generation),
    mut exchange: Exchange,
    mut parts: Parts,
    body: Body,
    (target, grant): (Arc<Target>, Grant),
) -> Handling {
    let has_content = !matches!(body, Body::Empty);
    let words = call.link.wants_offer().then(|| Words::of(&parts));
    if let Some(protocol) = upgrade::asked_for(&parts, has_content, &settings.options) {
        let proxy = Arc::clone(proxy);
        let peer = call.peer;
        exchange.goes_on_as(CacheResult::Bypass);
        return Handling::slow(async move {
            upgrade::upgrade(proxy, settings, exchange, parts, (target, grant), peer, protocol).await
        });
    }
    if parts.version < Version::HTTP_11 {
        // RFC 9110 section 10.1.1: such an expectation must be ignored, also by those behind us.
        parts.headers.remove(EXPECT);
    }
    let body = content(body, &parts.headers, &mut exchange, &settings, &proxy.counts);
    admit::decrement(&parts.method, &mut parts.headers);
    end_to_end(&mut parts.headers, &settings, call.peer.ip());
    let version = parts.version;
    let words = words.filter(|_| !grant.wants_address() && exchange.time_limit().is_none());
    let ask = Ask {
        target,
        hop: Hop { version, pseudonym: Arc::clone(&settings.pseudonym) },
        method: parts.method,
        headers: parts.headers,
        has_content,
        body,
        grant,
        settings: Arc::clone(&settings.cache),
        generation,
        now: exchange.began(),
        interim: None,
        wants_lasting: words.is_some(),
    };
    if !ask.grant.wants_address() {
        return look(proxy, &call.link, settings, exchange, ask, words);
    }
    let (proxy, link) = (Arc::clone(proxy), Arc::clone(&call.link));
    Handling::slow(async move {
        let accept = refusal::accept(&ask.headers);
        match judge(&proxy, &ask.target, &ask.grant, &mut exchange).await {
            Ok(()) => {
                let Ok(answer) = look(&proxy, &link, settings, exchange, ask, None).await;
                answer
            }
            Err(error) => Refusal::Upstream(error).answer(exchange, accept.as_ref(), has_content),
        }
    })
}

/// Rules about addresses hold for what is stored too: whoever may not go there gets nothing that came from there.
pub(crate) async fn judge(
    proxy: &Proxy,
    target: &Target,
    grant: &Grant,
    exchange: &mut Exchange,
) -> Result<(), UpstreamError> {
    if grant.wants_address() {
        exchange.allowed_by(proxy.upstream.judge(target, grant).await?);
    }
    Ok(())
}

fn look(
    proxy: &Arc<Proxy>,
    link: &Arc<Link>,
    settings: Arc<Settings>,
    mut exchange: Exchange,
    ask: Ask,
    words: Option<Words>,
) -> Handling {
    let (version, has_content) = (ask.hop.version, ask.has_content);
    match proxy.cache.look(&ask) {
        Look::Served(served, lasting) => {
            if let Some((words, lasting)) = words.zip(lasting) {
                exchange.may_be_repeated(words, lasting, Arc::clone(&settings));
            }
            Handling::ready(finish(served, exchange, &settings))
        }
        Look::Failed(failure) => {
            let accept = refusal::accept(&ask.headers);
            Handling::ready(Refusal::Failed(failure).answer(exchange, accept.as_ref(), has_content))
        }
        Look::Go(planned) => {
            exchange.goes_on_as(planned.result());
            let cache = Arc::clone(&proxy.cache);
            let link = Arc::clone(link);
            // By pointer: whatever is awaited is moved with all that it holds.
            let mut ask = Box::new(ask);
            Handling::slow(async move {
                if version >= Version::HTTP_11 {
                    ask.interim = Some(interim(link, &settings));
                }
                let accept = refusal::accept(&ask.headers);
                match cache.respond(&mut ask, planned).await {
                    Ok(served) => finish(served, exchange, &settings),
                    Err(failure) => Refusal::Failed(failure).answer(exchange, accept.as_ref(), has_content),
                }
            })
        }
    }
}

/// Leaves what the origin will see, before anything is decided by it: a field that does not reach the origin
/// must not select a variant either.
pub(crate) fn end_to_end(headers: &mut HeaderMap, settings: &Settings, client: std::net::IpAddr) {
    treatment::strip_request(headers);
    match settings.options.forwarded_for {
        ForwardedFor::Delete => {
            headers.remove(X_FORWARDED_FOR);
        }
        ForwardedFor::Keep => {}
        ForwardedFor::Add => {
            if let Ok(value) = HeaderValue::try_from(client.to_canonical().to_string()) {
                headers.append(X_FORWARDED_FOR, value);
            }
        }
    }
}

/// Where interim responses go: with our member of Via into the queue of the client's connection, until the final one
/// is there.
pub(crate) fn interim(link: Arc<Link>, settings: &Settings) -> OnInterim {
    let exchange = link.open_interim();
    let pseudonym = Arc::clone(&settings.pseudonym);
    Arc::new(move |status, version, mut headers| {
        pseudonym.append(&mut headers, version);
        if let Some(head) = interim_head(status, &headers) {
            link.send_interim(exchange, &head);
        }
    })
}

/// Adds what every forwarded response carries.
pub(crate) fn finish(served: Served, mut exchange: Exchange, settings: &Settings) -> Answer {
    let Served { status, mut headers, body, outcome, received, buffered } = served;
    exchange.holds(buffered);
    places::append(&mut headers, VIA, settings.pseudonym.member(received));
    cache_status(&outcome, status).append(&mut headers);
    if exchange.link().is_withheld() {
        // Content that was never asked for may still come, and can't be told from the next request. RFC 9110 section
        // 10.1.1: the client should be told that the connection closes.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        exchange.link().linger();
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if status.canonical_reason().is_none() {
        // RFC 9112 section 4: the phrase may be empty; hyper would write "<none>".
        response.extensions_mut().insert(ReasonPhrase::from_static(b""));
    }
    exchange.send(response.into_parts().0, body, outcome)
}

fn cache_status(outcome: &Outcome, status: StatusCode) -> CacheStatus {
    CacheStatus {
        hit: outcome.hit,
        forward: outcome.forward,
        forward_status: outcome.forward_status.filter(|forwarded| *forwarded != status),
        stored: outcome.stored,
        collapsed: outcome.collapsed,
        ttl: outcome.ttl,
        detail: outcome.detail.map(crate::policy::Reason::token),
    }
}

/// CONNECT: dial first, answer after. RFC 9110 section 9.3.6.
pub(crate) async fn connect(
    proxy: Arc<Proxy>,
    settings: Arc<Settings>,
    mut exchange: Exchange,
    parts: Parts,
    (target, grant): (Target, Grant),
) -> Answer {
    exchange.goes_on_as(CacheResult::Tunnel);
    let via = settings.pseudonym.carried(&parts.headers, parts.version);
    let dialled = match judge(&proxy, &target, &grant, &mut exchange).await {
        Ok(()) => proxy.upstream.dial(&target.host, target.port, &via, &grant).await,
        Err(error) => Err(error),
    };
    match dialled {
        Ok(dialled) => {
            let outcome = Outcome {
                result: CacheResult::Tunnel,
                upstream: Some(dialled.address),
                ..Outcome::default()
            };
            exchange.answered(StatusCode::OK, outcome);
            let far = match dialled.stream {
                Stream::Tcp(stream) => Far::Tcp(stream),
                other @ Stream::Tls(_) => Far::Stream(Box::new(other)),
            };
            let link = Arc::clone(exchange.link());
            link.put_tunnel(Tunnel {
                far: FarEnd::Ready(far),
                early: dialled.early,
                idle: settings.options.tunnel_idle,
                exchange,
            });
            Response::new(silent())
        }
        Err(error) => {
            let accept = refusal::accept(&parts.headers);
            Refusal::Upstream(error).answer(exchange, accept.as_ref(), false)
        }
    }
}

/// The request's content on its way on. `received`: the request's fields, not stripped yet.
fn content(
    body: Body,
    received: &HeaderMap,
    exchange: &mut Exchange,
    settings: &Settings,
    counts: &Arc<Counts>,
) -> Body {
    if matches!(body, Body::Empty) {
        return body;
    }
    let stall = Stall::new(settings.options.between_bytes_timeout);
    let link = Arc::clone(exchange.link());
    link.uploads(true);
    link.withholds(received.contains_key(EXPECT));
    let named_trailers = treatment::named_trailers(received);
    let (bytes, counts) = (exchange.counter(), Arc::clone(counts));
    Body::boxed(Content { body, bytes, stall, link, named_trailers, counts, ended: false })
}

/// A request's content: counted as it passes, its trailers stripped, and bounded in how long its client may stall.
struct Content {
    body: Body,
    bytes: Arc<AtomicU64>,
    stall: Stall,
    link: Arc<Link>,
    named_trailers: Vec<HeaderName>,
    counts: Arc<Counts>,
    ended: bool,
}

impl Drop for Content {
    /// The answer came first: a client that still sends must not lose it to a reset.
    fn drop(&mut self) {
        // What still comes of it is no request, whatever it looks like.
        if !self.ended && !self.body.is_end_stream() {
            self.link.linger();
        }
        self.link.uploads(false);
    }
}

impl http_body::Body for Content {
    type Data = bytes::Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, body::Error>>> {
        self.link.withholds(false);
        let Poll::Ready(mut frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            std::task::ready!(self.stall.poll_passed(cx));
            self.counts.late(Late::BetweenBytes);
            let what = format!("the client sent nothing of it for {:?}", self.stall.limit());
            return Poll::Ready(Some(Err(body::Error::new(ProxyError::HttpRequestError, what))));
        };
        self.stall.moved();
        // Trailers are the last frame.
        self.ended |= frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            if let Some(trailers) = frame.trailers_mut() {
                // hyper takes what follows a bare LF behind the last chunk for trailers, and finds none in it; or drops
                // what stands behind one among them.
                if trailers.is_empty() || !self.link.trailers_are_clean() {
                    let what = "its chunks are malformed";
                    self.ended = false;
                    return Poll::Ready(Some(Err(body::Error::new(ProxyError::HttpProtocolError, what))));
                }
                treatment::strip_trailers(trailers, &self.named_trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
