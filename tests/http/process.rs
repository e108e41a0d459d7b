//! The program itself: its command line, its configuration, its signals, its end.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use boxoffice::Engine;
use boxoffice::server::config::Settings;

use crate::harness::client;

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

const PROGRAM: &str = env!("CARGO_BIN_EXE_boxoffice-server");

fn program(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().current_dir(dir).stdin(Stdio::null());
    command
}

pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    program(dir).args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server, and what it printed up to the line that it is ready.
pub fn serve(dir: &Path, more: &[&str]) -> (Child, Vec<String>) {
    serve_with_log(dir, more, Stdio::null())
}

pub fn serve_with_log(dir: &Path, more: &[&str], log: Stdio) -> (Child, Vec<String>) {
    until_it_listens(serving(dir, more).stderr(log).spawn().unwrap())
}

/// A server that trusts the authorities in the file `trusted`, and no others.
pub fn serve_trusting(dir: &Path, more: &[&str], trusted: &Path) -> (Child, Vec<String>) {
    until_it_listens(serving(dir, more).env("SSL_CERT_FILE", trusted).spawn().unwrap())
}

/// A server with these variables in its environment.
pub fn serve_in(dir: &Path, environment: &[(&str, String)], log: Stdio) -> (Child, Vec<String>) {
    until_it_listens(serving(dir, &[]).envs(environment.iter().cloned()).stderr(log).spawn().unwrap())
}

/// A server that may have so many files open and no more.
pub fn serve_with_files(dir: &Path, more: &[&str], files: u64, log: Stdio) -> (Child, Vec<String>) {
    let mut command = Command::new("/bin/sh");
    command.env_clear().current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), PROGRAM]);
    command.args(["--listen", "127.0.0.1:0", "--ops-listen", "off", "--data", "data"]).args(more);
    until_it_listens(command.spawn().unwrap())
}

/// A server that has just been started, and may not have come far.
pub fn begin(dir: &Path, more: &[&str]) -> Child {
    serving(dir, more).spawn().unwrap()
}

/// The same at these addresses.
pub fn begin_at(dir: &Path, api: SocketAddr, ops: SocketAddr, more: &[&str]) -> Child {
    let mut command = program(dir);
    command.args(["--listen", &api.to_string(), "--ops-listen", &ops.to_string(), "--data", "data"]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn serving(dir: &Path, more: &[&str]) -> Command {
    let mut command = program(dir);
    command.args(["--listen", "127.0.0.1:0", "--ops-listen", "off", "--data", "data"]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn until_it_listens(mut child: Child) -> (Child, Vec<String>) {
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().starts_with("listening on ") {
            break;
        }
    }
    (child, lines)
}

pub fn terminate(mut child: Child) -> (Option<i32>, Duration) {
    let begun = Instant::now();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    (child.wait().unwrap().code(), begun.elapsed())
}

#[test]
fn wrong_settings_stop_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.toml"), "[http]\nworker = 1\n").unwrap();
    for (variable, value, arguments, message) in [
        ("BOXOFFICE_ACTORS_ARBITERS", "many", &["serve"][..], "actors.arbiters = many: must be a whole number"),
        (
            "BOXOFFICE_LIMITS_USER_OPEN_HOLDS",
            "-1",
            &[],
            "limits.user_open_holds = -1: must be a whole number, not less than 0\n",
        ),
        (
            "BOXOFFICE_HTTP_KEEP_ALIVE",
            "5",
            &[],
            "http.keep_alive = \"5\": must be a whole number and a unit (ms, s, m, h or d), such as \"10s\"\n",
        ),
        ("BOXOFFICE_JOURNAL_SEGMENT_BYTES", "5", &[], "journal.segment_bytes = 5: must be a whole number from 1048576"),
        ("BOXOFFICE_AUTH_SECRET", "hunter2", &[], "auth.secret = ***: must be at least 32 bytes"),
        ("BOXOFFICE_HTP_LISTEN", "x", &[], "unknown key BOXOFFICE_HTP_LISTEN"),
        ("X", "", &["--config", "bad.toml"], "bad.toml: unknown key http.worker"),
        ("X", "", &["--config", "none.toml"], "none.toml: No such file or directory (os error 2)\n"),
        ("X", "", &["--listen", "nowhere"], "http.listen = nowhere: must be an IP address and a port"),
        ("X", "", &["token", "--user", "ü"], "must be 1 to 255 ASCII characters"),
        ("X", "", &["token", "--user", "a", "--ttl", "soon"], "a whole number and a unit"),
        ("X", "", &["verify"], "data directory"),
    ] {
        let output = program(dir.path()).env(variable, value).args(arguments).output().unwrap();
        let complaint = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} {variable}={value}");
        assert!(complaint.contains(message) && !complaint.contains("hunter2"), "{complaint}");
    }
}

#[test]
fn it_starts_in_a_namespace_that_has_a_service_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let injected = [
        ("BOXOFFICE_SERVICE_HOST", "10.0.0.1"),
        ("BOXOFFICE_SERVICE_PORT", "8080"),
        ("BOXOFFICE_SERVICE_PORT_HTTP", "8080"),
        ("BOXOFFICE_PORT", "tcp://10.0.0.1:8080"),
        ("BOXOFFICE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("BOXOFFICE_NATS_SERVICE_HOST", "10.0.0.2"),
    ];
    let (server, lines) = until_it_listens(serving(dir.path(), &[]).envs(injected).spawn().unwrap());
    assert!(lines.last().unwrap().starts_with("listening on "), "{lines:?}");
    assert_eq!(terminate(server).0, Some(0));
}

#[tokio::test]
async fn it_serves_on_when_nobody_takes_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, lines) = serve_with_log(dir.path(), &[], Stdio::piped());
    drop(child.stderr.take());
    let address = lines.last().unwrap().strip_prefix("listening on ").unwrap();
    for _ in 0..3 {
        assert_eq!(client().get(format!("{address}/v1/concerts")).send().await.unwrap().status(), 200);
    }
    assert_eq!(terminate(child).0, Some(0));
}

