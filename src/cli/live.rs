//! `larder top`: rates and the last exchanges, drawn anew at every look. It asks what the page asks.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::client;
use super::render::bytes;
use super::{print, shown};
use crate::admin::told::plain;
use crate::app;
use crate::cache::CacheResult;
use crate::clock::{Clock, Moment, Stopwatch};
use crate::config::Settings;

/// Rows and columns of a terminal that does not tell its size.
const SIZE: (usize, usize) = (24, 80);
/// Where no terminal cuts lines, none are cut.
const UNCUT: (usize, usize) = (24, usize::MAX);
/// Rows above the exchanges, and the one below them.
const HEAD: usize = 7;
/// At the least, of the exchanges.
const LEAST: usize = 3;
/// Exchanges that are remembered between looks: more rows has no terminal.
const KEPT: usize = 200;

/// Looks until Ctrl-C, which is how it is meant to end and so no failure, until nobody reads, or `count` times.
pub(super) async fn top(
    settings: &Settings,
    interval: Duration,
    count: Option<u64>,
) -> anyhow::Result<ExitCode> {
    tokio::select! {
        ended = look(settings, interval, count) => ended?,
        () = interrupted() => {
            // The key has left its mark on the line at which the shell goes on.
            if std::io::stdout().is_terminal() {
                print(b"\n")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where it can't be heard, the signal does what it does by itself: it ends the process, unless that was told to ignore
/// it.
async fn interrupted() {
    let ignored = app::ignored_signals() & (1 << (Signal::INT.as_raw() - 1)) != 0;
    if ignored || !std::io::stdout().is_terminal() {
        return std::future::pending().await;
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::debug!(%error, "SIGINT is not heard");
        std::future::pending::<()>().await;
    }
}

async fn look(settings: &Settings, interval: Duration, count: Option<u64>) -> anyhow::Result<()> {
    let clock = Clock::system();
    let (mut before, mut after) = (None::<(Stopwatch, Value)>, 0);
    let mut exchanges = VecDeque::new();
    let mut looks = 0;
    while count.is_none_or(|count| looks < count) {
        if looks > 0 {
            tokio::time::sleep(interval).await;
        }
        let stats = client::get(settings, "/api/v1/stats", "version").await?;
        let told = client::get(settings, &format!("/api/v1/exchanges?after={after}"), "exchanges").await?;
        after = told["next"].as_u64().unwrap_or_default();
        for exchange in told["exchanges"].as_array().into_iter().flatten() {
            exchanges.push_front(exchange.clone());
        }
        exchanges.truncate(KEPT);
        let passed = match &before {
            Some((since, stats)) => (since.elapsed(), stats),
            None => (uptime(&stats, clock.now()), &Value::Null),
        };
        let text = frame(&stats, passed, &exchanges, size());
        // A terminal is drawn anew from its corner; elsewhere one frame follows the other.
        let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        if !shown(format!("{clear}{text}").as_bytes())? {
            break;
        }
        before = Some((Stopwatch::start(), stats));
        looks += 1;
    }
    Ok(())
}

/// How long the proxy has been running; nothing where it does not know.
fn uptime(stats: &Value, now: Moment) -> Duration {
    let seconds = stats["process"]["start_seconds"].as_f64().map(|start| now.wall as f64 / 1000.0 - start);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

/// Rows and columns.
fn size() -> (usize, usize) {
    if !std::io::stdout().is_terminal() {
        return UNCUT;
    }
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .filter(|size| size.ws_row > 0 && size.ws_col > 0)
        .map_or(SIZE, |size| (usize::from(size.ws_row), usize::from(size.ws_col)))
}

/// What one look shows; rates are those since the look before, and since the start where there is none (`null`).
fn frame(
    stats: &Value,
    (passed, before): (Duration, &Value),
    exchanges: &VecDeque<Value>,
    (rows, columns): (usize, usize),
) -> String {
    let mut text = String::new();
    let ready = if stats["ready"] == true { "ready" } else { "not ready" };
    let line = |text: &mut String, words: &str| {
        let cut: String = words.chars().take(columns).collect();
        text.push_str(cut.trim_end());
        text.push('\n');
    };
    line(&mut text, &format!("larder {}, {ready}", plain(&stats["version"])));
    let (seconds, zero) = (passed.as_secs_f64(), before);
    let since = |figure: &dyn Fn(&Value) -> u64| figure(stats).saturating_sub(figure(zero));
    let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let requests = since(&|stats| stats["requests"]["total"].as_u64().unwrap_or_default());
    let from_store = since(&|stats| sum(&stats["requests"]["by_result"], &CacheResult::FROM_CACHE));
    let from_origin = since(&|stats| sum(&stats["requests"]["by_result"], &CacheResult::FROM_ORIGIN));
    let errors = since(&|stats| sum(&stats["requests"]["by_result"], &[CacheResult::Error]));
    let saved = since(&|stats| sum(&stats["requests"]["bytes_out"], &CacheResult::FROM_CACHE));
    let ratio = match (from_store + from_origin, from_store * 100) {
        (0, _) => "-".to_owned(),
        (all, hits) => format!("{} %", (hits + all / 2) / all),
    };
    let since_when = if before.is_null() { "since the start: " } else { "" };
    line(
        &mut text,
        &format!(
            "{since_when}{:.1} requests/s, hit ratio {ratio}, saved {}/s, {errors} errors",
            rate(requests),
            bytes(rate(saved) as u64),
        ),
    );
    line(&mut text, &format!("first byte {}", quantiles(stats, zero)));
    let (store, server) = (&stats["store"], &stats["server"]);
    let of = |part: &Value, name: &str| part[name].as_u64().unwrap_or_default();
    line(
        &mut text,
        &format!(
            "{} stored, {} of {}; {} connections, {} tunnels, {} flights",
            of(store, "entries"),
            bytes(of(store, "bytes")),
            bytes(of(store, "capacity")),
            of(server, "connections"),
            of(server, "tunnels"),
            of(server, "flights"),
        ),
    );
    text.push('\n');
    line(&mut text, "TIME     RESULT      STATUS       BYTES        MS  REQUEST");
    for exchange in exchanges.iter().take(rows.saturating_sub(HEAD).max(LEAST)) {
        let mut words = String::new();
        let time = exchange["time"].as_str().and_then(|time| time.get(11..19)).unwrap_or("-");
        let code = exchange["status"].as_u64().map_or_else(|| "none".to_owned(), |code| code.to_string());
        // Writing to a String does not fail.
        let _ = write!(
            words,
            "{time:8} {:11} {code:6} {:>11} {:>9.1}  {} {}",
            plain(&exchange["result"]),
            bytes(of(exchange, "bytes_out")),
            exchange["duration_ms"].as_f64().unwrap_or_default(),
            plain(&exchange["method"]),
            plain(&exchange["url"]),
        );
        line(&mut text, &words);
    }
    if exchanges.is_empty() {
        line(&mut text, "no exchange yet");
    }
    text
}

fn sum(of: &Value, results: &[CacheResult]) -> u64 {
    results.iter().filter_map(|result| of[result.token()].as_u64()).sum()
}

/// The median and the 99th percentile of what came between two looks, by the upper ends of their buckets.
fn quantiles(stats: &Value, before: &Value) -> String {
    let counts = |stats: &Value| -> Vec<u64> {
        let counts = stats["requests"]["first_byte"]["counts"].as_array().into_iter().flatten();
        counts.map(|count| count.as_u64().unwrap_or_default()).collect()
    };
    let (now, old) = (counts(stats), counts(before));
    let since: Vec<u64> =
        (0..now.len()).map(|at| now[at].saturating_sub(old.get(at).copied().unwrap_or_default())).collect();
    let total: u64 = since.iter().sum();
    if total == 0 {
        return "-".to_owned();
    }
    let bounds = &stats["requests"]["first_byte"]["bounds_us"];
    let at = |percent: u64| {
        let mut seen = 0;
        let found = since.iter().position(|count| {
            seen += count;
            seen * 100 >= total * percent
        });
        let bound = found.and_then(|at| bounds[at].as_u64());
        bound.map_or_else(|| "> 10 min".to_owned(), |micros| format!("≤ {} ms", micros as f64 / 1000.0))
    };
    format!("{} (99 %: {})", at(50), at(99))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stats(hits: u64, misses: u64) -> Value {
        json!({
            "version": "1.0", "ready": true,
            "requests": {
                "total": hits + misses, "by_result": { "hit": hits, "miss": misses },
                "bytes_out": { "hit": hits * 1024, "miss": misses },
                "first_byte": { "bounds_us": [50, 1000], "counts": [hits, misses, 0] },
            },
            "store": { "entries": 3, "bytes": 2048, "capacity": 4096 },
            "server": { "connections": 1, "tunnels": 0, "flights": 0 },
        })
    }

    fn exchange(url: &str) -> Value {
        json!({
            "time": "2026-11-23T18:37:00.123Z", "result": "hit", "status": 200, "bytes_out": 1024,
            "duration_ms": 0.125, "method": "GET", "url": url,
        })
    }

    #[test]
    fn rates_are_those_since_the_look_before() {
        let text = frame(
            &stats(190, 20),
            (Duration::from_secs(2), &stats(100, 10)),
            &VecDeque::from([exchange("http://h/a")]),
            (24, 120),
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "larder 1.0, ready");
        assert_eq!(lines[1], "50.0 requests/s, hit ratio 90 %, saved 45.0 KiB/s, 0 errors");
        assert_eq!(lines[2], "first byte ≤ 0.05 ms (99 %: ≤ 1 ms)");
        assert_eq!(lines[3], "3 stored, 2.0 KiB of 4.0 KiB; 1 connections, 0 tunnels, 0 flights");
        assert_eq!(lines[6], "18:37:00 hit         200        1.0 KiB       0.1  GET http://h/a");
    }

    #[test]
    fn the_first_look_tells_what_was_since_the_start() {
        let text = frame(&stats(5, 1), (Duration::from_secs(3), &Value::Null), &VecDeque::new(), (24, 80));
        let told = "since the start: 2.0 requests/s, hit ratio 83 %, saved 1.7 KiB/s, 0 errors\n";
        assert!(text.contains(told), "{text}");
    }

    const NEVER: (Duration, &Value) = (Duration::ZERO, &Value::Null);

    #[test]
    fn a_frame_fits_the_terminal_and_cannot_be_steered() {
        let many = std::iter::repeat_n(exchange("http://h/\u{1b}[2J/long/long/long/long/long/long/long"), 50);
        let text = frame(&stats(0, 0), NEVER, &many.collect(), (10, 60));
        assert_eq!(text.lines().count(), 9);
        assert!(text.lines().all(|line| line.chars().count() <= 60) && !text.contains('\u{1b}'), "{text}");
        assert!(frame(&stats(0, 0), NEVER, &VecDeque::new(), (24, 80)).contains("no exchange yet"));
    }
}
