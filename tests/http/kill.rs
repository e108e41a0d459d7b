//! A serving process that is killed under load at any moment, also while it starts, has forgotten nothing of what it had
//! answered, has done nothing twice, brings to an end what was under way, and tells receivers of events all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::Settings;
use boxoffice::testing::random::{Random, seed};
use boxoffice::{EventId, Timestamp};
use parking_lot::Mutex;
use reqwest::Client;
use serde_json::{Value, json};

use crate::harness::option_body;
use crate::process::{begin, run, serve, text};
use crate::receiver::{BROKEN, FINE, Receiver, Say};

/// How often the process is killed, unless the environment says another number.
const KILLS: u64 = 25;
const KILLS_VARIABLE: &str = "BOXOFFICE_KILLS";
/// After so many rounds other buyers come, so that what must be asked for does not grow with each round.
const ROUNDS_OF_BUYERS: u64 = 20;
const CALLERS: u64 = 16;
const USERS: u64 = 12;
const SEATS: u64 = 60;
/// How long may pass until what was under way has come to its end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How late a slow receiver of events answers.
const LATE: Duration = Duration::from_millis(100);
/// How long the tokens of buyers are good for.
const DAY: Duration = Duration::from_secs(86_400);
/// By how much this process may be behind the server when it looks at the clock.
const CLOCK_MILLIS: u64 = 100;

#[derive(Debug, Clone, PartialEq)]
enum Deed {
    AddOption { concert: String },
    Block { option: String },
    Charge,
    Wait { concert: String },
    Leave { token: String },
    Hold { option: String, token: Option<String> },
    Release { reservation: String },
    Pay { reservation: String },
    Refund { payment: String },
}

/// A command, as it was sent.
#[derive(Debug, Clone)]
struct Command {
    user: String,
    deed: Deed,
    body: Value,
    key: String,
    /// `None`: the connection broke before there was one.
    answer: Option<(u16, Value)>,
}

impl Command {
    fn method_and_path(&self) -> (&'static str, String) {
        match &self.deed {
            Deed::AddOption { concert } => ("POST", format!("/v1/concerts/{concert}/options")),
            Deed::Block { option } => ("POST", format!("/v1/options/{option}/blocks")),
            Deed::Charge => ("POST", format!("/v1/users/{}/wallet/charges", self.user)),
            Deed::Wait { concert } => ("POST", format!("/v1/concerts/{concert}/tokens")),
            Deed::Leave { token } => ("DELETE", format!("/v1/tokens/{token}")),
            Deed::Hold { option, .. } => ("POST", format!("/v1/options/{option}/reservations")),
            Deed::Release { reservation } => ("DELETE", format!("/v1/reservations/{reservation}")),
            Deed::Pay { reservation } => ("POST", format!("/v1/reservations/{reservation}/payments")),
            Deed::Refund { payment } => ("POST", format!("/v1/payments/{payment}/refunds")),
        }
    }

    /// What it made, or changed, if that is certain.
    fn done(&self) -> Option<&Value> {
        self.answer.as_ref().and_then(|(status, body)| (*status < 300).then_some(body))
    }

    /// Whether sending it again gives the same answer.
    fn is_repeatable(&self) -> bool {
        !matches!(self.deed, Deed::Wait { .. } | Deed::Leave { .. } | Deed::Release { .. })
    }
}

fn id(resource: &Value) -> &str {
    resource["id"].as_str().unwrap()
}

struct Reply {
    status: u16,
    replayed: bool,
    body: Value,
}

/// Who sends, and where to.
struct Callers {
    http: Client,
    address: String,
    bearers: Arc<BTreeMap<String, String>>,
    /// Everything that was ever sent, in the order of sending.
    told: Arc<Mutex<Vec<Command>>>,
    keys: Arc<AtomicU64>,
}

