//! What nodes tell each other now and then, and who should own when nobody seems to. None of it decides anything: two who
//! want to own at the same time are one owner and one who lost.

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};

use super::{Epoch, Fence, Known, NodeName, Sequence, State};
use crate::domain::Timestamp;

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Beat {
    /// Whose.
    #[n(0)]
    pub node: String,
    /// Of which process.
    #[n(1)]
    pub life: u64,
    /// The epoch that it knows.
    #[n(2)]
    pub epoch: u64,
    /// Whether it owns that.
    #[n(3)]
    pub owns: bool,
    /// How far it has read.
    #[n(4)]
    pub sequence: u64,
    /// The lsn of the next event, in its journal.
    #[n(5)]
    pub next_lsn: u64,
    /// How far it has read down to its own disk.
    #[n(6)]
    pub synced: u64,
    /// What its wall clock shows, in milliseconds.
    #[n(7)]
    pub wall_millis: u64,
    /// Whether it could own.
    #[n(8)]
    pub ready: bool,
    /// Who should own now, as the owner goes.
    #[n(9)]
    pub successor: Option<String>,
    /// The CRC of the last frame of its journal.
    #[n(10)]
    pub crc: u32,
    /// What each node that it knows of had on its own disk when that was last heard of.
    #[n(11)]
    pub known: BTreeMap<String, u64>,
    /// The epoch of the owner whose list that was.
    #[n(12)]
    pub known_of: u64,
    /// The highest format that it reads.
    #[n(13)]
    pub reads: u32,
    /// The format in which the log is written, as it knows.
    #[n(14)]
    pub writes: u32,
}

impl Beat {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Writing to memory cannot fail.
        minicbor::to_vec(self).unwrap_or_default()
    }

    /// Reads one; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

/// How long to wait for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Between two signs of life.
    pub beat: Duration,
    /// Without news of an owner before somebody else wants to own.
    pub suspect_after: Duration,
    /// For a candidate to have read up to his fence.
    pub read_up_to: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self { beat: millis(500), suspect_after: millis(2_000), read_up_to: millis(5_000) }
    }
}

/// From how far off the median of all clocks an owner hands over.
const OWNER_OFF_MS: u64 = 500;
/// From how far off a node does not own while another can.
const CANDIDATE_OFF_MS: u64 = 1_000;
/// Names of other nodes that are kept, living or gone.
const KNOWN_MAX: usize = 64;
/// How many signs of life may be lost before a node counts as gone.
const BEATS_LOST: u32 = 4;

/// A peer, as it was heard of last.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What it said.
    pub beat: Beat,
    /// When, on this node's monotonic clock.
    pub heard: Duration,
    /// How far its clock is ahead of this node's, in milliseconds.
    pub ahead_ms: i64,
}

/// All other nodes, as far as they were heard of. Times are since any moment, but always the same one.
#[derive(Debug)]
pub struct Peers {
    me: Fence,
    patience: Patience,
    /// Those that this process has heard of: all of them are known.
    peers: BTreeMap<String, Peer>,
    /// All other nodes of the cluster, whoever has heard of them.
    known: Known,
    /// When the owner was heard of last.
    news: Duration,
    /// When this node wanted to own last.
    tried: Duration,
    /// The epoch whose owner has named this node as the next one.
    called: Option<Epoch>,
}

impl Peers {
    /// Of the process `me`, which remembers these from before.
    #[must_use]
    pub fn new(me: Fence, patience: Patience, now: Duration, mut known: Known) -> Self {
        known.synced.remove(&me.node.to_string());
        Self { me, patience, peers: BTreeMap::new(), known, news: now, tried: now, called: None }
    }

