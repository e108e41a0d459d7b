//! Options and concerts of which nothing was ever held are deleted, and are gone for everybody.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, option_body};
use crate::live;

async fn delete(server: &Server, path: &str) -> Answer {
    server.ask("DELETE", path, &server.admin, Value::Null).await
}

/// A concert with two options, and their paths.
async fn concert(server: &Server) -> (String, [String; 2]) {
    let concert = format!("/v1/concerts/{}", server.concert().await);
    let mut options = [String::new(), String::new()];
    for option in &mut options {
        let added = server.post(&format!("{concert}/options"), &server.admin, option_body(3)).await;
        *option = format!("/v1/options/{}", added.created());
    }
    (concert, options)
}

#[tokio::test]
async fn an_option_that_nobody_ever_held_is_deleted() {
    let server = Server::start().await;
    let (concert, [option, other]) = concert(&server).await;
    let blocked = server.post(&format!("{option}/blocks"), &server.admin, json!({"seats": ["S1"]})).await;
    assert_eq!(blocked.status, 200);
    let seen = server.get(&format!("{option}/seats"), "").await.header("etag").to_owned();
    let (mut socket, _) = live::open(&server, &format!("{option}/live"), &[]).await.unwrap();
    assert_eq!(live::next(&mut socket).await["type"], "snapshot");

    let deleted = delete(&server, &option).await;
    assert_eq!((deleted.status, deleted.body), (204, json!("")));
    // Who follows it is not told that the server stops.
    assert_eq!(live::closed(&mut socket).await, 1000);
    let anna = server.buyer("anna");
    for (method, path, token, body) in [
        ("DELETE", option.clone(), &server.admin, Value::Null),
        ("GET", option.clone(), &anna, Value::Null),
        ("PATCH", option.clone(), &server.admin, json!({"hold_seconds": 3})),
        ("GET", format!("{option}/plan"), &anna, Value::Null),
        ("GET", format!("{option}/seats"), &anna, Value::Null),
        ("GET", format!("{option}/reservations"), &server.admin, Value::Null),
        ("GET", format!("{option}/seats/S1/history"), &server.admin, Value::Null),
        ("GET", format!("{option}/cancellation"), &server.admin, Value::Null),
        ("POST", format!("{option}/cancellation"), &server.admin, json!({})),
        ("POST", format!("{option}/blocks"), &server.admin, json!({"seats": ["S1"]})),
        ("POST", format!("{option}/reservations"), &anna, json!({"seats": ["S2"]})),
    ] {
        let answer = server.ask(method, &path, token, body).await;
        assert_eq!(answer.code(), (404, "not_found"), "{method} {path}: {answer:?}");
    }
    let kept = server.request("GET", &format!("{option}/seats"), "").header("if-none-match", seen);
    assert_eq!(Answer::of(kept.send().await.unwrap()).await.status, 404);
    assert_eq!(live::open(&server, &format!("{option}/live"), &[]).await.unwrap_err().0, 404);
    let other_id = other.trim_start_matches("/v1/options/").to_owned();
    let listed = async |server: &Server| server.get(&concert, "").await.body["options"].clone();
    assert_eq!(listed(&server).await, json!([other_id]));

    // It stays so, and nothing is due or owed.
    let before = server.last_lsn().await;
    let server = server.restart(|_| ()).await;
    assert_eq!(server.last_lsn().await, before);
    assert_eq!((server.get(&option, "").await.status, listed(&server).await), (404, json!([other_id])));
    // Its number is not given again.
    let added = server.post(&format!("{concert}/options"), &server.admin, option_body(3)).await.created();
    assert!(![option, other].contains(&format!("/v1/options/{added}")), "{added}");
}

