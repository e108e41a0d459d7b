//! Those who look on over WebSockets and read nothing, whatever they join and whenever: what is kept for all of them together
//! is bounded, and whoever does read sees the seats as they are.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::attack_slow_readers::{Deaf, Victim};
use crate::harness::in_full;
use crate::process::terminate;

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seats that are blocked together where much is to change between two messages.
const MANY: usize = 1_000;

/// A socket that has been accepted, and of which nothing is read from here on.
fn join(victim: &Victim, query: &str) -> Deaf {
    let mut deaf = Deaf::connect(victim.address);
    let request = format!(
        "GET /v1/options/{}/live{query} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        victim.option
    );
    deaf.send(request.as_bytes());
    deaf.stream.set_nonblocking(false).unwrap();
    deaf.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        deaf.stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    deaf
}

/// The next message, read to its end; pings are passed over.
fn message(stream: &mut TcpStream) -> Value {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                u16::from_be_bytes(length).into()
            }
            127 => {
                let mut length = [0; 8];
                stream.read_exact(&mut length).unwrap();
                usize::try_from(u64::from_be_bytes(length)).unwrap()
            }
            length => length.into(),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        if head[0] == 0x81 {
            return serde_json::from_slice(&payload).unwrap();
        }
    }
}

/// How many seats a newcomer is told are taken.
fn seen(victim: &Victim) -> usize {
    let snapshot = message(&mut join(victim, "").stream);
    assert_eq!(snapshot["type"], "snapshot");
    snapshot["seats"].as_object().unwrap().len()
}

/// The seats as somebody knows them who has read all that was said.
#[derive(Debug, Default)]
struct Known {
    seq: u64,
    seats: BTreeMap<String, Value>,
}

impl Known {
    fn take(&mut self, message: &Value) {
        let seats = message["seats"].as_object().unwrap().clone();
        let seq = message["seq"].as_u64().unwrap();
        if message["type"] == "snapshot" {
            assert!(seq >= self.seq, "{seq} after {}", self.seq);
            self.seats = seats.into_iter().collect();
        } else {
            assert_eq!(message["previous_seq"].as_u64().unwrap(), self.seq, "nothing is left out");
            assert!(seq >= self.seq, "{seq} after {}", self.seq);
            self.seats.extend(seats);
            self.seats.retain(|_, state| state != "available");
        }
        self.seq = seq;
    }
}

#[test]
fn whoever_reads_hears_of_everything_whatever_others_do_not_read() {
    let (rounds, unread_bytes) = if in_full() { (200, 4 << 20) } else { (20, 1 << 20) };
    let dir = tempfile::tempdir().unwrap();
    let victim = Victim::start(dir.path(), unread_bytes);
    let (last, blocked) = victim.blocked.split_first().unwrap();
    let read = &|comes_again: Option<usize>| {
        let (mut known, mut messages) = (Known::default(), 0);
        let mut stream = join(&victim, "").stream;
        while messages == 0 || known.seats.contains_key(last) {
            known.take(&message(&mut stream));
            messages += 1;
            if comes_again.is_some_and(|times| messages % times == 0) {
                stream = join(&victim, &format!("?since={}", known.seq)).stream;
            }
        }
        known
    };
    std::thread::scope(|threads| {
        let readers: Vec<_> =
            [None, None, None, Some(2), Some(3)].map(|comes_again| threads.spawn(move || read(comes_again))).into();
        let mut deaf = Vec::new();
        for round in 0..rounds {
            let many = blocked.chunks(MANY).cycle().skip(round * 3).take(3);
            for (change, some) in many.flat_map(|some| [("unblocks", some), ("blocks", some)]) {
                victim.change(change, some);
                deaf.push(join(&victim, ""));
            }
            victim.change("unblocks", &blocked[round..=round]);
        }
        victim.change("unblocks", std::slice::from_ref(last));
        let mut now = Known::default();
        now.take(&message(&mut join(&victim, "").stream));
        for reader in readers {
            let known = reader.join().unwrap();
            assert_eq!(known.seq, now.seq);
            assert!(known.seats == now.seats, "{} and {} seats", known.seats.len(), now.seats.len());
        }
    });
    assert_eq!(terminate(victim.child).0, Some(0));
}

#[test]
fn whoever_follows_seats_and_reads_nothing_costs_little() {
    // Without a bound 60 are some 115 MiB. What is built at once, and what the allocator keeps of it, is up to 22 MiB on a
    // machine that is busy.
    let (connections, unread_bytes, allowed) =
        if in_full() { (300, 32 << 20, 64 << 20) } else { (60, 4 << 20, 48 << 20) };
    let dir = tempfile::tempdir().unwrap();
    let victim = Victim::start(dir.path(), unread_bytes);
    let taken = seen(&victim);
    let change = || {
        victim.change("unblocks", &victim.some);
        victim.change("blocks", &victim.some);
    };
    let mut grown = Vec::new();
    let mut measure = |what: &'static str, deaf: &dyn Fn() -> Vec<Deaf>| {
        let growth = victim.growth(|| {
            let all = deaf();
            assert_eq!(seen(&victim), taken, "{what}: whoever reads is served meanwhile");
            drop(all);
        });
        println!("{connections} sockets, {what}: {:.1} MiB", growth as f64 / 1_048_576.0);
        grown.push((what, growth));
    };
    measure("snapshots of one moment", &|| {
        let all: Vec<_> = (0..connections).map(|_| join(&victim, "")).collect();
        all.iter().for_each(Deaf::has_begun);
        all
    });
    // There is no change in between: it is what each of them says that they know which differs.
    measure("deltas from many moments", &|| {
        let all: Vec<_> = (1..=connections).map(|since| join(&victim, &format!("?since={since}"))).collect();
        all.iter().for_each(Deaf::has_begun);
        all
    });
    measure("snapshots of many moments", &|| {
        let join = |_| {
            change();
            let deaf = join(&victim, "");
            deaf.has_begun();
            deaf
        };
        (0..connections).map(join).collect()
    });
    measure("deltas of many moments", &|| {
        let mut all: Vec<_> = (0..connections).map(|_| join(&victim, "")).collect();
        // All are up to date when the first changes come; then no more is read.
        all.iter_mut().for_each(|deaf| drop(message(&mut deaf.stream)));
        for _ in 0..connections {
            change();
        }
        all
    });
    measure("large deltas of many moments", &|| {
        let join = |_| {
            let mut deaf = join(&victim, "");
            message(&mut deaf.stream);
            for change in ["unblocks", "blocks"] {
                victim.blocked.chunks(MANY).take(4).for_each(|some| victim.change(change, some));
            }
            deaf
        };
        (0..connections).map(join).collect()
    });
    measure("pings without an end", &|| {
        let ping = [0x89, 0xFD, 0, 0, 0, 0].iter().copied().chain([b'x'; 125]).collect::<Vec<_>>().repeat(4_000);
        let mut all: Vec<_> = (0..connections).map(|_| join(&victim, "")).collect();
        for deaf in &mut all {
            deaf.stream.set_nonblocking(true).unwrap();
            // As much as is taken at once.
            let _ = deaf.stream.write(&ping);
        }
        all
    });
    let too_much: Vec<_> = grown.iter().filter(|(_, growth)| *growth > allowed).collect();
    assert!(too_much.is_empty(), "more than {allowed} bytes: {too_much:?}");
    assert_eq!(terminate(victim.child).0, Some(0));
}
