//! The invariants of DESIGN.md that can be checked from events and states alone: I1, I2, I5, I6, I13 and I16, and that sagas end as
//! they should.
//!
//! [`Audit`] is a second, naive reading of the events: it shares no code with the aggregates, so that a mistake of theirs
//! is not its own. It is for property tests, the simulator and whoever audits a journal; [`option()`] and [`wallet()`] look
//! at one state and are cheap enough for an assertion.

use std::collections::{BTreeMap, BTreeSet};

use self::money::Provided;
use self::orders::Difference;
use super::concert_option::{
    self, ConcertOption, Definition, Moved, Offer, PaymentStatus, ReservationStatus, SeatSet, Turn,
};
use super::seat_map::Status;
use super::waiting_room::{self, Mode, Settings, WaitingRoom};
use super::wallet::{self, Wallet, Way};
use super::{ConcertId, Meta, OptionId, PaymentId, Points, RefundId, ReservationId, Timestamp, UserId};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} is broken: {what}")]
pub struct Broken {
    /// Its number in DESIGN.md, or `saga`.
    pub invariant: &'static str,
    /// By what.
    pub what: String,
}

macro_rules! ensure {
    ($holds:expr, $invariant:literal, $($what:tt)+) => {
        if !$holds {
            return Err(Broken { invariant: $invariant, what: format!($($what)+) });
        }
    };
}

mod money;
mod orders;

/// I1 in one state: each seat that is held or sold belongs to one reservation, in that reservation's status, and the
/// areas and the users' counts add up to the reservations.
///
/// # Errors
/// It does not hold.
pub fn option(option: &ConcertOption) -> Result<(), Broken> {
    let (mut owned, mut users) = (BTreeMap::new(), BTreeMap::<&UserId, u32>::new());
    let mut areas = vec![(0_u32, 0_u32); option.areas().len()];
    for (no, reservation) in option.reservations() {
        let status = match reservation.status {
            ReservationStatus::Held | ReservationStatus::Paying { .. } => Status::Held,
            ReservationStatus::Confirmed { .. } => Status::Sold,
            ReservationStatus::Released | ReservationStatus::Expired | ReservationStatus::Refunded { .. } => continue,
        };
        *users.entry(&reservation.user).or_default() += reservation.places();
        for seat in &reservation.seats {
            let other = owned.insert(*seat, no);
            ensure!(other.is_none(), "I1", "seat {seat} belongs to reservations {other:?} and {no}");
            let (known, owner) = (option.seats().status(*seat), option.seats().owner(*seat));
            ensure!((known, owner) == (status, no), "I1", "seat {seat} of {no} is {known:?} for {owner}");
        }
        for place in &reservation.areas {
            let (held, sold) = &mut areas[usize::from(place.area)];
            *(if status == Status::Held { held } else { sold }) += place.count;
        }
        // What is to be taken in exchange is pinned.
        let Some(exchange) = reservation.exchange() else { continue };
        for seat in &exchange.change.taken.seats {
            let other = owned.insert(*seat, no);
            ensure!(other.is_none(), "I1", "seat {seat} is pinned for {no}, and is {other:?}'s");
            let (known, owner) = (option.seats().status(*seat), option.seats().owner(*seat));
            ensure!((known, owner) == (Status::Held, no), "I1", "seat {seat} of {no} is {known:?} for {owner}");
        }
        for place in &exchange.change.taken.areas {
            areas[usize::from(place.area)].0 += place.count;
        }
    }
    let taken =
        (0..option.seats().len()).filter(|seat| matches!(option.seats().status(*seat), Status::Held | Status::Sold));
    ensure!(taken.eq(owned.keys().copied()), "I1", "a seat is taken for no reservation");
    let known: Vec<_> = option.areas().iter().map(|area| (area.held, area.sold)).collect();
    ensure!(known == areas, "I1", "areas say {known:?}, reservations {areas:?}");
    let capacities = option.definition().map_or(&[][..], |definition| &definition.areas);
    for ((area, (held, sold)), state) in capacities.iter().zip(areas).zip(option.areas()) {
        let taken = held + sold + state.blocked;
        ensure!(taken <= area.capacity, "I1", "{taken} of {} places are taken", area.capacity);
    }
    let known: BTreeMap<_, _> = option.users().collect();
    ensure!(known == users, "I1", "users are said to have {known:?}, and have {users:?}");
    Ok(())
}

/// I2 in one state: a wallet never holds more than was charged.
///
/// # Errors
/// It does not hold.
pub fn wallet(wallet: &Wallet) -> Result<(), Broken> {
    let (balance, charged) = (wallet.balance(), wallet.charged());
    ensure!(balance <= charged, "I2", "a balance of {balance} after charges of {charged}");
    Ok(())
}

/// All that has happened, read event by event.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    options: BTreeMap<OptionId, Sales>,
    accounts: BTreeMap<UserId, Account>,
    lines: BTreeMap<ConcertId, Line>,
    debits: BTreeMap<PaymentId, (UserId, Points)>,
    credits: BTreeMap<RefundId, (UserId, Points)>,
}

