//! Messages that need nothing from their neighbours.

use switchyard::testkit::methods::Path;

use super::length;
use crate::draw::{Draw, Mark};
use crate::traffic::{Cast, Said};
use crate::wire::Draft;

/// Padding where no field of a schema takes it.
const PADDING: u32 = 4_094;

pub fn each(cast: &Cast, service: Path, instance: Path, draw: &mut Draw) -> Vec<Said> {
    (0..length(cast, draw)).map(|_| one(cast, service, instance, draw)).collect()
}

fn one(cast: &Cast, service: Path, instance: Path, draw: &mut Draw) -> Said {
    if draw.chance(4) {
        return Said::default();
    }
    let mut draft = named(cast, service, instance, draw);
    // Whatever a list in there means, its receiver sees all of it.
    if service.first() != Some(&1) && cast.method.id.first() != Some(&1) && draw.chance(40) {
        for _ in 0..draw.between(1, 5) {
            draft.part(1, |part| {
                part.varint(1, draw.number(1 << 40));
            });
        }
    }
    Said::of(draft.encode_freely(draw))
}

/// A message that says where it comes from, its id and some padding.
fn named(cast: &Cast, service: Path, instance: Path, draw: &mut Draw) -> Draft {
    let source = cast.somebody(draw);
    let mut draft = Draft::default();
    if !draw.steady && draw.chance(5) && service.len() == 1 {
        draw.mark(Mark::SaidTwice);
        draft.text(service[0], "said before the last time");
    }
    let (names, id) = (draw.chance(92) || draw.steady, draw.tag(&source.service));
    let names = if names { (&source.service[..], &source.instance[..]) } else { ("", "") };
    let texts = [(service, names.0), (instance, names.1), (cast.method.id, &id)];
    let texts: Vec<(&[u32], &str)> = texts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
    draft.texts(&texts);
    let padding = draw.padding();
    if !padding.is_empty() {
        draft.text(PADDING, &padding);
    }
    draft
}

pub fn events(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    (0..length(cast, draw)).map(|_| event(cast, draw)).collect()
}

fn event(cast: &Cast, draw: &mut Draw) -> Said {
    let mut draft = named(cast, &[2, 1], &[2, 2], draw);
    draft.text(3, "Shutdown").varint(7, 1_700_000_000_000 + draw.number(1 << 20));
    let mut good = draft.clone();
    good.text(9, draw.one_of(&["GENERAL", "K8S", "a layer of tomorrow"]));
    if cast.poisonous && draw.chance(15) {
        return Said { mended: Some(good.encode()), ..Said::of(draft.encode_freely(draw)) };
    }
    Said::of(good.encode_freely(draw))
}

pub fn segments(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    let mut collection = Draft::default();
    for _ in 0..draw.between(0, 6) {
        let source = cast.somebody(draw);
        let mut segment = Draft::default();
        let id = draw.tag(&source.service);
        segment.text(1, &draw.tag("trace")).text(2, &id).text(4, &source.service).text(5, &source.instance);
        segment.part(3, |span| {
            span.text(6, &draw.padding());
        });
        let segment = segment.encode_freely(draw);
        collection.bytes(1, &segment);
    }
    // A collection may be sent on segment by segment, and then nothing beside its segments has a place.
    vec![Said::of(collection.encode())]
}

pub fn mesh(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    let count = length(cast, draw);
    let mut messages = Vec::new();
    for _ in 0..count {
        let mut draft = Draft::default();
        let kind = if draw.chance(70) { 1 } else { 2 };
        let mut metrics = Draft::default();
        for _ in 0..draw.between(0, 4) {
            let (from, to) = (cast.somebody(draw), cast.somebody(draw));
            let mut metric = Draft::default();
            metric.text(3, &from.service).text(5, &to.service).varint(7, draw.number(1 << 30));
            let metric = metric.encode_freely(draw);
            metrics.bytes(1, &metric);
        }
        draft.bytes(kind, &metrics.encode());
        let padding = draw.padding();
        draft.text(PADDING, &padding);
        messages.push(Said::of(if draw.chance(5) { Vec::new() } else { draft.encode_freely(draw) }));
    }
    messages
}
