//! One keep-alive HTTP/1.1 connection, with as little work a request as can be: the generator shares its cores with what
//! it measures. It knows bytes, not what they mean.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The most header fields of an answer.
const HEADERS_MAX: usize = 64;
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is not HTTP/1.1, or too large.
    #[error("the answer is not what HTTP/1.1 says: {0}")]
    Malformed(&'static str),
}

impl From<httparse::Error> for Error {
    fn from(_: httparse::Error) -> Self {
        Self::Malformed("its head")
    }
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    /// The request is put together here.
    pub request: Vec<u8>,
    answer: Vec<u8>,
    /// A body that came in chunks, without them.
    unchunked: Vec<u8>,
    /// When it was last used.
    pub used_at: Instant,
    /// Whether the server will close it.
    pub closing: bool,
}

/// Where the body of an answer is.
enum Body {
    Plain(std::ops::Range<usize>),
    Unchunked,
}

/// What the head of an answer says.
struct Head {
    bytes: usize,
    status: u16,
    closing: bool,
    length: Length,
}

enum Length {
    Bytes(usize),
    Chunked,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let [request, answer] = [(); 2].map(|()| Vec::with_capacity(2_048));
        Ok(Self { stream, request, answer, unchunked: Vec::new(), used_at: Instant::now(), closing: false })
    }

    /// Sends the request that has been put together, and reads the answer: status and body.
    ///
    /// # Errors
    /// The connection is of no use any more, and whether the request was carried out is not known.
    pub async fn exchange(&mut self) -> Result<(u16, &[u8]), Error> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let head = loop {
            self.fill().await?;
            if let Some(head) = read_head(&self.answer)? {
                break head;
            }
        };
        self.closing = head.closing;
        let body = match head.length {
            Length::Bytes(length) => {
                let end = head.bytes + length;
                while self.answer.len() < end {
                    self.fill().await?;
                }
                Body::Plain(head.bytes..end)
            }
            Length::Chunked => {
                self.unchunk(head.bytes).await?;
                Body::Unchunked
            }
        };
        self.used_at = Instant::now();
        Ok((
            head.status,
            match body {
                Body::Plain(range) => &self.answer[range],
                Body::Unchunked => &self.unchunked,
            },
        ))
    }

    async fn fill(&mut self) -> Result<(), Error> {
        if self.answer.len() > ANSWER_BYTES_MAX {
            return Err(Error::Malformed("its size"));
        }
        let read = self.stream.read_buf(&mut self.answer).await?;
        if read == 0 { Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
    }

    async fn unchunk(&mut self, mut at: usize) -> Result<(), Error> {
        self.unchunked.clear();
        loop {
            let chunk = httparse::parse_chunk_size(&self.answer[at..]).map_err(|_| Error::Malformed("a chunk"))?;
            let httparse::Status::Complete((head, size)) = chunk else {
                self.fill().await?;
                continue;
            };
            let size = usize::try_from(size).map_err(|_| Error::Malformed("a chunk"))?;
            let end = at + head + size + b"\r\n".len();
            while self.answer.len() < end {
                self.fill().await?;
            }
            self.unchunked.extend_from_slice(&self.answer[at + head..at + head + size]);
            at = end;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

fn read_head(bytes: &[u8]) -> Result<Option<Head>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.ok_or(Error::Malformed("its status"))?;
    let mut head = Head { bytes: head_bytes, status, closing: false, length: Length::Bytes(0) };
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            head.length = Length::Bytes(value.parse().map_err(|_| Error::Malformed("its length"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.length = Length::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.closing = value.eq_ignore_ascii_case("close");
        }
    }
    if matches!(status, 204 | 304) {
        head.length = Length::Bytes(0);
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What is read of an answer that comes in pieces of every size.
    async fn read(answer: &'static [u8], piece: usize) -> Result<(u16, Vec<u8>, bool), Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in answer.chunks(piece) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut connection = Connection::open(&address).await?;
        connection.request.extend_from_slice(b"ask.");
        let answer = connection.exchange().await.map(|(status, body)| (status, body.to_vec()));
        server.await.unwrap();
        answer.map(|(status, body)| (status, body, connection.closing))
    }

    #[tokio::test]
    async fn bodies_are_read_as_they_are_framed() {
        let cases: [(&[u8], u16, &[u8], bool); 4] = [
            (b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello", 201, b"hello", false),
            (b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", 204, b"", true),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
                200,
                b"hello",
                false,
            ),
            (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\n\r\n", 304, b"", false),
        ];
        for (answer, status, body, closing) in cases {
            for piece in [1, 7, 1_000] {
                assert_eq!(read(answer, piece).await.unwrap(), (status, body.to_vec(), closing));
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_an_answer_is_an_error() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"[..],
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(read(answer, 1_000).await.is_err(), "{answer:?}");
        }
    }
}
