//! Several engines in one process on one log, which is in memory; the rules are those of a real one.

use std::time::{Duration, Instant};

use boxoffice::testing::cluster::{Cable, MemoryStream};
use boxoffice::{Config, Engine};
use tempfile::TempDir;

use super::PATIENCE;

/// One of them, and its way to the log.
pub struct Node {
    pub engine: Engine,
    pub cable: Cable,
    pub dir: TempDir,
}

impl Node {
    /// A node of this name in `dir`.
    pub async fn open(stream: &MemoryStream, name: &str, dir: TempDir) -> Self {
        let cable = Cable::default();
        let engine = Engine::open_in_cluster(config(&dir), stream.joining(name, &cable)).await.unwrap();
        Self { engine, cable, dir }
    }
}

/// The configuration of a node in `dir`.
pub fn config(dir: &TempDir) -> Config {
    super::config(&dir.path().join("data"))
}

/// Three nodes on nothing.
pub async fn three(stream: &MemoryStream) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in ["ada", "ben", "eva"] {
        nodes.push(Node::open(stream, name, tempfile::tempdir().unwrap()).await);
    }
    nodes
}

/// What `look` sees, once it sees something.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The one of `among` that owns, once there is one that all of them know.
pub async fn owner(nodes: &[Node], among: &[usize]) -> usize {
    until("one owns, and all know it", || {
        let owner = *among.iter().find(|index| nodes[**index].engine.membership().unwrap().owns)?;
        let known = nodes[owner].engine.membership().unwrap();
        among
            .iter()
            .all(|index| {
                let seen = nodes[*index].engine.membership().unwrap();
                (seen.epoch, &seen.owner) == (known.epoch, &known.owner)
            })
            .then_some(owner)
    })
    .await
}

/// The one that owns, once all of them know it.
pub async fn owner_of_all(nodes: &[Node]) -> usize {
    owner(nodes, &(0..nodes.len()).collect::<Vec<_>>()).await
}
