//! `larder run`: a command with a proxy of its own, which lives as long as the command.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::task::Poll;

use anyhow::Context as _;
use rustix::process::{Pid, Signal as Passed};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{App, Diagnostics, LAST_WORDS, last_words, on_workers, raise_file_limit, start};
use crate::cache::CacheResult;
use crate::config::{Overrides, Settings};
use crate::pages;
use crate::telemetry::Format;
use crate::worker::Workers;

/// As shells have it: the command is there but can't be run, and there is no such command.
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// As shells have it: a signal's number comes on top of this.
const KILLED: i32 = 128;

/// Runs a command whose environment names a proxy on a free port of this machine, and tells at the end what it saved.
/// The exit code is the command's. Without an access log, since standard output is the command's; without an admin
/// listener.
pub fn run_command(
    mut settings: Settings,
    command: &[OsString],
    diagnostics: &Diagnostics,
) -> anyhow::Result<ExitCode> {
    settings.server.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    settings.admin.listen = None;
    settings.telemetry.access = Format::Off;
    // The command would be run with what is raised here.
    on_workers(settings.server.workers, |workers| run(settings, command, workers, diagnostics))
}

async fn run(
    settings: Settings,
    command: &[OsString],
    workers: Workers,
    diagnostics: &Diagnostics,
) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("there is no command to run")?;
    let pages = settings.pages.clone();
    // Before the command starts, so that it gets every one.
    let mut signals = Signals::new()?;
    let started = start(settings, Overrides::default(), Vec::new(), workers, diagnostics).await?;
    for warning in &started.warnings {
        diagnostics.say(&format!("warning: {warning}"));
    }
    let at = *started.proxies.first().context("the proxy listens nowhere")?;
    let direct = pages::left_out(|name| std::env::var(name).ok());
    let mut command = Command::new(program);
    let spawned = command.args(arguments).envs(pages::variables(at, &pages, &direct)).spawn();
    let code = match spawned {
        Ok(child) => {
            // The command has the limit that it was given; the proxy takes what it may have.
            raise_file_limit();
            code(wait(child, &mut signals).await?)
        }
        Err(error) => {
            diagnostics.say(&format!("can't run {}: {error}", program.display()));
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing { NOT_FOUND } else { NOT_RUNNABLE }));
        }
    };
    let app = started.app;
    app.shutdown.drain();
    // What still runs belongs to nobody: the command has ended. Its last records are worth a moment.
    let ended = tokio::time::timeout(LAST_WORDS, app.shutdown.finished()).await.is_ok();
    tracing::debug!(ended, "the command has ended");
    last_words(&app).await;
    diagnostics.say(&saved(&app));
    Ok(code)
}

async fn wait(mut child: Child, signals: &mut Signals) -> anyhow::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status.context("the command's end can't be awaited"),
            signal = signals.next() => {
                let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
                // One that has just ended can't be told any more.
                if let Some(Err(error)) = pid.map(|pid| rustix::process::kill_process(pid, signal)) {
                    tracing::debug!(%error, ?signal, "the command did not get a signal");
                }
            }
        }
    }
}

/// The signals that go on to the command, but for those that were ignored when this began: they stay ignored, here and
/// in the command (nohup(1) is one that wants it so).
struct Signals(Vec<(Signal, Passed)>);

impl Signals {
    const PASSED: [Passed; 6] =
        [Passed::TERM, Passed::HUP, Passed::INT, Passed::QUIT, Passed::USR1, Passed::USR2];

    fn new() -> std::io::Result<Self> {
        let ignored = ignored_signals();
        let heard = Self::PASSED.into_iter().filter(|passed| ignored & (1 << (passed.as_raw() - 1)) == 0);
        let listen = |passed: Passed| Ok((signal(SignalKind::from_raw(passed.as_raw()))?, passed));
        heard.map(listen).collect::<std::io::Result<_>>().map(Self)
    }

    /// The next one that is to be passed on.
    async fn next(&mut self) -> Passed {
        loop {
            let came = poll_fn(|cx| {
                let mut came = self.0.iter_mut().filter_map(|(stream, passed)| match stream.poll_recv(cx) {
                    Poll::Ready(_) => Some(*passed),
                    Poll::Pending => None,
                });
                came.next().map_or(Poll::Pending, Poll::Ready)
            });
            let passed = came.await;
            // A key's goes to all processes of the terminal's foreground: the command has it already. One that
            // somebody sends to this process alone there is taken for it; TERM never is.
            let key = matches!(passed, Passed::INT | Passed::QUIT);
            if !(key && in_foreground()) {
                return passed;
            }
        }
    }
}

/// The set of signals that this process was told to ignore, the first in the lowest bit. Empty where nothing tells.
pub(crate) fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default()
}

/// Whether this is what the terminal's keys are for.
fn in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty").ok();
    let group = terminal.and_then(|terminal| rustix::termios::tcgetpgrp(&terminal).ok());
    group == Some(rustix::process::getpgrp())
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| KILLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What the cache answered instead of origins, in a line.
fn saved(app: &App) -> String {
    let stats = app.telemetry.stats(&app.gauges());
    let sum = |figure: &str, results: &[CacheResult]| -> u64 {
        let of =
            |result: &CacheResult| stats["requests"][figure][result.token()].as_u64().unwrap_or_default();
        results.iter().map(of).sum()
    };
    let from_cache = CacheResult::FROM_CACHE;
    let bytes = bytesize::ByteSize(sum("bytes_out", &from_cache)).display().iec();
    let total = stats["requests"]["total"].as_u64().unwrap_or_default();
    let mut line =
        format!("saved {bytes}: {} of {total} requests from the cache", sum("by_result", &from_cache));
    let tunnels = sum("by_result", &[CacheResult::Tunnel]);
    if tunnels > 0 {
        // Writing to a String does not fail.
        let _ = write!(line, "; {tunnels} tunnelled (https), of which nothing is cached");
    }
    line
}
