//! An engine that is odd in one way: slow, or not to be trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boxoffice::domain::seat_map::Status;
use boxoffice::loadgen::house::House;
use boxoffice::loadgen::target::{
    Answer, Begun, Code, Embedded, Entry, Held, Offer, Paid, Place, Reserved, SeatStates, Stands, Target, Terms, Wish,
};
use boxoffice::payment::{Fact, Kind};
use boxoffice::{
    ConcertId, OptionId, PaymentId, ReservationId, RoomSettings, TokenCounts, TokenId, TokenStatus, UserId,
};
use parking_lot::Mutex;

/// In which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What it is asked is written down.
    Written,
    /// The first hold blocks its thread.
    BlocksOnce(Duration),
    /// Each hold takes its time.
    Takes(Duration),
    /// Each hold takes its time, one after another.
    OneAtATime(Duration),
    /// Everybody is told to hold the seats of the first one.
    SellsTwice,
    /// Wallets that are looked into hold a point less than they did.
    LosesAPoint,
    /// Payments leave a point more than there is.
    FindsAPoint,
    /// The first in line waits for ever, and others are let in.
    OutOfTurn,
    /// Twice as many are let in as may be.
    LetsTooManyIn,
    /// Holds are over as soon as they are made.
    EndsEarly,
    /// Holds last longer than callers are told.
    EndsLate,
    /// Nobody holds anything, if one looks.
    Forgets,
    /// Reservations are not to be found.
    CannotFind,
    /// Users may have as much as they like.
    Unlimited,
    /// Money that was taken is not heard of.
    TakesForNothing,
    /// Refunds are not asked for.
    KeepsTheMoney,
}

/// Such an engine.
pub struct Odd {
    inner: Embedded,
    way: Way,
    /// What it was asked.
    pub asked: Arc<Mutex<Vec<String>>>,
    first: Mutex<Option<Held>>,
    blocked: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

impl Odd {
    pub fn new(inner: Embedded, way: Way) -> Self {
        let (asked, first) = (Arc::default(), Mutex::new(None));
        Self { inner, way, asked, first, blocked: AtomicBool::new(false), turn: tokio::sync::Mutex::new(()) }
    }

    fn write(&self, what: impl FnOnce() -> String) {
        if self.way == Way::Written {
            self.asked.lock().push(what());
        }
    }

    async fn delay(&self) {
        match self.way {
            Way::BlocksOnce(pause) if !self.blocked.swap(true, Ordering::Relaxed) => std::thread::sleep(pause),
            Way::Takes(pause) => tokio::time::sleep(pause).await,
            Way::OneAtATime(pause) => {
                let _turn = self.turn.lock().await;
                tokio::time::sleep(pause).await;
            }
            _ => {}
        }
    }

    fn told(&self, offer: &Offer, held: Held) -> Held {
        let lasts = u64::from(offer.terms.hold_seconds) * 1_000;
        if self.way == Way::EndsLate { Held { expires_at: held.created_at.plus_millis(lasts), ..held } } else { held }
    }

    fn place(&self, mut place: Place) -> Place {
        if self.way == Way::OutOfTurn && place.id.no == 1 {
            (place.status, place.expires_at) = (TokenStatus::Waiting, None);
        }
        place
    }
}

/// The number at the end of a name, which begins with that of the run.
fn number(user: &UserId) -> &str {
    user.as_str().rsplit('-').next().unwrap()
}

impl Target for Odd {
    type Follower = <Embedded as Target>::Follower;

    fn describe(&self) -> String {
        format!("{:?}", self.way)
    }

    fn open_holds_max(&self) -> u32 {
        self.inner.open_holds_max()
    }

    async fn create_concert(&self, room: &RoomSettings) -> Answer<ConcertId> {
        let times = if self.way == Way::LetsTooManyIn { 2 } else { 1 };
        self.inner.create_concert(&RoomSettings { max_active: room.max_active * times, ..room.clone() }).await
    }

    async fn add_option(&self, concert: ConcertId, house: &House, terms: Terms) -> Answer<OptionId> {
        let most = if self.way == Way::Unlimited { 10_000 } else { terms.max_seats_per_user };
        let hold_seconds = if self.way == Way::EndsLate { 300 } else { terms.hold_seconds };
        self.inner.add_option(concert, house, Terms { max_seats_per_user: most, hold_seconds, ..terms }).await
    }

    async fn room_counts(&self, concert: ConcertId) -> Answer<TokenCounts> {
        self.inner.room_counts(concert).await
    }

