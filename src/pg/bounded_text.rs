//! Texts that somebody else chose, read only when they are short: a value that is stored compressed or out of
//! line tells its length without being read.
#![expect(unsafe_code, reason = "reads the header of a value by pointer")]

use pgrx::prelude::*;

use super::jsonb::argument;

/// A text, `None` when it has more than `BYTES` bytes.
pub struct BoundedText<const BYTES: usize>(pub Option<String>);

/// The elements of a text[], `None` when it takes more than `BYTES` bytes. An element takes four more bytes than
/// it has, rounded up to four.
pub struct BoundedTexts<const BYTES: usize>(pub Option<Vec<Option<String>>>);

/// A value of at most `most` bytes beside its header.
///
/// # Safety
/// `datum` is a varlena of the type that `T` reads, and is alive.
unsafe fn read<T: FromDatum>(datum: pg_sys::Datum, most: usize) -> Option<T> {
    // SAFETY: the caller's; the size comes from the header alone.
    unsafe {
        let bytes = pg_sys::toast_raw_datum_size(datum).saturating_sub(pg_sys::VARHDRSZ);
        (bytes <= most)
            .then(|| T::from_datum(datum, false))
            .flatten()
    }
}

impl<const BYTES: usize> FromDatum for BoundedText<BYTES> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: FromDatum is only asked for a datum of type_oid(), text.
        (!is_null).then(|| Self(unsafe { read(datum, BYTES) }))
    }
}

impl<const BYTES: usize> IntoDatum for BoundedText<BYTES> {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0?.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

argument!(BoundedText<const BYTES>, "text");

impl<const BYTES: usize> FromDatum for BoundedTexts<BYTES> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: FromDatum is only asked for a datum of type_oid(), text[].
        (!is_null).then(|| Self(unsafe { read(datum, BYTES) }))
    }
}

impl<const BYTES: usize> IntoDatum for BoundedTexts<BYTES> {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0?.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTARRAYOID
    }
}

argument!(BoundedTexts<const BYTES>, "text[]");
