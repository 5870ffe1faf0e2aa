//! One request out and one response head in, on a connection of the pool or a new one.
//!
//! What is sent again, and when (RFC 9112 section 9.3.1): a request that never left goes out on a new
//! connection, whatever it is (less one whose body has begun, in the moment between the last two looks at the
//! connection). One that may have left is sent once more, if the connection had served before and closed without a byte
//! of an answer, the method is idempotent, and there is no body.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{InvalidUri, Parts};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{self, Destination, judge_literal};
use super::error::{UpstreamError, awaiting_head};
use super::inbound::{After, Inbound, Trailers};
use super::inspect::{Asked, Fault, inspect};
use super::parent::{Parents, authority};
use super::pool::{Key, Lease, Link, Turn};
use super::stats::Bound;
use super::tunnel::asks_for_credentials;
use super::upload::{Gate, Progress, Step, Upload};
use super::wire::{Stream, Traffic, Wire};
use super::{Call, OnInterim, Options, Received, Way};
use crate::access::Grant;
use crate::body::buffers::FLOOR;
use crate::body::{Body, Buffered, Buffers};
use crate::clock::Stopwatch;
use crate::field::status::ProxyError;
use crate::field::target::{Host, Scheme, Target};
use crate::field::treatment;

/// Where a request goes.
struct To<'a> {
    scheme: Scheme,
    host: &'a Host,
    port: u16,
    grant: &'a Grant,
    /// Parents to try; empty: direct.
    parents: Vec<usize>,
    /// The request's lines of `Via`, for a CONNECT to a parent. RFC 9110 section 7.6.3: without them nobody could
    /// tell that it runs in a circle.
    via: Vec<HeaderValue>,
}

/// By which scheme and port an origin is reached: over TLS the port of plaintext is that of TLS, any other stays.
const fn reached_by(scheme: Scheme, port: u16, fetch_over_https: bool) -> (Scheme, u16) {
    match (scheme, port) {
        (Scheme::Http, 80) if fetch_over_https => (Scheme::Https, 443),
        (_, port) if fetch_over_https => (Scheme::Https, port),
        own => own,
    }
}

/// What outlives an attempt.
struct Flow {
    gate: Option<Arc<Gate>>,
    progress: Option<Arc<Progress>>,
    on_interim: Option<OnInterim>,
}

/// By reference, here and below: what an `async fn` is given lies in its future twice, and futures are moved.
pub(super) async fn send(
    way: &Way,
    buffers: &Buffers,
    call: &mut Call<'_>,
) -> Result<Box<Received>, UpstreamError> {
    let Call { target, method, headers: make, body, grant, on_interim, fetch_over_https, upgrade } = call;
    let (scheme, port) = reached_by(target.scheme, target.port, *fetch_over_https);
    let headers = make();
    let parents = way.parents.routes(scheme, &target.host, port, || way.clock.now().mono);
    let via = match scheme {
        Scheme::Https if !parents.is_empty() => headers.get_all(VIA).iter().cloned().collect(),
        Scheme::Http | Scheme::Https => Vec::new(),
    };
    let to = To { scheme, host: &target.host, port, grant, parents, via };

    let replayable = body.is_end_stream();
    let content = if body.is_end_stream() { 0 } else { body.size_hint().exact().unwrap_or(u64::MAX) };
    let upgrades = upgrade.is_some();
    let gate = (!body.is_end_stream() && expects(&headers)).then(|| Arc::new(Gate::new()));
    let options = &way.options;
    let form = if scheme == Scheme::Http && !to.parents.is_empty() { Form::Absolute } else { Form::Origin };
    let headers = outgoing(target, headers, body, upgrade.clone())?;
    let (upload, progress) = Upload::new(std::mem::take(body), gate.clone(), options.expect_timeout);
    let mut flow = Flow { gate, progress, on_interim: on_interim.take() };
    let mut request = Some(Box::new(message(method, uri(target, form)?, headers, upload)));

    let mut fresh = false;
    loop {
        let (mut lease, parent) = lease(way, &to, fresh).await?;
        // Only now: who waits for a connection must not hold what those wait for that have one.
        let buffered = match buffers.take(content) {
            Some(buffered) => Some(buffered),
            None => Box::pin(buffer(options, buffers, content)).await?,
        };
        if form == Form::Absolute
            && let Some(request) = &mut request
        {
            authorize(request.headers_mut(), &way.parents, parent);
        }
        let missed = match attempt(options, &flow, &mut lease, &mut request, replayable).await {
            Ok(response) => {
                let asked = Asked { method, upgrade: upgrades, max_fields: options.max_fields };
                return receive(way, &mut flow, lease, parent, asked, response, buffered);
            }
            Err(missed) => missed,
        };
        let Missed { error, unwritten } = missed;
        // This type says that not a byte of an answer came.
        let unanswered = error.kind == ProxyError::ConnectionTerminated;
        request = match unwritten {
            // The last chance is a new connection.
            _ if !lease.reused => return Err(error.at(lease.link.address)),
            Some(request) => Some(request),
            None if replayable
                && (lease.link.traffic.withheld() || (method.is_idempotent() && unanswered)) =>
            {
                let headers = outgoing(target, make(), &Body::Empty, upgrade.clone())?;
                let nothing = Upload::new(Body::Empty, None, Duration::ZERO).0;
                Some(Box::new(message(method, uri(target, form)?, headers, nothing)))
            }
            None => return Err(error.at(lease.link.address)),
        };
        way.counters.retried.fetch_add(1, Relaxed);
        fresh = true;
    }
}

