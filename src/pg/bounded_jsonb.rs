//! A jsonb value that somebody else chose, as text, unless that is too long to hold: a number of a few
//! bytes may print as 131,072 digits, so the length is estimated before anything is printed.
#![expect(unsafe_code, reason = "reads a jsonb value by pointer")]

use pgrx::prelude::*;

use super::jsonb::{Jsonb, argument};

/// Nothing stored and no text is longer.
const MOST: usize = 64 << 20;
/// A text up to this length is never too long, however short it is stored.
const ALWAYS: usize = 1 << 20;
/// How many times the stored length a text may have. Escapes make a text up to six times as long;
/// only numbers with huge exponents do more.
const GROWTH: usize = 8;
/// What is stored in this length cannot print longer than `ALWAYS`: a number takes 16 bytes.
const SURELY_SHORT: usize = 128;

/// A jsonb value as text, `None` when that would have more than `BYTES` bytes.
pub struct BoundedJsonb<const BYTES: usize = MOST>(pub Option<String>);

/// # Safety
/// `stored` is a jsonb datum that is alive.
unsafe fn print(stored: pg_sys::Datum, most: usize) -> Option<String> {
    // SAFETY: `stored` points to a varlena with its header; detoasting returns it or a copy in the
    // current memory context, and only a copy is freed.
    unsafe {
        // A short text may be stored longer, as an array of numbers of one digit.
        if pg_sys::toast_raw_datum_size(stored) > most.saturating_mul(GROWTH).min(MOST) {
            return None;
        }
        let jsonb = pg_sys::pg_detoast_datum(stored.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        let length = pgrx::varsize_any(jsonb.cast());
        let longest = ALWAYS.max(length.saturating_mul(GROWTH)).min(MOST);
        let datum = pg_sys::Datum::from(jsonb);
        let text = if length > SURELY_SHORT && printed_length(jsonb) > longest {
            None
        } else {
            Jsonb::from_polymorphic_datum(datum, false, pg_sys::JSONBOID)
        };
        if datum != stored {
            pg_sys::pfree(jsonb.cast());
        }
        text.map(|text| text.0).filter(|text| text.len() <= most)
    }
}

/// How long a string is as text, without its quotes (escape_json in utils/adt/json.c).
fn escaped_length(string: &[u8]) -> usize {
    let printed = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    string.iter().map(printed).sum()
}

/// About how long a jsonb value is as text, without quotes and spaces.
///
/// # Safety
/// `jsonb` is detoasted.
unsafe fn printed_length(jsonb: *mut pg_sys::Jsonb) -> usize {
    use pg_sys::JsonbIteratorToken as Token;
    let mut length = 0_usize;
    // SAFETY: the iterator reads the value to its end; the token says which member of the union is
    // set, and scalars point into the value.
    unsafe {
        let mut iterator = pg_sys::JsonbIteratorInit(&raw mut (*jsonb).root);
        let mut value: pg_sys::JsonbValue = std::mem::zeroed();
        loop {
            match pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false) {
                Token::WJB_DONE => return length,
                Token::WJB_KEY | Token::WJB_VALUE | Token::WJB_ELEM => {
                    length = length.saturating_add(match value.type_ {
                        pg_sys::jbvType::jbvNumeric => digits(value.val.numeric),
                        pg_sys::jbvType::jbvString => {
                            let length = usize::try_from(value.val.string.len).unwrap_or(0);
                            escaped_length(std::slice::from_raw_parts(
                                value.val.string.val.cast::<u8>(),
                                length,
                            ))
                        }
                        _ => 4,
                    });
                }
                _ => {}
            }
        }
    }
}

/// Digits of a numeric before and after the point, from its header (utils/adt/numeric.c).
///
/// # Safety
/// `numeric` has a four-byte length word, as every numeric inside a jsonb.
unsafe fn digits(numeric: pg_sys::Numeric) -> usize {
    // SAFETY: two bytes of header follow the length word; only the long form, whose first bit is not
    // set, has two more.
    let (weight, scale) = unsafe {
        let header = numeric.cast::<u16>().add(2);
        let first = header.read();
        if first & 0x8000 != 0 {
            // Short: seven bits of weight with sign, six of scale. NaN and infinity look like it.
            let weight = i32::from(first & 0x3f) - i32::from(first & 0x40);
            (weight, (first >> 7) & 0x3f)
        } else {
            (
                i32::from(header.add(1).cast::<i16>().read()),
                first & 0x3fff,
            )
        }
    };
    // The weight counts groups of four digits, less one.
    usize::try_from((weight + 1) * 4).unwrap_or(0) + usize::from(scale)
}

impl<const BYTES: usize> FromDatum for BoundedJsonb<BYTES> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: FromDatum is only asked for a datum of type_oid(), jsonb.
        (!is_null).then(|| Self(unsafe { print(datum, BYTES) }))
    }
}

impl<const BYTES: usize> IntoDatum for BoundedJsonb<BYTES> {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Jsonb(self.0?).into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

argument!(BoundedJsonb<const BYTES>, "jsonb");

/// How many bytes a jsonb value takes in memory; it is not read.
pub struct JsonbSize(pub usize);

impl FromDatum for JsonbSize {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: FromDatum is only asked for a datum of type_oid(), jsonb; the size comes from the header alone.
        (!is_null).then(|| Self(unsafe { pg_sys::toast_raw_datum_size(datum) }))
    }
}

impl IntoDatum for JsonbSize {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        None
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}
