//! Whether each NATS server syncs what it acknowledges. No client can see that; the monitoring port says it.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tokio::time::sleep;

use super::Error;
use crate::cluster::ClusterConfig;

/// How long a monitoring port may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before one that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// How often one that did not answer at the start is asked.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Where it is written down which servers sync always.
const NAME: &str = "nats-servers";

/// Servers that sync always, by their names.
pub struct Asked {
    syncing: Vec<String>,
    /// Of whom it is only remembered.
    silent: Vec<String>,
    memory: Memory,
    client: Client,
}

/// What monitoring ports have said: the names of servers that sync always, by address.
#[derive(Default)]
struct Memory {
    path: Option<PathBuf>,
    servers: BTreeMap<String, String>,
}

impl Memory {
    /// What is remembered in a node's directory. What cannot be read is not known.
    fn of(home: Option<&Path>) -> Self {
        let path = home.map(|home| home.join(NAME));
        let bytes = path.as_ref().and_then(|path| fs::read(path).ok()).unwrap_or_default();
        Self { servers: serde_json::from_slice(&bytes).unwrap_or_default(), path }
    }

    fn note(&mut self, address: &str, server: &str) {
        if self.servers.get(address).is_none_or(|known| known != server) {
            self.servers.insert(address.to_owned(), server.to_owned());
            self.write();
        }
    }

    fn forget(&mut self, address: &str) {
        if self.servers.remove(address).is_some() {
            self.write();
        }
    }

    fn write(&self) {
        let Some(path) = &self.path else { return };
        let write = || {
            let new = path.with_extension("new");
            let mut file = fs::File::create(&new)?;
            file.write_all(&serde_json::to_vec(&self.servers)?)?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        // The next start asks again.
        if let Err(error) = write() {
            tracing::warn!(%error, path = %path.display(), "what NATS servers say is not remembered");
        }
    }
}

/// Asks all monitoring ports, those that do not answer until `deadline`; but once if what is unknown is accepted, or
/// if it is remembered in `home` what one has said before.
///
/// # Errors
/// A server does not sync always; or one cannot be asked and is not remembered, and what is unknown is not accepted.
pub async fn ask(
    config: &ClusterConfig,
    home: Option<&Path>,
    tls: rustls::ClientConfig,
    deadline: Instant,
) -> Result<Asked, Error> {
    let client = Client::builder().no_proxy().timeout(PATIENCE).tls_backend_preconfigured(tls).build();
    let client = client.map_err(|error| Error::Unreachable(error.to_string()))?;
    let mut asked = Asked { syncing: Vec::new(), silent: Vec::new(), memory: Memory::of(home), client };
    for address in &config.monitor {
        let remembered = asked.memory.servers.get(address).cloned();
        let at_once = config.accept_unknown_sync || remembered.is_some();
        let deadline = if at_once { Instant::now() } else { deadline };
        match variables(&asked.client, address, deadline).await.and_then(|variables| read(&variables)) {
            Ok((server, true)) => {
                asked.memory.note(address, &server);
                asked.syncing.push(server);
            }
            Ok((server, false)) => {
                asked.memory.forget(address);
                return Err(Error::NotSynced { server });
            }
            Err(why) => match remembered {
                Some(server) => {
                    tracing::warn!(%server, %why, "a NATS server is asked on whether it syncs each message, as it has said");
                    asked.silent.push(address.clone());
                    asked.syncing.push(server);
                }
                None => unknown(config, address, why)?,
            },
        }
    }
    Ok(asked)
}

impl Asked {
    /// Asks those on that did not answer; `not_synced` hears of one that does not sync always. Nothing if all have.
    pub fn go_on(self, not_synced: impl Fn(String) + Send + 'static) -> Option<impl Future<Output = ()> + Send> {
        let Self { mut silent, mut memory, client, .. } = self;
        (!silent.is_empty()).then_some(async move {
            while !silent.is_empty() {
                sleep(ASK_AGAIN).await;
                for address in std::mem::take(&mut silent) {
                    match variables(&client, &address, Instant::now()).await.and_then(|variables| read(&variables)) {
                        Ok((server, true)) => {
                            tracing::info!(%server, "a NATS server says again that it syncs each message");
                            memory.note(&address, &server);
                        }
                        Ok((server, false)) => {
                            memory.forget(&address);
                            not_synced(server);
                        }
                        Err(_) => silent.push(address),
                    }
                }
            }
        })
    }
}

/// Whether all these are among them.
///
/// # Errors
/// One is not, and what is unknown is not accepted.
pub fn check<'a>(config: &ClusterConfig, asked: &Asked, servers: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    for server in servers.filter(|server| !asked.syncing.iter().any(|it| it == server)) {
        unknown(config, server, "its monitoring port is not among cluster.monitor".to_owned())?;
    }
    Ok(())
}

fn unknown(config: &ClusterConfig, server: &str, why: String) -> Result<(), Error> {
    if config.accept_unknown_sync {
        tracing::warn!(%server, %why, "it is not known whether a NATS server syncs each message");
        return Ok(());
    }
    Err(Error::SyncUnknown { server: server.to_owned(), why })
}

async fn variables(client: &Client, address: &str, deadline: Instant) -> Result<Value, String> {
    let url = format!("{}/varz", address.trim_end_matches('/'));
    loop {
        let answer = async { client.get(&url).send().await?.error_for_status()?.bytes().await };
        match answer.await {
            Ok(body) => return serde_json::from_slice(&body).map_err(|error| error.to_string()),
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            Err(error) => tracing::debug!(%error, "a monitoring port is asked again"),
        }
        sleep(PAUSE).await;
    }
}

/// The server's name, and whether it syncs always: it says so only if it does.
fn read(variables: &Value) -> Result<(String, bool), String> {
    let server = variables["server_name"].as_str().ok_or("it does not say its name")?;
    let config = variables["jetstream"]["config"].as_object().ok_or("JetStream is off there")?;
    let always = config.get("sync_always").is_some_and(|always| always == true);
    Ok((server.to_owned(), always))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_server_that_says_so_syncs_always() {
        let varz = |config: Value| json!({ "server_name": "a", "jetstream": { "config": config } });
        // As 2.15.1 says it; the interval stands there whatever is set.
        let always = varz(json!({ "sync_interval": 120_000_000_000_u64, "sync_always": true }));
        assert_eq!(read(&always), Ok(("a".to_owned(), true)));
        assert_eq!(read(&varz(json!({ "sync_interval": 120_000_000_000_u64 }))), Ok(("a".to_owned(), false)));
        assert_eq!(read(&varz(json!({ "sync_always": "true" }))), Ok(("a".to_owned(), false)));
        read(&json!({ "server_name": "a", "jetstream": {} })).unwrap_err();
        read(&json!({ "jetstream": { "config": {} } })).unwrap_err();
        read(&json!(null)).unwrap_err();
    }
}
