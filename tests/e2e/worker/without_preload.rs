use super::*;

#[test]
fn the_processor_starts_the_worker_which_leaves_when_idle() {
    let own = builder()
        .setting("plugin_webhooks.worker_idle_timeout", "1s")
        .start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    for _ in 0..2 {
        receiver.clear();
        tenant.insert_items(&mut client, 3);
        assert_eq!(workers(&mut client), []);
        assert_eq!(receiver.count(), 0);
        assert_eq!(process(&database, "()"), 3);
        tenant.wait_delivered(&mut client, SOON);
        assert_eq!(receiver.count(), 3);
        wait_for_no_worker(&mut client);
    }
}

#[test]
fn a_worker_does_not_leave_while_a_call_of_the_processor_counts_on_it() {
    let own = builder()
        .settings(&[
            ("plugin_webhooks.worker_idle_timeout", "1s"),
            ("plugin_webhooks.dispatch", "on_call"),
        ])
        .start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    process(&database, "()");
    let pid = wait_for_worker(&mut client);
    tenant.insert_items(&mut client, 1);
    let mut session = database.client();
    let mut open = session.transaction().expect("begin");
    let moved = open.query_one("select rpc_process_plugin_deliveries()", &[]);
    assert_eq!(moved.expect("the processor").get::<_, i32>(0), 1);
    // Long enough for an idle worker to leave.
    wait_for_looks(&mut client, 15);
    open.commit().expect("commit");
    tenant.wait_delivered(&mut client, SOON);
    assert_eq!(wait_for_worker(&mut client), pid);
    wait_for_no_worker(&mut client);
}

#[test]
fn a_commit_wakes_a_worker_that_the_processor_has_started() {
    let own = builder()
        .setting("plugin_webhooks.poll_interval", "60s")
        .start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let mut client = database.client();
    assert_eq!(process(&database, "()"), 0);
    wait_for_worker(&mut client);
    for _ in 0..3 {
        assert_delivers(&database, &receiver);
    }
}

#[test]
fn without_a_free_background_worker_the_processor_moves_nothing_and_names_the_setting() {
    let own = builder().setting("max_worker_processes", "1").start();
    own.expect_log("no background worker can be started");
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 2);
    let output = database.psql("set role service_role; select rpc_process_plugin_deliveries()");
    assert!(output.success, "{output:?}");
    assert_eq!(output.stdout, "0\n");
    assert!(output.stderr.contains("WARNING"), "{output:?}");
    assert!(output.stderr.contains("max_worker_processes"), "{output:?}");
    let waiting = tenant.deliveries(&mut client);
    assert!(waiting.iter().all(|delivery| delivery.status == "pending"));
    assert_eq!(receiver.count(), 0);
}

#[test]
fn the_processor_starts_a_worker_as_soon_as_a_background_worker_is_free() {
    // PostgreSQL's own launcher and one worker.
    let own = builder()
        .settings(&[
            ("max_worker_processes", "2"),
            ("plugin_webhooks.worker_idle_timeout", "1s"),
        ])
        .start();
    let (first, second) = (project_with_items(&own), project_with_items(&own));
    let receiver = Receiver::http();
    process(&first, "()");
    wait_for_worker(&mut first.client());
    let tenant = Tenant::with_items_to(&second, &receiver.url("/"));
    let mut client = second.client();
    tenant.insert_items(&mut client, 1);
    own.expect_log("no background worker can be started");
    assert_eq!(process(&second, "()"), 0);
    wait_until(SOON, "the first worker to make room", || {
        process(&second, "()") == 1
    });
    tenant.wait_delivered(&mut client, SOON);
}
