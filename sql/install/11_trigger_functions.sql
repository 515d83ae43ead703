-- What the triggers of the tables below, and of audited tables, call.

CREATE OR REPLACE FUNCTION audit.log_entity_change() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'log_entity_change_wrapper';
COMMENT ON FUNCTION audit.log_entity_change() IS
    'Trigger function for any table with a column id: writes one row to audit.entity_changes for each changed row. '
    'Attach it with audit.track(). Fired AFTER INSERT, UPDATE or DELETE, FOR EACH ROW, or FOR EACH STATEMENT with '
    'transition tables on a table that is not partitioned. Arguments name columns that are left out. Raises 42703 for '
    'a table without id or without a column that it leaves out, 39P01 when fired in another way.';

CREATE OR REPLACE FUNCTION int.enqueue_plugin_events_from_audit() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'enqueue_plugin_events_from_audit_wrapper';
COMMENT ON FUNCTION int.enqueue_plugin_events_from_audit() IS
    'Trigger function of audit.entity_changes, AFTER INSERT FOR EACH STATEMENT with transition table inserted, or FOR '
    'EACH ROW: inserts one delivery for each matching subscription of an installed plugin, in the same transaction. '
    'Raises 39P01 when fired in another way. audit.log_entity_change() does the same itself where this trigger is '
    'enabled.';

CREATE OR REPLACE FUNCTION int.forget_subscriptions() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'forget_subscriptions_wrapper';
COMMENT ON FUNCTION int.forget_subscriptions() IS
    'Trigger function of tables that sessions remember, those of subscriptions and of the bound objects of the host: '
    'at commit, lets every session read them again.';

CREATE OR REPLACE FUNCTION plugin_webhooks.adopt() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'adopt_wrapper';
COMMENT ON FUNCTION plugin_webhooks.adopt() IS
    'Trigger function of int.plugins and int.plugin_installations: the first row of a database without deliveries '
    'makes it the active instance of the data.';

CREATE OR REPLACE FUNCTION plugin_webhooks.note_change() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    NEW.updated_at := pg_catalog.now() - coalesce(TG_ARGV[0], '0')::interval;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.note_change() IS
    'Trigger function: a row whose limited columns are changed by hand is one that was changed now. CHECK constraints '
    'hold for such rows. With an argument, an interval: it was changed so long ago.';

CREATE OR REPLACE FUNCTION plugin_webhooks.forget_claim() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    NEW.claim_id := NULL;
    NEW.lease_expires_at := NULL;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.forget_claim() IS
    'Trigger function of int.plugin_delivery_queue: a row that is set to pending belongs to no claim.';

-- Among the extension's tables foreign keys do exist, and pg_restore -j loads tables in any order: until the data
-- is active here they are not checked, and this stands in for them, except for rows that come from the dump.
CREATE OR REPLACE FUNCTION plugin_webhooks.check_references() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'check_references_wrapper';
COMMENT ON FUNCTION plugin_webhooks.check_references() IS
    'Trigger function ({column, schema, table} …): what the columns name must exist, where there is such a table. '
    'Raises 23503.';

CREATE OR REPLACE FUNCTION plugin_webhooks.follow_host() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'follow_host_wrapper';
COMMENT ON FUNCTION plugin_webhooks.follow_host() IS
    'Trigger function of a host table (schema, table, column, host column, CASCADE, SET NULL or NO ACTION): what a '
    'foreign key does when the host deletes a row, changes its key or truncates the table. Stands for a foreign key '
    'to int.plugin_installations, too. Raises 23503.';
