//! WebSockets: seats as they go, and the line as it moves.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::Server;
use crate::receiver::until;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a WebSocket, or gives the problem.
pub async fn open(
    server: &Server,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, String), (StatusCode, Value)> {
    let mut request = format!("ws://{}{path}", server.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    match connect_async(request).await {
        Ok((socket, response)) => {
            let protocol = response.headers().get("sec-websocket-protocol");
            Ok((socket, protocol.map_or("", |protocol| protocol.to_str().unwrap()).to_owned()))
        }
        Err(Error::Http(response)) => {
            let problem = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert!(response.headers().contains_key("x-request-id"), "it went the way of all requests");
            Err((response.status(), problem))
        }
        Err(error) => panic!("{error}"),
    }
}

/// The next message that is not about the connection itself.
pub async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time").unwrap().unwrap();
        match message {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// With which code the other end closes.
pub async fn closed(socket: &mut Socket) -> u16 {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a goodbye in time").unwrap().unwrap();
        if let Message::Close(frame) = message {
            return frame.unwrap().code.into();
        }
    }
}

/// What a page knows of an option's seats.
#[derive(Debug, Default)]
struct Picture {
    seq: Option<u64>,
    seats: BTreeMap<String, Value>,
    areas: BTreeMap<String, Value>,
}

impl Picture {
    /// Takes in a message; it must fit.
    fn take(&mut self, message: &Value) {
        let (seq, previous) = (message["seq"].as_u64().unwrap(), message["previous_seq"].as_u64());
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                assert_eq!(previous, None, "{message}");
                *self = Self::default();
            }
            "delta" => {
                assert_eq!(previous, self.seq, "no gaps: {message}");
                assert!(seq >= previous.unwrap(), "{message}");
            }
            other => panic!("{other}"),
        }
        self.seq = Some(seq);
        for (seat, status) in message["seats"].as_object().unwrap() {
            match status.as_str().unwrap() {
                "available" => drop(self.seats.remove(seat)),
                "held" | "sold" | "blocked" => drop(self.seats.insert(seat.clone(), status.clone())),
                other => panic!("{other}"),
            }
        }
        self.areas.extend(message["areas"].as_object().unwrap().clone());
    }

    /// As `/seats` shows it.
    fn show(&self, option: &str) -> Value {
        json!({"option_id": option, "seq": self.seq, "seats": self.seats, "areas": self.areas})
    }

    /// Takes in messages until it stands at `seq`.
    async fn follow(&mut self, socket: &mut Socket, seq: u64) {
        while self.seq.is_none_or(|at| at < seq) {
            self.take(&next(socket).await);
        }
    }
}

#[tokio::test]
async fn seats_are_told_as_they_go() {
    let server = Server::start().await;
    let option = server.option(8).await;
    let (seats, live) = (format!("/v1/options/{option}/seats"), format!("/v1/options/{option}/live"));
    let anna = server.buyer("anna");
    let held = server.hold(&option, &anna, &["S1", "S2"]).await;

    let (mut socket, protocol) = open(&server, &live, &[]).await.unwrap();
    assert_eq!(protocol, "");
    let snapshot = next(&mut socket).await;
    let shown = server.get(&seats, "").await.body;
    let mut expected = shown.clone();
    expected["type"] = "snapshot".into();
    assert_eq!(snapshot, expected);
    let mut picture = Picture::default();
    picture.take(&snapshot);

    server.ask("DELETE", &format!("/v1/reservations/{held}"), &anna, Value::Null).await;
    server.post(&format!("/v1/options/{option}/blocks"), &server.admin, json!({"seats": ["S7"]})).await;
    let areas = json!({"areas": [{"name": "Floor", "count": 3}]});
    server.post(&format!("/v1/options/{option}/reservations"), &anna, areas).await.created();
    let shown = server.get(&seats, "").await.body;
    let mut told = Vec::new();
    while picture.seq != shown["seq"].as_u64() {
        told.push(next(&mut socket).await);
        picture.take(told.last().unwrap());
    }
    assert_eq!(picture.show(&option), shown);
    let last = |seat: &str| told.iter().rev().find_map(|delta| delta["seats"].get(seat).cloned());
    assert_eq!((last("S1"), last("S7"), last("S3")), (Some("available".into()), Some("blocked".into()), None));
    assert_eq!(told.last().unwrap()["areas"]["Floor"], json!({"capacity": 20, "available": 17}));
}

