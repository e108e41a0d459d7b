//! Templates: what a receiver is sent instead of the event itself, as JSON.
//!
//! `{{ x }}` writes `x` as JSON, with its quotes. A template sees:
//!
//! - `event`, the CloudEvent, and `data`, its member of that name;
//! - of events of reservations and payments also `option` (`id`, `starts_at`, `concert_id`) and `concert` (`id`, `title`);
//! - most filters of Jinja, and `grouped` (12,000) and `time(format, minutes)`, which writes a time by the
//!   conversions of strftime, so many minutes east of UTC.
//!
//! A name that is not known is a mistake, not an empty text. How many steps a template takes is bounded, and so is what it
//! writes.

use std::borrow::Cow;
use std::io;

use jiff::fmt::strtime;
use jiff::tz::Offset;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, filters};

use super::samples::samples;
use crate::domain::{EventFilter, EventType, Timestamp};

/// The longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 8_192;
/// How many steps one may take: a reservation of 100 seats takes a few thousand.
const FUEL: u64 = 100_000;
/// How much one may write.
const RENDERED_BYTES_MAX: usize = 256 << 10;

/// Templates that are there already, by name. They are about reservations that were made, paid, or not paid in time.
const BUILT_IN: &[(&str, &str)] =
    &[("en", include_str!("templates/en.json.j2")), ("ko", include_str!("templates/ko.json.j2"))];
/// The one that is taken if none is named.
pub const DEFAULT: &str = "en";
/// What the built-in ones are about.
pub const BUILT_IN_TYPES: &[EventType] =
    &[EventType::ReservationCreated, EventType::ReservationConfirmed, EventType::ReservationExpired];

/// A template that can be rendered.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
}

/// Whether `text` is the name of a template that is there already.
pub fn is_built_in(text: &str) -> bool {
    BUILT_IN.iter().any(|(name, _)| *name == text)
}

impl Template {
    const NAME: &str = "template";

    /// Compiles a template, or takes the built-in one of this name.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn new(text: &str) -> Result<Self, String> {
        let source = BUILT_IN.iter().find(|(name, _)| *name == text).map_or(text, |(_, source)| source);
        let mut environment = environment();
        environment.add_template_owned(Self::NAME, source.to_owned()).map_err(|error| describe(&error))?;
        Ok(Self { environment })
    }

    /// What it makes of `context`: JSON.
    ///
    /// # Errors
    /// Why it makes none.
    pub fn render(&self, context: &serde_json::Value) -> Result<Vec<u8>, String> {
        let template = self.environment.get_template(Self::NAME).map_err(|error| describe(&error))?;
        let mut output = Bounded(Vec::new());
        let rendered = template.render_captured_to(Serde(context), &mut output);
        rendered.map_err(|error| describe(&error))?;
        match serde_json::from_slice::<serde::de::IgnoredAny>(&output.0) {
            Ok(_) => Ok(output.0),
            Err(error) => Err(format!("gives no JSON: {error} of what it gives")),
        }
    }

    /// Renders samples of all types of events that it is to be given.
    ///
    /// # Errors
    /// The first that does not work.
    pub fn check(&self, wanted: EventFilter) -> Result<(), String> {
        for kind in wanted.types() {
            for sample in samples(kind) {
                self.render(&sample).map_err(|error| format!("for {kind}: {error}"))?;
            }
        }
        Ok(())
    }
}

fn describe(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or(what.clone(), |line| format!("line {line}: {what}"))
}

/// What templates may use. Of minijinja's filters those are left out that make much of little.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    for name in ["indent", "format", "pprint", "batch", "slice", "safe", "escape", "e"] {
        environment.remove_filter(name);
    }
    environment.remove_global("range");
    environment.remove_global("debug");
    environment.add_filter("grouped", grouped);
    environment.add_filter("time", time);
    environment.add_filter("string", filters::string);
    environment.set_auto_escape_callback(|_| AutoEscape::Json);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_fuel(Some(FUEL));
    environment
}

