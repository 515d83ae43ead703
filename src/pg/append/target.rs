//! What an append has to know about a table, learnt once and kept until the table changes. Writes nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::ManuallyDrop;

use pgrx::prelude::*;

use super::layout::Layout;
use crate::pg::{self, cache, version};

/// What is known about a table.
pub(super) struct Target {
    pub(super) generation: u64,
    context: pg_sys::MemoryContext,
    pub(super) relation: pg_sys::Oid,
    pub(super) owner: pg_sys::Oid,
    /// Position in the row of column `id`.
    pub(super) id: usize,
    /// Position in the row of each column that the caller fills.
    pub(super) filled: Vec<usize>,
    pub(super) defaults: Vec<(usize, *mut pg_sys::ExprState)>,
    pub(super) not_null: Vec<usize>,
    pub(super) checks: Vec<*mut pg_sys::ExprState>,
    indexes: Vec<IndexExpressions>,
    pub(super) checked_constraints: Vec<pg_sys::Oid>,
    /// Everything that is evaluated for a row is PostgreSQL's own and looks up no name: the search_path does not
    /// matter.
    pub(super) only_builtin: bool,
}

/// Texts of nodes in a row of pg_index.
const INDEX_EXPRESSIONS: [u32; 2] = [
    pg_sys::Anum_pg_index_indexprs,
    pg_sys::Anum_pg_index_indpred,
];

/// Expressions of an index, ready to be evaluated.
pub(super) struct IndexExpressions {
    index: pg_sys::Oid,
    pub(super) predicate: *mut pg_sys::ExprState,
    pub(super) expressions: *mut pg_sys::List,
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: the context is this value's own, and what lies in it is reached through it only.
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
    /// `None` for a table that only a statement can insert into.
    pub(super) fn take(layout: &'static Layout) -> Option<Target> {
        let generation = cache::generation();
        let idle = IDLE.with_borrow_mut(|idle| idle.as_mut()?.remove(&std::ptr::from_ref(layout)));
        if let Some(target) = idle
            && target.generation == generation
        {
            return Some(target);
        }
        let relation = pg::relation(layout.table)?;
        cache::watch(relation);
        // Planning an expression evaluates what it can of it.
        pg::as_role(pg::owner(relation)?, || {
            // SAFETY: opened and closed here; the lock stays until the end of the transaction.
            unsafe {
                let open = pg_sys::table_open(relation, pg_sys::RowExclusiveLock as i32);
                let target = Target::learn(layout, open, generation);
                pg_sys::table_close(open, pg_sys::NoLock as i32);
                target
            }
        })
    }

    /// For the next use.
    pub(super) fn put_back(self, layout: &'static Layout) {
        IDLE.with_borrow_mut(|idle| {
            idle.get_or_insert_with(HashMap::new)
                .insert(std::ptr::from_ref(layout), self);
        });
    }

