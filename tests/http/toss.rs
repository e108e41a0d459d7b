//! Payments by a provider of kind `toss`, with a stub as the other side.

use std::time::{Duration, Instant};

use boxoffice::Timestamp;
use boxoffice::server::config::{ProviderKind, Secret, Settings};
use boxoffice::testing::clock::ManualClock;
use serde_json::{Value, json};

use crate::harness::{Answer, Server};
use crate::provider_stub::{self, card, command, different};
use crate::receiver::PATIENCE;
use crate::toss_stub::{SECRET_KEY, Stub};

const WEBHOOK: &str = "/v1/payment-providers/card/webhook";
const HOUR_MS: u64 = 3_600_000;

fn takes_cards(settings: &mut Settings, stub: &Stub) {
    let card = card(ProviderKind::Toss, SECRET_KEY, "test_ck_of_the_stub", stub.url());
    settings.payments.providers = vec![card];
}

struct Shop {
    server: Server,
    stub: Stub,
    option: String,
}

/// A payment that has begun: its buyer, its id, and what it is called at Toss.
struct Begun {
    buyer: String,
    id: String,
    order: String,
}

impl Shop {
    async fn open() -> Self {
        let stub = Stub::start();
        Self::of(Server::with(|settings| takes_cards(settings, &stub)).await, stub).await
    }

    async fn of(server: Server, stub: Stub) -> Self {
        let option = provider_stub::option(&server, "KRW").await;
        Self { server, stub, option }
    }

    async fn begin(&self, buyer: &str, seat: &str) -> Begun {
        let token = self.server.buyer(buyer);
        let reservation = self.server.hold(&self.option, &token, &[seat]).await;
        let path = format!("/v1/reservations/{reservation}/payments");
        let begun = self.server.post(&path, &token, json!({"method": "card"})).await;
        let order = begun.body["provider_id"].as_str().unwrap().to_owned();
        let checkout =
            json!({"client_key": "test_ck_of_the_stub", "order_id": order, "amount": 100, "currency": "KRW"});
        assert_eq!(begun.body["checkout"], checkout);
        Begun { buyer: token, id: begun.created(), order }
    }

    async fn come_back(&self, begun: &Begun, key: &str, amount: u64) -> Answer {
        let path = format!("/v1/payments/{}/confirmation", begun.id);
        self.server.post(&path, &begun.buyer, json!({"reference": key, "amount": amount})).await
    }

    /// The buyer pays, and is back.
    async fn pay(&self, begun: &Begun) -> String {
        let key = self.stub.with(|shop| shop.authenticate(&begun.order, 100));
        let back = self.come_back(begun, &key, 100).await;
        assert_eq!((back.status, &back.body["verdict"]), (200, &json!("capture")), "{back:?}");
        self.becomes(begun, "completed").await;
        key
    }

    async fn payment(&self, begun: &Begun) -> Value {
        self.server.get(&format!("/v1/payments/{}", begun.id), &begun.buyer).await.body
    }

