//! What giving a database back needs beyond `hand_back()`, which is SQL.

use pgrx::prelude::*;

use crate::delivery::queue;

#[pg_extern(sql = false)]
fn release_claims() {
    queue::return_all();
}
