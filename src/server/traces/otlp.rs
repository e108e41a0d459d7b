//! Spans as OTLP has them: the protobuf message `ExportTraceServiceRequest`, and what a collector says to it.
//!
//! Of that message this writes what is needed, field by field. A library for it would bring an encoder that is generated at
//! each build; see `docs/adr/0031-traces.md`.

use std::borrow::Cow;

use super::context::Context;

/// What a span is to the one that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    #[cfg(feature = "kafka")]
    Producer = 4,
}

/// What is known of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(Cow<'static, str>),
    Number(i64),
}

/// The span that another one is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) span: [u8; 8],
    /// Whether it is of another program.
    pub(super) is_remote: bool,
}

/// Something that has come to its end. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) context: Context,
    pub(super) parent: Option<Parent>,
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) begun: u64,
    pub(super) ended: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// Of what else it has come.
    pub(super) links: Vec<Context>,
    pub(super) failed: bool,
}

/// That a field of flags says whether what it is about is of another program, and that it is.
const HAS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// Of a status: something went wrong.
const ERROR: u64 = 2;
/// Who says all this.
const SCOPE: &str = "boxoffice";

/// The spans of a program that is known by `resource`.
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |of_resource| {
        of_resource.message(1, |named| {
            for (name, value) in resource {
                named.message(1, |attribute| text_attribute(attribute, name, value));
            }
        });
        of_resource.message(2, |of_scope| {
            of_scope.message(1, |scope| scope.bytes(1, SCOPE.as_bytes()));
            for span in spans {
                of_scope.message(2, |message| write(message, span));
            }
        });
    });
    request.0
}

fn write(message: &mut Message, span: &Span) {
    message.bytes(1, &span.context.trace);
    message.bytes(2, &span.context.span);
    if let Some(parent) = &span.parent {
        message.bytes(4, &parent.span);
    }
    message.bytes(5, span.name.as_bytes());
    message.number(6, span.kind as u64);
    message.fixed64(7, span.begun);
    message.fixed64(8, span.ended);
    for (name, value) in &span.attributes {
        message.message(9, |attribute| match value {
            Value::Text(text) => text_attribute(attribute, name, text),
            Value::Number(number) => {
                attribute.bytes(1, name.as_bytes());
                // As two's complement, as protobuf has it.
                attribute.message(2, |any| any.number(3, number.cast_unsigned()));
            }
        });
    }
    for link in &span.links {
        message.message(13, |message| {
            message.bytes(1, &link.trace);
            message.bytes(2, &link.span);
            message.fixed32(6, u32::from(link.sampled));
        });
    }
    if span.failed {
        message.message(15, |status| status.number(3, ERROR));
    }
    let remote = if span.parent.is_some_and(|parent| parent.is_remote) { IS_REMOTE } else { 0 };
    message.fixed32(16, u32::from(span.context.sampled) | HAS_REMOTE | remote);
}

fn text_attribute(attribute: &mut Message, name: &str, value: &str) {
    attribute.bytes(1, name.as_bytes());
    attribute.message(2, |any| any.bytes(1, value.as_bytes()));
}

/// A protobuf message as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

/// How a field's value is written.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

impl Message {
    fn tag(&mut self, field: u64, wire: Wire) {
        self.varint(field << 3 | wire as u64);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.tag(field, Wire::Varint);
        self.varint(number);
    }

    fn fixed64(&mut self, field: u64, number: u64) {
        self.tag(field, Wire::Fixed64);
        self.0.extend(number.to_le_bytes());
    }

    /// Nothing for 0, which is what it means that it is not there.
    fn fixed32(&mut self, field: u64, number: u32) {
        if number == 0 {
            return;
        }
        self.tag(field, Wire::Fixed32);
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, Wire::Bytes);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }
}

/// How many spans a collector has not taken, by its answer to a request that it took: an `ExportTraceServiceResponse`. One that is
/// not understood says nothing.
pub(super) fn rejected(response: &[u8]) -> u64 {
    let partial_success = field(response, 1).and_then(|(wire, value)| (wire == Wire::Bytes as u64).then_some(value));
    let rejected = partial_success.and_then(|partial| field(partial, 1));
    rejected
        .and_then(|(wire, mut value)| if wire == Wire::Varint as u64 { varint(&mut value) } else { None })
        .unwrap_or(0)
}

