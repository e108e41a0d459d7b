//! Rows that share pages, against a naive model: whatever is finished, listed, checkpointed, cut off and read in between.

use std::collections::BTreeMap;
use std::path::Path;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::api::ReservationStatus;
use crate::domain::concert_option::{Definition, Event, Part, Prices, Reservation, SeatSet, Window};
use crate::domain::seating_plan::PlanHash;
use crate::domain::{PaymentId, Points, Timestamp, wallet};
use crate::store::codec::Facts;
use crate::store::disk::{Disk, RealDisk};
use crate::store::sled_rows::SledFolder;
use crate::store::sled_rows::tests::{Look, Watched};

const OPTIONS: u64 = 2;
const USERS: usize = 4;

#[derive(Debug, Clone)]
enum Op {
    Hold {
        option: u64,
        user: usize,
    },
    /// Ends one of the open holds: gives it up, or pays it.
    Release {
        which: usize,
    },
    Pay {
        which: usize,
    },
    /// Gives one of the payments back.
    Refund {
        which: usize,
    },
    /// Holds so often that pages of a list are filled.
    Rush {
        user: usize,
        times: u64,
    },
    /// Others have come so many events further.
    Elsewhere {
        events: u64,
    },
    Begin,
    Write,
    End {
        most: usize,
    },
    /// The process dies, and another one starts.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1..=OPTIONS, 0..USERS).prop_map(|(option, user)| Op::Hold { option, user }),
        6 => any::<usize>().prop_map(|which| Op::Release { which }),
        4 => any::<usize>().prop_map(|which| Op::Pay { which }),
        3 => any::<usize>().prop_map(|which| Op::Refund { which }),
        1 => (0..USERS, 50..150_u64).prop_map(|(user, times)| Op::Rush { user, times }),
        1 => prop::sample::select(vec![1, 1_000, 1 << 40]).prop_map(|events| Op::Elsewhere { events }),
        2 => Just(Op::Begin),
        2 => Just(Op::Write),
        2 => (0..8_usize).prop_map(|most| Op::End { most }),
        1 => Just(Op::Crash),
    ]
}

fn user(n: usize) -> UserId {
    // Of several lengths, one the beginning of another.
    "u".repeat(n + 1).parse().unwrap()
}

/// What is known of everything, kept as simply as can be.
#[derive(Default)]
struct Model {
    journal: Vec<(Lsn, Record)>,
    last: Lsn,
    numbers: BTreeMap<u64, u64>,
    /// Lists by user and tag.
    lists: BTreeMap<(usize, u8), Vec<Listed>>,
    open: Vec<(u64, u64, usize)>,
    paid: Vec<(u64, u64, u64, usize)>,
    /// The status of archived reservations, by option and number.
    archived: BTreeMap<(u64, u64), &'static str>,
    entries: BTreeMap<usize, u64>,
}

impl Model {
    fn event(&mut self, replica: &mut Replica, facts: Facts) -> Lsn {
        let first = self.last.next();
        let record = Record { at: Timestamp::from_millis(first.0), facts };
        replica.loading(|replica| replica.apply(first, &record)).unwrap();
        self.last = replica.applied();
        self.journal.push((first, record));
        first
    }

    fn option(&mut self, replica: &mut Replica, option: u64, event: Event) -> Lsn {
        self.event(replica, Facts::Option(OptionId(option), vec![event]))
    }

    fn number(&mut self, option: u64) -> u64 {
        let number = self.numbers.entry(option).or_default();
        *number += 1;
        *number
    }

