//! The receivers of `examples/receiver`, and its smoke test.

use super::*;

const RECEIVERS: [&str; 2] = [
    "node examples/receiver/receiver.js",
    "python examples/receiver/receiver.py",
];

#[test]
fn the_receivers_take_what_is_signed_once_and_nothing_else() {
    let database = project(shared_server());
    for receiver in RECEIVERS {
        let (program, file) = receiver.split_once(' ').expect("a program and a file");
        let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
        let command = format!("{program} {path}");
        run_client(&database, "receivers.js", &[("EXAMPLE", &command)]);
    }
}

/// What the smoke test must not leave behind.
const LEFT: &str = "select concat_ws(' ',
    (select count(*) from int.plugin_installations), (select count(*) from int.plugins where is_active),
    (select count(*) from plugin_webhooks.secret_names),
    (select count(*) from pg_class where relname like 'smoke%'))";

#[test]
fn the_smoke_test_sends_to_each_receiver_in_each_way_and_cleans_up() {
    let database = project(shared_server());
    let mut dba = database.client();
    for receiver in RECEIVERS {
        for (verify, secret) in [
            ("standard-webhooks", None),
            ("by-hand", Some("a text 'with' quotes \u{e4}")),
            ("plugin", Some("whsec_plJ3nmyCDGBKInavdOK15jsl")),
        ] {
            let mut variables = vec![("VERIFY", verify)];
            variables.extend(secret.map(|secret| ("SECRET", secret)));
            let printed = run_example(
                &database,
                "examples/receiver/smoke.sh",
                &[receiver],
                &variables,
            );
            assert!(printed.starts_with("ok {"), "{printed}");
            assert_eq!(text(&mut dba, LEFT), "0 0 0 0");
        }
    }
}

#[test]
fn the_smoke_test_says_what_is_wrong_and_cleans_up() {
    let database = project(shared_server());
    let arguments = ["node examples/receiver/receiver.js"];
    let failed = std::panic::catch_unwind(|| {
        run_example(
            &database,
            "examples/receiver/smoke.sh",
            &arguments,
            &[("VERIFY", "no way")],
        )
    });
    let reason = failed.expect_err("it failed");
    let reason = reason.downcast_ref::<String>().expect("a message");
    assert!(reason.contains("VERIFY is one of"), "{reason}");
    assert!(reason.contains("the receiver does not listen"), "{reason}");
    assert_eq!(text(&mut database.client(), LEFT), "0 0 0 0");
}
