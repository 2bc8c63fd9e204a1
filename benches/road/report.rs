//! Medians of the runs, as a table for people and as JSON for programs.

use std::fs;

use serde::Serialize;
use serde_json::json;

use crate::row::{Look, Row};
use crate::run::{Sample, Side};

/// All runs of one row.
pub struct Runs {
    pub row: &'static Row,
    /// By [`Side::BOTH`].
    pub sides: [Vec<Sample>; 2],
}

/// How the runs were made.
#[derive(Debug, Serialize)]
pub struct Setting {
    pub quick: bool,
    pub repeats: usize,
    pub cores: usize,
    pub processor: String,
    pub kernel: String,
}

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
        }
    }
}

/// The table of docs/performance.md.
pub fn markdown(setting: &Setting, runs: &[Runs]) -> String {
    let mut table = String::from(
        "| row | side | CPU µs/msg | ratio | msg/s | switches/msg | peak RSS | RSS/connection | reply p50 / p99 | max/mean | lost | twice |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for Runs { row, sides } in runs {
        for (side, samples) in Side::BOTH.into_iter().zip(sides) {
            if !samples.is_empty() {
                table.push_str(&line(row, side, samples, &sides[1]));
            }
        }
    }
    let noise = runs.iter().flat_map(|runs| runs.sides.iter().flatten()).map(|sample| sample.foreign_cores);
    let Setting { repeats, cores, processor, kernel, quick } = setting;
    let kind = if *quick { " of the short kind (--quick)" } else { "" };
    table.push_str(&format!(
        "\nMedians of {repeats} runs{kind} a side; ± is half the distance from the least to the most. {cores} cores, {processor}, Linux {kernel}, loopback; \
         everything else on the machine kept at most {:.2} cores busy meanwhile.\n",
        noise.fold(0.0, f64::max),
    ));
    table
}

fn line(row: &Row, side: Side, samples: &[Sample], naive: &[Sample]) -> String {
    let steady = matches!(row.look, Look::Steady { .. });
    let only = |shown: bool, text: String| if shown { text } else { "–".to_owned() };
    let of = |look: fn(&Sample) -> f64| median(samples, look);
    let cpu = of(|sample| sample.cpu_us_per_message);
    let of_naive = median(naive, |sample| sample.cpu_us_per_message);
    let shown_ratio = steady && side == Side::Switchyard && !naive.is_empty() && of_naive > 0.0;
    let per_connection = of(|sample| sample.rss_per_connection_bytes.unwrap_or_default() as f64);
    format!(
        "| {} | {} | {} | {} | {} | {} | {:.0} MiB | {} | {} | {} | {} | {} |\n",
        row.name,
        side.name(),
        only(steady, format!("{cpu:.2} ± {:.2}", spread(samples, |sample| sample.cpu_us_per_message))),
        only(shown_ratio, format!("{:.2}", cpu / of_naive)),
        only(steady, grouped(of(|sample| sample.messages_per_s))),
        only(steady, format!("{:.3}", of(|sample| sample.switches_per_message))),
        of(|sample| sample.rss_peak_bytes as f64) / 1048576.0,
        only(per_connection > 0.0, format!("{:.1} KiB", per_connection / 1024.0)),
        latency(of(|sample| sample.reply_us_p50 as f64), of(|sample| sample.reply_us_p99 as f64)),
        only(steady, format!("{:.3}", of(|sample| sample.max_over_mean))),
        losses(samples),
        grouped(of(|sample| sample.duplicated as f64)),
    )
}

/// The median and, where calls were answered OK for lost messages, how many of them; and calls that failed.
fn losses(samples: &[Sample]) -> String {
    let lost = median(samples, |sample| sample.lost as f64);
    let answered = median(samples, |sample| sample.lost_answered as f64);
    let errors = median(samples, |sample| sample.errors as f64);
    let mut text = grouped(lost);
    if answered > 0.0 {
        text.push_str(&format!(" ({} answered OK)", grouped(answered)));
    }
    if errors > 0.0 {
        text.push_str(&format!("; {} calls failed", grouped(errors)));
    }
    text
}

fn latency(p50: f64, p99: f64) -> String {
    let one = |micros: f64| {
        if micros < 10_000.0 { format!("{:.1}", micros / 1000.0) } else { format!("{:.0}", micros / 1000.0) }
    };
    format!("{} / {} ms", one(p50), one(p99))
}

/// 1234567.8 as `1,234,568`.
fn grouped(number: f64) -> String {
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

fn sorted(samples: &[Sample], look: impl Fn(&Sample) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = samples.iter().map(look).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(samples: &[Sample], look: impl Fn(&Sample) -> f64) -> f64 {
    let figures = sorted(samples, look);
    match (figures.get(figures.len() / 2), figures.len() % 2) {
        (None, _) => 0.0,
        (Some(middle), 1) => *middle,
        (Some(upper), _) => (figures[figures.len() / 2 - 1] + upper) / 2.0,
    }
}

fn spread(samples: &[Sample], look: impl Fn(&Sample) -> f64) -> f64 {
    let figures = sorted(samples, look);
    figures.last().zip(figures.first()).map_or(0.0, |(most, least)| (most - least) / 2.0)
}

/// Every run of every row.
pub fn json(setting: &Setting, runs: &[Runs]) -> serde_json::Value {
    let row = |runs: &Runs| {
        let sides: serde_json::Map<_, _> = Side::BOTH
            .into_iter()
            .zip(&runs.sides)
            .map(|(side, samples)| (side.name().to_owned(), json!(samples)))
            .collect();
        json!({
            "name": runs.row.name,
            "load": runs.row.load,
            "agents": runs.row.agents,
            "collectors": runs.row.collectors,
            "runs": sides,
        })
    };
    json!({ "setting": setting, "rows": runs.iter().map(row).collect::<Vec<_>>() })
}
