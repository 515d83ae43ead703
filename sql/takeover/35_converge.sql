-- What CREATE TABLE IF NOT EXISTS leaves as it is: tables that were there before get the defaults and constraints
-- of those that sql/install makes. Where they have them already, nothing is locked and nothing is read.

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT w.relation, w.name, w.not_null, w.default_value, a.attnotnull AS is_not_null,
               pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS has_default
        FROM (
            SELECT s.relation, s.name, s.definition LIKE '% NOT NULL%' AS not_null,
                   substring(s.definition FROM ' DEFAULT (.*)$') AS default_value
            FROM plugin_webhooks.expected_shape AS s WHERE s.kind = 'column'
        ) AS w
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = w.relation::regclass AND a.attname = w.name
        LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LOOP
        IF wanted.has_default IS DISTINCT FROM nullif(wanted.default_value, 'NULL')
           -- A default of the host stays where the expected shape names none.
           AND wanted.default_value IS NOT NULL THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s',
                wanted.relation, wanted.name, wanted.default_value);
        END IF;
        IF wanted.is_not_null <> wanted.not_null THEN
            -- PostgreSQL reads the other constraints to see whether it has to look at the rows.
            PERFORM plugin_webhooks.as_owner_of(wanted.relation::regclass,
                pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I %s NOT NULL', wanted.relation, wanted.name,
                    CASE WHEN wanted.not_null THEN 'SET' ELSE 'DROP' END));
        END IF;
    END LOOP;
END
$$;

-- Constraints: of the same meaning under another name, renamed; of another meaning under the same name, or a key of
-- the same columns, replaced; what is missing is added.
DO $$
DECLARE
    wanted    record;
    same      record;
    statement text;
BEGIN
    FOR wanted IN
        SELECT s.relation::regclass AS relation, s.name, s.definition,
               CASE WHEN s.definition LIKE 'PRIMARY KEY %' THEN 'p' WHEN s.definition LIKE 'UNIQUE %' THEN 'u'
                    WHEN s.definition LIKE 'FOREIGN KEY %' THEN 'f' END::"char" AS key_type,
               pg_catalog.string_to_array(
                   substring(s.definition FROM '(?:KEY|UNIQUE) \(([^)]*)\)'), ', ') AS columns
        FROM plugin_webhooks.expected_shape AS s WHERE s.kind = 'constraint'
    LOOP
        statement := NULL;
        SELECT c.conname, d.definition = wanted.definition AS equal INTO same
        FROM pg_catalog.pg_constraint AS c
        CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_constraintdef(c.oid) AS definition) AS d
        WHERE c.conrelid = wanted.relation
          AND (d.definition = wanted.definition
               OR c.conname = wanted.name
               OR c.contype = wanted.key_type AND wanted.columns = ARRAY(
                   SELECT a.attname::text FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k (number, position)
                   JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number
                   ORDER BY k.position))
        ORDER BY c.conname = wanted.name AND d.definition = wanted.definition DESC,
                 d.definition = wanted.definition DESC
        LIMIT 1;
        IF NOT FOUND THEN
            statement := pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s',
                wanted.relation, wanted.name, wanted.definition);
        ELSIF NOT same.equal THEN
            statement := pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s',
                wanted.relation, same.conname, wanted.name, wanted.definition);
        ELSIF same.conname <> wanted.name THEN
            statement := pg_catalog.format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I',
                wanted.relation, same.conname, wanted.name);
        END IF;
        IF statement IS NULL THEN
            CONTINUE;
        ELSIF wanted.key_type IN ('p', 'u') THEN
            -- Makes an index, for which an owner needs rights on the schema; PostgreSQL fills it as the owner.
            EXECUTE statement;
        ELSE
            PERFORM plugin_webhooks.as_owner_of(wanted.relation, statement);
        END IF;
    END LOOP;
END
$$;

-- Exactly one trigger enqueues, whatever called its function before: a second one would enqueue twice.
DO $$
DECLARE
    enqueues record;
BEGIN
    FOR enqueues IN
        SELECT t.tgname FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = 'audit.entity_changes'::regclass AND NOT t.tgisinternal
          AND t.tgfoid = 'int.enqueue_plugin_events_from_audit()'::regprocedure
          AND t.tgname <> 'entity_changes_plugin_enqueue_trigger'
    LOOP
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON audit.entity_changes', enqueues.tgname);
    END LOOP;
END
$$;

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
