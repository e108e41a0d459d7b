//! Houses as they are, in the page: the same neighbours as on the server, the plan's own words, and plans that should not be.

use boxoffice::domain::seating_plan::{Limits, SeatingPlan};
use serde_json::{Value, json};

use crate::browser::{Browsers, Look, theatre};
use crate::harness::{STARTS_AT, Server};

fn seat(guid: &str, category: &str, [x, y]: [f64; 2]) -> Value {
    json!({"seat_guid": guid, "seat_number": guid, "category": category, "position": {"x": x, "y": y}})
}

/// Rows of all kinds: straight with aisles, bent, round, heaps; in order and shuffled.
fn rows() -> Vec<Vec<[f64; 2]>> {
    let mut state = 7_u64;
    let mut dice = move |sides: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % sides
    };
    (0..200)
        .map(|kind| {
            let count = dice(14);
            let mut x = 0.0;
            let mut seats: Vec<[f64; 2]> = (0..count)
                .map(|k| {
                    let angle = std::f64::consts::TAU * f64::from(k) / f64::from(count + kind % 3);
                    x += [28.0, 28.0, 28.0, 40.0, 43.0, 90.0][dice(6) as usize];
                    match kind % 4 {
                        0 => [x, 3.0],
                        1 => [3.0 * x, 4.0 * x],
                        2 => [(60.0 * angle.cos()).round(), (60.0 * angle.sin()).round()],
                        _ => [f64::from(dice(6)), f64::from(dice(6))],
                    }
                })
                .collect();
            for last in (1..seats.len()).rev().filter(|_| kind % 8 >= 4) {
                seats.swap(last, dice(last as u32 + 1) as usize);
            }
            seats
        })
        .collect()
}

#[tokio::test]
async fn the_page_knows_the_same_neighbours() {
    let Some(browsers) = Browsers::start("the_page_knows_the_same_neighbours").await else { return };
    let server = Server::start().await;
    let mut guid = 0;
    let rows = rows().into_iter().map(|row| {
        let seats = row.into_iter().map(|place| {
            guid += 1;
            seat(&guid.to_string(), "A", place)
        });
        json!({"row_number": "1", "seats": seats.collect::<Vec<_>>()})
    });
    let json = json!({"zones": [{"rows": rows.collect::<Vec<_>>()}], "categories": [{"name": "A"}]});
    let plan = SeatingPlan::parse(json.to_string().as_bytes(), &Limits::default()).unwrap();
    assert!(!plan.rings().is_empty() && plan.is_reordered());
    let runs = plan.runs().iter().map(|run| {
        let seats: Vec<u32> = run.places.clone().map(|place| plan.seat_at(place)).collect();
        json!([seats, run.is_ring])
    });
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open("/").await;
    let script = format!(
        "const {{ Plan }} = await import('/web/plan.js');
         return new Plan({json}).rows.flatMap((row) => row.runs.map(({{ seats, isRing }}) => [seats, isRing]))"
    );
    let found = window.script(&format!("return (async () => {{ {script} }})()")).await;
    assert_eq!(found, Value::Array(runs.collect()));
    window.close().await;
}

#[tokio::test]
async fn plans_that_should_not_be_do_not_stop_the_page() {
    let Some(browsers) = Browsers::start("plans_that_should_not_be_do_not_stop_the_page").await else { return };
    let server = Server::start().await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open("/").await;
    for plan in [
        json!(null),
        json!({"id": 1, "name": "x", "layout": {}}),
        json!({"zones": null, "categories": null}),
        json!({"zones": [null, 7, {"rows": null, "areas": {}}, {"rows": [{"seats": null}, null, {"seats": [null, {}]}]}]}),
        json!({"zones": [{"rows": [], "areas": [null, {"polygon": {"points": 1}}, {"circle": 1}, {"text": {}}]}]}),
    ] {
        let script = format!(
            "return (async () => {{
                const {{ Plan }} = await import('/web/plan.js'); const {{ SeatMap }} = await import('/web/map.js');
                const plan = new Plan({plan}); plan.setAll({{}}); plan.setSome({{ x: 'sold' }});
                const map = new SeatMap(plan, {{ toggle() {{}}, describe: () => [] }});
                map.painter.paintShapes(map.painter.below, {{ scale: 1, x: 0, y: 0, width: 10, height: 10, ratio: 1 }});
                map.close(); return plan.nearestTo([]).length; }})()"
        );
        assert_eq!(window.script(&script).await, json!(0), "{plan}");
    }
    window.close().await;
}

