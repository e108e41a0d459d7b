//! The way to a node that decides, which leads back to the same engine: every call goes through bytes and back, and on its
//! way what befalls it is for a test to say.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::{Engine, Inner};
use super::{Forward, OwnerId, Secret, Sending, Unanswered};
use crate::clock::wall_clock;
use crate::domain::seating_plan::PlanHash;

/// The secret of a cluster of one.
pub(super) const SECRET: [u8; 32] = [0x5a; 32];

/// What befalls a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Arrives,
    /// There is nobody to take it, and whoever sent it hears of that.
    NobodyListens,
    /// It does not arrive.
    LostBefore,
    /// It is taken, and the answer does not arrive.
    LostAfter,
    /// It is taken, and no word comes back.
    Silence,
    /// It arrives twice, and the first answer counts.
    Twice,
    /// It arrives so much later by the clock of whoever takes it.
    Late(Duration),
    /// A bit of it is another one when it arrives.
    Tampered,
    /// It is taken, and a bit of the answer is another one when that arrives.
    AnswerTampered,
    /// The answer to the call before arrives in place of its own.
    AnswerMistaken,
}

/// Leads back to the engine that it is given to. The same for all its clones.
#[derive(Clone)]
pub struct Loopback(Arc<State>);

struct State {
    engine: OnceLock<Weak<Inner>>,
    /// Who takes calls.
    serving: Mutex<Option<OwnerId>>,
    /// Who is known to.
    owners: watch::Sender<Option<OwnerId>>,
    plans: Mutex<HashMap<PlanHash, Vec<u8>>>,
    fates: Mutex<Box<dyn FnMut() -> Fate + Send>>,
    last_answer: Mutex<Vec<u8>>,
}

impl Default for Loopback {
    fn default() -> Self {
        let owner = OwnerId { node: "this".into(), epoch: 1 };
        Self(Arc::new(State {
            engine: OnceLock::new(),
            serving: Mutex::new(Some(owner.clone())),
            owners: watch::Sender::new(Some(owner)),
            plans: Mutex::default(),
            fates: Mutex::new(Box::new(|| Fate::Arrives)),
            last_answer: Mutex::default(),
        }))
    }
}

impl Loopback {
    /// From now on every call asks `fates` what befalls it.
    pub fn befall(&self, fates: impl FnMut() -> Fate + Send + 'static) {
        *self.0.fates.lock() = Box::new(fates);
    }

    /// This befalls the next call, and nothing those after it.
    pub fn befall_once(&self, fate: Fate) {
        let mut fate = Some(fate);
        self.befall(move || fate.take().unwrap_or(Fate::Arrives));
    }

    /// Who takes calls from now on.
    pub fn serve_as(&self, owner: Option<OwnerId>) {
        *self.0.serving.lock() = owner;
    }

    /// Who is known to take them from now on.
    pub fn know(&self, owner: Option<OwnerId>) {
        self.0.owners.send_replace(owner);
    }

    /// The plans that were put where all nodes find them.
    #[must_use]
    pub fn plans(&self) -> usize {
        self.0.plans.lock().len()
    }

    /// Leads the engine's calls through here.
    pub(in crate::engine) fn lead(&self, engine: &Engine) {
        if self.0.engine.set(Arc::downgrade(&engine.0)).is_ok()
            && let Some(secret) = Secret::new(&SECRET)
        {
            engine.forward_always_by(Arc::new(self.clone()), secret);
        }
    }

    /// Has another engine send its calls to the one that it leads to.
    #[cfg(test)]
    pub(in crate::engine) fn lead_from(&self, edge: &Engine) {
        if let Some(secret) = Secret::new(&SECRET) {
            edge.forward_always_by(Arc::new(self.clone()), secret);
        }
    }

    async fn serve(&self, question: &[u8], later: Duration) -> Result<Vec<u8>, Unanswered> {
        let nothing = || Unanswered::Unknown("nothing came back".into());
        let engine = self.0.engine.get().and_then(Weak::upgrade).map(Engine).ok_or_else(nothing)?;
        let me = self.0.serving.lock().clone();
        let now_ms = wall_clock().as_millis() + later.as_millis() as u64;
        engine.serve_call_at(question, me.as_ref(), now_ms).await.ok_or_else(nothing)
    }
}

impl Forward for Loopback {
    fn owners(&self) -> watch::Receiver<Option<OwnerId>> {
        self.0.owners.subscribe()
    }

    fn send<'a>(&'a self, _to: &'a OwnerId, mut question: Vec<u8>, _time_left: Duration) -> Sending<'a, Vec<u8>> {
        Box::pin(async move {
            let fate = (self.0.fates.lock())();
            let lost = Unanswered::Unknown("it was lost".into());
            match fate {
                Fate::NobodyListens => return Err(Unanswered::NotTaken("nobody listens".into())),
                Fate::LostBefore => return Err(lost),
                Fate::Tampered => {
                    let middle = question.len() / 2;
                    question[middle] ^= 1;
                }
                _ => {}
            }
            let later = if let Fate::Late(later) = fate { later } else { Duration::ZERO };
            let mut answer = self.serve(&question, later).await?;
            let before = std::mem::replace(&mut *self.0.last_answer.lock(), answer.clone());
            match fate {
                Fate::LostAfter => return Err(lost),
                Fate::Silence => std::future::pending().await,
                Fate::Twice => {
                    let second = self.serve(&question, later).await;
                    assert!(second.is_err(), "the second one was answered");
                }
                Fate::AnswerTampered => {
                    let middle = answer.len() / 2;
                    answer[middle] ^= 1;
                }
                Fate::AnswerMistaken => answer = before,
                _ => {}
            }
            Ok(answer)
        })
    }

    fn put_plan(&self, hash: PlanHash, json: Vec<u8>) -> Sending<'_, ()> {
        self.0.plans.lock().insert(hash, json);
        Box::pin(std::future::ready(Ok(())))
    }

    fn plan(&self, hash: PlanHash) -> Sending<'_, Option<Vec<u8>>> {
        let plan = self.0.plans.lock().get(&hash).cloned();
        Box::pin(std::future::ready(Ok(plan)))
    }
}
