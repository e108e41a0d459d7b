//! What callers do at once, and what was said to them.

use std::sync::Arc;

use boxoffice::testing::random::Random;
use boxoffice::{
    Answered, Caller, Engine, Error, OptionId, PaymentId, Portion, Rejection, ReservationId, ReservationStatus,
    SeatStatus, UserId,
};
use parking_lot::Mutex;

use super::checker::History;
use super::common::{name, points, seats};
use super::models::{Order, Seat, SeatsAnswer, SeatsCall, SeatsModel, WalletAnswer, WalletCall, WalletModel};
use super::{CALLERS, CALLS, PRICE, SEATS};

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
pub enum Reads {
    Engine,
    /// From who owns: the map of the seats, which each node has from its own replica, is not looked at.
    OfOwner,
    /// From what was read last but one, as from a cache that nobody told of a change: for the checker to notice.
    Stale,
}

/// What the callers of one history share.
pub struct Scene {
    option: OptionId,
    user: UserId,
    /// To whom orders are handed on.
    other: UserId,
    reads: Reads,
    recorder: Mutex<Recorder>,
    /// Reservations that anybody may pay, with their prices; and payments, with their reservations.
    to_pay: Mutex<Vec<(u64, u64)>>,
    paid: Mutex<Vec<(PaymentId, u64)>>,
    known: Mutex<Vec<u64>>,
    seen: Mutex<Vec<[Seat; SEATS]>>,
}

/// Nobody answered, and whether a call was done is not known.
struct Gone;

/// The answer, or the rejection.
fn answer<T: std::fmt::Debug>(result: Result<T, Error>) -> Result<Result<T, Error>, Gone> {
    match result {
        Err(Error::OutcomeUnknown(_) | Error::NoOwner) => Err(Gone),
        Err(error @ (Error::Rejected(_) | Error::SeatsUnavailable(_) | Error::Invalid(_))) => Ok(Err(error)),
        Err(error) => panic!("{error}"),
        Ok(value) => Ok(Ok(value)),
    }
}

fn value<T>(answered: Answered<T>) -> T {
    answered.value
}

