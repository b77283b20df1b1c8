//! Which certificate of a pool is believed.

use super::fingerprint::Fingerprint;
use super::provider;
use crate::config::Trust;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, WantsVerifier,
};

/// Sets up TLS on a connection to `host` (brackets around an IPv6 address).
///
/// # Errors
/// The host is no name that a certificate could have, the certificate is not believed, or the connection fails.
pub async fn connect(stream: TcpStream, host: &str, trust: Trust) -> io::Result<TlsStream<TcpStream>> {
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name =
        ServerName::try_from(name).map_err(|_| io::Error::other("the host is no name for a certificate"))?;
    TlsConnector::from(config(trust)?).connect(name, stream).await
}

fn config(trust: Trust) -> io::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(Arc::new(believing(builder, trust)))
}

fn believing(
    builder: tokio_rustls::rustls::ConfigBuilder<ClientConfig, WantsVerifier>,
    trust: Trust,
) -> ClientConfig {
    match trust {
        Trust::Authorities => {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::Fingerprint(hash) => {
            let pinned = Arc::new(Pinned { fingerprint: Fingerprint(hash), provider: provider() });
            builder.dangerous().with_custom_certificate_verifier(pinned).with_no_client_auth()
        }
    }
}

/// Believes one certificate, whoever signed it, whatever it is for and until when. That the server has its key is
/// checked as always.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let theirs = Fingerprint::of(certificate);
        if theirs == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!("the certificate's fingerprint is {theirs}, not the configured one")))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
