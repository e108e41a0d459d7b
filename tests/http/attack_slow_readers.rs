//! Those who ask for a lot and read nothing of it: they cost little memory, and nobody else's answers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::Settings;
use boxoffice::testing::plans;
use serde_json::{Value, json};

use crate::harness::{STARTS_AT, in_full};
use crate::process::{serve, terminate};

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a process of its own, of which the memory can be measured, with a stadium that is taken to the last
/// seat.
pub(crate) struct Victim {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    admin: String,
    buyer: String,
    pub(crate) option: String,
    /// A seat of each piece that the map may be made of.
    pub(crate) some: Vec<String>,
    /// All that are blocked.
    pub(crate) blocked: Vec<String>,
}

impl Victim {
    pub(crate) fn start(dir: &Path, unread_bytes: usize) -> Self {
        let config = format!(
            "[http]\nunread_bytes = {unread_bytes}\nunread_patience = \"100ms\"\n\
             [live]\nunread_bytes = {unread_bytes}\nunread_patience = \"250ms\"\n\
             [limits]\nuser_requests_per_second = 0\nuser_open_holds = 0\n[storage]\nmin_free_bytes = 0\n"
        );
        std::fs::write(dir.join("boxoffice.toml"), config).unwrap();
        let (child, lines) = serve(dir, &["--config", "boxoffice.toml"]);
        let address = lines.last().unwrap().strip_prefix("listening on http://").unwrap().parse().unwrap();
        let settings = Settings { data_dir: dir.join("data"), ..Settings::default() };
        let token = |name: &str, role| {
            auth::issue(&settings, &name.parse().unwrap(), role, Duration::from_secs(3_600)).unwrap()
        };
        let (admin, buyer) = (token("root", Some(Role::Admin)), token("anna", None));
        let mut victim =
            Self { child, address, admin, buyer, option: String::new(), some: Vec::new(), blocked: Vec::new() };
        victim.build();
        victim
    }

    fn build(&mut self) {
        let plan: Value = serde_json::from_slice(&plans::stadium()).unwrap();
        let zones = plan["zones"].as_array().unwrap().iter();
        let rows = zones.flat_map(|zone| zone["rows"].as_array().unwrap());
        let seats = rows.flat_map(|row| row["seats"].as_array().unwrap());
        let seats: Vec<_> = seats.map(|seat| seat["seat_guid"].as_str().unwrap().to_owned()).collect();
        let concert = self.post("/v1/concerts", &json!({"title": "A Concert"}))["id"].as_str().unwrap().to_owned();
        let prices = json!({"Gold": 3, "Silver": 2, "Bronze": 1});
        let option = json!({"starts_at": STARTS_AT, "seating_plan": plan, "prices": prices, "hold_seconds": 86_400,
            "max_seats_per_reservation": 100, "max_seats_per_user": 10_000});
        let option = self.post(&format!("/v1/concerts/{concert}/options"), &option);
        self.option = option["id"].as_str().unwrap().to_owned();
        let (held, blocked) = seats.split_at(10_000);
        for some in held.chunks(100) {
            self.change("reservations", some);
        }
        for some in blocked.chunks(1_000) {
            self.change("blocks", some);
        }
        self.some = blocked.iter().step_by(128).cloned().collect();
        self.blocked = blocked.to_vec();
        for _ in 0..300 {
            self.post("/v1/concerts", &json!({"title": "x".repeat(150)}));
        }
    }

    pub(crate) fn change(&self, what: &str, seats: &[String]) {
        self.post(&format!("/v1/options/{}/{what}", self.option), &json!({"seats": seats}));
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
        let mut stream = TcpStream::connect(self.address).unwrap();
        let token = if path.ends_with("reservations") { &self.buyer } else { &self.admin };
        stream.write_all(request("POST", path, token, &head).as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// One that is read to its end, after another try where the server says so; how many bytes it has.
    fn read(&self, path: &str) -> usize {
        let token = if path.contains("reservations") { &self.buyer } else { &self.admin };
        let begun = Instant::now();
        loop {
            let mut stream = TcpStream::connect(self.address).unwrap();
            stream.write_all(request("GET", path, token, "Connection: close\r\n").as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            let text = String::from_utf8_lossy(&answer);
            if text.starts_with("HTTP/1.1 200") {
                let length = text.split_once("content-length: ").unwrap().1.lines().next().unwrap();
                let body = text.split_once("\r\n\r\n").unwrap().1;
                assert_eq!(body.len(), length.parse::<usize>().unwrap(), "{path} is whole");
                return body.len();
            }
            assert!(text.starts_with("HTTP/1.1 503") && begun.elapsed() < PATIENCE, "{path}: {text}");
        }
    }

    /// A line of what the system knows of the process's memory, in bytes.
    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim_start_matches(':').trim().split(' ').next().unwrap().parse::<u64>().unwrap() << 10
    }

    /// By how much `deaf` made the process grow at the most, on top of what it had.
    pub(crate) fn growth(&self, deaf: impl FnOnce()) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
        let before = self.memory("VmRSS");
        deaf();
        self.memory("VmHWM").saturating_sub(before)
    }
}

fn request(method: &str, path: &str, token: &str, head: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{head}\r\n")
}

/// Sends as much of `requests` as the other end takes at once, and goes on later.
pub(crate) struct Deaf {
    pub(crate) stream: TcpStream,
    sent: usize,
}

impl Deaf {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, sent: 0 }
    }

    pub(crate) fn send(&mut self, requests: &[u8]) {
        while self.sent < requests.len() {
            match self.stream.write(&requests[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It was closed: that is how it may end.
                Err(_) => break,
            }
        }
    }

    /// Waits until there is something to be read, which is left where it is.
    pub(crate) fn has_begun(&self) {
        self.stream.set_nonblocking(false).unwrap();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if let Err(error) = self.stream.peek(&mut [0]) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "nothing came");
        }
    }
}

