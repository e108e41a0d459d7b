//! The way of an answer to who asked: the shell leaves it, the committer lets it out, the caller takes it. One allocation
//! serves all three.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::domain::Lsn;
use crate::store::committer::{Effect, Held};
use crate::watch::{Watch, Watched};

/// Where an answer goes. Dropped, it tells the caller that the command was not handled, or the engine has failed.
#[derive(Debug)]
pub struct ReplyTo<T> {
    slot: Option<Arc<Slot<T>>>,
    /// The way of a command that somebody watches.
    watched: Option<Box<Watched>>,
}

/// Where it comes in: `None` if there will be none.
#[derive(Debug)]
pub struct Reply<T>(Arc<Slot<T>>);

#[derive(Debug)]
struct Slot<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    answer: Option<T>,
    /// Whether the caller may look. Nothing changes afterwards.
    out: bool,
    waker: Option<Waker>,
    watched: Option<Box<Watched>>,
}

/// Both ends.
pub fn channel<T>() -> (ReplyTo<T>, Reply<T>) {
    let slot = Arc::new(Slot(Mutex::new(State { answer: None, out: false, waker: None, watched: None })));
    (ReplyTo { slot: Some(slot.clone()), watched: None }, Reply(slot))
}

/// Both ends, of a command that is watched if the caller is.
pub fn channel_of_caller<T>() -> (ReplyTo<T>, Reply<T>) {
    let (mut to, reply) = channel();
    to.watched = Watched::current();
    (to, reply)
}

impl<T> ReplyTo<T> {
    /// The command is begun with; gives who watches it.
    pub fn begin(&mut self) -> Option<Arc<dyn Watch>> {
        self.watched.as_mut().map(|watched| watched.begin())
    }

    /// The command is decided, and `appends` tells whether anything came of it; its answer may be left later.
    pub fn decided(&mut self, appends: bool) {
        if let Some(watched) = &mut self.watched {
            watched.decided(appends);
        }
    }

    /// Events were appended by the command that brings its answer.
    pub fn appended(&mut self, first: Lsn, last: Lsn) {
        if let Some(watched) = &mut self.watched {
            watched.appended(first, last);
        }
    }
}

impl<T: Send + 'static> ReplyTo<T> {
    /// Leaves the answer; the effect lets it out.
    pub fn leave(mut self, answer: T) -> Option<Effect> {
        let slot = self.slot.take()?;
        {
            let mut state = slot.0.lock();
            state.answer = Some(answer);
            state.watched = self.watched.take();
        }
        Some(Effect::of(slot))
    }
}

impl<T> Drop for ReplyTo<T> {
    fn drop(&mut self) {
        if let Some(watched) = self.watched.take() {
            watched.end(false);
        }
        if let Some(slot) = self.slot.take() {
            slot.let_out(false);
        }
    }
}

impl<T> Slot<T> {
    fn let_out(&self, durable: bool) {
        let (waker, watched) = {
            let mut state = self.0.lock();
            state.out = true;
            (state.waker.take(), state.watched.take())
        };
        if let Some(watched) = watched {
            watched.end(durable);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Send> Held for Slot<T> {
    fn durable(&self) {
        self.let_out(true);
    }

    fn lost(&self) {
        let answer = self.0.lock().answer.take();
        drop(answer);
        self.let_out(false);
    }
}

#[cfg(any(test, feature = "testing"))]
impl<T> Reply<T> {
    /// What is known by now: nothing yet, or the answer, or that there will be none.
    pub fn try_recv(&self) -> Poll<Option<T>> {
        let mut state = self.0.0.lock();
        if state.out { Poll::Ready(state.answer.take()) } else { Poll::Pending }
    }
}

impl<T> Future for Reply<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.0.lock();
        if state.out {
            return Poll::Ready(state.answer.take());
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the caller sees, and how often they were woken for it.
    fn poll(reply: &mut Reply<u8>) -> Poll<Option<u8>> {
        Pin::new(reply).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_is_out_with_its_effect_and_not_before() {
        let (to, mut reply) = channel();
        assert_eq!(poll(&mut reply), Poll::Pending);
        let effect = to.leave(7).unwrap();
        assert_eq!(poll(&mut reply), Poll::Pending, "it is left, and not durable");
        effect.run();
        assert_eq!(poll(&mut reply), Poll::Ready(Some(7)));
    }

    #[test]
    fn an_answer_whose_effect_is_dropped_is_lost() {
        let (to, mut reply) = channel();
        drop(to.leave(7));
        assert_eq!(poll(&mut reply), Poll::Ready(None));
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<(bool, bool)>>);

    impl Watch for Heard {
        fn appended(&self, _first: Lsn, _last: Lsn) {}

        fn ended(&self, step: crate::watch::Step) {
            self.0.lock().push((step.appends, step.durable));
        }
    }

    #[tokio::test]
    async fn who_watches_hears_what_becomes_of_an_answer() {
        let heard = Arc::new(Heard::default());
        let ends = |end: fn(ReplyTo<u8>)| {
            let heard = heard.clone();
            async move {
                let (to, _reply) = crate::watch::watched(heard.clone(), async { channel_of_caller() }).await;
                end(to);
                std::mem::take(&mut *heard.0.lock())
            }
        };
        fn begun(mut to: ReplyTo<u8>, appends: bool) -> ReplyTo<u8> {
            assert!(to.begin().is_some());
            to.decided(appends);
            to
        }
        assert_eq!(ends(drop).await, [], "nobody has begun with it");
        assert_eq!(ends(|to| begun(to, true).leave(7).unwrap().run()).await, [(true, true)]);
        assert_eq!(ends(|to| begun(to, false).leave(7).unwrap().run()).await, [(false, true)]);
        assert_eq!(ends(|to| drop(begun(to, true).leave(7))).await, [(true, false)], "it is lost");
        assert_eq!(ends(|to| drop(begun(to, true))).await, [(true, false)], "another one was to bring it");
        let (mut to, _reply) = channel::<u8>();
        assert!(to.begin().is_none(), "nobody watches what comes from inside");
    }

    #[test]
    fn who_is_not_answered_is_let_go() {
        let (to, mut reply) = channel();
        assert_eq!(poll(&mut reply), Poll::Pending);
        drop(to);
        assert_eq!(poll(&mut reply), Poll::Ready(None));
    }
}
