//! What the value of one key says of a backend: an address, or JSON with more.

use serde::Deserialize;

use crate::discovery::roster::{Seen, Standing};
use crate::pool::Endpoint;
use crate::pool::endpoint::EndpointError;
use crate::pool::found::{Found, WEIGHT_MAX};

/// A value that is JSON. gRPC's own naming writes `Addr` and puts what the registrar adds into `Metadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record {
    #[serde(alias = "Addr", alias = "addr", alias = "address")]
    endpoint: Option<String>,
    #[serde(flatten)]
    more: More,
    /// `null`, an object, or anything else, which says nothing here.
    #[serde(rename = "Metadata")]
    metadata: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct More {
    weight: Option<u32>,
    priority: Option<u32>,
    zone: Option<String>,
    server_name: Option<String>,
    leaving: bool,
}

/// Why a value stands for no backend.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is neither text nor JSON.
    #[error("it is neither `host:port` nor JSON: {0}")]
    Unreadable(String),
    /// No address is in it.
    #[error("there is no \"endpoint\" in it")]
    NoEndpoint,
    /// The address is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The weight is none.
    #[error("weight {0} is not from 1 to {WEIGHT_MAX}")]
    Weight(u32),
}

/// Reads the value of a key; `name` is what the backend is called.
///
/// # Errors
/// When it names no address, or what it says cannot be.
pub fn read(name: &str, value: &[u8]) -> Result<Seen, RecordError> {
    let unreadable = |error: &dyn std::fmt::Display| RecordError::Unreadable(error.to_string());
    let text = std::str::from_utf8(value).map_err(|error| unreadable(&error))?.trim();
    if !text.starts_with('{') {
        let found = Found { name: name.to_owned(), ..Found::at(text.parse()?) };
        return Ok(Seen { found, standing: Standing::Ready });
    }
    let record: Record = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
    let endpoint: Endpoint = record.endpoint.ok_or(RecordError::NoEndpoint)?.parse()?;
    let theirs = match record.metadata {
        metadata @ serde_json::Value::Object(_) => More::deserialize(metadata).map_err(|error| unreadable(&error))?,
        _ => More::default(),
    };
    let ours = record.more;
    let weight = ours.weight.or(theirs.weight).unwrap_or(1);
    if !(1..=WEIGHT_MAX).contains(&weight) {
        return Err(RecordError::Weight(weight));
    }
    let standing = if ours.leaving || theirs.leaving { Standing::Leaving } else { Standing::Ready };
    let found = Found {
        name: name.to_owned(),
        weight,
        priority: ours.priority.or(theirs.priority).unwrap_or(0),
        zone: ours.zone.or(theirs.zone).filter(|zone| !zone.is_empty()),
        server_name: ours.server_name.or(theirs.server_name),
        ..Found::at(endpoint)
    };
    Ok(Seen { found, standing })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: &str) -> Result<String, String> {
        read("a", value.as_bytes()).map_err(|error| error.to_string()).map(|seen| {
            let Found { name, endpoint, weight, priority, zone, .. } = seen.found;
            let standing = seen.standing;
            format!("{name} {endpoint} {weight} {priority} {} {standing:?}", zone.unwrap_or_default())
        })
    }

    #[test]
    fn a_value_is_an_address_or_json_ours_or_that_of_grpc_naming() {
        assert_eq!(shown("10.0.0.1:11800\n").unwrap(), "a 10.0.0.1:11800 1 0  Ready");
        let all =
            r#"{"endpoint": "oap-0:11800", "weight": 7, "priority": 1, "zone": "east", "leaving": true, "x": {}}"#;
        assert_eq!(shown(all).unwrap(), "a oap-0:11800 7 1 east Leaving");
        assert_eq!(shown(r#"{"Op":0,"Addr":"oap-0:11800","Metadata":null}"#).unwrap(), "a oap-0:11800 1 0  Ready");
        let metadata = r#"{"Op":0,"Addr":"oap-0:11800","Metadata":{"weight":3,"zone":"west"}}"#;
        assert_eq!(shown(metadata).unwrap(), "a oap-0:11800 3 0 west Ready");
        assert_eq!(shown(r#"{"Addr":"oap-0:1","Metadata":"blue"}"#).unwrap(), "a oap-0:1 1 0  Ready");
    }

    #[test]
    fn a_value_that_names_nobody_says_why() {
        assert_eq!(shown("oap-0").unwrap_err(), "\"oap-0\" has no port");
        assert_eq!(shown("{}").unwrap_err(), "there is no \"endpoint\" in it");
        assert_eq!(shown(r#"{"endpoint":"a:1","weight":0}"#).unwrap_err(), "weight 0 is not from 1 to 1000");
        assert!(shown("{").unwrap_err().contains("neither"));
        assert!(read("a", &[0xff]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_put_is_never_a_panic(value in prop::collection::vec(any::<u8>(), 0..40), text in "\\{.{0,40}") {
            let _ = (read("a", &value), read("a", text.as_bytes()));
        }
    }
}
