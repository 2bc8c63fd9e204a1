//! The names OAP reads from an Envoy node's metadata (its `metadata-service-mapping.yaml`).

use super::reading::{elements, part, text};

/// Labels that may name the service, best first.
const LABELS: [&[u8]; 4] = [b"service.istio.io/canonical-name", b"app.kubernetes.io/name", b"app", b"k8s-app"];

/// Service and instance of an `envoy.config.core.v3.Node`; `None` when it lacks either.
pub(super) fn of_node(node: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let metadata = part(node, 3).ok()??;
    let labels = value_of(&metadata, b"LABELS").and_then(|value| Some(part(&value, 5).ok()??.into_owned()));
    let labels = labels.unwrap_or_default();
    let label = LABELS.iter().find_map(|label| text_of(&labels, label));
    let mut service = label.or_else(|| text_of(&metadata, b"SERVICE"))?;
    let instance = text_of(&metadata, b"NAME")?;
    if let Some(namespace) = text_of(&metadata, b"NAMESPACE") {
        service.push(b'.');
        service.extend_from_slice(&namespace);
    }
    Some((service, instance))
}

/// The `google.protobuf.Value` under a key of a `google.protobuf.Struct`; of a key that is there twice the last.
fn value_of(fields: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let entry = elements(fields, 1).flatten().filter(|entry| text(entry, 1) == Ok(key)).last()?;
    part(entry, 2).ok()?.map(|value| value.into_owned())
}

/// The non-empty string under a key.
fn text_of(fields: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let value = value_of(fields, key)?;
    text(&value, 3).ok().filter(|text| !text.is_empty()).map(<[u8]>::to_vec)
}
