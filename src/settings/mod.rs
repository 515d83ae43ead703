//! Every setting: its unit, range, default and why, and what the rooms read of it. Readable on the main
//! thread only: sender threads get copies. Decides nothing by what a setting says.

mod types;

use std::ffi::{CStr, CString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use plugin_webhooks_core::secret_names::AllowedNames;
use plugin_webhooks_core::{limiter, retry};

use self::types::{Integer, PLAIN, Switch, Text};
use crate::pg;

/// When a running worker delivers.
#[derive(PostgresGucEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dispatch {
    /// At once, woken by the committing transaction.
    #[name = c"on_commit"]
    OnCommit,
    /// Only what rpc_process_plugin_deliveries requests.
    #[name = c"on_call"]
    OnCall,
}

static DISPATCH: GucSetting<Dispatch> = GucSetting::<Dispatch>::new(Dispatch::OnCommit);

/// Far more than there are plugins: a tenant that installs in a loop ends here.
static MAX_INSTALLATIONS: Integer = Integer {
    name: c"plugin_webhooks.max_installations",
    value: GucSetting::<i32>::new(1_000),
    range: 1..=1_000_000,
    flags: PLAIN,
    summary: c"Installations that a tenant may have.",
    detail: c"Those that are there stay when it is lowered.",
};

/// Each session that writes for the tenant remembers all of them.
static MAX_SUBSCRIPTIONS: Integer = Integer {
    name: c"plugin_webhooks.max_subscriptions",
    value: GucSetting::<i32>::new(1_000),
    range: 1..=1_000_000,
    flags: PLAIN,
    summary: c"Subscriptions that an installation may have.",
    detail: c"Those that are there stay when it is lowered.",
};

/// Each is a thread: 64 saturate two cores with fast receivers and hide 10 ms of latency at 6,000 a second.
static MAX_IN_FLIGHT: Integer = Integer {
    name: c"plugin_webhooks.max_in_flight",
    value: GucSetting::<i32>::new(64),
    range: 1..=1024,
    flags: PLAIN,
    summary: c"Requests in flight at once, per database.",
    detail: c"",
};

/// A quarter of the total: one slow receiver cannot take all threads.
static MAX_IN_FLIGHT_PER_INSTALLATION: Integer = Integer {
    name: c"plugin_webhooks.max_in_flight_per_installation",
    value: GucSetting::<i32>::new(16),
    range: 1..=1024,
    flags: PLAIN,
    summary: c"Requests in flight at once, per installation.",
    detail: c"",
};

/// Threads that wait for slow receivers cost memory, not CPU. Without them a few dozen receivers that
/// never answer would hold all of max_in_flight until their timeout.
static MAX_SLOW_IN_FLIGHT: Integer = Integer {
    name: c"plugin_webhooks.max_slow_in_flight",
    value: GucSetting::<i32>::new(256),
    range: 0..=4096,
    flags: PLAIN,
    summary:
        c"Requests that are slow or expected to be, per database, beyond those of max_in_flight.",
    detail: c"",
};

/// A minute: a receiver that comes back does not wait much longer than that.
static MAX_PROBE_INTERVAL: Integer = Integer {
    name: c"plugin_webhooks.max_probe_interval",
    value: GucSetting::<i32>::new(60_000),
    range: 0..=3_600_000,
    flags: GucFlags::UNIT_MS,
    summary: c"Longest backoff of an installation whose receiver keeps failing, between two requests that probe it.",
    detail: c"0 means no backoff.",
};

/// Its forms are those of `plugin_webhooks_core::retry`.
static RETRY_SCHEDULE: Text = Text {
    name: c"plugin_webhooks.retry_schedule",
    value: GucSetting::<Option<CString>>::new(Some(retry::DEFAULT_DELAYS)),
    flags: PLAIN,
    summary: c"Delays between the attempts of a delivery, as a comma separated list; \
        one more failure than delays makes it dead.",
    detail: c"1 to 20 whole numbers with unit s, min, h or d, each from 1s to 7d. \
        An installation's config.retry_schedule wins.",
};

const DAY: i32 = 24 * 60 * 60;
const KEPT_FOR: RangeInclusive<i32> = 0..=3_650 * DAY;
const FOR_EVER: &CStr = c"0 keeps them for ever.";

