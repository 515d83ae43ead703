//! What the audit log has to know about a tracked table, learnt once and kept until it changes.
#![expect(unsafe_code, reason = "relcache entries by pointer")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::change::{Operation, table_key};
use crate::error::{self, Error};
use crate::pg::{self, cache};

/// The trigger function's symbol in this library.
pub const SYMBOL: &CStr = c"log_entity_change_wrapper";

/// How a value of a column becomes jsonb; the result is always that of `to_jsonb(row)`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    /// Printed, then read as numeric unless it is NaN or infinite.
    Number,
    /// The value's own bytes.
    Text,
    Uuid,
    /// Date, timestamp and timestamptz, by type.
    DateTime,
    Jsonb,
    /// Printed by the type's output function.
    Printed,
    /// `to_jsonb(value)`: arrays, composites, json, types with a cast to json.
    Other,
}

/// A column that is written to the log.
pub struct Column {
    /// Position in the row, from 0.
    pub index: usize,
    pub kind: Kind,
    /// The type below all domains.
    pub base_type: pg_sys::Oid,
    pub by_value: bool,
    pub length: i16,
    /// The type's output function; for `Kind::Other` it is to_jsonb of this type.
    pub function: *mut pg_sys::FmgrInfo,
    pub name: *const std::ffi::c_char,
    pub name_length: i32,
    /// The name as a text datum.
    pub name_text: pg_sys::Datum,
}

/// Triggers that call the audit function for each row.
struct RowTrigger {
    events: i16,
    enabled: u8,
}

/// A tracked table.
pub struct Table {
    context: pg_sys::MemoryContext,
    pub schema: String,
    pub name: String,
    /// What subscriptions are found by.
    pub key: String,
    pub schema_text: pg_sys::Datum,
    pub name_text: pg_sys::Datum,
    pub columns: Vec<Column>,
    /// Positions in `columns` in the order in which jsonb keeps keys.
    pub key_order: Vec<usize>,
    /// The columns that give record_id and tenant_id.
    pub id: Column,
    pub tenant: Option<Column>,
    row_triggers: Vec<RowTrigger>,
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the context is this table's own; whoever uses the table holds it alive.
        unsafe { pg_sys::MemoryContextDelete(self.context) }
    }
}

struct Known {
    generation: u64,
    tables: HashMap<pg_sys::Oid, Rc<Table>>,
}

