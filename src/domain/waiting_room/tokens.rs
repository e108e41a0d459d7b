//! The live tokens of one waiting room, by number and by user, packed: a million of them are an ordinary evening.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::domain::{Timestamp, UserId};

/// Tokens a chunk. Small, so that one token that stays long after its neighbours keeps little room.
const CHUNK: u64 = 64;

/// A token that waits or is inside.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub user: UserId,
    pub issued_at: Timestamp,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Stands in the line, at this place.
    Waiting { place: u64 },
    /// Is inside until then.
    Active { until: Timestamp },
}

/// Every live token. A user has one at the most.
#[derive(Clone, Default)]
pub(super) struct Tokens {
    chunks: BTreeMap<u64, Box<Chunk>>,
    /// Numbers, found by the user who stands in the token itself.
    by_user: HashTable<u64>,
    hasher: DefaultHashBuilder,
}

#[derive(Clone)]
struct Chunk {
    slots: [Option<Token>; CHUNK as usize],
    live: u32,
}

impl Tokens {
    pub fn get(&self, no: u64) -> Option<&Token> {
        slot(&self.chunks, no)
    }

    pub fn get_mut(&mut self, no: u64) -> Option<&mut Token> {
        self.chunks.get_mut(&(no / CHUNK))?.slots[(no % CHUNK) as usize].as_mut()
    }

    /// The number of this user's token.
    pub fn of(&self, user: &UserId) -> Option<u64> {
        let hash = self.hasher.hash_one(user);
        self.by_user.find(hash, |&no| self.get(no).is_some_and(|token| token.user == *user)).copied()
    }

    /// In order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Token)> {
        self.chunks.iter().flat_map(|(&chunk, content)| {
            let numbers = chunk * CHUNK..;
            numbers.zip(&content.slots).filter_map(|(no, slot)| Some((no, slot.as_ref()?)))
        })
    }

    /// Puts a token in, in place of any of this number or user.
    pub fn insert(&mut self, no: u64, token: Token) {
        self.remove(no);
        if let Some(other) = self.of(&token.user) {
            self.remove(other);
        }
        let Self { chunks, by_user, hasher } = self;
        let hash = hasher.hash_one(&token.user);
        let chunk = chunks
            .entry(no / CHUNK)
            .or_insert_with(|| Box::new(Chunk { slots: [const { None }; CHUNK as usize], live: 0 }));
        chunk.slots[(no % CHUNK) as usize] = Some(token);
        chunk.live += 1;
        by_user.insert_unique(hash, no, |&no| slot(chunks, no).map_or(0, |token| hasher.hash_one(&token.user)));
    }

    pub fn remove(&mut self, no: u64) -> Option<Token> {
        let chunk = self.chunks.get_mut(&(no / CHUNK))?;
        let token = chunk.slots[(no % CHUNK) as usize].take()?;
        chunk.live -= 1;
        if chunk.live == 0 {
            self.chunks.remove(&(no / CHUNK));
        }
        let hash = self.hasher.hash_one(&token.user);
        if let Ok(entry) = self.by_user.find_entry(hash, |&other| other == no) {
            entry.remove();
        }
        Some(token)
    }
}

fn slot(chunks: &BTreeMap<u64, Box<Chunk>>, no: u64) -> Option<&Token> {
    chunks.get(&(no / CHUNK))?.slots[(no % CHUNK) as usize].as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(user: &str) -> Token {
        let user = user.parse().unwrap();
        Token { user, issued_at: Timestamp::default(), state: State::Waiting { place: 0 } }
    }

    #[test]
    fn found_by_number_and_by_user() {
        let mut tokens = Tokens::default();
        for no in 1..=1000_u64 {
            tokens.insert(no, token(&format!("user {no}")));
        }
        for no in (1..=1000).filter(|no| no % 7 != 0) {
            assert_eq!(tokens.remove(no).unwrap().user.as_str(), format!("user {no}"));
        }
        assert!(tokens.remove(1).is_none());
        assert!(tokens.iter().map(|(no, _)| no).eq((7..=1000).step_by(7)));
        for no in 1..=1000 {
            let user = format!("user {no}").parse().unwrap();
            assert_eq!(tokens.of(&user), (no % 7 == 0).then_some(no));
        }
    }

    #[test]
    fn one_number_one_user() {
        let mut tokens = Tokens::default();
        tokens.insert(1, token("anna"));
        tokens.insert(2, token("anna"));
        tokens.insert(2, token("ben"));
        let all: Vec<_> = tokens.iter().map(|(no, token)| (no, token.user.as_str())).collect();
        assert_eq!(all, [(2, "ben")]);
        assert_eq!(tokens.of(&"anna".parse().unwrap()), None);
    }

    #[test]
    fn small() {
        assert_eq!(size_of::<Option<Token>>(), 40);
    }
}
