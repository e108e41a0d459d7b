//! In what order requests are checked: of two faults the one that comes first is told.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, option_body};

/// A request of which nothing is wrong yet.
#[derive(Clone)]
struct Sent {
    method: &'static str,
    path: String,
    token: String,
    media_type: &'static str,
    key: Option<&'static str>,
    body: String,
}

impl Sent {
    async fn to(&self, server: &Server) -> Answer {
        let request = server.request(self.method, &self.path, &self.token).header("content-type", self.media_type);
        let request = self.key.map_or(request.try_clone().unwrap(), |key| request.header("idempotency-key", key));
        Answer::of(request.body(self.body.clone()).send().await.unwrap()).await
    }
}

/// What can be wrong, in the order in which that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    UnknownPath,
    Method,
    Stranger,
    Buyer,
    Missing,
    TooLarge,
    MediaType,
    NotJson,
    UnknownMember,
    Twins,
    OutOfBounds,
    WrongKey,
    KeyReused,
    Rule,
}

use Fault as F;

impl Fault {
    const ALL: [Self; 14] = [
        F::UnknownPath,
        F::Method,
        F::Stranger,
        F::Buyer,
        F::Missing,
        F::TooLarge,
        F::MediaType,
        F::NotJson,
        F::UnknownMember,
        F::Twins,
        F::OutOfBounds,
        F::WrongKey,
        F::KeyReused,
        F::Rule,
    ];

    /// Those of the same step are looked for in no order that anybody was promised.
    fn step(self) -> u32 {
        match self {
            F::UnknownPath | F::Method => 0,
            F::Stranger => 1,
            F::Buyer | F::Missing => 2,
            F::TooLarge | F::MediaType => 3,
            F::NotJson | F::UnknownMember | F::Twins | F::OutOfBounds | F::WrongKey => 4,
            F::KeyReused => 5,
            F::Rule => 6,
        }
    }
}

