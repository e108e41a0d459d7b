//! Tokens that an issuer signs whose keys are fetched: who gets in, who does not, and what becomes of others meanwhile.

use std::time::{Duration, Instant};

use boxoffice::server::auth::Role;
use boxoffice::server::config::Settings;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, in_full};
use crate::issuer::{AUDIENCE, Issuer, Key, Say, encode, now, roles, set};
use crate::live;
use crate::process::{run, text};

async fn server(issuer: &Issuer, configure: impl FnOnce(&mut Settings)) -> Server {
    let server = Server::with(|settings| {
        issuer.configure(settings);
        configure(settings);
    })
    .await;
    server.ready().await;
    server
}

async fn ask(server: &Server, token: &str) -> Answer {
    server.get("/v1/wallet", token).await
}

/// That a token is refused, by what names the check.
async fn assert_refused(server: &Server, token: &str, check: &str, what: &str) {
    for _ in 0..2 {
        let answer = ask(server, token).await;
        assert_eq!(answer.code(), (401, "unauthenticated"), "{what}");
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"", "{what}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.starts_with(check), "{what}: {detail}");
    }
}

fn span(text: &str) -> boxoffice::server::config::Span {
    text.parse().unwrap()
}

#[tokio::test]
async fn whoever_has_a_key_of_the_set_gets_in_wherever_that_comes_from() {
    let keys = [Key::first(), Key::second(), Key::ec(), Key::ed()];
    let issuer = Issuer::start(set(&keys));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    std::fs::write(&file, json!({"keys": keys.iter().map(Key::jwk).collect::<Vec<_>>()}).to_string()).unwrap();
    for source in ["url", "file", "issuer"] {
        let server = server(&issuer, |settings| match source {
            "file" => (settings.auth.jwks_url, settings.auth.jwks_file) = (String::new(), file.clone()),
            "issuer" => settings.auth.jwks_url.clear(),
            _ => {}
        })
        .await;
        for key in &keys {
            let answer = ask(&server, &key.sign(&issuer.claims(json!({"sub": key.kid})))).await;
            assert_eq!((answer.status, &answer.body["user_id"]), (200, &json!(key.kid)), "{source}: {answer:?}");
        }
        assert!(!server.data_dir().join("jwt.key").exists(), "there is no secret to be stolen");
        let none = ask(&server, "").await;
        assert_eq!((none.status, none.header("www-authenticate")), (401, "Bearer"));
    }
}

