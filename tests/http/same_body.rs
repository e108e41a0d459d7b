//! Which bodies are the same to an idempotency key: those that are the same JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::{Answer, Server, option_body};

async fn keyed(server: &Server, path: &str, token: &str, key: &str, body: Option<&str>) -> Answer {
    let request = server.request("POST", path, token).header("idempotency-key", key);
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_owned()),
        None => request,
    };
    Answer::of(request.send().await.unwrap()).await
}

/// `value` with its members the other way round, and with white space and escapes wherever there may be some.
fn odd(value: &Value) -> String {
    let mut text = String::from(" \n");
    match value {
        Value::Object(members) => {
            text.push('{');
            for (n, (name, value)) in members.iter().rev().enumerate() {
                let comma = if n == 0 { "" } else { "\t,\r\n" };
                write!(text, "{comma}{} : {}", escaped(name), odd(value)).unwrap();
            }
            text.push('}');
        }
        Value::Array(items) => write!(text, "[ {} ]", items.iter().map(odd).collect::<Vec<_>>().join(" , ")).unwrap(),
        Value::String(string) => text.push_str(&escaped(string)),
        other => write!(text, "{other}").unwrap(),
    }
    text + "\n "
}

/// A string of which every character is an escape.
fn escaped(string: &str) -> String {
    let units = string.encode_utf16().fold(String::new(), |text, unit| format!("{text}\\u{unit:04X}"));
    format!("\"{units}\"")
}

#[tokio::test]
async fn it_is_the_value_that_counts_on_every_route() {
    let server = Server::start().await;
    let option = server.option(8).await;
    let (admin, anna) = (server.admin.clone(), server.buyer("anna"));
    let charge = json!({"amount": 500});
    let mut plan = option_body(3);
    plan["seating_plan"]["zones"][0]["rows"][0]["seats"][2]["position"]["x"] = json!(90.5);
    let mut other_plan = plan.clone();
    other_plan["seating_plan"]["zones"][0]["rows"][0]["seats"][2]["position"]["x"] = json!(90.25);
    for (path, token, body, other) in [
        (
            "/v1/concerts",
            &admin,
            json!({"title": "É 🎭 \"x\"", "waiting_room": {"mode": "open", "max_active": 7}}),
            json!({"title": "É 🎭 \"x\"", "waiting_room": {"mode": "open", "max_active": 8}}),
        ),
        ("/v1/concerts/c1/options", &admin, plan, other_plan),
        (
            &format!("/v1/options/{option}/blocks"),
            &admin,
            json!({"seats": ["S8", "S7"]}),
            json!({"seats": ["S7", "S8"]}),
        ),
        (&format!("/v1/options/{option}/unblocks"), &admin, json!({"seats": ["S8"]}), json!({"seats": ["S7"]})),
        ("/v1/users/anna/wallet/charges", &admin, charge, json!({"amount": 501})),
        (
            &format!("/v1/options/{option}/reservations"),
            &anna,
            json!({"best_available": {"count": 2, "category": "A", "adjacent": true}}),
            json!({"best_available": {"count": 2, "category": "A"}}),
        ),
    ] {
        let first = keyed(&server, path, token, "key", Some(&body.to_string())).await;
        assert!(first.status < 300 && first.header("idempotent-replayed").is_empty(), "{path}: {first:?}");
        let lsn = server.last_lsn().await;
        let pretty = serde_json::to_string_pretty(&body).unwrap();
        for same in [body.to_string(), pretty, odd(&body)] {
            let again = keyed(&server, path, token, "key", Some(&same)).await;
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}: {same}");
            assert_eq!(again.header("idempotent-replayed"), "true", "{path}: {same}");
        }
        for other in [other.to_string(), odd(&other)] {
            let reused = keyed(&server, path, token, "key", Some(&other)).await;
            assert_eq!(reused.code(), (422, "idempotency_key_reused"), "{path}: {other}");
        }
        assert_eq!(server.last_lsn().await, lsn, "{path}");
    }
}

/// A route that has nothing to be told takes `{}`, or nothing: that is the same.
#[tokio::test]
async fn no_body_and_an_empty_object_are_the_same() {
    let server = Server::start().await;
    let option = server.option(8).await;
    let anna = server.buyer("anna");
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1"]).await;
    let pay = format!("/v1/reservations/{held}/payments");
    let paid = keyed(&server, &pay, &anna, "key", None).await.created();
    for body in [Some("{}"), Some(" { } "), Some(""), None] {
        let again = keyed(&server, &pay, &anna, "key", body).await;
        assert_eq!((again.status, again.body["id"].as_str()), (201, Some(&*paid)), "{body:?}");
    }
    let refund = format!("/v1/payments/{paid}/refunds");
    for body in [Some(""), Some("{\n}"), None] {
        assert_eq!(keyed(&server, &refund, &server.admin, "key", body).await.status, 201, "{body:?}");
    }
    for body in ["null", "[]", "0", r#"{"x":1}"#, "{} {}"] {
        for path in [&pay, &refund] {
            let wrong = keyed(&server, path, &anna, "key", Some(body)).await;
            assert_eq!(wrong.code(), (400, "invalid_request"), "{path} {body}: before keys are looked at");
        }
    }
    // Where something is to be told, nothing is not it.
    for path in ["/v1/concerts", "/v1/users/anna/wallet/charges", "/v1/concerts/c1/options"] {
        for body in [None, Some("")] {
            let wrong = keyed(&server, path, &server.admin, "key", body).await;
            assert_eq!((wrong.code(), wrong.fields()), ((400, "invalid_request"), vec!["body"]), "{path} {body:?}");
        }
    }
}
