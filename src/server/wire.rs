//! Connections, on which what actix finds by itself is answered as all else is.
//!
//! What is no HTTP never gets to the application: actix answers it with a status and nothing else, writes a line of ERROR,
//! and hangs up, which takes the answer back if there was more to be read. None of that can be configured. But those
//! answers are told from all others: the application's have an id, and these have three headers, always the same, and
//! are the last thing that is written. So a connection looks at what is written to it; in place of such an answer it
//! writes a problem, waits a moment for the other end to have it, and is gone, before actix has complained.
//!
//! The other ways were: to parse each head a second time beforehand, or to write a dispatcher.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use actix_web::body::{BodySize, BoxBody, MessageBody as _};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use super::flow::{Flow, Line};
use super::{App, observe};

/// How long somebody may take to read why they were refused.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of what they still say is thrown away at a time.
const REST_BYTES: usize = 4_096;
/// The longest of actix's own answers is shorter.
const BARE_BYTES_MAX: usize = 256;

/// A connection.
pub(super) struct Wire {
    app: web::Data<App>,
    line: Rc<Line>,
    state: State,
    /// Whether anything was written.
    has_begun: bool,
}

enum State {
    Open(Flow),
    /// The last answer is on its way.
    Ending(Pin<Box<dyn Future<Output = ()>>>),
}

impl Wire {
    pub(super) fn new(io: TcpStream, app: web::Data<App>) -> Self {
        let flow = Flow::new(io, app.settings.http.request_timeout.0);
        Self { app, line: flow.line().clone(), state: State::Open(flow), has_begun: false }
    }

    /// What those know of it who answer its requests.
    pub(super) fn line(&self) -> &Rc<Line> {
        &self.line
    }

    /// The connection itself and what was read of it, for who takes it over.
    ///
    /// # Errors
    /// It is being ended.
    pub(super) fn into_parts(self) -> io::Result<(TcpStream, Vec<u8>)> {
        match self.state {
            State::Open(flow) => Ok(flow.into_parts()),
            State::Ending(_) => Err(ended()),
        }
    }

    /// Writes the last answer in place of actix's, unless there was one already.
    fn end(&mut self, bare: &Bare) {
        let placeholder = State::Ending(Box::pin(std::future::ready(())));
        let State::Open(flow) = std::mem::replace(&mut self.state, placeholder) else { return };
        let (mut io, _) = flow.into_parts();
        let response = (!bare.follows_last || !self.has_begun).then(|| observe::unreadable(&self.app, bare.status));
        self.state = State::Ending(Box::pin(async move {
            match response {
                Some(response) => answer(&mut io, Vec::new(), response, true).await,
                None => hang_up(&mut io).await,
            }
        }));
    }
}

fn ended() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(io) => Pin::new(io).poll_read(context, buf),
            State::Ending(_) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let State::Open(io) = &mut this.state {
            let bare = Bare::at_the_end_of(buf);
            // It is not begun before all that comes before it is out.
            let before = bare.as_ref().map_or(buf.len(), |bare| bare.begin);
            if let Some(bare) = bare.filter(|bare| bare.begin == 0) {
                this.end(&bare);
            } else {
                this.has_begun = true;
                return Pin::new(io).poll_write(context, &buf[..before]);
            }
        }
        match &mut this.state {
            // That it fails ends the dispatcher, without a line in the log.
            State::Ending(ending) => ending.as_mut().poll(context).map(|()| Err(ended())),
            State::Open(_) => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(io) => Pin::new(io).poll_flush(context),
            State::Ending(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(io) => Pin::new(io).poll_shutdown(context),
            State::Ending(_) => Poll::Ready(Ok(())),
        }
    }
}

/// An answer of actix's own.
#[derive(Debug, PartialEq, Eq)]
struct Bare {
    /// Where it begins.
    begin: usize,
    status: StatusCode,
    /// Whether the answer before it, if there is one, was said to be the last.
    follows_last: bool,
}

