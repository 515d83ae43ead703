//! One PostgreSQL server in a private tree: start, stop, crash, restart, settings, log.

mod announce;
mod builder;
mod config;
mod handle;
mod log;
mod process;
mod volumes;

pub use builder::ServerBuilder;
pub(crate) use builder::free_port;
pub use handle::{PsqlOutput, Server};
pub use process::StopMode;
