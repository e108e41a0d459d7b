//! Traces: the tree of spans of a request, to its delivery; whose word on a trace is taken; and what becomes of spans that nobody takes.

use std::process::Stdio;
use std::time::Duration;

use boxoffice::Timestamp;
use boxoffice::server::config::Settings;
use boxoffice::testing::clock::ManualClock;
use serde_json::{Value, json};

use crate::collector::{self, Collector, Span};
use crate::harness::{Answer, Server};
use crate::process;
use crate::receiver::{FINE, Receiver, Say};

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const HOLD: &str = "POST /v1/options/{id}/reservations";

async fn traced(collector: &Collector, more: &[(&str, &str)], configure: impl FnOnce(&mut Settings)) -> Server {
    Server::with(|settings| {
        collector.configure(settings, more);
        settings.webhooks.allow_private_addresses = true;
        configure(settings);
    })
    .await
}

async fn hold_with(server: &Server, option: &str, token: &str, seat: &str, traceparent: &str) -> Answer {
    let request = server.request("POST", &format!("/v1/options/{option}/reservations"), token);
    Answer::of(request.header("traceparent", traceparent).json(&json!({"seats": [seat]})).send().await.unwrap()).await
}

/// The one among these that is in `parent` and has this name.
fn within<'a>(spans: &'a [Span], parent: &Span, name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.name == name && span.parent == parent.id && span.trace == parent.trace)
}

fn lasts_within(span: &Span, from: u64, to: u64) {
    assert!(from <= span.begun && span.begun <= span.ended && span.ended <= to, "{from} {span:?} {to}");
}

#[tokio::test]
async fn a_hold_is_one_trace_from_its_request_to_the_webhook() {
    let (collector, receiver) = (Collector::start().await, Receiver::start(|_| FINE).await);
    let server = traced(&collector, &[("OTEL_SERVICE_NAME", "the-house")], |_| ()).await;
    let option = server.option(3).await;
    let hook = json!({"url": receiver.url(), "event_types": ["boxoffice.reservation.created"]});
    server.post("/v1/webhooks", &server.admin, hook).await.created();
    let token = server.buyer("anna-the-buyer");
    let reservation = server.hold(&option, &token, &["S1"]).await;
    let delivered = receiver.wait_for(1).await.remove(0);

    let hold = collector.span(HOLD).await;
    let names = ["decide", "commit", "POST"];
    let [decide, commit, post] = collector
        .until(|spans| {
            let found = names.map(|name| within(spans, &hold, name).cloned());
            let [Some(decide), Some(commit), Some(post)] = found else { return None };
            Some([decide, commit, post])
        })
        .await;
    hold.has(&[
        ("http.request.method", "POST"),
        ("http.response.status_code", "201"),
        ("http.route", "/v1/options/{id}/reservations"),
        ("url.scheme", "http"),
    ]);
    decide.has(&[]);
    commit.has(&[]);
    let port = receiver.address.port().to_string();
    let event = delivered.json();
    post.has(&[
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("cloudevents.event_id", event["id"].as_str().unwrap()),
        ("cloudevents.event_type", "boxoffice.reservation.created"),
    ]);
    assert_eq!([hold.kind, decide.kind, commit.kind, post.kind], [2, 1, 1, 3]);
    assert_eq!((hold.parent.as_str(), &hold.links[..], hold.flags), ("", &[][..], 0x101));
    assert!([&hold, &decide, &commit, &post].iter().all(|span| !span.failed));
    lasts_within(&decide, hold.begun, hold.ended);
    assert_eq!(decide.ended, commit.begun, "what is decided is appended at once");
    lasts_within(&commit, hold.begun, hold.ended);
    assert!(post.begun >= commit.begun, "nothing is delivered that is not durable");
    // Whoever takes it can go on.
    assert_eq!(delivered.header("traceparent"), post.traceparent());
    assert!(!String::from_utf8_lossy(&delivered.body).contains(&hold.trace), "{event}: an event has no trace");
    let again = server.get("/v1/events?limit=500", &server.admin).await.body["items"].clone();
    assert!(again.as_array().unwrap().contains(&event));

    let requests = collector.0.delivered();
    for request in &requests {
        assert_eq!(request.path, "/v1/traces");
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let expected = [("service.name".to_owned(), "the-house".to_owned()), ("service.version".to_owned(), version)];
        assert_eq!(collector::resource(&request.body), expected.into());
    }
    // Who holds, with what, and what they get, is nobody's business there.
    for secret in ["anna-the-buyer", &token, &server.admin, &reservation, "root"] {
        let finds = |request: &crate::receiver::Delivered| {
            request.body.windows(secret.len()).any(|bytes| bytes == secret.as_bytes())
        };
        assert!(!requests.iter().any(finds), "{secret}");
    }
}

