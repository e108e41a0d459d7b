//! What a template makes of a context, and how much it may take for that.

use std::cmp::Ordering;
use std::io;
use std::rc::Rc;

use serde_json::Value as Json;

use super::Wrong;
use super::parser::{Expr, For, Form, Operator, Stmt, Test, What};

/// How many steps one rendering may take: a reservation of 100 seats takes a few thousand. A step is a statement, an
/// expression, an item of a list or a name that was looked at.
const STEPS_MAX: u32 = 100_000;
/// How many bytes of texts and lists one rendering may make or look at.
const WORK_BYTES_MAX: usize = 1 << 20;

/// What came of something, or what is wrong with it.
pub type Wanted<T> = Result<T, String>;

/// What is left of what a rendering may take.
///
/// Nothing grows but by [`write`](Self::write), [`push`](Self::push) and [`items`](Self::items), which count first; and
/// whatever looks at more than one place counts as much. So whatever a template says:
///
/// - all texts and lists that are ever made have [`WORK_BYTES_MAX`] bytes together. A text that grows has room for twice
///   its bytes, and is copied when it grows and when it is done, so that the memory is four times that at the most: 4 MiB.
///   Beside it there are the names in force, as many as the template has `set` and `for`, and one time that was formatted.
/// - it takes [`STEPS_MAX`] steps of bounded work each and [`WORK_BYTES_MAX`] bytes that are made or looked at once: a few
///   milliseconds.
/// - the stack is as deep as the tree, which the parser bounds.
pub struct Budget {
    steps: u32,
    bytes: usize,
}

impl Budget {
    pub fn new() -> Self {
        Self { steps: STEPS_MAX, bytes: WORK_BYTES_MAX }
    }

    pub fn step(&mut self) -> Wanted<()> {
        self.steps(1)
    }

    fn steps(&mut self, count: usize) -> Wanted<()> {
        let left = u32::try_from(count).ok().and_then(|count| self.steps.checked_sub(count));
        self.steps = left.ok_or_else(|| format!("takes over {STEPS_MAX} steps"))?;
        Ok(())
    }

    /// So many are made or looked at.
    pub fn bytes(&mut self, count: usize) -> Wanted<()> {
        let left = self.bytes.checked_sub(count);
        self.bytes = left.ok_or_else(|| format!("takes over {WORK_BYTES_MAX} bytes of work"))?;
        Ok(())
    }

    pub fn write(&mut self, text: &mut String, more: &str) -> Wanted<()> {
        self.bytes(more.len())?;
        text.push_str(more);
        Ok(())
    }

    pub fn push(&mut self, text: &mut String, c: char) -> Wanted<()> {
        self.bytes(c.len_utf8())?;
        text.push(c);
        Ok(())
    }

