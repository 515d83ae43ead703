//! Functions of PostgreSQL without pgrx's boundary for each call. A caller sets one boundary around
//! many calls, and no function between it and them owns anything that would have to be dropped: an
//! error leaves through all of them at once.
#![expect(unsafe_code, reason = "binds C functions")]

use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, JsonbValue};

unsafe extern "C-unwind" {
    pub fn palloc(size: usize) -> *mut c_void;
    pub fn pushJsonbValue(
        state: *mut *mut pg_sys::JsonbParseState,
        token: pg_sys::JsonbIteratorToken::Type,
        value: *mut JsonbValue,
    ) -> *mut JsonbValue;
    pub fn JsonbValueToJsonb(value: *mut JsonbValue) -> *mut pg_sys::Jsonb;
    pub fn getIthJsonbValueFromContainer(
        container: *mut pg_sys::JsonbContainer,
        index: u32,
    ) -> *mut JsonbValue;
    pub fn compareJsonbContainers(
        left: *mut pg_sys::JsonbContainer,
        right: *mut pg_sys::JsonbContainer,
    ) -> c_int;
    pub fn JsonEncodeDateTime(
        buffer: *mut c_char,
        value: Datum,
        type_oid: pg_sys::Oid,
        zone: *const c_int,
    ) -> *mut c_char;
    pub fn int64_to_numeric(value: i64) -> pg_sys::Numeric;
    pub fn OutputFunctionCall(function: *mut pg_sys::FmgrInfo, value: Datum) -> *mut c_char;
    pub fn FunctionCall1Coll(
        function: *mut pg_sys::FmgrInfo,
        collation: pg_sys::Oid,
        value: Datum,
    ) -> Datum;
    pub fn DirectFunctionCall2Coll(
        function: unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> Datum,
        collation: pg_sys::Oid,
        first: Datum,
        second: Datum,
    ) -> Datum;
    pub fn DirectFunctionCall3Coll(
        function: unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> Datum,
        collation: pg_sys::Oid,
        first: Datum,
        second: Datum,
        third: Datum,
    ) -> Datum;
    pub fn numeric_in(call: pg_sys::FunctionCallInfo) -> Datum;
    pub fn numeric_eq(call: pg_sys::FunctionCallInfo) -> Datum;
    pub fn pg_detoast_datum(value: *mut pg_sys::varlena) -> *mut pg_sys::varlena;
    pub fn pg_detoast_datum_packed(value: *mut pg_sys::varlena) -> *mut pg_sys::varlena;
    /// Same bytes after detoasting (src/backend/utils/adt/datum.c).
    pub fn datum_image_eq(left: Datum, right: Datum, by_value: bool, length: c_int) -> bool;
    pub fn construct_array(
        elements: *mut Datum,
        count: c_int,
        element_type: pg_sys::Oid,
        length: c_int,
        by_value: bool,
        align: c_char,
    ) -> *mut pg_sys::ArrayType;
    pub fn deconstruct_array(
        array: *mut pg_sys::ArrayType,
        element_type: pg_sys::Oid,
        length: c_int,
        by_value: bool,
        align: c_char,
        elements: *mut *mut Datum,
        nulls: *mut *mut bool,
        count: *mut c_int,
    );
    pub fn cstring_to_text_with_len(text: *const c_char, length: c_int) -> *mut pg_sys::text;
    pub fn check_stack_depth();
    pub fn str_tolower(text: *const c_char, length: usize, collation: pg_sys::Oid) -> *mut c_char;
    pub fn errstart(level: c_int, domain: *const c_char) -> bool;
    pub fn errcode(code: c_int) -> c_int;
    pub fn errmsg(format: *const c_char, ...) -> c_int;
    pub fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

pub fn typed(type_: pg_sys::jbvType::Type) -> JsonbValue {
    JsonbValue {
        type_,
        ..JsonbValue::default()
    }
}

pub fn string(text: *mut c_char, length: usize) -> JsonbValue {
    let mut value = typed(pg_sys::jbvType::jbvString);
    value.val.string = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_1 {
        len: length as c_int,
        val: text,
    };
    value
}

pub fn number(numeric: pg_sys::Numeric) -> JsonbValue {
    let mut value = typed(pg_sys::jbvType::jbvNumeric);
    value.val.numeric = numeric;
    value
}

pub fn null() -> JsonbValue {
    typed(pg_sys::jbvType::jbvNull)
}

/// A jsonb datum as a value of an object; a scalar stands in an array of its own there.
///
/// # Safety
/// Inside a boundary; `datum` is a jsonb that is alive.
pub unsafe fn document(datum: Datum) -> JsonbValue {
    // SAFETY: detoasting returns the value or a copy in the current memory context; a scalar's array has
    // one element, and any other root is a container of the length that the header says.
    unsafe {
        let jsonb: *mut pg_sys::Jsonb = pg_detoast_datum(datum.cast_mut_ptr()).cast();
        let root = &raw mut (*jsonb).root;
        if (*root).header & pg_sys::JB_FSCALAR != 0 {
            return getIthJsonbValueFromContainer(root, 0).read();
        }
        let mut value = typed(pg_sys::jbvType::jbvBinary);
        value.val.binary = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_4 {
            len: (pgrx::varsize_any(jsonb.cast()) - pg_sys::VARHDRSZ) as c_int,
            data: root,
        };
        value
    }
}

/// The usual text form, without NUL, and its length.
///
/// # Safety
/// Inside a boundary; the pointer is valid.
pub unsafe fn print_uuid(bytes: *const [u8; 16]) -> (*mut c_char, usize) {
    const LENGTH: usize = 36;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // SAFETY: 16 bytes are read, and two digits for each with four hyphens fill the LENGTH bytes.
    unsafe {
        let text: *mut u8 = palloc(LENGTH).cast();
        let mut position = 0;
        for (n, byte) in (*bytes).iter().enumerate() {
            if matches!(n, 4 | 6 | 8 | 10) {
                *text.add(position) = b'-';
                position += 1;
            }
            *text.add(position) = DIGITS[usize::from(byte >> 4)];
            *text.add(position + 1) = DIGITS[usize::from(byte & 15)];
            position += 2;
        }
        (text.cast(), LENGTH)
    }
}
