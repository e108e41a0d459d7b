//! The one place where records of the journal become events.
//!
//! A fact often names a number only: `ReservationsExpired [7, 8]`. What of a reservation, payment or token never changes
//! is then looked up, and what may change (a status, a time, a balance) is taken from the fact itself. So the same fact
//! gives the same events whenever they are made.
//!
//! | fact | events |
//! |---|---|
//! | `SeatsHeld` | `reservation.created` |
//! | `ReservationReleased` | `reservation.released` |
//! | `ReservationsExpired` | `reservation.expired`, for each |
//! | `PaymentConfirmed` | `reservation.confirmed`, `payment.completed` |
//! | `PaymentFailed` | `payment.failed` |
//! | `PaymentRefunded` | `reservation.refunded`: its seats are free |
//! | `ProviderPaymentStarted` | `payment.pending` |
//! | `ProviderPaymentMoved` | what it has become of payment and reservation, and hints of what is owed: see [`of_moved`] |
//! | `RefundCredited` | `payment.refunded`: its points are back; nothing, if it is of a part |
//! | `OrderChanged` | `reservation.released`, `reservation.refunded` if nothing is left of it |
//! | `ComplimentaryGiven` | `reservation.confirmed`, `payment.completed` |
//! | `TokenIssued` | `token.issued`, and `token.activated` if it need not wait |
//! | `Configured` | `token.issued`, for each that waits again: there is no type of its own |
//! | `TokensAdmitted` | `token.activated`, for each |
//! | `TokensExpired`, `TokenLeft` | `token.expired`, for each |
//! | `TokenUsed` | `token.used` |
//! | `Charged` | `wallet.charged` |
//!
//! It must not know where rows are kept: it says what it [misses](Missing).

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use smallvec::SmallVec;

use super::event::{Event, EventData, EventId, EventType};
use crate::api;
use crate::domain::concert_option::{
    self, ByProvider, Moved, OwedKind, Payment, PaymentStatus, PricedPlan, ProviderStatus, Reservation,
    ReservationStatus, Standing, Turn, What,
};
use crate::domain::facts::{Kind, Totals};
use crate::domain::waiting_room::{self, TokenStatus};
use crate::domain::wallet::{self, Entry, EntryKind};
use crate::domain::{ConcertId, Lsn, OptionId, PaymentId, RefundId, ReservationId, Timestamp, TokenId, UserId};
use crate::store::codec::{Facts, Record};

/// So many plans that are not in force any more are remembered: they may be large, and each is told of for a while.
const FORMER_PLANS_MAX: usize = 8;

/// Something that was looked for and is not [known](Known).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Missing {
    /// A reservation.
    Reservation(ReservationId),
    /// A payment.
    Payment(PaymentId),
    /// A refund.
    Refund(RefundId),
    /// A token.
    Token(TokenId),
    /// An option's plan and prices.
    Plan(OptionId),
    /// The same with the seating plan of this index among those that it had before.
    FormerPlan(OptionId, u32),
}

/// The last things of one kind.
struct Recent<K, V> {
    things: HashMap<K, V>,
    /// Oldest first.
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { things: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    fn insert(&mut self, key: K, thing: V) {
        if self.things.insert(key, thing).is_none() {
            self.order.push_back(key);
        }
    }

    fn forget_above(&mut self, most: usize) {
        while self.order.len() > most {
            if let Some(key) = self.order.pop_front() {
                self.things.remove(&key);
            }
        }
    }
}

/// What has been read or looked up lately. Of all of it only that is used which has not changed since, and never will.
#[derive(Default)]
pub(crate) struct Known {
    reservations: Recent<ReservationId, Reservation>,
    payments: Recent<PaymentId, Payment>,
    refunds: Recent<RefundId, PaymentId>,
    tokens: Recent<TokenId, UserId>,
    plans: Recent<OptionId, Arc<PricedPlan>>,
    former_plans: Recent<(OptionId, u32), Arc<PricedPlan>>,
}

impl Known {
    /// Takes a reservation in.
    pub(crate) fn reservation(&mut self, id: ReservationId, reservation: Reservation) {
        self.reservations.insert(id, reservation);
    }

