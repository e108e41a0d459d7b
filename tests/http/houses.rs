//! Houses as they are: odd plans, who sits beside whom, which seats are best, and places for those who need them.

use boxoffice::testing::plans;
use serde_json::{Value, json};

use crate::harness::{Answer, STARTS_AT, Server};

fn plan(zones: Value) -> Value {
    json!({"zones": zones, "categories": [{"name": "A"}, {"name": "Wheelchair"}]})
}

fn row(seats: &[(&str, &str, f64)]) -> Value {
    let seat = |(guid, category, x): &(&str, &str, f64)| json!({"seat_guid": guid, "seat_number": guid, "category": category, "position": {"x": x, "y": 0}});
    json!({"row_number": "1", "seats": seats.iter().map(seat).collect::<Vec<_>>()})
}

async fn offer(server: &Server, plan: Value, more: Value) -> Answer {
    let concert = server.concert().await;
    let mut body = json!({"starts_at": STARTS_AT, "seating_plan": plan, "prices": {"A": 10, "Wheelchair": 10}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await
}

async fn best(server: &Server, option: &str, wish: Value) -> Answer {
    let path = format!("/v1/options/{option}/reservations");
    server.post(&path, &server.buyer("anna"), json!({"best_available": wish})).await
}

fn seats(answer: &Answer) -> Vec<&str> {
    answer.body["seats"].as_array().unwrap().iter().map(|seat| seat["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_plan_without_its_lists_is_refused_with_the_place_named() {
    let server = Server::start().await;
    let areas = json!({"areas": [{"name": "Floor", "capacity": 5, "category": "A"}]});
    let good = plan(json!([{"rows": [row(&[("a", "A", 0.0)])], "areas": []}]));
    let with = |at: &str, value: Value| {
        let mut plan = good.clone();
        *plan.pointer_mut(at).unwrap() = value;
        plan
    };
    let misspelt = json!({"zoness": [], "categories": []});
    for (plan, field) in [
        (json!({"id": 1, "name": "House", "layout": good}), "seating_plan.zones"),
        (misspelt, "seating_plan.zones"),
        (json!({"zones": []}), "seating_plan.categories"),
        (with("/zones", Value::Null), "seating_plan.zones"),
        (with("/categories", Value::Null), "seating_plan.categories"),
        (with("/categories", json!({})), "seating_plan.categories"),
        (with("/zones/0/rows", Value::Null), "seating_plan.zones[0].rows"),
        (with("/zones/0/rows/0/seats", Value::Null), "seating_plan.zones[0].rows[0].seats"),
        (with("/zones/0/areas", Value::Null), "seating_plan.zones[0].areas"),
        (with("/zones/0/areas", json!([{"polygon": {"points": 1}}])), "seating_plan.zones[0].areas[0].polygon.points"),
    ] {
        let refused = offer(&server, plan.clone(), areas.clone()).await;
        assert_eq!(refused.code(), (400, "invalid_request"), "{plan}");
        assert!(refused.fields().contains(&field), "{plan}: {:?}", refused.fields());
    }
    offer(&server, good, areas).await.created();
}

#[tokio::test]
async fn seats_without_a_category_are_not_for_sale() {
    let server = Server::start().await;
    let empty = plan(json!([{"rows": [row(&[("a", "", 0.0)])]}]));
    let refused = offer(&server, empty.clone(), json!({})).await;
    assert_eq!((refused.code(), refused.fields()), ((400, "invalid_request"), vec!["seating_plan"]));
    let areas = json!({"areas": [{"name": "Floor", "capacity": 5, "category": "A"}]});
    offer(&server, empty, areas).await.created();

    let created =
        offer(&server, plan(json!([{"rows": [row(&[("a", "A", 0.0), ("b", "", 1.0), ("c", "A", 2.0)])]}])), json!({}))
            .await;
    let option = created.created();
    let counts = json!({"available": 2, "held": 0, "sold": 0, "blocked": 1});
    assert_eq!(created.body["counts"], counts);
    let path = format!("/v1/options/{option}");
    assert_eq!(server.get(&path, &server.admin).await.body["counts"], counts);
    assert_eq!(server.get(&format!("{path}/seats"), &server.admin).await.body["seats"], json!({"b": "blocked"}));
    let named = server.post(&format!("{path}/reservations"), &server.buyer("anna"), json!({"seats": ["b"]})).await;
    assert_eq!(named.code(), (409, "seats_unavailable"));
    server.post(&format!("{path}/unblocks"), &server.admin, json!({"seats": ["b"]})).await;
    assert_eq!(server.get(&path, &server.admin).await.body["counts"], counts);
    assert_eq!(best(&server, &option, json!({"count": 2})).await.code(), (409, "not_enough_seats"));
    let server = server.restart(|_| {}).await;
    assert_eq!(server.get(&path, &server.admin).await.body["counts"], counts);
}

#[tokio::test]
async fn ids_of_seats_are_as_long_as_pretix_has_them() {
    let server = Server::start().await;
    let (long, longer) = ("좌 석/".repeat(47) + "ab", "x".repeat(191));
    assert_eq!(long.chars().count(), 190);
    let refused = offer(&server, plan(json!([{"rows": [row(&[(&longer, "A", 0.0)])]}])), json!({})).await;
    assert_eq!(refused.code(), (400, "invalid_request"));
    let option = offer(&server, plan(json!([{"rows": [row(&[(&long, "A", 0.0)])]}])), json!({})).await.created();
    let held = server.hold(&option, &server.buyer("anna"), &[&long]).await;
    let (path, anna) = (format!("/v1/reservations/{held}"), server.buyer("anna"));
    assert_eq!(seats(&server.get(&path, &anna).await), [&*long]);
    let server = server.restart(|_| {}).await;
    assert_eq!(seats(&server.get(&path, &anna).await), [&*long]);
    let all = server.get(&format!("/v1/options/{option}/seats"), &anna).await;
    assert_eq!(all.body["seats"], json!({long: "held"}));
}

#[tokio::test]
async fn labels_are_the_plans_own_words() {
    let server = Server::start().await;
    let mut labelled = row(&[("a", "A", 0.0)]);
    labelled
        .as_object_mut()
        .unwrap()
        .extend(json!({"row_label": "Box %s", "seat_label": "Chair %s on the left"}).as_object().unwrap().clone());
    labelled["seats"][0]["start_direction"] = json!("<>");
    let option =
        offer(&server, plan(json!([{"rows": [labelled, row(&[("b", "A", 0.0)])]}])), json!({})).await.created();
    let held = best(&server, &option, json!({"count": 1})).await;
    let seat = &held.body["seats"][0];
    assert_eq!((&seat["row_label"], &seat["seat_label"]), (&json!("Box 1"), &json!("Chair a on the left")));
    let held = best(&server, &option, json!({"count": 1})).await;
    assert!(held.body["seats"][0].get("row_label").is_none() && held.body["seats"][0].get("seat_label").is_none());
    let plan = server.get(&format!("/v1/options/{option}/plan"), &server.admin).await;
    assert_eq!(plan.body["zones"][0]["rows"][0]["seats"][0]["start_direction"], json!("<>"));
}

#[tokio::test]
async fn adjacent_is_who_stands_beside() {
    let server = Server::start().await;
    let house =
        plan(json!([{"rows": [row(&[("a", "A", 0.0), ("b", "A", 80.0), ("c", "A", 105.0), ("d", "A", 185.0)])]}]));
    let option = offer(&server, house, json!({})).await.created();
    assert_eq!(seats(&best(&server, &option, json!({"count": 2})).await), ["b", "c"]);
    assert_eq!(best(&server, &option, json!({"count": 2})).await.code(), (409, "not_enough_seats"));
    assert_eq!(seats(&best(&server, &option, json!({"count": 2, "adjacent": false})).await), ["a", "d"]);
}

#[tokio::test]
async fn the_focus_of_an_option_says_where_the_better_seats_are() {
    let server = Server::start().await;
    let zone = |name: &str, y: i32, guids: [&str; 3]| {
        let seats = [(guids[0], "A", 0.0), (guids[1], "A", 1.0), (guids[2], "A", 2.0)];
        json!({"name": name, "position": {"x": 0, "y": y}, "rows": [row(&seats)]})
    };
    let house = plan(json!([zone("Balcony", 200, ["b1", "b2", "b3"]), zone("Stalls", 100, ["s1", "s2", "s3"])]));
    for (focus, first) in [
        (Value::Null, "b2"),
        (json!({"zones": ["Stalls"]}), "s2"),
        (json!({"zones": ["Stalls", "Balcony"]}), "s2"),
        (json!({"x": 1, "y": 0}), "s2"),
        (json!({"x": 1.5, "y": 300}), "b2"),
    ] {
        // Of three seats, whoever takes the middle one leaves two alone, and whoever takes one at the side none.
        let option = offer(&server, house.clone(), json!({"focus": focus})).await.created();
        let shown = server.get(&format!("/v1/options/{option}"), &server.admin).await;
        assert!(shown.body["focus"] == focus || shown.body["focus"]["x"].as_f64() == focus["x"].as_f64(), "{focus}");
        let found = best(&server, &option, json!({"count": 3})).await;
        assert!(seats(&found).contains(&first), "{focus}: {:?}", seats(&found));
    }
    for (more, field) in [
        (json!({"focus": {"x": 1}}), "focus"),
        (json!({"focus": {}}), "focus"),
        (json!({"focus": {"x": 1, "y": 1, "zones": ["Stalls"]}}), "focus"),
        (json!({"focus": {"x": 1e300, "y": 1}}), "focus.x"),
        (json!({"focus": {"x": "1", "y": 1}}), "focus.x"),
        (json!({"focus": {"zones": []}}), "focus.zones"),
        (json!({"focus": {"zones": ["Stalls", "Circle"]}}), "focus.zones[1]"),
        (json!({"focus": {"zones": ["Stalls", "Stalls"]}}), "focus.zones[1]"),
        (json!({"focus": {"zoom": 1}}), "focus.zoom"),
        (json!({"accessible": ["B"]}), "accessible[0]"),
        (json!({"accessible": ["A", "A"]}), "accessible[1]"),
        (json!({"accessible": null}), "accessible"),
        (json!({"accessible": [1]}), "accessible[0]"),
    ] {
        let refused = offer(&server, house.clone(), more.clone()).await;
        assert_eq!((refused.code(), refused.fields()), ((400, "invalid_request"), vec![field]), "{more}");
    }
}

#[tokio::test]
async fn places_for_wheelchairs_are_for_those_who_name_them() {
    let server = Server::start().await;
    let concert = server.concert().await;
    let theatre: Value = serde_json::from_slice(&plans::theatre()).unwrap();
    let prices = json!({"Premium": 12, "Standard": 8, "Restricted": 4, "Wheelchair": 8});
    let body = json!({"starts_at": STARTS_AT, "seating_plan": theatre, "prices": prices, "accessible": ["Wheelchair"],
        "focus": {"zones": ["Stalls"]}, "max_seats_per_reservation": 100, "max_seats_per_user": 10_000});
    let option = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await;
    assert_eq!(option.body["accessible"], json!(["Wheelchair"]));
    let option = option.created();
    let wish = |count, companions| json!({"count": count, "category": "Wheelchair", "companions": companions});
    // All that anybody may have of the stalls, and not one that is kept.
    for _ in 0..8 {
        let sold = best(&server, &option, json!({"count": 100, "zone": "Stalls", "adjacent": false})).await;
        assert!(sold.body["seats"].as_array().unwrap().iter().all(|seat| seat["category"] != "Wheelchair"));
    }
    let more = best(&server, &option, json!({"count": 1, "zone": "Stalls"})).await;
    assert_eq!(more.code(), (409, "not_enough_seats"));
    let both = best(&server, &option, wish(1, 1)).await;
    assert_eq!(both.body["seats"].as_array().unwrap().len(), 2, "{}", both.body);
    assert!(both.body["seats"].as_array().unwrap().iter().any(|seat| seat["category"] == "Wheelchair"));
    for (wish, field) in [
        (json!({"count": 1, "category": "Standard", "companions": 1}), "best_available.category"),
        (json!({"count": 1, "category": "Wheelchair", "companions": 100}), "best_available.companions"),
        (json!({"count": 1, "category": "Wheelchair", "companions": -1}), "best_available.companions"),
        (json!({"count": 1, "companions": 1, "adjacent": false}), "best_available.adjacent"),
    ] {
        let refused = best(&server, &option, wish.clone()).await;
        assert_eq!((refused.code(), refused.fields()), ((400, "invalid_request"), vec![field]), "{wish}");
    }
    let plain = server.option(4).await;
    let refused = best(&server, &plain, json!({"count": 1, "companions": 1})).await;
    assert_eq!(refused.fields(), ["best_available.companions"]);
    // Who names one gets it.
    server.hold(&option, &server.buyer("ben"), &["S-X-45"]).await;
}
