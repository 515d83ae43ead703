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
    tenant_id   uuid,
    plugin_key  text,
    aad_version smallint NOT NULL DEFAULT 1,
    CONSTRAINT secrets_binding_check CHECK (aad_version = 2 OR tenant_id IS NULL AND plugin_key IS NULL),
    CONSTRAINT secrets_name_check CHECK (name <> ''),
    CONSTRAINT secrets_nonce_check CHECK (pg_catalog.octet_length(nonce) = 24)
);
-- Of a table that was there before. Its rows, and those of its dumps, are of AAD version 1.
ALTER TABLE plugin_webhooks.secrets
    ADD COLUMN IF NOT EXISTS tenant_id uuid,
    ADD COLUMN IF NOT EXISTS plugin_key text,
    ADD COLUMN IF NOT EXISTS aad_version smallint NOT NULL DEFAULT 1;
COMMENT ON TABLE plugin_webhooks.secrets IS
    'Embedded secret store, used where vault.decrypted_secrets does not exist. XChaCha20-Poly1305; the key is in the '
    'file plugin_webhooks.secret_key_file.';
COMMENT ON COLUMN plugin_webhooks.secrets.key_id IS 'Which key encrypted it: first 16 hex digits of a hash of the key.';
COMMENT ON COLUMN plugin_webhooks.secrets.tenant_id IS 'Whose installations may use it; null: every tenant''s.';
COMMENT ON COLUMN plugin_webhooks.secrets.plugin_key IS 'Installations of which plugin may use it; null: of any.';
COMMENT ON COLUMN plugin_webhooks.secrets.aad_version IS
    'What is authenticated with the secret: 1 its id (up to 0.2.0), 2 id, name, tenant_id and plugin_key.';
ALTER TABLE plugin_webhooks.secrets ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.secrets', '');

CREATE OR REPLACE FUNCTION plugin_webhooks.stored_secrets()
    RETURNS TABLE (id uuid, name text, description text, key_id text, created_at timestamptz, updated_at timestamptz,
                   tenant_id uuid, plugin_key text)
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'stored_secrets_wrapper';
COMMENT ON FUNCTION plugin_webhooks.stored_secrets() IS
    'Reads plugin_webhooks.secrets for plugin_webhooks.secret_names, as its owner. Executable by the owner only.';

CREATE OR REPLACE VIEW plugin_webhooks.secret_names WITH (security_invoker = true) AS
SELECT s.id, s.name, s.description, s.key_id, s.created_at, s.updated_at, s.tenant_id, s.plugin_key
FROM plugin_webhooks.stored_secrets() AS s;
COMMENT ON VIEW plugin_webhooks.secret_names IS 'The embedded secrets without their values.';

-- Of versions 0.1.0 and 0.2.0: with both, a call with three arguments would be ambiguous.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_depend AS d
               JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
               WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e'
                 AND d.objid = pg_catalog.to_regprocedure('plugin_webhooks.create_secret(text,text,text)')) THEN
        DROP FUNCTION plugin_webhooks.create_secret(text, text, text);
        -- What was granted on it is granted on the next one.
        UPDATE plugin_webhooks.taking_over AS t
        SET statement = pg_catalog.replace(t.statement, 'create_secret(text,text,text)',
                                           'create_secret(text,text,text,uuid,text)')
        WHERE t.note = 'grant';
    END IF;
END
$$;
CREATE OR REPLACE FUNCTION plugin_webhooks.create_secret(
    new_secret text, new_name text, new_description text DEFAULT '',
    new_tenant_id uuid DEFAULT NULL, new_plugin_key text DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'create_bound_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.create_secret(text, text, text, uuid, text) IS
    'Stores a secret under a unique name in the embedded store and returns its id. With a tenant or a plugin, only '
    'their installations may use it. Creates the key file when there is neither key nor secret yet. Raises 23514 (null '
    'or blank), 22023 (begins with whsec_ without base64 after it), 23505 (name taken), 55000 (key file missing, '
    'unreadable, of wrong form or open to other users).';

CREATE OR REPLACE FUNCTION plugin_webhooks.update_secret(
    secret_id uuid, new_secret text DEFAULT NULL, new_name text DEFAULT NULL, new_description text DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'update_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.update_secret(uuid, text, text, text) IS
    'Changes a secret, its name or its description; null keeps the old value. Raises P0001 (unknown id), 23514 '
    '(blank), 22023 (begins with whsec_ without base64 after it), 23505 (name taken), 55000 (key file).';

CREATE OR REPLACE FUNCTION plugin_webhooks.delete_secret(secret_id uuid) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'delete_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.delete_secret(uuid) IS 'Deletes a secret. Raises P0001 (unknown id), 23514 (null).';

CREATE OR REPLACE FUNCTION plugin_webhooks.receiver_secret(name text) RETURNS text
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'receiver_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.receiver_secret(text) IS
    'A secret by its name, in the form that the libraries of Standard Webhooks take: whsec_ and base64 of the key. '
    'Paste it into a receiver. Raises 23514 (null or blank), P0001 (unknown name), 22023 (begins with whsec_ without '
    'base64 after it), 55000 (key file). Executable by the owner only.';

CREATE OR REPLACE FUNCTION int.resolve_installation_signing_secret(p_installation_id uuid) RETURNS text
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'resolve_installation_signing_secret_wrapper';
COMMENT ON FUNCTION int.resolve_installation_signing_secret(uuid) IS
    'The plaintext of an installation''s signing secret, or null. Executable by the owner only, a superuser: not by '
    'the owner of a system that was taken over, and by nobody whom he granted it to.';

CREATE OR REPLACE FUNCTION plugin_webhooks.secret_name_is_allowed(
    secret_name text, tenant_id uuid, plugin_key text
) RETURNS boolean
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'secret_name_is_allowed_wrapper';
COMMENT ON FUNCTION plugin_webhooks.secret_name_is_allowed(text, uuid, text) IS
    'Whether plugin_webhooks.allowed_secret_names lets an installation of this plugin in this tenant refer to a secret '
    'of this name. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.secret_refs()
    RETURNS TABLE (tenant_id uuid, installation_id uuid, plugin_key text, status text, secret_ref text)
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'secret_refs_wrapper';
COMMENT ON FUNCTION plugin_webhooks.secret_refs() IS
    'Reads which installation refers to which secret for plugin_webhooks.refused_secret_refs, as the owner of the '
    'installations. Executable by the owner only.';

CREATE OR REPLACE VIEW plugin_webhooks.refused_secret_refs WITH (security_invoker = true) AS
SELECT i.tenant_id, i.installation_id, i.plugin_key, i.status, i.secret_ref,
       CASE WHEN a.allowed THEN 'the secret is another tenant''s or plugin''s'
            ELSE 'not in plugin_webhooks.allowed_secret_names' END AS reason
FROM plugin_webhooks.secret_refs() AS i
LEFT JOIN plugin_webhooks.secret_names AS s ON s.name OPERATOR(pg_catalog.=) i.secret_ref
CROSS JOIN LATERAL (
    SELECT plugin_webhooks.secret_name_is_allowed(i.secret_ref, i.tenant_id, i.plugin_key) AS allowed
) AS a
WHERE NOT a.allowed
   OR s.tenant_id OPERATOR(pg_catalog.<>) i.tenant_id
   OR s.plugin_key OPERATOR(pg_catalog.<>) i.plugin_key;
COMMENT ON VIEW plugin_webhooks.refused_secret_refs IS
    'Installations whose secret_ref names a secret that they may not use: their deliveries fail and calls from their '
    'partners are refused. Look here before and after plugin_webhooks.allowed_secret_names changes.';
