//! What there is: concerts, and the options on which they are sold.
//!
//! The catalogue gives concerts and options their ids. It then owes each new concert's waiting room its settings and
//! each new option its definition, until they acknowledge them. Both can be deleted again where nothing was ever held: an option
//! decides that itself and tells the catalogue; a concert whose options are gone goes, and its waiting room is owed the end.

mod details;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use self::details::{ConcertPatch, DESCRIPTION_CHARS_MAX, Details, URL_CHARS_MAX};
use super::cbor;
use super::concert_option::{self, Definition, Installation};
use super::idempotency::{Key, Memory, Remembered, Request};
use super::waiting_room::{self, Settings};
use super::{
    Aggregate, Answer, Changes, ConcertId, CorruptRow, Counted, Decided, Flaw, Message, Meta, OptionId, Rejection,
    Timestamp, UserId,
};

/// What can be asked of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Announces a concert.
    CreateConcert {
        /// 1 to 200 characters.
        title: String,
        /// The first settings of its waiting room.
        waiting_room: Settings,
        /// A new random secret, with which the concert's queue tokens are signed.
        signing_key: [u8; 32],
        /// How many concerts and options there may be.
        entries_max: u64,
        /// Idempotency.
        request: Request,
    },
    /// Changes what is told of a concert.
    ChangeConcert {
        /// Which.
        concert: ConcertId,
        /// How.
        patch: Box<ConcertPatch>,
        /// Who does it.
        by: UserId,
    },
    /// Puts a performance of a concert on sale.
    AddOption {
        /// How; names its concert.
        definition: Box<Definition>,
        /// How many concerts and options there may be.
        entries_max: u64,
        /// Idempotency.
        request: Request,
    },
    /// Deletes a concert that has no options.
    DeleteConcert {
        /// Which.
        concert: ConcertId,
        /// Who does it.
        by: UserId,
    },
    /// An option is deleted. Idempotent; acknowledged to the option each time.
    OptionDeleted {
        /// Which.
        option: OptionId,
        /// By whom.
        by: UserId,
    },
    /// A waiting room has got its settings.
    RoomOpened {
        /// Whose.
        concert: ConcertId,
    },
    /// A waiting room has come to its end.
    RoomClosed {
        /// Whose.
        concert: ConcertId,
    },
    /// An option has got its definition.
    OptionDefined {
        /// Which.
        option: OptionId,
    },
    /// Asks whose payments these are for providers; the first who asks brings a random number.
    DrawInstallation {
        /// What it is to be, if it is nothing yet.
        drawn: Installation,
    },
}

/// What can have happened to the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A concert was announced.
    #[n(0)]
    ConcertCreated {
        /// Its id.
        #[n(0)]
        concert: ConcertId,
        /// Its title.
        #[n(1)]
        title: String,
        /// The first settings of its waiting room.
        #[n(2)]
        waiting_room: Settings,
        /// The secret with which its queue tokens are signed.
        #[n(3)]
        #[cbor(with = "minicbor::bytes")]
        #[serde(skip)]
        signing_key: [u8; 32],
        /// The idempotency key it came with.
        #[n(4)]
        key: Option<Key>,
    },
    /// A performance was put on sale.
    #[n(1)]
    OptionAdded {
        /// Its id.
        #[n(0)]
        option: OptionId,
        /// How.
        #[n(1)]
        definition: Box<Definition>,
        /// The idempotency key it came with.
        #[n(2)]
        key: Option<Key>,
    },
    /// A waiting room has acknowledged its settings.
    #[n(2)]
    RoomOpened {
        /// Whose.
        #[n(0)]
        concert: ConcertId,
    },
    /// An option has acknowledged its definition.
    #[n(3)]
    OptionDefined {
        /// Which.
        #[n(0)]
        option: OptionId,
    },
    /// From now on, payments that begin are this one's for providers.
    #[n(4)]
    InstallationDrawn {
        /// Drawn at random when the first one begins, and anew when a backup is restored.
        #[n(0)]
        installation: Installation,
    },
    /// What is told of a concert was changed.
    #[n(5)]
    ConcertChanged {
        /// Which.
        #[n(0)]
        concert: ConcertId,
        /// Its title from then on.
        #[n(1)]
        title: String,
        /// The rest.
        #[n(2)]
        details: Box<Details>,
        /// By whom.
        #[n(3)]
        by: UserId,
    },
    /// An option is not listed any more.
    #[n(6)]
    OptionDeleted {
        /// Which.
        #[n(0)]
        option: OptionId,
        /// Of which concert.
        #[n(1)]
        concert: ConcertId,
        /// By whom.
        #[n(2)]
        by: UserId,
    },
    /// A concert was deleted.
    #[n(7)]
    ConcertDeleted {
        /// Which.
        #[n(0)]
        concert: ConcertId,
        /// By whom.
        #[n(1)]
        by: UserId,
    },
    /// The waiting room of a concert that was deleted has come to its end.
    #[n(8)]
    RoomClosed {
        /// Whose.
        #[n(0)]
        concert: ConcertId,
    },
}

