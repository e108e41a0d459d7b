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
