//! One user's points: a balance that never goes below zero, and an entry for each change of it.
//!
//! Debits and credits come from payments on concert options, and may come again, late, or after they were called off.
//! For each option the wallet keeps the outcome of every step that the option has not settled yet; each message says
//! below which number all are settled, so the memory stays small and a straggler is told from a new step.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cbor;
use super::concert_option::{self, DebitOutcome};
use super::idempotency::{Key, Memory, Remembered, Request};
use super::{
    Aggregate, Answer, Changes, CorruptRow, Counted, Decided, Flaw, Message, Meta, OptionId, PaymentId, Points,
    RefundId, Rejection, Timestamp, UserId,
};

/// The most characters of the reason of a correction.
const REASON_CHARS_MAX: usize = 500;

/// What can be asked of a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Adds points.
    Charge {
        /// How many.
        amount: Points,
        /// Who does it.
        by: UserId,
        /// Idempotency.
        request: Request,
    },
    /// Corrects what is in it.
    Adjust {
        /// Which way.
        way: Way,
        /// By how many points.
        amount: Points,
        /// Who does it.
        by: UserId,
        /// Why.
        reason: String,
        /// Idempotency.
        request: Request,
    },
    /// Takes the price of a payment; answered to the option.
    Debit {
        /// The payment, which is debited once.
        payment: PaymentId,
        /// Its price.
        amount: Points,
        /// Every step of this option below this number is settled.
        settled_below: u64,
    },
    /// Calls a debit off, unless it has happened; answered to the option with what is now certain.
    CancelDebit {
        /// The payment.
        payment: PaymentId,
        /// Every step of this option below this number is settled.
        settled_below: u64,
    },
    /// Gives back the price of a refunded payment, or of a part; never refused, and answered to the option once there is
    /// room for it.
    Credit {
        /// The refund, which is credited once.
        refund: RefundId,
        /// How much.
        amount: Points,
        /// Every step of this option below this number is settled.
        settled_below: u64,
    },
}

/// Which way a correction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Points are added.
    #[n(0)]
    Up,
    /// Points are taken.
    #[n(1)]
    Down,
}

/// What can have happened to a wallet.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Points were added.
    #[n(0)]
    Charged {
        /// The entry's number.
        #[n(0)]
        entry: u64,
        /// How many.
        #[n(1)]
        amount: Points,
        /// The balance after it.
        #[n(2)]
        balance: Points,
        /// By whom.
        #[n(3)]
        by: UserId,
        /// The idempotency key it came with.
        #[n(4)]
        key: Option<Key>,
    },
    /// A payment was taken.
    #[n(1)]
    Debited {
        /// The entry's number.
        #[n(0)]
        entry: u64,
        /// For what.
        #[n(1)]
        payment: PaymentId,
        /// How many.
        #[n(2)]
        amount: Points,
        /// The balance after it.
        #[n(3)]
        balance: Points,
        /// The option's settled mark.
        #[n(4)]
        settled_below: u64,
    },
    /// A payment was refused for lack of points, for good.
    #[n(2)]
    DebitRefused {
        /// Which.
        #[n(0)]
        payment: PaymentId,
        /// How many were asked.
        #[n(1)]
        amount: Points,
        /// How many there were.
        #[n(2)]
        balance: Points,
        /// The option's settled mark.
        #[n(3)]
        settled_below: u64,
    },
    /// A payment was called off before it was taken: a tombstone, against which a late debit is refused.
    #[n(3)]
    DebitCancelled {
        /// Which.
        #[n(0)]
        payment: PaymentId,
        /// The option's settled mark.
        #[n(1)]
        settled_below: u64,
    },
    /// A refund was paid out.
    #[n(4)]
    Credited {
        /// The entry's number.
        #[n(0)]
        entry: u64,
        /// For what.
        #[n(1)]
        refund: RefundId,
        /// How many.
        #[n(2)]
        amount: Points,
        /// The balance after it.
        #[n(3)]
        balance: Points,
        /// The option's settled mark.
        #[n(4)]
        settled_below: u64,
    },
    /// What is in it was corrected.
    #[n(5)]
    Adjusted {
        /// The entry's number.
        #[n(0)]
        entry: u64,
        /// Which way.
        #[n(1)]
        way: Way,
        /// By how many points.
        #[n(2)]
        amount: Points,
        /// The balance after it.
        #[n(3)]
        balance: Points,
        /// By whom.
        #[n(4)]
        by: UserId,
        /// Why.
        #[n(5)]
        reason: String,
        /// The idempotency key it came with.
        #[n(6)]
        key: Option<Key>,
    },
}

