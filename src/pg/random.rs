//! Randomness that nobody can guess, from the source that PostgreSQL itself uses. Makes no numbers of
//! a distribution: what the bytes mean is the caller's.
#![expect(unsafe_code, reason = "fills a buffer by pointer")]

use pgrx::prelude::*;

/// Random bytes for keys, nonces and claim ids; raises when the operating system has none.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    // SAFETY: fills exactly N bytes of a live buffer.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), N) } {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            "no randomness available from the operating system"
        );
    }
    bytes
}
