//! A changed row becomes the values of a row of the audit log. Every result is that of
//! `to_jsonb(row)`; what to_jsonb looks up for each value is looked up once a table here.
//!
//! Everything below `change` calls PostgreSQL without a boundary for each call: no function here
//! owns anything that would have to be dropped, so an error may leave through all of them at once.
#![expect(unsafe_code, reason = "reads tuples, builds jsonb by pointer")]

use std::ffi::{c_char, c_int};

use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, JsonbValue};
use plugin_webhooks_core::uuid;

use super::casts::ConvertedAs;
use super::column::{Column, Kind};
use super::table::Table;
use crate::change::Change;
use crate::pg;
use crate::pg::unguarded::{self, null, number, string, typed};

/// A version of a row as PostgreSQL unpacks it.
#[derive(Clone, Copy)]
pub struct Version {
    pub values: *const Datum,
    pub nulls: *const bool,
}

impl Version {
    /// # Safety
    /// The column belongs to the row's table.
    unsafe fn get(self, column: &Column) -> Option<Datum> {
        // SAFETY: the arrays have an element for each column of the table, dropped ones included.
        unsafe { (!*self.nulls.add(column.index)).then(|| *self.values.add(column.index)) }
    }
}

/// What happened to a row.
#[derive(Clone, Copy)]
pub enum Versions {
    Inserted(Version),
    Updated { old: Version, new: Version },
    Deleted(Version),
}

/// The longest string that jsonb takes.
const LONGEST_STRING: usize = 0x0FFF_FFFF;

/// # Safety
/// The versions are rows of the table. Temporary memory and results are of the current memory context.
pub unsafe fn change(table: &Table, versions: Versions) -> Change {
    // SAFETY: no frame below owns anything; see the module's comment.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| change_unguarded(table, versions)) }
}

/// # Safety
/// As `change`, and inside the boundary.
unsafe fn change_unguarded(table: &Table, versions: Versions) -> Change {
    // SAFETY: the versions are rows of this table, so that every value is of its column's type; what is made of
    // them lives in the current memory context.
    unsafe {
        unguarded::check_stack_depth();
        let (Versions::Inserted(current)
        | Versions::Updated { new: current, .. }
        | Versions::Deleted(current)) = versions;
        let (mut old_data, mut new_data, mut changed_fields) = (None, None, None);
        match versions {
            Versions::Inserted(row) => {
                let values = all_values(table, row);
                new_data = Some(object(table, values));
            }
            Versions::Deleted(row) => {
                let values = all_values(table, row);
                old_data = Some(object(table, values));
            }
            Versions::Updated { old, new } => {
                let before = all_values(table, old);
                old_data = Some(object(table, before));
                let (after, changed) = update_values(table, old, before, new);
                new_data = Some(object(table, after));
                changed_fields = Some(changed);
            }
        }
        let tenant = match &table.tenant {
            Some(column) => tenant(column, current),
            None => None,
        };
        Change {
            record_id: record_id(&table.id, current),
            old_data,
            new_data,
            changed_fields,
            tenant,
            tenant_datum: match tenant {
                Some(bytes) => {
                    let copy: *mut [u8; 16] = unguarded::palloc(16).cast();
                    copy.write(bytes);
                    Some(Datum::from(copy))
                }
                None => None,
            },
        }
    }
}

/// # Safety
/// Inside the boundary; the row is one of the column's table.
unsafe fn record_id(column: &Column, row: Version) -> Datum {
    // SAFETY: the value is of the column's type, and its text lives in the current memory context.
    unsafe {
        match row.get(column) {
            None => Datum::from(unguarded::cstring_to_text_with_len(c"".as_ptr(), 0)),
            Some(value) => {
                let (text, length) = print(column, value);
                Datum::from(unguarded::cstring_to_text_with_len(text, length as c_int))
            }
        }
    }
}

/// # Safety
/// Inside the boundary; the row is one of the column's table.
unsafe fn tenant(column: &Column, row: Version) -> Option<[u8; 16]> {
    // SAFETY: the value is of the column's type: a uuid is 16 bytes, any other is printed.
    unsafe {
        let value = row.get(column)?;
        if column.kind == Kind::Uuid {
            return Some(value.cast_mut_ptr::<[u8; 16]>().read());
        }
        let (text, length) = print(column, value);
        uuid::parse(std::slice::from_raw_parts(text.cast(), length))
    }
}

/// # Safety
/// Inside the boundary; the row is one of the table.
unsafe fn all_values(table: &Table, row: Version) -> *mut JsonbValue {
    // SAFETY: the memory has room for one value of each column, and each is written.
    unsafe {
        let values: *mut JsonbValue =
            unguarded::palloc(size_of::<JsonbValue>() * table.columns.len().max(1)).cast();
        for (n, column) in table.columns.iter().enumerate() {
            values.add(n).write(optional(column, row.get(column)));
        }
        values
    }
}

