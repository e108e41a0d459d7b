//! What is sold changes: prices, times and limits of an option; and performances that are called off.

use serde_json::{Value, json};

use crate::harness::{Answer, STARTS_AT, Server};
use crate::money;

async fn cancellation(server: &Server, option: &str) -> Answer {
    server.get(&format!("/v1/options/{option}/cancellation"), &server.admin).await
}

/// Waits until it is this far: done, total, owed.
async fn until(server: &Server, option: &str, expected: [u64; 3]) -> Value {
    loop {
        let answer = cancellation(server, option).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let is = ["done", "total", "owed"].map(|name| answer.body[name].as_u64().unwrap());
        if is == expected {
            return answer.body;
        }
    }
}

async fn balance(server: &Server, token: &str) -> Value {
    server.get("/v1/wallet", token).await.body["balance"].clone()
}

async fn pay(server: &Server, held: &str, token: &str) -> Answer {
    server.post(&format!("/v1/reservations/{held}/payments"), token, Value::Null).await
}

#[tokio::test]
async fn a_performance_is_called_off() {
    let server = money::server().await;
    let option = money::option(&server, 9).await;
    let [anna, bob, carl, dora] = ["anna", "bob", "carl", "dora"].map(|name| server.buyer(name));
    server.charge("anna", 1_000).await;
    // Anna pays and hands on to Bob; Carl has paid by card, and is paying; Dora holds, and has tickets for nothing.
    let annas = server.hold(&option, &anna, &["S1", "S2"]).await;
    let payment = pay(&server, &annas, &anna).await.created();
    let hand_on = json!({"to": "bob", "accept": true});
    let handed_on = server.post(&format!("/v1/reservations/{annas}/transfers"), &server.admin, hand_on).await;
    assert_eq!(handed_on.status, 200, "{handed_on:?}");
    let (_, by_card) = money::pending(&server, &option, &carl, "S3").await;
    let captured = json!({"kind": "captured", "reference": "a", "amount": 100});
    assert_eq!(money::fact(&server, &by_card, captured).await.status, 200);
    let (carls, paying) = money::pending(&server, &option, &carl, "S4").await;
    let doras = server.hold(&option, &dora, &["S5"]).await;
    let free = json!({"seats": ["S6"], "user_id": "dora", "complimentary": true});
    let free = server.post(&format!("/v1/options/{option}/reservations"), &server.admin, free).await.created();

    let path = format!("/v1/options/{option}/cancellation");
    assert_eq!(cancellation(&server, &option).await.code(), (404, "not_found"));
    for (body, field) in
        [(json!({"reason": ""}), "reason"), (json!({"reason": 1}), "reason"), (json!({"why": "x"}), "why")]
    {
        let refused = server.post(&path, &server.admin, body.clone()).await;
        assert_eq!((refused.status, refused.fields()), (400, vec![field]), "{body}");
    }
    assert_eq!(server.post("/v1/options/o99/cancellation", &server.admin, json!({})).await.status, 404);
    let call_off = async |server: &Server| {
        let request = server.request("POST", &path, &server.admin).header("idempotency-key", "off");
        Answer::of(request.json(&json!({"reason": "The singer is ill."})).send().await.unwrap()).await
    };
    let told = call_off(&server).await;
    assert_eq!((&told.body["done"], &told.body["total"]), (&json!(0), &json!(4)), "what there was to do");
    assert_eq!((told.status, told.header("location")), (202, &*path), "{told:?}");
    let again = server.post(&path, &server.admin, json!({"reason": "Another."})).await;
    assert_eq!((again.status, &again.body["reason"]), (202, &json!("The singer is ill.")));
    assert_eq!(again.body["cancelled_at"], told.body["cancelled_at"]);

    // Three were paid, of which only the card's has to be given back by somebody else; nor has it said what became of Carl's other.
    until(&server, &option, [3, 3, 2]).await;
    assert_eq!((balance(&server, &anna).await, balance(&server, &bob).await), (json!(1_000), json!(0)));
    let seen = server.get(&format!("/v1/options/{option}"), "").await.body;
    assert_eq!(
        (&seen["status"], &seen["counts"]["sold"], &seen["counts"]["held"]),
        (&json!("cancelled"), &json!(0), &json!(0))
    );
    let map = server.get(&format!("/v1/options/{option}/seats"), "").await.body;
    assert_eq!(map["seats"], json!({}));
    let status = async |kind: &str, id: &str| {
        server.get(&format!("/v1/{kind}/{id}"), &server.admin).await.body["status"].clone()
    };
    for (kind, id, expected) in [
        ("reservations", &annas, "refunded"),
        ("reservations", &free, "refunded"),
        ("reservations", &doras, "released"),
        ("reservations", &carls, "released"),
        ("payments", &payment, "refunded"),
        ("payments", &by_card, "refund_owed"),
        ("payments", &paying, "voiding"),
    ] {
        assert_eq!(status(kind, id).await, expected, "{kind} {id}");
    }
    // Nothing more is sold, and what comes after all is owed back.
    let hold = server.post(&format!("/v1/options/{option}/reservations"), &anna, json!({"seats": ["S9"]})).await;
    assert_eq!(hold.code(), (409, "sale_not_open"));
    let offer = server.post(&format!("/v1/reservations/{annas}/transfers"), &bob, json!({"to": "anna"})).await;
    assert_eq!(offer.code(), (409, "reservation_not_confirmed"));
    assert_eq!(pay(&server, &doras, &dora).await.code(), (409, "reservation_not_held"));
    let captured = json!({"kind": "captured", "reference": "b", "amount": 100});
    let late = money::fact(&server, &paying, captured).await;
    assert_eq!((&late.body["status"], &late.body["verdict"]), (&json!("refund_owed"), &json!("refund")));
    until(&server, &option, [3, 3, 2]).await;
    for (payment, reference) in [(&by_card, "a"), (&paying, "b")] {
        let refunded = json!({"kind": "refunded", "reference": reference, "amount": 100});
        assert_eq!(money::fact(&server, payment, refunded).await.body["status"], "refunded");
    }
    let done = until(&server, &option, [3, 3, 0]).await;

    // Those who listen hear what they hear of any refund.
    let events = server.get("/v1/events?limit=500", &server.admin).await.body["items"].clone();
    let of = |kind: &str| {
        let all = events.as_array().unwrap().iter().filter(|event| event["type"] == format!("boxoffice.{kind}"));
        all.map(|event| event["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("reservation.released"), [carls, doras]);
    assert_eq!(of("reservation.refunded").len(), 3);
    assert!(of("reservation.refunded").contains(&annas) && of("payment.refunded").contains(&annas));
    let history = server.get(&format!("/v1/options/{option}/seats/S1/history"), &server.admin).await.body;
    let items: Vec<_> = (history["items"].as_array().unwrap().iter())
        .filter(|item| item["who"] == "root")
        .map(|item| (item["what"].as_str().unwrap(), item["why"].clone()))
        .collect();
    let why = json!("The singer is ill.");
    assert_eq!(items, [("handed_on", Value::Null), ("cancelled", why), ("refund_started", Value::Null)]);

    let history = server.get(&format!("/v1/options/{option}/seats/S4/history"), &server.admin).await.body;
    let items = history["items"].as_array().unwrap().iter();
    let last: Vec<_> = items.map(|item| (item["what"].clone(), item["who"].clone(), item["why"].clone())).collect();
    let by_root = |what: &str, why: Value| (json!(what), json!("root"), why);
    assert_eq!(
        last[last.len() - 2..],
        [by_root("payment_failed", json!("cancelled")), by_root("released", Value::Null)]
    );

    let server = server.restart(|_| ()).await;
    assert_eq!(cancellation(&server, &option).await.body, done);
    let replayed = call_off(&server).await;
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (202, "true"));
    assert_eq!(replayed.body, told.body, "what was told then");
    assert_eq!(server.get(&format!("/v1/options/{option}"), "").await.body["status"], "cancelled");
    // It can still be moved, and is cancelled all the same.
    let path = format!("/v1/options/{option}");
    let moved = server.ask("PATCH", &path, &server.admin, json!({"sale_closes_at": STARTS_AT})).await;
    assert_eq!(moved.body["status"], "cancelled");
}

#[tokio::test]
async fn what_is_sold_changes_for_holds_from_then_on() {
    let server = Server::start().await;
    let (option, anna) = (server.option(4).await, server.buyer("anna"));
    server.charge("anna", 1_000).await;
    let path = format!("/v1/options/{option}");
    let patch = async |body: Value| server.ask("PATCH", &path, &server.admin, body).await;
    let plan = async || server.get(&format!("{path}/plan"), "").await;
    let (first, tag) = (plan().await.body["prices"].clone(), plan().await.header("etag").to_owned());
    assert_eq!(first, json!({"A": 100, "Floor": 10}));
    let held = server.hold(&option, &anna, &["S1"]).await;
    let floor =
        server.post(&format!("{path}/reservations"), &anna, json!({"areas": [{"name": "Floor", "count": 3}]})).await;
    let floor = floor.created();

    let later = "2099-11-21T19:30:00.000Z";
    let areas = json!([{"name": "Floor", "capacity": 3}, {"name": "Lawn", "capacity": 5, "category": "Lawn"}]);
    let body = json!({"prices": {"A": 70, "Lawn": 5}, "starts_at": later, "hold_seconds": 60, "max_seats_per_user": 9,
        "areas": areas});
    let changed = patch(body.clone()).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let seen = server.get(&path, "").await.body;
    assert_eq!(seen, changed.body);
    assert_eq!(seen["prices"], json!({"A": 70, "Floor": 10, "Lawn": 5}));
    // The sale closed when it started, and still does.
    assert_eq!((&seen["starts_at"], &seen["sale_closes_at"]), (&json!(later), &json!(later)));
    assert_eq!((&seen["hold_seconds"], &seen["max_seats_per_user"]), (&json!(60), &json!(9)));
    assert_eq!(seen["counts"], json!({"available": 3 + 5, "held": 4, "sold": 0, "blocked": 0}));
    let map = server.get(&format!("{path}/seats"), "").await.body;
    let expected = json!({"Floor": {"capacity": 3, "available": 0}, "Lawn": {"capacity": 5, "available": 5}});
    assert_eq!(map["areas"], expected);
    // Whoever keeps the plan hears of it.
    let again = plan().await;
    assert_ne!(again.header("etag"), tag);
    assert_eq!((again.header("cache-control"), &again.body["prices"]["A"]), ("no-cache", &json!(70)));
    // Once more changes nothing.
    let before = server.last_lsn().await;
    assert_eq!(patch(body).await.body, seen);
    assert_eq!(server.last_lsn().await, before);

    // What was held before costs what it cost, and what is held then costs what it costs.
    let amount = async |held: &str| server.get(&format!("/v1/reservations/{held}"), &anna).await.body["amount"].clone();
    assert_eq!((amount(&held).await, amount(&floor).await), (json!(100), json!(30)));
    pay(&server, &held, &anna).await.created();
    assert_eq!(balance(&server, &anna).await, 900);
    let seat = server.hold(&option, &anna, &["S2"]).await;
    let lawn =
        server.post(&format!("{path}/reservations"), &anna, json!({"areas": [{"name": "Lawn", "count": 2}]})).await;
    assert_eq!((amount(&seat).await, &lawn.body["amount"]), (json!(70), &json!(10)));

    for (body, field) in [
        (json!({"areas": [{"name": "Floor", "capacity": 0}]}), "areas[0].capacity"),
        (json!({"areas": [{"name": "Floor", "category": "A"}]}), "areas[0].category"),
        (json!({"areas": [{"name": "Bar", "category": "A"}]}), "areas[0].capacity"),
        (json!({"areas": [{"name": "Bar", "capacity": 1, "category": "Z"}]}), "areas[2].category"),
        (json!({"areas": [{"name": "Floor"}, {"name": "Floor"}]}), "areas[1].name"),
        (json!({"hold_seconds": 0}), "hold_seconds"),
        (json!({"hold_seconds": null}), "hold_seconds"),
        (json!({"prices": {"A": -1}}), "prices.A"),
        (json!({"prices": {"A": 9_007_199_254_740_991_u64}}), "prices"),
        (json!({"seating_plan": {}}), "seating_plan"),
    ] {
        let refused = patch(body.clone()).await;
        assert_eq!((refused.status, refused.fields()), (400, vec![field]), "{body}: {refused:?}");
    }
    let refused = patch(json!({"areas": [{"name": "Lawn", "capacity": 1}]})).await;
    assert_eq!(refused.code(), (409, "capacity_in_use"));
    assert_eq!((&refused.body["area"], &refused.body["in_use"]), (&json!("Lawn"), &json!(2)));
    assert_eq!(server.get(&path, "").await.body["areas"], seen["areas"]);

    let server = server.restart(|_| ()).await;
    let after = server.get(&path, "").await.body;
    assert_eq!((&after["prices"], &after["areas"]), (&seen["prices"], &seen["areas"]));
    server.hold(&option, &anna, &["S3"]).await;
}