impl Callers {
    /// `None`: the connection broke.
    async fn ask(&self, method: &str, path: &str, by: &str, headers: &[(&str, &str)], body: &Value) -> Option<Reply> {
        let url = format!("{}{path}", self.address);
        let request = self.http.request(method.parse().unwrap(), url).bearer_auth(&self.bearers[by]);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        let text = response.text().await.ok()?;
        assert!(status < 500 || status == 503, "{method} {path}: {status} {text}");
        Some(Reply { status, replayed, body: serde_json::from_str(&text).unwrap_or_default() })
    }

    async fn get(&self, path: &str, by: &str) -> Value {
        let reply = self.ask("GET", path, by, &[], &Value::Null).await.expect(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.body
    }

    /// All items of all pages.
    async fn list(&self, path: &str, by: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut page = self.get(&format!("{path}limit=500"), by).await;
        loop {
            items.append(page["items"].as_array_mut().unwrap());
            let Some(cursor) = page["next_cursor"].as_str() else { return items };
            page = self.get(&format!("{path}limit=500&cursor={cursor}"), by).await;
        }
    }

    async fn send(&self, command: &Command) -> Option<Reply> {
        let (method, path) = command.method_and_path();
        let mut headers = vec![("idempotency-key", command.key.as_str())];
        if let Deed::Hold { token: Some(token), .. } = &command.deed {
            headers.push(("queue-token", token));
        }
        let is_admins = matches!(command.deed, Deed::AddOption { .. } | Deed::Block { .. } | Deed::Charge);
        let by = if is_admins { "root" } else { &command.user };
        self.ask(method, &path, by, &headers, &command.body).await
    }

    /// Sends a command, perhaps with a duplicate on its heels, and writes down first that, and then what came of it.
    async fn tell(&self, twice: bool, user: &str, deed: Deed, body: Value) -> Option<(u16, Value)> {
        let key = format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        let command = Command { user: user.to_owned(), deed, body, key, answer: None };
        let place = {
            let mut told = self.told.lock();
            told.push(command.clone());
            told.len() - 1
        };
        let reply = if twice && command.is_repeatable() {
            let (one, other) = tokio::join!(self.send(&command), self.send(&command));
            let (one, other) = (one?, other?);
            match (one.status < 300, other.status < 300) {
                (true, true) => {
                    assert_eq!((one.status, &one.body), (other.status, &other.body), "{command:?}");
                    assert_ne!(one.replayed, other.replayed, "{command:?}");
                    one
                }
                // A refusal is not remembered, and what was in the way may be gone a moment later.
                (true, false) => one,
                (false, _) => other,
            }
        } else {
            self.send(&command).await?
        };
        // What a server that sheds load has done nobody knows.
        let answer = (reply.status != 503).then_some((reply.status, reply.body))?;
        self.told.lock()[place].answer = Some(answer.clone());
        Some(answer)
    }

    /// Some of what a buyer does: one to all of the steps of a purchase and its refund.
    async fn visit(&self, dice: &mut Random, options: &[(String, Option<String>); 2]) -> Option<()> {
        let user = self.bearers.keys().filter(|user| *user != "root").nth(dice.below(USERS) as usize)?.clone();
        let twice = dice.below(4) == 0;
        if dice.below(3) == 0 {
            let amount = 1 + dice.below(600);
            self.tell(twice, &user, Deed::Charge, json!({"amount": amount})).await?;
        }
        let (option, queue) = &options[dice.below(2) as usize];
        if dice.below(30) == 0 {
            let seats = json!({"seats": [format!("S{}", 1 + dice.below(SEATS))]});
            self.tell(twice, &user, Deed::Block { option: option.clone() }, seats).await?;
        }
        let token = match queue {
            Some(concert) => {
                let (_, token) = self.tell(false, &user, Deed::Wait { concert: concert.clone() }, Value::Null).await?;
                if token["status"] != "active" {
                    return Some(());
                }
                if dice.below(20) == 0 {
                    self.tell(false, &user, Deed::Leave { token: id(&token).to_owned() }, Value::Null).await?;
                }
                Some(token["token"].as_str().unwrap().to_owned())
            }
            None => None,
        };
        let wish = match dice.below(3) {
            0 => {
                let first = dice.below(SEATS - 2);
                json!({"seats": (0..=dice.below(3)).map(|n| format!("S{}", first + n)).collect::<Vec<_>>()})
            }
            1 => json!({"best_available": {"count": 1 + dice.below(4), "adjacent": dice.below(2) == 0}}),
            _ => json!({"areas": [{"name": "Floor", "count": 1 + dice.below(3)}]}),
        };
        let (status, held) = self.tell(twice, &user, Deed::Hold { option: option.clone(), token }, wish).await?;
        if status != 201 {
            return Some(());
        }
        let reservation = id(&held).to_owned();
        let pay = || self.tell(twice, &user, Deed::Pay { reservation: reservation.clone() }, json!({}));
        let release = || self.tell(false, &user, Deed::Release { reservation: reservation.clone() }, Value::Null);
        let (status, paid) = match dice.below(8) {
            0 => return Some(()),
            1 => return release().await.map(|_| ()),
            2 => {
                let (paid, released) = tokio::join!(pay(), release());
                released?;
                paid?
            }
            3 => {
                let (one, other) = tokio::join!(pay(), pay());
                let other = other?;
                one.filter(|(status, _)| *status == 201).unwrap_or(other)
            }
            _ => pay().await?,
        };
        if status == 201 && dice.below(2) == 0 {
            let refund = || self.tell(twice, &user, Deed::Refund { payment: id(&paid).to_owned() }, json!({}));
            let (one, other) = tokio::join!(refund(), refund());
            one.and(other)?;
        }
        Some(())
    }
}

/// What some buyers know, and may be asked for.
#[derive(Clone, Default)]
struct Buyers {
    bearers: Arc<BTreeMap<String, String>>,
    told: Arc<Mutex<Vec<Command>>>,
    options: Vec<(String, Option<String>)>,
}

/// The data directory, and what outlives each process.
struct Sale {
    dir: PathBuf,
    buyers: Buyers,
    keys: Arc<AtomicU64>,
}

impl Sale {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), buyers: Buyers::default(), keys: Arc::default() }
    }

    /// Lets others come, and gives those who were there.
    fn change_buyers(&mut self, round: u64) -> Buyers {
        let settings = Settings { data_dir: self.dir.join("data"), ..Settings::default() };
        // Makes the key, which the server does else.
        auth::Verifier::new(&settings).unwrap();
        let bearer = |user: &str, role| auth::issue(&settings, &user.parse().unwrap(), role, DAY).unwrap();
        let buyers = (0..USERS).map(|n| format!("user-{round}-{n}"));
        let mut bearers: BTreeMap<_, _> = buyers.map(|user| (user.clone(), bearer(&user, None))).collect();
        bearers.insert("root".to_owned(), bearer("root", Some(Role::Admin)));
        std::mem::replace(&mut self.buyers, Buyers { bearers: Arc::new(bearers), ..Buyers::default() })
    }

    fn configure(&self, round: u64) {
        // In every other round hardly anything stays in memory, and checkpoints are taken all the time.
        let actors =
            if round % 2 == 1 { "[actors]\nmax_resident = 16\n[checkpoint]\nreplay_target = \"0s\"\n" } else { "" };
        let limits = "[limits]\nuser_requests_per_second = 0\nuser_open_holds = 0\nuser_idempotency_keys = 1000000\n";
        let storage = "[storage]\nmin_free_bytes = 0\n[journal]\nsegment_bytes = 1048576\n";
        let webhooks =
            "[webhooks]\nallow_private_addresses = true\nretry_schedule = [\"50ms\"]\nbreaker_pause = \"50ms\"\n";
        std::fs::write(self.dir.join("kill.toml"), format!("{actors}{limits}{storage}{webhooks}")).unwrap();
    }

    fn start(&self, round: u64) -> (Child, Callers) {
        self.configure(round);
        let (child, lines) = serve(&self.dir, &["--config", "kill.toml"]);
        let address = lines.last().expect("it starts").strip_prefix("listening on ").unwrap().to_owned();
        (child, self.callers(address, &self.buyers))
    }

    fn callers(&self, address: String, buyers: &Buyers) -> Callers {
        let (bearers, told) = (buyers.bearers.clone(), buyers.told.clone());
        Callers { http: crate::harness::client(), address, bearers, told, keys: self.keys.clone() }
    }

    /// Starts a process, and kills it before, or just when, it is there.
    fn start_and_kill(&self, round: u64, after: Duration) {
        self.configure(round);
        let child = begin(&self.dir, &["--config", "kill.toml"]);
        std::thread::sleep(after);
        kill(child);
    }

    fn verify(&self) {
        let verified = run(&self.dir, &["verify", "--data", "data"]);
        assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    }
}

