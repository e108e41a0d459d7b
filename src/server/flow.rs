//! A connection, as actix sees it: one that takes no more requests from somebody than answers go out.
//!
//! actix reads up to 128 KiB ahead, makes requests of all of it at once, some five thousand where they are short, and
//! goes on reading while nobody takes the answers. This gives it the requests of somebody who sends many at once one by one,
//! and none while an answer is stuck or one without a body is being worked on.
//!
//! actix has a time for the first head only. Here each further one has as long from its first byte, unless an answer is being
//! read meanwhile.
//!
//! It can also be cut off from elsewhere, which no body can do: actix does not ask for more of it while it is stuck.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// The least that is given of a body, which may look like many heads.
const BODY_BYTES_MIN: usize = 1_024;

/// Ends a connection, from any thread.
#[derive(Debug, Default)]
pub struct Cut {
    is_cut: AtomicBool,
    /// Of whoever waits for the connection.
    waker: Mutex<Option<Waker>>,
}

impl Cut {
    /// Whether it has been done.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Has the connection dropped as soon as its thread gets to it. Whether it was not before.
    pub fn cut(&self) -> bool {
        let first = !self.is_cut.swap(true, Ordering::AcqRel);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
        first
    }

    /// Has the task of `context` woken when it is done.
    pub(super) fn wait(&self, context: &Context<'_>) {
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    /// Fails once it has been done.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_cut() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// What those know of a connection who answer its requests.
#[derive(Debug, Default)]
pub struct Line {
    cut: Arc<Cut>,
    /// Something was written of which the system has not taken all.
    stuck: Cell<bool>,
    /// Requests without a body that are being worked on.
    busy: Cell<usize>,
    /// Those with one.
    uploading: Cell<usize>,
    /// Whether one of either kind has begun since this was looked at last.
    has_begun: Cell<bool>,
    /// Who was not given more to read, and is to try again.
    denied: RefCell<Option<Waker>>,
}

impl Line {
    /// What ends the connection.
    #[must_use]
    pub fn cut(&self) -> &Arc<Cut> {
        &self.cut
    }

    /// A request is being worked on, for as long as there is what this gives.
    #[must_use]
    pub fn work(self: &Rc<Self>, body: Body) -> Work {
        let work = Work(self.clone(), body);
        work.count().set(work.count().get() + 1);
        self.has_begun.set(true);
        work
    }

    fn is_ready(&self) -> bool {
        !self.stuck.get() && self.busy.get() == 0
    }

    fn deny(&self, context: &Context<'_>) {
        *self.denied.borrow_mut() = Some(context.waker().clone());
        self.cut.wait(context);
    }

    /// Has whoever was denied something try again, if there is no more reason for it.
    fn resume(&self) {
        if self.is_ready()
            && let Some(waker) = self.denied.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// Whether a request has a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// It has none.
    None,
    /// It follows the head.
    Follows,
}

/// A request is being worked on.
#[derive(Debug)]
pub struct Work(Rc<Line>, Body);

impl Work {
    fn count(&self) -> &Cell<usize> {
        match self.1 {
            Body::None => &self.0.busy,
            Body::Follows => &self.0.uploading,
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.count().set(self.count().get() - 1);
        self.0.resume();
    }
}

/// A connection.
#[derive(Debug)]
pub struct Flow {
    stream: TcpStream,
    line: Rc<Line>,
    /// What has been read and not been given, from `given` on.
    held: Vec<u8>,
    given: usize,
    /// Enough was given for now.
    pausing: bool,
    /// How long a head may take, after the first.
    head_timeout: Duration,
    /// Whether there was a first.
    has_served: bool,
    /// When the head that has begun must be there.
    head: Option<Pin<Box<Sleep>>>,
}

impl Flow {
    /// Around a connection of its own.
    #[must_use]
    pub fn new(stream: TcpStream, head_timeout: Duration) -> Self {
        let (line, held) = (Rc::default(), Vec::new());
        Self { stream, line, held, given: 0, pausing: false, head_timeout, has_served: false, head: None }
    }

    /// What those know of it who answer its requests.
    #[must_use]
    pub fn line(&self) -> &Rc<Line> {
        &self.line
    }

    /// The connection, and what was read and not given to anybody.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.held[self.given..].to_vec())
    }

    /// How much of `bytes` is enough for now: up to the end of a head, if there is another one.
    fn enough(&self, bytes: &[u8]) -> usize {
        let least = if self.line.uploading.get() > 0 { BODY_BYTES_MIN } else { 0 };
        first_of(bytes).map_or(bytes.len(), |end| end.max(least).min(bytes.len()))
    }

    /// Whether a head takes too long.
    fn check_head(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.line.has_begun.take() {
            (self.has_served, self.head) = (true, None);
        }
        let is_late = self.head.as_mut().is_some_and(|head| head.as_mut().poll(context).is_ready());
        if is_late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Something was given: unless it is of a body, a head has begun.
    fn gave(&mut self) {
        let is_worked_on = self.line.busy.get() + self.line.uploading.get() > 0;
        if self.has_served && !is_worked_on && self.head.is_none() {
            self.head = Some(Box::pin(sleep(self.head_timeout)));
        }
    }

    /// Gives some of what is held: up to the end of a head, if there is another one.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let held = &self.held[self.given..];
        let held = &held[..held.len().min(buf.remaining())];
        let some = &held[..self.enough(held)];
        buf.put_slice(some);
        self.given += some.len();
        if self.given == self.held.len() {
            (self.held, self.given) = (Vec::new(), 0);
        }
        self.pausing = true;
        self.gave();
    }
}

/// Where the first head ends, if there is more than one.
fn first_of(bytes: &[u8]) -> Option<usize> {
    let first = head_end(bytes)?;
    head_end(&bytes[first..]).map(|_| first)
}

/// Where a head ends: with an empty line. Lines end with LF, with or without CR; empty ones before it are not of it.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    memchr::memchr_iter(b'\n', &bytes[begin..]).find_map(|at| {
        let next = begin + at + 1;
        match &bytes[next..] {
            [b'\n', ..] => Some(next + 1),
            [b'\r', b'\n', ..] => Some(next + 2),
            _ => None,
        }
    })
}

