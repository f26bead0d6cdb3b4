//! What is checked of a mail server and a sender: enough to find a slip, not to judge whether mail arrives.

use std::net::{IpAddr, Ipv6Addr};

/// Whether `text` is an IP address, one of IPv6 with a zone such as `fe80::1%eth0` too, or could be a name of the DNS
/// (RFC 1123, 2.1; underscores, which resolvers take, too).
pub(super) fn is_host(text: &str) -> bool {
    let zoned = text.split_once('%').is_some_and(|(address, zone)| {
        address.parse::<Ipv6Addr>().is_ok()
            && !zone.is_empty()
            && zone.bytes().all(|byte| byte.is_ascii_graphic())
    });
    zoned || text.parse::<IpAddr>().is_ok() || is_name(text)
}

/// Whether `text` is an address as mail programs take it (RFC 5321, 4.1.2, without quoted local parts and literals).
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    text.len() <= 254
        && local.len() <= 64
        && local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(plain))
        && is_name(domain)
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits only is an address that went wrong.
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 253 && text.split('.').all(is_label) && !text.rsplit('.').next().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        let longest = "a".repeat(63);
        for good in [
            "localhost",
            "mail.example.com",
            "mail_1",
            "192.0.2.1",
            "2001:db8::1",
            "::",
            "fe80::1%eth0",
            &longest,
        ] {
            assert!(is_host(good), "{good}");
        }
        let too_long = "a".repeat(64);
        let far_too_long = ["abcdefg"; 32].join(".");
        for bad in [
            "",
            "mail example",
            "smtp://mail.example.com",
            "mail.example.com:587",
            "mail..example",
            ".mail",
            "-mail.example",
            "mail-.example",
            "192.0.2.256",
            "192.0.2.1%eth0",
            "[::1]",
            "mail@example.com",
            "mail.exämple",
            &too_long,
            &far_too_long,
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn an_email_has_one_at_a_local_part_and_a_host() {
        let longest = format!("{}@example.com", "a".repeat(64));
        for good in ["erp@example.com", "first.last+tag@mail.example.com", "root@localhost", &longest] {
            assert!(is_email(good), "{good}");
        }
        let too_long = format!("a{longest}");
        for bad in [
            "",
            "erp",
            "@example.com",
            "erp@",
            "erp@@example.com",
            "a@b@example.com",
            "ERP <erp@example.com>",
            "er p@example.com",
            ".erp@example.com",
            "erp.@example.com",
            "e..rp@example.com",
            "erp@192.0.2.1",
            "erp@-example.com",
            "erp@example.com\r\nBcc: x@example.com",
            &too_long,
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
