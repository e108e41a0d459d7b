//! `<boxoffice-seats>` in a page of somebody else's, under a strict policy of theirs.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::browser::{Browsers, Look, Window, theatre};
use crate::harness::Server;

/// What the site does: it hears all events, and gives the token that the test has put there.
const SHOP: &str = "
    window.heard = []; window.asked = 0; window.token = null;
    const names = ['ready', 'change', 'taken', 'hold', 'release', 'expire', 'login', 'error'];
    for (const name of names) document.addEventListener(`boxoffice-${name}`, ({detail}) => window.heard.push({name, detail}));
    for (const seats of document.querySelectorAll('boxoffice-seats')) {
        seats.getToken = async () => { window.asked += 1; return window.token; };
    }
    window.tried = (promise) => promise.then((value) => ({value: value ?? null}), (error) => ({problem: error.problem ?? String(error)}));
";
pub const SEATS: &str = "document.querySelector('boxoffice-seats')";
pub const INSIDE: &str = "document.querySelector('boxoffice-seats').shadowRoot";

/// A listener for the site, whose origin the server must know before there is a page.
pub async fn site() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server that lets this site call it.
pub async fn server_for(site: SocketAddr) -> Server {
    Server::with(|settings| settings.cors.allowed_origins = vec![format!("http://{site}")]).await
}

/// Serves a page with `body`, which loads the map from `servers`. Its policy has nothing unsafe in it.
pub fn serve(listener: TcpListener, servers: &[&Server], body: String) {
    let all =
        |scheme: &str| -> String { servers.iter().map(|server| format!(" {scheme}://{}", server.address)).collect() };
    let policy = format!(
        "default-src 'none'; script-src 'self'{}; connect-src 'self'{}{}; style-src 'self'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        all("http"),
        all("http"),
        all("ws")
    );
    let script = format!("http://{}/embed/v1.js", servers[0].address);
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>A shop</title><link rel=\"stylesheet\" href=\"/shop.css\"><h1>Our theatre</h1>{body}<p>More of the page.</p>\
         <script src=\"/shop.js\"></script><script type=\"module\" src=\"{script}\"></script></html>"
    );
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (policy, page) = (policy.clone(), page.clone());
            // A browser opens connections that it may not need.
            tokio::spawn(async move {
                let mut lines = BufReader::new(&mut stream).lines();
                let Ok(Some(line)) = lines.next_line().await else { return };
                while lines.next_line().await.is_ok_and(|line| line.is_some_and(|line| !line.is_empty())) {}
                let (kind, text) = match line.split(' ').nth(1).unwrap() {
                    "/shop.js" => ("text/javascript", SHOP),
                    "/shop.css" => ("text/css", "p { color: red; font-size: 40px } .sheet, button { display: none }"),
                    "/" => ("text/html; charset=utf-8", page.as_str()),
                    _ => ("text/plain", ""),
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nContent-Security-Policy: {policy}\r\n\
                     Cache-Control: no-store\r\nConnection: close\r\n\r\n",
                    text.len()
                );
                // Nobody listens any more once the test is over.
                let _ = stream.write_all(format!("{head}{text}").as_bytes()).await;
            });
        }
    });
}

pub async fn until_heard(window: &Window, name: &str) {
    window.until(&format!("window.heard?.some((event) => event.name === '{name}')")).await;
}

/// What became of a promise.
pub async fn tried(window: &Window, call: &str) -> Value {
    window
        .script(&format!("window.told = null; window.tried({SEATS}.{call}).then((told) => (window.told = told))"))
        .await;
    window.until("window.told").await;
    window.script("return window.told").await
}

