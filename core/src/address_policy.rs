//! Owns the decision which addresses may be dialled. Pure: it says yes to an address, or why not.
//! Never resolves a name, never dials, and never puts an address into a message.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::excerpt::excerpt;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// The network whose first address starts with these segments and ends in zeros.
const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 networks that are not the public internet.
const DENIED_V4: [Ipv4Net; 19] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 52, 193, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(192, 175, 48, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    v4(168, 63, 129, 16, 32),
];

/// The only public part of IPv6.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// Networks within [`PUBLIC_V6`] that are not public.
const DENIED_V6: [Ipv6Net; 6] = [
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    v6(0x2002, 0, 0, 16),
    v6(0x2620, 0x4f, 0x8000, 48),
    v6(0x3ffe, 0, 0, 16),
    v6(0x3fff, 0, 0, 20),
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
pub struct AllowedNetworks(Vec<Opened>);

/// One entry: a network, on one port or on all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opened {
    network: IpNet,
    port: Option<NonZeroU16>,
}

impl Opened {
    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|opened| opened.get() == port)
    }
}

impl AllowedNetworks {
    /// Reads a comma-separated list of networks in CIDR notation and single addresses, each with an
    /// optional port behind it: `10.0.0.0/8`, `10.0.0.5:8443`, `[fd00::/8]:8443`.
    ///
    /// Space around entries is ignored; an empty or blank list means none. IPv4-mapped entries
    /// (`::ffff:10.0.0.0/104`) count as IPv4.
    ///
    /// # Errors
    /// A sentence that names the first entry that is not an address, has a prefix length or port out
    /// of range, has bits set after the prefix, or is empty.
    pub fn parse(list: &str) -> Result<Self, String> {
        if list.trim().is_empty() {
            return Ok(Self::default());
        }
        let entries = list.split(',').map(|entry| parse_entry(entry.trim()));
        Ok(Self(entries.collect::<Result<_, _>>()?))
    }

    /// Tells whether the operator opened `ip` on `port`.
    fn open(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        let itself = IpNet::from(ip);
        let only_itself = is_metadata(ip);
        self.0.iter().any(|opened| {
            opened.has_port(port)
                && if only_itself {
                    opened.network == itself
                } else {
                    opened.network.contains(&ip)
                }
        })
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
                "the host's address is not public, and plugin_webhooks.allowed_networks does not open it on this port"
            }
            Self::PlainHttp => {
                "plain http is not allowed: use https, or have the network listed in plugin_webhooks.allowed_networks"
            }
        })
    }
}

impl std::error::Error for Denied {}

/// Tells whether `target` may be dialled, `plain_http` or with TLS.
///
/// Public addresses may be dialled with TLS on any port; every other address, and plain http
/// anywhere, needs an entry in `allowed` that opens the port. Addresses of cloud metadata services
/// need an entry of exactly that address. The caller asks for each resolved address and gives up at
/// the first denied one.
///
/// # Errors
/// Plain http to a target that is not opened is always [`Denied::PlainHttp`], whatever the
/// address is, so that the answer does not tell a private name from a public one.
pub fn check(
    target: SocketAddr,
    plain_http: bool,
    allowed: &AllowedNetworks,
) -> Result<(), Denied> {
    let (ip, port) = (target.ip(), target.port());
    let opened = allowed.open(ip, port);
    if plain_http && !opened {
        return Err(Denied::PlainHttp);
    }
    let inner_allowed = match isatap(ip) {
        Some(inner) => allowed.open(inner.into(), port) || is_public_v4(inner),
        None => true,
    };
    if inner_allowed && (opened || is_public(ip)) {
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
        IpAddr::V6(ip) => PUBLIC_V6.contains(&ip) && !DENIED_V6.iter().any(|net| net.contains(&ip)),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !DENIED_V4.iter().any(|net| net.contains(&ip))
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
    let [.., e, f, _, _] = ip.segments();
    // The universal/local and group bits of the identifier may be anything; the address is the
    // last 32 bits, which the cast cuts out.
    (e & !0x0300 == 0 && f == 0x5efe).then(|| Ipv4Addr::from_bits(ip.to_bits() as u32))
}

/// Reads a network or a single address, with or without a port. An address of IPv6 before a port
/// stands in brackets.
fn parse_entry(entry: &str) -> Result<Opened, String> {
    if entry.is_empty() {
        return Err("the list has an empty entry between its commas".to_owned());
    }
    let with_port = match entry.strip_prefix('[') {
        Some(rest) => rest
            .split_once("]:")
            .filter(|(network, _)| network.contains(':')),
        // With more than one colon it is an address of IPv6.
        None => entry
            .split_once(':')
            .filter(|(_, port)| !port.contains(':')),
    };
    let (network, port) = match with_port {
        Some((network, port)) => (network, Some(port)),
        None => (entry, None),
    };
    let port = match port {
        None => None,
        Some(digits) => Some(number(digits).ok_or_else(|| {
            format!(
                "\"{}\" has a port that is not a number from 1 to 65535",
                excerpt(entry)
            )
        })?),
    };
    let network =
        parse_network(network).map_err(|reason| format!("\"{}\" {reason}", excerpt(entry)))?;
    Ok(Opened { network, port })
}

/// The address goes through the standard library: `ipnet` would take 010.0.0.1 for 10.0.0.1, where
/// others read an octal number.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| "is not an IP address or a network like 10.0.0.0/8".to_owned())?;
    let single = IpNet::from(address);
    let network = match prefix {
        None => single,
        Some(digits) => number(digits)
            .and_then(|prefix| IpNet::new(address, prefix).ok())
            .ok_or_else(|| {
                let width = single.max_prefix_len();
                format!("has a prefix length that is not a number from 0 to {width}")
            })?,
    };
    if network.network() != address {
        let prefix = network.prefix_len();
        return Err(format!(
            "has bits set after its prefix; name a single address without \"/{prefix}\", \
             or the first address of the network"
        ));
    }
    Ok(unmapped(network))
}

/// A number of plain digits: the standard library takes a leading "+".
fn number<N: FromStr>(digits: &str) -> Option<N> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// A network of IPv4-mapped addresses as one of IPv4.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let v4 = v6.addr().to_ipv4_mapped().and_then(|address| {
        let prefix = v6.prefix_len().checked_sub(96)?;
        Ipv4Net::new(address, prefix).ok()
    });
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
