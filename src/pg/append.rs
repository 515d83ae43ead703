//! Appends rows to a table of the extension the way COPY does: no statement to plan, start and end,
//! but everything else that belongs to an insert: defaults, constraints, indexes, triggers, counters.
//! What can be learnt about the table once is kept until it changes. Knows no table of the product.
#![expect(
    unsafe_code,
    reason = "tuples, expressions and triggers of the executor"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::ManuallyDrop;

use pgrx::pg_sys;

use crate::pg::{self, cache, version};

/// The table and the columns that the caller fills.
pub struct Layout {
    pub schema: &'static CStr,
    pub name: &'static CStr,
    pub columns: &'static [(&'static str, pg_sys::Oid)],
    /// Foreign keys from a column to the column `id` of a table that the caller checks himself.
    pub checked_references: &'static [(&'static str, &'static CStr, &'static CStr)],
}

/// What is known about a table.
struct Target {
    generation: u64,
    context: pg_sys::MemoryContext,
    relation: pg_sys::Oid,
    owner: pg_sys::Oid,
    /// Position in the row of column `id`.
    id: usize,
    /// Position in the row of each column that the caller fills.
    filled: Vec<usize>,
    defaults: Vec<(usize, *mut pg_sys::ExprState)>,
    not_null: Vec<usize>,
    checks: Vec<*mut pg_sys::ExprState>,
    indexes: Vec<IndexExpressions>,
    checked_constraints: Vec<pg_sys::Oid>,
    /// Everything that is evaluated for a row is PostgreSQL's own: the search_path does not matter.
    only_builtin: bool,
}

/// Expressions of an index, ready to be evaluated.
struct IndexExpressions {
    index: pg_sys::Oid,
    predicate: *mut pg_sys::ExprState,
    expressions: *mut pg_sys::List,
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: the context is this value's own.
        unsafe { pg_sys::MemoryContextDelete(self.context) }
    }
}

thread_local! {
    /// By the layout's address. A target in use is taken out, so that a nested use makes its own; an
    /// error drops it. Never dropped: while the process exits, memory contexts are already gone.
    static IDLE: RefCell<ManuallyDrop<Option<HashMap<*const Layout, Target>>>> =
        const { RefCell::new(ManuallyDrop::new(None)) };
}

impl Target {
    fn take(layout: &'static Layout) -> Option<Target> {
        let generation = cache::generation();
        let idle = IDLE.with_borrow_mut(|idle| idle.as_mut()?.remove(&std::ptr::from_ref(layout)));
        if let Some(target) = idle
            && target.generation == generation
        {
            return Some(target);
        }
        let relation = pg::relation(layout.schema, layout.name)?;
        cache::watch(relation);
        // SAFETY: opened and closed here; the lock stays until the end of the transaction.
        unsafe {
            let open = pg_sys::table_open(relation, pg_sys::RowExclusiveLock as i32);
            let target = Target::learn(layout, open, generation);
            pg_sys::table_close(open, pg_sys::NoLock as i32);
            target
        }
    }

    fn give_back(self, layout: &'static Layout) {
        IDLE.with_borrow_mut(|idle| {
            idle.get_or_insert_with(HashMap::new)
                .insert(std::ptr::from_ref(layout), self);
        });
    }

    /// `None` for a table that only a statement can insert into.
    ///
    /// SAFETY: `relation` is open.
    unsafe fn learn(
        layout: &Layout,
        relation: pg_sys::Relation,
        generation: u64,
    ) -> Option<Target> {
        // SAFETY: reads the relcache entry of an open relation; what is kept is copied into a
        // context of its own.
        unsafe {
            let class = &*(*relation).rd_rel;
            if class.relkind as u8 != pg_sys::RELKIND_RELATION
                || class.relispartition
                || class.relforcerowsecurity
                || !(*relation).rd_rules.is_null()
            {
                return None;
            }
            let mut target = Target {
                generation,
                context: pg::new_context(pg_sys::CacheMemoryContext, c"append target"),
                relation: (*relation).rd_id,
                owner: class.relowner,
                id: 0,
                filled: Vec::new(),
                defaults: Vec::new(),
                not_null: Vec::new(),
                checks: Vec::new(),
                indexes: Vec::new(),
                checked_constraints: Vec::new(),
                only_builtin: true,
            };
            let inside = pg::Inside::of(target.context);
            let usable = target.learn_columns(layout, relation);
            if usable {
                target.learn_checks(relation);
                target.learn_indexes(relation);
                target.learn_references(layout, relation);
            }
            drop(inside);
            usable.then_some(target)
        }
    }

