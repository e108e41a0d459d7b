//! A payment by a provider: on what terms it was begun, where it stands, and what is owed of it. What providers say and what it
//! adds up to is [`facts`](crate::domain::facts).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Change;
use crate::domain::facts::{Charge, Fact, Facts, Totals};
use crate::domain::idempotency::Key;
use crate::domain::{Currency, PaymentId, Points, Timestamp, UserId, cbor};

/// The name by which points are a method of payment.
pub const POINTS: &str = "points";

/// What took no money leaves memory so long after it was heard of last.
const COLD_AFTER_MS: u64 = 60_000;
/// And together with all others on its option whose time has come: each time, whoever is just reading a row has to read it again.
const COLD_EVERY_MS: u64 = 10_000;

/// Whose payments these are, for providers: drawn at the first start, and anew when a backup is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Installation(#[n(0)] pub u64);

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Installation {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for Installation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What becomes of money that comes after its seats are free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// The seats are taken again, if they can be.
    #[default]
    #[n(0)]
    Reacquire,
    /// It goes back.
    #[n(1)]
    Refund,
}

/// How a provider takes payments, when one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// Whose payments they are.
    pub installation: Installation,
    /// For how long seats stay pinned while the buyer pays.
    pub pay_within_ms: u64,
    /// For how long they stay pinned after a verdict.
    pub capture_within_ms: u64,
    /// For how long a payment stays in memory after its deadline, but not after the performance has begun.
    pub late_within_ms: u64,
    /// What becomes of late money.
    pub late: Late,
    /// The least that it takes, if not nothing.
    pub minimum: Points,
    /// The currencies that it takes; none: any.
    pub currencies: Vec<Currency>,
    /// So many payments of one user on an option may be in memory that took no money; 0 = off.
    pub open_max: u64,
}

/// On what terms a provider's payment was begun: all that later decisions need.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct ProviderTerms {
    /// The provider's name.
    #[n(0)]
    pub method: String,
    /// What amounts are of.
    #[n(1)]
    pub currency: Currency,
    /// Whose payment it is, for the provider.
    #[n(2)]
    pub installation: Installation,
    /// What becomes of late money.
    #[n(3)]
    pub late: Late,
    /// For how long seats stay pinned after a verdict.
    #[n(4)]
    pub capture_within_ms: u64,
    /// Until when the payment stays in memory once nothing of it is open.
    #[n(5)]
    pub late_until: Timestamp,
}

impl ProviderTerms {
    /// What a payment on these terms is called at the provider.
    #[must_use]
    pub fn provider_id(&self, id: PaymentId) -> String {
        format!("{}-{id}", self.installation)
    }
}

/// Why a payment has its seats no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its owner gave it up.
    #[n(0)]
    GivenUp,
    /// Nothing was told until its deadline.
    #[n(1)]
    Lapsed,
    /// It was authorised, and not captured in time.
    #[n(2)]
    CaptureLapsed,
    /// The provider says that it can take no money any more.
    #[n(3)]
    Failed,
    /// As before, since it was called off.
    #[n(4)]
    Voided,
    /// It is given back, since somebody asked for it.
    #[n(5)]
    Refunded,
    /// The provider gave all of it back by itself.
    #[n(6)]
    Undone,
    /// The performance was called off before it was paid.
    #[n(7)]
    CalledOff,
}

/// Where a payment stands.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "stand", rename_all = "snake_case")]
pub enum Stand {
    /// Its seats are pinned until its deadline.
    #[n(0)]
    Pending,
    /// They are pinned until somebody has captured it.
    #[n(1)]
    Authorized {
        /// By which charge.
        #[n(0)]
        reference: String,
        /// But no longer than this.
        #[n(1)]
        until: Timestamp,
    },
    /// It has paid for its seats.
    #[n(2)]
    Confirmed {
        /// By which charge; absent: there was nothing to pay.
        #[n(0)]
        reference: Option<String>,
    },
    /// It has no seats.
    #[n(3)]
    Over {
        /// Why.
        #[n(0)]
        why: Ending,
    },
}

/// What was heard of a payment, where it goes from there, and what is owed then.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Moved {
    /// What the provider said.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fact: Option<Fact>,
    /// Where the payment goes.
    #[n(1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// What is owed then.
    #[n(2)]
    pub owing: Owing,
    /// What it shows then.
    #[n(3)]
    pub standing: Standing,
    /// The idempotency key that a refund came with.
    #[n(4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
}

