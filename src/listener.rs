//! The edge where agents arrive: listeners accept connections, a connection carries calls, a call carries messages.

pub mod accept;
pub mod admission;
pub mod call;
pub mod connection;
mod counts;
mod held;
pub mod identity;
mod outbound;
pub mod records;
pub mod register;
pub mod relay;
pub mod reply;
mod settings;
pub mod sort;
pub mod terms;
pub mod worker;

pub use settings::{LISTENERS, Limits, Reply, Settings, SourcePrefix};
