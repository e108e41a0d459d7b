//! A way through the journal, on which its records become events.
//!
//! It must not know where rows are kept: whoever drives it looks up what is missing.

use std::collections::VecDeque;

use super::event::{Event, EventFilter, EventId};
use super::projection::{self, Draft, Known, Missing};
use crate::domain::Lsn;
use crate::error::Error;
use crate::store::codec::{self, Record};
use crate::store::journal::{self, Reader};
use crate::store::node::Journal;

/// Events that are looked up together: how long the replica is held for it.
const DRAFTS_MAX: usize = 64;
/// So many lsns are gone through at once: how long a blocking thread is held for it.
const STEP_LSNS_MAX: u64 = 10_000;
/// So many lsns are rather skipped than the place looked for: half of a segment, at the default size.
const SKIPPED_LSNS_MAX: u64 = 200_000;

/// Looks up what events are about.
pub(crate) type LookUp<'a> = dyn FnMut(&[Missing], &mut Known) -> Result<(), Error> + 'a;

/// Some events, in order.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// The events.
    pub events: Vec<Event>,
    /// Everything up to and including this has been given out or was not wanted.
    pub position: EventId,
}

/// A way through the journal. Blocks where it has to read.
pub(crate) struct Walk {
    reader: Reader,
    /// What has been read, and not been gone through yet.
    records: VecDeque<(Lsn, Record)>,
    /// The first event that may come.
    next: EventId,
    known: Known,
}

impl Walk {
    /// Through a journal, from after `after` on.
    pub(crate) fn begin(journal: &Journal, after: EventId) -> Result<Self, Error> {
        let reader = journal.read(after.lsn).map_err(|error| unreadable(&error))?;
        let next = EventId { lsn: after.lsn, index: after.index.saturating_add(1) };
        Ok(Self { reader, records: VecDeque::new(), next, known: Known::default() })
    }

    /// Goes on after `after`; false if that is behind, or so far ahead that the place is better looked for.
    pub(crate) fn skip_to(&mut self, after: EventId) -> bool {
        let next = EventId { lsn: after.lsn, index: after.index.saturating_add(1) };
        if next < self.next || next.lsn.0 - self.next.lsn.0 > SKIPPED_LSNS_MAX {
            return false;
        }
        if next > self.next {
            // What is skipped may have changed what is known.
            self.known = Known::default();
        }
        self.next = next;
        self.reader.skip_to(next.lsn);
        true
    }

    /// Up to `max` events of the next lsns after `after`, and whether it has come to `limit`.
    pub(crate) fn go_on(
        &mut self,
        look_up: &mut LookUp<'_>,
        after: EventId,
        filter: EventFilter,
        limit: Lsn,
        max: usize,
    ) -> Result<(EventBatch, bool), Error> {
        let mut batch = EventBatch { events: Vec::new(), position: after };
        let is_far = |batch: &EventBatch| batch.position.lsn.0 - after.lsn.0 >= STEP_LSNS_MAX;
        let mut is_at_end = false;
        while !is_at_end && batch.events.len() < max && !is_far(&batch) {
            let room = DRAFTS_MAX.min(max - batch.events.len());
            let mut drafts = Vec::with_capacity(room);
            while drafts.len() < room && !is_far(&batch) {
                let Some((position, draft)) = self.step(limit)? else {
                    is_at_end = true;
                    break;
                };
                batch.position = position;
                drafts.extend(draft.filter(|draft| filter.takes(draft.kind)));
            }
            self.complete(look_up, &drafts, &mut batch.events)?;
        }
        Ok((batch, is_at_end))
    }

    /// The next event up to `limit`, or the lsn of a fact that becomes none; `None` at the end.
    fn step(&mut self, limit: Lsn) -> Result<Option<(EventId, Option<Draft>)>, Error> {
        loop {
            let Some((first, record)) = self.records.front() else {
                if self.read_on(limit)? {
                    continue;
                }
                return Ok(None);
            };
            if self.next.lsn < *first {
                self.next = EventId { lsn: *first, index: 0 };
            }
            let id = self.next;
            let fact = (id.lsn.0 - first.0) as usize;
            if fact >= record.len() {
                self.records.pop_front();
                continue;
            }
            if id.index == 0 {
                self.known.learn(record, fact);
            }
            let draft = projection::draft(record, fact, id);
            self.next = match draft {
                Some(_) => EventId { index: id.index + 1, ..id },
                None => EventId { lsn: id.lsn.next(), index: 0 },
            };
            if id.index == 0 || draft.is_some() {
                return Ok(Some((id, draft)));
            }
        }
    }

    /// Remembers at most `most` reservations, payments, refunds and tokens, of each.
    pub(crate) fn forget_above(&mut self, most: usize) {
        self.known.forget_above(most);
    }

    /// Reads the next batch of records, if there is one up to `limit`.
    fn read_on(&mut self, limit: Lsn) -> Result<bool, Error> {
        let Some(frame) = self.reader.next(limit).map_err(|error| unreadable(&error))? else { return Ok(false) };
        let records = codec::decode_batch(frame.first_lsn, frame.count, &frame.payload);
        self.records.extend(records.map_err(|error| Error::Internal(error.to_string()))?);
        Ok(true)
    }

    /// Makes events of drafts.
    fn complete(&mut self, look_up: &mut LookUp<'_>, drafts: &[Draft], events: &mut Vec<Event>) -> Result<(), Error> {
        let mut complete: Vec<Option<Event>> = vec![None; drafts.len()];
        loop {
            let mut missing = Vec::new();
            for (draft, event) in drafts.iter().zip(&mut complete).filter(|(_, event)| event.is_none()) {
                match draft.complete(&self.known) {
                    Ok(complete) => *event = Some(complete),
                    Err(one) => missing.push(one),
                }
            }
            if missing.is_empty() {
                break;
            }
            missing.sort_unstable();
            missing.dedup();
            look_up(&missing, &mut self.known)?;
        }
        events.extend(complete.into_iter().flatten());
        Ok(())
    }
}

fn unreadable(error: &journal::Error) -> Error {
    Error::Internal(error.to_string())
}
