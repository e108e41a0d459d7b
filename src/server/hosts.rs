//! Where requests are served: on the threads of the actors, so that a request and the aggregate that it is about often
//! share one, and the way between them is no system call.
//!
//! One task accepts connections and hands them to the threads in turn. A connection stays where it is.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;
use actix_service::{Service, ServiceFactory};
use actix_web::rt;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::Error;
use super::seldom::Seldom;

/// How long to wait after the system had no connection to give, which happens when there are too many open files.
const RETRY_ACCEPT: Duration = Duration::from_millis(500);

/// How long a thread may take to cut off its connections: one that hangs must not keep the engine from its end.
const CUT_OFF: Duration = Duration::from_secs(2);

static UNSERVED: Seldom = Seldom::new();

/// A connection, and its place among those that may be open.
type Accepted = (std::net::TcpStream, OwnedSemaphorePermit);

/// What callers may take up.
pub(super) struct Limits {
    /// Open at a time; others wait to be accepted.
    pub(super) connections: usize,
    /// How long the other end may take nothing of what is written to it.
    pub(super) write_timeout: Duration,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// No more connections, and none is kept for another request.
    Stopping,
    /// None at all.
    CutOff,
}

/// Hears that the server is to stop.
#[derive(Clone)]
pub(super) struct Stopping(watch::Receiver<Stage>);

impl Stopping {
    /// Waits until the server is told to stop.
    pub(super) async fn told(mut self) {
        self.reached(Stage::Stopping).await;
    }

    async fn reached(&mut self, stage: Stage) {
        // The sender is gone only once everything has ended.
        let _ = self.0.wait_for(|at| *at >= stage).await;
    }
}

/// The connections of one listener.
pub(super) struct Hosts {
    stage: watch::Sender<Stage>,
    /// Closed once the last connection is.
    ended: mpsc::Receiver<()>,
}

impl Hosts {
    /// Serves what `listener` accepts on `arbiters`, with what `service` makes on each of them, once it is made on all: one
    /// without would get its share of the connections, too.
    pub(super) async fn serve<F, S>(
        listener: TcpListener,
        arbiters: &[ArbiterHandle],
        limits: Limits,
        service: impl Fn(Stopping) -> F + Clone + Send + 'static,
    ) -> Result<Self, Error>
    where
        F: ServiceFactory<TcpStream, Config = (), Service = S, Future: 'static>,
        S: Service<TcpStream, Future: 'static> + 'static,
    {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stage = watch::Sender::new(Stage::Serving);
        let stopping = Stopping(stage.subscribe());
        let (alive, ended) = mpsc::channel(1);
        let (mut hosts, mut beginnings) = (Vec::new(), Vec::new());
        for arbiter in arbiters {
            let ((sender, accepted), (begun, begins)) = (mpsc::unbounded_channel(), oneshot::channel());
            let (service, stopping, alive) = (service.clone(), stopping.clone(), alive.clone());
            arbiter.spawn_fn(move || {
                let made = service(stopping.clone()).new_service(());
                rt::spawn(async move {
                    let service = made.await;
                    // Nobody waits for it if another thread has failed.
                    let _ = begun.send(service.is_ok());
                    if let Ok(service) = service {
                        host(service, accepted, stopping).await;
                    }
                    drop(alive);
                });
            });
            hosts.push(sender);
            beginnings.push(begins);
        }
        for begins in beginnings {
            match begins.await {
                Ok(true) => {}
                Ok(false) => return Err(Error::NoService("its service cannot be made, and the log says why")),
                Err(_) => return Err(Error::NoService("it has ended")),
            }
        }
        rt::spawn(accept(listener, hosts, limits, stopping));
        Ok(Self { stage, ended })
    }

    /// Waits until the threads have ended, and with them all connections.
    pub(super) async fn ended(&mut self) {
        self.ended.recv().await;
    }

