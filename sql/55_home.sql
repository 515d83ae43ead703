-- At home in one database: where it is, what ties it to the host's tables, and the way out.

CREATE OR REPLACE FUNCTION plugin_webhooks.adopt() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'adopt_wrapper';
COMMENT ON FUNCTION plugin_webhooks.adopt() IS
    'Trigger function of int.plugins and int.plugin_installations: the first row of a database without deliveries makes this place the home of the data.';

-- A row that is older than its transaction comes from a dump.
DROP TRIGGER IF EXISTS plugins_adopt ON int.plugins;
CREATE TRIGGER plugins_adopt
    AFTER INSERT ON int.plugins
    FOR EACH ROW WHEN (NEW.created_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION plugin_webhooks.adopt();
-- The plugins may have come with a seed, in a session that fires no triggers.
DROP TRIGGER IF EXISTS plugin_installations_adopt ON int.plugin_installations;
CREATE TRIGGER plugin_installations_adopt
    AFTER INSERT ON int.plugin_installations
    FOR EACH ROW WHEN (NEW.installed_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION plugin_webhooks.adopt();

CREATE OR REPLACE FUNCTION plugin_webhooks.paused_because() RETURNS text
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'paused_because_wrapper';
COMMENT ON FUNCTION plugin_webhooks.paused_because() IS
    'Why nothing is sent from here: the data is at home elsewhere. Null when deliveries go out. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.resume() RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION plugin_webhooks.resume() IS
    'Makes this database the home of its data: what waits is sent from here from now on. Call it after a restore that replaces the original, after pg_upgrade, and after a change of plugin_webhooks.site. Executable by the owner only.';

-- References. What the host's tables hold has no foreign key in a copy: of an extension's table pg_dump carries
-- the rows only, while triggers on the host's own tables are dumped. Among the extension's tables foreign keys do
-- exist at once, and pg_restore -j loads tables in any order: until the data is at home they are not checked,
-- and this stands in for them, except for rows that come from the dump.
CREATE OR REPLACE FUNCTION plugin_webhooks.check_references() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'check_references_wrapper';
COMMENT ON FUNCTION plugin_webhooks.check_references() IS
    'Trigger function ({column, schema, table} …): what the columns name must exist, where there is such a table. Raises 23503.';

CREATE OR REPLACE FUNCTION plugin_webhooks.follow_host() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'follow_host_wrapper';
COMMENT ON FUNCTION plugin_webhooks.follow_host() IS
    'Trigger function of a host table (schema, table, column, host column, CASCADE, SET NULL or NO ACTION): what a foreign key does when the host deletes a row, changes its key or truncates the table. Raises 23503.';

DROP TRIGGER IF EXISTS plugin_installations_references ON int.plugin_installations;
CREATE TRIGGER plugin_installations_references
    AFTER INSERT OR UPDATE OF tenant_id, plugin_id, installed_by ON int.plugin_installations
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'tenant_id', 'app', 'tenants', 'installed_by', 'auth', 'users', 'plugin_id', 'int', 'plugins');
DROP TRIGGER IF EXISTS plugin_webhook_subscriptions_references ON int.plugin_webhook_subscriptions;
CREATE TRIGGER plugin_webhook_subscriptions_references
    AFTER INSERT OR UPDATE OF plugin_installation_id ON int.plugin_webhook_subscriptions
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'plugin_installation_id', 'int', 'plugin_installations');
DROP TRIGGER IF EXISTS plugin_delivery_queue_references ON int.plugin_delivery_queue;
CREATE TRIGGER plugin_delivery_queue_references
    AFTER INSERT OR UPDATE OF tenant_id, plugin_installation_id, source_entity_change_id ON int.plugin_delivery_queue
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'tenant_id', 'app', 'tenants', 'plugin_installation_id', 'int', 'plugin_installations',
        'source_entity_change_id', 'audit', 'entity_changes');

