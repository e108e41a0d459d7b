//! What is taken off sale by zones, rows and areas, and why.

use boxoffice::server::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, STARTS_AT, Server};
use crate::orders::{told, with_role};

/// Two zones of two rows of three seats, `A1-1` to `B2-3`; another `A` with one seat; and two areas.
async fn option(server: &Server) -> String {
    let seat = |guid: String| json!({"seat_guid": guid, "seat_number": "1", "category": "A"});
    let row = |zone: &str, row: u32| {
        let seats: Vec<_> = (1..=3).map(|n| seat(format!("{zone}{row}-{n}"))).collect();
        json!({"row_number": row.to_string(), "seats": seats})
    };
    let zone = |name: &str| json!({"name": name, "rows": [row(name, 1), row(name, 2)]});
    let same_name = json!({"name": "A", "rows": [{"row_number": "2", "seats": [seat("A9-1".into())]}]});
    let body = json!({
        "starts_at": STARTS_AT,
        "seating_plan": {"name": "Hall", "categories": [{"name": "A"}], "zones": [zone("A"), zone("B"), same_name]},
        "prices": {"A": 100},
        "areas": [{"name": "Floor", "capacity": 20, "category": "A"}, {"name": "Lawn", "capacity": 5, "category": "A"}],
    });
    let concert = server.concert().await;
    server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await.created()
}

/// The seats that are blocked, and how many places of each area are available.
async fn seen(server: &Server, option: &str) -> (Vec<String>, Value, Value) {
    let seats = server.get(&format!("/v1/options/{option}/seats"), "").await.body;
    let blocked = seats["seats"].as_object().unwrap().iter().filter(|(_, status)| **status == "blocked");
    let available = |area: &str| seats["areas"][area]["available"].clone();
    let mut blocked: Vec<_> = blocked.map(|(id, _)| id.clone()).collect();
    blocked.sort_unstable();
    (blocked, available("Floor"), available("Lawn"))
}

fn blocks(server: &Server, option: &str, token: &str) -> impl AsyncFn(&str, Value) -> Answer {
    async move |path: &str, body: Value| server.post(&format!("/v1/options/{option}/{path}"), token, body).await
}

#[actix_web::test]
async fn zones_rows_and_places_are_blocked_with_a_reason() {
    let server = Server::start().await;
    let option = option(&server).await;
    let till = with_role(&server, "till-1", Role::BoxOffice);
    let ask = blocks(&server, &option, &till);
    let body = json!({
        "seats": ["B2-1", "B1-1"],
        "zones": ["A"],
        "rows": [{"zone": "B", "row": "2"}],
        "areas": [{"name": "Floor", "count": 18}],
        "reason": "cameras",
    });
    let answer = ask("blocks", body.clone()).await;
    assert_eq!((answer.status, &answer.body), (200, &body), "what was asked for is named");
    let all = ["A1-1", "A1-2", "A1-3", "A2-1", "A2-2", "A2-3", "A9-1", "B1-1", "B2-1", "B2-2", "B2-3"];
    assert_eq!(seen(&server, &option).await, (all.map(Into::into).to_vec(), json!(2), json!(5)));
    let shown = server.get(&format!("/v1/options/{option}"), "").await.body;
    assert_eq!(shown["counts"], json!({"available": 2 + 2 + 5, "held": 0, "sold": 0, "blocked": 11 + 18}));
    // A buyer gets what is left.
    let anna = server.buyer("anna");
    let hold = async |body: Value| server.post(&format!("/v1/options/{option}/reservations"), &anna, body).await;
    let places = |count: u32| json!({"areas": [{"name": "Floor", "count": count}]});
    assert_eq!(hold(places(3)).await.code(), (409, "not_enough_seats"));
    assert_eq!(hold(places(2)).await.status, 201);
    assert_eq!(hold(json!({"seats": ["A9-1"]})).await.code(), (409, "seats_unavailable"));

    let body = json!({"seats": [], "rows": [{"zone": "A", "row": "2"}], "areas": [{"name": "Floor", "count": 10}]});
    assert_eq!(ask("unblocks", body.clone()).await.body, body);
    let all = ["A1-1", "A1-2", "A1-3", "B1-1", "B2-1", "B2-2", "B2-3"];
    assert_eq!(seen(&server, &option).await, (all.map(Into::into).to_vec(), json!(10), json!(5)));
    drop(ask);
    // It is told why, also after a restart.
    let server = server.restart(|_| ()).await;
    let history = server.get(&format!("/v1/options/{option}/seats/A2-1/history"), &server.admin).await.body;
    let by = Some("till-1");
    assert_eq!(told(history["items"].as_array().unwrap()), [("blocked", by, Some("cameras")), ("unblocked", by, None)]);
    assert_eq!(seen(&server, &option).await, (all.map(Into::into).to_vec(), json!(10), json!(5)));
}

