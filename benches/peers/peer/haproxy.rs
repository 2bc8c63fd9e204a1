//! HAProxy, configured for long gRPC streams.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use super::{Task, pinned};

pub fn program() -> PathBuf {
    "/usr/sbin/haproxy".into()
}

pub fn command(task: &Task<'_>) -> io::Result<Command> {
    let file = task.directory.join("haproxy.cfg");
    fs::write(&file, config(task)?)?;
    let mut command = pinned(&program(), task.workers);
    // In the foreground, and one process: a master would only wait.
    command.arg("-db").arg("-f").arg(&file);
    Ok(command)
}

fn config(task: &Task<'_>) -> io::Result<String> {
    let (listen, workers) = (task.listen, task.workers);
    // Both sides of each stream; 100 are the default of a connection.
    let (connections, streams) = (task.streams + 1_000, task.streams.max(1_024));
    let (mut bind, mut server) = ("proto h2".to_owned(), "proto h2".to_owned());
    if let Some(certificates) = task.tls {
        bind = format!("ssl crt {} alpn h2", certificates.chain_and_key()?.display());
        let authority = certificates.authority.display();
        server = format!("ssl verify required ca-file {authority} sni str(localhost) verifyhost localhost alpn h2");
    }
    let mut resilience = "";
    if task.one_dies {
        resilience = "    retries 3\n    option redispatch 1\n";
        server.push_str(" check inter 500ms fall 1");
    }
    let servers: String =
        task.sinks.iter().enumerate().map(|(at, sink)| format!("    server s{at} {sink} {server}\n")).collect();
    Ok(format!(
        "\
global
    nbthread {workers}
    maxconn {connections}
    # It reckons with a connection to a collector for each agent's, which share them here.
    no strict-limits
    # 64 KiB by default: a saturated stream would wait for the other side at each turn.
    tune.h2.initial-window-size 1048576
    # 16 KiB by default: with more in one turn a saturated message costs a third less.
    tune.bufsize 65536
    tune.h2.max-concurrent-streams {streams}

# Nothing is logged: there is no `log` line.
defaults
    mode http
    # Endless streams: no time-out may end them.
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-request 1h
    # Messages are passed on as they come, not gathered until a buffer is full.
    option http-no-delay

frontend agents
    bind {listen} {bind}
    default_backend collectors

backend collectors
    balance roundrobin
    # Streams of all agents share the connections to a collector.
    http-reuse always
{resilience}{servers}"
    ))
}
