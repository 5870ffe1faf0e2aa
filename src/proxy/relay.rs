//! Bytes both ways between two sockets: half-close kept, counted, ended when nothing moves for too long.
//!
//! On Linux, two TCP sockets between which much comes at once are joined by `splice(2)` through a pipe, so that the
//! bytes never enter this process; everything else is copied.

use bytes::Bytes;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::access::rate::Allowance;
use crate::body::buffers::{Buffers, Pair};
use crate::clock::Stopwatch;
use crate::shutdown::Shutdown;

/// How long a tunnel may be silent before a drain closes it.
const SILENT_WHILE_DRAINING: Duration = Duration::from_secs(2);
/// Bytes moved at once: what a pipe holds by default.
const PIECE: usize = 64 * 1024;
/// The most that a pipe is made to hold, where as much comes within [`MORE`]: fewer system calls. Bytes.
const LARGE: usize = 1024 * 1024;
/// Bytes of a tunnel through our own memory that hardly carries any.
const SMALL: usize = 4 * 1024;
/// How long a direction keeps a large piece, or a large pipe, after the last bytes.
const MORE: Duration = Duration::from_secs(1);

/// Where the bytes of one direction are counted.
type Count<'a> = (&'a Carried, &'a AtomicU64);

/// The other end of a tunnel.
#[derive(Debug)]
pub(crate) enum Far {
    /// A TCP connection to the destination, or to a parent proxy that has connected.
    Tcp(TcpStream),
    /// Anything else: TLS to a parent, or an upgraded connection.
    Stream(Box<dyn Duplex>),
}

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Duplex for T {}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides closed.
    Closed,
    /// One side broke off.
    Broken,
    /// Nothing moved for the limit.
    Idle,
    /// It lasted as long as it may.
    Over,
    /// The process ends.
    Drained,
}

/// What a tunnel carried, and when last.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Bytes from the client.
    pub(crate) up: AtomicU64,
    /// Bytes to the client.
    pub(crate) down: AtomicU64,
    begun: Stopwatch,
    /// Milliseconds from `begun` until something moved.
    last: AtomicU64,
}

impl Carried {
    pub(crate) fn new() -> Self {
        Self {
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            begun: Stopwatch::start(),
            last: AtomicU64::new(0),
        }
    }

