//! What goes between two nodes for one call: who is asked, until when it may be taken, and that nobody has touched it.
//!
//! Pure: it knows neither what a call is, nor how bytes travel, nor what time it is.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use minicbor::{Decode, Encode};
use sha2::Sha256;

/// The format that is written, and the only one that is read.
const VERSION: u8 = 1;
/// The first two bytes say what it is, the next 32 that it is whole.
const MAC_AT: usize = 2;
const BODY_AT: usize = MAC_AT + 32;
/// The least length of a cluster's secret.
const SECRET_BYTES_MIN: usize = 32;
/// How far the clocks of two nodes may be apart, in milliseconds: more than that is an operator's to see to.
pub(super) const CLOCKS_APART_MS: u64 = 1_000;
/// How many questions are known by their nonces; with more under way, callers are told `overloaded`.
const KNOWN_MAX: usize = 1 << 20;

/// What one question is told from another by.
pub(super) type Nonce = [u8; 16];

/// What all nodes of a cluster know, and nobody else.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// `None` if it is shorter than 32 bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let mac = (secret.len() >= SECRET_BYTES_MIN).then(|| <Hmac<Sha256> as KeyInit>::new_from_slice(secret).ok());
        mac.flatten().map(Self)
    }
}

/// A node that decides, from one fence on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct OwnerId {
    /// Its name.
    #[n(0)]
    pub node: String,
    /// The place of its fence in the log.
    #[n(1)]
    pub epoch: u64,
}

/// What is asked of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Question<'a> {
    /// Who may take it: nobody else, and not in another epoch.
    #[n(0)]
    pub(super) to: OwnerId,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) nonce: Nonce,
    /// When its time is over, in milliseconds since 1970 by the clock of who asks.
    #[n(2)]
    pub(super) until_ms: u64,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) body: &'a [u8],
}

/// What an owner says to it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Answer<'a> {
    /// That of the question.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) nonce: Nonce,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) body: &'a [u8],
}

/// What can be sealed, each told from the others by a letter.
pub(super) trait Sealed<'b>: Encode<()> + Decode<'b, ()> {
    const LETTER: u8;
}

impl<'b> Sealed<'b> for Question<'b> {
    const LETTER: u8 = b'q';
}

impl<'b> Sealed<'b> for Answer<'b> {
    const LETTER: u8 = b'a';
}

/// Why something is not from a node of this cluster, or cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unopened {
    #[error("it is not whole, or not from a node that knows the secret")]
    Forged,
    #[error("it is of a format that this program does not know")]
    Unknown,
}

/// Seals something for those who know the secret: version, letter, HMAC-SHA256 of all the rest, CBOR.
pub(super) fn seal<'b, T: Sealed<'b>>(secret: &Secret, content: &T) -> Vec<u8> {
    let mut sealed = vec![0; BODY_AT];
    [sealed[0], sealed[1]] = [VERSION, T::LETTER];
    // Writing to memory cannot fail, and no encoder here reports an error of its own. If one did, nobody could open it.
    let _ = minicbor::encode(content, &mut sealed);
    let mac = mac(secret, &sealed).finalize().into_bytes();
    sealed[MAC_AT..BODY_AT].copy_from_slice(&mac);
    sealed
}

/// Opens what was sealed.
pub(super) fn open<'b, T: Sealed<'b>>(secret: &Secret, sealed: &'b [u8]) -> Result<T, Unopened> {
    let found = sealed.get(MAC_AT..BODY_AT).ok_or(Unopened::Forged)?;
    mac(secret, sealed).verify_slice(found).map_err(|_| Unopened::Forged)?;
    if sealed[..MAC_AT] != [VERSION, T::LETTER] {
        return Err(Unopened::Unknown);
    }
    minicbor::decode(&sealed[BODY_AT..]).map_err(|_| Unopened::Unknown)
}

fn mac(secret: &Secret, sealed: &[u8]) -> Hmac<Sha256> {
    let mut mac = secret.0.clone();
    mac.update(&sealed[..MAC_AT]);
    mac.update(&sealed[BODY_AT..]);
    mac
}

/// What is to become of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be decided.
    Take,
    /// Its time is over, or longer than any: nothing is decided.
    Late,
    /// It came before: nothing is decided, and nothing said, since the first one is answered.
    Twice,
    /// There are too many.
    Full,
}

/// Which questions one node has taken, so that none is taken twice. One that is not known any more is late.
#[derive(Debug, Default)]
pub(super) struct Taken {
    known: HashSet<Nonce>,
    /// When each may be forgotten.
    until: BTreeSet<(u64, Nonce)>,
}

impl Taken {
    /// A question that was addressed to this node and epoch has come, at `now_ms` by its clock. No question has more than
    /// `time_ms`.
    pub(super) fn take(&mut self, question: &Question<'_>, now_ms: u64, time_ms: u64) -> Verdict {
        while let Some(&(until_ms, nonce)) = self.until.first() {
            if until_ms >= now_ms {
                break;
            }
            self.until.pop_first();
            self.known.remove(&nonce);
        }
        let until_ms = question.until_ms.saturating_add(CLOCKS_APART_MS);
        let most_ms = now_ms.saturating_add(time_ms).saturating_add(2 * CLOCKS_APART_MS);
        if until_ms < now_ms || until_ms > most_ms {
            return Verdict::Late;
        }
        if self.known.contains(&question.nonce) {
            return Verdict::Twice;
        }
        if self.known.len() >= KNOWN_MAX {
            return Verdict::Full;
        }
        self.known.insert(question.nonce);
        self.until.insert((until_ms, question.nonce));
        Verdict::Take
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new(&[7; 32]).unwrap()
    }

