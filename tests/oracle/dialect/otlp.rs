//! OTLP requests of many resources, with all that a gateway which cuts them might lose.

use switchyard::testkit::receivers::Signal;

use crate::draw::{Draw, Mark};
use crate::found::Found;
use crate::traffic::{Cast, Said, Source};
use crate::wire::Draft;

pub fn request(cast: &Cast, signal: Signal, draw: &mut Draw) -> Said {
    if draw.chance(6) {
        return Said::default();
    }
    // Traces go through several services.
    let traces: Vec<[u8; 16]> = (0..3).map(|_| u128::from(draw.number(u64::MAX)).to_be_bytes()).collect();
    let mut request = Draft::default();
    for _ in 0..draw.between(1, 4) {
        let source = cast.somebody(draw);
        request.bytes(1, &resource(&source, signal, &traces, draw));
    }
    if draw.chance(25) {
        // Beside the resources, where OTLP's profiles have their dictionary.
        request.unknown(draw);
    }
    Said::of(request.encode_freely(draw))
}

/// A resource with its scopes.
fn resource(source: &Source, signal: Signal, traces: &[[u8; 16]], draw: &mut Draw) -> Vec<u8> {
    let mut wrapper = Draft::default();
    if !draw.chance(3) || draw.steady {
        let (one, other) = attributes(source, draw);
        if draw.chance(4) && (!draw.steady || draw.may(Found::HalvedResource)) {
            // Both halves together are the resource.
            draw.mark(Mark::SaidTwice);
            wrapper.bytes(1, &one.encode()).bytes(1, &other.encode());
        } else {
            wrapper.bytes(1, &[one.encode(), other.encode()].concat());
        }
    }
    for _ in 0..draw.between(0, 3) {
        wrapper.bytes(2, &scope(source, signal, traces, draw));
    }
    if draw.chance(60) {
        wrapper.text(3, &format!("https://schemas/{}", draw.number(3)));
    }
    if draw.chance(5) {
        // Where scopes stood before OTLP 1.0.
        wrapper.text(1_000, "old scope");
    }
    wrapper.encode_freely(draw)
}

/// Who produced the data, in two halves.
fn attributes(source: &Source, draw: &mut Draw) -> (Draft, Draft) {
    let (mut one, mut other) = (Draft::default(), Draft::default());
    let attribute = |resource: &mut Draft, key: &str, value: &str| {
        resource.part(1, |attribute| {
            attribute.text(1, key).texts(&[(&[2, 1], value)]);
        });
    };
    if draw.steady || draw.chance(94) {
        attribute(&mut one, "service.name", &source.service);
    } else {
        draw.mark(Mark::LateContext);
    }
    attribute(&mut one, "service.instance.id", &source.instance);
    attribute(&mut other, "host.name", &format!("host of {}", source.instance));
    if !draw.steady && draw.chance(10) {
        attribute(&mut other, "host.name", "the same key again");
    }
    if draw.chance(20) {
        // entity_refs, which OAP's schema does not have yet.
        other.text(3, "entity");
    }
    other.varint(2, draw.number(5));
    (one, other)
}

fn scope(source: &Source, signal: Signal, traces: &[[u8; 16]], draw: &mut Draw) -> Vec<u8> {
    let mut scoped = Draft::default();
    if draw.chance(80) {
        scoped.part(1, |scope| {
            scope.text(1, draw.one_of(&["http", "grpc", "db"])).text(2, "1.0");
        });
    }
    for _ in 0..draw.between(0, 6) {
        let trace = draw.one_of(traces);
        let item = match signal {
            Signal::Traces => span(source, &trace, draw),
            Signal::Metrics => metric(source, draw),
            Signal::Logs => record(source, &trace, draw),
        };
        scoped.bytes(2, &item);
    }
    if draw.chance(50) {
        scoped.text(3, &format!("https://schemas/scope/{}", draw.number(3)));
    }
    scoped.encode_freely(draw)
}

fn span(source: &Source, trace: &[u8; 16], draw: &mut Draw) -> Vec<u8> {
    let mut span = Draft::default();
    span.bytes(1, trace).bytes(2, &draw.number(u64::MAX).to_be_bytes()).text(5, &draw.tag(&source.service));
    span.fixed64(7, draw.number(1 << 60)).fixed64(8, draw.number(1 << 60));
    span.part(9, |attribute| {
        attribute.text(1, "note").texts(&[(&[2, 1], &draw.padding())]);
    });
    span.encode_freely(draw)
}

fn metric(source: &Source, draw: &mut Draw) -> Vec<u8> {
    let mut metric = Draft::default();
    let data = draw.one_of(&[5, 7, 9, 10, 11]);
    let padding = draw.padding();
    metric.text(1, &draw.tag(&source.service)).part(data, |points| {
        points.part(1, |point| {
            point.fixed64(4, draw.number(1 << 50)).text(15, &padding);
        });
    });
    metric.encode_freely(draw)
}

fn record(source: &Source, trace: &[u8; 16], draw: &mut Draw) -> Vec<u8> {
    let mut record = Draft::default();
    record.fixed64(1, draw.number(1 << 60)).texts(&[(&[5, 1], &draw.tag(&source.service))]);
    record.texts(&[(&[6, 2, 1], &draw.padding())]);
    if draw.chance(70) {
        record.bytes(9, trace).bytes(10, &draw.number(u64::MAX).to_be_bytes());
    }
    record.encode_freely(draw)
}
