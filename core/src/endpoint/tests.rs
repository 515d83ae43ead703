use std::time::Duration;

use proptest::prelude::*;
use ureq::http::{self, HeaderName, HeaderValue};

use super::*;
use crate::{
    address_policy::{AllowedNetworks, Denied},
    retry::Schedule,
};

fn with_url(url: &str) -> String {
    format!(
        r#"{{"webhook_url": {}}}"#,
        serde_json::to_string(url).unwrap()
    )
}

fn with(key: &str, json: &str) -> String {
    format!(r#"{{"webhook_url": "https://example.com/", "{key}": {json}}}"#)
}

#[test]
fn stores_legal_configurations() {
    let deep = 30_000;
    let deep = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
    let legal = [
        "{}".to_owned(),
        r#"{"webhook_url": null, "timeout_ms": null, "headers": null}"#.to_owned(),
        with_url("https://example.com"),
        with_url("http://10.0.0.1:8080/hook?a=b&c=%20"),
        with_url("HTTPS://EXAMPLE.COM/"),
        with_url("https://[2001:db8::1]:8443/x"),
        with_url("https://bücher.example/größe"),
        with_url("https://my_host.example/{id}|^`\"<>?q={}|^`'"),
        with_url(&format!("https://example.com/{}", "a".repeat(2028))),
        with("timeout_ms", "5000"),
        with("timeout_ms", "5000.0"),
        with("timeout_ms", "0"),
        with("timeout_ms", "-1"),
        with("timeout_ms", "12345678901234567890123"),
        with("timeout_ms", "1e400"),
        with("headers", "{}"),
        with(
            "headers",
            r#"{"Authorization": "Bearer a\tb", "X-Empty": "", "x!#$%&'*+-.^_`|~9": "~"}"#,
        ),
        with("retry_schedule", "null"),
        with("retry_schedule", "[]"),
        with("retry_schedule", "[1, 60.0, 6e1, 604800]"),
        with("retry_schedule", &format!("[{}]", ["9"; 20].join(","))),
        with("color", r#""blue""#),
        with("factor", "1e400"),
        with("id", "12345678901234567890123.000000000000000001"),
        with("tree", &deep),
        with(
            "a\\u0022b",
            r#"{"webhook_url": 1, "headers": [], "x": "\n\uD83D\uDE00"}"#,
        ),
    ];
    for config in legal {
        let shown = &config[..config.len().min(120)];
        assert_eq!(validate(&config), Ok(()), "{shown}");
    }
}

#[test]
fn names_the_field_that_it_refuses() {
    let many: Vec<_> = (0..51).map(|n| format!(r#""X-{n}": "v""#)).collect();
    let long = format!(r#"{{"X-Long": "{}"}}"#, "v".repeat(8 * 1024));
    let delays = format!("[{}]", ["9"; 21].join(","));
    let refused = [
        ("retry_schedule", with("retry_schedule", "60")),
        ("retry_schedule", with("retry_schedule", "\"60, 300\"")),
        ("retry_schedule", with("retry_schedule", r#"{"1": 60}"#)),
        ("retry_schedule", with("retry_schedule", "[60, null]")),
        ("retry_schedule", with("retry_schedule", "[60, \"300\"]")),
        ("retry_schedule", with("retry_schedule", "[60, [300]]")),
        ("retry_schedule", with("retry_schedule", "[60, 0]")),
        ("retry_schedule", with("retry_schedule", "[60, -60]")),
        ("retry_schedule", with("retry_schedule", "[60, 1.5]")),
        ("retry_schedule", with("retry_schedule", "[60, 604801]")),
        ("retry_schedule", with("retry_schedule", "[60, 1e400]")),
        ("retry_schedule", with("retry_schedule", &delays)),
        ("config", "[]".to_owned()),
        ("config", "null".to_owned()),
        ("config", "\"{}\"".to_owned()),
        ("config", "1".to_owned()),
        ("config", "{".to_owned()),
        ("config", String::new()),
        ("webhook_url", r#"{"webhook_url": 1}"#.to_owned()),
        (
            "webhook_url",
            r#"{"webhook_url": ["https://a.example"]}"#.to_owned(),
        ),
        ("webhook_url", with_url("")),
        ("webhook_url", with_url("example.com")),
        ("webhook_url", with_url("/hook")),
        ("webhook_url", with_url("//example.com/hook")),
        ("webhook_url", with_url("https:")),
        ("webhook_url", with_url("https://")),
        ("webhook_url", with_url("https://:443/")),
        ("webhook_url", with_url("https:///example.com/")),
        ("webhook_url", with_url("https:example.com/")),
        ("webhook_url", with_url("https:\\\\example.com/")),
        ("webhook_url", with_url("https://example.com\\@127.0.0.1/")),
        ("webhook_url", with_url("https://example.com:0/")),
        ("webhook_url", with_url("https://example.com:65536/")),
        ("webhook_url", with_url("https://exa mple.com/")),
        ("webhook_url", with_url("https://example.com/a b")),
        ("webhook_url", with_url(" https://example.com/")),
        ("webhook_url", with_url("https://example.com/\n")),
        ("webhook_url", with_url("https://example.com/\u{a0}")),
        ("webhook_url", with_url("https://exam\tple.com/")),
        ("webhook_url", with_url("https://example.com/\u{7f}")),
        ("webhook_url", with_url("https://user@example.com/")),
        ("webhook_url", with_url("https://user:pass@example.com/")),
        ("webhook_url", with_url("https://:pass@example.com/")),
        ("webhook_url", with_url("https://example.com/#")),
        ("webhook_url", with_url("https://example.com/#part")),
        ("webhook_url", with_url("ftp://example.com/")),
        ("webhook_url", with_url("file:///etc/passwd")),
        ("webhook_url", with_url("javascript:alert(1)")),
        ("webhook_url", with_url("https://[fe80::1%25eth0]/")),
        ("webhook_url", with_url("https://256.1.1.1/")),
        ("webhook_url", with_url("https://exa%00mple.com/")),
        (
            "webhook_url",
            with_url(&format!("https://example.com/{}", "a".repeat(2029))),
        ),
        ("timeout_ms", with("timeout_ms", "\"5000\"")),
        ("timeout_ms", with("timeout_ms", "2.5")),
        ("timeout_ms", with("timeout_ms", "true")),
        ("timeout_ms", with("timeout_ms", "[1]")),
        ("headers", with("headers", "[]")),
        ("headers", with("headers", "\"X: y\"")),
        (
            "headers",
            with("headers", &format!("{{{}}}", many.join(","))),
        ),
        ("headers", with("headers", &long)),
        ("headers.", with("headers", r#"{"": "v"}"#)),
        ("headers.X Y", with("headers", r#"{"X Y": "v"}"#)),
        ("headers.X:", with("headers", r#"{"X:": "v"}"#)),
        ("headers.Größe", with("headers", r#"{"Größe": "v"}"#)),
        ("headers.XY", with("headers", r#"{"X\nY": "v"}"#)),
        ("headers.X", with("headers", r#"{"X": 1}"#)),
        ("headers.X", with("headers", r#"{"X": null}"#)),
        ("headers.X", with("headers", r#"{"X": {"a": "b"}}"#)),
        ("headers.X", with("headers", r#"{"X": "a\r\nY: b"}"#)),
        ("headers.X", with("headers", r#"{"X": "a\u0000b"}"#)),
        ("headers.X", with("headers", r#"{"X": "a\u007fb"}"#)),
        ("headers.X", with("headers", r#"{"X": "ä"}"#)),
    ];
    for (field, config) in refused {
        let error = validate(&config).expect_err(&config);
        assert_eq!(error.field, field, "{config}");
        assert!(!error.message.is_empty() && !error.hint.is_empty());
        assert!(!error.message.contains(char::is_control), "{error:?}");
    }
}

#[test]
fn the_largest_that_may_be_stored() {
    let padded = |bytes: usize| format!("{{\"x\": \"{}\"}}", "a".repeat(bytes - 9));
    assert_eq!(padded(20).len(), 20);
    assert_eq!(validate(&padded(65_536)), Ok(()));
    let error = validate(&padded(65_537)).unwrap_err();
    assert_eq!((error.field.as_str(), error.too_long), ("config", true));
    assert!(error.message.contains("65536"), "{error}");

    let url = |characters: usize| {
        with_url(&format!(
            "https://a.example/{}",
            "a".repeat(characters - 18)
        ))
    };
    assert_eq!(validate(&url(2_048)), Ok(()));
    let error = validate(&url(2_049)).unwrap_err();
    assert_eq!(
        (error.field.as_str(), error.too_long),
        ("webhook_url", true)
    );
    assert!(error.message.contains("2048"), "{error}");

    let some = |count| {
        let entries: Vec<_> = (0..count).map(|n| format!(r#""X-{n}": """#)).collect();
        with("headers", &format!("{{{}}}", entries.join(",")))
    };
    let long = |bytes: usize| {
        with(
            "headers",
            &format!(r#"{{"X-A": "{}"}}"#, "a".repeat(bytes - 3)),
        )
    };
    for (fits, exceeds) in [(some(50), some(51)), (long(8_192), long(8_193))] {
        assert_eq!(validate(&fits), Ok(()));
        assert!(read_stored(Some(&fits)).is_ok());
        let error = validate(&exceeds).unwrap_err();
        assert_eq!(error.hint, "Send fewer or shorter headers.");
        let unusable = read_stored(Some(&exceeds)).unwrap_err();
        assert_eq!(unusable.to_string(), format!("config.{}", error.message));
    }
}

#[test]
fn an_error_says_what_to_do_about_it() {
    let cases = [
        (with_url("https://u:p@a.example/"), "webhook_url", "header"),
        (with_url("https://a.example/#b"), "webhook_url", "Remove"),
        (
            with_url("a.example"),
            "webhook_url",
            "https://example.com/hook",
        ),
        (
            with("headers", r#"{"Host": "a"}"#),
            "headers.Host",
            "another name",
        ),
    ];
    for (config, field, remedy) in cases {
        let error = validate(&config).unwrap_err();
        assert!(error.hint.contains(remedy), "{error:?}");
        assert_eq!(error.to_string(), format!("{field}: {}", error.message));
    }
}

#[test]
fn an_error_shows_the_start_of_a_long_name_and_value() {
    let shown = |length: usize| {
        let name = "a".repeat(length);
        let config = with("headers", &format!(r#"{{"{name}": 1}}"#));
        validate(&config).unwrap_err().field
    };
    assert_eq!(shown(100), format!("headers.{}", "a".repeat(100)));
    assert_eq!(shown(101), format!("headers.{}…", "a".repeat(99)));
    let error = validate(&with("timeout_ms", "[\"a\", 2]")).unwrap_err();
    assert!(error.message.ends_with(r#"whole number: ["a", 2]"#));
}

#[test]
fn a_url_that_the_address_policy_refuses_is_known_as_it_is_written() {
    let (private, plain) = (Some(Denied::NotPublic), Some(Denied::PlainHttp));
    let cases = [
        ("https://a.example/", "", None),
        ("http://a.example/", "", plain),
        ("http://a.example/", "10.0.0.0/8", None),
        ("https://8.8.8.8/", "", None),
        ("http://8.8.8.8/", "", plain),
        ("https://10.0.0.1/", "", private),
        ("http://0x0a.1/", "10.0.0.0/8", None),
        ("https://[fd00::1]/", "10.0.0.0/8", private),
        ("https://localhost/", "", private),
        ("https://localhost/", "10.0.0.0/8", private),
        ("http://localhost/", "127.0.0.1", None),
        ("http://localhost/", "127.0.0.1:8080", plain),
        ("http://localhost:8080/", "127.0.0.1:8080", None),
        ("https://10.0.0.1/", "10.0.0.1:443", None),
        ("https://10.0.0.1:8443/", "10.0.0.1:443", private),
    ];
    for (url, list, expected) in cases {
        let endpoint = read_stored(Some(&with_url(url))).unwrap();
        let allowed = AllowedNetworks::parse(list).unwrap();
        let refused = endpoint.refused_as_written(&allowed);
        assert_eq!(refused, expected, "{url} {list}");
    }
}

#[test]
fn reserved_headers_are_refused_in_any_case_and_dropped_from_old_rows() {
    let reserved = [
        "Host",
        "CONTENT-LENGTH",
        "content-type",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "proxy-connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Accept-Encoding",
        "X-Plugin-Signature",
        "x-plugin-delivery-id",
        "webhook-id",
        "Webhook-Anything",
        "ce-id",
        "CE-anything",
        "X-PLUGIN-ANYTHING",
    ];
    for name in reserved {
        let config = with("headers", &format!(r#"{{"{name}": "v", "X-Kept": "v"}}"#));
        let error = validate(&config).unwrap_err();
        assert_eq!(error.field, format!("headers.{name}"));
        let endpoint = read_stored(Some(&config)).unwrap();
        let kept = [("X-Kept".to_owned(), "v".to_owned())];
        assert_eq!(endpoint.headers, kept, "{name}");
    }
}

#[test]
fn old_rows_without_a_usable_url_say_so() {
    let unusable = [
        None,
        Some("null".to_owned()),
        Some("[]".to_owned()),
        Some("\"https://example.com/\"".to_owned()),
        Some("17".to_owned()),
        Some("{}".to_owned()),
        Some(r#"{"webhook_url": null}"#.to_owned()),
        Some(r#"{"webhook_url": 5}"#.to_owned()),
        Some(r#"{"webhook_url": {"url": "https://example.com/"}}"#.to_owned()),
        Some(with_url("")),
        Some(with_url("  ")),
        Some(with_url("example.com")),
        Some(with_url("ftp://example.com/")),
        Some(with_url("https://user:pass@example.com/")),
        Some(with_url("https://exa\nmple.com/")),
        Some(with_url(&format!(
            "https://example.com/{}",
            "a".repeat(70_000)
        ))),
        // The URL decides before a broken header does.
        Some(r#"{"headers": {"a b": "c"}}"#.to_owned()),
    ];
    for config in unusable {
        let error = read_stored(config.as_deref()).unwrap_err();
        assert!(matches!(error, Unusable::NoUrl(_)), "{config:?}");
        assert!(error.to_string().contains("webhook_url"), "{error}");
    }
}

#[test]
fn old_rows_are_read_with_patience() {
    let endpoint = read_stored(Some(&with_url(" https://example.com/a#part "))).unwrap();
    assert_eq!(endpoint.url.as_str(), "https://example.com/a");
    assert_eq!(endpoint.headers, []);
    assert_eq!(endpoint.timeout, DEFAULT_TIMEOUT);

    let config = with(
        "headers",
        r#"{"N": 1.10, "Big": 12345678901234567890123, "Yes": true, "No": null, "T": "text"}"#,
    );
    let headers = read_stored(Some(&config)).unwrap().headers;
    let expected = [
        ("N", "1.10"),
        ("Big", "12345678901234567890123"),
        ("Yes", "true"),
        ("T", "text"),
    ];
    assert_eq!(
        headers,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    for odd in ["[]", "1", "\"X: y\"", "null"] {
        let endpoint = read_stored(Some(&with("headers", odd))).unwrap();
        assert_eq!(endpoint.headers, [], "{odd}");
    }
}

#[test]
fn headers_of_old_rows_that_cannot_be_sent_are_bad_settings() {
    let many: Vec<_> = (0..51).map(|n| format!(r#""X-{n}": "v""#)).collect();
    let bad = [
        r#"{"X Y": "v"}"#.to_owned(),
        r#"{"": "v"}"#.to_owned(),
        r#"{"X": "a\r\nHost: b"}"#.to_owned(),
        r#"{"X": "ä"}"#.to_owned(),
        r#"{"X\u0000": "v"}"#.to_owned(),
        r#"{"X": "\u0000"}"#.to_owned(),
        r#"{"X": ["ä"]}"#.to_owned(),
        format!("{{{}}}", many.join(",")),
    ];
    for headers in bad {
        let error = read_stored(Some(&with("headers", &headers))).unwrap_err();
        assert!(matches!(error, Unusable::BadSetting(_)), "{headers}");
        assert!(error.to_string().contains("headers"), "{error}");
    }
}

#[test]
fn the_timeout_is_clamped_or_the_default() {
    let cases = [
        ("5000", 5000),
        ("5000.9", 5000),
        ("\"5000\"", 5000),
        ("\" 7000 \"", 7000),
        ("999", 1000),
        ("0", 1000),
        ("-5", 1000),
        ("\"-5\"", 1000),
        ("120001", 120_000),
        ("12345678901234567890123", 120_000),
        ("1e400", 120_000),
        ("-1e400", 1000),
        ("\"abc\"", 15_000),
        ("\"\"", 15_000),
        ("\"NaN\"", 15_000),
        ("\"inf\"", 15_000),
        ("\"5s\"", 15_000),
        ("true", 15_000),
        ("null", 15_000),
        ("[5000]", 15_000),
        ("{\"ms\": 5000}", 15_000),
    ];
    for (json, ms) in cases {
        let endpoint = read_stored(Some(&with("timeout_ms", json))).unwrap();
        assert_eq!(endpoint.timeout, Duration::from_millis(ms), "{json}");
    }
}

#[test]
fn an_installation_may_bring_its_own_retry_schedule() {
    let week = 604_800.0;
    let many = format!("[{}]", ["9"; 25].join(","));
    let cases: [(&str, Option<&[f64]>); 14] = [
        ("null", None),
        ("[60, 300, 3600]", Some(&[60.0, 300.0, 3600.0])),
        ("[]", Some(&[])),
        // Only old rows hold these.
        (r#"["60", " 300 "]"#, Some(&[60.0, 300.0])),
        ("[0, -5, 0.25, 1.5]", Some(&[1.0, 1.0, 1.0, 1.5])),
        ("[604801, 1e400]", Some(&[week, week])),
        (&many, Some(&[9.0; 20])),
        ("[60, null]", None),
        (r#"[60, "soon"]"#, None),
        ("[60, [300]]", None),
        (r#"{"first": 60}"#, None),
        (r#""60, 300""#, None),
        ("60", None),
        ("true", None),
    ];
    for (json, expected) in cases {
        let endpoint = read_stored(Some(&with("retry_schedule", json))).unwrap();
        let expected = expected.map(|delays| {
            Schedule::new(
                delays
                    .iter()
                    .copied()
                    .map(Duration::from_secs_f64)
                    .collect(),
            )
        });
        assert_eq!(endpoint.retry_schedule, expected, "{json}");
    }
}

proptest! {
    #[test]
    fn what_may_be_stored_can_be_read(
        url in "https?://[a-z]{1,8}(\\.[a-z]{2,5})?(:[1-9][0-9]{0,3})?/[!-~]{0,20}",
        name in "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}",
        value in "[\t -~]{0,30}",
        timeout: i64,
    ) {
        let config = serde_json::json!({
            "webhook_url": url,
            "headers": {name: value},
            "timeout_ms": timeout,
        })
        .to_string();
        if validate(&config).is_ok() {
            let endpoint = read_stored(Some(&config)).unwrap();
            let uri: http::Uri = endpoint.url.as_str().parse().unwrap();
            prop_assert_eq!(uri.host(), endpoint.url.host_str());
            prop_assert_eq!(uri.scheme_str(), Some(endpoint.url.scheme()));
            prop_assert_eq!(endpoint.headers.len(), 1);
            prop_assert!((MIN_TIMEOUT..=MAX_TIMEOUT).contains(&endpoint.timeout));
        }
    }

    #[test]
    fn headers_that_are_read_can_be_sent(name: String, value: String) {
        let config = serde_json::json!({"webhook_url": "https://a.example", "headers": {name: value}}).to_string();
        if let Ok(endpoint) = read_stored(Some(&config)) {
            for (name, value) in endpoint.headers {
                prop_assert!(name.parse::<HeaderName>().is_ok());
                prop_assert!(value.parse::<HeaderValue>().is_ok());
            }
        }
    }

    #[test]
    fn never_panics(config: String, url: String) {
        let _ = validate(&config);
        let _ = read_stored(Some(&config));
        let config = serde_json::json!({"webhook_url": url}).to_string();
        prop_assert!(validate(&config).is_err() || read_stored(Some(&config)).is_ok());
    }
}
