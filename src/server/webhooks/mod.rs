//! Events out over HTTP: webhooks, batches and rendered messages, signed as Standard Webhooks wants it.
//!
//! When, in what order and how often something is delivered is the [relay](crate::relay)'s business. What is in here turns
//! one delivery into requests and their answers into an outcome, and lets admins run it all.

pub(super) mod addresses;
mod receiver;
pub(super) mod routes;
mod samples;
mod signature;
mod template;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::runtime::{Builder, Handle, Runtime};

use self::addresses::Reach;
use self::receiver::Endpoint;
use super::Error;
use super::config;
use super::traces::Traces;
use crate::domain::sink::{Destination, Registration};
use crate::engine::Engine;
use crate::relay;

/// Names that are resolved at a time: each takes a thread for as long as the system's resolver does.
pub(super) const RESOLVING_THREADS: usize = 16;

/// What all webhooks share.
pub struct Webhooks {
    /// A runtime of their own: a name server that does not answer must not take the engine's threads. Always there until
    /// this is dropped.
    runtime: Option<Runtime>,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    engine: Engine,
    client: Client,
    reach: Reach,
    settings: config::Webhooks,
}

impl Webhooks {
    /// As configured.
    ///
    /// # Errors
    /// [`Error::Webhooks`].
    pub fn new(engine: Engine, settings: &config::Webhooks) -> Result<Self, Error> {
        let reach = if settings.allow_private_addresses { Reach::Anywhere } else { Reach::Public };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(RESOLVING_THREADS)
            .thread_name("boxoffice-webhooks")
            .enable_all()
            .build()?;
        let idle = usize::try_from(settings.concurrency).unwrap_or(usize::MAX);
        let client = client(settings.timeout.0, idle, reach).map_err(Error::Webhooks)?;
        let shared = Shared { engine, client, reach, settings: settings.clone() };
        Ok(Self { runtime: Some(runtime), shared })
    }

    /// Delivers to all webhooks that there are and will be, unless the configuration says that nothing is delivered.
    ///
    /// # Errors
    /// A fault of the engine's.
    pub async fn serve(&self, traces: &Traces) -> Result<(), crate::error::Error> {
        if !self.shared.settings.enabled {
            tracing::warn!("webhooks.enabled is false: nothing is delivered");
            return Ok(());
        }
        let Some(handle) = self.handle() else { return Ok(()) };
        let (shared, traces) = (self.shared.clone(), traces.clone());
        let connect = move |registration: &Registration| -> Arc<dyn relay::Receiver> {
            Arc::new(Endpoint::new(&registration.receiver, shared.clone(), traces.clone(), handle.clone()))
        };
        self.shared.engine.serve_webhooks(self.shared.settings.relay(), Arc::new(connect)).await
    }

    /// Looks at where a URL leads, now.
    ///
    /// # Errors
    /// What is wrong with it.
    async fn check_url(&self, url: &reqwest::Url) -> Result<(), String> {
        let Shared { reach, settings, .. } = &self.shared;
        reach.check_literal(url).map_err(|error| error.to_string())?;
        let host = url.domain().map(str::to_owned);
        let (Some(host), Some(handle), Reach::Public) = (host, self.handle(), *reach) else { return Ok(()) };
        let (reach, timeout) = (*reach, settings.timeout.0);
        let lookup = handle.spawn(async move { tokio::time::timeout(timeout, reach.lookup(&host)).await });
        match lookup.await {
            Ok(Ok(found)) => found.map(|_| ()).map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("does not resolve in time".into()),
            Err(error) => Err(format!("does not resolve: {error}")),
        }
    }

    /// Where requests are made to others.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.runtime.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // In place of waiting, which is not allowed within another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A client whose requests take no longer than `timeout`, and which keeps so many connections to a host that nobody uses.
pub(super) fn client(
    timeout: Duration,
    idle: usize,
    reach: Reach,
) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let client = Client::builder()
        .user_agent(concat!("boxoffice/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .timeout(timeout)
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(Duration::from_secs(30))
        .dns_resolver(reach)
        .tls_backend_preconfigured(tls()?)
        .build()?;
    Ok(client)
}

/// TLS 1.2 and 1.3, with the certificates that the system trusts.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let trusting = match builder.clone().with_platform_verifier() {
        Ok(trusting) => trusting,
        Err(error) => {
            tracing::warn!(%error, "the system trusts no certificates: webhooks over https will fail");
            builder.with_root_certificates(RootCertStore::empty())
        }
    };
    Ok(trusting.with_no_client_auth())
}

/// What a template makes of a sample of each kind and of a reservation of 100 seats.
#[cfg(any(test, feature = "testing"))]
pub(super) fn try_template(text: &str) -> Vec<Result<Vec<u8>, String>> {
    use crate::domain::EventType::{PaymentFailed, ReservationCreated, TokenIssued, WalletCharged};
    let template = match template::Template::new(text) {
        Ok(template) => template,
        Err(why) => return vec![Err(why)],
    };
    let kinds = [ReservationCreated, PaymentFailed, TokenIssued, WalletCharged];
    let mut contexts: Vec<_> = kinds.into_iter().flat_map(samples::samples).collect();
    let mut many = contexts[0].clone();
    many["data"]["seats"] = serde_json::json!(vec![many["data"]["seats"][0].clone(); 100]);
    contexts.push(many);
    contexts.iter().map(|context| template.render(context)).collect()
}

/// What a receiver that has an address of the web is sent, and where.
fn webhook(receiver: &Destination) -> Option<(&str, &crate::domain::sink::Format)> {
    match receiver {
        Destination::Webhook { url, format } => Some((url, format)),
        Destination::Attached { .. } => None,
    }
}
