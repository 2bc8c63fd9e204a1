//! The oracle: whatever agents say, collectors behind a gateway understand the same as one that was told directly.
//!
//! The collectors keep state per stream as SkyWalking's own do (src/testkit/receivers) and write down under whose name
//! and in which context they file every single item. The same generated traffic goes both ways, and what was written
//! down must be equal. Nothing here knows how the gateway routes a method. docs/testkit.md says how to repeat a case, and
//! where the two ways may differ.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod alike;
#[allow(dead_code, reason = "the road's tests use all of it")]
#[path = "../road/caller.rs"]
mod caller;
mod coverage;
mod dialect;
mod draw;
mod found;
mod gateways;
#[allow(dead_code, reason = "the road's tests use all of it")]
#[path = "../road/ground.rs"]
mod ground;
mod kills;
mod order;
mod poison;
mod reading;
mod replicas;
mod stage;
mod traffic;
mod verdict;
mod ways;
mod wire;
