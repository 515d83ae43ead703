//! What capture has to know about a column of a tracked table: how its values become jsonb. Reads no row.
#![expect(unsafe_code, reason = "attributes and functions by pointer")]

use pgrx::pg_sys;

use super::casts::{ConvertedAs, cast_to_json, converted_as};
use crate::error::Result;
use crate::pg;

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

/// A column that is written to the audit log.
pub struct Column {
    /// Position in the row, from 0.
    pub index: usize,
    pub kind: Kind,
    /// The type below all domains.
    pub base_type: pg_sys::Oid,
    /// For `Kind::Other`.
    pub converted_as: ConvertedAs,
    pub by_value: bool,
    pub length: i16,
    /// The type's output function; for `Kind::Other` it is to_jsonb of this type.
    pub function: *mut pg_sys::FmgrInfo,
    pub name: *const std::ffi::c_char,
    pub name_length: i32,
    /// The name as a text datum.
    pub name_text: pg_sys::Datum,
}

impl Column {
    pub fn none() -> Column {
        Column {
            index: 0,
            kind: Kind::Printed,
            base_type: pg_sys::InvalidOid,
            converted_as: ConvertedAs::Writer,
            by_value: true,
            length: 0,
            function: std::ptr::null_mut(),
            name: std::ptr::null(),
            name_length: 0,
            name_text: pg_sys::Datum::null(),
        }
    }

    /// A column of the table named `table`. Raises 0A000 when code of several owners would turn it into jsonb.
    pub fn recorded(
        index: usize,
        attribute: &pg_sys::FormData_pg_attribute,
        table: &str,
        name: &str,
    ) -> Result<Column> {
        let mut column = Column::of(index, attribute, name);
        if column.kind == Kind::Other {
            column.converted_as = converted_as(attribute.atttypid, table, name)?;
        }
        Ok(column)
    }

    fn of(index: usize, attribute: &pg_sys::FormData_pg_attribute, name: &str) -> Column {
        // SAFETY: look-ups in the system catalogs; the results live in the current memory context, the table's.
        unsafe {
            let base_type = pg_sys::getBaseType(attribute.atttypid);
            let kind = kind_of(base_type);
            let name_text = pg::text_datum(name);
            Column {
                index,
                kind,
                base_type,
                converted_as: ConvertedAs::Writer,
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
    pub fn printed(index: usize, attribute: &pg_sys::FormData_pg_attribute, name: &str) -> Column {
        let mut column = Column::of(index, attribute, name);
        if column.kind == Kind::Other {
            column.kind = Kind::Printed;
            column.function = output_function(attribute.atttypid);
        }
        column
    }

    /// What jsonb sorts keys by: shorter first, then by bytes.
    pub fn key(&self) -> (i32, &[u8]) {
        // SAFETY: the name lives as long as the table.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.name.cast::<u8>(), self.name_length as usize)
        };
        (self.name_length, bytes)
    }
}

fn kind_of(base_type: pg_sys::Oid) -> Kind {
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
        // SAFETY: look-ups in the system catalogs, of a type that a column has.
        other => unsafe {
            let composed = pg_sys::get_element_type(other) != pg_sys::InvalidOid
                || other == pg_sys::RECORDARRAYOID
                || pg_sys::type_is_rowtype(other);
            if composed
                || (other.to_u32() >= pg_sys::FirstNormalObjectId && cast_to_json(other).is_some())
            {
                Kind::Other
            } else {
                Kind::Printed
            }
        },
    }
}

/// The output function of a type, in the current memory context.
fn output_function(type_oid: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
    // SAFETY: look-ups in the system catalogs; fmgr_info fills in what was allocated, and keeps what it needs
    // in the current memory context.
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
/// expression, in the current memory context.
fn to_jsonb_of(type_oid: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
    // SAFETY: nodes and function live in the current memory context, and so does what fmgr_info keeps.
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
