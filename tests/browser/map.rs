//! The map of a stadium while it sells.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::{Browsers, Look, Window, stadium};
use crate::harness::Server;

/// Changes a second, in so many requests.
const CHANGES: usize = 2_000;
const REQUESTS: usize = 20;
/// How long each way of looking is measured.
const MEASURED: Duration = Duration::from_secs(4);

/// Blocks and unblocks seats all the time: to those who look it is a change like any other.
async fn change(server: &Server, option: &str, seats: &[String]) {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / REQUESTS as u32);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let per_request = CHANGES / REQUESTS;
    for (round, some) in seats.chunks_exact(per_request).cycle().enumerate() {
        interval.tick().await;
        let is_blocked = (round / (seats.len() / per_request)) % 2 == 1;
        let path = format!("/v1/options/{option}/{}", if is_blocked { "unblocks" } else { "blocks" });
        let answer = server.post(&path, &server.admin, json!({"seats": some})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// Frames of one way of looking: how many, and the 95th percentile and the longest of the main thread's time, in ms.
async fn frames(window: &Window, name: &str, act: &str) -> (usize, f64, f64) {
    window.script("performance.clearMeasures()").await;
    window.script(act).await;
    tokio::time::sleep(MEASURED).await;
    let durations = window
        .script("clearInterval(window.moving); return performance.getEntriesByName('map-frame').map((e) => e.duration)")
        .await;
    let mut durations: Vec<f64> = durations.as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    durations.sort_by(f64::total_cmp);
    assert!(durations.len() > 10, "{name}: {durations:?}");
    let p95 = durations[durations.len() * 95 / 100];
    (durations.len(), p95, durations[durations.len() - 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_map_of_a_stadium_follows_a_rush() {
    let Some(browsers) = Browsers::start("the_map_of_a_stadium_follows_a_rush").await else { return };
    let server = Server::start().await;
    let option = stadium(&server, "Stadium").await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    window.until("document.querySelector('.map')?.seatMap.painted").await;
    let guids = window.script("return document.querySelector('.map').seatMap.plan.guids").await;
    let guids: Vec<String> = serde_json::from_value(guids).unwrap();
    assert_eq!(guids.len(), 60_000);
    // All over the house, so that some are in sight wherever one looks.
    let seats: Vec<String> = guids.iter().step_by(3).cloned().collect();

    let map = "const map = document.querySelector('.map').seatMap; const {plan} = map;";
    let zoom = |pixels: f64| {
        format!(
            "{map} map.showSeats([plan.index.get('101-10-10')]); \
        const scale = {pixels} / plan.typical; map.gliding = null; map.show(map.bounded({{scale, \
        x: map.view.width / 2 - plan.xs[plan.index.get('101-10-10')] * scale, \
        y: map.view.height / 2 - plan.ys[plan.index.get('101-10-10')] * scale}}));"
        )
    };
    // Drags it about, a step a frame, as a hand does.
    let drag = "let n = 0; map.pointers.set(1, {}); window.moving = setInterval(() => { n += 1; \
        map.show(map.bounded({scale: map.view.scale, x: map.view.x + 9 * Math.sin(n / 9), y: map.view.y + 9 * Math.cos(n / 9)})); }, 16);";
    let ways = [
        ("the whole house", format!("{map} map.show(map.fitted(plan.box));")),
        ("a block as dots", zoom(4.0)),
        ("seats", zoom(14.0)),
        ("seats with numbers", zoom(30.0)),
        ("dots, dragged", format!("{} {drag}", zoom(4.0))),
        ("seats, dragged", format!("{} {drag}", zoom(14.0))),
    ];
    let mut report = format!("map of 60,000 seats, {CHANGES} changes a second, time of the main thread in a frame:\n");
    let measuring = async {
        for (name, act) in &ways {
            let (count, p95, longest) = frames(&window, name, act).await;
            report += &format!("{name}: {count} frames, p95 {p95:.1} ms, longest {longest:.1} ms\n");
            window.script("document.querySelector('.map').seatMap.pointers.clear()").await;
        }
    };
    tokio::select! {
        () = measuring => {}
        () = change(&server, &option, &seats) => unreachable!("it goes on"),
    }
    // Not by the macro, whose output only failing tests show.
    std::io::stderr().write_all(report.as_bytes()).unwrap();
    let picture = window.picture("stadium").await;
    std::fs::write(picture.with_file_name("frames.txt"), report).unwrap();

    // Nothing was missed: the map is what the server says.
    let told = server.get(&format!("/v1/options/{option}/seats"), "").await.body;
    let taken = told["seats"].as_object().unwrap().len();
    assert!(taken > 0);
    window
        .until(&format!("document.querySelector('.map').seatMap.plan.status.filter((s) => s === 3).length === {taken}"))
        .await;
    window.close().await;
}
