//! What Larder sends on means one thing: whatever a client sends, the bytes that reach the origin are requests to the
//! letter, and eight other servers count the same ones in them.
//!
//! ```text
//!  mutate --bytes--> larder --bytes--> recorder      strict: are they requests, and nothing else?
//!                      |                  |          log: are they those that larder says it sent?
//!                   its log               `--bytes--> each of servers: does it count these?
//! ```
//!
//! `tests/differential --help` tells how to run more of them than the tests do.

mod count;
mod mutate;
mod recorder;
mod servers;
mod strict;

use crate::support::dns::NameServer;
use crate::support::{DEADLINE, Proxy, skip};
use count::{Refusals, wrong_by};
use larder::clock::Stopwatch;
use mutate::Stream;
use recorder::{Connection, MARK, Recorder};
use serde_json::Value;
use servers::Server;
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use strict::Request;

/// From the environment, as `LARDER_DIFFERENTIAL_STREAMS` and so on.
struct Settings {
    streams: usize,
    seed: u64,
    /// This stream alone.
    only: Option<usize>,
    larder: Option<PathBuf>,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str| {
            let text = std::env::var(format!("LARDER_DIFFERENTIAL_{name}")).ok()?;
            Some(
                text.parse::<u64>()
                    .unwrap_or_else(|_| panic!("LARDER_DIFFERENTIAL_{name} is no number: {text}")),
            )
        };
        Self {
            streams: number("STREAMS").map_or(1500, |streams| streams as usize),
            seed: number("SEED").unwrap_or(9112),
            only: number("ONLY").map(|only| only as usize),
            larder: std::env::var_os("LARDER_DIFFERENTIAL_BINARY").map(PathBuf::from),
        }
    }

    fn numbers(&self) -> Vec<usize> {
        self.only.map_or_else(|| (0..self.streams).collect(), |only| vec![only])
    }
}

/// What came of one stream.
struct Outcome {
    number: usize,
    /// What was sent, as it can be read.
    sent: String,
    authority: String,
    /// How many whole requests that has at most, where it is known.
    whole: Option<usize>,
    connections: Vec<Connection>,
    /// The origin's answers that the client got.
    relayed: usize,
}

impl Outcome {
    /// The whole requests that the origin got.
    fn requests(&self) -> impl Iterator<Item = &Request> {
        self.connections.iter().flat_map(|connection| &connection.requests)
    }
}

/// Does something with each of these, several at a time.
fn each<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// Who sends a stream: the log tells by it whose a line is.
fn source(number: usize) -> IpAddr {
    Ipv4Addr::from(0x7f20_0000 | number as u32).into()
}

/// Sends a stream to the proxy, until the proxy ends the connection.
fn send(proxy: SocketAddr, stream: &Stream, number: usize) -> Outcome {
    let recorder = Recorder::start(number.is_multiple_of(3));
    let authority = recorder.address.to_string();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source(number), 0)).into()).unwrap();
    socket.connect(&proxy.into()).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let writes = stream.writes(&authority);
    for write in &writes {
        // It may have been refused by now.
        socket.write_all(write).ok();
    }
    socket.shutdown(Shutdown::Write).ok();
    let (mut got, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => got.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("stream {number} is never ended: {}", writes.concat().escape_ascii())
            }
            Err(_) => break,
        }
    }
    let relayed = got.windows(MARK.len()).filter(|window| *window == MARK).count();
    let sent = writes.concat().escape_ascii().to_string();
    Outcome { number, sent, authority, whole: stream.whole, connections: recorder.finish(), relayed }
}

/// What is wrong with what came to the origin, by the bytes alone and by what the proxy's log says it sent.
fn wrong_by_itself(outcome: &Outcome, log: &[Value]) -> Option<String> {
    for connection in &outcome.connections {
        if let Some(violation) = &connection.violation {
            return Some(violation.clone());
        }
        if let Some(request) =
            connection.requests.iter().find(|r| r.all("host").next() != Some(&outcome.authority))
        {
            return Some(format!("another host's: {request:?}"));
        }
    }
    let came = outcome.requests().count();
    if outcome.whole.is_some_and(|whole| came > whole) {
        return Some(format!("{came} requests, and the client had sent fewer"));
    }
    let asked = |line: &&Value| !line["upstream"].is_null();
    let relayed = |line: &&Value| line["forward_status"] == 200;
    let text = |line: &Value, member: &str| line[member].as_str().unwrap_or_default().to_owned();
    let as_logged = |request: &Request| {
        let path = if request.target == "*" { "/" } else { &request.target };
        format!("{} http://{}{path}", request.method, outcome.authority)
    };
    let mut told: Vec<_> =
        log.iter().filter(relayed).map(|line| text(line, "method") + " " + &text(line, "url")).collect();
    if outcome.relayed != told.len() {
        return Some(format!("the client got {} answers, of {told:?}", outcome.relayed));
    }
    for request in outcome.requests().map(as_logged) {
        let Some(at) = told.iter().position(|line| *line == request) else {
            return Some(format!("the log does not tell of {request}"));
        };
        told.swap_remove(at);
    }
    // A hasty origin's answer to a request that broke off may be relayed, or what is wrong with it told instead.
    let hasty = |connection: &Connection| connection.answered.get(connection.requests.len()).map(as_logged);
    let hasty: Vec<_> = outcome.connections.iter().filter_map(hasty).collect();
    if let Some(line) = told.iter().find(|line| !hasty.contains(line)) {
        return Some(format!("the log tells of {line}"));
    }
    let broken = outcome.connections.iter().filter(|connection| connection.tail > 0).count();
    let began = came + broken;
    if log.iter().filter(asked).count() < began {
        return Some(format!("{began} requests began, and the log tells of fewer"));
    }
    None
}

