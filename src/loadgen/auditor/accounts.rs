//! Users: how much they hold, and what must be in their wallets.

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::reservation;
use crate::domain::{OptionId, ReservationId};
use crate::loadgen::target::{Entry, Held, Offer};

/// How many changes of a wallet are remembered.
const REMEMBERED: usize = 8;

/// A reservation that a user has.
#[derive(Debug, Clone, Copy)]
struct Has {
    id: ReservationId,
    seats: u32,
    created_ms: u64,
    /// The end of time, once it is paid.
    expires_ms: u64,
    paid: bool,
}

/// What was asked of a wallet, and what was told of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    asked: u64,
    told: u64,
}

/// What moves points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A charge.
    Charge,
    /// A payment.
    Debit,
    /// A refund.
    Credit,
}

/// A change of a wallet that was asked for. It says what was certain then.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Asked {
    user: u64,
    kind: Move,
    amount: u64,
    /// Of charges, debits and credits: what was told before.
    told: [u64; 3],
}

#[derive(Debug, Clone, Copy)]
struct Event {
    at_us: u64,
    kind: Move,
    amount: u64,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// It was done, and this was there after it.
    Balance(u64),
    Refused,
    Unknown,
}

#[derive(Debug, Default)]
struct Account {
    has: SmallVec<[Has; 2]>,
    /// Of charges, debits and credits.
    sums: [Sum; 3],
    events: [Option<Event>; REMEMBERED],
    next: u8,
}

/// All users.
pub struct Accounts {
    users: Box<[Mutex<Option<Box<Account>>>]>,
    open_holds_max: u32,
}

/// What must be in a wallet: not less than the one, and not more than the other.
type Bounds = (i128, i128);

impl Accounts {
    /// Nobody has anything.
    #[must_use]
    pub fn new(users: u64, open_holds_max: u32) -> Self {
        Self { users: (0..users.max(1)).map(|_| Mutex::new(None)).collect(), open_holds_max }
    }

    fn of(&self, user: u64) -> &Mutex<Option<Box<Account>>> {
        &self.users[user as usize % self.users.len()]
    }

    /// A user was told to hold seats.
    ///
    /// # Errors
    /// They have more than they may, for certain.
    pub fn held(&self, user: u64, offer: &Offer, held: &Held) -> Result<(), String> {
        let mut account = self.of(user).lock();
        let account = account.get_or_insert_default();
        let new = Has {
            id: held.id,
            seats: held.seats.len() as u32,
            created_ms: held.created_at.as_millis(),
            expires_ms: held.expires_at.as_millis(),
            paid: false,
        };
        // What has run out when this was made, by the system's own clock, is over.
        account.has.retain(|has| has.expires_ms > new.created_ms);
        let at_the_same_time = |has: &&Has| new.expires_ms > has.created_ms;
        let open = account.has.iter().filter(at_the_same_time).filter(|has| !has.paid).count() as u32 + 1;
        let here = account.has.iter().filter(at_the_same_time).filter(|has| has.id.option == offer.id);
        let seats = here.map(|has| has.seats).sum::<u32>() + new.seats;
        account.has.push(new);
        if self.open_holds_max > 0 && open > self.open_holds_max {
            return Err(format!("user {user} has {open} open holds, and may have {}", self.open_holds_max));
        }
        let most = offer.terms.max_seats_per_user;
        if seats > most {
            return Err(format!("user {user} has {seats} seats of {}, and may have {most}", offer.id));
        }
        if new.seats > offer.terms.max_seats_per_reservation {
            return Err(format!("{} has {} seats", held.id, new.seats));
        }
        Ok(())
    }

    /// A hold or a sale ends, or may.
    pub fn ended(&self, user: u64, id: ReservationId) {
        if let Some(account) = &mut *self.of(user).lock() {
            account.has.retain(|has| has.id != id);
        }
    }

    /// A hold is paid.
    pub fn sold(&self, user: u64, id: ReservationId) {
        if let Some(account) = &mut *self.of(user).lock() {
            for has in account.has.iter_mut().filter(|has| has.id == id) {
                (has.paid, has.expires_ms) = (true, u64::MAX);
            }
        }
    }

    /// A change of a wallet is asked for.
    pub fn ask(&self, user: u64, kind: Move, amount: u64) -> Asked {
        let mut account = self.of(user).lock();
        let account = account.get_or_insert_default();
        account.sums[kind as usize].asked += amount;
        Asked { user, kind, amount, told: account.sums.map(|sum| sum.told) }
    }

