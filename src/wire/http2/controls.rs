//! Frames that carry no message: resets, settings, pings, farewells, windows.

use super::Session;
use super::frame::{Fault, Head, INT31_MAX, Reason, flag, kind};
use super::patience::Nuisance;
use super::settings::{self, Setting};
use super::streams::Cause;

impl Session {
    pub(super) fn reset_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let code: [u8; 4] = payload.try_into().map_err(|_| Fault::size("RST_STREAM of a wrong length"))?;
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(Fault::protocol("RST_STREAM for a stream that was never opened"));
        }
        let Some(place) = self.streams.find(head.stream) else {
            return self.charge(Nuisance::Small, "too many resets of streams that are over");
        };
        let has_carried = self.streams[place].held_bytes > 0 || self.streams[place].chunk_bytes > 0;
        let nuisance = if has_carried { Nuisance::Reset } else { Nuisance::EarlyReset };
        self.break_off(place, Cause::Reset(Reason(u32::from_be_bytes(code))));
        // A client has opened its streams itself.
        if self.is_server { self.charge(nuisance, "too many streams are reset") } else { Ok(()) }
    }

    pub(super) fn settings_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Fault::size("an acknowledgement of SETTINGS with settings"));
            }
            self.acknowledged();
            return self.charge(Nuisance::Small, "too many SETTINGS");
        }
        self.charge(Nuisance::Settings, "too many SETTINGS")?;
        for setting in settings::read(payload, !self.is_server)? {
            match setting {
                Setting::TableBytes(bytes) => self.encoder.set_table_bytes_max(bytes),
                Setting::StreamsMax(streams) => self.theirs.streams_max = streams,
                Setting::PayloadBytes(bytes) => self.theirs.payload_bytes_max = bytes,
                Setting::WindowBytes(bytes) => self.resize_windows(bytes)?,
                Setting::Nothing => {}
            }
        }
        self.is_greeted = true;
        self.output.control(kind::SETTINGS, flag::ACK, 0, &[]);
        self.wake_owner();
        Ok(())
    }

    pub(super) fn ping_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::protocol("PING on a stream"));
        }
        if payload.len() != 8 {
            return Err(Fault::size("PING of a wrong length"));
        }
        self.charge(Nuisance::Small, "too many PINGs")?;
        if head.has(flag::ACK) {
            self.ponged(payload);
        } else {
            self.output.control(kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    pub(super) fn goaway_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::protocol("GOAWAY on a stream"));
        }
        let last = payload.first_chunk::<4>().filter(|_| payload.len() >= 8);
        let last = last.ok_or(Fault::size("GOAWAY of a wrong length"))?;
        let last = u32::from_be_bytes(*last) & INT31_MAX;
        self.charge(Nuisance::Settings, "too many GOAWAYs")?;
        if self.looked_at_max.is_some_and(|before| last > before) {
            return Err(Fault::protocol("GOAWAY that takes back an earlier one"));
        }
        self.looked_at_max = Some(last);
        for place in self.streams.places() {
            let is_ours = self.streams[place].id.is_multiple_of(2) == self.is_server;
            if is_ours && self.streams[place].id > last {
                self.break_off(place, Cause::NotProcessed);
            }
        }
        self.wake_owner();
        Ok(())
    }

    pub(super) fn window_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let more: [u8; 4] = payload.try_into().map_err(|_| Fault::size("WINDOW_UPDATE of a wrong length"))?;
        let more = u32::from_be_bytes(more) & INT31_MAX;
        self.charge(Nuisance::Small, "too many WINDOW_UPDATEs")?;
        // For a stream these two would be resets we are made to say (CVE-2025-8671); nobody honest needs to be spared.
        if more == 0 {
            return Err(Fault::protocol("WINDOW_UPDATE of nothing"));
        }
        self.widen(head.stream, more)
    }

    /// Adds to what we may send, on the connection or a stream.
    fn widen(&mut self, id: u32, more: u32) -> Result<(), Fault> {
        if id == 0 {
            self.send_window += i64::from(more);
            if self.send_window > i64::from(INT31_MAX) {
                return Err(Fault::window("the connection's window is larger than one can be"));
            }
            self.share_out();
            return Ok(());
        }
        let Some(place) = self.streams.find(id) else {
            return if self.is_idle(id) {
                Err(Fault::protocol("WINDOW_UPDATE for a stream that was never opened"))
            } else {
                Ok(())
            };
        };
        let stream = &mut self.streams[place];
        // One that is over has no window any more, though somebody may still hold it.
        if stream.is_over() {
            return Ok(());
        }
        stream.send_window += i64::from(more);
        if stream.send_window > i64::from(INT31_MAX) {
            return Err(Fault::window("a stream's window is larger than one can be"));
        }
        self.grant(place);
        Ok(())
    }
}
