//! Orders that change: parts, exchanges, transfers, and what a box office may do.

use boxoffice::server::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, STARTS_AT, Server, option_body};
use crate::money;
use crate::orders::with_role;

/// Rows of ten seats of the categories A (100) and B (40), a floor (10); refunds until it begins.
async fn house(server: &Server) -> String {
    let mut body = option_body(10);
    let cheap: Vec<_> = (1..=10)
        .map(|n| {
            json!({"seat_guid": format!("B{n}"), "seat_number": n.to_string(), "category": "B",
                "position": {"x": 30 * n, "y": 30}})
        })
        .collect();
    body["seating_plan"]["categories"] = json!([{"name": "A"}, {"name": "B"}]);
    body["seating_plan"]["zones"][0]["rows"].as_array_mut().unwrap().push(json!({"row_number": "2", "seats": cheap}));
    body["prices"]["B"] = json!(40);
    body["refundable_until"] = STARTS_AT.into();
    let concert = server.concert().await;
    server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await.created()
}

async fn paid(server: &Server, option: &str, token: &str, seats: &[&str]) -> (String, String) {
    let held = server.hold(option, token, seats).await;
    let payment = server.post(&format!("/v1/reservations/{held}/payments"), token, Value::Null).await.created();
    (held, payment)
}

async fn balance(server: &Server, token: &str) -> Value {
    server.get("/v1/wallet", token).await.body["balance"].clone()
}

async fn map(server: &Server, option: &str) -> Value {
    server.get(&format!("/v1/options/{option}/seats"), "").await.body["seats"].clone()
}

fn seats(answer: &Answer) -> Vec<(&str, u64)> {
    let seats = answer.body["seats"].as_array().unwrap();
    seats.iter().map(|seat| (seat["id"].as_str().unwrap(), seat["price"].as_u64().unwrap())).collect()
}

/// A POST with this key.
async fn keyed(server: &Server, path: &str, token: &str, key: &str, body: Value) -> Answer {
    let request = server.request("POST", path, token).header("idempotency-key", key).json(&body);
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_part_is_given_up_or_given_back() {
    let server = Server::start().await;
    let (option, anna) = (house(&server).await, server.buyer("anna"));
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1", "S2", "B1"]).await;
    let releases = format!("/v1/reservations/{held}/releases");
    let left = keyed(&server, &releases, &anna, "r", json!({"seats": ["S2"]})).await;
    assert_eq!((left.status, left.body["amount"].as_u64()), (200, Some(140)));
    assert_eq!((seats(&left), left.body["status"].as_str()), (vec![("S1", 100), ("B1", 40)], Some("held")));
    for (body, code) in [
        (json!({"seats": ["S2"]}), (400, "invalid_request")),
        (json!({"seats": ["nowhere"]}), (422, "unknown_seats")),
        (json!({}), (400, "invalid_request")),
        (json!({"seats": ["S1"], "more": 1}), (400, "invalid_request")),
        (json!({"areas": [{"name": "Floor", "count": 1}]}), (400, "invalid_request")),
    ] {
        assert_eq!(server.post(&releases, &anna, body.clone()).await.code(), code, "{body}");
    }
    let payment = server.post(&format!("/v1/reservations/{held}/payments"), &anna, Value::Null).await.created();
    assert_eq!(balance(&server, &anna).await, 860);
    assert_eq!(server.post(&releases, &anna, json!({"seats": ["S1"]})).await.code(), (409, "reservation_not_held"));
    // What was answered is answered again, whatever has become of it.
    let again = keyed(&server, &releases, &anna, "r", json!({"seats": ["S2"]})).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &left.body));

    let refunds = format!("/v1/payments/{payment}/refunds");
    let back = server.post(&refunds, &anna, json!({"seats": ["B1"]})).await;
    assert_eq!((back.status, &back.body["amount"], &back.body["balance"]), (201, &json!(40), &json!(900)));
    let seen = server.get(&format!("/v1/payments/{payment}"), &anna).await.body;
    assert_eq!((&seen["status"], &seen["amount"], &seen["refunded"]), (&json!("completed"), &json!(140), &json!(40)));
    assert_eq!(server.post(&refunds, &anna, json!({"seats": ["B1"]})).await.code(), (400, "invalid_request"));
    assert_eq!(map(&server, &option).await, json!({"S1": "sold"}));
    // The rest as a whole.
    let rest = server.post(&refunds, &anna, json!({})).await;
    assert_eq!((rest.status, &rest.body["amount"]), (201, &json!(100)));
    assert_eq!(balance(&server, &anna).await, 1_000);
    assert_eq!(server.post(&refunds, &anna, json!({})).await.code(), (409, "not_refundable"));
    assert_eq!(server.get(&format!("/v1/payments/{payment}"), &anna).await.body["status"], "refunded");
    // A hold of which all is given up is released.
    let held = server.hold(&option, &anna, &["S5"]).await;
    let gone = server.post(&format!("/v1/reservations/{held}/releases"), &anna, json!({"seats": ["S5"]})).await;
    assert_eq!((gone.status, &gone.body["status"]), (200, &json!("released")));
}

