//! The words of a template, as Jinja has them, with the lines that they stand in.

use super::Wrong;

/// The longest name: whoever looks one up compares no more than that.
const NAME_BYTES_MAX: usize = 64;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token<'a> {
    /// What is written as it stands.
    Raw(&'a str),
    /// `{{`.
    Emit,
    /// `}}`.
    EmitEnd,
    /// `{%`.
    Tag,
    /// `%}`.
    TagEnd,
    /// A name or a keyword.
    Name(&'a str),
    /// What stands between quotes.
    Text(String),
    /// A whole number.
    Number(i128),
    /// An operator or a bracket.
    Sign(&'static str),
}

/// The longer ones first.
const SIGNS: [&str; 26] = [
    "//", "**", "==", "!=", "<=", ">=", "<", ">", "=", "+", "-", "*", "/", "%", "~", "|", ".", ",", ":", ";", "(", ")",
    "[", "]", "{", "}",
];

/// Takes a template apart. It goes through it once.
pub fn tokens(source: &str) -> Result<Vec<(Token<'_>, u32)>, Wrong> {
    // As Jinja has it, so that a file may end as files do.
    let source = source.strip_suffix('\n').map_or(source, |source| source.strip_suffix('\r').unwrap_or(source));
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new() };
    while lexer.raw()? {}
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    line: u32,
    tokens: Vec<(Token<'a>, u32)>,
}

impl<'a> Lexer<'a> {
    /// Everything up to the end of the next tag; false if there is none.
    fn raw(&mut self) -> Result<bool, Wrong> {
        let opens = |(at, _): &(usize, &str)| self.rest[at + 1..].starts_with(['{', '%', '#']);
        let Some((at, _)) = self.rest.match_indices('{').find(opens) else {
            let rest = self.skip(self.rest.len());
            self.push_raw(rest);
            return Ok(false);
        };
        let trims = self.rest[at + 2..].starts_with('-');
        let raw = &self.rest[..at];
        self.push_raw(if trims { raw.trim_end() } else { raw });
        self.skip(at);
        let kind = self.skip(2);
        if self.rest.starts_with(['-', '+']) && kind != "{#" {
            self.skip(1);
        }
        let trims = match kind {
            "{{" => self.tag(Token::Emit, Token::EmitEnd, "}}")?,
            "{%" => self.tag(Token::Tag, Token::TagEnd, "%}")?,
            _ => {
                let Some(end) = self.rest.find("#}") else { return Err(self.wrong("a comment has no end")) };
                self.skip(end + 2).ends_with("-#}")
            }
        };
        if trims {
            self.skip(self.rest.len() - self.rest.trim_start().len());
        }
        Ok(true)
    }

    fn push_raw(&mut self, raw: &'a str) {
        if !raw.is_empty() {
            self.tokens.push((Token::Raw(raw), self.line));
        }
    }

    /// What stands between the marks of a tag; whether it wants the white space after it to be taken away.
    fn tag(&mut self, begin: Token<'a>, end: Token<'a>, mark: &str) -> Result<bool, Wrong> {
        self.tokens.push((begin, self.line));
        loop {
            self.skip(self.rest.len() - self.rest.trim_start().len());
            let trims = self.rest.starts_with('-');
            let bare = self.rest.strip_prefix(['-', '+']).unwrap_or(self.rest);
            if bare.starts_with(mark) {
                self.tokens.push((end, self.line));
                self.skip(self.rest.len() - bare.len() + mark.len());
                return Ok(trims);
            }
            let line = self.line;
            let token = self.token()?;
            self.tokens.push((token, line));
        }
    }

    fn token(&mut self) -> Result<Token<'a>, Wrong> {
        let Some(first) = self.rest.chars().next() else { return Err(self.wrong("a tag has no end")) };
        let run = |of: fn(char) -> bool| self.rest.find(|c| !of(c)).unwrap_or(self.rest.len());
        if first.is_ascii_digit() {
            let word = self.skip(run(|c| c.is_ascii_alphanumeric() || c == '_'));
            let fraction =
                self.rest.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if fraction || !word.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(self.wrong("numbers are whole numbers here"));
            }
            return word.parse().map(Token::Number).map_err(|_| self.wrong("a number is too large"));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let word = self.skip(run(|c| c.is_ascii_alphanumeric() || c == '_'));
            if word.len() > NAME_BYTES_MAX {
                return Err(self.wrong(format!("a name has over {NAME_BYTES_MAX} bytes")));
            }
            return Ok(Token::Name(word));
        }
        if matches!(first, '"' | '\'') {
            return self.text(first);
        }
        let Some(sign) = SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) else {
            return Err(self.wrong("a character has no meaning here"));
        };
        self.skip(sign.len());
        Ok(Token::Sign(sign))
    }

    fn text(&mut self, quote: char) -> Result<Token<'a>, Wrong> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.skip(at + 1);
                return Ok(Token::Text(text));
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            text.push(match chars.next() {
                Some((_, c @ ('\\' | '/' | '"' | '\''))) => c,
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, 'r')) => '\r',
                Some((at, 'u')) => {
                    let code = self.rest.get(at + 1..at + 5).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    // A pair of surrogates can be written as the character that it stands for.
                    let Some(c) = code.and_then(char::from_u32) else { return Err(self.wrong("\\u is no character")) };
                    chars.nth(3);
                    c
                }
                _ => return Err(self.wrong("a backslash before what needs none")),
            });
        }
        Err(self.wrong("a text has no end"))
    }

    /// Passes so many bytes.
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.bytes().filter(|byte| *byte == b'\n').count() as u32;
        self.rest = rest;
        skipped
    }

    fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong { line: self.line, what: what.into() }
    }
}
