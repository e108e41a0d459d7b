//! The waiting room.

use serde_json::json;

use crate::browser::{Browsers, Look, theatre};
use crate::harness::Server;

#[tokio::test]
async fn the_line_keeps_places_and_lets_in_the_next_when_one_pays() {
    let Some(browsers) = Browsers::start("the_line_keeps_places_and_lets_in_the_next_when_one_pays").await else {
        return;
    };
    let server = Server::start().await;
    let room = json!({"mode": "queue", "max_active": 1});
    let (concert, option) = theatre(&server, "Everybody Wants This", room, json!({})).await;
    for user in ["anna", "ben", "carl"] {
        server.charge(user, 100_000).await;
    }
    let place = format!("#/options/{option}");
    let (anna, ben) = (browsers.window(&server, Look::DESKTOP).await, browsers.window(&server, Look::PHONE).await);
    anna.open_as("/", &server.buyer("anna"), &place).await;
    anna.find(".map").await;
    assert!(anna.text(".pass").await.contains("left to choose"));
    ben.open_as("/", &server.buyer("ben"), &place).await;
    assert_eq!(ben.text("#position").await, "1");
    server.post(&format!("/v1/concerts/{concert}/tokens"), &server.buyer("carl"), json!({})).await;
    ben.picture("line").await;
    ben.driver.refresh().await.unwrap();
    assert_eq!(ben.text("#position").await, "1");
    assert!(!ben.is_there(".map").await);

    anna.click("#best summary").await;
    anna.click("#best-hold").await;
    anna.click("#pay").await;
    anna.find(".ticket").await;
    ben.find(".map").await;

    ben.click_seat("S-F-9").await;
    ben.click("#hold").await;
    ben.click("#pay").await;
    ben.find(".ticket").await;
    anna.close().await;
    ben.close().await;
}

#[tokio::test]
async fn who_leaves_the_line_is_out_of_it() {
    let Some(browsers) = Browsers::start("who_leaves_the_line_is_out_of_it").await else { return };
    let server = Server::start().await;
    let (concert, option) = theatre(&server, "Not Now", json!({"mode": "paused"}), json!({})).await;
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &server.buyer("anna"), &format!("#/options/{option}")).await;
    window.click("#leave").await;
    window.click("dialog .button:not(.quiet)").await;
    window.find(".dates").await;
    let room = server.get(&format!("/v1/concerts/{concert}/waiting-room"), &server.admin).await.body;
    assert_eq!(room["counts"]["waiting"], 0, "{room}");
    window.close().await;
}