#[tokio::test]
async fn seats_are_exchanged() {
    let server = Server::start().await;
    let (option, anna) = (house(&server).await, server.buyer("anna"));
    server.charge("anna", 200).await;
    let hold = format!("/v1/options/{option}/reservations");
    let first = keyed(&server, &hold, &anna, "h", json!({"seats": ["B1", "S1"]})).await;
    let held = first.created();
    let payment = server.post(&format!("/v1/reservations/{held}/payments"), &anna, Value::Null).await.created();
    let exchanges = format!("/v1/reservations/{held}/exchanges");
    // For as much, for more, and for less.
    let same = server.post(&exchanges, &anna, json!({"give": ["S1"], "take": ["S2"]})).await;
    assert_eq!((same.status, seats(&same)), (201, vec![("B1", 40), ("S2", 100)]));
    let more = keyed(&server, &exchanges, &anna, "x", json!({"give": ["B1"], "take": ["S1"]})).await;
    assert_eq!((more.status, seats(&more)), (201, vec![("S2", 100), ("S1", 100)]));
    assert_eq!(balance(&server, &anna).await, 0);
    let seen = server.get(&format!("/v1/payments/{payment}"), &anna).await.body;
    assert_eq!((&seen["amount"], seen.get("refunded")), (&json!(200), None));
    let less = server.post(&exchanges, &anna, json!({"give": ["S1"], "take": ["B7"]})).await;
    assert_eq!((less.status, seats(&less)), (201, vec![("S2", 100), ("B7", 40)]));
    assert_eq!(map(&server, &option).await, json!({"S2": "sold", "B7": "sold"}));
    // It is on its way; until it is there, nothing else begins.
    while balance(&server, &anna).await != 60 {}
    for (body, code) in [
        (json!({"give": ["S2"], "take": ["S3", "S4"]}), (400, "invalid_request")),
        (json!({"give": ["S2"], "take": ["B7"]}), (409, "seats_unavailable")),
        (json!({"give": ["S3"], "take": ["S4"]}), (400, "invalid_request")),
        (json!({"give": ["S2"], "take": ["S99"]}), (422, "unknown_seats")),
        (json!({"take": ["S4"]}), (400, "invalid_request")),
    ] {
        let answer = server.post(&exchanges, &anna, body.clone()).await;
        assert_eq!(answer.code(), code, "{body}: {answer:?}");
    }
    // Both answers are as they were given, and so is the first event.
    let again = keyed(&server, &exchanges, &anna, "x", json!({"give": ["B1"], "take": ["S1"]})).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &more.body));
    let again = keyed(&server, &hold, &anna, "h", json!({"seats": ["B1", "S1"]})).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &first.body));
    let events = server.get("/v1/events?limit=500", &server.admin).await.body["items"].clone();
    let created = events.as_array().unwrap().iter().find(|event| event["subject"] == held.as_str()).unwrap();
    assert_eq!((&created["type"], &created["data"]), (&json!("boxoffice.reservation.created"), &first.body));
}

#[tokio::test]
async fn what_cannot_be_paid_changes_nothing() {
    let server = Server::start().await;
    let (option, poor) = (house(&server).await, server.buyer("poor"));
    server.charge("poor", 50).await;
    let (held, _) = paid(&server, &option, &poor, &["B7"]).await;
    let exchanges = format!("/v1/reservations/{held}/exchanges");
    let refused = server.post(&exchanges, &poor, json!({"give": ["B7"], "take": ["S9"]})).await;
    assert_eq!(refused.code(), (402, "insufficient_points"));
    assert_eq!((&refused.body["balance"], &refused.body["amount"]), (&json!(10), &json!(60)));
    assert_eq!(map(&server, &option).await, json!({"B7": "sold"}));
    let seen = server.get(&format!("/v1/reservations/{held}"), &poor).await;
    assert_eq!((seats(&seen), balance(&server, &poor).await), (vec![("B7", 40)], json!(10)));
    let other = server.buyer("other");
    let theirs = server.post(&exchanges, &other, json!({"give": ["B7"], "take": ["B8"]})).await;
    assert_eq!(theirs.code(), (404, "not_found"));
}

