//! Exchanges, parts and transfers with every accident at every step.

use super::*;
use crate::domain::concert_option::{Office, Portion, StepKind};

fn part(seats: &[u32]) -> Portion {
    Portion { seats: seats.into(), areas: smallvec![] }
}

impl World {
    pub(super) fn exchange(&mut self, id: OptionId, owner: usize, (no, give, take): (u64, &[u32], &[u32])) -> Call {
        let (plan, caller) = (self.plan(id), Caller::User(user(owner)));
        let (give, take, request) = (part(give), part(take), Request::default());
        self.option(id, &Command::Exchange { reservation: no, caller, give, take, plan, request })
    }

    /// Does one of the things that can be done with an order, with seats that it has or a wrong one.
    pub(super) fn change(&mut self, id: OptionId, (owner, no): (usize, u64), what: u8, key: Option<Key>) {
        let reservation = self.options[&id].state.reservation(no);
        let seats = reservation.map(|reservation| reservation.seats.to_vec()).unwrap_or_default();
        let payment = match reservation.map(|reservation| reservation.status) {
            Some(ReservationStatus::Confirmed { payment }) => payment,
            _ => no,
        };
        let offer = reservation.and_then(|reservation| reservation.offer().cloned());
        let one = seats.get(usize::from(what / 8) % seats.len().max(1)).copied().unwrap_or(3);
        let other = (one + u32::from(what / 8)) % 20;
        let (plan, request) = (self.plan(id), Request { key, refused: None });
        let caller = if what >= 240 { Caller::Admin } else { Caller::User(user(owner)) };
        let receiver = user(owner + 1 + usize::from(what / 128));
        let command = match what % 8 {
            0 => Command::ReleasePart { reservation: no, caller, part: part(&[one]), plan, request },
            1 | 2 => Command::RefundPart { payment, caller, part: part(&[one]), plan, request },
            3 | 4 => {
                Command::Exchange { reservation: no, caller, give: part(&[one]), take: part(&[other]), plan, request }
            }
            5 => Command::OfferTransfer { reservation: no, caller, to: receiver, stands_for_ms: 60_000, request },
            6 => match offer {
                Some(offer) => Command::AcceptTransfer { reservation: no, transfer: offer.no, user: offer.to, request },
                None => Command::HandOn { reservation: no, to: receiver, by: None, request },
            },
            _ => {
                let expires_at = self.now.plus_millis(u64::from(what) * 200);
                Command::HoldUntil { reservation: no, expires_at, by: None }
            }
        };
        self.option(id, &command);
    }

    /// Holds as a box office does.
    pub(super) fn hold_for(&mut self, id: OptionId, owner: usize, what: u8) {
        let office = Office { complimentary: what & 1 > 0, beyond_limits: what & 2 > 0, from_blocked: what & 4 > 0 };
        let seat = u32::from(what / 8) % 19;
        let (wish, plan, request) = (Wish::Seats(smallvec![seat, seat + 1]), self.plan(id), Request::default());
        let (note, by) = (None, None);
        self.option(id, &Command::HoldFor { user: user(owner), wish, office, note, by, plan, request });
    }
}

/// Anna, with this much left in her wallet, has seats 0 and 10, paid 10 for by payment 2.
fn anna_has(left: u64) -> (World, OptionId) {
    let (mut world, concert, option) = world(1);
    world.charge(0, left + 10, None);
    world.room(concert, &waiting_room::Command::IssueToken { user: user(0) }).unwrap();
    world.wake();
    world.hold(option, 0, Wish::Seats(smallvec![0, 10]), None);
    world.pay(option, 0, 1, None);
    world.settle().unwrap();
    assert_eq!(world.balance(0), left);
    (world, option)
}

#[test]
fn an_exchange_survives_every_accident_at_every_step() {
    for left in [10, 9] {
        for steps in 0..=3 {
            for accident in accidents() {
                let name = format!("{left} points, {accident:?} after {steps} steps");
                let (mut world, option) = anna_has(left);
                let call = world.exchange(option, 0, (1, &[10], &[2]));
                let mut seen = Vec::new();
                world.walk(steps, &mut seen);
                world.suffer(accident);
                world.check().unwrap_or_else(|broken| panic!("{name}: {broken}"));
                seen.extend_from_slice(world.queue());
                world.settle().unwrap_or_else(|broken| panic!("{name}: {broken}"));
                if matches!(accident, Accident::Crashed(_, 1..)) {
                    // What came before may be lost too: that it is all one, was checked.
                    continue;
                }
                let state = &world.options[&option].state;
                let reservation = state.reservation(1).unwrap();
                let done = reservation.steps.iter().any(|step| step.step == StepKind::Exchanged);
                let statuses = [0, 2, 10].map(|seat| state.seats().status(seat));
                let balance = world.balance(0);
                if done {
                    assert_eq!((statuses, balance), ([Status::Sold, Status::Sold, Status::Free], 0), "{name}");
                } else {
                    assert_eq!((statuses, balance), ([Status::Sold, Status::Free, Status::Sold], left), "{name}");
                }
                let expected = match accident {
                    Accident::LateAndLost | Accident::TooLate => left == 10 && steps >= 1,
                    Accident::LateAndResent { before } => left == 10 && (steps >= 1 || !before),
                    _ => left == 10,
                };
                assert_eq!(done, expected, "{name}");
                match world.answer(call) {
                    Some(Ok(Reply::Reservation(1, changed))) => {
                        assert!(done && changed.seats.to_vec() == [0, 2], "{name}: {changed:?}");
                    }
                    Some(Err(Rejection::InsufficientPoints { balance, amount })) => {
                        assert_eq!((balance.get(), amount.get(), done), (left, 10, false), "{name}");
                    }
                    Some(Err(Rejection::PaymentTimedOut)) => assert!(!done, "{name}"),
                    None => assert!(matches!(accident, Accident::Crashed(..)), "{name}"),
                    other => panic!("{name}: {other:?}"),
                }
                world.stragglers_change_nothing(&seen);
            }
        }
    }
}

#[test]
fn what_goes_back_of_two_legs_survives_every_accident_at_every_step() {
    for steps in 0..=4 {
        for accident in accidents() {
            let name = format!("{accident:?} after {steps} steps");
            let (mut world, option) = anna_has(0);
            world.charge(1, 10, None);
            let request = Request::default();
            world.option(option, &Command::HandOn { reservation: 1, to: user(1), by: None, request });
            world.exchange(option, 1, (1, &[10], &[2]));
            world.settle().unwrap();
            assert_eq!((world.balance(0), world.balance(1)), (0, 0));
            world.refund(option, 2, None);
            let mut seen = Vec::new();
            world.walk(steps, &mut seen);
            world.suffer(accident);
            seen.extend_from_slice(world.queue());
            world.settle().unwrap_or_else(|broken| panic!("{name}: {broken}"));
            if matches!(accident, Accident::Crashed(_, 1..)) {
                continue;
            }
            // To each what they paid.
            assert_eq!((world.balance(0), world.balance(1)), (10, 10), "{name}");
            let state = &world.options[&option].state;
            assert!(state.payment(2).is_none() && state.reservation(1).is_none(), "{name}");
            world.stragglers_change_nothing(&seen);
        }
    }
}
