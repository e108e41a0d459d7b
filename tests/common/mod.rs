//! What the tests of the engine's promises have in common: a small house, a whole sale in it, and everything that can be
//! asked about it.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod nodes;

use std::fmt::Write;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use boxoffice::payment::Method;
use boxoffice::settings::Payments;
use boxoffice::{
    Answered, BestAvailable, Caller, Config, Engine, EntryKind, Error, EventId, IdempotencyKey, NewArea, NewConcert,
    NewOption, OpenError, OptionId, Page, PageRequest, Payment, PaymentId, PaymentStatus, Points, Rejection,
    Reservation, ReservationId, ReservationStatus, RoomMode, RoomSettings, SinkId, Timestamp, TokenId, TokenStatus,
    UserId, WalletEntry, Wish,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Long enough for anything that does happen, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration for `dir` that takes little space and little time.
pub fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.to_path_buf(), ..Config::default() };
    config.journal.segment_bytes = 1 << 20;
    config.checkpoint.replay_target_ms = 0;
    config.checkpoint.cache_bytes = 8 << 20;
    config.storage.min_free_bytes = 1 << 20;
    config
}

/// With cards, of which others tell what becomes.
pub fn takes_cards(config: Config) -> Config {
    let card = Method { name: "card".into(), ..Method::default() };
    Config { payments: Payments { providers: vec![card], ..Payments::default() }, ..config }
}

pub fn user(n: usize) -> UserId {
    format!("user-{n}").parse().unwrap()
}

pub fn name(name: &str) -> UserId {
    name.parse().unwrap()
}

pub fn points(n: u64) -> Points {
    Points::new(n).unwrap()
}

pub fn key(caller: &UserId, operation: &str, key: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new(caller, operation, key, b"payload"))
}

/// A plan of `rows` rows of `seats` seats, all of category A but the last row, which is B. Seat ids are `row-seat`.
pub fn plan(rows: usize, seats: usize) -> Vec<u8> {
    let mut json = String::from(r#"{"categories":[{"name":"A"},{"name":"B"}],"zones":[{"name":"Hall","rows":["#);
    for row in 1..=rows {
        write!(json, r#"{}{{"row_number":"{row}","seats":["#, if row > 1 { "," } else { "" }).unwrap();
        for seat in 1..=seats {
            let category = if row == rows && rows > 1 { "B" } else { "A" };
            write!(
                json,
                r#"{}{{"seat_guid":"{row}-{seat}","seat_number":"{seat}","category":"{category}","position":{{"x":{},"y":{}}}}}"#,
                if seat > 1 { "," } else { "" },
                seat * 30,
                row * 40
            )
            .unwrap();
        }
        json.push_str("]}");
    }
    json.push_str("]}]}");
    json.into_bytes()
}

/// An option on [`plan`]: A costs 100, B costs 50; refundable until it begins, tomorrow.
pub fn new_option(engine: &Engine, rows: usize, seats: usize) -> NewOption {
    let tomorrow = engine.now().plus_millis(2 * 86_400_000);
    NewOption {
        prices: vec![("A".into(), points(100)), ("B".into(), points(50))],
        refundable_until: Some(tomorrow),
        max_seats_per_user: 10_000,
        ..NewOption::new(tomorrow, plan(rows, seats))
    }
}

pub fn new_concert(title: &str, waiting_room: RoomSettings) -> NewConcert {
    NewConcert { title: title.into(), waiting_room }
}

/// A concert in mode `open` with one option.
pub async fn on_sale(engine: &Engine, rows: usize, seats: usize) -> OptionId {
    let concert = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value;
    engine.add_option(concert.id, new_option(engine, rows, seats), None).await.unwrap().value.id
}

pub fn seats(ids: &[&str]) -> Wish {
    Wish::Seats(ids.iter().map(|id| (*id).to_owned()).collect())
}

pub fn best(count: u32) -> Wish {
    Wish::BestAvailable(BestAvailable { count, category: None, zone: None, adjacent: false, companions: 0 })
}

pub async fn charge(engine: &Engine, user: &UserId, amount: u64) {
    engine.charge(user, points(amount), &name("the-bank"), None).await.unwrap();
}

pub async fn hold(engine: &Engine, option: OptionId, user: &UserId, ids: &[&str]) -> Reservation {
    engine.hold(option, user, seats(ids), None, None).await.unwrap().value
}

/// Charges what it costs, holds and pays.
pub async fn buy(engine: &Engine, option: OptionId, user: &UserId, ids: &[&str]) -> (Reservation, Payment) {
    let held = hold(engine, option, user, ids).await;
    charge(engine, user, held.amount.get()).await;
    let payment = engine.pay(user, held.id, None).await.unwrap().value;
    (held, payment)
}

pub fn rejection<T: std::fmt::Debug>(result: Result<T, Error>) -> Rejection {
    match result {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("{other:?} is no rejection"),
    }
}

/// Asks until there is an answer.
///
/// # Panics
/// There is none in time.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Opens a directory as soon as the engine that was dropped there has let go of it.
pub async fn open_when_free(config: &Config) -> Engine {
    eventually("the directory is free", || async {
        match Engine::open(config.clone()).await {
            Ok(engine) => Some(engine),
            Err(OpenError::Locked(_)) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await
}

/// Copies a directory as it is at this moment, whoever writes there.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else if let Err(error) = std::fs::copy(&path, &target) {
            // The next segment and sled's blobs come and go.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}: {error}", path.display());
        }
    }
}

/// The segment files of a journal, oldest first.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "journal")).collect();
    segments.sort();
    segments
}

/// Where the frames of a segment begin.
pub fn frames(segment: &Path) -> Vec<usize> {
    let bytes = std::fs::read(segment).unwrap();
    (512..bytes.len()).step_by(512).filter(|&at| bytes[at..].starts_with(b"\xFFbxf")).collect()
}

/// Sets everything from `offset` on to zero.
pub fn zero_from(file: &Path, offset: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[offset..].fill(0);
    std::fs::write(file, bytes).unwrap();
}

pub fn flip(file: &Path, offset: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[offset] ^= 0x55;
    std::fs::write(file, bytes).unwrap();
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap()
}

/// All pages of a list.
pub async fn every<T, F: Future<Output = Result<Page<T>, Error>>>(
    limit: usize,
    mut ask: impl FnMut(PageRequest) -> F,
) -> Vec<T> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = ask(PageRequest { limit, cursor }).await.unwrap();
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return all;
        }
    }
}

