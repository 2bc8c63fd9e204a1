//! How a call may be taken apart: the promise a receiver's source makes about its method.

/// The contract of one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contract {
    /// Messages are sorted one by one or run by run; the gateway answers the call itself.
    Sort(Sort),
    /// The call is kept on one outbound call and its answer passed through.
    Relay(Relay),
}

/// What sorting must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// What a stream says once and means for all its messages.
    pub carry: Option<Carry>,
    /// What decides the backend; `None` leaves it to the pool.
    pub key: Option<SortKey>,
    /// Whether equal keys must meet one backend. If not, the key counts only where the operator asks for hashing.
    pub sticky: bool,
}

/// A field that is said once per stream. How the receiver reads it decides how it is said again elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// A string the first non-empty value of which holds for the stream and overrides later ones
    /// (OAP `LogReportServiceGrpcHandler`).
    FirstNonEmptyText {
        /// Its field number.
        field: u32,
    },
    /// A sub-message that is read from the first message, present or not, and never again
    /// (OAP `AccessLogServiceGRPCHandler`, `MetricServiceGRPCHandler`).
    FirstMessageOnly {
        /// Its field number.
        field: u32,
    },
}

/// Where the key of a method stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// In what the call carries: Envoy's node id, else the whole identifier.
    EnvoyNode,
    /// In the text the call carries.
    Carried,
    /// In this text field of each message.
    Text {
        /// Its field number.
        field: u32,
    },
    /// In each message: the last non-empty service and instance of a `MeterDataCollection`.
    MeterCollection,
}

/// What relaying must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Field paths in the first messages whose values, together, must keep meeting one backend. Empty: any backend.
    pub sticky: &'static [&'static [u32]],
    /// Whether a call that broke may be said again to another backend though the first may have acted on it.
    pub replay: Replay,
}

/// When a relayed call may be said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Always, while all that was sent is still in memory and nothing was answered.
    Always,
    /// Only when the backend has provably not looked at it.
    NotProcessed,
}

// === impl Contract ===

impl Contract {
    /// A call passed through whole, said twice only when that is provably safe.
    pub const fn relay() -> Self {
        Contract::Relay(Relay { sticky: &[], replay: Replay::NotProcessed })
    }
}
