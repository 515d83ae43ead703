//! The background worker of a database, and what starts it. This file is the map:
//!
//! - `registration`, `launcher`: which processes run; `lock`: that there is one worker a database.
//! - `main_loop`, `connection`, `latch`, `transaction`: the worker's life, session, waiting, transactions.
//! - `dispatcher`: one tick, a look at the queue; `gate`: whether this database may send; `endpoints`: where
//!   deliveries go; `prepare`: from a row to a signed request; `threads`, `in_flight`: sending; `outcome`,
//!   `unsettled`: what follows.
//! - `purge_schedule`, `foreign_keys_schedule`: what the worker does beside delivering.
//! - `processor`: dispatch on demand, in the caller's session.

mod connection;
mod dispatcher;
mod endpoints;
mod foreign_keys_schedule;
mod gate;
mod in_flight;
mod latch;
mod launcher;
pub mod lock;
mod main_loop;
mod outcome;
mod prepare;
mod processor;
mod purge_schedule;
mod registration;
mod threads;
mod transaction;
mod unsettled;

pub use registration::init;
