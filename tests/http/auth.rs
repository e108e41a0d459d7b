//! What of others is hidden, beyond what stands in the table of `access.rs`; and how often one may ask.

use serde_json::{Value, json};

use crate::harness::Server;

#[tokio::test]
async fn what_is_somebody_elses_does_not_exist() {
    let server = Server::start().await;
    let option = server.option(4).await;
    let (anna, ben) = (server.buyer("anna"), server.buyer("ben"));
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1"]).await;
    let paid = server.hold(&option, &anna, &["S2"]).await;
    let payment = server.post(&format!("/v1/reservations/{paid}/payments"), &anna, json!({})).await.created();
    let token = server.post("/v1/concerts/c1/tokens", &anna, Value::Null).await.created();
    let before = server.last_lsn().await;
    let paths = [
        ("GET", format!("/v1/tokens/{token}")),
        ("DELETE", format!("/v1/tokens/{token}")),
        ("GET", format!("/v1/reservations/{held}")),
        ("DELETE", format!("/v1/reservations/{held}")),
        ("POST", format!("/v1/reservations/{held}/payments")),
        ("GET", format!("/v1/payments/{payment}")),
        ("POST", format!("/v1/payments/{payment}/refunds")),
    ];
    for (method, path) in &paths {
        let answer = server.ask(method, path, &ben, Value::Null).await;
        assert_eq!(answer.code(), (404, "not_found"), "{method} {path}");
        let nothing = server.ask(method, &path.replace('-', "-99"), &ben, Value::Null).await;
        assert_eq!(answer.body, nothing.body, "{method} {path}");
        // Nor does a body that is wrong tell more.
        let with_body = server.request(method, path, &ben).body("x").send().await.unwrap();
        assert_eq!(with_body.status(), 404, "{method} {path}");
    }
    // Nobody pays for others, not even an admin.
    let path = format!("/v1/reservations/{held}/payments");
    assert_eq!(server.post(&path, &server.admin, json!({})).await.code(), (404, "not_found"));
    assert_eq!(server.last_lsn().await, before);
    for list in ["/v1/reservations", "/v1/payments", "/v1/wallet/entries"] {
        assert_eq!(server.get(list, &ben).await.body["items"], json!([]), "{list}");
    }
    // An admin may look, release and refund.
    for (method, path) in [&paths[2], &paths[3], &paths[5]] {
        assert_eq!(server.ask(method, path, &server.admin, Value::Null).await.status, 200, "{method} {path}");
    }
    assert_eq!(server.ask(paths[6].0, &paths[6].1, &server.admin, Value::Null).await.status, 201);
}

#[tokio::test]
async fn who_asks_too_often_has_to_wait() {
    let server = Server::with(|settings| settings.limits.user_requests_per_second = 1).await;
    let (anna, ben) = (server.buyer("anna"), server.buyer("ben"));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(server.get("/v1/wallet", &anna).await.status);
    }
    assert!(statuses[..2] == [200, 200] && statuses.contains(&429), "{statuses:?}");
    assert_eq!(server.get("/v1/wallet", &ben).await.status, 200);
    assert_eq!(server.get("/v1/concerts", "").await.status, 200);
    for _ in 0..4 {
        assert_eq!(server.get("/v1/wallet", &server.admin).await.status, 200, "an admin need not wait");
    }
}
