//! What can be made of a value, within the bounds of a [`Budget`].

use iso_currency::Currency as Iso;
use jiff::fmt::strtime;
use jiff::tz::Offset;

use super::render::{Budget, Value, Wanted};
use crate::domain::{Currency, Timestamp};

/// The longest format of a time. Each conversion writes 255 bytes at the most, so that this is how much one filter may
/// write before it is counted.
const FORMAT_BYTES_MAX: usize = 256;

/// A filter, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    Default,
    First,
    Grouped,
    Join,
    Last,
    Length,
    Lower,
    Money,
    Replace,
    String,
    Time,
    ToJson,
    Trim,
    Upper,
}

impl Filter {
    /// The filter of this name, with so many arguments.
    pub fn new(name: &str, arguments: usize) -> Result<Self, String> {
        let (filter, arity) = match name {
            "default" | "d" => (Self::Default, 0..=1),
            "first" => (Self::First, 0..=0),
            "grouped" => (Self::Grouped, 0..=0),
            "join" => (Self::Join, 0..=1),
            "last" => (Self::Last, 0..=0),
            "length" | "count" => (Self::Length, 0..=0),
            "lower" => (Self::Lower, 0..=0),
            "money" => (Self::Money, 1..=1),
            "replace" => (Self::Replace, 2..=2),
            "string" => (Self::String, 0..=0),
            "time" => (Self::Time, 1..=2),
            "tojson" => (Self::ToJson, 0..=0),
            "trim" => (Self::Trim, 0..=0),
            "upper" => (Self::Upper, 0..=0),
            _ => return Err(format!("filter {name} is unknown")),
        };
        if arity.contains(&arguments) {
            return Ok(filter);
        }
        let (least, most) = arity.into_inner();
        let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
        Err(format!("filter {name} takes {wanted} arguments"))
    }

    /// What it makes of a value.
    pub fn apply<'a>(self, value: &Value<'a>, arguments: &[Value<'a>], budget: &mut Budget) -> Wanted<Value<'a>> {
        if self == Self::Default {
            let or = || arguments.first().cloned().unwrap_or(Value::text(""));
            return Ok(if matches!(value, Value::Undefined) { or() } else { value.clone() });
        }
        if matches!(value, Value::Undefined) || arguments.iter().any(|argument| matches!(argument, Value::Undefined)) {
            return Err("undefined value".into());
        }
        match self {
            Self::Default => Ok(value.clone()),
            Self::First => Ok(value.list()?.get(0)),
            Self::Last => {
                let list = value.list()?;
                Ok(list.get(list.len().wrapping_sub(1)))
            }
            Self::Length => value.length(budget),
            Self::String if matches!(value, Value::Text { .. }) => Ok(value.clone()),
            Self::String => budget.made(|text, budget| value.write(text, budget)),
            Self::ToJson => Ok(budget.made(|text, budget| value.write_json(text, budget))?.into_json()),
            Self::Trim => {
                let text = value.expect_text()?;
                budget.bytes(text.len())?;
                budget.made(|trimmed, budget| budget.write(trimmed, text.trim()))
            }
            Self::Upper => {
                let text = value.expect_text()?;
                budget.made(|upper, budget| {
                    text.chars().flat_map(char::to_uppercase).try_for_each(|c| budget.push(upper, c))
                })
            }
            Self::Lower => {
                let text = value.expect_text()?;
                budget.made(|lower, budget| {
                    text.chars().flat_map(char::to_lowercase).try_for_each(|c| budget.push(lower, c))
                })
            }
            Self::Join => {
                let (list, between) = (value.list()?, arguments.first());
                budget.made(|text, budget| {
                    for index in 0..list.len() {
                        budget.step()?;
                        if let Some(between) = between.filter(|_| index > 0) {
                            between.write(text, budget)?;
                        }
                        list.get(index).write(text, budget)?;
                    }
                    Ok(())
                })
            }
            Self::Replace => {
                let (text, [from, to]) =
                    (value.expect_text()?, [arguments[0].expect_text()?, arguments[1].expect_text()?]);
                budget.bytes(text.len() + from.len())?;
                budget.made(|replaced, budget| {
                    for (index, piece) in text.split(from).enumerate() {
                        if index > 0 {
                            budget.write(replaced, to)?;
                        }
                        budget.write(replaced, piece)?;
                    }
                    Ok(())
                })
            }
            Self::Grouped => {
                let number = value.expect_number()?;
                budget.made(|text, budget| budget.write(text, &grouped(number)))
            }
            Self::Money => {
                let (amount, currency) = (value.expect_number()?, arguments[0].expect_text()?);
                budget.bytes(currency.len())?;
                let money = money(amount, currency)?;
                budget.made(|text, budget| budget.write(text, &money))
            }
            Self::Time => {
                let minutes = arguments.get(1).map_or(Ok(0), Value::expect_number)?;
                let time = time(value.expect_text()?, arguments[0].expect_text()?, minutes, budget)?;
                budget.made(|text, budget| budget.write(text, &time))
            }
        }
    }
}

/// A whole number with a comma before each three digits.
fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(1 + digits.len() * 4 / 3);
    if number < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many minor units of a currency, by the decimals of ISO 4217; of one that it does not know, as they are.
fn money(amount: i128, currency: &str) -> Wanted<String> {
    let currency: Currency = currency.parse().map_err(|error| format!("a currency {error}"))?;
    let digits = Iso::from_code(currency.as_str()).and_then(Iso::exponent).unwrap_or_default();
    let unit = 10_i128.pow(digits.into());
    let (whole, part, width) =
        (grouped(amount / unit), amount.unsigned_abs() % unit.unsigned_abs(), usize::from(digits));
    let sign = if amount < 0 && amount / unit == 0 { "-" } else { "" };
    let part = if width == 0 { String::new() } else { format!(".{part:0width$}") };
    Ok(format!("{sign}{whole}{part} {currency}"))
}

/// A time of an event, by the conversions of strftime, so many minutes east of UTC.
fn time(time: &str, format: &str, minutes: i128, budget: &mut Budget) -> Wanted<String> {
    if format.len() > FORMAT_BYTES_MAX {
        return Err(format!("the format of a time has over {FORMAT_BYTES_MAX} bytes"));
    }
    budget.bytes(time.len() + format.len())?;
    let time: Timestamp = time.parse().map_err(|error| format!("time {error}"))?;
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let seconds = i32::try_from(minutes).unwrap_or(i32::MAX).saturating_mul(60);
    let offset = Offset::from_seconds(seconds).map_err(|error| error.to_string())?;
    let time = jiff::Timestamp::from_millisecond(millis).map_err(|error| error.to_string())?;
    strtime::format(format.as_bytes(), offset.to_datetime(time)).map_err(|error| error.to_string())
}
