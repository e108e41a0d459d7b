//! Seats: who was told to have which.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::reservation;
use crate::domain::OptionId;
use crate::domain::seat_map::Status;
use crate::loadgen::target::{Held, Offer};

/// How many things that happened to a seat are remembered.
const REMEMBERED: usize = 8;

/// How certain a claim to a seat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody was told to have it.
    Free,
    /// Certainly held, until its time is over.
    Held,
    /// Somebody asks to pay for it. Held all the same.
    Paying,
    /// Somebody asks to give it back: it may be free.
    Ending,
    /// An answer got lost: it may be anything.
    Unsure,
    /// Sold, for good.
    Sold,
}

/// Who has a seat, as far as is known.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// The number of the reservation.
    no: u64,
    /// Whose it is.
    user: u64,
    created_ms: u64,
    expires_ms: u64,
    state: State,
    /// How often it has changed.
    version: u32,
}

/// Something that happened to a seat.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    no: u64,
    user: u64,
    at_us: u64,
    /// `None`: somebody was told to hold it.
    to: Option<State>,
}

impl Event {
    /// As it is told in a history.
    #[must_use]
    pub fn text(&self, option: OptionId) -> String {
        let what = match self.to {
            None => "is told to hold it",
            Some(State::Free) => "is told to hold it no more",
            Some(State::Held) => "is told to hold it still",
            Some(State::Paying) => "asks to pay for it",
            Some(State::Ending) => "asks to give it back",
            Some(State::Unsure) => "gets no answer that says what became of it",
            Some(State::Sold) => "is told that it is paid",
        };
        let id = reservation(option, self.no);
        format!("  {:>12.6} s  user {} {what}, by {id}", self.at_us as f64 / 1e6, self.user)
    }
}

struct Seat {
    claim: Claim,
    events: [Option<Event>; REMEMBERED],
    /// Where the next event goes.
    next: u8,
}

/// The seats of one offer.
pub struct SeatBook {
    seats: Box<[Mutex<Seat>]>,
    /// Until when by the system's clock, in milliseconds, seats may be held of which nobody was told.
    unsure_until_ms: AtomicU64,
}

/// How much a comparison with the system looked at, and what is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Seats of which something is certain.
    pub seats: u64,
    /// The first that is not what it must be.
    pub wrong: Option<(u32, String)>,
}

impl SeatBook {
    /// All free.
    #[must_use]
    pub fn new(offer: &Offer) -> Self {
        let claim = Claim { no: 0, user: 0, created_ms: 0, expires_ms: 0, state: State::Free, version: 0 };
        let seat = || Mutex::new(Seat { claim, events: [None; REMEMBERED], next: 0 });
        let seats = (0..offer.house.seats()).map(|_| seat()).collect();
        Self { seats, unsure_until_ms: AtomicU64::new(0) }
    }

