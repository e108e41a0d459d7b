//! `boxoffice-notification`: listens to Kafka, and tells buyers by chat and mail what became of their reservations.
//!
//! It knows what events look like (`docs/events/`), and nothing of the engine. What is to be sent is written down in one
//! transaction with how far it has read, and marked when it was sent: what comes twice is sent once. A call of which nobody
//! knows whether it got through, since the program was killed in it, is made again with the same key.

#![forbid(unsafe_code)]

mod api;
mod post;
mod store;
mod words;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use boxoffice_listener::{Brokers, Listener};
use clap::Parser;

use crate::post::Post;
use crate::store::Store;

/// Tells buyers by chat and mail what became of their reservations, from boxoffice's events in Kafka.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Brokers to begin with, host:port with commas
    #[arg(long, env = "KAFKA_BOOTSTRAP", value_name = "SERVERS")]
    kafka_bootstrap: String,
    /// The topic; {kind} stands for reservation
    #[arg(long, env = "KAFKA_TOPIC", value_name = "PATTERN", default_value = "boxoffice.{kind}")]
    kafka_topic: String,
    /// As what it is known to the brokers; offsets there decide nothing
    #[arg(long, env = "KAFKA_GROUP", value_name = "NAME", default_value = "boxoffice-notification")]
    kafka_group: String,
    /// A file with TLS and SASL of the brokers, as lines name=value
    #[arg(long, env = "KAFKA_PROPERTIES_FILE", value_name = "FILE")]
    kafka_properties_file: Option<PathBuf>,
    /// Where to keep it: sqlite:FILE
    #[arg(long, env = "DATABASE_URL", value_name = "URL", default_value = "sqlite:notification.db")]
    database_url: String,
    /// Where to serve what was sent
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8082")]
    listen: String,
    /// Who gets it: JSON, {"USER" or "*": {"chat_id", "email", "language": "en" or "ko"}}
    #[arg(long, env = "RECIPIENTS", value_name = "FILE")]
    recipients: PathBuf,
    /// The chat's API
    #[arg(long, env = "TELEGRAM_URL", value_name = "URL", default_value = "https://api.telegram.org")]
    telegram_url: String,
    /// A file with the bot's token; none: no chat
    #[arg(long, env = "TELEGRAM_TOKEN_FILE", value_name = "FILE")]
    telegram_token_file: Option<PathBuf>,
    /// The mail server, smtp[s]://user@host:port; none: no mail
    #[arg(long, env = "SMTP_URL", value_name = "URL")]
    smtp_url: Option<String>,
    /// A file with its password
    #[arg(long, env = "SMTP_PASSWORD_FILE", value_name = "FILE")]
    smtp_password_file: Option<PathBuf>,
    /// From whom mail comes
    #[arg(long, env = "SMTP_FROM", value_name = "ADDRESS", default_value = "boxoffice@localhost")]
    smtp_from: String,
    /// Messages a second, at the most
    #[arg(long, env = "RATE", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// How old an event may be to be told: a whole number with s, m, h or d
    #[arg(long, env = "MAX_AGE", value_name = "TIME", default_value = "1d", value_parser = span)]
    max_age: Duration,
}

fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let seconds = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    seconds.map(Duration::from_secs).ok_or_else(|| "must be a whole number with s, m, h or d".into())
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    // Another one may have been set by a library; it does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    actix_web::rt::System::new().block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let brokers =
        Brokers::new(&arguments.kafka_group, &arguments.kafka_bootstrap, arguments.kafka_properties_file.as_deref());
    let brokers = brokers.context("--kafka-properties-file")?;
    let Some(path) = arguments.database_url.strip_prefix("sqlite:") else {
        bail!("--database-url {}: must begin with sqlite:", arguments.database_url);
    };
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        anyhow::Ok(text.trim_end().to_owned())
    };
    let recipients = serde_json::from_str(&read(&arguments.recipients)?).context("--recipients")?;
    let token = arguments.telegram_token_file.as_deref().map(read).transpose()?;
    let password = arguments.smtp_password_file.as_deref().map(read).transpose()?;
    let mut post = Post::new();
    if let Some(token) = &token {
        post = post.with_chat(&arguments.telegram_url, token)?;
    }
    if let Some(url) = &arguments.smtp_url {
        post = post.with_mail(url, password.as_deref(), &arguments.smtp_from)?;
    }
    let store = Store::open(Path::new(path), recipients, post.channels(), arguments.max_age);
    let shared = Arc::new(Listener {
        store: Mutex::new(store.with_context(|| format!("opening {path}"))?),
        progress: Mutex::default(),
    });
    let listener =
        TcpListener::bind(&arguments.listen).with_context(|| format!("listening on {}", arguments.listen))?;
    let address = listener.local_addr()?;
    let server = api::serve(listener, shared.clone())?;
    println!("listening on http://{address}");
    let topics = [arguments.kafka_topic.replace("{kind}", "reservation")];
    tokio::select! {
        ended = server => ended.context("serving"),
        ended = boxoffice_listener::read(&brokers, &topics, &shared) => ended,
        ended = post::send(&post, &shared, arguments.rate) => ended,
    }
}