/// What the catalogue answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The concert, as it is now or was when the same was asked before.
    Concert {
        /// Its id.
        concert: ConcertId,
        /// Whether the answer is remembered.
        replayed: bool,
    },
    /// The option, likewise.
    Option {
        /// Its id.
        option: OptionId,
        /// Whether the answer is remembered.
        replayed: bool,
    },
    /// Whose payments these are for providers.
    Installation(Installation),
    /// It is as it is wanted.
    Changed,
}

/// A concert.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Concert {
    /// Its title.
    #[n(0)]
    pub title: String,
    /// What its waiting room began with.
    #[n(1)]
    pub waiting_room: Settings,
    /// The secret with which its queue tokens are signed.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub signing_key: [u8; 32],
    /// When it was announced.
    #[n(3)]
    pub created_at: Timestamp,
    /// Its options, oldest first.
    #[n(4)]
    pub options: Vec<OptionId>,
    /// Whether its waiting room has acknowledged its settings.
    #[n(5)]
    room_opened: bool,
    /// What is told of it beside its title, if anything ever was.
    #[n(6)]
    details: Option<Box<Details>>,
}

impl Concert {
    /// Whether it is left out of the list of all.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.hidden)
    }

    /// What is told of it, beside its title.
    #[must_use]
    pub fn details(&self) -> Details {
        self.details.as_deref().cloned().unwrap_or_default()
    }
}

/// The rows of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Counters.
    Header,
    /// A concert.
    Concert(ConcertId),
    /// The definition that an option has not acknowledged yet.
    Undefined(OptionId),
    /// An idempotency key.
    Key([u8; 16]),
    /// That the waiting room of a concert that was deleted has not come to its end yet.
    Unclosed(ConcertId),
}

impl super::Part for Part {
    fn encode(&self, key: &mut Vec<u8>) {
        match self {
            Self::Header => key.push(0),
            Self::Concert(concert) => {
                key.push(1);
                key.extend(concert.0.to_be_bytes());
            }
            Self::Undefined(option) => {
                key.push(2);
                key.extend(option.0.to_be_bytes());
            }
            Self::Key(scope) => {
                key.push(3);
                key.extend(scope);
            }
            Self::Unclosed(concert) => {
                key.push(4);
                key.extend(concert.0.to_be_bytes());
            }
        }
    }

