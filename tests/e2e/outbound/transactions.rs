use super::*;

#[test]
fn what_is_rolled_back_is_never_sent() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    let mut transaction = client.transaction().expect("begin");
    let insert = format!(
        "insert into items (tenant_id, title) values ('{}', 'gone')",
        tenant.id
    );
    transaction.batch_execute(&insert).expect("insert");
    transaction.rollback().expect("roll back");
    execute(
        &mut client,
        &format!(
            "begin; savepoint s; {insert}; rollback to s;
             insert into items (tenant_id, title) values ('{}', 'kept'); commit",
            tenant.id
        ),
    );
    tenant.wait_delivered(&mut client, SOON);
    let delivery = tenant.delivery(&mut client);
    assert_eq!(receiver.count(), 1);
    assert_carries(&receiver.requests()[0], &delivery);
}

#[test]
fn nothing_is_sent_before_the_commit() {
    let (database, receiver) = (project_with_items(shared_server()), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/open"));
    let mut client = database.client();
    let mut transaction = client.transaction().expect("begin");
    transaction
        .batch_execute(&format!(
            "insert into items (tenant_id) values ('{}')",
            tenant.id
        ))
        .expect("insert");
    assert_delivers(&database, &receiver);
    assert_eq!(receiver.count(), 1, "only the healthy one");
    transaction.commit().expect("commit");
    tenant.wait_delivered(&mut client, SOON);
    assert_eq!(receiver.count(), 2);
}

#[test]
fn a_prepared_transaction_is_sent_after_commit_prepared() {
    let server = Server::preloaded(
        Tree::shared(),
        &[
            ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
            ("max_prepared_transactions", "4"),
        ],
    );
    let (database, receiver) = (project_with_items(&server), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/prepared"));
    let mut client = database.client();
    for name in ["kept", "gone"] {
        execute(
            &mut client,
            &format!(
                "begin; insert into items (tenant_id, title) values ('{}', '{name}'); prepare transaction '{name}'",
                tenant.id
            ),
        );
    }
    assert_delivers(&database, &receiver);
    assert_eq!(receiver.count(), 1, "only the healthy one");
    execute(&mut client, "rollback prepared 'gone'");
    execute(&mut client, "commit prepared 'kept'");
    tenant.wait_delivered(&mut client, SOON);
    assert_eq!(tenant.deliveries(&mut client).len(), 1);
    assert_eq!(receiver.count(), 2);
}
