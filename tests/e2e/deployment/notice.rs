use super::*;

fn about_scheduling(output: &PsqlOutput) -> Vec<&str> {
    assert!(output.success, "{}", output.stderr);
    let notices = output.stderr.lines();
    notices.filter(|line| line.contains("schedule")).collect()
}

#[test]
fn says_once_that_nothing_schedules_the_processor() {
    let database = shared_server().empty_database();
    let output = database.psql(CREATE);
    let said = about_scheduling(&output);
    assert_eq!(said.len(), 1, "{}", output.stderr);
    assert!(said[0].contains("NOTICE"), "{}", said[0]);
    assert!(
        said[0].contains("select public.rpc_process_plugin_deliveries(50)"),
        "{}",
        said[0]
    );
    assert!(!said[0].contains("schedule_processor"), "{}", said[0]);
    assert_eq!(
        output.stderr.trim().lines().count(),
        1,
        "nothing else is said: {}",
        output.stderr
    );
}

#[test]
fn is_not_for_those_who_want_to_hear_of_errors_only() {
    let database = shared_server().empty_database();
    let output = database.psql(&format!("set client_min_messages = error; {CREATE}"));
    assert!(output.success, "{}", output.stderr);
    assert_eq!(output.stderr, "");
}

#[test]
fn names_schedule_processor_where_pg_cron_is_and_is_silent_once_it_runs() {
    let server = super::pg_cron::server(&[]);
    let missing = server.psql("postgres", CREATE);
    let said = about_scheduling(&missing);
    assert_eq!(said.len(), 1, "{}", missing.stderr);
    assert!(
        said[0].contains("plugin_webhooks.schedule_processor()"),
        "{}",
        said[0]
    );
    let again = server.psql(
        "postgres",
        "select plugin_webhooks.schedule_processor();
         drop extension plugin_webhooks;
         create extension plugin_webhooks;",
    );
    assert_eq!(about_scheduling(&again), Vec::<&str>::new());
}
