//! Seats that two people want, holds that run out, and paying.

use serde_json::json;

use crate::browser::{Browsers, Look, theatre};
use crate::harness::Server;

const MAP: &str = "document.querySelector('.map').seatMap";

#[tokio::test]
async fn a_seat_that_somebody_else_takes_turns_at_once() {
    let Some(browsers) = Browsers::start("a_seat_that_somebody_else_takes_turns_at_once").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let (anna, ben) = (browsers.window(&server, Look::DESKTOP).await, browsers.window(&server, Look::PHONE).await);
    anna.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    ben.open_as("/", &server.buyer("ben"), &format!("#/options/{option}")).await;
    for window in [&anna, &ben] {
        window.click_seat("S-K-13").await;
        window.click_seat("S-K-14").await;
        window.until(&format!("{MAP}.chosen.size === 2")).await;
    }
    assert!(anna.text(".sum").await.contains("24,000"));

    ben.click("#hold").await;
    ben.find("#countdown").await;
    anna.until_seat("S-K-13", 1).await;
    assert!(anna.text(".notice.bad").await.contains("Row K"));
    anna.picture("just-gone").await;
    assert_eq!(anna.script(&format!("return {MAP}.chosen.size")).await, 0);

    anna.click("#nearest").await;
    anna.until(&format!("{MAP}.chosen.size === 2")).await;
    let nearest = format!("return [...{MAP}.chosen].map((i) => {MAP}.plan.guids[i])");
    let nearest = anna.script(&nearest).await;
    anna.click("#hold").await;
    anna.find("#countdown").await;
    let seats = server.get(&format!("/v1/options/{option}/seats"), "").await.body;
    for seat in nearest.as_array().unwrap() {
        assert_eq!(seats["seats"][seat.as_str().unwrap()], "held", "{nearest}");
    }

    ben.click("#release").await;
    ben.until_seat("S-K-13", 0).await;
    anna.close().await;
    ben.close().await;
}

#[tokio::test]
async fn who_comes_second_is_told_so_and_offered_what_is_near() {
    let Some(browsers) = Browsers::start("who_comes_second_is_told_so_and_offered_what_is_near").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    // A page that hears nothing of what changes.
    let deaf = json!({"source": "window.WebSocket = class { close() {} };"});
    window.driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", deaf).await.unwrap();
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    window.click_seat("S-C-12").await;
    window.click_seat("S-C-13").await;
    server.hold(&option, &server.buyer("ben"), &["S-C-13"]).await;
    window.click("#hold").await;
    assert!(window.text(".notice.bad").await.contains("Just gone"));
    window.click("#nearest").await;
    window.click("#hold").await;
    window.find("#countdown").await;
    window.close().await;
}

#[tokio::test]
async fn a_hold_counts_down_and_frees_its_seats() {
    let Some(browsers) = Browsers::start("a_hold_counts_down_and_frees_its_seats").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({"hold_seconds": 4})).await;
    let (anna, ben) = (browsers.window(&server, Look::PHONE).await, browsers.window(&server, Look::DESKTOP).await);
    ben.open_as("/", &server.buyer("ben"), &format!("#/options/{option}")).await;
    anna.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    anna.click_seat("S-B-10").await;
    anna.click("#hold").await;
    let left = anna.text("#countdown").await;
    assert!(["0:04", "0:03", "0:02", "0:01"].contains(&left.as_str()), "{left}");
    ben.until_seat("S-B-10", 1).await;
    assert!(anna.text("#ended").await.contains("You have not paid anything"));
    anna.picture("expired").await;
    ben.until_seat("S-B-10", 0).await;
    anna.close().await;
    ben.close().await;
}

#[tokio::test]
async fn paying_gives_a_ticket_that_can_be_given_back() {
    let Some(browsers) = Browsers::start("paying_gives_a_ticket_that_can_be_given_back").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    server.charge("anna", 30_000).await;
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;

    // As somebody does it who sees no map: the best seats, by a form.
    window.click("#best summary").await;
    window.click("#best-hold").await;
    window.find("#countdown").await;
    window.picture("checkout").await;
    // The hold is the server's: a reload changes nothing.
    window.driver.refresh().await.unwrap();
    window.click("#pay").await;
    window.find(".ticket").await;
    assert!(window.text("#wallet").await.contains("6,000"));
    window.picture("ticket").await;
    let wallet = server.get("/v1/wallet", &server.buyer("anna")).await.body;
    assert_eq!(wallet["balance"], 6_000);

    window.click("#refund").await;
    window.click("dialog .button:not(.quiet)").await;
    window.find("#ended").await;
    assert_eq!(server.get("/v1/wallet", &server.buyer("anna")).await.body["balance"], 30_000);

    // Too few points are told before anybody tries.
    let dear = server.hold(&option, &server.buyer("anna"), &["S-A-1", "S-A-2", "S-A-3"]).await;
    window.script(&format!("location.hash = '#/reservations/{dear}'")).await;
    assert!(window.text(".notice.bad").await.contains("30,000"));
    assert!(!window.find("#pay").await.is_enabled().await.unwrap());
    window.close().await;
}