    /// A peer gave a sign of life.
    pub fn hear(&mut self, now: Duration, wall: Timestamp, beat: Beat, state: &State) {
        if NodeName::new(&beat.node).is_none() || beat.node == self.me.node.to_string() {
            return;
        }
        let is_owner = |owner: &Fence| owner.node.to_string() == beat.node && owner.life == beat.life;
        if state.owner.as_ref().is_some_and(is_owner) {
            let owns = beat.owns && beat.epoch == state.epoch.0;
            if owns {
                self.news = now;
                self.take_over(now, state.epoch, &beat.known);
            }
            // Also of one who has put his fence, and does not come to read so far.
            if beat.successor.as_deref() == Some(&self.me.node.to_string()) {
                self.called = Some(state.epoch);
            }
        }
        if beat.known_of > self.known.of.0 {
            // An owner has heard of some of whom this node has not.
            for (name, synced) in beat.known.iter().filter(|(name, _)| **name != self.me.node.to_string()) {
                self.known.synced.entry(name.clone()).or_insert(*synced);
            }
        }
        let ahead_ms = beat.wall_millis.cast_signed().wrapping_sub(wall.as_millis().cast_signed());
        self.known.synced.insert(beat.node.clone(), beat.synced);
        self.peers.insert(beat.node.clone(), Peer { beat, heard: now, ahead_ms });
        while self.known.synced.len() > KNOWN_MAX {
            // Where each process has a name of its own, they would be ever more, and hold all of the log.
            let heard = |name: &str| self.peers.get(name).map(|peer| peer.heard);
            let longest = self.known.synced.iter().min_by_key(|(name, synced)| (heard(name), **synced));
            let Some(name) = longest.map(|(name, _)| name.clone()) else { break };
            self.drop(&name);
        }
    }

    /// What the owner of `epoch` knows is what all know, and nobody else: so are those forgotten whom he has forgotten.
    fn take_over(&mut self, now: Duration, epoch: Epoch, known: &BTreeMap<String, u64>) {
        let living: Vec<_> = self.living(now).map(|peer| (peer.beat.node.clone(), peer.beat.synced)).collect();
        self.known = Known { of: epoch, synced: known.clone() };
        self.known.synced.extend(living);
        self.known.synced.remove(&self.me.node.to_string());
        let Self { peers, known, .. } = self;
        peers.retain(|name, _| known.synced.contains_key(name));
    }

    /// What is known of all other nodes, to be remembered.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// What this node tells the others about that: all nodes, itself among them.
    #[must_use]
    pub fn known_to_all(&self, own: Sequence) -> BTreeMap<String, u64> {
        let mut all = self.known.synced.clone();
        all.insert(self.me.node.to_string(), own.0);
        all
    }

