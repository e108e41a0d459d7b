//! The engine, in this process.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::{
    Answer, Begun, CARD, Code, Entry, Follow, Held, Offer, Paid, Place, Reserved, SeatStates, Stands, Target, Terms,
    Update, Wish,
};
use crate::api::{self, BestAvailable, Caller, NewConcert, NewOption, PageRequest, Token};
use crate::config::Config;
use crate::domain::facts::Fact;
use crate::domain::invariants::{Audit, Broken};
use crate::domain::seat_map::Status;
use crate::domain::waiting_room::{Counts, Settings};
use crate::domain::wallet::EntryKind;
use crate::domain::{ConcertId, Currency, Lsn, OptionId, PaymentId, Points, Rejection, ReservationId, TokenId, UserId};
use crate::engine::{Engine, SeatChanges};
use crate::error::{Error, OpenError};
use crate::loadgen::house::House;
use crate::store::codec::{self, Facts, Record};
use crate::store::disk::RealDisk;
use crate::store::journal::Frames;

/// Until when what is put on sale is on sale: long enough for every run, in milliseconds.
const ON_SALE_MS: u64 = 1 << 32;

/// Who charges wallets.
const ADMIN: &str = "loadtest-admin";

/// An engine.
pub struct Embedded {
    engine: Engine,
    config: Config,
    /// The last event that was there before.
    before: Lsn,
    admin: UserId,
}

impl Embedded {
    /// Opens one.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let engine = Engine::open(config.clone()).await?;
        let before = Lsn(engine.stats().durable_lsn);
        let admin = UserId::from_str(ADMIN).map_err(|error| OpenError::Row(error.to_string()))?;
        Ok(Self { engine, config, before, admin })
    }
}

fn code(error: Error) -> Code {
    match error {
        Error::Rejected(rejection) => rejection_code(&rejection),
        Error::Invalid(_) => Code::InvalidRequest,
        Error::UnknownSeats(_) => Code::UnknownSeats,
        Error::SeatsUnavailable(_) => Code::SeatsUnavailable,
        Error::SeatsInUse { .. } => Code::SeatsInUse,
        Error::Overloaded(_) => Code::Overloaded,
        Error::StorageFull | Error::LogFull => Code::StorageFull,
        Error::NoOwner => Code::NoOwner,
        Error::OutcomeUnknown(_) => Code::OutcomeUnknown,
        Error::Internal(_) => Code::Internal,
    }
}

fn rejection_code(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::Invalid(_) => Code::InvalidRequest,
        Rejection::NotFound => Code::NotFound,
        Rejection::SeatsUnavailable { .. } => Code::SeatsUnavailable,
        Rejection::NotEnoughSeats => Code::NotEnoughSeats,
        Rejection::LimitExceeded { .. } => Code::LimitExceeded,
        Rejection::SaleNotOpen => Code::SaleNotOpen,
        Rejection::ReservationExpired => Code::ReservationExpired,
        Rejection::ReservationNotHeld => Code::ReservationNotHeld,
        Rejection::AlreadyPaid { .. } => Code::AlreadyPaid,
        Rejection::InsufficientPoints { .. } => Code::InsufficientPoints,
        // Over HTTP it is answered as a load that has to pass, too.
        Rejection::PaymentTimedOut => Code::Overloaded,
        Rejection::NotRefundable => Code::NotRefundable,
        Rejection::QueueTokenRequired => Code::QueueTokenRequired,
        Rejection::QueueTokenNotActive => Code::QueueTokenNotActive,
        Rejection::IdempotencyKeyReused => Code::IdempotencyKeyReused,
        Rejection::TooManyIdempotencyKeys => Code::RateLimited,
        Rejection::PaymentPending { .. } => Code::PaymentPending,
        Rejection::PaymentUnderWay => Code::PaymentUnderWay,
        Rejection::ChangeUnderWay => Code::ChangeUnderWay,
        Rejection::ReservationNotConfirmed => Code::ReservationNotConfirmed,
        Rejection::PriceWouldRise => Code::PriceWouldRise,
        Rejection::CapacityInUse { .. } => Code::CapacityInUse,
        Rejection::SeatsInUse { .. } => Code::SeatsInUse,
        Rejection::WasHeld => Code::WasHeld,
        // What is reported is right, and not too little.
        Rejection::AmountTooSmall { .. } | Rejection::FactConflict | Rejection::ReferenceInUse => Code::Malformed,
    }
}

fn points(amount: u64) -> Answer<Points> {
    Points::new(amount).ok_or(Code::InvalidRequest)
}

fn held(house: &House, reservation: &api::Reservation) -> Answer<Held> {
    let seats = reservation.seats().map(|seat| house.plan.seat_index(seat.id));
    Ok(Held {
        id: reservation.id,
        seats: seats.collect::<Option<_>>().ok_or(Code::Malformed)?,
        amount: reservation.amount.get(),
        created_at: reservation.created_at,
        expires_at: reservation.expires_at,
    })
}

fn place(token: Token) -> Place {
    Place {
        id: token.id,
        signed: token.token,
        status: token.status,
        ahead: token.ahead,
        refresh_seconds: token.refresh_interval_seconds,
        expires_at: token.expires_at,
    }
}

