//! Every error that a call can end with by a rule of the product: its SQLSTATE, its message, what to do
//! next. Repeats no more of anybody's input than an excerpt. What PostgreSQL itself would raise, `pg` and
//! `audit` raise in its words; a warning gets its words where it arises and goes out through `warn`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use plugin_webhooks_core::endpoint::ConfigError;
use plugin_webhooks_core::excerpt::excerpt;
use plugin_webhooks_core::signing_key::NotBase64;

use crate::pg;

/// What a function returns: an `Err` is raised as a PostgreSQL ERROR.
pub type Result<T> = std::result::Result<T, ErrorReport>;

/// An error of the product.
#[derive(Debug)]
pub enum Error {
    /// Nobody is logged in.
    NotAuthenticated,
    NotMember,
    /// The permission by its name.
    MissingPermission(&'static str),
    /// An installation of another tenant.
    ForeignInstallation,
    /// A name of a secret that is not the installation's to use.
    ForbiddenSecret(String),
    /// A function that superusers alone may call.
    SuperusersOnly(&'static str),
    /// A field that refers to an object of another tenant.
    ForeignReference(&'static str),
    /// A required argument or field is null or blank.
    Required(&'static str),
    /// A value outside its list or form.
    Invalid {
        name: &'static str,
        message: String,
        hint: String,
    },
    /// An object of this kind does not exist.
    Unknown(&'static str),
    /// A field that refers to nothing.
    UnknownReference {
        name: &'static str,
        value: String,
    },
    /// What a foreign key would say.
    NoReferencedRow {
        column: String,
        value: String,
        table: String,
    },
    /// The same from the other side.
    StillReferenced {
        host: String,
        table: String,
        column: String,
    },
    Config(ConfigError),
    UnknownAction(String),
    NoSigningSecret,
    WrongSignature,
    /// A signed payload names another installation than the one that is called.
    OtherInstallation,
    /// A signed payload of another time.
    OldCall,
    /// A member of a payload that is not of its form.
    Member(&'static str),
    /// A member of a payload that plugin_webhooks.require_inbound_id asks for.
    MissingMember(&'static str),
    /// A call that calls itself with its own id.
    CallRunning,
    /// The answer to a call with an id.
    AnswerTooLong,
    RateLimit {
        operation: &'static str,
        max: i32,
    },
    /// An argument that is too long as text.
    TooLong(&'static str),
    /// An argument that is larger than what may be stored.
    TooLarge {
        name: &'static str,
        most: String,
    },
    /// One more row than there may be.
    Full {
        owner: &'static str,
        rows: &'static str,
        most: i64,
        setting: &'static str,
    },
    /// The host's objects that are missing.
    MissingHost(Vec<&'static str>),
    /// An object of the host that is not what was bound.
    HostChanged(&'static str),
    BuiltInAction(String),
    /// A function that cannot handle an action.
    HandlerShape(String),
    /// The key file cannot be used.
    SecretKey {
        message: String,
        hint: String,
    },
    /// A name that another embedded secret has.
    SecretExists(String),
    /// An embedded secret that its key does not open.
    SecretUnreadable(String),
    /// A secret that stands for no signing key.
    NoSigningKey(NotBase64),
    NotTrackable {
        table: String,
        reason: &'static str,
    },
    /// A table without column id.
    NoIdColumn(String),
    /// A column that is not to be recorded and is not there.
    NoExcludedColumn {
        table: String,
        column: String,
    },
    /// A column whose values functions of several owners turn into json, or could.
    CastsOfSeveral {
        column: String,
        types: Vec<String>,
    },
    /// A trigger function that was called in another way than it is made for.
    TriggerProtocol {
        function: &'static str,
        wanted: &'static str,
    },
    /// A call that needs the primary.
    Standby,
}

impl Error {
    fn sqlstate(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode as Code;
        match self {
            // 28000
            Self::NotAuthenticated | Self::NoSigningSecret => {
                Code::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION
            }
            // 42501
            Self::NotMember
            | Self::MissingPermission(_)
            | Self::ForeignInstallation
            | Self::ForbiddenSecret(_)
            | Self::SuperusersOnly(_)
            | Self::ForeignReference(_)
            | Self::WrongSignature
            | Self::OtherInstallation
            | Self::OldCall => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            // 23514
            Self::Required(_)
            | Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::Full { .. }
            | Self::Config(ConfigError { too_long: true, .. }) => Code::ERRCODE_CHECK_VIOLATION,
            // P0001
            Self::Unknown(_) => Code::ERRCODE_RAISE_EXCEPTION,
            // 23503
            Self::UnknownReference { .. }
            | Self::NoReferencedRow { .. }
            | Self::StillReferenced { .. } => Code::ERRCODE_FOREIGN_KEY_VIOLATION,
            // 22023
            Self::Config(_)
            | Self::UnknownAction(_)
            | Self::Member(_)
            | Self::MissingMember(_)
            | Self::NoSigningKey(_) => Code::ERRCODE_INVALID_PARAMETER_VALUE,
            // 54000
            Self::RateLimit { .. } | Self::TooLong(_) | Self::AnswerTooLong => {
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED
            }
            // 55006
            Self::CallRunning => Code::ERRCODE_OBJECT_IN_USE,
            // 0A000
            Self::MissingHost(_) | Self::CastsOfSeveral { .. } => {
                Code::ERRCODE_FEATURE_NOT_SUPPORTED
            }
            // 42710
            Self::BuiltInAction(_) => Code::ERRCODE_DUPLICATE_OBJECT,
            Self::SecretExists(_) => Code::ERRCODE_UNIQUE_VIOLATION,
            // 42P13
            Self::HandlerShape(_) => Code::ERRCODE_INVALID_FUNCTION_DEFINITION,
            // 55000
            Self::SecretKey { .. } | Self::SecretUnreadable(_) | Self::HostChanged(_) => {
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            // 42809
            Self::NotTrackable { .. } => Code::ERRCODE_WRONG_OBJECT_TYPE,
            // 42703
            Self::NoIdColumn(_) | Self::NoExcludedColumn { .. } => Code::ERRCODE_UNDEFINED_COLUMN,
            // 39P01
            Self::TriggerProtocol { .. } => Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            // 25006
            Self::Standby => Code::ERRCODE_READ_ONLY_SQL_TRANSACTION,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NotAuthenticated => "not authenticated".into(),
            Self::NotMember => "not a member of this tenant".into(),
            Self::SuperusersOnly(function) => format!("{function} is for superusers"),
            Self::MissingPermission(permission) => format!("permission {permission} required"),
            Self::ForeignInstallation => "the installation belongs to another tenant".into(),
            Self::ForbiddenSecret(name) => {
                format!("this installation may not use secret {}", quoted(name))
            }
            Self::ForeignReference(name) => format!("{name} is not one of this tenant"),
            Self::Required(name) => format!("{name} is required"),
            Self::Invalid { name, message, .. } => format!("{name} is not valid: {message}"),
            Self::Unknown(what) => format!("{what} not found"),
            Self::UnknownReference { name, value } => {
                format!("{name} {} does not exist for this tenant", quoted(value))
            }
            Self::NoReferencedRow {
                column,
                value,
                table,
            } => format!("{column} {} is not present in {table}", quoted(value)),
            Self::StillReferenced {
                host,
                table,
                column,
            } => format!("a row of {host} is still referenced by {column} of {table}"),
            Self::Config(error) => format!("p_config is not valid: {}", error.message),
            Self::UnknownAction(action) => format!("unknown action {}", quoted(action)),
            Self::NoSigningSecret => "no signing secret for this installation".into(),
            Self::WrongSignature => "wrong signature".into(),
            Self::OtherInstallation => "the payload was signed for another installation".into(),
            Self::OldCall => "timestamp of the payload is more than 300 seconds off".into(),
            Self::Member(name) => format!("{name} of the payload is not valid"),
            Self::MissingMember(name) => format!("{name} of the payload is missing"),
            Self::CallRunning => "a call with this id is running in this transaction".into(),
            Self::AnswerTooLong => "the action's answer is too long to be kept with an id".into(),
            Self::RateLimit { operation, max } => {
                format!("rate limit exceeded: at most {max} calls of {operation} a minute")
            }
            Self::TooLong(name) => format!("{name} is too long as text"),
            Self::TooLarge { name, most } => format!("{name} is too long: at most {most}"),
            Self::Full {
                owner, rows, most, ..
            } => format!("the {owner} has too many {rows}: at most {most}"),
            Self::MissingHost(objects) => format!(
                "work_order.create needs {}, which this database does not have or does not trust",
                objects.join(", ")
            ),
            Self::HostChanged(object) => format!("{object} is not what it was when it was bound"),
            Self::BuiltInAction(action) => format!("action {} is built in", quoted(action)),
            Self::HandlerShape(handler) => format!("{handler} cannot handle an action"),
            Self::SecretKey { message, .. } => message.clone(),
            Self::SecretExists(name) => format!("there is a secret {} already", quoted(name)),
            Self::SecretUnreadable(name) => format!("secret {} cannot be decrypted", quoted(name)),
            Self::NoSigningKey(error) => error.to_string(),
            Self::NotTrackable { table, reason } => format!("{table} cannot be tracked: {reason}"),
            Self::NoIdColumn(table) => format!("table {table} has no column id"),
            Self::NoExcludedColumn { table, column } => {
                format!("table {table} has no column {column}, which its audit triggers exclude")
            }
            Self::CastsOfSeveral { column, types } => format!(
                "column {column} cannot be recorded: several roles own its types, or their casts to json: {}",
                types.join(", ")
            ),
            Self::TriggerProtocol { function, wanted } => {
                format!("{function} must be fired {wanted}")
            }
            Self::Standby => "a standby sends nothing".into(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotAuthenticated => {
                "Call with a user session: the claim \"sub\" of request.jwt.claims names the user."
            }
            Self::ForbiddenSecret(_) => {
                "Ask the operator which names plugin_webhooks.allowed_secret_names allows."
            }
            Self::SuperusersOnly(_) => "CREATE EXTENSION and resume() call it.",
            Self::NotMember => "Use a session whose tenant is p_tenant_id.",
            Self::UnknownAction(_) => {
                "The view plugin_webhooks.inbound_actions lists the actions of this database."
            }
            Self::NoSigningSecret => {
                "Set secret_ref of the installation to the name of an existing secret."
            }
            Self::WrongSignature => {
                "Sign the payload as PostgreSQL prints it (p_payload::text) with HMAC-SHA256 and send \
                 the digest in hex."
            }
            Self::OtherInstallation => {
                "installation_id of the payload is the id of the installation that is called."
            }
            Self::OldCall => "Sign each call with the time it is sent at, and set the clock.",
            Self::Member("timestamp") => "It is a number: Unix time in seconds.",
            Self::Member(_) => "It is a text of 1 to 200 characters.",
            Self::MissingMember(_) => {
                "plugin_webhooks.require_inbound_id is on: each payload has a timestamp and an id."
            }
            Self::CallRunning => "An action cannot call itself.",
            Self::AnswerTooLong => "An action whose calls have ids answers at most 64 KiB.",
            Self::RateLimit { .. } => "Wait a minute and try again.",
            Self::TooLong(_) => "Send less, and no numbers with huge exponents.",
            Self::TooLarge { .. } => "Shorten it.",
            Self::MissingHost(_) => {
                "The view plugin_webhooks.host_objects says why. Or register an action of your own with \
                 plugin_webhooks.register_action."
            }
            Self::HostChanged(_) => {
                "Ask the administrator of the database to look at the view plugin_webhooks.host_objects, and to \
                 run: SELECT plugin_webhooks.attach_host()"
            }
            Self::SecretExists(_) => "Choose another name, or call plugin_webhooks.update_secret.",
            Self::BuiltInAction(_) => "Choose another name.",
            Self::HandlerShape(_) => {
                "A handler is a function (tenant uuid, data jsonb) returns jsonb."
            }
            Self::SecretUnreadable(_) => {
                "It was encrypted with another key, or its row was changed by hand: put the right file at \
                 plugin_webhooks.secret_key_file, or store the secret again with plugin_webhooks.update_secret."
            }
            Self::NoSigningKey(_) => "Put base64 after whsec_, or leave whsec_ out.",
            Self::CastsOfSeveral { .. } => {
                "Give types and functions to one role, or exclude the column with audit.track()."
            }
            Self::NoIdColumn(_) => {
                "An audited table needs a column named id that identifies the row."
            }
            Self::Standby => {
                "Call it on the primary; delivery starts here by itself after a promotion."
            }
            Self::Invalid { hint, .. } | Self::SecretKey { hint, .. } => hint,
            Self::Config(error) => return Some(format!("{}: {}", error.field, error.hint)),
            Self::Full { setting, .. } => {
                return Some(format!(
                    "Delete one, or ask the operator to raise plugin_webhooks.{setting}."
                ));
            }
            Self::MissingPermission(permission) => {
                return Some(format!(
                    "Ask an administrator of the tenant for {permission}."
                ));
            }
            Self::Required(name) => {
                return Some(format!(
                    "Pass a value for {name} that is neither null nor blank."
                ));
            }
            Self::NoExcludedColumn { table, .. } => {
                return Some(format!(
                    "It was dropped or renamed. Say what to exclude now: \
                     SELECT audit.track('{table}', ARRAY['column', ...])."
                ));
            }
            Self::ForeignInstallation
            | Self::ForeignReference(_)
            | Self::Unknown(_)
            | Self::UnknownReference { .. }
            | Self::NoReferencedRow { .. }
            | Self::StillReferenced { .. }
            | Self::NotTrackable { .. }
            | Self::TriggerProtocol { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// The start of somebody's input between quotes.
pub fn quoted(input: &str) -> String {
    format!("\"{}\"", excerpt(input))
}

impl From<Error> for ErrorReport {
    #[track_caller]
    fn from(error: Error) -> Self {
        let report = ErrorReport::new(error.sqlstate(), error.message(), "plugin_webhooks");
        match error.hint() {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}

/// A line for the server log alone, with what to do about it where that is known.
pub fn log(message: impl Into<String>, hint: Option<&str>) {
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    let report = ErrorReport::new(code, message.into(), "plugin_webhooks");
    match hint {
        Some(hint) => report.set_hint(hint),
        None => report,
    }
    .report(PgLogLevel::LOG_SERVER_ONLY);
}

/// A warning for the server log and the caller, with what to do about it.
pub fn warn(code: PgSqlErrorCode, message: impl Into<String>, hint: &str) {
    let mut report = ErrorReport::new(code, message.into(), "plugin_webhooks").set_hint(hint);
    if let Some(database) = pg::served_database() {
        report = report.set_detail(format!("Database \"{database}\"."));
    }
    report.report(PgLogLevel::WARNING);
}

/// The same for a setting that cannot be used as it is.
pub fn warn_setting(message: &str) {
    warn(
        PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        format!("plugin_webhooks: {message}"),
        "Correct the setting and reload.",
    );
}

/// `Ok(value)` unless it is null.
pub fn required<T>(name: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::Required(name).into())
}

/// The text as it is, unless it is null or blank.
pub fn required_text<'a>(name: &'static str, value: Option<&'a str>) -> Result<&'a str> {
    let text = required(name, value)?;
    if text.trim().is_empty() {
        return Err(Error::Required(name).into());
    }
    Ok(text)
}
