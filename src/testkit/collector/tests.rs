//! Every misbehaviour, seen from an agent or a bare h2 client.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::Response;
use prost::Message as _;
use tokio::net::TcpStream;

use super::*;
use crate::message::run::Run;
use crate::proto::skywalking::{v3, v10};
use crate::testkit::agents::{Load, Outcome};
use crate::wire::grpc::{Code, Status, request_head};

const TRACES: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const SECOND: Duration = Duration::from_secs(1);

fn collector(behaviour: Behaviour) -> Collector {
    Collector::start(Options { behaviour, ..Default::default() }).unwrap()
}

/// One agent that sends 100 messages, 10 per call.
fn load(collector: &Collector) -> Load {
    Load { to: collector.address().to_string(), messages: 100, messages_per_stream: 10, ..Default::default() }
}

fn run(behaviour: Behaviour) -> (Outcome, Counts) {
    let mut collector = collector(behaviour);
    let outcome = Load { drain: SECOND, ..load(&collector) }.start().unwrap().wait();
    (outcome, collector.stop())
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Waits for what must come true soon, however busy the machine is.
fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it did not come true in ten seconds");
}

async fn client(address: SocketAddr) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn call(client: &SendRequest<Bytes>, path: &str, messages: &[Bytes]) -> Result<Response<RecvStream>, h2::Error> {
    let head = request_head("test", path).unwrap();
    let (response, mut out) = client.clone().ready().await?.send_request(head, false)?;
    for message in messages {
        out.send_data(message.clone(), false)?;
    }
    out.send_data(Bytes::new(), true)?;
    response.await
}

async fn reply(response: Response<RecvStream>) -> (Vec<u8>, Status) {
    if let Some(status) = Status::from_headers(response.headers()) {
        return (Vec::new(), status);
    }
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(chunk) = body.data().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    (bytes, Status::from_headers(&body.trailers().await.unwrap().unwrap()).unwrap())
}

#[test]
fn health_is_serving_its_watch_and_unknown_methods_are_unimplemented() {
    let collector = collector(Behaviour::default());
    block_on(async {
        let client = client(collector.address()).await;
        let check = call(&client, "/grpc.health.v1.Health/Check", &[Run::of_body(b"").bytes().clone()]).await.unwrap();
        assert_eq!(reply(check).await, (vec![0, 0, 0, 0, 2, 8, 1], Status::ok()));
        for path in ["/grpc.health.v1.Health/Watch", "/RemoteService/call"] {
            let (_, status) = reply(call(&client, path, &[]).await.unwrap()).await;
            assert_eq!(status.code, Code::Unimplemented);
        }
    });
}

#[test]
fn what_is_asked_gets_a_reply_with_content() {
    let collector = collector(Behaviour::default());
    block_on(async {
        let client = client(collector.address()).await;
        let path = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";
        let (body, _) = reply(call(&client, path, &[Run::of_body(b"").bytes().clone()]).await.unwrap()).await;
        let commands = v3::Commands::decode(&body[5..]).unwrap();
        assert_eq!(commands.commands[0].command, "ConfigurationDiscoveryCommand");
    });
}

#[test]
fn gzipped_messages_are_read() {
    let segment = v3::SegmentObject { service: "shop".into(), ..Default::default() };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &segment.encode_to_vec()).unwrap();
    let mut message = Run::of_body(&gzip.finish().unwrap()).bytes().to_vec();
    message[0] = 1;
    let mut collector = collector(Behaviour::default());
    block_on(async {
        let client = client(collector.address()).await;
        let mut head = request_head("test", TRACES).unwrap();
        head.headers_mut().insert("grpc-encoding", "gzip".parse().unwrap());
        let (response, mut out) = client.ready().await.unwrap().send_request(head, false).unwrap();
        out.send_data(message.into(), true).unwrap();
        assert_eq!(reply(response.await.unwrap()).await.1, Status::ok());
    });
    assert_eq!(collector.stop().methods[TRACES].sources["shop"].messages, 1);
}

#[test]
fn an_upload_gets_its_go_on_before_its_end() {
    let meta_data = v10::AsyncProfilerMetaData { content_size: 4, ..Default::default() };
    let begin = v10::AsyncProfilerData { meta_data: Some(meta_data), result: None };
    let collector = collector(Behaviour::default());
    block_on(async {
        let client = client(collector.address()).await;
        let head = request_head("test", "/skywalking.v10.AsyncProfilerTask/collect").unwrap();
        let (response, mut out) = client.ready().await.unwrap().send_request(head, false).unwrap();
        out.send_data(Run::of_body(&begin.encode_to_vec()).bytes().clone(), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), &[0; 5][..]);
        out.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none());
        assert_eq!(Status::from_headers(&body.trailers().await.unwrap().unwrap()), Some(Status::ok()));
    });
}

#[test]
fn a_reset_comes_after_exactly_so_many_messages() {
    let mut collector = collector(Behaviour { reset_after: Some(7), ..Default::default() });
    // Few: agents back off longer after each failure.
    let outcome = Load { messages: 30, ..load(&collector) }.start().unwrap().wait();
    let counts = collector.stop();
    assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), ["INTERNAL"]);
    assert_eq!(counts.messages, 7 * outcome.calls);
}

