//! Durability: the journal is the truth, sled is a cache of it.
//!
//! Architecture invariant: the store knows bytes, rows and lsns; it has no business rules.

pub mod codec;
pub mod committer;
pub mod disk;
pub(crate) mod drafts;
pub mod journal;
pub(crate) mod lists;
pub mod lock;
pub mod manifest;
pub(crate) mod pages;
pub mod plans;
pub mod redo;
pub(crate) mod replica;
pub mod rows;
pub mod sled_rows;
pub mod state;
