//! I16, read from events alone: that an order changes as a whole, and that never more goes back than came in.

use super::{Broken, GoesBack, Offer, Sales};
use crate::domain::concert_option::{
    AreaPlaces, Change, Event, Exchange, Lot, PaymentStatus, ReservationStatus, Turn, What,
};
use crate::domain::{Meta, Points, Timestamp, UserId};

/// The difference of an exchange, that a wallet is asked for.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    pub(super) no: u64,
    pub(super) user: UserId,
    pub(super) amount: Points,
    pub(super) paid: bool,
    pub(super) failed: bool,
    /// What is pinned.
    seats: Vec<u32>,
    areas: Vec<(u16, u64)>,
}

fn places(areas: &[AreaPlaces]) -> Vec<(u16, u64)> {
    areas.iter().map(|place| (place.area, u64::from(place.count))).collect()
}

/// The sum of all prices of a lot, one by one.
fn worth(lot: &Lot) -> u64 {
    let price = |index: usize| lot.prices.get(index).map_or(0, Points::get);
    let seats: u64 = (0..lot.seats.len()).map(price).sum();
    let areas = lot.areas.iter().enumerate();
    seats + areas.map(|(index, place)| price(lot.seats.len() + index) * u64::from(place.count)).sum::<u64>()
}

/// How many places of each area, whatever they cost.
fn by_area(lots: &[&[(u16, u64)]]) -> std::collections::BTreeMap<u16, u64> {
    let mut sums = std::collections::BTreeMap::new();
    for (area, count) in lots.iter().flat_map(|lot| lot.iter()) {
        *sums.entry(*area).or_default() += count;
    }
    sums.retain(|_, count| *count > 0);
    sums
}

/// Whether by this somebody gets what he had not, or pays.
pub(super) fn sells(event: &Event) -> bool {
    match event {
        Event::SeatsHeld { .. }
        | Event::PaymentStarted { .. }
        | Event::ProviderPaymentStarted { .. }
        | Event::ExchangeStarted { .. }
        | Event::TransferOffered { .. }
        | Event::ComplimentaryGiven { .. } => true,
        // What was under way before comes to its end.
        Event::OrderChanged { change, .. } => matches!(change.what, What::HandedOn { .. }),
        Event::ProviderPaymentMoved { moved, .. } => {
            matches!(moved.turn, Some(Turn::Authorized { .. } | Turn::Confirmed { again: true, .. }))
        }
        _ => false,
    }
}

impl Sales {
    /// Takes in a change of an order.
    pub(super) fn take_in_change(&mut self, meta: Meta, no: u64, change: &Change) -> Result<(), Broken> {
        let Some(sale) = self.reservations.get(&no).cloned() else {
            return Err(Broken { invariant: "I16", what: format!("{no} changes, and never was") });
        };
        self.may_be(no, sale.status, &change.what, meta.at)?;
        let (given, taken) = (places(&change.given.areas), places(&change.taken.areas));
        let is_exchange = change.what == What::Exchanged;
        let (less, more) = (change.given.places(), change.taken.places());
        ensure!(!is_exchange || less == more, "I16", "{no} gives {less} places and takes {more}");
        ensure!(is_exchange || more == 0, "I16", "{no} takes {more} places");
        self.book(no, sale.status, sale.amount, change)?;
        // What was pinned is let go, and taken at once.
        if let Some(difference) = &sale.exchange {
            let is_paid = is_exchange && change.leg.as_ref().is_some_and(|leg| leg.no == difference.no);
            ensure!(is_paid, "I16", "{no} changes by {:?} during an exchange", change.what);
            self.unpin(no, &difference.clone())?;
        } else {
            ensure!(change.leg.is_none(), "I16", "{no} has paid a difference that nobody was asked for");
        }
        self.occupy(no, &change.taken.seats, &taken)?;
        for seat in &change.given.seats {
            let owner = self.seats.remove(seat);
            let is_own = owner == Some(no) && sale.seats.contains(seat);
            ensure!(is_own, "I16", "{no} gives seat {seat}, which is {owner:?}'s");
            if sale.from_blocked.contains(seat) {
                self.seats.insert(*seat, 0);
            }
        }
        for (area, count) in &given {
            let known = self.areas.entry(*area).or_default();
            ensure!(*known >= *count, "I16", "{no} gives {count} places of {area}, of which {known} are taken");
            *known -= count;
        }
        let mut seats: Vec<_> = sale.seats.iter().filter(|seat| !change.given.seats.contains(seat)).copied().collect();
        seats.extend(&change.taken.seats);
        let is_all = matches!(change.what, What::Refunded { all: true, .. });
        ensure!(seats == change.then.seats.to_vec(), "I16", "{no} has {:?} instead of {seats:?}", change.then.seats);
        let (before, after) = (by_area(&[&sale.areas, &taken]), by_area(&[&places(&change.then.areas), &given]));
        ensure!(before == after, "I16", "{no} has {:?} after {:?}", change.then.areas, sale.areas);
        let Some(known) = self.reservations.get_mut(&no) else { return Ok(()) };
        (known.offer, known.exchange) = (None, None);
        if is_all {
            return Ok(());
        }
        (known.seats, known.areas, known.amount) = (seats, places(&change.then.areas), change.amount);
        known.from_blocked.retain(|seat| !change.given.seats.contains(seat));
        match &change.what {
            What::HandedOn { to, transfer } => {
                let by = sale.offer.as_ref().filter(|offer| transfer.is_some_and(|no| no == offer.no));
                let may = transfer.is_none() || by.is_some_and(|offer| offer.to == *to && meta.at < offer.expires_at);
                ensure!(may, "I16", "{no} is handed on to {to} by {transfer:?}, and is offered: {:?}", sale.offer);
                known.user = to.clone();
            }
            What::HeldUntil { expires_at } => known.expires_at = *expires_at,
            What::Released if known.seats.is_empty() && known.areas.is_empty() => {
                known.status = ReservationStatus::Released;
            }
            What::Released | What::Refunded { .. } | What::Exchanged => {}
        }
        Ok(())
    }