    /// Room for so many items of a list.
    fn items<'a>(&mut self, count: usize) -> Wanted<Vec<Value<'a>>> {
        self.bytes(count.saturating_mul(size_of::<Value<'_>>()))?;
        Ok(Vec::with_capacity(count))
    }

    /// A text that is made by `make`.
    pub fn made<'a>(&mut self, make: impl FnOnce(&mut String, &mut Self) -> Wanted<()>) -> Wanted<Value<'a>> {
        let mut text = String::new();
        make(&mut text, self)?;
        Ok(Value::Text { text: Text::Made(text.into()), is_json: false })
    }
}

/// A value while a template is rendered.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    Undefined,
    Null,
    Bool(bool),
    Number(i128),
    /// One that `is_json` is written as it stands where JSON is written.
    Text {
        text: Text<'a>,
        is_json: bool,
    },
    /// An object or a list of the context.
    Given(&'a Json),
    /// A list of the template's, of anything but such lists: what is in itself many times over can be looked at for ever.
    List(Rc<[Value<'a>]>),
    /// What `loop` is.
    Loop {
        index: usize,
        length: usize,
    },
}

#[derive(Debug, Clone)]
pub enum Text<'a> {
    Lent(&'a str),
    Made(Rc<str>),
}

/// A list, wherever it comes from.
#[derive(Debug, Clone)]
pub enum List<'a> {
    Given(&'a [Json]),
    Made(Rc<[Value<'a>]>),
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Given(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub fn get(&self, index: usize) -> Value<'a> {
        match self {
            Self::Given(items) => items.get(index).map_or(Value::Undefined, Value::given),
            Self::Made(items) => items.get(index).cloned().unwrap_or(Value::Undefined),
        }
    }
}

impl<'a> Value<'a> {
    fn given(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::String(text) => Self::text(text),
            Json::Number(number) => {
                let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
                whole.map_or(Self::Given(json), Self::Number)
            }
            Json::Array(_) | Json::Object(_) => Self::Given(json),
        }
    }

    pub fn text(text: &'a str) -> Self {
        Self::Text { text: Text::Lent(text), is_json: false }
    }

    /// A text that is JSON.
    pub fn into_json(self) -> Self {
        match self {
            Self::Text { text, .. } => Self::Text { text, is_json: true },
            other => other,
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text: Text::Lent(text), .. } => Some(text),
            Self::Text { text: Text::Made(text), .. } => Some(text),
            _ => None,
        }
    }

    /// As which number it is compared.
    fn as_number(&self) -> Option<i128> {
        match self {
            Self::Bool(truth) => Some(i128::from(*truth)),
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn expect_text(&self) -> Wanted<&str> {
        self.as_text().ok_or_else(|| "a text is wanted here".into())
    }

    pub fn expect_number(&self) -> Wanted<i128> {
        if let Self::Number(number) = self { Ok(*number) } else { Err("a whole number is wanted here".into()) }
    }

    pub fn list(&self) -> Wanted<List<'a>> {
        match self {
            Self::Given(Json::Array(items)) => Ok(List::Given(items)),
            Self::List(items) => Ok(List::Made(items.clone())),
            Self::Undefined => Err("undefined value".into()),
            _ => Err("a list is wanted here".into()),
        }
    }

    pub fn length(&self, budget: &mut Budget) -> Wanted<Value<'a>> {
        let length = match self {
            Self::Given(Json::Object(members)) => members.len(),
            Self::Text { .. } => {
                let text = self.expect_text()?;
                budget.bytes(text.len())?;
                text.chars().count()
            }
            _ => self.list()?.len(),
        };
        Ok(Self::Number(length as i128))
    }

    fn is_true(&self) -> bool {
        match self {
            Self::Undefined | Self::Null => false,
            Self::Bool(truth) => *truth,
            Self::Number(number) => *number != 0,
            Self::Text { .. } => self.as_text() != Some(""),
            Self::Given(Json::Array(items)) => !items.is_empty(),
            Self::Given(Json::Object(members)) => !members.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Given(_) | Self::Loop { .. } => true,
        }
    }

    /// Writes it as a text, as Jinja does, but for lists and objects, which are JSON.
    pub fn write(&self, text: &mut String, budget: &mut Budget) -> Wanted<()> {
        match self {
            Self::Null => budget.write(text, "None"),
            Self::Bool(truth) => budget.write(text, if *truth { "True" } else { "False" }),
            Self::Text { .. } => budget.write(text, self.expect_text()?),
            _ => self.write_json(text, budget),
        }
    }

    /// Writes it as JSON.
    pub fn write_json(&self, text: &mut String, budget: &mut Budget) -> Wanted<()> {
        match self {
            Self::Undefined => Err("undefined value".into()),
            Self::Loop { .. } => Err("`loop` cannot be written".into()),
            Self::Null => budget.write(text, "null"),
            Self::Bool(truth) => budget.write(text, if *truth { "true" } else { "false" }),
            Self::Number(number) => budget.write(text, &number.to_string()),
            Self::Text { .. } => to_json(self.expect_text()?, text, budget),
            Self::Given(json) => to_json(json, text, budget),
            Self::List(items) => {
                budget.write(text, "[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        budget.write(text, ",")?;
                    }
                    item.write_json(text, budget)?;
                }
                budget.write(text, "]")
            }
        }
    }

    fn attribute(&self, name: &str) -> Wanted<Value<'a>> {
        Ok(match self {
            Self::Undefined => return Err("undefined value".into()),
            Self::Given(json) => json.get(name).map_or(Self::Undefined, Self::given),
            Self::Loop { index, length } => match name {
                "first" => Self::Bool(*index == 0),
                "last" => Self::Bool(index + 1 == *length),
                "index" => Self::Number(*index as i128 + 1),
                "index0" => Self::Number(*index as i128),
                "length" => Self::Number(*length as i128),
                _ => Self::Undefined,
            },
            _ => Self::Undefined,
        })
    }

    fn item(&self, key: &Value<'_>) -> Wanted<Value<'a>> {
        match (self, key) {
            (Self::Undefined, _) | (_, Value::Undefined) => Err("undefined value".into()),
            (Self::Given(Json::Object(_)), Value::Text { .. }) => self.attribute(key.expect_text()?),
            (Self::Given(Json::Array(_)) | Self::List(_), Value::Number(number)) => {
                let list = self.list()?;
                // From the end, if it is below zero.
                let index = if *number < 0 { number.checked_add(list.len() as i128) } else { Some(*number) };
                let index = index.and_then(|index| usize::try_from(index).ok());
                Ok(index.map_or(Value::Undefined, |index| list.get(index)))
            }
            // Jinja has characters there.
            (Self::Text { .. } | Self::Given(Json::String(_)), _) => Err("a text has no items".into()),
            _ => Ok(Value::Undefined),
        }
    }

    fn equals(&self, other: &Value<'_>, budget: &mut Budget) -> Wanted<bool> {
        Ok(match (self, other) {
            (Self::Undefined, Value::Undefined) | (Self::Null, Value::Null) => true,
            // True is 1, as in Python.
            (Self::Bool(_) | Self::Number(_), Value::Bool(_) | Value::Number(_)) => {
                self.as_number() == other.as_number()
            }
            (Self::Text { .. }, Value::Text { .. }) => {
                let (left, right) = (self.expect_text()?, other.expect_text()?);
                left.len() == right.len() && {
                    budget.bytes(left.len())?;
                    left == right
                }
            }
            (Self::Given(_) | Self::List(_), Value::Given(_) | Value::List(_)) => {
                return Err("lists and objects are not compared".into());
            }
            _ => false,
        })
    }

    fn order(&self, other: &Value<'_>, budget: &mut Budget) -> Wanted<Ordering> {
        match (self, other) {
            (Self::Number(left), Value::Number(right)) => Ok(left.cmp(right)),
            (Self::Text { .. }, Value::Text { .. }) => {
                let (left, right) = (self.expect_text()?, other.expect_text()?);
                budget.bytes(left.len().min(right.len()))?;
                Ok(left.cmp(right))
            }
            (Self::Undefined, _) | (_, Value::Undefined) => Err("undefined value".into()),
            _ => Err("only numbers and texts have an order, each among themselves".into()),
        }
    }

    fn is_in(&self, other: &Value<'_>, budget: &mut Budget) -> Wanted<bool> {
        match other {
            Value::Text { .. } => {
                let (part, whole) = (self.expect_text()?, other.expect_text()?);
                budget.bytes(part.len() + whole.len())?;
                Ok(whole.contains(part))
            }
            Value::Given(Json::Object(members)) => Ok(members.contains_key(self.expect_text()?)),
            _ => {
                let list = other.list()?;
                for index in 0..list.len() {
                    budget.step()?;
                    if self.equals(&list.get(index), budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

fn to_json(value: &(impl serde::Serialize + ?Sized), text: &mut String, budget: &mut Budget) -> Wanted<()> {
    let mut counted = Counted { text, budget };
    serde_json::to_writer(&mut counted, value).map_err(|error| error.to_string())
}

/// Writes what may be written.
struct Counted<'b> {
    text: &'b mut String,
    budget: &'b mut Budget,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // JSON comes in pieces that are texts themselves.
        let piece = str::from_utf8(bytes).map_err(io::Error::other)?;
        self.budget.write(self.text, piece).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Renders a template.
pub fn render(template: &[Stmt], context: &Json) -> Result<String, Wrong> {
    let mut rendering =
        Rendering { context, names: Vec::new(), form: Form::Json, text: String::new(), budget: Budget::new() };
    rendering.body(template)?;
    Ok(rendering.text)
}

struct Rendering<'a> {
    context: &'a Json,
    /// The newest last.
    names: Vec<(&'a str, Value<'a>)>,
    form: Form,
    text: String,
    budget: Budget,
}

impl<'a> Rendering<'a> {
    fn body(&mut self, body: &'a [Stmt]) -> Result<(), Wrong> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &'a Stmt) -> Result<(), Wrong> {
        self.budget.step()?;
        match stmt {
            Stmt::Raw(raw) => self.budget.write(&mut self.text, raw)?,
            Stmt::Emit(expr) => {
                let value = self.value(expr)?;
                let written = match (&value, self.form) {
                    (Value::Text { is_json: true, .. }, _) | (_, Form::Text) => {
                        value.write(&mut self.text, &mut self.budget)
                    }
                    (_, Form::Json) => value.write_json(&mut self.text, &mut self.budget),
                };
                written.map_err(|what| Wrong { line: expr.line, what })?;
            }
            Stmt::Set(name, expr) => {
                let value = self.value(expr)?;
                self.names.push((name, value));
            }
            Stmt::Capture(name, body) => {
                let outside = std::mem::take(&mut self.text);
                self.body(body)?;
                let inside = std::mem::replace(&mut self.text, outside);
                let is_json = self.form == Form::Json;
                self.names.push((name, Value::Text { text: Text::Made(inside.into()), is_json }));
            }
            Stmt::Escape(form, body) => {
                let before = std::mem::replace(&mut self.form, *form);
                self.body(body)?;
                self.form = before;
            }
            Stmt::If(arms, otherwise) => {
                for (condition, body) in arms {
                    if self.value(condition)?.is_true() {
                        return self.body(body);
                    }
                }
                self.body(otherwise)?;
            }
            Stmt::For(repetition) => self.repeat(repetition)?,
        }
        Ok(())
    }

    fn repeat(&mut self, repetition: &'a For) -> Result<(), Wrong> {
        let at = |what| Wrong { line: repetition.list.line, what };
        let names = self.names.len();
        let mut list = self.value(&repetition.list)?.list().map_err(at)?;
        if let Some(only) = &repetition.only {
            let mut kept = self.budget.items(list.len())?;
            for index in 0..list.len() {
                self.budget.step()?;
                self.names.push((&repetition.name, list.get(index)));
                if self.value(only)?.is_true() {
                    kept.push(list.get(index));
                }
                self.names.truncate(names);
            }
            list = List::Made(kept.into());
        }
        if list.len() == 0 {
            return self.body(&repetition.otherwise);
        }
        for index in 0..list.len() {
            self.budget.step()?;
            self.names.push((&repetition.name, list.get(index)));
            self.names.push(("loop", Value::Loop { index, length: list.len() }));
            self.body(&repetition.body)?;
            self.names.truncate(names);
        }
        Ok(())
    }

    fn value(&mut self, expr: &'a Expr) -> Result<Value<'a>, Wrong> {
        self.budget.step()?;
        let at = |what| Wrong { line: expr.line, what };
        Ok(match &expr.what {
            What::Null => Value::Null,
            What::Bool(truth) => Value::Bool(*truth),
            What::Number(number) => Value::Number(*number),
            What::Text(text) => Value::text(text),
            What::Name(name) => self.name(name).map_err(at)?,
            What::List(items) => {
                let mut list = self.budget.items(items.len()).map_err(at)?;
                for item in items {
                    match self.value(item)? {
                        Value::List(_) => return Err(at("lists hold no lists of their own".into())),
                        Value::Undefined => return Err(at("undefined value".into())),
                        value => list.push(value),
                    }
                }
                Value::List(list.into())
            }
            What::Attribute(of, name) => self.value(of)?.attribute(name).map_err(at)?,
            What::Item(pair) => {
                let [of, key] = self.pair(pair)?;
                of.item(&key).map_err(at)?
            }
            What::Not(of) => Value::Bool(!self.value(of)?.is_true()),
            What::Negative(of) => {
                let number = self.value(of)?.expect_number().map_err(at)?;
                Value::Number(number.checked_neg().ok_or_else(|| at(TOO_LARGE.into()))?)
            }
            What::And(pair) => {
                let left = self.value(&pair[0])?;
                if left.is_true() { self.value(&pair[1])? } else { left }
            }
            What::Or(pair) => {
                let left = self.value(&pair[0])?;
                if left.is_true() { left } else { self.value(&pair[1])? }
            }
            What::Choice(choice) => {
                let (value, condition, other) = &**choice;
                if self.value(condition)?.is_true() {
                    self.value(value)?
                } else {
                    other.as_ref().map_or(Ok(Value::Undefined), |other| self.value(other))?
                }
            }
            What::Operator(operator, pair) => {
                let [left, right] = self.pair(pair)?;
                operate(*operator, &left, &right, &mut self.budget).map_err(at)?
            }
            What::Filter(filter, of, arguments) => {
                let of = self.value(of)?;
                let mut given = self.budget.items(arguments.len()).map_err(at)?;
                for argument in arguments {
                    given.push(self.value(argument)?);
                }
                filter.apply(&of, &given, &mut self.budget).map_err(at)?
            }
            What::Test(test, of) => {
                let value = self.value(of)?;
                Value::Bool(match test {
                    Test::Defined => !matches!(value, Value::Undefined),
                    Test::Undefined => matches!(value, Value::Undefined),
                    Test::Null => matches!(value, Value::Null),
                })
            }
        })
    }

    fn pair(&mut self, pair: &'a [Expr; 2]) -> Result<[Value<'a>; 2], Wrong> {
        Ok([self.value(&pair[0])?, self.value(&pair[1])?])
    }

    fn name(&mut self, name: &str) -> Wanted<Value<'a>> {
        let found = self.names.iter().rev().position(|(known, _)| *known == name);
        self.budget.steps(found.unwrap_or(self.names.len()))?;
        Ok(match found {
            Some(back) => self.names[self.names.len() - 1 - back].1.clone(),
            None => self.context.get(name).map_or(Value::Undefined, Value::given),
        })
    }
}

const TOO_LARGE: &str = "a number is too large, or divided by 0";

fn operate<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>, budget: &mut Budget) -> Wanted<Value<'a>> {
    use Operator as O;
    let calculate = |sign: &str, calculate: fn(i128, i128) -> Option<i128>| match (left, right) {
        (Value::Undefined, _) | (_, Value::Undefined) => Err("undefined value".to_owned()),
        (Value::Number(left), Value::Number(right)) => {
            calculate(*left, *right).map(Value::Number).ok_or_else(|| TOO_LARGE.to_owned())
        }
        _ => Err(format!("`{sign}` takes whole numbers; `~` joins texts")),
    };
    Ok(match operator {
        O::Equal => Value::Bool(left.equals(right, budget)?),
        O::NotEqual => Value::Bool(!left.equals(right, budget)?),
        O::Less => Value::Bool(left.order(right, budget)?.is_lt()),
        O::LessOrEqual => Value::Bool(left.order(right, budget)?.is_le()),
        O::Greater => Value::Bool(left.order(right, budget)?.is_gt()),
        O::GreaterOrEqual => Value::Bool(left.order(right, budget)?.is_ge()),
        O::In => Value::Bool(left.is_in(right, budget)?),
        O::Join => budget.made(|text, budget| {
            left.write(text, budget)?;
            right.write(text, budget)
        })?,
        O::Plus => calculate("+", i128::checked_add)?,
        O::Minus => calculate("-", i128::checked_sub)?,
        O::Times => calculate("*", i128::checked_mul)?,
        O::Over => calculate("//", divided)?,
        O::Rest => calculate("%", rest)?,
    })
}

/// Rounded down.
fn divided(number: i128, by: i128) -> Option<i128> {
    Some(number.checked_div(by)? - i128::from(rest(number, by)? != 0 && (number < 0) != (by < 0)))
}

/// What is left of that: it has the sign of `by`.
fn rest(number: i128, by: i128) -> Option<i128> {
    let rest = number.checked_rem(by)?;
    Some(if rest != 0 && (rest < 0) != (by < 0) { rest + by } else { rest })
}
