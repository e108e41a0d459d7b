//! What concurrent callers are told of one option and of one wallet is what they would be told if every call had happened
//! at one moment between its beginning and its end: also when the engine dies in the middle, and is opened again.
//!
//! A payment touches both. So the calls of a history are checked twice: as what they say of the seats, and as what they say
//! of the points.
//!
//! The search for an order is that of J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects" (1993), with the memory of
//! what was tried of G. Lowe, "Testing for Linearizability" (2017).

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use boxoffice::testing::failing_disk::FailingDisk;
use boxoffice::testing::random::{Random, seed};
use boxoffice::testing::sim_disk::Failure;
use boxoffice::{
    Answered, Caller, ConcertId, Engine, Error, OptionId, PaymentId, Rejection, ReservationId, ReservationStatus,
    RoomSettings, SeatStatus, UserId,
};
use common::*;
use parking_lot::Mutex;

/// How many histories are checked, unless the environment says another number.
const HISTORIES: u64 = 300;
const HISTORIES_VARIABLE: &str = "BOXOFFICE_HISTORIES";
/// Callers of one history, and the calls of each.
const CALLERS: u64 = 4;
const CALLS: u64 = 6;
/// In one of so many histories the engine dies, is opened again, and is called again.
const CRASHES: u64 = 8;
/// Seats of the option, of 100 points each.
const SEATS: usize = 5;
const PRICE: u64 = 100;

/// What calls one after the other would do.
trait Model: Clone + Eq + Hash {
    type Call;
    type Answer;
    /// Whether the answer may be this one; if so, it has happened.
    fn admits(&mut self, call: &Self::Call, answer: &Self::Answer) -> bool;
    /// It has happened, and nobody was told what came of it.
    fn happen(&mut self, call: &Self::Call);
}

/// Calls in the order in which they began.
struct History<M: Model> {
    calls: Vec<Called<M>>,
    /// Beginnings and ends so far.
    moments: usize,
}

struct Called<M: Model> {
    caller: u64,
    call: M::Call,
    begun: usize,
    /// When, and the answer. Without it, it may have happened at any time since, or never.
    ended: Option<(usize, M::Answer)>,
}

impl<M: Model> History<M> {
    fn new() -> Self {
        Self { calls: Vec::new(), moments: 0 }
    }

    fn begins(&mut self, caller: u64, call: M::Call) {
        self.moments += 1;
        self.calls.push(Called { caller, call, begun: self.moments, ended: None });
    }

    fn ends(&mut self, caller: u64, answer: M::Answer) {
        self.moments += 1;
        let last = self.calls.iter_mut().rfind(|called| called.caller == caller).unwrap();
        assert!(last.ended.replace((self.moments, answer)).is_none(), "a call ends once");
    }