/// Closes it. Nothing may have been against the site's policy; refusals by the server are what some tests are about.
pub async fn close(window: Window) {
    let log = window.driver.browser_log().await.unwrap();
    let is_fine = |message: &str| message.contains("the server responded with a status of");
    let wrong: Vec<_> = log.iter().filter(|entry| entry.level == "SEVERE" && !is_fine(&entry.message)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let kept = window.script("return [document.cookie, localStorage.length, sessionStorage.length]").await;
    assert_eq!(kept, json!(["", 0, 0]));
    window.leave().await;
}

#[tokio::test]
async fn seats_are_chosen_held_and_let_go_in_a_page_of_another_site() {
    let Some(browsers) = Browsers::start("seats_are_chosen_held_and_let_go_in_a_page_of_another_site").await else {
        return;
    };
    let (listener, address) = site().await;
    let server = server_for(address).await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    serve(listener, &[&server], format!("<boxoffice-seats option=\"{option}\" max=\"3\"></boxoffice-seats>"));
    for look in [Look::DESKTOP, Look { is_dark: true, ..Look::PHONE }] {
        let window = browsers.window(&server, look).await;
        window.driver.goto(format!("http://{address}/")).await.unwrap();
        until_heard(&window, "ready").await;

        assert_eq!(tried(&window, "select(['S-C-12', 'S-C-13'])").await, json!({"value": null}));
        let selection = json!({"seats": ["S-C-12", "S-C-13"], "areas": [], "amount": 24_000});
        assert_eq!(window.script(&format!("return {SEATS}.selection")).await, selection);
        assert_eq!(window.script("return window.heard.at(-1)").await, json!({"name": "change", "detail": selection}));
        let refused = tried(&window, "select(['S-C-14', 'S-C-15'])").await;
        assert_eq!(refused["problem"]["code"], "limit_exceeded", "{refused}");
        let refused = tried(&window, "select(['none'])").await;
        assert_eq!(refused["problem"]["code"], "unknown_seats", "{refused}");

        // Nobody is signed in yet.
        let refused = tried(&window, "hold()").await;
        assert_eq!(refused["problem"]["code"], "unauthenticated", "{refused}");
        until_heard(&window, "login").await;

        // Somebody else is faster.
        let ben = server.buyer("ben");
        let taken = server.hold(&option, &ben, &["S-C-13"]).await;
        until_heard(&window, "taken").await;
        let gone = window.script("return window.heard.find(({name}) => name === 'taken').detail").await;
        assert_eq!(gone, json!({"seats": ["S-C-13"]}));
        window.until(&format!("{INSIDE}.querySelector('[role=alert]').textContent.includes('Just gone')")).await;
        let answer = server.ask("DELETE", &format!("/v1/reservations/{taken}"), &ben, Value::Null).await;
        assert_eq!(answer.status, 200, "{answer:?}");

        // By its own button, which the styles of the site do not reach.
        window.script(&format!("window.token = '{}'", server.buyer("anna"))).await;
        let button = format!("{INSIDE}.querySelector('.cart [part=button]')");
        window.until(&format!("{button}?.checkVisibility()")).await;
        window.script(&format!("{button}.click()")).await;
        until_heard(&window, "hold").await;
        let held = window.script(&format!("return {SEATS}.reservation")).await;
        assert_eq!((&held["user_id"], &held["status"]), (&json!("anna"), &json!("held")), "{held}");
        let empty = json!({"seats": [], "areas": [], "amount": 0});
        assert_eq!(window.script(&format!("return {SEATS}.selection")).await, empty);
        window.picture(if look.is_dark { "embed-phone" } else { "embed" }).await;

        let released = tried(&window, "release()").await;
        assert_eq!(released["value"]["status"], "released", "{released}");
        until_heard(&window, "release").await;
        let best = tried(&window, "best({count: 2, category: 'Standard'})").await;
        assert_eq!(best["value"]["seats"].as_array().unwrap().len(), 2, "{best}");
        assert_eq!(tried(&window, "release()").await["value"]["status"], "released");
        let refused = tried(&window, "release()").await;
        assert_eq!(refused["problem"]["code"], "reservation_not_held", "{refused}");
        close(window).await;
    }
}

#[tokio::test]
async fn a_hold_runs_out_and_is_told_of_and_one_is_known_again() {
    let Some(browsers) = Browsers::start("a_hold_runs_out_and_is_told_of_and_one_is_known_again").await else { return };
    let (listener, address) = site().await;
    let server = server_for(address).await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({"hold_seconds": 5})).await;
    serve(listener, &[&server], format!("<boxoffice-seats option=\"{option}\"></boxoffice-seats>"));
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.driver.goto(format!("http://{address}/")).await.unwrap();
    until_heard(&window, "ready").await;
    let anna = server.buyer("anna");
    // What was held elsewhere is shown once it is known who looks.
    let before = server.hold(&option, &anna, &["S-C-12"]).await;
    window.script(&format!("window.token = '{anna}'; {SEATS}.getToken = {SEATS}.getToken")).await;
    window.until(&format!("{SEATS}.reservation?.id === '{before}'")).await;
    until_heard(&window, "expire").await;
    let gone = window.script("return window.heard.find(({name}) => name === 'expire').detail.reservation").await;
    assert_eq!((&gone["id"], &gone["status"]), (&json!(before), &json!("expired")), "{gone}");
    assert_eq!(window.script(&format!("return {SEATS}.reservation")).await, Value::Null);
    close(window).await;
}

