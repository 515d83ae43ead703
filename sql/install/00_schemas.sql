-- The schema of the extension, to be read from top to bottom in the order of the files' numbers. Every statement
-- converges: the files make the same objects out of nothing, out of an earlier version (each upgrade script is the
-- install script), and, with those of sql/takeover between them, out of the former system: the same tables, views and
-- functions, written in PL/pgSQL over pg_net.

-- Only PostgreSQL's own functions and operators, whatever the caller's search_path says.
SET LOCAL search_path TO pg_catalog, pg_temp;

DO $$
BEGIN
    IF pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'plugin_webhooks needs a database with encoding UTF8, this one has %',
                pg_catalog.current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Create the database with ENCODING ''UTF8''.';
    END IF;
END
$$;

-- Where everything lives. A schema that a host brought along stays the host's.
DO $$
DECLARE
    wanted  record;
    grantee record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('int'::text,
             'Plugin catalogue, installations, subscriptions and the delivery queue. Written by functions only.'::text),
            ('audit',
             'The audit log and the functions that attach it to tables.'),
            ('plugin_webhooks',
             'What operators of plugin_webhooks use: secrets, inbound actions, health, grants.')
        ) AS s (name, comment)
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_namespace AS n
                              WHERE n.nspname OPERATOR(pg_catalog.=) wanted.name::name);
        EXECUTE pg_catalog.format('CREATE SCHEMA %I', wanted.name);
        EXECUTE pg_catalog.format('COMMENT ON SCHEMA %I IS %L', wanted.name, wanted.comment);
        -- What default privileges would give.
        FOR grantee IN
            SELECT DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC'
                                ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END AS name
            FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS x
            WHERE n.nspname OPERATOR(pg_catalog.=) wanted.name::name
              AND x.grantee OPERATOR(pg_catalog.<>) n.nspowner
        LOOP
            EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %s', wanted.name, grantee.name);
        END LOOP;
    END LOOP;
END
$$;
