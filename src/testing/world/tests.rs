//! The payment saga, walked through with every accident at every step, and random histories.

mod changing;

use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::domain::concert_option::{
    Area, AreaPlaces, Blocks, Caller, Command, Price, Reply, ReservationStatus, SeatSet, What, Window, Wish,
    tests::seating_plan,
};
use crate::domain::idempotency::Key;
use crate::domain::seat_map::{BestAvailable, Status};
use crate::domain::seating_plan::PlanHash;
use crate::domain::waiting_room::{Mode, Order, SettingsPatch};
use crate::domain::{PaymentId, Points, RefundId};

const HOLD_SECONDS: u32 = 90;
const PAYMENT_SECONDS: u32 = 60;

fn start() -> Timestamp {
    Timestamp::from_millis(1_000_000_000)
}

fn points(n: u64) -> Points {
    Points::new(n).unwrap()
}

fn user(no: usize) -> UserId {
    ["anna", "bob", "carl"][no % 3].parse().unwrap()
}

fn definition(concert: ConcertId) -> Definition {
    Definition {
        concert,
        starts_at: start().plus_millis(1_000_000_000),
        window: Window {
            sale_opens_at: None,
            sale_closes_at: start().plus_millis(900_000_000),
            refundable_until: Some(start().plus_millis(900_000_000)),
        },
        plan: PlanHash([0; 32]),
        seat_count: 20,
        prices: vec![
            Price { category: "A".into(), points: points(10) },
            Price { category: "B".into(), points: Points::ZERO },
        ],
        areas: vec![Area { name: "Floor".into(), capacity: 5, category: "A".into() }],
        hold_seconds: HOLD_SECONDS,
        payment_seconds: PAYMENT_SECONDS,
        max_seats_per_reservation: 4,
        max_seats_per_user: 10,
        focus: None,
        accessible: Vec::new(),
        not_for_sale: SeatSet::default(),
        payment_methods: Vec::new(),
        currency: None,
        amended: None,
    }
}

fn key(owner: usize, no: u8) -> Option<Key> {
    Some(Key { scope: [no; 16], payload: [1; 16], caller: user(owner) })
}

/// A concert behind a waiting room, an option of it, and users with tokens.
fn world(seed: u64) -> (World, ConcertId, OptionId) {
    let mut world = World::new(start(), seed, Faults::default());
    let concert = world.announce(Settings { mode: Mode::Queue, max_active: 2, ..Settings::default() });
    let option = world.put_on_sale(definition(concert), seating_plan());
    world.settle().unwrap();
    (world, concert, option)
}

impl World {
    fn charge(&mut self, owner: usize, amount: u64, key: Option<Key>) {
        let request = Request { key, refused: None };
        let command = wallet::Command::Charge { amount: points(amount), by: user(owner), request };
        // Refused, if a key comes again with another amount.
        drop(self.wallet(&user(owner), &command));
    }

    fn hold(&mut self, id: OptionId, owner: usize, wish: Wish, key: Option<Key>) -> Call {
        let (user, plan) = (user(owner), self.plan(id));
        let concert = plan.definition.concert;
        let token = self.rooms.get(&concert).and_then(|room| room.state.live_token(&user));
        let request = Request { key, refused: None };
        self.option(id, &Command::Hold { user, wish, token, note: None, plan, request })
    }

    fn pay(&mut self, id: OptionId, owner: usize, reservation: u64, key: Option<Key>) -> Call {
        let request = Request { key, refused: None };
        self.option(id, &Command::BeginPayment { reservation, user: user(owner), request })
    }

    fn refund(&mut self, id: OptionId, payment: u64, key: Option<Key>) -> Call {
        let request = Request { key, refused: None };
        self.option(id, &Command::Refund { payment, caller: Caller::Admin, request })
    }

    fn balance(&self, owner: usize) -> u64 {
        self.wallets.get(&user(owner)).map_or(0, |wallet| wallet.state.balance().get())
    }

