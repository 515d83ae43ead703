//! The background worker of a database, and what starts it. This file is the map:
//!
//! - `registration`, `launcher`: which processes run; `lock`: that there is one worker a database.
//! - `main_loop`, `connection`, `latch`, `transaction`: the worker's life, its session, its waiting, its
//!   transactions.
//! - `dispatcher`: one look at the queue; `gate`: whether this database may send; `purge`: old rows.
//! - `processor`: dispatch on demand, in the caller's session.

mod connection;
mod dispatcher;
mod gate;
mod latch;
mod launcher;
pub mod lock;
mod main_loop;
mod processor;
mod purge;
mod registration;
mod transaction;

pub use registration::init;
