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
//! - **Shuffle.** Everybody who waits has a lot that follows from the seed and their own number, so that the order stands
//!   in the header row: opening a line of a million changes one row. See [`Draw`].
//! - **Mode `open`** ignores both throttles, and who gets in then is not counted by `admit_per_minute`. Those who wait when
//!   it begins get in with it, [`ADMIT_BATCH_MAX`] at once and as many again each tick.
//! - **Throttles are about the present.** A limit that is lowered throws nobody out; what was let in before counts.
//! - **Switching the line on.** When the mode becomes `queue`, at most `max_active` stay inside: first those who hold seats,
//!   who are named in the command since no room can know, then the others in their order; of these nobody if the line is
//!   yet to open. Who does not stay waits again, where they stood before or would have stood: at the head. All of them do at
//!   once. Of more than [`ADMIT_BATCH_MAX`] the event says who by a bit for each of those inside, and later ones, as many again
//!   each tick, tell their numbers; until then nobody is let in, and nobody's silence is noticed.
//!
//! - **The end.** The room of a concert that was deleted is closed for good: nobody gets a token any more, and the live ones expire, as
//!   many at once as are let in at once, and as many again each tick.
//!
//! What it must not know: who is still there. Signs of life are kept outside ([`Liveness`]); silence comes in as a command.

mod admissions;
mod departures;
mod line;
mod liveness;
mod settings;
mod shuffle;
mod tokens;
mod views;

use std::collections::BTreeSet;

use hashbrown::HashSet;
pub use liveness::Liveness;
pub use settings::{Mode, Order, Settings, SettingsPatch};
pub use views::{Counts, TokenRow, TokenStatus, TokenView};

use super::bit_set::BitSet;
use super::{
    Aggregate, Answer, Changes, ConcertId, CorruptRow, Decided, Flaw, Message, Meta, Rejection, ReservationId,
    Timestamp, UserId, catalogue, concert_option,
};
use admissions::Admissions;
use departures::Departures;
use line::Line;
use tokens::{State, Token, Tokens};

/// So many tokens are let in by one event at most, and stand in one event of expiry at most.
pub const ADMIT_BATCH_MAX: usize = 10_000;
/// Of so many inside some can be sent back to the line, if those are more than stand in one event by their numbers: each of
/// those inside is a bit of that event.
const INSIDE_MAX: usize = 2_000_000;

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
    /// The concert was deleted. Idempotent; acknowledged to the catalogue each time, nobody else is answered.
    Close {
        /// Whose waiting room this is.
        concert: ConcertId,
    },
    /// Changes how it is run. Answered with [`Reply::Configured`].
    Configure {
        /// What to change.
        patch: SettingsPatch,
        /// Who holds seats of this concert, if the patch may switch the line on; the order does not matter.
        holders: Vec<UserId>,
        /// Who does it, if that is known.
        by: Option<UserId>,
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
        /// Which administrator, if that is known.
        by: Option<UserId>,
        /// Its number.
        no: u64,
    },
    /// Their holders have been silent for too long, or wait for nothing. Those among them who wait expire; nobody is answered.
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
        /// Tokens that were active and wait again, in the order of the line; or some of those who do since an earlier event of
        /// the same settings has sent back very many.
        #[n(1)]
        returned: Option<Vec<u64>>,
        /// Very many tokens that were active and wait again: their places among those that are active now, by their numbers,
        /// from 0. Later events tell their numbers.
        #[n(2)]
        #[serde(skip_serializing_if = "BitSet::is_empty")]
        many: BitSet,
        /// By whom, if that is known and it is not the rest of an earlier event.
        #[n(3)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
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
        /// How the order follows from it; none in journals from before there was a choice: see [`Draw`].
        #[n(1)]
        draw: Option<Draw>,
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
        /// By whom, if not by its holder.
        #[n(1)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// The holder of a token has paid.
    #[n(7)]
    TokenUsed {
        /// Its number.
        #[n(0)]
        no: u64,
    },
    /// It has come to its end: its concert is deleted.
    #[n(8)]
    Closed {
        /// Whose it was.
        #[n(0)]
        concert: ConcertId,
    },
}

