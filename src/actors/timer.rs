//! Wakes those who have something due or owed, expires who has fallen silent, and puts to sleep who is not needed.

use std::sync::Arc;

use super::actor::Host;
use super::alarms::Alarm;
use super::system::{System, Unseen};
use crate::domain::{ConcertId, Timestamp};

/// After how long a step that is owed is sent again, and how often those who wait are checked for signs of life.
const SECOND_MS: u64 = 1_000;
/// Of so many who wait the replica is asked at once.
const AT_ONCE: usize = 8_192;

/// A plain part: whoever drives it calls [`step`](Self::step) twenty times a second.
pub(crate) struct Timer<H: Host> {
    system: Arc<System<H>>,
    max_resident: usize,
    last_second: Timestamp,
    /// Whoever looks for silent ones has it too.
    turn: Arc<()>,
    entropy: Box<dyn FnMut() -> u64 + Send>,
}

impl<H: Host> Timer<H> {
    /// `entropy` gives random numbers, for those who need one.
    pub(crate) fn new(
        system: Arc<System<H>>,
        max_resident: usize,
        entropy: impl FnMut() -> u64 + Send + 'static,
    ) -> Self {
        Self {
            system,
            max_resident,
            last_second: Timestamp::default(),
            turn: Arc::default(),
            entropy: Box::new(entropy),
        }
    }

    /// Whether its term is over, or the engine has ended.
    pub(crate) fn is_over(&self) -> bool {
        let writer = &self.system.env.writer;
        writer.is_over() || writer.journal().is_closed()
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
            // Lines may be long, or not in memory; alarms must not wait for that.
            if Arc::strong_count(&self.turn) == 1 {
                let (system, turn) = (self.system.clone(), self.turn.clone());
                self.system.host.in_background(move || {
                    expire_silent(&system);
                    drop(turn);
                });
            }
        }
        self.system.actors.thin_out(self.max_resident);
    }
}

/// Looks through all lines for those who have fallen silent, and for those who wait for nothing.
fn expire_silent<H: Host>(system: &Arc<System<H>>) {
    let mut rooms: Vec<_> = system.liveness.iter().map(|room| (*room.key(), room.value().clone())).collect();
    rooms.sort_unstable_by_key(|(concert, _)| *concert);
    for (concert, liveness) in rooms {
        match waiting(system, concert) {
            Ok(None) => {}
            Ok(Some((None, waiting))) => system.expire_silent(concert, &waiting),
            Ok(Some((Some(ttl_ms), waiting))) => system.expire_silent(concert, &liveness.silent(ttl_ms, waiting)),
            Err(Unseen::Ended) => return,
            Err(Unseen::Unreadable(error)) => {
                return system.env.writer.poison(&format!("the state cannot be read: {error}"));
            }
        }
    }
}

/// Whether a line leads nowhere: all performances of its concert are called off. One that comes later begins anew.
fn leads_nowhere<H: Host>(system: &Arc<System<H>>, concert: ConcertId) -> Result<bool, Unseen> {
    let known =
        system.replica.read(|replica| Ok(replica.catalogue()?.concert(concert).map(|it| it.options.clone())))?;
    let options = known.unwrap_or_default();
    for option in &options {
        // One after the other: mostly the first one takes place.
        if !system.replica.read(|replica| Ok(replica.option(*option)?.is_called_off()))? {
            return Ok(false);
        }
    }
    Ok(!options.is_empty())
}

/// How many milliseconds those may be silent who wait in a line, none if it leads nowhere; and who they are.
type Waiters = (Option<u64>, Vec<u64>);

/// Who waits in a line; nothing if nobody does. The replica is
/// held for a part of a line at a time: who comes or goes meanwhile may be missed, which a sign of life would make no difference to.
fn waiting<H: Host>(system: &Arc<System<H>>, concert: ConcertId) -> Result<Option<Waiters>, Unseen> {
    let (mut waiting, mut from) = (Vec::new(), 0);
    let is_for_nothing = leads_nowhere(system, concert)?;
    loop {
        let some = system.replica.read(|replica| {
            let room = replica.room(concert)?;
            if room.counts().waiting == 0 {
                // Under the replica's lock: whoever gets in line next is not there yet, and brings it back.
                system.liveness.remove(&concert);
                return Ok(None);
            }
            let ttl_ms = (!is_for_nothing).then(|| u64::from(room.settings().waiting_ttl_seconds) * 1_000);
            Ok(Some((ttl_ms, room.waiting_from(from).take(AT_ONCE).collect::<Vec<_>>())))
        });
        let Some((ttl_ms, some)) = some? else { return Ok(None) };
        let Some((last, _)) = some.last() else { return Ok(Some((ttl_ms, waiting))) };
        from = last + 1;
        waiting.extend(some.into_iter().map(|(_, no)| no));
    }
}
