//! Who may do what.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::harness::Server;

const OPEN: [(&str, &str); 6] = [
    ("GET", "/v1/concerts"),
    ("GET", "/v1/concerts/c1"),
    ("GET", "/v1/options/o1"),
    ("GET", "/v1/options/o1/plan"),
    ("GET", "/v1/options/o1/seats"),
    ("GET", "/healthz"),
];
const USERS: [(&str, &str); 15] = [
    ("POST", "/v1/concerts/c1/tokens"),
    ("GET", "/v1/tokens/t1-1"),
    ("DELETE", "/v1/tokens/t1-1"),
    ("POST", "/v1/options/o1/reservations"),
    ("GET", "/v1/reservations"),
    ("GET", "/v1/reservations/r1-1"),
    ("DELETE", "/v1/reservations/r1-1"),
    ("POST", "/v1/reservations/r1-1/payments"),
    ("GET", "/v1/payments"),
    ("GET", "/v1/payments/p1-1"),
    ("POST", "/v1/payments/p1-1/refunds"),
    ("GET", "/v1/wallet"),
    ("GET", "/v1/wallet/entries"),
    ("POST", "/v1/wallet/charges"),
    ("GET", "/v1/reservations?user_id=anna"),
];
const ADMINS: [(&str, &str); 19] = [
    ("POST", "/v1/concerts"),
    ("GET", "/v1/concerts/c1/waiting-room"),
    ("PATCH", "/v1/concerts/c1/waiting-room"),
    ("POST", "/v1/concerts/c1/options"),
    ("PATCH", "/v1/options/o1"),
    ("POST", "/v1/options/o1/blocks"),
    ("POST", "/v1/options/o1/unblocks"),
    ("GET", "/v1/users/anna/wallet"),
    ("POST", "/v1/users/anna/wallet/charges"),
    ("GET", "/v1/webhooks"),
    ("POST", "/v1/webhooks"),
    ("GET", "/v1/webhooks/w1"),
    ("DELETE", "/v1/webhooks/w1"),
    ("POST", "/v1/webhooks/w1/rotate-secret"),
    ("POST", "/v1/webhooks/w1/redrive"),
    ("GET", "/v1/webhooks/w1/dead-letters"),
    ("DELETE", "/v1/webhooks/w1/dead-letters/0-1-0"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/events"),
];

#[tokio::test]
async fn nobody_passes_a_guarded_route_without_a_valid_token() {
    let server = Server::start().await;
    server.option(2).await;
    let secret = std::fs::read_to_string(server.data_dir().join("jwt.key")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let sign = |algorithm: Algorithm, claims: Value, secret: &str| {
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.trim().as_bytes()))
            .unwrap()
    };
    let good = json!({"sub": "anna", "exp": now + 60});
    let unsigned =
        [json!({"alg": "none", "typ": "JWT"}), good.clone()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let bad = [
        ("nonsense", "x".to_owned()),
        ("expired", sign(Algorithm::HS256, json!({"sub": "anna", "exp": now - 1}), &secret)),
        ("no expiry", sign(Algorithm::HS256, json!({"sub": "anna"}), &secret)),
        ("forged", sign(Algorithm::HS256, good.clone(), "another secret of more than 32 bytes")),
        ("wrong algorithm", sign(Algorithm::HS512, good.clone(), &secret)),
        ("unknown role", sign(Algorithm::HS256, json!({"sub": "anna", "exp": now + 60, "role": "root"}), &secret)),
        ("unsigned", format!("{}.{}.", unsigned[0], unsigned[1])),
    ];
    for (method, path) in USERS.iter().chain(&ADMINS) {
        let nobody = server.ask(method, path, "", Value::Null).await;
        assert_eq!(nobody.code(), (401, "unauthenticated"), "{method} {path}");
        assert_eq!(nobody.header("www-authenticate"), "Bearer");
        for (what, token) in &bad {
            let answer = server.ask(method, path, token, Value::Null).await;
            assert_eq!(answer.code(), (401, "unauthenticated"), "{what}: {method} {path}");
            assert!(answer.header("www-authenticate").contains("invalid_token"));
        }
    }
    for (method, path) in OPEN {
        assert_eq!(server.ask(method, path, "", Value::Null).await.status, 200, "{method} {path}");
    }
    let good = sign(Algorithm::HS256, good, &secret);
    assert_eq!(server.get("/v1/wallet", &good).await.status, 200);
    let basic = server.request("GET", "/v1/wallet", "").basic_auth("anna", Some(&good)).send().await.unwrap();
    assert_eq!(basic.status(), 401);
}

#[tokio::test]
async fn buyers_do_not_get_where_admins_do() {
    let server = Server::start().await;
    server.option(2).await;
    let anna = server.buyer("anna");
    let before = server.last_lsn().await;
    for (method, path) in ADMINS {
        // 403 goes before whatever may be wrong with the body.
        let answer = server.request(method, path, &anna).body("x").send().await.unwrap();
        assert_eq!(answer.status(), 403, "{method} {path}");
        let nowhere = path.replace("c1", "c9").replace("o1", "o9");
        assert_eq!(
            server.ask(method, &nowhere, &anna, Value::Null).await.code(),
            (403, "forbidden"),
            "{method} {nowhere}"
        );
    }
    assert_eq!(server.post("/v1/wallet/charges", &anna, json!({"amount": 5})).await.code(), (403, "forbidden"));
    assert_eq!(server.get("/v1/reservations?user_id=ben", &anna).await.code(), (403, "forbidden"));
    assert_eq!(server.last_lsn().await, before);
}

#[tokio::test]
async fn what_is_somebody_elses_does_not_exist() {
    let server = Server::start().await;
    let option = server.option(4).await;
    let (anna, ben) = (server.buyer("anna"), server.buyer("ben"));
    server.charge("anna", 1_000).await;
    let held = server.hold(&option, &anna, &["S1"]).await;
    let paid = server.hold(&option, &anna, &["S2"]).await;
    let payment = server.post(&format!("/v1/reservations/{paid}/payments"), &anna, json!({})).await.created();
    let token = server.post("/v1/concerts/c1/tokens", &anna, Value::Null).await.created();
    let before = server.last_lsn().await;
    let paths = [
        ("GET", format!("/v1/tokens/{token}")),
        ("DELETE", format!("/v1/tokens/{token}")),
        ("GET", format!("/v1/reservations/{held}")),
        ("DELETE", format!("/v1/reservations/{held}")),
        ("POST", format!("/v1/reservations/{held}/payments")),
        ("GET", format!("/v1/payments/{payment}")),
        ("POST", format!("/v1/payments/{payment}/refunds")),
    ];
    for (method, path) in &paths {
        let answer = server.ask(method, path, &ben, Value::Null).await;
        assert_eq!(answer.code(), (404, "not_found"), "{method} {path}");
        let nothing = server.ask(method, &path.replace('-', "-99"), &ben, Value::Null).await;
        assert_eq!(answer.body, nothing.body, "{method} {path}");
        // Nor does a body that is wrong tell more.
        let with_body = server.request(method, path, &ben).body("x").send().await.unwrap();
        assert_eq!(with_body.status(), 404, "{method} {path}");
    }
    // Nobody pays for others, not even an admin.
    let path = format!("/v1/reservations/{held}/payments");
    assert_eq!(server.post(&path, &server.admin, json!({})).await.code(), (404, "not_found"));
    assert_eq!(server.last_lsn().await, before);
    for list in ["/v1/reservations", "/v1/payments", "/v1/wallet/entries"] {
        assert_eq!(server.get(list, &ben).await.body["items"], json!([]), "{list}");
    }
    // An admin may look, release and refund.
    for (method, path) in [&paths[2], &paths[3], &paths[5]] {
        assert_eq!(server.ask(method, path, &server.admin, Value::Null).await.status, 200, "{method} {path}");
    }
    assert_eq!(server.ask(paths[6].0, &paths[6].1, &server.admin, Value::Null).await.status, 201);
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

#[tokio::test]
async fn who_asks_too_often_has_to_wait() {
    let server = Server::with(|settings| settings.limits.user_requests_per_second = 1).await;
    let (anna, ben) = (server.buyer("anna"), server.buyer("ben"));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(server.get("/v1/wallet", &anna).await.status);
    }
    assert!(statuses[..2] == [200, 200] && statuses.contains(&429), "{statuses:?}");
    assert_eq!(server.get("/v1/wallet", &ben).await.status, 200);
    assert_eq!(server.get("/v1/concerts", "").await.status, 200);
}
