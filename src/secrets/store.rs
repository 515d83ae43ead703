//! The embedded store: `plugin_webhooks.secrets` is read and written here and nowhere else. No
//! plaintext is ever stored, and no function but `find` gives one back.

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Payload};
use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{SpiResult, SpiTupleTable};
use plugin_webhooks_core::signing_key;
use zeroize::{Zeroize, Zeroizing};

use super::key_file::{self, SecretKey};
use super::secret::Secret;
use crate::error::{Error, Result, required, required_text};
use crate::limits::SECRET_REF_CHARACTERS;
use crate::pg;
use crate::tables;

/// AAD of version 0.2: the row's id.
const ID_ALONE: i16 = 1;
/// AAD of now: see `Row::aad`.
const WHOLE_ROW: i16 = 2;

/// A row of the store.
struct Row {
    id: Uuid,
    name: String,
    tenant: Option<Uuid>,
    plugin: Option<String>,
    aad_version: i16,
    nonce: Vec<u8>,
    ciphertext: Vec<u8>,
}

/// Columns of a `Row`, in its order.
const COLUMNS: &str = "id, name, tenant_id, plugin_key, aad_version, nonce, ciphertext";

impl Row {
    fn read(row: &SpiTupleTable<'_>) -> SpiResult<Option<Self>> {
        let (Some(id), Some(name)) = (row.get::<Uuid>(1)?, row.get::<String>(2)?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            id,
            name,
            tenant: row.get::<Uuid>(3)?,
            plugin: row.get::<String>(4)?,
            aad_version: row.get::<i16>(5)?.unwrap_or(ID_ALONE),
            nonce: row.get::<Vec<u8>>(6)?.unwrap_or_default(),
            ciphertext: row.get::<Vec<u8>>(7)?.unwrap_or_default(),
        }))
    }

    /// What is authenticated with the secret: a ciphertext cannot move to another row, nor its row to another
    /// name, tenant or plugin. `None` for a row that nobody can have encrypted.
    fn aad(&self) -> Option<Vec<u8>> {
        let id = self.id.as_bytes();
        if self.aad_version == ID_ALONE {
            // It had no tenant and no plugin.
            return (self.tenant.is_none() && self.plugin.is_none()).then(|| id.to_vec());
        }
        if self.aad_version != WHOLE_ROW {
            return None;
        }
        let mut aad = b"plugin_webhooks secret".to_vec();
        let tenant = self
            .tenant
            .as_ref()
            .map(|tenant| tenant.as_bytes().as_slice());
        let plugin = self.plugin.as_deref().map(str::as_bytes);
        for part in [
            Some(id.as_slice()),
            Some(self.name.as_bytes()),
            tenant,
            plugin,
        ] {
            // A length before each, and one that no text has where there is none.
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            aad.extend(length.to_be_bytes());
            aad.extend(part.unwrap_or_default());
        }
        Some(aad)
    }

    fn encrypt(&mut self, key: &SecretKey, plaintext: &str) {
        let nonce = pg::random_bytes::<24>();
        let aad = self.aad().unwrap_or_default();
        let message = Payload {
            msg: plaintext.as_bytes(),
            aad: &aad,
        };
        self.ciphertext = key
            .cipher()
            .encrypt(XNonce::from_slice(&nonce), message)
            .expect("a secret is far below the cipher's message limit");
        self.nonce = nonce.to_vec();
    }

    fn decrypt(&self, key: &SecretKey) -> Result<Zeroizing<String>> {
        let unreadable = || Error::SecretUnreadable(self.name.clone());
        let aad = self.aad().filter(|_| self.nonce.len() == 24);
        let message = Payload {
            msg: &self.ciphertext,
            aad: &aad.ok_or_else(unreadable)?,
        };
        let decrypted = key
            .cipher()
            .decrypt(XNonce::from_slice(&self.nonce), message);
        match String::from_utf8(decrypted.map_err(|_| unreadable())?) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(error) => {
                error.into_bytes().zeroize();
                Err(unreadable().into())
            }
        }
    }
}

