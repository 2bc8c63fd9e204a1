//! A connection of the load: what the peer allows on it, and what comes back.

use std::io::{self, ErrorKind};

use switchyard::wire::http2::hpack::decode::Decoder;

use crate::h2::socket::{Beginning, Socket};
use crate::h2::{ACK, ById, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, GOAWAY, HEAD_BYTES};
use crate::h2::{HEADERS, Head, PING, PREFACE, Peer, RST_STREAM, SETTINGS, WINDOW_BYTES, WINDOW_UPDATE};
use crate::h2::{broken, number, put_field, put_frame, put_settings, put_string, put_window_update};

use super::Run;
use super::agent::{Agent, Stage};

/// Replies' bytes after which the connection's window is given back.
const RELEASE_BYTES: u32 = WINDOW_BYTES / 4;
/// Streams of a connection end here: their ids have 31 bits.
const STREAM_MAX: u32 = 1 << 30;

pub struct Link {
    pub socket: Socket,
    pub slot: usize,
    pub peer: Peer,
    /// The window of the whole connection.
    pub window: i64,
    /// Whether the socket takes nothing at the moment.
    pub is_blocked: bool,
    /// Whether the peer's SETTINGS have come.
    pub is_ready: bool,
    /// Whether the peer takes no new streams.
    pub is_going: bool,
    /// Which agent is first in the next round.
    pub turn: usize,
    /// Frames to be written before all others.
    pub pending: Vec<u8>,
    /// Agents of the slot by their streams.
    streams: ById<u32>,
    next_stream: u32,
    beginning: Beginning,
    decoder: Decoder,
    /// A header block up to its last CONTINUATION, and the HEADERS it began with.
    block: Vec<u8>,
    block_head: Option<Head>,
    unreleased: u32,
}

impl Link {
    pub fn new(socket: Socket, slot: usize) -> Self {
        let mut pending = PREFACE.to_vec();
        put_settings(&mut pending, &[(ENABLE_PUSH, 0)]);
        Self {
            socket,
            slot,
            peer: Peer::default(),
            window: i64::from(WINDOW_BYTES),
            is_blocked: true,
            is_ready: false,
            is_going: false,
            turn: 0,
            pending,
            streams: ById::default(),
            next_stream: 1,
            beginning: Beginning::default(),
            decoder: Decoder::new(),
            block: Vec::new(),
            block_head: None,
            unreleased: 0,
        }
    }

    pub fn may_open(&self) -> bool {
        self.is_ready && !self.is_going && (self.streams.len() as u64) < u64::from(self.peer.streams_max)
    }

