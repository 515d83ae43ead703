-- Only PostgreSQL's own functions and operators, whatever the caller's search_path says.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Where everything lives. A schema that a host brought along stays the host's.
DO $$
DECLARE
    wanted record;
BEGIN
    IF pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'plugin_webhooks needs a database with encoding UTF8, this one has %',
                pg_catalog.current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Create the database with ENCODING ''UTF8''.';
    END IF;
    FOR wanted IN
        SELECT * FROM (VALUES
            ('int'::text, 'Plugin catalogue, installations, subscriptions and the delivery queue. Written by functions only.'::text),
            ('audit', 'The audit log and the functions that attach it to tables.'),
            ('plugin_webhooks', 'What operators of plugin_webhooks use: secrets, inbound actions, health, grants.')
        ) AS s (name, comment)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n
                       WHERE n.nspname OPERATOR(pg_catalog.=) wanted.name::name) THEN
            EXECUTE pg_catalog.format('CREATE SCHEMA %I', wanted.name);
            EXECUTE pg_catalog.format('COMMENT ON SCHEMA %I IS %L', wanted.name, wanted.comment);
        END IF;
    END LOOP;
END
$$;
