//! The promises of the load-test harness: every workload runs on both targets and audits clean, the same seed asks the same,
//! latency counts from when a call should have begun, and a system that lies is caught.

#![cfg(feature = "loadtest")]

#[path = "../http/harness.rs"]
#[allow(dead_code, reason = "the harness of the tests over HTTP, of which this needs a part")]
mod harness;
mod lies;
mod nodes;
mod odd;

use std::time::{Duration, Instant};

use boxoffice::Config;
use boxoffice::loadgen::find_max::{Broken, Objective, find_max};
use boxoffice::loadgen::params::{Cards, Params, Workload};
use boxoffice::loadgen::report::{self, Operation, Outcome};
use boxoffice::loadgen::run;
use boxoffice::loadgen::target::{CARD, Embedded, Http, HttpSettings, Target};
use boxoffice::server::config::Provider;
use harness::Server;
use odd::{Odd, Way};
use serde_json::Value;
use tempfile::TempDir;

/// A small run of a second.
pub fn params(workload: Workload, more: &[(&str, &str)]) -> Params {
    let all = [
        ("workload", workload.name()),
        ("duration", "1s"),
        ("callers", "8"),
        ("users", "200"),
        ("seats", "600"),
        ("audit.interval", "100ms"),
        ("audit.read_back_every", "8"),
        ("onsale.browse", "20ms"),
        ("onsale.dither", "50ms"),
        ("onsale.rush_fades", "200ms"),
        ("onsale.reload_every", "50ms"),
        ("waiting_room.max_active", "40"),
        ("live.followers", "20"),
    ];
    let flags: Vec<_> = all.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Params::load(None, &flags).unwrap()
}

/// An engine in a directory that goes when this does.
pub async fn embedded() -> (Embedded, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().join("data"), ..Config::default() };
    config.storage.min_free_bytes = 0;
    config.payments.providers = vec![Cards::default().method()];
    (Embedded::open(config).await.unwrap(), dir)
}

/// How a server is reached.
pub fn settings(server: &Server) -> HttpSettings {
    let secret = std::fs::read(server.data_dir().join("jwt.key")).unwrap();
    HttpSettings {
        urls: vec![format!("http://{}", server.address)],
        admin_token: server.admin.clone(),
        jwt_secret: secret.trim_ascii_end().to_vec(),
        connections: 16,
        timeout: Duration::from_secs(30),
        open_holds_max: 20,
    }
}

fn http(server: &Server) -> Http {
    Http::new(settings(server)).unwrap()
}

pub async fn outcome<T: Target>(target: T, params: Params) -> Outcome {
    let (target, outcome) = run(target, params, "a test".into(), |_| {}).await.unwrap();
    target.close().await.unwrap();
    outcome
}

pub fn operation<'a>(outcome: &'a Outcome, name: &str) -> &'a Operation {
    let found = outcome.operations.iter().find(|operation| operation.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {}", outcome.json()))
}

pub fn checked(outcome: &Outcome, what: &str) -> u64 {
    outcome.audit.checked.iter().find(|(name, _)| *name == what).unwrap().1
}

