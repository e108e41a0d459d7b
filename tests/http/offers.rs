//! For how long an offer to hand an order on stands.

use boxoffice::Timestamp;
use boxoffice::testing::clock::ManualClock;
use serde_json::{Value, json};

use crate::harness::{Answer, Server};

#[tokio::test]
async fn an_offer_stands_as_long_as_is_configured() {
    let at = |seconds: u64| Timestamp::from_millis(1_000_000_000_000 + seconds * 1_000);
    let clock = ManualClock::at(at(0));
    let server = Server::with_clock(&clock, |settings| settings.limits.offer_seconds = 60).await;
    let (option, anna, bob) = (server.option(4).await, server.buyer("anna"), server.buyer("bob"));
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1"]).await;
    server.post(&format!("/v1/reservations/{held}/payments"), &anna, Value::Null).await.created();
    let offer = async || {
        let request = server.request("POST", &format!("/v1/reservations/{held}/transfers"), &anna);
        let request = request.header("idempotency-key", "x").json(&json!({"to": "bob"}));
        Answer::of(request.send().await.unwrap()).await
    };
    let offered = offer().await;
    let accept = format!("/v1/transfers/{}/accept", offered.created());
    assert_eq!(offered.body["expires_at"], json!(at(60)));
    clock.advance(30_000);
    // The key tells the end that was told, and not another one.
    let again = offer().await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &offered.body));
    clock.advance(30_000);
    assert_eq!(server.post(&accept, &bob, Value::Null).await.code(), (404, "not_found"));
}
