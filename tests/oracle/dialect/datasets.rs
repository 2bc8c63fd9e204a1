//! Messages that mean something only together: meters, Go profiles, uploads.

use super::{Saying, length};
use crate::draw::{Draw, Mark};
use crate::traffic::{Cast, Said, Source};
use crate::wire::Draft;

const NOW_MS: u64 = 1_700_000_000_000;

/// A status of an upload, the same numbers in both kinds.
const SUCCESS: u64 = 0;
const TASK_ERROR: u64 = 1;
/// More than OAP takes.
const OVERSIZE_BYTES: u64 = 31_457_281;
/// A framed reply without a field, and with one.
const GO_ON_BYTES: usize = 5;
const REFUSAL_BYTES: usize = 7;

// --- meters ---

pub fn meter_stream(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    let mut saying = Saying::begin(cast, draw);
    let count = length(cast, draw);
    let meters = (0..count).map(|_| {
        if draw.chance(3) {
            return Said::default();
        }
        let (source, says) = saying.next(cast, draw);
        Said::of(meter(&source, says, draw))
    });
    meters.collect()
}

pub fn meter_batches(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    (0..length(cast, draw)).map(|_| Said::of(meter_batch(cast, draw))).collect()
}

fn meter_batch(cast: &Cast, draw: &mut Draw) -> Vec<u8> {
    let mut saying = Saying::begin(cast, draw);
    let mut batch = Draft::default();
    for _ in 0..draw.between(usize::from(draw.steady), 8) {
        let (source, says) = saying.next(cast, draw);
        batch.bytes(1, &meter(&source, says, draw));
    }
    batch.encode_freely(draw)
}

fn meter(source: &Source, says: bool, draw: &mut Draw) -> Vec<u8> {
    let mut meter = Draft::default();
    let id = draw.tag(&source.service);
    // Neither value nor histogram: nothing of it is looked at.
    let kind = if !draw.steady && draw.chance(6) { 0 } else { draw.between(1, 2) as u32 };
    if kind > 0 {
        let padding = draw.padding();
        meter.part(kind, |value| {
            value.text(1, "requests").texts(&[(&[2, 1], "id"), (&[2, 2], &id)]).fixed64(3, draw.number(1 << 60));
            value.text(9, &padding);
        });
    }
    let named = |draw: &mut Draw| says && (draw.steady || draw.chance(92));
    if named(draw) {
        if !draw.steady && draw.chance(5) {
            draw.mark(Mark::SaidTwice);
            meter.text(3, "said before the last time");
        }
        meter.text(3, &source.service);
    }
    if named(draw) {
        meter.text(4, &source.instance);
    }
    if named(draw) {
        meter.varint(5, NOW_MS + draw.number(1 << 20));
    } else if draw.chance(5) {
        meter.varint(5, 0);
    }
    meter.encode_freely(draw)
}

// --- Go profiles ---

pub fn go_profiles(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    // A task belongs to a service: all instances upload under its name.
    let tasks: Vec<String> = cast.sources.iter().map(|source| format!("task of {}", source.service)).collect();
    let mut chunks = Vec::new();
    for _ in 0..length(cast, draw).div_ceil(4) {
        let task = draw.one_of(&tasks);
        let count = draw.between(1, 5);
        let is_whole = draw.steady || draw.chance(80);
        for chunk in 1..=count {
            if !draw.steady && draw.chance(5) {
                chunks.push(Said::default());
            }
            chunks.push(Said::of(go_chunk(&task, is_whole && chunk == count, draw)));
        }
    }
    if !is_one_kind(&tasks) && chunks.len() > 1 {
        draw.mark(Mark::ChangedContext);
    }
    chunks
}

fn is_one_kind(tasks: &[String]) -> bool {
    tasks.windows(2).all(|pair| pair[0] == pair[1])
}

fn go_chunk(task: &str, is_last: bool, draw: &mut Draw) -> Vec<u8> {
    let mut chunk = Draft::default();
    chunk.text(1, task).text(2, &format!("{} {}", draw.tag("chunk"), draw.padding()));
    if is_last {
        chunk.varint(3, 1);
    } else if draw.chance(20) {
        chunk.varint(3, 0);
    }
    chunk.encode_freely(draw)
}

// --- uploads ---

pub fn upload(cast: &Cast, is_pprof: bool, draw: &mut Draw) -> Vec<Said> {
    let source = cast.somebody(draw);
    match draw.number(10) {
        _ if draw.steady => file(&source, draw),
        0 => Vec::new(),
        1 => {
            let hears = if is_pprof { REFUSAL_BYTES } else { 0 };
            vec![metadata(&source, TASK_ERROR, 0, hears, draw)]
        }
        2 => vec![metadata(&source, SUCCESS, OVERSIZE_BYTES, REFUSAL_BYTES, draw)],
        3 => vec![Said::default(), error_message()],
        4 if is_pprof => {
            // pprof's receiver passes over what came too early.
            draw.mark(Mark::LateContext);
            let early = Draft::default().text(3, "too early").encode();
            [vec![Said::of(early)], file(&source, draw)].concat()
        }
        _ => file(&source, draw),
    }
}

fn file(source: &Source, draw: &mut Draw) -> Vec<Said> {
    let chunks: Vec<String> =
        (0..draw.between(0, 6)).map(|_| format!("{} {}", draw.tag("jfr"), draw.padding())).collect();
    let bytes: usize = chunks.iter().map(String::len).sum();
    let announced = bytes + if draw.chance(20) { draw.between(1, 100) } else { 0 };
    let mut said = vec![metadata(source, SUCCESS, announced as u64, GO_ON_BYTES, draw)];
    for chunk in &chunks {
        if !draw.steady && draw.chance(5) {
            // Only the first metadata counts.
            said.push(Said { hears: 0, ..metadata(source, SUCCESS, 1, 0, draw) });
        }
        let mut content = Draft::default();
        content.text(3, chunk);
        said.push(Said::of(content.encode_freely(draw)));
    }
    said
}

fn metadata(source: &Source, kind: u64, content_bytes: u64, hears: usize, draw: &mut Draw) -> Said {
    let task = format!("task of {}", source.service);
    let mut message = Draft::default();
    message.part(1, |metadata| {
        metadata.text(1, &source.service).text(2, &source.instance).text(3, &task);
        metadata.varint(4, kind).varint(5, content_bytes);
    });
    Said { hears, ..Said::of(message.encode_freely(draw)) }
}

fn error_message() -> Said {
    Said::of(Draft::default().text(2, "the profiler is not there").encode())
}
