//! Waiting rooms: tokens, and who may hold seats with them.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::calls::{GetToken, IssueToken, LeaveQueue};
use super::{Engine, Inner, Node, seen};
use crate::actors::actor::Host as _;
use crate::api::{Caller, Token};
use crate::domain::waiting_room::{Command, Mode, Part, Reply, TokenRow, TokenStatus, TokenView, WaitingRoom};
use crate::domain::{ConcertId, Rejection, TokenId, UserId};
use crate::error::Error;
use crate::replica::{Cold, Replica};

/// How often those who wait should ask, in seconds: those next in line more often.
const REFRESH_SECONDS: std::ops::RangeInclusive<u64> = 1..=20;
/// Bytes of a token's signature.
const SIGNATURE_BYTES: usize = 16;

/// What holds are checked against, of one concert.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoomInfo {
    pub(super) mode: Mode,
    signing_key: [u8; 32],
}

/// A user's place in a waiting room.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct IssuedToken {
    /// The token.
    #[n(0)]
    pub token: Token,
    /// Whether it has just been issued; if not, the user had it already.
    #[n(1)]
    pub fresh: bool,
}

impl Engine {
    /// Gives a user a place in a concert's waiting room; who has one keeps it. While the room is open it is active at once.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] if there is no such concert.
    pub async fn issue_token(&self, concert: ConcertId, user: &UserId) -> Result<IssuedToken, Error> {
        // A call that is refused for load is still a sign of life.
        match self.still_there(concert, user) {
            // Whether the owner hears of this line, its answer says.
            Ok(()) | Err(Error::NoOwner) => {}
            Err(error) => return Err(error),
        }
        match self.0.away() {
            None => decided!(self.0, self.0.issue_token(concert, user)),
            Some(_) => self.0.ask_owner(IssueToken { concert, user: user.clone() }).await,
        }
    }

    /// A user who may have a place in a concert's waiting room has given a sign of life. For calls that never came to the
    /// engine, such as those that were too many.
    ///
    /// # Errors
    /// A fault of the engine's; [`Error::NoOwner`] if the node that decides has not heard of those in this line for long.
    pub fn still_there(&self, concert: ConcertId, user: &UserId) -> Result<(), Error> {
        let Node { replica, liveness, .. } = &self.0.node;
        // Which lines somebody stands in the owner knows.
        if self.0.away().is_none() && !liveness.contains_key(&concert) {
            return Ok(());
        }
        let token = move |replica: &mut Replica, user: &UserId| Ok(replica.room(concert)?.live_token(user));
        match self.0.glance(|replica| token(replica, user))? {
            Ok(None) => Ok(()),
            Ok(Some(no)) => self.0.alive(TokenId { concert, no }),
            Err(Cold { .. }) => {
                let (inner, replica, user) = (self.0.clone(), replica.clone(), user.clone());
                self.0.host.in_background(move || {
                    // Whoever reads next finds out if it cannot be had.
                    if let Ok(Some(no)) = replica.read(|replica| token(replica, &user)) {
                        let _ = inner.alive(TokenId { concert, no });
                    }
                });
                Ok(())
            }
        }
    }

    /// A place in a waiting room, and how far it has moved. Looking is a sign of life.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is somebody else's.
    pub async fn token(&self, caller: &Caller, id: TokenId) -> Result<Token, Error> {
        if self.0.away().is_none() {
            let token = known!(self.0, self.0.own_token(caller, id))?;
            self.0.heard_from(caller, id);
            return Ok(token);
        }
        Box::pin(self.0.token_away(caller, id)).await
    }

    /// How many wait, in all waiting rooms.
    ///
    /// # Errors
    /// The engine is closed.
    pub async fn waiting_tokens(&self) -> Result<u64, Error> {
        self.0.up_to_date().await?;
        // Each line in which somebody waits is looked after.
        let rooms: Vec<_> = self.0.node.liveness.iter().map(|room| *room.key()).collect();
        let mut waiting = 0;
        for concert in rooms {
            waiting += self.0.look(|replica| Ok(replica.room(concert)?.counts().waiting)).await?;
        }
        Ok(waiting)
    }

