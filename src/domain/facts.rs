//! What a provider says of one payment: facts that merge in any order, and what they add up to.
//!
//! Facts are a set. A fact is told from others by its kind, its reference and its own id; the same one again changes nothing.
//! All that is said here follows from the set alone, so that neither order nor repetition matters:
//!
//! | rule | |
//! |---|---|
//! | `captured` implies `authorized` | an authorisation is open only while nothing was captured |
//! | `captured` beats `failed` and `voided` | a reference is dead only if nothing was captured |
//! | what went back was taken | captured is at least refunded + lost, whether its capture was told or not |
//! | `refund_failed` beats `refunded` | of the same id |
//! | `dispute_lost` beats `dispute_won` | of the same id, and is one that began |
//!
//! It must not know of reservations: what of the money is the price of something is given to it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize, Serializer};

use super::{Currency, Flaw, Points, Timestamp};

/// So many facts are kept of one payment, or so many bytes: providers send a few. Beyond that only what is said of money counts,
/// and of charges that are known.
pub const FACTS_MAX: usize = 200;
const TALK_BYTES_MAX: usize = 64 << 10;
/// All facts of one payment, in bytes: with as many, it still fits into a record together with what follows from the next one.
const FACTS_BYTES_MAX: usize = 128 << 10;
/// What a fact takes beside its names, where something is owed for it.
const FACT_BYTES: usize = 48;
/// The length of a reference, and of an id, in bytes.
const NAME_BYTES: RangeInclusive<usize> = 1..=255;
/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 500;

/// What a provider can say.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The provider knows the payment by this reference; nothing was reserved yet.
    #[n(0)]
    Opened,
    /// Money is reserved.
    #[n(1)]
    Authorized,
    /// Money is taken.
    #[n(2)]
    Captured,
    /// This reference can never take money any more.
    #[n(3)]
    Failed,
    /// It cannot either, since it was called off.
    #[n(4)]
    Voided,
    /// Money went back.
    #[n(5)]
    Refunded,
    /// It came back after all.
    #[n(6)]
    RefundFailed,
    /// The buyer's bank wants it back.
    #[n(7)]
    Disputed,
    /// The bank does not get it.
    #[n(8)]
    DisputeWon,
    /// The bank has it.
    #[n(9)]
    DisputeLost,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 10] = [
        Self::Opened,
        Self::Authorized,
        Self::Captured,
        Self::Failed,
        Self::Voided,
        Self::Refunded,
        Self::RefundFailed,
        Self::Disputed,
        Self::DisputeWon,
        Self::DisputeLost,
    ];
}

/// Something that a provider has said of a payment.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Fact {
    /// What.
    #[n(0)]
    pub kind: Kind,
    /// Of which charge: the provider's name for it.
    #[n(1)]
    pub reference: String,
    /// Which refund, dispute or capture of that charge; absent: there is only one.
    #[n(2)]
    pub id: Option<String>,
    /// How much.
    #[n(3)]
    pub amount: Points,
    /// Of what.
    #[n(4)]
    pub currency: Currency,
    /// When, by the provider's clock: for people, nothing is decided by it.
    #[n(5)]
    pub at: Option<Timestamp>,
    /// Why, in words.
    #[n(6)]
    pub reason: Option<String>,
}

impl Fact {
    /// All that is wrong with it by itself.
    pub fn flaws(&self) -> impl Iterator<Item = Flaw> {
        let name = |field: &str, name: &str| {
            let fits = NAME_BYTES.contains(&name.len()) && !name.chars().any(char::is_control);
            (!fits).then(|| Flaw::new(field, "must be 1 to 255 bytes, none of them a control character"))
        };
        let reason = self.reason.as_deref().filter(|reason| reason.len() > REASON_BYTES_MAX);
        let reason = reason.map(|_| Flaw::new("reason", format!("must be at most {REASON_BYTES_MAX} bytes")));
        let id = self.id.as_deref().and_then(|id| name("id", id));
        name("reference", &self.reference).into_iter().chain(id).chain(reason)
    }

