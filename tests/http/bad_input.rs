//! Whatever is wrong with a request is named, and changes nothing.

use serde_json::{Value, json};

use crate::harness::{Server, option_body};

/// `body` with the value at `path` (a JSON pointer) put in place, or taken away.
fn with(body: &Value, path: &str, value: Option<Value>) -> Value {
    let mut body = body.clone();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(members), Some(value)) => drop(members.insert(name.into(), value)),
        (Value::Object(members), None) => drop(members.remove(name)),
        (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{other} has no members"),
    }
    body
}

async fn refused(server: &Server, method: &str, path: &str, body: &str, field: &str) {
    let request = server.request(method, path, &server.admin).header("content-type", "application/json");
    let answer = crate::harness::Answer::of(request.body(body.to_owned()).send().await.unwrap()).await;
    assert_eq!(answer.code(), (400, "invalid_request"), "{method} {path} {body}: {answer:?}");
    assert!(answer.fields().contains(&field), "{method} {path} {body}: wanted {field}, got {answer:?}");
}

#[tokio::test]
async fn every_field_is_checked_and_named() {
    let server = Server::start().await;
    server.option(4).await;
    let before = server.last_lsn().await;
    let room = |value: Value| json!({"title": "x", "waiting_room": value});
    let some = |value: Value| Some(value);
    let option = option_body(2);
    let plan = "/seating_plan/zones/0/rows/0/seats";
    let second = |member: &str| format!("seating_plan.zones[0].rows[0].seats[1].{member}");
    let concert = json!({"title": "x"});
    let seats = json!({"seats": ["S1"]});
    let best = json!({"best_available": {"count": 1}});
    let areas = json!({"areas": [{"name": "Floor", "count": 1}]});
    let charge = json!({"amount": 1});
    let mut rows: Vec<(&str, &str, Value, String)> = Vec::new();
    let mut add = |method, path, body: Value, field: &str| rows.push((method, path, body, field.to_owned()));

    let path = "/v1/concerts";
    for (at, value, field) in [
        ("/title", None, "title"),
        ("/title", some(json!(5)), "title"),
        ("/title", some(json!(null)), "title"),
        ("/title", some(json!("")), "title"),
        ("/title", some(json!("x".repeat(201))), "title"),
        ("/title", some(json!("a\nb")), "title"),
        ("/unknown", some(json!(1)), "unknown"),
        ("/waiting_room", some(json!(null)), "waiting_room"),
    ] {
        add("POST", path, with(&concert, at, value), field);
    }
    for (member, value) in [
        ("mode", json!("shut")),
        ("max_active", json!(0)),
        ("max_active", json!(10_000_001)),
        ("max_active", json!("5")),
        ("admit_per_minute", json!(0)),
        ("admit_per_minute", json!(10_000_001)),
        ("active_ttl_seconds", json!(0)),
        ("active_ttl_seconds", json!(86_401)),
        ("waiting_ttl_seconds", json!(0)),
        ("waiting_ttl_seconds", json!(86_401)),
        ("waiting_ttl_seconds", json!(-1)),
        ("order", json!("random")),
        ("opens_at", json!("today")),
        ("unknown", json!(1)),
    ] {
        add("POST", path, room(json!({member: value})), &format!("waiting_room.{member}"));
        add("PATCH", "/v1/concerts/c1/waiting-room", json!({member: value}), member);
    }

    let path = "/v1/concerts/c1/options";
    for (at, value, field) in [
        ("/starts_at", None, "starts_at"),
        ("/starts_at", some(json!(1)), "starts_at"),
        ("/starts_at", some(json!("2099-11-20")), "starts_at"),
        ("/sale_opens_at", some(json!("x")), "sale_opens_at"),
        ("/sale_opens_at", some(json!("2099-12-20T19:30:00Z")), "sale_opens_at"),
        ("/sale_closes_at", some(json!(false)), "sale_closes_at"),
        ("/refundable_until", some(json!("")), "refundable_until"),
        ("/seating_plan", None, "seating_plan"),
        ("/seating_plan", some(json!([])), "seating_plan"),
        ("/prices", None, "prices"),
        ("/prices", some(json!([])), "prices"),
        ("/prices/A", None, "prices.A"),
        ("/prices/A", some(json!(-1)), "prices.A"),
        ("/prices/A", some(json!(9_007_199_254_740_992_u64)), "prices.A"),
        ("/prices/A", some(json!(9_007_199_254_740_991_u64)), "prices"),
        ("/areas", some(json!(null)), "areas"),
        ("/areas/0/name", some(json!("")), "areas[0].name"),
        ("/areas/0/name", None, "areas[0].name"),
        ("/areas/0/capacity", some(json!(0)), "areas[0].capacity"),
        ("/areas/0/capacity", some(json!(1_000_001)), "areas[0].capacity"),
        ("/areas/0/category", some(json!("?")), "areas[0].category"),
        ("/areas/0/unknown", some(json!(1)), "areas[0].unknown"),
        ("/hold_seconds", some(json!(0)), "hold_seconds"),
        ("/hold_seconds", some(json!(86_401)), "hold_seconds"),
        ("/hold_seconds", some(json!(1.5)), "hold_seconds"),
        ("/hold_seconds", some(json!(null)), "hold_seconds"),
        ("/payment_seconds", some(json!(0)), "payment_seconds"),
        ("/payment_seconds", some(json!(3_601)), "payment_seconds"),
        ("/max_seats_per_reservation", some(json!(0)), "max_seats_per_reservation"),
        ("/max_seats_per_reservation", some(json!(101)), "max_seats_per_reservation"),
        ("/max_seats_per_user", some(json!(0)), "max_seats_per_user"),
        ("/max_seats_per_user", some(json!(10_001)), "max_seats_per_user"),
        ("/unknown", some(json!(1)), "unknown"),
    ] {
        add("POST", path, with(&option, at, value), field);
    }
    for (member, value) in [
        ("seat_guid", some(json!("S1"))),
        ("seat_guid", None),
        ("category", some(json!("?"))),
        ("seat_number", some(json!([]))),
    ] {
        add("POST", path, with(&option, &format!("{plan}/1/{member}"), value), &second(member));
    }
    let empty = with(&with(&option, "/areas", some(json!([]))), plan, some(json!([])));
    add("POST", path, empty, "seating_plan");
    for member in ["sale_opens_at", "sale_closes_at", "refundable_until"] {
        add("PATCH", "/v1/options/o1", json!({member: "x"}), member);
        add("PATCH", "/v1/options/o1", json!({member: 5}), member);
    }
    add("PATCH", "/v1/options/o1", json!({"starts_at": "2099-11-20"}), "starts_at");
    add("PATCH", "/v1/options/o1", json!([]), "body");

    for path in ["/v1/options/o1/blocks", "/v1/options/o1/unblocks"] {
        add("POST", path, json!({}), "seats");
        add("POST", path, json!({"seats": "S1"}), "seats");
        add("POST", path, json!({"seats": [1]}), "seats[0]");
        add("POST", path, json!({"seats": ["S1"], "x": 1}), "x");
    }
    let path = "/v1/options/o1/reservations";
    for (base, at, value, field) in [
        (&seats, "/seats", None, "body"),
        (&seats, "/seats", some(json!(null)), "seats"),
        (&seats, "/seats", some(json!([])), "seats"),
        (&seats, "/seats", some(json!(["S1", "S1"])), "seats[1]"),
        (&seats, "/seats", some(json!([5])), "seats[0]"),
        (&seats, "/best_available", some(json!({"count": 1})), "body"),
        (&seats, "/areas", some(json!([])), "body"),
        (&seats, "/unknown", some(json!(1)), "unknown"),
        (&best, "/best_available/count", None, "best_available.count"),
        (&best, "/best_available/count", some(json!(0)), "best_available.count"),
        (&best, "/best_available/count", some(json!(9)), "best_available.count"),
        (&best, "/best_available/count", some(json!("1")), "best_available.count"),
        (&best, "/best_available/adjacent", some(json!(1)), "best_available.adjacent"),
        (&best, "/best_available/category", some(json!(1)), "best_available.category"),
        (&best, "/best_available/zone", some(json!([])), "best_available.zone"),
        (&best, "/best_available/unknown", some(json!(1)), "best_available.unknown"),
        (&areas, "/areas", some(json!([])), "areas"),
        (&areas, "/areas/0/name", None, "areas[0].name"),
        (&areas, "/areas/0/count", some(json!(0)), "areas[0].count"),
        (&areas, "/areas/0/count", some(json!(9)), "areas[0].count"),
        (&areas, "/areas/0/count", some(json!(-1)), "areas[0].count"),
        (&areas, "/areas/0/unknown", some(json!(1)), "areas[0].unknown"),
    ] {
        add("POST", path, with(base, at, value), field);
    }
    for path in ["/v1/users/anna/wallet/charges"] {
        for value in
            [None, some(json!(0)), some(json!(-1)), some(json!("1")), some(json!(1.5)), some(json!(1_u64 << 53))]
        {
            add("POST", path, with(&charge, "/amount", value), "amount");
        }
        add("POST", path, json!({"amount": 1, "currency": "x"}), "currency");
    }
    for (method, path, body, field) in rows {
        refused(&server, method, path, &body.to_string(), &field).await;
    }
    for (method, path, body, field) in [
        ("POST", "/v1/concerts", r#"{"title":"x","title":"x"}"#, "title"),
        ("POST", "/v1/concerts", r#"{"title":"#, "body"),
        ("POST", "/v1/concerts", "", "body"),
        ("POST", "/v1/concerts", r#"["x", null]"#, "body"),
        ("POST", "/v1/concerts", r#"{"title":"x","waiting_room":["open"]}"#, "waiting_room"),
        ("POST", "/v1/options/o1/reservations", r#"{"best_available":[1]}"#, "best_available"),
        ("POST", "/v1/options/o1/reservations", r#"{"areas":[["Floor",1]]}"#, "areas[0]"),
        ("POST", "/v1/concerts", "\u{0}", "body"),
        ("PATCH", "/v1/concerts/c1/waiting-room", r#"{"max_active":1,"max_active":2}"#, "max_active"),
        ("POST", "/v1/options/o1/reservations", r#"{"best_available":{"count":1,"count":2}}"#, "best_available.count"),
        ("POST", "/v1/users/anna/wallet/charges", r#"{"amount":1,"amount":1}"#, "amount"),
    ] {
        refused(&server, method, path, body, field).await;
    }
    assert_eq!(server.last_lsn().await, before);
}

#[tokio::test]
async fn all_that_is_out_of_bounds_is_named_at_once() {
    let server = Server::start().await;
    let body = json!({"title": "", "waiting_room": {"max_active": 0, "active_ttl_seconds": 0}});
    let answer = server.post("/v1/concerts", &server.admin, body).await;
    for field in ["title", "waiting_room.max_active", "waiting_room.active_ttl_seconds"] {
        assert!(answer.fields().contains(&field), "{answer:?}");
    }
}

#[tokio::test]
async fn an_empty_operation_takes_an_empty_object_and_nothing_else() {
    let server = Server::start().await;
    let option = server.option(2).await;
    let anna = server.buyer("anna");
    let held = server.hold(&option, &anna, &["S1"]).await;
    for path in [format!("/v1/reservations/{held}/payments"), "/v1/concerts/c1/tokens".to_owned()] {
        let answer = server.post(&path, &anna, json!({"amount": 1})).await;
        assert_eq!((answer.code(), answer.fields()), ((400, "invalid_request"), vec!["amount"]), "{path}");
        let answer = server.post(&path, &anna, json!([])).await;
        assert_eq!((answer.code(), answer.fields()), ((400, "invalid_request"), vec!["body"]), "{path}");
        let request = server.request("POST", &path, &anna).body("x");
        assert_eq!(request.send().await.unwrap().status(), 415, "{path}");
    }
    let nowhere = server.post("/v1/concerts/c9/tokens", &anna, json!([])).await;
    assert_eq!(nowhere.code(), (404, "not_found"));
    let request = server.request("POST", "/v1/concerts/c1/tokens", &anna).header("idempotency-key", "not one");
    assert_eq!(request.json(&json!({})).send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn lists_and_keys_are_checked() {
    let server = Server::start().await;
    for (path, field) in [
        ("/v1/concerts?limit=0", "limit"),
        ("/v1/concerts?limit=501", "limit"),
        ("/v1/concerts?limit=x", "limit"),
        ("/v1/concerts?limit=1&limit=2", "limit"),
        ("/v1/concerts?cursor=!", "cursor"),
        ("/v1/concerts?page=2", "page"),
        ("/v1/reservations?status=lost", "status"),
        ("/v1/reservations?user_id=", "user_id"),
        ("/v1/payments?limit=-1", "limit"),
        ("/v1/payments?cursor=!", "cursor"),
        ("/v1/wallet/entries?limit=1e2", "limit"),
        ("/v1/wallet/entries?cursor=!", "cursor"),
    ] {
        let answer = server.get(path, &server.admin).await;
        assert_eq!((answer.code(), answer.fields()), ((400, "invalid_request"), vec![field]), "{path}");
    }
    let lost = server.get("/v1/reservations?status=lost", &server.admin).await;
    let allowed = "must be one of held, paying, confirmed, released, expired, refunded";
    assert_eq!(lost.body["errors"][0]["message"], allowed, "{}", lost.body);
    for key in ["", "a b", "a\tb", &"x".repeat(256)] {
        let request = server.request("POST", "/v1/concerts", &server.admin).header("idempotency-key", key);
        let answer = request.json(&json!({"title": "x"})).send().await.unwrap();
        let answer = crate::harness::Answer::of(answer).await;
        assert_eq!((answer.status, answer.fields()), (400, vec!["Idempotency-Key"]), "{key:?}");
    }
    assert_eq!(server.get("/v1/concerts", "").await.body["items"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_comes_back_short() {
    let server = Server::start().await;
    let concert = server.post("/v1/concerts", &server.admin, json!({"title": "x"})).await.created();
    let (path, long) = (format!("/v1/concerts/{concert}/options"), "x".repeat(100_000));
    let mut nameless = option_body(2);
    nameless["prices"][&long] = json!(1);
    let mut negative = option_body(2);
    negative["prices"][&long] = json!(-1);
    let (mut quoted, mut unknown) = (option_body(2), option_body(2));
    quoted["hold_seconds"] = json!(long);
    unknown[&long] = json!(1);
    for (body, field) in
        [(nameless, "prices.xxx"), (negative, "prices.xxx"), (quoted, "hold_seconds"), (unknown, "xxx")]
    {
        let answer = server.post(&path, &server.admin, body).await;
        assert_eq!(answer.code(), (400, "invalid_request"));
        assert!(answer.fields()[0].starts_with(field), "{field}: {}", answer.fields()[0]);
        if field == "hold_seconds" {
            let message = answer.body["errors"][0]["message"].as_str().unwrap();
            assert!(message.contains("x\", expected "), "{message}");
        }
        assert!(answer.body.to_string().len() < 4_000, "{field}: {} bytes", answer.body.to_string().len());
    }
}