#[tokio::test]
async fn what_was_ever_held_stays() {
    let server = Server::start().await;
    let (concert, [untouched, option]) = concert(&server).await;
    let anna = server.buyer("anna");
    let held = server.post(&format!("{option}/reservations"), &anna, json!({"seats": ["S1"]})).await.created();
    for path in [&option, &concert] {
        assert_eq!(delete(&server, path).await.code(), (409, "was_held"));
    }
    let released = server.ask("DELETE", &format!("/v1/reservations/{held}"), &anna, Value::Null).await;
    assert_eq!(released.status, 200);
    let before = server.last_lsn().await;
    for path in [&option, &concert] {
        assert_eq!(delete(&server, path).await.code(), (409, "was_held"));
        assert_eq!(delete(&server, &format!("{path}9")).await.code(), (404, "not_found"));
    }
    assert_eq!(server.last_lsn().await, before, "nothing was deleted, not even what could be");
    assert_eq!(server.get(&untouched, "").await.status, 200);
}

#[tokio::test]
async fn a_concert_is_deleted_with_its_options_and_its_line() {
    let server = Server::start().await;
    let (concert, options) = concert(&server).await;
    let anna = server.buyer("anna");
    let token = server.post(&format!("{concert}/tokens"), &anna, Value::Null).await.created();
    let token = format!("/v1/tokens/{token}");
    let bearer = format!("bearer, {anna}");
    let socket = live::open(&server, &format!("{token}/live"), &[("sec-websocket-protocol", &bearer)]).await;
    let (mut socket, _) = socket.unwrap();
    live::next(&mut socket).await;
    let named = server.request("POST", "/v1/concerts", &server.admin).header("idempotency-key", "x");
    let named = Answer::of(named.json(&json!({"title": "x"})).send().await.unwrap()).await.created();

    for path in [&concert, &format!("/v1/concerts/{named}")] {
        assert_eq!(delete(&server, path).await.status, 204);
        assert_eq!(delete(&server, path).await.code(), (404, "not_found"));
    }
    assert_eq!(live::closed(&mut socket).await, 1000);
    let gone = async |server: &Server| {
        for (method, path, token, body) in [
            ("GET", concert.clone(), &anna, Value::Null),
            ("PATCH", concert.clone(), &server.admin, json!({"title": "y"})),
            ("GET", format!("{concert}/waiting-room"), &server.admin, Value::Null),
            ("PATCH", format!("{concert}/waiting-room"), &server.admin, json!({"max_active": 2})),
            ("POST", format!("{concert}/tokens"), &anna, Value::Null),
            ("POST", format!("{concert}/options"), &server.admin, option_body(1)),
            ("GET", token.clone(), &anna, Value::Null),
            ("DELETE", token.clone(), &anna, Value::Null),
            ("GET", options[0].clone(), &anna, Value::Null),
            ("GET", options[1].clone(), &anna, Value::Null),
        ] {
            let answer = server.ask(method, &path, token, body).await;
            assert_eq!(answer.code(), (404, "not_found"), "{method} {path}: {answer:?}");
        }
        assert_eq!(server.get("/v1/concerts", &server.admin).await.body["items"], json!([]));
        // What the key made is not there any more; nothing is made again.
        let again = server.request("POST", "/v1/concerts", &server.admin).header("idempotency-key", "x");
        let again = Answer::of(again.json(&json!({"title": "x"})).send().await.unwrap()).await;
        assert_eq!(again.code(), (404, "not_found"));
    };
    gone(&server).await;
    let server = server.restart(|_| ()).await;
    gone(&server).await;
    // What is deleted makes room for others.
    assert_eq!(server.concert().await, "c3");
}

#[tokio::test]
async fn deleted_concerts_count_no_more() {
    let server = Server::with(|settings| settings.limits.catalogue_entries = 3).await;
    for _ in 0..3 {
        let (concert, [option, _]) = concert(&server).await;
        let full = server.post("/v1/concerts", &server.admin, json!({"title": "x"})).await;
        assert_eq!(full.code(), (409, "limit_exceeded"));
        for path in [&option, &concert] {
            assert_eq!(delete(&server, path).await.status, 204);
        }
    }
}
