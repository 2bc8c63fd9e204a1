//! HTTP/2 and gRPC framing; nothing above this floor names h2.

pub mod client;
pub mod compression;
pub mod grpc;
mod gulp;
pub mod pace;
pub mod quiet;
pub mod server;
pub mod services;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod unsent;
