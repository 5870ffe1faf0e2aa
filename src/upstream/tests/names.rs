//! Names, addresses and who may dial them. The name server is scripted.

use std::net::IpAddr;
use std::sync::Mutex;

use tokio::net::UdpSocket;

use super::*;

/// What a scripted name server says to a question.
#[derive(Clone)]
enum Says {
    /// These addresses, with this TTL.
    Addresses(&'static [&'static str], u32),
    NoSuchName,
    Nothing,
}

/// How often a type was asked for.
fn times(asked: &Mutex<Vec<u8>>, kind: u8) -> usize {
    let asked = asked.lock().unwrap();
    asked.iter().fold(0, |n, other| n + usize::from(*other == kind))
}

/// A name server for all names. `script` gets the question's type (1: A, 28: AAAA) and how many of that type came before.
async fn name_server(
    script: impl Fn(u8, usize) -> Says + Send + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        loop {
            let (_, from) = socket.recv_from(&mut packet).await.unwrap();
            // Header: 12 bytes. Question: labels to a zero, type, class.
            let mut end = 12;
            while packet[end] != 0 {
                end += 1 + usize::from(packet[end]);
            }
            let kind = packet[end + 2];
            let question = packet[12..end + 5].to_vec();
            let before = times(&noted, kind);
            noted.lock().unwrap().push(kind);
            let (code, addresses, ttl) = match script(kind, before) {
                Says::Addresses(addresses, ttl) => (0, addresses, ttl),
                Says::NoSuchName => (3, &[][..], 0),
                Says::Nothing => continue,
            };
            let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            let mut reply = packet[..2].to_vec();
            reply.extend([0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
            reply.extend(question);
            for ip in addresses {
                reply.extend([0xc0, 12, 0, kind, 0, 1]);
                reply.extend(ttl.to_be_bytes());
                match ip {
                    IpAddr::V4(ip) => reply.extend([&[0, 4][..], &ip.octets()].concat()),
                    IpAddr::V6(ip) => reply.extend([&[0, 16][..], &ip.octets()].concat()),
                }
            }
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (address, asked)
}

fn asking(server: SocketAddr, change: impl FnOnce(&mut Options)) -> Upstream {
    upstream(|o| {
        o.nameservers = vec![server];
        change(o);
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn localhost_is_loopback_without_asking_and_a_refused_address_gives_way_to_the_next() {
    let (server, asked) = name_server(|_, _| Says::Nothing).await;
    // Only on IPv4: ::1, tried first, refuses.
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move { say(&listener, OK).await.1 });
    let received =
        send(&asking(server, |_| ()), get(&format!("http://a.localhost:{}/", address.port()))).await;
    assert_eq!(received.unwrap().address, address);
    assert!(origin.await.unwrap().contains(&format!("host: a.localhost:{}\r\n", address.port())));
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn one_family_that_does_not_answer_does_not_hold_up_the_other() {
    let (server, _) = name_server(|kind, _| match kind {
        28 => Says::Nothing,
        _ => Says::Addresses(&["127.0.0.1"], 60),
    })
    .await;
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move { drop(say(&listener, OK).await) });
    let mut call = get(&format!("http://origin.test:{}/", address.port()));
    let upstream = asking(server, |o| o.dns_timeout = HANG);
    // Far less than the resolver waits for an answer before it gives up.
    let received = tokio::time::timeout(Duration::from_secs(3), upstream.send(&mut call)).await.unwrap();
    assert_eq!(received.unwrap().address, address);
    origin.await.unwrap();
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_its_ttl_is_honoured_within_bounds() {
    let (server, asked) = name_server(|kind, _| match kind {
        28 => Says::NoSuchName,
        _ => Says::Addresses(&["127.0.0.1"], 1),
    })
    .await;
    let (clock, hand) = Clock::manual(1_000_000);
    let options = Options { nameservers: vec![server], ..Options::default() };
    let upstream = Upstream::new(options, Buffers::new(&body::buffers::Options::default()), clock).unwrap();
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            drop(say(&listener, OK).await);
        }
    });
    let url = format!("http://origin.test:{}/", address.port());
    let ask = || async { send(&upstream, get(&url)).await.unwrap() };
    tokio::join!(ask(), ask(), ask());
    let questions = |kind: u8| times(&asked, kind);
    assert_eq!((questions(1), upstream.stats().dns_lookups), (1, 2));
    // A TTL of one second counts as five.
    hand.advance(Duration::from_millis(4_900));
    ask().await;
    assert_eq!(questions(1), 1);
    hand.advance(Duration::from_millis(200));
    ask().await;
    assert_eq!(questions(1), 2);
    assert!(upstream.stats().dns_hits > 0);
}

#[track_caller]
fn check_failure(says: Says, expected: ProxyError) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (server, asked) = name_server(move |_, _| says.clone()).await;
        let upstream = asking(server, |o| o.dns_timeout = SOON * 4);
        let failure = || async { send(&upstream, get("http://origin.test/")).await.err().unwrap() };
        assert_eq!(failure().await.kind, expected);
        let questions = asked.lock().unwrap().len();
        // Remembered.
        assert_eq!(failure().await.kind, expected);
        assert_eq!(asked.lock().unwrap().len(), questions);
        let told = upstream.stats().errors.into_iter().find(|(kind, _)| *kind == expected);
        assert_eq!(told, Some((expected, 2)));
    });
}

