//! Writes rows into an open table, in batches, with the rights of its owner. What a row needs beside its
//! values is known to the target; which triggers fire is the caller's choice.

use pgrx::pg_sys;

use super::layout::{Layout, TriggerAction};
use super::target::Target;
use super::triggers::keep_triggers;
use crate::pg::{self, cache, version};

/// An open table that rows are appended to.
pub struct Appender {
    layout: &'static Layout,
    target: Target,
    relation: pg_sys::Relation,
    estate: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    used: usize,
    /// Values of the rows that wait; emptied after each batch.
    batch: pg_sys::MemoryContext,
    fires_triggers: bool,
    fires_before_row: bool,
    /// Nothing that runs for a row looks up a name.
    keeps_search_path: bool,
}

/// Rows are written in batches of at most this many, and this much memory.
const BATCH_ROWS: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

impl Appender {
    /// `None` for a table that only a statement can insert into: partitioned, with rules, with forced
    /// row security, with generated columns, or with columns of other types than the layout's.
    pub fn open(
        layout: &'static Layout,
        action: impl Fn(&pg_sys::Trigger) -> TriggerAction,
    ) -> Option<Appender> {
        let (target, relation) = loop {
            let target = Target::take(layout)?;
            // SAFETY: the relation was there a moment ago, else this raises; what is opened is closed, here or
            // by `close`.
            unsafe {
                let relation = pg_sys::table_open(target.relation, pg_sys::RowExclusiveLock as i32);
                // The lock keeps the table as it is; what came before it may have changed it.
                if target.generation == cache::generation() {
                    break (target, relation);
                }
                pg_sys::table_close(relation, pg_sys::NoLock as i32);
            }
        };
        let (role, only_builtin) = (target.owner, target.only_builtin);
        // Opening an index may plan its expressions, which evaluates what it can of them.
        let open = || Self::of(layout, target, relation, action);
        Some(if only_builtin {
            pg::as_role_only(role, open)
        } else {
            pg::as_role(role, open)
        })
    }

