//! Who may come in: places for connections, shares of sources, and descriptors that connections leave to others.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::metrics::{self, RefusedReason};

use super::{Settings, SourcePrefix};

/// How long accepting rests when there is no descriptor to be had: what comes meanwhile stays in the kernel's backlog.
pub const REST: Duration = Duration::from_millis(100);

/// How often one listener says the same in the log.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// What one listener lets in.
pub struct Admission {
    settings: Settings,
    handles: metrics::Listener,
    here: Arc<Semaphore>,
    everywhere: Arc<Semaphore>,
    sources: Arc<Sources>,
    reserve: Arc<Reserve>,
    said: HashMap<&'static str, Said>,
}

/// A connection's places among those allowed; dropped when it is over.
pub struct Places {
    _here: OwnedSemaphorePermit,
    _everywhere: OwnedSemaphorePermit,
    _of_source: Option<Share>,
}

/// The descriptors that agents' connections leave to backends, admin and health.
///
/// The kernel gives the lowest free number. So as long as no connection keeps a number from this one on, all numbers from
/// it on are for others, whoever closes what and in whatever order.
#[derive(Debug)]
pub struct Reserve(AtomicI32);

/// Open connections of one listener by their source. It holds a source only while that has a connection, so it is never
/// larger than the listener's limit of connections.
#[derive(Default)]
struct Sources(Mutex<HashMap<Source, usize>>);

/// The addresses that count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    network: IpAddr,
    bits: u32,
}

/// One connection of a source; dropping it gives the share back.
struct Share {
    sources: Arc<Sources>,
    source: Source,
}

/// When something was said last, and how often it happened since.
#[derive(Default)]
struct Said {
    last: Option<Instant>,
    since: u64,
}

// === impl Admission ===

impl Admission {
    /// The door of one listener; `everywhere` and `reserve` are shared by all of them.
    pub fn new(settings: Settings, everywhere: Arc<Semaphore>, reserve: Arc<Reserve>) -> Self {
        Self {
            handles: metrics::Listener::of(settings.name),
            here: Arc::new(Semaphore::new(settings.connections_max)),
            settings,
            everywhere,
            sources: Arc::default(),
            reserve,
            said: HashMap::new(),
        }
    }

    /// This listener's own place, taken before a connection is accepted, so that those over its limit wait in the kernel
    /// and cost nothing. Waits while there is none, and says so. Cancel-safe.
    pub async fn place(&mut self) -> OwnedSemaphorePermit {
        let here = Arc::clone(&self.here);
        self.take_place(&here).await
    }

    /// Lets an accepted connection in with all its places, or turns it away: then it is closed and `None`.
    ///
    /// Waits while all listeners together have as many connections as allowed, and while the connection would take a
    /// descriptor of the reserve. Cancelled meanwhile, it closes the connection.
    ///
    /// # Errors
    /// When the kernel gives no second descriptor for a connection that holds one of the reserve.
    pub async fn admit(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        here: OwnedSemaphorePermit,
    ) -> io::Result<Option<(TcpStream, Places)>> {
        let Ok(of_source) = self.share(peer.ip()) else { return Ok(None) };
        // Not before accept: an idle listener would hold a place for nobody.
        let everywhere = Arc::clone(&self.everywhere);
        let everywhere = self.take_place(&everywhere).await;
        let stream = self.outside_reserve(stream).await?;
        self.handles.connections.increment(1);
        Ok(Some((stream, Places { _here: here, _everywhere: everywhere, _of_source: of_source })))
    }

    /// The kernel gave nothing: says so, counts it and rests. Without the rest the acceptor would spin, for the backlog
    /// stays readable.
    pub async fn rest(&mut self, error: &io::Error) {
        if let Some(times) = self.may_say("emfile") {
            tracing::error!(listener = self.settings.name, %error, times, "cannot accept; resting");
        }
        self.handles.refused(RefusedReason::Emfile).increment(1);
        tokio::time::sleep(REST).await;
    }

    async fn take_place(&mut self, places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        if places.available_permits() == 0 {
            if let Some(times) = self.may_say("limit") {
                tracing::warn!(
                    listener = self.settings.name,
                    times,
                    "as many connections as allowed: the next ones wait"
                );
            }
            self.handles.refused(RefusedReason::Limit).increment(1);
        }
        Arc::clone(places).acquire_owned().await.expect("never closed")
    }

    /// The connection's share of its source, if sources have any; an error when the source has used up its own.
    fn share(&mut self, peer: IpAddr) -> Result<Option<Share>, ()> {
        let Some(most) = self.settings.connections_per_source_max else { return Ok(None) };
        let source = self.settings.source_prefix.source_of(peer);
        if let Some(share) = Sources::take(&self.sources, source, most) {
            return Ok(Some(share));
        }
        self.handles.refused(RefusedReason::Source).increment(1);
        if let Some(times) = self.may_say("source") {
            let (listener, source) = (self.settings.name, source.to_string());
            tracing::warn!(listener, source, most, times, "as many connections of one source as allowed: closed");
        }
        Err(())
    }

