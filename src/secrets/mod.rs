//! A secret by its name: from Vault where `vault.decrypted_secrets` exists, else from the
//! embedded store, encrypted with a key that never enters the database.
//! Plaintext lives in memory that is wiped; it never reaches a log or an error.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use pgrx::Uuid;
use pgrx::prelude::*;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result, required, required_text};
use crate::{pg, settings};

/// Plaintext, wiped when dropped.
pub type Plaintext = Zeroizing<String>;

struct SecretKey {
    bytes: Zeroizing<[u8; 32]>,
    id: String,
}

impl SecretKey {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        // A keyed hash of a constant tells keys apart and nothing about them.
        let mut id = plugin_webhooks_core::signature::sign(&bytes[..], b"plugin_webhooks key id");
        id.truncate(16);
        Self { bytes, id }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(Key::from_slice(&self.bytes[..]))
    }
}

fn key_error(message: String, hint: &str) -> Error {
    Error::SecretKey {
        message,
        hint: hint.into(),
    }
}

/// Reads the key file; `None` when it does not exist.
fn read_key(path: &Path) -> std::result::Result<Option<SecretKey>, Error> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(key_error(
                format!("cannot read the key file {shown}: {error}"),
                "Make it readable for the server's operating system user.",
            ));
        }
    };
    if !metadata.is_file() {
        return Err(key_error(
            format!("the key file {shown} is not a file"),
            "Set plugin_webhooks.secret_key_file to the path of a file.",
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(key_error(
            format!("the key file {shown} is open to other users"),
            "chmod 600 it, and store new secrets if others may have read it.",
        ));
    }
    let text = Zeroizing::new(fs::read(path).map_err(|error| {
        key_error(
            format!("cannot read the key file {shown}: {error}"),
            "Make it readable for the server's operating system user.",
        )
    })?);
    let mut bytes = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(text.trim_ascii(), &mut bytes[..]).map_err(|_| {
        key_error(
            format!("the key file {shown} does not hold a key"),
            "It must hold 64 hex digits, for example from: openssl rand -hex 32",
        )
    })?;
    Ok(Some(SecretKey::new(bytes)))
}

/// Writes a new key file. Whoever comes first wins; the others read that key.
fn create_key(path: &Path) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    let bytes = Zeroizing::new(pg::random_bytes::<32>());
    let text = Zeroizing::new(hex::encode(&bytes[..]));
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    })();
    fs::remove_file(&draft).ok();
    written?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

const MISSING_HINT: &str = "Restore the file that belongs to the stored secrets, or delete the secrets and create them again.";

/// The key for reading what is stored.
fn existing_key() -> std::result::Result<SecretKey, Error> {
    let path = settings::secret_key_file();
    read_key(&path)?.ok_or_else(|| {
        key_error(
            format!("the key file {} does not exist", path.display()),
            MISSING_HINT,
        )
    })
}

/// The key for storing: made on first use, but never while secrets of a lost key are there.
fn storing_key() -> Result<SecretKey> {
    let path = settings::secret_key_file();
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    if pg::one::<Uuid>("SELECT id FROM plugin_webhooks.secrets LIMIT 1", &[]).is_some() {
        return Err(key_error(
            format!("the key file {} does not exist", path.display()),
            MISSING_HINT,
        )
        .into());
    }
    create_key(&path).map_err(|error| {
        key_error(
            format!("cannot create the key file {}: {error}", path.display()),
            "Create it yourself with mode 0600 and 64 hex digits, for example from: openssl rand -hex 32",
        )
    })?;
    Ok(existing_key()?)
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

fn decrypt(key: &SecretKey, id: Uuid, nonce: &[u8], ciphertext: &[u8]) -> Option<Plaintext> {
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

/// The query text of these functions may hold a secret: hide it from pg_stat_activity and from
/// the STATEMENT line of an error.
fn hide_query() {
    pg::hide_query(c"plugin_webhooks: a call that carries a secret (hidden)");
}

fn from_vault(name: &str) -> Option<Plaintext> {
    pg::as_owner_of(c"vault", c"decrypted_secrets", || {
        pg::one_row(
            "SELECT decrypted_secret::pg_catalog.text FROM vault.decrypted_secrets WHERE name = $1 LIMIT 1",
            &[name.into()],
            |row| Ok(pg::take_text(row)),
        )
        .flatten()
    })
}

fn from_store(name: &str) -> Result<Option<Plaintext>> {
    let row = pg::as_owner_of(c"plugin_webhooks", c"secrets", || {
        pg::one_row(
            "SELECT id, nonce, ciphertext FROM plugin_webhooks.secrets WHERE name = $1",
            &[name.into()],
            |row| row.get_three::<Uuid, Vec<u8>, Vec<u8>>(),
        )
    });
    let Some((Some(id), Some(nonce), Some(ciphertext))) = row else {
        return Ok(None);
    };
    let key = existing_key()?;
    match decrypt(&key, id, &nonce, &ciphertext) {
        Some(plaintext) => Ok(Some(plaintext)),
        None => Err(Error::SecretUnreadable(name.into()).into()),
    }
}

/// The secret of this name, or `None`. An empty secret counts as none.
pub fn by_name(name: &str) -> Result<Option<Plaintext>> {
    let found = if pg::relation(c"vault", c"decrypted_secrets").is_some() {
        from_vault(name)
    } else {
        from_store(name)?
    };
    Ok(found.filter(|secret| !secret.is_empty()))
}

/// The signing secret of an installation, or `None`.
pub fn of_installation(installation: Uuid) -> Result<Option<Plaintext>> {
    let name = pg::one::<String>(
        "SELECT secret_ref FROM int.plugin_installations WHERE id = $1",
        &[installation.into()],
    );
    match name {
        Some(name) => by_name(&name),
        None => Ok(None),
    }
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
    let key = storing_key()?;
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
        let key = existing_key()?;
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

#[pg_extern(sql = false)]
fn resolve_installation_signing_secret(p_installation_id: Option<Uuid>) -> Result<Option<String>> {
    let installation = required("p_installation_id", p_installation_id)?;
    Ok(of_installation(installation)?.map(|secret| secret.to_string()))
}