    /// Takes no more connections and waits for those that are open, `patience` at the most: then they are cut off, which
    /// is what false says.
    pub(super) async fn stop(mut self, patience: Duration) -> bool {
        self.stage.send_replace(Stage::Stopping);
        let in_time = tokio::time::timeout(patience, self.ended()).await.is_ok();
        if !in_time {
            self.stage.send_replace(Stage::CutOff);
            if tokio::time::timeout(CUT_OFF, self.ended()).await.is_err() {
                tracing::error!("a thread that serves requests hangs");
            }
        }
        in_time
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    hosts: Vec<mpsc::UnboundedSender<Accepted>>,
    limits: Limits,
    mut stopping: Stopping,
) {
    let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let write_timeout_ms = u32::try_from(limits.write_timeout.as_millis()).unwrap_or(u32::MAX);
    let accepting = async {
        let mut is_refused = false;
        for host in hosts.iter().cycle() {
            // It is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted = loop {
                match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                    Ok(stream) => {
                        is_refused = false;
                        break stream;
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        // Once, not each time: it may go on for as long as others have what is lacking.
                        if !std::mem::replace(&mut is_refused, true) {
                            tracing::warn!(%error, "no connection can be accepted; it is tried again");
                        }
                        tokio::time::sleep(RETRY_ACCEPT).await;
                    }
                }
            };
            // A connection that is gone already has nothing to wait for. Else the system ends it in time, and whoever
            // writes to it hears of that.
            let _ = set_tcp_user_timeout(&accepted, write_timeout_ms);
            // It has begun, and goes on for as long as this does.
            let _ = host.send((accepted, place));
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stopping.reached(Stage::Stopping) => {}
    }
}

/// Whether it was the other end's doing, and the next may be accepted at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(error.kind(), E::ConnectionRefused | E::ConnectionAborted | E::ConnectionReset)
}

