//! Questions and answers on core NATS: one inbox, and each question with its number.
//!
//! The crate has the same, but remembers each question that was never answered.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, StatusCode};
use futures_util::StreamExt as _;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Error, subscribe};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Not in time.
    #[error("there was no answer in time")]
    TimedOut,
    /// Nobody listens there.
    #[error("nobody listens")]
    NobodyThere,
    /// It was not sent.
    #[error("{bytes} bytes are more than the {max} that a message of NATS may have (`max_payload`)")]
    TooLarge { bytes: usize, max: usize },
    /// It was not sent.
    #[error("there is no connection any more: {0}")]
    Closed(String),
}

/// Asks, and hears the answers.
#[derive(Clone)]
pub struct Asks {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    inbox: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
}

/// Forgets a question when nobody waits for it any more.
struct Waiting<'a> {
    inner: &'a Inner,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inner.waiting.lock().remove(&self.number);
    }
}

impl Asks {
    /// With this inbox, and what is to be run to hear its answers.
    pub async fn begin(client: Client, inbox: String) -> Result<(Self, impl Future<Output = ()> + Send), Error> {
        let mut answers = subscribe(&client, format!("{inbox}.*")).await?;
        let inner = Inner { client, inbox, next: AtomicU64::new(1), waiting: Mutex::default() };
        let asks = Self { inner: Arc::new(inner) };
        let inner = asks.inner.clone();
        let hearing = async move {
            while let Some(message) = answers.next().await {
                let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
                let waiting = number.and_then(|number: u64| inner.waiting.lock().remove(&number));
                if let Some(waiting) = waiting {
                    // Whoever waited may have gone.
                    let _ = waiting.send(message);
                }
            }
        };
        Ok((asks, hearing))
    }

    /// A subject below the inbox on which nobody hears anything yet.
    pub fn inbox(&self) -> String {
        format!("{}.f.{}", self.inner.inbox, self.inner.next.fetch_add(1, Ordering::Relaxed))
    }

    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Asks once, and waits so long. Whatever `Err` says but [`NoAnswer::TooLarge`]: it may still arrive, and be
    /// answered to nobody.
    pub async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
        patience: Duration,
    ) -> Result<Message, NoAnswer> {
        let inner = &*self.inner;
        let (bytes, max) = (payload.len() + header_bytes(&headers), inner.client.max_payload());
        if bytes > max {
            return Err(NoAnswer::TooLarge { bytes, max });
        }
        let number = inner.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        inner.waiting.lock().insert(number, sender);
        let _waiting = Waiting { inner, number };
        let reply = format!("{}.{number}", inner.inbox);
        let asking = async {
            let sent = match headers.is_empty() {
                true => inner.client.publish_with_reply(subject, reply, payload.into()).await,
                false => inner.client.publish_with_reply_and_headers(subject, reply, headers, payload.into()).await,
            };
            sent.map_err(|error| NoAnswer::Closed(error.to_string()))?;
            answer.await.map_err(|error| NoAnswer::Closed(error.to_string()))
        };
        let message = timeout(patience, asking).await.map_err(|_| NoAnswer::TimedOut)??;
        match message.status {
            Some(StatusCode::NO_RESPONDERS) => Err(NoAnswer::NobodyThere),
            _ => Ok(message),
        }
    }
}

/// How long headers are on the wire: a first line, each with a colon and an end, and an empty line.
fn header_bytes(headers: &HeaderMap) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let lines = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| name.len() + value.as_str().len() + 4)
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}
