//! One machine, whose disk dies now and then.

use std::sync::Arc;
use std::time::Instant;

use boxoffice::testing::failing_disk::FailingDisk;
use boxoffice::testing::random::{Random, seed};
use boxoffice::testing::sim_disk::Failure;
use boxoffice::{ConcertId, Engine, RoomSettings};

use super::common::{config, new_concert, new_option};
use super::scene::{Reads, Scene};
use super::{CALLERS, SEATS, histories};

/// In one of so many histories the engine dies, is opened again, and is called again.
const CRASHES: u64 = 8;

/// An engine whose disk can be told to die.
struct House {
    config: boxoffice::Config,
    disk: FailingDisk,
    engine: Engine,
    concert: ConcertId,
    crashes: u64,
    unknown: usize,
}

impl House {
    async fn open(dir: &std::path::Path) -> Self {
        let mut config = config(dir);
        config.limits.user_open_holds = 0;
        let disk = FailingDisk::default();
        let engine = Engine::open_on(config.clone(), disk.clone()).await.unwrap();
        let concert =
            engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value.id;
        Self { config, disk, engine, concert, crashes: 0, unknown: 0 }
    }

    /// One history, on an option and a wallet of its own; whether it is linearizable, and if not, what it was.
    async fn history(&mut self, seed: u64, reads: Reads) -> Result<usize, String> {
        let mut dice = Random(seed);
        let option = new_option(&self.engine, 1, SEATS);
        let option = self.engine.add_option(self.concert, option, None).await.unwrap().value.id;
        let scene = Arc::new(Scene::new(option, reads));
        if dice.below(CRASHES) == 0 && reads == Reads::Engine {
            self.disk.fail(dice.below(25), Failure::Halt);
        }
        self.unknown += scene.run(std::slice::from_ref(&self.engine), 0, &mut dice).await;
        if self.disk.heal().is_some() {
            self.crashes += 1;
            // It says that it has failed.
            let _ = self.engine.shutdown().await;
            self.engine = Engine::open_on(self.config.clone(), self.disk.clone()).await.unwrap();
            self.unknown += scene.run(std::slice::from_ref(&self.engine), CALLERS, &mut dice).await;
        }
        scene.verdict().map_err(|why| format!("BOXOFFICE_TEST_SEED={seed}: {why}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn histories_of_concurrent_callers_are_linearizable() {
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let (histories, begun) = (histories(300), Instant::now());
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::open(dir.path()).await;
    let mut calls = 0;
    for n in 0..histories {
        calls += house.history(seed.wrapping_add(n), Reads::Engine).await.unwrap_or_else(|why| panic!("{why}"));
    }
    house.engine.shutdown().await.unwrap();
    let House { crashes, unknown, .. } = house;
    let seconds = begun.elapsed().as_secs();
    println!("{histories} histories, {calls} calls, {crashes} crashes, {unknown} outcomes unknown, {seconds} s");
    assert!(crashes > histories / (8 * CRASHES) && unknown as u64 > crashes, "too little went wrong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_that_is_stale_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::open(dir.path()).await;
    let mut noticed = 0;
    for n in 0..40 {
        noticed += usize::from(house.history(n, Reads::Stale).await.is_err());
    }
    house.engine.shutdown().await.unwrap();
    assert!(noticed > 4, "{noticed} of 40 histories");
}
