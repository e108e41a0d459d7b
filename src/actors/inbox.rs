//! What waits for an actor: whoever sends adds to it, and the actor takes all of it at once. A mailbox of actix's takes an
//! allocation or two and a wake-up for each message, which costs more than to decide it.

use parking_lot::Mutex;

use super::actor::Delivery;
use super::registry::Full;
use super::system::Routed;

pub(crate) struct Inbox<A: Routed>(Mutex<State<A>>);

struct State<A: Routed> {
    deliveries: Vec<Delivery<A>>,
    /// Whether the actor knows that there is something.
    called: bool,
    /// The actor is gone.
    closed: bool,
}

/// Whether the actor must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Needed,
    Made,
}

impl<A: Routed> Inbox<A> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { deliveries: Vec::new(), called: false, closed: false }))
    }

    /// Adds a delivery, unless there are `limit` already. If the actor is gone, it is dropped, which lets whoever waits for
    /// an answer go.
    pub(crate) fn put(&self, delivery: Delivery<A>, limit: Option<usize>) -> Result<Call, Full> {
        let mut state = self.0.lock();
        if state.closed {
            return Ok(Call::Made);
        }
        if limit.is_some_and(|limit| state.deliveries.len() >= limit) {
            return Err(Full);
        }
        state.deliveries.push(delivery);
        let called = std::mem::replace(&mut state.called, true);
        Ok(if called { Call::Made } else { Call::Needed })
    }

    /// Swaps what has come with `empty`.
    pub(crate) fn take(&self, empty: &mut Vec<Delivery<A>>) {
        std::mem::swap(&mut self.0.lock().deliveries, empty);
    }

    /// Whether the actor may rest: then it is told when something comes. If not, something has come.
    pub(crate) fn rest(&self) -> bool {
        let mut state = self.0.lock();
        state.called = !state.deliveries.is_empty();
        !state.called
    }

    /// Takes no more, and drops what waits.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.0.lock();
            state.closed = true;
            std::mem::take(&mut state.deliveries)
        };
        // Outside the lock: who is let go may call back.
        drop(dropped);
    }
}