#[tokio::test]
async fn an_order_is_handed_on() {
    let server = Server::start().await;
    let (option, anna, bob) = (house(&server).await, server.buyer("anna"), server.buyer("bob"));
    server.charge("anna", 100).await;
    let (held, payment) = paid(&server, &option, &anna, &["S1"]).await;
    let transfers = format!("/v1/reservations/{held}/transfers");
    assert_eq!(server.post(&transfers, &anna, json!({"to": "anna"})).await.code(), (400, "invalid_request"));
    let at_once = json!({"to": "bob", "accept": true});
    assert_eq!(server.post(&transfers, &anna, at_once.clone()).await.code(), (403, "forbidden"));
    assert_eq!(server.post(&transfers, &bob, at_once.clone()).await.code(), (404, "not_found"));
    let first = server.post(&transfers, &anna, json!({"to": "bob"})).await.created();
    let place = format!("/v1/transfers/{first}");
    assert_eq!(server.ask("DELETE", &place, &bob, Value::Null).await.code(), (404, "not_found"));
    assert_eq!(server.ask("DELETE", &place, &anna, Value::Null).await.status, 204);
    assert_eq!(server.post(&format!("{place}/accept"), &bob, json!({})).await.code(), (404, "not_found"));
    let offer = server.post(&transfers, &anna, json!({"to": "bob"})).await.created();
    let accept = format!("/v1/transfers/{offer}/accept");
    let theirs = keyed(&server, &accept, &bob, "a", json!({})).await;
    assert_eq!((theirs.status, &theirs.body["user_id"]), (200, &json!("bob")));
    let again = keyed(&server, &accept, &bob, "a", json!({})).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &theirs.body));
    // It is bob's, and anna sees nothing of it.
    let place = format!("/v1/reservations/{held}");
    assert_eq!(server.get(&place, &anna).await.code(), (404, "not_found"));
    assert_eq!(server.get("/v1/reservations", &anna).await.body["items"], json!([]));
    assert_eq!(server.get("/v1/reservations", &bob).await.body["items"][0]["id"], held.as_str());
    let refunds = format!("/v1/payments/{payment}/refunds");
    assert_eq!(server.post(&refunds, &anna, json!({})).await.code(), (409, "not_refundable"));
    assert_eq!(server.post(&refunds, &bob, json!({})).await.code(), (404, "not_found"));
    // On at once, and money goes back to who paid.
    let on = server.post(&transfers, &server.admin, json!({"to": "carl", "accept": true})).await;
    assert_eq!((on.status, &on.body["user_id"]), (200, &json!("carl")));
    assert_eq!(server.post(&refunds, &server.admin, json!({})).await.status, 201);
    assert_eq!((balance(&server, &anna).await, balance(&server, &bob).await), (json!(100), json!(0)));
}

