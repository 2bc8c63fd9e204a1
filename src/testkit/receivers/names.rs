//! The names OAP reads from an Envoy node's metadata (its `metadata-service-mapping.yaml`).

use crate::message::field::{bytes_at, first_bytes};

/// Labels that may name the service, best first.
const LABELS: [&[u8]; 4] = [b"service.istio.io/canonical-name", b"app.kubernetes.io/name", b"app", b"k8s-app"];

/// Service and instance of an `envoy.config.core.v3.Node`; `None` when it names nobody.
pub(super) fn of_node(node: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let metadata = first_bytes(node, 3).ok()??;
    let labels = value_of(metadata, b"LABELS").and_then(|value| first_bytes(value, 5).ok()?).unwrap_or_default();
    let service = LABELS.iter().find_map(|label| text_of(labels, label)).or_else(|| text_of(metadata, b"SERVICE"))?;
    let instance = text_of(metadata, b"NAME")?;
    let mut name = service.to_vec();
    if let Some(namespace) = text_of(metadata, b"NAMESPACE") {
        name.push(b'.');
        name.extend_from_slice(namespace);
    }
    Some((name, instance))
}

/// The `google.protobuf.Value` under a key of a `google.protobuf.Struct`.
fn value_of<'a>(fields: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    super::elements(fields, 1)
        .flatten()
        .find(|entry| first_bytes(entry, 1) == Ok(Some(key)))
        .and_then(|entry| bytes_at(entry, &[2]).ok()?)
}

/// The non-empty string under a key.
fn text_of<'a>(fields: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    value_of(fields, key).and_then(|value| first_bytes(value, 3).ok()?).filter(|text| !text.is_empty())
}
