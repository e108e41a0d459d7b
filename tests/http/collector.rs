//! A collector of traces: what it was sent, read by the definition of OTLP and not by what the server knows of it.

use std::collections::BTreeMap;

use boxoffice::server::config::{Exporting, Settings};
use tokio::sync::oneshot;

use crate::receiver::{Delivered, FINE, Receiver, Say};

/// It has a thread of its own: a test that waits for a server to stop, which sends its last spans then, does not answer.
pub struct Collector(pub Receiver, #[expect(dead_code, reason = "ends the thread")] oneshot::Sender<()>);

/// A span as it came. Ids are as `traceparent` writes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: u64,
    pub begun: u64,
    pub ended: u64,
    pub attributes: BTreeMap<String, String>,
    /// Trace and span of each.
    pub links: Vec<(String, String)>,
    pub failed: bool,
    pub flags: u64,
}

impl Span {
    /// The attributes of these names, all of which there are.
    pub fn has(&self, attributes: &[(&str, &str)]) {
        let expected = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(self.attributes, expected.collect(), "{}", self.name);
    }

    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::saying(|_| FINE).await
    }

    pub async fn saying(say: impl Fn(&Delivered) -> Say + Send + Sync + 'static) -> Self {
        let (started, is_started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                assert!(started.send(Receiver::start(say).await).is_ok());
                // It fails when the other end is dropped.
                let _: Result<(), _> = stopped.await;
            });
        });
        Self(is_started.await.unwrap(), stop)
    }

    /// Has a server send everything here soon, unless `more` says otherwise.
    pub fn configure(&self, settings: &mut Settings, more: &[(&str, &str)]) {
        let endpoint = format!("http://{}", self.0.address);
        settings.exporting = exporting(&endpoint, more);
    }

    /// All spans that have come.
    pub fn spans(&self) -> Vec<Span> {
        self.0.delivered().iter().flat_map(|request| spans(&request.body)).collect()
    }

    /// Waits until there is one with this name, and gives the first.
    pub async fn span(&self, name: &str) -> Span {
        self.until(|spans| spans.iter().find(|span| span.name == name).cloned()).await
    }

    /// Waits until what has come is what is wanted.
    pub async fn until<T>(&self, mut wanted: impl FnMut(&[Span]) -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        loop {
            let spans = self.spans();
            if let Some(found) = wanted(&spans) {
                return found;
            }
            assert!(begun.elapsed() < crate::receiver::PATIENCE, "there are only {spans:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// The environment of a server that sends everything to `endpoint` soon, unless `more` says otherwise.
pub fn exporting(endpoint: &str, more: &[(&str, &str)]) -> Exporting {
    let usual = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let variables = usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Exporting::from_environment(variables)
}

/// The resource of a request, and its spans, which are all of one scope.
pub fn resource(request: &[u8]) -> BTreeMap<String, String> {
    let [of_resource] = &many(request, 1)[..] else { panic!("one resource") };
    attributes(&many(one(of_resource, 1), 1))
}

fn spans(request: &[u8]) -> Vec<Span> {
    let [of_resource] = &many(request, 1)[..] else { panic!("one resource") };
    let [of_scope] = &many(of_resource, 2)[..] else { panic!("one scope") };
    many(of_scope, 2).into_iter().map(span).collect()
}

fn span(message: &[u8]) -> Span {
    let mut span = Span::default();
    for (number, value) in fields(message) {
        match (number, value) {
            (1, Value::Bytes(id)) => span.trace = hex(id, 16),
            (2, Value::Bytes(id)) => span.id = hex(id, 8),
            (4, Value::Bytes(id)) => span.parent = hex(id, 8),
            (5, Value::Bytes(name)) => span.name = text(name),
            (6, Value::Number(kind)) => span.kind = kind,
            (7, Value::Number(nanos)) => span.begun = nanos,
            (8, Value::Number(nanos)) => span.ended = nanos,
            (9, Value::Bytes(pair)) => span.attributes.extend(attributes(&[pair])),
            (13, Value::Bytes(link)) => span.links.push((hex(one(link, 1), 16), hex(one(link, 2), 8))),
            (15, Value::Bytes(status)) => span.failed = number_of(status, 3) == 2,
            (16, Value::Number(flags)) => span.flags = flags,
            (number, _) => panic!("a span has no field {number} like this"),
        }
    }
    span
}

fn attributes(pairs: &[&[u8]]) -> BTreeMap<String, String> {
    let pair = |pair: &&[u8]| {
        let value = match &fields(one(pair, 2))[..] {
            [(1, Value::Bytes(value))] => text(value),
            [(3, Value::Number(value))] => value.cast_signed().to_string(),
            _ => panic!("a value is a text or a number here"),
        };
        (text(one(pair, 1)), value)
    };
    pairs.iter().map(pair).collect()
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message.
fn fields(mut message: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)),
            1 => Value::Number(u64::from_le_bytes(take(&mut message, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut message);
                Value::Bytes(take(&mut message, usize::try_from(length).unwrap()))
            }
            5 => Value::Number(u32::from_le_bytes(take(&mut message, 4).try_into().unwrap()).into()),
            wire => panic!("{wire} is no type of a field"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

fn many(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let bytes = |(number, value)| match value {
        Value::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(bytes).collect()
}

fn one(message: &[u8], wanted: u64) -> &[u8] {
    let found = many(message, wanted);
    assert_eq!(found.len(), 1, "of field {wanted}");
    found[0]
}

fn number_of(message: &[u8], wanted: u64) -> u64 {
    let number = |(number, value)| match value {
        Value::Number(value) if number == wanted => Some(value),
        _ => None,
    };
    fields(message).into_iter().find_map(number).unwrap()
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8], length: usize) -> String {
    assert_eq!(bytes.len(), length);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