    fn define(&mut self, replica: &mut Replica) {
        for option in 1..=OPTIONS {
            let definition = Definition {
                concert: ConcertId(1),
                starts_at: Timestamp::from_millis(1 << 40),
                window: Window { sale_opens_at: None, sale_closes_at: Timestamp::default(), refundable_until: None },
                plan: PlanHash([0; 32]),
                seat_count: 4,
                prices: Vec::new(),
                areas: Vec::new(),
                hold_seconds: 300,
                payment_seconds: 60,
                max_seats_per_reservation: 4,
                max_seats_per_user: 4,
                focus: None,
                accessible: Vec::new(),
                not_for_sale: SeatSet::default(),
                payment_methods: Vec::new(),
                currency: None,
                amended: None,
            };
            let event = Event::OptionDefined { option: OptionId(option), definition: Box::new(definition) };
            self.option(replica, option, event);
        }
    }

    fn list(&mut self, user: usize, tag: u8, lsn: Lsn, option: u64, no: u64) {
        self.lists.entry((user, tag)).or_default().insert(0, Listed { lsn, option: OptionId(option), no });
    }

    fn book(&mut self, replica: &mut Replica, user_no: usize, option: u64, payment: u64) {
        let entries = self.entries.entry(user_no).or_default();
        *entries += 1;
        let event = wallet::Event::Debited {
            entry: *entries,
            payment: PaymentId { option: OptionId(option), no: payment },
            amount: Points::ZERO,
            balance: Points::ZERO,
            settled_below: payment,
        };
        self.event(replica, Facts::Wallet(user(user_no), vec![event]));
    }

    fn hold(&mut self, replica: &mut Replica, option: u64, user_no: usize) {
        let no = self.number(option);
        let event = Event::SeatsHeld {
            reservation: no,
            user: user(user_no),
            seats: [].as_slice().into(),
            areas: [].as_slice().into(),
            amount: Points::ZERO,
            expires_at: Timestamp::from_millis(1 << 40),
            token: None,
            key: None,
            note: None,
            prices: Prices::default(),
            from_blocked: Vec::new(),
            by: None,
        };
        let lsn = self.option(replica, option, event);
        self.list(user_no, 3, lsn, option, no);
        self.open.push((option, no, user_no));
    }

    fn pay(&mut self, replica: &mut Replica, (option, no, user_no): (u64, u64, usize)) {
        let payment = self.number(option);
        let deadline = Timestamp::from_millis(1 << 40);
        let started = Event::PaymentStarted { payment, reservation: no, deadline, key: None };
        let lsn = self.option(replica, option, started);
        self.list(user_no, 4, lsn, option, payment);
        self.book(replica, user_no, option, payment);
        let confirmed = Event::PaymentConfirmed { payment, balance: Points::ZERO, paid_at: deadline };
        self.option(replica, option, confirmed);
        self.paid.push((option, no, payment, user_no));
    }

    fn refund(&mut self, replica: &mut Replica, (option, no, payment, _): (u64, u64, u64, usize)) {
        let refund = self.number(option);
        self.option(replica, option, Event::PaymentRefunded { refund, payment, key: None, by: None });
        let refunded_at = Timestamp::from_millis(1);
        self.option(replica, option, Event::RefundCredited { refund, balance: Points::ZERO, refunded_at, left: None });
        self.archived.insert((option, no), "refunded");
    }

