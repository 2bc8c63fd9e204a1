//! Peers that speak and do not read: what waits for them is bounded, and answers that fit no window still end.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use switchyard::wire::http2::frame::{PREFACE, kind};
use switchyard::wire::http2::link::Link;
use tokio::io::AsyncWriteExt;

use crate::ground::{END, Ours, acknowledgement, ended_call, of_kind, ping, settings};

/// CVE-2019-9512 and -9515, by a peer with patience: slow enough for its credit to come back, it lets answers pile up.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_no_answers_is_not_read_from_any_more() {
    let server = Ours::fresh_server();
    // As good as nothing fits the line, neither way.
    let (mut near, far) = tokio::io::duplex(64);
    let mut link = Link::new(server.0.clone(), far);
    let flood = async move {
        near.write_all(&[PREFACE, &settings(&[])[..], &acknowledgement()].concat()).await.unwrap();
        for said in 0..20_000 {
            if tokio::time::timeout(Duration::from_secs(60), near.write_all(&ping(&[0; 8]))).await.is_err() {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it reads for ever");
    };
    tokio::pin!(flood);
    let said = poll_fn(|cx| {
        link.poll_read(cx);
        match link.poll_write(cx) {
            Poll::Ready(()) => panic!("it ends: {:?}", server.0.borrow().over()),
            Poll::Pending => flood.as_mut().poll(cx),
        }
    })
    .await;
    // What it takes before it stops, and what fits the line.
    assert!((4_000..4_020).contains(&said), "{said} pings were taken");
    assert!(server.0.borrow_mut().output().len() < 100 << 10);
}

/// The window of a caller may be closed for ever: the answer of a call that is sorted is headers, which need none.
#[test]
fn an_answer_that_is_a_head_alone_needs_no_window() {
    let server = Ours::server();
    server.hear(&[settings(&[(4, 0)]), ended_call(1), ended_call(3)].concat());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    server.accept().unwrap().respond(&Response::new(()).into_parts().0, true).unwrap();
    let second = server.accept().unwrap();
    second.respond(&Response::new(()).into_parts().0, false).unwrap();
    second.send_trailers(trailers).unwrap();
    drop(second);
    let said = server.said();
    let ended = of_kind(&said, kind::HEADERS).iter().filter(|(head, _)| head.has(END)).count();
    assert_eq!((ended, of_kind(&said, kind::RST_STREAM)), (2, vec![]));
}
