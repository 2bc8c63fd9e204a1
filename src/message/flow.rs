//! The kinds of traffic that never stand in each other's way: each has its own ports, budget reserve and outbound channels.

use std::fmt;

/// Which kind of traffic a method belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the operator's words")]
pub enum Flow {
    Traces,
    Logs,
    AccessLogs,
    Metrics,
    Profiles,
    Control,
}

impl Flow {
    /// Every flow.
    pub const ALL: [Flow; 6] =
        [Flow::Traces, Flow::Logs, Flow::AccessLogs, Flow::Metrics, Flow::Profiles, Flow::Control];

    /// The word used in config, metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Flow::Traces => "traces",
            Flow::Logs => "logs",
            Flow::AccessLogs => "access_logs",
            Flow::Metrics => "metrics",
            Flow::Profiles => "profiles",
            Flow::Control => "control",
        }
    }

    /// A dense number below [`Flow::ALL`]`.len()`, for tables.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
