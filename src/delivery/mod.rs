//! The way of a delivery: enqueue, claim, send, settle.

pub mod attempts;
pub mod enqueue;
pub mod foreign_rows;
mod insert;
mod payload;
pub mod purge;
pub mod queue;
mod subscriptions;