    /// Whether it says where money is, or that it is disputed: who did not listen would lose it.
    fn is_of_money(&self) -> bool {
        !matches!(self.kind, Kind::Opened | Kind::Authorized | Kind::Failed | Kind::Voided)
    }

    fn identity(&self) -> Identity {
        // An id that only repeats the reference says no more than none.
        let id = self.id.clone().filter(|id| *id != self.reference);
        Identity { reference: self.reference.clone(), kind: self.kind, id }
    }
}

/// What tells facts of one payment apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode, Serialize)]
struct Identity {
    #[n(0)]
    reference: String,
    #[n(1)]
    kind: Kind,
    #[n(2)]
    id: Option<String>,
}

impl Identity {
    /// How much room a fact takes.
    fn bytes(&self) -> usize {
        FACT_BYTES + self.reference.len() + self.id.as_ref().map_or(0, String::len)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
struct Said {
    #[n(0)]
    amount: Points,
    #[n(1)]
    currency: Currency,
}

/// What is known of a fact that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is new.
    New,
    /// It was told before.
    Known,
    /// It was told before with another amount, or its reference in another currency.
    Conflict,
}

/// All that a provider has said of one payment.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Facts(#[n(0)] BTreeMap<Identity, Said>);

/// One charge at the provider, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge<'a> {
    /// The provider's name for it.
    pub reference: &'a str,
    /// In what.
    pub currency: Currency,
    /// What was reserved, if that was told.
    pub authorized: Option<Points>,
    /// What was taken, as told.
    pub captured: u64,
    /// Whether a capture was told.
    pub is_captured: bool,
    /// What went back to the buyer.
    pub refunded: u64,
    /// What the bank has taken back.
    pub lost: u64,
    /// A refund came back: those of this charge are settled by hand.
    pub by_hand: bool,
    /// Some refund or lost dispute was told.
    pub went_back: bool,
    /// A dispute has begun and not ended.
    pub disputed: bool,
    /// There was a dispute of it, whatever became of that.
    pub was_disputed: bool,
    /// Nothing was captured, and nothing can be any more.
    pub dead: bool,
    /// It could take money, or hold it back: it was opened or authorised, and nothing has come of that yet.
    pub open: bool,
}

/// What all facts in one currency add up to; [`captured`](Self::captured) + [`shortfall`](Self::shortfall) =
/// [`confirmed`](Self::confirmed) + [`refunded`](Self::refunded) + [`lost`](Self::lost) + [`owed`](Self::owed).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Totals {
    /// What was taken from the buyer.
    #[n(0)]
    pub captured: u64,
    /// What of it is the price of what the buyer has.
    #[n(1)]
    pub confirmed: u64,
    /// What went back to the buyer.
    #[n(2)]
    pub refunded: u64,
    /// What the bank has taken back.
    #[n(3)]
    pub lost: u64,
    /// What is to go back to the buyer.
    #[n(4)]
    pub owed: u64,
    /// What is missing of the price.
    #[n(5)]
    pub shortfall: u64,
}

impl Totals {
    /// I13.
    #[must_use]
    pub fn balance(&self) -> bool {
        let given = u128::from(self.confirmed) + u128::from(self.refunded) + u128::from(self.lost);
        u128::from(self.captured) + u128::from(self.shortfall) == given + u128::from(self.owed)
    }
}

/// A refund that is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundDue<'a> {
    /// Of which charge.
    pub reference: &'a str,
    /// How much.
    pub amount: u64,
    /// Of what.
    pub currency: Currency,
    /// The provider could not.
    pub by_hand: bool,
}

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

impl Facts {
    /// What is known of `fact`.
    #[must_use]
    pub fn hear(&self, fact: &Fact) -> Heard {
        let said = Said { amount: fact.amount, currency: fact.currency };
        match self.0.get(&fact.identity()) {
            Some(known) if *known == said => Heard::Known,
            Some(_) => Heard::Conflict,
            None if self.of(&fact.reference).is_some_and(|charge| charge.currency != fact.currency) => Heard::Conflict,
            None => Heard::New,
        }
    }

