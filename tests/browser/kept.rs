//! What stays: a choice through reloads, languages, tabs and signing in; and what is said of all performances, at their time.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::browser::{Browsers, Look, Window, theatre};
use crate::harness::{Server, option_body};

const MAP: &str = "document.querySelector('.map').seatMap";

async fn until_chosen(window: &Window, seats: &[&str]) {
    window.until(&format!(
        "JSON.stringify([...document.querySelector('.map')?.seatMap.chosen ?? []].map((i) => {MAP}.plan.guids[i])) === '{}'",
        json!(seats)
    )).await;
}

#[tokio::test]
async fn a_choice_survives_a_reload_another_language_and_another_tab() {
    let name = "a_choice_survives_a_reload_another_language_and_another_tab";
    let Some(browsers) = Browsers::start(name).await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let (anna, place) = (server.buyer("anna"), format!("#/options/{option}"));
    let window = browsers.window(&server, Look::PHONE).await;
    window.open_as("/", &anna, &place).await;
    window.tap_seat("S-C-12").await;
    window.tap_seat("S-C-13").await;
    until_chosen(&window, &["S-C-12", "S-C-13"]).await;
    let centre = format!("const {{scale, x, y}} = {MAP}.centre; return [scale, x, y].map((n) => Math.round(100 * n))");
    let seen = window.script(&centre).await;
    window.driver.refresh().await.unwrap();
    until_chosen(&window, &["S-C-12", "S-C-13"]).await;
    assert_eq!(window.script(&centre).await, seen);
    window.tap("#language").await;
    window.until("document.documentElement.lang === 'ko'").await;
    until_chosen(&window, &["S-C-12", "S-C-13"]).await;
    window.tap("#language").await;
    window.until("document.documentElement.lang === 'en'").await;

    // What is taken meanwhile is told of.
    window.open("/").await;
    window.find(".concert").await;
    server.hold(&option, &server.buyer("ben"), &["S-C-13"]).await;
    window.script(&format!("location.hash = '{place}'")).await;
    until_chosen(&window, &["S-C-12"]).await;
    assert!(window.text(".sheet").await.contains("Just gone"));

    // Another tab knows it, and what is held in either.
    let first = window.driver.window().await.unwrap();
    let second = window.driver.new_tab().await.unwrap();
    window.driver.switch_to_window(second).await.unwrap();
    window.open_as("/", &anna, &place).await;
    until_chosen(&window, &["S-C-12"]).await;
    window.click("#hold").await;
    window.find("#countdown").await;
    window.driver.switch_to_window(first.clone()).await.unwrap();
    window.until("document.querySelector('.sheet')?.innerText.includes('You are holding 1 place')").await;
    let mine = format!("return [...{MAP}.mine].map((i) => {MAP}.plan.guids[i])");
    assert_eq!(window.script(&mine).await, json!(["S-C-12"]));
    until_chosen(&window, &[]).await;
    let second = window.driver.windows().await.unwrap().into_iter().find(|one| *one != first).unwrap();
    window.driver.switch_to_window(second).await.unwrap();
    window.click("#release").await;
    window.find(".map").await;
    window.driver.close_window().await.unwrap();
    window.driver.switch_to_window(first).await.unwrap();
    window.until(&format!("{MAP}.mine.size === 0")).await;
    window.close().await;
}

/// A host's page that signs everybody in as somebody: it sends them back with a token. Returns what it was asked for, too.
async fn host(token: String) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut lines = BufReader::new(&mut stream).lines();
            // A browser opens connections that it may not need.
            let Ok(Some(line)) = lines.next_line().await else { continue };
            while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
            let path = line.split(' ').nth(1).unwrap().to_owned();
            let url = reqwest::Url::parse(&format!("http://host{path}")).unwrap();
            if let Some((_, back)) = url.query_pairs().find(|(name, _)| name == "return_to") {
                let answer = format!(
                    "HTTP/1.1 302 Found\r\nLocation: {back}#token={token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                // Nobody listens any more once the test is over.
                let _ = asked.send(path);
            }
        }
    });
    (address, heard)
}

