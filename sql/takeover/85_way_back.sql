-- What a take-over needs beside the adoption, and the way back from it.

CREATE OR REPLACE FUNCTION plugin_webhooks.settle_pg_net() RETURNS bigint
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'settle_pg_net_wrapper';
COMMENT ON FUNCTION plugin_webhooks.settle_pg_net() IS
    'Marks deliveries that pg_net has sent, and that were answered 2xx, as delivered; returns how many. Called by '
    'CREATE EXTENSION. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.refused_installations()
    RETURNS TABLE (installation_id uuid, reason text)
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'refused_installations_wrapper';
COMMENT ON FUNCTION plugin_webhooks.refused_installations() IS
    'Installed installations that nothing can be sent to, and why: no usable webhook_url, headers that cannot be sent, '
    'or a URL that the address policy refuses as it is written (plain http, or an address that is not public and that '
    'plugin_webhooks.allowed_networks does not open). Names are not resolved. What names no webhook_url and has no '
    'subscription is left out. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.release_claims() RETURNS void
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'release_claims_wrapper';
COMMENT ON FUNCTION plugin_webhooks.release_claims() IS
    'Returns every delivery with status sending to the queue. Called by hand_back(). Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.missing_for_hand_back() RETURNS TABLE (object text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT pg_catalog.format('function %s.%s()', f.schema_name, f.name)
        || CASE f.schema_name WHEN 'net' THEN ' of extension pg_net' ELSE '' END
    FROM plugin_webhooks.replaced AS r
    -- PostgreSQL does not look into a body before it runs: there it is pg_net alone.
    CROSS JOIN LATERAL pg_catalog.regexp_matches(r.statement, CASE r.step
        WHEN 1 THEN '\m(net)\.([a-z_][a-z0-9_]*)\s*\('
        WHEN 3 THEN '\m([a-z_][a-z0-9_]*)\.([a-z_][a-z0-9_]*)\(' END, 'g') AS m (found)
    CROSS JOIN LATERAL (SELECT m.found[1] AS schema_name, m.found[2] AS name) AS f
    WHERE r.step IN (1, 3) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname = f.schema_name AND p.proname = f.name)
    UNION
    SELECT 'role ' || g.role
    FROM plugin_webhooks.replaced AS r
    CROSS JOIN LATERAL (
        SELECT pg_catalog."substring"(r.statement,
                   '^(?:GRANT|ALTER) .* TO ("(?:[^"]|"")+"|[^" ]+)(?: WITH GRANT OPTION)?$') AS role
    ) AS g
    WHERE r.step IN (1, 2, 6, 8, 9) AND g.role <> 'PUBLIC' AND pg_catalog.to_regrole(g.role) IS NULL
    ORDER BY 1
$$;
COMMENT ON FUNCTION plugin_webhooks.missing_for_hand_back() IS
    'What the former system needs and this database has no more: hand_back() stops where there is any. Executable by '
    'the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.restore_row_triggers() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    former CONSTANT boolean := EXISTS (
        SELECT FROM plugin_webhooks.replaced AS r WHERE r.step = 1 AND r.object = 'audit.log_entity_change()');
    member record;
