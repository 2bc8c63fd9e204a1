//! The road from agents to collectors, whole: real sockets, scripted collectors and agents, and books that must balance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod admin_verbs;
mod attribution;
#[path = "../certificates/authority.rs"]
mod authority;
mod backend;
mod bad_input;
mod bounds;
mod caller;
mod callers;
#[cfg(feature = "k8s")]
mod cluster;
mod contracts;

mod delivered;
mod discovery;
mod dns_server;
mod drain;
mod edges;
mod endpoints;
mod floods;
mod ground;
mod health;
mod http;
mod identity;
mod kill;
mod limits;
mod members;
mod misbehaving;
mod own_methods;
mod poison;
mod policies;
mod process;
mod records;
mod relay;
mod reload;
mod reread;
mod retry;
mod rolling;
mod rules;
mod skew;
mod stall;
mod streams;
mod tls;