/// Where a payment goes from where it stood.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "turn", rename_all = "snake_case")]
pub enum Turn {
    /// The verdict is to capture it.
    #[n(0)]
    Authorized {
        /// Which charge.
        #[n(0)]
        reference: String,
        /// Until then its seats are pinned.
        #[n(1)]
        until: Timestamp,
        /// Its seats were free, and are taken again.
        #[n(2)]
        again: bool,
    },
    /// It has paid for its seats.
    #[n(1)]
    Confirmed {
        /// By which charge.
        #[n(0)]
        reference: Option<String>,
        /// Its seats were free, and are taken again.
        #[n(1)]
        again: bool,
    },
    /// Its seats are not pinned any more: its reservation is held again.
    #[n(2)]
    Ended {
        /// Why.
        #[n(0)]
        why: Ending,
        /// The time of the hold is over as well: the seats are free.
        #[n(1)]
        lapses: bool,
    },
    /// It is given back: its seats are free.
    #[n(3)]
    Refunded {
        /// [`Ending::Refunded`] or [`Ending::Undone`].
        #[n(0)]
        why: Ending,
        /// The refund's number, if somebody asked for it.
        #[n(1)]
        refund: Option<u64>,
        /// Who did, if not the owner.
        #[n(2)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// It stays paid, and its order changes.
    #[n(4)]
    Changed {
        /// How.
        #[n(0)]
        change: Box<Change>,
    },
}

/// What can be owed of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum OwedKind {
    /// Money is to be taken that is reserved.
    #[n(0)]
    Capture,
    /// It is not to be taken.
    #[n(1)]
    Void,
    /// It is to go back.
    #[n(2)]
    Refund,
    /// Nobody knows of a charge, or enough of it, and there may be money: it is to be looked for, and called off.
    #[n(3)]
    Check,
}

/// Something that is owed until a fact says that it is done.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Owed {
    /// Its number among all that was ever owed of this payment, from 1.
    #[n(0)]
    pub no: u32,
    /// What.
    #[n(1)]
    pub kind: OwedKind,
    /// Of which charge.
    #[n(2)]
    pub reference: Option<String>,
    /// How much.
    #[n(3)]
    pub amount: Points,
    /// Of what.
    #[n(4)]
    pub currency: Currency,
    /// Since when.
    #[n(5)]
    pub since: Timestamp,
    /// How often it was tried and is certain not to have been done.
    #[n(6)]
    pub attempts: u32,
    /// The provider could not, and it is settled by hand.
    #[n(7)]
    pub by_hand: bool,
}

impl Owed {
    fn is_for(&self, due: &Due<'_>) -> bool {
        (self.kind, self.reference.as_deref(), self.amount, self.currency, self.by_hand)
            == (due.kind, due.reference, due.amount, due.currency, due.by_hand)
    }
}

/// A change of what is owed.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Owing {
    /// What is owed from now on.
    #[n(0)]
    #[cbor(with = "cbor::list", has_nil)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<Owed>,
    /// The numbers of what is not owed any more.
    #[n(1)]
    #[cbor(with = "cbor::list", has_nil)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<u32>,
}

/// What a payment shows of where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The buyer may pay.
    #[n(0)]
    Pending,
    /// Money is reserved, and is to be taken.
    #[n(1)]
    Authorized,
    /// It has paid for its seats.
    #[n(2)]
    Completed,
    /// It took no money, and never will.
    #[n(3)]
    Failed,
    /// It is to take no money, and the provider has not said that it will not.
    #[n(4)]
    Voiding,
    /// It was called off.
    #[n(5)]
    Voided,
    /// Money is to go back.
    #[n(6)]
    RefundOwed,
    /// It is back.
    #[n(7)]
    Refunded,
}

/// What a payment shows, and what of it adds up (I13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Standing {
    /// Where it stands.
    #[n(0)]
    pub status: Status,
    /// In its own currency.
    #[n(1)]
    pub totals: Totals,
    /// While it is, no refund leaves.
    #[n(2)]
    pub disputed: bool,
    /// What is to be done first.
    #[n(3)]
    pub verdict: Option<OwedKind>,
    /// When it paid for its seats, if it did.
    #[n(4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<Timestamp>,
}

impl Status {
    /// Whether there is nothing to give up any more: it has no seats, and took no money.
    #[must_use]
    pub fn is_given_up(self) -> bool {
        matches!(self, Self::Voiding | Self::Voided | Self::Failed)
    }
}

impl Standing {
    /// Whether somebody has to see it, though nothing may be owed.
    #[must_use]
    pub fn is_amiss(&self) -> bool {
        self.disputed || self.totals.shortfall > 0
    }
}

/// What a payment by a provider has beside any payment.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct ByProvider {
    /// On what terms it was begun.
    #[n(0)]
    pub terms: ProviderTerms,
    /// Where it stands.
    #[n(1)]
    pub stand: Stand,
    /// What was said of it.
    #[n(2)]
    pub facts: Facts,
    /// What is owed of it, oldest first.
    #[n(3)]
    pub owed: Vec<Owed>,
    /// The number of what was last owed.
    #[n(4)]
    pub last_owed: u32,
    /// When it was heard of last, or came to a turn; absent: not since it was begun.
    #[n(5)]
    pub moved_at: Option<Timestamp>,
    /// What its seats cost now, if that is not what was paid for them.
    #[n(6)]
    pub price: Option<Points>,
}

