//! A node whose reads are held up when it comes to own.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::cluster::{Beat, Heard};
use crate::testing::cluster::{Cable, MemoryStream};

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_not_taken_in_all_yet_gives_signs_of_life_before_it_decides() {
    let stream = MemoryStream::default();
    let (cable, mut nodes) = (Cable::default(), Vec::new());
    for (name, cable) in [("ada", &cable), ("ben", &Cable::default())] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
        nodes.push((Engine::open_in_cluster(config, stream.joining(name, cable)).await.unwrap(), dir));
        let (first, _) = &nodes[0];
        until("the first one owns", || first.membership().unwrap().owns).await;
    }
    let [(ada, _first), (ben, _second)] = <[_; 2]>::try_from(nodes).map_err(|_| "two").unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let counts = heard.clone();
    let joining = stream.joining("ida", &Cable::default());
    let hear = move |heard: Heard| {
        if let Heard::Beat(bytes) = heard
            && Beat::decode(&bytes).is_some_and(|beat| beat.node == "ben" && beat.owns)
        {
            counts.fetch_add(1, Ordering::Relaxed);
        }
    };
    let _ida = joining.connect.connect(&tokio::runtime::Handle::current(), 1, Arc::new(hear)).unwrap();
    until("they know each other", || ben.membership().unwrap().owner.is_some()).await;
    let held_up = HeldUp::new(&ben);
    ada.charge(&anna(), Points::new(1).unwrap(), &anna(), None).await.unwrap();
    until("it is there", || ben.durable_lsn() == ada.durable_lsn()).await;
    cable.cut();
    until("it owns, and says so again and again", || heard.load(Ordering::Relaxed) > 20).await;
    assert!(!ben.membership().unwrap().owns && ben.0.node.replica.applied() < ben.durable_lsn(), "it is behind");
    drop(held_up);
    until("it decides", || ben.membership().unwrap().owns).await;
    assert_eq!(ben.wallet(&anna()).await.unwrap().balance.get(), 1);
}

/// Two nodes, of which the first owns.
async fn two() -> [(Engine, tempfile::TempDir); 2] {
    let stream = MemoryStream::default();
    let mut nodes = Vec::new();
    for name in ["ada", "ben"] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
        nodes.push((Engine::open_in_cluster(config, stream.joining(name, &Cable::default())).await.unwrap(), dir));
        let (first, _) = &nodes[0];
        until("the first one owns", || first.membership().unwrap().owns).await;
    }
    let nodes = <[_; 2]>::try_from(nodes).map_err(|_| "two").unwrap();
    until("they know each other", || nodes[1].0.membership().unwrap().owner.is_some()).await;
    nodes
}

/// Lets `from` hand over to `to`.
async fn hand_over(from: &Engine, to: &Engine) {
    until("it is handed over", || {
        from.step_down();
        to.membership().unwrap().owns
    })
    .await;
    until("that is known", || !from.membership().unwrap().owns).await;
}

/// Another one has decided in between.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_in_an_earlier_term_is_not_told_in_a_later_one() {
    let [(ada, _first), (ben, _second)] = two().await;
    let asked = ada.0.moment();
    let refused = || Error::from(Rejection::NotFound);
    assert!(matches!(ada.0.sure(refused(), asked.clone()).await, Error::Rejected(Rejection::NotFound)));
    hand_over(&ada, &ben).await;
    hand_over(&ben, &ada).await;
    ada.charge(&anna(), Points::new(1).unwrap(), &anna(), None).await.unwrap();
    let told = ada.0.sure(refused(), asked).await;
    assert!(matches!(told, Error::NoOwner), "{told:?}");
    let asked = ada.0.moment();
    assert!(matches!(ada.0.sure(refused(), asked).await, Error::Rejected(Rejection::NotFound)));
}
