//! The stream and the other nodes, by NATS JetStream.
//!
//! What is asked of JetStream is a handful of JSON documents (`api.rs`), so only the protocol of NATS itself comes from
//! a crate. Everything runs as tasks of one tokio runtime; the protocol above does not know of it, and is told what was
//! heard.
//!
//! | subject | what |
//! |---|---|
//! | `<name>.log` | the log: the stream `<name>` takes it in |
//! | `<name>.plans.<hash>.<number>` | chunks of seating plans: the stream `<name>_plans` |
//! | `<name>.beat` | signs of life |
//! | `<name>.alive.<node>` | who lives under a name |
//! | `<name>.call.>` | calls between nodes |
//!
//! Signs of life and calls are sealed with the cluster's secret (`seal.rs`); what stands in the streams is not, so that
//! whoever may publish there can stop the cluster. `docs/OPERATIONS.md` says who may do what.
//!
//! Architecture invariant: nothing in here decides. Whatever is lost, late, doubled or out of order on its way through
//! here is one of the accidents that the protocol is made for.

mod api;
mod asks;
mod calls;
mod follow;
mod monitor;
mod plans;
mod presence;
mod seal;
mod tls;
mod wire;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::api::{Api, ApiError};
use self::asks::Asks;
pub use self::calls::CallError;
use self::seal::Seal;
use super::{
    Answer, Asked, ClusterConfig, Connect, Found, Hear, Heard, Joining, Link, NodeName, Patience, Publish, Reply,
    SECRET_BYTES_MIN, Secret, Sequence, Unanswered,
};
use crate::domain::seating_plan::PlanHash;

/// A server that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(1);
/// Pings that the client lets go unanswered before it gives a server up, and the one that is due then.
const PINGS: u32 = 3;
/// How often it is said that there is no connection.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Before an answer that was not one is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// How often an append is sent until it has failed.
const COPIES: u32 = 4;
/// Within which JetStream is to say anything at all; after that it is looked for at another server.
const DEAF: Duration = Duration::from_secs(5);
/// Messages that one subscription may be behind; the next ones are lost.
const SUBSCRIPTION_MESSAGES: usize = 1_024;
/// Commands that wait for the connection.
const CLIENT_COMMANDS: usize = 256;

/// Why there is no connection to a cluster, or why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// A file cannot be used.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No NATS server takes this node.
    #[error("no NATS server could be reached: {0}")]
    Unreachable(String),
    /// A NATS server does not sync what it acknowledges.
    #[error("NATS server {server} does not sync each message: set `sync_interval: always` in its section `jetstream`")]
    NotSynced {
        /// Its name.
        server: String,
    },
    /// Nobody can say whether it does.
    #[error("it is not known whether NATS server {server} syncs each message: {why}")]
    SyncUnknown {
        /// Its name, or the address of its monitoring port.
        server: String,
        /// Why not.
        why: String,
    },
    /// A stream of that name is there, and is set up otherwise.
    #[error("the stream {stream} has {field} = {found}, and must have {wanted}")]
    OtherSettings {
        /// Its name.
        stream: String,
        /// What differs.
        field: &'static str,
        /// What it has.
        found: String,
        /// What it must have.
        wanted: String,
    },
    /// JetStream refuses.
    #[error("JetStream refuses {what}: {why}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// JetStream did not answer in time.
    #[error("JetStream did not answer in time: {0}")]
    NoAnswer(&'static str),
    /// Another process with this node's name lives.
    #[error("another process of node {0} is running: two of one name cannot be")]
    Namesake(String),
    /// A seating plan in the stream is not what its name says.
    #[error("seating plan {0} is damaged in the stream")]
    DamagedPlan(PlanHash),
    /// NATS takes no message of that size.
    #[error("{bytes} bytes are more than the {max} that a message of NATS may have (`max_payload`)")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
}

/// Names of streams and subjects, which all begin with the cluster's.
#[derive(Debug, Clone)]
struct Names {
    cluster: String,
}

impl Names {
    fn stream(&self) -> &str {
        &self.cluster
    }

    fn log(&self) -> String {
        format!("{}.log", self.cluster)
    }

