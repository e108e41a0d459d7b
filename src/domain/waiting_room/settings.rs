//! How a waiting room is run, as its owner sets it.

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::{Flaw, Timestamp, cbor};

/// The most that `max_active` and `admit_per_minute` may be.
const ADMISSIONS_MAX: u64 = 10_000_000;
/// The longest time, in seconds: a day.
const SECONDS_MAX: u64 = 86_400;

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, minicbor::Encode, minicbor::Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum Mode {
    /// Everybody, at once; no token is needed to hold seats.
    #[default]
    #[n(0)]
    Open,
    /// From the head of the line, as the throttles allow.
    #[n(1)]
    Queue,
    /// Nobody; those inside go on.
    #[n(2)]
    Paused,
}

/// In what order those stand who came before the line opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, minicbor::Encode, minicbor::Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum Order {
    /// As they came.
    #[default]
    #[n(0)]
    Fifo,
    /// By lot, drawn once at the opening. Who comes later stands behind them, in order.
    #[n(1)]
    ShuffleAtOpen,
}

/// How a waiting room is run. In JSON, what is absent has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Who is let in; `open` by default.
    #[n(0)]
    pub mode: Mode,
    /// How many may be inside for another one to be let in; 500 by default.
    #[n(1)]
    pub max_active: u32,
    /// How many are let in within any 60 s, and a sixtieth of it, rounded up, within any 1 s; no limit by default.
    #[n(2)]
    pub admit_per_minute: Option<u32>,
    /// How long one may stay inside, in seconds; 600 by default.
    #[n(3)]
    pub active_ttl_seconds: u32,
    /// How long a waiter may be silent, in seconds; 120 by default.
    #[n(4)]
    pub waiting_ttl_seconds: u32,
    /// `fifo` by default.
    #[n(5)]
    pub order: Order,
    /// When the line opens. `None`, the default: from the start.
    #[n(6)]
    pub opens_at: Option<Timestamp>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Open,
            max_active: 500,
            admit_per_minute: None,
            active_ttl_seconds: 600,
            waiting_ttl_seconds: 120,
            order: Order::Fifo,
            opens_at: None,
        }
    }
}

impl Settings {
    /// What is not within its bounds; `prefix` stands before the fields' names.
    pub fn flaws(&self, prefix: &str) -> impl Iterator<Item = Flaw> {
        let admit_per_minute = self.admit_per_minute.map(|n| ("admit_per_minute", n, ADMISSIONS_MAX));
        let max_active = ("max_active", self.max_active, ADMISSIONS_MAX);
        let times = [
            ("active_ttl_seconds", self.active_ttl_seconds, SECONDS_MAX),
            ("waiting_ttl_seconds", self.waiting_ttl_seconds, SECONDS_MAX),
        ];
        let numbers = [max_active].into_iter().chain(admit_per_minute).chain(times);
        numbers.filter_map(move |(name, n, max)| Flaw::of_range(format!("{prefix}{name}"), n.into(), 1, max))
    }
}

/// A change of some settings: a JSON merge patch. `null` is taken only where the setting itself may be `null`.
#[derive(Debug, Clone, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsPatch {
    /// See [`Settings::mode`].
    #[n(0)]
    #[serde(deserialize_with = "present")]
    pub mode: Option<Mode>,
    /// See [`Settings::max_active`].
    #[n(1)]
    #[serde(deserialize_with = "present")]
    pub max_active: Option<u32>,
    /// See [`Settings::admit_per_minute`].
    #[n(2)]
    #[cbor(with = "cbor::patch", has_nil)]
    #[serde(deserialize_with = "present")]
    pub admit_per_minute: Option<Option<u32>>,
    /// See [`Settings::active_ttl_seconds`]; those inside keep their time.
    #[n(3)]
    #[serde(deserialize_with = "present")]
    pub active_ttl_seconds: Option<u32>,
    /// See [`Settings::waiting_ttl_seconds`].
    #[n(4)]
    #[serde(deserialize_with = "present")]
    pub waiting_ttl_seconds: Option<u32>,
    /// See [`Settings::order`]; without effect once the line has opened.
    #[n(5)]
    #[serde(deserialize_with = "present")]
    pub order: Option<Order>,
    /// See [`Settings::opens_at`]; without effect once the line has opened.
    #[n(6)]
    #[cbor(with = "cbor::patch", has_nil)]
    #[serde(deserialize_with = "present")]
    pub opens_at: Option<Option<Timestamp>>,
}

impl SettingsPatch {
    /// `settings` with this change.
    #[must_use]
    pub fn apply(&self, settings: &Settings) -> Settings {
        Settings {
            mode: self.mode.unwrap_or(settings.mode),
            max_active: self.max_active.unwrap_or(settings.max_active),
            admit_per_minute: self.admit_per_minute.unwrap_or(settings.admit_per_minute),
            active_ttl_seconds: self.active_ttl_seconds.unwrap_or(settings.active_ttl_seconds),
            waiting_ttl_seconds: self.waiting_ttl_seconds.unwrap_or(settings.waiting_ttl_seconds),
            order: self.order.unwrap_or(settings.order),
            opens_at: self.opens_at.unwrap_or(settings.opens_at),
        }
    }
}

/// Tells a member that is there, be it `null`, from one that is absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_in_json() {
        let text = r#"{"mode":"open","max_active":500,"admit_per_minute":null,"active_ttl_seconds":600,"waiting_ttl_seconds":120,"order":"fifo","opens_at":null}"#;
        assert_eq!(serde_json::to_string(&Settings::default()).unwrap(), text);
        assert_eq!(serde_json::from_str::<Settings>(text).unwrap(), Settings::default());
        let some: Settings = serde_json::from_str(r#"{"mode":"queue","order":"shuffle_at_open"}"#).unwrap();
        assert_eq!(some, Settings { mode: Mode::Queue, order: Order::ShuffleAtOpen, ..Settings::default() });
        assert!(serde_json::from_str::<Settings>(r#"{"modus":"queue"}"#).is_err());
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let time = Timestamp::from_millis(5);
        let old = Settings { admit_per_minute: Some(60), opens_at: Some(time), ..Settings::default() };
        for (patch, new) in [
            ("{}", old.clone()),
            (r#"{"mode":"paused"}"#, Settings { mode: Mode::Paused, ..old.clone() }),
            (r#"{"max_active":7}"#, Settings { max_active: 7, ..old.clone() }),
            (r#"{"admit_per_minute":null}"#, Settings { admit_per_minute: None, ..old.clone() }),
            (r#"{"admit_per_minute":9}"#, Settings { admit_per_minute: Some(9), ..old.clone() }),
            (r#"{"active_ttl_seconds":1}"#, Settings { active_ttl_seconds: 1, ..old.clone() }),
            (r#"{"waiting_ttl_seconds":2}"#, Settings { waiting_ttl_seconds: 2, ..old.clone() }),
            (r#"{"order":"shuffle_at_open"}"#, Settings { order: Order::ShuffleAtOpen, ..old.clone() }),
            (r#"{"opens_at":null}"#, Settings { opens_at: None, ..old.clone() }),
        ] {
            assert_eq!(serde_json::from_str::<SettingsPatch>(patch).unwrap().apply(&old), new, "{patch}");
        }
        for refused in [r#"{"mode":null}"#, r#"{"max_active":null}"#, r#"{"max_activ":1}"#, r#"{"max_active":-1}"#] {
            assert!(serde_json::from_str::<SettingsPatch>(refused).is_err(), "{refused}");
        }
    }
}
