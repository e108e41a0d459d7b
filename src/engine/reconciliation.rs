//! What was heard of a provider's payments on a day: by charge, and beside what the provider lists.
//!
//! When something was heard stands in the journal only, so that is read from the day before on: by the providers' clocks, which
//! may be ahead, what is heard on one day can be of the next one. What is heard late is of the day on which it was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::desk::listed;
use super::verify::check_journal;
use super::{Engine, Inner, check_limit};
use crate::api::{Page, PageRequest, Reconciled};
use crate::config::Config;
use crate::domain::concert_option::Event;
use crate::domain::reconciliation::{Day, Differences, Movement};
use crate::domain::{Lsn, PaymentId, Timestamp};
use crate::error::{Error, OpenError};
use crate::store::codec::{Facts, Record, decode_batch};
use crate::store::disk::RealDisk;
use crate::store::journal::Frames;

impl Engine {
    /// The charges of payments by `provider` of which money moved on `day`, by their references: how much, and what of them is owed or
    /// missing now. Each page reads what was heard since then anew.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the limit or the cursor.
    pub async fn reconciliation(
        &self,
        provider: &str,
        day: Day,
        request: &PageRequest,
    ) -> Result<Page<Reconciled>, Error> {
        check_limit(request.limit)?;
        let place = request.cursor.as_deref().map(parse_place).transpose()?;
        let durable = self.0.knows_all().await?;
        let (until, skipped) = place.map_or((durable, 0), |(until, skipped)| (until.min(durable), skipped));
        let charges = self.0.charges(provider, day, until).await?;
        let (known, end) = (charges.len(), skipped.saturating_add(request.limit));
        let items = self.0.reconciled(charges.into_iter().skip(skipped).take(request.limit)).await?;
        Ok(Page { items, next_cursor: (end < known).then(|| format!("{until}.{end}")) })
    }

    /// As [`reconciliation`](Self::reconciliation), all of them.
    ///
    /// # Errors
    /// The journal cannot be read, or there is nobody who decides.
    pub async fn whole_reconciliation(&self, provider: &str, day: Day) -> Result<Vec<Reconciled>, Error> {
        let until = self.0.knows_all().await?;
        let charges = self.0.charges(provider, day, until).await?;
        self.0.reconciled(charges.into_iter()).await
    }

    /// What is different between what was heard of `day` and what the provider that is attached under this name lists of it.
    ///
    /// # Errors
    /// [`Error::Invalid`]: none is, or it cannot list; [`Error::Overloaded`]: it cannot be reached.
    pub async fn reconcile(&self, provider: &str, day: Day) -> Result<Differences, Error> {
        let listed: Vec<_> = listed(&self.0, provider, day).await?.iter().filter_map(Movement::of).collect();
        let until = self.0.knows_all().await?;
        let is_listed: BTreeSet<_> = listed.iter().cloned().collect();
        // Of other days only what the provider may have taken for one of this.
        let keeps = move |one: &Heard| one.day == day || is_listed.contains(&one.movement);
        let heard = self.0.heard(provider, day, until, keeps).await?;
        let (of_day, of_others): (Vec<_>, Vec<_>) = heard.into_iter().partition(|one| one.day == day);
        let movements = |all: Vec<Heard>| all.into_iter().map(|one| one.movement);
        Ok(Differences::between(movements(of_day), movements(of_others), listed))
    }
}

/// What was heard of a charge.
#[derive(Debug, Clone)]
struct Heard {
    payment: PaymentId,
    /// On which day, by the provider's clock if it said so.
    day: Day,
    movement: Movement,
}

/// Money that moved on a day.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    captured: u64,
    refunded: u64,
    refund_failed: u64,
    lost: u64,
}

impl Sums {
    fn add(&mut self, movement: &Movement) {
        use crate::domain::facts::Kind;
        let sum = match movement.kind {
            Kind::Captured => &mut self.captured,
            Kind::Refunded => &mut self.refunded,
            Kind::RefundFailed => &mut self.refund_failed,
            Kind::DisputeLost => &mut self.lost,
            _ => return,
        };
        *sum = sum.saturating_add(movement.amount.get());
    }
}

/// By reference and payment.
type Charges = BTreeMap<(String, PaymentId), Sums>;

impl Inner {
    /// Up to where this node has to read so as to know all that anybody was told.
    pub(super) async fn knows_all(self: &Arc<Self>) -> Result<Lsn, Error> {
        self.told_to_anybody().await?;
        self.up_to_date().await?;
        Ok(self.node.journal.durable())
    }

    async fn charges(self: &Arc<Self>, provider: &str, day: Day, until: Lsn) -> Result<Charges, Error> {
        let mut charges = Charges::new();
        for Heard { payment, movement, .. } in self.heard(provider, day, until, move |one| one.day == day).await? {
            charges.entry((movement.reference.clone(), payment)).or_default().add(&movement);
        }
        Ok(charges)
    }

    /// With what is owed and missing of them now.
    async fn reconciled(
        self: &Arc<Self>,
        charges: impl Iterator<Item = ((String, PaymentId), Sums)>,
    ) -> Result<Vec<Reconciled>, Error> {
        let mut all = Vec::new();
        for ((reference, payment_id), Sums { captured, refunded, refund_failed, lost }) in charges {
            let payment = self.find_payment(payment_id).await?;
            let Some(by) = payment.provider.as_deref() else { continue };
            let Some(charge) = by.facts.of(&reference) else { continue };
            let currency = charge.currency;
            let (owed, shortfall) = by.open_of(payment.amount, &reference);
            all.push(Reconciled {
                reference,
                payment_id,
                currency,
                captured,
                refunded,
                refund_failed,
                lost,
                owed,
                shortfall,
            });
        }
        Ok(all)
    }

