use super::*;

#[test]
fn a_secret_ref_that_names_no_secret_sends_unsigned_and_warns_once() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    database.expect_log("secret_ref resolves to no secret");
    let tenant = Tenant::install_with(&database, &config(&receiver.url("/")), Some("nowhere"));
    tenant.subscribe("items", &["INSERT"], None, false);
    for _ in 0..3 {
        tenant.insert_items(&mut client, 2);
        tenant.wait_delivered(&mut client, SOON);
    }
    assert_eq!(receiver.count(), 6);
    for request in receiver.requests() {
        assert_eq!(request.header("X-Plugin-Signature"), None);
    }
    let log = shared_server().log();
    let warnings = log
        .lines()
        .filter(|line| line.contains("WARNING") && line.contains(&tenant.installation));
    assert_eq!(warnings.count(), 1);
}

#[test]
fn an_odd_secret_ref_sends_unsigned_and_harms_nobody() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let mut client = database.client();
    execute(
        &mut client,
        "select plugin_webhooks.create_secret('k', 'partner')",
    );
    database.expect_log("secret_ref resolves to no secret");
    for secret_ref in [
        "partner\n".to_owned(),
        " partner".to_owned(),
        String::new(),
        "\u{1}\r\nforged line".to_owned(),
        "%s'; select 1; --".to_owned(),
        "x".repeat(200),
    ] {
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        client
            .execute(
                "update int.plugin_installations set secret_ref = $2 where id = $1::text::uuid",
                &[&tenant.installation, &secret_ref],
            )
            .expect("store a secret_ref");
        receiver.clear();
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        let request = &receiver.requests()[0];
        assert_carries(request, &tenant.delivery(&mut client));
        assert_eq!(request.header("X-Plugin-Signature"), None);
    }
    let log = shared_server().log();
    assert!(
        log.lines().all(|line| line.len() < 10_000),
        "a name does not fill the log"
    );
    assert!(!log.lines().any(|line| line.starts_with("forged line")));
}

#[test]
fn with_require_signature_nothing_leaves_unsigned() {
    let server = Server::preloaded(
        Tree::shared(),
        &[
            ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
            ("plugin_webhooks.require_signature", "on"),
        ],
    );
    let (database, receiver) = (project_with_items(&server), Receiver::http());
    let mut client = database.client();
    execute(
        &mut client,
        "select plugin_webhooks.create_secret('k', 'partner')",
    );
    for secret_ref in [None, Some("nowhere")] {
        let unsigned = Tenant::install_with(&database, &config(&receiver.url("/")), secret_ref);
        unsigned.subscribe("items", &["INSERT"], None, false);
        unsigned.insert_items(&mut client, 1);
        let delivery = unsigned.wait_failed(&mut client, SOON, 1);
        assert_eq!(delivery.status, "pending");
        let error = delivery.last_error.expect("a reason");
        assert!(error.contains("require_signature"), "{error}");
    }
    assert_eq!(receiver.count(), 0);
    let signed = Tenant::install_with(&database, &config(&receiver.url("/")), Some("partner"));
    signed.subscribe("items", &["INSERT"], None, false);
    signed.insert_items(&mut client, 1);
    signed.wait_delivered(&mut client, SOON);
    assert_eq!(receiver.count(), 1);
}

#[test]
fn a_secret_that_the_key_file_cannot_open_fails_its_deliveries_and_no_others() {
    let server = Server::preloaded(
        Tree::shared(),
        &[("plugin_webhooks.allowed_networks", "127.0.0.0/8")],
    );
    let (database, receiver) = (project_with_items(&server), Receiver::http());
    let mut client = database.client();
    execute(
        &mut client,
        "select plugin_webhooks.create_secret('old', 'lost')",
    );
    database.expect_log("its signing secret cannot be read");
    // The file keeps its owner and its mode.
    fs::write(
        server.data_dir().join("plugin_webhooks.key"),
        "ab".repeat(32),
    )
    .expect("another key");
    execute(
        &mut client,
        "select plugin_webhooks.create_secret('new', 'good')",
    );
    let install = |secret_ref| {
        let tenant = Tenant::install_with(&database, &config(&receiver.url("/")), secret_ref);
        tenant.subscribe("items", &["INSERT"], None, false);
        tenant
    };
    let (lost, good, unsigned) = (install(Some("lost")), install(Some("good")), install(None));
    // All in one commit, so that one claim takes all of them.
    execute(
        &mut client,
        &format!(
            "insert into items (tenant_id) values ('{}'), ('{}'), ('{}')",
            lost.id, good.id, unsigned.id
        ),
    );
    good.wait_delivered(&mut client, SOON);
    unsigned.wait_delivered(&mut client, SOON);
    let delivery = lost.wait_failed(&mut client, SOON, 1);
    assert_eq!(delivery.status, "pending");
    let error = delivery.last_error.expect("a reason");
    assert!(error.contains("secret"), "{error}");
    assert_eq!(receiver.count(), 2);
    let good = good.delivery(&mut client);
    let requests = receiver.requests();
    let signed = requests
        .iter()
        .find(|request| request.header("X-Plugin-Delivery-Id") == Some(&good.id))
        .expect("the signed request");
    let signature = signed.header("X-Plugin-Signature").expect("a signature");
    assert!(verify_signature("new", &signed.body, signature));
}
