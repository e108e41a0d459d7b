//! Payments by a provider of kind `reported`: the whole contract, over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::{Provider, ProviderKind, Secret};
use serde_json::{Value, json};

use crate::harness::{Answer, Server, option_body};

/// A server that takes cards.
pub async fn server() -> Server {
    Server::with(|settings| {
        let card = Provider { name: "card".into(), minimum: 50_u32.into(), ..Provider::default() };
        let off = Provider { name: "off".into(), enabled: false, ..Provider::default() };
        settings.payments.providers = vec![card, off];
    })
    .await
}

pub fn cashier(server: &Server) -> String {
    auth::issue(&server.settings, &"bank".parse().unwrap(), Some(Role::Payments), Duration::from_secs(600)).unwrap()
}

pub fn card_option(seats: usize) -> Value {
    let mut body = option_body(seats);
    body["payment_methods"] = json!(["points", "card", "off"]);
    body["currency"] = json!("KRW");
    body["refundable_until"] = json!("2099-11-01T00:00:00.000Z");
    body
}

pub async fn option(server: &Server, seats: usize) -> String {
    let concert = server.concert().await;
    server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, card_option(seats)).await.created()
}

/// A reservation of `seat`, and a pending payment of it.
pub async fn pending(server: &Server, option: &str, buyer: &str, seat: &str) -> (String, String) {
    let reservation = server.hold(option, buyer, &[seat]).await;
    let path = format!("/v1/reservations/{reservation}/payments");
    let payment = server.post(&path, buyer, json!({"method": "card"})).await.created();
    (reservation, payment)
}

pub async fn fact(server: &Server, payment: &str, body: Value) -> Answer {
    server.post(&format!("/v1/payments/{payment}/facts"), &cashier(server), body).await
}

pub async fn told(server: &Server, payment: &str, kind: &str, reference: &str) -> Value {
    let told = fact(server, payment, json!({"kind": kind, "reference": reference, "amount": 100})).await;
    assert_eq!(told.status, 200, "{told:?}");
    told.body
}

async fn owed(server: &Server) -> Vec<Value> {
    let listed = server.get("/v1/payments?owed=true", &cashier(server)).await;
    assert_eq!(listed.status, 200, "{listed:?}");
    listed.body["items"].as_array().unwrap().clone()
}

#[actix_web::test]
async fn figures_tell_how_long_somebody_has_waited_for_money() {
    let server = server().await;
    let (anna, option) = (server.buyer("anna"), option(&server, 2).await);
    let refunds = |kind: &str| format!("boxoffice_payments_owed{{kind=\"{kind}\"}}");
    let age = "boxoffice_payments_owed_age_seconds{kind=\"refund\"}";
    let (_, payment) = pending(&server, &option, &anna, "S1").await;
    assert_eq!((server.figure(&refunds("refund")).await, server.figure(age).await), (0.0, 0.0));
    // More than was asked for.
    let more = json!({"kind": "captured", "reference": "ch", "amount": 150});
    assert_eq!(fact(&server, &payment, more).await.status, 200);
    while server.figure(age).await == 0.0 {}
    assert_eq!((server.figure(&refunds("refund")).await, server.figure(&refunds("void")).await), (1.0, 0.0));
    let back = json!({"kind": "refunded", "reference": "ch", "amount": 150});
    assert_eq!(fact(&server, &payment, back).await.status, 200);
    assert_eq!((server.figure(&refunds("refund")).await, server.figure(age).await), (0.0, 0.0));
}

