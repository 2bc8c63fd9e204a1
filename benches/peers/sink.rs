//! The sink: backends that take everything, find the stamp in each message and keep books, all on one thread.

mod books;
mod connection;
mod stamps;
mod stream;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustls::ServerConfig;

use crate::h2::clock;
use crate::h2::socket::{self, GULP_BYTES, Socket};
use crate::spec::{SinkReport, SinkSpec};

use books::Books;
use connection::{Chore, Connection};
use stamps::Stamps;

const EVENTS: usize = 256;
/// Events of connections have numbers below these.
const STDIN: u64 = u64::MAX;
const LISTENERS: u64 = 1 << 62;
/// How late a chore may be done so that several are done at once.
const LATE_NS: u64 = 1_000_000;

/// How it treats what comes.
pub struct Ways {
    stamps: Stamps,
    take_ns: u64,
    answer_after_ns: u64,
    window_bytes: u32,
}

struct Sink {
    ways: Ways,
    tls: Option<Arc<ServerConfig>>,
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    /// Every connection that ever came; `None`: it is gone. Events name them by their place.
    connections: Vec<Option<Box<Connection>>>,
    chores: BinaryHeap<Reverse<(u64, usize, u32, Chore)>>,
    books: Books,
    received: Vec<u64>,
    bytes: u64,
    input: Vec<u8>,
}

/// Listens, says where, and answers each line on stdin with a report until stdin ends.
///
/// # Errors
/// When an address, a certificate or the books cannot be had.
pub fn run(spec: &SinkSpec) -> io::Result<()> {
    let mut sink = Sink::new(spec)?;
    let addresses = sink.listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<SocketAddr>>>()?;
    say(&addresses)?;
    sink.work()
}

// === impl Sink ===

impl Sink {
    fn new(spec: &SinkSpec) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for (at, address) in (0..).zip(&spec.listen) {
            let listener = socket::listen(*address)?;
            epoll::add(&epoll, &listener, EventData::new_u64(LISTENERS + at), EventFlags::IN)?;
            listeners.push(listener);
        }
        epoll::add(&epoll, io::stdin(), EventData::new_u64(STDIN), EventFlags::IN)?;
        let tls = spec.tls.as_ref().map(|(certificate, key)| socket::server_config(certificate, key)).transpose()?;
        Ok(Self {
            ways: Ways {
                stamps: Stamps::of(spec.traffic),
                take_ns: u64::from(spec.take_us) * 1_000,
                answer_after_ns: u64::from(spec.answer_after_ms) * 1_000_000,
                window_bytes: spec.window_bytes,
            },
            tls,
            epoll,
            connections: Vec::new(),
            chores: BinaryHeap::new(),
            books: Books::new(spec.books.as_deref())?,
            received: vec![0; listeners.len()],
            listeners,
            bytes: 0,
            input: vec![0; GULP_BYTES],
        })
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            self.do_chores()?;
            let wait = self
                .chores
                .peek()
                .map(|Reverse((at, ..))| clock::timespec((at + LATE_NS).saturating_sub(clock::now())));
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                other => drop(other?),
            }
            for event in &events {
                let (token, flags) = (event.data.u64(), event.flags);
                match token {
                    STDIN if !self.report()? => return Ok(()),
                    STDIN => {}
                    LISTENERS.. => self.accept((token - LISTENERS) as usize)?,
                    _ => self.event(token as usize, flags)?,
                }
            }
        }
    }

    fn accept(&mut self, address: usize) -> io::Result<()> {
        loop {
            let stream = match self.listeners[address].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // One that has gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let socket = Socket::accepted(stream, self.tls.as_ref())?;
            let token = EventData::new_u64(self.connections.len() as u64);
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, token, flags)?;
            self.connections.push(Some(Box::new(Connection::new(socket, address, &self.ways))));
        }
    }

    fn event(&mut self, at: usize, flags: EventFlags) -> io::Result<()> {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Ok(()) };
        if flags.contains(EventFlags::OUT) || self.tls.is_some() {
            connection.is_blocked = false;
        }
        let before = self.books.entered();
        let mut later = |due, stream, chore| self.chores.push(Reverse((due, at, stream, chore)));
        let mut done = Ok(());
        if flags != EventFlags::OUT {
            let read = connection.read(&mut self.input, &self.ways, &mut self.books, &mut later);
            done = read.map(|bytes| self.bytes += bytes);
        }
        self.received[connection.address] += self.books.entered() - before;
        // What is answered has to stand in the books.
        self.books.write()?;
        if done.and_then(|()| connection.write()).is_err() {
            self.connections[at] = None;
        }
        Ok(())
    }

    fn do_chores(&mut self) -> io::Result<()> {
        if self.chores.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let mut touched = Vec::new();
        while let Some(&Reverse((due, at, stream, chore))) = self.chores.peek()
            && due <= now
        {
            self.chores.pop();
            let Some(Some(connection)) = self.connections.get_mut(at) else { continue };
            let before = self.books.entered();
            let mut later = |due, stream, chore| self.chores.push(Reverse((due, at, stream, chore)));
            connection.look(stream, chore, &self.ways, &mut self.books, &mut later);
            self.received[connection.address] += self.books.entered() - before;
            touched.push(at);
        }
        self.books.write()?;
        touched.sort_unstable();
        touched.dedup();
        for at in touched {
            if let Some(Some(connection)) = self.connections.get_mut(at)
                && connection.write().is_err()
            {
                self.connections[at] = None;
            }
        }
        Ok(())
    }

    /// Answers the lines that have come; `false`: there will be no more.
    fn report(&mut self) -> io::Result<bool> {
        let mut lines = [0; 4096];
        let read = io::stdin().lock().read(&mut lines)?;
        for _ in lines[..read].iter().filter(|byte| **byte == b'\n') {
            let mut connections = vec![0; self.listeners.len()];
            for connection in self.connections.iter().flatten() {
                connections[connection.address] += 1;
            }
            say(&SinkReport {
                at_us: clock::now() / 1_000,
                received: self.received.clone(),
                connections,
                arrived_once: self.books.once,
                twice: self.books.twice,
                unreadable: self.books.unreadable,
                latency: self.books.latency.percentiles(),
                bytes: self.bytes,
                cpu_us: clock::cpu_us(),
            })?;
            self.books.latency.clear();
        }
        Ok(read > 0)
    }
}

fn say(line: &impl serde::Serialize) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, line)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
