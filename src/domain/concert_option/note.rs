//! What whoever holds says of it for themselves: nothing here depends on it, and it comes back with the reservation.

use serde::Serialize;

use crate::domain::Flaw;

/// The most characters of a reference.
pub const REFERENCE_CHARS_MAX: usize = 200;
/// The most bytes of the data.
pub const DATA_BYTES_MAX: usize = 2_048;

/// What stands beside a hold, and then beside its reservation.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Note {
    /// What whoever holds calls it.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// A JSON object, as text.
    #[n(1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Note {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reference.is_none() && self.data.is_none()
    }

    /// What is wrong with it.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        let reference = self.reference.as_deref().unwrap_or_default();
        if reference.chars().count() > REFERENCE_CHARS_MAX {
            return Some(Flaw::new("reference", format!("must be at most {REFERENCE_CHARS_MAX} characters")));
        }
        let data = self.data.as_deref()?;
        if data.len() > DATA_BYTES_MAX {
            return Some(Flaw::new("data", format!("must be at most {DATA_BYTES_MAX} bytes of JSON")));
        }
        let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(data);
        object.is_err().then(|| Flaw::new("data", "must be a JSON object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_noted() {
        let of = |reference: Option<&str>, data: Option<String>| {
            let note = Note { reference: reference.map(str::to_owned), data };
            note.flaw().map(|flaw| flaw.field)
        };
        let data = |bytes: usize| Some(format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8)));
        for (reference, note, flaw) in [
            (None, None, None),
            (Some(""), None, None),
            (Some(&*"ö".repeat(200)), data(DATA_BYTES_MAX), None),
            (Some(&*"ö".repeat(201)), None, Some("reference")),
            (None, data(DATA_BYTES_MAX + 1), Some("data")),
            (None, Some("[]".into()), Some("data")),
            (None, Some("null".into()), Some("data")),
            (None, Some("{".into()), Some("data")),
            (None, Some(r#"{"a": {"b": [1, 2.5, null]}}"#.into()), None),
        ] {
            assert_eq!(of(reference, note.clone()).as_deref(), flaw, "{reference:?} {note:?}");
        }
    }
}
