//! Callers who take every file that the server may open.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::Settings;
use boxoffice::server::descriptors;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::harness::{in_full, option_body};
use crate::process::{serve_with_files, terminate};

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who calls, over one connection: a client that opens another would wait for a place with all the rest.
struct Caller {
    stream: Mutex<BufStream<TcpStream>>,
    token: String,
}

impl Caller {
    async fn connect(address: SocketAddr, token: String) -> Self {
        Self { stream: Mutex::new(BufStream::new(TcpStream::connect(address).await.unwrap())), token }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        tokio::time::timeout(PATIENCE, self.talk(method, path, body)).await.expect(path)
    }

    async fn talk(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let mut stream = self.stream.lock().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "{path}: {head}");
            head += &line;
        }
        let length = head.split_once("content-length: ").unwrap().1.lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 2"), "{path}: {head}{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    async fn buy(&self, option: &str) {
        let hold = json!({"best_available": {"count": 1}});
        let held = self.ask("POST", &format!("/v1/options/{option}/reservations"), hold).await;
        let path = format!("/v1/reservations/{}/payments", held["id"].as_str().unwrap());
        self.ask("POST", &path, json!({})).await;
    }

    /// Waits for a checkpoint of all that there is.
    async fn checkpoint(&self) -> u64 {
        let begun = Instant::now();
        loop {
            let stats = self.ask("GET", "/v1/stats", Value::Null).await;
            if stats["checkpointed_lsn"] == stats["durable_lsn"] {
                return stats["checkpointed_lsn"].as_u64().unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "{stats}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_goes_on_buying_while_others_take_every_connection() {
    // Its own connections are files, too.
    descriptors::raise_limit();
    let dir = tempfile::tempdir().unwrap();
    let (files, idle) = if in_full() { (1_024, 1_050) } else { (200, 250) };
    // What is counted on for receivers would leave nothing of so few.
    let few = if in_full() { "" } else { "[limits]\nsinks = 1\n" };
    let http = if in_full() { "" } else { "[http]\nspare_descriptors = 0\nkept_polls = 0\n" };
    let rest = "[checkpoint]\nreplay_target = \"0s\"\n[storage]\nmin_free_bytes = 0\n";
    std::fs::write(dir.path().join("few.toml"), format!("{few}{http}{rest}")).unwrap();
    let log = dir.path().join("log");
    let to_log = Stdio::from(File::create(&log).unwrap());
    let (child, lines) = serve_with_files(dir.path(), &["--config", "few.toml"], files, to_log);
    let url = lines.last().unwrap().strip_prefix("listening on http://").unwrap();
    let address: SocketAddr = url.parse().unwrap();
    let settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
    let caller = |name: &str, role| {
        let token = auth::issue(&settings, &name.parse().unwrap(), role, Duration::from_secs(3_600)).unwrap();
        Caller::connect(address, token)
    };
    let (admin, buyer) = (caller("root", Some(Role::Admin)).await, caller("anna", None).await);
    let concert = admin.ask("POST", "/v1/concerts", json!({"title": "A Concert"})).await;
    let path = format!("/v1/concerts/{}/options", concert["id"].as_str().unwrap());
    let option = admin.ask("POST", &path, option_body(50)).await["id"].as_str().unwrap().to_owned();
    admin.ask("POST", "/v1/users/anna/wallet/charges", json!({"amount": 10_000})).await;
    buyer.buy(&option).await;

    let ready = admin.ask("GET", "/readyz", Value::Null).await;
    let warnings = ready["warnings"].to_string();
    assert!(ready["ready"] == true && warnings.contains(&format!("may open {files} files")), "{ready}");
    assert!(warnings.contains("http.max_connections is"), "{ready}");

    // More than it may have open; those that it does not take wait in the system's queue, or for a place in that.
    let connecting = (0..idle).map(|_| tokio::spawn(TcpStream::connect(address)));
    let connecting: Vec<_> = connecting.collect();
    let mut last = admin.checkpoint().await;
    // With the first and the last, as many as one may buy.
    for _ in 0..6 {
        buyer.buy(&option).await;
        let checkpoint = admin.checkpoint().await;
        assert!(checkpoint > last, "{checkpoint} after {last}");
        last = checkpoint;
    }
    let stats = admin.ask("GET", "/v1/stats", Value::Null).await;
    assert_eq!(stats["put_off"], 0, "nothing was lacking: {stats}");
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count();
    assert!(open < files as usize, "{open} files are open");

    // There is a place for others as soon as these are gone.
    for connection in connecting {
        connection.abort();
        drop(connection.await);
    }
    caller("anna", None).await.buy(&option).await;
    assert_eq!(terminate(child).0, Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("files only").count(), 1, "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}
