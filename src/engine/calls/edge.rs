//! Asks the node that decides, from one that does not.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::super::{Engine, Inner, RETRY_AFTER};
use super::envelope::{self, Answer, Question, Taken};
use super::serving::{Answered, Outcome};
use super::signs::{Batch, Signs};
use super::table::{self, Call, Confirm, GetDefinition, Kind, Seen};
use super::{Forward, OwnerId, Secret, Unanswered};
use crate::api::{BareReservation, Caller, Reservation};
use crate::clock::wall_clock;
use crate::domain::concert_option::PricedPlan;
use crate::domain::seating_plan::PlanHash;
use crate::domain::{ConcertId, Lsn, Rejection, TokenId};
use crate::error::Error;

/// How long an owner who has not begun yet, or not heard of it, is left alone before he is asked again; twice as long each
/// time.
const ASK_AGAIN: Duration = Duration::from_millis(20);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(500);
/// How long an answer is waited for of an owner who is none any more: what he had answered before is on its way.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long the owner has to hear of signs of life, before they are told again.
const SIGNS_TIME: Duration = Duration::from_secs(1);
/// How long to wait before that.
const SIGNS_PAUSE: Duration = Duration::from_millis(200);

/// What a node needs where another one decides.
pub(in crate::engine) struct Away {
    forward: Arc<dyn Forward>,
    pub(super) secret: Secret,
    /// Whether even what this node could decide itself is sent: for tests, which then need one node only.
    always: bool,
    under_way: AtomicU64,
    /// Below it are answers which this node has given without having taken in what they rest on.
    behind: AtomicU64,
    confirming: Confirming,
    signs: Mutex<Signs>,
    /// There is a sign that is to be told before all others.
    has_signs: Arc<Notify>,
    begun: Instant,
    /// What this node has taken as the owner.
    pub(super) taken: Mutex<Taken>,
    /// How much came that was not from a node of this cluster.
    pub(super) refused: AtomicU64,
}

/// One question for all that wait: what is durable?
#[derive(Default)]
struct Confirming {
    /// How many have begun.
    begun: AtomicU64,
    /// The number of the last one that has come to its end, and what came of it.
    last: tokio::sync::Mutex<(u64, Option<Error>)>,
}

/// One that is under way.
struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Engine {
    /// From now on calls are sent to the node that decides wherever that is not this one, and [served](Self::serve_call) for
    /// others where it is. `secret` is the same on all nodes. Once only: what was set before stays.
    #[cfg(test)]
    pub(crate) fn forward_by(&self, forward: Arc<dyn Forward>, secret: Secret) {
        self.0.forward_by(forward, secret, false);
    }

    /// As `forward_by`, also of what this node could decide itself.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn forward_always_by(&self, forward: Arc<dyn Forward>, secret: Secret) {
        self.0.forward_by(forward, secret, true);
    }
}

impl Inner {
    pub(in crate::engine) fn forward_by(self: &Arc<Self>, forward: Arc<dyn Forward>, secret: Secret, always: bool) {
        let away = Away {
            forward,
            secret,
            always,
            under_way: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            confirming: Confirming::default(),
            signs: Mutex::default(),
            has_signs: Arc::default(),
            begun: Instant::now(),
            taken: Mutex::default(),
            refused: AtomicU64::new(0),
        };
        if self.away.set(Box::new(away)).is_ok() {
            self.host.blocking.spawn(tell_signs(Arc::downgrade(self)));
        }
    }

    /// The way to the node that decides, if it is not this one.
    pub(in crate::engine) fn away(&self) -> Option<&Away> {
        let away = self.away.get()?;
        (away.always || !self.terms.takes_calls()).then_some(&**away)
    }

    /// Whether there is nobody, as far as this node knows, who decides what it is asked for.
    pub(in crate::engine) fn nobody_decides(&self) -> bool {
        match self.away() {
            Some(away) => away.forward.owners().borrow().is_none(),
            None => self.terms.look(|_| ()).is_none(),
        }
    }

    /// Whether this node has given answers which it has not taken in itself.
    pub(in crate::engine) fn is_behind(&self) -> bool {
        let behind = self.away.get().map_or(0, |away| away.behind.load(Ordering::Acquire));
        behind > self.node.replica.applied().0
    }