    /// Takes a payment in.
    pub(crate) fn payment(&mut self, id: PaymentId, payment: Payment) {
        self.payments.insert(id, payment);
    }

    /// Takes in which payment a refund gives back.
    pub(crate) fn refund(&mut self, id: RefundId, payment: PaymentId) {
        self.refunds.insert(id, payment);
    }

    /// Takes in whose a token is.
    pub(crate) fn token(&mut self, id: TokenId, user: UserId) {
        self.tokens.insert(id, user);
    }

    /// Takes an option's plan in.
    pub(crate) fn plan(&mut self, plan: Arc<PricedPlan>) {
        self.plans.insert(plan.option, plan);
    }

    /// Takes in an option's plan of this index among those that it had before.
    pub(crate) fn former_plan(&mut self, index: u32, plan: Arc<PricedPlan>) {
        self.former_plans.insert((plan.option, index), plan);
    }

    /// Takes in what a fact says of things that later facts only name. To be called for each fact, in order.
    pub(crate) fn learn(&mut self, record: &Record, fact: usize) {
        match &record.facts {
            Facts::Option(option, events) => self.learn_of_option(*option, record.at, &events[fact]),
            Facts::Room(concert, events) => {
                if let waiting_room::Event::TokenIssued { no, user, .. } = &events[fact] {
                    self.token(TokenId { concert: *concert, no: *no }, user.clone());
                }
            }
            Facts::Catalogue(..) | Facts::Wallet(..) | Facts::Sink(..) => {}
        }
    }

    fn learn_of_option(&mut self, option: OptionId, at: Timestamp, event: &concert_option::Event) {
        use concert_option::Event;
        match event {
            Event::SeatsHeld {
                reservation: no, user, seats, areas, amount, expires_at, token, prices, note, ..
            } => {
                let held = Reservation {
                    user: user.clone(),
                    seats: seats.clone(),
                    areas: areas.clone(),
                    amount: *amount,
                    created_at: at,
                    expires_at: *expires_at,
                    token: *token,
                    status: ReservationStatus::Held,
                    steps: SmallVec::new(),
                    prices: prices.clone(),
                    course: None,
                    note: note.clone(),
                };
                self.reservation(ReservationId { option, no: *no }, held);
            }
            &Event::PaymentStarted { payment: no, reservation, deadline, .. } => {
                if let Some(held) = self.reservations.things.get(&ReservationId { option, no: reservation }) {
                    let payment = Payment {
                        reservation,
                        user: held.user.clone(),
                        amount: held.amount,
                        started_at: at,
                        deadline,
                        status: PaymentStatus::Pending,
                        balance: crate::Points::ZERO,
                        paid_at: at,
                        key: None,
                        provider: None,
                        legs: Vec::new(),
                        crediting: 0,
                        complimentary: false,
                    };
                    self.payment(PaymentId { option, no }, payment);
                }
            }
            Event::ProviderPaymentStarted { payment: no, reservation, terms, amount, deadline, .. } => {
                if let Some(held) = self.reservations.things.get(&ReservationId { option, no: *reservation }) {
                    let payment = Payment {
                        reservation: *reservation,
                        user: held.user.clone(),
                        amount: *amount,
                        started_at: at,
                        deadline: *deadline,
                        status: PaymentStatus::ByProvider,
                        balance: crate::Points::ZERO,
                        paid_at: at,
                        key: None,
                        provider: Some(Box::new(ByProvider::new((**terms).clone()))),
                        legs: Vec::new(),
                        crediting: 0,
                        complimentary: false,
                    };
                    self.payment(PaymentId { option, no: *no }, payment);
                }
            }
            &Event::PaymentConfirmed { payment: no, balance, paid_at } => {
                if let Some(payment) = self.payments.things.get_mut(&PaymentId { option, no }) {
                    (payment.balance, payment.paid_at) = (balance, paid_at);
                }
            }
            &Event::PaymentRefunded { refund, payment: no, .. } => {
                self.refund(RefundId { option, no: refund }, PaymentId { option, no });
            }
            Event::OptionChanged { .. } | Event::OptionDeleted { .. } => {
                self.plans.things.remove(&option);
            }
            // What was known of it is not so any more: it is looked up, and rows know what they were.
            Event::OrderChanged { reservation, .. } => {
                self.reservations.things.remove(&ReservationId { option, no: *reservation });
                self.payments.things.retain(|id, known| id.option != option || known.reservation != *reservation);
            }
            _ => {}
        }
    }

