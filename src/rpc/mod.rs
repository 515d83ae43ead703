//! The functions that PostgREST clients call by name, one file a resource. What an admin calls checks
//! who calls and counts the call; each file alone writes its table; nothing here sends anything.

mod installation;
mod ownership;
mod plugin;
mod subscription;
