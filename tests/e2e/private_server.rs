//! The server of the tests that cannot share one: its worker looks at the queue every 100 ms and may send to
//! 127.0.0.0/8, whose receivers it quotes.

use std::time::Duration;

use plugin_webhooks_kit::{Server, ServerBuilder, Tree};

/// A server under load may be slow; a promise that is kept never waits that long.
pub const SOON: Duration = Duration::from_secs(30);

pub fn builder() -> ServerBuilder {
    Server::builder(Tree::shared()).settings(&[
        ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
        ("plugin_webhooks.show_internal_bodies", "on"),
        ("plugin_webhooks.poll_interval", "100ms"),
        ("fsync", "off"),
    ])
}
