//! boxoffice

#![forbid(unsafe_code)]

pub mod actors;
pub mod api;
pub mod clock;
pub mod config;
pub mod domain;
pub mod error;
pub(crate) mod limits;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
