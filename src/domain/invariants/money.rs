//! I13, read from events alone: a second reading of what providers said, that shares no code with [`facts`].
//!
//! [`facts`]: crate::domain::facts

use std::collections::{BTreeMap, BTreeSet};

use super::Broken;
use crate::domain::concert_option::{Ending, Moved, Owed, OwedKind, ProviderTerms, Turn};
use crate::domain::facts::{Kind, Totals};
use crate::domain::{Currency, Timestamp};

/// A payment by a provider.
#[derive(Debug, Clone)]
pub(super) struct Provided {
    pub(super) reservation: u64,
    pub(super) price: u64,
    /// What its seats cost now.
    pub(super) worth: u64,
    /// Until when its seats are pinned, if they are.
    pub(super) pinned_until: Option<Timestamp>,
    pub(super) confirmed: bool,
    /// It has left memory.
    pub(super) cold: bool,
    /// The buyer may pay.
    pending: bool,
    /// It was given up, or has lapsed.
    let_go: bool,
    currency: Currency,
    capture_within_ms: u64,
    /// Kind, reference, id.
    told: BTreeMap<(Kind, String, String), (u64, Currency)>,
    pub(super) owed: BTreeMap<u32, Owed>,
}

impl Provided {
    pub(super) fn new(reservation: u64, price: u64, terms: &ProviderTerms, deadline: Timestamp) -> Self {
        Self {
            reservation,
            price,
            worth: price,
            pinned_until: Some(deadline),
            confirmed: false,
            cold: false,
            pending: true,
            let_go: false,
            currency: terms.currency,
            capture_within_ms: terms.capture_within_ms,
            told: BTreeMap::new(),
            owed: BTreeMap::new(),
        }
    }

    /// Takes in what a payment has heard and come to.
    pub(super) fn take_in(&mut self, no: u64, at: Timestamp, moved: &Moved) -> Result<(), Broken> {
        ensure!(!self.cold, "I13", "{no} has left memory, and moves");
        if let Some(fact) = &moved.fact {
            let id = fact.id.clone().unwrap_or_else(|| fact.reference.clone());
            let what = (fact.kind, fact.reference.clone(), id);
            let twice = self.told.insert(what, (fact.amount.get(), fact.currency));
            ensure!(twice.is_none(), "I13", "{no} is told the same twice: {fact:?}");
        }
        if let Some(turn) = &moved.turn {
            self.pending = false;
            self.let_go = matches!(turn, Turn::Ended { why: Ending::GivenUp | Ending::Lapsed | Ending::CalledOff, .. });
        }
        match &moved.turn {
            Some(Turn::Authorized { until, .. }) => {
                ensure!(!self.confirmed, "I13", "{no} is paid, and authorised");
                ensure!(
                    *until == at.plus_millis(self.capture_within_ms),
                    "I13",
                    "{no} is to be captured until {until}"
                );
                self.pinned_until = Some(*until);
            }
            Some(Turn::Confirmed { reference, .. }) => {
                let paid = match reference {
                    Some(reference) => self.sum(self.currency, |kind, of| kind == Kind::Captured && of == reference),
                    None => 0,
                };
                ensure!(!self.confirmed && paid == self.price, "I13", "{no} is confirmed by {paid} of {}", self.price);
                (self.confirmed, self.pinned_until) = (true, None);
            }
            Some(Turn::Ended { .. }) => {
                ensure!(self.pinned_until.take().is_some(), "I13", "{no} ends, and its seats were not pinned");
            }
            Some(Turn::Refunded { .. }) => {
                ensure!(self.confirmed, "I13", "{no} is given back, and was not paid");
                self.confirmed = false;
            }
            Some(Turn::Changed { change }) => {
                ensure!(self.confirmed, "I13", "the order of {no} changes, and was not paid");
                let (was, is) = (self.worth, change.amount.get());
                ensure!(is <= was, "I16", "the price of {no} rises from {was} to {is}, and nobody took the difference");
                self.worth = is;
            }
            None => {}
        }
        for settled in &moved.owing.settled {
            ensure!(self.owed.remove(settled).is_some(), "I13", "{no} settles {settled}, which was not owed");
        }
        for owed in &moved.owing.begun {
            ensure!(self.owed.insert(owed.no, owed.clone()).is_none(), "I13", "{no} owes {} twice", owed.no);
        }
        self.adds_up(no, &moved.standing.totals, moved.standing.disputed)
    }

