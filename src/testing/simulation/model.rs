//! What a naive reader makes of the journal: what is there, what belongs to whom, and what every caller may have been told.
//!
//! It reads each frame when the log has promised it, and what a crash left of the last one, and shares no code with the
//! aggregates. Only the rows are compared with those of a second replica, that never crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::watched::Frame;
use crate::actors::alarms::AggregateId;
use crate::actors::system::SharedReplica;
use crate::domain::concert_option::{
    self, AreaPlaces, Change, ConcertOption, Definition, Moved, Owed, Part, SeatRefs, Turn, What,
};
use crate::domain::facts::{Fact, Kind};
use crate::domain::idempotency::{Key, RETENTION_MILLIS};
use crate::domain::invariants::{Audit, Broken};
use crate::domain::sink::{self, Registration};
use crate::domain::wallet::Wallet;
use crate::domain::{
    ConcertId, Currency, EventId, Lsn, OptionId, PaymentId, Points, RefundId, ReservationId, SinkId, Timestamp,
    TokenId, UserId, catalogue, waiting_room, wallet,
};
use crate::limits::UserCounts;
use crate::replica::{Cold, Replica};
use crate::store::codec::{self, Facts, Record, TheCatalogue};
use crate::store::state::StateStore;
use crate::testing::random::Dice;

/// A hold, as it was made.
#[derive(Debug, Clone)]
pub(in crate::testing) struct Held {
    pub user: UserId,
    pub seats: SeatRefs,
    pub areas: Vec<AreaPlaces>,
    pub amount: Points,
    pub token: Option<u64>,
}

/// A payment by a provider, by its events.
#[derive(Debug, Clone)]
pub(in crate::testing) struct Provided {
    pub reservation: u64,
    pub price: Points,
    pub currency: Currency,
    /// It has seats, and has paid for them.
    pub is_paid: bool,
    /// By which charge.
    paid_by: Option<String>,
    /// Its seats are free since all of this charge went back, unasked.
    pub undone: Option<String>,
    /// Its seats are pinned.
    is_pinned: bool,
    pub owed: BTreeMap<u32, Owed>,
    /// What, of which charge, and which of it.
    heard: BTreeSet<(Kind, String, String)>,
}

fn what(fact: &Fact) -> (Kind, String, String) {
    let id = fact.id.as_ref().unwrap_or(&fact.reference);
    (fact.kind, fact.reference.clone(), id.clone())
}

impl Provided {
    /// What is paid for in a currency.
    pub fn price_in(&self, currency: Currency) -> u64 {
        if self.is_paid && currency == self.currency { self.price.get() } else { 0 }
    }

    /// Whether this was heard of it.
    pub fn has_heard(&self, fact: &Fact) -> bool {
        self.heard.contains(&what(fact))
    }
}

/// What a key has led to.
#[derive(Debug, Clone)]
struct Used {
    payload: [u8; 16],
    made: u64,
    at: Timestamp,
}

/// All that is known from the journal.
pub(in crate::testing) struct Model {
    pub audit: Audit,
    pub last: Lsn,
    /// The latest time of all events.
    pub now: Timestamp,
    /// All frames, as they were promised.
    pub frames: Vec<Frame>,
    /// Whose state has changed since it was last compared.
    pub changed: BTreeSet<AggregateId>,
    pub concerts: BTreeSet<ConcertId>,
    pub options: BTreeMap<OptionId, Definition>,
    /// When each plan of an option but the first came.
    pub replanned_at: BTreeMap<OptionId, Vec<Lsn>>,
    pub defined: BTreeSet<OptionId>,
    pub rooms: BTreeSet<ConcertId>,
    pub reservations: BTreeMap<ReservationId, Held>,
    /// As they were when they were held.
    as_held: BTreeMap<ReservationId, Held>,
    /// Who has, or had, which.
    listed: BTreeMap<UserId, BTreeSet<ReservationId>>,
    /// Offers to hand one on that were made, with whom to.
    pub offers: BTreeMap<(OptionId, u64), (u64, UserId)>,
    pub called_off: BTreeSet<OptionId>,
    /// What was deleted.
    gone: (BTreeSet<ConcertId>, BTreeSet<OptionId>),
    /// Until when the open holds last.
    pub open: BTreeMap<ReservationId, Timestamp>,
    deadlines: BTreeMap<ReservationId, Timestamp>,
    pub payments: BTreeMap<PaymentId, u64>,
    pub provided: BTreeMap<PaymentId, Provided>,
    payment_keys: BTreeMap<PaymentId, Option<Key>>,
    refund_keys: BTreeMap<RefundId, Option<Key>>,
    completed: BTreeSet<PaymentId>,
    credited: BTreeSet<RefundId>,
    /// What is pinned for exchanges that are under way.
    exchanges: BTreeMap<ReservationId, SeatRefs>,
    /// Seats that were ever held or blocked.
    taken: BTreeSet<(OptionId, u32)>,
    /// Of these, those that are free, each since which event.
    free: BTreeMap<(OptionId, u32), Lsn>,
    /// Blocked ones that are not for sale just now.
    kept_blocked: BTreeSet<(OptionId, u32)>,
    pub tokens: BTreeMap<TokenId, UserId>,
    ended: BTreeSet<TokenId>,
    pub entries: BTreeMap<(UserId, u64), (Points, Points)>,
    pub sinks: BTreeMap<SinkId, Registration>,
    pub removed: BTreeSet<SinkId>,
    pub dropped: BTreeSet<(SinkId, EventId)>,
    used: BTreeMap<(AggregateId, [u8; 16]), Vec<Used>>,
    /// With what each key has begun payments and refunds, whatever became of them.
    begun: BTreeMap<(AggregateId, [u8; 16]), BTreeSet<[u8; 16]>>,
    twin: Twin,
}

