//! Calls a function by its oid: a name may lead to another function between a check and the call. As in a
//! statement, the current user must be allowed to execute it, and a simple SQL function is inlined.
#![expect(
    unsafe_code,
    reason = "expressions that are built, planned and evaluated by hand"
)]

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::memory::{Inside, new_context};

/// A call that is ready to be evaluated, again and again.
pub struct Call {
    context: pg_sys::MemoryContext,
    state: *mut pg_sys::ExprState,
    values: *mut pg_sys::ExprContext,
    result: pg_sys::Oid,
}

impl Call {
    /// A call without arguments; raises when the function takes some.
    pub fn of(function: pg_sys::Oid) -> Self {
        Self::with(function, &[])
    }

    /// Good as long as the arguments live.
    fn with(function: pg_sys::Oid, arguments: &[DatumWithOid<'_>]) -> Self {
        // SAFETY: TopMemoryContext lives as long as the process. Everything is made in a context of its own,
        // which the value owns. The arguments are of the types that they say, and these are the function's.
        unsafe {
            let context = new_context(pg_sys::TopMemoryContext, c"plugin_webhooks call");
            let mut call = Self {
                context,
                state: std::ptr::null_mut(),
                values: std::ptr::null_mut(),
                result: pg_sys::InvalidOid,
            };
            let _inside = Inside::of(context);
            call.result = check_signature(function, arguments);
            let mut list = std::ptr::null_mut();
            for argument in arguments {
                list = pg_sys::lappend(list, constant(argument).cast());
            }
            let expression = pg_sys::makeFuncExpr(
                function,
                call.result,
                list,
                pg_sys::get_typcollation(call.result),
                pg_sys::BuiltinOid::DEFAULT_COLLATION_OID.value(),
                pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
            );
            let planned = pg_sys::expression_planner(expression.cast());
            call.state = pg_sys::ExecInitExpr(planned, std::ptr::null_mut());
            call.values = pg_sys::CreateStandaloneExprContext();
            call
        }
    }

    /// What the function returns now.
    pub fn evaluate<T: FromDatum + IntoDatum>(&self) -> Option<T> {
        assert_eq!(self.result, T::type_oid(), "the function's result");
        // SAFETY: what was prepared is evaluated through its own function, as ExecEvalExpr() does; no frame
        // inside the boundary owns anything. The value is copied before its memory is used again. An error
        // leaves a snapshot to the (sub)transaction's abort.
        unsafe {
            let needs_snapshot = !pg_sys::ActiveSnapshotSet();
            if needs_snapshot {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
            let memory = (*self.values).ecxt_per_tuple_memory;
            pg_sys::MemoryContextReset(memory);
            let (state, values) = (self.state, self.values);
            let function = (*state).evalfunc.expect("a prepared expression");
            let mut null = false;
            let datum = {
                let _inside = Inside::of(memory);
                pg_sys::ffi::pg_guard_ffi_boundary(|| function(state, values, &mut null))
            };
            let value = T::from_datum(datum, null);
            if needs_snapshot {
                pg_sys::PopActiveSnapshot();
            }
            value
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: the value's own context; nothing else points into it.
        unsafe { pg_sys::MemoryContextDelete(self.context) }
    }
}

/// Calls a function once.
pub fn call<T: FromDatum + IntoDatum>(
    function: pg_sys::Oid,
    arguments: &[DatumWithOid<'_>],
) -> Option<T> {
    Call::with(function, arguments).evaluate()
}

/// Raises unless the function takes these arguments; returns the type of its result.
fn check_signature(function: pg_sys::Oid, arguments: &[DatumWithOid<'_>]) -> pg_sys::Oid {
    let mut types: *mut pg_sys::Oid = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: fills in a palloc'd array and its length; raises when there is no such function.
    let result = unsafe { pg_sys::get_func_signature(function, &mut types, &mut count) };
    // SAFETY: as many oids as it said; without arguments nothing is read.
    let takes = (0..count as usize).map(|n| unsafe { *types.add(n) });
    assert!(
        takes.eq(arguments.iter().map(DatumWithOid::oid)),
        "the function's arguments"
    );
    result
}

/// # Safety
/// The argument is of the type that it says; it outlives the node.
unsafe fn constant(argument: &DatumWithOid<'_>) -> *mut pg_sys::Const {
    let (mut length, mut by_value) = (0, false);
    // SAFETY: looks a type up; makes a node in the current memory context.
    unsafe {
        pg_sys::get_typlenbyval(argument.oid(), &mut length, &mut by_value);
        let datum = argument.datum().map(|datum| datum.sans_lifetime());
        pg_sys::makeConst(
            argument.oid(),
            -1,
            pg_sys::get_typcollation(argument.oid()),
            length.into(),
            datum.unwrap_or(pg_sys::Datum::null()),
            datum.is_none(),
            by_value,
        )
    }
}
