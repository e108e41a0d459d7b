//! What those who run a sale see and do beside an admin.

use std::time::Duration;

use boxoffice::server::auth::{self, Role};
use serde_json::{Value, json};

use crate::harness::{Answer, STARTS_AT, Server, option_body};
use crate::money;

/// A token of somebody with a role.
pub fn with_role(server: &Server, user: &str, role: Role) -> String {
    auth::issue(&server.settings, &user.parse().unwrap(), Some(role), Duration::from_secs(600)).unwrap()
}

#[actix_web::test]
async fn the_box_office_takes_for_others_what_is_reported_only() {
    let server = money::server().await;
    let (anna, seller) = (server.buyer("anna"), with_role(&server, "till-1", Role::BoxOffice));
    let option = money::option(&server, 3).await;
    let held = server.hold(&option, &anna, &["S1"]).await;
    let path = format!("/v1/reservations/{held}/payments");
    for body in [Value::Null, json!({}), json!({"method": "points"}), json!({"method": "cheque"})] {
        let points = server.post(&path, &seller, body.clone()).await;
        assert_eq!(points.code(), (403, "forbidden"), "{body}: {points:?}");
    }
    let off = server.post(&path, &seller, json!({"method": "off"})).await;
    assert_eq!(off.code(), (400, "invalid_request"), "{off:?}");
    let begun = server.post(&path, &seller, json!({"method": "card"})).await;
    assert_eq!((begun.status, &begun.body["user_id"]), (201, &json!("anna")), "{begun:?}");
    // An admin may, too; and neither takes anything out of a wallet that is not theirs.
    let other = server.hold(&option, &anna, &["S2"]).await;
    let path = format!("/v1/reservations/{other}/payments");
    assert_eq!(server.post(&path, &server.admin, json!({})).await.status, 404);
    let begun = server.post(&path, &server.admin, json!({"method": "card"})).await;
    assert_eq!((begun.status, &begun.body["user_id"]), (201, &json!("anna")), "{begun:?}");
    let own = server.hold(&option, &seller, &["S3"]).await;
    let nobody = server.post(&format!("/v1/reservations/{own}0/payments"), &seller, json!({"method": "card"})).await;
    assert_eq!(nobody.status, 404, "{nobody:?}");
}

