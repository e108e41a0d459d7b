//! Does what is owed of providers' payments: reads what is owed, again before each call, has the provider do it, and reports
//! what it did.
//!
//! The options tell each second on which of them something is owed. It runs where the options do, so on the node that
//! decides, and nothing here is remembered that a crash would lose: a provider's idempotency key is made of the
//! installation, the payment, what is owed and the attempt, and attempts are counted by the option.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{Engine, Inner};
use crate::api::Caller;
use crate::domain::concert_option::Payment;
use crate::domain::{PaymentId, Rejection};
use crate::error::Error;
use crate::payment::{Charge, Fact, Failure, Kind, Opened, Order, Owed, OwedKind, Provider};

/// How often it is looked whether something is owed, if nobody says so.
const LOOK: Duration = Duration::from_secs(1);
/// The first pause after something was not done, and the longest; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Providers forget idempotency keys: what is owed for longer is looked up before it is done.
pub(crate) const OLD_MS: u64 = 12 * 3_600_000;
/// So much is done at once, for one provider.
const AT_ONCE: usize = 16;

/// A provider that is driven; it is until this is dropped, or the engine ends.
#[must_use]
#[derive(Debug)]
pub struct AttachedProvider {
    task: tokio::task::AbortHandle,
}

impl Drop for AttachedProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is under way or has to wait, by what is owed.
type Pauses = HashMap<(PaymentId, u32), Pause>;

#[derive(Debug, Clone, Copy)]
struct Pause {
    /// `None`: it is under way.
    until: Option<tokio::time::Instant>,
    next: Duration,
}

impl Engine {
    /// Has what is owed of payments by the provider `name` done by `provider`, from now on, as long as this node decides. What
    /// is not done is tried again, with a pause and without end.
    pub fn attach_provider(&self, name: &str, provider: Arc<dyn Provider>) -> AttachedProvider {
        let (inner, name) = (Arc::downgrade(&self.0), name.to_owned());
        self.0.providers.lock().insert(name.clone(), provider.clone());
        let driver = Driver { inner, name, provider, pauses: Arc::default() };
        AttachedProvider { task: self.0.host.blocking.spawn(driver.run()).abort_handle() }
    }

    /// What the buyer's page needs to pay a pending payment, from the provider that is attached under its method: what it has
    /// opened is durable before this returns.
    ///
    /// # Errors
    /// [`Rejection::NotFound`]: it is somebody else's, no provider of its method is attached here, or it is not pending;
    /// [`Error::Overloaded`]: the provider cannot be reached.
    pub async fn checkout(&self, caller: &Caller, id: PaymentId) -> Result<String, Error> {
        let seen = self.payment(caller, id).await?;
        let pending = seen.status == crate::api::PaymentStatus::Pending;
        let provided = seen.provided.filter(|_| pending).ok_or(Rejection::NotFound)?;
        let provider = self.0.providers.lock().get(&provided.method).cloned().ok_or(Rejection::NotFound)?;
        let order = Order {
            payment: id,
            key: format!("{}-begin", provided.provider_id),
            provider_id: provided.provider_id,
            amount: seen.amount,
            currency: provided.currency,
            expires_at: provided.expires_at,
        };
        let Opened { reference, checkout } = provider.begin(&order).await.map_err(|failure| {
            tracing::warn!(payment = %id, %failure, "a provider has opened no charge");
            Error::Overloaded(super::RETRY_AFTER)
        })?;
        let kind = Kind::Opened;
        let fact =
            Fact { kind, reference, id: None, amount: order.amount, currency: order.currency, at: None, reason: None };
        self.report(id, fact).await?;
        Ok(checkout)
    }
}

/// Drives one provider.
struct Driver {
    inner: Weak<Inner>,
    name: String,
    provider: Arc<dyn Provider>,
    pauses: Arc<Mutex<Pauses>>,
}

/// Something that is owed, and what has to be known to do it.
#[derive(Debug, Clone)]
struct Task {
    payment: PaymentId,
    owed: Owed,
    provider_id: String,
}

impl Driver {
    async fn run(self) {
        let mut under_way = JoinSet::new();
        loop {
            let Some(inner) = self.inner.upgrade() else { return };
            if inner.is_over() {
                return;
            }
            let desk = inner.host.desk().clone();
            if inner.terms.takes_calls() {
                for task in self.due(&inner).await {
                    if under_way.len() >= AT_ONCE {
                        let _ = under_way.join_next().await;
                    }
                    under_way.spawn(self.execute(inner.clone(), task));
                }
            }
            drop(inner);
            while under_way.try_join_next().is_some() {}
            desk.changed(LOOK).await;
        }
    }