    fn of(
        layout: &'static Layout,
        target: Target,
        relation: pg_sys::Relation,
        action: impl Fn(&pg_sys::Trigger) -> TriggerAction,
    ) -> Appender {
        // SAFETY: what ExecInitModifyTable and CopyFrom do for their table: the executor state owns what is
        // made here, and the copy of the trigger description is the result relation's own.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            let inside = pg::Inside::of((*estate).es_query_cxt);
            let result: *mut pg_sys::ResultRelInfo =
                pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(result, relation, 0, std::ptr::null_mut(), 0);
            (*estate).es_opened_result_relations =
                pg_sys::lappend((*estate).es_opened_result_relations, result.cast());
            pg_sys::ExecOpenIndices(result, false);
            for n in 0..(*result).ri_NumIndices as usize {
                let info = *(*result).ri_IndexRelationInfo.add(n);
                let index = *(*result).ri_IndexRelationDescs.add(n);
                if let Some(known) = target.expressions_of((*index).rd_id) {
                    (*info).ii_PredicateState = known.predicate;
                    (*info).ii_ExpressionsState = known.expressions;
                }
            }
            let own_context = pg::new_context((*estate).es_query_cxt, c"appended rows");
            drop(inside);
            let fired = keep_triggers((*result).ri_TrigDesc, |trigger| {
                !target.checked_constraints.contains(&trigger.tgconstraint)
                    && matches!(action(trigger), TriggerAction::Fire)
            });
            Appender {
                layout,
                relation,
                estate,
                result,
                slots: Vec::new(),
                used: 0,
                batch: own_context,
                fires_triggers: fired.any,
                fires_before_row: fired.before_row,
                keeps_search_path: target.only_builtin && !fired.foreign,
                target,
            }
        }
    }

    /// Where the values of a row have to live until `flush`.
    pub fn memory(&self) -> pg_sys::MemoryContext {
        self.batch
    }

    /// Adds a row: a value for each column of the layout, in its order.
    pub fn add<const N: usize>(&mut self, values: [Option<pg_sys::Datum>; N]) {
        debug_assert_eq!(N, self.target.filled.len());
        // SAFETY: the slot has the table's descriptor, so its arrays are as wide as the table; positions
        // are the table's.
        unsafe {
            if self.used == self.slots.len() {
                let inside = pg::Inside::of((*self.estate).es_query_cxt);
                let slot = pg_sys::MakeSingleTupleTableSlot(
                    (*self.relation).rd_att,
                    &raw const pg_sys::TTSOpsVirtual,
                );
                drop(inside);
                self.slots.push(slot);
            }
            let slot = self.slots[self.used];
            if (*slot).tts_flags & pg_sys::TTS_FLAG_SHOULDFREE as u16 != 0 {
                pg_sys::ExecClearTuple(slot);
            }
            let width = (*(*self.relation).rd_att).natts as usize;
            std::ptr::write_bytes((*slot).tts_isnull, 1, width);
            std::ptr::write_bytes((*slot).tts_values, 0, width);
            for (index, value) in self.target.filled.iter().zip(values) {
                if let Some(value) = value {
                    *(*slot).tts_values.add(*index) = value;
                    *(*slot).tts_isnull.add(*index) = false;
                }
            }
        }
        self.used += 1;
    }

    /// Whether triggers may write other rows than were added, or none. Then each row is a batch of its own.
    pub fn may_change_rows(&self) -> bool {
        self.fires_before_row
    }

    /// Whether it is time to `flush`.
    pub fn is_full(&self) -> bool {
        // SAFETY: the context belongs to the executor state, which lives until `close`.
        self.fires_before_row
            || self.used >= BATCH_ROWS
            || unsafe { (*self.batch).mem_allocated } > BATCH_BYTES
    }

    /// Writes the rows that wait, as one statement would, and shows each that was written to `written` with
    /// its position among those that waited. Afterwards their memory is free.
    pub fn flush(&mut self, written: impl FnMut(usize, Written<'_>)) {
        if self.used == 0 {
            return;
        }
        let role = self.target.owner;
        if self.keeps_search_path {
            pg::as_role_only(role, || self.write());
        } else {
            pg::as_role(role, || self.write());
        }
        self.show(written);
        self.used = 0;
        // SAFETY: the rows are written, and `used` says that no slot holds one.
        unsafe { pg_sys::MemoryContextReset(self.batch) }
    }

    fn show(&self, mut written: impl FnMut(usize, Written<'_>)) {
        for (n, slot) in self.slots[..self.used].iter().enumerate() {
            // SAFETY: the slots live until `close`; a row that was written has a valid tuple id.
            if unsafe { (**slot).tts_tid.ip_posid } != 0 {
                written(
                    n,
                    Written {
                        target: &self.target,
                        slot: *slot,
                    },
                );
            }
        }
    }

    fn write(&mut self) {
        // SAFETY: the order of CopyFrom: statement triggers before, rows, indexes, row triggers,
        // statement triggers after, all inside one query level of the trigger machinery.
        unsafe {
            let inside = pg::Inside::of(self.batch);
            let mut capture = std::ptr::null_mut();
            if self.fires_triggers {
                pg_sys::AfterTriggerBeginQuery();
                pg_sys::ExecBSInsertTriggers(self.estate, self.result);
                capture = pg_sys::MakeTransitionCaptureState(
                    (*self.result).ri_TrigDesc,
                    self.target.relation,
                    pg_sys::CmdType::CMD_INSERT,
                );
            }
            (*self.estate).es_output_cid = pg_sys::GetCurrentCommandId(true);
            for n in 0..self.used {
                self.complete(self.slots[n]);
            }
            if self.used == 1 {
                self.insert_one(self.slots[0], capture);
            } else {
                self.insert_many(capture);
            }
            if self.fires_triggers {
                pg_sys::ExecASInsertTriggers(self.estate, self.result, capture);
                pg_sys::AfterTriggerEndQuery(self.estate);
            }
            drop(inside);
            pg_sys::CommandCounterIncrement();
        }
    }

    /// Defaults and constraints.
    ///
    /// # Safety
    /// `slot` is one of this appender's that `add` has filled.
    unsafe fn complete(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: the slot's arrays are as wide as the table, for which the defaults were prepared.
        unsafe {
            let econtext = self.econtext();
            for (index, default) in &self.target.defaults {
                *(*slot).tts_values.add(*index) =
                    evaluate(*default, econtext, &mut *(*slot).tts_isnull.add(*index));
            }
            (*slot).tts_tid.ip_posid = 0;
            (*slot).tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
            (*slot).tts_nvalid = (*(*slot).tts_tupleDescriptor).natts as i16;
            if !self.fires_before_row {
                self.check(slot);
            }
        }
    }

    /// # Safety
    /// `slot` holds a complete row of the table.
    unsafe fn check(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: the checks were prepared for rows of this table.
        unsafe {
            let econtext = self.econtext();
            (*econtext).ecxt_scantuple = slot;
            let has_nulls = self
                .target
                .not_null
                .iter()
                .any(|index| *(*slot).tts_isnull.add(*index));
            let fails = |check: &*mut pg_sys::ExprState| {
                let mut null = false;
                let passes = evaluate(*check, econtext, &mut null);
                !null && passes.value() == 0
            };
            if has_nulls || self.target.checks.iter().any(fails) {
                // Raises what any insert raises.
                pg_sys::ExecConstraints(self.result, slot, self.estate);
            }
        }
    }

    /// # Safety
    /// Called by `write`; `slot` holds a complete row of the table.
    unsafe fn insert_one(
        &self,
        slot: *mut pg_sys::TupleTableSlot,
        capture: *mut pg_sys::TransitionCaptureState,
    ) {
        // SAFETY: the access method is called as table_tuple_insert() does; no frame inside the boundary
        // owns anything.
        unsafe {
            if self.fires_before_row {
                if !pg_sys::ExecBRInsertTriggers(self.estate, self.result, slot) {
                    return;
                }
                // What a trigger returned lives no longer than the row's work.
                let materialize = (*(*slot).tts_ops)
                    .materialize
                    .expect("a slot keeps its values");
                pg_sys::ffi::pg_guard_ffi_boundary(|| materialize(slot));
                self.check(slot);
            }
            let insert = (*(*self.relation).rd_tableam)
                .tuple_insert
                .expect("a table's access method inserts");
            let (relation, cid) = (self.relation, (*self.estate).es_output_cid);
            (*slot).tts_tableOid = self.target.relation;
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                insert(relation, slot, cid, 0, std::ptr::null_mut())
            });
            self.follow(slot, capture);
        }
    }

    /// # Safety
    /// Called by `write`; each slot in use holds a complete row of the table.
    unsafe fn insert_many(&mut self, capture: *mut pg_sys::TransitionCaptureState) {
        // SAFETY: the access method is called as table_multi_insert() does, with as many slots as are in
        // use; no frame inside the boundary owns anything.
        unsafe {
            let insert = (*(*self.relation).rd_tableam)
                .multi_insert
                .expect("a table's access method inserts");
            let (relation, cid) = (self.relation, (*self.estate).es_output_cid);
            let (slots, count) = (self.slots.as_mut_ptr(), self.used as i32);
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                insert(relation, slots, count, cid, 0, std::ptr::null_mut())
            });
            for n in 0..self.used {
                self.follow(self.slots[n], capture);
            }
        }
    }

    /// Index entries and row triggers of a row in its place.
    ///
    /// # Safety
    /// Called inside `write`, after the row in `slot` was stored.
    unsafe fn follow(
        &self,
        slot: *mut pg_sys::TupleTableSlot,
        capture: *mut pg_sys::TransitionCaptureState,
    ) {
        // SAFETY: the slot knows the row's place; indexes and triggers are open in the executor state.
        unsafe {
            let mut recheck = std::ptr::null_mut();
            if (*self.result).ri_NumIndices > 0 {
                recheck = version::insert_index_entries(self.result, slot, self.estate);
            }
            if self.fires_triggers {
                pg_sys::ExecARInsertTriggers(self.estate, self.result, slot, recheck, capture);
            }
            pg_sys::MemoryContextReset((*self.econtext()).ecxt_per_tuple_memory);
        }
    }

    fn econtext(&self) -> *mut pg_sys::ExprContext {
        // SAFETY: the executor state lives until `close`, and owns what is made.
        unsafe {
            let known = (*self.estate).es_per_tuple_exprcontext;
            if known.is_null() {
                pg_sys::MakePerTupleExprContext(self.estate)
            } else {
                known
            }
        }
    }

    /// Closes the table. Rows that wait are lost: `flush` first.
    pub fn close(self) {
        // SAFETY: closes what `open` and `add` made, once, because it takes the value; locks stay until the
        // end of the transaction.
        unsafe {
            for slot in &self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(*slot);
            }
            for n in 0..(*self.result).ri_NumIndices as usize {
                let index = *(*self.result).ri_IndexRelationDescs.add(n);
                pg_sys::index_close(index, pg_sys::NoLock as i32);
            }
            (*self.result).ri_NumIndices = 0;
            pg_sys::ExecCloseResultRelations(self.estate);
            // FreeExecutorState frees the slots that triggers got, but keeps the references to their row type.
            pg_sys::ExecResetTupleTable((*self.estate).es_tupleTable, false);
            pg_sys::FreeExecutorState(self.estate);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
        self.target.put_back(self.layout);
    }
}

