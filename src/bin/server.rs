//! `boxoffice-server`: parses arguments, puts the configuration together, and calls the library.

#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use boxoffice::payment::Day;
use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::{LogFormat, LogLevel, Settings, Span};
use boxoffice::server::demo::{self, Demo};
use boxoffice::server::descriptors;
use boxoffice::server::healthcheck::{self, Question};
use boxoffice::server::reconciliation;
use boxoffice::{Engine, Lsn, UserId};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::net::TcpSocket;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

// Keeps memory flat and costs less than the system's, with threads that free what others allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections that wait to be taken, as many as the standard library lets.
const BACKLOG: u32 = 128;

/// Sells seats: an HTTP server in front of the boxoffice reservation engine.
///
/// Settings come from defaults, a TOML file (--config), environment variables (BOXOFFICE_HTTP_LISTEN for http.listen, and
/// so on) and flags, the later ones winning. `boxoffice-server config` prints what is in force.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the HTTP API (what happens without a command, too).
    ///
    /// Prints one line "listening on http://ADDR" to standard output once it does; logs go to standard error. SIGTERM or
    /// Ctrl-C lets requests that are under way come to their end.
    Serve(Serve),
    /// Prints a token for a user, to be sent as "Authorization: Bearer ...". The server has been started before, and may be running.
    Token(Token),
    /// Prints the configuration that is in force, as TOML. Secrets are shown as "***".
    Config(Place),
    /// Checks the journal of a server that is not running, and prints what it adds up to. Changes nothing.
    ///
    /// Exits with 0 only if nothing is damaged.
    Verify(Verify),
    /// Copies journal, seating plans and key of a server, which may be running, to an empty directory, and verifies the copy.
    ///
    /// What was answered before it began is in it. The state is left out: it is built again from the journal.
    Backup(Backup),
    /// Verifies a backup and copies it to a data directory that is empty or not there.
    Restore(Restore),
    /// Prints the events in the journal, a JSON object a line, without secrets; also while the server runs.
    Export(Export),
    /// Compares what a provider of payments lists of a day with what was heard of it, and prints what one of both does not know.
    ///
    /// Reads the journal, also while the server runs. Exits with 0 only if both know the same.
    Reconcile(Reconcile),
    /// Asks a server how it is, and ends with 0 if it is well, else with 1.
    Healthcheck(Healthcheck),
    /// Looks at a cluster, or changes who is in it.
    #[cfg(feature = "cluster")]
    #[command(subcommand)]
    Cluster(Cluster),
}

#[cfg(feature = "cluster")]
#[derive(Subcommand)]
enum Cluster {
    /// Prints a table of the nodes that live, and where the log ends.
    Status(Member),
    /// Lets another node own the log, and says which one does.
    StepDown(Member),
    /// Forgets a node that is gone for good, for which the log keeps all that it lacks.
    Forget(Forget),
    /// Lets what is written be of the highest format, once all nodes are of a version that reads it.
    Upgrade(Member),
    /// Takes the data directory of a node that is not running out of its cluster: a single machine's from then on.
    ///
    /// It first takes in what it lacks of the log. Before it joins again it has to be emptied.
    Leave(Leave),
}

