//! Whether what callers were told can be true: of seats, wallets, the line, and what is read afterwards.
//!
//! It knows nothing of the system but what callers asked and were told, and when. It keeps what it is certain of: a seat is
//! certainly held from when a caller was told so until that caller asks for something that ends it, or the hold's time is
//! over by the system's own clock. Two such certainties that exclude each other are a breach, however answers overtook
//! each other on the way; what may be explained by calls under way is none. Memory is bounded: a record for each seat and
//! each user, with the last few things that happened to it.

mod accounts;
mod clock;
mod line;
mod seats;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

pub use self::accounts::{Accounts, Move};
pub use self::clock::ServerClock;
pub use self::line::{InLine, Line};
pub use self::seats::{SeatBook, State};
use super::house::House;
use super::target::{Held, Offer, Wish};
use crate::domain::ReservationId;

/// The most breaches that are kept to be shown.
const BREACHES_MAX: usize = 20;
/// How late a hold may end, in milliseconds.
const LATE_MS: u64 = 1_000;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// Its number in the design: I1 to I13.
    pub invariant: &'static str,
    /// What is wrong.
    pub what: String,
    /// What happened to the seat or the wallet, oldest first, as far as it is remembered.
    pub history: Vec<String>,
}

/// A buyer.
#[derive(Debug, Clone)]
pub struct Buyer {
    /// Their number in this run.
    pub no: u64,
    /// Their id.
    pub id: crate::domain::UserId,
}

