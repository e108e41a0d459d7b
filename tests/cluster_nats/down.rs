//! NATS servers that are down when a node starts.

use std::path::Path;
use std::sync::mpsc;

use boxoffice::cluster::nats::{Error, NatsLink};
use boxoffice::cluster::{ClusterConfig, Heard};

use crate::node::{PATIENCE, runtime};
use crate::servers::{Servers, Sync};

/// Connects a node that has this directory.
fn connect(
    config: ClusterConfig,
    home: &Path,
    life: u64,
    then: impl FnOnce(mpsc::Receiver<Heard>),
) -> Result<(), Error> {
    let (runtime, (ears, heard)) = (runtime(), mpsc::channel());
    let hear = move |it| drop(ears.send(it));
    let connecting = NatsLink::connect_from(runtime.handle(), config, Some(home.to_owned()), life, hear);
    let link = runtime.block_on(connecting)?;
    then(heard);
    drop(link);
    Ok(())
}

#[test]
fn a_node_starts_while_a_server_is_down_that_has_said_before_that_it_syncs_and_ends_if_it_does_not_any_more() {
    let mut servers = Servers::start(3);
    let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    connect(servers.config("a"), home.path(), 1, drop).unwrap();
    servers.kill(2);
    connect(servers.config("a"), home.path(), 2, drop).unwrap();
    // Who has never heard it does not believe it.
    let hasty = ClusterConfig { connect_timeout_ms: 5_000, ..servers.config("b") };
    let error = connect(hasty, other.path(), 3, drop).unwrap_err();
    assert!(matches!(&error, Error::SyncUnknown { .. }), "{error}");
    servers.set_sync(2, Sync::Sometimes);
    let config = servers.config("a");
    let waits = |heard: mpsc::Receiver<Heard>| {
        servers.restart(2);
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if let Heard::NotSynced(server) =
                heard.recv_timeout(left).expect("it is told that the server does not sync")
            {
                assert_eq!(server, "n3");
                break;
            }
        }
    };
    connect(config, home.path(), 4, waits).unwrap();
}
