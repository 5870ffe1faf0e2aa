//! An oracle: what Larder's policy decides in random cases is compared with `http-cache-semantics`, a policy that was
//! written by others and is used by many. Each difference is explained by a line of the table in `table`, which says who
//! is right and by which section; what no line explains is a failure, and so is a line that explains nothing.
//!
//! `tests/oracle/run --help` tells how to try more cases than `cargo test` does, and others.

mod cases;
mod table;

use crate::clients::installed;
use crate::support::proxy::root;
use crate::support::skip;
use cases::{Case, Lines, START};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use larder::clock::Moment;
use larder::field::target::Target;
use larder::policy::{
    self, Asked, Options, Plan, Reason, Reply, RequestFacts, SetCookie, StoredHead, Terms, Verdict,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Deserialize;
use std::collections::btree_map::{BTreeMap, Entry};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Command, Stdio};
use table::{Aspect, EXPLAINED, Pair};

/// How many cases are drawn if nothing else is said.
const CASES: u64 = 10_000;

/// How many cases of a kind that nothing explains are shown.
const SHOWN: usize = 3;

/// From so many on every line of the table has to have explained something.
const ENOUGH: usize = 1_000_000;

/// What is decided with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Decision {
    /// It answers.
    Serve,
    /// It answers, and is validated meanwhile.
    Refresh,
    /// The origin is asked, or nobody.
    Ask,
}

/// What becomes of it by the origin's answer to its validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It answers in place of an error.
    Stale,
    /// It is updated.
    Freshened,
    /// The answer stands for itself.
    Other,
}

/// A response after it was updated.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct After {
    /// Seconds.
    pub(super) age: f64,
    /// Each name with its lines, joined.
    pub(super) fields: BTreeMap<String, String>,
}

/// What one side says of a case.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Says {
    pub(super) storable: bool,
    /// Why not: ours alone.
    #[serde(skip)]
    pub(super) why: Option<Reason>,
    /// Seconds; 0 where it may not be used without asking.
    pub(super) lifetime: f64,
    /// Seconds, at the second request.
    pub(super) age: f64,
    pub(super) decision: Decision,
    /// If-None-Match and If-Modified-Since that go out, where it is validated.
    pub(super) conditions: Option<[Option<String>; 2]>,
    pub(super) outcome: Option<Outcome>,
    pub(super) after: Option<After>,
}

fn map(lines: &Lines) -> HeaderMap {
    let pairs = lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name, value);
    }
    map
}

/// A lifetime in seconds, 0 where the response may not be used without asking.
fn lifetime(head: &StoredHead, terms: &Terms<'_>) -> f64 {
    let whole = head.facts.directives.no_cache.is_whole();
    if whole { 0.0 } else { policy::freshness(head.view(), terms).lifetime as f64 / 1000.0 }
}

fn text(value: &HeaderValue) -> String {
    value.to_str().unwrap().to_owned()
}

