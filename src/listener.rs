//! The edge where agents arrive: listeners accept connections, a connection carries calls, a call carries messages.

pub mod accept;
pub mod call;
pub mod connection;
pub mod register;
pub mod relay;
pub mod reply;
mod settings;
pub mod sort;
pub mod worker;

pub use settings::{Limits, Reply, Settings};