#[test]
fn what_is_sent_on_is_counted_alike_by_all() {
    if !cfg!(target_os = "linux") {
        return skip("counting by other servers", "this system has one loopback address only");
    }
    let settings = Settings::read();
    let numbers = settings.numbers();
    println!("differential: {} streams, seed {}", numbers.len(), settings.seed);
    let since = Stopwatch::start();
    let starting = std::thread::spawn(Server::all);
    let names = NameServer::start();
    let proxy = Proxy::builder()
        .binary(settings.larder.clone())
        // Through a tunnel go bytes, whatever they are.
        .config(&(names.config() + "access.connect_ports = [443]\nlog.query = true"))
        .start();

    let outcomes = Mutex::new(Vec::new());
    each(&numbers, 8, |number| {
        let outcome = send(proxy.address, &Stream::draw(settings.seed, *number), *number);
        outcomes.lock().unwrap().push(outcome);
    });
    let outcomes = outcomes.into_inner().unwrap();
    let mut log: HashMap<IpAddr, Vec<Value>> = HashMap::new();
    for line in logged(proxy) {
        let client: SocketAddr = line["client"].as_str().unwrap().parse().unwrap();
        log.entry(client.ip()).or_default().push(line);
    }

    let sending = since.elapsed();

    let faults = Mutex::new(Vec::new());
    let fault = |who: &str, wrong: &str, outcome: &Outcome| {
        let came: Vec<_> = outcome.connections.iter().map(|c| c.bytes.escape_ascii().to_string()).collect();
        faults.lock().unwrap().push(format!(
            "stream {}, {who}: {wrong}\n  sent: {}\n  sent on: {came:#?}",
            outcome.number, outcome.sent
        ));
    };
    for outcome in &outcomes {
        let lines = log.get(&source(outcome.number)).map_or(&[][..], Vec::as_slice);
        if let Some(wrong) = wrong_by_itself(outcome, lines) {
            fault("by itself", &format!("{wrong}\n  log: {lines:?}"), outcome);
        }
    }

    let refusals = Refusals::default();
    let servers = starting.join().unwrap();
    let work: Vec<_> = outcomes.iter().flat_map(|o| o.connections.iter().map(move |c| (o, c))).collect();
    let times = Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for server in &servers {
            let (work, fault, refusals, times) = (&work, &fault, &refusals, &times);
            scope.spawn(move || {
                let since = Stopwatch::start();
                each(work, 2, |(outcome, connection)| {
                    if connection.violation.is_none()
                        && let Some(wrong) = wrong_by(server, connection, refusals)
                    {
                        fault(server.kind.name, &wrong, outcome);
                    }
                });
                times.lock().unwrap().insert(server.kind.name, since.elapsed());
            });
        }
    });

    let whole: usize = outcomes.iter().map(|outcome| outcome.requests().count()).sum();
    let broken = work.iter().filter(|(_, connection)| connection.tail > 0).count();
    println!("{whole} requests and {broken} that broke off on {} connections, in {sending:.1?}", work.len());
    let times = times.into_inner().unwrap();
    for name in servers.iter().map(|server| server.kind.name) {
        println!("  counted by {name} in {:.1?}", times[name]);
    }
    let mut refused: Vec<_> = refusals.into_inner().unwrap().into_iter().collect();
    refused.sort_unstable();
    for ((server, why), count) in refused {
        println!("  refused by {server}, {why}: {count}");
    }
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "seed {}: {} faults\n{}",
        settings.seed,
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    );
    assert!(whole >= numbers.len() / 2 || settings.only.is_some(), "hardly anything was sent on");
}

/// All lines of the log, when the proxy has ended.
fn logged(mut proxy: Proxy) -> Vec<Value> {
    proxy.signal(crate::support::proxy::Signal::TERM);
    proxy.ended();
    proxy.log.whole().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}
