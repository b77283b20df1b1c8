//! Who counts as one where peers are counted by address.

use std::net::{IpAddr, Ipv6Addr};

/// The part of an address that one owner has: all of IPv4, the upper 64 bits of IPv6, whose lower half a single
/// machine may choose anew for each connection.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        neighbourhood(text.parse().unwrap()).to_string()
    }

    #[test]
    fn one_network_of_ipv6_is_one_neighbour_and_each_address_of_ipv4_is() {
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7", "as a listener on :: sees IPv4");
    }
}