#[tokio::test]
async fn seats_are_chosen_by_keys_and_from_a_list() {
    let Some(browsers) = Browsers::start("seats_are_chosen_by_keys_and_from_a_list").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    window.until("document.querySelector('.map')?.seatMap.painted").await;
    let map = window.find("#map").await;
    map.focus().await.unwrap();
    for key in ["\u{e014}", "\u{e014}", "\u{e015}", "\u{e007}"] {
        map.send_keys(key).await.unwrap();
    }
    window.until(&format!("{MAP}.chosen.size === 1")).await;
    // What is said aloud is what was chosen.
    let said = window.script("return document.querySelector('.map [aria-live]').textContent").await;
    let said = said.as_str().unwrap();
    assert!(said.contains("Row") && said.contains("points") && said.contains("Chosen"), "{said}");

    window.click("#list summary").await;
    window.click("#list-seats input:not(:checked)").await;
    window.until(&format!("{MAP}.chosen.size === 2")).await;
    window.click("#hold").await;
    window.find("#countdown").await;
    window.close().await;
}

#[tokio::test]
async fn places_without_seats_are_held_too() {
    let Some(browsers) = Browsers::start("places_without_seats_are_held_too").await else { return };
    let server = Server::start().await;
    let option = server.option(8).await;
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    for _ in 0..2 {
        window.click("[data-area=Floor] button[aria-label=More]").await;
    }
    // As seats are, places are kept until somebody has signed in, or has looked elsewhere.
    window.driver.refresh().await.unwrap();
    window.until("document.querySelector('.chips')?.innerText.includes('2 × Floor')").await;
    assert!(window.text(".sum").await.contains("2 places"));
    // Nobody can hold seats and places in one go.
    window.click_seat("S1").await;
    window.until("document.querySelector('.chips li').innerText.startsWith('1')").await;
    assert_eq!(window.script("return document.querySelector('[data-area=Floor] input').value").await, "0");
    for _ in 0..2 {
        window.click("[data-area=Floor] button[aria-label=More]").await;
    }
    window.click("#hold").await;
    assert!(window.text(".lines").await.contains("Floor × 2"));
    assert_eq!(server.get(&format!("/v1/options/{option}"), "").await.body["counts"]["held"], 2);
    window.close().await;
}

/// Another plan of the house from when the test says so: without C-12, and with a seat more. Sockets are told of by the test.
const OTHER_PLAN: &str = "
    const [Socket, ask] = [window.WebSocket, window.fetch]; window.sockets = [];
    window.WebSocket = class extends Socket { constructor(...all) { super(...all); window.sockets.push(this); } };
    window.fetch = async (path, ...rest) => {
        if (!window.isOther || !path.endsWith('/plan')) return ask(path, ...rest);
        const plan = await (await ask(path)).json();
        const row = plan.zones.flatMap((zone) => zone.rows).find((row) => row.seats.some((seat) => seat.seat_guid === 'S-C-12'));
        const seat = row.seats.find((seat) => seat.seat_guid === 'S-C-12');
        row.seats = [...row.seats.filter((one) => one !== seat), {...seat, seat_guid: 'NEW'}];
        return new Response(JSON.stringify(plan), {headers: {'content-type': 'application/json', etag: '\"other\"'}});
    };";

#[tokio::test]
async fn another_plan_takes_the_place_of_the_one_that_is_shown() {
    let Some(browsers) = Browsers::start("another_plan_takes_the_place_of_the_one_that_is_shown").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    let source = json!({"source": OTHER_PLAN});
    window.driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", source).await.unwrap();
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    window.click_seat("S-C-12").await;
    window.click_seat("S-C-13").await;
    window.until(&format!("{MAP}.chosen.size === 2 && window.sockets.length === 1")).await;
    let seen = window
        .script(&format!("const {{scale, x, y}} = {MAP}.centre; return [scale, x, y].map((n) => Math.round(100 * n))"))
        .await;
    let told = "const seats = {}, areas = {}; window.isOther = true;
        window.sockets[0].onmessage({data: JSON.stringify({type: 'snapshot', seq: 0, seats, areas})})";
    window.script(told).await;
    window.until(&format!("{MAP}.plan.index.has('NEW') && !{MAP}.plan.index.has('S-C-12')")).await;
    assert_eq!(
        window.script(&format!("return [...{MAP}.chosen].map((i) => {MAP}.plan.guids[i])")).await,
        json!(["S-C-13"])
    );
    let now = window
        .script(&format!("const {{scale, x, y}} = {MAP}.centre; return [scale, x, y].map((n) => Math.round(100 * n))"))
        .await;
    assert_eq!(now, seen);
    let notice = window.text(".notice.bad").await;
    assert!(notice.contains("Just gone") && notice.contains("Row C"), "{notice}");
    // It goes on with what becomes of these seats.
    server.hold(&option, &server.buyer("ben"), &["S-C-13"]).await;
    window.until(&format!("{MAP}.chosen.size === 0")).await;
    window.find("#nearest").await;
    window.close().await;
}