/// What every run of a workload must have done, and looked at.
pub fn assert_clean(outcome: &Outcome, workload: Workload) {
    assert!(outcome.audit.ok, "{}", outcome.table());
    let (operations, audited): (&[&str], &[&str]) = match workload {
        Workload::Rush | Workload::Scatter => (&["hold", "release"], &["holds", "seats", "reservations"]),
        Workload::OnSale => (
            &["enter", "poll", "browse", "hold", "release", "charge", "pay"],
            &["holds", "payments", "balances", "ledgers", "turns", "seats"],
        ),
        Workload::Wallets => {
            (&["charge", "balance", "hold", "pay", "refund"], &["payments", "balances", "ledgers", "reservations"])
        }
        Workload::Queue => (&["enter", "poll", "leave"], &["turns"]),
        Workload::Live => (&["hold", "release", "update"], &["updates", "seats"]),
        Workload::Soak => (&["hold", "release", "charge", "pay", "refund"], &["holds", "payments", "seats"]),
        Workload::Cards => (&["hold", "begin", "fact", "refund"], &["holds", "charges", "seats"]),
    };
    for name in operations {
        assert!(operation(outcome, name).count > 0, "{name}: {}", outcome.table());
    }
    for what in audited {
        assert!(checked(outcome, what) > 0, "{what}: {:?}", outcome.audit.checked);
    }
    let faults: Vec<_> = outcome.series.iter().flat_map(|sample| &sample.faults).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_workload_audits_clean_on_an_engine() {
    for workload in Workload::ALL {
        let (target, _dir) = embedded().await;
        let more: &[_] =
            if workload == Workload::Scatter { &[("options", "5"), ("rush.contended", "0.3")] } else { &[] };
        let outcome = outcome(target, params(workload, more)).await;
        assert_clean(&outcome, workload);
        assert!(checked(&outcome, "journal_events") > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_workload_audits_clean_over_http() {
    let server = Server::with(|settings| {
        let pay_within = Cards::default().pay_within;
        settings.payments.providers = vec![Provider { name: CARD.into(), pay_within, ..Provider::default() }];
    })
    .await;
    for workload in Workload::ALL {
        let more: &[_] =
            if workload == Workload::Scatter { &[("options", "5"), ("rush.contended", "0.3")] } else { &[] };
        assert_clean(&outcome(http(&server), params(workload, more)).await, workload);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_open_loop_arrivals_come_as_asked_for() {
    for workload in [Workload::Rush, Workload::OnSale, Workload::Soak] {
        let (target, _dir) = embedded().await;
        let outcome = outcome(target, params(workload, &[("rate", "200"), ("in_flight_max", "300")])).await;
        assert!(outcome.audit.ok, "{}", outcome.table());
        let arrivals = &outcome.arrivals;
        assert!((120.0..280.0).contains(&arrivals.rate_asked), "{arrivals:?}");
        assert_eq!((arrivals.begun, arrivals.not_begun), (arrivals.rate_asked as u64, 0), "{arrivals:?}");
    }
}

#[tokio::test]
async fn the_json_has_the_shape_that_others_read() {
    let (target, _dir) = embedded().await;
    let outcome = outcome(target, params(Workload::Rush, &[("seed", "7"), ("rush.contended", "0.5")])).await;
    let json: Value = serde_json::from_str(&outcome.json()).unwrap();
    assert_eq!((&json["workload"], &json["seed"]), (&"rush".into(), &7.into()));
    assert!(json["durability"].as_str().unwrap().contains("fdatasync"));
    assert!((0.9..5.0).contains(&json["duration_s"].as_f64().unwrap()));
    let hold = &json["operations"]["hold"];
    assert!(hold["count"].as_u64().unwrap() > 0 && hold["rate_per_s"].as_f64().unwrap() > 0.0);
    assert!(hold["errors"]["seats_unavailable"].as_u64().unwrap() > 0, "{hold}");
    let latencies = ["p50", "p90", "p99", "p999", "max"].map(|name| hold["latency_us"][name].as_u64().unwrap());
    assert!(latencies.is_sorted() && latencies[0] > 0);
    assert_eq!(json["audit"]["ok"], true);
    assert!(json["audit"]["checked"]["holds"].as_u64().unwrap() > 0);
    assert_eq!(json["audit"]["violations"], serde_json::json!([]));
    for member in ["cpu", "cores", "memory_bytes", "kernel", "commit", "command"] {
        assert!(!json["environment"][member].is_null(), "{member}");
    }
    let page = report::page(&outcome);
    assert!(page.contains("Latency by percentile") && !page.contains("<script") && !page.contains("http://"));
}

#[tokio::test]
async fn the_same_seed_asks_the_same() {
    let asked = async |workload, seed| {
        let (target, _dir) = embedded().await;
        let odd = Odd::new(target, Way::Written);
        let asked = odd.asked.clone();
        let more =
            [("seed", seed), ("callers", "1"), ("rush.contended", "0.5"), ("options", "3"), ("duration", "300ms")];
        assert!(outcome(odd, params(workload, &more)).await.audit.ok);
        let asked = asked.lock().clone();
        assert!(asked.len() > 5, "{asked:?}");
        asked
    };
    for workload in [Workload::Wallets, Workload::Soak] {
        let (one, same, other) = (asked(workload, "1").await, asked(workload, "1").await, asked(workload, "2").await);
        // How far they get depends on the machine.
        let both = one.len().min(same.len());
        assert_eq!(one[..both], same[..both]);
        assert_ne!(one[..5], other[..5]);
    }
}

/// On one thread, a call that blocks it keeps the generator itself from beginning others in time.
#[tokio::test]
async fn calls_that_could_not_begin_in_time_are_late_and_not_left_out() {
    let (target, _dir) = embedded().await;
    let odd = Odd::new(target, Way::BlocksOnce(Duration::from_millis(400)));
    let begun = Instant::now();
    let outcome = outcome(odd, params(Workload::Rush, &[("rate", "500"), ("audit.interval", "1h")])).await;
    assert!(outcome.audit.ok, "{}", outcome.table());
    // Of a second, four tenths: a third of all arrivals had to wait for at least a tenth, although one call alone was slow.
    let hold = operation(&outcome, "hold");
    assert!(hold.latency("p90").unwrap() >= 100_000, "{hold:?}");
    assert!(hold.latency("max").unwrap() >= 390_000, "{hold:?}");
    assert_eq!(outcome.arrivals.not_begun, 0);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn those_for_whom_there_was_no_room_are_counted() {
    let (target, _dir) = embedded().await;
    let odd = Odd::new(target, Way::Takes(Duration::from_millis(200)));
    let outcome = outcome(odd, params(Workload::Rush, &[("rate", "300"), ("in_flight_max", "3")])).await;
    assert!(outcome.audit.ok, "{}", outcome.table());
    let arrivals = &outcome.arrivals;
    // Three at a time, each for 200 ms and a release: at most 18 in a second.
    assert!((1..=18).contains(&arrivals.begun) && arrivals.not_begun > 100, "{arrivals:?}");
    assert!(outcome.table().contains("not begun"));
}

#[tokio::test]
async fn the_limit_is_where_the_objective_breaks() {
    let (target, _dir) = embedded().await;
    // Who does one call after another of 5 ms gets through 200 of them a second, whatever is asked for.
    let odd = Odd::new(target, Way::OneAtATime(Duration::from_millis(5)));
    let params = params(Workload::Rush, &[("rate", "20"), ("audit.interval", "1h")]);
    let objective: Objective = "p90=300ms".parse().unwrap();
    let mut steps = 0;
    let (target, limit) = find_max(odd, &params, &objective, "a test", |_| steps += 1).await.unwrap();
    target.close().await.unwrap();
    let (holds, breaks) = (limit.holds.unwrap(), limit.breaks.unwrap());
    assert!(steps > 3 && holds.broken.is_none() && breaks.broken.is_some());
    assert!(holds.rate < breaks.rate && breaks.rate / holds.rate < 1.06, "{} {}", holds.rate, breaks.rate);
    assert!((20.0..400.0).contains(&holds.rate), "{}", holds.rate);
    assert!(matches!(breaks.broken, Some(Broken::Latency("hold", us)) if us > 300_000), "{:?}", breaks.broken);
}

#[test]
fn objectives_are_a_quantile_and_a_time() {
    assert_eq!("p99=50ms".parse::<Objective>().unwrap().to_string(), "p99 at most 50 ms");
    for text in ["p99", "p98=1s", "p99=fast", "p99=50", "=1s"] {
        assert!(text.parse::<Objective>().is_err(), "{text}");
    }
}

#[test]
fn the_scenarios_that_are_shipped_can_be_loaded() {
    let scenarios = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap();
    let paths: Vec<_> = scenarios.map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() >= 3);
    for path in paths {
        let params = Params::load(Some(&path), &[]).unwrap();
        assert_eq!(params.workload, Workload::OnSale, "{path:?}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("# Source: ") && text.contains("# Scale: "), "{path:?}");
    }
}