/// The values of the new row and, as a text[], the names of the columns whose jsonb differs.
///
/// # Safety
/// Inside the boundary; both rows are of the table, and `before` holds the values of the old one.
unsafe fn update_values(
    table: &Table,
    old: Version,
    before: *const JsonbValue,
    new: Version,
) -> (*mut JsonbValue, Datum) {
    // SAFETY: both lists have room for one entry of each column; names of columns live as long as the table.
    unsafe {
        let count = table.columns.len();
        let after: *mut JsonbValue =
            unguarded::palloc(size_of::<JsonbValue>() * count.max(1)).cast();
        let changed: *mut Datum = unguarded::palloc(size_of::<Datum>() * count.max(1)).cast();
        let mut changes = 0;
        for (n, column) in table.columns.iter().enumerate() {
            let (left, right) = (old.get(column), new.get(column));
            let same_image = match (left, right) {
                (None, None) => true,
                (Some(left), Some(right)) => same_image(column, left, right),
                _ => false,
            };
            if same_image {
                after.add(n).write(before.add(n).read());
                continue;
            }
            after.add(n).write(optional(column, right));
            if !same_value(before.add(n), after.add(n)) {
                changed.add(changes).write(column.name_text);
                changes += 1;
            }
        }
        let names = unguarded::construct_array(
            changed,
            changes as c_int,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as c_char,
        );
        (after, Datum::from(names))
    }
}

/// # Safety
/// Inside the boundary; both values are of the column's type.
unsafe fn same_image(column: &Column, left: Datum, right: Datum) -> bool {
    // SAFETY: length and passing are those of the column's type.
    unsafe {
        if column.length == -1 && same_toast_pointer(left, right) {
            return true;
        }
        unguarded::datum_image_eq(left, right, column.by_value, c_int::from(column.length))
    }
}

/// An unchanged large value keeps its place: no need to fetch it twice to see that.
///
/// # Safety
/// Both values are of variable length.
unsafe fn same_toast_pointer(left: Datum, right: Datum) -> bool {
    // SAFETY: a pointer to disk, which the tag tells, has SIZE bytes.
    unsafe {
        let (left, right) = (left.cast_mut_ptr::<u8>(), right.cast_mut_ptr::<u8>());
        let on_disk = |value: *mut u8| {
            pgrx::varatt_is_1b_e(value.cast())
                && *value.add(1) == pg_sys::vartag_external::VARTAG_ONDISK as u8
        };
        const SIZE: usize = 2 + size_of::<pg_sys::varatt_external>();
        on_disk(left)
            && on_disk(right)
            && std::slice::from_raw_parts(left, SIZE) == std::slice::from_raw_parts(right, SIZE)
    }
}

/// Two values are the same when their jsonb is: 1.0 and 1.00 are one number, null and JSON's null
/// are one null.
///
/// # Safety
/// Inside the boundary; both values were made by `value`.
unsafe fn same_value(left: *const JsonbValue, right: *const JsonbValue) -> bool {
    use pg_sys::jbvType as Type;
    // SAFETY: the type of a value tells which member of its union is set; what that points to lives in the
    // current memory context.
    unsafe {
        let (left, right) = (&*left, &*right);
        if left.type_ != right.type_ {
            return false;
        }
        match left.type_ {
            Type::jbvNull => true,
            Type::jbvBool => left.val.boolean == right.val.boolean,
            Type::jbvNumeric => {
                unguarded::DirectFunctionCall2Coll(
                    unguarded::numeric_eq,
                    pg_sys::InvalidOid,
                    Datum::from(left.val.numeric),
                    Datum::from(right.val.numeric),
                )
                .value()
                    != 0
            }
            Type::jbvString => {
                let bytes = |value: &JsonbValue| {
                    std::slice::from_raw_parts(
                        value.val.string.val.cast::<u8>(),
                        value.val.string.len as usize,
                    )
                };
                bytes(left) == bytes(right)
            }
            _ => {
                unguarded::compareJsonbContainers(left.val.binary.data, right.val.binary.data) == 0
            }
        }
    }
}

/// # Safety
/// Inside the boundary; the value is of the column's type.
unsafe fn optional(column: &Column, datum: Option<Datum>) -> JsonbValue {
    match datum {
        None => null(),
        // SAFETY: a value of the column.
        Some(datum) => unsafe { value(column, datum) },
    }
}

