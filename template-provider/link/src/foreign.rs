//! Other protocols than SV2 over Noise, told by how they begin, so that whoever came to the wrong port is named and need not be
//! answered.
//!
//! A Noise client's first message is 64 bytes that cannot be told from random ones (ElligatorSwift), so only beginnings count of
//! which not one honest client in a thousand million has one.

/// How they begin, and what they are.
const BEGINNINGS: [(&[u8], &str); 14] = [
    (b"{\"id\"", "JSON-RPC (Stratum V1)"),
    (b"{\"meth", "JSON-RPC (Stratum V1)"),
    (b"{\"param", "JSON-RPC (Stratum V1)"),
    (b"{\"jsonr", "JSON-RPC (Stratum V1)"),
    (b"{ \"id\"", "JSON-RPC (Stratum V1)"),
    (b"{ \"meth", "JSON-RPC (Stratum V1)"),
    (b"GET /", "HTTP"),
    (b"POST /", "HTTP"),
    (b"HEAD /", "HTTP"),
    (b"PUT /", "HTTP"),
    (b"OPTIONS ", "HTTP"),
    (b"CONNECT ", "HTTP"),
    (b"PRI * HTTP/2", "HTTP"),
    (b"SSH-2.", "SSH"),
];

/// What begins with these bytes, if that is plain.
pub(crate) fn protocol(first: &[u8]) -> Option<&'static str> {
    if is_tls(first) {
        return Some("TLS");
    }
    let known = BEGINNINGS.iter().find(|(beginning, _)| first.starts_with(beginning));
    known.map(|(_, protocol)| *protocol)
}

/// A record of a handshake, of a version of SSL 3 or TLS and at most 16 KiB (RFC 8446 §5.1), that holds a ClientHello of less than
/// 64 KiB (§4).
fn is_tls(first: &[u8]) -> bool {
    matches!(first, [0x16, 0x03, 0..=4, 0..=0x40, _, 0x01, 0x00, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_to_the_wrong_port_is_named_by_what_it_says_first() {
        let cases: [(&[u8], Option<&str>); 10] = [
            (b"{\"id\": 0, \"method\": \"mining.configure\"", Some("JSON-RPC (Stratum V1)")),
            (b"{\"method\":\"mining.subscribe\"", Some("JSON-RPC (Stratum V1)")),
            (b"GET /metrics HTTP/1.1\r\n", Some("HTTP")),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some("SSH")),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Some("TLS")),
            (b"{\"i", None),
            (b"\x16\x03\x01\x02\x00", None),
            (b"\x16\x03\x01\xff\x00\x01\x00\x01\xfc\x03\x03", None),
            (&[7; 64], None),
            (b"", None),
        ];
        for (said, expected) in cases {
            assert_eq!(protocol(said), expected, "{said:?}");
        }
    }
}
