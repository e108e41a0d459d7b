//! The sale: each refusal of the rules, sending again, and many at once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use boxoffice::server::config::Settings;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, option_body};

#[tokio::test]
async fn every_rule_has_its_refusal() {
    let server = Server::start().await;
    let option = server.option(6).await;
    let (anna, ben) = (server.buyer("anna"), server.buyer("ben"));
    let holds = format!("/v1/options/{option}/reservations");
    let held = server.hold(&option, &anna, &["S1"]).await;
    let pay = format!("/v1/reservations/{held}/payments");

    let poor = server.post(&pay, &anna, json!({})).await;
    assert_eq!(poor.code(), (402, "insufficient_points"));
    assert_eq!((&poor.body["balance"], &poor.body["amount"]), (&json!(0), &json!(100)));
    let taken = server.post(&holds, &ben, json!({"seats": ["S2", "S1"]})).await;
    assert_eq!((taken.code(), &taken.body["conflicts"]), ((409, "seats_unavailable"), &json!(["S1"])));
    let blocked = server.post(&format!("/v1/options/{option}/blocks"), &server.admin, json!({"seats": ["S1"]})).await;
    assert_eq!(blocked.code(), (409, "seats_unavailable"));
    let unknown = server.post(&holds, &ben, json!({"seats": ["S1", "Z9"]})).await;
    assert_eq!((unknown.code(), &unknown.body["seats"]), ((422, "unknown_seats"), &json!(["Z9"])));
    let many = server.post(&holds, &ben, json!({"best_available": {"count": 6}})).await;
    assert_eq!(many.code(), (409, "not_enough_seats"));
    server.post(&holds, &anna, json!({"areas": [{"name": "Floor", "count": 4}]})).await.created();
    let limit = server.post(&holds, &anna, json!({"areas": [{"name": "Floor", "count": 4}]})).await;
    assert_eq!(limit.code(), (409, "limit_exceeded"));
    assert_eq!((&limit.body["limit"], &limit.body["already"]), (&json!(8), &json!(5)));

    server.charge("anna", 1_000).await;
    let payment = server.post(&pay, &anna, json!({})).await.created();
    let again = server.post(&pay, &anna, json!({})).await;
    assert_eq!((again.code(), &again.body["payment_id"]), ((409, "already_paid"), &json!(payment)));
    let late = server.post(&format!("/v1/payments/{payment}/refunds"), &anna, json!({})).await;
    assert_eq!(late.code(), (409, "not_refundable"));
    let sold = server.ask("DELETE", &format!("/v1/reservations/{held}"), &anna, Value::Null).await;
    assert_eq!(sold.code(), (409, "reservation_not_held"));
    let released = server.hold(&option, &ben, &["S2"]).await;
    assert_eq!(server.ask("DELETE", &format!("/v1/reservations/{released}"), &ben, Value::Null).await.status, 200);
    let gone = server.post(&format!("/v1/reservations/{released}/payments"), &ben, json!({})).await;
    assert_eq!(gone.code(), (409, "reservation_not_held"));
    let full = json!({"amount": 9_007_199_254_740_991_u64});
    let full = server.post("/v1/users/anna/wallet/charges", &server.admin, full).await;
    assert_eq!(full.code(), (409, "limit_exceeded"));
}

