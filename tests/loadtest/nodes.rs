//! Several nodes, some of which break off, know of no owner or are not there: the run goes on, and its audit with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boxoffice::loadgen::params::Workload;
use boxoffice::loadgen::target::{Http, HttpSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::Server;
use crate::{assert_clean, checked, operation, outcome, params, settings};

/// After so many answers a connection breaks off, one request later.
const ANSWERS: u64 = 20;

/// A node that breaks off now and then when it has passed a request on, and gives no answer to it.
async fn breaking_off(server: SocketAddr, broken: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            tokio::spawn(pass_on(caller, server, broken.clone()));
        }
    });
    address
}

async fn pass_on(mut caller: TcpStream, server: SocketAddr, broken: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut request, mut answer) = ([0; 16 << 10], [0; 16 << 10]);
    let mut answers = 0;
    loop {
        tokio::select! {
            read = caller.read(&mut request) => match read? {
                0 => return Ok(()),
                length => server.write_all(&request[..length]).await?,
            },
            read = server.read(&mut answer) => {
                let length = read?;
                answers += 1;
                if length == 0 || answers > ANSWERS {
                    // The request was carried out: its answer is here.
                    broken.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                caller.write_all(&answer[..length]).await?;
            }
        }
    }
}

/// A node that knows of no owner.
async fn without_owner(asked: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let mut request = [0; 16 << 10];
            if caller.read(&mut request).await.is_ok_and(|length| length > 0) {
                asked.fetch_add(1, Ordering::Relaxed);
                let body = r#"{"status":503,"code":"no_owner"}"#;
                let head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length";
                // Whoever asked may be gone.
                let _ = caller.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_and_audits_clean_whatever_single_nodes_do() {
    let server = Server::start().await;
    let [broken, asked] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nodes = [
        breaking_off(server.address, broken.clone()).await,
        gone,
        breaking_off(server.address, broken.clone()).await,
        without_owner(asked.clone()).await,
    ];
    let urls = nodes.iter().map(|node| format!("http://{node}")).collect();
    let target = Http::new(HttpSettings { urls, ..settings(&server) }).unwrap();
    let outcome = outcome(target, params(Workload::Wallets, &[("duration", "2s")])).await;
    assert_clean(&outcome, Workload::Wallets);
    assert!(checked(&outcome, "seats") > 0 && operation(&outcome, "pay").count > 0, "{}", outcome.table());
    assert!(broken.load(Ordering::Relaxed) > 10 && asked.load(Ordering::Relaxed) > 10, "{broken:?} {asked:?}");
}
