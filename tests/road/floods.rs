//! Floods over real sockets: each ends its own connection, told why, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use switchyard::testkit::agents::{Load, Traffic};

use crate::ground::Road;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;
/// Rounds of a flood: more than any is let say.
const ROUNDS: u32 = 20_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a call to the segments' method.
fn call(stream: u32) -> Vec<u8> {
    let path = Traffic::Trace.path().as_bytes();
    let content_type = b"application/grpc";
    let literal = |name: &[u8], value: &[u8]| [name, &[value.len() as u8], value].concat();
    let block = [&[0x83, 0x86][..], &literal(&[0x04], path), &literal(&[0x0f, 0x10], content_type)].concat();
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// Says a flood until the other side hangs up; answers the reason of its GOAWAY, unless the kernel threw that away
/// because we went on.
fn flood(name: &str, to: SocketAddr, opening: &[u8], round: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reading = stream.try_clone().unwrap();
    // Reads along, so that nothing waits for us.
    let told = std::thread::spawn(move || {
        let (mut told, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match reading.read(&mut piece) {
                Ok(0) => return (told, true),
                Ok(read) => told.extend_from_slice(&piece[..read]),
                Err(error) => return (told, error.kind() == ErrorKind::ConnectionReset),
            }
        }
    });
    let _ = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), opening].concat());
    for at in 0..ROUNDS {
        if stream.write_all(&round(at)).is_err() {
            break;
        }
    }
    let (told, hung_up) = told.join().unwrap();
    assert!(hung_up, "{name}: it is let go on");
    let mut rest = &told[..];
    while let Some((head, behind)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, next)) = behind.split_at_checked(length) else { break };
        if head[3] == GOAWAY {
            return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = next;
    }
    None
}

#[test]
fn a_flood_ends_its_own_connection_and_agents_on_others_notice_nothing() {
    let road = Road::to_collectors(1);
    let load = Load { rate: 100.0, messages: 400, ..road.load() };
    let running = load.start().unwrap();
    let to = road.agents();
    let id = |at: u32| 2 * at + 1;
    let reasons = [
        flood("pings", to, &[], |_| frame(PING, 0, 0, &[0; 8])),
        flood("settings", to, &[], |_| frame(SETTINGS, 0, 0, &[])),
        flood("data without data", to, &call(1), |_| frame(DATA, 0, 1, &[])),
        flood("calls that are reset at once", to, &[], |at| {
            [call(id(at)), frame(RST_STREAM, 0, id(at), &8u32.to_be_bytes())].concat()
        }),
        flood("calls that are malformed", to, &[], |at| frame(HEADERS, END_HEADERS, id(at), &[0x83, 0x86])),
        flood("a block without end", to, &frame(HEADERS, 0, 1, &[0x83]), |_| frame(CONTINUATION, 0, 1, &[0; 9])),
    ];
    assert!(reasons.iter().flatten().all(|reason| *reason == ENHANCE_YOUR_CALM), "{reasons:?}");
    let outcome = running.wait();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "{outcome:?}");
    road.wait_until_delivered(Duration::from_secs(5));
    road.end();
}
