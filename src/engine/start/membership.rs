//! How a node of a cluster and the others are, for whoever wants to know.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::{Epoch, NodeName, Sequence};
use crate::domain::Lsn;
use crate::engine::calls::OwnerId;

/// After how long without news a node does not say any more that it knows how things are.
const NEWS_OLD: Duration = Duration::from_secs(5);

/// A node of a cluster, as those see it who do not drive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// This node.
    pub node: NodeName,
    /// Whose epoch it is, if anybody's.
    pub owner: Option<NodeName>,
    /// Whether that is this node, in a term that takes calls.
    pub owns: bool,
    /// The present epoch.
    pub epoch: Epoch,
    /// The last message of the stream that was read.
    pub sequence: Sequence,
    /// How many messages of the stream are known that were not read yet.
    pub lag: u64,
    /// When there was news of the owner, or a message.
    pub news: Instant,
    /// Whether the way to the stream is open.
    pub connected: bool,
    /// When a message of the stream was read last. An owner reads what it writes.
    pub moved: Instant,
    /// Terms that this node began.
    pub terms: u64,
    /// What the other nodes said last.
    pub peers: BTreeMap<String, Seen>,
    /// Other nodes of the cluster, heard of by this process or not: the log forgets nothing that one of them has not
    /// synced, up to this message.
    pub known: BTreeMap<String, Sequence>,
    /// Bytes that the log has, as the owner was told last; 0 of a node that does not own it.
    pub log_bytes: u64,
    /// Another node whose journal differs from this one's, which most have as it is there.
    pub contradicted_by: Option<String>,
}

/// Another node, as it was heard of last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The lsn of its last event.
    pub lsn: Lsn,
    /// The last message of the stream that it had read.
    pub sequence: Sequence,
    /// Whether it owned.
    pub owns: bool,
    /// Whether it could own.
    pub ready: bool,
    /// When it was heard of.
    pub at: Instant,
}

impl Membership {
    /// What this node is as the owner, if it is that.
    pub(super) fn as_owner(&self) -> Option<OwnerId> {
        self.owns.then(|| OwnerId { node: self.node.to_string(), epoch: self.epoch.0 })
    }

    /// Whether it has had no news for so long that what it shows may be what others know better.
    #[must_use]
    pub fn is_out_of_touch(&self) -> bool {
        let heard = if self.owns { self.moved } else { self.news };
        heard.elapsed() > NEWS_OLD || self.stands_still()
    }

    /// Whether it has not read for so long what the log has: who has no room for it hears all the while that the owner lives.
    fn stands_still(&self) -> bool {
        self.lag > 0 && self.moved.elapsed() > NEWS_OLD
    }

    /// Whether it knows how things are, and who decides.
    #[must_use]
    pub fn obstacle(&self) -> Option<&'static str> {
        match () {
            () if self.owner.is_none() => Some("nobody owns the log yet"),
            () if self.contradicted_by.is_some() => Some("this node's journal is another than that of most others"),
            () if !self.connected => Some("there is no connection to the log"),
            () if self.owns && self.is_out_of_touch() => Some("the log takes nothing"),
            () if !self.owns && self.news.elapsed() > NEWS_OLD => Some("there is no news of the owner of the log"),
            () if self.stands_still() => Some("the log has more than this node reads"),
            () => None,
        }
    }
}

/// Who was named to own after an epoch. Of another epoch nothing was said: whoever owns then is not to go on hearing of it.
#[derive(Default)]
pub(super) struct Heir(pub(super) Option<(Epoch, String)>);

impl Heir {
    /// Whom others are told, once everything up to this epoch was read.
    pub(super) fn after(&self, epoch: Epoch) -> Option<String> {
        self.0.as_ref().filter(|(of, _)| *of == epoch).map(|(_, node)| node.clone())
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_no_further_is_out_of_touch_though_the_owner_lives() {
        let now = Instant::now();
        let seconds_ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let follower = |news, moved, lag| Membership {
            node: NodeName::new("ben").unwrap(),
            owner: NodeName::new("ada"),
            owns: false,
            epoch: Epoch(1),
            sequence: Sequence(10),
            lag,
            news: seconds_ago(news),
            connected: true,
            moved: seconds_ago(moved),
            terms: 0,
            peers: BTreeMap::new(),
            known: BTreeMap::new(),
            log_bytes: 0,
            contradicted_by: None,
        };
        for (news, moved, lag, expected) in [
            (0, 0, 0, None),
            (0, 0, 99, None),
            (0, 6, 0, None),
            (0, 6, 1, Some("the log has more than this node reads")),
            (6, 6, 1, Some("there is no news of the owner of the log")),
            (6, 6, 0, Some("there is no news of the owner of the log")),
        ] {
            let is = follower(news, moved, lag);
            assert_eq!((is.obstacle(), is.is_out_of_touch()), (expected, expected.is_some()), "{news} {moved} {lag}");
        }
    }

    #[test]
    fn an_heir_is_one_of_an_epoch() {
        let heir = Heir(Some((Epoch(3), "eva".into())));
        assert_eq!(heir.after(Epoch(3)).as_deref(), Some("eva"));
        // Also if it is this node that owns again.
        assert_eq!(heir.after(Epoch(4)), None);
        assert!(!heir.is_nobody() && Heir::default().is_nobody());
    }
}
