//! The operator's page.

use serde_json::json;

use crate::browser::{Browsers, Look, theatre};
use crate::harness::Server;

#[tokio::test]
async fn an_operator_pauses_the_line_and_closes_the_sale() {
    let Some(browsers) = Browsers::start("an_operator_pauses_the_line_and_closes_the_sale").await else { return };
    let server = Server::with(|settings| settings.history.interval = "200ms".parse().unwrap()).await;
    let (concert, option) = theatre(&server, "Chamber Music", json!({"mode": "queue"}), json!({})).await;
    server.charge("carl", 100_000).await;
    let room = format!("/v1/concerts/{concert}/waiting-room");
    let (operator, buyer) =
        (browsers.window(&server, Look::DESKTOP).await, browsers.window(&server, Look::PHONE).await);
    operator.open_as("/ops", &server.admin, "").await;

    operator.click("#mode-paused + span").await;
    operator.find("#max-active").await.clear().await.unwrap();
    operator.find("#max-active").await.send_keys("7").await.unwrap();
    operator.click("#line-form .button").await;
    operator.find(".toast.good").await;
    let settings = server.get(&room, &server.admin).await.body;
    assert_eq!((&settings["mode"], &settings["max_active"]), (&json!("paused"), &json!(7)));

    buyer.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    assert!(buyer.text(".note").await.contains("Nobody is being let in"));
    operator.until("document.querySelectorAll('.tile')[3].querySelector('strong').textContent === '1'").await;
    operator.click("#mode-queue + span").await;
    operator.click("#line-form .button").await;
    buyer.find(".map").await;

    // Seats are taken off sale on the map, and everybody sees it.
    operator.click_seat("S-A-1").await;
    operator.click("#block").await;
    buyer.until_seat("S-A-1", 3).await;
    operator.click_seat("S-A-1").await;
    operator.click("#unblock").await;
    buyer.until_seat("S-A-1", 0).await;

    operator.script("scrollTo(0, 0)").await;
    operator.click("#close-sale").await;
    operator.click("dialog .button:not(.quiet)").await;
    operator.find("#window-form .pill.closed").await;
    buyer.click_seat("S-A-2").await;
    buyer.click("#hold").await;
    assert!(buyer.text(".notice.bad").await.contains("not open"));
    assert!(buyer.text("#cart").await.contains("closed"));
    operator.click("#close-sale").await;
    operator.find("#window-form .pill.on_sale").await;

    // The curve goes back to before the page was opened, as the server has seen it.
    operator.driver.refresh().await.unwrap();
    operator.until("document.querySelectorAll('.chart .stroke').length === 5").await;
    operator.find(".chart").await;
    operator.close().await;
    buyer.close().await;
}

#[tokio::test]
async fn the_operators_page_is_for_admins() {
    let Some(browsers) = Browsers::start("the_operators_page_is_for_admins").await else { return };
    let server = Server::start().await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/ops", &server.buyer("anna"), "").await;
    assert!(window.text("main").await.contains("admin"));
    window.find("#token").await.send_keys(&server.admin).await.unwrap();
    window.click("form .button").await;
    assert!(window.text("main").await.contains("no concert yet"));
    window.close().await;
}
