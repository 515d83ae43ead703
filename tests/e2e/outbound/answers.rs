use super::*;

#[test]
fn any_2xx_delivers() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    for status in [200, 201, 202, 204, 299] {
        let path = format!("/{status}");
        receiver.answer(&path, Reply::Status(status, String::new()));
        let tenant = Tenant::with_items_to(&database, &receiver.url(&path));
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        let delivery = tenant.delivery(&mut client);
        assert_eq!(
            (delivery.attempts, delivery.last_error),
            (0, None),
            "{status}"
        );
    }
    assert_eq!(receiver.count(), 5);
}

#[test]
fn any_other_status_is_a_failed_attempt_with_the_start_of_the_body() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    for status in [400, 401, 404, 429, 500, 503, 599] {
        let path = format!("/{status}");
        receiver.answer(
            &path,
            Reply::Status(status, format!("no {status}\r\nsorry")),
        );
        let error = error_from(&database, &receiver.url(&path));
        assert!(
            error.starts_with(&format!("http {status}: no {status}")),
            "{error}"
        );
        assert!(error.ends_with("sorry"), "{error}");
    }
    assert_eq!(receiver.count(), 7);
}

#[test]
fn an_error_has_at_most_500_characters_and_is_text_whatever_the_body_is() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    receiver.answer("/long", Reply::Status(500, "é".repeat(5000)));
    let error = error_from(&database, &receiver.url("/long"));
    assert_eq!(error.chars().count(), 500);
    assert!(error.starts_with("http 500: éé"), "{error}");
    let body = b"\xff\xfe\0 binary \x01".to_vec();
    receiver.on("/binary", move |_| Reply::Full {
        status: 500,
        headers: Vec::new(),
        body: body.clone(),
    });
    let error = error_from(&database, &receiver.url("/binary"));
    assert!(
        error.starts_with("http 500: ") && error.contains("binary"),
        "{error}"
    );
}

#[test]
fn a_redirect_is_a_failed_attempt_and_is_not_followed() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    for status in [301, 302, 303, 307, 308] {
        let location = receiver.url("/target");
        let path = format!("/{status}");
        receiver.on(&path, move |_| Reply::Full {
            status,
            headers: vec![("Location".to_owned(), location.clone())],
            body: Vec::new(),
        });
        let error = error_from(&database, &receiver.url(&path));
        assert!(error.starts_with(&format!("http {status}: ")), "{error}");
    }
    assert!(
        receiver
            .requests()
            .iter()
            .all(|sent| sent.path() != "/target")
    );
    assert_eq!(receiver.count(), 5);
}

#[test]
fn a_receiver_that_hangs_fails_the_attempt_after_timeout_ms() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    receiver.answer("/", Reply::Hang);
    let tenant = Tenant::install(
        &database,
        &format!(
            r#"{{"webhook_url": "{}", "timeout_ms": 1000}}"#,
            receiver.url("/")
        ),
    );
    tenant.subscribe("items", &["INSERT"], None, false);
    let mut client = database.client();
    let committed = Instant::now();
    tenant.insert_items(&mut client, 1);
    let delivery = tenant.wait_failed(&mut client, SOON, 1);
    let took = committed.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(receiver.count(), 1);
    let error = delivery.last_error.expect("a reason");
    assert!(error.contains("timeout"), "{error}");
}

#[test]
fn broken_answers_are_failed_attempts() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    receiver.answer("/close", Reply::Close);
    receiver.answer("/raw", Reply::RawBytes(b"not http at all\r\n\r\n".to_vec()));
    for path in ["/close", "/raw"] {
        assert!(!error_from(&database, &receiver.url(path)).is_empty());
    }
}
