//! The sender against receivers on loopback. Nothing here dials another address.

#![allow(clippy::unwrap_used)]

mod http;
mod support;
mod tls;
