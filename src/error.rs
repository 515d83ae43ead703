//! Every error a caller can meet: its SQLSTATE, its message and what to do next.
//! Nothing else in the extension picks a SQLSTATE.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// What a function returns: an `Err` is raised as a PostgreSQL ERROR.
pub type Result<T> = std::result::Result<T, ErrorReport>;

/// An error with a fixed SQLSTATE.
#[derive(Debug)]
pub enum Error {
    /// 28000
    NotAuthenticated,
    /// 42501
    NotMember,
    /// 42501, names the permission
    MissingPermission(&'static str),
    /// 42501
    ForeignInstallation,
    /// 42501, reference to an object of another tenant
    ForeignReference(&'static str),
    /// 23514, a required argument or field is null or blank
    Required(&'static str),
    /// 23514, a value outside its list or form
    Invalid {
        name: &'static str,
        message: String,
        hint: String,
    },
    /// P0001
    Unknown(&'static str),
    /// 23503
    UnknownReference { name: &'static str, value: String },
    /// 23503, what a foreign key would say
    NoReferencedRow {
        column: String,
        value: String,
        table: String,
    },
    /// 23503, the same from the other side
    StillReferenced {
        host: String,
        table: String,
        column: String,
    },
    /// 22023
    Config(plugin_webhooks_core::endpoint::ConfigError),
    /// 22023
    UnknownAction(String),
    /// 28000
    NoSigningSecret,
    /// 42501
    WrongSignature,
    /// 54000
    RateLimit { operation: &'static str, max: i32 },
    /// 54000, an argument that is too long as text
    TooLong(&'static str),
    /// 0A000
    MissingHost(Vec<&'static str>),
    /// 42710
    BuiltInAction(String),
    /// 42P13
    HandlerShape(String),
    /// 55000
    SecretKey { message: String, hint: String },
    /// 55000, an embedded secret that its key does not open
    SecretUnreadable(String),
    /// 42809
    NotTrackable { table: String, reason: &'static str },
    /// 42703
    NoIdColumn(String),
    /// 42703, a column that is not to be recorded and is not there
    NoExcludedColumn { table: String, column: String },
    /// 39P01
    TriggerProtocol {
        function: &'static str,
        wanted: &'static str,
    },
    /// 25006
    Standby,
}

impl Error {
    fn parts(&self) -> (PgSqlErrorCode, String, Option<String>) {
        use PgSqlErrorCode as Code;
        match self {
            Self::NotAuthenticated => (
                Code::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
                "not authenticated".into(),
                Some("Call with a user session: the claim \"sub\" of request.jwt.claims names the user.".into()),
            ),
            Self::NotMember => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                "not a member of this tenant".into(),
                Some("Use a session whose tenant is p_tenant_id.".into()),
            ),
            Self::MissingPermission(permission) => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission {permission} required"),
                Some(format!("Ask an administrator of the tenant for {permission}.")),
            ),
            Self::ForeignInstallation => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                "the installation belongs to another tenant".into(),
                None,
            ),
            Self::ForeignReference(name) => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("{name} is not one of this tenant"),
                None,
            ),
            Self::Required(name) => (
                Code::ERRCODE_CHECK_VIOLATION,
                format!("{name} is required"),
                Some(format!("Pass a value for {name} that is neither null nor blank.")),
            ),
            Self::Invalid { name, message, hint } => (
                Code::ERRCODE_CHECK_VIOLATION,
                format!("{name} is not valid: {message}"),
                Some(hint.clone()),
            ),
            Self::Unknown(what) => (
                Code::ERRCODE_RAISE_EXCEPTION,
                format!("{what} not found"),
                None,
            ),
            Self::UnknownReference { name, value } => (
                Code::ERRCODE_FOREIGN_KEY_VIOLATION,
                format!("{name} \"{value}\" does not exist for this tenant"),
                None,
            ),
            Self::NoReferencedRow { column, value, table } => (
                Code::ERRCODE_FOREIGN_KEY_VIOLATION,
                format!("{column} \"{value}\" is not present in {table}"),
                None,
            ),
            Self::StillReferenced { host, table, column } => (
                Code::ERRCODE_FOREIGN_KEY_VIOLATION,
                format!("a row of {host} is still referenced by {column} of {table}"),
                None,
            ),
            Self::Config(error) => (
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("p_config is not valid: {}", error.message),
                Some(format!("{}: {}", error.field, error.hint)),
            ),
            Self::UnknownAction(action) => (
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("unknown action \"{action}\""),
                Some("The view plugin_webhooks.inbound_actions lists the actions of this database.".into()),
            ),
            Self::NoSigningSecret => (
                Code::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
                "no signing secret for this installation".into(),
                Some("Set secret_ref of the installation to the name of an existing secret.".into()),
            ),
            Self::WrongSignature => (
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                "wrong signature".into(),
                Some("Sign the payload as PostgreSQL prints it (p_payload::text) with HMAC-SHA256 and send the digest in hex.".into()),
            ),
            Self::RateLimit { operation, max } => (
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("rate limit exceeded: at most {max} calls of {operation} a minute"),
                Some("Wait a minute and try again.".into()),
            ),
            Self::TooLong(name) => (
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("{name} is too long as text"),
                Some("Send less, and no numbers with huge exponents.".into()),
            ),
            Self::MissingHost(objects) => (
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("work_order.create needs {}, which this database does not have", objects.join(", ")),
                Some("Register an action of your own with plugin_webhooks.register_action.".into()),
            ),
            Self::BuiltInAction(action) => (
                Code::ERRCODE_DUPLICATE_OBJECT,
                format!("action \"{action}\" is built in"),
                Some("Choose another name.".into()),
            ),
            Self::HandlerShape(handler) => (
                Code::ERRCODE_INVALID_FUNCTION_DEFINITION,
                format!("{handler} cannot handle an action"),
                Some("A handler is a function (tenant uuid, data jsonb) returns jsonb.".into()),
            ),
            Self::SecretKey { message, hint } => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                message.clone(),
                Some(hint.clone()),
            ),
            Self::SecretUnreadable(name) => (
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("secret \"{name}\" cannot be decrypted"),
                Some("It was encrypted with another key: put the right file at plugin_webhooks.secret_key_file, or store the secret again with plugin_webhooks.update_secret.".into()),
            ),
            Self::NotTrackable { table, reason } => (
                Code::ERRCODE_WRONG_OBJECT_TYPE,
                format!("{table} cannot be tracked: {reason}"),
                None,
            ),
            Self::NoIdColumn(table) => (
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!("table {table} has no column id"),
                Some("An audited table needs a column named id that identifies the row.".into()),
            ),
            Self::NoExcludedColumn { table, column } => (
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!("table {table} has no column {column}, which its audit triggers exclude"),
                Some(format!("It was dropped or renamed. Say what to exclude now: SELECT audit.track('{table}', ARRAY['column', ...]).")),
            ),
            Self::TriggerProtocol { function, wanted } => (
                Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                format!("{function} must be fired {wanted}"),
                None,
            ),
            Self::Standby => (
                Code::ERRCODE_READ_ONLY_SQL_TRANSACTION,
                "a standby sends nothing".into(),
                Some("Call it on the primary; delivery starts here by itself after a promotion.".into()),
            ),
        }
    }
}

impl From<Error> for ErrorReport {
    #[track_caller]
    fn from(error: Error) -> Self {
        let (code, message, hint) = error.parts();
        let report = ErrorReport::new(code, message, "plugin_webhooks");
        match hint {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}

/// A warning for the log and the caller, with what to do about it.
pub fn warn(code: PgSqlErrorCode, message: impl Into<String>, hint: &str) {
    ErrorReport::new(code, message.into(), "plugin_webhooks")
        .set_hint(hint)
        .report(PgLogLevel::WARNING);
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

/// The trimmed text unless it is null or blank.
pub fn required_text<'a>(name: &'static str, value: Option<&'a str>) -> Result<&'a str> {
    let text = required(name, value)?.trim();
    if text.is_empty() {
        return Err(Error::Required(name).into());
    }
    Ok(text)
}
