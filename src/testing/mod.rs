//! What tests of the engine and of host apps need. Not for production: it is behind the feature `testing`.

pub mod plans;
pub mod sim_disk;
