//! What happened, as it becomes durable: all events from an lsn on.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Engine, Inner};
use crate::domain::Lsn;
use crate::error::Error;
use crate::store::codec::{self, Record};
use crate::store::journal::{self, Reader};

/// Durable records from an lsn on, for one reader, at any pace. Waits when it has come to the end.
pub struct Events {
    inner: Arc<Inner>,
    dir: PathBuf,
    after: Lsn,
    reader: Option<Reader>,
    ready: VecDeque<(Lsn, Record)>,
}

impl Engine {
    /// Every event after `after`, 0 for all. It has no effect on anybody else how fast they are read.
    #[must_use]
    pub fn events(&self, after: Lsn) -> Events {
        let dir = self.0.config.data_dir.join("journal");
        Events { inner: self.0.clone(), dir, after, reader: None, ready: VecDeque::new() }
    }
}

impl Events {
    /// The next record, with the lsn of its first event. Waits for one; may be called again after it was cancelled.
    ///
    /// # Errors
    /// The journal cannot be read, or the engine is closed.
    pub async fn next(&mut self) -> Result<(Lsn, Record), Error> {
        loop {
            if let Some((first, record)) = self.ready.pop_front() {
                self.after = Lsn(first.0 + record.len() as u64 - 1);
                return Ok((first, record));
            }
            let next = self.ready.back().map_or(self.after, |(first, _)| *first).next();
            let mut progress = self.inner.system.replica.progress();
            let reached = progress.wait_for(|progress| progress.applied >= next || progress.ended).await;
            if !reached.is_ok_and(|progress| progress.applied >= next) {
                return Err(self.inner.outcome_unknown());
            }
            if next > self.inner.system.env.journal.durable() {
                return Err(self.inner.outcome_unknown());
            }
            self.read_on().await?;
        }
    }

    /// Reads the next batch.
    async fn read_on(&mut self) -> Result<(), Error> {
        let limit = self.inner.system.env.journal.durable();
        let (reader, inner, dir, after) = (self.reader.take(), self.inner.clone(), self.dir.clone(), self.after);
        let read = move || -> Result<_, journal::Error> {
            let mut reader = match reader {
                Some(reader) => reader,
                None => Reader::open(inner.disk.clone(), &dir, after.next())?,
            };
            let frame = reader.next(limit)?;
            Ok((reader, frame))
        };
        let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
        let (reader, frame) = self.inner.on_blocking_thread(read).await?.map_err(|error| internal(&error))?;
        self.reader = Some(reader);
        if let Some(frame) = frame {
            let records = codec::decode_batch(frame.first_lsn, frame.count, &frame.payload);
            let records = records.map_err(|error| internal(&error))?;
            self.ready.extend(records.into_iter().filter(|(first, _)| *first > after));
        }
        Ok(())
    }
}
