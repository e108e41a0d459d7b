//! Events to Kafka, with brokers in memory that refuse, fail and move as they are told: everything arrives, in order within
//! its key, and what the brokers will never take waits for an operator.

#[path = "http/collector.rs"]
#[allow(dead_code)]
mod collector;
#[path = "http/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "http/receiver.rs"]
#[allow(dead_code)]
mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use boxoffice::Timestamp;
use boxoffice::server::config::Settings;
use boxoffice::server::kafka::settings::{Format, Properties};
use boxoffice::testing::clock::ManualClock;
use collector::{Collector, Span};
use harness::Server;
use krafka::ConsumerRecord;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};
use serde_json::{Value, json};

/// How long anything is waited for before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
const KINDS: [&str; 4] = ["reservation", "payment", "token", "wallet"];

async fn cluster() -> FakeBroker {
    let cluster = FakeBroker::start_cluster(3).await.unwrap();
    for kind in KINDS {
        cluster.create_topic(&format!("boxoffice.{kind}"), 3);
    }
    cluster
}

fn properties(more: &[(&str, &str)]) -> Properties {
    let quick = [("request.timeout.ms", "200"), ("linger.ms", "1")];
    Properties(quick.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// On a machine that is busy with other tests a broker may take its time, which is no failure.
fn patient(more: &[(&str, &str)]) -> Properties {
    properties(&[more, &[("request.timeout.ms", "10000")]].concat())
}

async fn serve(cluster: &FakeBroker, configure: impl FnOnce(&mut Settings)) -> Server {
    Server::with(|settings| {
        settings.kafka.bootstrap_servers = cluster.bootstrap_servers().split(',').map(str::to_owned).collect();
        settings.kafka.properties = properties(&[]);
        settings.kafka.breaker_pause = "20ms".parse().unwrap();
        configure(settings);
    })
    .await
}

/// Some buyers come, buy, and some of them give back.
async fn sell(server: &Server, buyers: std::ops::Range<usize>) {
    let option = server.option(buyers.len()).await;
    let until = json!({"refundable_until": harness::STARTS_AT});
    server.ask("PATCH", &format!("/v1/options/{option}"), &server.admin, until).await;
    for (seat, buyer) in buyers.enumerate() {
        let name = format!("buyer-{buyer}");
        let token = server.buyer(&name);
        server.charge(&name, 500).await;
        let reservation = server.hold(&option, &token, &[&format!("S{}", seat + 1)]).await;
        let paid = server.post(&format!("/v1/reservations/{reservation}/payments"), &token, json!({})).await;
        if buyer % 2 == 0 {
            let path = format!("/v1/payments/{}/refunds", paid.created());
            assert_eq!(server.post(&path, &token, json!({})).await.status, 201);
        }
    }
}

async fn published(server: &Server) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/events?limit=500{after}"), &server.admin).await.body;
        let items = page["items"].as_array().unwrap().clone();
        let Some(last) = items.last() else { return events };
        after = format!("&after={}", last["id"].as_str().unwrap());
        events.extend(items);
    }
}

async fn state(server: &Server) -> Value {
    server.get("/v1/sinks/kafka", &server.admin).await.body
}

async fn until(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let state = state(server).await;
        if wanted(&state) {
            return state;
        }
        assert!(begun.elapsed() < PATIENCE, "it stays {state}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_delivered(state: &Value) -> bool {
    state["lag"] == 0 && state["parked"] == 0
}

/// A record in binary mode, as the event that it was.
fn event_of(record: &ConsumerRecord) -> Value {
    let headers: BTreeMap<_, _> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8(value.clone().unwrap().to_vec()).unwrap()))
        .collect();
    assert_eq!(headers["content-type"], "application/json");
    let at = boxoffice::Timestamp::from_millis(u64::try_from(record.timestamp).unwrap());
    assert_eq!(headers["ce_time"], at.to_string());
    let mut event = json!({"datacontenttype": "application/json"});
    for (name, value) in headers.iter().filter_map(|(name, value)| Some((name.strip_prefix("ce_")?, value))) {
        event[name] = json!(value);
    }
    event["data"] = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
    event
}

