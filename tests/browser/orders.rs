//! Operators who look for orders and do something about them, each as far as their role goes.

use std::time::Duration;

use boxoffice::server::auth::{self, Role};
use serde_json::json;

use crate::browser::{Browsers, Look, Window, theatre};
use crate::harness::Server;

fn with_role(server: &Server, role: Role) -> String {
    let user = role.as_str().replace('_', "-").parse().unwrap();
    auth::issue(&server.settings, &user, Some(role), Duration::from_secs(600)).unwrap()
}

/// An option, with an order of anna's that is paid and one of ben's that is held.
async fn sold(server: &Server) -> (String, String, String) {
    let area = json!({"areas": [{"name": "Lawn", "capacity": 20, "category": "Restricted"}]});
    let (_, option) = theatre(server, "Chamber Music", json!({}), area).await;
    server.charge("anna", 100_000).await;
    let (anna, ben) = (server.buyer("anna"), server.buyer("ben"));
    let wish = json!({"seats": ["S-C-1", "S-C-2"], "reference": "order 7"});
    let path = format!("/v1/options/{option}/reservations");
    let paid = server.post(&path, &anna, wish).await.created();
    server.post(&format!("/v1/reservations/{paid}/payments"), &anna, json!({})).await.created();
    let held = server.post(&path, &ben, json!({"areas": [{"name": "Lawn", "count": 3}]})).await.created();
    (option, paid, held)
}

async fn type_into(window: &Window, css: &str, text: &str) {
    let field = window.find(css).await;
    field.clear().await.unwrap();
    field.send_keys(text).await.unwrap();
}

/// Whose orders are listed, in this order.
async fn listed(window: &Window, users: &[&str]) {
    let shown = "[...document.querySelectorAll('.row strong')].map((row) => row.textContent).join()";
    window.until(&format!("{shown} === {:?}", users.join(","))).await;
}

async fn yes(window: &Window) {
    window.click("dialog .button:not(.quiet)").await;
    window.until_gone("dialog").await;
}

#[tokio::test]
async fn orders_are_found_shown_and_added_up() {
    let Some(browsers) = Browsers::start("orders_are_found_shown_and_added_up").await else { return };
    let server = Server::start().await;
    let (_, paid, _) = sold(&server).await;
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/ops", &server.admin, "").await;
    window.click("#tab-orders + span").await;
    listed(&window, &["ben", "anna"]).await;
    for (field, text, users) in [
        ("#find-seat", "S-C-2", vec!["anna"]),
        ("#find-user", "ben", vec!["ben"]),
        ("#find-reference", "order 7", vec!["anna"]),
        ("#find-user", "nobody", vec![]),
    ] {
        type_into(&window, field, text).await;
        window.click("#find").await;
        listed(&window, &users).await;
        window.find(field).await.clear().await.unwrap();
    }
    type_into(&window, "#find-seat", "nowhere").await;
    window.click("#find").await;
    window.until("document.querySelector('.rows').innerText.includes('no such seat: nowhere')").await;
    window.find("#find-seat").await.clear().await.unwrap();
    window.click("#find-status [value='confirmed']").await;
    window.click("#find").await;
    listed(&window, &["anna"]).await;

    window.click(&format!("[data-order='{paid}']")).await;
    let told = window.text("#order").await;
    for part in ["anna", "order 7", "S-C-1", "12,000 points", "24,000 points", "Points · paid", "Number"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    window.click("#order .look-back").await;
    let told = window.text("#history").await;
    let steps: Vec<_> = ["Held · anna", "A payment began · anna", "Paid"].map(|step| told.find(step)).into();
    assert!(steps.iter().all(Option::is_some) && steps.is_sorted(), "{told}");
    window.picture("orders").await;

    window.click("#add-up").await;
    assert!(window.text("#total").await.contains("24,000"));
    assert!(window.text("#by-category").await.contains("24,000 points"));
    assert!(window.text("#by-day tbody").await.contains("24,000 points"));
    window.script("document.querySelector('.revenue').scrollIntoView()").await;
    window.picture("revenue").await;

    // The tab is still there after a reload, and what is downloaded is what is searched for.
    window.driver.refresh().await.unwrap();
    listed(&window, &["ben", "anna"]).await;
    type_into(&window, "#find-user", "anna").await;
    let kept = "const make = URL.createObjectURL; URL.createObjectURL = (blob) => { blob.text().then((text) => (window.sheet = text)); return make(blob); };
        HTMLAnchorElement.prototype.click = function () { window.named = this.download; }";
    window.script(kept).await;
    window.click("#csv").await;
    window.until("window.sheet").await;
    let sheet = window.script("return [window.named, window.sheet]").await;
    let lines: Vec<_> = sheet[1].as_str().unwrap().lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("S-C-1") && lines[2].contains("S-C-2"), "{lines:?}");
    assert!(sheet[0].as_str().unwrap().ends_with(".csv"), "{sheet}");
    window.close_refused(&[422]).await;
}

