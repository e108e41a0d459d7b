//! Payments by a provider of kind `stripe`, with a stub as the other side.

use std::time::{Duration, Instant};

use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::{ProviderKind, Secret, Settings};
use boxoffice::testing::clock::ManualClock;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, option_body};
use crate::provider_stub::{self, card, command, different};
use crate::receiver::PATIENCE;
use crate::stripe_stub::{SECRET_KEY, Stub, WEBHOOK_SECRET, signature, signature_at};

const WEBHOOK: &str = "/v1/payment-providers/card/webhook";

fn takes_cards(settings: &mut Settings, stub: &Stub) {
    let mut card = card(ProviderKind::Stripe, SECRET_KEY, "pk_test_of_the_stub", stub.url());
    card.webhook_secrets = vec![Secret::new("whsec_the_next_one"), Secret::new(WEBHOOK_SECRET)];
    settings.payments.providers = vec![card];
}

struct Shop {
    server: Server,
    stub: Stub,
    option: String,
    cashier: String,
}

impl Shop {
    async fn open() -> Self {
        let stub = Stub::start();
        let server = Server::with(|settings| takes_cards(settings, &stub)).await;
        Self::of(server, stub).await
    }

    async fn of(server: Server, stub: Stub) -> Self {
        let option = provider_stub::option(&server, "EUR").await;
        let cashier =
            auth::issue(&server.settings, &"bank".parse().unwrap(), Some(Role::Payments), Duration::from_secs(600));
        Self { server, stub, option, cashier: cashier.unwrap() }
    }

    /// A payment that has begun, and its intent.
    async fn begin(&self, buyer: &str, seat: &str) -> (String, String) {
        let token = self.server.buyer(buyer);
        let reservation = self.server.hold(&self.option, &token, &[seat]).await;
        let path = format!("/v1/reservations/{reservation}/payments");
        let begun = self.server.post(&path, &token, json!({"method": "card"})).await;
        (begun.created(), self.stub.intent(begun.body["provider_id"].as_str().unwrap()))
    }

    async fn payment(&self, payment: &str) -> Value {
        self.server.get(&format!("/v1/payments/{payment}"), &self.cashier).await.body
    }

    async fn becomes(&self, payment: &str, status: &str) -> Value {
        let begun = Instant::now();
        loop {
            let seen = self.payment(payment).await;
            if seen["status"] == status {
                return seen;
            }
            assert!(begun.elapsed() < PATIENCE, "{status}: {seen}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn send(&self, body: String, signature: &str) -> Answer {
        send(&self.server, body, signature).await
    }

    async fn deliver(&self, event: &Value) -> u16 {
        let body = event.to_string();
        let signature = signature(WEBHOOK_SECRET, body.as_bytes());
        self.send(body, &signature).await.status
    }

    /// Delivers all that there is to be told, each twice and the last one first.
    async fn deliver_all(&self) {
        let events = self.stub.with(|account| std::mem::take(&mut account.events));
        for event in events.iter().rev().chain(&events) {
            assert_eq!(self.deliver(event).await, 200, "{event}");
        }
    }

    async fn pay(&self, payment: &str, intent: &str) {
        self.stub.with(|account| account.authorize(intent));
        self.deliver_all().await;
        self.becomes(payment, "completed").await;
    }

    async fn refund(&self, payment: &str) {
        let asked = self.server.post(&format!("/v1/payments/{payment}/refunds"), &self.server.admin, Value::Null).await;
        assert_eq!(asked.status, 202, "{asked:?}");
    }

    fn done(&self, what: &str) -> usize {
        self.stub.with(|account| account.done.iter().filter(|done| done.starts_with(what)).count())
    }
}

async fn send(server: &Server, body: String, signature: &str) -> Answer {
    let request = server.request("POST", WEBHOOK, "").header("stripe-signature", signature);
    let request = request.header("content-type", "application/json; charset=utf-8").body(body);
    Answer::of(request.send().await.unwrap()).await
}

/// Whether any file below `dir` has `text` in it.
fn is_below(dir: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_below(&path, text);
        }
        // Some come and go.
        std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    })
}

