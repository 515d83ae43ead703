-- Change capture, and matching changes to subscriptions.

CREATE OR REPLACE FUNCTION audit.log_entity_change() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'log_entity_change_wrapper';
COMMENT ON FUNCTION audit.log_entity_change() IS
    'Trigger function for any table with a column id: writes one row to audit.entity_changes for each changed row. Attach it with audit.track(). Fired AFTER INSERT, UPDATE or DELETE, FOR EACH ROW, or FOR EACH STATEMENT with transition tables on a table that is not partitioned. Arguments name columns that are left out. Raises 42703 for a table without id or without a column that it leaves out, 39P01 when fired in another way.';

-- Of version 0.1.0.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_depend AS d
               JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
               WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e'
                 AND d.objid = pg_catalog.to_regprocedure('audit.track(regclass)')) THEN
        DROP FUNCTION audit.track(regclass);
    END IF;
END
$$;
CREATE OR REPLACE FUNCTION audit.track(p_table regclass, p_exclude text[] DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'track_except_wrapper';
COMMENT ON FUNCTION audit.track(regclass, text[]) IS
    'Attaches the audit triggers to a table, or replaces those of an earlier version. p_exclude: columns that are never written to the log; null keeps the list as it is. Runs with the caller''s rights: the table''s owner, with EXECUTE granted, or a superuser. Raises 42809 (not a table, a system table, or a list for a table whose triggers track() did not make), 42703 (no column id), 23514 (null, or a column that is not there or always recorded).';

CREATE OR REPLACE FUNCTION audit.untrack(p_table regclass) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'untrack_wrapper';
COMMENT ON FUNCTION audit.untrack(regclass) IS
    'Detaches every trigger that calls audit.log_entity_change() from a table; does nothing when there is none. Raises 23514 (null).';

CREATE OR REPLACE FUNCTION int.enqueue_plugin_events_from_audit() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'enqueue_plugin_events_from_audit_wrapper';
COMMENT ON FUNCTION int.enqueue_plugin_events_from_audit() IS
    'Trigger function of audit.entity_changes, AFTER INSERT FOR EACH STATEMENT with transition table inserted, or FOR EACH ROW: inserts one delivery for each matching subscription of an installed plugin, in the same transaction. Raises 39P01 when fired in another way. audit.log_entity_change() does the same itself where this trigger is enabled.';

-- Exactly one, whatever called the function before: a second one would enqueue twice.
DO $$
DECLARE
    enqueues record;
BEGIN
    FOR enqueues IN
        SELECT t.tgname FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = 'audit.entity_changes'::regclass AND NOT t.tgisinternal
          AND t.tgfoid = 'int.enqueue_plugin_events_from_audit()'::regprocedure
    LOOP
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON audit.entity_changes', enqueues.tgname);
    END LOOP;
END
$$;
CREATE TRIGGER entity_changes_plugin_enqueue_trigger
    AFTER INSERT ON audit.entity_changes
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION int.enqueue_plugin_events_from_audit();

CREATE OR REPLACE FUNCTION int.forget_subscriptions() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'forget_subscriptions_wrapper';
COMMENT ON FUNCTION int.forget_subscriptions() IS
    'Trigger function of the tables that subscriptions come from: at commit, lets every session read them again.';

-- Always: also what a replication role writes has to be seen.
CREATE OR REPLACE TRIGGER plugins_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugins
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugins ENABLE ALWAYS TRIGGER plugins_forget_subscriptions;
CREATE OR REPLACE TRIGGER plugin_installations_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugin_installations
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugin_installations ENABLE ALWAYS TRIGGER plugin_installations_forget_subscriptions;
CREATE OR REPLACE TRIGGER plugin_webhook_subscriptions_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugin_webhook_subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugin_webhook_subscriptions ENABLE ALWAYS TRIGGER plugin_webhook_subscriptions_forget_subscriptions;


-- A row that is older than its transaction comes from a dump, whose audit log tells of it already.
DROP TRIGGER IF EXISTS plugins_audit_changes ON int.plugins;
CREATE TRIGGER plugins_audit_changes
    AFTER UPDATE OR DELETE ON int.plugins
    FOR EACH ROW EXECUTE FUNCTION audit.log_entity_change();
DROP TRIGGER IF EXISTS plugins_audit_inserts ON int.plugins;
CREATE TRIGGER plugins_audit_inserts
    AFTER INSERT ON int.plugins
    FOR EACH ROW WHEN (NEW.created_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION audit.log_entity_change();
DROP TRIGGER IF EXISTS plugin_installations_audit_changes ON int.plugin_installations;
CREATE TRIGGER plugin_installations_audit_changes
    AFTER UPDATE OR DELETE ON int.plugin_installations
    FOR EACH ROW EXECUTE FUNCTION audit.log_entity_change();
DROP TRIGGER IF EXISTS plugin_installations_audit_inserts ON int.plugin_installations;
CREATE TRIGGER plugin_installations_audit_inserts
    AFTER INSERT ON int.plugin_installations
    FOR EACH ROW WHEN (NEW.installed_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION audit.log_entity_change();