/// The ids of a list.
fn ids(answer: &Answer) -> Vec<String> {
    let items = answer.body["items"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// All items of a list, by pages of so many.
async fn all_pages(server: &Server, path: &str, token: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let page = server.get(&format!("{path}{separator}limit={limit}{cursor}"), token).await;
        assert_eq!(page.status, 200, "{page:?}");
        items.extend(page.body["items"].as_array().unwrap().iter().cloned());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// The lines of a list as CSV, as cells by their heading.
async fn csv(server: &Server, path: &str, token: &str) -> (Vec<String>, Vec<csv::StringRecord>) {
    let answer = server.request("GET", path, token).header("accept", "text/csv").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    assert_eq!(
        (&answer.headers()["vary"], &answer.headers()["cache-control"]),
        (&"accept".parse().unwrap(), &"no-store".parse().unwrap())
    );
    let text = answer.text().await.unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headings = reader.headers().unwrap().iter().map(str::to_owned).collect();
    (headings, reader.records().map(Result::unwrap).collect())
}

/// An option with six seats and an area, and what has become of five reservations on it, newest first.
async fn sold(server: &Server) -> (String, Vec<String>) {
    let (anna, ben) = (server.buyer("anna"), server.buyer("=ben"));
    server.charge("anna", 1_000).await;
    let concert = server.concert().await;
    let mut body = option_body(6);
    body["areas"] = json!([{"name": "Lawn", "capacity": 10, "category": "Floor"}]);
    body["refundable_until"] = STARTS_AT.into();
    let option = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await.created();
    let path = format!("/v1/options/{option}/reservations");
    let hold = async |token: &str, wish: Value| server.post(&path, token, wish).await.created();
    let released = hold(&anna, json!({"seats": ["S1"]})).await;
    server.ask("DELETE", &format!("/v1/reservations/{released}"), &server.admin, Value::Null).await;
    let refunded = hold(&anna, json!({"seats": ["S1", "S2"], "reference": "order 7"})).await;
    let payment = server.post(&format!("/v1/reservations/{refunded}/payments"), &anna, json!({})).await.created();
    server.post(&format!("/v1/payments/{payment}/refunds"), &anna, json!({})).await.created();
    let confirmed =
        hold(&anna, json!({"seats": ["S1"], "reference": "+1", "data": {"till": 1, "of": ["a", null]}})).await;
    server.post(&format!("/v1/reservations/{confirmed}/payments"), &anna, json!({})).await.created();
    let held = hold(&ben, json!({"seats": ["S2", "S3"], "reference": "order 7"})).await;
    let places = hold(&anna, json!({"areas": [{"name": "Lawn", "count": 3}]})).await;
    (option, vec![places, held, confirmed, refunded, released])
}

#[actix_web::test]
async fn who_sits_where_is_listed_by_all_that_is_asked() {
    let server = Server::start().await;
    let (option, made) = sold(&server).await;
    let [places, held, confirmed, refunded, released] = &made[..] else { panic!("{made:?}") };
    let path = format!("/v1/options/{option}/reservations");
    let viewer = with_role(&server, "eve", Role::Viewer);
    for (query, expected) in [
        ("", made.iter().collect::<Vec<_>>()),
        ("?status=held", vec![places, held]),
        ("?status=refunded", vec![refunded]),
        ("?seat=S1", vec![confirmed, refunded, released]),
        ("?seat=S3", vec![held]),
        ("?seat=S1&status=confirmed", vec![confirmed]),
        ("?user_id=%3Dben", vec![held]),
        ("?reference=order+7", vec![held, refunded]),
        ("?reference=order+7&user_id=anna", vec![refunded]),
        ("?reference=", vec![]),
        ("?user_id=nobody", vec![]),
    ] {
        let listed = server.get(&format!("{path}{query}"), &viewer).await;
        assert_eq!(ids(&listed).iter().collect::<Vec<_>>(), expected, "{query}: {listed:?}");
        assert_eq!(listed.body["next_cursor"], Value::Null, "{query}");
        for limit in 1..4 {
            let paged = all_pages(&server, &format!("{path}{query}"), &viewer, limit).await;
            assert_eq!(paged, *listed.body["items"].as_array().unwrap(), "{query} by {limit}");
        }
    }
    for (query, refused) in [
        ("?status=sold", (400, "invalid_request")),
        ("?seat=S7", (422, "unknown_seats")),
        ("?user_id=", (400, "invalid_request")),
        ("?limit=0", (400, "invalid_request")),
        ("?cursor=x", (400, "invalid_request")),
        ("?owner=anna", (400, "invalid_request")),
    ] {
        assert_eq!(server.get(&format!("{path}{query}"), &viewer).await.code(), refused, "{query}");
    }
    assert_eq!(server.get("/v1/options/o99/reservations?status=sold", &viewer).await.code(), (404, "not_found"));
    // What was given with a hold comes back everywhere, and only there.
    let anna = server.buyer("anna");
    let read = server.get(&format!("/v1/reservations/{confirmed}"), &anna).await.body;
    assert_eq!((&read["reference"], &read["data"]), (&json!("+1"), &json!({"till": 1, "of": ["a", null]})));
    let paid = server.get(&format!("/v1/payments/{}", read["payment_id"].as_str().unwrap()), &anna).await.body;
    assert_eq!((&paid["reservation_id"], &paid["status"]), (&json!(confirmed), &json!("completed")));
    let bare = server.get(&format!("/v1/reservations/{places}"), &anna).await.body;
    assert!(["payment_id", "reference", "data"].iter().all(|name| bare.get(name).is_none()), "{bare}");
    let events = server.get("/v1/events?limit=500", &server.admin).await;
    let of = |kind: &str| {
        let events = events.body["items"].as_array().unwrap();
        events.iter().rfind(|event| event["type"] == kind && event["subject"] == json!(confirmed)).unwrap()["data"]
            .clone()
    };
    assert_eq!(of("boxoffice.reservation.confirmed"), read);
    let created = of("boxoffice.reservation.created");
    assert_eq!((&created["reference"], created.get("payment_id")), (&json!("+1"), None), "{created}");
}

#[actix_web::test]
async fn notes_are_bounded_and_a_part_of_what_a_key_is_good_for() {
    let server = Server::start().await;
    let (option, anna) = (server.option(4).await, server.buyer("anna"));
    let path = format!("/v1/options/{option}/reservations");
    let of = |bytes: usize| "x".repeat(bytes - 8);
    for (note, field) in [
        (json!({"reference": "x".repeat(201)}), "reference"),
        (json!({"reference": 7}), "reference"),
        (json!({"reference": null}), "reference"),
        (json!({"data": []}), "data"),
        (json!({"data": "{}"}), "data"),
        (json!({"data": null}), "data"),
        (json!({"data": {"a": of(2_049)}}), "data"),
        (json!({"remark": "x"}), "remark"),
    ] {
        let mut body = json!({"seats": ["S1"]});
        body.as_object_mut().unwrap().extend(note.as_object().unwrap().clone());
        let refused = server.post(&path, &anna, body).await;
        assert_eq!((refused.code(), refused.fields()), ((400, "invalid_request"), vec![field]), "{note}");
    }
    let hold = async |reference: &str| {
        let body = json!({"seats": ["S1"], "reference": reference, "data": {"a": of(2_048)}});
        let request = server.request("POST", &path, &anna).header("idempotency-key", "k1");
        Answer::of(request.json(&body).send().await.unwrap()).await
    };
    let reference = "ö".repeat(200);
    let (first, again) = (hold(&reference).await, hold(&reference).await);
    assert_eq!((first.status, &first.body["reference"]), (201, &json!(reference)), "{first:?}");
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&first.body, "true"));
    assert_eq!(hold("another").await.code(), (422, "idempotency_key_reused"));
    // And a restart later.
    let server = server.restart(|_| ()).await;
    let read = server.get(&format!("/v1/reservations/{}", first.body["id"].as_str().unwrap()), &anna).await;
    assert_eq!(read.body, first.body);
}

#[actix_web::test]
async fn a_list_as_csv_has_a_line_a_place_and_nothing_that_a_spreadsheet_runs() {
    let server = Server::start().await;
    let (option, made) = sold(&server).await;
    let path = format!("/v1/options/{option}/reservations");
    let (headings, lines) = csv(&server, &path, &server.admin).await;
    let column = |name: &str| headings.iter().position(|heading| heading == name).unwrap();
    let cells = |names: &[&str]| {
        let cells =
            |line: &csv::StringRecord| names.iter().map(|name| line[column(name)].to_owned()).collect::<Vec<_>>();
        lines.iter().map(cells).collect::<Vec<_>>()
    };
    let place = |made: &String, status: &str, seat: &str, area: &str| {
        vec![made.clone(), status.into(), seat.into(), area.into()]
    };
    let [places, held, confirmed, refunded, released] = &made[..] else { panic!("{made:?}") };
    let expected = vec![
        place(places, "held", "", "Lawn"),
        place(places, "held", "", "Lawn"),
        place(places, "held", "", "Lawn"),
        place(held, "held", "S2", ""),
        place(held, "held", "S3", ""),
        place(confirmed, "confirmed", "S1", ""),
        place(refunded, "refunded", "S1", ""),
        place(refunded, "refunded", "S2", ""),
        place(released, "released", "S1", ""),
    ];
    assert_eq!(cells(&["reservation_id", "status", "seat", "area"]), expected);
    let texts = cells(&["user_id", "reference", "data"]);
    assert_eq!(texts[3], ["'=ben", "order 7", ""]);
    assert_eq!(texts[5][..2], ["anna", "'+1"]);
    assert_eq!(serde_json::from_str::<Value>(&texts[5][2]).unwrap(), json!({"till": 1, "of": ["a", null]}));
    // A reservation's prices add up to its amount.
    for id in &made {
        let amount =
            server.get(&format!("/v1/reservations/{id}"), &server.admin).await.body["amount"].as_u64().unwrap();
        let prices = cells(&["reservation_id", "price"]);
        let prices = prices.iter().filter(|line| line[0] == **id).map(|line| line[1].parse::<u64>().unwrap());
        assert_eq!(prices.sum::<u64>(), amount, "{id}");
    }
    let (_, lines) = csv(&server, &format!("{path}?seat=S1&status=confirmed"), &server.admin).await;
    assert_eq!(lines.len(), 1);
    let asked = server.request("GET", &format!("{path}?limit=1"), &server.admin).header("accept", "text/csv");
    assert_eq!(Answer::of(asked.send().await.unwrap()).await.code(), (400, "invalid_request"));
    let head = server.request("HEAD", &path, &server.admin).header("accept", "text/csv").send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"]),
        (200, &"text/csv; charset=utf-8".parse().unwrap())
    );
}

