//! A record as the event that it is, by the Kafka binding of CloudEvents, in either mode.

use krafka::ConsumerRecord;
use serde::Deserialize;
use serde_json::Value;

/// What is read of an event.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Its id: `node-lsn-index`.
    pub id: String,
    /// What has happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// To what.
    pub subject: String,
    /// When, by RFC 3339.
    pub time: String,
    /// What it has come to.
    pub data: Value,
}

impl Event {
    /// Reads a record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(record: &ConsumerRecord) -> Result<Self, String> {
        let header = |name: &str| {
            let found = record.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.and_then(|(_, value)| std::str::from_utf8(value.as_ref()?).ok())
        };
        let value = record.value.as_deref().ok_or("it has no value")?;
        if header("content-type").is_some_and(|kind| kind.starts_with("application/cloudevents+json")) {
            return serde_json::from_slice(value).map_err(|error| error.to_string());
        }
        let member = |name: &str| {
            let value = header(&format!("ce_{name}")).ok_or_else(|| format!("it has no header ce_{name}"));
            value.map(str::to_owned)
        };
        let data = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        Ok(Self { id: member("id")?, kind: member("type")?, subject: member("subject")?, time: member("time")?, data })
    }

    /// Its place among all: lsn and index.
    pub fn place(&self) -> Option<(i64, i64)> {
        let mut parts = self.id.split('-').map(|part| part.parse::<i64>().ok());
        let [node, lsn, index] = [(); 3].map(|()| parts.next().flatten());
        node.and(Some((lsn?, index?))).filter(|_| parts.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_three_numbers() {
        let place = |id: &str| {
            let (kind, subject, time) = (String::new(), String::new(), String::new());
            Event { id: id.into(), kind, subject, time, data: Value::Null }.place()
        };
        assert_eq!(place("0-7-1"), Some((7, 1)));
        for wrong in ["", "7", "0-7", "a-7-1", "0-7-1-9", "0-7-1\r\nx: y", "0--7-1", "0-7-", "0-99999999999999999999-0"]
        {
            assert_eq!(place(wrong), None, "{wrong:?}");
        }
    }
}
