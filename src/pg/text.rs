//! Texts and identifiers between Rust and PostgreSQL. Interprets none of them.
#![expect(unsafe_code, reason = "C strings")]

use std::ffi::CStr;

use pgrx::prelude::*;

use super::unguarded;

/// A text datum in the current memory context.
pub fn text_datum(text: &str) -> pg_sys::Datum {
    // SAFETY: copies as many bytes as the text has.
    unsafe {
        pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(
            text.as_ptr().cast(),
            text.len() as i32,
        ))
    }
}

/// The elements of a text[] that are not null.
///
/// # Safety
/// The datum is a text[] that is alive.
pub unsafe fn texts(array: Option<pg_sys::Datum>) -> Vec<String> {
    // SAFETY: the datum is an array of texts, and its elements are copied while it is alive.
    let elements =
        array.and_then(|array| unsafe { Vec::<Option<String>>::from_datum(array, false) });
    elements.unwrap_or_default().into_iter().flatten().collect()
}

/// An identifier.
pub fn name(name: &pg_sys::NameData) -> String {
    // SAFETY: namein and every other maker of a name end it with NUL inside its array.
    unsafe { CStr::from_ptr(name.data.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}

/// `lower(text)` under the database's collation.
pub fn lower(text: &str) -> String {
    // SAFETY: reads as many bytes as given; returns a palloc'd C string. No frame inside the boundary
    // owns anything.
    unsafe {
        let lower = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unguarded::str_tolower(
                text.as_ptr().cast(),
                text.len(),
                pg_sys::DEFAULT_COLLATION_OID,
            )
        });
        CStr::from_ptr(lower).to_string_lossy().into_owned()
    }
}
