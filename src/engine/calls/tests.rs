//! What travels comes out as it went in; and what only the inside can bring about: a node that is behind, signs of life that
//! nobody hears of.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use minicbor::{Decode, Encode};
use smallvec::smallvec;

use super::loopback::{Fate, Loopback};
use super::*;
use crate::api::{
    Answered, BareReservation, BestAvailable, Blocks, Caller, DeadLetter, DeliveryProgress, IdempotencyKey, NewArea,
    NewConcert, NewOption, NewSeatingPlan, Office, OwedItem, Page, PageRequest, Pause, PauseReason, Payment,
    PaymentFilter, Portion, Provided, Refund, RefundStatus, ReservationStatus, Sink, Token, Verdict, Wallet,
    WindowPatch, Wish,
};
use crate::config::Config;
use crate::domain::catalogue::ConcertPatch;
use crate::domain::concert_option::{AreaPatch, Focus, Note, OptionPatch, OwedKind, Price};
use crate::domain::facts::{Fact, Kind};
use crate::domain::sink::{Destination, Format, Registration, Response, Secret as SinkSecret};
use crate::domain::waiting_room::{Mode, Order, Settings, SettingsPatch, TokenStatus};
use crate::domain::{
    ConcertId, Currency, EventFilter, EventId, EventType, Flaw, Lsn, OptionId, PaymentId, Points, RefundId, Rejection,
    ReservationId, SinkId, Timestamp, TokenId, TransferId, UserId,
};
use crate::engine::{Engine, Start};
use crate::error::{Error, FieldError};

/// Long enough for anything that does happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn anna() -> UserId {
    "anna".parse().unwrap()
}

fn points(n: u64) -> Points {
    Points::new(n).unwrap()
}

fn key() -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new(&anna(), "POST /v1", "key", b"{}"))
}

fn page() -> PageRequest {
    PageRequest { limit: 7, cursor: Some("12".into()) }
}

/// Goes through bytes and back.
fn travel<T: Encode<()> + for<'b> Decode<'b, ()> + Debug>(value: &T) {
    let bytes = minicbor::to_vec(value).unwrap();
    let arrived: T = minicbor::decode(&bytes).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    assert_eq!(format!("{arrived:?}"), format!("{value:?}"));
}

fn rejections() -> Vec<Rejection> {
    use Rejection as R;
    let payment = PaymentId { option: OptionId(3), no: 9 };
    let all = vec![
        R::Invalid(vec![Flaw::new("a", "b"), Flaw::new("c", "d")]),
        R::NotFound,
        R::SeatsUnavailable { conflicts: smallvec![1, 2, 3, 4, 5, 600_000] },
        R::NotEnoughSeats,
        R::LimitExceeded { limit: 8, already: u64::MAX },
        R::SaleNotOpen,
        R::ReservationExpired,
        R::ReservationNotHeld,
        R::AlreadyPaid { payment },
        R::InsufficientPoints { balance: points(1), amount: Points::MAX },
        R::PaymentTimedOut,
        R::NotRefundable,
        R::QueueTokenRequired,
        R::QueueTokenNotActive,
        R::IdempotencyKeyReused,
        R::TooManyIdempotencyKeys,
        R::PaymentPending { payment },
        R::PaymentUnderWay,
        R::AmountTooSmall { minimum: points(100) },
        R::FactConflict,
        R::ReferenceInUse,
        R::ChangeUnderWay,
        R::ReservationNotConfirmed,
        R::PriceWouldRise,
        R::CapacityInUse { area: "Floor".into(), in_use: 3 },
        R::WasHeld,
        R::SeatsInUse { conflicts: smallvec![1, 600_000], in_use: 2 },
    ];
    // A new one must be added above.
    for one in &all {
        match one {
            R::Invalid(_)
            | R::NotFound
            | R::SeatsUnavailable { .. }
            | R::NotEnoughSeats
            | R::LimitExceeded { .. }
            | R::SaleNotOpen
            | R::ReservationExpired
            | R::ReservationNotHeld
            | R::AlreadyPaid { .. }
            | R::InsufficientPoints { .. }
            | R::PaymentTimedOut
            | R::NotRefundable
            | R::QueueTokenRequired
            | R::QueueTokenNotActive
            | R::IdempotencyKeyReused
            | R::TooManyIdempotencyKeys
            | R::PaymentPending { .. }
            | R::PaymentUnderWay
            | R::AmountTooSmall { .. }
            | R::FactConflict
            | R::ReferenceInUse
            | R::ChangeUnderWay
            | R::ReservationNotConfirmed
            | R::PriceWouldRise
            | R::CapacityInUse { .. }
            | R::WasHeld
            | R::SeatsInUse { .. } => {}
        }
    }
    all
}