    fn all_rows(&self) -> String {
        let options: Vec<_> = self.options.values().map(|subject| &subject.rows.live).collect();
        let wallets: Vec<_> = self.wallets.values().map(|subject| &subject.rows.live).collect();
        let rooms: Vec<_> = self.rooms.values().map(|subject| &subject.rows.live).collect();
        format!("{:?} {options:?} {wallets:?} {rooms:?}", self.catalogue.rows.live)
    }
}

/// Anna, with this much in her wallet and a token, holds seats 0 and 1 for 20 points, as reservation 1.
fn anna_holds(charged: u64) -> (World, OptionId) {
    let (mut world, concert, option) = world(1);
    world.charge(0, charged, None);
    world.room(concert, &waiting_room::Command::IssueToken { user: user(0) }).unwrap();
    world.wake();
    let call = world.hold(option, 0, Wish::Seats(smallvec![0, 1]), None);
    assert!(matches!(world.answer(call), Some(Ok(Reply::Reservation(1, _)))));
    assert!(world.queue().is_empty());
    (world, option)
}

/// What befalls the world between two steps.
#[derive(Debug, Clone, Copy)]
enum Accident {
    Nothing,
    Lost,
    Doubled,
    Crashed(Rebuild, usize),
    /// The payment's deadline passes; messages on their way are lost.
    LateAndLost,
    /// It passes while messages are on their way, and what is owed is sent again after or before them.
    LateAndResent {
        before: bool,
    },
    /// So does the hold's.
    TooLate,
}

fn accidents() -> Vec<Accident> {
    let crashes = [Rebuild::Events, Rebuild::Rows].into_iter();
    let crashes = crashes.flat_map(|rebuild| (0..6).map(move |unsynced| Accident::Crashed(rebuild, unsynced)));
    let others = [
        Accident::Nothing,
        Accident::Lost,
        Accident::Doubled,
        Accident::LateAndLost,
        Accident::LateAndResent { before: false },
        Accident::LateAndResent { before: true },
        Accident::TooLate,
    ];
    others.into_iter().chain(crashes).collect()
}

impl World {
    fn suffer(&mut self, accident: Accident) {
        match accident {
            Accident::Nothing => {}
            Accident::Lost => self.lose_messages(),
            Accident::Doubled => {
                let again = self.queue.clone();
                self.queue.extend(again);
            }
            Accident::Crashed(rebuild, unsynced) => self.crash(rebuild, unsynced),
            Accident::LateAndLost => {
                self.lose_messages();
                self.pass(u64::from(PAYMENT_SECONDS) * 1000);
            }
            Accident::LateAndResent { before } => {
                self.pass(u64::from(PAYMENT_SECONDS) * 1000);
                let on_their_way = std::mem::take(&mut self.queue);
                self.wake();
                self.queue.extend(on_their_way);
                if !before {
                    self.queue.reverse();
                }
            }
            Accident::TooLate => {
                self.lose_messages();
                self.pass(u64::from(HOLD_SECONDS) * 1000);
            }
        }
    }

    /// Delivers `steps` messages, keeping copies of all that are ever on their way.
    fn walk(&mut self, steps: usize, seen: &mut Vec<Message>) {
        for _ in 0..steps {
            seen.extend_from_slice(&self.queue);
            self.deliver();
            self.check().unwrap();
        }
        seen.extend_from_slice(&self.queue);
    }

    /// Whatever was ever sent comes again, forwards and backwards, and changes nothing.
    fn stragglers_change_nothing(&mut self, seen: &[Message]) {
        let before = self.all_rows();
        for message in seen.iter().chain(seen.iter().rev()) {
            self.send(message.clone());
            while self.deliver() {}
            self.check().unwrap();
        }
        assert_eq!(self.all_rows(), before);
    }
}