#[tokio::test]
async fn who_is_sent_to_sign_in_comes_back_to_the_same_view_and_choice() {
    let name = "who_is_sent_to_sign_in_comes_back_to_the_same_view_and_choice";
    let Some(browsers) = Browsers::start(name).await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let (address, mut heard) = host(server.buyer("anna")).await;
    let window = browsers.window(&server, Look::PHONE).await;
    // As a server answers that names a page of the host.
    let site = json!({"source": format!(
        "const ask = window.fetch; window.fetch = (path, ...rest) => path === '/v1/site' ?
            Promise.resolve(new Response('{{\"login_url\": \"http://{address}/in?shop=1\"}}', {{headers: {{'content-type': 'application/json'}}}})) : ask(path, ...rest)")});
    window.driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", site).await.unwrap();
    window.open(&format!("/?from=poster#/options/{option}")).await;
    window.tap_seat("S-C-12").await;
    window.tap_seat("S-C-13").await;
    let centre = format!("const {{scale, x, y}} = {MAP}.centre; return [scale, x, y].map((n) => Math.round(100 * n))");
    let seen = window.script(&centre).await;
    window.tap("#hold").await;
    let asked = heard.recv().await.unwrap();
    assert!(
        asked.starts_with("/in?shop=1&return_to=http%3A%2F%2F127.0.0.1") && asked.ends_with("%2F%3Ffrom%3Dposter"),
        "{asked}"
    );
    window.find("#wallet").await;
    until_chosen(&window, &["S-C-12", "S-C-13"]).await;
    assert_eq!(window.script(&centre).await, seen);
    let url = window.driver.current_url().await.unwrap();
    assert!(url.as_str().ends_with(&format!("/?from=poster#/options/{option}")), "{url}");
    window.tap("#hold").await;
    window.find("#countdown").await;
    window.close().await;
}

#[tokio::test]
async fn all_performances_are_told_of_and_reached_at_the_time_of_the_venue() {
    let name = "all_performances_are_told_of_and_reached_at_the_time_of_the_venue";
    let Some(browsers) = Browsers::start(name).await else { return };
    let server = Server::start().await;
    let concert = server.concert().await;
    let there = json!({"time_zone": "Europe/Madrid", "venue": "Teatro Real"});
    let answer = server.ask("PATCH", &format!("/v1/concerts/{concert}"), &server.admin, there).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut options = Vec::new();
    for day in 0..45 {
        let mut body = option_body(2);
        // The last is the cheapest, and the first to be made.
        body["starts_at"] = json!(format!("2099-{:02}-{:02}T19:30:00.000Z", 8 - day / 28, 28 - day % 28));
        body["prices"]["A"] = json!(200 + day);
        body["areas"] = json!([]);
        body["prices"].as_object_mut().unwrap().remove("Floor");
        options.push(server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await.created());
    }
    let window = browsers.window(&server, Look::PHONE).await;
    let far = json!({"timezoneId": "Asia/Tokyo"});
    window.driver.cdp().send_raw("Emulation.setTimezoneOverride", far).await.unwrap();
    window.open("/").await;
    window.find(".concert .pill").await;
    let card = window.text(".concert").await;
    for part in ["45 dates", "12 July", "28 August 2099", "from 200 points", "Teatro Real"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    window.click(".concert").await;
    window.until("document.querySelectorAll('.dates > li').length === 40").await;
    window.click(".dates + .button").await;
    let links = "return [...document.querySelectorAll('.dates a')].map((a) => a.hash)";
    let mut expected: Vec<Value> = options.iter().map(|option| json!(format!("#/options/{option}"))).collect();
    expected.reverse();
    assert_eq!(window.script(links).await, Value::Array(expected));
    assert!(!window.find(".dates").await.text().await.unwrap().contains("04:30"));
    // English is not American: 24 hours, and the day before the month.
    assert!(window.text(".date").await.contains("21:30 CEST"));
    assert!(window.driver.title().await.unwrap().ends_with(" · boxoffice"));
    window.click(".dates a").await;
    window.find(".map").await;
    window.until("document.title.includes('12 July 2099')").await;
    assert!(window.text(".event").await.contains("21:30 CEST · Teatro Real"));
    window.close().await;
}

#[tokio::test]
async fn old_browsers_are_told() {
    let Some(browsers) = Browsers::start("old_browsers_are_told").await else { return };
    let server = Server::start().await;
    for (missing, page, language) in [
        ("delete Promise.withResolvers", "/", "en"),
        ("delete Map.groupBy", "/", "en"),
        ("delete CanvasRenderingContext2D.prototype.roundRect", "/ops", "en"),
        ("delete Array.prototype.toReversed", "/", "ko"),
        ("delete window.BroadcastChannel", "/", "en"),
        (
            "const knows = CSS.supports.bind(CSS); CSS.supports = (style) => !style.includes('light-dark') && knows(style)",
            "/",
            "en",
        ),
        (
            "const knows = CSS.supports.bind(CSS); CSS.supports = (style) => !style.includes(':has') && knows(style)",
            "/",
            "en",
        ),
        ("delete window.CSS", "/", "en"),
        ("delete HTMLScriptElement.prototype.noModule", "/", "en"),
    ] {
        let window = browsers.window(&server, Look { language, ..Look::PHONE }).await;
        let script = json!({"source": missing});
        window.driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", script).await.unwrap();
        window.open(page).await;
        let told = window.text("#old").await;
        let words = if language == "ko" { "브라우저" } else { "too old" };
        assert!(told.contains(words) && told.contains("Firefox 121"), "{missing}: {told}");
        assert!(!window.is_there("nav").await, "{missing}");
        window.picture("old").await;
        window.leave().await;
    }
    // A new one is not.
    let window = browsers.window(&server, Look::PHONE).await;
    window.open("/").await;
    window.find("nav").await;
    assert!(!window.is_there("#old").await);
    window.close().await;
}
