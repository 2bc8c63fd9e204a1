//! Switchyard, a content-aware gRPC streaming gateway: it ends long-lived agent streams and sorts each message onto a pool of collectors.

pub mod admin;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod gateway;
pub mod listener;
pub mod message;
pub mod metrics;
pub mod pool;
pub mod proto;
pub mod route;
pub mod testkit;
pub mod wire;