/// Blocks seats, which is a change of them.
pub async fn block(server: &Server, option: &str, seats: &[String]) {
    let blocked = server.post(&format!("/v1/options/{option}/blocks"), &server.admin, json!({"seats": seats})).await;
    assert_eq!(blocked.status, 200, "{blocked:?}");
}

async fn unblock(server: &Server, option: &str, seats: &[String]) {
    let unblocked =
        server.post(&format!("/v1/options/{option}/unblocks"), &server.admin, json!({"seats": seats})).await;
    assert_eq!(unblocked.status, 200, "{unblocked:?}");
}

pub fn seat(n: usize) -> String {
    format!("S{n}")
}

#[tokio::test]
async fn whoever_was_there_before_hears_what_has_changed_since() {
    let server = Server::start().await;
    let option = server.option(5).await;
    let seq = async || server.get(&format!("/v1/options/{option}/seats"), "").await.body["seq"].as_u64().unwrap();
    let first = async |since: &str| {
        let path = format!("/v1/options/{option}/live{since}");
        let (mut socket, _) = open(&server, &path, &[]).await.unwrap();
        next(&mut socket).await
    };
    let untouched = seq().await;
    let mut seqs = vec![(untouched, json!({}))];
    // What each seat is now, in the order in which they changed.
    for n in 1..=3 {
        block(&server, &option, &[seat(n)]).await;
        seqs.iter_mut().for_each(|(_, changed)| changed[seat(n)] = "blocked".into());
        seqs.push((seq().await, json!({})));
    }
    unblock(&server, &option, &[seat(1)]).await;
    seqs.iter_mut().for_each(|(_, changed)| changed[seat(1)] = "available".into());
    let now = seq().await;
    seqs.push((now, json!({})));
    for (since, changed) in seqs {
        let delta = first(&format!("?since={since}")).await;
        let expected = json!({"type": "delta", "seq": now, "previous_seq": since, "seats": changed, "areas": {}});
        assert_eq!(delta, expected);
    }
    for unknown in [now + 1, u64::MAX] {
        let snapshot = first(&format!("?since={unknown}")).await;
        assert_eq!((&snapshot["type"], &snapshot["seq"]), (&"snapshot".into(), &now.into()));
        assert_eq!(snapshot["seats"], json!({"S2": "blocked", "S3": "blocked"}));
    }
}

/// What cannot be followed is refused as any other request is, and the connection is of no more use.
#[tokio::test]
async fn bad_handshakes_are_problems() {
    let server = Server::with(|settings| settings.cors.allowed_origins = vec!["https://tickets.example".into()]).await;
    let option = server.option(1).await;
    let live = format!("/v1/options/{option}/live");
    let own = format!("http://{}", server.address);
    for (path, origin, expected) in [
        (live.clone(), None, None),
        (live.clone(), Some(own.as_str()), None),
        (live.clone(), Some("https://tickets.example"), None),
        (live.clone(), Some("https://evil.example"), Some((403, "forbidden"))),
        (live.clone(), Some("null"), Some((403, "forbidden"))),
        (format!("{live}?since=-1"), None, Some((400, "invalid_request"))),
        (format!("{live}?since=+1"), None, Some((400, "invalid_request"))),
        (format!("{live}?since="), None, Some((400, "invalid_request"))),
        (format!("{live}?since=18446744073709551616"), None, Some((400, "invalid_request"))),
        (format!("{live}?until=1"), None, Some((400, "invalid_request"))),
        ("/v1/options/o99/live".into(), None, Some((404, "not_found"))),
        ("/v1/options/o99/live?since=x".into(), None, Some((404, "not_found"))),
        ("/v1/options/!/live".into(), None, Some((404, "not_found"))),
        ("/v1/tokens/t1-1/live".into(), None, Some((401, "unauthenticated"))),
        ("/nowhere".into(), None, Some((404, "not_found"))),
    ] {
        let headers: Vec<_> = origin.iter().map(|origin| ("origin", *origin)).collect();
        let outcome = open(&server, &path, &headers).await.map(|_| ());
        let outcome = outcome.map_err(|(status, problem)| (status.as_u16(), problem["code"].clone()));
        assert_eq!(outcome.err(), expected.map(|(status, code)| (status, code.into())), "{path} {origin:?}");
    }
    let plain = server.get(&live, "").await;
    assert_eq!((plain.code(), plain.fields()), ((400, "invalid_request"), vec!["Upgrade"]));
}