#[tokio::test]
async fn each_check_refuses_and_is_named() {
    let mut marked = Vec::new();
    for (kid, member, value) in [
        ("for hs", "alg", json!("RS512")),
        ("for encryption", "use", json!("enc")),
        ("for signing", "key_ops", json!(["sign"])),
        ("short", "n", json!("AQAB")),
        ("no exponent", "e", json!("")),
        ("exponent 1", "e", json!("AQ")),
        ("even exponent", "e", json!("Ag")),
    ] {
        let mut jwk = Key::second().jwk();
        (jwk["kid"], jwk[member]) = (json!(kid), value);
        marked.push(jwk);
    }
    let mut twice = Key::second().jwk();
    twice["kid"] = json!("twice");
    let mut namesake = Key::first().jwk();
    namesake["kid"] = json!("twice");
    marked.extend([twice, namesake]);
    // One that is listed twice is one.
    marked.extend([Key::ec().jwk(), Key::ec().jwk()]);
    // Points of small order: 1, and one of order 8.
    for (kid, x) in [
        ("order 1", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ("order 8", "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU"),
    ] {
        marked.push(json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}));
    }
    marked.push(json!({"kty": "oct", "kid": "secret", "k": encode(&json!("a secret that both sides know"))}));
    marked.push(json!({"kty": 7}));
    marked.extend([Key::first(), Key::weak(), Key::ec(), Key::p384()].iter().map(Key::jwk));
    let issuer = Issuer::start(Say::Json(json!({"keys": marked})));
    let server = server(&issuer, |settings| settings.auth.leeway_seconds = 30).await;
    let (first, second) = (Key::first(), Key::second());
    let good = issuer.claims(json!({}));
    let of = |others: Value| first.sign(&issuer.claims(others));
    let with = |head: Value| first.sign_with(&good, head);
    for (what, token) in [
        ("plain", first.sign(&good)),
        ("one of several audiences", of(json!({"aud": ["x", AUDIENCE]}))),
        ("a client in place of an audience", of(json!({"aud": null, "client_id": "another"}))),
        ("expired within the leeway", of(json!({"exp": now() - 10}))),
        ("begins within the leeway", of(json!({"nbf": now() + 10}))),
        ("an access token", with(json!({"typ": "at+jwt"}))),
        ("no type", with(json!({"typ": null}))),
        ("the only key for this algorithm", Key::ec().sign_with(&good, json!({"kid": null}))),
        (
            "keys from elsewhere do not matter",
            with(
                json!({"jku": "https://evil.example", "x5u": "https://evil.example", "jwk": second.jwk(), "x5c": ["x"]}),
            ),
        ),
        ("unknown roles", of(json!({"role": ["root", 7, null]}))),
    ] {
        let answer = ask(&server, &token).await;
        assert_eq!((answer.status, &answer.body["user_id"]), (200, &json!("anna")), "{what}: {answer:?}");
    }
    let forged = {
        let [token, other] = [&first, &second].map(|key| key.sign(&good));
        format!("{}.{}", token.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1)
    };
    let unsigned = format!("{}.{}.", encode(&json!({"alg": "none"})), encode(&good));
    let hs256 = {
        let key = jsonwebtoken::EncodingKey::from_secret(b"a secret that both sides know");
        jsonwebtoken::encode(&jsonwebtoken::Header { kid: Some("secret".into()), ..Default::default() }, &good, &key)
            .unwrap()
    };
    for (what, token, check) in [
        ("no JWT", "nonsense".to_owned(), "This is no JWT."),
        ("too long", of(json!({"x": "x".repeat(20_000)})), "This is no JWT."),
        ("a kid that is no text", with(json!({"kid": 7})), "This is no JWT."),
        ("unsigned", unsigned, "alg:"),
        ("a secret", hs256, "alg:"),
        ("not listed", Key::p384().sign(&good), "alg:"),
        ("a key for another algorithm", first.sign_with(&good, json!({"alg": "ES256"})), "alg:"),
        ("a key that says another one", second.sign_with(&good, json!({"kid": "for hs"})), "alg:"),
        ("a key on another curve", with(json!({"alg": "ES256", "kid": "p384"})), "crv:"),
        ("a key to encrypt with", second.sign_with(&good, json!({"kid": "for encryption"})), "use:"),
        ("a key to sign with", second.sign_with(&good, json!({"kid": "for signing"})), "key_ops:"),
        ("a weak key", Key::weak().sign(&good), "RSA:"),
        ("a broken key", second.sign_with(&good, json!({"kid": "short"})), "RSA:"),
        ("a key of no exponent", second.sign_with(&good, json!({"kid": "no exponent"})), "The key"),
        ("a key that leaves all as it is", second.sign_with(&good, json!({"kid": "exponent 1"})), "The key"),
        ("a key of an even exponent", second.sign_with(&good, json!({"kid": "even exponent"})), "The key"),
        ("a key by which anybody signs", Key::ed().sign_with(&good, json!({"kid": "order 1"})), "The key"),
        ("another of them", Key::ed().sign_with(&good, json!({"kid": "order 8"})), "The key"),
        ("an unknown key", second.sign(&good), "kid:"),
        ("a key of two that have its name", second.sign_with(&good, json!({"kid": "twice"})), "kid:"),
        ("no kid, and several keys", with(json!({"kid": null})), "kid:"),
        ("no kid, and no key", Key::ed().sign_with(&good, json!({"kid": null})), "kid:"),
        ("extensions", with(json!({"crit": ["b64"], "b64": true})), "crit:"),
        ("another type", with(json!({"typ": "logout+jwt"})), "typ:"),
        ("forged", forged, "The signature"),
        ("no claims", first.sign(&json!([])), "The claims"),
        ("another issuer", of(json!({"iss": format!("{}/", issuer.url)})), "iss:"),
        ("no issuer", of(json!({"iss": null})), "iss:"),
        ("several issuers", of(json!({"iss": [issuer.url]})), "iss:"),
        ("another audience", of(json!({"aud": "x", "client_id": AUDIENCE})), "aud:"),
        ("other audiences", of(json!({"aud": ["x", 7]})), "aud:"),
        ("no audience", of(json!({"aud": null})), "aud:"),
        ("no expiry", of(json!({"exp": null})), "exp:"),
        ("an expiry that is no number", of(json!({"exp": "2099"})), "exp:"),
        ("expired", of(json!({"exp": now() - 31})), "exp:"),
        ("not yet", of(json!({"nbf": now() + 60})), "nbf:"),
        ("a beginning that is no number", of(json!({"nbf": "now"})), "nbf:"),
        ("no subject", of(json!({"sub": null})), "sub:"),
        ("a subject that is too long", of(json!({"sub": "x".repeat(256)})), "sub:"),
    ] {
        assert_refused(&server, &token, check, what).await;
    }
}