    fn decode(key: &[u8]) -> Option<Self> {
        let (&tag, rest) = key.split_first()?;
        match tag {
            0 if rest.is_empty() => Some(Self::Header),
            1 => Some(Self::Concert(ConcertId(u64::from_be_bytes(rest.try_into().ok()?)))),
            2 => Some(Self::Undefined(OptionId(u64::from_be_bytes(rest.try_into().ok()?)))),
            3 => Some(Self::Key(rest.try_into().ok()?)),
            4 => Some(Self::Unclosed(ConcertId(u64::from_be_bytes(rest.try_into().ok()?)))),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Header {
    #[n(0)]
    last_concert: u64,
    #[n(1)]
    last_option: u64,
    #[n(2)]
    installation: Option<Installation>,
    /// How many concerts and options were deleted, if any.
    #[n(3)]
    deleted: Option<u64>,
}

/// All concerts.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    header: Header,
    concerts: BTreeMap<ConcertId, Concert>,
    unopened: BTreeSet<ConcertId>,
    unclosed: BTreeSet<ConcertId>,
    undefined: BTreeMap<OptionId, Box<Definition>>,
    keys: Memory,
}

impl Catalogue {
    /// The concert of this id.
    #[must_use]
    pub fn concert(&self, id: ConcertId) -> Option<&Concert> {
        self.concerts.get(&id)
    }

    /// How many concerts and options there are.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.header.last_concert + self.header.last_option - self.header.deleted.unwrap_or(0)
    }

    /// Which concert has this option on its list.
    fn concert_of(&self, option: OptionId) -> Option<ConcertId> {
        let has = |(id, concert): (&ConcertId, &Concert)| concert.options.contains(&option).then_some(*id);
        self.concerts.iter().rev().find_map(has)
    }

    fn count_deleted(&mut self, changes: &mut impl Changes<Part>) {
        self.header.deleted = Some(self.header.deleted.unwrap_or(0) + 1);
        changes.touch(Part::Header);
    }

    /// The definition that an option has not acknowledged yet.
    #[must_use]
    pub fn undefined(&self, option: OptionId) -> Option<&Definition> {
        self.undefined.get(&option).map(|definition| &**definition)
    }

    /// Refuses another concert or option if there are as many as may be.
    fn has_room(&self, limit: u64) -> Result<(), Rejection> {
        let already = self.entries();
        if already < limit { Ok(()) } else { Err(Rejection::LimitExceeded { limit, already }) }
    }

    /// Whose payments these are for providers, if any has begun.
    #[must_use]
    pub fn installation(&self) -> Option<Installation> {
        self.header.installation
    }

    /// All options, by concert.
    pub fn options(&self) -> impl Iterator<Item = OptionId> {
        self.concerts.values().flat_map(|concert| concert.options.iter().copied())
    }

    /// All concerts before `before`, newest first.
    pub fn newest_first(&self, before: ConcertId) -> impl Iterator<Item = (ConcertId, &Concert)> {
        self.concerts.range(..before).rev().map(|(id, concert)| (*id, concert))
    }
}

impl Aggregate for Catalogue {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;
    type Part = Part;

