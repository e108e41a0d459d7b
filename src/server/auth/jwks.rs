//! Where the keys come from that somebody else signs tokens with, and how they are kept up to date.
//!
//! One task fetches them, one fetch at a time, and nothing else waits for it but who has shown a `kid` that is not known. It
//! knows nothing of tokens.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::keys::{KeySet, Signature};
use crate::server::Error;
use crate::server::config::{Auth, ValueError, value_error};
use crate::server::providers::api::explain;
use crate::server::webhooks::addresses::Reach;
use crate::server::webhooks::client;

/// The most that a set, or the description of an issuer, may have.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// After the first of several fetches that fail, and after any of them.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Threads on which names are resolved and a file is read. None of them is anybody else's: a file that hangs holds up no delivery.
const BLOCKING_THREADS: usize = 2;
/// Where an issuer describes itself (OpenID Connect Discovery 1.0).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Where the keys are.
#[derive(Clone)]
enum Source {
    /// There.
    Url(Url),
    /// Where the description at this URL says.
    Issuer(Url),
    File(PathBuf),
}

impl Source {
    /// The one that is configured, if there is one.
    fn new(auth: &Auth) -> Result<Option<Self>, ValueError> {
        let Auth { jwks_url, jwks_file, issuer, allow_http, .. } = auth;
        if !jwks_url.is_empty() {
            // A password stands before an `@`.
            let shown = if jwks_url.contains('@') { "***" } else { jwks_url };
            let url = url(jwks_url, *allow_http).map_err(|why| value_error("auth.jwks_url", shown, why))?;
            return Ok(Some(Self::Url(url)));
        }
        if !jwks_file.as_os_str().is_empty() {
            return Ok(Some(Self::File(jwks_file.clone())));
        }
        if issuer.is_empty() {
            return Ok(None);
        }
        let described = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        let has_more = issuer.contains(['?', '#']);
        let described =
            if has_more { Err("a URL with no query and no fragment") } else { url(&described, *allow_http) };
        Ok(Some(Self::Issuer(described.map_err(|why| value_error("auth.issuer", issuer, why))?)))
    }
}

/// Parses where something of the host is: who could change it on the way could let anybody in.
pub(in crate::server) fn url(text: &str, allow_http: bool) -> Result<Url, &'static str> {
    const ALLOWED: &str =
        "a URL that begins with https://, or with http:// if it leads to this machine or auth.allow_http is true";
    let url = Url::parse(text).map_err(|_| ALLOWED)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with no name and no password");
    }
    let host = url.host_str().unwrap_or_default();
    let is_own = host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_own || allow_http => Ok(url),
        _ => Err(ALLOWED),
    }
}

/// Whether the settings of the key set can be used.
pub(in crate::server) fn check(auth: &Auth) -> Result<(), ValueError> {
    Source::new(auth).map(drop)
}

/// What is known of the keys.
struct Known {
    /// The last good set, how often there was another one before it, and when it was fetched.
    set: Option<(Arc<KeySet>, u64, Instant)>,
    /// Why the last fetch failed, if it did, and when it is tried again.
    failure: Option<(String, Instant)>,
}

impl Known {
    /// The last good set, unless fetches have failed for so long that it says too little.
    fn good(&self, keep: Duration) -> Option<(&Arc<KeySet>, u64)> {
        let (set, number, at) = self.set.as_ref()?;
        (self.failure.is_none() || at.elapsed() < keep).then_some((set, *number))
    }
}

/// Those who wait for a key that is not known.
#[derive(Default)]
struct Asked {
    /// When somebody last had a fetch made.
    at: Option<Instant>,
    /// Whether one is under way, which may have been answered before whoever asks now had their token.
    fetching: bool,
    /// How many fetches must have ended for that one to be over.
    until: u64,
}