    fn plans_stream(&self) -> String {
        format!("{}_plans", self.cluster)
    }

    fn plans(&self) -> String {
        format!("{}.plans", self.cluster)
    }

    fn beat(&self) -> String {
        format!("{}.beat", self.cluster)
    }

    fn call(&self, subject: &str) -> String {
        format!("{}.call.{subject}", self.cluster)
    }

    fn alive(&self, node: &str) -> String {
        format!("{}.alive.{}", self.cluster, token(node))
    }
}

/// The name of a node as one part of a subject: dots would divide it.
#[must_use]
pub fn token(node: &str) -> String {
    node.replace('.', "%")
}

/// What all tasks share.
struct Shared {
    client: Client,
    asks: Asks,
    api: Api,
    names: Names,
    seal: Seal,
    life: u64,
    created: u64,
    hear: Hear,
    /// Changes with each connection that comes or goes.
    connections: watch::Receiver<()>,
    calls: calls::Calls,
}

impl Shared {
    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits for a connection.
    async fn connected(&self) {
        let mut connections = self.connections.clone();
        while !self.is_connected() {
            // What changes may not be told, if too much does; and nobody tells any more once the client is closed.
            if let Ok(Err(_)) = timeout(PAUSE, connections.changed()).await {
                sleep(PAUSE).await;
            }
        }
    }

    /// The message at `sequence`, from the stream's leader.
    async fn message(&self, sequence: Sequence) -> Result<Option<super::Wire>, ApiError> {
        let message = self.api.message(self.names.stream(), json!({ "seq": sequence.0 })).await?;
        Ok(message.map(|message| message.wire))
    }
}

/// A connection to the log and to the other nodes. Dropped, it ends all that it does.
pub struct NatsLink {
    node: String,
    shared: Arc<Shared>,
    handle: Handle,
    tasks: Mutex<JoinSet<()>>,
    follow: mpsc::UnboundedSender<Sequence>,
}

impl std::fmt::Debug for NatsLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsLink").field("cluster", &self.shared.names.cluster).finish_non_exhaustive()
    }
}