#[tokio::test]
async fn two_maps_have_two_servers_and_two_languages() {
    let Some(browsers) = Browsers::start("two_maps_have_two_servers_and_two_languages").await else { return };
    let (listener, address) = site().await;
    let servers = [server_for(address).await, server_for(address).await];
    let mut maps = String::new();
    for (server, lang) in servers.iter().zip(["en", "ko"]) {
        let (_, option) = theatre(server, "Chamber Music", json!({}), json!({})).await;
        maps += &format!(
            "<boxoffice-seats server=\"http://{}\" option=\"{option}\" lang=\"{lang}\"></boxoffice-seats>",
            server.address
        );
    }
    let [one, two] = &servers;
    serve(listener, &[one, two], maps);
    let window = browsers.window(one, Look::DESKTOP).await;
    window.driver.goto(format!("http://{address}/")).await.unwrap();
    window.until("window.heard?.filter(({name}) => name === 'ready').length === 2").await;
    let options = window
        .script("return [...document.querySelectorAll('boxoffice-seats')].map((it) => it.getAttribute('option'))")
        .await;
    // Each with the tokens of its own server.
    let tokens = json!([one.buyer("anna"), two.buyer("anna")]);
    let hold = format!(
        "const tokens = {tokens}; document.querySelectorAll('boxoffice-seats').forEach(async (it, k) => {{ \
         it.getToken = async () => tokens[k]; await it.select(['S-A-1']); await it.hold(); }})"
    );
    window.script(&hold).await;
    window.until("window.heard.filter(({name}) => name === 'hold').length === 2").await;
    for (server, option) in servers.iter().zip(options.as_array().unwrap()) {
        let path = format!("/v1/options/{}/seats", option.as_str().unwrap());
        assert_eq!(server.get(&path, "").await.body["seats"], json!({"S-A-1": "held"}));
    }
    // On the second server only.
    two.hold(options[1].as_str().unwrap(), &two.buyer("ben"), &["S-C-12"]).await;
    let status = "[...document.querySelectorAll('boxoffice-seats')].map((it) => { \
        const {plan} = it.shadowRoot.querySelector('.map').seatMap; return plan.status[plan.index.get('S-C-12')]; })";
    window.until(&format!("{status}.join() === '0,1'")).await;
    let titles = "return [...document.querySelectorAll('boxoffice-seats')].map((it) => it.shadowRoot.querySelector('h2').textContent)";
    assert_eq!(window.script(titles).await, json!(["Categories", "등급"]));
    close(window).await;
}

