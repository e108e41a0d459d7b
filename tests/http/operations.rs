//! What operators are told to look at is there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Server;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const ALERTS: &str = include_str!("../../docs/prometheus-alerts.yml");
const RUNBOOK: &str = include_str!("../../docs/OPERATIONS.md");
const METRICS: &str = include_str!("../../src/server/metrics.rs");

/// The figures that a text names.
fn figures(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("boxoffice_")).collect()
}

/// Whether it is a figure of a node of a cluster, which a machine of its own does not show.
fn is_of_a_node(figure: &str) -> bool {
    figure.starts_with("boxoffice_cluster_")
}

/// All figures, once those of the sales are among them.
async fn text_with_sales(server: &Server) -> String {
    let text = async || {
        let answer = server.client.get(format!("http://{}/metrics", server.ops)).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let told = async {
        loop {
            let text = text().await;
            if text.contains("boxoffice_sale_seats{") {
                return text;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a sample is taken")
}

#[test]
fn every_figure_of_a_node_is_made() {
    let named: BTreeSet<_> =
        figures(ALERTS).union(&figures(RUNBOOK)).copied().filter(|name| is_of_a_node(name)).collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        let made = name.trim_start_matches("boxoffice_").trim_end_matches("_total").trim_end_matches("_seconds");
        assert!(METRICS.contains(&format!("\"{made}\"")), "{name}");
    }
}

#[tokio::test]
async fn every_figure_in_an_alert_is_there() {
    let server = Server::with(|settings| {
        settings.webhooks.allow_private_addresses = true;
        settings.history.interval.0 = Duration::from_millis(100);
    })
    .await;
    server.post("/v1/webhooks", &server.admin, json!({"url": "http://127.0.0.1:9/"})).await.created();
    server.option(1).await;
    let metrics = text_with_sales(&server).await;
    // A sample begins with its name, and what is said about a family does not count.
    let samples: BTreeSet<_> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split([' ', '{']).next().unwrap())
        .collect();
    let named = figures(ALERTS);
    assert!(named.len() > 10, "{named:?}");
    for name in named.into_iter().filter(|name| !is_of_a_node(name)) {
        assert!(samples.contains(name), "{name} is not among {samples:?}");
    }
    // A stream of NATS has such a name too.
    let is_figure = |name: &&str| !is_of_a_node(name) && *name != "boxoffice_plans";
    for name in figures(RUNBOOK).into_iter().filter(is_figure) {
        let is_there = samples.contains(name) || samples.contains(format!("{name}_bucket").as_str());
        assert!(is_there, "{name} is not among {samples:?}");
    }
}

/// Of performances that are followed, from the first sample on.
#[tokio::test]
async fn what_sells_is_told() {
    let server = Server::with(|settings| settings.history.interval.0 = Duration::from_millis(100)).await;
    let option = server.option(9).await;
    let concert =
        server.get(&format!("/v1/options/{option}"), "").await.body["concert_id"].as_str().unwrap().to_owned();
    let anna = server.buyer("anna");
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1", "S2"]).await;
    let payment = server.post(&format!("/v1/reservations/{held}/payments"), &anna, Value::Null).await.created();
    server.hold(&option, &anna, &["S3"]).await;
    server.post(&format!("/v1/options/{option}/blocks"), &server.admin, json!({"seats": ["S4"]})).await;
    let seats = |state: &str| format!("boxoffice_sale_seats{{option_id=\"{option}\",state=\"{state}\"}}");
    let revenue = format!("boxoffice_sale_revenue{{option_id=\"{option}\",currency=\"KRW\"}}");
    let line = format!("boxoffice_sale_line{{concert_id=\"{concert}\",status=\"waiting\"}}");
    text_with_sales(&server).await;
    for (state, count) in [("available", 25.0), ("held", 1.0), ("sold", 2.0), ("blocked", 1.0)] {
        assert_eq!(server.figure(&seats(state)).await, count, "{state}");
    }
    assert_eq!((server.figure(&revenue).await, server.figure(&line).await), (200.0, 0.0));
    let part = json!({"seats": ["S1"]});
    let refunded = server.post(&format!("/v1/payments/{payment}/refunds"), &server.admin, part).await;
    assert_eq!(refunded.status, 201, "{refunded:?}");
    assert_eq!((server.figure(&revenue).await, server.figure(&seats("sold")).await), (100.0, 1.0));
}

/// Also those in lines that nobody has looked at since the start.
#[tokio::test]
async fn everybody_in_line_counts() {
    let mut server = Server::start().await;
    assert_eq!(server.figure("boxoffice_waiting_tokens").await, 0.0);
    for concert in ["c1", "c2"] {
        server.concert().await;
        let room = json!({"mode": "queue", "max_active": 1});
        server.ask("PATCH", &format!("/v1/concerts/{concert}/waiting-room"), &server.admin, room).await;
        for name in ["anna", "ben", "carl"] {
            let buyer = server.buyer(name);
            server.post(&format!("/v1/concerts/{concert}/tokens"), &buyer, Value::Null).await.created();
        }
    }
    for restarts in 0..2 {
        // Whoever comes first in a line is let in at its next tick.
        let waiting = async { while server.figure("boxoffice_waiting_tokens").await != 4.0 {} };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("after {restarts} restarts"));
        server = server.restart(|_| {}).await;
    }
}

#[test]
fn every_alert_leads_to_what_to_do() {
    let alarms = RUNBOOK.split("\n## ").find(|chapter| chapter.starts_with("Alarms\n")).unwrap();
    let headings: BTreeSet<_> = alarms
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let mut led_to = BTreeSet::new();
    for alert in ALERTS.split("- alert: ").skip(1) {
        let runbook = alert.lines().find_map(|line| line.trim().strip_prefix("runbook: \"docs/OPERATIONS.md#"));
        let heading = runbook.unwrap_or_else(|| panic!("no runbook: {alert}")).trim_end_matches('"');
        assert!(headings.contains(heading), "{heading}");
        led_to.insert(heading.to_owned());
    }
    // A damaged segment is found when nobody is there to raise an alarm, another journal shows in what the other nodes say, Kafka
    // is one of those whose alarm is "sink down", and where the keys of a login are shows in `/readyz`.
    let others: Vec<_> = headings.difference(&led_to).collect();
    assert_eq!(others, ["another-journal-than-most", "damaged-segment", "kafka-gone", "keys-of-the-login"]);
}

/// The format that a scraper has not asked for otherwise is the one that all of them read.
#[tokio::test]
async fn figures_come_as_they_are_asked_for() {
    let server = Server::start().await;
    for (accept, is_open) in [
        ("", false),
        ("*/*", false),
        ("text/plain", false),
        ("application/openmetrics-text;version=1.0.0", true),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.5", false),
        ("application/openmetrics-text;q=0", false),
    ] {
        let url = format!("http://{}/metrics", server.ops);
        let answer = server.client.get(url).header("accept", accept).send().await.unwrap();
        let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let text = answer.text().await.unwrap();
        let wanted = if is_open { "application/openmetrics-text; version=1.0.0" } else { "text/plain; version=0.0.4" };
        assert!(media_type.starts_with(wanted), "{accept}: {media_type}");
        assert_eq!((text.ends_with("# EOF\n"), text.contains("# UNIT ")), (is_open, is_open), "{accept}");
        let counter =
            if is_open { "# TYPE process_cpu_seconds counter\n" } else { "# TYPE process_cpu_seconds_total counter\n" };
        assert!(text.contains(counter), "{accept}: {text}");
    }
    for name in ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds"] {
        assert!(server.figure(&format!("process_{name}")).await > 0.0, "{name}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = server.figure("process_start_time_seconds").await;
    assert!(started < now + 2.0 && started > now - 86_400.0, "{started}");
}