    fn decide(&self, now: Timestamp, command: &Command, out: &mut Decided<Event>) -> Result<Answer<Reply>, Rejection> {
        match command {
            Command::CreateConcert { title, waiting_room, signing_key, entries_max, request } => {
                Flaw::refuse(waiting_room.flaws("waiting_room.").chain(Flaw::of_name("title", title)))?;
                if let Some(made) = self.keys.recall(now, request)? {
                    return Ok(Answer::Reply(Reply::Concert { concert: ConcertId(made), replayed: true }));
                }
                self.has_room(*entries_max)?;
                let concert = ConcertId(self.header.last_concert + 1);
                out.events.push(Event::ConcertCreated {
                    concert,
                    title: title.clone(),
                    waiting_room: waiting_room.clone(),
                    signing_key: *signing_key,
                    key: request.key.clone(),
                });
                out.tell.push(open_room(concert, waiting_room));
                Ok(Answer::Reply(Reply::Concert { concert, replayed: false }))
            }
            Command::ChangeConcert { concert: id, patch, by } => {
                let concert = self.concerts.get(id).ok_or(Rejection::NotFound)?;
                Flaw::refuse(patch.flaws())?;
                let before = concert.details();
                let (title, details) = patch.apply(&concert.title, &before);
                if (&title, &details) != (&concert.title, &before) {
                    let (concert, details, by) = (*id, Box::new(details), by.clone());
                    out.events.push(Event::ConcertChanged { concert, title, details, by });
                }
                Ok(Answer::Reply(Reply::Changed))
            }
            Command::AddOption { definition, entries_max, request } => {
                Flaw::refuse(definition.flaws())?;
                if let Some(made) = self.keys.recall(now, request)? {
                    return Ok(Answer::Reply(Reply::Option { option: OptionId(made), replayed: true }));
                }
                if !self.concerts.contains_key(&definition.concert) {
                    return Err(Rejection::NotFound);
                }
                self.has_room(*entries_max)?;
                let option = OptionId(self.header.last_option + 1);
                out.events.push(Event::OptionAdded {
                    option,
                    definition: definition.clone(),
                    key: request.key.clone(),
                });
                out.tell.push(define_option(option, definition));
                Ok(Answer::Reply(Reply::Option { option, replayed: false }))
            }
            Command::DeleteConcert { concert: id, by } => {
                let concert = self.concerts.get(id).ok_or(Rejection::NotFound)?;
                // Whoever wants to be rid of a concert deletes its options first: those say whether they can go.
                if !concert.options.is_empty() {
                    return Err(Rejection::WasHeld);
                }
                out.events.push(Event::ConcertDeleted { concert: *id, by: by.clone() });
                out.tell.push(close_room(*id));
                Ok(Answer::Reply(Reply::Changed))
            }
            Command::OptionDeleted { option, by } => {
                let event = |concert| Event::OptionDeleted { option: *option, concert, by: by.clone() };
                out.events.extend(self.concert_of(*option).map(event));
                out.tell.push(Message::Option(*option, concert_option::Command::DeletionNoted));
                Ok(Answer::Reply(Reply::Changed))
            }
            &Command::RoomClosed { concert } => {
                if self.unclosed.contains(&concert) {
                    out.events.push(Event::RoomClosed { concert });
                }
                Ok(Answer::Silent)
            }
            &Command::RoomOpened { concert } => {
                if self.unopened.contains(&concert) {
                    out.events.push(Event::RoomOpened { concert });
                }
                Ok(Answer::Silent)
            }
            &Command::OptionDefined { option } => {
                if self.undefined.contains_key(&option) {
                    out.events.push(Event::OptionDefined { option });
                }
                Ok(Answer::Silent)
            }
            &Command::DrawInstallation { drawn } => {
                let known = self.header.installation;
                if known.is_none() {
                    out.events.push(Event::InstallationDrawn { installation: drawn });
                }
                Ok(Answer::Reply(Reply::Installation(known.unwrap_or(drawn))))
            }
        }
    }