impl Bare {
    /// Finds one. It is written at once, so it is there as a whole or not at all.
    fn at_the_end_of(bytes: &[u8]) -> Option<Self> {
        if !bytes.ends_with(b"\r\n\r\n") {
            return None;
        }
        let tail = &bytes[bytes.len().saturating_sub(BARE_BYTES_MAX)..];
        let begin = tail.windows(7).rposition(|seven| seven == b"HTTP/1.")?;
        let mut lines = std::str::from_utf8(&tail[begin..tail.len() - 4]).ok()?.split("\r\n");
        let (version, status) = lines.next()?.split_once(' ')?;
        let status = status.split(' ').next()?.parse().ok()?;
        if lines.next() != Some("content-length: 0") {
            return None;
        }
        let mut last = lines.next()?;
        let connection = last.strip_prefix("connection: ");
        if connection.is_some() {
            last = lines.next()?;
        }
        if !last.starts_with("date: ") || lines.next().is_some() {
            return None;
        }
        // What actix says of the connection is what it said in the answer before, if there was one. It says only what is
        // not usual in the version.
        let follows_last = connection.map_or(version == "HTTP/1.0", |connection| connection == "close");
        Some(Self { begin: bytes.len() - tail.len() + begin, status: StatusCode::from_u16(status).ok()?, follows_last })
    }
}

/// Writes the last answer on a connection, after what is in `out`, and hangs up once the other end has it.
pub(super) async fn answer(io: &mut TcpStream, mut out: Vec<u8>, response: HttpResponse<BoxBody>, has_body: bool) {
    let (response, mut body) = response.into_parts();
    let bytes = if let BodySize::Sized(bytes) = body.size() { bytes } else { 0 };
    out.extend(head(&response, Some(bytes)));
    // A slice at a time: whoever does not read it has no copy of the whole.
    while has_body && let Some(Ok(slice)) = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await {
        out.extend(&slice);
        if !write(io, &out).await {
            return;
        }
        out.clear();
    }
    if write(io, &out).await {
        hang_up(io).await;
    }
}

/// Writes a little; whether that was taken. Whoever does not read it is nobody's loss.
async fn write(io: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(tokio::time::timeout(PATIENCE, io.write_all(bytes)).await, Ok(Ok(())))
}

/// Says that nothing more comes, and waits a moment for the other end to say the same: to close at once could take the
/// answer back, if there is something left to be read.
async fn hang_up(io: &mut TcpStream) {
    let waiting = async {
        io.shutdown().await?;
        let mut rest = [0; REST_BYTES];
        while io.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(PATIENCE, waiting).await;
}

/// The head of an answer, with a body of so many bytes if it is not one that switches protocols.
pub(super) fn head<B>(response: &HttpResponse<B>, body: Option<u64>) -> Vec<u8> {
    let status = response.status();
    let connection = match body {
        Some(bytes) => format!("content-length: {bytes}\r\nconnection: close"),
        None => "connection: upgrade\r\nupgrade: websocket".into(),
    };
    let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or_default());
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut head = format!("HTTP/1.1 {code} {reason}\r\n{connection}\r\ndate: {date}\r\n").into_bytes();
    for (name, value) in response.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actix_own_answers_are_told_from_all_others() {
        const DATE: &str = "date: Sun, 29 Nov 2026 08:48:58 GMT\r\n";
        let bare = |status, follows_last| Some((status, follows_last));
        for (head, expected) in [
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n", bare(400, true)),
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n", bare(400, false)),
            ("HTTP/1.0 400 Bad Request\r\ncontent-length: 0\r\n", bare(400, true)),
            ("HTTP/1.0 400 Bad Request\r\ncontent-length: 0\r\nconnection: keep-alive\r\n", bare(400, false)),
            ("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n", bare(408, true)),
            (
                "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n",
                bare(431, true),
            ),
            // What the application answers has an id, and most of it a body.
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-request-id: 7\r\n", None),
            ("HTTP/1.1 204 No Content\r\n", None),
            ("HTTP/1.1 304 Not Modified\r\nconnection: close\r\nx-request-id: 7\r\n", None),
            ("HTTP/1.1 100 Continue\r\n", None),
            ("", None),
        ] {
            for before in ["", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", &"x".repeat(1_000)] {
                let bytes = format!("{before}{head}{DATE}\r\n");
                let found = Bare::at_the_end_of(bytes.as_bytes());
                let found = found.map(|bare| {
                    assert_eq!(bare.begin, before.len(), "{head}");
                    (bare.status.as_u16(), bare.follows_last)
                });
                assert_eq!(found, expected, "{head}");
                assert_eq!(Bare::at_the_end_of(format!("{bytes}{{}}").as_bytes()), None, "{head}");
            }
        }
        assert_eq!(Bare::at_the_end_of(b"\r\n\r\n"), None);
        assert_eq!(Bare::at_the_end_of(b""), None);
    }
}
