//! Those who mean ill: slow, huge, deep, packed, endless. Each is refused or ignored, and everybody else is served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Answer, Server, option_body};
use crate::live::{block, closed, next, open, seat};
use crate::process::{serve, terminate};

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends `request` and then, for as long as somebody listens, `drop` after `drop`. Gives the answer.
fn drip(server: &Server, request: &str, drop: &str, pause: Duration) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut dripping = stream.try_clone().unwrap();
    let mut answer = Vec::new();
    std::thread::scope(|threads| {
        let reader = threads.spawn(|| stream.read_to_end(&mut answer));
        // The server may hang up between two drops.
        while !reader.is_finished() && dripping.write_all(drop.as_bytes()).is_ok() {
            std::thread::sleep(pause);
        }
        // A connection that is reset has said what it had to say.
        let _ = reader.join().unwrap();
    });
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_drop_by_drop_is_cut_off() {
    let server = Server::with(|settings| {
        settings.http.body_timeout = "300ms".parse().unwrap();
        settings.http.request_timeout = "1s".parse().unwrap();
    })
    .await;
    let head = "POST /v1/concerts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let admin = format!("Authorization: Bearer {}\r\n", server.admin);
    for (request, drop) in [
        ("GET /v1/concerts".to_owned(), "/"),
        ("GET /v1/concerts HTTP/1.1\r\nHost: x\r\n".to_owned(), "a: b\r\n"),
        (format!("{head}{admin}Content-Length: 10000\r\n\r\n{{"), " "),
        (format!("{head}{admin}Transfer-Encoding: chunked\r\n\r\n"), "1\r\n \r\n"),
    ] {
        let answer = tokio::task::block_in_place(|| drip(&server, &request, drop, Duration::from_millis(50)));
        assert!(answer.starts_with("HTTP/1.1 408"), "{request}: {answer}");
    }
    assert_eq!(server.get("/v1/concerts", "").await.body["items"], json!([]));
}

