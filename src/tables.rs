//! The extension's tables by their names, for code that locks them, appends to them or acts as their
//! owner. Statements spell the names out. Knows no column.

use std::ffi::CStr;

use crate::pg::TableName;

/// Tables that statements join: one role owns them all.
const JOINED: &[&CStr] = &[
    c"plugins",
    c"plugin_installations",
    c"plugin_webhook_subscriptions",
    c"plugin_delivery_queue",
    c"plugin_delivery_attempts",
];

pub const PLUGINS: TableName<'static> = TableName::new(c"int", c"plugins").joined_with(JOINED);
pub const INSTALLATIONS: TableName<'static> =
    TableName::new(c"int", c"plugin_installations").joined_with(JOINED);
pub const SUBSCRIPTIONS: TableName<'static> =
    TableName::new(c"int", c"plugin_webhook_subscriptions").joined_with(JOINED);
pub const QUEUE: TableName<'static> =
    TableName::new(c"int", c"plugin_delivery_queue").joined_with(JOINED);
pub const ATTEMPTS: TableName<'static> =
    TableName::new(c"int", c"plugin_delivery_attempts").joined_with(JOINED);
pub const ENTITY_CHANGES: TableName<'static> = TableName::new(c"audit", c"entity_changes");
pub const SECRETS: TableName<'static> = TableName::new(c"plugin_webhooks", c"secrets");
pub const INBOUND_IDS: TableName<'static> = TableName::new(c"plugin_webhooks", c"inbound_ids");
pub const HOST_BINDINGS: TableName<'static> = TableName::new(c"plugin_webhooks", c"host_bindings");
pub const INSTANCE: TableName<'static> = TableName::new(c"plugin_webhooks", c"instance");
pub const ACTIONS: TableName<'static> = TableName::new(c"plugin_webhooks", c"actions");
pub const RATE_LIMITS: TableName<'static> = TableName::new(c"plugin_webhooks", c"rate_limits");
