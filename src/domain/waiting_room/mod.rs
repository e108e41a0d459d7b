//! The waiting room of one concert: who may go in to hold seats, and in what order the others wait.
//!
//! A token waits or is active, and ends used (its holder paid) or expired (timed out, silent for too long, or left). Two
//! throttles stand at the door: so many inside, and so many let in a minute. Both bind in mode `queue` only.
//!
//! Rules that are not obvious:
//! - **Opening.** With `opens_at` set, the line is closed: people join it, nobody has a position, nobody is let in. It
//!   opens at the first tick from `opens_at` on, or from when `opens_at` is taken away again, whatever the mode is by
//!   then, and stays open for good: whoever wants to stop it after that pauses. A line without `opens_at` is open from the
//!   start; it closes, once, when it is given an `opens_at`.
//! - **Shuffle.** Drawn over all numbers from the first waiter's to the last issued, so that the order of those who wait
//!   follows from the seed and two numbers that stand in the header row: opening a line of a million changes one row.
//! - **Mode `open`** ignores both throttles, and who gets in then is not counted by `admit_per_minute`. Those who wait when
//!   it begins get in with it, [`ADMIT_BATCH_MAX`] at once and as many again each tick.
//! - **Throttles are about the present.** A limit that is lowered throws nobody out; what was let in before counts.
//!
//! What it must not know: who is still there. Signs of life are kept outside ([`Liveness`]); silence comes in as a command.

mod admissions;
mod line;
mod liveness;
mod settings;
mod shuffle;
mod tokens;

use std::collections::BTreeSet;

pub use liveness::Liveness;
pub use settings::{Mode, Order, Settings, SettingsPatch};

use super::{
    Aggregate, Answer, Changes, ConcertId, CorruptRow, Decided, Message, Meta, Rejection, ReservationId, Timestamp,
    UserId, catalogue, concert_option,
};
use admissions::Admissions;
use line::Line;
use tokens::{State, Token, Tokens};

/// So many tokens are let in by one event at most, and stand in one event of expiry at most.
pub const ADMIT_BATCH_MAX: usize = 10_000;

/// What can be asked of a waiting room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The concert has been created. Idempotent; acknowledged to the catalogue each time, nobody else is answered.
    Open {
        /// Whose waiting room this is.
        concert: ConcertId,
        /// How it is run at first.
        settings: Settings,
    },
    /// Changes how it is run. Answered with [`Reply::Configured`].
    Configure {
        /// What to change.
        patch: SettingsPatch,
    },
    /// Asks for a token. Who has a live one gets that one. Answered with [`Reply::Token`].
    IssueToken {
        /// For whom.
        user: UserId,
    },
    /// Gives a live token back. Answered with [`Reply::Left`].
    Leave {
        /// Whose token it must be; `None` if an administrator asks.
        user: Option<UserId>,
        /// Its number.
        no: u64,
    },
    /// Their holders have been silent for too long. Those among them who wait expire; nobody is answered.
    ExpireSilent {
        /// Their numbers.
        tokens: Vec<u64>,
    },
    /// A reservation made with this token has been paid. Idempotent; acknowledged to the option each time, nobody else is
    /// answered.
    CompleteToken {
        /// Its number.
        no: u64,
        /// What has been paid.
        reservation: ReservationId,
    },
}

/// What can have happened to a waiting room.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// It exists.
    #[n(0)]
    Opened {
        /// Whose it is.
        #[n(0)]
        concert: ConcertId,
        /// How it is run.
        #[n(1)]
        settings: Settings,
    },
    /// It is run in another way from now on.
    #[n(1)]
    Configured {
        /// How; all of it.
        #[n(0)]
        settings: Settings,
    },
    /// A user has a new token.
    #[n(2)]
    TokenIssued {
        /// Its number.
        #[n(0)]
        no: u64,
        /// Whose.
        #[n(1)]
        user: UserId,
        /// Until when it is active; `None` if it waits, at the end of the line.
        #[n(2)]
        active_until: Option<Timestamp>,
    },
    /// The line has opened.
    #[n(3)]
    LineOpened {
        /// Where those who wait have been shuffled: by this seed.
        #[n(0)]
        seed: Option<u64>,
    },
    /// Tokens that waited are active.
    #[n(4)]
    TokensAdmitted {
        /// Their numbers, in the order of the line.
        #[n(0)]
        tokens: Vec<u64>,
        /// Until when.
        #[n(1)]
        expires_at: Timestamp,
    },
    /// Tokens have come to their end: their time inside is over, or their holders did not wait any longer.
    #[n(5)]
    TokensExpired {
        /// Their numbers.
        #[n(0)]
        tokens: Vec<u64>,
    },
    /// A token was given back, and is expired.
    #[n(6)]
    TokenLeft {
        /// Its number.
        #[n(0)]
        no: u64,
    },
    /// The holder of a token has paid.
    #[n(7)]
    TokenUsed {
        /// Its number.
        #[n(0)]
        no: u64,
    },
}

