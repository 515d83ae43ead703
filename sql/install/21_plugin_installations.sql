-- Installations: one plugin of one tenant.

CREATE TABLE IF NOT EXISTS int.plugin_installations (
    id           uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    tenant_id    uuid NOT NULL,
    plugin_id    uuid NOT NULL REFERENCES int.plugins (id) ON DELETE CASCADE,
    status       text NOT NULL DEFAULT 'installed',
    secret_ref   text,
    config       jsonb,
    installed_by uuid,
    installed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT plugin_installations_status_check
        CHECK (status IN ('installed', 'disabled', 'uninstalled')),
    -- A row that was last changed in an earlier transaction may be older than the limits: it stays, and a dump
    -- restores it.
    CONSTRAINT plugin_installations_secret_ref_size_check CHECK (
        updated_at < pg_catalog.now()
        OR pg_catalog.octet_length(secret_ref) <= 800 AND pg_catalog.length(secret_ref) <= 200),
    CONSTRAINT plugin_installations_config_size_check CHECK (
        updated_at < pg_catalog.now()
        OR pg_catalog.pg_column_size(config) <= 524288 AND pg_catalog.octet_length(config::text) <= 65536),
    CONSTRAINT plugin_installations_webhook_url_size_check CHECK (
        updated_at < pg_catalog.now() OR pg_catalog.length(config ->> 'webhook_url') <= 2048),
    CONSTRAINT plugin_installations_tenant_id_plugin_id_key UNIQUE (tenant_id, plugin_id)
);
COMMENT ON TABLE int.plugin_installations IS
    'One plugin of one tenant: where its deliveries go and which secret signs them.';
COMMENT ON COLUMN int.plugin_installations.status IS
    'installed: delivers. disabled, uninstalled: enqueues and sends nothing.';
COMMENT ON COLUMN int.plugin_installations.secret_ref IS
    'Name of the signing secret in Vault or in the embedded store, at most 200 characters; never the secret itself.';
COMMENT ON COLUMN int.plugin_installations.config IS
    'webhook_url (http or https), headers (object of strings), timeout_ms (1000 to 120000, default 15000), '
    'retry_schedule (seconds after each failed attempt); other keys are the plugin''s own. At most 65536 bytes as '
    'text.';
COMMENT ON COLUMN int.plugin_installations.installed_by IS 'The user who installed it; null for an operator.';
CREATE INDEX IF NOT EXISTS plugin_installations_plugin_id_idx ON int.plugin_installations (plugin_id);
ALTER TABLE int.plugin_installations ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('int.plugin_installations', '');

-- The host's tenants and users, where it has such tables. A dump does not carry these: 50_references.sql has what does.
-- Rows are checked in 99_finish.sql. A cascade fires triggers of our table with the rights of whoever deletes the
-- host's row: so there is none where our owner is somebody whom the host's owner has not let have one.
DO $$
BEGIN
    IF EXISTS (SELECT FROM plugin_webhooks.host_objects AS h WHERE h.object = 'app.tenants' AND h.status = 'bound')
       AND EXISTS (SELECT FROM plugin_webhooks.taking_over AS t WHERE t.note = 'owner'
                   AND (t.object = 'plugin_webhooks_owner'
                        OR pg_catalog.has_table_privilege(t.object, 'app.tenants', 'REFERENCES')))
       AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
        WHERE c.conrelid = 'int.plugin_installations'::regclass AND a.attname = 'tenant_id'
          AND c.confrelid = pg_catalog.to_regclass('app.tenants') AND c.contype = 'f')
    THEN
        ALTER TABLE int.plugin_installations ADD CONSTRAINT plugin_installations_tenant_id_fkey
            FOREIGN KEY (tenant_id) REFERENCES app.tenants (id) ON DELETE CASCADE NOT VALID;
    END IF;
    IF EXISTS (SELECT FROM plugin_webhooks.host_objects AS h WHERE h.object = 'auth.users' AND h.status = 'bound')
       AND EXISTS (SELECT FROM plugin_webhooks.taking_over AS t WHERE t.note = 'owner'
                   AND (t.object = 'plugin_webhooks_owner'
                        OR pg_catalog.has_table_privilege(t.object, 'auth.users', 'REFERENCES')))
       AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
        WHERE c.conrelid = 'int.plugin_installations'::regclass AND a.attname = 'installed_by'
          AND c.confrelid = pg_catalog.to_regclass('auth.users') AND c.contype = 'f')
    THEN
        ALTER TABLE int.plugin_installations ADD CONSTRAINT plugin_installations_installed_by_fkey
            FOREIGN KEY (installed_by) REFERENCES auth.users (id) ON DELETE SET NULL NOT VALID;
    END IF;
END
$$;

CREATE OR REPLACE TRIGGER plugin_installations_references
    AFTER INSERT OR UPDATE OF tenant_id, plugin_id, installed_by ON int.plugin_installations
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'tenant_id', 'app', 'tenants', 'installed_by', 'auth', 'users', 'plugin_id', 'int', 'plugins');

-- Audited, without the rows of a dump.
CREATE OR REPLACE TRIGGER plugin_installations_audit_changes
    AFTER UPDATE OR DELETE ON int.plugin_installations
    FOR EACH ROW EXECUTE FUNCTION audit.log_entity_change();
CREATE OR REPLACE TRIGGER plugin_installations_audit_inserts
    AFTER INSERT ON int.plugin_installations
    FOR EACH ROW WHEN (NEW.installed_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION audit.log_entity_change();

-- The plugins may have come with a seed, in a session that fires no triggers.
CREATE OR REPLACE TRIGGER plugin_installations_adopt
    AFTER INSERT ON int.plugin_installations
    FOR EACH ROW WHEN (NEW.installed_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION plugin_webhooks.adopt();

CREATE OR REPLACE TRIGGER plugin_installations_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugin_installations
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugin_installations ENABLE ALWAYS TRIGGER plugin_installations_forget_subscriptions;

CREATE OR REPLACE TRIGGER plugin_installations_note_change
    BEFORE UPDATE OF secret_ref, config ON int.plugin_installations
    FOR EACH ROW WHEN (NEW.updated_at < pg_catalog.now()) EXECUTE FUNCTION plugin_webhooks.note_change();

-- What is beyond a limit since before there was one, and stays as it is, keeps nothing else from being changed. Its
-- name makes it the last one to say what updated_at is.
CREATE OR REPLACE TRIGGER zz_plugin_installations_spare_old_sizes
    BEFORE UPDATE ON int.plugin_installations
    FOR EACH ROW WHEN (
        NEW.updated_at >= pg_catalog.now()
        AND (pg_catalog.length(OLD.secret_ref) > 200
             OR pg_catalog.pg_column_size(OLD.config) > 524288
             OR pg_catalog.octet_length(OLD.config::text) > 65536
             OR pg_catalog.length(OLD.config ->> 'webhook_url') > 2048)
        AND (NEW.secret_ref IS NOT DISTINCT FROM OLD.secret_ref
             OR coalesce(pg_catalog.length(NEW.secret_ref), 0) <= 200)
        AND (NEW.config IS NOT DISTINCT FROM OLD.config
             OR coalesce(pg_catalog.pg_column_size(NEW.config), 0) <= 524288
                AND coalesce(pg_catalog.octet_length(NEW.config::text), 0) <= 65536
                AND coalesce(pg_catalog.length(NEW.config ->> 'webhook_url'), 0) <= 2048))
    EXECUTE FUNCTION plugin_webhooks.note_change('1 microsecond');