/// A row in its place, as triggers let it be written.
pub struct Written<'a> {
    target: &'a Target,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Written<'_> {
    /// Its value of column `id`.
    pub fn id(&self) -> pg_sys::Datum {
        // SAFETY: the slot is as wide as the table, and complete.
        unsafe { *(*self.slot).tts_values.add(self.target.id) }
    }

    /// The value of a column of the layout, by its place there; it may be toasted.
    pub fn value(&self, column: usize) -> Option<pg_sys::Datum> {
        let index = self.target.filled[column];
        // SAFETY: as for `id`.
        unsafe {
            (!*(*self.slot).tts_isnull.add(index)).then(|| *(*self.slot).tts_values.add(index))
        }
    }
}

/// # Safety
/// `state` is a prepared expression that is alive, and the context holds the row that it reads.
unsafe fn evaluate(
    state: *mut pg_sys::ExprState,
    econtext: *mut pg_sys::ExprContext,
    null: &mut bool,
) -> pg_sys::Datum {
    // SAFETY: what was prepared is evaluated through its own function, as ExecEvalExpr() does; no frame
    // inside the boundary owns anything.
    unsafe {
        let function = (*state).evalfunc.expect("a prepared expression");
        pg_sys::ffi::pg_guard_ffi_boundary(|| function(state, econtext, null))
    }
}
