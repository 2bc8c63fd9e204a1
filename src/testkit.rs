//! Scripted collectors and agents, as the real ones behave: for tests, benches and the `demo`; no part of the gateway.
//!
//! [`collector::Collector`] stands for SkyWalking's OAP: it keeps the same state per stream, so that data a gateway
//! mixed up is filed under the wrong source here as it would be there, and it can misbehave on command.
//! [`agents::Load`] stands for any number of agents; [`check`] says afterwards what was lost, said twice or reordered.
//! docs/testkit.md has the command lines and the JSON.

pub mod methods;
pub mod receivers;
pub mod tally;
pub mod behaviour;
pub mod socket;
pub mod collector;
pub mod check;
