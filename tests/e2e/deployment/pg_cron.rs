use super::*;

pub(super) fn server(settings: &[(&str, &str)]) -> Server {
    let server = Server::builder(Tree::shared())
        .setting("fsync", "off")
        .setting("shared_preload_libraries", "plugin_webhooks,pg_cron")
        .setting("cron.host", "127.0.0.1")
        .setting("plugin_webhooks.dispatch", "on_call")
        .setting(LOOPBACK.0, LOOPBACK.1)
        .settings(settings)
        .start();
    server
        .connect("postgres")
        .batch_execute("create extension pg_cron")
        .expect("create extension pg_cron");
    server
}

#[test]
fn absent_is_said_so() {
    let database = shared_server().database();
    let result = database
        .client()
        .batch_execute("select plugin_webhooks.schedule_processor()");
    let error = expect_sqlstate(result, "0A000");
    assert!(error.message().contains("pg_cron"), "{}", error.message());
    assert!(error.hint().is_some_and(|hint| hint.contains("pg_cron")));
}

#[test]
fn gets_one_job_however_often_it_is_scheduled() {
    let server = server(&[]);
    let mut client = server.connect("postgres");
    client.batch_execute(CREATE).expect("create extension");
    let first = count(&mut client, "select plugin_webhooks.schedule_processor()");
    let second = count(
        &mut client,
        "select plugin_webhooks.schedule_processor('*/5 * * * *')",
    );
    assert_eq!(first, second);
    assert_eq!(
        lines(
            &mut client,
            "select concat_ws(' | ', jobname, schedule, command, database, username, active) from cron.job"
        ),
        [
            "plugin_webhook_process | */5 * * * * | select public.rpc_process_plugin_deliveries(50) | postgres | \
            postgres | t"
        ]
    );
}

#[test]
fn refuses_a_schedule_it_does_not_understand() {
    let server = server(&[]);
    let mut client = server.connect("postgres");
    client.batch_execute(CREATE).expect("create extension");
    let result = client.batch_execute("select plugin_webhooks.schedule_processor('now and then')");
    assert!(result.is_err());
    assert_eq!(count(&mut client, "select count(*) from cron.job"), 0);
}

fn runs(client: &mut Client, status: &str) -> Vec<String> {
    lines(
        client,
        &format!(
            "select coalesce(return_message, '') from cron.job_run_details where status = {}",
            quote_literal(status)
        ),
    )
}

/// pg_cron's finest schedule is a minute here.
#[test]
fn delivers_each_minute() {
    let server = server(&[]);
    let mut client = server.connect("postgres");
    client.batch_execute(CREATE).expect("create extension");
    let receiver = Receiver::http();
    deliver_things_to(&mut client, &receiver.url("/"));
    insert_thing(&mut client, 1);
    insert_thing(&mut client, 2);
    assert_eq!(
        count(
            &mut client,
            "select count(*) from int.plugin_delivery_queue where status = 'pending'"
        ),
        2,
        "dispatch is on_call"
    );
    client
        .batch_execute("select plugin_webhooks.schedule_processor()")
        .expect("schedule");
    receiver.wait_for(2, Duration::from_secs(80));
    wait_until(SOON, "pg_cron's record of the run", || {
        runs(&mut client, "succeeded") == ["1 row"]
    });
    assert_eq!(receiver.count(), 2);
}

#[test]
fn may_run_it_as_an_ordinary_role_once_that_is_granted() {
    let server = server(&[("cron.use_background_workers", "on")]);
    let mut client = server.connect("postgres");
    let receiver = Receiver::http();
    client.batch_execute(CREATE).expect("create extension");
    deliver_things_to(&mut client, &receiver.url("/"));
    insert_thing(&mut client, 1);
    client
        .batch_execute("create role scheduler login; grant usage on schema cron to scheduler")
        .expect("a role");
    server
        .connect_as("postgres", "scheduler")
        .batch_execute(
            "select cron.schedule('plugin_webhook_process', '@reboot',
                'select public.rpc_process_plugin_deliveries(50)')",
        )
        .expect("schedule");

    server.expect_log("permission denied for function rpc_process_plugin_deliveries");
    server.restart();
    let mut client = server.connect("postgres");
    wait_until(SOON, "a run without the right to", || {
        runs(&mut client, "failed")
            .iter()
            .any(|message| message.contains("permission denied"))
    });
    assert_eq!(receiver.count(), 0);

    assert_eq!(
        lines(
            &mut client,
            "select unnest(plugin_webhooks.grant_to_roles())"
        ),
        [""; 0],
        "the name of a job gives nothing"
    );
    client
        .batch_execute(
            "grant execute on function public.rpc_process_plugin_deliveries(integer) to scheduler",
        )
        .expect("grant");
    server.restart();
    receiver.wait_for(1, SOON);
    let mut scheduler = server.connect_as("postgres", "scheduler");
    scheduler
        .batch_execute("select public.rpc_process_plugin_deliveries()")
        .expect("the processor");
    let more = scheduler.batch_execute("select public.rpc_register_plugin('more', 'More')");
    expect_sqlstate(more, "42501");
}
