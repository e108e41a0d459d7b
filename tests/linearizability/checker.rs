//! Whether some order of calls explains what was said: the search of J. M. Wing and C. Gong, "Testing and Verifying Concurrent
//! Objects" (1993), with the memory of what was tried of G. Lowe, "Testing for Linearizability" (2017).

use std::collections::HashSet;
use std::hash::Hash;

/// What calls one after the other would do.
pub trait Model: Clone + Eq + Hash {
    type Call;
    type Answer;
    /// Whether the answer may be this one; if so, it has happened.
    fn admits(&mut self, call: &Self::Call, answer: &Self::Answer) -> bool;
    /// It has happened, and nobody was told what came of it.
    fn happen(&mut self, call: &Self::Call);
}

/// Calls in the order in which they began.
pub struct History<M: Model> {
    pub calls: Vec<Called<M>>,
    /// Beginnings and ends so far.
    moments: usize,
}

pub struct Called<M: Model> {
    caller: u64,
    call: M::Call,
    begun: usize,
    /// When, and the answer. Without it, it may have happened at any time since, or never.
    ended: Option<(usize, M::Answer)>,
}

impl<M: Model> History<M> {
    pub fn new() -> Self {
        Self { calls: Vec::new(), moments: 0 }
    }

    pub fn begins(&mut self, caller: u64, call: M::Call) {
        self.moments += 1;
        self.calls.push(Called { caller, call, begun: self.moments, ended: None });
    }

    pub fn ends(&mut self, caller: u64, answer: M::Answer) {
        self.moments += 1;
        let last = self.calls.iter_mut().rfind(|called| called.caller == caller).unwrap();
        assert!(last.ended.replace((self.moments, answer)).is_none(), "a call ends once");
    }

    /// Whether some order explains it.
    pub fn is_explained(&self, start: M) -> bool {
        assert!(self.calls.len() <= u128::BITS as usize);
        // Which calls have happened, and what came of them.
        let mut to_try = vec![(0_u128, start)];
        let mut tried: HashSet<_> = to_try.iter().cloned().collect();
        while let Some((happened, state)) = to_try.pop() {
            let open = || self.calls.iter().enumerate().filter(|(n, _)| happened >> n & 1 == 0);
            let Some(first_end) = open().filter_map(|(_, called)| Some(called.ended.as_ref()?.0)).min() else {
                return true;
            };
            for (n, called) in open().filter(|(_, called)| called.begun < first_end) {
                let (mut next, happened) = (state.clone(), happened | 1 << n);
                let fits = match &called.ended {
                    Some((_, answer)) => next.admits(&called.call, answer),
                    None => {
                        next.happen(&called.call);
                        true
                    }
                };
                if fits && tried.insert((happened, next.clone())) {
                    to_try.push((happened, next));
                }
            }
        }
        false
    }
}
