//! Who sent a part of a batch, read off its resource's attributes.

use crate::message::field::{Field, Malformed, Value, bytes_at, fields};
use crate::route::key;

use super::plan::{RESOURCE, offset};

/// The resource of one `Resource*` element, and the element around it.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'a> {
    /// The whole request, to say where something is broken.
    request: &'a [u8],
    element: &'a [u8],
}

/// Attributes that say who a sender is, in the order they are hashed in (PROTOCOLS 2.3; the last two of older senders).
const IDENTITY: [&str; 6] =
    ["host.name", "job", "net.host.name", "service.instance.id", "service.name", "service.namespace"];

const ATTRIBUTE: u32 = 1;
const STRING_VALUE: u32 = 1;

// === impl Resource ===

impl<'a> Resource<'a> {
    /// Reads all of the element's top level.
    pub(super) fn of(request: &'a [u8], element: &'a [u8]) -> Result<Self, Malformed> {
        match fields(element).find_map(Result::err) {
            Some(broken) => Err(within(request, element, broken)),
            None => Ok(Self { request, element }),
        }
    }

    /// The `ResourceSpans`, `ResourceMetrics` or `ResourceLogs` it stands in.
    pub fn element(&self) -> &'a [u8] {
        self.element
    }

    /// The value of an attribute: the text where it is one, else the encoded `AnyValue`.
    ///
    /// # Errors
    /// When the attributes do not parse.
    pub fn attribute(&self, name: &str) -> Result<Option<&'a [u8]>, Malformed> {
        for attribute in self.attributes() {
            match attribute? {
                (found, value) if found == name.as_bytes() => return Ok(Some(value)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Equal for what one sender sends: hashes what it calls itself, or, where it does not, all its attributes.
    ///
    /// # Errors
    /// When the attributes do not parse.
    pub fn key(&self) -> Result<u64, Malformed> {
        let mut said: [Option<&[u8]>; IDENTITY.len()] = Default::default();
        for attribute in self.attributes() {
            let (name, value) = attribute?;
            let place = IDENTITY.iter().position(|known| known.as_bytes() == name);
            if let Some(place) = place.filter(|_| !value.is_empty()) {
                said[place].get_or_insert(value);
            }
        }
        if said.iter().all(Option::is_none) {
            return self.key_of_everything();
        }
        let parts = IDENTITY.iter().zip(said).filter_map(|(name, value)| Some([name.as_bytes(), value?]));
        Ok(key::of_parts(parts.flatten()))
    }

    /// Equal for everything of one service; a sender that names none goes by [`Resource::key`].
    ///
    /// # Errors
    /// When the attributes do not parse.
    pub fn service_key(&self) -> Result<u64, Malformed> {
        match self.attribute("service.name")?.filter(|name| !name.is_empty()) {
            Some(name) => Ok(key::of_parts([name])),
            None => self.key(),
        }
    }

    fn key_of_everything(&self) -> Result<u64, Malformed> {
        let mut all = self.attributes().collect::<Result<Vec<_>, _>>()?;
        all.sort_unstable();
        Ok(key::of_parts(all.into_iter().flat_map(|(name, value)| [name, value])))
    }

    /// Names and values in the order they were said.
    fn attributes(&self) -> impl Iterator<Item = Result<(&'a [u8], &'a [u8]), Malformed>> + 'a {
        let Self { request, element } = *self;
        // A resource said in several pieces is all of them. `of` has read the element.
        let pieces = fields(element).filter_map(|field| match field {
            Ok(Field { number: RESOURCE, value: Value::Bytes(piece), .. }) => Some(piece),
            _ => None,
        });
        pieces.flat_map(move |piece| {
            fields(piece).filter_map(move |field| match field {
                Ok(Field { number: ATTRIBUTE, value: Value::Bytes(pair), .. }) => {
                    Some(name_and_value(pair).map_err(|broken| within(request, pair, broken)))
                }
                Ok(_) => None,
                Err(broken) => Some(Err(within(request, piece, broken))),
            })
        })
    }
}

/// `KeyValue.key` and what `KeyValue.value` holds.
fn name_and_value(pair: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in fields(pair) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    // What is no text, or broken, is compared as it stands: nothing else has to understand it here.
    let text = bytes_at(value, &[STRING_VALUE]).ok().flatten();
    Ok((name, text.unwrap_or(value)))
}

/// The same break, counted from the start of the request.
pub(super) fn within(request: &[u8], part: &[u8], broken: Malformed) -> Malformed {
    Malformed { at: offset(request, part) + broken.at }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use prost::Message as _;

    use super::*;
    use crate::message::field;
    use crate::proto::opentelemetry::proto::common::v1::{AnyValue, KeyValue, any_value};

    fn attribute(name: &str, text: &str) -> Vec<u8> {
        let value = AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) };
        KeyValue { key: name.to_owned(), value: Some(value) }.encode_to_vec()
    }

    #[test]
    fn resources_have_the_same_key_however_their_attributes_are_ordered() {
        let key_of = |attributes: &[(&str, &str)]| {
            let mut resource = BytesMut::new();
            for (name, value) in attributes {
                field::put_bytes(&mut resource, 1, &attribute(name, value));
            }
            let mut element = BytesMut::new();
            field::put_bytes(&mut element, 1, &resource);
            Resource::of(&element, &element).unwrap().key().unwrap()
        };
        let identity = [("service.name", "shop"), ("service.instance.id", "7"), ("os.type", "linux")];
        let other_order = [("os.type", "plan9"), ("service.instance.id", "7"), ("service.name", "shop")];
        assert_eq!(key_of(&identity), key_of(&other_order), "only what names a sender counts");
        assert_ne!(key_of(&identity), key_of(&[("service.name", "7"), ("service.instance.id", "shop")]));
        assert_eq!(key_of(&[("a", "1"), ("b", "2")]), key_of(&[("b", "2"), ("a", "1")]));
        assert_ne!(key_of(&[("a", "1"), ("b", "2")]), key_of(&[("a", "2"), ("b", "1")]));
        assert_eq!(key_of(&identity), 0xd585_6318_7e25_741f, "keys never change between versions");
    }
}