/// Long enough to look into a complaint; without an end the queue would outgrow the data.
static RETAIN_DELIVERED: Integer = Integer {
    name: c"plugin_webhooks.retain_delivered",
    value: GucSetting::<i32>::new(30 * DAY),
    range: KEPT_FOR,
    flags: GucFlags::UNIT_S,
    summary: c"How long delivered rows of the queue are kept.",
    detail: FOR_EVER,
};

/// Longer than delivered ones: somebody has yet to look at them.
static RETAIN_DEAD: Integer = Integer {
    name: c"plugin_webhooks.retain_dead",
    value: GucSetting::<i32>::new(90 * DAY),
    range: KEPT_FOR,
    flags: GucFlags::UNIT_S,
    summary: c"How long dead rows of the queue are kept, and pending ones of installations that are not installed.",
    detail: FOR_EVER,
};

/// Shorter than deliveries, of which each may have several.
static RETAIN_ATTEMPTS: Integer = Integer {
    name: c"plugin_webhooks.retain_attempts",
    value: GucSetting::<i32>::new(7 * DAY),
    range: KEPT_FOR,
    flags: GucFlags::UNIT_S,
    summary: c"How long the records of attempts are kept.",
    detail: FOR_EVER,
};

/// The least is longer than a timestamp is good for, 300 seconds before it and 300 after: with both, no call can be
/// replayed. The default is what a partner's queue may hold back.
static RETAIN_INBOUND_IDS: Integer = Integer {
    name: c"plugin_webhooks.retain_inbound_ids",
    value: GucSetting::<i32>::new(30 * DAY),
    range: 900..=3_650 * DAY,
    flags: GucFlags::UNIT_S,
    summary:
        c"How long the ids of partners' calls are kept with their answers: so long none runs twice.",
    detail: c"",
};

/// Off: partners that send neither go on as they are.
static REQUIRE_INBOUND_ID: Switch = Switch {
    name: c"plugin_webhooks.require_inbound_id",
    value: GucSetting::<bool>::new(false),
    flags: PLAIN,
    summary: c"Whether the payload of a partner's call must have an id and a timestamp.",
    detail: c"",
};

/// Not for anyone but the operator of the server: it opens the server's own network to tenants' URLs.
static ALLOWED_NETWORKS: Text = Text {
    name: c"plugin_webhooks.allowed_networks",
    value: GucSetting::<Option<CString>>::new(Some(c"")),
    flags: GucFlags::SUPERUSER_ONLY,
    summary: c"Networks that webhooks may reach although they are not public, \
        as a comma separated list of CIDRs; plain http works only there.",
    detail: c"An entry may end in a port, like 10.0.0.5:8443 or [fd00::/8]:8443: then it opens only that one.",
};

/// Off: an opened network mostly holds more than receivers, and what those say is not for tenants.
static SHOW_INTERNAL_BODIES: Switch = Switch {
    name: c"plugin_webhooks.show_internal_bodies",
    value: GucSetting::<bool>::new(false),
    flags: GucFlags::SUPERUSER_ONLY,
    summary: c"Whether tenants read what receivers in allowed_networks that are not public answer.",
    detail: c"",
};

/// What Supabase and most proxies in front of PostgREST send, though anybody can send it to them.
static IP_ADDRESS_FROM: Text = Text {
    name: c"plugin_webhooks.ip_address_from",
    value: GucSetting::<Option<CString>>::new(Some(c"x-forwarded-for, connection")),
    flags: PLAIN,
    summary: c"Where the audit log's ip_address comes from, comma separated: the first source that has one wins.",
    detail: c"Names of request headers, or connection for the address of the database's client. Empty: none.",
};

/// Empty, because only the operator knows how secrets are named here. Without a list every tenant may have requests
/// to its own URL signed with any secret.
static ALLOWED_SECRET_NAMES: Text = Text {
    name: c"plugin_webhooks.allowed_secret_names",
    value: GucSetting::<Option<CString>>::new(Some(c"")),
    flags: GucFlags::SUPERUSER_ONLY,
    summary: c"Names of secrets that installations may refer to, as a comma separated list of LIKE patterns; \
        empty: any.",
    detail: c"{tenant_id} and {plugin_key} stand for the installation's own.",
};

/// Off: a receiver that checks nothing gets its deliveries also when a secret is missing.
static REQUIRE_SIGNATURE: Switch = Switch {
    name: c"plugin_webhooks.require_signature",
    value: GucSetting::<bool>::new(false),
    flags: PLAIN,
    summary: c"Whether a delivery whose secret_ref resolves to nothing fails instead of going out unsigned.",
    detail: c"",
};

