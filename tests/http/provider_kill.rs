//! The program is killed while it waits for a provider, at each of its requests: nobody is charged without a seat, no charge is
//! taken or given back twice, and what was given up is never taken. Nothing of what lets it in stands in its log.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::harness::{client, in_full, option_body};
use crate::process::{run, serve_with_log, text};
use crate::receiver::PATIENCE;
use crate::{stripe_stub, toss_stub};

/// A process to be killed while it waits for an answer.
pub struct Kill {
    pub process: u32,
    /// So many requests are answered before.
    pub after: usize,
    /// Whether what was asked for is done first.
    pub done_first: bool,
}

impl Kill {
    pub fn strike(&self) {
        let process = rustix::process::Pid::from_raw(self.process.cast_signed()).unwrap();
        // It may have ended by itself.
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
}

/// The other side, and whoever pays there.
trait Side {
    /// What the program is configured with, but for the name and the key.
    const SETTINGS: &'static str;
    const KEY: &'static str;
    const CURRENCY: &'static str;
    /// Requests of a payment that is paid and given back, and of one that is given up.
    const REQUESTS: (usize, usize);
    /// What must not stand in the log, beside the key.
    const SECRETS: &'static [&'static str];
    fn url(&self) -> String;
    fn kill(&self, kill: Kill);
    /// What is to be told: bodies, and their signatures.
    fn told(&self) -> Vec<(String, Option<String>)>;
    /// The buyer pays what has begun; with what it comes back, if it does.
    fn pay(&self, begun: &Value) -> Option<String>;
    /// What was done there: money taken, and given back.
    fn done(&self) -> (usize, usize);
}

fn count(done: &[String], what: &str) -> usize {
    done.iter().filter(|done| done.starts_with(what)).count()
}

impl Side for stripe_stub::Stub {
    const SETTINGS: &'static str = "kind = \"stripe\"\nwebhook_secrets = [\"whsec_of_the_stub\"]";
    const KEY: &'static str = stripe_stub::SECRET_KEY;
    const CURRENCY: &'static str = "EUR";
    // The intent, its capture, the refunds there are, the refund; the intent, its end.
    const REQUESTS: (usize, usize) = (4, 2);
    const SECRETS: &'static [&'static str] = &[stripe_stub::WEBHOOK_SECRET, "_secret_of_the_buyer"];

    fn url(&self) -> String {
        self.url()
    }

    fn kill(&self, kill: Kill) {
        self.with(|account| account.kills = Some(kill));
    }

    fn told(&self) -> Vec<(String, Option<String>)> {
        let signed = |event: Value| {
            let body = event.to_string();
            let signature = stripe_stub::signature(stripe_stub::WEBHOOK_SECRET, body.as_bytes());
            (body, Some(signature))
        };
        self.with(|account| std::mem::take(&mut account.events)).into_iter().map(signed).collect()
    }

    fn pay(&self, begun: &Value) -> Option<String> {
        let intent = self.intent(begun["provider_id"].as_str().unwrap());
        assert_eq!(begun["checkout"]["client_secret"], format!("{intent}_secret_of_the_buyer"));
        self.with(|account| account.authorize(&intent));
        None
    }

    fn done(&self) -> (usize, usize) {
        self.with(|account| (count(&account.done, "capture"), count(&account.done, "refund")))
    }
}

