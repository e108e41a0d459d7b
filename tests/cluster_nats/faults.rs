//! Servers that are killed and stopped under those who read and append.

use std::time::{Duration, Instant};

use boxoffice::cluster::{Heard, Link as _, Message};

use crate::node::{Node, PATIENCE, mark};
use crate::servers::{Servers, eventually};

/// Reads up to `end`, without a gap, and says how long that took.
fn read_up_to(node: &Node, from: u64, end: u64) -> Duration {
    let begun = Instant::now();
    for expected in from..=end {
        let (sequence, wire) = node.read();
        assert_eq!(sequence, expected);
        Message::decode(&wire).unwrap();
    }
    begun.elapsed()
}

/// The server that a node is connected to.
fn server_of(servers: &Servers, name: &str) -> Option<usize> {
    (0..3).find(|&index| {
        let connections = servers.connections(index).unwrap_or_default();
        connections.contains(&format!("\"name\": \"boxoffice {name}\""))
    })
}

#[test]
fn reading_and_appending_go_on_whichever_server_is_lost() {
    let mut servers = Servers::start(3);
    let mut writer = Node::connect(servers.config("writer"), 1).unwrap();
    let reader = Node::connect(servers.config("reader"), 2).unwrap();
    reader.follow(0);
    let mut read = 0;
    let mut go_on = |writer: &mut Node, what: &str| {
        let begun = Instant::now();
        let mut end = writer.append(&mark(0)).0;
        println!("{what}: acknowledged after {:?}", begun.elapsed());
        for _ in 0..3 {
            end = writer.append(&mark(0)).0;
        }
        let took = read_up_to(&reader, read + 1, end);
        println!("{what}: read {took:?} later");
        read = end;
    };
    go_on(&mut writer, "at first");

    let lost = server_of(&servers, "reader").unwrap();
    servers.kill(lost);
    go_on(&mut writer, "the reader's server killed");
    servers.restart(lost);
    servers.wait_for_all();

    let leader = |servers: &Servers| {
        let mut leader = None;
        eventually(PATIENCE, "the stream has a leader", || {
            leader = servers.leader_of("test");
            leader.is_some()
        });
        leader.unwrap()
    };
    let lost = leader(&servers);
    servers.kill(lost);
    go_on(&mut writer, "the stream's leader killed");
    servers.restart(lost);
    servers.wait_for_all();

    // A server that stands still says nothing, and closes nothing.
    reader.forget();
    let lost = server_of(&servers, "reader").unwrap();
    servers.stop(lost);
    let begun = Instant::now();
    reader.hear("that the connection is lost", |heard| (*heard == Heard::Connected(false)).then_some(()));
    println!("the reader's server stopped: noticed after {:?}", begun.elapsed());
    reader.hear("that there is another", |heard| (*heard == Heard::Connected(true)).then_some(()));
    let took = begun.elapsed();
    println!("the reader's server stopped: another after {took:?}");
    assert!(took < Duration::from_secs(8), "a stopped server was waited for: {took:?}");
    go_on(&mut writer, "the reader's server stopped");
    servers.go_on(lost);
    servers.wait_for_all();
    go_on(&mut writer, "all again");

    // A planned change of the leader.
    let before = writer.found.created;
    writer.link.step_down();
    go_on(&mut writer, "the leader stepped down");
    drop(writer);
    let again = Node::connect(servers.config("writer"), 3).unwrap();
    assert_eq!(again.found.created, before, "through all that it is the same stream");
}