/// What a waiting room answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The user's live token.
    Token {
        /// Its number.
        no: u64,
        /// Whether it has just been issued.
        fresh: bool,
    },
    /// The settings are as wanted.
    Configured,
    /// The token is given back.
    Left,
}

/// The name of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Settings, counters and the log of admissions.
    Header,
    /// A token, by its number.
    Token(u64),
}

impl super::Part for Part {
    fn encode(&self, key: &mut Vec<u8>) {
        match self {
            Self::Header => key.push(0),
            Self::Token(no) => {
                key.push(1);
                key.extend(no.to_be_bytes());
            }
        }
    }

    fn decode(key: &[u8]) -> Option<Self> {
        let (&tag, rest) = key.split_first()?;
        match tag {
            0 if rest.is_empty() => Some(Self::Header),
            1 => Some(Self::Token(u64::from_be_bytes(rest.try_into().ok()?))),
            _ => None,
        }
    }
}

/// Where a token is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, minicbor::Encode, minicbor::Decode,
)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum TokenStatus {
    /// In the line.
    #[n(0)]
    Waiting,
    /// Inside.
    #[n(1)]
    Active,
    /// Its holder paid.
    #[n(2)]
    Used,
    /// Timed out, silent for too long, or given back.
    #[n(3)]
    Expired,
}

/// A token as its row holds it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct TokenRow {
    /// Whose it is.
    #[n(0)]
    pub user: UserId,
    /// When it was issued.
    #[n(1)]
    pub issued_at: Timestamp,
    /// Where it is in its life.
    #[n(2)]
    pub status: TokenStatus,
    /// Until when it is, or was to be, active; `None` if it never was.
    #[n(3)]
    pub expires_at: Option<Timestamp>,
    /// When it was used or expired.
    #[n(4)]
    pub ended_at: Option<Timestamp>,
}

/// A token as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    /// Its number in this room.
    pub no: u64,
    /// Whose it is.
    pub user: UserId,
    /// Where it is in its life.
    pub status: TokenStatus,
    /// Its place, 1 for the next; `None` unless it waits in a line that has opened.
    pub position: Option<u64>,
    /// How many stand before it; `None` where `position` is.
    pub ahead: Option<u64>,
    /// How many wait in all.
    pub queue_size: u64,
    /// An estimate, in seconds: see [`WaitingRoom::token`].
    pub expected_wait_seconds: Option<u64>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Until when it is, or was to be, active; `None` if it never was.
    pub expires_at: Option<Timestamp>,
}

impl TokenRow {
    /// The view of a token that is not in memory any more, number `no`, while `queue_size` others wait.
    #[must_use]
    pub fn view(&self, no: u64, queue_size: u64) -> TokenView {
        TokenView {
            no,
            user: self.user.clone(),
            status: self.status,
            position: None,
            ahead: None,
            queue_size,
            expected_wait_seconds: None,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
        }
    }
}

/// How many tokens are where in their life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// In the line.
    pub waiting: u64,
    /// Inside.
    pub active: u64,
    /// Whose holders paid.
    pub used: u64,
    /// Timed out, silent for too long, or given back.
    pub expired: u64,
}

/// The waiting room of one concert.
#[derive(Clone, Default)]
pub struct WaitingRoom {
    header: Header,
    tokens: Tokens,
    line: Line,
    /// When each active token runs out.
    deadlines: BTreeSet<(Timestamp, u64)>,
}

/// All that is not about one token; it is a row.
#[derive(Debug, Clone, Default, minicbor::Encode, minicbor::Decode)]
struct Header {
    #[n(0)]
    concert: Option<ConcertId>,
    #[n(1)]
    settings: Settings,
    /// The last number that was issued; the first is 1.
    #[n(2)]
    last_no: u64,
    #[n(3)]
    doors: Doors,
    #[n(4)]
    shuffled: Option<Shuffled>,
    #[n(5)]
    used: u64,
    #[n(6)]
    expired: u64,
    #[n(7)]
    admissions: Admissions,
}