    /// Whether there is room for a new fact.
    ///
    /// Of money there is as long as a record can hold it; a charge that is known can end; all else is bounded, so that whoever
    /// opens charge after charge leaves room for both.
    #[must_use]
    pub fn has_room_for(&self, fact: &Fact) -> bool {
        let bytes: usize = self.0.keys().map(Identity::bytes).sum();
        let ends =
            matches!(fact.kind, Kind::Failed | Kind::Voided) && self.of(&fact.reference).is_some_and(|it| it.open);
        let is_few = self.0.len() < FACTS_MAX && bytes < TALK_BYTES_MAX;
        is_few || ((ends || fact.is_of_money()) && bytes + fact.identity().bytes() <= FACTS_BYTES_MAX)
    }

    /// Takes a fact in. One that conflicts is passed over.
    pub fn take(&mut self, fact: &Fact) {
        if self.hear(fact) == Heard::New {
            self.0.insert(fact.identity(), Said { amount: fact.amount, currency: fact.currency });
        }
    }

    /// Takes in what there is.
    pub(super) fn extend(&mut self, fact: Option<&Fact>) {
        fact.into_iter().for_each(|fact| self.take(fact));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was said yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All references, each once.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        let mut last = None;
        self.0.keys().map(|identity| &*identity.reference).filter(move |reference| {
            let is_new = last != Some(*reference);
            last = Some(*reference);
            is_new
        })
    }