#[tokio::test]
async fn an_admin_changes_orders_for_others() {
    let Some(browsers) = Browsers::start("an_admin_changes_orders_for_others").await else { return };
    let server = Server::start().await;
    let (option, paid, held) = sold(&server).await;
    let read = async |id: &str| server.get(&format!("/v1/reservations/{id}"), &server.admin).await.body;
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.open_as("/ops", &server.admin, "").await;
    window.click("#tab-orders + span").await;
    let open = async |id: &str| window.click(&format!("[data-order='{id}']")).await;

    // Held longer, then let go in part and as a whole.
    open(&held).await;
    window.click("#extend").await;
    window.script("document.querySelector('#until').value = '2098-01-01T12:00'").await;
    yes(&window).await;
    assert!(read(&held).await["expires_at"].as_str().unwrap().starts_with("2098-01-01"));
    window.click("#release").await;
    type_into(&window, "[data-place='Lawn']", "2").await;
    yes(&window).await;
    assert_eq!(read(&held).await["areas"][0]["count"], 1);
    window.click("#release").await;
    yes(&window).await;
    window.find("#order .pill.released").await;
    assert_eq!(read(&held).await["status"], "released");

    // Given back in part, handed on, and given back to who paid.
    open(&paid).await;
    window.click("#give-back").await;
    window.click("[data-place='S-C-2']").await;
    window.picture("give-back").await;
    yes(&window).await;
    window.until("!document.querySelector('#order').innerText.includes('S-C-1')").await;
    let balance = async |user: &str| server.get("/v1/wallet", &server.buyer(user)).await.body["balance"].clone();
    while balance("anna").await != 88_000 {}
    window.click("#hand-over").await;
    type_into(&window, "#to", "carl").await;
    yes(&window).await;
    assert!(window.text("#handed-on").await.contains("anna paid"));
    assert_eq!(read(&paid).await["user_id"], "carl");
    window.click("#give-back").await;
    yes(&window).await;
    window.find("#order .pill.refunded").await;
    while balance("anna").await != 100_000 {}

    // Given away from the map, out of what is blocked.
    window.click("#tab-sale + span").await;
    window.click_seat("S-A-1").await;
    window.click("#block").await;
    window.until_seat("S-A-1", 3).await;
    window.click_seat("S-A-1").await;
    window.click("#hold").await;
    type_into(&window, "#hold-user", "dora").await;
    window.click("dialog .button:not(.quiet)").await;
    assert!(window.text("dialog .notice.bad").await.contains("taken"));
    window.click("#hold-complimentary").await;
    window.click("#hold-from-blocked").await;
    window.picture("hold-for").await;
    yes(&window).await;
    window.find("#order .pill.confirmed").await;
    assert!(window.text("#order").await.contains("dora"));
    // Who sits there is found from the map.
    window.click("#tab-sale + span").await;
    window.click("#clear").await;
    window.click_seat("S-A-1").await;
    window.click("#who").await;
    listed(&window, &["dora"]).await;
    let seats = server.get(&format!("/v1/options/{option}/seats"), "").await.body;
    assert_eq!(seats["seats"], json!({"S-A-1": "sold"}));
    window.close().await;
}

