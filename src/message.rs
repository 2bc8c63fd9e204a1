//! What travels: gRPC messages in runs and parcels, a scan of their fields, the byte budget they are held under and
//! the receipt that answers for them.

pub mod budget;
pub mod field;
pub mod flow;
pub mod frames;
pub mod parcel;
pub mod receipt;
pub mod run;
