//! Switchyard, a content-aware gRPC streaming gateway: it ends long-lived agent streams and sorts each message onto a pool of collectors.

pub mod cli;
pub mod listener;
pub mod message;
pub mod pool;
pub mod proto;
pub mod testkit;
pub mod wire;
