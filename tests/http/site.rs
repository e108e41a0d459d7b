//! What the site is told to be: where to log in, who may show the pages in a frame; and what the command says of a server's health.

use serde_json::{Value, json};

use crate::harness::{Answer, Server};
use crate::process::{run, text};

#[tokio::test]
async fn anybody_is_told_where_to_log_in() {
    let url = "https://shop.example/login?from=tickets";
    for (login_url, expected) in [("", Value::Null), (url, json!(url))] {
        let server = Server::with(|settings| settings.auth.login_url = login_url.into()).await;
        let answer = server.get("/v1/site", "").await;
        assert_eq!((answer.status, answer.body), (200, json!({"login_url": expected})));
    }
}

#[tokio::test]
async fn the_pages_of_buyers_are_framed_by_whom_it_is_said_and_others_by_nobody() {
    for (ancestors, policy, options) in [
        (vec![], "frame-ancestors 'none';", "DENY"),
        (
            vec!["self", "https://shop.example", "https://*.shop.example:8443"],
            "frame-ancestors 'self' https://shop.example https://*.shop.example:8443;",
            "",
        ),
    ] {
        let ancestors: Vec<_> = ancestors.into_iter().map(str::to_owned).collect();
        let server = Server::with(|settings| settings.embed.frame_ancestors = ancestors).await;
        let page = server.get("/", "").await;
        let etag = page.header("etag").to_owned();
        let again = server.request("GET", "/", "").header("if-none-match", etag).send().await.unwrap();
        assert_eq!(again.status(), 304);
        for page in [page, Answer::of(again).await] {
            let said = page.header("content-security-policy");
            assert!(said.contains(policy) && said.matches("frame-ancestors").count() == 1, "{said}");
            assert_eq!(page.header("x-frame-options"), options, "{said}");
        }
        for path in ["/ops", "/docs/", "/v1/concerts", "/web/app.js"] {
            let answer = server.get(path, "").await;
            assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
            assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        }
    }
}

#[tokio::test]
async fn the_command_tells_how_a_server_is() {
    let well = Server::start().await;
    // It lives, and takes no token.
    let unready = Server::with(|settings| {
        settings.auth.issuer = "http://127.0.0.1:9".into();
        settings.auth.audiences = vec!["us".into()];
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("boxoffice.toml");
    let check = async |arguments: &[&str]| {
        let (dir, config) = (dir.path().to_owned(), config.to_str().unwrap().to_owned());
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.replace("CONFIG", &config)).collect();
        let run = move || {
            let all: Vec<_> = ["healthcheck"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
            run(&dir, &all)
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert_eq!(text(&output.stdout), "");
        assert_eq!(output.status.success(), output.stderr.is_empty(), "{}", text(&output.stderr));
        output.status.code()
    };
    let url = |server: &Server| format!("http://{}", server.address);
    std::fs::write(&config, format!("[http]\nlisten = \"0.0.0.0:{}\"", well.address.port())).unwrap();
    for (what, arguments, code) in [
        ("by the configuration", vec!["--config", "CONFIG"], 0),
        ("ready by the configuration", vec!["--config", "CONFIG", "--ready"], 0),
        ("by a URL", vec!["--url", &url(&well), "--ready"], 0),
        ("by a URL with a slash", vec!["--url", &format!("{}/", url(&well))], 0),
        ("alive", vec!["--url", &url(&unready)], 0),
        ("not ready", vec!["--url", &url(&unready), "--ready"], 1),
        ("another path", vec!["--url", &format!("{}/elsewhere", url(&well))], 1),
        ("no URL", vec!["--url", "nonsense"], 1),
        ("no address", vec!["--url", "mailto:anna"], 1),
        ("no server", vec!["--url", "http://127.0.0.1:9"], 1),
        ("no configuration", vec!["--config", "missing.toml"], 1),
        ("no such flag", vec!["--reddy"], 1),
    ] {
        assert_eq!(check(&arguments).await, Some(code), "{what}");
    }
    std::fs::write(&config, "[http]\nlisten = \"127.0.0.1:0\"").unwrap();
    assert_eq!(check(&["--config", "CONFIG"]).await, Some(1), "a port that nobody knows");
}