    /// What is owed, not under way, and has waited for long enough.
    async fn due(&self, inner: &Arc<Inner>) -> Vec<Task> {
        let options = inner.host.desk().owing();
        // What was said just now is not durable yet: who looked at once would find nothing, and forget it.
        let Ok(appended) = inner.owned(|system| system.env.writer.appended()) else { return Vec::new() };
        if inner.node.replica.reached(appended).await.is_err() {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut known = BTreeSet::new();
        for option in options {
            let owing = inner.read(|replica| {
                let state = replica.option(option)?;
                Ok(state.owing_payments().map(|(no, payment)| (no, payment.clone())).collect::<Vec<_>>())
            });
            let Ok(owing) = owing.await else { continue };
            if owing.is_empty() {
                inner.host.desk().settled(option);
            }
            for (no, payment) in owing {
                let id = PaymentId { option, no };
                for task in self.tasks(id, &payment) {
                    known.insert((id, task.owed.no));
                    due.push(task);
                }
            }
        }
        let now = tokio::time::Instant::now();
        let mut pauses = self.pauses.lock();
        pauses.retain(|what, pause| pause.until.is_none() || known.contains(what));
        due.retain(|task| match pauses.get(&(task.payment, task.owed.no)) {
            None => true,
            Some(pause) => pause.until.is_some_and(|until| until <= now),
        });
        for task in &due {
            let pause = pauses.entry((task.payment, task.owed.no)).or_insert(Pause { until: None, next: PAUSES.0 });
            pause.until = None;
        }
        due
    }

    /// What of a payment is for this provider to do.
    fn tasks(&self, id: PaymentId, payment: &Payment) -> Vec<Task> {
        let Some(by) = payment.provider.as_deref().filter(|by| by.terms.method == self.name) else { return Vec::new() };
        let provider_id = by.terms.provider_id(id);
        let owed = by.owed.iter().filter(|owed| !owed.by_hand);
        owed.map(|owed| Task { payment: id, owed: owed.clone(), provider_id: provider_id.clone() }).collect()
    }

    fn execute(&self, inner: Arc<Inner>, task: Task) -> impl Future<Output = ()> + Send + 'static {
        let (provider, pauses) = (self.provider.clone(), self.pauses.clone());
        async move {
            let _under_way = UnderWay { pauses, what: (task.payment, task.owed.no) };
            let done = Box::pin(execute(&inner, &*provider, &task)).await;
            if let Err(why) = &done {
                tracing::warn!(payment = %task.payment, owed = ?task.owed.kind, %why, "what is owed is not done");
            }
        }
    }
}

/// Something that is being done. Once it is not any more, also since that panicked, it waits before it is done again.
struct UnderWay {
    pauses: Arc<Mutex<Pauses>>,
    what: (PaymentId, u32),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(pause) = self.pauses.lock().get_mut(&self.what) {
            // If it was done it is owed no more; if it still is, that takes a moment to be seen, or nothing came of it.
            pause.until = Some(tokio::time::Instant::now() + pause.next);
            pause.next = (pause.next * 2).min(PAUSES.1);
        }
    }
}

async fn execute(inner: &Arc<Inner>, provider: &dyn Provider, task: &Task) -> Result<(), String> {
    let said = |error: Error| error.to_string();
    // Only the owner may say what is owed, and it may have been done meanwhile.
    inner.certain().await.map_err(said)?;
    inner.up_to_date().await.map_err(said)?;
    let is_owed = || async { Ok(inner.owed(task.payment).await?.contains(&task.owed)) };
    if !is_owed().await.map_err(said)? {
        return Ok(());
    }
    let is_old = task.owed.since.plus_millis(OLD_MS) <= inner.now();
    if is_old || task.owed.kind == OwedKind::Check {
        look_up(inner, provider, task).await?;
        if task.owed.kind == OwedKind::Check || !is_owed().await.map_err(said)? {
            return Ok(());
        }
    }
    let charge = Charge {
        provider_id: task.provider_id.clone(),
        reference: task.owed.reference.clone().unwrap_or_default(),
        amount: task.owed.amount,
        currency: task.owed.currency,
        key: format!("{}-{}-{}", task.provider_id, task.owed.no, task.owed.attempts),
    };
    let done = match task.owed.kind {
        OwedKind::Capture => provider.capture(&charge).await,
        OwedKind::Void => provider.void(&charge).await,
        OwedKind::Refund => provider.refund(&charge).await,
        OwedKind::Check => return Ok(()),
    };
    match done {
        Ok(facts) => report_all(inner, task.payment, facts).await,
        Err(failure @ Failure::Unknown(_)) => Err(failure.to_string()),
        Err(failure @ Failure::Definite(_)) => {
            inner.attempted(task.payment, task.owed.no, task.owed.attempts).await.map_err(said)?;
            // What stands against it may have been done long since.
            look_up(inner, provider, task).await?;
            Err(failure.to_string())
        }
    }
}

/// Reports all that the provider knows of a payment.
async fn look_up(inner: &Arc<Inner>, provider: &dyn Provider, task: &Task) -> Result<(), String> {
    let mut facts = provider.look_up(&task.provider_id).await.map_err(|failure| failure.to_string())?;
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
    report_all(inner, task.payment, facts).await
}

async fn report_all(inner: &Arc<Inner>, payment: PaymentId, facts: Vec<Fact>) -> Result<(), String> {
    let mut wrong = None;
    for fact in facts {
        if let Err(error) = inner.report(payment, fact).await {
            // The others may still be right.
            wrong = Some(error.to_string());
        }
    }
    wrong.map_or(Ok(()), Err)
}