impl Way {
    fn kind(self) -> EntryKind {
        match self {
            Self::Up => EntryKind::AdjustedUp,
            Self::Down => EntryKind::AdjustedDown,
        }
    }
}

/// What a wallet answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The entry of a charge or a correction.
    Charged(Entry),
    /// The same was asked before, and made the entry of this number.
    Replayed(u64),
}

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Points were added.
    #[n(0)]
    Charge,
    /// A payment was taken.
    #[n(1)]
    Debit,
    /// A refund was paid out.
    #[n(2)]
    Credit,
    /// Points were added by a correction.
    #[n(3)]
    #[serde(rename = "adjustment")]
    AdjustedUp,
    /// Points were taken by a correction.
    #[n(4)]
    #[serde(rename = "adjustment")]
    AdjustedDown,
}

/// One change of the balance.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Entry {
    /// Its number in this wallet, from 1.
    #[n(0)]
    pub no: u64,
    /// What for.
    #[n(1)]
    pub kind: EntryKind,
    /// How many points came or went.
    #[n(2)]
    pub amount: Points,
    /// The balance after it.
    #[n(3)]
    pub balance: Points,
    /// Who charged or corrected, or the id of the payment or refund.
    #[n(4)]
    pub reference: String,
    /// When.
    #[n(5)]
    pub at: Timestamp,
    /// Why it was corrected.
    #[n(6)]
    pub reason: Option<String>,
}

impl Entry {
    /// Reads the row of [`Part::Entry`].
    ///
    /// # Errors
    /// It is not one.
    pub fn from_row(no: u64, row: &[u8]) -> Result<Self, CorruptRow> {
        cbor::from_row(&Part::Entry(no), row)
    }
}

/// The rows of a wallet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Balance and counters.
    Header,
    /// The unsettled steps of an option.
    Ledger(OptionId),
    /// An idempotency key.
    Key([u8; 16]),
    /// An entry; archived at once.
    Entry(u64),
}

impl super::Part for Part {
    fn encode(&self, key: &mut Vec<u8>) {
        match self {
            Self::Header => key.push(0),
            Self::Ledger(option) => {
                key.push(1);
                key.extend(option.0.to_be_bytes());
            }
            Self::Key(scope) => {
                key.push(2);
                key.extend(scope);
            }
            Self::Entry(no) => {
                key.push(3);
                key.extend(no.to_be_bytes());
            }
        }
    }