#[actix_web::test]
async fn a_payment_goes_the_whole_way() {
    let server = server().await;
    let (anna, option) = (server.buyer("anna"), option(&server, 2).await);
    let reservation = server.hold(&option, &anna, &["S1"]).await;
    let path = format!("/v1/reservations/{reservation}/payments");
    let begun = server.post(&path, &anna, json!({"method": "card"})).await;
    let payment = begun.created();
    assert_eq!(begun.header("location"), format!("/v1/payments/{payment}"));
    for (member, expected) in [
        ("reservation_id", json!(reservation)),
        ("user_id", json!("anna")),
        ("method", json!("card")),
        ("amount", json!(100)),
        ("currency", json!("KRW")),
        ("status", json!("pending")),
        ("verdict", Value::Null),
        ("refunded", json!(0)),
        ("disputed", json!(false)),
        ("paid_at", Value::Null),
    ] {
        assert_eq!(begun.body[member], expected, "{member}: {begun:?}");
    }
    assert!(begun.body["provider_id"].as_str().unwrap().ends_with(&format!("-{payment}")), "{begun:?}");
    assert!(begun.body["expires_at"].is_string());
    // Another call, by whatever method.
    for body in [json!({}), json!({"method": "card"})] {
        let again = server.post(&path, &anna, body).await;
        assert_eq!((again.code(), &again.body["payment_id"]), ((409, "payment_pending"), &json!(payment)));
    }
    told(&server, &payment, "opened", "ch_1").await;
    let authorized = told(&server, &payment, "authorized", "ch_1").await;
    assert_eq!((&authorized["status"], &authorized["verdict"]), (&json!("authorized"), &json!("capture")));
    let late = server.ask("DELETE", &format!("/v1/payments/{payment}"), &anna, Value::Null).await;
    assert_eq!(late.code(), (409, "payment_under_way"));
    let listed = owed(&server).await;
    let item = &listed[0]["owed"][0];
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(payment)));
    let of = |member: &str| item[member].clone();
    assert_eq!(
        (of("kind"), of("reference"), of("amount"), of("attempts")),
        (json!("capture"), json!("ch_1"), json!(100), json!(0))
    );
    assert!(item["id"].is_string() && item["since"].is_string());
    let completed = told(&server, &payment, "captured", "ch_1").await;
    assert_eq!((&completed["status"], &completed["verdict"]), (&json!("completed"), &Value::Null));
    assert!(completed["paid_at"].is_string());
    assert!(owed(&server).await.is_empty());
    let reservation = server.get(&format!("/v1/reservations/{reservation}"), &anna).await;
    assert_eq!(reservation.body["status"], "confirmed");
    let refund = server.post(&format!("/v1/payments/{payment}/refunds"), &anna, Value::Null).await;
    assert_eq!(refund.status, 202, "{refund:?}");
    assert_eq!(
        (&refund.body["payment_id"], &refund.body["amount"], &refund.body["status"]),
        (&json!(payment), &json!(100), &json!("owed"))
    );
    assert_eq!(server.get(&format!("/v1/payments/{payment}"), &anna).await.body["status"], "refund_owed");
    let again = server.post(&format!("/v1/payments/{payment}/refunds"), &anna, Value::Null).await;
    assert_eq!(again.code(), (409, "not_refundable"));
    assert_eq!(owed(&server).await[0]["owed"][0]["kind"], "refund");
    let refunded = told(&server, &payment, "refunded", "ch_1").await;
    assert_eq!((&refunded["status"], &refunded["refunded"]), (&json!("refunded"), &json!(100)));
    // All of it was told.
    let events = server.get("/v1/events?limit=100", &server.admin).await;
    let kinds = events.body["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned());
    let kinds: Vec<_> = kinds.filter(|kind| kind.contains(".payment.") || kind.contains(".reservation.")).collect();
    let expected = [
        "reservation.created",
        "payment.pending",
        "payment.authorized",
        "payment.capture_requested",
        "reservation.confirmed",
        "payment.completed",
        "reservation.refunded",
        "payment.refund_owed",
        "payment.refund_requested",
        "payment.refunded",
    ];
    assert_eq!(kinds, expected.map(|kind| format!("boxoffice.{kind}")));
    let server = server.restart(|_| ()).await;
    assert_eq!(server.get(&format!("/v1/payments/{payment}"), &anna).await.body, refunded);
}