/// What Larder says, and the head that it stores.
fn ours(case: &Case) -> (Says, Option<StoredHead>) {
    let set_cookie = if case.shares_cookies { SetCookie::Rfc9111 } else { SetCookie::Strict };
    let options = Options { set_cookie, heuristic_max: i64::MAX, ..Options::default() };
    let received = Moment::at(START);
    let terms = |now| Terms { options: &options, rule: None, now };
    let (at, later) = (terms(received), terms(received.plus(case.passed)));
    let (request, response) = (map(&case.request), map(&case.response));
    let reply = |status: u16, headers, time| Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        request_time: time,
        response_time: time,
        framing_ok: true,
        close_delimited: false,
        content_length: None,
    };
    let method = Method::from_bytes(case.method.as_bytes()).unwrap();
    let facts = RequestFacts::of(&method, &request, false);
    let first = reply(case.status, &response, received);
    let (stored, why) = match policy::verdict(&facts, Asked::Plain, &first, &at) {
        Verdict::Store(head) => (Some(head), None),
        Verdict::PassThrough(reason) | Verdict::Refuse(reason) => {
            let target = Target::absolute(&"http://h/x".parse().unwrap()).unwrap();
            (policy::post_stores(&facts, &target, &first, &at), Some(reason))
        }
        other => panic!("{other:?}"),
    };
    let mut says = Says {
        storable: stored.is_some(),
        why,
        lifetime: 0.0,
        age: 0.0,
        decision: Decision::Ask,
        conditions: None,
        outcome: None,
        after: None,
    };
    let Some(head) = stored else { return (says, None) };
    says.lifetime = lifetime(&head, &later);
    says.age = policy::freshness(head.view(), &later).current_age as f64 / 1000.0;
    let asking = map(&case.asking);
    let method = Method::from_bytes(case.asking_method.as_bytes()).unwrap();
    let facts = RequestFacts::of(&method, &asking, false);
    let plan = policy::plan(&facts, &[&*head], &later);
    says.decision = match &plan {
        Plan::Serve { reason: Some(Reason::StaleWhileRevalidate), .. } => Decision::Refresh,
        Plan::Serve { .. } => Decision::Serve,
        Plan::ServeAndRefresh { .. } => Decision::Refresh,
        _ => Decision::Ask,
    };
    if matches!(plan, Plan::Revalidate { .. }) && method == Method::GET {
        let mut sent = asking.clone();
        policy::conditional(&mut sent, head.view());
        says.conditions =
            Some([header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE].map(|name| sent.get(name).map(text)));
        let answer = map(&case.answer);
        let verdict = policy::verdict(
            &facts,
            Asked::Validation(head.view()),
            &reply(case.answer_status, &answer, later.now),
            &later,
        );
        let updated = match verdict {
            Verdict::Freshen { head, .. } | Verdict::FreshenOnce { head, .. } => Some(*head),
            Verdict::ServeStale(_) => {
                says.outcome = Some(Outcome::Stale);
                None
            }
            _ => {
                says.outcome = Some(Outcome::Other);
                None
            }
        };
        if let Some(updated) = updated {
            says.outcome = Some(Outcome::Freshened);
            let mut fields: BTreeMap<String, String> = BTreeMap::new();
            for (name, value) in updated.fields().iter() {
                match fields.entry(name.as_str().to_owned()) {
                    Entry::Vacant(place) => drop(place.insert(text(&value))),
                    // Node hands over one Expires only.
                    Entry::Occupied(_) if name == header::EXPIRES => {}
                    Entry::Occupied(mut joined) => *joined.get_mut() += &format!(", {}", text(&value)),
                }
            }
            says.after = Some(After {
                age: policy::freshness(updated.view(), &later).current_age as f64 / 1000.0,
                fields,
            });
        }
    }
    (says, Some(*head))
}

/// Whether two numbers of seconds are the same but for rounding.
pub(super) fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.002
}

/// In what two sides differ. What follows from one difference is not another: each aspect is compared only where
/// those that it builds on agree.
fn differences(ours: &Says, theirs: &Says) -> (Vec<(Aspect, String)>, Vec<Aspect>) {
    let (mut found, mut compared) = (Vec::new(), Vec::new());
    let mut check = |aspect, equal: bool, name: String| {
        compared.push(aspect);
        if !equal {
            found.push((aspect, name));
        }
        equal
    };
    let none = String::new;
    if !check(Aspect::Storable, ours.storable == theirs.storable, none()) || !ours.storable {
        return (found, compared);
    }
    let lifetime = check(Aspect::Lifetime, same(ours.lifetime, theirs.lifetime), none());
    let age = check(Aspect::Age, same(ours.age, theirs.age), none());
    let decision = lifetime && age && check(Aspect::Decision, ours.decision == theirs.decision, none());
    if !decision {
        return (found, compared);
    }
    let (Some(conditions), Some(outcome)) = (&ours.conditions, ours.outcome) else {
        return (found, compared);
    };
    check(Aspect::Conditions, Some(conditions) == theirs.conditions.as_ref(), none());
    let same_outcome = check(Aspect::Outcome, Some(outcome) == theirs.outcome, none());
    if let (Some(ours), Some(theirs), Outcome::Freshened, true) =
        (&ours.after, &theirs.after, outcome, same_outcome)
    {
        for name in ours.fields.keys().chain(theirs.fields.keys()).collect::<std::collections::BTreeSet<_>>()
        {
            check(Aspect::Field, ours.fields.get(name) == theirs.fields.get(name), name.clone());
        }
        if ours.fields.get("date") == theirs.fields.get("date") {
            check(Aspect::NewAge, same(ours.age, theirs.age), none());
        }
    }
    (found, compared)
}

