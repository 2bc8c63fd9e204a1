//! The generator: streams that send what they are told when it is due, from one thread that never blocks.
//!
//! A paced message is one DATA frame and one write at its own time, as agents send; what could not be sent then is sent
//! as soon as it can be, with the stamp of when it was due. Sleeps may be 50 µs too long, as the kernel lets them be: at
//! 32,000 messages a second punctual ones cost 18 µs a message instead of 10. A saturating stream takes its turn with
//! the others of its connection, a message each, into writes of 64 KiB.

mod agent;
mod connecting;
mod link;
mod message;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event};
use rustls::ClientConfig;

use crate::h2::WRITE_BYTES;
use crate::h2::clock::{self, Lengths};
use crate::h2::socket::{self, GULP_BYTES};
use crate::spec::{Ends, LoadOutcome, LoadSpec, Pace};

use agent::{Agent, Did, Stage};
use link::{Link, header_block};
use message::Messages;

/// How long replies may take once everything is said.
const REPLIES_NS: u64 = 5_000_000_000;
/// How long nothing at all may come or go before a load gives up.
const STUCK_NS: u64 = 30_000_000_000;
const EVENTS: usize = 256;

/// What all agents share.
pub struct Run {
    messages: Messages,
    /// The header block every call begins with.
    head: Vec<u8>,
    now: u64,
    /// Whether nothing more is to be begun.
    is_over: bool,
    per_stream: u64,
    first: u32,
    /// Agents that still have something to begin, and agents that are through.
    senders: u32,
    done: u32,
    sent: u64,
    replies: u64,
    in_doubt: u64,
    errors: BTreeMap<String, u64>,
    reply: Lengths,
    late: Lengths,
    /// Agents that want to be looked at again, and when.
    wakes: Vec<(u64, u32)>,
}

/// One connection and whatever comes after it.
struct Slot {
    agents: Vec<Agent>,
    /// The connection that takes new streams.
    link: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Due(u32),
    Wake(u32),
    Connect(usize),
}

struct Load<'a> {
    spec: &'a LoadSpec,
    tls: Option<Arc<ClientConfig>>,
    epoll: rustix::fd::OwnedFd,
    /// Every connection that was ever made; `None`: it is gone. Events name them by their place.
    links: Vec<Option<Link>>,
    slots: Vec<Slot>,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    /// Connections that could go on writing.
    hot: Vec<usize>,
    begun: u64,
    unsent: u64,
    run: Run,
    out: Vec<u8>,
    input: Vec<u8>,
}

/// Sends what `spec` says and waits for the replies.
///
/// # Errors
/// When there is no epoll to be had or the authority cannot be read; what befalls connections is counted.
pub fn run(spec: &LoadSpec) -> io::Result<LoadOutcome> {
    let mut load = Load::new(spec)?;
    load.work()?;
    Ok(load.outcome())
}

// === impl Load ===

impl<'a> Load<'a> {
    fn new(spec: &'a LoadSpec) -> io::Result<Self> {
        let messages = Messages::new(spec.traffic, spec.message_bytes as usize);
        let streams = spec.connections * spec.streams_per_connection;
        let calls = |at: u32| match spec.ends {
            Ends::AfterSeconds(_) => u64::MAX,
            Ends::AfterMessages(all) => {
                let calls = all.div_ceil(u64::from(messages.stamps));
                calls / u64::from(streams) + u64::from(u64::from(at) < calls % u64::from(streams))
            }
        };
        let interval = |at: u32| match (spec.busy, spec.pace) {
            (Some(rate), _) if at == 0 => (1e9 / rate) as u64,
            (_, Pace::PerSecond(rate)) => (1e9 / rate) as u64,
            (_, Pace::Saturate) => 0,
        };
        let agent = |at: u32| Agent::new(spec.first_stream + at, interval(at), calls(at));
        let of_slot = |slot: u32| slot * spec.streams_per_connection..(slot + 1) * spec.streams_per_connection;
        let slots: Vec<Slot> =
            (0..spec.connections).map(|slot| Slot { agents: of_slot(slot).map(agent).collect(), link: None }).collect();
        let idle = (0..streams).filter(|at| calls(*at) == 0).count() as u32;
        let run = Run {
            head: header_block(messages.path, &spec.to.to_string(), spec.tls.is_some()),
            per_stream: if messages.is_unary { 1 } else { spec.messages_per_stream.unwrap_or(u64::MAX) },
            messages,
            now: clock::now(),
            is_over: false,
            first: spec.first_stream,
            senders: streams - idle,
            done: 0,
            sent: 0,
            replies: 0,
            in_doubt: 0,
            errors: BTreeMap::new(),
            reply: Lengths::new(),
            late: Lengths::new(),
            wakes: Vec::new(),
        };
        let ramp_ns = u64::from(spec.ramp_ms) * 1_000_000;
        let connects = (0..spec.connections as usize)
            .map(|slot| Reverse((run.now + ramp_ns * slot as u64 / u64::from(spec.connections), Timer::Connect(slot))));
        Ok(Self {
            spec,
            tls: spec.tls.as_deref().map(socket::client_config).transpose()?,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            links: Vec::new(),
            slots,
            timers: connects.collect(),
            hot: Vec::new(),
            begun: run.now,
            unsent: 0,
            run,
            out: Vec::with_capacity(2 * WRITE_BYTES),
            input: vec![0; GULP_BYTES],
        })
    }

