//! What the tables of tests are written with: requests, replies and stored heads from a few words, and time as
//! plain seconds.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::rules::Rule;
use super::{Asked, Options, Plan, Reply, RequestFacts, StoredHead, Terms, Verdict, plan, verdict};
use crate::clock::Moment;
use crate::field::date;

/// When every story begins: 2026-11-23 00:00:00 UTC.
pub(crate) const START: i64 = 1_795_392_000;

/// A date that many seconds after the start.
pub(crate) fn at(seconds: i64) -> String {
    date::format(START + seconds).to_str().unwrap().to_owned()
}

/// That moment.
pub(crate) fn moment(seconds: i64) -> Moment {
    Moment::at(START + seconds)
}

/// Fields; a value `@-5` is a date that many seconds after the start.
pub(crate) fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let value = match value.strip_prefix('@') {
            Some(seconds) => at(seconds.parse().unwrap()),
            None => (*value).to_owned(),
        };
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// The world of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) rule: Option<Rule>,
}

impl World {
    /// With cookies as RFC 9111 has them.
    pub(crate) fn rfc9111() -> Self {
        Self { options: Options { set_cookie: super::SetCookie::Rfc9111, ..Options::default() }, rule: None }
    }

    /// With one rule.
    pub(crate) fn ruled(rule: Rule) -> Self {
        Self { rule: Some(rule), ..Self::default() }
    }

    /// The terms that many seconds after the start.
    pub(crate) fn terms(&self, seconds: i64) -> Terms<'_> {
        Terms { options: &self.options, rule: self.rule.as_ref(), now: moment(seconds) }
    }

    /// The verdict on a response received at the start, to a GET with these fields.
    pub(crate) fn judge(&self, request: &[(&str, &str)], status: u16, response: &[(&str, &str)]) -> Verdict {
        self.judge_asked(request, Asked::Plain, 0, status, response)
    }

    /// The same for something asked, received that many seconds after the start.
    pub(crate) fn judge_asked(
        &self,
        request: &[(&str, &str)],
        asked: Asked<'_>,
        seconds: i64,
        status: u16,
        response: &[(&str, &str)],
    ) -> Verdict {
        let (request, response) = (headers(request), headers(response));
        let facts = RequestFacts::of(&Method::GET, &request, false);
        verdict(&facts, asked, &reply(seconds, status, &response), &self.terms(seconds))
    }

    /// The head under which such a response is stored. Panics if it is not.
    #[track_caller]
    pub(crate) fn stored(
        &self,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> StoredHead {
        match self.judge(request, status, response) {
            Verdict::Store(head) => *head,
            other => panic!("not stored: {status} {response:?}: {other:?}"),
        }
    }

    /// The plan for a GET with these fields, that many seconds after the start.
    pub(crate) fn plan(&self, request: &[(&str, &str)], stored: &[StoredHead], seconds: i64) -> Plan {
        self.plan_method(&Method::GET, request, stored, seconds)
    }

    /// The same for any method.
    pub(crate) fn plan_method(
        &self,
        method: &Method,
        request: &[(&str, &str)],
        stored: &[StoredHead],
        seconds: i64,
    ) -> Plan {
        let request = headers(request);
        plan(&RequestFacts::of(method, &request, false), stored, &self.terms(seconds))
    }
}

/// A well-framed reply received that many seconds after the start, sent for in the same moment.
pub(crate) fn reply(seconds: i64, status: u16, headers: &HeaderMap) -> Reply<'_> {
    let length =
        headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        request_time: moment(seconds),
        response_time: moment(seconds),
        framing_ok: true,
        close_delimited: false,
        content_length: length,
    }
}

/// One word for a plan: with its reason, where it has one.
pub(crate) fn word(plan: &Plan) -> String {
    let reason = |reason: &Option<super::Reason>| {
        reason.map_or(String::new(), |reason| format!(" {}", reason.token()))
    };
    match plan {
        Plan::Bypass { reason, .. } => format!("bypass {}", reason.token()),
        Plan::Fetch { reason: why, .. } => format!("fetch{}", reason(why)),
        Plan::Serve { reason: why, .. } => format!("serve{}", reason(why)),
        Plan::ServeAndRefresh { .. } => "refresh".to_owned(),
        Plan::Revalidate { reason, .. } => format!("revalidate {}", reason.token()),
        Plan::Complete { range, .. } => format!("complete {}", range.to_str().unwrap()),
        Plan::Unsatisfiable { reason } => format!("unsatisfiable {}", reason.token()),
    }
}
