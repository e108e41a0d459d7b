//! A server in this process, and a client for it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boxoffice::Engine;
use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::Settings;
use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::cluster::{Cable, MemoryStream};
use boxoffice::testing::failpoints::Failpoints;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Until when the options of these tests are on sale.
pub const STARTS_AT: &str = "2099-11-20T19:30:00.000Z";

/// A running server. It stops, cleanly, when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub ops: SocketAddr,
    pub client: Client,
    pub admin: String,
    pub settings: Settings,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    opening: Opening,
    dir: Arc<TempDir>,
}

/// How its engine is opened.
#[derive(Clone)]
enum Opening {
    Alone,
    Failing(ManualClock, Failpoints),
    /// As a node of this name, by its way to the log.
    Member(MemoryStream, &'static str, Cable),
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// One that is set up in another way.
    pub async fn with(configure: impl FnOnce(&mut Settings)) -> Self {
        Self::begin(configure, Opening::Alone).await
    }

    /// One with a clock that is set by hand.
    pub async fn with_clock(clock: &ManualClock, configure: impl FnOnce(&mut Settings)) -> Self {
        Self::begin(configure, Opening::Failing(clock.clone(), Failpoints::default())).await
    }

    /// One with a clock that is set by hand, where messages between aggregates meet failpoints.
    pub async fn start_failing(clock: &ManualClock, failpoints: &Failpoints) -> Self {
        Self::begin(|_| (), Opening::Failing(clock.clone(), failpoints.clone())).await
    }

    /// One of several on one log.
    pub async fn node(stream: &MemoryStream, name: &'static str, cable: &Cable) -> Self {
        let node = Self::begin(|_| (), Opening::Member(stream.clone(), name, cable.clone())).await;
        node.ready().await;
        node
    }

    /// Waits until it takes calls: a node listens before somebody owns the log.
    pub async fn ready(&self) {
        while self.get("/readyz", "").await.body["ready"] != true {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn begin(configure: impl FnOnce(&mut Settings), opening: Opening) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        settings.limits.user_requests_per_second = 0;
        settings.storage.min_free_bytes = 0;
        settings.http.shutdown_timeout = "1s".parse().unwrap();
        configure(&mut settings);
        Self::run(settings, opening, Arc::new(dir)).await
    }

    /// Stops it, cleanly, and starts it again after `meanwhile` had the data directory for itself.
    pub async fn restart(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let (settings, opening, dir) = (self.settings.clone(), self.opening.clone(), self.dir.clone());
        drop(self);
        meanwhile(&settings.data_dir);
        Self::run(settings, opening, dir).await
    }

    async fn run(settings: Settings, opening: Opening, dir: Arc<TempDir>) -> Self {
        let [api, ops] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, ops_address) = (api.local_addr().unwrap(), ops.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (thread_settings, thread_opening) = (settings.clone(), opening.clone());
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let config = thread_settings.engine();
                let engine = match &thread_opening {
                    Opening::Alone => Engine::open(config).await,
                    Opening::Failing(clock, failpoints) => Engine::open_failing(config, clock, failpoints).await,
                    Opening::Member(stream, name, cable) => {
                        Engine::open_in_cluster(config, stream.joining(name, cable)).await
                    }
                };
                let engine = engine.unwrap();
                let shutdown = async {
                    ready.send(()).unwrap();
                    // A test that panicked has dropped the other end, which stops the server just as well.
                    let _ = stopped.await;
                };
                boxoffice::server::run(api, Some(ops), engine, thread_settings, shutdown).await.unwrap();
            });
        });
        is_ready.await.unwrap();
        let admin = auth::issue(&settings, &"root".parse().unwrap(), Some(Role::Admin), Duration::from_secs(600));
        Self {
            address,
            ops: ops_address,
            client: client(),
            // There is none where tokens are made elsewhere.
            admin: admin.unwrap_or_default(),
            settings,
            stop: Some(stop),
            thread: Some(thread),
            opening,
            dir,
        }
    }

    pub fn data_dir(&self) -> &Path {
        &self.settings.data_dir
    }

    /// A buyer's token.
    pub fn buyer(&self, name: &str) -> String {
        self.buyer_for(name, Duration::from_secs(600))
    }

    /// A buyer's token that expires before long.
    pub fn buyer_for(&self, name: &str, ttl: Duration) -> String {
        auth::issue(&self.settings, &name.parse().unwrap(), None, ttl).unwrap()
    }

    pub fn request(&self, method: &str, path: &str, token: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    /// Sends a body, if it is not null, and takes status and body of the answer.
    pub async fn ask(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let request = self.request(method, path, token);
        let request = if body.is_null() { request } else { request.json(&body) };
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, token, Value::Null).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.ask("POST", path, token, body).await
    }

    /// A concert in mode `open`.
    pub async fn concert(&self) -> String {
        self.post("/v1/concerts", &self.admin, json!({"title": "A Concert"})).await.created()
    }

    /// An option with one row of seats `S1` to `S<n>` of category `A` for 100, and an area `Floor` for 10.
    pub async fn option(&self, seats: usize) -> String {
        let concert = self.concert().await;
        self.post(&format!("/v1/concerts/{concert}/options"), &self.admin, option_body(seats)).await.created()
    }

    pub async fn charge(&self, user: &str, amount: u64) {
        let path = format!("/v1/users/{user}/wallet/charges");
        self.post(&path, &self.admin, json!({"amount": amount})).await.created();
    }

    pub async fn hold(&self, option: &str, token: &str, seats: &[&str]) -> String {
        self.post(&format!("/v1/options/{option}/reservations"), token, json!({"seats": seats})).await.created()
    }

    /// One of the figures for Prometheus, by its name.
    pub async fn figure(&self, name: &str) -> f64 {
        let figures = self.client.get(format!("http://{}/metrics", self.ops)).send().await.unwrap();
        let figures = figures.text().await.unwrap();
        let line = figures.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name}: {figures}"));
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// What must not change when a request is refused: the last lsn, once aggregates have acknowledged each other's messages: it has not moved for 100 ms.
    pub async fn last_lsn(&self) -> Value {
        let mut last = Value::Null;
        let mut since = Instant::now();
        while since.elapsed() < Duration::from_millis(100) {
            let now = self.get("/v1/stats", &self.admin).await.body["durable_lsn"].clone();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        last
    }
}

