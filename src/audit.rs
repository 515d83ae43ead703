//! Change capture: a changed row becomes a row of `audit.entity_changes`, and `track` attaches that
//! to tables. The row is turned into jsonb with the writer's rights (a column's type may bring
//! code of its owner); only the insert runs as the owner of the audit log.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::{PgRelation, Uuid};
use serde_json::Value;

use crate::error::{self, Error, required};
use crate::{host, pg};

const FUNCTION: &str = "audit.log_entity_change()";
const TRIGGER: &str = "plugin_webhooks_audit";

const INSERT_CHANGE: &str = "
    INSERT INTO audit.entity_changes
        (table_schema, table_name, record_id, operation, old_data, new_data, changed_fields,
         user_id, tenant_id, ip_address, user_agent)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::pg_catalog.inet, $11)";

const INSERT_TYPES: [pg_sys::BuiltinOid; 11] = {
    use pg_sys::BuiltinOid as T;
    [
        T::TEXTOID,
        T::TEXTOID,
        T::TEXTOID,
        T::TEXTOID,
        T::JSONBOID,
        T::JSONBOID,
        T::TEXTARRAYOID,
        T::UUIDOID,
        T::UUIDOID,
        T::TEXTOID,
        T::TEXTOID,
    ]
};

/// A jsonb datum that stays a datum: built by to_jsonb, passed on to the insert.
struct JsonbDatum(pg_sys::Datum);

impl IntoDatum for JsonbDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

/// One version of the changed row.
struct Row<'a> {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    relation: &'a PgRelation,
}

impl Row<'_> {
    fn attribute(&self, column: &Column) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: a tuple of this relation's descriptor and a column number of it.
        let datum = unsafe {
            pg_sys::heap_getattr(
                self.tuple,
                i32::from(column.number),
                self.descriptor,
                &mut null,
            )
        };
        (!null).then_some(datum)
    }

    fn text(&self, column: &Column) -> Option<String> {
        let datum = self.attribute(column)?;
        // SAFETY: the type's own output function on a value of that type.
        unsafe {
            let mut function = pg_sys::InvalidOid;
            let mut varlena = false;
            pg_sys::getTypeOutputInfo(column.type_oid, &mut function, &mut varlena);
            let printed = pg_sys::OidOutputFunctionCall(function, datum);
            Some(CStr::from_ptr(printed).to_string_lossy().into_owned())
        }
    }

    /// `to_jsonb(row)`.
    fn to_jsonb(&self) -> pg_sys::Datum {
        // SAFETY: to_jsonb learns the type of its argument from the expression tree it is called in;
        // this builds the smallest such tree in the trigger's own memory context.
        unsafe {
            let row_type = pg_sys::get_rel_type_id(self.relation.oid());
            let argument = pg_sys::makeNullConst(row_type, -1, pg_sys::InvalidOid);
            let arguments = pg_sys::lappend(std::ptr::null_mut(), argument.cast());
            let expression = pg_sys::makeFuncExpr(
                pg_sys::Oid::from(pg_sys::F_TO_JSONB),
                pg_sys::JSONBOID,
                arguments,
                pg_sys::InvalidOid,
                pg_sys::InvalidOid,
                pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
            );
            let mut function = pg_sys::FmgrInfo::default();
            pg_sys::fmgr_info(pg_sys::Oid::from(pg_sys::F_TO_JSONB), &mut function);
            function.fn_expr = expression.cast();
            let row = pg_sys::heap_copy_tuple_as_datum(self.tuple, self.descriptor);
            pg_sys::FunctionCall1Coll(&mut function, pg_sys::InvalidOid, row)
        }
    }
}

#[derive(Clone)]
struct Column {
    number: i16,
    name: String,
    type_oid: pg_sys::Oid,
    by_value: bool,
    length: i16,
}

fn columns(relation: &PgRelation) -> Vec<Column> {
    relation
        .tuple_desc()
        .iter()
        .filter(|attribute| !attribute.attisdropped)
        .map(|attribute| Column {
            number: attribute.attnum,
            name: attribute.name().to_string(),
            type_oid: attribute.atttypid,
            by_value: attribute.attbyval,
            length: attribute.attlen,
        })
        .collect()
}

unsafe extern "C-unwind" {
    /// Same bytes after detoasting (src/backend/utils/adt/datum.c); may raise.
    fn datum_image_eq(
        left: pg_sys::Datum,
        right: pg_sys::Datum,
        by_value: bool,
        length: i32,
    ) -> bool;
}

/// Whether two values of a column are the same bytes.
fn same_image(column: &Column, left: pg_sys::Datum, right: pg_sys::Datum) -> bool {
    // SAFETY: both datums are of the column's type; the boundary turns an ERROR into a panic.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            datum_image_eq(left, right, column.by_value, i32::from(column.length))
        })
    }
}

