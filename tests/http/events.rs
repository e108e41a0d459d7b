//! Events, fetched: pages that follow each other, and a wait that ends when something happens.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::Server;

/// Longer than any test takes, so that whoever waits for it to pass would be noticed.
const PATIENCE: Duration = Duration::from_secs(30);

/// All events, in pages.
async fn all(server: &Server, limit: usize) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/events?limit={limit}{after}"), &server.admin).await;
        assert_eq!((page.status, page.header("cache-control")), (200, "no-store"), "{page:?}");
        let items = page.body["items"].as_array().unwrap();
        let next_after = page.body["next_after"].as_str();
        if items.is_empty() {
            let repeated = next_after.map_or_else(String::new, |id| format!("&after={id}"));
            assert_eq!(repeated, after);
            return events;
        }
        assert!(items.len() <= limit);
        assert_eq!(next_after, items.last().unwrap()["id"].as_str());
        after = format!("&after={}", next_after.unwrap());
        events.extend(items.iter().cloned());
    }
}

#[tokio::test]
async fn pages_follow_each_other_oldest_first() {
    // With fewer readers kept than there are, and with none.
    for kept_polls in [16, 1, 0] {
        let server = Server::with(|settings| settings.http.kept_polls = kept_polls).await;
        let empty = server.get("/v1/events", &server.admin).await;
        assert_eq!((empty.status, empty.body), (200, json!({"items": [], "next_after": null})));
        let option = server.option(4).await;
        let anna = server.buyer("anna");
        server.charge("anna", 100).await;
        let held = server.hold(&option, &anna, &["S1"]).await;
        let reservation = server.get(&format!("/v1/reservations/{held}"), &anna).await.body;
        let payment = server.post(&format!("/v1/reservations/{held}/payments"), &anna, json!({})).await;
        let events = all(&server, 500).await;
        let told: Vec<_> = events.iter().map(|event| (event["type"].as_str().unwrap(), &event["data"])).collect();
        let confirmed = server.get(&format!("/v1/reservations/{held}"), &anna).await.body;
        let entries = server.get("/v1/wallet/entries", &anna).await.body;
        let expected = [
            ("boxoffice.wallet.charged", &entries["items"][1]),
            ("boxoffice.reservation.created", &reservation),
            ("boxoffice.reservation.confirmed", &confirmed),
            ("boxoffice.payment.completed", &payment.body),
        ];
        assert_eq!(told, expected);
        for limit in [1, 3] {
            assert_eq!(all(&server, limit).await, events);
        }
        for place in 0..events.len() {
            let after = events[place]["id"].as_str().unwrap();
            let page = server.get(&format!("/v1/events?after={after}"), &server.admin).await.body;
            assert_eq!(page["items"].as_array().unwrap(), &events[place + 1..], "after {after}");
        }
    }
}

#[tokio::test]
async fn what_is_not_an_event_is_refused() {
    let server = Server::start().await;
    server.charge("anna", 1).await;
    let last = server.get("/v1/events", &server.admin).await.body["next_after"].as_str().unwrap().to_owned();
    let lsn: u64 = last.split('-').nth(1).unwrap().parse().unwrap();
    for (query, field) in [
        ("after=".to_owned(), "after"),
        ("after=1".to_owned(), "after"),
        (format!("after=1-{lsn}-0"), "after"),
        (format!("after=0-0{lsn}-0"), "after"),
        (format!("after=0-{}-0", lsn + 1), "after"),
        ("limit=0".to_owned(), "limit"),
        ("limit=501".to_owned(), "limit"),
        ("wait_seconds=61".to_owned(), "wait_seconds"),
        ("wait_seconds=-1".to_owned(), "wait_seconds"),
        ("cursor=1".to_owned(), "cursor"),
    ] {
        let answer = server.get(&format!("/v1/events?{query}"), &server.admin).await;
        assert_eq!((answer.status, answer.fields()), (400, vec![field]), "{query}: {answer:?}");
    }
    let answer = server.get(&format!("/v1/events?after={last}&limit=500&wait_seconds=0"), &server.admin).await;
    assert_eq!(answer.body, json!({"items": [], "next_after": last}));
}

#[tokio::test]
async fn a_wait_ends_with_the_next_event() {
    let server = Server::with(|settings| settings.actors.arbiters = 1).await;
    server.charge("anna", 1).await;
    let page = server.get("/v1/events", &server.admin).await.body;
    let after = page["next_after"].as_str().unwrap();
    let path = format!("/v1/events?after={after}&wait_seconds=60");
    // More of them than there are threads, and each on its own connection.
    let polls: Vec<_> = (0..20)
        .map(|_| {
            let request = server.request("GET", &path, &server.admin);
            tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
        })
        .collect();
    // What is no event wakes nobody.
    server.post("/v1/concerts", &server.admin, json!({"title": "A Concert"})).await.created();
    let short = server.get(&format!("/v1/events?after={after}&wait_seconds=1"), &server.admin).await.body;
    assert_eq!(short, json!({"items": [], "next_after": after}));
    assert!(polls.iter().all(|poll| !poll.is_finished()));
    server.charge("berta", 2).await;
    for poll in polls {
        let page = tokio::time::timeout(PATIENCE, poll).await.expect("it ends at once").unwrap();
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
        assert_eq!(page["items"][0]["subject"], "berta");
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_server() {
    let mut server = Server::with(|settings| settings.http.shutdown_timeout = "60s".parse().unwrap()).await;
    // Two requests in one piece: when the first is answered, the second has come as well.
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let alive = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let poll =
        format!("GET /v1/events?wait_seconds=60 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", server.admin);
    connection.write_all(format!("{alive}{poll}").as_bytes()).await.unwrap();
    read_until(&mut connection, r#"{"status":"alive"}"#).await;
    server.stop();
    let page = read_until(&mut connection, r#"{"items":[],"next_after":null}"#);
    tokio::time::timeout(PATIENCE, page).await.expect("it ends at once");
}

/// Reads until `end` has come.
async fn read_until(connection: &mut TcpStream, end: &str) {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut bytes = [0; 1024];
        let read = connection.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "no {end} at the end of {text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
}