CREATE OR REPLACE FUNCTION plugin_webhooks.check_foreign_keys(enabled boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    key     record;
    orphans boolean;
BEGIN
    FOR key IN
        SELECT t.oid, t.tgname, t.tgrelid::regclass AS child, t.tgconstrrelid::regclass AS parent, c.conname, a.attname AS column_name,
               p.attname AS parent_column
        FROM pg_catalog.pg_constraint AS c
        JOIN pg_catalog.pg_trigger AS t ON t.tgconstraint = c.oid AND t.tgrelid = c.conrelid AND t.tgisinternal
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        JOIN pg_catalog.pg_attribute AS p ON p.attrelid = c.confrelid AND p.attnum = c.confkey[1]
        JOIN pg_catalog.pg_extension AS e ON e.extname = 'plugin_webhooks'
        WHERE c.contype = 'f' AND c.conrelid = ANY (e.extconfig) AND c.confrelid = ANY (e.extconfig)
          AND (t.tgenabled = 'D') = enabled
    LOOP
        IF enabled THEN
            EXECUTE pg_catalog.format('SELECT EXISTS (SELECT FROM %s AS x WHERE x.%I IS NOT NULL
                    AND NOT EXISTS (SELECT FROM %s AS y WHERE y.%I = x.%I))',
                key.child, key.column_name, key.parent, key.parent_column, key.column_name) INTO orphans;
            IF orphans THEN
                RAISE EXCEPTION 'rows of % have no row in %: the restore is not complete', key.child, key.parent
                    USING ERRCODE = 'foreign_key_violation', CONSTRAINT = key.conname;
            END IF;
        END IF;
        EXECUTE pg_catalog.format('ALTER TABLE %s %s TRIGGER %I', key.child,
            CASE WHEN enabled THEN 'ENABLE' ELSE 'DISABLE' END, key.tgname);
    END LOOP;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.check_foreign_keys(boolean) IS
    'Whether the foreign keys among the extension''s tables are checked. Turned on by resume(), and by the worker of a database that is at home. Raises 23503 for rows that break one. Executable by the owner only.';
-- An empty catalogue: this may be a restore.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM int.plugins) THEN
        PERFORM plugin_webhooks.check_foreign_keys(false);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION plugin_webhooks.attach_host() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    wanted record;
    name   text;
    action text;
BEGIN
    FOR wanted IN
        SELECT k.host, k.host_column, k.schema_name, k.table_name, k.column_name, k.action FROM (
            SELECT c.confrelid::regclass AS host, h.attname::text AS host_column, n.nspname::text AS schema_name,
                   t.relname::text AS table_name, a.attname::text AS column_name,
                   CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'NO ACTION' END AS action
            FROM pg_catalog.pg_constraint AS c
            JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid
            JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] AND a.atttypid = 'uuid'::regtype
            JOIN pg_catalog.pg_attribute AS h ON h.attrelid = c.confrelid AND h.attnum = c.confkey[1] AND h.atttypid = 'uuid'::regtype
            WHERE c.contype = 'f' AND pg_catalog.cardinality(c.conkey) = 1
              AND c.conrelid IN (SELECT d.objid FROM pg_catalog.pg_depend AS d
                                 JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
                                 WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass)
              AND c.confrelid NOT IN (SELECT d.objid FROM pg_catalog.pg_depend AS d
                                      JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
                                      WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass)
            UNION
            SELECT pg_catalog.to_regclass(w.host), 'id', 'int', w.table_name, w.column_name, w.action
            FROM (VALUES ('app.tenants'::text, 'plugin_installations'::text, 'tenant_id'::text, 'CASCADE'::text),
                         ('app.tenants', 'plugin_delivery_queue', 'tenant_id', 'CASCADE'),
                         ('auth.users', 'plugin_installations', 'installed_by', 'SET NULL')) AS w (host, table_name, column_name, action)
            WHERE pg_catalog.to_regclass(w.host) IS NOT NULL
              -- A foreign key that is there says how; this is for when there is none.
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c
                              WHERE c.contype = 'f' AND c.confrelid = pg_catalog.to_regclass(w.host)
                                AND c.conrelid = pg_catalog.to_regclass('int.' || w.table_name)
                                AND c.conkey = ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute AS a
                                                     WHERE a.attrelid = c.conrelid AND a.attname = w.column_name))
        ) AS k
    LOOP
        name := 'plugin_webhooks_' || wanted.table_name || '_' || wanted.column_name;
        action := pg_catalog.format('EXECUTE FUNCTION plugin_webhooks.follow_host(%L, %L, %L, %L, %L)', wanted.schema_name,
            wanted.table_name, wanted.column_name, wanted.host_column, wanted.action);
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER DELETE OR UPDATE OF %I ON %s FOR EACH ROW %s',
            name, wanted.host_column, wanted.host, action);
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT %s',
            name || '_all', wanted.host, action);
        -- DROP EXTENSION takes them along.
        EXECUTE pg_catalog.format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION plugin_webhooks', name, wanted.host);
        EXECUTE pg_catalog.format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION plugin_webhooks', name || '_all', wanted.host);
    END LOOP;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.attach_host() IS
    'Ties installations and deliveries to the host''s tenants and users (app.tenants, auth.users) by triggers on these tables, which a dump carries. CREATE EXTENSION calls it; call it again when these tables appear later. Executable by the owner only.';