/// A request that asks for a WebSocket where there is none is answered as it would be without.
#[tokio::test]
async fn other_routes_do_not_mind_being_asked_for_a_websocket() {
    let server = Server::start().await;
    let concert = server.concert().await;
    for (method, path, status) in [
        ("GET", format!("/v1/concerts/{concert}"), 200),
        ("GET", "/v1/nothing".to_owned(), 404),
        ("POST", "/v1/concerts".to_owned(), 401),
    ] {
        let request = server.request(method, &path, "").header("connection", "upgrade").header("upgrade", "websocket");
        let answer = crate::harness::Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.body.is_object());
    }
}

#[tokio::test]
async fn only_so_many_may_follow() {
    let server = Server::with(|settings| {
        settings.live.max_connections = 2;
        settings.live.max_connections_per_option = 1;
    })
    .await;
    let options = [server.option(1).await, server.option(1).await, server.option(1).await];
    let path = |n: usize| format!("/v1/options/{}/live", options[n]);
    let refused = |outcome: Result<_, (StatusCode, Value)>| {
        let (status, problem) = outcome.map(|_: (Socket, String)| ()).unwrap_err();
        assert_eq!((status.as_u16(), &problem["code"]), (503, &"overloaded".into()));
    };
    let first = open(&server, &path(0), &[]).await.unwrap();
    refused(open(&server, &path(0), &[]).await);
    let _second = open(&server, &path(1), &[]).await.unwrap();
    refused(open(&server, &path(2), &[]).await);
    let anna = server.buyer("anna");
    let token = server.post("/v1/concerts/c1/tokens", &anna, Value::Null).await.created();
    let bearer = format!("bearer, {anna}");
    refused(open(&server, &format!("/v1/tokens/{token}/live"), &[("sec-websocket-protocol", &bearer)]).await);
    drop(first);
    tokio::time::timeout(PATIENCE, async { while open(&server, &path(2), &[]).await.is_err() {} })
        .await
        .expect("a place is free again");
}

/// 1,000 times somebody goes away in the middle, and comes back with the last seq that they heard.
#[tokio::test]
async fn resumes_leave_no_gap() {
    let server = Server::with(|settings| settings.live.window = "1ms".parse().unwrap()).await;
    let option = server.option(40).await;
    let is_over = Cell::new(false);
    let changing = async {
        let mut random = 1_u64;
        let mut blocked = BTreeMap::new();
        while !is_over.get() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let n = 1 + (random >> 33) as usize % 40;
            if blocked.insert(n, ()).is_none() {
                block(&server, &option, &[seat(n)]).await;
            } else {
                blocked.remove(&n);
                unblock(&server, &option, &[seat(n)]).await;
            }
        }
    };
    let following = async {
        let mut picture = Picture::default();
        let mut deltas = 0;
        for n in 0..1_000 {
            let since = picture.seq.map_or(String::new(), |seq| format!("?since={seq}"));
            let (mut socket, _) = open(&server, &format!("/v1/options/{option}/live{since}"), &[]).await.unwrap();
            for message in 0..=n % 3 {
                let is_first = message == 0;
                let message = next(&mut socket).await;
                // Later ones may be snapshots: on a busy machine it falls behind.
                if is_first {
                    assert_eq!(message["type"] == "snapshot", picture.seq.is_none(), "{message}");
                }
                deltas += usize::from(message["seats"].as_object().is_some_and(|seats| !seats.is_empty()));
                picture.take(&message);
            }
        }
        assert!(deltas > 1_000, "{deltas} are too few to show anything");
        is_over.set(true);
        picture
    };
    let (mut picture, ()) = tokio::join!(following, changing);
    let shown = server.get(&format!("/v1/options/{option}/seats"), "").await.body;
    let since = picture.seq.unwrap();
    let (mut socket, _) = open(&server, &format!("/v1/options/{option}/live?since={since}"), &[]).await.unwrap();
    picture.follow(&mut socket, shown["seq"].as_u64().unwrap()).await;
    assert_eq!(picture.show(&option), shown);
}

/// A connection of which the system keeps next to nothing for those who do not read.
async fn narrow(server: &Server, path: &str) -> Socket {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = MaybeTlsStream::Plain(socket.connect(server.address).await.unwrap());
    let url = format!("ws://{}{path}", server.address);
    tokio_tungstenite::client_async(url, stream).await.unwrap().0
}