    fn decode(key: &[u8]) -> Option<Self> {
        let (&tag, rest) = key.split_first()?;
        match tag {
            0 if rest.is_empty() => Some(Self::Header),
            1 => Some(Self::Ledger(OptionId(u64::from_be_bytes(rest.try_into().ok()?)))),
            2 => Some(Self::Key(rest.try_into().ok()?)),
            3 => Some(Self::Entry(u64::from_be_bytes(rest.try_into().ok()?))),
            _ => None,
        }
    }
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
enum Step {
    #[n(0)]
    Debited {
        #[n(0)]
        balance: Points,
        #[n(1)]
        at: Timestamp,
    },
    #[n(1)]
    Refused {
        #[n(0)]
        balance: Points,
    },
    #[n(2)]
    Cancelled,
    #[n(3)]
    Credited {
        #[n(0)]
        balance: Points,
        #[n(1)]
        at: Timestamp,
    },
}

/// What this wallet knows of one option's steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Ledger {
    /// Steps below are settled, and forgotten.
    #[n(0)]
    settled_below: u64,
    #[n(1)]
    steps: BTreeMap<u64, Step>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Header {
    #[n(0)]
    balance: Points,
    /// The sum of all that ever came by charges and corrections.
    #[n(1)]
    charged: Points,
    /// The number of the last entry.
    #[n(2)]
    entries: u64,
}

/// One user's points.
#[derive(Debug, Clone, Default)]
pub struct Wallet {
    header: Header,
    ledgers: BTreeMap<OptionId, Ledger>,
    keys: Memory,
}

/// What is known of a step when a message about it comes.
enum Known {
    /// Nothing: it is new.
    New,
    /// It was settled long ago; nobody waits for an answer.
    Stale,
    /// This became of it.
    Done(Step),
}

impl Wallet {
    /// What is in it.
    #[must_use]
    pub fn balance(&self) -> Points {
        self.header.balance
    }

    /// How many entries there are; they are numbered from 1.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.header.entries
    }

    /// The sum of all that ever came by charges and corrections.
    #[must_use]
    pub fn charged(&self) -> Points {
        self.header.charged
    }

    fn step(&self, option: OptionId, no: u64) -> Known {
        let Some(ledger) = self.ledgers.get(&option) else { return Known::New };
        match ledger.steps.get(&no) {
            Some(step) => Known::Done(*step),
            None if no < ledger.settled_below => Known::Stale,
            None => Known::New,
        }
    }

    fn settle(&mut self, option: OptionId, no: u64, step: Step, settled_below: u64, changes: &mut impl Changes<Part>) {
        let ledger = self.ledgers.entry(option).or_default();
        ledger.settled_below = ledger.settled_below.max(settled_below);
        ledger.steps.insert(no, step);
        // Keeps what is not below the mark.
        ledger.steps = ledger.steps.split_off(&ledger.settled_below);
        changes.touch(Part::Ledger(option));
    }

    /// The balance with so many points more, which are charged or added. Of what was taken off again so much may come anew.
    fn with(&self, amount: Points) -> Result<Points, Rejection> {
        let Header { balance, charged, .. } = self.header;
        let full = Rejection::LimitExceeded { limit: Points::MAX.get(), already: charged.get() };
        charged.checked_add(amount).ok_or_else(|| full.clone())?;
        // The balance is at most what ever came.
        balance.checked_add(amount).ok_or(full)
    }

    fn remember(&mut self, at: Timestamp, key: Option<&Key>, entry: u64, changes: &mut impl Changes<Part>) {
        if let Some(key) = key {
            self.keys.remember(at, key, entry, |scope| changes.touch(Part::Key(scope)));
            changes.count(&key.caller, Counted::KeyUsed(at));
        }
    }

    fn book(&mut self, entry: Entry, changes: &mut impl Changes<Part>) {
        self.header.balance = entry.balance;
        self.header.entries = entry.no;
        changes.touch(Part::Header);
        changes.create(|| Part::Entry(entry.no));
        changes.archive(Part::Entry(entry.no), || cbor::to_vec(&entry));
    }
}

/// The option's message that tells it what became of a debit.
fn debit_answered(payment: PaymentId, step: Step) -> Option<Message> {
    let outcome = match step {
        Step::Debited { balance, at } => DebitOutcome::Debited { balance, at },
        Step::Refused { balance } => DebitOutcome::Refused { balance },
        Step::Cancelled => DebitOutcome::Cancelled,
        Step::Credited { .. } => return None,
    };
    Some(Message::Option(payment.option, concert_option::Command::DebitAnswered { payment: payment.no, outcome }))
}

impl Aggregate for Wallet {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;
    type Part = Part;

