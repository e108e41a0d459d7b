//! A server, or the nodes of a cluster, over HTTP/1.1 on connections that are kept, and WebSockets.
//!
//! Of several nodes each call goes to the next one. What has no answer that says what became of it is asked again, with the same
//! idempotency key, at the one after that: so a run goes on through a failover, and its audit with it.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::json;
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::connection::{self, Connection};
use super::{
    Answer, Begun, CARD, Code, Entry, Follow, Held, Offer, Paid, Place, Reserved, SeatStates, Stands, Target, Terms,
    Update, Wish,
};
use crate::domain::facts::Fact;
use crate::domain::seat_map::Status;
use crate::domain::waiting_room::{Counts, Settings, TokenStatus};
use crate::domain::{ConcertId, Currency, OptionId, PaymentId, ReservationId, Timestamp, TokenId, UserId};
use crate::loadgen::house::House;

/// A connection that was idle for longer is not used again: the server may be about to close it.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// For how long buyers' tokens are good, in seconds. Each run signs its own.
const TOKEN_TTL_S: u64 = 7 * 24 * 3_600;
/// With several nodes: how often one may be silent in the time that an answer may take.
const SILENCES: u32 = 6;
/// With several nodes: the pause after all have been asked.
const AGAIN: Duration = Duration::from_millis(50);
/// Until when what is put on sale is on sale.
const STARTS_AT: &str = "2099-12-31T20:00:00Z";

/// How a server is reached.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Such as `http://127.0.0.1:8080`; of a cluster, those of all nodes.
    pub urls: Vec<String>,
    /// An admin's bearer token.
    pub admin_token: String,
    /// What buyers' tokens are signed with, by HS256.
    pub jwt_secret: Vec<u8>,
    /// Connections at the most.
    pub connections: usize,
    /// How long an answer may take; with several nodes, with all that is asked again.
    pub timeout: Duration,
    /// How many open holds a user may have there; 0: that is not known.
    pub open_holds_max: u32,
}

/// The settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The URL.
    #[error("{0}: must be http://HOST[:PORT], without a path; for https, put a proxy in front")]
    Url(String),
    /// There is none.
    #[error("there is no URL")]
    NoUrl,
    /// The secret.
    #[error("the secret for HS256 must be at least 32 bytes")]
    Secret,
}

/// A server, or several that are one.
pub struct Http {
    settings: HttpSettings,
    nodes: Vec<Node>,
    /// How many calls there were, each of which begins at another node.
    turn: AtomicUsize,
    free: Semaphore,
    signer: Signer,
}

struct Node {
    /// Host and port.
    address: String,
    idle: Mutex<Vec<Connection>>,
}

impl Node {
    fn new(url: &str) -> Result<Self, Error> {
        let wrong = || Error::Url(url.to_owned());
        let host = url.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(wrong());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { address, idle: Mutex::new(Vec::new()) })
    }

    async fn connection(&self) -> Answer<Connection> {
        let idle = self.idle.lock().pop();
        if let Some(connection) = idle
            && connection.used_at.elapsed() < IDLE_MAX
        {
            return Ok(connection);
        }
        Connection::open(&self.address).await.map_err(|error| fault(&error))
    }
}

/// What is asked, but for where.
#[derive(Clone, Copy)]
struct Question<'a> {
    method: &'a str,
    path: &'a str,
    by: By<'a>,
    body: &'a str,
    queue_token: Option<&'a str>,
    /// Empty: none.
    key: &'a str,
}

/// Signs buyers' tokens. It takes about a microsecond, so that none needs to be kept.
struct Signer {
    key: Hmac<Sha256>,
    expires_at: u64,
}

impl Signer {
    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    fn sign(&self, user: &UserId, token: &mut String) {
        URL_SAFE_NO_PAD.encode_string(Self::HEADER, token);
        token.push('.');
        // Names of users are those of this harness: there is nothing to escape in them.
        let claims = format!(r#"{{"sub":"{user}","exp":{}}}"#, self.expires_at);
        URL_SAFE_NO_PAD.encode_string(claims, token);
        let mut mac = self.key.clone();
        mac.update(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), token);
    }
}

/// Who asks.
#[derive(Clone, Copy)]
enum By<'a> {
    Admin,
    User(&'a UserId),
}

