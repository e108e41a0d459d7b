//! `boxoffice-loadtest`: parses arguments, opens what is to be put under load, and calls the library.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use boxoffice::loadgen::find_max::{Limit, Objective, Step, find_max};
use boxoffice::loadgen::params::{Params, Workload};
use boxoffice::loadgen::report::{self, Outcome, Sample};
use boxoffice::loadgen::run;
use boxoffice::loadgen::target::{Embedded, Http, HttpSettings, Target};
use boxoffice::server::config::Span;
use clap::{Args, Parser};

// As the server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Puts boxoffice under load as an on-sale does, and checks that what callers are told is true.
///
/// Exits with 0 only if the audit has found nothing wrong; no figures are printed otherwise. Every parameter has a default;
/// a scenario file changes it, and flags win over that. See docs/REHEARSAL.md.
#[derive(Parser)]
#[command(name = "boxoffice-loadtest", version)]
struct Cli {
    /// rush, onsale, scatter, wallets, queue, live or soak; may stand in the scenario
    workload: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    flags: Flags,
    /// A scenario, such as scenarios/stadium-tour-presale.toml
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Any other parameter, as in a scenario: onsale.pay_share=0.5
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Write what was measured as JSON; "-": to standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Step the rate up until the objective breaks, and say where
    #[arg(long, requires = "slo")]
    find_max: bool,
    /// The objective, of every operation: p99=50ms
    #[arg(long, value_name = "QUANTILE=TIME")]
    slo: Option<Objective>,
    /// Threads of the load generator
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Args)]
struct TargetArgs {
    /// Open the engine on this directory, in this process
    #[arg(long, value_name = "DIR", conflicts_with = "url", required_unless_present = "url")]
    embedded: Option<PathBuf>,
    /// Settings of the embedded engine, as the server's configuration file
    #[arg(long, value_name = "FILE", requires = "embedded")]
    config: Option<PathBuf>,
    /// A running server: http://HOST:PORT; again for each node of a cluster
    ///
    /// Callers are spread over several. What has no answer, or only "no_owner" or "outcome_unknown", is asked again with the same
    /// idempotency key at another node, within --timeout.
    #[arg(long, requires_all = ["admin_token", "jwt_secret_file"])]
    url: Vec<String>,
    /// A token with the role admin, by `boxoffice-server token --role admin`
    #[arg(long, value_name = "TOKEN", env = "BOXOFFICE_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// The file with the secret that the server takes buyers' tokens by, such as DATA/jwt.key
    #[arg(long, value_name = "FILE")]
    jwt_secret_file: Option<PathBuf>,
    /// Connections to the server at the most
    #[arg(long, value_name = "N", default_value_t = 256)]
    connections: usize,
    /// How long an answer of the server may take
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Span,
    /// The limits.user_open_holds of the server; 0: not checked
    #[arg(long, value_name = "N", default_value_t = 20)]
    open_holds: u32,
}

