//! What travels: gRPC messages in runs, a scan of their fields, the byte budget they are held under and the receipt that answers for them.

pub mod field;
pub mod flow;
pub mod frames;
