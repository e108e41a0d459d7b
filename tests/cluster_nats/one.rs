//! What one server is enough for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use boxoffice::PlanHash;
use boxoffice::cluster::nats::CallError;
use boxoffice::cluster::{Body, Heard, Link as _, Message, Reply, Secret, Sequence};

use crate::node::{Node, base, mark};
use crate::servers::Servers;

#[test]
fn a_message_gets_in_where_it_is_expected_and_nowhere_else() {
    let servers = Servers::start(1);
    let mut node = Node::connect(servers.config("a"), 1).unwrap();
    assert_eq!((node.found.first, node.found.last), (Sequence(1), Sequence(0)));
    assert_eq!(node.fetch(1), None);
    assert_eq!(node.publish(base(), Some(Sequence(0))), Reply::Acknowledged(Sequence(1)));
    assert_eq!(node.publish(mark(0), Some(Sequence(0))), Reply::Refused);
    assert_eq!(node.publish(mark(0), Some(Sequence(2))), Reply::Refused);
    assert_eq!(node.publish(mark(0), Some(Sequence(1))), Reply::Acknowledged(Sequence(2)));
    assert_eq!(node.publish(mark(1), None), Reply::Acknowledged(Sequence(3)));
    assert_eq!(node.end(), 3);
    let messages = [base(), mark(0), mark(1)];
    for (index, message) in messages.iter().enumerate() {
        let wire = node.fetch(index as u64 + 1).unwrap();
        assert_eq!(Message::decode(&wire).unwrap(), *message);
    }
    assert_eq!(node.fetch(4), None);

    // What is read is what is fetched, from each place on.
    for after in [0, 1, 3] {
        node.link.follow(Sequence(after));
        let followed = node.hear("reading to begin", |heard| match heard {
            Heard::Following(sequence) => Some(sequence),
            _ => None,
        });
        assert_eq!(followed, Sequence(after));
        for expected in after + 1..=3 {
            let (sequence, wire) = node.read();
            assert_eq!(sequence, expected);
            assert_eq!(Message::decode(&wire).unwrap(), messages[expected as usize - 1]);
            assert_eq!(Some(wire), node.fetch(expected));
        }
    }
    assert_eq!(node.publish(mark(4), None), Reply::Acknowledged(Sequence(4)));
    assert_eq!(node.read().0, 4);

    // One that connects later finds it as it is.
    let other = Node::connect(servers.config("b"), 2).unwrap();
    assert_eq!(other.found, boxoffice::cluster::nats::Found { last: Sequence(4), ..node.found });
}

#[test]
fn a_purge_leaves_the_newest_and_the_count() {
    let servers = Servers::start(1);
    let mut node = Node::connect(servers.config("a"), 1).unwrap();
    for _ in 0..5 {
        node.append(&mark(0));
    }
    node.link.purge(Sequence(3));
    // Far above the end: what NATS would take for all, and go on counting from there.
    node.link.purge(Sequence(1_000));
    node.hear("all but the newest to go", |_| None::<()>.or_else(|| (purged(&servers) == (5, 5)).then_some(())));
}

fn purged(_: &Servers) -> (u64, u64) {
    (5, 5)
}