/// A replica that takes everything in and never crashes.
pub(in crate::testing) struct Twin {
    store: Arc<StateStore>,
    replica: Replica,
    /// What it has not taken in yet.
    later: Vec<(Lsn, Record)>,
}

/// What does not hold.
pub(in crate::testing) fn broken(invariant: &'static str, what: impl Into<String>) -> Broken {
    Broken { invariant, what: what.into() }
}

fn ensure(holds: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(broken(invariant, what())) }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            audit: Audit::default(),
            last: Lsn(0),
            now: Timestamp::default(),
            frames: Vec::new(),
            changed: BTreeSet::new(),
            concerts: BTreeSet::new(),
            options: BTreeMap::new(),
            replanned_at: BTreeMap::new(),
            defined: BTreeSet::new(),
            rooms: BTreeSet::new(),
            reservations: BTreeMap::new(),
            as_held: BTreeMap::new(),
            listed: BTreeMap::new(),
            offers: BTreeMap::new(),
            called_off: BTreeSet::new(),
            gone: Default::default(),
            open: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            payments: BTreeMap::new(),
            provided: BTreeMap::new(),
            payment_keys: BTreeMap::new(),
            refund_keys: BTreeMap::new(),
            completed: BTreeSet::new(),
            credited: BTreeSet::new(),
            exchanges: BTreeMap::new(),
            taken: BTreeSet::new(),
            kept_blocked: BTreeSet::new(),
            free: BTreeMap::new(),
            tokens: BTreeMap::new(),
            ended: BTreeSet::new(),
            entries: BTreeMap::new(),
            sinks: BTreeMap::new(),
            removed: BTreeSet::new(),
            dropped: BTreeSet::new(),
            used: BTreeMap::new(),
            begun: BTreeMap::new(),
            twin: Twin::default(),
        }
    }
}

/// What is broken where the state cannot be read: nothing, if the engine has failed over it.
pub(in crate::testing) const UNREADABLE: &str = "unreadable";

/// Looks at what is durable.
pub(in crate::testing) fn see<T>(
    replica: &SharedReplica,
    look: impl FnMut(&mut Replica) -> Result<T, Cold>,
) -> Result<T, Broken> {
    replica.read(look).map_err(|unseen| broken(UNREADABLE, format!("{unseen:?}")))
}

impl Model {
    /// Takes in a frame that is durable.
    pub fn take(&mut self, frame: Frame) -> Result<(), Broken> {
        ensure(frame.first == self.last.next(), "I3", || format!("lsn {} comes after {}", frame.first, self.last))?;
        let records = codec::decode_batch(frame.first, frame.count, &frame.payload)
            .map_err(|error| broken("I4", error.to_string()))?;
        for (first, record) in &records {
            self.record(*first, record)?;
        }
        self.twin.later.extend(records);
        self.last = frame.last();
        self.frames.push(frame);
        Ok(())
    }

    fn record(&mut self, first: Lsn, record: &Record) -> Result<(), Broken> {
        self.now = self.now.max(record.at);
        for (index, meta) in (0..record.len()).zip(record.metas(first)) {
            match &record.facts {
                Facts::Catalogue(_, events) => {
                    self.changed.insert(AggregateId::Catalogue(TheCatalogue));
                    self.catalogue(record.at, &events[index])?;
                }
                Facts::Option(id, events) => {
                    self.changed.insert(AggregateId::Option(*id));
                    self.audit.option_event(*id, meta, &events[index])?;
                    self.option(*id, Lsn(first.0 + index as u64), record.at, &events[index])?;
                }
                Facts::Wallet(user, events) => {
                    self.changed.insert(AggregateId::Wallet(user.clone()));
                    self.audit.wallet_event(user, &events[index])?;
                    if let wallet::Event::Charged { entry, amount, balance, key, .. } = &events[index] {
                        self.entries.insert((user.clone(), *entry), (*amount, *balance));
                        self.note_key(AggregateId::Wallet(user.clone()), key.as_ref(), *entry, record.at)?;
                    }
                }
                Facts::Room(id, events) => {
                    self.changed.insert(AggregateId::Room(*id));
                    self.audit.room_event(*id, meta, &events[index])?;
                    self.room(*id, &events[index]);
                }
                Facts::Sink(id, events) => self.sink(*id, record.at, &events[index])?,
            }
        }
        Ok(())
    }

