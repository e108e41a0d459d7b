//! Three machines, each with a NATS server and the real `boxoffice-server` on it, which can be killed, stopped, told to end, and
//! cut off.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::Settings;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::network::{Cable, Network, is_stale};
use crate::run_name;
use crate::servers::{self, eventually, get, leads, port};

/// How many there are, and their names.
pub const NAMES: [&str; 3] = ["ada", "ben", "eva"];
/// How long it may take until all is well again.
pub const PATIENCE: Duration = Duration::from_secs(90);

const STREAM: &str = "boxoffice";
const PREFIX: &str = "cluster-servers-";
/// How long the tokens of callers are good for.
const DAY: Duration = Duration::from_secs(86_400);

/// The server that is tested.
pub fn server() -> PathBuf {
    std::env::var_os("SERVER").map_or_else(|| env!("CARGO_BIN_EXE_boxoffice-server").into(), Into::into)
}

/// A program on a machine.
struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    fn start(&mut self, network: &Network, machine: usize) {
        assert!(self.child.is_none(), "{} runs already", self.log.display());
        let mut command = network.command(machine, &self.program);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        command.args(&self.arguments).stderr(Stdio::from(log));
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Tells it to end, and waits until it has.
    fn end(&mut self, what: &str) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("it runs");
        let mut status = None;
        eventually(PATIENCE, &format!("{what} ends"), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        // NATS says 1 of a SIGTERM that it has obeyed.
        let status = status.unwrap();
        assert!(what.starts_with("NATS") || status.success(), "{what}: {status}");
    }

    /// That it has not ended by itself.
    fn check(&mut self, what: &str) {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().unwrap()
        {
            panic!("{what} ended by itself: {status}\n{}", self.last_lines());
        }
    }

    fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("boxoffice::access")).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

struct Machine {
    nats: Process,
    node: Process,
    /// Where the NATS server listens for clients, and tells of itself.
    client: SocketAddr,
    monitor: SocketAddr,
    /// Where the node listens.
    address: SocketAddr,
    config: PathBuf,
    data: PathBuf,
}

/// How a node says that it is.
#[derive(Debug, Clone)]
pub struct Health {
    pub ready: bool,
    pub owns: bool,
    pub epoch: u64,
    pub lag: u64,
}

/// What a NATS server, and a node, are in what is printed.
#[derive(Clone, Copy)]
pub enum Part {
    Nats,
    Node,
}

pub struct Cluster {
    machines: Vec<Machine>,
    network: Network,
    dir: Option<TempDir>,
    settings: Settings,
}

impl Cluster {
    /// Starts all of it, and waits until it is well.
    pub fn start() -> Self {
        remove_stale();
        let network = Network::new(NAMES.len());
        let prefix = format!("{}-", run_name(PREFIX));
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::write(dir.path().join("auth.secret"), "a secret of thirty-two bytes, at least").unwrap();
        fs::write(dir.path().join("cluster.secret"), "another one, of thirty-two bytes, at least").unwrap();
        let ports = Ports::new(&network);
        let machines = (0..NAMES.len()).map(|index| machine(index, &network, &ports, dir.path())).collect::<Vec<_>>();
        let settings = Settings::load(Some(&machines[0].config), [], &[]).unwrap();
        let mut cluster = Self { machines, network, dir: Some(dir), settings };
        for index in 0..NAMES.len() {
            cluster.start_nats(index);
        }
        cluster.wait_for_nats();
        for index in 0..NAMES.len() {
            cluster.start_node(index);
        }
        cluster.wait_until_well();
        cluster
    }

    /// Why no cable can be pulled out, if none can.
    pub fn lacks_cables(&self) -> Option<&str> {
        self.network.lacks_cables()
    }

    /// Where the nodes answer.
    pub fn urls(&self) -> Vec<String> {
        self.machines.iter().map(|machine| format!("http://{}", machine.address)).collect()
    }

    pub fn token(&self, user: &str, role: Option<Role>) -> String {
        auth::issue(&self.settings, &user.parse().unwrap(), role, DAY).unwrap()
    }

    pub fn data_dirs(&self) -> Vec<PathBuf> {
        self.machines.iter().map(|machine| machine.data.clone()).collect()
    }

    pub fn start_nats(&mut self, index: usize) {
        self.machines[index].nats.start(&self.network, index);
    }