    fn decide(&self, now: Timestamp, command: &Command, out: &mut Decided<Event>) -> Result<Answer<Reply>, Rejection> {
        let entry = self.header.entries + 1;
        let balance = self.header.balance;
        match command {
            Command::Charge { amount, by, request } => {
                Flaw::refuse(Flaw::of_range("amount", amount.get(), 1, Points::MAX.get()))?;
                if let Some(entry) = self.keys.recall(now, request)? {
                    return Ok(Answer::Reply(Reply::Replayed(entry)));
                }
                let balance = self.with(*amount)?;
                out.events.push(Event::Charged {
                    entry,
                    amount: *amount,
                    balance,
                    by: by.clone(),
                    key: request.key.clone(),
                });
                let reference = by.to_string();
                let kind = EntryKind::Charge;
                Ok(Answer::Reply(Reply::Charged(Entry {
                    no: entry,
                    kind,
                    amount: *amount,
                    balance,
                    reference,
                    at: now,
                    reason: None,
                })))
            }
            Command::Adjust { way, amount, by, reason, request } => {
                let nothing = (*amount == Points::ZERO).then(|| Flaw::new("amount", "must not be 0"));
                let fits = (1..=REASON_CHARS_MAX).contains(&reason.chars().count());
                let wordless =
                    (!fits).then(|| Flaw::new("reason", format!("must be 1 to {REASON_CHARS_MAX} characters")));
                Flaw::refuse(nothing.into_iter().chain(wordless))?;
                if let Some(entry) = self.keys.recall(now, request)? {
                    return Ok(Answer::Reply(Reply::Replayed(entry)));
                }
                let balance = match way {
                    Way::Up => self.with(*amount)?,
                    Way::Down => {
                        let refused = Rejection::InsufficientPoints { balance, amount: *amount };
                        balance.checked_sub(*amount).ok_or(refused)?
                    }
                };
                let adjusted = Event::Adjusted {
                    entry,
                    way: *way,
                    amount: *amount,
                    balance,
                    by: by.clone(),
                    reason: reason.clone(),
                    key: request.key.clone(),
                };
                out.events.push(adjusted);
                Ok(Answer::Reply(Reply::Charged(Entry {
                    no: entry,
                    kind: way.kind(),
                    amount: *amount,
                    balance,
                    reference: by.to_string(),
                    at: now,
                    reason: Some(reason.clone()),
                })))
            }
            &Command::Debit { payment, amount, settled_below } => {
                let step = match self.step(payment.option, payment.no) {
                    Known::Stale => return Ok(Answer::Silent),
                    Known::Done(step) => step,
                    Known::New => match balance.checked_sub(amount) {
                        Some(balance) => {
                            out.events.push(Event::Debited { entry, payment, amount, balance, settled_below });
                            Step::Debited { balance, at: now }
                        }
                        None => {
                            out.events.push(Event::DebitRefused { payment, amount, balance, settled_below });
                            Step::Refused { balance }
                        }
                    },
                };
                out.tell.extend(debit_answered(payment, step));
                Ok(Answer::Silent)
            }
            &Command::CancelDebit { payment, settled_below } => {
                let step = match self.step(payment.option, payment.no) {
                    Known::Stale => return Ok(Answer::Silent),
                    Known::Done(step) => step,
                    Known::New => {
                        out.events.push(Event::DebitCancelled { payment, settled_below });
                        Step::Cancelled
                    }
                };
                out.tell.extend(debit_answered(payment, step));
                Ok(Answer::Silent)
            }
            &Command::Credit { refund, amount, settled_below } => {
                let (balance, at) = match self.step(refund.option, refund.no) {
                    Known::Stale => return Ok(Answer::Silent),
                    Known::Done(Step::Credited { balance, at }) => (balance, at),
                    // Numbers are not shared between debits and credits.
                    Known::Done(_) => return Ok(Answer::Silent),
                    Known::New => {
                        // What does not fit stays owed, and is asked for again: there is room once some of it is spent.
                        let Some(balance) = balance.checked_add(amount) else { return Ok(Answer::Silent) };
                        out.events.push(Event::Credited { entry, refund, amount, balance, settled_below });
                        (balance, now)
                    }
                };
                let answer = concert_option::Command::CreditAnswered { refund: refund.no, balance, at };
                out.tell.push(Message::Option(refund.option, answer));
                Ok(Answer::Silent)
            }
        }
    }