#[test]
fn every_error_arrives_as_it_was() {
    let mut all: Vec<_> = rejections().into_iter().map(Error::Rejected).collect();
    all.extend([
        Error::Invalid(vec![FieldError::new("areas[0]", "ä"), FieldError::new("x", "")]),
        Error::UnknownSeats(vec!["A-1".into(), String::new()]),
        Error::SeatsUnavailable(vec!["B-2".into()]),
        Error::SeatsInUse { seats: vec!["B-2".into()], in_use: 1 },
        Error::Overloaded(Duration::from_millis(1_234)),
        Error::StorageFull,
        Error::LogFull,
        Error::OutcomeUnknown("the disk".into()),
        Error::NoOwner,
        Error::Internal("a fault".into()),
    ]);
    for error in &all {
        match error {
            Error::Rejected(_)
            | Error::Invalid(_)
            | Error::UnknownSeats(_)
            | Error::SeatsUnavailable(_)
            | Error::SeatsInUse { .. }
            | Error::Overloaded(_)
            | Error::StorageFull
            | Error::LogFull
            | Error::OutcomeUnknown(_)
            | Error::NoOwner
            | Error::Internal(_) => travel(error),
        }
    }
}

#[test]
fn what_is_to_be_made_absent_is_told_from_what_is_to_stay() {
    let at = Timestamp::from_millis(5);
    for sale_opens_at in [None, Some(None), Some(Some(at))] {
        for refundable_until in [None, Some(None), Some(Some(at))] {
            travel(&WindowPatch { sale_opens_at, sale_closes_at: None, refundable_until });
            travel(&WindowPatch { sale_opens_at, sale_closes_at: refundable_until, refundable_until: None });
        }
    }
    for admit_per_minute in [None, Some(None), Some(Some(7))] {
        for opens_at in [None, Some(None), Some(Some(at))] {
            let order = Some(Order::ShuffleAtOpen);
            travel(&SettingsPatch { admit_per_minute, opens_at, order, ..SettingsPatch::default() });
        }
    }
}