#[test]
fn who_reads_nothing_costs_little_whatever_they_ask_for() {
    let (connections, unread_bytes, allowed) =
        if in_full() { (300, 32 << 20, 64 << 20) } else { (60, 4 << 20, 20 << 20) };
    let dir = tempfile::tempdir().unwrap();
    let victim = Victim::start(dir.path(), unread_bytes);
    let option = format!("/v1/options/{}", victim.option);
    let (plan, seats) = (format!("{option}/plan"), format!("{option}/seats"));
    let anonymous = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let events = request("GET", "/v1/events?limit=500", &victim.admin, "");
    let reservations = request("GET", "/v1/reservations?limit=500", &victim.buyer, "");
    let asked = ["/v1/concerts?limit=500", &plan, &seats, "/v1/events?limit=500", "/v1/reservations?limit=500"];
    let sizes = asked.map(|path| victim.read(path));
    assert!(sizes.iter().all(|bytes| *bytes > 64 << 10), "{sizes:?}");
    let mut grown = Vec::new();
    for (what, requests) in [
        ("plan", anonymous("GET", &plan)),
        ("plan, pipelined", anonymous("GET", &plan).repeat(100)),
        ("plan, as a WebSocket", request("GET", &plan, &victim.admin, upgrade)),
        ("plan, HTTP/1.0", format!("GET {plan} HTTP/1.0\r\n\r\n")),
        ("seats", anonymous("GET", &seats)),
        ("seats, pipelined", anonymous("GET", &seats).repeat(100)),
        ("the page of the documentation", anonymous("GET", "/docs/swagger-ui-bundle.js")),
        ("the description, pipelined", anonymous("GET", "/openapi.json").repeat(1_000)),
        ("a list, pipelined", anonymous("GET", "/v1/concerts?limit=500").repeat(100)),
        ("reservations, pipelined", reservations.repeat(50)),
        ("events, pipelined", events.repeat(20)),
        ("heads", anonymous("HEAD", &plan).repeat(20_000)),
        ("nothing, very often", "GET / HTTP/1.1\r\nHost:\r\n\r\n".repeat(40_000)),
        ("nothing, after a plan", anonymous("GET", &plan) + &"GET /x HTTP/1.1\r\nHost:\r\n\r\n".repeat(40_000)),
        ("nothing, with bare line feeds", anonymous("GET", &plan) + &"GET /x HTTP/1.1\nHost:\n\n".repeat(40_000)),
        ("nothing, with both", anonymous("GET", &plan) + &"GET /x HTTP/1.1\r\nHost:\n\r\n".repeat(40_000)),
    ] {
        let growth = victim.growth(|| {
            let mut deaf: Vec<_> = (0..connections).map(|_| Deaf::connect(victim.address)).collect();
            for _ in 0..3 {
                deaf.iter_mut().for_each(|deaf| deaf.send(requests.as_bytes()));
                deaf.iter().for_each(Deaf::has_begun);
                deaf.iter().for_each(|deaf| deaf.stream.set_nonblocking(true).unwrap());
            }
            // Whoever reads gets what they ask for meanwhile.
            for (path, bytes) in asked.iter().zip(sizes).take(3) {
                assert_eq!(victim.read(path), bytes, "{what}");
            }
        });
        println!("{connections} connections, {what}: {:.1} MiB", growth as f64 / 1_048_576.0);
        grown.push((what, growth));
    }
    // Each of a moment of its own, of which nothing is left.
    let growth = victim.growth(|| {
        let mut all = Vec::new();
        for _ in 0..connections {
            victim.change("unblocks", &victim.some);
            victim.change("blocks", &victim.some);
            let mut deaf = Deaf::connect(victim.address);
            deaf.send(anonymous("GET", &seats).as_bytes());
            deaf.has_begun();
            all.push(deaf);
        }
        // The number of the last change may have grown longer.
        assert!(victim.read(&seats).abs_diff(sizes[2]) < 10);
    });
    println!("{connections} connections, seats of many moments: {:.1} MiB", growth as f64 / 1_048_576.0);
    grown.push(("seats of many moments", growth));
    // Readers of events have parts of the journal in memory, and pages of lists are made a few at a time, however many ask: see
    // "Size a machine" in OPERATIONS.
    let reader = |what: &str| match what {
        _ if what.starts_with("events") || what.starts_with("reservations") => 50 << 20,
        // These pages are as large with a few connections as with many.
        _ if what.starts_with("a list") && !in_full() => 20 << 20,
        _ => 0,
    };
    let too_much: Vec<_> = grown.iter().filter(|(what, growth)| *growth > allowed + reader(what)).collect();
    assert!(too_much.is_empty(), "more than {allowed} bytes: {too_much:?}");
    assert_eq!(terminate(victim.child).0, Some(0));
}