impl NatsLink {
    /// Connects, with all that is to be checked first: that no other process of this name lives, that the streams are
    /// as they must be (they are made if they are not there), and that each NATS server syncs what it acknowledges.
    /// `life` is the number of this process, as in its fences. Runs on `handle`.
    ///
    /// `hear` is called on any thread, also before this returns, and must not wait; but it may when it is given
    /// [`Heard::Following`] and [`Heard::Read`], for which there is a thread: then reading waits as well, and nothing
    /// else.
    ///
    /// # Errors
    /// See [`Error`]. What may pass by itself is tried until `connect_timeout_ms` is over.
    pub async fn connect(
        handle: &Handle,
        config: ClusterConfig,
        life: u64,
        hear: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Result<(Self, Found), Error> {
        Self::connect_from(handle, config, None, life, hear).await
    }

    /// The stream as it is now.
    ///
    /// # Errors
    /// Nobody answers, or JetStream refuses to say.
    pub async fn found(&self) -> Result<Found, Error> {
        self.shared.api.stream_info(self.shared.names.stream()).await?.found()
    }

    /// As [`connect`](Self::connect). What the servers' monitoring ports say is remembered in `home`, so that one that is
    /// down keeps nobody from starting who knows it; it is asked on, and [`Heard::NotSynced`] if it does not sync after all.
    ///
    /// # Errors
    /// See [`connect`](Self::connect).
    pub async fn connect_from(
        handle: &Handle,
        config: ClusterConfig,
        home: Option<PathBuf>,
        life: u64,
        hear: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Result<(Self, Found), Error> {
        let connecting = Self::connect_here(handle.clone(), config, home, life, Arc::new(hear));
        match handle.spawn(connecting).await {
            Ok(connected) => connected,
            Err(error) => Err(Error::Unreachable(error.to_string())),
        }
    }

    async fn connect_here(
        handle: Handle,
        config: ClusterConfig,
        home: Option<PathBuf>,
        life: u64,
        hear: Hear,
    ) -> Result<(Self, Found), Error> {
        config.validate()?;
        let deadline = Instant::now() + config.connect_timeout();
        let seal = Seal::new(&secret(&config)?);
        let names = Names { cluster: config.name.clone() };
        let tls = tls::client_config(&config)?;
        let inbox = format!("_INBOX.{}.{}.{life:016x}", names.cluster, token(&config.node));

        let (changes, connections) = watch::channel(());
        let (told, said) = (hear.clone(), Mutex::<Option<Instant>>::default());
        let options = options(&config, &inbox, tls.clone()).await?.event_callback(move |event| {
            say(&event, &mut said.lock());
            let is_connected = match event {
                Event::Connected => Some(true),
                Event::Disconnected | Event::Closed => Some(false),
                _ => None,
            };
            if let Some(is_connected) = is_connected {
                changes.send_replace(());
                told(Heard::Connected(is_connected));
            }
            async {}
        });
        let client = connect_client(&config, options, deadline).await?;

        let mut tasks = JoinSet::new();
        let (asks, answers) = Asks::begin(client.clone(), inbox).await?;
        tasks.spawn_on(answers, &handle);
        let api = Api::new(asks.clone(), config.ack_timeout());

        let heard = hear.clone();
        let namesake = Box::new(move |life| heard(Heard::Namesake(life)));
        let alive = names.alive(&config.node);
        let presence = presence::enter(&client, &alive, &config.node, life, seal.clone(), namesake).await?;
        tasks.spawn_on(presence, &handle);

        let asked = monitor::ask(&config, home.as_deref(), tls, deadline).await?;
        let log = api::log_settings(names.stream(), &names.log(), config.replicas);
        let info = api.stream(&log, deadline).await?;
        let plans = api::plans_settings(&names.plans_stream(), &format!("{}.>", names.plans()), config.replicas);
        let plans_info = api.stream(&plans, deadline).await?;
        monitor::check(&config, &asked, info.servers().chain(plans_info.servers()))?;
        let found = info.found()?;
        let not_synced = hear.clone();
        if let Some(asking) = asked.go_on(move |server| not_synced(Heard::NotSynced(server))) {
            tasks.spawn_on(asking, &handle);
        }

        let calls = calls::Calls::new(config.calls);
        let created = found.created;
        let shared = Shared { client, asks, api, names, seal, life, created, hear, connections, calls };
        let shared = Arc::new(shared);
        let (follow, wanted) = mpsc::unbounded_channel();
        tasks.spawn_on(follow::run(shared.clone(), wanted)?, &handle);
        tasks.spawn_on(hear_beats(shared.clone()).await?, &handle);
        Ok((Self { shared, handle, tasks: Mutex::new(tasks), follow, node: config.node }, found))
    }

    /// Runs until it is done, or this is dropped.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.handle);
    }

    /// How many bytes a message may have, headers included.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.shared.client.max_payload()
    }

    /// Keeps a seating plan: when this returns, it is in the stream for good. One that is there already is left.
    ///
    /// # Errors
    /// JetStream did not take it; a part of it may be there.
    pub async fn put_plan(&self, hash: PlanHash, plan: &[u8]) -> Result<(), Error> {
        plans::put(&self.shared, hash, plan).await
    }

    /// A seating plan, if it is there as a whole.
    ///
    /// # Errors
    /// It is damaged, or JetStream did not answer.
    pub async fn plan(&self, hash: PlanHash) -> Result<Option<Vec<u8>>, Error> {
        plans::get(&self.shared, hash).await
    }

    /// Asks whoever serves `subject`, words of letters, digits, hyphens, underscores and `%` between dots, on any node.
    ///
    /// # Errors
    /// See [`CallError`], which says whether the call may have been taken.
    pub async fn request(&self, subject: &str, body: &[u8], timeout: Duration) -> Result<Vec<u8>, CallError> {
        calls::request(&self.shared, subject, body, timeout).await
    }

