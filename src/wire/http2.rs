//! HTTP/2 as far as gRPC's data path needs it: a core without sockets, and what ties it to one.
//!
//! ```text
//!   socket ──▶ link ──bytes──▶ session: receive ▶ heads, streams      send ──▶ output ──▶ link ──▶ socket
//!                                             ▲                        ▲
//!                                       handle: what calls and trips hold of a stream
//! ```
//!
//! It is ours because the general crate's work per frame was two thirds of the cost of a small message, and its buffers
//! two thirds of an idle connection. What it leaves out: push, priorities, upgrades, an encoder that indexes. What is
//! strict where the RFC leaves a choice: a mistake in framing ends the connection, not the stream, for streams we are
//! made to reset are a way to be flooded (CVE-2025-8671); a mistake in a message ends its stream.

mod controls;
pub mod fields;
pub mod frame;
pub mod handle;
mod heads;
pub mod hpack;
pub mod link;
pub mod output;
pub mod patience;
mod receive;
mod send;
pub mod session;
pub mod settings;
mod streams;

pub use session::Session;

#[cfg(test)]
mod tests;
