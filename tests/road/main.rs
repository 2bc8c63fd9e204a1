//! The road from agents to collectors, whole: real sockets, scripted collectors and agents, and books that must balance.

mod attribution;
mod backend;
mod bad_input;
mod caller;
mod delivered;
mod drain;
mod edges;
mod ground;
mod kill;
mod misbehaving;
mod poison;
mod process;
mod relay;
mod retry;
mod skew;
mod stall;
mod streams;
