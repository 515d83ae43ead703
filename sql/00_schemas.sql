-- Every file of this directory converges: run in their order, they make the same objects out of nothing,
-- out of the same system in PL/pgSQL over pg_net (05_take_over.sql), and out of an earlier version. The upgrade
-- scripts are these files, too.

-- Only PostgreSQL's own functions and operators, whatever the caller's search_path says.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Where everything lives. A schema that a host brought along stays the host's.
DO $$
DECLARE
    wanted  record;
    grantee record;
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
            -- What default privileges would give.
            FOR grantee IN
                SELECT DISTINCT x.grantee AS oid FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS x
                WHERE n.nspname OPERATOR(pg_catalog.=) wanted.name::name AND x.grantee OPERATOR(pg_catalog.<>) n.nspowner
            LOOP
                EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %s', wanted.name,
                    CASE grantee.oid WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee.oid)) END);
            END LOOP;
        END IF;
    END LOOP;
END
$$;