    /// Answers the calls of `subject` until this is dropped, at most `calls` of the configuration at once.
    ///
    /// # Errors
    /// The subject cannot be, or there is no connection any more.
    pub async fn serve<F, A>(&self, subject: &str, handler: F) -> Result<(), CallError>
    where
        F: Fn(Vec<u8>) -> A + Send + Sync + 'static,
        A: Future<Output = Vec<u8>> + Send + 'static,
    {
        let serving = calls::serve(self.shared.clone(), subject, handler).await?;
        self.spawn(serving);
        Ok(())
    }
}

/// Says what became of a connection: that there is none at once, and then now and then.
fn say(event: &Event, said: &mut Option<Instant>) {
    match event {
        Event::Connected if said.take().is_some() => tracing::info!("there is a connection to NATS again"),
        Event::Connected => {}
        Event::Draining | Event::Closed => {}
        event if said.is_none_or(|at| at.elapsed() > SAY_AGAIN) => {
            *said = Some(Instant::now());
            tracing::warn!(%event, "there is no connection to NATS, or it is not well");
        }
        event => tracing::debug!(%event, "still no connection to NATS"),
    }
}

/// The subject on which a node is asked.
fn of_node(node: &str) -> String {
    format!("node.{}", token(node))
}

impl ClusterConfig {
    /// How a node that is set up like this takes part in its cluster; see [`Joining`].
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn joining(self, founds: bool) -> Result<Joining, crate::config::Error> {
        self.validate()?;
        let patience = Patience { beat: self.beat(), suspect_after: self.suspect_after(), read_up_to: self.patience() };
        // It was seen to be one.
        let node = self.node_name().unwrap_or_else(|| unreachable!("the name was checked"));
        let secret = secret(&self).map_err(|error| crate::config::Error {
            key: "cluster.secret_file".into(),
            value: self.secret_file.display().to_string(),
            allowed: error.to_string(),
        })?;
        let secret = secret.reveal().as_bytes().to_vec();
        let log_bytes_max = self.log_bytes_max;
        Ok(Joining {
            node,
            founds,
            format: super::FORMAT,
            patience,
            log_bytes_max,
            secret,
            connect: Box::new(Connecting { config: self, home: None }),
        })
    }
}

/// What connects a node.
struct Connecting {
    config: ClusterConfig,
    home: Option<PathBuf>,
}

impl Connect for Connecting {
    fn at_home(&mut self, home: &Path) {
        self.home = Some(home.to_owned());
    }

    fn connect(self: Box<Self>, runtime: &Handle, life: u64, hear: Hear) -> Result<(Arc<dyn Link>, Found), String> {
        let Self { config, home } = *self;
        let connecting = NatsLink::connect_from(runtime, config, home, life, move |heard| hear(heard));
        let (link, found) = runtime.block_on(connecting).map_err(|error| error.to_string())?;
        Ok((Arc::new(link), found))
    }
}

impl Link for NatsLink {
    fn publish(&self, number: u64, publish: &Publish) {
        let wire = publish.message.encode();
        let (shared, expected) = (self.shared.clone(), publish.expected);
        self.spawn(async move {
            let reply = append(&shared, wire, expected).await;
            (shared.hear)(Heard::Replied(number, reply));
        });
    }

    fn fetch(&self, sequence: Sequence) {
        let shared = self.shared.clone();
        self.spawn(async move {
            let message = until_answered(&shared, || shared.message(sequence)).await;
            (shared.hear)(Heard::Fetched(sequence, message));
        });
    }

    fn look(&self) {
        let shared = self.shared.clone();
        self.spawn(async move {
            let info = until_answered(&shared, || shared.api.info(shared.names.stream())).await;
            (shared.hear)(Heard::End(info.last()));
        });
    }

    fn follow(&self, after: Sequence) {
        // Whoever would read has ended with the runtime.
        let _ = self.follow.send(after);
    }

    fn beat(&self, beat: &[u8]) {
        let shared = self.shared.clone();
        // Late ones are worth nothing.
        if !shared.is_connected() {
            return;
        }
        let mut body = shared.life.to_le_bytes().to_vec();
        body.extend_from_slice(beat);
        let subject = shared.names.beat();
        let sealed = shared.seal.close(&subject, &[], &body);
        self.spawn(async move {
            if let Err(error) = shared.client.publish(subject, sealed.into()).await {
                tracing::debug!(%error, "a sign of life could not be sent");
            }
        });
    }