    /// Somebody was told to hold seats.
    ///
    /// # Errors
    /// One of them is certainly somebody else's: which, and whose.
    pub fn held(&self, user: u64, held: &Held, at_us: u64) -> Result<(), (u32, String)> {
        let mut wrong = None;
        for &number in &held.seats {
            let mut seat = self.seats[number as usize].lock();
            seat.remember(Event { no: held.id.no, user, at_us, to: None });
            let (old, version) = (seat.claim, seat.claim.version.wrapping_add(1));
            let new = Claim {
                no: held.id.no,
                user,
                created_ms: held.created_at.as_millis(),
                expires_ms: held.expires_at.as_millis(),
                state: State::Held,
                version,
            };
            if old.state != State::Free && (old.no == new.no || !ended_before(old, new)) {
                let whose = reservation(held.id.option, old.no);
                wrong.get_or_insert((number, format!("a seat was given to {} that is held by {whose}", held.id)));
            }
            // What was decided later is what stands, whichever was told first.
            seat.claim = if old.state == State::Free || old.no < new.no { new } else { Claim { version, ..old } };
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Somebody asks for something, or is told of it. Whether all seats are still known to be theirs.
    pub fn moved(&self, user: u64, held: &Held, to: State, at_us: u64) -> bool {
        let mut all = true;
        for &number in &held.seats {
            let mut seat = self.seats[number as usize].lock();
            seat.remember(Event { no: held.id.no, user, at_us, to: Some(to) });
            if seat.claim.no == held.id.no {
                seat.claim.state = to;
                seat.claim.version = seat.claim.version.wrapping_add(1);
            } else {
                all = false;
            }
        }
        all
    }

    /// Until then, by the system's clock, a seat may be held of which nobody was told.
    pub fn unsure_until(&self, until_ms: u64) {
        self.unsure_until_ms.fetch_max(until_ms, Ordering::Relaxed);
    }

    /// How often each seat has changed, for [`compare`](Self::compare).
    #[must_use]
    pub fn versions(&self) -> Vec<u32> {
        self.seats.iter().map(|seat| seat.lock().claim.version).collect()
    }

    /// Compares seats that have not changed since `versions` was taken with what the system said in between. `earliest_ms`
    /// is when it was asked, `latest_ms` when it had answered. With no call under way (`quiet`), seats that nobody was told
    /// to have must be free.
    #[must_use]
    pub fn compare(
        &self,
        states: &[Status],
        versions: &[u32],
        (earliest_ms, latest_ms): (u64, u64),
        quiet: bool,
    ) -> Compared {
        let sure = quiet && earliest_ms > self.unsure_until_ms.load(Ordering::Relaxed);
        let mut compared = Compared::default();
        for (number, ((seat, &state), &version)) in self.seats.iter().zip(states).zip(versions).enumerate() {
            let claim = seat.lock().claim;
            let expected = match claim.state {
                _ if claim.version != version => None,
                State::Sold => Some(Status::Sold),
                State::Held if latest_ms < claim.expires_ms => Some(Status::Held),
                State::Held if sure && earliest_ms > claim.expires_ms + super::LATE_MS => Some(Status::Free),
                State::Free if sure => Some(Status::Free),
                _ => None,
            };
            let Some(expected) = expected else { continue };
            compared.seats += 1;
            if state != expected && compared.wrong.is_none() {
                let what = format!("a seat is {state:?}, and callers were told that it is {expected:?}");
                compared.wrong = Some((number as u32, what));
            }
        }
        compared
    }

    /// Reservations that hold, and should not any more at `earliest_ms`: number, user, first seat.
    #[must_use]
    pub fn overdue(&self, earliest_ms: u64, most: usize) -> Vec<(u64, u64, u32)> {
        let mut found: Vec<(u64, u64, u32)> = Vec::new();
        for (number, seat) in self.seats.iter().enumerate() {
            let claim = seat.lock().claim;
            let due = claim.state == State::Held && claim.expires_ms + super::LATE_MS < earliest_ms;
            if due && found.last().is_none_or(|(no, ..)| *no != claim.no) {
                found.push((claim.no, claim.user, number as u32));
                if found.len() >= most {
                    break;
                }
            }
        }
        found
    }

    /// A hold has run out, as it should.
    pub fn ran_out(&self, no: u64, seats: &[u32]) {
        for &number in seats {
            let mut seat = self.seats[number as usize].lock();
            if seat.claim.no == no && seat.claim.state == State::Held {
                seat.claim.state = State::Free;
                seat.claim.version = seat.claim.version.wrapping_add(1);
            }
        }
    }

    /// Of every `step`th seat that is held or sold for certain: the number of the reservation, whose, whether it is sold,
    /// and the seat.
    #[must_use]
    pub fn taken(&self, step: usize) -> Vec<(u64, u64, bool, u32)> {
        let mut taken = Vec::new();
        for (number, seat) in self.seats.iter().enumerate().step_by(step.max(1)) {
            let claim = seat.lock().claim;
            if matches!(claim.state, State::Held | State::Sold) {
                taken.push((claim.no, claim.user, claim.state == State::Sold, number as u32));
            }
        }
        taken.dedup_by_key(|(no, ..)| *no);
        taken
    }

    /// What happened to a seat, oldest first.
    #[must_use]
    pub fn history(&self, seat: u32) -> Vec<Event> {
        let seat = self.seats[seat as usize].lock();
        let (newer, older) = seat.events.split_at(usize::from(seat.next));
        older.iter().chain(newer).flatten().copied().collect()
    }
}

impl Seat {
    fn remember(&mut self, event: Event) {
        self.events[usize::from(self.next)] = Some(event);
        self.next = (self.next + 1) % REMEMBERED as u8;
    }
}

/// Whether the claim that was decided first may have ended when the other one was decided.
fn ended_before(one: Claim, other: Claim) -> bool {
    let (first, second) = if one.no < other.no { (one, other) } else { (other, one) };
    match first.state {
        State::Free | State::Ending | State::Unsure => true,
        State::Held | State::Paying => first.expires_ms <= second.created_ms,
        State::Sold => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{ConcertId, ReservationId, Timestamp};
    use crate::loadgen::house::House;
    use crate::loadgen::target::Terms;

    const SEAT: u32 = 3;

    fn book() -> SeatBook {
        let terms = Terms { hold_seconds: 300, max_seats_per_reservation: 8, max_seats_per_user: 8, by_card: false };
        let house = Arc::new(House::of(10).unwrap());
        SeatBook::new(&Offer { index: 0, id: OptionId(1), concert: ConcertId(1), house, terms })
    }

    /// A hold of the seat from `from` to `until` by the system's clock, in seconds.
    fn hold(no: u64, from: u64, until: u64) -> Held {
        Held {
            id: ReservationId { option: OptionId(1), no },
            seats: [SEAT].into_iter().collect(),
            amount: 100,
            created_at: Timestamp::from_millis(from * 1_000),
            expires_at: Timestamp::from_millis(until * 1_000),
        }
    }

    #[test]
    fn two_who_are_told_to_have_a_seat_cannot_both_be_right() {
        let (one, other) = (hold(1, 10, 310), hold(2, 11, 311));
        // What the first asks for before the second is told, and whether that explains it.
        for (asked, fine) in [
            (None, false),
            (Some(State::Ending), true),
            (Some(State::Free), true),
            (Some(State::Unsure), true),
            (Some(State::Paying), false),
            (Some(State::Sold), false),
        ] {
            let book = book();
            book.held(1, &one, 0).unwrap();
            if let Some(asked) = asked {
                assert!(book.moved(1, &one, asked, 1));
            }
            assert_eq!(book.held(2, &other, 2).is_ok(), fine, "{asked:?}");
        }
    }

    #[test]
    fn a_hold_that_has_run_out_makes_room_by_the_clock_of_the_system() {
        for (second_from, fine) in [(309, false), (310, true), (400, true)] {
            let book = book();
            book.held(1, &hold(1, 10, 310), 0).unwrap();
            assert_eq!(book.held(2, &hold(2, second_from, second_from + 300), 1).is_ok(), fine, "{second_from}");
        }
    }

    #[test]
    fn answers_that_overtake_each_other_are_put_in_order() {
        // The first hold ran out; its answer comes after that of the second.
        let late = book();
        late.held(2, &hold(2, 310, 610), 0).unwrap();
        late.held(1, &hold(1, 10, 310), 1).unwrap();
        assert!(late.moved(2, &hold(2, 310, 610), State::Paying, 2), "the second one has it");
        // Nobody who has not been told of a hold can have given it up.
        let wrong = book();
        wrong.held(2, &hold(2, 11, 311), 0).unwrap();
        assert!(wrong.held(1, &hold(1, 10, 310), 1).is_err());
    }

    #[test]
    fn one_reservation_is_one_persons() {
        let book = book();
        book.held(1, &hold(1, 10, 310), 0).unwrap();
        assert!(book.held(2, &hold(1, 10, 310), 1).is_err());
    }

    #[test]
    fn what_was_taken_over_is_not_theirs_any_more() {
        let book = book();
        let (one, other) = (hold(1, 10, 310), hold(2, 11, 311));
        book.held(1, &one, 0).unwrap();
        assert!(book.moved(1, &one, State::Ending, 1));
        book.held(2, &other, 2).unwrap();
        assert!(!book.moved(1, &one, State::Held, 3));
        assert!(book.moved(2, &other, State::Sold, 4));
    }

    /// What is wrong with a map on which the seat has this state, at this time of the system's clock.
    fn wrong(book: &SeatBook, state: Status, at_s: u64, quiet: bool) -> bool {
        let mut states = vec![Status::Free; 10];
        states[SEAT as usize] = state;
        let at = at_s * 1_000;
        book.compare(&states, &book.versions(), (at, at), quiet).wrong.is_some()
    }

    #[test]
    fn the_map_must_show_what_is_certain() {
        let book = book();
        assert!(!wrong(&book, Status::Held, 5, false), "a call under way may have taken it");
        assert!(wrong(&book, Status::Held, 5, true));
        let held = hold(1, 10, 310);
        book.held(1, &held, 0).unwrap();
        assert!(wrong(&book, Status::Free, 11, false) && !wrong(&book, Status::Held, 11, false));
        assert!(
            !wrong(&book, Status::Free, 310, true) && !wrong(&book, Status::Held, 311, true),
            "a second is allowed"
        );
        assert!(wrong(&book, Status::Held, 312, true) && !wrong(&book, Status::Free, 312, true));
        assert_eq!((book.overdue(311_000, 9), book.overdue(311_001, 9)), (vec![], vec![(1, 1, SEAT)]));
        book.moved(1, &held, State::Ending, 1);
        assert!(!wrong(&book, Status::Free, 11, true) && !wrong(&book, Status::Held, 11, true));
        book.moved(1, &held, State::Sold, 2);
        assert!(wrong(&book, Status::Held, 999, false) && !wrong(&book, Status::Sold, 999, false));
    }

    #[test]
    fn nothing_is_certain_of_a_seat_that_changed_meanwhile_or_whose_answer_got_lost() {
        let book = book();
        let versions = book.versions();
        book.held(1, &hold(1, 10, 310), 0).unwrap();
        let free = vec![Status::Free; 10];
        assert_eq!(book.compare(&free, &versions, (11_000, 11_000), false), Compared::default());
        book.unsure_until(400_000);
        assert!(!wrong(&book, Status::Held, 399, true) && wrong(&book, Status::Held, 401, true));
    }

    #[test]
    fn the_history_keeps_what_came_last() {
        let book = book();
        let held = hold(1, 10, 310);
        for n in 0..20 {
            book.moved(n, &held, State::Unsure, n);
        }
        let users: Vec<_> = book.history(SEAT).iter().map(|event| event.user).collect();
        assert_eq!(users, (12..20).collect::<Vec<_>>());
        assert!(book.history(SEAT)[0].text(OptionId(1)).contains("user 12 gets no answer"));
    }
}
