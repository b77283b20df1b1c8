//! SV1 over TLS.

use super::raw::RawTls;
use crate::tls::certificate::Files;
use service::{Problems, expand_home};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A second port for SV1 miners.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Where they connect.
    pub listen: SocketAddr,
    /// The operator's certificate; without it the proxy makes one and keeps it in the data directory.
    pub files: Option<Files>,
}

/// `None` if something is wrong; `Some(None)` without `tls.listen`.
#[allow(clippy::option_option)]
pub(super) fn check(raw: &RawTls, problems: &mut Problems) -> Option<Option<Tls>> {
    let files = match (&raw.certificate, &raw.key) {
        (Some(certificate), Some(key)) => Some(Files {
            certificate: path("tls.certificate", certificate, problems)?,
            key: path("tls.key", key, problems)?,
        }),
        (None, None) => None,
        (Some(_), None) => return problems.add("tls.key", "is missing", "name the certificate's secret key"),
        (None, Some(_)) => {
            return problems.add("tls.certificate", "is missing", "name the certificate of this secret key");
        }
    };
    match (&raw.listen, files) {
        (Some(listen), files) => {
            let listen = problems.parse("tls.listen", listen, "write address:port, as 0.0.0.0:3443")?;
            Some(Some(Tls { listen, files }))
        }
        (None, None) => Some(None),
        (None, Some(_)) => problems.add("tls.listen", "is missing", "write address:port, as 0.0.0.0:3443"),
    }
}

fn path(key: &str, text: &str, problems: &mut Problems) -> Option<PathBuf> {
    let path = expand_home(text);
    path.or_else(|| {
        problems.add(key, "begins with ~, but there is no home directory", "write the whole path")
    })
}