#[tokio::test]
async fn only_listed_algorithms_count() {
    let issuer = Issuer::start(set(&[Key::first(), Key::ec()]));
    let server = server(&issuer, |settings| settings.auth.algorithms.retain(|it| format!("{it:?}") == "Es256")).await;
    assert_eq!(ask(&server, &Key::ec().sign(&issuer.claims(json!({})))).await.status, 200);
    assert_refused(&server, &Key::first().sign(&issuer.claims(json!({}))), "alg:", "not listed").await;
}

#[tokio::test]
async fn roles_are_where_they_are_said_to_be_and_add_up() {
    let issuer = Issuer::start(set(&[Key::first()]));
    let url = "https://shop.example/roles";
    // What an admin, a cashier, a historian and a buyer may read.
    let paths = ["/v1/sinks", "/v1/payments?owed=true", "/v1/users/x/wallet/history", "/v1/wallet"];
    let (admin, nobody) = ([200, 200, 200, 200], [403, 403, 403, 200]);
    let mapped = roles(&[("shop-admins", Role::Admin), ("money", Role::Payments), ("watch", Role::Viewer)]);
    for (claim, map, claims, expected) in [
        ("role", false, json!({"role": "admin"}), admin),
        ("role", false, json!({"role": "root"}), nobody),
        ("role", false, json!({}), nobody),
        ("role", false, json!({"role": {"admin": true}}), nobody),
        ("role", false, json!({"role": ["viewer", "root"]}), [403, 403, 200, 403]),
        ("role", false, json!({"role": ["viewer", "payments"]}), [403, 200, 200, 403]),
        ("role", false, json!({"role": "viewer payments"}), nobody),
        ("scope", false, json!({"scope": "openid viewer payments"}), [403, 200, 200, 403]),
        (url, true, json!({url: ["shop-admins"]}), admin),
        (url, true, json!({url: ["admin"]}), nobody),
        ("realm_access.roles", true, json!({"realm_access": {"roles": ["x", "money", "watch"]}}), [403, 200, 200, 403]),
        (
            "realm_access.roles",
            true,
            json!({"realm_access.roles": "watch", "realm_access": {"roles": "money"}}),
            [403, 403, 200, 403],
        ),
        ("realm_access.roles", true, json!({"realm_access": "money"}), nobody),
    ] {
        let server = server(&issuer, |settings| {
            settings.auth.role_claim = claim.into();
            settings.auth.roles = if map { mapped.clone() } else { Default::default() };
        })
        .await;
        let token = Key::first().sign(&issuer.claims(claims.clone()));
        let answers = join_all(paths.map(|path| server.get(path, &token))).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, expected, "{claim} {claims}");
    }
}

#[tokio::test]
async fn whoever_shows_a_token_is_told_what_they_are_here() {
    let issuer = Issuer::start(set(&[Key::first()]));
    let server = server(&issuer, |settings| {
        settings.auth.role_claim = "realm_access.roles".into();
        settings.auth.roles =
            roles(&[("desk", Role::BoxOffice), ("lists", Role::Viewer), ("shop-admins", Role::Admin)]);
    })
    .await;
    for (named, expected) in [
        (json!(["shop-admins"]), json!(["admin"])),
        (json!(["lists", "desk", "admin"]), json!(["box_office", "viewer"])),
        (json!([]), json!([])),
    ] {
        let token = Key::first().sign(&issuer.claims(json!({"realm_access": {"roles": named}})));
        let answer = server.get("/v1/site", &token).await;
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!((answer.status, answer.body), (200, json!({"login_url": null, "roles": expected})), "{named}");
    }
    for token in [String::new(), Key::second().sign(&issuer.claims(json!({})))] {
        let answer = server.get("/v1/site", &token).await;
        assert_eq!((answer.status, answer.body), (200, json!({"login_url": null})));
    }
}

