//! Every step of a payment and of a refund meets every failure, in a real engine on real files; and each time the money,
//! the seats, the statuses and the answers come out as they should.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use boxoffice::domain::concert_option::{self, FailureReason};
use boxoffice::domain::invariants::Audit;
use boxoffice::domain::wallet::Wallet;
use boxoffice::domain::{Aggregate, Ignore, waiting_room};
use boxoffice::store::codec::Facts;
use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::data_dir::records;
use boxoffice::testing::failpoints::{Action, Failpoints, Left, Step};
use boxoffice::{
    Caller, Config, Engine, Error, Lsn, NewOption, OptionId, PaymentId, PaymentStatus, Points, Rejection,
    ReservationId, ReservationStatus, RoomMode, RoomSettings, SeatStatus, StepKind, TokenId, TokenStatus, UserId,
    verify,
};
use common::*;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// From the beginning of a payment until it is called off.
const PAYMENT_SECONDS: u32 = 3_600;
/// From the hold until it expires.
const HOLD_SECONDS: u32 = 10_800;
/// What the seat costs, what is charged by whoever can pay it, and by whoever cannot.
const PRICE: u64 = 100;
const ENOUGH: u64 = 150;
const TOO_LITTLE: u64 = 40;
/// Between two times that a step is sent which is not acknowledged.
const RESEND_MS: u64 = 1_000;
/// How many engines run at a time.
const AT_ONCE: usize = 6;
/// After how many that went wrong to stop.
const WRONG_MAX: usize = 6;

/// When it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the step is sent.
    Before,
    /// When the step has been handled, before it is acknowledged.
    After,
}

/// What becomes of sled's folder before the engine is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sled {
    Kept,
    Deleted,
}

/// When a message arrives that is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrives {
    /// After the payment's deadline, before the debit is called off.
    PastDeadline,
    /// When it has been decided what becomes of calling it off.
    PastCancel,
    /// When everything has come to its end.
    AtTheEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Crash(When, Left, Sled),
    /// The message is lost, and sent again in time.
    LostOnce,
    /// It is lost until the payment's deadline has passed.
    LostPastDeadline,
    /// It is lost until the hold's deadline has passed.
    LostPastHold,
    /// The receiver says no.
    Refused,
    Late(Arrives),
    Twice,
}

impl Failure {
    fn all() -> Vec<Self> {
        let mut all = vec![Self::LostOnce, Self::LostPastDeadline, Self::LostPastHold, Self::Refused, Self::Twice];
        all.extend([Arrives::PastDeadline, Arrives::PastCancel, Arrives::AtTheEnd].map(Self::Late));
        for when in [When::Before, When::After] {
            for left in [Left::Appended, Left::Durable] {
                all.extend([Sled::Kept, Sled::Deleted].map(|sled| Self::Crash(when, left, sled)));
            }
        }
        all
    }
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Paid,
    /// The token was not active any more when it was to be completed.
    PaidWithoutToken,
    /// There were not enough points.
    Poor,
    /// There were not, and by the time that the option hears of it, the hold is over.
    PoorAndExpired,
    /// The debit was called off.
    TimedOut,
    TimedOutAndExpired,
    Refunded,
}

const ANSWER: Result<End, &str> = Err("it is an answer: the option takes the first, and ignores all others");
const NO_DEADLINE: Result<End, &str> = Err("it is sent until it is acknowledged, without a deadline");
const NOT_BEFORE: Result<End, &str> = Err("it is not sent before the deadline");