impl Target for Embedded {
    type Follower = Follower;

    fn describe(&self) -> String {
        "the engine in this process".into()
    }

    fn open_holds_max(&self) -> u32 {
        u32::try_from(self.config.limits.user_open_holds).unwrap_or(u32::MAX)
    }

    async fn create_concert(&self, room: &Settings) -> Answer<ConcertId> {
        let concert = NewConcert { title: "Load test".into(), waiting_room: room.clone() };
        self.engine.create_concert(concert, None).await.map(|concert| concert.value.id).map_err(code)
    }

    async fn add_option(&self, concert: ConcertId, house: &House, terms: Terms) -> Answer<OptionId> {
        let prices = house.prices.iter().map(|(category, price)| Ok((category.clone(), points(*price)?)));
        let option = NewOption {
            prices: prices.collect::<Answer<_>>()?,
            hold_seconds: terms.hold_seconds,
            max_seats_per_reservation: terms.max_seats_per_reservation,
            max_seats_per_user: terms.max_seats_per_user,
            payment_methods: terms.by_card.then(|| CARD.to_owned()).into_iter().collect(),
            currency: terms.by_card.then_some(Currency::KRW),
            ..NewOption::new(self.engine.now().plus_millis(ON_SALE_MS), house.json.clone())
        };
        self.engine.add_option(concert, option, None).await.map(|option| option.value.id).map_err(code)
    }

    async fn room_counts(&self, concert: ConcertId) -> Answer<Counts> {
        self.engine.waiting_room(concert).await.map(|room| room.counts).map_err(code)
    }

    async fn charge(&self, user: &UserId, amount: u64) -> Answer<u64> {
        let charged = self.engine.charge(user, points(amount)?, &self.admin, None).await;
        charged.map(|entry| entry.value.balance.get()).map_err(code)
    }

    async fn balance(&self, user: &UserId) -> Answer<u64> {
        self.engine.wallet(user).await.map(|wallet| wallet.balance.get()).map_err(code)
    }

    async fn entries(&self, user: &UserId) -> Answer<Vec<Entry>> {
        let page = self.engine.wallet_entries(user, &PageRequest { limit: 500, cursor: None }).await.map_err(code)?;
        let kind = |kind| match kind {
            EntryKind::Charge => "charge",
            EntryKind::Debit => "debit",
            EntryKind::Credit => "credit",
            EntryKind::AdjustedUp | EntryKind::AdjustedDown => "adjustment",
        };
        let entry = |entry: api::WalletEntry| Entry {
            kind: kind(entry.kind).into(),
            amount: entry.amount.get(),
            balance: entry.balance.get(),
        };
        Ok(page.items.into_iter().map(entry).collect())
    }

    async fn hold(&self, offer: &Offer, user: &UserId, wish: &Wish, queue_token: Option<&str>) -> Answer<Held> {
        let plan = &offer.house.plan;
        let wish = match wish {
            Wish::Seats(seats) => api::Wish::Seats(seats.iter().map(|seat| plan.seat(*seat).guid.into()).collect()),
            Wish::Best { count, category, adjacent } => {
                let category = category.map(|index| plan.categories()[index as usize].name.to_string());
                api::Wish::BestAvailable(BestAvailable {
                    count: *count,
                    category,
                    zone: None,
                    adjacent: *adjacent,
                    companions: 0,
                })
            }
        };
        let reservation = self.engine.hold(offer.id, user, wish, queue_token, None).await.map_err(code)?;
        held(&offer.house, &reservation.value)
    }

    async fn release(&self, user: &UserId, id: ReservationId) -> Answer<()> {
        self.engine.release(&Caller::User(user.clone()), id).await.map(drop).map_err(code)
    }

    async fn pay(&self, user: &UserId, id: ReservationId) -> Answer<Paid> {
        let payment = self.engine.pay(user, id, None).await.map_err(code)?.value;
        let balance = payment.balance.ok_or(Code::Malformed)?.get();
        Ok(Paid { id: payment.id, amount: payment.amount.get(), balance })
    }

    async fn begin_payment(&self, user: &UserId, id: ReservationId) -> Answer<Begun> {
        let begun = self.engine.begin_payment(user, id, CARD, None).await.map_err(code)?.value;
        let expires_at = begun.provided.ok_or(Code::Malformed)?.expires_at;
        Ok(Begun { id: begun.id, amount: begun.amount.get(), expires_at })
    }

    async fn give_up(&self, user: &UserId, id: PaymentId) -> Answer<()> {
        self.engine.give_up_payment(&Caller::User(user.clone()), id).await.map(drop).map_err(code)
    }

    async fn report(&self, id: PaymentId, fact: &Fact) -> Answer<Stands> {
        let stands = self.engine.report(id, fact.clone()).await.map_err(code)?;
        let verdict = stands.provided.ok_or(Code::Malformed)?.verdict;
        Ok(Stands { status: stands.status.as_str().into(), verdict: verdict.map(|verdict| verdict.as_str().into()) })
    }