impl Http {
    /// Reaches its servers, at the first calls.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn new(settings: HttpSettings) -> Result<Self, Error> {
        let nodes = settings.urls.iter().map(|url| Node::new(url)).collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err(Error::NoUrl);
        }
        if settings.jwt_secret.len() < 32 {
            return Err(Error::Secret);
        }
        let key = <Hmac<Sha256> as KeyInit>::new_from_slice(&settings.jwt_secret).map_err(|_| Error::Secret)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let signer = Signer { key, expires_at: now + TOKEN_TTL_S };
        let free = Semaphore::new(settings.connections);
        Ok(Self { settings, nodes, turn: AtomicUsize::new(0), free, signer })
    }

    /// The node whose turn it is.
    fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.nodes.len()
    }

    /// Sends a request, and makes something of a good answer's body.
    async fn ask<T>(
        &self,
        method: &str,
        path: impl fmt::Display,
        by: By<'_>,
        body: &str,
        queue_token: Option<&str>,
        read: impl Fn(&[u8]) -> Answer<T>,
    ) -> Answer<T> {
        // The semaphore is never closed.
        let _turn = self.free.acquire().await.map_err(|_| Code::Internal)?;
        let path = path.to_string();
        let question = Question { method, path: &path, by, body, queue_token, key: "" };
        if self.nodes.len() == 1 {
            let answer = timeout(self.settings.timeout, self.ask_node(&self.nodes[0], question, &read));
            return answer.await.unwrap_or(Err(Code::Timeout));
        }
        let key = if method == "POST" { new_key()? } else { String::new() };
        self.ask_nodes(Question { key: &key, ..question }, &read).await
    }

    /// Asks one node after another, until one says what became of it.
    async fn ask_nodes<T>(&self, question: Question<'_>, read: &impl Fn(&[u8]) -> Answer<T>) -> Answer<T> {
        let (begun, first) = (Instant::now(), self.next());
        let mut open = None;
        for (attempt, node) in (1..).zip(self.nodes.iter().cycle().skip(first)) {
            let left = self.settings.timeout.saturating_sub(begun.elapsed());
            let answer = timeout(left.min(self.settings.timeout / SILENCES), self.ask_node(node, question, read));
            let answer = answer.await.unwrap_or(Err(Code::Timeout));
            let Err(code) = answer else { return answer };
            if question.method != "GET" && code.leaves_the_outcome_open() {
                open = Some(code);
            }
            let is_asked_again = matches!(code, Code::NoOwner | Code::OutcomeUnknown | Code::Transport | Code::Timeout);
            if !is_asked_again || begun.elapsed() + AGAIN >= self.settings.timeout {
                // An attempt that was not answered may be carried out yet: a later refusal says nothing of it.
                return Err(open.unwrap_or(code));
            }
            // Another node is asked at once, and the first one again after a while.
            if attempt % self.nodes.len() == 0 {
                sleep(AGAIN).await;
            }
        }
        Err(Code::Internal)
    }

    /// Asks one node, once.
    async fn ask_node<T>(&self, node: &Node, question: Question<'_>, read: &impl Fn(&[u8]) -> Answer<T>) -> Answer<T> {
        let mut connection = node.connection().await?;
        self.put_together(&mut connection.request, node, question)?;
        let (status, body) = connection.exchange().await.map_err(|error| fault(&error))?;
        let answer = if (200..300).contains(&status) { read(body) } else { Err(problem(status, body)) };
        if !connection.closing {
            node.idle.lock().push(connection);
        }
        answer
    }

    /// A question to which only that node is to answer.
    async fn look<T>(&self, node: &Node, path: &str, read: impl Fn(&[u8]) -> Answer<T>) -> Answer<T> {
        let question = Question { method: "GET", path, by: By::Admin, body: "", queue_token: None, key: "" };
        let answer = timeout(self.settings.timeout / SILENCES, self.ask_node(node, question, &read));
        answer.await.unwrap_or(Err(Code::Timeout))
    }

    /// The seats as one of several nodes shows them, once it has taken in all that anybody was told before.
    async fn seats_of(&self, node: &Node, path: &str, house: &House) -> Answer<SeatStates> {
        // A wallet is asked for at the owner, and this node answers when it is as far as the owner was, or is not ready.
        self.look(node, "/v1/wallet", |_| Ok(())).await?;
        self.look(node, "/readyz", |_| Ok(())).await?;
        self.look(node, path, |body| read_seats(house, body)).await
    }

    fn put_together(&self, request: &mut Vec<u8>, node: &Node, question: Question<'_>) -> Answer<()> {
        let Question { method, path, by, body, queue_token, key } = question;
        let mut token = String::new();
        let token = match by {
            By::Admin => self.settings.admin_token.as_str(),
            By::User(user) => {
                token.reserve(192);
                self.signer.sign(user, &mut token);
                &token
            }
        };
        request.clear();
        let written = (|| {
            write!(request, "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n", node.address)?;
            if !key.is_empty() {
                write!(request, "idempotency-key: {key}\r\n")?;
            }
            if let Some(token) = queue_token {
                write!(request, "queue-token: {token}\r\n")?;
            }
            if !body.is_empty() {
                write!(request, "content-type: application/json\r\ncontent-length: {}\r\n", body.len())?;
            }
            write!(request, "\r\n{body}")
        })();
        written.map_err(|_: std::io::Error| Code::Internal)
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: impl fmt::Display, by: By<'_>) -> Answer<T> {
        self.ask("GET", path, by, "", None, |body| parse(body)).await
    }

    async fn post<T: for<'de> Deserialize<'de>>(&self, path: impl fmt::Display, by: By<'_>, body: &str) -> Answer<T> {
        self.ask("POST", path, by, body, None, |body| parse(body)).await
    }
}

