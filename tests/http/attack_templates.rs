//! Templates that are written to take the server's memory, time or stack.

use std::time::{Duration, Instant};

use boxoffice::domain::sink::{Destination, Format};
use boxoffice::server::config::Settings;
use boxoffice::{Engine, EventFilter, Start};
use serde_json::{Value, json};

use crate::harness::{Server, in_full};
use crate::receiver::{FINE, Receiver, until};

/// How long a registration may take: what is promised is about a build for release that has the machine for itself.
const ANSWER_MAX: Duration = if cfg!(debug_assertions) { Duration::from_secs(10) } else { Duration::from_secs(1) };

fn quick(settings: &mut Settings) {
    settings.webhooks.allow_private_addresses = true;
    settings.webhooks.retry_schedule = ["1h"].map(|text| text.parse().unwrap()).to_vec();
    settings.webhooks.breaker_failures = 2;
}

/// A text that doubles so often.
fn doubled(times: usize) -> String {
    format!("{{% set x = data.id %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(times))
}

fn nested(open: &str, inside: &str, close: &str, times: usize) -> String {
    format!("{}{inside}{}", open.repeat(times), close.repeat(times))
}

/// Attacks, each with what is said of it. `size` is how much of everything there is: 1 at the most.
fn attacks(size: f64) -> Vec<(String, &'static str)> {
    let many = |most: usize| ((most as f64 * size) as usize).max(1);
    let thousand = "x".repeat(many(1_000));
    let digits = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let capture = "{% set x %}{{ x }}{{ x }}{% endset %}".repeat(many(30));
    let mut attacks = vec![
        // What one step makes out of little.
        (format!("{{{{ event | tojson(indent={}) }}}}", many(99_999_999)), "tojson"),
        (doubled(many(24)), "over 1048576 bytes of work"),
        (format!("{{% set x = data.id %}}{capture}{{{{ x }}}}"), "over 1048576 bytes of work"),
        (format!("{{% for a in ['x'] * {} %}}{{% endfor %}}1", many(100_000_000)), "`*` takes whole numbers"),
        (format!("{{{{ 'x' * {} }}}}", many(100_000_000)), "`*` takes whole numbers"),
        (
            format!("{{% set x = '{thousand}' %}}{{{{ x | replace('', x) | replace('', x) | replace('', x) }}}}"),
            "over 1048576 bytes of work",
        ),
        (
            format!("{{% set x = '{thousand}' %}}{{{{ x | replace('x', x) | replace('x', x) | length }}}}"),
            "over 1048576 bytes of work",
        ),
        (
            format!("{{% set a = [1, 2, 3, 4] %}}{}{{{{ a }}}}", "{% set a = [a, a, a, a] %}".repeat(many(20))),
            "lists hold no lists",
        ),
        (
            format!("{{% set a = '{thousand}' %}}{}{{{{ a }}}}", "{% set a = [a, a] | join(a) %}".repeat(many(9))),
            "over 1048576 bytes of work",
        ),
        (format!("{{{{ event.time | time('{}') }}}}", "%255Y".repeat(many(1_500))), "format"),
        ("{{ 2 ** 999999 }}".into(), "`**`"),
        ("{{ 170141183460469231731687303715884105727 * 9 }}".into(), "too large"),
        (format!("{{{{ {} }}}}", "9".repeat(many(8_000).max(100))), "too large"),
        ("{{ data.id[::99999999] }}".into(), "expected a value"),
        // Many steps, and what each of them looks at.
        (
            format!("{{% set d = {digits} %}}{}1", nested("{% for a in d %}", "", "{% endfor %}", 8)),
            "over 100000 steps",
        ),
        (
            format!(
                "{{% set x = '{}' %}}{}1",
                "x".repeat(4_000),
                nested(&format!("{{% for a in {digits} %}}"), "{% if x == x ~ a %}{% endif %}", "{% endfor %}", 5)
            ),
            "over 1048576 bytes of work",
        ),
        (
            format!(
                "{{% set x = '{}' %}}{}1",
                "x".repeat(4_000),
                nested(&format!("{{% for a in {digits} %}}"), "{% if 'y' in x %}{% endif %}", "{% endfor %}", 5)
            ),
            "over 1048576 bytes of work",
        ),
        (
            format!("[{}0]", nested(&format!("{{% for a in {digits} %}}"), &"1,".repeat(2_000), "{% endfor %}", 3)),
            "over ",
        ),
        // What has no place in a message.
        ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}".into(), "`macro`"),
        ("{% include 'en' %}".into(), "`include`"),
        ("{% extends 'en' %}".into(), "`extends`"),
        ("{% block a %}1{% endblock %}".into(), "`block`"),
        ("{% for a in data.seats recursive %}{{ loop(data.seats) }}{% endfor %}1".into(), "expected `%}`"),
        ("{{ range(99999999) | list }}".into(), "calls"),
        ("{{ lipsum(n=9999) }}".into(), "calls"),
        ("{{ debug() }}".into(), "calls"),
        ("{% set n = namespace(x=1) %}1".into(), "calls"),
        ("{{ data.id.ljust(99999999) }}".into(), "calls"),
        ("{{ '%0999999999d' | format(1) }}".into(), "filter format"),
        ("{{ event | pprint }}".into(), "filter pprint"),
        ("{{ data.id | indent(99999999) }}".into(), "filter indent"),
        ("{{ data.id | center(99999999) }}".into(), "filter center"),
        ("{{ data.id | list | batch(99999999, 'x') }}".into(), "filter list"),
    ];
    // What recursion meets, as long as a template may be.
    for (open, inside, close) in [
        ("-", "1", ""),
        ("not ", "1", ""),
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("1 if 1 else ", "1", ""),
        ("1 ~ ", "1", ""),
        ("1 + ", "1", ""),
        ("1 and ", "1", ""),
        ("1 == ", "1", ""),
        ("", "data", ".a"),
        ("", "data", "[0]"),
        ("", "1", "|string"),
        ("", "1", " is defined"),
        ("{1:", "1", "}"),
        ("f(", "1", ")"),
        ("x[", "1", "]"),
    ] {
        let times = many(8_000 / (open.len() + close.len()));
        attacks.push((format!("{{{{ {} }}}}", nested(open, inside, close, times)), ""));
    }
    for (open, inside, close) in [
        ("{% if 1 %}", "1", "{% endif %}"),
        ("{% for a in [1] %}", "1", "{% endfor %}"),
        ("{% set x %}", "1", "{% endset %}"),
        ("{% autoescape true %}", "1", "{% endautoescape %}"),
    ] {
        attacks.push((nested(open, inside, close, many(8_000 / (open.len() + close.len()))), ""));
    }
    attacks.push((format!("{{% set {}x = 1 %}}1", "(".repeat(many(8_000))), ""));
    attacks.push((format!("{{% if 0 %}}{}1{{% endif %}}", "{% elif 0 %}".repeat(many(650))), ""));
    attacks
}

