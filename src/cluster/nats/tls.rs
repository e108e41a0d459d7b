//! TLS to NATS servers and their monitoring ports.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::Error;
use crate::cluster::ClusterConfig;

/// TLS 1.2 and 1.3, as configured. It is made in any case: a server may ask for it although its address does not say
/// so.
pub fn client_config(config: &ClusterConfig) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::Unreachable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let trusting = if config.ca_file.as_os_str().is_empty() {
        match builder.clone().with_platform_verifier() {
            Ok(trusting) => trusting,
            Err(error) => {
                tracing::warn!(%error, "the system trusts no certificates: NATS over TLS needs cluster.ca_file");
                builder.with_root_certificates(roots)
            }
        }
    } else {
        for certificate in certificates(&config.ca_file)? {
            roots.add(certificate).map_err(|error| failed(&config.ca_file, &error))?;
        }
        builder.with_root_certificates(roots)
    };
    if config.cert_file.as_os_str().is_empty() {
        return Ok(trusting.with_no_client_auth());
    }
    let key = PrivateKeyDer::from_pem_file(&config.key_file).map_err(|error| failed(&config.key_file, &error))?;
    let certificates = certificates(&config.cert_file)?;
    trusting.with_client_auth_cert(certificates, key).map_err(|error| failed(&config.cert_file, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(certificates) if certificates.is_empty() => Err(failed(path, &"there is no certificate in it")),
        certificates => certificates.map_err(|error| failed(path, &error)),
    }
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::File { path: path.to_owned(), why: why.to_string() }
}