impl Side for toss_stub::Stub {
    const SETTINGS: &'static str = "kind = \"toss\"";
    const KEY: &'static str = toss_stub::SECRET_KEY;
    const CURRENCY: &'static str = "KRW";
    // The charge, its confirmation, the charge again, its cancellation; the order.
    const REQUESTS: (usize, usize) = (4, 1);
    const SECRETS: &'static [&'static str] = &[];

    fn url(&self) -> String {
        self.url()
    }

    fn kill(&self, kill: Kill) {
        self.with(|shop| shop.kills = Some(kill));
    }

    fn told(&self) -> Vec<(String, Option<String>)> {
        let events = self.with(|shop| std::mem::take(&mut shop.events));
        events.into_iter().map(|event| (event.to_string(), None)).collect()
    }

    fn pay(&self, begun: &Value) -> Option<String> {
        Some(self.with(|shop| shop.authenticate(begun["provider_id"].as_str().unwrap(), 100)))
    }

    fn done(&self) -> (usize, usize) {
        self.with(|shop| (count(&shop.done, "confirm"), count(&shop.done, "cancel")))
    }
}

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
        let mut headers = vec![("authorization", &*authorization)];
        headers.extend((!key.is_empty()).then_some(("idempotency-key", key)));
        let (status, answer) = self.ask("POST", path, &headers, body.to_string()).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// The provider tells what it has to tell, until it is heard.
    async fn becomes(&mut self, side: &impl Side, payment: &str, token: &str, wanted: &str) {
        let (begun, authorization) = (Instant::now(), format!("Bearer {token}"));
        loop {
            for (body, signature) in side.told() {
                let headers: Vec<_> = signature.iter().map(|signature| ("stripe-signature", &**signature)).collect();
                let said = body.clone();
                let (status, answer) = self.ask("POST", "/v1/payment-providers/card/webhook", &headers, body).await;
                assert_eq!(status, 200, "{said} {answer}");
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

async fn walk<S: Side>(side: S) {
    let dir = tempfile::tempdir().unwrap();
    let settings = format!(
        "[log]\nlevel = \"trace\"\n[storage]\nmin_free_bytes = 0\n[[payments.providers]]\nname = \"card\"\n{}\n\
         secret_key_file = \"key\"\nurl = \"{}\"\n",
        S::SETTINGS,
        side.url()
    );
    std::fs::write(dir.path().join("cards.toml"), settings).unwrap();
    std::fs::write(dir.path().join("key"), format!("{}\n", S::KEY)).unwrap();
    let (child, address) = begin(dir.path());
    let mut program = Program { dir: dir.path(), child, address, client: client(), deaths: 0 };
    let admin = program.token(&["--user", "root", "--role", "admin"]);
    let concert = program.post("/v1/concerts", &admin, "concert", json!({"title": "x"})).await["id"].clone();
    let rounds = if in_full() { 50 } else { 1 };
    let (paid, given_up) = S::REQUESTS;
    let of_round = 2 * (paid + given_up);
    let mut body = option_body(rounds * of_round);
    (body["payment_methods"], body["currency"]) = (json!(["card"]), json!(S::CURRENCY));
    let path = format!("/v1/concerts/{}/options", concert.as_str().unwrap());
    let option = program.post(&path, &admin, "option", body).await["id"].as_str().unwrap().to_owned();
    let (mut taken, since) = (0, Instant::now());
    for walk in 0..rounds * of_round {
        let buyer = program.token(&["--user", &format!("buyer{walk}")]);
        let (of, done_first) = (walk % of_round / 2, walk % 2 == 1);
        let (is_paid, after) = if of < paid { (true, of) } else { (false, of - paid) };
        side.kill(Kill { process: program.child.id(), after, done_first });
        let path = format!("/v1/options/{option}/reservations");
        let held = program.post(&path, &buyer, "hold", json!({"seats": [format!("S{}", walk + 1)]})).await;
        let path = format!("/v1/reservations/{}/payments", held["id"].as_str().unwrap());
        let begun = program.post(&path, &buyer, "pay", json!({"method": "card"})).await;
        let payment = begun["id"].as_str().unwrap().to_owned();
        if is_paid {
            if let Some(key) = side.pay(&begun) {
                let path = format!("/v1/payments/{payment}/confirmation");
                program.post(&path, &buyer, "", json!({"reference": key, "amount": 100})).await;
            }
            program.becomes(&side, &payment, &buyer, "completed").await;
            let path = format!("/v1/payments/{payment}/refunds");
            program.post(&path, &admin, &format!("refund-{walk}"), json!({})).await;
            program.becomes(&side, &payment, &buyer, "refunded").await;
            taken += 1;
        } else {
            let authorization = format!("Bearer {buyer}");
            let path = format!("/v1/payments/{payment}");
            let answer = program.ask("DELETE", &path, &[("authorization", &authorization)], String::new()).await;
            assert_eq!(answer.0, 200, "{answer:?}");
            program.becomes(&side, &payment, &buyer, "voided").await;
        }
        assert_eq!(program.deaths, walk + 1, "it was killed at request {after}");
        assert_eq!(side.done(), (taken, taken));
    }
    println!("{} kills, {taken} charges taken and given back once, {:?}", program.deaths, since.elapsed());
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("request"));
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:", S::KEY));
    for secret in [&[S::KEY, &*basic][..], S::SECRETS].concat() {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn stripe_gives_each_charge_back_once_however_often_the_program_is_killed_attack() {
    walk(stripe_stub::Stub::start()).await;
}

#[tokio::test]
async fn toss_gives_each_charge_back_once_however_often_the_program_is_killed_attack() {
    walk(toss_stub::Stub::start()).await;
}
