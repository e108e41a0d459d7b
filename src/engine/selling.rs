//! What is sold changes: times, prices and limits of an option; performances that are called off; and what is deleted, of which nothing
//! was ever held.

use std::sync::Arc;

use super::calls::{CallOff, ChangeOption, DeleteConcert, DeleteOption};
use super::options::flaws_of_names;
use super::{Engine, Inner};
use crate::api::{self, Answered, Cancellation, IdempotencyKey};
use crate::domain::catalogue::{self, Catalogue};
use crate::domain::concert_option::{Command, ConcertOption, OptionPatch, Reply};
use crate::domain::{ConcertId, OptionId, Rejection, UserId};
use crate::error::{Error, FieldError};
use crate::store::codec::TheCatalogue;

impl Engine {
    /// Calls a performance off, and tells what there was to do then: nothing is sold any more, holds end, and every payment is given back to who
    /// paid, in the background. Once more changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] (the reason); of the rejections `NotFound` and those of the idempotency key.
    pub async fn call_off(
        &self,
        id: OptionId,
        reason: Option<String>,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Cancellation>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.call_off(id, reason, by, key)),
            Some(_) => self.0.ask_owner(CallOff { id, reason, by: by.clone(), key }).await,
        }
    }

    /// Changes what an option sells, and on what terms, and gives it as it is then. What is held or paid stays as it was.
    ///
    /// # Errors
    /// [`Error::Invalid`]; of the rejections `NotFound`, `CapacityInUse`.
    pub async fn change_option(
        &self,
        id: OptionId,
        patch: OptionPatch,
        by: &UserId,
    ) -> Result<api::ConcertOption, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.change_option(id, patch, by)),
            Some(_) => self.0.ask_owner(ChangeOption { id, patch, by: by.clone() }).await,
        }
    }

    /// Deletes an option of which nothing was ever held; `by` says who did it.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is deleted already; `WasHeld`.
    pub async fn delete_option(&self, id: OptionId, by: &UserId) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.delete_option(id, by)),
            Some(_) => self.0.ask_owner(DeleteOption { id, by: by.clone() }).await,
        }
    }

    /// Deletes a concert with its options, of none of which anything was ever held, and ends its line; `by` says who did it. Where
    /// something was held, nothing is deleted; only if that happens in this very moment, some options may be gone.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is deleted already; `WasHeld`.
    pub async fn delete_concert(&self, id: ConcertId, by: &UserId) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.delete_concert(id, by)),
            Some(_) => self.0.ask_owner(DeleteConcert { id, by: by.clone() }).await,
        }
    }

    /// How far the calling off of a performance is.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is not called off.
    pub async fn cancellation(&self, id: OptionId) -> Result<Cancellation, Error> {
        match self.0.cancellation(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.cancellation(id).await,
            found => found,
        }
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn call_off(
        self: &Arc<Self>,
        id: OptionId,
        reason: Option<String>,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Cancellation>, Error> {
        let _call = self.admit()?;
        // Or an actor would be woken for every number that somebody thinks of.
        self.offer(id).await?;
        let command = Command::CallOff { reason, by: by.clone(), request: self.request(key, None) };
        let replayed = matches!(self.ask::<ConcertOption>(&id, command).await?, Reply::Replayed(_));
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        // How far it has come since is another question: the same is told each time.
        let told = self.read(|replica| Ok(replica.option(id)?.cancellation_as_told())).await?;
        Ok(Answered { value: told.ok_or(Rejection::NotFound)?.into(), replayed })
    }

    pub(in crate::engine) async fn change_option(
        self: &Arc<Self>,
        id: OptionId,
        patch: OptionPatch,
        by: &UserId,
    ) -> Result<api::ConcertOption, Error> {
        let _call = self.admit()?;
        let terms = &self.offer(id).await?.definition;
        // How many names there may be is the configuration's; all else is decided where the option is.
        if let Ok(then) = patch.apply(terms, terms.window) {
            let wrong = flaws_of_names(&then, &self.config.limits);
            if !wrong.is_empty() {
                return Err(Error::Invalid(wrong.into_iter().map(FieldError::from).collect()));
            }
        }
        let command = Command::Change { patch: Box::new(patch), by: by.clone() };
        self.ask::<ConcertOption>(&id, command).await?;
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        self.option(id).await
    }

    pub(in crate::engine) async fn delete_option(self: &Arc<Self>, id: OptionId, by: &UserId) -> Result<(), Error> {
        let _call = self.admit()?;
        // Or an actor would be woken for every number that somebody thinks of.
        self.offer(id).await?;
        self.delete_one(id, by).await
    }

    /// Deletes an option, and waits until it is on no list any more.
    async fn delete_one(self: &Arc<Self>, id: OptionId, by: &UserId) -> Result<(), Error> {
        self.ask::<ConcertOption>(&id, Command::Delete { by: by.clone() }).await?;
        // The option tells it too, until it is heard.
        let told = catalogue::Command::OptionDeleted { option: id, by: by.clone() };
        self.ask::<Catalogue>(&TheCatalogue, told).await.map_err(Self::after_the_first)?;
        // It may have heard before.
        self.certain().await.map_err(Self::after_the_first)
    }

    pub(in crate::engine) async fn delete_concert(self: &Arc<Self>, id: ConcertId, by: &UserId) -> Result<(), Error> {
        let _call = self.admit()?;
        let mut known = self.options_never_held(id).await?;
        loop {
            for option in known {
                match self.delete_one(option, by).await {
                    // Somebody else was faster.
                    Err(Error::Rejected(Rejection::NotFound)) => {}
                    done => done?,
                }
            }
            let command = catalogue::Command::DeleteConcert { concert: id, by: by.clone() };
            match self.ask::<Catalogue>(&TheCatalogue, command).await {
                // Some have come meanwhile.
                Err(Error::Rejected(Rejection::WasHeld)) => {
                    self.up_to_date().await?;
                    known = self.options_never_held(id).await?;
                }
                done => return done.map(|_| ()),
            }
        }
    }

    /// The options of a concert, of none of which anything was ever held.
    async fn options_never_held(self: &Arc<Self>, id: ConcertId) -> Result<Vec<OptionId>, Error> {
        let known = self.read(|replica| Ok(replica.catalogue()?.concert(id).map(|concert| concert.options.clone())));
        let options = known.await?.ok_or(Rejection::NotFound)?;
        // One after the other, so that nobody else waits for all of them. Each decides for itself afterwards.
        for option in &options {
            if self.read(|replica| Ok(replica.option(*option)?.was_ever_held())).await? {
                return Err(Rejection::WasHeld.into());
            }
        }
        Ok(options)
    }

    /// What is said to whoever brought along what is not sold any more: it is read anew the next time.
    pub(super) fn outdated(&self, id: OptionId) -> Error {
        self.offers.remove(&id);
        self.overloaded()
    }

    pub(in crate::engine) async fn cancellation(self: &Arc<Self>, id: OptionId) -> Result<Cancellation, Error> {
        let found = self.read(|replica| Ok(replica.option(id)?.cancellation())).await?;
        Ok(found.ok_or(Rejection::NotFound)?.into())
    }
}
