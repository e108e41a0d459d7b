//! Does what is owed of providers' payments: reads what is owed, again before each call, has the provider do it, and reports
//! what it did.
//!
//! The options tell each second on which of them something is owed. It runs where the options do, so on the node that
//! decides, and nothing here is remembered that a crash would lose: a provider's idempotency key is made of the
//! installation, the payment, what is owed and the attempt, and attempts are counted by the option.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};

use super::{Engine, Inner};
use crate::api::{self, Caller};
use crate::domain::concert_option::Payment;
use crate::domain::reconciliation::Day;
use crate::domain::{PaymentId, Rejection, Timestamp};
use crate::error::Error;
use crate::payment::{Charge, Doing, Fact, Failure, Kind, Opened, Order, Owed, OwedKind, Provider};

/// How often it is looked whether something is owed, if nobody says so.
const LOOK: Duration = Duration::from_secs(1);
/// The first pause after something was not done, and the longest; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Providers forget idempotency keys: what is owed for longer is looked up before it is done.
pub(crate) const OLD_MS: u64 = 12 * 3_600_000;
/// What was done on a day is listed within the time of so many calls.
pub(crate) const LISTING_CALLS: u32 = 20;
/// So much is done at once, for one provider.
const AT_ONCE: usize = 16;

/// A provider that is driven; it is until this is dropped, another one is attached under its name, or the engine ends.
#[must_use]
#[derive(Debug)]
pub struct AttachedProvider {
    inner: Weak<Inner>,
    name: String,
    task: AbortHandle,
}

impl Drop for AttachedProvider {
    fn drop(&mut self) {
        self.task.abort();
        let Some(inner) = self.inner.upgrade() else { return };
        let mut providers = inner.providers.lock();
        // Whoever came later under this name stays.
        let is_driven = providers.get(&self.name).is_some_and(|driven| driven.task.id() == self.task.id());
        let removed = if is_driven { providers.remove(&self.name) } else { None };
        drop(providers);
        // Not under the lock: it is the host's, and may do anything as it goes.
        drop(removed);
    }
}

/// Who is driven under a name.
pub(super) struct Driven {
    clerk: Clerk,
    task: AbortHandle,
}

/// What is under way or has to wait, by what is owed.
type Pauses = HashMap<Due, Pause>;

#[derive(Debug, Clone, Copy)]
struct Pause {
    /// `None`: it is under way.
    until: Option<tokio::time::Instant>,
    next: Duration,
    /// Nobody knows what came of the last time.
    unsure: bool,
}

impl Engine {
    /// Has what is owed of payments by the provider `name` done by `provider`, from now on, as long as this node decides. What
    /// is not done is tried again, with a pause and without end. A call that has not returned within `payments.call_timeout_ms` is
    /// dropped; before it is made again the provider is asked what came of it. Who was attached under this name before is
    /// not any more.
    pub fn attach_provider(&self, name: &str, provider: Arc<dyn Provider>) -> AttachedProvider {
        let (inner, name) = (Arc::downgrade(&self.0), name.to_owned());
        let within = Duration::from_millis(self.0.config.payments.call_timeout_ms);
        let clerk = Clerk { provider, within };
        let driver = Driver { inner: inner.clone(), name: name.clone(), clerk: clerk.clone(), pauses: Arc::default() };
        let task = self.0.host.blocking.spawn(driver.run()).abort_handle();
        let before = self.0.providers.lock().insert(name.clone(), Driven { clerk, task: task.clone() });
        if let Some(before) = before {
            before.task.abort();
        }
        AttachedProvider { inner, name, task }
    }

    /// What the buyer's page needs to pay a pending payment, from the provider that is attached under its method: what it has
    /// opened is durable before this returns.
    ///
    /// # Errors
    /// [`Rejection::NotFound`]: it is somebody else's, no provider of its method is attached here, or it is not pending;
    /// [`Error::Overloaded`]: the provider cannot be reached; [`Error::Invalid`] `method`: it has refused, for its currency or its amount.
    pub async fn checkout(&self, caller: &Caller, id: PaymentId) -> Result<String, Error> {
        let seen = self.payment(caller, id).await?;
        let pending = seen.status == crate::api::PaymentStatus::Pending;
        let provided = seen.provided.filter(|_| pending).ok_or(Rejection::NotFound)?;
        let clerk = Clerk::attached(&self.0, &provided.method).ok_or(Rejection::NotFound)?;
        let order = Order {
            payment: id,
            key: format!("{}-begin", provided.provider_id),
            provider_id: provided.provider_id,
            amount: seen.amount,
            currency: provided.currency,
            expires_at: provided.expires_at,
        };
        let Opened { reference, checkout } = clerk.answer(1, "method", clerk.provider.begin(&order)).await?;
        let kind = Kind::Opened;
        let fact =
            Fact { kind, reference, id: None, amount: order.amount, currency: order.currency, at: None, reason: None };
        self.report(id, fact).await?;
        Ok(checkout)
    }