fn fault(error: &connection::Error) -> Code {
    tracing::debug!(%error, "a connection failed");
    match error {
        connection::Error::Io(_) => Code::Transport,
        connection::Error::Malformed(_) => Code::Malformed,
    }
}

/// A key that no other call has, of this run or another.
fn new_key() -> Answer<String> {
    let random = getrandom::u64().and_then(|one| Ok((one, getrandom::u64()?)));
    random.map(|(one, other)| format!("{one:016x}{other:016x}")).map_err(|_| Code::Internal)
}

fn read_seats(house: &House, body: &[u8]) -> Answer<SeatStates> {
    let seats = parse::<SeatsJson<'_>>(body)?;
    let mut states = vec![Status::Free; house.seats()];
    for (seat, status) in seats.seats.read(house)? {
        states[seat as usize] = status;
    }
    Ok(SeatStates { seq: seats.seq, states })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(|_| Code::Malformed)
}

/// The code of a problem. What comes from a proxy in between has none.
fn problem(status: u16, body: &[u8]) -> Code {
    #[derive(Deserialize)]
    struct Problem<'a> {
        #[serde(borrow)]
        code: Cow<'a, str>,
    }

    match serde_json::from_slice::<Problem<'_>>(body) {
        Ok(problem) => Code::of(&problem.code),
        Err(_) if status == 429 => Code::RateLimited,
        Err(_) if status == 503 => Code::Overloaded,
        Err(_) => Code::Malformed,
    }
}

#[derive(Deserialize)]
struct Id<T> {
    id: T,
}

#[derive(Deserialize)]
struct Balance {
    balance: u64,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct EntryJson {
    kind: String,
    amount: u64,
    balance: u64,
}

#[derive(Deserialize)]
struct CountsJson {
    waiting: u64,
    active: u64,
    used: u64,
    expired: u64,
}

#[derive(Deserialize)]
struct RoomJson {
    counts: CountsJson,
}

#[derive(Deserialize)]
struct SeatJson<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ReservationJson<'a> {
    id: ReservationId,
    user_id: UserId,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    seats: Vec<SeatJson<'a>>,
    amount: u64,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl ReservationJson<'_> {
    fn held(&self, house: &House) -> Answer<Held> {
        let seats = self.seats.iter().map(|seat| house.plan.seat_index(&seat.id));
        Ok(Held {
            id: self.id,
            seats: seats.collect::<Option<_>>().ok_or(Code::Malformed)?,
            amount: self.amount,
            created_at: self.created_at,
            expires_at: self.expires_at,
        })
    }
}

#[derive(Deserialize)]
struct PaymentJson {
    id: PaymentId,
    amount: u64,
    balance: u64,
}

#[derive(Deserialize)]
struct BegunJson {
    id: PaymentId,
    amount: u64,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
struct StandsJson {
    status: String,
    verdict: Option<String>,
}

#[derive(Deserialize)]
struct StatusJson {
    status: String,
}

#[derive(Deserialize)]
struct RefundJson {
    amount: u64,
    balance: u64,
}

#[derive(Deserialize)]
struct TokenJson {
    id: TokenId,
    token: String,
    status: TokenStatus,
    ahead: Option<u64>,
    refresh_interval_seconds: u64,
    expires_at: Option<Timestamp>,
}

impl From<TokenJson> for Place {
    fn from(token: TokenJson) -> Self {
        Self {
            id: token.id,
            signed: token.token,
            status: token.status,
            ahead: token.ahead,
            refresh_seconds: token.refresh_interval_seconds,
            expires_at: token.expires_at,
        }
    }
}

/// Seats and their states, as an object: there may be many, and a map of them is not needed.
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of seats and their states")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((seat, status)) = map.next_entry::<&str, &str>()? {
                    pairs.push((seat.into(), status.into()));
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(Object).map(Self)
    }
}

