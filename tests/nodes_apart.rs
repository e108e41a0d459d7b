//! Nodes of a cluster that are apart, in what they hear, have room for, remember or can read: what they say and do
//! meanwhile.

mod common;

use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxoffice::cluster::{Asking, Beat, Heard, Joining, Link, NodeName};
use boxoffice::domain::waiting_room::{Settings as Room, SettingsPatch};
use boxoffice::relay::{Delivery, Outcome, Receiver, Settings};
use boxoffice::testing::cluster::{Cable, MemoryStream};
use boxoffice::testing::failing_disk::FailingDisk;
use boxoffice::{Engine, Error, EventFilter, NewConcert, OptionId, Start};
use common::nodes::{Node, config, until};
use common::{PATIENCE, name};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::timeout;

async fn node(stream: &MemoryStream, name: &str) -> Node {
    Node::open(stream, name, tempfile::tempdir().unwrap()).await
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
    const EVENTS: usize = 2_000;
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
    let before = slow.0.lock().len();
    assert!(before < EVENTS, "there is something left to be delivered");
    alone.cable.mend();
    until("it goes on once the log takes something again", || (slow.0.lock().len() > before + 10).then_some(())).await;
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
        nodes.push(Node::open(&stream, ["ada", "ben"][index], dir).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn an_owners_own_call_has_an_end_while_the_log_takes_nothing() {
    let (stream, dir) = (MemoryStream::default(), tempfile::tempdir().unwrap());
    let mut settings = config(&dir);
    settings.forwarding.time_ms = 500;
    let engine = Engine::open_in_cluster(settings, stream.joining("ada", &Cable::default())).await.unwrap();
    until("it owns", || engine.membership().unwrap().owns.then_some(())).await;
    let option = common::on_sale(&engine, 2, 2).await;
    stream.stall();
    let held = timeout(PATIENCE, hold(&engine, option, 0)).await.expect("it has an end");
    assert!(matches!(held, Err(Error::OutcomeUnknown(_))), "{held:?}");
    let read = timeout(PATIENCE, engine.wallet(&name("anna"))).await.expect("it has an end");
    assert!(matches!(read, Err(Error::OutcomeUnknown(_))), "{read:?}");
    stream.go_on();
    until("it goes on", || engine.health().ready.then_some(())).await;
    hold(&engine, option, 1).await.unwrap();
    assert_eq!(engine.option(option).await.unwrap().counts.held, 2, "what was under way has come");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_waits_for_one_mark() {
    let stream = MemoryStream::default();
    let alone = node(&stream, "ada").await;
    owns(&alone).await;
    let option = common::on_sale(&alone.engine, 2, 2).await;
    common::hold(&alone.engine, option, &name("anna"), &["1-1"]).await;
    let (before, begun) = (stream.messages().len(), Instant::now());
    for _ in 0..50 {
        let taken = common::seats(&["1-1"]);
        let refused = alone.engine.hold(option, &name("ben"), taken, None, None).await;
        assert!(matches!(refused, Err(Error::SeatsUnavailable(_))), "{refused:?}");
    }
    // One a second is there anyway.
    let more = stream.messages().len() - before - begun.elapsed().as_secs() as usize;
    assert!((50..60).contains(&more), "{more} messages for 50 rejections");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_a_line_of_a_cluster_may_be_silent_for_ten_seconds_at_least() {
    let stream = MemoryStream::default();
    let nodes = vec![node(&stream, "ada").await, node(&stream, "ben").await];
    let first = owner(&nodes).await;
    let concert = |seconds| NewConcert {
        title: "Concert".into(),
        waiting_room: Room { waiting_ttl_seconds: seconds, ..Room::default() },
    };
    let made = nodes[first].engine.create_concert(concert(10), None).await.unwrap().value.id;
    for node in &nodes {
        let patch = SettingsPatch { waiting_ttl_seconds: Some(9), ..SettingsPatch::default() };
        let refused = [
            node.engine.create_concert(concert(9), None).await.err().unwrap(),
            node.engine.configure_waiting_room(made, patch).await.err().unwrap(),
        ];
        for (error, field) in refused.into_iter().zip(["waiting_room.waiting_ttl_seconds", "waiting_ttl_seconds"]) {
            let Error::Invalid(errors) = error else { panic!("{error:?}") };
            assert_eq!(errors.iter().map(|error| &*error.field).collect::<Vec<_>>(), [field]);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let alone = Engine::open(config(&dir)).await.unwrap();
    alone.create_concert(concert(1), None).await.unwrap();
    alone.shutdown().await.unwrap();
}

async fn of_version(stream: &MemoryStream, name: &str, format: u32, dir: TempDir) -> Node {
    let cable = Cable::default();
    let joining = Joining { format, ..stream.joining(name, &cable) };
    let engine = Engine::open_in_cluster(config(&dir), joining).await.unwrap();
    Node { engine, cable, dir }
}

/// Asks the owner to write the highest format there is.
async fn upgrade(stream: &MemoryStream, owner: &Node) -> String {
    let owner = owner.engine.membership().unwrap().node.clone();
    let asked = way(stream, "cli", |_| ()).ask(&owner, Asking::Upgrade.of(Vec::new()), PATIENCE);
    String::from_utf8(asked.await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_written_so_that_all_can_read_it_until_it_is_upgraded() {
    let (stream, heard) = (MemoryStream::default(), Arc::<Mutex<Option<u32>>>::default());
    let writes = heard.clone();
    let _ida = way(&stream, "ida", move |heard| {
        if let Heard::Beat(bytes) = heard
            && let Some(beat) = Beat::decode(&bytes)
            && beat.owns
        {
            *writes.lock() = Some(beat.writes);
        }
    });
    let old = of_version(&stream, "ben", 1, tempfile::tempdir().unwrap()).await;
    owns(&old).await;
    let mut nodes = vec![old, of_version(&stream, "ada", 2, tempfile::tempdir().unwrap()).await];
    let option = common::on_sale(&nodes[0].engine, 10, 20).await;
    let first = owner(&nodes).await;
    let told = upgrade(&stream, &nodes[first]).await;
    assert!(told.contains("format 2") && told.ends_with(": ben"), "{told}");
    // Also the new one, as the owner, writes what the other one can read.
    let Node { engine, dir, .. } = nodes.remove(0);
    engine.shutdown().await.unwrap();
    owns(&nodes[0]).await;
    let told = upgrade(&stream, &nodes[0]).await;
    assert!(told.ends_with(": ben"), "who is away cannot be asked: {told}");
    nodes.push(of_version(&stream, "ben", 1, dir).await);
    let first = owner(&nodes).await;
    hold(&nodes[first].engine, option, 0).await.unwrap();
    until("it is written in format 1", || (*heard.lock() == Some(1)).then_some(())).await;
    let Node { engine, dir, .. } = nodes.remove(1);
    engine.shutdown().await.unwrap();
    nodes.push(of_version(&stream, "ben", 2, dir).await);
    let first = owner(&nodes).await;
    let epoch = nodes[first].engine.membership().unwrap().epoch;
    let begun = Instant::now();
    // What the old process has said last still counts for a moment.
    while !upgrade(&stream, &nodes[first]).await.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "ben is not heard of");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("it is written in format 2", || (*heard.lock() == Some(2)).then_some(())).await;
    let first = owner(&nodes).await;
    let now = nodes[first].engine.membership().unwrap().epoch;
    assert!(now > epoch, "it stands in a fence");
    for (user, node) in nodes.iter().enumerate() {
        hold(&node.engine, option, 1 + user).await.unwrap();
    }
    assert_eq!(upgrade(&stream, &nodes[first]).await, "", "there is nothing to do");
    assert_eq!(nodes[first].engine.membership().unwrap().epoch, now);
    let late = of_version(&stream, "eva", 1, tempfile::tempdir().unwrap()).await;
    let why = until("an old version says so", || late.engine.failed()).await;
    assert!(why.contains("writes format 2, and this program reads 1"), "{why}");
}

#[test]
fn what_begins_a_cluster_needs_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice-server"));
    command.env_remove("BOXOFFICE_CLUSTER_SEEDS");
    let ended = command.args(["--found", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--data"]).arg(dir.path());
    let ended = ended.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("--found") && said.contains("cluster.servers"), "{said}");
}
