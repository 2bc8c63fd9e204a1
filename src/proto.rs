//! Message types and method definitions of every protocol the gateway knows, compiled from proto/; the data path never decodes with them.

#![allow(missing_docs, reason = "generated from proto/, where the comments are")]
#![allow(clippy::all, clippy::pedantic, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/protos.rs"));

/// Every service and message as a serialized `google.protobuf.FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
