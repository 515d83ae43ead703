//! A jsonb value as the text that PostgreSQL prints, in and out. Never parses a document: signing and
//! sending need the text as it was printed.
#![expect(
    unsafe_code,
    reason = "datums by pointer, and pgrx's traits for arguments"
)]

use std::ffi::{CStr, CString};

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::prelude::*;

/// Lets functions of SQL take and return a type that FromDatum and IntoDatum read and write as this type of
/// SQL, which is passed by reference.
macro_rules! argument {
    ($type:ident $(<const $bound:ident>)?, $sql:literal) => {
        // SAFETY: an argument that is passed by reference and read through FromDatum.
        unsafe impl<'fcx $(, const $bound: usize)?> pgrx::callconv::ArgAbi<'fcx> for $type $(<$bound>)? {
            unsafe fn unbox_arg_unchecked(arg: pgrx::callconv::Arg<'_, 'fcx>) -> Self {
                // SAFETY: only reached for a non-null argument of the declared type.
                unsafe { arg.unbox_arg_using_from_datum() }
                    .expect("an argument that is not null")
            }
        }

        const _: () = {
            use pgrx::pgrx_sql_entity_graph::metadata::{
                ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
            };

            // SAFETY: the type maps to this one of SQL.
            unsafe impl $(<const $bound: usize>)? SqlTranslatable for $type $(<$bound>)? {
                const TYPE_IDENT: &'static str =
                    concat!("plugin_webhooks::pg::", stringify!($type));
                const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
                const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> =
                    Ok(SqlMappingRef::literal($sql));
                const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> =
                    Ok(ReturnsRef::One(SqlMappingRef::literal($sql)));
            }
        };
    };
}
pub(super) use argument;

/// A jsonb value as PostgreSQL prints it. Numbers, key order and escapes stay as they are,
/// which parsing into a document and printing it again would not guarantee.
#[derive(Debug, Clone)]
pub struct Jsonb(pub String);

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: FromDatum is only asked for a datum of type_oid(), jsonb. jsonb_out detoasts it and
        // returns a palloc'd C string, which is freed once it is copied.
        unsafe {
            let printed = pgrx::direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(datum)])?;
            let text = CStr::from_ptr(printed.cast_mut_ptr());
            let owned = text.to_string_lossy().into_owned();
            pg_sys::pfree(printed.cast_mut_ptr());
            Some(Self(owned))
        }
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = CString::new(self.0).ok()?;
        // SAFETY: jsonb_in reads a NUL-terminated string and raises on malformed input.
        unsafe {
            pgrx::direct_function_call_as_datum(
                pg_sys::jsonb_in,
                &[Some(pg_sys::Datum::from(text.as_ptr()))],
            )
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: the datum made by IntoDatum is palloc'd in the caller's context.
unsafe impl BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: made a line above, and of the declared return type.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

argument!(Jsonb, "jsonb");
