//! What a cluster is refused for.

use boxoffice::cluster::nats::Error;
use boxoffice::cluster::{ClusterConfig, Heard};
use serde_json::{Value, json};

use crate::node::{Node, PATIENCE, mark, runtime};
use crate::servers::{Servers, Sync, eventually};

/// Asks JetStream, as an operator does.
fn ask(servers: &Servers, what: &str, body: Value) -> Value {
    let subject = format!("$JS.API.{what}");
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = runtime().block_on(async {
        let client = async_nats::connect(&servers.config("x").servers[0]).await.unwrap();
        client.request(subject, body.into()).await.unwrap()
    });
    serde_json::from_slice(&answer.payload).unwrap()
}

#[test]
fn a_server_that_does_not_sync_each_message_is_refused_by_name() {
    let servers = Servers::start_with(&[Sync::Always, Sync::Sometimes, Sync::Always], "");
    let refused = |config: ClusterConfig| Node::connect(config, 1).map(drop).unwrap_err();
    let error = refused(servers.config("a"));
    assert!(matches!(&error, Error::NotSynced { server } if server == "n2"), "{error}");
    // Known to be wrong is not unknown.
    let error = refused(ClusterConfig { accept_unknown_sync: true, ..servers.config("a") });
    assert!(matches!(&error, Error::NotSynced { server } if server == "n2"), "{error}");

    let without = |index: usize| {
        let mut config = servers.config("a");
        config.monitor.remove(index);
        config
    };
    let error = refused(without(1));
    assert!(matches!(&error, Error::SyncUnknown { server, .. } if server == "n2"), "{error}");
    let mut silent = ClusterConfig { connect_timeout_ms: 1_000, ..without(1) };
    silent.monitor.push("http://127.0.0.1:1".to_owned());
    let error = refused(silent);
    assert!(matches!(&error, Error::SyncUnknown { server, .. } if server == "http://127.0.0.1:1"), "{error}");
    Node::connect(ClusterConfig { accept_unknown_sync: true, ..without(1) }, 1).unwrap();
}

#[test]
fn a_stream_that_is_set_up_otherwise_is_refused() {
    let servers = Servers::start(1);
    drop(Node::connect(servers.config("a"), 1).unwrap());
    let mut config = ask(&servers, "STREAM.INFO.test", Value::Null)["config"].clone();
    let made = config.clone();
    config["max_bytes"] = json!(1 << 20);
    assert!(ask(&servers, "STREAM.UPDATE.test", config)["error"].is_null());
    let error = Node::connect(servers.config("a"), 2).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the stream test has max_bytes = 1048576, and must have -1");
    assert!(ask(&servers, "STREAM.UPDATE.test", made)["error"].is_null());
    Node::connect(servers.config("a"), 3).unwrap();
    // Messages cannot be taken out of it one by one.
    let refused = ask(&servers, "STREAM.MSG.DELETE.test", json!({ "seq": 1 }));
    assert!(!refused["error"].is_null(), "{refused}");
}

#[test]
fn a_stream_that_was_made_anew_is_not_read() {
    let servers = Servers::start(1);
    let mut node = Node::connect(servers.config("a"), 1).unwrap();
    node.append(&mark(0));
    node.follow(0);
    assert_eq!(node.read().0, 1);
    let config = ask(&servers, "STREAM.INFO.test", Value::Null)["config"].clone();
    ask(&servers, "STREAM.DELETE.test", Value::Null);
    eventually(PATIENCE, "it is there again", || {
        ask(&servers, "STREAM.CREATE.test", config.clone())["error"].is_null()
    });
    node.hear("that it is another", |heard| (*heard == Heard::OtherStream).then_some(()));
    let created = node.found.created;
    drop(node);
    assert!(Node::connect(servers.config("a"), 2).unwrap().found.created > created);
}

#[test]
fn who_finds_no_server_says_so() {
    let config = ClusterConfig {
        servers: vec!["nats://127.0.0.1:1".to_owned()],
        connect_timeout_ms: 1_000,
        node: "a".to_owned(),
        secret: boxoffice::cluster::Secret::new("s".repeat(32)),
        ..ClusterConfig::default()
    };
    assert!(matches!(Node::connect(config, 1).map(drop), Err(Error::Unreachable(_))));
    assert!(matches!(Node::connect(ClusterConfig::default(), 1).map(drop), Err(Error::Config(_))));
}