/// Whether the line is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
enum Doors {
    /// Yes, since no opening was ever planned.
    #[default]
    #[n(0)]
    Unscheduled,
    /// No, an opening is planned.
    #[n(1)]
    Closed,
    /// Yes, for good.
    #[n(2)]
    Opened,
}

/// What the order of those who were shuffled follows from.
#[derive(Debug, Clone, Copy, minicbor::Encode, minicbor::Decode)]
struct Shuffled {
    #[n(0)]
    seed: u64,
    /// Number of the first of them.
    #[n(1)]
    first: u64,
    /// How many numbers from there were drawn.
    #[n(2)]
    count: u32,
}

impl Shuffled {
    fn contains(&self, no: u64) -> bool {
        no.checked_sub(self.first).is_some_and(|offset| offset < u64::from(self.count))
    }
}

impl WaitingRoom {
    /// Token `no` at `now`, if it is live; used and expired ones are in the archive, as [`TokenRow`]s. One whose time has
    /// just run out shows as expired.
    ///
    /// `expected_wait_seconds` is `position` divided by the rate at which people get in. While a place is free for this
    /// position, that is `admit_per_minute`, or no wait where that is not set. Otherwise places must be given back first,
    /// and the rate is what was let in during the last 60 s, at most `admit_per_minute`; if that was nobody,
    /// `admit_per_minute` alone, or unknown (`None`) where that is not set. Unknown too while nobody is let in.
    #[must_use]
    pub fn token(&self, now: Timestamp, no: u64) -> Option<TokenView> {
        let row = self.token_row(no)?;
        let mut view = row.view(no, self.line.len());
        if view.expires_at.is_some_and(|until| until <= now) {
            view.status = TokenStatus::Expired;
        }
        if let Some(Token { state: State::Waiting { place }, .. }) = self.tokens.get(no)
            && self.header.doors != Doors::Closed
        {
            view.ahead = self.line.rank(*place);
            view.position = view.ahead.map(|ahead| ahead + 1);
            view.expected_wait_seconds = view.position.and_then(|position| self.expected_wait(now, position));
        }
        Some(view)
    }

    /// The number of the user's live token.
    #[must_use]
    pub fn live_token(&self, user: &UserId) -> Option<u64> {
        self.tokens.of(user)
    }

