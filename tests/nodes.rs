//! Several engines in one process on one log: who owns, who follows, and what becomes of calls when that changes. The log is
//! in memory here; the rules are those of a real one.

mod common;

use std::time::Duration;

use boxoffice::cluster::{Joining, Sequence};
use boxoffice::testing::cluster::{Cable, MemoryStream};
use boxoffice::{Caller, Engine, Error, Lsn, NewSeatingPlan, OptionId, PaymentStatus, Rejection, Wish, verify};
use common::name;
use common::nodes::{Node, config, owner, three, until};
use tempfile::TempDir;

async fn node(stream: &MemoryStream, name: &str) -> Node {
    Node::open(stream, name, tempfile::tempdir().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owns_and_the_others_have_what_it_does() {
    let stream = MemoryStream::default();
    let nodes = three(&stream).await;
    let first = owner(&nodes, &[0, 1, 2]).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    nodes[first].engine.hold(option, &name("anna"), Wish::best(3), None, None).await.unwrap();
    for node in &nodes {
        until("all have it", || (node.engine.durable_lsn() == nodes[first].engine.durable_lsn()).then_some(())).await;
        let counts = until("all see it", || Some(node.engine.stats().applied_lsn)).await;
        assert!(counts > 0);
        let plans = config(&node.dir).data_dir.join("plans");
        until("all have its plan", || std::fs::read_dir(&plans).is_ok_and(|plans| plans.count() == 1).then_some(()))
            .await;
    }
    for node in nodes {
        node.engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_cut_off_is_followed_by_another_and_follows_when_it_is_back() {
    let stream = MemoryStream::default();
    let nodes = three(&stream).await;
    let first = owner(&nodes, &[0, 1, 2]).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    let anna = name("anna");
    nodes[first].engine.hold(option, &anna, Wish::best(3), None, None).await.unwrap();
    nodes[first].cable.cut();
    // It does not know, and what it decides now never was.
    let cut_off = nodes[first].engine.clone();
    let lost = tokio::spawn(async move { cut_off.hold(option, &name("ben"), Wish::best(2), None, None).await });
    let others: Vec<_> = (0..3).filter(|index| *index != first).collect();
    let second = owner(&nodes, &others).await;
    let held = nodes[second].engine.hold(option, &name("eva"), Wish::best(5), None, None).await.unwrap().value;
    nodes[first].cable.mend();
    let lost = lost.await.unwrap();
    assert!(matches!(lost, Err(Error::OutcomeUnknown(_))), "{lost:?}");
    assert_eq!(owner(&nodes, &[0, 1, 2]).await, second);
    let again = nodes[first].engine.reservation(&Caller::User(name("eva")), held.id).await.unwrap();
    assert_eq!(again.amount, held.amount, "whoever was cut off asks the one who owns");
    let last = nodes[second].engine.durable_lsn();
    for node in &nodes {
        until("all are at the end", || (node.engine.durable_lsn() >= last).then_some(())).await;
        let seen = node.engine.option(option).await.unwrap();
        assert_eq!((seen.counts.held, seen.counts.sold), (8, 0));
    }
    for node in nodes {
        node.engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_down_hands_over_and_joins_again_with_what_it_had() {
    let stream = MemoryStream::default();
    let mut nodes = three(&stream).await;
    let first = owner(&nodes, &[0, 1, 2]).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    nodes[first].engine.hold(option, &name("anna"), Wish::best(3), None, None).await.unwrap();
    let gone = nodes.remove(first);
    let node = gone.engine.membership().unwrap().node.to_string();
    gone.engine.shutdown().await.unwrap();
    let second = owner(&nodes, &[0, 1]).await;
    nodes[second].engine.hold(option, &name("ben"), Wish::best(2), None, None).await.unwrap();
    let back = Node::open(&stream, &node, gone.dir).await;
    until("it has caught up", || (back.engine.durable_lsn() == nodes[second].engine.durable_lsn()).then_some(())).await;
    assert_eq!(back.engine.option(option).await.unwrap().counts.held, 5);
    let refused = Engine::open(config(&nodes[0].dir)).await;
    assert!(refused.is_err(), "it is in use");
    for node in nodes.into_iter().chain([back]) {
        node.engine.shutdown().await.unwrap();
        let alone = Engine::open(config(&node.dir)).await;
        let Err(error) = alone else { panic!("a node's directory was opened alone") };
        assert!(error.to_string().contains("cluster leave"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_owns_when_it_is_asked_for_and_no_call_is_lost() {
    let stream = MemoryStream::default();
    let nodes = three(&stream).await;
    let first = owner(&nodes, &[0, 1, 2]).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let engine = nodes[first].engine.clone();
            tokio::spawn(async move { engine.hold(option, &common::user(n), Wish::best(1), None, None).await })
        })
        .collect();
    nodes[first].engine.step_down();
    let mut held = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => held += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(held, 50, "whoever comes too late for one owner is sent to the next one");
    let second = until("another one owns", || {
        (0..3).find(|index| *index != first && nodes[*index].engine.membership().unwrap().owns)
    })
    .await;
    let seen = nodes[second].engine.option(option).await.unwrap();
    assert_eq!(seen.counts.held, held);
    nodes[second].engine.hold(option, &name("anna"), Wish::best(1), None, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_answers_every_call() {
    let stream = MemoryStream::default();
    let nodes = three(&stream).await;
    let first = owner(&nodes, &[0, 1, 2]).await;
    let edges: Vec<_> = (0..3).filter(|index| *index != first).map(|index| &nodes[index].engine).collect();
    let option = common::on_sale(edges[0], 10, 20).await;
    let anna = name("anna");
    common::charge(edges[1], &anna, 1_000).await;
    let key = || common::key(&anna, "hold", "once");
    let held = edges[0].hold(option, &anna, common::best(3), None, key()).await.unwrap();
    let again = edges[1].hold(option, &anna, common::best(3), None, key()).await.unwrap();
    assert!(again.replayed && !held.replayed);
    assert_eq!(again.value.id, held.value.id, "the same key is the same call, wherever it comes");
    let paid = edges[1].pay(&anna, held.value.id, None).await.unwrap().value;
    for node in &nodes {
        let seen = node.engine.payment(&Caller::User(anna.clone()), paid.id).await.unwrap();
        assert_eq!(seen.status, PaymentStatus::Completed);
        let wallet = node.engine.wallet(&anna).await.unwrap();
        assert_eq!(Some(wallet.balance), paid.balance, "what is somebody's is known everywhere at once");
        let other = node.engine.payment(&Caller::User(name("ben")), paid.id).await.unwrap_err();
        assert!(matches!(other, Error::Rejected(Rejection::NotFound)), "{other:?}");
    }
    let refused = edges[0].hold(option, &anna, common::seats(&["nowhere"]), None, None).await.unwrap_err();
    assert!(matches!(refused, Error::UnknownSeats(_)), "{refused:?}");
    for node in nodes {
        node.engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_owns_nothing_is_taken_and_it_is_said_so() {
    let stream = MemoryStream::default();
    let alone = node(&stream, "ada").await;
    let nodes = [alone];
    owner(&nodes, &[0]).await;
    let option = common::on_sale(&nodes[0].engine, 2, 2).await;
    stream.stall();
    // An owner that cannot know whether it still is one says nothing, not even what it knows well.
    let engine = nodes[0].engine.clone();
    let asked = tokio::spawn(async move { engine.wallet(&name("anna")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!asked.is_finished());
    stream.go_on();
    asked.await.unwrap().unwrap();
    common::hold(&nodes[0].engine, option, &name("anna"), &["1-1"]).await;
}

/// What the whole cluster must agree on.
async fn state(engine: &Engine, option: OptionId) -> (u64, u64, Lsn) {
    let counts = engine.option(option).await.unwrap().counts;
    (counts.held, counts.sold, engine.durable_lsn())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_its_own_becomes_the_first_node_and_others_copy_what_it_has() {
    let (stream, dir) = (MemoryStream::default(), tempfile::tempdir().unwrap());
    let alone = Engine::open(config(&dir)).await.unwrap();
    let option = common::on_sale(&alone, 10, 20).await;
    for n in 0..20 {
        common::buy(&alone, option, &common::user(n), &[&format!("{}-{}", n / 10 + 1, n % 10 + 1)]).await;
    }
    alone.shutdown().await.unwrap();
    let cable = Cable::default();
    let refused = Engine::open_in_cluster(config(&dir), stream.joining("ada", &cable)).await.err().unwrap();
    assert!(refused.to_string().contains("--found"), "{refused}");
    let joining = Joining { founds: true, ..stream.joining("ada", &cable) };
    let engine = Engine::open_in_cluster(config(&dir), joining).await.unwrap();
    let mut nodes = vec![Node { engine, cable, dir }];
    owner(&nodes, &[0]).await;
    common::hold(&nodes[0].engine, option, &name("anna"), &["5-5"]).await;
    nodes.push(node(&stream, "ben").await);
    owner(&nodes, &[0, 1]).await;
    let expected = state(&nodes[0].engine, option).await;
    until("it has it all", || (nodes[1].engine.durable_lsn() == expected.2).then_some(())).await;
    assert_eq!(state(&nodes[1].engine, option).await, expected);
    assert_eq!(expected.1, 20);
    // The journals are the same, and the copy is whole.
    let (first, second) = (config(&nodes[0].dir), config(&nodes[1].dir));
    for node in &nodes {
        node.engine.shutdown().await.unwrap();
    }
    let plans = |dir: &TempDir| std::fs::read_dir(config(dir).data_dir.join("plans")).map_or(0, Iterator::count);
    assert_eq!(plans(&nodes[1].dir), 1, "the plan came with the journal");
    let [first, second] = [first, second].map(|config| verify(&config).unwrap());
    assert!(first.ok && second.ok, "{first}\n{second}");
    assert_eq!((first.events, first.last_lsn), (second.events, second.last_lsn));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_so_long_that_the_log_has_forgotten_copies_what_it_lacks() {
    let stream = MemoryStream::default();
    let mut nodes = three(&stream).await;
    owner(&nodes, &[0, 1, 2]).await;
    let option = common::on_sale(&nodes[0].engine, 10, 20).await;
    let gone = nodes.remove(2);
    gone.engine.shutdown().await.unwrap();
    let first = owner(&nodes, &[0, 1]).await;
    for n in 0..30 {
        let best = common::best(1);
        nodes[first].engine.hold(option, &common::user(n), best, None, None).await.unwrap();
    }
    let last = nodes[first].engine.durable_lsn();
    until("both have it", || nodes.iter().all(|node| node.engine.durable_lsn() == last).then_some(())).await;
    // What is on the disks of the others.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    stream.purge(Sequence(stream.messages().len() as u64));
    let back = Node::open(&stream, "eva", gone.dir).await;
    until("it has caught up", || (back.engine.durable_lsn() == last).then_some(())).await;
    assert_eq!(state(&back.engine, option).await, state(&nodes[first].engine, option).await);
    common::hold(&back.engine, option, &name("anna"), &["9-9"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_read_on_since_the_log_has_forgotten_ends_and_says_so() {
    let stream = MemoryStream::default();
    let nodes = three(&stream).await;
    let first = owner(&nodes, &[0, 1, 2]).await;
    let others: Vec<_> = (0..3).filter(|index| *index != first).collect();
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    nodes[others[0]].cable.cut();
    for n in 0..5 {
        common::hold(&nodes[first].engine, option, &common::user(n), &[&format!("1-{}", n + 1)]).await;
    }
    stream.purge(Sequence(stream.messages().len() as u64));
    nodes[others[0]].cable.mend();
    let behind = &nodes[others[0]].engine;
    let why = until("it ends", || behind.failed()).await;
    assert!(why.contains("start it again") && !behind.health().ready, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_when_their_owner_is_told_to_stop_are_done_by_it_or_by_the_next_one() {
    let stream = MemoryStream::default();
    let nodes = three(&stream).await;
    let first = owner(&nodes, &[0, 1, 2]).await;
    let option = common::on_sale(&nodes[first].engine, 10, 20).await;
    let edge = nodes[(first + 1) % 3].engine.clone();
    let calls = tokio::spawn(async move {
        let mut told = Vec::new();
        for n in 0..200 {
            told.push(edge.hold(option, &common::user(n), common::best(1), None, None).await.map(|_| ()));
        }
        told
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    nodes[first].engine.shutdown().await.unwrap();
    let told = calls.await.unwrap();
    assert!(told.iter().all(Result::is_ok), "{:?}", told.iter().find(|told| told.is_err()));
    let counts = nodes[(first + 1) % 3].engine.option(option).await.unwrap().counts;
    assert_eq!(counts.held, 200);
}

/// What any node is given the owner decides by, the others know, and so does who owns next.
#[tokio::test(flavor = "multi_thread")]
async fn another_plan_is_known_to_every_node_and_to_the_next_owner() {
    let stream = MemoryStream::default();
    let nodes = three(&stream).await;
    let first = owner(&nodes, &[0, 1, 2]).await;
    let edge = &nodes[(first + 1) % 3].engine;
    let option = common::on_sale(edge, 1, 4).await;
    let (anna, boss) = (name("anna"), name("boss"));
    edge.hold(option, &anna, common::seats(&["1-1"]), None, None).await.unwrap();
    let new = |seats| NewSeatingPlan { seating_plan: common::plan(1, seats), ..NewSeatingPlan::default() };
    let key = || common::key(&boss, "plan", "once");
    let changed = edge.replace_plan(option, new(6), &boss, key()).await.unwrap();
    assert_eq!((changed.value.counts.available, changed.replayed), (5, false));
    assert!(edge.replace_plan(option, new(6), &boss, key()).await.unwrap().replayed);
    let held = edge.hold(option, &anna, common::seats(&["1-6"]), None, None).await.unwrap().value;
    for node in &nodes {
        let seen = node.engine.reservation(&Caller::Admin, held.id).await.unwrap();
        assert_eq!(seen.seats().map(|seat| seat.id.to_owned()).collect::<Vec<_>>(), ["1-6"]);
        assert_eq!(node.engine.plan(option).await.unwrap().plan.seat_index("1-6"), Some(5));
    }
    let refused = edge.replace_plan(option, new(4), &boss, None).await.unwrap_err();
    assert!(matches!(&refused, Error::SeatsInUse { seats, in_use: 1 } if seats == &["1-6"]), "{refused:?}");
    nodes[first].engine.step_down();
    let second = until("another one owns", || {
        (0..3).find(|index| *index != first && nodes[*index].engine.membership().unwrap().owns)
    })
    .await;
    let next = &nodes[second].engine;
    next.release(&Caller::Admin, held.id).await.unwrap();
    next.replace_plan(option, new(4), &boss, None).await.unwrap();
    let seats = nodes[first].engine.hold(option, &anna, common::seats(&["1-6"]), None, None).await.unwrap_err();
    assert!(matches!(seats, Error::UnknownSeats(_)), "{seats:?}");
    for node in nodes {
        node.engine.shutdown().await.unwrap();
    }
}
