//! How often one user, and one address, may ask.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::{Code, Problem};
use crate::config::Limits;
use crate::domain::UserId;

const TWICE: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// Of an IPv6 address, what tells one subscriber from another: the rest is theirs to choose.
const SUBSCRIBER: u128 = u128::MAX << 64;

/// Counts the requests of each user and of each address.
pub struct Limiter {
    users: Option<Rate<UserId>>,
    addresses: Option<Rate<IpAddr>>,
}

impl Limiter {
    /// As configured.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            users: Rate::new(limits.user_requests_per_second),
            addresses: Rate::new(limits.address_requests_per_second),
        }
    }

    /// Counts a request of `user`.
    ///
    /// # Errors
    /// 429 with `Retry-After`, if it is one too many.
    pub fn check(&self, user: &UserId) -> Result<(), Problem> {
        self.users.as_ref().map_or(Ok(()), |users| users.check(user, "Too many requests of one user."))
    }

    /// Counts a request from `address`.
    ///
    /// # Errors
    /// 429 with `Retry-After`, if it is one too many.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Problem> {
        let Some(addresses) = &self.addresses else { return Ok(()) };
        let subscriber = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & SUBSCRIBER).into(),
        };
        addresses.check(&subscriber, "Too many requests from one address.")
    }

    /// Forgets those who have not asked for a while.
    pub fn forget_idle(&self) {
        self.users.as_ref().inspect(|users| users.forget_idle());
        self.addresses.as_ref().inspect(|addresses| addresses.forget_idle());
    }
}

/// So many requests a second for each key, with bursts of twice that.
struct Rate<K: Hash + Eq + Clone> {
    keys: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// `None` for 0: as many as they like.
    fn new(per_second: u64) -> Option<Self> {
        let rate = NonZeroU32::new(u32::try_from(per_second).unwrap_or(u32::MAX))?;
        let quota = Quota::per_second(rate).allow_burst(rate.saturating_mul(TWICE));
        Some(Self { keys: RateLimiter::keyed(quota), clock: DefaultClock::default() })
    }

    fn check(&self, key: &K, refusal: &'static str) -> Result<(), Problem> {
        self.keys.check_key(key).map_err(|not_until| {
            let wait_millis = not_until.wait_time_from(self.clock.now()).as_millis();
            Problem::new(Code::RateLimited, refusal).retry_after(wait_millis.div_ceil(1_000) as u64)
        })
    }

    fn forget_idle(&self) {
        self.keys.retain_recent();
        self.keys.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(user: u64, address: u64) -> Limits {
        Limits { user_requests_per_second: user, address_requests_per_second: address, ..Limits::default() }
    }

    #[test]
    fn a_user_gets_a_burst_and_then_has_to_wait() {
        let limiter = Limiter::new(&limits(1, 0));
        let (anna, ben) = ("anna".parse().unwrap(), "ben".parse().unwrap());
        assert!(limiter.check(&anna).is_ok());
        assert!(limiter.check(&anna).is_ok());
        assert_eq!(limiter.check(&anna).unwrap_err().code(), Code::RateLimited);
        assert!(limiter.check(&ben).is_ok());
        let off = Limiter::new(&limits(0, 0));
        assert!((0..1_000).all(|_| off.check(&anna).is_ok()));
        assert!((0..1_000).all(|_| off.check_address([127, 0, 0, 1].into()).is_ok()));
    }

    #[test]
    fn a_subscriber_has_one_allowance_for_all_their_addresses() {
        let limiter = Limiter::new(&limits(0, 1));
        let ask = |address: &str| limiter.check_address(address.parse().unwrap()).is_ok();
        assert!(ask("2001:db8:0:1::1") && ask("2001:db8:0:1::2"));
        assert!(!ask("2001:db8:0:1:ffff::3"));
        assert!(ask("2001:db8:0:2::1"));
        assert!(ask("192.0.2.1") && ask("192.0.2.1") && !ask("192.0.2.1"));
        assert!(ask("192.0.2.2"));
    }
}
