//! The clients: what each of them asks for, and the judgement of what it gets.

use super::Settings;
use super::bodies::{Bodies, draw_size};
use super::link::{Answer, Link};
use super::origins::{FAULTS, Fate};
use larder::clock::Stopwatch;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// After this long an exchange is lost: the proxy's own limits and the origin's stalls are far below.
const LOST: Duration = Duration::from_secs(30);

/// What a request is for, and how many of a hundred are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hit,
    Miss,
    Tunnel,
    Fault(&'static str, Fate),
}

impl Kind {
    fn draw(random: &mut StdRng) -> Self {
        match random.random_range(0..100) {
            0..70 => Self::Hit,
            70..85 => Self::Miss,
            85..95 => Self::Tunnel,
            _ => {
                let (path, fate) = FAULTS[random.random_range(0..FAULTS.len())];
                Self::Fault(path, fate)
            }
        }
    }

    pub(super) fn row(self) -> usize {
        match self {
            Self::Hit => 0,
            Self::Miss => 1,
            Self::Tunnel => 2,
            Self::Fault(..) => 3,
        }
    }
}

pub(super) const KINDS: [&str; 4] = ["hits", "misses", "tunnels", "faults"];

/// Who is where, and since when the load runs.
pub(super) struct Load {
    pub(super) settings: Settings,
    pub(super) bodies: Arc<Bodies>,
    pub(super) proxy: SocketAddr,
    pub(super) right: SocketAddr,
    pub(super) wrong: SocketAddr,
    pub(super) reluctant: SocketAddr,
    pub(super) hot: Vec<String>,
    pub(super) since: Stopwatch,
}

/// One exchange.
#[derive(Clone, Copy)]
pub(super) struct Took {
    pub(super) kind: Kind,
    /// When it began.
    pub(super) at: Duration,
    pub(super) time: Duration,
    pub(super) hit: bool,
}

/// What one client saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) took: Vec<Took>,
    /// What did not end whole although it should have.
    pub(super) lost: Vec<String>,
    /// What ended otherwise than it may.
    pub(super) wrong: Vec<String>,
    /// Faults after whose head the origin was so fast to break off that even the head did not get through.
    pub(super) headless: usize,
}

impl Seen {
    fn judge(&mut self, kind: Kind, path: &str, answer: &Answer) {
        let told = || format!("{kind:?} {path}: {answer:?}");
        let fate = if let Kind::Fault(_, fate) = kind { fate } else { Fate::Whole };
        match (fate, answer) {
            (_, Answer::Wrong(_)) => self.wrong.push(told()),
            (Fate::Whole, Answer::Whole { .. }) => {}
            (Fate::Whole, Answer::Broken | Answer::Nothing | Answer::Refused(_)) => self.lost.push(told()),
            (Fate::Broken, Answer::Broken | Answer::Refused(502)) => {}
            (Fate::Broken, Answer::Nothing) => self.headless += 1,
            (Fate::Refused, Answer::Refused(502)) => {}
            (Fate::Broken | Fate::Refused, _) => self.wrong.push(told()),
        }
    }
}

/// One client from beginning to end.
pub(super) async fn client(number: u64, load: Arc<Load>) -> Seen {
    let mut random = StdRng::seed_from_u64(load.settings.seed.wrapping_add(number));
    let pause = load.settings.clients as f64 / load.settings.rate as f64;
    let (mut seen, mut link, mut count) = (Seen::default(), None, 0_u64);
    loop {
        tokio::time::sleep(Duration::from_secs_f64(pause * random.random_range(0.0..2.0))).await;
        let at = load.since.elapsed();
        if at.as_secs() >= load.settings.seconds {
            return seen;
        }
        count += 1;
        let kind = Kind::draw(&mut random);
        let path = load.path(kind, &mut random, &format!("{number}-{count}"));
        let begun = Stopwatch::start();
        let answer = tokio::time::timeout(LOST, load.exchange(&mut link, kind, &path)).await;
        let time = begun.elapsed();
        let Ok(answer) = answer else {
            seen.lost.push(format!("{kind:?} {path}: nothing more came in {LOST:?}"));
            link = None;
            continue;
        };
        seen.judge(kind, &path, &answer);
        let keeps = matches!(answer, Answer::Whole { .. } | Answer::Refused(_)) && kind != Kind::Tunnel;
        if !keeps || link.as_ref().is_some_and(|link: &Link| link.last) {
            link = None;
        }
        seen.took.push(Took { kind, at, time, hit: matches!(answer, Answer::Whole { hit: true }) });
    }
}

impl Load {
    fn path(&self, kind: Kind, random: &mut StdRng, id: &str) -> String {
        let size = draw_size(random);
        match kind {
            Kind::Hit => self.hot[random.random_range(0..self.hot.len())].clone(),
            Kind::Miss if random.random() => format!("/kept/{id}/{size}"),
            Kind::Miss => format!("/once/{id}/{size}"),
            Kind::Tunnel => format!("/tunnel/{id}/{size}"),
            Kind::Fault(path, _) => format!("{path}?{id}/{}", size.clamp(2, 64 << 10)),
        }
    }

    async fn exchange(&self, kept: &mut Option<Link>, kind: Kind, path: &str) -> Answer {
        let link = match kept {
            Some(link) => link,
            None => match Link::to(self.proxy).await {
                Ok(link) => kept.insert(link),
                Err(error) => return Answer::Wrong(format!("no connection to the proxy: {error}")),
            },
        };
        match self.ask(link, kind, path).await {
            Ok(()) => link.answer(&self.bodies, path).await,
            Err(error) => Answer::Wrong(format!("no request could be sent: {error}")),
        }
    }

    /// Sends the request, in a tunnel of its own if it is one for that.
    async fn ask(&self, link: &mut Link, kind: Kind, path: &str) -> std::io::Result<()> {
        let origin = match kind {
            Kind::Fault("/slow-accept", _) => self.reluctant,
            Kind::Fault(..) => self.wrong,
            Kind::Hit | Kind::Miss | Kind::Tunnel => self.right,
        };
        if kind == Kind::Tunnel {
            link.send(format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n").as_bytes()).await?;
            let head = link.head().await?;
            if !head.starts_with("HTTP/1.1 200 ") {
                return Err(std::io::Error::other(format!("no tunnel: {head:?}")));
            }
            return link.send(format!("GET {path} HTTP/1.1\r\nHost: {origin}\r\n\r\n").as_bytes()).await;
        }
        link.send(request(origin, kind, path).as_bytes()).await
    }

    /// Asks once for each of these.
    pub(super) async fn once(self: &Arc<Self>, paths: &[String]) {
        let mut link = None;
        for path in paths {
            let answer = self.exchange(&mut link, Kind::Miss, path).await;
            assert!(matches!(answer, Answer::Whole { .. }), "before the load: {path}: {answer:?}");
        }
    }
}

/// Half of what does not end whole is a request with a body, which must never be sent twice.
fn request(origin: SocketAddr, kind: Kind, path: &str) -> String {
    let uploads =
        matches!(kind, Kind::Fault(_, Fate::Broken | Fate::Refused)) && path.len().is_multiple_of(2);
    let (method, more) = if uploads { ("POST", "Content-Length: 6\r\n\r\nupload") } else { ("GET", "\r\n") };
    format!("{method} http://{origin}{path} HTTP/1.1\r\nHost: {origin}\r\n{more}")
}
