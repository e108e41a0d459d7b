//! Every page in every size, by day and by night, in both languages: pictures to look at, and what can be checked of them
//! without eyes.

use serde_json::json;

use crate::browser::{Browsers, Look, Window, stadium, theatre};
use crate::harness::Server;

const LOOKS: [(&str, Look); 4] = [
    ("phone-light-ko", Look { language: "ko", ..Look::PHONE }),
    ("phone-dark-en", Look { is_dark: true, ..Look::PHONE }),
    ("desktop-light-en", Look::DESKTOP),
    ("desktop-dark-ko", Look { is_dark: true, language: "ko", ..Look::DESKTOP }),
];

/// Nothing sticks out at the side, and no text is missing.
async fn check(window: &Window, name: &str, look: Look) {
    let width = window.script("return document.documentElement.scrollWidth").await;
    assert!(width.as_u64().unwrap() <= look.width.into(), "{name} is {width} wide");
    assert_eq!(window.script("return document.documentElement.lang").await, look.language);
    // A text that is missing shows its key.
    let keys = window.script(r"return document.body.innerText.match(/\b[a-z]+(?:_[a-z]+)+\b/g)").await;
    assert!(keys.is_null(), "{name}: {keys}");
    let unnamed = "return [...document.querySelectorAll('button, input, select, textarea, a')].filter((e) => \
        e.checkVisibility() && !e.innerText && !e.ariaLabel && !e.title && !(e.labels?.length)).map((e) => e.outerHTML)";
    assert_eq!(window.script(unnamed).await, json!([]), "{name}");
    window.picture(name).await;
}

#[tokio::test]
async fn pages_fit_every_screen_in_both_languages() {
    let Some(browsers) = Browsers::start("pages_fit_every_screen_in_both_languages").await else { return };
    let server = Server::with(|settings| settings.history.interval = "200ms".parse().unwrap()).await;
    let (concert, option) = theatre(&server, "Goldberg Variations", json!({}), json!({})).await;
    let (_, queued) = theatre(&server, "Northern Lights", json!({"mode": "paused"}), json!({})).await;
    let stadium = stadium(&server, "서울의 밤").await;
    let hall = server.option(12).await;
    sell(&server, &option).await;
    for (suffix, look) in LOOKS {
        let anna = server.buyer(suffix);
        server.charge(suffix, 100_000).await;
        let held = server.post(&format!("/v1/options/{option}/reservations"), &anna, best(2)).await.created();
        let paid = server.post(&format!("/v1/options/{option}/reservations"), &anna, best(2)).await.created();
        server.post(&format!("/v1/reservations/{paid}/payments"), &anna, json!({})).await.created();
        let places = server.get(&format!("/v1/reservations/{paid}"), &anna).await.body["seats"].clone();
        let window = browsers.window(&server, look).await;
        window.open_as("/", &anna, "#/").await;
        window.until("document.querySelectorAll('.concert .pill:not([hidden])').length === 4").await;
        check(&window, &format!("concerts-{suffix}"), look).await;
        for (name, place, ready) in [
            ("concert", format!("#/concerts/{concert}"), ".dates .card"),
            ("map", format!("#/options/{option}"), ".legend li"),
            ("line", format!("#/options/{queued}"), "#position"),
            ("stadium", format!("#/options/{stadium}"), ".legend li"),
            ("hall", format!("#/options/{hall}"), ".area"),
            ("checkout", format!("#/reservations/{held}"), "#pay"),
            ("ticket", format!("#/reservations/{paid}"), ".ticket"),
            ("tickets", "#/tickets".into(), ".records .right"),
            ("swap", format!("#/reservations/{paid}/swap"), "#give"),
            ("offer", format!("#/offers/h9/{option}/S-A-1,S-A-2/"), "#accept"),
        ] {
            window.script(&format!("location.hash = {place:?}")).await;
            window.find(ready).await;
            if name == "map" {
                window.click_seat("S-M-9").await;
                window.click_seat("S-M-10").await;
            }
            if name == "swap" {
                window.click(&format!("[data-place='{}']", places[0]["id"].as_str().unwrap())).await;
                window.click_seat("S-Q-9").await;
                window.find("#difference").await;
            }
            check(&window, &format!("{name}-{suffix}"), look).await;
        }
        for (name, place, button) in
            [("part", &held, "#release-part"), ("refund", &paid, "#refund"), ("hand-on", &paid, "#hand-on")]
        {
            window.script(&format!("location.hash = '#/reservations/{place}'")).await;
            window.click(button).await;
            window.find("dialog .button:not(.quiet)").await;
            check(&window, &format!("{name}-{suffix}"), look).await;
            window.script("document.querySelector('dialog').close()").await;
        }
        window.open_as("/ops", &server.admin, "").await;
        let choose = "const c = document.getElementById('concert'); \
            c.selectedIndex = [...c.options].findIndex((o) => o.text.startsWith('Gold')); c.dispatchEvent(new Event('change'))";
        window.find("#concert").await;
        window.script(choose).await;
        window.until("document.querySelectorAll('.chart .stroke').length === 5 && document.querySelector('.map')?.seatMap.painted").await;
        check(&window, &format!("ops-{suffix}"), look).await;
        window.script("document.querySelector('.seats').scrollIntoView()").await;
        window.click("#view-heat + span").await;
        check(&window, &format!("heat-{suffix}"), look).await;
        window.click("#tab-engine + span").await;
        check(&window, &format!("engine-{suffix}"), look).await;
        window.click("#tab-orders + span").await;
        window.click(&format!("[data-order='{paid}']")).await;
        window.click(".look-back").await;
        window.find("#history").await;
        window.click("#add-up").await;
        window.find("#total").await;
        window.script("scrollTo(0, 0)").await;
        check(&window, &format!("orders-{suffix}"), look).await;
        window.script("document.querySelector('.revenue').scrollIntoView()").await;
        check(&window, &format!("revenue-{suffix}"), look).await;
        for (name, button) in [("hold-for", "#hold-for"), ("give-back", "#give-back"), ("call-off", "#call-off")] {
            window.click(button).await;
            window.find("dialog").await;
            check(&window, &format!("{name}-{suffix}"), look).await;
            window.script("document.querySelector('dialog').close()").await;
        }
        window.close().await;
    }
}

fn best(count: u32) -> serde_json::Value {
    json!({"best_available": {"count": count}})
}

/// Something is sold and held already.
async fn sell(server: &Server, option: &str) {
    for k in 0..24 {
        let name = format!("buyer-{k}");
        let buyer = server.buyer(&name);
        server.charge(&name, 100_000).await;
        let zone = ["Stalls", "Dress Circle", "Upper Circle"][k % 3];
        let wish = json!({"best_available": {"count": 2 + k % 5, "zone": zone}});
        let held = server.post(&format!("/v1/options/{option}/reservations"), &buyer, wish).await.created();
        if k % 4 != 0 {
            server.post(&format!("/v1/reservations/{held}/payments"), &buyer, json!({})).await.created();
        }
    }
}
