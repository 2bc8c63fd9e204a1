//! Backends listed in a file that somebody else keeps.

use std::fmt;
use std::path::PathBuf;

use super::Announcer;

/// Which file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it lies; a relative path has been joined to the config's directory.
    pub path: PathBuf,
}

/// Follows a file for ever.
pub async fn follow(_settings: Settings, _announcer: Announcer) {
    std::future::pending().await
}

// === impl Settings ===

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file:{}", self.path.display())
    }
}
