//! Writes protobuf as any sender might: fields in any order, unknown ones among them, singular ones said twice.

use bytes::BytesMut;
use switchyard::message::field::{put_bytes, put_varint};

use crate::draw::{Draw, Mark};

/// A message being written, field by field.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Number and encoding of each field, tag included.
    fields: Vec<(u32, Vec<u8>)>,
}

impl Draft {
    pub fn text(&mut self, number: u32, text: &str) -> &mut Self {
        self.bytes(number, text.as_bytes())
    }

    pub fn bytes(&mut self, number: u32, bytes: &[u8]) -> &mut Self {
        let mut field = BytesMut::with_capacity(bytes.len() + 8);
        put_bytes(&mut field, number, bytes);
        self.fields.push((number, field.to_vec()));
        self
    }

    pub fn varint(&mut self, number: u32, value: u64) -> &mut Self {
        let mut field = BytesMut::new();
        put_varint(&mut field, u64::from(number) << 3);
        put_varint(&mut field, value);
        self.fields.push((number, field.to_vec()));
        self
    }

    /// A double, or any other field of eight bytes.
    pub fn fixed64(&mut self, number: u32, bits: u64) -> &mut Self {
        let mut field = BytesMut::new();
        put_varint(&mut field, u64::from(number) << 3 | 1);
        field.extend_from_slice(&bits.to_le_bytes());
        self.fields.push((number, field.to_vec()));
        self
    }

    /// A sub-message.
    pub fn part(&mut self, number: u32, write: impl FnOnce(&mut Draft)) -> &mut Self {
        let mut part = Draft::default();
        write(&mut part);
        self.bytes(number, &part.encode())
    }

    /// Texts at the ends of paths; paths that begin alike share their sub-messages.
    pub fn texts(&mut self, texts: &[(&[u32], &str)]) -> &mut Self {
        let mut done = Vec::new();
        for (path, text) in texts {
            match path {
                [] => {}
                [leaf] => {
                    self.text(*leaf, text);
                }
                [first, ..] if done.contains(first) => {}
                [first, ..] => {
                    done.push(*first);
                    let inside: Vec<(&[u32], &str)> = texts
                        .iter()
                        .filter(|(other, _)| other.len() > 1 && other[0] == *first)
                        .map(|(other, text)| (&other[1..], *text))
                        .collect();
                    self.part(*first, |part| {
                        part.texts(&inside);
                    });
                }
            }
        }
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        self.fields.iter().flat_map(|(_, field)| field).copied().collect()
    }

    /// Encodes it with what senders are free to do: add fields nobody knows and order fields as they like. Fields of
    /// one number keep their order, which means something.
    pub fn encode_freely(mut self, draw: &mut Draw) -> Vec<u8> {
        if draw.chance(15) {
            draw.mark(Mark::UnknownFields);
            self.unknown(draw);
        }
        if draw.chance(10) {
            draw.mark(Mark::AnyOrder);
            let mut ranks = std::collections::HashMap::new();
            for (number, _) in &self.fields {
                ranks.entry(*number).or_insert_with(|| draw.number(1 << 16));
            }
            self.fields.sort_by_key(|(number, _)| (ranks[number], *number));
        }
        self.encode()
    }

    /// A field of each wire type that no schema has.
    pub fn unknown(&mut self, draw: &mut Draw) {
        let number = 2_900 + draw.number(100) as u32;
        match draw.number(3) {
            0 => self.varint(number, draw.number(u64::MAX)),
            1 => self.fixed64(number, draw.number(u64::MAX)),
            _ => self.text(number, &draw.tag("unknown")),
        };
    }
}