#[test]
fn a_payment_survives_every_accident_at_every_step() {
    for charged in [100, 19] {
        for steps in 0..=5 {
            for accident in accidents() {
                let name = format!("{charged} points, {accident:?} after {steps} steps");
                let (mut world, option) = anna_holds(charged);
                let call = world.pay(option, 0, 1, None);
                let mut seen = Vec::new();
                world.walk(steps, &mut seen);
                world.suffer(accident);
                world.check().unwrap_or_else(|broken| panic!("{name}: {broken}"));
                seen.extend_from_slice(world.queue());
                world.settle().unwrap_or_else(|broken| panic!("{name}: {broken}"));

                let state = &world.options[&option].state;
                let status = state.reservation(1).map(|reservation| reservation.status);
                let seats = [0, 1].map(|seat| state.seats().status(seat));
                let balance = world.balance(0);
                match status {
                    Some(ReservationStatus::Confirmed { payment: 2 }) => {
                        assert_eq!((seats, balance), ([Status::Sold; 2], 80), "{name}");
                        assert_eq!(world.rooms.values().next().unwrap().state.counts().used, 1, "{name}");
                    }
                    Some(ReservationStatus::Held) => {
                        assert_eq!((seats, balance), ([Status::Held; 2], charged), "{name}");
                    }
                    None => {
                        assert!(balance == charged || balance == 0, "{name}: {balance}");
                        assert_eq!(seats, [Status::Free; 2], "{name}");
                    }
                    other => panic!("{name}: {other:?}"),
                }
                let confirmed = matches!(status, Some(ReservationStatus::Confirmed { .. }));
                // A debit that was taken wins, however late; one that was not is called off after the deadline.
                let expected = match accident {
                    Accident::Nothing | Accident::Lost | Accident::Doubled => Some(charged == 100),
                    Accident::LateAndLost | Accident::TooLate => Some(charged == 100 && steps >= 1),
                    Accident::LateAndResent { before } => Some(charged == 100 && (steps >= 1 || !before)),
                    Accident::Crashed(_, 0) => Some(charged == 100),
                    Accident::Crashed(..) => None,
                };
                if let Some(expected) = expected {
                    assert_eq!(confirmed, expected, "{name}");
                }
                // Whoever still waits when it ends has the answer that fits.
                match world.answer(call) {
                    Some(Ok(Reply::Paid(2, payment))) => assert_eq!(payment.balance, points(80), "{name}"),
                    Some(Err(Rejection::InsufficientPoints { balance, amount })) => {
                        assert_eq!((balance.get(), amount.get()), (charged, 20), "{name}");
                    }
                    Some(Err(Rejection::PaymentTimedOut)) => assert!(!confirmed && balance == charged, "{name}"),
                    None => assert!(matches!(accident, Accident::Crashed(..)), "{name}"),
                    other => panic!("{name}: {other:?}"),
                }
                if !matches!(accident, Accident::Crashed(_, 1..)) {
                    world.stragglers_change_nothing(&seen);
                }
            }
        }
    }
}

#[test]
fn a_refund_survives_every_accident_at_every_step() {
    for steps in 0..=3 {
        for accident in accidents() {
            let name = format!("{accident:?} after {steps} steps");
            let (mut world, option) = anna_holds(100);
            let mut seen = Vec::new();
            world.pay(option, 0, 1, None);
            world.walk(5, &mut seen);
            let call = world.refund(option, 2, None);
            world.walk(steps, &mut seen);
            world.suffer(accident);
            seen.extend_from_slice(world.queue());
            world.settle().unwrap_or_else(|broken| panic!("{name}: {broken}"));
            if matches!(accident, Accident::Crashed(_, 1..)) {
                // What was lost may be asked for again.
                if world.options[&option].state.payment(2).is_some() {
                    world.refund(option, 2, None);
                    world.settle().unwrap_or_else(|broken| panic!("{name}: {broken}"));
                }
            } else {
                world.stragglers_change_nothing(&seen);
                match world.answer(call) {
                    Some(Ok(Reply::Refunded(3, refund))) => assert_eq!(refund.balance, points(100), "{name}"),
                    None => assert!(matches!(accident, Accident::Crashed(..)), "{name}"),
                    other => panic!("{name}: {other:?}"),
                }
            }
            let state = &world.options[&option].state;
            assert!(state.payment(2).is_none() && state.refund(3).is_none(), "{name}");
            // With five records lost, there may be no payment to give back.
            assert_eq!(world.balance(0), 100, "{name}");
        }
    }
}

