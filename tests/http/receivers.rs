//! Receivers of webhooks that do not behave, and a server that is killed while it delivers: sales go on, nothing is lost,
//! what comes twice has the same id, and the order within a subject is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::Settings;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::{Server, client, option_body};
use crate::process::serve;

/// How long an attempt may take.
const TIMEOUT: Duration = Duration::from_millis(200);
/// How long everything may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
const PURCHASES: usize = 12;

/// What an endpoint does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    /// 204.
    Well,
    /// 500.
    Fails,
    /// No answer, ever.
    Hangs,
    /// Nobody listens.
    Refuses,
    /// Takes it, and hangs up in the middle of the answer.
    DropsHalfWay,
    /// Takes it, and answers 200 when nobody waits any more.
    TooLate,
}

/// An event, as it arrived.
#[derive(Debug, Clone, PartialEq)]
struct Arrived {
    id: String,
    subject: String,
    body: Value,
}

/// An HTTP endpoint that writes down what it takes.
struct Endpoint {
    address: SocketAddr,
    conduct: Arc<Mutex<Conduct>>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    requests: Arc<Mutex<usize>>,
    listening: Option<JoinHandle<()>>,
}

impl Endpoint {
    async fn new(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut endpoint = Self {
            address: listener.local_addr().unwrap(),
            conduct: Arc::new(Mutex::new(conduct)),
            arrived: Arc::default(),
            requests: Arc::default(),
            listening: None,
        };
        if conduct != Conduct::Refuses {
            endpoint.listen(listener);
        }
        endpoint
    }

    fn listen(&mut self, listener: TcpListener) {
        let (conduct, arrived, requests) = (self.conduct.clone(), self.arrived.clone(), self.requests.clone());
        self.listening = Some(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Connections of a server that is gone break, and that is no matter.
                tokio::spawn(serve_one(stream, conduct.clone(), arrived.clone(), requests.clone()));
            }
        }));
    }

    async fn become_well(&mut self) {
        *self.conduct.lock() = Conduct::Well;
        if self.listening.is_none() {
            self.listen(TcpListener::bind(self.address).await.unwrap());
        }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn ids(&self) -> BTreeSet<String> {
        self.arrived.lock().iter().map(|one| one.id.clone()).collect()
    }

    /// Copies are copies, and nothing overtook another of its subject when it first came.
    fn check(&self, published: &[Value]) {
        let places: BTreeMap<_, _> =
            published.iter().zip(0..).map(|(event, place)| (text(event, "id"), place)).collect();
        let (mut first, mut last) = (BTreeMap::new(), BTreeMap::<String, i32>::new());
        for one in self.arrived.lock().iter() {
            let place = places[&one.id];
            assert_eq!(one.body, published[place as usize], "it is what GET /v1/events gives");
            if first.insert(one.id.clone(), ()).is_none()
                && let Some(before) = last.insert(one.subject.clone(), place)
            {
                assert!(before < place, "{} came too early", one.id);
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}")).to_owned()
}

async fn serve_one(
    stream: TcpStream,
    conduct: Arc<Mutex<Conduct>>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    requests: Arc<Mutex<usize>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        *requests.lock() += 1;
        let now = *conduct.lock();
        if matches!(now, Conduct::Well | Conduct::DropsHalfWay | Conduct::TooLate) {
            let body: Value = serde_json::from_slice(&body).unwrap();
            arrived.lock().push(Arrived { id: text(&body, "id"), subject: text(&body, "subject"), body });
        }
        match now {
            Conduct::Well => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?,
            Conduct::Fails => {
                stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops").await?;
            }
            Conduct::Hangs => std::future::pending().await,
            Conduct::DropsHalfWay => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nconte").await?;
                return Ok(());
            }
            Conduct::TooLate => {
                tokio::time::sleep(TIMEOUT * 2).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
            }
            Conduct::Refuses => unreachable!("nobody listens"),
        }
    }
}

