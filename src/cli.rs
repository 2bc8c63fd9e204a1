//! The commands of the `switchyard` program, one file each.

pub mod check;
pub mod healthcheck;
