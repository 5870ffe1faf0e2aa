//! One exchange, from its request's head to its response's last byte: gathers the record and sends it once.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Settings;
use super::link::Link;
use super::relay::Carried;
use super::repeat::{Offer, Words};
use crate::access::authentication::Principal;
use crate::access::rules::Rule;
use crate::access::{Decision, Grant, RuleName};
use crate::body::{Body, Buffered, Done, Ended, Metered};
use crate::cache::{CacheResult, Lasting, Outcome};
use crate::clock::{Moment, Stopwatch};
use crate::field::treatment;
use crate::telemetry::Telemetry;
use crate::telemetry::{Limit, Record, Url};

/// What hyper sends.
pub(crate) type Answer = Response<Metered<Option<Exchange>>>;

/// An exchange under way. Dropped before its response was sent, it leaves a record all the same.
#[derive(Debug)]
pub(crate) struct Exchange {
    record: Box<Record>,
    started: Stopwatch,
    telemetry: Arc<Telemetry>,
    link: Arc<Link>,
    /// Bytes of the request's content, counted as they pass.
    content: Option<Arc<AtomicU64>>,
    carried: Option<Arc<Carried>>,
    buffered: Option<Buffered>,
    /// The response ends with the connection: nothing else tells its client where.
    close_delimited: bool,
    sent: bool,
    /// Of the rule that allowed it.
    time_limit: Option<Duration>,
    /// How long its answer lasts, to which words, and by which settings.
    lasting: Option<(Words, Box<Lasting>, Arc<Settings>)>,
}

impl Exchange {
    pub(crate) fn begin(
        id: u64,
        (at, started): (Moment, Stopwatch),
        telemetry: Arc<Telemetry>,
        link: Arc<Link>,
        client: SocketAddr,
        method: Method,
        version: Version,
    ) -> Self {
        let record = Box::new(Record {
            at,
            id,
            client,
            method,
            version,
            url: Url::Text(Box::default()),
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            duration: std::time::Duration::ZERO,
            first_byte: None,
            outcome: Outcome::default(),
            complete: false,
            user: None,
            rule: None,
            limit: None,
            content_type: None,
            user_agent: None,
            referer: None,
            repeated: false,
        });
        Self {
            record,
            started,
            telemetry,
            link,
            content: None,
            carried: None,
            buffered: None,
            close_delimited: false,
            sent: false,
            time_limit: None,
            lasting: None,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.record.id
    }

    /// When the request's head had arrived.
    pub(crate) fn began(&self) -> Moment {
        self.record.at
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Notes what the log tells of the request.
    pub(crate) fn asks(&mut self, url: impl Into<Url>, headers: &HeaderMap) {
        self.record.url = url.into();
        if self.telemetry.shows_agents() {
            // Clones of fields share their bytes.
            self.record.user_agent = headers.get(header::USER_AGENT).cloned();
            self.record.referer = headers.get(header::REFERER).cloned();
        }
    }

    /// How it counts if its client leaves before there is an answer.
    pub(crate) fn goes_on_as(&mut self, result: CacheResult) {
        self.record.outcome.result = result;
    }

    /// Counts the request's content as it passes.
    pub(crate) fn counter(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.content.get_or_insert_with(Arc::default))
    }

    /// Who the client has proved to be.
    pub(crate) fn is_for(&mut self, principal: &Principal) {
        self.record.user = principal.name().cloned();
    }

    /// The rule of access that refused.
    pub(crate) fn refused_by(&mut self, rule: RuleName) {
        self.record.rule = Some(Decision::Denied(rule));
    }

    /// The rule of access that let it through, if one did.
    pub(crate) fn granted(&mut self, grant: &Grant) {
        self.allowed_by(grant.by().cloned());
    }

    /// The same, known when the address is.
    pub(crate) fn allowed_by(&mut self, rule: Option<Arc<Rule>>) {
        let Some(rule) = rule else { return };
        self.record.rule = Some(Decision::Allowed(RuleName::Given(Arc::clone(&rule.name))));
        self.time_limit = rule.time_limit;
        self.link.limit_time(rule.time_limit);
    }

    /// How long it may last, where the rule that allowed it says.
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.time_limit
    }

