//! The built-in action `work_order.create`: a row in the host's `app.work_orders`.
//! Every value is a parameter; nothing of the body becomes SQL.

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use plugin_webhooks_core::excerpt::excerpt;
use plugin_webhooks_core::uuid;

use crate::caller;
use crate::error::{Error, Result};
use crate::pg::{self, Jsonb};

pub const ACTION: &str = "work_order.create";

const RELATIONS: [&str; 7] = [
    "app.work_orders",
    "app.pm_schedules",
    "app.projects",
    "app.locations",
    "app.assets",
    "cfg.priority_catalogs",
    "cfg.maintenance_type_catalogs",
];
const DEFAULT_STATUS: &str = "cfg.get_default_status(uuid,text,jsonb)";

fn check_host() -> Result<()> {
    let mut missing: Vec<&'static str> = RELATIONS
        .into_iter()
        .filter(|name| !pg::relation_exists(name))
        .collect();
    if !pg::function_exists(DEFAULT_STATUS) {
        missing.push(DEFAULT_STATUS);
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::MissingHost(missing).into())
    }
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

fn exists(sql: &str, args: &[DatumWithOid<'_>]) -> bool {
    pg::one::<bool>(sql, args).unwrap_or(false)
}

/// A uuid field that must be a row of one of the tenant's tables.
fn reference(
    data: &Jsonb,
    name: &'static str,
    sql: &str,
    tenant: Uuid,
    error: impl Fn(&'static str, String) -> Error,
) -> Result<Option<Uuid>> {
    let Some(text) = field(data, name) else {
        return Ok(None);
    };
    match parse_uuid(&text) {
        Some(id) if exists(sql, &[tenant.into(), id.into()]) => Ok(Some(id)),
        _ => Err(error(name, text).into()),
    }
}

/// A key field that must be in one of the tenant's catalogs.
fn catalog_key(name: &'static str, key: &str, sql: &str, tenant: Uuid) -> Result<()> {
    if exists(sql, &[tenant.into(), key.into()]) {
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
    check_host()?;
    let title = field(data, "title").ok_or(Error::Required("data.title"))?;
    let priority = field(data, "priority").unwrap_or_else(|| "medium".into());
    catalog_key(
        "priority",
        &priority,
        "SELECT EXISTS (SELECT FROM cfg.priority_catalogs
                        WHERE tenant_id = $1 AND entity_type = 'work_order' AND key = $2)",
        tenant,
    )?;
    let maintenance_type = field(data, "maintenance_type");
    if let Some(key) = &maintenance_type {
        catalog_key(
            "maintenance_type",
            key,
            "SELECT EXISTS (SELECT FROM cfg.maintenance_type_catalogs
                            WHERE tenant_id = $1 AND entity_type = 'work_order' AND key = $2)",
            tenant,
        )?;
    }
    let assigned_to = assignee(data, tenant)?;
    let location = reference(
        data,
        "location_id",
        "SELECT EXISTS (SELECT FROM app.locations WHERE tenant_id = $1 AND id = $2)",
        tenant,
        unknown,
    )?;
    let asset = reference(
        data,
        "asset_id",
        "SELECT EXISTS (SELECT FROM app.assets WHERE tenant_id = $1 AND id = $2)",
        tenant,
        unknown,
    )?;
    let pm_schedule = reference(
        data,
        "pm_schedule_id",
        "SELECT EXISTS (SELECT FROM app.pm_schedules WHERE tenant_id = $1 AND id = $2 AND is_active)",
        tenant,
        foreign,
    )?;
    let project = reference(
        data,
        "project_id",
        "SELECT EXISTS (SELECT FROM app.projects WHERE tenant_id = $1 AND id = $2)",
        tenant,
        foreign,
    )?;
    // PostgreSQL repeats what is no date. Nothing that is cut here is one.
    let due_date = field(data, "due_date").map(|text| excerpt(&text));
    // The host's own defaults and triggers fill what is not named here.
    let id = pg::foreign_code(|| {
        pg::write_returning::<Uuid>(
            "INSERT INTO app.work_orders
             (tenant_id, title, description, priority, maintenance_type, assigned_to, location_id,
              asset_id, due_date, pm_schedule_id, project_id, status)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8,
                (pg_catalog.jsonb_populate_record(NULL::app.work_orders,
                     pg_catalog.jsonb_build_object('due_date', $9::pg_catalog.text))).due_date,
                $10, $11,
                cfg.get_default_status($1, 'work_order',
                    pg_catalog.jsonb_build_object('assigned_to', $6))
         RETURNING id",
            &[
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
            ],
        )
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
        Some(user) if caller::is_member(user, tenant) => Ok(Some(user)),
        _ => Err(unknown("assigned_to", text).into()),
    }
}
