//! A browser, and what people do with it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use boxoffice::testing::plans;
use serde_json::{Value, json};
use thirtyfour::error::WebDriverErrorInner;
use thirtyfour::prelude::*;
use thirtyfour::{ChromiumLikeCapabilities, LoggingPrefsLogLevel, WebElement};
use tokio::sync::{Mutex, MutexGuard};

use crate::harness::{STARTS_AT, Server};

/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a page says on the console when a request is refused. That the server refuses is what some tests are about.
const REFUSED: &str = "the server responded with a status of";

/// One browser at a time: there are not many processors.
static TURN: Mutex<()> = Mutex::const_new(());

/// A running chromedriver. It ends, with its browsers, when this is dropped.
pub struct Browsers {
    driver: Child,
    port: u16,
    _turn: MutexGuard<'static, ()>,
}

impl Browsers {
    /// Starts one, unless there is none. Says which test that leaves out.
    pub async fn start(test: &str) -> Option<Self> {
        let turn = TURN.lock().await;
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = match command.spawn() {
            Ok(driver) => driver,
            Err(error) => {
                let message = format!(
                    "browser::{test} was left out: chromedriver cannot be run ({error}). It needs `chromium` and \
                     `chromium-driver`, as Debian calls them."
                );
                assert!(std::env::var_os("BROWSER_TESTS").is_none_or(|it| it != "required"), "{message}");
                // Not by the macro, whose output only failing tests show.
                std::io::stderr().write_all(format!("{message}\n").as_bytes()).unwrap();
                return None;
            }
        };
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map(Result::unwrap).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        Some(Self { driver, port: port.expect("chromedriver names its port"), _turn: turn })
    }

    /// A window of its own, on `server`, that nobody else shares anything with.
    pub async fn window(&self, server: &Server, look: Look) -> Window {
        let mut capabilities = DesiredCapabilities::chrome();
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            // Nothing else can be reached, so that what asks for it fails and is seen.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ] {
            capabilities.add_arg(argument).unwrap();
        }
        capabilities.add_experimental_option("prefs", json!({"intl.accept_languages": look.language})).unwrap();
        capabilities.set_browser_log_level(LoggingPrefsLogLevel::All).unwrap();
        let driver = WebDriver::new(format!("http://127.0.0.1:{}", self.port), capabilities).await.unwrap();
        let window = Window { driver: Session(Some(driver)), origin: format!("http://{}", server.address) };
        window.look(look).await;
        window
    }
}

impl Drop for Browsers {
    fn drop(&mut self) {
        // Takes the browsers of a test that failed along, which a signal would leave behind.
        let asked = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
            stream.write_all(b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
            stream.read_to_end(&mut Vec::new())
        });
        if asked.is_err() {
            // Fails only if it has ended already.
            let _ = self.driver.kill();
        }
        let _ = self.driver.wait();
    }
}

/// What a browser is like.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub is_dark: bool,
    pub language: &'static str,
}

impl Look {
    pub const DESKTOP: Self = Self { width: 1440, height: 900, is_dark: false, language: "en" };
    pub const PHONE: Self = Self { width: 390, height: 844, is_dark: false, language: "en" };
}

/// A window.
pub struct Window {
    pub driver: Session,
    origin: String,
}

/// A session that is left to [`Browsers`] when its test fails: to end it from a drop would wait in vain.
pub struct Session(Option<WebDriver>);

impl Deref for Session {
    type Target = WebDriver;

    fn deref(&self) -> &WebDriver {
        self.0.as_ref().expect("it is there until the end")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Fails only if it has been ended.
        let _ = self.0.take().map(WebDriver::leak);
    }
}

fn is_stale(error: &WebDriverError) -> bool {
    matches!(error.as_inner(), WebDriverErrorInner::StaleElementReference(_))
}

impl Window {
    pub async fn look(&self, look: Look) {
        let cdp = self.driver.cdp();
        let is_phone = look.width < 500;
        let metrics = json!({"width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": is_phone});
        cdp.send_raw("Emulation.setDeviceMetricsOverride", metrics).await.unwrap();
        let scheme = if look.is_dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        cdp.send_raw("Emulation.setEmulatedMedia", media).await.unwrap();
    }

