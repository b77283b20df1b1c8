//! Where a server asks to be connected to next.

/// Why a connection ends whose server asks to be connected to anew: Reconnect, or an SV1 pool's client.reconnect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it asks to be connected to anew")]
pub struct Moved {
    /// Empty for the present host.
    pub host: String,
    /// 0 for the present port.
    pub port: u16,
}

impl Moved {
    /// To the present place.
    pub fn nowhere() -> Self {
        Self { host: String::new(), port: 0 }
    }

    /// `host:port` to connect to, where `present` is that of the connection that ends (SV2 spec §3.6.5).
    pub fn place(&self, present: &str) -> String {
        let (host, port) = present.rsplit_once(':').unwrap_or((present, ""));
        let named: String = self.host.chars().filter(|c| !c.is_control()).collect(); // it goes into the log
        let host = match named.as_str() {
            "" => host.to_owned(),
            bare if bare.contains(':') && !bare.starts_with('[') => format!("[{bare}]"), // IPv6
            named => named.to_owned(),
        };
        match self.port {
            0 => format!("{host}:{port}"),
            port => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_as_it_is() {
        for (host, port, place) in [
            ("", 0, "hub.example:34254"),
            ("", 7, "hub.example:7"),
            ("other.example", 0, "other.example:34254"),
            ("other.example", 7, "other.example:7"),
            ("2001:db8::1", 7, "[2001:db8::1]:7"),
            ("[2001:db8::1]", 0, "[2001:db8::1]:34254"),
        ] {
            assert_eq!(Moved { host: host.into(), port }.place("hub.example:34254"), place);
        }
        assert_eq!(Moved::nowhere().place("[::1]:34254"), "[::1]:34254");
    }
}