pub async fn all_entries(engine: &Engine, user: &UserId) -> Vec<WalletEntry> {
    every(500, |page| async move { engine.wallet_entries(user, &page).await }).await
}

pub async fn all_payments(engine: &Engine, user: &UserId) -> Vec<Payment> {
    every(500, |page| async move { engine.payments(user, &page).await }).await
}

pub async fn all_reservations(engine: &Engine, user: &UserId, status: Option<ReservationStatus>) -> Vec<Reservation> {
    every(500, |page| async move { engine.reservations(user, status, &page).await }).await
}

/// All pages of a list, two items each.
async fn all_pages<T: Serialize, F: Future<Output = Result<Page<T>, Error>>>(
    ask: impl FnMut(PageRequest) -> F,
) -> Vec<Value> {
    every(2, ask).await.iter().map(value).collect()
}

/// A sale in which everything has happened that can happen.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sale {
    pub option: OptionId,
    pub users: Vec<UserId>,
    pub reservations: Vec<(UserId, ReservationId)>,
    pub payments: Vec<(UserId, PaymentId)>,
    pub tokens: Vec<(UserId, TokenId)>,
    /// Asked for with idempotency keys, and what was answered.
    pub replays: Vec<(Replay, Value)>,
}

/// A call with an idempotency key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Replay {
    Concert,
    Charge(UserId),
    Hold(OptionId, UserId),
    Pay(UserId, ReservationId),
    Refund(UserId, PaymentId),
    Block(OptionId),
    Redrive(SinkId, EventId),
}

