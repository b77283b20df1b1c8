//! Whom a local page answers. Only programs on this machine reach it, but a browser is one: a site whose name is made to mean
//! 127.0.0.1 after it was loaded (DNS rebinding) could read the page with the visitor's browser. Such a request names the site.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

const MEND: &str = "this page is for this machine: ask for it by an address or as localhost, as http://127.0.0.1/ with its port. \
    A proxy in front of it must send such a Host header, not the name that it is known by\n";

/// Goes on with a request for an address, for localhost, or for nobody in particular.
pub(super) async fn local_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    if host.is_none_or(|host| host.to_str().is_ok_and(is_local)) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, MEND).into_response()
    }
}

/// Whether `host`, with or without a port, is no name, or this machine's own.
fn is_local(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[') {
        return v6.split_once(']').is_some_and(|(v6, _)| v6.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    name.parse::<Ipv4Addr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_local_and_other_names_are_not() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8403",
            "10.0.0.7:80",
            "[::1]",
            "[::1]:8403",
            "LocalHost:1",
            "a.localhost",
            "localhost.",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "rebind.example",
            "rebind.example:8403",
            "127.0.0.1.example",
            "localhost.example",
            "[::1",
            "[a]",
            "mylocalhost",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