    /// Has the owner decide a call, and waits, for a while, until this node has taken in what the answer rests on.
    ///
    /// On the heap: the calls of a machine of its own, which never comes here, would be moved with room for it.
    pub(in crate::engine) fn ask_owner<C: Call>(
        self: &Arc<Self>,
        call: C,
    ) -> Pin<Box<dyn Future<Output = Result<C::Answer, Error>> + Send + '_>> {
        Box::pin(self.ask_whoever_owns(call))
    }

    async fn ask_whoever_owns<C: Call>(self: &Arc<Self>, call: C) -> Result<C::Answer, Error> {
        let away = self.away.get().ok_or(Error::NoOwner)?;
        let _under_way = self.admit_to(away, C::KIND)?;
        let limits = &self.config.forwarding;
        let body = table::to_bytes(&call);
        if body.len() as u64 > limits.question_bytes {
            return Err(self.overloaded());
        }
        let deadline = Instant::now() + Duration::from_millis(limits.time_ms);
        let mut owners = away.forward.owners();
        let mut pause = ASK_AGAIN;
        loop {
            let owner = owners.borrow_and_update().clone().ok_or(Error::NoOwner)?;
            match self.put(away, &owner, &body, deadline).await {
                Ok(Answered { outcome: Outcome::NotTaken, .. }) | Err(Unanswered::NotTaken(_)) => {}
                Ok(Answered { lsn, outcome }) => {
                    self.catch_up(away, lsn).await;
                    return answer::<C>(outcome);
                }
                Err(Unanswered::Unknown(why)) => return Err(Error::OutcomeUnknown(why)),
            }
            // It was not taken. Whoever owns now is known soon, or has not begun yet.
            let until = deadline.min(Instant::now() + pause).into();
            let other = owners.wait_for(|now| now.as_ref().is_some_and(|now| *now != owner));
            let is_other = tokio::time::timeout_at(until, other).await.map(|known| known.is_ok());
            match is_other {
                Ok(false) => return Err(Error::NoOwner),
                _ if Instant::now() >= deadline => return Err(Error::NoOwner),
                Ok(true) => pause = ASK_AGAIN,
                Err(_) => pause = ASK_AGAIN_MAX.min(pause * 2),
            }
            if !away.always && self.terms.takes_calls() {
                return self.decide(call).await;
            }
        }
    }

    /// Lets a call in that is to be sent.
    fn admit_to<'a>(&self, away: &'a Away, kind: Kind) -> Result<UnderWay<'a>, Error> {
        let most = self.config.forwarding.calls;
        let most = if kind == Kind::Begin { most / 2 } else { most };
        if away.under_way.fetch_add(1, Ordering::AcqRel) >= most {
            away.under_way.fetch_sub(1, Ordering::AcqRel);
            return Err(self.overloaded());
        }
        let under_way = UnderWay(&away.under_way);
        if self.is_over() {
            return Err(self.not_taken());
        }
        Ok(under_way)
    }

    /// Puts a question to an owner.
    async fn put(&self, away: &Away, owner: &OwnerId, body: &[u8], deadline: Instant) -> Result<Answered, Unanswered> {
        let time_left = deadline.saturating_duration_since(Instant::now());
        let mut nonce = [0; _];
        getrandom::fill(&mut nonce).map_err(|error| Unanswered::NotTaken(error.to_string()))?;
        let until_ms = wall_clock().as_millis().saturating_add(time_left.as_millis() as u64);
        let question = envelope::seal(&away.secret, &Question { to: owner.clone(), nonce, until_ms, body });
        let answer = tokio::select! {
            biased;
            answer = away.forward.send(owner, question, time_left) => answer?,
            () = tokio::time::sleep_until(deadline.into()) => return Err(unknown("the owner did not answer in time")),
            () = deposed(away.forward.owners(), owner) => return Err(unknown("who was asked owns no more")),
        };
        let answer: Answer<'_> = envelope::open(&away.secret, &answer).map_err(|error| unknown(&error.to_string()))?;
        if answer.nonce != nonce {
            return Err(unknown("the answer is to another question"));
        }
        minicbor::decode(answer.body).map_err(|error| unknown(&error.to_string()))
    }

    /// Waits until this node has taken in what an answer rests on: not for long, since it is durable all the same.
    async fn catch_up(&self, away: &Away, lsn: Lsn) {
        let replica = &self.node.replica;
        if replica.applied() >= lsn {
            return;
        }
        let patience = Duration::from_millis(self.config.forwarding.behind_ms);
        if tokio::time::timeout(patience, replica.reached(lsn)).await.is_err() {
            away.behind.fetch_max(lsn.0, Ordering::AcqRel);
        }
    }

    /// Waits a while for what this node has not heard of yet: another one may have told it.
    pub(in crate::engine) async fn wait_for(&self, lsn: Lsn) {
        if self.away().is_some() {
            let patience = Duration::from_millis(self.config.forwarding.behind_ms);
            // Whoever asks for what nobody can know is answered as ever, only later.
            let _ = tokio::time::timeout(patience, self.node.replica.reached(lsn)).await;
        }
    }

    /// Whether to look again here for what was not found: this node has taken in since what it may not have known. Without
    /// asking, it is never said that something is not there.
    pub(in crate::engine) async fn may_have_come(self: &Arc<Self>, error: &Error) -> Result<bool, Error> {
        if !matches!(error, Error::Rejected(Rejection::NotFound)) {
            return Ok(false);
        }
        let Some(away) = self.away() else {
            self.certain().await?;
            return Ok(false);
        };
        Box::pin(self.ask_together(away)).await?;
        Ok(true)
    }

    /// Returns once this node knows all that anybody was told before it was called, whether it decides or not.
    pub(in crate::engine) async fn told_to_anybody(self: &Arc<Self>) -> Result<(), Error> {
        match self.away() {
            None => self.certain().await,
            Some(away) => Box::pin(self.ask_together(away)).await,
        }
    }

    /// Returns once this node knows all that anybody was told before it was called. Those that come while a question is under
    /// way share the next one.
    async fn ask_together(self: &Arc<Self>, away: &Away) -> Result<(), Error> {
        let confirming = &away.confirming;
        let before = confirming.begun.load(Ordering::Acquire);
        let mut last = confirming.last.lock().await;
        if last.0 <= before {
            let number = confirming.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let asked = self.ask_owner(Confirm {}).await;
            *last = (number, asked.err());
        }
        let failed = last.1.clone();
        drop(last);
        if self.is_behind() {
            return Err(Error::Overloaded(RETRY_AFTER));
        }
        failed.map_or(Ok(()), Err)
    }

    /// A reservation that the owner has answered, whole.
    pub(in crate::engine) async fn whole(self: &Arc<Self>, bare: BareReservation) -> Result<Reservation, Error> {
        let plan = self.offer_of_all(&bare).await?;
        Ok(bare.with(plan))
    }

    /// As [`whole`](Self::whole), of what has been done.
    pub(in crate::engine) async fn done(self: &Arc<Self>, bare: BareReservation) -> Result<Reservation, Error> {
        self.whole(bare)
            .await
            .map_err(|error| Error::OutcomeUnknown(format!("it was done, and cannot be told: {error}")))
    }

    /// The plan of a reservation's option, also if this node has not heard of the one or the other.
    async fn offer_of_all(self: &Arc<Self>, bare: &BareReservation) -> Result<Arc<PricedPlan>, Error> {
        let id = bare.id.option;
        match self.offer(id).await {
            Err(Error::Rejected(Rejection::NotFound)) => {}
            Ok(plan) if !bare.fits(&plan) => {}
            known => return known,
        }
        let definition = self.ask_owner(GetDefinition { id }).await?;
        for hash in definition.former_plans().iter().copied().chain([definition.plan]) {
            if self.kept_plan(hash).await?.is_none() {
                let json = self.plan_of_all(hash).await?;
                self.keep_plan(hash, json).await?;
            }
        }
        let inner = self.clone();
        self.on_blocking_thread(move || inner.offer_as_defined(id, definition)).await?
    }

    /// A seating plan that some node has put where all find it.
    pub(in crate::engine) async fn plan_of_all(self: &Arc<Self>, hash: PlanHash) -> Result<Vec<u8>, Error> {
        if let Some(json) = self.kept_plan(hash).await? {
            return Ok(json);
        }
        let away = self.away.get().ok_or(Error::NoOwner)?;
        let found = away.forward.plan(hash).await;
        let found = found.map_err(|_| self.overloaded())?;
        let json = found.filter(|json| PlanHash::of(json) == hash);
        json.ok_or_else(|| Error::Internal(format!("the seating plan {hash} is not there")))
    }

    /// Puts a seating plan where all nodes find it.
    pub(in crate::engine) async fn put_plan(&self, hash: PlanHash, json: Vec<u8>) -> Result<(), Error> {
        let away = self.away.get().ok_or(Error::NoOwner)?;
        // Nothing rests on it yet, whatever became of it.
        away.forward.put_plan(hash, json).await.map_err(|_| self.overloaded())
    }

    /// A caller who may see a token has given a sign of life.
    ///
    /// # Errors
    /// [`Error::NoOwner`]: the owner has not heard of those in this line for so long that it is not certain that they are still in it.
    pub(in crate::engine) fn alive(self: &Arc<Self>, id: TokenId) -> Result<(), Error> {
        let Some(away) = self.away() else {
            super::super::seen(&self.node.liveness, id);
            return Ok(());
        };
        let ttl = self.glance(|replica| replica.room(id.concert).map(|room| room.settings().waiting_ttl_seconds))?;
        // One that nobody has looked at for long is not in memory; then it is told in time for the shortest patience.
        let is_known = ttl.is_ok();
        let ttl_ms = ttl.map_or(1_000, |seconds| u64::from(seconds) * 1_000);
        let mut signs = away.signs.lock();
        let due_before = signs.due_at();
        let noted = signs.note(away.begun.elapsed().as_millis() as u64, id, ttl_ms);
        if signs.due_at() != due_before {
            away.has_signs.notify_one();
        }
        drop(signs);
        if is_known { noted.map_err(|_| Error::NoOwner) } else { Ok(()) }
    }

    /// As [`alive`](Self::alive), where it stands against nothing.
    pub(in crate::engine) fn heard_from(self: &Arc<Self>, caller: &Caller, id: TokenId) {
        // Somebody else's look says nothing of the holder.
        if matches!(caller, Caller::User(_)) {
            let _ = self.alive(id);
        }
    }

    /// Another node has seen signs of life.
    pub(in crate::engine) fn heard_of(&self, concert: ConcertId, tokens: &[u64]) -> Result<(), Error> {
        self.owned(|_| ())?;
        tokens.iter().for_each(|&no| super::super::seen(&self.node.liveness, TokenId { concert, no }));
        Ok(())
    }
}

