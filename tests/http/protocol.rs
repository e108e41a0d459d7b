//! HTTP itself: methods, media types, sizes, time, caches, other origins.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Server, option_body};

#[tokio::test]
async fn unknown_paths_and_methods() {
    let server = Server::start().await;
    for path in [
        "/web",
        "/index.html",
        "/v1",
        "/v1/concerts/",
        "/v1/concerts//",
        "/v2/concerts",
        "/v1/concerts/c1/x",
        "/v1/options",
        "/problems/x",
    ] {
        assert_eq!(server.get(path, "").await.code(), (404, "not_found"), "{path}");
    }
    for id in ["c9", "c0", "c01", "o1", "c", "c1x", "c99999999999999999999", "%00", "c1%2F"] {
        let path = format!("/v1/concerts/{id}");
        assert_eq!(server.get(&path, "").await.code(), (404, "not_found"), "{path}");
    }
    for (method, path, allow) in [
        ("PUT", "/v1/concerts", "GET, HEAD, POST"),
        ("PUT", "/v1/concerts/c1", "GET, HEAD, PATCH, DELETE"),
        ("PUT", "/v1/options/o1/reservations", "POST, GET, HEAD"),
        ("PUT", "/v1/reservations/r1-1", "GET, HEAD, DELETE, PATCH"),
        ("TRACE", "/v1/wallet", "GET, HEAD"),
        ("OPTIONS", "/v1/wallet/charges", "POST"),
        ("POST", "/v1/site", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("BREW", "/v1/concerts/c1/waiting-room", "GET, HEAD, PATCH"),
    ] {
        // Before 401 and 404: no token, and nothing there.
        let answer = server.ask(method, path, "", Value::Null).await;
        assert_eq!(answer.code(), (405, "method_not_allowed"), "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    let head = server.request("HEAD", "/v1/concerts", "").send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap().as_str()), (200, ""));
}

#[tokio::test]
async fn bodies_are_of_the_right_kind_and_size() {
    let server = Server::with(|settings| settings.limits.plan_bytes = 4 << 10).await;
    let concert = server.concert().await;
    let send = async |method: &str, path: &str, headers: &[(&str, &str)], body: String| {
        let request = server.request(method, path, &server.admin);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.body(body).send().await.unwrap()).await
    };
    let good = json!({"title": "x"}).to_string();
    for (media_type, status) in [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("Application/JSON", 201),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("application/merge-patch+json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ] {
        let answer = send("POST", "/v1/concerts", &[("content-type", media_type)], good.clone()).await;
        assert_eq!(answer.status, status, "{media_type}");
    }
    assert_eq!(send("POST", "/v1/concerts", &[], good.clone()).await.status, 415);
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    assert_eq!(send("POST", "/v1/concerts", &gzip, good).await.code(), (415, "unsupported_media_type"));
    let patch = format!("/v1/concerts/{concert}/waiting-room");
    for media_type in ["application/json", "application/merge-patch+json"] {
        let answer = send("PATCH", &patch, &[("content-type", media_type)], "{}".into()).await;
        assert_eq!(answer.status, 200, "{media_type}");
    }
    let json = [("content-type", "application/json")];
    let exactly = format!("{{\"title\":\"x\"{}}}", " ".repeat((16 << 10) - 13));
    assert_eq!(exactly.len(), 16 << 10);
    assert_eq!(send("POST", "/v1/concerts", &json, exactly.clone()).await.status, 201);
    assert_eq!(send("POST", "/v1/concerts", &json, format!("{exactly} ")).await.code(), (413, "payload_too_large"));
    // What has no place comes before what is too large.
    let nowhere = send("POST", "/v1/options/o9/reservations", &json, format!("{exactly} ")).await;
    assert_eq!(nowhere.code(), (404, "not_found"));
    // A plan over its own bound is a field that is wrong, up to where the body as a whole is too large.
    let mut body = option_body(2);
    body["seating_plan"]["name"] = "x".repeat(5 << 10).into();
    let path = format!("/v1/concerts/{concert}/options");
    assert_eq!(send("POST", &path, &json, body.to_string()).await.fields(), ["seating_plan"]);
    body["seating_plan"]["name"] = "x".repeat(2 << 20).into();
    assert_eq!(send("POST", &path, &json, body.to_string()).await.status, 413);
}

/// Sends `request` and reads until the server closes the connection.
fn raw(server: &Server, request: &str) -> (String, Duration) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let begun = Instant::now();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // The server may reset a connection whose request it did not read to the end.
    let _ = stream.read_to_end(&mut answer);
    (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_nothing_is_cut_off() {
    let server = Server::with(|settings| {
        settings.http.body_timeout = "300ms".parse().unwrap();
        settings.http.request_timeout = "1s".parse().unwrap();
    })
    .await;
    let head = |length: usize, token: &str| {
        format!(
            "POST /v1/concerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    let chunked = |what: &str, token: &str| {
        format!(
            "{what} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        )
    };
    for (request, status) in [
        (head(20, &server.admin), "408"),
        (format!("{}{{\"ti", head(20, &server.admin)), "408"),
        (head(20 << 10, &server.admin), "413"),
        (head(20, "x"), "401"),
        ("GET /v1/concerts HTTP/1.1\r\nHost:".to_owned(), "408"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        // Nor is the rest of a body waited for that nobody wants.
        (format!("{}5\r\n{{    \r\n", chunked("POST /v1/concerts", &server.admin)), "408"),
        (format!("{}5\r\n{{    \r\n", chunked("POST /v1/concerts", "x")), "401"),
        (chunked("GET /healthz", "x"), "200"),
        (chunked("GET /nowhere", "x"), "404"),
    ] {
        let (answer, elapsed) = tokio::task::block_in_place(|| raw(&server, &request));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(elapsed < Duration::from_secs(10), "{request}: {elapsed:?}");
    }
    let (answer, _) = tokio::task::block_in_place(|| raw(&server, &head(20, &server.admin)));
    assert!(answer.contains("application/problem+json") && answer.contains("request_timeout"), "{answer}");
    assert_eq!(server.get("/v1/concerts", "").await.body["items"], json!([]));
}

#[tokio::test]
async fn plans_and_seats_are_cached() {
    let server = Server::start().await;
    let option = server.option(4).await;
    let fetch = async |what: &str, tag: Option<&str>| {
        let request = server.request("GET", &format!("/v1/options/{option}/{what}"), "");
        let request = tag.map_or(request.try_clone().unwrap(), |tag| request.header("if-none-match", tag));
        Answer::of(request.send().await.unwrap()).await
    };
    for what in ["plan", "seats"] {
        let first = fetch(what, None).await;
        let tag = first.header("etag").to_owned();
        assert!(first.status == 200 && tag.starts_with('"'), "{first:?}");
        for known in [tag.as_str(), &format!("W/{tag}"), &format!("\"x\", {tag}"), "*"] {
            let again = fetch(what, Some(known)).await;
            assert_eq!((again.status, again.header("etag"), &again.body), (304, tag.as_str(), &json!("")), "{known}");
            assert_eq!(again.header("cache-control"), first.header("cache-control"));
        }
        assert_eq!(fetch(what, Some("\"x\"")).await.status, 200);
    }
    let before = fetch("seats", None).await;
    server.hold(&option, &server.buyer("anna"), &["S1"]).await;
    let after = fetch("seats", Some(before.header("etag"))).await;
    assert_eq!((after.status, &after.body["seats"]), (200, &json!({"S1": "held"})));
    assert!(after.body["seq"].as_u64() > before.body["seq"].as_u64());
    let plan = fetch("plan", None).await;
    assert_eq!(plan.body["prices"], json!({"A": 100, "Floor": 10}));
    assert_eq!(server.get("/v1/options/o9/plan", "").await.code(), (404, "not_found"));
    assert_eq!(server.get("/v1/options/o9/seats", "").await.code(), (404, "not_found"));
    // What is one user's is kept by nobody.
    assert_eq!(server.get("/v1/wallet", &server.admin).await.header("cache-control"), "no-store");
}

#[tokio::test]
async fn other_origins_are_off_unless_configured() {
    let off = Server::start().await;
    let on = Server::with(|settings| settings.cors.allowed_origins = vec!["https://a.example".into()]).await;
    for (server, origin, allowed) in
        [(&off, "https://a.example", false), (&on, "https://a.example", true), (&on, "https://b.example", false)]
    {
        let ask = async |method: &str, path: &str| {
            let request = server.request(method, path, "").header("origin", origin);
            Answer::of(request.header("access-control-request-method", "POST").send().await.unwrap()).await
        };
        let expected = if allowed { origin } else { "" };
        let preflight = ask("OPTIONS", "/v1/concerts").await;
        assert_eq!(preflight.status, if allowed { 204 } else { 405 });
        assert_eq!(preflight.header("access-control-allow-origin"), expected);
        assert_eq!(preflight.header("access-control-allow-methods").contains("POST"), allowed);
        assert_eq!(preflight.header("access-control-allow-headers").contains("Idempotency-Key"), allowed);
        // Refusals are for the page to read as well.
        for path in ["/v1/concerts", "/v1/wallet", "/nowhere"] {
            let answer = ask("GET", path).await;
            assert_eq!(answer.header("access-control-allow-origin"), expected, "{path}");
            let exposed = answer.header("access-control-expose-headers");
            for header in ["Date", "ETag", "Location", "Retry-After", "Idempotent-Replayed"] {
                assert_eq!(exposed.contains(header), allowed, "{path} {header}");
            }
        }
    }
}

#[tokio::test]
async fn requests_have_ids() {
    let server = Server::start().await;
    let ask = async |id: Option<&str>| {
        let request = server.request("GET", "/v1/wallet", "");
        let request = id.map_or(request.try_clone().unwrap(), |id| request.header("x-request-id", id));
        Answer::of(request.send().await.unwrap()).await.header("x-request-id").to_owned()
    };
    assert_eq!(ask(Some("my-request.1")).await, "my-request.1");
    let (one, other) = (ask(None).await, ask(Some("not sane")).await);
    assert!(!one.is_empty() && !other.is_empty() && one != other && other != "not sane");
}
