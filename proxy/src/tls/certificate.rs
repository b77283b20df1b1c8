//! The certificate that miners are shown: from the operator's files, or one that the proxy makes for itself and keeps.

use super::fingerprint::Fingerprint;
use super::provider;
use anyhow::{Context as _, anyhow, bail};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An address that belongs to nobody (RFC 5737).
const NOWHERE: &str = "192.0.2.1:9";
/// Whose a certificate of our own is.
const NAME: &str = "sluice-proxy";

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM: the certificate, and behind it those that lead to a public authority, if one signed it.
    pub certificate: PathBuf,
    /// PEM: its secret key.
    pub key: PathBuf,
}

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For handshakes.
    pub server: Arc<ServerConfig>,
    /// Of the certificate itself.
    pub fingerprint: Fingerprint,
}

/// What changes when files do: time of the last change and size of each.
pub type Stamp = [Option<(SystemTime, u64)>; 2];

impl Files {
    /// Our own, in the data directory; made for these [`names`] if they are not there yet.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn own(data_dir: &Path, names: Vec<String>) -> anyhow::Result<Self> {
        let files =
            Self { certificate: data_dir.join("tls-certificate.pem"), key: data_dir.join("tls-key.pem") };
        if !files.certificate.exists() {
            files.make(names)?;
        }
        Ok(files)
    }

    /// Reads them.
    ///
    /// # Errors
    /// They cannot be read, hold something else, or do not belong together, as between the two steps of a renewal.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        let pem = read(&self.certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|error| bad(&self.certificate, "certificate", &error))?;
        let Some(first) = chain.first() else {
            bail!("{} holds no certificate", self.certificate.display());
        };
        let fingerprint = Fingerprint::of(first);
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        let key = key.map_err(|error| bad(&self.key, "secret key", &error))?;
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| {
                format!("{} and {} cannot be used", self.certificate.display(), self.key.display())
            })?;
        Ok(Loaded { server: Arc::new(server), fingerprint })
    }

    /// To see whether they have changed.
    pub fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let seen = fs::metadata(path).ok()?;
            Some((seen.modified().ok()?, seen.len()))
        })
    }

    /// Valid for as long as certificates can be: much firmware has no clock, and what people compare is the fingerprint.
    fn make(&self, names: Vec<String>) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, NAME);
        let certificate = parameters.self_signed(&key)?;
        // The certificate last: where it is, all is.
        write(&self.key, 0o600, &key.serialize_pem())?;
        write(&self.certificate, 0o644, &certificate.pem())
    }
}

/// What miners may have this machine under, for firmware that is given our certificate and looks at the name in it as well
/// (ESP-Miner): its host name, the address that it listens on, or the one that it reaches other networks from.
pub fn names(listen: SocketAddr) -> Vec<String> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let outward = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect(NOWHERE)?; // sends nothing
        socket.local_addr()
    });
    let addresses = [Some(listen.ip()), outward.ok().map(|address| address.ip())];
    let addresses = addresses.into_iter().flatten().filter(|address| !address.is_unspecified());
    let mut names = vec![NAME.to_owned(), "localhost".to_owned(), host.trim().to_owned()];
    names.extend(addresses.map(|address| address.to_string()));
    names.retain(|name| !name.is_empty() && name.is_ascii());
    names.dedup();
    names
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn bad(path: &Path, what: &str, error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("{} holds no {what} in PEM form: {error}", path.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn own(dir: &Path) -> anyhow::Result<Files> {
        Files::own(dir, names("127.0.0.2:3443".parse().unwrap()))
    }

    #[test]
    fn a_certificate_of_our_own_names_this_machine() {
        let names = names("127.0.0.2:3443".parse().unwrap());
        assert!(
            ["sluice-proxy", "localhost", "127.0.0.2"].iter().all(|name| names.contains(&(*name).into()))
        );
        assert!(!super::names("0.0.0.0:3443".parse().unwrap()).contains(&"0.0.0.0".to_owned()));
    }

    #[test]
    fn a_certificate_of_our_own_is_made_once_and_its_key_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = own(dir.path()).unwrap();
        let fingerprint = first.load().unwrap().fingerprint;
        let again = own(dir.path()).unwrap();
        assert_eq!(again.load().unwrap().fingerprint, fingerprint);
        assert_eq!(fs::metadata(&first.key).unwrap().permissions().mode() & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(own(other.path()).unwrap().load().unwrap().fingerprint, fingerprint);
    }

    #[test]
    fn files_that_cannot_be_served_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = own(dir.path()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let other = own(elsewhere.path()).unwrap();
        let reason = |files: Files| format!("{:#}", files.load().unwrap_err());
        let mixed = Files { certificate: files.certificate.clone(), key: other.key };
        assert!(reason(mixed).contains("cannot be used"), "half of a renewal");
        let swapped = Files { certificate: files.key.clone(), key: files.certificate.clone() };
        assert!(reason(swapped).contains("holds no certificate"));
        let missing = Files { certificate: dir.path().join("none"), key: files.key };
        assert!(reason(missing).contains("cannot read"));
    }

    #[test]
    fn a_change_of_either_file_shows() {
        let dir = tempfile::tempdir().unwrap();
        let files = own(dir.path()).unwrap();
        let before = files.stamp();
        assert_eq!(before, files.stamp());
        fs::write(&files.key, "x").unwrap();
        assert_ne!(before, files.stamp());
        fs::remove_file(&files.certificate).unwrap();
        assert_eq!(files.stamp()[0], None);
    }
}