    /// Counts `moved` bytes in one of the two.
    fn add(&self, count: &AtomicU64, moved: usize) {
        count.fetch_add(moved as u64, Ordering::Relaxed);
        self.last.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// For how long nothing has moved.
    fn silent(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// How bytes are moved, and until when.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    /// Nothing may be silent for longer.
    pub(crate) idle: Duration,
    /// Where it is counted.
    pub(crate) carried: &'a Carried,
    /// What bytes in between are paid from.
    pub(crate) buffers: &'a Buffers,
    pub(crate) shutdown: &'a Shutdown,
    /// What the client may be sent, where that has a limit.
    pub(crate) allowance: Option<&'a Allowance>,
    /// How long it may last, where that has a limit.
    pub(crate) longest: Option<Duration>,
}

/// Runs until both sides have closed, one broke off, or nothing moved for the limit. `early_up` is what the
/// client has sent already, `early_down` what the far side has.
pub(crate) async fn relay(
    client: TcpStream,
    far: Far,
    early_up: Bytes,
    early_down: Bytes,
    way: &Way<'_>,
) -> End {
    let carried = way.carried;
    let pieces = Pair::new(way.buffers, PIECE);
    let moved = async {
        match far {
            Far::Tcp(far) => {
                early(&client, &far, &early_up, &early_down, carried).await?;
                let ended = tokio::try_join!(
                    pour(&client, &far, &pieces, (carried, &carried.up), None),
                    pour(&far, &client, &pieces, (carried, &carried.down), way.allowance)
                );
                if ended.is_err() {
                    // The side that still lives must not take the break for an end.
                    let _unset_is_harmless = (client.set_zero_linger(), far.set_zero_linger());
                }
                ended.map(|_| ())
            }
            Far::Stream(far) => {
                let (client_read, mut client_write) = client.into_split();
                let (far_read, mut far_write) = tokio::io::split(far);
                far_write.write_all(&early_up).await?;
                // TLS may hold back what it was given.
                far_write.flush().await?;
                carried.add(&carried.up, early_up.len());
                client_write.write_all(&early_down).await?;
                carried.add(&carried.down, early_down.len());
                tokio::try_join!(
                    copy(client_read, far_write, &pieces, (carried, &carried.up), None),
                    copy(far_read, client_write, &pieces, (carried, &carried.down), way.allowance)
                )
                .map(|_| ())
            }
        }
    };
    tokio::select! {
        result = moved => match result {
            Ok(()) => End::Closed,
            Err::<(), io::Error>(_) => End::Broken,
        },
        end = watch(way) => end,
    }
}

/// Resolves when nothing has moved for `idle`, or for a short while when draining.
async fn watch(way: &Way<'_>) -> End {
    let Way { idle, carried, shutdown, longest, .. } = *way;
    loop {
        let rest = longest.map_or(Duration::MAX, |longest| longest.saturating_sub(carried.begun.elapsed()));
        if rest.is_zero() {
            return End::Over;
        }
        let draining = shutdown.is_draining();
        let (limit, end) =
            if draining { (SILENT_WHILE_DRAINING.min(idle), End::Drained) } else { (idle, End::Idle) };
        let left = limit.saturating_sub(carried.silent());
        if left.is_zero() {
            return end;
        }
        let left = left.min(rest);
        if draining {
            tokio::time::sleep(left).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = shutdown.draining() => {}
            }
        }
    }
}

async fn early(
    mut client: &TcpStream,
    mut far: &TcpStream,
    up: &Bytes,
    down: &Bytes,
    carried: &Carried,
) -> io::Result<()> {
    if !up.is_empty() {
        write_all(&mut far, up).await?;
        carried.add(&carried.up, up.len());
    }
    if !down.is_empty() {
        write_all(&mut client, down).await?;
        carried.add(&carried.down, down.len());
    }
    Ok(())
}

async fn write_all(to: &mut &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// One direction, until the sender closes; then the receiver is told so.
#[cfg(target_os = "linux")]
async fn pour(
    from: &TcpStream,
    to: &TcpStream,
    pieces: &Pair<'_>,
    count: Count<'_>,
    allowance: Option<&Allowance>,
) -> io::Result<()> {
    use rustix::pipe::{SpliceFlags, splice};
    use tokio::io::Interest;

    // Many directions carry little, and a pipe is five calls to the system, made and closed.
    if !pour_pieces(from, to, SMALL, pieces, count, allowance).await? {
        return end_of(to);
    }
    let mut pipe = Pipe::new()?;
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    // What has come since when. Bytes.
    let (mut burst, mut since) = (0, Stopwatch::start());
    loop {
        may_send(allowance).await;
        match tokio::time::timeout(MORE, from.readable()).await {
            Ok(readable) => readable?,
            Err(_silent) => {
                pipe.shrink();
                from.readable().await?;
            }
        }
        let most = allowance.map_or(pipe.size, Allowance::piece);
        // A pipe that holds bytes is a buffer; one that waits for them is none.
        let (_buffered, most) = pieces.take(most).await;
        // The pipe is empty here, so "would block" can only mean that the socket has nothing.
        let splice_in = || Ok(splice(from, None, &pipe.writer, None, most, flags)?);
        let mut held = match from.try_io(Interest::READABLE, splice_in) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Ok(0) => return end_of(to),
            held => held?,
        };
        burst += held;
        while held > 0 {
            // The pipe holds bytes here, so "would block" can only mean that the socket takes nothing.
            let splice_out = || Ok(splice(&pipe.reader, None, to, None, held, flags)?);
            let moved = to.async_io(Interest::WRITABLE, splice_out).await?;
            if moved == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            held -= moved;
            count.0.add(count.1, moved);
            sent(allowance, moved);
        }
        let much = burst >= LARGE;
        if !much && since.elapsed() < MORE {
            continue;
        }
        // It is empty here.
        if !much {
            pipe.shrink();
        } else if allowance.is_none() {
            pipe.grow(pieces.larger().min(LARGE));
        }
        (burst, since) = (0, Stopwatch::start());
    }
}

/// The same through our own memory, by pieces of at most `size` bytes, until one is full: false when the sender has
/// closed.
async fn pour_pieces(
    from: &TcpStream,
    mut to: &TcpStream,
    size: usize,
    pieces: &Pair<'_>,
    count: Count<'_>,
    allowance: Option<&Allowance>,
) -> io::Result<bool> {
    loop {
        may_send(allowance).await;
        from.readable().await?;
        let (_buffered, most) = pieces.take(allowance.map_or(size, |all| all.piece().min(size))).await;
        let mut piece = Vec::with_capacity(most);
        match from.try_read_buf(&mut piece) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(0) => return Ok(false),
            read => read?,
        };
        write_all(&mut to, &piece).await?;
        count.0.add(count.1, piece.len());
        sent(allowance, piece.len());
        if piece.len() >= most {
            return Ok(true);
        }
    }
}

/// What carries one direction of a tunnel from socket to socket.
#[cfg(target_os = "linux")]
struct Pipe {
    reader: std::os::fd::OwnedFd,
    writer: std::os::fd::OwnedFd,
    /// Bytes that it may hold.
    size: usize,
}

/// How many pipes are larger than by default. A user who is not root may have 64 MiB of them by default
/// (`fs.pipe-user-pages-soft`), and what is beyond gets hardly any.
#[cfg(target_os = "linux")]
static LARGER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
#[cfg(target_os = "linux")]
const MOST_LARGER: usize = 32;

