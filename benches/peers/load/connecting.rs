//! Connections of the load as they come and go: made, read from, retired after GOAWAY, lost, made again.

use std::cmp::Reverse;
use std::io;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::h2::socket::Socket;

use super::link::Link;
use super::{Load, Timer};

/// How long after it was lost or refused a connection is made again.
const RECONNECT_NS: u64 = 100_000_000;

impl Load<'_> {
    pub(super) fn connect(&mut self, slot: usize) {
        if self.run.is_over || self.slots[slot].link.is_some() {
            return;
        }
        let at = self.links.len();
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let connected = Socket::connect(self.spec.to, self.tls.as_ref()).and_then(|socket| {
            epoll::add(&self.epoll, &socket, EventData::new_u64(at as u64), flags)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => {
                self.links.push(Some(Link::new(socket, slot)));
                self.slots[slot].link = Some(at);
            }
            Err(error) => {
                self.run.error(&format!("connect: {}", error.kind()));
                self.timers.push(Reverse((self.run.now + RECONNECT_NS, Timer::Connect(slot))));
            }
        }
    }

    pub(super) fn event(&mut self, at: usize, flags: EventFlags) {
        let Some(Some(link)) = self.links.get_mut(at) else { return };
        let slot = &mut self.slots[link.slot];
        let was_ready = link.is_ready;
        if flags.contains(EventFlags::OUT) {
            link.is_blocked = false;
        }
        if flags != EventFlags::OUT {
            if let Err(error) = link.read(&mut self.input, &mut slot.agents, &mut self.run) {
                return self.lose(at, &error);
            }
            // The end of a handshake lets writing begin, and no event says so.
            link.is_blocked &= self.tls.is_none();
        }
        if link.is_ready && !was_ready {
            self.begin_schedules(at);
        }
        self.serve(at);
        self.retire(at);
    }

    /// Lets agents of a new connection be due at the times their phases give them: evenly spread over the interval.
    fn begin_schedules(&mut self, at: usize) {
        let Some(Some(link)) = self.links.get_mut(at) else { return };
        let all = u64::from(self.spec.connections * self.spec.streams_per_connection);
        for agent in &mut self.slots[link.slot].agents {
            if agent.interval == 0 || agent.is_started {
                continue;
            }
            agent.is_started = true;
            let place = agent.number - self.run.first;
            // Neighbours in time are on different connections, so that what is read together was not sent together.
            let (of_link, nth) = (place / self.spec.streams_per_connection, place % self.spec.streams_per_connection);
            let turn = nth * self.spec.connections + of_link;
            let phase = (u128::from(agent.interval) * u128::from(turn) / u128::from(all)) as u64;
            let since = self.run.now - self.begun;
            agent.due = self.begun + phase + since.saturating_sub(phase).div_ceil(agent.interval) * agent.interval;
            self.timers.push(Reverse((agent.due, Timer::Due(place))));
        }
    }

    /// Closes a connection that has said GOAWAY once its streams have ended, and makes the one that comes after it.
    fn retire(&mut self, at: usize) {
        let Some(Some(link)) = self.links.get(at) else { return };
        if !link.is_going {
            return;
        }
        let (slot, has_streams) = (link.slot, link.has_streams());
        if self.slots[slot].link == Some(at) {
            self.slots[slot].link = None;
            self.connect(slot);
        }
        if !has_streams {
            self.links[at] = None;
        }
    }

    pub(super) fn lose(&mut self, at: usize, error: &io::Error) {
        let Some(mut link) = self.links[at].take() else { return };
        let slot = &mut self.slots[link.slot];
        link.lose(&mut slot.agents, &mut self.run);
        if slot.link == Some(at) {
            slot.link = None;
            self.timers.push(Reverse((self.run.now + RECONNECT_NS, Timer::Connect(link.slot))));
            self.run.error(&format!("connection: {}", error.kind()));
        }
    }
}
