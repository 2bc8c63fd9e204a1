//! The closed sets of reasons that metrics are labelled with.

/// An enum whose variants are label values: `ALL` in order, `index` into it, `name` on the wire.
macro_rules! reasons {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every variant, in order.
            pub const ALL: [$name; [$($label),+].len()] = [$($name::$variant),+];

            /// The label's value.
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $label,)+
                }
            }

            /// Its place in [`Self::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// Why a message that had arrived will reach no backend.
    pub enum LostReason {
        /// Its body is not what its method carries, so it has no place to go.
        Malformed = "malformed",
        /// Backends refused it for good (INVALID_ARGUMENT and the like); saying it again would not help.
        Rejected = "rejected",
        /// A relayed call failed; its caller was told.
        Relay = "relay",
        /// A backend may have acted on it before it was lost from sight, and its method must not be said twice.
        InDoubt = "in_doubt",
        /// Its caller broke off the data set it is a part of, which only counts whole.
        Unfinished = "unfinished",
        /// The data set it is a part of is larger than any receiver takes.
        TooLarge = "too_large",
        /// A rule of the operator drops it.
        Dropped = "dropped",
        /// It is not in the share that a rule of the operator samples.
        Sampled = "sampled",
        /// A rule of the operator lets only so many pass.
        Limited = "limited",
        /// The drain deadline passed before a backend answered.
        Shutdown = "shutdown",
        /// A ticket was dropped unsettled: a defect of Switchyard.
        Unsettled = "unsettled",
    }
}

reasons! {
    /// What became of messages under a route.
    pub enum RouteOutcome {
        /// They were given to a pool.
        Sent = "sent",
        /// The route drops them.
        Dropped = "dropped",
        /// They are not in the share that the route sends.
        Sampled = "sampled",
        /// They were more than the route lets pass.
        Limited = "limited",
    }
}

reasons! {
    /// Why a connection was turned away.
    pub enum RefusedReason {
        /// As many connections as allowed are open.
        Limit = "limit",
        /// As many connections of its source as allowed are open.
        Source = "source",
        /// TLS, preface or SETTINGS did not come in time, or were not HTTP/2.
        Handshake = "handshake",
        /// TLS was refused, by us or by the peer: a certificate, a version, or TLS on one side only.
        Tls = "tls",
        /// The process has no file descriptor left, or only those kept for backends and admin.
        Emfile = "emfile",
    }
}

reasons! {
    /// What came of files that were found changed.
    pub enum ReloadResult {
        /// They are in use now.
        Swapped = "swapped",
        /// They were no good, and the old ones stay in use.
        Failed = "failed",
    }
}

reasons! {
    /// Why a connection was asked to go elsewhere.
    pub enum RetiredReason {
        /// It has reached `limits.connection_age`.
        Age = "age",
        /// It has had no call for `limits.idle_connection`.
        Idle = "idle",
    }
}

reasons! {
    /// Why a call was turned away or ended: what its agent said, or what others take already.
    pub enum BadInput {
        /// A message announces more bytes than the limit.
        Oversize = "oversize",
        /// Not a gRPC request: method, content type or message flag.
        NotGrpc = "not_grpc",
        /// The call ended inside a message.
        Truncated = "truncated",
        /// A compression we do not know, or a body that does not decompress.
        Encoding = "encoding",
        /// No route knows the method.
        UnknownMethod = "unknown_method",
        /// The method belongs to another listener's flow.
        WrongFlow = "wrong_flow",
        /// A message is not the protobuf its method carries.
        Malformed = "malformed",
        /// The call's token is wrong or missing.
        Authentication = "authentication",
        /// As many calls as allowed are open on the listener.
        Limit = "limit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_the_place_in_all() {
        assert!(LostReason::ALL.iter().enumerate().all(|(at, reason)| reason.index() == at));
        assert!(RouteOutcome::ALL.iter().enumerate().all(|(at, outcome)| outcome.index() == at));
        assert!(RefusedReason::ALL.iter().enumerate().all(|(at, reason)| reason.index() == at));
        assert!(ReloadResult::ALL.iter().enumerate().all(|(at, result)| result.index() == at));
        assert!(RetiredReason::ALL.iter().enumerate().all(|(at, reason)| reason.index() == at));
        assert!(BadInput::ALL.iter().enumerate().all(|(at, reason)| reason.index() == at));
    }
}
