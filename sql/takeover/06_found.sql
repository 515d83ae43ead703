-- A database that holds the former system: its tables, views and functions become the extension's, in place, when
-- they have the expected shape and nobody else's code hangs on them; else nothing happens at all. This file and the
-- next look, by the catalogs alone: nothing that somebody may have written is evaluated. What they find, and what is
-- wrong with it, are notes. In a database without a former system this file leaves nothing but the table of what it
-- replaced.

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

-- Notes for the files that follow; dropped by install/99_finish.sql. table, view, function: what was found.
-- difference: why it cannot become the extension's. owner: whose it will be.
CREATE TABLE plugin_webhooks.taking_over (note text NOT NULL, object text NOT NULL, statement text);
CREATE VIEW plugin_webhooks.found AS
SELECT t.note, t.object AS name, c.oid, c.relowner AS owner
FROM plugin_webhooks.taking_over AS t
JOIN pg_catalog.pg_class AS c
  ON c.oid = CASE WHEN t.note IN ('table', 'view') THEN t.object::regclass END
UNION ALL
SELECT t.note, t.object, p.oid, p.proowner
FROM plugin_webhooks.taking_over AS t
JOIN pg_catalog.pg_proc AS p ON p.oid = CASE WHEN t.note = 'function' THEN t.object::regprocedure END;
-- Their comments, as statements.
CREATE VIEW plugin_webhooks.found_comments AS
SELECT o.name,
       pg_catalog.format('COMMENT ON %s %s IS %s', o.kind, o.name,
           coalesce(pg_catalog.quote_literal(o.comment), 'NULL')) AS statement,
       pg_catalog.format('COMMENT ON %s %s IS NULL', o.kind, o.name) AS removal
FROM (
    SELECT pg_catalog.upper(f.note) AS kind, f.name,
           pg_catalog.obj_description(f.oid,
               CASE f.note WHEN 'function' THEN 'pg_proc' ELSE 'pg_class' END::name) AS comment
    FROM plugin_webhooks.found AS f WHERE f.note IN ('table', 'view', 'function')
    UNION ALL
    SELECT 'COLUMN', pg_catalog.format('%s.%I', f.name, a.attname), pg_catalog.col_description(a.attrelid, a.attnum)
    FROM plugin_webhooks.found AS f
    JOIN pg_catalog.pg_attribute AS a
      ON f.note IN ('table', 'view') AND a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped
) AS o;

-- The shape.
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
    wanted        record;
    actual        record;
    relation      regclass;
    routine       regprocedure;
BEGIN
    -- Tables.
    FOR wanted IN
        SELECT s.relation AS name FROM plugin_webhooks.expected_shape AS s
        WHERE s.kind = 'column' GROUP BY s.relation ORDER BY pg_catalog.min(s.position)
    LOOP
        relation := pg_catalog.to_regclass(wanted.name);
        CONTINUE WHEN relation IS NULL OR relation = ANY (own_relations);
        SELECT c.relkind, c.relpersistence, c.relispartition OR c.relhassubclass OR EXISTS (
                   SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid) AS inherits
        INTO STRICT actual
        FROM pg_catalog.pg_class AS c WHERE c.oid = relation;
        IF actual.relkind <> 'r' OR actual.relpersistence <> 'p' OR actual.inherits THEN
            differences := differences || pg_catalog.format('%s is not an ordinary, logged table', wanted.name);
            CONTINUE;
        END IF;
        FOR actual IN
            SELECT coalesce(w.name, a.attname::text) AS name, w.name IS NOT NULL AS known, w.optional, w.type,
                   a.attname IS NOT NULL AS present, a.atttypid, a.attgenerated,
                   pg_catalog.format_type(a.atttypid, a.atttypmod) AS has
            FROM (
                SELECT s.name, pg_catalog.split_part(s.definition, ' ', 1) AS type, s.kind = 'added column' AS optional
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
            ELSIF actual.attgenerated <> '' THEN
                differences := differences
                    || pg_catalog.format('column %s.%s is generated', wanted.name, actual.name);
            END IF;
        END LOOP;
        INSERT INTO plugin_webhooks.taking_over VALUES ('table', relation::text);
    END LOOP;

    differences := differences || ARRAY(
        SELECT pg_catalog.format('column %s.id is not an identity column', t.object)
        FROM plugin_webhooks.taking_over AS t
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.object::regclass AND a.attname = 'id'
        WHERE t.note = 'table' AND t.object IN ('audit.entity_changes', '"int".plugin_delivery_attempts')
          AND a.attidentity = '');

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
        SELECT p.prokind, p.proretset, p.proargnames, p.pronargdefaults, p.prorettype INTO STRICT actual
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
    END LOOP;

    -- Views.
    FOR wanted IN
        SELECT s.relation AS name, s.definition AS columns FROM plugin_webhooks.expected_shape AS s
        WHERE s.kind = 'view' ORDER BY s.position
    LOOP
        relation := pg_catalog.to_regclass(wanted.name);
        CONTINUE WHEN relation IS NULL OR relation = ANY (own_relations);
        SELECT c.relkind, pg_catalog.string_agg(
                   pg_catalog.concat_ws(' ', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)),
                   ', ' ORDER BY a.attnum) AS columns
        INTO STRICT actual
        FROM pg_catalog.pg_class AS c
        LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.oid = relation GROUP BY c.relkind;
        IF actual.relkind <> 'v' THEN
            differences := differences || pg_catalog.format('%s is not a view', wanted.name);
            CONTINUE;
        ELSIF actual.columns <> wanted.columns THEN
            differences := differences || pg_catalog.format('view %s has the columns (%s), expected (%s)',
                wanted.name, actual.columns, wanted.columns);
        END IF;
        INSERT INTO plugin_webhooks.taking_over VALUES ('view', relation::text);
    END LOOP;

    INSERT INTO plugin_webhooks.taking_over
    SELECT 'difference', x.difference FROM pg_catalog.unnest(differences) AS x (difference);
END
$$;