impl Replay {
    /// Makes the call: for the first time, or again.
    pub async fn call(&self, engine: &Engine, payload: &[u8]) -> Result<(Value, bool), Error> {
        fn answer<T: Serialize>(answered: Answered<T>) -> (Value, bool) {
            (value(&answered.value), answered.replayed)
        }
        let key = |caller: &UserId| Some(IdempotencyKey::new(caller, &format!("{self:?}"), "the-key", payload));
        let admin = name("admin");
        Ok(match self {
            Self::Concert => {
                let concert = new_concert("Made once", RoomSettings { max_active: 3, ..RoomSettings::default() });
                answer(engine.create_concert(concert, key(&admin)).await?)
            }
            Self::Charge(user) => answer(engine.charge(user, points(1_000), &admin, key(&admin)).await?),
            Self::Hold(option, user) => answer(engine.hold(*option, user, best(2), None, key(user)).await?),
            Self::Pay(user, id) => answer(engine.pay(user, *id, key(user)).await?),
            Self::Refund(user, id) => answer(engine.refund(&Caller::User(user.clone()), *id, key(user)).await?),
            Self::Block(option) => answer(engine.block_seats(*option, vec!["9-1".into()], key(&admin)).await?),
            Self::Redrive(sink, event) => answer(engine.redrive(*sink, Some(*event), key(&admin)).await?),
        })
    }
}

impl Sale {
    /// Holds a whole sale: two concerts, one of them with a waiting room, and all that befalls reservations.
    pub async fn hold(engine: &Engine) -> Self {
        let users: Vec<_> = (0..6).map(user).collect();
        let concert =
            engine.create_concert(new_concert("Open air", RoomSettings::default()), None).await.unwrap().value;
        let areas = vec![NewArea { name: "Lawn".into(), capacity: 100, category: "B".into() }];
        let option = NewOption { areas, ..new_option(engine, 10, 10) };
        let option = engine.add_option(concert.id, option, None).await.unwrap().value.id;
        let mut sale = Self {
            option,
            users,
            reservations: Vec::new(),
            payments: Vec::new(),
            tokens: Vec::new(),
            replays: Vec::new(),
        };
        sale.run(engine).await;
        let brief = NewOption { hold_seconds: 1, ..new_option(engine, 2, 5) };
        let brief = engine.add_option(concert.id, brief, None).await.unwrap().value.id;
        sale.let_expire(engine, brief).await;
        sale.queue(engine).await;
        sale
    }

    pub async fn keyed(&mut self, engine: &Engine, call: Replay) -> Value {
        let (answer, replayed) = call.call(engine, b"payload").await.unwrap();
        assert!(!replayed, "{call:?}");
        self.replays.push((call, answer.clone()));
        answer
    }

    async fn run(&mut self, engine: &Engine) {
        let option = self.option;
        let [anna, berta, clara, dora, ..] = &self.users.clone()[..] else { unreachable!() };
        self.keyed(engine, Replay::Concert).await;
        for user in [anna, berta, clara] {
            self.keyed(engine, Replay::Charge(user.clone())).await;
        }
        self.keyed(engine, Replay::Block(option)).await;
        engine.block_seats(option, vec!["8-1".into(), "8-2".into()], None).await.unwrap();
        engine.unblock_seats(option, vec!["8-2".into()], None).await.unwrap();
        // Paid, with keys; and held by somebody who cannot pay.
        let held = self.keyed(engine, Replay::Hold(option, anna.clone())).await;
        let held: ReservationId = held["id"].as_str().unwrap().parse().unwrap();
        let paid = self.keyed(engine, Replay::Pay(anna.clone(), held)).await;
        self.reservations.push((anna.clone(), held));
        self.payments.push((anna.clone(), paid["id"].as_str().unwrap().parse().unwrap()));
        charge(engine, dora, 99).await;
        let poor = hold(engine, option, dora, &["1-1"]).await;
        let refused = rejection(engine.pay(dora, poor.id, None).await);
        assert_eq!(refused, Rejection::InsufficientPoints { balance: points(99), amount: points(100) });
        self.reservations.push((dora.clone(), poor.id));
        // Released, refunded, refunded with a key, on the lawn, and bought for nobody to touch.
        let released = hold(engine, option, berta, &["2-1", "2-2"]).await;
        engine.release(&Caller::User(berta.clone()), released.id).await.unwrap();
        self.reservations.push((berta.clone(), released.id));
        let (held, payment) = buy(engine, option, berta, &["2-1"]).await;
        engine.refund(&Caller::Admin, payment.id, None).await.unwrap();
        self.note(berta, held.id, payment.id);
        let (held, payment) = buy(engine, option, clara, &["2-2", "2-3"]).await;
        self.keyed(engine, Replay::Refund(clara.clone(), payment.id)).await;
        self.note(clara, held.id, payment.id);
        let wish = Wish::Areas(vec![("Lawn".into(), 7)]);
        let lawn = engine.hold(option, clara, wish, None, None).await.unwrap().value;
        let payment = engine.pay(clara, lawn.id, None).await.unwrap().value;
        self.note(clara, lawn.id, payment.id);
        let (held, payment) = buy(engine, option, berta, &["3-1", "3-2", "3-3"]).await;
        self.note(berta, held.id, payment.id);
        let wish = Wish::Areas(vec![("Lawn".into(), 3)]);
        let held = engine.hold(option, anna, wish, None, None).await.unwrap().value;
        self.reservations.push((anna.clone(), held.id));
    }

