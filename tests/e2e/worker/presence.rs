use super::*;

#[test]
fn each_database_with_the_extension_has_one_worker_that_serves_it() {
    let databases = [project_with_items(server()), project_with_items(server())];
    let mut pids = HashSet::new();
    for database in &databases {
        let mut client = database.client();
        let pid = wait_for_worker(&mut client);
        pids.insert(pid);
        let told: Option<i32> = value(&mut client, "select worker_pid from plugin_webhooks.health");
        assert_eq!(told, Some(pid));
    }
    assert_eq!(pids.len(), 2);
    for database in &databases {
        assert_delivers(database, &Receiver::http());
        assert_eq!(workers(&mut database.client()).len(), 1);
    }
}

#[test]
fn a_database_without_the_extension_keeps_no_worker() {
    let database = server().empty_database();
    let mut client = database.client();
    // Another database being served shows that the launcher has looked since.
    project_with_items(server());
    wait_for_no_worker(&mut client);
}

#[test]
fn create_extension_brings_the_worker_without_a_restart() {
    let own = builder().preloaded().start();
    let database = own.empty_database();
    let mut client = database.client();
    assert_eq!(workers(&mut client), []);
    execute(&mut client, "create extension plugin_webhooks");
    wait_for_worker(&mut client);
}

#[test]
fn create_extension_leaves_the_session_as_it_was() {
    let database = server().empty_database();
    let mut client = database.client();
    let settings = "select string_agg(name || '=' || setting, E'\n' order by name)
                    from pg_settings where name not like 'plugin_webhooks.%' and source = 'session'";
    execute(&mut client, "set search_path = public");
    let before: Option<String> = value(&mut client, settings);
    execute(&mut client, "create extension plugin_webhooks");
    let after: Option<String> = value(&mut client, settings);
    assert_eq!(after, before);
}

#[test]
fn drop_extension_while_requests_are_out_is_quick_and_the_worker_leaves() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    let mut client = database.client();
    freeze_64(&database, &receiver);
    let started = Instant::now();
    execute(&mut client, "drop extension plugin_webhooks cascade");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    wait_for_no_worker(&mut client);
    execute(&mut client, "create extension plugin_webhooks");
    execute(&mut database.client(), "select audit.track('items')");
    assert_delivers(&database, &receiver);
}

#[test]
fn an_extension_that_is_dropped_and_created_at_once_is_served_at_once() {
    // On a server of its own: any CREATE EXTENSION makes the launcher look.
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let mut client = database.client();
    wait_for_worker(&mut client);
    execute(&mut client, "drop extension plugin_webhooks cascade");
    execute(&mut client, "create extension plugin_webhooks");
    execute(&mut database.client(), "select audit.track('items')");
    assert_delivers(&database, &receiver);
}

#[test]
fn drop_database_with_force_does_not_wait_for_requests_that_are_out() {
    let (database, receiver) = (project_with_items(server()), Receiver::http());
    freeze_64(&database, &receiver);
    database.allow_log("terminating background worker");
    let mut client = server().connect("postgres");
    let started = Instant::now();
    execute(
        &mut client,
        &format!(
            "drop database {} with (force)",
            quote_ident(database.name())
        ),
    );
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn without_a_free_background_worker_a_preloaded_server_says_so_in_its_log() {
    let own = builder()
        .preloaded()
        .setting("max_worker_processes", "2")
        .start();
    own.expect_log("no background worker can be started");
    let database = project_with_items(&own);
    wait_until(SOON, "the warning", || {
        own.log()
            .lines()
            .any(|line| line.contains("max_worker_processes"))
    });
    let mut client = database.client();
    let tenant = Tenant::with_items_to(&database, &Receiver::http().url("/"));
    tenant.insert_items(&mut client, 1);
    assert_eq!(process(&database, "()"), 0);
    assert_eq!(tenant.delivery(&mut client).status, "pending");
}

#[test]
fn a_database_that_found_no_free_background_worker_is_served_once_one_is_free() {
    // PostgreSQL's own launcher, ours, and one worker.
    let own = builder()
        .preloaded()
        .setting("max_worker_processes", "3")
        .start();
    let (first, receiver) = (project_with_items(&own), Receiver::http());
    assert_delivers(&first, &receiver);
    own.expect_log("no background worker can be started");
    let second = project_with_items(&own);
    let tenant = Tenant::with_items_to(&second, &receiver.url("/second"));
    let mut client = second.client();
    tenant.insert_items(&mut client, 1);
    wait_until(SOON, "the warning with its remedy", || {
        let log = own.log();
        log.contains("no background worker can be started, deliveries wait")
            && log.contains("Raise max_worker_processes")
    });
    assert_eq!(tenant.delivery(&mut client).status, "pending");
    execute(
        &mut first.client(),
        "drop extension plugin_webhooks cascade",
    );
    tenant.wait_delivered(&mut client, SOON);
}

#[test]
fn a_database_without_the_extension_costs_no_line_in_the_log() {
    let own = builder().preloaded().start();
    let _without = own.empty_database();
    // Other databases being served shows that the launcher has looked since.
    let served: Vec<Database> = (0..3).map(|_| project_with_items(&own)).collect();
    for database in &served {
        wait_for_worker(&mut database.client());
    }
    let log = own.log();
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| {
            ["WARNING", "ERROR", "FATAL", "exit code"]
                .iter()
                .any(|word| line.contains(word))
        })
        .collect();
    assert_eq!(complaints, Vec::<&str>::new());
}

#[test]
fn a_database_that_was_dropped_with_force_and_created_again_is_served() {
    for own in [builder().preloaded().start(), builder().start()] {
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        own.allow_log("terminating background worker");
        frozen(&database, &receiver).insert_items(&mut database.client(), 3);
        process(&database, "()");
        receiver.wait_for(3, SOON);
        let name = quote_ident(database.name());
        let mut client = own.connect("postgres");
        let refused = client.batch_execute(&format!("drop database {name}"));
        expect_sqlstate(refused, "55006");
        execute(&mut client, &format!("drop database {name} with (force)"));
        execute(
            &mut client,
            &format!("create database {name} template template0"),
        );
        let mut inside = database.client();
        execute(&mut inside, "create extension plugin_webhooks");
        create_tracked_table(&mut inside, "items");
        let tenant = Tenant::with_items_to(&database, &receiver.url("/again"));
        tenant.insert_items(&mut inside, 1);
        process(&database, "()");
        tenant.wait_delivered(&mut inside, SOON);
    }
}
