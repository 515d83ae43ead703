//! Which URLs a tenant may aim at, judged by the same parser and policy that decide what is
//! dialled. Nothing is dialled and no name is looked up here.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};

use plugin_webhooks_core::{
    address_policy::{self, AllowedNetworks},
    endpoint::{read_stored, validate},
};
use url::Host;

enum Target {
    Refused,
    Denied,
    Allowed,
    Name,
}

fn target(scheme: &str, host: &str) -> Target {
    let config = serde_json::json!({"webhook_url": format!("{scheme}://{host}/hook")}).to_string();
    let Ok(endpoint) = read_stored(Some(&config)) else {
        return Target::Refused;
    };
    let ip: IpAddr = match endpoint.url.host().unwrap() {
        Host::Ipv4(ip) => ip.into(),
        Host::Ipv6(ip) => ip.into(),
        Host::Domain(_) => return Target::Name,
    };
    let port = endpoint.url.port_or_known_default().unwrap();
    let target = SocketAddr::new(ip, port);
    match address_policy::check(target, scheme == "http", &AllowedNetworks::default()) {
        Ok(()) => Target::Allowed,
        Err(_) => Target::Denied,
    }
}

const BAD: &[&str] = &[
    // Loopback in every notation that some parser takes for an address.
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.1.",
    "2130706433",
    "2130706433.",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.0x0.0.1",
    "0x7f.0.00.0001",
    "127.255.255.254",
    "0",
    "0.0.0.0",
    "0x0",
    "00",
    "１２７.０.０.１",
    "127。0。0。1",
    "127．0．0．1",
    "①②⑦.⓪.⓪.①",
    "%31%32%37.0.0.1",
    "127.0.0.1%00.example.com",
    "127.0.0.256",
    "127.0.0.0.1",
    "4294967296",
    "0x100000000",
    "08.0.0.1",
    "1.2.3.09",
    "0000000000177.0.0.1",
    "127.0.0.0x1",
    "127｡0｡0｡1",
    "127.0.0\u{ad}.1",
    "127.0.0.\u{200b}1",
    "0x7f000001.",
    "0x.0x.0x.0x",
    // Private, shared, link-local, metadata.
    "10.0.0.1",
    "10.1",
    "0xa000001",
    "012.0.0.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.257",
    "3232235521",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "0xa9.0xfe.0xa9.0xfe",
    "169.254.170.2",
    "100.127.255.255",
    "198.19.255.255",
    "239.255.255.255",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "4294967295",
    // IPv6, from every listed range.
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::127.0.0.1]",
    "[::8.8.8.8]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:10.0.0.1]",
    "[::ffff:0:8.8.8.8]",
    "[64:ff9b::8.8.8.8]",
    "[64:ff9b:1::8.8.8.8]",
    "[64:ff9b::a9fe:a9fe]",
    "[1fff:ffff::1]",
    "[4000::1]",
    "[2001:1ff:ffff::1]",
    "[2001:20::1]",
    "[2001:db8:ffff::1]",
    "[2002:ffff:ffff::1]",
    "[2620:4f:8000:ffff::1]",
    "[3ffe:ffff::1]",
    "[3fff:fff::1]",
    "[fdff::1]",
    "[febf::1]",
    "[ffff::1]",
    "[2600::100:5efe:10.0.0.1]",
    "[2600::300:5efe:127.0.0.1]",
    "[0:0:0:0:0:0:127.0.0.1]",
    "[100::1]",
    "[2001::1]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[2001:10::1]",
    "[2001:db8::1]",
    "[2002:7f00:1::]",
    "[2002:808:808::1]",
    "[2620:4f:8000::1]",
    "[3ffe::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fe80::5efe:10.0.0.1]",
    "[2600::5efe:10.0.0.1]",
    "[2600::200:5efe:169.254.169.254]",
    "[fec0::1]",
    "[ff02::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[::1%lo]",
    "[v1.fe80]",
    "[::1",
    "::1",
    "[127.0.0.1]",
    "[::127.0.0.1.]",
    "[::ffff:0x7f000001]",
    // Not a host at all, or one behind another.
    "",
    ":80",
    "user@127.0.0.1",
    "8.8.8.8@127.0.0.1",
    "8.8.8.8:80@127.0.0.1",
    "8.8.8.8\\@127.0.0.1:0",
    "exa mple.com",
    "exa\u{0}mple.com",
    "exa<mple.com",
    "xn--a",
    "1.1.1.1 &@127.0.0.1#@8.8.8.8",
];

#[test]
fn no_notation_of_a_forbidden_address_gets_through() {
    assert!(BAD.len() >= 60);
    for host in BAD {
        for scheme in ["http", "https", "HTTPS"] {
            match target(scheme, host) {
                Target::Refused | Target::Denied => {}
                Target::Allowed => panic!("{host:?} is allowed"),
                Target::Name => panic!("{host:?} would be looked up as a name"),
            }
        }
    }
}

#[test]
fn public_addresses_and_names_get_through() {
    let addresses = [
        "8.8.8.8",
        "8.8.8.8:8443",
        "1.1.1.1",
        "0x08080808",
        "134744072",
        "9.9.9.9.",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "[2606:4700:4700::1111]",
        "[2001:4860:4860::8888]:443",
        "[2a00:1450:4001:800::200e]",
        "[::ffff:8.8.8.8]",
        "[2003::1]",
        "[2001:200::1]",
        "[3fff:1000::1]",
        "208.67.222.222.",
        "[2600::5efe:8.8.8.8]",
    ];
    assert!(addresses.len() >= 20);
    for host in addresses {
        assert!(matches!(target("https", host), Target::Allowed), "{host}");
        // Without an allowed network, plain http goes nowhere.
        assert!(matches!(target("http", host), Target::Denied), "{host}");
    }
    let names = [
        "example.com",
        "example.com.",
        "EXAMPLE.com:8443",
        "localhost",
        "hook",
        "my_host.example",
        "1.example.com",
        "bücher.example",
        "127.0.0.1.nip.io",
        "0x7f.example",
    ];
    for host in names {
        assert!(matches!(target("https", host), Target::Name), "{host}");
        let config = format!(r#"{{"webhook_url": "https://{host}/"}}"#);
        assert_eq!(validate(&config), Ok(()), "{host}");
    }
}