BEGIN
    IF NOT former THEN
        RETURN;
    END IF;
    FOR member IN
        SELECT t.tgrelid::regclass AS relation, pg_catalog.array_agg(t.tgname) AS names,
               pg_catalog.string_agg(e.event, ' OR ') AS events, pg_catalog.bool_or(t.tgnargs > 0) AS leaves_out,
               (SELECT pg_catalog.array_agg(f.tgname) FROM pg_catalog.pg_trigger AS f
                WHERE f.tgrelid = t.tgrelid AND f.tgfoid = t.tgfoid AND NOT f.tgisinternal
                  AND f.tgname NOT LIKE 'plugin\_webhooks\_audit%') AS former
        FROM pg_catalog.pg_trigger AS t
        CROSS JOIN LATERAL (
            SELECT pg_catalog.string_agg(k.event, ' OR ') AS event
            FROM (VALUES (4, 'INSERT'::text), (16, 'UPDATE'), (8, 'DELETE')) AS k (bit, event)
            WHERE t.tgtype & k.bit <> 0
        ) AS e
        WHERE t.tgfoid = 'audit.log_entity_change()'::regprocedure AND t.tgparentid = 0
          AND t.tgname IN ('plugin_webhooks_audit', 'plugin_webhooks_audit_insert', 'plugin_webhooks_audit_update',
                           'plugin_webhooks_audit_delete')
          AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS s
                      WHERE s.tgrelid = t.tgrelid AND s.tgfoid = t.tgfoid AND s.tgtype & 1 = 0)
        GROUP BY t.tgrelid, t.tgfoid ORDER BY t.tgrelid
    LOOP
        FOR i IN 1 .. pg_catalog.cardinality(member.names) LOOP
            EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', member.names[i], member.relation);
        END LOOP;
        IF member.former IS NOT NULL THEN
            FOR i IN 1 .. pg_catalog.cardinality(member.former) LOOP
                EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE TRIGGER %I', member.relation, member.former[i]);
            END LOOP;
        ELSIF member.leaves_out THEN
            -- The former function may not know the list of columns.
            RAISE WARNING 'changes of % are no longer recorded: audit.track() left columns out', member.relation;
        ELSE
            EXECUTE pg_catalog.format('CREATE TRIGGER plugin_webhooks_audit AFTER %s ON %s FOR EACH ROW '
                'EXECUTE FUNCTION audit.log_entity_change()', member.events, member.relation);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.restore_row_triggers() IS
    'After a take-over, gives tables that are recorded once a statement their former row triggers back, or, where '
    'audit.track() made the first ones, row triggers of that name: the former function knows no others. Called by '
    'hand_back(). Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.as_role(role oid, statement text) RETURNS text
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'as_role_wrapper';
COMMENT ON FUNCTION plugin_webhooks.as_role(oid, text) IS
    'Runs a statement as a role, in a security-restricted operation, and returns the first column, a text, of its '
    'first row, or null: to parse what somebody has written is enough to run code. Called by resume() and hand_back(). '
    'Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.hand_back() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET check_function_bodies = off
    AS $$
DECLARE
    extension oid;
    data      oid[];
    former    oid;
    lacking   text;
    missing   text[];
    member    record;
