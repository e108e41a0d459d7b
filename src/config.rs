//! The engine's configuration: every limit, with its default and its bounds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::Currency;
use crate::domain::concert_option::{LISTS_BYTES_MAX, POINTS, SEATS_MAX};
use crate::payment::Method;

/// So many providers there may be.
const PROVIDERS_MAX: usize = 64;
/// The most currencies that one is said to take: more than there are.
const CURRENCIES_MAX: usize = 256;

/// A value out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: must be {allowed}")]
pub struct Error {
    /// The full name, such as `journal.segment_bytes`.
    pub key: String,
    /// What was given.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

/// How an engine is set up. `Config::default()` with another `data_dir` is a good start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The journal.
    pub journal: Journal,
    /// The state that is kept in sled.
    pub checkpoint: Checkpoint,
    /// Actors.
    pub actors: Actors,
    /// What callers may ask for.
    pub limits: Limits,
    /// Time.
    pub clock: Clock,
    /// The disk.
    pub storage: Storage,
    /// What leaves the engine.
    pub events: Events,
    /// Those who look on.
    pub live: Live,
    /// Calls that another node decides.
    pub forwarding: Forwarding,
    /// Payments by providers.
    pub payments: Payments,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./boxoffice-data"),
            journal: Journal::default(),
            checkpoint: Checkpoint::default(),
            actors: Actors::default(),
            limits: Limits::default(),
            clock: Clock::default(),
            storage: Storage::default(),
            events: Events::default(),
            live: Live::default(),
            forwarding: Forwarding::default(),
            payments: Payments::default(),
        }
    }
}

/// A section of a configuration, with the default of each setting.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}
pub(crate) use section;

section! {
    /// The journal.
    Journal {
        /// Size of a segment file, 1 MiB to 4 GiB.
        segment_bytes: u64 = 64 << 20,
        /// Events that may wait for the disk, 1,024 to 16,777,216; past it callers are told `overloaded`.
        max_waiting_events: u64 = 262_144,
    }
}

section! {
    /// The state that is kept in sled.
    Checkpoint {
        /// Whether it is written at all; without it every start replays the whole journal, and everything stays in
        /// memory.
        enabled: bool = true,
        /// Milliseconds that a start may take to replay what is not in it, up to 3,600,000: a checkpoint is taken once that
        /// would take longer, and when nothing has happened for a second. 0: whenever there is anything to write.
        replay_target_ms: u64 = 1_000,
        /// Events that may be durable and not yet checkpointed, 10,000 to 1,000,000,000; past it callers are told
        /// `overloaded`.
        max_pending_events: u64 = 4_000_000,
        /// Bytes of the journal that may be durable and not yet checkpointed, 1 MiB to 1 TiB; likewise. What waits in memory
        /// takes a few times as much.
        max_pending_bytes: u64 = 512 << 20,
        /// sled's cache in bytes, 1 MiB to 1 TiB.
        cache_bytes: u64 = 128 << 20,
    }
}

section! {
    /// Actors.
    Actors {
        /// Threads that run actors, and with the server serve requests, 1 to 256.
        arbiters: u64 = 2,
        /// Commands that may wait for one actor, 1 to 1,048,576; past it callers are told `overloaded`.
        mailbox: u64 = 16_384,
        /// Wallets, options (with their seating plans), waiting rooms and receivers in memory, 16 to 100,000,000 of each; the
        /// idle ones above it are put to sleep.
        max_resident: u64 = 100_000,
    }
}

