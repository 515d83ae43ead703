//! Tells when something that a backend remembers about tables, types, functions, casts or roles may no longer be
//! true. A memory is good as long as the generation in which it was made is the current one.
#![expect(unsafe_code, reason = "callbacks of the relation and catalog caches")]

use std::cell::Cell;

use pgrx::PgTrigger;
use pgrx::prelude::*;

const WORDS: usize = 64;

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(1) };
    /// One bit for each hash value of a watched table. Two tables that share a bit cost a look more.
    static WATCHED: [Cell<u64>; WORDS] = const { [const { Cell::new(0) }; WORDS] };
    /// The same for types, by the hash value that the catalog cache tells. Every new table has a type.
    static WATCHED_TYPES: [Cell<u64>; WORDS] = const { [const { Cell::new(0) }; WORDS] };
}

/// Part of `_PG_init`.
pub fn init() {
    use pg_sys::SysCacheIdentifier as Cache;
    let nothing = pg_sys::Datum::null();
    // SAFETY: the callbacks are functions of this library, which is never unloaded; they touch
    // thread-locals and no catalog.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), nothing);
        for cache in [
            Cache::PROCOID,
            Cache::NAMESPACEOID,
            Cache::CASTSOURCETARGET,
            Cache::AUTHOID,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_changed), nothing);
        }
        pg_sys::CacheRegisterSyscacheCallback(Cache::TYPEOID as i32, Some(type_changed), nothing);
    }
}

/// The current generation.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// From now on, a change of this table starts a new generation. True when it did so already.
pub fn watch(relation: pg_sys::Oid) -> bool {
    let (word, bit) = place(relation.to_u32());
    let before = WATCHED.with(|watched| watched[word].replace(watched[word].get() | bit));
    before & bit != 0
}

/// From now on, a change of this type starts a new generation, such as one of its owner.
pub fn watch_type(type_oid: pg_sys::Oid) {
    let cache = pg_sys::SysCacheIdentifier::TYPEOID as i32;
    let nothing = pg_sys::Datum::null();
    // SAFETY: computes the hash value of a key, an oid.
    let hash =
        unsafe { pg_sys::GetSysCacheHashValue(cache, type_oid.into(), nothing, nothing, nothing) };
    let (word, bit) = place(hash);
    WATCHED_TYPES.with(|watched| watched[word].set(watched[word].get() | bit));
}

/// Takes notice of what other sessions committed until now; cheap when there is nothing.
pub fn accept_changes() {
    // SAFETY: inside a transaction. Relcache entries may be rebuilt, but not those that are open, and
    // nobody keeps a pointer to another one.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// Tells the sessions that watch the trigger's table that it has changed: this one at once, all others
/// when the transaction commits.
pub fn announce_change(trigger: &PgTrigger<'_>) {
    // SAFETY: the executor keeps a relation open while one of its triggers runs.
    unsafe { pg_sys::CacheInvalidateRelcache(trigger.trigger_data().tg_relation) }
}

fn place(key: u32) -> (usize, u64) {
    let hash = key.wrapping_mul(0x9E37_79B1) >> 20;
    ((hash / 64) as usize % WORDS, 1 << (hash % 64))
}

fn next() {
    GENERATION.set(GENERATION.get() + 1);
}

#[pg_guard]
extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    let (word, bit) = place(relation.to_u32());
    if relation == pg_sys::InvalidOid || WATCHED.with(|watched| watched[word].get()) & bit != 0 {
        next();
    }
}

#[pg_guard]
extern "C-unwind" fn catalog_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    next();
}

/// A hash of 0 stands for all types.
#[pg_guard]
extern "C-unwind" fn type_changed(_arg: pg_sys::Datum, _cache: i32, hash: u32) {
    let (word, bit) = place(hash);
    if hash == 0 || WATCHED_TYPES.with(|watched| watched[word].get()) & bit != 0 {
        next();
    }
}