-- The way out.
CREATE OR REPLACE FUNCTION plugin_webhooks.release_claims() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'release_claims_wrapper';
COMMENT ON FUNCTION plugin_webhooks.release_claims() IS
    'Returns every delivery under way to the queue. Called by hand_back(). Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.hand_back() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    extension CONSTANT oid := (SELECT e.oid FROM pg_catalog.pg_extension AS e WHERE e.extname = 'plugin_webhooks');
    data      CONSTANT oid[] := (SELECT e.extconfig FROM pg_catalog.pg_extension AS e WHERE e.oid = extension);
    member    record;
BEGIN
    LOCK TABLE int.plugin_delivery_queue IN ACCESS EXCLUSIVE MODE;
    PERFORM plugin_webhooks.release_claims();
    PERFORM plugin_webhooks.check_foreign_keys(true);
    -- What hangs on the tables and calls the extension.
    FOR member IN
        SELECT t.tgname AS name, t.tgrelid::regclass AS relation FROM pg_catalog.pg_trigger AS t
        JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = t.tgfoid
         AND d.deptype = 'e' AND d.refobjid = extension
        WHERE NOT t.tgisinternal
          AND (t.tgrelid = ANY (data) OR t.tgfoid = 'plugin_webhooks.follow_host()'::regprocedure)
    LOOP
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', member.name, member.relation);
    END LOOP;
    FOR member IN
        SELECT DISTINCT p.polname AS name, p.polrelid::regclass AS relation FROM pg_catalog.pg_policy AS p
        WHERE p.polrelid = ANY (data)
          AND p.polname ~ ('_(select|insert|update|delete|all)_(anon|authenticated|service_role|public)$')
    LOOP
        EXECUTE pg_catalog.format('DROP POLICY %I ON %s', member.name, member.relation);
    END LOOP;
    DROP VIEW IF EXISTS audit.hand_back_before_drop_extension;
    -- The data and its schemas; what is true of this installation only goes with it.
    FOR member IN
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name
        FROM pg_catalog.pg_class AS c
        WHERE c.oid = ANY (data)
          AND c.oid NOT IN ('plugin_webhooks.instance'::regclass, 'plugin_webhooks.replaced'::regclass)
        UNION ALL
        SELECT 'SCHEMA', pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace AS n
        JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = n.oid
        WHERE d.deptype = 'e' AND d.refobjid = extension
        UNION ALL
        SELECT DISTINCT CASE r.step WHEN 1 THEN 'FUNCTION' ELSE 'VIEW' END, r.object
        FROM plugin_webhooks.replaced AS r WHERE r.step IN (1, 2)
    LOOP
        EXECUTE pg_catalog.format('ALTER EXTENSION plugin_webhooks DROP %s %s', member.kind, member.name);
    END LOOP;
    -- What was here before, as it was. A view of it may use columns that only it had.
    FOR member IN SELECT r.statement FROM plugin_webhooks.replaced AS r ORDER BY r.step LOOP
        EXECUTE member.statement;
    END LOOP;
    DELETE FROM plugin_webhooks.replaced;
    -- Until DROP EXTENSION, two would send.
    DELETE FROM plugin_webhooks.instance;
    INSERT INTO plugin_webhooks.instance (system_identifier, database_oid, extension_oid, site) VALUES ('handed back', 0, 0, '');