    fn check(&self, replica: &mut Replica, limit: usize) {
        for user_no in 0..USERS {
            for (tag, like) in [(3, Part::Reservation(0)), (4, Part::Payment(0))] {
                let expected = self.lists.get(&(user_no, tag)).cloned().unwrap_or_default();
                let (mut found, mut before) = (Vec::new(), None);
                loop {
                    let page = replica.listed(&user(user_no), &like, before, limit).read().unwrap();
                    let Some(last) = page.last() else { break };
                    assert!(page.len() <= limit);
                    before = Some(last.lsn);
                    found.extend(page);
                }
                assert_eq!(found, expected, "list {tag} of {user_no}, {limit} at a time");
            }
            let entries = self.entries.get(&user_no).copied().unwrap_or_default();
            for from in [entries, entries / 2] {
                let (first, from_part) = (wallet::Part::Entry(1), wallet::Part::Entry(from));
                let found = replica.archived_down::<Wallet>(&user(user_no), &first, &from_part, limit);
                let found = found.read::<Wallet>(&user(user_no)).unwrap();
                let expected = (1..=from).rev().take(limit).map(wallet::Part::Entry);
                assert!(found.iter().map(|(part, _)| part.clone()).eq(expected), "entries of {user_no}: {found:?}");
            }
        }
        for option in 1..=OPTIONS {
            let last = self.numbers.get(&option).copied().unwrap_or_default();
            for no in 1..=last + 1 {
                let (id, part) = (OptionId(option), Part::Reservation(no));
                let name = |found: &Reservation| ReservationStatus::from(found.status).as_str();
                let read = |row: Option<Vec<u8>>| row.map(|row| name(&Reservation::from_row(no, &row).unwrap()));
                // Before and after it is in memory.
                let cold = read(replica.find::<ConcertOption>(&id, &part).row().unwrap());
                let live = replica.loading(|replica| Ok(replica.option(id)?.reservation(no).map(name))).unwrap();
                let found = read(replica.find::<ConcertOption>(&id, &part).row().unwrap());
                let archived = self.archived.get(&(option, no)).copied();
                assert!(live.is_none() || archived.is_none(), "reservation {no} of {option}");
                assert_eq!((cold, found), (live.or(archived), live.or(archived)), "reservation {no} of {option}");
            }
        }
    }
}

fn open(dir: &Path, journal: &[(Lsn, Record)]) -> (Arc<StateStore>, Replica) {
    let (store, opened) = StateStore::open(dir, Arc::new(RealDisk)).unwrap();
    assert_eq!(opened.rebuilt_because, None);
    let store = Arc::new(store);
    let mut replica = Replica::new(store.clone(), opened.lsn).unwrap();
    for (first, record) in journal.iter().filter(|(first, _)| *first > opened.lsn) {
        replica.loading(|replica| replica.apply(*first, record)).unwrap();
    }
    (store, replica)
}

#[test]
fn entries_are_found_on_all_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let (store, mut replica) = open(dir.path(), &[]);
    model.define(&mut replica);
    for payment in 1..=200 {
        model.book(&mut replica, 0, 1, payment);
        if payment == 70 {
            // Some pages are in sled, some are not, and one is in both.
            let changes = replica.begin_checkpoint();
            let lsn = changes.lsn;
            store.checkpoint(lsn, changes.altered(&store)).unwrap();
            drop(replica.end_checkpoint(lsn, 0));
        }
        for (first, from, limit) in [(0, payment, 1_000), (1, payment, 7), (5, payment / 2, 90), (64, 128, 65)] {
            let from = payment.min(from);
            let (start, part) = (wallet::Part::Entry(first), wallet::Part::Entry(from));
            let found = replica.archived_down::<Wallet>(&user(0), &start, &part, limit);
            let found = found.read::<Wallet>(&user(0)).unwrap();
            let expected: Vec<_> = (first.max(1)..=from).rev().take(limit).map(wallet::Part::Entry).collect();
            let found: Vec<_> = found.into_iter().map(|(part, _)| part).collect();
            assert_eq!(found, expected, "{payment} entries, from {from} down to {first}, {limit} at most");
        }
    }
}

