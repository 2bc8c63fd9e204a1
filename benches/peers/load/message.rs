//! The messages a load sends: made once as frames, after that only copied and patched.

use crate::h2::stamp::{self, SPAN_ID_BYTES, Stamp, TEXT_BYTES, TRACE_ID_BYTES};
use crate::h2::{DATA, HEAD_BYTES, put_head};
use crate::spec::Traffic;

/// Bytes before a message (the gRPC specification's Length-Prefixed-Message).
pub const PREFIX_BYTES: usize = 5;
const HEX_BYTES: usize = 8;
/// Streams begin their round of the keys as far from each other as the golden ratio lets them.
const APART: u32 = 0x9e37_79b1;

/// All messages of a load.
pub struct Messages {
    pub path: &'static str,
    /// What a stream begins with, if that differs.
    opening: Option<Message>,
    usual: Message,
    /// Stamps in a message.
    pub stamps: u32,
    /// Whether a message is a call of its own.
    pub is_unary: bool,
    keys: u32,
}

/// One DATA frame and where it differs from the next one.
struct Message {
    frame: Vec<u8>,
    /// A stamp as text.
    text: Option<usize>,
    /// Trace id, span id, and whether the span begins a trace.
    spans: Vec<(usize, usize, bool)>,
    /// Where the number of the key stands.
    keys: Vec<usize>,
    /// Where the number of the stream stands.
    stream: Option<usize>,
}

/// Where a message is written: which frame, and whose.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub stream: u32,
    pub flags: u8,
    pub stamp: Stamp,
    pub is_opening: bool,
}

// === impl Messages ===

impl Messages {
    pub fn new(traffic: Traffic, message_bytes: usize) -> Self {
        let stamp = "#".repeat(TEXT_BYTES);
        let (path, opening, usual, stamps, keys) = match traffic {
            Traffic::Segments => {
                let body = sized(message_bytes, |filler| segment(&stamp, filler));
                ("/skywalking.v3.TraceSegmentReportService/collect", None, body, 1, 1)
            }
            Traffic::Meters { keys } => {
                let body = sized(message_bytes, |filler| meters(&stamp, filler));
                ("/skywalking.v3.MeterReportService/collectBatch", None, body, 1, keys)
            }
            Traffic::AccessLogs { identifier_bytes, entries } => {
                let body = sized(message_bytes, |filler| access_logs(&stamp, filler, entries.max(1) as usize));
                let mut opening = sized(identifier_bytes as usize, identifier);
                opening.extend_from_slice(&body);
                ("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs", Some(opening), body, 1, 1)
            }
            Traffic::Spans { per_request, traces } => {
                let span = sized(message_bytes, span);
                let body = spans(&span, per_request);
                let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
                let mut usual = Message::of(&body);
                usual.find_spans(traces);
                let stamps = per_request;
                return Self { path, opening: None, usual, stamps, is_unary: true, keys: 1 };
            }
        };
        let opening = opening.map(|body| Message::of(&body));
        Self { path, opening, usual: Message::of(&usual), stamps, is_unary: false, keys: keys.max(1) }
    }

    /// Bytes of a message and its prefix.
    #[inline]
    pub fn bytes(&self, is_opening: bool) -> usize {
        self.of(is_opening).frame.len() - HEAD_BYTES
    }

