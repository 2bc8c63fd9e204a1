//! Medians of the runs, as tables for people and as JSON for programs.

use std::fs;

use serde::Serialize;
use serde_json::json;

use crate::peer::Peer;
use crate::row::{Group, Row};
use crate::sample::Sample;

/// All runs of one row, by peer. A run that failed says why.
pub struct Runs {
    pub row: Row,
    pub peers: Vec<(Peer, Vec<Result<Sample, String>>)>,
}

/// How the runs were made.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    pub quick: bool,
    pub repeats: usize,
    pub cores: usize,
    pub processor: String,
    pub kernel: String,
    /// Of the peers that were there.
    pub versions: Vec<String>,
}

/// Columns of a table: a heading and what stands below it.
type Column = (&'static str, fn(&Line<'_>) -> String);

/// A line of a table: a row and one peer's runs that came to an end.
struct Line<'a> {
    peer: Peer,
    samples: Vec<&'a Sample>,
    /// Switchyard's CPU a message, if it ran.
    switchyard_us: Option<f64>,
}

const STEADY: [Column; 10] = [
    ("CPU µs/msg", |line| {
        let [least, median, most] = line.of(|sample| sample.cpu_us_per_message);
        format!("{median:.2} ± {:.2}", (most - least) / 2.0)
    }),
    ("Switchyard's / its", |line| line.ratio()),
    ("msg/s", |line| grouped(line.median(|sample| sample.messages_per_s))),
    ("cores", |line| format!("{:.2}", line.median(|sample| sample.cores))),
    ("switches/msg", |line| format!("{:.3}", line.median(|sample| sample.switches_per_message))),
    ("peak RSS", |line| line.peak()),
    ("p50 / p99 / p99.9 ms", |line| line.latency()),
    ("max/mean", |line| format!("{:.2}", line.median(|sample| sample.max_over_mean))),
    ("lost", |line| grouped(line.median(|sample| sample.lost as f64))),
    ("twice", |line| grouped(line.median(|sample| sample.twice as f64))),
];
const CONNECTIONS: [Column; 4] = [
    ("RSS/connection", |line| {
        let [least, median, most] = line.of(|sample| sample.rss_per_connection_bytes / 1024.0);
        format!("{median:.1} ± {:.1} KiB", (most - least) / 2.0)
    }),
    ("peak RSS", |line| line.peak()),
    ("cores meanwhile", |line| format!("{:.3}", line.median(|sample| sample.cores))),
    ("lost", |line| grouped(line.median(|sample| sample.lost as f64))),
];
const KILL: [Column; 6] = [
    ("sent", |line| grouped(line.median(|sample| sample.sent as f64))),
    ("lost", |line| {
        let [least, median, most] = line.of(|sample| sample.lost as f64);
        if least == most {
            grouped(median)
        } else {
            format!("{} ({} to {})", grouped(median), grouped(least), grouped(most))
        }
    }),
    ("twice", |line| grouped(line.median(|sample| sample.twice as f64))),
    ("in doubt", |line| grouped(line.median(|sample| sample.in_doubt as f64))),
    ("calls failed", |line| grouped(line.median(|sample| sample.failures as f64))),
    ("reply p50 / p99 ms", |line| {
        let of = |look: fn(&Sample) -> f64| shown_ms(line.median(look));
        format!("{} / {}", of(|sample| sample.reply.p50), of(|sample| sample.reply.p99))
    }),
];

// === impl Setting ===

