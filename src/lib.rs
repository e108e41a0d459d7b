//! boxoffice

#![forbid(unsafe_code)]

pub mod domain;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