#[test]
fn every_answer_arrives_as_it_was() {
    let at = Timestamp::from_millis(1_795_203_000_123);
    travel(&Answered { value: Wallet { user_id: anna(), balance: points(5) }, replayed: true });
    travel(&Answered { value: 17_u64, replayed: false });
    let response = Response { status: Some(503), text: "ü".into(), at };
    let deliveries = DeliveryProgress {
        passed: EventId { lsn: Lsn(9), index: 1 },
        breaker: crate::api::BreakerState::HalfOpen,
        pause: Some(Pause { until: at, reason: PauseReason::RetryAfter }),
        delivered: 4,
        failed: 5,
        last_failure: Some(response.clone()),
        last_delivered_at: None,
    };
    let receiver = Destination::Webhook { url: "https://x".into(), format: Format::Template("{{ a }}".into()) };
    let filter = [EventType::TokenUsed].into_iter().collect();
    travel(&Sink {
        id: SinkId(2),
        registration: Registration { receiver, filter, after: EventId::default() },
        created_at: at,
        disabled: Some("gone".into()),
        cursor: EventId { lsn: Lsn(8), index: 0 },
        lag: 3,
        parked: 2,
        dead_letters: 1,
        deliveries: Some(deliveries),
    });
    let letter = DeadLetter {
        event_id: EventId { lsn: Lsn(7), index: 2 },
        event_type: EventType::WalletCharged,
        subject: "s".into(),
        attempts: 9,
        last_response: Some(response),
    };
    travel(&Page { items: vec![letter], next_cursor: Some("c".into()) });
    for status in [TokenStatus::Waiting, TokenStatus::Active, TokenStatus::Used, TokenStatus::Expired] {
        travel(&Token {
            id: TokenId { concert: ConcertId(1), no: 2 },
            token: "t1-2.ff".into(),
            concert_id: ConcertId(1),
            status,
            position: Some(3),
            ahead: None,
            queue_size: 4,
            expected_wait_seconds: None,
            refresh_interval_seconds: 5,
            expires_at: Some(at),
        });
    }
    ReservationStatus::ALL.iter().for_each(travel);
    crate::api::PaymentStatus::ALL.iter().for_each(travel);
    let payment = PaymentId { option: OptionId(4), no: 6 };
    let owed = OwedItem {
        id: "p4-6-1".into(),
        kind: OwedKind::Refund,
        reference: None,
        amount: points(3),
        since: at,
        attempts: 2,
        by_hand: true,
    };
    let provided = Provided {
        method: "card".into(),
        currency: Currency::KRW,
        expires_at: at,
        provider_id: "ff-p4-6".into(),
        verdict: Some(Verdict::Refund),
        refunded: 1,
        disputed: true,
        shortfall: 2,
        owed: Some(vec![owed]),
    };
    travel(&Payment {
        id: payment,
        reservation_id: ReservationId { option: OptionId(4), no: 5 },
        user_id: anna(),
        amount: points(7),
        status: crate::api::PaymentStatus::RefundOwed,
        balance: None,
        paid_at: Some(at),
        provided: Some(Box::new(provided)),
        given_back: Some(3),
    });
    travel(&Refund {
        id: RefundId { option: OptionId(4), no: 7 },
        payment_id: payment,
        amount: points(7),
        balance: None,
        refunded_at: None,
        status: Some(RefundStatus::Owed),
    });
}

/// Reads the call out of its bytes, and tells what it has read.
struct Tell;

impl table::Serve for Tell {
    type Served<'a> = (u16, String);

    fn serve<'a, C: Call>(
        self,
        call: C,
        _: &'a Arc<crate::engine::Inner>,
    ) -> std::pin::Pin<Box<dyn Future<Output = (u16, String)> + Send + 'a>> {
        let told = (C::NUMBER, format!("{call:?}"));
        Box::pin(std::future::ready(told))
    }
}

async fn open(adjust: impl FnOnce(&mut Config)) -> (Engine, Loopback, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
    config.journal.segment_bytes = 1 << 20;
    config.storage.min_free_bytes = 1 << 20;
    adjust(&mut config);
    let loopback = Loopback::default();
    (Engine::open_forwarding(config, None, &loopback).await.unwrap(), loopback, dir)
}

