//! Which triggers an append fires. Fires none itself.

use pgrx::pg_sys;

/// Which triggers an insert fires.
pub(super) struct Fired {
    pub(super) any: bool,
    pub(super) before_row: bool,
    /// Others than PostgreSQL's own for foreign keys.
    pub(super) foreign: bool,
}

/// Leaves the triggers that `keep` wants in a description that is the caller's own copy.
///
/// # Safety
/// `description` is null or such a copy.
pub(super) unsafe fn keep_triggers(
    description: *mut pg_sys::TriggerDesc,
    keep: impl Fn(&pg_sys::Trigger) -> bool,
) -> Fired {
    let mut fired = Fired {
        any: false,
        before_row: false,
        foreign: false,
    };
    if description.is_null() {
        return fired;
    }
    let (mut after_row, mut before_statement, mut after_statement, mut new_table) =
        (false, false, false, false);
    // SAFETY: nobody else sees the copy, which counts its triggers. A kept trigger moves towards the front,
    // over one that was not kept; neither owns anything of its own.
    unsafe {
        let description = &mut *description;
        let mut kept = 0;
        for n in 0..description.numtriggers as usize {
            let trigger = std::ptr::read(description.triggers.add(n));
            let kind = trigger.tgtype as u32;
            if kind & pg_sys::TRIGGER_TYPE_INSERT == 0 || !keep(&trigger) {
                continue;
            }
            let row = kind & pg_sys::TRIGGER_TYPE_ROW != 0;
            let before = kind & pg_sys::TRIGGER_TYPE_BEFORE != 0;
            match (row, before) {
                (true, true) => fired.before_row = true,
                (true, false) => after_row = true,
                (false, true) => before_statement = true,
                (false, false) => after_statement = true,
            }
            new_table |= !trigger.tgnewtable.is_null();
            fired.foreign |= !trigger.tgisinternal;
            std::ptr::write(description.triggers.add(kept), trigger);
            kept += 1;
        }
        description.numtriggers = kept as i32;
        description.trig_insert_before_row = fired.before_row;
        description.trig_insert_after_row = after_row;
        description.trig_insert_before_statement = before_statement;
        description.trig_insert_after_statement = after_statement;
        description.trig_insert_new_table = new_table;
    }
    fired.any = fired.before_row || after_row || before_statement || after_statement;
    fired
}
