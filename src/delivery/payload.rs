//! The payload of a delivery, as jsonb_build_object would make it. Every function but `build` runs inside
//! the one boundary that `build` sets, see `pg::unguarded`.
#![expect(unsafe_code, reason = "builds jsonb by pointer")]

use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, JsonbIteratorToken as Token, JsonbParseState, JsonbValue};

use super::subscriptions::Subscription;
use crate::change::AuditedChange;
use crate::pg::unguarded::{self, null, number, string};
use crate::text_enum::TextEnum;

/// The payload in the current memory context.
///
/// # Safety
/// The change's values are alive and of the types of their columns in the audit log; only documents may be
/// toasted.
pub unsafe fn build(change: &AuditedChange<'_>, tenant: &[u8; 16], to: &Subscription) -> Datum {
    // SAFETY: no frame inside the boundary owns anything that an error would have to drop.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| build_unguarded(change, tenant, to)) }
}

/// An object or array in the making. Keys go in in the order in which jsonb keeps them: shorter
/// first, then by bytes.
struct Builder(*mut JsonbParseState);

impl Builder {
    /// # Safety
    /// Inside the boundary, and the token may follow the last one.
    unsafe fn token(&mut self, token: Token::Type) -> *mut JsonbValue {
        // SAFETY: the state is null before the first token and afterwards pushJsonbValue's own; a token
        // that begins or ends something takes no value.
        unsafe { unguarded::pushJsonbValue(&mut self.0, token, std::ptr::null_mut()) }
    }

    /// # Safety
    /// Inside the boundary, and in an object that expects a key.
    unsafe fn key(&mut self, key: &'static str) {
        // SAFETY: the value is copied into the state; the name that it points to is static.
        unsafe {
            unguarded::pushJsonbValue(&mut self.0, Token::WJB_KEY, &mut text(key.as_bytes()))
        };
    }

    /// # Safety
    /// Inside the boundary, and in an object that expects a key; what the value points to lives until the
    /// outermost object is converted.
    unsafe fn add(&mut self, key: &'static str, mut value: JsonbValue) {
        // SAFETY: the key is followed by its value, which is copied into the state.
        unsafe {
            self.key(key);
            unguarded::pushJsonbValue(&mut self.0, Token::WJB_VALUE, &mut value);
        }
    }

    /// # Safety
    /// Inside the boundary, in an object that expects a key; the change's values are alive.
    unsafe fn changed_fields(&mut self, change: &AuditedChange<'_>) {
        // SAFETY: changed_fields is a text[]: its elements lie in it and live as long, both lists have one
        // entry for each, and as many lengths as dimensions follow the array's header.
        unsafe {
            self.key("changed_fields");
            let Some(fields) = change.change.changed_fields else {
                unguarded::pushJsonbValue(&mut self.0, Token::WJB_VALUE, &mut null());
                return;
            };
            let array: *mut pg_sys::ArrayType = fields.cast_mut_ptr();
            let (mut values, mut nulls) = (std::ptr::null_mut(), std::ptr::null_mut());
            unguarded::deconstruct_array(
                array,
                pg_sys::TEXTOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as std::ffi::c_char,
                &mut values,
                &mut nulls,
                &mut 0,
            );
            let lengths = std::slice::from_raw_parts(
                array.add(1).cast::<std::ffi::c_int>(),
                (*array).ndim as usize,
            );
            let elements = Elements { values, nulls };
            self.array(&elements, lengths, &mut 0);
        }
    }

    /// An array of these lengths, from the outermost dimension on, with the elements from `next` on.
    ///
    /// # Safety
    /// Inside the boundary, where a value may stand; there are as many elements as the lengths say.
    unsafe fn array(&mut self, elements: &Elements, lengths: &[std::ffi::c_int], next: &mut usize) {
        // SAFETY: `next` counts the elements, of which there are enough; an array that was begun is ended.
        unsafe {
            self.token(Token::WJB_BEGIN_ARRAY);
            if let [length, inner @ ..] = lengths {
                for _ in 0..*length {
                    if !inner.is_empty() {
                        self.array(elements, inner, next);
                        continue;
                    }
                    let mut element = if *elements.nulls.add(*next) {
                        null()
                    } else {
                        datum_text(*elements.values.add(*next))
                    };
                    unguarded::pushJsonbValue(&mut self.0, Token::WJB_ELEM, &mut element);
                    *next += 1;
                }
            }
            self.token(Token::WJB_END_ARRAY);
        }
    }
}

/// The elements of a text[].
struct Elements {
    values: *mut Datum,
    nulls: *mut bool,
}

/// # Safety
/// As `build`, and inside the boundary.
unsafe fn build_unguarded(
    change: &AuditedChange<'_>,
    tenant: &[u8; 16],
    to: &Subscription,
) -> Datum {
    // SAFETY: objects are begun, filled with key and value in turn, and ended; all values live in the
    // change, the subscription or the current memory context, until the last line converts them.
    unsafe {
        let record_id = || datum_text(change.change.record_id);
        let mut payload = Builder(std::ptr::null_mut());
        payload.token(Token::WJB_BEGIN_OBJECT);
        payload.add("v", number(unguarded::int64_to_numeric(1)));
        payload.key("audit");
        payload.token(Token::WJB_BEGIN_OBJECT);
        payload.add("id", number(unguarded::int64_to_numeric(change.id)));
        payload.add("operation", text(change.operation.as_str().as_bytes()));
        payload.add("record_id", record_id());
        payload.add("table_name", text(change.name.as_bytes()));
        payload.add("table_schema", text(change.schema.as_bytes()));
        payload.changed_fields(change);
        payload.token(Token::WJB_END_OBJECT);
        payload.key("snapshot");
        payload.token(Token::WJB_BEGIN_OBJECT);
        if to.include_payload {
            payload.add("new_data", document(change.change.new_data));
            payload.add("old_data", document(change.change.old_data));
        } else {
            payload.add("record_id", record_id());
            payload.changed_fields(change);
        }
        payload.token(Token::WJB_END_OBJECT);
        payload.add("tenant_id", uuid(tenant));
        payload.add("plugin_key", text(to.plugin_key.as_bytes()));
        payload.add("installation_id", uuid(&to.installation));
        let root = payload.token(Token::WJB_END_OBJECT);
        Datum::from(unguarded::JsonbValueToJsonb(root))
    }
}

fn text(bytes: &[u8]) -> JsonbValue {
    string(bytes.as_ptr().cast_mut().cast(), bytes.len())
}

/// # Safety
/// A text that is alive and not toasted, though its header may be the short one.
unsafe fn datum_text(datum: Datum) -> JsonbValue {
    // SAFETY: both read the header of either length; the value points into the text.
    unsafe {
        let value = datum.cast_mut_ptr();
        string(
            pgrx::vardata_any(value).cast_mut(),
            pgrx::varsize_any_exhdr(value),
        )
    }
}

/// # Safety
/// Inside the boundary.
unsafe fn uuid(bytes: &[u8; 16]) -> JsonbValue {
    // SAFETY: a reference to 16 bytes; the text is of the current memory context.
    let (text, length) = unsafe { unguarded::print_uuid(bytes) };
    string(text, length)
}

/// # Safety
/// Inside the boundary; the datum is a jsonb that is alive.
unsafe fn document(datum: Option<Datum>) -> JsonbValue {
    match datum {
        None => null(),
        // SAFETY: `datum` is a jsonb.
        Some(datum) => unsafe { unguarded::document(datum) },
    }
}
