//! Owns the decision which addresses may be dialled. Pure: an address goes in, a verdict comes out.
//! Never resolves a name, never dials, and never puts an address into a message.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

const fn v6(segments: [u16; 8]) -> u128 {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits()
}

/// IPv4 networks that are not the public internet: (first address, prefix length).
const DENIED_V4: [(u32, u8); 19] = [
    (v4(0, 0, 0, 0), 8),
    (v4(10, 0, 0, 0), 8),
    (v4(100, 64, 0, 0), 10),
    (v4(127, 0, 0, 0), 8),
    (v4(169, 254, 0, 0), 16),
    (v4(172, 16, 0, 0), 12),
    (v4(192, 0, 0, 0), 24),
    (v4(192, 0, 2, 0), 24),
    (v4(192, 31, 196, 0), 24),
    (v4(192, 52, 193, 0), 24),
    (v4(192, 88, 99, 0), 24),
    (v4(192, 168, 0, 0), 16),
    (v4(192, 175, 48, 0), 24),
    (v4(198, 18, 0, 0), 15),
    (v4(198, 51, 100, 0), 24),
    (v4(203, 0, 113, 0), 24),
    (v4(224, 0, 0, 0), 4),
    (v4(240, 0, 0, 0), 4),
    (v4(168, 63, 129, 16), 32),
];

/// The only public part of IPv6.
const PUBLIC_V6: (u128, u8) = (v6([0x2000, 0, 0, 0, 0, 0, 0, 0]), 3);

/// Networks within [`PUBLIC_V6`] that are not public: (first address, prefix length).
const DENIED_V6: [(u128, u8); 6] = [
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0]), 23),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]), 32),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0]), 16),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0]), 48),
    (v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0]), 16),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0]), 20),
];

/// Addresses where clouds hand credentials to whoever asks. A wide network in the allow list does
/// not open them: an operator who lists 10.0.0.0/8 or 0.0.0.0/0 hardly means these.
const METADATA_V4: [Ipv4Addr; 10] = [
    Ipv4Addr::new(169, 254, 169, 254), // AWS, Azure, GCP, DigitalOcean, OpenStack, …
    Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS
    Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS
    Ipv4Addr::new(169, 254, 169, 253), // AWS resolver
    Ipv4Addr::new(169, 254, 0, 23),    // Tencent
    Ipv4Addr::new(169, 254, 10, 10),   // Tencent
    Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
    Ipv4Addr::new(168, 63, 129, 16),   // Azure wire server
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle
];

/// Like [`METADATA_V4`].
const METADATA_V6: [Ipv6Addr; 6] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253), // AWS resolver
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),  // AWS EKS
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // GCP
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),   // Scaleway
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // OpenStack
];

/// Networks that an operator opened although they are not public.
///
/// The default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedNetworks {
    v4: Vec<(u32, u8)>,
    v6: Vec<(u128, u8)>,
}