    /// Asks the provider that is attached under a payment's method what became of it, and reports what it says; the payment as it
    /// stands then.
    ///
    /// # Errors
    /// [`Rejection::NotFound`]: there is no such payment by a provider. [`Error::Invalid`] `method`: none is attached here. [`Error::Overloaded`]: it
    /// cannot be reached. What [`report`](Self::report) refuses of what it says, once all else of it is reported.
    pub async fn look_up_payment(&self, id: PaymentId) -> Result<api::Payment, Error> {
        let provided = self.payment(&Caller::Admin, id).await?.provided.ok_or(Rejection::NotFound)?;
        let clerk = Clerk::attached(&self.0, &provided.method);
        let clerk = clerk.ok_or_else(|| Error::invalid("method", "is of a provider that somebody else asks"))?;
        let facts = clerk.answer(1, "method", clerk.provider.look_up(&provided.provider_id)).await?;
        self.report_all(id, facts).await?;
        self.payment(&Caller::Admin, id).await
    }

    /// Reports all of these, whatever is wrong with one of them, and then says so; the payment as it stood after the last one.
    pub(crate) async fn report_all(&self, id: PaymentId, facts: Vec<Fact>) -> Result<Option<api::Payment>, Error> {
        let (mut seen, mut refused) = (None, None);
        for fact in facts {
            let kind = fact.kind;
            match self.report(id, fact).await {
                Ok(payment) => seen = Some(payment),
                Err(error) => {
                    tracing::warn!(payment = %id, ?kind, %error, "what a provider says is not taken");
                    refused = refused.or(Some(error));
                }
            }
        }
        refused.map_or(Ok(seen), Err)
    }
}

/// What a provider does, if it does so in time.
pub(crate) async fn in_time<T>(within: Duration, doing: Doing<'_, T>) -> Result<T, Failure> {
    let late = |_| Err(Failure::Unknown(format!("no answer within {within:?}")));
    tokio::time::timeout(within, doing).await.unwrap_or_else(late)
}

/// A provider that is called, and how long it may take.
#[derive(Clone)]
struct Clerk {
    provider: Arc<dyn Provider>,
    within: Duration,
}

impl Clerk {
    /// The one of whoever is attached under `name`.
    fn attached(inner: &Inner, name: &str) -> Option<Self> {
        inner.providers.lock().get(name).map(|driven| driven.clerk.clone())
    }

    /// What the provider answers whoever waits for it, and may take as long for as so many calls. What it refuses for certain is no use to
    /// ask again: it was wrong to choose it, by `field`.
    async fn answer<T>(&self, calls: u32, field: &str, doing: Doing<'_, T>) -> Result<T, Error> {
        in_time(self.within.saturating_mul(calls), doing).await.map_err(|failure| {
            tracing::warn!(%failure, "a provider does not do what somebody waits for");
            match failure {
                Failure::Unknown(_) => Error::Overloaded(super::RETRY_AFTER),
                Failure::Definite(_) => Error::invalid(field, "is of a provider that refuses this"),
            }
        })
    }
}

/// Why something is not done.
struct Undone {
    why: String,
    /// It may have been done all the same.
    unsure: bool,
}

impl<E: std::fmt::Display> From<E> for Undone {
    fn from(error: E) -> Self {
        Self { why: error.to_string(), unsure: true }
    }
}

/// What a provider lists of a day. That may take as long as some calls, since it may be on many pages.
pub(super) async fn listed(inner: &Inner, name: &str, day: Day) -> Result<Vec<Fact>, Error> {
    let clerk = Clerk::attached(inner, name);
    let clerk = clerk.ok_or_else(|| Error::invalid("provider", "is not attached here"))?;
    let listing = clerk.provider.list(day);
    let listing = listing.ok_or_else(|| Error::invalid("provider", "does not list what it did"))?;
    clerk.answer(LISTING_CALLS, "provider", listing).await
}