/// Whether the catalogs are those of a version that binds secrets: the library may be newer than they are.
fn binds() -> bool {
    pg::one::<bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
                        WHERE attrelid = 'plugin_webhooks.secrets'::pg_catalog.regclass AND attname = 'aad_version')",
        &[],
    ) == Some(true)
}

/// The row whose `column`, a unique one, has this value.
fn row(column: &str, value: DatumWithOid<'_>) -> Option<Row> {
    // The inner names are the table's columns where it has them, else those of the outer row.
    let sql = format!(
        "SELECT s.*
         FROM (SELECT {ID_ALONE}::int2 AS aad_version, NULL::uuid AS tenant_id, NULL::text AS plugin_key) AS b
         CROSS JOIN LATERAL (SELECT {COLUMNS} FROM plugin_webhooks.secrets WHERE {column} = $1) AS s"
    );
    tables::SECRETS.one_row(&sql, &[value], Row::read).flatten()
}

/// The secret of this name, or `None`.
pub fn find(name: &str) -> Result<Option<Secret>> {
    let Some(row) = row("name", name.into()) else {
        return Ok(None);
    };
    let key = key_file::existing()?;
    let plaintext = row.decrypt(&key)?;
    Ok(Some(Secret::new(plaintext, row.tenant, row.plugin)))
}

/// A secret that deliveries can be signed with.
fn new_plaintext(secret: &str) -> Result<&str> {
    if secret.is_empty() {
        return Err(Error::Required("new_secret").into());
    }
    signing_key::check(secret).map_err(Error::NoSigningKey)?;
    Ok(secret)
}

/// A trimmed name, no longer than one that an installation may refer to.
fn secret_name(new_name: Option<&str>) -> Result<&str> {
    let name = required_text("new_name", new_name)?.trim();
    if name.chars().count() > SECRET_REF_CHARACTERS {
        return Err(Error::TooLarge {
            name: "new_name",
            most: format!("{SECRET_REF_CHARACTERS} characters"),
        }
        .into());
    }
    Ok(name)
}

fn any_exist() -> bool {
    tables::SECRETS
        .one::<Uuid>("SELECT id FROM plugin_webhooks.secrets LIMIT 1", &[])
        .is_some()
}

/// The query text of these functions may hold a secret: hide it from pg_stat_activity and from
/// the STATEMENT line of an error.
fn hide_query() {
    pg::hide_query(c"plugin_webhooks: a call that carries a secret (hidden)");
}