    /// It was done.
    ///
    /// # Errors
    /// The balance after it cannot be.
    pub fn done(&self, asked: Asked, balance: u64, at_us: u64) -> Result<(), String> {
        let mut account = self.of(asked.user).lock();
        let account = account.get_or_insert_default();
        let mut told = asked.told;
        told[asked.kind as usize] += asked.amount;
        let bounds = account.bounds(told);
        account.sums[asked.kind as usize].told += asked.amount;
        account.remember(Event { at_us, kind: asked.kind, amount: asked.amount, outcome: Outcome::Balance(balance) });
        within(balance, bounds)
    }

    /// It was refused: nothing has changed.
    pub fn refused(&self, asked: Asked, at_us: u64) {
        let mut account = self.of(asked.user).lock();
        let account = account.get_or_insert_default();
        account.sums[asked.kind as usize].asked -= asked.amount;
        account.remember(Event { at_us, kind: asked.kind, amount: asked.amount, outcome: Outcome::Refused });
    }

    /// The answer got lost.
    pub fn lost(&self, asked: Asked, at_us: u64) {
        let event = Event { at_us, kind: asked.kind, amount: asked.amount, outcome: Outcome::Unknown };
        self.of(asked.user).lock().get_or_insert_default().remember(event);
    }

    /// What was told of a wallet, before it is looked into.
    #[must_use]
    pub fn before_looking(&self, user: u64) -> [u64; 3] {
        self.of(user).lock().as_ref().map_or([0; 3], |account| account.sums.map(|sum| sum.told))
    }

    /// A wallet was looked into.
    ///
    /// # Errors
    /// What is said to be in it cannot be.
    pub fn looked(&self, user: u64, before: [u64; 3], balance: u64) -> Result<(), String> {
        let bounds = self.of(user).lock().as_ref().map_or((0, 0), |account| account.bounds(before));
        within(balance, bounds)
    }

    /// All changes of a wallet were read, newest first, with no call of this user under way.
    ///
    /// # Errors
    /// They do not add up, or are not those that were told.
    pub fn read(&self, user: u64, entries: &[Entry], all: bool) -> Result<(), String> {
        for pair in entries.windows(2) {
            let [newer, older] = pair else { continue };
            let expected = match newer.kind.as_str() {
                "debit" => older.balance.checked_sub(newer.amount),
                _ => older.balance.checked_add(newer.amount),
            };
            if expected != Some(newer.balance) {
                return Err(format!(
                    "a {} of {} makes {} of {}",
                    newer.kind, newer.amount, newer.balance, older.balance
                ));
            }
        }
        let account = self.of(user).lock();
        let Some(account) = account.as_ref().filter(|_| all) else { return Ok(()) };
        for (kind, sum) in ["charge", "debit", "credit"].iter().zip(account.sums) {
            let read: u64 = entries.iter().filter(|entry| entry.kind == *kind).map(|entry| entry.amount).sum();
            if !(sum.told..=sum.asked).contains(&read) {
                return Err(format!("{kind}s make {read}, and callers were told of {}", sum.told));
            }
        }
        Ok(())
    }

    /// The users whose wallets were used.
    #[must_use]
    pub fn with_wallets(&self) -> Vec<u64> {
        let used = |account: &Account| account.sums.iter().any(|sum| sum.asked > 0);
        let users = self.users.iter().enumerate();
        let used = users.filter(|(_, account)| account.lock().as_ref().is_some_and(|account| used(account)));
        used.map(|(user, _)| user as u64).collect()
    }

    /// What happened to a wallet, oldest first, and what the user has.
    #[must_use]
    pub fn history(&self, user: u64) -> Vec<String> {
        let account = self.of(user).lock();
        let mut history = vec![format!("user {user}:")];
        let Some(account) = account.as_ref() else { return history };
        let (newer, older) = account.events.split_at(usize::from(account.next));
        history.extend(older.iter().chain(newer).flatten().map(|event| {
            let outcome = match event.outcome {
                Outcome::Balance(balance) => format!("leaves {balance}"),
                Outcome::Refused => "is refused".into(),
                Outcome::Unknown => "gets no answer that says what became of it".into(),
            };
            format!("  {:>12.6} s  a {} of {} {outcome}", event.at_us as f64 / 1e6, event.kind.name(), event.amount)
        }));
        let (least, most) = account.bounds(account.sums.map(|sum| sum.told));
        history.push(format!("  told of all: {least} to {most} points"));
        history.extend(account.has.iter().map(|has| {
            let state = if has.paid { "paid" } else { "held" };
            format!("  has {} with {} seats, {state}", reservation(OptionId(has.id.option.0), has.id.no), has.seats)
        }));
        history
    }
}