#[cfg(target_os = "linux")]
impl Pipe {
    fn new() -> io::Result<Self> {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        Ok(Self { reader, writer, size: PIECE })
    }

    /// Fewer and larger pieces, where that is allowed.
    fn grow(&mut self, size: usize) {
        if self.size > PIECE || size <= PIECE {
            return;
        }
        if LARGER.fetch_add(1, Ordering::Relaxed) < MOST_LARGER
            && rustix::pipe::fcntl_setpipe_size(&self.writer, size).is_ok()
        {
            self.size = size;
        } else {
            LARGER.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// To be called when it is empty.
    fn shrink(&mut self) {
        if self.size > PIECE && rustix::pipe::fcntl_setpipe_size(&self.writer, PIECE).is_ok() {
            self.size = PIECE;
            LARGER.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Pipe {
    fn drop(&mut self) {
        if self.size > PIECE {
            LARGER.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One direction, until the sender closes; then the receiver is told so.
#[cfg(not(target_os = "linux"))]
async fn pour(
    from: &TcpStream,
    to: &TcpStream,
    pieces: &Pair<'_>,
    count: Count<'_>,
    allowance: Option<&Allowance>,
) -> io::Result<()> {
    while pour_pieces(from, to, PIECE, pieces, count, allowance).await? {}
    end_of(to)
}

/// Closes the sending half. A receiver that has gone already needs no telling.
fn end_of(to: &TcpStream) -> io::Result<()> {
    match socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write) {
        Err(e) if e.kind() != io::ErrorKind::NotConnected => Err(e),
        _ => Ok(()),
    }
}

/// One direction through our own memory. What comes in small pieces is held in a small one; where there is more, a large
/// one is taken as long as there is.
async fn copy<R, W>(
    mut from: R,
    mut to: W,
    pieces: &Pair<'_>,
    count: Count<'_>,
    allowance: Option<&Allowance>,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut small = vec![0; SMALL];
    loop {
        may_send(allowance).await;
        let read = from.read(&mut small).await?;
        if read == 0 {
            return closed(&mut to).await;
        }
        pass(&mut to, &small[..read], count).await?;
        sent(allowance, read);
        if read < SMALL {
            continue;
        }
        let (_buffered, most) = pieces.take(PIECE).await;
        let mut large = vec![0; most];
        while let Ok(read) = tokio::time::timeout(MORE, from.read(&mut large)).await {
            match read? {
                0 => return closed(&mut to).await,
                read => {
                    pass(&mut to, &large[..read], count).await?;
                    sent(allowance, read);
                    may_send(allowance).await;
                    if read < SMALL {
                        break;
                    }
                }
            }
        }
    }
}

/// Waits until the client may be sent more.
async fn may_send(allowance: Option<&Allowance>) {
    if let Some(allowance) = allowance {
        allowance.ready().await;
    }
}

fn sent(allowance: Option<&Allowance>, bytes: usize) {
    if let Some(allowance) = allowance {
        allowance.pay(bytes);
    }
}

async fn pass<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8], count: Count<'_>) -> io::Result<()> {
    to.write_all(bytes).await?;
    // TLS may hold back what it was given.
    to.flush().await?;
    count.0.add(count.1, bytes.len());
    Ok(())
}

/// The sender has closed its half. The far side may have closed already: then there is nobody to tell.
async fn closed<W: AsyncWrite + Unpin>(to: &mut W) -> io::Result<()> {
    to.shutdown().await.or(Ok(()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::pipe::fcntl_getpipe_size;

    #[test]
    fn few_pipes_are_large_and_what_one_gives_back_another_gets() {
        let size = |pipe: &Pipe| fcntl_getpipe_size(&pipe.reader).unwrap();
        let mut pipes: Vec<_> = (0..=MOST_LARGER).map(|_| Pipe::new().unwrap()).collect();
        for pipe in &mut pipes {
            pipe.grow(PIECE);
            assert_eq!((pipe.size, size(pipe)), (PIECE, PIECE));
            pipe.grow(2 * PIECE);
            // A second time makes no difference.
            pipe.grow(4 * PIECE);
        }
        let mut last = pipes.pop().unwrap();
        assert!(pipes.iter().all(|pipe| (pipe.size, size(pipe)) == (2 * PIECE, 2 * PIECE)));
        assert_eq!((last.size, size(&last)), (PIECE, PIECE), "there are as many as may be");
        pipes[0].shrink();
        pipes[0].shrink();
        assert_eq!((pipes[0].size, size(&pipes[0])), (PIECE, PIECE));
        last.grow(2 * PIECE);
        assert_eq!((last.size, size(&last)), (2 * PIECE, 2 * PIECE));
        drop((pipes, last));
        assert_eq!(LARGER.load(Ordering::Relaxed), 0);
    }
}