#[test]
fn names_that_fail_are_told_apart_and_remembered() {
    check_failure(Says::NoSuchName, ProxyError::DnsError);
    check_failure(Says::Addresses(&[], 60), ProxyError::DnsError);
    check_failure(Says::Nothing, ProxyError::DnsTimeout);
}

#[tokio::test]
async fn the_systems_resolver_serves_as_well() {
    let upstream = upstream(|o| o.resolver = Resolver::System);
    let error = send(&upstream, get("http://name.invalid/")).await.err().unwrap();
    assert!(matches!(error.kind, ProxyError::DnsError | ProxyError::DnsTimeout), "{error:?}");
}

fn guarded() -> Grant {
    Grant::plain(Arc::new(Access::new(access::Options::default(), Vec::new())))
}

#[tokio::test]
async fn a_destination_inside_is_never_dialled_by_whatever_name() {
    let (server, _) = name_server(|kind, _| match kind {
        28 => Says::Addresses(&["::1"], 60),
        _ => Says::Addresses(&["127.0.0.1", "10.0.0.1"], 60),
    })
    .await;
    let (listener, address) = listen().await;
    let upstream = asking(server, |_| ());
    for host in ["127.0.0.1", "localhost", "origin.test", "[::ffff:127.0.0.1]"] {
        let call = Call { grant: guarded(), ..get(&format!("http://{host}:{}/", address.port())) };
        let error = send(&upstream, call).await.err().unwrap();
        assert_eq!(error.kind, ProxyError::DestinationIpProhibited, "{host}");
        assert!(error.denied.is_some());
    }
    let (host, access) = (Host::Name("origin.test".into()), guarded());
    let error = upstream.dial(&host, address.port(), &[], &access).await.err().unwrap();
    assert_eq!(error.kind, ProxyError::DestinationIpProhibited);
    assert_eq!(upstream.stats().opened, 0);
    drop(listener);
}

#[tokio::test]
async fn a_pooled_connection_is_judged_anew() {
    let (listener, address) = listen().await;
    let origin =
        tokio::spawn(async move { say(&listener, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await });
    let upstream = upstream(|_| ());
    send(&upstream, at(address)).await.unwrap();
    let error = send(&upstream, Call { grant: guarded(), ..at(address) }).await.err().unwrap();
    assert_eq!(error.kind, ProxyError::DestinationIpProhibited);
    drop(origin.await.unwrap());
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let (listener, address) = listen().await;
    drop(listener);
    let error = send(&upstream(|_| ()), at(address)).await.err().unwrap();
    assert_eq!((error.kind, error.address), (ProxyError::ConnectionRefused, Some(address)));
}

#[tokio::test]
async fn dialling_starts_from_the_address_given() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move { listener.accept().await.unwrap().1 });
    let upstream = upstream(|o| o.source_address = vec!["127.0.0.9".parse().unwrap()]);
    let dialed = upstream.dial(&Host::Ip(address.ip()), address.port(), &[], &anywhere()).await.unwrap();
    assert_eq!(dialed.address, address);
    assert_eq!(origin.await.unwrap().ip(), "127.0.0.9".parse::<IpAddr>().unwrap());
}
