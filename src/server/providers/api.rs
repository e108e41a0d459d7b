//! Requests to a provider's API: where, who asks, and what came back.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::super::Error;
use super::super::config::{Provider, Secret, value_error};
use super::super::webhooks::addresses::Reach;
use super::super::webhooks::client;

/// So much is read of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// An API over HTTPS.
pub struct Api {
    client: Client,
    runtime: Handle,
    url: Url,
    headers: HeaderMap,
    /// Of requests that are under way.
    turns: Arc<Semaphore>,
    timeout: Duration,
}

/// What came back.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether it was given before, under the same key.
    pub replayed: bool,
    body: Vec<u8>,
}

impl Answer {
    /// Whether what was asked for is done.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as a `T`. What is wrong with it is told without what it says.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| {
            format!(
                "its answer of status {} is not understood (line {}, {:?})",
                self.status,
                error.line(),
                error.classify()
            )
        })
    }
}

impl Api {
    /// At `url`, for whoever has `secret` as the user name of Basic authentication. Requests are made in `runtime`.
    pub fn new(url: &str, secret: &Secret, one: &Provider, runtime: &Handle) -> Result<Self, Error> {
        let (timeout, requests) = (one.timeout.0, usize::try_from(one.requests).unwrap_or(usize::MAX));
        let url = Url::parse(url).map_err(|error| value_error("payments.providers.url", url, error.to_string()))?;
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:", secret.reveal())));
        let mut authorization =
            HeaderValue::from_str(&basic).map_err(|_| value_error("payments.providers.secret_key", "***", "a key"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: client(timeout, requests, Reach::Anywhere).map_err(Error::Webhooks)?,
            runtime: runtime.clone(),
            url,
            headers: HeaderMap::from_iter([(AUTHORIZATION, authorization)]),
            turns: Arc::new(Semaphore::new(requests)),
            timeout,
        })
    }

    /// With another header in each request.
    pub fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Reads something.
    pub async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, String> {
        let mut url = self.at(path)?;
        if !query.is_empty() {
            url.set_query(Some(&form(query)));
        }
        self.send(self.client.request(Method::GET, url)).await
    }

    /// Does something, once for each `key`.
    pub async fn post_form(&self, path: &[&str], fields: &[(&str, &str)], key: &str) -> Result<Answer, String> {
        let request = self.client.request(Method::POST, self.at(path)?);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form(fields));
        self.send(request.header("idempotency-key", key)).await
    }

    /// The same, said in JSON.
    pub async fn post_json(&self, path: &[&str], body: &serde_json::Value, key: &str) -> Result<Answer, String> {
        let request = self.client.request(Method::POST, self.at(path)?);
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        self.send(request.header("idempotency-key", key)).await
    }

    fn at(&self, path: &[&str]) -> Result<Url, String> {
        let mut url = self.url.clone();
        url.path_segments_mut().map_err(|()| "its URL has no path")?.pop_if_empty().extend(path);
        Ok(url)
    }

    /// Where names are looked up that may take long, and on no thread of the engine.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, String> {
        let request = request.headers(self.headers.clone());
        let turn = tokio::time::timeout(self.timeout, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| "too many requests to it are under way")?;
        let task = self.runtime.spawn(async move {
            // Until it has ended, also if nobody waits for it any more.
            let _turn = turn;
            let mut response = request.send().await.map_err(explain)?;
            let status = response.status().as_u16();
            let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(explain)? {
                if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                    return Err(format!("its answer has more than {ANSWER_BYTES_MAX} bytes"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Answer { status, replayed, body })
        });
        task.await.map_err(|error| format!("the request ended: {error}"))?
    }
}

/// What went wrong, without the URL.
pub(in crate::server) fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}
