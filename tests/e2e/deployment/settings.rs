use super::*;

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        Server::start(
            Tree::shared(),
            &[
                ("fsync", "off"),
                ("session_preload_libraries", "plugin_webhooks"),
            ],
        )
    })
}

#[test]
fn have_a_description_and_a_default() {
    let mut client = server().connect("postgres");
    let documented = lines(
        &mut client,
        "select concat_ws(' ', substr(name, 17), vartype, coalesce(nullif(boot_val, ''), '-'), min_val,
                          max_val, unit, array_to_string(enumvals, ','), context)
         from pg_settings where name like 'plugin_webhooks.%' order by name",
    );
    assert_eq!(
        documented,
        [
            "allowed_networks string - sighup",
            "allowed_secret_names string - sighup",
            "ca_file string - sighup",
            "connect_timeout integer 5000 100 30000 ms sighup",
            "dispatch enum on_commit on_commit,on_call sighup",
            "ip_address_from string x-forwarded-for, connection sighup",
            "lease integer 300 150 3600 s sighup",
            "max_in_flight integer 64 1 1024 sighup",
            "max_in_flight_per_installation integer 16 1 1024 sighup",
            "max_installations integer 1000 1 1000000 sighup",
            "max_probe_interval integer 60000 0 3600000 ms sighup",
            "max_slow_in_flight integer 256 0 4096 sighup",
            "max_subscriptions integer 1000 1 1000000 sighup",
            "poll_interval integer 1000 100 60000 ms sighup",
            "require_inbound_id bool off sighup",
            "require_signature bool off sighup",
            "retain_attempts integer 604800 0 315360000 s sighup",
            "retain_dead integer 7776000 0 315360000 s sighup",
            "retain_delivered integer 2592000 0 315360000 s sighup",
            "retain_inbound_ids integer 2592000 900 315360000 s sighup",
            "retry_schedule string 2min, 4min, 8min, 16min, 32min, 64min, 64min sighup",
            "secret_key_file string plugin_webhooks.key sighup",
            "show_internal_bodies bool off sighup",
            "site string - sighup",
            "standard_webhooks bool on sighup",
            "worker_idle_timeout integer 120 1 86400 s sighup",
        ]
    );
    let silent = "select name from pg_settings where name like 'plugin_webhooks.%'
                  and (coalesce(short_desc, '') = '' or short_desc !~ '[.]$')";
    assert_eq!(lines(&mut client, silent), Vec::<String>::new());
}

#[test]
fn misspelt_are_refused() {
    let mut client = server().connect("postgres");
    for sql in [
        "alter system set plugin_webhooks.nonsense = '1'",
        "set plugin_webhooks.nonsense = '1'",
        "select set_config('plugin_webhooks.nonsense', '1', false)",
        "alter role postgres set plugin_webhooks.nonsense = '1'",
    ] {
        let error = client.batch_execute(sql).expect_err(sql);
        let code = error.code().expect("an SQLSTATE").code().to_owned();
        assert!(["42602", "42704"].contains(&code.as_str()), "{sql}: {code}");
    }
}

#[test]
fn out_of_range_are_refused() {
    let mut client = server().connect("postgres");
    for value in [
        "max_in_flight = 0",
        "max_in_flight = 1025",
        "lease = '10s'",
        "dispatch = 'sometimes'",
        "require_signature = 'perhaps'",
        "connect_timeout = '1h'",
    ] {
        let sql = format!("alter system set plugin_webhooks.{value}");
        expect_sqlstate(client.batch_execute(&sql), "22023");
    }
}

#[test]
fn cannot_be_set_by_a_session_or_a_role() {
    let mut client = server().connect("postgres");
    for sql in [
        "set plugin_webhooks.allowed_networks = '0.0.0.0/0'",
        "set plugin_webhooks.require_signature = off",
        "alter role postgres set plugin_webhooks.secret_key_file = '/tmp/k'",
        "alter database postgres set plugin_webhooks.dispatch = 'on_call'",
    ] {
        expect_sqlstate(client.batch_execute(sql), "55P02");
    }
}

#[test]
fn about_networks_and_files_are_for_superusers_eyes() {
    server()
        .connect("postgres")
        .batch_execute("create role curious login")
        .expect("a role");
    let mut client = server().connect_as("postgres", "curious");
    let secret = [
        "allowed_networks",
        "allowed_secret_names",
        "ca_file",
        "secret_key_file",
        "show_internal_bodies",
    ];
    for name in secret {
        expect_sqlstate(
            client.batch_execute(&format!("show plugin_webhooks.{name}")),
            "42501",
        );
        expect_sqlstate(
            client.batch_execute(&format!("select current_setting('plugin_webhooks.{name}')")),
            "42501",
        );
    }
    let names = "select substr(name, 17) from pg_settings where name like 'plugin_webhooks.%' order by name";
    let mut all_others = lines(&mut server().connect("postgres"), names);
    all_others.retain(|name| !secret.contains(&name.as_str()));
    assert_eq!(lines(&mut client, names), all_others);
}
