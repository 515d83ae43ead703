//! A PostgreSQL installation of our own: real copies of the system's programs, links to its
//! libraries and data files, and the packaged extension beside them.
//!
//! PostgreSQL finds its files relative to its executable, so the copy never looks at the system's
//! extension directories. The tree lives in /tmp, where the user `postgres` may go even when the
//! clone lies somewhere it may not.

mod files;
mod installation;
mod janitor;
mod layout;

pub(crate) use files::run;
pub(crate) use installation::SETTINGS_FILE;
pub use installation::{PACKAGE_VARIABLE, Tree};
pub use layout::EXTENSION;