/// What one option has sold.
#[derive(Debug, Clone, Default)]
struct Sales {
    /// Seats that are not free: whose, or 0 if blocked.
    seats: BTreeMap<u32, u64>,
    /// How many numbers seats have, and which of them are not for sale.
    seat_count: u32,
    not_for_sale: SeatSet,
    /// Those of them that were blocked before.
    kept_blocked: BTreeSet<u32>,
    /// Places taken, the blocked ones among them.
    areas: BTreeMap<u16, u64>,
    /// Places blocked.
    blocked: BTreeMap<u16, u64>,
    capacities: Vec<u64>,
    reservations: BTreeMap<u64, Sale>,
    payments: BTreeMap<u64, Paid>,
    /// What goes back to wallets.
    refunds: BTreeMap<u64, GoesBack>,
    /// Differences of exchanges that wallets were asked for: by number, of which reservation.
    differences: BTreeMap<u64, Difference>,
    /// Payments by providers.
    provided: BTreeMap<u64, Provided>,
    /// The last number of what is in none of these lists.
    last_of_others: u64,
    /// The performance is called off.
    called_off: bool,
    /// It is deleted.
    deleted: bool,
}

#[derive(Debug, Clone)]
struct Sale {
    user: UserId,
    seats: Vec<u32>,
    areas: Vec<(u16, u64)>,
    amount: Points,
    expires_at: Timestamp,
    status: ReservationStatus,
    token: Option<u64>,
    /// Paid with a token, of which the waiting room is not known to have taken note.
    token_owed: bool,
    /// The exchange that is under way.
    exchange: Option<Difference>,
    /// Seats that were blocked before.
    from_blocked: BTreeSet<u32>,
    offer: Option<Offer>,
}

#[derive(Debug, Clone)]
struct Paid {
    reservation: u64,
    status: PaymentStatus,
    user: UserId,
    amount: Points,
    /// Nothing was to pay, and nothing is debited.
    complimentary: bool,
    /// What wallets have paid: by number, whose, how much, and how much of that goes back.
    legs: BTreeMap<u64, (UserId, u64, u64)>,
}

#[derive(Debug, Clone)]
struct GoesBack {
    payment: u64,
    user: UserId,
    amount: Points,
    /// The points are known to be there.
    credited: bool,
}

/// One wallet, by its events.
#[derive(Debug, Clone, Default)]
struct Account {
    balance: u64,
    /// Also by corrections.
    charged: u64,
    credited: u64,
    debited: u64,
    /// By corrections.
    taken: u64,
    entries: u64,
}

/// One waiting room, by its events.
#[derive(Debug, Clone, Default)]
struct Line {
    settings: Settings,
    waiting: BTreeSet<u64>,
    active: BTreeMap<u64, Timestamp>,
    /// Whether those who wait stand in the order of their numbers.
    by_number: bool,
    /// Whether the line is yet to open, or has opened after that was planned.
    opens_later: bool,
    has_opened: bool,
    /// Those of them who wait who were sent back, and whose numbers no event has told since.
    untold: BTreeSet<u64>,
    /// Its concert is deleted.
    closed: bool,
}

impl Audit {
    /// Takes in an event of a concert option.
    ///
    /// # Errors
    /// I1: it takes a seat or place that is not free, or frees one that is not its own. I5: it expires a hold early, or one
    /// that is being paid. `saga`: it moves a reservation or payment where it cannot go from where it stands.
    pub fn option_event(&mut self, id: OptionId, meta: Meta, event: &concert_option::Event) -> Result<(), Broken> {
        self.options.entry(id).or_default().take_in(meta, event)
    }

    /// Takes in an event of a wallet.
    ///
    /// # Errors
    /// I2: its balance is not what charges, corrections, debits and credits add up to, or would be below zero, or a payment is debited
    /// or a refund credited for the second time.
    pub fn wallet_event(&mut self, user: &UserId, event: &wallet::Event) -> Result<(), Broken> {
        let account = self.accounts.entry(user.clone()).or_default();
        match event {
            wallet::Event::Charged { entry, amount, balance, .. } => {
                account.charged += amount.get();
                account.book(*entry, *balance)?;
                let came = account.charged - account.taken;
                ensure!(came <= Points::MAX.get(), "I2", "{user} charged {came}");
            }
            wallet::Event::Adjusted { entry, way: Way::Up, amount, balance, .. } => {
                account.charged += amount.get();
                account.book(*entry, *balance)?;
                let came = account.charged - account.taken;
                ensure!(came <= Points::MAX.get(), "I2", "{user} got {came}");
            }
            wallet::Event::Adjusted { entry, way: Way::Down, amount, balance, .. } => {
                ensure!(amount.get() <= account.balance, "I2", "entry {entry} takes {amount} of {}", account.balance);
                account.taken += amount.get();
                account.book(*entry, *balance)?;
            }
            wallet::Event::Debited { entry, payment, amount, balance, .. } => {
                ensure!(amount.get() <= account.balance, "I2", "{payment} takes {amount} of {}", account.balance);
                account.debited += amount.get();
                account.book(*entry, *balance)?;
                let twice = self.debits.insert(*payment, (user.clone(), *amount));
                ensure!(twice.is_none(), "I2", "{payment} is debited twice");
            }
            wallet::Event::Credited { entry, refund, amount, balance, .. } => {
                account.credited += amount.get();
                account.book(*entry, *balance)?;
                let twice = self.credits.insert(*refund, (user.clone(), *amount));
                ensure!(twice.is_none(), "I2", "{refund} is credited twice");
            }
            wallet::Event::DebitRefused { payment, amount, balance, .. } => {
                let rightly = balance.get() == account.balance && balance < amount;
                ensure!(rightly, "I2", "{payment} of {amount} is refused at {}", account.balance);
            }
            wallet::Event::DebitCancelled { payment, .. } => {
                ensure!(!self.debits.contains_key(payment), "I2", "{payment} is called off after its debit");
            }
        }
        Ok(())
    }

