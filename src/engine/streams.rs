//! The changes of an option's seats, as they become durable.

use std::sync::Arc;

use super::{Engine, Inner};
use crate::api::{AreaSeats, seat_status_name};
use crate::domain::concert_option::PricedPlan;
use crate::domain::{Lsn, OptionId};
use crate::error::Error;

impl Engine {
    /// The changes of an option's seats after `since`, an lsn; 0 for everything that is not available now.
    ///
    /// # Errors
    /// [`Rejection::NotFound`](crate::Rejection::NotFound).
    pub async fn seat_changes(&self, option: OptionId, since: Lsn) -> Result<SeatChanges, Error> {
        let plan = self.0.offer(option).await?;
        Ok(SeatChanges { inner: self.0.clone(), plan, since })
    }
}

/// Seats of an option that have changed, each with its last state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatChange {
    /// The lsn of the last change that is in here.
    pub seq: Lsn,
    /// The `seq` of the change before.
    pub previous_seq: Lsn,
    /// Ids, and `available`, `held`, `sold` or `blocked`.
    pub seats: Vec<(String, &'static str)>,
    /// Areas that have changed.
    pub areas: Vec<(String, AreaSeats)>,
}

/// The changes of an option's seats. Who is slow gets fewer and larger ones.
pub struct SeatChanges {
    inner: Arc<Inner>,
    plan: Arc<PricedPlan>,
    since: Lsn,
}

impl SeatChanges {
    /// What has changed since the last one. Waits until something has; may be called again after it was cancelled.
    ///
    /// # Errors
    /// The engine is closed.
    pub async fn next(&mut self) -> Result<SeatChange, Error> {
        loop {
            let mut progress = self.inner.system.replica.progress();
            let ended = progress.borrow_and_update().ended;
            let (plan, since) = (&self.plan, self.since);
            let change = self.inner.read(|replica| {
                let option = replica.option(plan.option)?;
                if option.seq() <= since {
                    return Ok(None);
                }
                let seats = option.seats().changed_after(since).collect::<Vec<_>>();
                Ok(Some((option.seq(), seats, option.areas().to_vec())))
            });
            if let Some((seq, seats, areas)) = change.await? {
                let name = |seat: u32| plan.plan.seat(seat).guid.to_owned();
                let areas = plan.definition.areas.iter().zip(areas).filter(|(_, state)| state.seq > since);
                let change = SeatChange {
                    seq,
                    previous_seq: since,
                    seats: seats.into_iter().map(|(seat, status)| (name(seat), seat_status_name(status))).collect(),
                    areas: areas
                        .map(|(area, state)| {
                            let available = area.capacity - state.held - state.sold;
                            (area.name.clone(), AreaSeats { capacity: area.capacity, available })
                        })
                        .collect(),
                };
                self.since = seq;
                return Ok(change);
            }
            if ended || progress.changed().await.is_err() {
                return Err(self.inner.outcome_unknown());
            }
        }
    }
}
