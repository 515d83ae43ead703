-- The embedded secret store.

CREATE TABLE IF NOT EXISTS plugin_webhooks.secrets (
    id          uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    name        text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    key_id      text NOT NULL,
    nonce       bytea NOT NULL,
    ciphertext  bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT secrets_name_check CHECK (name <> ''),
    CONSTRAINT secrets_nonce_check CHECK (pg_catalog.octet_length(nonce) = 24)
);
COMMENT ON TABLE plugin_webhooks.secrets IS
    'Embedded secret store, used where vault.decrypted_secrets does not exist. XChaCha20-Poly1305; the key is in the '
    'file plugin_webhooks.secret_key_file.';
COMMENT ON COLUMN plugin_webhooks.secrets.key_id IS 'Which key encrypted it: first 16 hex digits of a hash of the key.';
ALTER TABLE plugin_webhooks.secrets ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.secrets', '');

CREATE OR REPLACE VIEW plugin_webhooks.secret_names WITH (security_invoker = true) AS
SELECT s.id, s.name, s.description, s.key_id, s.created_at, s.updated_at
FROM plugin_webhooks.secrets AS s;
COMMENT ON VIEW plugin_webhooks.secret_names IS 'The embedded secrets without their values.';

CREATE OR REPLACE FUNCTION plugin_webhooks.create_secret(
    new_secret text, new_name text, new_description text DEFAULT ''
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'create_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.create_secret(text, text, text) IS
    'Stores a secret under a unique name in the embedded store and returns its id. Creates the key file when there is '
    'neither key nor secret yet. Raises 23514 (null or blank), 23505 (name taken), 55000 (key file missing, '
    'unreadable, of wrong form or open to other users).';

CREATE OR REPLACE FUNCTION plugin_webhooks.update_secret(
    secret_id uuid, new_secret text DEFAULT NULL, new_name text DEFAULT NULL, new_description text DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'update_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.update_secret(uuid, text, text, text) IS
    'Changes a secret, its name or its description; null keeps the old value. Raises P0001 (unknown id), 23514 '
    '(blank), 23505 (name taken), 55000 (key file).';

CREATE OR REPLACE FUNCTION plugin_webhooks.delete_secret(secret_id uuid) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'delete_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.delete_secret(uuid) IS 'Deletes a secret. Raises P0001 (unknown id), 23514 (null).';

CREATE OR REPLACE FUNCTION int.resolve_installation_signing_secret(p_installation_id uuid) RETURNS text
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'resolve_installation_signing_secret_wrapper';
COMMENT ON FUNCTION int.resolve_installation_signing_secret(uuid) IS
    'The plaintext of an installation''s signing secret, or null. Executable by the owner only; kept for databases '
    'whose own code calls it.';