    /// Forgets the oldest of each kind, until `most` are left.
    pub(crate) fn forget_above(&mut self, most: usize) {
        self.reservations.forget_above(most);
        self.payments.forget_above(most);
        self.refunds.forget_above(most);
        self.tokens.forget_above(most);
        self.plans.forget_above(most);
        self.former_plans.forget_above(FORMER_PLANS_MAX);
    }

    fn get_reservation(&self, id: ReservationId) -> Result<&Reservation, Missing> {
        self.reservations.things.get(&id).ok_or(Missing::Reservation(id))
    }

    fn get_payment(&self, id: PaymentId) -> Result<&Payment, Missing> {
        self.payments.things.get(&id).ok_or(Missing::Payment(id))
    }

    fn get_refund(&self, id: RefundId) -> Result<PaymentId, Missing> {
        self.refunds.things.get(&id).copied().ok_or(Missing::Refund(id))
    }

    fn get_token(&self, id: TokenId) -> Result<&UserId, Missing> {
        self.tokens.things.get(&id).ok_or(Missing::Token(id))
    }

    /// The plan that was in force when `lsn` was told.
    fn get_plan(&self, id: OptionId, lsn: Lsn) -> Result<&Arc<PricedPlan>, Missing> {
        let present = self.plans.things.get(&id).ok_or(Missing::Plan(id))?;
        let Some(index) = present.former_plan_at(lsn) else { return Ok(present) };
        self.former_plans.things.get(&(id, index)).ok_or(Missing::FormerPlan(id, index))
    }
}

/// An event, less what has to be looked up.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Names it.
    pub id: EventId,
    /// What has happened.
    pub kind: EventType,
    /// When.
    pub time: Timestamp,
    about: About,
}

/// What an event is about, and what has become of it.
#[derive(Debug, Clone)]
enum About {
    Reservation(ReservationId, ReservationStatus),
    /// The reservation that a payment is for.
    ReservationOf(PaymentId, ReservationStatus),
    Payment(PaymentId, PaymentStatus),
    /// A payment, and the balance and time of its debit.
    Paid(PaymentId, crate::Points, Timestamp),
    /// The payment that a refund gives back.
    PaymentOf(RefundId),
    /// A payment by a provider, as it stood.
    Provided(PaymentId, Standing),
    Token(TokenId, TokenStatus, Option<Timestamp>),
    Entry(UserId, Entry),
}

/// The event of this index that a fact of a record becomes; `None` if it becomes no more than `index`.
pub(crate) fn draft(record: &Record, fact: usize, id: EventId) -> Option<Draft> {
    let index = id.index as usize;
    let (kind, about) = match &record.facts {
        Facts::Catalogue(..) | Facts::Sink(..) => None,
        Facts::Option(option, events) => of_option(*option, &events[fact], index),
        Facts::Wallet(user, events) => of_wallet(user, record.at, &events[fact], index),
        Facts::Room(concert, events) => of_room(*concert, &events[fact], index),
    }?;
    Some(Draft { id, kind, time: record.at, about })
}