fn unknown(why: &str) -> Unanswered {
    Unanswered::Unknown(why.to_owned())
}

/// Returns when another one than `owner` is known to own, and what that one had answered has had time to come. That nobody is
/// known for a while says nothing of the answer.
async fn deposed(mut owners: watch::Receiver<Option<OwnerId>>, owner: &OwnerId) {
    let is_other = |now: &Option<OwnerId>| now.as_ref().is_some_and(|now| now != owner);
    let changed = owners.wait_for(is_other).await.is_ok();
    if !changed {
        // Nobody says any more who owns.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(LAST_WORDS).await;
}

/// What a caller is told.
pub(super) fn answer<C: Call>(outcome: Outcome) -> Result<C::Answer, Error> {
    match outcome {
        Outcome::Done(bytes) => minicbor::decode(&bytes).map_err(|error| {
            let why = format!("the answer of the owner cannot be read: {error}");
            if C::KIND == Kind::Read { Error::Internal(why) } else { Error::OutcomeUnknown(why) }
        }),
        Outcome::Failed(error) => Err(error),
        Outcome::NotTaken => Err(Error::NoOwner),
        Outcome::Late => Err(Error::Overloaded(RETRY_AFTER)),
        Outcome::Unknown => Err(Error::Internal("the owner does not know this call: its program is older".into())),
    }
}

/// Tells the owner of signs of life, for as long as the engine is there.
async fn tell_signs(inner: Weak<Inner>) {
    loop {
        let Some(here) = inner.upgrade() else { return };
        if here.is_over() {
            return;
        }
        let Some(away) = here.away.get() else { return };
        let now = away.begun.elapsed().as_millis() as u64;
        let (batch, due_at) = {
            let mut signs = away.signs.lock();
            (signs.due(now), signs.due_at())
        };
        if let Some(batch) = batch {
            here.tell(away, batch).await;
            continue;
        }
        let has_signs = away.has_signs.clone();
        drop(here);
        // That the engine is gone is found out within a second.
        let wait = due_at.map_or(SIGNS_TIME, |at| Duration::from_millis(at.saturating_sub(now)).min(SIGNS_TIME));
        // Either is a reason to look again.
        let _ = tokio::time::timeout(wait.max(Duration::from_millis(1)), has_signs.notified()).await;
    }
}

impl Inner {
    async fn tell(self: &Arc<Self>, away: &Away, batch: Batch) {
        let seen = Seen { concert: batch.concert, tokens: batch.tokens.clone() };
        let told = match self.away() {
            Some(_) => tokio::time::timeout(SIGNS_TIME, self.ask_owner(seen)).await,
            // This node has become the owner meanwhile.
            None => Ok(self.heard_of(seen.concert, &seen.tokens)),
        };
        if let Ok(Ok(())) = told {
            away.signs.lock().heard(&batch);
            return;
        }
        away.signs.lock().not_heard(batch);
        tokio::time::sleep(SIGNS_PAUSE).await;
    }
}
