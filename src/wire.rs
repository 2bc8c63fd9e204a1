//! HTTP/2 and gRPC framing; nothing above this floor names h2.

pub mod grpc;
pub mod services;