fn jsonb_field(row: pg_sys::Datum, name: &str) -> Option<pg_sys::Datum> {
    let name = name.into_datum()?;
    // SAFETY: jsonb_object_field(jsonb, text) is not strict about the key's presence: it returns null.
    unsafe {
        pgrx::direct_function_call_as_datum(pg_sys::jsonb_object_field, &[Some(row), Some(name)])
    }
}

/// Two values differ when their jsonb differs: 1.0 and 1.00 are the same number.
fn differs(column: &Column, old: (&Row, pg_sys::Datum), new: (&Row, pg_sys::Datum)) -> bool {
    match (old.0.attribute(column), new.0.attribute(column)) {
        (None, None) => false,
        (Some(before), Some(after)) => {
            if same_image(column, before, after) {
                return false;
            }
            match (
                jsonb_field(old.1, &column.name),
                jsonb_field(new.1, &column.name),
            ) {
                // SAFETY: jsonb_ne on two live jsonb datums.
                (Some(before), Some(after)) => unsafe {
                    pgrx::direct_function_call::<bool>(
                        pg_sys::jsonb_ne,
                        &[Some(before), Some(after)],
                    )
                    .unwrap_or(true)
                },
                _ => true,
            }
        }
        _ => true,
    }
}

/// Who changed it, as far as the session says.
#[derive(Clone, Default)]
struct Origin {
    user: Option<Uuid>,
    ip_address: Option<String>,
    user_agent: Option<String>,
}

thread_local! {
    /// The origin of the current transaction and claims: a bulk statement asks once, not per row.
    static ORIGIN: RefCell<Option<(u32, Option<String>, Origin)>> = const { RefCell::new(None) };
}

fn origin() -> Origin {
    // SAFETY: MyProc is set in every process that runs triggers.
    let transaction = unsafe { (*pg_sys::MyProc).lxid };
    let claims = pg::session_setting(c"request.jwt.claims");
    let known = ORIGIN.with_borrow(|cached| match cached {
        Some((t, c, origin)) if *t == transaction && *c == claims => Some(origin.clone()),
        _ => None,
    });
    known.unwrap_or_else(|| {
        let headers: Value = pg::session_setting(c"request.headers")
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or(Value::Null);
        let header = |name: &str| headers.get(name).and_then(Value::as_str);
        let origin = Origin {
            // Not every writer may use the host's schemas.
            user: pg::as_owner_of(c"audit", c"entity_changes", host::user_id),
            ip_address: header("x-forwarded-for")
                .and_then(|list| {
                    list.split(',')
                        .next()?
                        .trim()
                        .parse::<std::net::IpAddr>()
                        .ok()
                })
                .map(|address| address.to_string())
                .or_else(client_address),
            user_agent: header("user-agent").map(|agent| agent.chars().take(1000).collect()),
        };
        ORIGIN.replace(Some((transaction, claims, origin.clone())));
        origin
    })
}

fn client_address() -> Option<String> {
    pg::one::<String>("SELECT pg_catalog.host(pg_catalog.inet_client_addr())", &[])
}

/// The tenant of a row: its tenant_id; a row of app.tenants is its own tenant.
fn tenant_of(row: &Row, columns: &[Column], is_tenants: bool) -> Option<Uuid> {
    let wanted = if is_tenants { "id" } else { "tenant_id" };
    let column = columns.iter().find(|column| column.name == wanted)?;
    host::parse_uuid(&row.text(column)?)
}

fn record(trigger: &pgrx::PgTrigger<'_>) -> error::Result<()> {
    let protocol = || Error::TriggerProtocol {
        function: FUNCTION,
        wanted: "AFTER INSERT, UPDATE or DELETE, FOR EACH ROW",
    };
    let event = trigger.event();
    if !event.fired_after() || !event.fired_for_row() {
        return Err(protocol().into());
    }
    let relation = trigger.relation().map_err(|_| protocol())?;
    let data = trigger.trigger_data();
    // SAFETY: the trigger's relation is open while the trigger runs.
    let descriptor = unsafe { (*data.tg_relation).rd_att };
    let row = |tuple| Row {
        tuple,
        descriptor,
        relation: &relation,
    };
    let (operation, old, new) = if event.fired_by_insert() {
        ("INSERT", None, Some(row(data.tg_trigtuple)))
    } else if event.fired_by_update() {
        (
            "UPDATE",
            Some(row(data.tg_trigtuple)),
            Some(row(data.tg_newtuple)),
        )
    } else {
        ("DELETE", Some(row(data.tg_trigtuple)), None)
    };
    let columns = columns(&relation);
    let schema = relation.namespace().to_string();
    let table = relation.name().to_string();
    let current = new.as_ref().or(old.as_ref()).ok_or_else(protocol)?;
    let record_id = columns
        .iter()
        .find(|column| column.name == "id")
        .ok_or_else(|| Error::NoIdColumn(format!("{schema}.{table}")))
        .map(|column| current.text(column).unwrap_or_default())?;
    let old_data = old.as_ref().map(Row::to_jsonb);
    let new_data = new.as_ref().map(Row::to_jsonb);
    let changed: Option<Vec<String>> = match (&old, &new) {
        (Some(old), Some(new)) => {
            let (before, after) = (
                old_data.unwrap_or(pg_sys::Datum::null()),
                new_data.unwrap_or(pg_sys::Datum::null()),
            );
            Some(
                columns
                    .iter()
                    .filter(|column| differs(column, (old, before), (new, after)))
                    .map(|column| column.name.clone())
                    .collect(),
            )
        }
        _ => None,
    };
    let tenant = tenant_of(current, &columns, schema == "app" && table == "tenants");
    let origin = origin();
    let args = [
        schema.into(),
        table.into(),
        record_id.into(),
        operation.into(),
        old_data.map(JsonbDatum).into(),
        new_data.map(JsonbDatum).into(),
        changed.into(),
        origin.user.into(),
        tenant.into(),
        origin.ip_address.into(),
        origin.user_agent.into(),
    ];
    pg::as_owner_of(c"audit", c"entity_changes", || {
        pg::run_kept(INSERT_CHANGE, &INSERT_TYPES, &args, |_| Ok(()));
    });
    Ok(())
}