fn message(method: &Method, uri: Uri, headers: HeaderMap, upload: Upload) -> Request<Upload> {
    let mut request = Request::new(upload);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// Waits for room for what is on its way, with so many bytes of content.
async fn buffer(
    options: &Options,
    buffers: &Buffers,
    content: u64,
) -> Result<Option<Buffered>, UpstreamError> {
    let limit = options.connect_timeout;
    timeout(limit, buffers.wait(content)).await.map_err(|_| {
        let total = buffers.total();
        let what = format!("all buffers ({total} bytes, limits.buffers) were in use for {limit:?}");
        UpstreamError::new(ProxyError::ConnectionLimitReached, what).over(Bound::Buffers)
    })
}

/// A connection for the next attempt, and the parent that it goes through.
async fn lease(way: &Way, to: &To<'_>, fresh: bool) -> Result<(Lease, Option<usize>), UpstreamError> {
    if to.parents.is_empty() {
        return Ok((lease_by(way, to, None, fresh).await?, None));
    }
    let mut last = None;
    for at in &to.parents {
        match lease_by(way, to, Some(*at), fresh).await {
            Ok(lease) => return Ok((lease, Some(*at))),
            Err(error) => {
                let now = way.clock.now().mono;
                if !way.parents.get(*at).is_some_and(|parent| parent.is_down(now)) {
                    return Err(error);
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| UpstreamError::new(ProxyError::ProxyInternalError, "no parent is left")))
}

async fn lease_by(way: &Way, to: &To<'_>, at: Option<usize>, fresh: bool) -> Result<Lease, UpstreamError> {
    let parent = at.and_then(|at| way.parents.get(at));
    let To { scheme, host, port, grant, .. } = *to;
    let destination = Destination { scheme, host, port, parent, via: &to.via, grant };
    // All that goes to a parent in absolute form may share its connections.
    let key = match parent {
        Some(parent) if to.scheme == Scheme::Http => {
            judge_literal(&destination)?;
            Key { scheme: Scheme::Http, host: parent.host.clone(), port: parent.port, parent: at }
        }
        _ => Key { scheme: to.scheme, host: to.host.clone(), port: to.port, parent: at },
    };
    if !fresh && let Some(lease) = way.pool.ready(&key) {
        return reused(way, to, at, lease);
    }
    // Most requests find a connection: what waits for one, or opens one, must not make their futures as large.
    Box::pin(lease_in_turn(way, to, at, &destination, &key, fresh)).await
}

/// What is allowed may have changed since it was dialled.
fn reused(way: &Way, to: &To<'_>, at: Option<usize>, lease: Lease) -> Result<Lease, UpstreamError> {
    if at.is_none() {
        let address = lease.link.address;
        to.grant.destination(to.host, address).map_err(|denied| UpstreamError::denied(denied, address))?;
    }
    way.counters.reused.fetch_add(1, Relaxed);
    Ok(lease)
}

/// What becomes free, or a new connection.
async fn lease_in_turn(
    way: &Way,
    to: &To<'_>,
    at: Option<usize>,
    destination: &Destination<'_>,
    key: &Key,
    fresh: bool,
) -> Result<Lease, UpstreamError> {
    let limit = way.options.connect_timeout;
    let turn = timeout(limit, way.pool.turn(key, fresh)).await.map_err(|_| {
        let at = authority(to.host, to.port);
        let most = way.pool.limits().connections_per_origin;
        let what = format!("all {most} connections to {at} were busy for {limit:?}");
        UpstreamError::new(ProxyError::ConnectionLimitReached, what).over(Bound::ConnectionsPerOrigin)
    })?;
    let permit = match turn {
        Turn::Open(permit) => permit,
        Turn::Reuse(lease) => return reused(way, to, at, lease),
    };
    let (stream, address) = connect::open(way, destination).await?;
    let is_secure = matches!(stream, Stream::Tls(_));
    let traffic = Arc::new(Traffic::new());
    let wire = Wire::new(stream, Arc::clone(&traffic), Arc::clone(&way.counters));
    let shaken = way.engine.handshake(TokioIo::new(wire)).await;
    let pair = shaken.map_err(|error| awaiting_head(error, false).at(address))?;
    Ok(permit.redeem(pair, traffic, address, is_secure))
}

/// How a request's target is written. RFC 9112 section 3.2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Origin,
    Absolute,
}

fn uri(target: &Target, form: Form) -> Result<Uri, UpstreamError> {
    let unwritable = || {
        let what = format!("the target at {} cannot be written as a request", target.authority);
        UpstreamError::new(ProxyError::HttpRequestError, what)
    };
    let mut parts = Parts::default();
    parts.path_and_query = Some(target.path.path_and_query().ok_or_else(unwritable)?.clone());
    if form == Form::Absolute {
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority =
            Some(target.authority.parse().map_err(|error: InvalidUri| unwritable().caused(error))?);
    }
    Uri::from_parts(parts).map_err(|error| unwritable().caused(error))
}

/// The fields that go out: the call's, with those that belong to this connection.
fn outgoing(
    target: &Target,
    mut headers: HeaderMap,
    body: &Body,
    upgrade: Option<HeaderValue>,
) -> Result<HeaderMap, UpstreamError> {
    let host = HeaderValue::from_str(&target.authority).map_err(|error| {
        let what = format!("{:?} cannot be the value of Host", target.authority);
        UpstreamError::new(ProxyError::HttpRequestError, what).caused(error)
    })?;
    headers.insert(HOST, host);
    headers.remove(TRANSFER_ENCODING);
    if body.is_end_stream() {
        headers.remove(EXPECT);
        if headers.contains_key(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if let Some(length) = body.size_hint().exact() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        headers.remove(CONTENT_LENGTH);
        // Without it hyper leaves out the body of a GET.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(protocols) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocols);
    } else {
        // RFC 9110 section 10.1.4: "A sender of TE MUST also send a "TE" connection option".
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    Ok(headers)
}

fn authorize(headers: &mut HeaderMap, parents: &Parents, parent: Option<usize>) {
    match parent.and_then(|at| parents.get(at)).and_then(|parent| parent.authorization.clone()) {
        Some(authorization) => headers.insert(PROXY_AUTHORIZATION, authorization),
        None => headers.remove(PROXY_AUTHORIZATION),
    };
}

/// Whether the client gets a 100 when its body is first read: hyper writes one where the last line of Expect is just
/// this. In any other list the expectation is the origin's to meet, and its 100 is relayed. RFC 9110 section 10.1.1.
fn expects(headers: &HeaderMap) -> bool {
    let last = headers.get_all(EXPECT).iter().next_back();
    last.is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// An attempt that brought no response head.
struct Missed {
    error: UpstreamError,
    /// The request, where no byte of it can have left.
    unwritten: Option<Box<Request<Upload>>>,
}

async fn attempt(
    options: &Options,
    flow: &Flow,
    lease: &mut Lease,
    request: &mut Option<Box<Request<Upload>>>,
    replayable: bool,
) -> Result<Response<Incoming>, Missed> {
    let traffic = Arc::clone(&lease.link.traffic);
    let read_before = traffic.read();
    let interim = Arc::new(Interim {
        count: AtomicUsize::new(0),
        max: options.max_interim,
        gate: flow.gate.clone(),
        relay: flow.on_interim.clone(),
        traffic: Arc::clone(&traffic),
    });
    let informed = Arc::clone(&interim);
    let missed = |error| Missed { error, unwritten: None };
    let Some(mut request) = request.take() else {
        return Err(missed(UpstreamError::new(
            ProxyError::ProxyInternalError,
            "there is no request to send",
        )));
    };
    hyper::ext::on_informational(&mut request, move |response| {
        informed.received(response.status(), response.version(), response.headers());
    });
    let first_byte = options.first_byte_timeout;
    let between = options.between_bytes_timeout;
    let tick = if flow.progress.is_some() { first_byte.min(between) } else { first_byte };
    let begun = traffic.moved();
    traffic.anew();
    // Not where bytes of another protocol may follow: there each direction ends by itself.
    traffic.read_on(flow.progress.is_some());
    if lease.reused {
        traffic.doubt(replayable);
    }
    let Link { sender, timer, driver, .. } = &mut lease.link;
    let due = Instant::from_std(begun + tick);
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if due < timer.deadline() {
        timer.as_mut().reset(due);
    }
    let mut response = pin!(sender.try_send_request(*request));
    loop {
        let event = poll_fn(|cx| {
            driver.poll(cx);
            if let Poll::Ready(answer) = response.as_mut().poll(cx) {
                return Poll::Ready(Event::Answer(answer));
            }
            if interim.is_flood() {
                return Poll::Ready(Event::Flood);
            }
            timer.as_mut().poll(cx).map(|()| Event::Due)
        });
        match event.await {
            Event::Answer(answer) => {
                let response = answer.map_err(|mut error| {
                    let unwritten = error.take_message().map(Box::new);
                    let came = traffic.read() - read_before;
                    let error = awaiting_head(error.into_error(), came > 0);
                    // hyper tells both alike.
                    let fields = error.bound == Some(Bound::ResponseHead) && came <= options.max_head as u64;
                    let error = if fields { error.over(Bound::ResponseFields) } else { error };
                    Missed { error, unwritten }
                })?;
                // A flood and the final response may have come in one read.
                return if interim.is_flood() { Err(missed(interim.fault())) } else { Ok(response) };
            }
            Event::Flood => return Err(missed(interim.fault())),
            Event::Due => {
                let step = flow.progress.as_ref().map_or(Step::Done, |progress| progress.step());
                let left = match step {
                    // The client has a limit of its own.
                    Step::Client => tick,
                    Step::Origin => between.saturating_sub(traffic.quiet()),
                    Step::Done => first_byte.saturating_sub(traffic.quiet()),
                };
                if left.is_zero() {
                    let error = if step == Step::Done {
                        let what = format!("no response head within {first_byte:?}");
                        UpstreamError::new(ProxyError::HttpResponseTimeout, what)
                            .over(Bound::FirstByteTimeout)
                    } else {
                        let what = format!("nothing of the request was taken for {between:?}");
                        UpstreamError::new(ProxyError::ConnectionWriteTimeout, what)
                            .over(Bound::BetweenBytesTimeout)
                    };
                    return Err(missed(error));
                }
                timer.as_mut().reset(Instant::from_std(Stopwatch::start().started() + left.min(tick)));
            }
        }
    }
}

/// What an attempt waits for. Not boxed: it is taken apart where it comes from.
#[allow(clippy::large_enum_variant)]
enum Event {
    Answer(Result<Response<Incoming>, TrySendError<Request<Upload>>>),
    /// Too many interim responses.
    Flood,
    /// The timer has fired.
    Due,
}

/// What happens to interim responses. RFC 9110 section 15.2.
struct Interim {
    count: AtomicUsize,
    max: usize,
    gate: Option<Arc<Gate>>,
    relay: Option<OnInterim>,
    traffic: Arc<Traffic>,
}

impl Interim {
    fn is_flood(&self) -> bool {
        self.count.load(Relaxed) > self.max
    }

    fn fault(&self) -> UpstreamError {
        let what = format!("the origin sent more than {} interim responses", self.max);
        UpstreamError::new(ProxyError::HttpProtocolError, what).over(Bound::Interim)
    }

    fn received(&self, status: StatusCode, version: Version, headers: &HeaderMap) {
        if self.count.fetch_add(1, Relaxed) >= self.max {
            return;
        }
        self.traffic.moved();
        if status == StatusCode::CONTINUE
            && let Some(gate) = &self.gate
        {
            // The client's own 100 goes out when its body is read.
            gate.open();
        } else if let Some(relay) = &self.relay {
            let mut headers = headers.clone();
            treatment::strip_interim(&mut headers);
            relay(status, version, headers);
        }
    }
}

/// From a head that hyper accepts to a response that may be believed.
fn receive(
    way: &Way,
    flow: &mut Flow,
    mut lease: Lease,
    parent: Option<usize>,
    asked: Asked<'_>,
    mut response: Response<Incoming>,
    buffered: Option<Buffered>,
) -> Result<Box<Received>, UpstreamError> {
    let withheld = flow.gate.take().is_some_and(|gate| gate.shut());
    let address = lease.link.address;
    let reused = lease.reused;
    let (status, version) = (response.status(), response.version());
    let seen = inspect(asked, status, version, response.headers_mut())
        .map_err(|fault| foreign(way, parent, status, address, fault))?;
    let upgraded = (status == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(&mut response));
    // A client may send all of its content before it reads of the answer, which must not keep that back.
    if upgraded.is_some() || !lease.has_sent(flow.progress.as_deref()) {
        lease.link.driver.go_on();
    }
    let (parts, incoming) = response.into_parts();
    let after = After {
        lease,
        close: seen.close,
        keep_alive: seen.keep_alive,
        upload: flow.progress.take(),
        withheld,
        grace: way.options.between_bytes_timeout,
    };
    let body = if incoming.is_end_stream() {
        after.end();
        Body::Empty
    } else {
        let trailers = Trailers { max: way.options.max_trailers, named: seen.named_trailers };
        let between = way.options.between_bytes_timeout;
        // What is short fits where it is read first.
        let is_short = seen.content_length.is_some_and(|length| length <= FLOOR / 2);
        let room = if is_short { None } else { buffered.clone() };
        let mut inbound = Box::pin(Inbound::new(incoming, after, between, trailers, room));
        inbound.as_mut().begin().map_err(|error| UpstreamError::unreadable(error).at(address))?;
        Body::Boxed(inbound)
    };
    Ok(Box::new(Received {
        status,
        version,
        headers: parts.headers,
        body,
        address,
        framing_ok: seen.framing_ok,
        close_delimited: seen.close_delimited,
        content_length: seen.content_length,
        upgraded,
        protocol: seen.protocol,
        reused,
        buffered,
    }))
}

fn foreign(
    way: &Way,
    parent: Option<usize>,
    status: StatusCode,
    address: SocketAddr,
    fault: Fault,
) -> UpstreamError {
    match parent.and_then(|at| way.parents.get(at)) {
        Some(parent) if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => asks_for_credentials(parent),
        _ => UpstreamError::new(fault.kind, fault.what).over(fault.bound),
    }
    .at(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_tls_port_80_becomes_443_and_any_other_stays() {
        for (scheme, port, over, reached) in [
            (Scheme::Http, 80, true, (Scheme::Https, 443)),
            (Scheme::Http, 8080, true, (Scheme::Https, 8080)),
            (Scheme::Http, 443, true, (Scheme::Https, 443)),
            (Scheme::Https, 443, true, (Scheme::Https, 443)),
            // Asked for by TLS on that port, and so it is fetched.
            (Scheme::Https, 80, true, (Scheme::Https, 80)),
            (Scheme::Http, 80, false, (Scheme::Http, 80)),
            (Scheme::Https, 443, false, (Scheme::Https, 443)),
        ] {
            assert_eq!(reached_by(scheme, port, over), reached, "{scheme:?} {port} {over}");
        }
    }
}