#[test]
fn a_token_is_for_a_server_that_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let refused = run(dir.path(), &["token", "--data", "wrong", "--user", "anna"]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    let complaint = text(&refused.stderr);
    assert!(complaint.contains("data directory wrong: no server has made a key there; name the data"), "{complaint}");
    assert!(!dir.path().join("wrong").exists());
    // Whoever knows the secret needs no data directory.
    let mut knowing = program(dir.path());
    knowing.env("BOXOFFICE_AUTH_SECRET", "a secret that is longer than 32 bytes").args(["token", "--user", "anna"]);
    let made = knowing.output().unwrap();
    assert!(made.status.success() && text(&made.stdout).split('.').count() == 3, "{made:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn config_prints_what_is_in_force_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "a secret that is longer than 32 bytes";
    let mut command = program(dir.path());
    command
        .env("BOXOFFICE_AUTH_SECRET", secret)
        .env("BOXOFFICE_LIMITS_USER_OPEN_HOLDS", "7")
        .args(["config", "--data", "d"]);
    let printed = text(&command.output().unwrap().stdout);
    for line in ["data_dir = \"d\"", "secret = \"***\"", "user_open_holds = 7", "listen = \"127.0.0.1:8080\""] {
        assert!(printed.contains(line), "{printed}");
    }
    assert!(!printed.contains(secret));
}

#[test]
fn every_command_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["serve", "token", "config", "verify", "export", "backup", "restore"] {
        let help = run(dir.path(), &[command, "--help"]);
        assert!(help.status.success() && text(&help.stdout).contains("--data"), "{command}");
    }
}

