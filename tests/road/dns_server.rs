//! A small DNS server over UDP that says what a test wants said, and can be told to say something else at any time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// It answers until it is dropped.
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    says: Mutex<Says>,
    over: AtomicBool,
}

#[derive(Default)]
struct Says {
    /// By name in lower case, without the dot at its end. A name that is not here does not exist.
    names: HashMap<String, Records>,
    is_silent: bool,
    /// Questions that came since anything was changed.
    asked: u64,
}

#[derive(Default)]
struct Records {
    addresses: Vec<IpAddr>,
    services: Vec<Service>,
    ttl: u32,
}

/// One SRV record.
#[derive(Clone)]
pub struct Service {
    pub target: &'static str,
    pub port: u16,
    pub weight: u16,
    pub priority: u16,
}

const HEADER_BYTES: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const NXDOMAIN: u8 = 3;

// === impl DnsServer ===

impl DnsServer {
    /// One that knows no name yet.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        Self { address, shared, thread: Some(std::thread::spawn(move || serving.serve(&socket))) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name has these addresses from now on; without any it exists all the same.
    pub fn answer(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        self.change(|says| {
            let records = says.names.entry(name.to_owned()).or_default();
            (records.addresses, records.ttl) = (addresses.to_vec(), ttl);
        });
    }

    /// The name has these services from now on.
    pub fn srv(&self, name: &str, services: &[Service], ttl: u32) {
        self.change(|says| {
            let records = says.names.entry(name.to_owned()).or_default();
            (records.services, records.ttl) = (services.to_vec(), ttl);
        });
    }

    /// There is no such name from now on.
    pub fn nxdomain(&self, name: &str) {
        self.change(|says| says.names.remove(name));
    }

    /// It answers nothing from now on, or what it is told again.
    pub fn silence(&self, is_silent: bool) {
        self.change(|says| says.is_silent = is_silent);
    }

    /// Questions that came since anything was changed.
    pub fn asked(&self) -> u64 {
        self.shared.says.lock().unwrap().asked
    }

    fn change<T>(&self, change: impl FnOnce(&mut Says) -> T) {
        let mut says = self.shared.says.lock().unwrap();
        change(&mut says);
        says.asked = 0;
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn serve(&self, socket: &UdpSocket) {
        let mut packet = [0; 1_500];
        while !self.over.load(SeqCst) {
            // The only error is that nothing came for a while.
            let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
            let mut says = self.says.lock().unwrap();
            says.asked += 1;
            let Some(answer) = says.to(&packet[..length]).filter(|_| !says.is_silent) else { continue };
            drop(says);
            socket.send_to(&answer, from).unwrap();
        }
    }
}

// === impl Says ===

impl Says {
    /// The answer to one question; RFC 1035, section 4.
    fn to(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let (name, kind, end) = question(packet)?;
        let records = self.names.get(&name);
        let data: Vec<Vec<u8>> = match (records, kind) {
            (None, _) => Vec::new(),
            (Some(records), SRV) => records.services.iter().map(Service::data).collect(),
            (Some(records), _) => records.addresses.iter().filter_map(|address| address_data(address, kind)).collect(),
        };
        let code = if records.is_none() { NXDOMAIN } else { 0 };
        let mut out = packet[..2].to_vec();
        // A response to a query that wanted recursion, which is available.
        out.extend([0x81, 0x80 | code]);
        for count in [1, u16::try_from(data.len()).unwrap(), 0, 0] {
            out.extend(count.to_be_bytes());
        }
        out.extend(&packet[HEADER_BYTES..end]);
        let ttl = records.map_or(0, |records| records.ttl);
        for data in data {
            // The name is that of the question, which stands behind the header; class IN.
            out.extend([0xc0, HEADER_BYTES as u8]);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1]);
            out.extend(ttl.to_be_bytes());
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend(data);
        }
        Some(out)
    }
}

/// The name and kind of the question in a packet, and where it ends.
fn question(packet: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (HEADER_BYTES, Vec::new());
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

fn address_data(address: &IpAddr, kind: u16) -> Option<Vec<u8>> {
    match (address, kind) {
        (IpAddr::V4(address), A) => Some(address.octets().to_vec()),
        (IpAddr::V6(address), AAAA) => Some(address.octets().to_vec()),
        _ => None,
    }
}

// === impl Service ===

impl Service {
    fn data(&self) -> Vec<u8> {
        let mut data: Vec<u8> =
            [self.priority, self.weight, self.port].iter().flat_map(|number| number.to_be_bytes()).collect();
        for label in self.target.split('.') {
            data.push(u8::try_from(label.len()).unwrap());
            data.extend(label.as_bytes());
        }
        data.push(0);
        data
    }
}
