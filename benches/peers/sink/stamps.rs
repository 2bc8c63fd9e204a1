//! Finds the stamps in a message, by protobuf's tags: gateways may have added fields of their own.

use crate::h2::stamp::Stamp;
use crate::spec::Traffic;

/// Where a kind of messages has its stamp.
#[derive(Debug, Clone, Copy)]
pub enum Stamps {
    /// As text in the field this path of numbers leads to, the first of each.
    Text(&'static [u64]),
    /// In the ids of spans.
    Ids,
}

/// Fields of length-delimited type, in order; others are skipped.
struct Fields<'a>(&'a [u8]);

// === impl Stamps ===

impl Stamps {
    pub fn of(traffic: Traffic) -> Self {
        match traffic {
            // SegmentObject.traceId
            Traffic::Segments => Stamps::Text(&[1]),
            // MeterDataCollection.meterData, .singleValue, .labels, .value
            Traffic::Meters { .. } => Stamps::Text(&[1, 1, 2, 2]),
            // StreamAccessLogsMessage.http_logs, .log_entry, .request, .request_id
            Traffic::AccessLogs { .. } => Stamps::Text(&[2, 1, 3, 9]),
            Traffic::Spans { .. } => Stamps::Ids,
        }
    }

    /// Hands over each stamp of a message; `None` where there should be one.
    #[inline]
    pub fn read(self, message: &[u8], mut found: impl FnMut(Option<Stamp>)) {
        match self {
            Stamps::Text(path) => {
                let text = path.iter().try_fold(message, |bytes, number| first(bytes, *number));
                found(text.and_then(Stamp::read_text));
            }
            Stamps::Ids => {
                // ExportTraceServiceRequest.resource_spans, .scope_spans, .spans
                for resource in numbered(message, 1) {
                    for scope in numbered(resource, 2) {
                        for span in numbered(scope, 2) {
                            let ids = first(span, 1).zip(first(span, 2));
                            found(ids.and_then(|(trace, span)| Stamp::read_ids(trace, span)));
                        }
                    }
                }
            }
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    /// The next one; what cannot be read ends them.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let tag = varint(&mut self.0)?;
            match tag & 7 {
                0 => drop(varint(&mut self.0)?),
                1 => self.0 = self.0.get(8..)?,
                2 => {
                    let length = usize::try_from(varint(&mut self.0)?).ok()?;
                    let (field, rest) = self.0.split_at_checked(length)?;
                    self.0 = rest;
                    return Some((tag >> 3, field));
                }
                5 => self.0 = self.0.get(4..)?,
                _ => return None,
            }
        }
    }
}

#[inline]
fn first(message: &[u8], number: u64) -> Option<&[u8]> {
    numbered(message, number).next()
}

#[inline]
fn numbered(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter(move |(found, _)| *found == number).map(|(_, field)| field)
}

#[inline]
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}
