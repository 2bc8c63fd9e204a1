//! What a collector may be told to do wrong.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::grpc::Code;

/// How a collector misbehaves; the default is a good one. It can be changed while the collector runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Time each message takes; the stream's window is given back only afterwards, as OAP asks for one message
    /// after the other. In JSON: milliseconds, fractions allowed.
    #[serde(with = "millis")]
    pub message_delay: Duration,
    /// Time between half-close and answer.
    #[serde(with = "millis")]
    pub answer_delay: Duration,
    /// Resets each stream (INTERNAL_ERROR) after this many of its messages.
    pub reset_after: Option<u64>,
    /// Answers each stream after this many of its messages without waiting for its end; 0: at once.
    pub answer_after: Option<u64>,
    /// Refuses every new stream (REFUSED_STREAM).
    pub refuse: bool,
    /// Reads everything, never answers.
    pub hang: bool,
    /// Does not read: windows fill up and stay full.
    pub stall: bool,
    /// The status of the answers, by gRPC number; 0 is OK.
    pub status: u8,
    /// Only every n-th call gets `status`; 0 and 1: every call.
    pub status_every: u64,
    /// MAX_CONCURRENT_STREAMS; a change is announced on open connections and streams above are refused.
    pub streams_max: Option<u32>,
    /// Ends each connection by GOAWAY at this age.
    #[serde(with = "some_millis")]
    pub goaway_every: Option<Duration>,
    /// Dies when this many messages were read in all.
    pub die_after_messages: Option<u64>,
    /// Dies at this age.
    #[serde(with = "some_millis")]
    pub die_after: Option<Duration>,
}

impl Behaviour {
    /// The status of call number `call`, counted from 1.
    pub fn status_of(&self, call: u64) -> Code {
        let hit = self.status_every <= 1 || call.is_multiple_of(self.status_every);
        if hit { Code::from_number(u64::from(self.status)) } else { Code::Ok }
    }

    /// Messages of one stream after which something happens to it.
    pub(super) fn stream_messages_max(&self) -> Option<u64> {
        match (self.reset_after, self.answer_after) {
            (Some(reset), Some(answer)) => Some(reset.min(answer)),
            (reset, answer) => reset.or(answer),
        }
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_f64(duration.as_secs_f64() * 1e3)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let millis = f64::deserialize(from)?;
        Duration::try_from_secs_f64(millis / 1e3).map_err(serde::de::Error::custom)
    }
}

mod some_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_secs_f64() * 1e3).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let millis = Option::<f64>::deserialize(from)?;
        millis.map(|millis| Duration::try_from_secs_f64(millis / 1e3).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behaviour_survives_json() {
        let behaviour = Behaviour {
            message_delay: Duration::from_micros(500),
            goaway_every: Some(Duration::from_secs(2)),
            status: 14,
            ..Default::default()
        };
        let text = serde_json::to_string(&behaviour).unwrap();
        assert_eq!(serde_json::from_str::<Behaviour>(&text).unwrap(), behaviour);
        assert_eq!(serde_json::from_str::<Behaviour>("{}").unwrap(), Behaviour::default());
    }

    #[test]
    fn every_third_call_gets_the_status() {
        let behaviour = Behaviour { status: 14, status_every: 3, ..Default::default() };
        let codes: Vec<_> = (1..=4).map(|call| behaviour.status_of(call)).collect();
        assert_eq!(codes, [Code::Ok, Code::Ok, Code::Unavailable, Code::Ok]);
    }
}
