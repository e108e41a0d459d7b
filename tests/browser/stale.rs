//! What is shown while something else changes: prices, the plan, a hold, the socket, what the site allows.

use serde_json::{Value, json};

use crate::browser::{Browsers, Look, theatre};
use crate::embed::{INSIDE, SEATS, close, serve, server_for, site, tried, until_heard};
use crate::harness::Server;

const LOOK_AGAIN: &str = "document.dispatchEvent(new Event('visibilitychange'))";

#[tokio::test]
async fn other_prices_and_another_plan_are_seen_at_the_next_look() {
    let Some(browsers) = Browsers::start("other_prices_and_another_plan_are_seen_at_the_next_look").await else {
        return;
    };
    let (listener, address) = site().await;
    let server = server_for(address).await;
    let areas = json!([{"name": "Lawn", "capacity": 20, "category": "Restricted"}]);
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({"areas": areas})).await;
    serve(listener, &[&server], format!("<boxoffice-seats option=\"{option}\"></boxoffice-seats>"));
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.driver.goto(format!("http://{address}/")).await.unwrap();
    until_heard(&window, "ready").await;
    assert_eq!(tried(&window, "select(['S-C-12', 'S-C-13'])").await, json!({"value": null}));

    let prices = json!({"Premium": 13_000, "Standard": 8_000, "Restricted": 4_321, "Wheelchair": 8_000});
    let path = format!("/v1/options/{option}");
    let answer = server.ask("PATCH", &path, &server.admin, json!({"prices": prices})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    window.script(LOOK_AGAIN).await;
    window.until(&format!("{SEATS}.selection.amount === 26000")).await;
    assert_eq!(window.script("return window.heard.at(-1).detail.amount").await, 26_000);
    window.until(&format!("{INSIDE}.querySelector('[data-area=Lawn]').textContent.includes('4,321')")).await;

    let mut plan = server.get(&format!("{path}/plan"), "").await.body;
    for zone in plan["zones"].as_array_mut().unwrap() {
        for row in zone["rows"].as_array_mut().unwrap() {
            row["seats"].as_array_mut().unwrap().retain(|seat| seat["seat_guid"] != "S-C-12");
        }
    }
    let answer = server.ask("PUT", &format!("{path}/plan"), &server.admin, plan).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    window.script(LOOK_AGAIN).await;
    until_heard(&window, "taken").await;
    let gone = window.script("return window.heard.find(({name}) => name === 'taken').detail").await;
    assert_eq!(gone, json!({"seats": ["S-C-12"]}));
    let selection = json!({"seats": ["S-C-13"], "areas": [], "amount": 13_000});
    assert_eq!(window.script(&format!("return {SEATS}.selection")).await, selection);
    close(window).await;
}

/// As where a policy forbids sockets: they have an error and no end.
const NO_SOCKETS: &str = "
    window.WebSocket = class {
        static OPEN = 1; readyState = 3;
        constructor() { setTimeout(() => this.onerror?.()); }
        close() {}
    };";

#[tokio::test]
async fn where_sockets_are_forbidden_the_seats_are_asked_for() {
    let Some(browsers) = Browsers::start("where_sockets_are_forbidden_the_seats_are_asked_for").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    let source = json!({"source": NO_SOCKETS});
    window.driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", source).await.unwrap();
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    window.until_seat("S-C-12", 0).await;
    // Beyond the first picture.
    for (seat, name) in [("S-C-12", "ben"), ("S-C-13", "carla")] {
        server.hold(&option, &server.buyer(name), &[seat]).await;
        window.until_seat(seat, 1).await;
    }
    window.close().await;
}

/// Answers of the option wait once the test says so. Seconds are counted.
const SLOW_OPTION: &str = "
    const ask = window.fetch; window.asked = 0; window.seconds = 0;
    window.gate = new Promise((open) => (window.answer = open));
    window.fetch = async (path, ...rest) => {
        if (window.isSlow && /options\\/o[0-9]+$/.test(path)) {
            window.asked += 1;
            await window.gate;
        }
        return ask(path, ...rest);
    };";

#[tokio::test]
async fn at_the_opening_one_look_is_under_way_at_a_time() {
    let Some(browsers) = Browsers::start("at_the_opening_one_look_is_under_way_at_a_time").await else { return };
    let server = Server::start().await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    let opens = window.script("return new Date(Date.now() + 6000).toISOString()").await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({"sale_opens_at": opens})).await;
    let source = json!({"source": SLOW_OPTION});
    window.driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", source).await.unwrap();
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    window.until("document.querySelector('#cart')?.textContent.includes('The sale opens')").await;
    window.script("window.isSlow = true").await;
    window.until("window.asked > 0").await;
    window.script("setInterval(() => (window.seconds += 1), 1000)").await;
    window.until("window.seconds > 3").await;
    assert_eq!(window.script("return window.asked").await, 1);
    window.script("window.answer()").await;
    window.until("document.querySelector('#cart').textContent.includes('Choose')").await;
    window.close().await;
}