/// What should be owed, by the facts.
struct Due<'a> {
    kind: OwedKind,
    reference: Option<&'a str>,
    amount: Points,
    currency: Currency,
    by_hand: bool,
}

impl ByProvider {
    /// One that begins.
    #[must_use]
    pub fn new(terms: ProviderTerms) -> Self {
        let (facts, owed) = (Facts::default(), Vec::new());
        Self { terms, stand: Stand::Pending, facts, owed, last_owed: 0, moved_at: None, price: None }
    }

    /// Where it stands, if `price` is what its seats cost, and `paid_at` when it paid for them if it did.
    #[must_use]
    pub fn standing(&self, price: Points, paid_at: Timestamp) -> Standing {
        let has_paid =
            matches!(self.stand, Stand::Confirmed { .. } | Stand::Over { why: Ending::Refunded | Ending::Undone });
        let totals = self.facts.totals(self.terms.currency, self.confirmed(price).1);
        Standing {
            status: self.status(&totals, price),
            totals,
            disputed: self.facts.is_disputed(),
            verdict: self.verdict(None),
            paid_at: has_paid.then_some(paid_at),
        }
    }

    /// Which charge has paid for its seats, and how much that is.
    fn confirmed(&self, price: Points) -> (Option<&str>, Points) {
        match &self.stand {
            Stand::Confirmed { reference } => (reference.as_deref(), self.price.unwrap_or(price)),
            _ => (None, Points::ZERO),
        }
    }

    /// How much of a charge is to go back, by the provider or by hand, also if a dispute holds that up; and how much is missing of what
    /// its seats cost, if it has paid for them.
    #[must_use]
    pub fn open_of(&self, price: Points, reference: &str) -> (u64, u64) {
        let (by, confirmed) = self.confirmed(price);
        let due = self.facts.refunds_due(by, self.terms.currency, confirmed);
        let owed = due.iter().filter(|due| due.reference == reference).map(|due| due.amount).sum();
        let has_paid = by == Some(reference);
        (owed, if has_paid { self.facts.totals(self.terms.currency, confirmed).shortfall } else { 0 })
    }

    /// Whether there may be money that nobody knows of.
    fn is_unclear(&self, price: Points) -> bool {
        let let_go = matches!(self.stand, Stand::Over { why: Ending::GivenUp | Ending::Lapsed | Ending::CalledOff });
        let unheard = let_go && self.facts.is_empty();
        unheard || (self.stand != Stand::Pending && self.facts.is_unclear(price))
    }

    fn status(&self, totals: &Totals, price: Points) -> Status {
        let why = match self.stand {
            Stand::Pending => return Status::Pending,
            Stand::Authorized { .. } => return Status::Authorized,
            Stand::Confirmed { .. } => return Status::Completed,
            Stand::Over { why } => why,
        };
        let owes_refund = self.facts.currencies().iter().any(|of| self.facts.totals(*of, Points::ZERO).owed > 0);
        let may_take_money = self.facts.charges().any(|charge| charge.open);
        match why {
            _ if owes_refund => Status::RefundOwed,
            _ if may_take_money || self.is_unclear(price) => Status::Voiding,
            _ if totals.captured > 0 => Status::Refunded,
            // There was nothing to pay.
            Ending::Refunded | Ending::Undone => Status::Refunded,
            Ending::Failed => Status::Failed,
            _ => Status::Voided,
        }
    }

