//! Many of everything: addresses, connections, slow readers, ranges, fields. What they take of memory, descriptors and
//! CPU time has a bound, and what is asked for is answered.
//!
//! A share of each load is run as a rule. All of it, with a release build:
//! `LARDER_LOADS=target/release/larder cargo test --release --locked --test it loads:: -- --test-threads 1 --nocapture`

use crate::forwarding::settled;
use crate::support::proxy::Start;
use crate::support::{Origin, Proxy, eventually};
use larder::clock::Stopwatch;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The binary for all of a load.
fn binary() -> Option<std::path::PathBuf> {
    std::env::var_os("LARDER_LOADS").map(Into::into)
}

fn proxy(config: &str) -> Proxy {
    start(config).start()
}

fn start(config: &str) -> Start {
    Proxy::builder().binary(binary()).unheard().config(config)
}

fn scaled<T>(share: T, all: T) -> T {
    if binary().is_some() { all } else { share }
}

/// Of clients that read slowly. One of 4 KiB is opened again by the kernel's probes alone, which are minutes apart in the
/// end: too long for all of a load.
fn receive_buffer() -> usize {
    scaled(4 << 10, 64 << 10)
}

/// An origin for more requests than one that remembers them has memory for: `/PATH/LENGTH` has a body of that length,
/// which may be stored.
fn plain_origin() -> SocketAddr {
    fn serve(socket: TcpStream) -> io::Result<()> {
        let body = vec![b'x'; 4 * MIB as usize];
        let mut wire = crate::support::wire::Wire::plain(socket);
        while let Some(head) = wire.head()? {
            let length: usize = head.line.split(['/', ' ']).nth(3).and_then(|l| l.parse().ok()).unwrap_or(0);
            let told = format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=86400\r\nContent-Length: {length}\r\n\r\n"
            );
            wire.write([told.as_bytes(), &body[..length]].concat())?;
        }
        Ok(())
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            std::thread::spawn(move || serve(socket));
        }
    });
    address
}

/// One to seven KiB, and always the same for a number.
fn length(number: usize) -> usize {
    1024 + (number.wrapping_mul(2_654_435_761) >> 8) % 6144
}

/// Four of five requests are for what never comes again; the fifth for what is hot, a fifth of the store, and hits are
/// counted once that can be known. Meanwhile others read bodies that had to go long ago.
#[test]
fn a_flood_of_addresses_leaves_the_store_within_its_bound_and_what_is_hot_in_it() {
    const CLIENTS: usize = 8;
    let store = scaled(4, 64) * MIB;
    // With a quarter of these, what is hot is not always known for it by the half: 75 to 98 % hits were seen.
    let addresses = scaled(40_000, 1_000_000);
    let origin = plain_origin();
    let url = |kind: &str, number: usize| format!("http://{origin}/{kind}-{number}/{}", length(number));
    let hot = (store / 5 / (5 * KIB)) as usize;
    // The slow ones take nothing until the end.
    let proxy = proxy(&format!("cache.memory = '{store}B'\nproxy.between_bytes_timeout = '1h'"));
    let large = (store / scaled(8, 16)) as usize;
    let slow = [0, 1].map(|number| {
        let mut client = proxy.client();
        // Little of it fits into the kernel's buffers; with less it would take minutes to come, see `receive_buffer`.
        socket2::SockRef::from(client.wire.socket()).set_recv_buffer_size(64 << 10).unwrap();
        client.begin("GET", &format!("http://{origin}/slow-{number}/{large}"), &[], "");
        let head = client.head("GET");
        (client, head)
    });
    let mut client = proxy.client();
    for number in (0..hot).chain(0..hot) {
        client.get(&url("hot", number)).assert_status(200);
    }
    let (asked, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut most = 0.0_f64;
    let begun = Stopwatch::start();
    std::thread::scope(|threads| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|first| {
                let (proxy, url, asked, hits) = (&proxy, &url, &asked, &hits);
                threads.spawn(move || {
                    let mut client = proxy.client();
                    for cold in (first..addresses).step_by(CLIENTS) {
                        let response = client.get(&url("cold", cold));
                        assert_eq!((response.body.len(), response.broken), (length(cold), None));
                        if (cold / CLIENTS).is_multiple_of(4) {
                            let number = (cold.wrapping_mul(2_654_435_761) >> 12) % hot;
                            let response = client.get(&url("hot", number));
                            assert_eq!(response.body.len(), length(number));
                            if cold > addresses / 2 {
                                asked.fetch_add(1, Ordering::SeqCst);
                                hits.fetch_add(usize::from(response.is_hit()), Ordering::SeqCst);
                            }
                        }
                    }
                })
            })
            .collect();
        while !clients.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            most = most.max(proxy.metric("larder_store_bytes", &[]));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let (asked, hits, peak) = (asked.into_inner(), hits.into_inner(), proxy.memory("VmHWM"));
    let bound = 1.1 * store as f64;
    println!(
        "{addresses} addresses and {asked} requests for {hot} hot ones in {seconds:.0} s: {:.1} % hits, the store at most {:.1} MiB, the process {:.1} MiB",
        100.0 * hits as f64 / asked as f64,
        most / MIB as f64,
        peak as f64 / MIB as f64
    );
    assert!(proxy.metric("larder_store_evictions_total", &[]) > addresses as f64 / 2.0);
    assert!(most <= bound, "{most} bytes in a store of {store}");
    assert!((peak as f64) < bound + 60.0 * MIB as f64, "{peak} bytes in the process");
    assert!(hits * 10 >= asked * 9, "{hits} hits of {asked}");
    for (mut client, head) in slow {
        let response = client.finish(head);
        assert_eq!((response.body.len(), response.broken), (large, None));
    }
}

/// How many descriptors this process may have, raised to what the system allows.
fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    limit.maximum.map_or(usize::MAX, |most| most as usize)
}