/// What must come of it; or why it cannot happen.
fn row(step: Step, failure: Failure) -> Result<End, &'static str> {
    use Failure::{Crash, Late, LostOnce, LostPastDeadline, LostPastHold, Refused, Twice};
    match step {
        Step::Debit => match failure {
            // Late, but before it was called off.
            Crash(..) | LostOnce | Twice | Late(Arrives::PastDeadline) => Ok(End::Paid),
            LostPastDeadline | Late(Arrives::PastCancel | Arrives::AtTheEnd) => Ok(End::TimedOut),
            LostPastHold => Ok(End::TimedOutAndExpired),
            Refused => Ok(End::Poor),
        },
        // What was debited is paid, however late the option hears of it: its seats are kept.
        Step::Debited => match failure {
            Crash(..) | LostOnce | LostPastDeadline | LostPastHold | Twice | Late(_) => Ok(End::Paid),
            Refused => ANSWER,
        },
        Step::Refused => match failure {
            Crash(..) | LostOnce | LostPastDeadline | Twice | Late(_) => Ok(End::Poor),
            LostPastHold => Ok(End::PoorAndExpired),
            Refused => ANSWER,
        },
        Step::CancelDebit => match failure {
            Crash(..) | LostOnce | LostPastDeadline | Twice => Ok(End::TimedOut),
            LostPastHold => Ok(End::TimedOutAndExpired),
            // The wallet answers that it was debited.
            Refused => Ok(End::Paid),
            Late(Arrives::PastDeadline) => NOT_BEFORE,
            Late(Arrives::PastCancel | Arrives::AtTheEnd) => Ok(End::TimedOut),
        },
        Step::Cancelled => match failure {
            Crash(..) | LostOnce | LostPastDeadline | Twice => Ok(End::TimedOut),
            LostPastHold => Ok(End::TimedOutAndExpired),
            Refused => ANSWER,
            Late(Arrives::PastDeadline) => NOT_BEFORE,
            Late(Arrives::PastCancel | Arrives::AtTheEnd) => Ok(End::TimedOut),
        },
        Step::CompleteToken => match failure {
            Crash(..) | LostOnce | LostPastDeadline | LostPastHold | Twice | Late(Arrives::AtTheEnd) => Ok(End::Paid),
            // It is acknowledged all the same.
            Refused => Ok(End::PaidWithoutToken),
            Late(Arrives::PastDeadline | Arrives::PastCancel) => NO_DEADLINE,
        },
        Step::TokenCompleted => match failure {
            Crash(..) | LostOnce | LostPastDeadline | LostPastHold | Twice | Late(Arrives::AtTheEnd) => Ok(End::Paid),
            Refused => ANSWER,
            Late(Arrives::PastDeadline | Arrives::PastCancel) => NO_DEADLINE,
        },
        Step::Credit => match failure {
            Crash(..) | LostOnce | LostPastDeadline | LostPastHold | Twice | Late(Arrives::AtTheEnd) => {
                Ok(End::Refunded)
            }
            // There is no such thing: not even a wallet that takes no more charges refuses a credit.
            Refused => Ok(End::Refunded),
            Late(Arrives::PastDeadline | Arrives::PastCancel) => NO_DEADLINE,
        },
        Step::Credited => match failure {
            Crash(..) | LostOnce | LostPastDeadline | LostPastHold | Twice | Late(Arrives::AtTheEnd) => {
                Ok(End::Refunded)
            }
            Refused => ANSWER,
            Late(Arrives::PastDeadline | Arrives::PastCancel) => NO_DEADLINE,
        },
    }
}

/// What the caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Paid(PaymentId, Points),
    Refunded(PaymentId, Points),
    Poor(Points),
    TimedOut,
    Unknown,
}

impl Told {
    fn of_payment(told: Result<boxoffice::Answered<boxoffice::Payment>, Error>) -> Self {
        match told {
            Ok(paid) => Self::Paid(paid.value.id, paid.value.balance.unwrap()),
            Err(error) => Self::of_error(error),
        }
    }

    fn of_error(error: Error) -> Self {
        match error {
            Error::Rejected(Rejection::InsufficientPoints { balance, amount }) if amount == points(PRICE) => {
                Self::Poor(balance)
            }
            Error::Rejected(Rejection::PaymentTimedOut) => Self::TimedOut,
            Error::OutcomeUnknown(_) => Self::Unknown,
            error => panic!("{error}"),
        }
    }
}