    pub async fn open(&self, path: &str) {
        self.driver.goto(format!("{}{path}", self.origin)).await.unwrap();
    }

    /// Opens a page as whoever the token is of: as a link does it.
    pub async fn open_as(&self, page: &str, token: &str, place: &str) {
        self.open(&format!("{page}#token={token}")).await;
        self.find("nav").await;
        let url = self.driver.current_url().await.unwrap();
        assert!(!url.as_str().contains("token"), "{url}");
        self.script(&format!("location.hash = {place:?}")).await;
    }

    /// Waits for an element that can be seen.
    pub async fn find(&self, css: &str) -> WebElement {
        self.on(css, async |element| Ok(element)).await
    }

    pub async fn click(&self, css: &str) {
        self.find(css).await;
        // Not at an edge of the window, where something may lie over it.
        self.script(&format!("document.querySelector({css:?}).scrollIntoView({{block: 'center'}})")).await;
        self.on(css, async |element| element.click().await).await;
    }

    pub async fn text(&self, css: &str) -> String {
        self.on(css, async |element| element.text().await).await
    }

    /// Does something with an element that can be seen, and again if the page has drawn it anew meanwhile.
    async fn on<T>(&self, css: &str, act: impl AsyncFn(WebElement) -> WebDriverResult<T>) -> T {
        let begun = Instant::now();
        loop {
            let query = self.driver.query(By::Css(css)).wait(PATIENCE, Duration::from_millis(25)).and_displayed();
            let done = match query.first().await {
                Ok(element) => act(element).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(done) => return done,
                Err(error) if is_stale(&error) && begun.elapsed() < PATIENCE => {}
                Err(error) => {
                    self.picture("failed").await;
                    let text = self.script("return document.body.innerText").await;
                    panic!("{css}: {error}\n{text}\n{:?}", self.driver.browser_log().await);
                }
            }
        }
    }

    pub async fn is_there(&self, css: &str) -> bool {
        !self.driver.find_all(By::Css(css)).await.unwrap().is_empty()
    }

    pub async fn script(&self, script: &str) -> Value {
        self.driver.execute(script, vec![]).await.unwrap().json().clone()
    }