/// Events as a receiver got them: what each said, and the last of each subject.
#[derive(Default)]
struct Heard {
    events: BTreeMap<EventId, u64>,
    last: BTreeMap<String, EventId>,
    again: u64,
}

impl Heard {
    /// An event that comes again says the same; one that is new comes after all that were new of its subject.
    fn hear(&mut self, event: &Value) {
        let id: EventId = id(event).parse().unwrap();
        if let Some(before) = self.events.insert(id, hash(event)) {
            assert_eq!(before, hash(event), "{event} was another before");
            self.again += 1;
        } else if let Some(before) = self.last.insert(event["subject"].to_string(), id) {
            assert!(before < id, "{event} came after {before}");
        }
    }
}

fn hash(event: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    event.to_string().hash(&mut hasher);
    hasher.finish()
}

fn kill(mut child: Child) {
    use std::os::unix::process::ExitStatusExt;
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it stopped by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_has_forgotten_nothing_and_does_nothing_twice() {
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let mut dice = Random(seed);
    let kills_wanted = std::env::var(KILLS_VARIABLE).ok().map_or(KILLS, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut sale = Sale::new(dir.path());
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let (hears, moods) = (heard.clone(), Mutex::new(Random(dice.below(u64::MAX))));
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = is_slow.clone();
    let receiver = Receiver::forgetful(move |delivered| {
        if moods.lock().below(20) == 0 {
            return BROKEN;
        }
        hears.lock().hear(&delivered.json());
        if slow.load(Ordering::Relaxed) { Say::Late(LATE) } else { FINE }
    });
    let receiver = receiver.await;

    sale.change_buyers(0);
    let (mut child, mut callers) = sale.start(0);
    let day = DAY.as_secs();
    let queue = json!({"mode": "queue", "max_active": 100_000, "active_ttl_seconds": day, "waiting_ttl_seconds": day});
    for (path, body) in [
        ("/v1/concerts", json!({"title": "Open"})),
        ("/v1/concerts", json!({"title": "Queue", "waiting_room": queue})),
        ("/v1/webhooks", json!({"url": receiver.url(), "start": "beginning"})),
    ] {
        let made = callers.ask("POST", path, "root", &[], &body).await.unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let begun = Instant::now();
    let (mut kills, mut in_start, mut commands) = (0, 0, 0);
    let mut gone = Vec::new();
    for round in 0.. {
        if round % ROUNDS_OF_BUYERS == 0 && round > 0 {
            gone.push(sale.change_buyers(round));
            callers = sale.callers(callers.address, &sale.buyers);
        }
        let before = sale.buyers.told.lock().len();
        let callers_now = Arc::new(callers);
        let on_sale = put_on_sale(&callers_now, round, &mut sale.buyers.options).await;
        let visitors: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (callers, on_sale, mut dice) = (callers_now.clone(), on_sale.clone(), Random(dice.below(u64::MAX)));
                tokio::spawn(async move { while callers.visit(&mut dice, &on_sale).await.is_some() {} })
            })
            .collect();
        // Not before there is load, and then at any moment.
        while sale.buyers.told.lock().len() < before + 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Some live for long enough to write down more than once how far the receiver has got, which falls behind meanwhile.
        let lives_long = round % 10 == 4;
        is_slow.store(lives_long, Ordering::Relaxed);
        let least = if lives_long { 1_500_000 } else { 0 };
        tokio::time::sleep(Duration::from_micros(least + dice.below(200_000))).await;
        kill(child);
        is_slow.store(false, Ordering::Relaxed);
        kills += 1;
        for visitor in visitors {
            visitor.await.unwrap();
        }
        commands += sale.buyers.told.lock().len() - before;
        // Whoever comes next may not get far either.
        while dice.below(3) == 0 {
            sale.start_and_kill(round + 1, Duration::from_micros(dice.below(150_000)));
            kills += 1;
            in_start += 1;
        }
        if round % ROUNDS_OF_BUYERS == 0 {
            sale.verify();
        }

        (child, callers) = sale.start(round + 1);
        redrive(&callers).await;
        resend(&callers, before, &mut dice).await;
        check(&callers, &on_sale[..]).await;
        if kills >= kills_wanted {
            break;
        }
    }
    let address = callers.address;
    for buyers in gone.iter().chain([&sale.buyers]) {
        check(&sale.callers(address.clone(), buyers), &buyers.options).await;
    }
    check_events(&sale.callers(address, &sale.buyers), &heard).await;
    let seconds = begun.elapsed().as_secs();
    let heard = heard.lock();
    let (events, again) = (heard.events.len(), heard.again);
    println!("{kills} kills, {in_start} of them while it started, {commands} commands, {seconds} s");
    println!("{events} events, {again} delivered more than once");

    kill(child);
    sale.verify();
}

/// Two more options: one for everybody, one behind the line.
async fn put_on_sale(
    callers: &Callers,
    round: u64,
    all: &mut Vec<(String, Option<String>)>,
) -> Arc<[(String, Option<String>); 2]> {
    let mut on_sale = Vec::new();
    for (concert, queue) in [("c1", None), ("c2", Some("c2".to_owned()))] {
        let mut body = option_body(SEATS as usize);
        // In some rounds holds run out while nobody is there to see it.
        body["hold_seconds"] = json!(if round % 4 == 3 { 1 } else { 300 });
        body["refundable_until"] = body["starts_at"].clone();
        body["areas"][0]["capacity"] = json!(80);
        body["max_seats_per_user"] = json!(10_000);
        let deed = Deed::AddOption { concert: concert.to_owned() };
        let (status, option) = callers.tell(false, "root", deed, body).await.unwrap();
        assert_eq!(status, 201, "{option}");
        on_sale.push((id(&option).to_owned(), queue));
    }
    all.extend(on_sale.iter().map(|(id, _)| (id.clone(), None)));
    Arc::new(on_sale.try_into().unwrap())
}

/// Some of what the receiver would not have has become dead letters.
async fn redrive(callers: &Callers) {
    let redriven = callers.ask("POST", "/v1/webhooks/w1/redrive", "root", &[], &Value::Null).await.unwrap();
    assert_eq!(redriven.status, 200, "{}", redriven.body);
}

/// A receiver got every event that there is, and no other.
async fn check_events(callers: &Callers, heard: &Mutex<Heard>) {
    let deadline = Instant::now() + PATIENCE;
    let (mut expected, mut after) = (BTreeMap::new(), String::new());
    loop {
        let page = callers.get(&format!("/v1/events?limit=500{after}"), "root").await;
        let events = page["items"].as_array().unwrap();
        expected.extend(events.iter().map(|event| (id(event).parse::<EventId>().unwrap(), hash(event))));
        if events.is_empty() && heard.lock().events == expected {
            return;
        }
        after = format!("&after={}", page["next_after"].as_str().unwrap());
        if events.is_empty() {
            redrive(callers).await;
            let found = heard.lock().events.clone();
            let late = Instant::now() >= deadline;
            let forgotten: Vec<_> = expected.keys().filter(|event| late && !found.contains_key(event)).collect();
            assert!(!late, "{} of {} events came; forgotten: {forgotten:?}", found.len(), expected.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Sends again, as a careful client would, what had no answer; and some of what had one.
async fn resend(callers: &Callers, before: usize, dice: &mut Random) {
    let told = callers.told.lock().clone();
    for (place, command) in told.iter().enumerate().filter(|(_, command)| command.is_repeatable()) {
        match &command.answer {
            Some((status, body)) if *status < 300 => {
                if place >= before || dice.below(50) == 0 {
                    let again = callers.send(command).await.unwrap();
                    assert!(again.replayed, "forgotten: {command:?}; done again: {}", again.body);
                    assert_eq!((again.status, &again.body), (*status, body), "{command:?}");
                }
            }
            // Refusals are not remembered, and would be made good.
            Some(_) => (),
            None => {
                let reply = callers.send(command).await.unwrap();
                if reply.status < 300 {
                    let again = callers.send(command).await.unwrap();
                    assert_eq!((again.status, &again.body), (reply.status, &reply.body), "{command:?}");
                    assert!(again.replayed, "{command:?}");
                }
                callers.told.lock()[place].answer = Some((reply.status, reply.body));
            }
        }
    }
}

/// Compares what the server says with what its callers know, once it has brought to an end what was under way.
async fn check(callers: &Callers, options: &[(String, Option<String>)]) {
    let told = callers.told.lock().clone();
    let deadline = Instant::now() + PATIENCE;
    let mut houses = seats(callers, options).await;
    loop {
        let mut found = Vec::new();
        for user in callers.bearers.keys().filter(|user| *user != "root") {
            found.extend(callers.list(&format!("/v1/reservations?user_id={user}&"), "root").await);
        }
        let again = seats(callers, options).await;
        // While holds run out, the two are not of one moment.
        if again == houses && found.iter().all(|reservation| reservation["status"] != "paying") {
            check_reservations(&told, &found);
            check_houses(&told, &found, &houses);
            break;
        }
        assert!(Instant::now() < deadline, "still under way: {found:?}");
        houses = again;
    }
    check_money(callers, &told, deadline).await;
    check_tokens(callers, &told, options, deadline).await;
}

async fn seats(callers: &Callers, options: &[(String, Option<String>)]) -> Vec<(Value, Value)> {
    let mut houses = Vec::new();
    for (option, _) in options {
        let [seats, option] = [format!("/v1/options/{option}/seats"), format!("/v1/options/{option}")];
        houses.push((callers.get(&seats, "root").await, callers.get(&option, "root").await));
    }
    houses
}

/// Each reservation is one that was asked for, and is what became of it.
fn check_reservations(told: &[Command], found: &[Value]) {
    let mut expected = BTreeMap::new();
    for command in told {
        if let (Deed::Hold { .. }, Some(held)) = (&command.deed, command.done()) {
            assert!(expected.insert(id(held), held).is_none(), "twice: {held}");
        }
    }
    let ids: BTreeSet<_> = found.iter().map(id).collect();
    for (id, held) in &expected {
        assert!(ids.contains(id), "forgotten: {held}");
    }
    for id in ids {
        assert!(expected.contains_key(id), "{id} was not asked for");
    }
    let payments = done(told, |deed| match deed {
        Deed::Pay { reservation } => Some(reservation),
        _ => None,
    });
    let refunds = done(told, |deed| match deed {
        Deed::Refund { payment } => Some(payment),
        _ => None,
    });
    let released = |reservation: &str| {
        let same = |command: &&Command| matches!(&command.deed, Deed::Release { reservation: r } if r == reservation);
        told.iter().find(same)
    };
    for now in found {
        let held = expected[id(now)];
        for (member, value) in held.as_object().unwrap() {
            assert!(member == "status" || now[member] == *value, "{held} has become {now}");
        }
        let release = released(id(now));
        let is_over = now["expires_at"].as_str().unwrap().parse::<Timestamp>().unwrap().as_millis()
            <= UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 + CLOCK_MILLIS;
        let possible = match payments.get(id(now)) {
            Some(payment) if refunds.contains_key(id(payment)) => &["refunded"][..],
            Some(_) => &["confirmed"],
            None => match release {
                Some(command) if command.done().is_some() => &["released"][..],
                Some(command) if command.answer.is_none() => &["released", "held", "expired"],
                _ => &["held", "expired"],
            },
        };
        let status = now["status"].as_str().unwrap();
        assert!(possible.contains(&status) && (status != "expired" || is_over), "{now}: not one of {possible:?}");
    }
}

/// What was made by the commands of a kind, by what they were about. No two of them made anything of the same thing.
fn done(told: &[Command], about: impl Fn(&Deed) -> Option<&String>) -> BTreeMap<&str, &Value> {
    let mut made = BTreeMap::new();
    for command in told {
        if let (Some(subject), Some(body)) = (about(&command.deed), command.done()) {
            assert!(made.insert(subject.as_str(), body).is_none(), "twice: {command:?}");
        }
    }
    made
}

/// No seat is in two live reservations, and the plan, the areas and the counts say the same as they do.
fn check_houses(told: &[Command], found: &[Value], houses: &[(Value, Value)]) {
    for (house, option) in houses {
        let is_here = |deed: &Deed| matches!(deed, Deed::Block { option: blocked } if *blocked == id(option));
        let blocks = told.iter().filter(|command| is_here(&command.deed)).filter_map(Command::done);
        let blocked = blocks.flat_map(|done| done["seats"].as_array().unwrap());
        let mut seats: BTreeMap<_, _> = blocked.map(|seat| (seat.as_str().unwrap(), "blocked")).collect();
        let mut counts = BTreeMap::from([("held", 0), ("sold", 0), ("blocked", seats.len() as u64)]);
        let mut places = 0;
        for reservation in found.iter().filter(|reservation| reservation["option_id"] == option["id"]) {
            let status = match reservation["status"].as_str().unwrap() {
                "held" => "held",
                "confirmed" => "sold",
                _ => continue,
            };
            for seat in reservation["seats"].as_array().unwrap() {
                assert!(seats.insert(id(seat), status).is_none(), "{seat} is in two, one of them {reservation}");
                *counts.get_mut(status).unwrap() += 1;
            }
            for area in reservation["areas"].as_array().unwrap() {
                places += area["count"].as_u64().unwrap();
                *counts.get_mut(status).unwrap() += area["count"].as_u64().unwrap();
            }
        }
        assert_eq!(house["seats"], json!(seats), "of {}", id(option));
        let capacity = option["areas"][0]["capacity"].as_u64().unwrap();
        assert_eq!(house["areas"], json!({"Floor": {"capacity": capacity, "available": capacity - places}}));
        counts.insert("available", SEATS + capacity - counts.values().sum::<u64>());
        assert_eq!(option["counts"], json!(counts));
    }
}

/// Each wallet has an entry for each charge, payment and refund that was answered, and no other, and they add up.
async fn check_money(callers: &Callers, told: &[Command], deadline: Instant) {
    for user in callers.bearers.keys().filter(|user| *user != "root") {
        let mut expected: BTreeSet<(&str, String, u64)> = BTreeSet::new();
        let mut charges = BTreeMap::new();
        let (mut payments, mut refunded) = (BTreeMap::new(), BTreeSet::new());
        for command in told.iter().filter(|command| command.user == *user) {
            let Some(body) = command.done() else { continue };
            let amount = || body["amount"].as_u64().unwrap();
            match &command.deed {
                Deed::Charge => {
                    assert!(charges.insert(id(body), body).is_none(), "twice: {body}");
                }
                Deed::Pay { .. } => {
                    assert!(expected.insert(("debit", id(body).to_owned(), amount())));
                    payments.insert(id(body), body);
                }
                Deed::Refund { payment } => {
                    assert!(expected.insert(("credit", id(body).to_owned(), amount())));
                    refunded.insert(payment.as_str());
                }
                _ => (),
            }
        }
        let entries = loop {
            let entries = callers.list("/v1/wallet/entries?", user).await;
            if entries.len() >= expected.len() + charges.len() {
                break entries;
            }
            assert!(Instant::now() < deadline, "{user}: still owed, {expected:?}, {entries:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut balance = 0;
        for entry in entries.iter().rev() {
            let (kind, amount) = (entry["kind"].as_str().unwrap(), entry["amount"].as_u64().unwrap());
            if kind == "charge" {
                assert_eq!(charges.remove(id(entry)), Some(entry), "{user}");
            } else {
                let reference = entry["reference"].as_str().unwrap().to_owned();
                assert!(expected.remove(&(kind, reference, amount)), "{user}: {entry} was not asked for");
            }
            balance = if kind == "debit" { balance - amount } else { balance + amount };
            assert_eq!(entry["balance"], balance, "{user}: {entry}");
        }
        assert!(expected.is_empty() && charges.is_empty(), "{user}: forgotten: {expected:?} {charges:?}");
        assert_eq!(callers.get("/v1/wallet", user).await, json!({"user_id": user, "balance": balance}));
        check_payments(&callers.list("/v1/payments?", user).await, payments, &refunded);
    }
}

fn check_payments(found: &[Value], mut expected: BTreeMap<&str, &Value>, refunded: &BTreeSet<&str>) {
    for payment in found {
        let Some(told) = expected.remove(id(payment)) else {
            assert_eq!(payment["status"], "failed", "{payment} was not asked for");
            continue;
        };
        let mut told = told.clone();
        if refunded.contains(id(payment)) {
            told["status"] = json!("refunded");
        }
        assert_eq!(*payment, told);
    }
    assert!(expected.is_empty(), "forgotten: {expected:?}");
}

/// Tokens are at least as far as they were, and those that led to a sale are used up.
async fn check_tokens(callers: &Callers, told: &[Command], options: &[(String, Option<String>)], deadline: Instant) {
    let paid = done(told, |deed| match deed {
        Deed::Pay { reservation } => Some(reservation),
        _ => None,
    });
    let mut tokens = BTreeMap::new();
    let (mut used, mut left) = (BTreeSet::new(), BTreeMap::new());
    for command in told {
        match (&command.deed, command.done()) {
            (Deed::Wait { .. }, Some(token)) => {
                tokens.insert(token["token"].as_str().unwrap(), (command.user.as_str(), token));
            }
            (Deed::Leave { token }, _) => {
                left.insert(token.as_str(), command.done().is_some());
            }
            (Deed::Hold { option, token: Some(token) }, Some(held))
                if paid.contains_key(id(held)) && options.iter().any(|(id, _)| id == option) =>
            {
                used.insert(token.as_str());
            }
            _ => (),
        }
    }
    for (signed, (user, token)) in tokens {
        loop {
            let now = callers.get(&format!("/v1/tokens/{}", id(token)), user).await;
            assert_eq!(now["token"], token["token"]);
            let possible = match (left.get(id(token)), used.contains(signed)) {
                (None, true) => &["used"][..],
                (Some(true), _) | (Some(_), true) => &["used", "expired"],
                (Some(false), false) => &["waiting", "active", "used", "expired"],
                (None, false) if token["status"] == "active" => &["active", "used"],
                (None, false) => &["waiting", "active", "used"],
            };
            if possible.contains(&now["status"].as_str().unwrap()) {
                break;
            }
            assert!(Instant::now() < deadline, "{now}: not one of {possible:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
