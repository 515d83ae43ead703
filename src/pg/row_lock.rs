//! Locks single rows without a statement, as a foreign key's own check does. Reads nothing of a row.
#![expect(unsafe_code, reason = "scans and locks a tuple")]

use pgrx::prelude::*;

use super::catalog::{TableName, relation};
use super::{text, version};

/// Locks the row of a table whose `id` is this uuid with FOR KEY SHARE, in its newest version; false
/// when there is none. Raises 55000 when the table has no such column: its owner may change it at any time.
pub fn lock_key_share(table: TableName<'_>, id: [u8; 16]) -> bool {
    let Some(oid) = relation(table) else {
        return false;
    };
    // SAFETY: what is opened is closed; the primary key leads with `id`, else the scan is sequential.
    // The key points to `id`, which outlives the scan.
    unsafe {
        let name = table;
        let table = pg_sys::table_open(oid, pg_sys::RowShareLock as i32);
        // The lock keeps the columns as they are.
        let Some(number) = uuid_column(table, "id") else {
            refuse_without_id(name);
        };
        let index = version::primary_key_index(table);
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            number,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::Oid::from(pg_sys::F_UUID_EQ),
            pg_sys::Datum::from(id.as_ptr()),
        );
        let scan = pg_sys::systable_beginscan(
            table,
            index,
            index != pg_sys::InvalidOid,
            snapshot,
            1,
            &mut key,
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = !tuple.is_null() && lock_tuple(table, &raw mut (*tuple).t_self, snapshot);
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(table, pg_sys::NoLock as i32);
        found
    }
}

/// The number of a column of type uuid.
///
/// # Safety
/// `table` is open.
unsafe fn uuid_column(table: pg_sys::Relation, name: &str) -> Option<i16> {
    // SAFETY: an open relation keeps its descriptor; the type of a column exists.
    unsafe {
        version::attributes((*table).rd_att)
            .iter()
            .find(|attribute| !attribute.attisdropped && text::name(&attribute.attname) == name)
            .filter(|attribute| pg_sys::getBaseType(attribute.atttypid) == pg_sys::UUIDOID)
            .map(|attribute| attribute.attnum)
    }
}

#[cold]
fn refuse_without_id(table: TableName<'_>) -> ! {
    let (schema, name) = (table.schema.to_string_lossy(), table.name.to_string_lossy());
    ereport!(
        ERROR,
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("table {schema}.{name} has no column id of type uuid")
    );
}

/// # Safety
/// `table` is open, `tid` names a row of it that `snapshot` sees, and the snapshot is registered.
unsafe fn lock_tuple(
    table: pg_sys::Relation,
    tid: *mut pg_sys::ItemPointerData,
    snapshot: pg_sys::Snapshot,
) -> bool {
    // SAFETY: the access method is called as table_tuple_lock() does, with a slot of its own kind. No
    // frame inside the boundary owns anything.
    unsafe {
        let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
        let lock = (*(*table).rd_tableam)
            .tuple_lock
            .expect("a table's access method locks rows");
        let mut place = *tid;
        let mut failure = pg_sys::TM_FailureData::default();
        let command = pg_sys::GetCurrentCommandId(false);
        let result = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            lock(
                table,
                &mut place,
                snapshot,
                slot,
                command,
                pg_sys::LockTupleMode::LockTupleKeyShare,
                pg_sys::LockWaitPolicy::LockWaitBlock,
                pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION as u8,
                &mut failure,
            )
        });
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        result == pg_sys::TM_Result::TM_Ok
    }
}