impl Setting {
    pub fn new(quick: bool, repeats: usize) -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            quick,
            repeats,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: model.map_or("unknown", |(_, name)| name).to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            versions: Vec::new(),
        }
    }

    /// The line below a table.
    pub fn sentence<'a>(&self, samples: impl Iterator<Item = &'a Sample>) -> String {
        let Setting { repeats, cores, processor, kernel, quick, versions } = self;
        let kind = if *quick { " of the short kind (--quick)" } else { "" };
        let runs = if *repeats == 1 { "One run each".to_owned() } else { format!("Medians of {repeats} runs") };
        let noise = samples.map(|sample| sample.foreign_cores).fold(0.0, f64::max);
        let versions = if versions.is_empty() { String::new() } else { format!(" {}.", versions.join(", ")) };
        format!(
            "{runs}{kind}; ± is half the distance from the least to the most. {cores} cores, {processor}, \
             Linux {kernel}, loopback; everything else on the machine kept at most {noise:.2} cores busy meanwhile.{versions}"
        )
    }
}

// === impl Group ===

impl Group {
    pub const ALL: [Group; 4] = [Group::Saturated, Group::Paced, Group::Connections, Group::Kill];

    /// What it is called on the command line and in the marks of docs/performance.md.
    pub fn name(self) -> &'static str {
        match self {
            Group::Saturated => "saturated",
            Group::Paced => "agents",
            Group::Connections => "connections",
            Group::Kill => "killed",
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            Group::Saturated | Group::Paced => &STEADY,
            Group::Connections => &CONNECTIONS,
            Group::Kill => &KILL,
        }
    }
}

/// Marks of docs/performance.md and what belongs there, in that order: what ran where, then a table for each group.
pub fn tables(setting: &Setting, runs: &[Runs]) -> Vec<(&'static str, String)> {
    let samples = runs.iter().flat_map(|runs| &runs.peers).flat_map(|(_, samples)| samples).flatten();
    let mut tables = vec![("setting", setting.sentence(samples) + "\n")];
    for group in Group::ALL {
        let runs: Vec<&Runs> = runs.iter().filter(|runs| runs.row.group == group).collect();
        if !runs.is_empty() {
            tables.push((group.name(), table(group, &runs)));
        }
    }
    tables
}

fn table(group: Group, runs: &[&Runs]) -> String {
    let columns = group.columns();
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut text = format!("| row | peer | {} |\n|---|---|{}\n", headings.join(" | "), "---:|".repeat(columns.len()));
    let mut failures = Vec::new();
    for Runs { row, peers } in runs {
        let mine = peers.iter().find(|(peer, _)| *peer == Peer::Switchyard);
        let switchyard_us = mine.and_then(|(_, samples)| {
            let line =
                Line { peer: Peer::Switchyard, samples: samples.iter().flatten().collect(), switchyard_us: None };
            (!line.samples.is_empty()).then(|| line.median(|sample| sample.cpu_us_per_message))
        });
        for (peer, samples) in peers {
            let line = Line { peer: *peer, samples: samples.iter().flatten().collect(), switchyard_us };
            let cells: Vec<String> = match line.samples.is_empty() {
                true => columns.iter().map(|_| "–".to_owned()).collect(),
                false => columns.iter().map(|(_, cell)| cell(&line)).collect(),
            };
            let trouble = troubles(samples);
            let mark = if trouble.is_empty() { "" } else { " (!)" };
            text.push_str(&format!("| {} | {}{mark} | {} |\n", row.name, peer.name(), cells.join(" | ")));
            failures.extend(trouble.into_iter().map(|what| format!("- {}, {} (!): {what}\n", row.name, peer.name())));
        }
    }
    if !failures.is_empty() {
        text.push_str(&format!("\nWhat did not go well:\n\n{}", failures.concat()));
    }
    text
}

/// Runs that failed, calls that did, and messages nobody could read: each once, however often it happened.
fn troubles(samples: &[Result<Sample, String>]) -> Vec<String> {
    let mut found: Vec<String> = samples.iter().filter_map(|sample| sample.as_ref().err()).cloned().collect();
    // The kinds of one run stand for those of the others; their numbers are in the JSON.
    if let Some(sample) = samples.iter().flatten().max_by_key(|sample| sample.failures).filter(|it| it.failures > 0) {
        found.push(format!("in one run {}", sample.failed.join(", ")));
    }
    if let Some(unsent) = samples.iter().flatten().map(|sample| sample.unsent).max().filter(|unsent| *unsent > 0) {
        found
            .push(format!("up to {unsent} messages of a run were due and not sent by its end: senders were held back"));
    }
    if let Some(sample) = samples.iter().flatten().find(|sample| sample.unreadable > 0) {
        found.push(format!("{} messages arrived that nobody could read", sample.unreadable));
    }
    found.dedup();
    found
}

