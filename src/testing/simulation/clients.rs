//! Callers: what they ask for, ask for again, and do not wait for; and whether what they are told is true.

use std::sync::Arc;
use std::task::Poll;

use smallvec::smallvec;
use xxhash_rust::xxh3::xxh3_128;

use super::house::House;
use super::model::{Model, broken, see};
use super::relay::Offers;
use super::stage::Stage;
use super::swarm::Swarm;
use crate::actors::actor::Delivery;
use crate::actors::alarms::AggregateId;
use crate::actors::registry::{Full, Origin};
use crate::actors::reply::{self, Reply};
use crate::actors::system::{self, Routed, System};
use crate::domain::catalogue::{self, Catalogue};
use crate::domain::concert_option::{
    self, Area, AreaPatch, AreaPlaces, Blocks, Caller, ConcertOption, Definition, Method, OptionPatch, POINTS, Portion,
    Price, PricedPlan, SeatRefs, SeatSet, Window, WindowPatch, Wish,
};
use crate::domain::idempotency::{Key, Request};
use crate::domain::invariants::Broken;
use crate::domain::seat_map::BestAvailable;
use crate::domain::sink::{self, Destination, Registration, Secret, Sink};
use crate::domain::waiting_room::{self, Mode, Order, Settings, SettingsPatch, TokenStatus, WaitingRoom};
use crate::domain::wallet::{self, Wallet};
use crate::domain::{
    Aggregate, ConcertId, Currency, EventFilter, EventId, EventType, Lsn, OptionId, PaymentId, Points, RefundId,
    Rejection, ReservationId, SinkId, TokenId, UserId,
};
use crate::engine::start::Node;
use crate::limits::HoldSlot;
use crate::store::codec::TheCatalogue;
use crate::testing::random::Dice;

/// What a caller asks for.
#[derive(Debug, Clone)]
pub(in crate::testing) enum Ask {
    Catalogue(catalogue::Command),
    Option(OptionId, concert_option::Command),
    Wallet(UserId, wallet::Command),
    Room(ConcertId, waiting_room::Command),
    Sink(SinkId, sink::Command),
}

type Answer<A> = Reply<Result<<A as Aggregate>::Reply, Rejection>>;

/// Where the answer comes in.
enum Waiting {
    Catalogue(Answer<Catalogue>),
    Option(Answer<ConcertOption>),
    Wallet(Answer<Wallet>),
    Room(Answer<WaitingRoom>),
    Sink(Answer<Sink>),
}

/// A call that is under way.
pub(in crate::testing) struct Call {
    ask: Ask,
    waiting: Waiting,
    slot: Option<HoldSlot>,
    /// Where the log ended when it came.
    since: Lsn,
}

impl Call {
    /// What was asked for.
    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Where the log ended when it came.
    pub fn since(&self) -> Lsn {
        self.since
    }

    /// Whether the caller may go away and leave nothing behind. Who holds seats has a slot for it until the outcome is known.
    pub fn may_go(&self) -> bool {
        self.slot.is_none()
    }
}

/// What became of a call.
pub(in crate::testing) enum Answered {
    /// It is not over.
    NotYet(Call),
    /// The caller knows the outcome, which is true.
    Told(Ask),
    /// The caller knows nothing.
    Unknown,
}

/// A caller of the world's few.
pub(in crate::testing) fn user(no: u64) -> UserId {
    const NAMES: [&str; 4] = ["anna", "berta", "carl", "dora"];
    NAMES[no as usize % NAMES.len()].parse().expect("a name")
}

fn admin() -> UserId {
    "admin".parse().expect("a name")
}

fn points(n: u64) -> Points {
    Points::new(n).expect("few points")
}

fn send<A: Routed>(system: &Arc<System<Stage>>, id: &A::Id, command: A::Command) -> Result<Answer<A>, Full> {
    let (reply, answer) = reply::channel();
    A::registry(system).deliver(system, id, Delivery::Command(command, Some(reply)), Origin::Outside)?;
    Ok(answer)
}

impl Ask {
    /// Asks the engine, where the log ends at `since`; nothing if it is overloaded.
    pub fn send(self, node: &Node, system: &Arc<System<Stage>>, slot: Option<HoldSlot>, since: Lsn) -> Option<Call> {
        if node.journal.is_closed() {
            return None;
        }
        let sent = match self.clone() {
            Self::Catalogue(command) => send::<Catalogue>(system, &TheCatalogue, command).map(Waiting::Catalogue),
            Self::Option(id, command) => send::<ConcertOption>(system, &id, command).map(Waiting::Option),
            Self::Wallet(id, command) => send::<Wallet>(system, &id, command).map(Waiting::Wallet),
            Self::Room(id, command) => send::<WaitingRoom>(system, &id, command).map(Waiting::Room),
            Self::Sink(id, command) => send::<Sink>(system, &id, command).map(Waiting::Sink),
        };
        sent.ok().map(|waiting| Call { ask: self, waiting, slot, since })
    }

