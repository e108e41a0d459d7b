//! Every route and socket, asked by everybody: what each must get stands in one table, and what roles beside the admin get in
//! another, which has only what they may do. The table is compared with the description of the API, and that with the routes
//! themselves, so that a route without a row fails.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::{Provider, ProviderKind, Secret};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::harness::{Answer, STARTS_AT, Server, option_body};

/// What strangers, another buyer, the owner and an admin get.
type Statuses = [u16; 4];
const ANYBODY: Statuses = [200; 4];
const EACH_THEIR_OWN: Statuses = [401, 200, 200, 200];
const ADMIN_READS: Statuses = [401, 403, 403, 200];
const ADMIN_MAKES: Statuses = [401, 403, 403, 201];
const OWNER_OR_ADMIN: Statuses = [401, 404, 200, 200];

/// Routes that are not described: pages and what they are made of. They are there for anybody.
const PAGES: [(&str, &str); 8] = [
    ("/", "/"),
    ("/ops", "/ops"),
    ("/web/{file:.*}", "/web/app.js"),
    ("/embed/v1.js", "/embed/v1.js"),
    ("/docs", "/docs"),
    ("/docs/{file:.*}", "/docs/"),
    ("/openapi.json", "/openapi.json"),
    ("/problems/{name}", "/problems/not-found"),
];

