//! Three machines with real NATS servers and real nodes under load, to which all happens that machines and networks do.
//!
//! `BOXOFFICE_CLUSTER_FAULTS` says how many faults, `BOXOFFICE_CLUSTER_KINDS` which; `SERVER` is another program than the one that
//! was built with the tests.

mod audit;
mod callers;
mod faults;
mod machines;
mod network;
#[path = "../cluster_nats/servers.rs"]
mod servers;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// So that no cluster takes another one's processor.
static ALONE: Mutex<()> = Mutex::new(());

/// A name that no other run has, nor this one gave before.
fn run_name(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