#[test]
fn whatever_is_half_written_everything_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let look = Look::default();
    let folder = SledFolder { dir: dir.path().to_owned(), disk: disk.clone(), cache_bytes: 8 << 20 };
    let (store, _) = StateStore::open_on(&Watched(folder, look.clone()), dir.path(), disk).unwrap();
    let store = Arc::new(store);
    let mut replica = Replica::new(store.clone(), Lsn(0)).unwrap();
    let mut model = Model::default();
    model.define(&mut replica);
    for round in 0..4 {
        // What some have looked for, and not read yet.
        let held: Vec<_> = model.open.iter().map(|(option, no, _)| (OptionId(*option), *no)).collect();
        let held =
            held.into_iter().map(|(option, no)| match replica.find::<ConcertOption>(&option, &Part::Reservation(no)) {
                Found::Row(row) => panic!("{no} is in memory: {row:?}"),
                Found::Stored { rows, archived, live } => (no, rows, archived, live),
            });
        let held: Vec<_> = held.collect();
        for n in 0..400 {
            model.hold(&mut replica, 1 + n % OPTIONS, n as usize % USERS);
            if n % 4 < 2 {
                let (option, no, _) = model.open.remove(0);
                model.option(&mut replica, option, Event::ReservationReleased { reservation: no, by: None });
                model.archived.insert((option, no), "released");
            } else if n % 4 == 2 {
                let open = model.open.remove(0);
                model.pay(&mut replica, open);
            }
        }
        let changes = replica.begin_checkpoint();
        (0..50).for_each(|n| model.hold(&mut replica, 1, n % USERS));
        let shared = Arc::new(Mutex::new((std::mem::take(&mut model), replica, 0)));
        let looking = shared.clone();
        *look.lock() = Some(Box::new(move || {
            let (model, replica, looks) = &mut *looking.lock();
            *looks += 1;
            model.check(replica, 40);
            for (no, rows, archived, live) in &held {
                let found = Found::Stored { rows: rows.clone(), archived: archived.clone(), live: live.clone() };
                assert!(found.row().unwrap().is_some(), "reservation {no}, after {looks} batches");
            }
        }));
        let lsn = changes.lsn;
        store.checkpoint(lsn, changes.altered(&store)).unwrap();
        *look.lock() = None;
        let looks;
        (model, replica, looks) = Arc::into_inner(shared).unwrap().into_inner();
        assert!(looks > 3, "round {round}: {looks} batches");
        drop(replica.end_checkpoint(lsn, 0));
        // All of it, and nothing stays in memory.
        let changes = replica.begin_checkpoint();
        let lsn = changes.lsn;
        store.checkpoint(lsn, changes.altered(&store)).unwrap();
        drop(replica.end_checkpoint(lsn, 0));
    }
}