#[tokio::test]
async fn every_call_arrives_as_it_was() {
    let (engine, _, _dir) = open(|_| ()).await;
    let (at, caller) = (Timestamp::from_millis(7), Caller::User(anna()));
    let (option, concert, sink) = (OptionId(4), ConcertId(3), SinkId(2));
    let (reservation, payment) = (ReservationId { option, no: 5 }, PaymentId { option, no: 6 });
    let token = TokenId { concert, no: 9 };
    let event = EventId { lsn: Lsn(77), index: 1 };
    let settings = Settings { mode: Mode::Queue, opens_at: Some(at), ..Settings::default() };
    let mut sent = Vec::new();
    let mut told = Vec::new();
    macro_rules! send {
        ($($call:expr),* $(,)?) => {$({
            let call = $call;
            let arrived = table::serve(&table::to_bytes(&call), &engine.0, Tell).expect("it is known").await;
            sent.push(number(&call));
            told.push(arrived.0);
            assert_eq!(arrived.1, format!("{call:?}"));
        })*};
    }
    fn number<C: Call>(_: &C) -> u16 {
        C::NUMBER
    }
    let new_option = NewOption {
        prices: vec![("A".into(), points(1)), ("B".into(), Points::ZERO)],
        areas: vec![NewArea { name: "Lawn".into(), capacity: 9, category: "B".into() }],
        sale_opens_at: Some(at),
        refundable_until: Some(at),
        focus: Some(Focus::Point { x: 1.5, y: -2.0 }),
        accessible: vec!["A".into()],
        ..NewOption::new(at, Vec::new())
    };
    let best = BestAvailable { count: 2, category: Some("A".into()), zone: None, adjacent: true, companions: 1 };
    let fact = Fact {
        kind: Kind::DisputeLost,
        reference: "r".into(),
        id: Some("i".into()),
        amount: points(7),
        currency: "EUR".parse().unwrap(),
        at: Some(at),
        reason: Some("ü".into()),
    };
    let hold = |wish| Hold { option, user: anna(), wish, queue_token: Some("t.f".into()), key: key(), note: None };
    let note = Some(Box::new(Note { reference: Some("ü".into()), data: Some("{}".into()) }));
    let patch =
        ConcertPatch { venue: Some(None), image_url: Some(Some("https://x".into())), ..ConcertPatch::default() };
    let transfer = TransferId { option, reservation: 3, no: 4 };
    send![
        CreateConcert { concert: NewConcert { title: "ä".into(), waiting_room: settings }, key: key() },
        AddOption { concert, option: new_option, plan: PlanHash([7; 32]), key: None },
        RescheduleOption { id: option, patch: WindowPatch { refundable_until: Some(None), ..WindowPatch::default() } },
        BlockSeats { id: option, seats: vec!["1".into()], key: key(), by: Some(anna()) },
        UnblockSeats { id: option, seats: vec![], key: None, by: None },
        ConfigureWaitingRoom {
            concert,
            patch: SettingsPatch { mode: Some(Mode::Paused), ..SettingsPatch::default() },
            by: Some(anna()),
        },
        IssueToken { concert, user: anna() },
        LeaveQueue { caller: Caller::Admin, id: token },
        LeaveQueue { caller: Caller::Staff(anna()), id: token },
        hold(Wish::Seats(vec!["1".into(), "2".into()])),
        hold(Wish::BestAvailable(best)),
        Hold { note: note.clone(), ..hold(Wish::Areas(vec![("Lawn".into(), 3)])) },
        Release { caller: caller.clone(), id: reservation },
        Pay { user: anna(), id: reservation, key: key() },
        GiveBack { caller: caller.clone(), id: payment, key: None },
        Charge { user: anna(), amount: Points::MAX, by: anna(), key: None },
        RegisterSink {
            receiver: Destination::Webhook { url: "https://x".into(), format: Format::Batch },
            filter: EventFilter::ALL,
            start: Start::After(event),
        },
        AttachSink { name: "host".into(), filter: EventFilter::NONE, start: Start::Beginning },
        RemoveSink { id: sink },
        RotateSecret { id: sink, previous_until: at },
        DropDeadLetter { id: sink, event },
        Redrive { id: sink, event: Some(event), key: key() },
        Seen { concert, tokens: vec![1, u64::MAX] },
        BeginPayment { user: anna(), id: reservation, method: "card".into(), key: key() },
        GiveUp { caller: caller.clone(), id: payment },
        Report { id: payment, fact },
        Attempted { id: payment, owed: 3, attempt: 4 },
        Adjust { user: anna(), amount: -7, reason: "ü".into(), by: anna(), key: key() },
        ChangeConcert { id: concert, patch, by: anna() },
        ReleasePart { caller: caller.clone(), id: reservation, part: Portion::seats(["1"]), key: key() },
        GiveBackPart { caller: caller.clone(), id: payment, part: Portion::places("Lawn", 2), key: None },
        Exchange {
            caller: caller.clone(),
            id: reservation,
            give: Portion::seats(["1"]),
            take: Portion::places("Lawn", 1),
            queue_token: Some("t.f".into()),
            key: key(),
        },
        OfferTransfer { caller: caller.clone(), id: reservation, to: anna(), key: key() },
        WithdrawTransfer { caller: caller.clone(), id: transfer },
        AcceptTransfer { user: anna(), id: transfer, key: None },
        HandOn { id: reservation, to: anna(), key: None, by: Some(anna()) },
        HoldFor {
            option,
            user: anna(),
            wish: Wish::seats(["1"]),
            office: Office { complimentary: true, beyond_limits: false, from_blocked: true },
            key: key(),
            note: note.clone(),
            by: Some(anna()),
        },
        HoldUntil { id: reservation, expires_at: at, by: None },
        GetTransfer { user: anna(), id: transfer },
        CallOff { id: option, reason: Some("ill".into()), by: anna(), key: key() },
        ChangeOption {
            id: option,
            patch: OptionPatch {
                starts_at: Some(at),
                prices: vec![Price { category: "A".into(), points: points(7) }],
                areas: vec![AreaPatch { name: "Lawn".into(), capacity: Some(9), category: None }],
                max_seats_per_user: Some(3),
                ..OptionPatch::default()
            },
            by: anna(),
        },
        ReplacePlan {
            id: option,
            new: NewSeatingPlan {
                prices: vec![("A".into(), points(7))],
                accessible: Some(vec!["A".into()]),
                focus: Some(Focus::Zones { zones: vec!["Stalls".into()] }),
                ..NewSeatingPlan::default()
            },
            plan: PlanHash([3; 32]),
            by: anna(),
            key: key(),
        },
        DeleteOption { id: option, by: anna() },
        DeleteConcert { id: concert, by: anna() },
        Block {
            id: option,
            blocks: Blocks {
                seats: vec!["1".into()],
                zones: vec!["Hall".into()],
                rows: vec![("Hall".into(), "A".into())],
                areas: vec![("Lawn".into(), 3)],
                reason: Some("cameras".into()),
            },
            by: anna(),
            key: key(),
        },
        Unblock { id: option, blocks: Blocks::default(), by: anna(), key: None },
        GetToken { caller: caller.clone(), id: token },
        GetReservation { caller: caller.clone(), id: reservation },
        ListReservations { user: anna(), status: Some(ReservationStatus::Paying), request: page() },
        GetPayment { caller, id: payment },
        ListPayments { user: anna(), request: page() },
        GetWallet { user: anna() },
        ListEntries { user: anna(), request: page() },
        ListSinks {},
        GetSink { id: sink },
        ListDeadLetters { id: sink, request: page() },
        Confirm {},
        GetDefinition { id: option },
        GetOwed { id: payment },
        ListProvided { filter: PaymentFilter::Shortfall, request: page() },
    ];
    assert_eq!(told, sent);
    sent.dedup();
    assert_eq!(sent, table::NUMBERS, "every call, and each with a number of its own");
    for garbage in [&b""[..], &[0x82], &[0x80], &[0x82, 0x19, 0xff, 0xff, 0x80], b"garbage"] {
        assert!(table::serve(garbage, &engine.0, Tell).is_none(), "{garbage:?}");
    }
    travel(&(sink, SinkSecret([3; _])));
    engine.shutdown().await.unwrap();
}

