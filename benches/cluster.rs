//! Appends to the replicated log: one frame under way, by the connection that a node has, on three NATS servers with
//! `sync_interval: always` on this machine. `cargo bench --no-default-features --features cluster,testing --bench
//! cluster`; seconds of each row with `BOXOFFICE_BENCH_SECONDS`.

#[path = "../tests/cluster_nats/servers.rs"]
mod servers;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use boxoffice::cluster::nats::NatsLink;
use boxoffice::cluster::{Body, ClusterId, Epoch, Heard, Link as _, Message, Publish, Reply, Sequence};
use boxoffice::store::journal::{FrameRef, Tip};

fn main() {
    let seconds = std::env::var("BOXOFFICE_BENCH_SECONDS").ok().and_then(|it| it.parse().ok()).unwrap_or(10);
    let servers = servers::Servers::start(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (ears, heard) = mpsc::channel();
    let hear = move |it| drop(ears.send((Instant::now(), it)));
    let connecting = NatsLink::connect(runtime.handle(), servers.config("bench"), 1, hear);
    let (link, found) = runtime.block_on(connecting).unwrap();
    // As a node does: its own messages come back to it.
    link.follow(found.last);

    let (cluster, mut tip, mut last) = (ClusterId(1.try_into().unwrap()), Tip::default(), found.last);
    println!("| bytes | appends a second | p50 | p99 | longest |\n|---|---|---|---|---|");
    for bytes in [200, 16 << 10, 128 << 10] {
        let payload: Vec<u8> = (0..bytes).map(|at: usize| ((at * 31) >> 3) as u8).collect();
        let (mut taken, begun) = (Vec::new(), Instant::now());
        while begun.elapsed() < Duration::from_secs(seconds) {
            let frame = FrameRef { first_lsn: tip.next_lsn, count: 1, at: tip.at.plus_millis(1), payload: &payload };
            let frame = tip.batch(&frame).unwrap();
            tip = frame.after();
            let message = Message { cluster, epoch: Epoch(0), body: Body::Frame(frame) };
            let published = Instant::now();
            link.publish(last.0, &Publish { message, expected: Some(last) });
            let at = loop {
                match heard.recv().unwrap() {
                    (at, Heard::Replied(number, Reply::Acknowledged(sequence))) if number == last.0 => {
                        last = sequence;
                        break at;
                    }
                    (_, Heard::Replied(_, reply)) => panic!("{reply:?}"),
                    (_, _) => {}
                }
            };
            taken.push(at - published);
        }
        let took = begun.elapsed();
        taken.sort();
        let at = |per_mille: usize| taken[(taken.len() - 1) * per_mille / 1_000];
        let rate = taken.len() as f64 / took.as_secs_f64();
        println!("| {bytes} | {rate:.0} | {:.1?} | {:.1?} | {:.1?} |", at(500), at(990), at(1_000));
    }
    assert!(last > Sequence(0));
}
