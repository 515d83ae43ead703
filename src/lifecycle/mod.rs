//! Taking over a database that already runs the system, and giving it back.

mod take_over;
