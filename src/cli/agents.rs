//! `switchyard agents`: a load of agents that keep honest books.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::tls::ClientArgs;
use crate::testkit::agents::{Load, Outcome, Traffic};
use crate::testkit::units::duration;

/// Sends as agents do and says what came of it. Ends by --messages, by --duration or by a signal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to send.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// How long the first connect may be retried.
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    wait: Duration,
    /// What to send.
    #[arg(long, value_enum, default_value = "trace")]
    method: Traffic,
    /// Connections.
    #[arg(long, default_value_t = 1, value_name = "N")]
    connections: usize,
    /// Streams (agents) per connection.
    #[arg(long, default_value_t = 1, value_name = "N")]
    streams: usize,
    /// Messages per second and stream; 0: as fast as flow control allows.
    #[arg(long, default_value_t = 0.0, value_name = "N")]
    rate: f64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 200, value_name = "N")]
    bytes: usize,
    /// Messages per DATA frame (at most 16 KiB), without --rate.
    #[arg(long, default_value_t = 1, value_name = "N")]
    batch: usize,
    /// The first stream sends this many times the others' rate and --messages.
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    skew: f64,
    /// Half-close a stream after this many messages, wait for the reply, open the next; 0: never.
    #[arg(long, default_value_t = 0, value_name = "N")]
    messages_per_stream: u64,
    /// Messages per stream in all (per agent, over its reopened streams); 0: no limit.
    #[arg(long, default_value_t = 0, value_name = "N")]
    messages: u64,
    /// When to stop.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// Distinct services (nodes, for Envoy).
    #[arg(long, default_value_t = 1, value_name = "N")]
    services: usize,
    /// First word of the agents' names; give each of several loads its own.
    #[arg(long, default_value = "agent")]
    name: String,
    /// How long open calls may wait for their reply at the end.
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    drain: Duration,
    /// How long a half-closed call may wait for its reply.
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME")]
    reply_deadline: Duration,
    /// Print the outcome as one line of JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tls: ClientArgs,
}

/// Runs the load. Fails when nobody listened or when a call ended with an error.
pub fn run(args: Args) -> ExitCode {
    let json = args.json;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the agents: {error}");
            return ExitCode::FAILURE;
        }
    };
    let load = match args.load() {
        Ok(load) => load,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(load.run(signalled()));
    if json {
        println!("{}", serde_json::to_string(&outcome).expect("an outcome is plain numbers and names"));
    } else {
        print(&outcome);
    }
    let reached = outcome.connects > 0 && outcome.unreached == 0;
    if reached && outcome.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Resolves at SIGTERM or SIGINT; never when signals cannot be watched.
async fn signalled() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn print(outcome: &Outcome) {
    let Outcome { sent, calls, answered, early, abandoned, connects, unreached, .. } = outcome;
    println!("sent       {sent} messages in {:.2} s: {:.0}/s", outcome.elapsed_s, outcome.messages_per_s);
    println!("calls      {calls}: {answered} answered OK, {early} answered OK too early");
    println!("errors     {:?}", outcome.errors);
    println!("abandoned  {abandoned} messages for want of a stream");
    println!("connects   {connects}, given up {unreached}");
    let reply = outcome.reply_us;
    println!("reply      p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs", reply.p50, reply.p99, reply.p999, reply.max);
}

impl Args {
    /// What they say, or what is wrong with the files they name.
    fn load(self) -> Result<Load, String> {
        Ok(Load {
            to: self.to,
            wait: self.wait,
            traffic: self.method,
            connections: self.connections,
            streams: self.streams,
            rate: self.rate,
            bytes: self.bytes,
            batch: self.batch,
            skew: self.skew,
            messages_per_stream: self.messages_per_stream,
            messages: self.messages,
            duration: self.duration,
            services: self.services,
            name: self.name,
            drain: self.drain,
            reply_deadline: self.reply_deadline,
            tls: self.tls.load()?,
        })
    }
}