#[test]
fn a_straggler_after_pruning_takes_no_money() {
    let (mut world, option) = anna_holds(100);
    let mut seen = Vec::new();
    // Called off, paid, given back, bought again: each new step lets the wallet forget those before.
    world.pay(option, 0, 1, None);
    seen.extend_from_slice(world.queue());
    world.suffer(Accident::LateAndLost);
    world.settle().unwrap();
    assert_eq!(world.balance(0), 100);
    world.pay(option, 0, 1, None);
    world.walk(5, &mut seen);
    world.refund(option, 3, None);
    world.walk(3, &mut seen);
    world.hold(option, 0, Wish::Seats(smallvec![4]), None);
    world.pay(option, 0, 5, None);
    world.walk(5, &mut seen);
    assert_eq!(world.balance(0), 90);
    for rebuild in [Rebuild::Rows, Rebuild::Events] {
        world.stragglers_change_nothing(&seen);
        world.crash(rebuild, 0);
    }
    // Also those that say less of what is settled, or more, than what the wallet has heard.
    for settled_below in [0, 1, 4, 6, 100] {
        for no in 1..=4 {
            let (payment, refund) = (PaymentId { option, no }, RefundId { option, no });
            for command in [
                wallet::Command::Debit { payment, amount: points(1), settled_below },
                wallet::Command::CancelDebit { payment, settled_below },
                wallet::Command::Credit { refund, amount: points(1), settled_below },
            ] {
                world.wallet(&user(0), &command).unwrap();
                assert!(world.queue().is_empty(), "nobody waits for an answer: {command:?}");
            }
        }
    }
    assert_eq!(world.balance(0), 90);
}

#[test]
fn a_hundred_payments_of_one_reservation_make_one_debit() {
    for charged in [100, 19] {
        let (mut world, option) = anna_holds(charged);
        let calls: Vec<_> = (0..100).map(|_| world.pay(option, 0, 1, None)).collect();
        assert_eq!(world.queue().len(), 1);
        world.settle().unwrap();
        let answers: Vec<_> = calls.iter().map(|call| world.answer(*call).unwrap().clone()).collect();
        if charged == 100 {
            assert!(matches!(answers[0], Ok(Reply::Paid(2, _))));
            let payment = PaymentId { option, no: 2 };
            assert!(answers[1..].iter().all(|answer| *answer == Err(Rejection::AlreadyPaid { payment })));
            assert_eq!(world.balance(0), 80);
        } else {
            let refused = Rejection::InsufficientPoints { balance: points(19), amount: points(20) };
            assert!(answers.iter().all(|answer| *answer == Err(refused.clone())));
        }
    }
}

#[derive(Debug, Clone)]
enum Action {
    Charge { owner: usize, amount: u64, key: Option<u8> },
    Adjust { owner: usize, way: wallet::Way, amount: u64, key: Option<u8> },
    Token { owner: usize },
    Leave { owner: usize },
    Hold { option: usize, owner: usize, what: u8, key: Option<u8> },
    Release { option: usize, pick: usize },
    Pay { option: usize, pick: usize, key: Option<u8> },
    Refund { option: usize, pick: usize, key: Option<u8> },
    Change { option: usize, pick: usize, what: u8, key: Option<u8> },
    Office { option: usize, owner: usize, what: u8 },
    Block { option: usize, seat: u32, off: bool },
    Deliver { messages: usize },
    Wake,
    Pass { millis: u64 },
    Crash { rebuild: Rebuild, unsynced: usize },
    Configure { max_active: u32, mode: Option<Mode> },
}

