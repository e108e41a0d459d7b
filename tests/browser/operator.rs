//! The operator's page.

use boxoffice::testing::cluster::{Cable, MemoryStream};
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
    assert!(buyer.text(".note").await.contains("How long it takes is unknown"));
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
    // Whoever looks is told without having tried.
    assert!(buyer.text(".notice.bad").await.contains("closed"));
    assert!(buyer.text("#cart").await.contains("closed"));
    buyer.picture("closed").await;
    operator.click("#close-sale").await;
    operator.find("#window-form .pill.on_sale").await;
    // Who looks at the page again sees at once how it stands.
    buyer.script("document.dispatchEvent(new Event('visibilitychange'))").await;
    buyer.find(".toast.good").await;
    assert!(!buyer.is_there(".notice.bad").await);

    // The curve goes back to before the page was opened, as the server has seen it.
    operator.driver.refresh().await.unwrap();
    operator.until("document.querySelectorAll('.chart .stroke').length === 5").await;
    operator.find(".chart").await;
    operator.close().await;
    buyer.close().await;
}

#[tokio::test]
async fn who_chooses_is_told_of_another_time_and_of_a_line() {
    let Some(browsers) = Browsers::start("who_chooses_is_told_of_another_time_and_of_a_line").await else { return };
    let server = Server::start().await;
    let (concert, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    window.find("#cart .muted").await;
    let look = "document.dispatchEvent(new Event('visibilitychange'))";

    let opens = json!({"sale_opens_at": "2098-05-04T12:00:00Z"});
    let path = format!("/v1/options/{option}");
    assert_eq!(server.ask("PATCH", &path, &server.admin, opens).await.status, 200);
    window.script(look).await;
    assert!(window.text(".notice.bad").await.contains("The sale opens on 4 May"));
    let opens = json!({"sale_opens_at": null});
    assert_eq!(server.ask("PATCH", &path, &server.admin, opens).await.status, 200);
    window.script(look).await;
    window.find("#cart .muted").await;

    let room = format!("/v1/concerts/{concert}/waiting-room");
    assert_eq!(server.ask("PATCH", &room, &server.admin, json!({"mode": "paused"})).await.status, 200);
    window.script(look).await;
    assert!(window.text(".toast.bad").await.contains("This concert has a line"));
    window.find("#position").await;
    window.close().await;
}

/// Nobody listens at its port.
const DEAF: &str = "http://127.0.0.1:1/hook?secret=1";

#[tokio::test]
async fn an_operator_sees_who_does_not_receive_and_sends_again() {
    let Some(browsers) = Browsers::start("an_operator_sees_who_does_not_receive_and_sends_again").await else { return };
    let server = Server::with(|settings| {
        settings.webhooks.allow_private_addresses = true;
        settings.webhooks.retry_schedule = vec!["10ms".parse().unwrap()];
        settings.webhooks.breaker_failures = 1_000;
    })
    .await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let hook = server.post("/v1/webhooks", &server.admin, json!({"url": DEAF})).await.created();
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/ops", &server.admin, "").await;
    window.click("#tab-engine + span").await;
    assert!(window.text(".hooks").await.contains("Active"));
    server.hold(&option, &server.buyer("anna"), &["S-A-1"]).await;
    window.find(".redrive").await;
    let told = window.text(".hooks").await;
    assert!(told.contains("127.0.0.1:1") && told.contains("1 waiting, 1 given up"), "{told}");
    assert!(!told.contains("secret"), "{told}");
    window.script("document.querySelector('.hooks').scrollIntoView()").await;
    window.picture("hooks").await;
    let failed = |hook: &serde_json::Value| hook["attempts"]["failed"].as_u64().unwrap();
    let path = format!("/v1/webhooks/{hook}");
    let before = server.get(&path, &server.admin).await.body;
    window.click(".redrive").await;
    window.find(".toast.good").await;
    let after = server.get(&path, &server.admin).await.body;
    assert!(failed(&after) > failed(&before) || after["dead_letters"] == 0, "{after}");
    window.close().await;
}

#[tokio::test]
async fn the_operators_page_shows_the_nodes() {
    let Some(browsers) = Browsers::start("the_operators_page_shows_the_nodes").await else { return };
    let stream = MemoryStream::default();
    let owner = Server::node(&stream, "ada", &Cable::default()).await;
    let (_, option) = theatre(&owner, "Chamber Music", json!({}), json!({})).await;
    let follower = Server::node(&stream, "ben", &Cable::default()).await;
    let window = browsers.window(&follower, Look::DESKTOP).await;
    window.open_as("/ops", &follower.admin, "").await;
    window.click("#tab-engine + span").await;
    window.until("document.querySelectorAll('.nodes li').length === 2").await;
    let told = window.text(".nodes").await;
    let places: Vec<_> = ["ada", "Owner", "ben", "Follower"].map(|part| told.find(part)).into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{told}");
    // What one decides is seen through the other.
    owner.hold(&option, &owner.buyer("anna"), &["S-A-1"]).await;
    window.until_seat("S-A-1", 1).await;
    window.script("document.querySelector('.nodes').scrollIntoView()").await;
    window.picture("nodes").await;
    window.close().await;
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
    window.until("document.body.innerText.includes('no concert yet')").await;
    window.close().await;
}
