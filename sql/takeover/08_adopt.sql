-- What was found becomes the extension's, when nothing speaks against it.

DO $$
DECLARE
    differences CONSTANT text[] := ARRAY(
        SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'difference');
BEGIN
    IF differences <> '{}' THEN
        RAISE EXCEPTION 'cannot % what this database holds: %',
                CASE WHEN EXISTS (SELECT FROM plugin_webhooks.member_owners AS m
                                  WHERE m.kind = 'FUNCTION' AND m.reached)
                    THEN 'update' ELSE 'take over' END, differences[1]
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = pg_catalog.array_to_string(differences, E'\n'),
                  HINT = 'Change these objects, or rename them, and run the statement again. Nothing was changed.';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION plugin_webhooks.grant_as_administrator(statement text) RETURNS void
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'grant_as_administrator_wrapper';
COMMENT ON FUNCTION plugin_webhooks.grant_as_administrator(text) IS
    'Runs a GRANT inside CREATE or ALTER EXTENSION as if it had come later: a dump then carries it. Runs with the '
    'caller''s rights. Executable by the owner only.';

-- Grants on schemas that were here. hand_back() also takes back what grant_to_roles() grants, from where PUBLIC is
-- named.
INSERT INTO plugin_webhooks.replaced
SELECT 6, s.name, 'REVOKE ALL ON SCHEMA ' || s.name || ' FROM PUBLIC'
FROM (
    SELECT pg_catalog.quote_ident(n.nspname) AS name FROM pg_catalog.pg_namespace AS n
    WHERE n.nspname IN ('int', 'audit')
) AS s
WHERE EXISTS (SELECT FROM plugin_webhooks.found AS f WHERE f.note = 'table')
UNION ALL
SELECT 6, pg_catalog.quote_ident(n.nspname), pg_catalog.format('GRANT %s ON SCHEMA %I TO %s%s', x.privilege_type,
           n.nspname, CASE x.grantee WHEN 0 THEN 'PUBLIC'
               ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END,
           CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS x
WHERE n.nspname IN ('int', 'audit') AND x.grantee <> n.nspowner
  AND EXISTS (SELECT FROM plugin_webhooks.found AS f WHERE f.note = 'table');

-- What the extension finds by name nobody puts another one in the place of: a schema that is here belongs to a
-- superuser from now on. Its owner goes on making objects there.
DO $$
DECLARE
    schema record;
BEGIN
    FOR schema IN
        SELECT n.nspname AS name, o.rolname AS owner, pg_catalog.pg_get_userbyid(e.extowner) AS extension_owner
        FROM pg_catalog.pg_namespace AS n
        JOIN pg_catalog.pg_roles AS o ON o.oid = n.nspowner AND NOT o.rolsuper
        JOIN pg_catalog.pg_extension AS e ON e.extname = 'plugin_webhooks'
        WHERE n.nspname IN ('int', 'audit', 'plugin_webhooks') ORDER BY n.nspname
    LOOP
        INSERT INTO plugin_webhooks.replaced VALUES (8, pg_catalog.quote_ident(schema.name),
            pg_catalog.format('ALTER SCHEMA %I OWNER TO %I', schema.name, schema.owner));
        EXECUTE pg_catalog.format('ALTER SCHEMA %I OWNER TO %I', schema.name, schema.extension_owner);
        -- Not CREATE where operators call functions: one of the same name could be taken for ours.
        PERFORM plugin_webhooks.grant_as_administrator(
            pg_catalog.format('GRANT %s ON SCHEMA %I TO %I',
                CASE schema.name WHEN 'int' THEN 'CREATE, USAGE' ELSE 'USAGE' END, schema.name, schema.owner));
    END LOOP;
END
$$;

-- Nor does anybody else: CREATE there is taken from all but superusers. What a take-over takes is recorded above.
DO $$
DECLARE
    entry record;
BEGIN
    FOR entry IN
        SELECT DISTINCT n.nspname AS schema, CASE x.grantee WHEN 0 THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END AS grantee,
               CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
        FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS x
        LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
        WHERE n.nspname IN ('audit', 'plugin_webhooks') AND x.privilege_type = 'CREATE' AND r.rolsuper IS NOT TRUE
        ORDER BY 1, 2
    LOOP
        INSERT INTO plugin_webhooks.replaced
        SELECT 6, s.object, s.statement
        FROM (SELECT pg_catalog.quote_ident(entry.schema) AS object, pg_catalog.format(
                  'GRANT CREATE ON SCHEMA %I TO %s%s', entry.schema, entry.grantee, entry.option) AS statement) AS s
        WHERE EXISTS (SELECT FROM plugin_webhooks.replaced AS r WHERE r.step = 1)
          AND NOT EXISTS (SELECT FROM plugin_webhooks.replaced AS r WHERE (r.step, r.statement) = (6, s.statement));
        PERFORM plugin_webhooks.grant_as_administrator(
            pg_catalog.format('REVOKE CREATE ON SCHEMA %I FROM %s CASCADE', entry.schema, entry.grantee));
        RAISE NOTICE '% may no longer create objects in schema %', entry.grantee, entry.schema
            USING DETAIL = 'A function there could be taken for the extension''s.';
    END LOOP;
END
$$;

-- From here on, as its owner alone.
CREATE OR REPLACE FUNCTION plugin_webhooks.as_owner_of(relation regclass, statement text) RETURNS bigint
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'as_owner_of_wrapper';
COMMENT ON FUNCTION plugin_webhooks.as_owner_of(regclass, text) IS
    'Runs a statement as the owner of a table, and returns the first column, a bigint, of its first row, or null: to '
    'read a table is enough to run code that its owner attached to it. Called by CREATE EXTENSION, resume() and '
    'hand_back(). Executable by the owner only.';

DO $$
DECLARE
    wanted record;
    nulls  bigint;
BEGIN
    FOR wanted IN
        SELECT f.oid::regclass AS relation, s.relation AS name, s.name AS column_name
        FROM plugin_webhooks.found AS f
        JOIN plugin_webhooks.expected_shape AS s
          ON s.kind = 'column' AND f.oid = pg_catalog.to_regclass(s.relation) AND s.definition LIKE '% NOT NULL%'
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.oid AND a.attname = s.name AND NOT a.attnotnull
        WHERE f.note = 'table' ORDER BY s.position
    LOOP
        nulls := plugin_webhooks.as_owner_of(wanted.relation, pg_catalog.format(
            'SELECT pg_catalog.count(*) FROM %s WHERE %I IS NULL', wanted.relation, wanted.column_name));
        IF nulls > 0 THEN
            RAISE EXCEPTION 'cannot take over what this database holds: column %.% is null in % rows',
                    wanted.name, wanted.column_name, nulls
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Fill or delete these rows, and run the statement again. Nothing was changed.';
        END IF;
    END LOOP;
END
$$;

DO $$
DECLARE
    actual   record;
    identity regclass;
BEGIN
    -- What the script replaces, as statements that bring it back.
    INSERT INTO plugin_webhooks.replaced
    SELECT 1, f.name, s.statement
    FROM plugin_webhooks.found AS f
    CROSS JOIN LATERAL (VALUES
        (1, pg_catalog.pg_get_functiondef(f.oid)),
        (2, pg_catalog.format('ALTER FUNCTION %s OWNER TO %I', f.name, pg_catalog.pg_get_userbyid(f.owner)))
    ) AS s (position, statement)
    WHERE f.note = 'function' ORDER BY f.name, s.position;
    INSERT INTO plugin_webhooks.replaced
    SELECT 2, f.name, s.statement
    FROM plugin_webhooks.found AS f
    JOIN pg_catalog.pg_class AS c ON c.oid = f.oid
    CROSS JOIN LATERAL (VALUES
        (1, pg_catalog.format('CREATE OR REPLACE VIEW %s%s AS %s', f.name,
            ' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')', pg_catalog.pg_get_viewdef(f.oid))),
        (2, pg_catalog.format('ALTER VIEW %s OWNER TO %I', f.name, pg_catalog.pg_get_userbyid(f.owner)))
    ) AS s (position, statement)
    WHERE f.note = 'view' ORDER BY f.name, s.position;
    INSERT INTO plugin_webhooks.replaced
    SELECT 3, c.oid::regclass::text, pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s',
               c.oid::regclass, a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
    FROM plugin_webhooks.found AS f
    JOIN pg_catalog.pg_class AS c ON f.note = 'table' AND c.oid = f.oid
    JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = c.oid
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.adnum AND a.attgenerated = '';
    FOR actual IN
        SELECT t.tgrelid::regclass AS relation, t.tgname, pg_catalog.pg_get_triggerdef(t.oid) AS definition,
               CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' END
                   AS state,
               pg_catalog.obj_description(t.oid, 'pg_trigger') AS comment
        FROM pg_catalog.pg_trigger AS t
        WHERE NOT t.tgisinternal
          AND EXISTS (SELECT FROM plugin_webhooks.found AS f WHERE f.note = 'table' AND f.oid = t.tgrelid)
          AND (t.tgfoid = pg_catalog.to_regprocedure('int.enqueue_plugin_events_from_audit()')
               AND t.tgrelid = pg_catalog.to_regclass('audit.entity_changes')
               OR t.tgfoid = pg_catalog.to_regprocedure('audit.log_entity_change()')
               AND t.tgrelid IN (pg_catalog.to_regclass('int.plugins'),
                                 pg_catalog.to_regclass('int.plugin_installations')))
    LOOP
        INSERT INTO plugin_webhooks.replaced VALUES (4, actual.relation::text, actual.definition);
        INSERT INTO plugin_webhooks.replaced
        SELECT 10, actual.relation::text, s.statement
        FROM (VALUES
            (pg_catalog.format('ALTER TABLE %s %s TRIGGER %I', actual.relation, actual.state, actual.tgname),
                actual.state IS NOT NULL),
            (pg_catalog.format('COMMENT ON TRIGGER %I ON %s IS %L', actual.tgname, actual.relation, actual.comment),
                actual.comment IS NOT NULL)
        ) AS s (statement, needed)
        WHERE s.needed;
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', actual.tgname, actual.relation);
    END LOOP;
    FOR actual IN
        SELECT c.oid::regclass AS relation, p.policyname, p.permissive, p.cmd, p.qual, p.with_check, r.roles,
               pg_catalog.obj_description(x.oid, 'pg_policy') AS comment
        FROM plugin_webhooks.found AS f
        JOIN pg_catalog.pg_class AS c ON f.note = 'table' AND c.oid = f.oid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_policies AS p ON p.schemaname = n.nspname AND p.tablename = c.relname
        JOIN pg_catalog.pg_policy AS x ON x.polrelid = c.oid AND x.polname = p.policyname
        CROSS JOIN LATERAL (
            SELECT pg_catalog.string_agg(
                       CASE x.name WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(x.name) END, ', ') AS roles
            FROM pg_catalog.unnest(p.roles) AS x (name)
        ) AS r
        WHERE p.policyname ~ ('^' || c.relname
            || '_(select|insert|update|delete|all)_(anon|authenticated|service_role|public)$')
    LOOP
        INSERT INTO plugin_webhooks.replaced VALUES (5, actual.relation::text,
            pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s',
                actual.policyname, actual.relation, actual.permissive, actual.cmd, actual.roles)
            || coalesce(' USING (' || actual.qual || ')', '')
            || coalesce(' WITH CHECK (' || actual.with_check || ')', ''));
        IF actual.comment IS NOT NULL THEN
            INSERT INTO plugin_webhooks.replaced VALUES (10, actual.relation::text, pg_catalog.format(
                'COMMENT ON POLICY %I ON %s IS %L', actual.policyname, actual.relation, actual.comment));
        END IF;
        EXECUTE pg_catalog.format('DROP POLICY %I ON %s', actual.policyname, actual.relation);
    END LOOP;
    INSERT INTO plugin_webhooks.replaced
    SELECT 6, f.name, pg_catalog.format('REVOKE ALL ON %s %s FROM PUBLIC',
               CASE f.note WHEN 'function' THEN 'FUNCTION' ELSE 'TABLE' END, f.name)
    FROM plugin_webhooks.found AS f;
    INSERT INTO plugin_webhooks.replaced
    SELECT 6, o.name, pg_catalog.format('GRANT %s%s ON %s %s TO %s%s', x.privilege_type, o.columns, o.kind, o.name,
               CASE x.grantee WHEN 0 THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END,
               CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM (
        SELECT 'TABLE'::text AS kind, f.name, ''::text AS columns, f.owner, c.relacl AS acl
        FROM plugin_webhooks.found AS f
        JOIN pg_catalog.pg_class AS c ON f.note IN ('table', 'view') AND c.oid = f.oid
        UNION ALL
        SELECT 'TABLE', f.name, pg_catalog.format(' (%I)', a.attname), f.owner, a.attacl
        FROM plugin_webhooks.found AS f
        JOIN pg_catalog.pg_attribute AS a
          ON f.note IN ('table', 'view') AND a.attrelid = f.oid AND a.attacl IS NOT NULL
        UNION ALL
        SELECT 'FUNCTION', f.name, '', f.owner, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
        FROM plugin_webhooks.found AS f
        JOIN pg_catalog.pg_proc AS p ON f.note = 'function' AND p.oid = f.oid
    ) AS o, pg_catalog.aclexplode(o.acl) AS x
    WHERE x.grantee <> o.owner;
    -- A superuser's tables become the dedicated role's.
    INSERT INTO plugin_webhooks.replaced
    SELECT 9, f.name, pg_catalog.format('ALTER TABLE %s OWNER TO %I', f.name, r.rolname)
    FROM plugin_webhooks.found AS f
    JOIN pg_catalog.pg_roles AS r ON f.note = 'table' AND r.oid = f.owner AND r.rolsuper;
    INSERT INTO plugin_webhooks.replaced
    SELECT 7, f.name, pg_catalog.format('ALTER TABLE %s %s ROW LEVEL SECURITY', c.oid::regclass, s.word)
    FROM plugin_webhooks.found AS f
    JOIN pg_catalog.pg_class AS c ON f.note = 'table' AND c.oid = f.oid
    JOIN (VALUES (true, true, 'FORCE'::text), (false, false, 'DISABLE')) AS s (forced, value, word)
      ON CASE WHEN s.forced THEN c.relforcerowsecurity ELSE c.relrowsecurity END = s.value;
    -- Comments of the owner's own stay: install/99_finish.sql puts them back over those of the extension.
    INSERT INTO plugin_webhooks.replaced SELECT 11, o.name, o.statement FROM plugin_webhooks.found_comments AS o;
    FOR actual IN SELECT o.removal FROM plugin_webhooks.found_comments AS o WHERE o.statement <> o.removal LOOP
        EXECUTE actual.removal;
    END LOOP;

    -- And now they are the extension's.
    FOR actual IN SELECT f.note, f.oid::regclass AS relation FROM plugin_webhooks.found AS f
                  WHERE f.note IN ('table', 'view') LOOP
        EXECUTE pg_catalog.format('ALTER EXTENSION plugin_webhooks ADD %s %s', actual.note, actual.relation);
        CONTINUE WHEN actual.note = 'view';
        -- The owner's own statements must see every row.
        EXECUTE pg_catalog.format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', actual.relation);
        FOR identity IN
            SELECT d.objid::regclass FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refobjid = actual.relation AND d.deptype = 'i'
        LOOP
            EXECUTE pg_catalog.format('ALTER EXTENSION plugin_webhooks ADD SEQUENCE %s', identity);
        END LOOP;
    END LOOP;
    FOR actual IN SELECT f.name FROM plugin_webhooks.found AS f WHERE f.note = 'function' LOOP
        EXECUTE pg_catalog.format('ALTER EXTENSION plugin_webhooks ADD FUNCTION %s', actual.name);
    END LOOP;
    IF EXISTS (SELECT FROM plugin_webhooks.found AS f WHERE f.name = 'audit.entity_changes') THEN
        identity := pg_catalog.pg_get_serial_sequence('audit.entity_changes', 'id');
        IF identity IS DISTINCT FROM pg_catalog.to_regclass('audit.entity_changes_id_seq') THEN
            EXECUTE pg_catalog.format('ALTER SEQUENCE %s RENAME TO entity_changes_id_seq', identity);
        END IF;
        ALTER TABLE audit.entity_changes ALTER COLUMN id SET GENERATED ALWAYS;
    END IF;
END
$$;

-- Grants that are not the interface's: install/90_grants.sql gives them back.
INSERT INTO plugin_webhooks.taking_over
WITH member AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::regclass
), object AS (
    SELECT 'FUNCTION'::text AS kind, p.oid::regprocedure::text AS name, ''::text AS columns,
           p.proowner AS owner, p.proacl AS acl
    FROM member AS m
    JOIN pg_catalog.pg_proc AS p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, '', c.relowner, c.relacl
    FROM member AS m
    JOIN pg_catalog.pg_class AS c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
    UNION ALL
    SELECT 'TABLE', c.oid::regclass::text, pg_catalog.format(' (%I)', a.attname), c.relowner, a.attacl
    FROM member AS m
    JOIN pg_catalog.pg_class AS c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
    UNION ALL
    SELECT 'SCHEMA', pg_catalog.quote_ident(n.nspname), '', n.nspowner, n.nspacl
    FROM member AS m
    JOIN pg_catalog.pg_namespace AS n ON m.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = m.objid
)
SELECT CASE WHEN EXISTS (
               -- No former system had it: who owns it since a take-over by an earlier version decides nothing here.
               SELECT FROM plugin_webhooks.member_owners AS m
               JOIN pg_catalog.pg_roles AS w ON w.oid = m.owner
               WHERE m.object = o.name AND m.object LIKE 'plugin_webhooks.%'
                 AND NOT (m.kind = 'FUNCTION' AND m.reached)
                 AND NOT w.rolsuper AND w.rolname <> 'plugin_webhooks_owner')
           THEN 'lost grant' ELSE 'grant' END,
       o.name, pg_catalog.format('GRANT %s%s ON %s %s TO %I%s', x.privilege_type, o.columns, o.kind, o.name,
           r.rolname, CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM object AS o, pg_catalog.aclexplode(o.acl) AS x
JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
WHERE x.grantee <> o.owner AND r.rolname NOT IN ('anon', 'authenticated', 'service_role', 'plugin_webhooks_owner')
  -- He has no table in there any more.
  AND (o.name <> 'plugin_webhooks' OR x.grantee NOT IN (
      SELECT m.owner FROM plugin_webhooks.member_owners AS m WHERE m.kind = 'FUNCTION'))
  -- Whom its former owner let read secrets.
  AND (o.name NOT LIKE '%resolve_installation_signing_secret(uuid)'
       OR EXISTS (SELECT FROM pg_catalog.pg_roles AS w WHERE w.oid = o.owner AND w.rolsuper))
  -- Made by this script.
  AND o.name NOT IN (
      'plugin_webhooks.replaced', 'plugin_webhooks.taking_over', 'plugin_webhooks.expected_shape',
      'plugin_webhooks.found', 'plugin_webhooks.found_comments', 'plugin_webhooks.member_owners',
      'plugin_webhooks.as_owner_of(regclass,text)',
      'plugin_webhooks.lock_relation(oid,text)',
      'plugin_webhooks.lock_for(text,interval)', 'plugin_webhooks.grant_as_administrator(text)');

DO $$
DECLARE
    lost CONSTANT text[] := ARRAY(
        SELECT t.statement FROM plugin_webhooks.taking_over AS t WHERE t.note = 'lost grant' ORDER BY 1);
BEGIN
    IF lost <> '{}' THEN
        RAISE NOTICE '% grants on objects that lose their owner are not given back', pg_catalog.cardinality(lost)
            USING DETAIL = pg_catalog.array_to_string(lost, E'\n'),
                  HINT = 'The owner could have made them, and the objects are an operator''s now. Run those that '
                         'should stay.';
    END IF;
END
$$;

-- The former owner goes on calling his functions and reading his views, with what they ask. What shows a secret is an
-- operator's only.
INSERT INTO plugin_webhooks.taking_over
SELECT DISTINCT 'grant', r.object,
       pg_catalog.format(CASE r.step WHEN 1 THEN 'GRANT EXECUTE ON FUNCTION %s TO %I'
                                     ELSE 'GRANT SELECT ON TABLE %s TO %I' END, r.object, o.object)
FROM (
    SELECT p.step, p.object FROM plugin_webhooks.replaced AS p
    UNION ALL
    SELECT 1, a.object
    FROM (VALUES ('plugin_webhooks.current_user_id()'), ('plugin_webhooks.admin_tenant_id()')) AS a (object)
) AS r
JOIN plugin_webhooks.taking_over AS o ON o.note = 'owner' AND o.object <> 'plugin_webhooks_owner'
WHERE r.step IN (1, 2) AND r.object NOT LIKE '%resolve_installation_signing_secret(uuid)'
  AND EXISTS (SELECT FROM plugin_webhooks.member_owners AS m
              WHERE m.kind = 'FUNCTION' AND m.owner = pg_catalog.to_regrole(pg_catalog.quote_ident(o.object)));

-- Indexes of tables that were there: of the expected meaning under another name, renamed; of another meaning under
-- an expected name, moved out of the way. sql/install makes what is missing then. What else has such a name has
-- stopped the adoption above.
DO $$
DECLARE
    wanted record;
    same   record;
BEGIN
    FOR wanted IN
        SELECT s.relation, s.name, s.definition FROM plugin_webhooks.expected_shape AS s
        WHERE s.kind = 'index' ORDER BY s.position
    LOOP
        SELECT i.oid::regclass AS index, i.relname AS name, d.definition = wanted.definition AS equal INTO same
        FROM pg_catalog.pg_index AS x
        JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
        CROSS JOIN LATERAL (
            SELECT pg_catalog.split_part(pg_catalog.pg_get_indexdef(i.oid), ' USING ', 2) AS definition
        ) AS d
        WHERE x.indrelid = pg_catalog.to_regclass(wanted.relation) AND x.indisvalid AND NOT x.indisunique
          AND (i.relname = wanted.name OR d.definition = wanted.definition)
        ORDER BY i.relname = wanted.name DESC
        LIMIT 1;
        IF FOUND AND NOT same.equal THEN
            EXECUTE pg_catalog.format('ALTER INDEX %s RENAME TO %I', same.index, same.name || '_before');
        ELSIF FOUND AND same.name <> wanted.name THEN
            EXECUTE pg_catalog.format('ALTER INDEX %s RENAME TO %I', same.index, wanted.name);
        END IF;
    END LOOP;
END
$$;
