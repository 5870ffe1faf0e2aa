//! CONNECT and upgrades once they are granted: what the connection runs after the head of the answer is through.

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

use super::exchange::Exchange;
use super::relay::{self, Carried, End, Far, Way};
use crate::access::rate::Allowance;
use crate::body::Buffers;
use crate::shutdown::Shutdown;

/// A granted tunnel, waiting for its client's socket.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) far: FarEnd,
    /// Bytes that the far side sent already.
    pub(crate) early: Bytes,
    /// Nothing may be silent for longer.
    pub(crate) idle: Duration,
    /// Becomes the record when the tunnel ends.
    pub(crate) exchange: Exchange,
}

/// Counts among the open tunnels while it lives.
pub(crate) struct Active(Arc<AtomicU64>);

impl Active {
    pub(crate) fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The other end, as far as it is there.
#[derive(Debug)]
pub(crate) enum FarEnd {
    /// A connection that was dialled.
    Ready(Far),
    /// hyper hands the connection over once it has seen the 101.
    Upgrading(hyper::upgrade::OnUpgrade),
}

impl Tunnel {
    /// Runs to its end; the exchange sends its record then. `early` is what the client sent behind its request.
    pub(crate) async fn run(
        self,
        client: TcpStream,
        early: Bytes,
        active: Active,
        buffers: &Buffers,
        shutdown: &Shutdown,
        allowance: Option<&Allowance>,
    ) -> End {
        let Self { far, early: early_down, idle, mut exchange } = self;
        let longest = exchange.time_limit();
        let carried = Arc::new(Carried::new());
        exchange.carries(Arc::clone(&carried));
        let _active = active;
        let far = match far {
            FarEnd::Ready(far) => far,
            FarEnd::Upgrading(upgrade) => match upgrade.await {
                Ok(upgraded) => Far::Stream(Box::new(TokioIo::new(upgraded))),
                Err(error) => {
                    tracing::debug!(%error, "the origin closed before its upgrade was through");
                    return End::Broken;
                }
            },
        };
        let way = Way { idle, carried: &carried, buffers, shutdown, allowance, longest };
        let end = relay::relay(client, far, early, early_down, &way).await;
        exchange.finish(0, end == End::Closed);
        end
    }
}