#[tokio::test]
async fn a_demonstration_is_made_once_and_works_as_printed() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Vec::new();
    for _ in 0..2 {
        let (child, lines) = serve(dir.path(), &["--demo"]);
        let address = lines.last().unwrap().strip_prefix("listening on ").unwrap().to_owned();
        let curl = lines.iter().find(|line| line.trim_start().starts_with("curl ")).unwrap();
        options.push(curl.split('/').nth(5).unwrap().to_owned());
        let arguments: Vec<_> = curl.split('\'').collect();
        let [_, authorization, _, media_type, _, body, _] = arguments[..] else { panic!("{curl}") };
        let url = curl.split_whitespace().find(|word| word.starts_with("http")).unwrap();
        let mut request = client().post(url).body(body.to_owned());
        for header in [authorization, media_type] {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.unwrap().status(), 201, "{curl}");

        // The links lead to the pages; who one is stands behind the # and is not sent.
        for (page, word) in [("/#token=", "buyer"), ("/ops#token=", "admin")] {
            let link = lines.iter().find_map(|line| line.split_whitespace().find(|it| it.contains(page))).unwrap();
            assert!(link.starts_with(&address), "{link}");
            let token = lines.iter().find(|line| line.starts_with(word)).unwrap();
            assert!(token.ends_with(link.split_once('=').unwrap().1), "{link}");
            assert_eq!(reqwest::get(link).await.unwrap().status(), 200, "{link}");
        }

        // A token made beside the running server is as good as one made by it.
        let token = run(dir.path(), &["token", "--data", "data", "--user", "demo-buyer"]);
        let token = text(&token.stdout);
        let wallet = client().get(format!("{address}/v1/wallet")).bearer_auth(token.trim());
        let wallet: serde_json::Value = wallet.send().await.unwrap().json().await.unwrap();
        assert_eq!(wallet["balance"], 1_000_000);

        let second = run(dir.path(), &["--listen", "127.0.0.1:0", "--ops-listen", "off", "--data", "data"]);
        assert!(!second.status.success() && text(&second.stdout).is_empty(), "{second:?}");

        let (code, elapsed) = terminate(child);
        assert_eq!(code, Some(0));
        assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
        let verified = run(dir.path(), &["verify", "--data", "data"]);
        assert!(verified.status.success() && text(&verified.stdout).contains("sealed yes"), "{verified:?}");
    }
    assert_eq!(options[0], options[1]);
    let exported = text(&run(dir.path(), &["export", "--data", "data", "--from", "2"]).stdout);
    let first: serde_json::Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    assert!(first["lsn"].as_u64().unwrap() >= 2, "{first}");
}

#[tokio::test]
async fn a_running_server_is_backed_up_and_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let (child, lines) = serve(dir.path(), &["--demo"]);
    let token = lines.iter().find(|line| line.starts_with("buyer token")).unwrap().rsplit(' ').next().unwrap();
    let output = run(dir.path(), &["backup", "--data", "data", "--to", "backup"]);
    assert!(output.status.success() && text(&output.stdout).contains("sealed yes"), "{output:?}");
    // Its events are printed meanwhile: what was answered is among them.
    let output = run(dir.path(), &["export", "--data", "data"]);
    let charged = text(&output.stdout).lines().any(|line| line.contains("\"demo-buyer\"") && line.contains("1000000"));
    assert!(output.status.success() && charged, "{output:?}");
    assert_eq!(terminate(child).0, Some(0));

    let again = run(dir.path(), &["backup", "--data", "data", "--to", "backup"]);
    assert!(!again.status.success() && text(&again.stderr).contains("empty directory only"), "{again:?}");
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    let output = run(dir.path(), &["restore", "--from", "backup", "--data", "data"]);
    assert!(output.status.success(), "{output:?}");
    for key in ["backup/jwt.key", "data/jwt.key"] {
        let mode = std::fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let output = run(dir.path(), &["verify", "--data", "data", "--repair-state"]);
    assert!(output.status.success() && text(&output.stdout).contains("state missing"), "{output:?}");

    let (child, lines) = serve(dir.path(), &[]);
    let address = lines.last().unwrap().strip_prefix("listening on ").unwrap();
    let wallet = client().get(format!("{address}/v1/wallet")).bearer_auth(token).send().await.unwrap();
    let wallet: serde_json::Value = wallet.json().await.unwrap();
    assert_eq!(wallet["balance"], 1_000_000, "the key is the same as well");
    assert_eq!(terminate(child).0, Some(0));
}

/// Whoever serves an engine of their own may also shut it down themselves.
#[tokio::test]
async fn a_server_ends_with_its_engine() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
    let engine = Engine::open(settings.engine()).await.unwrap();
    let (listener, served) = (TcpListener::bind("127.0.0.1:0").unwrap(), engine.clone());
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let run = boxoffice::server::run(listener, None, served, settings, std::future::pending());
        actix_web::rt::System::new().block_on(run)
    });
    assert_eq!(client().get(format!("http://{address}/healthz")).send().await.unwrap().status(), 200);
    engine.shutdown().await.unwrap();
    let ended = tokio::task::spawn_blocking(move || server.join().unwrap());
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap().unwrap();
}
