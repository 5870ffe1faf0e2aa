//! What the operator is told on standard error: written by a thread of its own, so that nobody waits for a reader who
//! does not read. Messages are lost instead, and how many is told when there is somebody again.

use parking_lot::{Condvar, Mutex};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that may wait: a busy minute at the level `debug`.
const MOST: usize = 1 << 20;
/// A pause before an output that takes nothing without saying when it will is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// The way to standard error. Clones are the same one. Writing never waits and never fails.
#[derive(Clone)]
pub struct Diagnostics(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    /// The writer has bytes in its hands.
    writing: bool,
    /// Writes that found no room since the last one that did.
    lost: u64,
}

impl Diagnostics {
    /// To standard error. Fails when the thread can't be started.
    pub fn stderr() -> io::Result<Self> {
        Self::start(unlocked_stderr())
    }

    fn start(output: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        std::thread::Builder::new().name("diagnostics".into()).spawn(move || ours.write_all(output))?;
        Ok(Self(shared))
    }

    /// A line for the operator.
    pub fn say(&self, line: &str) {
        self.0.push(format!("larder: {line}\n").as_bytes());
    }

    /// Waits until everything is written, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        let mut queue = self.0.queue.lock();
        let busy = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        // Whether all of it went out makes no difference any more.
        let _timed_out = self.0.emptied.wait_while_for(&mut queue, busy, limit);
    }
}

impl Write for Diagnostics {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// Whole lines, as they come.
    fn push(&self, lines: &[u8]) {
        let mut queue = self.queue.lock();
        if queue.waiting.len() + lines.len() > MOST {
            queue.lost += 1;
            return;
        }
        if queue.lost > 0 {
            let lost = std::mem::take(&mut queue.lost);
            let told = format!("larder: {lost} messages were lost here: nobody read them\n");
            queue.waiting.extend_from_slice(told.as_bytes());
        }
        queue.waiting.extend_from_slice(lines);
        drop(queue);
        self.filled.notify_one();
    }

    /// The writer's thread: as long as the process.
    fn write_all(&self, mut output: Box<dyn Write + Send>) {
        let mut queue = self.queue.lock();
        loop {
            while queue.waiting.is_empty() {
                queue.writing = false;
                self.emptied.notify_all();
                self.filled.wait(&mut queue);
            }
            queue.writing = true;
            let lines = std::mem::take(&mut queue.waiting);
            drop(queue);
            write(&mut output, &lines);
            queue = self.queue.lock();
        }
    }
}

/// What can't be written is lost: there is nobody left to tell.
fn write(output: &mut dyn Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(_) => return,
        }
    }
}

/// Without the standard library's lock, which whoever waits to write holds.
fn unlocked_stderr() -> Box<dyn Write + Send> {
    use std::os::fd::AsFd as _;
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(copy) => Box::new(std::fs::File::from(copy)),
        Err(_) => Box::new(io::stderr()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Tells that a write has come, takes it when it is let, and hands it on.
    struct Held(Sender<()>, Receiver<()>, Sender<String>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(()).map_err(io::Error::other)?;
            self.1.recv().map_err(io::Error::other)?;
            self.2.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_who_does_not_read_and_what_was_lost_is_told() {
        let (sender, come) = channel();
        let (let_go, held) = channel();
        let (taken, written) = channel();
        let diagnostics = Diagnostics::start(Box::new(Held(sender, held, taken))).unwrap();
        diagnostics.say("first");
        // Else it might take the others too, when some were lost already, and find room for the rest.
        come.recv().unwrap();
        let line = "x".repeat(1_000);
        for _ in 0..3 * MOST / line.len() {
            diagnostics.say(&line);
        }
        diagnostics.flush(Duration::from_millis(1));
        for _ in 0..10 {
            let_go.send(()).unwrap();
        }
        diagnostics.flush(Duration::from_secs(60));
        diagnostics.say("there again");
        diagnostics.flush(Duration::from_secs(60));
        let told: String = written.try_iter().collect();
        assert!(told.starts_with("larder: first\n"), "{}", &told[..100]);
        // What was in the writer's hands, and what waited.
        assert!(told.len() <= 2 * MOST + 200, "{} bytes", told.len());
        let end = &told[told.len() - 100..];
        assert!(end.contains("messages were lost here") && end.ends_with("larder: there again\n"), "{end}");
    }
}