#[actix_web::test]
async fn a_pending_payment_can_be_given_up() {
    let server = server().await;
    let (anna, option) = (server.buyer("anna"), option(&server, 2).await);
    let (reservation, payment) = pending(&server, &option, &anna, "S1").await;
    let server = server.restart(|_| ()).await;
    let path = format!("/v1/payments/{payment}");
    assert_eq!(server.ask("DELETE", &path, &server.buyer("bob"), Value::Null).await.code(), (404, "not_found"));
    for _ in 0..2 {
        let given_up = server.ask("DELETE", &path, &anna, Value::Null).await;
        assert_eq!((given_up.status, &given_up.body["status"]), (200, &json!("voiding")), "{given_up:?}");
    }
    let held = server.get(&format!("/v1/reservations/{reservation}"), &anna).await;
    assert_eq!(held.body["status"], "held");
    assert_eq!(owed(&server).await[0]["owed"][0]["kind"], "check");
    // It is paid by another one, and what is taken of the first goes back.
    let second =
        server.post(&format!("/v1/reservations/{reservation}/payments"), &anna, json!({"method": "card"})).await;
    told(&server, &second.created(), "captured", "ch_2").await;
    assert_eq!(told(&server, &payment, "captured", "ch_1").await["verdict"], "refund");
    let shortfall = server.get("/v1/payments?shortfall=true", &server.admin).await;
    assert_eq!(shortfall.body["items"], json!([]));
}

/// Every fact in every state: what the payment is then, and its verdict.
#[actix_web::test]
async fn every_fact_in_every_state() {
    const KINDS: [&str; 10] = [
        "opened",
        "authorized",
        "captured",
        "failed",
        "voided",
        "refunded",
        "refund_failed",
        "disputed",
        "dispute_won",
        "dispute_lost",
    ];
    let server = server().await;
    let anna = server.buyer("anna");
    let table: &[(&str, &[&str], [&str; 10])] = &[
        (
            "pending",
            &[],
            [
                "pending",
                "authorized capture",
                "completed",
                "failed",
                "voided",
                "refunded",
                "pending",
                "pending",
                "pending",
                "refunded",
            ],
        ),
        (
            "authorized",
            &["authorized"],
            [
                "authorized capture",
                "authorized capture",
                "completed",
                "failed",
                "voided",
                "refunded",
                "authorized capture",
                "authorized capture",
                "authorized capture",
                "refunded",
            ],
        ),
        (
            "completed",
            &["captured"],
            [
                "completed",
                "completed",
                "completed",
                "completed",
                "completed",
                "refunded",
                "completed",
                "completed",
                "completed",
                "completed",
            ],
        ),
        (
            "given up",
            &["DELETE"],
            [
                "voiding void",
                "authorized capture",
                "completed",
                "voided",
                "voided",
                "refunded",
                // It may have taken money.
                "voiding",
                "voiding",
                "voiding",
                "refunded",
            ],
        ),
        (
            "refund owed",
            &["captured", "REFUND"],
            [
                "refund_owed refund",
                "refund_owed refund",
                "refund_owed refund",
                "refund_owed refund",
                "refund_owed refund",
                "refunded",
                "refund_owed refund",
                "refund_owed",
                "refund_owed refund",
                "refunded",
            ],
        ),
        (
            "refunded",
            &["captured", "refunded"],
            [
                "refunded",
                "refunded",
                "refunded",
                "refunded",
                "refunded",
                "refunded",
                "refund_owed refund",
                "refunded",
                "refunded",
                "refunded",
            ],
        ),
        (
            "failed",
            &["failed"],
            ["failed", "failed", "completed", "failed", "failed", "refunded", "failed", "failed", "failed", "refunded"],
        ),
    ];
    for (state, before, expected) in table {
        let option = option(&server, KINDS.len()).await;
        for (n, (kind, expected)) in KINDS.iter().zip(expected).enumerate() {
            let (_, payment) = pending(&server, &option, &server.buyer(&format!("b{n}")), &format!("S{}", n + 1)).await;
            let buyer = server.buyer(&format!("b{n}"));
            let reference = format!("ch_{payment}");
            for step in *before {
                match *step {
                    "DELETE" => {
                        drop(server.ask("DELETE", &format!("/v1/payments/{payment}"), &buyer, Value::Null).await)
                    }
                    "REFUND" => {
                        let path = format!("/v1/payments/{payment}/refunds");
                        assert_eq!(server.post(&path, &server.admin, Value::Null).await.status, 202);
                    }
                    kind => drop(told(&server, &payment, kind, &reference).await),
                }
            }
            let is = told(&server, &payment, kind, &reference).await;
            let verdict = is["verdict"].as_str().unwrap_or_default();
            let found = format!("{} {verdict}", is["status"].as_str().unwrap());
            assert_eq!(found.trim(), *expected, "{state}, {kind}: {is}");
            assert_eq!(told(&server, &payment, kind, &reference).await, is, "{state}, {kind} again");
        }
    }
    drop(anna);
}

