//! Whether each NATS server syncs what it acknowledges. No client can see that; the monitoring port says it.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::Error;
use crate::cluster::ClusterConfig;

/// How long a monitoring port may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before one that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Servers that sync always, by their names.
pub struct Asked {
    syncing: Vec<String>,
}

/// Asks all monitoring ports, those that do not answer until `deadline`; but once if what is unknown is accepted.
///
/// # Errors
/// A server does not sync always; or one cannot be asked, and what is unknown is not accepted.
pub async fn ask(config: &ClusterConfig, tls: rustls::ClientConfig, deadline: Instant) -> Result<Asked, Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_backend_preconfigured(tls).build();
    let client = client.map_err(|error| Error::Unreachable(error.to_string()))?;
    let mut asked = Asked { syncing: Vec::new() };
    let deadline = if config.accept_unknown_sync { Instant::now() } else { deadline };
    for address in &config.monitor {
        match variables(&client, address, deadline).await.and_then(|variables| read(&variables)) {
            Ok((server, true)) => asked.syncing.push(server),
            Ok((server, false)) => return Err(Error::NotSynced { server }),
            Err(why) => unknown(config, address, why)?,
        }
    }
    Ok(asked)
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

async fn variables(client: &reqwest::Client, address: &str, deadline: Instant) -> Result<Value, String> {
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
