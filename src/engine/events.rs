//! What has happened, as events, for one reader at its own pace.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Engine, Inner};
use crate::domain::concert_option::{self, ConcertOption, Payment, Refund, Reservation};
use crate::domain::waiting_room::{self, TokenRow, WaitingRoom};
use crate::domain::{CorruptRow, Lsn, PaymentId, cbor};
use crate::error::Error;
use crate::relay::projection::{self, Draft, Known, Missing};
use crate::relay::{Event, EventFilter, EventId};
use crate::store::codec::{self, Record};
use crate::store::journal::{self, Reader};
use crate::store::replica::{self, Found, Replica};

/// Events that are looked up together: how long the replica is held for it.
const DRAFTS_MAX: usize = 64;
/// So many lsns are gone through at once: how long a blocking thread is held for it.
const STEP_LSNS_MAX: u64 = 10_000;
/// After so many lsns without an event the reader hears of it.
const IDLE_LSNS_MAX: u64 = 100_000;
/// So many lsns are rather skipped than the place looked for: half of a segment, at the default size.
const SKIPPED_LSNS_MAX: u64 = 200_000;
/// How many readers may have a blocking thread at a time: the others are for those who sell.
pub(super) const READERS_AT_ONCE: usize = 2;

/// Events after one of them, in order, for one reader. It has no effect on anybody else how fast they are read, and what
/// is in memory of them is bounded.
pub struct EventStream {
    inner: Arc<Inner>,
    filter: EventFilter,
    /// The last event that was given out or was not wanted.
    position: EventId,
    /// The position that was given out last.
    given: EventId,
    /// Everything up to here has been gone through.
    walked: Lsn,
    /// `None` before the first call, and after one that was cancelled or failed.
    walk: Option<Box<Walk>>,
}

/// Some events, in order.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// The events.
    pub events: Vec<Event>,
    /// Everything up to and including this has been given out or was not wanted.
    pub position: EventId,
}

impl Engine {
    /// The events after `after` (the default for all) that `filter` takes. An `after` that is yet to come is waited for.
    #[must_use]
    pub fn events(&self, after: EventId, filter: EventFilter) -> EventStream {
        EventStream { inner: self.0.clone(), filter, position: after, given: after, walked: Lsn(0), walk: None }
    }
}

impl EventStream {
    /// Up to `max` events, one at the least. Waits until there is one that the filter takes, or 100,000 lsns have gone by
    /// without one. May be called again after it was cancelled: nothing is lost, and nothing is given out twice.
    ///
    /// # Errors
    /// The journal cannot be read, or the engine is closed.
    pub async fn next(&mut self, max: usize) -> Result<EventBatch, Error> {
        loop {
            let (batch, is_at_end) = self.go_on(max).await?;
            if !batch.events.is_empty() || batch.position.lsn.0 - self.given.lsn.0 >= IDLE_LSNS_MAX {
                self.given = batch.position;
                return Ok(batch);
            }
            if is_at_end {
                self.more().await?;
            }
        }
    }

    /// Waits until there is more in the journal than has been gone through.
    pub(super) async fn more(&mut self) -> Result<(), Error> {
        let walked = self.walked;
        let mut progress = self.inner.system.replica.progress();
        let reached = progress.wait_for(|progress| progress.applied > walked || progress.ended).await;
        let there_is = reached.is_ok_and(|progress| progress.applied > walked);
        if there_is { Ok(()) } else { Err(self.inner.outcome_unknown()) }
    }

    /// As [`next`](Self::next), of what is durable by now: if that holds no event that the filter takes, there are none in
    /// the batch.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn available(&mut self, max: usize) -> Result<EventBatch, Error> {
        loop {
            let (batch, is_at_end) = self.go_on(max).await?;
            if !batch.events.is_empty() || is_at_end {
                self.given = batch.position;
                return Ok(batch);
            }
        }
    }

    /// The event of this id, if there is one that the filter takes. Asked for in order, near ones cost no more than to read
    /// on.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(super) async fn find(&mut self, id: EventId) -> Result<Option<Event>, Error> {
        let after = id.before();
        self.walk.take_if(|walk| !walk.skip_to(after));
        (self.position, self.given) = (after, after);
        Ok(self.available(1).await?.events.pop().filter(|event| event.id == id))
    }

    /// Goes a step through what is durable; also says whether it has come to the end.
    async fn go_on(&mut self, max: usize) -> Result<(EventBatch, bool), Error> {
        let inner = self.inner.clone();
        let limit = inner.system.env.journal.durable();
        inner.up_to_date().await?;
        // It goes with the work, which goes on when nobody waits for it any more.
        let turn = inner.event_readers.clone().acquire_owned().await.map_err(|_| inner.outcome_unknown())?;
        let (walk, after, filter) = (self.walk.take(), self.position, self.filter);
        let work = move || {
            let _turn = turn;
            let mut walk = match walk {
                Some(walk) => walk,
                None => Box::new(Walk::begin(&inner, after)?),
            };
            let (batch, is_at_end) = walk.go_on(&inner, after, filter, limit, max.max(1))?;
            Ok::<_, Error>((walk, batch, is_at_end))
        };
        let (walk, batch, is_at_end) = self.inner.on_blocking_thread(work).await??;
        self.walk = Some(walk);
        self.position = batch.position;
        if is_at_end {
            self.walked = limit;
        }
        Ok((batch, is_at_end))
    }
}

