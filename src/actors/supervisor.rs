//! Wakes those who have something due or owed, expires who has fallen silent, and puts to sleep who is not needed.

use std::sync::Arc;

use super::actor::Host;
use super::alarms::Alarm;
use super::system::System;
use crate::domain::Timestamp;

/// After how long a step that is owed is sent again, and how often those who wait are checked for signs of life.
const SECOND_MS: u64 = 1_000;

/// A plain part: whoever drives it calls [`step`](Self::step) twenty times a second.
pub(crate) struct Supervisor<H: Host> {
    system: Arc<System<H>>,
    max_resident: usize,
    last_second: Timestamp,
    entropy: Box<dyn FnMut() -> u64 + Send>,
}

impl<H: Host> Supervisor<H> {
    /// `entropy` gives random numbers, for those who need one.
    pub(crate) fn new(
        system: Arc<System<H>>,
        max_resident: usize,
        entropy: impl FnMut() -> u64 + Send + 'static,
    ) -> Self {
        Self { system, max_resident, last_second: Timestamp::default(), entropy: Box::new(entropy) }
    }

    /// Whether the engine has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.system.env.journal.is_closed()
    }

    pub(crate) fn step(&mut self) {
        let now = self.system.env.clock.now();
        for key in self.system.env.alarms.take_due(now) {
            self.system.wake(&key, Alarm::Due((self.entropy)()));
        }
        for liveness in self.system.liveness.iter() {
            liveness.tick(now);
        }
        if now.since(self.last_second).as_millis() as u64 >= SECOND_MS {
            self.last_second = now;
            for key in self.system.env.alarms.take_owing() {
                self.system.wake(&key, Alarm::Owed);
            }
            self.expire_silent();
        }
        self.system.options.thin_out(self.max_resident);
        self.system.wallets.thin_out(self.max_resident);
        self.system.rooms.thin_out(self.max_resident);
        self.system.sinks.thin_out(self.max_resident);
    }

    fn expire_silent(&self) {
        let mut rooms: Vec<_> = self.system.liveness.iter().map(|room| (*room.key(), room.value().clone())).collect();
        rooms.sort_unstable_by_key(|(concert, _)| *concert);
        for (concert, liveness) in rooms {
            let Ok(mut replica) = self.system.replica.lock() else { return };
            let silent = match replica.room(concert) {
                Ok(room) if room.counts().waiting == 0 => {
                    // Under the replica's lock: whoever gets in line next is not there yet, and brings it back.
                    self.system.liveness.remove(&concert);
                    continue;
                }
                Ok(room) => {
                    let ttl_ms = u64::from(room.settings().waiting_ttl_seconds) * 1_000;
                    liveness.silent(ttl_ms, room.waiting())
                }
                Err(error) => {
                    self.system.env.journal.poison(&format!("the state cannot be read: {error}"));
                    return;
                }
            };
            drop(replica);
            self.system.expire_silent(concert, &silent);
        }
    }
}
