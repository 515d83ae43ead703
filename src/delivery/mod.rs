//! The way of a delivery: enqueue, claim, send, settle.

pub mod attempts;
mod body;
pub mod enqueue;
pub mod processor;
pub mod queue;
