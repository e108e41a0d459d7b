//! WebSockets: seats as they go, and the line as it moves.

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

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a WebSocket, or gives the problem.
async fn open(
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
async fn next(socket: &mut Socket) -> Value {
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
async fn closed(socket: &mut Socket) -> u16 {
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
