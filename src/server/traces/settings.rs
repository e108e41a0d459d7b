//! What the environment says of traces, by the names that OpenTelemetry has for it. A bad value is warned of, and the default taken.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use serde::{Deserialize, Serialize};

use super::sampler::Sampler;
use crate::config::section;

section! {
    /// OpenTelemetry traces. Where they go the environment says.
    Traces {
        /// Commands of which it is remembered, in memory, to which trace their events belong: about 100 bytes each. What is
        /// delivered of older ones begins a trace of its own. 0: all of it does.
        remembered: u64 = 10_000,
    }
}

/// What begins the names that are read here.
pub(in crate::server) const PREFIX: &str = "OTEL_";

const NAME: &str = "service.name";
const VERSION: &str = "service.version";

/// Where traces go, and which.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exporting {
    /// `None`: there are none.
    pub(super) target: Option<Target>,
    /// Why a variable does not count, by its name. None of them has in it what may be a secret.
    pub(super) warnings: Vec<(&'static str, String)>,
}

/// A collector, and what it gets.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) sampler: Sampler,
    /// What the spans are of.
    pub(super) resource: Vec<(String, String)>,
    /// How many spans may wait.
    pub(super) queue: usize,
    /// How many go in one request.
    pub(super) batch: usize,
    /// How long a span waits for others.
    pub(super) delay: Duration,
}

/// Headers are what collectors know their senders by, and a URL may have a password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.url.host_str())
            .field("sampler", &self.sampler)
            .finish_non_exhaustive()
    }
}

/// Variables that are set: to OpenTelemetry an empty one is not.
struct Variables {
    set: HashMap<String, String>,
    warnings: Vec<(&'static str, String)>,
}

impl Exporting {
    /// Reads variables, of which others than these are passed over.
    #[must_use]
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = variables.into_iter().filter(|(name, value)| name.starts_with(PREFIX) && !value.trim().is_empty());
        let mut variables = Variables { set: set.collect(), warnings: Vec::new() };
        let target = variables.target();
        Self { target, warnings: variables.warnings }
    }

    /// To the collector, at a time: requests go one after the other.
    pub(in crate::server) fn connections(&self) -> u64 {
        self.target.is_some().into()
    }
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(|value| value.trim())
    }

    fn warn(&mut self, name: &'static str, why: impl Into<String>) {
        self.warnings.push((name, why.into()));
    }

    fn target(&mut self) -> Option<Target> {
        if self.is_disabled() || !self.is_otlp() {
            return None;
        }
        let url = self.url()?;
        let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        if let Some((name, protocol)) = self.first(protocols)
            && protocol != "http/protobuf"
        {
            self.warn(name, format!("{protocol:?} is not spoken here: it is http/protobuf"));
        }
        let (mut warnings, name, argument) =
            (Vec::new(), self.get("OTEL_TRACES_SAMPLER"), self.get("OTEL_TRACES_SAMPLER_ARG"));
        let sampler = Sampler::read(name, argument, |name, why| warnings.push((name, why)));
        self.warnings.append(&mut warnings);
        let timeouts = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let queue = self.number(["OTEL_BSP_MAX_QUEUE_SIZE"; 2], 2_048, 1, 1_000_000) as usize;
        Some(Target {
            url,
            headers: self.headers(),
            timeout: Duration::from_millis(self.number(timeouts, 10_000, 1, 600_000)),
            sampler,
            resource: self.resource(),
            queue,
            batch: (self.number(["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"; 2], 512, 1, 100_000) as usize).min(queue),
            delay: Duration::from_millis(self.number(["OTEL_BSP_SCHEDULE_DELAY"; 2], 5_000, 1, 600_000)),
        })
    }

    fn is_disabled(&mut self) -> bool {
        const NAME: &str = "OTEL_SDK_DISABLED";
        let disabled = self.get(NAME).map(str::to_ascii_lowercase);
        match disabled.as_deref() {
            Some("true") => true,
            None | Some("false") => false,
            Some(other) => {
                self.warn(NAME, format!("{other:?} must be true or false"));
                false
            }
        }
    }

    /// Whether spans go to a collector: `none` sends them nowhere.
    fn is_otlp(&mut self) -> bool {
        const NAME: &str = "OTEL_TRACES_EXPORTER";
        let exporter = self.get(NAME).unwrap_or("otlp").to_owned();
        if !matches!(&*exporter, "otlp" | "none") {
            self.warn(NAME, format!("{exporter:?} must be otlp or none"));
        }
        exporter != "none"
    }

    /// The one of both that counts more, if one is set.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, String)> {
        names.into_iter().find_map(|name| Some((name, self.get(name)?.to_owned())))
    }

    /// Where to. What names no place means none.
    fn url(&mut self) -> Option<Url> {
        const OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let (name, text) = self.first([OF_TRACES, "OTEL_EXPORTER_OTLP_ENDPOINT"])?;
        match Url::parse(&text) {
            Ok(mut url) if matches!(url.scheme(), "http" | "https") => {
                if name != OF_TRACES {
                    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
                    url.set_path(&path);
                }
                Some(url)
            }
            _ => {
                self.warn(name, "is not a URL with http or https: nothing is traced");
                None
            }
        }
    }

    fn number(&mut self, names: [&'static str; 2], default: u64, least: u64, most: u64) -> u64 {
        let Some((name, text)) = self.first(names) else { return default };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.warn(name, format!("{text:?} must be a whole number from {least} to {most}"));
                default
            }
        }
    }

    fn headers(&mut self) -> HeaderMap {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
        let Some((name, text)) = self.first(names) else { return HeaderMap::new() };
        let header = |(name, value): (String, String)| {
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            let name = HeaderName::try_from(name).ok()?;
            // Those of the request itself are not to be given.
            (![CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING].contains(&name)).then_some((name, value))
        };
        let headers = pairs(&text).and_then(|pairs| pairs.into_iter().map(header).collect::<Option<HeaderMap>>());
        headers.unwrap_or_else(|| {
            self.warn(name, "must be name=value,..., with what is no ASCII as %XX, and no Content-Length or Content-Type: no header is sent");
            HeaderMap::new()
        })
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let given = self.get(ATTRIBUTES).map(pairs);
        let mut attributes = match given {
            Some(None) => {
                self.warn(ATTRIBUTES, "must be name=value,..., with what is no ASCII as %XX: none of them counts");
                Vec::new()
            }
            given => given.flatten().unwrap_or_default(),
        };
        let service = self.get("OTEL_SERVICE_NAME").map(str::to_owned);
        if service.is_some() {
            attributes.retain(|(name, _)| name != NAME);
        }
        let service = service.unwrap_or_else(|| "boxoffice".into());
        for (name, value) in [(NAME, service), (VERSION, env!("CARGO_PKG_VERSION").into())] {
            if !attributes.iter().any(|(given, _)| given == name) {
                attributes.push((name.into(), value));
            }
        }
        attributes
    }
}