struct Shared {
    source: Source,
    issuer: String,
    allow_http: bool,
    algorithms: Vec<Signature>,
    refresh: Duration,
    cooldown: Duration,
    timeout: Duration,
    keep: Duration,
    known: ArcSwap<Known>,
    asked: Mutex<Asked>,
    wanted: Notify,
    /// The reading of a file that has not come to its end, which nobody can call off.
    reading: tokio::sync::Mutex<Option<JoinHandle<std::io::Result<Vec<u8>>>>>,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
}

/// The keys of who signs tokens elsewhere.
pub(super) struct Jwks {
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
}

impl Jwks {
    /// As configured, if it is; nothing is fetched yet.
    ///
    /// # Errors
    /// A URL that is none.
    pub(super) fn new(auth: &Auth) -> Result<Option<Self>, ValueError> {
        let Some(source) = Source::new(auth)? else { return Ok(None) };
        let failure = Some(("none has been fetched yet".into(), Instant::now()));
        let shared = Shared {
            source,
            issuer: auth.issuer.clone(),
            allow_http: auth.allow_http,
            algorithms: auth.algorithms.clone(),
            refresh: auth.jwks_refresh.0,
            cooldown: auth.jwks_cooldown.0,
            timeout: auth.jwks_timeout.0,
            keep: auth.jwks_keep.0,
            known: ArcSwap::from_pointee(Known { set: None, failure }),
            asked: Mutex::default(),
            wanted: Notify::new(),
            reading: tokio::sync::Mutex::default(),
            ended: watch::Sender::new(0),
        };
        Ok(Some(Self { shared: Arc::new(shared), runtime: Mutex::new(None) }))
    }

    /// Fetches them, from now on until this is dropped.
    ///
    /// # Errors
    /// [`Error::Webhooks`]: no requests can be made.
    pub(super) fn start(&self) -> Result<(), Error> {
        let client = client(self.shared.timeout, 1, Reach::Anywhere).map_err(Error::Webhooks)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("boxoffice-keys")
            .enable_all()
            .build()?;
        runtime.spawn(keep_up(self.shared.clone(), client));
        if let Some(before) = self.runtime.lock().replace(runtime) {
            before.shutdown_background();
        }
        Ok(())
    }

    /// The keys, and a number that others would not have; none if there never were any, or not for too long.
    pub(super) fn set(&self) -> Option<(Arc<KeySet>, u64)> {
        self.shared.known.load().good(self.shared.keep).map(|(set, number)| (set.clone(), number))
    }

    /// The number of the keys that [`set`](Self::set) gives.
    pub(super) fn number(&self) -> Option<u64> {
        self.shared.known.load().good(self.shared.keep).map(|(_, number)| number)
    }

    /// Somebody shows a `kid` that is not known: waits for the fetch that is made for it, which all share who ask meanwhile.
    /// None if there was one just now.
    pub(super) fn ask(&self) -> Option<impl Future<Output = ()> + use<>> {
        let shared = self.shared.clone();
        let until = {
            let mut asked = shared.asked.lock();
            let ended = *shared.ended.borrow();
            if ended >= asked.until {
                if asked.at.is_some_and(|at| at.elapsed() < shared.cooldown) {
                    return None;
                }
                asked.at = Some(Instant::now());
                asked.until = ended + if asked.fetching { 2 } else { 1 };
                shared.wanted.notify_one();
            }
            asked.until
        };
        Some(async move {
            let mut ended = shared.ended.subscribe();
            // Two fetches take no longer; a little more, so that it is heard how they ended.
            let most = 2 * shared.timeout + Duration::from_secs(1);
            let _ = tokio::time::timeout(most, ended.wait_for(|ended| *ended >= until)).await;
        })
    }

    /// What an operator should know: why tokens are not checked, or what may lead to that.
    pub(super) fn complaint(&self) -> Option<Complaint> {
        let known = self.shared.known.load();
        let (why, _) = known.failure.as_ref()?;
        Some(match known.good(self.shared.keep) {
            Some(_) => {
                Complaint::Warning(format!("jwks: the keys for tokens cannot be fetched, and old ones serve: {why}"))
            }
            None => Complaint::Reason(format!("jwks: there are no keys to check tokens with: {why}")),
        })
    }