    fn note(&mut self, user: &UserId, reservation: ReservationId, payment: PaymentId) {
        self.reservations.push((user.clone(), reservation));
        self.payments.push((user.clone(), payment));
    }

    async fn let_expire(&mut self, engine: &Engine, brief: OptionId) {
        let user = self.users[4].clone();
        let held = hold(engine, brief, &user, &["1-1", "1-2"]).await;
        self.reservations.push((user.clone(), held.id));
        let caller = Caller::User(user);
        eventually("the hold has expired", || async {
            (engine.reservation(&caller, held.id).await.unwrap().status == ReservationStatus::Expired).then_some(())
        })
        .await;
    }

    /// A concert with a waiting room: one has paid, one has left, one is inside and two wait.
    async fn queue(&mut self, engine: &Engine) {
        let settings = RoomSettings { mode: RoomMode::Queue, max_active: 2, ..RoomSettings::default() };
        let concert = engine.create_concert(new_concert("In demand", settings), None).await.unwrap().value.id;
        let option = engine.add_option(concert, new_option(engine, 2, 5), None).await.unwrap().value.id;
        for user in self.users.clone() {
            let token = engine.issue_token(concert, &user).await.unwrap().token;
            self.tokens.push((user, token.id));
        }
        let (first, token) = self.tokens[0].clone();
        let active = self.until_active(engine, 0).await;
        let held = engine.hold(option, &first, seats(&["1-1"]), Some(&active), None).await.unwrap().value;
        charge(engine, &first, 100).await;
        let payment = engine.pay(&first, held.id, None).await.unwrap().value;
        self.note(&first, held.id, payment.id);
        let caller = Caller::User(first);
        eventually("the token is used", || async {
            (engine.token(&caller, token).await.unwrap().status == TokenStatus::Used).then_some(())
        })
        .await;
        let (second, token) = self.tokens[1].clone();
        self.until_active(engine, 2).await;
        engine.leave_queue(&Caller::User(second), token).await.unwrap();
        self.until_active(engine, 3).await;
    }

    async fn until_active(&self, engine: &Engine, index: usize) -> String {
        let (user, token) = &self.tokens[index];
        let caller = Caller::User(user.clone());
        eventually("the token is active", || async {
            let token = engine.token(&caller, *token).await.unwrap();
            (token.status == TokenStatus::Active).then_some(token.token)
        })
        .await
    }

