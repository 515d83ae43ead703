//! The embedded secret store, and the secret of an installation. Key files and what logs show are
//! shown by the end-to-end tests.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Tenant, operator, text, uuid};
    use pgrx::prelude::*;

    fn create(secret: &str, name: &str) -> String {
        operator().value(&format!(
            "plugin_webhooks.create_secret({}, {})",
            text(secret),
            text(name)
        ))
    }

    /// The secret that an installation with this secret_ref signs with.
    fn resolved(tenant: &Tenant, secret_ref: &str) -> Option<String> {
        operator().run(&format!(
            "update int.plugin_installations set secret_ref = {} where id = '{}'",
            text(secret_ref),
            tenant.installation
        ));
        operator().optional(&format!(
            "int.resolve_installation_signing_secret('{}')",
            tenant.installation
        ))
    }

    fn names() -> Vec<String> {
        operator()
            .rows("select id, name, description from plugin_webhooks.secret_names order by name")
    }

    #[pg_extern]
    fn a_stored_secret_is_found_by_its_name() {
        let id = operator().value(
            "plugin_webhooks.create_secret(new_secret => 'the secret', new_name => 'crm_secret', new_description => \
            'CRM')",
        );
        assert_eq!(names(), [format!("({id},crm_secret,CRM)")]);
        let tenant = Tenant::with_plugin("crm");
        assert_eq!(
            resolved(&tenant, "crm_secret").as_deref(),
            Some("the secret")
        );
    }

    #[pg_extern]
    fn a_secret_is_kept_to_the_byte() {
        let tenant = Tenant::with_plugin("crm");
        for (position, secret) in [
            " padded ",
            "\n",
            "line\nbreak\r\n\t\u{1}",
            "sécret 🦀 日本",
            "'; drop table int.plugins; --",
            "\\x00 $1 %s {}",
            &"long".repeat(10_000),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("secret {position}");
            create(secret, &name);
            assert_eq!(resolved(&tenant, &name).as_deref(), Some(secret));
        }
    }

    #[pg_extern]
    fn equal_secrets_are_stored_differently() {
        create("the same", "one");
        create("the same", "two");
        assert_eq!(
            operator().count(
                "(select distinct nonce from plugin_webhooks.secrets
                  union all select distinct ciphertext from plugin_webhooks.secrets) as d"
            ),
            4
        );
        assert_eq!(
            operator().count(
                "plugin_webhooks.secrets where position('the same'::bytea in ciphertext) > 0"
            ),
            0
        );
    }

    #[pg_extern]
    fn a_secret_needs_a_value_and_a_name() {
        for arguments in [
            "null, 'n'",
            "'', 'n'",
            "'s', null",
            "'s', ''",
            "'s', E' \\n'",
        ] {
            operator().refused_with_hint(
                &format!("plugin_webhooks.create_secret({arguments})"),
                "23514",
                "neither null nor blank",
            );
        }
        assert_eq!(names(), [""; 0]);
    }

    #[pg_extern]
    fn whsec_without_base64_is_no_secret() {
        let id = create("one", "good");
        for bad in ["whsec_", "whsec_*", "v1,whsec_", "whsec_YSB0Z"] {
            for call in [
                format!("create_secret('{bad}', 'bad')"),
                format!("update_secret('{id}', '{bad}')"),
            ] {
                operator().refused(&format!("plugin_webhooks.{call}"), "22023");
            }
        }
    }

    #[pg_extern]
    fn a_receiver_gets_a_secret_as_its_library_takes_it() {
        let given =
            |name: &str| operator().value(&format!("plugin_webhooks.receiver_secret('{name}')"));
        for (secret, expected) in [
            ("a text", "whsec_YSB0ZXh0"),
            ("whsec_YSB0ZXh0", "whsec_YSB0ZXh0"),
            ("v1,whsec_YSB0ZXg", "whsec_YSB0ZXg="),
        ] {
            create(secret, secret);
            assert_eq!(given(secret), expected);
        }
        operator().refused("plugin_webhooks.receiver_secret('nothing')", "P0001");
        for blank in ["null", "' '"] {
            operator().refused(
                &format!("plugin_webhooks.receiver_secret({blank})"),
                "23514",
            );
        }
    }

    #[pg_extern]
    fn names_of_secrets_have_at_most_200_characters() {
        let id = create("one", &"ä".repeat(200));
        let too_long = text(&"ä".repeat(201));
        for call in [
            format!("create_secret('two', {too_long})"),
            format!("update_secret('{id}', new_name => {too_long})"),
        ] {
            operator().refused(&format!("plugin_webhooks.{call}"), "23514");
        }
    }

    #[pg_extern]
    fn names_of_secrets_are_trimmed_and_unique() {
        let id = create("s", " crm \n");
        assert_eq!(names(), [format!("({id},crm,\"\")")]);
        for name in ["crm", "crm "] {
            operator().refused(
                &format!("plugin_webhooks.create_secret('t', {})", text(name)),
                "23505",
            );
        }
        create("s", "CRM");
        assert_eq!(names().len(), 2);
    }

    #[pg_extern]
    fn a_description_of_null_is_none() {
        let id = operator().value("plugin_webhooks.create_secret('s', 'n', null)");
        assert_eq!(names(), [format!("({id},n,\"\")")]);
    }

    #[pg_extern]
    fn update_of_a_secret_changes_what_is_given_and_keeps_the_rest() {
        let tenant = Tenant::with_plugin("crm");
        let id = operator().value("plugin_webhooks.create_secret('one', 'crm', 'first')");
        let update = |rest: &str| {
            let answer = operator().value(&format!("plugin_webhooks.update_secret('{id}'{rest})"));
            assert_eq!(answer, "", "the function returns nothing");
            names()
        };
        assert_eq!(update(""), [format!("({id},crm,first)")]);
        assert_eq!(resolved(&tenant, "crm").as_deref(), Some("one"));
        assert_eq!(update(", 'two'"), [format!("({id},crm,first)")]);
        assert_eq!(resolved(&tenant, "crm").as_deref(), Some("two"));
        assert_eq!(
            update(", new_name => ' erp '"),
            [format!("({id},erp,first)")]
        );
        assert_eq!(resolved(&tenant, "erp").as_deref(), Some("two"));
        assert_eq!(resolved(&tenant, "crm"), None);
        assert_eq!(
            update(", new_description => ''"),
            [format!("({id},erp,\"\")")]
        );
        assert_eq!(
            update(", 'three', 'crm', 'last'"),
            [format!("({id},crm,last)")]
        );
        assert_eq!(resolved(&tenant, "crm").as_deref(), Some("three"));
    }

    #[pg_extern]
    fn update_and_delete_of_a_secret_name_their_mistakes() {
        let id = create("s", "one");
        create("s", "two");
        let unknown = uuid();
        for (call, sqlstate) in [
            ("update_secret(null, 's')".to_owned(), "23514"),
            (format!("update_secret('{id}', '')"), "23514"),
            (format!("update_secret('{id}', null, '')"), "23514"),
            (format!("update_secret('{id}', null, '  ')"), "23514"),
            (format!("update_secret('{id}', null, 'two')"), "23505"),
            (format!("update_secret('{unknown}', 's')"), "P0001"),
            (format!("update_secret('{unknown}')"), "P0001"),
            ("delete_secret(null)".to_owned(), "23514"),
            (format!("delete_secret('{unknown}')"), "P0001"),
        ] {
            operator().refused(&format!("plugin_webhooks.{call}"), sqlstate);
        }
        assert_eq!(names().len(), 2);
    }

    #[pg_extern]
    fn a_deleted_secret_is_gone_and_its_name_free() {
        let tenant = Tenant::with_plugin("crm");
        let id = create("one", "crm");
        let answer = operator().value(&format!(
            "plugin_webhooks.delete_secret(secret_id => '{id}')"
        ));
        assert_eq!(answer, "", "the function returns nothing");
        assert_eq!(resolved(&tenant, "crm"), None);
        operator().refused(&format!("plugin_webhooks.delete_secret('{id}')"), "P0001");
        create("two", "crm");
        assert_eq!(resolved(&tenant, "crm").as_deref(), Some("two"));
    }

    #[pg_extern]
    fn a_secret_ref_that_names_no_secret_resolves_to_null() {
        let tenant = Tenant::with_plugin("crm");
        create("s", "crm");
        for secret_ref in ["", " ", "CRM", "crm\n", " crm", "%", "crm' or '1'='1"] {
            assert_eq!(resolved(&tenant, secret_ref), None, "{secret_ref:?}");
        }
        operator().run("update int.plugin_installations set secret_ref = null");
        assert_eq!(
            operator().optional(&format!(
                "int.resolve_installation_signing_secret('{}')",
                tenant.installation
            )),
            None
        );
        assert_eq!(
            operator().optional(&format!(
                "int.resolve_installation_signing_secret('{}')",
                uuid()
            )),
            None
        );
        operator().refused("int.resolve_installation_signing_secret(null)", "23514");
    }

    #[pg_extern]
    fn a_secret_that_was_tampered_with_is_55000_and_not_shown() {
        let tenant = Tenant::with_plugin("crm");
        create("hunter2", "crm");
        resolved(&tenant, "crm");
        let call = format!(
            "int.resolve_installation_signing_secret('{}')",
            tenant.installation
        );
        for change in [
            "ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1)",
            "ciphertext = substr(ciphertext, 1, 8)",
            "ciphertext = ''",
            "nonce = set_byte(nonce, 23, get_byte(nonce, 23) # 128)",
            "id = gen_random_uuid()",
        ] {
            operator().run(
                "create temp table kept on commit drop as select * from plugin_webhooks.secrets",
            );
            operator().run(&format!("update plugin_webhooks.secrets set {change}"));
            let failure = operator().refused(&call, "55000");
            assert!(failure.message.contains("\"crm\""), "{failure:?}");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
            operator().run("delete from plugin_webhooks.secrets");
            operator().run("insert into plugin_webhooks.secrets select * from kept");
            operator().run("drop table kept");
        }
        assert_eq!(resolved(&tenant, "crm").as_deref(), Some("hunter2"));
    }

    #[pg_extern]
    fn a_secret_of_a_tenant_or_a_plugin_serves_no_other() {
        let (one, two) = (
            Tenant::with_plugin("crm"),
            Tenant::with_installation_of("crm"),
        );
        let desk = Tenant::with_plugin("desk");
        let bound = |name: &str, tenant: &str, plugin: &str| {
            operator().run(&format!(
                "select plugin_webhooks.create_secret('s', '{name}', '', {tenant}, {plugin})"
            ));
        };
        let first = format!("'{}'", one.id);
        bound("of one", &first, "null");
        bound("of crm", "null", "'crm'");
        bound("of their desk", &first, "'desk'");
        bound("of all", "null", "null");
        for (name, serves) in [
            ("of one", [true, false, false]),
            ("of crm", [true, true, false]),
            ("of their desk", [false, false, false]),
            ("of all", [true, true, true]),
        ] {
            let served = [&one, &two, &desk].map(|tenant| resolved(tenant, name).is_some());
            assert_eq!(served, serves, "{name}");
        }
        assert_eq!(
            operator().rows(
                "select name, tenant_id, plugin_key from plugin_webhooks.secret_names order by name"
            ),
            [
                "(\"of all\",,)".to_owned(),
                "(\"of crm\",,crm)".to_owned(),
                format!("(\"of one\",{},)", one.id),
                format!("(\"of their desk\",{},desk)", one.id),
            ]
        );
        operator().refused(
            "plugin_webhooks.create_secret('s', 'blank', '', null, ' ')",
            "23514",
        );
    }

    #[pg_extern]
    fn installations_that_may_not_use_their_secret_are_listed() {
        let (one, two) = (
            Tenant::with_plugin("crm"),
            Tenant::with_installation_of("crm"),
        );
        operator().run(&format!(
            "select plugin_webhooks.create_secret('s', 'of one', '', '{}')",
            one.id
        ));
        resolved(&one, "of one");
        resolved(&two, "of one");
        Tenant::with_installation_of("crm");
        assert_eq!(
            operator().rows(
                "select tenant_id, installation_id, plugin_key, status, secret_ref, reason \
                 from plugin_webhooks.refused_secret_refs"
            ),
            [format!(
                "({},{},crm,installed,\"of one\",\"the secret is another tenant's or plugin's\")",
                two.id, two.installation
            )]
        );
    }

    #[pg_extern]
    fn a_row_that_was_renamed_moved_or_given_away_is_55000() {
        let tenant = Tenant::with_plugin("crm");
        create("hunter2", "other");
        operator().run(&format!(
            "select plugin_webhooks.create_secret('hunter3', 'crm', '', '{}', 'crm')",
            tenant.id
        ));
        resolved(&tenant, "crm");
        let call = format!(
            "int.resolve_installation_signing_secret('{}')",
            tenant.installation
        );
        let secrets = "plugin_webhooks.secrets";
        operator().run(&format!("create table kept as select * from {secrets}"));
        let take = "ciphertext = o.ciphertext, nonce = o.nonce, aad_version = o.aad_version";
        for change in [
            format!("update {secrets} as s set {take} from kept as o where s.name = 'crm' and o.name = 'other'"),
            format!("update {secrets} set name = 'crm' where name = 'other'"),
            format!("update {secrets} set tenant_id = null where name = 'crm'"),
            format!("update {secrets} set plugin_key = null where name = 'crm'"),
            format!("update {secrets} set tenant_id = null, plugin_key = null where name = 'crm'"),
            format!(
                "update {secrets} set tenant_id = null, plugin_key = null, aad_version = 1 where name = 'crm'"
            ),
            format!(
                "update {secrets} as s set tenant_id = '{}', plugin_key = 'crm' where name = 'other';
                 update {secrets} set name = 'crm' where name = 'other'",
                tenant.id
            ),
        ] {
            if change.contains("set name = 'crm'") {
                operator().run(&format!("delete from {secrets} where name = 'crm'"));
            }
            for statement in change.split(';') {
                operator().run(statement);
            }
            let failure = operator().refused(&call, "55000");
            assert!(!format!("{failure:?}").contains("hunter"), "{failure:?}");
            operator().run(&format!("delete from {secrets}"));
            operator().run(&format!("insert into {secrets} select * from kept"));
        }
        assert_eq!(resolved(&tenant, "crm").as_deref(), Some("hunter3"));
        operator().run(
            "select plugin_webhooks.update_secret(id, new_name => 'renamed') from kept where name = 'crm'",
        );
        assert_eq!(resolved(&tenant, "renamed").as_deref(), Some("hunter3"));
    }

    #[pg_extern]
    fn vault_wins_where_it_exists() {
        let tenant = Tenant::with_plugin("crm");
        create("embedded", "crm");
        create("embedded", "only_here");
        operator().run("create schema vault");
        operator().run(
            "create view vault.decrypted_secrets as
             select * from (values ('crm', 'from vault'), ('empty', ''), ('null', null), ('twice', 'a'), ('twice', 'a'))
                 as s (name, decrypted_secret)",
        );
        operator().run("select plugin_webhooks.attach_host()");
        for (name, expected) in [
            ("crm", Some("from vault")),
            ("only_here", None),
            ("empty", None),
            ("null", None),
            ("twice", Some("a")),
        ] {
            assert_eq!(resolved(&tenant, name).as_deref(), expected, "{name}");
        }
    }
}
