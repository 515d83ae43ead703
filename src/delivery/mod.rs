//! The queue: enqueue, claim, settle, purge. Sends nothing; when is decided in `worker`.

pub mod attempts;
pub mod enqueue;
pub mod foreign_rows;
mod insert;
pub mod installations;
mod payload;
pub mod purge;
pub mod queue;
mod subscriptions;
pub mod waiting;
