//! Buyers whose orders change: a part that goes back, seats that are swapped, and tickets that are handed on.

use boxoffice::server::config::Provider;
use serde_json::json;

use crate::browser::{Browsers, Look, Window, theatre};
use crate::harness::Server;

/// A paid order of these seats.
async fn paid(server: &Server, option: &str, buyer: &str, seats: &[&str]) -> String {
    let held = server.hold(option, buyer, seats).await;
    server.post(&format!("/v1/reservations/{held}/payments"), buyer, json!({})).await.created();
    held
}

async fn balance(server: &Server, buyer: &str) -> u64 {
    server.get("/v1/wallet", buyer).await.body["balance"].as_u64().unwrap()
}

/// The ids of the seats of an order, with what it costs.
async fn places(server: &Server, order: &str, buyer: &str) -> (Vec<String>, u64) {
    let order = server.get(&format!("/v1/reservations/{order}"), buyer).await.body;
    let seats = order["seats"].as_array().unwrap().iter();
    (seats.map(|seat| seat["id"].as_str().unwrap().to_owned()).collect(), order["amount"].as_u64().unwrap())
}

/// Chooses or drops a place in a list of them.
async fn choose(window: &Window, seat: &str) {
    window.click(&format!("[data-place='{seat}']")).await;
}

#[tokio::test]
async fn a_part_of_an_order_is_let_go_and_another_given_back() {
    let Some(browsers) = Browsers::start("a_part_of_an_order_is_let_go_and_another_given_back").await else { return };
    let server = Server::start().await;
    let area = json!({"areas": [{"name": "Lawn", "capacity": 20, "category": "Restricted"}]});
    let (_, option) = theatre(&server, "Chamber Music", json!({}), area).await;
    let anna = server.buyer("anna");
    server.charge("anna", 100_000).await;
    let wish = json!({"seats": ["S-C-1", "S-C-2", "S-C-3"], "reference": "order 7"});
    let order = server.post(&format!("/v1/options/{option}/reservations"), &anna, wish).await.created();
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &anna, &format!("#/reservations/{order}")).await;
    assert!(window.text(".sums").await.contains("order 7"));

    window.click("#release-part").await;
    window.find("dialog").await;
    assert!(!window.find("dialog .button:not(.quiet)").await.is_enabled().await.unwrap());
    choose(&window, "S-C-2").await;
    assert!(window.text("dialog").await.contains("You keep 2 places"));
    window.picture("release-part").await;
    window.click("dialog .button:not(.quiet)").await;
    window.until("document.querySelectorAll('.lines li').length === 2").await;
    window.until_gone("dialog").await;

    window.click("#pay").await;
    window.find(".ticket").await;
    assert!(window.text(".sums").await.contains("order 7"));
    let (seats, amount) = places(&server, &order, &anna).await;
    assert_eq!(seats, ["S-C-1", "S-C-3"]);
    window.click("#refund").await;
    choose(&window, "S-C-1").await;
    assert!(window.text("dialog").await.contains("You get 12,000 points back"));
    window.picture("refund-part").await;
    window.click("dialog .button:not(.quiet)").await;
    window.until("document.querySelectorAll('.lines li').length === 1").await;
    assert_eq!(places(&server, &order, &anna).await, (vec!["S-C-1".into()], amount / 2));
    assert_eq!(balance(&server, &anna).await, 100_000 - amount / 2);

    // Places in an area, of which some are given back; and it is told if it is refused.
    let wish = json!({"areas": [{"name": "Lawn", "count": 4}]});
    let lawn = server.post(&format!("/v1/options/{option}/reservations"), &anna, wish).await.created();
    let payment = server.post(&format!("/v1/reservations/{lawn}/payments"), &anna, json!({})).await.created();
    window.script(&format!("location.hash = '#/reservations/{lawn}'")).await;
    window.until("document.querySelector('.lines')?.innerText.includes('Lawn × 4')").await;
    window.click("#refund").await;
    window.find("[data-place='Lawn']").await.clear().await.unwrap();
    window.find("[data-place='Lawn']").await.send_keys("3").await.unwrap();
    assert!(window.text("dialog").await.contains("13,500"));
    server.post(&format!("/v1/payments/{payment}/refunds"), &server.admin, json!({})).await.created();
    window.click("dialog .button:not(.quiet)").await;
    assert!(window.text("dialog .notice.bad").await.contains("cannot be given back any more"));
    window.close().await;
}

