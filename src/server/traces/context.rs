//! Which trace something belongs to, as W3C Trace Context writes it.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::header::{HeaderMap, HeaderName};

/// The header that has it, of requests and of records.
pub(in crate::server) const TRACEPARENT: &str = "traceparent";
const HEADER: HeaderName = HeaderName::from_static(TRACEPARENT);
/// How long the header is in the version that there is.
const TRACEPARENT_BYTES: usize = 55;
/// The flag that spans of this trace are kept.
const SAMPLED: u8 = 1;

/// A span, and the trace that it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Context {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) sampled: bool,
}

impl Context {
    /// Of a new trace.
    pub(super) fn root(trace: [u8; 16]) -> Self {
        Self { trace, span: new_span(), sampled: true }
    }

    /// Of another span in the same trace.
    pub(super) fn child(self) -> Self {
        Self { span: new_span(), sampled: true, ..self }
    }

    /// What a caller says that its request is part of; nothing if that is said twice, or is not understood.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(HEADER);
        let text = given.next()?.to_str().ok()?;
        if given.next().is_some() { None } else { Self::parse(text) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (this, more) = text.split_at_checked(TRACEPARENT_BYTES)?;
        let mut parts = this.split('-');
        let [version] = hex(parts.next()?)?;
        let (trace, span, [flags]) = (hex(parts.next()?)?, hex(parts.next()?)?, hex(parts.next()?)?);
        // Later versions may have more to say, after what this one says.
        let is_known = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        let is_one = parts.next().is_none() && trace != [0; 16] && span != [0; 8];
        (is_known && is_one).then_some(Self { trace, span, sampled: flags & SAMPLED != 0 })
    }
}

/// As the header has it.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [trace, span] = [&self.trace[..], &self.span].map(base16ct::lower::encode_string);
        write!(f, "00-{trace}-{span}-{:02x}", u8::from(self.sampled))
    }
}

/// Bytes in lower case.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let decoded = base16ct::lower::decode(text, &mut bytes).ok()?;
    (decoded.len() == N).then_some(bytes)
}

/// A number that nobody guesses, and which is not 0: random ones would be a system call each.
fn number() -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    KEYS.hash_one(COUNT.fetch_add(1, Ordering::Relaxed)).max(1)
}

fn new_span() -> [u8; 8] {
    number().to_be_bytes()
}

/// The second half of the id of a new trace, by which it is chosen or not.
pub(super) fn new_half() -> u64 {
    number()
}

/// The id of a new trace with this half.
pub(super) fn new_trace(half: u64) -> [u8; 16] {
    (u128::from(number()) << 64 | u128::from(half)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_reads_back() {
        let context = Context::parse(GIVEN).unwrap();
        assert!(context.sampled && context.trace[..2] == [0x4b, 0xf9] && context.span[7] == 0xb7);
        assert_eq!(context.to_string(), GIVEN);
        assert!(!Context::parse(&GIVEN.replace("-01", "-02")).unwrap().sampled);
        let root = Context::root(new_trace(7));
        assert_eq!(Context::parse(&root.to_string()), Some(root));
        assert!(root.trace[8..] == [0, 0, 0, 0, 0, 0, 0, 7] && root.child().span != root.span);
    }

    #[test]
    fn what_is_not_understood_is_not_there() {
        for (given, is_taken) in [
            (GIVEN.to_owned(), true),
            (GIVEN.replacen("00", "cc", 1), true),
            (format!("{}-what-comes-later", GIVEN.replacen("00", "cc", 1)), true),
            (format!("{}.", GIVEN.replacen("00", "cc", 1)), false),
            (format!("{GIVEN}-more"), false),
            (GIVEN.replacen("00", "ff", 1), false),
            (GIVEN.to_uppercase(), false),
            (GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false),
            (GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (GIVEN.replace("-00f0", "00-f0"), false),
            (GIVEN[..54].to_owned(), false),
            (GIVEN.replace('f', "g"), false),
            (format!("{}é", &GIVEN[..54]), false),
            (String::new(), false),
        ] {
            assert_eq!(Context::parse(&given).is_some(), is_taken, "{given}");
        }
        let value = HeaderValue::from_static(GIVEN);
        let mut headers = HeaderMap::new();
        assert_eq!(Context::of(&headers), None);
        headers.append(HEADER, value.clone());
        assert!(Context::of(&headers).is_some());
        headers.append(HEADER, value);
        assert_eq!(Context::of(&headers), None, "which of both?");
    }
}
