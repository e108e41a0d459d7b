//! What is kept of orders that change: what one change is, what a reservation was before it, and what of it is open.

use serde::Serialize;
use smallvec::SmallVec;

use super::{Leg, Lot, Reservation, ReservationStatus, SeatRefs};
use crate::domain::idempotency::Key;
use crate::domain::{Lsn, Points, Timestamp, UserId, cbor};

/// So many seats and places are kept at most of what one reservation was before: each change counts some more.
pub const KEPT_MAX: u64 = 4_096;
/// What a change counts beside its places.
const CHANGE_COUNTS: u64 = 8;

/// What is done with an order.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A part of what is held is given up.
    #[n(0)]
    Released,
    /// A part of what is paid is given back, or what is left of it.
    #[n(1)]
    Refunded {
        /// The refund's number: the first, if it goes back to several.
        #[n(0)]
        refund: u64,
        /// Nothing is left.
        #[n(1)]
        all: bool,
        /// Of which payment.
        #[n(2)]
        payment: u64,
    },
    /// Other seats and places are taken for as many that are given.
    #[n(2)]
    Exchanged,
    /// It is somebody else's from then on.
    #[n(3)]
    HandedOn {
        /// Whose.
        #[n(0)]
        to: UserId,
        /// By which offer; absent: at once.
        #[n(1)]
        transfer: Option<u64>,
    },
    /// It is held for longer, or for less long.
    #[n(4)]
    HeldUntil {
        /// Until when.
        #[n(0)]
        expires_at: Timestamp,
    },
}

/// A change of an order, as a whole: what of it moves, and what is owed for that.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Change {
    /// What is done.
    #[n(0)]
    pub what: What,
    /// What is free from then on.
    #[n(1)]
    pub given: Lot,
    /// What was not its own before.
    #[n(2)]
    pub taken: Lot,
    /// All that it has then.
    #[n(3)]
    pub then: Lot,
    /// What that cost.
    #[n(4)]
    pub amount: Points,
    /// What wallets are owed from then on.
    #[n(5)]
    #[cbor(with = "cbor::list", has_nil)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backs: Vec<Back>,
    /// What a wallet has paid for it.
    #[n(6)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leg: Option<Leg>,
    /// The idempotency key it came with.
    #[n(7)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// Who did it, if not the owner.
    #[n(8)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
}

/// What a wallet gets back.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Back {
    /// The refund's number.
    #[n(0)]
    pub refund: u64,
    /// Whose wallet: of who paid.
    #[n(1)]
    pub user: UserId,
    /// How much.
    #[n(2)]
    pub amount: Points,
    /// Of what it paid, newest first.
    #[n(3)]
    #[cbor(with = "cbor::small")]
    pub drawn: SmallVec<[Drawn; 1]>,
}

/// How much of one leg goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Drawn {
    /// Of which.
    #[n(0)]
    pub leg: u64,
    /// How much.
    #[n(1)]
    pub amount: Points,
}

/// An exchange whose difference a wallet was asked for: what is to be taken is pinned, and what is to be given is still its own.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Exchange {
    /// When it is called off, if the wallet has not answered.
    #[n(0)]
    pub deadline: Timestamp,
    /// The difference.
    #[n(1)]
    pub leg: Leg,
    /// What it comes to, once that is paid.
    #[n(2)]
    pub change: Change,
}

/// An offer to hand a reservation on.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Offer {
    /// Its number.
    #[n(0)]
    pub no: u64,
    /// To whom.
    #[n(1)]
    pub to: UserId,
    /// Until when it stands.
    #[n(2)]
    pub expires_at: Timestamp,
}

/// What a reservation was before a change.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Former {
    /// Up to which event: that of the change.
    #[n(0)]
    pub until: Lsn,
    /// Whose it was.
    #[n(1)]
    pub user: UserId,
    /// What it had; nothing if that stayed, as where only its time changed.
    #[n(2)]
    pub lot: Lot,
    /// What that cost.
    #[n(3)]
    pub amount: Points,
    /// Until when it was held.
    #[n(4)]
    pub expires_at: Timestamp,
    /// Whether it was held, and not paid.
    #[n(5)]
    pub held: bool,
}

/// What has become of a reservation beside being held and paid. Most have none of this.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Course {
    /// What it was before each change, oldest first.
    #[n(0)]
    #[cbor(with = "cbor::list", has_nil)]
    pub former: Vec<Former>,
    /// Who may have it.
    #[n(1)]
    pub offer: Option<Offer>,
    /// The exchange that is under way.
    #[n(2)]
    pub exchange: Option<Box<Exchange>>,
    /// Those of its seats that were blocked, and will be again.
    #[n(3)]
    #[cbor(with = "cbor::small")]
    pub from_blocked: SeatRefs,
}

