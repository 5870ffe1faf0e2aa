//! The accept loops and the limits on connections.

use ahash::RandomState;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use socket2::SockRef;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Options;
use crate::proxy::Proxy;
use crate::shutdown::Shutdown;
use crate::worker::{self, Workers};

/// Connections that the kernel may hold until they are accepted.
const BACKLOG: u32 = 4096;
/// How long accepting pauses when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(50);
/// How long until a connection that is closed for its descriptor has given it back.
const MOMENT: Duration = Duration::from_millis(1);

/// What listens at one address.
#[derive(Debug)]
pub struct Listener {
    /// With the port that was really bound.
    pub address: SocketAddr,
    /// One for each of the threads that serve, between which the kernel spreads connections (`SO_REUSEPORT`), or one for
    /// all of them.
    sockets: Vec<std::net::TcpListener>,
}

/// Sockets that listen.
#[derive(Debug)]
pub struct Bound {
    /// One for each address.
    pub listeners: Vec<Listener>,
    /// What could not be bound and was not asked for by name.
    pub warnings: Vec<String>,
}

/// Binds every address of `options.listen`, and listens only when all are bound. An error names the address. A program of
/// the same user that wants to (`SO_REUSEPORT`) may listen beside it, where it listens for several workers.
pub fn bind(options: &Options) -> io::Result<Bound> {
    let named = |address, error: &io::Error| cannot_listen(address, "--listen", error);
    let (mut sockets, mut warnings) = (Vec::new(), Vec::new());
    for &address in &options.listen {
        // Beside an address of IPv4 with its port, `[::]` is IPv6's alone; by itself it takes in IPv4.
        let beside = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
        let only_v6 =
            address.ip().is_unspecified() && address.port() != 0 && options.listen.iter().any(beside);
        match bound(address, only_v6) {
            Ok(socket) => sockets.push((socket, address)),
            Err(error) if options.listen_is_default && address.is_ipv6() && is_missing(&error) => {
                warnings.push(format!("not listening on {address}: {error}"));
            }
            Err(error) => return Err(named(address, &error)),
        }
    }
    let listen = |(socket, address): (TcpSocket, SocketAddr)| {
        listen(socket, options.workers).map_err(|error| named(address, &error))
    };
    let listeners = sockets.into_iter().map(listen).collect::<io::Result<_>>()?;
    Ok(Bound { listeners, warnings })
}

/// The sockets that whoever started the process listens on for it (`LISTEN_FDS`, as systemd does): all of them instead
/// of `server.listen`. To be asked once, and before there are threads, since it clears the variables.
pub fn handed_over() -> io::Result<Vec<std::net::TcpListener>> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let socket = handed.take_tcp_listener(index).map_err(|error| {
            io::Error::new(error.kind(), format!("socket {index} that was handed over (LISTEN_FDS): {error}"))
        })?;
        sockets.extend(socket);
    }
    Ok(sockets)
}

/// Takes sockets that listen already.
pub fn adopt(sockets: Vec<std::net::TcpListener>) -> io::Result<Bound> {
    let adopt = |socket: std::net::TcpListener| {
        socket.set_nonblocking(true)?;
        Ok(Listener { address: socket.local_addr()?, sockets: vec![socket] })
    };
    let listeners = sockets.into_iter().map(adopt).collect::<io::Result<_>>()?;
    Ok(Bound { listeners, warnings: Vec::new() })
}

/// An error that tells what to do about it; `flag` is the one for the address.
pub fn cannot_listen(address: SocketAddr, flag: &str, error: &io::Error) -> io::Error {
    let todo = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another program has this port (perhaps another larder): end it, or choose a port with {flag} ADDR"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "ports below 1024 take a privilege (CAP_NET_BIND_SERVICE): choose another with {flag} ADDR"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address: choose one that it has with {flag} ADDR")
        }
        _ => format!("choose another address with {flag} ADDR"),
    };
    io::Error::new(error.kind(), format!("can't listen on {address}: {error}\n{todo}"))
}

