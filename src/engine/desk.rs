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
use tokio::task::JoinSet;

use super::{Engine, Inner};
use crate::api::Caller;
use crate::domain::concert_option::Payment;
use crate::domain::{PaymentId, Rejection, Timestamp};
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
type Pauses = HashMap<Due, Pause>;

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
        let (provider, pauses) = (self.provider.clone(), self.pauses.clone());
        pauses.lock().entry(what).or_insert(Pause { until: None, next: PAUSES.0 }).until = None;
        async move {
            let _under_way = UnderWay { pauses, what };
            let done = async {
                let payment = inner.find_payment(what.0).await.map_err(|error| error.to_string())?;
                let Some(task) = Task::of(what, &payment) else { return Ok(()) };
                execute(&inner, &*provider, &task).await
            };
            if let Err(why) = Box::pin(done).await {
                let (payment, owed) = what;
                tracing::warn!(%payment, owed, %why, "what is owed is not done");
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
        owed_for: Duration::from_millis(inner.now().as_millis().saturating_sub(task.owed.since.as_millis())),
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