/// `name=value,...`; `None` if that is not what it is.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decode = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((decode(name).filter(|name| !name.is_empty())?, decode(value)?))
    };
    text.split(',').filter(|pair| !pair.trim().is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Exporting {
        Exporting::from_environment(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    /// With a collector.
    fn target(more: &[(&str, &str)]) -> (Target, Vec<&'static str>) {
        let Exporting { target, warnings } = read(&[&[ENDPOINT], more].concat());
        (target.unwrap(), warnings.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn there_are_no_traces_until_a_collector_is_named() {
        for variables in [
            &[][..],
            &[("OTEL_TRACES_SAMPLER", "always_on")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
        ] {
            assert_eq!(read(variables), Exporting::default(), "{variables:?}");
        }
        for wrong in ["collector:4318", "grpc://collector", "http://", "nonsense"] {
            let Exporting { target, warnings } = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)]);
            assert!(target.is_none() && warnings[0].0 == "OTEL_EXPORTER_OTLP_ENDPOINT", "{wrong}: {warnings:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let (target, wrong) = target(&[]);
        assert_eq!(wrong, Vec::<&str>::new());
        assert_eq!(target.url.as_str(), "http://collector:4318/v1/traces");
        assert_eq!((target.sampler, target.headers.len()), (Sampler::default(), 0));
        assert_eq!((target.queue, target.batch), (2_048, 512));
        assert_eq!((target.timeout, target.delay), (Duration::from_secs(10), Duration::from_secs(5)));
        let version = ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        assert_eq!(target.resource, [("service.name".into(), "boxoffice".into()), version]);
    }

    #[test]
    fn the_endpoint_of_traces_is_taken_as_it_is() {
        let (of_traces, all) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        for (name, given, url) in [
            (of_traces, "https://a.example/x", "https://a.example/x"),
            (of_traces, "http://a.example", "http://a.example/"),
            (all, "https://a.example:1/x/", "https://a.example:1/x/v1/traces"),
        ] {
            assert_eq!(target(&[(name, given)]).0.url.as_str(), url);
        }
    }

    #[test]
    fn names_and_headers_are_lists_of_pairs() {
        let given = "deployment.environment=test, service.name=theirs,service.version=7,a%2Cb=%C3%A9%3D";
        let (target, wrong) = target(&[
            ("OTEL_RESOURCE_ATTRIBUTES", given),
            ("OTEL_SERVICE_NAME", "ours"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20YTpi, x-tenant=a=b,"),
        ]);
        assert_eq!(wrong, Vec::<&str>::new());
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let expected =
            [("deployment.environment", "test"), ("service.version", "7"), ("a,b", "é="), ("service.name", "ours")];
        assert_eq!(target.resource, expected.map(pair));
        assert_eq!(
            (&target.headers["authorization"], &target.headers["x-tenant"]),
            (&"Basic YTpi".parse().unwrap(), &"a=b".parse().unwrap())
        );
        assert!(!format!("{target:?} {:?}", target.headers).contains("YTpi"));
    }

    #[test]
    fn a_bad_value_is_named_without_what_may_be_a_secret_and_the_default_taken() {
        let by_default = target(&[]).0;
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "content-length=5"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0a"),
            ("OTEL_RESOURCE_ATTRIBUTES", "hunter2"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%ff"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ] {
            let (target, wrong) = target(&[(name, value)]);
            assert_eq!((&target, wrong), (&by_default, vec![name]), "{value}");
            let said = read(&[ENDPOINT, (name, value)]).warnings;
            assert!(!said[0].1.contains("hunter2"), "{said:?}");
        }
    }
}