#[tokio::test]
async fn every_route_has_a_name_and_what_it_rests_on() {
    let collector = Collector::start().await;
    let server = traced(&collector, &[], |_| ()).await;
    server.charge("anna", 500).await;
    let option = server.option(2).await;
    let token = server.buyer("anna");
    let reservation = server.hold(&option, &token, &["S1"]).await;
    // A wallet has to answer first.
    server.post(&format!("/v1/reservations/{reservation}/payments"), &token, json!({})).await.created();
    assert_eq!(server.get("/v1/users/anna/wallet", &server.admin).await.status, 200);
    assert_eq!(server.get("/nothing/anna", "").await.status, 404);
    let odd = server.request("ANNA", "/v1/concerts", "").send().await.unwrap();
    assert_eq!(odd.status(), 405);
    for (name, status, steps) in [
        ("POST /v1/users/{user_id}/wallet/charges", "201", 2),
        ("POST /v1/concerts/{id}/options", "201", 2),
        ("POST /v1/reservations/{id}/payments", "201", 2),
        ("GET /v1/users/{user_id}/wallet", "200", 0),
        ("GET", "404", 0),
        ("HTTP /v1/concerts", "405", 0),
    ] {
        let span = collector.span(name).await;
        assert_eq!((span.attributes["http.response.status_code"].as_str(), span.failed), (status, false), "{name}");
        let steps_of = |spans: &[Span]| spans.iter().filter(|step| step.parent == span.id).count();
        collector.until(|spans| (steps_of(spans) >= steps).then_some(())).await;
        assert!(!span.attributes.values().any(|value| value.contains("anna")), "{span:?}");
    }
    assert_eq!(collector.span("HTTP /v1/concerts").await.attributes["http.request.method"], "_OTHER");
    // What is refused is decided too, and nothing to be committed.
    let refused = server.post(&format!("/v1/options/{option}/reservations"), &token, json!({"seats": ["S1"]})).await;
    assert_eq!(refused.status, 409);
    let is_refusal = |span: &&Span| span.name == HOLD && span.attributes["http.response.status_code"] == "409";
    let refusal = collector.until(|spans| spans.iter().find(is_refusal).cloned()).await;
    collector.until(|spans| within(spans, &refusal, "decide").cloned()).await;
    assert_eq!(within(&collector.spans(), &refusal, "commit"), None);
    assert!(!refusal.failed, "the server did what it should");
}

#[tokio::test]
async fn a_trusted_proxy_is_taken_at_its_word_and_others_are_pointed_to() {
    for trusted in [true, false] {
        let collector = Collector::start().await;
        let server = traced(&collector, &[], |settings| {
            if trusted {
                settings.http.trusted_proxies = vec!["127.0.0.0/8".into()];
            }
        })
        .await;
        let (option, token) = (server.option(3).await, server.buyer("anna"));
        hold_with(&server, &option, &token, "S1", GIVEN).await.created();
        let hold = collector.span(HOLD).await;
        let given = ["4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"].map(str::to_owned);
        if trusted {
            assert_eq!([&hold.trace, &hold.parent], [&given[0], &given[1]]);
            assert_eq!((&hold.links[..], hold.flags), (&[][..], 0x301), "its parent is of another program");
        } else {
            assert!(hold.trace != given[0] && hold.parent.is_empty(), "{hold:?}");
            assert_eq!(hold.links, [(given[0].clone(), given[1].clone())]);
        }
        // One who is not trusted has no say in what is kept, either way.
        hold_with(&server, &option, &token, "S2", NOT_KEPT).await.created();
        server.hold(&option, &token, &["S3"]).await;
        drop(server);
        let held = collector.spans().iter().filter(|span| span.name == HOLD).count();
        assert_eq!(held, if trusted { 2 } else { 3 });
    }
}