macro_rules! checked {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often something was checked.
        #[derive(Debug, Default)]
        pub struct Checked { $($(#[$doc])* pub $name: AtomicU64,)* }

        impl Checked {
            /// Each with its name.
            #[must_use]
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

checked! {
    /// Holds, against all that is known of their seats and their user.
    holds,
    /// Payments and refunds, against the price.
    payments,
    /// Payments by a provider, against what it took and gave back.
    charges,
    /// Balances, against all charges, payments and refunds.
    balances,
    /// Wallets whose changes were read one by one.
    ledgers,
    /// People in line, against those who were let in.
    turns,
    /// Reservations that were read again.
    reservations,
    /// Seats, against what the system says of them.
    seats,
    /// Holds that should have run out, and had to be looked at.
    expiries,
    /// Updates, against those before them.
    updates,
    /// Events of the journal.
    journal_events,
}

/// Watches a run.
pub struct Auditor {
    started: Instant,
    /// The seats of each offer.
    pub books: Vec<SeatBook>,
    /// Of each user: open holds and points.
    pub accounts: Accounts,
    /// The line.
    pub line: Line,
    /// What time it is for the system.
    pub clock: ServerClock,
    /// How often something was checked.
    pub checked: Checked,
    breaches: Mutex<Vec<Breach>>,
    broken: AtomicBool,
}

impl Auditor {
    /// One for these offers, of which a user may have `open_holds_max` open holds, and `max_active` may be inside; 0: that
    /// is not known.
    #[must_use]
    pub fn new(offers: &[Arc<Offer>], users: u64, open_holds_max: u32, max_active: u32) -> Self {
        Self {
            started: Instant::now(),
            books: offers.iter().map(|offer| SeatBook::new(offer)).collect(),
            accounts: Accounts::new(users, open_holds_max),
            line: Line::new(max_active),
            clock: ServerClock::default(),
            checked: Checked::default(),
            breaches: Mutex::new(Vec::new()),
            broken: AtomicBool::new(false),
        }
    }

    /// Time since the run began, in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.at_us(Instant::now())
    }

    /// The same of an instant.
    #[must_use]
    pub fn at_us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_micros() as u64
    }

    /// Whether anything is wrong.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// What is wrong.
    #[must_use]
    pub fn breaches(&self) -> Vec<Breach> {
        self.breaches.lock().clone()
    }

    /// Something is wrong.
    pub fn report(&self, breach: Breach) {
        self.broken.store(true, Ordering::Relaxed);
        let mut breaches = self.breaches.lock();
        if breaches.len() < BREACHES_MAX {
            breaches.push(breach);
        }
    }

    /// Something is wrong with a reservation's seats.
    pub fn report_seat(&self, offer: &Offer, held: &Held, invariant: &'static str, what: String) {
        let history = held.seats.first().map_or(Vec::new(), |seat| self.seat_history(offer, *seat));
        self.report(Breach { invariant, what, history });
    }

    /// Something is wrong with a seat.
    pub fn report_of_seat(&self, offer: &Offer, seat: u32, invariant: &'static str, what: String) {
        self.report(Breach { invariant, what, history: self.seat_history(offer, seat) });
    }

    /// Something is wrong with a wallet.
    pub fn report_wallet(&self, buyer: u64, what: String) {
        self.report(Breach { invariant: "I2", what, history: self.accounts.history(buyer) });
    }

    fn seat_history(&self, offer: &Offer, seat: u32) -> Vec<String> {
        let book = &self.books[offer.index];
        let mut history = vec![format!("seat {} of {}:", offer.house.plan.seat(seat).guid, offer.id)];
        history.extend(book.history(seat).iter().map(|event| event.text(offer.id)));
        history
    }

    /// A buyer was told that seats are theirs.
    pub fn held(&self, offer: &Offer, buyer: &Buyer, wish: &Wish, held: &Held, asked_us: u64, told_us: u64) {
        self.checked.holds.fetch_add(1, Ordering::Relaxed);
        self.clock.learn(held.created_at, asked_us, told_us);
        if let Err(what) = fits(offer, wish, held) {
            self.report_seat(offer, held, "I3", format!("{} is not what was asked for: {what}", held.id));
        }
        let lasts = held.expires_at.as_millis().saturating_sub(held.created_at.as_millis());
        if lasts != u64::from(offer.terms.hold_seconds) * 1_000 {
            self.report_seat(offer, held, "I5", format!("{} lasts {lasts} ms", held.id));
        }
        if let Err((seat, what)) = self.books[offer.index].held(buyer.no, held, told_us) {
            let history = self.seat_history(offer, seat);
            self.report(Breach { invariant: "I1", what, history });
        }
        if let Err(what) = self.accounts.held(buyer.no, offer, held) {
            self.report(Breach { invariant: "limit", what, history: self.accounts.history(buyer.no) });
        }
    }

    /// A buyer asks for something that may end a hold, or is told what has become of it. Whether the seats are still known
    /// to be theirs.
    pub fn moved(&self, offer: &Offer, buyer: &Buyer, held: &Held, to: State, at_us: u64) -> bool {
        match to {
            State::Ending | State::Free => self.accounts.ended(buyer.no, held.id),
            State::Sold => self.accounts.sold(buyer.no, held.id),
            State::Held | State::Paying | State::Unsure => {}
        }
        self.books[offer.index].moved(buyer.no, held, to, at_us)
    }

    /// Seats that must be a buyer's are said to be somebody else's.
    pub fn lost(&self, offer: &Offer, held: &Held, what: &str) {
        self.report_seat(offer, held, "I1", format!("{} {what}, and its seats went to somebody else", held.id));
    }

    /// A buyer was told that a hold is over.
    pub fn ran_out(&self, offer: &Offer, held: &Held, told_us: u64) {
        let latest = self.clock.latest_ms(told_us);
        if latest.is_some_and(|latest| latest < held.expires_at.as_millis()) {
            let text = format!("{} is said to be over before {}", held.id, held.expires_at);
            self.report_seat(offer, held, "I5", text);
        }
    }

    /// A hold's answer got lost: some seats may be held of which nobody knows.
    pub fn hold_lost(&self, offer: &Offer, at_us: u64) {
        let latest = self.clock.latest_ms(at_us).unwrap_or(u64::MAX / 2);
        self.books[offer.index].unsure_until(latest + u64::from(offer.terms.hold_seconds) * 1_000 + LATE_MS);
    }

    /// How long after its deadline a hold may be seen, by the system's clock.
    #[must_use]
    pub fn is_late(&self, expires_ms: u64, asked_us: u64) -> bool {
        self.clock.earliest_ms(asked_us).is_some_and(|earliest| earliest > expires_ms + LATE_MS)
    }

    /// How long the run has lasted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Whether an answer is to what was asked.
fn fits(offer: &Offer, wish: &Wish, held: &Held) -> Result<(), String> {
    let price = |seat: &u32| price(&offer.house, *seat);
    let amount: u64 = held.seats.iter().map(price).sum();
    if held.amount != amount {
        return Err(format!("it costs {} instead of {amount}", held.amount));
    }
    match wish {
        Wish::Seats(seats) => {
            let all = seats.len() == held.seats.len() && seats.iter().all(|seat| held.seats.contains(seat));
            if all { Ok(()) } else { Err("other seats".into()) }
        }
        Wish::Best { count, category, .. } => {
            let repeated = held.seats.iter().enumerate().any(|(n, seat)| held.seats[..n].contains(seat));
            if held.seats.len() != *count as usize || repeated {
                return Err(format!("{} seats", held.seats.len()));
            }
            let other =
                |seat: &u32| category.is_some_and(|wanted| offer.house.plan.seat(*seat).category != Some(wanted));
            if held.seats.iter().any(other) { Err("another category".into()) } else { Ok(()) }
        }
    }
}

fn price(house: &House, seat: u32) -> u64 {
    house.plan.seat(seat).category.map_or(0, |category| house.prices[category as usize].1)
}

/// Whose reservation, in a history.
fn reservation(option: crate::domain::OptionId, no: u64) -> ReservationId {
    ReservationId { option, no }
}
