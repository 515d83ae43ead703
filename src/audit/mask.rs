//! What the audit log, and so whoever subscribes to it, may know of an installation's configuration: where its
//! deliveries go, not what they are authorized with. Decides nothing about other tables.
#![expect(unsafe_code, reason = "passes datums on by pointer")]

use pgrx::pg_sys::{self, BuiltinOid, Datum};
use pgrx::prelude::*;

use crate::change::Change;
use crate::pg::{self, Jsonb};
use crate::tables;

const MASK: &str = include_str!("sql/mask_installation.sql");

/// The change of a row of `int.plugin_installations` with its configuration masked, also where that makes two
/// different ones alike: `changed_fields` stays. What is made is of the current memory context.
///
/// # Safety
/// The values are alive.
pub unsafe fn masked(change: Change) -> Change {
    // SAFETY: both are jsonb.
    unsafe {
        Change {
            old_data: change.old_data.and_then(|row| masked_row(row)),
            new_data: change.new_data.and_then(|row| masked_row(row)),
            ..change
        }
    }
}

/// # Safety
/// The datum is a jsonb that is alive.
unsafe fn masked_row(row: Datum) -> Option<Datum> {
    // SAFETY: the caller's jsonb.
    let row = unsafe { pgrx::datum::DatumWithOid::new(Some(pg::RawDatum(row)), pg_sys::JSONBOID) };
    // Its search_path is safe; the rows are none of any table.
    let masked = tables::ENTITY_CHANGES.run_kept(MASK, &[BuiltinOid::JSONBOID], &[row], |table| {
        table.first().get_one::<Jsonb>()
    });
    masked.and_then(IntoDatum::into_datum)
}
