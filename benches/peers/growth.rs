//! What Switchyard costs as backends, keys, connections and lanes grow while the work stays the same.

use std::fs;
use std::io;
use std::time::Duration;

use serde_json::json;

use crate::peer::Peer;
use crate::report::{Runs, grouped, median};
use crate::row::{Look, PACED, Row};
use crate::spec::{Pace, Traffic};
use crate::{Bench, docs, plot, repeat};

/// One thing that grows.
pub struct Growth {
    pub name: &'static str,
    /// What is counted along the axis.
    pub what: &'static str,
    load: &'static str,
    steps: &'static [u32],
    row: fn(u32) -> Row,
}

/// A step, and the runs of it.
pub type Step = (u32, Runs);

const ALL: [Growth; 5] = [
    Growth {
        name: "backends",
        what: "backends",
        load: "segments of 1 KiB, 16 streams of 2,000 msg/s",
        steps: &[3, 10, 30, 100, 300],
        row: |backends| Row { backends, renewed_after: None, look: LOOK, ..PACED },
    },
    Growth {
        name: "keyed-backends",
        what: "backends",
        load: "meter batches of 500 B of 10,000 pairs, each pair at one backend, 16 streams of 2,000 msg/s",
        steps: &[3, 10, 30, 100, 300],
        row: |backends| Row { backends, ..keyed(10_000) },
    },
    Growth {
        name: "keys",
        what: "keys",
        load: "meter batches of 500 B, each (service, instance) pair at one of 3 backends, 16 streams of 2,000 msg/s; of the \
               most pairs a run sees some 200,000, each once",
        steps: &[10, 1_000, 100_000, 1_000_000],
        row: keyed,
    },
    Growth {
        name: "connections",
        what: "connections",
        load: "segments of 500 B, 20,000 msg/s in all, a stream a connection",
        steps: &[10, 100, 1_000, 10_000],
        row: |connections| Row {
            connections,
            bytes: 500,
            pace: shared(20_000.0, connections),
            renewed_after: None,
            look: LOOK,
            ..PACED
        },
    },
    Growth {
        name: "lanes",
        what: "Envoys",
        load: "access logs of 1 KiB, 10,000 msg/s in all, a stream with an identifier of its own (512 B) an Envoy",
        steps: &[1, 10, 100, 1_000, 10_000],
        row: |envoys| Row {
            traffic: Traffic::AccessLogs { identifier_bytes: 512, entries: 2 },
            connections: envoys.min(100),
            streams: envoys.div_ceil(100),
            pace: shared(10_000.0, envoys),
            renewed_after: None,
            look: LOOK,
            ..PACED
        },
    },
];

/// Each of 10,000 streams has to have sent before anybody looks.
const LOOK: Look = Look::Steady {
    warm: Duration::from_millis(2_500),
    quick: Duration::from_millis(1_500),
    long: Duration::from_millis(4_000),
};

fn keyed(keys: u32) -> Row {
    Row { traffic: Traffic::Meters { keys }, bytes: 500, renewed_after: None, look: LOOK, ..PACED }
}

fn shared(per_second: f64, streams: u32) -> Pace {
    Pace::PerSecond(per_second / f64::from(streams))
}

/// Runs and prints them, `names` or all, and writes what the bench is to write.
pub fn measure(bench: &Bench, names: &[String]) -> io::Result<()> {
    if let Some(name) = names.iter().find(|name| !ALL.iter().any(|growth| growth.name == **name)) {
        let all: Vec<_> = ALL.iter().map(|growth| growth.name).collect();
        return Err(io::Error::other(format!("nothing called `{name}` grows; there are {}", all.join(", "))));
    }
    let chosen = ALL.iter().filter(|growth| names.is_empty() || names.iter().any(|name| name == growth.name));
    let (mut tables, mut figures) = (Vec::new(), Vec::new());
    for growth in chosen {
        let mut steps: Vec<Step> = Vec::new();
        for &step in growth.steps {
            eprintln!("{} {}: {}", grouped(f64::from(step)), growth.what, growth.load);
            steps.push((step, repeat(&(growth.row)(step), &[Peer::Switchyard], bench)));
        }
        figures.push(figures_of(growth, &steps));
        let all = json!({ "setting": bench.setting, "growth": figures });
        fs::write(bench.out.join("growth.json"), serde_json::to_vec_pretty(&all)?)?;
        if let Some(directory) = &bench.plots {
            plot::growth(directory, growth, &steps)?;
        }
        let (mark, table) = (format!("growth-{}", growth.name), table(bench, growth, &steps));
        println!("<!-- {mark} -->\n{table}<!-- /{mark} -->\n");
        tables.push((mark, table));
    }
    if bench.write_docs {
        docs::write(tables.iter().map(|(mark, table)| (mark.as_str(), table.as_str())))?;
    }
    Ok(())
}

fn table(bench: &Bench, growth: &Growth, steps: &[Step]) -> String {
    let mut text = format!(
        "| {} | CPU µs/msg | switches/msg | peak RSS | p50 / p99 ms | lost | twice |\n|---:|---:|---:|---:|---:|---:|---:|\n",
        growth.what
    );
    for (step, runs) in steps {
        let samples = &runs.peers[0].1;
        let step = grouped(f64::from(*step));
        let Some(cpu_us) = median(samples, |sample| sample.cpu_us_per_message) else {
            let why = samples.iter().find_map(|sample| sample.as_ref().err()).map_or("no run", String::as_str);
            text.push_str(&format!("| {step} | failed: {why} | | | | | |\n"));
            continue;
        };
        let of = |look: fn(&crate::sample::Sample) -> f64| median(samples, look).unwrap_or_default();
        text.push_str(&format!(
            "| {step} | {cpu_us:.2} | {:.3} | {:.0} MiB | {:.2} / {:.2} | {} | {} |\n",
            of(|sample| sample.switches_per_message),
            of(|sample| sample.rss_peak_bytes as f64) / 1048576.0,
            of(|sample| sample.latency.p50) / 1000.0,
            of(|sample| sample.latency.p99) / 1000.0,
            grouped(of(|sample| sample.lost as f64)),
            grouped(of(|sample| sample.twice as f64)),
        ));
    }
    let samples = steps.iter().flat_map(|(_, runs)| &runs.peers).flat_map(|(_, samples)| samples).flatten();
    format!("{text}\n{}. {}\n", capital(growth.load), bench.setting.sentence(samples))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn figures_of(growth: &Growth, steps: &[Step]) -> serde_json::Value {
    let steps: Vec<_> = steps.iter().map(|(step, runs)| json!({ "step": step, "runs": runs.peers[0].1 })).collect();
    json!({ "name": growth.name, "load": growth.load, "steps": steps })
}
