//! The access log: one line an exchange, to standard output.
//!
//! The request's path formats a line into a buffer of its thread and appends it to a bounded queue; a thread
//! of the log's own takes the whole queue at once and writes it with few system calls:
//!
//! ```text
//! write(&Record) -> thread's buffer -> lock, append -> [queue] -> swap -> write(2)
//!                                         full: dropped, counted
//! ```
//!
//! Lines come out in the order in which they were queued. A reader that is slow, or gone, costs lines, never
//! time: the request's path waits for nothing but a lock held for the copy of one line.

use super::line::{self, Scratch};
use super::{Format, Options, Record};
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How long the writer gathers lines after the first: waking it for each would cost the request's path a
/// system call. Not noticed by a person, and 100 writes a second at most.
const GATHER: Duration = Duration::from_millis(10);

/// Room for a line, on average, when the queue's bytes are bounded along with its lines: an ordinary JSON line
/// takes 300 bytes, one with a long URL some KiB.
const BYTES_A_LINE: usize = 512;

/// How long a shutdown waits for a slow reader of the log.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Between two tries to write to an output that is full and does not block.
const RETRY: Duration = Duration::from_millis(10);

/// Buffers that grew beyond this, for a burst or one long line, are given back.
const KEPT_BUFFER: usize = 1 << 20;
const KEPT_LINE: usize = 16 << 10;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The access log. Dropping it ends its thread.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    terminal: bool,
    format: AtomicU8,
    query: AtomicBool,
    max_lines: AtomicUsize,
    dropped: AtomicU64,
    queue: Mutex<Queue>,
    /// The writer waits here for lines.
    filled: Condvar,
    /// `flush` waits here for the end of the queue.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole lines, each with its end.
    pending: Vec<u8>,
    pending_lines: usize,
    /// Lines and bytes pending or in the writer's hands: what the bound is about.
    lines: usize,
    bytes: usize,
    writer: Writer,
    closed: bool,
}

/// What the writer does, as far as a producer needs to know to wake it no more than needed.
#[derive(Debug, Default, PartialEq)]
enum Writer {
    /// Gathers or writes: it will look again by itself.
    #[default]
    Busy,
    /// Waits for the first line.
    Sleeping,
    /// Was told not to gather any longer.
    Hurried,
}

impl AccessLog {
    /// The log on standard output. Fails when its thread can't be started.
    pub fn stdout(options: &Options) -> io::Result<Self> {
        Self::start(options, io::stdout().is_terminal(), unbuffered_stdout())
    }

    /// The log on another output, which is not a terminal. Fails when its thread can't be started.
    pub fn new(options: &Options, output: Box<dyn Write + Send>) -> io::Result<Self> {
        Self::start(options, false, output)
    }

