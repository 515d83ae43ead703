use super::*;

#[test]
fn the_launcher_starts_no_second_worker_beside_one_of_the_processor() {
    let own = builder()
        .preloaded()
        .setting("log_min_messages", "debug1")
        .start();
    let database = project_with_items(&own);
    let mut client = database.client();
    let pid = wait_for_worker(&mut client);
    let started = || {
        let oid: String = value(
            &mut database.client(),
            "select oid::text from pg_database where datname = current_database()",
        );
        let line = format!(
            "starting background worker process \"plugin_webhooks worker for database {oid}\""
        );
        own.log().matches(&line).count()
    };
    let before = started();
    own.terminate(pid);
    process(&database, "()");
    let successor = wait_for_worker(&mut client);
    // The launcher looks once a second.
    let mut looks = BTreeSet::new();
    wait_until(SOON, "the launcher to look", || {
        let look: Option<String> = value(
            &mut client,
            "select max(state_change)::text from pg_stat_activity where backend_type = 'plugin_webhooks launcher'",
        );
        looks.extend(look);
        looks.len() > 5
    });
    assert_eq!(wait_for_worker(&mut client), successor);
    assert_eq!(started(), before + 1);
}

#[test]
fn the_processor_starts_no_second_worker_beside_one_that_delivers() {
    for own in [builder().preloaded().start(), builder().start()] {
        let (database, receiver) = (project_with_items(&own), Receiver::http());
        let mut client = database.client();
        frozen(&database, &receiver).insert_items(&mut client, 4);
        process(&database, "()");
        receiver.wait_for(4, SOON);
        let pid = wait_for_worker(&mut client);
        for _ in 0..5 {
            process_at_once(&database, 8);
        }
        assert_eq!(wait_for_worker(&mut client), pid);
        assert_delivers(&database, &receiver);
        let twice = requests_by_delivery(&receiver);
        assert!(twice.values().all(|times| *times == 1), "{twice:?}");
    }
}

/// If two of the new workers delivered, the second would return the first one's claims to the queue
/// and send them once more.
#[test]
fn of_many_workers_that_start_at_once_after_a_death_exactly_one_delivers() {
    let own = builder().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    const OUT: usize = FIRST_WINDOW;
    frozen(&database, &receiver).insert_items(&mut database.client(), 4);
    process(&database, "()");
    receiver.wait_for(OUT, SOON);
    for death in 1..=4 {
        let pid = wait_for_worker(&mut database.client());
        if death % 2 == 0 {
            own.kill_9_and_recover(pid);
        } else {
            own.terminate(pid);
        }
        process_at_once(&database, 12);
        receiver.wait_for(OUT * (death + 1), SOON);
        let mut client = database.client();
        assert_ne!(wait_for_worker(&mut client), pid);
        wait_for_looks(&mut client, 2);
        let sent = requests_by_delivery(&receiver);
        assert_eq!(sent.len(), OUT);
        assert!(sent.values().all(|times| *times == death + 1), "{sent:?}");
    }
}

#[test]
fn the_lock_of_the_only_worker_is_out_of_reach_for_everybody_else() {
    let database = project_with_items(server());
    let mut client = database.client();
    let pid = wait_for_worker(&mut client);
    let lock = format!(
        "select format('%s %s', classid::int8 << 32 | objid::int8, count(*) over ())
         from pg_locks where pid = {pid} and locktype = 'advisory' and granted"
    );
    let held: String = value(&mut client, &lock);
    let (key, count) = held.split_once(' ').expect("two words");
    assert_eq!(count, "1");
    // The same numbers, taken with SQL's functions, are another lock.
    let key: i64 = key.parse().expect("a number");
    let free: bool = value(
        &mut client,
        &format!(
            "select pg_try_advisory_lock({key}) and pg_try_advisory_lock(({key} >> 32)::int, {key}::bit(32)::int)"
        ),
    );
    assert!(free);
}