    /// Takes in an event of a waiting room.
    ///
    /// # Errors
    /// I6: in mode `queue`, somebody is admitted out of order under fifo, or while `max_active` or more are inside; or more
    /// are when the line is switched on, or somebody is sent back to it without need.
    pub fn room_event(&mut self, id: ConcertId, meta: Meta, event: &waiting_room::Event) -> Result<(), Broken> {
        self.lines.entry(id).or_default().take_in(meta, event)
    }

    /// I1 and I2: a state agrees with its events.
    ///
    /// # Errors
    /// It does not.
    pub fn agrees_with_option(&self, id: OptionId, state: &ConcertOption) -> Result<(), Broken> {
        option(state)?;
        let Some(sales) = self.options.get(&id) else { return Ok(()) };
        for (no, sale) in &sales.reservations {
            let known = state.reservation(*no).map(|reservation| reservation.status);
            let over = match sale.status {
                ReservationStatus::Refunded { payment } => {
                    let mut refunds = sales.refunds.values().filter(|refund| refund.payment == payment).peekable();
                    let credited = refunds.peek().is_some() && refunds.all(|refund| refund.credited);
                    let cold = sales.provided.get(&payment).is_some_and(|payment| payment.cold);
                    let warm = sales.provided.values().any(|other| other.reservation == *no && !other.cold);
                    (credited || cold) && !warm && !sale.token_owed
                }
                _ => matches!(sale.status, ReservationStatus::Released | ReservationStatus::Expired),
            };
            let expected = (!over).then_some(sale.status);
            ensure!(known == expected, "I1", "reservation {no} is {known:?} instead of {expected:?}");
        }
        for seat in 0..state.seats().len() {
            let (status, owner) = (state.seats().status(seat), state.seats().owner(seat));
            let known = (status != Status::Free).then_some(owner);
            let expected = sales.seats.get(&seat).copied();
            ensure!(known == expected, "I1", "seat {seat} belongs to {known:?} instead of {expected:?}");
        }
        for (area, state) in (0..).zip(state.areas()) {
            let (known, expected) = (state.blocked, sales.blocked.get(&area).copied().unwrap_or(0));
            ensure!(u64::from(known) == expected, "I1", "{known} places of {area} are blocked instead of {expected}");
        }
        Ok(())
    }

    /// I2: a wallet's state agrees with its events.
    ///
    /// # Errors
    /// It does not.
    pub fn agrees_with_wallet(&self, user: &UserId, state: &Wallet) -> Result<(), Broken> {
        wallet(state)?;
        let (known, expected) = (state.balance().get(), self.accounts.get(user).map_or(0, |account| account.balance));
        ensure!(known == expected, "I2", "{user} has {known} instead of {expected}");
        Ok(())
    }

    /// Whether a reservation counts as an open hold: it is held, or being paid.
    #[must_use]
    pub fn may_be_held(&self, id: ReservationId) -> bool {
        let sale = self.options.get(&id.option).and_then(|sales| sales.reservations.get(&id.no));
        sale.is_some_and(|sale| sale.status.may_be_held())
    }

    /// I6: a waiting room's state agrees with its events.
    ///
    /// # Errors
    /// It does not.
    pub fn agrees_with_room(&self, id: ConcertId, state: &WaitingRoom) -> Result<(), Broken> {
        let Some(line) = self.lines.get(&id) else { return Ok(()) };
        let waiting: BTreeSet<_> = state.waiting().collect();
        ensure!(waiting == line.waiting, "I6", "{waiting:?} wait in {id} instead of {:?}", line.waiting);
        let (inside, expected) = (state.counts().active, line.active.len() as u64);
        ensure!(inside == expected, "I6", "{inside} are inside {id} instead of {expected}");
        Ok(())
    }

