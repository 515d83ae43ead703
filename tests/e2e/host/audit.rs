use super::*;

#[test]
fn counts_a_tenant_as_its_own_tenant() {
    let host = Host::new();
    let receiver = Receiver::http();
    let installation = host.install(&receiver.url("/"));
    host.subscribe(&installation, "tenants");
    let mut dba = host.dba();
    execute(
        &mut dba,
        "select audit.track('app.tenants');
             update app.tenants set name = name || '!';
             insert into app.tenants (name) values ('Three');",
    );
    let requests = receiver.wait_for(1, SOON);
    assert!(
        requests[0]
            .text()
            .contains(&format!(r#""record_id": "{}""#, host.tenant)),
        "{}",
        requests[0].text()
    );
    assert_eq!(
        count(
            &mut dba,
            "select count(*) from audit.entity_changes
             where table_schema = 'app' and table_name = 'tenants' and tenant_id::text = record_id"
        ),
        3
    );
    assert_eq!(
        count(&mut dba, "select count(*) from int.plugin_delivery_queue"),
        1
    );
}

#[test]
fn survives_the_end_of_a_tenant() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    host.subscribe(&installation, "tenants");
    host.subscribe(&installation, "assets");
    let mut dba = host.dba();
    execute(
        &mut dba,
        &format!(
            "select audit.track('app.tenants'), audit.track('app.assets');
             insert into app.assets (tenant_id) values ('{0}');
             delete from app.tenants where id = '{0}'",
            host.tenant
        ),
    );
    assert_eq!(
        text(
            &mut dba,
            "select string_agg(table_name || ' ' || operation, ', ' order by table_name, id)
             from audit.entity_changes where table_schema = 'app'"
        ),
        "assets INSERT, assets DELETE, tenants DELETE"
    );
    assert_eq!(
        count(&mut dba, "select count(*) from int.plugin_delivery_queue"),
        0
    );
}

/// Row security, a function with an empty search_path, no right to see the audit log.
#[test]
fn records_who_wrote_and_enqueues_for_ordinary_users() {
    let host = Host::new();
    let receiver = Receiver::http();
    let installation = host.install(&receiver.url("/"));
    host.subscribe(&installation, "assets");
    let mut dba = host.dba();
    execute(
        &mut dba,
        "select audit.track('app.assets');
         create function app.rename_asset(p_old text, p_new text) returns void
             language sql security invoker set search_path = ''
             as $$ update app.assets set name = p_new where name = p_old $$;
         grant execute on function app.rename_asset(text, text) to authenticated;",
    );
    host.as_(&host.member, &host.tenant, |tx| {
        tx.batch_execute(&format!(
            "insert into app.assets (tenant_id, name) values ('{}', 'Pump')",
            host.tenant
        ))
    })
    .expect("insert");
    host.as_(&host.admin, &host.tenant, |tx| {
        tx.batch_execute("set local search_path = ''; select app.rename_asset('Pump', 'Valve')")
    })
    .expect("update");
    host.as_(&host.member, &host.tenant, |tx| {
        tx.batch_execute("delete from app.assets where name = 'Valve'")
    })
    .expect("delete");
    let foreign = host.as_(&host.other_admin, &host.other_tenant, |tx| {
        tx.batch_execute(&format!(
            "insert into app.assets (tenant_id, name) values ('{}', 'Bomb')",
            host.tenant
        ))
    });
    expect_sqlstate(foreign, "42501");

    assert_eq!(
        text(
            &mut dba,
            "select string_agg(concat_ws(' ', operation, user_id, tenant_id), E'\\n' order by id)
             from audit.entity_changes where table_name = 'assets'"
        ),
        format!(
            "INSERT {m} {t}\nUPDATE {a} {t}\nDELETE {m} {t}",
            m = host.member,
            a = host.admin,
            t = host.tenant
        )
    );
    let requests = receiver.wait_for(3, SOON);
    let mut types: Vec<&str> = requests
        .iter()
        .filter_map(|request| request.header("X-Plugin-Event-Type"))
        .collect();
    types.sort_unstable();
    assert_eq!(
        types,
        [
            "entity_change.assets.delete",
            "entity_change.assets.insert",
            "entity_change.assets.update"
        ]
    );
}

#[test]
fn records_each_user_of_a_pooled_session() {
    let host = Host::new();
    execute(&mut host.dba(), "select audit.track('app.assets')");
    let mut session = host.database.authenticator();
    let mut insert = |user: &str| {
        let claims = format!(r#"{{"sub":"{user}","tenant_id":"{}"}}"#, host.tenant);
        as_user(&mut session, "authenticated", &claims, |tx| {
            tx.batch_execute(&format!(
                "insert into app.assets (tenant_id) values ('{}')",
                host.tenant
            ))
        })
        .expect("insert");
    };
    insert(&host.admin);
    insert(&host.member);
    insert(&host.admin);
    assert_eq!(
        text(
            &mut host.dba(),
            "select string_agg(user_id::text, ' ' order by id) from audit.entity_changes where table_name = 'assets'"
        ),
        format!("{0} {1} {0}", host.admin, host.member)
    );
}

#[test]
fn of_installations_names_the_admin_who_made_them() {
    let host = Host::new();
    host.install("https://receiver.invalid/");
    let mut dba = host.dba();
    wait_until(SOON, "the audit row", || {
        count(
            &mut dba,
            "select count(*) from audit.entity_changes where table_name = 'plugin_installations'",
        ) == 1
    });
    assert_eq!(
        text(
            &mut dba,
            "select concat_ws(' ', operation, user_id, tenant_id) from audit.entity_changes
             where table_name = 'plugin_installations'"
        ),
        format!("INSERT {} {}", host.admin, host.tenant)
    );
}