    fn name(&self) -> AggregateId {
        match self {
            Self::Catalogue(_) => AggregateId::Catalogue(TheCatalogue),
            Self::Option(id, _) => AggregateId::Option(*id),
            Self::Wallet(id, _) => AggregateId::Wallet(id.clone()),
            Self::Room(id, _) => AggregateId::Room(*id),
            Self::Sink(id, _) => AggregateId::Sink(*id),
        }
    }

    fn key(&self) -> Option<&Key> {
        use concert_option::Command as OnOption;
        let request = match self {
            Self::Catalogue(
                catalogue::Command::CreateConcert { request, .. } | catalogue::Command::AddOption { request, .. },
            )
            | Self::Option(
                _,
                OnOption::Hold { request, .. }
                | OnOption::BeginPayment { request, .. }
                | OnOption::BeginPaymentBy { request, .. }
                | OnOption::Refund { request, .. }
                | OnOption::ReleasePart { request, .. }
                | OnOption::RefundPart { request, .. }
                | OnOption::Exchange { request, .. }
                | OnOption::OfferTransfer { request, .. }
                | OnOption::AcceptTransfer { request, .. }
                | OnOption::HandOn { request, .. }
                | OnOption::CallOff { request, .. }
                | OnOption::Replan { request, .. }
                | OnOption::Block { request, .. }
                | OnOption::Unblock { request, .. },
            )
            | Self::Wallet(_, wallet::Command::Charge { request, .. })
            | Self::Sink(_, sink::Command::Redrive { request, .. }) => request,
            _ => return None,
        };
        request.key.as_ref()
    }
}

impl Call {
    /// Looks whether there is an answer, and if so, whether it is true.
    pub fn poll(mut self, model: &Model) -> Result<Answered, Broken> {
        let (ask, since) = (&self.ask, self.since);
        let judged = match &self.waiting {
            Waiting::Catalogue(answer) => judge(answer, |told| on_catalogue(ask, told, model, since)),
            Waiting::Option(answer) => judge(answer, |told| {
                if let (Ok(concert_option::Reply::Reservation(..)), Some(slot)) = (told, self.slot.take()) {
                    slot.made();
                }
                on_option(ask, told, model, since)
            }),
            Waiting::Wallet(answer) => judge(answer, |told| on_wallet(ask, told, model, since)),
            Waiting::Room(answer) => judge(answer, |told| on_room(ask, told, model)),
            Waiting::Sink(answer) => judge(answer, |told| on_sink(ask, told, model, since)),
        };
        match judged {
            Poll::Pending => Ok(Answered::NotYet(self)),
            Poll::Ready(None) => Ok(Answered::Unknown),
            Poll::Ready(Some(judged)) => judged.map(|()| Answered::Told(self.ask)),
        }
    }
}

fn judge<T>(answer: &Reply<T>, judge: impl FnOnce(&T) -> Result<(), Broken>) -> Poll<Option<Result<(), Broken>>> {
    answer.try_recv().map(|told| told.map(|told| judge(&told)))
}

/// What is true of every rejection.
fn on_rejection(ask: &Ask, rejection: &Rejection, model: &Model, since: Lsn) -> Result<(), Broken> {
    match (ask, rejection) {
        (_, Rejection::IdempotencyKeyReused) => model.reused(&ask.name(), ask.key()),
        (Ask::Option(option, _), Rejection::SeatsUnavailable { conflicts }) => {
            model.knows_taken(*option, conflicts, since)
        }
        (_, Rejection::AlreadyPaid { payment }) => model.knows_payment(*payment),
        _ => Ok(()),
    }
}

fn on_catalogue(
    ask: &Ask,
    told: &Result<catalogue::Reply, Rejection>,
    model: &Model,
    since: Lsn,
) -> Result<(), Broken> {
    let (is_known, made) = match told {
        Ok(catalogue::Reply::Concert { concert, .. }) => (model.has_had_concert(*concert), concert.0),
        Ok(catalogue::Reply::Option { option, .. }) => (model.has_had_option(*option), option.0),
        Ok(catalogue::Reply::Installation(_) | catalogue::Reply::Changed) => return Ok(()),
        Err(rejection) => return on_rejection(ask, rejection, model, since),
    };
    if !is_known {
        return Err(broken("I3", format!("{told:?} was told, and is not durable")));
    }
    model.made_by(&ask.name(), ask.key(), made)
}

