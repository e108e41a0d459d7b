//! A connection, as actix sees it: one that takes no more requests from somebody than answers go out.
//!
//! actix reads up to 128 KiB ahead, makes requests of all of it at once, some five thousand where they are short, and
//! goes on reading while nobody takes the answers. This gives it the requests of somebody who sends many at once one by one,
//! and none while an answer is stuck or one without a body is being worked on.
//!
//! It can also be cut off from elsewhere, which no body can do: actix does not ask for more of it while it is stuck.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What ends the head of a request.
const HEAD_END: &[u8] = b"\r\n\r\n";

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

    fn wait(&self, context: &Context<'_>) {
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    fn check(&self) -> io::Result<()> {
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
    /// Who was not given more to read, and is to try again.
    denied: RefCell<Option<Waker>>,
}

impl Line {
    /// What ends the connection.
    #[must_use]
    pub fn cut(&self) -> &Arc<Cut> {
        &self.cut
    }

    /// A request without a body is being worked on, for as long as there is what this gives.
    #[must_use]
    pub fn work(self: &Rc<Self>) -> Work {
        self.busy.set(self.busy.get() + 1);
        Work(self.clone())
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

/// A request is being worked on.
#[derive(Debug)]
pub struct Work(Rc<Line>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
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
}

impl Flow {
    /// Around a connection of its own.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, line: Rc::default(), held: Vec::new(), given: 0, pausing: false }
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

    /// Gives some of what is held: up to the end of a head, if there is another one.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let held = &self.held[self.given..];
        let held = &held[..held.len().min(buf.remaining())];
        let some = &held[..first_of(held).unwrap_or(held.len())];
        buf.put_slice(some);
        self.given += some.len();
        if self.given == self.held.len() {
            (self.held, self.given) = (Vec::new(), 0);
        }
        self.pausing = true;
    }
}

/// Where the first head ends, if there is more than one.
fn first_of(bytes: &[u8]) -> Option<usize> {
    let mut ends = memchr::memmem::find_iter(bytes, HEAD_END);
    let first = ends.next()?;
    ends.next().map(|_| first + HEAD_END.len())
}

impl AsyncRead for Flow {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.line.cut.check()?;
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
        let given = if is_ready || new.is_empty() { first_of(new).unwrap_or(new.len()) } else { 0 };
        if given < new.len() {
            this.held.extend_from_slice(&new[given..]);
            buf.set_filled(before + given);
            if given == 0 {
                this.line.deny(context);
                return Poll::Pending;
            }
            this.pausing = true;
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

    async fn connected() -> (TcpStream, Flow) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, Flow::new(listener.accept().await.unwrap().0))
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
        let work = line.work();
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

    #[tokio::test]
    async fn what_comes_while_a_request_is_worked_on_is_given_afterwards() {
        let (mut client, mut flow) = connected().await;
        let line = flow.line().clone();
        let work = line.work();
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
        let work = line.work();
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
