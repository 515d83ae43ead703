//! The way of a delivery: enqueue, claim, send, settle.

pub mod attempts;
pub mod enqueue;
mod payload;
pub mod purge;
pub mod queue;
mod subscriptions;