/// Serves what is accepted, until that and all connections have ended.
async fn host<S>(service: S, mut accepted: mpsc::UnboundedReceiver<Accepted>, mut stopping: Stopping)
where
    S: Service<TcpStream, Future: 'static>,
{
    let mut open = JoinSet::new();
    let serving = async {
        loop {
            tokio::select! {
                next = accepted.recv() => {
                    let Some((stream, place)) = next else { break };
                    match TcpStream::from_std(stream) {
                        Ok(stream) => {
                            let served = service.call(stream);
                            open.spawn_local(async move {
                                let _ = served.await;
                                drop(place);
                            });
                        }
                        Err(error) => {
                            if let Some(left_out) = UNSERVED.next() {
                                tracing::warn!(%error, left_out, "a connection cannot be served");
                            }
                        }
                    }
                }
                Some(_) = open.join_next() => {}
            }
        }
        while open.join_next().await.is_some() {}
    };
    tokio::select! {
        () = serving => {}
        // What is dropped with this function is cut off.
        () = stopping.reached(Stage::CutOff) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use actix::Arbiter;
    use actix_service::{IntoService as _, fn_factory, fn_service};
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers a byte with the same, until it is told to stop if it cares.
    async fn parrot(mut stream: TcpStream, stopping: Stopping, cares: bool) -> io::Result<()> {
        let mut byte = [0];
        let told = async {
            stopping.told().await;
            if !cares {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(told);
        loop {
            tokio::select! {
                read = stream.read_exact(&mut byte) => read?,
                () = &mut told => return Ok(()),
            };
            stream.write_all(&byte).await?;
        }
    }

    /// Serves two threads' parrots; most of them at a time is counted.
    async fn start(
        arbiters: &[Arbiter],
        connections: usize,
        cares: bool,
        most: &Arc<AtomicUsize>,
    ) -> (SocketAddr, Hosts) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let limits = Limits { connections, write_timeout: Duration::from_secs(60) };
        let (open, most) = (Arc::new(AtomicUsize::new(0)), most.clone());
        let hosts = Hosts::serve(listener, &handles, limits, move |stopping| {
            let (open, most) = (open.clone(), most.clone());
            fn_service(move |stream| {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let (open, stopping) = (open.clone(), stopping.clone());
                async move {
                    // Whoever is gone has said all that there was to say.
                    let _ = parrot(stream, stopping, cares).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, Infallible>(())
                }
            })
        });
        (address, hosts.await.unwrap())
    }

    async fn say(stream: &mut TcpStream, byte: u8) {
        stream.write_all(&[byte]).await.unwrap();
    }

    async fn hear(stream: &mut TcpStream) -> Option<u8> {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok().map(|_| byte[0])
    }

    #[actix_web::test]
    async fn only_so_many_are_served_at_a_time_and_the_others_then() {
        let arbiters = [Arbiter::new(), Arbiter::new()];
        let most = Arc::default();
        let (address, hosts) = start(&arbiters, 2, true, &most).await;
        let mut waiting = Vec::new();
        for byte in 0..10 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            say(&mut stream, byte).await;
            waiting.push((byte, stream));
        }
        for (byte, mut stream) in waiting {
            assert_eq!(hear(&mut stream).await, Some(byte));
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert!(hosts.stop(Duration::from_secs(60)).await);
        assert!(TcpStream::connect(address).await.is_err(), "nobody accepts any more");
    }

    #[actix_web::test]
    async fn a_stop_waits_for_who_comes_to_an_end_and_cuts_off_who_does_not() {
        let arbiters = [Arbiter::new(), Arbiter::new()];
        for cares in [true, false] {
            let (address, hosts) = start(&arbiters, 8, cares, &Arc::default()).await;
            let mut streams = Vec::new();
            for byte in 0..4 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                say(&mut stream, byte).await;
                assert_eq!(hear(&mut stream).await, Some(byte));
                streams.push(stream);
            }
            let patience = if cares { Duration::from_secs(60) } else { Duration::from_millis(1) };
            assert_eq!(hosts.stop(patience).await, cares);
            for stream in &mut streams {
                assert_eq!(hear(stream).await, None, "cares: {cares}");
            }
        }
    }

    #[actix_web::test]
    async fn a_thread_that_hangs_does_not_keep_others_from_the_end() {
        let arbiters = [Arbiter::new()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let limits = Limits { connections: 1, write_timeout: Duration::from_secs(60) };
        let (sender, hangs) = std::sync::mpsc::channel::<()>();
        let (hangs, (begun, mut begins)) = (Arc::new(Mutex::new(hangs)), mpsc::channel(1));
        let handles = [arbiters[0].handle()];
        let hosts = Hosts::serve(listener, &handles, limits, move |_| {
            let (hangs, begun) = (hangs.clone(), begun.clone());
            fn_service(move |_: TcpStream| {
                let (hangs, begun) = (hangs.clone(), begun.clone());
                async move {
                    let _ = begun.try_send(());
                    let _ = hangs.lock().recv();
                    Ok::<_, Infallible>(())
                }
            })
        });
        let hosts = hosts.await.unwrap();
        begins.recv().await.unwrap();
        assert!(!hosts.stop(Duration::from_millis(1)).await);
        drop(sender);
        assert_eq!(hear(&mut stream).await, None);
    }

    #[actix_web::test]
    async fn nothing_is_served_unless_all_threads_can() {
        let arbiters = [Arbiter::new(), Arbiter::new()];
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let made = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { connections: 8, write_timeout: Duration::from_secs(60) };
        let served = Hosts::serve(listener, &handles, limits, move |_| {
            let works = made.fetch_add(1, Ordering::SeqCst) == 0;
            fn_factory(move || async move {
                let nothing = |_: TcpStream| async { Ok::<_, Infallible>(()) };
                works.then(|| nothing.into_service()).ok_or(())
            })
        });
        assert!(matches!(served.await, Err(Error::NoService(why)) if why.starts_with("its service")));
        assert!(TcpStream::connect(address).await.is_err(), "nobody accepts");
        // A thread that has ended cannot, either.
        let ended = Arbiter::new();
        ended.stop();
        let handles = [ended.handle()];
        ended.join().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let limits = Limits { connections: 8, write_timeout: Duration::from_secs(60) };
        let served =
            Hosts::serve(listener, &handles, limits, |_| fn_service(|_: TcpStream| async { Ok::<_, Infallible>(()) }));
        assert!(matches!(served.await, Err(Error::NoService("it has ended"))));
    }
}