    /// False when a column is not what the layout says, or has to be computed by the executor.
    ///
    /// SAFETY: `relation` is open; the current memory context is the target's.
    unsafe fn learn_columns(&mut self, layout: &Layout, relation: pg_sys::Relation) -> bool {
        // SAFETY: as promised by the caller; the descriptor has natts attributes.
        let attributes = unsafe { version::attributes((*relation).rd_att) };
        for (name, type_oid) in layout.columns {
            let found = attributes.iter().position(|attribute| {
                !attribute.attisdropped
                    && attribute.atttypid == *type_oid
                    && attribute.atttypmod == -1
                    && pg::name(&attribute.attname) == *name
            });
            let Some(index) = found else { return false };
            self.filled.push(index);
        }
        let id = attributes
            .iter()
            .position(|attribute| !attribute.attisdropped && pg::name(&attribute.attname) == "id");
        let Some(id) = id else { return false };
        self.id = id;
        for (index, attribute) in attributes.iter().enumerate() {
            if attribute.attisdropped {
                continue;
            }
            if attribute.attgenerated != 0 {
                return false;
            }
            if attribute.attnotnull {
                self.not_null.push(index);
            }
            if self.filled.contains(&index) {
                continue;
            }
            // SAFETY: as promised by the caller.
            unsafe {
                let default = pg_sys::build_column_default(relation, index as i32 + 1);
                if !default.is_null() {
                    let state = self.prepare(default.cast());
                    self.defaults.push((index, state));
                } else if pg_sys::getBaseType(attribute.atttypid) != attribute.atttypid {
                    // A domain may refuse null.
                    return false;
                }
            }
        }
        true
    }

    /// SAFETY: `expression` is one; the current memory context is the target's.
    unsafe fn prepare(&mut self, expression: *mut pg_sys::Expr) -> *mut pg_sys::ExprState {
        // SAFETY: as promised by the caller.
        unsafe {
            let planned = pg_sys::expression_planner(expression);
            self.only_builtin &= is_builtin(planned.cast());
            pg_sys::ExecInitExpr(planned, std::ptr::null_mut())
        }
    }

    /// SAFETY: `relation` is open; the current memory context is the target's.
    unsafe fn learn_checks(&mut self, relation: pg_sys::Relation) {
        // SAFETY: as promised by the caller; a descriptor's constraints are counted.
        unsafe {
            let constraints = (*(*relation).rd_att).constr;
            if constraints.is_null() {
                return;
            }
            for n in 0..(*constraints).num_check as usize {
                let check = &*(*constraints).check.add(n);
                if !version::is_enforced(check) {
                    continue;
                }
                let expression = pg_sys::stringToNode(check.ccbin);
                let state = self.prepare(expression.cast());
                self.checks.push(state);
            }
        }
    }

    /// SAFETY: `relation` is open; the current memory context is the target's.
    unsafe fn learn_indexes(&mut self, relation: pg_sys::Relation) {
        // SAFETY: as promised by the caller; each index is opened and closed here.
        unsafe {
            for oid in pg::oids(pg_sys::RelationGetIndexList(relation)) {
                let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as i32);
                let expressions = pg_sys::RelationGetIndexExpressions(index);
                let predicate = pg_sys::RelationGetIndexPredicate(index);
                if !expressions.is_null() || !predicate.is_null() {
                    self.only_builtin &=
                        is_builtin(expressions.cast()) && is_builtin(predicate.cast());
                    self.indexes.push(IndexExpressions {
                        index: oid,
                        predicate: match predicate.is_null() {
                            true => std::ptr::null_mut(),
                            false => pg_sys::ExecInitQual(predicate, std::ptr::null_mut()),
                        },
                        expressions: match expressions.is_null() {
                            true => std::ptr::null_mut(),
                            false => pg_sys::ExecInitExprList(expressions, std::ptr::null_mut()),
                        },
                    });
                }
                pg_sys::index_close(index, pg_sys::NoLock as i32);
            }
        }
    }

    /// SAFETY: `relation` is open.
    unsafe fn learn_references(&mut self, layout: &Layout, relation: pg_sys::Relation) {
        // SAFETY: as promised by the caller; the list is the relcache's own.
        unsafe {
            let attributes = version::attributes((*relation).rd_att);
            let position = |name: &str| {
                attributes
                    .iter()
                    .position(|attribute| {
                        !attribute.attisdropped && pg::name(&attribute.attname) == name
                    })
                    .map(|index| index as i16 + 1)
            };
            let keys = pg_sys::RelationGetFKeyList(relation);
            for n in 0..pg::length(keys) {
                let key = &*pg_sys::list_nth(keys, n).cast::<pg_sys::ForeignKeyCacheInfo>();
                let checked = layout
                    .checked_references
                    .iter()
                    .any(|(column, schema, table)| {
                        key.nkeys == 1
                            && pg::relation(schema, table) == Some(key.confrelid)
                            && Some(key.conkey[0]) == position(column)
                            && pg::column_name(key.confrelid, key.confkey[0]).as_deref()
                                == Some("id")
                    });
                if checked {
                    self.checked_constraints.push(key.conoid);
                }
            }
        }
    }

    fn expressions_of(&self, index: pg_sys::Oid) -> Option<&IndexExpressions> {
        self.indexes.iter().find(|known| known.index == index)
    }
}

