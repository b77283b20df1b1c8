//! A line that speaks TLS to the target, for abuse within it.

use std::net::IpAddr;
use std::sync::Arc;

use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::attack::{RECEIVE_BUFFER, connect};
use super::target::Target;

/// A connection from `source` that speaks TLS.
pub(super) async fn connected(target: &Target, source: IpAddr) -> anyhow::Result<TlsStream<TcpStream>> {
    let name = ServerName::from(target.address.ip());
    Ok(connector()?.connect(name, connect(target, source).await?).await?)
}

/// A connection from `source` whose TLS is done elsewhere: what is written here arrives there.
///
/// # Errors
/// Nobody speaks TLS there.
pub async fn inside(target: &Target, source: IpAddr) -> anyhow::Result<TcpStream> {
    let mut far = connected(target, source).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpSocket::new_v4()?;
    near.set_recv_buffer_size(RECEIVE_BUFFER)?;
    let near = near.connect(listener.local_addr()?).await?;
    let (mut end, _) = listener.accept().await?;
    SockRef::from(&end).set_send_buffer_size(RECEIVE_BUFFER as usize)?; // what the abuser does not read is not read here
    tokio::spawn(async move { copy_bidirectional(&mut end, &mut far).await });
    Ok(near)
}

fn connector() -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let anybody = Arc::new(Anybody(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Believes every certificate, as most firmware does.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
