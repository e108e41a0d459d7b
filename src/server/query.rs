//! Query parameters: known ones only, each at most once.

use std::ops::RangeInclusive;
use std::str::FromStr;

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use crate::api::PageRequest;

/// The most items of a page.
const LIMIT_MAX: u64 = 500;

/// The parameters of one request.
pub struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    /// The parameters of a list.
    pub const PAGE: &[&str] = &["limit", "cursor"];

    /// Those of `request`.
    ///
    /// # Errors
    /// 400 for a parameter that is not in `known`, is there twice, or is not UTF-8.
    pub fn read(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        Self::parse(request.query_string(), known)
    }

    /// Those of a query string.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| Problem::invalid_field("query", "must be UTF-8"))?;
            let wrong = |message: String| Problem::invalid_field(name.clone(), message);
            if !known.contains(&name.as_str()) {
                return Err(wrong(format!("is not known: expected one of {}", known.join(", "))));
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(wrong("is given twice".into()));
            }
            let value = decode(value).ok_or_else(|| wrong("must be UTF-8".into()))?;
            parameters.push((name, value));
        }
        Ok(Self { parameters })
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, parsed.
    ///
    /// # Errors
    /// 400, naming it.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let value = self.get(name).map(str::parse::<T>).transpose();
        value.map_err(|error| Problem::invalid_field(name, error.to_string()))
    }

    /// The value of a parameter that is a whole number.
    ///
    /// # Errors
    /// 400 for one that is not in `range`.
    pub fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_number && range.contains(number));
        let wrong = || format!("must be a whole number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| Problem::invalid_field(name, wrong()))
    }

    /// `limit`, or its default.
    ///
    /// # Errors
    /// 400 for one that is not 1 to 500.
    pub fn limit(&self) -> Result<usize, Problem> {
        let limit = self.number("limit", 1..=LIMIT_MAX)?;
        Ok(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PageRequest::default().limit))
    }

    /// `limit` and `cursor`.
    ///
    /// # Errors
    /// As [`limit`](Self::limit).
    pub fn page(&self) -> Result<PageRequest, Problem> {
        Ok(PageRequest { limit: self.limit()?, cursor: self.get("cursor").map(str::to_owned) })
    }
}

fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<PageRequest, Problem> {
        Query::parse(query, Query::PAGE)?.page()
    }

    #[test]
    fn pages() {
        for (query, limit, cursor) in [
            ("", 50, None),
            ("limit=1", 1, None),
            ("limit=500&cursor=a%2Fb+c", 500, Some("a/b c")),
            ("cursor=", 50, Some("")),
        ] {
            let expected = PageRequest { limit, cursor: cursor.map(str::to_owned) };
            assert_eq!(page(query).unwrap(), expected, "{query}");
        }
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=", "limit"),
            ("limit=+1", "limit"),
            ("limit=%2B1", "limit"),
            ("limit=1&limit=1", "limit"),
            ("limits=1", "limits"),
            ("cursor=%ff", "cursor"),
        ] {
            let problem = page(query).unwrap_err().to_string();
            assert!(problem.starts_with(&format!("invalid_request: {field} ")), "{query}: {problem}");
        }
    }
}