#[pg_trigger(sql = false)]
fn log_entity_change<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    // pgrx would panic over an Err and lose its SQLSTATE.
    record(trigger).unwrap_or_report();
    Ok(None)
}

/// Raises unless the table can be tracked; returns its quoted name.
fn check_trackable(table: pg_sys::Oid) -> error::Result<String> {
    let found = pg::one_row(
        "SELECT c.oid::pg_catalog.regclass::pg_catalog.text, c.relkind::pg_catalog.text,
                n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast')
                    OR n.nspname = 'plugin_webhooks'
                    OR n.nspname = 'audit' AND c.relname = 'entity_changes'
                    OR n.nspname = 'int' AND c.relname = 'plugin_delivery_queue'
         FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.oid = $1",
        &[table.into()],
        |row| row.get_three::<String, String, bool>(),
    );
    let Some((Some(name), Some(kind), Some(system))) = found else {
        return Err(Error::Unknown("table").into());
    };
    let refuse = |reason| Error::NotTrackable {
        table: name.clone(),
        reason,
    };
    if system {
        return Err(refuse("it is a system table").into());
    }
    match kind.as_str() {
        "r" | "p" => {}
        "v" | "m" => return Err(refuse("it is a view; track its tables").into()),
        "f" => return Err(refuse("it is a foreign table").into()),
        _ => return Err(refuse("it is not a table").into()),
    }
    let has_id = pg::one::<bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
                        WHERE attrelid = $1 AND attname = 'id' AND attnum > 0 AND NOT attisdropped)",
        &[table.into()],
    );
    if has_id != Some(true) {
        return Err(Error::NoIdColumn(name).into());
    }
    Ok(name)
}

/// Whether a trigger on a table calls the audit function, be it the one of its partitioned parent.
fn is_tracked(table: pg_sys::Oid) -> bool {
    pg::one::<bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t
                        WHERE t.tgrelid = $1 AND NOT t.tgisinternal
                          AND t.tgfoid = 'audit.log_entity_change()'::pg_catalog.regprocedure)",
        &[table.into()],
    ) == Some(true)
}

/// Names of the triggers on a table itself that call the audit function.
fn attached(table: pg_sys::Oid) -> Vec<String> {
    pg::one::<Vec<String>>(
        "SELECT pg_catalog.array_agg(t.tgname::pg_catalog.text)
         FROM pg_catalog.pg_trigger AS t
         WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgparentid = 0
           AND t.tgfoid = 'audit.log_entity_change()'::pg_catalog.regprocedure",
        &[table.into()],
    )
    .unwrap_or_default()
}

#[pg_extern(sql = false)]
fn track(p_table: Option<pg_sys::Oid>) -> error::Result<()> {
    let table = required("p_table", p_table)?;
    let name = check_trackable(table)?;
    if !is_tracked(table) {
        Spi::run(&format!(
            "CREATE TRIGGER {TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {name}
             FOR EACH ROW EXECUTE FUNCTION {FUNCTION}"
        ))
        .unwrap_or_report();
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn untrack(p_table: Option<pg_sys::Oid>) -> error::Result<()> {
    let table = required("p_table", p_table)?;
    let name = pg::one::<String>(
        "SELECT c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class AS c WHERE c.oid = $1",
        &[table.into()],
    )
    .ok_or(Error::Unknown("table"))?;
    for trigger in attached(table) {
        Spi::run(&format!(
            "DROP TRIGGER {} ON {name}",
            pgrx::spi::quote_identifier(&trigger)
        ))
        .unwrap_or_report();
    }
    Ok(())
}