    /// Gives a place in a waiting room up, whether it waits or is active.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is somebody else's, or has come to its end.
    pub async fn leave_queue(&self, caller: &Caller, id: TokenId) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.leave_queue(caller, id)),
            Some(_) => self.0.ask_owner(LeaveQueue { caller: caller.clone(), id }).await,
        }
    }
}

fn refresh_interval(view: &TokenView) -> u64 {
    match view.position {
        Some(position) => (position / 500).clamp(*REFRESH_SECONDS.start(), *REFRESH_SECONDS.end()),
        None => 5,
    }
}

/// `<id>.<HMAC-SHA256 of id and user, 16 bytes, hexadecimal>`.
fn sign(key: &[u8; 32], id: TokenId, user: &UserId) -> String {
    let signature = &mac(key, id, user).finalize().into_bytes()[..SIGNATURE_BYTES];
    format!("{id}.{}", base16ct::lower::encode_string(signature))
}

fn mac(key: &[u8; 32], id: TokenId, user: &UserId) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("a key of 32 bytes");
    mac.update(format!("{id} {user}").as_bytes());
    mac
}

/// The token that `text` is the signed form of, if it is one of this user and concert.
fn verify(key: &[u8; 32], concert: ConcertId, user: &UserId, text: &str) -> Option<TokenId> {
    let (id, signature) = text.split_once('.')?;
    let id: TokenId = id.parse().ok().filter(|id: &TokenId| id.concert == concert)?;
    let mut bytes = [0; SIGNATURE_BYTES];
    // In lower case only, so that a token has one text form.
    let bytes = base16ct::lower::decode(signature, &mut bytes).ok().filter(|bytes| bytes.len() == SIGNATURE_BYTES)?;
    mac(key, id, user).verify_truncated_left(bytes).ok().map(|()| id)
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn issue_token(
        self: &Arc<Self>,
        concert: ConcertId,
        user: &UserId,
    ) -> Result<IssuedToken, Error> {
        let _call = self.admit_newcomer()?;
        self.room_info(concert).await?;
        let Reply::Token { no, fresh } =
            self.ask::<WaitingRoom>(&concert, Command::IssueToken { user: user.clone() }).await?
        else {
            return Err(Error::Internal("the waiting room answered something else".into()));
        };
        if !fresh {
            self.certain().await?;
        }
        let (holder, id) = (Caller::User(user.clone()), TokenId { concert, no });
        let token = self.own_token(&holder, id).await?;
        self.heard_from(&holder, id);
        Ok(IssuedToken { token, fresh })
    }

    pub(in crate::engine) async fn leave_queue(self: &Arc<Self>, caller: &Caller, id: TokenId) -> Result<(), Error> {
        let _call = self.admit()?;
        self.room_info(id.concert).await?;
        let (user, by) = match caller {
            Caller::User(user) => (Some(user.clone()), None),
            Caller::Admin => (None, None),
            Caller::Staff(staff) => (None, Some(staff.clone())),
        };
        self.ask::<WaitingRoom>(&id.concert, Command::Leave { user, by, no: id.no }).await.map(|_| ())
    }

    /// What holds on a concert are checked against.
    async fn room_info(self: &Arc<Self>, concert: ConcertId) -> Result<RoomInfo, Error> {
        if let Some(info) = self.rooms.get(&concert) {
            return Ok(*info);
        }
        Box::pin(self.load_room_info(concert)).await
    }

    async fn load_room_info(self: &Arc<Self>, concert: ConcertId) -> Result<RoomInfo, Error> {
        self.up_to_date().await?;
        let mut fetched = Vec::new();
        loop {
            let cold = {
                // The entry is held while the replica is read, so that no change of mode falls in between.
                let entry = self.rooms.entry(concert);
                let info = self.glance(|replica| {
                    let Some(known) = replica.catalogue()?.concert(concert) else { return Ok(None) };
                    let signing_key = known.signing_key;
                    Ok(Some(RoomInfo { mode: replica.room(concert)?.settings().mode, signing_key }))
                });
                match info? {
                    Ok(info) => return Ok(*entry.or_insert(info.ok_or(Rejection::NotFound)?)),
                    Err(cold) => cold,
                }
            };
            fetched.push(self.fetch(cold).await?);
        }
    }

    /// Whether a user may hold seats of a concert now, and with which token.
    pub(super) async fn let_in(
        self: &Arc<Self>,
        concert: ConcertId,
        user: &UserId,
        queue_token: Option<&str>,
    ) -> Result<Result<Option<u64>, Rejection>, Error> {
        let info = self.room_info(concert).await?;
        if info.mode == Mode::Open {
            return Ok(Ok(None));
        }
        let token = queue_token.and_then(|text| verify(&info.signing_key, concert, user, text));
        let Some(token) = token else { return Ok(Err(Rejection::QueueTokenRequired)) };
        seen(&self.node.liveness, token);
        let now = self.now();
        let view = Box::pin(self.read(|replica| Ok(replica.room(concert)?.token(now, token.no)))).await?;
        let active = view.is_some_and(|view| view.status == TokenStatus::Active);
        Ok(if active { Ok(Some(token.no)) } else { Err(Rejection::QueueTokenNotActive) })
    }

    /// As [`own_token`](Self::own_token), where another node decides. Who waits is told from here how far the line has moved; whatever
    /// else has become of a token the owner tells.
    async fn token_away(self: &Arc<Self>, caller: &Caller, id: TokenId) -> Result<Token, Error> {
        let found = match self.own_token(caller, id).await {
            Err(error) if self.may_have_come(&error).await? => self.own_token(caller, id).await,
            found => found,
        };
        let token = found?;
        if token.status != TokenStatus::Waiting {
            return self.ask_owner(GetToken { caller: caller.clone(), id }).await;
        }
        // Somebody else's look says nothing of the holder.
        if matches!(caller, Caller::User(_)) {
            self.alive(id)?;
        }
        Ok(token)
    }

    /// A place in a waiting room, for whoever may see it, as this node knows it.
    pub(super) async fn own_token(self: &Arc<Self>, caller: &Caller, id: TokenId) -> Result<Token, Error> {
        let info = self.room_info(id.concert).await?;
        let view = self.find_token(id).await?;
        if matches!(caller, Caller::User(user) if *user != view.user) {
            return Err(Rejection::NotFound.into());
        }
        let expires_at = view.expires_at.filter(|_| view.status == TokenStatus::Active);
        Ok(Token {
            id,
            token: sign(&info.signing_key, id, &view.user),
            concert_id: id.concert,
            status: view.status,
            position: view.position,
            ahead: view.ahead,
            queue_size: view.queue_size,
            expected_wait_seconds: view.expected_wait_seconds,
            refresh_interval_seconds: refresh_interval(&view),
            expires_at,
        })
    }

    /// A token, wherever it is.
    pub(super) async fn find_token(self: &Arc<Self>, id: TokenId) -> Result<TokenView, Error> {
        let now = self.now();
        let live = self.read(|replica| {
            let room = replica.room(id.concert)?;
            Ok((room.token(now, id.no), room.counts().waiting))
        });
        let (live, waiting) = live.await?;
        if let Some(view) = live {
            return Ok(view);
        }
        let row = Box::pin(self.find::<WaitingRoom>(&id.concert, &Part::Token(id.no))).await?;
        let row = row.ok_or(Rejection::NotFound)?;
        let row: TokenRow = minicbor::decode(&row).map_err(|source| Error::Internal(source.to_string()))?;
        Ok(row.view(id.no, waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_token_is_good_for_its_user_and_concert_only() {
        let (key, user) = ([7; 32], "anna".parse::<UserId>().unwrap());
        let id: TokenId = "t3-12".parse().unwrap();
        let text = sign(&key, id, &user);
        assert!(text.len() <= 64 + 33);
        assert_eq!(verify(&key, ConcertId(3), &user, &text), Some(id));
        assert_eq!(verify(&key, ConcertId(4), &user, &text), None);
        assert_eq!(verify(&[8; 32], ConcertId(3), &user, &text), None);
        assert_eq!(verify(&key, ConcertId(3), &"berta".parse().unwrap(), &text), None);
        for wrong in [
            text.replace("t3-12", "t3-13"),
            text.to_uppercase(),
            text.replace('.', ""),
            format!("{text}00"),
            text[..text.len() - 2].to_owned(),
            "t3-12.".to_owned(),
            String::new(),
        ] {
            assert_eq!(verify(&key, ConcertId(3), &user, &wrong), None, "{wrong}");
        }
    }
}
