//! Everything of `plugin_webhooks` that needs no PostgreSQL: signatures, configuration rules,
//! address policy, names of secrets, limits, kinds of failure, retry schedule, request building and the HTTP sender.
//! It never calls into a database and never logs; callers decide what to do with its results.

pub mod address_policy;
pub mod endpoint;
pub mod excerpt;
pub mod failure;
pub mod limiter;
pub mod request;
pub mod retry;
pub mod secret_names;
pub mod sender;
pub mod signature;
pub mod signing_key;
pub mod uuid;
