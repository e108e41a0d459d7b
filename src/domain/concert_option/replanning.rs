//! Another seating plan in the place of an option's while it is sold ([0030](../../../docs/adr/0030-a-plan-that-changes.md)).
//!
//! A seat keeps its number for as long as there is the option, so that holds, facts and rows stay true. What is not in the new plan
//! is withdrawn: never free, never listed, and back under its number if a later plan has it again, blocked if it was.

use serde::Serialize;

use super::*;
use crate::domain::seating_plan::PlanHash;

/// So many seats are named that stand against a plan.
const NAMED_MAX: usize = 1_000;

/// A seating plan that is to take the place of an option's. Its seats have the numbers that they have
/// [after](crate::domain::seating_plan::SeatingPlan::after) the plans before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlan {
    /// Which.
    pub plan: PlanHash,
    /// How many numbers are given then.
    pub seat_count: u32,
    /// How many of them to seats that it does not have.
    pub withdrawn: u32,
    /// Which seats are not for sale then.
    pub not_for_sale: SeatSet,
    /// What categories cost from then on; others as before.
    pub prices: Vec<Price>,
    /// Which categories are accessible from then on; `None`: as before.
    pub accessible: Option<Vec<String>>,
    /// Where the better seats are from then on; `None`: as before.
    pub focus: Option<Focus>,
}

/// That an option has not the seating plan that it had at first.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Replanned {
    /// The plans that it had before, oldest first. With them all seats have their numbers.
    #[n(0)]
    pub former: Vec<PlanHash>,
    /// How many seats of those are not in the present one.
    #[n(1)]
    pub withdrawn: u32,
}

impl NewPlan {
    /// The terms with this plan, if the present ones are these; the same version of them.
    #[must_use]
    pub fn apply(&self, terms: &Definition) -> Definition {
        let mut then = Definition {
            plan: self.plan,
            seat_count: self.seat_count,
            not_for_sale: self.not_for_sale.clone(),
            ..terms.clone()
        };
        then.set_prices(&self.prices);
        then.accessible = self.accessible.clone().unwrap_or(then.accessible);
        then.focus = self.focus.clone().or(then.focus);
        then
    }
}

impl ConcertOption {
    pub(super) fn decide_replan(
        &self,
        now: Timestamp,
        (new, by): (&NewPlan, &UserId),
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if self.keys.recall(now, request)?.is_some() {
            return Ok(Answer::Reply(Reply::Replayed(0)));
        }
        let terms = self.definition().ok_or(Rejection::NotFound)?;
        if self.is_called_off() {
            return Err(Rejection::SaleNotOpen);
        }
        let before = Definition { window: self.header.window, ..terms.clone() };
        let mut then = new.apply(&before);
        if then != before {
            let is_another = then.plan != terms.plan;
            let former = terms.former_plans().iter().copied().chain(is_another.then_some(terms.plan)).collect();
            let replanned = Replanned { former, withdrawn: new.withdrawn };
            then.amend(terms, (!replanned.former.is_empty()).then(|| Box::new(replanned)));
            Flaw::refuse(then.flaws())?;
            self.none_in_use(&then)?;
        } else if request.key.is_none() {
            return Ok(Answer::Reply(Reply::Done));
        }
        // If nothing has changed, only the key is new.
        out.events.push(Event::OptionChanged { definition: Box::new(then), by: by.clone(), key: request.key.clone() });
        Ok(Answer::Reply(Reply::Done))
    }

    /// Refuses terms by which seats would not be for sale that are held or sold.
    fn none_in_use(&self, then: &Definition) -> Result<(), Rejection> {
        let is_in_use = |seat: &u32| {
            *seat < self.seats.len() && matches!(self.seats.status(*seat), SeatStatus::Held | SeatStatus::Sold)
        };
        let mut in_use = then.not_for_sale.iter().filter(is_in_use);
        let conflicts: SmallVec<[u32; 4]> = in_use.by_ref().take(NAMED_MAX).collect();
        if conflicts.is_empty() {
            return Ok(());
        }
        let in_use = (conflicts.len() + in_use.count()) as u64;
        Err(Rejection::SeatsInUse { conflicts, in_use })
    }

    /// Takes seats in that are new or for sale again, and those off sale that are not any more.
    pub(super) fn evolve_replanned(
        &mut self,
        lsn: Lsn,
        then: &Definition,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let terms = self.terms.as_mut()?;
        let before = &terms.definition;
        if before.plan == then.plan && before.former_plans().len() == then.former_plans().len() {
            return Some(());
        }
        let known = self.seats.len();
        let was_not = before.not_for_sale.clone();
        terms.replanned_at.push(lsn);
        self.seats.grow(then.seat_count);
        let (off, on): (Vec<u32>, Vec<u32>) = (0..then.seat_count)
            .filter(|seat| *seat >= known || was_not.contains(*seat) != then.not_for_sale.contains(*seat))
            .partition(|seat| then.not_for_sale.contains(*seat));
        let free: Vec<u32> = on.into_iter().filter(|seat| !terms.kept_blocked.contains(*seat)).collect();
        let is_blocked = |seat: &u32| *seat < known && self.seats.status(*seat) == SeatStatus::Blocked;
        let stay = terms.kept_blocked.iter().filter(|seat| then.not_for_sale.contains(*seat));
        terms.kept_blocked = stay.chain(off.iter().copied().filter(is_blocked)).collect();
        self.set_seats(off, SeatStatus::Blocked, 0, lsn, changes);
        self.set_seats(free, SeatStatus::Free, 0, lsn, changes);
        // Whoever looks on has to begin anew, also if seats have only moved.
        self.header.seq = lsn;
        Some(())
    }
}