    /// How many tokens are where in their life.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            waiting: self.line.len(),
            active: self.deadlines.len() as u64,
            used: self.header.used,
            expired: self.header.expired,
        }
    }

    /// Whose waiting room it is; `None` before it is opened.
    #[must_use]
    pub fn concert(&self) -> Option<ConcertId> {
        self.header.concert
    }

    /// How it is run.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.header.settings
    }

    /// Whether seats may be held without a token.
    #[must_use]
    pub fn is_open_mode(&self) -> bool {
        self.header.settings.mode == Mode::Open
    }

    /// The numbers of those who wait, from the head of the line.
    pub fn waiting(&self) -> impl Iterator<Item = u64> + '_ {
        self.line.iter()
    }

    /// Those who wait at a place of the line or behind it: places and numbers, from the head.
    pub fn waiting_from(&self, place: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.line.iter_from(place)
    }

    fn expected_wait(&self, now: Timestamp, position: u64) -> Option<u64> {
        let settings = &self.header.settings;
        let limit = settings.admit_per_minute.map(u64::from);
        let place_is_free = position <= self.places_free();
        let per_minute = match (settings.mode, limit) {
            (Mode::Paused, _) => return None,
            (Mode::Open, _) => return Some(0),
            (Mode::Queue, None) if place_is_free => return Some(0),
            (Mode::Queue, Some(limit)) if place_is_free => limit,
            (Mode::Queue, _) => match self.header.admissions.in_last_minute(now) {
                0 => limit?,
                seen => seen.min(limit.unwrap_or(u64::MAX)),
            },
        };
        position.saturating_mul(60).checked_add(per_minute.saturating_sub(1))?.checked_div(per_minute)
    }

    fn places_free(&self) -> u64 {
        u64::from(self.header.settings.max_active).saturating_sub(self.deadlines.len() as u64)
    }

    /// How many of those who wait may go in at `now`.
    fn admissible(&self, now: Timestamp) -> usize {
        let allowed = match self.header.settings.mode {
            Mode::Open => u64::MAX,
            Mode::Queue if self.header.doors != Doors::Closed => {
                let per_minute = self.header.settings.admit_per_minute;
                let in_time = per_minute.map_or(u64::MAX, |limit| self.header.admissions.allowed(now, limit));
                in_time.min(self.places_free())
            }
            Mode::Queue | Mode::Paused => 0,
        };
        allowed.min(self.line.len()).min(ADMIT_BATCH_MAX as u64) as usize
    }

    /// When [`admissible`](Self::admissible) will not be 0 as things stand; the epoch if it is not now.
    fn admissible_from(&self) -> Option<Timestamp> {
        if self.line.is_empty() {
            return None;
        }
        match self.header.settings.mode {
            Mode::Open => Some(Timestamp::default()),
            Mode::Queue if self.header.doors != Doors::Closed && self.places_free() > 0 => {
                match self.header.settings.admit_per_minute {
                    None => Some(Timestamp::default()),
                    Some(limit) => self.header.admissions.allowed_from(limit),
                }
            }
            Mode::Queue | Mode::Paused => None,
        }
    }

    /// When the line opens, if it is yet to; the epoch if nothing keeps it closed any more.
    fn opens_from(&self) -> Option<Timestamp> {
        (self.header.doors == Doors::Closed).then(|| self.header.settings.opens_at.unwrap_or_default())
    }

    fn admit(&self, now: Timestamp, count: usize) -> Event {
        let expires_at = self.active_until(now);
        Event::TokensAdmitted { tokens: self.line.iter().take(count).collect(), expires_at }
    }

    fn active_until(&self, now: Timestamp) -> Timestamp {
        now.plus_millis(u64::from(self.header.settings.active_ttl_seconds) * 1000)
    }

    fn configure(&self, now: Timestamp, patch: &SettingsPatch, out: &mut Decided<Event>) {
        let old = &self.header.settings;
        let settings = patch.apply(old);
        if settings == *old {
            return;
        }
        let opens_to_all = settings.mode == Mode::Open && !self.line.is_empty();
        let expires_at = now.plus_millis(u64::from(settings.active_ttl_seconds) * 1000);
        out.events.push(Event::Configured { settings });
        if opens_to_all {
            let tokens = self.line.iter().take(ADMIT_BATCH_MAX).collect();
            out.events.push(Event::TokensAdmitted { tokens, expires_at });
        }
    }

    fn issue(&self, now: Timestamp, user: &UserId, out: &mut Decided<Event>) -> Reply {
        if let Some(no) = self.tokens.of(user) {
            return Reply::Token { no, fresh: false };
        }
        let no = self.header.last_no + 1;
        let active_until = self.is_open_mode().then(|| self.active_until(now));
        out.events.push(Event::TokenIssued { no, user: user.clone(), active_until });
        Reply::Token { no, fresh: true }
    }

    fn leave(&self, user: Option<&UserId>, no: u64, out: &mut Decided<Event>) -> Result<Reply, Rejection> {
        let token = self.tokens.get(no).ok_or(Rejection::NotFound)?;
        if user.is_some_and(|user| *user != token.user) {
            return Err(Rejection::NotFound);
        }
        out.events.push(Event::TokenLeft { no });
        Ok(Reply::Left)
    }

    fn expire_silent(&self, tokens: &[u64], out: &mut Decided<Event>) {
        let waits = |no: &u64| matches!(self.tokens.get(*no), Some(Token { state: State::Waiting { .. }, .. }));
        // A number that comes twice must not stand in the event twice.
        let waiting: BTreeSet<u64> = tokens.iter().copied().filter(waits).collect();
        push_expired(waiting, out);
    }

    fn complete(&self, no: u64, reservation: ReservationId, out: &mut Decided<Event>) {
        if let Some(Token { state: State::Active { .. }, .. }) = self.tokens.get(no) {
            out.events.push(Event::TokenUsed { no });
        }
        let acknowledgement = concert_option::Command::TokenCompleted { reservation: reservation.no };
        out.tell.push(Message::Option(reservation.option, acknowledgement));
    }

    fn open(&self, concert: ConcertId, settings: &Settings, out: &mut Decided<Event>) {
        if self.header.concert.is_none() {
            out.events.push(Event::Opened { concert, settings: settings.clone() });
        }
        out.tell.push(Message::Catalogue(catalogue::Command::RoomOpened { concert }));
    }

    fn apply_settings(&mut self, settings: &Settings) {
        if self.header.doors == Doors::Unscheduled && settings.opens_at.is_some() {
            self.header.doors = Doors::Closed;
        }
        self.header.settings = settings.clone();
    }

    fn apply_issued(&mut self, at: Timestamp, no: u64, user: &UserId, active_until: Option<Timestamp>) {
        self.header.last_no = self.header.last_no.max(no);
        let state = match active_until {
            Some(until) => {
                self.deadlines.insert((until, no));
                State::Active { until }
            }
            None => State::Waiting { place: self.line.push(no) },
        };
        self.tokens.insert(no, Token { user: user.clone(), issued_at: at, state });
    }

    fn apply_opened_line(&mut self, seed: Option<u64>) {
        self.header.doors = Doors::Opened;
        // Nobody has been let in past a closed line, so its head has the lowest number.
        let head = self.line.iter().next();
        if let (Some(seed), Some(first)) = (seed, head) {
            let count = u32::try_from(self.header.last_no - first + 1).unwrap_or(u32::MAX);
            self.header.shuffled = Some(Shuffled { seed, first, count });
            self.line_up();
        }
    }

    fn apply_admitted(&mut self, at: Timestamp, tokens: &[u64], until: Timestamp, changes: &mut impl Changes<Part>) {
        let mut admitted = 0;
        for &no in tokens {
            let Some(token) = self.tokens.get_mut(no) else { continue };
            let State::Waiting { place } = token.state else { continue };
            token.state = State::Active { until };
            self.line.remove(place);
            self.deadlines.insert((until, no));
            changes.touch(Part::Token(no));
            admitted += 1;
        }
        if self.header.settings.mode == Mode::Queue && admitted > 0 {
            self.header.admissions.record(at, admitted);
        }
    }

    fn apply_end(&mut self, at: Timestamp, no: u64, status: TokenStatus, changes: &mut impl Changes<Part>) {
        let Some(token) = self.tokens.remove(no) else { return };
        let expires_at = match token.state {
            State::Waiting { place } => {
                self.line.remove(place);
                None
            }
            State::Active { until } => {
                self.deadlines.remove(&(until, no));
                Some(until)
            }
        };
        match status {
            TokenStatus::Used => self.header.used += 1,
            _ => self.header.expired += 1,
        }
        let Token { user, issued_at, .. } = token;
        changes
            .archive(Part::Token(no), || encode(&TokenRow { user, issued_at, status, expires_at, ended_at: Some(at) }));
    }

    /// Gives everybody who waits their place: first those who were shuffled, then the others by number.
    fn line_up(&mut self) {
        self.line = Line::default();
        let shuffled = self.header.shuffled;
        if let Some(Shuffled { seed, first, count }) = shuffled {
            for offset in shuffle::permutation(seed, count) {
                self.place_last(first + u64::from(offset));
            }
        }
        let is_placed = |no: u64| shuffled.is_some_and(|shuffled| shuffled.contains(no));
        let others: Vec<u64> = self.tokens.iter().map(|(no, _)| no).filter(|&no| !is_placed(no)).collect();
        others.into_iter().for_each(|no| self.place_last(no));
    }

    fn place_last(&mut self, no: u64) {
        if let Some(Token { state: State::Waiting { place }, .. }) = self.tokens.get_mut(no) {
            *place = self.line.push(no);
        }
    }

    fn token_row(&self, no: u64) -> Option<TokenRow> {
        let Token { user, issued_at, state } = self.tokens.get(no)?;
        let (status, expires_at) = match *state {
            State::Waiting { .. } => (TokenStatus::Waiting, None),
            State::Active { until } => (TokenStatus::Active, Some(until)),
        };
        Some(TokenRow { user: user.clone(), issued_at: *issued_at, status, expires_at, ended_at: None })
    }

    fn load_token(&mut self, no: u64, row: TokenRow) {
        let state = match (row.status, row.expires_at) {
            (TokenStatus::Waiting, _) => State::Waiting { place: 0 },
            (TokenStatus::Active, Some(until)) => {
                self.deadlines.insert((until, no));
                State::Active { until }
            }
            _ => return,
        };
        self.tokens.insert(no, Token { user: row.user, issued_at: row.issued_at, state });
    }
}

