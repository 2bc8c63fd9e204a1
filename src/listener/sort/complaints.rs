//! What a caller is told, once it asks, of messages that were refused while the rest of its call went on.

use crate::wire::grpc::{Code, Status};

/// Messages of a call that were refused alone.
#[derive(Default)]
pub(super) struct Complaints {
    messages: u64,
    first: Option<String>,
}

// === impl Complaints ===

impl Complaints {
    pub(super) fn add(&mut self, messages: u32, complaint: String) {
        self.messages += u64::from(messages);
        self.first.get_or_insert(complaint);
    }

    /// What the caller is told; `None` when there is nothing to complain about.
    pub(super) fn status(&self) -> Option<Status> {
        let first = self.first.as_ref()?;
        let message =
            format!("{} messages of this call were refused, all others are safe; the first: {first}", self.messages);
        Some(Status::new(Code::InvalidArgument, message))
    }
}
