//! What a provider lists of a day beside what was heard of it: the same money, or something that one of both does not know.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::facts::{Fact, Kind};
use super::{Currency, Points, Timestamp};

const DAY_MS: u64 = 86_400_000;

/// A day, in UTC. Reads and prints as `2026-11-29`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u64);

/// It is no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a day, such as 2026-11-29")]
pub struct NoDay;

impl Day {
    /// The one that this time is in.
    #[must_use]
    pub const fn of(at: Timestamp) -> Self {
        Self(at.as_millis() / DAY_MS)
    }

    /// When it begins.
    #[must_use]
    pub const fn begins(self) -> Timestamp {
        Timestamp::from_millis(self.0 * DAY_MS)
    }

    /// When the next one begins.
    #[must_use]
    pub const fn ends(self) -> Timestamp {
        self.begins().plus_millis(DAY_MS)
    }

    /// The one before; the first one is before itself.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl FromStr for Day {
    type Err = NoDay;

    fn from_str(text: &str) -> Result<Self, NoDay> {
        let is_plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let begins = format!("{text}T00:00:00Z").parse::<Timestamp>().ok().filter(|_| is_plain);
        begins.map(Self::of).ok_or(NoDay)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begins = self.begins().to_string();
        f.write_str(begins.split('T').next().unwrap_or_default())
    }
}

/// Money that moved, or a refund that came back, as the engine and a provider both know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Movement {
    /// The provider's name for the charge.
    pub reference: String,
    /// `captured`, `refunded`, `refund_failed` or `dispute_lost`.
    pub kind: Kind,
    /// How much.
    pub amount: Points,
    /// Of what.
    pub currency: Currency,
}

impl Movement {
    /// The movement that a fact is about, if it is about one.
    #[must_use]
    pub fn of(fact: &Fact) -> Option<Self> {
        let moves = Self::is_one(fact.kind);
        moves.then(|| Self {
            reference: fact.reference.clone(),
            kind: fact.kind,
            amount: fact.amount,
            currency: fact.currency,
        })
    }

    /// Whether what is said so is of money that moved.
    #[must_use]
    pub const fn is_one(kind: Kind) -> bool {
        matches!(kind, Kind::Captured | Kind::Refunded | Kind::RefundFailed | Kind::DisputeLost)
    }
}

impl fmt::Display for Movement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, kind, amount, currency } = self;
        let kind = match kind {
            Kind::Captured => "captured",
            Kind::Refunded => "refunded",
            Kind::RefundFailed => "refund_failed",
            Kind::DisputeLost => "dispute_lost",
            _ => "nothing",
        };
        write!(f, "{kind} {amount} {currency} of {reference:?}")
    }
}

/// What one of both does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// What the provider lists, and was not heard of.
    pub unknown_here: Vec<Movement>,
    /// What was heard of, and is not listed.
    pub unknown_there: Vec<Movement>,
}

impl Differences {
    /// Those between what was heard of a day, what was heard of other days, and what is listed of that day. Clocks differ:
    /// what is listed may as well be of another day here, but nothing of another day has to be listed.
    #[must_use]
    pub fn between(
        of_day: impl IntoIterator<Item = Movement>,
        of_others: impl IntoIterator<Item = Movement>,
        listed: impl IntoIterator<Item = Movement>,
    ) -> Self {
        let mut known: BTreeMap<Movement, (u64, u64)> = BTreeMap::new();
        of_day.into_iter().for_each(|one| known.entry(one).or_default().0 += 1);
        of_others.into_iter().for_each(|one| known.entry(one).or_default().1 += 1);
        let mut unknown_here = Vec::new();
        for one in listed {
            match known.get_mut(&one) {
                Some((left, _)) if *left > 0 => *left -= 1,
                Some((_, left)) if *left > 0 => *left -= 1,
                _ => unknown_here.push(one),
            }
        }
        unknown_here.sort_unstable();
        let left = known.into_iter().flat_map(|(one, (left, _))| (0..left).map(move |_| one.clone()));
        Self { unknown_here, unknown_there: left.collect() }
    }

    /// Whether both know the same.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.unknown_here.is_empty() && self.unknown_there.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(kind: Kind, reference: &str, amount: u32) -> Movement {
        Movement { reference: reference.into(), kind, amount: amount.into(), currency: Currency::KRW }
    }

    #[test]
    fn days() {
        let day: Day = "2024-02-29".parse().unwrap();
        assert_eq!((day.to_string(), day.before().to_string()), ("2024-02-29".into(), "2024-02-28".into()));
        assert_eq!(day.begins().to_string(), "2024-02-29T00:00:00.000Z");
        let last = day.begins().plus_millis(DAY_MS - 1);
        assert_eq!((Day::of(last), Day::of(last.plus_millis(1)).before()), (day, day));
        assert_eq!(day.ends(), last.plus_millis(1));
        for wrong in ["", "2023-02-29", "2024-2-29", "2024-02-29T00:00:00Z", "24-02-29", "2024/02/29", "+2024-2-29"] {
            assert_eq!(wrong.parse::<Day>(), Err(NoDay), "{wrong}");
        }
    }

    #[test]
    fn what_one_of_both_does_not_know() {
        use Kind::{Captured, Refunded};
        let between = |of_day: &[Movement], others: &[Movement], listed: &[Movement]| {
            Differences::between(of_day.to_vec(), others.to_vec(), listed.to_vec())
        };
        let (a, b, part) = (moved(Captured, "a", 100), moved(Captured, "b", 50), moved(Refunded, "a", 40));
        assert!(between(&[a.clone(), b.clone()], &[], &[b.clone(), a.clone()]).is_none());
        // Two parts of one charge are two movements.
        let twice = [a.clone(), part.clone(), part.clone()];
        assert_eq!(between(&twice, &[], &[a.clone(), part.clone()]).unknown_there, std::slice::from_ref(&part));
        assert_eq!(between(&[a.clone(), part.clone()], &[], &twice).unknown_here, std::slice::from_ref(&part));
        // Of another amount it is another one, to both.
        let less = between(std::slice::from_ref(&a), &[], &[moved(Captured, "a", 99)]);
        assert_eq!((less.unknown_here, less.unknown_there), (vec![moved(Captured, "a", 99)], vec![a.clone()]));
        // What was heard on another day is known, and need not be listed.
        assert!(between(&[], std::slice::from_ref(&a), std::slice::from_ref(&a)).is_none());
        assert!(between(&[], &[b], &[]).is_none());
        let both = between(std::slice::from_ref(&a), std::slice::from_ref(&a), &[a.clone(), a.clone(), a.clone()]);
        assert_eq!(both.unknown_here, [a]);
    }
}
