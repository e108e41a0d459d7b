//! The grammar of templates: a part of Jinja's, as a tree that has no place for anything else.

use super::Wrong;
use super::filters::Filter;
use super::lexer::{Token, tokens};

/// How deep brackets and blocks may be in each other: whoever reads a template takes as much of the stack.
const NESTED_MAX: u32 = 32;
/// How deep expressions may be in each other, those that stand in a row too: whoever renders or drops one takes as much.
const DEPTH_MAX: u32 = 64;

/// Something that is done.
#[derive(Debug)]
pub enum Stmt {
    /// Writes this.
    Raw(String),
    /// Writes a value.
    Emit(Expr),
    /// Does the first whose condition holds, or the last.
    If(Vec<(Expr, Vec<Stmt>)>, Vec<Stmt>),
    /// Goes through a list.
    For(Box<For>),
    /// Gives a value a name.
    Set(String, Expr),
    /// Gives what is written a name.
    Capture(String, Vec<Stmt>),
    /// Writes values as JSON, or as texts.
    Escape(Form, Vec<Stmt>),
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Text,
}

/// A loop.
#[derive(Debug)]
pub struct For {
    pub name: String,
    pub list: Expr,
    /// Which of them.
    pub only: Option<Expr>,
    pub body: Vec<Stmt>,
    /// What is done if there are none.
    pub otherwise: Vec<Stmt>,
}

/// Something that has a value, and the line that it stands in.
#[derive(Debug)]
pub struct Expr {
    pub what: What,
    pub line: u32,
    depth: u32,
}

#[derive(Debug)]
pub enum What {
    Null,
    Bool(bool),
    Number(i128),
    Text(String),
    Name(String),
    List(Vec<Expr>),
    Attribute(Box<Expr>, String),
    Item(Box<[Expr; 2]>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    And(Box<[Expr; 2]>),
    Or(Box<[Expr; 2]>),
    /// Value, condition, the other value.
    Choice(Box<(Expr, Expr, Option<Expr>)>),
    Operator(Operator, Box<[Expr; 2]>),
    Filter(Filter, Box<Expr>, Vec<Expr>),
    Test(Test, Box<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Join,
    Plus,
    Minus,
    Times,
    Over,
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Defined,
    Undefined,
    Null,
}

/// Reads a template.
pub fn parse(source: &str) -> Result<Vec<Stmt>, Wrong> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0 };
    let body = parser.body(&[])?;
    match parser.peek() {
        None => Ok(body),
        Some(_) => Err(parser.wrong("a tag ends what has not begun")),
    }
}

struct Parser<'a> {
    tokens: Vec<(Token<'a>, u32)>,
    at: usize,
    depth: u32,
}

