//! The functions that PostgREST clients call by name, one file a resource. What an admin calls checks who calls
//! and counts the call. Two live with what they start: `rpc_process_plugin_deliveries` in `worker::processor`,
//! `rpc_plugin_ingest_webhook` in `inbound`. Nothing here sends anything.

mod installation;
mod ownership;
mod plugin;
mod room;
mod subscription;