#[actix_web::test]
async fn all_is_blocked_or_nothing_and_what_is_wrong_is_named() {
    let server = Server::start().await;
    let option = option(&server).await;
    let ask = blocks(&server, &option, &server.admin);
    let anna = server.buyer("anna");
    server.hold(&option, &anna, &["A1-2"]).await;
    let (floor, lawn) = (json!({"name": "Floor", "count": 1}), |count: u32| json!({"name": "Lawn", "count": count}));
    let taken = ask("blocks", json!({"zones": ["A"], "areas": [floor]})).await;
    assert_eq!((taken.code(), &taken.body["conflicts"]), ((409, "seats_unavailable"), &json!(["A1-2"])));
    let more = ask("blocks", json!({"zones": ["B"], "areas": [floor, lawn(6)]})).await;
    assert_eq!(more.code(), (409, "not_enough_seats"));
    assert_eq!(ask("unblocks", json!({"zones": ["B"], "areas": [floor]})).await.code(), (409, "not_enough_seats"));
    let unknown = ask("blocks", json!({"zones": ["B"], "seats": ["Z"]})).await;
    assert_eq!((unknown.code(), &unknown.body["seats"]), ((422, "unknown_seats"), &json!(["Z"])));
    for (body, field) in [
        (json!({}), "seats"),
        (json!({"seats": []}), "seats"),
        (json!({"reason": "cameras"}), "seats"),
        (json!({"zones": ["C"]}), "zones[0]"),
        (json!({"zones": ["A", "A"]}), "zones[1]"),
        (json!({"rows": [{"zone": "A", "row": "3"}]}), "rows[0]"),
        (json!({"rows": [{"zone": "B", "row": "1"}, {"zone": "B", "row": "1"}]}), "rows[1]"),
        (json!({"rows": [{"zone": "A"}]}), "rows[0].row"),
        (json!({"rows": [["A", "1"]]}), "rows[0]"),
        (json!({"zones": ["B"], "seats": ["A1-1", "A1-1"]}), "seats[1]"),
        (json!({"areas": [{"name": "Roof", "count": 1}]}), "areas[0].name"),
        (json!({"areas": [lawn(1), lawn(1)]}), "areas[1].name"),
        (json!({"areas": [lawn(0)]}), "areas[0].count"),
        (json!({"zones": ["B"], "reason": ""}), "reason"),
        (json!({"zones": ["B"], "reason": "x".repeat(201)}), "reason"),
        (json!({"zones": ["B"], "reason": null}), "reason"),
        (json!({"zones": ["B"], "why": "x"}), "why"),
    ] {
        for path in ["blocks", "unblocks"] {
            let refused = ask(path, body.clone()).await;
            assert_eq!((refused.code(), refused.fields()), ((400, "invalid_request"), vec![field]), "{path} {body}");
        }
    }
    assert_eq!(seen(&server, &option).await, (Vec::new(), json!(20), json!(5)));
}

#[actix_web::test]
async fn places_are_blocked_once_by_one_key() {
    let server = Server::start().await;
    let option = option(&server).await;
    let send = async |path: &str, count: u32| {
        let body = json!({"areas": [{"name": "Lawn", "count": count}], "seats": []});
        let request = server.request("POST", &format!("/v1/options/{option}/{path}"), &server.admin);
        Answer::of(request.header("idempotency-key", path).json(&body).send().await.unwrap()).await
    };
    for (path, available) in [("blocks", 3), ("unblocks", 5)] {
        let (first, again) = (send(path, 2).await, send(path, 2).await);
        assert_eq!((first.status, again.status, &first.body), (200, 200, &again.body));
        assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
        assert_eq!(send(path, 1).await.code(), (422, "idempotency_key_reused"));
        assert_eq!(seen(&server, &option).await.2, json!(available));
    }
}