impl Move {
    fn name(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Debit => "payment",
            Self::Credit => "refund",
        }
    }
}

impl Account {
    /// What must have been in the wallet at some time when all that was `told` had been done, and nothing was that is not
    /// asked for by now.
    fn bounds(&self, told: [u64; 3]) -> Bounds {
        let [charges, debits, credits] = self.sums.map(|sum| i128::from(sum.asked));
        let [charged, debited, credited] = told.map(i128::from);
        (charged + credited - debits, charges + credits - debited)
    }

    fn remember(&mut self, event: Event) {
        self.events[usize::from(self.next)] = Some(event);
        self.next = (self.next + 1) % REMEMBERED as u8;
    }
}

fn within(balance: u64, (least, most): Bounds) -> Result<(), String> {
    if (least..=most).contains(&i128::from(balance)) {
        return Ok(());
    }
    let expected = if least == most { least.to_string() } else { format!("{least} to {most}") };
    Err(format!("a wallet holds {balance} points instead of {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_must_be_what_was_told_give_or_take_what_is_under_way() {
        let accounts = Accounts::new(1, 0);
        let charge = accounts.ask(0, Move::Charge, 100);
        assert!(accounts.looked(0, accounts.before_looking(0), 0).is_ok(), "it may not have been done yet");
        assert!(accounts.looked(0, accounts.before_looking(0), 100).is_ok());
        assert!(accounts.done(charge, 100, 1).is_ok());
        assert!(accounts.looked(0, accounts.before_looking(0), 0).is_err());
        let debit = accounts.ask(0, Move::Debit, 30);
        let before = accounts.before_looking(0);
        assert!(accounts.done(debit, 69, 2).is_err() && accounts.looked(0, before, 70).is_ok());
        // Looked at before the payment was told of, which it may have seen or not.
        assert!(accounts.looked(0, before, 100).is_ok());
        assert!(accounts.looked(0, accounts.before_looking(0), 100).is_err());
        let history = accounts.history(0).join("\n");
        assert!(
            history.contains("a charge of 100 leaves 100") && history.contains("told of all: 70 to 70"),
            "{history}"
        );
    }

    #[test]
    fn what_is_refused_has_not_happened_and_what_is_lost_may_have() {
        let accounts = Accounts::new(1, 0);
        let charge = accounts.ask(0, Move::Charge, 100);
        accounts.refused(charge, 1);
        assert!(accounts.looked(0, [0; 3], 100).is_err() && accounts.looked(0, [0; 3], 0).is_ok());
        let charge = accounts.ask(0, Move::Charge, 100);
        accounts.lost(charge, 2);
        assert!(accounts.looked(0, [0; 3], 100).is_ok() && accounts.looked(0, [0; 3], 0).is_ok());
    }

    #[test]
    fn the_changes_of_a_wallet_must_add_up_to_what_was_told() {
        let accounts = Accounts::new(1, 0);
        let charge = accounts.ask(0, Move::Charge, 100);
        accounts.done(charge, 100, 1).unwrap();
        let debit = accounts.ask(0, Move::Debit, 30);
        accounts.done(debit, 70, 2).unwrap();
        let entry = |kind: &str, amount, balance| Entry { kind: kind.into(), amount, balance };
        let right = [entry("debit", 30, 70), entry("charge", 100, 100)];
        assert_eq!(accounts.read(0, &right, true), Ok(()));
        assert!(accounts.read(0, &right[1..], true).is_err(), "the payment is missing");
        assert!(accounts.read(0, &right[..1], false).is_ok(), "there are more than were read");
        assert!(accounts.read(0, &[entry("debit", 30, 71), entry("charge", 100, 100)], true).is_err());
        assert!(accounts.read(0, &[entry("credit", 30, 100), right[0].clone(), right[1].clone()], true).is_err());
    }
}