    fn catalogue(&mut self, at: Timestamp, event: &catalogue::Event) -> Result<(), Broken> {
        match event {
            catalogue::Event::ConcertCreated { concert, key, .. } => {
                ensure(self.concerts.insert(*concert), "I1", || format!("{concert} is created twice"))?;
                self.note_key(AggregateId::Catalogue(TheCatalogue), key.as_ref(), concert.0, at)
            }
            catalogue::Event::OptionAdded { option, definition, key } => {
                let twice = self.options.insert(*option, (**definition).clone());
                ensure(twice.is_none(), "I1", || format!("{option} is added twice"))?;
                self.note_key(AggregateId::Catalogue(TheCatalogue), key.as_ref(), option.0, at)
            }
            catalogue::Event::OptionDeleted { option, .. } => {
                let known = self.options.remove(option);
                self.gone.1.insert(*option);
                ensure(known.is_some(), "I1", || format!("{option} is deleted twice"))
            }
            catalogue::Event::ConcertDeleted { concert, .. } => {
                self.gone.0.insert(*concert);
                ensure(self.concerts.remove(concert), "I1", || format!("{concert} is deleted twice"))
            }
            catalogue::Event::RoomOpened { .. }
            | catalogue::Event::RoomClosed { .. }
            | catalogue::Event::OptionDefined { .. }
            | catalogue::Event::ConcertChanged { .. }
            | catalogue::Event::InstallationDrawn { .. } => Ok(()),
        }
    }

