//! What axe-core finds on the pages: nothing, by day and by night, on a phone and on a desktop. It comes from PyPI, in a
//! package that brings it along, by python3 with venv; `AXE` names a file of it in place of that.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::browser::{Browsers, Look, Window, theatre};
use crate::embed;
use crate::harness::Server;

/// A line of `pip`, with the hash that it checks.
const PACKAGE: &str = "axe-playwright-python==0.1.8 \
    --hash=sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8\n";
const FILE: &str = "axe_playwright_python/axe.min.js";
const VERSION: &str = "4.12.1";

/// axe-core, which is fetched the first time.
fn axe() -> String {
    let path = std::env::var_os("AXE").map_or_else(
        || fetched().unwrap_or_else(|error| panic!("axe-core cannot be had: {error}; set AXE to its axe.min.js")),
        PathBuf::from,
    );
    let script = fs::read_to_string(path).unwrap();
    assert!(script.starts_with(&format!("/*! axe v{VERSION}")), "another version than {VERSION}");
    script
}

fn fetched() -> Result<PathBuf, String> {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (script, dir) = (base.join(format!("axe-{VERSION}.js")), base.join("axe"));
    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    // Other processes of tests wait until it is there.
    let lock = File::create(base.join("axe.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if script.exists() {
        return Ok(script);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{command:?}: {error}")),
    };
    let (venv, wanted, brought) = (dir.join("venv"), dir.join("wanted.txt"), dir.join("brought"));
    fs::write(&wanted, PACKAGE).map_err(|error| error.to_string())?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    run(Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"])
        .arg("--requirement")
        .arg(&wanted)
        .arg("--target")
        .arg(&brought))?;
    fs::rename(brought.join(FILE), &script).map_err(|error| error.to_string())?;
    // What is left of it is of no use.
    let _ = fs::remove_dir_all(&dir);
    Ok(script)
}

/// What it finds on what is shown now of the page.
async fn findings(window: &Window, axe: &str) -> Value {
    findings_in(window, axe, "document").await
}

/// What it finds in a part of what is shown now.
async fn findings_in(window: &Window, axe: &str, part: &str) -> Value {
    // Not as a script of the page, whose policy would forbid it.
    window.driver.cdp().send_raw("Runtime.evaluate", json!({"expression": axe})).await.unwrap();
    let run = format!(
        "(async () => JSON.stringify((await axe.run({part}, {{resultTypes: ['violations']}})).violations
        .map(({{id, nodes}}) => [id, nodes.map(({{html, failureSummary}}) => `${{html}}: ${{failureSummary}}`)])))()"
    );
    let asked = json!({"expression": run, "awaitPromise": true});
    let told = window.driver.cdp().send_raw("Runtime.evaluate", asked).await.unwrap();
    serde_json::from_str(told["result"]["value"].as_str().unwrap_or_else(|| panic!("{told}"))).unwrap()
}