BEGIN
    -- For DROP EXTENSION, too. First: who has looked at a table and then locks it waits for the other that did.
    PERFORM plugin_webhooks.lock_for('hand_back', pg_catalog.current_setting('lock_timeout')::interval);
    missing := ARRAY(SELECT m.object FROM plugin_webhooks.missing_for_hand_back() AS m);
    IF missing <> '{}' THEN
        RAISE EXCEPTION 'cannot hand back: the former system needs %', missing[1]
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = pg_catalog.array_to_string(missing, E'\n'),
                  HINT = 'Make what is missing (CREATE EXTENSION pg_net for functions of schema net), and run the '
                         'statement again. Nothing was changed.';
    END IF;
    SELECT e.oid, e.extconfig INTO STRICT extension, data
    FROM pg_catalog.pg_extension AS e WHERE e.extname = 'plugin_webhooks';
    PERFORM plugin_webhooks.release_claims();
    PERFORM plugin_webhooks.check_foreign_keys(true);
    PERFORM plugin_webhooks.restore_row_triggers();
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
    -- The data and its schemas; what is true of this CREATE EXTENSION only goes with it.
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
    -- What was here before, as it was. Whose it is comes first. A table that somebody has given away since then goes to
    -- who had it, too.
    FOR member IN
        SELECT r.statement FROM plugin_webhooks.replaced AS r
        WHERE r.step IN (8, 9) OR r.step IN (1, 2) AND r.statement NOT LIKE 'CREATE OR REPLACE %'
        ORDER BY r.step, r.object COLLATE pg_catalog."C"
    LOOP
        EXECUTE member.statement;
    END LOOP;
    SELECT o.owner INTO former
    FROM (
        SELECT p.proowner AS owner FROM plugin_webhooks.replaced AS r
        JOIN pg_catalog.pg_proc AS p ON r.step = 1 AND p.oid = pg_catalog.to_regprocedure(r.object)
        UNION
        SELECT c.relowner FROM plugin_webhooks.replaced AS r
        JOIN pg_catalog.pg_class AS c ON r.step = 2 AND c.oid = pg_catalog.to_regclass(r.object)
    ) AS o
    JOIN pg_catalog.pg_roles AS a ON a.oid = o.owner AND NOT a.rolsuper;
    FOR member IN
        SELECT c.oid::regclass AS relation FROM pg_catalog.pg_class AS c
        WHERE c.oid = ANY (data) AND c.relkind = 'r' AND c.relowner <> former AND EXISTS (
            SELECT FROM plugin_webhooks.replaced AS r
            WHERE r.step IN (3, 4, 5) AND pg_catalog.to_regclass(r.object) = c.oid)
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', member.relation, pg_catalog.pg_get_userbyid(former));
    END LOOP;
    -- What he has written, as him, who may create objects in the schema for the moment; what names objects and roles,
    -- and quotes texts, as the superuser. A view of it may use columns that only it had. Grants come first, for those
    -- who need them here, and an object loses what the interface granted before it gets what was granted.
    FOR member IN
        SELECT s.object, s.statement, s.written, o.owner, o.schema
        FROM (
            SELECT r.step, r.object, r.statement,
                   r.step IN (3, 4, 5) OR r.step IN (1, 2) AND r.statement LIKE 'CREATE OR REPLACE %' AS written
            FROM plugin_webhooks.replaced AS r
            WHERE r.step IN (3, 4, 5, 6, 7, 10, 11) OR r.step IN (1, 2) AND r.statement LIKE 'CREATE OR REPLACE %'
            UNION ALL
            SELECT r.step, r.object, pg_catalog.replace(r.statement, ' FROM PUBLIC', ' FROM ' || g.rolname), false
            FROM plugin_webhooks.replaced AS r
            JOIN pg_catalog.pg_roles AS g
              ON g.rolname IN ('anon', 'authenticated', 'service_role', 'plugin_webhooks_owner')
            WHERE r.step = 6 AND r.statement LIKE 'REVOKE ALL ON % FROM PUBLIC'
        ) AS s
        LEFT JOIN LATERAL (
            SELECT p.proowner AS owner, p.pronamespace AS schema FROM pg_catalog.pg_proc AS p
            WHERE s.step = 1 AND p.oid = pg_catalog.to_regprocedure(s.object)
            UNION ALL
            SELECT c.relowner, c.relnamespace FROM pg_catalog.pg_class AS c
            WHERE s.step IN (2, 3, 4, 5) AND c.oid = pg_catalog.to_regclass(s.object)
        ) AS o ON s.written
        ORDER BY s.step <> 6, s.step, s.object COLLATE pg_catalog."C", s.statement COLLATE pg_catalog."C" DESC
    LOOP
        IF NOT member.written THEN
            EXECUTE member.statement;
            CONTINUE;
        END IF;
        IF member.owner IS NULL THEN
            RAISE EXCEPTION '% does not exist', member.object USING ERRCODE = 'undefined_object';
        END IF;
        SELECT pg_catalog.string_agg(p.name, ', ') INTO lacking
        FROM (VALUES ('CREATE'::text), ('USAGE')) AS p (name)
        WHERE NOT pg_catalog.has_schema_privilege(member.owner, member.schema, p.name);
        IF lacking IS NOT NULL THEN
            EXECUTE pg_catalog.format('GRANT %s ON SCHEMA %s TO %I', lacking, member.schema::regnamespace,
                pg_catalog.pg_get_userbyid(member.owner));
        END IF;
        PERFORM plugin_webhooks.as_role(member.owner, member.statement);
        IF lacking IS NOT NULL THEN
            EXECUTE pg_catalog.format('REVOKE %s ON SCHEMA %s FROM %I', lacking, member.schema::regnamespace,
                pg_catalog.pg_get_userbyid(member.owner));
        END IF;
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
