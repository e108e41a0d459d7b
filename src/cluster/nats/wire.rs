//! Headers, as they come from NATS. A message that is read from the stream's leader comes as a document with the
//! headers' own bytes, and is to be read as the client reads those of messages that are delivered: all nodes judge the
//! same.

use async_nats::HeaderMap;

use crate::cluster::Wire;

/// A message that was delivered. The order of headers is not kept, and means nothing.
pub fn delivered(headers: Option<&HeaderMap>, payload: &[u8]) -> Wire {
    let mut lines = Vec::new();
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        lines.extend(values.iter().map(|value| (name.to_owned(), value.as_str().to_owned())));
    }
    lines.sort();
    Wire { headers: lines, payload: payload.to_vec() }
}

/// A message out of a document. What cannot be read is left out: no client could have been given such a message, so
/// that all who have it have it from here.
pub fn stored(headers: &[u8], payload: Vec<u8>) -> Wire {
    let text = String::from_utf8_lossy(headers);
    let mut lines = text.lines().skip(1).peekable();
    let mut headers = Vec::new();
    while let Some(line) = lines.next() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        value.truncate(value.trim_end().len());
        headers.push((name.to_owned(), value));
    }
    headers.sort();
    Wire { headers, payload }
}

/// For NATS. What stands in a message of ours fits into headers.
pub fn headers(wire: &Wire) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &wire.headers {
        headers.append(name.as_str(), value.as_str());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(headers: &[(&str, &str)]) -> Wire {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Wire { headers, payload: b"x".to_vec() }
    }

    #[test]
    fn stored_headers_are_read_line_by_line() {
        type Row = (&'static [u8], &'static [(&'static str, &'static str)]);
        let table: &[Row] = &[
            (b"", &[]),
            (b"NATS/1.0\r\n\r\n", &[]),
            (b"NATS/1.0\r\nB: 2\r\nA:1 \r\n\r\n", &[("A", "1"), ("B", "2")]),
            (b"NATS/1.0\r\nA: 1\r\nA: 0\r\n\r\n", &[("A", "0"), ("A", "1")]),
            (b"NATS/1.0\r\nA: 1\r\n 2\r\nB:3", &[("A", "1 2"), ("B", "3")]),
            (b"NATS/1.0\r\nnone\r\nA::\r\n\r\n", &[("A", ":")]),
            (b"NATS/1.0 100 x\r\nA:\xff\r\n\r\n", &[("A", "\u{fffd}")]),
        ];
        for (bytes, expected) in table {
            assert_eq!(stored(bytes, b"x".to_vec()), wire(expected));
        }
    }

    #[test]
    fn headers_of_messages_come_back() {
        let sent = wire(&[("Boxoffice-Epoch", "7"), ("Boxoffice-Kind", "mark")]);
        assert_eq!(delivered(Some(&headers(&sent)), &sent.payload), sent);
        assert_eq!(delivered(None, b"x"), wire(&[]));
    }
}
