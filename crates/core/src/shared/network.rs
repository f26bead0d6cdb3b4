use std::net::{IpAddr, Ipv6Addr};

/// What counts as one client: an address, or a /64 network of IPv6, which is what one subscriber has. IPv4 written as
/// IPv6 is IPv4.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}
