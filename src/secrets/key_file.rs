//! The key of the embedded store: its file is read and checked here, and made when there is none. The
//! key never leaves the server's process and its file; nothing here reads a table.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305};
use plugin_webhooks_core::signature;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::{pg, settings};

/// The key of the embedded store, wiped when dropped.
pub struct SecretKey {
    bytes: Zeroizing<[u8; 32]>,
    /// Tells keys apart; stored beside what a key encrypts.
    pub id: String,
}

impl SecretKey {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        // A keyed hash of a constant tells keys apart and nothing about them.
        let mut id = signature::sign(&bytes[..], b"plugin_webhooks key id");
        id.truncate(16);
        Self { bytes, id }
    }

    pub fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(Key::from_slice(&self.bytes[..]))
    }
}

/// The key for reading what is stored.
pub fn existing() -> Result<SecretKey> {
    let path = settings::secret_key_file();
    Ok(read(&path)?.ok_or_else(|| missing(&path))?)
}

/// The key for storing: made on first use, but never while there are secrets of a key that is lost.
pub fn existing_or_new(secrets_exist: impl FnOnce() -> bool) -> Result<SecretKey> {
    let path = settings::secret_key_file();
    if let Some(key) = read(&path)? {
        return Ok(key);
    }
    if secrets_exist() {
        return Err(missing(&path).into());
    }
    create(&path).map_err(|error| {
        key_error(
            format!("cannot create the key file {}: {error}", path.display()),
            "Create it yourself with mode 0600 and 64 hex digits, for example from: openssl rand -hex 32",
        )
    })?;
    existing()
}

fn key_error(message: String, hint: &str) -> Error {
    Error::SecretKey {
        message,
        hint: hint.into(),
    }
}

fn missing(path: &Path) -> Error {
    key_error(
        format!("the key file {} does not exist", path.display()),
        "Restore the file that belongs to the stored secrets, or delete the secrets and create them again.",
    )
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    key_error(
        format!("cannot read the key file {}: {error}", path.display()),
        "Make it readable for the server's operating system user.",
    )
}

/// Reads the key file; `None` when it does not exist.
fn read(path: &Path) -> std::result::Result<Option<SecretKey>, Error> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
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
    let text = Zeroizing::new(fs::read(path).map_err(|error| unreadable(path, &error))?);
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
fn create(path: &Path) -> std::io::Result<()> {
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
