//! How large the values may be that tenants choose, and how large one may be that is read: rows from before the
//! limits stay, and what is larger than that does not enter memory. Counts nothing.

use plugin_webhooks_core::endpoint::{MAX_CONFIG_BYTES, MAX_READ_CONFIG_BYTES};

use crate::error::{Error, Result, required};
use crate::pg::{BoundedJsonb, BoundedText, BoundedTexts};

/// Longest `secret_ref`.
pub const SECRET_REF_CHARACTERS: usize = 200;
/// Longest name of a schema, table or column.
pub const NAME_BYTES: usize = 63;
/// Most names of an allowlist: a table has no more columns.
pub const ALLOWLIST_NAMES: usize = 1_600;

/// A secret_ref, a name or an event type. More than any of them may have: white space may stand around it.
pub type ShortText = BoundedText<1_024>;
/// Operations or an allowlist: an element of 63 bytes takes 68.
pub type Names = BoundedTexts<131_072>;
/// A configuration that may be stored.
pub type NewConfig = BoundedJsonb<MAX_CONFIG_BYTES>;
/// A configuration that is stored.
pub type StoredConfig = BoundedJsonb<MAX_READ_CONFIG_BYTES>;

/// The value of an argument that was short enough to be read.
fn read<T>(
    name: &'static str,
    value: Option<Option<T>>,
    most: impl Fn() -> String,
) -> Result<Option<T>> {
    match value {
        Some(None) => Err(Error::TooLarge { name, most: most() }.into()),
        other => Ok(other.flatten()),
    }
}

/// A secret_ref as it is.
pub fn secret_ref(name: &'static str, value: Option<ShortText>) -> Result<Option<String>> {
    let most = || format!("{SECRET_REF_CHARACTERS} characters");
    let value = read(name, value.map(|text| text.0), most)?;
    if value
        .as_deref()
        .is_some_and(|text| text.chars().count() > SECRET_REF_CHARACTERS)
    {
        return Err(Error::TooLarge { name, most: most() }.into());
    }
    Ok(value)
}

/// A trimmed name of a schema or table, neither null nor blank.
pub fn name(name: &'static str, value: Option<ShortText>) -> Result<String> {
    let most = || format!("{NAME_BYTES} bytes");
    let value = read(name, value.map(|text| text.0), most)?;
    let text = required(name, value)?.trim().to_owned();
    if text.is_empty() {
        return Err(Error::Required(name).into());
    }
    if text.len() > NAME_BYTES {
        return Err(Error::TooLarge { name, most: most() }.into());
    }
    Ok(text)
}

/// A list of names of columns. Null and empty both mean all of them; null elements are dropped.
pub fn columns(name: &'static str, value: Option<Names>) -> Result<Option<Vec<String>>> {
    let most = || format!("{ALLOWLIST_NAMES} names of {NAME_BYTES} bytes");
    let value = read(name, value.map(|names| names.0), most)?;
    let names: Vec<String> = value.unwrap_or_default().into_iter().flatten().collect();
    if names.len() > ALLOWLIST_NAMES || names.iter().any(|name| name.len() > NAME_BYTES) {
        return Err(Error::TooLarge { name, most: most() }.into());
    }
    Ok((!names.is_empty()).then_some(names))
}