    /// `None` for a table that only a statement can insert into.
    ///
    /// # Safety
    /// `relation` is open.
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
    /// # Safety
    /// `relation` is open; the current memory context is the target's.
    unsafe fn learn_columns(&mut self, layout: &Layout, relation: pg_sys::Relation) -> bool {
        // SAFETY: an open relation keeps its descriptor.
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
        let id = attributes.iter().position(|attribute| {
            !attribute.attisdropped
                && attribute.atttypid == layout.id
                && pg::name(&attribute.attname) == "id"
        });
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
            // SAFETY: the number is that of a column that is not dropped; the default is a fresh copy.
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

    /// # Safety
    /// `expression` is one that nobody else uses; the current memory context is the target's.
    unsafe fn prepare(&mut self, expression: *mut pg_sys::Expr) -> *mut pg_sys::ExprState {
        // SAFETY: planning returns an expression too; what is prepared without a plan lives as long as
        // the current memory context, like the target.
        unsafe {
            // Before planning: a call that was evaluated leaves a constant.
            self.only_builtin &= is_only_builtin(expression.cast());
            let planned = pg_sys::expression_planner(expression);
            pg_sys::ExecInitExpr(planned, std::ptr::null_mut())
        }
    }

    /// # Safety
    /// `relation` is open; the current memory context is the target's.
    unsafe fn learn_checks(&mut self, relation: pg_sys::Relation) {
        // SAFETY: an open relation keeps its descriptor, which counts its checks; each holds the text of
        // an expression.
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

    /// # Safety
    /// `relation` is open; the current memory context is the target's.
    unsafe fn learn_indexes(&mut self, relation: pg_sys::Relation) {
        // SAFETY: the lists of indexes, expressions and predicates are copies in the current memory
        // context; each index is opened and closed here.
        unsafe {
            for oid in pg::oids(pg_sys::RelationGetIndexList(relation)) {
                let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as i32);
                let expressions = pg_sys::RelationGetIndexExpressions(index);
                let predicate = pg_sys::RelationGetIndexPredicate(index);
                if !expressions.is_null() || !predicate.is_null() {
                    // As it is stored: PostgreSQL has evaluated what it can of these copies. An index takes nothing
                    // but what is immutable.
                    self.only_builtin &= INDEX_EXPRESSIONS.iter().all(|column| {
                        let mut null = false;
                        let stored = pg_sys::SysCacheGetAttr(
                            pg_sys::SysCacheIdentifier::INDEXRELID as i32,
                            (*index).rd_indextuple,
                            *column as i16,
                            &mut null,
                        );
                        String::from_datum(stored, null)
                            .is_none_or(|text| names_only_builtin(&text))
                    });
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

    /// # Safety
    /// `relation` is open.
    unsafe fn learn_references(&mut self, layout: &Layout, relation: pg_sys::Relation) {
        // SAFETY: the list is the relcache's own, of this kind of node, and stays while the relation is
        // open and locked: a key that is added or dropped needs a stronger lock.
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
                let checked = layout.checked_references.iter().any(|(column, table)| {
                    key.nkeys == 1
                        && pg::relation(*table) == Some(key.confrelid)
                        && Some(key.conkey[0]) == position(column)
                        && pg::column_name(key.confrelid, key.confkey[0]).as_deref() == Some("id")
                });
                if checked {
                    self.checked_constraints.push(key.conoid);
                }
            }
        }
    }

    pub(super) fn expressions_of(&self, index: pg_sys::Oid) -> Option<&IndexExpressions> {
        self.indexes.iter().find(|known| known.index == index)
    }
}

/// Whether an expression names no object that a user made, and no function of PostgreSQL that looks at names or
/// settings, or runs what it is given: nothing that is not immutable, but what columns have for a default. Every
/// function, operator and type is printed by its oid; a number that only looks like one errs on the safe side. The
/// sequence of an identity column is a user's, but nothing is called by its name.
///
/// # Safety
/// `expression` is a node or null.
unsafe fn is_only_builtin(expression: *mut pg_sys::Node) -> bool {
    if expression.is_null() {
        return true;
    }
    // SAFETY: every node starts with its tag; printed, it is a palloc'd C string.
    unsafe {
        if (*expression).type_ == pg_sys::NodeTag::T_NextValueExpr {
            return true;
        }
        let printed = pg_sys::nodeToString(expression.cast());
        let builtin = names_only_builtin(&CStr::from_ptr(printed).to_string_lossy());
        pg_sys::pfree(printed.cast());
        builtin && (is_usual_default(expression) || !pg_sys::contain_mutable_functions(expression))
    }
}

/// Defaults that are not immutable and do nothing but return a value.
const USUAL_DEFAULTS: [u32; 5] = [
    pg_sys::F_NOW,
    pg_sys::F_TRANSACTION_TIMESTAMP,
    pg_sys::F_STATEMENT_TIMESTAMP,
    pg_sys::F_CLOCK_TIMESTAMP,
    pg_sys::F_GEN_RANDOM_UUID,
];

/// # Safety
/// `expression` is a node.
unsafe fn is_usual_default(expression: *mut pg_sys::Node) -> bool {
    // SAFETY: every node starts with its tag, which tells what it is.
    unsafe {
        (*expression).type_ == pg_sys::NodeTag::T_FuncExpr
            && USUAL_DEFAULTS.contains(&(*expression.cast::<pg_sys::FuncExpr>()).funcid.to_u32())
    }
}

/// Whether no number of a printed expression can be the oid of an object that a user made.
fn names_only_builtin(printed: &str) -> bool {
    printed
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse::<u64>().ok())
        .all(|number| number < u64::from(pg_sys::FirstNormalObjectId))
}
