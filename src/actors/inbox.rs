//! What waits for an actor: whoever sends adds to it, and the actor takes all of it at once. A mailbox of actix's takes an
//! allocation or two and a wake-up for each message, which costs more than to decide it.

use parking_lot::Mutex;

use super::actor::Delivery;
use super::registry::Full;
use super::system::Routed;

pub(crate) struct Inbox<A: Routed>(Mutex<State<A>>);

struct State<A: Routed> {
    deliveries: Vec<Delivery<A>>,
    /// How many of them a limit stood against: what comes from inside takes nobody's place.
    limited: usize,
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
        Self(Mutex::new(State { deliveries: Vec::new(), limited: 0, called: false, closed: false }))
    }

    /// Adds a delivery, unless there are `limit` already that had one too. If the actor is gone, it is dropped, which lets
    /// whoever waits for an answer go.
    pub(crate) fn put(&self, delivery: Delivery<A>, limit: Option<usize>) -> Result<Call, Full> {
        let mut state = self.0.lock();
        if state.closed {
            return Ok(Call::Made);
        }
        if let Some(limit) = limit {
            if state.limited >= limit {
                return Err(Full);
            }
            state.limited += 1;
        }
        state.deliveries.push(delivery);
        let called = std::mem::replace(&mut state.called, true);
        Ok(if called { Call::Made } else { Call::Needed })
    }

    /// Swaps what has come with `empty`.
    pub(crate) fn take(&self, empty: &mut Vec<Delivery<A>>) {
        let mut state = self.0.lock();
        state.limited = 0;
        std::mem::swap(&mut state.deliveries, empty);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::alarms::Alarm;
    use crate::actors::reply;
    use crate::domain::Points;
    use crate::domain::idempotency::Request;
    use crate::domain::wallet::{Command, Wallet};

    fn wake() -> Delivery<Wallet> {
        Delivery::Wake(Alarm::Owed)
    }

    #[test]
    fn an_actor_is_called_once_for_all_that_comes_until_it_rests() {
        let inbox = Inbox::new();
        let mut taken = Vec::new();
        assert_eq!(inbox.put(wake(), None), Ok(Call::Needed));
        assert_eq!(inbox.put(wake(), None), Ok(Call::Made));
        inbox.take(&mut taken);
        assert_eq!(taken.len(), 2);
        taken.clear();
        assert_eq!(inbox.put(wake(), None), Ok(Call::Made), "it is at work");
        assert!(!inbox.rest(), "something has come meanwhile");
        inbox.take(&mut taken);
        assert_eq!(taken.len(), 1);
        assert!(inbox.rest());
        assert_eq!(inbox.put(wake(), None), Ok(Call::Needed));
    }

    #[test]
    fn there_is_a_limit_for_those_who_have_one() {
        let inbox = Inbox::new();
        assert_eq!(inbox.put(wake(), None), Ok(Call::Needed));
        assert_eq!(inbox.put(wake(), Some(1)), Ok(Call::Made), "what comes from inside does not count");
        assert_eq!(inbox.put(wake(), Some(1)), Err(Full));
        assert_eq!(inbox.put(wake(), None), Ok(Call::Made));
        inbox.take(&mut Vec::new());
        assert_eq!(inbox.put(wake(), Some(1)), Ok(Call::Made));
    }

    #[tokio::test]
    async fn nobody_waits_for_an_actor_that_is_gone() {
        let inbox = Inbox::<Wallet>::new();
        let command = || {
            let (to, reply) = reply::channel();
            let (amount, by) = (Points::ZERO, "anna".parse().unwrap());
            (Delivery::Command(Command::Charge { amount, by, request: Request::default() }, Some(to)), reply)
        };
        let (before, waits) = command();
        let _ = inbox.put(before, None);
        inbox.close();
        assert_eq!(waits.await, None);
        let (after, waits) = command();
        assert_eq!(inbox.put(after, None), Ok(Call::Made));
        assert_eq!(waits.await, None);
    }
}