#[tokio::test]
async fn whoever_does_not_read_gets_less_and_holds_up_nobody() {
    const SEATS: usize = 1_000;
    let server = Server::with(|settings| {
        settings.live.window = "1ms".parse().unwrap();
        settings.live.send_buffer_bytes = 4_096;
    })
    .await;
    let option = server.option(SEATS).await;
    let path = format!("/v1/options/{option}/live");
    let mut slow = narrow(&server, &path).await;
    let (mut fast, _) = open(&server, &path, &[]).await.unwrap();
    let mut picture = Picture::default();
    let seats: Vec<_> = (1..=SEATS).map(seat).collect();
    let mut told = 0;
    for _ in 0..30 {
        for (seats, freed) in [(&seats[..], false), (&seats[..], true)] {
            match freed {
                false => block(&server, &option, seats).await,
                true => unblock(&server, &option, seats).await,
            }
            let seq = server.get(&format!("/v1/options/{option}/seats"), "").await.body["seq"].as_u64().unwrap();
            while picture.seq.is_none_or(|at| at < seq) {
                picture.take(&next(&mut fast).await);
                told += 1;
            }
        }
    }
    block(&server, &option, &seats[..3]).await;
    let shown = server.get(&format!("/v1/options/{option}/seats"), "").await.body;
    let seq = shown["seq"].as_u64().unwrap();
    picture.follow(&mut fast, seq).await;
    assert_eq!(picture.show(&option), shown);

    let (mut late, mut heard) = (Picture::default(), 0);
    while late.seq != Some(seq) {
        late.take(&next(&mut slow).await);
        heard += 1;
    }
    assert_eq!(late.show(&option), shown);
    assert!(told >= 60 && heard < told / 3, "{heard} of {told}");
    let stats = server.get("/v1/stats", &server.admin).await.body;
    let caught_up = stats["live_conflations"].as_u64().unwrap() + stats["live_resyncs"].as_u64().unwrap();
    assert!(caught_up >= 1, "{stats}");
}

#[tokio::test]
async fn what_clients_send_is_bounded_and_ignored() {
    let server = Server::start().await;
    let option = server.option(2).await;
    let path = format!("/v1/options/{option}/live");
    let (mut socket, _) = open(&server, &path, &[]).await.unwrap();
    next(&mut socket).await;
    socket.send(Message::text("x".repeat(4_096))).await.unwrap();
    socket.send(Message::binary(vec![0; 4_096])).await.unwrap();
    socket.send(Message::Ping("are you there".into())).await.unwrap();
    let pong = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));
    block(&server, &option, &[seat(1)]).await;
    assert_eq!(next(&mut socket).await["seats"], json!({"S1": "blocked"}));
    socket.send(Message::text("x".repeat(4_097))).await.unwrap();
    assert_eq!(closed(&mut socket).await, u16::from(CloseCode::Size));

    let (mut socket, _) = open(&server, &path, &[]).await.unwrap();
    next(&mut socket).await;
    socket.close(None).await.unwrap();
    assert_eq!(closed(&mut socket).await, u16::from(CloseCode::Normal));
}

#[tokio::test]
async fn whoever_is_silent_is_closed_and_whoever_answers_is_not() {
    let server = Server::with(|settings| {
        settings.live.ping_interval = "100ms".parse().unwrap();
        settings.live.silence_timeout = "1s".parse().unwrap();
    })
    .await;
    let option = server.option(1).await;
    let path = format!("/v1/options/{option}/live");
    let (mut there, _) = open(&server, &path, &[]).await.unwrap();
    let answering = async {
        let mut pings = 0;
        // Reading them is what answers them.
        while pings < 15 {
            let message = tokio::time::timeout(PATIENCE, there.next()).await.unwrap().unwrap().unwrap();
            assert!(!message.is_close(), "after {pings} pings");
            pings += usize::from(message.is_ping());
        }
    };
    let (mut silent, _) = open(&server, &path, &[]).await.unwrap();
    let not_answering = async {
        let stream = silent.get_mut();
        let mut read = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(stream, &mut read);
        tokio::time::timeout(PATIENCE, reading).await.expect("it is closed").unwrap();
        read
    };
    let ((), read) = tokio::join!(answering, not_answering);
    // The last frame closes, and its text says why.
    let why = b"nothing was heard, or taken";
    let code = u16::from(CloseCode::Away).to_be_bytes();
    let close = [&[0x88, 2 + why.len() as u8][..], &code, why].concat();
    assert!(read.ends_with(&close), "{:?}", &read[read.len().saturating_sub(40)..]);
    assert!(read.windows(2).any(|bytes| bytes == [0x89, 0]), "it was asked");
}

