use super::*;

#[test]
fn only_what_the_processor_requests_is_sent_in_batches_of_the_asked_size() {
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.dispatch", "on_call")
        .start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    wait_for_worker(&mut client);
    tenant.insert_items(&mut client, 60);
    let mut sent = 0;
    for (batch, moved) in [
        ("(7)", 7),
        ("(null)", 25),
        ("(0)", 25),
        ("()", 3),
        ("(-1)", 0),
    ] {
        wait_for_looks(&mut client, 3);
        assert_eq!(receiver.count(), sent, "before {batch}");
        assert_eq!(process(&database, batch), moved, "{batch}");
        sent += usize::try_from(moved).expect("a count");
        wait_until(SOON, "the batch", || {
            let deliveries = tenant.deliveries(&mut client);
            deliveries
                .iter()
                .filter(|delivery| delivery.status == "delivered")
                .count()
                == sent
        });
        let waiting = tenant.deliveries(&mut client);
        let waiting = waiting
            .iter()
            .filter(|delivery| delivery.status == "pending");
        assert_eq!(waiting.count(), 60 - sent);
    }
    assert_eq!(receiver.count(), 60);
}
