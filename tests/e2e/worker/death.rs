use super::*;

#[test]
fn a_terminated_worker_is_replaced_and_what_it_had_claimed_is_sent() {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let frozen = frozen(&database, &receiver);
    let mut client = database.client();
    frozen.insert_items(&mut client, 3);
    receiver.wait_for(3, SOON);
    let pid = wait_for_worker(&mut client);
    receiver.answer("/frozen", Reply::ok());
    own.terminate(pid);
    let deliveries = frozen.wait_delivered(&mut client, SOON);
    assert!(deliveries.iter().all(|delivery| delivery.attempts == 0));
    assert_ne!(wait_for_worker(&mut client), pid);
    assert_eq!(receiver.count(), 6);
}

#[test]
fn kill_9_of_the_worker_loses_no_committed_change() {
    let own = builder().preloaded().setting("fsync", "on").start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    receiver.answer(
        "/",
        Reply::Delay(Duration::from_millis(20), Box::new(Reply::ok())),
    );
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    for _ in 0..100 {
        tenant.insert_items(&mut client, 2);
    }
    receiver.wait_for(5, SOON);
    let pid = wait_for_worker(&mut client);
    own.kill_9_and_recover(pid);
    let mut client = database.client();
    let deliveries = tenant.wait_delivered(&mut client, SOON);
    assert_eq!(deliveries.len(), 200);
    let requests = receiver.requests();
    let received: HashSet<&str> = requests
        .iter()
        .filter_map(|request| request.header("X-Plugin-Delivery-Id"))
        .collect();
    assert!(
        deliveries
            .iter()
            .all(|delivery| received.contains(&*delivery.id))
    );
}

#[test]
fn a_crash_of_the_server_loses_no_committed_change() {
    let own = builder().preloaded().setting("fsync", "on").start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = frozen(&database, &receiver);
    let mut client = database.client();
    tenant.insert_items(&mut client, 50);
    receiver.wait_for(FIRST_WINDOW, SOON);
    own.crash();
    receiver.answer("/frozen", Reply::ok());
    own.start_again();
    let mut client = database.client();
    assert_eq!(tenant.wait_delivered(&mut client, SOON).len(), 50);
}

#[test]
fn a_fast_stop_does_not_wait_for_64_requests_that_are_out() {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    freeze_64(&database, &receiver);
    let took = own.stop(StopMode::Fast);
    assert!(took < Duration::from_secs(1), "{took:?}");
    receiver.answer("/frozen", Reply::ok());
    own.start_again();
    wait_until(SOON, "all deliveries after the restart", || {
        value::<i64>(
            &mut database.client(),
            "select count(*) from int.plugin_delivery_queue where status = 'delivered'",
        ) == 80
    });
}