    fn may_be(&mut self, no: u64, status: ReservationStatus, what: &What, at: Timestamp) -> Result<(), Broken> {
        let may = match what {
            What::Released => status == ReservationStatus::Held,
            What::HeldUntil { expires_at } => status == ReservationStatus::Held && *expires_at > at,
            What::Refunded { .. } | What::Exchanged | What::HandedOn { .. } => {
                matches!(status, ReservationStatus::Confirmed { .. })
            }
        };
        ensure!(may, "I16", "{no} changes by {what:?}, and is {status:?}");
        if let (What::Refunded { all: true, .. }, ReservationStatus::Confirmed { payment }) = (what, status) {
            self.go(no, status, ReservationStatus::Refunded { payment })?;
        }
        Ok(())
    }

    /// What is paid of an order is what it costs, before and after each change; no leg gives more than it took, and to nobody
    /// but who paid it.
    fn book(&mut self, no: u64, status: ReservationStatus, cost: Points, change: &Change) -> Result<(), Broken> {
        let moves = !change.given.is_empty() || !change.taken.is_empty();
        let said = change.amount.get();
        let expected = cost.get() + worth(&change.taken) - worth(&change.given).min(cost.get());
        ensure!(!moves || said == expected, "I16", "{no} costs {said} after a change instead of {expected}");
        let is_kept = change.then.is_empty() || change.then.prices.is_empty() || worth(&change.then) == said;
        ensure!(is_kept, "I16", "what {no} has costs {}, and it is said to cost {said}", worth(&change.then));
        let ReservationStatus::Confirmed { payment: payment_no } = status else {
            let quiet = change.backs.is_empty() && change.leg.is_none();
            ensure!(quiet, "I16", "{no} is not paid, and money moves: {change:?}");
            return Ok(());
        };
        for back in &change.backs {
            self.number(back.refund)?;
            let (payment, user, amount) = (payment_no, back.user.clone(), back.amount);
            self.refunds.insert(back.refund, GoesBack { payment, user, amount, credited: false });
        }
        let is_asked_for = matches!(change.what, What::Refunded { .. });
        let Some(paid) = self.payments.get_mut(&payment_no) else {
            // A provider took it: what it owes is seen to by I13.
            let quiet = change.backs.is_empty() && change.leg.is_none();
            ensure!(quiet, "I16", "wallets are told of a change of {no}, which they did not pay: {change:?}");
            if let What::Refunded { refund, .. } = change.what {
                self.number(refund)?;
                self.last_of_others = refund;
            }
            return Ok(());
        };
        ensure!(!is_asked_for || !change.backs.is_empty(), "I16", "{no} is given back to nobody");
        if let Some(leg) = &change.leg {
            paid.legs.insert(leg.no, (leg.user.clone(), leg.taken.get(), 0));
            let difference = self.differences.get_mut(&leg.no).filter(|of| !of.failed && !of.paid);
            let is_known = difference.as_ref().is_some_and(|of| (&of.user, of.amount) == (&leg.user, leg.taken));
            ensure!(is_known, "I16", "{no} says that {leg:?} was paid, and asked for {difference:?}");
            difference.into_iter().for_each(|of| of.paid = true);
        }
        for back in &change.backs {
            let sum: u64 = back.drawn.iter().map(|drawn| drawn.amount.get()).sum();
            ensure!(sum == back.amount.get(), "I16", "{} gives back {}, and draws {sum}", back.refund, back.amount);
            for drawn in &back.drawn {
                let Some((user, taken, given)) = paid.legs.get_mut(&drawn.leg) else {
                    return Err(Broken {
                        invariant: "I16",
                        what: format!("{no} draws on {}, which never was", drawn.leg),
                    });
                };
                ensure!(*user == back.user, "I16", "{} gives {user}'s points to {}", back.refund, back.user);
                *given += drawn.amount.get();
                ensure!(given <= taken, "I16", "{given} of {taken} go back of {}", drawn.leg);
            }
        }
        let left: u64 = paid.legs.values().map(|(_, taken, given)| taken - given).sum();
        ensure!(left == said, "I16", "{left} are paid for {no}, which costs {said}");
        if let What::Refunded { refund, all: true, .. } = change.what {
            paid.status = PaymentStatus::Refunded { refund };
        }
        Ok(())
    }