type Parsed<T> = Result<T, Wrong>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn line(&self) -> u32 {
        let last = self.tokens.last().map_or(1, |(_, line)| *line);
        self.tokens.get(self.at).map_or(last, |(_, line)| *line)
    }

    fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong { line: self.line(), what: what.into() }
    }

    fn takes(&mut self, token: &Token<'_>) -> bool {
        let takes = self.peek() == Some(token);
        self.at += usize::from(takes);
        takes
    }

    fn sign(&mut self, sign: &'static str) -> bool {
        self.takes(&Token::Sign(sign))
    }

    fn word(&mut self, word: &str) -> bool {
        self.takes(&Token::Name(word))
    }

    fn require(&mut self, token: &Token<'_>, shown: &str) -> Parsed<()> {
        if self.takes(token) { Ok(()) } else { Err(self.wrong(format!("expected `{shown}`"))) }
    }

    fn tag_end(&mut self) -> Parsed<()> {
        self.require(&Token::TagEnd, "%}")
    }

    /// Whatever reads itself goes through here.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == NESTED_MAX {
            return Err(self.too_deep(NESTED_MAX));
        }
        self.depth += 1;
        let parsed = read(self);
        self.depth -= 1;
        parsed
    }

    fn too_deep(&self, most: u32) -> Wrong {
        self.wrong(format!("more than {most} things are within each other"))
    }

    /// Whatever has parts goes through here.
    fn expr(&self, what: What, line: u32, parts: &[u32]) -> Parsed<Expr> {
        let depth = parts.iter().max().map_or(0, |deepest| deepest + 1);
        if depth > DEPTH_MAX { Err(self.too_deep(DEPTH_MAX)) } else { Ok(Expr { what, line, depth }) }
    }

    fn pair(&self, make: impl FnOnce(Box<[Expr; 2]>) -> What, left: Expr, right: Expr) -> Parsed<Expr> {
        let (line, depths) = (left.line, [left.depth, right.depth]);
        self.expr(make(Box::new([left, right])), line, &depths)
    }

    /// Statements up to a tag that begins with one of these words, which is left where it is.
    fn body(&mut self, ends: &[&str]) -> Parsed<Vec<Stmt>> {
        let mut body = Vec::new();
        loop {
            match self.peek() {
                None if ends.is_empty() => return Ok(body),
                None => return Err(self.wrong(format!("expected `{}`", ends.join("` or `")))),
                Some(Token::Raw(raw)) => {
                    body.push(Stmt::Raw((*raw).to_owned()));
                    self.at += 1;
                }
                Some(Token::Emit) => {
                    self.at += 1;
                    body.push(Stmt::Emit(self.expression()?));
                    self.require(&Token::EmitEnd, "}}")?;
                }
                Some(Token::Tag) => {
                    let Some((Token::Name(word), _)) = self.tokens.get(self.at + 1) else {
                        return Err(self.wrong("expected a word after `{%`"));
                    };
                    if word.starts_with("end") || matches!(*word, "else" | "elif") {
                        if ends.is_empty() || ends.contains(word) {
                            return Ok(body);
                        }
                        return Err(self.wrong(format!("expected `{}`", ends.join("` or `"))));
                    }
                    let word = *word;
                    self.at += 2;
                    body.push(self.deeper(|parser| parser.statement(word))?);
                    self.tag_end()?;
                }
                Some(_) => return Err(self.wrong("a tag has no beginning")),
            }
        }
    }

    /// A statement, up to the end of its last tag.
    fn statement(&mut self, word: &str) -> Parsed<Stmt> {
        match word {
            "if" => self.condition(),
            "for" => self.repetition(),
            "set" => self.definition(),
            "autoescape" => {
                let form = if self.word("true") {
                    Form::Json
                } else if self.word("false") {
                    Form::Text
                } else {
                    return Err(self.wrong("expected `true` or `false`"));
                };
                self.tag_end()?;
                let body = self.body(&["endautoescape"])?;
                self.end("endautoescape")?;
                Ok(Stmt::Escape(form, body))
            }
            other => Err(self.wrong(format!("`{other}` has no place here: there are if, for, set and autoescape"))),
        }
    }

    fn end(&mut self, word: &str) -> Parsed<()> {
        self.require(&Token::Tag, "{%")?;
        self.require(&Token::Name(word), word)
    }

    fn condition(&mut self) -> Parsed<Stmt> {
        let mut arms = Vec::new();
        loop {
            let condition = self.expression()?;
            self.tag_end()?;
            arms.push((condition, self.body(&["elif", "else", "endif"])?));
            self.require(&Token::Tag, "{%")?;
            if self.word("elif") {
                continue;
            }
            let mut otherwise = Vec::new();
            if self.word("else") {
                self.tag_end()?;
                otherwise = self.body(&["endif"])?;
                self.require(&Token::Tag, "{%")?;
            }
            self.require(&Token::Name("endif"), "endif")?;
            return Ok(Stmt::If(arms, otherwise));
        }
    }

    fn repetition(&mut self) -> Parsed<Stmt> {
        let name = self.new_name()?;
        self.require(&Token::Name("in"), "in")?;
        // What comes after an `if` says which of the list.
        let list = self.or()?;
        let only = if self.word("if") { Some(self.expression()?) } else { None };
        self.tag_end()?;
        let body = self.body(&["else", "endfor"])?;
        self.require(&Token::Tag, "{%")?;
        let mut otherwise = Vec::new();
        if self.word("else") {
            self.tag_end()?;
            otherwise = self.body(&["endfor"])?;
            self.require(&Token::Tag, "{%")?;
        }
        self.require(&Token::Name("endfor"), "endfor")?;
        Ok(Stmt::For(Box::new(For { name, list, only, body, otherwise })))
    }

    fn definition(&mut self) -> Parsed<Stmt> {
        let name = self.new_name()?;
        if self.sign("=") {
            return Ok(Stmt::Set(name, self.expression()?));
        }
        self.tag_end()?;
        let body = self.body(&["endset"])?;
        self.end("endset")?;
        Ok(Stmt::Capture(name, body))
    }

    fn new_name(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Token::Name(name)) if !is_reserved(name) => {
                let name = (*name).to_owned();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.wrong("expected a new name")),
        }
    }

    fn expression(&mut self) -> Parsed<Expr> {
        self.deeper(Self::choice)
    }

    fn choice(&mut self) -> Parsed<Expr> {
        let mut value = self.or()?;
        while self.word("if") {
            let condition = self.or()?;
            let other = if self.word("else") { Some(self.expression()?) } else { None };
            let depths = [value.depth, condition.depth, other.as_ref().map_or(0, |other| other.depth)];
            let line = value.line;
            value = self.expr(What::Choice(Box::new((value, condition, other))), line, &depths)?;
        }
        Ok(value)
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut left = self.and()?;
        while self.word("or") {
            let right = self.and()?;
            left = self.pair(What::Or, left, right)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut left = self.not()?;
        while self.word("and") {
            let right = self.not()?;
            left = self.pair(What::And, left, right)?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed<Expr> {
        let line = self.line();
        if !self.word("not") {
            return self.comparison();
        }
        let of = self.deeper(Self::not)?;
        self.negation(of, line)
    }

    fn negation(&self, of: Expr, line: u32) -> Parsed<Expr> {
        let depth = of.depth;
        self.expr(What::Not(Box::new(of)), line, &[depth])
    }

    fn comparison(&mut self) -> Parsed<Expr> {
        let left = self.sum()?;
        let Some((operator, is_negated)) = self.compares()? else { return Ok(left) };
        let (line, right) = (left.line, self.sum()?);
        let compared = self.pair(|pair| What::Operator(operator, pair), left, right)?;
        if self.compares()?.is_some() {
            return Err(self.wrong("comparisons in a row: put an `and` between them"));
        }
        if is_negated { self.negation(compared, line) } else { Ok(compared) }
    }

    fn compares(&mut self) -> Parsed<Option<(Operator, bool)>> {
        const OPERATORS: [(&str, Operator); 6] = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        if let Some((_, operator)) = OPERATORS.iter().find(|(sign, _)| self.sign(sign)) {
            return Ok(Some((*operator, false)));
        }
        if self.word("in") {
            return Ok(Some((Operator::In, false)));
        }
        if self.word("not") {
            self.require(&Token::Name("in"), "in")?;
            return Ok(Some((Operator::In, true)));
        }
        Ok(None)
    }

    fn chain(
        &mut self,
        operand: impl Fn(&mut Self) -> Parsed<Expr>,
        operators: &[(&'static str, Operator)],
    ) -> Parsed<Expr> {
        let mut left = operand(self)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.sign(sign)) {
            let right = operand(self)?;
            left = self.pair(|pair| What::Operator(*operator, pair), left, right)?;
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.chain(Self::joined, &[("+", Operator::Plus), ("-", Operator::Minus)])
    }

    fn joined(&mut self) -> Parsed<Expr> {
        self.chain(Self::product, &[("~", Operator::Join)])
    }

    fn product(&mut self) -> Parsed<Expr> {
        let operators = [("*", Operator::Times), ("//", Operator::Over), ("%", Operator::Rest)];
        let product = self.chain(Self::filtered, &operators)?;
        match self.peek() {
            Some(Token::Sign(sign @ ("/" | "**"))) => {
                Err(self.wrong(format!("`{sign}` has no place here: `//` divides whole numbers")))
            }
            _ => Ok(product),
        }
    }

    /// An operand with its filters and tests.
    fn filtered(&mut self) -> Parsed<Expr> {
        let mut value = self.signed()?;
        loop {
            let (line, depth) = (self.line(), value.depth);
            if self.sign("|") {
                let Some(Token::Name(name)) = self.next() else {
                    return Err(self.wrong("expected the name of a filter"));
                };
                let arguments = if self.sign("(") { self.arguments(name)? } else { Vec::new() };
                let filter = Filter::new(name, arguments.len()).map_err(|what| Wrong { line, what })?;
                let depths: Vec<_> = arguments.iter().map(|argument| argument.depth).chain([depth]).collect();
                value = self.expr(What::Filter(filter, Box::new(value), arguments), line, &depths)?;
            } else if self.word("is") {
                let is_negated = self.word("not");
                let test = match self.next() {
                    Some(Token::Name("defined")) => Test::Defined,
                    Some(Token::Name("undefined")) => Test::Undefined,
                    Some(Token::Name("none")) => Test::Null,
                    _ => return Err(Wrong { line, what: "`is` goes with defined, undefined and none".into() }),
                };
                value = self.expr(What::Test(test, Box::new(value)), line, &[depth])?;
                if is_negated {
                    value = self.negation(value, line)?;
                }
            } else {
                return Ok(value);
            }
        }
    }

    fn arguments(&mut self, filter: &str) -> Parsed<Vec<Expr>> {
        let arguments = self.items(")")?;
        match self.peek() {
            Some(Token::Sign("=")) => Err(self.wrong(format!("filter {filter} takes no arguments by name"))),
            _ => Ok(arguments),
        }
    }

    /// Expressions with commas between them, up to a bracket, or to what cannot stand there.
    fn items(&mut self, end: &'static str) -> Parsed<Vec<Expr>> {
        let mut items = Vec::new();
        loop {
            if self.sign(end) {
                return Ok(items);
            }
            items.push(self.expression()?);
            if self.peek() == Some(&Token::Sign("=")) {
                return Ok(items);
            }
            if !self.sign(",") {
                self.require(&Token::Sign(end), end)?;
                return Ok(items);
            }
        }
    }

    fn signed(&mut self) -> Parsed<Expr> {
        let line = self.line();
        if !self.sign("-") {
            return self.postfix();
        }
        let of = self.deeper(Self::signed)?;
        let depth = of.depth;
        self.expr(What::Negative(Box::new(of)), line, &[depth])
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let mut value = self.primary()?;
        loop {
            let (line, depth) = (self.line(), value.depth);
            if self.sign(".") {
                let Some(Token::Name(name)) = self.next() else { return Err(self.wrong("expected a name after `.`")) };
                value = self.expr(What::Attribute(Box::new(value), name.to_owned()), line, &[depth])?;
            } else if self.sign("[") {
                let item = self.expression()?;
                self.require(&Token::Sign("]"), "]")?;
                value = self.pair(What::Item, value, item)?;
            } else if self.peek() == Some(&Token::Sign("(")) {
                return Err(self.wrong("calls have no place here"));
            } else {
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let what = match self.next() {
            Some(Token::Name("true" | "True")) => What::Bool(true),
            Some(Token::Name("false" | "False")) => What::Bool(false),
            Some(Token::Name("none" | "None")) => What::Null,
            Some(Token::Name(name)) => What::Name(name.to_owned()),
            Some(Token::Number(number)) => What::Number(number),
            Some(Token::Text(text)) => What::Text(text),
            Some(Token::Sign("(")) => {
                let value = self.expression()?;
                self.require(&Token::Sign(")"), ")")?;
                return Ok(value);
            }
            Some(Token::Sign("[")) => {
                let items = self.items("]")?;
                if self.peek() == Some(&Token::Sign("=")) {
                    return Err(self.wrong("expected `]`"));
                }
                let depths: Vec<_> = items.iter().map(|item| item.depth).collect();
                return self.expr(What::List(items), line, &depths);
            }
            _ => return Err(Wrong { line, what: "expected a value".into() }),
        };
        Ok(Expr { what, line, depth: 0 })
    }
}

/// Names that are something already.
fn is_reserved(name: &str) -> bool {
    ["true", "True", "false", "False", "none", "None", "loop", "self"].contains(&name)
}