#[cfg(feature = "cluster")]
#[derive(Args)]
struct Member {
    #[command(flatten)]
    place: Place,
    /// Addresses of the cluster's NATS servers, such as nats://10.0.0.1:4222, with commas between them
    #[arg(long, visible_alias = "url", value_name = "URLS")]
    cluster: Option<String>,
    /// The name of this node in its cluster
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

#[cfg(feature = "cluster")]
impl Member {
    fn load(&self) -> Result<Settings> {
        load(&self.place, &[("cluster.servers", &self.cluster), ("cluster.node", &self.node)])
    }
}

#[cfg(feature = "cluster")]
#[derive(Args)]
struct Forget {
    #[command(flatten)]
    member: Member,
    /// The name of the node that is gone
    gone: String,
}

#[cfg(feature = "cluster")]
#[derive(Args)]
struct Leave {
    #[command(flatten)]
    member: Member,
    /// Go on with what the directory has, also if the log cannot be reached or has more
    #[arg(long)]
    accept_loss: bool,
}

#[derive(Args)]
struct Place {
    /// The data directory [default: ./boxoffice-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A TOML file with settings [env: BOXOFFICE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Verify {
    #[command(flatten)]
    place: Place,
    /// If the state is not what the journal adds up to, set it aside as "state.bad-N" and build it again
    #[arg(long)]
    repair_state: bool,
}

#[derive(Args)]
struct Backup {
    #[command(flatten)]
    place: Place,
    /// Where to: a directory that is empty or not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Args)]
struct Restore {
    #[command(flatten)]
    place: Place,
    /// The backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

#[derive(Args)]
struct Serve {
    #[command(flatten)]
    place: Place,
    /// Where to serve the API; port 0 picks one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where to serve /metrics; "off": nowhere [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    ops_listen: Option<String>,
    /// Have a concert on sale and a buyer with points, made once, and print how to try them
    #[arg(long)]
    demo: bool,
    /// Deliver nothing to webhooks, which can be looked at, changed and removed all the same, nor to Kafka
    /// (webhooks.enabled = false, kafka.enabled = false)
    #[arg(long)]
    no_deliveries: bool,
    /// Be a node of a cluster: addresses of its NATS servers, such as nats://10.0.0.1:4222, with commas between them
    #[arg(long, value_name = "URLS")]
    cluster: Option<String>,
    /// The name of this node in its cluster
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Begin a new cluster with what is in the data directory, if there is none yet
    #[arg(long)]
    found: bool,
}

#[derive(Args)]
struct Token {
    #[command(flatten)]
    place: Place,
    /// The user's id, 1 to 255 ASCII characters
    #[arg(long, value_name = "NAME")]
    user: UserId,
    /// What the user may do beyond a buyer
    #[arg(long)]
    role: Option<RoleArg>,
    /// For how long it is valid, such as 30m, 1h or 7d
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Span,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum RoleArg {
    /// Runs the sale
    Admin,
    /// Sells for others, blocks seats, and reads lists
    BoxOffice,
    /// Gives payments back, and reads what is owed and lists
    Refunds,
    /// Reads lists and histories
    Viewer,
    /// Reports what providers of payments did, and reads payments and what is owed
    Payments,
}

#[derive(Args)]
struct Export {
    #[command(flatten)]
    place: Place,
    /// The first event to print
    #[arg(long, value_name = "LSN", default_value_t = 1)]
    from: u64,
}

#[derive(Args)]
struct Reconcile {
    #[command(flatten)]
    place: Place,
    /// The provider's name in the configuration
    #[arg(long, value_name = "NAME")]
    provider: String,
    /// The day, in UTC, such as 2026-11-29
    #[arg(long, value_name = "DAY")]
    day: Day,
    /// What the provider lists: CSV with the columns reference, kind (captured, refunded, refund_failed, dispute_lost), amount (in minor
    /// units) and currency; others are passed over. "-": standard input. Without it the provider is asked, if the server does so
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
}

#[derive(Args)]
struct Healthcheck {
    #[command(flatten)]
    place: Place,
    /// Where the server is [default: http.listen of the configuration, on this machine]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Ask whether it takes requests, and not only whether it lives
    #[arg(long)]
    ready: bool,
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| refuse(&error));
    let outcome = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(arguments) => serve(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Token(arguments) => token(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Config(place) => config(&place).map(|()| ExitCode::SUCCESS),
        Command::Verify(arguments) => verify(&arguments),
        Command::Backup(arguments) => backup(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Restore(arguments) => restore(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Export(arguments) => export(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Reconcile(arguments) => reconcile(&arguments),
        Command::Healthcheck(arguments) => check_health(&arguments).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => cluster(&command).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        // Whoever read it may be gone.
        let _ = writeln!(io::stderr(), "boxoffice-server: {}", complaint(&error));
        ExitCode::FAILURE
    })
}

/// Ends as wrong arguments do (or with the help that was asked for); a health check with 1 at the most, since Docker keeps 2 for itself.
fn refuse(error: &clap::Error) -> ! {
    let is_check = env::args_os().nth(1).is_some_and(|command| command == "healthcheck");
    // Whoever read it may be gone.
    let _ = error.print();
    process::exit(if is_check { error.exit_code().min(1) } else { error.exit_code() })
}

/// An error with its causes, each of them told once: some errors tell theirs themselves.
fn complaint(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}

fn load(place: &Place, more: &[(&str, &Option<String>)]) -> Result<Settings> {
    let data = place.data.as_ref().map(|data| data.to_str().context("--data must be UTF-8").map(str::to_owned));
    let data = data.transpose()?;
    let given = [("data_dir", &data)].into_iter().chain(more.iter().copied());
    let flags: Vec<_> = given.filter_map(|(key, value)| Some((key, value.clone()?))).collect();
    let environment = env::vars_os().filter_map(|(name, value)| {
        // Variables of others need not be UTF-8; one of ours that is not is as wrong as an unknown one.
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    Ok(Settings::load(place.config.as_deref(), environment, &flags)?)
}

fn serve(arguments: &Serve) -> Result<()> {
    let deliveries = arguments.no_deliveries.then(|| "false".to_owned());
    let flags = [
        ("http.listen", &arguments.listen),
        ("http.ops_listen", &arguments.ops_listen),
        ("webhooks.enabled", &deliveries),
        ("cluster.servers", &arguments.cluster),
        ("cluster.node", &arguments.node),
        ("kafka.enabled", &deliveries),
    ];
    let settings = load(&arguments.place, &flags)?;
    log_to_stderr(&settings);
    actix_web::rt::System::new().block_on(run(settings, arguments))
}

async fn run(settings: Settings, arguments: &Serve) -> Result<()> {
    let api = take(&settings.http.listen)?;
    let ops = match settings.http.ops_listen.as_str() {
        "off" => None,
        address => Some(take(address)?),
    };
    // Both signals are caught from here on, so that the data directory is left in order even by an impatient operator.
    let shutdown = shutdown_signal()?;
    // What cannot be used is found before there is an engine to shut down again.
    auth::Verifier::new(&settings)?;
    descriptors::check(&settings)?;
    settings.kafka.check()?;
    let engine = open(&settings, arguments.found).await?;
    let address = api.local_addr()?;
    if arguments.demo {
        until_somebody_decides(&engine).await;
        let demo = demo::prepare(&engine).await.context("preparing the demonstration")?;
        explain(&settings, &demo, address)?;
    }
    let api = listen(api, &settings.http.listen)?;
    let ops = ops.map(|socket| listen(socket, &settings.http.ops_listen)).transpose()?;
    println!("listening on http://{address}");
    io::stdout().flush()?;
    boxoffice::server::run(api, ops, engine, settings, shutdown).await?;
    Ok(())
}

/// In a cluster it takes a moment.
async fn until_somebody_decides(engine: &Engine) {
    const AT_MOST: Duration = Duration::from_secs(60);
    let begun = Instant::now();
    while !engine.health().ready && engine.membership().is_some() && begun.elapsed() < AT_MOST {
        actix_web::rt::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(feature = "cluster")]
async fn open(settings: &Settings, founds: bool) -> Result<Engine> {
    if !settings.cluster.is_configured() {
        anyhow::ensure!(!founds, "--found begins a cluster, and there is none: cluster.servers is empty");
        return Ok(Engine::open(settings.engine()).await?);
    }
    Ok(Engine::open_in_cluster(settings.engine(), settings.cluster.clone().joining(founds)?).await?)
}

#[cfg(not(feature = "cluster"))]
async fn open(settings: &Settings, founds: bool) -> Result<Engine> {
    anyhow::ensure!(!founds, "--found begins a cluster, and this program was built without");
    Ok(Engine::open(settings.engine()).await?)
}

/// Takes an address at which nobody is let in yet: a start may last, and whoever comes meanwhile is to go to another node, and not to
/// wait here.
fn take(address: &str) -> Result<TcpSocket> {
    let take = || {
        let address = address.parse::<SocketAddr>().map_err(io::Error::other)?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok::<_, io::Error>(socket)
    };
    take().with_context(|| format!("listening on {address}"))
}

fn listen(socket: TcpSocket, address: &str) -> Result<TcpListener> {
    let listener = socket.listen(BACKLOG).and_then(tokio::net::TcpListener::into_std);
    listener.with_context(|| format!("listening on {address}"))
}

fn shutdown_signal() -> Result<impl Future<Output = ()>> {
    use actix_web::rt::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("told to stop by SIGTERM"),
            _ = interrupt.recv() => tracing::info!("told to stop by SIGINT"),
        }
    })
}

fn explain(settings: &Settings, demo: &Demo, address: SocketAddr) -> Result<()> {
    let ttl = Duration::from_secs(24 * 60 * 60);
    let tokens = [(&demo.admin, Some(Role::Admin)), (&demo.buyer, None)];
    let [admin, buyer] = tokens.map(|(user, role)| auth::issue(settings, user, role, ttl));
    let (admin, buyer) = match (admin, buyer) {
        (Ok(admin), Ok(buyer)) => (admin, buyer),
        (Err(error), _) | (_, Err(error)) => bail!("tokens for the demonstration: {error}"),
    };
    println!("demo: http://{address}/v1/options/{} is on sale, see also http://{address}/docs/", demo.option);
    println!("buy:  http://{address}/#token={buyer}");
    println!("run:  http://{address}/ops#token={admin}");
    println!("admin token ({}, 1 day): {admin}", demo.admin);
    println!("buyer token ({}, 1 day): {buyer}", demo.buyer);
    println!("hold the two best seats with:");
    println!(
        "  curl -X POST http://{address}/v1/options/{}/reservations -H 'Authorization: Bearer {buyer}' \
         -H 'Content-Type: application/json' -d '{{\"best_available\":{{\"count\":2}}}}'",
        demo.option
    );
    Ok(())
}

fn log_to_stderr(settings: &Settings) {
    let level = match settings.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // What strangers send to the listener for figures, which is actix's own, would be a line of ERROR each.
    let dispatcher = if level > LevelFilter::INFO { level } else { LevelFilter::OFF };
    // Brokers that are gone for a day would be a line of WARN for each attempt; what delivers to them says it once.
    let client = if level > LevelFilter::INFO { level } else { LevelFilter::OFF };
    // As would a NATS server that is down, of INFO; what connects to it says that now and then.
    let nats = if level == LevelFilter::INFO { LevelFilter::WARN } else { level };
    let filter = format!("{level},actix_http::h1::dispatcher={dispatcher},krafka={client},async_nats={nats}");
    let filter = EnvFilter::new(filter);
    // A log that cannot be written is no reason to leave requests unanswered: to complain about it panics.
    let subscriber = tracing_subscriber::fmt().log_internal_errors(false);
    let subscriber = subscriber.with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).with_env_filter(filter);
    match settings.log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
}

fn token(arguments: &Token) -> Result<()> {
    let settings = load(&arguments.place, &[])?;
    let role = arguments.role.map(|role| match role {
        RoleArg::Admin => Role::Admin,
        RoleArg::BoxOffice => Role::BoxOffice,
        RoleArg::Refunds => Role::Refunds,
        RoleArg::Viewer => Role::Viewer,
        RoleArg::Payments => Role::Payments,
    });
    println!("{}", auth::issue(&settings, &arguments.user, role, arguments.ttl.0)?);
    Ok(())
}

fn check_health(arguments: &Healthcheck) -> Result<()> {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => healthcheck::url_of(&load(&arguments.place, &[])?.http.listen).map_err(anyhow::Error::msg)?,
    };
    let question = if arguments.ready { Question::Ready } else { Question::Alive };
    actix_web::rt::System::new().block_on(healthcheck::ask(&url, question)).map_err(anyhow::Error::msg)
}

fn config(place: &Place) -> Result<()> {
    print!("{}", load(place, &[])?.to_toml()?);
    Ok(())
}

fn verify(arguments: &Verify) -> Result<ExitCode> {
    let config = load(&arguments.place, &[])?.engine();
    let mut report = boxoffice::verify(&config)?;
    if arguments.repair_state && !report.ok {
        report = boxoffice::repair_state(&config)?;
    }
    println!("{report}");
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn backup(arguments: &Backup) -> Result<()> {
    let settings = load(&arguments.place, &[])?;
    let report = boxoffice::backup(&settings.engine(), &arguments.to)?;
    auth::copy_key(&settings.data_dir, &arguments.to)?;
    println!("{report}");
    Ok(())
}

fn restore(arguments: &Restore) -> Result<()> {
    let settings = load(&arguments.place, &[])?;
    let report = boxoffice::restore(&arguments.from, &settings.engine())?;
    auth::copy_key(&arguments.from, &settings.data_dir)?;
    println!("{report}");
    Ok(())
}

#[cfg(feature = "cluster")]
fn cluster(command: &Cluster) -> Result<()> {
    use boxoffice::server::cluster;
    let runtime = tokio::runtime::Runtime::new()?;
    match command {
        Cluster::Status(member) => print!("{}", runtime.block_on(cluster::status(&member.load()?))?),
        Cluster::StepDown(member) => {
            println!("{} owns the log now", runtime.block_on(cluster::step_down(&member.load()?))?);
        }
        Cluster::Forget(Forget { member, gone }) => {
            runtime.block_on(cluster::forget(&member.load()?, gone))?;
            println!("{gone} is forgotten: the log keeps nothing for it any more");
        }
        Cluster::Upgrade(member) => match runtime.block_on(cluster::upgrade(&member.load()?))? {
            (format, true) => println!("the log is written in format {format} from now on"),
            (format, false) => println!("nothing to do: the log is written in format {format}"),
        },
        Cluster::Leave(arguments) => {
            let settings = arguments.member.load()?;
            let unsaid = runtime.block_on(cluster::leave(&settings, arguments.accept_loss))?;
            println!("{} belongs to no cluster any more", settings.data_dir.display());
            if let Some(why) = unsaid {
                println!("the others keep what it lacks until `cluster forget {}`: {why}", settings.cluster.node);
            }
        }
    }
    Ok(())
}

fn reconcile(arguments: &Reconcile) -> Result<ExitCode> {
    let Reconcile { place, provider, day, list } = arguments;
    let settings = load(place, &[])?;
    let known = settings.payments.providers.iter().any(|one| one.name == *provider);
    anyhow::ensure!(known, "--provider: {provider:?} is none of the configuration's payments.providers");
    let listed = match list {
        None => {
            let asking = reconciliation::ask_list(&settings, provider, *day);
            tokio::runtime::Runtime::new()?.block_on(asking).with_context(|| format!("the list of {provider}"))?
        }
        Some(list) => {
            let listed = if list.as_os_str() == "-" {
                reconciliation::read_list(io::stdin().lock())
            } else {
                reconciliation::read_list(File::open(list).with_context(|| format!("opening {}", list.display()))?)
            };
            listed.with_context(|| format!("the list {}", list.display()))?
        }
    };
    let differences = boxoffice::reconcile(&settings.engine(), provider, *day, listed)?;
    let mut output = BufWriter::new(io::stdout().lock());
    for movement in &differences.unknown_here {
        writeln!(output, "unknown here: {movement}")?;
    }
    for movement in &differences.unknown_there {
        writeln!(output, "unknown to the provider: {movement}")?;
    }
    if differences.is_none() {
        writeln!(output, "{provider} {day}: nothing is different")?;
    }
    output.flush()?;
    Ok(if differences.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn export(arguments: &Export) -> Result<()> {
    let config = load(&arguments.place, &[])?.engine();
    let mut output = BufWriter::new(io::stdout().lock());
    boxoffice::export(&config, Lsn(arguments.from), &mut |line| writeln!(output, "{line}"))?;
    output.flush()?;
    Ok(())
}