#[actix_web::test]
async fn what_is_refused() {
    let server = server().await;
    let (anna, option) = (server.buyer("anna"), option(&server, 9).await);
    let (_, first) = pending(&server, &option, &anna, "S1").await;
    let (_, second) = pending(&server, &option, &anna, "S2").await;
    told(&server, &first, "captured", "ch_1").await;
    let report =
        |kind: &str, reference: &str, amount: u64| json!({"kind": kind, "reference": reference, "amount": amount});
    // Another amount or currency of the same; another payment's reference.
    assert_eq!(fact(&server, &first, report("captured", "ch_1", 99)).await.code(), (409, "fact_conflict"));
    let mut euros = report("captured", "ch_1", 100);
    euros["currency"] = json!("EUR");
    assert_eq!(fact(&server, &first, euros.clone()).await.code(), (409, "fact_conflict"));
    assert_eq!(fact(&server, &second, report("captured", "ch_1", 100)).await.code(), (409, "reference_in_use"));
    // Another amount or currency of a charge of its own goes back.
    let less = fact(&server, &second, report("captured", "ch_2", 99)).await;
    assert_eq!((&less.body["status"], &less.body["verdict"]), (&json!("pending"), &json!("refund")));
    euros["reference"] = json!("ch_3");
    let other = fact(&server, &second, euros).await;
    assert_eq!((&other.body["status"], &other.body["verdict"]), (&json!("pending"), &json!("refund")));
    for (body, field) in [
        (json!({"kind": "paid", "reference": "a", "amount": 1}), "kind"),
        (json!({"kind": "captured", "reference": "", "amount": 1}), "reference"),
        (json!({"kind": "captured", "reference": "a".repeat(256), "amount": 1}), "reference"),
        (json!({"kind": "captured", "reference": "a", "amount": -1}), "amount"),
        (json!({"kind": "captured", "reference": "a"}), "amount"),
        (json!({"kind": "captured", "reference": "a", "amount": 1, "currency": "eur"}), "currency"),
        (json!({"kind": "captured", "reference": "a", "amount": 1, "id": ""}), "id"),
        (json!({"kind": "captured", "reference": "a", "amount": 1, "card": "4242"}), "card"),
    ] {
        let wrong = fact(&server, &second, body.clone()).await;
        assert_eq!((wrong.status, wrong.fields()), (400, vec![field]), "{body} {wrong:?}");
    }
    // What is no way to pay.
    let reservation = server.hold(&option, &anna, &["S3"]).await;
    let path = format!("/v1/reservations/{reservation}/payments");
    for body in [json!({"method": "cash"}), json!({"method": "off"}), json!({"method": 1})] {
        assert_eq!(server.post(&path, &anna, body.clone()).await.fields(), ["method"], "{body}");
    }
    let floor = json!({"areas": [{"name": "Floor", "count": 1}]});
    let cheap = server.post(&format!("/v1/options/{option}/reservations"), &anna, floor).await.created();
    let cheap = server.post(&format!("/v1/reservations/{cheap}/payments"), &anna, json!({"method": "card"})).await;
    assert_eq!((cheap.code(), &cheap.body["minimum"]), ((409, "amount_too_small"), &json!(50)));
    // An option that cannot be.
    let concert = server.concert().await;
    for (member, value, field) in [
        ("payment_methods", json!(["card", "cash"]), "payment_methods[1]"),
        ("payment_methods", json!(["card", "card"]), "payment_methods[1]"),
        ("currency", json!("EUR"), "currency"),
        ("currency", Value::Null, "currency"),
    ] {
        let mut body = card_option(1);
        body[member] = value;
        let wrong = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await;
        assert_eq!((wrong.status, wrong.fields()), (400, vec![field]));
    }
    let mut only_card = card_option(1);
    only_card["payment_methods"] = json!(["card"]);
    only_card["currency"] = json!("EUR");
    let made = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, only_card).await;
    assert_eq!((&made.body["payment_methods"], &made.body["currency"]), (&json!(["card"]), &json!("EUR")));
    let held = server.hold(&made.created(), &anna, &["S1"]).await;
    let points = server.post(&format!("/v1/reservations/{held}/payments"), &anna, json!({})).await;
    assert_eq!(points.fields(), ["method"]);
}