    fn evolve(&mut self, meta: Meta, event: &Event, changes: &mut impl Changes<Part>) {
        let at = meta.at;
        match *event {
            Event::Charged { entry, amount, balance, ref by, ref key } => {
                self.header.charged = self.header.charged.checked_add(amount).unwrap_or(Points::MAX);
                let reference = by.to_string();
                let kind = EntryKind::Charge;
                self.book(Entry { no: entry, kind, amount, balance, reference, at, reason: None }, changes);
                self.remember(at, key.as_ref(), entry, changes);
            }
            Event::Adjusted { entry, way, amount, balance, ref by, ref reason, ref key } => {
                let charged = self.header.charged;
                self.header.charged = match way {
                    Way::Up => charged.checked_add(amount).unwrap_or(Points::MAX),
                    Way::Down => charged.checked_sub(amount).unwrap_or(Points::ZERO),
                };
                let (kind, reference, reason) = (way.kind(), by.to_string(), Some(reason.clone()));
                self.book(Entry { no: entry, kind, amount, balance, reference, at, reason }, changes);
                self.remember(at, key.as_ref(), entry, changes);
            }
            Event::Debited { entry, payment, amount, balance, settled_below } => {
                let reference = payment.to_string();
                let kind = EntryKind::Debit;
                self.book(Entry { no: entry, kind, amount, balance, reference, at, reason: None }, changes);
                self.settle(payment.option, payment.no, Step::Debited { balance, at }, settled_below, changes);
            }
            Event::DebitRefused { payment, balance, settled_below, .. } => {
                self.settle(payment.option, payment.no, Step::Refused { balance }, settled_below, changes);
            }
            Event::DebitCancelled { payment, settled_below } => {
                self.settle(payment.option, payment.no, Step::Cancelled, settled_below, changes);
            }
            Event::Credited { entry, refund, amount, balance, settled_below } => {
                let reference = refund.to_string();
                let kind = EntryKind::Credit;
                self.book(Entry { no: entry, kind, amount, balance, reference, at, reason: None }, changes);
                self.settle(refund.option, refund.no, Step::Credited { balance, at }, settled_below, changes);
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        None
    }

    fn expire(&self, _now: Timestamp, _out: &mut Decided<Event>) {}

    fn owed(&self, _now: Timestamp, _out: &mut Vec<Message>) {}

    fn owes(&self) -> bool {
        false
    }

    fn row(&self, part: &Part) -> Option<Vec<u8>> {
        match part {
            Part::Header => Some(cbor::to_vec(&self.header)),
            Part::Ledger(option) => self.ledgers.get(option).map(cbor::to_vec),
            Part::Key(scope) => self.keys.get(scope).map(cbor::to_vec),
            Part::Entry(_) => None,
        }
    }

    fn load(rows: impl Iterator<Item = (Part, Vec<u8>)>) -> Result<Self, CorruptRow> {
        let mut wallet = Self::default();
        let mut keys = Vec::new();
        for (part, row) in rows {
            match &part {
                Part::Header => wallet.header = cbor::from_row(&part, &row)?,
                Part::Ledger(option) => {
                    wallet.ledgers.insert(*option, cbor::from_row(&part, &row)?);
                }
                Part::Key(scope) => keys.push((*scope, cbor::from_row::<Remembered>(&part, &row)?)),
                Part::Entry(_) => {}
            }
        }
        wallet.keys = Memory::from_rows(keys);
        Ok(wallet)
    }
}

#[cfg(test)]
mod tests;
