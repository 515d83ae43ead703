//! What happens to a database as a whole: it is taken over and given back, it becomes the active
//! instance, its foreign keys are turned on. Never sends.

pub mod foreign_keys;
mod hand_back;
mod lock;
mod resume;
mod take_over;