impl Reservation {
    /// What it has, and what each of it costs; without prices if they were not kept.
    #[must_use]
    pub fn lot(&self) -> Lot {
        Lot { seats: self.seats.clone(), areas: self.areas.clone(), prices: self.prices.clone() }
    }

    /// What it was before each change, oldest first.
    #[must_use]
    pub fn former(&self) -> &[Former] {
        self.course.as_deref().map_or(&[], |course| &course.former)
    }

    /// As it was when the event `lsn` had happened: what it had, whose it was, and until when it was held. Its status is
    /// another matter.
    #[must_use]
    pub fn as_of(mut self, lsn: Lsn) -> Self {
        let former = self.course.take().map(|course| course.former).unwrap_or_default();
        let mut then = former.into_iter().skip_while(|former| former.until <= lsn).peekable();
        if let Some(Former { user, amount, expires_at, .. }) = then.peek().cloned() {
            (self.user, self.amount, self.expires_at) = (user, amount, expires_at);
        }
        if let Some(Former { lot, .. }) = then.find(|former| !former.lot.is_empty()) {
            (self.seats, self.areas, self.prices) = (lot.seats, lot.areas, lot.prices);
        }
        self
    }

    /// As it was when it was held.
    #[must_use]
    pub fn as_held(self) -> Self {
        self.as_of(Lsn(0))
    }

    /// Whether it was handed on, or has been somebody else's.
    #[must_use]
    pub fn was_handed_on(&self) -> bool {
        self.former().windows(2).any(|two| two[0].user != two[1].user)
            || self.former().last().is_some_and(|last| last.user != self.user)
    }

    /// It is not offered any more.
    pub(super) fn end_offer(&mut self) {
        if let Some(course) = &mut self.course {
            course.offer = None;
        }
    }

    /// The exchange that is under way.
    #[must_use]
    pub fn exchange(&self) -> Option<&Exchange> {
        self.course.as_deref()?.exchange.as_deref()
    }

    /// The offer that was made last, and not ended.
    #[must_use]
    pub fn offer(&self) -> Option<&Offer> {
        self.course.as_deref()?.offer.as_ref()
    }

    /// Those of its seats that were blocked before.
    #[must_use]
    pub fn from_blocked(&self) -> &[u32] {
        self.course.as_deref().map_or(&[], |course| &course.from_blocked)
    }

    /// How much of [`KEPT_MAX`] is used, if it changes once more.
    pub(super) fn kept_after_one_more(&self) -> u64 {
        let former = self.former().iter().filter(|former| !former.lot.is_empty());
        let former = former.map(|former| CHANGE_COUNTS + u64::from(former.lot.places_kept()));
        former.sum::<u64>() + CHANGE_COUNTS + u64::from(self.lot().places_kept())
    }

    /// What else is kept of it.
    pub(super) fn course_mut(&mut self) -> &mut Course {
        self.course.get_or_insert_default()
    }

    /// It becomes what a change makes of it.
    pub(super) fn become_changed(&mut self, lsn: Lsn, change: &Change) {
        let (user, amount, expires_at) = (self.user.clone(), self.amount, self.expires_at);
        let held = self.status == ReservationStatus::Held;
        let of_time = matches!(change.what, What::HeldUntil { .. });
        let lot = if of_time { Lot::default() } else { self.lot() };
        let course = self.course_mut();
        // Until when it was held between two changes of its time is told nowhere.
        if !of_time || course.former.last().is_none_or(|last| !last.lot.is_empty()) {
            course.former.push(Former { until: lsn, user, lot, amount, expires_at, held });
        }
        course.from_blocked.retain(|seat| !change.given.seats.contains(seat));
        (course.offer, course.exchange) = (None, None);
        match &change.what {
            What::HandedOn { to, .. } => self.user = to.clone(),
            What::HeldUntil { expires_at } => self.expires_at = *expires_at,
            What::Released | What::Refunded { .. } | What::Exchanged => {}
        }
        let then = &change.then;
        if !matches!(change.what, What::Refunded { all: true, .. }) {
            (self.seats, self.areas, self.prices) = (then.seats.clone(), then.areas.clone(), then.prices.clone());
            self.amount = change.amount;
        }
    }
}

impl Lot {
    /// How many seats and lots of places it keeps.
    fn places_kept(&self) -> u32 {
        (self.seats.len() + self.areas.len()) as u32
    }
}
