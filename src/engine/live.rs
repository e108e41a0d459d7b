//! What a host app follows: an option's seats, and a place in a line.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Engine, Inner};
use crate::api::{Caller, Token};
use crate::domain::waiting_room::TokenStatus;
use crate::domain::{Lsn, OptionId, TokenId};
use crate::error::Error;
use crate::live::seats::{Ended, Hub, SeatUpdate, Subscription};
use crate::live::tokens::{Following, Room};

impl Engine {
    /// Follows an option's seats from `since` on, a seq that was heard before; `None`: from now on, with a snapshot to
    /// begin with.
    ///
    /// # Errors
    /// [`Rejection::NotFound`](crate::Rejection::NotFound).
    pub async fn seat_changes(&self, option: OptionId, since: Option<Lsn>) -> Result<SeatChanges, Error> {
        let plan = self.plan(option).await?;
        // Whatever this caller has seen before is in the first update.
        if let Some(since) = since {
            self.0.wait_for(since).await;
        }
        let not_before = self.seats_seq(option).await?;
        let Inner { node, host, hubs, config, .. } = &*self.0;
        let window = Duration::from_millis(config.live.window_ms);
        let hub = Hub::of(hubs, &node.replica, &plan, window, &host.blocking);
        let hub = hub.map_err(|error| self.0.fail(&error))?;
        let subscription = Subscription::new(hub, since, not_before);
        Ok(SeatChanges { inner: self.0.clone(), option, subscription })
    }

    /// Follows a place in a waiting room: what [`token`](Self::token) gives, whenever it has changed. As long as the
    /// holder waits for the next one, that is a sign of life.
    ///
    /// # Errors
    /// [`Rejection::NotFound`](crate::Rejection::NotFound), also if it is somebody else's.
    pub async fn token_changes(&self, caller: Caller, id: TokenId) -> Result<TokenChanges, Error> {
        let following = Following::new(Room::of(&self.0.hubs, id.concert), id.no);
        self.token(&caller, id).await?;
        let changes = following.changes();
        let inner = self.0.clone();
        Ok(TokenChanges {
            inner,
            caller,
            id,
            following,
            changes,
            status_due: false,
            checked_at: Instant::now(),
            told: None,
            alive_until: None,
        })
    }
}

/// The changes of an option's seats. Whoever is slow gets fewer and larger ones.
pub struct SeatChanges {
    inner: Arc<Inner>,
    option: OptionId,
    subscription: Subscription,
}

impl SeatChanges {
    /// What comes next. First, at once, a delta from the `since` that was asked for, even if nothing has changed; a
    /// snapshot if there was none, or it is not a seq that this option can have had. Then deltas, each from the seq of the
    /// one before, as soon as something has changed; and a snapshot where that is shorter, for those who have fallen
    /// behind, or where the option has got other seats or more areas. May be called again after it was cancelled.
    ///
    /// # Errors
    /// The engine is closed; [`Rejection::NotFound`](crate::Rejection::NotFound) once the option is deleted.
    pub async fn next(&mut self) -> Result<Arc<SeatUpdate>, Error> {
        loop {
            match self.subscription.next().await {
                Ok(update) => return Ok(update),
                Err(Ended) => self.begin_anew().await?,
            }
        }
    }

    /// Follows what the option has become, if there still is one.
    async fn begin_anew(&mut self) -> Result<(), Error> {
        if self.inner.hubs.has_ended() {
            return Err(self.inner.outcome_unknown());
        }
        let anew = Engine(self.inner.clone()).seat_changes(self.option, None).await?;
        self.subscription = anew.subscription;
        Ok(())
    }

    /// Waits until there is something to be told. May be called again after it was cancelled.
    #[cfg(feature = "server")]
    pub(crate) async fn due(&mut self) -> Result<(), Error> {
        loop {
            match self.subscription.due().await {
                Ok(()) => return Ok(()),
                Err(Ended) => self.begin_anew().await?,
            }
        }
    }

    /// Who hears of them, without the engine.
    #[cfg(feature = "server")]
    pub(crate) fn subscription(&mut self) -> &mut Subscription {
        &mut self.subscription
    }
}

/// The changes of a place in a waiting room.
pub struct TokenChanges {
    inner: Arc<Inner>,
    caller: Caller,
    id: TokenId,
    following: Following,
    /// How often the line had changed when the token was looked at.
    changes: u64,
    status_due: bool,
    checked_at: Instant,
    /// What was told last, and when.
    told: Option<(Token, Instant)>,
    alive_until: Option<Instant>,
}

impl TokenChanges {
    /// What comes next: at first, at once, the token as it is; then as soon as it has another status, once a second where
    /// its position has changed, and every five seconds in any case (`live.position_ms`, `live.token_ms`). May be called
    /// again after it was cancelled.
    ///
    /// # Errors
    /// The engine is closed.
    pub async fn next(&mut self) -> Result<Token, Error> {
        loop {
            let Some((last, told_at)) = &self.told else { return self.tell().await };
            let (position, repeat) = self.intervals();
            let check_at = match last.status {
                TokenStatus::Waiting => (self.checked_at.max(*told_at) + position).min(*told_at + repeat),
                _ => *told_at + repeat,
            };
            let due = tokio::select! {
                biased;
                () = self.following.told(), if !self.status_due => Due::Status,
                () = std::future::ready(()), if self.status_due => Due::Status,
                () = tokio::time::sleep_until(check_at) => match told_at.elapsed() >= repeat {
                    true => Due::Repeat,
                    false => Due::Position,
                },
            };
            if self.following.has_ended() {
                return Err(self.inner.outcome_unknown());
            }
            // Until it has been looked at: this may be cancelled on the way.
            self.status_due |= due == Due::Status;
            self.checked_at = Instant::now();
            self.note_life();
            let changed = self.following.changes() != self.changes;
            match due {
                Due::Repeat => return self.tell().await,
                Due::Position if !changed => {}
                Due::Status | Due::Position => {
                    let known = (last.status, last.position);
                    let changes = self.following.changes();
                    let token = self.inner.own_token(&self.caller, self.id).await?;
                    let worth = token.status != known.0 || due == Due::Position && token.position != known.1;
                    (self.changes, self.status_due) = (changes, false);
                    if worth {
                        self.told = Some((token.clone(), Instant::now()));
                        return Ok(token);
                    }
                }
            }
        }
    }

    /// From `until` on, waiting for the next one is not a sign of life any more: for those who have not heard from the
    /// holder.
    pub fn alive_until(&mut self, until: std::time::Instant) {
        self.alive_until = Some(until.into());
    }

    fn intervals(&self) -> (Duration, Duration) {
        let live = &self.inner.config.live;
        (Duration::from_millis(live.position_ms), Duration::from_millis(live.token_ms))
    }

    fn note_life(&self) {
        if self.alive_until.is_none_or(|until| Instant::now() < until) {
            self.inner.heard_from(&self.caller, self.id);
        }
    }

    async fn tell(&mut self) -> Result<Token, Error> {
        let changes = self.following.changes();
        let token = self.inner.own_token(&self.caller, self.id).await?;
        (self.changes, self.status_due) = (changes, false);
        self.told = Some((token.clone(), Instant::now()));
        Ok(token)
    }
}

/// Why a token is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It may have another status.
    Status,
    /// Its position may have changed.
    Position,
    /// It has not been told for a while.
    Repeat,
}