// === impl Line ===

impl Line<'_> {
    /// Least, median, most.
    fn of(&self, look: impl Fn(&Sample) -> f64) -> [f64; 3] {
        let mut figures: Vec<f64> = self.samples.iter().map(|sample| look(sample)).collect();
        figures.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (figures.first(), figures.last()) else { return [0.0; 3] };
        let middle = figures.len() / 2;
        let median =
            if figures.len() % 2 == 1 { figures[middle] } else { (figures[middle - 1] + figures[middle]) / 2.0 };
        [*least, median, *most]
    }

    fn median(&self, look: impl Fn(&Sample) -> f64) -> f64 {
        self.of(look)[1]
    }

    fn ratio(&self) -> String {
        let its_us = self.median(|sample| sample.cpu_us_per_message);
        match self.switchyard_us {
            Some(mine_us) if self.peer != Peer::Switchyard && its_us > 0.0 => format!("{:.2}", mine_us / its_us),
            _ => "–".to_owned(),
        }
    }

    fn peak(&self) -> String {
        format!("{:.0} MiB", self.median(|sample| sample.rss_peak_bytes as f64) / 1048576.0)
    }

    fn latency(&self) -> String {
        let of = |look: fn(&Sample) -> f64| shown_ms(self.median(look));
        let (p50, p99) = (of(|sample| sample.latency.p50), of(|sample| sample.latency.p99));
        format!("{p50} / {p99} / {}", of(|sample| sample.latency.p999))
    }
}

/// The median of what a peer's runs showed; none if all failed.
pub fn median(samples: &[Result<Sample, String>], look: impl Fn(&Sample) -> f64) -> Option<f64> {
    let line = Line { peer: Peer::Switchyard, samples: samples.iter().flatten().collect(), switchyard_us: None };
    (!line.samples.is_empty()).then(|| line.median(look))
}

fn shown_ms(micros: f64) -> String {
    match micros / 1000.0 {
        ms if ms < 1.0 => format!("{ms:.2}"),
        ms if ms < 10.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// 1234567.8 as `1,234,568`.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// For those who watch.
pub fn one_line(sample: &Sample) -> String {
    format!(
        "{:6.2} µs/msg {:9.0} msg/s {:5.2} cores {:5.1} KiB/conn, p99 {} ms, {:.2} max/mean, {} lost, {} twice, {} unsent, {} failed; \
         generator {:.2}, sinks {:.2} µs/msg, {:.2} foreign cores{}{}",
        sample.cpu_us_per_message,
        sample.messages_per_s,
        sample.cores,
        sample.rss_per_connection_bytes / 1024.0,
        shown_ms(sample.latency.p99),
        sample.max_over_mean,
        sample.lost,
        sample.twice,
        sample.unsent,
        sample.failures,
        sample.load_us_per_message,
        sample.sinks_us_per_message,
        sample.foreign_cores,
        if sample.failed.is_empty() { "" } else { ": " },
        sample.failed.join(", "),
    )
}

/// Every run of every row.
pub fn json(setting: &Setting, runs: &[Runs]) -> serde_json::Value {
    let row = |runs: &Runs| {
        let peers: serde_json::Map<_, _> =
            runs.peers.iter().map(|(peer, samples)| (peer.name().to_owned(), json!(samples))).collect();
        json!({ "name": runs.row.name, "load": runs.row.load, "runs": peers })
    };
    json!({ "setting": setting, "rows": runs.iter().map(row).collect::<Vec<_>>() })
}