#[test]
fn lists_are_halved_until_they_fit() {
    let call = ListPayments { user: anna(), request: PageRequest { limit: 5, cursor: Some("9".into()) } };
    let halved = call.halved().unwrap();
    assert_eq!(halved.request, PageRequest { limit: 2, cursor: Some("9".into()) });
    assert!(halved.halved().unwrap().halved().is_none());
    assert!(GetWallet { user: anna() }.halved().is_none());
}

/// Answers what it is told to, whatever is asked.
struct Says {
    owners: watch::Sender<Option<OwnerId>>,
    answer: Box<dyn Fn() -> serving::Answered + Send + Sync>,
}

fn secret() -> Secret {
    Secret::new(&[9; 32]).unwrap()
}

impl Forward for Says {
    fn owners(&self) -> watch::Receiver<Option<OwnerId>> {
        self.owners.subscribe()
    }

    fn send<'a>(&'a self, _: &'a OwnerId, question: Vec<u8>, _: Duration) -> Sending<'a, Vec<u8>> {
        let question: envelope::Question<'_> = envelope::open(&secret(), &question).unwrap();
        let body = minicbor::to_vec((self.answer)()).unwrap();
        let answer = envelope::seal(&secret(), &envelope::Answer { nonce: question.nonce, body: &body });
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn put_plan(&self, _: PlanHash, _: Vec<u8>) -> Sending<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn plan(&self, _: PlanHash) -> Sending<'_, Option<Vec<u8>>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

#[tokio::test]
async fn an_answer_is_given_though_this_node_is_behind_which_it_then_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
    config.journal.segment_bytes = 1 << 20;
    config.storage.min_free_bytes = 1 << 20;
    config.forwarding.behind_ms = 20;
    let engine = Engine::open(config).await.unwrap();
    engine.charge(&anna(), points(1), &anna(), None).await.unwrap();
    let (ahead, wallet) = (Lsn(engine.durable_lsn().0 + 2), Wallet { user_id: anna(), balance: points(77) });
    let bytes = minicbor::to_vec(&wallet).unwrap();
    let answer = move || serving::Answered { lsn: ahead, outcome: serving::Outcome::Done(bytes.clone()) };
    let owners = watch::Sender::new(Some(OwnerId { node: "other".into(), epoch: 9 }));
    engine.forward_by(Arc::new(Says { owners, answer: Box::new(answer) }), secret());
    // While it owns itself, it asks nobody.
    assert_eq!(engine.wallet(&anna()).await.unwrap().balance, points(1));
    engine.end_term().await.unwrap();
    assert!(engine.health().ready, "{:?}", engine.health());
    assert_eq!(engine.wallet(&anna()).await.unwrap(), wallet);
    let health = engine.health();
    assert!(!health.ready && health.reasons.iter().any(|reason| reason.contains("taken in")), "{health:?}");
    // It may not say that something is not there, before it has taken in what the owner knows.
    let told = engine.concert(ConcertId(5)).await;
    assert!(matches!(told, Err(Error::Overloaded(_))), "{told:?}");
    engine.begin_term().await.unwrap();
    for _ in 0..2 {
        engine.charge(&anna(), points(1), &anna(), None).await.unwrap();
    }
    assert_eq!(engine.wallet(&anna()).await.unwrap().balance, points(3));
    assert!(engine.health().ready, "{:?}", engine.health());
    let told = engine.concert(ConcertId(5)).await;
    assert!(matches!(told, Err(Error::Rejected(Rejection::NotFound))), "{told:?}");
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_an_owner_says_in_words_that_are_not_known_leaves_the_outcome_open() {
    let (engine, _, _dir) = open(|_| ()).await;
    let _ = engine.0.away.get().expect("it asks");
    let told = edge::answer::<Charge>(serving::Outcome::Done(b"garbage".to_vec()));
    assert!(matches!(told, Err(Error::OutcomeUnknown(_))), "{told:?}");
    let told = edge::answer::<GetWallet>(serving::Outcome::Done(Vec::new()));
    assert!(matches!(told, Err(Error::Internal(_))), "{told:?}");
    let told = edge::answer::<Charge>(serving::Outcome::Unknown);
    assert!(matches!(told, Err(Error::Internal(_))), "{told:?}");
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_order_is_told_by_a_node_that_has_not_even_heard_of_its_option() {
    let (owner, loopback, _dir) = open(|_| ()).await;
    let (edge, _edge_dir) = {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
        config.journal.segment_bytes = 1 << 20;
        config.storage.min_free_bytes = 1 << 20;
        config.forwarding.behind_ms = 20;
        (Engine::open(config).await.unwrap(), dir)
    };
    loopback.lead_from(&edge);
    let concert = owner.create_concert(NewConcert::new("Concert"), None).await.unwrap().value.id;
    let plan = br#"{"categories":[{"name":"A"}],"zones":[{"name":"Hall","rows":[{"row_number":"1","seats":[
        {"seat_guid":"x","seat_number":"1","category":"A","position":{"x":0,"y":0}}]}]}]}"#;
    let tomorrow = owner.now().plus_millis(86_400_000);
    let option = NewOption { prices: vec![("A".into(), points(70))], ..NewOption::new(tomorrow, plan.to_vec()) };
    let option = owner.add_option(concert, option, None).await.unwrap().value.id;
    let held = edge.hold(option, &anna(), Wish::Seats(vec!["x".into()]), None, key()).await.unwrap();
    assert_eq!((held.value.amount, held.value.seats().next().unwrap().id), (points(70), "x"));
    assert!(edge.hold(option, &anna(), Wish::Seats(vec!["x".into()]), None, key()).await.unwrap().replayed);
    let found = edge.reservations(&anna(), None, &PageRequest::default()).await.unwrap().items;
    assert_eq!(serde_json::to_value(&found[0]).unwrap(), serde_json::to_value(&held.value).unwrap());
    // What it would tell from its own replica it does not tell.
    let told = edge.seats(option).await.map(drop);
    assert!(matches!(told, Err(Error::Overloaded(_))), "{told:?}");
    assert!(!edge.health().ready, "{:?}", edge.health());
    edge.shutdown().await.unwrap();
    owner.shutdown().await.unwrap();
}