impl Aggregate for WaitingRoom {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;
    type Part = Part;

    fn decide(&self, now: Timestamp, command: &Command, out: &mut Decided<Event>) -> Result<Answer<Reply>, Rejection> {
        match command {
            Command::Open { concert, settings } => {
                self.open(*concert, settings, out);
                Ok(Answer::Silent)
            }
            // A payment must be acknowledged even where its token means nothing.
            Command::CompleteToken { no, reservation } => {
                self.complete(*no, *reservation, out);
                Ok(Answer::Silent)
            }
            _ if self.header.concert.is_none() => Err(Rejection::NotFound),
            Command::Configure { patch } => {
                self.configure(now, patch, out);
                Ok(Answer::Reply(Reply::Configured))
            }
            Command::IssueToken { user } => Ok(Answer::Reply(self.issue(now, user, out))),
            Command::Leave { user, no } => self.leave(user.as_ref(), *no, out).map(Answer::Reply),
            Command::ExpireSilent { tokens } => {
                self.expire_silent(tokens, out);
                Ok(Answer::Silent)
            }
        }
    }

    fn evolve(&mut self, meta: Meta, event: &Event, changes: &mut impl Changes<Part>) {
        changes.touch(Part::Header);
        match event {
            Event::Opened { concert, settings } => {
                self.header.concert = Some(*concert);
                self.apply_settings(settings);
            }
            Event::Configured { settings } => self.apply_settings(settings),
            Event::TokenIssued { no, user, active_until } => {
                self.apply_issued(meta.at, *no, user, *active_until);
                changes.create(|| Part::Token(*no));
            }
            Event::LineOpened { seed } => self.apply_opened_line(*seed),
            Event::TokensAdmitted { tokens, expires_at } => self.apply_admitted(meta.at, tokens, *expires_at, changes),
            Event::TokensExpired { tokens } => {
                tokens.iter().for_each(|&no| self.apply_end(meta.at, no, TokenStatus::Expired, changes));
            }
            Event::TokenLeft { no } => self.apply_end(meta.at, *no, TokenStatus::Expired, changes),
            Event::TokenUsed { no } => self.apply_end(meta.at, *no, TokenStatus::Used, changes),
        }
    }

