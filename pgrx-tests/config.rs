//! What an installation's configuration may hold: checked when stored, kept as it is.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Caller, Tenant, operator, text};
    use pgrx::prelude::*;

    /// Both ways to store a configuration, each as a user who has not called before.
    fn ways(tenant: &Tenant, config: &str) -> [(Caller, String); 2] {
        let config = text(config);
        [
            format!(
                "public.rpc_install_plugin('{}', '{}', null, {config})",
                tenant.id, tenant.plugin_key
            ),
            format!(
                "public.rpc_update_plugin_installation('{}', '{}', null, null, {config})",
                tenant.id, tenant.installation
            ),
        ]
        .map(|call| (Caller::admin(&tenant.id), call))
    }

    fn refuses(configs: &[&str], field: &str) {
        let tenant = Tenant::with_plugin("crm");
        for config in configs {
            for (admin, call) in ways(&tenant, config) {
                admin.refused_with_hint(&call, "22023", field);
            }
        }
        assert_eq!(
            operator().optional("select config from int.plugin_installations"),
            None,
            "nothing is stored"
        );
    }

    fn accepts(configs: &[&str]) {
        let tenant = Tenant::with_plugin("crm");
        for config in configs {
            for (admin, call) in ways(&tenant, config) {
                operator().run("update int.plugin_installations set config = null");
                admin.run(&format!("select {call}"));
                assert_eq!(
                    operator().value("select config from int.plugin_installations"),
                    operator().value(&format!("{}::jsonb", text(config))),
                    "after {call}"
                );
            }
        }
    }

    #[pg_extern]
    fn webhook_url_has_to_be_an_absolute_http_url() {
        refuses(
            &[
                r#"{"webhook_url": ""}"#,
                r#"{"webhook_url": "/hook"}"#,
                r#"{"webhook_url": "hook"}"#,
                r#"{"webhook_url": "example.com/hook"}"#,
                r#"{"webhook_url": "//example.com/hook"}"#,
                r#"{"webhook_url": "ftp://example.com/"}"#,
                r#"{"webhook_url": "file:///etc/passwd"}"#,
                r#"{"webhook_url": "javascript:alert(1)"}"#,
                r#"{"webhook_url": "https://"}"#,
                r#"{"webhook_url": "https:///hook"}"#,
                r#"{"webhook_url": "https://user@example.com/"}"#,
                r#"{"webhook_url": "https://user:secret@example.com/"}"#,
                r#"{"webhook_url": "https://exa mple.com/"}"#,
                r#"{"webhook_url": "https://example.com/\r\nX: y"}"#,
                r#"{"webhook_url": 5}"#,
                r#"{"webhook_url": true}"#,
                r#"{"webhook_url": ["https://example.com/"]}"#,
            ],
            "webhook_url",
        );
    }

    #[pg_extern]
    fn a_refused_url_with_credentials_is_not_repeated_in_the_error() {
        let tenant = Tenant::with_plugin("crm");
        for (admin, call) in ways(
            &tenant,
            r#"{"webhook_url": "https://user:hunter2@example.com/"}"#,
        ) {
            let failure = admin.refused(&call, "22023");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }

    #[pg_extern]
    fn timeout_ms_has_to_be_a_whole_number() {
        refuses(
            &[
                r#"{"timeout_ms": "5000"}"#,
                r#"{"timeout_ms": 2.5}"#,
                r#"{"timeout_ms": true}"#,
                r#"{"timeout_ms": [5000]}"#,
                r#"{"timeout_ms": {}}"#,
            ],
            "timeout_ms",
        );
    }

    #[pg_extern]
    fn headers_have_to_be_an_object_of_texts() {
        refuses(
            &[
                r#"{"headers": ["X-A: b"]}"#,
                r#"{"headers": "X-A: b"}"#,
                r#"{"headers": 1}"#,
            ],
            "headers",
        );
        for value in ["1", "null", "true", "{}", "[\"v\"]"] {
            let config = format!(r#"{{"headers": {{"X-Good": "v", "X-Odd": {value}}}}}"#);
            let tenant = Tenant::with_plugin("odd");
            for (admin, call) in ways(&tenant, &config) {
                admin.refused_with_hint(&call, "22023", "headers.X-Odd");
            }
        }
    }

    #[pg_extern]
    fn headers_of_the_sender_and_of_http_are_reserved() {
        let tenant = Tenant::with_plugin("crm");
        for name in [
            "X-Plugin-Foo",
            "x-plugin-signature",
            "X-PLUGIN-DELIVERY-ID",
            "Host",
            "content-length",
            "Content-Type",
            "Transfer-Encoding",
            "Connection",
        ] {
            let config = format!(r#"{{"headers": {{"{name}": "v"}}}}"#);
            for (admin, call) in ways(&tenant, &config) {
                admin.refused_with_hint(&call, "22023", &format!("headers.{name}"));
            }
        }
    }

    #[pg_extern]
    fn headers_cannot_smuggle_lines_or_bad_names() {
        refuses(
            &[
                r#"{"headers": {"X-A": "v\r\nHost: evil"}}"#,
                r#"{"headers": {"X-A": "v\n"}}"#,
                r#"{"headers": {"X-A": "v\r"}}"#,
                r#"{"headers": {"X-A\r\nHost": "v"}}"#,
                r#"{"headers": {"X-A:": "v"}}"#,
                r#"{"headers": {"X A": "v"}}"#,
                r#"{"headers": {"": "v"}}"#,
                r#"{"headers": {"X-A": "ä"}}"#,
            ],
            "headers",
        );
    }

    #[pg_extern]
    fn a_config_that_is_no_object_is_refused() {
        refuses(
            &[
                "[]",
                "\"https://example.com/\"",
                "1",
                "true",
                r#"[{"a": 1}]"#,
            ],
            "config",
        );
    }

    #[pg_extern]
    fn a_config_of_json_null_counts_as_none() {
        let tenant = Tenant::with_plugin("crm");
        tenant.admin.run(&format!(
            r#"select public.rpc_install_plugin('{}', 'crm', null, '{{"a": 1}}')"#,
            tenant.id
        ));
        tenant.admin.run(&format!(
            "select public.rpc_update_plugin_installation('{}', '{}', null, null, 'null')",
            tenant.id, tenant.installation
        ));
        assert_eq!(
            operator().value("select config from int.plugin_installations"),
            r#"{"a": 1}"#,
            "an update without config keeps the old one"
        );
        tenant.admin.run(&format!(
            "select public.rpc_install_plugin('{}', 'crm', null, 'null')",
            tenant.id
        ));
        assert_eq!(
            operator().optional("select config from int.plugin_installations"),
            None
        );
    }

    #[pg_extern]
    fn a_good_config_is_stored_as_it_is() {
        accepts(&[
            "{}",
            r#"{"webhook_url": "https://example.com/hook?a=b&c=%20"}"#,
            r#"{"webhook_url": "http://127.0.0.1:8080/hook"}"#,
            r#"{"webhook_url": "https://[2001:db8::1]:8443/"}"#,
            r#"{"webhook_url": null, "timeout_ms": null, "headers": null}"#,
            r#"{"headers": {}}"#,
            r#"{"headers": {"Authorization": "Bearer a.b-c", "X-Tab": "a\tb", "X-Empty": ""}}"#,
            r#"{"timeout_ms": 1}"#,
            r#"{"timeout_ms": 999999}"#,
            r#"{"timeout_ms": -5}"#,
            r#"{"timeout_ms": 5000.0}"#,
        ]);
    }

    #[pg_extern]
    fn unknown_keys_are_kept_to_the_digit() {
        accepts(&[
            r#"{"price": 1.10, "big": 12345678901234567890123, "huge": 1e400, "tiny": 1e-400}"#,
            r#"{"bb": 1, "a": {"webhook_url": "not checked here", "headers": []}, "": [null, true]}"#,
            r#"{"Webhook_URL": "hook", "text": "\u0001 \" \\ ü 😀"}"#,
        ]);
        let tenant = Tenant::with_plugin("erp");
        tenant.admin.run(&format!(
            r#"select public.rpc_install_plugin('{}', 'erp', null, '{{"b": 1.10, "a": 12345678901234567890123}}')"#,
            tenant.id
        ));
        assert_eq!(
            operator().value(&format!(
                "select config from int.plugin_installations where id = '{}'",
                tenant.installation
            )),
            r#"{"a": 12345678901234567890123, "b": 1.10}"#
        );
    }

    #[pg_extern]
    fn unknown_keys_may_nest_deeply() {
        let tenant = Tenant::with_plugin("crm");
        let config = format!(r#"{{"deep": {}{}}}"#, "[".repeat(2000), "]".repeat(2000));
        for (admin, call) in ways(&tenant, &config) {
            admin.run(&format!("select {call}"));
        }
        assert_eq!(
            operator().value("select config from int.plugin_installations"),
            config
        );
    }
}
