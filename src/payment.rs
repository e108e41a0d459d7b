//! Payments by providers: what a host brings so that cards can be taken.
//!
//! The engine decides, and tells what is owed; a [`Provider`] does it, and says what it did as [`Fact`]s. The engine holds no
//! card data and no provider's code. Whoever attaches a provider ([`Engine::attach_provider`](crate::Engine::attach_provider))
//! has what is owed executed; a host may as well read [`Engine::provided_payments`](crate::Engine::provided_payments), do it itself, and
//! [report](crate::Engine::report) it.

use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::domain::concert_option::{Late, Owed, OwedKind, ProviderStatus as Status};
pub use crate::domain::facts::{Fact, Kind, Totals};
pub use crate::domain::reconciliation::{Day, Differences, Movement, NoDay};
use crate::domain::{Currency, PaymentId, Points, Timestamp};

/// How a provider takes payments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// The name by which options list it among their `payment_methods`.
    pub name: String,
    /// Milliseconds for which seats stay pinned while the buyer pays, 1,000 to 86,400,000.
    pub pay_within_ms: u64,
    /// Milliseconds for which they stay pinned after the verdict to capture, 1,000 to 86,400,000.
    pub capture_within_ms: u64,
    /// Milliseconds for which a payment stays in memory after its deadline, up to 31,536,000,000, but not after the performance
    /// has begun: afterwards what is heard of it is looked up.
    pub late_within_ms: u64,
    /// What becomes of money that comes when its seats are free.
    pub late: Late,
    /// The least amount that it takes, if not nothing.
    pub minimum: Points,
    /// The currencies that it takes; none: any.
    pub currencies: Vec<Currency>,
    /// Whether payments may begin.
    pub enabled: bool,
}

impl Method {
    /// Whether it takes payments in `currency`.
    #[must_use]
    pub fn takes(&self, currency: Currency) -> bool {
        self.currencies.is_empty() || self.currencies.contains(&currency)
    }
}

impl Default for Method {
    fn default() -> Self {
        Self {
            name: String::new(),
            pay_within_ms: 600_000,
            capture_within_ms: 600_000,
            late_within_ms: 30 * 24 * 3_600_000,
            late: Late::Reacquire,
            minimum: Points::ZERO,
            currencies: Vec::new(),
            enabled: true,
        }
    }
}

/// How much of one kind providers owe, in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwedSum {
    /// What.
    pub kind: OwedKind,
    /// So many times.
    pub count: u64,
    /// Since when the oldest of it is.
    pub since: Timestamp,
}

/// A payment to be opened at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id in the engine.
    pub payment: PaymentId,
    /// What it is to be called at the provider.
    pub provider_id: String,
    /// How much.
    pub amount: Points,
    /// Of what.
    pub currency: Currency,
    /// Until when the buyer may pay.
    pub expires_at: Timestamp,
    /// The idempotency key to be used.
    pub key: String,
}

/// What a provider has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its name for the charge.
    pub reference: String,
    /// What the buyer's page needs to pay, as JSON. It is not stored.
    pub checkout: String,
}

/// Something to be done with a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// What the payment is called at the provider.
    pub provider_id: String,
    /// The provider's name for the charge.
    pub reference: String,
    /// How much.
    pub amount: Points,
    /// Of what.
    pub currency: Currency,
    /// The idempotency key to be used: the same for the same attempt.
    pub key: String,
    /// For how long it has been owed.
    pub owed_for: Duration,
}

/// Why something was not done, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may have been done: it is asked for again under the same key.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
    /// It is certain not to have been done: it is asked for again under another key.
    #[error("{0}")]
    Definite(String),
}

/// What a provider is doing.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A payment provider, as the engine drives it. No call may block its thread; one that has not returned within
/// `payments.call_timeout_ms` is dropped. Each call may be made again with the same key, and must then do nothing
/// twice. What it did is told as facts, here or by [`Engine::report`](crate::Engine::report), as often as it likes.
pub trait Provider: Send + Sync + 'static {
    /// Opens a charge, or finds the one that was opened under this key.
    fn begin<'a>(&'a self, order: &'a Order) -> Doing<'a, Opened>;
    /// Takes the money that a charge has reserved.
    fn capture<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>>;
    /// Sees to it that a charge never takes money.
    fn void<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>>;
    /// Gives money of a charge back.
    fn refund<'a>(&'a self, charge: &'a Charge) -> Doing<'a, Vec<Fact>>;
    /// All that the provider knows of a payment, by what it is called there; nothing if it knows of none, and none can begin any
    /// more.
    fn look_up<'a>(&'a self, provider_id: &'a str) -> Doing<'a, Vec<Fact>>;
    /// All money that moved on a day by the provider's clock, for [`Engine::reconcile`](crate::Engine::reconcile), within the time of 20 calls; `None` if it
    /// does not list that. What it lists of the day before or a later one as well is passed over if it was heard of.
    fn list(&self, _day: Day) -> Option<Doing<'_, Vec<Fact>>> {
        None
    }
}
