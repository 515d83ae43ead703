use super::*;

struct Things {
    location: String,
    asset: String,
    project: String,
    pm_schedule: String,
}

fn things(host: &Host, tenant: &str) -> Things {
    let mut dba = host.dba();
    let mut add = |table: &str| {
        text(
            &mut dba,
            &format!("insert into app.{table} (tenant_id) values ('{tenant}') returning id::text"),
        )
    };
    Things {
        location: add("locations"),
        asset: add("assets"),
        project: add("projects"),
        pm_schedule: add("pm_schedules"),
    }
}

fn payload(data: &str) -> String {
    format!(r#"{{"action": "work_order.create", "data": {data}}}"#)
}

#[test]
fn are_created_with_everything() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    let own = things(&host, &host.tenant);
    let data = format!(
        r#"{{"title": " It's leaking ", "description": "a \"lot\"", "priority": "critical",
            "maintenance_type": "corrective", "assigned_to": "{}", "location_id": "{}", "asset_id": "{}",
            "due_date": "2031-02-03T04:05:06Z", "pm_schedule_id": "{}", "project_id": "{}",
            "status": "closed", "tenant_id": "{}", "id": "ignored"}}"#,
        host.member, own.location, own.asset, own.pm_schedule, own.project, host.other_tenant
    );
    let answer = host
        .ingest(&installation, &payload(&data))
        .expect("a work order");
    let mut dba = host.dba();
    let id = text(&mut dba, "select id::text from app.work_orders");
    assert_eq!(
        answer,
        format!(r#"{{"ok": true, "action": "work_order.create", "work_order_id": "{id}"}}"#)
    );
    let stored = text(
        &mut dba,
        "select concat_ws(' | ', tenant_id, title, description, priority, maintenance_type, assigned_to, location_id,
                          asset_id, due_date at time zone 'UTC', pm_schedule_id, project_id, status)
         from app.work_orders",
    );
    assert_eq!(
        stored,
        [
            host.tenant.as_str(),
            "It's leaking",
            "a \"lot\"",
            "critical",
            "corrective",
            &host.member,
            &own.location,
            &own.asset,
            "2031-02-03 04:05:06",
            &own.pm_schedule,
            &own.project,
            "assigned"
        ]
        .join(" | ")
    );
}

#[test]
fn need_no_more_than_a_title() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    let fields = [
        "description",
        "priority",
        "maintenance_type",
        "assigned_to",
        "location_id",
        "asset_id",
        "due_date",
        "pm_schedule_id",
        "project_id",
    ];
    let blank = |value: &str| -> String {
        let parts = fields.map(|field| format!(r#", "{field}": {value}"#));
        format!(r#"{{"title": "x"{}}}"#, parts.concat())
    };
    for data in [
        r#"{"title": "x"}"#.to_owned(),
        blank(r#""""#),
        blank(r#""  ""#),
        blank("null"),
    ] {
        host.ingest(&installation, &payload(&data)).expect(&data);
    }
    assert_eq!(
        text(
            &mut host.dba(),
            "select string_agg(distinct to_jsonb(w) - '{id,number,search,tenant_id,created_at,updated_at}'::text[] #>> '{}', ',')
             from app.work_orders w"
        ),
        r#"{"title": "x", "status": "open", "asset_id": null, "due_date": null, "priority": "medium", "project_id": null, "assigned_to": null, "description": null, "location_id": null, "pm_schedule_id": null, "maintenance_type": null}"#
    );
}

#[test]
fn with_a_mistake_are_refused_and_leave_nothing() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    let theirs = things(&host, &host.other_tenant);
    let own = things(&host, &host.tenant);
    execute(
        &mut host.dba(),
        &format!(
            "update app.pm_schedules set is_active = false where id = '{}'",
            own.pm_schedule
        ),
    );
    let random = "99999999-9999-9999-9999-999999999999";
    let with = |field: &str, value: &str| format!(r#"{{"title": "x", "{field}": "{value}"}}"#);
    let mistakes = [
        ("23514", "{}".to_owned()),
        ("23514", r#"{"title": ""}"#.to_owned()),
        ("23514", r#"{"title": "   "}"#.to_owned()),
        ("23514", r#"{"title": null}"#.to_owned()),
        ("23514", "[]".to_owned()),
        ("23514", r#""title""#.to_owned()),
        ("23503", with("priority", "urgent")),
        ("23503", with("priority", "' or true --")),
        ("23503", with("maintenance_type", "magic")),
        ("23503", with("location_id", random)),
        ("23503", with("location_id", "not a uuid")),
        ("23503", with("location_id", &theirs.location)),
        ("23503", with("asset_id", random)),
        ("23503", with("asset_id", &theirs.asset)),
        ("23503", with("assigned_to", random)),
        ("23503", with("assigned_to", &host.other_admin)),
        ("42501", with("pm_schedule_id", &theirs.pm_schedule)),
        ("42501", with("pm_schedule_id", &own.pm_schedule)),
        ("42501", with("project_id", &theirs.project)),
    ];
    for (sqlstate, data) in mistakes {
        let code = host
            .ingest(&installation, &payload(&data))
            .err()
            .and_then(|error| error.code().map(|code| code.code().to_owned()));
        assert_eq!(code.as_deref(), Some(sqlstate), "{data}");
    }
    let bad_date = host.ingest(&installation, &payload(&with("due_date", "someday")));
    expect_sqlstate(bad_date, "22007");
    assert_eq!(
        count(&mut host.dba(), "select count(*) from app.work_orders"),
        0
    );
}

#[test]
fn are_refused_without_repeating_more_than_the_start_of_what_was_sent() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    let long = "ä".repeat(1_000_000);
    for field in [
        "priority",
        "maintenance_type",
        "assigned_to",
        "location_id",
        "asset_id",
        "due_date",
        "pm_schedule_id",
        "project_id",
    ] {
        let data = format!(r#"{{"title": "x", "{field}": "{long}"}}"#);
        let error = host
            .ingest(&installation, &payload(&data))
            .expect_err(field);
        assert_shows_the_start(&error, field);
    }
}

#[test]
fn have_a_title_of_more_than_white_space() {
    let host = Host::new();
    let installation = host.install("https://receiver.invalid/");
    for blank in [r"\t", r" \n ", r"\r\n"] {
        let data = format!(r#"{{"title": "{blank}"}}"#);
        expect_sqlstate(host.ingest(&installation, &payload(&data)), "23514");
    }
}

#[test]
fn are_audited_and_delivered_like_any_other_change() {
    let host = Host::new();
    let receiver = Receiver::http();
    let installation = host.install(&receiver.url("/"));
    host.subscribe(&installation, "work_orders");
    execute(&mut host.dba(), "select audit.track('app.work_orders')");
    host.ingest(&installation, &payload(r#"{"title": "x"}"#))
        .expect("a work order");
    let request = &receiver.wait_for(1, SOON)[0];
    assert_eq!(
        request.header("X-Plugin-Event-Type"),
        Some("entity_change.work_orders.insert")
    );
}