/// On: receivers that do not know these headers ignore them.
static STANDARD_WEBHOOKS: Switch = Switch {
    name: c"plugin_webhooks.standard_webhooks",
    value: GucSetting::<bool>::new(true),
    flags: PLAIN,
    summary: c"Whether signed requests carry the headers of Standard Webhooks as well.",
    detail: c"webhook-id, webhook-timestamp, webhook-signature.",
};

/// Beside the public ones, never in their place.
static CA_FILE: Text = Text {
    name: c"plugin_webhooks.ca_file",
    value: GucSetting::<Option<CString>>::new(Some(c"")),
    flags: GucFlags::SUPERUSER_ONLY,
    summary: c"PEM file with certificate authorities trusted in addition to the public ones.",
    detail: c"A relative path starts in the data directory.",
};

/// A receiver that does not even answer the connection is found out before the whole timeout is spent.
static CONNECT_TIMEOUT: Integer = Integer {
    name: c"plugin_webhooks.connect_timeout",
    value: GucSetting::<i32>::new(5_000),
    range: 100..=30_000,
    flags: GucFlags::UNIT_MS,
    summary:
        c"Longest time to connect to a receiver; never longer than the delivery's own timeout_ms.",
    detail: c"",
};

/// In the data directory, where a fresh server can make it by itself.
static SECRET_KEY_FILE: Text = Text {
    name: c"plugin_webhooks.secret_key_file",
    value: GucSetting::<Option<CString>>::new(Some(c"plugin_webhooks.key")),
    flags: GucFlags::SUPERUSER_ONLY,
    summary: c"File with the key of the embedded secret store, mode 0600.",
    detail: c"A relative path starts in the data directory. Put it elsewhere to keep it out of base backups.",
};

/// Longer than the longest timeout_ms (120 s) plus as long a wait for a free thread.
static LEASE: Integer = Integer {
    name: c"plugin_webhooks.lease",
    value: GucSetting::<i32>::new(300),
    range: 150..=3_600,
    flags: GucFlags::UNIT_S,
    summary: c"How long a delivery may stay claimed before it waits again.",
    detail: c"",
};

/// Commits wake the worker; the poll finds retries that fell due and prepared transactions.
static POLL_INTERVAL: Integer = Integer {
    name: c"plugin_webhooks.poll_interval",
    value: GucSetting::<i32>::new(1_000),
    range: 100..=60_000,
    flags: GucFlags::UNIT_MS,
    summary: c"How often an idle worker looks for deliveries that fell due.",
    detail: c"",
};

/// Twice pg_cron's minute, so that a scheduled processor keeps its worker.
static WORKER_IDLE_TIMEOUT: Integer = Integer {
    name: c"plugin_webhooks.worker_idle_timeout",
    value: GucSetting::<i32>::new(120),
    range: 1..=86_400,
    flags: GucFlags::UNIT_S,
    summary: c"How long a worker started by rpc_process_plugin_deliveries stays without work; \
        a preloaded one always stays.",
    detail: c"",
};

/// A physical copy has the same system identifier: only this tells it from the original.
static SITE: Text = Text {
    name: c"plugin_webhooks.site",
    value: GucSetting::<Option<CString>>::new(Some(c"")),
    flags: PLAIN,
    summary:
        c"Name of the place this server stands for: a physical copy with another one sends nothing \
        until plugin_webhooks.resume().",
    detail: c"Set it where a copy of the data directory does not take it along.",
};

