//! The sender against receivers on loopback, most of them hostile.

use std::{
    collections::BTreeSet,
    env,
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use plugin_webhooks_core::failure::FailureKind;
use plugin_webhooks_core::signature;

use plugin_webhooks_kit::{Received, Receiver};

use crate::support::{
    Bench, PATH, PATIENCE, SECRET, answering, flooding, request, request_to, request_within,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn sends_the_body_as_it_is_and_the_headers() {
    let receiver = Receiver::http();
    let mut request = request(&format!("{}?a=b%20c&d", receiver.url(PATH)));
    request.endpoint.headers = vec![("X-Own".to_owned(), "a b".to_owned())];
    request.event_type = "entity_change.Größe.insert".to_owned();
    let outcome = Bench::new(1).send(request.clone());
    assert_eq!(outcome.result, Ok(200));
    let received = &receiver.wait_for(1, PATIENCE)[0];
    assert_eq!(received.body, request.body.as_bytes());
    assert_eq!(
        (&*received.method, &*received.target, &*received.version),
        ("POST", "/hook?a=b%20c&d", "HTTP/1.1")
    );
    let lines: BTreeSet<_> = received
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .collect();
    let address = receiver.address().to_string();
    let agent = concat!("plugin_webhooks/", env!("CARGO_PKG_VERSION"));
    let signature = signature::sign(SECRET.as_bytes(), &received.body);
    let expected = [
        ("accept", "*/*"),
        ("content-length", "20"),
        ("content-type", "application/json"),
        ("host", address.as_str()),
        ("user-agent", agent),
        ("x-own", "a b"),
        (
            "x-plugin-delivery-id",
            "5f0e8400-e29b-41d4-a716-446655440000",
        ),
        (
            "x-plugin-event-type",
            "entity_change.Gr%C3%B6%C3%9Fe.insert",
        ),
        ("x-plugin-signature", &signature),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(lines, BTreeSet::from(expected));
}

#[test]
fn any_2xx_delivers() {
    let bench = Bench::new(1);
    for status in [200, 201, 202, 204, 299] {
        let receiver = answering(format!(
            "HTTP/1.1 {status} Fine\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(bench.send(request_to(&receiver)).result, Ok(status));
    }
}

#[test]
fn every_other_status_fails_with_the_start_of_the_body() {
    let bench = Bench::new(1);
    let long = "ä".repeat(10_000);
    let answers = [
        (404, "no such hook", "http 404: no such hook".to_owned()),
        (500, "", "http 500: (empty body)".to_owned()),
        (503, " \r\n a\tb\r\n ", "http 503: a b".to_owned()),
        (302, "", "http 302: redirects are not followed".to_owned()),
        (304, "", "http 304: redirects are not followed".to_owned()),
        (999, "what", "http 999: what".to_owned()),
        (400, &long, format!("http 400: {}", "ä".repeat(490))),
    ];
    for (status, body, message) in answers {
        let length = body.len();
        let receiver = answering(format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let failure = bench.failure(request_to(&receiver));
        assert_eq!(failure.kind, FailureKind::Status);
        assert_eq!(failure.status, Some(status));
        assert_eq!(failure.message, message);
        assert_eq!(failure.retry_after, None);
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = answering(OK);
    let bench = Bench::new(1);
    for status in [301, 302, 303, 307, 308] {
        let receiver = answering(format!(
            "HTTP/1.1 {status} Go\r\nLocation: {}\r\nContent-Length: 4\r\n\r\nthere",
            elsewhere.url(PATH)
        ));
        let failure = bench.failure(request_to(&receiver));
        assert_eq!(failure.status, Some(status));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn reports_retry_after() {
    let bench = Bench::new(1);
    let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
    let day = Duration::from_secs(86_400);
    let cases = [
        (
            "120",
            Some(Duration::from_secs(120)..=Duration::from_secs(120)),
        ),
        (
            &soon,
            Some(Duration::from_secs(590)..=Duration::from_secs(600)),
        ),
        (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            Some(Duration::ZERO..=Duration::ZERO),
        ),
        ("99999999999", Some(day..=day)),
        ("99999999999999999999999999", Some(day..=day)),
        ("0", Some(Duration::ZERO..=Duration::ZERO)),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("soon", None),
    ];
    for (value, expected) in cases {
        let receiver = answering(format!(
            "HTTP/1.1 429 Slow\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
        ));
        let after = bench.failure(request_to(&receiver)).retry_after;
        match (after, expected) {
            (None, None) => {}
            (Some(after), Some(range)) if range.contains(&after) => {}
            other => panic!("{value}: {other:?}"),
        }
    }
}

#[test]
fn an_internal_body_is_not_shown_unless_the_operator_wants_it() {
    let bench = Bench::discreet();
    let answers = [
        "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nsecret",
        "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    ];
    for answer in answers {
        let receiver = answering(answer);
        // The second request goes over the kept connection.
        for _ in 0..2 {
            let outcome = bench.send(request_to(&receiver));
            let expected = "http 500: (the body of an internal receiver is not shown)";
            assert_eq!(outcome.result.unwrap_err().message, expected);
            assert_eq!(outcome.response, None);
        }
        assert_eq!(receiver.connections(), 1);
    }
    let receiver = answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    let outcome = bench.send(request_to(&receiver));
    assert_eq!((outcome.result.unwrap(), outcome.response), (200, None));
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let failure = Bench::new(1).failure(request(&url));
    assert_eq!(failure.kind, FailureKind::Connect);
    assert_eq!(failure.message, "connection refused");
}

#[test]
fn an_unknown_host() {
    let failure = Bench::new(1).failure(request_within("https://nowhere.invalid/", 15_000));
    assert_eq!(failure.kind, FailureKind::Dns, "{}", failure.message);
}

#[test]
fn loopback_is_denied_unless_it_is_listed_and_the_text_tells_no_address() {
    let receiver = answering(OK);
    let port = receiver.address().port();
    let bench = Bench::with(1, "10.0.0.0/8", None);
    let mut messages = BTreeSet::new();
    for host in ["127.0.0.1", "localhost", "[::1]", "0x7f.1"] {
        let failure = bench.failure(request(&format!("https://{host}:{port}/")));
        assert_eq!(failure.kind, FailureKind::Denied);
        assert!(!failure.message.contains(char::is_numeric));
        messages.insert(failure.message);
    }
    for host in [
        "169.254.169.254",
        "192.168.1.1",
        "[fd00::1]",
        "[::ffff:127.0.0.1]",
    ] {
        messages.insert(bench.failure(request(&format!("https://{host}/"))).message);
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    for host in ["127.0.0.1", "localhost", "192.168.1.1", "8.8.8.8"] {
        let failure = bench.failure(request(&format!("http://{host}:{port}/")));
        assert_eq!(failure.kind, FailureKind::Denied);
        assert!(failure.message.contains("https"), "{}", failure.message);
    }
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn a_listed_port_opens_no_other_port_of_the_same_address() {
    let (listed, other) = (answering(OK), answering(OK));
    let bench = Bench::with(1, &listed.address().to_string(), None);
    for _ in 0..2 {
        assert_eq!(bench.send(request_to(&listed)).result, Ok(200));
        let failure = bench.failure(request_to(&other));
        assert_eq!(failure.kind, FailureKind::Denied);
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_receiver_that_never_answers_ends_at_the_timeout() {
    let receiver = Receiver::raw(|mut stream, _| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let outcome = Bench::new(1).send(request_to(&receiver));
    let failure = outcome.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert_eq!(failure.message, "timeout: no answer within 1000 ms");
    assert!((900..3000).contains(&outcome.duration.as_millis()));
}

/// Each of these has to end as a failure of this kind, soon after the timeout of one second.
#[test]
fn hostile_heads_end_in_time_with_a_clear_kind() {
    let byte = |bytes: &str| bytes.as_bytes().to_vec();
    let second = Duration::from_millis(200);
    let none = Duration::ZERO;
    let receivers = [
        (
            "endless header lines",
            FailureKind::Protocol,
            flooding("HTTP/1.1 200 OK\r\n", byte("X-A: b\r\n"), none),
        ),
        (
            "one endless header",
            FailureKind::Protocol,
            flooding("HTTP/1.1 200 OK\r\nX-A: ", vec![b'a'; 1000], none),
        ),
        (
            "one endless status line",
            FailureKind::Protocol,
            flooding("HTTP/1.1 200 ", vec![b'a'; 1000], none),
        ),
        (
            "a byte now and then",
            FailureKind::Timeout,
            flooding("HTTP/1.1 200 OK\r\nX-A: ", byte("a"), second),
        ),
        (
            "interim answers without end",
            FailureKind::Protocol,
            flooding("", byte("HTTP/1.1 103 Early\r\nX-A: b\r\n\r\n"), none),
        ),
        (
            "interim answers now and then",
            FailureKind::Timeout,
            flooding("", byte("HTTP/1.1 102 Wait\r\n\r\n"), second),
        ),
        (
            "another protocol",
            FailureKind::Protocol,
            answering("SSH-2.0-OpenSSH_9.2\r\n"),
        ),
        (
            "noise",
            FailureKind::Protocol,
            flooding("", (0..=255).collect::<Vec<u8>>(), none),
        ),
        (
            "NUL bytes",
            FailureKind::Protocol,
            flooding("", vec![0; 1000], none),
        ),
    ];
    let bench = Bench::new(1);
    for (what, kind, receiver) in receivers {
        let start = Instant::now();
        let failure = bench.failure(request_to(&receiver));
        assert_eq!(failure.kind, kind, "{what}: {}", failure.message);
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
    }
}

#[test]
fn too_many_headers_are_called_that() {
    let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let receiver = answering(head);
    let message = Bench::new(1).failure(request_to(&receiver)).message;
    assert_eq!(message, "the answer has too many headers");
}

#[test]
fn connections_that_break_before_the_answer_is_complete() {
    let bench = Bench::new(1);
    for start in ["", "HTT", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let receiver = Receiver::raw(move |mut stream, _| {
            let _ = Received::read(&mut stream);
            let _ = stream.write_all(start.as_bytes());
        });
        let failure = bench.failure(request_to(&receiver));
        assert_eq!(failure.kind, FailureKind::Connect, "{start:?}");
        assert_eq!(receiver.connections(), 1, "a new connection is not stale");
    }
}

#[test]
fn a_peer_that_does_not_read_ends_at_the_timeout() {
    let frozen = Receiver::raw(|stream, _| {
        thread::sleep(PATIENCE);
        drop(stream);
    });
    // Every read makes room for a little more, so each single write succeeds in time.
    let slow = Receiver::raw(|mut stream, _| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|amount| amount > 0) {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let bench = Bench::new(1);
    for receiver in [frozen, slow] {
        let mut request = request_to(&receiver);
        request.body = "x".repeat(64 * 1024 * 1024);
        let outcome = bench.send(request);
        assert_eq!(outcome.result.unwrap_err().kind, FailureKind::Timeout);
        assert!(outcome.duration < Duration::from_secs(10));
    }
}

#[test]
fn the_status_decides_whatever_follows_it() {
    let none = Duration::ZERO;
    let slow = Duration::from_millis(200);
    let endless = "Transfer-Encoding: chunked\r\n\r\n";
    let bodies = [
        (
            "huge",
            "Content-Length: 1073741824\r\n\r\n",
            vec![b'x'; 65_536],
            none,
        ),
        (
            "slow",
            "Content-Length: 1073741824\r\n\r\n",
            vec![b'x'],
            slow,
        ),
        ("endless chunks", endless, b"1\r\nx\r\n".to_vec(), none),
        ("slow chunks", endless, b"1\r\nx\r\n".to_vec(), slow),
        ("an endless chunk size", endless, b"0".to_vec(), none),
        ("bad chunks", endless, b"what\r\n".to_vec(), none),
        ("without length", "\r\n", vec![b'x'; 65_536], none),
        (
            "huge and compressed",
            "Content-Encoding: gzip\r\n\r\n",
            vec![0x1f, 0x8b, 8, 0],
            none,
        ),
        (
            "announced and never sent",
            "Content-Length: 5\r\n\r\n",
            Vec::new(),
            slow,
        ),
    ];
    let bench = Bench::new(1);
    for (what, head, bytes, pause) in bodies {
        for status in ["200", "500"] {
            let head: &'static str = format!("HTTP/1.1 {status} X\r\n{head}").leak();
            let receiver = flooding(head, bytes.clone(), pause);
            let outcome = bench.send(request_within(&receiver.url(PATH), 10_000));
            match outcome.result {
                Ok(200) if status == "200" => {}
                Err(failure) if status == "500" => {
                    assert_eq!(failure.status, Some(500), "{what}");
                    assert!(failure.message.starts_with("http 500: "), "{what}");
                }
                other => panic!("{what}: {other:?}"),
            }
            assert!(outcome.duration < Duration::from_secs(10), "{what}");
        }
    }
}

#[test]
fn a_gibibyte_is_not_read() {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let (done, ended) = mpsc::channel();
    let receiver = Receiver::raw(move |mut stream, _| {
        Received::read(&mut stream).unwrap();
        let head = "HTTP/1.1 500 X\r\nContent-Length: 1073741824\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        while let Ok(amount) = stream.write(&[b'x'; 65_536]) {
            counter.fetch_add(amount, Ordering::SeqCst);
        }
        done.send(()).unwrap();
    });
    let failure = Bench::new(1).failure(request_to(&receiver));
    assert_eq!(failure.message, format!("http 500: {}", "x".repeat(490)));
    ended.recv_timeout(PATIENCE).unwrap();
    // What is more than 64 KiB sat in the socket buffers of both sides.
    assert!(written.load(Ordering::SeqCst) < 16 * 1024 * 1024);
}

#[test]
fn a_reset_in_the_middle_of_the_body() {
    let bench = Bench::new(1);
    for (status, delivered) in [("200", true), ("500", false)] {
        let receiver = Receiver::raw(move |mut stream, _| {
            // The unread rest of the request turns the close into a reset.
            let _ = stream.read(&mut [0; 10]);
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 100\r\n\r\nhalf");
            let _ = stream.write_all(answer.as_bytes());
        });
        let result = bench.send(request_to(&receiver)).result;
        match result {
            Ok(200) => assert!(delivered),
            Err(failure) if failure.kind == FailureKind::Status => {
                assert!(!delivered);
                assert_eq!(failure.message, "http 500: half");
            }
            // The reset may overtake the answer.
            Err(failure) => assert_eq!(failure.kind, FailureKind::Connect),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nul_and_broken_utf8_become_text() {
    let mut answer = b"HTTP/1.1 500 X\r\nContent-Length: 12\r\n\r\n".to_vec();
    answer.extend(b"a\0b\xff\xfe\xc3(c\r\n\x1b!");
    let receiver = answering(answer);
    let failure = Bench::new(1).failure(request_to(&receiver));
    assert_eq!(
        failure.message,
        "http 500: a b\u{fffd}\u{fffd}\u{fffd}(c   !"
    );
}

#[test]
fn a_compressed_body_stays_compressed() {
    let mut answer =
        b"HTTP/1.1 500 X\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n".to_vec();
    answer.extend(b"\x1f\x8b\x08\x00");
    let receiver = answering(answer);
    let failure = Bench::new(1).failure(request_to(&receiver));
    assert_eq!(failure.message, "http 500: \u{fffd}");
}

#[test]
fn some_interim_answers_are_skipped() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n";
    let receiver = answering(format!("{}{OK}", interim.repeat(20)));
    let outcome = Bench::new(1).send(request_to(&receiver));
    assert_eq!(outcome.result, Ok(200));
    let receiver = answering("HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\n");
    let failure = Bench::new(1).failure(request_to(&receiver));
    assert_eq!(failure.status, Some(101));
}

#[test]
fn connections_are_kept() {
    let receiver = answering(OK);
    let bench = Bench::new(1);
    for _ in 0..20 {
        assert_eq!(bench.send(request_to(&receiver)).result, Ok(200));
    }
    let failing = answering("HTTP/1.1 500 X\r\nContent-Length: 1\r\n\r\nx");
    for _ in 0..20 {
        bench.failure(request_to(&failing));
    }
    assert_eq!((receiver.connections(), failing.connections()), (1, 1));
}

#[test]
fn a_kept_connection_that_the_receiver_closed_is_replaced_at_once() {
    // The first connection answers once and is closed when the second request arrives: too late
    // to be noticed before.
    let receiver = Receiver::raw(|mut stream, n| {
        let answers = if n == 0 { 1 } else { usize::MAX };
        for _ in 0..answers {
            if Received::read(&mut stream).is_err() {
                return;
            }
            stream.write_all(OK.as_bytes()).unwrap();
        }
        let _ = stream.read(&mut [0; 10]);
    });
    let bench = Bench::new(1);
    for _ in 0..3 {
        assert_eq!(bench.send(request_to(&receiver)).result, Ok(200));
    }
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn bytes_after_an_answer_do_not_answer_the_next_request() {
    let receiver = answering(format!("{OK}{OK}"));
    let bench = Bench::new(1);
    for _ in 0..3 {
        assert_eq!(bench.send(request_to(&receiver)).result, Ok(200));
    }
    assert_eq!(receiver.connections(), 3);
}

#[test]
fn frozen_receivers_do_not_stop_the_others() {
    let frozen = Receiver::raw(|mut stream, _| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let healthy = answering(OK);
    let bench = Bench::new(9);
    for tag in 0..8 {
        bench
            .sender
            .submit(tag, request_within(&frozen.url(PATH), 4000));
    }
    let start = Instant::now();
    for tag in 100..120 {
        bench
            .sender
            .submit(tag, request_within(&healthy.url(PATH), 3000));
    }
    for _ in 0..20 {
        let (tag, outcome) = bench.recv();
        assert!(tag >= 100 && outcome.result == Ok(200));
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.sender.in_flight(), 8);
    for _ in 0..8 {
        let (tag, outcome) = bench.recv();
        let failure = outcome.result.unwrap_err();
        assert!(tag < 8 && failure.kind == FailureKind::Timeout);
    }
    assert_eq!(bench.sender.in_flight(), 0);
}

#[test]
fn every_tag_comes_back_once() {
    let receiver = answering(OK);
    let bench = Bench::new(8);
    for tag in 0..500 {
        bench
            .sender
            .submit(tag, request_within(&receiver.url(PATH), 10_000));
    }
    let tags: BTreeSet<u64> = (0..500).map(|_| bench.recv().0).collect();
    assert_eq!(tags, (0..500).collect());
    assert!(bench.sender.try_recv().is_none());
    assert!(receiver.connections() <= 8);
}

/// The variables can only be set for another process.
#[test]
fn no_proxy_is_taken_from_the_environment() {
    let proxy = "http://127.0.0.1:1";
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "http::any_2xx_delivers"])
        .envs(["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, proxy)))
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("1 passed"), "{report}");
}