impl Pairs<'_> {
    fn read(&self, house: &House) -> Answer<Vec<(u32, Status)>> {
        let pair = |(seat, status): &(Cow<'_, str>, Cow<'_, str>)| {
            let status = match status.as_ref() {
                "available" => Status::Free,
                "held" => Status::Held,
                "sold" => Status::Sold,
                "blocked" => Status::Blocked,
                _ => return None,
            };
            Some((house.plan.seat_index(seat)?, status))
        };
        self.0.iter().map(pair).collect::<Option<_>>().ok_or(Code::Malformed)
    }
}

#[derive(Deserialize)]
struct SeatsJson<'a> {
    seq: u64,
    previous_seq: Option<u64>,
    #[serde(borrow)]
    seats: Pairs<'a>,
}

fn wish_json(house: &House, wish: &Wish) -> String {
    let mut json = String::with_capacity(64);
    // Writing to a string cannot fail.
    let _ = match wish {
        Wish::Seats(seats) => {
            json.push_str(r#"{"seats":["#);
            for (n, seat) in seats.iter().enumerate() {
                let comma = if n > 0 { "," } else { "" };
                let _ = write!(json, "{comma}{}", json!(house.plan.seat(*seat).guid));
            }
            write!(json, "]}}")
        }
        Wish::Best { count, category: None, adjacent } => {
            write!(json, r#"{{"best_available":{{"count":{count},"adjacent":{adjacent}}}}}"#)
        }
        Wish::Best { count, category: Some(category), adjacent } => {
            let category = json!(house.plan.categories()[*category as usize].name);
            write!(json, r#"{{"best_available":{{"count":{count},"adjacent":{adjacent},"category":{category}}}}}"#)
        }
    };
    json
}

impl Target for Http {
    type Follower = Follower;

    fn describe(&self) -> String {
        self.settings.urls.join(", ")
    }

    fn open_holds_max(&self) -> u32 {
        self.settings.open_holds_max
    }

    async fn create_concert(&self, room: &Settings) -> Answer<ConcertId> {
        let body = json!({"title": "Load test", "waiting_room": room}).to_string();
        self.post("/v1/concerts", By::Admin, &body).await.map(|concert: Id<ConcertId>| concert.id)
    }

    async fn add_option(&self, concert: ConcertId, house: &House, terms: Terms) -> Answer<OptionId> {
        let plan: serde_json::Value = serde_json::from_slice(&house.json).map_err(|_| Code::InvalidRequest)?;
        let prices: serde_json::Map<_, _> =
            house.prices.iter().map(|(name, price)| (name.clone(), json!(price))).collect();
        let mut body = json!({
            "starts_at": STARTS_AT, "seating_plan": plan, "prices": prices, "hold_seconds": terms.hold_seconds,
            "max_seats_per_reservation": terms.max_seats_per_reservation,
            "max_seats_per_user": terms.max_seats_per_user,
        });
        if terms.by_card {
            body["payment_methods"] = json!([CARD]);
            body["currency"] = json!(Currency::KRW);
        }
        let path = format_args!("/v1/concerts/{concert}/options").to_string();
        self.post(path, By::Admin, &body.to_string()).await.map(|option: Id<OptionId>| option.id)
    }

    async fn room_counts(&self, concert: ConcertId) -> Answer<Counts> {
        let room: RoomJson = self.get(format!("/v1/concerts/{concert}/waiting-room"), By::Admin).await?;
        let CountsJson { waiting, active, used, expired } = room.counts;
        Ok(Counts { waiting, active, used, expired })
    }

    async fn charge(&self, user: &UserId, amount: u64) -> Answer<u64> {
        let path = format!("/v1/users/{user}/wallet/charges");
        self.post(path, By::Admin, &format!(r#"{{"amount":{amount}}}"#)).await.map(|entry: Balance| entry.balance)
    }

    async fn balance(&self, user: &UserId) -> Answer<u64> {
        self.get("/v1/wallet", By::User(user)).await.map(|wallet: Balance| wallet.balance)
    }

    async fn entries(&self, user: &UserId) -> Answer<Vec<Entry>> {
        let page: Items<EntryJson> = self.get("/v1/wallet/entries?limit=500", By::User(user)).await?;
        let entry = |EntryJson { kind, amount, balance }| Entry { kind, amount, balance };
        Ok(page.items.into_iter().map(entry).collect())
    }

    async fn hold(&self, offer: &Offer, user: &UserId, wish: &Wish, queue_token: Option<&str>) -> Answer<Held> {
        let path = format!("/v1/options/{}/reservations", offer.id);
        let body = wish_json(&offer.house, wish);
        let read = |body: &[u8]| parse::<ReservationJson<'_>>(body)?.held(&offer.house);
        self.ask("POST", path, By::User(user), &body, queue_token, read).await
    }

    async fn release(&self, user: &UserId, id: ReservationId) -> Answer<()> {
        self.ask("DELETE", format!("/v1/reservations/{id}"), By::User(user), "", None, |_| Ok(())).await
    }

    async fn pay(&self, user: &UserId, id: ReservationId) -> Answer<Paid> {
        let paid: PaymentJson = self.post(format!("/v1/reservations/{id}/payments"), By::User(user), "{}").await?;
        Ok(Paid { id: paid.id, amount: paid.amount, balance: paid.balance })
    }

    async fn begin_payment(&self, user: &UserId, id: ReservationId) -> Answer<Begun> {
        let (path, body) = (format!("/v1/reservations/{id}/payments"), json!({"method": CARD}).to_string());
        let BegunJson { id, amount, expires_at } = self.post(path, By::User(user), &body).await?;
        Ok(Begun { id, amount, expires_at })
    }

    async fn give_up(&self, user: &UserId, id: PaymentId) -> Answer<()> {
        self.ask("DELETE", format!("/v1/payments/{id}"), By::User(user), "", None, |_| Ok(())).await
    }

    async fn report(&self, id: PaymentId, fact: &Fact) -> Answer<Stands> {
        let body = serde_json::to_string(fact).map_err(|_| Code::Internal)?;
        let stands: StandsJson = self.post(format!("/v1/payments/{id}/facts"), By::Admin, &body).await?;
        Ok(Stands { status: stands.status, verdict: stands.verdict })
    }

    async fn give_back_money(&self, id: PaymentId) -> Answer<()> {
        self.ask("POST", format!("/v1/payments/{id}/refunds"), By::Admin, "{}", None, |_| Ok(())).await
    }

    async fn refund(&self, id: PaymentId) -> Answer<(u64, u64)> {
        let refund: RefundJson = self.post(format!("/v1/payments/{id}/refunds"), By::Admin, "{}").await?;
        Ok((refund.amount, refund.balance))
    }

    async fn reservation(&self, offer: &Offer, user: &UserId, id: ReservationId) -> Answer<Reserved> {
        let read = |body: &[u8]| {
            let found = parse::<ReservationJson<'_>>(body)?;
            Ok(Reserved { held: found.held(&offer.house)?, user: found.user_id, status: found.status.into_owned() })
        };
        self.ask("GET", format!("/v1/reservations/{id}"), By::User(user), "", None, read).await
    }

    async fn payment_status(&self, user: &UserId, id: PaymentId) -> Answer<String> {
        self.get(format!("/v1/payments/{id}"), By::User(user)).await.map(|payment: StatusJson| payment.status)
    }

    async fn browse(&self, offer: &Offer) -> Answer<()> {
        self.ask("GET", format!("/v1/options/{}/seats", offer.id), By::Admin, "", None, |_| Ok(())).await
    }

    async fn seats(&self, offer: &Offer) -> Answer<SeatStates> {
        let path = format!("/v1/options/{}/seats", offer.id);
        if self.nodes.len() == 1 {
            return self.ask("GET", path, By::Admin, "", None, |body| read_seats(&offer.house, body)).await;
        }
        let mut answer = Err(Code::NoOwner);
        for node in self.nodes.iter().cycle().skip(self.next()).take(self.nodes.len()) {
            answer = self.seats_of(node, &path, &offer.house).await;
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    async fn enter(&self, concert: ConcertId, user: &UserId) -> Answer<Place> {
        self.post(format!("/v1/concerts/{concert}/tokens"), By::User(user), "")
            .await
            .map(|token: TokenJson| token.into())
    }

    async fn poll(&self, user: &UserId, id: TokenId) -> Answer<Place> {
        self.get(format!("/v1/tokens/{id}"), By::User(user)).await.map(|token: TokenJson| token.into())
    }

    async fn leave(&self, user: &UserId, id: TokenId) -> Answer<()> {
        self.ask("DELETE", format!("/v1/tokens/{id}"), By::User(user), "", None, |_| Ok(())).await
    }

    async fn follow(&self, offer: &Arc<Offer>, _: &UserId) -> Answer<Follower> {
        let address = &self.nodes[self.next()].address;
        let connect = async {
            let stream = TcpStream::connect(address).await.map_err(|_| Code::Transport)?;
            let url = format!("ws://{address}/v1/options/{}/live", offer.id);
            let (socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(|_| Code::Transport)?;
            Ok(Follower { socket, offer: offer.clone() })
        };
        timeout(self.settings.timeout, connect).await.unwrap_or(Err(Code::Timeout))
    }

    async fn audit_journal(&self, _: u64) -> Option<Result<u64, String>> {
        None
    }

    async fn close(&self) -> Result<(), String> {
        self.nodes.iter().for_each(|node| node.idle.lock().clear());
        Ok(())
    }
}

/// Who follows an option's seats.
pub struct Follower {
    socket: WebSocketStream<TcpStream>,
    offer: Arc<Offer>,
}

impl Follow for Follower {
    async fn next(&mut self) -> Answer<Update> {
        loop {
            // Pings are answered by the socket itself.
            if let Message::Text(text) =
                self.socket.next().await.ok_or(Code::Transport)?.map_err(|_| Code::Transport)?
            {
                let update: SeatsJson<'_> = parse(text.as_bytes())?;
                let seats = update.seats.read(&self.offer.house)?;
                return Ok(Update { seq: update.seq, previous_seq: update.previous_seq, seats });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    fn settings(url: &str) -> HttpSettings {
        HttpSettings {
            urls: vec![url.into()],
            admin_token: "none".into(),
            jwt_secret: vec![b's'; 32],
            connections: 1,
            timeout: Duration::from_secs(1),
            open_holds_max: 0,
        }
    }

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        for (url, address) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://tickets.example/", "tickets.example:80"),
            ("http://[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(Http::new(settings(url)).map(|http| http.nodes[0].address.clone()).unwrap(), address);
        }
        for url in ["https://tickets.example", "tickets.example", "http://", "http://a/b", "http://u@a"] {
            assert_eq!(Http::new(settings(url)).err(), Some(Error::Url(url.into())), "{url}");
        }
        let short = HttpSettings { jwt_secret: vec![0; 31], ..settings("http://a") };
        assert_eq!(Http::new(short).err(), Some(Error::Secret));
        let nowhere = HttpSettings { urls: Vec::new(), ..settings("http://a") };
        assert_eq!(Http::new(nowhere).err(), Some(Error::NoUrl));
    }

    #[test]
    fn buyers_tokens_are_such_as_the_server_takes() {
        use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

        let http = Http::new(settings("http://a")).unwrap();
        let mut token = String::new();
        http.signer.sign(&"load-7".parse().unwrap(), &mut token);
        let key = DecodingKey::from_secret(&[b's'; 32]);
        let claims = decode::<serde_json::Value>(&token, &key, &Validation::new(Algorithm::HS256)).unwrap().claims;
        assert_eq!(claims["sub"], "load-7");
    }

    #[test]
    fn wishes_are_those_of_the_api() {
        let house = House::of(100).unwrap();
        let seats = wish_json(&house, &Wish::Seats(smallvec![0, 51]));
        assert_eq!(seats, r#"{"seats":["1-1-1","1-2-2"]}"#);
        let best = Wish::Best { count: 3, category: Some(0), adjacent: false };
        let best: serde_json::Value = serde_json::from_str(&wish_json(&house, &best)).unwrap();
        assert_eq!(best, json!({"best_available": {"count": 3, "category": "Gold", "adjacent": false}}));
    }

    #[test]
    fn problems_have_codes_and_what_a_proxy_says_is_guessed() {
        assert_eq!(problem(409, br#"{"status":409,"code":"seats_unavailable"}"#), Code::SeatsUnavailable);
        assert_eq!(problem(503, b"<html>"), Code::Overloaded);
        assert_eq!(problem(429, b""), Code::RateLimited);
        assert_eq!(problem(502, b""), Code::Malformed);
    }
}