#[tokio::test]
async fn whoever_takes_no_answer_is_cut_off() {
    let server = Server::with(|settings| {
        settings.http.max_connections = 1;
        settings.http.write_timeout = "1s".parse().unwrap();
    })
    .await;
    let mut deaf = tokio::net::TcpStream::connect(server.address).await.unwrap();
    // The answers are far more than the system keeps for somebody.
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    deaf.write_all(requests.as_bytes()).await.unwrap();
    let next = server.get("/healthz", "");
    let next = tokio::time::timeout(PATIENCE, next).await.expect("there is place for the next");
    assert_eq!(next.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_head_is_refused() {
    let server = Server::start().await;
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    for (what, request) in [
        ("many headers", format!("GET /v1/concerts HTTP/1.1\r\nHost: x\r\n{many}\r\n")),
        ("a long header", format!("GET /v1/concerts HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "y".repeat(200 << 10))),
        ("a long path", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(200 << 10))),
        ("an endless head", format!("GET / HTTP/1.1\r\nHost: x\r\nx: {}", "y".repeat(200 << 10))),
    ] {
        let answer = tokio::task::block_in_place(|| drip(&server, &request, "", Duration::from_millis(5)));
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "413", "414", "431"].contains(&status), "{what}: {answer}");
    }
    let token = format!("Bearer {}", "x".repeat(100 << 10));
    let answer = server.request("GET", "/v1/wallet", "").header("authorization", token).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(server.get("/v1/concerts", "").await.status, 200);
}

#[tokio::test]
async fn deep_json_is_refused() {
    let server = Server::start().await;
    let option = server.option(2).await;
    let before = server.last_lsn().await;
    let send = async |path: &str, body: String| {
        let request = server.request("POST", path, &server.admin).header("content-type", "application/json");
        Answer::of(request.body(body).send().await.unwrap()).await
    };
    let arrays = |n: usize| "[".repeat(n);
    let objects = |n: usize| r#"{"a":"#.repeat(n);
    for body in [arrays(16_000), objects(3_000), format!(r#"{{"title":{}"#, arrays(16_000))] {
        assert_eq!(send("/v1/concerts", body).await.code(), (400, "invalid_request"));
    }
    let path = format!("/v1/options/{option}/reservations");
    let closed = format!(r#"{{"seats":{}{}}}"#, arrays(7_000), "]".repeat(7_000));
    assert_eq!(send(&path, closed).await.code(), (400, "invalid_request"));
    // What a plan has that nobody knows is passed over, and that may be a lot.
    let body = option_body(2).to_string();
    for (open, close) in
        [(arrays(1 << 20), "]".repeat(1 << 20)), (objects(1 << 18), format!("1{}", "}".repeat(1 << 18)))]
    {
        let deep = body.replacen(r#""seating_plan":{"#, &format!(r#""seating_plan":{{"x":{open}{close},"#), 1);
        assert!(deep.len() > body.len());
        assert_eq!(send("/v1/concerts/c1/options", deep).await.code(), (400, "invalid_request"));
    }
    assert_eq!(server.last_lsn().await, before);
}

#[tokio::test]
async fn what_is_packed_stays_so() {
    let server = Server::start().await;
    for encoding in ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"] {
        let request = server.request("POST", "/v1/concerts", &server.admin).header("content-encoding", encoding);
        let answer = Answer::of(request.json(&json!({"title": "x"})).send().await.unwrap()).await;
        assert_eq!(answer.code(), (415, "unsupported_media_type"), "{encoding}");
    }
}

/// A frame of a client, masked with zeros.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut frame = if length < 126 { vec![head, 0x80 | length as u8] } else { vec![head, 0xFE] };
    if length >= 126 {
        frame.extend(length.to_be_bytes());
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn a_socket_that_is_misused_is_closed() {
    let server = Server::start().await;
    let option = server.option(1).await;
    let path = format!("/v1/options/{option}/live");
    for (what, bytes, code) in [
        // It is not waited for to the end.
        ("an endless frame", [&[0x82, 0xFF][..], &[0x7F; 8], &[0; 4_200]].concat(), CloseCode::Size),
        ("a frame of an impossible length", [&[0x82, 0xFF][..], &[0xFF; 8], &[0; 4]].concat(), CloseCode::Size),
        ("a part that is too large", frame(0x00, &[0; 4_097]), CloseCode::Size),
        ("a frame that is not masked", vec![0x81, 0x01, b'x'], CloseCode::Protocol),
        ("a frame of no known kind", frame(0x83, b"x"), CloseCode::Protocol),
    ] {
        let (mut socket, _) = open(&server, &path, &[]).await.unwrap();
        next(&mut socket).await;
        socket.get_mut().write_all(&bytes).await.unwrap();
        assert_eq!(closed(&mut socket).await, u16::from(code), "{what}");
    }
}

/// In a process of its own, of which the memory can be measured.
#[tokio::test]
async fn a_message_in_parts_without_an_end_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (child, lines) = serve(dir.path(), &["--demo"]);
    let option = lines.iter().find_map(|line| line.strip_prefix("demo: http://")?.split(' ').next()).unwrap();
    let (mut socket, _) = connect_async(format!("ws://{option}/live")).await.unwrap();
    next(&mut socket).await;
    let resident = || {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", child.id())).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    };
    let before = resident();
    socket.get_mut().write_all(&frame(0x01, &[b'x'; 4_096])).await.unwrap();
    let part = frame(0x00, &[b'x'; 4_096]);
    for _ in 0..32_768 {
        socket.get_mut().write_all(&part).await.unwrap();
    }
    socket.send(Message::Ping("have you read it?".into())).await.unwrap();
    let pong = loop {
        let message = socket.next().await.unwrap().unwrap();
        if message.is_pong() {
            break message;
        }
    };
    assert_eq!(pong, Message::Pong("have you read it?".into()));
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes of 128 MiB");
    assert_eq!(terminate(child).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_over_one_socket_holds_up_no_other() {
    let server = Server::start().await;
    let option = server.option(8).await;
    let path = format!("/v1/options/{option}/live");
    let mut floods = Vec::new();
    for head in [0x89, 0x81] {
        let (mut socket, _) = open(&server, &path, &[]).await.unwrap();
        let flood = frame(head, b"").repeat(10_000);
        floods.push(tokio::spawn(async move { while socket.get_mut().write_all(&flood).await.is_ok() {} }));
    }
    let (mut watcher, _) = open(&server, &path, &[]).await.unwrap();
    next(&mut watcher).await;
    for n in 1..=8 {
        block(&server, &option, &[seat(n)]).await;
        assert_eq!(next(&mut watcher).await["seats"], json!({seat(n): "blocked"}));
    }
    for flood in floods {
        assert!(!flood.is_finished(), "it was under way all the time");
        flood.abort();
    }
}
