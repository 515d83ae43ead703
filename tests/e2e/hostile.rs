//! Hostile networks: names that resolve to what must not be dialled, and receivers that answer with
//! anything but HTTP as it should be. Everything here stays on loopback: 127.0.1.0/24, which the
//! servers open, stands for the public internet, and the rest of loopback for private networks.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Ca, Database, Dns, Identity, Receiver, Records, Reply, Server, ServerBuilder, Tenant, Tree,
    execute, project_with_items, value, wait_until,
};

/// A server under load may be slow; a promise that is kept never waits that long.
const SOON: Duration = Duration::from_secs(30);
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));

/// A server, the names that it believes in and the authority that it trusts.
struct Stage {
    server: Server,
    dns: Dns,
    ca: Ca,
}

fn builder(dns: &Dns) -> ServerBuilder {
    Server::builder(Tree::shared())
        .preloaded()
        .name_server(dns)
        .settings(&[
            ("plugin_webhooks.allowed_networks", "127.0.1.0/24"),
            ("plugin_webhooks.poll_interval", "100ms"),
            ("fsync", "off"),
        ])
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let (dns, ca) = (Dns::start(), Ca::create(Tree::shared()));
        let ca_file = ca.pem_path().display().to_string();
        let server = builder(&dns)
            .setting("plugin_webhooks.ca_file", &ca_file)
            .setting("plugin_webhooks.show_internal_bodies", "on")
            .start();
        Stage { server, dns, ca }
    })
}

