//! The built-in action `work_order.create`: a row in the host's `app.work_orders`.
//! Every value is a parameter; nothing of the body becomes SQL. Each statement is about one table of the
//! host and runs as its owner: triggers, policies and casts of one owner do nothing with the rights of another.

use pgrx::Uuid;
use plugin_webhooks_core::excerpt::excerpt;
use plugin_webhooks_core::uuid;

use crate::caller;
use crate::error::{Error, Result};
use crate::host::{self, Bound, Object};
use crate::pg::{self, Jsonb};

pub const ACTION: &str = "work_order.create";

const OBJECTS: [Object; 8] = [
    host::WORK_ORDERS,
    host::PM_SCHEDULES,
    host::PROJECTS,
    host::LOCATIONS,
    host::ASSETS,
    host::PRIORITIES,
    host::MAINTENANCE_TYPES,
    host::DEFAULT_STATUS,
];

/// What the action needs of the host, in the order of `OBJECTS`.
fn bound_objects() -> Result<[Bound; 8]> {
    let bound: Vec<Bound> = OBJECTS.into_iter().filter_map(host::usable).collect();
    bound.try_into().map_err(|_| {
        let missing = OBJECTS
            .into_iter()
            .filter(|object| host::usable(*object).is_none());
        Error::MissingHost(missing.map(|object| object.0).collect()).into()
    })
}

/// A field of the data without the white space around it; an empty or blank string counts as absent.
fn field(data: &Jsonb, name: &str) -> Option<String> {
    let text = pg::one::<String>("SELECT $1 ->> $2", &[data.clone().into(), name.into()])?;
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

fn parse_uuid(text: &str) -> Option<Uuid> {
    uuid::parse(text.as_bytes()).map(Uuid::from_bytes)
}

/// A uuid field that must be a row of one of the tenant's tables. `sql`: whether there is such a row.
fn reference(
    data: &Jsonb,
    name: &'static str,
    (table, sql): (Bound, &str),
    tenant: Uuid,
    error: impl Fn(&'static str, String) -> Error,
) -> Result<Option<Uuid>> {
    let Some(text) = field(data, name) else {
        return Ok(None);
    };
    let exists = |id: Uuid| {
        table.as_owner(|| pg::one::<bool>(sql, &[tenant.into(), id.into()])) == Some(true)
    };
    match parse_uuid(&text) {
        Some(id) if exists(id) => Ok(Some(id)),
        _ => Err(error(name, text).into()),
    }
}

/// A key field that must be in one of the tenant's catalogs.
fn catalog_key(
    name: &'static str,
    key: &str,
    (table, sql): (Bound, &str),
    tenant: Uuid,
) -> Result<()> {
    let exists = table.as_owner(|| pg::one::<bool>(sql, &[tenant.into(), key.into()]));
    if exists == Some(true) {
        return Ok(());
    }
    Err(Error::UnknownReference {
        name,
        value: key.to_owned(),
    }
    .into())
}

fn unknown(name: &'static str, value: String) -> Error {
    Error::UnknownReference { name, value }
}

fn foreign(name: &'static str, _: String) -> Error {
    Error::ForeignReference(name)
}

/// Creates a work order for the tenant.
pub fn create(tenant: Uuid, data: &Jsonb) -> Result<Jsonb> {
    let [
        work_orders,
        pm_schedules,
        projects,
        locations,
        assets,
        priorities,
        maintenance_types,
        default_status,
    ] = bound_objects()?;
    let title = field(data, "title").ok_or(Error::Required("data.title"))?;
    let priority = field(data, "priority").unwrap_or_else(|| "medium".into());
    catalog_key(
        "priority",
        &priority,
        (
            priorities,
            "SELECT EXISTS (SELECT FROM cfg.priority_catalogs
                            WHERE tenant_id = $1 AND entity_type = 'work_order' AND key = $2)",
        ),
        tenant,
    )?;
    let maintenance_type = field(data, "maintenance_type");
    if let Some(key) = &maintenance_type {
        catalog_key(
            "maintenance_type",
            key,
            (
                maintenance_types,
                "SELECT EXISTS (SELECT FROM cfg.maintenance_type_catalogs
                                WHERE tenant_id = $1 AND entity_type = 'work_order' AND key = $2)",
            ),
            tenant,
        )?;
    }
    let assigned_to = assignee(data, tenant)?;
    let location = reference(
        data,
        "location_id",
        (
            locations,
            "SELECT EXISTS (SELECT FROM app.locations WHERE tenant_id = $1 AND id = $2)",
        ),
        tenant,
        unknown,
    )?;
    let asset = reference(
        data,
        "asset_id",
        (
            assets,
            "SELECT EXISTS (SELECT FROM app.assets WHERE tenant_id = $1 AND id = $2)",
        ),
        tenant,
        unknown,
    )?;
    let pm_schedule = reference(
        data,
        "pm_schedule_id",
        (
            pm_schedules,
            "SELECT EXISTS (SELECT FROM app.pm_schedules WHERE tenant_id = $1 AND id = $2 AND is_active)",
        ),
        tenant,
        foreign,
    )?;
    let project = reference(
        data,
        "project_id",
        (
            projects,
            "SELECT EXISTS (SELECT FROM app.projects WHERE tenant_id = $1 AND id = $2)",
        ),
        tenant,
        foreign,
    )?;
    // PostgreSQL repeats what is no date. Nothing that is cut here is one.
    let due_date = field(data, "due_date").map(|text| excerpt(&text));
    let context = pg::one::<Jsonb>(
        "SELECT pg_catalog.jsonb_build_object('assigned_to', $1::pg_catalog.uuid)",
        &[assigned_to.into()],
    );
    let status =
        default_status.call::<String>(&[tenant.into(), "work_order".into(), context.into()]);
    let values = [
        tenant.into(),
        title.into(),
        field(data, "description").into(),
        priority.into(),
        maintenance_type.into(),
        assigned_to.into(),
        location.into(),
        asset.into(),
        due_date.into(),
        pm_schedule.into(),
        project.into(),
        status.into(),
    ];
    // The host's own defaults and triggers fill what is not named here.
    let id = pg::foreign_code(|| {
        work_orders.as_owner(|| {
            pg::write_returning::<Uuid>(
                "INSERT INTO app.work_orders
                     (tenant_id, title, description, priority, maintenance_type, assigned_to, location_id,
                      asset_id, due_date, pm_schedule_id, project_id, status)
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8,
                        (pg_catalog.jsonb_populate_record(NULL::app.work_orders,
                             pg_catalog.jsonb_build_object('due_date', $9::pg_catalog.text))).due_date,
                        $10, $11, $12
                 RETURNING id",
                &values,
            )
        })
    });
    Ok(pg::one::<Jsonb>(
        "SELECT pg_catalog.jsonb_build_object('ok', true, 'action', $1::pg_catalog.text,
                                              'work_order_id', $2::pg_catalog.uuid)",
        &[ACTION.into(), id.into()],
    )
    .ok_or(Error::Required("work_order_id"))?)
}

fn assignee(data: &Jsonb, tenant: Uuid) -> Result<Option<Uuid>> {
    let Some(text) = field(data, "assigned_to") else {
        return Ok(None);
    };
    match parse_uuid(&text) {
        Some(user) if caller::is_member(user, tenant)? => Ok(Some(user)),
        _ => Err(unknown("assigned_to", text).into()),
    }
}