#[tokio::test]
async fn seats_are_swapped_with_a_finger_and_from_a_list() {
    let Some(browsers) = Browsers::start("seats_are_swapped_with_a_finger_and_from_a_list").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let anna = server.buyer("anna");
    server.charge("anna", 30_000).await;
    let order = paid(&server, &option, &anna, &["S-C-1", "S-C-2"]).await;
    let (_, amount) = places(&server, &order, &anna).await;
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &anna, &format!("#/reservations/{order}")).await;
    window.tap("#swap").await;
    assert!(window.text("#cart").await.contains("First choose what you give"));
    window.tap("[data-place='S-C-2']").await;
    assert!(window.text("#cart").await.contains("Choose a free place"));
    // One that is taken stays whose it is.
    server.hold(&option, &server.buyer("ben"), &["S-C-5"]).await;
    window.until_seat("S-C-5", 1).await;
    window.tap_seat("S-C-4").await;
    window.find("#difference").await;
    assert!(window.text("#difference").await.contains("costs the same"));
    window.picture("swap").await;
    window.tap("#cart #swap").await;
    window.find(".ticket").await;
    assert_eq!(places(&server, &order, &anna).await, (vec!["S-C-1".into(), "S-C-4".into()], amount));

    // From the list, for less: the difference comes back.
    window.tap("#swap").await;
    window.tap("[data-place='S-C-4']").await;
    window.click("#list summary").await;
    window.until("document.querySelector('#list-seats li')").await;
    // It is made anew whenever a seat changes, so that what is found may be gone the next moment.
    let last = "const row = document.querySelector('#list-row'); row.selectedIndex = row.options.length - 1;
        row.dispatchEvent(new Event('change')); document.querySelector('#list-seats input:not(:disabled)').click()";
    window.script(last).await;
    let told = window.text("#difference").await;
    assert!(told.starts_with("You get") && told.ends_with("points back"), "{told}");
    window.click("#cart #swap").await;
    window.find(".ticket").await;
    let (seats, less) = places(&server, &order, &anna).await;
    assert!(seats[0] == "S-C-1" && seats[1] != "S-C-4" && less < amount, "{seats:?} {less}");
    while balance(&server, &anna).await != 30_000 - less {}

    // What cannot be paid changes nothing, and says so.
    let spent = json!({"amount": 0 - i64::try_from(30_000 - less).unwrap(), "reason": "a test"});
    server.post("/v1/users/anna/wallet/adjustments", &server.admin, spent).await.created();
    window.tap("#swap").await;
    window.tap(&format!("[data-place='{}']", seats[1])).await;
    window.tap_seat("S-C-4").await;
    assert!(window.text("#difference").await.contains("more"));
    window.tap("#cart #swap").await;
    assert!(window.text(".notice.bad").await.contains("You have 0 points"));
    assert_eq!(places(&server, &order, &anna).await, (seats, less));
    window.close_refused(&[402]).await;
}

#[tokio::test]
async fn what_is_paid_by_card_is_not_swapped_for_more() {
    let Some(browsers) = Browsers::start("what_is_paid_by_card_is_not_swapped_for_more").await else { return };
    let server = Server::with(|settings| {
        settings.payments.providers = vec![Provider { name: "card".into(), ..Provider::default() }];
    })
    .await;
    let (_, option) =
        theatre(&server, "Chamber Music", json!({}), json!({"payment_methods": ["card"], "currency": "KRW"})).await;
    let anna = server.buyer("anna");
    let order = server.hold(&option, &anna, &["S-Q-1"]).await;
    let path = format!("/v1/reservations/{order}/payments");
    let payment = server.post(&path, &anna, json!({"method": "card"})).await;
    let fact = json!({"kind": "captured", "reference": "ch-1", "amount": payment.body["amount"]});
    let path = format!("/v1/payments/{}/facts", payment.created());
    assert_eq!(server.post(&path, &server.admin, fact).await.status, 200);
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/", &anna, &format!("#/reservations/{order}/swap")).await;
    // Of one seat there is nothing to choose.
    window.click_seat("S-A-12").await;
    assert!(window.text("#difference").await.contains("only be exchanged for seats that cost as much or less"));
    assert!(!window.find("#cart #swap").await.is_enabled().await.unwrap());
    window.picture("swap-by-card").await;
    // Another one is taken instead.
    window.click_seat("S-Q-2").await;
    assert!(window.text("#difference").await.contains("costs the same"));
    window.click("#cart #swap").await;
    window.find(".ticket").await;
    assert_eq!(places(&server, &order, &anna).await.0, ["S-Q-2"]);
    window.close().await;
}

