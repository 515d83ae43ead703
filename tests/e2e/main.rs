//! End-to-end tests, one module for each part of what is promised. They share one server where they
//! leave it and its settings alone, and have a database of their own; see the kit.

mod attempts;
mod audit;
mod clients;
mod deployment;
mod dump;
mod failover;
mod fixture;
mod host;
mod hostile;
mod inbound;
mod input;
mod outbound;
mod pages;
mod private_server;
mod purge;
mod retry;
mod rights;
mod secret_names;
mod secrets;
mod sizes;
mod takeover;
mod traffic;
mod upgrade;
mod worker;