#[tokio::test]
async fn axe_finds_nothing_on_any_page() {
    let Some(browsers) = Browsers::start("axe_finds_nothing_on_any_page").await else { return };
    let axe = tokio::task::spawn_blocking(axe).await.unwrap();
    let server = Server::with(|settings| settings.history.interval = "200ms".parse().unwrap()).await;
    let more = json!({"accessible": ["Wheelchair"]});
    let (concert, option) = theatre(&server, "Goldberg Variations", json!({}), more).await;
    let (_, queued) = theatre(&server, "Northern Lights", json!({"mode": "paused"}), json!({})).await;
    let hall = server.option(12).await;
    server.charge("anna", 1_000_000).await;
    let anna = server.buyer("anna");
    for (suffix, look) in [
        ("phone, light", Look::PHONE),
        ("phone, dark", Look { is_dark: true, ..Look::PHONE }),
        ("desktop, light, Korean", Look { language: "ko", ..Look::DESKTOP }),
        ("desktop, dark", Look { is_dark: true, ..Look::DESKTOP }),
    ] {
        let best = json!({"best_available": {"count": 1}});
        let held = server.post(&format!("/v1/options/{option}/reservations"), &anna, best.clone()).await.created();
        let paid = server.post(&format!("/v1/options/{option}/reservations"), &anna, best).await.created();
        server.post(&format!("/v1/reservations/{paid}/payments"), &anna, json!({})).await.created();
        let window = browsers.window(&server, look).await;
        // Nothing moves, so that nothing is half to be seen.
        let media = json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"},
            {"name": "prefers-color-scheme", "value": if look.is_dark { "dark" } else { "light" }}]});
        window.driver.cdp().send_raw("Emulation.setEmulatedMedia", media).await.unwrap();
        window.open("/").await;
        window.click("#begin").await;
        window.find("dialog").await;
        // A server that names no page of a host may not know the question.
        assert_eq!(findings(&window, &axe).await, json!([]), "signing in, {suffix}");
        window.open_as("/", &anna, "#/").await;
        window.until("document.querySelectorAll('.concert .pill').length === 3").await;
        assert_eq!(findings(&window, &axe).await, json!([]), "concerts, {suffix}");
        for (place, ready) in [
            (format!("#/concerts/{concert}"), ".dates .card"),
            (format!("#/options/{option}"), ".legend li"),
            (format!("#/options/{queued}"), "#position"),
            (format!("#/options/{hall}"), ".area"),
            (format!("#/reservations/{held}"), "#pay"),
            (format!("#/reservations/{paid}"), ".ticket"),
            ("#/tickets".into(), ".records .right"),
            (format!("#/reservations/{paid}/swap"), "#give"),
            (format!("#/offers/h9/{option}/S-A-1,S-A-2/"), "#accept"),
        ] {
            window.script(&format!("location.hash = {place:?}")).await;
            window.find(ready).await;
            if ready == ".legend li" {
                // With all that it can show.
                window.click_seat("S-M-9").await;
                window.click("#best summary").await;
                window.click("#list summary").await;
                window.click(".filter").await;
                window.script("dispatchEvent(new Event('offline'))").await;
                window.find("#touched").await;
            }
            assert_eq!(findings(&window, &axe).await, json!([]), "{place}, {suffix}");
        }
        window.open_as("/ops", &server.admin, "").await;
        window.until("document.querySelector('.map')?.seatMap.painted").await;
        for tab in ["sale", "orders", "engine"] {
            window.click(&format!("#tab-{tab} + span")).await;
            assert_eq!(findings(&window, &axe).await, json!([]), "operator, {tab}, {suffix}");
        }
        window.close_refused(&[404]).await;
    }
}

#[tokio::test]
async fn axe_finds_nothing_in_the_map_of_another_site() {
    let Some(browsers) = Browsers::start("axe_finds_nothing_in_the_map_of_another_site").await else { return };
    let axe = tokio::task::spawn_blocking(axe).await.unwrap();
    let (listener, address) = embed::site().await;
    let server = embed::server_for(address).await;
    let area =
        json!({"accessible": ["Wheelchair"], "areas": [{"name": "Lawn", "capacity": 20, "category": "Restricted"}]});
    let (_, option) = theatre(&server, "Goldberg Variations", json!({}), area).await;
    embed::serve(listener, &[&server], format!("<boxoffice-seats option=\"{option}\"></boxoffice-seats>"));
    for (suffix, look) in [
        ("phone, light", Look::PHONE),
        ("phone, dark", Look { is_dark: true, ..Look::PHONE }),
        ("desktop, light", Look::DESKTOP),
        ("desktop, dark", Look { is_dark: true, ..Look::DESKTOP }),
    ] {
        let window = browsers.window(&server, look).await;
        window.driver.goto(format!("http://{address}/")).await.unwrap();
        embed::until_heard(&window, "ready").await;
        // With all that it can show.
        let all = format!(
            "window.token = '{}'; const it = document.querySelector('boxoffice-seats'); const at = (css) => it.shadowRoot.querySelector(css);
             at('#best summary').click(); at('#list summary').click(); at('.filter').click(); at('.map').seatMap.touched({{seat: 0}});
             it.best({{count: 2}}).then(() => it.select(['S-M-9']))",
            server.buyer(&suffix.replace(", ", "-"))
        );
        window.script(&all).await;
        window.until("document.querySelector('boxoffice-seats').shadowRoot.querySelector('#hold')").await;
        // What is around it is the site's.
        let found = findings_in(&window, &axe, "document.querySelector('boxoffice-seats')").await;
        assert_eq!(found, json!([]), "{suffix}");
        window.leave().await;
    }
}