/// Each has asked for something, and may do so again.
#[test]
fn thousands_of_idle_connections_cost_a_few_kib_each_and_end_with_their_clients() {
    let wanted = scaled(2_000, 10_000);
    // Others need some too.
    let count = wanted.min(descriptors().saturating_sub(1_000));
    assert!(count >= wanted.min(2_000), "there are only descriptors for {count} connections");
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=600"], b"x");
    let proxy = proxy("proxy.idle_timeout = '10min'");
    proxy.get(&origin.url("/x")).assert_body("x");
    let url = origin.url("/x");
    let request = format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n");
    let (before, memory) = (proxy.descriptors(), proxy.memory("VmRSS"));
    let begun = Stopwatch::start();
    let idle: Vec<_> = (0..count)
        .map(|_| {
            let mut socket = TcpStream::connect(proxy.address).unwrap();
            socket.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 1024];
            let read = socket.read(&mut answer).unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK\r\n"));
            socket
        })
        .collect();
    let each = proxy.memory("VmRSS").saturating_sub(memory) / count as u64;
    println!("{count} idle connections in {:?}: {each} bytes of memory each", begun.elapsed());
    assert!((proxy.metric("larder_connections", &[]) - count as f64).abs() < 5.0);
    proxy.get(&url).assert_hit();
    let mut last = &idle[count - 1];
    last.write_all(request.as_bytes()).unwrap();
    assert!(last.read(&mut [0; 1024]).unwrap() > 0, "an idle connection is served again");
    assert!(each < 8 * KIB, "{each} bytes of memory for each of {count}");
    drop(idle);
    eventually("as many descriptors as before", || (proxy.descriptors() <= before).then_some(()));
    proxy.get(&url).assert_hit();
}