/// All that has happened, read from the journal.
#[derive(Default)]
struct Books {
    audit: Audit,
    options: BTreeMap<OptionId, concert_option::ConcertOption>,
    wallets: BTreeMap<UserId, Wallet>,
    /// How often each token was used.
    used: BTreeMap<u64, usize>,
    begun: usize,
    failed: Vec<FailureReason>,
}

impl Books {
    fn read(engine: &Engine, config: &Config) -> Self {
        let mut books = Self::default();
        for (first, record) in records(&config.data_dir, Lsn(engine.stats().durable_lsn)).unwrap() {
            match &record.facts {
                Facts::Catalogue(..) | Facts::Sink(..) => {}
                Facts::Option(id, events) => {
                    for (meta, event) in record.metas(first).zip(events) {
                        books.audit.option_event(*id, meta, event).unwrap();
                        books.options.entry(*id).or_default().evolve(meta, event, &mut Ignore);
                        match event {
                            concert_option::Event::PaymentStarted { .. }
                            | concert_option::Event::PaymentRefunded { .. } => books.begun += 1,
                            concert_option::Event::PaymentFailed { reason, .. } => books.failed.push(*reason),
                            _ => {}
                        }
                    }
                }
                Facts::Wallet(user, events) => {
                    for (meta, event) in record.metas(first).zip(events) {
                        books.audit.wallet_event(user, event).unwrap();
                        books.wallets.entry(user.clone()).or_default().evolve(meta, event, &mut Ignore);
                    }
                }
                Facts::Room(id, events) => {
                    for (meta, event) in record.metas(first).zip(events) {
                        books.audit.room_event(*id, meta, event).unwrap();
                        if let waiting_room::Event::TokenUsed { no } = event {
                            *books.used.entry(*no).or_default() += 1;
                        }
                    }
                }
            }
        }
        for (id, option) in &books.options {
            books.audit.agrees_with_option(*id, option).unwrap();
        }
        for (user, wallet) in &books.wallets {
            books.audit.agrees_with_wallet(user, wallet).unwrap();
        }
        books.audit.money(books.wallets.values()).unwrap();
        books.audit.sagas().unwrap();
        books
    }

    fn owes(&self) -> bool {
        self.options.values().any(Aggregate::owes)
    }
}

/// A buyer with points and a token who holds a seat.
struct Stage {
    _dir: tempfile::TempDir,
    config: Config,
    clock: ManualClock,
    engine: Engine,
    failpoints: Failpoints,
    option: OptionId,
    user: UserId,
    token: TokenId,
    held: ReservationId,
    charged: Points,
}

