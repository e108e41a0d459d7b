//! The line: who came first, and who is inside.
//!
//! Somebody is certainly before another one in line if they had been told of their place before the other one asked for
//! theirs.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::domain::TokenId;
use crate::loadgen::target::Place;

/// A place in line, and when it was got.
#[derive(Debug, Clone)]
pub struct InLine {
    /// As it was told last.
    pub place: Place,
    user: u64,
    asked_us: u64,
    told_us: u64,
}

impl InLine {
    /// A place that a user asked for, and was told of.
    #[must_use]
    pub fn new(user: u64, place: Place, asked_us: u64, told_us: u64) -> Self {
        Self { place, user, asked_us, told_us }
    }
}

/// Who was let in, of all those who were seen inside: when the last to come had asked for their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetIn(u64);

/// One waiting room, in order of arrival.
#[derive(Debug)]
pub struct Line {
    max_active: u32,
    let_in: AtomicU64,
    /// Those inside, and until when.
    inside: Mutex<HashMap<TokenId, u64>>,
}

impl Line {
    /// One that lets in so many; 0: that is not known.
    #[must_use]
    pub fn new(max_active: u32) -> Self {
        Self { max_active, let_in: AtomicU64::new(0), inside: Mutex::new(HashMap::new()) }
    }

    /// To be asked for before somebody asks where they stand.
    #[must_use]
    pub fn let_in(&self) -> LetIn {
        LetIn(self.let_in.load(Ordering::Relaxed))
    }

    /// Somebody who asked when `let_in` had been let in still waits.
    ///
    /// # Errors
    /// Somebody who came later had been let in before, or they have moved back.
    pub fn waits(&self, before: &InLine, now: &Place, let_in: LetIn) -> Result<(), String> {
        if before.told_us < let_in.0 {
            return Err(format!(
                "user {} waits with {} since {:.6} s, and somebody who came at {:.6} s was let in",
                before.user,
                now.id,
                before.told_us as f64 / 1e6,
                let_in.0 as f64 / 1e6
            ));
        }
        match (before.place.ahead, now.ahead) {
            (Some(was), Some(is)) if is > was && before.place.id == now.id => {
                Err(format!("user {} had {was} before them in line, and now {is}", before.user))
            }
            _ => Ok(()),
        }
    }

    /// Somebody is inside, at `latest_ms` by the system's clock at the most.
    ///
    /// # Errors
    /// Too many are.
    pub fn is_inside(&self, who: &InLine, expires_ms: u64, latest_ms: Option<u64>) -> Result<(), String> {
        self.let_in.fetch_max(who.asked_us, Ordering::Relaxed);
        let mut inside = self.inside.lock();
        inside.insert(who.place.id, expires_ms);
        if self.max_active > 0 && inside.len() > self.max_active as usize {
            // Without a clock nothing is certain.
            let latest_ms = latest_ms.unwrap_or(u64::MAX);
            inside.retain(|_, expires_ms| *expires_ms > latest_ms);
            if inside.len() > self.max_active as usize {
                return Err(format!("{} are inside, and {} may be", inside.len(), self.max_active));
            }
        }
        Ok(())
    }

    /// Somebody asks for something that lets them out.
    pub fn goes(&self, id: TokenId) {
        self.inside.lock().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ConcertId;
    use crate::domain::waiting_room::TokenStatus;

    fn place(no: u64, status: TokenStatus, ahead: Option<u64>) -> Place {
        let id = TokenId { concert: ConcertId(1), no };
        Place { id, signed: String::new(), status, ahead, refresh_seconds: 1, expires_at: None }
    }

    /// Somebody who asked for a place at one time, and was told of it at another.
    fn came(no: u64, asked_us: u64, told_us: u64) -> InLine {
        InLine::new(no, place(no, TokenStatus::Waiting, Some(no)), asked_us, told_us)
    }

    #[test]
    fn nobody_waits_when_somebody_is_inside_who_came_later() {
        let line = Line::new(0);
        let (one, other, later) = (came(1, 10, 20), came(2, 15, 25), came(3, 30, 40));
        let before = line.let_in();
        line.is_inside(&other, 1_000, Some(0)).unwrap();
        // The other one asked before the first had been told: who came first is not known.
        assert_eq!(line.waits(&one, &one.place, line.let_in()), Ok(()));
        line.is_inside(&later, 1_000, Some(0)).unwrap();
        assert!(line.waits(&one, &one.place, line.let_in()).is_err());
        // Whoever asked before that may be told what was true before.
        assert_eq!(line.waits(&one, &one.place, before), Ok(()));
    }

    #[test]
    fn nobody_moves_back() {
        let (line, one) = (Line::new(0), came(5, 10, 20));
        for (ahead, fine) in [(Some(5), true), (Some(0), true), (None, true), (Some(6), false)] {
            let now = place(5, TokenStatus::Waiting, ahead);
            assert_eq!(line.waits(&one, &now, line.let_in()).is_ok(), fine, "{ahead:?}");
        }
        let another = place(6, TokenStatus::Waiting, Some(9));
        assert_eq!(line.waits(&one, &another, line.let_in()), Ok(()), "a new place is at the end");
    }

    #[test]
    fn no_more_are_inside_than_may_be() {
        let line = Line::new(2);
        line.is_inside(&came(1, 1, 2), 1_000, Some(0)).unwrap();
        line.is_inside(&came(2, 3, 4), 2_000, Some(0)).unwrap();
        assert!(line.is_inside(&came(3, 5, 6), 3_000, Some(999)).is_err());
        line.goes(TokenId { concert: ConcertId(1), no: 3 });
        assert_eq!(line.is_inside(&came(4, 7, 8), 3_000, Some(1_000)), Ok(()), "the time of the first is over");
        line.goes(TokenId { concert: ConcertId(1), no: 2 });
        assert_eq!(line.is_inside(&came(5, 9, 10), 3_000, Some(1_000)), Ok(()));
    }
}
