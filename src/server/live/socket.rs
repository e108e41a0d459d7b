//! One WebSocket: what is told goes out, and the other end is asked from time to time whether it is still there.
//!
//! At most one message is on its way. What comes next is fetched only when that is out, so that whoever reads slowly is
//! told less often and not later and later.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_http::ws::{CloseCode, CloseReason, OpCode, Parser, ProtocolError};
use actix_web::web::{Buf as _, BytesMut};
use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_nodelay};
use rustix::net::{Shutdown, shutdown};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Pass;
use super::held::Held;
use super::round::Follower;
use crate::api::Token;
use crate::domain::Rejection;
use crate::engine::TokenChanges;
use crate::error::Error;
use crate::live::seats::SeatUpdate;
use crate::server::App;
use crate::server::bodies::Reader;
use crate::server::config;
use crate::server::flow::Cut;
use crate::server::metrics::LiveMetrics;

/// Bytes that are read at a time.
const READ_BYTES: usize = 1024;
/// Pings of the other end are answered while no more than these bytes wait.
const CONTROL_BYTES_MAX: usize = 512;
/// How long the other end may take to say goodbye.
pub(super) const GOODBYE: Duration = Duration::from_millis(500);
/// The longest head of a frame that is not masked.
const FRAME_HEAD_BYTES: usize = 10;
/// The longest head of one that is.
const CLIENT_HEAD_BYTES_MAX: usize = FRAME_HEAD_BYTES + 4;

/// What is told.
pub(super) enum Source {
    Seats(Box<Follower>),
    Token(Box<TokenChanges>),
}

/// What is to be written: a frame, and how many bytes of it are out.
type Message = (Frame, usize);

impl Source {
    /// What is to be written next. Until then others may write to `io`, and until one has [left](Self::leave) them.
    async fn next(&mut self, io: &Arc<TcpStream>) -> Result<Message, Error> {
        match self {
            Self::Seats(follower) => {
                let (update, written) = follower.next(io).await?;
                Ok((Frame::Seats(update), written))
            }
            Self::Token(changes) => {
                let token = changes.next().await?;
                let text = serde_json::to_string(&TokenMessage { kind: "token", token: &token });
                let text = text.map_err(|error| Error::Internal(error.to_string()))?;
                Ok((Frame::Own(frame(&text)), 0))
            }
        }
    }

    /// From here on nobody else writes to the connection; this is what others have begun.
    fn leave(&mut self) -> Option<Message> {
        match self {
            Self::Seats(follower) => follower.leave().map(|(update, written)| (Frame::Seats(update), written)),
            Self::Token(_) => None,
        }
    }

    /// The other end was heard; it will be asked again before `until`.
    fn alive_until(&mut self, until: Instant) {
        if let Self::Token(changes) = self {
            changes.alive_until(until.into_std());
        }
    }
}

#[derive(Serialize)]
struct TokenMessage<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    token: &'a Token,
}

/// A frame: a head, and a text. Those of servers are not masked, so that the same bytes are good for everybody.
enum Frame {
    Seats(Arc<SeatUpdate>),
    Own(Vec<u8>),
}

impl Frame {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Seats(update) => update.encoded(),
            Self::Own(bytes) => bytes,
        }
    }
}

/// A text as a frame.
pub(super) fn frame(text: &str) -> Vec<u8> {
    let mut bytes = BytesMut::with_capacity(FRAME_HEAD_BYTES + text.len());
    Parser::write_message(&mut bytes, text, OpCode::Text, true, false);
    bytes.into()
}