/// Many quick attempts.
fn impatient(settings: &mut Settings) {
    settings.webhooks.allow_private_addresses = true;
    settings.webhooks.timeout = "200ms".parse().unwrap();
    settings.webhooks.retry_schedule = vec!["20ms".parse().unwrap(); 500];
    settings.webhooks.breaker_failures = 5;
    settings.webhooks.breaker_pause = "50ms".parse().unwrap();
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let begun = Instant::now();
    while !ask().await {
        assert!(begun.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everything that has been published.
async fn published(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    let mut page = server.get("/v1/events?limit=500", &server.admin).await.body;
    loop {
        let items = page["items"].as_array_mut().unwrap();
        if items.is_empty() {
            return all;
        }
        all.append(items);
        let path = format!("/v1/events?limit=500&after={}", text(&page, "next_after"));
        page = server.get(&path, &server.admin).await.body;
    }
}

/// A receiver misbehaves while seats are sold, and gets well afterwards.
async fn sales_go_on_with_one_that(conduct: Conduct) {
    let server = Server::with(impatient).await;
    let mut endpoint = Endpoint::new(conduct).await;
    let hook = json!({"url": endpoint.url(), "start": "beginning"});
    let hook = server.post("/v1/webhooks", &server.admin, hook).await.created();
    let option = server.option(PURCHASES).await;
    for n in 0..PURCHASES {
        let (name, seat) = (format!("buyer-{n}"), format!("S{}", n + 1));
        server.charge(&name, 100).await;
        let buyer = server.buyer(&name);
        let held = server.hold(&option, &buyer, &[&seat]).await;
        server.post(&format!("/v1/reservations/{held}/payments"), &buyer, json!({})).await.created();
    }
    let state = || async { server.get(&format!("/v1/webhooks/{hook}"), &server.admin).await.body };
    eventually("an attempt fails", || async { state().await["attempts"]["failed"].as_u64() > Some(0) }).await;
    let all = published(&server).await;
    assert_eq!(all.len(), 4 * PURCHASES, "charged, held, confirmed, paid");
    endpoint.become_well().await;
    eventually("everything has arrived", || async { endpoint.ids().len() == all.len() }).await;
    endpoint.check(&all);
    eventually("nothing waits", || async { state().await["parked"] == 0 }).await;
    assert_eq!(state().await["dead_letters"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sales_go_on_with_a_receiver_that_answers_500() {
    sales_go_on_with_one_that(Conduct::Fails).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sales_go_on_with_a_receiver_that_hangs() {
    sales_go_on_with_one_that(Conduct::Hangs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sales_go_on_with_a_receiver_that_refuses_connections() {
    sales_go_on_with_one_that(Conduct::Refuses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sales_go_on_with_a_receiver_that_drops_half_way() {
    sales_go_on_with_one_that(Conduct::DropsHalfWay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sales_go_on_with_a_receiver_that_answers_too_late() {
    sales_go_on_with_one_that(Conduct::TooLate).await;
}

/// How often the server is killed.
const KILLS: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_between_delivery_and_cursor_loses_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
    let config = "[webhooks]\nallow_private_addresses = true\nretry_schedule = [\"20ms\", \"20ms\", \"20ms\"]\n\
                  [limits]\nuser_requests_per_second = 0\n[storage]\nmin_free_bytes = 0\n";
    std::fs::write(dir.path().join("kill.toml"), config).unwrap();
    let endpoint = Endpoint::new(Conduct::Well).await;
    let issue =
        |name: &str, role| auth::issue(&settings, &name.parse().unwrap(), role, Duration::from_secs(3_600)).unwrap();
    let http = client();
    let mut option = String::new();
    for round in 0..=KILLS {
        let arrived = endpoint.arrived.lock().len();
        let (mut child, lines) = serve(dir.path(), &["--config", "kill.toml"]);
        let address = lines.last().expect("it starts").strip_prefix("listening on ").unwrap().to_owned();
        let (admin, buyer) = (issue("root", Some(Role::Admin)), issue(&format!("buyer-{round}"), None));
        let ask = async |method: &str, path: &str, by: &str, body: Value| {
            let url = format!("{address}{path}");
            let request = http.request(method.parse().unwrap(), url).bearer_auth(by);
            let request = if body.is_null() { request } else { request.json(&body) };
            let answer = request.send().await.unwrap();
            let (status, body) = (answer.status().as_u16(), answer.json::<Value>().await.unwrap());
            assert!(status < 300, "{method} {path}: {status} {body}");
            body
        };
        if round == 0 {
            ask("POST", "/v1/webhooks", &admin, json!({"url": endpoint.url(), "start": "beginning"})).await;
            let concert = text(&ask("POST", "/v1/concerts", &admin, json!({"title": "Killed"})).await, "id");
            let path = format!("/v1/concerts/{concert}/options");
            option = text(&ask("POST", &path, &admin, option_body(KILLS as usize + 1)).await, "id");
        }
        let path = format!("/v1/users/buyer-{round}/wallet/charges");
        ask("POST", &path, &admin, json!({"amount": 100})).await;
        let path = format!("/v1/options/{option}/reservations");
        let held = text(&ask("POST", &path, &buyer, json!({"seats": [format!("S{}", round + 1)]})).await, "id");
        ask("POST", &format!("/v1/reservations/{held}/payments"), &buyer, json!({})).await;
        if round < KILLS {
            // From before the first delivery to after the cursor, which comes within a second.
            eventually("something is delivered", || async { endpoint.arrived.lock().len() > arrived }).await;
            tokio::time::sleep(Duration::from_millis(round % 10 * round % 7 * 5)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            continue;
        }
        let mut all = Vec::new();
        let mut page = ask("GET", "/v1/events?limit=500", &admin, Value::Null).await;
        while !page["items"].as_array().unwrap().is_empty() {
            all.append(page["items"].as_array_mut().unwrap());
            let path = format!("/v1/events?limit=500&after={}", text(&page, "next_after"));
            page = ask("GET", &path, &admin, Value::Null).await;
        }
        assert_eq!(all.len() as u64, 4 * (KILLS + 1));
        eventually("everything has arrived", || async { endpoint.ids().len() == all.len() }).await;
        endpoint.check(&all);
        println!("{} events, {} deliveries", all.len(), endpoint.arrived.lock().len());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