/// A route that takes a body, and what breaks it.
struct Route {
    good: Sent,
    /// Whether it is for admins.
    is_guarded: bool,
    /// Whether keys mean something to it.
    has_keys: bool,
    /// The same path with an id of nothing.
    missing: Option<&'static str>,
    /// A body with a value that no request may have.
    out_of_bounds: Option<Value>,
    /// A path and body that a rule is against, and what it says.
    rule: Option<(String, Value, (u16, &'static str))>,
}

impl Route {
    /// What comes of this fault, put into `sent`; `None` if there is no such fault here.
    fn spoil(&self, fault: Fault, server: &Server, sent: &mut Sent) -> Option<(u16, &'static str)> {
        let is_object = sent.body.len() > 2;
        match fault {
            F::UnknownPath => sent.path = format!("{}/x/y", sent.path),
            F::Method => sent.method = "PUT",
            F::Stranger => sent.token = "x".into(),
            F::Buyer if self.is_guarded => sent.token = server.buyer("ben"),
            F::Missing => sent.path = self.missing?.into(),
            F::TooLarge => sent.body.push_str(&" ".repeat(40 << 10)),
            F::MediaType => sent.media_type = "text/plain",
            F::NotJson => sent.body.push('}'),
            F::UnknownMember => {
                let comma = if is_object { "," } else { "" };
                sent.body = sent.body.replacen('{', &format!("{{\"~\":1{comma}"), 1);
            }
            F::Twins => {
                let comma = if is_object { "," } else { "" };
                sent.body = sent.body.replacen('{', &format!("{{\"~\":1,\"~\":1{comma}"), 1);
            }
            F::OutOfBounds => sent.body = self.out_of_bounds.as_ref()?.to_string(),
            F::WrongKey if self.has_keys => sent.key = Some("a b"),
            F::KeyReused if self.has_keys => sent.key = Some("used"),
            F::Rule => {
                let (path, body, _) = self.rule.as_ref()?;
                (sent.path, sent.body) = (path.clone(), body.to_string());
            }
            F::Buyer | F::WrongKey | F::KeyReused => return None,
        }
        Some(match fault {
            F::UnknownPath | F::Missing => (404, "not_found"),
            F::Method => (405, "method_not_allowed"),
            F::Stranger => (401, "unauthenticated"),
            F::Buyer => (403, "forbidden"),
            F::TooLarge => (413, "payload_too_large"),
            F::MediaType => (415, "unsupported_media_type"),
            F::NotJson | F::UnknownMember | F::Twins | F::OutOfBounds | F::WrongKey => (400, "invalid_request"),
            F::KeyReused => (422, "idempotency_key_reused"),
            F::Rule => self.rule.as_ref()?.2,
        })
    }

    /// Two faults in one request. A later one must not undo an earlier one, so they are put in from the last to the first,
    /// but for those that replace the whole body.
    fn spoilt(&self, server: &Server, first: Fault, second: Fault) -> Option<(Sent, (u16, &'static str))> {
        let mut sent = self.good.clone();
        // A key is known with another body than this one.
        if self.has_keys && second != F::KeyReused && first != F::KeyReused {
            sent.key = Some("new");
        }
        self.spoil(second, server, &mut sent)?;
        let expected = self.spoil(first, server, &mut sent)?;
        Some((sent, expected))
    }
}

async fn routes(server: &Server) -> Vec<Route> {
    let (admin, anna) = (server.admin.clone(), server.buyer("anna"));
    let option = server.option(8).await;
    let concert =
        server.get(&format!("/v1/options/{option}"), "").await.body["concert_id"].as_str().unwrap().to_owned();
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1"]).await;
    let sold = server.hold(&option, &anna, &["S2"]).await;
    let paid = server.post(&format!("/v1/reservations/{sold}/payments"), &anna, json!({})).await.created();
    let hook = server.post("/v1/webhooks", &admin, json!({"url": "http://127.0.0.1:9/"})).await.created();
    let sent = |method, path: String, token: &String, body: Value| Sent {
        method,
        path,
        token: token.clone(),
        media_type: "application/json",
        key: None,
        body: body.to_string(),
    };
    let holds = format!("/v1/options/{option}/reservations");
    let conflict = (409, "seats_unavailable");
    let route = |good: Sent, missing, out_of_bounds, rule| Route {
        is_guarded: good.token == server.admin,
        has_keys: good.method == "POST",
        good,
        missing,
        out_of_bounds,
        rule,
    };
    let mut routes = vec![
        route(
            sent("POST", "/v1/concerts".into(), &admin, json!({"title": "x"})),
            None,
            Some(json!({"title": ""})),
            None,
        ),
        route(
            sent("POST", format!("/v1/concerts/{concert}/options"), &admin, option_body(2)),
            Some("/v1/concerts/c99/options"),
            Some({
                let mut body = option_body(2);
                body["hold_seconds"] = json!(0);
                body
            }),
            None,
        ),
        route(
            sent("PATCH", format!("/v1/options/{option}"), &admin, json!({"sale_opens_at": null})),
            Some("/v1/options/o99"),
            Some(json!({"sale_opens_at": "2199-01-01T00:00:00Z"})),
            None,
        ),
        route(
            sent("PATCH", format!("/v1/concerts/{concert}/waiting-room"), &admin, json!({"max_active": 7})),
            Some("/v1/concerts/c99/waiting-room"),
            Some(json!({"max_active": 0})),
            None,
        ),
        route(
            sent("POST", format!("/v1/options/{option}/blocks"), &admin, json!({"seats": ["S7"]})),
            Some("/v1/options/o99/blocks"),
            Some(json!({"seats": []})),
            Some((format!("/v1/options/{option}/blocks"), json!({"seats": ["S2"]}), conflict)),
        ),
        route(
            sent("POST", format!("/v1/options/{option}/unblocks"), &admin, json!({"seats": ["S7"]})),
            Some("/v1/options/o99/unblocks"),
            Some(json!({"seats": []})),
            None,
        ),
        route(
            sent("POST", holds.clone(), &anna, json!({"seats": ["S3"]})),
            Some("/v1/options/o99/reservations"),
            Some(json!({"best_available": {"count": 0}})),
            Some((holds, json!({"seats": ["S2"]}), conflict)),
        ),
        route(
            sent("POST", format!("/v1/reservations/{held}/payments"), &anna, json!({})),
            Some("/v1/reservations/r1-99/payments"),
            None,
            Some((format!("/v1/reservations/{sold}/payments"), json!({}), (409, "already_paid"))),
        ),
        route(
            sent("POST", format!("/v1/payments/{paid}/refunds"), &anna, json!({})),
            Some("/v1/payments/p1-99/refunds"),
            None,
            Some((format!("/v1/payments/{paid}/refunds"), json!({}), (409, "not_refundable"))),
        ),
        route(
            sent("POST", "/v1/users/anna/wallet/charges".into(), &admin, json!({"amount": 5})),
            Some("/v1/users/%00/wallet/charges"),
            Some(json!({"amount": 0})),
            Some((
                "/v1/users/anna/wallet/charges".into(),
                json!({"amount": 9_007_199_254_740_991_u64}),
                (409, "limit_exceeded"),
            )),
        ),
        route(
            sent("POST", "/v1/webhooks".into(), &admin, json!({"url": "http://127.0.0.1:9/"})),
            None,
            Some(json!({"url": "ftp://x"})),
            None,
        ),
        route(
            sent("POST", format!("/v1/webhooks/{hook}/redrive"), &admin, json!({})),
            Some("/v1/webhooks/w99/redrive"),
            Some(json!({"event_id": "x"})),
            None,
        ),
        route(
            sent("POST", format!("/v1/webhooks/{hook}/rotate-secret"), &admin, json!({})),
            Some("/v1/webhooks/w99/rotate-secret"),
            None,
            None,
        ),
        route(
            sent("POST", format!("/v1/concerts/{concert}/tokens"), &anna, json!({})),
            Some("/v1/concerts/c99/tokens"),
            None,
            None,
        ),
    ];
    for route in &mut routes {
        let path = &route.good.path;
        route.has_keys &= path != "/v1/webhooks" && !path.ends_with("rotate-secret") && !path.ends_with("tokens");
    }
    // What the key is known with.
    for (path, token, body) in [
        ("/v1/concerts".to_owned(), &admin, json!({"title": "y"})),
        (format!("/v1/concerts/{concert}/options"), &admin, option_body(1)),
        (format!("/v1/options/{option}/blocks"), &admin, json!({"seats": ["S8"]})),
        (format!("/v1/options/{option}/unblocks"), &admin, json!({"seats": ["S8"]})),
        (format!("/v1/options/{option}/reservations"), &anna, json!({"seats": ["S4"]})),
        ("/v1/users/anna/wallet/charges".to_owned(), &admin, json!({"amount": 1})),
    ] {
        let used = Sent { key: Some("used"), ..sent("POST", path, token, body) };
        let answer = used.to(server).await;
        assert!(answer.status < 300, "{answer:?}");
    }
    routes
}

#[tokio::test]
async fn of_two_faults_the_first_is_told() {
    let server = Server::with(|settings| {
        settings.webhooks.allow_private_addresses = true;
        settings.limits.plan_bytes = 1 << 10;
        settings.limits.user_open_holds = 0;
    })
    .await;
    let routes = routes(&server).await;
    let before = all_there_is(&server).await;
    let mut pairs = 0;
    for route in &routes {
        let bodiless = route.good.body == "{}";
        for (n, first) in Fault::ALL.into_iter().enumerate() {
            for second in Fault::ALL.into_iter().skip(n).filter(|second| second.step() > first.step()) {
                // `{}` is the only body of some, so that no key of theirs is known with another one.
                if bodiless && (first == F::KeyReused || second == F::KeyReused) {
                    continue;
                }
                // A plan may be large: what is too large for it is another matter.
                if route.good.path.ends_with("/options") && (first == F::TooLarge || second == F::TooLarge) {
                    continue;
                }
                let Some((sent, expected)) = route.spoilt(&server, first, second) else { continue };
                let answer = sent.to(&server).await;
                let what = format!("{first:?} and {second:?}: {} {}", sent.method, sent.path);
                assert_eq!(answer.code(), expected, "{what}: {answer:?}");
                pairs += 1;
            }
        }
    }
    assert!(pairs > 400, "{pairs}");
    assert_eq!(all_there_is(&server).await, before, "nothing has changed");
}

/// What these requests are about. (Of a receiver its registration: that nothing can be delivered to it is written down.)
async fn all_there_is(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    for path in ["/v1/concerts", "/v1/options/o1", "/v1/options/o1/seats", "/v1/concerts/c1/waiting-room"] {
        all.push(server.get(path, &server.admin).await.body);
    }
    let anna = server.buyer("anna");
    for path in ["/v1/reservations", "/v1/payments", "/v1/wallet/entries"] {
        all.push(server.get(path, &anna).await.body);
    }
    let hooks = server.get("/v1/webhooks", &server.admin).await.body;
    all.extend(hooks["items"].as_array().unwrap().iter().map(|hook| hook["id"].clone()));
    all
}

#[tokio::test]
async fn a_remembered_answer_goes_before_the_rules() {
    let server = Server::start().await;
    let option = server.option(4).await;
    let anna = server.buyer("anna");
    let path = format!("/v1/options/{option}/reservations");
    let hold = |key, body: Value| Sent {
        method: "POST",
        path: path.clone(),
        token: anna.clone(),
        media_type: "application/json",
        key: Some(key),
        body: body.to_string(),
    };
    let first = hold("k", json!({"seats": ["S1"]})).to(&server).await.created();
    let room = json!({"mode": "queue", "max_active": 1});
    let paused = server.ask("PATCH", "/v1/concerts/c1/waiting-room", &server.admin, room).await;
    assert_eq!(paused.status, 200, "{paused:?}");
    for (key, seats, status, code) in
        [("new", "S2", 403, "queue_token_required"), ("k", "S2", 422, "idempotency_key_reused")]
    {
        let answer = hold(key, json!({"seats": [seats]})).to(&server).await;
        assert_eq!(answer.code(), (status, code), "{key} {seats}");
    }
    assert_eq!(hold("k", json!({"seats": ["S1"]})).to(&server).await.created(), first);
}

/// What is in the query of a read is looked at after who asks, and whether there is such a thing.
#[tokio::test]
async fn reads_are_checked_in_the_same_order() {
    let server = Server::start().await;
    let option = server.option(4).await;
    let (admin, anna) = (server.admin.clone(), server.buyer("anna"));
    let token = server.post("/v1/concerts/c1/tokens", &anna, Value::Null).await.created();
    let none = String::new();
    for (path, who, origin, expected) in [
        ("/v1/concerts?limit=0", &none, "", (400, "invalid_request")),
        ("/v1/wallet/entries?limit=0", &none, "", (401, "unauthenticated")),
        ("/v1/payments/p9-9", &none, "", (401, "unauthenticated")),
        ("/v1/payments/nothing", &none, "", (401, "unauthenticated")),
        ("/v1/reservations?limit=0", &none, "", (401, "unauthenticated")),
        ("/v1/reservations?user_id=ben&limit=0", &anna, "", (403, "forbidden")),
        ("/v1/users/%00/wallet", &anna, "", (403, "forbidden")),
        ("/v1/events?limit=0", &anna, "", (403, "forbidden")),
        ("/v1/webhooks?limit=0", &anna, "", (403, "forbidden")),
        ("/v1/webhooks/w99/dead-letters?limit=0", &anna, "", (403, "forbidden")),
        ("/v1/webhooks/w99/dead-letters?limit=0", &admin, "", (404, "not_found")),
        ("/v1/stats?option_id=o99&since=x", &anna, "", (403, "forbidden")),
        ("/v1/stats?option_id=o99&since=x", &admin, "", (404, "not_found")),
        ("/v1/options/o99/live?since=x", &none, "", (404, "not_found")),
        (&format!("/v1/options/{option}/live?since=x"), &none, "https://evil.example", (403, "forbidden")),
        ("/v1/tokens/t1-99/live?x=1", &none, "", (401, "unauthenticated")),
        ("/v1/tokens/t1-99/live?x=1", &anna, "https://evil.example", (404, "not_found")),
        (&format!("/v1/tokens/{token}/live?x=1"), &anna, "https://evil.example", (403, "forbidden")),
    ] {
        let request = server.request("GET", path, who);
        let request = if origin.is_empty() { request } else { request.header("origin", origin) };
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.code(), expected, "{path}: {answer:?}");
    }
}
