//! Payments, from the wallet or by a provider, what is owed of them, and refunds.

use serde::{Serialize, Serializer};

use crate::domain::concert_option::{self, ByProvider, Leg, OwedKind, ProviderStatus, Stand, Standing};
use crate::domain::{Currency, PaymentId, Points, RefundId, ReservationId, Timestamp, UserId};

statuses! {
    /// What has come of a payment.
    PaymentStatus {
        /// The wallet has not answered yet, or the buyer may pay.
        Pending "pending",
        /// Money is reserved, and is to be taken.
        Authorized "authorized",
        /// It is paid.
        Completed "completed",
        /// Nothing was taken, and nothing will be.
        Failed "failed",
        /// It is to take no money, and its provider has not said yet that it will not.
        Voiding "voiding",
        /// It was called off.
        Voided "voided",
        /// Money is to go back.
        RefundOwed "refund_owed",
        /// What was taken is given back.
        Refunded "refunded",
    }
}

impl From<ProviderStatus> for PaymentStatus {
    fn from(status: ProviderStatus) -> Self {
        match status {
            ProviderStatus::Pending => Self::Pending,
            ProviderStatus::Authorized => Self::Authorized,
            ProviderStatus::Completed => Self::Completed,
            ProviderStatus::Failed => Self::Failed,
            ProviderStatus::Voiding => Self::Voiding,
            ProviderStatus::Voided => Self::Voided,
            ProviderStatus::RefundOwed => Self::RefundOwed,
            ProviderStatus::Refunded => Self::Refunded,
        }
    }
}

statuses! {
    /// What is to be done with a payment, as it stands now.
    Verdict {
        /// Take the money that is reserved.
        Capture "capture",
        /// See to it that none is taken.
        Void "void",
        /// Give it back.
        Refund "refund",
    }
}

impl From<OwedKind> for Verdict {
    fn from(kind: OwedKind) -> Self {
        match kind {
            OwedKind::Capture => Self::Capture,
            OwedKind::Void | OwedKind::Check => Self::Void,
            OwedKind::Refund => Self::Refund,
        }
    }
}

/// Something that is owed of a payment.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct OwedItem {
    /// Its id.
    #[n(0)]
    pub id: String,
    /// `capture`, `void`, `refund` or `check`.
    #[n(1)]
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub kind: OwedKind,
    /// Of which charge; null: nobody knows of one.
    #[n(2)]
    #[cfg_attr(feature = "server", schema(required))]
    pub reference: Option<String>,
    /// How much.
    #[n(3)]
    pub amount: Points,
    /// Since when.
    #[n(4)]
    pub since: Timestamp,
    /// How often it was tried, and is certain not to have been done.
    #[n(5)]
    pub attempts: u32,
    /// The provider could not: it is settled by hand.
    #[n(6)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "server", schema(required = false))]
    pub by_hand: bool,
}

/// What a payment by a provider has beside any payment.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Provided {
    /// The provider.
    #[n(0)]
    pub method: String,
    /// What the amount is of.
    #[n(1)]
    pub currency: Currency,
    /// Until when the buyer may pay.
    #[n(2)]
    pub expires_at: Timestamp,
    /// What it is called at the provider.
    #[n(3)]
    pub provider_id: String,
    /// What is to be done with it, or with the charge that a fact was about.
    #[n(4)]
    pub verdict: Option<Verdict>,
    /// How much of it is back.
    #[n(5)]
    pub refunded: u64,
    /// Whether the buyer's bank wants it back: while it does, no refund leaves.
    #[n(6)]
    pub disputed: bool,
    /// How much is missing of the price while the buyer has the seats.
    #[n(7)]
    #[serde(skip_serializing_if = "is_zero")]
    pub shortfall: u64,
    /// What is owed, oldest first; only where that is asked for.
    #[n(8)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed: Option<Vec<OwedItem>>,
}