/// Half of what they ask for could be stored if it were not that large. They take no more than a KiB at a time.
#[test]
fn slow_readers_of_large_bodies_cost_little_each_and_their_origins_wait() {
    const LENGTH: usize = 50 << 20;
    let (count, rounds) = scaled((50, 8), (500, 60));
    descriptors();
    let origin = Origin::start();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    origin.on("/x", move |x| {
        let control =
            if x.request.target.ends_with(['0', '2', '4', '6', '8']) { "no-store" } else { "max-age=60" };
        // What waits in the kernel would say nothing of the proxy.
        socket2::SockRef::from(x.wire().socket()).set_send_buffer_size(16 << 10).unwrap();
        x.write(format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: {LENGTH}\r\n\r\n"));
        let part = vec![b'x'; 64 << 10];
        while x.written(&part) {
            counter.fetch_add(part.len(), Ordering::SeqCst);
        }
    });
    origin.serve("/fast", "200 OK", &["Cache-Control: no-store"], b"fast");
    let proxy = proxy("cache.memory = '16MiB'");
    proxy.get(&origin.url("/fast")).assert_body("fast");
    let before = proxy.memory("VmRSS");
    let mut readers: Vec<_> = (0..count)
        .map(|number| {
            let socket = TcpStream::connect(proxy.address).unwrap();
            socket2::SockRef::from(&socket).set_recv_buffer_size(receive_buffer()).unwrap();
            let url = origin.url(&format!("/x?{number}"));
            (&socket).write_all(format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
            socket
        })
        .collect();
    let sent = settled(&written);
    for _ in 0..rounds {
        let begun = Stopwatch::start();
        for reader in &mut readers {
            reader.read_exact(&mut [0; 1024]).unwrap();
        }
        proxy.get(&origin.url("/fast")).assert_body("fast");
        if binary().is_some() {
            std::thread::sleep(std::time::Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
    }
    let (more, grown) = (settled(&written) - sent, proxy.memory("VmHWM").saturating_sub(before));
    println!(
        "{count} readers of {rounds} KiB: {} bytes of memory each, {} bytes sent for each before and {} while they read",
        grown / count as u64,
        sent / count,
        more / count
    );
    // And what is the same for however many.
    assert!(grown < count as u64 * 256 * KIB + 8 * MIB, "{grown} bytes of memory for {count} readers");
    // Whatever the kernel holds besides.
    assert!(sent < count * LENGTH / 4, "{sent} bytes were sent for {count} readers of nothing");
    assert!(
        more < count * (rounds * 1024 + (1 << 20)),
        "{more} bytes were sent while {rounds} KiB were read by each"
    );
}

/// Some say nothing, some break off in the middle, some are served.
#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    const THREADS: usize = 4;
    let count = scaled(1_500, 20_000);
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=600"], b"x");
    let proxy = proxy("");
    let url = origin.url("/x");
    proxy.get(&url).assert_body("x");
    let come_and_go = |count: usize| {
        std::thread::scope(|threads| {
            for first in 0..THREADS {
                let (proxy, url) = (&proxy, &url);
                threads.spawn(move || {
                    let request = format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n");
                    for number in (first..count).step_by(THREADS) {
                        let mut socket = TcpStream::connect(proxy.address).unwrap();
                        // A reset at the end, so that no address is kept from being used again.
                        socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                        match number / THREADS % 3 {
                            0 => {}
                            1 => socket.write_all(&request.as_bytes()[..20]).unwrap(),
                            _ => {
                                socket.write_all(request.as_bytes()).unwrap();
                                let mut answer = [0; 15];
                                socket.read_exact(&mut answer).unwrap();
                                assert_eq!(&answer, b"HTTP/1.1 200 OK");
                            }
                        }
                    }
                });
            }
        });
        eventually("the end of all connections", || {
            (proxy.metric("larder_connections", &[]) < 0.5).then_some(())
        });
    };
    // What is made at the first use, as threads and their memory, is there after some of them.
    come_and_go(count / 4);
    let (before, memory, cpu) = (proxy.descriptors(), proxy.memory("VmRSS"), proxy.cpu());
    let begun = Stopwatch::start();
    come_and_go(count);
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), proxy.cpu() - cpu);
    eventually("as many descriptors as before", || (proxy.descriptors() <= before).then_some(()));
    let grown = proxy.memory("VmRSS").saturating_sub(memory);
    println!(
        "{count} connections, {:.0} a second, {} us of CPU time each; {grown} bytes of memory more",
        count as f64 / seconds,
        cpu * 10_000 / count as u64
    );
    assert!(grown < 8 * MIB, "{grown} bytes of memory more");
    proxy.get(&url).assert_hit();
}

/// In whatever form they are asked for.
#[test]
fn no_set_of_ranges_costs_more_than_twice_the_object() {
    const LENGTH: usize = 40_000;
    let origin = Origin::start();
    origin
        .on("/x", |x| x.reply("200 OK", &["Cache-Control: max-age=600", "ETag: \"v\""], vec![b'x'; LENGTH]));
    let proxy = proxy("");
    let url = origin.url("/x");
    proxy.get(&url).assert_status(200);
    let many = |one: &dyn Fn(usize) -> String| (0..1_500).map(one).collect::<Vec<_>>().join(",");
    for (what, ranges) in [
        ("the same", many(&|_| "0-39998".to_owned())),
        ("all to the end", many(&|n| format!("{n}-"))),
        ("suffixes", many(&|n| format!("-{}", LENGTH - n))),
        ("single bytes apart", many(&|n| format!("{0}-{0}", n * 20))),
        ("backwards", many(&|n| format!("{0}-{0}", LENGTH - 1 - n * 20))),
        ("overlapping", many(&|n| format!("{n}-{}", n + 20_000))),
    ] {
        let response = proxy.get_with(&url, &[&format!("Range: bytes={ranges}")]);
        assert!(matches!(response.status, 200 | 206 | 416), "{what}: {response}");
        assert!(response.body.len() <= 2 * LENGTH, "{what}: {} bytes", response.body.len());
        assert_eq!(response.broken, None, "{what}");
    }
    assert_eq!(origin.hits("/x"), 1, "all from the store");
}

/// The CPU time of each, in milliseconds; so many that the clock's steps of ten do not matter.
fn cost(proxy: &Proxy, ask: &dyn Fn(&Proxy)) -> u64 {
    const TIMES: u64 = 5;
    ask(proxy);
    let before = proxy.cpu();
    (0..TIMES).for_each(|_| ask(proxy));
    (proxy.cpu() - before) * 10 / TIMES
}

/// As long as a head may be, in all that makes work: asked for from the store, so that all of it is looked at.
#[test]
fn heads_of_requests_that_make_work_cost_little_time() {
    const ROOM: usize = 60_000;
    let origin = Origin::start();
    origin.serve(
        "/x",
        "200 OK",
        &["Cache-Control: max-age=600", "ETag: \"v\"", "Vary: Accept, Accept-Encoding, Cookie"],
        b"x",
    );
    let proxy = proxy("");
    let url = origin.url("/x");
    let list = |item: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for n in 0.. {
            let one = item(n);
            if text.len() + one.len() >= ROOM {
                return text;
            }
            text += &one;
        }
        text
    };
    let lines = |name: &dyn Fn(usize) -> String, value: &str| -> String {
        (0..98).map(|n| format!("{}: {value}\r\n", name(n))).collect()
    };
    let long = "a".repeat(ROOM / 98 - 20);
    let shapes = [
        ("nothing", String::new()),
        ("fields of a byte", "a:\r\n".repeat(ROOM / 4)),
        ("one long name", format!("{}: a\r\n", "a".repeat(ROOM))),
        ("one long value", format!("X: {}\r\n", "a".repeat(ROOM))),
        ("all fields of one name", lines(&|_| "X".to_owned(), &long)),
        ("long names that differ at the end", lines(&|n| format!("{}{n}", "a".repeat(500)), "a")),
        ("cookies", lines(&|_| "Cookie".to_owned(), &long)),
        ("Connection", format!("Connection: {}\r\n", list(&|n| format!("n{n:04},")))),
        (
            "Connection with fields",
            format!(
                "Connection: {}\r\n{}",
                (0..90).map(|n| format!("x{n},")).collect::<String>().repeat(100),
                (0..90).map(|n| format!("x{n}: a\r\n")).collect::<String>()
            ),
        ),
        ("Accept-Encoding", format!("Accept-Encoding: {}\r\n", list(&|n| format!("c{n};q=0.{},", n % 1000)))),
        ("Accept", format!("Accept: {}\r\n", list(&|n| format!("a/b{n};q=0.1,")))),
        ("Cache-Control", format!("Cache-Control: {}\r\n", list(&|n| format!("d{n}=\"\\\",\",")))),
        ("Cache-Control, unclosed", format!("Cache-Control: {}\r\n", ",\"".repeat(ROOM / 2))),
        ("If-None-Match", format!("If-None-Match: {}\r\n", list(&|n| format!("\"{n}\", ")))),
        ("If-Match", format!("If-Match: {}\r\n", list(&|n| format!("\"{n}\", ")))),
        ("Range", format!("Range: bytes={}\r\n", list(&|n| format!("{n}-{n},")))),
        ("Via", format!("Via: {}\r\n", list(&|n| format!("1.1 p{n}, ")))),
        ("commas", format!("Accept-Encoding: {0}\r\nTE: {0}\r\n", ",".repeat(ROOM / 2))),
        ("Pragma", lines(&|_| "Pragma".to_owned(), &"x,".repeat(250))),
    ];
    let ordinary = cost(&proxy, &|proxy| drop(proxy.get(&url)));
    for (what, fields) in shapes {
        let request = format!("GET {url} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", origin.address);
        assert!(request.len() < 64 << 10, "{what}: {} bytes", request.len());
        let time = cost(&proxy, &|proxy| {
            let mut client = proxy.client();
            client.wire.write(&request).ok();
            client.try_response("GET").ok();
        });
        println!("{what}: {time} ms, an ordinary one {ordinary} ms");
        // Ten times what it may, where it is not built to be fast.
        assert!(time < scaled(500, 50), "{what}: {time} ms");
    }
}