#[actix_web::test]
async fn a_card_goes_the_whole_way() {
    let shop = Shop::open().await;
    let anna = shop.server.buyer("anna");
    let reservation = shop.server.hold(&shop.option, &anna, &["S1"]).await;
    let path = format!("/v1/reservations/{reservation}/payments");
    let begun = shop.server.post(&path, &anna, json!({"method": "card"})).await;
    let payment = begun.created();
    let intent = shop.stub.intent(begun.body["provider_id"].as_str().unwrap());
    let secret = format!("{intent}_secret_of_the_buyer");
    let checkout = json!({"client_secret": secret, "publishable_key": "pk_test_of_the_stub"});
    assert_eq!(begun.body["checkout"], checkout);
    // Its owner sees it for as long as there is something to pay, and nobody else; it stands in no file.
    let path = format!("/v1/payments/{payment}");
    assert_eq!(shop.server.get(&path, &anna).await.body["checkout"], checkout);
    for other in [&shop.server.admin, &shop.cashier] {
        assert!(shop.server.get(&path, other).await.body.get("checkout").is_none());
    }
    assert_eq!(shop.server.get(&path, &shop.server.buyer("ben")).await.status, 404);
    assert!(is_below(shop.server.data_dir(), &intent) && !is_below(shop.server.data_dir(), "_secret_of_the_buyer"));
    // A declined card is no fact.
    shop.stub.with(|account| account.decline(&intent));
    shop.deliver_all().await;
    assert_eq!(shop.payment(&payment).await["status"], "pending");
    // After a restart it is asked for anew.
    let shop = Shop { server: shop.server.restart(|_| ()).await, ..shop };
    assert_eq!(shop.server.get(&path, &anna).await.body["checkout"], checkout);
    assert_eq!(shop.done("open 100 eur"), 1);

    shop.pay(&payment, &intent).await;
    assert!(shop.server.get(&path, &anna).await.body.get("checkout").is_none());
    let held = shop.server.get(&format!("/v1/reservations/{reservation}"), &anna).await;
    assert_eq!(held.body["status"], "confirmed");
    shop.deliver_all().await;
    shop.refund(&payment).await;
    let refunded = shop.becomes(&payment, "refunded").await;
    shop.deliver_all().await;
    assert_eq!(shop.payment(&payment).await, refunded);
    assert_eq!(shop.stub.with(|account| account.done.clone()), ["open 100 eur", "capture 100", "refund 100"]);
}

#[actix_web::test]
async fn signatures_are_checked_before_anything_is_read() {
    let shop = Shop::open().await;
    let (payment, intent) = shop.begin("anna", "S1").await;
    shop.stub.with(|account| account.authorize(&intent));
    let event = shop.stub.with(|account| account.events.pop().unwrap());
    let body = event.to_string();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let good = signature(WEBHOOK_SECRET, body.as_bytes());
    let forged = signature("whsec_of_somebody_else", body.as_bytes());
    let stale = signature_at(WEBHOOK_SECRET, now() - 400, body.as_bytes());
    let early = signature_at(WEBHOOK_SECRET, now() + 400, body.as_bytes());
    for wrong in ["", "t=1", &forged, &stale, &early, &good.replace("v1=", "v0=")] {
        assert_eq!(shop.send(body.clone(), wrong).await.code(), (400, "invalid_request"), "{wrong}");
    }
    let other = body.replace("100", "101");
    assert_eq!(shop.send(other, &good).await.status, 400);
    for text in ["", "[]", "{}", "x"] {
        let signed = signature(WEBHOOK_SECRET, text.as_bytes());
        assert_eq!(shop.send(text.into(), &signed).await.status, 400, "{text}");
    }
    assert_eq!(shop.payment(&payment).await["status"], "pending");
    let large = "x".repeat((256 << 10) + 1);
    assert_eq!(shop.send(large, &good).await.status, 413);
    assert_eq!(shop.server.post("/v1/payment-providers/cash/webhook", "", json!({})).await.status, 404);
    // The next secret is as good, and the same again changes nothing.
    for secret in ["whsec_the_next_one", WEBHOOK_SECRET, WEBHOOK_SECRET] {
        let signed = signature(secret, body.as_bytes());
        assert_eq!(shop.send(body.clone(), &signed).await.status, 200);
    }
    shop.becomes(&payment, "completed").await;
    assert_eq!(shop.done("capture"), 1);
}