fn on_option(
    ask: &Ask,
    told: &Result<concert_option::Reply, Rejection>,
    model: &Model,
    since: Lsn,
) -> Result<(), Broken> {
    use concert_option::{Command, Reply};
    let Ask::Option(option, command) = ask else { return Ok(()) };
    let (option, name, key) = (*option, ask.name(), ask.key());
    match told {
        Ok(Reply::Reservation(no, _)) if matches!(command, Command::Release { .. }) => {
            model.knows_ended(ReservationId { option, no: *no })
        }
        Ok(Reply::Reservation(..)) if !matches!(command, Command::Hold { .. }) => Ok(()),
        Ok(Reply::Reservation(no, held)) => {
            model.knows_hold(ReservationId { option, no: *no }, held)?;
            model.made_by(&name, key, *no)
        }
        Ok(Reply::Paid(no, _)) => {
            model.knows_payment(PaymentId { option, no: *no })?;
            model.made_by(&name, key, *no)
        }
        Ok(Reply::Refunded(no, _)) => {
            model.knows_refund(RefundId { option, no: *no })?;
            model.made_by(&name, key, *no)
        }
        Ok(Reply::Payment(no, _)) => {
            model.knows_provided(PaymentId { option, no: *no })?;
            model.made_by(&name, key, *no)
        }
        Ok(Reply::RefundOwed(no, _)) => model.made_by(&name, key, *no),
        Ok(Reply::Offered { transfer, .. }) => model.made_by(&name, key, *transfer),
        // By which event is not told.
        Ok(Reply::Again(..)) => Ok(()),
        Ok(Reply::Replayed(no)) => model.made_by(&name, key, *no),
        Ok(Reply::Done) => match command {
            Command::Block { blocks, .. } => {
                model.knows_taken(option, &blocks.part.seats, since)?;
                model.made_by(&name, key, 0)
            }
            _ => model.made_by(&name, key, 0),
        },
        Ok(Reply::Archived | Reply::Outdated) => Ok(()),
        Err(rejection) => on_rejection(ask, rejection, model, since),
    }
}

fn on_wallet(ask: &Ask, told: &Result<wallet::Reply, Rejection>, model: &Model, since: Lsn) -> Result<(), Broken> {
    let Ask::Wallet(user, _) = ask else { return Ok(()) };
    match told {
        Ok(wallet::Reply::Charged(entry)) => {
            model.knows_entry(user, entry)?;
            model.made_by(&ask.name(), ask.key(), entry.no)
        }
        Ok(wallet::Reply::Replayed(no)) => model.made_by(&ask.name(), ask.key(), *no),
        Err(rejection) => on_rejection(ask, rejection, model, since),
    }
}

fn on_room(ask: &Ask, told: &Result<waiting_room::Reply, Rejection>, model: &Model) -> Result<(), Broken> {
    use waiting_room::{Command, Reply};
    let Ask::Room(concert, command) = ask else { return Ok(()) };
    match (command, told) {
        (Command::IssueToken { user }, Ok(Reply::Token { no, .. })) => {
            model.knows_token(TokenId { concert: *concert, no: *no }, user)
        }
        (Command::Leave { no, .. }, Ok(Reply::Left)) => model.knows_left(TokenId { concert: *concert, no: *no }),
        _ => Ok(()),
    }
}

fn on_sink(ask: &Ask, told: &Result<sink::Reply, Rejection>, model: &Model, since: Lsn) -> Result<(), Broken> {
    let Ask::Sink(id, command) = ask else { return Ok(()) };
    let is_known = match (command, told) {
        (sink::Command::Register { .. }, Ok(_)) => model.sinks.contains_key(id),
        (sink::Command::Remove, Ok(_)) => model.removed.contains(id),
        (sink::Command::Drop { event }, Ok(_)) => model.dropped.contains(&(*id, *event)),
        (_, Ok(sink::Reply::Redriven { count, replayed: true })) => {
            return model.made_by(&ask.name(), ask.key(), *count);
        }
        (_, Err(rejection)) => return on_rejection(ask, rejection, model, since),
        _ => true,
    };
    if is_known { Ok(()) } else { Err(broken("I3", format!("{command:?} was told to be done, and is not durable"))) }
}

/// What callers know when they think of something to ask for.
pub(in crate::testing) struct Mind<'a> {
    pub swarm: &'a Swarm,
    pub dice: &'a Dice,
    pub model: &'a Model,
    pub plans: &'a Offers,
    pub house: &'a House,
    /// That of the machine that is asked.
    pub node: &'a Node,
    /// That of its term.
    pub system: &'a Arc<System<Stage>>,
    /// What was asked for last, which may be under way.
    pub last: Option<&'a Ask>,
}