    fn put_plan(&self, hash: [u8; 32], bytes: &[u8]) -> Result<(), String> {
        let put = plans::put(&self.shared, PlanHash(hash), bytes);
        self.handle.block_on(put).map_err(|error| error.to_string())
    }

    fn plan(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, String> {
        self.handle.block_on(plans::get(&self.shared, PlanHash(hash))).map_err(|error| error.to_string())
    }

    fn ask(&self, node: &NodeName, question: Vec<u8>, at_most: Duration) -> Asked {
        let (shared, subject) = (self.shared.clone(), of_node(&node.to_string()));
        let asking = async move {
            calls::request(&shared, &subject, &question, at_most).await.map_err(|error| match error.is_not_taken() {
                true => Unanswered::NotTaken(error.to_string()),
                false => Unanswered::Unknown(error.to_string()),
            })
        };
        Box::pin(asking)
    }

    fn answer_by(&self, answer: Answer) {
        let (shared, subject) = (self.shared.clone(), of_node(&self.node));
        self.spawn(async move {
            match calls::serve(shared, &subject, move |question| answer(question)).await {
                Ok(serving) => serving.await,
                Err(error) => tracing::error!(%error, "this node cannot be asked by others"),
            }
        });
    }

    fn purge(&self, below: Sequence) {
        let shared = self.shared.clone();
        self.spawn(async move {
            if let Err(error) = purge(&shared, below).await {
                tracing::warn!(%error, %below, "the stream could not be purged");
            }
        });
    }

    fn measure(&self) {
        let shared = self.shared.clone();
        self.spawn(async move {
            match shared.api.info(shared.names.stream()).await {
                Ok(info) => (shared.hear)(Heard::Bytes(info.bytes())),
                Err(error) => tracing::debug!(%error, "the stream could not be measured"),
            }
        });
    }

    fn step_down(&self) {
        let shared = self.shared.clone();
        self.spawn(async move {
            if let Err(error) = shared.api.step_down(shared.names.stream()).await {
                tracing::warn!(%error, "the stream's leader could not be stepped down");
            }
        });
    }
}

/// The secret of the configuration, or of its file.
///
/// # Errors
/// The file cannot be read, or holds less than 32 bytes.
fn secret(config: &ClusterConfig) -> Result<Secret, Error> {
    if config.secret_file.as_os_str().is_empty() {
        return Ok(config.secret.clone());
    }
    let failed = |why: String| Error::File { path: config.secret_file.clone(), why };
    let text = std::fs::read_to_string(&config.secret_file).map_err(|error| failed(error.to_string()))?;
    let text = text.trim();
    if text.len() < SECRET_BYTES_MIN {
        return Err(failed(format!("a cluster's secret has at least {SECRET_BYTES_MIN} bytes")));
    }
    Ok(Secret::new(text))
}

async fn options(config: &ClusterConfig, inbox: &str, tls: rustls::ClientConfig) -> Result<ConnectOptions, Error> {
    let mut options = ConnectOptions::new();
    if let Some(path) = super::config::file(&config.credentials) {
        let failed = |error: std::io::Error| Error::File { path: path.clone(), why: error.to_string() };
        options = options.credentials_file(&path).await.map_err(failed)?;
    }
    let has_tls = !config.ca_file.as_os_str().is_empty() || !config.cert_file.as_os_str().is_empty();
    Ok(options
        .name(format!("boxoffice {}", config.node))
        .custom_inbox_prefix(inbox)
        .require_tls(has_tls)
        .tls_client_config(tls)
        .ping_interval(SILENCE / PINGS)
        .connection_timeout(SILENCE)
        .reconnect_delay_callback(|attempts| PAUSE * u32::from(attempts > 1))
        .subscription_capacity(SUBSCRIPTION_MESSAGES)
        .client_capacity(CLIENT_COMMANDS))
}

async fn connect_client(config: &ClusterConfig, options: ConnectOptions, deadline: Instant) -> Result<Client, Error> {
    loop {
        match options.clone().connect(&config.servers[..]).await {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => return Err(Error::Unreachable(error.to_string())),
            Err(error) => tracing::debug!(%error, "no NATS server could be reached yet"),
        }
        sleep(PAUSE).await;
    }
}

/// Publishes to the log, and hears what became of it within `ack_timeout_ms`. What expects a sequence is sent again and
/// again in that time, since of any number of copies one gets in: what was on its way to a leader that is gone is lost.
/// A fence has to be looked for first, and is sent once.
async fn append(shared: &Shared, wire: super::Wire, expected: Option<Sequence>) -> Reply {
    let begun = Instant::now();
    let copies = if expected.is_some() { COPIES } else { 1 };
    for copy in 1..=copies {
        let (stream, subject) = (shared.names.stream(), shared.names.log());
        let until = shared.api.patience() * copy / copies;
        let patience = until.saturating_sub(begun.elapsed());
        match shared.api.append(stream, subject, wire.clone(), expected, patience).await {
            Ok(sequence) => return Reply::Acknowledged(sequence),
            Err(ApiError::Refused { code, .. }) if Reply::of_error(code) == Reply::Refused => return Reply::Refused,
            Err(ApiError::Refused { code, why }) => tracing::warn!(code, %why, "JetStream did not take a message"),
            Err(error) => tracing::debug!(%error, "a message was not acknowledged"),
        }
        // Whatever was said at once, it is not tried again at once.
        sleep(until.min(begun.elapsed() + PAUSE).saturating_sub(begun.elapsed())).await;
    }
    Reply::Failed
}

/// Asks until there is an answer.
async fn until_answered<T, F: Future<Output = Result<T, ApiError>>>(shared: &Shared, ask: impl Fn() -> F) -> T {
    let mut has_said = false;
    loop {
        shared.connected().await;
        match ask().await {
            Ok(answer) => return answer,
            // As of a message that its leader cannot read. Whoever waits may let another lead.
            Err(ApiError::Refused { code, why }) if !has_said => {
                tracing::warn!(code, %why, "JetStream refuses, and is asked again and again");
                has_said = true;
            }
            Err(error) => tracing::debug!(%error, "asked again"),
        }
        sleep(PAUSE).await;
    }
}

/// A purge below what is above the end would take all there is.
async fn purge(shared: &Shared, below: Sequence) -> Result<(), ApiError> {
    let last = shared.api.info(shared.names.stream()).await?.last();
    shared.api.purge(shared.names.stream(), below.min(last)).await
}

async fn hear_beats(shared: Arc<Shared>) -> Result<impl Future<Output = ()> + Send, Error> {
    let subject = shared.names.beat();
    let mut beats = subscribe(&shared.client, subject.clone()).await?;
    Ok(async move {
        while let Some(message) = beats.next().await {
            let Some(body) = shared.seal.open(&subject, &[], &message.payload) else { continue };
            if let Some((life, beat)) = body.split_first_chunk()
                && u64::from_le_bytes(*life) != shared.life
            {
                (shared.hear)(Heard::Beat(beat.to_vec()));
            }
        }
    })
}

async fn subscribe(client: &Client, subject: String) -> Result<async_nats::Subscriber, Error> {
    client.subscribe(subject).await.map_err(|error| Error::Unreachable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = ClusterConfig { secret_file: dir.path().join("secret"), ..ClusterConfig::default() };
        assert!(matches!(secret(&config), Err(Error::File { .. })));
        std::fs::write(&config.secret_file, "too short").unwrap();
        let error = secret(&config).unwrap_err().to_string();
        assert!(error.ends_with("at least 32 bytes") && !error.contains("too short"), "{error}");
        std::fs::write(&config.secret_file, format!("{}\n", "s".repeat(32))).unwrap();
        assert_eq!(secret(&config).unwrap().reveal(), "s".repeat(32));
    }

    #[test]
    fn names_of_nodes_are_one_word_of_a_subject_and_no_two_are_the_same() {
        let names = Names { cluster: "c".into() };
        assert_eq!(names.alive("a.b..c"), "c.alive.a%b%%c");
        assert_ne!(token("a.b"), token("a-b"));
    }
}