#[actix_web::test]
async fn payments_are_listed_by_option_and_user() {
    let server = Server::start().await;
    let (option, made) = sold(&server).await;
    let (other, ben) = (server.option(2).await, server.buyer("=ben"));
    server.charge("=ben", 1_000).await;
    server.post(&format!("/v1/reservations/{}/payments", made[1]), &ben, json!({})).await.created();
    let held = server.hold(&other, &ben, &["S1"]).await;
    server.post(&format!("/v1/reservations/{held}/payments"), &ben, json!({})).await.created();
    let clerk = with_role(&server, "clerk", Role::Payments);
    let reservations = async |query: &str| {
        let items = all_pages(&server, &format!("/v1/payments{query}"), &clerk, 1).await;
        items.iter().map(|item| item["reservation_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(reservations(&format!("?option_id={option}")).await, [&*made[1], &made[2], &made[3]]);
    assert_eq!(reservations(&format!("?option_id={option}&user_id=anna")).await, [&*made[2], &made[3]]);
    assert_eq!(reservations("?user_id=%3Dben").await, [&*held, &made[1]]);
    assert_eq!(reservations(&format!("?option_id={other}&user_id=anna")).await, [""; 0]);
    assert_eq!(server.get("/v1/payments?option_id=o99", &clerk).await.code(), (404, "not_found"));
    for query in ["?option_id=x", "?option_id=o1&owed=true", "?user_id=anna&disputed=true", "?user_id="] {
        assert_eq!(
            server.get(&format!("/v1/payments{query}"), &clerk).await.code(),
            (400, "invalid_request"),
            "{query}"
        );
    }
    for path in [format!("/v1/payments?option_id={option}"), "/v1/payments?user_id=%3Dben".into()] {
        let (headings, lines) = csv(&server, &path, &clerk).await;
        let seat = headings.iter().position(|heading| heading == "seat").unwrap();
        let seats = lines.iter().filter(|line| line[1] == *made[1]).map(|line| &line[seat]);
        assert_eq!(seats.collect::<Vec<_>>(), ["S2", "S3"], "{path}");
    }
}

#[actix_web::test]
async fn a_wallet_is_corrected() {
    let server = Server::start().await;
    let (path, anna) = ("/v1/users/anna/wallet/adjustments", server.buyer("anna"));
    server.charge("anna", 1_000).await;
    let taken = server.post(path, &server.admin, json!({"amount": -300, "reason": "=mistyped"})).await;
    assert_eq!((taken.status, taken.header("location")), (201, "/v1/users/anna/wallet"), "{taken:?}");
    let (id, at) = (taken.body["id"].clone(), taken.body["at"].clone());
    let expected = json!({"id": id, "kind": "adjustment", "amount": -300, "balance": 700, "reference": "root", "at": at,
        "reason": "=mistyped"});
    assert_eq!(taken.body, expected);
    let given = server.post(path, &server.admin, json!({"amount": 1, "reason": "sorry"})).await;
    assert_eq!((&given.body["amount"], &given.body["balance"]), (&json!(1), &json!(701)));
    let short = server.post(path, &server.admin, json!({"amount": -702, "reason": "x"})).await;
    assert_eq!(short.code(), (402, "insufficient_points"));
    assert_eq!((&short.body["balance"], &short.body["amount"]), (&json!(701), &json!(702)));
    let full = server.post(path, &server.admin, json!({"amount": 9_007_199_254_740_991_i64, "reason": "x"})).await;
    assert_eq!(full.code(), (409, "limit_exceeded"));
    for (body, field) in [
        (json!({"amount": 0, "reason": "x"}), "amount"),
        (json!({"amount": -9_007_199_254_740_992_i64, "reason": "x"}), "amount"),
        (json!({"amount": i64::MIN, "reason": "x"}), "amount"),
        (json!({"amount": 1.5, "reason": "x"}), "amount"),
        (json!({"amount": 1}), "reason"),
        (json!({"amount": 1, "reason": ""}), "reason"),
        (json!({"amount": 1, "reason": "x".repeat(501)}), "reason"),
        (json!({"amount": 1, "reason": "x", "by": "y"}), "by"),
    ] {
        let refused = server.post(path, &server.admin, body.clone()).await;
        assert_eq!((refused.code(), refused.fields()), ((400, "invalid_request"), vec![field]), "{body}");
    }
    let entries = server.get("/v1/wallet/entries", &anna).await.body["items"].clone();
    assert_eq!((&entries[0], &entries[1], &entries[2]["kind"]), (&given.body, &taken.body, &json!("charge")));
    assert_eq!(server.get("/v1/wallet", &anna).await.body["balance"], 701);
}

#[actix_web::test]
async fn a_concert_is_told_of() {
    let server = Server::start().await;
    let create = async || {
        let request = server.request("POST", "/v1/concerts", &server.admin).header("idempotency-key", "k1");
        Answer::of(request.json(&json!({"title": "A Concert"})).send().await.unwrap()).await
    };
    let (made, other) = (create().await, server.concert().await);
    let path = format!("/v1/concerts/{}", made.created());
    let patch = async |body: Value| server.ask("PATCH", &path, &server.admin, body).await;
    let told = json!({"title": "The Concert", "venue": "A hall", "time_zone": "Asia/Seoul", "description": "Two\nlines",
        "image_url": "https://pics.example/a.webp", "hidden": true});
    let changed = patch(told.clone()).await;
    let mut expected = made.body.clone();
    expected.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
    assert_eq!((changed.status, &changed.body), (200, &expected));
    assert_eq!(server.get(&path, "").await.body, expected);
    // Nobody sees it in the list who has no role; who made it gets the same answer as before.
    let listed = async |token: &str| ids(&server.get("/v1/concerts", token).await);
    assert_eq!(listed("").await, [&*other]);
    assert_eq!(listed(&server.buyer("anna")).await, [&*other]);
    assert_eq!(listed("nonsense").await, [&*other]);
    assert_eq!(listed(&with_role(&server, "eve", Role::Viewer)).await, [&*other, made.body["id"].as_str().unwrap()]);
    assert_eq!(create().await.body, made.body);
    let before = server.last_lsn().await;
    assert_eq!(patch(told).await.body, expected);
    assert_eq!(server.last_lsn().await, before, "nothing has changed");
    let shown = patch(json!({"hidden": null, "venue": null, "description": null})).await;
    for name in ["hidden", "venue", "description"] {
        expected.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(shown.body, expected);
    assert_eq!(listed("").await.len(), 2);
    for (body, field) in [
        (json!({"title": null}), "title"),
        (json!({"title": ""}), "title"),
        (json!({"time_zone": "Asia/Soul"}), "time_zone"),
        (json!({"image_url": "http://pics.example/a"}), "image_url"),
        (json!({"description": "x".repeat(5_001)}), "description"),
        (json!({"hidden": "yes"}), "hidden"),
        (json!({"options": []}), "options"),
    ] {
        let refused = patch(body.clone()).await;
        assert_eq!((refused.code(), refused.fields()), ((400, "invalid_request"), vec![field]), "{body}");
    }
    let nowhere = server.ask("PATCH", "/v1/concerts/c99", &server.admin, json!({"title": ""})).await;
    assert_eq!(nowhere.code(), (404, "not_found"));
    // A restart later it is the same.
    let server = server.restart(|_| ()).await;
    assert_eq!(server.get(&path, "").await.body, expected);
}

/// What of a history: what, who and why.
pub fn told(items: &[Value]) -> Vec<(&str, Option<&str>, Option<&str>)> {
    items.iter().map(|item| (item["what"].as_str().unwrap(), item["who"].as_str(), item["why"].as_str())).collect()
}

#[actix_web::test]
async fn what_has_happened_to_a_seat_a_wallet_and_a_token_is_told() {
    let server = Server::start().await;
    let (option, made) = sold(&server).await;
    let viewer = with_role(&server, "eve", Role::Viewer);
    let till = with_role(&server, "till-1", Role::BoxOffice);
    for change in ["blocks", "unblocks"] {
        let changed =
            server.post(&format!("/v1/options/{option}/{change}"), &till, json!({"seats": ["S4", "S5"]})).await;
        assert_eq!(changed.status, 200, "{changed:?}");
    }
    let seat = format!("/v1/options/{option}/seats/S1/history");
    let history = server.get(&seat, &viewer).await.body["items"].as_array().unwrap().clone();
    let (anna, root) = (Some("anna"), Some("root"));
    assert_eq!(
        told(&history),
        [
            ("held", anna, None),
            ("released", root, None),
            ("held", anna, None),
            ("payment_started", anna, None),
            ("payment_confirmed", None, None),
            ("refund_started", anna, None),
            ("refund_credited", None, None),
            ("held", anna, None),
            ("payment_started", anna, None),
            ("payment_confirmed", None, None),
        ]
    );
    let of: Vec<_> = history.iter().map(|item| item["reservation_id"].as_str().unwrap()).collect();
    assert_eq!((&of[..2], &of[2..7], &of[7..]), (&[&*made[4]; 2][..], &[&*made[3]; 5][..], &[&*made[2]; 3][..]));
    assert!(
        history.windows(2).all(
            |two| two[0]["lsn"].as_u64() < two[1]["lsn"].as_u64() && two[0]["at"].as_str() <= two[1]["at"].as_str()
        )
    );
    for limit in [1, 3, 10] {
        assert_eq!(all_pages(&server, &seat, &viewer, limit).await, history);
    }
    let blocked = server.get(&format!("/v1/options/{option}/seats/S5/history"), &viewer).await;
    let till = Some("till-1");
    assert_eq!(told(blocked.body["items"].as_array().unwrap()), [("blocked", till, None), ("unblocked", till, None)]);
    for nowhere in
        ["/v1/options/o99/seats/S1/history?limit=0", &format!("/v1/options/{option}/seats/S7/history?limit=0")]
    {
        assert_eq!(server.get(nowhere, &viewer).await.code(), (404, "not_found"), "{nowhere}");
    }
    assert_eq!(server.get(&format!("{seat}?limit=0"), &viewer).await.code(), (400, "invalid_request"));

    server
        .post("/v1/users/anna/wallet/adjustments", &server.admin, json!({"amount": -1, "reason": "x"}))
        .await
        .created();
    let path = "/v1/users/anna/wallet/history";
    let history = all_pages(&server, path, &viewer, 2).await;
    let expected = [
        ("charge", root, None),
        ("debit", anna, None),
        ("credit", anna, None),
        ("debit", anna, None),
        ("adjustment", root, Some("x")),
    ];
    assert_eq!(told(&history), expected);
    let of: Vec<_> = history.iter().map(|item| item["reservation_id"].as_str()).collect();
    assert_eq!(of, [None, Some(&*made[3]), Some(&*made[3]), Some(&*made[2]), None]);
    assert_eq!(server.get("/v1/users/nobody/wallet/history", &viewer).await.body["items"], json!([]));

    let concert = server.concert().await;
    let room = format!("/v1/concerts/{concert}/waiting-room");
    server.ask("PATCH", &room, &server.admin, json!({"mode": "queue", "max_active": 1})).await;
    let issue = async |user: &str| {
        let token = server.buyer(user);
        server.post(&format!("/v1/concerts/{concert}/tokens"), &token, Value::Null).await.created()
    };
    let (first, second) = (issue("anna").await, issue("ben").await);
    let path = format!("/v1/tokens/{first}");
    while server.get(&path, &server.buyer("anna")).await.body["status"] != "active" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (token, who) in [(&first, &server.buyer("anna")), (&second, &server.admin)] {
        assert_eq!(server.ask("DELETE", &format!("/v1/tokens/{token}"), who, Value::Null).await.status, 204);
    }
    let of = async |token: &str| all_pages(&server, &format!("/v1/tokens/{token}/history"), &viewer, 1).await;
    assert_eq!(told(&of(&first).await), [("issued", anna, None), ("activated", None, None), ("left", anna, None)]);
    let second = of(&second).await;
    assert_eq!(
        (told(&second)[0], *told(&second).last().unwrap()),
        (("issued", Some("ben"), None), ("left", root, None))
    );
    assert_eq!(server.get("/v1/tokens/t9-9/history", &viewer).await.code(), (404, "not_found"));
}

/// They count as the user's, whoever made them, and are refused to nobody.
#[actix_web::test]
async fn a_box_office_holds_whatever_else_a_user_holds() {
    let server = Server::with(|settings| settings.limits.user_open_holds = 2).await;
    let option = server.option(9).await;
    let till = with_role(&server, "till-1", Role::BoxOffice);
    let anna = server.buyer("anna");
    let hold =
        async |token: &str, body: Value| server.post(&format!("/v1/options/{option}/reservations"), token, body).await;
    let mut held = Vec::new();
    for n in 1..=4 {
        let body = json!({"seats": [format!("S{n}")], "user_id": "anna", "beyond_limits": n % 2 == 0});
        held.push(hold(&till, body).await.created());
    }
    let own = json!({"seats": ["S9"]});
    let refused = hold(&anna, own.clone()).await;
    assert_eq!((refused.code(), &refused.body["already"]), ((409, "limit_exceeded"), &json!(4)));
    for one in &held[..3] {
        let released = server.ask("DELETE", &format!("/v1/reservations/{one}"), &server.admin, Value::Null).await;
        assert_eq!(released.status, 200);
    }
    assert_eq!(hold(&anna, own).await.status, 201);
    // Nor do they count as holds of who makes them.
    for n in 5..=6 {
        assert_eq!(hold(&till, json!({"seats": [format!("S{n}")], "user_id": "bob"})).await.status, 201);
    }
    assert_eq!(hold(&till, json!({"seats": ["S7"]})).await.status, 201);
}
