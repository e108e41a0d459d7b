//! Events out over HTTP, to a receiver that does as it is told.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use boxoffice::server::config::Settings;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::harness::{Answer, Server, client, option_body};
use crate::process;
use crate::receiver::{self, BROKEN, Delivered, FINE, PATIENCE, Receiver, Say};

fn quick(settings: &mut Settings) {
    settings.webhooks.allow_private_addresses = true;
    settings.webhooks.retry_schedule = ["10ms", "10ms"].map(|text| text.parse().unwrap()).to_vec();
    settings.webhooks.breaker_failures = 1_000;
}

/// Registers a receiver; gives its path and secret.
async fn register(server: &Server, mut body: Value, receiver: &Receiver) -> (String, String) {
    body["url"] = json!(receiver.url());
    let answer = server.post("/v1/webhooks", &server.admin, body).await;
    let path = format!("/v1/webhooks/{}", answer.created());
    assert_eq!(answer.header("location"), path);
    (path, answer.body["secret"].as_str().unwrap().to_owned())
}

/// Asks until it is so.
async fn until(server: &Server, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    receiver::until(async || server.get(path, &server.admin).await.body, is_so).await
}

fn verify(delivered: &Delivered, secret: &str) -> Result<(), standardwebhooks::WebhookError> {
    Webhook::new(secret).unwrap().verify(&delivered.body, &delivered.headers)
}

fn refused(answer: &Answer, field: &str, message: &str) {
    assert_eq!((answer.status, answer.fields()), (400, vec![field]), "{answer:?}");
    let said = answer.body["errors"][0]["message"].as_str().unwrap();
    assert!(said.contains(message), "{said}");
}

