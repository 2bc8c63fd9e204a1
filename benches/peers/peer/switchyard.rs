//! Switchyard as it comes: every setting at its default, but what a row is about.

use std::fs;
use std::io;
use std::process::Command;

use super::{Task, comma_separated, free_address, pinned};
use crate::spec::Traffic;

const PROGRAM: &str = env!("CARGO_BIN_EXE_switchyard");

pub fn command(task: &Task<'_>) -> io::Result<Command> {
    let file = task.directory.join("switchyard.yaml");
    fs::write(&file, config(task))?;
    let mut command = pinned(PROGRAM.as_ref(), task.workers);
    // Metrics are kept and can be scraped, as they would be; ports that nobody connects to are off.
    command.args(["run", "--access-logs", "off", "--metrics", "off", "--admin", "off"]);
    command.args(["--prometheus", &free_address()?.to_string()]);
    command.arg("--config").arg(&file);
    Ok(command)
}

fn config(task: &Task<'_>) -> String {
    let mut text = format!("to: [{}]\nworkers: {}\n", comma_separated(task.sinks), task.workers);
    text.push_str(&format!("listen:\n  agents:\n    address: {}\n", task.listen));
    if let Some(certificates) = task.tls {
        let (certificate, key) = (certificates.chain.display(), certificates.key.display());
        text.push_str(&format!("    tls: {{ certificate: {certificate}, key: {key} }}\n"));
        let authority = certificates.authority.display();
        text.push_str(&format!("pool:\n  tls: {{ ca: {authority}, server_name: localhost }}\n"));
    }
    if let Traffic::Spans { .. } = task.traffic {
        text.push_str("routes:\n  - method: opentelemetry.proto.collector.trace.*\n    key: trace_id\n");
    }
    // The default is as many as the largest row has; the probe that asks whether anybody listens is one more.
    if task.streams >= 10_000 {
        text.push_str("limits:\n  connections: 20000\n  connections_per_listener: 20000\n");
    }
    text
}
