//! A server that delivers nothing, so that whoever runs it can always get in.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::process;
use crate::receiver::{FINE, Receiver, Say, until};
use crate::webhooks::call;

#[tokio::test]
async fn everything_but_delivering_works() {
    let receiver = Receiver::start(|_| Say::Status(500, "", "no")).await;
    let mut server = Server::with(|settings| {
        settings.webhooks.allow_private_addresses = true;
        settings.webhooks.retry_schedule = Vec::new();
        settings.webhooks.breaker_failures = 1_000;
    })
    .await;
    let body = json!({"url": receiver.url()});
    let path = format!("/v1/webhooks/{}", server.post("/v1/webhooks", &server.admin, body.clone()).await.created());
    server.charge("anna", 5).await;
    server.charge("ben", 5).await;
    let ask = async || server.get(&path, &server.admin).await.body;
    until(ask, |state| state["dead_letters"] == 2).await;

    server.settings.webhooks.enabled = false;
    server = server.restart(|_| ()).await;
    let state = server.get(&path, &server.admin).await.body;
    assert_eq!((&state["status"], &state["dead_letters"]), (&json!("suspended"), &json!(2)), "{state}");
    assert_eq!(server.get("/v1/webhooks", &server.admin).await.body["items"][0]["status"], "suspended");
    let second = server.post("/v1/webhooks", &server.admin, body).await;
    assert_eq!((second.status, &second.body["status"]), (201, &json!("suspended")));
    server.charge("carl", 5).await;
    let letters = format!("{path}/dead-letters");
    let items = server.get(&letters, &server.admin).await.body["items"].clone();
    let first = items[0]["event_id"].as_str().unwrap();
    let dropped = server.ask("DELETE", &format!("{letters}/{first}"), &server.admin, Value::Null).await;
    assert_eq!(dropped.status, 204);
    let redriven = server.post(&format!("{path}/redrive"), &server.admin, json!({})).await;
    assert_eq!((redriven.status, redriven.body), (200, json!({"redriven": 1})));
    let rotated = server.post(&format!("{path}/rotate-secret"), &server.admin, json!({})).await;
    assert_eq!(rotated.status, 200);
    let removed = server.ask("DELETE", "/v1/webhooks/w2", &server.admin, Value::Null).await;
    assert_eq!(removed.status, 204);
    assert_eq!(receiver.delivered().len(), 2, "what came before");

    // Nothing is lost meanwhile.
    receiver.change(|_| FINE);
    server.settings.webhooks.enabled = true;
    let server = server.restart(|_| ()).await;
    let delivered = receiver.wait_for(4).await;
    let mut subjects: Vec<_> = delivered[2..].iter().map(|one| one.json()["subject"].clone()).collect();
    subjects.sort_by_key(Value::to_string);
    assert_eq!(subjects, ["anna", "carl"], "what was redriven, and what came meanwhile");
    assert_eq!(server.get(&path, &server.admin).await.body["status"], "active");
}

#[tokio::test]
async fn a_flag_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_| FINE).await;
    std::fs::write(dir.path().join("b.toml"), "[webhooks]\nallow_private_addresses = true\n").unwrap();
    for (flags, status) in [(&["--no-deliveries"][..], "suspended"), (&[], "active")] {
        let (child, lines) = process::serve(dir.path(), &[&["--config", "b.toml"][..], flags].concat());
        let address = lines.last().unwrap().strip_prefix("listening on ").unwrap().to_owned();
        if status == "suspended" {
            call(&address, dir.path(), "POST", "/v1/webhooks", json!({"url": receiver.url()})).await;
            call(&address, dir.path(), "POST", "/v1/users/anna/wallet/charges", json!({"amount": 5})).await;
        } else {
            receiver.wait_for(1).await;
        }
        let state = call(&address, dir.path(), "GET", "/v1/webhooks/w1", Value::Null).await;
        assert_eq!(state["status"], status);
        assert_eq!(receiver.delivered().len(), usize::from(status == "active"));
        process::terminate(child);
    }
}