fn action() -> impl Strategy<Value = Action> {
    let key = || prop::option::weighted(0.3, 0_u8..4);
    prop_oneof![
        2 => (0_usize..3, 1_u64..60, key()).prop_map(|(owner, amount, key)| Action::Charge { owner, amount, key }),
        1 => (0_usize..3, prop::sample::select(vec![wallet::Way::Up, wallet::Way::Down]), 1_u64..60, key())
            .prop_map(|(owner, way, amount, key)| Action::Adjust { owner, way, amount, key }),
        3 => (0_usize..3).prop_map(|owner| Action::Token { owner }),
        1 => (0_usize..3).prop_map(|owner| Action::Leave { owner }),
        6 => (0_usize..2, 0_usize..3, any::<u8>(), key())
            .prop_map(|(option, owner, what, key)| Action::Hold { option, owner, what, key }),
        1 => (0_usize..2, any::<usize>()).prop_map(|(option, pick)| Action::Release { option, pick }),
        6 => (0_usize..2, any::<usize>(), key()).prop_map(|(option, pick, key)| Action::Pay { option, pick, key }),
        3 => (0_usize..2, any::<usize>(), key()).prop_map(|(option, pick, key)| Action::Refund { option, pick, key }),
        8 => (0_usize..2, any::<usize>(), any::<u8>(), key())
            .prop_map(|(option, pick, what, key)| Action::Change { option, pick, what, key }),
        1 => (0_usize..2, 0_usize..3, any::<u8>()).prop_map(|(option, owner, what)| Action::Office { option, owner, what }),
        1 => (0_usize..2, 0_u32..20, any::<bool>()).prop_map(|(option, seat, off)| Action::Block { option, seat, off }),
        12 => (1_usize..6).prop_map(|messages| Action::Deliver { messages }),
        4 => Just(Action::Wake),
        3 => (0_u64..40_000).prop_map(|millis| Action::Pass { millis }),
        1 => Just(Action::Pass { millis: 25 * 60 * 60 * 1000 }),
        1 => (any::<bool>(), prop_oneof![Just(0_usize), 0_usize..8]).prop_map(|(rows, unsynced)| {
            Action::Crash { rebuild: if rows { Rebuild::Rows } else { Rebuild::Events }, unsynced }
        }),
        1 => (1_u32..4, prop::option::of(prop::sample::select(vec![Mode::Open, Mode::Queue, Mode::Paused])))
            .prop_map(|(max_active, mode)| Action::Configure { max_active, mode }),
    ]
}

impl World {
    /// One of the numbers in memory, of a reservation or a payment; or a wrong one.
    fn pick(&self, id: OptionId, pick: usize, payments: bool) -> (usize, u64) {
        let option = &self.options[&id].state;
        let mut known: Vec<_> = option.reservations().map(|(no, reservation)| (reservation, no)).collect();
        known.sort_unstable_by_key(|(_, no)| *no);
        let owner = |user_id: &UserId| (0..3).find(|no| user(*no) == *user_id).unwrap_or(0);
        let picked = known.into_iter().cycle().nth(pick % 17);
        picked.map_or((0, pick as u64 % 50), |(reservation, no)| match reservation.status {
            ReservationStatus::Confirmed { payment } if payments => (owner(&reservation.user), payment),
            _ => (owner(&reservation.user), no),
        })
    }