/// The first field of this number, how it is written, and its value with what follows.
fn field(mut message: &[u8], wanted: u64) -> Option<(u64, &[u8])> {
    loop {
        let tag = varint(&mut message)?;
        let (number, wire) = (tag >> 3, tag & 7);
        let mut value = message;
        let length = match wire {
            0 => {
                let mut after = message;
                varint(&mut after)?;
                message.len() - after.len()
            }
            1 => 8,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                value = message.get(..length)?;
                length
            }
            5 => 4,
            _ => return None,
        };
        if number == wanted {
            return Some((wire, value));
        }
        message = message.get(length..)?;
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(byte: u8) -> Context {
        Context { trace: [byte; 16], span: [byte; 8], sampled: true }
    }

    /// With something in every field that there is.
    fn spans() -> [Span; 2] {
        let whole = Span {
            context: context(1),
            parent: Some(Parent { span: [2; 8], is_remote: true }),
            name: "GET /v1/options/{id}".into(),
            kind: Kind::Server,
            begun: 1_796_000_000_000_000_001,
            ended: 1_796_000_000_000_000_300,
            attributes: vec![
                ("http.route", Value::Text("/v1/options/{id}".into())),
                ("http.response.status_code", Value::Number(503)),
                ("below.zero", Value::Number(-1)),
            ],
            links: vec![Context { sampled: false, ..context(3) }, context(4)],
            failed: true,
        };
        let bare = Span {
            parent: None,
            name: "decide".into(),
            kind: Kind::Internal,
            attributes: Vec::new(),
            links: Vec::new(),
            failed: false,
            ..whole.clone()
        };
        [whole, bare]
    }

    /// The message of [`spans`] as the generated code of OpenTelemetry writes it: `opentelemetry-proto` 1.45.2 for Python.
    const KNOWN: &[&str] = &[
        "0aec020a1d0a1b0a0c736572766963652e6e616d65120b0a09626f786f666669636512ca020a0b0a09626f786f6666696365",
        "12fa010a100101010101010101010101010101010112080101010101010101220802020202020202022a14474554202f7631",
        "2f6f7074696f6e732f7b69647d30023901009a007cacec18412c019a007cacec184a200a0a687474702e726f75746512120a",
        "102f76312f6f7074696f6e732f7b69647d4a200a19687474702e726573706f6e73652e7374617475735f636f6465120318f7",
        "034a190a0a62656c6f772e7a65726f120b18ffffffffffffffffff016a1c0a10030303030303030303030303030303031208",
        "03030303030303036a210a10040404040404040404040404040404041208040404040404040435010000007a021802850101",
        "030000123e0a1001010101010101010101010101010101120801010101010101012a0664656369646530013901009a007cac",
        "ec18412c019a007cacec18850101010000",
    ];

    #[test]
    fn a_request_is_what_opentelemetry_reads() {
        let resource = [("service.name".to_owned(), "boxoffice".to_owned())];
        let written = request(&resource, &spans());
        assert_eq!(base16ct::lower::encode_string(&written), KNOWN.concat());
    }

    #[test]
    fn it_is_read_how_many_a_collector_has_rejected() {
        let partial = |write: &dyn Fn(&mut Message)| {
            let mut response = Message::default();
            response.number(7, 300);
            response.fixed64(8, 1);
            response.fixed32(9, 1);
            response.bytes(10, b"later");
            response.message(1, write);
            response.0
        };
        let message = "too old".as_bytes();
        for (response, count) in [
            (vec![], 0),
            (partial(&|_| ()), 0),
            (partial(&|partial| partial.bytes(2, message)), 0),
            (partial(&|partial| partial.number(1, 300)), 300),
            (
                partial(&|partial| {
                    partial.bytes(2, message);
                    partial.number(1, 7);
                }),
                7,
            ),
            (partial(&|partial| partial.bytes(1, message)), 0),
            (b"not found".to_vec(), 0),
            (vec![0xff; 20], 0),
            (vec![10, 200], 0),
        ] {
            assert_eq!(rejected(&response), count, "{response:?}");
        }
    }
}