    /// In how many seconds it is worth asking again while there are no keys.
    pub(super) fn retry_seconds(&self) -> u64 {
        let known = self.shared.known.load();
        let left = known.failure.as_ref().map(|(_, next)| next.saturating_duration_since(Instant::now()));
        left.unwrap_or_default().as_secs() + 1
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

/// What is wrong with the keys.
pub(super) enum Complaint {
    /// Tokens cannot be checked.
    Reason(String),
    /// They can be, still.
    Warning(String),
}

async fn keep_up(shared: Arc<Shared>, client: Client) {
    let mut retry = RETRIES[0];
    loop {
        shared.asked.lock().fetching = true;
        let fetched = tokio::time::timeout(shared.timeout, fetch(&shared, &client)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {:?}", shared.timeout)));
        let fetched = fetched.and_then(|json| KeySet::parse(&json, &shared.algorithms));
        let pause = if fetched.is_ok() { shared.refresh } else { retry };
        retry = if fetched.is_ok() { RETRIES[0] } else { (2 * retry).min(RETRIES[1]) };
        let next = Instant::now() + pause;
        note(&shared, fetched, next);
        {
            let mut asked = shared.asked.lock();
            asked.fetching = false;
            shared.ended.send_modify(|ended| *ended += 1);
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => break,
                () = shared.wanted.notified() => {}
            }
            // Else it was for the fetch that has just ended.
            if *shared.ended.borrow() < shared.asked.lock().until {
                break;
            }
        }
    }
}

/// Takes a good set in, or says why there is none.
fn note(shared: &Shared, fetched: Result<KeySet, String>, next: Instant) {
    let known = shared.known.load();
    let now = Instant::now();
    let known = match fetched {
        Ok(new) => {
            if known.failure.is_some() {
                tracing::info!("the keys for tokens are fetched");
            }
            let set = match &known.set {
                Some((old, number, _)) if **old == new => (old.clone(), *number, now),
                Some((_, number, _)) => (Arc::new(new), number + 1, now),
                None => (Arc::new(new), 0, now),
            };
            Known { set: Some(set), failure: None }
        }
        Err(why) => {
            tracing::warn!(reason = why, "the keys for tokens cannot be fetched; it is tried again");
            Known { set: known.set.clone(), failure: Some((why, next)) }
        }
    };
    shared.known.store(Arc::new(known));
}

/// The set as it is written.
async fn fetch(shared: &Shared, client: &Client) -> Result<Vec<u8>, String> {
    match &shared.source {
        Source::Url(url) => get(client, url.clone()).await,
        Source::Issuer(described) => {
            #[derive(Deserialize)]
            struct Description {
                issuer: String,
                jwks_uri: String,
            }
            let description = get(client, described.clone()).await?;
            let description: Description = serde_json::from_slice(&description)
                .map_err(|error| format!("the issuer's description cannot be read ({:?})", error.classify()))?;
            if description.issuer != shared.issuer {
                return Err("the issuer's description is of another issuer".into());
            }
            let keys = url(&description.jwks_uri, shared.allow_http);
            get(client, keys.map_err(|allowed| format!("the issuer's jwks_uri is not {allowed}"))?).await
        }
        Source::File(path) => {
            // One that hangs is waited for the next time; it is not begun once more.
            let mut reading = shared.reading.lock().await;
            let read = reading.get_or_insert_with(|| {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read(&path))
            });
            let json = read.await;
            *reading = None;
            let json = json.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            if json.len() > ANSWER_BYTES_MAX { Err(too_large()) } else { Ok(json) }
        }
    }
}

/// Blocks.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut json = Vec::new();
    std::fs::File::open(path)?.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut json)?;
    Ok(json)
}

async fn get(client: &Client, url: Url) -> Result<Vec<u8>, String> {
    let mut response = client.get(url).header("accept", "application/json").send().await.map_err(explain)?;
    if response.status() != 200 {
        return Err(format!("the answer has status {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(explain)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn too_large() -> String {
    format!("there are more than {ANSWER_BYTES_MAX} bytes")
}