    /// What was heard of payments by `provider` from the day before `day` until `until`, of that what is to be kept.
    async fn heard(
        self: &Arc<Self>,
        provider: &str,
        day: Day,
        until: Lsn,
        keeps: impl Fn(&Heard) -> bool + Send + 'static,
    ) -> Result<Vec<Heard>, Error> {
        let turn = self.reconciling.clone().acquire_owned().await.map_err(|_| self.outcome_unknown())?;
        let (inner, name) = (self.clone(), provider.to_owned());
        let read = move || {
            let _turn = turn;
            inner.read_heard(&name, day.before().begins(), until, &keeps)
        };
        let Search { heard, mut of } = self.on_blocking_thread(read).await??;
        let mut wanted = Vec::new();
        for one in heard {
            let is_wanted = match of.get(&one.payment) {
                Some(known) => *known,
                None => {
                    let payment = self.find_payment(one.payment).await?;
                    let known = payment.provider.is_some_and(|by| by.terms.method == provider);
                    of.insert(one.payment, known);
                    known
                }
            };
            if is_wanted {
                wanted.push(one);
            }
        }
        Ok(wanted)
    }

    /// Reads the journal from `from` on. Blocks.
    fn read_heard(
        &self,
        provider: &str,
        from: Timestamp,
        until: Lsn,
        keeps: &dyn Fn(&Heard) -> bool,
    ) -> Result<Search, Error> {
        let unreadable = |error: crate::store::journal::Error| Error::Internal(error.to_string());
        let mut search = Search::default();
        let mut reader = self.node.journal.read_since(from).map_err(unreadable)?;
        while let Some(frame) = reader.next(until).map_err(unreadable)? {
            if self.is_over() {
                return Err(self.outcome_unknown());
            }
            if frame.at < from {
                continue;
            }
            let records = decode_batch(frame.first_lsn, frame.count, &frame.payload);
            for (_, record) in records.map_err(|error| Error::Internal(error.to_string()))? {
                search.take(&record, provider, keeps);
            }
        }
        Ok(search)
    }
}

/// What is found in a journal.
#[derive(Debug, Default)]
struct Search {
    /// Of payments by the provider that is looked for, and of those of which it is not known by whom they are.
    heard: Vec<Heard>,
    /// Of those that have begun meanwhile, whether they are by that provider.
    of: HashMap<PaymentId, bool>,
}

impl Search {
    fn take(&mut self, record: &Record, provider: &str, keeps: &dyn Fn(&Heard) -> bool) {
        let Facts::Option(option, events) = &record.facts else { return };
        for event in events {
            match event {
                Event::ProviderPaymentStarted { payment, terms, .. } => {
                    let id = PaymentId { option: *option, no: *payment };
                    self.of.insert(id, terms.method == provider);
                }
                Event::ProviderPaymentMoved { payment, moved } => {
                    let id = PaymentId { option: *option, no: *payment };
                    let Some(fact) = moved.fact.as_ref().filter(|_| self.of.get(&id) != Some(&false)) else { continue };
                    let day = Day::of(fact.at.unwrap_or(record.at));
                    let heard = Movement::of(fact).map(|movement| Heard { payment: id, day, movement });
                    self.heard.extend(heard.filter(keeps));
                }
                _ => {}
            }
        }
    }
}

/// Where a page begins: up to where the journal was read, and after how many charges.
fn parse_place(cursor: &str) -> Result<(Lsn, usize), Error> {
    let place = cursor.split_once('.').and_then(|(until, skipped)| Some((until.parse().ok()?, skipped.parse().ok()?)));
    let (until, skipped) = place.ok_or_else(|| Error::invalid("cursor", "is not a cursor of this list"))?;
    Ok((Lsn(until), skipped))
}

/// What is different between what was heard of `day` and what a provider lists of it. Reads the whole journal in the data directory of
/// `config`, also while a server is running there, and changes nothing.
///
/// # Errors
/// There is no journal, or it is damaged.
pub fn reconcile(
    config: &Config,
    provider: &str,
    day: Day,
    listed: impl IntoIterator<Item = Movement>,
) -> Result<Differences, OpenError> {
    check_journal(config)?;
    let mut reader = Frames::in_dir(Arc::new(RealDisk), &config.data_dir).from(Lsn(1))?;
    let listed: Vec<_> = listed.into_iter().collect();
    let is_listed: BTreeSet<_> = listed.iter().collect();
    let keeps = |one: &Heard| one.day == day || (one.day >= day.before() && is_listed.contains(&one.movement));
    let mut search = Search::default();
    while let Some(frame) = reader.next_whole()? {
        for (_, record) in decode_batch(frame.first_lsn, frame.count, &frame.payload)? {
            search.take(&record, provider, &keeps);
        }
    }
    let (of_day, of_others): (Vec<_>, Vec<_>) = search.heard.into_iter().partition(|one| one.day == day);
    let movements = |all: Vec<Heard>| all.into_iter().map(|one| one.movement);
    Ok(Differences::between(movements(of_day), movements(of_others), listed.iter().cloned()))
}
