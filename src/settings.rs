//! Every setting: unit, range, default and why. Readable on the main thread only;
//! sender threads get their own copies.

use std::ffi::CString;
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use plugin_webhooks_core::{limiter, retry};

use crate::pg;

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
static SHOW_INTERNAL_BODIES: GucSetting<bool> = GucSetting::<bool>::new(true);
static REQUIRE_SIGNATURE: GucSetting<bool> = GucSetting::<bool>::new(false);
static CA_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static SECRET_KEY_FILE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"plugin_webhooks.key"));
static LEASE: GucSetting<i32> = GucSetting::<i32>::new(300);
static POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(1_000);
static SITE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static WORKER_IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(120);
static MAX_SLOW_IN_FLIGHT: GucSetting<i32> = GucSetting::<i32>::new(256);
static MAX_PROBE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60_000);
static RETRY_SCHEDULE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(retry::DEFAULT_DELAYS));
static RETAIN_DELIVERED: GucSetting<i32> = GucSetting::<i32>::new(30 * DAY);
static RETAIN_DEAD: GucSetting<i32> = GucSetting::<i32>::new(90 * DAY);
static RETAIN_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(7 * DAY);

const DAY: i32 = 24 * 60 * 60;

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
    // Threads that wait for slow receivers cost memory, not CPU. Without them a few dozen receivers that
    // never answer would hold all of max_in_flight until their timeout.
    GucRegistry::define_int_guc(
        c"plugin_webhooks.max_slow_in_flight",
        c"Requests that have been out for more than a second, per database, beyond those of max_in_flight.",
        c"",
        &MAX_SLOW_IN_FLIGHT,
        0,
        4096,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_int_guc(
        c"plugin_webhooks.max_probe_interval",
        c"Longest rest of an installation whose receiver keeps failing, between two requests that probe it.",
        c"0 means no rest.",
        &MAX_PROBE_INTERVAL,
        0,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_string_guc(
        c"plugin_webhooks.retry_schedule",
        c"Rests between the attempts of a delivery, as a comma separated list; one more failure than rests makes it dead.",
        c"1 to 20 whole numbers with unit s, min, h or d, each from 1s to 7d. An installation's config.retry_schedule wins.",
        &RETRY_SCHEDULE,
        GucContext::Sighup,
        plain,
    );
    // Long enough to look into a complaint; without an end the queue would outgrow the data.
    let retention = [
        (
            c"plugin_webhooks.retain_delivered",
            c"How long delivered rows of the queue are kept.",
            &RETAIN_DELIVERED,
        ),
        (
            c"plugin_webhooks.retain_dead",
            c"How long dead rows of the queue are kept.",
            &RETAIN_DEAD,
        ),
        (
            c"plugin_webhooks.retain_attempts",
            c"How long the log of attempts is kept.",
            &RETAIN_ATTEMPTS,
        ),
    ];
    for (name, description, setting) in retention {
        GucRegistry::define_int_guc(
            name,
            description,
            c"0 keeps them for ever.",
            setting,
            0,
            3_650 * DAY,
            GucContext::Sighup,
            GucFlags::UNIT_S,
        );
    }
    // Not for anyone but the operator of the server: it opens the server's own network to tenants' URLs.
    GucRegistry::define_string_guc(
        c"plugin_webhooks.allowed_networks",
        c"Networks that webhooks may reach although they are not public, as a comma separated list of CIDRs; plain http works only there.",
        c"",
        &ALLOWED_NETWORKS,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    // On, because a receiver in an opened network is a receiver like any other: its tenant wants to
    // know what it said. Off where a network was opened that holds more than receivers.
    GucRegistry::define_bool_guc(
        c"plugin_webhooks.show_internal_bodies",
        c"Whether last_error quotes receivers in allowed_networks that are not public.",
        c"",
        &SHOW_INTERNAL_BODIES,
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
    pg::reserve_setting_prefix(c"plugin_webhooks");
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
    pg::in_data_directory(&text(&SECRET_KEY_FILE))
}

pub fn site() -> String {
    text(&SITE)
}

pub fn lease() -> Duration {
    duration_s(&LEASE)
}

/// How old rows become; `None`: they are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    pub delivered: Option<Duration>,
    pub dead: Option<Duration>,
    pub attempts: Option<Duration>,
}

fn age(setting: &GucSetting<i32>) -> Option<Duration> {
    Some(duration_s(setting)).filter(|age| !age.is_zero())
}

/// What the worker's loop needs, read once per reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerSettings {
    pub max_in_flight: usize,
    pub max_slow_in_flight: usize,
    pub bounds: limiter::Bounds,
    pub retry_schedule: String,
    pub retention: Retention,
    pub allowed_networks: String,
    pub show_internal_bodies: bool,
    /// Absolute, or empty.
    pub ca_file: Option<std::path::PathBuf>,
    pub connect_timeout: Duration,
    pub poll_interval: Duration,
    pub idle_timeout: Duration,
}

/// The worker's settings as they are now.
pub fn worker() -> WorkerSettings {
    let ca_file = text(&CA_FILE);
    WorkerSettings {
        max_in_flight: count(&MAX_IN_FLIGHT),
        max_slow_in_flight: usize::try_from(MAX_SLOW_IN_FLIGHT.get()).unwrap_or(0),
        bounds: limiter::Bounds {
            window: count(&MAX_IN_FLIGHT_PER_INSTALLATION),
            longest_backoff: duration_ms(&MAX_PROBE_INTERVAL),
        },
        retry_schedule: text(&RETRY_SCHEDULE),
        retention: Retention {
            delivered: age(&RETAIN_DELIVERED),
            dead: age(&RETAIN_DEAD),
            attempts: age(&RETAIN_ATTEMPTS),
        },
        allowed_networks: text(&ALLOWED_NETWORKS),
        show_internal_bodies: SHOW_INTERNAL_BODIES.get(),
        ca_file: (!ca_file.is_empty()).then(|| pg::in_data_directory(&ca_file)),
        connect_timeout: duration_ms(&CONNECT_TIMEOUT),
        poll_interval: duration_ms(&POLL_INTERVAL),
        idle_timeout: duration_s(&WORKER_IDLE_TIMEOUT),
    }
}