    /// I2 over all: the sum of all balances = all charges + corrections + credits - debits.
    ///
    /// # Errors
    /// It does not hold.
    pub fn money<'a>(&self, wallets: impl IntoIterator<Item = &'a Wallet>) -> Result<(), Broken> {
        let sum = |of: fn(&Account) -> u64| self.accounts.values().map(|account| u128::from(of(account))).sum::<u128>();
        let expected = sum(|account| account.charged) + sum(|account| account.credited);
        let expected = expected - sum(|account| account.debited) - sum(|account| account.taken);
        let balances: u128 = wallets.into_iter().map(|wallet| u128::from(wallet.balance().get())).sum();
        ensure!(balances == expected, "I2", "all balances make {balances} instead of {expected}");
        Ok(())
    }

    /// That no money is where it should not be, whatever is still under way: points are taken for payments that are
    /// pending or went well only, by the price, from the owner; and given back for refunds only.
    ///
    /// # Errors
    /// It is.
    pub fn sagas(&self) -> Result<(), Broken> {
        for (id, taken) in &self.debits {
            let sales = self.options.get(&id.option);
            let payment = sales.and_then(|sales| sales.payments.get(&id.no));
            let difference = sales.and_then(|sales| sales.differences.get(&id.no));
            let failed = payment.is_some_and(|payment| matches!(payment.status, PaymentStatus::Failed { .. }))
                || difference.is_some_and(|difference| difference.failed);
            ensure!(!failed, "saga", "{id} has failed, and was debited");
            let price = payment.map(|payment| (payment.user.clone(), payment.amount));
            let price = price.or_else(|| difference.map(|of| (of.user.clone(), of.amount)));
            ensure!(price.as_ref() == Some(taken), "saga", "{id} was debited {taken:?}");
        }
        for (id, given) in &self.credits {
            let refund = self.options.get(&id.option).and_then(|sales| sales.refunds.get(&id.no));
            let price = refund.map(|refund| (refund.user.clone(), refund.amount));
            ensure!(price.as_ref() == Some(given), "saga", "{id} was credited {given:?}");
        }
        for (id, sales) in &self.options {
            for (no, payment) in &sales.payments {
                let debited = self.debits.contains_key(&PaymentId { option: *id, no: *no });
                let went_well = matches!(payment.status, PaymentStatus::Completed | PaymentStatus::Refunded { .. });
                ensure!(
                    debited || !went_well || payment.complimentary,
                    "saga",
                    "{id} says that {no} is paid, and nothing was debited"
                );
            }
            for (no, difference) in sales.differences.iter().filter(|(_, difference)| difference.paid) {
                let debited = self.debits.contains_key(&PaymentId { option: *id, no: *no });
                ensure!(debited, "I16", "{id} says that {no} is paid: {difference:?}, and nothing was debited");
            }
            for (no, refund) in &sales.refunds {
                let known = self.credits.contains_key(&RefundId { option: *id, no: *no });
                ensure!(known || !refund.credited, "saga", "{id} says that {no} is credited, and nothing was");
            }
        }
        Ok(())
    }

    /// That nothing is under way any more: no payment is pending, every refund has been credited, every token of a paid
    /// reservation acknowledged.
    ///
    /// # Errors
    /// Something is.
    pub fn settled(&self) -> Result<(), Broken> {
        self.sagas()?;
        for (id, sales) in &self.options {
            let pending = sales.payments.iter().find(|(_, payment)| payment.status == PaymentStatus::Pending);
            ensure!(pending.is_none(), "saga", "{id} has a pending payment: {pending:?}");
            let owed = sales.refunds.iter().find(|(_, refund)| !refund.credited);
            ensure!(owed.is_none(), "saga", "{id} owes a refund: {owed:?}");
            let open = sales.reservations.iter().find(|(_, sale)| sale.exchange.is_some());
            ensure!(open.is_none(), "saga", "{id} has an exchange under way: {open:?}");
            let paying =
                sales.reservations.iter().find(|(_, sale)| matches!(sale.status, ReservationStatus::Paying { .. }));
            ensure!(paying.is_none(), "saga", "{id} has a paying reservation: {paying:?}");
            let owed = sales.provided.iter().find(|(_, payment)| payment.owed.values().any(|owed| !owed.by_hand));
            ensure!(owed.is_none(), "I13", "{id} still owes: {owed:?}");
            let used = sales.reservations.iter().find(|(_, sale)| sale.token_owed);
            ensure!(used.is_none(), "saga", "{id} owes a token: {used:?}");
        }
        Ok(())
    }
}

impl Account {
    fn book(&mut self, entry: u64, balance: Points) -> Result<(), Broken> {
        ensure!(entry == self.entries + 1, "I2", "entry {entry} comes after {}", self.entries);
        self.entries = entry;
        // Debits are checked against the balance before.
        self.balance = self.charged + self.credited - self.debited - self.taken;
        ensure!(balance.get() == self.balance, "I2", "entry {entry} says {balance} instead of {}", self.balance);
        Ok(())
    }
}