#[test]
fn the_longest_unused_are_forgotten_and_some_more_than_must() {
    let mut replica = Replica::new(Arc::new(StateStore::in_memory()), Lsn(0)).unwrap();
    let users: Vec<UserId> = (0..50).map(|n| format!("user-{n:02}").parse().unwrap()).collect();
    // Two at a time, the last ones first.
    for (n, user) in users.iter().rev().enumerate() {
        replica.applied = Lsn(n as u64 / 2);
        replica.loading(|replica| replica.wallet(user).map(drop)).unwrap();
    }
    let one = Points::new(1).unwrap();
    let event = wallet::Event::Charged { entry: 1, amount: one, balance: one, by: user(0), key: None };
    let charged = Record { at: Timestamp::default(), facts: Facts::Wallet(users[49].clone(), vec![event]) };
    replica.loading(|replica| replica.apply(Lsn(1), &charged)).unwrap();
    let known =
        |replica: &Replica| -> Vec<usize> { (0..50).filter(|n| replica.caches.wallets.has(&users[*n])).collect() };
    drop(replica.evict(50));
    assert_eq!(known(&replica).len(), 50, "they are not too many");
    drop(replica.evict(35));
    // Two below the limit, which is a sixteenth of it; not the one that is not in sled as it is.
    let mut expected: Vec<_> = (0..33).collect();
    expected[32] = 49;
    assert_eq!(known(&replica), expected);
    drop(replica.evict(0));
    assert_eq!(known(&replica), [49]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_shares_pages_is_found_as_if_it_did_not(ops in prop::collection::vec(op(), 1..250), limit in 1..40_usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let (mut store, mut replica) = open(dir.path(), &[]);
        model.define(&mut replica);
        let (mut begun, mut written) = (None, None);
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Hold { option, user } => model.hold(&mut replica, option, user),
                Op::Release { which } if !model.open.is_empty() => {
                    let which = which % model.open.len();
                    let (option, no, _) = model.open.swap_remove(which);
                    model.option(&mut replica, option, Event::ReservationReleased { reservation: no, by: None });
                    model.archived.insert((option, no), "released");
                }
                Op::Pay { which } if !model.open.is_empty() => {
                    let which = which % model.open.len();
                    let open = model.open.swap_remove(which);
                    model.pay(&mut replica, open);
                }
                Op::Refund { which } if !model.paid.is_empty() => {
                    let which = which % model.paid.len();
                    let paid = model.paid.swap_remove(which);
                    model.refund(&mut replica, paid);
                }
                Op::Rush { user, times } => (0..times).for_each(|_| model.hold(&mut replica, 1, user)),
                Op::Elsewhere { events } => model.last.0 += events,
                Op::Begin if begun.is_none() && written.is_none() => begun = Some(replica.begin_checkpoint()),
                Op::Write => if let Some(changes) = begun.take() {
                    let lsn = changes.lsn;
                    store.checkpoint(lsn, changes.altered(&store)).unwrap();
                    written = Some(lsn);
                },
                Op::End { most } => if let Some(lsn) = written.take() {
                    drop(replica.end_checkpoint(lsn, most));
                },
                Op::Crash => {
                    drop((store, replica, begun.take(), written.take()));
                    (store, replica) = open(dir.path(), &model.journal);
                }
                _ => {}
            }
            if step.is_multiple_of(16) {
                model.check(&mut replica, limit);
            }
        }
        model.check(&mut replica, limit);
        // What came in one checkpoint makes the same rows.
        let rows = |store: &StateStore| {
            let mut rows = BTreeMap::new();
            store.each(&[], &[u8::MAX], |key, row| { rows.insert(key.to_vec(), row); }).unwrap();
            rows
        };
        drop((begun.take(), written.take(), store, replica));
        let (store, mut replica) = open(dir.path(), &model.journal);
        store.checkpoint(replica.applied(), replica.begin_checkpoint().altered(&store)).unwrap();
        let once = Arc::new(StateStore::in_memory());
        let mut replica = Replica::new(once.clone(), Lsn(0)).unwrap();
        for (first, record) in &model.journal {
            replica.loading(|replica| replica.apply(*first, record)).unwrap();
        }
        let changes = replica.begin_checkpoint();
        once.checkpoint(changes.lsn, changes.altered(&once)).unwrap();
        prop_assert_eq!(rows(&store), rows(&once));
        prop_assert_eq!(store.settled(), once.settled());
    }
}

#[test]
fn whatever_happens_while_an_aggregate_is_loaded_it_is_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut replica) = open(dir.path(), &[]);
    let mut model = Model::default();
    model.define(&mut replica);
    let checkpoint = |replica: &mut Replica| {
        let changes = replica.begin_checkpoint();
        let lsn = changes.lsn;
        store.checkpoint(lsn, changes.altered(&store)).unwrap();
        drop(replica.end_checkpoint(lsn, 0));
    };
    checkpoint(&mut replica);
    let holds = |replica: &mut Replica| Ok(replica.option(OptionId(1))?.reservations().count());
    for (round, load_first) in [(0, false), (1, true), (2, false), (3, true)] {
        let cold: Cold = holds(&mut replica).expect_err("it is not in memory");
        // Read before what comes now, or in the middle of it, and put there in the end.
        let early = load_first.then(|| cold.load().unwrap());
        model.hold(&mut replica, 1, 0);
        checkpoint(&mut replica);
        drop(replica.evict(0));
        let loaded = early.unwrap_or_else(|| cold.load().unwrap());
        assert!(cold.is_there(&mut replica), "it stays for whoever loads it");
        loaded.put(&mut replica);
        assert_eq!(holds(&mut replica).unwrap(), round + 1);
        drop(cold);
        drop(replica.evict(0));
        assert!(holds(&mut replica).is_err(), "nobody wants it any more");
    }
}
