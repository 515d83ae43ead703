//! PostgreSQL's internals behind small functions, most of them safe to call. This file is the map: one
//! file a concept, and what the other rooms may use of it. Knows no table and no rule of the product.

// What callers name by its file.
pub mod append;
pub mod cache;
pub mod unguarded;
pub mod version;

mod bounded_jsonb;
mod bounded_text;
mod call;
mod catalog;
mod catch;
mod databases;
mod jsonb;
mod memory;
mod owned;
mod process;
mod random;
mod roles;
mod row_lock;
mod session;
mod spi;
mod table_lock;
mod text;
mod transaction_end;
mod transaction_lock;
mod trigger;

pub use bounded_jsonb::{BoundedJsonb, JsonbSize};
pub use bounded_text::{BoundedText, BoundedTexts};
pub use call::{Call, call};
pub use catalog::{
    TableName, column_name, extension, extension_of_relation, function_owner, is_own_function,
    is_superuser, length, lock_function, namespace_name, oids, owner, relation, type_name,
    type_owner,
};
pub use catch::{caught, caught_error, caught_message, ends_transaction, foreign_code};
pub use databases::databases;
pub use jsonb::Jsonb;
pub use memory::{Inside, RawDatum, Varlena, copied_bytes, copied_varlena, new_context};
pub use process::{
    database, database_name, in_data_directory, is_in_recovery, remember_served_database,
    served_database, set_latches_of_workers, system_identifier,
};
pub use random::random_bytes;
pub use roles::{
    ActingAs, as_owner_of, as_role, as_role_keeping_settings, as_role_only,
    in_restricted_operation, set_constraints_immediate,
};
pub use row_lock::lock_key_share;
pub use session::{
    current_user, current_user_is_superuser, hide_query, in_extension_script,
    outer_user_is_superuser, outside_extension_script, reserve_setting_prefix, session_setting,
    transaction_so_far,
};
pub use spi::{
    connect, kept, one, one_row, run_kept, show_transition_tables, take_text, with_latest_snapshot,
    write, write_returning,
};
pub use table_lock::{TableLock, lock_and_look_for_deadlocks, try_lock_table};
pub use text::{lower, name, text_datum, texts};
pub use transaction_end::{TransactionEnd, at_transaction_end};
pub use transaction_lock::lock_until_end;
pub use trigger::{trigger_is_enabled, triggers, triggers_beside, with_triggers};