/// Waits for what is asked for again and again.
async fn eventually<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let until = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until).await.unwrap_or_else(|_| panic!("{what}: it never came"));
}

#[tokio::test]
async fn those_who_wait_are_told_when_the_owner_does_not_hear_of_them() {
    let (engine, loopback, _dir) = open(|_| ()).await;
    let waiting_room = Settings { mode: Mode::Paused, waiting_ttl_seconds: 1, ..Settings::default() };
    let concert = NewConcert { title: "Concert".into(), waiting_room };
    let concert = engine.create_concert(concert, None).await.unwrap().value.id;
    let token = engine.issue_token(concert, &anna()).await.unwrap().token;
    let holder = Caller::User(anna());
    // Far longer than one may be silent, by polls alone.
    let is_cut_off = Arc::new(AtomicBool::new(false));
    let (cut_off, heard) = (is_cut_off.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = heard.clone();
    loopback.befall(move || match cut_off.load(Ordering::Relaxed) {
        true => Fate::LostBefore,
        false => {
            counted.fetch_add(1, Ordering::Relaxed);
            Fate::Arrives
        }
    });
    let poll = async || engine.token(&holder, token.id).await;
    eventually("the owner hears of it again and again", || async {
        assert_eq!(poll().await.unwrap().status, TokenStatus::Waiting);
        heard.load(Ordering::Relaxed) >= 8
    })
    .await;
    is_cut_off.store(true, Ordering::Relaxed);
    eventually("who asks is told", || async { matches!(poll().await, Err(Error::NoOwner)) }).await;
    is_cut_off.store(false, Ordering::Relaxed);
    // If the owner is heard of again in time; else the token is gone, and the owner says so.
    eventually("it goes on", || async { poll().await.is_ok() }).await;
    engine.shutdown().await.unwrap();
}

/// Leads to an engine as [`Loopback`] does, and lets calls go when there are permits.
struct Gated {
    loopback: Loopback,
    gate: tokio::sync::Semaphore,
    came: AtomicUsize,
}

impl Forward for Arc<Gated> {
    fn owners(&self) -> watch::Receiver<Option<OwnerId>> {
        self.loopback.owners()
    }

    fn send<'a>(&'a self, to: &'a OwnerId, question: Vec<u8>, time_left: Duration) -> Sending<'a, Vec<u8>> {
        self.came.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            self.loopback.send(to, question, time_left).await
        })
    }

    fn put_plan(&self, hash: PlanHash, json: Vec<u8>) -> Sending<'_, ()> {
        self.loopback.put_plan(hash, json)
    }

    fn plan(&self, hash: PlanHash) -> Sending<'_, Option<Vec<u8>>> {
        self.loopback.plan(hash)
    }
}