#[tokio::test]
async fn a_sale_has_its_hours_and_a_hold_its_end() {
    let server = Server::start().await;
    let concert = server.concert().await;
    let anna = server.buyer("anna");
    let path = format!("/v1/concerts/{concert}/options");
    let mut body = option_body(2);
    body["sale_opens_at"] = json!("2098-01-01T00:00:00Z");
    body["hold_seconds"] = json!(1);
    let option = server.post(&path, &server.admin, body).await.created();
    let holds = format!("/v1/options/{option}/reservations");
    let early = server.post(&holds, &anna, json!({"seats": ["S1"]})).await;
    assert_eq!(early.code(), (409, "sale_not_open"));
    let open = json!({"sale_opens_at": null});
    let open = server.ask("PATCH", &format!("/v1/options/{option}"), &server.admin, open).await;
    assert_eq!((&open.body["status"], &open.body["sale_opens_at"]), (&json!("on_sale"), &Value::Null));
    let held = server.hold(&option, &anna, &["S1"]).await;
    loop {
        let status = server.get(&format!("/v1/reservations/{held}"), &anna).await.body["status"].clone();
        if status == "expired" {
            break;
        }
        assert_eq!(status, "held");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let late = server.post(&format!("/v1/reservations/{held}/payments"), &anna, json!({})).await;
    assert_eq!(late.code(), (409, "reservation_expired"));
}

#[tokio::test]
async fn a_queue_lets_in_who_has_an_active_token() {
    let server = Server::start().await;
    let option = server.option(4).await;
    let room = json!({"mode": "paused"});
    server.ask("PATCH", "/v1/concerts/c1/waiting-room", &server.admin, room).await;
    let (anna, ben) = (server.buyer("anna"), server.buyer("ben"));
    let hold = async |user: &str, queue_token: Option<&str>| {
        let request = server.request("POST", &format!("/v1/options/{option}/reservations"), user);
        let request = queue_token.map_or(request.try_clone().unwrap(), |token| request.header("queue-token", token));
        Answer::of(request.json(&json!({"seats": ["S1"]})).send().await.unwrap()).await
    };
    assert_eq!(hold(&anna, None).await.code(), (403, "queue_token_required"));
    assert_eq!(hold(&anna, Some("x")).await.code(), (403, "queue_token_required"));
    let token = server.post("/v1/concerts/c1/tokens", &anna, Value::Null).await;
    assert_eq!((&token.body["status"], &token.body["position"]), (&json!("waiting"), &json!(1)), "{token:?}");
    let signed = token.body["token"].as_str().unwrap();
    assert_eq!(hold(&anna, Some(signed)).await.code(), (403, "queue_token_not_active"));
    server.ask("PATCH", "/v1/concerts/c1/waiting-room", &server.admin, json!({"mode": "queue"})).await;
    let path = format!("/v1/tokens/{}", token.created());
    while server.get(&path, &anna).await.body["status"] != "active" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(hold(&ben, Some(signed)).await.code(), (403, "queue_token_required"));
    let held = hold(&anna, Some(signed)).await.created();
    server.charge("anna", 100).await;
    server.post(&format!("/v1/reservations/{held}/payments"), &anna, json!({})).await.created();
    while server.get(&path, &anna).await.body["status"] != "used" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_full_disk_and_a_used_up_allowance_are_told() {
    let server = Server::with(|settings| settings.storage.min_free_bytes = 1 << 40).await;
    let full = server.post("/v1/concerts", &server.admin, json!({"title": "x"})).await;
    assert_eq!(full.code(), (503, "storage_full"));
    assert_eq!(server.get("/v1/concerts", "").await.status, 200);
    let ready = server.get("/readyz", "").await;
    assert_eq!((ready.status, &ready.body["ready"]), (503, &json!(false)), "{ready:?}");

    let server = Server::with(|settings| settings.limits.user_idempotency_keys = 1).await;
    for (key, status) in [("a", 201), ("a", 201), ("b", 429)] {
        assert_eq!(
            keyed(&server, "/v1/concerts", &server.admin, key, r#"{"title":"x"}"#).await.status,
            status,
            "{key}"
        );
    }
}

async fn keyed(server: &Server, path: &str, token: &str, key: &str, body: &str) -> Answer {
    let request = server.request("POST", path, token).header("idempotency-key", key);
    let request = request.header("content-type", "application/json").body(body.to_owned());
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer() {
    let server = Server::start().await;
    let option = server.option(8).await;
    let anna = server.buyer("anna");
    let holds = format!("/v1/options/{option}/reservations");
    let charges = "/v1/users/anna/wallet/charges";
    let options = "/v1/concerts/c1/options";
    let plan = option_body(1).to_string();
    let blocks = format!("/v1/options/{option}/blocks");
    let unblocks = format!("/v1/options/{option}/unblocks");
    let rows = vec![
        ("/v1/concerts".to_owned(), server.admin.clone(), r#"{"title":"x"}"#.to_owned(), r#"{"title":"y"}"#.to_owned()),
        (options.into(), server.admin.clone(), plan.clone(), plan.replace("100", "99")),
        (blocks, server.admin.clone(), r#"{"seats":["S8"]}"#.into(), r#"{"seats":["S7"]}"#.into()),
        (unblocks, server.admin.clone(), r#"{"seats":["S8"]}"#.into(), r#"{"seats":["S7"]}"#.into()),
        (charges.into(), server.admin.clone(), r#"{"amount":500}"#.into(), r#"{"amount":501}"#.into()),
        (holds.clone(), anna.clone(), r#"{"seats":["S1"]}"#.into(), r#"{"seats":["S2"]}"#.into()),
    ];
    let held = server.hold(&option, &anna, &["S3"]).await;
    for (path, token, body, other) in &rows {
        let first = keyed(&server, path, token, "key", body).await;
        assert!(first.status < 300 && first.header("idempotent-replayed").is_empty(), "{path}: {first:?}");
        let lsn = server.last_lsn().await;
        let again = keyed(&server, path, token, "key", body).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}");
        assert_eq!(again.header("idempotent-replayed"), "true", "{path}");
        assert_eq!(again.header("location"), first.header("location"));
        let reused = keyed(&server, path, token, "key", other).await;
        assert_eq!(reused.code(), (422, "idempotency_key_reused"), "{path}");
        assert_eq!(server.last_lsn().await, lsn, "{path}");
    }
    // Of these there is only one body.
    let payments = format!("/v1/reservations/{held}/payments");
    let first = keyed(&server, &payments, &anna, "key", "{}").await;
    let again = keyed(&server, &payments, &anna, "key", "{}").await;
    assert_eq!((first.status, &first.body), (201, &again.body));
    let payment = server.get("/v1/payments", &anna).await.body["items"][0]["id"].as_str().unwrap().to_owned();
    let refunds = format!("/v1/payments/{payment}/refunds");
    let first = keyed(&server, &refunds, &server.admin, "key", "{}").await;
    let again = keyed(&server, &refunds, &server.admin, "key", "{}").await;
    assert_eq!((first.status, &first.body), (201, &again.body));

    // A key is one caller's, and refusals are not remembered.
    let ben = server.buyer("ben");
    assert_eq!(keyed(&server, &holds, &ben, "key", r#"{"seats":["S1"]}"#).await.code(), (409, "seats_unavailable"));
    assert_eq!(keyed(&server, &holds, &ben, "key", r#"{"seats":["S2"]}"#).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_on_its_heels_gets_the_same_answer() {
    let server = Server::start().await;
    let option = server.option(8).await;
    let anna = server.buyer("anna");
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1"]).await;
    for (path, body) in [
        (format!("/v1/reservations/{held}/payments"), "{}"),
        (format!("/v1/options/{option}/reservations"), r#"{"best_available":{"count":2}}"#),
    ] {
        let asked = (0..20).map(|_| keyed(&server, &path, &anna, "key", body));
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body), "{answers:?}");
        let first = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_empty()).count();
        assert_eq!(first, 1);
    }
    assert_eq!(server.get("/v1/wallet", &anna).await.body["balance"], 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_payments_for_one_reservation_are_one() {
    let server = Server::start().await;
    let option = server.option(8).await;
    let anna = server.buyer("anna");
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1", "S2"]).await;
    let path = format!("/v1/reservations/{held}/payments");
    let asked = (0..100).map(|_| server.post(&path, &anna, json!({})));
    let answers = futures_util::future::join_all(asked).await;
    let (paid, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!(paid.len(), 1);
    for answer in refused {
        assert_eq!(answer.code(), (409, "already_paid"));
        assert_eq!(answer.body["payment_id"], paid[0].body["id"]);
    }
    assert_eq!(server.get("/v1/wallet", &anna).await.body["balance"], 800);
    let entries = server.get("/v1/wallet/entries", &anna).await.body["items"].as_array().unwrap().len();
    assert_eq!(entries, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_buy_ten_seats_once_each() {
    let server = Server::start().await;
    let option = server.option(10).await;
    let holds = format!("/v1/options/{option}/reservations");
    let buy = async |n: usize| {
        let user = format!("user-{n}");
        let token = server.buyer(&user);
        // Half of them want a certain seat, half of them whichever is best.
        let wish = match n % 2 {
            0 => json!({"seats": [format!("S{}", n / 2 % 10 + 1)]}),
            _ => json!({"best_available": {"count": 1}}),
        };
        let held = server.post(&holds, &token, wish).await;
        if held.status != 201 {
            assert!(matches!(held.code(), (409, "seats_unavailable" | "not_enough_seats")), "{held:?}");
            return None;
        }
        server.charge(&user, 100).await;
        let path = format!("/v1/reservations/{}/payments", held.created());
        server.post(&path, &token, json!({})).await.created();
        Some(held.body["seats"][0]["id"].as_str().unwrap().to_owned())
    };
    let asked = (0..1_000).map(buy);
    let sold: Vec<_> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    assert_eq!(sold.len(), 10);
    assert_eq!(sold.iter().collect::<BTreeSet<_>>().len(), 10);
    let seats = server.get(&format!("/v1/options/{option}/seats"), "").await.body;
    assert!(seats["seats"].as_object().unwrap().values().all(|status| status == "sold"));
    assert_eq!(server.get(&format!("/v1/options/{option}"), "").await.body["counts"]["sold"], 10);
}

/// Whoever is refused for asking too often has asked all the same, and is not taken for gone.
async fn stays_in_line(server: Server) {
    // Each comes from an address of their own, for a server that counts those.
    let ask = async |method: &str, path: &str, user: &(String, u8)| {
        let request = server.request(method, path, &user.0).header("x-forwarded-for", format!("198.51.100.{}", user.1));
        Answer::of(request.send().await.unwrap()).await
    };
    let waiting_room = json!({"mode": "queue", "max_active": 1, "waiting_ttl_seconds": 1});
    let concert = json!({"title": "Crowded", "waiting_room": waiting_room});
    let concert = server.post("/v1/concerts", &server.admin, concert).await.created();
    let line = format!("/v1/concerts/{concert}/tokens");
    let [inside, hasty, silent, patient] =
        [("inside", 1), ("hasty", 2), ("silent", 3), ("patient", 4)].map(|(name, n)| (server.buyer(name), n));
    for user in [&inside, &hasty, &silent] {
        ask("POST", &line, user).await.created();
    }
    let place = format!("/v1/tokens/{}", ask("POST", &line, &hasty).await.body["id"].as_str().unwrap());

    let begun = Instant::now();
    let mut asked = Instant::now();
    // The first of them goes in, and who is silent goes.
    let mut waiting = 3;
    while waiting != 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{waiting} are waiting");
        // All that is allowed goes into something else, so that the line hears of refused calls only.
        while ask("GET", "/v1/wallet", &hasty).await.status != 429 {}
        ask("GET", &place, &hasty).await;
        if asked.elapsed() > Duration::from_millis(600) {
            asked = Instant::now();
            let seen = ask("POST", &line, &patient).await;
            if seen.status < 300 && begun.elapsed() > Duration::from_secs(4) {
                waiting = seen.body["queue_size"].as_u64().unwrap();
            }
        }
    }
    let hasty_is_there = async {
        loop {
            let seen = ask("GET", &place, &hasty).await;
            if seen.status == 200 {
                return seen.body["status"].clone();
            }
        }
    };
    assert_eq!(hasty_is_there.await, "waiting");
}

#[tokio::test]
async fn who_asks_too_often_is_still_in_line() {
    stays_in_line(Server::with(|settings| settings.limits.user_requests_per_second = 1).await).await;
}

#[tokio::test]
async fn whose_address_asks_too_often_is_still_in_line() {
    let configure = |settings: &mut Settings| {
        settings.limits.address_requests_per_second = 1;
        settings.http.trusted_proxies = vec!["127.0.0.1".into()];
    };
    stays_in_line(Server::with(configure).await).await;
}
