//! What the owner does with a call of another node.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use minicbor::{Decode, Encode};

use super::super::{Engine, Inner};
use super::OwnerId;
use super::edge::Away;
use super::envelope::{self, Question, Verdict};
use super::table::{self, Call, Serve};
use crate::clock::wall_clock;
use crate::domain::Lsn;
use crate::error::Error;

/// What an owner answers.
#[derive(Debug, Clone, Encode, Decode)]
pub(super) struct Answered {
    /// What had become durable by then: what is answered rests on nothing after it.
    #[n(0)]
    pub(super) lsn: Lsn,
    #[n(1)]
    pub(super) outcome: Outcome,
}

/// What came of a call.
#[derive(Debug, Clone, Encode, Decode)]
pub(super) enum Outcome {
    /// The call's own answer.
    #[n(0)]
    Done(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// It was refused, or went wrong.
    #[n(1)]
    Failed(#[n(0)] Error),
    /// This node does not decide, or not in that epoch. Nothing was done.
    #[n(2)]
    NotTaken,
    /// Its time was over when it came. Nothing was done.
    #[n(3)]
    Late,
    /// This program does not know such a call, which is of a newer one. Nothing was done.
    #[n(4)]
    Unknown,
}

impl Engine {
    /// Does a call that another node has sent (`Forward`), if it is meant for `me`: what this node is as the
    /// owner, if it is that. Gives what is to be sent back; `None` if nothing is: what was asked for is not from a node of
    /// this cluster, or came before and is answered there.
    ///
    /// It is done to the end only if this is.
    pub async fn serve_call(&self, question: &[u8], me: Option<&OwnerId>) -> Option<Vec<u8>> {
        self.serve_call_at(question, me, wall_clock().as_millis()).await
    }

    /// As [`serve_call`](Self::serve_call), where it is `now_ms`.
    pub(crate) async fn serve_call_at(&self, question: &[u8], me: Option<&OwnerId>, now_ms: u64) -> Option<Vec<u8>> {
        let inner = &self.0;
        let away = inner.away.get()?;
        let sealed_bytes_max = inner.config.forwarding.question_bytes + SEAL_BYTES;
        if question.len() as u64 > sealed_bytes_max {
            return None;
        }
        let question: Question<'_> = match envelope::open(&away.secret, question) {
            Ok(question) => question,
            Err(error) => {
                away.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "what was to be a call was passed over");
                return None;
            }
        };
        let outcome = inner.taken(away, &question, me, now_ms).await?;
        let answered = Answered { lsn: inner.node.journal.durable(), outcome };
        // Writing to memory cannot fail.
        let body = minicbor::to_vec(&answered).unwrap_or_default();
        Some(envelope::seal(&away.secret, &envelope::Answer { nonce: question.nonce, body: &body }))
    }
}

/// What a seal and the head of a question take at the most.
const SEAL_BYTES: u64 = 1_024;

impl Inner {
    /// Does a call on this node, and tells what came of it once that is certain.
    pub(super) async fn decide<C: Call>(self: &Arc<Self>, call: C) -> Result<C::Answer, Error> {
        match C::KIND {
            table::Kind::Read => known!(self, call.run(self)),
            table::Kind::Change | table::Kind::Begin => decided!(self, call.run(self)),
        }
    }

    async fn taken(
        self: &Arc<Self>,
        away: &Away,
        question: &Question<'_>,
        me: Option<&OwnerId>,
        now_ms: u64,
    ) -> Option<Outcome> {
        if me != Some(&question.to) || !self.terms.takes_calls() {
            return Some(Outcome::NotTaken);
        }
        let verdict = away.taken.lock().take(question, now_ms, self.config.forwarding.time_ms);
        match verdict {
            Verdict::Take => {}
            Verdict::Late => return Some(Outcome::Late),
            Verdict::Twice => return None,
            Verdict::Full => return Some(Outcome::Failed(self.overloaded())),
        }
        match table::serve(question.body, self, Run { bytes_max: self.config.forwarding.answer_bytes }) {
            Some(served) => Some(served.await),
            None => Some(Outcome::Unknown),
        }
    }
}

/// Runs a call, and bounds its answer.
struct Run {
    bytes_max: u64,
}

impl Serve for Run {
    type Served<'a> = Outcome;

    fn serve<'a, C: Call>(self, call: C, here: &'a Arc<Inner>) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let mut next = Some(call);
            while let Some(call) = next {
                next = call.halved();
                let answer = match here.decide(call).await {
                    Ok(answer) => answer,
                    Err(Error::NoOwner) => return Outcome::NotTaken,
                    Err(error) => return Outcome::Failed(error),
                };
                let bytes = minicbor::to_vec(&answer).unwrap_or_default();
                if bytes.len() as u64 <= self.bytes_max {
                    return Outcome::Done(bytes);
                }
            }
            Outcome::Failed(match C::KIND {
                table::Kind::Read => here.overloaded(),
                // It was done.
                table::Kind::Change | table::Kind::Begin => {
                    Error::OutcomeUnknown("the answer is too large to be sent".into())
                }
            })
        })
    }
}