#[tokio::test]
async fn a_box_office_holds_for_others() {
    let server = Server::start().await;
    let (option, anna) = (house(&server).await, server.buyer("anna"));
    let hold = format!("/v1/options/{option}/reservations");
    for body in [
        json!({"seats": ["S1"], "user_id": "anna"}),
        json!({"seats": ["S1"], "complimentary": true}),
        json!({"seats": ["S1"], "beyond_limits": true}),
        json!({"seats": ["S1"], "from_blocked": true}),
    ] {
        assert_eq!(server.post(&hold, &anna, body.clone()).await.code(), (403, "forbidden"), "{body}");
    }
    let wrong = json!({"best_available": {"count": 2}, "from_blocked": true});
    assert_eq!(server.post(&hold, &server.admin, wrong).await.code(), (400, "invalid_request"));
    let nine: Vec<_> = (1..=9).map(|n| format!("S{n}")).collect();
    let mut many = json!({"seats": nine, "user_id": "anna"});
    assert_eq!(server.post(&hold, &server.admin, many.clone()).await.code(), (409, "limit_exceeded"));
    many["beyond_limits"] = json!(true);
    let held = server.post(&hold, &server.admin, many).await;
    assert_eq!((held.status, &held.body["user_id"], &held.body["amount"]), (201, &json!("anna"), &json!(900)));
    // It is hers, with another end.
    let place = format!("/v1/reservations/{}", held.created());
    assert_eq!(server.get(&place, &anna).await.status, 200);
    let until = json!({"expires_at": STARTS_AT});
    assert_eq!(server.ask("PATCH", &place, &anna, until.clone()).await.code(), (403, "forbidden"));
    assert_eq!(server.ask("PATCH", &place, &server.admin, until).await.status, 200);
    assert_eq!(server.get(&place, &anna).await.body["expires_at"], STARTS_AT);
    let past = json!({"expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(server.ask("PATCH", &place, &server.admin, past).await.code(), (400, "invalid_request"));
    // Given away, out of what is blocked, and back again.
    let block = json!({"seats": ["B1"]});
    server.post(&format!("/v1/options/{option}/blocks"), &server.admin, block).await;
    let free = json!({"seats": ["B1"], "user_id": "bob", "complimentary": true, "from_blocked": true});
    let given = keyed(&server, &hold, &server.admin, "c", free.clone()).await;
    assert_eq!((given.status, &given.body["status"], &given.body["amount"]), (201, &json!("confirmed"), &json!(0)));
    let again = keyed(&server, &hold, &server.admin, "c", free).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &given.body));
    let payments = server.get("/v1/payments", &server.buyer("bob")).await.body["items"].clone();
    let free = (&payments[0]["amount"], &payments[0]["status"], &payments[0]["balance"]);
    assert_eq!(free, (&json!(0), &json!("completed"), &Value::Null));
    let refunds = format!("/v1/payments/{}/refunds", payments[0]["id"].as_str().unwrap());
    assert_eq!(server.post(&refunds, &server.admin, json!({})).await.status, 201);
    assert_eq!(map(&server, &option).await["B1"], "blocked");
}

/// What has happened to a seat: what, who and why.
async fn history(server: &Server, path: &str) -> Vec<(String, Option<String>, Option<String>)> {
    let answer = server.get(path, &server.admin).await;
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let items = answer.body["items"].as_array().unwrap_or_else(|| panic!("{answer:?}")).iter();
    items.map(|item| (text(&item["what"]).unwrap(), text(&item["who"]), text(&item["why"]))).collect()
}

