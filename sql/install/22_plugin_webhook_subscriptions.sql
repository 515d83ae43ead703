-- Subscriptions: the changes that an installation hears of.

CREATE TABLE IF NOT EXISTS int.plugin_webhook_subscriptions (
    id                       uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    plugin_installation_id   uuid NOT NULL REFERENCES int.plugin_installations (id) ON DELETE CASCADE,
    table_schema             text NOT NULL,
    table_name               text NOT NULL,
    operations               text[] NOT NULL,
    changed_fields_allowlist text[],
    include_payload          boolean NOT NULL DEFAULT false,
    created_at               timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at               timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT plugin_webhook_subscriptions_operations_check
        CHECK (pg_catalog.cardinality(operations) > 0
               AND operations <@ ARRAY['INSERT', 'UPDATE', 'DELETE']::text[]),
    -- As those of the installations.
    CONSTRAINT plugin_webhook_subscriptions_table_size_check CHECK (
        updated_at < pg_catalog.now()
        OR pg_catalog.octet_length(table_schema) <= 63 AND pg_catalog.octet_length(table_name) <= 63),
    -- The type name cuts off what is longer than 63 bytes.
    CONSTRAINT plugin_webhook_subscriptions_allowlist_size_check CHECK (
        updated_at < pg_catalog.now()
        OR pg_catalog.cardinality(changed_fields_allowlist) <= 1600
           AND changed_fields_allowlist = changed_fields_allowlist::name[]::text[]),
    CONSTRAINT plugin_webhook_subscriptions_installation_table_key
        UNIQUE (plugin_installation_id, table_schema, table_name)
);
COMMENT ON TABLE int.plugin_webhook_subscriptions IS 'Which changes of which table an installation hears of.';
COMMENT ON COLUMN int.plugin_webhook_subscriptions.operations IS 'Non-empty subset of INSERT, UPDATE, DELETE.';
COMMENT ON COLUMN int.plugin_webhook_subscriptions.changed_fields_allowlist IS
    'For UPDATE: at least one changed column must be in it. Null or empty: every update. At most 1600 names.';
COMMENT ON COLUMN int.plugin_webhook_subscriptions.include_payload IS
    'true: the delivery carries old_data and new_data. false: record_id and changed_fields only.';
ALTER TABLE int.plugin_webhook_subscriptions ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('int.plugin_webhook_subscriptions', '');

CREATE OR REPLACE TRIGGER plugin_webhook_subscriptions_references
    AFTER INSERT OR UPDATE OF plugin_installation_id ON int.plugin_webhook_subscriptions
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'plugin_installation_id', 'int', 'plugin_installations');

CREATE OR REPLACE TRIGGER plugin_webhook_subscriptions_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugin_webhook_subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugin_webhook_subscriptions
    ENABLE ALWAYS TRIGGER plugin_webhook_subscriptions_forget_subscriptions;

CREATE OR REPLACE TRIGGER plugin_webhook_subscriptions_note_change
    BEFORE UPDATE OF table_schema, table_name, operations, changed_fields_allowlist
    ON int.plugin_webhook_subscriptions
    FOR EACH ROW WHEN (NEW.updated_at < pg_catalog.now()) EXECUTE FUNCTION plugin_webhooks.note_change();