    /// Waits until the connection has a descriptor that is not of the reserve.
    async fn outside_reserve(&mut self, mut stream: TcpStream) -> io::Result<TcpStream> {
        if self.reserve.allows(stream.as_raw_fd()) {
            return Ok(stream);
        }
        if let Some(times) = self.may_say("reserve") {
            tracing::error!(
                listener = self.settings.name,
                times,
                "nearly out of file descriptors: connections wait, the rest is for backends and admin; raise the limit (ulimit -n)"
            );
        }
        self.handles.refused(RefusedReason::Emfile).increment(1);
        while !self.reserve.allows(stream.as_raw_fd()) {
            tokio::time::sleep(REST).await;
            // The lowest number that is free by now.
            stream = stream.try_clone()?;
        }
        Ok(stream)
    }

    /// Whether it is time to say this again, and how often it happened since it was said last, this time included.
    fn may_say(&mut self, what: &'static str) -> Option<u64> {
        self.said.entry(what).or_default().again(Instant::now())
    }
}

// === impl Reserve ===

impl Reserve {
    /// No reserve at all, until [`Self::keep_from`].
    pub fn none() -> Arc<Self> {
        Arc::new(Self(AtomicI32::new(RawFd::MAX)))
    }

    /// Keeps the descriptors from this number on.
    pub fn keep_from(&self, first: u64) {
        self.0.store(RawFd::try_from(first).unwrap_or(RawFd::MAX), Relaxed);
    }

    /// Whether an agent's connection may keep this descriptor.
    fn allows(&self, descriptor: RawFd) -> bool {
        descriptor < self.0.load(Relaxed)
    }
}

// === impl Sources ===

impl Sources {
    /// One more connection of a source, unless it has `most` already.
    fn take(this: &Arc<Self>, source: Source, most: usize) -> Option<Share> {
        let mut open = this.open();
        let count = open.entry(source).or_default();
        // With a limit of at least one an entry that was made here is filled here.
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Share { sources: Arc::clone(this), source })
    }

    /// A short lock, once a connection at its begin and once at its end.
    fn open(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.sources.open();
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

// === impl SourcePrefix ===

impl SourcePrefix {
    /// The source that an address belongs to. An IPv4 address that came in by IPv6 is an IPv4 address.
    pub fn source_of(self, address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let bits = self.ipv4_bits.min(u32::BITS);
                let mask = u32::MAX.checked_shl(u32::BITS - bits).unwrap_or(0);
                Source { network: Ipv4Addr::from_bits(address.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(address) => {
                let bits = self.ipv6_bits.min(u128::BITS);
                let mask = u128::MAX.checked_shl(u128::BITS - bits).unwrap_or(0);
                Source { network: Ipv6Addr::from_bits(address.to_bits() & mask).into(), bits }
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

// === impl Said ===

impl Said {
    fn again(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| now < last + SAY_EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: SourcePrefix = SourcePrefix { ipv4_bits: 32, ipv6_bits: 64 };

    fn source(prefix: SourcePrefix, address: &str) -> String {
        prefix.source_of(address.parse().unwrap()).to_string()
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(source(USUAL, "10.1.2.3"), "10.1.2.3/32");
        assert_eq!(source(USUAL, "::ffff:10.1.2.3"), "10.1.2.3/32");
        assert_eq!(source(USUAL, "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        let wide = SourcePrefix { ipv4_bits: 20, ipv6_bits: 128 };
        assert_eq!(source(wide, "10.1.255.3"), "10.1.240.0/20");
        assert_eq!(source(wide, "2001:db8::1"), "2001:db8::1/128");
    }

    #[test]
    fn a_source_has_its_share_until_its_connections_end() {
        let sources = Arc::new(Sources::default());
        let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|address| USUAL.source_of(address.parse().unwrap()));
        let held: Vec<_> = (0..2).map(|_| Sources::take(&sources, a, 2).unwrap()).collect();
        assert!(Sources::take(&sources, a, 2).is_none());
        let other = Sources::take(&sources, b, 2);
        assert!(other.is_some(), "another source has a share of its own");
        drop(held);
        assert!(Sources::take(&sources, a, 2).is_some());
        drop(other);
        assert!(sources.open().is_empty(), "nothing is kept of sources without connections");
    }

    #[test]
    fn what_happens_often_is_said_once_a_second_with_how_often() {
        let (mut said, start) = (Said::default(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(said.again(at(0)), Some(1));
        assert_eq!((said.again(at(10)), said.again(at(999))), (None, None));
        assert_eq!(said.again(at(1_000)), Some(3));
    }

    proptest! {
        #[test]
        fn addresses_are_one_source_exactly_if_their_first_bits_agree(one: u32, other: u32, bits in 8_u32..=32) {
            let prefix = SourcePrefix { ipv4_bits: bits, ..USUAL };
            let same = |address: u32| prefix.source_of(Ipv4Addr::from_bits(address).into());
            prop_assert_eq!(same(one) == same(other), (one ^ other).leading_zeros() >= bits);
            let near = one ^ (other & u32::MAX.checked_shr(bits).unwrap_or(0));
            prop_assert_eq!(same(one), same(near));
        }

        #[test]
        fn ipv6_addresses_too(one: u128, other: u128, bits in 16_u32..=128) {
            let prefix = SourcePrefix { ipv6_bits: bits, ..USUAL };
            // 2000::/3, where no address is an IPv4 address in disguise.
            let global = |bits: u128| Ipv6Addr::from_bits(bits >> 3 | 1 << 125);
            let same = |bits: u128| prefix.source_of(global(bits).into());
            let apart = global(one).to_bits() ^ global(other).to_bits();
            prop_assert_eq!(same(one) == same(other), apart.leading_zeros() >= bits);
        }
    }
}
