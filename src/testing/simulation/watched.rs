//! A log that tells what was asked of it, and what it promised.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::{Lsn, Timestamp};
use crate::store::committer::Writer;
use crate::store::journal::{self, FrameRef, LocalLog, Log};

/// A frame, as it was given to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::testing) struct Frame {
    pub first: Lsn,
    pub count: u32,
    pub at: Timestamp,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The lsn of its last event.
    pub fn last(&self) -> Lsn {
        Lsn(self.first.0 + u64::from(self.count) - 1)
    }
}

/// What a log was asked, and what it promised.
#[derive(Default)]
pub(in crate::testing) struct Told {
    /// Frames that it said are durable, since the last look.
    pub durable: Vec<Frame>,
    /// The one that it failed to write, if it did.
    pub unknown: Option<Frame>,
    /// The term that ends while the next frame is written.
    pub ends: Option<Writer>,
}

/// Watches a log.
pub(in crate::testing) struct Watched {
    pub log: LocalLog,
    pub told: Arc<Mutex<Told>>,
}

impl Log for Watched {
    fn append(&mut self, frame: &FrameRef<'_>) -> Result<(), journal::Error> {
        let FrameRef { first_lsn: first, count, at, payload } = *frame;
        let asked = Frame { first, count, at, payload: payload.to_vec() };
        let ends = self.told.lock().ends.take();
        if let Some(term) = ends {
            term.end();
        }
        let outcome = self.log.append(frame);
        let mut told = self.told.lock();
        match outcome {
            Ok(()) => told.durable.push(asked),
            Err(_) => told.unknown = Some(asked),
        }
        outcome
    }

    fn seal(&mut self) -> Result<(), journal::Error> {
        self.log.seal()
    }
}
