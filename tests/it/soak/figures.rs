//! The figures of a soak by tenths of its time: the table, and what must hold of it.

use super::load::{KINDS, Kind, Took};
use std::time::Duration;

const PARTS: usize = 10;

/// From this many seconds on the bounds are those of a soak; below, a run is a check that it works, and a machine that
/// does something else for a second must not fail it.
const LONG: u64 = 300;

pub(super) struct Figures {
    seconds: u64,
    parts: [Part; PARTS],
    /// Each kind's times, over all parts.
    kinds: [Vec<Duration>; KINDS.len()],
    hits: usize,
}

#[derive(Default)]
struct Part {
    memory: Vec<u64>,
    /// The proxy's CPU time so far, in hundredths of a second: the first and the last seen.
    cpu: Option<(u64, u64)>,
    descriptors: usize,
    /// Of what is without fault; sorted.
    times: Vec<Duration>,
}

impl Figures {
    pub(super) fn new(seconds: u64) -> Self {
        Self { seconds, parts: Default::default(), kinds: Default::default(), hits: 0 }
    }

    fn part(&mut self, at: Duration) -> Option<&mut Part> {
        let part = at.as_millis() * PARTS as u128 / u128::from(self.seconds * 1000);
        self.parts.get_mut(usize::try_from(part).ok()?)
    }

    pub(super) fn sample(&mut self, at: Duration, memory: u64, cpu: u64, descriptors: usize) {
        // What ends after the load's time is in no part.
        if let Some(part) = self.part(at) {
            part.memory.push(memory);
            part.cpu = Some((part.cpu.map_or(cpu, |(first, _)| first), cpu));
            part.descriptors = part.descriptors.max(descriptors);
        }
    }

    pub(super) fn take(&mut self, took: &[Took]) {
        for one in took {
            self.kinds[one.kind.row()].push(one.time);
            self.hits += usize::from(one.kind == Kind::Hit && one.hit);
            if let (Some(part), true) = (self.part(one.at), one.kind.row() < 3) {
                part.times.push(one.time);
            }
        }
        self.kinds.iter_mut().for_each(|times| times.sort_unstable());
        for part in &mut self.parts {
            part.times.sort_unstable();
            part.memory.sort_unstable();
        }
    }

    pub(super) fn print(&self) {
        println!(
            "{:>7} {:>8} {:>8} {:>8} {:>8} {:>6} {:>11}",
            "from s", "requests", "p50 ms", "p99 ms", "RSS MiB", "CPU s", "descriptors"
        );
        for (number, part) in self.parts.iter().enumerate() {
            println!(
                "{:>7} {:>8} {:>8.2} {:>8.2} {:>8.1} {:>6.2} {:>11}",
                number as u64 * self.seconds / PARTS as u64,
                part.times.len(),
                ms(percentile(&part.times, 50)),
                ms(percentile(&part.times, 99)),
                part.rss() as f64 / f64::from(1 << 20),
                part.cpu.map_or(0, |(first, last)| last - first) as f64 / 100.0,
                part.descriptors
            );
        }
        for (name, times) in KINDS.iter().zip(&self.kinds) {
            let (p50, p99) = (ms(percentile(times, 50)), ms(percentile(times, 99)));
            println!("{name}: {} (p50 {p50:.2} ms, p99 {p99:.2} ms)", times.len());
        }
        println!(
            "from the store: {:.2} % of what is hot; memory within {:.1} %; p99 of the last tenth {:.2} of the second's",
            self.hit_ratio() * 100.0,
            self.spread() * 100.0,
            self.slower()
        );
    }

    /// What does not hold.
    pub(super) fn judge(&self) -> Vec<String> {
        let long = self.seconds >= LONG;
        let (spread, slower) = if long { (0.05, 1.2) } else { (0.25, 12.0) };
        let mut faults = Vec::new();
        if self.spread() > spread {
            faults.push(format!("memory is within {:.3}, not within {spread}", self.spread()));
        }
        if self.slower() > slower {
            faults.push(format!(
                "the last tenth's p99 is {:.2} of the second's, above {slower}",
                self.slower()
            ));
        }
        if self.hit_ratio() < 0.95 {
            faults.push(format!("only {:.3} of what is hot came from the store", self.hit_ratio()));
        }
        if self.parts.iter().any(|part| part.times.is_empty() || part.memory.is_empty()) {
            faults.push("in a tenth of the time nothing happened".to_owned());
        }
        faults
    }

    fn hit_ratio(&self) -> f64 {
        self.hits as f64 / self.kinds[0].len().max(1) as f64
    }

    /// How far memory's medians are apart from the third tenth on, as a share of the least.
    fn spread(&self) -> f64 {
        let medians = || self.parts[2..].iter().map(Part::rss);
        let (least, most) = (medians().min().unwrap_or(0), medians().max().unwrap_or(0));
        (most - least) as f64 / least.max(1) as f64
    }

    fn slower(&self) -> f64 {
        let p99 = |part: usize| percentile(&self.parts[part].times, 99).as_secs_f64();
        p99(PARTS - 1) / p99(1).max(1e-6)
    }
}

impl Part {
    /// The median.
    fn rss(&self) -> u64 {
        self.memory.get(self.memory.len() / 2).copied().unwrap_or(0)
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