/// Drives one provider.
struct Driver {
    inner: Weak<Inner>,
    name: String,
    clerk: Clerk,
    pauses: Arc<Mutex<Pauses>>,
}

/// Something that is owed: of which payment, and its number there.
type Due = (PaymentId, u32);

impl Driver {
    async fn run(self) {
        let mut under_way = JoinSet::new();
        loop {
            let Some(inner) = self.inner.upgrade() else { return };
            if inner.is_over() {
                return;
            }
            let desk = inner.host.desk().clone();
            let mut due = if inner.terms.takes_calls() { self.due(&inner).await } else { Vec::new() };
            drop(inner);
            // What is not begun until then is found again, with what has become more urgent.
            let mut changed = pin!(desk.changed(LOOK));
            loop {
                while under_way.len() < AT_ONCE
                    && let Some(task) = due.pop()
                {
                    let Some(inner) = self.inner.upgrade() else { return };
                    under_way.spawn(self.execute(inner, task));
                }
                tokio::select! {
                    () = &mut changed => break,
                    Some(_) = under_way.join_next() => {}
                }
            }
        }
    }

    /// What is owed, not under way, and has waited for long enough; what is to be done first is last. Captures are before all
    /// else, since they have an end, and then what is owed for longest.
    async fn due(&self, inner: &Arc<Inner>) -> Vec<Due> {
        let options = inner.host.desk().owing();
        // What was said just now is not durable yet: who looked at once would find nothing, and forget it.
        let Ok(appended) = inner.owned(|system| system.env.writer.appended()) else { return Vec::new() };
        if inner.node.replica.reached(appended).await.is_err() {
            return Vec::new();
        }
        let mut owed = Vec::new();
        for option in options {
            let of_option = inner.read(|replica| {
                let mut owing = replica.option(option)?.owing_payments().peekable();
                let is_settled = owing.peek().is_none();
                let owed = owing.flat_map(|(no, payment)| self.owed(PaymentId { option, no }, payment));
                Ok((owed.collect::<Vec<_>>(), is_settled))
            });
            let Ok((of_option, is_settled)) = of_option.await else { continue };
            if is_settled {
                inner.host.desk().settled(option);
            }
            owed.extend(of_option);
        }
        let known: HashSet<Due> = owed.iter().map(|(_, task)| *task).collect();
        let now = tokio::time::Instant::now();
        let mut pauses = self.pauses.lock();
        pauses.retain(|what, pause| pause.until.is_none() || known.contains(what));
        owed.retain(|(_, task)| match pauses.get(task) {
            None => true,
            Some(pause) => pause.until.is_some_and(|until| until <= now),
        });
        drop(pauses);
        owed.sort_unstable_by_key(|((kind, since), task)| (*kind == OwedKind::Capture, Reverse((*since, *task))));
        owed.into_iter().map(|(_, task)| task).collect()
    }

    /// What of a payment is for this provider to do.
    fn owed(&self, id: PaymentId, payment: &Payment) -> impl Iterator<Item = ((OwedKind, Timestamp), Due)> {
        let by = payment.provider.as_deref().filter(|by| by.terms.method == self.name);
        let owed = by.into_iter().flat_map(|by| &by.owed).filter(|owed| !owed.by_hand);
        owed.map(move |owed| ((owed.kind, owed.since), (id, owed.no)))
    }

    fn execute(&self, inner: Arc<Inner>, what: Due) -> impl Future<Output = ()> + Send + 'static {
        let (clerk, pauses) = (self.clerk.clone(), self.pauses.clone());
        let under_way = UnderWay { pauses, what, unsure: true };
        let unsure = under_way.begin();
        async move {
            // All of it: it is under way until this ends.
            let mut under_way = under_way;
            let done = async {
                let payment = inner.find_payment(what.0).await?;
                let Some(task) = Task::of(what, &payment) else { return Ok(()) };
                clerk.execute(&inner, &task, unsure).await
            };
            if let Err(Undone { why, unsure }) = Box::pin(done).await {
                let (payment, owed) = what;
                tracing::warn!(%payment, owed, %why, "what is owed is not done");
                under_way.unsure = unsure;
            }
        }
    }
}