#[tokio::test]
async fn all_who_wait_share_one_question() {
    const ASK: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
    config.journal.segment_bytes = 1 << 20;
    config.storage.min_free_bytes = 1 << 20;
    let engine = Engine::open(config).await.unwrap();
    let loopback = Loopback::default();
    let gated =
        Arc::new(Gated { loopback: loopback.clone(), gate: tokio::sync::Semaphore::new(0), came: AtomicUsize::new(0) });
    engine.forward_always_by(Arc::new(gated.clone()), Secret::new(&loopback::SECRET).unwrap());
    loopback.lead(&engine);
    let missing = Error::Rejected(Rejection::NotFound);
    let asking = futures_util::future::join_all((0..ASK).map(|_| engine.0.may_have_come(&missing)));
    let mut asking = Box::pin(asking);
    // All of them have come when the first one's question is under way.
    assert!(futures_util::poll!(&mut asking).is_pending());
    assert_eq!(gated.came.load(Ordering::Relaxed), 1);
    gated.gate.add_permits(2);
    assert!(asking.await.into_iter().all(|told| told.unwrap()));
    assert_eq!(gated.came.load(Ordering::Relaxed), 2, "one for the first of them, and one for all others");
    // What failed is said to all who shared it, and to nobody who came later.
    loopback.befall_once(Fate::LostBefore);
    gated.gate.add_permits(2);
    let told = engine.0.may_have_come(&missing).await;
    assert!(matches!(told, Err(Error::OutcomeUnknown(_))), "{told:?}");
    assert!(engine.0.may_have_come(&missing).await.unwrap());
    assert!(!engine.0.may_have_come(&Error::StorageFull).await.unwrap(), "of that there is nothing to be asked");
    engine.shutdown().await.unwrap();
}

#[test]
fn a_reservation_travels_without_its_plan() {
    let bytes = minicbor::to_vec(bare()).unwrap();
    assert!(bytes.len() < 120, "{} bytes", bytes.len());
    travel(&Answered { value: bare(), replayed: true });
}

fn bare() -> BareReservation {
    let held = crate::domain::concert_option::Reservation {
        user: anna(),
        seats: smallvec![1, 2, 70_000],
        areas: smallvec![],
        amount: points(300),
        created_at: Timestamp::from_millis(1_795_203_000_123),
        expires_at: Timestamp::from_millis(1_795_203_300_123),
        token: Some(4),
        status: crate::domain::concert_option::ReservationStatus::Held,
        steps: smallvec![],
        note: None,
        prices: [points(100)].into_iter().collect(),
        course: None,
    };
    BareReservation::new(ReservationId { option: OptionId(3), no: 7 }, held)
}