#[tokio::test]
async fn the_servers_own_tokens_count_beside_the_set_only_if_they_are_let() {
    let issuer = Issuer::start(Say::Status(500));
    let own = |settings: &mut Settings| {
        issuer.configure(settings);
        settings.auth.local_tokens = true;
    };
    let server = Server::with(own).await;
    assert_eq!(server.get("/v1/stats", &server.admin).await.status, 200, "also while there are no keys");
    assert_eq!(ask(&server, &server.buyer("anna")).await.status, 200);
    let ours = server.buyer("anna");
    issuer.say(set(&[Key::first()]));
    server.ready().await;
    assert_eq!(ask(&server, &Key::first().sign(&issuer.claims(json!({})))).await.status, 200);
    assert_eq!(ask(&server, &ours).await.status, 200);
    let server = self::server(&issuer, |_| ()).await;
    assert_refused(&server, &ours, "alg:", "a token of the server's own").await;
}

#[tokio::test]
async fn a_new_key_is_fetched_once_for_all_who_show_it() {
    let issuer = Issuer::start(set(&[Key::first()]));
    let server = server(&issuer, |settings| settings.auth.jwks_cooldown = span("1h")).await;
    assert_eq!(issuer.fetches(), 1);
    issuer.say(set(&[Key::first(), Key::second()]));
    let tokens: Vec<_> = (0..20).map(|n| Key::second().sign(&issuer.claims(json!({"sub": format!("u{n}")})))).collect();
    for answer in join_all(tokens.iter().map(|token| ask(&server, token))).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(issuer.fetches(), 2);
    // The next one has to wait for the usual fetch.
    issuer.say(set(&[Key::first(), Key::second(), Key::ec()]));
    assert_refused(&server, &Key::ec().sign(&issuer.claims(json!({}))), "kid:", "within the cooldown").await;
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn a_socket_waits_for_a_new_key_too() {
    let issuer = Issuer::start(set(&[Key::first()]));
    let mut server = server(&issuer, |_| ()).await;
    server.admin = Key::first().sign(&issuer.claims(json!({"sub": "root", "role": "admin"})));
    server.concert().await;
    let first = Key::first().sign(&issuer.claims(json!({})));
    let token = server.post("/v1/concerts/c1/tokens", &first, Value::Null).await.created();
    issuer.say(set(&[Key::second()]));
    let upgrade = |token: &str, jwt: &str| {
        let request = server.request("GET", &format!("/v1/tokens/{token}/live"), "");
        let request = request.header("connection", "upgrade").header("upgrade", "websocket");
        request
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", format!("bearer, {jwt}"))
            .send()
    };
    let second = Key::second().sign(&issuer.claims(json!({})));
    assert_eq!(upgrade(&token, &second).await.unwrap().status(), 101);
    assert_eq!(upgrade(&token, &first).await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_socket_ends_with_the_key_of_its_token() {
    let issuer = Issuer::start(set(&[Key::first(), Key::second()]));
    let mut server = server(&issuer, |settings| {
        settings.auth.jwks_refresh = span("1s");
        settings.live.ping_interval = span("100ms");
    })
    .await;
    server.admin = Key::second().sign(&issuer.claims(json!({"sub": "root", "role": "admin"})));
    let concert = server.concert().await;
    let anna = Key::first().sign(&issuer.claims(json!({})));
    let token = server.post(&format!("/v1/concerts/{concert}/tokens"), &anna, Value::Null).await.created();
    let (path, bearer) = (format!("/v1/tokens/{token}/live"), format!("bearer, {anna}"));
    let (mut socket, _) = live::open(&server, &path, &[("sec-websocket-protocol", &bearer)]).await.unwrap();
    assert_eq!(live::next(&mut socket).await["type"], "token");
    issuer.say(set(&[Key::second()]));
    assert_eq!(live::closed(&mut socket).await, 1008);
}

#[tokio::test]
async fn a_key_that_comes_during_a_fetch_is_found_by_the_next() {
    let issuer = Issuer::start(set(&[Key::first()]));
    let server = server(&issuer, |settings| {
        settings.auth.jwks_refresh = span("1s");
        settings.auth.jwks_cooldown = span("1h");
        settings.auth.jwks_timeout = span("3s");
    })
    .await;
    issuer.say(Say::Nothing);
    issuer.wait_for(1).await;
    // That one gets no answer.
    issuer.say(set(&[Key::first(), Key::second()]));
    let answer = ask(&server, &Key::second().sign(&issuer.claims(json!({})))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_key_that_is_gone_is_out_for_remembered_tokens_too() {
    let issuer = Issuer::start(set(&[Key::first(), Key::second()]));
    let server = server(&issuer, |settings| settings.auth.jwks_refresh = span("1s")).await;
    let [first, second] = [Key::first(), Key::second()].map(|key| key.sign(&issuer.claims(json!({}))));
    for token in [&first, &second] {
        assert_eq!(ask(&server, token).await.status, 200);
    }
    issuer.say(set(&[Key::second()]));
    // The second of these begins once the first has been taken in.
    issuer.wait_for(2).await;
    assert_refused(&server, &first, "kid:", "gone").await;
    assert_eq!(ask(&server, &second).await.status, 200);
    // The same name for another key.
    let mut other = Key::first().jwk();
    other["kid"] = json!("second");
    issuer.say(Say::Json(json!({"keys": [other]})));
    issuer.wait_for(2).await;
    assert_refused(&server, &second, "The signature", "of the old key").await;
}

#[tokio::test]
async fn without_keys_the_server_starts_and_says_so() {
    let issuer = Issuer::start(Say::Status(500));
    let server = Server::with(|settings| issuer.configure(settings)).await;
    let token = Key::first().sign(&issuer.claims(json!({})));
    let answer = ask(&server, &token).await;
    assert_eq!(answer.code(), (503, "keys_unavailable"), "{answer:?}");
    let ready = server.get("/readyz", "").await;
    assert_eq!((ready.status, &ready.body["ready"]), (503, &json!(false)));
    assert!(ready.body["reasons"].to_string().contains("jwks"), "{ready:?}");
    // The rest works: what is there for anybody, and refusals that need no key.
    assert_eq!(server.get("/v1/concerts", "").await.status, 200);
    assert_eq!(server.get("/healthz", "").await.status, 200);
    // Who shows a token might see more.
    assert_eq!(server.get("/v1/concerts", &token).await.code(), (503, "keys_unavailable"));
    assert_refused(&server, "nonsense", "This is no JWT.", "without keys").await;
    issuer.say(set(&[Key::first()]));
    server.ready().await;
    assert_eq!(ask(&server, &token).await.status, 200);
}

/// What a fetch does not take.
fn bad_answers() -> Vec<Say> {
    let many: Vec<_> = (0..101).map(|_| Key::second().jwk()).collect();
    let mut useless = Key::second().jwk();
    useless["e"] = json!("");
    vec![
        Say::Json(json!({"keys": [useless]})),
        Say::Status(404),
        Say::Status(206),
        Say::Text("<html>"),
        Say::Text("{\"keys\": 7}"),
        Say::Json(json!({"keys": []})),
        Say::Json(json!({"keys": many})),
        Say::Json(json!({"keys": [Key::weak().jwk(), Key::p384().jwk()]})),
        Say::Json(json!({"keys": [Key::second().jwk()], "padding": "x".repeat(256 << 10)})),
        Say::Elsewhere,
        Say::Endless,
        Say::Nothing,
    ]
}

#[tokio::test]
async fn a_bad_answer_leaves_the_old_keys_and_holds_nobody_up() {
    for say in bad_answers() {
        let issuer = Issuer::start(set(&[Key::first()]));
        let server = server(&issuer, |settings| {
            settings.auth.jwks_cooldown = span("100ms");
            settings.auth.jwks_timeout = span("1s");
        })
        .await;
        let [first, second] = [Key::first(), Key::second()].map(|key| key.sign(&issuer.claims(json!({}))));
        issuer.say(say.clone());
        let unknown = ask(&server, &second);
        let others = async {
            // While that waits, as long as the issuer lets it.
            issuer.wait_for(1).await;
            let begun = Instant::now();
            for _ in 0..20 {
                assert_eq!(ask(&server, &first).await.status, 200, "{say:?}");
            }
            begun.elapsed()
        };
        let (unknown, _) = tokio::join!(unknown, others);
        assert_eq!(unknown.status, 401, "{say:?}");
        let ready = server.get("/readyz", "").await;
        assert_eq!((ready.status, &ready.body["ready"]), (200, &json!(true)), "{say:?}: {ready:?}");
        assert!(ready.body["warnings"].to_string().contains("jwks"), "{say:?}: {ready:?}");
        // It has not gone where it was sent to, and goes on once there are keys again.
        issuer.say(set(&[Key::first(), Key::second()]));
        let begun = Instant::now();
        while ask(&server, &second).await.status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{say:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!server.get("/readyz", "").await.body["warnings"].to_string().contains("jwks"), "{say:?}");
    }
}

#[tokio::test]
async fn keys_that_are_too_old_are_none() {
    let issuer = Issuer::start(set(&[Key::first()]));
    let server = server(&issuer, |settings| {
        settings.auth.jwks_refresh = span("1s");
        settings.auth.jwks_keep = span("1s");
    })
    .await;
    let token = Key::first().sign(&issuer.claims(json!({})));
    assert_eq!(ask(&server, &token).await.status, 200);
    issuer.say(Say::Status(503));
    // Remembered as it is.
    let begun = Instant::now();
    while ask(&server, &token).await.code() != (503, "keys_unavailable") {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(server.get("/readyz", "").await.body["reasons"].to_string().contains("jwks"));
    issuer.say(set(&[Key::first()]));
    server.ready().await;
    assert_eq!(ask(&server, &token).await.status, 200);
}

#[tokio::test]
async fn an_issuer_must_be_who_it_says() {
    let issuer = Issuer::start(set(&[Key::first()]));
    let url = &issuer.url;
    for description in [
        json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/keys")}),
        json!({"issuer": url}),
        json!({"issuer": url, "jwks_uri": "http://issuer.example/keys"}),
        json!({"issuer": url, "jwks_uri": "file:///etc/passwd"}),
    ] {
        issuer.describe(description.clone());
        let server = Server::with(|settings| {
            issuer.configure(settings);
            settings.auth.jwks_url.clear();
        })
        .await;
        let begun = Instant::now();
        loop {
            let reasons = server.get("/readyz", "").await.body["reasons"].to_string();
            assert!(reasons.contains("jwks"), "{description}: {reasons}");
            if reasons.contains("issuer's") {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{reasons}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(issuer.fetches(), 0, "{description}");
    }
}

#[test]
fn no_token_is_made_where_somebody_else_makes_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("login.toml");
    let token = |more: &str| {
        let whole = format!("[auth]\nissuer = \"https://id.example\"\naudiences = [\"us\"]\n{more}");
        std::fs::write(&file, whole).unwrap();
        let output = run(dir.path(), &["token", "--config", file.to_str().unwrap(), "--user", "anna"]);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, printed, complaint) = token("");
    assert_eq!((status, printed.as_str()), (Some(1), ""));
    assert!(complaint.contains("https://id.example"), "{complaint}");
    let secret = "secret = \"0123456789abcdef0123456789abcdef\"";
    let (status, printed, _) = token(&format!("{secret}\nlocal_tokens = true"));
    assert_eq!((status, printed.split('.').count()), (Some(0), 3));
}

/// A flood of tokens by keys that nobody knows costs the issuer one fetch a cooldown, and others nothing.
#[tokio::test]
async fn attack_by_unknown_keys_costs_one_fetch() {
    let issuer = Issuer::start(set(&[Key::first()]));
    let server = server(&issuer, |settings| settings.auth.jwks_cooldown = span("1h")).await;
    let good = Key::first().sign(&issuer.claims(json!({})));
    let claims = issuer.claims(json!({}));
    let forged = |n: usize| {
        let head = json!({"alg": "RS256", "kid": format!("k{n}")});
        format!("{}.{}.{}", encode(&head), encode(&claims), "A".repeat(342))
    };
    let floods = if in_full() { 20_000 } else { 200 };
    for flood in 0..floods / 50 {
        let tokens: Vec<_> = (0..50).map(|n| forged(50 * flood + n)).collect();
        let answers = join_all(tokens.iter().map(|token| ask(&server, token))).await;
        assert!(answers.iter().all(|answer| answer.status == 401));
        assert_eq!(ask(&server, &good).await.status, 200);
    }
    assert_eq!(issuer.fetches(), 2);
}