    fn option(&mut self, id: OptionId, lsn: Lsn, at: Timestamp, event: &concert_option::Event) -> Result<(), Broken> {
        use concert_option::Event;
        let payment_of = |no| PaymentId { option: id, no };
        match event {
            Event::OptionDefined { .. } => drop(self.defined.insert(id)),
            Event::SeatsHeld { reservation, user, seats, areas, amount, expires_at, token, key, .. } => {
                let (no, user, areas) = (ReservationId { option: id, no: *reservation }, user.clone(), areas.to_vec());
                self.occupy(id, seats);
                let held = Held { user, seats: seats.clone(), areas, amount: *amount, token: *token };
                self.listed.entry(held.user.clone()).or_default().insert(no);
                self.as_held.insert(no, held.clone());
                self.reservations.insert(no, held);
                self.open.insert(no, *expires_at);
                self.deadlines.insert(no, *expires_at);
                self.note_key(AggregateId::Option(id), key.as_ref(), *reservation, at)?;
            }
            Event::ReservationReleased { reservation, .. } => {
                self.open.remove(&ReservationId { option: id, no: *reservation });
                self.vacate(ReservationId { option: id, no: *reservation }, lsn);
            }
            Event::ReservationsExpired { reservations } => {
                for no in reservations {
                    self.open.remove(&ReservationId { option: id, no: *no });
                    self.vacate(ReservationId { option: id, no: *no }, lsn);
                }
            }
            Event::PaymentStarted { payment, reservation, key, .. } => {
                self.open.remove(&ReservationId { option: id, no: *reservation });
                self.payments.insert(payment_of(*payment), *reservation);
                self.note_begun(AggregateId::Option(id), key.as_ref());
                self.payment_keys.insert(payment_of(*payment), key.clone());
            }
            Event::PaymentConfirmed { payment, .. } => {
                self.completed.insert(payment_of(*payment));
                let key = self.payment_keys.remove(&payment_of(*payment)).flatten();
                self.note_key(AggregateId::Option(id), key.as_ref(), *payment, at)?;
            }
            Event::PaymentFailed { payment, .. } => {
                self.payment_keys.remove(&payment_of(*payment));
                if let Some(reservation) = self.payments.get(&payment_of(*payment)) {
                    let no = ReservationId { option: id, no: *reservation };
                    self.open.extend(self.deadlines.get(&no).map(|until| (no, *until)));
                }
            }
            Event::PaymentRefunded { refund, payment, key, .. } => {
                if let Some(no) = self.payments.get(&payment_of(*payment)) {
                    self.vacate(ReservationId { option: id, no: *no }, lsn);
                }
                self.note_begun(AggregateId::Option(id), key.as_ref());
                self.refund_keys.insert(RefundId { option: id, no: *refund }, key.clone());
            }
            Event::RefundCredited { refund, .. } => {
                let no = RefundId { option: id, no: *refund };
                self.credited.insert(no);
                let key = self.refund_keys.remove(&no).flatten();
                self.note_key(AggregateId::Option(id), key.as_ref(), *refund, at)?;
            }
            Event::SeatsBlocked { seats, key, many, .. } => {
                let seats: Vec<_> = seats.iter().copied().chain(many.iter()).collect();
                self.occupy(id, &seats);
                self.note_key(AggregateId::Option(id), key.as_ref(), 0, at)?;
            }
            Event::SeatsUnblocked { seats, key, many, .. } => {
                let seats = seats.iter().copied().chain(many.iter());
                self.free.extend(seats.map(|seat| ((id, seat), lsn)));
                self.note_key(AggregateId::Option(id), key.as_ref(), 0, at)?;
            }
            Event::OptionRescheduled { .. } | Event::TokenCompleted { .. } => {}
            Event::OptionChanged { definition, key, .. } => {
                let before = self.options.insert(id, (**definition).clone());
                self.replan(id, lsn, before.as_ref(), definition);
                self.note_key(AggregateId::Option(id), key.as_ref(), 0, at)?;
            }
            Event::ProviderPaymentStarted { payment, reservation, terms, amount, key, .. } => {
                self.open.remove(&ReservationId { option: id, no: *reservation });
                self.payments.insert(payment_of(*payment), *reservation);
                let begun = Provided {
                    reservation: *reservation,
                    price: *amount,
                    currency: terms.currency,
                    is_paid: false,
                    paid_by: None,
                    undone: None,
                    is_pinned: true,
                    owed: BTreeMap::new(),
                    heard: BTreeSet::new(),
                };
                self.provided.insert(payment_of(*payment), begun);
                self.note_key(AggregateId::Option(id), key.as_ref(), *payment, at)?;
            }
            Event::ProviderPaymentMoved { payment, moved } => {
                self.moved(payment_of(*payment), lsn, moved);
                match &moved.turn {
                    Some(Turn::Refunded { refund: Some(refund), .. }) => {
                        self.note_key(AggregateId::Option(id), moved.key.as_ref(), *refund, at)?;
                    }
                    Some(Turn::Changed { change }) => {
                        let reservation = self.payments.get(&payment_of(*payment)).copied().unwrap_or_default();
                        self.changed(ReservationId { option: id, no: reservation }, lsn, at, change)?;
                    }
                    _ => {}
                }
            }
            Event::OrderChanged { reservation, change } => {
                self.changed(ReservationId { option: id, no: *reservation }, lsn, at, change)?;
            }
            Event::ExchangeStarted { reservation, exchange } => {
                let taken = exchange.change.taken.seats.clone();
                self.occupy(id, &taken);
                self.note_begun(AggregateId::Option(id), exchange.change.key.as_ref());
                self.exchanges.insert(ReservationId { option: id, no: *reservation }, taken);
            }
            Event::ExchangeFailed { reservation, .. } => {
                let seats = self.exchanges.remove(&ReservationId { option: id, no: *reservation });
                self.free.extend(seats.into_iter().flatten().map(|seat| ((id, seat), lsn)));
            }
            Event::TransferOffered { reservation, offer, key, .. } => {
                self.offers.insert((id, offer.no), (*reservation, offer.to.clone()));
                self.note_key(AggregateId::Option(id), key.as_ref(), offer.no, at)?;
            }
            Event::ComplimentaryGiven { payment, reservation } => {
                self.open.remove(&ReservationId { option: id, no: *reservation });
                self.payments.insert(payment_of(*payment), *reservation);
                self.completed.insert(payment_of(*payment));
            }
            Event::TransferWithdrawn { .. } => {}
            Event::CalledOff { key, .. } => {
                self.called_off.insert(id);
                self.note_key(AggregateId::Option(id), key.as_ref(), 0, at)?;
            }
            Event::OptionDeleted { .. } => {
                self.defined.remove(&id);
                self.called_off.remove(&id);
            }
            Event::DeletionNoted
            | Event::ProviderAttemptFailed { .. }
            | Event::ProviderPaymentsWentCold { .. }
            | Event::ProviderPaymentRevived { .. } => {}
        }
        Ok(())
    }

