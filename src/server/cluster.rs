//! What an operator does with a cluster from the command line: looks at it, lets another node own, takes a node out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::config::Settings;
use crate::Engine;
use crate::cluster::nats::NatsLink;
use crate::cluster::{Asking, Beat, ClusterConfig, Found, Heard, Link as _, NodeName, State};
use crate::store::disk::RealDisk;
use crate::store::journal::{Frames, Options};
use crate::store::lock::DirLock;
use crate::store::standing::Standing;

/// How long a node that lives may say nothing, at the most, in signs of life.
const BEATS: u32 = 4;
const NO_OWNER: &str = "no node says that it owns the log";
/// How long it may take until another node owns.
const HAND_OVER: Duration = Duration::from_secs(30);
/// How long a node may count as living after it was shut down.
const GONE: Duration = Duration::from_secs(30);
/// How long a node that leaves may take to have all of the log.
const CATCH_UP: Duration = Duration::from_secs(600);

/// The nodes that were heard of, and where their log ends.
#[derive(Debug, Clone)]
pub struct Status {
    found: Found,
    nodes: BTreeMap<String, Beat>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, fields: [&str; 7]| {
            let [node, role, epoch, lsn, read, synced, ready] = fields;
            writeln!(f, "{node:<20} {role:<9} {epoch:>8} {lsn:>14} {read:>12} {synced:>12} {ready}")
        };
        line(f, ["NODE", "ROLE", "EPOCH", "LSN", "READ", "SYNCED", "READY"])?;
        for (name, beat) in &self.nodes {
            let role = if beat.owns { "owner" } else { "follower" };
            let [epoch, lsn] = [beat.epoch, beat.next_lsn.saturating_sub(1)].map(|number| number.to_string());
            let [read, synced] = [beat.sequence, beat.synced].map(|number| number.to_string());
            line(f, [name, role, &epoch, &lsn, &read, &synced, if beat.ready { "yes" } else { "no" }])?;
        }
        let owner = owner_of(&self.nodes);
        for (name, synced) in owner.iter().flat_map(|owner| &owner.known) {
            if !self.nodes.contains_key(name) {
                line(f, [name, "away", "", "", "", &synced.to_string(), "no"])?;
            }
        }
        writeln!(f, "the log has messages {} to {}", self.found.first, self.found.last)?;
        owner.map_or(Ok(()), |owner| writeln!(f, "it is written in format {}", owner.writes))
    }
}

/// Listens for so long that every node that lives has said so.
///
/// # Errors
/// The configuration is of no cluster, or its NATS servers do not answer.
pub async fn status(settings: &Settings) -> Result<Status> {
    let (link, _, heard) = look_on(settings).await?;
    let listening = settings.cluster.beat() * BEATS;
    sleep(listening).await;
    let nodes = heard.lock().clone();
    // Afterwards, so that no node has read more than the log is said to have.
    let found = link.found().await?;
    Ok(Status { found, nodes })
}

/// Lets another node own, if one could; gives the name of the one that does.
///
/// # Errors
/// Nobody owns, the owner does not answer, or no other node could take over.
pub async fn step_down(settings: &Settings) -> Result<String> {
    let (link, nodes, before) = find_owner(settings).await?;
    if !nodes.lock().values().any(|beat| beat.node != before.node && beat.ready) {
        bail!("no other node could own the log");
    }
    ask(settings, &link, &before, Asking::StepDown, Vec::new()).await?;
    let begun = Instant::now();
    loop {
        match owner(&nodes) {
            Some(now) if now.epoch > before.epoch => return Ok(now.node),
            _ if begun.elapsed() > HAND_OVER => bail!("node {} still owns the log", before.node),
            _ => sleep(settings.cluster.beat() / 2).await,
        }
    }
}

/// Lets the cluster forget a node that is gone for good.
///
/// # Errors
/// Nobody owns, the node lives or is not known, or the owner does not answer.
pub async fn forget(settings: &Settings, gone: &str) -> Result<()> {
    let (link, nodes, _) = find_owner(settings).await?;
    let begun = Instant::now();
    loop {
        let owner = owner(&nodes).context(NO_OWNER)?;
        let said = ask(settings, &link, &owner, Asking::Forget, gone.as_bytes().to_vec()).await?;
        match said.as_str() {
            "" => break,
            // It was shut down a moment ago.
            why if begun.elapsed() > GONE => bail!("{gone} cannot be forgotten: {why}"),
            _ => sleep(settings.cluster.beat()).await,
        }
    }
    let is_known = || owner(&nodes).is_none_or(|owner| owner.known.contains_key(gone));
    let begun = Instant::now();
    while is_known() {
        // Another one may own by now, who had not heard of it.
        anyhow::ensure!(begun.elapsed() < HAND_OVER, "{gone} is known again: ask once more");
        sleep(settings.cluster.beat()).await;
    }
    Ok(())
}

