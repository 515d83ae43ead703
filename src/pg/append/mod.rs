//! Appends rows to a table of the extension the way COPY does: no statement to plan, start and end,
//! but everything else that belongs to an insert: defaults, constraints, indexes, triggers, counters.
//! Knows no table of the product.
#![expect(
    unsafe_code,
    reason = "tuples, expressions and triggers of the executor"
)]

mod appender;
mod layout;
mod target;
mod triggers;

pub use appender::Appender;
pub use layout::{Layout, TriggerAction};
