//! What one server is enough for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use boxoffice::PlanHash;
use boxoffice::cluster::nats::CallError;
use boxoffice::cluster::{Body, Heard, Link as _, Message, Reply, Secret, Sequence};

use crate::node::{Node, PATIENCE, base, mark};
use crate::servers::{Servers, eventually};

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
        node.follow(after);
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
    assert_eq!(other.found, boxoffice::cluster::Found { last: Sequence(4), ..node.found });
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
    eventually(PATIENCE, "all but the newest to go", || node.fetch(4).is_none());
    assert!(node.fetch(5).is_some());
    assert_eq!(node.end(), 5);
    node.follow(0);
    assert_eq!(node.read().0, 5);
    assert_eq!(node.publish(mark(0), Some(Sequence(5))), Reply::Acknowledged(Sequence(6)));
    assert_eq!(node.read().0, 6);
    assert_eq!(Node::connect(servers.config("b"), 2).unwrap().found.first, Sequence(5));
}

/// Publishes as a stranger does who keeps to no rule.
fn publish_raw(port: u16, headers: &[u8], payload: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let total = headers.len() + payload.len();
    let command =
        format!("CONNECT {{\"verbose\": false, \"headers\": true}}\r\nHPUB test.log {} {total}\r\n", headers.len());
    stream.write_all(&[command.as_bytes(), headers, payload, b"\r\nPING\r\n"].concat()).unwrap();
    let (mut answer, mut some) = (String::new(), [0; 4096]);
    while !answer.contains("PONG") {
        let read = stream.read(&mut some).unwrap();
        assert!(read > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&some[..read]));
    }
}

#[test]
fn whatever_stands_in_the_stream_is_read_in_one_way() {
    let servers = Servers::start(1);
    let mut node = Node::connect(servers.config("a"), 1).unwrap();
    let table: &[&[u8]] = &[
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nBoxoffice-Epoch:  7 \r\nBoxoffice-Kind:mark\r\n\r\n",
        b"NATS/1.0\r\nA: 2\r\nA: 1\r\nB:\r\n\r\n",
        b"NATS/1.0\r\nA: 1\r\n 2\r\n\r\n",
        // As a consumer says that it lives, that it has nothing more, or that it is gone.
        b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
        b"NATS/1.0 408 Request Timeout\r\nA: 1\r\n\r\n",
        b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        // No client takes these.
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\r\n\r\n",
        b"NATS/1.0\r\nA b: 1\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
    ];
    for headers in table {
        publish_raw(servers.client_port(0), headers, b"x");
    }
    let count = table.len() as u64;
    eventually(PATIENCE, "all to be there", || node.end() == count);
    assert_eq!(node.append(&mark(0)), Sequence(count + 1));
    for after in [0, 1, 5] {
        node.follow(after);
        for expected in after + 1..=count + 1 {
            let (sequence, wire) = node.read();
            assert_eq!(sequence, expected);
            assert_eq!(node.fetch(sequence), Some(wire), "{sequence}");
        }
    }
}

#[test]
fn plans_are_put_once_and_got() {
    let servers = Servers::start(1);
    let node = Node::connect(servers.config("a"), 1).unwrap();
    let get = |hash| node.runtime.block_on(node.link.plan(hash));
    let put = |hash, plan: &[u8]| node.runtime.block_on(node.link.put_plan(hash, plan));
    for bytes in [0, 1, 512 << 10, (512 << 10) + 1, 3 << 20] {
        let plan: Vec<u8> = (0..bytes).map(|at: usize| ((at * at) >> 8) as u8).collect();
        let hash = PlanHash::of(&plan);
        assert_eq!(get(hash).unwrap(), None);
        put(hash, &plan).unwrap();
        put(hash, &plan).unwrap();
        assert_eq!(get(hash).unwrap().as_deref(), Some(&plan[..]));
    }
    put(PlanHash([0; 32]), b"another").unwrap_err();
    assert_eq!(get(PlanHash([0; 32])).unwrap(), None);
}

#[test]
fn a_damaged_or_half_plan_is_not_got_and_is_mended() {
    let servers = Servers::start(1);
    let node = Node::connect(servers.config("a"), 1).unwrap();
    let plan = vec![7; (512 << 10) + 1];
    let hash = PlanHash::of(&plan);
    let raw = |number: usize, chunks: &str, chunk: &[u8]| {
        node.runtime.block_on(async {
            let client = async_nats::connect(&servers.config("a").servers[0]).await.unwrap();
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Boxoffice-Chunks", chunks);
            let subject = format!("test.plans.{hash}.{number}");
            client.request_with_headers(subject, headers, chunk.to_vec().into()).await.unwrap();
        });
    };
    let get = || node.runtime.block_on(node.link.plan(hash));
    raw(0, "2", &plan[..512 << 10]);
    assert_eq!(get().unwrap(), None, "half of it");
    raw(1, "2", b"x");
    get().unwrap_err();
    for chunks in ["0", "x", "1000000000"] {
        raw(0, chunks, &plan[..512 << 10]);
        get().unwrap_err();
    }
    node.runtime.block_on(node.link.put_plan(hash, &plan)).unwrap();
    assert_eq!(get().unwrap(), Some(plan));
}