/// How the order of those who were shuffled follows from a seed. Frozen, each of them.
///
/// The first one has no name: a permutation of all numbers from the first waiter's to the last issued, of which those count
/// that wait. It costs what the numbers cost, and whoever leaves and asks again takes up another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum Draw {
    /// By lots: everybody's follows from the seed and their number. It costs what those who wait cost.
    #[n(0)]
    Lots,
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

/// The waiting room of one concert.
#[derive(Clone, Default)]
pub struct WaitingRoom {
    header: Header,
    tokens: Tokens,
    line: Line,
    /// When each active token runs out.
    deadlines: BTreeSet<(Timestamp, u64)>,
    /// Those in the line who were sent back with very many others, until an event tells their numbers.
    untold: BTreeSet<u64>,
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
    #[n(8)]
    departures: Departures,
    /// That its concert is deleted.
    #[n(9)]
    closed: Option<bool>,
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
    /// The last number that had been issued then.
    #[n(2)]
    last: u64,
    #[n(3)]
    draw: Option<Draw>,
}

impl Shuffled {
    /// Puts numbers of those who were shuffled in their order.
    fn sort(&self, numbers: &mut [u64]) {
        match self.draw {
            Some(Draw::Lots) => numbers.sort_unstable_by_key(|&no| shuffle::lot(self.seed, no)),
            None => {
                let count = u32::try_from(self.last - self.first + 1).unwrap_or(u32::MAX);
                let mut places = vec![0; count as usize];
                for (place, offset) in (0_u32..).zip(shuffle::permutation(self.seed, count)) {
                    places[offset as usize] = place;
                }
                let place = |no: u64| places.get((no - self.first) as usize);
                numbers.sort_unstable_by_key(|&no| place(no).copied().unwrap_or(u32::MAX));
            }
        }
    }
}

impl WaitingRoom {
    /// Token `no` at `now`, if it is live; used and expired ones are in the archive, as [`TokenRow`]s. One whose time has
    /// just run out shows as expired.
    ///
    /// `expected_wait_seconds` is what `admit_per_minute` makes of `position`; and if that many places are not free, at
    /// least how long it takes until they are, at the pace at which those inside have left during the last five minutes.
    /// Unknown (`None`) if nobody has, and while nobody is let in.
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

    /// Those who wait at a place of the line or behind it and owe a sign of life: places and numbers, from the head. Who was sent
    /// back owes none before it is told.
    pub fn waiting_from(&self, place: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.line.iter_from(place).filter(|(_, no)| !self.untold.contains(no))
    }

    fn expected_wait(&self, now: Timestamp, position: u64) -> Option<u64> {
        let settings = &self.header.settings;
        match settings.mode {
            Mode::Paused => return None,
            Mode::Open => return Some(0),
            Mode::Queue => {}
        }
        let paced =
            settings.admit_per_minute.map_or(0, |limit| position.saturating_mul(60).div_ceil(limit.max(1).into()));
        let inside = self.deadlines.len() as u64;
        match (position + inside).saturating_sub(settings.max_active.into()) {
            0 => Some(paced),
            must_leave => Some(self.header.departures.seconds_until(now, must_leave)?.max(paced)),
        }
    }

    fn is_closed(&self) -> bool {
        self.header.closed == Some(true)
    }

    fn places_free(&self) -> u64 {
        u64::from(self.header.settings.max_active).saturating_sub(self.deadlines.len() as u64)
    }