    fn question(nonce: u8, until_ms: u64) -> Question<'static> {
        let to = OwnerId { node: "a".into(), epoch: 9 };
        Question { to, nonce: [nonce; 16], until_ms, body: b"what is asked" }
    }

    #[test]
    fn a_secret_is_long_and_not_shown() {
        assert!(Secret::new(&[7; 31]).is_none());
        assert_eq!(format!("{:?}", secret()), "***");
    }

    #[test]
    fn what_is_sealed_can_be_opened_by_those_who_know_the_secret() {
        let (question, answer) = (question(1, 5), Answer { nonce: [2; 16], body: b"yes" });
        let (asked, said) = (seal(&secret(), &question), seal(&secret(), &answer));
        assert_eq!(open(&secret(), &asked), Ok(question));
        assert_eq!(open(&secret(), &said), Ok(answer));
        assert_eq!(open::<Question<'_>>(&secret(), &said), Err(Unopened::Unknown), "an answer is no question");
        assert_eq!(open::<Answer<'_>>(&secret(), &asked), Err(Unopened::Unknown));
        let other = Secret::new(&[8; 32]).unwrap();
        assert_eq!(open::<Question<'_>>(&other, &asked), Err(Unopened::Forged));
    }

    #[test]
    fn no_bit_of_it_can_be_touched_and_nothing_cut_off_or_added() {
        let sealed = seal(&secret(), &question(1, 5));
        for bit in 0..sealed.len() * 8 {
            let mut touched = sealed.clone();
            touched[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open::<Question<'_>>(&secret(), &touched), Err(Unopened::Forged), "bit {bit}");
        }
        for end in 0..sealed.len() {
            assert_eq!(open::<Question<'_>>(&secret(), &sealed[..end]), Err(Unopened::Forged), "{end} bytes");
        }
        let longer = [&sealed[..], &[0]].concat();
        assert_eq!(open::<Question<'_>>(&secret(), &longer), Err(Unopened::Forged));
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        #[derive(Encode, Decode)]
        struct Later<'a> {
            #[n(0)]
            nonce: minicbor::bytes::ByteArray<16>,
            #[n(1)]
            #[cbor(with = "minicbor::bytes")]
            body: &'a [u8],
            #[n(2)]
            more: String,
        }
        impl<'b> Sealed<'b> for Later<'b> {
            const LETTER: u8 = Answer::LETTER;
        }
        let later = Later { nonce: [3; 16].into(), body: b"yes", more: "and why".into() };
        let sealed = seal(&secret(), &later);
        assert_eq!(open(&secret(), &sealed), Ok(Answer { nonce: [3; 16], body: b"yes" }));
    }

    #[test]
    fn none_is_taken_twice_and_none_late() {
        let mut taken = Taken::default();
        let (now, time) = (1_000_000, 10_000);
        assert_eq!(taken.take(&question(1, now + time), now, time), Verdict::Take);
        assert_eq!(taken.take(&question(1, now + time), now + 5, time), Verdict::Twice);
        assert_eq!(taken.take(&question(2, now + time), now, time), Verdict::Take);
        // As long as it is known by its nonce, and from then on by its time.
        let last = now + time + CLOCKS_APART_MS;
        assert_eq!(taken.take(&question(1, now + time), last, time), Verdict::Twice);
        assert_eq!(taken.take(&question(1, now + time), last + 1, time), Verdict::Late);
        assert!(taken.known.is_empty() && taken.until.is_empty(), "nothing is kept of what is over");
        assert_eq!(taken.take(&question(3, last + 1), last + 1, time), Verdict::Take);
    }

    #[test]
    fn clocks_may_be_a_second_apart_and_no_more() {
        let (now, time) = (1_000_000, 10_000);
        for (until, verdict) in [
            (now - CLOCKS_APART_MS, Verdict::Take),
            (now - CLOCKS_APART_MS - 1, Verdict::Late),
            (now + time + CLOCKS_APART_MS, Verdict::Take),
            (now + time + CLOCKS_APART_MS + 1, Verdict::Late),
            (u64::MAX, Verdict::Late),
            (0, Verdict::Late),
        ] {
            assert_eq!(Taken::default().take(&question(1, until), now, time), verdict, "{until}");
        }
    }

    #[test]
    fn there_is_an_end_to_how_many_are_known() {
        let mut taken = Taken::default();
        let with = |number: u64| {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&number.to_le_bytes());
            Question { nonce, ..question(0, 10) }
        };
        taken.known.extend((0..KNOWN_MAX as u64).map(|number| with(number).nonce));
        assert_eq!(taken.take(&with(KNOWN_MAX as u64), 10, 10), Verdict::Full);
        assert_eq!(taken.take(&with(5), 10, 10), Verdict::Twice);
    }
}
