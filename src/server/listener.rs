//! The accept loops and the limits on connections.

use ahash::RandomState;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::Options;
use crate::proxy::Proxy;
use crate::shutdown::Shutdown;

/// Connections that the kernel may hold until they are accepted.
const BACKLOG: u32 = 4096;
/// How long accepting pauses when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(50);

/// Sockets that listen.
#[derive(Debug)]
pub struct Bound {
    /// One for each address, with the port that was really bound.
    pub listeners: Vec<(TcpListener, SocketAddr)>,
    /// What could not be bound and was not asked for by name.
    pub warnings: Vec<String>,
}

/// Binds every address of `options.listen`. An error names the address.
pub fn bind(options: &Options) -> io::Result<Bound> {
    let mut bound = Bound { listeners: Vec::new(), warnings: Vec::new() };
    for &address in &options.listen {
        match listen(address) {
            Ok(listener) => {
                let address = listener.local_addr()?;
                bound.listeners.push((listener, address));
            }
            Err(error) if options.listen_is_default && address.is_ipv6() => {
                bound.warnings.push(format!("not listening on {address}: {error}"));
            }
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("can't listen on {address}: {error}")));
            }
        }
    }
    Ok(bound)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the last connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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
    shutdown: Shutdown,
}

impl Listening {
    /// Hands connections to `proxy`, within the limits of `options`.
    pub fn new(
        proxy: Arc<Proxy>,
        options: Arc<ArcSwap<Options>>,
        counts: Arc<Counts>,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self { proxy, options, counts, clients: Mutex::default(), shutdown })
    }

    /// Accepts until the drain begins; then the socket is closed.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, local: SocketAddr) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.draining() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, local),
                Err(error) if is_one_connections_fault(&error) => {}
                Err(error) => {
                    self.counts.pauses.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "accepting pauses");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, local: SocketAddr) {
        let options = self.options.load();
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        let open = self.counts.open.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { listening: Arc::clone(self), client: None };
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
        self.shutdown.spawn(async move {
            let _place = place;
            proxy.serve(stream, peer, local).await;
        });
    }
}

/// A place among the open connections, given back when dropped.
struct Place {
    listening: Arc<Listening>,
    client: Option<IpAddr>,
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

/// A connection that was gone before it was accepted says nothing of the next one.
fn is_one_connections_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