thread_local! {
    /// Never dropped: while the process exits, memory contexts are already gone.
    static KNOWN: RefCell<ManuallyDrop<Option<Known>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

impl Table {
    /// The table behind an open relation.
    pub fn of(relation: pg_sys::Relation) -> error::Result<Rc<Table>> {
        let generation = cache::generation();
        // SAFETY: the caller's relation is open.
        let oid = unsafe { (*relation).rd_id };
        let known = KNOWN.with_borrow(|known| {
            known
                .as_ref()
                .filter(|known| known.generation == generation)
                .and_then(|known| known.tables.get(&oid).cloned())
        });
        if let Some(table) = known {
            return Ok(table);
        }
        cache::watch(oid);
        let table = Rc::new(Table::learn(relation)?);
        KNOWN.with_borrow_mut(|known| {
            if known
                .as_ref()
                .is_none_or(|known| known.generation != generation)
            {
                **known = Some(Known {
                    generation,
                    tables: HashMap::new(),
                });
            }
            if let Some(known) = known.as_mut() {
                known.tables.insert(oid, table.clone());
            }
        });
        Ok(table)
    }

    fn learn(relation: pg_sys::Relation) -> error::Result<Table> {
        // SAFETY: reads the relcache entry of an open relation; what is kept is copied into a
        // context of its own.
        unsafe {
            let class = &*(*relation).rd_rel;
            let mut table = Table {
                context: pg::new_context(pg_sys::CacheMemoryContext, c"audited table"),
                schema: pg::namespace_name(class.relnamespace),
                name: pg::name(&class.relname),
                key: String::new(),
                schema_text: pg_sys::Datum::null(),
                name_text: pg_sys::Datum::null(),
                columns: Vec::new(),
                key_order: Vec::new(),
                id: Column::none(),
                tenant: None,
                row_triggers: Vec::new(),
            };
            let inside = pg::Inside::of(table.context);
            table.fill(relation)?;
            drop(inside);
            Ok(table)
        }
    }

    /// SAFETY: `relation` is open; the current memory context is the table's own.
    unsafe fn fill(&mut self, relation: pg_sys::Relation) -> error::Result<()> {
        let full_name = format!("{}.{}", self.schema, self.name);
        self.key = table_key(&self.schema, &self.name);
        self.schema_text = pg::text_datum(&self.schema);
        self.name_text = pg::text_datum(&self.name);
        // SAFETY: as promised by the caller.
        let (descriptor, excluded) = unsafe {
            self.row_triggers = row_triggers(relation);
            ((*relation).rd_att, excluded_columns(relation))
        };
        let is_tenants = self.schema == "app" && self.name == "tenants";
        let tenant_column = if is_tenants { "id" } else { "tenant_id" };
        let mut id = None;
        let mut missing = excluded.clone();
        // SAFETY: the descriptor of an open relation has natts attributes.
        let attributes = unsafe { pg::version::attributes(descriptor) };
        for (index, attribute) in attributes.iter().enumerate() {
            if attribute.attisdropped {
                continue;
            }
            let name = pg::name(&attribute.attname);
            if name == "id" {
                id = Some(Column::printed(index, attribute, &name));
            }
            if name == tenant_column {
                self.tenant = Some(Column::printed(index, attribute, &name));
            }
            missing.retain(|excluded| *excluded != name);
            if !excluded.contains(&name) {
                self.columns.push(Column::of(index, attribute, &name));
            }
        }
        if let Some(column) = missing.pop() {
            return Err(Error::NoExcludedColumn {
                table: full_name,
                column,
            }
            .into());
        }
        self.id = id.ok_or(Error::NoIdColumn(full_name))?;
        self.key_order = (0..self.columns.len()).collect();
        let columns = &self.columns;
        self.key_order
            .sort_by(|a, b| columns[*a].key().cmp(&columns[*b].key()));
        Ok(())
    }

    /// Whether a row-level trigger already records what a statement-level one is fired for.
    pub fn is_recorded_by_row(&self, operation: Operation) -> bool {
        let event = operation.trigger_event();
        self.row_triggers.iter().any(|trigger| {
            trigger.events & event as i16 != 0 && pg::trigger_is_enabled(trigger.enabled)
        })
    }
}

impl Column {
    fn none() -> Column {
        Column {
            index: 0,
            kind: Kind::Printed,
            base_type: pg_sys::InvalidOid,
            by_value: true,
            length: 0,
            function: std::ptr::null_mut(),
            name: std::ptr::null(),
            name_length: 0,
            name_text: pg_sys::Datum::null(),
        }
    }

    fn of(index: usize, attribute: &pg_sys::FormData_pg_attribute, name: &str) -> Column {
        // SAFETY: catalogue look-ups; the results live in the current memory context, the table's.
        unsafe {
            let base_type = pg_sys::getBaseType(attribute.atttypid);
            let kind = kind_of(base_type);
            let name_text = pg::text_datum(name);
            Column {
                index,
                kind,
                base_type,
                by_value: attribute.attbyval,
                length: attribute.attlen,
                function: if kind == Kind::Other {
                    to_jsonb_of(attribute.atttypid)
                } else {
                    output_function(attribute.atttypid)
                },
                name: pgrx::vardata_any(name_text.cast_mut_ptr()),
                name_length: name.len() as i32,
                name_text,
            }
        }
    }

    /// A column that is only ever printed, whatever its type.
    fn printed(index: usize, attribute: &pg_sys::FormData_pg_attribute, name: &str) -> Column {
        let mut column = Column::of(index, attribute, name);
        if column.kind == Kind::Other {
            column.kind = Kind::Printed;
            // SAFETY: inside a transaction.
            column.function = unsafe { output_function(attribute.atttypid) };
        }
        column
    }

    /// What jsonb sorts keys by: shorter first, then by bytes.
    fn key(&self) -> (i32, &[u8]) {
        // SAFETY: the name lives as long as the table.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.name.cast::<u8>(), self.name_length as usize)
        };
        (self.name_length, bytes)
    }
}