    pub fn start_node(&mut self, index: usize) {
        self.machines[index].node.start(&self.network, index);
    }

    pub fn kill(&mut self, index: usize, part: Part) {
        self.part(index, part).kill();
    }

    pub fn end(&mut self, index: usize, part: Part) {
        let what = if matches!(part, Part::Nats) { "NATS server" } else { "node" };
        self.part(index, part).end(&format!("{what} {}", NAMES[index]));
    }

    /// It stands still, with all its connections open.
    pub fn stop(&mut self, index: usize, part: Part) {
        self.part(index, part).signal(Signal::STOP);
    }

    pub fn go_on(&mut self, index: usize, part: Part) {
        self.part(index, part).signal(Signal::CONT);
    }

    /// Pulls a cable out, or puts it back in.
    pub fn cable(&self, index: usize, cable: Cable, is_in: bool) {
        self.network.set(index, cable, is_in);
    }

    fn part(&mut self, index: usize, part: Part) -> &mut Process {
        let machine = &mut self.machines[index];
        if matches!(part, Part::Nats) { &mut machine.nats } else { &mut machine.node }
    }

    /// What a node says of itself, if it says anything.
    pub fn health(&self, index: usize) -> Option<Health> {
        let body: Value = serde_json::from_str(&get(self.machines[index].address, "/readyz")?).ok()?;
        Some(Health {
            ready: body["ready"].as_bool()?,
            owns: body["role"] == "owner",
            epoch: body["epoch"].as_u64().unwrap_or(0),
            lag: body["lag"].as_u64().unwrap_or(u64::MAX),
        })
    }

    /// The node that owns the log.
    pub fn owner(&self) -> usize {
        let mut owner = None;
        eventually(PATIENCE, "a node owns", || {
            let healths = (0..NAMES.len()).filter_map(|index| Some((index, self.health(index)?)));
            owner = healths.filter(|(_, health)| health.owns).max_by_key(|(_, health)| health.epoch);
            owner.is_some()
        });
        owner.unwrap().0
    }

    /// The machine whose NATS server leads the stream.
    pub fn leader(&self) -> usize {
        let mut leader = None;
        eventually(PATIENCE, "the stream has a leader", || {
            leader = (0..NAMES.len()).find(|&index| leads(self.machines[index].monitor, NAMES[index], STREAM));
            leader.is_some()
        });
        leader.unwrap()
    }

    /// Lets the NATS server of that machine lead the stream.
    pub fn lead(&self, index: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body = serde_json::json!({"placement": {"preferred": NAMES[index]}}).to_string();
        eventually(PATIENCE, "the stream's leader steps down", || {
            if self.leader() == index {
                return true;
            }
            let client = self.machines[index].client.to_string();
            runtime.block_on(async {
                let client = async_nats::connect(client).await.unwrap();
                let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}");
                // Whether it was done is looked at.
                drop(client.request(subject, body.clone().into()).await);
            });
            false
        });
    }

    /// As an operator does: `boxoffice-server cluster step-down`.
    pub fn step_down(&self) {
        let machine = &self.machines[0];
        let mut command = self.network.command(0, &server());
        command.args(["cluster", "step-down", "--config"]).arg(&machine.config).stdout(Stdio::piped());
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn wait_for_nats(&self) {
        for (machine, name) in self.machines.iter().zip(NAMES) {
            eventually(PATIENCE, &format!("the NATS server of {name} is well"), || {
                get(machine.monitor, "/healthz").is_some_and(|body| body.contains("\"ok\""))
            });
        }
    }

    /// Waits until all NATS servers and all nodes say that they are well, and have taken in all there is.
    pub fn wait_until_well(&mut self) {
        self.wait_for_nats();
        for (index, name) in NAMES.iter().enumerate() {
            eventually(PATIENCE, &format!("{name} is well"), || {
                self.machines[index].node.check(name);
                self.health(index).is_some_and(|health| health.ready && health.lag == 0)
            });
        }
    }

    /// Ends all nodes, one after the other, and then the NATS servers. What is left is their directories.
    pub fn end_all(&mut self) {
        for part in [Part::Node, Part::Nats] {
            for index in 0..NAMES.len() {
                self.end(index, part);
            }
        }
    }

    /// What `boxoffice-server verify` says of each directory.
    pub fn verify(&self) -> Vec<String> {
        let verify = |machine: &Machine| {
            let mut command = Command::new(server());
            // What these tests are told by variables is no setting of a server.
            let output = command.env_clear().args(["verify", "--config"]).arg(&machine.config).output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
            text(&output.stdout)
        };
        self.machines.iter().map(verify).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (machine, name) in self.machines.iter_mut().zip(NAMES) {
            for (what, process) in [("NATS server", &mut machine.nats), ("node", &mut machine.node)] {
                process.kill();
                if std::thread::panicking() {
                    eprintln!("{what} of {name}:\n{}\n", process.last_lines());
                }
            }
        }
        if std::thread::panicking() {
            // The next run removes it.
            eprintln!("all of it stays in {} until the next run", self.dir.take().unwrap().keep().display());
        }
    }
}