    /// Waits until `expression` holds in the page.
    pub async fn until(&self, expression: &str) {
        let begun = Instant::now();
        while self.script(&format!("return Boolean({expression})")).await != json!(true) {
            if begun.elapsed() > PATIENCE {
                self.picture("failed").await;
                panic!("never: {expression}");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until there is no such element.
    pub async fn until_gone(&self, css: &str) {
        self.until(&format!("!document.querySelector({css:?})")).await;
    }

    /// Clicks a seat on the map, where it is drawn, and as large as it can be hit.
    pub async fn click_seat(&self, seat: &str) {
        let [x, y] = self.place_of(seat).await;
        self.driver.action_chain().move_to(x, y).click().perform().await.unwrap();
    }

    /// Taps a seat with a finger.
    pub async fn tap_seat(&self, seat: &str) {
        let place = self.place_of(seat).await;
        self.touch(place).await;
    }

    /// Taps an element with a finger.
    pub async fn tap(&self, css: &str) {
        self.find(css).await;
        let middle = format!(
            "const element = document.querySelector({css:?}); element.scrollIntoView({{block: 'center'}});
             const box = element.getBoundingClientRect();
             return [Math.round(box.left + box.width / 2), Math.round(box.top + box.height / 2)]"
        );
        let middle = self.script(&middle).await;
        self.touch([0, 1].map(|axis| middle[axis].as_i64().unwrap())).await;
    }

    async fn touch(&self, [x, y]: [i64; 2]) {
        let cdp = self.driver.cdp();
        for (kind, points) in [("touchStart", json!([{"x": x, "y": y}])), ("touchEnd", json!([]))] {
            let event = json!({"type": kind, "touchPoints": points});
            cdp.send_raw("Input.dispatchTouchEvent", event).await.unwrap();
        }
    }

    async fn place_of(&self, seat: &str) -> [i64; 2] {
        self.until("document.querySelector('.map')?.seatMap.painted").await;
        let place = self
            .script(&format!(
                "const map = document.querySelector('.map').seatMap; const i = map.plan.index.get({seat:?});
                 map.showSeats([i]); return i"
            ))
            .await;
        self.until("!document.querySelector('.map').seatMap.gliding").await;
        let offset = self
            .script(&format!(
                "const {{plan, view, node}} = document.querySelector('.map').seatMap;
                 node.scrollIntoView({{block: 'nearest'}});
                 const box = node.getBoundingClientRect();
                 return [Math.round(box.left + plan.xs[{place}] * view.scale + view.x),
                         Math.round(box.top + plan.ys[{place}] * view.scale + view.y)]"
            ))
            .await;
        [0, 1].map(|axis| offset[axis].as_i64().unwrap())
    }

    /// How a seat stands on the map: 0 free, 1 held, 2 sold, 3 blocked.
    pub async fn until_seat(&self, seat: &str, status: u8) {
        let map = "document.querySelector('.map')?.seatMap.plan";
        self.until(&format!("{map} && {map}.status[{map}.index.get({seat:?})] === {status}")).await;
    }

    /// Keeps a picture of the window.
    pub async fn picture(&self, name: &str) -> PathBuf {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("{name}.png"));
        self.driver.screenshot(&path).await.unwrap();
        path
    }

    /// Closes it, whatever went on in it.
    pub async fn leave(mut self) {
        self.driver.0.take().unwrap().quit().await.unwrap();
    }

    /// Closes it. Everything must have gone well in it, and nothing come from elsewhere.
    pub async fn close(self) {
        self.close_refused(&[]).await;
    }

    /// The same, where some requests were refused in these ways, as they had to be.
    pub async fn close_refused(mut self, statuses: &[u16]) {
        let log = self.driver.browser_log().await.unwrap();
        let refused: Vec<_> = statuses.iter().chain(&[409]).map(|status| format!("{REFUSED} {status}")).collect();
        // A server may not know where a host signs people in.
        let is_refused =
            |message: &str| message.contains("/v1/site ") || refused.iter().any(|words| message.contains(words));
        let wrong: Vec<_> = log.iter().filter(|entry| entry.level == "SEVERE" && !is_refused(&entry.message)).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        let loaded = self.script("return performance.getEntries().map((entry) => entry.name)").await;
        let loaded = loaded.as_array().unwrap();
        let elsewhere = loaded.iter().map(|name| name.as_str().unwrap());
        let elsewhere: Vec<_> =
            elsewhere.filter(|name| name.contains("//") && !name.starts_with(&self.origin)).collect();
        assert!(elsewhere.is_empty() && !loaded.is_empty(), "{elsewhere:?}");
        self.driver.0.take().unwrap().quit().await.unwrap();
    }
}

/// A theatre on sale, with whatever else is given.
pub async fn theatre(server: &Server, title: &str, room: Value, more: Value) -> (String, String) {
    let prices = json!({"Premium": 12_000, "Standard": 8_000, "Restricted": 4_500, "Wheelchair": 8_000});
    on_sale(server, title, room, &plans::theatre(), prices, more).await
}

/// A stadium of 60,000 seats on sale.
pub async fn stadium(server: &Server, title: &str) -> String {
    let prices = json!({"Gold": 15_000, "Silver": 9_000, "Bronze": 5_000});
    on_sale(server, title, json!({}), &plans::stadium(), prices, json!({})).await.1
}

async fn on_sale(
    server: &Server,
    title: &str,
    room: Value,
    plan: &[u8],
    prices: Value,
    more: Value,
) -> (String, String) {
    let concert = json!({"title": title, "waiting_room": room});
    let concert = server.post("/v1/concerts", &server.admin, concert).await.created();
    let plan: Value = serde_json::from_slice(plan).unwrap();
    let mut option =
        json!({"starts_at": STARTS_AT, "refundable_until": STARTS_AT, "seating_plan": plan, "prices": prices});
    option.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let option = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, option).await.created();
    (concert, option)
}
