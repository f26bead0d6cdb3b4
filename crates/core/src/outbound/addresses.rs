//! Which addresses are of the public Internet: what a tenant's URL may lead to, and nothing else.
//!
//! Of IPv6 only the part that is given out (2000::/3) can be public at all. That alone keeps out loopback, link-local,
//! unique local and multicast addresses, and every form that wraps an address of IPv4 but two; these are in the table.
//! Sources: the special-purpose registries of IANA (RFC 6890 and its updates), and the addresses of cloud providers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Cidr;

/// Why an address is not public; `None` for one that is.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    if let IpAddr::V6(address) = address
        && !is_given_out(address)
    {
        return Some(outside(address));
    }
    // Asked by its own family: the forms of IPv6 that wrap IPv4 are refused above, whatever they wrap.
    RESERVED.iter().find(|(network, _)| network.contains(address)).map(|(_, what)| *what)
}

/// Whether the address is of 2000::/3, the only part of IPv6 that public addresses have been given out of (RFC 4291, 2.4).
fn is_given_out(address: Ipv6Addr) -> bool {
    address.segments()[0] >> 13 == 0b001
}

fn outside(address: Ipv6Addr) -> &'static str {
    let [first, second, ..] = address.segments();
    match first {
        _ if address.is_loopback() => "loopback",
        _ if address.is_unspecified() => "unspecified",
        _ if address.to_ipv4_mapped().is_some() => "IPv4 written as IPv6",
        0x64 if second == 0xff9b => "IPv4 behind NAT64",
        0 => "IPv4 written as IPv6",
        0xfc00..=0xfdff => "a private network",
        0xfe80..=0xfebf => "link-local",
        0xff00..=0xffff => "multicast",
        _ => "not in public use",
    }
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Cidr {
    Cidr { address: IpAddr::V4(Ipv4Addr::new(a, b, c, 0)), prefix }
}

const fn v6(first: u16, second: u16, prefix: u8) -> Cidr {
    Cidr { address: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), prefix }
}

