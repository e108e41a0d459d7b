//! What is no request that anybody could read: it is answered as everything else is, and fills no log.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, in_full};
use crate::process::{serve_with_log, terminate};

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Raw {
    pub status: u16,
    pub head: String,
    pub body: Value,
}

impl Raw {
    pub fn header(&self, name: &str) -> &str {
        let named = |line: &str| line.split_once(": ").map(|(known, _)| known.eq_ignore_ascii_case(name));
        let line = self.head.lines().find(|line| named(line) == Some(true));
        line.and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value)
    }

    /// That it is a problem like all others, and the last thing on its connection.
    fn check(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str().unwrap_or_default()), (status, code), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("/problems/{}", code.replace('_', "-")));
        assert!(self.body["title"].is_string() && self.body["detail"].is_string(), "{self:?}");
        assert_eq!(self.body["errors"].is_array(), status == 400, "{self:?}");
        for (name, value) in [
            ("connection", "close"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(self.header(name), value, "{name}: {self:?}");
        }
        assert_eq!(self.header("x-request-id").len(), 16, "{self:?}");
        assert!(self.header("date").ends_with("GMT"), "{self:?}");
    }
}

/// All answers in `bytes`, each with a length. Anything else is a fault.
pub fn answers(bytes: &[u8]) -> Vec<Raw> {
    let (mut answers, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(rest)));
        let head = String::from_utf8(rest[..end].to_vec()).unwrap();
        let status = head.strip_prefix("HTTP/1.").unwrap()[2..5].parse().unwrap();
        let mut raw = Raw { status, head, body: Value::Null };
        let length: usize = raw.header("content-length").parse().unwrap_or(0);
        let body = &rest[end + 4..end + 4 + length];
        raw.body = serde_json::from_slice(body).unwrap_or(Value::Null);
        answers.push(raw);
        rest = &rest[end + 4 + length..];
    }
    answers
}

/// Sends `request` and reads until the server has said all that it has to say, and has hung up in good order.
pub fn talk(address: SocketAddr, request: &[u8]) -> Vec<Raw> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(request)));
    answers(&bytes)
}

/// A connection each, with the status and the code of the answer.
fn unreadable() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let get = |head: &str| format!("GET /v1/concerts HTTP/1.1\r\n{head}\r\n").into_bytes();
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let post =
        |head: &str, body: &str| format!("POST /v1/concerts HTTP/1.1\r\nHost: x\r\n{head}\r\n{body}").into_bytes();
    let bad = (400, "invalid_request");
    let large = (431, "request_header_fields_too_large");
    [
        ("no Host", get(""), bad),
        ("two Hosts", get("Host: a\r\nHost: b\r\n"), bad),
        ("both lengths", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), bad),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"), bad),
        ("a length that is none", post("Content-Length: x\r\n", "{}"), bad),
        ("a length with a sign", post("Content-Length: +2\r\n", "{}"), bad),
        ("a length past all numbers", post("Content-Length: 99999999999999999999\r\n", "{}"), bad),
        ("an unknown coding", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), bad),
        ("two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), bad),
        ("a raw <", b"GET /<script> HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), bad),
        ("a control byte in the target", b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), bad),
        ("a target that is not UTF-8", b"GET /\xFF\xFE HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), bad),
        ("a target with a space", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), bad),
        ("a target that is no URI", b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), bad),
        ("a control byte in a header", get("Host: x\r\nx: a\x01b\r\n"), bad),
        ("a NUL in a header", get("Host: x\r\nx: a\0b\r\n"), bad),
        ("a header with no name", get("Host: x\r\n: y\r\n"), bad),
        ("a header with a space in its name", get("Host: x\r\nx y: z\r\n"), bad),
        ("a folded header", get("Host: x\r\nx: y\r\n z\r\n"), bad),
        ("a method of no known bytes", b"G\xC3\x84T / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), bad),
        ("a method with a colon", b"G:T / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), bad),
        ("HTTP/0.9", b"GET /\r\n".to_vec(), bad),
        ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: x\r\n\r\n".to_vec(), bad),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), bad),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03".to_vec(), bad),
        ("HTTP/1.0 with chunks", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), bad),
        ("HTTP/1.0 without a length", b"POST / HTTP/1.0\r\n\r\n".to_vec(), bad),
        ("many headers", get(&format!("Host: x\r\n{many}")), large),
        ("a long header", get(&format!("Host: x\r\nx: {}\r\n", "y".repeat(400 << 10))), large),
        ("a long path", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(400 << 10)).into_bytes(), large),
        ("a body behind it", [post("Content-Length: x\r\n", ""), vec![b' '; 512 << 10]].concat(), bad),
    ]
    .map(|(what, bytes, (status, code))| (what, bytes, status, code))
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_answered_as_all_else() {
    let server = Server::start().await;
    let mut ids = std::collections::BTreeSet::new();
    let unreadable = unreadable();
    for (what, bytes, status, code) in &unreadable {
        let answers = tokio::task::block_in_place(|| talk(server.address, bytes));
        let [answer] = &answers[..] else { panic!("{what}: {answers:?}") };
        answer.check(*status, code);
        ids.insert(answer.header("x-request-id").to_owned());
        let page = server.get(answer.body["type"].as_str().unwrap(), "").await;
        assert_eq!(page.status, 200, "{what}");
    }
    assert_eq!(ids.len(), unreadable.len(), "an id each");
    let large = unreadable.iter().filter(|(_, _, status, _)| *status == 431).count();
    for (status, count) in [(400, unreadable.len() - large), (431, large)] {
        let name = format!("boxoffice_http_unreadable_total{{status=\"{status}\"}}");
        assert_eq!(server.figure(&name).await, count as f64, "{name}");
    }
}

