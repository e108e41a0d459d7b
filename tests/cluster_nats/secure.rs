//! What a node may do, and who it talks to.

use std::time::Duration;

use boxoffice::PlanHash;
use boxoffice::cluster::nats::Error;
use boxoffice::cluster::{ClusterConfig, Link as _, Sequence};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::node::{Node, PATIENCE, mark};
use crate::servers::{Servers, Sync, eventually};

#[test]
fn the_permissions_in_the_documentation_are_all_that_a_node_needs() {
    let document = include_str!("../../docs/OPERATIONS.md");
    let permissions = document.split("```nats-permissions\n").nth(1).unwrap().split("```").next().unwrap();
    let connect = |servers: &Servers, node: &str, life| {
        Node::connect(ClusterConfig { name: "boxoffice".to_owned(), ..servers.config(node) }, life).unwrap()
    };
    // A node that does not say who it is is `a`.
    let user = format!("{{ user: a, password: a, permissions: {{ {permissions} }} }}");
    let authorization = format!("authorization {{ users: [{user}] }}\nno_auth_user: a");
    let servers = Servers::start_with(&[Sync::Always], &authorization);
    let mut a = connect(&servers, "a", 1);
    a.append(&mark(0));
    a.append(&mark(0));
    a.follow(0);
    assert_eq!((a.read().0, a.read().0), (1, 2));
    assert!(a.fetch(1).is_some());
    a.link.purge(Sequence(2));
    eventually(PATIENCE, "the purge", || a.fetch(1).is_none());
    a.link.step_down();
    let plan = b"a plan";
    let kept = async {
        a.link.put_plan(PlanHash::of(plan), plan).await.unwrap();
        a.link.plan(PlanHash::of(plan)).await.unwrap()
    };
    assert_eq!(a.runtime.block_on(kept).as_deref(), Some(&plan[..]));
    a.runtime.block_on(a.link.serve("echo", |body| async { body })).unwrap();
    let asking = || a.runtime.block_on(a.link.request("echo", b"x", Duration::from_secs(1)));
    eventually(PATIENCE, "the call is answered", || asking().as_deref() == Ok(b"x"));
    a.link.beat(b"x");
    assert_eq!(a.end(), 2);
    drop(a);
    assert!(!servers.log(0).contains("Violation"), "{}", servers.log(0));

    // That it would have been noticed.
    let other = Node::connect(ClusterConfig { connect_timeout_ms: 1_000, ..servers.config("a") }, 2);
    assert!(matches!(other.map(drop), Err(Error::NoAnswer(_))));
    assert!(servers.log(0).contains("Violation"));
}

#[test]
fn servers_and_nodes_show_each_other_who_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, another) = (authority("ours"), authority("another"));
    let write = |name: &str, pem: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (ca_file, other_ca) = (write("ca.pem", ours.pem()), write("other.pem", another.pem()));
    let key = KeyPair::generate().unwrap();
    let parameters = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let cert_file = write("cert.pem", parameters.signed_by(&key, &ours).unwrap().pem());
    let key_file = write("key.pem", key.serialize_pem());
    let tls = format!("tls {{ cert_file: {cert_file:?}, key_file: {key_file:?}, ca_file: {ca_file:?}, verify: true }}");
    let servers = Servers::start_with(&[Sync::Always], &tls);

    let trusting = |ca_file| ClusterConfig { ca_file, ..servers.config("a") };
    let known = ClusterConfig { cert_file, key_file: key_file.clone(), ..trusting(ca_file.clone()) };
    let mut node = Node::connect(known.clone(), 1).unwrap();
    node.append(&mark(0));
    drop(node);
    let by_scheme = known.servers.iter().map(|server| server.replace("nats://", "tls://")).collect();
    Node::connect(ClusterConfig { servers: by_scheme, ..known.clone() }, 2).unwrap();

    let refused = |config| {
        let config = ClusterConfig { connect_timeout_ms: 1_000, ..config };
        matches!(Node::connect(config, 3).map(drop), Err(Error::Unreachable(_)))
    };
    assert!(refused(trusting(ca_file)), "a node without a certificate");
    assert!(refused(ClusterConfig { ca_file: other_ca, ..known.clone() }), "a server that nobody vouches for");
    let no_key = ClusterConfig { key_file: dir.path().join("none"), ..known.clone() };
    assert!(matches!(Node::connect(no_key, 3).map(drop), Err(Error::File { path, .. }) if path.ends_with("none")));
    let no_certificate = ClusterConfig { ca_file: key_file, ..known };
    assert!(matches!(Node::connect(no_certificate, 3).map(drop), Err(Error::File { .. })));
}
