//! Memory contexts, and values that are made in one or outlive all of them. Reads no datum: what it
//! means is the caller's.
#![expect(unsafe_code, reason = "memory contexts and raw copies")]

use std::ffi::{CStr, CString};

use pgrx::prelude::*;

use super::text::text_datum;

/// A memory context of its own below `parent`.
///
/// # Safety
/// `parent` is a live context, and the new one is used no longer than that.
pub unsafe fn new_context(
    parent: pg_sys::MemoryContext,
    name: &'static CStr,
) -> pg_sys::MemoryContext {
    // SAFETY: `parent` is live; the name is static, because PostgreSQL keeps the pointer.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            parent,
            name.as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

/// As long as it lives, a memory context is the current one; also an error leaves it.
pub struct Inside(pg_sys::MemoryContext);

impl Inside {
    /// # Safety
    /// The context is live and stays so until the value is dropped; so does the one that is current.
    pub unsafe fn of(context: pg_sys::MemoryContext) -> Self {
        // SAFETY: `context` is live.
        Self(unsafe { pg_sys::MemoryContextSwitchTo(context) })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // SAFETY: `of` was told that this context lives until now.
        unsafe { pg_sys::MemoryContextSwitchTo(self.0) };
    }
}

/// A value of variable length that outlives PostgreSQL's memory contexts.
pub struct Varlena(Vec<u64>);

impl Varlena {
    /// # Safety
    /// `datum` is a varlena that is alive and not toasted.
    unsafe fn of(datum: pg_sys::Datum) -> Self {
        // SAFETY: a varlena that is not toasted says its whole size; the words have room for all bytes.
        unsafe {
            let size = pgrx::varsize_any(datum.cast_mut_ptr());
            let mut words = vec![0_u64; size.div_ceil(8)];
            std::ptr::copy_nonoverlapping(
                datum.cast_mut_ptr::<u8>(),
                words.as_mut_ptr().cast(),
                size,
            );
            Self(words)
        }
    }

    pub fn text(text: &str) -> Self {
        // SAFETY: a fresh text is neither compressed nor stored elsewhere.
        unsafe { Self::of(text_datum(text)) }
    }

    /// An address; raises when it is none.
    pub fn inet(address: &str) -> Option<Self> {
        let text = CString::new(address).ok()?;
        // SAFETY: inet_in reads a NUL-terminated string and returns a fresh inet, which is never toasted.
        unsafe {
            let datum = pgrx::direct_function_call_as_datum(
                pg_sys::inet_in,
                &[Some(pg_sys::Datum::from(text.as_ptr()))],
            )?;
            Some(Self::of(datum))
        }
    }

    /// Good as long as the value lives.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0.as_ptr())
    }
}

/// A datum that is passed on as it is.
pub struct RawDatum(pub pg_sys::Datum);

impl IntoDatum for RawDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}

/// A copy of a value of variable length in the current memory context.
///
/// # Safety
/// `datum` is a varlena that is alive and not toasted.
pub unsafe fn copied_varlena(datum: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: a varlena that is not toasted is as long as its header says.
    unsafe { copied_bytes(datum, pgrx::varsize_any(datum.cast_mut_ptr())) }
}

/// A copy of `size` bytes in the current memory context.
///
/// # Safety
/// `datum` points to as many readable bytes.
pub unsafe fn copied_bytes(datum: pg_sys::Datum, size: usize) -> pg_sys::Datum {
    // SAFETY: `size` bytes are readable behind `datum` and writable in the fresh copy.
    unsafe {
        let copy = pg_sys::palloc(size);
        std::ptr::copy_nonoverlapping(datum.cast_mut_ptr::<u8>(), copy.cast(), size);
        pg_sys::Datum::from(copy)
    }
}