#[tokio::test]
async fn attributes_may_change_at_any_time() {
    let Some(browsers) = Browsers::start("attributes_may_change_at_any_time").await else { return };
    let (listener, address) = site().await;
    let server = server_for(address).await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    serve(listener, &[&server], "<boxoffice-seats></boxoffice-seats>".into());
    let window = browsers.window(&server, Look::DESKTOP).await;
    window.driver.goto(format!("http://{address}/")).await.unwrap();
    window.until(&format!("{SEATS}.select")).await;
    let set = async |name: &str, value: &str| {
        window.script(&format!("{SEATS}.setAttribute('{name}', '{value}')")).await;
    };
    set("option", "o77").await;
    until_heard(&window, "error").await;
    let problem = window.script("return window.heard.at(-1).detail.problem.code").await;
    assert_eq!(problem, "not_found");
    set("option", &option).await;
    until_heard(&window, "ready").await;
    assert_eq!(tried(&window, "select(['S-C-12'])").await, json!({"value": null}));
    set("lang", "ko").await;
    window.until(&format!("{INSIDE}.querySelector('h2')?.textContent === '등급'")).await;
    let seats = format!("return {SEATS}.selection.seats");
    assert_eq!(window.script(&seats).await, json!(["S-C-12"]));
    set("categories", "Standard").await;
    let refused = tried(&window, "select(['S-C-13'])").await;
    assert_eq!(refused["problem"]["conflicts"], json!(["S-C-13"]), "{refused}");
    set("readonly", "").await;
    let refused = tried(&window, "select(['S-C-13'])").await;
    assert_eq!(refused["problem"]["code"], "forbidden", "{refused}");
    assert_eq!(window.script(&format!("return {INSIDE}.querySelectorAll('[part=button]').length")).await, 0);
    let tones = format!("{INSIDE}.querySelector('.map').seatMap.painter.tones");
    set("theme", "dark").await;
    window.until(&format!("{tones}.isDark")).await;
    // Also what the styles of the site say is followed.
    window.script(&format!("{SEATS}.style.setProperty('--boxoffice-selected', 'rgb(122 31 92)')")).await;
    window.until(&format!("{tones}.mine === '#7a1f5c'")).await;
    close(window).await;
}

#[tokio::test]
async fn its_forms_hold_the_best_seats_and_places_in_areas() {
    let Some(browsers) = Browsers::start("its_forms_hold_the_best_seats_and_places_in_areas").await else { return };
    let (listener, address) = site().await;
    let server = server_for(address).await;
    let areas = json!([{"name": "Lawn", "capacity": 20, "category": "Restricted"},
        {"name": "Terrace", "capacity": 3, "category": "Standard"}]);
    let more = json!({"accessible": ["Wheelchair"], "areas": areas});
    let (_, option) = theatre(&server, "Chamber Music", json!({}), more).await;
    serve(listener, &[&server], format!("<boxoffice-seats option=\"{option}\"></boxoffice-seats>"));
    for look in [Look::PHONE, Look::DESKTOP] {
        let window = browsers.window(&server, look).await;
        window.driver.goto(format!("http://{address}/")).await.unwrap();
        until_heard(&window, "ready").await;
        window.script(&format!("window.token = '{}'", server.buyer("anna"))).await;
        let click = async |css: &str| {
            window.until(&format!("{INSIDE}.querySelector({css:?})?.checkVisibility()")).await;
            window.script(&format!("{INSIDE}.querySelector({css:?}).click()")).await;
        };
        let held = async |n: usize| {
            window.until(&format!("window.heard.filter(({{name}}) => name === 'hold').length === {n}")).await;
            window.script(&format!("return {SEATS}.reservation")).await
        };
        // It comes before the map where one scrolls.
        let order = format!(
            "return Boolean({INSIDE}.querySelector('#best').compareDocumentPosition({INSIDE}.querySelector('.map')) & 4)"
        );
        assert_eq!(window.script(&order).await, json!(look.width < 500));
        // A place for a wheelchair is named, and comes with somebody beside it.
        click("#best summary").await;
        assert_eq!(
            window.script(&format!("return {INSIDE}.querySelector('#best-companions').checkVisibility()")).await,
            json!(false)
        );
        let choose = format!(
            "const at = (id) => {INSIDE}.getElementById(id); at('best-category').value = 'Wheelchair';
             at('best-category').dispatchEvent(new Event('change')); at('best-count').value = 1; at('best-companions').value = 1"
        );
        window.script(&choose).await;
        window.picture(if look.width < 500 { "embed-best-phone" } else { "embed-best" }).await;
        click("#best-hold").await;
        let best = held(1).await;
        let categories: Vec<_> = best["seats"].as_array().unwrap().iter().map(|seat| &seat["category"]).collect();
        assert!(categories.len() == 2 && categories.contains(&&json!("Wheelchair")), "{best}");
        assert_eq!(tried(&window, "release()").await["value"]["status"], "released");

        // Places of two areas in one go, never more than there are.
        click("[data-area=Lawn] [aria-label=More]").await;
        for _ in 0..4 {
            click("[data-area=Terrace] [aria-label=More]").await;
        }
        let selection = window.script(&format!("return {SEATS}.selection")).await;
        let chosen = json!([{"name": "Lawn", "count": 1}, {"name": "Terrace", "count": 3}]);
        assert_eq!(selection, json!({"seats": [], "areas": chosen, "amount": 28_500}));
        click("#hold").await;
        let places = held(2).await;
        assert_eq!((&places["amount"], &places["areas"][1]["count"]), (&json!(28_500), &json!(3)), "{places}");
        window.until(&format!("{INSIDE}.querySelector('[data-area=Terrace]').textContent.includes('Sold out')")).await;
        assert_eq!(tried(&window, "release()").await["value"]["status"], "released");

        // The legend filters, and from the list one chooses without the map.
        click(".filter").await;
        let filter = format!("return [...{INSIDE}.querySelector('.map').seatMap.painter.filter]");
        assert_eq!(window.script(&filter).await, json!([0]));
        click("#list summary").await;
        click("#list-seats input:not(:disabled)").await;
        window.until(&format!("{SEATS}.selection.seats.length === 1")).await;
        close(window).await;
    }
}