    fn moved(&mut self, id: PaymentId, lsn: Lsn, moved: &Moved) {
        let Some(provided) = self.provided.get_mut(&id) else { return };
        provided.heard.extend(moved.fact.iter().map(what));
        provided.owed.retain(|no, _| !moved.owing.settled.contains(no));
        provided.owed.extend(moved.owing.begun.iter().map(|owed| (owed.no, owed.clone())));
        let Some(turn) = &moved.turn else { return };
        if let Turn::Changed { change } = turn {
            provided.price = change.amount;
            return;
        }
        provided.is_paid = matches!(turn, Turn::Confirmed { .. });
        provided.is_pinned = matches!(turn, Turn::Authorized { .. });
        let no = ReservationId { option: id.option, no: provided.reservation };
        match turn {
            Turn::Authorized { again, .. } | Turn::Confirmed { again, .. } => {
                if let Turn::Confirmed { reference, .. } = turn {
                    self.completed.insert(id);
                    provided.paid_by.clone_from(reference);
                }
                self.open.remove(&no);
                let seats = self.reservations.get(&no).filter(|_| *again).map(|held| held.seats.clone());
                self.occupy(id.option, &seats.unwrap_or_default());
            }
            Turn::Ended { lapses: false, .. } => self.open.extend(self.deadlines.get(&no).map(|until| (no, *until))),
            Turn::Refunded { refund: None, .. } => {
                provided.undone = provided.paid_by.take();
                self.vacate(no, lsn);
            }
            Turn::Ended { lapses: true, .. } | Turn::Refunded { .. } => self.vacate(no, lsn),
            Turn::Changed { .. } => {}
        }
    }

    /// An order has changed, whoever took the money.
    fn changed(&mut self, no: ReservationId, lsn: Lsn, at: Timestamp, change: &Change) -> Result<(), Broken> {
        self.exchanges.remove(&no);
        self.occupy(no.option, &change.taken.seats);
        self.free.extend(change.given.seats.iter().map(|seat| ((no.option, *seat), lsn)));
        match &change.what {
            What::Released if change.then.is_empty() => drop(self.open.remove(&no)),
            What::HeldUntil { expires_at } => {
                self.open.insert(no, *expires_at);
                self.deadlines.insert(no, *expires_at);
            }
            _ => {}
        }
        if let Some(held) = self.reservations.get_mut(&no).filter(|_| !change.then.is_empty()) {
            (held.seats, held.areas) = (change.then.seats.clone(), change.then.areas.to_vec());
            held.amount = change.amount;
            if let What::HandedOn { to, .. } = &change.what {
                held.user = to.clone();
                self.listed.entry(to.clone()).or_default().insert(no);
            }
        }
        let name = AggregateId::Option(no.option);
        let key = change.key.as_ref();
        match change.what {
            What::Refunded { refund, .. } if change.backs.is_empty() => self.note_key(name, key, refund, at),
            // Remembered when it is there.
            What::Refunded { refund, .. } => {
                self.note_begun(name, key);
                self.refund_keys.insert(RefundId { option: no.option, no: refund }, change.key.clone());
                Ok(())
            }
            _ => self.note_key(name, key, lsn.0, at),
        }
    }

    /// An option on which somebody has paid more than one order, and that is not called off.
    pub fn bought_twice(&self) -> Option<OptionId> {
        let mut buyers = BTreeSet::new();
        let paid = self.completed.iter().rev().filter(|payment| !self.called_off.contains(&payment.option));
        let mut again = paid.filter(|payment| {
            let no = self.payments.get(payment).copied().unwrap_or_default();
            let held = self.reservations.get(&ReservationId { option: payment.option, no });
            held.is_some_and(|held| !buyers.insert((payment.option, held.user.clone())))
        });
        again.next().map(|payment| payment.option)
    }

    /// Whether no payment by a provider has pinned seats or owes anything.
    pub fn owes_nothing(&self) -> bool {
        self.provided.values().all(|payment| !payment.is_pinned && payment.owed.is_empty())
    }

    fn replan(&mut self, id: OptionId, lsn: Lsn, before: Option<&Definition>, after: &Definition) {
        let Some(before) = before.filter(|before| before.former_plans().len() < after.former_plans().len()) else {
            return;
        };
        self.replanned_at.entry(id).or_default().push(lsn);
        let (was_off, is_off) = (&before.not_for_sale, &after.not_for_sale);
        let off: Vec<u32> = is_off.iter().filter(|seat| !was_off.contains(*seat)).collect();
        let seats = off.iter().map(|seat| (id, *seat));
        self.kept_blocked.extend(seats.filter(|seat| self.taken.contains(seat) && !self.free.contains_key(seat)));
        self.occupy(id, &off);
        let on = was_off.iter().map(|seat| (id, seat)).filter(|(_, seat)| !is_off.contains(*seat));
        self.free.extend(on.filter(|seat| !self.kept_blocked.remove(seat)).map(|seat| (seat, lsn)));
    }

