//! Messages that rely on what an earlier one of their stream has said: logs, Envoy, eBPF.

use super::{Saying, length};
use crate::draw::{Draw, Mark};
use crate::traffic::{Cast, Said, Source};
use crate::wire::Draft;

const NOW_MS: u64 = 1_700_000_000_000;

pub fn logs(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    let mut saying = Saying::begin(cast, draw);
    (0..length(cast, draw)).map(|_| log(&saying.next(cast, draw), draw)).collect()
}

fn log((source, says): &(Source, bool), draw: &mut Draw) -> Said {
    if draw.chance(3) {
        return Said::default();
    }
    let mut log = Draft::default();
    if draw.chance(5) && !draw.steady {
        draw.mark(Mark::SaidTwice);
        log.text(2, "said before the last time");
    }
    if *says {
        log.text(2, &source.service);
    } else if draw.chance(15) {
        log.text(2, "");
    }
    if draw.chance(80) {
        log.text(3, &source.instance);
    }
    log.varint(1, NOW_MS + draw.number(1 << 20)).text(4, &draw.tag(&source.service)).text(8, "GENERAL");
    log.texts(&[(&[5, 2, 1], &draw.padding()), (&[6, 1], &draw.tag("trace")), (&[6, 2], &draw.tag("segment"))]);
    Said::of(log.encode_freely(draw))
}

// --- Envoy ---

/// What one Envoy says of itself, always in the same bytes.
fn node(source: &Source) -> Vec<u8> {
    let mut metadata = Draft::default();
    let text = |text: &str| Draft::default().text(3, text).encode();
    let mut entry = |key: &str, value: Vec<u8>| {
        metadata.part(1, |entry| {
            entry.text(1, key).bytes(2, &value);
        });
    };
    // One of four names nobody: its metrics are dropped.
    if source.number != 3 {
        entry("NAME", text(&source.instance));
    }
    let mut labels = Draft::default();
    labels.part(5, |labels| {
        labels.part(1, |entry| {
            entry.text(1, "app").texts(&[(&[2, 3], &source.service)]);
        });
    });
    match source.number {
        0 => entry("SERVICE", text(&source.service)),
        _ => entry("LABELS", labels.encode()),
    }
    if source.is_long {
        entry("PROXY_CONFIG", text(&"long ".repeat(12 << 10)));
    }
    let mut node = Draft::default();
    node.text(1, &format!("sidecar~{}", source.instance)).text(2, &source.service).bytes(3, &metadata.encode());
    node.encode()
}

/// Says who sends, if it is to be said.
fn identify(message: &mut Draft, (source, says): &(Source, bool), draw: &mut Draw) {
    if !says {
        return;
    }
    if !draw.steady && draw.chance(4) {
        message.bytes(1, b"");
        return;
    }
    let mut identifier = Draft::default();
    identifier.bytes(1, &node(source));
    if draw.steady || draw.chance(80) {
        identifier.text(2, "mesh");
    }
    if !draw.steady && draw.chance(4) {
        // Both halves together are the identifier.
        draw.mark(Mark::SaidTwice);
        message.bytes(1, &std::mem::take(&mut identifier).encode());
        identifier.text(2, "mesh");
    }
    message.bytes(1, &identifier.encode());
}

pub fn access_logs(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    let mut saying = Saying::begin(cast, draw);
    (0..length(cast, draw)).map(|_| access_log(&saying.next(cast, draw), draw)).collect()
}

fn access_log(sender: &(Source, bool), draw: &mut Draw) -> Said {
    if draw.chance(3) {
        return Said::default();
    }
    let mut message = Draft::default();
    identify(&mut message, sender, draw);
    let cases: &[u32] = match draw.number(20) {
        0 => &[],
        // The last case of a oneof is the one that counts.
        1 => &[3, 2],
        2..6 => &[3],
        _ => &[2],
    };
    for case in cases {
        let mut entries = Draft::default();
        for _ in 0..draw.between(0, 5) {
            let mut entry = Draft::default();
            let (request, path, agent) = (draw.tag(&sender.0.service), draw.padding(), draw.tag("agent"));
            entry.texts(&[(&[3, 5], &path), (&[3, 6], &agent), (&[3, 9], &request)]);
            let entry = entry.encode_freely(draw);
            entries.bytes(1, &entry);
        }
        message.bytes(*case, &entries.encode());
    }
    Said::of(message.encode_freely(draw))
}

pub fn envoy_metrics(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    let mut saying = Saying::begin(cast, draw);
    (0..length(cast, draw)).map(|_| families(&saying.next(cast, draw), draw)).collect()
}

