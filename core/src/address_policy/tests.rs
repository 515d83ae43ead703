use proptest::prelude::*;

use super::*;

fn allowed(list: &str) -> AllowedNetworks {
    AllowedNetworks::parse(list).unwrap()
}

/// On a port that has no meaning here.
fn target(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 4443)
}

fn verdict(addr: &str, list: &str) -> Result<(), Denied> {
    check(target(addr.parse().unwrap()), false, &allowed(list))
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
        let addr = target(addr.parse().unwrap());
        assert_eq!(check(addr, true, &allowed(list)), Ok(()), "{addr}");
    }
    for addr in ["11.0.0.1", "192.0.2.8", "fc00::1", "8.8.8.8"] {
        let addr = target(addr.parse().unwrap());
        let denied = check(addr, true, &allowed(list));
        assert_eq!(denied, Err(Denied::PlainHttp), "{addr}");
    }
    let public = "8.8.8.0/24";
    assert_eq!(
        check("8.8.8.8:80".parse().unwrap(), true, &allowed(public)),
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
fn a_denial_names_the_setting_that_opens_networks() {
    for denied in [Denied::NotPublic, Denied::PlainHttp] {
        let text = denied.to_string();
        assert!(text.contains("plugin_webhooks.allowed_networks"), "{text}");
    }
    assert!(Denied::PlainHttp.to_string().contains("https"));
}

#[test]
fn reads_lists() {
    assert_eq!(allowed(""), AllowedNetworks::default());
    assert_eq!(allowed(" \t"), AllowedNetworks::default());
    let everything = allowed("0.0.0.0/0,::/0");
    for addr in ["0.0.0.0", "255.255.255.255", "::1", "ffff::"] {
        assert!(everything.open(addr.parse().unwrap(), 1));
    }
    let single = allowed(" 10.1.2.3 ");
    assert!(single.open("10.1.2.3".parse().unwrap(), 1));
    assert!(single.open("::ffff:10.1.2.3".parse().unwrap(), 1));
    assert!(!single.open("10.1.2.4".parse().unwrap(), 1));
    assert_eq!(allowed("::ffff:10.0.0.0/104"), allowed("10.0.0.0/8"));
    assert_eq!(allowed("[::ffff:10.0.0.1]:80"), allowed("10.0.0.1:80"));
    // A network of IPv6 around the mapped addresses says nothing about IPv4.
    assert!(!allowed("::/0").open("::ffff:10.0.0.1".parse().unwrap(), 1));
}

#[test]
fn an_entry_with_a_port_opens_that_port_only() {
    let list = "10.0.0.5:8443, 10.1.0.0/16:80 ,[fd00::1]:8443,[fd01::/16]:80,192.168.0.1,192.168.0.2:1,192.168.0.2:2";
    let opened = [
        "10.0.0.5:8443",
        "10.1.2.3:80",
        "[fd00::1]:8443",
        "[::ffff:10.0.0.5]:8443",
        "[fd01::2]:80",
        "192.168.0.1:1",
        "192.168.0.1:65535",
        "192.168.0.2:1",
        "192.168.0.2:2",
    ];
    let closed = [
        "10.0.0.5:8442",
        "10.0.0.5:443",
        "10.0.0.6:8443",
        "10.1.2.3:443",
        "[fd00::1]:80",
        "[fd00::2]:8443",
        "[fd01::2]:8443",
        "192.168.0.2:3",
    ];
    let check = |target: &str, plain| check(target.parse().unwrap(), plain, &allowed(list));
    for target in opened {
        assert_eq!(check(target, false), Ok(()), "{target}");
        assert_eq!(check(target, true), Ok(()), "{target}");
    }
    for target in closed {
        assert_eq!(check(target, false), Err(Denied::NotPublic), "{target}");
        assert_eq!(check(target, true), Err(Denied::PlainHttp), "{target}");
    }
}

#[test]
fn a_port_narrows_what_an_entry_opens_of_public_and_metadata_addresses() {
    let check = |target: &str, plain, list| check(target.parse().unwrap(), plain, &allowed(list));
    // TLS to a public address needs no entry.
    assert_eq!(check("8.8.8.8:444", false, "8.8.8.8:80"), Ok(()));
    assert_eq!(check("8.8.8.8:80", true, "8.8.8.8:80"), Ok(()));
    let plain = check("8.8.8.8:81", true, "8.8.8.8:80");
    assert_eq!(plain, Err(Denied::PlainHttp));
    let metadata = "169.254.169.254:80";
    assert_eq!(check(metadata, true, metadata), Ok(()));
    let wide = check(metadata, false, "169.254.0.0/16:80");
    assert_eq!(wide, Err(Denied::NotPublic));
    let other = check("169.254.169.254:81", false, metadata);
    assert_eq!(other, Err(Denied::NotPublic));
    // Both addresses of ISATAP on the same port.
    let isatap = "[fd00::5efe:10.0.0.1]:80";
    assert_eq!(check(isatap, false, "[fd00::/8]:80,10.0.0.0/8:80"), Ok(()));
    let inner = check(isatap, false, "[fd00::/8]:80,10.0.0.0/8:81");
    assert_eq!(inner, Err(Denied::NotPublic));
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
        "010.0.0.0/8",
        "0x7f.0.0.1",
        "fd00::1/8",
        "fd00::/129",
        "fe80::1%eth0",
        "[fd00::1]",
        "[fd00::1",
        "[fd00::1]8443",
        "[10.0.0.1]:8443",
        "fd00::/8:8443",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:+80",
        "10.0.0.1:-80",
        "10.0.0.1:https",
        "10.0.0.1:80:80",
        "10.0.0.1:80/8",
        "10.0.0.1/8:80",
        "[fd00::1]:",
        "[fd00::1]:0",
        "[fd00::1]:80:80",
        "[fd00::1/8]:80",
        "localhost:80",
        ":80",
        "localhost",
        "example.com",
        "10.0.0.0 - 10.0.0.9",
        "/8",
    ];
    for entry in bad {
        let error = AllowedNetworks::parse(&format!("127.0.0.1, {entry}")).unwrap_err();
        assert!(error.contains(entry), "{error}");
    }
    let long = AllowedNetworks::parse(&"1".repeat(10_000)).unwrap_err();
    assert!(long.chars().count() < 200, "{long}");
    for list in [",", "10.0.0.1,", ",10.0.0.1", "10.0.0.1,,10.0.0.2"] {
        assert!(AllowedNetworks::parse(list).is_err(), "{list}");
    }
}

