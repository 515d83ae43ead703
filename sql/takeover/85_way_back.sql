-- What a take-over needs beside the adoption, and the way back from it.

CREATE OR REPLACE FUNCTION plugin_webhooks.settle_pg_net() RETURNS bigint
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'settle_pg_net_wrapper';
COMMENT ON FUNCTION plugin_webhooks.settle_pg_net() IS
    'Marks deliveries that pg_net has sent, and that were answered 2xx, as delivered; returns how many. Called by '
    'CREATE EXTENSION. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.refused_installations()
    RETURNS TABLE (installation_id uuid, reason text)
    LANGUAGE c STABLE
    AS 'MODULE_PATHNAME', 'refused_installations_wrapper';
COMMENT ON FUNCTION plugin_webhooks.refused_installations() IS
    'Installations whose webhook_url the address policy would refuse as it is written: plain http, or an address that '
    'is not public and that plugin_webhooks.allowed_networks does not open. Names are not resolved. Executable by the '
    'owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.grant_as_administrator(statement text) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'grant_as_administrator_wrapper';
COMMENT ON FUNCTION plugin_webhooks.grant_as_administrator(text) IS
    'Runs a GRANT inside CREATE or ALTER EXTENSION as if it had come later: a dump then carries it. Runs with the '
    'caller''s rights. Executable by the owner only.';

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
    INSERT INTO plugin_webhooks.instance (system_identifier, database_oid, extension_oid, site)
    VALUES ('handed back', 0, 0, '');
END
$$;
COMMENT ON FUNCTION plugin_webhooks.hand_back() IS
    'Gives the tables with their data back to the database, and functions, views, triggers and policies that CREATE '
    'EXTENSION replaced back their former definitions; nothing is sent any more. DROP EXTENSION then leaves all of '
    'these alone. Run both in one transaction. Executable by the owner only, who must be a superuser.';

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
), expected AS (
    SELECT s.kind, pg_catalog.to_regclass(s.relation) AS relation, s.name FROM plugin_webhooks.expected_shape() AS s
    WHERE s.kind IN ('constraint', 'index', 'trigger')
)
SELECT 'owner'::text AS kind, r.oid::regclass::text AS object,
       pg_catalog.format('ALTER TABLE %s OWNER TO %I;',
           r.oid::regclass, pg_catalog.pg_get_userbyid(r.relowner)) AS statement
FROM relation AS r WHERE r.relkind = 'r' AND r.relowner <> r.extowner
UNION ALL
SELECT 'owner', p.oid::regprocedure::text,
       pg_catalog.format('ALTER FUNCTION %s OWNER TO %I;',
           p.oid::regprocedure, pg_catalog.pg_get_userbyid(p.proowner))
FROM member AS m JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid
WHERE m.classid = 'pg_catalog.pg_proc'::regclass AND p.proowner <> m.extowner
UNION ALL
SELECT 'constraint', r.oid::regclass::text,
       pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s;',
           r.oid::regclass, c.conname, pg_catalog.pg_get_constraintdef(c.oid))
FROM relation AS r
JOIN pg_catalog.pg_constraint AS c ON c.conrelid = r.oid AND c.contype IN ('c', 'f', 'u', 'x')
WHERE r.data AND NOT EXISTS (
    SELECT FROM expected AS e WHERE e.kind = 'constraint' AND e.relation = r.oid AND e.name = c.conname)
UNION ALL
SELECT 'index', r.oid::regclass::text, pg_catalog.pg_get_indexdef(x.indexrelid) || ';'
FROM relation AS r
JOIN pg_catalog.pg_index AS x ON x.indrelid = r.oid
JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
WHERE r.data
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conindid = x.indexrelid AND c.conrelid = r.oid)
  AND NOT EXISTS (
    SELECT FROM expected AS e WHERE e.kind = 'index' AND e.relation = r.oid AND e.name = i.relname)
UNION ALL
SELECT 'trigger', r.oid::regclass::text, pg_catalog.pg_get_triggerdef(t.oid) || ';'
FROM relation AS r JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
WHERE r.data AND NOT EXISTS (
    SELECT FROM expected AS e WHERE e.kind = 'trigger' AND e.relation = r.oid AND e.name = t.tgname)
UNION ALL
SELECT 'policy', r.oid::regclass::text,
       pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s',
           p.policyname, r.oid::regclass, p.permissive, p.cmd,
           (SELECT pg_catalog.string_agg(
                       CASE x.name WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(x.name) END, ', ')
            FROM pg_catalog.unnest(p.roles) AS x (name)))
       || coalesce(' USING (' || p.qual || ')', '') || coalesce(' WITH CHECK (' || p.with_check || ')', '') || ';'
FROM relation AS r
JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
JOIN pg_catalog.pg_policies AS p ON p.tablename = c.relname AND p.schemaname::regnamespace = c.relnamespace
WHERE r.data AND p.policyname !~ ('^' || c.relname || '_select_(anon|authenticated|service_role)$');
COMMENT ON VIEW plugin_webhooks.not_in_dumps IS
    'What was added to the extension''s tables and pg_dump does not carry: owners, constraints, indexes, triggers, '
    'policies, each as a statement to run after a restore.';