/// Something that is owed, and what has to be known to do it.
#[derive(Debug, Clone)]
struct Task {
    payment: PaymentId,
    owed: Owed,
    provider_id: String,
}

impl Task {
    fn of((id, no): Due, payment: &Payment) -> Option<Self> {
        let by = payment.provider.as_deref()?;
        let owed = by.owed.iter().find(|owed| owed.no == no)?.clone();
        Some(Self { payment: id, owed, provider_id: by.terms.provider_id(id) })
    }
}

/// Something that is being done. Once it is not any more, also since that panicked, it waits before it is done again.
struct UnderWay {
    pauses: Arc<Mutex<Pauses>>,
    what: Due,
    /// Nobody knows what came of it.
    unsure: bool,
}

impl UnderWay {
    /// Says that it is, and whether nobody knows what came of it the last time.
    fn begin(&self) -> bool {
        let mut pauses = self.pauses.lock();
        let pause = pauses.entry(self.what).or_insert(Pause { until: None, next: PAUSES.0, unsure: false });
        pause.until = None;
        pause.unsure
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(pause) = self.pauses.lock().get_mut(&self.what) {
            // If it was done it is owed no more; if it still is, that takes a moment to be seen, or nothing came of it.
            pause.until = Some(tokio::time::Instant::now() + pause.next);
            pause.next = (pause.next * 2).min(PAUSES.1);
            pause.unsure = self.unsure;
        }
    }
}

impl Clerk {
    /// Does what is owed; if nobody knows what came of it the last time, only once that was asked.
    async fn execute(&self, inner: &Arc<Inner>, task: &Task, unsure: bool) -> Result<(), Undone> {
        // Only the owner may say what is owed, and it may have been done meanwhile.
        inner.certain().await?;
        inner.up_to_date().await?;
        let is_owed = async || Ok::<_, Error>(inner.owed(task.payment).await?.contains(&task.owed));
        if !is_owed().await? {
            return Ok(());
        }
        let is_old = task.owed.since.plus_millis(OLD_MS) <= inner.now();
        if is_old || unsure || task.owed.kind == OwedKind::Check {
            self.look_up(inner, task).await?;
            if task.owed.kind == OwedKind::Check || !is_owed().await? {
                return Ok(());
            }
        }
        let charge = Charge {
            provider_id: task.provider_id.clone(),
            reference: task.owed.reference.clone().unwrap_or_default(),
            amount: task.owed.amount,
            currency: task.owed.currency,
            key: format!("{}-{}-{}", task.provider_id, task.owed.no, task.owed.attempts),
            owed_for: inner.now().since(task.owed.since),
        };
        let doing = match task.owed.kind {
            OwedKind::Capture => self.provider.capture(&charge),
            OwedKind::Void => self.provider.void(&charge),
            OwedKind::Refund => self.provider.refund(&charge),
            OwedKind::Check => return Ok(()),
        };
        match in_time(self.within, doing).await {
            Ok(facts) => Ok(Engine(inner.clone()).report_all(task.payment, facts).await.map(drop)?),
            Err(failure @ Failure::Unknown(_)) => Err(failure.into()),
            Err(failure @ Failure::Definite(_)) => {
                inner.attempted(task.payment, task.owed.no, task.owed.attempts).await?;
                // What stands against it may have been done long since.
                self.look_up(inner, task).await?;
                Err(Undone { why: failure.to_string(), unsure: false })
            }
        }
    }

    /// Reports all that the provider knows of a payment.
    async fn look_up(&self, inner: &Arc<Inner>, task: &Task) -> Result<(), Undone> {
        let mut facts = in_time(self.within, self.provider.look_up(&task.provider_id)).await?;
        if facts.is_empty() && task.owed.kind == OwedKind::Check {
            // Nobody knows of a charge, and none can begin any more.
            facts.push(Fact {
                kind: Kind::Voided,
                reference: task.provider_id.clone(),
                id: None,
                amount: task.owed.amount,
                currency: task.owed.currency,
                at: None,
                reason: Some("the provider knows of no charge".into()),
            });
        }
        Ok(Engine(inner.clone()).report_all(task.payment, facts).await.map(drop)?)
    }
}
