//! The shells around the aggregates, and what drives them.
//!
//! Architecture invariant: no business rule is in here. A shell is a plain struct that turns commands into records and
//! effects; actix only drives it, and so can a test, on one thread.

pub(crate) mod actor;
pub(crate) mod alarms;
pub(crate) mod arbiters;
pub(crate) mod desk;
pub(crate) mod inbox;
pub(crate) mod registry;
pub(crate) mod reply;
pub(crate) mod shell;
pub(crate) mod system;
pub(crate) mod timer;
