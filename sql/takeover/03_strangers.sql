-- What could be taken for the extension's: PostgreSQL prefers a function of text, and a domain of a function's name,
-- to audit.track(regclass) when a call names them with a literal. So before this script, an operator or a superuser
-- calls anything here: no code of a role without superuser rights in the schemas where operators call functions, and
-- in schema int none of the names that the extension uses there. What a former system has is looked at later.
DO $$
DECLARE
    found CONSTANT text[] := ARRAY(
        SELECT pg_catalog.format('%s belongs to %s', pg_catalog.pg_describe_object(o.classid, o.oid, 0), r.rolname)
        FROM (
            SELECT 'pg_catalog.pg_proc'::regclass AS classid, p.oid, p.pronamespace AS schema, p.proname AS name,
                   p.proowner AS owner,
                   p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' IN (
                       'log_entity_change()', 'enqueue_plugin_events_from_audit()',
                       'resolve_installation_signing_secret(uuid)', 'plugin_webhook_apply_action(uuid, text, jsonb)')
                       AND p.prokind = 'f' AS former
            FROM pg_catalog.pg_proc AS p
            UNION ALL
            SELECT 'pg_catalog.pg_operator'::regclass, o.oid, o.oprnamespace, o.oprname, o.oprowner, false
            FROM pg_catalog.pg_operator AS o
            UNION ALL
            -- A type's name is a cast. Rows of tables, and arrays, are no such types.
            SELECT 'pg_catalog.pg_type'::regclass, t.oid, t.typnamespace, t.typname, t.typowner, false
            FROM pg_catalog.pg_type AS t
            WHERE t.typtype <> 'c' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_type AS e WHERE e.typarray = t.oid)
        ) AS o
        JOIN pg_catalog.pg_namespace AS n ON n.oid = o.schema
        JOIN pg_catalog.pg_roles AS r ON r.oid = o.owner AND NOT r.rolsuper
        WHERE (n.nspname = 'plugin_webhooks'
               OR n.nspname = 'audit' AND (o.classid <> 'pg_catalog.pg_type'::regclass OR o.name IN (
                   'track', 'track_all', 'untrack', 'log_entity_change'))
               OR n.nspname = 'int' AND o.name IN (
                   'resolve_installation_signing_secret', 'plugin_webhook_apply_action', 'forget_subscriptions',
                   'enqueue_plugin_events_from_audit'))
          AND NOT (o.former AND n.nspname IN ('int', 'audit'))
          -- An update looks at its own members later.
          AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_depend AS d
              JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
              WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e'
                AND d.refclassid = 'pg_catalog.pg_extension'::regclass)
        ORDER BY 1);
BEGIN
    IF found <> '{}' THEN
        RAISE EXCEPTION 'cannot install where calls of the extension could find other code: %', found[1]
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = pg_catalog.array_to_string(found, E'\n'),
                  HINT = 'Look at these objects, drop them or move them to another schema, and run the statement '
                         'again. Nothing was changed.';
    END IF;
END
$$;