    /// What the engine answers to everything that can be asked without changing anything.
    pub async fn answers(&self, engine: &Engine) -> Value {
        let mut users = serde_json::Map::new();
        for user in &self.users {
            let mut by_status = serde_json::Map::new();
            for &status in ReservationStatus::ALL {
                let list = all_pages(|page| async move { engine.reservations(user, Some(status), &page).await });
                by_status.insert(status.as_str().into(), list.await.into());
            }
            let answers = json!({
                "wallet": value(&engine.wallet(user).await.unwrap()),
                "entries": all_pages(|page| async move { engine.wallet_entries(user, &page).await }).await,
                "payments": all_pages(|page| async move { engine.payments(user, &page).await }).await,
                "reservations": all_pages(|page| async move { engine.reservations(user, None, &page).await }).await,
                "by_status": by_status,
            });
            users.insert(user.to_string(), answers);
        }
        let (mut concerts, mut options) = (Vec::new(), Vec::new());
        for concert in engine.concerts(&PageRequest::default()).await.unwrap().items {
            concerts.push((
                value(&engine.concert(concert.id).await.unwrap()),
                value(&engine.waiting_room(concert.id).await.unwrap()),
            ));
            for id in concert.options {
                let plan = engine.plan_json(id).await.unwrap();
                options.push(json!({
                    "option": value(&engine.option(id).await.unwrap()),
                    "seats": value(&engine.seats(id).await.unwrap()),
                    "seq": engine.seats_seq(id).await.unwrap(),
                    "plan": plan.hash,
                    "plan_bytes": plan.json.len(),
                }));
            }
        }
        let mut single = Vec::new();
        for (user, id) in &self.reservations {
            single.push(value(&engine.reservation(&Caller::User(user.clone()), *id).await.unwrap()));
        }
        for (user, id) in &self.payments {
            single.push(value(&engine.payment(&Caller::User(user.clone()), *id).await.unwrap()));
        }
        for (user, id) in &self.tokens {
            let mut token = value(&engine.token(&Caller::User(user.clone()), *id).await.unwrap());
            // An estimate, from how many were let in during the last minute.
            token.as_object_mut().unwrap().remove("expected_wait_seconds");
            single.push(token);
        }
        json!({
            "concerts": concerts,
            "listed": all_pages(|page| async move { engine.concerts(&page).await }).await,
            "options": options,
            "users": users,
            "single": single,
        })
    }

    /// That all calls with idempotency keys get their old answers, and other payloads none.
    pub async fn check_replays(&self, engine: &Engine) {
        for (call, answer) in &self.replays {
            assert_eq!(call.call(engine, b"payload").await.unwrap(), (answer.clone(), true), "{call:?}");
            assert_eq!(rejection(call.call(engine, b"other").await), Rejection::IdempotencyKeyReused, "{call:?}");
        }
    }
}

/// That the money of `users` adds up: entries to balances, debits to payments and the differences of their exchanges, credits to
/// what went back. Nobody has exchanged what somebody else has paid. Gives the sum of the balances.
pub async fn audit_money(engine: &Engine, users: &[UserId]) -> u64 {
    let mut balances = 0;
    for user in users {
        let entries = all_entries(engine, user).await;
        let mut balance = 0;
        let (mut debits, mut credits) = (std::collections::BTreeMap::new(), 0);
        for entry in entries.iter().rev() {
            match value(&entry.kind).as_str().unwrap() {
                "charge" => balance += entry.amount.get(),
                "debit" => {
                    let again = debits.insert(entry.reference.clone(), entry.amount);
                    assert_eq!(again, None, "{user} was debited twice for {}", entry.reference);
                    assert!(balance >= entry.amount.get(), "{user} has spent what was not there");
                    balance -= entry.amount.get();
                }
                "adjustment" if entry.kind == EntryKind::AdjustedDown => balance -= entry.amount.get(),
                "adjustment" => balance += entry.amount.get(),
                _ => {
                    balance += entry.amount.get();
                    credits += entry.amount.get();
                }
            }
            assert_eq!(entry.balance.get(), balance, "{user}: {entry:?}");
        }
        assert_eq!(engine.wallet(user).await.unwrap().balance.get(), balance, "{user}");
        let debited: u64 = debits.values().map(|amount| amount.get()).sum();
        let (mut paid, mut refunded) = (0, 0);
        for payment in all_payments(engine, user).await {
            let debit = debits.remove(&payment.id.to_string());
            // What a provider takes is in no wallet.
            if payment.provided.is_some() {
                assert_eq!(debit, None, "{payment:?}");
                continue;
            }
            match payment.status {
                PaymentStatus::Completed | PaymentStatus::Refunded => {
                    // Nothing is taken for what was given away.
                    assert_eq!(debit.is_some(), payment.balance.is_some(), "{payment:?}");
                    paid += payment.amount.get();
                    let all = if payment.status == PaymentStatus::Refunded { payment.amount.get() } else { 0 };
                    refunded += payment.given_back.unwrap_or(all);
                }
                _ => assert_eq!(debit, None, "{payment:?}"),
            }
        }
        assert_eq!(debited, paid, "{user} was debited for no payment: {debits:?}");
        assert_eq!(credits, refunded, "{user}");
        balances += balance;
    }
    balances
}