    /// Forgets a node that is gone for good, as the owner of `epoch`.
    ///
    /// # Errors
    /// It lives, or nobody knows it.
    pub fn forget(&mut self, now: Duration, epoch: Epoch, node: &str) -> Result<(), &'static str> {
        if node == self.me.node.to_string() || self.living(now).any(|peer| peer.beat.node == node) {
            return Err("it lives: stop it first");
        }
        if !self.known.synced.contains_key(node) {
            return Err("no node of this name is known");
        }
        self.drop(node);
        // What others have heard before is not heard any more.
        self.known.of = epoch;
        Ok(())
    }

    fn drop(&mut self, node: &str) {
        self.known.synced.remove(node);
        self.peers.remove(node);
    }

    /// Something of the owner was read.
    pub fn has_news(&mut self, now: Duration) {
        self.news = now;
    }

    /// This node wants to own: should it not come to that, it waits as long again.
    pub fn tries(&mut self, now: Duration) {
        (self.tried, self.called) = (now, None);
    }

    /// When the owner was heard of last.
    #[must_use]
    pub fn news(&self) -> Duration {
        self.news
    }

    /// Those that live, as far as can be known.
    pub fn living(&self, now: Duration) -> impl Iterator<Item = &Peer> {
        let most = self.patience.suspect_after.max(self.patience.beat * BEATS_LOST);
        self.peers.values().filter(move |peer| now.saturating_sub(peer.heard) <= most)
    }

    /// All that were heard of by this process, but those that went long ago where there are many.
    pub fn all(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Whether this node should want to own now.
    #[must_use]
    pub fn should_own(&self, now: Duration, state: &State) -> bool {
        if self.called == Some(state.epoch) {
            return true;
        }
        // Nobody owned yet: only who is there has to be waited for.
        let first = if state.owner.is_none() { self.patience.beat * 2 } else { self.patience.suspect_after };
        let wait = first + self.patience.beat * self.rank(now, state);
        now.saturating_sub(self.news.max(self.tried)) > wait
    }

    /// How many should own rather than this node: those who could and are well on time, whose chain is longer, whose
    /// name is less.
    fn rank(&self, now: Duration, state: &State) -> u32 {
        let key = |is_off: bool, chain: (u64, u64), node: &str| (is_off, std::cmp::Reverse(chain), node.to_owned());
        let median = self.median_ahead(now);
        let is_off = |ahead: i64| ahead.abs_diff(median) > CANDIDATE_OFF_MS;
        let own_chain = (state.tip.next_lsn.0, state.last_sequence.0);
        let own = key(is_off(0), own_chain, &self.me.node.to_string());
        let others = self.living(now).filter(|peer| peer.beat.ready && !self.is_owner(peer, state));
        let chain = |peer: &Peer| (peer.beat.next_lsn, peer.beat.sequence);
        others.filter(|peer| key(is_off(peer.ahead_ms), chain(peer), &peer.beat.node) < own).count() as u32
    }

    /// A living node whose journal is another than this one's after the same message of the log, unless more have the
    /// same as this one: then it is not this one's that is wrong.
    #[must_use]
    pub fn contradicted_by(&self, now: Duration, state: &State) -> Option<String> {
        // Before its first message of the log a node may have any journal.
        let read = Some(state.last_sequence.0).filter(|read| *read > 0);
        let there = self.living(now).filter(|peer| Some(peer.beat.sequence) == read);
        let is_same = |peer: &&Peer| (peer.beat.next_lsn, peer.beat.crc) == (state.tip.next_lsn.0, state.tip.crc);
        let (same, other): (Vec<_>, Vec<_>) = there.partition(is_same);
        other.first().filter(|_| other.len() > same.len()).map(|peer| peer.beat.node.clone())
    }

    /// Known nodes that cannot read `format`, or do not live to be asked.
    #[must_use]
    pub fn who_cannot_read(&self, now: Duration, format: u32) -> Vec<String> {
        let can = |name: &String| self.living(now).any(|peer| peer.beat.node == *name && peer.beat.reads >= format);
        self.known.synced.keys().filter(|name| !can(name)).cloned().collect()
    }

    /// The lowest format of what those that live read.
    #[must_use]
    pub fn read_by_all(&self, now: Duration, own: u32) -> u32 {
        self.living(now).map(|peer| peer.beat.reads).fold(own, u32::min)
    }

    /// The highest format of what those that live read.
    #[must_use]
    pub fn read_by_any(&self, now: Duration, own: u32) -> u32 {
        self.living(now).map(|peer| peer.beat.reads).fold(own, u32::max)
    }

    /// How far those that live have read the log, at the most.
    #[must_use]
    pub fn furthest(&self, now: Duration) -> Sequence {
        Sequence(self.living(now).map(|peer| peer.beat.sequence).max().unwrap_or_default())
    }

    fn is_owner(&self, peer: &Peer, state: &State) -> bool {
        state.owner.as_ref().is_some_and(|owner| owner.node.to_string() == peer.beat.node)
    }

    /// The one who should own after this node: who could, whose clock is not off, and who has read furthest.
    #[must_use]
    pub fn successor(&self, now: Duration) -> Option<String> {
        let able = self.living(now).filter(|peer| peer.beat.ready && !peer.beat.owns);
        let median = self.median_ahead(now);
        let is_on_time = |peer: &Peer| peer.ahead_ms.abs_diff(median) <= OWNER_OFF_MS;
        let chain = |peer: &Peer| (peer.beat.next_lsn, peer.beat.sequence);
        let key = |peer: &Peer| (is_on_time(peer), chain(peer), std::cmp::Reverse(peer.beat.node.clone()));
        let best = able.max_by_key(|peer| key(peer));
        best.map(|peer| peer.beat.node.clone())
    }

    /// Whether this node's clock is so far off the others' that another one should own.
    #[must_use]
    pub fn is_off(&self, now: Duration) -> bool {
        // Of two nobody can say whose is off.
        self.living(now).count() >= 2 && self.median_ahead(now).unsigned_abs() > OWNER_OFF_MS
    }

    /// How far the median of all clocks is ahead of this node's, in milliseconds.
    fn median_ahead(&self, now: Duration) -> i64 {
        let mut ahead: Vec<_> = self.living(now).map(|peer| peer.ahead_ms).chain([0]).collect();
        ahead.sort_unstable();
        ahead[ahead.len() / 2]
    }

    /// The lowest sequence that a node is known to have synced, with this one's; `None` unless at least one other is
    /// known.
    #[must_use]
    pub fn synced_by_all(&self, own: Sequence) -> Option<Sequence> {
        let others = self.known.synced.values().copied().min()?;
        Some(Sequence(others.min(own.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{FORMAT, Reader};
    use crate::store::journal::Tip;

    const fn secs(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn fence(node: &str) -> Fence {
        Fence { node: NodeName::new(node).unwrap(), life: 7, format: FORMAT }
    }

    fn state(owner: Option<&str>, sequence: u64) -> State {
        let state = Reader::join(1, Tip::default()).state().clone();
        State { epoch: Epoch(3), owner: owner.map(fence), last_sequence: Sequence(sequence), ..state }
    }

    fn beat(node: &str, sequence: u64) -> Beat {
        Beat {
            node: node.into(),
            life: 7,
            epoch: 3,
            owns: false,
            sequence,
            next_lsn: 1,
            synced: 0,
            wall_millis: 1_000_000,
            ready: true,
            ..Beat::default()
        }
    }

    const WALL: Timestamp = Timestamp::from_millis(1_000_000);

    fn peers(me: &str) -> Peers {
        Peers::new(fence(me), Patience::default(), Duration::ZERO, Known::default())
    }

    #[test]
    fn beats_are_read_as_they_were_written() {
        let one = Beat { successor: Some("eva".into()), ..beat("ada", 5) };
        assert_eq!(Beat::decode(&one.encode()), Some(one));
        assert_eq!(Beat::decode(b"nothing"), None);
    }

    #[test]
    fn an_owner_who_is_heard_of_is_left_alone_and_the_first_in_rank_comes_first() {
        let known = state(Some("ada"), 10);
        let [mut ben, mut eva] = ["ben", "eva"].map(peers);
        for now in [500, 1_000] {
            let owner = Beat { owns: true, ..beat("ada", 10) };
            ben.hear(secs(now), WALL, owner.clone(), &known);
            eva.hear(secs(now), WALL, owner, &known);
            ben.hear(secs(now), WALL, beat("eva", 10), &known);
            eva.hear(secs(now), WALL, beat("ben", 10), &known);
        }
        assert!(!ben.should_own(secs(3_000), &known) && ben.should_own(secs(3_001), &known));
        eva.hear(secs(3_000), WALL, beat("ben", 10), &known);
        assert!(!eva.should_own(secs(3_500), &known), "ben comes first: his name is less");
        assert!(eva.should_own(secs(3_501), &known), "but he may be gone too");
        // Who has read further comes first, whatever his name.
        eva.hear(secs(3_001), WALL, beat("ben", 9), &known);
        assert!(eva.should_own(secs(3_001), &known));
        // A sign of life of an owner of another epoch, or of another process, is none.
        let [old, other] =
            [Beat { epoch: 2, owns: true, ..beat("ada", 10) }, Beat { life: 8, owns: true, ..beat("ada", 10) }];
        for strange in [old, other] {
            ben.hear(secs(3_000), WALL, strange, &known);
            assert!(ben.should_own(secs(3_001), &known));
        }
        ben.has_news(secs(3_000));
        assert!(!ben.should_own(secs(5_000), &known));
    }

    #[test]
    fn who_is_named_by_the_owner_comes_at_once_and_only_for_that_epoch() {
        let known = state(Some("ada"), 10);
        let mut ben = peers("ben");
        ben.hear(secs(10), WALL, Beat { owns: true, successor: Some("ben".into()), ..beat("ada", 10) }, &known);
        assert!(ben.should_own(secs(10), &known));
        let next = State { epoch: Epoch(11), owner: Some(fence("eva")), ..known };
        assert!(!ben.should_own(secs(10), &next));
        let mut ada = peers("ada");
        ada.hear(secs(5), WALL, beat("eva", 12), &next);
        ada.hear(secs(5), WALL, beat("ben", 11), &next);
        ada.hear(secs(5), WALL, Beat { ready: false, ..beat("ida", 20) }, &next);
        assert_eq!(ada.successor(secs(5)).as_deref(), Some("eva"));
        assert_eq!(ada.successor(secs(60_000)), None, "nobody lives");
    }

    #[test]
    fn a_clock_that_is_off_is_found_out_among_three() {
        let known = state(Some("ada"), 10);
        let mut ada = peers("ada");
        let ahead = |node: &str| Beat { wall_millis: 1_000_600, ..beat(node, 10) };
        ada.hear(secs(1), WALL, ahead("ben"), &known);
        assert!(!ada.is_off(secs(1)), "of two nobody can say");
        ada.hear(secs(1), WALL, ahead("eva"), &known);
        assert!(ada.is_off(secs(1)));
        ada.hear(secs(2), WALL, beat("eva", 10), &known);
        assert!(!ada.is_off(secs(2)));
    }

    #[test]
    fn an_owner_whose_clock_is_off_names_somebody_whose_clock_is_not() {
        let known = state(Some("ada"), 10);
        let mut ada = peers("ada");
        let with_clock =
            |node: &str, sequence: u64, ahead: u64| Beat { wall_millis: 1_000_000 + ahead, ..beat(node, sequence) };
        // Two clocks show about the same, and whoever has read furthest is as far off as the owner, to the other side.
        for beat in [with_clock("ben", 10, 900), with_clock("eva", 10, 950), with_clock("ida", 12, 1_900)] {
            ada.hear(secs(1), WALL, beat, &known);
        }
        assert!(ada.is_off(secs(1)));
        assert_eq!(ada.successor(secs(1)).as_deref(), Some("ben"));
        // Better one whose clock is off than none.
        let mut ada = peers("ada");
        ada.hear(secs(1), WALL, with_clock("ida", 12, 5_000), &known);
        assert_eq!(ada.successor(secs(1)).as_deref(), Some("ida"));
    }

    #[test]
    fn of_nodes_that_come_and_go_those_are_forgotten_that_went_long_ago() {
        let known = state(Some("ada"), 10);
        let mut ada = peers("ada");
        for n in 0..10_000 {
            ada.hear(secs(n), WALL, Beat { synced: n, ..beat(&format!("pod-{n}"), 10) }, &known);
            ada.hear(secs(n), WALL, Beat { synced: 10_000, ..beat("ben", 10) }, &known);
        }
        let names: Vec<_> = ada.all().map(|peer| peer.beat.node.as_str()).collect();
        assert!((8..=1_000).contains(&names.len()), "{}", names.len());
        assert!(names.contains(&"ben") && names.contains(&"pod-9999"), "{names:?}");
        assert!(ada.synced_by_all(Sequence(10_000)) > Some(Sequence(9_000)), "the log can be purged again");
    }

    #[test]
    fn the_longer_chain_goes_first_whatever_was_read_beside_it() {
        let known = state(Some("ada"), 10);
        let mut ben = peers("ben");
        let tip = Tip { next_lsn: crate::domain::Lsn(5), ..known.tip };
        let known = State { tip, ..known };
        ben.hear(secs(1), WALL, Beat { next_lsn: 5, ..beat("ada", 10) }, &known);
        ben.hear(secs(1), WALL, Beat { next_lsn: 6, ..beat("eva", 9) }, &known);
        assert!(!ben.should_own(secs(2_001), &known), "eva's is longer");
        assert!(ben.should_own(secs(2_501), &known), "but she may be gone");
        ben.hear(secs(2), WALL, Beat { next_lsn: 9, ..beat("ida", 12) }, &known);
        ben.hear(secs(2), WALL, Beat { next_lsn: 8, ..beat("eva", 14) }, &known);
        assert_eq!(ben.successor(secs(3)).as_deref(), Some("ida"));
    }

    #[test]
    fn who_has_another_journal_than_most_who_have_read_as_far_is_told() {
        let known = state(Some("ada"), 10);
        let mut ben = peers("ben");
        let (same, other) = (known.tip.crc, known.tip.crc ^ 1);
        let with = |node: &str, sequence: u64, crc: u32| Beat { crc, ..beat(node, sequence) };
        for (beat, expected) in [
            (with("eva", 9, other), None),
            (with("eva", 10, other), Some("eva")),
            (with("ida", 10, same), None),
            (with("ada", 10, other), Some("ada")),
        ] {
            ben.hear(secs(1), WALL, beat, &known);
            assert_eq!(ben.contradicted_by(secs(1), &known).as_deref(), expected);
        }
        assert_eq!(ben.contradicted_by(secs(60_000), &known), None, "nobody lives");
    }

    #[test]
    fn who_does_not_come_to_read_up_to_his_fence_names_another() {
        // Eva has put the fence that all others have read.
        let known = state(Some("eva"), 10);
        let mut ben = peers("ben");
        let late = Beat { epoch: 2, owns: false, successor: Some("ben".into()), ..beat("eva", 8) };
        ben.hear(secs(1), WALL, Beat { life: 8, ..late.clone() }, &known);
        assert!(!ben.should_own(secs(1), &known), "that is another process");
        ben.hear(secs(1), WALL, late, &known);
        assert!(ben.should_own(secs(1), &known));
    }

    #[test]
    fn who_is_forgotten_by_the_owner_is_forgotten_by_all_and_who_lives_is_not() {
        let known = state(Some("ada"), 10);
        let [mut ada, mut ben] = ["ada", "ben"].map(peers);
        for peers in [&mut ada, &mut ben] {
            peers.hear(secs(1), WALL, Beat { synced: 3, ..beat("eva", 3) }, &known);
        }
        ada.hear(secs(9_000), WALL, Beat { synced: 9, ..beat("ben", 9) }, &known);
        assert_eq!(ada.forget(secs(9_000), Epoch(3), "ben"), Err("it lives: stop it first"));
        assert_eq!(ada.synced_by_all(Sequence(9)), Some(Sequence(3)));
        assert_eq!(ada.forget(secs(9_000), Epoch(3), "eva"), Ok(()));
        assert!(ada.forget(secs(9_000), Epoch(3), "eva").is_err());
        assert_eq!(ada.synced_by_all(Sequence(9)), Some(Sequence(9)));
        // What others had from owners before does not bring it back.
        let synced = [("eva".to_owned(), 3)].into();
        ada.hear(secs(9_001), WALL, Beat { synced: 9, known: synced, known_of: 3, ..beat("ben", 9) }, &known);
        assert_eq!(ada.synced_by_all(Sequence(9)), Some(Sequence(9)));
        let list = Beat { owns: true, known: ada.known_to_all(Sequence(9)), known_of: 3, synced: 9, ..beat("ada", 9) };
        ben.hear(secs(9_001), WALL, list, &known);
        assert_eq!(ben.known().synced.keys().collect::<Vec<_>>(), ["ada"]);
    }

    /// What happens, to whom, and with whom.
    fn steps() -> impl proptest::strategy::Strategy<Value = Vec<(u8, usize, usize)>> {
        proptest::collection::vec((0..6_u8, 0..4_usize, 0..4_usize), 1..80)
    }

    proptest::proptest! {
        /// Nodes go and come back with what they had written down, and own in turn: nobody ever lets the log forget
        /// what one of them has not on its disk.
        #[test]
        fn nothing_is_purged_that_any_node_lacks(steps in steps()) {
            prop_never_purged(&steps, |known| known.clone())?;
        }
    }

    #[test]
    fn the_test_notices_what_is_not_remembered() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let outcome = runner.run(&steps(), |steps| prop_never_purged(&steps, |_| Known::default()));
        assert!(outcome.is_err(), "a node that forgets at its start is noticed");
    }

    fn prop_never_purged(
        steps: &[(u8, usize, usize)],
        written: impl Fn(&Known) -> Known,
    ) -> Result<(), proptest::test_runner::TestCaseError> {
        const NAMES: [&str; 4] = ["ada", "ben", "eva", "ida"];
        let (mut synced, mut up, mut owner, mut now) = ([0_u64; 4], [true; 4], 0, secs(0));
        let mut all = NAMES.map(peers);
        let mut known = State { epoch: Epoch(1), ..state(Some("ada"), 10) };
        let tell =
            |all: &mut [Peers; 4], from: usize, to: usize, owner: usize, synced: &[u64; 4], now, known: &State| {
                let list = all[from].known_to_all(Sequence(synced[from]));
                let of = if from == owner { known.epoch } else { all[from].known().of };
                let beat = Beat {
                    epoch: known.epoch.0,
                    owns: from == owner,
                    synced: synced[from],
                    known: list,
                    known_of: of.0,
                    ..beat(NAMES[from], 10)
                };
                all[to].hear(now, WALL, beat, known);
            };
        for from in 0..4 {
            for to in (0..4).filter(|to| *to != from) {
                tell(&mut all, from, to, owner, &synced, now, &known);
            }
        }
        for &(what, one, other) in steps {
            now += secs(3_000);
            match what {
                0 if up[one] => synced[one] += 1 + other as u64,
                1 => up[one] = false,
                2 if !up[one] => {
                    up[one] = true;
                    all[one] = Peers::new(fence(NAMES[one]), Patience::default(), now, written(all[one].known()));
                }
                3 if up[one] => {
                    owner = one;
                    known = State { epoch: Epoch(known.epoch.0 + 1), owner: Some(fence(NAMES[one])), ..known };
                }
                _ if one != other && up[one] && up[other] => {
                    tell(&mut all, one, other, owner, &synced, now, &known);
                }
                _ => {}
            }
            let least = synced.iter().min().copied().unwrap_or_default();
            if let (true, Some(below)) = (up[owner], all[owner].synced_by_all(Sequence(synced[owner]))) {
                proptest::prop_assert!(below.0 <= least, "{below} is purged, and {synced:?} is synced");
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_is_purged_that_somebody_has_not_synced() {
        let known = state(Some("ada"), 10);
        let mut ada = peers("ada");
        assert_eq!(ada.synced_by_all(Sequence(9)), None, "one copy is none");
        ada.hear(secs(1), WALL, Beat { synced: 4, ..beat("ben", 10) }, &known);
        assert_eq!(ada.synced_by_all(Sequence(9)), Some(Sequence(4)));
        ada.hear(secs(1), WALL, Beat { synced: 12, ..beat("eva", 12) }, &known);
        assert_eq!(ada.synced_by_all(Sequence(3)), Some(Sequence(3)));
    }
}