impl Scene {
    pub fn new(option: OptionId, reads: Reads) -> Self {
        Self {
            option,
            user: name(&format!("user-{}", option.0)),
            other: name(&format!("other-{}", option.0)),
            reads,
            recorder: Mutex::new(Recorder::new()),
            to_pay: Mutex::default(),
            paid: Mutex::default(),
            known: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Callers from this number on, at once; how many of them were not answered in the end. Who was not never is: who calls
    /// afterwards is somebody else.
    pub async fn run(self: &Arc<Self>, engines: &[Engine], first: u64, dice: &mut Random) -> usize {
        let callers = (first..first + CALLERS).map(|caller| {
            let (scene, engines, mut dice) = (self.clone(), engines.to_vec(), Random(dice.below(u64::MAX)));
            tokio::spawn(async move { scene.call(&engines, caller, &mut dice).await })
        });
        let mut unknown = 0;
        for caller in callers.collect::<Vec<_>>() {
            unknown += usize::from(caller.await.unwrap().is_err());
        }
        unknown
    }

    /// How many calls there were, each counted for all that it touches; or what was said, if no order explains it.
    pub fn verdict(&self) -> Result<usize, String> {
        let Recorder { seats, wallet, lines } = std::mem::replace(&mut *self.recorder.lock(), Recorder::new());
        let of_seats = seats.is_explained(SeatsModel::new());
        for (of, is_explained) in [("seats", of_seats), ("points", wallet.is_explained(WalletModel::default()))] {
            if !is_explained {
                return Err(format!("no order explains what was said of the {of}:\n{}", lines.join("\n")));
            }
        }
        Ok(seats.calls.len() + wallet.calls.len())
    }

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

    /// Calls of one caller, one after the other, each of any of the engines, until nobody answers.
    async fn call(&self, engines: &[Engine], caller: u64, dice: &mut Random) -> Result<(), Gone> {
        let mut own = Vec::new();
        for _ in 0..CALLS {
            let engine = &engines[dice.below(engines.len() as u64) as usize];
            match dice.below(14) {
                0 => self.charge(engine, caller, 50 * (1 + dice.below(5))).await?,
                1 => self.look_at_wallet(engine, caller).await?,
                2 if self.reads != Reads::OfOwner => self.look_at_seats(engine, caller).await?,
                2 | 3 => self.look_at_reservation(engine, caller, dice).await?,
                4 => self.refund(engine, caller, dice).await?,
                5 => self.refund_part(engine, caller, dice).await?,
                6 | 7 => self.exchange(engine, caller, dice).await?,
                8 => self.hand_on(engine, caller, dice).await?,
                9 | 10 => own.extend(self.hold(engine, caller, dice).await?),
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
        let seats = (0..SEATS).filter(|&n| found.seats().any(|seat| seat.id == seat_id(n))).collect();
        let order = Order { seats, status: status.as_str(), is_the_others: found.user_id == self.other };
        self.tell(caller, (Some(SeatsAnswer::Order(order)), None));
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
                self.paid.lock().push((payment.id, no));
                (SeatsAnswer::Done, WalletAnswer::Balance(payment.balance.unwrap().get()))
            }
            Err(Error::Rejected(Rejection::InsufficientPoints { balance, .. })) => {
                (SeatsAnswer::Refused, WalletAnswer::Refused(balance.get()))
            }
            Err(Error::Rejected(Rejection::AlreadyPaid { .. } | Rejection::ReservationNotHeld)) => {
                (SeatsAnswer::TooLate, WalletAnswer::Nothing)
            }
            Err(Error::Rejected(Rejection::NotFound)) => (SeatsAnswer::NotTheirs, WalletAnswer::NotAsked),
            Err(error) => panic!("{error}"),
        };
        self.tell(caller, (Some(told.0), Some(told.1)));
        Ok(())
    }

    async fn refund(&self, engine: &Engine, caller: u64, dice: &mut Random) -> Result<(), Gone> {
        let Some((payment, no)) = pick(&self.paid.lock(), dice) else { return Ok(()) };
        self.ask(caller, (Some(SeatsCall::Refund(no)), Some(WalletCall::Refund(no, None))));
        let told = match answer(engine.refund(&Caller::Admin, payment, None).await)? {
            Ok(refund) => (SeatsAnswer::Done, WalletAnswer::Balance(refund.value.balance.unwrap().get())),
            Err(Error::Rejected(Rejection::NotRefundable)) => (SeatsAnswer::TooLate, WalletAnswer::Nothing),
            Err(error) => (not_now(error), WalletAnswer::NotAsked),
        };
        self.tell(caller, (Some(told.0), Some(told.1)));
        Ok(())
    }

    async fn refund_part(&self, engine: &Engine, caller: u64, dice: &mut Random) -> Result<(), Gone> {
        let Some((payment, no)) = pick(&self.paid.lock(), dice) else { return Ok(()) };
        let seat = dice.below(SEATS as u64) as usize;
        self.ask(caller, (Some(SeatsCall::RefundPart(no, seat)), Some(WalletCall::Refund(no, Some(PRICE)))));
        let part = Portion::seats([seat_id(seat)]);
        let told = match answer(engine.refund_part(&Caller::Admin, payment, part, None).await)? {
            Ok(refund) => (SeatsAnswer::Done, WalletAnswer::Balance(refund.value.balance.unwrap().get())),
            Err(Error::Rejected(Rejection::NotRefundable)) => (SeatsAnswer::TooLate, WalletAnswer::Nothing),
            Err(error) => (not_now(error), WalletAnswer::NotAsked),
        };
        self.tell(caller, (Some(told.0), Some(told.1)));
        Ok(())
    }

    async fn exchange(&self, engine: &Engine, caller: u64, dice: &mut Random) -> Result<(), Gone> {
        let Some((_, no)) = pick(&self.paid.lock(), dice) else { return Ok(()) };
        let [give, take] = [(); 2].map(|()| dice.below(SEATS as u64) as usize);
        self.ask(caller, (Some(SeatsCall::Exchange(no, give, take)), None));
        let id = ReservationId { option: self.option, no };
        let swap = (Portion::seats([seat_id(give)]), Portion::seats([seat_id(take)]));
        let exchanged = answer(engine.exchange(&Caller::Admin, id, swap, None, None).await)?;
        self.tell(caller, (Some(exchanged.map_or_else(not_now, |_| SeatsAnswer::Done)), None));
        Ok(())
    }

    async fn hand_on(&self, engine: &Engine, caller: u64, dice: &mut Random) -> Result<(), Gone> {
        let Some((_, no)) = pick(&self.paid.lock(), dice) else { return Ok(()) };
        let to_the_other = dice.below(2) == 0;
        self.ask(caller, (Some(SeatsCall::HandOn(no, to_the_other)), None));
        let id = ReservationId { option: self.option, no };
        let to = if to_the_other { &self.other } else { &self.user };
        let handed_on = answer(engine.hand_on(id, to, None, None).await)?;
        self.tell(caller, (Some(handed_on.map_or_else(not_now, |_| SeatsAnswer::Done)), None));
        Ok(())
    }
}

/// Why an order was not changed.
fn not_now(error: Error) -> SeatsAnswer {
    match error {
        Error::SeatsUnavailable(_) => SeatsAnswer::Taken,
        Error::Invalid(_) => SeatsAnswer::Wrong,
        Error::Rejected(Rejection::ReservationNotConfirmed) => SeatsAnswer::TooLate,
        Error::Rejected(Rejection::ChangeUnderWay) => SeatsAnswer::Busy,
        error => panic!("{error}"),
    }
}

fn seat_id(n: usize) -> String {
    format!("1-{}", n + 1)
}

fn pick<T: Clone>(from: &[T], dice: &mut Random) -> Option<T> {
    (!from.is_empty()).then(|| from[dice.below(from.len() as u64) as usize].clone())
}
