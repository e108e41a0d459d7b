//! Another seating plan in the place of an option's while it is sold.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, option_body};
use crate::live;

/// Seats by their guids, each with its category, in one row.
fn plan(seats: &[(&str, &str)]) -> Value {
    let seats = (1..).zip(seats).map(|(n, (guid, category))| {
        json!({"seat_guid": guid, "seat_number": format!("{n}"), "category": category, "position": {"x": 30 * n, "y": 0}})
    });
    json!({"name": "Hall", "categories": [{"name": "A"}, {"name": "B"}],
        "zones": [{"name": "Circle", "rows": [{"row_number": "7", "seats": seats.collect::<Vec<_>>()}]}]})
}

#[tokio::test]
async fn another_plan_is_sold_and_seats_stay_what_they_are() {
    let server = Server::start().await;
    let (option, anna) = (server.option(4).await, server.buyer("anna"));
    server.charge("anna", 1_000).await;
    let path = format!("/v1/options/{option}");
    let put = async |body: Value| server.ask("PUT", &format!("{path}/plan"), &server.admin, body).await;
    let held = server.hold(&option, &anna, &["S1"]).await;
    server.post(&format!("{path}/blocks"), &server.admin, json!({"seats": ["S2", "S3"]})).await;
    let tag = server.get(&format!("{path}/plan"), "").await.header("etag").to_owned();
    let (mut socket, _) = live::open(&server, &format!("{path}/live"), &[]).await.unwrap();
    assert_eq!(live::next(&mut socket).await["seats"], json!({"S1": "held", "S2": "blocked", "S3": "blocked"}));
    let since = server.get(&format!("{path}/seats"), "").await.body["seq"].clone();

    // S3 and S4 go, S1 and S2 change places, and S1 its category; N1 is new.
    let new = plan(&[("S2", "A"), ("S1", "B"), ("N1", "B"), ("X", "")]);
    let refused = put(json!({"seating_plan": new})).await;
    assert_eq!((refused.status, refused.fields()), (400, vec!["prices.B"]), "{refused:?}");
    let changed = put(json!({"seating_plan": new, "prices": {"B": 30}})).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.body, server.get(&path, "").await.body);
    assert_eq!(changed.body["counts"], json!({"available": 1 + 20, "held": 1, "sold": 0, "blocked": 2}));
    let seen = server.get(&format!("{path}/plan"), "").await;
    assert_ne!(seen.header("etag"), tag);
    assert_eq!((&seen.body["zones"], &seen.body["prices"]), (&new["zones"], &json!({"A": 100, "Floor": 10, "B": 30})));
    let seats = server.get(&format!("{path}/seats"), "").await.body;
    assert_eq!(seats["seats"], json!({"S1": "held", "S2": "blocked", "X": "blocked"}));
    // Who looks on begins anew, and so does who comes back with a seq of before.
    let snapshot = live::next(&mut socket).await;
    let expected = json!({"type": "snapshot", "option_id": option, "seq": seats["seq"], "seats": seats["seats"],
        "areas": seats["areas"]});
    assert_eq!(snapshot, expected);
    let (mut other, _) = live::open(&server, &format!("{path}/live?since={since}"), &[]).await.unwrap();
    assert_eq!(live::next(&mut other).await, expected);
    let (mut last, _) = live::open(&server, &format!("{path}/live?since={}", seats["seq"]), &[]).await.unwrap();
    assert_eq!(live::next(&mut last).await["type"], "delta");

    // What was held keeps its price, and says where it is now.
    let seen = server.get(&format!("/v1/reservations/{held}"), &anna).await.body;
    assert_eq!(seen["amount"], 100);
    let seat = &seen["seats"][0];
    assert_eq!(
        (&seat["zone"], &seat["row"], &seat["number"], &seat["category"]),
        (&json!("Circle"), &json!("7"), &json!("2"), &json!("B"))
    );
    let body = json!({"seats": ["N1"]});
    let bought = server.post(&format!("{path}/reservations"), &anna, body).await;
    assert_eq!((bought.status, &bought.body["amount"]), (201, &json!(30)));
    assert_eq!(live::next(&mut socket).await["seats"], json!({"N1": "held"}));
    let gone = server.post(&format!("{path}/reservations"), &anna, json!({"seats": ["S4"]})).await;
    assert_eq!(gone.code(), (422, "unknown_seats"));

    // The same plan again changes nothing.
    let before = server.last_lsn().await;
    assert_eq!(put(json!({"seating_plan": new})).await.status, 200);
    assert_eq!(server.last_lsn().await, before);
    // The first one again: S3 and S4 are back, S3 blocked as it was; what is held of N1 stands against it until it is given up.
    let first = option_body(4)["seating_plan"].clone();
    let refused = put(json!({"seating_plan": first})).await;
    assert_eq!(refused.code(), (409, "seats_in_use"));
    assert_eq!((&refused.body["conflicts"], &refused.body["in_use"]), (&json!(["N1"]), &json!(1)));
    let n1 = bought.body["id"].as_str().unwrap();
    assert_eq!(server.ask("DELETE", &format!("/v1/reservations/{n1}"), &anna, Value::Null).await.status, 200);
    assert_eq!(put(json!({"seating_plan": first})).await.status, 200);
    let map = server.get(&format!("{path}/seats"), "").await.body;
    assert_eq!(map["seats"], json!({"S1": "held", "S2": "blocked", "S3": "blocked"}));
    // What was withdrawn is found where it was sold.
    let list = server.get(&format!("{path}/reservations?seat=N1"), &server.admin).await.body;
    assert_eq!(list["items"][0]["id"], bought.body["id"]);
    assert_eq!(list["items"][0]["seats"][0]["row"], "7");

    let what = async |seat: &str| {
        let told = server.get(&format!("{path}/seats/{seat}/history"), &server.admin).await.body;
        let items: Vec<_> = told["items"].as_array().unwrap().iter().map(|item| item["what"].clone()).collect();
        Value::from(items)
    };
    assert_eq!(what("S3").await, json!(["blocked", "withdrawn", "added"]));
    assert_eq!(what("N1").await, json!(["added", "held", "released", "withdrawn"]));
    assert_eq!(what("S1").await, json!(["held"]));

    let server = server.restart(|_| ()).await;
    assert_eq!(server.get(&format!("{path}/seats"), "").await.body, map);
    server.hold(&option, &anna, &["S4"]).await;
}