/// Whoever talks without end, and never listens, must not keep a place and full buffers for it.
#[tokio::test]
async fn whoever_takes_nothing_is_closed_however_much_it_says() {
    const SEATS: usize = 1_000;
    let server = Server::with(|settings| {
        settings.live.window = "1ms".parse().unwrap();
        settings.live.send_buffer_bytes = 4_096;
        settings.live.ping_interval = "100ms".parse().unwrap();
        settings.live.silence_timeout = "1s".parse().unwrap();
    })
    .await;
    let option = server.option(SEATS).await;
    let mut deaf = narrow(&server, &format!("/v1/options/{option}/live")).await;
    let seats: Vec<_> = (1..=SEATS).map(seat).collect();
    let closed = async {
        let mut said = 0;
        loop {
            block(&server, &option, &seats).await;
            unblock(&server, &option, &seats).await;
            if deaf.send(Message::Ping("are you there".into())).await.is_err() {
                return said;
            }
            said += 1;
        }
    };
    let said = tokio::time::timeout(PATIENCE, closed).await.expect("it is closed");
    assert!(said > 3, "{said}");
    assert_eq!(server.get("/v1/stats", &server.admin).await.body["live_subscribers"], 0);
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let server = Server::start().await;
    let option = server.option(1).await;
    let (mut socket, _) = open(&server, &format!("/v1/options/{option}/live"), &[]).await.unwrap();
    let mut dead = narrow(&server, &format!("/v1/options/{option}/live")).await;
    next(&mut socket).await;
    next(&mut dead).await;
    let begun = std::time::Instant::now();
    let stopping = tokio::task::spawn_blocking(move || drop(server));
    assert_eq!(closed(&mut socket).await, u16::from(CloseCode::Away));
    stopping.await.unwrap();
    assert!(begun.elapsed() < PATIENCE, "those who do not answer hold nothing up");
    drop(dead);
}

#[tokio::test]
async fn a_place_in_line_is_told_as_it_moves() {
    let server = Server::with(|settings| {
        settings.live.position_interval = "50ms".parse().unwrap();
        settings.live.token_interval = "200ms".parse().unwrap();
    })
    .await;
    server.option(4).await;
    let room = json!({"mode": "queue", "max_active": 1});
    server.ask("PATCH", "/v1/concerts/c1/waiting-room", &server.admin, room).await;
    let names = ["anna", "ben", "carl"];
    let buyers = names.map(|name| server.buyer(name));
    let mut tokens = Vec::new();
    for buyer in &buyers {
        tokens.push(server.post("/v1/concerts/c1/tokens", buyer, Value::Null).await.created());
    }
    let path = |n: usize| format!("/v1/tokens/{}/live", tokens[n]);
    let until = async |socket: &mut Socket, status: &str, position: Value| loop {
        let told = next(socket).await;
        if told["status"] == status && told["position"] == position {
            return told;
        }
    };
    // By header, as a program does it.
    let authorization = format!("Bearer {}", buyers[0]);
    let (mut anna, protocol) = open(&server, &path(0), &[("authorization", &authorization)]).await.unwrap();
    assert_eq!(protocol, "");
    let told = until(&mut anna, "active", Value::Null).await;
    let mut shown = server.get(&format!("/v1/tokens/{}", tokens[0]), &buyers[0]).await.body;
    shown["type"] = "token".into();
    assert_eq!(told, shown);
    // By subprotocol, as a browser must.
    let bearer = format!("bearer, {}", buyers[2]);
    let (mut carl, protocol) = open(&server, &path(2), &[("sec-websocket-protocol", &bearer)]).await.unwrap();
    assert_eq!(protocol, "bearer");
    until(&mut carl, "waiting", 2.into()).await;
    // Nothing changes, and it is told all the same.
    let (first, second) = (next(&mut carl).await, next(&mut carl).await);
    assert_eq!(first, second);
    server.ask("DELETE", &format!("/v1/tokens/{}", tokens[1]), &buyers[1], Value::Null).await;
    until(&mut carl, "waiting", 1.into()).await;
    server.ask("DELETE", &format!("/v1/tokens/{}", tokens[0]), &buyers[0], Value::Null).await;
    until(&mut anna, "expired", Value::Null).await;
    until(&mut carl, "active", Value::Null).await;

    // Nobody else's, and nobody's at all.
    let bearer = format!("bearer, {}", buyers[1]);
    let expect = async |headers: &[(&'static str, &str)], status: u16| {
        let refused = open(&server, &path(2), headers).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.0.as_u16(), status, "{headers:?}");
    };
    expect(&[("sec-websocket-protocol", &bearer)], 404).await;
    expect(&[("sec-websocket-protocol", "bearer")], 401).await;
    expect(&[("sec-websocket-protocol", "bearer, x")], 401).await;
    expect(&[("sec-websocket-protocol", &buyers[2])], 401).await;
    expect(&[("authorization", "Bearer x"), ("sec-websocket-protocol", &bearer)], 401).await;
    let admin = format!("bearer, {}", server.admin);
    let (mut seen, _) = open(&server, &path(2), &[("sec-websocket-protocol", &admin)]).await.unwrap();
    assert_eq!(next(&mut seen).await["status"], "active");
}