proptest! {
    #[test]
    fn nothing_is_denied_once_its_own_address_is_listed(bits: u32, plain: bool) {
        let ip = IpAddr::from(Ipv4Addr::from_bits(bits));
        prop_assert_eq!(check(target(ip), plain, &allowed(&ip.to_string())), Ok(()));
    }

    #[test]
    fn an_address_listed_with_its_port_is_open_there_and_nowhere_else(
        ip: IpAddr,
        port in 1..=u16::MAX,
        other in 1..=u16::MAX,
    ) {
        // It prints brackets around IPv6, as the list wants them.
        let target = SocketAddr::new(ip, port);
        let list = allowed(&target.to_string());
        prop_assert!(list.open(ip, port));
        prop_assert_eq!(list.open(ip, other), port == other);
        prop_assert_eq!(check(SocketAddr::new(ip, other), true, &list).is_ok(),
            port == other && isatap(ip).is_none_or(is_public_v4));
    }

    #[test]
    fn a_port_never_opens_more_than_its_entry_without_one(
        ip: IpAddr,
        port in 1..=u16::MAX,
        listed in 1..=u16::MAX,
        prefix in 0..=32_u8,
        plain: bool,
    ) {
        let network = IpNet::new(ip, prefix).unwrap().trunc();
        let (without, with) = match network {
            IpNet::V4(_) => (network.to_string(), format!("{network}:{listed}")),
            IpNet::V6(_) => (network.to_string(), format!("[{network}]:{listed}")),
        };
        let target = SocketAddr::new(ip, port);
        if check(target, plain, &allowed(&with)).is_ok() {
            prop_assert_eq!(check(target, plain, &allowed(&without)), Ok(()));
        }
    }

    #[test]
    fn mapped_addresses_are_judged_as_ipv4(bits: u32, plain: bool) {
        let ip = Ipv4Addr::from_bits(bits);
        let list = allowed("10.0.0.0/8");
        let mapped = check(target(ip.to_ipv6_mapped().into()), plain, &list);
        prop_assert_eq!(check(target(ip.into()), plain, &list), mapped);
    }

    #[test]
    fn plain_http_is_always_denied_without_a_list(bits: u128) {
        let none = AllowedNetworks::default();
        let target = target(Ipv6Addr::from_bits(bits).into());
        prop_assert_eq!(check(target, true, &none), Err(Denied::PlainHttp));
    }

    #[test]
    fn only_a_part_of_2000_3_is_public(bits: u128) {
        let ip = Ipv6Addr::from_bits(bits);
        if check(target(ip.into()), false, &AllowedNetworks::default()).is_ok() {
            prop_assert!(ip.to_ipv4_mapped().is_some() || ip.segments()[0] & 0xe000 == 0x2000);
        }
    }
}