    async fn charge(&self, user: &UserId, amount: u64) -> Answer<u64> {
        self.write(|| format!("{} is charged {amount}", number(user)));
        self.inner.charge(user, amount).await
    }

    async fn balance(&self, user: &UserId) -> Answer<u64> {
        let balance = self.inner.balance(user).await?;
        Ok(if self.way == Way::LosesAPoint { balance.saturating_sub(1) } else { balance })
    }

    async fn entries(&self, user: &UserId) -> Answer<Vec<Entry>> {
        self.inner.entries(user).await
    }

    async fn hold(&self, offer: &Offer, user: &UserId, wish: &Wish, queue_token: Option<&str>) -> Answer<Held> {
        self.write(|| format!("{} holds {wish:?} of {}", number(user), offer.index));
        self.delay().await;
        let held = self.told(offer, self.inner.hold(offer, user, wish, queue_token).await?);
        let first = self.first.lock().get_or_insert_with(|| held.clone()).clone();
        Ok(if self.way == Way::SellsTwice { Held { seats: first.seats, amount: first.amount, ..held } } else { held })
    }

    async fn release(&self, user: &UserId, id: ReservationId) -> Answer<()> {
        if self.way == Way::EndsEarly { Err(Code::ReservationNotHeld) } else { self.inner.release(user, id).await }
    }

    async fn pay(&self, user: &UserId, id: ReservationId) -> Answer<Paid> {
        let paid = self.inner.pay(user, id).await?;
        let more = u64::from(self.way == Way::FindsAPoint);
        Ok(Paid { balance: paid.balance + more, ..paid })
    }

    async fn begin_payment(&self, user: &UserId, id: ReservationId) -> Answer<Begun> {
        self.inner.begin_payment(user, id).await
    }

    async fn give_up(&self, user: &UserId, id: PaymentId) -> Answer<()> {
        self.inner.give_up(user, id).await
    }

    async fn report(&self, id: PaymentId, fact: &Fact) -> Answer<Stands> {
        let heard = match (self.way, fact.kind) {
            (Way::TakesForNothing, Kind::Captured) => Fact { kind: Kind::Voided, ..fact.clone() },
            _ => fact.clone(),
        };
        let mut stands = self.inner.report(id, &heard).await?;
        if self.way == Way::KeepsTheMoney && stands.verdict.as_deref() == Some("refund") {
            stands.verdict = None;
        }
        Ok(stands)
    }

    async fn give_back_money(&self, id: PaymentId) -> Answer<()> {
        self.inner.give_back_money(id).await
    }

    async fn refund(&self, id: PaymentId) -> Answer<(u64, u64)> {
        self.inner.refund(id).await
    }

    async fn reservation(&self, offer: &Offer, user: &UserId, id: ReservationId) -> Answer<Reserved> {
        let mut reserved = self.inner.reservation(offer, user, id).await?;
        reserved.held = self.told(offer, reserved.held);
        if self.way == Way::CannotFind { Err(Code::NotFound) } else { Ok(reserved) }
    }

    async fn payment_status(&self, user: &UserId, id: PaymentId) -> Answer<String> {
        self.inner.payment_status(user, id).await
    }

    async fn browse(&self, offer: &Offer) -> Answer<()> {
        self.inner.browse(offer).await
    }

    async fn seats(&self, offer: &Offer) -> Answer<SeatStates> {
        let mut seats = self.inner.seats(offer).await?;
        if self.way == Way::Forgets {
            seats.states.fill(Status::Free);
        }
        Ok(seats)
    }

    async fn enter(&self, concert: ConcertId, user: &UserId) -> Answer<Place> {
        self.inner.enter(concert, user).await.map(|place| self.place(place))
    }

    async fn poll(&self, user: &UserId, id: TokenId) -> Answer<Place> {
        self.inner.poll(user, id).await.map(|place| self.place(place))
    }

    async fn leave(&self, user: &UserId, id: TokenId) -> Answer<()> {
        self.inner.leave(user, id).await
    }

    async fn follow(&self, offer: &Arc<Offer>, user: &UserId) -> Answer<Self::Follower> {
        self.inner.follow(offer, user).await
    }

    async fn audit_journal(&self, events_max: u64) -> Option<Result<u64, String>> {
        self.inner.audit_journal(events_max).await
    }

    async fn close(&self) -> Result<(), String> {
        self.inner.close().await
    }
}