    fn start(options: &Options, terminal: bool, output: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            terminal,
            format: AtomicU8::default(),
            query: AtomicBool::default(),
            max_lines: AtomicUsize::default(),
            dropped: AtomicU64::default(),
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        });
        let log = Self { shared: Arc::clone(&shared) };
        log.reconfigure(options);
        std::thread::Builder::new().name("access-log".into()).spawn(move || shared.write_all(output))?;
        Ok(log)
    }

    /// Takes new settings, for lines from now on.
    pub fn reconfigure(&self, options: &Options) {
        let format = match options.access {
            Format::Auto if self.shared.terminal => Format::Text,
            Format::Auto => Format::Json,
            Format::Text | Format::Json | Format::Squid | Format::Combined | Format::Off => options.access,
        };
        self.shared.format.store(format as u8, Ordering::Relaxed);
        self.shared.query.store(options.query, Ordering::Relaxed);
        self.shared.max_lines.store(options.queue.max(1), Ordering::Relaxed);
    }

    /// The format, never [`Format::Auto`].
    pub(super) fn format(&self) -> Format {
        let format = self.shared.format.load(Ordering::Relaxed);
        Format::WRITTEN.into_iter().find(|known| *known as u8 == format).unwrap_or(Format::Off)
    }

    /// Queues the line of one exchange, or drops it when the queue is full. Never waits for the output.
    pub fn write(&self, record: &Record) {
        let format = self.format();
        if format == Format::Off {
            return;
        }
        let query = self.shared.query.load(Ordering::Relaxed);
        let queued = SCRATCH.try_with(|scratch| {
            let scratch = &mut *scratch.borrow_mut();
            scratch.line.clear();
            match format {
                Format::Text => line::text(scratch, record, query),
                Format::Squid => line::squid(scratch, record, query),
                Format::Combined => line::combined(scratch, record, query),
                Format::Json | Format::Auto | Format::Off => line::json(scratch, record, query),
            }
            scratch.line.push(b'\n');
            self.shared.push(&scratch.line);
            scratch.line.shrink_to(KEPT_LINE);
        });
        // A record that is dropped while its thread ends finds no buffer any more.
        if queued.is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether queries are shown: `log.query`.
    pub fn shows_queries(&self) -> bool {
        self.shared.query.load(Ordering::Relaxed)
    }

    /// Lines that were lost: the queue was full, or the output failed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Blocks until every line queued so far is written, at most two seconds. False: some were not.
    pub fn flush(&self) -> bool {
        let mut queue = self.shared.queue.lock();
        queue.writer = Writer::Hurried;
        self.shared.filled.notify_one();
        !self.shared.emptied.wait_while_for(&mut queue, |queue| queue.lines > 0, FLUSH_LIMIT).timed_out()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

impl Shared {
    fn push(&self, line: &[u8]) {
        let max_lines = self.max_lines.load(Ordering::Relaxed);
        let mut queue = self.queue.lock();
        // A single line may be longer than the whole bound, so that a small queue logs it too.
        let fits = queue.lines == 0 || queue.bytes + line.len() <= max_lines.saturating_mul(BYTES_A_LINE);
        if queue.lines >= max_lines || !fits {
            drop(queue);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.pending.extend_from_slice(line);
        queue.pending_lines += 1;
        queue.lines += 1;
        queue.bytes += line.len();
        let wake = match queue.writer {
            Writer::Sleeping => {
                queue.writer = Writer::Busy;
                true
            }
            Writer::Busy if queue.lines * 2 > max_lines => {
                queue.writer = Writer::Hurried;
                true
            }
            Writer::Busy | Writer::Hurried => false,
        };
        drop(queue);
        if wake {
            self.filled.notify_one();
        }
    }

    /// The writer's thread: until the log is dropped and the queue is empty.
    fn write_all(&self, output: Box<dyn Write + Send>) {
        let mut output = Output { inner: output, within_line: false };
        let mut batch = Vec::new();
        let mut queue = self.queue.lock();
        loop {
            while queue.pending.is_empty() {
                if queue.closed {
                    return;
                }
                queue.writer = Writer::Sleeping;
                self.filled.wait(&mut queue);
            }
            if queue.writer != Writer::Hurried && !queue.closed {
                queue.writer = Writer::Busy;
                self.filled.wait_for(&mut queue, GATHER);
            }
            queue.writer = Writer::Busy;
            std::mem::swap(&mut queue.pending, &mut batch);
            let lines = std::mem::take(&mut queue.pending_lines);
            drop(queue);

            let lost = output.write_lines(&batch, || self.queue.lock().closed);
            self.dropped.fetch_add(lost, Ordering::Relaxed);
            let bytes = batch.len();
            batch.clear();
            batch.shrink_to(KEPT_BUFFER);

            queue = self.queue.lock();
            queue.lines -= lines;
            queue.bytes -= bytes;
            if queue.lines == 0 {
                self.emptied.notify_all();
            }
        }
    }
}

/// Where lines go, and whether the last write to it left half of one.
struct Output {
    inner: Box<dyn Write + Send>,
    within_line: bool,
}

impl Output {
    /// Writes whole lines; gives up at an error, or, once `closing`, at an output that is full. The number of
    /// lines that were lost is returned; the half of one that was written is ended by the next call.
    fn write_lines(&mut self, lines: &[u8], closing: impl Fn() -> bool) -> u64 {
        if self.within_line && self.write_bytes(b"\n", &closing) == 0 {
            return count_lines(lines);
        }
        let written = self.write_bytes(lines, &closing);
        count_lines(&lines[written..])
    }

    fn write_bytes(&mut self, bytes: &[u8], closing: &impl Fn() -> bool) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.inner.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(more) => written += more.min(bytes.len() - written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !closing() => {
                    std::thread::sleep(RETRY);
                }
                // EPIPE, ENOSPC, EIO...: the lines are lost and counted, and the next batch tries again.
                Err(_) => break,
            }
        }
        if written > 0 {
            self.within_line = bytes[written - 1] != b'\n';
        }
        written
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').count() as u64
}

/// Standard output without the standard library's line buffer, which would keep the rest of a failed write.
fn unbuffered_stdout() -> Box<dyn Write + Send> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        if let Ok(copy) = io::stdout().as_fd().try_clone_to_owned() {
            return Box::new(std::fs::File::from(copy));
        }
    }
    Box::new(io::stdout())
}