/// Networks that are not public, with what they are.
const RESERVED: &[(Cidr, &str)] = &[
    (v4(0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 8), "a private network"),
    (v4(100, 64, 0, 10), "a carrier's own network"),
    (v4(127, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 16), "link-local, where clouds keep their metadata"),
    (v4(172, 16, 0, 12), "a private network"),
    (v4(192, 0, 0, 24), "reserved for protocols"),
    (v4(192, 0, 2, 24), "reserved for documentation"),
    (v4(192, 88, 99, 24), "a relay of 6to4"),
    (v4(192, 168, 0, 16), "a private network"),
    (v4(198, 18, 0, 15), "reserved for benchmarks"),
    (v4(198, 51, 100, 24), "reserved for documentation"),
    (v4(203, 0, 113, 24), "reserved for documentation"),
    (v4(224, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 4), "reserved, or broadcast"),
    // Looks public, and is answered by the host of a virtual machine in Azure, with its certificates and settings.
    (Cidr { address: IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), prefix: 32 }, "a cloud's own service"),
    // Teredo (2001::/32), benchmarks (2001:2::/48) and ORCHID (2001:10::/28, 2001:20::/28) among them.
    (v6(0x2001, 0, 23), "reserved for protocols"),
    (v6(0x2001, 0xdb8, 32), "reserved for documentation"),
    (v6(0x2002, 0, 16), "IPv4 written as 6to4"),
    (v6(0x3fff, 0, 20), "reserved for documentation"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn why(address: &str) -> Option<&'static str> {
        refusal(address.parse().unwrap())
    }

    #[test]
    fn w_03_the_first_and_the_last_address_of_each_network_are_refused_and_their_neighbours_are_not() {
        for (refused, neighbours) in [
            (["0.0.0.0", "0.255.255.255"], vec!["1.0.0.0"]),
            (["10.0.0.0", "10.255.255.255"], vec!["9.255.255.255", "11.0.0.0"]),
            (["100.64.0.0", "100.127.255.255"], vec!["100.63.255.255", "100.128.0.0"]),
            (["127.0.0.0", "127.255.255.255"], vec!["126.255.255.255", "128.0.0.0"]),
            (["169.254.0.0", "169.254.255.255"], vec!["169.253.255.255", "169.255.0.0"]),
            (["172.16.0.0", "172.31.255.255"], vec!["172.15.255.255", "172.32.0.0"]),
            (["192.0.0.0", "192.0.0.255"], vec!["191.255.255.255", "192.0.1.0"]),
            (["192.0.2.0", "192.0.2.255"], vec!["192.0.1.255", "192.0.3.0"]),
            (["192.88.99.0", "192.88.99.255"], vec!["192.88.98.255", "192.88.100.0"]),
            (["192.168.0.0", "192.168.255.255"], vec!["192.167.255.255", "192.169.0.0"]),
            (["198.18.0.0", "198.19.255.255"], vec!["198.17.255.255", "198.20.0.0"]),
            (["198.51.100.0", "198.51.100.255"], vec!["198.51.99.255", "198.51.101.0"]),
            (["203.0.113.0", "203.0.113.255"], vec!["203.0.112.255", "203.0.114.0"]),
            (["224.0.0.0", "255.255.255.255"], vec!["223.255.255.255"]),
            (["168.63.129.16", "168.63.129.16"], vec!["168.63.129.15", "168.63.129.17"]),
            (["::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], vec!["2000::"]),
            (["4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], vec!["3fff:1000::"]),
            (["2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"], vec!["2000:ffff::1", "2001:200::"]),
            (["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"], vec!["2001:db7::", "2001:db9::"]),
            (["2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], vec!["2001:ffff::", "2003::"]),
            (["3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"], vec!["3ffe:ffff::", "3fff:1000::"]),
        ] {
            assert!(refused.iter().all(|address| why(address).is_some()), "{refused:?}");
            assert!(neighbours.iter().all(|address| why(address).is_none()), "{neighbours:?}");
        }
    }

    #[test]
    fn w_03_every_form_of_ipv6_that_wraps_an_ipv4_address_is_refused() {
        for (form, what) in [
            ("::1", "loopback"),
            ("::", "unspecified"),
            ("::ffff:127.0.0.1", "IPv4 written as IPv6"),
            ("::ffff:8.8.8.8", "IPv4 written as IPv6"),
            ("::ffff:0:127.0.0.1", "IPv4 written as IPv6"), // translated (RFC 2765)
            ("::127.0.0.1", "IPv4 written as IPv6"),        // compatible
            ("64:ff9b::a9fe:a9fe", "IPv4 behind NAT64"),
            ("64:ff9b::8.8.8.8", "IPv4 behind NAT64"),
            ("64:ff9b:1::a9fe:a9fe", "IPv4 behind NAT64"), // local use (RFC 8215)
            ("2002:7f00:1::", "IPv4 written as 6to4"),
            ("2002:a9fe:a9fe::1", "IPv4 written as 6to4"),
            ("2001:0:53aa:64c::80ff:fffe", "reserved for protocols"), // Teredo
            ("fd00:ec2::254", "a private network"),
            ("fe80::a9fe:a9fe", "link-local"),
            ("fec0::1", "not in public use"),
            ("ff02::1", "multicast"),
            ("5f00::1", "not in public use"),
        ] {
            assert_eq!(why(form), Some(what), "{form}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for public in ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::1"] {
            assert_eq!(why(public), None, "{public}");
        }
    }

    /// What the registry holds, and each neighbour, is answered; nothing panics.
    #[test]
    fn every_first_half_of_an_ipv4_address_is_answered_as_by_the_standard_library() {
        for high in 0..=u16::MAX {
            let [a, b] = high.to_be_bytes();
            let address = Ipv4Addr::new(a, b, 7, 7);
            let known = address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b));
            assert_eq!(refusal(address.into()).is_some(), known, "{address}");
        }
    }
}