    /// The id of a new stream.
    pub fn open(&mut self, agent: u32) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.is_going |= self.next_stream > STREAM_MAX;
        self.streams.insert(stream, agent);
        stream
    }

    pub fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Writes `frames` behind what is pending; what does not go stays pending.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(frames);
            let (written, is_blocked) = write_some(&mut self.socket, &self.pending)?;
            self.pending.drain(..written);
            self.is_blocked = is_blocked;
            return Ok(());
        }
        let (written, is_blocked) = write_some(&mut self.socket, frames)?;
        self.pending.extend_from_slice(&frames[written..]);
        self.is_blocked = is_blocked;
        Ok(())
    }

    /// Reads and takes everything that is there.
    ///
    /// # Errors
    /// When the connection is lost, or the peer breaks the protocol.
    pub fn read(&mut self, buffer: &mut [u8], agents: &mut [Agent], run: &mut Run) -> io::Result<()> {
        loop {
            let gulp = match self.beginning.read(&mut self.socket, buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                gulp => gulp?,
            };
            let mut rest = &buffer[..gulp.bytes];
            while let Some(head) = Head::read(rest) {
                let Some(payload) = rest.get(HEAD_BYTES..HEAD_BYTES + head.length) else { break };
                self.take(head, payload, agents, run)?;
                rest = &rest[HEAD_BYTES + head.length..];
            }
            self.beginning.keep(rest);
            if !gulp.is_more {
                return Ok(());
            }
        }
    }

    fn take(&mut self, head: Head, payload: &[u8], agents: &mut [Agent], run: &mut Run) -> io::Result<()> {
        match head.kind {
            DATA => {
                self.unreleased += head.length as u32;
                if self.unreleased >= RELEASE_BYTES {
                    put_window_update(&mut self.pending, 0, self.unreleased);
                    self.unreleased = 0;
                }
                if head.has(END_STREAM) {
                    self.replied(head.stream, agents, run);
                }
            }
            HEADERS => {
                self.block.clear();
                self.block.extend_from_slice(head.content(payload)?);
                self.block_head = Some(head);
                if head.has(END_HEADERS) {
                    self.read_block(agents, run)?;
                }
            }
            CONTINUATION => {
                self.block.extend_from_slice(payload);
                if head.has(END_HEADERS) {
                    self.read_block(agents, run)?;
                }
            }
            RST_STREAM => {
                if let Some(agent) = self.streams.remove(&head.stream) {
                    agents[agent as usize].ended(Some(&format!("reset {}", number(payload))), run);
                }
            }
            SETTINGS if !head.has(ACK) => {
                let change = self.peer.take(payload);
                for agent in self.streams.values() {
                    agents[*agent as usize].window += change;
                }
                self.is_ready = true;
                put_frame(&mut self.pending, SETTINGS, ACK, 0, &[]);
            }
            PING if !head.has(ACK) => put_frame(&mut self.pending, PING, ACK, 0, payload),
            GOAWAY => self.refuse_above(number(payload) & 0x7fff_ffff, agents, run),
            WINDOW_UPDATE => {
                let bytes = i64::from(number(payload) & 0x7fff_ffff);
                if head.stream == 0 {
                    self.window += bytes;
                } else if let Some(agent) = self.streams.get(&head.stream) {
                    agents[*agent as usize].window += bytes;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_block(&mut self, agents: &mut [Agent], run: &mut Run) -> io::Result<()> {
        let head = self.block_head.take().ok_or_else(|| broken("CONTINUATION without HEADERS"))?;
        let (mut http, mut grpc) = (None, None);
        // The block of a stream that is gone is read all the same: the table has to follow.
        let read = self.decoder.decode(&self.block, |name, value| {
            let number = || std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            match name.as_bytes() {
                b":status" => http = number(),
                // A status that is no number is nothing a peer should send: 2 is UNKNOWN.
                b"grpc-status" => grpc = number().or(Some(2)),
                _ => {}
            }
        });
        read.map_err(io::Error::other)?;
        if let Some(agent) = self.streams.get(&head.stream) {
            let agent = &mut agents[*agent as usize];
            agent.http_status = http.or(agent.http_status);
            agent.grpc_status = grpc.or(agent.grpc_status);
        }
        if head.has(END_STREAM) {
            self.replied(head.stream, agents, run);
        }
        Ok(())
    }

    fn replied(&mut self, stream: u32, agents: &mut [Agent], run: &mut Run) {
        if let Some(agent) = self.streams.remove(&stream) {
            agents[agent as usize].replied(run, &mut self.pending);
        }
    }

    fn refuse_above(&mut self, last: u32, agents: &mut [Agent], run: &mut Run) {
        self.is_going = true;
        self.streams.retain(|stream, agent| {
            if *stream > last {
                agents[*agent as usize].ended(Some("not looked at, says GOAWAY"), run);
            }
            *stream <= last
        });
    }

    /// The connection is lost, and all its streams with it.
    pub fn lose(&mut self, agents: &mut [Agent], run: &mut Run) {
        for (_, agent) in self.streams.drain() {
            let agent = &mut agents[agent as usize];
            debug_assert!(matches!(agent.stage, Stage::Sending | Stage::Awaiting), "only these have streams");
            agent.ended(Some("lost with its connection"), run);
        }
    }
}

/// Answers how much went, and whether the socket is full: one that takes less than it is offered is.
fn write_some(socket: &mut Socket, bytes: &[u8]) -> io::Result<(usize, bool)> {
    match socket.write(bytes) {
        Ok(written) => Ok((written, written < bytes.len())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((0, true)),
        Err(error) => Err(error),
    }
}

/// What a call begins with, all of it literal: no peer may say that its table was not ready.
pub fn header_block(path: &str, authority: &str, is_tls: bool) -> Vec<u8> {
    // From the static table (RFC 7541, appendix A): POST; http or https.
    let mut block = vec![0x83, if is_tls { 0x87 } else { 0x86 }];
    // Names from it, values of our own: :path, :authority.
    block.push(0x04);
    put_string(&mut block, path);
    block.push(0x01);
    put_string(&mut block, authority);
    put_field(&mut block, "content-type", "application/grpc");
    put_field(&mut block, "te", "trailers");
    put_field(&mut block, "user-agent", "peers-load");
    block
}
