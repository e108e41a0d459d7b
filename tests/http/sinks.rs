//! All receivers in one list. What Kafka is to it stands in tests/kafka.rs.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::receiver::{FINE, Receiver, Say, until};

#[tokio::test]
async fn one_list_has_all_that_receive() {
    let receiver = Receiver::start(|_| Say::Status(500, "", "no")).await;
    let server = Server::with(|settings| {
        settings.webhooks.allow_private_addresses = true;
        settings.webhooks.retry_schedule = Vec::new();
    })
    .await;
    let hook = server.post("/v1/webhooks", &server.admin, json!({"url": receiver.url()})).await.created();
    let other = server.post("/v1/webhooks", &server.admin, json!({"url": receiver.url()})).await.created();
    let list = server.get("/v1/sinks?limit=1", &server.admin).await.body;
    assert_eq!((&list["items"][0]["id"], &list["next_cursor"]), (&json!(other), &json!("2")), "{list}");
    let list = server.get("/v1/sinks?cursor=2", &server.admin).await.body;
    let one = list["items"][0].as_object().unwrap();
    let mut members: Vec<_> = one.keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "attempts",
            "breaker",
            "cursor",
            "dead_letters",
            "id",
            "kind",
            "lag",
            "last_delivered_at",
            "last_failure",
            "parked",
            "status"
        ]
    );
    assert_eq!((&one["id"], &one["kind"], &one["status"]), (&json!(hook), &json!("webhook"), &json!("active")));

    server.charge("anna", 5).await;
    let path = format!("/v1/sinks/{hook}");
    let ask = async || server.get(&path, &server.admin).await.body;
    let state = until(ask, |state| state["dead_letters"] == 1).await;
    assert_eq!(state["last_failure"]["status"], 500, "{state}");
    let letters = format!("{path}/dead-letters");
    let items = server.get(&letters, &server.admin).await.body["items"].clone();
    assert_eq!(items, server.get(&format!("/v1/webhooks/{hook}/dead-letters"), &server.admin).await.body["items"]);
    receiver.change(|_| FINE);
    let redriven = server.post(&format!("{path}/redrive"), &server.admin, json!({})).await;
    assert_eq!((redriven.status, redriven.body), (200, json!({"redriven": 1})));
    until(ask, |state| state["dead_letters"] == 0).await;
    let gone = format!("{letters}/{}", items[0]["event_id"].as_str().unwrap());
    assert_eq!(server.ask("DELETE", &gone, &server.admin, Value::Null).await.status, 404, "it is delivered");
    assert_eq!(server.get("/v1/sinks/kafka", &server.admin).await.status, 404, "there is none here");
}
