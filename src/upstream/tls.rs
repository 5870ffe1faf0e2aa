//! TLS towards origins and parents: always verified, HTTP/1.1 by ALPN.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::error::UpstreamError;
use super::wire::Stream;
use crate::field::status::ProxyError;
use crate::field::target::Host;

/// Why the settings of the way to origins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `upstream.ca_file` cannot be read, or holds no certificate.
    #[error("{path}: expected certificates in PEM form: {what}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The TLS library refused its own settings.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The resolver cannot be made.
    #[error("the resolver cannot be set up: {0}")]
    Resolver(String),
    /// A member of `upstream.no_proxy` is none of: a host, `.suffix`, `host:port`, an address, a network, `*`.
    #[error("upstream.no_proxy: {0:?} is not a host, .suffix, host:port, address, network or *")]
    NoProxy(String),
    /// A parent's host is empty or not a host.
    #[error("upstream.parents: {0:?} is not a host")]
    ParentHost(String),
}

/// What a handshake needs.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// Trusts the system's roots (Mozilla's where the system has none) and those in `ca_file`.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, SetupError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        let (added, ignored) = roots.add_parsable_certificates(native.certs);
        if ignored > 0 {
            tracing::debug!(added, ignored, "certificates of the system that cannot be parsed are left out");
        }
        if roots.is_empty() {
            tracing::info!("the system has no root certificates: Mozilla's built-in ones are used");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        if let Some(path) = ca_file {
            add_file(&mut roots, path)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The handshake. The name that is verified is `host`'s.
    pub(super) async fn handshake(&self, stream: Stream, host: &Host) -> Result<Stream, UpstreamError> {
        let name = match host {
            Host::Ip(ip) => ServerName::from(*ip),
            Host::Name(name) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|error| {
                    let what = format!("{name:?} is not a name that a certificate can be for");
                    UpstreamError::new(ProxyError::TlsProtocolError, what).caused(error)
                })?
            }
        };
        match self.0.connect(name, stream).await {
            Ok(tls) => Ok(Stream::Tls(Box::new(tls))),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Whether a file is as `upstream.ca_file` must be: readable, and with at least one certificate. Blocking.
pub fn check_ca_file(path: &Path) -> Result<(), SetupError> {
    add_file(&mut RootCertStore::empty(), path)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), SetupError> {
    let wrong = |what: String| SetupError::CaFile { path: path.to_owned(), what };
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.len() == before { Err(wrong("no certificate found".to_owned())) } else { Ok(()) }
}

fn failed(error: io::Error) -> UpstreamError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (kind, what) = match tls {
        Some(tls) => (kind(tls), format!("the TLS handshake failed: {tls}")),
        None => (ProxyError::TlsProtocolError, format!("the connection broke in the TLS handshake: {error}")),
    };
    UpstreamError::new(kind, what).caused(error)
}

/// The type of a TLS failure. RFC 9209 sections 2.3.17 to 2.3.19.
pub(super) fn kind(error: &rustls::Error) -> ProxyError {
    match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::UnsupportedNameType
        | rustls::Error::InvalidCertRevocationList(_) => ProxyError::TlsCertificateError,
        rustls::Error::AlertReceived(_) => ProxyError::TlsAlertReceived,
        _ => ProxyError::TlsProtocolError,
    }
}