    /// How many of those who wait may go in at `now`.
    fn admissible(&self, now: Timestamp) -> usize {
        if self.is_closed() {
            return 0;
        }
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
        if self.line.is_empty() || self.is_closed() {
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

    fn configure(
        &self,
        now: Timestamp,
        patch: &SettingsPatch,
        (holders, by): (&[UserId], Option<&UserId>),
        out: &mut Decided<Event>,
    ) -> Result<(), Rejection> {
        let old = &self.header.settings;
        let settings = patch.apply(old);
        Flaw::refuse(settings.flaws(""))?;
        if settings == *old {
            return Ok(());
        }
        let opens_to_all = settings.mode == Mode::Open && !self.line.is_empty();
        let expires_at = now.plus_millis(u64::from(settings.active_ttl_seconds) * 1000);
        let (returned, many) = self.few_or_many(self.sent_back(&settings, holders))?;
        out.events.push(Event::Configured { settings, returned, many, by: by.cloned() });
        // Those who are untold are told first, and go in at a tick.
        if opens_to_all && self.untold.is_empty() {
            let tokens = self.line.iter().take(ADMIT_BATCH_MAX).collect();
            out.events.push(Event::TokensAdmitted { tokens, expires_at });
        }
        Ok(())
    }

    /// Those who go back as they stand in the event that says so.
    fn few_or_many(&self, returned: Vec<u64>) -> Result<(Option<Vec<u64>>, BitSet), Rejection> {
        if returned.len() <= ADMIT_BATCH_MAX {
            return Ok((Some(returned).filter(|tokens| !tokens.is_empty()), BitSet::default()));
        }
        let inside = self.inside();
        if inside.len() > INSIDE_MAX {
            let message = format!("more than {INSIDE_MAX} are inside: pause the line until enough of them have lapsed");
            return Err(Rejection::Invalid(vec![Flaw::new("mode", message)]));
        }
        let returned: HashSet<u64> = returned.into_iter().collect();
        let places = (0_u32..).zip(inside).filter(|(_, no)| returned.contains(no));
        Ok((None, places.map(|(place, _)| place).collect()))
    }

    /// The numbers of those inside, ascending.
    fn inside(&self) -> Vec<u64> {
        self.numbers(|state| matches!(state, State::Active { .. }))
    }

    /// Tells the numbers of some of those who were sent back.
    fn tell(&self, out: &mut Decided<Event>) {
        let returned = Some(self.untold.iter().take(ADMIT_BATCH_MAX).copied().collect());
        out.events.push(Event::Configured {
            settings: self.header.settings.clone(),
            returned,
            many: BitSet::default(),
            by: None,
        });
    }

    /// Who goes back to the line when it is run like this from now on, in the order of the line.
    fn sent_back(&self, settings: &Settings, holders: &[UserId]) -> Vec<u64> {
        if settings.mode != Mode::Queue || self.header.settings.mode == Mode::Queue {
            return Vec::new();
        }
        let holding: BTreeSet<u64> = holders.iter().filter_map(|user| self.tokens.of(user)).collect();
        let inside = self.inside();
        let is_closed = match self.header.doors {
            Doors::Unscheduled => settings.opens_at.is_some(),
            Doors::Closed => true,
            Doors::Opened => false,
        };
        let most = settings.max_active as usize;
        let hold = inside.iter().filter(|no| holding.contains(no)).count();
        let (mut for_holders, mut for_others) = (most, if is_closed { 0 } else { most.saturating_sub(hold) });
        let has_no_place = |no: &u64| {
            let places = if holding.contains(no) { &mut for_holders } else { &mut for_others };
            let is_full = *places == 0;
            *places = places.saturating_sub(1);
            is_full
        };
        self.in_order(inside).into_iter().filter(has_no_place).collect()
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

    fn leave(
        &self,
        (user, by): (Option<&UserId>, Option<&UserId>),
        no: u64,
        out: &mut Decided<Event>,
    ) -> Result<Reply, Rejection> {
        let token = self.tokens.get(no).ok_or(Rejection::NotFound)?;
        if user.is_some_and(|user| *user != token.user) {
            return Err(Rejection::NotFound);
        }
        out.events.push(Event::TokenLeft { no, by: by.cloned() });
        Ok(Reply::Left)
    }

    /// Of very many only as many as stand in one event: whoever looks again finds the others.
    fn expire_silent(&self, tokens: &[u64], out: &mut Decided<Event>) {
        let waits = |no: &u64| matches!(self.tokens.get(*no), Some(Token { state: State::Waiting { .. }, .. }));
        // A number that comes twice must not stand in the event twice.
        let waiting: BTreeSet<u64> = tokens.iter().copied().filter(waits).collect();
        push_expired(waiting.into_iter().take(ADMIT_BATCH_MAX), out);
    }

    fn complete(&self, no: u64, reservation: ReservationId, out: &mut Decided<Event>) {
        // One that waits was sent back to the line after its holder had got seats.
        if self.tokens.get(no).is_some() {
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

    fn close(&self, concert: ConcertId, out: &mut Decided<Event>) {
        if !self.is_closed() {
            out.events.push(Event::Closed { concert });
            self.expire_leftovers(out);
        }
        out.tell.push(Message::Catalogue(catalogue::Command::RoomClosed { concert }));
    }

    /// Ends some of the tokens that are left at its end.
    fn expire_leftovers(&self, out: &mut Decided<Event>) {
        push_expired(self.tokens.iter().map(|(no, _)| no).take(ADMIT_BATCH_MAX), out);
    }

    /// Whether tokens are left that its end has not reached yet.
    fn has_leftovers(&self) -> bool {
        self.is_closed() && self.tokens.iter().next().is_some()
    }

    fn apply_settings(&mut self, settings: &Settings) {
        if self.header.doors == Doors::Unscheduled && settings.opens_at.is_some() {
            self.header.doors = Doors::Closed;
        }
        self.header.settings = settings.clone();
    }

    /// Those wait again who were sent back; who does already is told.
    fn apply_returned(&mut self, tokens: &[u64], changes: &mut impl Changes<Part>) {
        let mut is_any = false;
        for &no in tokens {
            let is_sent_back = self.send_back(no);
            if is_sent_back || self.untold.remove(&no) {
                changes.touch(Part::Token(no));
            }
            is_any |= is_sent_back;
        }
        if is_any {
            self.line_up();
        }
    }

    /// Those wait again whose places among those inside these are.
    fn apply_many(&mut self, places: &BitSet, changes: &mut impl Changes<Part>) {
        if places.is_empty() {
            return;
        }
        let inside = self.inside();
        for no in places.iter().filter_map(|place| inside.get(place as usize).copied()) {
            self.send_back(no);
            self.untold.insert(no);
            changes.touch(Part::Token(no));
        }
        self.line_up();
    }

    /// Whether it was inside.
    fn send_back(&mut self, no: u64) -> bool {
        let Some(token) = self.tokens.get_mut(no) else { return false };
        let State::Active { until } = token.state else { return false };
        // Their place follows.
        token.state = State::Waiting { place: 0 };
        self.deadlines.remove(&(until, no));
        true
    }

    fn come_in(&mut self, at: Timestamp, no: u64, until: Timestamp) {
        if self.deadlines.is_empty() {
            self.header.departures.begin(at);
        }
        self.deadlines.insert((until, no));
    }

    fn apply_issued(&mut self, at: Timestamp, no: u64, user: &UserId, active_until: Option<Timestamp>) {
        self.header.last_no = self.header.last_no.max(no);
        let state = match active_until {
            Some(until) => {
                self.come_in(at, no, until);
                State::Active { until }
            }
            None => State::Waiting { place: self.line.push(no) },
        };
        self.tokens.insert(no, Token { user: user.clone(), issued_at: at, state });
    }

    fn apply_opened_line(&mut self, seed: Option<u64>, draw: Option<Draw>) {
        self.header.doors = Doors::Opened;
        // Nobody has been let in past a closed line, so its head has the lowest number.
        let head = self.line.iter().next();
        if let (Some(seed), Some(first)) = (seed, head) {
            self.header.shuffled = Some(Shuffled { seed, first, last: self.header.last_no, draw });
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
            self.untold.remove(&no);
            self.come_in(at, no, until);
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
                self.untold.remove(&no);
                None
            }
            State::Active { until } => {
                self.deadlines.remove(&(until, no));
                self.header.departures.record(at);
                Some(until)
            }
        };
        match status {
            TokenStatus::Used => self.header.used += 1,
            _ => self.header.expired += 1,
        }
        let Token { user, issued_at, .. } = token;
        changes.archive(Part::Token(no), || {
            encode(&TokenRow { user, issued_at, status, expires_at, ended_at: Some(at), untold: None })
        });
    }

    /// Gives everybody who waits their place.
    fn line_up(&mut self) {
        self.line = Line::default();
        let waiting = self.numbers(|state| matches!(state, State::Waiting { .. }));
        for no in self.in_order(waiting) {
            if let Some(Token { state: State::Waiting { place }, .. }) = self.tokens.get_mut(no) {
                *place = self.line.push(no);
            }
        }
    }

    /// The numbers of the tokens in such a state, ascending.
    fn numbers(&self, is_one: impl Fn(State) -> bool) -> Vec<u64> {
        self.tokens.iter().filter(|(_, token)| is_one(token.state)).map(|(no, _)| no).collect()
    }

    /// Puts ascending numbers in the order of the line: first those who were there before anybody who was shuffled, then
    /// these, then who came later.
    fn in_order(&self, mut numbers: Vec<u64>) -> Vec<u64> {
        if let Some(shuffled) = &self.header.shuffled {
            let from = numbers.partition_point(|&no| no < shuffled.first);
            let to = numbers.partition_point(|&no| no <= shuffled.last);
            shuffled.sort(&mut numbers[from..to]);
        }
        numbers
    }

    fn token_row(&self, no: u64) -> Option<TokenRow> {
        let Token { user, issued_at, state } = self.tokens.get(no)?;
        let (status, expires_at) = match *state {
            State::Waiting { .. } => (TokenStatus::Waiting, None),
            State::Active { until } => (TokenStatus::Active, Some(until)),
        };
        let untold = self.untold.contains(&no).then_some(true);
        Some(TokenRow { user: user.clone(), issued_at: *issued_at, status, expires_at, ended_at: None, untold })
    }

    fn load_token(&mut self, no: u64, row: TokenRow) {
        if row.untold == Some(true) {
            self.untold.insert(no);
        }
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
            Command::Close { concert } => {
                self.close(*concert, out);
                Ok(Answer::Silent)
            }
            // A payment must be acknowledged even where its token means nothing.
            Command::CompleteToken { no, reservation } => {
                self.complete(*no, *reservation, out);
                Ok(Answer::Silent)
            }
            _ if self.header.concert.is_none() || self.is_closed() => Err(Rejection::NotFound),
            Command::Configure { patch, holders, by } => {
                self.configure(now, patch, (holders, by.as_ref()), out)?;
                Ok(Answer::Reply(Reply::Configured))
            }
            Command::IssueToken { user } => Ok(Answer::Reply(self.issue(now, user, out))),
            Command::Leave { user, by, no } => self.leave((user.as_ref(), by.as_ref()), *no, out).map(Answer::Reply),
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
            Event::Configured { settings, returned, many, .. } => {
                self.apply_settings(settings);
                self.apply_returned(returned.as_deref().unwrap_or_default(), changes);
                self.apply_many(many, changes);
            }
            Event::TokenIssued { no, user, active_until } => {
                self.apply_issued(meta.at, *no, user, *active_until);
                changes.create(|| Part::Token(*no));
            }
            Event::LineOpened { seed, draw } => self.apply_opened_line(*seed, *draw),
            Event::TokensAdmitted { tokens, expires_at } => self.apply_admitted(meta.at, tokens, *expires_at, changes),
            Event::TokensExpired { tokens } => {
                tokens.iter().for_each(|&no| self.apply_end(meta.at, no, TokenStatus::Expired, changes));
            }
            Event::TokenLeft { no, .. } => self.apply_end(meta.at, *no, TokenStatus::Expired, changes),
            Event::TokenUsed { no } => self.apply_end(meta.at, *no, TokenStatus::Used, changes),
            Event::Closed { concert } => {
                // It may never have heard of its opening; one that comes late does not bring it back.
                self.header.concert = Some(*concert);
                self.header.closed = Some(true);
                self.header.doors = Doors::Opened;
                self.untold.iter().for_each(|no| changes.touch(Part::Token(*no)));
                self.untold.clear();
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        if !self.untold.is_empty() || self.has_leftovers() {
            return Some(Timestamp::default());
        }
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

    /// Tells who was sent back, or opens the line, or else lets in as many as may go in. Those whom the opening lets in go in at
    /// the next tick, which is due at once.
    fn tick(&self, now: Timestamp, entropy: u64, out: &mut Decided<Event>) {
        if self.is_closed() {
            return self.expire_leftovers(out);
        }
        if !self.untold.is_empty() {
            return self.tell(out);
        }
        if self.opens_from().is_some_and(|from| from <= now) {
            let seed = (self.header.settings.order == Order::ShuffleAtOpen).then_some(entropy);
            out.events.push(Event::LineOpened { seed, draw: seed.map(|_| Draw::Lots) });
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