/// A long field is read once, however many variants it is compared with.
#[test]
fn many_variants_cost_little_more_than_one() {
    const VARIANTS: usize = 60;
    let origin = Origin::start();
    for path in ["/one", "/many"] {
        origin.serve(path, "200 OK", &["Cache-Control: max-age=600", "Vary: Accept-Language"], b"x");
    }
    let proxy = proxy("");
    let ask = |path: &str, languages: &str| {
        proxy.get_with(&origin.url(path), &[&format!("Accept-Language: {languages}")])
    };
    for number in 0..VARIANTS {
        ask("/many", &format!("x-{number}")).assert_status(200);
    }
    let long: Vec<_> = (0..6_000).map(|n| format!("l{n:05}")).collect();
    // In an order that is not the one that is stored, so that it is not recognised as it stands.
    ask("/one", &long.join(",")).assert_status(200);
    let turned = long.iter().rev().map(String::as_str).collect::<Vec<_>>().join(", ");
    let one = cost(&proxy, &|_| drop(ask("/one", &turned)));
    let many = cost(&proxy, &|_| drop(ask("/many", &turned)));
    println!("one variant: {one} ms, {VARIANTS}: {many} ms");
    assert!(many < 10 * one + 20, "one variant: {one} ms, {VARIANTS}: {many} ms");
}