/// Parameters of which one thinks most often.
#[derive(Args)]
struct Flags {
    /// For how long people arrive [default: 10s]
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,
    /// How much of that, at the beginning, is not counted [default: 0s]
    #[arg(long, value_name = "TIME")]
    warm_up: Option<String>,
    /// Arrivals a second, which wait for nobody
    #[arg(long, value_name = "N")]
    rate: Option<String>,
    /// Without --rate: how many arrive again and again [default: 64]
    #[arg(long, value_name = "N")]
    callers: Option<String>,
    /// With --rate: the most arrivals under way [default: 10000; onsale: everybody]
    #[arg(long, value_name = "N")]
    in_flight_max: Option<String>,
    /// How many different people there are [default: 20000]
    #[arg(long, value_name = "N")]
    users: Option<String>,
    /// A seating plan in the pretix format
    #[arg(long, value_name = "FILE")]
    plan: Option<String>,
    /// Without --plan: seats of the house that is made
    #[arg(long, value_name = "N")]
    seats: Option<String>,
    /// Performances on sale
    #[arg(long, value_name = "N")]
    options: Option<String>,
    /// What all decisions come from: the same seed, the same decisions [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<String>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Cli {
    fn params(&self) -> Result<Params> {
        let Flags { duration, warm_up, rate, callers, in_flight_max, users, plan, seats, options, seed } = &self.flags;
        let named = [
            ("workload", &self.workload),
            ("duration", duration),
            ("warm_up", warm_up),
            ("rate", rate),
            ("callers", callers),
            ("in_flight_max", in_flight_max),
            ("users", users),
            ("plan", plan),
            ("seats", seats),
            ("options", options),
            ("seed", seed),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        let flags: Vec<_> = named.chain(self.set.iter().cloned()).collect();
        if self.workload.is_none() && self.scenario.is_none() {
            bail!("say what to do: a workload, or --scenario FILE");
        }
        Ok(Params::load(self.scenario.as_deref(), &flags)?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Whoever read it may be gone.
            let _ = writeln!(io::stderr(), "boxoffice-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the audit has found nothing wrong.
fn start(cli: &Cli) -> Result<bool> {
    let params = cli.params()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = cli.threads {
        runtime.worker_threads(threads.max(1));
    }
    runtime.enable_all().build()?.block_on(async {
        match &cli.target.embedded {
            Some(_) => test(embedded(&cli.target, &params).await?, cli, params).await,
            None => test(http(&cli.target)?, cli, params).await,
        }
    })
}

async fn embedded(arguments: &TargetArgs, params: &Params) -> Result<Embedded> {
    let dir = arguments.embedded.as_ref().and_then(|dir| dir.to_str()).context("--embedded must be UTF-8")?;
    let flags = [("data_dir", dir.to_owned())];
    let settings = boxoffice::server::config::Settings::load(arguments.config.as_deref(), [], &flags)?;
    let mut config = settings.engine();
    if params.workload == Workload::Cards {
        config.payments.providers = vec![params.cards.method()];
    }
    Ok(Embedded::open(config).await?)
}

fn http(arguments: &TargetArgs) -> Result<Http> {
    let file = arguments.jwt_secret_file.as_ref().context("--jwt-secret-file is missing")?;
    let secret = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(Http::new(HttpSettings {
        urls: arguments.url.clone(),
        admin_token: arguments.admin_token.clone().context("--admin-token is missing")?,
        jwt_secret: secret.trim_ascii_end().to_vec(),
        connections: arguments.connections.max(1),
        timeout: arguments.timeout.0,
        open_holds_max: arguments.open_holds,
    })?)
}

async fn test<T: Target>(target: T, cli: &Cli, params: Params) -> Result<bool> {
    let command = command(std::env::args());
    let (target, outcome) = match (&cli.slo, cli.find_max) {
        (Some(objective), true) => {
            let (target, limit) = find_max(target, &params, objective, &command, tell_step).await?;
            tell_limit(&limit, objective);
            let step = limit.breaks.filter(|step| !step.outcome.audit.ok).or(limit.holds);
            (target, step.map(|step| step.outcome))
        }
        _ => {
            let (target, outcome) = run(target, params, command, progress()).await?;
            (target, Some(outcome))
        }
    };
    let written = outcome.as_ref().map_or(Ok(()), |outcome| write(cli, outcome));
    if let Err(error) = target.close().await {
        bail!("closing: {error}");
    }
    written?;
    Ok(outcome.is_some_and(|outcome| outcome.audit.ok))
}

fn write(cli: &Cli, outcome: &Outcome) -> Result<()> {
    if let Some(file) = &cli.html {
        std::fs::write(file, report::page(outcome)).with_context(|| format!("writing {}", file.display()))?;
    }
    match &cli.json {
        Some(file) if file.as_os_str() == "-" => writeln!(io::stdout(), "{}", outcome.json())?,
        Some(file) => std::fs::write(file, outcome.json()).with_context(|| format!("writing {}", file.display()))?,
        None => {}
    }
    if cli.json.as_ref().is_none_or(|file| file.as_os_str() != "-") {
        writeln!(io::stdout(), "{}", outcome.table())?;
    }
    Ok(())
}

/// Tells of each second: on a terminal always on the same line.
fn progress() -> impl FnMut(&Sample) + Send + 'static {
    let terminal = io::stderr().is_terminal();
    move |sample| {
        let line = sample.line();
        // Whoever read it may be gone.
        let _ = if terminal { write!(io::stderr(), "\r\x1b[2K{line}") } else { writeln!(io::stderr(), "{line}") };
        let _ = io::stderr().flush();
    }
}

fn tell_step(step: &Step) {
    let rate = report::count(step.rate.round() as u64);
    let verdict = match (&step.broken, step.outcome.audit.ok) {
        (_, false) => "the audit fails".to_owned(),
        (None, true) => "holds".to_owned(),
        (Some(broken), true) => format!("breaks: {broken}"),
    };
    // Whoever read it may be gone.
    let _ = writeln!(io::stderr(), "{rate:>12}/s  {verdict}");
}

fn tell_limit(limit: &Limit, objective: &Objective) {
    let rate = |step: &Step| report::count(step.rate.round() as u64);
    let text = match (&limit.holds, &limit.breaks) {
        (Some(holds), Some(breaks)) => {
            let why = breaks.broken.as_ref().map_or_else(|| "the audit fails".to_owned(), ToString::to_string);
            format!("{objective} holds up to {} arrivals/s; at {}/s {why}", rate(holds), rate(breaks))
        }
        (Some(holds), None) => format!("{objective} holds at {} arrivals/s, and no limit was found", rate(holds)),
        (None, _) => format!("{objective} holds at no rate that was tried"),
    };
    // Whoever read it may be gone.
    let _ = writeln!(io::stderr(), "{text}");
}

/// How this program was called, without what is secret.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut hide = false;
    let shown = arguments.map(|argument| {
        if std::mem::replace(&mut hide, argument == "--admin-token") {
            return "***".to_owned();
        }
        match argument.split_once('=') {
            Some(("--admin-token", _)) => "--admin-token=***".to_owned(),
            _ => argument,
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}
