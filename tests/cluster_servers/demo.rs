//! The cluster of `scripts/cluster.sh`, as somebody tries it who has read the README.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::callers::id;
use crate::faults::{COUNT_VARIABLE, KINDS_VARIABLE};
use crate::machines::{NAMES, server};
use crate::servers::{self, eventually, get, port};
use crate::{ALONE, run_name};

const PATIENCE: Duration = Duration::from_secs(60);
/// Where the script listens, from its base on.
const PORTS: [u16; 5] = [0, 101, 111, 121, 131];

/// The script, which ends with what it has started when this is dropped.
struct Demo {
    script: Child,
    /// The processes of the nodes.
    nodes: Vec<Pid>,
    base: u16,
    option: String,
    buyer: String,
}

impl Demo {
    fn start(dir: &Path) -> Self {
        let base = free_ports();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "bash", "scripts/cluster.sh"]).arg(dir);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(Stdio::piped());
        command.env("SERVER", server()).env("NATS_SERVER", servers::program()).env("PORT_BASE", base.to_string());
        // Those are no settings of a server.
        command.env_remove(COUNT_VARIABLE).env_remove(KINDS_VARIABLE);
        let mut script = command.spawn().unwrap();
        let lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let mut demo = Self { script, nodes: Vec::new(), base, option: String::new(), buyer: String::new() };
        for line in lines.map(|line| line.unwrap()) {
            if let Some((_, process)) = line.split_once(": process ") {
                let process = process.split(',').next().unwrap().parse().unwrap();
                demo.nodes.push(Pid::from_raw(process).unwrap());
            } else if let Some((_, option)) = line.split_once("/v1/options/").filter(|_| line.starts_with("demo: ")) {
                demo.option = option.split(' ').next().unwrap().to_owned();
            } else if let Some((_, token)) = line.split_once("1 day): ").filter(|_| line.starts_with("buyer token")) {
                demo.buyer = token.to_owned();
            } else if line.starts_with("kill -9 ") {
                return demo;
            }
        }
        panic!("the script ended: {:?}", demo.script.wait());
    }

    fn port(&self, node: usize) -> u16 {
        self.base + node as u16
    }

    /// What a node says of itself, if it is ready.
    fn health(&self, node: usize) -> Option<Value> {
        let health: Value = serde_json::from_str(&get(("127.0.0.1", self.port(node)), "/readyz")?).ok()?;
        (health["ready"] == true).then_some(health)
    }

    fn owner(&self) -> Option<usize> {
        (0..NAMES.len()).find(|&node| self.health(node).is_some_and(|health| health["role"] == "owner"))
    }

    /// Holds a seat through a node, and finds them there.
    async fn hold(&self, http: &Client, node: usize) {
        let base = format!("http://127.0.0.1:{}/v1", self.port(node));
        let hold = http.post(format!("{base}/options/{}/reservations", self.option)).bearer_auth(&self.buyer);
        let held = hold.json(&json!({"best_available": {"count": 1}})).send().await.unwrap();
        let (status, held): (_, Value) = (held.status(), held.json().await.unwrap());
        assert_eq!(status, 201, "{}: {held}", NAMES[node]);
        let found =
            http.get(format!("{base}/reservations/{}", id(&held))).bearer_auth(&self.buyer).send().await.unwrap();
        let found: Value = found.json().await.unwrap();
        assert_eq!(found["seats"], held["seats"]);
    }

    fn end(mut self) {
        kill_process(Pid::from_child(&self.script), Signal::TERM).unwrap();
        eventually(PATIENCE, "the script ends", || self.script.try_wait().unwrap().is_some());
        for node in &self.nodes {
            assert!(test_kill_process(*node).is_err(), "{node:?} runs on");
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(None) = self.script.try_wait() {
            let _ = kill_process(Pid::from_child(&self.script), Signal::TERM);
            let _ = self.script.wait();
        }
    }
}

/// A base of ports of which none is taken.
fn free_ports() -> u16 {
    let is_free = |base: u16| {
        let mut ports = PORTS.iter().flat_map(|offset| (0..=3).map(move |n| base + offset + n));
        ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    (0..100).map(|_| port()).find(|base| is_free(*base)).expect("free ports")
}

#[test]
fn the_demonstration_goes_on_when_its_owner_is_killed() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // It fails if that has been said before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::Builder::new().prefix(&run_name("demo-")).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let demo = Demo::start(dir.path());
    let (runtime, http) = (Runtime::new().unwrap(), Client::new());
    for (node, name) in NAMES.iter().enumerate() {
        eventually(PATIENCE, &format!("{name} is ready"), || demo.health(node).is_some());
        runtime.block_on(demo.hold(&http, node));
    }
    let owner = demo.owner().expect("a node owns");
    kill_process(demo.nodes[owner], Signal::KILL).unwrap();
    eventually(PATIENCE, "another node owns", || demo.owner().is_some_and(|other| other != owner));
    for node in (0..NAMES.len()).filter(|node| *node != owner) {
        eventually(PATIENCE, &format!("{} is ready", NAMES[node]), || demo.health(node).is_some());
        runtime.block_on(demo.hold(&http, node));
    }
    demo.end();
}
