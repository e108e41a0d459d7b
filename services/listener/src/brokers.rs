//! Where the brokers are, and how they are talked to.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use krafka::auth::{AuthConfig, TlsConfig};
use krafka::{Kafka, KrafkaError};

/// Brokers to begin with, and what they ask for.
#[derive(Clone)]
pub struct Brokers {
    client: String,
    servers: String,
    security: AuthConfig,
}

impl Brokers {
    /// Those at `servers`, to which it is known as `client`. A file has more, as lines `name=value` by librdkafka's names.
    ///
    /// # Errors
    /// What is wrong with the file. It tells no values.
    pub fn new(client: &str, servers: &str, properties: Option<&Path>) -> Result<Self> {
        let text = match properties {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
            None => String::new(),
        };
        Ok(Self { client: client.into(), servers: servers.into(), security: security(&text)? })
    }

    pub(crate) async fn connect(&self) -> Result<Kafka, KrafkaError> {
        Kafka::builder(&self.servers).client_id(&self.client).security(self.security.clone()).connect().await
    }
}

fn security(text: &str) -> Result<AuthConfig> {
    let (mut protocol, mut mechanism) = ("plaintext".to_owned(), "PLAIN".to_owned());
    let [mut user, mut password] = [const { String::new() }; 2];
    let [mut authorities, mut certificate, mut key] = [const { None }; 3];
    let lines = text.lines().map(str::trim).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let Some((name, value)) = line.split_once('=') else { bail!("line {}: must be name=value", index + 1) };
        let value = value.trim().to_owned();
        match name.trim() {
            "security.protocol" => protocol = value.to_ascii_lowercase(),
            "sasl.mechanism" | "sasl.mechanisms" => mechanism = value,
            "sasl.username" => user = value,
            "sasl.password" => password = value,
            "ssl.ca.location" => authorities = Some(value),
            "ssl.certificate.location" => certificate = Some(value),
            "ssl.key.location" => key = Some(value),
            name => bail!("{name} is not known: known are security.protocol, sasl.* and ssl.*.location"),
        }
    }
    let mut tls = match authorities {
        Some(path) => TlsConfig::new().with_ca_cert(path),
        None => TlsConfig::new().with_native_roots(),
    };
    match (certificate, key) {
        (Some(certificate), Some(key)) => tls = tls.with_client_cert(certificate, key),
        (None, None) => {}
        _ => bail!("ssl.certificate.location and ssl.key.location go together"),
    }
    let sasl = || match mechanism.as_str() {
        "PLAIN" => Ok(AuthConfig::sasl_plain(user, password)),
        "SCRAM-SHA-256" => Ok(AuthConfig::sasl_scram_sha256(user, password)),
        "SCRAM-SHA-512" => Ok(AuthConfig::sasl_scram_sha512(user, password)),
        _ => bail!("sasl.mechanism: must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
    };
    match protocol.as_str() {
        "plaintext" => Ok(AuthConfig::plaintext()),
        "ssl" => Ok(AuthConfig::ssl(tls)),
        "sasl_plaintext" => sasl(),
        "sasl_ssl" => Ok(sasl()?.with_tls(tls)),
        _ => bail!("security.protocol: must be plaintext, ssl, sasl_plaintext or sasl_ssl"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_told() {
        for (text, message) in [
            ("sasl.password", "line 1: must be name=value"),
            ("# ours\nsasl.passwort=hunter2", "sasl.passwort is not known"),
            ("security.protocol=tls", "security.protocol: must be plaintext"),
            ("security.protocol=sasl_ssl\nsasl.mechanism=GSSAPI", "sasl.mechanism: must be PLAIN"),
            ("ssl.key.location=/hunter2", "go together"),
        ] {
            let error = security(text).err().unwrap().to_string();
            assert!(error.contains(message) && !error.contains("hunter2"), "{text}: {error}");
        }
        let given = "security.protocol = SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=a\nsasl.password=b=c";
        let security = security(given).unwrap();
        assert!(security.requires_sasl() && security.requires_tls());
    }
}