#[tokio::test]
async fn what_stands_against_a_plan() {
    let server = Server::with(|settings| {
        settings.limits.option_plans = 3;
        settings.limits.option_seats = 5;
    })
    .await;
    let option = server.option(2).await;
    let path = format!("/v1/options/{option}/plan");
    let put = async |body: Value| server.ask("PUT", &path, &server.admin, body).await;
    let some = || plan(&[("S1", "A"), ("N1", "A")]);
    for (body, field) in [
        (json!({}), "seating_plan"),
        (json!({"seating_plan": null}), "seating_plan"),
        (json!({"seating_plan": some(), "areas": []}), "areas"),
        (json!({"seating_plan": some(), "prices": {"A": -1}}), "prices.A"),
        (
            json!({"seating_plan": plan(&[("S1", "A"), ("S1", "A")])}),
            "seating_plan.zones[0].rows[0].seats[1].seat_guid",
        ),
        (json!({"seating_plan": plan(&[("S1", "Z")])}), "seating_plan.zones[0].rows[0].seats[0].category"),
        (json!({"seating_plan": some(), "accessible": ["Z"]}), "accessible[0]"),
        (json!({"seating_plan": some(), "focus": {"zones": ["Z"]}}), "focus.zones[0]"),
        (json!({"seating_plan": some(), "focus": {"x": 1}}), "focus"),
        (json!({"seating_plan": plan(&[("1", "A"), ("2", "A"), ("3", "A"), ("4", "A")])}), "seating_plan"),
    ] {
        let refused = put(body.clone()).await;
        assert_eq!(refused.status, 400, "{body}: {refused:?}");
        assert!(refused.fields().contains(&field), "{body}: {refused:?}");
    }
    let missing = server.ask("PUT", "/v1/options/o99/plan", &server.admin, json!({"seating_plan": some()})).await;
    assert_eq!(missing.code(), (404, "not_found"));
    // A key stands for one change, also when others have come since.
    let keyed = async |key: &str, body: Value| {
        let request = server.request("PUT", &path, &server.admin).header("Idempotency-Key", key).json(&body);
        Answer::of(request.send().await.unwrap()).await
    };
    let first = option_body(2)["seating_plan"].clone();
    let done = keyed("k1", json!({"seating_plan": some()})).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(keyed("k2", json!({"seating_plan": first})).await.status, 200);
    let again = keyed("k1", json!({"seating_plan": some()})).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"));
    assert_eq!(server.get(&path, "").await.body["zones"], first["zones"]);
    assert_eq!(keyed("k1", json!({"seating_plan": first})).await.code(), (422, "idempotency_key_reused"));
    // That was the third.
    let refused = put(json!({"seating_plan": some()})).await;
    assert_eq!((refused.status, refused.fields()), (400, vec!["seating_plan"]), "{refused:?}");
    let off = server.post(&format!("/v1/options/{option}/cancellation"), &server.admin, json!({})).await;
    assert_eq!(off.status, 202);
    assert_eq!(put(json!({"seating_plan": first})).await.code(), (409, "sale_not_open"));
}

