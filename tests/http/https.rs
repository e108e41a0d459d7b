//! Receivers of webhooks over https: none gets anything unless it can show who it is, and nothing is lost meanwhile.

use std::path::Path;
use std::process::Child;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::process::{serve_trusting, terminate};
use crate::receiver::{Receiver, until};
use crate::webhooks::call;

const HERE: &str = "127.0.0.1";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// A receiver with a certificate from this authority.
    async fn receiver(&self, host: &str, last_year: i32) -> Receiver {
        let mut parameters = CertificateParams::new([host.to_owned()]).unwrap();
        parameters.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let tls = tls.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        Receiver::secure(TlsAcceptor::from(Arc::new(tls))).await
    }

    /// Starts a server that trusts this authority only; gives its address.
    fn serve(&self, dir: &Path) -> (Child, String) {
        std::fs::write(dir.join("trusted.pem"), self.0.pem()).unwrap();
        let config = "[webhooks]\nallow_private_addresses = true\nretry_schedule = [\"10ms\", \"10ms\"]\n";
        std::fs::write(dir.join("boxoffice.toml"), config).unwrap();
        let (child, lines) = serve_trusting(dir, &["--config", "boxoffice.toml"], &dir.join("trusted.pem"));
        (child, lines.last().unwrap().strip_prefix("listening on ").unwrap().to_owned())
    }
}

#[tokio::test]
async fn only_a_receiver_with_a_certificate_that_is_trusted_gets_anything() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, another) = (Authority::new("ours"), Authority::new("another"));
    let good = ours.receiver(HERE, 2999).await;
    let misnamed = ours.receiver("shop.example", 2999).await;
    let expired = ours.receiver(HERE, 2001).await;
    let at = async |address: &str, method, path: &str, body| call(address, dir.path(), method, path, body).await;
    let is_dead = async |address: &str, webhook: &str, why: &str| {
        let path = format!("/v1/webhooks/{webhook}");
        let state =
            until(async || at(address, "GET", &path, Value::Null).await, |state| state["dead_letters"] == 2).await;
        let text = state["last_failure"]["text"].as_str().unwrap();
        assert!(text.contains(why), "{text}");
        assert_eq!(state["last_failure"]["status"], Value::Null);
        // Both were tried three times.
        assert_eq!(state["attempts"], json!({"delivered": 0, "failed": 6}));
    };

    let (child, address) = another.serve(dir.path());
    for receiver in [&good, &misnamed, &expired] {
        at(&address, "POST", "/v1/webhooks", json!({"url": receiver.url()})).await;
    }
    for user in ["anna", "ben"] {
        at(&address, "POST", &format!("/v1/users/{user}/wallet/charges"), json!({"amount": 5})).await;
    }
    for (webhook, why) in [("w1", "UnknownIssuer"), ("w2", "UnknownIssuer"), ("w3", "expired")] {
        is_dead(&address, webhook, why).await;
    }
    let letters = at(&address, "GET", "/v1/webhooks/w1/dead-letters", Value::Null).await;
    let letters = letters["items"].as_array().unwrap();
    assert!(letters.iter().all(|letter| letter.to_string().contains("UnknownIssuer")), "{letters:?}");
    terminate(child);

    let (child, address) = ours.serve(dir.path());
    for webhook in ["w1", "w2", "w3"] {
        at(&address, "POST", &format!("/v1/webhooks/{webhook}/redrive"), json!({})).await;
    }
    let mut delivered: Vec<_> = good.wait_for(2).await.iter().map(|one| one.json()).collect();
    // Across subjects there is no order.
    delivered.sort_by_key(|event| event["subject"].to_string());
    let events = at(&address, "GET", "/v1/events", Value::Null).await;
    assert_eq!(Value::from(delivered), events["items"]);
    is_dead(&address, "w2", "not valid for name").await;
    is_dead(&address, "w3", "expired").await;
    for receiver in [misnamed, expired] {
        assert!(receiver.connections() > 0 && receiver.delivered().is_empty());
    }
    terminate(child);
}
