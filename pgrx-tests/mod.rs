//! Tests that run inside the server, one module a topic. Each function of schema `tests` is one test:
//! it runs in a transaction of its own that is rolled back, so it shows no commit, no worker and no
//! second session; those are shown by the end-to-end tests.
#![allow(clippy::unwrap_used)]

mod partner;
mod support;

mod audit;
mod caller;
mod config;
mod documentation;
mod enqueue;
mod foreign_rows;
mod inbound;
mod inbound_ids;
mod installation;
mod limits;
mod operator;
mod plugin;
mod privileges;
mod processor;
mod schema;
mod secrets;
mod sizes;
mod subscription;
mod views;