#[tokio::test]
async fn a_delivery_of_several_requests_points_to_all_of_them() {
    let collector = Collector::start().await;
    let receiver = Receiver::start(|_| Say::Status(503, "", "")).await;
    let server = traced(&collector, &[], |_| ()).await;
    let (option, token) = (server.option(9).await, server.buyer("anna"));
    for seat in ["S1", "S2", "S3"] {
        server.hold(&option, &token, &[seat]).await;
    }
    let types = ["boxoffice.reservation.created"];
    let hook = json!({"url": receiver.url(), "format": "batch", "event_types": types, "start": "beginning"});
    server.post("/v1/webhooks", &server.admin, hook).await.created();
    let delivered = receiver.wait_for(1).await.remove(0);
    let is_of_several = |span: &&Span| span.name == "POST" && !span.links.is_empty();
    let several = collector.until(|spans| spans.iter().find(is_of_several).cloned()).await;
    assert_eq!(several.attributes["messaging.batch.message_count"], "3");
    assert_eq!(several.links.len(), 2, "the trace that it is in is the first one's");
    assert_eq!(delivered.header("traceparent"), several.traceparent());
    let said = ["error.type", "http.response.status_code"].map(|name| several.attributes[name].as_str());
    assert_eq!((several.failed, said), (true, ["503", "503"]));
    let requests = collector.spans().into_iter().filter(|span| span.name == HOLD).collect::<Vec<_>>();
    let is_known = |trace: &str, id: &str| requests.iter().any(|span| span.trace == trace && span.id == id);
    assert!(is_known(&several.trace, &several.parent));
    assert!(several.links.iter().all(|(trace, id)| is_known(trace, id) && *trace != several.trace));
}

#[tokio::test]
async fn what_is_forgotten_is_delivered_in_a_trace_of_its_own() {
    let (collector, receiver) = (Collector::start().await, Receiver::start(|_| FINE).await);
    let server = traced(&collector, &[], |settings| settings.traces.remembered = 0).await;
    let (option, token) = (server.option(1).await, server.buyer("anna"));
    let hook = json!({"url": receiver.url(), "event_types": ["boxoffice.reservation.created"]});
    server.post("/v1/webhooks", &server.admin, hook).await.created();
    server.hold(&option, &token, &["S1"]).await;
    let delivered = receiver.wait_for(1).await.remove(0);
    let post = collector.until(|spans| spans.iter().find(|span| span.kind == 3).cloned()).await;
    assert_eq!((post.parent.as_str(), &post.links[..]), ("", &[][..]));
    assert_eq!(delivered.header("traceparent"), post.traceparent());
    assert_ne!(post.trace, collector.span(HOLD).await.trace);
}