    /// Appends it as one DATA frame.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>, place: Place) {
        let start = out.len();
        let message = self.of(place.is_opening);
        out.extend_from_slice(&message.frame);
        let frame = &mut out[start..];
        frame[4] = place.flags;
        frame[5..HEAD_BYTES].copy_from_slice(&place.stream.to_be_bytes());
        let stamp = place.stamp;
        if let Some(at) = message.text {
            stamp.write_text(&mut frame[at..at + TEXT_BYTES]);
        }
        if let Some(at) = message.stream {
            stamp::put_hex(&mut frame[at..at + HEX_BYTES], stamp.stream);
        }
        if !message.keys.is_empty() {
            let key = stamp.stream.wrapping_mul(APART).wrapping_add(stamp.sequence) % self.keys;
            for at in &message.keys {
                stamp::put_hex(&mut frame[*at..at + HEX_BYTES], key);
            }
        }
        let mut first = stamp;
        for ((trace, span, begins), sequence) in message.spans.iter().zip(stamp.sequence..) {
            let stamp = Stamp { sequence, ..stamp };
            if *begins {
                first = stamp;
            }
            first.write_trace_id(&mut frame[*trace..trace + TRACE_ID_BYTES]);
            stamp.write_span_id(&mut frame[*span..span + SPAN_ID_BYTES]);
        }
    }

    #[inline]
    fn of(&self, is_opening: bool) -> &Message {
        match &self.opening {
            Some(opening) if is_opening => opening,
            _ => &self.usual,
        }
    }
}

// === impl Message ===

impl Message {
    fn of(body: &[u8]) -> Self {
        let mut frame = Vec::with_capacity(HEAD_BYTES + PREFIX_BYTES + body.len());
        put_head(&mut frame, PREFIX_BYTES + body.len(), DATA, 0, 0);
        frame.push(0);
        frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
        frame.extend_from_slice(body);
        let text = places(&frame, &[b'#'; TEXT_BYTES]).first().copied();
        let keys = places(&frame, &[b'@'; HEX_BYTES]);
        let stream = places(&frame, &[b'~'; HEX_BYTES]).first().copied();
        Self { frame, text, spans: Vec::new(), keys, stream }
    }

    fn find_spans(&mut self, of_a_trace: u32) {
        let traces = places(&self.frame, &[b'$'; TRACE_ID_BYTES]);
        let spans = places(&self.frame, &[b'%'; SPAN_ID_BYTES]);
        let begins = (0..).map(|at: u32| at.is_multiple_of(of_a_trace.max(1)));
        self.spans = traces.into_iter().zip(spans).zip(begins).map(|((t, s), begins)| (t, s, begins)).collect();
    }
}

/// Where `words` stand, without overlap.
fn places(bytes: &[u8], words: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(bytes, words).collect()
}

/// What `make` makes of the longest filler that leaves it within `bytes`; without any, if its fields alone are longer.
fn sized(bytes: usize, make: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let mut filler = "x".repeat(bytes.saturating_sub(make("").len()));
    loop {
        let made = make(&filler);
        if made.len() <= bytes || filler.is_empty() {
            return made;
        }
        filler.truncate(filler.len().saturating_sub(made.len() - bytes));
    }
}

// === What they say. Fields that are patched are what `Message::of` looks for ===

fn segment(stamp: &str, filler: &str) -> Vec<u8> {
    let mut span = Vec::new();
    // The root: no parent is -1.
    put_varint(&mut span, 2 << 3);
    put_varint(&mut span, -1i64 as u64);
    put_number(&mut span, 3, 1_700_000_000_000);
    put_number(&mut span, 4, 1_700_000_000_045);
    put_bytes(&mut span, 6, format!("GET:/orders{filler}").as_bytes());
    let mut segment = Vec::new();
    put_bytes(&mut segment, 1, stamp.as_bytes());
    put_bytes(&mut segment, 2, b"6f1c7f0a9b3d4a5c");
    put_bytes(&mut segment, 3, &span);
    put_bytes(&mut segment, 4, b"checkout");
    put_bytes(&mut segment, 5, b"checkout-1@10.0.0.1");
    segment
}

