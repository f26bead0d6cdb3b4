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
    /// Whether `ip` is in the network. An IPv4 address in IPv6 clothes (`::ffff:10.0.0.1`) counts as IPv4.
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

impl FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(drop)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(drop)?;
        let network = Self { address, prefix };
        // A network with bits beyond its prefix is a slip of the pen.
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

/// Origins as browsers send them (RFC 6454): scheme, host and port, nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Whether `origin`, as it stands in a request's `Origin`, is on the list.
    pub fn contains(&self, origin: &str) -> bool {
        self.0.iter().any(|known| known == origin)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl Value for Origins {
    const KIND: &'static str = "origins such as https://app.example.com, separated by commas";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        let origins: Vec<&str> = text.split(',').map(str::trim).collect();
        let exact = |origin: &&str| {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            host.is_some_and(|host| {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b))
            })
        };
        origins.iter().all(exact).then(|| Self(origins.into_iter().map(str::to_owned).collect()))
    }

    fn unset() -> Option<Self> {
        Some(Self::default())
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

    #[test]
    fn an_origin_has_no_path_and_no_wildcard() {
        let setting = Setting::named("CORS_ORIGINS");
        let parse = |text: &str| Origins::parse(&setting, text);
        let origins = parse("https://a.example, http://localhost:3000").unwrap();
        assert!(origins.contains("http://localhost:3000") && !origins.contains("http://a.example"));
        for bad in ["*", "https://a.example/", "https://*.example", "a.example", "null", "https://A.example"]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
