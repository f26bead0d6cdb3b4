//! Settings that are lists, separated by commas.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::Setting;
use super::value::Value;

/// A network: an address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The network's address; the bits beyond the prefix are zero.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether `ip` is in the network. An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        bits(self.address, self.prefix) == bits(ip.to_canonical(), self.prefix)
            && self.address.is_ipv4() == ip.to_canonical().is_ipv4()
    }
}

/// The leading bits of an address, at the top of a `u128`.
fn bits(ip: IpAddr, prefix: u8) -> u128 {
    let all = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    all.checked_shr(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(drop)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(drop)?;
        let network = Self { address, prefix };
        // A network with bits beyond its prefix is a typing mistake.
        let shift = 128 - u32::from(prefix.min(most));
        let whole = bits(address, most) << (128 - u32::from(most));
        let fits = prefix <= most && bits(address, prefix).checked_shl(shift).unwrap_or(0) == whole;
        if fits { Ok(network) } else { Err(()) }
    }
}

impl Value for Vec<Cidr> {
    const KIND: &'static str = "networks such as 10.0.0.0/8, separated by commas";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        text.split(',').map(|network| network.trim().parse().ok()).collect()
    }

    fn unset() -> Option<Self> {
        Some(Self::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_only() {
        let network: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(
            network.contains("10.1.255.1".parse().unwrap())
                && network.contains("::ffff:10.1.0.9".parse().unwrap())
        );
        assert!(!network.contains("10.2.0.1".parse().unwrap()) && !network.contains("::1".parse().unwrap()));
        assert!("::/0".parse::<Cidr>().unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!("192.0.2.7".parse::<Cidr>().unwrap().contains("192.0.2.7".parse().unwrap()));
        for bad in ["10.1.0.1/16", "10.0.0.0/33", "x", "", "10.0.0.0/"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
