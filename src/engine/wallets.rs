//! Customers' wallets.

use std::sync::Arc;

use super::calls::{Adjust, Charge, GetWallet, ListEntries};
use super::{Engine, Inner, check_limit, page, parse_cursor};
use crate::api::{Answered, IdempotencyKey, Page, PageRequest, Wallet, WalletEntry};
use crate::domain::wallet::{self, Command, Entry, Part, Reply, Way};
use crate::domain::{Points, UserId};
use crate::error::Error;

impl Engine {
    /// Adds points to a user's wallet; `by` says who did it.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the amount is at least 1; of the rejections `LimitExceeded`, if all charges of this
    /// wallet would pass 2^53-1, and those of the idempotency key.
    pub async fn charge(
        &self,
        user: &UserId,
        amount: Points,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<WalletEntry>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.charge(user, amount, by, key)),
            Some(_) => self.0.ask_owner(Charge { user: user.clone(), amount, by: by.clone(), key }).await,
        }
    }

    /// Corrects what is in a user's wallet: adds points, or takes them if the amount is below zero; `by` says who did it, and
    /// `reason` why.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the amount is 0 or not of points, or the reason is not 1 to 500 characters; of the rejections
    /// `InsufficientPoints`, if it would take more than there is, and those of [`charge`](Self::charge).
    pub async fn adjust(
        &self,
        user: &UserId,
        amount: i64,
        reason: &str,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<WalletEntry>, Error> {
        if self.0.away().is_none() {
            return decided!(self.0, self.0.adjust(user, amount, reason, by, key));
        }
        let (user, reason, by) = (user.clone(), reason.to_owned(), by.clone());
        self.0.ask_owner(Adjust { user, amount, reason, by, key }).await
    }

    /// What is in a user's wallet; nothing, if it was never used.
    ///
    /// # Errors
    /// A fault of the engine's.
    pub async fn wallet(&self, user: &UserId) -> Result<Wallet, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.wallet(user)),
            Some(_) => self.0.ask_owner(GetWallet { user: user.clone() }).await,
        }
    }

    /// Every change of a user's wallet, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the limit or the cursor.
    pub async fn wallet_entries(&self, user: &UserId, request: &PageRequest) -> Result<Page<WalletEntry>, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.wallet_entries(user, request)),
            Some(_) => self.0.ask_owner(ListEntries { user: user.clone(), request: request.clone() }).await,
        }
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn charge(
        self: &Arc<Self>,
        user: &UserId,
        amount: Points,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<WalletEntry>, Error> {
        let _call = self.admit()?;
        let command = Command::Charge { amount, by: by.clone(), request: self.request(key, None) };
        self.book(user, command).await
    }

    pub(in crate::engine) async fn adjust(
        self: &Arc<Self>,
        user: &UserId,
        amount: i64,
        reason: &str,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<WalletEntry>, Error> {
        let _call = self.admit()?;
        let way = if amount < 0 { Way::Down } else { Way::Up };
        let most = Points::MAX;
        let bounds = || Error::invalid("amount", format!("must be -{most} to {most}, and not 0"));
        let amount = Points::new(amount.unsigned_abs()).filter(|amount| *amount != Points::ZERO).ok_or_else(bounds)?;
        let (by, reason) = (by.clone(), reason.to_owned());
        let command = Command::Adjust { way, amount, by, reason, request: self.request(key, None) };
        self.book(user, command).await
    }

    /// Has an entry made.
    async fn book(self: &Arc<Self>, user: &UserId, command: Command) -> Result<Answered<WalletEntry>, Error> {
        match self.ask::<wallet::Wallet>(user, command).await? {
            Reply::Charged(entry) => Ok(Answered { value: WalletEntry::new(user, entry), replayed: false }),
            Reply::Replayed(no) => {
                self.certain().await?;
                let row = Box::pin(self.find::<wallet::Wallet>(user, &Part::Entry(no))).await?;
                let row = row.ok_or_else(|| Error::Internal("an entry is missing".into()))?;
                let entry = Entry::from_row(no, &row).map_err(|source| self.corrupt(user, source))?;
                Ok(Answered { value: WalletEntry::new(user, entry), replayed: true })
            }
        }
    }

    pub(in crate::engine) async fn wallet(self: &Arc<Self>, user: &UserId) -> Result<Wallet, Error> {
        let balance = self.read(|replica| Ok(replica.wallet(user)?.balance())).await?;
        Ok(Wallet { user_id: user.clone(), balance })
    }

    pub(in crate::engine) async fn wallet_entries(
        self: &Arc<Self>,
        user: &UserId,
        request: &PageRequest,
    ) -> Result<Page<WalletEntry>, Error> {
        check_limit(request.limit)?;
        let from = parse_cursor(request.cursor.as_deref())?.map_or(u64::MAX, |before| before.saturating_sub(1));
        let (owner, limit) = (user.clone(), request.limit);
        let archive = self.read(|replica| {
            let last = Part::Entry(from.min(replica.wallet(user)?.entries()));
            Ok(replica.archived_down::<wallet::Wallet>(user, &Part::Entry(0), &last, limit + 1))
        });
        let archive = archive.await?;
        let rows = self.on_blocking_thread(move || archive.read::<wallet::Wallet>(&owner)).await?;
        let rows = rows.map_err(|error| self.fail(&error))?;
        let entries = rows.into_iter().filter_map(|(part, row)| match part {
            Part::Entry(no) => Some(Entry::from_row(no, &row).map(|entry| (no, WalletEntry::new(user, entry)))),
            _ => None,
        });
        let entries: Result<Vec<_>, _> = entries.collect();
        Ok(page(entries.map_err(|source| self.corrupt(user, source))?, limit))
    }
}