    /// All charges, in the order of their references.
    pub fn charges(&self) -> impl Iterator<Item = Charge<'_>> {
        self.references().filter_map(|reference| self.of(reference))
    }

    /// What is known of one charge; `None` if nothing is.
    #[must_use]
    pub fn of(&self, reference: &str) -> Option<Charge<'_>> {
        let from = Identity { reference: reference.to_owned(), kind: Kind::Opened, id: None };
        let facts = || self.0.range(&from..).take_while(|(identity, _)| identity.reference == reference);
        let (first, said) = facts().next()?;
        let of = |kind: Kind| facts().filter(move |(identity, _)| identity.kind == kind);
        let is = |kind: Kind| of(kind).next().is_some();
        // Some thousand amounts of 53 bits each, at most.
        let sum_without = |kind: Kind, undone: Option<Kind>| {
            let stays = |identity: &Identity| {
                let undone = undone.map(|kind| Identity { kind, ..identity.clone() });
                undone.is_none_or(|undone| !self.0.contains_key(&undone))
            };
            let amounts = of(kind).filter(|(identity, _)| stays(identity));
            amounts.map(|(_, said)| said.amount.get()).sum::<u64>()
        };
        let has = |identity: &Identity, kind| self.0.contains_key(&Identity { kind, ..identity.clone() });
        let disputed = of(Kind::Disputed)
            .any(|(identity, _)| !has(identity, Kind::DisputeWon) && !has(identity, Kind::DisputeLost));
        let is_captured = is(Kind::Captured);
        let went_back = is(Kind::Refunded) || is(Kind::DisputeLost);
        let dead = !is_captured && (is(Kind::Failed) || is(Kind::Voided));
        Some(Charge {
            reference: &first.reference,
            currency: said.currency,
            authorized: of(Kind::Authorized).map(|(_, said)| said.amount).max(),
            captured: sum_without(Kind::Captured, None),
            is_captured,
            refunded: sum_without(Kind::Refunded, Some(Kind::RefundFailed)),
            lost: sum_without(Kind::DisputeLost, None),
            by_hand: is(Kind::RefundFailed),
            went_back,
            disputed,
            was_disputed: is(Kind::Disputed) || is(Kind::DisputeWon) || is(Kind::DisputeLost),
            dead,
            open: !is_captured && !dead && !went_back && (is(Kind::Opened) || is(Kind::Authorized)),
        })
    }

    /// Whether any dispute has begun and not ended.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        self.charges().any(|charge| charge.disputed)
    }

    /// Whether some charge may have taken money of which nobody has said where it is: it was disputed, say, or a refund of it came
    /// back, or a part of `price` went back; and how much it took was not told, nor that it took nothing. What was given back by
    /// hand is no charge, and is told once it is known what was taken.
    #[must_use]
    pub fn is_unclear(&self, price: Points) -> bool {
        let hides = |charge: &Charge<'_>| {
            // Even of nothing some was taken, if that is said.
            let price = charge.authorized.unwrap_or(price).get().max(1);
            !charge.is_captured && !charge.dead && !charge.open && charge.refunded + charge.lost < price
        };
        let is_known = self.charges().any(|charge| charge.is_captured);
        self.charges().any(|charge| hides(&charge) && (charge.was_disputed || !is_known))
    }

    /// Whether something is known, and no reference can take money any more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        !self.is_empty() && self.charges().all(|charge| charge.dead || (charge.went_back && !charge.is_captured))
    }

    /// What all facts in `currency` add up to, if `confirmed` of it is the price of what the buyer has.
    #[must_use]
    pub fn totals(&self, currency: Currency, confirmed: Points) -> Totals {
        let charges = self.charges().filter(|charge| charge.currency == currency);
        let (told, refunded, lost) = charges.fold((0, 0, 0), |(told, refunded, lost), charge| {
            (told + charge.captured, refunded + charge.refunded, lost + charge.lost)
        });
        // What went back was taken before, whether that was told or not.
        let captured = told.max(refunded + lost);
        let confirmed = confirmed.get();
        let given = confirmed + refunded + lost;
        let (owed, shortfall) = (captured.saturating_sub(given), given.saturating_sub(captured));
        Totals { captured, confirmed, refunded, lost, owed, shortfall }
    }

    /// Every currency that something was said in.
    #[must_use]
    pub fn currencies(&self) -> Vec<Currency> {
        let mut all: Vec<_> = self.0.values().map(|said| said.currency).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What was given back under a name of its own, with this charge as its id: by hand, for this charge.
    fn by_hand_for(&self, charge: &str, currency: Currency) -> u64 {
        let is_for = |identity: &Identity| {
            let failed = || self.0.contains_key(&Identity { kind: Kind::RefundFailed, ..identity.clone() });
            // A refund of another charge is not one of this, whatever it is called.
            let is_own = || self.of(&identity.reference).is_some_and(|other| other.is_captured);
            identity.kind == Kind::Refunded && identity.id.as_deref() == Some(charge) && !failed() && !is_own()
        };
        let given = self.0.iter().filter(|(identity, said)| said.currency == currency && is_for(identity));
        given.map(|(_, said)| said.amount.get()).sum()
    }

    /// Whether all that this charge took, as far as that was told, is back with the buyer; what was lost is with the bank.
    #[must_use]
    pub fn is_back(&self, reference: &str) -> bool {
        let is_back =
            |charge: Charge<'_>| charge.refunded + self.by_hand_for(reference, charge.currency) >= charge.captured;
        self.of(reference).is_some_and(is_back)
    }

    /// The refunds that make up [`Totals::owed`] of all currencies, if `confirmed` in `currency` is the price of what the buyer
    /// has, paid by the charge `by`. Where one does, the charge that paid is the last to be given back; before it those that
    /// are settled by hand, since what was paid by hand need not be told to be of any charge.
    #[must_use]
    pub fn refunds_due(&self, by: Option<&str>, currency: Currency, confirmed: Points) -> Vec<RefundDue<'_>> {
        let mut due = Vec::new();
        for of in self.currencies() {
            let price = if of == currency { confirmed } else { Points::ZERO };
            let mut owed = self.totals(of, price).owed;
            let mut charges: Vec<_> =
                self.charges().filter(|charge| charge.currency == of && charge.is_captured).collect();
            charges.sort_by_key(|charge| (by == Some(charge.reference), charge.by_hand));
            for charge in charges {
                let price = if by == Some(charge.reference) { price.get() } else { 0 };
                let given = charge.refunded + charge.lost + self.by_hand_for(charge.reference, of);
                let left = charge.captured.saturating_sub(given + price);
                let amount = left.min(owed);
                owed -= amount;
                if amount > 0 {
                    due.push(RefundDue { reference: charge.reference, amount, currency: of, by_hand: charge.by_hand });
                }
            }
        }
        due
    }
}

#[cfg(test)]
mod tests;
