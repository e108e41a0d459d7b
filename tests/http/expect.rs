//! `Expect: 100-continue`: who would be refused anyhow is, before they send their body.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, option_body};
use crate::wire::{Raw, answers};

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(30);
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

fn head(what: &str, token: &str, more: &str) -> String {
    format!(
        "{what} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\n{more}\r\n"
    )
}

/// Sends a head, and its body only if it is asked for. Tells whether it was, and what came in the end; the connection is
/// used again if the answer allows that.
fn ask(server: &Server, head: &str, body: &str) -> (bool, Raw) {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    writer.write_all(head.as_bytes()).unwrap();
    let mut read = || {
        let mut lines = String::new();
        while !lines.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut lines).unwrap() > 0, "it hung up after {lines:?}");
        }
        lines
    };
    let mut answer = read();
    let is_asked_for = answer == CONTINUE;
    if is_asked_for {
        writer.write_all(body.as_bytes()).unwrap();
        answer = read();
    }
    let bytes = answer.clone().into_bytes();
    let length =
        answer.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let raw = answers(&[bytes, body].concat()).remove(0);
    if raw.header("connection") != "close" {
        writer.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut next = Vec::new();
        reader.read_to_end(&mut next).unwrap();
        assert_eq!(answers(&next)[0].status, 200);
    } else {
        // The server says that this was all, and waits for no body.
        writer.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
    (is_asked_for, raw)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_only_if_it_would_be_read() {
    let server = Server::start().await;
    let option = server.option(4).await;
    let (admin, anna) = (server.admin.clone(), server.buyer("anna"));
    let concert = json!({"title": "x"}).to_string();
    let length = |body: &str| format!("Content-Length: {}\r\n", body.len());
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let (chunks, hold) = ("Transfer-Encoding: chunked\r\n", json!({"seats": ["S1"]}).to_string());
    let holds = format!("POST /v1/options/{option}/reservations");
    let post = "POST /v1/concerts";
    let texts = head(post, &admin, &length(&concert)).replace("application/json", "text/plain");
    for (what, head, body, asked, status) in [
        ("good", head(post, &admin, &length(&concert)), concert.clone(), true, 201),
        ("good, in chunks", head(post, &admin, chunks), chunked(&concert), true, 201),
        ("a good hold", head(&holds, &anna, &length(&hold)), hold.clone(), true, 201),
        ("wrong", head(post, &admin, &length("{}")), "{}".into(), true, 400),
        ("a conflict", head(&holds, &admin, &length(&hold)), hold.clone(), true, 409),
        ("no token", head(post, "x", &length(&concert)), concert.clone(), false, 401),
        ("no token, in chunks", head(post, "x", chunks), chunked(&concert), false, 401),
        ("a buyer", head(post, &anna, &length(&concert)), concert.clone(), false, 403),
        ("no such path", head("POST /nowhere", &admin, &length("{}")), "{}".into(), false, 404),
        ("no such id", head("POST /v1/options/x/reservations", &admin, &length("{}")), "{}".into(), false, 404),
        ("a method", head("PUT /v1/concerts", &admin, &length("{}")), "{}".into(), false, 405),
        ("too large", head(post, &admin, "Content-Length: 16385\r\n"), " ".repeat(16_385), false, 413),
        ("of another kind", texts, concert.clone(), false, 415),
        ("nobody reads it", head("GET /healthz", "x", &length("{}")), "{}".into(), false, 200),
        (
            "no body",
            head("POST /v1/concerts/c1/tokens", &anna, "").replace("Content-Type: application/json\r\n", ""),
            String::new(),
            false,
            201,
        ),
    ] {
        let (was_asked, answer) = tokio::task::block_in_place(|| ask(&server, &head, &body));
        assert_eq!((was_asked, answer.status), (asked, status), "{what}: {answer:?}");
        assert_eq!(answer.header("x-request-id").len(), 16, "{what}: {answer:?}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{what}: {answer:?}");
    }
    let concerts = server.get("/v1/concerts", "").await.body["items"].as_array().unwrap().len();
    assert_eq!(concerts, 3, "one for the option, and two by these");
}

/// The next request on the same connection may come before the answer.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_follow_each_other_are_answered_in_order() {
    let server = Server::start().await;
    let body = json!({"title": "x"}).to_string();
    let one = head("POST /v1/concerts", &server.admin, &format!("Content-Length: {}\r\n", body.len()));
    let sent = format!("{one}{body}{one}{body}GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    tokio::task::block_in_place(|| {
        stream.write_all(sent.as_bytes()).unwrap();
        stream.read_to_end(&mut bytes).unwrap();
    });
    let statuses: Vec<_> = answers(&bytes).iter().map(|answer| answer.status).filter(|status| *status != 100).collect();
    assert_eq!(statuses, [201, 201, 200]);
}

/// Whoever is asked for a body and sends none is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_asked_for_must_come_in_time() {
    let server = Server::with(|settings| settings.http.body_timeout = "300ms".parse().unwrap()).await;
    let head = head("POST /v1/concerts", &server.admin, "Content-Length: 2\r\n");
    let (was_asked, answer) = tokio::task::block_in_place(|| ask(&server, &head, ""));
    assert_eq!((was_asked, answer.status, &answer.body["code"]), (true, 408, &json!("request_timeout")));
}

/// As curl sends it: with a plan of nearly all that may be.
#[tokio::test(flavor = "multi_thread")]
async fn curl_sends_a_plan_of_32_mib() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("there is no curl here");
        return;
    }
    let server = Server::start().await;
    let concert = server.concert().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("body.json");
    let mut body = option_body(100);
    body["seating_plan"]["note"] = "x".repeat((32 << 20) - 20_000).into();
    std::fs::write(&file, body.to_string()).unwrap();
    let curl = |token: &str| {
        let output = Command::new("curl")
            .args(["-sS", "-o", "-", "-w", "%{stderr}%{http_code} %{size_upload}"])
            .args(["-H", "Expect: 100-continue", "--expect100-timeout", "60", "-H", "Content-Type: application/json"])
            .args(["-H", &format!("Authorization: Bearer {token}"), "--data-binary"])
            .arg(format!("@{}", file.display()))
            .arg(format!("http://{}/v1/concerts/{concert}/options", server.address))
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        let body: Value = serde_json::from_slice(&output.stdout).unwrap();
        (told, body)
    };
    let (told, body) = tokio::task::block_in_place(|| curl(&server.admin));
    assert!(told.starts_with("201 33"), "{told}: {body}");
    let (told, body) = tokio::task::block_in_place(|| curl("x"));
    assert_eq!((told.as_str(), &body["code"]), ("401 0", &json!("unauthenticated")), "nothing of it is sent");
}
