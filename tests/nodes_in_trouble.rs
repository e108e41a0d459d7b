//! Nodes that cannot go on, or not as they were told: each says so, and harms neither the others nor its own directory.

mod common;

use std::sync::Arc;
use std::time::Duration;

use boxoffice::cluster::{Beat, Joining, Link, Sequence};
use boxoffice::testing::cluster::{Cable, MemoryStream};
use boxoffice::{Engine, OptionId};
use common::nodes::{Node, config, owner_of_all, three, until};
use common::{PATIENCE, name};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::timeout;

async fn all_have_the_same(nodes: &[Node], owner: usize) {
    let last = nodes[owner].engine.durable_lsn();
    until("all have it", || nodes.iter().all(|node| node.engine.durable_lsn() == last).then_some(())).await;
}

async fn hold_some(engine: &Engine, option: OptionId, users: std::ops::Range<usize>) {
    for n in users {
        engine.hold(option, &common::user(n), common::best(1), None, None).await.unwrap();
    }
}

/// A directory in which a machine was alone.
async fn of_one_machine() -> (TempDir, OptionId) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(&dir)).await.unwrap();
    let option = common::on_sale(&engine, 4, 5).await;
    engine.shutdown().await.unwrap();
    (dir, option)
}

async fn is_alone_again(dir: &TempDir, option: OptionId) {
    let engine = Engine::open(config(dir)).await.unwrap();
    common::hold(&engine, option, &name("anna"), &["1-1"]).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_nothing_behind() {
    let (stream, cable) = (MemoryStream::default(), Cable::default());
    let (dir, option) = of_one_machine().await;
    // Where all nodes find the plans does not answer.
    cable.cut();
    let joining = Joining { founds: true, ..stream.joining("ada", &cable) };
    let error = Engine::open_in_cluster(config(&dir), joining).await.err().unwrap();
    assert!(error.to_string().contains("cut off"), "{error}");
    is_alone_again(&dir, option).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_join_stays_what_it_was() {
    let (stream, cable) = (MemoryStream::default(), Cable::default());
    let (dir, option) = of_one_machine().await;
    // Somebody else was sooner, with nothing.
    let nodes = [Node::open(&stream, "ben", tempfile::tempdir().unwrap()).await];
    owner_of_all(&nodes).await;
    for founds in [true, false] {
        let joining = Joining { founds, ..stream.joining("ada", &cable) };
        let error = Engine::open_in_cluster(config(&dir), joining).await.err().unwrap();
        assert!(error.to_string().contains("cannot be copied from node ben"), "{error}");
    }
    is_alone_again(&dir, option).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_what_the_log_has_forgotten_says_so_and_copies_it_at_the_next_start() {
    let stream = MemoryStream::default();
    let mut nodes = three(&stream).await;
    let first = owner_of_all(&nodes).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    all_have_the_same(&nodes, first).await;
    let away = nodes.remove((first + 1) % 3);
    away.cable.cut();
    let first = owner_of_all(&nodes).await;
    hold_some(&nodes[first].engine, option, 0..30).await;
    all_have_the_same(&nodes, first).await;
    stream.purge(Sequence(stream.messages().len() as u64));
    away.cable.mend();
    let reason = until("it says so", || away.engine.failed()).await;
    assert!(reason.contains("again, and it copies"), "{reason}");
    let node = away.engine.membership().unwrap().node.to_string();
    away.engine.shutdown().await.unwrap_err();
    let back = Node::open(&stream, &node, away.dir).await;
    let last = nodes[first].engine.durable_lsn();
    until("it has caught up", || (back.engine.durable_lsn() >= last).then_some(())).await;
    assert_eq!(back.engine.option(option).await.unwrap().counts.held, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_all_replicas_ends_who_reads_it_and_lets_the_others_work() {
    let stream = MemoryStream::default();
    let mut nodes = three(&stream).await;
    let first = owner_of_all(&nodes).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    all_have_the_same(&nodes, first).await;
    let away = nodes.remove((first + 1) % 3);
    away.cable.cut();
    let before = Sequence(stream.messages().len() as u64);
    let first = owner_of_all(&nodes).await;
    hold_some(&nodes[first].engine, option, 0..3).await;
    all_have_the_same(&nodes, first).await;
    stream.damage(before);
    away.cable.mend();
    let reason = until("it says so", || away.engine.failed()).await;
    assert!(reason.contains("damaged"), "{reason}");
    // Each costs all nodes half a second.
    assert!((1..=3).contains(&stream.step_downs()), "{}", stream.step_downs());
    hold_some(&nodes[first].engine, option, 3..6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_told_to_end_while_nothing_is_acknowledged_ends() {
    let stream = MemoryStream::default();
    let mut nodes = three(&stream).await;
    let first = owner_of_all(&nodes).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    let gone = nodes.remove(first);
    stream.stall();
    let engine = gone.engine.clone();
    let lost = tokio::spawn(async move { engine.hold(option, &name("anna"), common::best(1), None, None).await });
    until("it is under way", || (stream.waiting() > 0).then_some(())).await;
    timeout(PATIENCE, gone.engine.shutdown()).await.expect("it ends").unwrap();
    lost.await.unwrap().unwrap_err();
    stream.go_on();
    let second = owner_of_all(&nodes).await;
    hold_some(&nodes[second].engine, option, 0..3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_writes_a_last_checkpoint_when_it_ends() {
    let stream = MemoryStream::default();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = config(&dir);
    // None but the last.
    settings.checkpoint.replay_target_ms = 3_600_000;
    let engine = Engine::open_in_cluster(settings, stream.joining("ada", &Cable::default())).await.unwrap();
    until("it owns", || engine.membership().unwrap().owns.then_some(())).await;
    let option = common::on_sale(&engine, 4, 5).await;
    hold_some(&engine, option, 0..3).await;
    engine.shutdown().await.unwrap();
    assert_eq!(engine.stats().checkpointed_lsn, engine.durable_lsn().0);
}

/// A way to the stream that no engine uses.
fn way(stream: &MemoryStream, node: &str) -> Arc<dyn Link> {
    let joining = stream.joining(node, &Cable::default());
    joining.connect.connect(&Handle::current(), 1, Arc::new(|_| ())).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_nonsense_does_not_hold_a_newcomer_for_ever() {
    let stream = MemoryStream::default();
    let first = Node::open(&stream, "ben", tempfile::tempdir().unwrap()).await;
    until("it owns", || first.engine.membership().unwrap().owns.then_some(())).await;
    common::on_sale(&first.engine, 4, 5).await;
    first.engine.shutdown().await.unwrap();
    let last = Sequence(stream.messages().len() as u64);
    stream.purge(last);
    // Nothing, a part that never ends, one that has more than it says, and no answer at all.
    let nonsense: [&[u8]; 4] = [
        &[0x84, 0x80, 0xF6, 0xF6, 0xF6],
        &[0x84, 0x80, 0x82, 0x41, 0, 0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xF6, 0xF6],
        &[0x84, 0x80, 0x82, 0x42, 0, 0, 1, 0xF6, 0xF6],
        b"?",
    ];
    for answer in nonsense {
        let ida = way(&stream, "ida");
        ida.answer_by(Arc::new(move |_| Box::pin(async move { answer.to_vec() })));
        let beat = Beat {
            node: "ida".into(),
            life: 1,
            epoch: 0,
            owns: false,
            sequence: last.0,
            next_lsn: 1,
            synced: last.0,
            ready: true,
            ..Beat::default()
        };
        let beating = tokio::spawn(async move {
            loop {
                ida.beat(&beat.encode());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let opening = Engine::open_in_cluster(config(&dir), stream.joining("ada", &Cable::default()));
        let error = timeout(PATIENCE, opening).await.expect("it ends").err().unwrap();
        assert!(error.to_string().contains("cannot be copied from node ida"), "{error}");
        beating.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_a_connection_is_not_ready() {
    let stream = MemoryStream::default();
    let alone = Node::open(&stream, "ada", tempfile::tempdir().unwrap()).await;
    until("it owns", || alone.engine.health().ready.then_some(())).await;
    alone.cable.cut();
    let health = until("it is not ready", || Some(alone.engine.health()).filter(|health| !health.ready)).await;
    assert!(health.reasons.iter().any(|reason| reason.contains("connection")), "{health:?}");
    alone.cable.mend();
    until("it is ready again", || alone.engine.health().ready.then_some(())).await;
}