fn families(sender: &(Source, bool), draw: &mut Draw) -> Said {
    if draw.chance(3) {
        return Said::default();
    }
    let mut message = Draft::default();
    identify(&mut message, sender, draw);
    for _ in 0..draw.between(0, 5) {
        let help = draw.tag(&sender.0.service);
        message.part(2, |family| {
            family.text(1, "cluster.upstream_rq_total").text(2, &help).part(4, |metric| {
                metric.fixed64(7, draw.number(1 << 50));
            });
        });
    }
    message.text(2_899, &draw.padding());
    Said::of(message.encode_freely(draw))
}

// --- eBPF ---

pub fn ebpf_profiling(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    let mut saying = Saying::begin(cast, draw);
    (0..length(cast, draw)).map(|_| profiling(cast, &saying.next(cast, draw), draw)).collect()
}

fn profiling(cast: &Cast, (source, says): &(Source, bool), draw: &mut Draw) -> Said {
    let mut message = Draft::default();
    if *says && !draw.steady && draw.chance(6) {
        message.bytes(1, b"");
    } else if *says {
        let (since, now) = (NOW_MS + source.number, NOW_MS + draw.number(1 << 30));
        let mut task = Draft::default();
        task.text(1, &format!("task of {}", source.service)).text(2, &source.instance);
        if draw.chance(4) && !draw.steady {
            // Both halves together are the task.
            draw.mark(Mark::SaidTwice);
            message.bytes(1, &std::mem::take(&mut task).encode());
        }
        task.varint(3, since).varint(4, now);
        message.bytes(1, &task.encode());
    }
    let (stack, padding, count) = (draw.tag("stack"), draw.padding(), draw.number(100));
    let kind = if draw.chance(60) { 2 } else { 3 };
    let mut good = message.clone();
    good.part(kind, |profile| {
        profile.text(1, &stack).varint(2, count).text(9, &padding);
    });
    if cast.poisonous && draw.chance(15) {
        return Said { mended: Some(good.encode()), ..Said::of(message.encode_freely(draw)) };
    }
    Said::of(good.encode_freely(draw))
}

pub fn ebpf_access_logs(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    let mut saying = Saying::begin(cast, draw);
    (0..length(cast, draw)).map(|_| kernel_logs(cast, &saying.next(cast, draw), draw)).collect()
}

fn kernel_logs(cast: &Cast, (source, says): &(Source, bool), draw: &mut Draw) -> Said {
    if !draw.steady && draw.chance(3) {
        return Said::default();
    }
    let mut message = Draft::default();
    // A node says both; later it says each new connection, and rarely itself again.
    let (says_node, says_connection) = match says {
        true if draw.steady => (true, true),
        true => (draw.chance(90), draw.chance(70)),
        false => (!draw.steady && draw.chance(10), draw.chance(25)),
    };
    if says_node {
        let mut node = Draft::default();
        node.text(1, &source.instance).text(4, &source.service);
        node.part(2, |nic| {
            nic.varint(1, 2).text(2, "eth0");
        });
        node.part(3, |boot| {
            boot.varint(1, 1_600_000_000 + source.number);
        });
        if !says {
            // It says itself again because something about it has changed.
            let namespace = draw.tag("namespace");
            node.texts(&[(&[5, 1], &namespace)]);
        }
        message.bytes(1, &node.encode());
    }
    if says_connection {
        message.bytes(2, &connection(cast, source, draw));
    }
    for _ in 0..draw.between(0, 3) {
        message.text(3, &draw.tag("kernel"));
    }
    if draw.chance(50) {
        message.texts(&[(&[4, 1], &draw.tag("protocol")), (&[4, 2], &draw.padding())]);
    }
    Said::of(message.encode_freely(draw))
}

/// One of the connections of a node's processes; rarely one between nobody and nobody.
fn connection(cast: &Cast, source: &Source, draw: &mut Draw) -> Vec<u8> {
    let mut connection = Draft::default();
    if !draw.steady && draw.chance(8) {
        return connection.varint(3, 1).encode();
    }
    let to = cast.somebody(draw);
    connection.texts(&[(&[1, 1, 1], &source.service), (&[1, 1, 2], &source.instance)]);
    match draw.chance(50) {
        true => connection.texts(&[(&[2, 1, 1], &to.service), (&[2, 1, 2], &to.instance)]),
        false => connection.texts(&[(&[2, 2, 1], "10.1.2.3")]),
    };
    connection.varint(3, draw.number(3)).encode()
}
