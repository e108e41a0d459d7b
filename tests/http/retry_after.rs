//! What a receiver may ask for by `Retry-After`, and what an operator can do about it.

use boxoffice::server::config::Settings;
use serde_json::{Value, json};

use crate::harness::Server;
use crate::receiver::{FINE, Receiver, Say, until};

fn patient(settings: &mut Settings) {
    settings.webhooks.allow_private_addresses = true;
    settings.webhooks.retry_schedule = ["1h"; 3].map(|text| text.parse().unwrap()).to_vec();
    settings.webhooks.breaker_failures = 1_000;
}

async fn registered(server: &Server, receiver: &Receiver) -> String {
    let answer = server.post("/v1/webhooks", &server.admin, json!({"url": receiver.url()})).await;
    assert_eq!((&answer.body["paused_until"], &answer.body["pause_reason"]), (&Value::Null, &Value::Null));
    format!("/v1/webhooks/{}", answer.created())
}

/// From `from` to `to`, both as the API writes them, in seconds.
fn seconds(from: &Value, to: &Value) -> i64 {
    let read = |time: &Value| time.as_str().unwrap().parse::<boxoffice::Timestamp>().unwrap().as_millis() as i64;
    (read(to) - read(from)) / 1_000
}

#[tokio::test]
async fn one_answer_silences_a_webhook_for_so_long_and_no_longer() {
    for (asked, least, most) in [
        ("retry-after: 86400\r\n", 300, 300),
        ("retry-after: 99999999999999999999999999\r\n", 300, 300),
        ("retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n", 300, 300),
        ("retry-after: 200\r\n", 200, 200),
    ] {
        let server = Server::with(|settings| {
            patient(settings);
            settings.webhooks.retry_after_max = "5m".parse().unwrap();
        })
        .await;
        let receiver = Receiver::start(move |_| Say::Status(503, asked, "busy")).await;
        let path = registered(&server, &receiver).await;
        server.charge("anna", 5).await;
        let ask = async || server.get(&path, &server.admin).await.body;
        let state = until(ask, |state| state["attempts"]["failed"] == 1 && state["breaker"] == "open").await;
        assert_eq!(state["pause_reason"], "retry_after", "{state}");
        let pause = seconds(&state["last_failure"]["at"], &state["paused_until"]);
        assert!((least..=most).contains(&pause), "{asked}: {pause} s");
        let listed = server.get("/v1/webhooks", &server.admin).await.body["items"][0].clone();
        assert_eq!(listed["paused_until"], state["paused_until"]);
    }
}

#[tokio::test]
async fn a_redrive_begins_at_once() {
    let server = Server::with(patient).await;
    let receiver = Receiver::start(|_| Say::Status(503, "retry-after: 600\r\n", "busy")).await;
    let path = registered(&server, &receiver).await;
    server.charge("anna", 5).await;
    let ask = async || server.get(&path, &server.admin).await.body;
    until(ask, |state| state["breaker"] == "open").await;
    server.charge("ben", 6).await;
    receiver.change(|_| FINE);
    let redriven = server.post(&format!("{path}/redrive"), &server.admin, json!({})).await;
    assert_eq!((redriven.status, redriven.body), (200, json!({"redriven": 0})));
    // Neither the pause nor the hour of the schedule is waited for.
    receiver.wait_for(3).await;
    let state = until(ask, |state| state["parked"] == 0 && state["lag"] == 0).await;
    for (member, value) in [("breaker", json!("closed")), ("paused_until", Value::Null), ("pause_reason", Value::Null)]
    {
        assert_eq!(state[member], value, "{member}");
    }
}

#[tokio::test]
async fn a_redrive_ends_the_pause_of_the_breaker_too() {
    let server = Server::with(|settings| {
        patient(settings);
        settings.webhooks.breaker_failures = 1;
        settings.webhooks.breaker_pause = "1h".parse().unwrap();
    })
    .await;
    let receiver = Receiver::start(|_| Say::Status(500, "", "broken")).await;
    let path = registered(&server, &receiver).await;
    server.charge("anna", 5).await;
    let ask = async || server.get(&path, &server.admin).await.body;
    let state = until(ask, |state| state["breaker"] == "open").await;
    assert_eq!(state["pause_reason"], "failures");
    assert_eq!(seconds(&state["last_failure"]["at"], &state["paused_until"]), 3_600);
    receiver.change(|_| FINE);
    // What was asked and answered before is not done again.
    let redrive = || server.request("POST", &format!("{path}/redrive"), &server.admin).header("idempotency-key", "k");
    assert_eq!(redrive().json(&json!({})).send().await.unwrap().status(), 200);
    receiver.wait_for(2).await;
    until(ask, |state| state["parked"] == 0 && state["lag"] == 0).await;
    receiver.change(|_| Say::Status(500, "", "broken"));
    server.charge("anna", 6).await;
    let state = until(ask, |state| state["breaker"] == "open").await;
    let replayed = redrive().json(&json!({})).send().await.unwrap();
    assert_eq!(replayed.headers()["idempotent-replayed"], "true");
    let after = server.get(&path, &server.admin).await.body;
    assert_eq!((&after["breaker"], &after["paused_until"]), (&json!("open"), &state["paused_until"]));
    assert_eq!(receiver.delivered().len(), 3);
}