END
$$;
COMMENT ON FUNCTION plugin_webhooks.hand_back() IS
    'Gives the tables with their data back to the database, and functions, views, triggers and policies that CREATE EXTENSION replaced back their former definitions; nothing is sent any more. DROP EXTENSION then leaves all of these alone. Run both in one transaction. Executable by the owner only, who must be a superuser.';

CREATE OR REPLACE VIEW plugin_webhooks.not_in_dumps WITH (security_invoker = true) AS
WITH extension AS (
    SELECT e.oid, e.extowner, e.extconfig FROM pg_catalog.pg_extension AS e WHERE e.extname = 'plugin_webhooks'
), member AS (
    SELECT d.classid, d.objid, e.extowner, d.objid = ANY (e.extconfig) AS data
    FROM pg_catalog.pg_depend AS d JOIN extension AS e ON e.oid = d.refobjid
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::regclass
), relation AS (
    SELECT c.oid, c.relkind, c.relowner, m.extowner, m.data FROM member AS m
    JOIN pg_catalog.pg_class AS c ON c.oid = m.objid
    WHERE m.classid = 'pg_catalog.pg_class'::regclass
)
SELECT 'owner'::text AS kind, r.oid::regclass::text AS object,
       pg_catalog.format('ALTER TABLE %s OWNER TO %I;', r.oid::regclass, pg_catalog.pg_get_userbyid(r.relowner)) AS statement
FROM relation AS r WHERE r.relkind = 'r' AND r.relowner <> r.extowner
UNION ALL
SELECT 'owner', p.oid::regprocedure::text,
       pg_catalog.format('ALTER FUNCTION %s OWNER TO %I;', p.oid::regprocedure, pg_catalog.pg_get_userbyid(p.proowner))
FROM member AS m JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid
WHERE m.classid = 'pg_catalog.pg_proc'::regclass AND p.proowner <> m.extowner
UNION ALL
SELECT 'constraint', r.oid::regclass::text,
       pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s;', r.oid::regclass, c.conname, pg_catalog.pg_get_constraintdef(c.oid))
FROM relation AS r JOIN pg_catalog.pg_constraint AS c ON c.conrelid = r.oid AND c.contype IN ('c', 'f', 'u', 'x')
WHERE r.data AND c.conname NOT IN (
    'plugins_key_key', 'plugins_key_check',
    'plugin_installations_tenant_id_plugin_id_key', 'plugin_installations_plugin_id_fkey', 'plugin_installations_status_check',
    'plugin_webhook_subscriptions_installation_table_key', 'plugin_webhook_subscriptions_plugin_installation_id_fkey',
    'plugin_webhook_subscriptions_operations_check',
    'entity_changes_operation_check',
    'plugin_delivery_queue_installation_change_key', 'plugin_delivery_queue_plugin_installation_id_fkey',
    'plugin_delivery_queue_source_entity_change_id_fkey', 'plugin_delivery_queue_status_check', 'plugin_delivery_queue_attempts_check',
    'plugin_delivery_attempts_attempt_check', 'plugin_delivery_attempts_duration_ms_check',
    'plugin_delivery_attempts_response_start_check', 'secrets_name_key', 'secrets_name_check', 'secrets_nonce_check', 'actions_action_check')
