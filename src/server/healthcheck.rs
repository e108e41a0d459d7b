//! Asks a server how it is, as what watches over containers does from within one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;

use super::webhooks::addresses::Reach;
use super::webhooks::client;

/// Who does not answer within that is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether it lives.
    Alive,
    /// Whether it takes requests.
    Ready,
}

/// Where a server that listens at `listen` can be asked on its own machine.
///
/// # Errors
/// It is no address, or one that it picks itself.
pub fn url_of(listen: &str) -> Result<String, String> {
    let mut address: SocketAddr = listen.parse().map_err(|_| format!("{listen} is no address"))?;
    if address.port() == 0 {
        return Err("the server picks a port by itself: say which with --url".into());
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(format!("http://{address}"))
}

/// Asks the server at `url`.
///
/// # Errors
/// Why it is not well, or that it cannot be told.
pub async fn ask(url: &str, question: Question) -> Result<(), String> {
    let path = match question {
        Question::Alive => "healthz",
        Question::Ready => "readyz",
    };
    let mut url = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
    url.path_segments_mut().map_err(|()| "the URL has no path")?.pop_if_empty().push(path);
    let client = client(PATIENCE, 1, Reach::Anywhere).map_err(|error| error.to_string())?;
    let answer = client.get(url.clone()).send().await.map_err(super::providers::api::explain);
    let answer = answer.map_err(|error| format!("{url}: {error}"))?;
    if answer.status() == 200 {
        Ok(())
    } else {
        Err(format!("{url}: the answer has status {}", answer.status().as_u16()))
    }
}
