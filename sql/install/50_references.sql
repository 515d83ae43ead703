-- References that a copy must keep. Of an extension's table pg_dump carries the rows only, while triggers on the
-- host's own tables are dumped: those stand for the foreign keys to the host. The foreign keys among the
-- extension's tables are made by CREATE EXTENSION, and off until the data is active here.

-- Of versions before 0.3, which asked for no trust.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_depend AS d
               JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
               WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e'
                 AND d.objid = pg_catalog.to_regprocedure('plugin_webhooks.attach_host()')) THEN
        DROP FUNCTION plugin_webhooks.attach_host();
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION plugin_webhooks.attach_host(trusted_owners text[] DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    wanted  record;
    name    text;
    action  text;
    ignored record;
BEGIN
    PERFORM plugin_webhooks.lock_for('attach_host', pg_catalog.current_setting('lock_timeout')::interval);
    PERFORM plugin_webhooks.bind_host(trusted_owners);
    FOR wanted IN
        WITH member AS (
            SELECT d.objid FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
            WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass
        )
        SELECT c.confrelid::regclass AS host, h.attname::text AS host_column, n.nspname::text AS schema_name,
               t.relname::text AS table_name, a.attname::text AS column_name,
               CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'NO ACTION' END AS action
        FROM pg_catalog.pg_constraint AS c
        JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
        JOIN pg_catalog.pg_attribute AS a
          ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] AND a.atttypid = 'uuid'::regtype
        JOIN pg_catalog.pg_attribute AS h
          ON h.attrelid = c.confrelid AND h.attnum = c.confkey[1] AND h.atttypid = 'uuid'::regtype
        WHERE c.contype = 'f' AND pg_catalog.cardinality(c.conkey) = 1
          AND c.conrelid IN (SELECT m.objid FROM member AS m)
          AND c.confrelid NOT IN (SELECT m.objid FROM member AS m)
        UNION
        SELECT b.object_oid::regclass, 'id', 'int', w.table_name, w.column_name, w.action
        FROM (VALUES ('app.tenants'::text, 'plugin_installations'::text, 'tenant_id'::text, 'CASCADE'::text),
                     ('app.tenants', 'plugin_delivery_queue', 'tenant_id', 'CASCADE'),
                     ('auth.users', 'plugin_installations', 'installed_by', 'SET NULL')
             ) AS w (host, table_name, column_name, action)
        JOIN plugin_webhooks.host_bindings AS b ON b.object = w.host
        -- A foreign key that is there says how; this is for when there is none.
        WHERE NOT EXISTS (
              SELECT FROM pg_catalog.pg_constraint AS c
              WHERE c.contype = 'f' AND c.confrelid = b.object_oid
                AND c.conrelid = pg_catalog.to_regclass('int.' || w.table_name)
                AND c.conkey = ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute AS a
                                     WHERE a.attrelid = c.conrelid AND a.attname = w.column_name))
    LOOP
        name := 'plugin_webhooks_' || wanted.table_name || '_' || wanted.column_name;
        action := pg_catalog.format('EXECUTE FUNCTION plugin_webhooks.follow_host(%L, %L, %L, %L, %L)',
            wanted.schema_name, wanted.table_name, wanted.column_name, wanted.host_column, wanted.action);
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER DELETE OR UPDATE OF %I ON %s FOR EACH ROW %s',
            name, wanted.host_column, wanted.host, action);
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT %s',
            name || '_all', wanted.host, action);
        -- DROP EXTENSION takes them along.
        EXECUTE pg_catalog.format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION plugin_webhooks',
            name, wanted.host);
        EXECUTE pg_catalog.format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION plugin_webhooks',
            name || '_all', wanted.host);
    END LOOP;

    SELECT pg_catalog.string_agg(pg_catalog.format('%s of %s', o.object, o.owner), ', ' ORDER BY o.object) AS objects,
           pg_catalog.string_agg(pg_catalog.format('%s: %s', o.object, o.reason), E'\n' ORDER BY o.object)
               AS reasons
    INTO ignored FROM plugin_webhooks.host_objects AS o WHERE o.status = 'ignored';
    IF ignored.objects IS NOT NULL THEN
        RAISE WARNING 'plugin_webhooks does not use these objects of the host: %', ignored.objects
            USING DETAIL = ignored.reasons,
                  HINT = 'Their owners would decide who a caller is, or hand out secrets. To trust some of them: '
                         'SELECT plugin_webhooks.attach_host(ARRAY[''owner'']). '
                         'plugin_webhooks.host_objects lists what is used.';
    END IF;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.attach_host(text[]) IS
    'Binds the host''s objects that are there now and to be trusted; plugin_webhooks.host_objects lists them. Trusted '
    'are a superuser, the database''s owner, the owner of a former system that was taken over, members of a '
    'superuser''s extension, whoever owns an object in a superuser''s schema where PUBLIC may create nothing, and '
    'trusted_owners, which later calls remember; the schema must belong to the same owner, a superuser or one of '
    'trusted_owners. Then ties installations and deliveries to the host''s tenants and users (app.tenants, auth.users) '
    'by triggers on these tables, which a dump carries. CREATE EXTENSION and resume() call it; call it again when the '
    'host has changed. Raises 42501 for who is no superuser, 42704 for an unknown role. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.check_foreign_keys(enabled boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    key    record;
    ids    text;
    broken boolean;
