//! Header compression (RFC 7541): what peers send is read in full, what we send is only ever literal or static.
//!
//! Our own header blocks are a few dozen bytes per trip of thousands of messages. Indexing them would save nothing that
//! can be measured and would cost each connection a table that has to stay in step with its peer's.

pub mod decode;
pub mod encode;
pub mod huffman;
pub mod table;

/// The dynamic table everybody may use unless told otherwise, in bytes as RFC 7541 section 4.1 counts them. We never
/// tell otherwise: agents that open a call for every batch save most of its head.
pub const TABLE_BYTES: usize = 4096;

/// What an entry costs beside its bytes, in the table and in the size of a header list.
pub const ENTRY_OVERHEAD_BYTES: usize = 32;
