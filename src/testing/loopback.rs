//! Engines whose calls go to themselves, as if another node decided.

pub use crate::engine::calls::loopback::{Fate, Loopback};
pub use crate::engine::{ClusterSecret, Forward, OwnerId, Sending, Unanswered};

/// Whether all engines of this process are such: with `BOXOFFICE_FORWARD=always` whole suites run like this.
pub(crate) fn is_for_all() -> bool {
    std::env::var_os("BOXOFFICE_FORWARD").is_some_and(|value| value == "always")
}