fn is_zero(amount: &u64) -> bool {
    *amount == 0
}

impl Provided {
    fn new(id: PaymentId, payment: &concert_option::Payment, by: &ByProvider, standing: &Standing) -> Self {
        Self {
            method: by.terms.method.clone(),
            currency: by.terms.currency,
            expires_at: payment.deadline,
            provider_id: by.terms.provider_id(id),
            verdict: standing.verdict.map(Into::into),
            refunded: standing.totals.refunded,
            disputed: standing.disputed,
            shortfall: standing.totals.shortfall,
            owed: None,
        }
    }
}

/// Which payments by providers are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum PaymentFilter {
    /// Those of which something is owed, oldest first.
    #[n(0)]
    Owed,
    /// Those that a bank wants back.
    #[n(1)]
    Disputed,
    /// Those of which something is missing, although the buyer has the seats.
    #[n(2)]
    Shortfall,
}

impl PaymentFilter {
    pub(crate) fn takes(self, payment: &concert_option::Payment, by: &ByProvider) -> bool {
        match self {
            Self::Owed => !by.owed.is_empty(),
            Self::Disputed => by.facts.is_disputed(),
            Self::Shortfall => by.standing(payment.amount, payment.paid_at).totals.shortfall > 0,
        }
    }

    /// Since when it is on the list.
    pub(crate) fn place(self, payment: &concert_option::Payment, by: &ByProvider) -> Timestamp {
        let owed = by.owed.iter().map(|owed| owed.since).min().filter(|_| self == Self::Owed);
        owed.unwrap_or(payment.started_at)
    }
}

impl From<concert_option::PaymentStatus> for PaymentStatus {
    fn from(status: concert_option::PaymentStatus) -> Self {
        use concert_option::PaymentStatus as Status;
        match status {
            Status::Pending => Self::Pending,
            Status::Completed => Self::Completed,
            Status::Failed { .. } => Self::Failed,
            Status::Refunded { .. } => Self::Refunded,
            // What it is says its provider's part.
            Status::ByProvider => Self::Pending,
        }
    }
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Payment {
    /// Its id.
    #[n(0)]
    pub id: PaymentId,
    /// What was paid.
    #[n(1)]
    pub reservation_id: ReservationId,
    /// Who paid.
    #[n(2)]
    pub user_id: UserId,
    /// How much.
    #[n(3)]
    pub amount: Points,
    /// What has come of it.
    #[n(4)]
    pub status: PaymentStatus,
    /// The wallet's balance after it; null unless points were taken.
    #[n(5)]
    pub balance: Option<Points>,
    /// When the points were taken; null unless they were.
    #[n(6)]
    pub paid_at: Option<Timestamp>,
    /// What it has beside, if a provider takes it.
    #[n(7)]
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub provided: Option<Box<Provided>>,
    /// How much of it is back in wallets, or on its way, if any is; what a provider gave back is told by its part.
    #[n(8)]
    #[serde(rename = "refunded", skip_serializing_if = "Option::is_none")]
    pub given_back: Option<u64>,
}

impl Payment {
    pub(crate) fn new(id: PaymentId, payment: concert_option::Payment) -> Self {
        Self::told_of(id, payment, None)
    }

    /// As it was when it began, whatever came of it since.
    pub(crate) fn as_begun(id: PaymentId, mut payment: concert_option::Payment) -> Self {
        if let Some(by) = payment.provider.as_deref_mut() {
            let free = payment.amount == Points::ZERO;
            let stand = if free { Stand::Confirmed { reference: None } } else { Stand::Pending };
            *by = ByProvider { stand, ..ByProvider::new(by.terms.clone()) };
        }
        Self::new(id, payment)
    }

