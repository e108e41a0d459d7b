//! What has happened stays to be seen: payments, entries and steps, through restarts and without sled's files.

use std::collections::BTreeSet;
use std::path::Path;

use boxoffice::Timestamp;
use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::failpoints::{Action, Failpoints, Step};
use serde_json::{Value, json};

use crate::harness::{Server, option_body};
use crate::receiver;

/// The beginning of the stories, long ago.
const START: Timestamp = Timestamp::from_millis(1_000_000_000_000);
/// A payment's time, as it is unless an option says otherwise.
const PAYMENT_MS: u64 = 60_000;

async fn server() -> (Server, ManualClock, Failpoints) {
    let (clock, failpoints) = (ManualClock::at(START), Failpoints::default());
    (Server::start_failing(&clock, &failpoints).await, clock, failpoints)
}

fn delete_state(data_dir: &Path) {
    std::fs::remove_dir_all(data_dir.join("state")).unwrap();
}

/// Asks for `path` until `wanted` is in the answer; gives that.
async fn until(server: &Server, path: &str, token: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    receiver::until(async || server.get(path, token).await.body, wanted).await
}

/// What `paths` are answered with, byte for byte.
async fn bytes(server: &Server, paths: &[String], token: &str) -> Vec<String> {
    let mut answers = Vec::new();
    for path in paths {
        let answer = server.request("GET", path, token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answers.push(answer.text().await.unwrap());
    }
    answers
}

/// A list, taken one item at a time.
async fn one_by_one(server: &Server, path: &str, token: &str) -> Vec<Value> {
    let (mut items, mut next) = (Vec::new(), format!("{path}?limit=1"));
    loop {
        let page = server.get(&next, token).await.body;
        let [item] = &page["items"].as_array().unwrap()[..] else { panic!("{page}") };
        items.push(item.clone());
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("{path}?limit=1&cursor={cursor}"),
            None => return items,
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().unwrap()
}

#[tokio::test]
async fn payments_and_entries_are_kept_as_they_were() {
    let (server, clock, failpoints) = server().await;
    let anna = server.buyer("anna");
    let option = server.option(4).await;
    let (payments, entries) = ("/v1/payments", "/v1/wallet/entries");
    let pay = |reservation: &str| format!("/v1/reservations/{reservation}/payments");

    // Not enough; then enough.
    server.charge("anna", 150).await;
    let held = server.hold(&option, &anna, &["S1", "S2"]).await;
    clock.advance(1);
    assert_eq!(server.post(&pay(&held), &anna, json!({})).await.code(), (402, "insufficient_points"));
    let refused = server.get(payments, &anna).await.body;
    assert_eq!(server.get(entries, &anna).await.body["items"].as_array().unwrap().len(), 1, "nothing was taken");
    clock.advance(1);
    server.charge("anna", 300).await;
    clock.advance(1);
    let paid = server.post(&pay(&held), &anna, json!({})).await.created();
    let before_refund = server.get(entries, &anna).await.body;
    // Given back.
    clock.advance(1);
    let refund = server.post(&format!("/v1/payments/{paid}/refunds"), &server.admin, json!({})).await.created();
    // And one that the wallet never hears of until it is called off.
    let held = server.hold(&option, &anna, &["S3"]).await;
    failpoints.arm(Step::Debit, Action::Lose, usize::MAX);
    let path = pay(&held);
    let late = async {
        until(&server, payments, &anna, |list| items(list)[0]["status"] == "pending").await;
        clock.advance(PAYMENT_MS);
    };
    let (timed_out, ()) = tokio::join!(server.post(&path, &anna, json!({})), late);
    assert_eq!(timed_out.code(), (503, "overloaded"));
    failpoints.disarm(Step::Debit);

    let list = server.get(payments, &anna).await.body;
    let statuses: Vec<_> = items(&list).iter().map(|payment| payment["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["failed", "refunded", "failed"]);
    assert_eq!(items(&list)[1]["id"], paid);
    assert_eq!(items(&list)[2], items(&refused)[0], "the refused attempt stays as it was");
    for failed in [&items(&list)[0], &items(&list)[2]] {
        assert!(failed["balance"].is_null() && failed["paid_at"].is_null(), "{failed}");
    }
    let list = server.get(entries, &anna).await.body;
    let seen: Vec<_> = items(&list)
        .iter()
        .map(|entry| (entry["kind"].as_str().unwrap(), entry["amount"].as_u64(), entry["balance"].as_u64()))
        .collect();
    let expected = [
        ("credit", Some(200), Some(450)),
        ("debit", Some(200), Some(250)),
        ("charge", Some(300), Some(450)),
        ("charge", Some(150), Some(150)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(items(&list)[0]["reference"], refund);
    assert_eq!(items(&list)[1]["reference"], paid);
    assert_eq!(items(&list)[1..], *items(&before_refund), "a refund edits nothing away");

    let mut paths = vec![payments.to_owned(), entries.to_owned(), "/v1/wallet".to_owned()];
    for payment in items(&server.get(payments, &anna).await.body) {
        paths.push(format!("/v1/payments/{}", payment["id"].as_str().unwrap()));
    }
    let before = bytes(&server, &paths, &anna).await;
    let mut server = server;
    for meanwhile in [|_: &Path| (), delete_state] {
        server = server.restart(meanwhile).await;
        assert_eq!(bytes(&server, &paths, &anna).await, before);
        for path in [payments, entries] {
            let list = server.get(path, &anna).await.body;
            assert_eq!(one_by_one(&server, path, &anna).await, items(&list), "{path}");
        }
    }
}

/// The names of a reservation's steps.
fn names(reservation: &Value) -> Vec<&str> {
    let steps = reservation["steps"].as_array().unwrap();
    steps.iter().map(|step| step["step"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_admin_sees_every_step_of_a_reservation_and_a_buyer_none() {
    let (server, clock, _) = server().await;
    let (anna, admin) = (server.buyer("anna"), server.admin.clone());
    let concert = json!({"title": "Queued", "waiting_room": {"mode": "queue"}});
    let concert = server.post("/v1/concerts", &admin, concert).await.created();
    let option = server.post(&format!("/v1/concerts/{concert}/options"), &admin, option_body(4)).await.created();
    let token = server.post(&format!("/v1/concerts/{concert}/tokens"), &anna, Value::Null).await.created();
    let active = until(&server, &format!("/v1/tokens/{token}"), &anna, |token| token["status"] == "active").await;
    let mut held = Vec::new();
    for seat in ["S1", "S2", "S3"] {
        clock.advance(1);
        let request = server.request("POST", &format!("/v1/options/{option}/reservations"), &anna);
        let request = request.header("Queue-Token", active["token"].as_str().unwrap());
        let answer = request.json(&json!({"seats": [seat]})).send().await.unwrap();
        held.push(crate::harness::Answer::of(answer).await.created());
    }
    let [bought, released, expired] = [0, 1, 2].map(|n| format!("/v1/reservations/{}", held[n]));
    clock.advance(1);
    assert_eq!(server.post(&format!("{bought}/payments"), &anna, json!({})).await.status, 402);
    server.charge("anna", 100).await;
    clock.advance(1);
    let payment = server.post(&format!("{bought}/payments"), &anna, json!({})).await.created();
    until(&server, &bought, &admin, |seen| names(seen).contains(&"token_completed")).await;
    clock.advance(1);
    server.post(&format!("/v1/payments/{payment}/refunds"), &admin, json!({})).await.created();
    assert_eq!(server.ask("DELETE", &released, &anna, Value::Null).await.status, 200);
    clock.advance(300_000);
    until(&server, &expired, &admin, |seen| seen["status"] == "expired").await;

    let paths = [bought, released, expired];
    let mut seen = Vec::new();
    for path in &paths {
        seen.push(server.get(path, &admin).await.body);
    }
    let way = [
        ("held", 1),
        ("payment_started", 4),
        ("payment_failed", 4),
        ("payment_started", 5),
        ("payment_confirmed", 5),
        ("token_completed", 5),
        ("refund_started", 6),
        ("refund_credited", 6),
    ];
    assert_eq!(names(&seen[0]), way.map(|(name, _)| name));
    for (step, (_, millis)) in seen[0]["steps"].as_array().unwrap().iter().zip(way) {
        assert_eq!(step["at"], START.plus_millis(millis).to_string(), "{step}");
    }
    assert_eq!(names(&seen[1]), ["held", "released"]);
    assert_eq!(names(&seen[2]), ["held", "expired"]);
    for reservation in &seen {
        let lsns: Vec<_> = reservation["steps"].as_array().unwrap().iter().map(|step| step["lsn"].as_u64()).collect();
        assert!(lsns.is_sorted_by(|a, b| a < b), "{reservation}");
    }
    let all: BTreeSet<_> = seen.iter().flat_map(names).collect();
    assert_eq!(all.len(), 9, "every kind of step is among them: {all:?}");

    let before = bytes(&server, &paths, &admin).await;
    let mut server = server;
    for meanwhile in [|_: &Path| (), delete_state] {
        for path in &paths {
            let own = server.get(path, &anna).await;
            assert_eq!((own.status, own.body.get("steps")), (200, None), "{path}");
            assert_eq!(server.get(path, &server.buyer("ben")).await.status, 404, "{path}");
        }
        let list = server.get("/v1/reservations", &anna).await.body;
        assert!(items(&list).iter().all(|one| one.get("steps").is_none()), "{list}");
        server = server.restart(meanwhile).await;
        assert_eq!(bytes(&server, &paths, &admin).await, before);
    }
}
