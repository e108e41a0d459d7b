//! What tests of the engine and of host apps need. Not for production: it is behind the feature `testing`.

pub mod clock;
pub mod cluster;
pub mod data_dir;
pub mod failing_disk;
pub mod failpoints;
pub mod fuzz;
pub mod gated_rows;
#[cfg(test)]
pub(crate) mod lines;
pub mod loopback;
pub mod lying_disk;
pub mod plans;
pub mod random;
pub mod scenario;
pub mod sim_disk;
pub mod simulation;
pub mod slow_disk;
pub mod subject;
pub mod world;
