//! HTTP/2 and gRPC framing, so that nothing above this floor has to know frames.

pub mod ask;
pub mod client;
pub mod compression;
pub mod grpc;
mod gulp;
pub mod http2;
pub mod pace;
pub mod quiet;
pub mod server;
pub mod services;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod unsent;
