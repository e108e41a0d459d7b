//! How many files the process may have open, and who gets how many of them.
//!
//! A connection is an open file, and so is everything that the engine writes. What connections may take is therefore what is
//! left by all that cannot wait: an engine that cannot open a file does no checkpoint, and in the end nothing at all.

use std::fmt::Write as _;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Error;
use super::config::{ProviderKind, Settings};

/// Standard streams, listeners, the lock, manifests, redo file, sled's, segments that are written and prepared, directories that
/// stay open, and others while they are synced.
const FIXED: u64 = 48;
/// What a runtime needs to wait for events.
const RUNTIME: u64 = 4;
/// Runtimes beside those of the actors and of the WebSockets.
const RUNTIMES: u64 = 6;
/// Seating plans that are read or written, and readers of the journal for one page.
const READING: u64 = 10;
/// Names that are looked up, each of which may take two.
const RESOLVING: u64 = 2 * super::webhooks::RESOLVING_THREADS as u64;
/// A reader of the journal, and one request at a time.
const SINK: u64 = 2;
/// A connection to a provider of payments that is used, and one that is kept.
const PROVIDER: u64 = 2;
/// Connections to the listener for figures.
pub(super) const OPS_CONNECTIONS: usize = 32;
/// Fewer connections are no service.
const CONNECTIONS_MIN: u64 = 8;

/// Raises the limit of open files as far as this process may.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_lower = current.is_some_and(|current| maximum.is_none_or(|maximum| current < maximum));
    if is_lower && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        // Some systems allow less than they say.
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Raises that limit, and looks whether there is enough for `settings`.
///
/// # Errors
/// There is no room for connections.
pub fn check(settings: &Settings) -> Result<(), Error> {
    raise_limit();
    share(&mut settings.clone(), limit()).map(drop)
}

/// How many files this process may have open; `None` if there is no limit.
pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Cuts what `settings` allow callers, and receivers of events, to what a process of `limit` open files has for them. Says what
/// has been cut, if anything.
///
/// A connection that becomes a WebSocket leaves its place to others, so both kinds are counted.
pub(super) fn share(settings: &mut Settings, limit: Option<u64>) -> Result<Option<String>, Error> {
    let Some(limit) = limit else { return Ok(None) };
    let sinks = settings.limits.sinks;
    let needed = needed(settings);
    let left = limit.saturating_sub(needed);
    // Receivers get a quarter at the most beyond one request each.
    let concurrency = settings.webhooks.concurrency.min(1 + left / 4 / sinks.max(1));
    let left = left.saturating_sub(sinks * (concurrency - 1));
    if left < CONNECTIONS_MIN {
        return Err(Error::Descriptors { limit, needed: needed + CONNECTIONS_MIN });
    }
    let (http, live) = (settings.http.max_connections, settings.live.max_connections);
    // Half each, and what one does not want for the other.
    let live_share = live.min(left.saturating_sub(http).max(left / 2));
    let http_share = http.min(left - live_share);
    let mut cut = String::new();
    for (key, wanted, given) in [
        ("http.max_connections", &mut settings.http.max_connections, http_share),
        ("live.max_connections", &mut settings.live.max_connections, live_share),
        ("webhooks.concurrency", &mut settings.webhooks.concurrency, concurrency),
    ] {
        if given < *wanted {
            // Writing to a string cannot fail.
            let _ = write!(cut, "{}{key} is {given} in place of {wanted}", if cut.is_empty() { "" } else { ", " });
            *wanted = given;
        }
    }
    let why = format!("this process may open {limit} files only: {cut}");
    Ok((!cut.is_empty()).then_some(why))
}

/// What cannot wait.
fn needed(settings: &Settings) -> u64 {
    let threads = RUNTIMES + settings.actors.arbiters + 1 + settings.live.threads;
    let ops = OPS_CONNECTIONS as u64;
    let kafka = if settings.kafka.is_on() { RUNTIME + super::kafka::CONNECTIONS as u64 } else { 0 };
    let readers = READING + settings.http.kept_polls + settings.limits.sinks * SINK;
    let asked = settings.payments.providers.iter().filter(|one| one.kind != ProviderKind::Reported);
    let providers = asked.map(|one| PROVIDER * one.requests).sum::<u64>();
    let traces = settings.exporting.connections();
    FIXED + threads * RUNTIME + ops + readers + kafka + providers + traces + RESOLVING + settings.http.spare_descriptors
}

#[cfg(test)]
mod tests {
    use super::super::config::Provider;
    use super::*;

    fn settings(http: u64, live: u64) -> Settings {
        let mut settings = Settings::default();
        (settings.http.max_connections, settings.live.max_connections) = (http, live);
        settings.limits.sinks = 10;
        settings
    }

    #[test]
    fn connections_get_what_the_engine_leaves() {
        let needed = needed(&settings(1, 1));
        let all = |left: u64| Some(needed + left);
        for (what, limit, wanted, given) in [
            ("no limit", None, (25_000, 20_000, 16), (25_000, 20_000, 16)),
            ("enough", all(45_150), (25_000, 20_000, 16), (25_000, 20_000, 16)),
            ("one is missing", all(45_149), (25_000, 20_000, 16), (24_999, 20_000, 16)),
            ("not enough for either", all(1_150), (25_000, 20_000, 16), (500, 500, 16)),
            ("few live ones are wanted", all(1_150), (25_000, 100, 16), (900, 100, 16)),
            ("few others are wanted", all(1_150), (100, 20_000, 16), (100, 900, 16)),
            ("receivers get a quarter", all(200), (25_000, 20_000, 16), (75, 75, 6)),
            ("as little as there can be", all(8), (25_000, 20_000, 16), (4, 4, 1)),
        ] {
            let mut settings = settings(wanted.0, wanted.1);
            settings.webhooks.concurrency = wanted.2;
            let said = share(&mut settings, limit).unwrap();
            let shares = (settings.http.max_connections, settings.live.max_connections, settings.webhooks.concurrency);
            assert_eq!(shares, given, "{what}");
            assert_eq!(said.is_some(), given != wanted, "{what}: {said:?}");
            if let Some(limit) = limit {
                assert!(needed + shares.0 + shares.1 + 10 * (shares.2 - 1) <= limit, "{what}");
            }
        }
        let mut cut = settings(25_000, 5);
        let said = share(&mut cut, all(1_150)).unwrap().unwrap();
        let limit = needed + 1_150;
        assert_eq!(
            said,
            format!("this process may open {limit} files only: http.max_connections is 995 in place of 25000")
        );
        let mut paid = settings(25_000, 20_000);
        paid.payments.providers = [ProviderKind::Stripe, ProviderKind::Reported]
            .map(|kind| Provider { kind, requests: 7, ..Provider::default() })
            .into();
        assert_eq!(super::needed(&paid), needed + 14);
        let error = share(&mut settings(25_000, 20_000), all(7)).unwrap_err().to_string();
        assert!(error.contains(&format!("{}", needed + 8)), "{error}");
    }
}
