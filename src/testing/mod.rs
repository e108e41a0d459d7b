//! What tests of the engine and of host apps need.

pub mod sim_disk;
