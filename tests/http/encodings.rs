//! Answers as gzip: the same bytes once they are unpacked, a tag for each form, and only where they are asked for.

use std::io::Read as _;

use flate2::read::GzDecoder;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::harness::{STARTS_AT, Server};

/// Status, headers, and bytes as they came.
struct Raw(u16, HeaderMap, Vec<u8>);

impl Raw {
    fn header(&self, name: &str) -> &str {
        self.1.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn unpacked(&self) -> Vec<u8> {
        let mut text = Vec::new();
        GzDecoder::new(&self.2[..]).read_to_end(&mut text).unwrap();
        text
    }
}

async fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Raw {
    let mut request = server.request(method, path, "");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Raw(status, headers, response.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn plans_pages_and_descriptions_come_in_two_forms() {
    let server = Server::with(|settings| settings.cors.allowed_origins = vec!["https://a.example".into()]).await;
    let option = server.option(50).await;
    let plan = format!("/v1/options/{option}/plan");
    for path in
        [&plan, "/", "/ops", "/web/app.js", "/web/style.css", "/web/i18n/ko.js", "/openapi.json", "/docs/index.html"]
    {
        let plain = ask(&server, "GET", path, &[]).await;
        let packed = ask(&server, "GET", path, &[("accept-encoding", "br;q=1, gzip;q=0.8")]).await;
        assert_eq!((plain.0, packed.0), (200, 200), "{path}");
        assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), ("", "gzip"), "{path}");
        assert!(packed.2.len() < plain.2.len(), "{path}");
        assert_eq!(packed.unpacked(), plain.2, "{path}");
        assert_eq!(packed.header("content-length"), packed.2.len().to_string());
        for same in ["content-type", "cache-control", "content-security-policy"] {
            assert_eq!(plain.header(same), packed.header(same), "{path} {same}");
        }
        let tags = [&plain, &packed].map(|raw| raw.header("etag").to_owned());
        assert!(tags.iter().all(|tag| tag.starts_with('"')) && tags[0] != tags[1], "{path}: {tags:?}");
        for (accepts, tag, other) in [("identity", &tags[0], &tags[1]), ("gzip", &tags[1], &tags[0])] {
            let full = ask(&server, "GET", path, &[("accept-encoding", accepts)]).await;
            for (method, has, status) in [("HEAD", "", 200), ("GET", tag, 304), ("HEAD", tag, 304), ("GET", other, 200)]
            {
                let headers = [("accept-encoding", accepts), ("if-none-match", has)];
                let raw = ask(&server, method, path, &headers).await;
                assert_eq!(raw.0, status, "{method} {path} {accepts} {has}");
                assert_eq!(raw.2.is_empty(), status == 304 || method == "HEAD");
                for name in ["etag", "cache-control", "vary"] {
                    let of = |raw: &Raw| raw.1.get_all(name).iter().cloned().collect::<Vec<_>>();
                    assert_eq!(of(&raw), of(&full), "{method} {path} {accepts}: {name}");
                }
                let vary: Vec<_> = raw.1.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
                assert_eq!(vary, ["Accept-Encoding", "Origin"], "{path}");
                if status == 200 {
                    assert_eq!(raw.header("content-length"), full.header("content-length"), "{method} {path}");
                    assert_eq!(raw.header("content-encoding"), full.header("content-encoding"), "{method} {path}");
                }
            }
        }
        for (accepts, coding) in
            [("gzip;q=0", ""), ("identity;q=0", ""), ("identity;q=0, *;q=0.1", "gzip"), ("*", "gzip")]
        {
            let raw = ask(&server, "GET", path, &[("accept-encoding", accepts)]).await;
            assert_eq!((raw.0, raw.header("content-encoding")), (200, coding), "{path} {accepts}");
        }
    }
    // What changes, and what is refused, is sent as it stands.
    for path in [&format!("/v1/options/{option}/seats"), "/v1/concerts", "/v1/options/o77/plan", "/web/none.js"] {
        let raw = ask(&server, "GET", path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(raw.header("content-encoding"), "", "{path}");
        serde_json::from_slice::<Value>(&raw.2).unwrap();
    }
}

#[tokio::test]
async fn options_that_share_a_plan_have_prices_of_their_own() {
    let server = Server::with(|settings| settings.http.cached_plans = 1).await;
    let concert = server.concert().await;
    let mut options = Vec::new();
    for price in [1, 2] {
        let seats = [json!({"seat_guid": "1", "seat_number": "1", "category": "A", "position": {"x": 0, "y": 0}})];
        let zones = json!([{"name": "Z", "rows": [{"row_number": "1", "seats": seats}]}]);
        let body = json!({"starts_at": STARTS_AT, "prices": {"A": price},
            "seating_plan": {"name": "Hall", "categories": [{"name": "A"}], "zones": zones}});
        options.push(server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await.created());
    }
    let other = server.option(1).await;
    let mut tags = Vec::new();
    for _ in 0..2 {
        for (option, price) in options.iter().zip([1, 2]) {
            let path = format!("/v1/options/{option}/plan");
            let plain = ask(&server, "GET", &path, &[]).await;
            let packed = ask(&server, "GET", &path, &[("accept-encoding", "gzip")]).await;
            assert_eq!(packed.unpacked(), plain.2);
            let plan: Value = serde_json::from_slice(&plain.2).unwrap();
            assert_eq!((&plan["prices"], &plan["name"]), (&json!({"A": price}), &json!("Hall")));
            tags.push(plain.header("etag").to_owned());
        }
        // Another plan takes the one place that there is.
        assert_eq!(server.get(&format!("/v1/options/{other}/plan"), "").await.body["prices"]["A"], 100);
    }
    assert!(tags[0] != tags[1] && tags[..2] == tags[2..], "{tags:?}");
}