/// Stores a secret; of a tenant or a plugin, for their installations alone.
pub fn create(
    new_secret: Option<&str>,
    new_name: Option<&str>,
    new_description: Option<&str>,
    new_tenant_id: Option<Uuid>,
    new_plugin_key: Option<&str>,
) -> Result<Option<Uuid>> {
    hide_query();
    let secret = new_plaintext(required("new_secret", new_secret)?)?;
    let name = secret_name(new_name)?;
    let plugin = match new_plugin_key {
        Some(key) => Some(required_text("new_plugin_key", Some(key))?.trim()),
        None => None,
    };
    let key = key_file::existing_or_new(any_exist)?;
    let id = required(
        "id",
        pg::one::<Uuid>("SELECT pg_catalog.gen_random_uuid()", &[]),
    )?;
    let mut row = Row {
        id,
        name: name.to_owned(),
        tenant: new_tenant_id,
        plugin: plugin.map(str::to_owned),
        aad_version: if binds() { WHOLE_ROW } else { ID_ALONE },
        nonce: Vec::new(),
        ciphertext: Vec::new(),
    };
    row.encrypt(&key, secret);
    let mut args = vec![
        id.into(),
        name.into(),
        new_description.unwrap_or_default().into(),
        key.id.as_str().into(),
        row.nonce.into(),
        row.ciphertext.into(),
    ];
    let sql = if row.aad_version == ID_ALONE {
        "INSERT INTO plugin_webhooks.secrets (id, name, description, key_id, nonce, ciphertext)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING RETURNING id"
    } else {
        args.extend([row.aad_version.into(), row.tenant.into(), row.plugin.into()]);
        "INSERT INTO plugin_webhooks.secrets
             (id, name, description, key_id, nonce, ciphertext, aad_version, tenant_id, plugin_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO NOTHING RETURNING id"
    };
    // PostgreSQL's own error would repeat the whole name.
    let stored = tables::SECRETS.write_returning::<Uuid>(sql, &args);
    Ok(Some(
        stored.ok_or_else(|| Error::SecretExists(name.to_owned()))?,
    ))
}

#[pg_extern(sql = false)]
fn create_bound_secret(
    new_secret: Option<&str>,
    new_name: Option<&str>,
    new_description: Option<&str>,
    new_tenant_id: Option<Uuid>,
    new_plugin_key: Option<&str>,
) -> Result<Option<Uuid>> {
    create(
        new_secret,
        new_name,
        new_description,
        new_tenant_id,
        new_plugin_key,
    )
}

#[pg_extern(sql = false)]
fn update_secret(
    secret_id: Option<Uuid>,
    new_secret: Option<&str>,
    new_name: Option<&str>,
    new_description: Option<&str>,
) -> Result<()> {
    hide_query();
    let id = required("secret_id", secret_id)?;
    let new_secret = new_secret.map(new_plaintext).transpose()?;
    let name = match new_name {
        Some(name) => Some(secret_name(Some(name))?),
        None => None,
    };
    let binds = binds();
    // Locked: nobody else changes what is read here.
    let changed = tables::SECRETS.write(
        "UPDATE plugin_webhooks.secrets SET
             description = coalesce($2, description), updated_at = pg_catalog.now()
         WHERE id = $1",
        &[id.into(), new_description.into()],
    );
    if changed == 0 {
        return Err(Error::Unknown("secret").into());
    }
    let mut row =
        pg::with_latest_snapshot(|| row("id", id.into())).ok_or(Error::Unknown("secret"))?;
    let renamed = name.filter(|name| *name != row.name);
    if new_secret.is_none() && renamed.is_none() {
        return Ok(());
    }
    if let Some(name) = renamed
        && pg::with_latest_snapshot(|| self::row("name", name.into())).is_some()
    {
        return Err(Error::SecretExists(name.to_owned()).into());
    }
    if !binds && new_secret.is_none() {
        tables::SECRETS.write(
            "UPDATE plugin_webhooks.secrets SET name = $2 WHERE id = $1",
            &[id.into(), name.into()],
        );
        return Ok(());
    }
    // The name is a part of what is authenticated.
    let key = key_file::existing()?;
    let kept = match new_secret {
        Some(_) => None,
        None => Some(row.decrypt(&key)?),
    };
    if let Some(name) = renamed {
        row.name = name.to_owned();
    }
    if binds {
        row.aad_version = WHOLE_ROW;
    }
    row.encrypt(
        &key,
        new_secret
            .or(kept.as_ref().map(|text| text.as_str()))
            .unwrap_or_default(),
    );
    let mut args = vec![
        id.into(),
        row.name.into(),
        key.id.as_str().into(),
        row.nonce.into(),
        row.ciphertext.into(),
    ];
    let sql = if binds {
        args.push(row.aad_version.into());
        "UPDATE plugin_webhooks.secrets
         SET name = $2, key_id = $3, nonce = $4, ciphertext = $5, aad_version = $6 WHERE id = $1"
    } else {
        "UPDATE plugin_webhooks.secrets SET name = $2, key_id = $3, nonce = $4, ciphertext = $5 WHERE id = $1"
    };
    tables::SECRETS.write(sql, &args);
    Ok(())
}

#[pg_extern(sql = false)]
fn delete_secret(secret_id: Option<Uuid>) -> Result<()> {
    let id = required("secret_id", secret_id)?;
    let deleted = tables::SECRETS.write(
        "DELETE FROM plugin_webhooks.secrets WHERE id = $1",
        &[id.into()],
    );
    if deleted == 0 {
        return Err(Error::Unknown("secret").into());
    }
    Ok(())
}