/// What is odd and can be read is the application's to answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_is_answered_by_the_application() {
    let server = Server::start().await;
    for (request, status) in [
        ("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n", 404),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n", 404),
        ("GET http://x/healthz HTTP/1.1\r\nHost: y\r\n", 200),
        ("GET //healthz HTTP/1.1\r\nHost: x\r\n", 404),
        ("GET /v1/concerts/%FF HTTP/1.1\r\nHost: x\r\n", 404),
        ("GET /v1/concerts/%zz HTTP/1.1\r\nHost: x\r\n", 404),
        ("GET /problems/%FF HTTP/1.1\r\nHost: x\r\n", 404),
        ("GET /web/%FF HTTP/1.1\r\nHost: x\r\n", 404),
        ("GET /healthz HTTP/1.1\r\nHost:\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n", 200),
        ("\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n", 200),
        ("BREW /healthz HTTP/1.1\r\nHost: x\r\n", 405),
        ("POST /v1/concerts HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n", 401),
        ("GET /v1/options/o1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n", 404),
    ] {
        let sent = format!("{request}Connection: close\r\n\r\n");
        let answers = tokio::task::block_in_place(|| talk(server.address, sent.as_bytes()));
        let [answer] = &answers[..] else { panic!("{request:?}: {answers:?}") };
        assert_eq!(answer.status, status, "{request:?}: {answer:?}");
        assert_eq!(answer.header("x-request-id").len(), 16, "{request:?}: {answer:?}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{request:?}: {answer:?}");
        assert!(answer.header("date").ends_with("GMT"), "{request:?}: {answer:?}");
        let is_problem = answer.header("content-type") == "application/problem+json";
        assert_eq!(is_problem, status >= 400, "{request:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_good_requests_is_told_apart() {
    let server = Server::start().await;
    let good = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let old = "GET /healthz HTTP/1.0\r\n\r\n";
    let kept = "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let head = "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for (sent, statuses) in [
        (format!("{good}nonsense\r\n\r\n"), &[200, 400][..]),
        (format!("{good}{good}GET / HTTP/1.1\r\n\r\n{good}"), &[200, 200, 400]),
        (format!("{kept}nonsense\r\n\r\n"), &[200, 400]),
        // Nothing is said after the last answer.
        (format!("{last}nonsense\r\n\r\n"), &[200]),
        (format!("{old}nonsense\r\n\r\n"), &[200]),
    ] {
        let answers = tokio::task::block_in_place(|| talk(server.address, sent.as_bytes()));
        let found: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(found, statuses, "{sent}: {answers:?}");
        if let Some(last) = answers.iter().find(|answer| answer.status == 400) {
            last.check(400, "invalid_request");
        }
    }
    // The answer to HEAD has a length and no body, which the helper above takes for one.
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(format!("{head}nonsense\r\n\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    tokio::task::block_in_place(|| stream.read_to_end(&mut bytes)).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let [answer] = &answers(&bytes[end + 4..])[..] else { panic!("{}", String::from_utf8_lossy(&bytes)) };
    answer.check(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_bad_chunks_has_one_answer() {
    let server = Server::start().await;
    let admin = server.admin.clone();
    let head = |token: &str| {
        format!(
            "POST /v1/concerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        )
    };
    for (token, chunks, status) in [
        (&*admin, "nonsense\r\n", 400),
        (&admin, "5\r\n{    \r\nx\r\n", 400),
        (&admin, "FFFFFFFFFFFFFFFFFF\r\n", 400),
        (&admin, "2\r\n{}x\r\n", 400),
        ("x", "nonsense\r\n", 401),
        ("x", "5\r\n{    \r\nx\r\n", 401),
    ] {
        let sent = format!("{}{chunks}", head(token));
        let answers = tokio::task::block_in_place(|| talk(server.address, sent.as_bytes()));
        let [answer] = &answers[..] else { panic!("{chunks:?}: {answers:?}") };
        assert_eq!(answer.status, status, "{chunks:?}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("connection"), "close", "{answer:?}");
    }
    assert_eq!(server.get("/v1/concerts", "").await.body["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_for_too_long_is_told_so() {
    // actix counts from a clock that is up to half a second late, and never looks again at a time that has passed by then.
    let server = Server::with(|settings| settings.http.request_timeout = "2s".parse().unwrap()).await;
    for sent in ["", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let answers = tokio::task::block_in_place(|| talk(server.address, sent.as_bytes()));
        let [answer] = &answers[..] else { panic!("{sent:?}: {answers:?}") };
        answer.check(408, "request_timeout");
    }
    assert_eq!(server.figure("boxoffice_http_unreadable_total{status=\"408\"}").await, 2.0);
}

/// The server waits for who does not hang up, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_refused_and_goes_on_is_cut_off() {
    let server = Server::with(|settings| settings.http.max_connections = 1).await;
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    // It stays open on this side, and there is place for nobody else.
    let next = tokio::time::timeout(PATIENCE, server.get("/healthz", "")).await.expect("there is place for the next");
    assert_eq!(next.status, 200);
    drop(stream);
}

/// In processes of their own, of which the log can be read.
#[test]
fn an_attack_with_nonsense_fills_no_log() {
    // At `debug` nothing is left out that actix would say.
    for level in ["info", "debug"] {
        let dir = tempfile::tempdir().unwrap();
        let (path, config) = (dir.path().join("log"), dir.path().join("config.toml"));
        std::fs::write(&config, format!("[log]\nlevel = \"{level}\"\n")).unwrap();
        let log = std::fs::File::create(&path).unwrap();
        let more = ["--demo", "--config", config.to_str().unwrap()];
        let (child, lines) = serve_with_log(dir.path(), &more, Stdio::from(log));
        let after = |prefix| lines.iter().find_map(|line| line.strip_prefix(prefix)).unwrap();
        let address = after("listening on http://").parse().unwrap();
        let (_, option) = after("demo: http://").split(' ').next().unwrap().split_once('/').unwrap();
        let small: Vec<_> = unreadable().into_iter().filter(|(_, bytes, ..)| bytes.len() < 1 << 10).collect();
        for _ in 0..if in_full() { 600 } else { 3 } {
            for (what, bytes, status, _) in &small {
                assert_eq!(talk(address, bytes)[0].status, *status, "{what}");
            }
            (0..50).for_each(|_| hang_up_on_a_socket(address, option));
        }
        assert_eq!(terminate(child).0, Some(0));
        let log = std::fs::read_to_string(&path).unwrap();
        // How many files may be open is the machine's doing.
        let loud = log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
        let loud: Vec<_> = loud.filter(|line| !line.contains("this process may open")).collect();
        assert!(loud.is_empty(), "{level}: {} lines such as {:?}", loud.len(), loud.first());
        // Whoever asks for a socket has sent a request, and that has its line.
        let other = log.lines().filter(|line| !line.contains("/live")).count();
        assert!(level == "debug" || other < 50, "{other} lines");
        let told = log.lines().filter(|line| line.contains("no request could be read")).count();
        assert_eq!(told > 0, level == "debug", "{told} lines");
    }
}

/// Asks for a WebSocket, and resets the connection before there is an answer.
fn hang_up_on_a_socket(address: SocketAddr, option: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    let ask = format!(
        "GET /{option}/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).unwrap();
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    let _ = stream.shutdown(Shutdown::Read);
}