impl Stage {
    async fn set(charged: Points) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir.path().join("data"));
        let (clock, failpoints) = (ManualClock::at(LONG_AGO), Failpoints::default());
        let engine = Engine::open_failing(config.clone(), &clock, &failpoints).await.unwrap();
        let settings = RoomSettings { mode: RoomMode::Queue, active_ttl_seconds: 86_400, ..RoomSettings::default() };
        let concert = engine.create_concert(new_concert("Queue", settings), None).await.unwrap().value.id;
        let option =
            NewOption { hold_seconds: HOLD_SECONDS, payment_seconds: PAYMENT_SECONDS, ..new_option(&engine, 2, 2) };
        let option = engine.add_option(concert, option, None).await.unwrap().value.id;
        let user = user(1);
        charge(&engine, &user, charged.get()).await;
        let token = engine.issue_token(concert, &user).await.unwrap().token.id;
        let active = eventually("the token is active", || async {
            let token = engine.token(&Caller::Admin, token).await.unwrap();
            (token.status == TokenStatus::Active).then_some(token.token)
        });
        let held = engine.hold(option, &user, seats(&["1-1"]), Some(&active.await), None).await.unwrap().value.id;
        Self { _dir: dir, config, clock, engine, failpoints, option, user, token, held, charged }
    }

    fn pay(&self) -> JoinHandle<Told> {
        let (engine, user, held) = (self.engine.clone(), self.user.clone(), self.held);
        tokio::spawn(async move { Told::of_payment(engine.pay(&user, held, None).await) })
    }

    fn refund(&self, payment: PaymentId) -> JoinHandle<Told> {
        let engine = self.engine.clone();
        tokio::spawn(async move {
            match engine.refund(&Caller::Admin, payment, None).await {
                Ok(refund) => Told::Refunded(refund.value.payment_id, refund.value.balance.unwrap()),
                Err(error) => Told::of_error(error),
            }
        })
    }

    async fn sent(&self, step: Step, times: usize) {
        let failpoints = &self.failpoints;
        eventually(&format!("{step:?} is sent {times} times"), || async {
            (failpoints.sent(step) >= times).then_some(())
        })
        .await;
    }

    /// How often a wallet has said what became of a debit.
    fn answers(&self) -> usize {
        [Step::Debited, Step::Refused, Step::Cancelled].map(|step| self.failpoints.sent(step)).iter().sum()
    }

    fn pass_deadline(&self) {
        self.clock.advance(u64::from(PAYMENT_SECONDS) * 1_000);
    }

    /// Lets what is owed be sent again until nothing is.
    async fn settle(&self) -> Books {
        // The journal tells of what is durable: this is so only after everything that has happened up to now.
        charge(&self.engine, &name("somebody-else"), 1).await;
        for ask in 0.. {
            let books = Books::read(&self.engine, &self.config);
            if !books.owes() && books.audit.settled().is_ok() {
                return books;
            }
            assert!(ask < 3_000, "something is owed, or under way, for ever");
            // Less often than it is looked, so that deadlines stay far.
            if ask % 20 == 0 {
                self.clock.advance(RESEND_MS);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        unreachable!()
    }

    /// The engine has died; it is opened again.
    async fn come_back(&mut self, sled: Sled) {
        let reason = tokio::time::timeout(PATIENCE, self.engine.failure()).await.expect("it dies");
        assert!(reason.contains("failpoint"), "{reason}");
        // The threads have to end before the directory is free; nothing is written any more.
        assert!(matches!(self.engine.shutdown().await, Err(Error::OutcomeUnknown(_))));
        let report = verify(&self.config).unwrap();
        assert!(report.ok && !report.sealed, "{report}");
        if sled == Sled::Deleted {
            fs::remove_dir_all(self.config.data_dir.join("state")).unwrap();
        }
        self.failpoints = Failpoints::default();
        self.engine = Engine::open_failing(self.config.clone(), &self.clock, &self.failpoints).await.unwrap();
    }

    /// Lets a failure befall a step that is about to be reached by `call`.
    async fn suffer(&mut self, step: Step, failure: Failure) {
        let past = matches!(step, Step::CancelDebit | Step::Cancelled);
        let pays = past || matches!(step, Step::Debit | Step::Debited | Step::Refused);
        match failure {
            Failure::Crash(_, _, sled) => self.come_back(sled).await,
            Failure::LostOnce => {
                self.sent(step, 1).await;
                self.clock.advance(RESEND_MS);
                self.sent(step, 2).await;
            }
            Failure::LostPastDeadline | Failure::LostPastHold => {
                self.sent(step, 1).await;
                let answers = self.answers();
                match failure {
                    Failure::LostPastHold => self.clock.advance(u64::from(HOLD_SECONDS) * 1_000),
                    _ => self.pass_deadline(),
                }
                match step {
                    // Instead of it.
                    Step::Debit => self.until_cancel_is_answered(answers).await,
                    _ => self.sent(step, 2).await,
                }
                self.failpoints.disarm(step);
            }
            Failure::Late(arrives) => {
                self.sent(step, 1).await;
                let answers = self.answers();
                if pays && !past {
                    self.pass_deadline();
                } else {
                    self.clock.advance(RESEND_MS);
                }
                match arrives {
                    Arrives::PastDeadline => self.sent(Step::CancelDebit, 1).await,
                    Arrives::PastCancel => self.until_cancel_is_answered(answers).await,
                    Arrives::AtTheEnd => drop(self.settle().await),
                }
                assert_eq!(self.failpoints.held(step), 1);
                self.failpoints.let_go(step).await;
                self.failpoints.let_go(Step::CancelDebit).await;
            }
            Failure::Refused | Failure::Twice => self.sent(step, 1).await,
        }
    }

    async fn until_cancel_is_answered(&self, before: usize) {
        eventually("calling the debit off is answered", || async { (self.answers() > before).then_some(()) }).await;
    }

    /// What can be seen of it.
    async fn found(&self, books: &Books) -> Found {
        let engine = &self.engine;
        let reservation = engine.reservation(&Caller::Admin, self.held).await.unwrap();
        let payments = all_payments(engine, &self.user).await;
        let mut entries = all_entries(engine, &self.user).await;
        entries.reverse();
        Found {
            reservation: reservation.status,
            seat: engine.seats(self.option).await.unwrap().status("1-1").unwrap(),
            payments: payments.iter().map(|payment| payment.status).collect(),
            failed: books.failed.clone(),
            balance: engine.wallet(&self.user).await.unwrap().balance,
            entries: entries.iter().map(|entry| format!("{:?} {}", entry.kind, entry.amount)).collect(),
            token: engine.token(&Caller::Admin, self.token).await.unwrap().status,
            used: books.used.get(&self.token.no).copied().unwrap_or(0),
            steps: reservation.steps().iter().map(|step| step.step).collect(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    reservation: ReservationStatus,
    seat: SeatStatus,
    payments: Vec<PaymentStatus>,
    failed: Vec<FailureReason>,
    balance: Points,
    entries: Vec<String>,
    token: TokenStatus,
    used: usize,
    steps: Vec<StepKind>,
}

impl Found {
    /// What must be found if a payment was not begun.
    fn untouched(charged: Points) -> Self {
        Self {
            reservation: ReservationStatus::Held,
            seat: SeatStatus::Held,
            payments: vec![],
            failed: vec![],
            balance: charged,
            entries: vec![format!("Charge {charged}")],
            token: TokenStatus::Active,
            used: 0,
            steps: vec![StepKind::Held],
        }
    }

    fn expected(end: End, charged: Points) -> Self {
        let untouched = Self::untouched(charged);
        let paid = points(charged.get().saturating_sub(PRICE));
        let debited = vec![format!("Charge {charged}"), format!("Debit {PRICE}")];
        match end {
            End::Paid | End::PaidWithoutToken => Self {
                reservation: ReservationStatus::Confirmed,
                seat: SeatStatus::Sold,
                payments: vec![PaymentStatus::Completed],
                balance: paid,
                entries: debited,
                token: if end == End::Paid { TokenStatus::Used } else { TokenStatus::Expired },
                used: usize::from(end == End::Paid),
                steps: vec![
                    StepKind::Held,
                    StepKind::PaymentStarted,
                    StepKind::PaymentConfirmed,
                    StepKind::TokenCompleted,
                ],
                ..untouched
            },
            End::Poor | End::TimedOut => Self {
                payments: vec![PaymentStatus::Failed],
                failed: vec![match end {
                    End::Poor => FailureReason::InsufficientPoints { balance: charged },
                    _ => FailureReason::TimedOut,
                }],
                steps: vec![StepKind::Held, StepKind::PaymentStarted, StepKind::PaymentFailed],
                ..untouched
            },
            End::PoorAndExpired | End::TimedOutAndExpired => {
                let failed = if end == End::PoorAndExpired { End::Poor } else { End::TimedOut };
                let mut expired = Self::expected(failed, charged);
                expired.steps.push(StepKind::Expired);
                Self { reservation: ReservationStatus::Expired, seat: SeatStatus::Free, ..expired }
            }
            End::Refunded => {
                let mut paid = Self::expected(End::Paid, charged);
                paid.entries.push(format!("Credit {PRICE}"));
                paid.steps.extend([StepKind::RefundStarted, StepKind::RefundCredited]);
                Self {
                    reservation: ReservationStatus::Refunded,
                    seat: SeatStatus::Free,
                    payments: vec![PaymentStatus::Refunded],
                    balance: charged,
                    ..paid
                }
            }
        }
    }
}

/// What the caller may have been told, of these.
fn may_be_told(step: Step, failure: Failure, answer: Told) -> Vec<Told> {
    let Failure::Crash(when, ..) = failure else { return vec![answer] };
    let answered = match step {
        Step::Debit | Step::CancelDebit | Step::Credit => false,
        Step::Debited | Step::Refused | Step::Cancelled | Step::Credited => when == When::After,
        Step::CompleteToken | Step::TokenCompleted => true,
    };
    // What is durable has its answer, which is on its way when the engine dies.
    if answered { vec![answer, Told::Unknown] } else { vec![Told::Unknown] }
}

async fn walk(step: Step, failure: Failure, end: End) {
    let charged = match (step, failure) {
        (Step::Refused, _) | (Step::Debit, Failure::Refused) => points(TOO_LITTLE),
        (Step::Credit, Failure::Refused) => Points::MAX,
        _ => points(ENOUGH),
    };
    let mut stage = Stage::set(charged).await;
    let failpoints = stage.failpoints.clone();
    let refunds = matches!(step, Step::Credit | Step::Credited);
    let mut paid = None;
    if refunds {
        let Told::Paid(payment, _) = stage.pay().await.unwrap() else { panic!("it was not paid") };
        paid = Some(payment);
        stage.settle().await;
    }
    let past = matches!(step, Step::CancelDebit | Step::Cancelled);
    match (step, failure) {
        (Step::CancelDebit, Failure::Refused) => failpoints.arm(Step::Debited, Action::Lose, 1),
        (Step::CancelDebit | Step::Cancelled, _) => failpoints.arm(Step::Debit, Action::Lose, usize::MAX),
        (Step::CompleteToken, Failure::Refused) => {
            stage.engine.leave_queue(&Caller::User(stage.user.clone()), stage.token).await.unwrap();
        }
        (Step::Credit, Failure::Refused) => {
            let refused = rejection(stage.engine.charge(&stage.user, points(1), &user(0), None).await);
            assert!(matches!(refused, Rejection::LimitExceeded { .. }), "{refused:?}");
        }
        _ => {}
    }
    match failure {
        Failure::Crash(When::Before, left, _) => failpoints.arm(step, Action::CrashBefore(left), 1),
        Failure::Crash(When::After, left, _) => failpoints.arm(step, Action::CrashAfter(left), 1),
        Failure::LostOnce => failpoints.arm(step, Action::Lose, 1),
        Failure::LostPastDeadline | Failure::LostPastHold => failpoints.arm(step, Action::Lose, usize::MAX),
        Failure::Refused => {}
        Failure::Late(arrives) => {
            failpoints.arm(step, Action::Hold, 1);
            if arrives == Arrives::PastDeadline {
                failpoints.arm(Step::CancelDebit, Action::Hold, 1);
            }
        }
        Failure::Twice => failpoints.arm(step, Action::Double, 1),
    }
    let call = paid.map_or_else(|| stage.pay(), |payment| stage.refund(payment));
    if past {
        // It has begun, whatever happens then.
        let (engine, user) = (&stage.engine, &stage.user);
        eventually("the payment is under way", || async {
            all_payments(engine, user)
                .await
                .iter()
                .any(|payment| payment.status == PaymentStatus::Pending)
                .then_some(())
        })
        .await;
        stage.sent(if failure == Failure::Refused { Step::Debited } else { Step::Debit }, 1).await;
        stage.pass_deadline();
    }
    stage.suffer(step, failure).await;
    let books = stage.settle().await;
    let told = tokio::time::timeout(PATIENCE, call).await.expect("the caller is answered").unwrap();
    check(&stage, (step, failure), (end, told), &books).await;
}

/// That everything is as it must be at the end, and stays so.
async fn check(stage: &Stage, (step, failure): (Step, Failure), (end, told): (End, Told), books: &Books) {
    let (engine, user, charged) = (&stage.engine, &stage.user, stage.charged);
    let past = matches!(step, Step::CancelDebit | Step::Cancelled);
    let refunds = matches!(step, Step::Credit | Step::Credited);
    let found = stage.found(books).await;
    let may_be_lost = matches!(failure, Failure::Crash(_, Left::Durable, _)) && !past && told == Told::Unknown;
    if may_be_lost && books.begun == usize::from(refunds) {
        let before = if refunds { Found::expected(End::Paid, charged) } else { Found::untouched(charged) };
        assert_eq!(found, before, "it was never begun");
    } else {
        assert_eq!(found, Found::expected(end, charged));
        let payment = all_payments(engine, user).await[0].clone();
        let answer = match end {
            End::Paid | End::PaidWithoutToken => Told::Paid(payment.id, found.balance),
            End::Poor | End::PoorAndExpired => Told::Poor(charged),
            End::TimedOut | End::TimedOutAndExpired => Told::TimedOut,
            End::Refunded => Told::Refunded(payment.id, charged),
        };
        assert!(may_be_told(step, failure, answer).contains(&told), "was told {told:?}");
    }

    // Whatever was ever sent comes once more, and changes nothing.
    let last = engine.stats().durable_lsn;
    stage.failpoints.send_all_again().await;
    charge(engine, &name("somebody-else"), 1).await;
    assert_eq!(engine.stats().durable_lsn, last + 1);

    // Who has not paid can still do so.
    if found.reservation == ReservationStatus::Held && charged >= points(PRICE) {
        stage.failpoints.disarm(Step::Debit);
        assert!(matches!(stage.pay().await.unwrap(), Told::Paid(..)));
        stage.settle().await;
    }
    audit_money(engine, std::slice::from_ref(user)).await;
    audit_seats(engine, stage.option, std::slice::from_ref(user)).await;
    engine.shutdown().await.unwrap();
    let report = verify(&stage.config).unwrap();
    assert!(report.ok && report.sealed, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_survives_every_failure() {
    let (mut walks, permits) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    let mut cells = BTreeMap::new();
    for step in Step::ALL {
        for failure in Failure::all() {
            match row(*step, failure) {
                Ok(end) => {
                    let permits = permits.clone();
                    let walk = walks.spawn(async move {
                        let _permit = permits.acquire().await.unwrap();
                        walk(*step, failure, end).await;
                    });
                    cells.insert(walk.id(), format!("{step:?}, {failure:?}: {end:?}"));
                }
                Err(reason) => println!("{step:?}, {failure:?}: {reason}"),
            }
        }
    }
    let (mut wrong, walked) = (Vec::new(), cells.len());
    while let Some(walk) = walks.join_next_with_id().await {
        if let Err(error) = walk {
            wrong.push(format!("{}: {error}", cells[&error.id()]));
        }
        // What waits for something that never comes takes long to say so.
        if wrong.len() >= WRONG_MAX {
            break;
        }
    }
    assert!(wrong.is_empty(), "{} of {walked}:\n{}", wrong.len(), wrong.join("\n"));
}