#[tokio::test]
async fn each_role_is_shown_what_it_may_do() {
    let Some(browsers) = Browsers::start("each_role_is_shown_what_it_may_do").await else { return };
    let server = Server::start().await;
    let (_, paid, held) = sold(&server).await;
    let all =
        ["#hold-for", "#call-off", "#extend", "#release", "#give-back", "#hand-over", ".look-back", "#block", "#hold"];
    for (role, may) in [
        (Role::BoxOffice, vec!["#hold-for", "#hand-over", "#block", "#hold"]),
        (Role::Refunds, vec!["#give-back"]),
        (Role::Viewer, vec![".look-back"]),
    ] {
        let window = browsers.window(&server, Look::PHONE).await;
        window.open_as("/ops", &with_role(&server, role), "").await;
        listed(&window, &["ben", "anna"]).await;
        let mut there = std::collections::BTreeSet::new();
        for order in [&held, &paid] {
            window.click(&format!("[data-order='{order}']")).await;
            window.until(&format!("document.querySelector('#order code')?.textContent === {order:?}")).await;
            for css in all {
                if window.is_there(css).await {
                    there.insert(css);
                }
            }
        }
        assert_eq!(there, may.iter().copied().collect(), "{role:?}");
        assert!(!window.is_there("#tab-engine").await && !window.is_there("#line-form").await);
        window.click("#add-up").await;
        assert!(window.text("#total").await.contains("24,000"));
        window.picture(&format!("orders-{}", role.as_str())).await;
        window.click("#tab-sale + span").await;
        window.click_seat("S-C-1").await;
        window.click("#who").await;
        listed(&window, &["anna"]).await;
        assert!(!window.is_there(".toast.bad").await);
        window.close().await;
    }
    // Whose role has nothing to do here is told so.
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/ops", &with_role(&server, Role::Payments), "").await;
    assert!(window.text("main").await.contains("box_office"));
    window.close().await;
}

#[tokio::test]
async fn a_performance_is_called_off_after_a_second_question() {
    let Some(browsers) = Browsers::start("a_performance_is_called_off_after_a_second_question").await else { return };
    let server = Server::start().await;
    let (option, paid, held) = sold(&server).await;
    let (window, buyer) = (browsers.window(&server, Look::DESKTOP).await, browsers.window(&server, Look::PHONE).await);
    window.open_as("/ops", &server.admin, "").await;
    window.click("#tab-orders + span").await;
    let status = async || server.get(&format!("/v1/options/{option}"), "").await.body["status"].clone();
    window.click("#call-off").await;
    type_into(&window, "#reason", "The hall is flooded").await;
    window.click("dialog .danger").await;
    window.until("document.querySelector('dialog').innerText.includes('2 places are sold and 3 held')").await;
    window.picture("call-off").await;
    // No is no.
    window.click("dialog .button.quiet").await;
    window.until_gone("dialog").await;
    assert_eq!(status().await, "on_sale");

    window.click("#call-off").await;
    type_into(&window, "#reason", "The hall is flooded").await;
    window.click("dialog .danger").await;
    window.until("document.querySelector('dialog').innerText.includes('Really')").await;
    yes(&window).await;
    window.until("document.querySelector('#cancel-progress')?.innerText.startsWith('All payments')").await;
    assert!(window.text(".off").await.contains("The hall is flooded"));
    window
        .until("document.querySelector('.row .pill.released') && document.querySelector('.row .pill.refunded')")
        .await;
    assert!(!window.is_there("#call-off").await);
    window.picture("called-off").await;
    assert_eq!(status().await, "cancelled");
    assert_eq!(server.get("/v1/wallet", &server.buyer("anna")).await.body["balance"], 100_000);
    // It is told after a reload too, and to buyers.
    window.driver.refresh().await.unwrap();
    window.find("#cancel-progress").await;
    for (order, user) in [(paid, "anna"), (held, "ben")] {
        buyer.open_as("/", &server.buyer(user), &format!("#/reservations/{order}")).await;
        assert!(buyer.text("#ended").await.contains("called off"));
    }
    window.close().await;
    buyer.close().await;
}
