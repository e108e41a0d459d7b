//! A server that starts, which may take long, keeps nobody waiting: it has its address, and does not answer there yet.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::process::{begin_at, serve, terminate, text};

/// An address that nobody has just now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn who_comes_while_it_starts_is_turned_away_at_once() {
    let (dir, address, ops) = (tempfile::tempdir().unwrap(), free_address(), free_address());
    // A server of NATS that takes a connection and says nothing.
    let nats = TcpListener::bind("127.0.0.1:0").unwrap();
    let [auth, cluster] = ["a", "c"].map(|letter| letter.repeat(32));
    let config = format!(
        "[auth]\nsecret = \"{auth}\"\n[cluster]\nservers = [\"nats://{}\"]\nnode = \"ada\"\nsecret = \"{cluster}\"\n",
        nats.local_addr().unwrap()
    );
    std::fs::write(dir.path().join("node.toml"), config).unwrap();
    let mut server = begin_at(dir.path(), address, ops, &["--config", "node.toml"]);
    let _waiting = nats.accept().unwrap();
    for address in [address, ops] {
        let refused = TcpStream::connect(address).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    assert!(server.try_wait().unwrap().is_none(), "it starts still");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn an_address_that_another_one_has_is_found_out_before_anything_is_opened() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (server, lines) = serve(one.path(), &[]);
    let address = lines.last().unwrap().strip_prefix("listening on http://").unwrap().parse().unwrap();
    let output = begin_at(other.path(), address, free_address(), &[]).wait_with_output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("Address already in use"), "{output:?}");
    assert!(!other.path().join("data").exists());
    terminate(server);
}
