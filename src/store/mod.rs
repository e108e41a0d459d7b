//! Durability: the journal is the truth, sled is a cache of it.
//!
//! Architecture invariant: the store knows bytes, rows and lsns; it has no business rules. What of events are bytes is for
//! [`codec`] to say, which alone names the aggregates.

pub mod codec;
pub mod committer;
pub mod disk;
pub mod journal;
pub mod lock;
pub mod manifest;
pub mod node;
pub mod plans;
#[cfg(test)]
mod record_tests;
pub mod redo;
pub mod rows;
pub mod sled_rows;
pub mod standing;
pub mod state;
