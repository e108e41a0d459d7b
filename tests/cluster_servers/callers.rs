//! Callers who hold, pay, give up and give back through all nodes, ask again with the same key what they do not know, and write
//! down what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::server::auth::Role;
use boxoffice::testing::random::Random;
use parking_lot::Mutex;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use crate::machines::Cluster;
use crate::servers::eventually;

pub const CALLERS: usize = 12;
const SEATS: usize = 1_000;
const ROWS: usize = 20;
const PRICE: u64 = 100;
/// What a caller has in points at the beginning, which is more than can be spent.
const AT_FIRST: u64 = 1_000_000;
/// How many payments a caller keeps; older ones are given back.
const KEPT: usize = 3;
/// How long a caller thinks between two calls.
const PAUSE: Duration = Duration::from_millis(15);
/// Before somebody asks again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long an answer of one node is waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// Until then a node may pass on a call of which its caller has heard nothing (`forwarding.time`, and some more).
const PASSED_ON: Duration = Duration::from_secs(11);
/// After this a call is lost.
const LOST: Duration = Duration::from_secs(120);

/// What somebody was told that has been done.
#[derive(Debug, Clone)]
pub enum Deed {
    Charged(Value),
    Held(Value),
    Released(String),
    Paid(Value),
    Refunded { payment: String, refund: Value },
}

/// What all callers share.
pub struct Callers {
    http: Client,
    urls: Vec<String>,
    tokens: BTreeMap<String, String>,
    pub option: String,
    /// Whoever begins a visit goes through; whoever wants peace closes it.
    pub gate: RwLock<()>,
    /// In no order.
    pub deeds: Mutex<Vec<Deed>>,
    /// When holds that succeeded were asked for, and told of.
    holds: Mutex<Vec<(Instant, Instant)>>,
    /// How often what was not an answer, since it was last looked at.
    pub troubles: Mutex<BTreeMap<String, u64>>,
    pub calls: AtomicU64,
    keys: AtomicU64,
    is_over: AtomicBool,
}

/// An answer that says what has become of a call.
struct Answer {
    status: u16,
    body: Value,
    /// Whether an attempt before may have done it.
    repeated: bool,
}

impl Callers {
    /// Puts a performance on sale.
    pub async fn new(cluster: &Cluster) -> Arc<Self> {
        // It fails if that has been said before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().connect_timeout(Duration::from_secs(1)).timeout(ANSWER).build().unwrap();
        let mut tokens: BTreeMap<_, _> = users().map(|user| (user.clone(), cluster.token(&user, None))).collect();
        tokens.insert("root".to_owned(), cluster.token("root", Some(Role::Admin)));
        let mut callers = Self {
            http,
            urls: cluster.urls(),
            tokens,
            option: String::new(),
            gate: RwLock::new(()),
            deeds: Mutex::default(),
            holds: Mutex::default(),
            troubles: Mutex::default(),
            calls: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        };
        let concert = callers.ask(0, "POST", "/v1/concerts", "root", &json!({"title": "A Concert"})).await;
        let path = format!("/v1/concerts/{}/options", id(&concert.body));
        let option = callers.ask(0, "POST", &path, "root", &house()).await;
        assert_eq!(option.status, 201, "{}", option.body);
        callers.option = id(&option.body).to_owned();
        Arc::new(callers)
    }

    /// Lets them come.
    pub fn begin(self: &Arc<Self>, seed: u64) -> Vec<JoinHandle<()>> {
        let begin = |(n, user)| tokio::spawn(self.clone().come(user, Random(seed ^ n as u64)));
        users().enumerate().map(begin).collect()
    }

    /// Nobody begins anything any more.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Until it is over.
    async fn come(self: Arc<Self>, user: String, mut dice: Random) {
        let mut kept = Vec::new();
        self.charge(&mut dice, &user, AT_FIRST).await;
        while !self.is_over.load(Ordering::Relaxed) {
            let _inside = self.gate.read().await;
            self.visit(&mut dice, &user, &mut kept).await;
        }
    }

    async fn visit(&self, dice: &mut Random, user: &str, kept: &mut Vec<String>) {
        if dice.below(10) == 0 {
            let amount = 1 + dice.below(1_000);
            self.charge(dice, user, amount).await;
        }
        let wish = if dice.below(5) > 0 {
            json!({"best_available": {"count": 1 + dice.below(3), "adjacent": false}})
        } else {
            json!({"seats": [format!("S{}", dice.below(SEATS as u64))]})
        };
        let path = format!("/v1/options/{}/reservations", self.option);
        let held = self.tell(dice, "POST", &path, user, &wish).await;
        if held.status == 409 {
            return;
        }
        assert_eq!(held.status, 201, "{wish}: {}", held.body);
        let reservation = id(&held.body).to_owned();
        self.deeds.lock().push(Deed::Held(held.body));
        if dice.coin() {
            let released =
                self.tell(dice, "DELETE", &format!("/v1/reservations/{reservation}"), user, &Value::Null).await;
            let was_done = released.repeated && released.body["code"] == "reservation_not_held";
            assert!(released.status == 200 || was_done, "{reservation}: {}", released.body);
            self.deeds.lock().push(Deed::Released(reservation));
            return;
        }
        let paid = self.tell(dice, "POST", &format!("/v1/reservations/{reservation}/payments"), user, &json!({})).await;
        assert_eq!(paid.status, 201, "{reservation}: {}", paid.body);
        kept.push(id(&paid.body).to_owned());
        self.deeds.lock().push(Deed::Paid(paid.body));
        if kept.len() > KEPT {
            let payment = kept.remove(dice.below(kept.len() as u64) as usize);
            let refund = self.tell(dice, "POST", &format!("/v1/payments/{payment}/refunds"), "root", &json!({})).await;
            assert_eq!(refund.status, 201, "{payment}: {}", refund.body);
            self.deeds.lock().push(Deed::Refunded { payment, refund: refund.body });
        }
    }