#[actix_web::test]
async fn the_role_payments_does_nothing_else() {
    let server = server().await;
    let (anna, bank, option) = (server.buyer("anna"), cashier(&server), option(&server, 2).await);
    let (reservation, payment) = pending(&server, &option, &anna, "S1").await;
    let captured = json!({"kind": "captured", "reference": "ch_1", "amount": 100});
    let facts = format!("/v1/payments/{payment}/facts");
    assert_eq!(server.post(&facts, &anna, captured.clone()).await.code(), (403, "forbidden"));
    assert_eq!(server.post(&facts, "", captured.clone()).await.status, 401);
    assert_eq!(server.post("/v1/payments/p9-9/facts", &bank, captured.clone()).await.code(), (404, "not_found"));
    assert_eq!(server.get("/v1/payments?owed=true", &anna).await.code(), (403, "forbidden"));
    for path in [format!("/v1/payments/{payment}"), "/v1/payments".into(), "/v1/payments?disputed=true".into()] {
        assert_eq!(server.get(&path, &bank).await.status, 200, "{path}");
    }
    for (method, path, body) in [
        ("GET", format!("/v1/reservations/{reservation}"), Value::Null),
        ("DELETE", format!("/v1/reservations/{reservation}"), Value::Null),
        ("DELETE", format!("/v1/payments/{payment}"), Value::Null),
        ("POST", format!("/v1/payments/{payment}/refunds"), Value::Null),
        ("POST", format!("/v1/reservations/{reservation}/payments"), json!({"method": "card"})),
        ("POST", format!("/v1/options/{option}/reservations"), json!({"seats": ["S2"]})),
        ("POST", format!("/v1/options/{option}/blocks"), json!({"seats": ["S2"]})),
        ("GET", "/v1/wallet".into(), Value::Null),
        ("GET", "/v1/events".into(), Value::Null),
        ("GET", "/v1/stats".into(), Value::Null),
        ("GET", "/v1/payments/reconciliation?provider=card&day=2026-11-29".into(), Value::Null),
        ("POST", "/v1/concerts".into(), json!({"title": "x"})),
    ] {
        let refused = server.ask(method, &path, &bank, body).await;
        assert_eq!(refused.code(), (403, "forbidden"), "{method} {path}");
    }
    assert_eq!(server.post(&facts, &server.admin, captured).await.body["status"], "completed");
}

#[actix_web::test]
async fn a_hundred_reports_of_one_capture_are_one() {
    let server = server().await;
    let (anna, option) = (server.buyer("anna"), option(&server, 2).await);
    let (_, payment) = pending(&server, &option, &anna, "S1").await;
    let reports = (0..100).map(|_| told(&server, &payment, "captured", "ch_1"));
    let answers = futures_util::future::join_all(reports).await;
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer["status"] == "completed"), "{answers:?}");
    let events = server.get("/v1/events?limit=100", &server.admin).await;
    let mut kinds = BTreeMap::<String, u32>::new();
    for event in events.body["items"].as_array().unwrap() {
        *kinds.entry(event["type"].as_str().unwrap().into()).or_default() += 1;
    }
    assert_eq!(kinds.get("boxoffice.payment.completed"), Some(&1), "{kinds:?}");
    assert_eq!(kinds.get("boxoffice.reservation.confirmed"), Some(&1), "{kinds:?}");
    assert_eq!(kinds.get("boxoffice.payment.refund_owed"), None, "{kinds:?}");
}