    fn evolve(&mut self, meta: Meta, event: &Event, changes: &mut impl Changes<Part>) {
        match event {
            Event::ConcertCreated { concert, title, waiting_room, signing_key, key } => {
                self.header.last_concert = concert.0;
                self.concerts.insert(
                    *concert,
                    Concert {
                        title: title.clone(),
                        waiting_room: waiting_room.clone(),
                        signing_key: *signing_key,
                        created_at: meta.at,
                        options: Vec::new(),
                        room_opened: false,
                        details: None,
                    },
                );
                self.unopened.insert(*concert);
                changes.touch(Part::Header);
                changes.touch(Part::Concert(*concert));
                if let Some(key) = key {
                    self.keys.remember(meta.at, key, concert.0, |scope| changes.touch(Part::Key(scope)));
                    changes.count(&key.caller, Counted::KeyUsed(meta.at));
                }
            }
            Event::OptionAdded { option, definition, key } => {
                self.header.last_option = option.0;
                if let Some(concert) = self.concerts.get_mut(&definition.concert) {
                    concert.options.push(*option);
                }
                self.undefined.insert(*option, definition.clone());
                changes.touch(Part::Header);
                changes.touch(Part::Concert(definition.concert));
                changes.touch(Part::Undefined(*option));
                if let Some(key) = key {
                    self.keys.remember(meta.at, key, option.0, |scope| changes.touch(Part::Key(scope)));
                    changes.count(&key.caller, Counted::KeyUsed(meta.at));
                }
            }
            Event::RoomOpened { concert } => {
                self.unopened.remove(concert);
                if let Some(concert) = self.concerts.get_mut(concert) {
                    concert.room_opened = true;
                }
                changes.touch(Part::Concert(*concert));
            }
            Event::OptionDefined { option } => {
                self.undefined.remove(option);
                changes.touch(Part::Undefined(*option));
            }
            Event::ConcertChanged { concert: id, title, details, .. } => {
                if let Some(concert) = self.concerts.get_mut(id) {
                    concert.title.clone_from(title);
                    concert.details = Some(details.clone());
                }
                changes.touch(Part::Concert(*id));
            }
            Event::OptionDeleted { option, concert, .. } => {
                if let Some(concert) = self.concerts.get_mut(concert) {
                    concert.options.retain(|known| known != option);
                }
                self.undefined.remove(option);
                changes.touch(Part::Undefined(*option));
                changes.touch(Part::Concert(*concert));
                self.count_deleted(changes);
            }
            Event::ConcertDeleted { concert, .. } => {
                self.concerts.remove(concert);
                self.unopened.remove(concert);
                self.unclosed.insert(*concert);
                changes.touch(Part::Concert(*concert));
                changes.touch(Part::Unclosed(*concert));
                self.count_deleted(changes);
            }
            Event::RoomClosed { concert } => {
                self.unclosed.remove(concert);
                changes.touch(Part::Unclosed(*concert));
            }
            Event::InstallationDrawn { installation } => {
                self.header.installation = Some(*installation);
                changes.touch(Part::Header);
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        None
    }

    fn expire(&self, _now: Timestamp, _out: &mut Decided<Event>) {}

    fn owed(&self, _now: Timestamp, out: &mut Vec<Message>) {
        let rooms = self.unopened.iter().filter_map(|id| Some(open_room(*id, &self.concerts.get(id)?.waiting_room)));
        out.extend(rooms);
        out.extend(self.unclosed.iter().copied().map(close_room));
        out.extend(self.undefined.iter().map(|(option, definition)| define_option(*option, definition)));
    }

    fn owes(&self) -> bool {
        !self.unopened.is_empty() || !self.unclosed.is_empty() || !self.undefined.is_empty()
    }

    fn row(&self, part: &Part) -> Option<Vec<u8>> {
        match part {
            Part::Header => Some(cbor::to_vec(&self.header)),
            Part::Concert(concert) => self.concerts.get(concert).map(cbor::to_vec),
            Part::Undefined(option) => self.undefined.get(option).map(cbor::to_vec),
            Part::Key(scope) => self.keys.get(scope).map(cbor::to_vec),
            Part::Unclosed(concert) => self.unclosed.contains(concert).then(Vec::new),
        }
    }

    fn load(rows: impl Iterator<Item = (Part, Vec<u8>)>) -> Result<Self, CorruptRow> {
        let mut catalogue = Self::default();
        let mut keys = Vec::new();
        for (part, row) in rows {
            match &part {
                Part::Header => catalogue.header = cbor::from_row(&part, &row)?,
                Part::Concert(id) => {
                    let concert: Concert = cbor::from_row(&part, &row)?;
                    if !concert.room_opened {
                        catalogue.unopened.insert(*id);
                    }
                    catalogue.concerts.insert(*id, concert);
                }
                Part::Undefined(option) => {
                    catalogue.undefined.insert(*option, cbor::from_row(&part, &row)?);
                }
                Part::Key(scope) => keys.push((*scope, cbor::from_row::<Remembered>(&part, &row)?)),
                Part::Unclosed(concert) => {
                    catalogue.unclosed.insert(*concert);
                }
            }
        }
        catalogue.keys = Memory::from_rows(keys);
        Ok(catalogue)
    }
}

fn open_room(concert: ConcertId, settings: &Settings) -> Message {
    Message::Room(concert, waiting_room::Command::Open { concert, settings: settings.clone() })
}

fn close_room(concert: ConcertId) -> Message {
    Message::Room(concert, waiting_room::Command::Close { concert })
}

fn define_option(option: OptionId, definition: &Definition) -> Message {
    let definition = Box::new(definition.clone());
    Message::Option(option, concert_option::Command::Define { option, definition })
}

#[cfg(test)]
mod tests;