    fn adds_up(&self, no: u64, said: &Totals, disputed: bool) -> Result<(), Broken> {
        ensure!(self.is_disputed() == disputed, "I13", "{no} is said to be disputed: {disputed}");
        let all: BTreeSet<_> = self.told.values().map(|(_, currency)| *currency).chain([self.currency]).collect();
        for currency in all {
            let is_own = currency == self.currency;
            let confirmed = if self.confirmed && is_own { self.worth } else { 0 };
            let back = |kind: Kind, id: &str, of: &str| {
                kind == Kind::Refunded && !self.told.contains_key(&(Kind::RefundFailed, of.to_owned(), id.to_owned()))
            };
            let refunded = self.sum_by(currency, back);
            let lost = self.sum(currency, |kind, _| kind == Kind::DisputeLost);
            let captured = self.sum(currency, |kind, _| kind == Kind::Captured).max(refunded + lost);
            let owed = captured.saturating_sub(confirmed + refunded + lost);
            let shortfall = (confirmed + refunded + lost).saturating_sub(captured);
            let expected = Totals { captured, confirmed, refunded, lost, owed, shortfall };
            ensure!(!is_own || *said == expected, "I13", "{no} says {said:?} instead of {expected:?}");
            ensure!(captured + shortfall == confirmed + refunded + lost + owed, "I13", "{no}: {expected:?}");
            let refunds = self.owed.values().filter(|one| one.kind == OwedKind::Refund && one.currency == currency);
            let refunds: u64 = refunds.map(|one| one.amount.get()).sum();
            let expected = if disputed { 0 } else { owed };
            ensure!(refunds == expected, "I13", "{no} owes refunds of {refunds} instead of {expected} {currency}");
        }
        let captures = self.owed.values().filter(|one| one.kind == OwedKind::Capture).count();
        let expected = usize::from(!self.confirmed && self.pinned_until.is_some() && self.is_to_be_captured());
        ensure!(captures == expected, "I13", "{no} is to be captured {captures} times");
        let checks = self.owed.values().filter(|one| one.kind == OwedKind::Check).count();
        let expected = usize::from((self.let_go && self.told.is_empty()) || (!self.pending && self.is_unclear()));
        ensure!(checks == expected, "I13", "{no} is to be looked for {checks} times");
        Ok(())
    }

    /// Some authorisation is the price, and nothing else has come of it.
    fn is_to_be_captured(&self) -> bool {
        self.told.iter().any(|((kind, reference, _), said)| {
            let is_over = |kind: Kind| self.told.keys().any(|(other, of, _)| *other == kind && of == reference);
            let over = [Kind::Captured, Kind::Failed, Kind::Voided, Kind::Refunded, Kind::DisputeLost];
            *kind == Kind::Authorized && *said == (self.price, self.currency) && !over.into_iter().any(is_over)
        })
    }

    /// Of some charge money went back, or may have been taken, and nobody has said how much was.
    fn is_unclear(&self) -> bool {
        let knows =
            |of: &str, kinds: &[Kind]| self.told.keys().any(|(kind, other, _)| of == other && kinds.contains(kind));
        let is_taken = self.told.keys().any(|(kind, ..)| *kind == Kind::Captured);
        self.told.iter().any(|((_, of, _), (_, currency))| {
            let is_failed = |id: &str| self.told.contains_key(&(Kind::RefundFailed, of.clone(), id.to_owned()));
            let back = self.sum_by(*currency, |kind, id, other| {
                other == of && (kind == Kind::DisputeLost || (kind == Kind::Refunded && !is_failed(id)))
            });
            let authorized = self.told.iter().filter(|((kind, other, _), _)| *kind == Kind::Authorized && other == of);
            let price = authorized.map(|(_, (amount, _))| *amount).max().unwrap_or(self.price).max(1);
            let is_known = knows(of, &[Kind::Captured, Kind::Failed, Kind::Voided]);
            let has_begun = knows(of, &[Kind::Opened, Kind::Authorized]);
            let is_open = has_begun && !knows(of, &[Kind::Refunded, Kind::DisputeLost]);
            let was_disputed = knows(of, &[Kind::Disputed, Kind::DisputeWon, Kind::DisputeLost]);
            !is_known && !is_open && back < price && (was_disputed || !is_taken)
        })
    }

    fn is_disputed(&self) -> bool {
        self.told.keys().any(|(kind, of, id)| {
            let ended = |kind| self.told.contains_key(&(kind, of.clone(), id.clone()));
            *kind == Kind::Disputed && !ended(Kind::DisputeWon) && !ended(Kind::DisputeLost)
        })
    }

    fn sum(&self, currency: Currency, takes: impl Fn(Kind, &str) -> bool) -> u64 {
        self.sum_by(currency, |kind, _, of| takes(kind, of))
    }

    fn sum_by(&self, currency: Currency, takes: impl Fn(Kind, &str, &str) -> bool) -> u64 {
        let told = self.told.iter().filter(|((kind, of, id), (_, is))| *is == currency && takes(*kind, id, of));
        told.map(|(_, (amount, _))| amount).sum()
    }
}
