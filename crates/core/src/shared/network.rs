use std::net::{IpAddr, Ipv6Addr};

/// The network that counts as one client: an IPv4 address itself, and of an IPv6 address its /64, since one subscriber
/// has a whole one.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// The site that an address of IPv6 belongs to, its /48: who is given one has 65,536 networks. IPv4 knows no such thing.
pub fn site(client: IpAddr) -> Option<IpAddr> {
    match client.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into()),
    }
}

/// A host and its port, as they stand in a URL (RFC 3986, 3.2.2).
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_stands_in_brackets() {
        let of = |host| authority(host, 3650);
        assert_eq!(["localhost", "0.0.0.0"].map(of), ["localhost:3650", "0.0.0.0:3650"]);
        assert_eq!(["::", "::1"].map(of), ["[::]:3650", "[::1]:3650"]);
    }

    #[test]
    fn l_02_an_ipv6_client_is_its_64() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:ffff::9"), "2001:db8:1:2::");
        assert_ne!(of("2001:db8:1:3::9"), of("2001:db8:1:2::9"));
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7", "IPv4 written as IPv6");
    }

    #[test]
    fn l_02_a_site_of_ipv6_is_its_48() {
        let of = |text: &str| site(text.parse().unwrap()).map(|site| site.to_string());
        assert_eq!(of("2001:db8:1:2::9"), of("2001:db8:1:ffff::1"));
        assert_ne!(of("2001:db8:2:2::9"), of("2001:db8:1:2::9"));
        assert_eq!([of("192.0.2.7"), of("::ffff:192.0.2.7")], [None, None]);
    }
}
