-- Ids of partners' calls: each runs once at its installation, and is answered again. No foreign key: it would lock
-- the installation before the action locks the host's rows.

CREATE TABLE IF NOT EXISTS plugin_webhooks.inbound_ids (
    plugin_installation_id uuid NOT NULL,
    -- A collation of the operating system may change under the index.
    id                     text COLLATE pg_catalog."C" NOT NULL,
    answer                 jsonb,
    -- When the call came: its timestamp was checked then, however long its transaction had been open.
    created_at             timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (plugin_installation_id, id),
    CONSTRAINT inbound_ids_id_check CHECK (pg_catalog.length(id) BETWEEN 1 AND 200)
);
COMMENT ON TABLE plugin_webhooks.inbound_ids IS
    'One row a call of a partner that carried an id, kept for plugin_webhooks.retain_inbound_ids or until the '
    'installation is deleted: the same id is not run again.';
COMMENT ON COLUMN plugin_webhooks.inbound_ids.id IS 'The member id of the payload.';
COMMENT ON COLUMN plugin_webhooks.inbound_ids.answer IS
    'What the call was answered, and later calls with this id are. Null only inside the transaction that runs it.';
CREATE INDEX IF NOT EXISTS inbound_ids_created_at_idx ON plugin_webhooks.inbound_ids (created_at);
ALTER TABLE plugin_webhooks.inbound_ids ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.inbound_ids', '');

CREATE OR REPLACE TRIGGER plugin_installations_forget_inbound_ids
    AFTER DELETE ON int.plugin_installations
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.follow_host(
        'plugin_webhooks', 'inbound_ids', 'plugin_installation_id', 'id', 'CASCADE');