/// Whether this machine has no such address, or no such family at all. A port that is taken is another matter: its
/// other owner would get a part of what is meant for us.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn unbound(address: SocketAddr, only_v6: bool) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if only_v6 && address.is_ipv6() {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    // A restart must not wait for the last connections of the process before it.
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn bound(address: SocketAddr, only_v6: bool) -> io::Result<TcpSocket> {
    let socket = unbound(address, only_v6)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Listens, where the kernel can spread connections with a socket for each of `workers`.
fn listen(first: TcpSocket, workers: usize) -> io::Result<Listener> {
    let address = first.local_addr()?;
    let only_v6 = address.is_ipv6() && SockRef::from(&first).only_v6()?;
    let first = first.listen(BACKLOG)?.into_std()?;
    let mut sockets = vec![first];
    if cfg!(target_os = "linux") && workers > 1 {
        // Only now that it listens, and so nobody else does.
        SockRef::from(&sockets[0]).set_reuse_port(true)?;
        for _ in 1..workers {
            let another = unbound(address, only_v6)?;
            another.set_reuseport(true)?;
            another.bind(address)?;
            sockets.push(another.listen(BACKLOG)?.into_std()?);
        }
    }
    Ok(Listener { address, sockets })
}

/// What the listeners have counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Open now.
    pub open: AtomicU64,
    /// Accepted.
    pub accepted: AtomicU64,
    /// Closed at once, since too many were open.
    pub refused: AtomicU64,
    /// Closed at once, since too many from one address were open.
    pub refused_per_client: AtomicU64,
    /// Pauses for want of descriptors.
    pub pauses: AtomicU64,
}

/// The side of the clients, running.
#[derive(Debug)]
pub struct Listening {
    proxy: Arc<Proxy>,
    options: Arc<ArcSwap<Options>>,
    counts: Arc<Counts>,
    clients: Mutex<HashMap<IpAddr, usize, RandomState>>,
    /// For connections of clients for which there are descriptors, and how many there are of them.
    places: Arc<Semaphore>,
    most: usize,
    /// Whether it was told that there are none left.
    full: AtomicBool,
    workers: Workers,
    shutdown: Shutdown,
}

impl Listening {
    /// Hands connections to `proxy`, within the limits of `options`, until the drain begins; then `listeners` are closed.
    pub fn start(
        listeners: Vec<Listener>,
        proxy: Arc<Proxy>,
        options: Arc<ArcSwap<Options>>,
        counts: Arc<Counts>,
        workers: Workers,
        shutdown: Shutdown,
    ) -> io::Result<()> {
        let sockets = listeners.iter().map(|listener| listener.sockets.len()).sum();
        let most = places(workers.runtimes().count(), sockets);
        let listening = Arc::new(Self {
            proxy,
            options,
            counts,
            clients: Mutex::default(),
            places: Arc::new(Semaphore::new(most)),
            most,
            full: AtomicBool::new(false),
            workers,
            shutdown,
        });
        for Listener { address, sockets } in listeners {
            for (socket, runtime) in sockets.into_iter().zip(listening.workers.runtimes()) {
                let _runtime = runtime.enter();
                tokio::spawn(Arc::clone(&listening).accept(TcpListener::from_std(socket)?, address));
            }
        }
        Ok(())
    }