fn of_option(option: OptionId, event: &concert_option::Event, index: usize) -> Option<(EventType, About)> {
    use concert_option::Event;
    let reservation = |no, status| About::Reservation(ReservationId { option, no }, status);
    let only = |kind, about| (index == 0).then_some((kind, about));
    match *event {
        Event::SeatsHeld { reservation: no, .. } => {
            only(EventType::ReservationCreated, reservation(no, ReservationStatus::Held))
        }
        Event::ReservationReleased { reservation: no, .. } => {
            only(EventType::ReservationReleased, reservation(no, ReservationStatus::Released))
        }
        Event::ReservationsExpired { ref reservations } => {
            let no = *reservations.get(index)?;
            Some((EventType::ReservationExpired, reservation(no, ReservationStatus::Expired)))
        }
        Event::PaymentConfirmed { payment: no, balance, paid_at } => {
            let payment = PaymentId { option, no };
            let confirmed = ReservationStatus::Confirmed { payment: no };
            [
                (EventType::ReservationConfirmed, About::ReservationOf(payment, confirmed)),
                (EventType::PaymentCompleted, About::Paid(payment, balance, paid_at)),
            ]
            .into_iter()
            .nth(index)
        }
        Event::PaymentFailed { payment: no, reason } => {
            let failed = PaymentStatus::Failed { reason };
            only(EventType::PaymentFailed, About::Payment(PaymentId { option, no }, failed))
        }
        Event::PaymentRefunded { payment: no, .. } => {
            let refunded = ReservationStatus::Refunded { payment: no };
            only(EventType::ReservationRefunded, About::ReservationOf(PaymentId { option, no }, refunded))
        }
        Event::RefundCredited { left: Some(_), .. } => None,
        Event::RefundCredited { refund: no, .. } => {
            only(EventType::PaymentRefunded, About::PaymentOf(RefundId { option, no }))
        }
        Event::ProviderPaymentStarted { payment: no, .. } => {
            let verdict = None;
            let (status, totals, disputed) = (ProviderStatus::Pending, Totals::default(), false);
            let standing = Standing { status, totals, disputed, verdict, paid_at: None };
            only(EventType::PaymentPending, About::Provided(PaymentId { option, no }, standing))
        }
        Event::ProviderPaymentMoved { payment: no, ref moved } => {
            of_moved(PaymentId { option, no }, moved).into_iter().nth(index)
        }
        Event::OrderChanged { reservation: no, ref change } => {
            let (kind, status) = match change.what {
                What::Released if change.then.is_empty() => {
                    (EventType::ReservationReleased, ReservationStatus::Released)
                }
                What::Refunded { all: true, payment, .. } => {
                    (EventType::ReservationRefunded, ReservationStatus::Refunded { payment })
                }
                _ => return None,
            };
            only(kind, reservation(no, status))
        }
        Event::ComplimentaryGiven { payment, reservation: no } => [
            (EventType::ReservationConfirmed, reservation(no, ReservationStatus::Confirmed { payment })),
            (EventType::PaymentCompleted, About::Payment(PaymentId { option, no: payment }, PaymentStatus::Completed)),
        ]
        .into_iter()
        .nth(index),
        Event::OptionDefined { .. }
        | Event::OptionRescheduled { .. }
        | Event::PaymentStarted { .. }
        | Event::TokenCompleted { .. }
        | Event::SeatsBlocked { .. }
        | Event::SeatsUnblocked { .. }
        | Event::ProviderAttemptFailed { .. }
        | Event::ProviderPaymentsWentCold { .. }
        | Event::ProviderPaymentRevived { .. }
        | Event::ExchangeStarted { .. }
        | Event::ExchangeFailed { .. }
        | Event::TransferOffered { .. }
        | Event::TransferWithdrawn { .. }
        | Event::CalledOff { .. }
        | Event::OptionChanged { .. }
        | Event::OptionDeleted { .. }
        | Event::DeletionNoted => None,
    }
}

