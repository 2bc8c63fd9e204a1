//! A TCP connection, plain or under TLS, that never blocks and is read in gulps.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use socket2::{Domain, Protocol, Type};

/// Where gulps are read into. One of TLS leaves [`RECORD_BYTES`] of it free.
pub const GULP_BYTES: usize = 256 << 10;
/// What a record read earlier may add to the plain text of a gulp.
const RECORD_BYTES: usize = 18 << 10;
/// The kernel lowers it to what the machine allows, 4,096 unless somebody changed that.
const BACKLOG: i32 = 16_384;
const ALPN: &[u8] = b"h2";

pub struct Socket {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
}

/// What one read brought.
#[derive(Debug, Clone, Copy)]
pub struct Gulp {
    /// Plain bytes; with TLS there may be none although something was read.
    pub bytes: usize,
    /// Whether the kernel may have more already: only then it will not tell.
    pub is_more: bool,
}

/// What was read and is not a whole frame yet. It is small: a frame less a byte.
#[derive(Debug, Default)]
pub struct Beginning(Vec<u8>);

thread_local! {
    /// Records as they came, between the kernel and rustls.
    static RECORDS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

// === impl Socket ===

impl Socket {
    /// Begins to connect; it is connected when it can be written to.
    ///
    /// # Errors
    /// When the connection is refused at once or no socket is to be had.
    pub fn connect(to: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            // EINPROGRESS has no kind of its own.
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let session = |config: &Arc<ClientConfig>| {
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)
        };
        let tls = tls.map(session).transpose()?;
        Ok(Self { stream: socket.into(), tls: tls.map(|session| unbounded(session.into())) })
    }

    /// Takes over what a listener accepted.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn accepted(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let session = |config: &Arc<ServerConfig>| ServerConnection::new(Arc::clone(config)).map_err(io::Error::other);
        let tls = tls.map(session).transpose()?;
        Ok(Self { stream, tls: tls.map(|session| unbounded(session.into())) })
    }

    /// Reads once. `into` is [`GULP_BYTES`] or little less.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing, `UnexpectedEof` at the end, and what sockets and TLS have.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<Gulp> {
        let Some(session) = &mut self.tls else {
            let bytes = some(self.stream.read(into)?)?;
            return Ok(Gulp { bytes, is_more: bytes == into.len() });
        };
        RECORDS.with_borrow_mut(|records| {
            records.resize(GULP_BYTES, 0);
            let asked = into.len() - RECORD_BYTES;
            let read = some(self.stream.read(&mut records[..asked])?)?;
            let (mut rest, mut bytes) = (&records[..read], 0);
            while !rest.is_empty() {
                session.read_tls(&mut rest)?;
                let state = session.process_new_packets().map_err(io::Error::other)?;
                let end = bytes + state.plaintext_bytes_to_read();
                session.reader().read_exact(&mut into[bytes..end])?;
                bytes = end;
            }
            Ok(Gulp { bytes, is_more: read == asked })
        })
    }

    /// Writes as much as goes; under TLS all of it, once what was written before is gone.
    ///
    /// # Errors
    /// `WouldBlock` when nothing goes, and what sockets have.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let Some(session) = &mut self.tls else {
            return self.stream.write(bytes);
        };
        if session.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = session.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(written),
        }
    }

    /// Writes what TLS has to say and has not said yet.
    ///
    /// # Errors
    /// `WouldBlock` when not all of it goes, and what sockets have.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.tls else {
            return Ok(());
        };
        while session.wants_write() {
            session.write_tls(&mut self.stream)?;
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

// === impl Beginning ===

impl Beginning {
    /// Reads behind what was left of the last time; the gulp counts both.
    ///
    /// # Errors
    /// Those of [`Socket::read`].
    pub fn read(&mut self, socket: &mut Socket, buffer: &mut [u8]) -> io::Result<Gulp> {
        let before = self.0.len();
        let gulp = socket.read(&mut buffer[before..])?;
        buffer[..before].copy_from_slice(&self.0);
        self.0.clear();
        Ok(Gulp { bytes: before + gulp.bytes, ..gulp })
    }

    pub fn keep(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Listens for connections, of which very many may come at once: the standard library lets only 128 wait, and those that
/// find no room come again a second later.
///
/// # Errors
/// When the address is taken or no socket is to be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A client's side of TLS.
///
/// # Errors
/// When the authority cannot be read.
pub fn client_config(authority: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let config = ClientConfig::builder_with_provider(one_cipher()).with_protocol_versions(&[&TLS13]);
    let mut config = config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// A server's side of TLS.
///
/// # Errors
/// When certificate or key cannot be read or do not belong together.
pub fn server_config(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?;
    let chain = chain.collect::<Result<_, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(one_cipher()).with_protocol_versions(&[&TLS13]);
    let config = config.map_err(io::Error::other)?.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(io::Error::other)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// TLS 1.3 with AES-128-GCM, so that all peers encrypt alike.
fn one_cipher() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(provider)
}

fn unbounded(mut session: Connection) -> Box<Connection> {
    // Whoever writes waits until everything before is gone, so there is never more than one write in there.
    session.set_buffer_limit(None);
    Box::new(session)
}

fn some(bytes: usize) -> io::Result<usize> {
    if bytes == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}
