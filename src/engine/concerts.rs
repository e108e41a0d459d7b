//! Concerts and their waiting rooms' settings.

use std::sync::Arc;

use super::{Engine, Inner, check_limit, page, parse_cursor};
use crate::api::{Answered, Concert, IdempotencyKey, NewConcert, Page, PageRequest, WaitingRoom};
use crate::domain::catalogue::{self, Command, Reply};
use crate::domain::idempotency::Request;
use crate::domain::waiting_room::{self, Settings, SettingsPatch, WaitingRoom as Room};
use crate::domain::{ConcertId, Rejection};
use crate::error::{Error, FieldError};
use crate::store::codec::TheCatalogue;

/// The most that `max_active` and `admit_per_minute` may be.
const ADMISSIONS_MAX: u32 = 10_000_000;
/// The longest time-out, in seconds: a day.
pub(super) const SECONDS_MAX: u32 = 86_400;

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
        let _call = self.0.admit()?;
        let NewConcert { title, waiting_room } = concert;
        let mut wrong = check_settings("waiting_room.", &waiting_room);
        wrong.extend(check_name("title", &title));
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        let mut signing_key = [0; 32];
        getrandom::fill(&mut signing_key).map_err(|error| Error::Internal(error.to_string()))?;
        let request = self.0.entry_request(key).await?;
        let command = Command::CreateConcert { title, waiting_room: waiting_room.clone(), signing_key, request };
        let Reply::Concert { concert: id, replayed } =
            self.0.ask::<catalogue::Catalogue>(&TheCatalogue, command).await?
        else {
            return Err(Error::Internal("the catalogue answered something else".into()));
        };
        let concert = self.0.read(|replica| Ok(replica.catalogue()?.concert(id).cloned())).await?;
        let concert = concert.ok_or_else(|| Error::Internal(format!("{id} is not in the catalogue")))?;
        // The waiting room must have its settings when the caller goes on.
        let open = waiting_room::Command::Open { concert: id, settings: concert.waiting_room.clone() };
        self.0.system.tell(crate::domain::Message::Room(id, open));
        self.0.ask::<Room>(&id, waiting_room::Command::Configure { patch: SettingsPatch::default() }).await?;
        let value = Concert {
            id,
            title: concert.title,
            waiting_room: concert.waiting_room,
            // As it was when it was made: without any.
            options: Vec::new(),
            created_at: concert.created_at,
        };
        Ok(Answered { value, replayed })
    }

    /// A concert.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn concert(&self, id: ConcertId) -> Result<Concert, Error> {
        let found = self.0.read(|replica| {
            let concert = replica.catalogue()?.concert(id).cloned();
            Ok((concert, replica.room(id)?.settings().clone()))
        });
        let (concert, settings) = found.await?;
        Ok(view(id, concert.ok_or(Rejection::NotFound)?, settings))
    }

    /// All concerts, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the limit or the cursor.
    pub async fn concerts(&self, request: &PageRequest) -> Result<Page<Concert>, Error> {
        check_limit(request.limit)?;
        let before = ConcertId(parse_cursor(request.cursor.as_deref())?.unwrap_or(u64::MAX));
        let limit = request.limit;
        let found = self.0.read(|replica| {
            let newest = replica.catalogue()?.newest_first(before).take(limit + 1);
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
        let found = self.0.read(|replica| {
            if replica.catalogue()?.concert(concert).is_none() {
                return Ok(None);
            }
            let room = replica.room(concert)?;
            Ok(Some(WaitingRoom { settings: room.settings().clone(), counts: room.counts() }))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    /// Changes how a concert's waiting room is run, and gives it as it is then. Nobody who is inside is thrown out; mode `open`
    /// lets in all who wait.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Error::Invalid`].
    pub async fn configure_waiting_room(&self, concert: ConcertId, patch: SettingsPatch) -> Result<WaitingRoom, Error> {
        let _call = self.0.admit()?;
        let now = self.waiting_room(concert).await?;
        let wrong = check_settings("", &patch.apply(&now.settings));
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        self.0.ask::<Room>(&concert, waiting_room::Command::Configure { patch }).await?;
        self.waiting_room(concert).await
    }
}

impl Inner {
    /// What comes with a command that makes another concert or option.
    pub(super) async fn entry_request(self: &Arc<Self>, key: Option<IdempotencyKey>) -> Result<Request, Error> {
        let limit = self.config.limits.catalogue_entries;
        let already = self.read(|replica| Ok(replica.catalogue()?.entries())).await?;
        let refused = (already >= limit).then_some(Rejection::LimitExceeded { limit, already });
        Ok(self.request(key, refused))
    }
}

fn view(id: ConcertId, concert: catalogue::Concert, waiting_room: Settings) -> Concert {
    Concert { id, title: concert.title, waiting_room, options: concert.options, created_at: concert.created_at }
}

/// What is wrong with a title or a name.
pub(super) fn check_name(field: &str, name: &str) -> Option<FieldError> {
    let fits = (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    (!fits).then(|| FieldError::new(field, "must be 1 to 200 characters, none of them a control character"))
}

/// What is wrong with a number.
pub(super) fn check_range(field: impl Into<String>, value: u64, min: u64, max: u64) -> Option<FieldError> {
    (!(min..=max).contains(&value)).then(|| FieldError::new(field, format!("must be {min} to {max}")))
}

fn check_settings(prefix: &str, settings: &Settings) -> Vec<FieldError> {
    let seconds = u64::from(SECONDS_MAX);
    [
        check_range(format!("{prefix}max_active"), settings.max_active.into(), 1, ADMISSIONS_MAX.into()),
        settings
            .admit_per_minute
            .and_then(|n| check_range(format!("{prefix}admit_per_minute"), n.into(), 1, ADMISSIONS_MAX.into())),
        check_range(format!("{prefix}active_ttl_seconds"), settings.active_ttl_seconds.into(), 1, seconds),
        check_range(format!("{prefix}waiting_ttl_seconds"), settings.waiting_ttl_seconds.into(), 1, seconds),
    ]
    .into_iter()
    .flatten()
    .collect()
}