#[test]
fn calls_are_answered_or_it_is_said_whether_they_were_taken() {
    let servers = Servers::start(1);
    let config = boxoffice::cluster::ClusterConfig { calls: 2, ..servers.config("a") };
    let (a, b) = (Node::connect(config, 1).unwrap(), Node::connect(servers.config("b"), 2).unwrap());
    let ask = |subject: &str, body: &[u8], patience| {
        b.runtime.block_on(b.link.request(subject, body, Duration::from_millis(patience)))
    };
    assert_eq!(ask("echo", b"x", 5_000), Err(CallError::NobodyThere));
    let serving = async {
        let echo = |body: Vec<u8>| async move { body };
        a.link.serve("echo", echo).await.unwrap();
        a.link.serve("large", |_| async { vec![0; 2 << 20] }).await.unwrap();
        a.link.serve("never", |_| std::future::pending()).await.unwrap();
        a.link.serve("*", echo).await.unwrap_err()
    };
    assert_eq!(a.runtime.block_on(serving), CallError::NoSubject("*".into()));
    eventually(PATIENCE, "the calls to be served", || ask("never", b"", 100) != Err(CallError::NobodyThere));

    for body in [&b""[..], b"x", &vec![7; 1 << 19]] {
        assert_eq!(ask("echo", body, 5_000).as_deref(), Ok(body));
    }
    let max = b.link.max_payload();
    assert!(matches!(ask("echo", &vec![7; max], 5_000), Err(CallError::TooLarge { max: it, .. }) if it == max));
    assert_eq!(ask("large", b"", 5_000), Err(CallError::AnswerTooLarge));
    for subject in ["", "a..b", "a.*", "a b", ">", ".a", "ä"] {
        assert_eq!(ask(subject, b"", 5_000), Err(CallError::NoSubject(subject.into())));
    }
    // Two at once, and no more.
    while ask("never", b"", 100) != Err(CallError::Busy) {}

    // With another secret nobody is heard.
    let secret = Secret::new("another secret of thirty-two bytes or more");
    let stranger = Node::connect(boxoffice::cluster::ClusterConfig { secret, ..servers.config("c") }, 3).unwrap();
    let asking = stranger.link.request("echo", b"x", Duration::from_millis(500));
    assert_eq!(stranger.runtime.block_on(asking), Err(CallError::NoAnswer));
    assert_eq!(ask("echo", b"x", 5_000).as_deref(), Ok(&b"x"[..]));

    // Signs of life reach the others, and not those of strangers.
    stranger.link.beat(b"strange");
    let deaf = mpsc::channel::<()>().1;
    for _ in 0..100 {
        a.link.beat(b"from a");
        let _ = deaf.recv_timeout(Duration::from_millis(20));
        if let Ok(Heard::Beat(beat)) = b.heard.try_recv() {
            assert_eq!(beat, b"from a");
            break;
        }
    }
    assert!(!a.heard.try_iter().any(|heard| matches!(heard, Heard::Beat(_))), "its own, or a stranger's");
}

#[test]
fn two_processes_of_one_name_are_refused() {
    let servers = Servers::start(1);
    let first = Node::connect(servers.config("a.1"), 1).unwrap();
    let error = Node::connect(servers.config("a.1"), 2).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "another process of node a.1 is running: two of one name cannot be");
    // Another name is another node; and who is gone is not in the way.
    let _other = Node::connect(servers.config("a_1"), 3).unwrap();
    drop(first);
    let _again = Node::connect(servers.config("a.1"), 4).unwrap();
    // Of two that begin at once one goes on.
    let both = [5, 6].map(|life| {
        let config = servers.config("b");
        std::thread::spawn(move || Node::connect(config, life))
    });
    let both = both.map(|it| it.join().unwrap());
    assert_eq!(both.iter().filter(|it| it.is_ok()).count(), 1);
    assert!(both[1].is_ok(), "the higher life goes on");
}

#[test]
fn a_message_that_nats_does_not_take_has_failed() {
    let servers = Servers::start(1);
    let mut node = Node::connect(servers.config("a"), 1).unwrap();
    let fence = boxoffice::store::journal::FrameRef {
        first_lsn: boxoffice::Lsn(1),
        count: 1,
        at: boxoffice::Timestamp::default(),
        payload: &vec![0; 2 << 20],
    };
    let frame = boxoffice::store::journal::Tip::default().batch(&fence).unwrap();
    let message = Message { body: Body::Frame(frame), ..mark(0) };
    assert_eq!(node.publish(message, None), Reply::Failed);
    assert_eq!(node.publish(mark(0), Some(Sequence(0))), Reply::Acknowledged(Sequence(1)));
}