/// Method, path, a body that does, and who gets what. `{id}` is something of the owner's.
fn rows() -> Vec<(&'static str, &'static str, Value, Statuses)> {
    let none = || Value::Null;
    let seats = || json!({"seats": ["S2"]});
    vec![
        ("GET", "/v1/concerts", none(), ANYBODY),
        ("POST", "/v1/concerts", json!({"title": "x"}), ADMIN_MAKES),
        ("GET", "/v1/concerts/{id}", none(), ANYBODY),
        ("PATCH", "/v1/concerts/{id}", json!({"venue": "A hall"}), ADMIN_READS),
        ("DELETE", "/v1/concerts/{id}", none(), [401, 403, 403, 204]),
        ("GET", "/v1/concerts/{id}/waiting-room", none(), ADMIN_READS),
        ("PATCH", "/v1/concerts/{id}/waiting-room", json!({"max_active": 7}), ADMIN_READS),
        ("POST", "/v1/concerts/{id}/options", option_body(1), ADMIN_MAKES),
        ("POST", "/v1/concerts/{id}/tokens", none(), [401, 201, 201, 201]),
        ("GET", "/v1/options/{id}", none(), ANYBODY),
        ("PATCH", "/v1/options/{id}", json!({"refundable_until": STARTS_AT}), ADMIN_READS),
        ("DELETE", "/v1/options/{id}", none(), [401, 403, 403, 204]),
        ("GET", "/v1/options/{id}/plan", none(), ANYBODY),
        ("PUT", "/v1/options/{id}/plan", json!({"seating_plan": option_body(6)["seating_plan"]}), ADMIN_READS),
        ("GET", "/v1/options/{id}/seats", none(), ANYBODY),
        ("GET", "/v1/options/{id}/live", none(), [101; 4]),
        ("POST", "/v1/options/{id}/blocks", seats(), ADMIN_READS),
        ("POST", "/v1/options/{id}/unblocks", seats(), ADMIN_READS),
        ("POST", "/v1/options/{id}/cancellation", json!({}), [401, 403, 403, 202]),
        // It is not called off.
        ("GET", "/v1/options/{id}/cancellation", none(), [401, 403, 403, 404]),
        ("POST", "/v1/options/{id}/reservations", seats(), [401, 201, 201, 201]),
        ("GET", "/v1/options/{id}/reservations", none(), ADMIN_READS),
        ("GET", "/v1/options/{id}/seats/{seat}/history", none(), ADMIN_READS),
        ("GET", "/v1/tokens/{id}", none(), OWNER_OR_ADMIN),
        ("GET", "/v1/tokens/{id}/history", none(), ADMIN_READS),
        ("DELETE", "/v1/tokens/{id}", none(), [401, 404, 204, 204]),
        ("GET", "/v1/tokens/{id}/live", none(), [401, 404, 101, 101]),
        ("GET", "/v1/reservations", none(), EACH_THEIR_OWN),
        ("GET", "/v1/reservations?user_id=owner", none(), [401, 403, 200, 200]),
        ("GET", "/v1/reservations/{id}", none(), OWNER_OR_ADMIN),
        ("DELETE", "/v1/reservations/{id}", none(), OWNER_OR_ADMIN),
        ("PATCH", "/v1/reservations/{id}", json!({"expires_at": STARTS_AT}), ADMIN_READS),
        ("POST", "/v1/reservations/{id}/releases", json!({"seats": ["S1"]}), OWNER_OR_ADMIN),
        // It is held, and only what is confirmed changes so.
        ("POST", "/v1/reservations/{id}/exchanges", json!({"give": ["S1"], "take": ["S2"]}), [401, 404, 409, 409]),
        ("POST", "/v1/reservations/{id}/transfers", json!({"to": "other"}), [401, 404, 409, 409]),
        // Made to the other, and nobody accepts for others, not even an admin.
        ("POST", "/v1/transfers/{id}/accept", none(), [401, 200, 404, 404]),
        ("DELETE", "/v1/transfers/{id}", none(), [401, 404, 204, 204]),
        // Nobody pays for others, not even an admin.
        ("POST", "/v1/reservations/{id}/payments", none(), [401, 404, 201, 404]),
        ("GET", "/v1/payments", none(), EACH_THEIR_OWN),
        ("GET", "/v1/payments?owed=true", none(), ADMIN_READS),
        ("GET", "/v1/payments?user_id=owner", none(), [401, 403, 200, 200]),
        ("GET", "/v1/payments?option_id=o1", none(), ADMIN_READS),
        ("GET", "/v1/payments/reconciliation?provider=card&day=2026-11-29", none(), ADMIN_READS),
        // Nobody is asked who is not configured.
        ("GET", "/v1/payments/reconciliation/differences?provider=x&day=2026-11-29", none(), [401, 403, 403, 400]),
        ("GET", "/v1/payments/{id}", none(), OWNER_OR_ADMIN),
        ("POST", "/v1/payments/{id}/refunds", none(), [401, 404, 201, 201]),
        // Only a payment by a provider can be given up, and only by its owner, or has facts.
        ("DELETE", "/v1/payments/{id}", none(), [401, 404, 409, 404]),
        (
            "POST",
            "/v1/payments/{id}/facts",
            json!({"kind": "voided", "reference": "a", "amount": 1}),
            [401, 403, 403, 404],
        ),
        ("POST", "/v1/payments/{id}/lookup", none(), [401, 403, 403, 404]),
        ("POST", "/v1/payments/{id}/confirmation", json!({"reference": "a", "amount": 1}), [401, 404, 404, 404]),
        // Signed, or of nobody: tokens do not matter.
        ("POST", "/v1/payment-providers/{name}/webhook", json!({}), [400; 4]),
        ("GET", "/v1/wallet", none(), EACH_THEIR_OWN),
        ("GET", "/v1/wallet/entries", none(), EACH_THEIR_OWN),
        ("POST", "/v1/wallet/charges", json!({"amount": 1}), [401, 403, 403, 403]),
        ("GET", "/v1/users/{user_id}/wallet", none(), ADMIN_READS),
        ("POST", "/v1/users/{user_id}/wallet/charges", json!({"amount": 1}), ADMIN_MAKES),
        ("POST", "/v1/users/{user_id}/wallet/adjustments", json!({"amount": 1, "reason": "x"}), ADMIN_MAKES),
        ("GET", "/v1/users/{user_id}/wallet/history", none(), ADMIN_READS),
        ("GET", "/v1/events", none(), ADMIN_READS),
        ("GET", "/v1/webhooks", none(), ADMIN_READS),
        ("POST", "/v1/webhooks", webhook(), ADMIN_MAKES),
        ("GET", "/v1/webhooks/{id}", none(), ADMIN_READS),
        ("DELETE", "/v1/webhooks/{id}", none(), [401, 403, 403, 204]),
        ("POST", "/v1/webhooks/{id}/rotate-secret", none(), ADMIN_READS),
        ("POST", "/v1/webhooks/{id}/redrive", none(), ADMIN_READS),
        ("GET", "/v1/webhooks/{id}/dead-letters", none(), ADMIN_READS),
        // There is none.
        ("DELETE", "/v1/webhooks/{id}/dead-letters/{event_id}", none(), [401, 403, 403, 404]),
        ("GET", "/v1/sinks", none(), ADMIN_READS),
        ("GET", "/v1/sinks/{id}", none(), ADMIN_READS),
        ("POST", "/v1/sinks/{id}/redrive", none(), ADMIN_READS),
        ("GET", "/v1/sinks/{id}/dead-letters", none(), ADMIN_READS),
        // There is none.
        ("DELETE", "/v1/sinks/{id}/dead-letters/{event_id}", none(), [401, 403, 403, 404]),
        ("GET", "/v1/site", none(), ANYBODY),
        ("GET", "/v1/stats", none(), ADMIN_READS),
        ("GET", "/healthz", none(), ANYBODY),
        ("GET", "/readyz", none(), ANYBODY),
    ]
}

