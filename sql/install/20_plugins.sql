-- The list of plugins. Row policies and grants of each table are in 90_grants.sql: their roles may not exist yet.

CREATE TABLE IF NOT EXISTS int.plugins (
    id             uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    key            text NOT NULL UNIQUE,
    name           text NOT NULL,
    description    text,
    is_integration boolean NOT NULL DEFAULT false,
    is_active      boolean NOT NULL DEFAULT true,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT plugins_key_check
        CHECK (key ~ '^[a-z0-9_]+$' AND pg_catalog.length(key) BETWEEN 2 AND 80)
);
COMMENT ON TABLE int.plugins IS
    'The list of plugins. Written by rpc_register_plugin, readable by every authenticated user.';
COMMENT ON COLUMN int.plugins.key IS 'Stable name: 2 to 80 characters of a-z, 0-9 and _.';
COMMENT ON COLUMN int.plugins.is_active IS 'An inactive plugin is hidden from v_plugins and refuses inbound calls.';
ALTER TABLE int.plugins ENABLE ROW LEVEL SECURITY;
-- The data is the user's: it travels with pg_dump.
SELECT pg_catalog.pg_extension_config_dump('int.plugins', '');

-- Audited. A row that is older than its transaction comes from a dump, whose audit log tells of it already.
CREATE OR REPLACE TRIGGER plugins_audit_changes
    AFTER UPDATE OR DELETE ON int.plugins
    FOR EACH ROW EXECUTE FUNCTION audit.log_entity_change();
CREATE OR REPLACE TRIGGER plugins_audit_inserts
    AFTER INSERT ON int.plugins
    FOR EACH ROW WHEN (NEW.created_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION audit.log_entity_change();

-- A row of a dump makes no place the active one.
CREATE OR REPLACE TRIGGER plugins_adopt
    AFTER INSERT ON int.plugins
    FOR EACH ROW WHEN (NEW.created_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION plugin_webhooks.adopt();

-- Always: also what a replication role writes has to be seen.
CREATE OR REPLACE TRIGGER plugins_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugins
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugins ENABLE ALWAYS TRIGGER plugins_forget_subscriptions;