/// Where everything listens.
struct Ports {
    addresses: Vec<[IpAddr; 2]>,
    ports: Vec<[u16; 4]>,
}

impl Ports {
    /// In a namespace always the same ones.
    fn new(network: &Network) -> Self {
        let has_cables = network.lacks_cables().is_none();
        let ports = |_| if has_cables { [4222, 8222, 6222, 8080] } else { [port(), port(), port(), port()] };
        let addresses = |index| [Cable::Inner, Cable::Outer].map(|cable| network.address(index, cable));
        let all = 0..NAMES.len();
        Self { addresses: all.clone().map(addresses).collect(), ports: all.map(ports).collect() }
    }

    /// All addresses of a kind, as a machine knows the others.
    fn all(&self, scheme: &str, kind: usize) -> String {
        let each = self.addresses.iter().zip(&self.ports);
        let each = each.map(|([inner, _], ports)| format!("\"{scheme}://{inner}:{}\"", ports[kind]));
        each.collect::<Vec<_>>().join(", ")
    }
}

fn machine(index: usize, network: &Network, ports: &Ports, dir: &Path) -> Machine {
    let (name, [inner, outer]) = (NAMES[index], ports.addresses[index]);
    let [client, monitor, route, http] = ports.ports[index];
    let any = if network.lacks_cables().is_none() { "0.0.0.0" } else { "127.0.0.1" };
    let [nats_config, nats_log, nats_store, node_config, node_log, data] =
        ["nats.conf", "nats.log", "nats", "node.toml", "node.log", "data"]
            .map(|what| dir.join(format!("{name}-{what}")));
    let routes = ports.all("nats", 2);
    let text = format!(
        "server_name: {name}\nlisten: \"{any}:{client}\"\nhttp: \"{any}:{monitor}\"\n\
         jetstream {{ store_dir: {nats_store:?}, max_mem: 64M, max_file: 8G, sync_interval: always }}\n\
         cluster {{ name: test, listen: \"{inner}:{route}\", routes: [{routes}] }}\n"
    );
    fs::write(&nats_config, text).unwrap();
    let text = format!(
        "data_dir = {data:?}\n\
         [http]\nlisten = \"{any}:{http}\"\nops_listen = \"off\"\n\
         [auth]\nsecret_file = {:?}\n\
         [limits]\nuser_requests_per_second = 0\nuser_open_holds = 0\nuser_idempotency_keys = 10000000\n\
         [storage]\nmin_free_bytes = 0\n\
         [cluster]\nservers = [{}]\nmonitor = [{}]\nnode = \"{name}\"\nsecret_file = {:?}\n",
        dir.join("auth.secret"),
        ports.all("nats", 0),
        ports.all("http", 1),
        dir.join("cluster.secret"),
    );
    fs::write(&node_config, text).unwrap();
    let process = |program: PathBuf, config: &Path, log: PathBuf| {
        let arguments = vec!["--config".to_owned(), config.to_str().unwrap().to_owned()];
        Process { program, arguments, log, child: None }
    };
    Machine {
        nats: process(servers::program().to_owned(), &nats_config, nats_log),
        node: process(server(), &node_config, node_log),
        client: (outer, client).into(),
        monitor: (outer, monitor).into(),
        address: (outer, http).into(),
        config: node_config,
        data,
    }
}

/// Removes directories of runs that were ended before they could.
fn remove_stale() {
    for entry in fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten() {
        if is_stale(&entry.file_name().to_string_lossy(), PREFIX) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