impl Sales {
    fn take_in(&mut self, meta: Meta, event: &concert_option::Event) -> Result<(), Broken> {
        use concert_option::Event;
        let sells = orders::sells(event);
        ensure!(!(sells && self.called_off), "I16", "what is called off is sold: {event:?}");
        let is_noted = matches!(event, Event::DeletionNoted);
        ensure!(self.deleted == is_noted, "saga", "what is deleted is not done with, or what is not is: {event:?}");
        match event {
            Event::OptionDefined { definition, .. } => {
                ensure!(self.reservations.is_empty(), "saga", "an option is defined twice");
                self.capacities = definition.areas.iter().map(|area| u64::from(area.capacity)).collect();
                self.seats.extend(definition.not_for_sale.iter().map(|seat| (seat, 0)));
                (self.seat_count, self.not_for_sale) = (definition.seat_count, definition.not_for_sale.clone());
            }
            Event::OptionRescheduled { .. } => {}
            Event::OptionChanged { definition, .. } => {
                self.replan(definition)?;
                self.capacities = definition.areas.iter().map(|area| u64::from(area.capacity)).collect();
                for (area, taken) in &mut self.areas {
                    let capacity = self.capacities.get(usize::from(*area)).copied().unwrap_or(0);
                    // Blocked places go before any that somebody has.
                    let blocked = self.blocked.entry(*area).or_default();
                    let gone = taken.saturating_sub(capacity).min(*blocked);
                    (*blocked, *taken) = (*blocked - gone, *taken - gone);
                    ensure!(*taken <= capacity, "I1", "{taken} of {capacity} places of {area} are taken");
                }
            }
            Event::TokenCompleted { reservation } => {
                let sale = self.reservations.get_mut(reservation);
                let owed = sale.is_some_and(|sale| std::mem::take(&mut sale.token_owed));
                ensure!(owed, "saga", "the token of {reservation} is acknowledged, and was not owed");
            }
            Event::SeatsHeld {
                reservation: no, user, seats, areas, amount, expires_at, token, from_blocked, ..
            } => {
                let areas: Vec<_> = areas.iter().map(|place| (place.area, u64::from(place.count))).collect();
                for seat in from_blocked {
                    let was = self.seats.remove(seat);
                    ensure!(was == Some(0), "I1", "seat {seat} is said to have been blocked, and was {was:?}'s");
                    ensure!(seats.contains(seat), "I1", "seat {seat} was blocked, and is not held for {no}");
                }
                self.occupy(*no, seats, &areas)?;
                let sale = Sale {
                    user: user.clone(),
                    seats: seats.to_vec(),
                    areas,
                    amount: *amount,
                    expires_at: *expires_at,
                    status: ReservationStatus::Held,
                    token: *token,
                    token_owed: false,
                    exchange: None,
                    from_blocked: from_blocked.iter().copied().collect(),
                    offer: None,
                };
                self.number(*no)?;
                self.reservations.insert(*no, sale);
            }
            Event::ReservationReleased { reservation, .. } => {
                self.go(*reservation, ReservationStatus::Held, ReservationStatus::Released)?;
                self.vacate(*reservation)?;
            }
            Event::ReservationsExpired { reservations } => {
                for no in reservations {
                    let until = self.reservations.get(no).map(|sale| sale.expires_at);
                    let due = until.is_some_and(|until| until <= meta.at);
                    ensure!(due, "I5", "{no} expired at {}, and was held until {until:?}", meta.at);
                    self.go(*no, ReservationStatus::Held, ReservationStatus::Expired)?;
                    self.vacate(*no)?;
                }
            }
            Event::PaymentStarted { payment, reservation, .. } => {
                self.number(*payment)?;
                self.go(*reservation, ReservationStatus::Held, ReservationStatus::Paying { payment: *payment })?;
                self.pay_for(*payment, *reservation, PaymentStatus::Pending);
            }
            Event::PaymentConfirmed { payment, .. } => {
                let no = self.pay(*payment, PaymentStatus::Pending, PaymentStatus::Completed)?;
                let (from, to) = (*payment, *payment);
                let to = ReservationStatus::Confirmed { payment: to };
                self.go(no, ReservationStatus::Paying { payment: from }, to)?;
                if let Some(sale) = self.reservations.get_mut(&no) {
                    sale.token_owed = sale.token.is_some();
                }
                if let Some(paid) = self.payments.get_mut(payment) {
                    paid.legs.insert(*payment, (paid.user.clone(), paid.amount.get(), 0));
                }
            }
            Event::PaymentFailed { payment, reason } => {
                let no = self.pay(*payment, PaymentStatus::Pending, PaymentStatus::Failed { reason: *reason })?;
                self.go(no, ReservationStatus::Paying { payment: *payment }, ReservationStatus::Held)?;
            }
            Event::PaymentRefunded { refund, payment, .. } => {
                self.number(*refund)?;
                let no = self.pay(*payment, PaymentStatus::Completed, PaymentStatus::Refunded { refund: *refund })?;
                let from = ReservationStatus::Confirmed { payment: *payment };
                self.go(no, from, ReservationStatus::Refunded { payment: *payment })?;
                self.vacate(no)?;
                let Some(paid) = self.payments.get_mut(payment) else { return Ok(()) };
                let untouched = paid.legs.len() == 1 && paid.legs.values().all(|(_, _, back)| *back == 0);
                ensure!(untouched, "I16", "{payment} goes back as a whole, and is {:?}", paid.legs);
                paid.legs.values_mut().for_each(|(_, taken, back)| *back = *taken);
                let (payment, user, amount) = (*payment, paid.user.clone(), paid.amount);
                self.refunds.insert(*refund, GoesBack { payment, user, amount, credited: false });
            }
            Event::RefundCredited { refund, left, .. } => {
                let Some(known) = self.refunds.get_mut(refund) else {
                    return Err(Broken { invariant: "saga", what: format!("refund {refund} never was") });
                };
                ensure!(!known.credited, "saga", "refund {refund} is credited twice");
                known.credited = true;
                let payment = known.payment;
                let paid = self.payments.get(&payment);
                let open = self.refunds.values().any(|back| back.payment == payment && !back.credited);
                let stays = paid.filter(|paid| paid.status == PaymentStatus::Completed || open);
                let expected = stays.map(|paid| paid.legs.values().map(|(_, taken, back)| taken - back).sum::<u64>());
                let said = left.map(Points::get);
                ensure!(said == expected, "I16", "{refund} leaves {said:?} paid instead of {expected:?}");
            }
            Event::SeatsBlocked { seats, many, areas, .. } => {
                let areas: Vec<_> = areas.iter().map(|place| (place.area, u64::from(place.count))).collect();
                self.occupy(0, &[], &areas)?;
                for (area, count) in areas {
                    *self.blocked.entry(area).or_default() += count;
                }
                for seat in seats.iter().copied().chain(many.iter()) {
                    let other = self.seats.insert(seat, 0);
                    ensure!(other.is_none(), "I1", "seat {seat} is blocked, and was {other:?}'s");
                }
            }
            Event::SeatsUnblocked { seats, many, areas, .. } => {
                for place in areas {
                    let (blocked, count) = (self.blocked.entry(place.area).or_default(), u64::from(place.count));
                    ensure!(*blocked >= count, "I1", "{count} places are unblocked, of {blocked} that are blocked");
                    *blocked -= count;
                    *self.areas.entry(place.area).or_default() -= count;
                }
                for seat in seats.iter().copied().chain(many.iter()) {
                    let other = self.seats.remove(&seat);
                    ensure!(other == Some(0), "I1", "seat {seat} is unblocked, and was {other:?}'s");
                }
            }
            Event::ProviderPaymentStarted { payment, reservation, terms, amount, deadline, .. } => {
                self.number(*payment)?;
                self.go(*reservation, ReservationStatus::Held, ReservationStatus::Paying { payment: *payment })?;
                let price = self.reservations.get(reservation).map(|sale| sale.amount);
                ensure!(price == Some(*amount), "I13", "{payment} is of {amount}, and the price is {price:?}");
                self.provided.insert(*payment, Provided::new(*reservation, amount.get(), terms, *deadline));
            }
            Event::ProviderPaymentMoved { payment, moved } => self.take_in_moved(meta, *payment, moved)?,
            Event::ProviderAttemptFailed { payment, owed, .. } => {
                let known = self.provided.get(payment).is_some_and(|payment| payment.owed.contains_key(owed));
                ensure!(known, "I13", "{payment} was tried to be settled, and does not owe {owed}");
            }
            Event::ProviderPaymentsWentCold { payments } => {
                for no in payments {
                    let payment = self.provided.get_mut(no);
                    let may = payment.as_ref().is_some_and(|payment| payment.owed.is_empty() && !payment.cold);
                    ensure!(may, "I13", "{no} leaves memory: {payment:?}");
                    payment.into_iter().for_each(|payment| payment.cold = true);
                }
            }
            Event::ProviderPaymentRevived { payment, .. } => {
                let was = self.provided.get_mut(payment).map(|payment| std::mem::take(&mut payment.cold));
                ensure!(was == Some(true), "I13", "{payment} comes back, and had not left memory");
            }
            Event::OrderChanged { reservation, change } => self.take_in_change(meta, *reservation, change)?,
            Event::ExchangeStarted { reservation, exchange } => self.take_in_started(meta, *reservation, exchange)?,
            Event::ExchangeFailed { reservation, .. } => self.take_in_failed(*reservation)?,
            Event::TransferOffered { reservation, offer, .. } => {
                self.number(offer.no)?;
                self.last_of_others = offer.no;
                self.offer(*reservation, Some(offer))?;
            }
            Event::TransferWithdrawn { reservation, .. } => self.offer(*reservation, None)?,
            Event::CalledOff { .. } => self.called_off = true,
            Event::OptionDeleted { .. } => {
                ensure!(self.reservations.is_empty(), "I1", "what was held is deleted");
                self.deleted = true;
            }
            Event::DeletionNoted => {}
            Event::ComplimentaryGiven { payment, reservation } => {
                self.number(*payment)?;
                let to = ReservationStatus::Confirmed { payment: *payment };
                self.go(*reservation, ReservationStatus::Held, to)?;
                let free = self.reservations.get(reservation).map(|sale| sale.amount);
                ensure!(free == Some(Points::ZERO), "I16", "{reservation} is given away, and costs {free:?}");
                self.pay_for(*payment, *reservation, PaymentStatus::Completed);
                if let Some(paid) = self.payments.get_mut(payment) {
                    paid.complimentary = true;
                    paid.legs.insert(*payment, (paid.user.clone(), 0, 0));
                }
            }
        }
        Ok(())
    }