#[tokio::test]
async fn an_open_socket_keeps_a_place_and_a_silent_one_does_not() {
    let server = Server::with(|settings| {
        settings.live.position_interval = "50ms".parse().unwrap();
        settings.live.token_interval = "100ms".parse().unwrap();
        settings.live.ping_interval = "100ms".parse().unwrap();
    })
    .await;
    server.option(1).await;
    let room = json!({"mode": "queue", "max_active": 1, "waiting_ttl_seconds": 1});
    server.ask("PATCH", "/v1/concerts/c1/waiting-room", &server.admin, room).await;
    let mut tokens = Vec::new();
    for name in ["inside", "open", "silent"] {
        let buyer = server.buyer(name);
        tokens.push((
            server.post("/v1/concerts/c1/tokens", &buyer, Value::Null).await.created(),
            format!("bearer, {buyer}"),
        ));
    }
    let follow = async |n: usize| {
        let (token, bearer): &(String, String) = &tokens[n];
        open(&server, &format!("/v1/tokens/{token}/live"), &[("sec-websocket-protocol", bearer)]).await.unwrap().0
    };
    // It is read as bytes, so that no ping is answered: after a while, messages to it are no signs of life any more.
    let mut silent = follow(2).await;
    let mut open = follow(1).await;
    let expired = async {
        let mut read = Vec::new();
        let mut bytes = [0; 4_096];
        while !String::from_utf8_lossy(&read).contains(r#""status":"expired""#) {
            let reading = tokio::io::AsyncReadExt::read(silent.get_mut(), &mut bytes);
            let count = tokio::time::timeout(PATIENCE, reading).await.expect("it is told").unwrap();
            assert_ne!(count, 0, "closed before it expired");
            read.extend_from_slice(&bytes[..count]);
        }
    };
    let waiting = async {
        loop {
            let told = next(&mut open).await;
            assert_eq!(told["status"], "waiting", "{told}");
        }
    };
    tokio::select! {
        () = expired => {}
        () = waiting => unreachable!(),
    }
    assert_eq!(next(&mut open).await["status"], "waiting");
}

#[tokio::test]
async fn a_socket_ends_with_the_token_that_opened_it() {
    let server = Server::start().await;
    server.option(1).await;
    let anna = server.buyer_for("anna", Duration::from_secs(2));
    let token = server.post("/v1/concerts/c1/tokens", &server.buyer("anna"), Value::Null).await.created();
    let bearer = format!("bearer, {anna}");
    let path = format!("/v1/tokens/{token}/live");
    let (mut socket, _) = open(&server, &path, &[("sec-websocket-protocol", &bearer)]).await.unwrap();
    assert_eq!(closed(&mut socket).await, u16::from(CloseCode::Policy));
}

#[tokio::test]
async fn figures_tell_who_follows_and_what_was_sent() {
    let server = Server::start().await;
    let option = server.option(2).await;
    let (mut socket, _) = open(&server, &format!("/v1/options/{option}/live"), &[]).await.unwrap();
    let first = next(&mut socket).await;
    assert_eq!(server.figure("boxoffice_live_staleness_seconds_count").await, 0.0);
    block(&server, &option, &[seat(1)]).await;
    let second = next(&mut socket).await;
    assert_eq!(server.figure("boxoffice_live_subscribers").await, 1.0);
    // It is counted once it is out, which its reader may hear of first.
    until(async || json!(server.figure("boxoffice_live_frames_total").await), |frames| *frames == json!(2.0)).await;
    assert_eq!(server.figure("boxoffice_live_staleness_seconds_count").await, 1.0);
    let texts = first.to_string().len() + second.to_string().len();
    assert_eq!(
        server.figure("boxoffice_live_bytes_total").await,
        (texts + 2 + 2) as f64,
        "texts and the heads of frames"
    );
    assert_eq!(server.get("/v1/stats", &server.admin).await.body["live_subscribers"], 1);
}
