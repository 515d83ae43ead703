//! The way of a delivery: enqueue, claim, send, settle.

pub mod enqueue;
pub mod lanes;
mod matching;
mod payload;
pub mod processor;
pub mod queue;