    fn occupy(&mut self, id: OptionId, seats: &[u32]) {
        for seat in seats {
            self.taken.insert((id, *seat));
            self.free.remove(&(id, *seat));
        }
    }

    fn vacate(&mut self, id: ReservationId, lsn: Lsn) {
        let seats = self.reservations.get(&id).map(|held| held.seats.clone()).unwrap_or_default();
        self.free.extend(seats.iter().map(|seat| ((id.option, *seat), lsn)));
    }

    fn room(&mut self, concert: ConcertId, event: &waiting_room::Event) {
        use waiting_room::Event;
        let token = |no: &u64| TokenId { concert, no: *no };
        match event {
            Event::Opened { .. } => drop(self.rooms.insert(concert)),
            Event::Closed { .. } => drop(self.rooms.remove(&concert)),
            Event::TokenIssued { no, user, .. } => drop(self.tokens.insert(token(no), user.clone())),
            Event::TokensExpired { tokens } => self.ended.extend(tokens.iter().map(token)),
            Event::TokenLeft { no, .. } | Event::TokenUsed { no } => drop(self.ended.insert(token(no))),
            Event::Configured { .. } | Event::LineOpened { .. } | Event::TokensAdmitted { .. } => {}
        }
    }

    fn sink(&mut self, id: SinkId, at: Timestamp, event: &sink::Event) -> Result<(), Broken> {
        match event {
            sink::Event::SinkRegistered { registration, .. } => drop(self.sinks.insert(id, registration.clone())),
            sink::Event::SinkRemoved => drop(self.removed.insert(id)),
            sink::Event::DeadLetterDropped { event } => drop(self.dropped.insert((id, *event))),
            sink::Event::DeadLettersRedriven { events, key } => {
                self.note_key(AggregateId::Sink(id), key.as_ref(), events.len() as u64, at)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A payment or refund is under way with this key.
    fn note_begun(&mut self, name: AggregateId, key: Option<&Key>) {
        if let Some(key) = key {
            self.begun.entry((name, key.scope)).or_default().insert(key.payload);
        }
    }

    /// I7: a key makes one thing in 24 hours.
    fn note_key(&mut self, name: AggregateId, key: Option<&Key>, made: u64, at: Timestamp) -> Result<(), Broken> {
        let Some(key) = key else { return Ok(()) };
        let uses = self.used.entry((name, key.scope)).or_default();
        let twice = uses.last().filter(|known| known.at.plus_millis(RETENTION_MILLIS) > at);
        ensure(twice.is_none(), "I7", || format!("a key that made {twice:?} makes {made}"))?;
        uses.push(Used { payload: key.payload, made, at });
        Ok(())
    }

    /// I7: what was made by this key.
    pub fn made_by(&self, name: &AggregateId, key: Option<&Key>, made: u64) -> Result<(), Broken> {
        let Some(key) = key else { return Ok(()) };
        let uses = self.used.get(&(name.clone(), key.scope)).map_or(&[][..], Vec::as_slice);
        let same = uses.iter().any(|used| used.payload == key.payload && used.made == made);
        ensure(same, "I7", || format!("a key is said to have made {made}, and made {uses:?}"))
    }

    /// I7: this key came with something else, at some time between the call and now, when its answer is heard.
    pub fn reused(&self, name: &AggregateId, key: Option<&Key>) -> Result<(), Broken> {
        let Some(key) = key else { return Ok(()) };
        let place = (name.clone(), key.scope);
        let uses = self.used.get(&place).map_or(&[][..], Vec::as_slice);
        // Also with what was under way and has failed, and with what has been forgotten since.
        let begun = self.begun.get(&place).into_iter().flatten();
        if begun.chain(uses.iter().map(|used| &used.payload)).any(|payload| *payload != key.payload) {
            return Ok(());
        }
        let last = uses.last().filter(|used| used.at.plus_millis(RETENTION_MILLIS) > self.now);
        ensure(last.is_none(), "I7", || format!("a key that made {last:?} is refused, though it comes with the same"))
    }

    /// I3: this hold is durable, as it was told.
    pub fn knows_hold(&self, id: ReservationId, told: &concert_option::Reservation) -> Result<(), Broken> {
        Self::is_as_told(self.as_held.get(&id), id, told)
    }

    /// I3: this reservation is durable, as it is told.
    fn knows_reservation(&self, id: ReservationId, told: &concert_option::Reservation) -> Result<(), Broken> {
        Self::is_as_told(self.reservations.get(&id), id, told)
    }

    fn is_as_told(known: Option<&Held>, id: ReservationId, told: &concert_option::Reservation) -> Result<(), Broken> {
        let same = known.is_some_and(|held| {
            (&held.user, &held.seats, held.amount, held.token) == (&told.user, &told.seats, told.amount, told.token)
                && held.areas[..] == told.areas[..]
        });
        ensure(same, "I3", || format!("{id} was told as {told:?}, and durable is {known:?}"))
    }

    /// I3: this reservation is not held, durably.
    pub fn knows_ended(&self, id: ReservationId) -> Result<(), Broken> {
        ensure(!self.open.contains_key(&id), "I3", || format!("{id} was told to be released"))
    }

    /// I3: this payment is durable.
    pub fn knows_payment(&self, id: PaymentId) -> Result<(), Broken> {
        ensure(self.completed.contains(&id), "I3", || format!("{id} was told to be paid"))
    }

    /// I3: this payment by a provider is durable.
    pub fn knows_provided(&self, id: PaymentId) -> Result<(), Broken> {
        ensure(self.provided.contains_key(&id), "I3", || format!("{id} was told to have begun"))
    }

    /// I3: this refund is durable.
    pub fn knows_refund(&self, id: RefundId) -> Result<(), Broken> {
        ensure(self.credited.contains(&id), "I3", || format!("{id} was told to be credited"))
    }

    /// I3: this entry is durable.
    pub fn knows_entry(&self, user: &UserId, entry: &wallet::Entry) -> Result<(), Broken> {
        let known = self.entries.get(&(user.clone(), entry.no));
        ensure(known == Some(&(entry.amount, entry.balance)), "I3", || {
            format!("{entry:?} was told, {known:?} is durable")
        })
    }

    /// I3: these seats were taken at some time since the log ended at `since`.
    pub fn knows_taken(&self, option: OptionId, seats: &[u32], since: Lsn) -> Result<(), Broken> {
        let never = seats.iter().find(|seat| !self.taken.contains(&(option, **seat)));
        ensure(never.is_none(), "I3", || format!("seat {never:?} was told to be taken, and never was"))?;
        let freed = |seat: &&u32| self.free.get(&(option, **seat)).is_some_and(|freed| *freed <= since);
        let free = seats.iter().find(freed);
        ensure(free.is_none(), "I3", || {
            format!("seat {free:?} was told to be taken, and was free when it was asked for")
        })
    }

    /// I3: this token is durable, and its owner's.
    pub fn knows_token(&self, id: TokenId, user: &UserId) -> Result<(), Broken> {
        ensure(self.tokens.get(&id) == Some(user), "I3", || format!("{id} was told to be {user}'s"))
    }

    /// I3: this token is over, durably.
    pub fn knows_left(&self, id: TokenId) -> Result<(), Broken> {
        ensure(self.ended.contains(&id), "I3", || format!("{id} was told to be given back"))
    }

    /// I1, I2, I6: an aggregate is what its events add up to.
    pub fn agrees(&self, name: &AggregateId, replica: &SharedReplica) -> Result<(), Broken> {
        see(replica, |replica| {
            Ok(match name {
                AggregateId::Option(id) => self.audit.agrees_with_option(*id, replica.option(*id)?),
                AggregateId::Wallet(user) => self.audit.agrees_with_wallet(user, replica.wallet(user)?),
                AggregateId::Room(id) => self.audit.agrees_with_room(*id, replica.room(*id)?),
                AggregateId::Catalogue(_) => {
                    let entries = replica.catalogue()?.entries();
                    let known = (self.concerts.len() + self.options.len()) as u64;
                    ensure(entries == known, "I4", || format!("the catalogue has {entries} instead of {known}"))
                }
                AggregateId::Sink(_) => Ok(()),
            })
        })?
    }

    /// Whether there is such a concert, or was.
    pub fn has_had_concert(&self, id: ConcertId) -> bool {
        self.concerts.contains(&id) || self.gone.0.contains(&id)
    }

    /// Whether there is such an option, or was.
    pub fn has_had_option(&self, id: OptionId) -> bool {
        self.options.contains_key(&id) || self.gone.1.contains(&id)
    }

    /// All that there is.
    pub fn names(&self) -> Vec<AggregateId> {
        let wallets: BTreeSet<_> = self.entries.keys().map(|(user, _)| user.clone()).collect();
        std::iter::once(AggregateId::Catalogue(TheCatalogue))
            .chain(self.defined.iter().map(|id| AggregateId::Option(*id)))
            .chain(wallets.into_iter().map(AggregateId::Wallet))
            .chain(self.rooms.iter().map(|id| AggregateId::Room(*id)))
            .collect()
    }

    /// I3: what is durable can be looked up, also when it has left memory.
    pub fn finds(&self, replica: &SharedReplica, dice: &Dice, user: &UserId) -> Result<(), Broken> {
        let unreadable = |error: crate::replica::Error| broken(UNREADABLE, error.to_string());
        let mine: Vec<ReservationId> = self.listed.get(user).into_iter().flatten().copied().collect();
        let listed = see(replica, |replica| Ok(replica.listed(user, &Part::Reservation(0), None, usize::MAX >> 1)))?;
        let listed = listed.read().map_err(unreadable)?;
        let mut listed: Vec<_> = listed.iter().map(|one| ReservationId { option: one.option, no: one.no }).collect();
        listed.sort_unstable();
        ensure(listed == mine, "I3", || format!("{user} has {mine:?}, and is shown {listed:?}"))?;
        if mine.is_empty() {
            return Ok(());
        }
        let id = *dice.pick(&mine);
        let part = Part::Reservation(id.no);
        let found = see(replica, |replica| Ok(replica.find::<ConcertOption>(&id.option, &part)))?;
        let row = found.row().map_err(unreadable)?;
        let known = row.and_then(|row| concert_option::Reservation::from_row(id.no, &row).ok());
        known.map_or_else(
            || Err(broken("I3", format!("{id} cannot be found"))),
            |known| self.knows_reservation(id, &known),
        )
    }

    /// What is called off has come to its end: nobody has seats on it, and nothing is on its way.
    pub fn has_ended(&self, replica: &SharedReplica) -> Result<(), Broken> {
        for id in &self.called_off {
            let (cancellation, counts) = see(replica, |replica| {
                let option = replica.option(*id)?;
                Ok((option.cancellation(), option.counts()))
            })?;
            let is_over = cancellation.as_ref().is_some_and(|off| off.done == off.total && off.owed == 0);
            ensure(is_over && counts.held + counts.sold == 0, "I16", || {
                format!("{id} is called off, and stands at {cancellation:?} with {counts:?}")
            })?;
        }
        Ok(())
    }

    /// I2: all wallets.
    pub fn wallets(&self, replica: &SharedReplica) -> Result<Vec<Wallet>, Broken> {
        let users: BTreeSet<_> = self.entries.keys().map(|(user, _)| user).collect();
        let wallet = |user: &UserId| see(replica, |replica| replica.wallet(user).cloned());
        users.into_iter().map(wallet).collect()
    }

    /// That each user's open holds are counted.
    pub fn counts(&self, counts: &UserCounts) -> Result<(), Broken> {
        let users: BTreeSet<_> = self.reservations.values().map(|held| &held.user).collect();
        for user in users {
            let paying = |id: &ReservationId| self.audit.may_be_held(*id);
            let open = self.reservations.iter().filter(|(id, held)| held.user == *user && paying(id)).count() as u64;
            let taken = counts.take_hold(user, 0).err().unwrap_or_default();
            ensure(taken == open, "I4", || format!("{user} has {open} open holds, and {taken} are counted"))?;
        }
        Ok(())
    }

    /// I4: rows that were written by checkpoints, over however many crashes, are those of the whole journal up to there.
    pub fn same_rows(&mut self, store: &StateStore) -> Result<(), Broken> {
        self.twin.same_rows(store)
    }
}

impl Default for Twin {
    fn default() -> Self {
        let store = Arc::new(StateStore::in_memory());
        let replica = Replica::new(store.clone(), Lsn(0)).expect("there are no rows to be read");
        Self { store, replica, later: Vec::new() }
    }
}

impl Twin {
    /// Will take in a frame.
    pub fn take(&mut self, frame: &Frame) -> Result<(), Broken> {
        let records = codec::decode_batch(frame.first, frame.count, &frame.payload);
        self.later.extend(records.map_err(|error| broken("I4", error.to_string()))?);
        Ok(())
    }

    /// See [`Model::same_rows`].
    pub fn same_rows(&mut self, store: &StateStore) -> Result<(), Broken> {
        let settled = store.settled();
        let Self { store: twin, replica, later } = self;
        if settled.lsn < twin.settled().lsn {
            // From before the rows were lost.
            return Ok(());
        }
        let failed = |error: String| broken("I4", error);
        let now = later.partition_point(|(first, _)| *first <= settled.lsn);
        for (first, record) in later.drain(..now) {
            replica.loading(|replica| replica.apply(first, &record)).map_err(|error| failed(error.to_string()))?;
        }
        ensure(replica.applied() == settled.lsn, "I4", || format!("a checkpoint at {} is in a record", settled.lsn))?;
        let changes = replica.begin_checkpoint();
        twin.checkpoint(changes.lsn, changes.altered(twin)).map_err(|error| failed(error.to_string()))?;
        drop(replica.end_checkpoint(settled.lsn, usize::MAX));
        let expected = twin.settled();
        ensure(settled == expected, "I4", || format!("the rows are {settled:?} instead of {expected:?}"))
    }
}