    fn act(&mut self, concert: ConcertId, options: [OptionId; 2], action: &Action) {
        // A crash may have taken what an option was, or the room; commands to nobody are refused, or fall on nothing.
        match *action {
            Action::Charge { owner, amount, key: no } => {
                let key = no.and_then(|no| key(owner, no * 3 + owner as u8));
                self.charge(owner, amount, key);
            }
            Action::Adjust { owner, way, amount, key: no } => {
                let key = no.and_then(|no| key(owner, no * 3 + owner as u8));
                let request = Request { key, refused: None };
                let (amount, by, reason) = (points(amount), user(owner), "mistyped".into());
                let command = wallet::Command::Adjust { way, amount, by, reason, request };
                // Refused, if there is less, or a key comes again.
                drop(self.wallet(&user(owner), &command));
            }
            Action::Token { owner } => {
                drop(self.room(concert, &waiting_room::Command::IssueToken { user: user(owner) }));
            }
            Action::Leave { owner } => {
                let no = self.rooms.get(&concert).and_then(|room| room.state.live_token(&user(owner))).unwrap_or(1);
                drop(self.room(concert, &waiting_room::Command::Leave { user: Some(user(owner)), by: None, no }));
            }
            Action::Hold { option, owner, what, key: no } => {
                let wish = match what % 4 {
                    0 => Wish::Seats(smallvec![u32::from(what) % 20]),
                    1 => Wish::Seats(smallvec![u32::from(what) % 20, (u32::from(what) + 1) % 20]),
                    2 => Wish::Areas(smallvec![AreaPlaces { area: 0, count: u32::from(what) % 3 + 1 }]),
                    _ => Wish::Best(BestAvailable {
                        count: u32::from(what) % 4 + 1,
                        category: None,
                        zone: None,
                        adjacent: what > 128,
                        companions: 0,
                    }),
                };
                let key = no.and_then(|no| key(owner, 20 + no * 3 + owner as u8));
                self.hold(options[option], owner, wish, key);
            }
            Action::Release { option, pick } => {
                let (owner, reservation) = self.pick(options[option], pick, false);
                self.option(options[option], &Command::Release { reservation, caller: Caller::User(user(owner)) });
            }
            Action::Pay { option, pick, key: no } => {
                let (owner, reservation) = self.pick(options[option], pick, false);
                let key = no.and_then(|no| key(owner, 40 + no * 3 + owner as u8));
                self.pay(options[option], owner, reservation, key);
            }
            Action::Refund { option, pick, key: no } => {
                let (owner, payment) = self.pick(options[option], pick, true);
                let key = no.and_then(|no| key(owner, 60 + no * 3 + owner as u8));
                self.refund(options[option], payment, key);
            }
            Action::Change { option, pick, what, key: no } => {
                let picked = self.pick(options[option], pick, false);
                let key = no.and_then(|no| key(picked.0, 80 + no * 3 + picked.0 as u8));
                self.change(options[option], picked, what, key);
            }
            Action::Office { option, owner, what } => self.hold_for(options[option], owner, what),
            Action::Block { option, seat, off } => {
                let (mut blocks, request) = (Box::new(Blocks::seats([seat])), Request::default());
                if seat % 2 == 0 {
                    blocks.part.areas.push(AreaPlaces { area: 0, count: 1 });
                }
                let command =
                    if off { Command::Block { blocks, request } } else { Command::Unblock { blocks, request } };
                self.option(options[option], &command);
            }
            Action::Deliver { messages } => drop((0..messages).map(|_| self.deliver()).collect::<Vec<_>>()),
            Action::Wake => self.wake(),
            Action::Pass { millis } => self.pass(millis),
            Action::Crash { rebuild, unsynced } => {
                // Never so much that there would be no concert to sell.
                let spare = self.log.records.len().saturating_sub(9);
                self.crash(rebuild, unsynced.min(spare));
                self.options.entry(options[0]).or_default();
                self.options.entry(options[1]).or_default();
            }
            Action::Configure { max_active, mode } => {
                let patch = SettingsPatch { max_active: Some(max_active), mode, ..SettingsPatch::default() };
                let holders = self.options.values().flat_map(|option| option.state.holders()).cloned().collect();
                drop(self.room(concert, &waiting_room::Command::Configure { patch, holders, by: None }));
            }
        }
    }
}

/// What a history has come by, so that it is known to have been worth it.
#[derive(Debug, Default)]
struct Seen {
    confirmed: usize,
    failed: usize,
    refunded: usize,
    expired: usize,
    exchanged: usize,
    in_part: usize,
    handed_on: usize,
    given_away: usize,
}