    fn due(&self) -> Option<Timestamp> {
        let expiry = self.deadlines.first().map(|&(until, _)| until);
        [expiry, self.opens_from(), self.admissible_from()].into_iter().flatten().min()
    }

    fn expire(&self, now: Timestamp, out: &mut Decided<Event>) {
        let over = self.deadlines.iter().take_while(|&&(until, _)| until <= now);
        push_expired(over.map(|&(_, no)| no), out);
    }

    /// Also while people only wait: somebody has to look whether they still do.
    fn needs_care(&self) -> bool {
        self.due().is_some() || !self.line.is_empty()
    }

    /// Opens the line, or else lets in as many as may go in. Those whom the opening lets in go in at the next tick, which
    /// is due at once.
    fn tick(&self, now: Timestamp, entropy: u64, out: &mut Decided<Event>) {
        if self.opens_from().is_some_and(|from| from <= now) {
            let seed = (self.header.settings.order == Order::ShuffleAtOpen).then_some(entropy);
            out.events.push(Event::LineOpened { seed });
            return;
        }
        let count = self.admissible(now);
        if count > 0 {
            out.events.push(self.admit(now, count));
        }
    }

    fn owed(&self, _now: Timestamp, _out: &mut Vec<Message>) {}

    fn owes(&self) -> bool {
        false
    }

    fn row(&self, part: &Part) -> Option<Vec<u8>> {
        match part {
            Part::Header => self.header.concert.map(|_| encode(&self.header)),
            Part::Token(no) => self.token_row(*no).map(|row| encode(&row)),
        }
    }

    fn load(rows: impl Iterator<Item = (Part, Vec<u8>)>) -> Result<Self, CorruptRow> {
        let mut room = Self::default();
        for (part, row) in rows {
            let corrupt = |source| CorruptRow { part: format!("{part:?}"), source };
            match part {
                Part::Header => room.header = minicbor::decode(&row).map_err(corrupt)?,
                Part::Token(no) => room.load_token(no, minicbor::decode(&row).map_err(corrupt)?),
            }
        }
        room.line_up();
        Ok(room)
    }
}

fn push_expired(tokens: impl IntoIterator<Item = u64>, out: &mut Decided<Event>) {
    let mut tokens = tokens.into_iter().peekable();
    while tokens.peek().is_some() {
        out.events.push(Event::TokensExpired { tokens: tokens.by_ref().take(ADMIT_BATCH_MAX).collect() });
    }
}

fn encode(row: &impl minicbor::Encode<()>) -> Vec<u8> {
    minicbor::to_vec(row).unwrap_or_else(|error| unreachable!("writing to memory failed: {error}"))
}

#[cfg(test)]
mod tests;
