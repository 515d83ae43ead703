//! What a payload says: the action it asks for, and for which installation, when and as which call it was signed.
//! Reads a payload whose signature was verified; PostgreSQL reads it, nothing is parsed here.

use pgrx::Uuid;
use plugin_webhooks_core::uuid;

use crate::error::{Error, Result};
use crate::pg::{self, Jsonb};
use crate::settings;

/// What the partner asks for.
pub struct Call {
    /// The same id runs once.
    pub id: Option<String>,
    /// Missing or empty: noop.
    pub action: String,
    /// Missing: {}.
    pub data: Jsonb,
}

/// Members of a payload that are there, and the rest of the call.
struct Members {
    installation: Option<String>,
    /// Whether it is near enough; `None` when it is no number.
    timestamp: Option<Option<bool>>,
    /// `None` when it is no text; cut behind what may be.
    id: Option<Option<String>>,
    action: String,
    data: Jsonb,
}

const LONGEST_ID: usize = 200;

/// Seconds are compared as whole ones, as partners count them; a number with a huge exponent is a number, too, so
/// nothing is computed with it.
const READ: &str = "
    SELECT ($1 -> 'installation_id')::pg_catalog.text,
           $1 -> 'timestamp' IS NOT NULL,
           CASE pg_catalog.jsonb_typeof($1 -> 'timestamp') WHEN 'number' THEN
               ($1 -> 'timestamp')::pg_catalog.numeric BETWEEN t.now - 300 AND t.now + 300 END,
           $1 -> 'id' IS NOT NULL,
           CASE pg_catalog.jsonb_typeof($1 -> 'id') WHEN 'string' THEN pg_catalog.left($1 ->> 'id', 201) END,
           coalesce(nullif(pg_catalog.btrim($1 ->> 'action'), ''), 'noop'),
           coalesce(nullif($1 -> 'data', 'null'), '{}')
    FROM (SELECT pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp())) AS now) AS t";

impl Members {
    fn read(payload: Jsonb) -> Option<Self> {
        pg::one_row(READ, &[payload.into()], |row| {
            let there =
                |ordinal| Ok::<_, pgrx::spi::Error>(row.get::<bool>(ordinal)? == Some(true));
            let timestamp = row.get::<bool>(3)?;
            let id = row.get::<String>(5)?;
            Ok(Self {
                installation: row.get::<String>(1)?,
                timestamp: there(2)?.then_some(timestamp),
                id: there(4)?.then_some(id),
                action: row.get::<String>(6)?.unwrap_or_default(),
                data: row.get::<Jsonb>(7)?.unwrap_or_else(|| Jsonb("{}".into())),
            })
        })
    }
}

impl Call {
    /// Reads a payload for the installation that is called; raises what is wrong with it.
    pub fn read(payload: Jsonb, installation: Uuid) -> Result<Self> {
        let members = Members::read(payload).ok_or(Error::Required("p_payload"))?;
        if let Some(named) = members.installation
            && !names(&named, installation)
        {
            return Err(Error::OtherInstallation.into());
        }
        let required = settings::require_inbound_id();
        match members.timestamp {
            Some(Some(true)) => {}
            Some(Some(false)) => return Err(Error::OldCall.into()),
            Some(None) => return Err(Error::Member("timestamp").into()),
            None if required => return Err(Error::MissingMember("timestamp").into()),
            None => {}
        }
        let id = match members.id {
            Some(Some(id)) if (1..=LONGEST_ID).contains(&id.chars().count()) => Some(id),
            Some(_) => return Err(Error::Member("id").into()),
            None if required => return Err(Error::MissingMember("id").into()),
            None => None,
        };
        Ok(Self {
            id,
            action: members.action,
            data: members.data,
        })
    }
}

/// Whether a member, as JSON, is a string with this uuid.
fn names(member: &str, installation: Uuid) -> bool {
    member
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .and_then(|text| uuid::parse(text.as_bytes()))
        .is_some_and(|bytes| &bytes == installation.as_bytes())
}
