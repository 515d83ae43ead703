//! The way of a delivery: enqueue, claim, send, settle.

pub mod attempts;
pub mod enqueue;
mod matching;
mod payload;
pub mod processor;
pub mod queue;
