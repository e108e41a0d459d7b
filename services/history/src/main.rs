//! `boxoffice-history`: listens to Kafka, and writes down what was paid, given back and moved in wallets.
//!
//! It knows what events look like (`docs/events/`), and nothing of the engine. How far it has read stands in its database, and
//! is written in one transaction with what it has read: what comes twice is there once, and after a crash nothing is missing.

#![forbid(unsafe_code)]

mod api;
mod database;
mod store;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use boxoffice_listener::{Brokers, Listener};
use clap::Parser;

use crate::store::Store;

/// Writes down payments, refunds and movements of wallets from boxoffice's events in Kafka, and serves them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Brokers to begin with, host:port with commas
    #[arg(long, env = "KAFKA_BOOTSTRAP", value_name = "SERVERS")]
    kafka_bootstrap: String,
    /// The topics; {kind} stands for payment and wallet
    #[arg(long, env = "KAFKA_TOPIC", value_name = "PATTERN", default_value = "boxoffice.{kind}")]
    kafka_topic: String,
    /// As what it is known to the brokers; offsets there decide nothing
    #[arg(long, env = "KAFKA_GROUP", value_name = "NAME", default_value = "boxoffice-history")]
    kafka_group: String,
    /// A file with TLS and SASL of the brokers, as lines name=value
    #[arg(long, env = "KAFKA_PROPERTIES_FILE", value_name = "FILE")]
    kafka_properties_file: Option<PathBuf>,
    /// Where to keep it: sqlite:FILE, or postgresql://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", default_value = "sqlite:history.db")]
    database_url: String,
    /// Where to serve it
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: String,
    /// Forget everything, and read it anew from the beginning
    #[arg(long)]
    rebuild: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    actix_web::rt::System::new().block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let brokers =
        Brokers::new(&arguments.kafka_group, &arguments.kafka_bootstrap, arguments.kafka_properties_file.as_deref());
    let brokers = brokers.context("--kafka-properties-file")?;
    let (url, is_rebuilt) = (arguments.database_url, arguments.rebuild);
    let open = move || {
        let mut store = Store::open(&url)?;
        if is_rebuilt {
            store.clear().context("forgetting what was there")?;
        }
        anyhow::Ok(store)
    };
    let store = tokio::task::spawn_blocking(open).await??;
    let listener =
        TcpListener::bind(&arguments.listen).with_context(|| format!("listening on {}", arguments.listen))?;
    let shared = Arc::new(Listener { store: Mutex::new(store), progress: Mutex::default() });
    let address = listener.local_addr()?;
    let server = api::serve(listener, shared.clone())?;
    println!("listening on http://{address}");
    let topics = ["payment", "wallet"].map(|kind| arguments.kafka_topic.replace("{kind}", kind));
    tokio::select! {
        ended = server => ended.context("serving"),
        ended = boxoffice_listener::read(&brokers, &topics, &shared) => ended,
    }
}
