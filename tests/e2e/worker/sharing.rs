use super::*;

#[test]
fn an_open_transaction_that_holds_rows_on_their_way_stops_nobody_else() {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = frozen(&database, &receiver);
    let mut client = database.client();
    tenant.insert_items(&mut client, 3);
    receiver.wait_for(3, SOON);
    let mut holder = database.client();
    let mut open = holder.transaction().expect("begin");
    let held = open
        .execute("select id from int.plugin_delivery_queue for update", &[])
        .expect("lock");
    assert_eq!(held, 3);
    // The requests end; their outcomes cannot be written.
    receiver.answer("/frozen", Reply::ok());
    receiver.stop();
    receiver.start_again();
    for _ in 0..3 {
        assert_delivers(&database, &receiver);
    }
    open.rollback().expect("let go");
    tenant.wait_for(&mut client, SOON, |delivery| {
        delivery.status == "delivered" || delivery.attempts > 0
    });
}

#[test]
fn a_frozen_receiver_takes_its_share_of_requests_and_stops_nobody_else() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    let frozen = frozen(&database, &receiver);
    let other = Tenant::with_items_to(&database, &receiver.url("/other"));
    let mut client = database.client();
    frozen.insert_items(&mut client, 200);
    receiver.wait_for(FIRST_WINDOW, SOON);
    for _ in 0..3 {
        other.insert_items(&mut client, 100);
        other.wait_delivered(&mut client, SOON);
    }
    let requests = receiver.requests();
    let stuck = requests
        .iter()
        .filter(|request| request.path() == "/frozen");
    assert_eq!(stuck.count(), FIRST_WINDOW);
}

#[test]
fn allowed_networks_changes_take_effect_without_a_restart() {
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.allowed_networks", "")
        .start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    let pid = wait_for_worker(&mut client);
    tenant.insert_items(&mut client, 1);
    tenant.wait_failed(&mut client, SOON, 1);
    assert_eq!(receiver.connections(), 0);
    // The worker reads the file some time after the reload: each try may still be refused.
    let retry_until = |client: &mut Client, status: &str| {
        wait_until(SOON, status, || {
            execute(
                client,
                "update int.plugin_delivery_queue set attempts = 0, next_attempt_at = now() where status = 'pending'",
            );
            tenant
                .deliveries(client)
                .iter()
                .any(|delivery| delivery.status == status)
        });
    };
    own.alter_system("plugin_webhooks.allowed_networks", "127.0.0.0/8");
    retry_until(&mut client, "delivered");
    own.alter_system("plugin_webhooks.allowed_networks", "10.0.0.0/8");
    wait_until(SOON, "a refused delivery", || {
        execute(&mut client, "delete from int.plugin_delivery_queue");
        tenant.insert_items(&mut client, 1);
        let settled = tenant.wait_for(&mut client, SOON, |delivery| {
            delivery.attempts > 0 || delivery.status == "delivered"
        });
        settled[0].status == "pending"
    });
    let connections = receiver.connections();
    execute(&mut client, "delete from int.plugin_delivery_queue");
    tenant.insert_items(&mut client, 1);
    tenant.wait_failed(&mut client, SOON, 1);
    assert_eq!(receiver.connections(), connections);
    assert_eq!(wait_for_worker(&mut client), pid);
}
