use super::*;

#[test]
fn a_refused_connection_is_a_failed_attempt() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    receiver.stop();
    let error = error_from(&database, &receiver.url("/"));
    assert!(error.contains("refused"), "{error}");
    assert!(!error.contains("127.0"), "{error}");
}

#[test]
fn an_unknown_host_is_a_failed_attempt() {
    let database = project_with_items(shared_server());
    for scheme in ["http", "https"] {
        let error = error_from(&database, &format!("{scheme}://something.invalid/hook"));
        assert!(error.contains("host name could not be resolved"), "{error}");
    }
}

#[test]
fn https_is_verified_with_the_authorities_of_ca_file() {
    let ca = Ca::create(Tree::shared());
    let stranger = Ca::create(Tree::shared());
    let server = Server::preloaded(
        Tree::shared(),
        &[
            ("plugin_webhooks.allowed_networks", "127.0.0.0/8, ::1/128"),
            (
                "plugin_webhooks.ca_file",
                &ca.pem_path().display().to_string(),
            ),
        ],
    );
    let database = project_with_items(&server);
    let mut client = database.client();
    let receiver = Receiver::https(&ca);
    for url in [receiver.url("/"), receiver.url_for("localhost", "/")] {
        let tenant = Tenant::with_items_to(&database, &url);
        tenant.insert_items(&mut client, 1);
        tenant.wait_delivered(&mut client, SOON);
        assert_carries(
            receiver.requests().last().expect("a request"),
            &tenant.delivery(&mut client),
        );
    }
    let loopback = [127, 0, 0, 1].into();
    for (receiver, reason) in [
        (
            Receiver::https_on(&ca, loopback, &["other.example"]),
            "name",
        ),
        (Receiver::https(&stranger), "trusted"),
    ] {
        let error = error_from(&database, &receiver.url("/"));
        assert!(
            error.starts_with("TLS: ") && error.contains(reason),
            "{error}"
        );
        assert_eq!(receiver.count(), 0);
    }
}

#[test]
fn https_with_an_unknown_authority_is_refused_before_anything_is_sent() {
    let ca = Ca::create(Tree::shared());
    let (database, receiver) = (project_with_items(shared_server()), Receiver::https(&ca));
    let error = error_from(&database, &receiver.url("/"));
    assert!(
        error.starts_with("TLS: ") && error.contains("trusted"),
        "{error}"
    );
    assert_eq!(receiver.count(), 0);
}

#[test]
fn an_address_outside_of_allowed_networks_is_never_connected_nor_named() {
    let ca = Ca::create(Tree::shared());
    let server = Server::preloaded(
        Tree::shared(),
        &[
            ("plugin_webhooks.allowed_networks", "127.0.1.0/24"),
            (
                "plugin_webhooks.ca_file",
                &ca.pem_path().display().to_string(),
            ),
        ],
    );
    let database = project_with_items(&server);
    let (inside, outside) = ([127, 0, 1, 1].into(), [127, 0, 2, 1].into());
    assert_delivers(&database, &Receiver::http_on(inside));
    assert_delivers(&database, &Receiver::https_on(&ca, inside, &["127.0.1.1"]));
    let closed = [
        Receiver::http_on(outside),
        Receiver::https_on(&ca, outside, &["127.0.2.1", "localhost"]),
        Receiver::https(&ca),
    ];
    let urls = [
        closed[0].url("/"),
        closed[1].url("/"),
        closed[2].url_for("localhost", "/"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
    ];
    for url in urls {
        let error = error_from(&database, &url);
        assert!(
            error.contains("plugin_webhooks.allowed_networks"),
            "{error}"
        );
        for part in ["127.", "::1", "169.254"] {
            assert!(!error.contains(part), "{error}");
        }
    }
    for receiver in closed {
        assert_eq!(receiver.connections(), 0);
    }
}

#[test]
fn plain_http_works_only_in_allowed_networks() {
    let server = Server::preloaded(Tree::shared(), &[]);
    let database = project_with_items(&server);
    let receiver = Receiver::http();
    for host in ["127.0.0.1", "localhost"] {
        let error = error_from(&database, &receiver.url_for(host, "/"));
        assert!(error.contains("plain http"), "{error}");
        assert!(!error.contains("127."), "{error}");
    }
    assert_eq!(receiver.connections(), 0);
}