fn number(name: &str, default: u64) -> u64 {
    let name = format!("LARDER_ORACLE_{name}");
    std::env::var(&name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

#[test]
fn another_policy_agrees_or_the_difference_is_explained() {
    let folder = root().join("tests/oracle");
    if !installed("node") || !folder.join("node_modules/http-cache-semantics").exists() {
        return skip("the oracle", "Node or tests/oracle/node_modules is missing");
    }
    let (count, seed) = (number("CASES", CASES) as usize, number("SEED", 20_261_123));
    println!("{count} cases, LARDER_ORACLE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Command::new("node")
        .arg(folder.join("answer.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, output) = (node.stdin.take().unwrap(), BufReader::new(node.stdout.take().unwrap()));
    let (asked, cases) = std::sync::mpsc::sync_channel::<Case>(1 << 14);
    let writer = std::thread::spawn(move || {
        let mut input = BufWriter::with_capacity(1 << 16, input);
        for _ in 0..count {
            let case = Case::draw(&mut random);
            writeln!(input, "{}", case.line()).unwrap();
            asked.send(case).unwrap();
        }
    });
    let mut explained = vec![0_usize; EXPLAINED.len()];
    let (mut compared, mut unexplained) = (BTreeMap::<Aspect, usize>::new(), BTreeMap::<_, Vec<_>>::new());
    for (line, case) in output.lines().zip(cases) {
        let theirs: Says = serde_json::from_str(&line.unwrap()).unwrap();
        let (ours, head) = ours(&case);
        let (differences, aspects) = differences(&ours, &theirs);
        for aspect in aspects {
            *compared.entry(aspect).or_default() += 1;
        }
        for (aspect, field) in differences {
            let pair = Pair { case: &case, ours: &ours, theirs: &theirs, head: head.as_ref(), field: &field };
            match EXPLAINED.iter().position(|line| line.aspect == aspect && (line.applies)(&pair)) {
                Some(index) => explained[index] += 1,
                None => unexplained
                    .entry((aspect, field.clone()))
                    .or_default()
                    .push(format!("  {case:?}\n  ours   {ours:?}\n  theirs {theirs:?}\n")),
            }
        }
    }
    writer.join().unwrap();
    assert!(node.wait().unwrap().success());
    println!("compared: {compared:?}");
    for (line, times) in EXPLAINED.iter().zip(&explained) {
        println!("{times:7}  {:?}: {} ({}, {:?})", line.aspect, line.says, line.section, line.right);
    }
    for ((aspect, field), cases) in &unexplained {
        println!("{} that nothing explains: {aspect:?} {field}", cases.len());
        cases.iter().take(SHOWN).for_each(|case| println!("{case}"));
    }
    assert!(unexplained.is_empty(), "differences that nothing explains, LARDER_ORACLE_SEED={seed}");
    assert_eq!(compared.values().max(), Some(&count), "every case was judged by both");
    if count >= ENOUGH {
        let unused: Vec<_> = EXPLAINED
            .iter()
            .zip(&explained)
            .filter(|(_, times)| **times == 0)
            .map(|(line, _)| line.says)
            .collect();
        assert!(unused.is_empty(), "lines that explain nothing: {unused:?}");
    }
}
