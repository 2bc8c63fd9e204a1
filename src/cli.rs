//! The command line: one file per subcommand, each with its arguments and a `run` that answers the exit code.

pub mod agents;
pub mod collector;