/// SAFETY: inside a transaction.
unsafe fn kind_of(base_type: pg_sys::Oid) -> Kind {
    match base_type {
        pg_sys::BOOLOID => Kind::Bool,
        pg_sys::INT2OID => Kind::Int2,
        pg_sys::INT4OID => Kind::Int4,
        pg_sys::INT8OID => Kind::Int8,
        pg_sys::NUMERICOID | pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => Kind::Number,
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Kind::Text,
        pg_sys::UUIDOID => Kind::Uuid,
        pg_sys::DATEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Kind::DateTime,
        pg_sys::JSONBOID => Kind::Jsonb,
        pg_sys::JSONOID => Kind::Other,
        // SAFETY: as promised by the caller.
        other => unsafe {
            let composed = pg_sys::get_element_type(other) != pg_sys::InvalidOid
                || other == pg_sys::RECORDARRAYOID
                || pg_sys::type_is_rowtype(other);
            if composed
                || (other.to_u32() >= pg_sys::FirstNormalObjectId && has_cast_to_json(other))
            {
                Kind::Other
            } else {
                Kind::Printed
            }
        },
    }
}

/// SAFETY: inside a transaction.
unsafe fn has_cast_to_json(type_oid: pg_sys::Oid) -> bool {
    let mut function = pg_sys::InvalidOid;
    // SAFETY: as promised by the caller.
    let path = unsafe {
        pg_sys::find_coercion_pathway(
            pg_sys::JSONOID,
            type_oid,
            pg_sys::CoercionContext::COERCION_EXPLICIT,
            &mut function,
        )
    };
    path == pg_sys::CoercionPathType::COERCION_PATH_FUNC
}

/// SAFETY: inside a transaction.
unsafe fn output_function(type_oid: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
    // SAFETY: as promised by the caller; the result is the current memory context's.
    unsafe {
        let mut oid = pg_sys::InvalidOid;
        let mut varlena = false;
        pg_sys::getTypeOutputInfo(type_oid, &mut oid, &mut varlena);
        let function = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast();
        pg_sys::fmgr_info(oid, function);
        function
    }
}

/// to_jsonb learns the type of its argument from the expression it is called in: the smallest such
/// expression. SAFETY: inside a transaction.
unsafe fn to_jsonb_of(type_oid: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
    // SAFETY: as promised by the caller; the result is the current memory context's.
    unsafe {
        let argument = pg_sys::makeNullConst(type_oid, -1, pg_sys::InvalidOid);
        let arguments = pg_sys::lappend(std::ptr::null_mut(), argument.cast());
        let expression = pg_sys::makeFuncExpr(
            pg_sys::Oid::from(pg_sys::F_TO_JSONB),
            pg_sys::JSONBOID,
            arguments,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        );
        let function: *mut pg_sys::FmgrInfo = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast();
        pg_sys::fmgr_info(pg_sys::Oid::from(pg_sys::F_TO_JSONB), function);
        (*function).fn_expr = expression.cast();
        function
    }
}

/// SAFETY: `relation` is open.
unsafe fn row_triggers(relation: pg_sys::Relation) -> Vec<RowTrigger> {
    const ROW_AFTER: i16 = pg_sys::TRIGGER_TYPE_ROW as i16;
    const NOT_AFTER: i16 = (pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD) as i16;
    // SAFETY: as promised by the caller.
    let triggers = unsafe { pg::triggers(relation) };
    triggers
        .iter()
        .filter(|trigger| {
            trigger.tgtype & (ROW_AFTER | NOT_AFTER) == ROW_AFTER
                && trigger.tgnattr == 0
                && trigger.tgqual.is_null()
                && pg::is_own_function(trigger.tgfoid, SYMBOL)
        })
        .map(|trigger| RowTrigger {
            events: trigger.tgtype,
            enabled: trigger.tgenabled as u8,
        })
        .collect()
}

/// The arguments of every trigger that calls the audit function. SAFETY: `relation` is open.
unsafe fn excluded_columns(relation: pg_sys::Relation) -> Vec<String> {
    // SAFETY: as promised by the caller; a trigger has tgnargs arguments.
    unsafe {
        pg::triggers(relation)
            .iter()
            .filter(|trigger| trigger.tgnargs > 0 && pg::is_own_function(trigger.tgfoid, SYMBOL))
            .flat_map(|trigger| {
                (0..trigger.tgnargs as usize).map(|n| {
                    CStr::from_ptr(*trigger.tgargs.add(n))
                        .to_string_lossy()
                        .into_owned()
                })
            })
            .collect()
    }
}
