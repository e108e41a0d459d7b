//! From which address a request comes: its connection's, or what a trusted proxy says of it.
//!
//! A proxy adds whom it took a request from at the end of `X-Forwarded-For`; what stands before that anybody may have
//! written. So the list is read from its end, for as long as whoever wrote the next entry is trusted.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::HeaderMap;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// How much longer an IPv4 address is once it is mapped into IPv6, in bits.
const MAPPED_BITS: u32 = 96;

/// An address, or all that begin with the same bits. Those of IPv4 are mapped into IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    bits: u128,
    length: u32,
}

impl Network {
    /// An address, perhaps with a slash and the number of bits that count.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().ok()?;
        let (before, longest) = if address.is_ipv4() { (MAPPED_BITS, 32) } else { (0, 128) };
        let length: u32 = length.map_or(Some(longest), |length| length.parse().ok())?;
        (length <= longest).then_some(Self { bits: bits(address), length: before + length })
    }

    fn holds(self, address: IpAddr) -> bool {
        (self.bits ^ bits(address)).leading_zeros() >= self.length
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A text that is neither an address nor a network.
#[derive(Debug)]
pub struct NoNetwork(pub String);

/// The proxies whose word is taken.
#[derive(Debug)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// Those with these addresses, or in these networks.
    ///
    /// # Errors
    /// The first text that is neither.
    pub fn new(texts: &[String]) -> Result<Self, NoNetwork> {
        let parse = |text: &String| Network::parse(text).ok_or_else(|| NoNetwork(text.clone()));
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Who asks, over a connection from `peer`.
    #[must_use]
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut caller = peer.to_canonical();
        if !self.trusts(caller) {
            return caller;
        }
        let lines = headers.get_all(FORWARDED_FOR).map(|line| line.to_str().unwrap_or_default());
        let hops: Vec<_> = lines.flat_map(|line| line.split(',')).collect();
        for hop in hops.into_iter().rev() {
            let Some(address) = address(hop.trim()) else { break };
            caller = address.to_canonical();
            if !self.trusts(caller) {
                break;
            }
        }
        caller
    }

    /// Whether this address is one of theirs.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(address))
    }
}

/// An address as proxies write them, some with a port.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn proxies(texts: &[&str]) -> Result<Proxies, NoNetwork> {
        Proxies::new(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn only_the_word_of_trusted_proxies_is_taken() {
        let some = proxies(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"]).unwrap();
        for (peer, lines, caller) in [
            ("203.0.113.1", &[][..], "203.0.113.1"),
            ("203.0.113.1", &["198.51.100.1"], "203.0.113.1"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1:4711"], "198.51.100.1"),
            ("fd00::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("fd00::1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            // What a caller has made up stands before what the proxies say.
            ("10.1.2.3", &["1.1.1.1, 198.51.100.1, 192.0.2.7"], "198.51.100.1"),
            ("10.1.2.3", &["1.1.1.1", "198.51.100.1,192.0.2.7"], "198.51.100.1"),
            ("10.1.2.3", &["10.9.9.9, 192.0.2.8"], "192.0.2.8"),
            ("10.1.2.3", &["198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1, nonsense"], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1, "], "10.1.2.3"),
            ("10.1.2.3", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            ("11.0.0.1", &["198.51.100.1"], "11.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(HeaderName::from_static(FORWARDED_FOR), HeaderValue::from_static(line));
            }
            assert_eq!(some.caller(peer.parse().unwrap(), &headers).to_string(), caller, "{peer} {lines:?}");
        }
        let everybody = proxies(&["0.0.0.0/0", "::/0"]).unwrap();
        assert!(everybody.trusts("203.0.113.1".parse().unwrap()) && everybody.trusts("2001:db8::1".parse().unwrap()));
        for wrong in ["", "proxy.example", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1", "10.0"] {
            assert!(proxies(&[wrong]).is_err(), "{wrong}");
        }
    }
}
