//! The databases of the cluster. For a process that is connected to none, and so has no SQL.
#![expect(unsafe_code, reason = "a scan of a shared catalog")]

use pgrx::pg_sys;

/// Oids of the databases that accept connections. Needs a transaction.
pub fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: as autovacuum's launcher reads it: pg_database is a heap table that every process can open,
    // and each of its rows, as long as the scan stands on it, has the form of FormData_pg_database. The
    // scan is ended as table_endscan() does; no frame inside the boundary owns anything.
    unsafe {
        let relation = pg_sys::table_open(
            pg_sys::DatabaseRelationId,
            pg_sys::AccessShareLock as pg_sys::LOCKMODE,
        );
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let database = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if (*database).datallowconn {
                found.push((*database).oid);
            }
        }
        if let Some(end) = (*(*(*scan).rs_rd).rd_tableam).scan_end {
            pg_sys::ffi::pg_guard_ffi_boundary(|| end(scan));
        }
        pg_sys::table_close(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
    }
    found
}