section! {
    /// What callers may ask for.
    Limits {
        /// Calls that change something and are under way at once, 32 to 16,777,216; past it callers are told `overloaded`.
        /// Half of them is kept from those who want to hold seats or to queue up.
        calls: u64 = 8_192,
        /// Open holds of one user on all options, up to 1,000,000; 0 = off.
        user_open_holds: u64 = 20,
        /// Payments by providers of one user on one option that took no money: those that are pending or authorised, and those
        /// that have ended, until it is known that nothing was taken and for a minute more; up to 1,000,000; 0 = off.
        user_open_payments: u64 = 20,
        /// Idempotency keys of one user in 24 hours, 1 to 10,000,000.
        user_idempotency_keys: u64 = 10_000,
        /// Requests per second of one user, up to 1,000,000, with bursts of twice that; 0 = off. Kept by the server.
        user_requests_per_second: u64 = 50,
        /// Requests per second from one address (of IPv6: one /64), up to 1,000,000, with bursts of twice that; 0 = off,
        /// since carriers put thousands of buyers behind one address. Kept by the server.
        address_requests_per_second: u64 = 0,
        /// Bytes of a seating plan, 1 KiB to 1 GiB.
        plan_bytes: u64 = 32 << 20,
        /// Seats of a seating plan, 1 to 1,000,000.
        plan_seats: u64 = 200_000,
        /// Categories, zones and areas of one option, 1 to 3,000 of each.
        option_names: u64 = 1_000,
        /// Seating plans that one option has in all, the first and each that took the place of another, 1 to 2,000.
        option_plans: u64 = 100,
        /// Seats of one option, those that are withdrawn among them, 1 to 1,000,000.
        option_seats: u64 = SEATS_MAX,
        /// Bytes that prices, areas, accessible categories and zones in focus of one option take together in the journal,
        /// 1 KiB to 128 KiB.
        option_name_bytes: u64 = LISTS_BYTES_MAX,
        /// Seconds for which an offer to hand an order on stands, 1 to 31,536,000; of those that stand, as long as it was said then.
        offer_seconds: u64 = 259_200,
        /// Concerts and options in all, 1 to 100,000,000.
        catalogue_entries: u64 = 1_000_000,
        /// Receivers of events, 1 to 10,000.
        sinks: u64 = 100,
    }
}

section! {
    /// Time.
    Clock {
        /// Start although the journal is more than five minutes ahead of the wall clock.
        accept_journal_ahead: bool = false,
    }
}

section! {
    /// The disk.
    Storage {
        /// Bytes that must stay free, 0 to 1 TiB; below it callers are told `storage_full`, and no checkpoint is begun. A
        /// segment of the journal and a checkpoint that has begun must fit into it: about 500 bytes an event that is behind.
        min_free_bytes: u64 = 256 << 20,
    }
}

section! {
    /// What leaves the engine.
    Events {
        /// Reservations, payments, refunds and tokens, of each, that a reader of events remembers so that it need not look
        /// them up, 64 to 1,000,000; about 400 bytes each.
        remembered: u64 = 8_192,
    }
}

section! {
    /// Those who look on.
    Live {
        /// Milliseconds between two updates of an option's seats, 1 to 60,000: what changes in between is told together.
        window_ms: u64 = 50,
        /// Milliseconds between two updates of a place in a line, 1 to 60,000.
        position_ms: u64 = 1_000,
        /// Milliseconds after which a token is told again although nothing has changed, 1 to 60,000.
        token_ms: u64 = 5_000,
    }
}

section! {
    /// Payments by providers.
    Payments {
        /// What points are of.
        points_currency: Currency = Currency::KRW,
        /// Milliseconds that a call to a provider may take, 1 to 600,000; then nobody knows what came of it.
        call_timeout_ms: u64 = 30_000,
        /// How options can be paid beside by points, at most 64.
        providers: Vec<Method> = Vec::new(),
    }
}

section! {
    /// Calls that another node decides.
    Forwarding {
        /// Calls that are under way to the node that decides at once, 32 to 1,000,000; past it callers are told `overloaded`.
        /// Half of them is kept from those who want to hold seats or to queue up.
        calls: u64 = 4_096,
        /// Milliseconds that a call may take, 100 to 600,000: who has no answer by then is told that the outcome is not known.
        time_ms: u64 = 10_000,
        /// Bytes of a call, without a seating plan, 4 KiB to 64 MiB; past it callers are told `overloaded`. What carries them must
        /// take 1 KiB more.
        question_bytes: u64 = 512 << 10,
        /// Bytes of an answer, 4 KiB to 64 MiB; of lists that would be larger a part is given. What carries them must take 1 KiB
        /// more.
        answer_bytes: u64 = 512 << 10,
        /// Milliseconds that an answer waits at most until this node has taken in what it rests on, 1 to 600,000; then it is given
        /// all the same, and the node is not ready until it has.
        behind_ms: u64 = 2_000,
    }
}