#[tokio::test]
async fn each_change_is_told_of_the_seats_that_it_is_about() {
    let server = Server::start().await;
    let (option, anna, bob) = (house(&server).await, server.buyer("anna"), server.buyer("bob"));
    let till = with_role(&server, "till", Role::BoxOffice);
    server.charge("anna", 280).await;
    let hold = format!("/v1/options/{option}/reservations");
    let held = server.post(&hold, &till, json!({"seats": ["B1", "B2", "B3", "S1"], "user_id": "anna"})).await.created();
    let of = |what: &str| format!("/v1/reservations/{held}/{what}");
    let until = json!({"expires_at": STARTS_AT});
    assert_eq!(server.ask("PATCH", &format!("/v1/reservations/{held}"), &server.admin, until).await.status, 200);
    assert_eq!(server.post(&of("releases"), &anna, json!({"seats": ["B3"]})).await.status, 200);
    let payment = server.post(&of("payments"), &anna, Value::Null).await.created();
    let part = json!({"seats": ["B2"]});
    assert_eq!(server.post(&format!("/v1/payments/{payment}/refunds"), &anna, part).await.status, 201);
    let dearer = json!({"give": ["B1"], "take": ["S2"]});
    assert_eq!(server.post(&of("exchanges"), &anna, dearer).await.status, 201);
    let as_dear = json!({"give": ["S2"], "take": ["S9"]});
    assert_eq!(server.post(&of("exchanges"), &anna, as_dear).await.status, 201);
    let offer = server.post(&of("transfers"), &anna, json!({"to": "carl"})).await.created();
    assert_eq!(server.ask("DELETE", &format!("/v1/transfers/{offer}"), &anna, Value::Null).await.status, 204);
    let offer = server.post(&of("transfers"), &anna, json!({"to": "bob"})).await.created();
    assert_eq!(server.post(&format!("/v1/transfers/{offer}/accept"), &bob, json!({})).await.status, 200);
    assert_eq!(server.post(&of("transfers"), &till, json!({"to": "carl", "accept": true})).await.status, 200);
    assert_eq!(server.post(&format!("/v1/payments/{payment}/refunds"), &server.admin, json!({})).await.status, 201);

    let of_seat = async |seat: &str| history(&server, &format!("/v1/options/{option}/seats/{seat}/history")).await;
    let told = |rows: &[(&str, &str)]| -> Vec<_> {
        let who = |who: &str| Some(who.to_owned()).filter(|who| !who.is_empty());
        rows.iter().map(|&(what, by)| (what.to_owned(), who(by), None)).collect()
    };
    let begun = [("held", "till"), ("hold_changed", "root")];
    let paid = [("payment_started", "anna"), ("payment_confirmed", "")];
    let back = [("refund_started", "anna"), ("refund_credited", "")];
    let ended = [("refund_started", "root"), ("refund_credited", "")];
    let on = [
        ("offered", "anna"),
        ("offer_withdrawn", "anna"),
        ("offered", "anna"),
        ("handed_on", "bob"),
        ("handed_on", "till"),
    ];
    assert_eq!(of_seat("B3").await, told(&[&begun[..], &[("released", "anna")]].concat()));
    assert_eq!(of_seat("B2").await, told(&[&begun[..], &paid, &back].concat()));
    let given = [("exchange_started", "anna"), ("given_in_exchange", "anna")];
    assert_eq!(of_seat("B1").await, told(&[&begun[..], &paid, &given].concat()));
    let taken = [("exchange_started", "anna"), ("taken_in_exchange", "anna")];
    assert_eq!(of_seat("S2").await, told(&[&taken[..], &[("given_in_exchange", "anna")]].concat()));
    assert_eq!(of_seat("S9").await, told(&[&[("taken_in_exchange", "anna")][..], &on, &ended].concat()));
    assert_eq!(of_seat("S1").await, told(&[&begun[..], &paid, &on, &ended].concat()));
    // Of the wallet: what was paid and came back is of the same order, whoever asked for it.
    let entries = server.get("/v1/users/anna/wallet/history", &server.admin).await.body["items"].clone();
    let entries: Vec<_> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["what"].as_str().unwrap(), item["who"].as_str().unwrap(), item["reservation_id"].as_str()))
        .collect();
    let of_it = Some(&*held);
    assert_eq!(
        entries,
        [
            ("charge", "root", None),
            ("debit", "anna", of_it),
            ("credit", "anna", of_it),
            ("debit", "anna", of_it),
            ("credit", "root", of_it)
        ]
    );
}

#[tokio::test]
async fn an_exchange_that_fails_is_told_of_its_seats_only() {
    let server = Server::start().await;
    let (option, anna) = (house(&server).await, server.buyer("anna"));
    server.charge("anna", 80).await;
    let (held, _) = paid(&server, &option, &anna, &["B1", "B2"]).await;
    let dear = json!({"give": ["B1"], "take": ["S1"]});
    assert_eq!(server.post(&format!("/v1/reservations/{held}/exchanges"), &anna, dear).await.status, 402);
    let of_seat = async |seat: &str| history(&server, &format!("/v1/options/{option}/seats/{seat}/history")).await;
    let failed = [
        ("exchange_started".to_owned(), Some("anna".to_owned()), None),
        ("exchange_failed".to_owned(), None, Some("insufficient_points".to_owned())),
    ];
    assert_eq!(of_seat("S1").await, failed);
    assert_eq!(of_seat("B1").await[3..], failed);
    assert_eq!(of_seat("B2").await.len(), 3);
}

#[tokio::test]
async fn what_was_paid_by_card_is_told_of_the_seat_that_it_came_to() {
    let server = money::server().await;
    let (option, anna) = (money::option(&server, 2).await, server.buyer("anna"));
    let (held, payment) = money::pending(&server, &option, &anna, "S1").await;
    money::told(&server, &payment, "captured", "ch-1").await;
    let swap = json!({"give": ["S1"], "take": ["S2"]});
    assert_eq!(server.post(&format!("/v1/reservations/{held}/exchanges"), &anna, swap).await.status, 201);
    let told = history(&server, &format!("/v1/options/{option}/seats/S2/history")).await;
    assert_eq!(told, [("taken_in_exchange".to_owned(), Some("anna".to_owned()), None)]);
}