/// # Safety
/// Inside the boundary; the value is of the column's type.
unsafe fn value(column: &Column, datum: Datum) -> JsonbValue {
    // SAFETY: the kind follows from the column's type, so each arm reads the value as what it is; what it
    // returns lives in the current memory context.
    unsafe {
        match column.kind {
            Kind::Bool => {
                let mut value = typed(pg_sys::jbvType::jbvBool);
                value.val.boolean = datum.value() as u8 != 0;
                value
            }
            Kind::Int2 => number(unguarded::int64_to_numeric(i64::from(datum.value() as i16))),
            Kind::Int4 => number(unguarded::int64_to_numeric(i64::from(datum.value() as i32))),
            Kind::Int8 => number(unguarded::int64_to_numeric(datum.value() as i64)),
            Kind::Number => {
                let (text, length) = print(column, datum);
                let letters = std::slice::from_raw_parts(text.cast::<u8>(), length);
                if letters.iter().any(|c| matches!(c, b'n' | b'N')) {
                    return string(text, length);
                }
                let numeric = unguarded::DirectFunctionCall3Coll(
                    unguarded::numeric_in,
                    pg_sys::InvalidOid,
                    Datum::from(text),
                    Datum::from(pg_sys::InvalidOid),
                    Datum::from(-1_i32),
                );
                number(numeric.cast_mut_ptr())
            }
            Kind::Text | Kind::Uuid | Kind::Printed => {
                let (text, length) = print(column, datum);
                if length > LONGEST_STRING {
                    raise_too_long();
                }
                string(text, length)
            }
            Kind::DateTime => {
                let text = unguarded::JsonEncodeDateTime(
                    std::ptr::null_mut(),
                    datum,
                    column.base_type,
                    std::ptr::null(),
                );
                string(text, libc::strlen(text))
            }
            Kind::Jsonb => unguarded::document(datum),
            Kind::Other => {
                let convert =
                    || unguarded::FunctionCall1Coll(column.function, pg_sys::InvalidOid, datum);
                // An error leaves past these frames, too, and its abort restores role and settings: they own nothing.
                unguarded::document(match column.converted_as {
                    ConvertedAs::Writer => convert(),
                    ConvertedAs::Caster(role) => pg::as_role(role, convert),
                    ConvertedAs::TypeOwner(role) => pg::as_role_only(role, convert),
                })
            }
        }
    }
}

/// The error that to_jsonb raises. A panic may not cross the boundary: this is PostgreSQL's own way.
///
/// # Safety
/// Inside the boundary.
unsafe fn raise_too_long() {
    // SAFETY: the three calls of the macro ereport.
    unsafe {
        unguarded::errstart(pgrx::PgLogLevel::ERROR as c_int, std::ptr::null());
        unguarded::errcode(pgrx::PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED as c_int);
        unguarded::errmsg(c"string too long to represent as jsonb string".as_ptr());
        unguarded::errfinish(
            c"to_jsonb.rs".as_ptr(),
            line!() as c_int,
            c"raise_too_long".as_ptr(),
        );
    }
}

/// The text of a value and its length.
///
/// # Safety
/// Inside the boundary; the value is of the column's type.
unsafe fn print(column: &Column, datum: Datum) -> (*mut c_char, usize) {
    // SAFETY: a text is read in place, any other value by the output function of its type.
    unsafe {
        match column.kind {
            Kind::Text => {
                let value = unguarded::pg_detoast_datum_packed(datum.cast_mut_ptr());
                (
                    pgrx::vardata_any(value).cast_mut(),
                    pgrx::varsize_any_exhdr(value),
                )
            }
            Kind::Uuid => unguarded::print_uuid(datum.cast_mut_ptr()),
            _ => {
                let text = unguarded::OutputFunctionCall(column.function, datum);
                (text, libc::strlen(text))
            }
        }
    }
}

/// The jsonb object of a row's values. Keys go in in the order in which jsonb keeps them, so that
/// nothing is left to sort.
///
/// # Safety
/// Inside the boundary; there is one value for each column of the table.
unsafe fn object(table: &Table, values: *mut JsonbValue) -> Datum {
    use pg_sys::JsonbIteratorToken as Token;
    // SAFETY: each key is followed by its value, and what the values point to lives until the last line.
    unsafe {
        let mut state = std::ptr::null_mut();
        unguarded::pushJsonbValue(&mut state, Token::WJB_BEGIN_OBJECT, std::ptr::null_mut());
        for &n in &table.key_order {
            let column = &table.columns[n];
            let mut key = string(column.name.cast_mut(), column.name_length as usize);
            unguarded::pushJsonbValue(&mut state, Token::WJB_KEY, &mut key);
            unguarded::pushJsonbValue(&mut state, Token::WJB_VALUE, values.add(n));
        }
        let root =
            unguarded::pushJsonbValue(&mut state, Token::WJB_END_OBJECT, std::ptr::null_mut());
        Datum::from(unguarded::JsonbValueToJsonb(root))
    }
}