#[tokio::test]
async fn none_is_registered_or_costs_more_than_a_moment() {
    let server = Server::with(quick).await;
    let mut wrong = Vec::new();
    let sizes: &[f64] = if in_full() { &[0.2, 0.5, 1.0] } else { &[1.0] };
    for (template, message) in sizes.iter().flat_map(|size| attacks(*size)) {
        assert!(template.len() <= 8_192, "{} bytes: {}", template.len(), &template[..60]);
        let begun = Instant::now();
        let types = json!(["boxoffice.payment.completed"]);
        let body =
            json!({"url": "http://127.0.0.1:9/", "format": "template", "template": template, "event_types": types});
        let answer = server.post("/v1/webhooks", &server.admin, body).await;
        let took = begun.elapsed();
        let shown: String = template.chars().take(80).collect();
        // Some are harmless when they are small, and then it does not matter.
        let may_pass = message.is_empty() || sizes.len() > 1;
        assert!(took < ANSWER_MAX, "{shown}: {took:?}");
        if answer.status == 201 && may_pass {
            let path = format!("/v1/webhooks/{}", answer.created());
            assert_eq!(server.ask("DELETE", &path, &server.admin, Value::Null).await.status, 204);
            continue;
        }
        assert_eq!((answer.status, answer.fields()), (400, vec!["template"]), "{shown}: {answer:?}");
        let said = answer.body["errors"][0]["message"].as_str().unwrap();
        if said.len() > 300 || !(said.contains(message) || sizes.len() > 1) {
            wrong.push(format!("{shown}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Fine with every sample, and a bomb for one amount.
fn bomb() -> String {
    format!(
        "{{% if data.amount == 777 %}}{{% set x = data.id %}}{}{{{{ x }}}}{{% else %}}{{{{ data.amount }}}}{{% endif %}}",
        "{% set x = x ~ x %}".repeat(45)
    )
}

fn amounts(receiver: &Receiver) -> Vec<Value> {
    receiver.delivered().iter().map(|one| one.json()).collect()
}

#[tokio::test]
async fn one_that_explodes_for_one_amount_costs_that_event_and_nothing_else() {
    let mut server = Server::with(quick).await;
    let receiver = Receiver::start(|_| FINE).await;
    let body = json!({"url": receiver.url(), "format": "template", "template": bomb(),
        "event_types": ["boxoffice.wallet.charged"]});
    let path = format!("/v1/webhooks/{}", server.post("/v1/webhooks", &server.admin, body).await.created());
    let users = if in_full() { 300 } else { 3 };
    let mut sent = 0;
    for round in 1..=2_u64 {
        for user in 0..users {
            server.charge(&format!("bad-{round}-{user}"), 777).await;
            server.charge(&format!("good-{round}-{user}"), 5).await;
        }
        sent += users;
        receiver.wait_for(sent as usize).await;
        let ask = async || server.get(&path, &server.admin).await.body;
        let state = until(ask, |state| state["dead_letters"] == round * users && state["lag"] == 0).await;
        // It says nothing about the receiver, which is neither asked again nor left alone.
        assert_eq!((&state["breaker"], &state["parked"]), (&json!("closed"), &json!(round * users)), "{state}");
        let letters = server.get(&format!("{path}/dead-letters?limit=1"), &server.admin).await.body;
        assert_eq!(letters["items"][0]["attempts"], 1, "{letters}");
        let why = letters["items"][0]["last_response"]["text"].as_str().unwrap();
        assert!(why.contains("the template: line 1: takes over 1048576 bytes of work"), "{why}");
        server = server.restart(|_| ()).await;
    }
    // What was given up comes again when an operator wants it to, and is given up again.
    let redriven = server.post(&format!("{path}/redrive"), &server.admin, json!({})).await;
    assert_eq!(redriven.body["redriven"], 2 * users);
    let ask = async || server.get(&path, &server.admin).await.body;
    until(ask, |state| state["attempts"]["failed"] == 2 * users && state["dead_letters"] == 2 * users).await;
    assert_eq!(amounts(&receiver), vec![json!(5); sent as usize]);
}

/// As an earlier version of this program took it.
async fn put(settings: Settings, url: String, template: &'static str) {
    let put = move || {
        actix_web::rt::System::new().block_on(async {
            let engine = Engine::open(settings.engine()).await.unwrap();
            let receiver = Destination::Webhook { url, format: Format::Template(template.into()) };
            engine.register_sink(receiver, EventFilter::ALL, Start::Now).await.unwrap();
            engine.shutdown().await.unwrap();
        });
    };
    std::thread::spawn(put).join().unwrap();
}

#[tokio::test]
async fn one_that_was_stored_before_there_were_bounds_makes_dead_letters() {
    let receiver = Receiver::start(|_| FINE).await;
    let stored = [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ event | tojson(indent=99999999) }}",
        "{% for a in ['x'] * 100000000 %}{% endfor %}1",
        "{{ data.nobody }}",
    ];
    let mut server = Server::with(quick).await;
    for template in stored {
        let url = receiver.url();
        server = server
            .restart(|data_dir| {
                let settings = Settings { data_dir: data_dir.into(), ..Settings::default() };
                let done = std::thread::spawn(move || {
                    tokio::runtime::Runtime::new().unwrap().block_on(put(settings, url, template));
                });
                done.join().unwrap();
            })
            .await;
    }
    let fine = json!({"url": receiver.url()});
    server.post("/v1/webhooks", &server.admin, fine).await.created();
    server.charge("anna", 5).await;
    server.charge("ben", 6).await;
    for id in 1..=stored.len() {
        let path = format!("/v1/webhooks/w{id}");
        let ask = async || server.get(&path, &server.admin).await.body;
        let state = until(ask, |state| state["dead_letters"] == 2 && state["lag"] == 0).await;
        assert_eq!(state["breaker"], "closed", "{state}");
        assert!(state["last_failure"]["text"].as_str().unwrap().contains("line 1: "), "{state}");
    }
    receiver.wait_for(2).await;
    assert_eq!(receiver.delivered().len(), 2, "the sound one's");
}