/// What has become of a payment by a provider, and what is owed from now on.
fn of_moved(id: PaymentId, moved: &Moved) -> SmallVec<[(EventType, About); 4]> {
    let standing = moved.standing;
    let payment = |kind| (kind, About::Provided(id, standing));
    let reservation = |kind, status| (kind, About::ReservationOf(id, status));
    let mut events = SmallVec::new();
    match &moved.turn {
        Some(Turn::Authorized { .. }) => events.push(payment(EventType::PaymentAuthorized)),
        Some(Turn::Confirmed { .. }) => {
            let confirmed = ReservationStatus::Confirmed { payment: id.no };
            events.push(reservation(EventType::ReservationConfirmed, confirmed));
            events.push(payment(EventType::PaymentCompleted));
        }
        Some(Turn::Ended { lapses: true, .. }) => {
            events.push(reservation(EventType::ReservationExpired, ReservationStatus::Expired));
        }
        Some(Turn::Refunded { .. }) => {
            let refunded = ReservationStatus::Refunded { payment: id.no };
            events.push(reservation(EventType::ReservationRefunded, refunded));
        }
        Some(Turn::Ended { lapses: false, .. } | Turn::Changed { .. }) | None => {}
    }
    let has_changed = moved.turn.is_some() || !moved.owing.settled.is_empty();
    let kind = moved.fact.as_ref().map(|fact| fact.kind);
    let is_given_back = matches!(moved.turn, Some(Turn::Refunded { .. }));
    match standing.status {
        ProviderStatus::Failed if has_changed => events.push(payment(EventType::PaymentFailed)),
        ProviderStatus::Voided if has_changed => events.push(payment(EventType::PaymentVoided)),
        // Where nothing is left to go back, it is by the refund that was asked for.
        ProviderStatus::Refunded if matches!(kind, Some(Kind::Refunded | Kind::DisputeLost)) || is_given_back => {
            events.push(payment(EventType::PaymentRefunded));
        }
        ProviderStatus::RefundOwed if moved.owing.begun.iter().any(|owed| owed.kind == OwedKind::Refund) => {
            events.push(payment(EventType::PaymentRefundOwed));
        }
        _ => {}
    }
    if kind == Some(Kind::Disputed) {
        events.push(payment(EventType::PaymentDisputed));
    }
    // What is settled by hand nobody need be asked for.
    events.extend(moved.owing.begun.iter().filter(|owed| !owed.by_hand).map(|owed| {
        payment(match owed.kind {
            OwedKind::Capture => EventType::CaptureRequested,
            OwedKind::Void => EventType::VoidRequested,
            OwedKind::Refund => EventType::RefundRequested,
            OwedKind::Check => EventType::CheckRequested,
        })
    }));
    events
}

fn of_wallet(user: &UserId, at: Timestamp, event: &wallet::Event, index: usize) -> Option<(EventType, About)> {
    use wallet::Event;
    match event {
        Event::Charged { entry: no, amount, balance, by, .. } => {
            let (kind, reference) = (EntryKind::Charge, by.to_string());
            let entry = Entry { no: *no, kind, amount: *amount, balance: *balance, reference, at, reason: None };
            (index == 0).then(|| (EventType::WalletCharged, About::Entry(user.clone(), entry)))
        }
        // What payments do to a wallet is told by their own events; of corrections nobody outside is told.
        Event::Debited { .. }
        | Event::DebitRefused { .. }
        | Event::DebitCancelled { .. }
        | Event::Credited { .. }
        | Event::Adjusted { .. } => None,
    }
}

fn of_room(concert: ConcertId, event: &waiting_room::Event, index: usize) -> Option<(EventType, About)> {
    use waiting_room::Event;
    let token = |no, status, expires_at| About::Token(TokenId { concert, no }, status, expires_at);
    let active = |no, until| (EventType::TokenActivated, token(no, TokenStatus::Active, Some(until)));
    let expired = |no| (EventType::TokenExpired, token(no, TokenStatus::Expired, None));
    match *event {
        Event::TokenIssued { no, active_until: None, .. } => {
            (index == 0).then(|| (EventType::TokenIssued, token(no, TokenStatus::Waiting, None)))
        }
        Event::TokenIssued { no, active_until: Some(until), .. } => {
            let issued = (EventType::TokenIssued, token(no, TokenStatus::Active, Some(until)));
            [issued, active(no, until)].into_iter().nth(index)
        }
        // They have a place in line again, and are told of by the event that says so of others.
        Event::Configured { returned: Some(ref tokens), .. } => {
            tokens.get(index).map(|no| (EventType::TokenIssued, token(*no, TokenStatus::Waiting, None)))
        }
        Event::TokensAdmitted { ref tokens, expires_at } => tokens.get(index).map(|no| active(*no, expires_at)),
        Event::TokensExpired { ref tokens } => tokens.get(index).map(|no| expired(*no)),
        Event::TokenLeft { no, .. } => (index == 0).then(|| expired(no)),
        Event::TokenUsed { no } => (index == 0).then(|| (EventType::TokenUsed, token(no, TokenStatus::Used, None))),
        Event::Opened { .. }
        | Event::Configured { returned: None, .. }
        | Event::LineOpened { .. }
        | Event::Closed { .. } => None,
    }
}