/// What is under way while prices change is decided by those of then, and nobody is asked to come again.
#[tokio::test(flavor = "multi_thread")]
async fn no_hold_is_lost_while_terms_and_plans_change() {
    let server = Server::start().await;
    let option = server.option(40).await;
    let path = format!("/v1/options/{option}");
    let both = [option_body(40)["seating_plan"].clone(), option_body(41)["seating_plan"].clone()];
    let change = async |from: u64| {
        for price in from..from + 40 {
            let changed = server.ask("PATCH", &path, &server.admin, json!({"prices": {"A": price}})).await;
            assert_eq!(changed.status, 200, "{changed:?}");
        }
    };
    let replan = async || {
        // As often as one hold is decided anew, less one.
        for n in 0..7 {
            let body = json!({"seating_plan": both[(n + 1) % 2]});
            let changed = server.ask("PUT", &format!("{path}/plan"), &server.admin, body).await;
            assert_eq!(changed.status, 200, "{changed:?}");
        }
    };
    let hold = async |n: usize| {
        let user = server.buyer(&format!("u{n}"));
        for _ in 0..20 {
            let held = server.post(&format!("{path}/reservations"), &user, json!({"seats": [format!("S{n}")]})).await;
            assert_eq!(held.status, 201, "{held:?}");
            let id = held.body["id"].as_str().unwrap();
            assert_eq!(server.ask("DELETE", &format!("/v1/reservations/{id}"), &user, Value::Null).await.status, 200);
        }
    };
    tokio::join!(change(100), change(200), change(300), replan(), hold(1), hold(2), hold(3));
}

#[tokio::test]
async fn a_plan_can_be_put_where_it_was_got() {
    let server = Server::start().await;
    let option = server.option(4).await;
    let path = format!("/v1/options/{option}");
    let put = async |body: Value| server.ask("PUT", &format!("{path}/plan"), &server.admin, body).await;
    let mut plan = server.get(&format!("{path}/plan"), "").await.body;
    plan["zones"][0]["rows"][0]["seats"].as_array_mut().unwrap().truncate(3);
    plan["prices"]["A"] = json!(70);
    let changed = put(plan.clone()).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!((&changed.body["prices"]["A"], &changed.body["counts"]["available"]), (&json!(70), &json!(3 + 20)));
    assert_eq!(server.get(&format!("{path}/plan"), "").await.body, plan);
    plan["prices"] = json!({"A": -1});
    assert_eq!(put(plan).await.fields(), ["prices.A"]);
    assert_eq!(put(json!({"zones": [], "prices": {}})).await.status, 400);
    assert_eq!(put(json!({"categories": []})).await.fields(), ["categories"]);
}

#[tokio::test]
async fn what_a_key_stands_for_is_told_though_its_seats_are_withdrawn() {
    let server = Server::start().await;
    let (option, anna) = (server.option(6).await, server.buyer("anna"));
    server.charge("anna", 1_000).await;
    let ask = async |path: &str, token: &str, body: &Value| {
        let request = server.request("POST", path, token).header("Idempotency-Key", format!("of-{path}")).json(body);
        Answer::of(request.send().await.unwrap()).await
    };
    let held = server.hold(&option, &anna, &["S1", "S2", "S3"]).await;
    let payment = server.post(&format!("/v1/reservations/{held}/payments"), &anna, json!({})).await.created();
    let calls = [
        (format!("/v1/reservations/{held}/exchanges"), &*anna, json!({"give": ["S1"], "take": ["S4"]})),
        (format!("/v1/payments/{payment}/refunds"), &server.admin, json!({"seats": ["S2"]})),
        (format!("/v1/options/{option}/blocks"), &server.admin, json!({"seats": ["S5"]})),
    ];
    for (path, token, body) in &calls {
        let answer = ask(path, token, body).await;
        assert!([200, 201].contains(&answer.status), "{path}: {answer:?}");
    }
    let plan = json!({"seating_plan": plan(&[("S3", "A"), ("S4", "A"), ("S6", "A")])});
    assert_eq!(server.ask("PUT", &format!("/v1/options/{option}/plan"), &server.admin, plan).await.status, 200);
    for (path, token, body) in &calls {
        let again = ask(path, token, body).await;
        assert_eq!((again.header("idempotent-replayed"), again.status / 100), ("true", 2), "{path}: {again:?}");
        // Without a key it is refused.
        let refused = server.post(path, token, body.clone()).await;
        assert!([400, 409, 422].contains(&refused.status), "{path}: {refused:?}");
    }
    let unknown = json!({"seats": ["S1", "S3"]});
    let refused = server.post(&format!("/v1/options/{option}/reservations"), &anna, unknown).await;
    assert_eq!((refused.code(), &refused.body["seats"]), ((422, "unknown_seats"), &json!(["S1"])));
}
