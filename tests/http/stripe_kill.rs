//! The program is killed while it waits for Stripe, at each of its requests: nobody is charged without a seat, and no charge is
//! given back twice. Nothing of what lets it in stands in its log.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::harness::{client, in_full, option_body};
use crate::process::{run, serve_with_log, text};
use crate::receiver::PATIENCE;
use crate::stripe_stub::{Kill, SECRET_KEY, Stub, WEBHOOK_SECRET, signature};

/// Requests of one walk: the intent, its capture, the refunds there are, the refund.
const REQUESTS: usize = 4;

struct Program<'a> {
    dir: &'a Path,
    child: Child,
    address: String,
    client: Client,
    deaths: usize,
}

fn begin(dir: &Path) -> (Child, String) {
    let log = OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let (child, lines) = serve_with_log(dir, &["--config", "cards.toml"], Stdio::from(log));
    (child, lines.last().unwrap().strip_prefix("listening on ").unwrap().to_owned())
}

impl Program<'_> {
    fn token(&self, arguments: &[&str]) -> String {
        let printed = run(self.dir, &[&["token", "--data", "data"][..], arguments].concat());
        text(&printed.stdout).trim().to_owned()
    }

    /// Asks until there is an answer that is no fault, and starts the program again if it is dead.
    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> (u16, Value) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "{method} {path}");
            let method: Method = method.parse().unwrap();
            let request = self.client.request(method, format!("{}{path}", self.address)).body(body.clone());
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let answer = async {
                let response = request.header("content-type", "application/json").send().await?;
                Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
            };
            if let Ok((status, text)) = answer.await
                && status < 500
            {
                return (status, serde_json::from_str(&text).unwrap());
            }
            if self.child.try_wait().unwrap().is_some() {
                self.deaths += 1;
                (self.child, self.address) = begin(self.dir);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn post(&mut self, path: &str, token: &str, key: &str, body: Value) -> Value {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization), ("idempotency-key", key)];
        let (status, answer) = self.ask("POST", path, &headers, body.to_string()).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Stripe tells what it has to tell, until it is heard.
    async fn becomes(&mut self, stub: &Stub, payment: &str, token: &str, wanted: &str) {
        let (begun, authorization) = (Instant::now(), format!("Bearer {token}"));
        loop {
            for event in stub.with(|account| std::mem::take(&mut account.events)) {
                let body = event.to_string();
                let signed = signature(WEBHOOK_SECRET, body.as_bytes());
                let headers = [("stripe-signature", &*signed)];
                let (status, answer) = self.ask("POST", "/v1/payment-providers/card/webhook", &headers, body).await;
                assert_eq!(status, 200, "{event} {answer}");
            }
            let path = format!("/v1/payments/{payment}");
            let (_, seen) = self.ask("GET", &path, &[("authorization", &authorization)], String::new()).await;
            if seen["status"] == wanted {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{wanted}: {seen}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn each_charge_is_given_back_once_however_often_the_program_is_killed_attack() {
    let (dir, stub) = (tempfile::tempdir().unwrap(), Stub::start());
    let settings = format!(
        "[log]\nlevel = \"trace\"\n[storage]\nmin_free_bytes = 0\n[[payments.providers]]\nname = \"card\"\nkind = \
         \"stripe\"\nsecret_key_file = \"key\"\nwebhook_secrets = [\"{WEBHOOK_SECRET}\"]\nurl = \"{}\"\n",
        stub.url()
    );
    std::fs::write(dir.path().join("cards.toml"), settings).unwrap();
    std::fs::write(dir.path().join("key"), format!("{SECRET_KEY}\n")).unwrap();
    let (child, address) = begin(dir.path());
    let mut program = Program { dir: dir.path(), child, address, client: client(), deaths: 0 };
    let admin = program.token(&["--user", "root", "--role", "admin"]);
    let concert = program.post("/v1/concerts", &admin, "concert", json!({"title": "x"})).await["id"].clone();
    let rounds = if in_full() { 7 } else { 1 };
    let walks = rounds * REQUESTS * 2;
    let mut body = option_body(walks);
    (body["payment_methods"], body["currency"]) = (json!(["card"]), json!("EUR"));
    let path = format!("/v1/concerts/{}/options", concert.as_str().unwrap());
    let option = program.post(&path, &admin, "option", body).await["id"].as_str().unwrap().to_owned();
    for walk in 0..walks {
        let buyer = program.token(&["--user", &format!("buyer{walk}")]);
        let (after, done_first) = (walk / 2 % REQUESTS, walk % 2 == 1);
        let process = program.child.id();
        stub.with(|account| account.kills = Some(Kill { process, after, done_first }));
        let path = format!("/v1/options/{option}/reservations");
        let held = program.post(&path, &buyer, "hold", json!({"seats": [format!("S{}", walk + 1)]})).await;
        let reservation = held["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/reservations/{reservation}/payments");
        let begun = program.post(&path, &buyer, "pay", json!({"method": "card"})).await;
        let payment = begun["id"].as_str().unwrap().to_owned();
        let intent = stub.intent(begun["provider_id"].as_str().unwrap());
        assert_eq!(begun["checkout"]["client_secret"], format!("{intent}_secret_of_the_buyer"));
        stub.with(|account| account.authorize(&intent));
        program.becomes(&stub, &payment, &buyer, "completed").await;
        let path = format!("/v1/payments/{payment}/refunds");
        program.post(&path, &admin, &format!("refund-{walk}"), json!({})).await;
        program.becomes(&stub, &payment, &buyer, "refunded").await;
        assert_eq!(program.deaths, walk + 1, "it was killed at request {after}");
        let of = |what: &str| stub.with(|account| account.done.iter().filter(|done| done.starts_with(what)).count());
        assert_eq!((of("open"), of("capture"), of("refund")), (walk + 1, walk + 1, walk + 1));
    }
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("request"));
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{SECRET_KEY}:"));
    for secret in [SECRET_KEY, WEBHOOK_SECRET, "_secret_of_the_buyer", &basic] {
        assert!(!log.contains(secret), "{secret}");
    }
}