    fn work(&mut self) -> io::Result<()> {
        let agents = self.spec.connections * self.spec.streams_per_connection;
        let ramp_ns = u64::from(self.spec.ramp_ms) * 1_000_000;
        let mut end = match self.spec.ends {
            Ends::AfterSeconds(seconds) => self.begun + ramp_ns + (seconds * 1e9) as u64,
            Ends::AfterMessages(_) => u64::MAX,
        };
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut moved = self.run.now;
        loop {
            self.run.now = clock::now();
            self.timers_due();
            if !self.run.is_over && (self.run.now >= end || self.run.senders == 0) {
                self.say_no_more();
                end = self.run.now + REPLIES_NS;
            }
            self.write_on();
            if self.run.done == agents {
                return Ok(());
            }
            if self.run.is_over && self.run.now >= end {
                self.give_up("unanswered");
                return Ok(());
            }
            if self.run.now > moved + STUCK_NS {
                self.give_up("stuck");
                return Ok(());
            }
            let next = self.timers.peek().map_or(u64::MAX, |Reverse((at, _))| *at).min(end).min(moved + STUCK_NS + 1);
            let is_said = self.run.senders == 0 && !self.run.is_over;
            let wait = if self.hot.is_empty() && !is_said { next.saturating_sub(clock::now()) } else { 0 };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&clock::timespec(wait))) {
                Err(rustix::io::Errno::INTR) => {}
                other => drop(other?),
            }
            self.run.now = clock::now();
            if !events.is_empty() {
                moved = self.run.now;
            }
            for event in &events {
                let (link, flags) = (event.data.u64() as usize, event.flags);
                self.event(link, flags);
            }
        }
    }

    /// Counts the streams that are left under `why`.
    fn give_up(&mut self, why: &str) {
        let open = |agent: &&Agent| matches!(agent.stage, Stage::Sending | Stage::Awaiting);
        for agent in self.slots.iter().flat_map(|slot| &slot.agents).filter(open) {
            self.run.error(why);
            self.run.in_doubt += agent.said_on_stream(&self.run);
        }
    }

    fn outcome(&self) -> LoadOutcome {
        LoadOutcome {
            sent: self.run.sent,
            unsent: self.unsent,
            replies: self.run.replies,
            in_doubt: self.run.in_doubt,
            errors: self.run.errors.clone(),
            reply: self.run.reply.percentiles(),
            cpu_us: clock::cpu_us(),
            late: self.run.late.percentiles(),
        }
    }

    fn timers_due(&mut self) {
        let wakes = self.run.wakes.drain(..).map(|(at, agent)| Reverse((at, Timer::Wake(agent))));
        self.timers.extend(wakes);
        // A bounded number: what came meanwhile has to be read, too.
        for _ in 0..EVENTS {
            let Some(&Reverse((at, timer))) = self.timers.peek() else { return };
            if at > self.run.now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Due(agent) => self.send_due(agent),
                Timer::Wake(agent) => {
                    let slot = (agent / self.spec.streams_per_connection) as usize;
                    if let Some(link) = self.slots[slot].link {
                        self.serve(link);
                    }
                }
                Timer::Connect(slot) => self.connect(slot),
            }
            self.run.now = clock::now();
        }
    }

    /// Lets every stream be half-closed.
    fn say_no_more(&mut self) {
        self.run.is_over = true;
        let is_ready =
            |slot: &Slot| slot.link.is_some_and(|at| self.links[at].as_ref().is_some_and(|link| link.is_ready));
        for _ in self.slots.iter().filter(|slot| !is_ready(slot)) {
            self.run.error("not connected at the end");
        }
        for agent in self.slots.iter_mut().flat_map(|slot| &mut slot.agents) {
            self.unsent += agent.overdue(self.run.now);
            if agent.stage == Stage::Idle {
                agent.stage = Stage::Done;
                self.run.done += 1;
            }
        }
        self.hot = (0..self.links.len()).collect();
    }

    /// Sends what is due of a paced agent, one write each, and sets its timer for the next one.
    fn send_due(&mut self, place: u32) {
        let slot = &mut self.slots[(place / self.spec.streams_per_connection) as usize];
        let at = place % self.spec.streams_per_connection;
        let agent = &mut slot.agents[at as usize];
        agent.is_behind = true;
        if agent.stage == Stage::Idle
            && let Some(current) = slot.link
        {
            agent.link = current;
        }
        let index = agent.link;
        let Some(Some(link)) = self.links.get_mut(index) else { return };
        while !link.is_blocked && !self.run.is_over && agent.stage != Stage::Done {
            if agent.due > self.run.now {
                agent.is_behind = false;
                self.timers.push(Reverse((agent.due, Timer::Due(place))));
                return;
            }
            self.out.clear();
            let did = agent.step(at, link, &mut self.run, &mut self.out);
            if did == Did::Message {
                self.run.late.record(self.run.now - agent.due);
                agent.due += agent.interval;
            }
            if let Err(error) = link.write(&self.out) {
                return self.lose(index, &error);
            }
            if did == Did::Nothing {
                return;
            }
            self.run.now = clock::now();
        }
    }

    /// Lets everybody on a connection do what is possible now.
    fn serve(&mut self, at: usize) {
        self.write_turn(at);
        let Some(Some(link)) = self.links.get(at) else { return };
        let slot = link.slot;
        if self.run.is_over {
            return;
        }
        for agent in 0..self.slots[slot].agents.len() {
            if self.slots[slot].agents[agent].is_behind {
                self.send_due(slot as u32 * self.spec.streams_per_connection + agent as u32);
            }
        }
    }

    /// One write of what eager agents have to say; the connection stays hot while there may be more.
    fn write_turn(&mut self, at: usize) {
        let Some(Some(link)) = self.links.get_mut(at) else { return };
        if link.is_blocked {
            return;
        }
        let slot = &mut self.slots[link.slot];
        let is_current = slot.link == Some(at);
        self.out.clear();
        let agents = slot.agents.len();
        let (mut turn, mut idle) = (link.turn, 0);
        // What the socket did not take the last time counts: it would only grow.
        while idle < agents && link.pending.len() + self.out.len() < WRITE_BYTES {
            let agent = &mut slot.agents[turn];
            if agent.stage == Stage::Idle && is_current {
                agent.link = at;
            }
            let did = match agent.stage {
                _ if agent.link != at => Did::Nothing,
                _ if agent.is_eager(&self.run) => agent.step(turn as u32, link, &mut self.run, &mut self.out),
                Stage::Idle => agent.begin(turn as u32, link, &self.run, &mut self.out),
                _ => Did::Nothing,
            };
            idle = if did == Did::Nothing { idle + 1 } else { 0 };
            turn = if turn + 1 == agents { 0 } else { turn + 1 };
        }
        link.turn = turn;
        let is_full = idle < agents;
        if self.out.is_empty() && link.pending.is_empty() {
            // TLS may have said something while reading.
            match link.socket.flush() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.lose(at, &error),
                _ => {}
            }
            return;
        }
        if let Err(error) = link.write(&self.out) {
            return self.lose(at, &error);
        }
        if is_full && !link.is_blocked && !self.hot.contains(&at) {
            self.hot.push(at);
        }
    }

    fn write_on(&mut self) {
        // Those that stay hot enter the list anew.
        for at in std::mem::take(&mut self.hot) {
            self.run.now = clock::now();
            self.write_turn(at);
        }
    }
}

// === impl Run ===

impl Run {
    fn error(&mut self, what: &str) {
        match self.errors.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(what.to_owned(), 1)),
        }
    }
}