/// The records of each key in the order in which they can be read.
fn written(cluster: &FakeBroker) -> BTreeMap<(String, String), Vec<ConsumerRecord>> {
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for kind in KINDS {
        for record in cluster.all_records(&format!("boxoffice.{kind}")).unwrap() {
            let key = String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
            by_key.entry((kind.to_owned(), key)).or_default().push(record);
        }
    }
    by_key
}

/// Each event of `events` is there as it was published; within a key nothing is left out: what comes again is followed by all
/// that came after it. Gives how many came more than once.
fn assert_arrived(cluster: &FakeBroker, events: &[Value]) -> usize {
    let mut expected: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
    for event in events {
        let kind = event["type"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        expected.entry((kind, event["subject"].as_str().unwrap().to_owned())).or_default().push(event);
    }
    let written = written(cluster);
    assert_eq!(written.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let mut twice = 0;
    for (key, records) in written {
        let (expected, mut next) = (&expected[&key], 0);
        assert_eq!(records.iter().map(|record| record.partition).collect::<BTreeSet<_>>().len(), 1, "{key:?}");
        for record in &records {
            let event = event_of(record);
            let place = expected.iter().position(|one| **one == event);
            let place = place.unwrap_or_else(|| panic!("{event} is not among {expected:?}"));
            assert!(place <= next, "of {key:?}, {next} is left out before {place}");
            next = place + 1;
        }
        assert_eq!(next, expected.len(), "of {key:?} something is missing at the end");
        twice += records.len() - expected.len();
    }
    twice
}

#[tokio::test]
async fn every_event_arrives_as_the_binding_has_it_and_a_restart_goes_on() {
    let cluster = cluster().await;
    let server = serve(&cluster, |settings| settings.kafka.properties = patient(&[])).await;
    sell(&server, 0..6).await;
    until(&server, is_delivered).await;
    let server = server.restart(|_| ()).await;
    sell(&server, 6..10).await;
    until(&server, is_delivered).await;
    let events = published(&server).await;
    assert_eq!(assert_arrived(&cluster, &events), 0, "nothing came twice, since nothing went wrong");
    let sinks = server.get("/v1/sinks", &server.admin).await.body;
    let one = &sinks["items"][0];
    assert_eq!((&one["id"], &one["kind"], &one["status"]), (&json!("kafka"), &json!("kafka"), &json!("active")));
    assert_eq!(server.get("/v1/webhooks", &server.admin).await.body["items"], json!([]), "it is none");
}

#[tokio::test]
async fn structured_events_of_some_types_go_to_one_topic_that_is_made() {
    let cluster = FakeBroker::start().await.unwrap();
    let server = serve(&cluster, |settings| {
        settings.kafka.format = Format::Structured;
        settings.kafka.topic = "all".into();
        settings.kafka.create_topics = true;
        settings.kafka.event_types = vec!["boxoffice.payment.completed".into(), "boxoffice.payment.refunded".into()];
    })
    .await;
    sell(&server, 0..3).await;
    until(&server, is_delivered).await;
    let records = cluster.all_records("all").unwrap();
    let mut read: Vec<Value> = Vec::new();
    for record in &records {
        let (name, value) = &record.headers[0];
        assert_eq!(
            (name.as_str(), &value.as_ref().unwrap()[..]),
            ("content-type", &b"application/cloudevents+json; charset=UTF-8"[..])
        );
        read.push(serde_json::from_slice(record.value.as_ref().unwrap()).unwrap());
        assert_eq!(read.last().unwrap()["subject"], String::from_utf8_lossy(record.key.as_ref().unwrap()).as_ref());
    }
    let mut events = published(&server).await;
    events.retain(|event| event["type"].as_str().unwrap().starts_with("boxoffice.payment."));
    let by_id = |event: &Value| event["id"].as_str().unwrap().to_owned();
    read.sort_by_key(by_id);
    events.sort_by_key(by_id);
    assert_eq!(read, events);
}

#[tokio::test]
async fn brokers_that_are_gone_cost_no_sale_and_nothing_is_lost() {
    let cluster = cluster().await;
    let server = serve(&cluster, |settings| settings.kafka.window_events = 8).await;
    sell(&server, 0..3).await;
    until(&server, is_delivered).await;
    for node in 0..3 {
        cluster.crash(node);
    }
    sell(&server, 3..12).await;
    let gone = until(&server, |state| state["attempts"]["failed"].as_u64() > Some(3)).await;
    assert_eq!(
        (&gone["parked"], &gone["dead_letters"]),
        (&json!(0), &json!(0)),
        "nothing of it is written down: {gone}"
    );
    assert!(gone["lag"].as_u64() > Some(8) && gone["last_failure"]["text"] != "", "{gone}");
    // It also ends, and begins, while they are gone.
    let server = server.restart(|_| ()).await;
    sell(&server, 12..14).await;
    until(&server, |state| state["attempts"]["failed"].as_u64() > Some(1)).await;
    for node in 0..3 {
        cluster.restart(node);
    }
    until(&server, is_delivered).await;
    assert_arrived(&cluster, &published(&server).await);
}

#[tokio::test]
async fn faults_that_pass_are_waited_for() {
    let cluster = cluster().await;
    let server = serve(&cluster, |settings| settings.kafka.batch_events = 7).await;
    // Of each, as many in a row as use up what the client does by itself, and then some.
    let faults = [
        Control::Error(ErrorCode::NotEnoughReplicas),
        Control::Error(ErrorCode::NotEnoughReplicasAfterAppend),
        Control::Error(ErrorCode::NotLeaderForPartition),
        Control::Error(ErrorCode::TopicAuthorizationFailed),
        Control::Error(ErrorCode::RequestTimedOut),
        Control::ApplyThen(Box::new(Control::Error(ErrorCode::RequestTimedOut))),
        Control::ApplyThen(Box::new(Control::Disconnect)),
        Control::Silence,
    ];
    let mut buyers = 0;
    for (index, fault) in faults.into_iter().enumerate() {
        let (failed, said) = (state(&server).await["attempts"]["failed"].clone(), format!("{fault:?}"));
        cluster.on(ApiKey::Produce, move |_| fault.clone());
        sell(&server, buyers..buyers + 4).await;
        buyers += 4;
        until(&server, |state| state["attempts"]["failed"].as_u64() > failed.as_u64()).await;
        assert_eq!(state(&server).await["parked"], 0, "{said}");
        cluster.clear_hooks();
        for kind in KINDS {
            for partition in 0..3 {
                cluster.set_leader(&format!("boxoffice.{kind}"), partition, (index as i32 + partition) % 3);
            }
        }
        cluster.set_throttle(ApiKey::Produce, Duration::from_millis(20));
        until(&server, is_delivered).await;
    }
    assert_arrived(&cluster, &published(&server).await);
}

#[tokio::test]
async fn what_got_through_is_not_sent_again_because_others_wait() {
    let cluster = FakeBroker::start().await.unwrap();
    for kind in ["reservation", "wallet"] {
        cluster.create_topic(&format!("boxoffice.{kind}"), 3);
    }
    let server = serve(&cluster, |_| ()).await;
    sell(&server, 0..4).await;
    until(&server, |state| state["attempts"]["failed"].as_u64() > Some(5)).await;
    let waiting = state(&server).await;
    assert!(waiting["last_failure"]["text"].as_str().unwrap().contains("boxoffice.payment"), "{waiting}");
    for kind in ["payment", "token"] {
        cluster.create_topic(&format!("boxoffice.{kind}"), 3);
    }
    until(&server, is_delivered).await;
    assert_eq!(assert_arrived(&cluster, &published(&server).await), 0, "nothing came twice");
}

#[tokio::test]
async fn what_the_brokers_refuse_for_good_waits_for_an_operator() {
    let cluster = cluster().await;
    let server = serve(&cluster, |_| ()).await;
    sell(&server, 0..2).await;
    until(&server, is_delivered).await;
    cluster.on(ApiKey::Produce, |_| Control::Error(ErrorCode::InvalidRecord));
    server.charge("anna", 1).await;
    server.charge("anna", 2).await;
    server.charge("ben", 3).await;
    let refused = until(&server, |state| state["dead_letters"] == 2 && state["parked"] == 3).await;
    assert_eq!(refused["breaker"], "closed", "the brokers are well: {refused}");
    let letters = server.get("/v1/sinks/kafka/dead-letters", &server.admin).await.body["items"].clone();
    assert_eq!(letters[0]["subject"], "ben", "{letters}");
    cluster.clear_hooks();
    server.charge("carl", 4).await;
    until(&server, |state| state["lag"] == 0).await;
    let dropped = format!("/v1/sinks/kafka/dead-letters/{}", letters[0]["event_id"].as_str().unwrap());
    assert_eq!(server.ask("DELETE", &dropped, &server.admin, Value::Null).await.status, 204);
    let redriven = server.post("/v1/sinks/kafka/redrive", &server.admin, json!({})).await;
    assert_eq!(redriven.body, json!({"redriven": 1}));
    until(&server, is_delivered).await;
    let mut events = published(&server).await;
    events.retain(|event| event["subject"] != "ben");
    assert_arrived(&cluster, &events);
}

#[tokio::test]
async fn one_message_that_is_too_large_holds_up_its_key_alone() {
    let cluster = cluster().await;
    let more = [("message.max.bytes", "1000")];
    let mut server = serve(&cluster, |settings| settings.kafka.properties = properties(&more)).await;
    let option = server.option(40).await;
    let seats: Vec<_> = (1..=8).map(|n| format!("S{n}")).collect();
    let seats: Vec<_> = seats.iter().map(String::as_str).collect();
    server.hold(&option, &server.buyer("anna"), &seats).await;
    server.hold(&option, &server.buyer("ben"), &["S30"]).await;
    let state = until(&server, |state| state["lag"] == 0 && state["dead_letters"] == 1).await;
    let text =
        server.get("/v1/sinks/kafka/dead-letters", &server.admin).await.body["items"][0]["last_response"]["text"]
            .clone();
    assert!(text.as_str().unwrap().contains("message.max.bytes is 1000"), "{state}: {text}");
    let before = cluster.all_records("boxoffice.reservation").unwrap();
    assert_eq!(before.len(), 1, "the other one is there");
    server.settings.kafka.properties = properties(&[]);
    let server = server.restart(|_| ()).await;
    server.post("/v1/sinks/kafka/redrive", &server.admin, json!({})).await;
    until(&server, is_delivered).await;
    assert_arrived(&cluster, &published(&server).await);
}

#[tokio::test]
async fn a_server_that_is_to_deliver_nothing_sends_nothing() {
    let cluster = cluster().await;
    let mut server = serve(&cluster, |_| ()).await;
    sell(&server, 0..1).await;
    until(&server, is_delivered).await;
    server.settings.kafka.enabled = false;
    let mut server = server.restart(|_| ()).await;
    let produced = cluster.request_count(ApiKey::Produce);
    sell(&server, 1..2).await;
    let suspended = state(&server).await;
    assert_eq!((&suspended["kind"], &suspended["status"]), (&json!("kafka"), &json!("suspended")), "{suspended}");
    assert_eq!(cluster.request_count(ApiKey::Produce), produced);
    server.settings.kafka.enabled = true;
    let server = server.restart(|_| ()).await;
    until(&server, is_delivered).await;
    assert_arrived(&cluster, &published(&server).await);
}

#[tokio::test]
async fn a_day_without_brokers_costs_no_sale_and_is_made_up_for_in_order() {
    let cluster = cluster().await;
    let clock = ManualClock::at(Timestamp::from_millis(1_793_491_200_000));
    let (bootstrap, pause) = (cluster.bootstrap_servers(), "1m".parse().unwrap());
    let server = Server::with_clock(&clock, |settings| {
        settings.kafka.bootstrap_servers = bootstrap.split(',').map(str::to_owned).collect();
        settings.kafka.properties = properties(&[]);
        settings.kafka.breaker_pause = pause;
        settings.kafka.window_events = 8;
    })
    .await;
    sell(&server, 0..2).await;
    until(&server, is_delivered).await;
    for node in 0..3 {
        cluster.crash(node);
    }
    for hour in 0..24 {
        let failed = state(&server).await["attempts"]["failed"].as_u64();
        sell(&server, 2 + hour..3 + hour).await;
        clock.advance(3_600_000);
        until(&server, |state| state["attempts"]["failed"].as_u64() > failed).await;
    }
    let gone = state(&server).await;
    assert_eq!((&gone["parked"], &gone["dead_letters"]), (&json!(0), &json!(0)), "{gone}");
    assert!(gone["lag"].as_u64() > Some(24 * 4), "{gone}");
    for node in 0..3 {
        cluster.restart(node);
    }
    // What was under way when they came back may still fail, and then the next try is a pause away.
    let looked_at = |state: &Value| {
        clock.advance(60_000);
        is_delivered(state)
    };
    until(&server, looked_at).await;
    assert_arrived(&cluster, &published(&server).await);
}

#[tokio::test]
async fn brokers_that_ask_for_a_password_get_it_and_a_wrong_one_is_not_told() {
    let cluster = cluster().await;
    cluster.require_sasl_plain("boxoffice", "hunter2");
    let sasl = |password| {
        patient(&[("security.protocol", "sasl_plaintext"), ("sasl.username", "boxoffice"), ("sasl.password", password)])
    };
    let mut server = serve(&cluster, |settings| settings.kafka.properties = sasl("hunter3")).await;
    sell(&server, 0..2).await;
    let refused = until(&server, |state| state["attempts"]["failed"].as_u64() > Some(2)).await;
    let why = refused["last_failure"]["text"].as_str().unwrap();
    assert!(why.contains("SaslAuthenticationFailed") && !why.contains("hunter"), "{why}");
    assert_eq!((&refused["parked"], &refused["dead_letters"]), (&json!(0), &json!(0)), "{refused}");
    server.settings.kafka.properties = sasl("hunter2");
    let server = server.restart(|_| ()).await;
    until(&server, is_delivered).await;
    assert_eq!(assert_arrived(&cluster, &published(&server).await), 0);
}

#[tokio::test]
async fn a_record_is_in_the_trace_of_its_request_and_its_event_knows_nothing_of_it() {
    let (cluster, collector) = (cluster().await, Collector::start().await);
    let server = serve(&cluster, |settings| {
        settings.kafka.properties = patient(&[]);
        collector.configure(settings, &[]);
    })
    .await;
    let option = server.option(1).await;
    server.hold(&option, &server.buyer("anna-the-buyer"), &["S1"]).await;
    until(&server, is_delivered).await;
    let hold = collector.span("POST /v1/options/{id}/reservations").await;
    let is_of_hold = |span: &&Span| span.name == "send boxoffice.reservation" && span.parent == hold.id;
    let send = collector.until(|spans| spans.iter().find(is_of_hold).cloned()).await;
    let events = published(&server).await;
    let event = events.iter().find(|event| event["type"] == "boxoffice.reservation.created").unwrap();
    send.has(&[
        ("messaging.system", "kafka"),
        ("messaging.destination.name", "boxoffice.reservation"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("cloudevents.event_id", event["id"].as_str().unwrap()),
        ("cloudevents.event_type", "boxoffice.reservation.created"),
    ]);
    assert_eq!((send.kind, &send.trace, send.failed), (4, &hold.trace, false));
    let records = cluster.all_records("boxoffice.reservation").unwrap();
    let headers: BTreeMap<_, _> = records[0].headers.iter().cloned().collect();
    assert_eq!(headers["traceparent"].as_deref(), Some(send.traceparent().as_bytes()));
    assert!(!String::from_utf8_lossy(records[0].value.as_ref().unwrap()).contains(&send.trace));
    assert_arrived(&cluster, &events);

    cluster.on(ApiKey::Produce, |_| Control::Error(ErrorCode::InvalidRecord));
    server.charge("anna-the-buyer", 1).await;
    until(&server, |state| state["dead_letters"] == 1).await;
    let refused = collector.until(|spans| spans.iter().find(|span| span.failed).cloned()).await;
    assert_eq!((&*refused.name, &*refused.attributes["error.type"]), ("send boxoffice.wallet", "InvalidRecord"));
    let bytes: Vec<u8> = collector.0.delivered().into_iter().flat_map(|request| request.body).collect();
    assert!(!bytes.windows(14).any(|bytes| bytes == b"anna-the-buyer"));
}
