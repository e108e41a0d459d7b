//! What must not be told: the log of a server, down to every step, during all that there is to do.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, client, option_body};
use crate::process::{run, serve_with_log, terminate, text};
use crate::receiver::{FINE, Receiver};

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        "[log]\nlevel = \"trace\"\n[webhooks]\nallow_private_addresses = true\n[storage]\nmin_free_bytes = 0\n";
    std::fs::write(dir.path().join("trace.toml"), settings).unwrap();
    let log = dir.path().join("log");
    let (child, lines) =
        serve_with_log(dir.path(), &["--config", "trace.toml"], Stdio::from(File::create(&log).unwrap()));
    let address = lines.last().unwrap().strip_prefix("listening on ").unwrap();
    let jwt = |arguments: &[&str]| {
        let printed = run(dir.path(), &[&["token", "--data", "data"][..], arguments].concat());
        text(&printed.stdout).trim().to_owned()
    };
    let (admin, anna) = (jwt(&["--user", "root", "--role", "admin"]), jwt(&["--user", "anna"]));
    let forged = format!("{}AAAA", &anna[..anna.len() - 4]);
    let client = client();
    let ask = async |method: &str, path: &str, token: &str, headers: &[(&str, &str)], body: Value| {
        let method: Method = method.parse().unwrap();
        let request = client.request(method, format!("{address}{path}")).bearer_auth(token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = if body.is_null() { request } else { request.json(&body) };
        Answer::of(request.send().await.unwrap()).await
    };

    let receiver = Receiver::start(|_| FINE).await;
    let webhook = json!({"url": format!("http://{}/hook", receiver.address)});
    let webhook = ask("POST", "/v1/webhooks", &admin, &[], webhook).await.body;
    let path = format!("/v1/webhooks/{}/rotate-secret", webhook["id"].as_str().unwrap());
    let rotated = ask("POST", &path, &admin, &[], Value::Null).await.body;
    let concert = json!({"title": "x", "waiting_room": {"mode": "queue"}});
    let concert = ask("POST", "/v1/concerts", &admin, &[], concert).await.created();
    let option = ask("POST", &format!("/v1/concerts/{concert}/options"), &admin, &[], option_body(4)).await.created();
    ask("POST", "/v1/users/anna/wallet/charges", &admin, &[], json!({"amount": 1_000})).await.created();
    let token = ask("POST", &format!("/v1/concerts/{concert}/tokens"), &anna, &[], Value::Null).await;
    let path = format!("/v1/tokens/{}", token.created());
    while ask("GET", &path, &anna, &[], Value::Null).await.body["status"] != "active" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (socket, _) = {
        let live = format!("{}{path}/live", address.replace("http", "ws"));
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(live).unwrap();
        request.headers_mut().insert("sec-websocket-protocol", format!("bearer, {anna}").parse().unwrap());
        tokio_tungstenite::connect_async(request).await.unwrap()
    };
    let queue_token = token.body["token"].as_str().unwrap().to_owned();
    let path = format!("/v1/options/{option}/reservations");
    let with_token = [("queue-token", queue_token.as_str()), ("idempotency-key", "once")];
    let held = ask("POST", &path, &anna, &with_token, json!({"seats": ["S1"]})).await.created();
    let paid = ask("POST", &format!("/v1/reservations/{held}/payments"), &anna, &[], Value::Null).await.created();
    ask("POST", &format!("/v1/payments/{paid}/refunds"), &admin, &[], Value::Null).await.created();
    for (token, status) in [(forged.as_str(), 401), ("nonsense", 401), (&anna, 403)] {
        assert_eq!(ask("GET", "/v1/events", token, &[], Value::Null).await.status, status);
    }
    let bad = [("queue-token", &queue_token[..queue_token.len() - 1])];
    assert_eq!(ask("POST", &path, &anna, &bad, json!({"seats": ["S2"]})).await.status, 403);
    let delivered = receiver.wait_for(5).await;
    let signature = delivered[0].header("webhook-signature").to_owned();
    drop(socket);
    assert_eq!(terminate(child).0, Some(0));

    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("TRACE") && log.contains("/v1/events"), "it is the whole log: {} bytes", log.len());
    let key = std::fs::read_to_string(dir.path().join("data/jwt.key")).unwrap();
    // Of what is signed the signature, of what has a name the rest.
    let signature_of = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let secret = |answer: &Value| answer["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap().to_owned();
    for (what, secret) in [
        ("the key", key.trim().to_owned()),
        ("the admin's JWT", signature_of(&admin)),
        ("a buyer's JWT", signature_of(&anna)),
        ("a forged JWT", forged),
        ("a queue token", queue_token),
        ("a webhook's secret", secret(&webhook)),
        ("a webhook's new secret", secret(&rotated)),
        ("a webhook's signature", signature.split(',').nth(1).unwrap().split(' ').next().unwrap().to_owned()),
    ] {
        assert!(secret.len() >= 16, "{what}");
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{what}");
    }
}
