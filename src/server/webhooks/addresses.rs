//! Where deliveries may go: http and https, and not into the network that this server is in.
//!
//! A name is resolved here each time that a connection is made, and the addresses that were looked at are the ones that
//! are connected to, so a name that changes its mind in between gains nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::sink::URL_BYTES_MAX;

/// Why a receiver is not connected to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not on the public internet.
    #[error("leads to {0}, which is not a public address")]
    NotPublic(IpAddr),
    /// Its name leads nowhere.
    #[error("does not resolve: {0}")]
    Unresolved(#[from] io::Error),
}

/// Which addresses are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those of the public internet.
    Public,
    /// All.
    Anywhere,
}

impl Reach {
    /// Looks at a URL whose host is an address. (Those are connected to without asking the resolver. Whatever way it was
    /// written in, as one decimal number or in octal, it has the usual form once it is parsed.)
    ///
    /// # Errors
    /// [`Error::NotPublic`].
    pub fn check_literal(self, url: &Url) -> Result<(), Error> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host.parse().map_or(Ok(()), |address| self.check(address))
    }

    fn check(self, address: IpAddr) -> Result<(), Error> {
        if self == Self::Anywhere || is_public(address) { Ok(()) } else { Err(Error::NotPublic(address)) }
    }

    /// The addresses of a host. One of them that may not be connected to is enough to refuse it.
    ///
    /// # Errors
    /// [`Error::NotPublic`], [`Error::Unresolved`].
    pub async fn lookup(self, host: &str) -> Result<Vec<SocketAddr>, Error> {
        let addresses: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no address").into());
        }
        for address in &addresses {
            self.check(address.ip())?;
        }
        Ok(addresses)
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = *self;
        Box::pin(async move {
            let addresses = reach.lookup(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Parses the URL of a receiver.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Url, String> {
    let too_long = || format!("must have {URL_BYTES_MAX} bytes at the most, as it is sent");
    if text.len() > URL_BYTES_MAX {
        return Err(too_long());
    }
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    // What is not ASCII takes more bytes once it is escaped, and in that form it is kept.
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(too_long());
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with https:// or http://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user name or password: deliveries are signed".into());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment".into());
    }
    Ok(url)
}

/// Whether an address is on the public internet, by the registries of IANA for special purposes. IPv4 addresses within
/// IPv6 ones are not: they would lead wherever whoever translates them thinks.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    const SPECIAL: &[([u8; 4], u32)] = &[
        ([0, 0, 0, 0], 8),       // this network
        ([10, 0, 0, 0], 8),      // private
        ([100, 64, 0, 0], 10),   // carriers' NAT
        ([127, 0, 0, 0], 8),     // loopback
        ([169, 254, 0, 0], 16),  // link-local, and the metadata of clouds
        ([172, 16, 0, 0], 12),   // private
        ([192, 0, 0, 0], 24),    // protocol assignments
        ([192, 0, 2, 0], 24),    // documentation
        ([192, 88, 99, 0], 24),  // 6to4 relays
        ([192, 168, 0, 0], 16),  // private
        ([198, 18, 0, 0], 15),   // benchmarks
        ([198, 51, 100, 0], 24), // documentation
        ([203, 0, 113, 0], 24),  // documentation
        ([224, 0, 0, 0], 3),     // multicast, reserved, broadcast
    ];
    let bits = address.to_bits();
    !SPECIAL.iter().any(|&(network, length)| (bits ^ u32::from_be_bytes(network)) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // All that is given out is in 2000::/3. Loopback, link-local, unique local, multicast, mapped and NAT64 are not.
    const GLOBAL: (u128, u32) = (0x2000 << 112, 3);
    const SPECIAL: &[(u128, u32)] = &[
        (0x2001 << 112, 23),               // protocol assignments, among them Teredo, benchmarks and ORCHID
        (0x2001 << 112 | 0xdb8 << 96, 32), // documentation
        (0x2002 << 112, 16),               // 6to4
        (0x3fff << 112, 20),               // documentation
    ];
    let bits = address.to_bits();
    let is_in = |&(network, length): &(u128, u32)| (bits ^ network) >> (128 - length) == 0;
    is_in(&GLOBAL) && !SPECIAL.iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700:4700::1111",
            "3ffe::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_address_is_refused_however_it_is_written() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
            "http://0/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "https://169.254.169.254/latest/meta-data/",
            "http://[fe80::1]/",
            "http://[64:ff9b::10.0.0.1]/",
        ] {
            let parsed = parse(url).unwrap();
            assert!(matches!(Reach::Public.check_literal(&parsed), Err(Error::NotPublic(_))), "{url}");
            assert!(Reach::Anywhere.check_literal(&parsed).is_ok(), "{url}");
        }
        for url in ["http://1.1.1.1/", "https://[2606:4700:4700::1111]/", "https://example.com/"] {
            assert!(Reach::Public.check_literal(&parse(url).unwrap()).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_url_is_http_and_nothing_but() {
        let long = format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX));
        let escaped = format!("https://example.com/{}", "é".repeat(URL_BYTES_MAX / 3));
        for (url, message) in [
            ("", "is not a URL: "),
            ("example.com/hook", "is not a URL: "),
            ("http://", "is not a URL: "),
            ("http://[::1", "is not a URL: "),
            ("ftp://example.com/", "must begin with https://"),
            ("file:///etc/passwd", "must begin with https://"),
            ("https://user@example.com/", "must not have a user name"),
            ("https://:password@example.com/", "must not have a user name"),
            ("https://example.com/#here", "must not have a fragment"),
            (&long, "must have 2048 bytes"),
            (&escaped, "must have 2048 bytes"),
        ] {
            let refused = parse(url).unwrap_err();
            assert!(refused.starts_with(message), "{url}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_name_is_refused_by_what_it_leads_to() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1"] {
            assert!(matches!(Reach::Public.lookup(host).await, Err(Error::NotPublic(_))), "{host}");
            assert!(!Reach::Anywhere.lookup(host).await.unwrap().is_empty(), "{host}");
        }
        let nowhere = Reach::Anywhere.lookup("no-such-name.invalid").await;
        assert!(matches!(nowhere, Err(Error::Unresolved(_))), "{nowhere:?}");
    }
}
