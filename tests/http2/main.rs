//! What RFC 9113 and RFC 7541 say a server and a client MUST do, section by section, said to ours by a raw peer.
//!
//! Most of it is said three times: to a session in this process, whole and byte by byte, and to a gateway's listener.
//! docs/http2.md has a table of the sections. Where the RFC leaves a choice, or we are stricter than it asks, the test
//! says why.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod frames;
mod ground;
mod hpack;
mod kinds;
mod messages;
mod page;
mod settings;
mod streams;
mod unread;
mod windows;