fn config(url: &str) -> String {
    format!(r#"{{"webhook_url": "{url}", "timeout_ms": 1000}}"#)
}

/// The error of the only attempt of one change of `items`, sent to `url`, and how long it took.
#[track_caller]
fn failure(database: &Database, url: &str) -> (String, Duration) {
    let tenant = Tenant::install(database, &config(url));
    tenant.subscribe("items", &["INSERT"], None, false);
    let mut client = database.client();
    let started = Instant::now();
    tenant.insert_items(&mut client, 1);
    let delivery = tenant.wait_failed(&mut client, SOON, 1);
    assert_eq!(delivery.status, "pending");
    (delivery.last_error.expect("a reason"), started.elapsed())
}

#[track_caller]
fn deliver(database: &Database, url: &str) {
    let tenant = Tenant::install(database, &config(url));
    tenant.subscribe("items", &["INSERT"], None, false);
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    tenant.wait_delivered(&mut client, SOON);
}

/// Asserts that a tenant cannot read from this where a name leads to.
#[track_caller]
fn assert_discreet(error: &str) {
    for part in ["127.", "10.0", "169.254", "::", "ffff"] {
        assert!(!error.contains(part), "{error}");
    }
}

/// Listeners that nobody may ever connect to.
struct Trap(Vec<TcpListener>);

impl Trap {
    fn at(addresses: &[&str], port: u16) -> io::Result<Trap> {
        let listen = |address: &&str| {
            let address: IpAddr = address.parse().expect("an address");
            let listener = TcpListener::bind(SocketAddr::new(address, port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        addresses
            .iter()
            .map(listen)
            .collect::<io::Result<_>>()
            .map(Trap)
    }

    /// A receiver on the public address, and a trap on each of these behind the same port.
    fn beside_receiver(addresses: &[&str]) -> (Receiver, Trap) {
        loop {
            let receiver = Receiver::http_on(PUBLIC);
            // Somebody else may have the port there.
            if let Ok(trap) = Trap::at(addresses, receiver.address().port()) {
                return (receiver, trap);
            }
        }
    }

    /// Connections wait here until they are accepted: none gets lost.
    #[track_caller]
    fn assert_untouched(&self) {
        for listener in &self.0 {
            let accepted = listener.accept();
            let nobody = matches!(&accepted, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
            assert!(nobody, "somebody connected to {listener:?}: {accepted:?}");
        }
    }
}

mod names {
    use super::*;

    const PRIVATE: [&str; 3] = ["127.0.0.1", "127.0.2.1", "::1"];

    fn crowd(size: usize) -> Vec<IpAddr> {
        let last = |n: usize| u8::try_from(n % 254 + 1).expect("1 to 254");
        (0..size).map(|n| [127, 0, 1, last(n)].into()).collect()
    }

    #[test]
    fn one_private_address_in_an_answer_and_none_of_it_is_dialled() {
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let (receiver, trap) = Trap::beside_receiver(&PRIVATE);
        let mut crowd_first = crowd(499);
        crowd_first.push([127, 0, 2, 1].into());
        let mut crowd_last = crowd_first.clone();
        crowd_last.reverse();
        let answers = [
            Records::of(&["127.0.2.1"]),
            Records::of(&["127.0.1.1", "127.0.2.1"]),
            Records::of(&["127.0.2.1", "127.0.1.1"]),
            Records::of(&["127.0.1.1", "::1"]),
            Records::of(&["127.0.1.1", "::ffff:127.0.0.1"]),
            Records::of(&["127.0.1.1", "::127.0.0.1"]),
            Records::of(&["127.0.1.1", "64:ff9b::7f00:1"]),
            Records::of(&["127.0.1.1", "fe80::1"]),
            Records::of(&["127.0.1.1", "169.254.169.254"]),
            Records::of(&["127.0.1.1", "10.0.0.1"]),
            Records::of(&["127.0.1.1", "0.0.0.0"]),
            Records::Addresses(crowd_first),
            Records::Addresses(crowd_last),
        ];
        for (n, answer) in answers.iter().enumerate() {
            let name = format!("mixed{n}.test");
            stage.dns.answer(&name, answer.clone());
            let plain = receiver.url_for(&name, "/");
            for url in [plain.replace("http:", "https:"), plain] {
                let (error, _) = failure(&database, &url);
                assert!(
                    error.contains("plugin_webhooks.allowed_networks"),
                    "{answer:?}: {error}"
                );
                assert_discreet(&error);
            }
            assert!(stage.dns.lookups(&name) > 0);
        }
        trap.assert_untouched();
        assert_eq!(receiver.connections(), 0);
    }

    #[test]
    fn a_name_that_turns_private_after_its_first_answer_is_not_followed() {
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let (receiver, trap) = Trap::beside_receiver(&PRIVATE);
        let (good, bad) = (Records::of(&["127.0.1.1"]), Records::of(&["127.0.0.1"]));
        stage.dns.answer_in_turn("turning.test", vec![good, bad]);
        let tenant = Tenant::with_items_to(&database, &receiver.url_for("turning.test", "/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        // Checked and dialled is the same answer: a second one would have been bad.
        assert_eq!(stage.dns.lookups("turning.test"), 1);
        wait_until(SOON, "the second answer", || {
            tenant.insert_items(&mut client, 1);
            let settled = |d: &plugin_webhooks_kit::Delivery| {
                d.status == "delivered" || (d.status == "pending" && d.attempts > 0)
            };
            let deliveries = tenant.wait_for(&mut client, SOON, settled);
            deliveries.last().is_some_and(|d| d.attempts > 0)
        });
        let deliveries = tenant.deliveries(&mut client);
        let denied = deliveries.last().expect("a delivery");
        let error = denied.last_error.as_deref().expect("a reason");
        assert!(error.contains("plain http is not allowed"), "{error}");
        assert_discreet(error);
        assert_eq!(receiver.count(), deliveries.len() - 1);
        trap.assert_untouched();
    }

    #[test]
    fn a_name_that_turns_public_is_delivered_to() {
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let (receiver, trap) = Trap::beside_receiver(&PRIVATE);
        let (bad, good) = (Records::of(&["127.0.2.1"]), Records::of(&["127.0.1.1"]));
        stage.dns.answer_in_turn("reformed.test", vec![bad, good]);
        let tenant = Tenant::with_items_to(&database, &receiver.url_for("reformed.test", "/"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        tenant.wait_failed(&mut client, SOON, 1);
        wait_until(SOON, "the second answer", || {
            execute(
                &mut client,
                "update int.plugin_delivery_queue set next_attempt_at = now() where status = 'pending'",
            );
            tenant.delivery(&mut client).status == "delivered"
        });
        trap.assert_untouched();
    }

    #[test]
    fn five_hundred_public_addresses_are_no_trouble() {
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let receiver = Receiver::http_on(PUBLIC);
        stage
            .dns
            .answer("crowd.test", Records::Addresses(crowd(500)));
        deliver(&database, &receiver.url_for("crowd.test", "/"));
        assert_eq!(receiver.count(), 1);
    }

    #[test]
    fn no_answer_a_useless_one_and_a_late_one_are_failed_attempts_within_their_time() {
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let (receiver, trap) = Trap::beside_receiver(&PRIVATE);
        let late = Duration::from_secs(2);
        let unresolved = "the host name could not be resolved";
        let timeout = "the host name could not be resolved within 1000 ms";
        let cases = [
            ("missing", Records::NotFound, unresolved),
            ("empty", Records::of(&[]), unresolved),
            ("broken", Records::Failure, unresolved),
            ("garbage", Records::Garbage, unresolved),
            ("silent", Records::Silence, timeout),
            ("late", Records::Late(late, vec![PUBLIC]), timeout),
            (
                "late-private",
                Records::Late(late, vec![[127, 0, 0, 1].into()]),
                timeout,
            ),
        ];
        for (name, answer, expected) in cases {
            let name = format!("{name}.test");
            stage.dns.answer(&name, answer);
            let (error, took) = failure(&database, &receiver.url_for(&name, "/"));
            assert_eq!(error, expected, "{name}");
            assert!(took < Duration::from_secs(4), "{name} took {took:?}");
            assert!(stage.dns.lookups(&name) > 0, "{name}");
        }
        // A neighbour's name is looked up meanwhile.
        stage.dns.answer("good.test", Records::of(&["127.0.1.1"]));
        deliver(&database, &receiver.url_for("good.test", "/"));
        assert_eq!(receiver.connections(), 1);
        trap.assert_untouched();
    }

    #[test]
    fn allowed_networks_open_exactly_what_they_say() {
        let dns = Dns::start();
        let server = builder(&dns)
            .setting(
                "plugin_webhooks.allowed_networks",
                "127.0.1.0/25, 127.0.3.7, 169.254.0.0/16, fe80::/10",
            )
            .start();
        let database = project_with_items(&server);
        for (address, open) in [
            ("127.0.0.255", false),
            ("127.0.1.1", true),
            ("127.0.1.127", true),
            ("127.0.1.128", false),
            ("127.0.3.6", false),
            ("127.0.3.7", true),
            ("127.0.3.8", false),
        ] {
            let receiver = Receiver::http_on(address.parse().expect("an address"));
            let name = format!("edge-{}.test", address.replace('.', "-"));
            dns.answer(&name, Records::of(&[address]));
            for url in [receiver.url("/"), receiver.url_for(&name, "/")] {
                if open {
                    deliver(&database, &url);
                } else {
                    assert_discreet(&failure(&database, &url).0);
                }
            }
            assert_eq!(receiver.connections() > 0, open, "{address}");
        }
        // A network around a metadata service does not open it.
        dns.answer("metadata.test", Records::of(&["169.254.169.254"]));
        for host in ["metadata.test", "169.254.169.254", "[::ffff:a9fe:a9fe]"] {
            let (error, _) = failure(&database, &format!("http://{host}/latest/meta-data"));
            assert!(error.contains("plain http is not allowed"), "{error}");
            assert_discreet(&error);
        }
    }

    #[test]
    fn an_allowed_network_with_a_port_opens_no_other_port() {
        let (listed, other) = (Receiver::http_on(PUBLIC), Receiver::http_on(PUBLIC));
        let dns = Dns::start();
        dns.answer("name.test", Records::of(&["127.0.1.1"]));
        let server = builder(&dns)
            .setting(
                "plugin_webhooks.allowed_networks",
                &format!("127.0.0.0/16:{}", listed.address().port()),
            )
            .start();
        let database = project_with_items(&server);
        deliver(&database, &listed.url("/"));
        deliver(&database, &listed.url_for("name.test", "/"));
        for url in [other.url("/"), other.url_for("name.test", "/")] {
            let (error, _) = failure(&database, &url);
            assert!(error.contains("plain http is not allowed"), "{error}");
        }
        assert_eq!(other.connections(), 0);
    }
}

mod answers {
    use super::*;

    /// A receiver's answer, and what a tenant reads of it: the whole text, or its start before "…".
    struct Hostile {
        what: &'static str,
        url: String,
        error: String,
    }

    /// The receivers of all hostile answers.
    struct Villains {
        plain: Receiver,
        elsewhere: Receiver,
        expired: Receiver,
        self_signed: Receiver,
        misnamed: Receiver,
    }

    const NONE: Duration = Duration::ZERO;
    const SECOND: Duration = Duration::from_secs(1);
    const GIBIBYTE: &str = "Content-Length: 1073741824\r\n\r\n";

    fn drip(head: &str, chunk: impl Into<Vec<u8>>, every: Duration) -> Reply {
        Reply::Drip {
            head: head.as_bytes().to_vec(),
            chunk: chunk.into(),
            every,
        }
    }

    /// A valid gzip member of 64 MiB of zeros, but for its checksum: one zero and then copies of the
    /// 258 bytes before (RFC 1951, fixed Huffman codes).
    fn gzip_bomb() -> Vec<u8> {
        const COPIES: usize = 64 * 1024 * 1024 / 258;
        let mut bits: Vec<bool> = Vec::with_capacity(COPIES * 13 + 32);
        let mut push = |code: &str| bits.extend(code.bytes().map(|bit| bit == b'1'));
        push("110"); // the last block, fixed codes
        push("00110000"); // the byte 0
        for _ in 0..COPIES {
            push("1100010100000"); // length 258, distance 1
        }
        push("0000000"); // the end
        let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        gzip.extend(bits.chunks(8).map(|byte| {
            let bits = byte.iter().enumerate();
            bits.fold(0, |sum, (n, &bit)| sum | u8::from(bit) << n)
        }));
        gzip.extend_from_slice(&[0; 8]);
        gzip
    }

    /// Hostile bodies behind this status, and what a tenant reads of them.
    fn bodies(status: u16) -> Vec<(&'static str, Reply, String)> {
        let head = |rest: &str| format!("HTTP/1.1 {status} X\r\n{rest}");
        let mut binary = head("\r\n").into_bytes();
        binary.extend_from_slice(b"a\0b\xff\xc3(c\r\n\x1b[31m!");
        let chunked = head("Transfer-Encoding: chunked\r\n\r\n");
        let bomb = Reply::Full {
            status,
            headers: vec![("Content-Encoding".to_owned(), "gzip".to_owned())],
            body: gzip_bomb(),
        };
        let gibibyte = head(GIBIBYTE);
        [
            (
                "gibibyte",
                drip(&gibibyte, vec![b'x'; 65_536], NONE),
                &*"x".repeat(490),
            ),
            ("byte-a-second", drip(&gibibyte, "x", SECOND), "x…"),
            (
                "endless-chunks",
                drip(&chunked, "1\r\nx\r\n".repeat(100), NONE),
                "x…",
            ),
            (
                "binary",
                Reply::RawBytes(binary),
                "a b\u{fffd}\u{fffd}(c   [31m!",
            ),
            ("gzip-bomb", bomb, "…"),
        ]
        .map(|(what, reply, shown)| (what, reply, shown.to_owned()))
        .into()
    }

    impl Villains {
        fn start(ca: &Ca) -> Villains {
            let plain = Receiver::http_on(PUBLIC);
            let elsewhere = Receiver::http();
            let names = ["127.0.1.1"];
            let https = |identity: &Identity| Receiver::https_as(identity, PUBLIC);
            for (path, reply) in [
                (
                    "headers",
                    drip("HTTP/1.1 200 OK\r\n", "X-Filler: x\r\n".repeat(100), NONE),
                ),
                (
                    "header",
                    drip("HTTP/1.1 200 OK\r\nX: ", vec![b'x'; 4096], NONE),
                ),
                ("slow-status", drip("HTTP/1.1 2", "0", SECOND)),
                ("slow-header", drip("HTTP/1.1 200 OK\r\nX: ", "x", SECOND)),
                ("half-status", Reply::RawBytes(b"HTTP/1.1 20".to_vec())),
                (
                    "half-head",
                    Reply::RawBytes(b"HTTP/1.1 200 OK\r\nCont".to_vec()),
                ),
                ("noise", drip("", vec![0; 4096], NONE)),
                (
                    "interim",
                    drip("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100), NONE),
                ),
                (
                    "slow-interim",
                    drip("", "HTTP/1.1 102 Wait\r\n\r\n", SECOND),
                ),
                ("redirect", Reply::Redirect(elsewhere.url("/"))),
                ("silence", Reply::Hang),
                ("close", Reply::Close),
                ("reset", Reply::Reset(Vec::new())),
            ] {
                plain.answer(&format!("/{path}"), reply);
            }
            for status in [200, 500] {
                for (what, reply, _) in bodies(status) {
                    plain.answer(&format!("/{what}-{status}"), reply);
                }
                let half = format!("HTTP/1.1 {status} X\r\nContent-Length: 100\r\n\r\nhalf");
                plain.answer(
                    &format!("/reset-body-{status}"),
                    Reply::Reset(half.into_bytes()),
                );
            }
            Villains {
                plain,
                elsewhere,
                expired: https(&ca.expired_identity(&names)),
                self_signed: https(&Identity::self_signed(&names)),
                misnamed: https(&ca.identity(&["other.example", "127.0.1.2"])),
            }
        }

        /// Every answer that is a failed attempt.
        fn failures(&self) -> Vec<Hostile> {
            let closed = "the connection was closed before a complete answer";
            let timeout = "timeout: no answer within 1000 ms";
            let long = "the head of the answer is longer than 32767 bytes";
            let mut list: Vec<_> = [
                ("headers", "the answer has too many headers"),
                ("header", long),
                ("slow-status", timeout),
                ("slow-header", timeout),
                ("half-status", closed),
                ("half-head", closed),
                ("noise", "the answer is not valid HTTP"),
                // Endless, or too long a head: as the bytes come.
                ("interim", "the …"),
                ("slow-interim", timeout),
                ("redirect", "http 302: redirects are not followed"),
                ("silence", timeout),
                ("close", closed),
                ("reset", closed),
            ]
            .into_iter()
            .map(|(what, error)| self.at(what, &format!("/{what}"), error))
            .collect();
            for (what, _, shown) in bodies(500) {
                let error = format!("http 500: {shown}");
                list.push(self.at(what, &format!("/{what}-500"), &error));
            }
            for (what, receiver, error) in [
                ("expired", &self.expired, "has expired"),
                (
                    "self-signed",
                    &self.self_signed,
                    "is not signed by a trusted authority",
                ),
                ("misnamed", &self.misnamed, "is not valid for the host name"),
            ] {
                let error = format!("TLS: the certificate {error}");
                let url = receiver.url("/");
                list.push(Hostile { what, url, error });
            }
            list
        }

        fn at(&self, what: &'static str, path: &str, error: &str) -> Hostile {
            Hostile {
                what,
                url: self.plain.url(path),
                error: error.to_owned(),
            }
        }
    }

    impl Hostile {
        #[track_caller]
        fn assert_is(&self, error: &str) {
            let expected = match self.error.strip_suffix('…') {
                Some(start) => error.starts_with(start),
                None => error == self.error,
            };
            assert!(expected, "{}: {error:?}, not {:?}", self.what, self.error);
            assert!(error.chars().count() <= 500 && !error.contains(char::is_control));
            assert_discreet(error);
        }
    }

    #[test]
    fn each_costs_one_failed_attempt_with_a_clear_reason_within_its_time() {
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let villains = Villains::start(&stage.ca);
        for hostile in villains.failures() {
            let (error, took) = failure(&database, &hostile.url);
            hostile.assert_is(&error);
            // A second for the answer, a second for the body, and a slow machine.
            assert!(took < Duration::from_secs(5), "{}: {took:?}", hostile.what);
        }
        assert_eq!(villains.elsewhere.connections(), 0);
    }

    #[test]
    fn a_2xx_delivers_whatever_its_body_is() {
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let villains = Villains::start(&stage.ca);
        for (what, ..) in bodies(200) {
            deliver(&database, &villains.plain.url(&format!("/{what}-200")));
        }
    }

    #[test]
    fn a_reset_in_the_middle_of_a_body_is_no_riddle() {
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let villains = Villains::start(&stage.ca);
        let (error, _) = failure(&database, &villains.plain.url("/reset-body-500"));
        // The reset may overtake the bytes before it.
        let known = [
            "http 500: half",
            "http 500: (empty body)",
            "the connection was closed before a complete answer",
        ];
        assert!(known.contains(&error.as_str()), "{error}");
    }

    /// One installation for each URL and round, in tenants of their own.
    fn install(client: &mut Client, plugin: &str, url: &str, rounds: i32) {
        client
            .execute(
                "with plugin as (
                     insert into int.plugins (key, name) values ($1, $1) returning id),
                 installation as (
                     insert into int.plugin_installations (tenant_id, plugin_id, config)
                     select gen_random_uuid(), plugin.id, $2::text::jsonb
                     from plugin, generate_series(1, $3) returning id)
                 insert into int.plugin_webhook_subscriptions
                     (plugin_installation_id, table_schema, table_name, operations)
                 select id, 'public', 'items', '{INSERT}' from installation",
                &[&plugin, &config(url), &rounds],
            )
            .expect("install");
    }

    /// One change for each installation of the plugins like this.
    fn insert_for(client: &mut Client, plugins: &str) {
        client
            .execute(
                "insert into items (tenant_id, title) select tenant_id, 'item'
                 from int.plugin_installations as i join int.plugins as p on p.id = plugin_id
                 where key like $1",
                &[&plugins],
            )
            .expect("insert");
    }

    /// Waits until all deliveries of these plugins had an attempt; returns plugin, status, attempts
    /// and error of each.
    fn settled(client: &mut Client, plugins: &str) -> Vec<(String, String, i32, Option<String>)> {
        let mut rows = Vec::new();
        wait_until(10 * SOON, "every delivery to have an attempt", || {
            rows = client
                .query(
                    "select key, q.status, attempts, last_error
                     from int.plugin_delivery_queue as q
                     join int.plugin_installations as i on i.id = plugin_installation_id
                     join int.plugins as p on p.id = plugin_id where key like $1",
                    &[&plugins],
                )
                .expect("read the queue");
            thread::sleep(Duration::from_millis(50));
            rows.iter().all(|row| {
                row.get::<_, &str>(1) == "delivered"
                    || row.get::<_, &str>(1) == "pending" && row.get::<_, i32>(2) > 0
            })
        });
        let read = |row: &plugin_webhooks_kit::postgres::Row| {
            (row.get(0), row.get(1), row.get(2), row.get(3))
        };
        rows.iter().map(read).collect()
    }

    /// A line of the worker's /proc/…/status, in MB.
    fn memory(worker: i32, line: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("its status");
        let line = status.lines().find_map(|text| text.strip_prefix(line));
        let kilobytes = line.and_then(|text| text.split_whitespace().nth(1));
        kilobytes
            .and_then(|n| n.parse::<f64>().ok())
            .expect("a number")
            / 1024.0
    }

    #[test]
    fn a_hundred_times_each_grows_the_worker_by_less_than_64_mb() {
        const ROUNDS: i32 = 100;
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let villains = Villains::start(&stage.ca);
        let hostile = villains.failures();
        let mut client = database.client();
        // Once each: what the worker needs anyway.
        for (n, hostile) in hostile.iter().enumerate() {
            install(&mut client, &format!("once_{n}"), &hostile.url, 1);
        }
        insert_for(&mut client, "once%");
        settled(&mut client, "once%");
        let worker: i32 = value(
            &mut client,
            "select pid from pg_stat_activity
             where backend_type = 'plugin_webhooks worker' and datname = current_database()",
        );
        let before = memory(worker, "VmRSS");
        // Lets the peak start again from here.
        fs::write(format!("/proc/{worker}/clear_refs"), "5").expect("reset the peak");
        for (n, hostile) in hostile.iter().enumerate() {
            install(&mut client, &format!("often_{n}"), &hostile.url, ROUNDS);
        }
        let started = Instant::now();
        insert_for(&mut client, "often%");
        let deliveries = settled(&mut client, "often%");
        let took = started.elapsed();
        let (peak, after) = (memory(worker, "VmHWM"), memory(worker, "VmRSS"));
        println!(
            "{} attempts in {took:?}: {before:.1} MB before, {peak:.1} MB at most, {after:.1} MB after",
            deliveries.len()
        );
        assert_eq!(deliveries.len(), hostile.len() * ROUNDS as usize);
        for (plugin, status, attempts, error) in deliveries {
            let number = plugin.trim_start_matches("often_").parse::<usize>();
            assert_eq!((status.as_str(), attempts), ("pending", 1), "{plugin}");
            hostile[number.expect("a number")].assert_is(&error.expect("a reason"));
        }
        assert!(
            peak - before < 64.0,
            "{before} MB before, {peak} MB at most"
        );
    }

    #[test]
    fn neighbours_notice_nothing() {
        const CHANGES: usize = 100;
        let (stage, database) = (stage(), project_with_items(&stage().server));
        let villains = Villains::start(&stage.ca);
        let mut client = database.client();
        for (n, hostile) in villains.failures().iter().enumerate() {
            install(&mut client, &format!("hostile_{n}"), &hostile.url, 1);
        }
        let receiver = Receiver::http_on(PUBLIC);
        let neighbour = Tenant::with_items_to(&database, &receiver.url("/"));
        let latencies = |client: &mut Client| -> Vec<Duration> {
            let first = receiver.count();
            let mut latencies: Vec<_> = (1..=CHANGES)
                .map(|n| {
                    neighbour.insert_items(client, 1);
                    let committed = Instant::now();
                    let requests = receiver.wait_for(first + n, SOON);
                    let arrived = requests.last().expect("a request").arrived;
                    arrived.saturating_duration_since(committed)
                })
                .collect();
            latencies.sort();
            latencies
        };
        let alone = latencies(&mut client);
        for _ in 0..20 {
            insert_for(&mut client, "hostile%");
        }
        let together = latencies(&mut client);
        let waiting: i64 = value(
            &mut client,
            "select count(*) from int.plugin_delivery_queue where status in ('pending', 'sending')",
        );
        println!(
            "alone: median {:?}, slowest {:?}; with {waiting} hostile deliveries: median {:?}, slowest {:?}",
            alone[CHANGES / 2],
            alone[CHANGES - 1],
            together[CHANGES / 2],
            together[CHANGES - 1]
        );
        assert!(waiting > 0);
        assert!(
            together[CHANGES - 1] < Duration::from_secs(2),
            "{together:?}"
        );
    }
}

mod quotes {
    use super::*;

    #[test]
    fn a_tenant_reads_what_an_internal_receiver_says_only_where_the_operator_wants_it() {
        const SECRET: &str = "the secret of 10.0.0.7";
        let (dns, receiver) = (Dns::start(), Receiver::http_on(PUBLIC));
        receiver.answer("/ok", Reply::Status(200, SECRET.to_owned()));
        receiver.answer("/no", Reply::Status(500, SECRET.to_owned()));
        let server = builder(&dns).start();
        let database = project_with_items(&server);
        let responses = || -> Vec<Option<String>> {
            let rows = database
                .client()
                .query(
                    "select response_start from int.plugin_delivery_attempts order by id",
                    &[],
                )
                .expect("read the records");
            rows.iter().map(|row| row.get(0)).collect()
        };
        let (error, _) = failure(&database, &receiver.url("/no"));
        let withheld = "http 500: (the body of an internal receiver is not shown)";
        assert_eq!(error, withheld);
        deliver(&database, &receiver.url("/ok"));
        assert_eq!(responses(), [None, None]);

        server.alter_system("plugin_webhooks.show_internal_bodies", "on");
        // The worker reads the file some time after the reload.
        wait_until(SOON, "a quoted receiver", || {
            let (error, _) = failure(&database, &receiver.url("/no"));
            error == format!("http 500: {SECRET}")
        });
        deliver(&database, &receiver.url("/ok"));
        let shown = Some(SECRET.to_owned());
        assert!(responses().ends_with(&[shown.clone(), shown]));
    }
}
