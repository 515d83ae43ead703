use super::*;

const NOOP: &str = r#"{"action": "noop"}"#;

fn counted(host: &Host) -> String {
    text(
        &mut host.dba(),
        "select format('%s of the host for %s, %s of the extension',
                       (select coalesce(sum(calls), 0) from util.rate_limits
                        where operation = 'rpc_plugin_ingest_webhook'),
                       (select coalesce(string_agg(distinct user_id::text, ' '), 'nobody') from util.rate_limits
                        where operation = 'rpc_plugin_ingest_webhook'),
                       (select coalesce(sum(hits), 0) from plugin_webhooks.rate_limits))",
    )
}

/// A call itself has no user, and the host counts for none.
#[test]
fn calls_are_counted_by_the_host_for_whoever_installed_the_plugin() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    for _ in 0..2 {
        host.ingest(&installation, NOOP).expect("a call");
    }
    assert_eq!(
        counted(&host),
        format!("2 of the host for {}, 0 of the extension", host.admin)
    );
}

#[test]
fn calls_are_counted_here_once_that_user_is_gone() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    execute(
        &mut host.dba(),
        &format!("delete from auth.users where id = '{}'", host.admin),
    );
    host.ingest(&installation, NOOP).expect("a call");
    assert_eq!(
        counted(&host),
        "0 of the host for nobody, 1 of the extension"
    );
}

#[test]
fn calls_are_refused_when_the_host_says_so() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    // Two minutes may share them.
    let refused = (0..=240)
        .map(|_| host.ingest(&installation, NOOP))
        .find(Result::is_err)
        .expect("one call too many");
    let error = expect_sqlstate(refused, "54000");
    assert!(error.message().starts_with("host: "), "{error:?}");
}

/// A DELETE of a tenant locks the tenant first, and a call the host's rows before its own.
#[test]
fn a_tenant_that_goes_meanwhile_takes_the_ids_of_its_calls_along() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    host.ingest(
        &installation,
        r#"{"id": "a", "action": "work_order.create", "data": {"title": "x"}}"#,
    )
    .expect("a call");
    execute(
        &mut host.dba(),
        &format!("delete from app.tenants where id = '{}'", host.tenant),
    );
    assert_eq!(
        count(
            &mut host.dba(),
            "select count(*) from plugin_webhooks.inbound_ids"
        ),
        0
    );
}