/// Why a connection ends.
enum End {
    /// It is gone, or is of no more use.
    Gone,
    /// We say why.
    Close(CloseCode, &'static str),
}

const TOO_LARGE: End = End::Close(CloseCode::Size, "the frame is too large");

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A connection.
pub(super) struct Socket {
    io: Arc<TcpStream>,
    /// The beginning of a frame.
    read: BytesMut,
    /// Pings, pongs and a goodbye, which go out between messages.
    control: BytesMut,
    /// What is on its way, and how much of it is out.
    message: Option<Message>,
    /// Since when nothing of it goes out.
    stuck_since: Option<Instant>,
    held: Arc<Held>,
    /// Of it there is something that the other end has not taken, which may be too much for all together.
    unread: Option<Reader>,
    /// Ends the connection in that case.
    cut: Arc<Cut>,
    heard_at: Instant,
    ping_at: Instant,
    limits: config::Live,
    metrics: LiveMetrics,
    closing: watch::Receiver<Option<super::Goodbye>>,
}

impl Socket {
    pub(super) fn new(io: TcpStream, read: BytesMut, app: &App) -> Self {
        let limits = app.settings.live.clone();
        let now = Instant::now();
        // Without them it works as well, only not as well.
        let _ = set_tcp_nodelay(&io, true);
        let _ = set_socket_send_buffer_size(&io, usize::try_from(limits.send_buffer_bytes).unwrap_or(usize::MAX));
        Self {
            io: Arc::new(io),
            read,
            control: BytesMut::new(),
            message: None,
            stuck_since: None,
            held: app.live.held.clone(),
            unread: None,
            cut: Arc::default(),
            heard_at: now,
            ping_at: now + limits.ping_interval.0,
            limits,
            metrics: app.metrics.live.clone(),
            closing: app.live.closing.subscribe(),
        }
    }

    /// Serves until one of the two ends has had enough; from our side, when `pass` is not good any more,
    /// which is seen once a ping is due at the latest.
    pub(super) async fn run(mut self, mut source: Source, pass: Option<Pass>) {
        let end = self.serve(&mut source, pass.as_ref()).await;
        // Before the goodbye: nobody is served any more. What has begun must be finished, or that is not understood.
        self.take(source.leave());
        drop(source);
        if let Err(End::Close(code, why)) = end {
            // It may be gone by now.
            let _ = tokio::time::timeout(GOODBYE, self.say_goodbye(code, why)).await;
        }
    }

    async fn serve(&mut self, source: &mut Source, pass: Option<&Pass>) -> Result<(), End> {
        self.heard(source);
        self.take_frames()?;
        let timer = tokio::time::sleep_until(self.wake_at(pass));
        tokio::pin!(timer);
        let mut closing = self.closing.clone();
        let stopping = closing.wait_for(Option::is_some);
        tokio::pin!(stopping);
        let mut begun = false;
        loop {
            if !self.control.is_empty() {
                self.take(source.leave());
            }
            let drained = self.write()?;
            tokio::select! {
                biased;
                message = source.next(&self.io), if drained => {
                    self.send(message, begun)?;
                    begun = true;
                }
                ready = self.ready(drained) => {
                    ready?;
                    self.read(source)?;
                }
                () = &mut timer => {
                    self.tick(pass)?;
                    timer.as_mut().reset(self.wake_at(pass));
                }
                // The sender goes with the server.
                told = &mut stopping => {
                    let (code, why) = told.ok().and_then(|told| *told).unwrap_or(super::STOPS);
                    return Err(End::Close(code, why));
                }
            }
        }
    }

