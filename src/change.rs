//! A change of a row as the audit log records it. Knows neither how it is found out nor who is told.
#![expect(unsafe_code, reason = "copies values by pointer")]

use pgrx::pg_sys::Datum;
use pgrx::{FromDatum, pg_sys};

use crate::pg;
use crate::text_enum::TextEnum;

/// `operation` of `audit.entity_changes` and of a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Insert,
    Update,
    Delete,
}

impl TextEnum for Operation {
    const ALL: &'static [Self] = &[Self::Insert, Self::Update, Self::Delete];

    fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

impl Operation {
    /// Its bit in the type of a trigger.
    pub fn trigger_event(self) -> u32 {
        match self {
            Self::Insert => pg_sys::TRIGGER_TYPE_INSERT,
            Self::Update => pg_sys::TRIGGER_TYPE_UPDATE,
            Self::Delete => pg_sys::TRIGGER_TYPE_DELETE,
        }
    }

    /// Whether the row was there before.
    pub fn has_old(self) -> bool {
        self != Self::Insert
    }

    /// Whether the row is there afterwards.
    pub fn has_new(self) -> bool {
        self != Self::Delete
    }
}

/// What the audit log records of one changed row. The values are of the memory context that was current.
#[derive(Clone, Copy)]
pub struct Change {
    pub record_id: Datum,
    pub old_data: Option<Datum>,
    pub new_data: Option<Datum>,
    pub changed_fields: Option<Datum>,
    pub tenant: Option<[u8; 16]>,
    /// The same as a datum.
    pub tenant_datum: Option<Datum>,
}

impl Change {
    /// The same with its values in the current memory context.
    ///
    /// # Safety
    /// The values are alive and not toasted.
    pub unsafe fn copied(&self) -> Change {
        // SAFETY: text, jsonb and text[] are varlenas, a uuid has 16 bytes; nothing refers to the old values.
        unsafe {
            let copy = |value: Datum| pg::copied_varlena(value);
            Change {
                record_id: copy(self.record_id),
                old_data: self.old_data.map(copy),
                new_data: self.new_data.map(copy),
                changed_fields: self.changed_fields.map(copy),
                tenant: self.tenant,
                tenant_datum: self.tenant_datum.map(|value| pg::copied_bytes(value, 16)),
            }
        }
    }
}

/// A row of the audit log that was just written.
pub struct AuditedChange<'a> {
    pub id: i64,
    /// See `table_key`.
    pub table: &'a str,
    pub schema: &'a str,
    pub name: &'a str,
    pub operation: Operation,
    pub change: &'a Change,
}

/// A row of the audit log, by whomever it was written. The values are of its columns' types and may be toasted.
pub struct LogRow {
    pub id: i64,
    pub table_schema: Option<Datum>,
    pub table_name: Option<Datum>,
    pub record_id: Option<Datum>,
    pub operation: Option<Datum>,
    pub old_data: Option<Datum>,
    pub new_data: Option<Datum>,
    pub changed_fields: Option<Datum>,
    pub tenant: Option<Datum>,
}

impl LogRow {
    /// # Safety
    /// `tenant` is null or a uuid that is alive.
    pub unsafe fn tenant(&self) -> Option<[u8; 16]> {
        // SAFETY: a uuid is 16 bytes.
        self.tenant
            .map(|value| unsafe { value.cast_mut_ptr::<[u8; 16]>().read() })
    }

    /// See `table_key`.
    ///
    /// # Safety
    /// The schema and the name are null or texts that are alive.
    pub unsafe fn table(&self) -> Option<String> {
        // SAFETY: the caller's.
        let text = |value: Option<Datum>| unsafe { String::from_datum(value?, false) };
        Some(table_key(
            &text(self.table_schema)?,
            &text(self.table_name)?,
        ))
    }

    /// Shows the change of a tenant's row that it records, if it does. What has to be copied for that is of the
    /// current memory context.
    ///
    /// # Safety
    /// The values are alive.
    pub unsafe fn show_change(&self, show: impl FnOnce(&AuditedChange<'_>)) {
        // SAFETY: schema, name and operation are texts; record_id and changed_fields are of variable length, and
        // detoasted they are themselves or a copy.
        let (tenant, schema, name, operation, record_id, changed_fields) = unsafe {
            let text = |value: Option<Datum>| String::from_datum(value?, false);
            let plain = |value: Datum| Datum::from(pg_sys::pg_detoast_datum(value.cast_mut_ptr()));
            (
                self.tenant(),
                text(self.table_schema),
                text(self.table_name),
                text(self.operation).and_then(|word| Operation::parse(&word)),
                self.record_id.map(plain),
                self.changed_fields.map(plain),
            )
        };
        let (Some(_), Some(schema), Some(name), Some(operation), Some(record_id)) =
            (tenant, schema, name, operation, record_id)
        else {
            return;
        };
        show(&AuditedChange {
            id: self.id,
            table: &table_key(&schema, &name),
            schema: &schema,
            name: &name,
            operation,
            change: &Change {
                record_id,
                // Fetched from TOAST only for a subscription that wants them.
                old_data: self.old_data,
                new_data: self.new_data,
                changed_fields,
                tenant,
                tenant_datum: self.tenant,
            },
        });
    }
}

/// What a table's subscriptions are found by: no name holds NUL.
pub fn table_key(schema: &str, name: &str) -> String {
    format!("{schema}\0{name}")
}

/// Schema and name of a `table_key`.
pub fn table_name(key: &str) -> (&str, &str) {
    key.split_once('\0').unwrap_or_default()
}