    async fn give_back_money(&self, id: PaymentId) -> Answer<()> {
        self.engine.refund(&Caller::Admin, id, None).await.map(drop).map_err(code)
    }

    async fn refund(&self, id: PaymentId) -> Answer<(u64, u64)> {
        let refund = self.engine.refund(&Caller::Admin, id, None).await.map_err(code)?.value;
        Ok((refund.amount.get(), refund.balance.ok_or(Code::Malformed)?.get()))
    }

    async fn reservation(&self, offer: &Offer, user: &UserId, id: ReservationId) -> Answer<Reserved> {
        let found = self.engine.reservation(&Caller::User(user.clone()), id).await.map_err(code)?;
        Ok(Reserved { held: held(&offer.house, &found)?, user: found.user_id, status: found.status.as_str().into() })
    }

    async fn payment_status(&self, user: &UserId, id: PaymentId) -> Answer<String> {
        let payment = self.engine.payment(&Caller::User(user.clone()), id).await;
        payment.map(|payment| payment.status.as_str().into()).map_err(code)
    }

    async fn browse(&self, offer: &Offer) -> Answer<()> {
        self.engine.seats(offer.id).await.map(drop).map_err(code)
    }

    async fn seats(&self, offer: &Offer) -> Answer<SeatStates> {
        let seats = self.engine.seats(offer.id).await.map_err(code)?;
        let mut states = vec![Status::Free; offer.house.seats()];
        for (id, status) in seats.taken() {
            let seat = offer.house.plan.seat_index(id).ok_or(Code::Malformed)?;
            states[seat as usize] = status;
        }
        Ok(SeatStates { seq: seats.seq.0, states })
    }

    async fn enter(&self, concert: ConcertId, user: &UserId) -> Answer<Place> {
        self.engine.issue_token(concert, user).await.map(|issued| place(issued.token)).map_err(code)
    }

    async fn poll(&self, user: &UserId, id: TokenId) -> Answer<Place> {
        self.engine.token(&Caller::User(user.clone()), id).await.map(place).map_err(code)
    }

    async fn leave(&self, user: &UserId, id: TokenId) -> Answer<()> {
        self.engine.leave_queue(&Caller::User(user.clone()), id).await.map_err(code)
    }

    async fn follow(&self, offer: &Arc<Offer>, _: &UserId) -> Answer<Follower> {
        let changes = self.engine.seat_changes(offer.id, None).await.map_err(code)?;
        Ok(Follower { changes, offer: offer.clone() })
    }

    async fn audit_journal(&self, events_max: u64) -> Option<Result<u64, String>> {
        let last = Lsn(self.engine.stats().durable_lsn);
        if self.before != Lsn(0) || last.0 > events_max {
            return None;
        }
        let dir = self.config.data_dir.clone();
        let audited = tokio::task::spawn_blocking(move || audit(&dir, last)).await;
        Some(audited.unwrap_or_else(|error| Err(error.to_string())))
    }

    async fn close(&self) -> Result<(), String> {
        self.engine.shutdown().await.map_err(|error| error.to_string())
    }
}

/// Reads the journal of a data directory up to `last`.
fn audit(dir: &Path, last: Lsn) -> Result<u64, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("the journal cannot be read: {error}");
    let mut reader = Frames::in_dir(Arc::new(RealDisk), dir).from(Lsn(1)).map_err(|error| unreadable(&error))?;
    let mut audit = Audit::default();
    while let Some(frame) = reader.next(last).map_err(|error| unreadable(&error))? {
        let records = codec::decode_batch(frame.first_lsn, frame.count, &frame.payload);
        for (first, record) in records.map_err(|error| unreadable(&error))? {
            take_in(&mut audit, first, &record).map_err(|broken| format!("{broken}, by the record at lsn {first}"))?;
        }
    }
    // What is owed between aggregates may still be under way, and is allowed for.
    audit.sagas().map(|()| last.0).map_err(|broken| broken.to_string())
}

fn take_in(audit: &mut Audit, first: Lsn, record: &Record) -> Result<(), Broken> {
    let mut metas = record.metas(first);
    match &record.facts {
        Facts::Option(id, events) => {
            events.iter().zip(&mut metas).try_for_each(|(event, meta)| audit.option_event(*id, meta, event))
        }
        Facts::Wallet(user, events) => events.iter().try_for_each(|event| audit.wallet_event(user, event)),
        Facts::Room(id, events) => {
            events.iter().zip(&mut metas).try_for_each(|(event, meta)| audit.room_event(*id, meta, event))
        }
        _ => Ok(()),
    }
}

/// Who follows an option's seats.
pub struct Follower {
    changes: SeatChanges,
    offer: Arc<Offer>,
}

impl Follow for Follower {
    async fn next(&mut self) -> Answer<Update> {
        let update = self.changes.next().await.map_err(code)?;
        let index = |id: &str| self.offer.house.plan.seat_index(id).ok_or(Code::Malformed);
        let seats = update.seats().map(|(id, status)| Ok((index(id)?, status)));
        Ok(Update {
            seq: update.seq().0,
            previous_seq: update.previous_seq().map(|seq| seq.0),
            seats: seats.collect::<Answer<_>>()?,
        })
    }
}
