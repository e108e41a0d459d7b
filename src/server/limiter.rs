//! How often one user may ask.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::{Code, Problem};
use crate::domain::UserId;

/// Counts the requests of each user.
pub struct Limiter {
    /// `None`: off.
    users: Option<DefaultKeyedRateLimiter<UserId>>,
    clock: DefaultClock,
}

impl Limiter {
    /// So many requests a second for each user, with bursts of twice that; 0: as many as they like.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        let rate = NonZeroU32::new(u32::try_from(per_second).unwrap_or(u32::MAX));
        let users =
            rate.map(|rate| RateLimiter::keyed(Quota::per_second(rate).allow_burst(rate.saturating_mul(TWICE))));
        Self { users, clock: DefaultClock::default() }
    }

    /// Counts a request of `user`.
    ///
    /// # Errors
    /// 429 with `Retry-After`, if it is one too many.
    pub fn check(&self, user: &UserId) -> Result<(), Problem> {
        let Some(users) = &self.users else { return Ok(()) };
        users.check_key(user).map_err(|not_until| {
            let wait_millis = not_until.wait_time_from(self.clock.now()).as_millis();
            Problem::new(Code::RateLimited, "Too many requests of one user.")
                .retry_after(wait_millis.div_ceil(1_000) as u64)
        })
    }

    /// Forgets the users who have not asked for a while.
    pub fn forget_idle(&self) {
        if let Some(users) = &self.users {
            users.retain_recent();
            users.shrink_to_fit();
        }
    }
}

const TWICE: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_a_burst_and_then_has_to_wait() {
        let limiter = Limiter::new(1);
        let (anna, ben) = ("anna".parse().unwrap(), "ben".parse().unwrap());
        assert!(limiter.check(&anna).is_ok());
        assert!(limiter.check(&anna).is_ok());
        assert_eq!(limiter.check(&anna).unwrap_err().code(), Code::RateLimited);
        assert!(limiter.check(&ben).is_ok());
        let off = Limiter::new(0);
        assert!((0..1_000).all(|_| off.check(&anna).is_ok()));
    }
}
