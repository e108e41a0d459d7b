//! Nodes of a cluster that do not know what the others know: what they say and do meanwhile, and what they keep.

mod common;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxoffice::cluster::{Asking, Beat, Heard, Joining, Link, NodeName};
use boxoffice::relay::{Delivery, Outcome, Receiver, Settings};
use boxoffice::testing::cluster::{Cable, MemoryStream};
use boxoffice::testing::failing_disk::FailingDisk;
use boxoffice::{Config, Engine, Error, EventFilter, OptionId, Start};
use common::{PATIENCE, name};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Handle;

struct Node {
    engine: Engine,
    cable: Cable,
    dir: TempDir,
}

fn config(dir: &TempDir) -> Config {
    common::config(&dir.path().join("data"))
}

async fn node_in(stream: &MemoryStream, name: &str, dir: TempDir) -> Node {
    let cable = Cable::default();
    let engine = Engine::open_in_cluster(config(&dir), stream.joining(name, &cable)).await.unwrap();
    Node { engine, cable, dir }
}

async fn node(stream: &MemoryStream, name: &str) -> Node {
    node_in(stream, name, tempfile::tempdir().unwrap()).await
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn owns(node: &Node) {
    until("it owns", || node.engine.membership().unwrap().owns.then_some(())).await;
}

/// Takes its time for each event, and notes when it got it.
#[derive(Default)]
struct Slow(Mutex<Vec<Instant>>);

impl Receiver for Slow {
    fn deliver<'a>(&'a self, _: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        self.0.lock().push(Instant::now());
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Outcome::Delivered
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_may_be_deposed_without_knowing_it_begins_no_delivery() {
    const EVENTS: usize = 3_000;
    let stream = MemoryStream::default();
    let alone = node(&stream, "ada").await;
    owns(&alone).await;
    for _ in 0..EVENTS {
        common::charge(&alone.engine, &name("anna"), 1).await;
    }
    let slow = Arc::new(Slow::default());
    let receiver: Arc<dyn Receiver> = slow.clone();
    let settings = Settings { concurrency: 1, ..Settings::default() };
    alone.engine.attach("slow", EventFilter::ALL, Start::Beginning, receiver, settings).await.unwrap();
    until("some are delivered", || (slow.0.lock().len() > 10).then_some(())).await;
    alone.cable.cut();
    let cut = Instant::now();
    // Longer than the second that it may go on for, and less than it has to deliver.
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    let mended = Instant::now();
    assert!(slow.0.lock().len() < EVENTS, "there is something left to be delivered");
    alone.cable.mend();
    until("all are delivered once the log takes something again", || (slow.0.lock().len() >= EVENTS).then_some(()))
        .await;
    let late = slow.0.lock().iter().filter(|at| **at > cut + Duration::from_millis(1_500) && **at < mended).count();
    assert_eq!(late, 0, "deliveries began while nobody knew who owns");
    alone.engine.shutdown().await.unwrap();
}

/// A way to the stream that no engine uses.
fn way(stream: &MemoryStream, node: &str, hear: impl Fn(Heard) + Send + Sync + 'static) -> Arc<dyn Link> {
    let joining = stream.joining(node, &Cable::default());
    joining.connect.connect(&Handle::current(), 1, Arc::new(hear)).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sign_of_life_says_of_the_end_of_the_log_keeps_nobody_from_owning() {
    let stream = MemoryStream::default();
    let ida = way(&stream, "ida", |_| ());
    let beat = Beat { node: "ida".into(), life: 1, sequence: u64::MAX, ready: true, ..Beat::default() };
    let beating = tokio::spawn(async move {
        loop {
            ida.beat(&beat.encode());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let alone = node(&stream, "ada").await;
    owns(&alone).await;
    assert!(alone.engine.membership().unwrap().lag > 0, "others are to know that there may be more");
    beating.abort();
    alone.engine.shutdown().await.unwrap();
}

async fn charge_some(engine: &Engine, times: usize) {
    for _ in 0..times {
        common::charge(engine, &name("anna"), 1).await;
    }
}

/// The one of them that owns, and knows that the other one lives.
async fn owner(nodes: &[Node]) -> usize {
    until("one owns, and all know it", || {
        let owner = nodes.iter().position(|node| node.engine.membership().unwrap().owns)?;
        let owned = nodes[owner].engine.membership().unwrap();
        let knows = |node: &Node| node.engine.membership().unwrap().epoch == owned.epoch;
        (nodes.iter().all(knows) && owned.peers.len() + 1 >= nodes.len()).then_some(owner)
    })
    .await
}

async fn forget(stream: &MemoryStream, owner: &Node, node: &str) -> String {
    let owner = owner.engine.membership().unwrap().node.clone();
    let asked = way(stream, "cli", |_| ()).ask(&owner, Asking::Forget.of(node.into()), PATIENCE);
    String::from_utf8(asked.await.unwrap()).unwrap()
}

/// All of them have on their own disks what there is now, and their owner has had the time to let the log forget it.
async fn have_synced(nodes: &[Node], owner: usize) {
    let last = nodes[owner].engine.membership().unwrap().sequence;
    let synced = || nodes[owner].engine.membership().unwrap().known.clone();
    let others: Vec<_> = (0..nodes.len()).filter(|index| *index != owner).collect();
    let name = |index: &usize| nodes[*index].engine.membership().unwrap().node.to_string();
    until("they have synced it", || {
        others.iter().all(|index| synced().get(&name(index)).is_some_and(|synced| *synced >= last)).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_what_a_node_lacks_that_no_living_process_has_heard_of_until_it_is_forgotten() {
    let stream = MemoryStream::default();
    let mut nodes = vec![node(&stream, "ada").await, node(&stream, "ben").await, node(&stream, "eva").await];
    let first = owner(&nodes).await;
    charge_some(&nodes[first].engine, 10).await;
    let told = forget(&stream, &nodes[first], "eva").await;
    assert!(told.contains("lives"), "{told}");
    let all_know = |node: &Node| node.engine.membership().unwrap().known.len() == 2;
    until("each knows both others", || nodes.iter().all(all_know).then_some(())).await;
    // It is written down with what was read.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    nodes.remove(2).engine.shutdown().await.unwrap();
    // Nobody's process is the same after this.
    for index in 0..2 {
        let Node { engine, dir, .. } = nodes.remove(0);
        engine.shutdown().await.unwrap();
        nodes.push(node_in(&stream, ["ada", "ben"][index], dir).await);
    }
    let first = owner(&nodes).await;
    charge_some(&nodes[first].engine, 1_300).await;
    have_synced(&nodes, first).await;
    assert_eq!(stream.purged(), 0, "eva does not have it");
    let told = forget(&stream, &nodes[first], "eve").await;
    assert!(told.contains("no node of this name"), "{told}");
    assert_eq!(forget(&stream, &nodes[first], "eva").await, "");
    until("the log forgets", || (stream.purged() > 1_000).then_some(())).await;
    let forgotten = |node: &Node| !node.engine.membership().unwrap().known.contains_key("eva");
    until("all have forgotten it", || nodes.iter().all(forgotten).then_some(())).await;
    for node in nodes {
        node.engine.shutdown().await.unwrap();
    }
}

async fn hold(engine: &Engine, option: OptionId, user: usize) -> Result<(), Error> {
    engine.hold(option, &common::user(user), common::best(1), None, None).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hold_is_taken_while_the_log_is_at_its_limit_and_all_else_goes_on() {
    let stream = MemoryStream::default();
    let mut nodes = Vec::new();
    for name in ["ada", "ben", "eva"] {
        let (cable, dir) = (Cable::default(), tempfile::tempdir().unwrap());
        let joining = Joining { log_bytes_max: 20_000, ..stream.joining(name, &cable) };
        let engine = Engine::open_in_cluster(config(&dir), joining).await.unwrap();
        nodes.push(Node { engine, cable, dir });
    }
    let first = owner(&nodes).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    nodes.remove((first + 1) % 3).engine.shutdown().await.unwrap();
    let first = owner(&nodes).await;
    hold(&nodes[first].engine, option, 0).await.unwrap();
    charge_some(&nodes[first].engine, 300).await;
    let reasons = || nodes[first].engine.health().reasons;
    let is_full = |reasons: &Vec<String>| reasons.iter().any(|reason| reason.contains("at its limit"));
    until("it says so", || is_full(&reasons()).then_some(())).await;
    for node in &nodes {
        let refused = hold(&node.engine, option, 1).await;
        assert!(matches!(refused, Err(Error::LogFull)), "{refused:?}");
        charge_some(&node.engine, 1).await;
    }
    let known = nodes[first].engine.membership().unwrap().known.clone();
    let living = |name: &String| nodes.iter().any(|node| node.engine.membership().unwrap().node.to_string() == *name);
    let gone = known.keys().find(|name| !living(name)).unwrap();
    let begun = Instant::now();
    while !forget(&stream, &nodes[first], gone).await.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it does not count as gone");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until("it goes on", || (!is_full(&reasons())).then_some(())).await;
    for (user, node) in nodes.iter().enumerate() {
        hold(&node.engine, option, 2 + user).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_disk_is_nearly_full_says_so_reads_no_further_and_goes_on_when_there_is_room() {
    let stream = MemoryStream::default();
    let first = node(&stream, "ada").await;
    owns(&first).await;
    let (disk, dir) = (FailingDisk::default(), tempfile::tempdir().unwrap());
    let joining = stream.joining("ben", &Cable::default());
    let second = Engine::open_in_cluster_on(config(&dir), disk.clone(), joining).await.unwrap();
    charge_some(&first.engine, 3).await;
    let has_all = || (second.durable_lsn() == first.engine.durable_lsn()).then_some(());
    until("it follows", has_all).await;
    let bytes = second.stats().journal_bytes;
    assert!(bytes >= 3 * 512, "what it follows counts, but only {bytes} bytes do");
    disk.set_available_bytes(Some(0));
    let reason = until("it says so", || second.health().reasons.pop()).await;
    assert!(reason.contains("the disk is nearly full"), "{reason}");
    charge_some(&first.engine, 20).await;
    until("it hears that there is more", || (second.membership().unwrap().lag >= 20).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(second.membership().unwrap().lag >= 20 && second.failed().is_none(), "{:?}", second.membership());
    disk.set_available_bytes(None);
    until("it has all", has_all).await;
    until("it is ready", || second.health().ready.then_some(())).await;
    assert_eq!(NodeName::new("ben"), Some(second.membership().unwrap().node.clone()));
}
