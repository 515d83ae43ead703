//! Where the bytes of a body are counted.

/// A body up to this size never waits for others.
pub const SMALL_BODY: usize = 64 << 10;

/// Where a body is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere.
    Small,
    /// Among the bytes that tenants share.
    Shared,
    /// As the one that goes alone.
    Alone,
}