impl Mind<'_> {
    /// Some request with a key, or without one.
    fn request(&self, user: &UserId, what: &str) -> Request {
        if self.dice.chance(300) {
            return Request::default();
        }
        let no = self.dice.below(self.swarm.keys);
        let operation = what.split(' ').next().unwrap_or_default();
        let scope = xxh3_128(format!("{user} {operation} {no}").as_bytes()).to_le_bytes();
        let payload = xxh3_128(what.as_bytes()).to_le_bytes();
        Request { key: Some(Key { scope, payload, caller: user.clone() }), refused: None }
    }

    fn option(&self) -> Option<OptionId> {
        let options: Vec<_> = self.model.defined.iter().copied().collect();
        (!options.is_empty()).then(|| *self.dice.pick(&options))
    }

    fn concert(&self) -> Option<ConcertId> {
        let rooms: Vec<_> = self.model.rooms.iter().copied().collect();
        (!rooms.is_empty()).then(|| *self.dice.pick(&rooms))
    }

    /// One of the latest of something, or one that is not there.
    fn recent(&self, last: u64) -> u64 {
        (last + 2).saturating_sub(self.dice.below(12)).max(1)
    }

    fn reservation(&self) -> Option<(ReservationId, UserId)> {
        let option = self.option()?;
        let all =
            self.model.reservations.range(ReservationId { option, no: 0 }..=ReservationId { option, no: u64::MAX });
        let recent: Vec<_> = all.rev().take(6).collect();
        if recent.is_empty() {
            return None;
        }
        let (id, held) = *self.dice.pick(&recent);
        Some((*id, held.user.clone()))
    }

    fn payment(&self) -> Option<PaymentId> {
        let option = self.option()?;
        let all = self.model.payments.range(PaymentId { option, no: 0 }..=PaymentId { option, no: u64::MAX });
        let recent: Vec<_> = all.rev().take(4).collect();
        (!recent.is_empty()).then(|| *self.dice.pick(&recent).0)
    }

    /// The same again.
    pub fn again(&self, ask: &Ask) -> Option<(Ask, Option<HoldSlot>)> {
        let limit = self.swarm.config.limits.user_open_holds;
        let slot = match ask {
            Ask::Option(_, concert_option::Command::Hold { user, .. }) if limit > 0 => {
                Some(self.node.counts.take_hold(user, limit).ok()?)
            }
            _ => None,
        };
        Some((ask.clone(), slot))
    }

    /// Something to ask for.
    pub fn ask(&self) -> Option<(Ask, Option<HoldSlot>)> {
        if let Some(ask) = self.call_off_meanwhile() {
            return Some((ask, None));
        }
        let who = self.dice.below(self.swarm.users);
        let ask = match self.dice.below(100) {
            0..34 => return self.hold(who),
            34..56 => self.pay()?,
            56..59 => self.refund(who)?,
            59..62 => self.part()?,
            62..65 => self.release(who)?,
            65..68 => self.exchange()?,
            68..70 => self.hand_on(who)?,
            70..76 => self.charge(who),
            76..79 => self.block()?,
            79..89 => self.room(who)?,
            89..90 => self.configure()?,
            90..92 => self.sell_otherwise()?,
            92..94 => self.catalogue(),
            _ => self.sink()?,
        };
        Some((ask, None))
    }

    fn hold(&self, who: u64) -> Option<(Ask, Option<HoldSlot>)> {
        let option = self.option()?;
        let plan = self.plans.get(&option)?.clone();
        let seats = u64::from(plan.plan.numbers());
        let seat = || self.dice.below(seats) as u32;
        let wish = match self.dice.below(4) {
            0 => Wish::Seats(smallvec![seat()]),
            1 => {
                let first = seat();
                let next = (first + 1) % seats as u32;
                Wish::Seats(smallvec![first.min(next), first.max(next)])
            }
            2 => {
                let (count, adjacent) = (1 + self.dice.below(3) as u32, self.dice.coin());
                Wish::Best(BestAvailable { count, category: None, zone: None, adjacent, companions: 0 })
            }
            _ => Wish::Areas(smallvec![AreaPlaces { area: 0, count: 1 + self.dice.below(3) as u32 }]),
        };
        let mut request = self.request(&user(who), &format!("hold {wish:?}"));
        let (user, limit) = (user(who), self.swarm.config.limits.user_open_holds);
        let token = match self.let_in(plan.definition.concert, &user)? {
            Ok(token) => token,
            Err(rejection) => {
                request.refused = Some(rejection);
                None
            }
        };
        let mut slot = None;
        if limit > 0 {
            match self.node.counts.take_hold(&user, limit) {
                Ok(taken) => slot = Some(taken),
                Err(already) => {
                    request.refused.get_or_insert(Rejection::LimitExceeded { limit, already });
                }
            }
        }
        Some((
            Ask::Option(option, concert_option::Command::Hold { user, wish, token, note: None, plan, request }),
            slot,
        ))
    }

    /// As the engine does it: whether a user may hold seats, and with which token.
    fn let_in(&self, concert: ConcertId, user: &UserId) -> Option<Result<Option<u64>, Rejection>> {
        let now = self.system.env.clock.now();
        let seen = see(&self.system.replica, |replica| {
            let room = replica.room(concert)?;
            let token = room.live_token(user).map(|no| (no, room.token(now, no)));
            Ok((room.settings().mode == Mode::Open, token))
        });
        let (is_open, token) = seen.ok()?;
        if is_open {
            return Some(Ok(None));
        }
        let Some((no, view)) = token else { return Some(Err(Rejection::QueueTokenRequired)) };
        system::seen(&self.node.liveness, TokenId { concert, no });
        let is_active = view.is_some_and(|view| view.status == TokenStatus::Active);
        Some(if is_active { Ok(Some(no)) } else { Err(Rejection::QueueTokenNotActive) })
    }

    fn pay(&self) -> Option<Ask> {
        if let Some(money) = self.swarm.money.as_ref().filter(|money| self.dice.chance(money.share)) {
            return self.pay_by(&money.method);
        }
        let (id, owner) = self.reservation()?;
        // Now and then somebody else's.
        let no = if self.dice.chance(50) { self.recent(id.no) } else { id.no };
        let request = self.request(&owner, &format!("pay {no}"));
        Some(Ask::Option(id.option, concert_option::Command::BeginPayment { reservation: no, user: owner, request }))
    }

    /// Pays by the provider what is held, or for once what may not be.
    fn pay_by(&self, method: &Method) -> Option<Ask> {
        let open: Vec<_> = self.model.open.keys().rev().take(6).collect();
        let (id, user) = if open.is_empty() || self.dice.chance(100) {
            self.reservation()?
        } else {
            let id = **self.dice.pick(&open);
            (id, self.model.reservations.get(&id)?.user.clone())
        };
        let request = self.request(&user, &format!("card {}", id.no));
        let method = Box::new(method.clone());
        let command = concert_option::Command::BeginPaymentBy { reservation: id.no, user, method, request };
        Some(Ask::Option(id.option, command))
    }

    fn refund(&self, who: u64) -> Option<Ask> {
        let id = self.payment()?;
        let request = self.request(&user(who), &format!("refund {}", id.no));
        let caller = if self.dice.coin() { Caller::Admin } else { Caller::User(user(who)) };
        Some(Ask::Option(id.option, concert_option::Command::Refund { payment: id.no, caller, request }))
    }

    /// Gives up what is paid by the provider, or is not any more.
    fn give_up(&self) -> Option<Ask> {
        let recent: Vec<_> = self.model.provided.keys().rev().take(6).collect();
        if recent.is_empty() {
            return None;
        }
        let id = **self.dice.pick(&recent);
        Some(Ask::Option(id.option, concert_option::Command::GiveUp { payment: id.no, caller: Caller::Admin }))
    }

    fn release(&self, who: u64) -> Option<Ask> {
        if self.swarm.money.is_some() && self.dice.coin() {
            return self.give_up();
        }
        let (id, owner) = self.reservation()?;
        let caller = Caller::User(if self.dice.chance(50) { user(who) } else { owner });
        Some(Ask::Option(id.option, concert_option::Command::Release { reservation: id.no, caller }))
    }

    /// One that somebody has, with its option's plan: mostly some of its seats or places, or what is not its own.
    fn order(&self) -> Option<(ReservationId, UserId, Portion, Arc<PricedPlan>)> {
        let (id, owner) = self.reservation()?;
        let held = self.model.reservations.get(&id)?;
        let mut seats: SeatRefs = held.seats.iter().copied().filter(|_| self.dice.coin()).collect();
        if self.dice.chance(50) {
            seats.push(self.dice.below(self.swarm.seats) as u32);
        }
        let mut areas = held.areas.clone();
        areas.iter_mut().for_each(|place| place.count = 1 + self.dice.below(place.count.into()) as u32);
        areas.dedup_by_key(|place| place.area);
        Some((id, owner, Portion { seats, areas: areas.into() }, self.plans.get(&id.option)?.clone()))
    }

    fn payment_of(&self, id: ReservationId) -> Option<u64> {
        let of = |(payment, reservation): (&PaymentId, &u64)| {
            (payment.option == id.option && *reservation == id.no).then_some(payment.no)
        };
        self.model.payments.iter().rev().find_map(of)
    }

    /// Gives a part of something up, or back.
    fn part(&self) -> Option<Ask> {
        let (id, owner, part, plan) = self.order()?;
        let caller = if self.dice.coin() { Caller::Admin } else { Caller::User(owner.clone()) };
        let request = self.request(&owner, &format!("part {} {part:?}", id.no));
        let command = match self.payment_of(id).filter(|_| self.dice.chance(800)) {
            Some(payment) => concert_option::Command::RefundPart { payment, caller, part, plan, request },
            None => concert_option::Command::ReleasePart { reservation: id.no, caller, part, plan, request },
        };
        Some(Ask::Option(id.option, command))
    }

    fn exchange(&self) -> Option<Ask> {
        let (id, owner, give, plan) = self.order()?;
        let seats = plan.plan.numbers();
        let first = self.dice.below(seats.into()) as u32;
        let seats = (first..).take(give.seats.len()).map(|seat| seat % seats).collect();
        let take = Portion { seats, areas: give.areas.clone() };
        let caller = if self.dice.chance(200) { Caller::Admin } else { Caller::User(owner.clone()) };
        let request = self.request(&owner, &format!("exchange {} {give:?} {take:?}", id.no));
        let command = concert_option::Command::Exchange { reservation: id.no, caller, give, take, plan, request };
        Some(Ask::Option(id.option, command))
    }

    /// Offers something, accepts what was offered, takes an offer back, or hands something on at once.
    fn hand_on(&self, who: u64) -> Option<Ask> {
        let (id, owner) = self.reservation()?;
        let (to, caller) = (user(who), Caller::User(owner.clone()));
        let command = match (self.dice.below(4), self.model.offers.iter().next_back()) {
            (0 | 1, Some(((option, transfer), (reservation, to)))) => {
                let (transfer, reservation) = (*transfer, *reservation);
                let command = if self.dice.chance(200) {
                    concert_option::Command::WithdrawTransfer { reservation, transfer, caller: Caller::Admin }
                } else {
                    let request = self.request(to, &format!("accept {transfer}"));
                    let user = to.clone();
                    concert_option::Command::AcceptTransfer { reservation, transfer, user, request }
                };
                return Some(Ask::Option(*option, command));
            }
            (2, _) => {
                let request = self.request(&admin(), &format!("hand {} to {to}", id.no));
                concert_option::Command::HandOn { reservation: id.no, to, by: None, request }
            }
            _ => {
                let request = self.request(&owner, &format!("offer {} to {to}", id.no));
                let stands_for_ms = 1_000 * self.swarm.config.limits.offer_seconds;
                concert_option::Command::OfferTransfer { reservation: id.no, caller, to, stands_for_ms, request }
            }
        };
        Some(Ask::Option(id.option, command))
    }

    fn call_off(&self, option: OptionId) -> Ask {
        let request = self.request(&admin(), "call off");
        Ask::Option(option, concert_option::Command::CallOff { reason: None, by: admin(), request })
    }

    /// Calls off, now and then, where a change of an order was just asked for.
    fn call_off_meanwhile(&self) -> Option<Ask> {
        use concert_option::Command::{Exchange, RefundPart};
        let Some(Ask::Option(option, Exchange { .. } | RefundPart { .. })) = self.last else { return None };
        self.dice.chance(60).then(|| self.call_off(*option))
    }

    /// Moves a sale, changes prices, limits or the seating plan, or for once calls a performance off, or deletes what nobody has held.
    fn sell_otherwise(&self) -> Option<Ask> {
        let option = self.option()?;
        let command = match self.dice.below(10) {
            8 | 9 => self.replan(option)?,
            // Mostly where there is much to be given back.
            0..3 => match self.model.bought_twice() {
                Some(option) => return Some(self.call_off(option)),
                None if self.dice.chance(200) => return Some(self.call_off(option)),
                None => return self.reschedule(),
            },
            3 | 4 => {
                let area =
                    AreaPatch { name: "Floor".into(), capacity: Some(1 + self.dice.below(6) as u32), category: None };
                let patch = OptionPatch {
                    prices: vec![Price { category: "A".into(), points: points(self.dice.below(30)) }],
                    areas: if self.dice.coin() { vec![area] } else { Vec::new() },
                    hold_seconds: self.dice.coin().then(|| 1 + self.dice.below(30) as u32),
                    ..OptionPatch::default()
                };
                concert_option::Command::Change { patch: Box::new(patch), by: admin() }
            }
            5 if self.dice.chance(300) => {
                // As the engine does it, where it is cut off after the first step as well.
                if self.dice.coin() {
                    let concert = self.concert()?;
                    return Some(Ask::Catalogue(catalogue::Command::DeleteConcert { concert, by: admin() }));
                }
                concert_option::Command::Delete { by: admin() }
            }
            _ => return self.reschedule(),
        };
        Some(Ask::Option(option, command))
    }

    /// Another plan of the house, or the same once more.
    fn replan(&self, option: OptionId) -> Option<concert_option::Command> {
        let plan = self.plans.get(&option)?.clone();
        let variant = self.dice.below(House::VARIANTS.into()) as u8;
        let new = self.house.after(variant, &plan);
        let by = admin();
        let request = self.request(&by, &format!("replan {variant}"));
        Some(concert_option::Command::Replan { new: Box::new(new), by, plan, request })
    }

    fn charge(&self, who: u64) -> Ask {
        let amount = points(*self.dice.pick(&[1, 10, 50]));
        let request = self.request(&user(who), &format!("charge {amount}"));
        Ask::Wallet(user(who), wallet::Command::Charge { amount, by: user(who), request })
    }

    fn block(&self) -> Option<Ask> {
        let mut blocks = Box::<Blocks>::default();
        if self.dice.chance(700) {
            blocks.part.seats.push(self.dice.below(self.swarm.seats) as u32);
        }
        if blocks.part.seats.is_empty() || self.dice.coin() {
            blocks.part.areas.push(AreaPlaces { area: 0, count: 1 + self.dice.below(2) as u32 });
        }
        let command = if self.dice.coin() {
            let request = self.request(&admin(), &format!("block {:?}", blocks.part));
            concert_option::Command::Block { blocks, request }
        } else {
            let request = self.request(&admin(), &format!("unblock {:?}", blocks.part));
            concert_option::Command::Unblock { blocks, request }
        };
        Some(Ask::Option(self.option()?, command))
    }

    fn room(&self, who: u64) -> Option<Ask> {
        let concert = self.concert()?;
        let command = if self.dice.chance(800) {
            waiting_room::Command::IssueToken { user: user(who) }
        } else {
            let last = self.model.tokens.range(..=TokenId { concert, no: u64::MAX }).next_back();
            let no = self.recent(last.map_or(0, |(token, _)| token.no));
            waiting_room::Command::Leave { user: self.dice.coin().then(|| user(who)), by: None, no }
        };
        Some(Ask::Room(concert, command))
    }

    fn configure(&self) -> Option<Ask> {
        let concert = self.concert()?;
        let holders = self.holders(concert)?;
        let patch = SettingsPatch {
            mode: Some(*self.dice.pick(&[Mode::Open, Mode::Queue, Mode::Queue, Mode::Queue, Mode::Paused])),
            max_active: Some(1 + self.dice.below(3) as u32),
            admit_per_minute: Some(self.dice.coin().then(|| 1 + self.dice.below(60) as u32)),
            active_ttl_seconds: Some(1 + self.dice.below(60) as u32),
            ..SettingsPatch::default()
        };
        Some(Ask::Room(concert, waiting_room::Command::Configure { patch, holders, by: None }))
    }

    /// As the engine does it: who holds seats of a concert.
    fn holders(&self, concert: ConcertId) -> Option<Vec<UserId>> {
        let mut replica = self.system.replica.lock().ok()?;
        let options = replica.catalogue().ok()?.concert(concert)?.options.clone();
        let mut holders = Vec::new();
        for option in options {
            holders.extend(replica.option(option).ok()?.holders().cloned());
        }
        Some(holders)
    }

    fn reschedule(&self) -> Option<Ask> {
        let now = self.system.env.clock.now();
        let patch = WindowPatch {
            sale_opens_at: self.dice.coin().then(|| self.dice.coin().then(|| now.plus_millis(self.dice.below(9_000)))),
            sale_closes_at: None,
            refundable_until: self.dice.coin().then(|| self.dice.coin().then(|| now.plus_millis(9_000))),
        };
        Some(Ask::Option(self.option()?, concert_option::Command::Reschedule { patch }))
    }

    /// A concert or an option more, up to as many as there may be.
    pub fn catalogue(&self) -> Ask {
        let Some(concert) = self.model.concerts.first().filter(|_| self.is_full(self.model.concerts.len())) else {
            let mut waiting_room = Settings {
                mode: *self.dice.pick(&[Mode::Open, Mode::Queue]),
                max_active: 1 + self.dice.below(3) as u32,
                active_ttl_seconds: 1 + self.dice.below(120) as u32,
                waiting_ttl_seconds: 2 + self.dice.below(60) as u32,
                order: *self.dice.pick(&[Order::Fifo, Order::ShuffleAtOpen]),
                ..Settings::default()
            };
            let now = self.system.env.clock.now();
            waiting_room.opens_at = self.dice.chance(300).then(|| now.plus_millis(self.dice.below(20_000)));
            let request = self.request(&admin(), "concert");
            let title = "A concert".into();
            let signing_key = [7; 32];
            return Ask::Catalogue(catalogue::Command::CreateConcert {
                title,
                waiting_room,
                signing_key,
                entries_max: u64::MAX,
                request,
            });
        };
        let definition = Box::new(self.definition(*concert));
        let request = self.request(&admin(), &format!("option {definition:?}"));
        Ask::Catalogue(catalogue::Command::AddOption { definition, entries_max: u64::MAX, request })
    }

    fn is_full(&self, concerts: usize) -> bool {
        concerts as u64 >= self.swarm.concerts
    }

    fn definition(&self, concert: ConcertId) -> Definition {
        let start = self.swarm.start;
        let money = self.swarm.money.as_ref();
        Definition {
            concert,
            starts_at: start.plus_millis(money.map_or(1 << 40, |money| money.begins_ms)),
            window: Window {
                sale_opens_at: None,
                sale_closes_at: start.plus_millis(1 << 40),
                refundable_until: self.dice.coin().then(|| start.plus_millis(1 << 40)),
            },
            plan: House::hash(0),
            seat_count: self.swarm.seats as u32,
            prices: vec![Price { category: "A".into(), points: points(self.dice.below(30)) }],
            areas: vec![Area { name: "Floor".into(), capacity: 1 + self.dice.below(6) as u32, category: "A".into() }],
            hold_seconds: 1 + self.dice.below(30) as u32,
            payment_seconds: 1 + self.dice.below(10) as u32,
            max_seats_per_reservation: 1 + self.dice.below(4) as u32,
            max_seats_per_user: 1 + self.dice.below(10) as u32,
            focus: None,
            accessible: Vec::new(),
            not_for_sale: SeatSet::default(),
            payment_methods: money.map_or_else(Vec::new, |money| vec![POINTS.into(), money.method.name.clone()]),
            currency: money.map(|_| Currency::KRW),
            amended: None,
        }
    }

    fn sink(&self) -> Option<Ask> {
        let last = self.model.sinks.keys().next_back().map_or(0, |id| id.0);
        let id = SinkId(1 + self.dice.below(last.max(1)));
        let dead = see(&self.system.replica, |replica| {
            Ok(replica.sink(id)?.dead_letters().map(|(event, _)| event).collect::<Vec<EventId>>())
        });
        let dead = dead.ok()?;
        let command = match self.dice.below(10) {
            0..4 if last < 3 => return Some(self.register(SinkId(last + 1))),
            0..2 if !dead.is_empty() => sink::Command::Drop { event: *self.dice.pick(&dead) },
            2 if self.dice.chance(200) => sink::Command::Remove,
            3 => sink::Command::RotateSecret {
                secret: Secret([self.dice.next() as u8; 32]),
                previous_until: self.system.env.clock.now().plus_millis(1_000),
            },
            _ => {
                let event = if dead.is_empty() || self.dice.coin() { None } else { Some(*self.dice.pick(&dead)) };
                sink::Command::Redrive { event, request: self.request(&admin(), &format!("redrive {event:?}")) }
            }
        };
        Some(Ask::Sink(id, command))
    }

    fn register(&self, id: SinkId) -> Ask {
        let filter = if self.dice.coin() {
            EventFilter::ALL
        } else {
            EventType::ALL.iter().copied().filter(|_| self.dice.coin()).collect()
        };
        let after = if self.dice.coin() { EventId::default() } else { EventId::end_of(self.model.last) };
        let registration = Registration { receiver: Destination::Attached { name: id.to_string() }, filter, after };
        Ask::Sink(id, sink::Command::Register { registration, secret: Secret([1; 32]) })
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Option(id, concert_option::Command::Hold { user, wish, token, request, .. }) => {
                write!(f, "{id}: {user} holds {wish:?} with token {token:?}, {request:?}")
            }
            Self::Catalogue(command) => write!(f, "catalogue: {command:?}"),
            Self::Option(id, command) => write!(f, "{id}: {command:?}"),
            Self::Wallet(id, command) => write!(f, "{id}: {command:?}"),
            Self::Room(id, command) => write!(f, "{id}: {command:?}"),
            Self::Sink(id, command) => write!(f, "{id}: {command:?}"),
        }
    }
}