    /// Waits until something can be read or, unless all is out, written.
    async fn ready(&self, drained: bool) -> io::Result<()> {
        poll_fn(|context| {
            if self.unread.is_some() {
                self.cut.wait(context);
                self.cut.check()?;
            }
            let readable = self.io.poll_read_ready(context)?;
            let writable = if drained { Poll::Pending } else { self.io.poll_write_ready(context)? };
            if readable.is_ready() || writable.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Puts a message on its way. How late the first one is tells nothing.
    fn send(&mut self, message: Result<Message, Error>, observe_staleness: bool) -> Result<(), End> {
        let (frame, written) = message.map_err(|error| match error {
            Error::Rejected(Rejection::NotFound) => End::Close(CloseCode::Normal, "it was deleted"),
            _ => End::Close(CloseCode::Away, "the server stops"),
        })?;
        // What others have begun they have counted.
        if written == 0 {
            self.metrics.sent(frame.bytes());
            if observe_staleness && let Frame::Seats(update) = &frame {
                self.metrics.told(update);
            }
        }
        self.message = Some((frame, written));
        Ok(())
    }

    /// Goes on with what others have begun.
    fn take(&mut self, begun: Option<Message>) {
        self.message = self.message.take().or(begun);
    }

    /// Writes what the connection takes; whether that is all.
    fn write(&mut self) -> io::Result<bool> {
        loop {
            let begun = self.message.as_ref().is_some_and(|(_, written)| *written > 0);
            let is_control = !self.control.is_empty() && !begun;
            let bytes = match &self.message {
                _ if is_control => &self.control[..],
                Some((frame, written)) => &frame.bytes()[*written..],
                None => return Ok(true),
            };
            let written = match self.io.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    if self.message.is_some() && self.unread.is_none() {
                        // Not the last one: it may have come when all was taken after all.
                        self.cut = Arc::default();
                        self.unread = Some(self.held.stuck(&self.cut));
                    }
                    return Ok(false);
                }
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                written => written?,
            };
            self.stuck_since = None;
            self.unread.iter().for_each(Reader::goes_on);
            match &mut self.message {
                Some((frame, out)) if !is_control => {
                    *out += written;
                    if *out == frame.bytes().len() {
                        (self.message, self.unread) = (None, None);
                    }
                }
                _ => {
                    self.control.advance(written);
                    if self.control.is_empty() {
                        // Whoever pings seldom does not need to keep room for it.
                        self.control = BytesMut::new();
                    }
                }
            }
        }
    }

    /// Reads some of what has come, and not on and on: somebody who never stops sending must not keep this thread.
    fn read(&mut self, source: &mut Source) -> Result<(), End> {
        let mut bytes = [0; READ_BYTES];
        match self.io.try_read(&mut bytes) {
            Ok(0) => Err(End::Gone),
            Ok(read) => {
                self.read.extend_from_slice(&bytes[..read]);
                self.heard(source);
                self.take_frames()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The other end is there, and will be asked again before long.
    fn heard(&mut self, source: &mut Source) {
        self.heard_at = Instant::now();
        source.alive_until(self.heard_at + 2 * self.limits.ping_interval.0);
    }

    fn take_frames(&mut self) -> Result<(), End> {
        let bytes_max = usize::try_from(self.limits.client_frame_bytes).unwrap_or(usize::MAX);
        take_frames(&mut self.read, &mut self.control, bytes_max)
    }

    fn wake_at(&self, pass: Option<&Pass>) -> Instant {
        let wake_at = self.ping_at.min(self.silent_at());
        pass.map_or(wake_at, |pass| wake_at.min(Instant::from_std(pass.until())))
    }

    /// When it has been silent for too long: it says nothing, or takes nothing, which those may do who say a lot.
    fn silent_at(&self) -> Instant {
        let since = self.stuck_since.map_or(self.heard_at, |stuck_since| stuck_since.min(self.heard_at));
        since + self.limits.silence_timeout.0
    }

    /// Does what is due.
    fn tick(&mut self, pass: Option<&Pass>) -> Result<(), End> {
        let now = Instant::now();
        if pass.is_some_and(|pass| !pass.is_good()) {
            return Err(End::Close(CloseCode::Policy, "the token of the user has expired"));
        }
        if now >= self.silent_at() {
            return Err(End::Close(CloseCode::Away, "nothing was heard, or taken"));
        }
        if now >= self.ping_at {
            self.ping_at = now + self.limits.ping_interval.0;
            if self.control.is_empty() {
                Parser::write_message(&mut self.control, "", OpCode::Ping, true, false);
            }
        }
        Ok(())
    }

    /// Says why it ends, and waits until the other end has heard.
    async fn say_goodbye(&mut self, code: CloseCode, why: &'static str) -> io::Result<()> {
        self.message.take_if(|(_, written)| *written == 0);
        let description = Some(why.to_owned()).filter(|why| !why.is_empty());
        Parser::write_close(&mut self.control, Some(CloseReason { code, description }), false);
        while !self.write()? {
            self.io.writable().await?;
        }
        shutdown(&self.io, Shutdown::Write)?;
        let mut bytes = [0; READ_BYTES];
        loop {
            self.io.readable().await?;
            match self.io.try_read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Takes the frames that have been read, whose payload has at most `bytes_max` bytes: only those about the connection itself
/// mean something.
fn take_frames(read: &mut BytesMut, control: &mut BytesMut, bytes_max: usize) -> Result<(), End> {
    while !read.is_empty() {
        let frame = Parser::parse(read, true, bytes_max).map_err(|error| match error {
            ProtocolError::Overflow => TOO_LARGE,
            _ => End::Close(CloseCode::Protocol, "this is not the WebSocket protocol"),
        })?;
        let Some((_, opcode, payload)) = frame else {
            // The parser waits for all of a frame before it says that it is too large.
            let is_too_large = read.len() > bytes_max.saturating_add(CLIENT_HEAD_BYTES_MAX);
            return if is_too_large { Err(TOO_LARGE) } else { Ok(()) };
        };
        match opcode {
            OpCode::Ping if control.len() < CONTROL_BYTES_MAX => {
                let payload = payload.unwrap_or_default();
                Parser::write_message(control, payload, OpCode::Pong, true, false);
            }
            OpCode::Close => return Err(End::Close(CloseCode::Normal, "")),
            OpCode::Bad => return Err(End::Close(CloseCode::Protocol, "there is no such frame")),
            OpCode::Ping | OpCode::Pong | OpCode::Text | OpCode::Binary | OpCode::Continue => {}
        }
    }
    *read = BytesMut::new();
    Ok(())
}

/// What comes of what a client sends, in pieces of at most `piece` bytes: the answers, and why the connection ends if it
/// does.
///
/// # Panics
/// More is kept than may be.
#[cfg(any(test, feature = "testing"))]
pub(in crate::server) fn hear(sent: &[u8], piece: usize, bytes_max: usize) -> (Vec<u8>, Option<(u16, &'static str)>) {
    let (mut read, mut control) = (BytesMut::new(), BytesMut::new());
    let mut end = None;
    for piece in sent.chunks(piece) {
        read.extend_from_slice(piece);
        if let Err(why) = take_frames(&mut read, &mut control, bytes_max) {
            end = Some(match why {
                End::Gone => (0, "gone"),
                End::Close(code, why) => (code.into(), why),
            });
            break;
        }
        assert!(read.len() <= bytes_max + CLIENT_HEAD_BYTES_MAX, "{} bytes are kept", read.len());
    }
    assert!(control.len() < CONTROL_BYTES_MAX + bytes_max + FRAME_HEAD_BYTES, "{} bytes are answered", control.len());
    (control.into(), end)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::engine::Engine;
    use crate::server::config::Settings;

    #[actix_web::test]
    async fn who_has_taken_all_after_all_is_not_cut_off_for_it_later() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        let engine = Engine::open(settings.engine()).await.unwrap();
        let app = App::new(engine.clone(), settings).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut other = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut socket = Socket::new(listener.accept().await.unwrap().0, BytesMut::new(), &app);
        let bytes = 16 << 20;
        socket.message = Some((Frame::Own(vec![0; bytes]), 0));
        assert!(!socket.write().unwrap() && socket.unread.is_some());
        let reading = std::thread::spawn(move || {
            other.read_exact(&mut vec![0; bytes]).unwrap();
            other
        });
        // Somebody on another thread gives it up, while it reads on.
        let cut = socket.cut.clone();
        while !socket.write().unwrap() {
            cut.cut();
            socket.io.writable().await.unwrap();
        }
        let other = reading.join().unwrap();
        // It is stuck once more, only just now.
        socket.message = Some((Frame::Own(vec![0; bytes]), 0));
        while socket.write().unwrap() {}
        assert!(socket.unread.is_some() && !matches!(socket.ready(false).now_or_never(), Some(Err(_))));
        // But who is given up now is.
        socket.cut.cut();
        assert!(matches!(socket.ready(false).now_or_never(), Some(Err(_))));
        drop((socket, other));
        engine.shutdown().await.unwrap();
    }
}
