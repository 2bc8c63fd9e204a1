//! What must hold when any bytes are cut as a batch: nothing lost, nothing twice, nothing out of its context or order.

use std::collections::HashMap;

use switchyard::message::field::{self, Malformed, Value, fields};
use switchyard::message::run::PREFIX_BYTES;
use switchyard::route::records::{CutError, Limits, Plan, RecordKey, Records, Shape, Signal};

/// An item with what its wrappers say; the last is empty for a wrapper without items.
type Found = [Vec<u8>; 4];

/// Input: signal and key, buckets, limit of a piece in units of four bytes (0: none), the request.
pub fn records(input: &[u8]) {
    let [kind, buckets, limit, request @ ..] = input else { return };
    let (signal, trace_field) = match kind % 3 {
        0 => (Signal::Traces, 1),
        1 => (Signal::Metrics, 0),
        _ => (Signal::Logs, 9),
    };
    let key = [None, Some(RecordKey::TraceId), Some(RecordKey::Service), Some(RecordKey::Resource)]
        [usize::from(kind / 3 % 4)];
    let records = Records { key, ..Records::of(signal) };
    let buckets = u64::from(*buckets % 8) + 1;
    let piece_bytes_max = Some(usize::from(*limit) * 4).filter(|limit| *limit > 0);
    let limits = Limits { piece_bytes_max, total_bytes_max: 1 << 20 };
    let mut buckets_of = HashMap::new();
    let owner = |key: u64| *buckets_of.entry(key).or_insert((key % buckets) as usize);
    let plan = match Plan::draw(request, signal, limits, |resource| records.place(resource), owner) {
        Ok(plan) => plan,
        Err(CutError::Malformed(Malformed { at })) => return assert!(at < request.len()),
        Err(CutError::Oversize(_)) => return,
    };
    let pieces = plan.cut();
    let mut left = found(signal, request);
    let mut traces = HashMap::new();
    // By bucket, where in the request its last item stood.
    let mut reached: HashMap<usize, usize> = HashMap::new();
    let all = left.clone();
    for piece in &pieces {
        let body = &piece.framed[PREFIX_BYTES..];
        let here = found(signal, body);
        assert!(here.len() == 1 || piece_bytes_max.is_none_or(|max| body.len() <= max), "{} bytes", body.len());
        let from = reached.entry(piece.bucket).or_default();
        for item in here {
            let place = all[*from..].iter().position(|other| *other == item).expect("in order and in its context");
            *from += place + 1;
            let at = left.iter().position(|other| *other == item).expect("once");
            left.remove(at);
            let trace = field::first_bytes(&item[3], trace_field).ok().flatten().filter(|trace| !trace.is_empty());
            if let Some(trace) = trace.filter(|_| key == Some(RecordKey::TraceId) && is_scoped(&item)) {
                assert_eq!(
                    *traces.entry(trace.to_vec()).or_insert(piece.bucket),
                    piece.bucket,
                    "one trace, one bucket"
                );
            }
        }
    }
    assert!(left.is_empty(), "left out");
    assert_eq!(plan.shape() == Shape::Pieces, pieces.len() > 1);
    assert!(pieces.iter().map(|piece| piece.framed.len() - PREFIX_BYTES).sum::<usize>() <= plan.bytes());
}

/// Every item, and every wrapper that wraps none; elements that are not cut or do not parse stand for themselves.
fn found(signal: Signal, request: &[u8]) -> Vec<Found> {
    let (says, elements) = opened(request, 1).expect("read already");
    let mut all = Vec::new();
    for element in elements {
        match parts(&element).filter(|parts| signal != Signal::Metrics && !parts.is_empty()) {
            Some(parts) => {
                all.extend(parts.into_iter().map(|[resource, scope, item]| [says.clone(), resource, scope, item]))
            }
            None => all.push([says.clone(), Vec::new(), Vec::new(), element]),
        }
    }
    all
}

/// Stands before what a scope says, which may be nothing, so that an item differs from an element that stands for itself.
const SCOPED: u8 = 0xff;

fn is_scoped(item: &Found) -> bool {
    item[2].first() == Some(&SCOPED)
}

fn parts(element: &[u8]) -> Option<Vec<[Vec<u8>; 3]>> {
    let (resource, scopes) = opened(element, 2)?;
    let mut all = Vec::new();
    for scope in scopes {
        let (said, items) = opened(&scope, 2)?;
        let says = [&[SCOPED][..], &said].concat();
        if items.is_empty() {
            all.push([resource.clone(), says.clone(), Vec::new()]);
        }
        all.extend(items.into_iter().map(|item| [resource.clone(), says.clone(), item]));
    }
    Some(all)
}

/// What a message says beside field `child`, and the values of that.
fn opened(message: &[u8], child: u32) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let (mut says, mut children) = (Vec::new(), Vec::new());
    for field in fields(message) {
        let field = field.ok()?;
        match field.value {
            Value::Bytes(bytes) if field.number == child => children.push(bytes.to_vec()),
            _ => says.extend_from_slice(&message[field.range]),
        }
    }
    Some((says, children))
}
