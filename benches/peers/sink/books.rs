//! What has arrived: each message's bit, so that lost and doubled ones can be told.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::h2::clock::Lengths;
use crate::h2::stamp::Stamp;

/// Streams above this are no streams of ours: what gave them was no stamp.
const STREAMS_MAX: u32 = 1 << 22;
/// Bytes of the file that are gathered at most.
const GATHERED_BYTES: usize = 64 << 10;

pub struct Books {
    /// A bit for each sequence number, by stream.
    arrived: Vec<Vec<u64>>,
    pub once: u64,
    pub twice: u64,
    pub unreadable: u64,
    pub latency: Lengths,
    file: Option<File>,
    gathered: Vec<u8>,
}

// === impl Books ===

impl Books {
    /// # Errors
    /// When the file cannot be made.
    pub fn new(file: Option<&Path>) -> io::Result<Self> {
        Ok(Self {
            arrived: Vec::new(),
            once: 0,
            twice: 0,
            unreadable: 0,
            latency: Lengths::new(),
            file: file.map(File::create).transpose()?,
            gathered: Vec::new(),
        })
    }

    /// Everything that arrived.
    pub fn entered(&self) -> u64 {
        self.once + self.twice + self.unreadable
    }

    /// Notes an arrival; `None` is a message whose stamp cannot be read.
    #[inline]
    pub fn enter(&mut self, stamp: Option<Stamp>, now: u64) {
        let Some(stamp) = stamp.filter(|stamp| stamp.stream < STREAMS_MAX) else {
            self.unreadable += 1;
            return;
        };
        let (stream, word) = (stamp.stream as usize, stamp.sequence as usize / 64);
        let bit = 1 << (stamp.sequence % 64);
        match self.arrived.get_mut(stream).and_then(|words| words.get_mut(word)) {
            Some(bits) if *bits & bit != 0 => self.twice += 1,
            Some(bits) => {
                *bits |= bit;
                self.once += 1;
            }
            None => {
                if self.arrived.len() <= stream {
                    self.arrived.resize(stream + 1, Vec::new());
                }
                // Twice what is needed: a stream grows seldom.
                self.arrived[stream].resize(word * 2 + 16, 0);
                self.arrived[stream][word] |= bit;
                self.once += 1;
            }
        }
        self.latency.record(now.saturating_sub(stamp.due));
        if self.file.is_some() {
            self.gathered.extend_from_slice(&stamp.stream.to_le_bytes());
            self.gathered.extend_from_slice(&stamp.sequence.to_le_bytes());
        }
    }

    /// Writes the file up to what was entered last.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file
            && !self.gathered.is_empty()
        {
            file.write_all(&self.gathered)?;
            self.gathered.clear();
            self.gathered.shrink_to(GATHERED_BYTES);
        }
        Ok(())
    }
}
