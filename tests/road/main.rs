//! The road from agents to collectors, whole: real sockets, scripted collectors and agents, and books that must balance.

mod ground;
mod kill;
mod process;
mod skew;
mod stall;