/// Whether a printed expression names no object that a user made. Every function, operator and type
/// is printed by its oid; a number that only looks like one errs on the safe side. The sequence of
/// an identity column is a user's, but nothing is called by its name.
///
/// SAFETY: `expression` is a node or null.
unsafe fn is_builtin(expression: *mut pg_sys::Node) -> bool {
    if expression.is_null() {
        return true;
    }
    // SAFETY: as promised by the caller.
    unsafe {
        if (*expression).type_ == pg_sys::NodeTag::T_NextValueExpr {
            return true;
        }
        let printed = pg_sys::nodeToString(expression.cast());
        let builtin = CStr::from_ptr(printed)
            .to_string_lossy()
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|digits| digits.parse::<u64>().ok())
            .all(|number| number < u64::from(pg_sys::FirstNormalObjectId));
        pg_sys::pfree(printed.cast());
        builtin
    }
}

/// What becomes of a trigger of the table.
pub enum Fate {
    /// It fires as with any insert.
    Fires,
    /// The caller does himself what it would do.
    Replaced,
}

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
        fate: impl Fn(&pg_sys::Trigger) -> Fate,
    ) -> Option<Appender> {
        // SAFETY: what ExecInitModifyTable and CopyFrom do for their table.
        unsafe {
            let (target, relation) = loop {
                let target = Target::take(layout)?;
                let relation = pg_sys::table_open(target.relation, pg_sys::RowExclusiveLock as i32);
                // The lock keeps the table as it is; what came before it may have changed it.
                if target.generation == cache::generation() {
                    break (target, relation);
                }
                pg_sys::table_close(relation, pg_sys::NoLock as i32);
            };
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
                    && matches!(fate(trigger), Fate::Fires)
            });
            Some(Appender {
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
            })
        }
    }

    /// Where the values of a row have to live until `flush`.
    pub fn memory(&self) -> pg_sys::MemoryContext {
        self.batch
    }

    /// Adds a row: a value for each column of the layout, in its order.
    pub fn add<const N: usize>(&mut self, values: [Option<pg_sys::Datum>; N]) {
        debug_assert_eq!(N, self.target.filled.len());
        // SAFETY: the slot has the table's descriptor; positions are the table's.
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

    /// Whether it is time to `flush`.
    pub fn is_full(&self) -> bool {
        // SAFETY: a live memory context.
        self.fires_before_row
            || self.used >= BATCH_ROWS
            || unsafe { (*self.batch).mem_allocated } > BATCH_BYTES
    }

    /// Writes the rows that wait, as one statement would, and shows each to `written` with its
    /// position among them and its value of column `id`. Afterwards their memory is free.
    pub fn flush(&mut self, written: impl FnMut(usize, pg_sys::Datum)) {
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
        // SAFETY: nothing refers to the rows any more.
        unsafe { pg_sys::MemoryContextReset(self.batch) }
    }

    fn show(&self, mut written: impl FnMut(usize, pg_sys::Datum)) {
        for (n, slot) in self.slots[..self.used].iter().enumerate() {
            // SAFETY: a row that was written has a valid tuple id.
            unsafe {
                if (**slot).tts_tid.ip_posid != 0 {
                    written(n, *(**slot).tts_values.add(self.target.id));
                }
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
    unsafe fn complete(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: the slot holds a row of the table; expressions were prepared for it.
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

    unsafe fn check(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: as in `complete`.
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

    unsafe fn insert_one(
        &self,
        slot: *mut pg_sys::TupleTableSlot,
        capture: *mut pg_sys::TransitionCaptureState,
    ) {
        // SAFETY: as in `write`.
        unsafe {
            if self.fires_before_row {
                if !pg_sys::ExecBRInsertTriggers(self.estate, self.result, slot) {
                    return;
                }
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

    unsafe fn insert_many(&mut self, capture: *mut pg_sys::TransitionCaptureState) {
        // SAFETY: as in `write`.
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
    unsafe fn follow(
        &self,
        slot: *mut pg_sys::TupleTableSlot,
        capture: *mut pg_sys::TransitionCaptureState,
    ) {
        // SAFETY: as in `write`.
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

    unsafe fn econtext(&self) -> *mut pg_sys::ExprContext {
        // SAFETY: the executor state is live.
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
        // SAFETY: closes what `open` opened; locks stay until the end of the transaction.
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
            pg_sys::FreeExecutorState(self.estate);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
        self.target.give_back(self.layout);
    }
}

/// SAFETY: a prepared expression and a live context.
unsafe fn evaluate(
    state: *mut pg_sys::ExprState,
    econtext: *mut pg_sys::ExprContext,
    null: &mut bool,
) -> pg_sys::Datum {
    // SAFETY: as promised by the caller.
    unsafe {
        let function = (*state).evalfunc.expect("a prepared expression");
        pg_sys::ffi::pg_guard_ffi_boundary(|| function(state, econtext, null))
    }
}

/// Which triggers an insert fires.
struct Fired {
    any: bool,
    before_row: bool,
    /// Others than PostgreSQL's own for foreign keys.
    foreign: bool,
}

/// Leaves the triggers that `keep` wants in a description that is the caller's own copy.
///
/// SAFETY: `description` is null or such a copy.
unsafe fn keep_triggers(
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
    // SAFETY: as promised by the caller; a kept trigger moves towards the front.
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
