//! Concerts and their waiting rooms' settings.

use std::sync::Arc;

use super::calls::{ChangeConcert, ConfigureWaitingRoom, CreateConcert};
use super::start::Place;
use super::{Engine, Inner, check_limit, page, parse_cursor};
use crate::api::{Answered, Concert, IdempotencyKey, NewConcert, Page, PageRequest, WaitingRoom};
use crate::domain::catalogue::{self, Command, ConcertPatch, Details, Reply};
use crate::domain::waiting_room::{self, Mode, Settings, SettingsPatch, WaitingRoom as Room};
use crate::domain::{ConcertId, Rejection, UserId};
use crate::error::Error;
use crate::store::codec::TheCatalogue;

/// For how long who waits in a line may say nothing in a cluster, at the least.
const WAITING_TTL_SECONDS_MIN: u32 = 10;

impl Engine {
    /// Announces a concert. It is given as it was then: without options, and with the waiting room that it began with.
    ///
    /// # Errors
    /// [`Error::Invalid`]; of the rejections `LimitExceeded`, if there are as many concerts and options as may be, and
    /// those of the idempotency key.
    pub async fn create_concert(
        &self,
        concert: NewConcert,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Concert>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.create_concert(concert, key)),
            Some(_) => self.0.ask_owner(CreateConcert { concert, key }).await,
        }
    }

    /// Changes what is told of a concert, and gives it as it is then; `by` says who did it.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Error::Invalid`].
    pub async fn change_concert(&self, id: ConcertId, patch: ConcertPatch, by: &UserId) -> Result<Concert, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.change_concert(id, patch, by)),
            Some(_) => self.0.ask_owner(ChangeConcert { id, patch, by: by.clone() }).await,
        }
    }

    /// A concert.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn concert(&self, id: ConcertId) -> Result<Concert, Error> {
        match self.0.concert(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.concert(id).await,
            found => found,
        }
    }

    /// All concerts, newest first, also those that are hidden.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the limit or the cursor.
    pub async fn concerts(&self, request: &PageRequest) -> Result<Page<Concert>, Error> {
        self.concerts_if(request, |_| true).await
    }

    /// As [`concerts`](Self::concerts), without those that are hidden.
    ///
    /// # Errors
    /// As [`concerts`](Self::concerts).
    pub async fn shown_concerts(&self, request: &PageRequest) -> Result<Page<Concert>, Error> {
        self.concerts_if(request, |concert| !concert.is_hidden()).await
    }

    async fn concerts_if(
        &self,
        request: &PageRequest,
        counts: fn(&catalogue::Concert) -> bool,
    ) -> Result<Page<Concert>, Error> {
        check_limit(request.limit)?;
        let before = ConcertId(parse_cursor(request.cursor.as_deref())?.unwrap_or(u64::MAX));
        let limit = request.limit;
        let found = self.0.read(|replica| {
            let newest = replica.catalogue()?.newest_first(before);
            let newest = newest.filter(|(_, concert)| counts(concert)).take(limit + 1);
            Ok(newest.map(|(id, concert)| (id, concert.clone())).collect::<Vec<_>>())
        });
        let mut concerts = Vec::new();
        for (id, concert) in found.await? {
            // After a start each waiting room may have to be loaded.
            let settings = self.0.look(|replica| Ok(replica.room(id)?.settings().clone())).await?;
            concerts.push((id.0, view(id, concert, settings)));
        }
        Ok(page(concerts, limit))
    }

    /// How a concert's waiting room is run, and who is in it.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn waiting_room(&self, concert: ConcertId) -> Result<WaitingRoom, Error> {
        match self.0.waiting_room(concert).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.waiting_room(concert).await,
            found => found,
        }
    }

    /// Changes how a concert's waiting room is run, and gives it as it is then. Mode `open` lets in all who wait. When the
    /// mode becomes `queue`, at most `max_active` stay inside, those who hold seats before others; who goes stands at the
    /// head of the line. No other change sends anybody out.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Error::Invalid`].
    pub async fn configure_waiting_room(&self, concert: ConcertId, patch: SettingsPatch) -> Result<WaitingRoom, Error> {
        self.configure_waiting_room_if_by(concert, patch, None).await
    }

    /// As [`configure_waiting_room`](Self::configure_waiting_room); `by` says who did it.
    ///
    /// # Errors
    /// As [`configure_waiting_room`](Self::configure_waiting_room).
    pub async fn configure_waiting_room_by(
        &self,
        concert: ConcertId,
        patch: SettingsPatch,
        by: &UserId,
    ) -> Result<WaitingRoom, Error> {
        self.configure_waiting_room_if_by(concert, patch, Some(by.clone())).await
    }

    async fn configure_waiting_room_if_by(
        &self,
        concert: ConcertId,
        patch: SettingsPatch,
        by: Option<UserId>,
    ) -> Result<WaitingRoom, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.configure_waiting_room(concert, patch, by)),
            Some(_) => self.0.ask_owner(ConfigureWaitingRoom { concert, patch, by }).await,
        }
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    /// In a cluster a sign of life may come to another node than the one that decides, and takes a while to get there.
    fn check_silence(&self, field: &str, seconds: u32) -> Result<(), Error> {
        let in_cluster = matches!(self.place, Place::Member(_));
        match in_cluster && seconds < WAITING_TTL_SECONDS_MIN {
            true => Err(Error::invalid(field, format!("must be at least {WAITING_TTL_SECONDS_MIN} in a cluster"))),
            false => Ok(()),
        }
    }

    pub(in crate::engine) async fn create_concert(
        self: &Arc<Self>,
        concert: NewConcert,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Concert>, Error> {
        let _call = self.admit()?;
        self.check_silence("waiting_room.waiting_ttl_seconds", concert.waiting_room.waiting_ttl_seconds)?;
        let NewConcert { title, waiting_room } = concert;
        let mut signing_key = [0; 32];
        getrandom::fill(&mut signing_key).map_err(|error| Error::Internal(error.to_string()))?;
        let (entries_max, request) = (self.config.limits.catalogue_entries, self.request(key, None));
        // The same was asked for when it was made, whatever it is called by now.
        let made_as = title.clone();
        let command = Command::CreateConcert { title, waiting_room, signing_key, entries_max, request };
        let Reply::Concert { concert: id, replayed } = self.ask::<catalogue::Catalogue>(&TheCatalogue, command).await?
        else {
            return Err(Error::Internal("the catalogue answered something else".into()));
        };
        if replayed {
            self.certain().await?;
        }
        let concert = self.read(|replica| Ok(replica.catalogue()?.concert(id).cloned())).await?;
        // It may have been deleted since.
        let concert = concert.ok_or(Rejection::NotFound)?;
        // The waiting room must have its settings when the caller goes on.
        let open = waiting_room::Command::Open { concert: id, settings: concert.waiting_room.clone() };
        let unchanged = waiting_room::Command::Configure { patch: SettingsPatch::default(), holders: vec![], by: None };
        let opened = async {
            self.owned(|system| system.tell(crate::domain::Message::Room(id, open)))?;
            self.ask::<Room>(&id, unchanged).await
        };
        opened.await.map_err(Self::after_the_first)?;
        let value = Concert {
            id,
            title: made_as,
            waiting_room: concert.waiting_room,
            // As it was when it was made: without any.
            options: Vec::new(),
            created_at: concert.created_at,
            details: Details::default(),
        };
        Ok(Answered { value, replayed })
    }

    pub(in crate::engine) async fn change_concert(
        self: &Arc<Self>,
        id: ConcertId,
        patch: ConcertPatch,
        by: &UserId,
    ) -> Result<Concert, Error> {
        let _call = self.admit()?;
        let command = Command::ChangeConcert { concert: id, patch: Box::new(patch), by: by.clone() };
        self.ask::<catalogue::Catalogue>(&TheCatalogue, command).await?;
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        self.concert(id).await
    }

    pub(in crate::engine) async fn concert(self: &Arc<Self>, id: ConcertId) -> Result<Concert, Error> {
        let found = self.read(|replica| {
            let concert = replica.catalogue()?.concert(id).cloned();
            Ok((concert, replica.room(id)?.settings().clone()))
        });
        let (concert, settings) = found.await?;
        Ok(view(id, concert.ok_or(Rejection::NotFound)?, settings))
    }

    pub(in crate::engine) async fn waiting_room(self: &Arc<Self>, concert: ConcertId) -> Result<WaitingRoom, Error> {
        let found = self.read(|replica| {
            if replica.catalogue()?.concert(concert).is_none() {
                return Ok(None);
            }
            let room = replica.room(concert)?;
            Ok(Some(WaitingRoom { settings: room.settings().clone(), counts: room.counts() }))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    pub(in crate::engine) async fn configure_waiting_room(
        self: &Arc<Self>,
        concert: ConcertId,
        patch: SettingsPatch,
        by: Option<UserId>,
    ) -> Result<WaitingRoom, Error> {
        let _call = self.admit()?;
        if let Some(seconds) = patch.waiting_ttl_seconds {
            self.check_silence("waiting_ttl_seconds", seconds)?;
        }
        let holders = self.holders(concert, &patch).await?;
        self.ask::<Room>(&concert, waiting_room::Command::Configure { patch, holders, by }).await?;
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        self.waiting_room(concert).await
    }

    /// Who holds seats of a concert, for a change that may send those back to the line who hold none: one option after the
    /// other, so that nobody else waits for all of them.
    async fn holders(self: &Arc<Self>, concert: ConcertId, patch: &SettingsPatch) -> Result<Vec<UserId>, Error> {
        let found = self.read(|replica| {
            let Some(known) = replica.catalogue()?.concert(concert) else { return Ok(None) };
            let options = known.options.clone();
            let nobody = patch.mode != Some(Mode::Queue) || replica.room(concert)?.counts().active == 0;
            Ok(Some(if nobody { Vec::new() } else { options }))
        });
        let mut holders = Vec::new();
        for option in found.await?.ok_or(Rejection::NotFound)? {
            let of_option = self.read(|replica| Ok(replica.option(option)?.holders().cloned().collect::<Vec<_>>()));
            holders.extend(of_option.await?);
        }
        Ok(holders)
    }
}

fn view(id: ConcertId, concert: catalogue::Concert, waiting_room: Settings) -> Concert {
    let details = concert.details();
    let catalogue::Concert { title, options, created_at, .. } = concert;
    Concert { id, title, waiting_room, options, created_at, details }
}