    fn pay_for(&mut self, no: u64, reservation: u64, status: PaymentStatus) {
        let Some(sale) = self.reservations.get(&reservation) else { return };
        let (user, amount, legs) = (sale.user.clone(), sale.amount, BTreeMap::new());
        self.payments.insert(no, Paid { reservation, status, user, amount, complimentary: false, legs });
    }

    fn take_in_moved(&mut self, meta: Meta, no: u64, moved: &Moved) -> Result<(), Broken> {
        let Some(payment) = self.provided.get_mut(&no) else {
            return Err(Broken { invariant: "I13", what: format!("{no} moves, and never began") });
        };
        let (reservation, pinned_until) = (payment.reservation, payment.pinned_until);
        payment.take_in(no, meta.at, moved)?;
        let paying = ReservationStatus::Paying { payment: no };
        match &moved.turn {
            Some(Turn::Authorized { again, .. }) => self.claim(reservation, no, *again, paying)?,
            Some(Turn::Confirmed { again, .. }) => {
                self.claim(reservation, no, *again, ReservationStatus::Confirmed { payment: no })?;
                if let Some(sale) = self.reservations.get_mut(&reservation) {
                    sale.token_owed = sale.token.is_some();
                }
            }
            Some(Turn::Ended { why, lapses }) => {
                use concert_option::Ending;
                let by_time = matches!(why, Ending::Lapsed | Ending::CaptureLapsed);
                let early = by_time && pinned_until.is_none_or(|until| until > meta.at);
                ensure!(!early, "I5", "{no} lapses at {}, and was pinned until {pinned_until:?}", meta.at);
                self.go(reservation, paying, ReservationStatus::Held)?;
                let until = self.reservations.get(&reservation).map(|sale| sale.expires_at);
                let over = until.is_some_and(|until| until <= meta.at);
                // What is called off is released then, whatever its time.
                let may_stay = *why == Ending::CalledOff && !lapses;
                ensure!(
                    over == *lapses || may_stay,
                    "I5",
                    "{reservation} lapses at {}: {lapses}, held until {until:?}",
                    meta.at
                );
                if *lapses {
                    self.go(reservation, ReservationStatus::Held, ReservationStatus::Expired)?;
                    self.vacate(reservation)?;
                }
            }
            Some(Turn::Refunded { refund, .. }) => {
                if let Some(refund) = refund {
                    self.number(*refund)?;
                    self.last_of_others = *refund;
                }
                let from = ReservationStatus::Confirmed { payment: no };
                self.go(reservation, from, ReservationStatus::Refunded { payment: no })?;
                self.vacate(reservation)?;
            }
            Some(Turn::Changed { change }) => self.take_in_change(meta, reservation, change)?,
            None => {}
        }
        Ok(())
    }