impl AsyncRead for Flow {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.line.cut.check()?;
        this.check_head(context)?;
        if std::mem::take(&mut this.pausing) {
            // What was given is looked at first.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let is_ready = this.line.is_ready();
        if !this.held.is_empty() {
            if is_ready {
                this.give(buf);
                return Poll::Ready(Ok(()));
            }
            this.line.deny(context);
            return Poll::Pending;
        }
        if this.line.stuck.get() {
            this.line.deny(context);
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buf) else {
            this.line.cut.wait(context);
            return Poll::Pending;
        };
        read?;
        let new = &buf.filled()[before..];
        // While something is being worked on this is done to hear of the end, which is passed on at once.
        let given = if is_ready || new.is_empty() { this.enough(new) } else { 0 };
        if given < new.len() {
            this.held.extend_from_slice(&new[given..]);
            buf.set_filled(before + given);
            if given == 0 {
                this.line.deny(context);
                return Poll::Pending;
            }
            this.pausing = true;
        }
        if given > 0 {
            this.gave();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flow {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.line.cut.check()?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if self.line.stuck.replace(written.is_pending()) != written.is_pending() {
            self.line.resume();
        }
        if written.is_pending() {
            self.line.cut.wait(context);
        } else {
            let deadline = Instant::now() + self.head_timeout;
            self.head.iter_mut().for_each(|head| head.as_mut().reset(deadline));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const HEAD_TIMEOUT: Duration = Duration::from_millis(200);

    async fn connected() -> (TcpStream, Flow) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, Flow::new(listener.accept().await.unwrap().0, HEAD_TIMEOUT))
    }

    async fn read(flow: &mut Flow) -> String {
        let mut bytes = [0; 1_024];
        let read = flow.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    /// Until all that was sent can be read.
    async fn arrived(flow: &Flow, bytes: usize) {
        while flow.stream.peek(&mut [0; 1_024]).await.unwrap() < bytes {}
    }

    #[tokio::test]
    async fn requests_are_given_one_by_one_and_none_while_one_is_worked_on() {
        let (mut client, mut flow) = connected().await;
        let sent = "GET /1\r\n\r\nPOST /2\r\n\r\nbodyGET /3\r\n\r\nGET /4\r\n\r\n";
        client.write_all(sent.as_bytes()).await.unwrap();
        arrived(&flow, sent.len()).await;
        assert_eq!(read(&mut flow).await, "GET /1\r\n\r\n");
        let line = flow.line().clone();
        let work = line.work(Body::None);
        for _ in 0..3 {
            assert!(read(&mut flow).now_or_never().is_none());
        }
        drop(work);
        assert_eq!(read(&mut flow).await, "POST /2\r\n\r\n");
        assert_eq!(read(&mut flow).await, "bodyGET /3\r\n\r\n");
        // Whoever takes the connection over takes the rest as well.
        let (_, rest) = flow.into_parts();
        assert_eq!(rest, b"GET /4\r\n\r\n");
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        for (bytes, first) in [
            ("GET / HTTP/1.1\r\n\r\nGET", None),
            ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some(18)),
            ("GET /\n\nGET /\n\n", Some(7)),
            ("GET /\n\r\nGET /\r\n\nGET", Some(8)),
            ("\r\n\n\r\nGET /\n\n\n\nGET /\n\n", Some(12)),
            ("GET /\r\r\n\rGET /\n", None),
            ("\r\n\r\n\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(first_of(bytes.as_bytes()), first, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_looks_like_heads_comes_in_pieces_of_a_size() {
        let (mut client, mut flow) = connected().await;
        let body = "x\n\n".repeat(1_000);
        client.write_all(body.as_bytes()).await.unwrap();
        arrived(&flow, 1_024).await;
        let line = flow.line().clone();
        let _work = line.work(Body::Follows);
        let mut given = 0;
        while given < body.len() {
            let some = read(&mut flow).await.len();
            assert!(some >= 1_024 || given + some == body.len(), "{some}");
            given += some;
        }
    }

    #[tokio::test]
    async fn whoever_begins_another_head_and_does_not_go_on_is_cut_off() {
        for is_answered in [false, true] {
            let (mut client, mut flow) = connected().await;
            let line = flow.line().clone();
            drop(line.work(Body::None));
            client.write_all(b"G").await.unwrap();
            assert_eq!(read(&mut flow).await, "G");
            let reading = async { flow.read(&mut [0]).await.unwrap_err().kind() };
            if is_answered {
                // A request begins after all: there is all the time for it.
                let work = line.work(Body::None);
                assert!(tokio::time::timeout(3 * HEAD_TIMEOUT, reading).await.is_err());
                drop(work);
            } else {
                assert_eq!(reading.await, io::ErrorKind::TimedOut);
            }
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_request_is_worked_on_is_given_afterwards() {
        let (mut client, mut flow) = connected().await;
        let line = flow.line().clone();
        let work = line.work(Body::None);
        client.write_all(b"GET /1\r\n\r\n").await.unwrap();
        arrived(&flow, 10).await;
        assert!(read(&mut flow).now_or_never().is_none());
        // It hears of that although it was denied something before.
        {
            let reading = read(&mut flow);
            tokio::pin!(reading);
            assert!(futures_util::poll!(&mut reading).is_pending());
            drop(work);
            assert_eq!(reading.await, "GET /1\r\n\r\n");
        }
        let work = line.work(Body::None);
        drop(client);
        assert_eq!(read(&mut flow).await, "", "the end is heard of at once");
        drop(work);
    }

    #[tokio::test]
    async fn nothing_is_taken_from_who_takes_nothing() {
        let (mut client, mut flow) = connected().await;
        let mut written = 0;
        while let Some(wrote) = flow.write(&[0; 65_536]).now_or_never() {
            written += wrote.unwrap();
        }
        client.write_all(b"GET /1\r\n\r\n").await.unwrap();
        arrived(&flow, 10).await;
        assert!(read(&mut flow).now_or_never().is_none());
        let mut taken = vec![0; written];
        client.read_exact(&mut taken).await.unwrap();
        flow.write_all(b"x").await.unwrap();
        assert_eq!(read(&mut flow).await, "GET /1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_connection_that_waits_can_be_cut_off() {
        for waits_to_write in [false, true] {
            let (_client, mut flow) = connected().await;
            let cut = flow.line().cut().clone();
            let waiting = async {
                if !waits_to_write {
                    return flow.read(&mut [0]).await;
                }
                loop {
                    flow.write_all(&[0; 65_536]).await?;
                }
            };
            let cutting = async {
                while cut.waker.lock().is_none() {
                    tokio::task::yield_now().await;
                }
                assert!(cut.cut() && !cut.cut());
            };
            let (waited, ()) = tokio::join!(waiting, cutting);
            assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }
}
