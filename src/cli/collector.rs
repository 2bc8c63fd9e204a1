//! `switchyard collector`: a collector to test against, with OAP's stream state and misbehaviour on command.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use tokio::signal::unix::{SignalKind, signal};

use super::tls::ServerArgs;
use crate::testkit::behaviour::Behaviour;
use crate::testkit::collector::{Collector, Options};
use crate::testkit::tally::{Counts, Detail};
use crate::testkit::units::duration;

/// Starts a scripted collector that counts what it receives. Its first line on stderr is
/// `collector listening on ADDRESS`; at the end it prints its counts as one line of JSON on stdout.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:11801")]
    listen: SocketAddr,
    /// How closely to look at messages: counts only, their sources, or also the ids test agents put into them.
    #[arg(long, value_enum, default_value = "sources")]
    detail: DetailArg,
    /// Append `method source agent seq` for each id to this file, before the answer goes out; implies --detail ids.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Serve GET /counts, and GET and PUT /behaviour, as JSON.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Print the counts as a line of JSON on stdout this often.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    print_every: Option<Duration>,
    /// Bytes a peer may send on one stream ahead of its being read.
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES")]
    stream_window: u32,
    /// Bytes a peer may send on one connection ahead of its being read.
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES")]
    connection_window: u32,
    #[command(flatten)]
    tls: ServerArgs,
    #[command(flatten)]
    behaviour: BehaviourArgs,
}

/// How to misbehave.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Misbehaviour")]
struct BehaviourArgs {
    /// Time each message takes.
    #[arg(long, value_parser = duration, default_value = "0", value_name = "TIME")]
    message_delay: Duration,
    /// Time between half-close and answer.
    #[arg(long, value_parser = duration, default_value = "0", value_name = "TIME")]
    answer_delay: Duration,
    /// Reset each stream after this many messages.
    #[arg(long, value_name = "N")]
    reset_after: Option<u64>,
    /// Answer each stream after this many messages, not waiting for its end; 0: at once.
    #[arg(long, value_name = "N")]
    answer_after: Option<u64>,
    /// Refuse every stream (REFUSED_STREAM).
    #[arg(long)]
    refuse: bool,
    /// Read everything, never answer.
    #[arg(long)]
    hang: bool,
    /// Do not read.
    #[arg(long)]
    stall: bool,
    /// Answer with this gRPC status number.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..17), value_name = "CODE")]
    status: u8,
    /// Only every n-th call gets --status.
    #[arg(long, default_value_t = 1, value_name = "N")]
    status_every: u64,
    /// Announce and enforce MAX_CONCURRENT_STREAMS.
    #[arg(long, value_name = "N")]
    streams_max: Option<u32>,
    /// End each connection by GOAWAY at this age.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    goaway_every: Option<Duration>,
    /// Exit with code 137, as if killed, once this many messages were read.
    #[arg(long, value_name = "N")]
    die_after_messages: Option<u64>,
    /// Exit with code 137, as if killed, at this age.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    die_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DetailArg {
    Counts,
    Sources,
    Ids,
}

/// Runs until SIGTERM or SIGINT; then says GOAWAY and answers what it has for half a second.
pub fn run(args: Args) -> ExitCode {
    let http = args.http;
    let print_every = args.print_every;
    let listen = args.listen;
    let options = match args.options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let collector = match Collector::start(options) {
        Ok(collector) => Arc::new(collector),
        Err(error) => {
            eprintln!("cannot start the collector on {listen}: {error}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("collector listening on {}", collector.address());
    let watched = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(attend(&collector, http, print_every)));
    // The runtime is gone by now, and with it whoever else held the collector.
    let counts = Arc::into_inner(collector).map(|mut collector| collector.stop());
    counts.iter().for_each(print);
    match watched {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the collector had to end: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints and serves until a signal comes.
async fn attend(
    collector: &Arc<Collector>,
    http: Option<SocketAddr>,
    print_every: Option<Duration>,
) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    if let Some(address) = http {
        let listener = tokio::net::TcpListener::bind(address).await?;
        eprintln!("counts on http://{}/counts", listener.local_addr()?);
        let router = Router::new()
            .route("/counts", get(counts))
            .route("/behaviour", get(behaviour).put(set_behaviour))
            .with_state(Arc::clone(collector));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    let mut clock = print_every.map(tokio::time::interval);
    loop {
        let tick = async {
            match &mut clock {
                Some(clock) => clock.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = tick => print(&collector.counts()),
        }
    }
}

fn print(counts: &Counts) {
    println!("{}", serde_json::to_string(counts).expect("counts are plain numbers and names"));
}

async fn counts(State(collector): State<Arc<Collector>>) -> Json<Counts> {
    Json(collector.counts())
}

async fn behaviour(State(collector): State<Arc<Collector>>) -> Json<Behaviour> {
    Json(collector.behaviour())
}

async fn set_behaviour(State(collector): State<Arc<Collector>>, Json(behaviour): Json<Behaviour>) -> Json<Behaviour> {
    collector.set_behaviour(behaviour.clone());
    Json(behaviour)
}

impl Args {
    /// What they say, or what is wrong with the files they name.
    fn options(self) -> Result<Options, String> {
        let told = self.behaviour;
        Ok(Options {
            tls: self.tls.load()?,
            listen: self.listen,
            detail: match self.detail {
                DetailArg::Counts => Detail::Counts,
                DetailArg::Sources => Detail::Sources,
                DetailArg::Ids => Detail::Ids,
            },
            log: self.log,
            stream_window_bytes: self.stream_window,
            connection_window_bytes: self.connection_window,
            exit_on_death: true,
            behaviour: Behaviour {
                message_delay: told.message_delay,
                answer_delay: told.answer_delay,
                reset_after: told.reset_after,
                answer_after: told.answer_after,
                refuse: told.refuse,
                hang: told.hang,
                stall: told.stall,
                status: told.status,
                status_every: told.status_every,
                streams_max: told.streams_max,
                goaway_every: told.goaway_every,
                die_after_messages: told.die_after_messages,
                die_after: told.die_after,
            },
            ..Options::default()
        })
    }
}