#[tokio::test]
async fn the_page_says_what_the_plan_says_of_seats() {
    let Some(browsers) = Browsers::start("the_page_says_what_the_plan_says_of_seats").await else { return };
    let server = Server::start().await;
    let concert = server.concert().await;
    let mut seats: Vec<Value> = (0..6).map(|k| seat(&format!("{k}"), "A", [f64::from(k) * 30.0, 0.0])).collect();
    seats[0]["start_direction"] = json!(">");
    seats[3]["category"] = json!("");
    seats[5]["category"] = json!("Wheelchair");
    let plan = json!({"categories": [{"name": "A"}, {"name": "Wheelchair"}], "zones": [{"name": "Stalls", "rows": [
        {"row_number": "7", "row_label": "Box %s", "seat_label": "Chair %s", "seats": seats}]}]});
    let option = json!({"starts_at": STARTS_AT, "seating_plan": plan, "prices": {"A": 10, "Wheelchair": 20},
        "accessible": ["Wheelchair"]});
    let option = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, option).await.created();
    let window = browsers.window(&server, Look::DESKTOP).await;
    let anna = server.buyer("anna");
    server.charge("anna", 1_000).await;
    window.open_as("/", &anna, &format!("#/options/{option}")).await;
    window.until_seat("3", 3).await;
    let describe = |seat: u32| format!("return document.querySelector('.map').seatMap.describe({seat})");
    let first = window.script(&describe(0)).await;
    assert_eq!((&first[0], &first[3]), (&json!("Stalls · Box 7 · Chair 0"), &json!("The row is filled from here →")));
    assert_eq!(window.script(&describe(3)).await, json!(["Stalls · Box 7 · Chair 3", "Not for sale"]));
    // A place for a wheelchair with somebody beside it.
    window.click("#best summary").await;
    assert!(!window.find("#best-hold").await.text().await.unwrap().is_empty());
    window
        .script(
            "const c = document.getElementById('best-category'); c.value = 'Wheelchair';
             c.dispatchEvent(new Event('change')); document.getElementById('best-count').value = 1;
             document.getElementById('best-companions').value = 1",
        )
        .await;
    window.find("#best-companions").await;
    window.picture("companions").await;
    window.click("#best-hold").await;
    let lines = window.text(".lines").await;
    assert!(lines.contains("Box 7 · Chair 4") && lines.contains("Box 7 · Chair 5"), "{lines}");
    window.close().await;
}

#[tokio::test]
async fn the_theatre_as_it_is_drawn() {
    let Some(browsers) = Browsers::start("the_theatre_as_it_is_drawn").await else { return };
    let server = Server::start().await;
    let more = json!({"accessible": ["Wheelchair"], "focus": {"zones": ["Stalls", "Dress Circle"]}});
    let (_, option) = theatre(&server, "Goldberg Variations", json!({}), more).await;
    for (name, look) in [("theatre-desktop", Look::DESKTOP), ("theatre-phone", Look::PHONE)] {
        let window = browsers.window(&server, look).await;
        window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
        window.until("document.querySelector('.map')?.seatMap.painted").await;
        // No zone lies over another.
        let overlapping = "const { zones } = document.querySelector('.map').seatMap.plan;
            return zones.flatMap((a, i) => zones.slice(i + 1).filter((b) => a.box.meets(b.box)).map((b) => [a.name, b.name]))";
        assert_eq!(window.script(overlapping).await, json!([]));
        window.picture(name).await;
        window.close().await;
    }
}