/// Lets what is written be of the highest format that a node reads. Gives the format in which the log is written now,
/// and whether that is new.
///
/// # Errors
/// Nobody owns, or a known node could not read it.
pub async fn upgrade(settings: &Settings) -> Result<(u32, bool)> {
    let (link, nodes, before) = find_owner(settings).await?;
    let said = ask(settings, &link, &before, Asking::Upgrade, Vec::new()).await?;
    if !said.is_empty() {
        bail!("{said}");
    }
    let highest = nodes.lock().values().map(|beat| beat.reads).max().unwrap_or(before.writes);
    if highest <= before.writes {
        return Ok((before.writes, false));
    }
    let begun = Instant::now();
    loop {
        match owner(&nodes) {
            Some(now) if now.writes >= highest => return Ok((now.writes, true)),
            _ if begun.elapsed() > HAND_OVER => bail!("the log is still written in format {}", before.writes),
            _ => sleep(settings.cluster.beat() / 2).await,
        }
    }
}

type Nodes = Arc<Mutex<BTreeMap<String, Beat>>>;

/// The one that says last that it owns.
fn owner_of(nodes: &BTreeMap<String, Beat>) -> Option<&Beat> {
    nodes.values().filter(|beat| beat.owns).max_by_key(|beat| beat.epoch)
}

/// The same, as of now.
fn owner(nodes: &Nodes) -> Option<Beat> {
    owner_of(&nodes.lock()).cloned()
}

/// Listens until all nodes that live have been heard, the one that owns among them.
async fn find_owner(settings: &Settings) -> Result<(NatsLink, Nodes, Beat)> {
    let (link, _, nodes) = look_on(settings).await?;
    sleep(settings.cluster.beat() * BEATS).await;
    let owner = owner(&nodes).context(NO_OWNER)?;
    Ok((link, nodes, owner))
}

/// Asks a node something that it answers in words.
async fn ask(settings: &Settings, link: &NatsLink, of: &Beat, what: Asking, question: Vec<u8>) -> Result<String> {
    let node = NodeName::new(&of.node).context("the owner has no name")?;
    let asked = link.ask(&node, what.of(question), settings.cluster.connect_timeout()).await;
    let answer = asked.map_err(|unanswered| anyhow::anyhow!("node {node} does not answer: {unanswered:?}"))?;
    String::from_utf8(answer).context("the owner says something else")
}

/// Listens to all nodes, and is none.
async fn look_on(settings: &Settings) -> Result<(NatsLink, Found, Nodes)> {
    if !settings.cluster.is_configured() {
        bail!("cluster.servers is empty: there is no cluster to look at");
    }
    let life = getrandom::u64().context("a random number")?;
    let config =
        ClusterConfig { node: format!("cli-{life:016x}"), accept_unknown_sync: true, ..settings.cluster.clone() };
    let nodes = Nodes::default();
    let listener = nodes.clone();
    let hear = move |heard: Heard| {
        if let Heard::Beat(bytes) = heard
            && let Some(beat) = Beat::decode(&bytes)
        {
            listener.lock().insert(beat.node.clone(), beat);
        }
    };
    let handle = tokio::runtime::Handle::current();
    let (link, found) = NatsLink::connect(&handle, config, life, hear).await?;
    Ok((link, found, nodes))
}

/// Takes a data directory out of its cluster: it holds all of the log, and is a single machine's from then on. With
/// `accept_loss` it does so with what it has, whether that is all or not. The others are told to forget it; gives why
/// they were not, if so.
///
/// # Errors
/// It is in no cluster, the log cannot be reached, or the directory is in use.
pub async fn leave(settings: &Settings, accept_loss: bool) -> Result<Option<String>> {
    let standing = Standing::in_dir(Arc::new(RealDisk), &settings.data_dir);
    let Some(bytes) = standing.read()? else { bail!("{} belongs to no cluster", settings.data_dir.display()) };
    if !accept_loss {
        catch_up(settings).await?;
    }
    let _lock = DirLock::acquire(&settings.data_dir)?;
    let state = State::decode(&standing.read()?.unwrap_or(bytes))?;
    // What a power cut has left of frames that were not synced is cut off here, and what remains is a journal.
    let frames = Frames::in_dir(Arc::new(RealDisk), &settings.data_dir);
    drop(frames.open_copy(Options::default(), state.tip)?);
    standing.remove()?;
    if accept_loss {
        return Ok(Some("they were not asked".into()));
    }
    Ok(forget(settings, &settings.cluster.node).await.err().map(|error| error.to_string()))
}

/// Follows the log to its end.
async fn catch_up(settings: &Settings) -> Result<()> {
    let mut joining = settings.cluster.clone().joining(false)?;
    // It only follows.
    joining.patience.suspect_after = CATCH_UP * 2;
    let engine = Engine::open_in_cluster(settings.engine(), joining).await?;
    let begun = Instant::now();
    let outcome = loop {
        let membership = engine.membership().context("it is in no cluster")?;
        match engine.failed() {
            Some(reason) => break Err(anyhow::anyhow!(reason)),
            None if membership.connected && membership.sequence.0 > 0 && membership.lag == 0 => break Ok(()),
            None if begun.elapsed() > CATCH_UP => break Err(anyhow::anyhow!("the log's end was not reached in time")),
            None => sleep(Duration::from_millis(100)).await,
        }
    };
    engine.shutdown().await?;
    outcome
}
