//! Calls between nodes: a request and its answer, both sealed, bounded in number and size.
//!
//! A call is a seal, a number that is drawn anew for each, and what is asked. The answer is a seal over the call's own,
//! a byte that says what became of it, and what is answered: so nobody can take one answer for another, nor tell a
//! caller that he was not heard when he was.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::asks::NoAnswer;
use super::seal::SEAL_BYTES;
use super::{Error, Shared, subscribe};

const NUMBER_BYTES: usize = 16;

const ANSWERED: u8 = 0;
const BUSY: u8 = 1;
const TOO_LARGE: u8 = 2;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Such a subject cannot be. Nothing was sent.
    #[error("{0:?} is no subject of a call")]
    NoSubject(String),
    /// Nothing was sent.
    #[error("a call of {bytes} bytes is longer than the {max} that NATS takes (`max_payload`)")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// Nobody serves this subject. It was not taken.
    #[error("nobody answers such calls")]
    NobodyThere,
    /// Too many are under way there. It was not taken.
    #[error("too many calls are under way there")]
    Busy,
    /// It may have been taken, or still be.
    #[error("there was no answer in time")]
    NoAnswer,
    /// It was taken, and what it says is longer than NATS takes.
    #[error("the answer is longer than NATS takes (`max_payload`)")]
    AnswerTooLarge,
    /// It may have been taken.
    #[error("there is no connection any more")]
    Closed,
}

impl CallError {
    /// Whether it is certain that nobody took the call, nor ever will.
    #[must_use]
    pub fn is_not_taken(&self) -> bool {
        matches!(self, Self::NoSubject(_) | Self::TooLarge { .. } | Self::NobodyThere | Self::Busy)
    }
}

/// What bounds calls that are answered.
pub struct Calls {
    at_once: usize,
}

impl Calls {
    /// So many of each subject.
    pub fn new(at_once: u64) -> Self {
        Self { at_once: usize::try_from(at_once).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS) }
    }
}

fn subject(shared: &Shared, subject: &str) -> Result<String, CallError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'%');
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(fits);
    match subject.len() <= 128 && subject.split('.').all(is_word) {
        true => Ok(shared.names.call(subject)),
        false => Err(CallError::NoSubject(subject.to_owned())),
    }
}

pub async fn request(shared: &Shared, to: &str, body: &[u8], patience: Duration) -> Result<Vec<u8>, CallError> {
    let subject = subject(shared, to)?;
    let mut call = [0; NUMBER_BYTES].to_vec();
    getrandom::fill(&mut call).map_err(|_| CallError::Closed)?;
    call.extend_from_slice(body);
    let call = shared.seal.close(&subject, &[], &call);
    let seal = call[..SEAL_BYTES].to_vec();
    let answer = match shared.asks.ask(subject.clone(), HeaderMap::new(), call, patience).await {
        Ok(answer) => answer,
        Err(NoAnswer::TimedOut) => return Err(CallError::NoAnswer),
        Err(NoAnswer::NobodyThere) => return Err(CallError::NobodyThere),
        Err(NoAnswer::TooLarge { bytes, max }) => return Err(CallError::TooLarge { bytes, max }),
        Err(NoAnswer::Closed(_)) => return Err(CallError::Closed),
    };
    // What nobody of the cluster has said was not said.
    let answer = shared.seal.open(&subject, &seal, &answer.payload);
    match answer.and_then(<[u8]>::split_first) {
        Some((&ANSWERED, body)) => Ok(body.to_vec()),
        Some((&BUSY, _)) => Err(CallError::Busy),
        Some((&TOO_LARGE, _)) => Err(CallError::AnswerTooLarge),
        _ => Err(CallError::NoAnswer),
    }
}

/// What is to be run to answer.
pub async fn serve<F, A>(
    shared: Arc<Shared>,
    from: &str,
    handler: F,
) -> Result<impl Future<Output = ()> + Send + use<F, A>, CallError>
where
    F: Fn(Vec<u8>) -> A + Send + Sync + 'static,
    A: Future<Output = Vec<u8>> + Send + 'static,
{
    let subject = subject(&shared, from)?;
    let calls = subscribe(&shared.client, subject.clone()).await;
    let mut calls = calls.map_err(|_: Error| CallError::Closed)?;
    let room = Arc::new(Semaphore::new(shared.calls.at_once));
    Ok(async move {
        let mut answering = JoinSet::new();
        while let Some(message) = calls.next().await {
            while answering.try_join_next().is_some() {}
            let Message { reply: Some(reply), payload, .. } = message else { continue };
            let Some(call) = shared.seal.open(&subject, &[], &payload).and_then(|call| call.get(NUMBER_BYTES..)) else {
                tracing::debug!(%subject, "a call was not of this cluster");
                continue;
            };
            let seal = payload[..SEAL_BYTES].to_vec();
            let permit = room.clone().try_acquire_owned();
            let handled = permit.is_ok().then(|| handler(call.to_vec()));
            let (shared, subject) = (shared.clone(), subject.clone());
            let answer = async move {
                let (status, body) = match handled {
                    Some(handled) => (ANSWERED, handled.await),
                    None => (BUSY, Vec::new()),
                };
                drop(permit);
                let (status, body) = match SEAL_BYTES + 1 + body.len() <= shared.client.max_payload() {
                    true => (status, body),
                    false => (TOO_LARGE, Vec::new()),
                };
                let sealed = shared.seal.close(&subject, &seal, &[&[status], &body[..]].concat());
                if let Err(error) = shared.client.publish(reply, sealed.into()).await {
                    tracing::debug!(%error, "an answer could not be sent");
                }
            };
            answering.spawn(answer);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_which_calls_were_certainly_not_taken() {
        let table = [
            (CallError::NoSubject("x".into()), true),
            (CallError::TooLarge { bytes: 2, max: 1 }, true),
            (CallError::NobodyThere, true),
            (CallError::Busy, true),
            (CallError::NoAnswer, false),
            (CallError::AnswerTooLarge, false),
            (CallError::Closed, false),
        ];
        for (error, is_not_taken) in table {
            assert_eq!(error.is_not_taken(), is_not_taken, "{error}");
        }
    }
}
