//! The functions that PostgREST clients call by name, one file a resource. Each checks who calls, counts
//! the call, and writes its own table; nothing here sends anything.

mod installation;
mod plugin;
mod subscription;