#[tokio::test]
async fn an_event_arrives_signed_and_as_it_can_be_fetched() {
    let server = Server::with(quick).await;
    server.charge("early", 1).await;
    let receiver = Receiver::start(|_| FINE).await;
    let (path, secret) = register(&server, json!({}), &receiver).await;
    server.charge("anna", 5).await;
    let delivered = receiver.wait_for(1).await.remove(0);
    let event = delivered.json();
    let events = server.get("/v1/events", &server.admin).await.body["items"].clone();
    assert_eq!(event, events[1], "from now on, by default");
    assert_eq!(delivered.header("webhook-id"), event["id"]);
    assert_eq!(delivered.header("content-type"), "application/cloudevents+json");
    assert!(delivered.header("user-agent").starts_with("boxoffice/"));
    verify(&delivered, &secret).unwrap();
    let other = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    assert!(verify(&delivered, other).is_err());

    let state = until(&server, &path, |state| state["attempts"]["delivered"] == 1 && state["lag"] == 0).await;
    for (member, value) in [
        ("id", json!("w1")),
        ("url", json!(receiver.url())),
        ("format", json!("cloudevent")),
        ("template", Value::Null),
        ("status", json!("active")),
        ("disabled_reason", Value::Null),
        ("breaker", json!("closed")),
        ("attempts", json!({"delivered": 1, "failed": 0})),
        ("parked", json!(0)),
        ("dead_letters", json!(0)),
        ("last_failure", Value::Null),
    ] {
        assert_eq!(state[member], value, "{member}");
    }
    assert!(state["last_delivered_at"].is_string() && state["cursor"].is_string() && state["created_at"].is_string());
    assert_eq!(state["event_types"].as_array().unwrap().len(), 22);
    assert!(state.get("secret").is_none());
    let list = server.get("/v1/webhooks", &server.admin).await.body;
    assert_eq!(list["items"][0]["id"], "w1");
    assert!(list["items"][0].get("secret").is_none());
    let begun = Instant::now();
    let metrics = loop {
        let metrics = server.client.get(format!("http://{}/metrics", server.ops)).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        // That the cursor has moved is in the journal too, and has to be passed.
        if metrics.lines().any(|line| line == "boxoffice_sink_lag{sink=\"w1\"} 0") {
            break metrics;
        }
        assert!(begun.elapsed() < PATIENCE, "{metrics}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    for line in [
        "boxoffice_sink_parked{sink=\"w1\"} 0",
        "boxoffice_sink_dead_letters{sink=\"w1\"} 0",
        "boxoffice_sink_breaker{sink=\"w1\"} 0",
        "boxoffice_sink_attempts_total{sink=\"w1\",outcome=\"delivered\"} 1",
        "boxoffice_sink_attempts_total{sink=\"w1\",outcome=\"failed\"} 0",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
    let stats = server.get("/v1/stats", &server.admin).await.body;
    assert_eq!((&stats["sinks"], &stats["sinks_behind"], &stats["dead_letters"]), (&json!(1), &json!(0), &json!(0)));
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_old_one() {
    let server = Server::with(quick).await;
    let receiver = Receiver::start(|_| FINE).await;
    let (path, old) = register(&server, json!({}), &receiver).await;
    // Keys mean nothing here: each answer is a new secret.
    let rotate = |_: u8| async {
        let request = server.request("POST", &format!("{path}/rotate-secret"), &server.admin);
        Answer::of(request.header("idempotency-key", "k").send().await.unwrap()).await
    };
    let rotated = rotate(1).await;
    assert_eq!((rotated.status, &rotated.body["id"]), (200, &json!("w1")), "{rotated:?}");
    assert!(rotated.body["previous_valid_until"].is_string());
    let new = rotated.body["secret"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    server.charge("anna", 5).await;
    let delivered = receiver.wait_for(1).await.remove(0);
    assert_eq!(delivered.header("webhook-signature").split(' ').count(), 2);
    verify(&delivered, &new).unwrap();
    verify(&delivered, &old).unwrap();

    let newest = rotate(2).await.body["secret"].as_str().unwrap().to_owned();
    server.charge("anna", 5).await;
    let delivered = receiver.wait_for(2).await.remove(1);
    verify(&delivered, &newest).unwrap();
    verify(&delivered, &new).unwrap();
    assert!(verify(&delivered, &old).is_err(), "two at the most");
    let answer = server.post(&format!("{path}/rotate-secret"), &server.admin, json!({"secret": "mine"})).await;
    refused(&answer, "secret", "is not known");
}

#[tokio::test]
async fn an_old_secret_is_forgotten_in_time() {
    let configure = |settings: &mut Settings| {
        quick(settings);
        settings.webhooks.secret_overlap = "0s".parse().unwrap();
    };
    let server = Server::with(configure).await;
    let receiver = Receiver::start(|_| FINE).await;
    let (path, old) = register(&server, json!({}), &receiver).await;
    let rotated = server.post(&format!("{path}/rotate-secret"), &server.admin, json!({})).await;
    server.charge("anna", 5).await;
    let delivered = receiver.wait_for(1).await.remove(0);
    verify(&delivered, rotated.body["secret"].as_str().unwrap()).unwrap();
    assert!(verify(&delivered, &old).is_err());
}

#[tokio::test]
async fn batches_hold_all_that_there_is_in_order() {
    let configure = |settings: &mut Settings| {
        quick(settings);
        settings.webhooks.batch_events = 4;
    };
    let server = Server::with(configure).await;
    for amount in 1..=10 {
        server.charge("anna", amount).await;
    }
    let receiver = Receiver::start(|_| FINE).await;
    let body = json!({"format": "batch", "start": "beginning", "event_types": ["boxoffice.wallet.charged"]});
    let (path, secret) = register(&server, body, &receiver).await;
    until(&server, &path, |state| state["lag"] == 0).await;
    let delivered = receiver.delivered();
    let mut amounts = Vec::new();
    for one in &delivered {
        assert_eq!(one.header("content-type"), "application/cloudevents-batch+json");
        verify(one, &secret).unwrap();
        let batch = one.json();
        let batch = batch.as_array().unwrap();
        assert!((1..=4).contains(&batch.len()));
        assert!(one.header("webhook-id").starts_with(batch[0]["id"].as_str().unwrap()));
        amounts.extend(batch.iter().map(|event| event["data"]["amount"].as_u64().unwrap()));
    }
    assert_eq!(amounts, (1..=10).collect::<Vec<_>>());
    assert!(delivered.len() < 10, "{}", delivered.len());
    let ids: BTreeSet<_> = delivered.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!(ids.len(), delivered.len());
}

#[tokio::test]
async fn messages_are_rendered_in_english_korean_and_as_you_like() {
    let server = Server::with(quick).await;
    let option = server.option(4).await;
    let anna = server.buyer("anna");
    let own =
        r#"{"who": {{ data.user_id }}, "what": {{ event.type }}, "title": {{ concert.title }}, "of": {{ option.id }}}"#;
    let mut receivers = Vec::new();
    for body in [
        json!({"format": "template"}),
        json!({"format": "template", "template": "ko"}),
        json!({"format": "template", "template": own, "event_types": ["boxoffice.payment.completed"]}),
    ] {
        let receiver = Receiver::start(|_| FINE).await;
        let (path, secret) = register(&server, body, &receiver).await;
        receivers.push((receiver, path, secret));
    }
    let types = server.get(&receivers[0].1, &server.admin).await.body["event_types"].clone();
    let known = ["created", "expired", "confirmed"].map(|what| format!("boxoffice.reservation.{what}"));
    assert_eq!(types, json!(known));
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S2", "S3"]).await;
    server.post(&format!("/v1/reservations/{held}/payments"), &anna, json!({})).await.created();
    for (index, [made, paid]) in [
        [
            "is held for you: Stalls, row 1, seat 2; Stalls, row 1, seat 3. The price is 200 points.",
            "paid and confirmed",
        ],
        ["좌석: Stalls 1열 2번, Stalls 1열 3번. 결제 금액: 200포인트.", "예매가 확정되었습니다"],
    ]
    .into_iter()
    .enumerate()
    {
        let (receiver, _, secret) = &receivers[index];
        for (message, text) in receiver.wait_for(2).await.iter().zip([made, paid]) {
            assert_eq!(message.header("content-type"), "application/json");
            verify(message, secret).unwrap();
            let said = message.json()["text"].as_str().unwrap().to_owned();
            assert!(said.contains(text) && said.contains(&held) && said.contains("A Concert"), "{said}");
        }
    }
    let message = receivers[2].0.wait_for(1).await.remove(0).json();
    let expected = json!({"who": "anna", "what": "boxoffice.payment.completed", "title": "A Concert", "of": option});
    assert_eq!(message, expected);
}

#[tokio::test]
async fn a_registration_is_checked() {
    let configure = |settings: &mut Settings| {
        quick(settings);
        settings.limits.sinks = 2;
    };
    let server = Server::with(configure).await;
    let url = "http://127.0.0.1:9/";
    for (body, field, message) in [
        (json!({}), "url", "is missing"),
        (json!({"url": "ftp://example.com/"}), "url", "must begin with https://"),
        (json!({"url": "https://a:b@example.com/"}), "url", "user name"),
        (json!({"url": url, "secret": "mine"}), "secret", "is not known"),
        (json!({"url": url, "event_types": []}), "event_types", "one type"),
        (json!({"url": url, "event_types": ["boxoffice.nothing"]}), "event_types[0]", "not a type of event"),
        (
            json!({"url": url, "event_types": ["boxoffice.token.used", "boxoffice.token.used"]}),
            "event_types",
            "must name each type once",
        ),
        (json!({"url": url, "format": "xml"}), "format", "unknown variant"),
        (json!({"url": url, "template": "en"}), "template", "goes with the format"),
        (json!({"url": url, "format": "template", "template": ""}), "template", "1 to 8192"),
        (json!({"url": url, "format": "template", "template": "x".repeat(8_193)}), "template", "1 to 8192"),
        (json!({"url": url, "format": "template", "template": "{\n{{ x"}), "template", "line 2"),
        (json!({"url": url, "format": "template", "template": "{\"a\": {{ data.b }}}"}), "template", "line 1"),
        (
            json!({"url": url, "format": "template", "template": "{\"a\": {{ data.amount }}}"}),
            "template",
            "for boxoffice.token.issued: line 1",
        ),
        (
            json!({"url": url, "format": "template", "template": "{\"a\": \"{{ data.id }}\"}",
                "event_types": ["boxoffice.wallet.charged"]}),
            "template",
            "for boxoffice.wallet.charged: gives no JSON",
        ),
        (
            json!({"url": url, "format": "template", "template": "ko", "event_types": ["boxoffice.token.used"]}),
            "event_types",
            "must be among those of the template",
        ),
        (json!({"url": url, "start": "yesterday"}), "start", "must be `now`"),
        (json!({"url": url, "start": "0-999999-0"}), "start", "is after the last event"),
    ] {
        refused(&server.post("/v1/webhooks", &server.admin, body).await, field, message);
    }
    let both = server.post("/v1/webhooks", &server.admin, json!({"url": "x", "start": "y"})).await;
    assert_eq!(both.fields(), ["url", "start"]);
    assert_eq!(server.get("/v1/webhooks", &server.admin).await.body["items"], json!([]));

    // Keys mean nothing here: each registration is one of its own, and has a secret of its own.
    let mut secrets = BTreeSet::new();
    for _ in 0..2 {
        let request = server.request("POST", "/v1/webhooks", &server.admin).header("idempotency-key", "k");
        let answer = Answer::of(request.json(&json!({"url": url})).send().await.unwrap()).await;
        answer.created();
        secrets.insert(answer.body["secret"].as_str().unwrap().to_owned());
    }
    assert_eq!(secrets.len(), 2);
    let full = server.post("/v1/webhooks", &server.admin, json!({"url": url})).await;
    assert_eq!((full.code(), &full.body["limit"]), ((409, "limit_exceeded"), &json!(2)));

    let page = server.get("/v1/webhooks?limit=1", &server.admin).await.body;
    assert_eq!((&page["items"][0]["id"], &page["next_cursor"]), (&json!("w2"), &json!("2")));
    let page = server.get("/v1/webhooks?limit=1&cursor=2", &server.admin).await.body;
    assert_eq!((&page["items"][0]["id"], &page["next_cursor"]), (&json!("w1"), &Value::Null));

    assert_eq!(server.ask("DELETE", "/v1/webhooks/w1", &server.admin, Value::Null).await.status, 204);
    for (method, path) in [
        ("GET", "/v1/webhooks/w1"),
        ("DELETE", "/v1/webhooks/w1"),
        ("POST", "/v1/webhooks/w1/rotate-secret"),
        ("POST", "/v1/webhooks/w1/redrive"),
        ("GET", "/v1/webhooks/w1/dead-letters"),
        ("DELETE", "/v1/webhooks/w1/dead-letters/0-1-0"),
        ("DELETE", "/v1/webhooks/w2/dead-letters/0-1-0"),
        ("DELETE", "/v1/webhooks/w2/dead-letters/x"),
        ("GET", "/v1/webhooks/w3"),
        ("GET", "/v1/webhooks/x"),
    ] {
        assert_eq!(server.ask(method, path, &server.admin, Value::Null).await.code(), (404, "not_found"), "{path}");
    }
    let again = server.post("/v1/webhooks", &server.admin, json!({"url": url})).await.created();
    assert_eq!(again, "w3", "a number is not given twice");
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused() {
    let server = Server::start().await;
    for url in [
        "http://127.0.0.1:9/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.1.2.3/",
        "http://localhost:9/",
        "https://LOCALHOST/",
    ] {
        let answer = server.post("/v1/webhooks", &server.admin, json!({ "url": url })).await;
        refused(&answer, "url", "is not a public address");
    }
    let answer = server.post("/v1/webhooks", &server.admin, json!({"url": "https://no-such-name.invalid/"})).await;
    refused(&answer, "url", "does not resolve");
}

/// Runs the program itself; gives its address.
fn serve(dir: &Path, config: &str, log: Stdio) -> (std::process::Child, String) {
    std::fs::write(dir.join("boxoffice.toml"), config).unwrap();
    let (child, lines) = process::serve_with_log(dir, &["--config", "boxoffice.toml"], log);
    (child, lines.last().unwrap().strip_prefix("listening on ").unwrap().to_owned())
}

pub async fn call(address: &str, dir: &Path, method: &str, path: &str, body: Value) -> Value {
    let token = process::run(dir, &["token", "--data", "data", "--user", "root", "--role", "admin"]);
    let request = client().request(method.parse().unwrap(), format!("{address}{path}"));
    let request = request.bearer_auth(process::text(&token.stdout).trim());
    let request = if body.is_null() { request } else { request.json(&body) };
    request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

#[tokio::test]
async fn addresses_are_looked_at_again_at_each_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let schedule = "retry_schedule = [\"10ms\"]\n";
    let receiver = Receiver::start(|_| FINE).await;
    let (child, address) =
        serve(dir.path(), &format!("[webhooks]\n{schedule}allow_private_addresses = true\n"), Stdio::null());
    let by_name = receiver.url().replace("127.0.0.1", "localhost");
    for url in [receiver.url(), by_name] {
        call(&address, dir.path(), "POST", "/v1/webhooks", json!({ "url": url })).await;
    }
    process::terminate(child);

    let (child, address) = serve(dir.path(), &format!("[webhooks]\n{schedule}"), Stdio::null());
    call(&address, dir.path(), "POST", "/v1/users/anna/wallet/charges", json!({"amount": 5})).await;
    for id in ["w1", "w2"] {
        let path = format!("/v1/webhooks/{id}");
        let ask = async || call(&address, dir.path(), "GET", &path, Value::Null).await;
        let state = receiver::until(ask, |state| state["dead_letters"] == 1).await;
        let text = state["last_failure"]["text"].as_str().unwrap();
        assert!(text.contains("is not a public address"), "{text}");
        assert_eq!(state["last_failure"]["status"], Value::Null);
    }
    assert_eq!(receiver.connections(), 0);
    process::terminate(child);
}

#[tokio::test]
async fn secrets_are_in_no_log_list_or_export() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_| FINE).await;
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let config = "[webhooks]\nallow_private_addresses = true\n[log]\nlevel = \"trace\"\n";
    let (child, address) = serve(dir.path(), config, log.into());
    let registered = call(&address, dir.path(), "POST", "/v1/webhooks", json!({"url": receiver.url()})).await;
    let rotated = call(&address, dir.path(), "POST", "/v1/webhooks/w1/rotate-secret", json!({})).await;
    call(&address, dir.path(), "POST", "/v1/users/anna/wallet/charges", json!({"amount": 5})).await;
    receiver.wait_for(1).await;
    let list = call(&address, dir.path(), "GET", "/v1/webhooks", Value::Null).await.to_string();
    process::terminate(child);
    let exported = process::text(&process::run(dir.path(), &["export", "--data", "data"]).stdout);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    for place in [&list, &exported] {
        assert!(place.contains(&receiver.url()), "{place}");
    }
    assert!(exported.contains("secret_rotated") && log.contains("/v1/webhooks"), "{exported}");
    for answer in [registered, rotated] {
        let secret = answer["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
        for place in [&list, &exported, &log] {
            assert!(!place.contains(secret), "{place}");
        }
    }
    assert!(!exported.contains("\"secret\""), "{exported}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = Server::with(quick).await;
    let receiver = Receiver::start(|_| Say::Status(307, "location: /elsewhere\r\n", "go away")).await;
    let (path, _) = register(&server, json!({}), &receiver).await;
    server.charge("anna", 5).await;
    let state = until(&server, &path, |state| state["dead_letters"] == 1).await;
    assert_eq!((&state["last_failure"]["status"], &state["last_failure"]["text"]), (&json!(307), &json!("go away")));
    // The receiver takes one path only, and would have ended at another.
    assert_eq!(receiver.delivered().len(), 3);
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_nothing_more_until_it_is_redriven() {
    let server = Server::with(quick).await;
    let receiver = Receiver::start(|_| Say::Status(410, "", "")).await;
    let (path, _) = register(&server, json!({}), &receiver).await;
    server.charge("anna", 1).await;
    let state = until(&server, &path, |state| state["status"] == "disabled").await;
    assert_eq!(state["disabled_reason"], "410 Gone");
    server.charge("anna", 2).await;
    server.charge("ben", 3).await;
    receiver.change(|_| FINE);
    let redriven = server.post(&format!("{path}/redrive"), &server.admin, json!({})).await;
    assert_eq!((redriven.status, redriven.body), (200, json!({"redriven": 0})));
    receiver.wait_for(4).await;
    let state = until(&server, &path, |state| state["lag"] == 0 && state["parked"] == 0).await;
    assert_eq!((&state["status"], &state["disabled_reason"]), (&json!("active"), &Value::Null));
    let amounts: Vec<_> = receiver.delivered().iter().map(|one| one.json()["data"]["amount"].clone()).collect();
    assert_eq!(amounts.iter().filter(|amount| **amount == 1).count(), 2);
    assert_eq!(amounts.iter().filter(|amount| **amount != 1).count(), 2);
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let server = Server::with(quick).await;
    let receiver = Receiver::start(|_| Say::Status(429, "retry-after: 1\r\n", "")).await;
    let (path, _) = register(&server, json!({}), &receiver).await;
    server.charge("anna", 5).await;
    receiver.wait_for(1).await;
    let begun = Instant::now();
    receiver.change(|_| FINE);
    let state = until(&server, &path, |state| state["attempts"]["failed"] == 1).await;
    assert_eq!(state["last_failure"]["text"], "429 Too Many Requests");
    receiver.wait_for(2).await;
    // The server's clock and this one count alike, but began within the same few milliseconds only.
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    until(&server, &path, |state| state["parked"] == 0 && state["lag"] == 0).await;
}

#[tokio::test]
async fn no_more_of_an_answer_is_read_than_is_kept() {
    let server = Server::with(quick).await;
    let receiver = Receiver::start(|_| Say::Endless(500)).await;
    let (path, _) = register(&server, json!({}), &receiver).await;
    server.charge("anna", 5).await;
    let state = until(&server, &path, |state| state["dead_letters"] == 1).await;
    assert_eq!(state["last_failure"]["status"], 500);
    assert_eq!(state["last_failure"]["text"].as_str().unwrap(), "x".repeat(512));
    receiver.wait_for_ends(3).await;
    receiver.change(|_| Say::Endless(200));
    server.charge("ben", 5).await;
    until(&server, &path, |state| state["attempts"]["delivered"] == 1).await;
    receiver.wait_for_ends(4).await;
}

#[tokio::test]
async fn dead_letters_are_listed_redriven_and_dropped() {
    let server = Server::with(quick).await;
    let receiver = Receiver::start(|one| if one.json()["subject"] == "ben" { FINE } else { BROKEN }).await;
    let (path, _) = register(&server, json!({}), &receiver).await;
    for (user, amount) in [("anna", 1), ("anna", 2), ("carl", 3), ("carl", 4), ("ben", 5)] {
        server.charge(user, amount).await;
    }
    let is_done = |state: &Value| state["dead_letters"] == 2 && state["parked"] == 4 && state["lag"] == 0;
    let state = until(&server, &path, is_done).await;
    assert_eq!(state["attempts"], json!({"delivered": 1, "failed": 6}), "{state}");
    assert_eq!(server.get("/v1/stats", &server.admin).await.body["dead_letters"], 2);

    let letters = format!("{path}/dead-letters");
    let page = server.get(&format!("{letters}?limit=1"), &server.admin).await.body;
    let carls = &page["items"][0];
    for (member, value) in
        [("event_type", json!("boxoffice.wallet.charged")), ("subject", json!("carl")), ("attempts", json!(3))]
    {
        assert_eq!(carls[member], value, "{member}");
    }
    assert_eq!((&carls["last_response"]["status"], &carls["last_response"]["text"]), (&json!(500), &json!("broken")));
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = server.get(&format!("{letters}?limit=1&cursor={cursor}"), &server.admin).await.body;
    let annas = &page["items"][0];
    assert_eq!((&annas["subject"], &page["next_cursor"]), (&json!("anna"), &Value::Null));
    refused(&server.get(&format!("{letters}?cursor=1"), &server.admin).await, "cursor", "is not a cursor");

    receiver.change(|_| FINE);
    let carls = carls["event_id"].as_str().unwrap();
    let dropped = server.ask("DELETE", &format!("{letters}/{carls}"), &server.admin, Value::Null).await;
    assert_eq!(dropped.status, 204);
    until(&server, &path, |state| state["parked"] == 2).await;
    let again = server.ask("DELETE", &format!("{letters}/{carls}"), &server.admin, Value::Null).await;
    assert_eq!(again.code(), (404, "not_found"));

    let one = json!({"event_id": annas["event_id"]});
    for expected in [1, 0] {
        let answer = server.post(&format!("{path}/redrive"), &server.admin, one.clone()).await;
        assert_eq!((answer.status, answer.body), (200, json!({"redriven": expected})));
    }
    let state = until(&server, &path, |state| state["parked"] == 0).await;
    assert_eq!((&state["dead_letters"], &state["attempts"]["delivered"]), (&json!(0), &json!(4)));
    let after: Vec<_> = receiver.delivered()[7..].iter().map(|one| one.json()["data"]["amount"].clone()).collect();
    assert_eq!(after, [4, 1, 2], "what waited behind a letter that was dropped, and what was redriven, in order");

    receiver.change(|_| BROKEN);
    server.charge("anna", 6).await;
    server.charge("ben", 7).await;
    until(&server, &path, |state| state["dead_letters"] == 2).await;
    receiver.change(|_| FINE);
    let all = server.ask("POST", &format!("{path}/redrive"), &server.admin, Value::Null).await;
    assert_eq!(all.body, json!({"redriven": 2}));
    until(&server, &path, |state| state["parked"] == 0).await;

    // Asked for once, it is done once, also when there are dead letters again.
    let with_key = |body: Value| {
        let request = server.request("POST", &format!("{path}/redrive"), &server.admin);
        async move { Answer::of(request.header("idempotency-key", "k").json(&body).send().await.unwrap()).await }
    };
    for replayed in ["", "true"] {
        receiver.change(|_| BROKEN);
        server.charge("anna", 8).await;
        until(&server, &path, |state| state["dead_letters"] == 1).await;
        receiver.change(|_| FINE);
        let answer = with_key(json!({})).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"redriven": 1})));
        assert_eq!(answer.header("idempotent-replayed"), replayed);
        let other = with_key(json!({"event_id": annas["event_id"]})).await;
        assert_eq!(other.code(), (422, "idempotency_key_reused"));
        if replayed.is_empty() {
            until(&server, &path, |state| state["parked"] == 0).await;
        }
    }
    assert_eq!(server.get(&path, &server.admin).await.body["dead_letters"], 1);
    let wrong = server.post(&format!("{path}/redrive"), &server.admin, json!({"event_id": "first"})).await;
    assert_eq!((wrong.status, wrong.fields()), (400, vec!["event_id"]));
}

#[tokio::test]
async fn a_receiver_that_is_down_is_left_alone_for_a_while() {
    let configure = |settings: &mut Settings| {
        quick(settings);
        settings.webhooks.breaker_failures = 2;
        settings.webhooks.breaker_pause = "1h".parse().unwrap();
    };
    let server = Server::with(configure).await;
    let receiver = Receiver::start(|_| BROKEN).await;
    let (path, _) = register(&server, json!({}), &receiver).await;
    server.charge("anna", 5).await;
    let state = until(&server, &path, |state| state["breaker"] == "open").await;
    assert_eq!(
        (&state["attempts"]["failed"], &state["parked"], &state["dead_letters"]),
        (&json!(2), &json!(1), &json!(0))
    );
}

#[tokio::test]
async fn a_sale_goes_on_while_a_receiver_is_gone() {
    let server = Server::with(quick).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let id = server.post("/v1/webhooks", &server.admin, json!({ "url": url })).await.created();
    let path = format!("/v1/concerts/{}/options", server.concert().await);
    let option = server.post(&path, &server.admin, option_body(3)).await.created();
    let anna = server.buyer("anna");
    server.charge("anna", 1_000).await;
    for seat in ["S1", "S2", "S3"] {
        let held = server.hold(&option, &anna, &[seat]).await;
        server.post(&format!("/v1/reservations/{held}/payments"), &anna, json!({})).await.created();
    }
    let state = until(&server, &format!("/v1/webhooks/{id}"), |state| state["dead_letters"] == 4).await;
    let text = state["last_failure"]["text"].as_str().unwrap();
    assert!(text.contains("refused") && !text.contains("http://"), "{text}");
}