    /// With all that is owed of it.
    pub(crate) fn listed(id: PaymentId, payment: concert_option::Payment) -> Self {
        let owed = payment.provider.as_ref().map(|by| by.owed.clone()).unwrap_or_default();
        let item = |owed: concert_option::Owed| OwedItem {
            id: format!("{id}-{}", owed.no),
            kind: owed.kind,
            reference: owed.reference,
            amount: owed.amount,
            since: owed.since,
            attempts: owed.attempts,
            by_hand: owed.by_hand,
        };
        let mut listed = Self::new(id, payment);
        if let Some(provided) = listed.provided.as_deref_mut() {
            provided.owed = Some(owed.into_iter().map(item).collect());
        }
        listed
    }

    /// As a provider's payment stands.
    pub(crate) fn standing(
        id: PaymentId,
        payment: &concert_option::Payment,
        by: &ByProvider,
        standing: &Standing,
    ) -> Self {
        Self {
            id,
            reservation_id: ReservationId { option: id.option, no: payment.reservation },
            user_id: payment.user.clone(),
            amount: payment.amount,
            status: standing.status.into(),
            balance: None,
            paid_at: standing.paid_at,
            provided: Some(Box::new(Provided::new(id, payment, by, standing))),
            given_back: None,
        }
    }

    /// As it is after a fact about the charge `reference`.
    pub(crate) fn told_of(id: PaymentId, payment: concert_option::Payment, reference: Option<&str>) -> Self {
        if let Some(by) = payment.provider.as_deref() {
            let mut standing = by.standing(payment.amount, payment.paid_at);
            if reference.is_some() {
                standing.verdict = by.verdict(reference);
            }
            return Self::standing(id, &payment, by, &standing);
        }
        let status = PaymentStatus::from(payment.status);
        let taken = matches!(status, PaymentStatus::Completed | PaymentStatus::Refunded);
        // What exchanges have cost is paid too; what somebody else has paid since is theirs to see.
        let own = || payment.legs.iter().filter(|leg| leg.user == payment.user);
        let sum = |of: fn(&Leg) -> Points| own().map(|leg| of(leg).get()).sum::<u64>();
        let (paid, given_back) = (sum(|leg| leg.taken), sum(|leg| leg.back));
        let amount = if payment.legs.is_empty() { payment.amount } else { Points::new(paid).unwrap_or(Points::MAX) };
        Self {
            id,
            reservation_id: ReservationId { option: id.option, no: payment.reservation },
            user_id: payment.user,
            amount,
            status,
            balance: (taken && !payment.complimentary).then_some(payment.balance),
            paid_at: taken.then_some(payment.paid_at),
            provided: None,
            given_back: (given_back > 0).then_some(given_back),
        }
    }
}

/// A charge of which money moved on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Reconciled {
    /// The provider's name for it.
    pub reference: String,
    /// Of which payment it is.
    pub payment_id: PaymentId,
    /// What the amounts are of.
    pub currency: Currency,
    /// How much was taken on that day.
    pub captured: u64,
    /// How much went back.
    pub refunded: u64,
    /// How much of what had gone back came back.
    pub refund_failed: u64,
    /// How much a bank has taken back.
    pub lost: u64,
    /// How much of it is to go back now.
    pub owed: u64,
    /// How much is missing now of what its seats cost.
    pub shortfall: u64,
}

/// A refund.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Refund {
    /// Its id.
    #[n(0)]
    pub id: RefundId,
    /// What was given back.
    #[n(1)]
    pub payment_id: PaymentId,
    /// How much.
    #[n(2)]
    pub amount: Points,
    /// The wallet's balance after it; absent where a provider gives the money back.
    #[n(3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<Points>,
    /// When; absent where a provider is to give the money back.
    #[n(4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refunded_at: Option<Timestamp>,
    /// `owed`, where a provider is to give the money back.
    #[n(5)]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub status: Option<RefundStatus>,
}

statuses! {
    /// What has come of a refund that a provider is to do.
    RefundStatus {
        /// It is owed until the provider says that it is done.
        Owed "owed",
    }
}
