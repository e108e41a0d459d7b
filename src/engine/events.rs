//! What has happened, as events, for one reader at its own pace.

use std::sync::Arc;

use super::{Engine, Inner};
use crate::domain::concert_option::{self, ConcertOption, Payment, Refund, Reservation};
use crate::domain::waiting_room::{self, TokenRow, WaitingRoom};
use crate::domain::{CorruptRow, Lsn, PaymentId, cbor};
use crate::error::Error;
use crate::relay::projection::{Known, Missing};
pub use crate::relay::walk::EventBatch;
use crate::relay::walk::Walk;
use crate::relay::{Event, EventFilter, EventId};
use crate::replica::{self, Found, Replica};

/// After so many lsns without an event the reader hears of it.
const IDLE_LSNS_MAX: u64 = 100_000;
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
        let mut progress = self.inner.node.replica.progress();
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
        let limit = inner.node.journal.durable();
        inner.up_to_date().await?;
        // It goes with the work, which goes on when nobody waits for it any more.
        let turn = inner.event_readers.clone().acquire_owned().await.map_err(|_| inner.outcome_unknown())?;
        let (walk, after, filter) = (self.walk.take(), self.position, self.filter);
        let work = move || {
            let _turn = turn;
            let mut walk = match walk {
                Some(walk) => walk,
                None => Box::new(Walk::begin(&inner.node.journal, after)?),
            };
            let mut look_up = |missing: &[Missing], known: &mut Known| inner.look_up(missing, known);
            let (batch, is_at_end) = walk.go_on(&mut look_up, after, filter, limit, max.max(1))?;
            walk.forget_above(usize::try_from(inner.config.events.remembered).unwrap_or(usize::MAX));
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

impl Inner {
    /// Looks up what events are about. Blocks, and keeps nobody from the replica for long.
    fn look_up(&self, missing: &[Missing], known: &mut Known) -> Result<(), Error> {
        let found = self.glance(|replica| missing.iter().map(|one| find(replica, *one)).collect::<Vec<_>>())?;
        for (one, found) in missing.iter().zip(found) {
            let Some(found) = found else {
                match *one {
                    Missing::Plan(option) => known.plan(self.load_offer(option)?),
                    Missing::FormerPlan(option, index) => known.former_plan(index, self.former_offer(option, index)?),
                    _ => {}
                }
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
pub(crate) fn find(replica: &mut Replica, missing: Missing) -> Option<Found> {
    use concert_option::Part;
    let part_of_option = |replica: &mut Replica, option, part| replica.find::<ConcertOption>(&option, &part);
    Some(match missing {
        Missing::Reservation(id) => part_of_option(replica, id.option, Part::Reservation(id.no)),
        Missing::Payment(id) => part_of_option(replica, id.option, Part::Payment(id.no)),
        Missing::Refund(id) => part_of_option(replica, id.option, Part::Refund(id.no)),
        Missing::Token(id) => replica.find::<WaitingRoom>(&id.concert, &waiting_room::Part::Token(id.no)),
        Missing::Plan(_) | Missing::FormerPlan(..) => return None,
    })
}

/// Takes in a row of what was missing.
pub(crate) fn read(missing: Missing, row: &[u8], known: &mut Known) -> Result<(), CorruptRow> {
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
        Missing::Plan(_) | Missing::FormerPlan(..) => {}
    }
    Ok(())
}