#[tokio::test]
async fn what_is_not_chosen_is_nowhere() {
    let (collector, receiver) = (Collector::start().await, Receiver::start(|_| FINE).await);
    let none: [&[(&str, &str)]; 3] = [
        &[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")],
        &[("OTEL_TRACES_SAMPLER", "always_off")],
        &[("OTEL_SDK_DISABLED", "true")],
    ];
    for (turn, variables) in none.into_iter().enumerate() {
        let server = traced(&collector, variables, |_| ()).await;
        let hook = json!({"url": receiver.url(), "event_types": ["boxoffice.reservation.created"]});
        server.post("/v1/webhooks", &server.admin, hook).await.created();
        let (option, token) = (server.option(1).await, server.buyer("anna"));
        hold_with(&server, &option, &token, "S1", GIVEN).await.created();
        let delivered = receiver.wait_for(turn + 1).await.remove(turn);
        assert!(!delivered.headers.contains_key("traceparent"), "{variables:?}");
        for figure in ["boxoffice_spans_sent_total", "boxoffice_spans_dropped_total{reason=\"not_taken\"}"] {
            assert_eq!(server.figure(figure).await, 0.0, "{variables:?}");
        }
    }
    assert_eq!(collector.0.connections(), 0);
}

/// Waits until the figures of spans are so many: sent, of which there was no room, and not taken.
async fn figures(server: &Server, wanted: impl Fn([f64; 3]) -> bool) {
    let begun = std::time::Instant::now();
    loop {
        let mut figures = [0.0; 3];
        for (figure, name) in figures.iter_mut().zip([
            "boxoffice_spans_sent_total",
            "boxoffice_spans_dropped_total{reason=\"no_room\"}",
            "boxoffice_spans_dropped_total{reason=\"not_taken\"}",
        ]) {
            *figure = server.figure(name).await;
        }
        if wanted(figures) {
            return;
        }
        assert!(begun.elapsed() < crate::receiver::PATIENCE, "they stay {figures:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_a_collector_all_goes_on_and_what_is_dropped_is_counted() {
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::with(|settings| {
        settings.exporting = collector::exporting(&format!("http://{nobody}"), &[]);
    })
    .await;
    let (option, token) = (server.option(1).await, server.buyer("anna"));
    server.hold(&option, &token, &["S1"]).await;
    // Each of the three requests, what was decided for it, and what was committed.
    figures(&server, |[sent, no_room, not_taken]| sent == 0.0 && no_room == 0.0 && not_taken >= 9.0).await;
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_nothing_else() {
    let collector = Collector::saying(|_| Say::Late(Duration::from_secs(3_600))).await;
    let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "5"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "600")];
    let server = traced(&collector, &small, |_| ()).await;
    for n in 0..20 {
        server.charge(&format!("user-{n}"), 1).await;
    }
    figures(&server, |[sent, no_room, not_taken]| sent == 0.0 && no_room > 0.0 && not_taken > 0.0).await;
}

#[tokio::test]
async fn a_collector_that_refuses_is_believed() {
    let collector = Collector::saying(|_| Say::Status(400, "", "no")).await;
    let server = traced(&collector, &[], |_| ()).await;
    server.charge("anna", 1).await;
    figures(&server, |[sent, _, not_taken]| sent == 0.0 && not_taken == 3.0).await;
    // It takes the request, and rejects two of what is in it: partial_success { rejected_spans: 2 }.
    collector.0.change(|_| Say::Status(200, "", "\n\x02\x08\x02"));
    server.charge("anna", 1).await;
    figures(&server, |[sent, _, not_taken]| sent == 1.0 && not_taken == 5.0).await;
}

#[tokio::test]
async fn who_stops_sends_what_waits() {
    let collector = Collector::start().await;
    let server = traced(&collector, &[("OTEL_BSP_SCHEDULE_DELAY", "600000")], |_| ()).await;
    server.charge("anna", 1).await;
    assert_eq!(collector.spans(), []);
    drop(server);
    let names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["POST /v1/users/{user_id}/wallet/charges", "decide", "commit"]);
}

#[tokio::test]
async fn the_environment_of_the_program_counts_and_a_bad_value_does_not_stop_it() {
    let (collector, dir) = (Collector::start().await, tempfile::tempdir().unwrap());
    let log = dir.path().join("log");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}/", collector.0.address)),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20hunter2".to_owned()),
        ("OTEL_TRACES_SAMPLER", "always_on".to_owned()),
        ("OTEL_RESOURCE_ATTRIBUTES", "no pairs".to_owned()),
    ];
    let (child, lines) = process::serve_in(dir.path(), &variables, Stdio::from(std::fs::File::create(&log).unwrap()));
    let address = lines.last().unwrap().strip_prefix("listening on ").unwrap();
    let healthy = crate::harness::client().get(format!("{address}/healthz")).send().await.unwrap();
    assert_eq!(healthy.status(), 200);
    assert_eq!(process::terminate(child).0, Some(0));
    let delivered = collector.0.delivered().remove(0);
    assert_eq!((delivered.path.as_str(), delivered.header("authorization")), ("/v1/traces", "Basic hunter2"));
    assert_eq!(collector::resource(&delivered.body)["service.name"], "boxoffice");
    assert_eq!(collector.spans()[0].name, "GET /healthz");
    let log = std::fs::read_to_string(log).unwrap();
    let warned: Vec<_> = log.lines().filter(|line| line.contains("OTEL_")).collect();
    assert!(
        matches!(warned[..], [line] if line.contains("WARN") && line.contains("OTEL_RESOURCE_ATTRIBUTES")),
        "{log}"
    );
    assert!(!log.contains("hunter2"));
}

#[tokio::test]
async fn an_expired_hold_has_no_request_and_a_trace_of_its_own() {
    let (collector, receiver) = (Collector::start().await, Receiver::start(|_| FINE).await);
    let clock = ManualClock::at(Timestamp::from_millis(1_796_000_000_000));
    let server = Server::with_clock(&clock, |settings| {
        collector.configure(settings, &[]);
        settings.webhooks.allow_private_addresses = true;
    })
    .await;
    let hook = json!({"url": receiver.url(), "event_types": ["boxoffice.reservation.expired"]});
    server.post("/v1/webhooks", &server.admin, hook).await.created();
    let (option, token) = (server.option(1).await, server.buyer("anna"));
    server.hold(&option, &token, &["S1"]).await;
    clock.advance(3_600_000);
    receiver.wait_for(1).await;
    let post = collector.until(|spans| spans.iter().find(|span| span.kind == 3).cloned()).await;
    assert_eq!((post.parent.as_str(), post.failed), ("", false));
    assert!(!collector.spans().iter().any(|span| span.kind == 2 && span.trace == post.trace));
    assert_eq!(Value::from(post.attributes["cloudevents.event_type"].as_str()), "boxoffice.reservation.expired");
}