#[test]
fn an_early_answer_is_told_apart_from_a_late_one() {
    let behaviour = Behaviour { answer_after: Some(1), ..Default::default() };
    let collector = collector(behaviour);
    let load = Load { rate: 200.0, messages: 20, ..load(&collector) };
    let outcome = load.start().unwrap().wait();
    assert!(outcome.early >= 10 && outcome.answered <= 1, "{outcome:?}");
}

#[test]
fn every_second_call_is_answered_unavailable() {
    let (outcome, counts) = run(Behaviour { status: 14, status_every: 2, ..Default::default() });
    assert_eq!((outcome.answered, outcome.errors["UNAVAILABLE"]), (5, 5));
    assert_eq!((counts.answers["OK"], counts.answers["UNAVAILABLE"]), (5, 5));
}

#[test]
fn refused_streams_are_refused_in_the_words_that_allow_a_retry() {
    let collector = collector(Behaviour { refuse: true, ..Default::default() });
    block_on(async {
        let client = client(collector.address()).await;
        assert_eq!(call(&client, TRACES, &[]).await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
    });
}

#[test]
fn a_hanging_collector_reads_all_and_answers_when_it_stops_hanging() {
    let collector = collector(Behaviour { hang: true, ..Default::default() });
    let running = load(&collector).start().unwrap();
    eventually(|| collector.counts().messages == 10);
    std::thread::sleep(SECOND / 20);
    assert_eq!((collector.counts().messages, running.is_finished()), (10, false));
    collector.set_behaviour(Behaviour::default());
    assert_eq!(running.wait().answered, 10);
}

#[test]
fn a_stalled_collector_stops_its_sender_by_flow_control_and_goes_on_later() {
    let collector = collector(Behaviour { stall: true, ..Default::default() });
    let load = Load { messages_per_stream: 0, messages: 20_000, bytes: 60, ..load(&collector) };
    let running = load.start().unwrap();
    eventually(|| running.sent() > 10_000);
    std::thread::sleep(SECOND / 20);
    assert_eq!(collector.counts().messages, 0);
    assert!(running.sent() < 20_000, "more than 1 MiB of window and some buffer");
    collector.set_behaviour(Behaviour::default());
    assert_eq!((running.wait().answered, collector.counts().messages), (1, 20_000));
}

#[test]
fn a_message_delay_slows_reading_down() {
    let (outcome, _) = run(Behaviour { message_delay: Duration::from_millis(2), ..Default::default() });
    assert!(outcome.elapsed_s >= 0.2, "{}", outcome.elapsed_s);
}

#[test]
fn an_answer_delay_is_seen_as_reply_latency() {
    let (outcome, _) = run(Behaviour { answer_delay: Duration::from_millis(20), ..Default::default() });
    assert!(outcome.reply_us.p50 >= 20_000, "{:?}", outcome.reply_us);
}

#[test]
fn the_stream_limit_changes_on_an_open_connection() {
    let limited = |streams_max| Behaviour { streams_max, ..Default::default() };
    let collector = collector(limited(Some(2)));
    block_on(async {
        let client = client(collector.address()).await;
        let reaches = async |limit: usize| {
            for _ in 0..100 {
                if client.current_max_send_streams() == limit {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("{} instead of {limit}", client.current_max_send_streams());
        };
        reaches(2).await;
        for limit in [100, 0, 1] {
            collector.set_behaviour(limited(Some(limit)));
            reaches(limit as usize).await;
        }
        assert_eq!(reply(call(&client, TRACES, &[]).await.unwrap()).await.1, Status::ok());
        collector.set_behaviour(limited(None));
        reaches(u32::MAX as usize).await;
        assert_eq!(reply(call(&client, TRACES, &[]).await.unwrap()).await.1, Status::ok());
    });
}

#[test]
fn a_goaway_makes_agents_move_without_losing_anything() {
    let collector = collector(Behaviour { goaway_every: Some(SECOND / 20), ..Default::default() });
    let load = Load { rate: 1_000.0, messages: 300, ..load(&collector) };
    let outcome = load.start().unwrap().wait();
    assert!(outcome.connects >= 4, "{outcome:?}");
    assert_eq!((outcome.answered, outcome.errors.len()), (30, 0), "{outcome:?}");
}

#[test]
fn death_comes_after_exactly_so_many_messages_and_can_be_undone() {
    let mut collector = collector(Behaviour { die_after_messages: Some(25), ..Default::default() });
    let load = Load { rate: 500.0, ..load(&collector) };
    let running = load.start().unwrap();
    eventually(|| !collector.is_running());
    assert_eq!(collector.counts().messages, 25);
    collector.set_behaviour(Behaviour::default());
    collector.restart().unwrap();
    let outcome = running.wait();
    assert_eq!((outcome.sent, outcome.errors.len()), (100, 1), "{outcome:?}");
}

#[test]
fn death_comes_at_its_time() {
    let collector = collector(Behaviour { die_after: Some(SECOND / 20), ..Default::default() });
    assert!(collector.is_running());
    eventually(|| !collector.is_running());
}
