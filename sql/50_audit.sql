-- Change capture, and matching changes to subscriptions.

CREATE OR REPLACE FUNCTION audit.log_entity_change() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'log_entity_change_wrapper';
COMMENT ON FUNCTION audit.log_entity_change() IS
    'Trigger function, AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, for any table with a column id: writes one row to audit.entity_changes. Attach it with audit.track(). Raises 42703 for a table without id, 39P01 when fired in another way.';

CREATE OR REPLACE FUNCTION audit.track(p_table regclass) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'track_wrapper';
COMMENT ON FUNCTION audit.track(regclass) IS
    'Attaches the audit trigger to a table; does nothing when it is there. Runs with the caller''s rights: the table''s owner, with EXECUTE granted, or a superuser. Raises 42809 (not a table, or a system table), 42703 (no column id), 23514 (null).';

CREATE OR REPLACE FUNCTION audit.untrack(p_table regclass) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'untrack_wrapper';
COMMENT ON FUNCTION audit.untrack(regclass) IS
    'Detaches every trigger that calls audit.log_entity_change() from a table; does nothing when there is none. Raises 23514 (null).';

CREATE OR REPLACE FUNCTION int.enqueue_plugin_events_from_audit() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'enqueue_plugin_events_from_audit_wrapper';
COMMENT ON FUNCTION int.enqueue_plugin_events_from_audit() IS
    'Trigger function of audit.entity_changes: inserts one delivery for each matching subscription of an installed plugin, in the same transaction. Raises 39P01 when fired in another way.';

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
