//! boxoffice

#![forbid(unsafe_code)]

mod actors;
mod api;
mod clock;
pub mod config;
pub mod domain;
mod engine;
mod error;
mod limits;
#[cfg(feature = "server")]
pub mod server;
pub(crate) mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use api::*;
pub use config::Config;
pub use domain::*;
pub use engine::*;
pub use error::{Error, FieldError, OpenError};