UNION ALL
SELECT 'index', r.oid::regclass::text, pg_catalog.pg_get_indexdef(x.indexrelid) || ';'
FROM relation AS r JOIN pg_catalog.pg_index AS x ON x.indrelid = r.oid
JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
WHERE r.data AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conindid = x.indexrelid AND c.conrelid = r.oid)
  AND i.relname NOT IN (
    'plugin_installations_plugin_id_idx', 'entity_changes_tenant_id_idx', 'plugin_delivery_queue_pending_idx',
    'plugin_delivery_queue_sending_idx', 'plugin_delivery_queue_tenant_id_idx', 'plugin_delivery_queue_source_entity_change_id_idx',
    'plugin_delivery_attempts_delivery_id_idx', 'plugin_delivery_attempts_tenant_id_idx')
UNION ALL
SELECT 'trigger', r.oid::regclass::text, pg_catalog.pg_get_triggerdef(t.oid) || ';'
FROM relation AS r JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
WHERE r.data AND t.tgname NOT IN (
    'entity_changes_plugin_enqueue_trigger', 'plugins_audit_changes', 'plugins_audit_inserts', 'plugins_adopt', 'plugin_installations_adopt',
    'plugin_installations_audit_changes', 'plugin_installations_audit_inserts', 'plugin_installations_references',
    'plugin_webhook_subscriptions_references', 'plugin_delivery_queue_references', 'plugins_forget_subscriptions',
    'plugin_installations_forget_subscriptions', 'plugin_webhook_subscriptions_forget_subscriptions')
UNION ALL
SELECT 'policy', r.oid::regclass::text,
       pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.policyname, r.oid::regclass, p.permissive, p.cmd,
           (SELECT pg_catalog.string_agg(CASE x.name WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(x.name) END, ', ')
            FROM pg_catalog.unnest(p.roles) AS x (name)))
       || coalesce(' USING (' || p.qual || ')', '') || coalesce(' WITH CHECK (' || p.with_check || ')', '') || ';'
FROM relation AS r
JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
JOIN pg_catalog.pg_policies AS p ON p.tablename = c.relname AND p.schemaname::regnamespace = c.relnamespace
WHERE r.data AND p.policyname !~ ('^' || c.relname || '_select_(anon|authenticated|service_role)$');
COMMENT ON VIEW plugin_webhooks.not_in_dumps IS
    'What was added to the extension''s tables and pg_dump does not carry: owners, constraints, indexes, triggers, policies, each as a statement to run after a restore.';

CREATE OR REPLACE FUNCTION plugin_webhooks.refused_installations()
    RETURNS TABLE (installation_id uuid, reason text)
    LANGUAGE c STABLE
    AS 'MODULE_PATHNAME', 'refused_installations_wrapper';
COMMENT ON FUNCTION plugin_webhooks.refused_installations() IS
    'Installations whose webhook_url the address policy would refuse as it is written: plain http, or an address that is not public and that plugin_webhooks.allowed_networks does not open. Names are not resolved. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.settle_pg_net() RETURNS bigint
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'settle_pg_net_wrapper';
COMMENT ON FUNCTION plugin_webhooks.settle_pg_net() IS
    'Marks deliveries that pg_net has sent, and that were answered 2xx, as delivered; returns how many. Called by CREATE EXTENSION. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.grant_as_administrator(statement text) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'grant_as_administrator_wrapper';
COMMENT ON FUNCTION plugin_webhooks.grant_as_administrator(text) IS
    'Runs a GRANT inside CREATE or ALTER EXTENSION as if it had come later: a dump then carries it. Runs with the caller''s rights. Executable by the owner only.';