    async fn charge(&self, dice: &mut Random, user: &str, amount: u64) {
        let path = format!("/v1/users/{user}/wallet/charges");
        let charged = self.tell(dice, "POST", &path, "root", &json!({"amount": amount})).await;
        assert_eq!(charged.status, 201, "{}", charged.body);
        self.deeds.lock().push(Deed::Charged(charged.body));
    }

    async fn tell(&self, dice: &mut Random, method: &str, path: &str, by: &str, body: &Value) -> Answer {
        tokio::time::sleep(PAUSE).await;
        self.ask(dice.below(self.urls.len() as u64) as usize, method, path, by, body).await
    }

    /// Asks one node after another, always with the same key, until one says what has become of it.
    async fn ask(&self, first: usize, method: &str, path: &str, by: &str, body: &Value) -> Answer {
        let key = format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        let begun = Instant::now();
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (mut why, mut silent, is_hold) = (Vec::new(), None, path.ends_with("/reservations"));
        for node in (0..self.urls.len()).cycle().skip(first) {
            let asked = Instant::now();
            let trouble = match self.send(node, method, path, by, &key, body).await {
                Ok((409, _)) if silent.is_some() && is_hold => {
                    // It may be on its way yet, and be done when what is against it is gone: then this says so.
                    let since: Instant = silent.take().unwrap();
                    tokio::time::sleep(PASSED_ON.saturating_sub(since.elapsed())).await;
                    continue;
                }
                Ok((status, body)) if status != 503 => {
                    if status == 201 && is_hold {
                        self.holds.lock().push((asked, Instant::now()));
                    }
                    assert!(status < 500, "{method} {path}: {status} {body}");
                    return Answer { status, body, repeated: !why.is_empty() };
                }
                Ok((_, body)) => body["code"].as_str().unwrap_or("503").to_owned(),
                Err(error) if error.is_connect() => "not reached".to_owned(),
                Err(error) => {
                    silent = Some(Instant::now());
                    if error.is_timeout() { "no answer" } else { "connection broken" }.to_owned()
                }
            };
            *self.troubles.lock().entry(trouble.clone()).or_default() += 1;
            why.push(trouble);
            assert!(begun.elapsed() < LOST, "lost: {method} {path} {body} by {by}: {why:?}");
            tokio::time::sleep(AGAIN).await;
        }
        unreachable!("a cycle has no end")
    }

    async fn send(
        &self,
        node: usize,
        method: &str,
        path: &str,
        by: &str,
        key: &str,
        body: &Value,
    ) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}{path}", self.urls[node]);
        let request = self.http.request(method.parse().unwrap(), url).bearer_auth(&self.tokens[by]);
        let request = request.header("idempotency-key", key);
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// What one node says, as an admin or a user sees it.
    pub async fn get(&self, node: usize, path: &str, by: &str) -> Value {
        let (status, body) = self.send(node, "GET", path, by, "none", &Value::Null).await.expect(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Waits until a hold has succeeded that was asked for after `after`.
    pub fn until_sold(&self, after: Instant) {
        eventually(LOST, "holds succeed", || self.holds.lock().iter().any(|(asked, _)| *asked >= after));
    }

    /// The longest time in which no hold succeeded, from `from` until now.
    pub fn longest_gap(&self, from: Instant) -> Duration {
        let mut holds = self.holds.lock();
        let mut times: Vec<_> = holds.drain(..).map(|(_, told)| told).filter(|told| *told > from).collect();
        times.extend([from, Instant::now()]);
        times.sort();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }
}

/// Who calls.
pub fn users() -> impl Iterator<Item = String> {
    (0..CALLERS).map(|n| format!("user-{n}"))
}

pub fn id(resource: &Value) -> &str {
    resource["id"].as_str().unwrap_or_else(|| panic!("{resource} has no id"))
}

fn house() -> Value {
    let row = |row: usize| {
        let seats = (0..SEATS / ROWS).map(|n| {
            let guid = format!("S{}", row * SEATS / ROWS + n);
            json!({"seat_guid": guid, "seat_number": n.to_string(), "category": "A", "position": {"x": 30 * n, "y": 0}})
        });
        json!({"row_number": row.to_string(), "position": {"x": 0, "y": 30 * row}, "seats": seats.collect::<Vec<_>>()})
    };
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    json!({
        "starts_at": "2099-11-20T19:30:00.000Z",
        "seating_plan": {"name": "Hall", "categories": [{"name": "A"}], "zones": [{"name": "Stalls", "rows": rows}]},
        "prices": {"A": PRICE}, "hold_seconds": 3_600, "max_seats_per_user": 10_000,
    })
}