#[tokio::test]
async fn who_waits_in_line_swaps_when_it_is_their_turn() {
    let Some(browsers) = Browsers::start("who_waits_in_line_swaps_when_it_is_their_turn").await else { return };
    let server = Server::start().await;
    let (concert, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let anna = server.buyer("anna");
    server.charge("anna", 30_000).await;
    let order = paid(&server, &option, &anna, &["S-C-1"]).await;
    let room = format!("/v1/concerts/{concert}/waiting-room");
    assert_eq!(server.ask("PATCH", &room, &server.admin, json!({"mode": "paused"})).await.status, 200);
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/", &anna, &format!("#/reservations/{order}/swap")).await;
    window.find("#position").await;
    assert_eq!(server.ask("PATCH", &room, &server.admin, json!({"mode": "queue"})).await.status, 200);
    window.click_seat("S-C-2").await;
    window.click("#cart #swap").await;
    window.find(".ticket").await;
    assert_eq!(places(&server, &order, &anna).await.0, ["S-C-2"]);
    window.close().await;
}

#[tokio::test]
async fn an_order_is_offered_taken_back_and_handed_on() {
    let Some(browsers) = Browsers::start("an_order_is_offered_taken_back_and_handed_on").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let (anna, ben) = (server.buyer("anna"), server.buyer("ben"));
    server.charge("anna", 100_000).await;
    let order = paid(&server, &option, &anna, &["S-C-1", "S-C-2"]).await;
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &anna, &format!("#/reservations/{order}")).await;
    window.click("#hand-on").await;
    window.find("#to").await.send_keys("anna").await.unwrap();
    window.click("dialog .button:not(.quiet)").await;
    assert!(window.text("dialog .notice.bad").await.contains("cannot be handed on to this user"));
    let offer = async |window: &Window| {
        window.find("#to").await.clear().await.unwrap();
        window.find("#to").await.send_keys("ben").await.unwrap();
        window.picture("hand-on").await;
        window.click("dialog .button:not(.quiet)").await;
        window.find("#offer-link").await.prop("value").await.unwrap().unwrap()
    };
    let first = offer(&window).await;
    let told = window.text("section.notice").await;
    assert!(told.contains("Offered to ben until"), "{told}");
    // It is still there after a reload, and can be taken back.
    window.driver.refresh().await.unwrap();
    window.find("#offer-link").await;
    window.picture("offered").await;
    window.click("#withdraw").await;
    window.until_gone("#offer-link").await;
    window.click("#hand-on").await;
    let second = offer(&window).await;
    assert_ne!(first, second);

    let link = |link: &str| link.split_once('#').unwrap().1.to_owned();
    let other = browsers.window(&server, Look::DESKTOP).await;
    other.open_as("/", &ben, &format!("#{}", link(&first))).await;
    other.click("#accept").await;
    assert!(other.text(".notice.bad").await.contains("taken back"));
    other.script(&format!("location.hash = {:?}", link(&second))).await;
    other.until("!document.querySelector('.notice.bad')").await;
    let told = other.text(".ticket").await;
    assert!(told.contains("Chamber Music") && told.contains("Seat 23") && told.contains("Seat 21"), "{told}");
    other.picture("accept").await;
    other.click("#accept").await;
    other.find("#from-others").await;
    assert!(!other.is_there("#refund").await);
    other.picture("handed-on").await;
    assert_eq!(places(&server, &order, &ben).await.0, ["S-C-1", "S-C-2"]);

    // Who had it is told so at once, and later.
    assert!(window.text("#handed-on").await.contains("ben"));
    window.driver.refresh().await.unwrap();
    assert!(window.text("#handed-on").await.contains("ben"));
    window.close_refused(&[400, 404]).await;
    other.close_refused(&[404]).await;
}

#[tokio::test]
async fn an_offer_asks_who_one_is() {
    let Some(browsers) = Browsers::start("an_offer_asks_who_one_is").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let anna = server.buyer("anna");
    server.charge("anna", 100_000).await;
    let order = paid(&server, &option, &anna, &["S-C-1"]).await;
    let offer = server.post(&format!("/v1/reservations/{order}/transfers"), &anna, json!({"to": "ben"})).await;
    let window = browsers.window(&server, Look::PHONE).await;
    window.open(&format!("/#/offers/{}/{option}/S-C-1,nowhere/", offer.created())).await;
    // What the plan does not have is not shown.
    window.find(".lines li").await;
    assert_eq!(window.script("return document.querySelectorAll('.lines li').length").await, 1);
    window.click("#begin-offer").await;
    window.find("#token").await.send_keys(&server.buyer("ben")).await.unwrap();
    window.click("dialog form .button:not(.quiet)").await;
    window.click("#accept").await;
    window.find("#from-others").await;
    window.close_refused(&[404]).await;
}