impl Server {
    /// Tells the server to stop.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // If nobody listens, the server has stopped already.
            let _ = stop.send(());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let outcome = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            outcome.unwrap().unwrap();
        }
    }
}

/// A client. The server brings reqwest with TLS, which it then wants to be told how to do.
pub fn client() -> Client {
    // It fails if that has been said before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

pub fn option_body(seats: usize) -> Value {
    let seats: Vec<_> = (1..=seats)
        .map(|n| {
            json!({"seat_guid": format!("S{n}"), "seat_number": n.to_string(), "category": "A",
                "position": {"x": 30 * n, "y": 0}})
        })
        .collect();
    json!({
        "starts_at": STARTS_AT,
        "seating_plan": {"name": "Hall", "categories": [{"name": "A"}],
            "zones": [{"name": "Stalls", "rows": [{"row_number": "1", "seats": seats}]}]},
        "prices": {"A": 100, "Floor": 10},
        "areas": [{"name": "Floor", "capacity": 20, "category": "Floor"}],
    })
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let answer = Self { status, headers, body };
        if status >= 400 && answer.body.get("ready").is_none() {
            answer.check_problem();
        }
        answer
    }

    /// Every refusal is a problem, whatever it is about.
    fn check_problem(&self) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status);
        let slug = self.body["code"].as_str().unwrap().replace('_', "-");
        assert_eq!(self.body["type"], format!("/problems/{slug}"));
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        assert_eq!(matches!(self.status, 429 | 503), self.headers.contains_key("retry-after"));
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    /// The id of what was made.
    pub fn created(&self) -> String {
        assert_eq!(self.status, 201, "{self:?}");
        self.body["id"].as_str().unwrap().to_owned()
    }

    /// The fields that a 400 names.
    pub fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array();
        errors.into_iter().flatten().map(|error| error["field"].as_str().unwrap()).collect()
    }
}

/// Whether attacks are to come in their whole size (`just attacks`), in place of one that is quick to run.
pub fn in_full() -> bool {
    std::env::var("BOXOFFICE_ATTACKS").is_ok_and(|size| size == "full")
}
