//! Owns who may have the next thread: how many requests of each tenant and installation are in flight, and the
//! rules by which free threads are dealt out. Fairness is counted in threads held, so in seconds of a thread,
//! and by tenant before installation. Pure bookkeeping of one worker, forgotten when it ends; never reads a
//! clock.

mod bodies;
mod bounds;
mod deal;
mod place;
mod pool;
mod reading;
mod receiver;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    bodies::Room,
    bounds::Bounds,
    deal::{Dealt, Waiting},
    place::SMALL_BODY,
    reading::Reading,
    receiver::{SLOW_AFTER, Verdict},
    state::{Limiter, Permits, Request},
};