/// Nothing is left to go back once it is asked for: a bank has taken it back, or it cost nothing.
#[actix_web::test]
async fn a_refund_that_owes_nothing_is_told_as_done() {
    let server = server().await;
    let (anna, concert) = (server.buyer("anna"), server.concert().await);
    let mut free = card_option(2);
    free["prices"].as_object_mut().unwrap().values_mut().for_each(|price| *price = json!(0));
    let free = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, free).await.created();
    let (_, for_nothing) = pending(&server, &free, &anna, "S1").await;
    let (_, disputed) = pending(&server, &option(&server, 2).await, &anna, "S1").await;
    for kind in ["captured", "dispute_lost"] {
        told(&server, &disputed, kind, "ch_1").await;
    }
    for payment in [&for_nothing, &disputed] {
        let path = format!("/v1/payments/{payment}");
        assert_eq!(server.get(&path, &anna).await.body["status"], "completed");
        assert_eq!(server.post(&format!("{path}/refunds"), &server.admin, Value::Null).await.status, 202);
        assert_eq!(server.get(&path, &anna).await.body["status"], "refunded");
        let events = server.get("/v1/events?limit=100", &server.admin).await;
        let is_told =
            |event: &&Value| event["type"] == "boxoffice.payment.refunded" && event["data"]["id"] == json!(payment);
        assert_eq!(events.body["items"].as_array().unwrap().iter().filter(is_told).count(), 1, "{payment}");
    }
}

#[actix_web::test]
async fn the_same_key_is_answered_as_it_was() {
    let server = server().await;
    let (anna, option) = (server.buyer("anna"), option(&server, 2).await);
    let reservation = server.hold(&option, &anna, &["S1"]).await;
    let path = format!("/v1/reservations/{reservation}/payments");
    let begin = || async {
        let request = server.request("POST", &path, &anna).header("idempotency-key", "k1");
        Answer::of(request.json(&json!({"method": "card"})).send().await.unwrap()).await
    };
    let first = begin().await;
    let payment = first.created();
    told(&server, &payment, "captured", "ch_1").await;
    let again = begin().await;
    assert_eq!((again.status, &again.body, again.header("idempotent-replayed")), (201, &first.body, "true"));
    let refund = || async {
        let request = server.request("POST", &format!("/v1/payments/{payment}/refunds"), &anna);
        Answer::of(request.header("idempotency-key", "k2").send().await.unwrap()).await
    };
    let first = refund().await;
    told(&server, &payment, "refunded", "ch_1").await;
    let again = refund().await;
    assert_eq!((again.status, &again.body, again.header("idempotent-replayed")), (202, &first.body, "true"));
}

/// Where options are made, and where somebody pays on one that was made before.
#[actix_web::test]
async fn a_provider_takes_the_currencies_that_it_is_said_to_take() {
    let server = server().await;
    let (anna, before) = (server.buyer("anna"), option(&server, 2).await);
    let reservation = server.hold(&before, &anna, &["S1"]).await;
    let mut server = server;
    let providers = &mut server.settings.payments.providers;
    providers[0].currencies = vec!["EUR".parse().unwrap(), "USD".parse().unwrap()];
    let toss = Provider { name: "toss".into(), kind: ProviderKind::Toss, ..Provider::default() };
    providers.push(Provider { secret_key: Secret::new("test_sk_1"), ..toss });
    let server = server.restart(|_| ()).await;
    let paid = server.post(&format!("/v1/reservations/{reservation}/payments"), &anna, json!({"method": "card"})).await;
    assert_eq!((paid.code(), paid.fields()), ((400, "invalid_request"), vec!["method"]), "{paid:?}");
    let held = server.get(&format!("/v1/reservations/{reservation}"), &anna).await;
    assert_eq!(held.body["status"], "held");
    let concert = server.concert().await;
    for (method, currency, status) in
        [("card", "KRW", 400), ("card", "EUR", 201), ("card", "USD", 201), ("toss", "EUR", 400), ("toss", "KRW", 201)]
    {
        let mut body = card_option(1);
        (body["payment_methods"], body["currency"]) = (json!([method]), json!(currency));
        let made = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await;
        assert_eq!(made.status, status, "{method} {currency}: {made:?}");
        if status == 400 {
            assert_eq!(made.fields(), ["currency"]);
        }
    }
}