fn meters(stamp: &str, filler: &str) -> Vec<u8> {
    let label = |name: &str, value: &str| {
        let mut label = Vec::new();
        put_bytes(&mut label, 1, name.as_bytes());
        put_bytes(&mut label, 2, value.as_bytes());
        label
    };
    let mut value = Vec::new();
    put_bytes(&mut value, 1, b"requests");
    put_bytes(&mut value, 2, &label("id", stamp));
    if !filler.is_empty() {
        put_bytes(&mut value, 2, &label("of", filler));
    }
    put_varint(&mut value, 3 << 3 | 1);
    value.extend_from_slice(&17.0f64.to_le_bytes());
    let mut meter = Vec::new();
    put_bytes(&mut meter, 1, &value);
    put_bytes(&mut meter, 3, b"svc-@@@@@@@@");
    put_bytes(&mut meter, 4, b"pod-@@@@@@@@");
    put_number(&mut meter, 5, 1_700_000_000_000);
    let mut batch = Vec::new();
    put_bytes(&mut batch, 1, &meter);
    batch
}

fn access_logs(stamp: &str, filler: &str, entries: usize) -> Vec<u8> {
    let mut logs = Vec::new();
    for at in 0..entries {
        // The last one takes what cannot be shared evenly.
        let share = filler.len() / entries;
        let own = if at + 1 == entries { &filler[share * at..] } else { &filler[..share] };
        let mut request = Vec::new();
        let id = if at == 0 { stamp } else { "0f8fad5b-d9cb-469f-a165-70867728" };
        put_bytes(&mut request, 9, id.as_bytes());
        put_bytes(&mut request, 5, b"/orders");
        put_bytes(&mut request, 6, own.as_bytes());
        let mut entry = Vec::new();
        put_bytes(&mut entry, 3, &request);
        put_bytes(&mut logs, 1, &entry);
    }
    let mut message = Vec::new();
    put_bytes(&mut message, 2, &logs);
    message
}

/// The first field of an access log stream: an Envoy that names its stream, and metadata.
fn identifier(filler: &str) -> Vec<u8> {
    let mut value = Vec::new();
    put_bytes(&mut value, 3, filler.as_bytes());
    let mut entry = Vec::new();
    put_bytes(&mut entry, 1, b"ANNOTATIONS");
    put_bytes(&mut entry, 2, &value);
    let mut metadata = Vec::new();
    put_bytes(&mut metadata, 1, &entry);
    let mut node = Vec::new();
    put_bytes(&mut node, 1, b"sidecar.10.0.0.1.~~~~~~~~");
    put_bytes(&mut node, 2, b"checkout");
    put_bytes(&mut node, 3, &metadata);
    let mut identifier = Vec::new();
    put_bytes(&mut identifier, 1, &node);
    put_bytes(&mut identifier, 2, b"als");
    let mut field = Vec::new();
    put_bytes(&mut field, 1, &identifier);
    field
}

fn span(filler: &str) -> Vec<u8> {
    let mut span = Vec::new();
    put_bytes(&mut span, 1, &[b'$'; TRACE_ID_BYTES]);
    put_bytes(&mut span, 2, &[b'%'; SPAN_ID_BYTES]);
    put_bytes(&mut span, 5, format!("GET /orders{filler}").as_bytes());
    // Server, from and to.
    put_number(&mut span, 6, 2);
    for (field, time) in [(7, 1_700_000_000_000_000_000u64), (8, 1_700_000_000_045_000_000)] {
        put_varint(&mut span, field << 3 | 1);
        span.extend_from_slice(&time.to_le_bytes());
    }
    span
}

fn spans(span: &[u8], count: u32) -> Vec<u8> {
    let mut value = Vec::new();
    put_bytes(&mut value, 1, b"checkout");
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, b"service.name");
    put_bytes(&mut attribute, 2, &value);
    let mut resource = Vec::new();
    put_bytes(&mut resource, 1, &attribute);
    let mut scope = Vec::new();
    put_bytes(&mut scope, 1, b"http");
    let mut of_scope = Vec::new();
    put_bytes(&mut of_scope, 1, &scope);
    for _ in 0..count {
        put_bytes(&mut of_scope, 2, span);
    }
    let mut of_resource = Vec::new();
    put_bytes(&mut of_resource, 1, &resource);
    put_bytes(&mut of_resource, 2, &of_scope);
    let mut request = Vec::new();
    put_bytes(&mut request, 1, &of_resource);
    request
}

// === protobuf's wire ===

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
