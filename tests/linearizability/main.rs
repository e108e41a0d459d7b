//! What concurrent callers are told of one option and of one wallet is what they would be told if every call had happened
//! at one moment between its beginning and its end: also when the engine dies in the middle, and is opened again; and on
//! three nodes, when another one comes to own the log.
//!
//! Orders are exchanged, given back in part, and handed on. A payment touches both. So the calls of a history are checked twice: as what they say of the seats, and as what they say
//! of the points.

mod alone;
mod checker;
#[path = "../common/mod.rs"]
mod common;
mod models;
mod nodes;
mod scene;

/// How many histories are checked, unless the environment says another number.
const HISTORIES_VARIABLE: &str = "BOXOFFICE_HISTORIES";
/// Callers of one history, and the calls of each.
const CALLERS: u64 = 4;
const CALLS: u64 = 6;
/// Seats of the option, of 100 points each.
const SEATS: usize = 5;
const PRICE: u64 = 100;

fn histories(unless_said: u64) -> u64 {
    std::env::var(HISTORIES_VARIABLE).map_or(unless_said, |number| number.parse().unwrap())
}
