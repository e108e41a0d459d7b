//! The pages, in a real browser: Chromium without a window, driven over WebDriver.
//!
//! They need `chromium` and `chromedriver` (Debian: `apt-get install chromium chromium-driver`). Without them each test says
//! on standard error that it was left out; with `BROWSER_TESTS=required` that is a failure. Pictures of what was seen are
//! left in `target/screenshots`.

#![cfg(feature = "server")]

mod axe;
mod browser;
mod cards;
mod changes;
mod embed;
#[path = "../http/harness.rs"]
#[expect(dead_code, reason = "the tests of the API need more of it")]
mod harness;
mod houses;
mod kept;
mod line;
mod map;
mod operator;
mod orders;
mod phone;
mod pictures;
mod sale;
mod stale;