    /// All that should be owed.
    fn due(&self, price: Points) -> Vec<Due<'_>> {
        let currency = self.terms.currency;
        let of = |kind, reference, amount| Due { kind, reference, amount, currency, by_hand: false };
        let mut due = Vec::new();
        let (keeps, is_pending) = match &self.stand {
            Stand::Pending => (None, true),
            Stand::Authorized { reference, .. } => {
                due.push(of(OwedKind::Capture, Some(&**reference), price));
                (Some(&**reference), false)
            }
            Stand::Confirmed { reference } => (reference.as_deref(), false),
            Stand::Over { .. } => (None, false),
        };
        if self.is_unclear(price) {
            due.push(of(OwedKind::Check, None, price));
        }
        // While the buyer may pay, only what is reserved and will not do is called off.
        let unwanted = |charge: &Charge<'_>| {
            charge.open && keeps != Some(charge.reference) && (!is_pending || charge.authorized.is_some())
        };
        due.extend(self.facts.charges().filter(unwanted).map(|charge| Due {
            currency: charge.currency,
            ..of(OwedKind::Void, Some(charge.reference), charge.authorized.unwrap_or(price))
        }));
        if !self.facts.is_disputed() {
            let (by, confirmed) = self.confirmed(price);
            due.extend(self.facts.refunds_due(by, currency, confirmed).into_iter().map(|due| Due {
                kind: OwedKind::Refund,
                reference: Some(due.reference),
                // Facts that would come to more are refused.
                amount: Points::new(due.amount).unwrap_or(Points::MAX),
                currency: due.currency,
                by_hand: due.by_hand,
            }));
        }
        due
    }

    /// What has changed of what is owed.
    pub(super) fn owing(&self, price: Points, now: Timestamp) -> Owing {
        let due = self.due(price);
        let settled = self.owed.iter().filter(|owed| !due.iter().any(|due| owed.is_for(due))).map(|owed| owed.no);
        let begins = |due: &&Due<'_>| !self.owed.iter().any(|owed| owed.is_for(due));
        let begun = (self.last_owed + 1..).zip(due.iter().filter(begins)).map(|(no, due)| Owed {
            no,
            kind: due.kind,
            reference: due.reference.map(ToOwned::to_owned),
            amount: due.amount,
            currency: due.currency,
            since: now,
            attempts: 0,
            by_hand: due.by_hand,
        });
        Owing { begun: begun.collect(), settled: settled.collect() }
    }

    /// It goes where a turn leads.
    pub(super) fn turn(&mut self, turn: Option<&Turn>) {
        if let Some(stand) = turn.and_then(Turn::stand) {
            self.stand = stand;
        }
        if let Some(Turn::Changed { change }) = turn {
            self.price = Some(change.amount);
        }
    }

    pub(super) fn owe(&mut self, owing: &Owing) {
        self.owed.retain(|owed| !owing.settled.contains(&owed.no));
        self.owed.extend(owing.begun.iter().cloned());
        self.last_owed = owing.begun.last().map_or(self.last_owed, |owed| owed.no);
    }

    /// When time will do something to it, if its deadline is this.
    pub(super) fn due_at(&self, deadline: Timestamp) -> Option<Timestamp> {
        match self.stand {
            Stand::Pending => Some(deadline),
            Stand::Authorized { until, .. } => Some(until),
            Stand::Confirmed { .. } => None,
            Stand::Over { .. } if !self.may_go_cold() => None,
            Stand::Over { .. } if self.took_nothing() => {
                let soon = self.moved_at.map(|at| at.plus_millis(COLD_AFTER_MS).as_millis());
                let together = soon.map(|at| Timestamp::from_millis(at.next_multiple_of(COLD_EVERY_MS)));
                Some(together.map_or(self.terms.late_until, |at| at.min(self.terms.late_until)))
            }
            Stand::Over { .. } => Some(self.terms.late_until),
        }
    }

    /// Whether no money was taken by any charge, as far as is known.
    fn took_nothing(&self) -> bool {
        self.facts.charges().all(|charge| !charge.is_captured && !charge.went_back)
    }

    /// Whether it costs its owner nothing to have it in memory: it has paid for no seats, and took no money.
    pub(super) fn is_for_nothing(&self) -> bool {
        !matches!(self.stand, Stand::Confirmed { .. }) && self.took_nothing()
    }

    /// Whether a part of what has paid for its seats is to go back, and nobody has said yet that it is.
    pub(super) fn is_giving_back(&self) -> bool {
        let Stand::Confirmed { reference: Some(paid) } = &self.stand else { return false };
        let is_of_it = |owed: &Owed| owed.kind == OwedKind::Refund && owed.reference.as_ref() == Some(paid);
        self.owed.iter().any(|owed| is_of_it(owed) && !owed.by_hand)
    }

    /// Whether nothing of it is open any more.
    fn may_go_cold(&self) -> bool {
        self.owed.is_empty() && !self.facts.is_disputed()
    }

    /// Whether this charge, of which a fact came, is to be captured, called off or given back.
    #[must_use]
    pub fn verdict(&self, reference: Option<&str>) -> Option<OwedKind> {
        let of_it = |owed: &&Owed| reference.is_none() || owed.reference.as_deref() == reference;
        self.owed.iter().find(of_it).map(|owed| owed.kind)
    }
}

impl Turn {
    /// Where a payment stands after it, if not where it stood.
    pub(super) fn stand(&self) -> Option<Stand> {
        Some(match self {
            Self::Changed { .. } => return None,
            Self::Authorized { reference, until, .. } => {
                Stand::Authorized { reference: reference.clone(), until: *until }
            }
            Self::Confirmed { reference, .. } => Stand::Confirmed { reference: reference.clone() },
            Self::Ended { why, .. } | Self::Refunded { why, .. } => Stand::Over { why: *why },
        })
    }
}