    /// Seats are a payment's, which may have to take them again.
    fn claim(&mut self, no: u64, payment: u64, again: bool, to: ReservationStatus) -> Result<(), Broken> {
        let Some(sale) = self.reservations.get_mut(&no) else {
            return Err(Broken { invariant: "saga", what: format!("{payment} is for {no}, which never was") });
        };
        let was = std::mem::replace(&mut sale.status, to);
        let may = if again {
            was == ReservationStatus::Expired
        } else {
            was == ReservationStatus::Held || was == ReservationStatus::Paying { payment }
        };
        ensure!(may, "I13", "{payment} takes the seats of {no}, which was {was:?}");
        if again {
            let (seats, areas) = (sale.seats.clone(), sale.areas.clone());
            self.occupy(no, &seats, &areas)?;
        }
        Ok(())
    }

    /// No seat goes that somebody has, and none loses its number.
    fn replan(&mut self, definition: &Definition) -> Result<(), Broken> {
        let (before, after) = (self.seat_count, definition.seat_count);
        ensure!(before <= after, "I1", "of {before} seats {after} are left");
        let off = std::mem::replace(&mut self.not_for_sale, definition.not_for_sale.clone());
        for seat in off.iter().filter(|seat| !definition.not_for_sale.contains(*seat)) {
            let was = self.seats.get(&seat).copied();
            ensure!(was == Some(0), "I1", "seat {seat} was not for sale, and {was:?}'s");
            if !self.kept_blocked.remove(&seat) {
                self.seats.remove(&seat);
            }
        }
        for seat in definition.not_for_sale.iter().filter(|seat| !off.contains(*seat)) {
            let was = self.seats.insert(seat, 0);
            ensure!(was.unwrap_or(0) == 0, "I1", "seat {seat} is not for sale any more, and is {was:?}'s");
            self.kept_blocked.extend(was.map(|_| seat));
        }
        self.seat_count = after;
        Ok(())
    }

    fn occupy(&mut self, no: u64, seats: &[u32], areas: &[(u16, u64)]) -> Result<(), Broken> {
        for seat in seats {
            let other = self.seats.insert(*seat, no);
            ensure!(other.is_none(), "I1", "seat {seat} is held for {no}, and was {other:?}'s");
        }
        for (area, count) in areas {
            let taken = self.areas.entry(*area).or_default();
            *taken += count;
            let capacity = self.capacities.get(usize::from(*area)).copied().unwrap_or(0);
            ensure!(*taken <= capacity, "I1", "{taken} of {capacity} places of {area} are taken");
        }
        Ok(())
    }

    /// Numbers are given once, ascending, to reservations, payments and refunds together.
    fn number(&self, no: u64) -> Result<(), Broken> {
        let last = [
            self.reservations.keys().last(),
            self.payments.keys().last(),
            self.refunds.keys().last(),
            self.provided.keys().last(),
            self.differences.keys().last(),
            Some(&self.last_of_others),
        ];
        let last = last.into_iter().flatten().max().copied().unwrap_or(0);
        ensure!(no == last + 1, "saga", "number {no} comes after {last}");
        Ok(())
    }