BEGIN
    FOR key IN
        SELECT t.oid, t.tgname, t.tgrelid::regclass AS child, t.tgconstrrelid::regclass AS parent, c.conname,
               a.attname AS column_name, p.attname AS parent_column, pg_catalog.format_type(p.atttypid, NULL) AS type,
               r.relowner AS parent_owner, o.relowner AS child_owner
        FROM pg_catalog.pg_constraint AS c
        JOIN pg_catalog.pg_trigger AS t
          ON t.tgconstraint = c.oid AND t.tgrelid = c.conrelid AND t.tgisinternal
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        JOIN pg_catalog.pg_attribute AS p ON p.attrelid = c.confrelid AND p.attnum = c.confkey[1]
        JOIN pg_catalog.pg_class AS o ON o.oid = c.conrelid
        JOIN pg_catalog.pg_class AS r ON r.oid = c.confrelid
        JOIN pg_catalog.pg_extension AS e ON e.extname = 'plugin_webhooks'
        WHERE c.contype = 'f' AND c.conrelid = ANY (e.extconfig) AND c.confrelid = ANY (e.extconfig)
          AND (t.tgenabled = 'D') = enabled
    LOOP
        IF enabled THEN
            IF key.child_owner = key.parent_owner THEN
                broken := plugin_webhooks.as_owner_of(key.child, pg_catalog.format(
                    'SELECT 1::bigint FROM %s AS x WHERE x.%I IS NOT NULL
                         AND NOT EXISTS (SELECT FROM %s AS y WHERE y.%I = x.%I) LIMIT 1',
                    key.child, key.column_name, key.parent, key.parent_column, key.column_name)) IS NOT NULL;
            ELSE
                -- A query over both would run what hangs on one table as the owner of the other.
                ids := plugin_webhooks.as_role(key.child_owner, pg_catalog.format(
                    'SELECT pg_catalog.array_agg(DISTINCT x.%I::text)::text FROM %s AS x WHERE x.%1$I IS NOT NULL',
                    key.column_name, key.child));
                broken := ids IS NOT NULL AND plugin_webhooks.as_role(key.parent_owner, pg_catalog.format(
                    'SELECT x.id FROM pg_catalog.unnest(%L::text[]) AS x (id)
                     WHERE NOT EXISTS (SELECT FROM %s AS y WHERE y.%I = x.id::%s) LIMIT 1',
                    ids, key.parent, key.parent_column, key.type)) IS NOT NULL;
            END IF;
            IF broken THEN
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
    'Whether the foreign keys among the extension''s tables are checked. Turned on by resume(), and by the worker of '
    'the active instance. Raises 23503 for rows that break one. Executable by the owner only.';

-- No plugin yet: this may be a restore.
DO $$
BEGIN
    IF plugin_webhooks.as_owner_of('int.plugins', 'SELECT 1::bigint FROM int.plugins LIMIT 1') IS NULL THEN
        PERFORM plugin_webhooks.check_foreign_keys(false);
    END IF;
END
$$;