fn play(seed: u64, faults: Faults, actions: &[Action], seen: &mut Seen) {
    let (mut world, concert, first) = world(seed);
    let second = world.put_on_sale(definition(concert), seating_plan());
    world.settle().unwrap();
    world.faults = faults;
    for action in actions {
        world.act(concert, [first, second], action);
        world.check().unwrap_or_else(|broken| panic!("after {action:?}: {broken}"));
    }
    world.settle().unwrap();
    // Past all deadlines, nothing is held.
    world.pass(u64::from(HOLD_SECONDS) * 1000);
    world.settle().unwrap();
    for subject in world.options.values() {
        assert_eq!(subject.state.counts().held, 0);
        assert_eq!(subject.state.due(), None);
        assert!(subject.rows.open_holds.is_empty());
        for (_, event) in &subject.history {
            match event {
                concert_option::Event::PaymentConfirmed { .. } => seen.confirmed += 1,
                concert_option::Event::PaymentFailed { .. } => seen.failed += 1,
                concert_option::Event::RefundCredited { .. } => seen.refunded += 1,
                concert_option::Event::ReservationsExpired { .. } => seen.expired += 1,
                concert_option::Event::ComplimentaryGiven { .. } => seen.given_away += 1,
                concert_option::Event::OrderChanged { change, .. } => match change.what {
                    What::Exchanged => seen.exchanged += 1,
                    What::Released | What::Refunded { .. } => seen.in_part += 1,
                    What::HandedOn { .. } => seen.handed_on += 1,
                    What::HeldUntil { .. } => {}
                },
                _ => {}
            }
        }
    }
    // And however it is put together, it is the same.
    for rebuild in [Rebuild::Events, Rebuild::Rows] {
        let before = world.all_rows();
        world.crash(rebuild, 0);
        world.settle().unwrap();
        assert_eq!(world.all_rows(), before);
    }
}

#[test]
fn random_histories_end_well() {
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let seen = std::cell::RefCell::new(Seen::default());
    let faults = prop_oneof![
        1 => Just(Faults::default()),
        3 => (0_u64..300, 0_u64..300, 0_u64..1000)
            .prop_map(|(lost, doubled, overtaken)| Faults { lost, doubled, overtaken }),
    ];
    let histories = (any::<u64>(), faults, prop::collection::vec(action(), 1..150));
    let ended = runner.run(&histories, |(seed, faults, actions)| {
        play(seed, faults, &actions, &mut seen.borrow_mut());
        Ok(())
    });
    if let Err(error) = ended {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    let enough = seen.confirmed > 400 && seen.failed > 100 && seen.refunded > 100 && seen.expired > 400;
    assert!(enough, "{seen:?}");
    let changed = seen.exchanged > 30 && seen.in_part > 100 && seen.handed_on > 20 && seen.given_away > 50;
    assert!(changed, "{seen:?}");
}

#[test]
fn a_shuffled_line_is_the_same_after_a_crash() {
    let opens_at = Some(start().plus_millis(1000));
    let settings =
        Settings { mode: Mode::Queue, max_active: 2, order: Order::ShuffleAtOpen, opens_at, ..Settings::default() };
    let mut world = World::new(start(), 7, Faults::default());
    let concert = world.announce(settings);
    world.settle().unwrap();
    for no in 0..30 {
        let user = format!("user {no}").parse().unwrap();
        world.room(concert, &waiting_room::Command::IssueToken { user }).unwrap();
    }
    world.pass(1000);
    world.wake();
    let order: Vec<_> = world.rooms[&concert].state.waiting().collect();
    for rebuild in [Rebuild::Rows, Rebuild::Events] {
        world.crash(rebuild, 0);
        assert_eq!(world.rooms[&concert].state.waiting().collect::<Vec<_>>(), order);
    }
    world.settle().unwrap();
    assert_eq!(world.rooms[&concert].state.counts().active, 2);
}
