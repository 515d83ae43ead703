use super::*;

#[test]
fn a_sending_row_whose_lease_ran_out_is_sent_again_and_no_other() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 3);
    let deliveries = tenant.wait_delivered(&mut client, SOON);
    receiver.clear();
    let leases = [
        "now() - interval '1 second'",
        "null",
        "now() + interval '1 hour'",
    ];
    for (delivery, lease) in deliveries.iter().zip(leases) {
        execute(
            &mut client,
            &format!(
                "update int.plugin_delivery_queue set status = 'sending', claim_id = 1, lease_expires_at = {lease}
                 where id = '{}'",
                delivery.id
            ),
        );
    }
    tenant.wait_for(&mut client, SOON, |delivery| {
        delivery.status == "delivered" || delivery.id == deliveries[2].id
    });
    let requests = receiver.requests();
    let again: HashSet<&str> = requests
        .iter()
        .filter_map(|request| request.header("X-Plugin-Delivery-Id"))
        .collect();
    assert_eq!(
        again,
        HashSet::from([&*deliveries[0].id, &*deliveries[1].id])
    );
    assert_eq!(tenant.deliveries(&mut client)[2].status, "sending");
}

#[test]
fn the_processor_returns_expired_leases_at_once() {
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.dispatch", "on_call")
        .start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    execute(
        &mut client,
        "update int.plugin_delivery_queue
         set status = 'sending', claim_id = 1, lease_expires_at = now() - interval '1 second'",
    );
    assert_eq!(process(&database, "()"), 1);
    tenant.wait_delivered(&mut client, SOON);
    assert_eq!(receiver.count(), 1);
}

#[test]
fn the_late_outcome_of_an_older_claim_changes_nothing() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    for reply in [Reply::ok(), Reply::Status(500, String::new())] {
        let held = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(AtomicBool::new(false));
        let (holding, released) = (Arc::clone(&held), Arc::clone(&release));
        receiver.on("/held", move |_| {
            holding.fetch_add(1, Ordering::Relaxed);
            wait_until(SOON, "the release", || released.load(Ordering::Relaxed));
            reply.clone()
        });
        let tenant = Tenant::with_items_to(&database, &receiver.url("/held"));
        let mut client = database.client();
        tenant.insert_items(&mut client, 1);
        wait_until(SOON, "the request", || held.load(Ordering::Relaxed) == 1);
        let newer_claim = "update int.plugin_delivery_queue
             set claim_id = claim_id # 1, lease_expires_at = now() + interval '1 hour'
             where claim_id is not null";
        execute(&mut client, newer_claim);
        let row = "select string_agg(q::text, '') from int.plugin_delivery_queue as q where claim_id is not null";
        let before: String = value(&mut client, row);
        let count = receiver.count();
        release.store(true, Ordering::Relaxed);
        receiver.wait_for(count + 1, SOON);
        // A later request that is settled shows that the outcome has been read.
        assert_delivers(&database, &receiver);
        wait_for_looks(&mut client, 2);
        let after: String = value(&mut client, row);
        assert_eq!(after, before);
        execute(&mut client, "delete from int.plugin_delivery_queue");
    }
}

#[test]
fn the_late_outcome_of_an_older_claim_does_not_undo_the_newer_one() {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let order = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(AtomicBool::new(false));
    let (arrivals, released) = (Arc::clone(&order), Arc::clone(&release));
    // The first request is held and then refused; the second is accepted at once.
    receiver.on("/held", move |_| {
        if arrivals.fetch_add(1, Ordering::Relaxed) > 0 {
            return Reply::ok();
        }
        wait_until(SOON, "the release", || released.load(Ordering::Relaxed));
        Reply::Status(500, "late".into())
    });
    let tenant = Tenant::with_items_to(&database, &receiver.url("/held"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    wait_until(SOON, "the first request", || {
        order.load(Ordering::Relaxed) == 1
    });
    // The lease is aged by hand: the shortest is longer than a test.
    execute(
        &mut client,
        "update int.plugin_delivery_queue set lease_expires_at = now() - interval '1 second'",
    );
    execute(&mut client, "select rpc_process_plugin_deliveries()");
    let before = tenant.wait_delivered(&mut client, SOON);
    assert_eq!(order.load(Ordering::Relaxed), 2);
    release.store(true, Ordering::Relaxed);
    receiver.wait_for(2, SOON);
    assert_delivers(&database, &receiver);
    wait_for_looks(&mut client, 2);
    let mut after = tenant.deliveries(&mut client);
    after[0].due_in = before[0].due_in;
    assert_eq!(after, before);
    assert_eq!((after[0].attempts, &after[0].last_error), (0, &None));
}

/// `None`: the row is gone.
#[test]
fn what_is_changed_by_hand_while_a_request_is_out_holds() {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let mut client = database.client();
    let statuses = "select string_agg(status, ' ') from int.plugin_delivery_queue";
    for (n, (change, end, requests)) in [
        ("update {} set status = 'dead'", Some("dead"), 1),
        ("update {} set status = 'delivered'", Some("delivered"), 1),
        ("update {} set status = 'failed'", Some("failed"), 1),
        ("delete from {}", None, 1),
        ("truncate {}", None, 1),
        ("update {} set status = 'pending'", Some("delivered"), 2),
        (
            "update {} set status = 'dead'; update {} set status = 'pending'",
            Some("delivered"),
            2,
        ),
        (
            "update {} set lease_expires_at = null",
            Some("delivered"),
            2,
        ),
        ("update {} set claim_id = null", Some("delivered"), 2),
    ]
    .into_iter()
    .enumerate()
    {
        let arrivals = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(AtomicBool::new(false));
        let (arrived, released) = (Arc::clone(&arrivals), Arc::clone(&release));
        let path = format!("/{n}");
        receiver.on(&path, move |_| {
            if arrived.fetch_add(1, Ordering::Relaxed) > 0 {
                return Reply::ok();
            }
            wait_until(SOON, "the release", || released.load(Ordering::Relaxed));
            Reply::Status(500, "late".into())
        });
        let tenant = Tenant::with_items_to(&database, &receiver.url(&path));
        tenant.insert_items(&mut client, 1);
        wait_until(SOON, "the request", || {
            arrivals.load(Ordering::Relaxed) == 1
        });
        execute(
            &mut client,
            &change.replace("{}", "int.plugin_delivery_queue"),
        );
        wait_until(SOON, change, || {
            arrivals.load(Ordering::Relaxed) == requests
                && value::<Option<String>>(&mut client, statuses).as_deref() == end
        });
        release.store(true, Ordering::Relaxed);
        // A later request that is settled shows that the outcome has been read.
        assert_delivers(&database, &receiver);
        wait_for_looks(&mut client, 2);
        let after: Option<String> = value(
            &mut client,
            &format!(
                "{statuses} where plugin_installation_id = '{}'",
                tenant.installation
            ),
        );
        assert_eq!(after.as_deref(), end, "{change}");
        assert_eq!(arrivals.load(Ordering::Relaxed), requests, "{change}");
        execute(&mut client, "delete from int.plugin_delivery_queue");
    }
}
