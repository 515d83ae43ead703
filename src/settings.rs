//! Every setting: unit, range, default and why. Readable on the main thread only;
//! sender threads get their own copies.

use std::ffi::CString;
use std::time::Duration;

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// When a running worker delivers.
#[derive(PostgresGucEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dispatch {
    /// At once, woken by the committing transaction.
    #[name = c"on_commit"]
    OnCommit,
    /// Only what rpc_process_plugin_deliveries hands over.
    #[name = c"on_call"]
    OnCall,
}

static DISPATCH: GucSetting<Dispatch> = GucSetting::<Dispatch>::new(Dispatch::OnCommit);
static MAX_IN_FLIGHT: GucSetting<i32> = GucSetting::<i32>::new(64);
static MAX_IN_FLIGHT_PER_INSTALLATION: GucSetting<i32> = GucSetting::<i32>::new(16);
static ALLOWED_NETWORKS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
static REQUIRE_SIGNATURE: GucSetting<bool> = GucSetting::<bool>::new(false);
static CA_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static SECRET_KEY_FILE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"plugin_webhooks.key"));
static LEASE: GucSetting<i32> = GucSetting::<i32>::new(300);
static POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(1_000);
static SITE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static WORKER_IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(120);

/// Declares all settings; called once a process, from `_PG_init`.
pub fn define() {
    let plain = GucFlags::default();
    GucRegistry::define_enum_guc(
        c"plugin_webhooks.dispatch",
        c"When a running worker delivers: on_commit (at once) or on_call (only what rpc_process_plugin_deliveries hands over).",
        c"",
        &DISPATCH,
        GucContext::Sighup,
        plain,
    );
    // Each is a thread: 64 saturate two cores with fast receivers and hide 10 ms of latency at 6,000 a second.
    GucRegistry::define_int_guc(
        c"plugin_webhooks.max_in_flight",
        c"Requests in flight at once, per database.",
        c"",
        &MAX_IN_FLIGHT,
        1,
        1024,
        GucContext::Sighup,
        plain,
    );
    // A quarter of the total: one slow receiver cannot take all threads.
    GucRegistry::define_int_guc(
        c"plugin_webhooks.max_in_flight_per_installation",
        c"Requests in flight at once, per installation.",
        c"",
        &MAX_IN_FLIGHT_PER_INSTALLATION,
        1,
        1024,
        GucContext::Sighup,
        plain,
    );
    // Not for anyone but the operator of the server: it opens the server's own network to tenants' URLs.
    GucRegistry::define_string_guc(
        c"plugin_webhooks.allowed_networks",
        c"Networks that webhooks may reach although they are not public, as a comma separated list of CIDRs; plain http works only there.",
        c"",
        &ALLOWED_NETWORKS,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_bool_guc(
        c"plugin_webhooks.require_signature",
        c"Whether a delivery whose secret_ref resolves to nothing fails instead of going out unsigned.",
        c"",
        &REQUIRE_SIGNATURE,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_string_guc(
        c"plugin_webhooks.ca_file",
        c"PEM file with certificate authorities trusted in addition to the public ones.",
        c"A relative path starts in the data directory.",
        &CA_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"plugin_webhooks.connect_timeout",
        c"Longest time to connect to a receiver; never longer than the delivery's own timeout_ms.",
        c"",
        &CONNECT_TIMEOUT,
        100,
        30_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_string_guc(
        c"plugin_webhooks.secret_key_file",
        c"File with the key of the embedded secret store, mode 0600.",
        c"A relative path starts in the data directory. Put it elsewhere to keep it out of base backups.",
        &SECRET_KEY_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    // Longer than the longest timeout_ms (120 s) plus as long a wait for a free thread.
    GucRegistry::define_int_guc(
        c"plugin_webhooks.lease",
        c"How long a delivery may stay \"sending\" before it goes back to \"pending\".",
        c"",
        &LEASE,
        150,
        3_600,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    // Commits wake the worker; the poll finds retries that fell due and prepared transactions.
    GucRegistry::define_int_guc(
        c"plugin_webhooks.poll_interval",
        c"How often an idle worker looks for deliveries that fell due.",
        c"",
        &POLL_INTERVAL,
        100,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    // Twice pg_cron's minute, so that a scheduled processor keeps its worker.
    GucRegistry::define_int_guc(
        c"plugin_webhooks.worker_idle_timeout",
        c"How long a worker started by rpc_process_plugin_deliveries stays without work; a preloaded one always stays.",
        c"",
        &WORKER_IDLE_TIMEOUT,
        1,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_string_guc(
        c"plugin_webhooks.site",
        c"Name of the place this server stands for: a physical copy with another one sends nothing until plugin_webhooks.resume().",
        c"Set it where a copy of the data directory does not take it along.",
        &SITE,
        GucContext::Sighup,
        plain,
    );
    // SAFETY: reserves the prefix, so that a misspelt setting is refused.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"plugin_webhooks".as_ptr()) };
}

fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting
        .get()
        .map(|value| value.to_string_lossy().trim().to_string())
        .unwrap_or_default()
}

fn count(setting: &GucSetting<i32>) -> usize {
    usize::try_from(setting.get()).unwrap_or(1).max(1)
}

fn duration_ms(setting: &GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}

fn duration_s(setting: &GucSetting<i32>) -> Duration {
    Duration::from_secs(u64::try_from(setting.get()).unwrap_or(0))
}

pub fn dispatch() -> Dispatch {
    DISPATCH.get()
}

pub fn require_signature() -> bool {
    REQUIRE_SIGNATURE.get()
}

/// Path of the key file, absolute.
pub fn secret_key_file() -> std::path::PathBuf {
    in_data_directory(&text(&SECRET_KEY_FILE))
}

pub fn site() -> String {
    text(&SITE)
}

pub fn lease() -> Duration {
    duration_s(&LEASE)
}

/// What the worker's loop needs, read once per reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Worker {
    pub max_in_flight: usize,
    pub max_in_flight_per_installation: usize,
    pub allowed_networks: String,
    /// Absolute, or empty.
    pub ca_file: Option<std::path::PathBuf>,
    pub connect_timeout: Duration,
    pub poll_interval: Duration,
    pub idle_timeout: Duration,
}

/// The worker's settings as they are now.
pub fn worker() -> Worker {
    let ca_file = text(&CA_FILE);
    Worker {
        max_in_flight: count(&MAX_IN_FLIGHT),
        max_in_flight_per_installation: count(&MAX_IN_FLIGHT_PER_INSTALLATION),
        allowed_networks: text(&ALLOWED_NETWORKS),
        ca_file: (!ca_file.is_empty()).then(|| in_data_directory(&ca_file)),
        connect_timeout: duration_ms(&CONNECT_TIMEOUT),
        poll_interval: duration_ms(&POLL_INTERVAL),
        idle_timeout: duration_s(&WORKER_IDLE_TIMEOUT),
    }
}

fn in_data_directory(path: &str) -> std::path::PathBuf {
    // SAFETY: DataDir is set before any library is loaded.
    let data = unsafe { std::ffi::CStr::from_ptr(pg_sys::DataDir) };
    std::path::Path::new(&*data.to_string_lossy()).join(path)
}
