//! Buyers who pay by a provider, and operators who see what it owes.

use std::time::Duration;

use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::Provider;
use serde_json::{Value, json};

use crate::browser::{Browsers, Look, Window, theatre};
use crate::harness::Server;

/// A server that takes cards, of which a test tells what becomes, and a theatre that is paid by them.
async fn by_card(pay_within: &str, mut more: Value) -> (Server, String) {
    let server = Server::with(|settings| {
        let pay_within = pay_within.parse().unwrap();
        settings.payments.providers = vec![Provider { name: "card".into(), pay_within, ..Provider::default() }];
    })
    .await;
    more["payment_methods"] = json!(["points", "card"]);
    more["currency"] = json!("KRW");
    let (_, option) = theatre(&server, "Chamber Music", json!({}), more).await;
    (server, option)
}

/// The only payment of somebody.
async fn payment(server: &Server, buyer: &str) -> Value {
    server.get("/v1/payments", buyer).await.body["items"][0].clone()
}

async fn told(server: &Server, payment: &Value, kind: &str) {
    let bank = "bank".parse().unwrap();
    let cashier = auth::issue(&server.settings, &bank, Some(Role::Payments), Duration::from_secs(600)).unwrap();
    let id = payment["id"].as_str().unwrap();
    let fact = json!({"kind": kind, "reference": format!("ch-{id}"), "amount": payment["amount"]});
    let path = format!("/v1/payments/{id}/facts");
    let told = server.post(&path, &cashier, fact).await;
    assert_eq!(told.status, 200, "{told:?}");
}

/// Waits until a window says so of what became of the payment. It may show itself anew at any time.
async fn says(window: &Window, what: &str) {
    window.until(&format!("document.querySelector('#outcome')?.textContent.includes({what:?})")).await;
}

#[tokio::test]
async fn who_pays_by_card_may_reload_use_two_tabs_and_get_it_back() {
    let Some(browsers) = Browsers::start("who_pays_by_card_may_reload_use_two_tabs_and_get_it_back").await else {
        return;
    };
    let (server, option) = by_card("10m", json!({})).await;
    let anna = server.buyer("anna");
    let (window, other) = (browsers.window(&server, Look::PHONE).await, browsers.window(&server, Look::DESKTOP).await);
    window.open_as("/", &anna, &format!("#/options/{option}")).await;
    assert!(window.text("main").await.contains("₩12,000"));
    window.click("#best summary").await;
    window.click("#best-hold").await;
    window.find("#countdown").await;
    // By points there are not enough of them.
    assert!(!window.find("#pay").await.is_enabled().await.unwrap());
    window.click("label:has(#method-card)").await;
    window.picture("methods").await;
    window.click("#pay").await;
    says(&window, "Pay ₩24,000 by Card until").await;
    window.picture("paying").await;
    let pending = payment(&server, &anna).await;
    window.driver.refresh().await.unwrap();
    window.find("#give-up").await;
    other.open_as("/", &anna, &format!("#/reservations/{}", pending["reservation_id"].as_str().unwrap())).await;
    other.find("#give-up").await;

    // Given up, and paid once more.
    window.click("#give-up").await;
    says(&window, "making sure that nothing is taken").await;
    told(&server, &pending, "voided").await;
    says(&window, "Nothing was taken").await;
    window.click("label:has(#method-card)").await;
    window.click("#pay").await;
    window.find("#give-up").await;
    let paid = payment(&server, &anna).await;
    assert_ne!(paid["id"], pending["id"]);
    told(&server, &paid, "authorized").await;
    says(&window, "has arrived").await;
    window.until("!document.querySelector('#give-up')").await;
    told(&server, &paid, "captured").await;
    for tab in [&window, &other] {
        tab.find(".ticket").await;
    }

    window.click("#refund").await;
    window.click("dialog .button:not(.quiet)").await;
    window.find("#ended").await;
    says(&window, "₩24,000").await;
    window.picture("refund-owed").await;
    told(&server, &paid, "refunded").await;
    says(&window, "sent back").await;
    window.close().await;
    other.close().await;
}

#[tokio::test]
async fn who_was_charged_for_seats_that_are_gone_is_told_what_becomes_of_the_money() {
    let name = "who_was_charged_for_seats_that_are_gone_is_told_what_becomes_of_the_money";
    let Some(browsers) = Browsers::start(name).await else { return };
    let (server, option) = by_card("2s", json!({"hold_seconds": 1})).await;
    let anna = server.buyer("anna");
    let reservation = server.hold(&option, &anna, &["S-C-1", "S-C-2"]).await;
    let path = format!("/v1/reservations/{reservation}/payments");
    server.post(&path, &anna, json!({"method": "card"})).await.created();
    let pending = payment(&server, &anna).await;
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &anna, &format!("#/reservations/{reservation}")).await;
    assert!(window.text("#ended").await.contains("The time to pay was over"));
    says(&window, "If something was, you get it back").await;
    server.hold(&option, &server.buyer("ben"), &["S-C-2"]).await;
    told(&server, &pending, "captured").await;
    says(&window, "₩24,000").await;
    says(&window, "within 10 days").await;
    window.picture("charged-too-late").await;
    window.close().await;

    // The other side of it.
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/ops", &server.admin, "").await;
    let owed = window.text(".owed").await;
    let charge = format!("ch-{}", pending["id"].as_str().unwrap());
    for part in ["Give back · ₩24,000", &charge, "0 attempts"] {
        assert!(owed.contains(part), "{owed}");
    }
    window.script("document.querySelector('.owed').scrollIntoView()").await;
    window.picture("owed").await;
    told(&server, &pending, "refunded").await;
    window.until("document.querySelector('.owed').hidden").await;
    window.close().await;
}