#[actix_web::test]
async fn what_is_not_ours_is_passed_over() {
    let shop = Shop::open().await;
    let (payment, intent) = shop.begin("anna", "S1").await;
    shop.stub.with(|account| account.authorize(&intent));
    let ours = shop.stub.with(|account| account.events.pop().unwrap());
    let provider_id = shop.payment(&payment).await["provider_id"].as_str().unwrap().to_owned();
    let mut others = Vec::new();
    let mut other = |change: &dyn Fn(&mut Value)| {
        let mut event = ours.clone();
        change(&mut event);
        others.push(event);
    };
    other(&|event| event["livemode"] = json!(true));
    other(&|event| event["data"]["object"]["metadata"] = json!({}));
    other(&|event| event["data"]["object"]["metadata"] = json!(null));
    other(&|event| event["data"]["object"]["metadata"]["boxoffice_payment"] = json!("0000000000000000-p1-1"));
    other(&|event| event["data"]["object"]["metadata"]["boxoffice_payment"] = json!(format!("{provider_id}9")));
    other(&|event| event["data"]["object"]["metadata"]["boxoffice_payment"] = json!("no id"));
    other(&|event| event["data"]["object"] = json!({"object": "customer", "id": "cus_1"}));
    other(&|event| event["data"]["object"] = json!({}));
    for object in ["refund", "dispute", "charge"] {
        let of = |intent: Value| {
            json!({"object": object, "id": "x_1", "status": "succeeded", "amount": 100, "currency": "eur",
                "amount_refunded": 100, "payment_intent": intent, "metadata": {}})
        };
        other(&|event| event["data"]["object"] = of(json!("pi_of_another_account")));
        other(&|event| event["data"]["object"] = of(json!("../../v1/refunds")));
        other(&|event| event["data"]["object"] = of(Value::Null));
    }
    for event in &others {
        assert_eq!(shop.deliver(event).await, 200, "{event}");
    }
    assert_eq!(shop.payment(&payment).await["status"], "pending");
    assert_eq!(shop.stub.with(|account| account.done.clone()), ["open 100 eur"]);
}

