//! Three nodes, called through each of them, while another one comes to own the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boxoffice::testing::cluster::MemoryStream;
use boxoffice::testing::random::{Random, seed};
use boxoffice::{ConcertId, Engine, RoomSettings};

use super::common::nodes::{Node, owner, three, until};
use super::common::{new_concert, new_option};
use super::scene::{Reads, Scene};
use super::{CALLERS, SEATS, histories};

/// What befalls the owner of the log.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Nothing comes through to it, nor from it, until another one owns.
    CutOff,
    /// It hands over.
    StepsDown,
    /// The log takes nothing for a while.
    Stalled,
}

struct Houses {
    stream: MemoryStream,
    nodes: Vec<Node>,
    concert: ConcertId,
    failovers: u64,
    unknown: usize,
}

impl Houses {
    async fn open() -> Self {
        let stream = MemoryStream::default();
        let nodes = three(&stream).await;
        let first = owner(&nodes, &[0, 1, 2]).await;
        let concert = new_concert("Concert", RoomSettings::default());
        let concert = nodes[first].engine.create_concert(concert, None).await.unwrap().value.id;
        Self { stream, nodes, concert, failovers: 0, unknown: 0 }
    }

    async fn history(&mut self, seed: u64) -> Result<usize, String> {
        let mut dice = Random(seed);
        let first = owner(&self.nodes, &[0, 1, 2]).await;
        let option = new_option(&self.nodes[first].engine, 1, SEATS);
        let option = self.nodes[first].engine.add_option(self.concert, option, None).await.unwrap().value.id;
        let scene = Arc::new(Scene::new(option, Reads::OfOwner));
        let engines: Vec<Engine> = self.nodes.iter().map(|node| node.engine.clone()).collect();
        let trouble = [Trouble::CutOff, Trouble::StepsDown, Trouble::Stalled][dice.below(3) as usize];
        let after = Duration::from_micros(dice.below(4_000));
        let mut own = Random(dice.below(u64::MAX));
        let (unknown, owns) = tokio::join!(scene.run(&engines, 0, &mut dice), async {
            tokio::time::sleep(after).await;
            self.befalls(trouble, first, &mut own).await
        });
        self.failovers += u64::from(owns != first);
        self.unknown += unknown + scene.run(&engines, CALLERS, &mut dice).await;
        scene.verdict().map_err(|why| format!("BOXOFFICE_TEST_SEED={seed}: {trouble:?} after {after:?}: {why}"))
    }

    /// Who owns afterwards.
    async fn befalls(&self, trouble: Trouble, first: usize, dice: &mut Random) -> usize {
        let others: Vec<_> = (0..self.nodes.len()).filter(|index| *index != first).collect();
        match trouble {
            Trouble::CutOff => {
                self.nodes[first].cable.cut();
                owner(&self.nodes, &others).await;
                self.nodes[first].cable.mend();
            }
            Trouble::StepsDown => {
                let epoch = || self.nodes[first].engine.membership().unwrap().epoch;
                let before = epoch();
                // Whoever owns by now: on a busy machine that may be another one.
                let step_down = || self.nodes.iter().for_each(|node| node.engine.step_down());
                until("another term begins", || {
                    step_down();
                    (epoch() != before).then_some(())
                })
                .await;
            }
            Trouble::Stalled => {
                self.stream.stall();
                tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
                self.stream.go_on();
            }
        }
        owner(&self.nodes, &[0, 1, 2]).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn histories_of_callers_of_three_nodes_are_linearizable_across_failovers() {
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let (histories, begun) = (histories(50), Instant::now());
    let mut houses = Houses::open().await;
    let mut calls = 0;
    for n in 0..histories {
        calls += houses.history(seed.wrapping_add(n)).await.unwrap_or_else(|why| panic!("{why}"));
    }
    let Houses { nodes, failovers, unknown, .. } = houses;
    for node in nodes {
        node.engine.shutdown().await.unwrap();
    }
    let seconds = begun.elapsed().as_secs();
    println!("{histories} histories, {calls} calls, {failovers} failovers, {unknown} outcomes unknown, {seconds} s");
    assert!(failovers > histories / 3 && unknown as u64 > histories / 10, "too little went wrong");
}