    pub(super) fn take_in_started(&mut self, meta: Meta, no: u64, exchange: &Exchange) -> Result<(), Broken> {
        let (leg, change) = (&exchange.leg, &exchange.change);
        self.number(leg.no)?;
        ensure!(exchange.deadline > meta.at, "I16", "{no} has until {} to pay a difference", exchange.deadline);
        let (seats, areas) = (change.taken.seats.to_vec(), places(&change.taken.areas));
        self.occupy(no, &seats, &areas)?;
        let (user, amount) = (leg.user.clone(), leg.taken);
        let difference = Difference { no: leg.no, user, amount, paid: false, failed: false, seats, areas };
        self.differences.insert(leg.no, difference.clone());
        let Some(sale) = self.reservations.get_mut(&no) else {
            return Err(Broken { invariant: "I16", what: format!("{no} is exchanged, and never was") });
        };
        let may = matches!(sale.status, ReservationStatus::Confirmed { .. }) && sale.exchange.is_none();
        ensure!(may && sale.user == leg.user, "I16", "{no} is exchanged for {}: {sale:?}", leg.user);
        sale.exchange = Some(difference);
        Ok(())
    }

    pub(super) fn take_in_failed(&mut self, no: u64) -> Result<(), Broken> {
        let exchange = self.reservations.get_mut(&no).and_then(|sale| sale.exchange.take());
        let Some(difference) = exchange else {
            return Err(Broken {
                invariant: "I16",
                what: format!("an exchange of {no} fails, and none was under way"),
            });
        };
        self.differences.entry(difference.no).and_modify(|of| of.failed = true);
        self.unpin(no, &difference)
    }

    fn unpin(&mut self, no: u64, difference: &Difference) -> Result<(), Broken> {
        for seat in &difference.seats {
            let owner = self.seats.remove(seat);
            ensure!(owner == Some(no), "I16", "seat {seat} was pinned for {no}, and is {owner:?}'s");
        }
        for (area, count) in &difference.areas {
            *self.areas.entry(*area).or_default() -= count;
        }
        Ok(())
    }

    pub(super) fn offer(&mut self, no: u64, offer: Option<&Offer>) -> Result<(), Broken> {
        let Some(sale) = self.reservations.get_mut(&no) else {
            return Err(Broken { invariant: "I16", what: format!("{no} is offered, and never was") });
        };
        let may = matches!(sale.status, ReservationStatus::Confirmed { .. }) && sale.exchange.is_none();
        ensure!(may, "I16", "{no} is offered, and is {:?}", sale.status);
        sale.offer = offer.cloned();
        Ok(())
    }
}