    async fn becomes(&self, begun: &Begun, status: &str) -> Value {
        let since = Instant::now();
        loop {
            let seen = self.payment(begun).await;
            if seen["status"] == status {
                return seen;
            }
            assert!(since.elapsed() < PATIENCE, "{status}: {seen}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn refund(&self, begun: &Begun) {
        let path = format!("/v1/payments/{}/refunds", begun.id);
        let asked = self.server.post(&path, &self.server.admin, Value::Null).await;
        assert_eq!(asked.status, 202, "{asked:?}");
    }

    /// Tells all that there is to be told, each twice and the last one first.
    async fn deliver_all(&self) {
        let events = self.stub.with(|shop| std::mem::take(&mut shop.events));
        for event in events.iter().rev().chain(&events) {
            assert_eq!(self.server.post(WEBHOOK, "", event.clone()).await.status, 200, "{event}");
        }
    }

    fn done(&self) -> Vec<String> {
        self.stub.with(|shop| shop.done.clone())
    }
}

#[actix_web::test]
async fn a_card_goes_the_whole_way() {
    for hides_open in [false, true] {
        let shop = Shop::open().await;
        shop.stub.with(|toss| toss.hides_open = hides_open);
        let begun = shop.begin("anna", "S1").await;
        let key = shop.stub.with(|toss| toss.authenticate(&begun.order, 100));
        // That it can be taken is not taken from hints, and nobody else comes back with it.
        shop.deliver_all().await;
        assert_eq!(shop.payment(&begun).await["status"], "pending");
        let path = format!("/v1/payments/{}/confirmation", begun.id);
        for (other, status) in [(&shop.server.admin, 404), (&shop.server.buyer("ben"), 404), (&String::new(), 401)] {
            let back = shop.server.post(&path, other, json!({"reference": key, "amount": 100})).await;
            assert_eq!(back.status, status);
        }
        assert!(shop.done().is_empty());
        shop.pay(&begun).await;
        // The way back can be walked again.
        let first = shop.stub.with(|toss| toss.charges.keys().next().unwrap().clone());
        assert_eq!(key, first);
        let seen = shop.becomes(&begun, "completed").await;
        shop.deliver_all().await;
        assert_eq!(shop.payment(&begun).await, seen);
        shop.refund(&begun).await;
        let refunded = shop.becomes(&begun, "refunded").await;
        shop.deliver_all().await;
        assert_eq!(shop.payment(&begun).await, refunded);
        assert_eq!(shop.done(), ["confirm 100", "cancel 100"]);
    }
}

#[actix_web::test]
async fn who_comes_back_with_what_is_not_this_charge_is_not_believed() {
    let shop = Shop::open().await;
    let (anna, ben) = (shop.begin("anna", "S1").await, shop.begin("ben", "S2").await);
    let [hers, his] = [&anna, &ben].map(|begun| shop.stub.with(|toss| toss.authenticate(&begun.order, 100)));
    let less = shop.stub.with(|toss| toss.authenticate(&anna.order, 99));
    for (key, amount) in [(&*his, 100), (&less, 100), (&less, 99), (&hers, 99), ("../../v1/payments", 100), ("", 100)] {
        assert_eq!(shop.come_back(&anna, key, amount).await.status, 400, "{key} {amount}");
    }
    assert_eq!(shop.payment(&anna).await["status"], "pending");
    assert_eq!(shop.come_back(&anna, &hers, 100).await.status, 200);
    shop.becomes(&anna, "completed").await;
    for _ in 0..2 {
        // The same again, once that is over.
        let back = shop.come_back(&anna, &hers, 100).await;
        assert_eq!((back.status, &back.body["status"]), (200, &json!("completed")), "{back:?}");
    }
    // One that Toss has never seen holds the seats only until it says so.
    let back = shop.come_back(&ben, "made_up", 100).await;
    assert_eq!((back.status, &back.body["verdict"]), (200, &json!("capture")));
    shop.becomes(&ben, "failed").await;
    assert_eq!(shop.done(), ["confirm 100"]);
}

#[actix_web::test]
async fn a_declined_card_lets_the_buyer_pay_again() {
    let shop = Shop::open().await;
    let begun = shop.begin("anna", "S1").await;
    let reservation = shop.payment(&begun).await["reservation_id"].as_str().unwrap().to_owned();
    let key = shop.stub.with(|toss| {
        toss.declines = true;
        toss.authenticate(&begun.order, 100)
    });
    assert_eq!(shop.come_back(&begun, &key, 100).await.status, 200);
    shop.becomes(&begun, "failed").await;
    shop.stub.with(|toss| toss.declines = false);
    let path = format!("/v1/reservations/{reservation}/payments");
    let again = shop.server.post(&path, &begun.buyer, json!({"method": "card"})).await;
    let order = again.body["provider_id"].as_str().unwrap().to_owned();
    assert_ne!(order, begun.order);
    let again = Begun { buyer: begun.buyer.clone(), id: again.created(), order };
    shop.pay(&again).await;
    assert_eq!(shop.done(), ["confirm 100"]);
}

#[actix_web::test]
async fn hints_are_looked_up_and_never_believed() {
    let shop = Shop::open().await;
    let begun = shop.begin("anna", "S1").await;
    let key = shop.pay(&begun).await;
    shop.stub.with(|toss| toss.events.clear());
    // What somebody makes up: of others, of nobody, and of this one, that it is cancelled.
    let looks = shop.stub.with(|toss| toss.looks);
    for data in [
        json!({"paymentKey": key, "orderId": "somebody-else"}),
        json!({"paymentKey": key, "orderId": "0000000000000000-p1-1", "status": "CANCELED"}),
        json!({"paymentKey": key}),
        json!(null),
        json!({"orderId": begun.order, "paymentKey": "../orders"}),
    ] {
        let event = json!({"eventType": "PAYMENT_STATUS_CHANGED", "data": data});
        assert_eq!(shop.server.post(WEBHOOK, "", event).await.status, 200);
    }
    assert_eq!(shop.stub.with(|toss| toss.looks), looks, "what is of nobody is not asked for");
    let lie = json!({"data": {"orderId": begun.order, "paymentKey": key, "status": "CANCELED", "totalAmount": 1}});
    assert_eq!(shop.server.post(WEBHOOK, "", lie.clone()).await.status, 200);
    assert_eq!(shop.payment(&begun).await["status"], "completed");
    for wrong in [json!([]), json!("x"), json!({"data": 1})] {
        assert_eq!(shop.server.post(WEBHOOK, "", wrong).await.status, 400);
    }
    // By hand, in two parts; what cannot be looked up is told again.
    shop.stub.with(|toss| {
        toss.cancel(&key, 40, "by hand");
        toss.down = true;
    });
    assert_eq!(shop.server.post(WEBHOOK, "", lie).await.status, 503);
    shop.stub.with(|toss| toss.down = false);
    shop.deliver_all().await;
    let part = shop.payment(&begun).await;
    assert_eq!((&part["status"], &part["refunded"]), (&json!("completed"), &json!(40)));
    // What is left goes back.
    shop.refund(&begun).await;
    shop.becomes(&begun, "refunded").await;
    assert_eq!(shop.done(), ["confirm 100", "cancel 40", "cancel 60"]);
}

#[actix_web::test]
async fn lost_answers_and_stored_failures_are_overcome_and_nothing_is_done_twice() {
    let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
    let stub = Stub::start();
    let server = Server::with_clock(&clock, |settings| takes_cards(settings, &stub)).await;
    let mut shop = Shop::of(server, stub).await;
    for (seat, trouble) in [("S1", (1, 0)), ("S2", (0, 1)), ("S3", (2, 0))] {
        let begun = shop.begin(&format!("buyer-{seat}"), seat).await;
        let now_trouble = |shop: &Shop| shop.stub.with(|toss| (toss.loses, toss.fails) = trouble);
        now_trouble(&shop);
        shop.pay(&begun).await;
        now_trouble(&shop);
        shop.refund(&begun).await;
        if trouble.1 > 0 {
            // Under the same key it fails for days. So long it is not asked for under another one, as long as it may be under way.
            let since = Instant::now();
            while shop.stub.with(|toss| toss.fails) > 0 {
                assert!(since.elapsed() < PATIENCE);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            clock.advance(2 * HOUR_MS);
            // Whoever begins looks at once.
            shop = Shop { server: shop.server.restart(|_| ()).await, ..shop };
            let renewed = Begun { buyer: shop.server.buyer(&format!("buyer-{seat}")), ..begun };
            shop.becomes(&renewed, "refunded").await;
        } else {
            shop.becomes(&begun, "refunded").await;
        }
    }
    let done = shop.done();
    assert_eq!(done.iter().filter(|done| *done == "confirm 100").count(), 3, "{done:?}");
    assert_eq!(done.iter().filter(|done| *done == "cancel 100").count(), 3, "{done:?}");
}

#[actix_web::test]
async fn what_is_not_confirmed_comes_to_its_end_by_itself() {
    let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
    let stub = Stub::start();
    let server = Server::with_clock(&clock, |settings| takes_cards(settings, &stub)).await;
    let shop = Shop::of(server, stub).await;
    // Given up before the buyer was back: there is nothing there.
    let given_up = shop.begin("anna", "S1").await;
    shop.stub.with(|toss| toss.authenticate(&given_up.order, 100));
    let path = format!("/v1/payments/{}", given_up.id);
    assert_eq!(shop.server.ask("DELETE", &path, &given_up.buyer, Value::Null).await.status, 200);
    shop.becomes(&given_up, "voided").await;
    // Toss is down, and the verdict comes to its end: the charge expires, or nobody speaks of it any more.
    let mut late = Vec::new();
    for (buyer, seat) in [("ben", "S2"), ("carl", "S3")] {
        let begun = shop.begin(buyer, seat).await;
        let key = shop.stub.with(|toss| toss.authenticate(&begun.order, 100));
        late.push((buyer, begun, key));
    }
    for (_, begun, key) in &late {
        shop.stub.with(|toss| toss.hides_open = true);
        assert_eq!(shop.come_back(begun, key, 100).await.status, 200);
    }
    shop.stub.with(|toss| toss.down = true);
    clock.advance(HOUR_MS / 2);
    for (_, begun, _) in &late {
        shop.becomes(begun, "voiding").await;
    }
    shop.stub.with(|toss| {
        toss.down = false;
        toss.expire(&late[0].2);
    });
    shop.deliver_all().await;
    shop.becomes(&late[0].1, "voided").await;
    assert_eq!(shop.payment(&late[1].1).await["status"], "voiding");
    clock.advance(2 * HOUR_MS);
    let shop = Shop { server: shop.server.restart(|_| ()).await, ..shop };
    let (buyer, begun, _) = late.pop().unwrap();
    let renewed = Begun { buyer: shop.server.buyer(buyer), ..begun };
    shop.becomes(&renewed, "voided").await;
    assert!(shop.done().is_empty(), "{:?}", shop.done());
}

#[actix_web::test]
async fn keys_of_two_modes_are_not_mixed_and_hints_need_no_secret() {
    let stub = Stub::start();
    for (secret_key, client_key, secrets, message) in [
        ("test_ck_1", "", vec![], "secret_key = ***: must be a key of Toss"),
        ("sk_test_1", "", vec![], "secret_key = ***: must be a key of Toss"),
        ("live_sk_1", "test_ck_1", vec![], "publishable_key = test_ck_1: must be of the same mode"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        takes_cards(&mut settings, &stub);
        let one = &mut settings.payments.providers[0];
        one.secret_key = Secret::new(secret_key);
        one.publishable_key = client_key.into();
        one.webhook_secrets = secrets;
        let engine = boxoffice::Engine::open(settings.engine()).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let run = boxoffice::server::run(listener, None, engine.clone(), settings, std::future::pending());
        let error = run.await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        engine.shutdown().await.unwrap();
    }
}

#[actix_web::test]
async fn what_toss_lists_of_a_day_is_compared_with_what_was_heard() {
    // Twenty minutes before midnight, which is in the morning there.
    let clock = ManualClock::at(Timestamp::from_millis(1_800_056_400_000));
    let stub = Stub::start();
    stub.with(|toss| (toss.now, toss.page_max) = (Some(1_800_056_400), 2));
    let server = Server::with_clock(&clock, |settings| takes_cards(settings, &stub)).await;
    let shop = Shop::of(server, stub).await;
    let settings = |key: &str| {
        let url = shop.stub.url();
        format!("kind = \"toss\"\nurl = \"{url}\"\nsecret_key = \"{key}\"\n")
    };
    let on = async |day: &str| different(&shop.server, &settings(SECRET_KEY), day).await;
    let nothing: [Vec<String>; 2] = Default::default();
    let mut keys = Vec::new();
    for n in 1..=5 {
        let begun = shop.begin(&format!("buyer-{n}"), &format!("S{n}")).await;
        keys.push(shop.pay(&begun).await);
        if n == 5 {
            shop.refund(&begun).await;
            shop.becomes(&begun, "refunded").await;
        }
    }
    for day in ["2027-01-14", "2027-01-15", "2027-01-16"] {
        assert_eq!(on(day).await, nothing, "{day}");
    }
    // A cancellation by hand on the next day is told of, and another one is not.
    clock.advance(1_200_000);
    shop.stub.with(|toss| {
        toss.now = Some(1_800_057_600);
        toss.cancel(&keys[0], 30, "by hand");
    });
    shop.deliver_all().await;
    assert_eq!(on("2027-01-16").await, nothing);
    shop.stub.with(|toss| {
        toss.cancel(&keys[0], 40, "by hand");
        toss.cancel(&keys[1], 100, "by hand");
        // What took nothing is none, nor is what another shop took.
        toss.transact(&keys[2], "ABORTED", 100);
        toss.transact(&keys[3], "DONE", 1);
        toss.transactions.last_mut().unwrap()["orderId"] = json!("order-1");
        toss.transactions.last_mut().unwrap()["amount"] = json!(1.5);
    });
    let [part, whole] = [(40, &keys[0]), (100, &keys[1])].map(|(n, key)| format!("refunded {n} KRW of {key:?}"));
    assert_eq!(on("2027-01-16").await, [vec![part, whole], vec![]]);
    assert_eq!(on("2027-01-15").await, nothing);
    let dir = tempfile::tempdir().unwrap();
    let (ok, _, complaint) = command(dir.path(), shop.server.data_dir(), &settings("live_sk_1"), "2027-01-16");
    assert!(!ok && complaint.contains("Toss answers 401"), "{complaint}");
    shop.stub.with(|toss| toss.down = true);
    let path = "/v1/payments/reconciliation/differences?provider=card&day=2027-01-16";
    assert_eq!(shop.server.get(path, &shop.server.admin).await.code(), (503, "overloaded"));
}