/// That the seats of `users`' reservations are exactly those that are taken on `option`, each once.
pub async fn audit_seats(engine: &Engine, option: OptionId, users: &[UserId]) {
    eventually("nothing changes while the seats are audited", || async {
        let before = engine.seats_seq(option).await.unwrap();
        let differences = compare_seats(engine, option, users).await;
        let quiet = engine.seats_seq(option).await.unwrap() == before;
        assert!(!quiet || differences.is_empty(), "{option}: {differences:?}");
        quiet.then_some(())
    })
    .await;
}

/// The seats that are not what the reservations of `users` say: with what the map says, and they.
async fn compare_seats(
    engine: &Engine,
    option: OptionId,
    users: &[UserId],
) -> Vec<(String, Option<&'static str>, Option<&'static str>)> {
    let mut taken = std::collections::BTreeMap::new();
    let mut differences = Vec::new();
    for user in users {
        for reservation in all_reservations(engine, user, None).await.iter().filter(|one| one.id.option == option) {
            let status = match reservation.status {
                ReservationStatus::Held | ReservationStatus::Paying => "held",
                ReservationStatus::Confirmed => "sold",
                _ => continue,
            };
            for seat in reservation.seats() {
                let other = taken.insert(seat.id.to_owned(), status);
                if other.is_some() {
                    differences.push((seat.id.to_owned(), other, Some(status)));
                }
            }
        }
    }
    let map = engine.seats(option).await.unwrap();
    let map: std::collections::BTreeMap<_, _> = map
        .taken()
        .map(|(id, status)| (id.to_owned(), boxoffice::seat_status_name(status)))
        .filter(|(_, status)| *status != "blocked")
        .collect();
    let seats: std::collections::BTreeSet<_> = map.keys().chain(taken.keys()).collect();
    let compared = seats.into_iter().map(|seat| (seat.clone(), map.get(seat).copied(), taken.get(seat).copied()));
    differences.extend(compared.filter(|(_, map, taken)| map != taken));
    differences
}

/// That nothing on `option` waits for anything: no payment is under way, and every refund is paid.
pub async fn settled(engine: &Engine, option: OptionId, users: &[UserId]) {
    eventually("nothing is under way any more", || async {
        for user in users {
            let paying = all_reservations(engine, user, Some(ReservationStatus::Paying)).await;
            let payments = all_payments(engine, user).await;
            let refunded = payments.iter().filter(|one| one.status == PaymentStatus::Refunded).count();
            let entries = all_entries(engine, user).await;
            let credits = entries.iter().filter(|one| value(&one.kind) == json!("credit")).count();
            let pending = payments.iter().any(|one| one.status == PaymentStatus::Pending);
            if pending || credits < refunded || paying.iter().any(|one| one.id.option == option) {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// A moment at which tests with a clock of their own begin: long ago, so that it cannot be mistaken for now.
pub const LONG_AGO: Timestamp = Timestamp::from_millis(1_000_000_000_000);

/// As `assert_eq`, but says where two answers differ instead of printing both.
pub fn assert_same(found: &Value, expected: &Value, what: &str) {
    use Value::{Array, Object};
    match (found, expected) {
        (Object(a), Object(b)) if a.keys().eq(b.keys()) => {
            for (key, found) in a {
                assert_same(found, &b[key], &format!("{what}/{key}"));
            }
        }
        (Array(a), Array(b)) if a.len() == b.len() => {
            for (index, (found, expected)) in a.iter().zip(b).enumerate() {
                assert_same(found, expected, &format!("{what}/{index}"));
            }
        }
        _ => assert_eq!(found, expected, "{what}"),
    }
}