/// The roles beside the admin, in the order of the columns.
const ROLES: [Role; 4] = [Role::BoxOffice, Role::Refunds, Role::Viewer, Role::Payments];

/// What these roles get, by the method and path of a row. What is not in here is as for anybody, or else 403.
fn roles() -> Vec<(&'static str, &'static str, [u16; 4])> {
    const LISTS: [u16; 4] = [200, 200, 200, 403];
    const ALL: [u16; 4] = [200; 4];
    const SELLING: [u16; 4] = [200, 403, 403, 403];
    const HISTORIES: [u16; 4] = [403, 403, 200, 403];
    vec![
        ("POST", "/v1/options/{id}/blocks", SELLING),
        ("POST", "/v1/options/{id}/unblocks", SELLING),
        ("POST", "/v1/options/{id}/reservations", [201, 403, 403, 403]),
        ("GET", "/v1/reservations", LISTS),
        ("GET", "/v1/reservations?user_id=owner", LISTS),
        ("GET", "/v1/reservations/{id}", LISTS),
        ("GET", "/v1/options/{id}/reservations", LISTS),
        ("GET", "/v1/options/{id}/seats/{seat}/history", HISTORIES),
        ("GET", "/v1/tokens/{id}/history", HISTORIES),
        ("GET", "/v1/users/{user_id}/wallet/history", HISTORIES),
        ("POST", "/v1/reservations/{id}/exchanges", [403, 409, 403, 403]),
        ("POST", "/v1/reservations/{id}/transfers", [409, 403, 403, 403]),
        ("DELETE", "/v1/transfers/{id}", [204, 403, 403, 403]),
        ("GET", "/v1/payments", ALL),
        ("GET", "/v1/payments?user_id=owner", ALL),
        ("GET", "/v1/payments?option_id=o1", ALL),
        ("GET", "/v1/payments?owed=true", [403, 200, 403, 200]),
        ("GET", "/v1/payments/{id}", ALL),
        ("POST", "/v1/payments/{id}/refunds", [403, 201, 403, 403]),
        // There are none of a payment by points.
        ("POST", "/v1/payments/{id}/facts", [403, 403, 403, 404]),
        ("POST", "/v1/payments/{id}/lookup", [403, 403, 403, 404]),
    ]
}

/// One to which nothing is sent in these tests.
fn webhook() -> Value {
    json!({"url": "http://127.0.0.1:9/", "event_types": ["boxoffice.token.expired"]})
}