    /// Whether there is a descriptor for one more client, and some are left for what it asks for.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.places).try_acquire_owned().ok()?;
        // Told anew when there was room in between.
        if self.full.load(Ordering::Relaxed) && self.places.available_permits() > self.most / 8 {
            self.full.store(false, Ordering::Relaxed);
        }
        Some(room)
    }

    /// Waits for it: one after the other, wherever they were accepted.
    async fn wait_for_room(&self) -> OwnedSemaphorePermit {
        self.counts.pauses.fetch_add(1, Ordering::Relaxed);
        if !self.full.swap(true, Ordering::Relaxed) {
            let clients = self.most;
            tracing::warn!(clients, "accepting pauses: the limit of open files has room for no more");
        }
        let (mut room, waits) = (pin!(Arc::clone(&self.places).acquire_owned()), self.proxy.crowd().wait());
        loop {
            waits.ask();
            // It is never closed.
            if let Ok(Ok(room)) = timeout(PAUSE, room.as_mut()).await {
                return room;
            }
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, local: SocketAddr) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.draining() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let room = if let Some(room) = self.room() {
                        room
                    } else {
                        tokio::select! {
                            biased;
                            () = self.shutdown.draining() => return,
                            room = self.wait_for_room() => room,
                        }
                    };
                    self.admit(stream, peer, local, room);
                }
                Err(error) if is_one_connections_fault(&error) => {}
                // Over TLS it says goodbye first.
                Err(error) if self.proxy.make_room(&error) => tokio::time::sleep(MOMENT).await,
                Err(error) => {
                    let waits = self.proxy.crowd().wait();
                    waits.ask();
                    self.counts.pauses.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "accepting pauses");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        local: SocketAddr,
        room: OwnedSemaphorePermit,
    ) {
        let options = self.options.load();
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        let open = self.counts.open.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { listening: Arc::clone(self), client: None, worker: None, _room: room };
        if open >= options.max_connections as u64 {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let client = peer.ip().to_canonical();
        if !client.is_loopback() {
            let mut clients = self.clients.lock();
            let from_here = clients.entry(client).or_insert(0);
            *from_here += 1;
            place.client = Some(client);
            if *from_here > options.max_connections_per_client {
                drop(clients);
                self.counts.refused_per_client.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let proxy = Arc::clone(&self.proxy);
        let worker = place.worker.insert(self.workers.place());
        let Some(runtime) = worker.elsewhere().cloned() else {
            self.shutdown.spawn(async move {
                let _place = place;
                proxy.serve(stream, peer, local).await;
            });
            return;
        };
        // This thread's runtime is to know it no more.
        let stream = stream.into_std();
        self.shutdown.spawn_on(&runtime, async move {
            let _place = place;
            match stream.and_then(TcpStream::from_std) {
                Ok(stream) => proxy.serve(stream, peer, local).await,
                Err(error) => tracing::warn!(%error, %peer, "a connection can't be handed to its thread"),
            }
        });
    }
}

/// A place among the open connections, given back when dropped.
struct Place {
    listening: Arc<Listening>,
    client: Option<IpAddr>,
    /// Whose it is, once it is served.
    worker: Option<worker::Place>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listening.counts.open.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.listening.clients.lock();
        if let Some(from_here) = clients.get_mut(&client) {
            *from_here -= 1;
            if *from_here == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// Descriptors that the runtime of each further worker takes.
const RUNTIME: usize = 4;

/// Of the descriptors that this process may open, those for clients: a quarter, within bounds, is for origins and files.
/// What the further workers take is not for clients, nor the sockets that listen, each with one who waits for room.
fn places(workers: usize, sockets: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let taken = RUNTIME * workers.saturating_sub(1) + 2 * sockets;
    let places = limit.saturating_sub((limit / 4).clamp(16, 4096) + taken as u64);
    usize::try_from(places).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)
}

/// A connection that was gone before it was accepted says nothing of the next one.
fn is_one_connections_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of no interface: for documentation, RFC 3849 and RFC 5737.
    const NOWHERE: [&str; 2] = ["[2001:db8::1]:0", "192.0.2.1:0"];

    fn options(listen: &[&str], listen_is_default: bool) -> Options {
        Options {
            listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
            listen_is_default,
            workers: 3,
            max_connections: 1,
            max_connections_per_client: 1,
            drain: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn a_missing_ipv6_of_the_default_is_only_a_warning() {
        let bound = bind(&options(&["127.0.0.1:0", NOWHERE[0]], true)).unwrap();
        assert_eq!(bound.listeners.len(), 1);
        assert_ne!(bound.listeners[0].address.port(), 0, "the port that was really bound");
        let [warning] = &bound.warnings[..] else { panic!("{:?}", bound.warnings) };
        assert!(warning.contains(NOWHERE[0]), "{warning}");
    }

    #[tokio::test]
    async fn connections_come_to_a_socket_of_each_worker_and_to_nobody_else() {
        let bound = bind(&options(&["127.0.0.1:0"], false)).unwrap();
        let Listener { address, sockets } = &bound.listeners[0];
        let error = bind(&options(&[&address.to_string()], false)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // So many that none of them gets none.
        let clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let accepted: Vec<_> =
            sockets.iter().map(|socket| std::iter::from_fn(|| socket.accept().ok()).count()).collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.len() == 3 && !accepted.contains(&0), "{accepted:?}");
    }

    #[tokio::test]
    async fn all_addresses_of_both_families_may_have_one_port() {
        // Free a moment ago.
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let (v4, v6) = (format!("0.0.0.0:{port}"), format!("[::]:{port}"));
        let listen =
            if std::net::TcpListener::bind("[::1]:0").is_ok() { vec![&*v4, &v6] } else { vec![&*v4] };
        let bound = bind(&options(&listen, false)).unwrap();
        assert_eq!(bound.listeners.len(), listen.len());
    }

    #[tokio::test]
    async fn a_missing_address_that_was_asked_for_is_an_error_that_names_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        // Where there is no IPv6, its own row again.
        let socket6 = std::net::TcpListener::bind("[::1]:0").ok();
        let taken6 = socket6.map(|socket| (socket.local_addr().unwrap().to_string(), socket));
        let taken6 = taken6.as_ref().map_or(&taken, |(address, _socket)| address);
        for (listen, default, named) in [
            (&["127.0.0.1:0", NOWHERE[0]][..], false, NOWHERE[0]),
            (&["127.0.0.1:0", NOWHERE[1]], false, NOWHERE[1]),
            (&[&taken, "127.0.0.1:0"], false, &taken),
            // Without IPv4 the default is of no use either.
            (&[&taken, NOWHERE[0]], true, &taken),
            // Another program's on the other family.
            (&["127.0.0.1:0", taken6], true, taken6),
        ] {
            let error = bind(&options(listen, default)).unwrap_err().to_string();
            assert!(error.contains(named), "{listen:?}: {error}");
        }
    }
}
