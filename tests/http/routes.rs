//! Each route does what it is there for.

use serde_json::{Value, json};

use crate::harness::{Answer, STARTS_AT, Server};

/// A row a route, in an order in which each finds what it needs.
#[tokio::test]
async fn every_route_has_its_happy_path() {
    let server = Server::with(|settings| settings.wallet.self_charge = true).await;
    let (admin, anna) = (server.admin.clone(), server.buyer("anna"));
    let option = crate::harness::option_body(8);
    let wanted = json!({"best_available": {"count": 2}});
    for (method, path, token, body, status, expected) in [
        (
            "POST",
            "/v1/concerts",
            &admin,
            json!({"title": "One"}),
            201,
            json!({"id": "c1", "title": "One", "options": []}),
        ),
        ("GET", "/v1/concerts", &String::new(), Value::Null, 200, json!({"next_cursor": null})),
        ("GET", "/v1/concerts/c1", &String::new(), Value::Null, 200, json!({"id": "c1"})),
        ("GET", "/v1/concerts/c1/waiting-room", &admin, Value::Null, 200, json!({"mode": "open", "max_active": 500})),
        ("PATCH", "/v1/concerts/c1/waiting-room", &admin, json!({"max_active": 7}), 200, json!({"max_active": 7})),
        ("PATCH", "/v1/concerts/c1/waiting-room", &admin, json!({"max_active": null}), 200, json!({"max_active": 500})),
        (
            "POST",
            "/v1/concerts/c1/options",
            &admin,
            option,
            201,
            json!({"id": "o1", "status": "on_sale", "hold_seconds": 300}),
        ),
        (
            "GET",
            "/v1/options/o1",
            &String::new(),
            Value::Null,
            200,
            json!({"counts": {"available": 28, "held": 0, "sold": 0, "blocked": 0}}),
        ),
        (
            "PATCH",
            "/v1/options/o1",
            &admin,
            json!({"refundable_until": STARTS_AT}),
            200,
            json!({"refundable_until": STARTS_AT}),
        ),
        (
            "GET",
            "/v1/options/o1/plan",
            &String::new(),
            Value::Null,
            200,
            json!({"name": "Hall", "prices": {"A": 100, "Floor": 10}}),
        ),
        ("POST", "/v1/options/o1/blocks", &admin, json!({"seats": ["S8"]}), 200, json!({"seats": ["S8"]})),
        (
            "GET",
            "/v1/options/o1/seats",
            &String::new(),
            Value::Null,
            200,
            json!({"option_id": "o1", "seats": {"S8": "blocked"}, "areas": {"Floor": {"capacity": 20, "available": 20}}}),
        ),
        ("POST", "/v1/options/o1/unblocks", &admin, json!({"seats": ["S8"]}), 200, json!({"seats": ["S8"]})),
        (
            "POST",
            "/v1/concerts/c1/tokens",
            &anna,
            Value::Null,
            201,
            json!({"id": "t1-1", "status": "active", "position": null}),
        ),
        ("POST", "/v1/concerts/c1/tokens", &anna, Value::Null, 200, json!({"id": "t1-1"})),
        ("GET", "/v1/tokens/t1-1", &anna, Value::Null, 200, json!({"concert_id": "c1"})),
        ("DELETE", "/v1/tokens/t1-1", &anna, Value::Null, 204, json!("")),
        (
            "POST",
            "/v1/options/o1/reservations",
            &anna,
            wanted,
            201,
            json!({"id": "r1-1", "status": "held", "amount": 200, "user_id": "anna"}),
        ),
        (
            "POST",
            "/v1/options/o1/reservations",
            &anna,
            json!({"areas": [{"name": "Floor", "count": 3}]}),
            201,
            json!({"id": "r1-2", "amount": 30}),
        ),
        (
            "POST",
            "/v1/options/o1/reservations",
            &anna,
            json!({"seats": ["S8"]}),
            201,
            json!({"id": "r1-3", "amount": 100}),
        ),
        ("GET", "/v1/reservations/r1-1", &anna, Value::Null, 200, json!({"status": "held"})),
        ("GET", "/v1/reservations/r1-1", &admin, Value::Null, 200, json!({"status": "held"})),
        ("DELETE", "/v1/reservations/r1-3", &anna, Value::Null, 200, json!({"status": "released"})),
        ("GET", "/v1/reservations?status=released", &anna, Value::Null, 200, json!({"next_cursor": null})),
        ("GET", "/v1/reservations?user_id=anna&limit=1", &admin, Value::Null, 200, json!({})),
        (
            "POST",
            "/v1/users/anna/wallet/charges",
            &admin,
            json!({"amount": 200}),
            201,
            json!({"kind": "charge", "balance": 200, "reference": "root"}),
        ),
        ("POST", "/v1/wallet/charges", &anna, json!({"amount": 50}), 201, json!({"balance": 250})),
        (
            "POST",
            "/v1/reservations/r1-1/payments",
            &anna,
            json!({}),
            201,
            json!({"status": "completed", "balance": 50, "amount": 200}),
        ),
        ("POST", "/v1/reservations/r1-2/payments", &anna, Value::Null, 201, json!({"balance": 20})),
        ("GET", "/v1/wallet", &anna, Value::Null, 200, json!({"user_id": "anna", "balance": 20})),
        ("GET", "/v1/users/anna/wallet", &admin, Value::Null, 200, json!({"balance": 20})),
        ("GET", "/v1/wallet/entries?limit=2", &anna, Value::Null, 200, json!({})),
        ("GET", "/v1/payments", &anna, Value::Null, 200, json!({"next_cursor": null})),
        ("GET", "/v1/stats", &admin, Value::Null, 200, json!({})),
        ("GET", "/v1/site", &String::new(), Value::Null, 200, json!({"login_url": null})),
        ("GET", "/healthz", &String::new(), Value::Null, 200, json!({"status": "alive"})),
        ("GET", "/readyz", &String::new(), Value::Null, 200, json!({"ready": true})),
    ] {
        let answer = server.ask(method, path, token, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        for (member, value) in expected.as_object().into_iter().flatten() {
            assert_eq!(&answer.body[member], value, "{method} {path}: {answer:?}");
        }
        assert_eq!(answer.headers.contains_key("location"), status == 201, "{method} {path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    refunds(&server, &anna).await;
}

async fn refunds(server: &Server, anna: &str) {
    let payments = server.get("/v1/payments", anna).await.body;
    let newest = payments["items"][0]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/payments/{newest}"), anna).await.body, payments["items"][0]);
    let refund = server.post(&format!("/v1/payments/{newest}/refunds"), anna, json!({})).await;
    assert_eq!((refund.status, &refund.body["balance"]), (201, &json!(50)), "{refund:?}");
    let again = server.post(&format!("/v1/payments/{newest}/refunds"), anna, json!({})).await;
    assert_eq!(again.code(), (409, "not_refundable"));
}

#[tokio::test]
async fn pages_follow_each_other_newest_first() {
    let server = Server::start().await;
    for _ in 0..5 {
        server.charge("anna", 1).await;
    }
    let anna = server.buyer("anna");
    let mut balances = Vec::new();
    let mut path = "/v1/wallet/entries?limit=2".to_owned();
    loop {
        let page = server.get(&path, &anna).await.body;
        balances.extend(page["items"].as_array().unwrap().iter().map(|entry| entry["balance"].as_u64().unwrap()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/wallet/entries?limit=2&cursor={cursor}");
    }
    assert_eq!(balances, [5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn users_with_any_name_have_a_wallet() {
    let server = Server::start().await;
    server.charge("auth0%7Ca%2Fb%25%20c", 5).await;
    let token = server.buyer("auth0|a/b% c");
    assert_eq!(server.get("/v1/wallet", &token).await.body, json!({"user_id": "auth0|a/b% c", "balance": 5}));
    for path in ["/v1/users/%C3%BC/wallet", "/v1/users/%FF/wallet", &format!("/v1/users/{}/wallet", "x".repeat(256))] {
        assert_eq!(server.get(path, &server.admin).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn pages_are_files_of_the_server_and_may_load_nothing_else() {
    let server = Server::start().await;
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/ops", "text/html; charset=utf-8"),
        ("/web/app.js", "text/javascript; charset=utf-8"),
        ("/web/i18n/ko.js", "text/javascript; charset=utf-8"),
        ("/web/style.css", "text/css; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
        ("/embed/v1.js", "text/javascript; charset=utf-8"),
    ] {
        let page = server.get(path, "").await;
        assert_eq!((page.status, page.header("content-type")), (200, media_type), "{path}");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("cache-control"), "no-cache");
        let known = server.request("GET", path, "").header("If-None-Match", page.header("etag"));
        let known = known.send().await.unwrap();
        assert_eq!(known.status(), 304, "{path}");
        // Browsers take it over for what they have kept.
        assert_eq!(known.headers()["content-security-policy"], policy, "{path}");
    }
    for path in ["/web/", "/web/nothing.js", "/web/../Cargo.toml", "/web/i18n"] {
        assert_eq!(server.get(path, "").await.code(), (404, "not_found"), "{path}");
    }
    assert_eq!(server.post("/", "", json!({})).await.code(), (405, "method_not_allowed"));
}

#[tokio::test]
async fn scripts_are_for_any_site_and_nothing_else_is() {
    for origins in [vec![], vec!["https://shop.example".to_owned()]] {
        let server = Server::with(|settings| settings.cors.allowed_origins = origins.clone()).await;
        for (path, may) in [
            ("/embed/v1.js", true),
            ("/web/seats.js", true),
            ("/web/i18n/ko.js", true),
            ("/web/style.css", false),
            ("/ops", false),
            ("/v1/site", false),
        ] {
            let ask = |known: String| {
                let request = server.request("GET", path, "").header("Origin", "https://elsewhere.example");
                request.header("If-None-Match", known).send()
            };
            let first = Answer::of(ask("\"none\"".into()).await.unwrap()).await;
            assert_eq!(first.status, 200, "{path}");
            let known = first.header("etag").to_owned();
            let mut answers = vec![first];
            if !known.is_empty() {
                answers.push(Answer::of(ask(known).await.unwrap()).await);
                assert_eq!(answers[1].status, 304, "{path}");
            }
            for answer in answers {
                assert_eq!(answer.header("access-control-allow-origin"), if may { "*" } else { "" }, "{path}");
                let policy = if may { "cross-origin" } else { "same-origin" };
                assert_eq!(answer.header("cross-origin-resource-policy"), policy, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn stats_tell_how_a_sale_went() {
    let server = Server::with(|settings| settings.history.interval = "100ms".parse().unwrap()).await;
    let option = server.option(8).await;
    let path = format!("/v1/stats?option_id={option}");
    server.hold(&option, &server.buyer("anna"), &["S1", "S2"]).await;
    let stats = loop {
        let stats = server.get(&path, &server.admin).await.body;
        let history = stats["sale"]["history"].as_array().unwrap();
        if history.iter().any(|sample| sample["seats"]["held"] == 2) {
            break stats;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let now = &stats["sale"]["now"];
    assert_eq!((&now["seats"]["held"], &now["holds"], &now["holds_expiring"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!(now["line"], json!({"waiting": 0, "active": 0, "used": 0, "expired": 0}));
    let last = stats["sale"]["history"].as_array().unwrap().last().unwrap()["at"].as_str().unwrap().to_owned();
    let later = server.get(&format!("{path}&since={last}"), &server.admin).await.body;
    let mut later = later["sale"]["history"].as_array().unwrap().iter().map(|sample| sample["at"].as_str().unwrap());
    assert!(later.all(|at| at > last.as_str()));
    assert_eq!(server.get("/v1/stats", &server.admin).await.body["sale"], Value::Null);
    assert_eq!(server.get("/v1/stats?option_id=o99", &server.admin).await.code(), (404, "not_found"));
    assert_eq!(server.get("/v1/stats?option_id=x", &server.admin).await.fields(), ["option_id"]);
    assert_eq!(server.get("/v1/stats?since=x", &server.admin).await.fields(), ["since"]);
}

#[tokio::test]
async fn the_description_and_its_pages_are_served() {
    let server = Server::start().await;
    let document = server.get("/openapi.json", "").await.body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let docs = server.get("/docs", "").await;
    assert!(docs.body.as_str().unwrap().contains("swagger"), "{docs:?}");
    assert_eq!(server.get("/docs/nothing", "").await.code(), (404, "not_found"));
    let page = server.get("/problems/seats-unavailable", "").await;
    assert!(page.body.as_str().unwrap().contains("seats_unavailable"));
    let metrics = server.client.get(format!("http://{}/metrics", server.ops)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("boxoffice_durable_lsn") && metrics.contains("route=\"/openapi.json\""), "{metrics}");
    assert_eq!(server.get("/metrics", "").await.status, 404);
}