/// The path of a row, with something new of the owner's in it.
async fn something_of(server: &Server, owner: &str, path: &str) -> String {
    let mut kinds = path.split('/').skip(2);
    let kind = kinds.next().unwrap_or_default();
    if !path.contains('{') {
        return path.to_owned();
    }
    let id = match kind {
        "concerts" => server.concert().await,
        "options" => option(server).await,
        "tokens" => {
            let concert = server.concert().await;
            server.post(&format!("/v1/concerts/{concert}/tokens"), owner, Value::Null).await.created()
        }
        "reservations" => server.hold(&option(server).await, owner, &["S1"]).await,
        "payments" => {
            let held = server.hold(&option(server).await, owner, &["S1"]).await;
            server.post(&format!("/v1/reservations/{held}/payments"), owner, Value::Null).await.created()
        }
        "transfers" => {
            let held = server.hold(&option(server).await, owner, &["S1"]).await;
            server.post(&format!("/v1/reservations/{held}/payments"), owner, Value::Null).await.created();
            let offer = json!({"to": "other"});
            server.post(&format!("/v1/reservations/{held}/transfers"), owner, offer).await.created()
        }
        "webhooks" | "sinks" => server.post("/v1/webhooks", &server.admin, webhook()).await.created(),
        "users" => "owner".to_owned(),
        "payment-providers" => "card".to_owned(),
        other => panic!("what is {other}?"),
    };
    path.replace("{name}", &id)
        .replace("{seat}", "S1")
        .replace("{id}", &id)
        .replace("{user_id}", &id)
        .replace("{event_id}", "0-1-0")
}

async fn option(server: &Server) -> String {
    let concert = server.concert().await;
    let mut body = option_body(2);
    body["refundable_until"] = STARTS_AT.into();
    server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await.created()
}

async fn send(request: RequestBuilder, path: &str, body: &Value) -> Answer {
    let request = if path.ends_with("/live") {
        request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    } else {
        request
    };
    let request = if body.is_null() { request } else { request.json(body) };
    let response = request.send().await.unwrap();
    if response.status() == 101 {
        return Answer { status: 101, headers: response.headers().clone(), body: Value::Null };
    }
    Answer::of(response).await
}