    fn go(&mut self, no: u64, from: ReservationStatus, to: ReservationStatus) -> Result<(), Broken> {
        let status = self.reservations.get_mut(&no).map(|sale| std::mem::replace(&mut sale.status, to));
        ensure!(status == Some(from), "saga", "reservation {no} becomes {to:?}, and was {status:?}");
        Ok(())
    }

    /// Moves a payment on; its reservation.
    fn pay(&mut self, no: u64, from: PaymentStatus, to: PaymentStatus) -> Result<u64, Broken> {
        let before = self.payments.get_mut(&no).map(|paid| (std::mem::replace(&mut paid.status, to), paid.reservation));
        match before {
            Some((status, reservation)) if status == from => Ok(reservation),
            _ => Err(Broken { invariant: "saga", what: format!("payment {no} becomes {to:?}, and was {before:?}") }),
        }
    }

    fn vacate(&mut self, no: u64) -> Result<(), Broken> {
        let Some(sale) = self.reservations.get(&no) else { return Ok(()) };
        for seat in &sale.seats {
            let owner = self.seats.remove(seat);
            ensure!(owner == Some(no), "I1", "{no} gives seat {seat} back, which was {owner:?}'s");
            if sale.from_blocked.contains(seat) {
                self.seats.insert(*seat, 0);
            }
        }
        for (area, count) in &sale.areas {
            // It was added when they were held.
            *self.areas.entry(*area).or_default() -= count;
        }
        Ok(())
    }
}

impl Line {
    fn take_in(&mut self, meta: Meta, event: &waiting_room::Event) -> Result<(), Broken> {
        use waiting_room::Event;
        let ends = matches!(event, Event::TokensExpired { .. } | Event::TokenUsed { .. });
        ensure!(ends || !self.closed, "I6", "the line has come to its end: {event:?}");
        match event {
            Event::Opened { settings, .. } => {
                self.settings = settings.clone();
                self.by_number = true;
                self.opens_later = settings.opens_at.is_some();
            }
            Event::Configured { settings, returned, many, .. } => {
                let was = std::mem::replace(&mut self.settings, settings.clone()).mode;
                self.opens_later |= settings.opens_at.is_some() && !self.has_opened;
                let is_switched_on = was != Mode::Queue && settings.mode == Mode::Queue;
                let mut returned: Vec<u64> = returned.iter().flatten().copied().collect();
                // Some of those whom an earlier event has sent back.
                returned.retain(|no| !self.untold.remove(no));
                let places: Vec<usize> = many.iter().map(|place| place as usize).collect();
                let unnamed: Vec<u64> = (self.active.keys().enumerate())
                    .filter_map(|(place, no)| places.binary_search(&place).is_ok().then_some(*no))
                    .collect();
                ensure!(unnamed.len() == places.len(), "I6", "{places:?} are sent back, and not so many are inside");
                self.untold.extend(&unnamed);
                returned.extend(unnamed);
                ensure!(is_switched_on || returned.is_empty(), "I6", "{returned:?} are sent back from {was:?}");
                for no in &returned {
                    ensure!(self.active.remove(no).is_some(), "I6", "token {no} is sent back, and was not inside");
                    self.waiting.insert(*no);
                }
                let (inside, most) = (self.active.len(), settings.max_active as usize);
                ensure!(!is_switched_on || inside <= most, "I6", "{inside} stay inside, and {most} may");
                let needless = !returned.is_empty() && inside < most && !self.opens_later;
                ensure!(!needless, "I6", "{returned:?} are sent back, and only {inside} stay of {most}");
            }
            Event::LineOpened { seed, .. } => {
                self.by_number &= seed.is_none();
                (self.opens_later, self.has_opened) = (false, true);
            }
            Event::TokenIssued { no, active_until, .. } => match active_until {
                Some(until) => drop(self.active.insert(*no, *until)),
                None => drop(self.waiting.insert(*no)),
            },
            Event::TokensAdmitted { tokens, expires_at } => {
                for no in tokens {
                    let queue = self.settings.mode == Mode::Queue;
                    let inside = self.active.values().filter(|until| **until > meta.at).count();
                    let full = queue && inside >= self.settings.max_active as usize;
                    ensure!(!full, "I6", "token {no} is let in while {inside} are inside");
                    let untold = self.untold.len();
                    ensure!(
                        !queue || untold == 0,
                        "I6",
                        "token {no} is let in before {untold} are told that they wait"
                    );
                    self.untold.remove(no);
                    let first = self.waiting.first().copied();
                    let in_order = !queue || !self.by_number || first == Some(*no);
                    ensure!(in_order, "I6", "token {no} is let in before {first:?}");
                    ensure!(self.waiting.remove(no), "I6", "token {no} is let in, and did not wait");
                    self.active.insert(*no, *expires_at);
                }
            }
            Event::Closed { .. } => {
                self.closed = true;
                self.untold.clear();
            }
            Event::TokensExpired { tokens } => tokens.iter().for_each(|no| self.end(*no)),
            Event::TokenLeft { no, .. } | Event::TokenUsed { no } => self.end(*no),
        }
        Ok(())
    }

    fn end(&mut self, no: u64) {
        self.waiting.remove(&no);
        self.untold.remove(&no);
        self.active.remove(&no);
    }
}

#[cfg(test)]
mod tests;