/// A way through the journal. Blocks where it has to read.
struct Walk {
    reader: Reader,
    /// What has been read, and not been gone through yet.
    records: VecDeque<(Lsn, Record)>,
    /// The first event that may come.
    next: EventId,
    known: Known,
}

impl Walk {
    fn begin(inner: &Inner, after: EventId) -> Result<Self, Error> {
        let dir: PathBuf = inner.config.data_dir.join("journal");
        let reader = Reader::open(inner.disk.clone(), &dir, after.lsn).map_err(|error| unreadable(&error))?;
        let next = EventId { lsn: after.lsn, index: after.index.saturating_add(1) };
        Ok(Self { reader, records: VecDeque::new(), next, known: Known::default() })
    }

    /// Goes on after `after`; false if that is behind, or so far ahead that the place is better looked for.
    fn skip_to(&mut self, after: EventId) -> bool {
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
    fn go_on(
        &mut self,
        inner: &Inner,
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
            self.complete(inner, &drafts, &mut batch.events)?;
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

    /// Reads the next batch of records, if there is one up to `limit`.
    fn read_on(&mut self, limit: Lsn) -> Result<bool, Error> {
        let Some(frame) = self.reader.next(limit).map_err(|error| unreadable(&error))? else { return Ok(false) };
        let records = codec::decode_batch(frame.first_lsn, frame.count, &frame.payload);
        self.records.extend(records.map_err(|error| Error::Internal(error.to_string()))?);
        Ok(true)
    }

    /// Makes events of drafts.
    fn complete(&mut self, inner: &Inner, drafts: &[Draft], events: &mut Vec<Event>) -> Result<(), Error> {
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
            inner.look_up(&missing, &mut self.known)?;
        }
        events.extend(complete.into_iter().flatten());
        self.known.forget_above(usize::try_from(inner.config.events.remembered).unwrap_or(usize::MAX));
        Ok(())
    }
}

fn unreadable(error: &journal::Error) -> Error {
    Error::Internal(error.to_string())
}

impl Inner {
    /// Looks up what events are about. Blocks, and keeps nobody from the replica for long.
    fn look_up(&self, missing: &[Missing], known: &mut Known) -> Result<(), Error> {
        let found = self.look(|replica| Ok(missing.iter().map(|one| find(replica, *one)).collect::<Vec<_>>()))?;
        for (one, found) in missing.iter().zip(found) {
            let Some(found) = found else {
                let Missing::Plan(option) = one else { continue };
                known.plan(self.load_offer(*option)?);
                continue;
            };
            let row = found.row().map_err(|error| self.fail(&error))?;
            let row = row.ok_or_else(|| Error::Internal(format!("{one:?}, of which the journal tells, is missing")))?;
            let source = match read(*one, &row, known) {
                Ok(()) => continue,
                Err(source) => source,
            };
            return Err(self.fail(&replica::Error::Corrupt { aggregate: format!("{one:?}"), source }));
        }
        Ok(())
    }
}

/// Finds the row of what is missing, if it stands in one.
fn find(replica: &mut Replica, missing: Missing) -> Option<Found> {
    use concert_option::Part;
    let part_of_option = |replica: &mut Replica, option, part| replica.find::<ConcertOption>(&option, &part);
    Some(match missing {
        Missing::Reservation(id) => part_of_option(replica, id.option, Part::Reservation(id.no)),
        Missing::Payment(id) => part_of_option(replica, id.option, Part::Payment(id.no)),
        Missing::Refund(id) => part_of_option(replica, id.option, Part::Refund(id.no)),
        Missing::Token(id) => replica.find::<WaitingRoom>(&id.concert, &waiting_room::Part::Token(id.no)),
        Missing::Plan(_) => return None,
    })
}

/// Takes in a row of what was missing.
fn read(missing: Missing, row: &[u8], known: &mut Known) -> Result<(), CorruptRow> {
    match missing {
        Missing::Reservation(id) => known.reservation(id, Reservation::from_row(id.no, row)?),
        Missing::Payment(id) => known.payment(id, Payment::from_row(id.no, row)?),
        Missing::Refund(id) => {
            let payment = Refund::from_row(id.no, row)?.payment;
            known.refund(id, PaymentId { option: id.option, no: payment });
        }
        Missing::Token(id) => {
            let token: TokenRow = cbor::from_row(&waiting_room::Part::Token(id.no), row)?;
            known.token(id, token.user);
        }
        Missing::Plan(_) => {}
    }
    Ok(())
}