impl AllowedNetworks {
    /// Reads a comma-separated list of networks in CIDR notation and single addresses.
    ///
    /// Space around entries is ignored; an empty or blank list means none. IPv4-mapped entries
    /// (`::ffff:10.0.0.0/104`) count as IPv4.
    ///
    /// # Errors
    /// A sentence that names the first entry that is not an address, has a prefix length out of
    /// range, has bits set after the prefix, or is empty.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut allowed = Self::default();
        if list.trim().is_empty() {
            return Ok(allowed);
        }
        for entry in list.split(',') {
            allowed.add(entry.trim())?;
        }
        Ok(allowed)
    }

    /// Tells whether `addr` is in one of the networks.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr.to_canonical() {
            IpAddr::V4(ip) => self.v4.iter().any(|&net| in_v4(ip, net)),
            IpAddr::V6(ip) => self.v6.iter().any(|&net| in_v6(ip, net)),
        }
    }

    /// Tells whether `addr` itself, not just a network around it, is listed.
    fn contains_exactly(&self, addr: IpAddr) -> bool {
        match addr.to_canonical() {
            IpAddr::V4(ip) => self.v4.contains(&(ip.to_bits(), 32)),
            IpAddr::V6(ip) => self.v6.contains(&(ip.to_bits(), 128)),
        }
    }

    /// Tells whether the operator opened `addr`.
    fn opens(&self, addr: IpAddr) -> bool {
        if is_metadata(addr) {
            self.contains_exactly(addr)
        } else {
            self.contains(addr)
        }
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        if entry.is_empty() {
            return Err("the list has an empty entry between its commas".to_owned());
        }
        let (address, prefix) = match entry.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (entry, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            format!("\"{entry}\" is not an IP address or a network like 10.0.0.0/8")
        })?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(digits) => parse_prefix(digits, width).ok_or_else(|| {
                format!("\"{entry}\" has a prefix length that is not a number from 0 to {width}")
            })?,
        };
        let clean = match address {
            IpAddr::V4(ip) => ip.to_bits() & !mask_v4(prefix) == 0,
            IpAddr::V6(ip) => ip.to_bits() & !mask_v6(prefix) == 0,
        };
        if !clean {
            return Err(format!(
                "\"{entry}\" has bits set after its prefix; name a single address without \"/{prefix}\", or the first address of the network"
            ));
        }
        match address {
            IpAddr::V4(ip) => self.v4.push((ip.to_bits(), prefix)),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(mapped) if prefix >= 96 => self.v4.push((mapped.to_bits(), prefix - 96)),
                _ => self.v6.push((ip.to_bits(), prefix)),
            },
        }
        Ok(())
    }
}

/// Why an address may not be dialled. The text names the rule, never the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The address is not public and no allowed network opens it.
    NotPublic,
    /// Plain `http` to an address that no allowed network opens.
    PlainHttp,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPublic => {
                "the host's address is not public and not opened by plugin_webhooks.allowed_networks"
            }
            Self::PlainHttp => {
                "plain http is not allowed: use https, or have the network listed in plugin_webhooks.allowed_networks"
            }
        })
    }
}

impl std::error::Error for Denied {}

/// Tells whether `addr` may be dialled, `plain_http` or with TLS.
///
/// Public addresses may be dialled with TLS; every other address, and plain http anywhere, needs
/// an entry in `allowed`. Addresses of cloud metadata services need an entry of exactly that
/// address. The caller asks for each resolved address and gives up at the first denied one.
///
/// # Errors
/// Plain http to an address that is not opened is always [`Denied::PlainHttp`], whatever the
/// address is, so that the answer does not tell a private name from a public one.
pub fn check(addr: IpAddr, plain_http: bool, allowed: &AllowedNetworks) -> Result<(), Denied> {
    let opened = allowed.opens(addr);
    if plain_http && !opened {
        return Err(Denied::PlainHttp);
    }
    let inner_allowed = match isatap(addr) {
        Some(inner) => allowed.opens(inner.into()) || is_public_v4(inner),
        None => true,
    };
    if inner_allowed && (opened || is_public(addr)) {
        Ok(())
    } else {
        Err(Denied::NotPublic)
    }
}

/// Tells whether a tenant may read what a receiver at `addr` answered.
///
/// Always what a public one says, and never what a cloud's metadata service says, even when an
/// entry opens it. `show_internal` decides about the other addresses that an operator opened.
pub fn may_be_quoted(addr: IpAddr, show_internal: bool) -> bool {
    !is_metadata(addr) && (show_internal || is_public(addr))
}

fn is_public(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => in_v6(ip, PUBLIC_V6) && !DENIED_V6.iter().any(|&net| in_v6(ip, net)),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !DENIED_V4.iter().any(|&net| in_v4(ip, net))
}

/// Metadata addresses, also when an IPv6 address of a transition scheme carries them.
fn is_metadata(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(ip) => METADATA_V4.contains(&ip),
        IpAddr::V6(ip) => {
            METADATA_V6.contains(&ip) || carried_v4(ip).iter().any(|ip| METADATA_V4.contains(ip))
        }
    }
}

/// Every place where an IPv6 transition scheme may carry an IPv4 address.
fn carried_v4(ip: Ipv6Addr) -> [Ipv4Addr; 3] {
    let bits = ip.to_bits();
    // The casts cut out the 32 bits meant.
    let last = bits as u32; // v4-compatible, translated, NAT64, ISATAP
    let six_to_four = (bits >> 80) as u32;
    let teredo_client = !last;
    [last, six_to_four, teredo_client].map(Ipv4Addr::from_bits)
}

