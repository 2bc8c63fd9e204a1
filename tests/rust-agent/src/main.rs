//! Services under the real SkyWalking agent for Rust: each keeps three streams open, for segments, logs and meters.
//!
//! Only the ids are ours (SERVICE-N, counted for each kind), so that a test can tell the messages apart. At the end it
//! prints what the agent was handed and how often it opened a stream or failed: `SERVICE WHAT COUNT`, a line each.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skywalking::logging::{logger::Logger, record::LogRecord};
use skywalking::metrics::{meter::Counter, metricer::Metricer};
use skywalking::proto::v3::meter_data::Metric;
use skywalking::reporter::{CollectItem, Report, grpc::GrpcReporter};
use skywalking::trace::tracer::Tracer;
use tokio::sync::oneshot;

const USAGE: &str =
    "rust-agent SERVER SERVICES ITEMS EVERY_MS: that many services send a segment with a log ITEMS times";
/// Each round reports every meter.
const METERS: usize = 5;
const METER_INTERVAL: Duration = Duration::from_millis(100);

/// What one service did.
#[derive(Default)]
struct Counts {
    segments: AtomicU64,
    logs: AtomicU64,
    meters: AtomicU64,
    streams: AtomicU64,
    failures: AtomicU64,
}

/// Gives every item its id on its way to the agent's reporter.
struct Numbered<R> {
    service: String,
    counts: Arc<Counts>,
    reporter: R,
}

impl<R: Report> Report for Numbered<R> {
    fn report(&self, mut item: CollectItem) {
        let id = |count: &AtomicU64| format!("{}-{}", self.service, count.fetch_add(1, Ordering::Relaxed));
        match &mut item {
            CollectItem::Trace(segment) => segment.trace_segment_id = id(&self.counts.segments),
            CollectItem::Log(log) => log.endpoint = id(&self.counts.logs),
            CollectItem::Meter(meter) => {
                if let Some(Metric::SingleValue(value)) = &mut meter.metric {
                    value.labels[0].value = id(&self.counts.meters);
                }
            }
            _ => {}
        }
        self.reporter.report(item);
    }
}

/// One service from start to end; returns when every stream has its reply.
#[expect(clippy::result_large_err, reason = "an interceptor returns what tonic says it returns")]
async fn serve(server: String, service: String, items: u64, every: Duration) -> Result<Arc<Counts>, skywalking::Error> {
    let counts = Arc::new(Counts::default());
    let (opened, unsent, failed) = (Arc::clone(&counts), Arc::clone(&counts), Arc::clone(&counts));
    let reporter = GrpcReporter::connect(server)
        .await?
        .with_custom_intercept(move |request| {
            opened.streams.fetch_add(1, Ordering::Relaxed);
            Ok(request)
        })
        .with_err_handle(move |what, error| {
            eprintln!("{what}: {error}");
            unsent.failures.fetch_add(1, Ordering::Relaxed);
        });
    let (stop, stopped) = oneshot::channel::<()>();
    let reporting = reporter
        .reporting()
        .await
        .with_graceful_shutdown(async move {
            // An error says that the sender is gone, which means the same.
            let _ = stopped.await;
        })
        .with_status_handle(move |what, status| {
            eprintln!("{what}: {status}");
            failed.failures.fetch_add(1, Ordering::Relaxed);
        })
        .spawn();

    let numbered = Arc::new(Numbered { service: service.clone(), counts: Arc::clone(&counts), reporter });
    work(&service, &numbered, items, every).await?;
    drop(stop);
    reporting.await?;
    Ok(counts)
}

/// What an instrumented program does all day.
async fn work<R: Report + Send + Sync + 'static>(
    service: &str,
    reporter: &Arc<R>,
    items: u64,
    every: Duration,
) -> Result<(), skywalking::Error> {
    let instance = format!("{service}-0");
    let tracer = Tracer::new(service, &instance, Arc::clone(reporter));
    let logger = Logger::new(service, &instance, Arc::clone(reporter));
    let mut metricer = Metricer::new(service, &instance, Arc::clone(reporter));
    metricer.set_report_interval(METER_INTERVAL);
    let counters: Vec<_> =
        (0..METERS).map(|n| metricer.register(Counter::new(format!("orders_{n}")).add_label("id", ""))).collect();
    let metrics = metricer.boot();
    // The agent drops what does not fit into its queues of 255, so nothing may come in bursts.
    let mut clock = tokio::time::interval(every);
    for n in 0..items {
        clock.tick().await;
        let mut context = tracer.create_trace_context();
        let _span = context.create_entry_span("/order");
        logger.log(LogRecord::new().with_tracing_context(&context).content(format!("order {n}")));
        counters[n as usize % METERS].increment(1.0);
    }
    metrics.shutdown().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, services, items, every] = &arguments[..] else { return Err(USAGE.into()) };
    let (services, items, every): (u64, u64, u64) = (services.parse()?, items.parse()?, every.parse()?);
    let running: Vec<_> = (0..services)
        .map(|n| format!("rust{n}"))
        .map(|name| {
            let every = Duration::from_millis(every);
            (name.clone(), tokio::spawn(serve(server.clone(), name, items, every)))
        })
        .collect();
    for (service, running) in running {
        let counts = running.await??;
        for (what, count) in [
            ("segments", &counts.segments),
            ("logs", &counts.logs),
            ("meters", &counts.meters),
            ("streams", &counts.streams),
            ("failures", &counts.failures),
        ] {
            println!("{service} {what} {}", count.load(Ordering::Relaxed));
        }
    }
    Ok(())
}
