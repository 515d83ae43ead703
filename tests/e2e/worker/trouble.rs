use super::*;

const SECRET: &str = "correct horse battery staple";

#[test]
fn a_key_file_that_is_repaired_signs_again_without_reload_or_restart() {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let mut client = database.client();
    let create = format!("select plugin_webhooks.create_secret('{SECRET}', 'signing')");
    execute(&mut client, &create);
    let config = format!(r#"{{"webhook_url": "{}"}}"#, receiver.url("/"));
    let tenant = Tenant::install_with(&database, &config, Some("signing"));
    tenant.subscribe("items", &["INSERT"], None, false);
    let key = own.data_dir().join("plugin_webhooks.key");
    let kept = key.with_extension("kept");
    let damages: [(&str, &str, &dyn Fn()); 3] = [
        ("does not exist", "Restore the file", &|| {
            fs::remove_file(&key).expect("lose the key");
        }),
        ("cannot be decrypted", "put the right file", &|| {
            fs::write(&key, "5".repeat(64)).expect("another key");
        }),
        ("is open to other users", "chmod 600", &|| {
            fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("open the key");
        }),
    ];
    fs::copy(&key, &kept).expect("keep the key");
    for (problem, remedy, damage) in damages {
        let told = own.log().len();
        own.expect_log(problem);
        damage();
        execute(&mut client, "delete from int.plugin_delivery_queue");
        tenant.insert_items(&mut client, 1);
        let failed = tenant.wait_failed(&mut client, SOON, 1);
        let seen = failed.last_error.expect("an error");
        assert_eq!(seen, "the signing secret cannot be read");
        let log = own.log();
        assert!(log[told..].contains(problem), "{problem}");
        assert!(log[told..].contains(remedy), "{remedy}");
        assert_eq!(receiver.count(), 0, "nothing leaves unsigned");

        let owner = fs::metadata(own.data_dir()).expect("the data directory");
        fs::remove_file(&key).ok();
        fs::copy(&kept, &key).expect("restore the key");
        chown(&key, Some(owner.uid()), Some(owner.gid())).expect("its owner");
        execute(
            &mut client,
            "update int.plugin_delivery_queue set next_attempt_at = clock_timestamp()",
        );
        let request = receiver.wait_for(1, SOON).remove(0);
        let signature = request.header("X-Plugin-Signature").expect("a signature");
        assert!(verify_signature(SECRET, &request.body, signature));
        tenant.wait_delivered(&mut client, SOON);
        receiver.clear();
    }
}

#[test]
fn a_queue_that_stays_locked_is_said_so_and_delivery_goes_on_once_it_is_free() {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    let worker = wait_for_worker(&mut client);
    let mut session = database.client();
    own.expect_log("another session has locked int.plugin_delivery_queue");
    let mut holder = session.transaction().expect("begin");
    holder
        .batch_execute("lock table int.plugin_delivery_queue in share mode")
        .expect("lock");
    wait_until(SOON, "the warning with its remedy", || {
        let log = own.log();
        log.contains("another session has locked int.plugin_delivery_queue")
            && log.contains("pg_locks")
    });
    holder.rollback().expect("let go");
    tenant.insert_items(&mut client, 1);
    tenant.wait_delivered(&mut client, SOON);
    assert_eq!(wait_for_worker(&mut client), worker);
}

#[test]
fn a_full_disk_under_the_queue_is_said_so_and_delivery_goes_on_once_there_is_room() {
    // A worker that does not look is in none of PostgreSQL's short locks when it is frozen.
    let own = builder()
        .preloaded()
        .setting("plugin_webhooks.poll_interval", "60s")
        .start();
    let Some(volume) = own.tablespace_on_volume("small", 8) else {
        return; // Nobody but root can mount.
    };
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    execute(
        &mut client,
        "alter table int.plugin_delivery_queue set tablespace small;
         alter table int.plugin_delivery_queue set (fillfactor = 100)",
    );
    let worker = wait_for_worker(&mut client);
    own.pause(worker);
    tenant.insert_items(&mut client, 300);
    own.expect_log("the queue cannot be worked: could not extend file");
    volume.fill();
    own.resume(worker);
    wait_until(SOON, "the warning", || {
        own.log()
            .contains("deliveries wait, the queue cannot be worked: could not extend file")
    });
    volume.make_room();
    tenant.wait_delivered(&mut client, SOON);
    assert_eq!(wait_for_worker(&mut client), worker);
    assert!(own.log().matches("the queue cannot be worked").count() < 20);
}

/// What `cargo xtask install` does to a server that runs.
#[test]
fn a_library_that_is_replaced_by_renaming_disturbs_no_running_server() {
    let tree = Tree::from_environment();
    let library = tree.library_dir().join("plugin_webhooks.so");
    let servers = [true, false].map(|preloaded| {
        let builder = Server::builder(&tree).settings(&[
            ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
            ("plugin_webhooks.poll_interval", "100ms"),
            ("fsync", "off"),
        ]);
        let builder = if preloaded {
            builder.preloaded()
        } else {
            builder
        };
        builder.start()
    });
    let receiver = Receiver::http();
    let databases = servers.each_ref().map(project_with_items);
    for database in &databases {
        process(database, "()");
        assert_delivers(database, &receiver);
    }
    let pids = databases
        .each_ref()
        .map(|database| wait_for_worker(&mut database.client()));
    let another_build = library.with_extension("new");
    fs::copy(&library, &another_build).expect("copy");
    File::options()
        .append(true)
        .open(&another_build)
        .and_then(|mut file| file.write_all(b"another build"))
        .expect("change");
    fs::rename(&another_build, &library).expect("replace");
    for (database, pid) in databases.iter().zip(pids) {
        assert_delivers(database, &receiver);
        assert_eq!(process(database, "()"), 0);
        assert_eq!(wait_for_worker(&mut database.client()), pid);
        // The next worker: of the old library where it was preloaded, else of the new one.
        database.server().terminate(pid);
        process(database, "()");
        assert_delivers(database, &receiver);
    }
    for (server, database) in servers.iter().zip(&databases) {
        let log = server.log();
        assert!(!log.contains("terminated by signal"), "{log}");
        server.restart();
        process(database, "()");
        assert_delivers(database, &receiver);
    }
}

/// A file that is not there, or is none, costs failed starts with growing rests, never the server.
#[test]
fn a_library_that_is_missing_costs_a_line_now_and_then_until_it_is_back() {
    let tree = Tree::from_environment();
    let own = Server::builder(&tree)
        .preloaded()
        .settings(&[
            ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
            ("plugin_webhooks.poll_interval", "100ms"),
        ])
        .start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    tenant.insert_items(&mut client, 1);
    tenant.wait_delivered(&mut client, SOON);
    let library = tree.library_dir().join("plugin_webhooks.so");
    let kept = library.with_extension("kept");
    fs::rename(&library, &kept).expect("lose the library");
    let pid = wait_for_worker(&mut client);
    own.expect_log("could not access file");
    own.terminate(pid);
    let failures = || {
        let log = own.log();
        log.lines()
            .filter(|line| line.contains("could not access file"))
            .count()
    };
    wait_until(SOON, "a worker that cannot start", || failures() > 0);
    // A session that has used the library before goes on.
    tenant.insert_items(&mut client, 1);
    fs::rename(&kept, &library).expect("find the library");
    tenant.wait_delivered(&mut client, 3 * SOON);
    assert!(failures() < 20, "{} lines", failures());
}