#[tokio::test]
async fn a_hold_is_what_the_server_says_it_is() {
    let Some(browsers) = Browsers::start("a_hold_is_what_the_server_says_it_is").await else { return };
    let (listener, address) = site().await;
    let server = server_for(address).await;
    let areas = json!([{"name": "Lawn", "capacity": 20, "category": "Restricted"}]);
    let more = json!({"areas": areas, "hold_seconds": 8});
    let (_, option) = theatre(&server, "Chamber Music", json!({}), more).await;
    serve(listener, &[&server], format!("<boxoffice-seats option=\"{option}\"></boxoffice-seats>"));
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.driver.goto(format!("http://{address}/")).await.unwrap();
    until_heard(&window, "ready").await;
    let anna = server.buyer("anna");
    window.script(&format!("window.token = '{anna}'")).await;

    // Its deadline is later, as nothing but the server tells, and some of it was let go.
    let held = tried(&window, "best({count: 3, category: 'Standard'})").await["value"].take();
    let path = format!("/v1/reservations/{}", held["id"].as_str().unwrap());
    let later = window.script("return new Date(Date.now() + 600000).toISOString()").await;
    let answer = server.ask("PATCH", &path, &server.admin, json!({"expires_at": later})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    window.until(&format!("Date.parse({SEATS}.reservation.expires_at) > Date.now() + 60000")).await;
    for n in [2, 1] {
        let seat = &held["seats"][n]["id"];
        server.post(&format!("{path}/releases"), &anna, json!({"seats": [seat]})).await;
    }
    window.until(&format!("{SEATS}.reservation.seats.length === 1")).await;
    assert_eq!(window.script(&format!("return {SEATS}.reservation.amount")).await, 8_000);
    assert_eq!(window.script("return window.heard.some(({name}) => name === 'expire')").await, false);
    // It is the site's copy.
    window.script(&format!("{SEATS}.reservation.id = 'other'")).await;
    assert_eq!(tried(&window, "release()").await["value"]["status"], "released");

    // Of places, too.
    window.script(&format!("{INSIDE}.querySelector('[data-area=Lawn] [aria-label=More]').click()")).await;
    let places = tried(&window, "hold()").await["value"].take();
    let path = format!("/v1/reservations/{}", places["id"].as_str().unwrap());
    let answer = server.ask("DELETE", &path, &anna, Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    window.until(&format!("{SEATS}.reservation === null")).await;
    let told = window.script("return window.heard.at(-1)").await;
    assert_eq!((&told["name"], &told["detail"]["reservation"]["id"]), (&json!("release"), &places["id"]), "{told}");
    close(window).await;
}

#[tokio::test]
async fn what_the_site_allows_binds_every_way_to_hold() {
    let Some(browsers) = Browsers::start("what_the_site_allows_binds_every_way_to_hold").await else { return };
    let (listener, address) = site().await;
    let server = server_for(address).await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let other = theatre(&server, "Chamber Music", json!({}), json!({})).await.1;
    let seats = format!("<boxoffice-seats option=\"{option}\" max=\"2\" categories=\"Standard\"></boxoffice-seats>");
    serve(listener, &[&server], seats);
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.driver.goto(format!("http://{address}/")).await.unwrap();
    until_heard(&window, "ready").await;
    window.script(&format!("window.token = '{}'", server.buyer("anna"))).await;
    for (call, code) in [
        ("best({count: 3, category: 'Standard'})", "limit_exceeded"),
        ("best({count: 1, category: 'Premium'})", "invalid_request"),
        ("best({count: 1})", "invalid_request"),
    ] {
        let refused = tried(&window, call).await;
        assert_eq!(refused["problem"]["code"], code, "{call}: {refused}");
    }
    // Chosen when more was allowed.
    window.script(&format!("{SEATS}.removeAttribute('categories')")).await;
    assert_eq!(tried(&window, "select(['S-C-12', 'S-C-13'])").await, json!({"value": null}));
    for (name, value, code) in [("categories", "Standard", "invalid_request"), ("max", "1", "limit_exceeded")] {
        let before = window.script(&format!("return {SEATS}.getAttribute('{name}')")).await;
        window.script(&format!("{SEATS}.setAttribute('{name}', '{value}')")).await;
        let refused = tried(&window, "hold()").await;
        assert_eq!(refused["problem"]["code"], code, "{refused}");
        let back = if before.is_null() { "removeAttribute('categories')" } else { "setAttribute('max', '2')" };
        window.script(&format!("{SEATS}.{back}")).await;
    }

    // A site that never answers who one is has not answered.
    window.script(&format!("{SEATS}.getToken = () => new Promise(() => {{}})")).await;
    let refused = tried(&window, "hold()").await;
    assert_eq!(refused["problem"]["code"], "unauthenticated", "{refused}");

    // With another option the choice is gone, and so is what was asked of a map that is not there yet.
    let asked = "window.told = null; window.heard.length = 0; const seats = document.querySelector('boxoffice-seats');";
    let turns = format!(
        "{asked} seats.setAttribute('option', '{other}'); window.tried(seats.select(['S-A-1'])).then((told) => (window.told = told));
         setTimeout(() => seats.setAttribute('option', '{option}'))"
    );
    window.script(&turns).await;
    window.until("window.told").await;
    assert_eq!(window.script("return window.told.problem.code").await, "invalid_request");
    let change = json!({"name": "change", "detail": {"seats": [], "areas": [], "amount": 0}});
    assert_eq!(window.script("return window.heard[0]").await, change);
    until_heard(&window, "ready").await;
    window.script(&format!("{SEATS}.setAttribute('server', 'ftp://127.0.0.1')")).await;
    until_heard(&window, "error").await;
    let refused = tried(&window, "select(['S-A-1'])").await;
    assert_eq!(refused["problem"]["code"], "invalid_request", "{refused}");
    window.leave().await;
}
