-- Which place the data is active in. No role of the interface reads it, nor the tables that follow.

CREATE TABLE IF NOT EXISTS plugin_webhooks.instance (
    system_identifier text NOT NULL,
    database_oid      bigint NOT NULL,
    extension_oid     bigint NOT NULL,
    site              text NOT NULL,
    since             timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE plugin_webhooks.instance IS
    'The active instance of this data. A dump carries the row along: where it does not describe the place it is in, '
    'nothing is sent until plugin_webhooks.resume().';
COMMENT ON COLUMN plugin_webhooks.instance.system_identifier IS 'The cluster, as pg_control_system() names it.';
COMMENT ON COLUMN plugin_webhooks.instance.extension_oid IS
    'Oid of this CREATE EXTENSION: another one after a restore into the same database.';
COMMENT ON COLUMN plugin_webhooks.instance.site IS 'plugin_webhooks.site at that time: tells physical copies apart.';
ALTER TABLE plugin_webhooks.instance ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.instance', '');