    /// The limit that the request's head is over.
    pub(crate) fn is_over(&mut self, limit: Limit) {
        self.record.limit = Some(limit);
    }

    /// A tunnel's bytes, read when the exchange ends, however it ends.
    pub(crate) fn carries(&mut self, carried: Arc<Carried>) {
        self.carried = Some(carried);
    }

    /// What is buffered on the response's way, given back when the client has taken it.
    pub(crate) fn holds(&mut self, buffered: Option<Buffered>) {
        self.buffered = buffered;
    }

    /// Its answer is the same for as long as that, to these words, by these settings.
    pub(crate) fn may_be_repeated(&mut self, words: Words, lasting: Box<Lasting>, settings: Arc<Settings>) {
        self.lasting = Some((words, lasting, settings));
    }

    /// What the head says, noted as it is handed over.
    pub(crate) fn answered(&mut self, status: StatusCode, outcome: Outcome) {
        self.record.status = Some(status);
        self.record.outcome = outcome;
        self.record.first_byte = Some(self.started.elapsed());
        self.link.close_interim();
    }

    /// The response as hyper sends it; the record goes out when its body has ended.
    pub(crate) fn send(
        mut self,
        mut head: http::response::Parts,
        mut body: Body,
        outcome: Outcome,
    ) -> Answer {
        self.answered(head.status, outcome);
        if self.record.method == Method::HEAD && !matches!(body, Body::Empty) {
            // hyper would drop it unread, which is how a body looks that broke off.
            if let Some(length) = body.exact_length() {
                head.headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
            }
            body = Body::Empty;
        }
        self.close_delimited = self.record.version < Version::HTTP_11
            && !head.headers.contains_key(header::CONTENT_LENGTH)
            && body.exact_length().is_none();
        if self.close_delimited {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.record.version < Version::HTTP_11 && treatment::has_option(&head.headers, "close") {
            // To a client that asks for keep-alive hyper adds it beside `close`, but for a response of its own version.
            head.version = Version::HTTP_10;
        }
        if self.telemetry.shows_media_types() {
            self.record.content_type = head.headers.get(header::CONTENT_TYPE).cloned();
        }
        Response::from_parts(head, Metered::new(body, Some(self)))
    }

    /// Ends the exchange: `complete` when all that was to be sent was sent.
    pub(crate) fn finish(&mut self, bytes_out: u64, complete: bool) {
        if self.sent {
            return;
        }
        self.sent = true;
        let record = &mut self.record;
        record.duration = self.started.elapsed();
        record.complete = complete;
        record.bytes_out = bytes_out;
        if let Some(content) = &self.content {
            record.bytes_in = content.load(Ordering::Relaxed);
        }
        if let Some(carried) = &self.carried {
            record.bytes_in = carried.up.load(Ordering::Relaxed);
            record.bytes_out = carried.down.load(Ordering::Relaxed);
        }
        self.link.exchange_ends();
        if let Some(buffered) = self.buffered.take() {
            self.link.keep_until_flushed(buffered);
        }
        self.telemetry.record(record);
        if let Some((words, lasting, settings)) = self.lasting.take()
            && complete
        {
            self.link.offer(Offer { words, settings, lasting, record: self.record.clone() });
        }
    }
}

/// A response without content, whose exchange is told of elsewhere.
pub(crate) fn silent() -> Metered<Option<Exchange>> {
    Metered::new(Body::Empty, None)
}

impl Done for Option<Exchange> {
    fn done(self, ended: Ended) {
        let Some(mut exchange) = self else { return };
        if ended.error.is_some() && exchange.close_delimited {
            // A body that breaks off ends like a whole one, but for a reset. Elsewhere framing tells, and a reset
            // would take away what the kernel has not sent yet.
            exchange.link.reset();
        }
        exchange.finish(ended.bytes, ended.complete);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish(0, false);
    }
}
