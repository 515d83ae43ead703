-- A database that holds the former system: its tables, views and functions become the extension's, in place, when
-- they have the expected shape; else nothing happens at all. In a database without them this file leaves nothing but
-- the table of what it replaced.

CREATE TABLE IF NOT EXISTS plugin_webhooks.replaced (
    step      integer NOT NULL,
    object    text NOT NULL,
    statement text NOT NULL
);
COMMENT ON TABLE plugin_webhooks.replaced IS
    'What CREATE EXTENSION found and replaced, as statements in the order of step. plugin_webhooks.hand_back() runs '
    'them.';
ALTER TABLE plugin_webhooks.replaced ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.replaced', '');

-- Notes for the files that follow; dropped by install/99_finish.sql.
CREATE TABLE plugin_webhooks.taking_over (note text NOT NULL, object text NOT NULL, statement text);

DO $$
DECLARE
    extension     CONSTANT oid := (
        SELECT e.oid FROM pg_catalog.pg_extension AS e WHERE e.extname = 'plugin_webhooks');
    -- What is the extension's already, in an upgrade.
    own_relations CONSTANT oid[] := ARRAY(
        SELECT d.objid FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e' AND d.refobjid = extension);
    own_routines  CONSTANT oid[] := ARRAY(
        SELECT d.objid FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e' AND d.refobjid = extension);
    differences   text[] := '{}';
    taken         text[] := '{}';
    wanted        record;
    actual        record;
    relation      regclass;
    routine       regprocedure;
    identity      regclass;
    nulls         bigint;
BEGIN
    -- Tables.
    FOR wanted IN
        SELECT s.relation AS name FROM plugin_webhooks.expected_shape AS s
        WHERE s.kind = 'column' GROUP BY s.relation ORDER BY pg_catalog.min(s.position)
    LOOP
        relation := pg_catalog.to_regclass(wanted.name);
        CONTINUE WHEN relation IS NULL OR relation = ANY (own_relations);
        SELECT c.relkind, c.relpersistence, c.relispartition OR c.relhassubclass AS inherits INTO STRICT actual
        FROM pg_catalog.pg_class AS c WHERE c.oid = relation;
        IF actual.relkind <> 'r' OR actual.relpersistence <> 'p' OR actual.inherits THEN
            differences := differences || pg_catalog.format('%s is not an ordinary, logged table', wanted.name);
            CONTINUE;
        END IF;
        FOR actual IN
            SELECT coalesce(w.name, a.attname::text) AS name, w.name IS NOT NULL AS known, w.optional, w.type,
                   w.nullable, a.attname IS NOT NULL AS present, a.atttypid, a.attnotnull,
                   pg_catalog.format_type(a.atttypid, a.atttypmod) AS has
            FROM (
                SELECT s.name, pg_catalog.split_part(s.definition, ' ', 1) AS type, s.kind = 'added column' AS optional,
                       s.definition NOT LIKE '% NOT NULL%' AS nullable
                FROM plugin_webhooks.expected_shape AS s
                WHERE s.relation = wanted.name AND s.kind IN ('column', 'added column')
            ) AS w
            FULL JOIN (
                SELECT * FROM pg_catalog.pg_attribute AS p
                WHERE p.attrelid = relation AND p.attnum > 0 AND NOT p.attisdropped
            ) AS a ON a.attname = w.name
            ORDER BY a.attnum
        LOOP
            IF NOT actual.known THEN
                differences := differences
                    || pg_catalog.format('column %s.%s is not expected', wanted.name, actual.name);
            ELSIF NOT actual.present THEN
                IF NOT actual.optional THEN
                    differences := differences
                        || pg_catalog.format('column %s.%s %s is missing', wanted.name, actual.name, actual.type);
                END IF;
            ELSIF actual.atttypid <> pg_catalog.to_regtype(actual.type) THEN
                differences := differences || pg_catalog.format('column %s.%s is %s, expected %s',
                    wanted.name, actual.name, actual.has, pg_catalog.to_regtype(actual.type));
            ELSIF NOT actual.nullable AND NOT actual.attnotnull THEN
                EXECUTE pg_catalog.format('SELECT pg_catalog.count(*) FROM %s WHERE %I IS NULL',
                    relation, actual.name) INTO nulls;
                IF nulls > 0 THEN
                    differences := differences
                        || pg_catalog.format('column %s.%s is null in %s rows', wanted.name, actual.name, nulls);
                END IF;
            END IF;
        END LOOP;
        taken := taken || wanted.name;
    END LOOP;

    IF 'audit.entity_changes' = ANY (taken)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                       WHERE a.attrelid = pg_catalog.to_regclass('audit.entity_changes')
                         AND a.attname = 'id' AND a.attidentity <> '') THEN
        differences := differences || 'column audit.entity_changes.id is not an identity column'::text;
    END IF;
    IF (SELECT pg_catalog.count(DISTINCT c.relowner) FROM pg_catalog.unnest(taken) AS f (name)
        JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name) WHERE f.name LIKE 'int.%') > 1 THEN
        differences := differences || 'the tables of schema int have different owners'::text;
    END IF;

    -- Indexes: sql/install would leave in its place whatever else has the name of one.
    differences := differences || ARRAY(
        SELECT CASE
                   WHEN x.indexrelid IS NULL THEN pg_catalog.format('%s.%s is not an index', n.nspname, s.name)
                   WHEN x.indrelid IS DISTINCT FROM pg_catalog.to_regclass(s.relation) THEN
                       pg_catalog.format('index %s.%s is on %s, expected %s',
                           n.nspname, s.name, x.indrelid::regclass, s.relation)
                   WHEN x.indisunique THEN pg_catalog.format('index %s.%s is unique', n.nspname, s.name)
                   ELSE pg_catalog.format('index %s.%s is not valid', n.nspname, s.name)
               END
        FROM plugin_webhooks.expected_shape AS s
        JOIN pg_catalog.pg_namespace AS n ON n.nspname = pg_catalog.split_part(s.relation, '.', 1)
        JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = s.name
        LEFT JOIN pg_catalog.pg_index AS x ON x.indexrelid = c.oid
        WHERE s.kind = 'index'
          AND (x.indrelid = pg_catalog.to_regclass(s.relation) AND x.indisvalid AND NOT x.indisunique) IS NOT TRUE
        ORDER BY s.position);

    -- Functions: a client calls them with these argument names.
    FOR wanted IN
        SELECT s.relation AS schema_name, s.name, pg_catalog.split_part(s.definition, ') RETURNS ', 2) AS result,
               pg_catalog.array_agg(pg_catalog.split_part(a.item, ' ', 1) ORDER BY a.ordinality)
                   FILTER (WHERE a.item IS NOT NULL) AS arguments,
               coalesce(pg_catalog.string_agg(pg_catalog.split_part(a.item, ' ', 2), ',' ORDER BY a.ordinality), '')
                   AS types,
               pg_catalog.count(*) FILTER (WHERE a.item LIKE '% DEFAULT') AS defaults
        FROM plugin_webhooks.expected_shape AS s
        LEFT JOIN LATERAL pg_catalog.string_to_table(
            pg_catalog.ltrim(pg_catalog.split_part(s.definition, ') RETURNS ', 1), '('), ', '
        ) WITH ORDINALITY AS a (item, ordinality) ON true
        WHERE s.kind = 'function'
        GROUP BY s.position, s.relation, s.name, s.definition ORDER BY s.position
    LOOP
        routine := pg_catalog.to_regprocedure(
            pg_catalog.format('%I.%I(%s)', wanted.schema_name, wanted.name, wanted.types));
        IF routine IS NULL THEN
            SELECT p.oid::regprocedure AS signature INTO actual FROM pg_catalog.pg_proc AS p
            WHERE p.pronamespace = pg_catalog.to_regnamespace(wanted.schema_name) AND p.proname = wanted.name LIMIT 1;
            IF FOUND THEN
                differences := differences || pg_catalog.format('function %s, expected %s.%s(%s)',
                    actual.signature, wanted.schema_name, wanted.name, wanted.types);
            END IF;
            CONTINUE;
        END IF;
        CONTINUE WHEN routine = ANY (own_routines);
        SELECT p.prokind, p.proretset, p.proargnames, p.pronargdefaults, p.prorettype, p.proowner INTO STRICT actual
        FROM pg_catalog.pg_proc AS p WHERE p.oid = routine;
        IF actual.prokind <> 'f' OR actual.proretset OR actual.prorettype <> pg_catalog.to_regtype(wanted.result) THEN
            differences := differences
                || pg_catalog.format('%s is not a function that returns one %s', routine, wanted.result);
        ELSIF actual.proargnames IS DISTINCT FROM wanted.arguments THEN
            differences := differences || pg_catalog.format('function %s has the arguments (%s), expected (%s)',
                routine, pg_catalog.array_to_string(actual.proargnames, ', '),
                pg_catalog.array_to_string(wanted.arguments, ', '));
        ELSIF actual.pronargdefaults > wanted.defaults THEN
            differences := differences || pg_catalog.format('function %s has %s default values, expected %s',
                routine, actual.pronargdefaults, wanted.defaults);
        END IF;
        INSERT INTO plugin_webhooks.taking_over VALUES ('function', routine::text);
        INSERT INTO plugin_webhooks.replaced
        SELECT 1, routine::text, s.statement FROM (VALUES
            (pg_catalog.pg_get_functiondef(routine)),
            (pg_catalog.format('ALTER FUNCTION %s OWNER TO %I',
                routine, pg_catalog.pg_get_userbyid(actual.proowner)))
        ) AS s (statement);
    END LOOP;

    -- Views.
    FOR wanted IN
        SELECT s.relation AS name, s.definition AS columns FROM plugin_webhooks.expected_shape AS s
        WHERE s.kind = 'view' ORDER BY s.position
    LOOP
        relation := pg_catalog.to_regclass(wanted.name);
        CONTINUE WHEN relation IS NULL OR relation = ANY (own_relations);
        SELECT c.relkind, c.relowner, c.reloptions, pg_catalog.string_agg(
                   pg_catalog.concat_ws(' ', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)),
                   ', ' ORDER BY a.attnum) AS columns
        INTO STRICT actual
        FROM pg_catalog.pg_class AS c
        LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.oid = relation GROUP BY c.relkind, c.relowner, c.reloptions;
        IF actual.relkind <> 'v' THEN
            differences := differences || pg_catalog.format('%s is not a view', wanted.name);
            CONTINUE;
        ELSIF actual.columns <> wanted.columns THEN
            differences := differences || pg_catalog.format('view %s has the columns (%s), expected (%s)',
                wanted.name, actual.columns, wanted.columns);
        END IF;
        taken := taken || wanted.name;
        INSERT INTO plugin_webhooks.taking_over VALUES ('view', wanted.name);
        INSERT INTO plugin_webhooks.replaced
        SELECT 2, wanted.name, s.statement FROM (VALUES
            (pg_catalog.format('CREATE OR REPLACE VIEW %s%s AS %s', relation,
                ' WITH (' || pg_catalog.array_to_string(actual.reloptions, ', ') || ')',
                pg_catalog.pg_get_viewdef(relation))),
            (pg_catalog.format('ALTER VIEW %s OWNER TO %I', relation, pg_catalog.pg_get_userbyid(actual.relowner)))
        ) AS s (statement);
    END LOOP;

    IF differences <> '{}' THEN
        RAISE EXCEPTION 'cannot % what this database holds: %',
                CASE own_routines WHEN '{}' THEN 'take over' ELSE 'update' END, differences[1]
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = pg_catalog.array_to_string(differences, E'\n'),
                  HINT = 'Change these objects, or rename them, and run the statement again. Nothing was changed.';
    END IF;

    -- What the script replaces on the tables, as statements that bring it back.
    INSERT INTO plugin_webhooks.replaced
    SELECT 3, c.oid::regclass::text, pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s',
               c.oid::regclass, a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
    FROM pg_catalog.unnest(taken) AS f (name)
    JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name) AND c.relkind = 'r'
    JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = c.oid
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.adnum AND a.attgenerated = '';
    FOR actual IN
        SELECT t.tgrelid::regclass AS relation, t.tgname, pg_catalog.pg_get_triggerdef(t.oid) AS definition
        FROM pg_catalog.pg_trigger AS t
        WHERE NOT t.tgisinternal
          AND (t.tgfoid = pg_catalog.to_regprocedure('int.enqueue_plugin_events_from_audit()')
               AND 'audit.entity_changes' = ANY (taken) AND t.tgrelid = pg_catalog.to_regclass('audit.entity_changes')
               OR t.tgfoid = pg_catalog.to_regprocedure('audit.log_entity_change()')
               AND 'int.plugins' = ANY (taken)
               AND t.tgrelid IN (pg_catalog.to_regclass('int.plugins'),
                                 pg_catalog.to_regclass('int.plugin_installations')))
    LOOP
        INSERT INTO plugin_webhooks.replaced VALUES (4, actual.relation::text, actual.definition);
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', actual.tgname, actual.relation);
    END LOOP;
    FOR actual IN
        SELECT c.oid::regclass AS relation, p.policyname, p.permissive, p.cmd, p.qual, p.with_check, r.roles
        FROM pg_catalog.unnest(taken) AS f (name)
        JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name) AND c.relkind = 'r'
        JOIN pg_catalog.pg_policies AS p
          ON p.schemaname = pg_catalog.split_part(f.name, '.', 1)
         AND p.tablename = pg_catalog.split_part(f.name, '.', 2)
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
        EXECUTE pg_catalog.format('DROP POLICY %I ON %s', actual.policyname, actual.relation);
    END LOOP;
    INSERT INTO plugin_webhooks.replaced
    SELECT 6, o.name, pg_catalog.format('GRANT %s ON %s %s TO %s', x.privilege_type, o.kind, o.name,
               CASE x.grantee WHEN 0 THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END)
    FROM (
        SELECT 'TABLE'::text AS kind, c.oid::regclass::text AS name, c.relowner AS owner, c.relacl AS acl
        FROM pg_catalog.unnest(taken) AS f (name)
        JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name)
        UNION ALL
        SELECT 'FUNCTION', p.oid::regprocedure::text, p.proowner,
               coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
        FROM plugin_webhooks.taking_over AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.object::regprocedure
        WHERE t.note = 'function'
    ) AS o, pg_catalog.aclexplode(o.acl) AS x
    WHERE x.grantee <> o.owner;
    INSERT INTO plugin_webhooks.replaced
    SELECT 7, f.name, pg_catalog.format('ALTER TABLE %s %s ROW LEVEL SECURITY', c.oid::regclass, s.word)
    FROM pg_catalog.unnest(taken) AS f (name)
    JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name) AND c.relkind = 'r'
    JOIN (VALUES (true, true, 'FORCE'::text), (false, false, 'DISABLE')) AS s (forced, value, word)
      ON CASE WHEN s.forced THEN c.relforcerowsecurity ELSE c.relrowsecurity END = s.value;

    -- And now they are the extension's.
    FOR actual IN
        SELECT c.oid::regclass AS relation, CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind
        FROM pg_catalog.unnest(taken) AS f (name)
        JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name)
        UNION ALL
        -- Handed back, after an earlier CREATE EXTENSION.
        SELECT c.oid::regclass, 'TABLE' FROM pg_catalog.pg_class AS c
        WHERE (c.relnamespace = 'plugin_webhooks'::regnamespace AND c.relkind = 'r'
               OR c.oid = pg_catalog.to_regclass('int.plugin_delivery_attempts'))
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                          WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    LOOP
        EXECUTE pg_catalog.format('ALTER EXTENSION plugin_webhooks ADD %s %s', actual.kind, actual.relation);
        IF actual.kind = 'TABLE' THEN
            INSERT INTO plugin_webhooks.taking_over VALUES ('table', actual.relation::text);
            -- The owner's own statements must see every row.
            EXECUTE pg_catalog.format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', actual.relation);
            FOR wanted IN
                SELECT d.objid::regclass AS relation FROM pg_catalog.pg_depend AS d
                JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
                WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refobjid = actual.relation AND d.deptype = 'i'
            LOOP
                EXECUTE pg_catalog.format('ALTER EXTENSION plugin_webhooks ADD SEQUENCE %s', wanted.relation);
            END LOOP;
        END IF;
    END LOOP;
    FOR actual IN SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'function' LOOP
        EXECUTE pg_catalog.format('ALTER EXTENSION plugin_webhooks ADD FUNCTION %s', actual.object);
    END LOOP;
    IF 'audit.entity_changes' = ANY (taken) THEN
        identity := pg_catalog.pg_get_serial_sequence('audit.entity_changes', 'id');
        IF identity IS DISTINCT FROM pg_catalog.to_regclass('audit.entity_changes_id_seq') THEN
            EXECUTE pg_catalog.format('ALTER SEQUENCE %s RENAME TO entity_changes_id_seq', identity);
        END IF;
        ALTER TABLE audit.entity_changes ALTER COLUMN id SET GENERATED ALWAYS;
    END IF;

    -- Whose everything is that tenants and the worker reach: the owner of what was found, or of what is the
    -- extension's already. A superuser's becomes the dedicated role's, which install/07_owner.sql makes.
    INSERT INTO plugin_webhooks.taking_over
    SELECT 'owner', coalesce((
        SELECT r.rolname FROM pg_catalog.pg_roles AS r
        WHERE NOT r.rolsuper AND r.oid IN (
            SELECT c.relowner FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND c.relkind = 'r'
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e' AND d.refobjid = extension
            UNION ALL
            SELECT p.proowner FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_proc AS p ON p.oid = d.objid
            WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e' AND d.refobjid = extension)
        ORDER BY r.rolname LIMIT 1), 'plugin_webhooks_owner');
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
SELECT 'grant', o.name, pg_catalog.format('GRANT %s%s ON %s %s TO %I%s', x.privilege_type, o.columns, o.kind, o.name,
           r.rolname, CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM object AS o, pg_catalog.aclexplode(o.acl) AS x
JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
WHERE x.grantee <> o.owner AND r.rolname NOT IN ('anon', 'authenticated', 'service_role', 'plugin_webhooks_owner')
  -- Made by this script.
  AND o.name NOT IN ('plugin_webhooks.replaced', 'plugin_webhooks.taking_over', 'plugin_webhooks.expected_shape');

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