/// Memory that holds so much and no more.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RENDERED_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("writes over {RENDERED_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A whole number with a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time of an event, by the conversions of strftime, so many minutes east of UTC.
fn time(time: Cow<'_, str>, format: Cow<'_, str>, minutes: Option<i32>) -> Result<String, minijinja::Error> {
    let wrong = |what: String| minijinja::Error::new(ErrorKind::InvalidOperation, what);
    let time: Timestamp = time.parse().map_err(|error| wrong(format!("time {error}")))?;
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let offset =
        Offset::from_seconds(minutes.unwrap_or(0).saturating_mul(60)).map_err(|error| wrong(error.to_string()))?;
    let time = jiff::Timestamp::from_millisecond(millis).map_err(|error| wrong(error.to_string()))?;
    strtime::format(format.as_bytes(), offset.to_datetime(time)).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rendered(template: &str, context: &Value) -> Value {
        let bytes = Template::new(template).unwrap().render(context).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn values_are_written_as_json() {
        let context =
            json!({"data": {"text": "a \"quote\"\n</script>", "list": [1, null], "big": 9_007_199_254_740_991_u64}});
        let template =
            r#"{"a": {{ data.text }}, "b": {{ data.list }}, "c": {{ data.big }}, "d": {{ data.big | grouped }}}"#;
        let expected = json!({"a": context["data"]["text"], "b": [1, null], "c": 9_007_199_254_740_991_u64,
            "d": "9,007,199,254,740,991"});
        assert_eq!(rendered(template, &context), expected);
        let time = json!({"at": "2026-11-20T19:30:00.000Z"});
        let seoul = "{{ at | time('%Y-%m-%d %H:%M', 540) }}";
        assert_eq!(rendered(seoul, &time), "2026-11-21 04:30");
        assert_eq!(rendered("{{ at | time('%H:%M') }}", &time), "19:30");
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (123_456, "123,456")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let all: EventFilter = [EventType::ReservationCreated, EventType::TokenIssued].into_iter().collect();
        for (template, message) in [
            ("{\n{% if %}}", "line 2: "),
            ("\n\n{{ data.id | nothing }}", "for boxoffice.reservation.created: line 3: filter nothing is unknown"),
            ("{\"id\": {{ data.idd }}}", "for boxoffice.reservation.created: line 1: undefined value"),
            ("{{ nobody }}", "for boxoffice.reservation.created: line 1: undefined value"),
            ("{{ data.amount }}", "for boxoffice.token.issued: line 1: undefined value"),
            ("{{ data.seats[0].id }}", "for boxoffice.reservation.created: "),
            (
                "{\"id\": \"{{ data.id }}\"}",
                "for boxoffice.reservation.created: gives no JSON: expected `,` or `}` at line 1",
            ),
            ("", "for boxoffice.reservation.created: gives no JSON: "),
            ("{} {}", "for boxoffice.reservation.created: gives no JSON: "),
            ("{{ event.time | time('%Q') }}", "for boxoffice.reservation.created: line 1: "),
            ("{{ event.time | time('%H', 99999999) }}", "for boxoffice.reservation.created: line 1: "),
            ("{% include 'en' %}", "line 1: "),
            ("{% macro x() %}{% endmacro %}1", "line 1: "),
            ("{{ range(99) | list }}", "for boxoffice.reservation.created: line 1: "),
        ] {
            let checked = Template::new(template).and_then(|template| template.check(all));
            let error = checked.unwrap_err();
            assert!(error.starts_with(message), "{template}: {error}");
        }
        for good in ["{{ event }}", "{{ data.id }}", "{\"who\": {{ data.user_id }}, \"paid\": {{ data.amount or 0 }}}"]
        {
            assert_eq!(Template::new(good).and_then(|template| template.check(all)), Ok(()), "{good}");
        }
    }

    #[test]
    fn work_and_output_are_bounded() {
        let digits = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
        let loops: String = (0..9).map(|n| format!("{{% for a{n} in {digits} %}}")).collect();
        let ends = "{% endfor %}".repeat(9);
        let endless = Template::new(&format!("{loops}{ends}1")).unwrap();
        assert!(endless.render(&json!({})).unwrap_err().contains("fuel"), "{:?}", endless.render(&json!({})));
        let context = json!({"x": "x".repeat(RENDERED_BYTES_MAX / 2)});
        let long = Template::new("[{{ x }}, {{ x }}]").unwrap();
        assert!(long.render(&context).is_err());
    }

    #[test]
    fn built_in_ones_read_well() {
        let [seats, areas] = &samples(EventType::ReservationCreated)[..] else { panic!() };
        let say = |name: &str, sample: &Value| rendered(name, sample)["text"].as_str().unwrap().to_owned();
        assert_eq!(
            say("en", seats),
            "Reservation r1-2 is held for you: Stalls, row 3, seat 14; Stalls, row 3, seat 15; seat box-1. The price is \
             12,000 points. \"A \"Grand\" Concert\" begins on 20 November 2026 at 19:30 UTC. Please pay by \
             1 October 2026, 10:05:00 UTC, or the reservation will lapse."
        );
        assert_eq!(
            say("ko", seats),
            "좌석이 임시 예약되었습니다. 예약 번호: r1-2. 공연: A \"Grand\" Concert (2026년 11월 21일 04:30, 한국 시간). 좌석: \
             Stalls 3열 14번, Stalls 3열 15번, box-1. 결제 금액: 12,000포인트. 2026년 10월 1일 19:05:00(한국 시간)까지 결제해 \
             주세요. 기한이 지나면 예약이 자동으로 취소됩니다."
        );
        assert!(say("en", areas).contains("2 places in Floor; 1 place in Balcony. The price is 1 point. "));
        assert!(say("ko", areas).contains("좌석: Floor 2매, Balcony 1매. "));
        let [paid, _] = &samples(EventType::ReservationConfirmed)[..] else { panic!() };
        assert!(say("en", paid).contains("is paid and confirmed") && say("ko", paid).contains("확정되었습니다"));
        let [expired, _] = &samples(EventType::ReservationExpired)[..] else { panic!() };
        assert!(say("en", expired).contains("was not paid in time") && say("ko", expired).contains("취소되었습니다"));
        let types: EventFilter = BUILT_IN_TYPES.iter().copied().collect();
        for (name, _) in BUILT_IN {
            assert_eq!(Template::new(name).unwrap().check(types), Ok(()), "{name}");
        }
    }
}