/// Ways to show no valid token, in the header of this name.
fn strangers(server: &Server) -> Vec<(&'static str, &'static str, String)> {
    let secret = std::fs::read_to_string(server.data_dir().join("jwt.key")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let good = json!({"sub": "owner", "exp": now + 600, "role": "admin"});
    let sign = |algorithm: Algorithm, claims: &Value, secret: &str| {
        let key = EncodingKey::from_secret(secret.trim().as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    };
    let unsigned = |algorithm: &str| {
        let parts = [json!({"alg": algorithm, "typ": "JWT"}), good.clone()];
        let [head, claims] = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{head}.{claims}.")
    };
    let valid = sign(Algorithm::HS256, &good, &secret);
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    let other_claims = URL_SAFE_NO_PAD.encode(json!({"sub": "root", "exp": now + 600, "role": "admin"}).to_string());
    let swapped = format!("{}.{other_claims}.{signature}", signed.split_once('.').unwrap().0);
    let expired = json!({"sub": "owner", "exp": now - 1, "role": "admin"});
    let tokens = [
        ("nonsense", "x".to_owned()),
        ("expired", sign(Algorithm::HS256, &expired, &secret)),
        ("no expiry", sign(Algorithm::HS256, &json!({"sub": "owner", "role": "admin"}), &secret)),
        ("forged", sign(Algorithm::HS256, &good, "another secret of more than 32 bytes")),
        ("other claims under a good signature", swapped),
        ("wrong algorithm", sign(Algorithm::HS512, &good, &secret)),
        ("unknown role", sign(Algorithm::HS256, &json!({"sub": "owner", "exp": now + 600, "role": "root"}), &secret)),
        ("alg: none", unsigned("none")),
        ("alg: None", unsigned("None")),
        ("no signature", format!("{signed}.")),
    ];
    let mut strangers =
        vec![("basic", "authorization", format!("Basic {valid}")), ("no scheme", "authorization", valid)];
    for (what, token) in tokens {
        strangers.push((what, "authorization", format!("Bearer {token}")));
        strangers.push((what, "sec-websocket-protocol", format!("bearer, {token}")));
    }
    strangers.push(("nobody", "x-nothing", String::new()));
    strangers
}

async fn start() -> Server {
    let server = Server::with(|settings| {
        settings.limits.user_open_holds = 0;
        settings.webhooks.allow_private_addresses = true;
        let (secret_key, webhook_secrets) = (Secret::new("sk_test_1"), vec![Secret::new("whsec_1")]);
        let (name, kind) = ("card".to_owned(), ProviderKind::Stripe);
        let card = Provider { name, kind, secret_key, webhook_secrets, ..Provider::default() };
        settings.payments.providers = vec![card];
    })
    .await;
    server.charge("owner", 1_000_000).await;
    server
}

#[tokio::test]
async fn strangers_get_what_is_there_for_anybody() {
    let server = start().await;
    let owner = server.buyer("owner");
    let mut cells = Vec::new();
    for (method, path, body, [stranger, ..]) in rows() {
        cells.push((method, something_of(&server, &owner, path).await, body, stranger));
    }
    let before = server.last_lsn().await;
    for (what, name, value) in strangers(&server) {
        for (method, path, body, status) in &cells {
            let answer = send(server.request(method, path, "").header(name, &value), path, body).await;
            assert_eq!(answer.status, *status, "{what} ({name}): {method} {path}: {answer:?}");
            if *status == 401 {
                assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}: {answer:?}");
                assert!(!answer.body.to_string().contains("owner"), "{what}: {method} {path}: {answer:?}");
            }
        }
        for (_, path) in PAGES {
            assert_eq!(server.request("GET", path, "").header(name, &value).send().await.unwrap().status(), 200);
        }
    }
    assert_eq!(server.last_lsn().await, before, "nobody has changed anything");
}

#[tokio::test]
async fn buyers_and_admins_get_what_is_theirs() {
    let server = start().await;
    let (other, owner) = (server.buyer("other"), server.buyer("owner"));
    for (method, path, body, [_, statuses @ ..]) in rows() {
        for ((who, token), status) in
            [("other", &other), ("owner", &owner), ("admin", &server.admin)].into_iter().zip(statuses)
        {
            let place = something_of(&server, &owner, path).await;
            let answer = send(server.request(method, &place, token), &place, &body).await;
            assert_eq!(answer.status, status, "{who}: {method} {place}: {answer:?}");
            if who == "other" {
                assert!(!answer.body.to_string().contains("owner"), "{method} {place}: {answer:?}");
            }
            if status == 403 {
                // That goes before whatever is wrong with the rest, and so tells nothing of it.
                let nowhere = path
                    .replace("{id}", "c999")
                    .replace("{seat}", "x")
                    .replace("{user_id}", "%00")
                    .replace("{event_id}", "x");
                let wrong = server.request(method, &nowhere, token).body("x").send().await.unwrap();
                assert_eq!(Answer::of(wrong).await.body, answer.body, "{who}: {method} {nowhere}");
            }
        }
    }
}

#[tokio::test]
async fn roles_get_what_they_are_for() {
    let server = start().await;
    let owner = server.buyer("owner");
    let mut allowed = roles();
    for (method, path, body, [stranger, ..]) in rows() {
        let row = allowed.iter().position(|(of, other, _)| (*of, *other) == (method, path));
        let statuses = match row.map(|row| allowed.remove(row)) {
            Some((.., statuses)) => statuses,
            None if stranger == 401 => [403; 4],
            None => [stranger; 4],
        };
        for (role, status) in ROLES.into_iter().zip(statuses) {
            let user = format!("a-{}", role.as_str()).parse().unwrap();
            let token = auth::issue(&server.settings, &user, Some(role), Duration::from_secs(600)).unwrap();
            let place = something_of(&server, &owner, path).await;
            let answer = send(server.request(method, &place, &token), &place, &body).await;
            assert_eq!(answer.status, status, "{role:?}: {method} {place}: {answer:?}");
            // As whom the box office pays depends on the method.
            if status == 403 && !(role == Role::BoxOffice && path.ends_with("/payments")) {
                let nowhere = path
                    .replace("{id}", "c999")
                    .replace("{seat}", "x")
                    .replace("{user_id}", "%00")
                    .replace("{event_id}", "x");
                let wrong = server.request(method, &nowhere, &token).body("x").send().await.unwrap();
                assert_eq!(Answer::of(wrong).await.body, answer.body, "{role:?}: {method} {nowhere}");
            }
        }
    }
    assert_eq!(allowed, [], "rows that there are none of");
}

/// Browsers cannot set headers for a WebSocket, and show their JWT as a subprotocol. That is no way in anywhere else.
#[tokio::test]
async fn a_subprotocol_shows_who_asks_to_sockets_only() {
    let server = start().await;
    let owner = server.buyer("owner");
    for (who, token, status) in [("other", server.buyer("other"), 404), ("owner", owner.clone(), 101)] {
        let path = something_of(&server, &owner, "/v1/tokens/{id}/live").await;
        let request = server.request("GET", &path, "").header("sec-websocket-protocol", format!("bearer, {token}"));
        assert_eq!(send(request, &path, &Value::Null).await.status, status, "{who}");
    }
    let request = server.request("GET", "/v1/wallet", "").header("sec-websocket-protocol", format!("bearer, {owner}"));
    assert_eq!(Answer::of(request.send().await.unwrap()).await.status, 401);
}

#[tokio::test]
async fn every_route_has_a_row() {
    let server = start().await;
    let document = server.get("/openapi.json", "").await.body;
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let rows: BTreeSet<_> =
        rows().iter().map(|(method, path, ..)| format!("{method} {}", path.split('?').next().unwrap())).collect();
    assert_eq!(rows, described);

    // A row a resource: at("path", [method(handler), ...]).
    let mut routes = BTreeSet::new();
    for line in include_str!("../../src/server/mod.rs").lines() {
        let Some((_, rest)) = line.split_once("at(\"") else { continue };
        let (path, methods) = rest.split_once("\", [").unwrap();
        for method in methods.split("), ") {
            routes.insert(format!("{} {path}", method.split_once('(').unwrap().0.to_uppercase()));
        }
    }
    let others = PAGES.iter().map(|(path, _)| format!("GET {path}")).chain(["GET /metrics".to_owned()]);
    assert_eq!(routes, described.into_iter().chain(others).collect());
}

#[tokio::test]
async fn a_subscriber_may_ask_only_so_often_if_that_is_wanted() {
    let limited = |trusted: &'static str| {
        Server::with(move |settings| {
            settings.limits.address_requests_per_second = 1;
            settings.http.trusted_proxies = vec![trusted.to_owned()];
        })
    };
    let ask = async |server: &Server, forwarded: &str| {
        let request = server.request("GET", "/v1/concerts", "").header("x-forwarded-for", forwarded);
        Answer::of(request.send().await.unwrap()).await.status
    };
    let server = limited("127.0.0.0/8").await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&server, "1.1.1.1, 198.51.100.1").await);
    }
    assert!(statuses[..2] == [200, 200] && statuses.contains(&429), "{statuses:?}");
    assert_eq!(ask(&server, "1.1.1.1, 198.51.100.2").await, 200);
    for path in ["/healthz", "/readyz"] {
        let request = server.request("GET", path, "").header("x-forwarded-for", "198.51.100.1");
        assert_eq!(Answer::of(request.send().await.unwrap()).await.status, 200, "{path}");
    }
    // Nobody else's word is taken.
    let server = limited("192.0.2.1").await;
    let mut statuses = Vec::new();
    for n in 0..4 {
        statuses.push(ask(&server, &format!("198.51.100.{n}")).await);
    }
    assert!(statuses[..2] == [200, 200] && statuses.contains(&429), "{statuses:?}");
    let off = Server::start().await;
    for _ in 0..50 {
        assert_eq!(ask(&off, "198.51.100.1").await, 200);
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_what_they_may_not_do() {
    let server = start().await;
    let option = option(&server).await;
    for path in
        ["/v1/concerts", "/v1/wallet", "/nowhere", "/healthz", "/problems/not-found", "/openapi.json", "/", "/docs/"]
    {
        let answer = server.get(path, "").await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
    }
    let path = format!("/v1/options/{option}/live");
    let socket = send(server.request("GET", &path, ""), &path, &Value::Null).await;
    assert_eq!((socket.status, socket.header("x-frame-options")), (101, "DENY"));
}

#[tokio::test]
async fn a_token_lapses_while_the_server_remembers_it() {
    let server = Server::start().await;
    let secret = std::fs::read_to_string(server.data_dir().join("jwt.key")).unwrap();
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_millis(1_500);
    let claims = json!({"sub": "anna", "exp": expires.as_secs_f64()});
    let key = EncodingKey::from_secret(secret.trim().as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    assert_eq!(server.get("/v1/wallet", &token).await.status, 200);
    while SystemTime::now().duration_since(UNIX_EPOCH).unwrap() < expires {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.get("/v1/wallet", &token).await.status, 401);
}
