//! Who calls and for which tenant (`context`, from `claims` without a host), what the caller may do
//! (`permission`), how often (`rate_limit`). Asks the host's functions where they are bound. Writes nothing but
//! the counters of the limits.

mod claims;
mod context;
mod permission;
pub mod rate_limit;

pub use claims::{SETTING as CLAIMS_SETTING, user as claimed_user};
pub use permission::{Caller, authorize, is_member};