impl Draft {
    /// The whole event.
    ///
    /// # Errors
    /// What has to be looked up first; there may be more then.
    pub(crate) fn complete(&self, known: &Known) -> Result<Event, Missing> {
        let (source, subject, data) = match &self.about {
            About::Reservation(id, status) => reservation(known, *id, *status, self.id.lsn)?,
            About::ReservationOf(payment, status) => {
                let id = ReservationId { option: payment.option, no: known.get_payment(*payment)?.reservation };
                reservation(known, id, *status, self.id.lsn)?
            }
            About::Payment(id, status) => payment(*id, Payment { status: *status, ..known.get_payment(*id)?.clone() }),
            &About::Paid(id, balance, paid_at) => {
                let status = PaymentStatus::Completed;
                // What was paid for it since is not told here.
                let legs = Vec::new();
                payment(id, Payment { status, balance, paid_at, legs, ..known.get_payment(id)?.clone() })
            }
            About::Provided(id, standing) => {
                let found = known.get_payment(*id)?;
                let reservation = ReservationId { option: id.option, no: found.reservation };
                // Only what never changes is taken from what was found.
                let by = found.provider.as_deref().ok_or(Missing::Payment(*id))?;
                let payment = api::Payment::standing(*id, found, by, standing);
                (format!("/options/{}", id.option), reservation.to_string(), EventData::Payment(payment))
            }
            About::PaymentOf(refund) => {
                let id = known.get_refund(*refund)?;
                let status = PaymentStatus::Refunded { refund: refund.no };
                payment(id, Payment { status, ..known.get_payment(id)?.clone() })
            }
            &About::Token(id, status, expires_at) => {
                let user_id = known.get_token(id)?.clone();
                let data = EventData::Token { id, concert_id: id.concert, user_id, status, expires_at };
                (format!("/concerts/{}", id.concert), id.to_string(), data)
            }
            About::Entry(user, entry) => {
                let source = format!("/users/{}/wallet", utf8_percent_encode(user.as_str(), NON_ALPHANUMERIC));
                let data = EventData::WalletEntry(api::WalletEntry::new(user, entry.clone()));
                (source, user.to_string(), data)
            }
        };
        Ok(Event { id: self.id, kind: self.kind, source, subject, time: self.time, data })
    }
}

/// Source, subject and data.
type Content = (String, String, EventData);

/// A reservation as it was at `lsn`.
fn reservation(known: &Known, id: ReservationId, status: ReservationStatus, lsn: Lsn) -> Result<Content, Missing> {
    let plan = known.get_plan(id.option, lsn)?.clone();
    let steps = SmallVec::new();
    let reservation = Reservation { status, steps, ..known.get_reservation(id)?.clone().as_of(lsn) };
    let data = EventData::Reservation(api::Reservation::new(id.no, reservation, plan));
    Ok((format!("/options/{}", id.option), id.to_string(), data))
}

fn payment(id: PaymentId, payment: Payment) -> Content {
    let reservation = ReservationId { option: id.option, no: payment.reservation };
    let data = EventData::Payment(api::Payment::new(id, payment));
    (format!("/options/{}", id.option), reservation.to_string(), data)
}