    /// Whether some order explains it.
    fn is_explained(&self, start: M) -> bool {
        assert!(self.calls.len() <= u128::BITS as usize);
        // Which calls have happened, and what came of them.
        let mut to_try = vec![(0_u128, start)];
        let mut tried: HashSet<_> = to_try.iter().cloned().collect();
        while let Some((happened, state)) = to_try.pop() {
            let open = || self.calls.iter().enumerate().filter(|(n, _)| happened >> n & 1 == 0);
            let Some(first_end) = open().filter_map(|(_, called)| Some(called.ended.as_ref()?.0)).min() else {
                return true;
            };
            for (n, called) in open().filter(|(_, called)| called.begun < first_end) {
                let (mut next, happened) = (state.clone(), happened | 1 << n);
                let fits = match &called.ended {
                    Some((_, answer)) => next.admits(&called.call, answer),
                    None => {
                        next.happen(&called.call);
                        true
                    }
                };
                if fits && tried.insert((happened, next.clone())) {
                    to_try.push((happened, next));
                }
            }
        }
        false
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Seat {
    Free,
    Held,
    Sold,
}

/// What is asked of the seats.
#[derive(Debug, Clone, PartialEq)]
enum SeatsCall {
    Hold(Vec<usize>),
    Release(u64),
    Pay(u64),
    Refund(u64),
    Look,
    LookAt(u64),
}

#[derive(Debug, Clone, PartialEq)]
enum SeatsAnswer {
    Held(u64),
    Taken,
    Done,
    /// The wallet has not enough, and the seats stay held.
    Refused,
    TooLate,
    Seats([Seat; SEATS]),
    Status(&'static str),
}

/// The seats as one caller after the other would see them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SeatsModel {
    seats: [Seat; SEATS],
    /// The seats and the status of each reservation that anybody was told of. Later ones have higher numbers.
    reservations: BTreeMap<u64, (Vec<usize>, &'static str)>,
}

impl SeatsModel {
    fn new() -> Self {
        Self { seats: [Seat::Free; SEATS], reservations: BTreeMap::new() }
    }

    fn hold(&mut self, wish: &[usize]) -> bool {
        let free = wish.iter().all(|&n| self.seats[n] == Seat::Free);
        if free {
            wish.iter().for_each(|&n| self.seats[n] = Seat::Held);
        }
        free
    }

    /// Moves a reservation on, if it is where it should be.
    fn change(&mut self, no: u64, from: &str, to: &'static str, seat: Seat) -> SeatsAnswer {
        match self.reservations.get_mut(&no) {
            Some((seats, status)) if *status == from => {
                *status = to;
                seats.iter().for_each(|&n| self.seats[n] = seat);
                SeatsAnswer::Done
            }
            _ => SeatsAnswer::TooLate,
        }
    }

    fn answer(&mut self, call: &SeatsCall) -> SeatsAnswer {
        match call {
            // Nobody was told which number it has.
            SeatsCall::Hold(wish) => {
                if self.hold(wish) {
                    SeatsAnswer::Held(0)
                } else {
                    SeatsAnswer::Taken
                }
            }
            SeatsCall::Release(no) => self.change(*no, "held", "released", Seat::Free),
            SeatsCall::Pay(no) => self.change(*no, "held", "confirmed", Seat::Sold),
            SeatsCall::Refund(no) => self.change(*no, "confirmed", "refunded", Seat::Free),
            SeatsCall::Look => SeatsAnswer::Seats(self.seats),
            SeatsCall::LookAt(no) => {
                SeatsAnswer::Status(self.reservations.get(no).map_or("none", |(_, status)| status))
            }
        }
    }
}

impl Model for SeatsModel {
    type Call = SeatsCall;
    type Answer = SeatsAnswer;

    fn admits(&mut self, call: &SeatsCall, answer: &SeatsAnswer) -> bool {
        match (call, answer) {
            (SeatsCall::Hold(wish), SeatsAnswer::Held(no)) => {
                let is_later = self.reservations.last_key_value().is_none_or(|(last, _)| last < no);
                self.reservations.insert(*no, (wish.clone(), "held"));
                is_later && self.hold(wish)
            }
            // What the wallet holds is not known here.
            (SeatsCall::Pay(no), SeatsAnswer::Refused) => {
                self.reservations.get(no).is_some_and(|(_, status)| *status == "held")
            }
            _ => self.answer(call) == *answer,
        }
    }

    fn happen(&mut self, call: &SeatsCall) {
        self.answer(call);
    }
}

/// What is asked of the wallet. Payments and refunds are named by their reservation.
#[derive(Debug, Clone, PartialEq)]
enum WalletCall {
    Charge(u64),
    Pay(u64, u64),
    Refund(u64, u64),
    Look,
}

#[derive(Debug, Clone, PartialEq)]
enum WalletAnswer {
    Balance(u64),
    Refused(u64),
    /// It had been done before.
    Nothing,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct WalletModel {
    balance: u64,
    paid: BTreeSet<u64>,
    refunded: BTreeSet<u64>,
}

impl WalletModel {
    fn answer(&mut self, call: &WalletCall) -> WalletAnswer {
        match *call {
            WalletCall::Charge(amount) => self.balance += amount,
            WalletCall::Pay(no, _) if self.paid.contains(&no) => return WalletAnswer::Nothing,
            WalletCall::Pay(_, amount) if self.balance < amount => return WalletAnswer::Refused(self.balance),
            WalletCall::Pay(no, amount) => {
                self.paid.insert(no);
                self.balance -= amount;
            }
            WalletCall::Refund(no, _) if !self.paid.contains(&no) || self.refunded.contains(&no) => {
                return WalletAnswer::Nothing;
            }
            WalletCall::Refund(no, amount) => {
                self.refunded.insert(no);
                self.balance += amount;
            }
            WalletCall::Look => {}
        }
        WalletAnswer::Balance(self.balance)
    }
}

impl Model for WalletModel {
    type Call = WalletCall;
    type Answer = WalletAnswer;

    fn admits(&mut self, call: &WalletCall, answer: &WalletAnswer) -> bool {
        self.answer(call) == *answer
    }

    fn happen(&mut self, call: &WalletCall) {
        self.answer(call);
    }
}

/// The two histories of the same calls, and a line for each beginning and end.
struct Recorder {
    seats: History<SeatsModel>,
    wallet: History<WalletModel>,
    lines: Vec<String>,
}

impl Recorder {
    fn new() -> Self {
        Self { seats: History::new(), wallet: History::new(), lines: Vec::new() }
    }
}

/// A call, as each of the two sees it.
type Asked = (Option<SeatsCall>, Option<WalletCall>);
type Told = (Option<SeatsAnswer>, Option<WalletAnswer>);

/// Where reads come from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reads {
    Engine,
    /// From what was read last but one, as from a cache that nobody told of a change: for the checker to notice.
    Stale,
}

/// What the callers of one history share.
struct Scene {
    option: OptionId,
    user: UserId,
    reads: Reads,
    recorder: Mutex<Recorder>,
    /// Reservations that anybody may pay, with their prices; and payments, with their reservations and prices.
    to_pay: Mutex<Vec<(u64, u64)>>,
    paid: Mutex<Vec<(PaymentId, u64, u64)>>,
    known: Mutex<Vec<u64>>,
    seen: Mutex<Vec<[Seat; SEATS]>>,
}

/// The engine is gone, and whether a call was done is not known.
struct Gone;

/// The answer, or the rejection.
fn answer<T: std::fmt::Debug>(result: Result<T, Error>) -> Result<Result<T, Error>, Gone> {
    match result {
        Err(Error::OutcomeUnknown(_) | Error::NoOwner) => Err(Gone),
        Err(error @ (Error::Rejected(_) | Error::SeatsUnavailable(_))) => Ok(Err(error)),
        Err(error) => panic!("{error}"),
        Ok(value) => Ok(Ok(value)),
    }
}

fn value<T>(answered: Answered<T>) -> T {
    answered.value
}

impl Scene {
    fn ask(&self, caller: u64, (seats, wallet): Asked) {
        let mut recorder = self.recorder.lock();
        recorder.lines.push(format!("{caller} asks {seats:?} {wallet:?}"));
        if let Some(call) = seats {
            recorder.seats.begins(caller, call);
        }
        if let Some(call) = wallet {
            recorder.wallet.begins(caller, call);
        }
    }

    fn tell(&self, caller: u64, (seats, wallet): Told) {
        let mut recorder = self.recorder.lock();
        recorder.lines.push(format!("{caller} is told {seats:?} {wallet:?}"));
        if let Some(answer) = seats {
            recorder.seats.ends(caller, answer);
        }
        if let Some(answer) = wallet {
            recorder.wallet.ends(caller, answer);
        }
    }

    /// Calls of one caller, one after the other, until the engine is gone.
    async fn call(&self, engine: &Engine, caller: u64, dice: &mut Random) -> Result<(), Gone> {
        let mut own = Vec::new();
        for _ in 0..CALLS {
            match dice.below(10) {
                0 => self.charge(engine, caller, 50 * (1 + dice.below(5))).await?,
                1 => self.look_at_wallet(engine, caller).await?,
                2 => self.look_at_seats(engine, caller).await?,
                3 => self.look_at_reservation(engine, caller, dice).await?,
                4 => self.refund(engine, caller, dice).await?,
                5 | 6 => own.extend(self.hold(engine, caller, dice).await?),
                _ => match own.pop() {
                    Some((no, _)) if dice.below(4) == 0 => self.release(engine, caller, no).await?,
                    // From now on anybody may pay it, but nobody releases it: while it is being paid that would be
                    // refused, even if nothing comes of the payment.
                    Some((no, amount)) => {
                        self.to_pay.lock().push((no, amount));
                        self.pay(engine, caller, no, amount).await?;
                    }
                    None => {
                        let pick = pick(&self.to_pay.lock(), dice);
                        if let Some((no, amount)) = pick {
                            self.pay(engine, caller, no, amount).await?;
                        }
                    }
                },
            }
        }
        Ok(())
    }

    async fn charge(&self, engine: &Engine, caller: u64, amount: u64) -> Result<(), Gone> {
        self.ask(caller, (None, Some(WalletCall::Charge(amount))));
        let entry = answer(engine.charge(&self.user, points(amount), &name("the-bank"), None).await)?.unwrap().value;
        self.tell(caller, (None, Some(WalletAnswer::Balance(entry.balance.get()))));
        Ok(())
    }

    async fn look_at_wallet(&self, engine: &Engine, caller: u64) -> Result<(), Gone> {
        self.ask(caller, (None, Some(WalletCall::Look)));
        let wallet = answer(engine.wallet(&self.user).await)?.unwrap();
        self.tell(caller, (None, Some(WalletAnswer::Balance(wallet.balance.get()))));
        Ok(())
    }

    async fn look_at_seats(&self, engine: &Engine, caller: u64) -> Result<(), Gone> {
        self.ask(caller, (Some(SeatsCall::Look), None));
        let seats = answer(engine.seats(self.option).await)?.unwrap();
        let mut found = std::array::from_fn(|n| match seats.status(&seat_id(n)).unwrap() {
            SeatStatus::Free => Seat::Free,
            SeatStatus::Held => Seat::Held,
            SeatStatus::Sold => Seat::Sold,
            SeatStatus::Blocked => panic!("nobody has blocked it"),
        });
        if self.reads == Reads::Stale {
            let mut seen = self.seen.lock();
            seen.push(found);
            found = seen[seen.len().saturating_sub(2)];
        }
        self.tell(caller, (Some(SeatsAnswer::Seats(found)), None));
        Ok(())
    }

    async fn look_at_reservation(&self, engine: &Engine, caller: u64, dice: &mut Random) -> Result<(), Gone> {
        let Some(no) = pick(&self.known.lock(), dice) else { return Ok(()) };
        self.ask(caller, (Some(SeatsCall::LookAt(no)), None));
        let id = ReservationId { option: self.option, no };
        let found = answer(engine.reservation(&Caller::Admin, id).await)?.unwrap();
        let status = if found.status == ReservationStatus::Paying { ReservationStatus::Held } else { found.status };
        self.tell(caller, (Some(SeatsAnswer::Status(status.as_str())), None));
        Ok(())
    }

    async fn hold(&self, engine: &Engine, caller: u64, dice: &mut Random) -> Result<Option<(u64, u64)>, Gone> {
        let first = dice.below(SEATS as u64) as usize;
        let wish: Vec<_> = if dice.below(2) == 0 { vec![first] } else { vec![first, (first + 1) % SEATS] };
        let ids: Vec<_> = wish.iter().map(|&n| seat_id(n)).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        self.ask(caller, (Some(SeatsCall::Hold(wish.clone())), None));
        let held = answer(engine.hold(self.option, &self.user, seats(&ids), None, None).await)?.map(value);
        let no = held.as_ref().ok().map(|held| held.id.no);
        self.tell(caller, (Some(no.map_or(SeatsAnswer::Taken, SeatsAnswer::Held)), None));
        self.known.lock().extend(no);
        Ok(no.map(|no| (no, PRICE * wish.len() as u64)))
    }

    async fn release(&self, engine: &Engine, caller: u64, no: u64) -> Result<(), Gone> {
        self.ask(caller, (Some(SeatsCall::Release(no)), None));
        let id = ReservationId { option: self.option, no };
        let released = answer(engine.release(&Caller::User(self.user.clone()), id).await)?;
        self.tell(caller, (Some(released.map_or(SeatsAnswer::TooLate, |_| SeatsAnswer::Done)), None));
        Ok(())
    }

    async fn pay(&self, engine: &Engine, caller: u64, no: u64, amount: u64) -> Result<(), Gone> {
        self.ask(caller, (Some(SeatsCall::Pay(no)), Some(WalletCall::Pay(no, amount))));
        let id = ReservationId { option: self.option, no };
        let told = match answer(engine.pay(&self.user, id, None).await)? {
            Ok(paid) => {
                let payment = paid.value;
                self.paid.lock().push((payment.id, no, amount));
                (SeatsAnswer::Done, WalletAnswer::Balance(payment.balance.unwrap().get()))
            }
            Err(Error::Rejected(Rejection::InsufficientPoints { balance, .. })) => {
                (SeatsAnswer::Refused, WalletAnswer::Refused(balance.get()))
            }
            Err(Error::Rejected(Rejection::AlreadyPaid { .. } | Rejection::ReservationNotHeld)) => {
                (SeatsAnswer::TooLate, WalletAnswer::Nothing)
            }
            Err(error) => panic!("{error}"),
        };
        self.tell(caller, (Some(told.0), Some(told.1)));
        Ok(())
    }

    async fn refund(&self, engine: &Engine, caller: u64, dice: &mut Random) -> Result<(), Gone> {
        let Some((payment, no, amount)) = pick(&self.paid.lock(), dice) else { return Ok(()) };
        self.ask(caller, (Some(SeatsCall::Refund(no)), Some(WalletCall::Refund(no, amount))));
        let told = match answer(engine.refund(&Caller::Admin, payment, None).await)? {
            Ok(refund) => (SeatsAnswer::Done, WalletAnswer::Balance(refund.value.balance.unwrap().get())),
            Err(Error::Rejected(Rejection::NotRefundable)) => (SeatsAnswer::TooLate, WalletAnswer::Nothing),
            Err(error) => panic!("{error}"),
        };
        self.tell(caller, (Some(told.0), Some(told.1)));
        Ok(())
    }
}

fn seat_id(n: usize) -> String {
    format!("1-{}", n + 1)
}

fn pick<T: Clone>(from: &[T], dice: &mut Random) -> Option<T> {
    (!from.is_empty()).then(|| from[dice.below(from.len() as u64) as usize].clone())
}

/// An engine whose disk can be told to die.
struct House {
    config: boxoffice::Config,
    disk: FailingDisk,
    engine: Engine,
    concert: ConcertId,
    crashes: u64,
    unknown: usize,
}

impl House {
    async fn open(dir: &std::path::Path) -> Self {
        let mut config = config(dir);
        config.limits.user_open_holds = 0;
        let disk = FailingDisk::default();
        let engine = Engine::open_on(config.clone(), disk.clone()).await.unwrap();
        let concert =
            engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value.id;
        Self { config, disk, engine, concert, crashes: 0, unknown: 0 }
    }

    /// One history, on an option and a wallet of its own; whether it is linearizable, and if not, what it was.
    async fn history(&mut self, seed: u64, reads: Reads) -> Result<usize, String> {
        let mut dice = Random(seed);
        let option = new_option(&self.engine, 1, SEATS);
        let option = self.engine.add_option(self.concert, option, None).await.unwrap().value.id;
        let scene = Arc::new(Scene {
            option,
            user: name(&format!("user-{}", option.0)),
            reads,
            recorder: Mutex::new(Recorder::new()),
            to_pay: Mutex::default(),
            paid: Mutex::default(),
            known: Mutex::default(),
            seen: Mutex::default(),
        });
        if dice.below(CRASHES) == 0 && reads == Reads::Engine {
            self.disk.fail(dice.below(25), Failure::Halt);
        }
        self.run(&scene, 0, &mut dice).await;
        if self.disk.heal().is_some() {
            self.crashes += 1;
            // It says that it has failed.
            let _ = self.engine.shutdown().await;
            self.engine = Engine::open_on(self.config.clone(), self.disk.clone()).await.unwrap();
            // Callers whose last call had no answer never get one: who calls now is somebody else.
            self.run(&scene, CALLERS, &mut dice).await;
        }
        let Recorder { seats, wallet, lines } = std::mem::replace(&mut *scene.recorder.lock(), Recorder::new());
        let of_seats = seats.is_explained(SeatsModel::new());
        for (of, is_explained) in [("seats", of_seats), ("points", wallet.is_explained(WalletModel::default()))] {
            if !is_explained {
                let lines = lines.join("\n");
                return Err(format!(
                    "BOXOFFICE_TEST_SEED={seed}: no order explains what was said of the {of}:\n{lines}"
                ));
            }
        }
        Ok(seats.calls.len() + wallet.calls.len())
    }

    async fn run(&mut self, scene: &Arc<Scene>, first: u64, dice: &mut Random) {
        let callers = (first..first + CALLERS).map(|caller| {
            let (scene, engine, mut dice) = (scene.clone(), self.engine.clone(), Random(dice.below(u64::MAX)));
            tokio::spawn(async move { scene.call(&engine, caller, &mut dice).await })
        });
        for caller in callers.collect::<Vec<_>>() {
            self.unknown += usize::from(caller.await.unwrap().is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn histories_of_concurrent_callers_are_linearizable() {
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let given = std::env::var(HISTORIES_VARIABLE).ok().map(|number| number.parse().unwrap());
    let histories = given.unwrap_or(HISTORIES);
    let begun = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::open(dir.path()).await;
    let mut calls = 0;
    for n in 0..histories {
        calls += house.history(seed.wrapping_add(n), Reads::Engine).await.unwrap_or_else(|why| panic!("{why}"));
    }
    house.engine.shutdown().await.unwrap();
    let House { crashes, unknown, .. } = house;
    let seconds = begun.elapsed().as_secs();
    println!("{histories} histories, {calls} calls, {crashes} crashes, {unknown} outcomes unknown, {seconds} s");
    assert!(crashes > histories / (8 * CRASHES) && unknown as u64 > crashes, "too little went wrong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_that_is_stale_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::open(dir.path()).await;
    let mut noticed = 0;
    for n in 0..40 {
        noticed += usize::from(house.history(n, Reads::Stale).await.is_err());
    }
    house.engine.shutdown().await.unwrap();
    assert!(noticed > 4, "{noticed} of 40 histories");
}