/// The IPv4 address within an ISATAP interface identifier (RFC 5214).
fn isatap(addr: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = addr else { return None };
    let [.., e, f, g, h] = ip.segments();
    // The universal/local and group bits of the identifier may be anything.
    (e & !0x0300 == 0 && f == 0x5efe)
        .then(|| Ipv4Addr::from_bits(u32::from(g) << 16 | u32::from(h)))
}

fn parse_prefix(digits: &str, width: u8) -> Option<u8> {
    // `u8::from_str` takes a leading "+".
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&n| plain && n <= width)
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

fn in_v4(ip: Ipv4Addr, (net, prefix): (u32, u8)) -> bool {
    ip.to_bits() & mask_v4(prefix) == net
}

fn in_v6(ip: Ipv6Addr, (net, prefix): (u128, u8)) -> bool {
    ip.to_bits() & mask_v6(prefix) == net
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed(list: &str) -> AllowedNetworks {
        AllowedNetworks::parse(list).unwrap()
    }

    fn verdict(addr: &str, list: &str) -> Result<(), Denied> {
        check(addr.parse().unwrap(), false, &allowed(list))
    }

    #[test]
    fn the_edges_of_every_denied_ipv4_network() {
        // First and last address of each, then the public neighbours where there are some.
        let edges = [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
            (
                "10.0.0.0",
                "10.255.255.255",
                Some("9.255.255.255"),
                Some("11.0.0.0"),
            ),
            (
                "100.64.0.0",
                "100.127.255.255",
                Some("100.63.255.255"),
                Some("100.128.0.0"),
            ),
            (
                "127.0.0.0",
                "127.255.255.255",
                Some("126.255.255.255"),
                Some("128.0.0.0"),
            ),
            (
                "169.254.0.0",
                "169.254.255.255",
                Some("169.253.255.255"),
                Some("169.255.0.0"),
            ),
            (
                "172.16.0.0",
                "172.31.255.255",
                Some("172.15.255.255"),
                Some("172.32.0.0"),
            ),
            (
                "192.0.0.0",
                "192.0.0.255",
                Some("191.255.255.255"),
                Some("192.0.1.0"),
            ),
            (
                "192.0.2.0",
                "192.0.2.255",
                Some("192.0.1.255"),
                Some("192.0.3.0"),
            ),
            (
                "192.31.196.0",
                "192.31.196.255",
                Some("192.31.195.255"),
                Some("192.31.197.0"),
            ),
            (
                "192.52.193.0",
                "192.52.193.255",
                Some("192.52.192.255"),
                Some("192.52.194.0"),
            ),
            (
                "192.88.99.0",
                "192.88.99.255",
                Some("192.88.98.255"),
                Some("192.88.100.0"),
            ),
            (
                "192.168.0.0",
                "192.168.255.255",
                Some("192.167.255.255"),
                Some("192.169.0.0"),
            ),
            (
                "192.175.48.0",
                "192.175.48.255",
                Some("192.175.47.255"),
                Some("192.175.49.0"),
            ),
            (
                "198.18.0.0",
                "198.19.255.255",
                Some("198.17.255.255"),
                Some("198.20.0.0"),
            ),
            (
                "198.51.100.0",
                "198.51.100.255",
                Some("198.51.99.255"),
                Some("198.51.101.0"),
            ),
            (
                "203.0.113.0",
                "203.0.113.255",
                Some("203.0.112.255"),
                Some("203.0.114.0"),
            ),
            (
                "224.0.0.0",
                "239.255.255.255",
                Some("223.255.255.255"),
                None,
            ),
            ("240.0.0.0", "255.255.255.255", None, None),
            (
                "168.63.129.16",
                "168.63.129.16",
                Some("168.63.129.15"),
                Some("168.63.129.17"),
            ),
        ];
        assert_eq!(edges.len(), DENIED_V4.len());
        for (first, last, before, after) in edges {
            for addr in [first, last] {
                assert_eq!(verdict(addr, ""), Err(Denied::NotPublic), "{addr}");
                let mapped = format!("::ffff:{addr}");
                assert_eq!(verdict(&mapped, ""), Err(Denied::NotPublic), "{mapped}");
                let isatap = format!("2600::5efe:{addr}");
                assert_eq!(verdict(&isatap, ""), Err(Denied::NotPublic), "{isatap}");
            }
            for addr in [before, after].into_iter().flatten() {
                assert_eq!(verdict(addr, ""), Ok(()), "{addr}");
                assert_eq!(verdict(&format!("::ffff:{addr}"), ""), Ok(()), "{addr}");
            }
        }
    }

    #[test]
    fn the_edges_of_public_ipv6() {
        let denied = [
            "::",
            "::1",
            "::8.8.8.8",          // v4-compatible
            "::ffff:0:8.8.8.8",   // translated
            "64:ff9b::8.8.8.8",   // NAT64
            "64:ff9b:1::8.8.8.8", // NAT64, local
            "100::1",             // discard
            "1fff:ffff::",
            "2001::1", // Teredo
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "2002::",
            "2002:808:808::1", // 6to4 of 8.8.8.8
            "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2620:4f:8000::",
            "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
            "3ffe::1",
            "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            "4000::",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "fe80::5efe:8.8.8.8", // ISATAP within link-local
            "fec0::1",
            "ff02::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2600::200:5efe:10.0.0.1",
            "2600::100:5efe:127.0.0.1",
            "2600::300:5efe:169.254.169.254",
        ];
        for addr in denied {
            assert_eq!(verdict(addr, ""), Err(Denied::NotPublic), "{addr}");
        }
        let public = [
            "2000::1",
            "2001:200::1",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2600::5efe:8.8.8.8",
            "2606:4700:4700::1111",
            "2620:4f:7fff::1",
            "2620:4f:8001::1",
            "2a00:1450:4001::1",
            "3ffd::1",
            "3fff:1000::1",
        ];
        for addr in public {
            assert_eq!(verdict(addr, ""), Ok(()), "{addr}");
        }
    }

    #[test]
    fn a_listed_network_opens_what_is_in_it_and_plain_http() {
        let list = "10.0.0.0/8, fd00::/8 ,192.0.2.7";
        for addr in ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1", "192.0.2.7"] {
            assert_eq!(verdict(addr, list), Ok(()), "{addr}");
            let addr = addr.parse().unwrap();
            assert_eq!(check(addr, true, &allowed(list)), Ok(()), "{addr}");
        }
        for addr in ["11.0.0.1", "192.0.2.8", "fc00::1", "8.8.8.8"] {
            let addr = addr.parse().unwrap();
            let denied = check(addr, true, &allowed(list));
            assert_eq!(denied, Err(Denied::PlainHttp), "{addr}");
        }
        let public = "8.8.8.0/24";
        assert_eq!(
            check("8.8.8.8".parse().unwrap(), true, &allowed(public)),
            Ok(())
        );
    }

    #[test]
    fn metadata_services_need_an_entry_of_their_own() {
        let wide = "0.0.0.0/0, ::/0, 169.254.0.0/16, 169.254.169.254/31";
        let services = [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "::169.254.169.254",
            "2002:a9fe:a9fe::",
            "2001:0:1:2:3:4:5601:5601", // Teredo
            "fe80::5efe:169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "169.254.170.2",
            "fd00:ec2::254",
            "fd20:ce::254",
        ];
        for addr in services {
            assert_eq!(verdict(addr, wide), Err(Denied::NotPublic), "{addr}");
        }
        for addr in ["169.254.169.254", "fd00:ec2::254", "168.63.129.16"] {
            let prefix = if addr.contains(':') { 128 } else { 32 };
            assert_eq!(verdict(addr, addr), Ok(()));
            assert_eq!(verdict(addr, &format!("{addr}/{prefix}")), Ok(()));
        }
        let mapped = "::ffff:169.254.169.254";
        assert_eq!(verdict(mapped, "169.254.169.254"), Ok(()));
        assert_eq!(verdict("169.254.169.254", mapped), Ok(()));
        assert_eq!(verdict("169.254.1.1", wide), Ok(()));
    }

    #[test]
    fn a_metadata_service_is_never_quoted_and_an_internal_receiver_only_on_request() {
        let quoted = |addr: &str, show| may_be_quoted(addr.parse().unwrap(), show);
        for addr in ["8.8.8.8", "2600::1", "::ffff:8.8.8.8"] {
            assert!(quoted(addr, false) && quoted(addr, true), "{addr}");
        }
        for addr in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(!quoted(addr, false) && quoted(addr, true), "{addr}");
        }
        for addr in ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254"] {
            assert!(!quoted(addr, false) && !quoted(addr, true), "{addr}");
        }
    }

    #[test]
    fn isatap_needs_both_its_addresses() {
        let addr = "fd00::5efe:10.0.0.1";
        assert_eq!(verdict(addr, "fd00::/8"), Err(Denied::NotPublic));
        assert_eq!(verdict(addr, "10.0.0.0/8"), Err(Denied::NotPublic));
        assert_eq!(verdict(addr, "fd00::/8,10.0.0.0/8"), Ok(()));
    }

    #[test]
    fn reads_lists() {
        assert_eq!(allowed(""), AllowedNetworks::default());
        assert_eq!(allowed(" \t"), AllowedNetworks::default());
        let everything = allowed("0.0.0.0/0,::/0");
        for addr in ["0.0.0.0", "255.255.255.255", "::1", "ffff::"] {
            assert!(everything.contains(addr.parse().unwrap()));
        }
        let single = allowed(" 10.1.2.3 ");
        assert!(single.contains("10.1.2.3".parse().unwrap()));
        assert!(single.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!single.contains("10.1.2.4".parse().unwrap()));
        assert_eq!(allowed("::ffff:10.0.0.0/104"), allowed("10.0.0.0/8"));
        // A network of IPv6 around the mapped addresses says nothing about IPv4.
        assert!(!allowed("::/0").contains("::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn names_the_bad_entry_of_a_list() {
        let bad = [
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
            "10.0.0.0/a",
            "10.0.0.0/255.0.0.0",
            "10.0.0.1/8",
            "10.0.0",
            "10",
            "010.0.0.1",
            "0x7f.0.0.1",
            "fd00::1/8",
            "fd00::/129",
            "fe80::1%eth0",
            "[fd00::1]",
            "localhost",
            "example.com",
            "10.0.0.0 - 10.0.0.9",
            "/8",
        ];
        for entry in bad {
            let error = AllowedNetworks::parse(&format!("127.0.0.1, {entry}")).unwrap_err();
            assert!(error.contains(entry), "{error}");
        }
        for list in [",", "10.0.0.1,", ",10.0.0.1", "10.0.0.1,,10.0.0.2"] {
            assert!(AllowedNetworks::parse(list).is_err(), "{list}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_denied_once_its_own_address_is_listed(bits: u32, plain: bool) {
            let addr = IpAddr::from(Ipv4Addr::from_bits(bits));
            prop_assert_eq!(check(addr, plain, &allowed(&addr.to_string())), Ok(()));
        }

        #[test]
        fn mapped_addresses_are_judged_as_ipv4(bits: u32, plain: bool) {
            let ip = Ipv4Addr::from_bits(bits);
            let list = allowed("10.0.0.0/8");
            let mapped = check(ip.to_ipv6_mapped().into(), plain, &list);
            prop_assert_eq!(check(ip.into(), plain, &list), mapped);
        }

        #[test]
        fn plain_http_is_always_denied_without_a_list(bits: u128) {
            let none = AllowedNetworks::default();
            let addr = IpAddr::from(Ipv6Addr::from_bits(bits));
            prop_assert_eq!(check(addr, true, &none), Err(Denied::PlainHttp));
        }

        #[test]
        fn only_a_part_of_2000_3_is_public(bits: u128) {
            let ip = Ipv6Addr::from_bits(bits);
            if check(ip.into(), false, &AllowedNetworks::default()).is_ok() {
                prop_assert!(ip.to_ipv4_mapped().is_some() || ip.segments()[0] & 0xe000 == 0x2000);
            }
        }
    }
}