/// Declares all settings; called once a process, from `_PG_init`.
pub fn define() {
    GucRegistry::define_enum_guc(
        c"plugin_webhooks.dispatch",
        c"When a running worker delivers: on_commit (at once) or on_call (only what \
          rpc_process_plugin_deliveries requests).",
        c"",
        &DISPATCH,
        GucContext::Sighup,
        PLAIN,
    );
    for setting in [
        &MAX_INSTALLATIONS,
        &MAX_SUBSCRIPTIONS,
        &MAX_IN_FLIGHT,
        &MAX_IN_FLIGHT_PER_INSTALLATION,
        &MAX_SLOW_IN_FLIGHT,
        &MAX_PROBE_INTERVAL,
        &RETAIN_DELIVERED,
        &RETAIN_DEAD,
        &RETAIN_ATTEMPTS,
        &RETAIN_INBOUND_IDS,
        &CONNECT_TIMEOUT,
        &LEASE,
        &POLL_INTERVAL,
        &WORKER_IDLE_TIMEOUT,
    ] {
        setting.define();
    }
    for setting in [
        &RETRY_SCHEDULE,
        &ALLOWED_NETWORKS,
        &IP_ADDRESS_FROM,
        &ALLOWED_SECRET_NAMES,
        &CA_FILE,
        &SECRET_KEY_FILE,
        &SITE,
    ] {
        setting.define();
    }
    SHOW_INTERNAL_BODIES.define();
    REQUIRE_SIGNATURE.define();
    STANDARD_WEBHOOKS.define();
    REQUIRE_INBOUND_ID.define();
    pg::reserve_setting_prefix(c"plugin_webhooks");
}

pub fn dispatch() -> Dispatch {
    DISPATCH.get()
}

/// How many installations a tenant may have.
pub fn max_installations() -> i64 {
    MAX_INSTALLATIONS.value.get().into()
}

/// How many subscriptions an installation may have.
pub fn max_subscriptions() -> i64 {
    MAX_SUBSCRIPTIONS.value.get().into()
}

pub fn allowed_secret_names() -> AllowedNames {
    AllowedNames::parse(&ALLOWED_SECRET_NAMES.trimmed())
}

pub fn require_signature() -> bool {
    REQUIRE_SIGNATURE.value.get()
}

pub fn standard_webhooks() -> bool {
    STANDARD_WEBHOOKS.value.get()
}

pub fn require_inbound_id() -> bool {
    REQUIRE_INBOUND_ID.value.get()
}

/// A list of sources, as it is set.
pub fn ip_address_from() -> Option<CString> {
    IP_ADDRESS_FROM.value.get()
}

/// Path of the key file, absolute.
pub fn secret_key_file() -> PathBuf {
    pg::in_data_directory(&SECRET_KEY_FILE.trimmed())
}

pub fn site() -> String {
    SITE.trimmed()
}

pub fn lease() -> Duration {
    LEASE.seconds()
}

/// How old rows become; `None`: they are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    pub delivered: Option<Duration>,
    pub dead: Option<Duration>,
    pub attempts: Option<Duration>,
    pub inbound_ids: Duration,
}

fn age(setting: &Integer) -> Option<Duration> {
    Some(setting.seconds()).filter(|age| !age.is_zero())
}

/// Bodies in memory at once, as long as more than one is: huge rows must not fill the server's memory.
const BODY_BYTES: usize = 64 << 20;

/// What the worker's loop needs, read once per reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerSettings {
    pub bounds: limiter::Bounds,
    pub retry_schedule: String,
    pub retention: Retention,
    pub allowed_networks: String,
    pub show_internal_bodies: bool,
    /// Absolute.
    pub ca_file: Option<PathBuf>,
    pub connect_timeout: Duration,
    pub poll_interval: Duration,
    pub idle_timeout: Duration,
}

/// The worker's settings as they are now.
pub fn worker() -> WorkerSettings {
    let ca_file = CA_FILE.trimmed();
    WorkerSettings {
        bounds: limiter::Bounds {
            window: MAX_IN_FLIGHT_PER_INSTALLATION.count(),
            longest_backoff: MAX_PROBE_INTERVAL.milliseconds(),
            in_flight: MAX_IN_FLIGHT.count(),
            slow_in_flight: MAX_SLOW_IN_FLIGHT.count(),
            body_bytes: BODY_BYTES,
        },
        retry_schedule: RETRY_SCHEDULE.trimmed(),
        retention: Retention {
            delivered: age(&RETAIN_DELIVERED),
            dead: age(&RETAIN_DEAD),
            attempts: age(&RETAIN_ATTEMPTS),
            inbound_ids: RETAIN_INBOUND_IDS.seconds(),
        },
        allowed_networks: ALLOWED_NETWORKS.trimmed(),
        show_internal_bodies: SHOW_INTERNAL_BODIES.value.get(),
        ca_file: (!ca_file.is_empty()).then(|| pg::in_data_directory(&ca_file)),
        connect_timeout: CONNECT_TIMEOUT.milliseconds(),
        poll_interval: POLL_INTERVAL.milliseconds(),
        idle_timeout: WORKER_IDLE_TIMEOUT.seconds(),
    }
}