#[actix_web::test]
async fn another_amount_currency_or_payment_is_no_payment_of_this() {
    let shop = Shop::open().await;
    // It was changed at Stripe: the money is let go, and the seats are not confirmed by it.
    let (payment, intent) = shop.begin("anna", "S1").await;
    shop.stub.with(|account| {
        account.intents.get_mut(&intent).unwrap()["amount"] = json!(99);
        account.authorize(&intent);
    });
    shop.deliver_all().await;
    let begun = Instant::now();
    while shop.stub.with(|account| account.intents[&intent]["status"] != "canceled") {
        assert!(begun.elapsed() < PATIENCE, "{}", shop.payment(&payment).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_ne!(shop.payment(&payment).await["status"], "completed");
    // The same charge in another currency than it was opened in is refused.
    let (payment, intent) = shop.begin("ben", "S2").await;
    shop.stub.with(|account| {
        account.intents.get_mut(&intent).unwrap()["currency"] = json!("usd");
        account.events.clear();
        account.authorize(&intent);
    });
    let event = shop.stub.with(|account| account.events.pop().unwrap());
    assert_eq!(shop.deliver(&event).await, 409);
    assert_eq!(shop.payment(&payment).await["status"], "pending");
    assert_eq!(shop.done("capture"), 0);
    // An intent of one payment that says it is another's.
    let (first, intent) = shop.begin("carl", "S3").await;
    let (second, _) = shop.begin("dora", "S4").await;
    let second_id = shop.payment(&second).await["provider_id"].clone();
    shop.stub.with(|account| account.authorize(&intent));
    let mut event = shop.stub.with(|account| account.events.pop().unwrap());
    event["data"]["object"]["metadata"]["boxoffice_payment"] = second_id;
    assert_eq!(shop.deliver(&event).await, 409);
    assert_eq!(shop.payment(&second).await["status"], "pending");
    assert_eq!(shop.payment(&first).await["status"], "pending");
    // What is told beside something that cannot be is taken all the same.
    let (payment, intent) = shop.begin("emil", "S5").await;
    shop.pay(&payment, &intent).await;
    shop.stub.with(|account| {
        account.events.clear();
        account.refund(&intent, 30, json!({}));
        account.intents.get_mut(&intent).unwrap()["amount_received"] = json!(90);
    });
    let event = shop.stub.with(|account| account.events.remove(0));
    assert_eq!((shop.deliver(&event).await, &event["type"]), (409, &json!("charge.refunded")));
    assert_eq!(shop.payment(&payment).await["refunded"], 30);
}

#[actix_web::test]
async fn a_provider_that_is_down_takes_no_seats_away() {
    let shop = Shop::open().await;
    let anna = shop.server.buyer("anna");
    let reservation = shop.server.hold(&shop.option, &anna, &["S1"]).await;
    shop.stub.with(|account| account.down = true);
    let path = format!("/v1/reservations/{reservation}/payments");
    let refused = shop.server.post(&path, &anna, json!({"method": "card"})).await;
    assert_eq!(refused.code(), (503, "overloaded"));
    let payment = refused.body["payment_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/payments/{payment}");
    let seen = shop.server.get(&path, &anna).await;
    assert_eq!((seen.status, &seen.body["status"]), (200, &json!("pending")));
    assert!(seen.body.get("checkout").is_none());
    // It has failed, stores that, and is there again.
    shop.stub.with(|account| (account.down, account.fails) = (false, 1));
    let mut seen = shop.server.get(&path, &anna).await;
    while seen.body.get("checkout").is_none() {
        seen = shop.server.get(&path, &anna).await;
    }
    assert_eq!(shop.done("open"), 1);
    // A webhook whose object cannot be asked for comes again.
    let intent = shop.stub.intent(seen.body["provider_id"].as_str().unwrap());
    shop.pay(&payment, &intent).await;
    shop.stub.with(|account| {
        account.events.clear();
        account.refund(&intent, 30, json!({}));
    });
    let events = shop.stub.with(|account| std::mem::take(&mut account.events));
    shop.stub.with(|account| account.down = true);
    for event in &events {
        assert_eq!(shop.deliver(event).await, 503);
    }
    shop.stub.with(|account| account.down = false);
    for event in &events {
        assert_eq!(shop.deliver(event).await, 200);
    }
    assert_eq!(shop.payment(&payment).await["refunded"], 30);
}

#[actix_web::test]
async fn lost_answers_and_stored_failures_are_overcome_and_nothing_is_done_twice() {
    let shop = Shop::open().await;
    for (seat, trouble) in [("S1", (1, 0)), ("S2", (0, 1)), ("S3", (2, 0))] {
        let (payment, intent) = shop.begin(&format!("buyer-{seat}"), seat).await;
        let now_trouble = || shop.stub.with(|account| (account.loses, account.fails) = trouble);
        now_trouble();
        shop.pay(&payment, &intent).await;
        now_trouble();
        shop.refund(&payment).await;
        shop.becomes(&payment, "refunded").await;
    }
    assert_eq!((shop.done("capture"), shop.done("refund")), (3, 3));
}

#[actix_web::test]
async fn refunds_that_take_days_are_made_once() {
    let clock = ManualClock::at(boxoffice::Timestamp::from_millis(1_800_000_000_000));
    let stub = Stub::start();
    let server = Server::with_clock(&clock, |settings| takes_cards(settings, &stub)).await;
    let shop = Shop::of(server, stub).await;
    let (payment, intent) = shop.begin("anna", "S1").await;
    shop.pay(&payment, &intent).await;
    shop.stub.with(|account| account.slow_refunds = true);
    shop.refund(&payment).await;
    let begun = Instant::now();
    while shop.done("refund") == 0 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Two days later its key is forgotten, and it is asked for again; more than a restart makes it look at once.
    clock.advance(2 * 86_400_000);
    shop.stub.with(|account| account.ahead = 2 * 86_400);
    let shop = Shop { server: shop.server.restart(|_| ()).await, ..shop };
    let cashier =
        auth::issue(&shop.server.settings, &"bank".parse().unwrap(), Some(Role::Payments), Duration::from_secs(600));
    let shop = Shop { cashier: cashier.unwrap(), ..shop };
    let looked = Instant::now();
    while looked.elapsed() < Duration::from_secs(3) {
        assert_eq!(shop.payment(&payment).await["status"], "refund_owed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(shop.done("refund"), 1);
    let refund = shop.stub.with(|account| account.refunds[0]["id"].as_str().unwrap().to_owned());
    shop.stub.with(|account| account.refund_becomes(&refund, "succeeded"));
    shop.deliver_all().await;
    shop.becomes(&payment, "refunded").await;
    // It comes back after all: it is owed again, and settled by hand.
    shop.stub.with(|account| account.refund_becomes(&refund, "failed"));
    shop.deliver_all().await;
    shop.becomes(&payment, "refund_owed").await;
    let owed = shop.server.get("/v1/payments?owed=true", &shop.cashier).await;
    assert_eq!(owed.body["items"][0]["owed"][0]["by_hand"], true, "{owed:?}");
    assert_eq!(shop.done("refund"), 1);
}

#[actix_web::test]
async fn what_is_given_up_or_refunded_elsewhere_or_disputed_comes_to_its_end() {
    let shop = Shop::open().await;
    // Given up: the intent is called off, and can be paid no more.
    let (given_up, intent) = shop.begin("anna", "S1").await;
    let path = format!("/v1/payments/{given_up}");
    assert_eq!(shop.server.ask("DELETE", &path, &shop.server.buyer("anna"), Value::Null).await.status, 200);
    shop.becomes(&given_up, "voided").await;
    assert_eq!(shop.stub.with(|account| account.intents[&intent]["status"].clone()), "canceled");
    // Opened, and its answer lost, so that nobody knows of it: it is found.
    let anna = shop.server.buyer("ben");
    let reservation = shop.server.hold(&shop.option, &anna, &["S2"]).await;
    shop.stub.with(|account| account.loses = 1);
    let begun =
        shop.server.post(&format!("/v1/reservations/{reservation}/payments"), &anna, json!({"method": "card"})).await;
    assert_eq!(begun.status, 503);
    let lost = begun.body["payment_id"].as_str().unwrap().to_owned();
    assert_eq!(shop.server.ask("DELETE", &format!("/v1/payments/{lost}"), &anna, Value::Null).await.status, 200);
    shop.becomes(&lost, "voided").await;
    assert!(shop.stub.with(|account| account.intents.values().all(|intent| intent["status"] == "canceled")));
    // Given back in the dashboard, in two parts: the seats are free then.
    let (payment, intent) = shop.begin("carl", "S3").await;
    shop.pay(&payment, &intent).await;
    shop.stub.with(|account| account.refund(&intent, 40, json!({})));
    shop.deliver_all().await;
    let part = shop.payment(&payment).await;
    assert_eq!((&part["status"], &part["refunded"]), (&json!("completed"), &json!(40)));
    shop.stub.with(|account| account.refund(&intent, 60, json!({})));
    shop.deliver_all().await;
    shop.becomes(&payment, "refunded").await;
    // While a bank wants it back, no refund leaves; an inquiry is none yet.
    let (payment, intent) = shop.begin("dora", "S4").await;
    shop.pay(&payment, &intent).await;
    for (status, disputed) in [("warning_needs_response", false), ("needs_response", true), ("under_review", true)] {
        shop.stub.with(|account| account.dispute(&intent, status));
        shop.deliver_all().await;
        assert_eq!(shop.payment(&payment).await["disputed"], disputed, "{status}");
    }
    shop.refund(&payment).await;
    shop.stub.with(|account| account.dispute(&intent, "won"));
    shop.deliver_all().await;
    shop.becomes(&payment, "refunded").await;
    let (payment, intent) = shop.begin("emil", "S5").await;
    shop.pay(&payment, &intent).await;
    for status in ["needs_response", "lost"] {
        shop.stub.with(|account| account.dispute(&intent, status));
        shop.deliver_all().await;
    }
    assert_eq!(shop.payment(&payment).await["shortfall"], 100);
}

#[actix_web::test]
async fn keys_of_two_modes_are_not_mixed() {
    let stub = Stub::start();
    for (secret_key, publishable_key, message) in [
        ("pk_test_1", "", "secret_key = ***: must be a key of Stripe"),
        ("sk_live_1", "pk_test_1", "publishable_key = pk_test_1: must be of the same mode"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        takes_cards(&mut settings, &stub);
        settings.payments.providers[0].secret_key = Secret::new(secret_key);
        settings.payments.providers[0].publishable_key = publishable_key.into();
        let engine = boxoffice::Engine::open(settings.engine()).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let run = boxoffice::server::run(listener, None, engine.clone(), settings, std::future::pending());
        let error = run.await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        engine.shutdown().await.unwrap();
    }
    // A live server takes no money of a test.
    let server = Server::with(|settings| {
        takes_cards(settings, &stub);
        settings.payments.providers[0].secret_key = Secret::new("sk_live_1");
        settings.payments.providers[0].publishable_key = String::new();
    })
    .await;
    let body = json!({"livemode": false, "data": {"object": {"object": "payment_intent"}}}).to_string();
    let signed = signature(WEBHOOK_SECRET, body.as_bytes());
    assert_eq!(send(&server, body, &signed).await.status, 200);
    let body = json!({"livemode": true, "data": {"object": {"object": "payment_intent"}}}).to_string();
    let signed = signature(WEBHOOK_SECRET, body.as_bytes());
    assert_eq!(send(&server, body, &signed).await.status, 400);
}

#[actix_web::test]
async fn what_stripe_lists_of_a_day_is_compared_with_what_was_heard() {
    const DAY_MS: u64 = 86_400_000;
    let clock = ManualClock::at(boxoffice::Timestamp::from_millis(1_800_000_000_000));
    let stub = Stub::start();
    // In pages of two.
    stub.with(|account| (account.now, account.page_max) = (Some(1_800_000_000), 2));
    let server = Server::with_clock(&clock, |settings| takes_cards(settings, &stub)).await;
    let shop = Shop::of(server, stub).await;
    let settings = |key: &str| {
        let url = shop.stub.url();
        format!("kind = \"stripe\"\nurl = \"{url}\"\nsecret_key = \"{key}\"\nwebhook_secrets = [\"whsec_1\"]\n")
    };
    let on = async |day: &str| different(&shop.server, &settings(SECRET_KEY), day).await;
    let nothing: [Vec<String>; 2] = Default::default();
    let mut charges = Vec::new();
    for n in 1..=5 {
        let (payment, intent) = shop.begin(&format!("buyer-{n}"), &format!("S{n}")).await;
        shop.pay(&payment, &intent).await;
        charges.push((payment, intent));
    }
    shop.refund(&charges[0].0).await;
    shop.becomes(&charges[0].0, "refunded").await;
    for status in ["needs_response", "lost"] {
        shop.stub.with(|account| account.dispute(&charges[1].1, status));
        shop.deliver_all().await;
    }
    // One that is begun, and one of others: no money of ours moved.
    shop.begin("buyer-6", "S6").await;
    for day in ["2027-01-14", "2027-01-15", "2027-01-16"] {
        assert_eq!(on(day).await, nothing, "{day}");
    }
    // The next day a refund is made by hand there, and nobody tells of it; another one comes back, and is told late.
    clock.advance(DAY_MS);
    let refund = shop.stub.with(|account| {
        account.now = Some(1_800_086_400);
        account.refund(&charges[2].1, 30, json!({}));
        account.refunds[0]["id"].as_str().unwrap().to_owned()
    });
    shop.stub.with(|account| account.events.clear());
    shop.stub.with(|account| account.refund_becomes(&refund, "failed"));
    shop.deliver_all().await;
    shop.becomes(&charges[0].0, "refund_owed").await;
    let made = format!("refunded 30 EUR of {:?}", charges[2].1);
    assert_eq!(on("2027-01-15").await, nothing);
    assert_eq!(on("2027-01-16").await, [vec![made.clone()], vec![]]);
    // What is of the other mode, of another shop or took no money is none; what is of an unknown payment is.
    shop.stub.with(|account| {
        let one = account.intents[&charges[3].1].clone();
        let mut add = |id: &str, change: &dyn Fn(&mut Value)| {
            let mut other = one.clone();
            (other["id"], other["created"]) = (json!(id), json!(1_800_086_400));
            change(&mut other);
            account.intents.insert(id.into(), other);
        };
        add("pi_live", &|other| other["livemode"] = json!(true));
        add("pi_other", &|other| other["metadata"] = json!({}));
        add("pi_open", &|other| other["status"] = json!("requires_capture"));
        add("pi_lost", &|other| other["metadata"]["boxoffice_payment"] = json!("00000000000000ff-p9-9"));
        account.refund("pi_live", 10, json!({}));
        account.refund("pi_other", 10, json!({}));
    });
    let lost = "captured 100 EUR of \"pi_lost\"".to_owned();
    // What is told by somebody else, Stripe does not know.
    let by_hand = json!({"kind": "captured", "reference": "note", "amount": 7, "currency": "EUR"});
    let path = format!("/v1/payments/{}/facts", charges[4].0);
    assert_eq!(shop.server.post(&path, &shop.server.admin, by_hand).await.status, 200);
    let told = "captured 7 EUR of \"note\"".to_owned();
    assert_eq!(on("2027-01-16").await, [vec![lost, made], vec![told]]);
    // Who may not, what is not asked, and what cannot be.
    let path = |query: &str| format!("/v1/payments/reconciliation/differences?{query}");
    let good = path("provider=card&day=2027-01-16");
    assert_eq!(shop.server.get(&good, &shop.cashier).await.code(), (403, "forbidden"));
    for (query, field) in [
        ("provider=cash&day=2027-01-16", "provider"),
        ("day=2027-01-16", "provider"),
        ("provider=card", "day"),
        ("provider=card&day=2027-01-16&limit=5", "limit"),
    ] {
        let wrong = shop.server.get(&path(query), &shop.server.admin).await;
        assert_eq!((wrong.status, wrong.fields()), (400, vec![field]), "{query}");
    }
    let dir = tempfile::tempdir().unwrap();
    for (settings, says) in [(settings("sk_live_1"), "Stripe answers 401"), (String::new(), "has to be given")] {
        let (ok, _, complaint) = command(dir.path(), shop.server.data_dir(), &settings, "2027-01-16");
        assert!(!ok && complaint.contains(says), "{complaint}");
    }
    shop.stub.with(|account| account.down = true);
    assert_eq!(shop.server.get(&good, &shop.server.admin).await.code(), (503, "overloaded"));
}

/// What Stripe refuses is no use to ask again.
#[actix_web::test]
async fn what_a_provider_cannot_take_is_refused_and_can_be_given_up() {
    let shop = Shop::open().await;
    let anna = shop.server.buyer("anna");
    for (currency, price) in [("XTS", 100), ("KWD", 1_234)] {
        let concert = shop.server.concert().await;
        let mut body = option_body(1);
        (body["payment_methods"], body["currency"]) = (json!(["card"]), json!(currency));
        body["prices"].as_object_mut().unwrap().values_mut().for_each(|one| *one = json!(price));
        let path = format!("/v1/concerts/{concert}/options");
        let option = shop.server.post(&path, &shop.server.admin, body).await.created();
        let reservation = shop.server.hold(&option, &anna, &["S1"]).await;
        let path = format!("/v1/reservations/{reservation}/payments");
        let refused = shop.server.post(&path, &anna, json!({"method": "card"})).await;
        assert_eq!((refused.code(), refused.fields()), ((400, "invalid_request"), vec!["method"]), "{refused:?}");
        let payment = refused.body["payment_id"].as_str().unwrap();
        let path = format!("/v1/payments/{payment}");
        assert_eq!(shop.server.get(&path, &anna).await.body["status"], "pending");
        assert_eq!(shop.server.ask("DELETE", &path, &anna, Value::Null).await.status, 200);
        shop.becomes(payment, "voided").await;
        let held = shop.server.get(&format!("/v1/reservations/{reservation}"), &anna).await;
        assert_eq!(held.body["status"], "held");
    }
    assert_eq!(shop.done("open"), 0);
}
