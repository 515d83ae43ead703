//! The embedded store: `plugin_webhooks.secrets` is read and written here and nowhere else. No
//! plaintext is ever stored, and no function but `find` gives one back.

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Payload};
use pgrx::Uuid;
use pgrx::prelude::*;
use zeroize::{Zeroize, Zeroizing};

use super::key_file::{self, SecretKey};
use crate::error::{Error, Result, required, required_text};
use crate::pg;
use crate::tables;

/// The secret of this name, or `None`.
pub fn find(name: &str) -> Result<Option<Zeroizing<String>>> {
    let row = pg::as_owner_of(tables::SECRETS, || {
        pg::one_row(
            "SELECT id, nonce, ciphertext FROM plugin_webhooks.secrets WHERE name = $1",
            &[name.into()],
            |row| row.get_three::<Uuid, Vec<u8>, Vec<u8>>(),
        )
    });
    let Some((Some(id), Some(nonce), Some(ciphertext))) = row else {
        return Ok(None);
    };
    let key = key_file::existing()?;
    match decrypt(&key, id, &nonce, &ciphertext) {
        Some(plaintext) => Ok(Some(plaintext)),
        None => Err(Error::SecretUnreadable(name.into()).into()),
    }
}

/// The row's id is authenticated with the secret: a ciphertext cannot move to another row.
fn encrypt(key: &SecretKey, id: Uuid, plaintext: &str) -> (Vec<u8>, Vec<u8>) {
    let nonce = pg::random_bytes::<24>();
    let message = Payload {
        msg: plaintext.as_bytes(),
        aad: id.as_bytes(),
    };
    let ciphertext = key
        .cipher()
        .encrypt(XNonce::from_slice(&nonce), message)
        .expect("a secret is far below the cipher's message limit");
    (nonce.to_vec(), ciphertext)
}

fn decrypt(
    key: &SecretKey,
    id: Uuid,
    nonce: &[u8],
    ciphertext: &[u8],
) -> Option<Zeroizing<String>> {
    if nonce.len() != 24 {
        return None;
    }
    let message = Payload {
        msg: ciphertext,
        aad: id.as_bytes(),
    };
    let bytes = key
        .cipher()
        .decrypt(XNonce::from_slice(nonce), message)
        .ok()?;
    match String::from_utf8(bytes) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    }
}

fn any_exist() -> bool {
    pg::one::<Uuid>("SELECT id FROM plugin_webhooks.secrets LIMIT 1", &[]).is_some()
}

/// The query text of these functions may hold a secret: hide it from pg_stat_activity and from
/// the STATEMENT line of an error.
fn hide_query() {
    pg::hide_query(c"plugin_webhooks: a call that carries a secret (hidden)");
}

#[pg_extern(sql = false)]
fn create_secret(
    new_secret: Option<&str>,
    new_name: Option<&str>,
    new_description: Option<&str>,
) -> Result<Option<Uuid>> {
    hide_query();
    let secret = required("new_secret", new_secret)?;
    if secret.is_empty() {
        return Err(Error::Required("new_secret").into());
    }
    let name = required_text("new_name", new_name)?;
    let key = key_file::existing_or_new(any_exist)?;
    let id = required(
        "id",
        pg::one::<Uuid>("SELECT pg_catalog.gen_random_uuid()", &[]),
    )?;
    let (nonce, ciphertext) = encrypt(&key, id, secret);
    Ok(pg::write_returning::<Uuid>(
        "INSERT INTO plugin_webhooks.secrets (id, name, description, key_id, nonce, ciphertext)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        &[
            id.into(),
            name.into(),
            new_description.unwrap_or_default().into(),
            key.id.as_str().into(),
            nonce.into(),
            ciphertext.into(),
        ],
    ))
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
    if new_secret.is_some_and(str::is_empty) {
        return Err(Error::Required("new_secret").into());
    }
    let name = match new_name {
        Some(name) => Some(required_text("new_name", Some(name))?),
        None => None,
    };
    let changed = pg::write(
        "UPDATE plugin_webhooks.secrets SET
             name = coalesce($2, name), description = coalesce($3, description),
             updated_at = pg_catalog.now()
         WHERE id = $1",
        &[id.into(), name.into(), new_description.into()],
    );
    if changed == 0 {
        return Err(Error::Unknown("secret").into());
    }
    if let Some(secret) = new_secret {
        let key = key_file::existing()?;
        let (nonce, ciphertext) = encrypt(&key, id, secret);
        pg::write(
            "UPDATE plugin_webhooks.secrets SET key_id = $2, nonce = $3, ciphertext = $4 WHERE id = $1",
            &[
                id.into(),
                key.id.as_str().into(),
                nonce.into(),
                ciphertext.into(),
            ],
        );
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn delete_secret(secret_id: Option<Uuid>) -> Result<()> {
    let id = required("secret_id", secret_id)?;
    let deleted = pg::write(
        "DELETE FROM plugin_webhooks.secrets WHERE id = $1",
        &[id.into()],
    );
    if deleted == 0 {
        return Err(Error::Unknown("secret").into());
    }
    Ok(())
}