#[tokio::test]
async fn where_there_is_a_line_the_site_is_asked_for_a_place_in_it() {
    let Some(browsers) = Browsers::start("where_there_is_a_line_the_site_is_asked_for_a_place_in_it").await else {
        return;
    };
    let (listener, address) = site().await;
    let server = server_for(address).await;
    let (concert, option) = theatre(&server, "Chamber Music", json!({"mode": "queue"}), json!({})).await;
    serve(listener, &[&server], format!("<boxoffice-seats option=\"{option}\"></boxoffice-seats>"));
    let window = browsers.window(&server, Look::PHONE).await;
    window.driver.goto(format!("http://{address}/")).await.unwrap();
    until_heard(&window, "error").await;
    let problem = window.script("return window.heard.find(({name}) => name === 'error').detail.problem").await;
    assert_eq!(problem, json!({"status": 403, "code": "queue_token_required"}));
    let cart = format!("{INSIDE}.querySelector('.cart')");
    window.until(&format!("{cart}.textContent === 'This concert has a line. Join it first.'")).await;
    assert_eq!(tried(&window, "select(['S-C-12'])").await, json!({"value": null}));
    assert_eq!(window.script(&format!("return {INSIDE}.querySelector('#hold')")).await, Value::Null);
    assert_eq!(window.script(&format!("return {INSIDE}.querySelector('#best-hold').disabled")).await, json!(true));
    window.picture("embed-line").await;

    let anna = server.buyer("anna");
    let line = format!("/v1/concerts/{concert}/tokens");
    let pass = loop {
        let pass = server.post(&line, &anna, json!({})).await;
        if pass.body["status"] == "active" {
            break pass;
        }
    };
    window.script(&format!("window.token = '{anna}'; {SEATS}.queueToken = {}", pass.body["token"])).await;
    window.until(&format!("{INSIDE}.querySelector('#hold')?.checkVisibility()")).await;
    window.script(&format!("{INSIDE}.querySelector('#hold').click()")).await;
    until_heard(&window, "hold").await;
    close(window).await;
}
