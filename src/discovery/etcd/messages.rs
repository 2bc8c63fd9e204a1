//! The few messages of etcd's API that are spoken: `etcd/api/etcdserverpb/rpc.proto` and `mvccpb/kv.proto`, version 3.
//!
//! Written here rather than compiled from proto/, since everything compiled from there is served by reflection.

use prost::Message;

/// Asks for the keys from `key` up to `range_end`.
#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    /// The first.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The first that is no longer meant.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// The most that are answered at once; 0: all.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// At which revision; 0: the newest.
    #[prost(int64, tag = "4")]
    pub revision: i64,
}

/// Answers it.
#[derive(Clone, PartialEq, Message)]
pub struct RangeResponse {
    /// The revision of the answer stands here.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// In the order of keys.
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    /// There are more than were answered.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// What every answer begins with.
#[derive(Clone, PartialEq, Message)]
pub struct ResponseHeader {
    /// Of the whole store.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

/// One key.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The revision that made it what it is; in the event of its deletion, that of the deletion.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// Empty in the event of its deletion.
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
}

/// Says what a watch is to watch; the oneof of the protocol, of which this is one arm.
#[derive(Clone, PartialEq, Message)]
pub struct WatchRequest {
    /// A new watch.
    #[prost(message, optional, tag = "1")]
    pub create_request: Option<WatchCreateRequest>,
}

/// A new watch.
#[derive(Clone, PartialEq, Message)]
pub struct WatchCreateRequest {
    /// The first key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The first that is no longer meant.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// The first revision whose events are wanted.
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
    /// Whether the revision is to be told now and then where nothing happens.
    #[prost(bool, tag = "4")]
    pub progress_notify: bool,
}

/// What happened.
#[derive(Clone, PartialEq, Message)]
pub struct WatchResponse {
    /// Up to which revision.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The watch begins, and what happened before it may still follow.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// The watch is over.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// Not 0: the revision to start from is compacted away, this is the first that is left.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// Why it is over.
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// In the order they happened.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

// === impl WatchResponse ===

impl WatchResponse {
    /// Up to which revision nothing is missing. The header's is that of the store: it may be ahead of events that are
    /// still to come.
    pub fn revision(&self) -> Option<i64> {
        match self.events.last() {
            Some(last) => last.kv.as_ref().map(|kv| kv.mod_revision),
            None if self.created => None,
            None => self.header.as_ref().map(|header| header.revision),
        }
    }
}

/// One change.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Which.
    #[prost(enumeration = "EventType", tag = "1")]
    pub r#type: i32,
    /// The key, and its value if it was put.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum EventType {
    /// It has a value now.
    Put = 0,
    /// It is gone, deleted or expired.
    Delete = 1,
}

/// Says who we are.
#[derive(Clone, PartialEq, Message)]
pub struct AuthenticateRequest {
    /// The user.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its password.
    #[prost(string, tag = "2")]
    pub password: String,
}

/// Answers it.
#[derive(Clone, PartialEq, Message)]
pub struct AuthenticateResponse {
    /// What further calls have to bring.
    #[prost(string, tag = "2")]
    pub token: String,
}