impl Config {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first value that is out of its bounds.
    pub fn validate(&self) -> Result<(), Error> {
        let bounds: &[(&str, u64, u64, u64)] = &[
            ("journal.segment_bytes", self.journal.segment_bytes, 1 << 20, 4 << 30),
            ("journal.max_waiting_events", self.journal.max_waiting_events, 1_024, 16_777_216),
            ("checkpoint.replay_target_ms", self.checkpoint.replay_target_ms, 0, 3_600_000),
            ("checkpoint.max_pending_events", self.checkpoint.max_pending_events, 10_000, 1_000_000_000),
            ("checkpoint.max_pending_bytes", self.checkpoint.max_pending_bytes, 1 << 20, 1 << 40),
            ("checkpoint.cache_bytes", self.checkpoint.cache_bytes, 1 << 20, 1 << 40),
            ("actors.arbiters", self.actors.arbiters, 1, 256),
            ("actors.mailbox", self.actors.mailbox, 1, 1_048_576),
            ("actors.max_resident", self.actors.max_resident, 16, 100_000_000),
            ("limits.calls", self.limits.calls, 32, 16_777_216),
            ("limits.user_open_holds", self.limits.user_open_holds, 0, 1_000_000),
            ("limits.user_open_payments", self.limits.user_open_payments, 0, 1_000_000),
            ("limits.user_idempotency_keys", self.limits.user_idempotency_keys, 1, 10_000_000),
            ("limits.user_requests_per_second", self.limits.user_requests_per_second, 0, 1_000_000),
            ("limits.address_requests_per_second", self.limits.address_requests_per_second, 0, 1_000_000),
            ("limits.plan_bytes", self.limits.plan_bytes, 1 << 10, 1 << 30),
            ("limits.plan_seats", self.limits.plan_seats, 1, SEATS_MAX),
            ("limits.option_names", self.limits.option_names, 1, 3_000),
            ("limits.option_plans", self.limits.option_plans, 1, 2_000),
            ("limits.option_seats", self.limits.option_seats, 1, SEATS_MAX),
            ("limits.option_name_bytes", self.limits.option_name_bytes, 1 << 10, LISTS_BYTES_MAX),
            ("limits.offer_seconds", self.limits.offer_seconds, 1, 31_536_000),
            ("limits.catalogue_entries", self.limits.catalogue_entries, 1, 100_000_000),
            ("limits.sinks", self.limits.sinks, 1, 10_000),
            ("events.remembered", self.events.remembered, 64, 1_000_000),
            ("storage.min_free_bytes", self.storage.min_free_bytes, 0, 1 << 40),
            ("live.window_ms", self.live.window_ms, 1, 60_000),
            ("live.position_ms", self.live.position_ms, 1, 60_000),
            ("live.token_ms", self.live.token_ms, 1, 60_000),
            ("forwarding.calls", self.forwarding.calls, 32, 1_000_000),
            ("forwarding.time_ms", self.forwarding.time_ms, 100, 600_000),
            ("forwarding.question_bytes", self.forwarding.question_bytes, 4 << 10, 64 << 20),
            ("forwarding.answer_bytes", self.forwarding.answer_bytes, 4 << 10, 64 << 20),
            ("forwarding.behind_ms", self.forwarding.behind_ms, 1, 600_000),
            ("payments.call_timeout_ms", self.payments.call_timeout_ms, 1, 600_000),
        ];
        self.payments.validate()?;
        for &(key, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                let allowed = format!("a whole number from {min} to {max}");
                return Err(Error { key: key.into(), value: value.to_string(), allowed });
            }
        }
        Ok(())
    }
}

impl Payments {
    fn validate(&self) -> Result<(), Error> {
        let error =
            |key: &str, value: String, allowed: String| Error { key: format!("payments.{key}"), value, allowed };
        if self.providers.len() > PROVIDERS_MAX {
            let allowed = format!("at most {PROVIDERS_MAX}");
            return Err(error("providers", self.providers.len().to_string(), allowed));
        }
        for (index, one) in self.providers.iter().enumerate() {
            let key = |name: &str| format!("providers[{index}].{name}");
            let fits = (1..=64).contains(&one.name.len())
                && one.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            let twice = self.providers[..index].iter().any(|other| other.name == one.name);
            if !fits || twice || one.name == POINTS {
                let allowed = "1 to 64 letters, digits, - and _, not \"points\", and no name twice";
                return Err(error(&key("name"), one.name.clone(), allowed.into()));
            }
            if one.currencies.len() > CURRENCIES_MAX {
                return Err(error(
                    &key("currencies"),
                    one.currencies.len().to_string(),
                    format!("at most {CURRENCIES_MAX}"),
                ));
            }
            for (name, value, min, max) in [
                ("pay_within_ms", one.pay_within_ms, 1_000, 86_400_000),
                ("capture_within_ms", one.capture_within_ms, 1_000, 86_400_000),
                ("late_within_ms", one.late_within_ms, 0, 31_536_000_000),
            ] {
                if !(min..=max).contains(&value) {
                    return Err(error(&key(name), value.to_string(), format!("a whole number from {min} to {max}")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_value_out_of_bounds_is_named() {
        let mut config = Config::default();
        config.actors.mailbox = 0;
        let error = config.validate().unwrap_err();
        assert_eq!(error.to_string(), "actors.mailbox = 0: must be a whole number from 1 to 1048576");
    }
}
