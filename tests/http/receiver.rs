//! A receiver of webhooks that answers as it is told, over plain sockets or TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How long anything is waited for before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Delivered {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What to say to it.
#[derive(Debug, Clone)]
pub enum Say {
    /// This status, with these further lines of the head, and this body.
    Status(u16, &'static str, &'static str),
    /// That it is fine, after so long.
    Late(Duration),
    /// This status, and a body that never ends.
    Endless(u16),
}

pub const FINE: Say = Say::Status(200, "", "");
pub const BROKEN: Say = Say::Status(500, "", "broken");

type Answer = dyn Fn(&Delivered) -> Say + Send + Sync;

/// A receiver on a port of its own, for as long as the test's runtime lives.
pub struct Receiver {
    pub address: SocketAddr,
    scheme: &'static str,
    answer: Arc<Mutex<Arc<Answer>>>,
    delivered: watch::Receiver<Vec<Delivered>>,
    connections: watch::Receiver<usize>,
    hung_up: watch::Receiver<usize>,
}

impl Receiver {
    pub async fn start(answer: impl Fn(&Delivered) -> Say + Send + Sync + 'static) -> Self {
        Self::run(answer, true, None).await
    }

    /// One that does not keep what it got: for more than fits into memory.
    pub async fn forgetful(answer: impl Fn(&Delivered) -> Say + Send + Sync + 'static) -> Self {
        Self::run(answer, false, None).await
    }

    /// One behind TLS.
    pub async fn secure(tls: TlsAcceptor) -> Self {
        Self::run(|_| FINE, true, Some(tls)).await
    }

    async fn run(
        answer: impl Fn(&Delivered) -> Say + Send + Sync + 'static,
        keeps: bool,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Mutex<Arc<Answer>>> = Arc::new(Mutex::new(Arc::new(answer)));
        let (delivered, sees) = watch::channel(Vec::new());
        let (connections, counted) = watch::channel(0);
        let (hung_up, ended) = watch::channel(0);
        let answers = answer.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.send_modify(|count| *count += 1);
                let (answers, delivered, hung_up) = (answers.clone(), delivered.clone(), hung_up.clone());
                let tls = tls.clone();
                tokio::spawn(async move {
                    let keep = keeps.then_some(&delivered);
                    // It ends with an error when the other side hangs up, or does not trust it.
                    let _ = match tls {
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &answers, keep).await,
                            Err(error) => Err(error),
                        },
                        None => serve(stream, &answers, keep).await,
                    };
                    hung_up.send_modify(|count| *count += 1);
                });
            }
        });
        Self { address, scheme, answer, delivered: sees, connections: counted, hung_up: ended }
    }

    pub fn url(&self) -> String {
        format!("{}://{}/hook", self.scheme, self.address)
    }

    /// Answers in another way from now on.
    pub fn change(&self, answer: impl Fn(&Delivered) -> Say + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    pub fn delivered(&self) -> Vec<Delivered> {
        self.delivered.borrow().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until so many requests have come.
    pub async fn wait_for(&self, count: usize) -> Vec<Delivered> {
        let mut delivered = self.delivered.clone();
        let waiting = delivered.wait_for(|delivered| delivered.len() >= count);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(delivered) => delivered.unwrap().clone(),
            Err(_) => panic!("{} of {count} came: {:?}", self.delivered().len(), self.delivered()),
        }
    }

    /// Waits until so many connections have ended.
    pub async fn wait_for_ends(&self, count: usize) {
        let mut hung_up = self.hung_up.clone();
        tokio::time::timeout(PATIENCE, hung_up.wait_for(|ended| *ended >= count)).await.unwrap().unwrap();
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &Mutex<Arc<Answer>>,
    delivered: Option<&watch::Sender<Vec<Delivered>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let request = read(&mut stream).await?;
        let answer = answers.lock().unwrap().clone();
        let say = answer(&request);
        if let Some(delivered) = delivered {
            delivered.send_modify(|all| all.push(request));
        }
        match say {
            Say::Status(status, head, body) => {
                let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n{head}\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await?;
            }
            Say::Late(by) => {
                tokio::time::sleep(by).await;
                stream.write_all(b"HTTP/1.1 200 Said\r\ncontent-length: 0\r\n\r\n").await?;
            }
            Say::Endless(status) => {
                stream
                    .write_all(format!("HTTP/1.1 {status} Said\r\ncontent-length: 999999999999\r\n\r\n").as_bytes())
                    .await?;
                loop {
                    stream.write_all(&[b'x'; 1 << 16]).await?;
                }
            }
        }
    }
}

async fn read(stream: &mut BufReader<impl AsyncRead + Unpin>) -> std::io::Result<Delivered> {
    let mut headers = HeaderMap::new();
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let path = line.strip_prefix("POST ").and_then(|line| line.strip_suffix(" HTTP/1.1\r\n"));
    let path = path.unwrap_or_else(|| panic!("{line} is no POST")).to_owned();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let mut body = vec![0; headers["content-length"].to_str().unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await?;
    Ok(Delivered { path, headers, body })
}

/// Asks again and again until the answer is as it is wanted, and gives it.
pub async fn until(mut ask: impl AsyncFnMut() -> Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "it stays {answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
