-- Written by `cargo xtask upgrade-script` from the other files of this directory. Do not edit.
\echo Use "ALTER EXTENSION plugin_webhooks UPDATE TO '0.2.0'" to load this file. \quit

-- 00_schemas.sql
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

-- 05_take_over.sql
-- A database that already holds this system in PL/pgSQL: its tables, views and functions become the
-- extension's, in place, when they have the shape that is expected; else nothing happens at all. In a database
-- without them this file leaves nothing but the table of what it replaced.

CREATE TABLE IF NOT EXISTS plugin_webhooks.replaced (
    step      integer NOT NULL,
    object    text NOT NULL,
    statement text NOT NULL
);
COMMENT ON TABLE plugin_webhooks.replaced IS 'What CREATE EXTENSION found and replaced, as statements in the order of step. plugin_webhooks.hand_back() runs them.';

-- Notes for the files that follow; dropped by 70_grants.sql.
CREATE TABLE plugin_webhooks.taking_over (note text NOT NULL, object text NOT NULL, statement text);

DO $$
DECLARE
    extension   CONSTANT oid := (SELECT e.oid FROM pg_catalog.pg_extension AS e WHERE e.extname = 'plugin_webhooks');
    differences text[] := '{}';
    taken       text[] := '{}';
    wanted      record;
    actual      record;
    relation    regclass;
    routine     regprocedure;
    identity    regclass;
    nulls       bigint;
BEGIN
    -- Tables. "?": may be null. "+": an addition of this extension, which need not be there yet.
    FOR wanted IN
        SELECT t.name, t.columns FROM (VALUES
            ('int.plugins'::text,
             'id uuid, key text, name text, description text?, is_integration boolean, is_active boolean, created_at timestamptz, updated_at timestamptz'::text),
            ('int.plugin_installations',
             'id uuid, tenant_id uuid, plugin_id uuid, status text, secret_ref text?, config jsonb?, installed_by uuid?, installed_at timestamptz, updated_at timestamptz'),
            ('int.plugin_webhook_subscriptions',
             'id uuid, plugin_installation_id uuid, table_schema text, table_name text, operations text[], changed_fields_allowlist text[]?, include_payload boolean, created_at timestamptz, updated_at timestamptz'),
            ('audit.entity_changes',
             'id bigint, table_schema text, table_name text, record_id text, operation text, old_data jsonb?, new_data jsonb?, changed_fields text[]?, user_id uuid?, tenant_id uuid?, ip_address inet?, user_agent text?, created_at timestamptz'),
            ('int.plugin_delivery_queue',
             'id uuid, tenant_id uuid, plugin_installation_id uuid, source_entity_change_id bigint, event_type text, payload jsonb, status text, attempts integer, next_attempt_at timestamptz, last_error text?, net_request_id bigint?, sent_at timestamptz?, created_at timestamptz, updated_at timestamptz, +claim_id bigint?, +lease_expires_at timestamptz?')
        ) AS t (name, columns)
    LOOP
        relation := pg_catalog.to_regclass(wanted.name);
        CONTINUE WHEN relation IS NULL OR EXISTS (
            SELECT FROM pg_catalog.pg_depend AS d
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = relation AND d.deptype = 'e' AND d.refobjid = extension);
        SELECT c.relkind, c.relpersistence, c.relispartition OR c.relhassubclass AS inherits INTO STRICT actual
        FROM pg_catalog.pg_class AS c WHERE c.oid = relation;
        IF actual.relkind <> 'r' OR actual.relpersistence <> 'p' OR actual.inherits THEN
            differences := differences || pg_catalog.format('%s is not an ordinary, logged table', wanted.name);
            CONTINUE;
        END IF;
        FOR actual IN
            SELECT coalesce(w.name, a.attname::text) AS name, w.name IS NOT NULL AS known, w.optional, w.type, w.nullable,
                   a.attname IS NOT NULL AS present, a.atttypid, a.attnotnull,
                   pg_catalog.format_type(a.atttypid, a.atttypmod) AS has, a.atttypmod
            FROM (
                SELECT pg_catalog.ltrim(pg_catalog.split_part(x.item, ' ', 1), '+') AS name,
                       pg_catalog.rtrim(pg_catalog.split_part(x.item, ' ', 2), '?') AS type,
                       x.item LIKE '+%' AS optional, x.item LIKE '%?' AS nullable
                FROM pg_catalog.string_to_table(wanted.columns, ', ') AS x (item)
            ) AS w
            FULL JOIN (
                SELECT * FROM pg_catalog.pg_attribute AS p
                WHERE p.attrelid = relation AND p.attnum > 0 AND NOT p.attisdropped
            ) AS a ON a.attname = w.name
            ORDER BY a.attnum
        LOOP
            IF NOT actual.known THEN
                differences := differences || pg_catalog.format('column %s.%s is not expected', wanted.name, actual.name);
            ELSIF NOT actual.present THEN
                IF NOT actual.optional THEN
                    differences := differences || pg_catalog.format('column %s.%s %s is missing', wanted.name, actual.name, actual.type);
                END IF;
            ELSIF actual.atttypid <> pg_catalog.to_regtype(actual.type) THEN
                differences := differences || pg_catalog.format('column %s.%s is %s, expected %s',
                    wanted.name, actual.name, actual.has, pg_catalog.to_regtype(actual.type));
            ELSIF NOT actual.nullable AND NOT actual.attnotnull THEN
                EXECUTE pg_catalog.format('SELECT pg_catalog.count(*) FROM %s WHERE %I IS NULL', relation, actual.name) INTO nulls;
                IF nulls > 0 THEN
                    differences := differences || pg_catalog.format('column %s.%s is null in %s rows', wanted.name, actual.name, nulls);
                END IF;
            END IF;
        END LOOP;
        taken := taken || wanted.name;
    END LOOP;

    IF 'audit.entity_changes' = ANY (taken)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                       WHERE a.attrelid = pg_catalog.to_regclass('audit.entity_changes') AND a.attname = 'id' AND a.attidentity <> '') THEN
        differences := differences || 'column audit.entity_changes.id is not an identity column'::text;
    END IF;
    IF (SELECT pg_catalog.count(DISTINCT c.relowner) FROM pg_catalog.unnest(taken) AS f (name)
        JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name) WHERE f.name LIKE 'int.%') > 1 THEN
        differences := differences || 'the tables of schema int have different owners'::text;
    END IF;

    -- Functions: a client calls them with these argument names.
    FOR wanted IN
        SELECT f.schema_name, f.name, f.arguments::text[] AS arguments, f.types, f.defaults, f.result FROM (VALUES
            ('public'::text, 'rpc_register_plugin'::text, '{p_key,p_name,p_description,p_is_integration,p_is_active}'::text, 'text,text,text,boolean,boolean'::text, 3, 'uuid'::text),
            ('public', 'rpc_install_plugin', '{p_tenant_id,p_plugin_key,p_secret_ref,p_config}', 'uuid,text,text,jsonb', 2, 'uuid'),
            ('public', 'rpc_update_plugin_installation', '{p_tenant_id,p_installation_id,p_status,p_secret_ref,p_config}', 'uuid,uuid,text,text,jsonb', 3, 'void'),
            ('public', 'rpc_uninstall_plugin', '{p_tenant_id,p_installation_id}', 'uuid,uuid', 0, 'void'),
            ('public', 'rpc_upsert_plugin_webhook_subscription', '{p_tenant_id,p_installation_id,p_table_schema,p_table_name,p_operations,p_changed_fields_allowlist,p_include_payload}', 'uuid,uuid,text,text,text[],text[],boolean', 2, 'uuid'),
            ('public', 'rpc_delete_plugin_webhook_subscription', '{p_tenant_id,p_subscription_id}', 'uuid,uuid', 0, 'void'),
            ('public', 'rpc_process_plugin_deliveries', '{p_batch_size}', 'integer', 1, 'integer'),
            ('public', 'rpc_plugin_ingest_webhook', '{p_plugin_key,p_installation_id,p_payload,p_signature}', 'text,uuid,jsonb,text', 0, 'jsonb'),
            ('audit', 'log_entity_change', '{}', '', 0, 'trigger'),
            ('int', 'enqueue_plugin_events_from_audit', '{}', '', 0, 'trigger'),
            ('int', 'resolve_installation_signing_secret', '{p_installation_id}', 'uuid', 0, 'text'),
            ('int', 'plugin_webhook_apply_action', '{p_tenant_id,p_action,p_data}', 'uuid,text,jsonb', 0, 'jsonb')
        ) AS f (schema_name, name, arguments, types, defaults, result)
    LOOP
        routine := pg_catalog.to_regprocedure(pg_catalog.format('%I.%I(%s)', wanted.schema_name, wanted.name, wanted.types));
        IF routine IS NULL THEN
            SELECT p.oid::regprocedure AS signature INTO actual FROM pg_catalog.pg_proc AS p
            WHERE p.pronamespace = pg_catalog.to_regnamespace(wanted.schema_name) AND p.proname = wanted.name LIMIT 1;
            IF FOUND THEN
                differences := differences || pg_catalog.format('function %s, expected %s.%s(%s)',
                    actual.signature, wanted.schema_name, wanted.name, wanted.types);
            END IF;
            CONTINUE;
        END IF;
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_catalog.pg_depend AS d
            WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = routine AND d.deptype = 'e' AND d.refobjid = extension);
        SELECT p.prokind, p.proretset, p.proargnames, p.pronargdefaults, p.prorettype, p.proowner INTO STRICT actual
        FROM pg_catalog.pg_proc AS p WHERE p.oid = routine;
        IF actual.prokind <> 'f' OR actual.proretset OR actual.prorettype <> pg_catalog.to_regtype(wanted.result) THEN
            differences := differences || pg_catalog.format('%s is not a function that returns one %s', routine, wanted.result);
        ELSIF coalesce(actual.proargnames, '{}') <> wanted.arguments THEN
            differences := differences || pg_catalog.format('function %s has the arguments (%s), expected (%s)', routine,
                pg_catalog.array_to_string(actual.proargnames, ', '), pg_catalog.array_to_string(wanted.arguments, ', '));
        ELSIF actual.pronargdefaults > wanted.defaults THEN
            differences := differences || pg_catalog.format('function %s has %s default values, expected %s', routine,
                actual.pronargdefaults, wanted.defaults);
        END IF;
        INSERT INTO plugin_webhooks.taking_over VALUES ('function', routine::text);
        INSERT INTO plugin_webhooks.replaced
        SELECT 1, routine::text, s.statement FROM (VALUES
            (pg_catalog.pg_get_functiondef(routine)),
            (pg_catalog.format('ALTER FUNCTION %s OWNER TO %I', routine, pg_catalog.pg_get_userbyid(actual.proowner)))
        ) AS s (statement);
    END LOOP;

    -- Views.
    FOR wanted IN
        SELECT v.name, v.columns FROM (VALUES
            ('public.v_plugins'::text, 'id uuid, key text, name text, description text, is_integration boolean, is_active boolean, created_at timestamp with time zone, updated_at timestamp with time zone'::text),
            ('public.v_plugin_installations', 'id uuid, tenant_id uuid, plugin_id uuid, plugin_key text, plugin_name text, is_integration boolean, status text, secret_ref text, config jsonb, installed_by uuid, installed_at timestamp with time zone, updated_at timestamp with time zone'),
            ('public.v_plugin_webhook_subscriptions', 'id uuid, tenant_id uuid, plugin_installation_id uuid, plugin_key text, table_schema text, table_name text, operations text[], changed_fields_allowlist text[], include_payload boolean, created_at timestamp with time zone, updated_at timestamp with time zone'),
            ('public.v_plugin_delivery_queue_recent', 'id uuid, tenant_id uuid, plugin_installation_id uuid, plugin_key text, event_type text, status text, attempts integer, last_error text, created_at timestamp with time zone, updated_at timestamp with time zone'),
            ('public.v_audit_entity_changes', 'id bigint, table_schema text, table_name text, record_id text, operation text, old_data jsonb, new_data jsonb, changed_fields text[], user_id uuid, tenant_id uuid, created_at timestamp with time zone')
        ) AS v (name, columns)
    LOOP
        relation := pg_catalog.to_regclass(wanted.name);
        CONTINUE WHEN relation IS NULL OR EXISTS (
            SELECT FROM pg_catalog.pg_depend AS d
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = relation AND d.deptype = 'e' AND d.refobjid = extension);
        SELECT c.relkind, c.relowner, c.reloptions, pg_catalog.string_agg(
                   pg_catalog.concat_ws(' ', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum) AS columns
        INTO STRICT actual
        FROM pg_catalog.pg_class AS c
        LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.oid = relation GROUP BY c.relkind, c.relowner, c.reloptions;
        IF actual.relkind <> 'v' THEN
            differences := differences || pg_catalog.format('%s is not a view', wanted.name);
            CONTINUE;
        ELSIF actual.columns <> wanted.columns THEN
            differences := differences || pg_catalog.format('view %s has the columns (%s), expected (%s)', wanted.name, actual.columns, wanted.columns);
        END IF;
        taken := taken || wanted.name;
        INSERT INTO plugin_webhooks.taking_over VALUES ('view', wanted.name);
        INSERT INTO plugin_webhooks.replaced
        SELECT 2, wanted.name, s.statement FROM (VALUES
            (pg_catalog.format('CREATE OR REPLACE VIEW %s%s AS %s', relation,
                ' WITH (' || pg_catalog.array_to_string(actual.reloptions, ', ') || ')', pg_catalog.pg_get_viewdef(relation))),
            (pg_catalog.format('ALTER VIEW %s OWNER TO %I', relation, pg_catalog.pg_get_userbyid(actual.relowner)))
        ) AS s (statement);
    END LOOP;

    IF differences <> '{}' THEN
        RAISE EXCEPTION 'cannot take over what this database holds: %', differences[1]
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = pg_catalog.array_to_string(differences, E'\n'),
                  HINT = 'Change these objects, or rename them, and run CREATE EXTENSION again. Nothing was changed.';
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
               AND 'int.plugins' = ANY (taken) AND t.tgrelid IN (pg_catalog.to_regclass('int.plugins'), pg_catalog.to_regclass('int.plugin_installations')))
    LOOP
        INSERT INTO plugin_webhooks.replaced VALUES (4, actual.relation::text, actual.definition);
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', actual.tgname, actual.relation);
    END LOOP;
    FOR actual IN
        SELECT c.oid::regclass AS relation, p.policyname, p.permissive, p.cmd, p.qual, p.with_check, r.roles
        FROM pg_catalog.unnest(taken) AS f (name)
        JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name) AND c.relkind = 'r'
        JOIN pg_catalog.pg_policies AS p
          ON p.schemaname = pg_catalog.split_part(f.name, '.', 1) AND p.tablename = pg_catalog.split_part(f.name, '.', 2)
        CROSS JOIN LATERAL (
            SELECT pg_catalog.string_agg(CASE x.name WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(x.name) END, ', ') AS roles
            FROM pg_catalog.unnest(p.roles) AS x (name)
        ) AS r
        WHERE p.policyname ~ ('^' || c.relname || '_(select|insert|update|delete|all)_(anon|authenticated|service_role|public)$')
    LOOP
        INSERT INTO plugin_webhooks.replaced VALUES (5, actual.relation::text,
            pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', actual.policyname, actual.relation, actual.permissive, actual.cmd, actual.roles)
            || coalesce(' USING (' || actual.qual || ')', '') || coalesce(' WITH CHECK (' || actual.with_check || ')', ''));
        EXECUTE pg_catalog.format('DROP POLICY %I ON %s', actual.policyname, actual.relation);
    END LOOP;
    INSERT INTO plugin_webhooks.replaced
    SELECT 6, o.name, pg_catalog.format('GRANT %s ON %s %s TO %s', x.privilege_type, o.kind, o.name,
               CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END)
    FROM (
        SELECT 'TABLE'::text AS kind, c.oid::regclass::text AS name, c.relowner AS owner, c.relacl AS acl
        FROM pg_catalog.unnest(taken) AS f (name) JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(f.name)
        UNION ALL
        SELECT 'FUNCTION', p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
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
        -- Handed back by an earlier installation.
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

    -- Who owns the functions that run with their owner's rights: whoever owned them, else the tables' owner.
    INSERT INTO plugin_webhooks.taking_over
    SELECT 'function owner', pg_catalog.pg_get_userbyid(o.owner) FROM (
        SELECT p.proowner AS owner, 1 AS rank FROM pg_catalog.pg_proc AS p
        WHERE p.oid = pg_catalog.to_regprocedure('public.rpc_install_plugin(uuid,text,text,jsonb)')
        UNION ALL
        SELECT c.relowner, 2 FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass('int.plugins')
        UNION ALL
        SELECT e.extowner, 3 FROM pg_catalog.pg_extension AS e WHERE e.oid = extension
    ) AS o ORDER BY o.rank LIMIT 1;
END
$$;

-- Grants that are not the interface's: 70_grants.sql gives them back.
INSERT INTO plugin_webhooks.taking_over
WITH member AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::regclass
), object AS (
    SELECT 'FUNCTION'::text AS kind, p.oid::regprocedure::text AS name, ''::text AS columns, p.proowner AS owner, p.proacl AS acl
    FROM member AS m JOIN pg_catalog.pg_proc AS p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, '', c.relowner, c.relacl
    FROM member AS m JOIN pg_catalog.pg_class AS c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
    UNION ALL
    SELECT 'TABLE', c.oid::regclass::text, pg_catalog.format(' (%I)', a.attname), c.relowner, a.attacl
    FROM member AS m JOIN pg_catalog.pg_class AS c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
    UNION ALL
    SELECT 'SCHEMA', pg_catalog.quote_ident(n.nspname), '', n.nspowner, n.nspacl
    FROM member AS m JOIN pg_catalog.pg_namespace AS n ON m.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = m.objid
)
SELECT 'grant', o.name, pg_catalog.format('GRANT %s%s ON %s %s TO %I%s', x.privilege_type, o.columns, o.kind, o.name,
           r.rolname, CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM object AS o, pg_catalog.aclexplode(o.acl) AS x
JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
WHERE x.grantee <> o.owner AND r.rolname NOT IN ('anon', 'authenticated', 'service_role')
  AND o.name NOT IN ('plugin_webhooks.replaced', 'plugin_webhooks.taking_over');

-- 10_tables.sql
-- The catalogue, the installations, their subscriptions, the audit log and the queue.

CREATE TABLE IF NOT EXISTS int.plugins (
    id             uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    key            text NOT NULL UNIQUE,
    name           text NOT NULL,
    description    text,
    is_integration boolean NOT NULL DEFAULT false,
    is_active      boolean NOT NULL DEFAULT true,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT plugins_key_check
        CHECK (key ~ '^[a-z0-9_]+$' AND pg_catalog.length(key) BETWEEN 2 AND 80)
);
COMMENT ON TABLE int.plugins IS 'The catalogue of plugins. Written by rpc_register_plugin, readable by every authenticated user.';
COMMENT ON COLUMN int.plugins.key IS 'Stable name: 2 to 80 characters of a-z, 0-9 and _.';
COMMENT ON COLUMN int.plugins.is_active IS 'An inactive plugin is hidden from v_plugins and refuses inbound calls.';

CREATE TABLE IF NOT EXISTS int.plugin_installations (
    id           uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    tenant_id    uuid NOT NULL,
    plugin_id    uuid NOT NULL REFERENCES int.plugins (id) ON DELETE CASCADE,
    status       text NOT NULL DEFAULT 'installed',
    secret_ref   text,
    config       jsonb,
    installed_by uuid,
    installed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT plugin_installations_status_check
        CHECK (status IN ('installed', 'disabled', 'uninstalled')),
    CONSTRAINT plugin_installations_tenant_id_plugin_id_key UNIQUE (tenant_id, plugin_id)
);
COMMENT ON TABLE int.plugin_installations IS 'One plugin of one tenant: where its deliveries go and which secret signs them.';
COMMENT ON COLUMN int.plugin_installations.status IS 'installed: delivers. disabled, uninstalled: enqueues and sends nothing.';
COMMENT ON COLUMN int.plugin_installations.secret_ref IS 'Name of the signing secret in Vault or in the embedded store; never the secret itself.';
COMMENT ON COLUMN int.plugin_installations.config IS 'webhook_url (http or https), headers (object of strings), timeout_ms (1000 to 120000, default 15000); other keys are the plugin''s own.';
COMMENT ON COLUMN int.plugin_installations.installed_by IS 'The user who installed it; null for an operator.';

CREATE TABLE IF NOT EXISTS int.plugin_webhook_subscriptions (
    id                       uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    plugin_installation_id   uuid NOT NULL REFERENCES int.plugin_installations (id) ON DELETE CASCADE,
    table_schema             text NOT NULL,
    table_name               text NOT NULL,
    operations               text[] NOT NULL,
    changed_fields_allowlist text[],
    include_payload          boolean NOT NULL DEFAULT false,
    created_at               timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at               timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT plugin_webhook_subscriptions_operations_check
        CHECK (pg_catalog.cardinality(operations) > 0
               AND operations <@ ARRAY['INSERT', 'UPDATE', 'DELETE']::text[]),
    CONSTRAINT plugin_webhook_subscriptions_installation_table_key
        UNIQUE (plugin_installation_id, table_schema, table_name)
);
COMMENT ON TABLE int.plugin_webhook_subscriptions IS 'Which changes of which table an installation hears of.';
COMMENT ON COLUMN int.plugin_webhook_subscriptions.operations IS 'Non-empty subset of INSERT, UPDATE, DELETE.';
COMMENT ON COLUMN int.plugin_webhook_subscriptions.changed_fields_allowlist IS 'For UPDATE: at least one changed column must be in it. Null or empty: every update.';
COMMENT ON COLUMN int.plugin_webhook_subscriptions.include_payload IS 'true: the delivery carries old_data and new_data. false: record_id and changed_fields only.';

CREATE TABLE IF NOT EXISTS audit.entity_changes (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_schema   text NOT NULL,
    table_name     text NOT NULL,
    record_id      text NOT NULL,
    operation      text NOT NULL,
    old_data       jsonb,
    new_data       jsonb,
    changed_fields text[],
    user_id        uuid,
    tenant_id      uuid,
    ip_address     inet,
    user_agent     text,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT entity_changes_operation_check CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE'))
);
COMMENT ON TABLE audit.entity_changes IS 'The audit log: one row a changed row. Written by audit.log_entity_change().';
COMMENT ON COLUMN audit.entity_changes.record_id IS 'The changed row''s id as text.';
COMMENT ON COLUMN audit.entity_changes.changed_fields IS 'UPDATE only: the columns whose value changed, in the table''s column order.';
COMMENT ON COLUMN audit.entity_changes.user_id IS 'Claim sub of the session that made the change, where there is one.';
COMMENT ON COLUMN audit.entity_changes.tenant_id IS 'The row''s tenant_id; app.tenants counts as its own tenant. Null: no delivery.';

CREATE TABLE IF NOT EXISTS int.plugin_delivery_queue (
    id                      uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    tenant_id               uuid NOT NULL,
    plugin_installation_id  uuid NOT NULL REFERENCES int.plugin_installations (id) ON DELETE CASCADE,
    source_entity_change_id bigint NOT NULL REFERENCES audit.entity_changes (id) ON DELETE CASCADE,
    event_type              text NOT NULL,
    payload                 jsonb NOT NULL,
    status                  text NOT NULL DEFAULT 'pending',
    attempts                integer NOT NULL DEFAULT 0,
    next_attempt_at         timestamptz NOT NULL DEFAULT pg_catalog.now(),
    last_error              text,
    net_request_id          bigint,
    sent_at                 timestamptz,
    created_at              timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at              timestamptz NOT NULL DEFAULT pg_catalog.now(),
    claim_id                bigint,
    lease_expires_at        timestamptz,
    CONSTRAINT plugin_delivery_queue_status_check
        CHECK (status IN ('pending', 'sending', 'delivered', 'failed', 'dead')),
    CONSTRAINT plugin_delivery_queue_attempts_check CHECK (attempts >= 0),
    CONSTRAINT plugin_delivery_queue_installation_change_key
        UNIQUE (plugin_installation_id, source_entity_change_id)
);
-- An older form has neither lease nor claim.
ALTER TABLE int.plugin_delivery_queue
    ADD COLUMN IF NOT EXISTS claim_id bigint,
    ADD COLUMN IF NOT EXISTS lease_expires_at timestamptz;
ALTER TABLE int.plugin_delivery_queue SET (
    -- Every delivery is updated twice soon after its insert.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
COMMENT ON TABLE int.plugin_delivery_queue IS 'The outbox: one row for each change and installation that subscribed to it.';
COMMENT ON COLUMN int.plugin_delivery_queue.id IS 'Sent as X-Plugin-Delivery-Id; the same for every attempt.';
COMMENT ON COLUMN int.plugin_delivery_queue.payload IS 'The request body is exactly payload::text.';
COMMENT ON COLUMN int.plugin_delivery_queue.status IS 'pending: waits for next_attempt_at. sending: claimed until lease_expires_at. delivered: answered 2xx. dead: given up. failed: not used by this version.';
COMMENT ON COLUMN int.plugin_delivery_queue.attempts IS 'Failed attempts so far. The 8th makes the delivery dead.';
COMMENT ON COLUMN int.plugin_delivery_queue.last_error IS 'Why the last attempt failed, at most 500 characters: http <status>: <start of body>, or the kind of network error.';
COMMENT ON COLUMN int.plugin_delivery_queue.net_request_id IS 'Unused; kept for databases that already have it.';
COMMENT ON COLUMN int.plugin_delivery_queue.sent_at IS 'When the last attempt was handed to the network.';
COMMENT ON COLUMN int.plugin_delivery_queue.claim_id IS 'Fencing token of the claim that sends it; null while handed over by the processor. An outcome of another claim changes nothing.';
COMMENT ON COLUMN int.plugin_delivery_queue.lease_expires_at IS 'A sending row goes back to pending when this has passed.';

-- The extension's own tables. Nobody but its functions reads them.
CREATE TABLE IF NOT EXISTS plugin_webhooks.instance (
    system_identifier text NOT NULL,
    database_oid      bigint NOT NULL,
    extension_oid     bigint NOT NULL,
    site              text NOT NULL,
    since             timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE plugin_webhooks.instance IS 'Where this data is at home. A dump carries the row along: where it does not describe the place it is in, nothing is sent until plugin_webhooks.resume().';
COMMENT ON COLUMN plugin_webhooks.instance.system_identifier IS 'The cluster, as pg_control_system() names it.';
COMMENT ON COLUMN plugin_webhooks.instance.extension_oid IS 'Oid of this CREATE EXTENSION: another one after a restore into the same database.';
COMMENT ON COLUMN plugin_webhooks.instance.site IS 'plugin_webhooks.site at that time: tells physical copies apart.';

CREATE TABLE IF NOT EXISTS plugin_webhooks.secrets (
    id          uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    name        text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    key_id      text NOT NULL,
    nonce       bytea NOT NULL,
    ciphertext  bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT secrets_name_check CHECK (name <> ''),
    CONSTRAINT secrets_nonce_check CHECK (pg_catalog.octet_length(nonce) = 24)
);
COMMENT ON TABLE plugin_webhooks.secrets IS 'Embedded secret store, used where vault.decrypted_secrets does not exist. XChaCha20-Poly1305; the key is in the file plugin_webhooks.secret_key_file.';
COMMENT ON COLUMN plugin_webhooks.secrets.key_id IS 'Which key encrypted it: first 16 hex digits of a hash of the key.';

CREATE TABLE IF NOT EXISTS plugin_webhooks.actions (
    action         text PRIMARY KEY,
    handler_schema text NOT NULL,
    handler_name   text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT actions_action_check CHECK (action ~ '^[a-z0-9_]+(\.[a-z0-9_]+)*$' AND pg_catalog.length(action) <= 100)
);
COMMENT ON TABLE plugin_webhooks.actions IS 'Inbound actions added with plugin_webhooks.register_action. noop and work_order.create are built in.';

CREATE UNLOGGED TABLE IF NOT EXISTS plugin_webhooks.rate_limits (
    bucket       text PRIMARY KEY,
    window_start timestamptz NOT NULL,
    hits         integer NOT NULL
);
COMMENT ON TABLE plugin_webhooks.rate_limits IS 'Calls in the current minute, where the host brings no util.check_rate_limit. Not worth a WAL record: lost in a crash.';

ALTER TABLE plugin_webhooks.instance ENABLE ROW LEVEL SECURITY;
ALTER TABLE plugin_webhooks.replaced ENABLE ROW LEVEL SECURITY;
ALTER TABLE int.plugins ENABLE ROW LEVEL SECURITY;
ALTER TABLE int.plugin_installations ENABLE ROW LEVEL SECURITY;
ALTER TABLE int.plugin_webhook_subscriptions ENABLE ROW LEVEL SECURITY;
ALTER TABLE int.plugin_delivery_queue ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.entity_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE plugin_webhooks.secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE plugin_webhooks.actions ENABLE ROW LEVEL SECURITY;
ALTER TABLE plugin_webhooks.rate_limits ENABLE ROW LEVEL SECURITY;

-- The data is the user's: it travels with pg_dump.
SELECT pg_catalog.pg_extension_config_dump('int.plugins', '');
SELECT pg_catalog.pg_extension_config_dump('int.plugin_installations', '');
SELECT pg_catalog.pg_extension_config_dump('int.plugin_webhook_subscriptions', '');
SELECT pg_catalog.pg_extension_config_dump('audit.entity_changes', '');
SELECT pg_catalog.pg_extension_config_dump('audit.entity_changes_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('int.plugin_delivery_queue', '');
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.secrets', '');
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.actions', '');
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.instance', '');
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.replaced', '');

-- 12_attempts.sql
-- The log of attempts: what the network said, each time. Without foreign keys, so that a batch of
-- outcomes costs no look-ups; rows go by age, and outlive the delivery they are about.

CREATE TABLE IF NOT EXISTS int.plugin_delivery_attempts (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id            uuid NOT NULL,
    tenant_id              uuid NOT NULL,
    plugin_installation_id uuid NOT NULL,
    attempt                integer NOT NULL,
    started_at             timestamptz NOT NULL,
    duration_ms            integer NOT NULL,
    status_code            integer,
    error_kind             text,
    response_start         text,
    CONSTRAINT plugin_delivery_attempts_attempt_check CHECK (attempt > 0),
    CONSTRAINT plugin_delivery_attempts_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT plugin_delivery_attempts_response_start_check
        CHECK (pg_catalog.octet_length(response_start) <= 1024)
);
COMMENT ON TABLE int.plugin_delivery_attempts IS 'One row an attempt to send a delivery, kept for plugin_webhooks.retain_attempts. Written by the worker.';
COMMENT ON COLUMN int.plugin_delivery_attempts.delivery_id IS 'The delivery; it may be gone.';
COMMENT ON COLUMN int.plugin_delivery_attempts.attempt IS 'Failed attempts before this one plus 1. A number comes twice when an outcome was lost in a crash.';
COMMENT ON COLUMN int.plugin_delivery_attempts.started_at IS 'When the attempt began.';
COMMENT ON COLUMN int.plugin_delivery_attempts.duration_ms IS 'Milliseconds from then to its end; 0 for a delivery that could not be sent.';
COMMENT ON COLUMN int.plugin_delivery_attempts.status_code IS 'HTTP status, where one arrived.';
COMMENT ON COLUMN int.plugin_delivery_attempts.error_kind IS 'Null: delivered. Else status, timeout, dns, denied, connect, tls, protocol, setting, secret, payload or internal.';
COMMENT ON COLUMN int.plugin_delivery_attempts.response_start IS 'Start of the response''s body, at most 1024 bytes, without control characters.';

ALTER TABLE int.plugin_delivery_attempts ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('int.plugin_delivery_attempts', '');
SELECT pg_catalog.pg_extension_config_dump('int.plugin_delivery_attempts_id_seq', '');

-- 15_converge.sql
-- Tables that were there before this script get the defaults, constraints and indexes of those that it creates.
-- Where they have them already, nothing is locked for long and nothing is read.

ALTER TABLE int.plugins
    ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
    ALTER COLUMN key SET NOT NULL,
    ALTER COLUMN name SET NOT NULL,
    ALTER COLUMN description DROP NOT NULL,
    ALTER COLUMN is_integration SET DEFAULT false, ALTER COLUMN is_integration SET NOT NULL,
    ALTER COLUMN is_active SET DEFAULT true, ALTER COLUMN is_active SET NOT NULL,
    ALTER COLUMN created_at SET DEFAULT pg_catalog.now(), ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET DEFAULT pg_catalog.now(), ALTER COLUMN updated_at SET NOT NULL;
ALTER TABLE int.plugin_installations
    ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
    ALTER COLUMN tenant_id SET NOT NULL,
    ALTER COLUMN plugin_id SET NOT NULL,
    ALTER COLUMN status SET DEFAULT 'installed', ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN secret_ref DROP NOT NULL,
    ALTER COLUMN config DROP DEFAULT, ALTER COLUMN config DROP NOT NULL,
    ALTER COLUMN installed_by DROP DEFAULT, ALTER COLUMN installed_by DROP NOT NULL,
    ALTER COLUMN installed_at SET DEFAULT pg_catalog.now(), ALTER COLUMN installed_at SET NOT NULL,
    ALTER COLUMN updated_at SET DEFAULT pg_catalog.now(), ALTER COLUMN updated_at SET NOT NULL;
ALTER TABLE int.plugin_webhook_subscriptions
    ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
    ALTER COLUMN plugin_installation_id SET NOT NULL,
    ALTER COLUMN table_schema DROP DEFAULT, ALTER COLUMN table_schema SET NOT NULL,
    ALTER COLUMN table_name SET NOT NULL,
    ALTER COLUMN operations DROP DEFAULT, ALTER COLUMN operations SET NOT NULL,
    ALTER COLUMN changed_fields_allowlist DROP DEFAULT, ALTER COLUMN changed_fields_allowlist DROP NOT NULL,
    ALTER COLUMN include_payload SET DEFAULT false, ALTER COLUMN include_payload SET NOT NULL,
    ALTER COLUMN created_at SET DEFAULT pg_catalog.now(), ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET DEFAULT pg_catalog.now(), ALTER COLUMN updated_at SET NOT NULL;
ALTER TABLE audit.entity_changes
    ALTER COLUMN table_schema DROP DEFAULT, ALTER COLUMN table_schema SET NOT NULL,
    ALTER COLUMN table_name SET NOT NULL,
    ALTER COLUMN record_id SET NOT NULL,
    ALTER COLUMN operation SET NOT NULL,
    ALTER COLUMN old_data DROP NOT NULL,
    ALTER COLUMN new_data DROP NOT NULL,
    ALTER COLUMN changed_fields DROP NOT NULL,
    ALTER COLUMN user_id DROP DEFAULT, ALTER COLUMN user_id DROP NOT NULL,
    ALTER COLUMN tenant_id DROP DEFAULT, ALTER COLUMN tenant_id DROP NOT NULL,
    ALTER COLUMN ip_address DROP DEFAULT, ALTER COLUMN ip_address DROP NOT NULL,
    ALTER COLUMN user_agent DROP DEFAULT, ALTER COLUMN user_agent DROP NOT NULL,
    ALTER COLUMN created_at SET DEFAULT pg_catalog.now(), ALTER COLUMN created_at SET NOT NULL;
ALTER TABLE int.plugin_delivery_queue
    ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
    ALTER COLUMN tenant_id SET NOT NULL,
    ALTER COLUMN plugin_installation_id SET NOT NULL,
    ALTER COLUMN source_entity_change_id SET NOT NULL,
    ALTER COLUMN event_type SET NOT NULL,
    ALTER COLUMN payload DROP DEFAULT, ALTER COLUMN payload SET NOT NULL,
    ALTER COLUMN status SET DEFAULT 'pending', ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN attempts SET DEFAULT 0, ALTER COLUMN attempts SET NOT NULL,
    ALTER COLUMN next_attempt_at SET DEFAULT pg_catalog.now(), ALTER COLUMN next_attempt_at SET NOT NULL,
    ALTER COLUMN last_error DROP NOT NULL,
    ALTER COLUMN net_request_id DROP NOT NULL,
    ALTER COLUMN sent_at DROP DEFAULT, ALTER COLUMN sent_at DROP NOT NULL,
    ALTER COLUMN created_at SET DEFAULT pg_catalog.now(), ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET DEFAULT pg_catalog.now(), ALTER COLUMN updated_at SET NOT NULL;

-- Constraints and indexes: same meaning under another name is renamed, another meaning under the same
-- name is replaced, what is missing is added.
DO $$
DECLARE
    wanted record;
    same   record;
BEGIN
    FOR wanted IN
        SELECT w.relation::regclass AS relation, w.name, w.type, w.columns::text[] AS columns, w.definition FROM (VALUES
            ('int.plugins'::text, 'plugins_pkey'::text, 'p'::text, '{id}'::text, 'PRIMARY KEY (id)'::text),
            ('int.plugins', 'plugins_key_key', 'u', '{key}', 'UNIQUE (key)'),
            ('int.plugins', 'plugins_key_check', 'c', NULL,
             'CHECK (((key ~ ''^[a-z0-9_]+$''::text) AND ((length(key) >= 2) AND (length(key) <= 80))))'),
            ('int.plugin_installations', 'plugin_installations_pkey', 'p', '{id}', 'PRIMARY KEY (id)'),
            ('int.plugin_installations', 'plugin_installations_tenant_id_plugin_id_key', 'u', '{tenant_id,plugin_id}', 'UNIQUE (tenant_id, plugin_id)'),
            ('int.plugin_installations', 'plugin_installations_plugin_id_fkey', 'f', '{plugin_id}',
             'FOREIGN KEY (plugin_id) REFERENCES "int".plugins(id) ON DELETE CASCADE'),
            ('int.plugin_installations', 'plugin_installations_status_check', 'c', NULL,
             'CHECK ((status = ANY (ARRAY[''installed''::text, ''disabled''::text, ''uninstalled''::text])))'),
            ('int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_pkey', 'p', '{id}', 'PRIMARY KEY (id)'),
            ('int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_installation_table_key', 'u',
             '{plugin_installation_id,table_schema,table_name}', 'UNIQUE (plugin_installation_id, table_schema, table_name)'),
            ('int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_plugin_installation_id_fkey', 'f', '{plugin_installation_id}',
             'FOREIGN KEY (plugin_installation_id) REFERENCES "int".plugin_installations(id) ON DELETE CASCADE'),
            ('int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_operations_check', 'c', NULL,
             'CHECK (((cardinality(operations) > 0) AND (operations <@ ARRAY[''INSERT''::text, ''UPDATE''::text, ''DELETE''::text])))'),
            ('audit.entity_changes', 'entity_changes_pkey', 'p', '{id}', 'PRIMARY KEY (id)'),
            ('audit.entity_changes', 'entity_changes_operation_check', 'c', NULL,
             'CHECK ((operation = ANY (ARRAY[''INSERT''::text, ''UPDATE''::text, ''DELETE''::text])))'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_pkey', 'p', '{id}', 'PRIMARY KEY (id)'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_installation_change_key', 'u',
             '{plugin_installation_id,source_entity_change_id}', 'UNIQUE (plugin_installation_id, source_entity_change_id)'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_plugin_installation_id_fkey', 'f', '{plugin_installation_id}',
             'FOREIGN KEY (plugin_installation_id) REFERENCES "int".plugin_installations(id) ON DELETE CASCADE'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_source_entity_change_id_fkey', 'f', '{source_entity_change_id}',
             'FOREIGN KEY (source_entity_change_id) REFERENCES audit.entity_changes(id) ON DELETE CASCADE'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_status_check', 'c', NULL,
             'CHECK ((status = ANY (ARRAY[''pending''::text, ''sending''::text, ''delivered''::text, ''failed''::text, ''dead''::text])))'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_attempts_check', 'c', NULL, 'CHECK ((attempts >= 0))')
        ) AS w (relation, name, type, columns, definition)
    LOOP
        -- The closest one: of the same meaning, else of the same columns, else of the same name.
        SELECT c.conname, pg_catalog.pg_get_constraintdef(c.oid) = wanted.definition AS equal INTO same
        FROM pg_catalog.pg_constraint AS c
        WHERE c.conrelid = wanted.relation
          AND (pg_catalog.pg_get_constraintdef(c.oid) = wanted.definition
               OR c.conname = wanted.name
               OR c.contype IN ('p', 'u', 'f') AND c.contype = wanted.type::"char" AND wanted.columns = ARRAY(
                   SELECT a.attname::text FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k (number, position)
                   JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.position))
        ORDER BY c.conname = wanted.name AND pg_catalog.pg_get_constraintdef(c.oid) = wanted.definition DESC,
                 pg_catalog.pg_get_constraintdef(c.oid) = wanted.definition DESC
        LIMIT 1;
        IF NOT FOUND THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', wanted.relation, wanted.name, wanted.definition);
        ELSIF NOT same.equal THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s',
                wanted.relation, same.conname, wanted.name, wanted.definition);
        ELSIF same.conname <> wanted.name THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', wanted.relation, same.conname, wanted.name);
        END IF;
    END LOOP;

    FOR wanted IN
        SELECT w.schema_name, w.table_name, w.name, w.definition FROM (VALUES
            ('int'::text, 'plugin_installations'::text, 'plugin_installations_plugin_id_idx'::text, 'btree (plugin_id)'::text),
            ('audit', 'entity_changes', 'entity_changes_tenant_id_idx', 'btree (tenant_id, id)'),
            ('int', 'plugin_delivery_attempts', 'plugin_delivery_attempts_delivery_id_idx', 'btree (delivery_id)'),
            ('int', 'plugin_delivery_attempts', 'plugin_delivery_attempts_tenant_id_idx', 'btree (tenant_id, id)'),
            ('int', 'plugin_delivery_queue', 'plugin_delivery_queue_pending_idx',
             'btree (plugin_installation_id, next_attempt_at) WHERE (status = ''pending''::text)'),
            ('int', 'plugin_delivery_queue', 'plugin_delivery_queue_sending_idx',
             'btree (lease_expires_at) WHERE (status = ''sending''::text)'),
            ('int', 'plugin_delivery_queue', 'plugin_delivery_queue_tenant_id_idx', 'btree (tenant_id, created_at)'),
            ('int', 'plugin_delivery_queue', 'plugin_delivery_queue_source_entity_change_id_idx', 'btree (source_entity_change_id)')
        ) AS w (schema_name, table_name, name, definition)
    LOOP
        SELECT i.relname, pg_catalog.split_part(pg_catalog.pg_get_indexdef(i.oid), ' USING ', 2) = wanted.definition AS equal INTO same
        FROM pg_catalog.pg_class AS i
        JOIN pg_catalog.pg_index AS x ON x.indexrelid = i.oid AND x.indisvalid AND NOT x.indisunique
        JOIN pg_catalog.pg_class AS t ON t.oid = x.indrelid AND t.relname = wanted.table_name
        WHERE t.relnamespace = wanted.schema_name::regnamespace
          AND (i.relname = wanted.name
               OR pg_catalog.split_part(pg_catalog.pg_get_indexdef(i.oid), ' USING ', 2) = wanted.definition)
        ORDER BY i.relname = wanted.name DESC
        LIMIT 1;
        IF FOUND AND same.equal THEN
            IF same.relname <> wanted.name THEN
                EXECUTE pg_catalog.format('ALTER INDEX %I.%I RENAME TO %I', wanted.schema_name, same.relname, wanted.name);
            END IF;
            CONTINUE;
        END IF;
        IF FOUND THEN
            EXECUTE pg_catalog.format('ALTER INDEX %I.%I RENAME TO %I', wanted.schema_name, same.relname, same.relname || '_before');
        END IF;
        EXECUTE pg_catalog.format('CREATE INDEX %I ON %I.%I USING %s', wanted.name, wanted.schema_name, wanted.table_name, wanted.definition);
    END LOOP;
END
$$;

-- Host tables give tenants and users their foreign keys. A dump does not carry these; what does is in 55_home.sql.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT w.relation::regclass AS relation, w.column_name, pg_catalog.to_regclass(w.host) AS host, w.action, w.name FROM (VALUES
            ('int.plugin_installations'::text, 'tenant_id'::text, 'app.tenants'::text, 'CASCADE'::text, 'plugin_installations_tenant_id_fkey'::text),
            ('int.plugin_delivery_queue', 'tenant_id', 'app.tenants', 'CASCADE', 'plugin_delivery_queue_tenant_id_fkey'),
            ('int.plugin_installations', 'installed_by', 'auth.users', 'SET NULL', 'plugin_installations_installed_by_fkey')
        ) AS w (relation, column_name, host, action, name)
    LOOP
        IF wanted.host IS NOT NULL AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_constraint AS c
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
            WHERE c.conrelid = wanted.relation AND c.confrelid = wanted.host AND c.contype = 'f' AND a.attname = wanted.column_name)
        THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s (id) ON DELETE %s',
                wanted.relation, wanted.name, wanted.column_name, wanted.host, wanted.action);
        END IF;
    END LOOP;
END
$$;

-- The functions' own tables belong to whom the functions belong.
DO $$
DECLARE
    function_owner CONSTANT text := (SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'function owner');
    table_owner    CONSTANT text := (
        SELECT pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class AS c
        LEFT JOIN plugin_webhooks.taking_over AS t ON t.note = 'table' AND t.object = c.oid::regclass::text
        WHERE c.oid IN ('int.plugins'::regclass, 'int.plugin_installations'::regclass,
                        'int.plugin_webhook_subscriptions'::regclass, 'int.plugin_delivery_queue'::regclass)
        ORDER BY t.note IS NULL, c.relname LIMIT 1);
    relation       regclass;
BEGIN
    FOREACH relation IN ARRAY ARRAY['plugin_webhooks.secrets', 'plugin_webhooks.actions', 'plugin_webhooks.rate_limits']::regclass[] LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', relation, function_owner);
    END LOOP;
    FOREACH relation IN ARRAY ARRAY['int.plugins', 'int.plugin_installations', 'int.plugin_webhook_subscriptions',
                                    'int.plugin_delivery_queue', 'int.plugin_delivery_attempts']::regclass[] LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', relation, table_owner);
    END LOOP;
END
$$;

-- 20_identity.sql
-- Who calls. Policies and views ask these; both answer for the host where there is one.

CREATE OR REPLACE FUNCTION plugin_webhooks.current_user_id() RETURNS uuid
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'current_user_id_wrapper';
COMMENT ON FUNCTION plugin_webhooks.current_user_id() IS
    'The calling user: auth.uid() where the host has it, else claim sub of request.jwt.claims. Null when there is none. Executable by anon, authenticated.';

CREATE OR REPLACE FUNCTION plugin_webhooks.admin_tenant_id() RETURNS uuid
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_tenant_id_wrapper';
COMMENT ON FUNCTION plugin_webhooks.admin_tenant_id() IS
    'The current tenant context if the caller holds tenant.admin there, else null. Never raises for a caller without rights. Executable by anon, authenticated.';

-- 30_views.sql
-- What tenants see. security_invoker: the caller's grants and row policies apply.

CREATE OR REPLACE VIEW public.v_plugins WITH (security_invoker = true) AS
SELECT p.id, p.key, p.name, p.description, p.is_integration, p.is_active, p.created_at, p.updated_at
FROM int.plugins AS p
WHERE p.is_active;
COMMENT ON VIEW public.v_plugins IS 'Active plugins of the catalogue. Readable by anon and authenticated.';

CREATE OR REPLACE VIEW public.v_plugin_installations WITH (security_invoker = true) AS
SELECT i.id, i.tenant_id, i.plugin_id, p.key AS plugin_key, p.name AS plugin_name, p.is_integration,
       i.status, i.secret_ref, i.config, i.installed_by, i.installed_at, i.updated_at
FROM int.plugin_installations AS i
JOIN int.plugins AS p ON p.id OPERATOR(pg_catalog.=) i.plugin_id
WHERE i.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_plugin_installations IS 'Installations of the current tenant, for its admins; zero rows for anyone else.';

CREATE OR REPLACE VIEW public.v_plugin_webhook_subscriptions WITH (security_invoker = true) AS
SELECT s.id, i.tenant_id, s.plugin_installation_id, p.key AS plugin_key, s.table_schema, s.table_name,
       s.operations, s.changed_fields_allowlist, s.include_payload, s.created_at, s.updated_at
FROM int.plugin_webhook_subscriptions AS s
JOIN int.plugin_installations AS i ON i.id OPERATOR(pg_catalog.=) s.plugin_installation_id
JOIN int.plugins AS p ON p.id OPERATOR(pg_catalog.=) i.plugin_id
WHERE i.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_plugin_webhook_subscriptions IS 'Subscriptions of the current tenant, for its admins; zero rows for anyone else.';

CREATE OR REPLACE VIEW public.v_plugin_delivery_queue_recent WITH (security_invoker = true) AS
SELECT q.id, q.tenant_id, q.plugin_installation_id, p.key AS plugin_key, q.event_type, q.status,
       q.attempts, q.last_error, q.created_at, q.updated_at
FROM int.plugin_delivery_queue AS q
JOIN int.plugin_installations AS i ON i.id OPERATOR(pg_catalog.=) q.plugin_installation_id
JOIN int.plugins AS p ON p.id OPERATOR(pg_catalog.=) i.plugin_id
WHERE q.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_plugin_delivery_queue_recent IS 'Deliveries of the current tenant without their payload, for its admins; zero rows for anyone else.';

CREATE OR REPLACE VIEW public.v_plugin_delivery_attempts WITH (security_invoker = true) AS
SELECT a.id, a.delivery_id, a.tenant_id, a.plugin_installation_id, p.key AS plugin_key, a.attempt,
       a.started_at, a.duration_ms, a.status_code, a.error_kind, a.response_start
FROM int.plugin_delivery_attempts AS a
LEFT JOIN int.plugin_installations AS i ON i.id OPERATOR(pg_catalog.=) a.plugin_installation_id
LEFT JOIN int.plugins AS p ON p.id OPERATOR(pg_catalog.=) i.plugin_id
WHERE a.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_plugin_delivery_attempts IS 'Attempts to send deliveries of the current tenant, for its admins; zero rows for anyone else. plugin_key is null once the plugin is uninstalled.';

CREATE OR REPLACE VIEW public.v_audit_entity_changes WITH (security_invoker = true) AS
SELECT c.id, c.table_schema, c.table_name, c.record_id, c.operation, c.old_data, c.new_data,
       c.changed_fields, c.user_id, c.tenant_id, c.created_at
FROM audit.entity_changes AS c
WHERE c.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_audit_entity_changes IS 'The audit log of the current tenant, for its admins; zero rows for anyone else.';

-- 40_rpc.sql
-- The functions that clients call by name. Argument names and defaults are an interface: never rename.
-- None is STRICT: a required argument that is null raises.

CREATE OR REPLACE FUNCTION public.rpc_register_plugin(
    p_key text, p_name text, p_description text DEFAULT NULL,
    p_is_integration boolean DEFAULT false, p_is_active boolean DEFAULT true
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_register_plugin_wrapper';
COMMENT ON FUNCTION public.rpc_register_plugin(text, text, text, boolean, boolean) IS
    'Inserts or updates a plugin by key and returns its id. Executable by service_role. Raises 23514 for a missing or malformed key or a missing name.';

CREATE OR REPLACE FUNCTION public.rpc_install_plugin(
    p_tenant_id uuid, p_plugin_key text, p_secret_ref text DEFAULT NULL, p_config jsonb DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_install_plugin_wrapper';
COMMENT ON FUNCTION public.rpc_install_plugin(uuid, text, text, jsonb) IS
    'Installs a plugin for a tenant, or re-installs it: status installed again, secret_ref and config replaced. Returns the installation''s id. Executable by authenticated, needs tenant.admin. At most 10 a minute. Raises 28000, 42501, 23514, P0001 (unknown plugin), 22023 (bad config), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_update_plugin_installation(
    p_tenant_id uuid, p_installation_id uuid, p_status text DEFAULT NULL,
    p_secret_ref text DEFAULT NULL, p_config jsonb DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_update_plugin_installation_wrapper';
COMMENT ON FUNCTION public.rpc_update_plugin_installation(uuid, uuid, text, text, jsonb) IS
    'Changes status (installed, disabled, uninstalled), secret_ref or config; null keeps the old value. Executable by authenticated, needs tenant.admin. At most 20 a minute. Raises 28000, 42501, 23514, P0001 (unknown installation), 22023 (bad config), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_uninstall_plugin(p_tenant_id uuid, p_installation_id uuid) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_uninstall_plugin_wrapper';
COMMENT ON FUNCTION public.rpc_uninstall_plugin(uuid, uuid) IS
    'Deletes an installation with its subscriptions and deliveries. Executable by authenticated, needs tenant.admin. At most 10 a minute. Raises 28000, 42501, 23514, P0001 (unknown installation), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_upsert_plugin_webhook_subscription(
    p_tenant_id uuid, p_installation_id uuid, p_table_schema text, p_table_name text,
    p_operations text[], p_changed_fields_allowlist text[] DEFAULT NULL,
    p_include_payload boolean DEFAULT false
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_upsert_plugin_webhook_subscription_wrapper';
COMMENT ON FUNCTION public.rpc_upsert_plugin_webhook_subscription(uuid, uuid, text, text, text[], text[], boolean) IS
    'Subscribes an installation to a table, or changes that subscription; returns its id. Names are trimmed. Executable by authenticated, needs tenant.admin. At most 30 a minute. Raises 28000, 42501, 23514 (missing name, empty or unknown operations), P0001 (unknown installation), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_delete_plugin_webhook_subscription(p_tenant_id uuid, p_subscription_id uuid) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_delete_plugin_webhook_subscription_wrapper';
COMMENT ON FUNCTION public.rpc_delete_plugin_webhook_subscription(uuid, uuid) IS
    'Deletes a subscription; deliveries already enqueued are still sent. Executable by authenticated, needs tenant.admin. At most 30 a minute. Raises 28000, 42501, 23514, P0001 (unknown subscription), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_process_plugin_deliveries(p_batch_size integer DEFAULT 25) RETURNS integer
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_process_plugin_deliveries_wrapper';
COMMENT ON FUNCTION public.rpc_process_plugin_deliveries(integer) IS
    'Hands up to p_batch_size due deliveries, fairly over installations, to the background worker, returns expired leases to the queue and makes sure that a worker runs. Returns how many deliveries it moved. Null or less than 1 means 25; at most 10000. Executable by service_role and by pg_cron''s role. Never waits for the network.';

CREATE OR REPLACE FUNCTION public.rpc_plugin_ingest_webhook(
    p_plugin_key text, p_installation_id uuid, p_payload jsonb, p_signature text
) RETURNS jsonb
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_plugin_ingest_webhook_wrapper';
COMMENT ON FUNCTION public.rpc_plugin_ingest_webhook(text, uuid, jsonb, text) IS
    'A partner''s call: p_signature is the hex HMAC-SHA256 of p_payload::text with the installation''s secret; p_payload.action picks an action of the allowlist (default noop), p_payload.data is its input. Executable by anon, authenticated, service_role. At most 120 a minute and installation. Raises 23514, P0001 (unknown installation), 28000 (no secret), 42501 (wrong signature), 22023 (unknown action), 54000, and what the action raises.';

-- 50_audit.sql
-- Change capture, and matching changes to subscriptions.

CREATE OR REPLACE FUNCTION audit.log_entity_change() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'log_entity_change_wrapper';
COMMENT ON FUNCTION audit.log_entity_change() IS
    'Trigger function for any table with a column id: writes one row to audit.entity_changes for each changed row. Attach it with audit.track(). Fired AFTER INSERT, UPDATE or DELETE, FOR EACH ROW, or FOR EACH STATEMENT with transition tables on a table that is not partitioned. Arguments name columns that are left out. Raises 42703 for a table without id or without a column that it leaves out, 39P01 when fired in another way.';

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
CREATE OR REPLACE FUNCTION audit.track(p_table regclass, p_exclude text[] DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'track_except_wrapper';
COMMENT ON FUNCTION audit.track(regclass, text[]) IS
    'Attaches the audit triggers to a table, or replaces those of an earlier version. p_exclude: columns that are never written to the log; null keeps the list as it is. Runs with the caller''s rights: the table''s owner, with EXECUTE granted, or a superuser. Raises 42809 (not a table, a system table, or a list for a table whose triggers track() did not make), 42703 (no column id), 23514 (null, or a column that is not there or always recorded).';

CREATE OR REPLACE FUNCTION audit.untrack(p_table regclass) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'untrack_wrapper';
COMMENT ON FUNCTION audit.untrack(regclass) IS
    'Detaches every trigger that calls audit.log_entity_change() from a table; does nothing when there is none. Raises 23514 (null).';

CREATE OR REPLACE FUNCTION int.enqueue_plugin_events_from_audit() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'enqueue_plugin_events_from_audit_wrapper';
COMMENT ON FUNCTION int.enqueue_plugin_events_from_audit() IS
    'Trigger function of audit.entity_changes, AFTER INSERT FOR EACH STATEMENT with transition table inserted, or FOR EACH ROW: inserts one delivery for each matching subscription of an installed plugin, in the same transaction. Raises 39P01 when fired in another way. audit.log_entity_change() does the same itself where this trigger is enabled.';

-- Exactly one, whatever called the function before: a second one would enqueue twice.
DO $$
DECLARE
    enqueues record;
BEGIN
    FOR enqueues IN
        SELECT t.tgname FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = 'audit.entity_changes'::regclass AND NOT t.tgisinternal
          AND t.tgfoid = 'int.enqueue_plugin_events_from_audit()'::regprocedure
    LOOP
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON audit.entity_changes', enqueues.tgname);
    END LOOP;
END
$$;
CREATE TRIGGER entity_changes_plugin_enqueue_trigger
    AFTER INSERT ON audit.entity_changes
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION int.enqueue_plugin_events_from_audit();

CREATE OR REPLACE FUNCTION int.forget_subscriptions() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'forget_subscriptions_wrapper';
COMMENT ON FUNCTION int.forget_subscriptions() IS
    'Trigger function of the tables that subscriptions come from: at commit, lets every session read them again.';

-- Always: also what a replication role writes has to be seen.
CREATE OR REPLACE TRIGGER plugins_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugins
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugins ENABLE ALWAYS TRIGGER plugins_forget_subscriptions;
CREATE OR REPLACE TRIGGER plugin_installations_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugin_installations
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugin_installations ENABLE ALWAYS TRIGGER plugin_installations_forget_subscriptions;
CREATE OR REPLACE TRIGGER plugin_webhook_subscriptions_forget_subscriptions
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON int.plugin_webhook_subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE int.plugin_webhook_subscriptions ENABLE ALWAYS TRIGGER plugin_webhook_subscriptions_forget_subscriptions;


-- A row that is older than its transaction comes from a dump, whose audit log tells of it already.
DROP TRIGGER IF EXISTS plugins_audit_changes ON int.plugins;
CREATE TRIGGER plugins_audit_changes
    AFTER UPDATE OR DELETE ON int.plugins
    FOR EACH ROW EXECUTE FUNCTION audit.log_entity_change();
DROP TRIGGER IF EXISTS plugins_audit_inserts ON int.plugins;
CREATE TRIGGER plugins_audit_inserts
    AFTER INSERT ON int.plugins
    FOR EACH ROW WHEN (NEW.created_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION audit.log_entity_change();
DROP TRIGGER IF EXISTS plugin_installations_audit_changes ON int.plugin_installations;
CREATE TRIGGER plugin_installations_audit_changes
    AFTER UPDATE OR DELETE ON int.plugin_installations
    FOR EACH ROW EXECUTE FUNCTION audit.log_entity_change();
DROP TRIGGER IF EXISTS plugin_installations_audit_inserts ON int.plugin_installations;
CREATE TRIGGER plugin_installations_audit_inserts
    AFTER INSERT ON int.plugin_installations
    FOR EACH ROW WHEN (NEW.installed_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION audit.log_entity_change();

-- 55_home.sql
-- At home in one database: where it is, what ties it to the host's tables, and the way out.

CREATE OR REPLACE FUNCTION plugin_webhooks.adopt() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'adopt_wrapper';
COMMENT ON FUNCTION plugin_webhooks.adopt() IS
    'Trigger function of int.plugins and int.plugin_installations: the first row of a database without deliveries makes this place the home of the data.';

-- A row that is older than its transaction comes from a dump.
DROP TRIGGER IF EXISTS plugins_adopt ON int.plugins;
CREATE TRIGGER plugins_adopt
    AFTER INSERT ON int.plugins
    FOR EACH ROW WHEN (NEW.created_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION plugin_webhooks.adopt();
-- The plugins may have come with a seed, in a session that fires no triggers.
DROP TRIGGER IF EXISTS plugin_installations_adopt ON int.plugin_installations;
CREATE TRIGGER plugin_installations_adopt
    AFTER INSERT ON int.plugin_installations
    FOR EACH ROW WHEN (NEW.installed_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
    EXECUTE FUNCTION plugin_webhooks.adopt();

CREATE OR REPLACE FUNCTION plugin_webhooks.paused_because() RETURNS text
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'paused_because_wrapper';
COMMENT ON FUNCTION plugin_webhooks.paused_because() IS
    'Why nothing is sent from here: the data is at home elsewhere. Null when deliveries go out. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.resume() RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION plugin_webhooks.resume() IS
    'Makes this database the home of its data: what waits is sent from here from now on. Call it after a restore that replaces the original, after pg_upgrade, and after a change of plugin_webhooks.site. Executable by the owner only.';

-- References. What the host's tables hold has no foreign key in a copy: of an extension's table pg_dump carries
-- the rows only, while triggers on the host's own tables are dumped. Among the extension's tables foreign keys do
-- exist at once, and pg_restore -j loads tables in any order: until the data is at home they are not checked,
-- and this stands in for them, except for rows that come from the dump.
CREATE OR REPLACE FUNCTION plugin_webhooks.check_references() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'check_references_wrapper';
COMMENT ON FUNCTION plugin_webhooks.check_references() IS
    'Trigger function ({column, schema, table} …): what the columns name must exist, where there is such a table. Raises 23503.';

CREATE OR REPLACE FUNCTION plugin_webhooks.follow_host() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'follow_host_wrapper';
COMMENT ON FUNCTION plugin_webhooks.follow_host() IS
    'Trigger function of a host table (schema, table, column, host column, CASCADE, SET NULL or NO ACTION): what a foreign key does when the host deletes a row, changes its key or truncates the table. Raises 23503.';

DROP TRIGGER IF EXISTS plugin_installations_references ON int.plugin_installations;
CREATE TRIGGER plugin_installations_references
    AFTER INSERT OR UPDATE OF tenant_id, plugin_id, installed_by ON int.plugin_installations
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'tenant_id', 'app', 'tenants', 'installed_by', 'auth', 'users', 'plugin_id', 'int', 'plugins');
DROP TRIGGER IF EXISTS plugin_webhook_subscriptions_references ON int.plugin_webhook_subscriptions;
CREATE TRIGGER plugin_webhook_subscriptions_references
    AFTER INSERT OR UPDATE OF plugin_installation_id ON int.plugin_webhook_subscriptions
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'plugin_installation_id', 'int', 'plugin_installations');
DROP TRIGGER IF EXISTS plugin_delivery_queue_references ON int.plugin_delivery_queue;
CREATE TRIGGER plugin_delivery_queue_references
    AFTER INSERT OR UPDATE OF tenant_id, plugin_installation_id, source_entity_change_id ON int.plugin_delivery_queue
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'tenant_id', 'app', 'tenants', 'plugin_installation_id', 'int', 'plugin_installations',
        'source_entity_change_id', 'audit', 'entity_changes');

CREATE OR REPLACE FUNCTION plugin_webhooks.check_foreign_keys(enabled boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    key     record;
    orphans boolean;
BEGIN
    FOR key IN
        SELECT t.oid, t.tgname, t.tgrelid::regclass AS child, t.tgconstrrelid::regclass AS parent, c.conname, a.attname AS column_name,
               p.attname AS parent_column
        FROM pg_catalog.pg_constraint AS c
        JOIN pg_catalog.pg_trigger AS t ON t.tgconstraint = c.oid AND t.tgrelid = c.conrelid AND t.tgisinternal
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        JOIN pg_catalog.pg_attribute AS p ON p.attrelid = c.confrelid AND p.attnum = c.confkey[1]
        JOIN pg_catalog.pg_extension AS e ON e.extname = 'plugin_webhooks'
        WHERE c.contype = 'f' AND c.conrelid = ANY (e.extconfig) AND c.confrelid = ANY (e.extconfig)
          AND (t.tgenabled = 'D') = enabled
    LOOP
        IF enabled THEN
            EXECUTE pg_catalog.format('SELECT EXISTS (SELECT FROM %s AS x WHERE x.%I IS NOT NULL
                    AND NOT EXISTS (SELECT FROM %s AS y WHERE y.%I = x.%I))',
                key.child, key.column_name, key.parent, key.parent_column, key.column_name) INTO orphans;
            IF orphans THEN
                RAISE EXCEPTION 'rows of % have no row in %: the restore is not complete', key.child, key.parent
                    USING ERRCODE = 'foreign_key_violation', CONSTRAINT = key.conname;
            END IF;
        END IF;
        EXECUTE pg_catalog.format('ALTER TABLE %s %s TRIGGER %I', key.child,
            CASE WHEN enabled THEN 'ENABLE' ELSE 'DISABLE' END, key.tgname);
    END LOOP;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.check_foreign_keys(boolean) IS
    'Whether the foreign keys among the extension''s tables are checked. Turned on by resume(), and by the worker of a database that is at home. Raises 23503 for rows that break one. Executable by the owner only.';
-- An empty catalogue: this may be a restore.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM int.plugins) THEN
        PERFORM plugin_webhooks.check_foreign_keys(false);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION plugin_webhooks.attach_host() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    wanted record;
    name   text;
    action text;
BEGIN
    FOR wanted IN
        SELECT k.host, k.host_column, k.schema_name, k.table_name, k.column_name, k.action FROM (
            SELECT c.confrelid::regclass AS host, h.attname::text AS host_column, n.nspname::text AS schema_name,
                   t.relname::text AS table_name, a.attname::text AS column_name,
                   CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'NO ACTION' END AS action
            FROM pg_catalog.pg_constraint AS c
            JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid
            JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] AND a.atttypid = 'uuid'::regtype
            JOIN pg_catalog.pg_attribute AS h ON h.attrelid = c.confrelid AND h.attnum = c.confkey[1] AND h.atttypid = 'uuid'::regtype
            WHERE c.contype = 'f' AND pg_catalog.cardinality(c.conkey) = 1
              AND c.conrelid IN (SELECT d.objid FROM pg_catalog.pg_depend AS d
                                 JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
                                 WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass)
              AND c.confrelid NOT IN (SELECT d.objid FROM pg_catalog.pg_depend AS d
                                      JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
                                      WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass)
            UNION
            SELECT pg_catalog.to_regclass(w.host), 'id', 'int', w.table_name, w.column_name, w.action
            FROM (VALUES ('app.tenants'::text, 'plugin_installations'::text, 'tenant_id'::text, 'CASCADE'::text),
                         ('app.tenants', 'plugin_delivery_queue', 'tenant_id', 'CASCADE'),
                         ('auth.users', 'plugin_installations', 'installed_by', 'SET NULL')) AS w (host, table_name, column_name, action)
            WHERE pg_catalog.to_regclass(w.host) IS NOT NULL
              -- A foreign key that is there says how; this is for when there is none.
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c
                              WHERE c.contype = 'f' AND c.confrelid = pg_catalog.to_regclass(w.host)
                                AND c.conrelid = pg_catalog.to_regclass('int.' || w.table_name)
                                AND c.conkey = ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute AS a
                                                     WHERE a.attrelid = c.conrelid AND a.attname = w.column_name))
        ) AS k
    LOOP
        name := 'plugin_webhooks_' || wanted.table_name || '_' || wanted.column_name;
        action := pg_catalog.format('EXECUTE FUNCTION plugin_webhooks.follow_host(%L, %L, %L, %L, %L)', wanted.schema_name,
            wanted.table_name, wanted.column_name, wanted.host_column, wanted.action);
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER DELETE OR UPDATE OF %I ON %s FOR EACH ROW %s',
            name, wanted.host_column, wanted.host, action);
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT %s',
            name || '_all', wanted.host, action);
        -- DROP EXTENSION takes them along.
        EXECUTE pg_catalog.format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION plugin_webhooks', name, wanted.host);
        EXECUTE pg_catalog.format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION plugin_webhooks', name || '_all', wanted.host);
    END LOOP;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.attach_host() IS
    'Ties installations and deliveries to the host''s tenants and users (app.tenants, auth.users) by triggers on these tables, which a dump carries. CREATE EXTENSION calls it; call it again when these tables appear later. Executable by the owner only.';

-- The way out.
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
    INSERT INTO plugin_webhooks.instance (system_identifier, database_oid, extension_oid, site) VALUES ('handed back', 0, 0, '');
END
$$;
COMMENT ON FUNCTION plugin_webhooks.hand_back() IS
    'Gives the tables with their data back to the database, and functions, views, triggers and policies that CREATE EXTENSION replaced back their former definitions; nothing is sent any more. DROP EXTENSION then leaves all of these alone. Run both in one transaction. Executable by the owner only, who must be a superuser.';

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
)
SELECT 'owner'::text AS kind, r.oid::regclass::text AS object,
       pg_catalog.format('ALTER TABLE %s OWNER TO %I;', r.oid::regclass, pg_catalog.pg_get_userbyid(r.relowner)) AS statement
FROM relation AS r WHERE r.relkind = 'r' AND r.relowner <> r.extowner
UNION ALL
SELECT 'owner', p.oid::regprocedure::text,
       pg_catalog.format('ALTER FUNCTION %s OWNER TO %I;', p.oid::regprocedure, pg_catalog.pg_get_userbyid(p.proowner))
FROM member AS m JOIN pg_catalog.pg_proc AS p ON p.oid = m.objid
WHERE m.classid = 'pg_catalog.pg_proc'::regclass AND p.proowner <> m.extowner
UNION ALL
SELECT 'constraint', r.oid::regclass::text,
       pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s;', r.oid::regclass, c.conname, pg_catalog.pg_get_constraintdef(c.oid))
FROM relation AS r JOIN pg_catalog.pg_constraint AS c ON c.conrelid = r.oid AND c.contype IN ('c', 'f', 'u', 'x')
WHERE r.data AND c.conname NOT IN (
    'plugins_key_key', 'plugins_key_check',
    'plugin_installations_tenant_id_plugin_id_key', 'plugin_installations_plugin_id_fkey', 'plugin_installations_status_check',
    'plugin_webhook_subscriptions_installation_table_key', 'plugin_webhook_subscriptions_plugin_installation_id_fkey',
    'plugin_webhook_subscriptions_operations_check',
    'entity_changes_operation_check',
    'plugin_delivery_queue_installation_change_key', 'plugin_delivery_queue_plugin_installation_id_fkey',
    'plugin_delivery_queue_source_entity_change_id_fkey', 'plugin_delivery_queue_status_check', 'plugin_delivery_queue_attempts_check',
    'plugin_delivery_attempts_attempt_check', 'plugin_delivery_attempts_duration_ms_check',
    'plugin_delivery_attempts_response_start_check', 'secrets_name_key', 'secrets_name_check', 'secrets_nonce_check', 'actions_action_check')
UNION ALL
SELECT 'index', r.oid::regclass::text, pg_catalog.pg_get_indexdef(x.indexrelid) || ';'
FROM relation AS r JOIN pg_catalog.pg_index AS x ON x.indrelid = r.oid
JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
WHERE r.data AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conindid = x.indexrelid AND c.conrelid = r.oid)
  AND i.relname NOT IN (
    'plugin_installations_plugin_id_idx', 'entity_changes_tenant_id_idx', 'plugin_delivery_queue_pending_idx',
    'plugin_delivery_queue_sending_idx', 'plugin_delivery_queue_tenant_id_idx', 'plugin_delivery_queue_source_entity_change_id_idx',
    'plugin_delivery_attempts_delivery_id_idx', 'plugin_delivery_attempts_tenant_id_idx')
UNION ALL
SELECT 'trigger', r.oid::regclass::text, pg_catalog.pg_get_triggerdef(t.oid) || ';'
FROM relation AS r JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
WHERE r.data AND t.tgname NOT IN (
    'entity_changes_plugin_enqueue_trigger', 'plugins_audit_changes', 'plugins_audit_inserts', 'plugins_adopt', 'plugin_installations_adopt',
    'plugin_installations_audit_changes', 'plugin_installations_audit_inserts', 'plugin_installations_references',
    'plugin_webhook_subscriptions_references', 'plugin_delivery_queue_references', 'plugins_forget_subscriptions',
    'plugin_installations_forget_subscriptions', 'plugin_webhook_subscriptions_forget_subscriptions')
UNION ALL
SELECT 'policy', r.oid::regclass::text,
       pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.policyname, r.oid::regclass, p.permissive, p.cmd,
           (SELECT pg_catalog.string_agg(CASE x.name WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(x.name) END, ', ')
            FROM pg_catalog.unnest(p.roles) AS x (name)))
       || coalesce(' USING (' || p.qual || ')', '') || coalesce(' WITH CHECK (' || p.with_check || ')', '') || ';'
FROM relation AS r
JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
JOIN pg_catalog.pg_policies AS p ON p.tablename = c.relname AND p.schemaname::regnamespace = c.relnamespace
WHERE r.data AND p.policyname !~ ('^' || c.relname || '_select_(anon|authenticated|service_role)$');
COMMENT ON VIEW plugin_webhooks.not_in_dumps IS
    'What was added to the extension''s tables and pg_dump does not carry: owners, constraints, indexes, triggers, policies, each as a statement to run after a restore.';

CREATE OR REPLACE FUNCTION plugin_webhooks.refused_installations()
    RETURNS TABLE (installation_id uuid, reason text)
    LANGUAGE c STABLE
    AS 'MODULE_PATHNAME', 'refused_installations_wrapper';
COMMENT ON FUNCTION plugin_webhooks.refused_installations() IS
    'Installations whose webhook_url the address policy would refuse as it is written: plain http, or an address that is not public and that plugin_webhooks.allowed_networks does not open. Names are not resolved. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.settle_pg_net() RETURNS bigint
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'settle_pg_net_wrapper';
COMMENT ON FUNCTION plugin_webhooks.settle_pg_net() IS
    'Marks deliveries that pg_net has sent, and that were answered 2xx, as delivered; returns how many. Called by CREATE EXTENSION. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.grant_as_administrator(statement text) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'grant_as_administrator_wrapper';
COMMENT ON FUNCTION plugin_webhooks.grant_as_administrator(text) IS
    'Runs a GRANT inside CREATE or ALTER EXTENSION as if it had come later: a dump then carries it. Runs with the caller''s rights. Executable by the owner only.';

-- 60_operator.sql
-- What an operator calls. Executable by the extension's owner and superusers, and by whom they grant it to.

CREATE OR REPLACE FUNCTION plugin_webhooks.create_secret(
    new_secret text, new_name text, new_description text DEFAULT ''
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'create_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.create_secret(text, text, text) IS
    'Stores a secret under a unique name in the embedded store and returns its id. Creates the key file when there is neither key nor secret yet. Raises 23514 (null or blank), 23505 (name taken), 55000 (key file missing, unreadable, of wrong form or open to other users).';

CREATE OR REPLACE FUNCTION plugin_webhooks.update_secret(
    secret_id uuid, new_secret text DEFAULT NULL, new_name text DEFAULT NULL, new_description text DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'update_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.update_secret(uuid, text, text, text) IS
    'Changes a secret, its name or its description; null keeps the old value. Raises P0001 (unknown id), 23514 (blank), 23505 (name taken), 55000 (key file).';

CREATE OR REPLACE FUNCTION plugin_webhooks.delete_secret(secret_id uuid) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'delete_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.delete_secret(uuid) IS
    'Deletes a secret. Raises P0001 (unknown id), 23514 (null).';

CREATE OR REPLACE VIEW plugin_webhooks.secret_names WITH (security_invoker = true) AS
SELECT s.id, s.name, s.description, s.key_id, s.created_at, s.updated_at
FROM plugin_webhooks.secrets AS s;
COMMENT ON VIEW plugin_webhooks.secret_names IS 'The embedded secrets without their values.';

CREATE OR REPLACE FUNCTION plugin_webhooks.register_action(action text, handler regprocedure) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'register_action_wrapper';
COMMENT ON FUNCTION plugin_webhooks.register_action(text, regprocedure) IS
    'Adds an inbound action, or changes its handler: a function (tenant uuid, data jsonb) returns jsonb, run with its owner''s rights. Raises 23514 (null, malformed name), 42P13 (handler of another shape), 42710 (built-in name).';

CREATE OR REPLACE FUNCTION plugin_webhooks.unregister_action(action text) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'unregister_action_wrapper';
COMMENT ON FUNCTION plugin_webhooks.unregister_action(text) IS
    'Removes an inbound action. Raises P0001 (not registered), 42710 (built in), 23514 (null).';

CREATE OR REPLACE VIEW plugin_webhooks.inbound_actions WITH (security_invoker = true) AS
SELECT 'noop'::text AS action, NULL::text AS handler, true AS built_in
UNION ALL SELECT 'work_order.create', NULL, true
UNION ALL SELECT a.action,
                 pg_catalog.format('%I.%I(uuid,jsonb)', a.handler_schema, a.handler_name), false
          FROM plugin_webhooks.actions AS a;
COMMENT ON VIEW plugin_webhooks.inbound_actions IS 'The allowlist of inbound actions.';

CREATE OR REPLACE FUNCTION int.resolve_installation_signing_secret(p_installation_id uuid) RETURNS text
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'resolve_installation_signing_secret_wrapper';
COMMENT ON FUNCTION int.resolve_installation_signing_secret(uuid) IS
    'The plaintext of an installation''s signing secret, or null. Executable by the owner only; kept for databases whose own code calls it.';

CREATE OR REPLACE FUNCTION int.plugin_webhook_apply_action(p_tenant_id uuid, p_action text, p_data jsonb) RETURNS jsonb
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'plugin_webhook_apply_action_wrapper';
COMMENT ON FUNCTION int.plugin_webhook_apply_action(uuid, text, jsonb) IS
    'Runs one inbound action for a tenant without a signature. Executable by the owner only. Raises 22023 (unknown action) and what the action raises.';

CREATE OR REPLACE FUNCTION plugin_webhooks.worker_pid() RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT l.pid FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.objsubid = 7 AND l.classid = 1886873719 AND l.granted
      AND l.mode = 'ExclusiveLock'
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                        WHERE d.datname = pg_catalog.current_database())
    LIMIT 1
$$;
COMMENT ON FUNCTION plugin_webhooks.worker_pid() IS 'Process id of the worker that delivers this database, or null.';

CREATE OR REPLACE VIEW plugin_webhooks.health WITH (security_invoker = true) AS
SELECT w.pid AS worker_pid,
       a.state AS worker_state,
       a.query AS worker_activity,
       a.backend_start AS worker_started_at,
       q.pending, q.due, q.sending, q.dead_last_hour, q.oldest_due_at,
       CASE WHEN pg_catalog.isfinite(q.oldest_due_at) THEN pg_catalog.now() - q.oldest_due_at END AS oldest_due_age,
       plugin_webhooks.paused_because() AS paused_because
FROM (SELECT plugin_webhooks.worker_pid() AS pid) AS w
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = w.pid
CROSS JOIN (
    SELECT pg_catalog.count(*) FILTER (WHERE d.status = 'pending') AS pending,
           pg_catalog.count(*) FILTER (WHERE d.status = 'pending' AND d.next_attempt_at <= pg_catalog.now()) AS due,
           pg_catalog.count(*) FILTER (WHERE d.status = 'sending') AS sending,
           pg_catalog.count(*) FILTER (WHERE d.status = 'dead' AND d.updated_at > pg_catalog.now() - interval '1 hour') AS dead_last_hour,
           pg_catalog.min(d.next_attempt_at) FILTER (WHERE d.status = 'pending' AND d.next_attempt_at <= pg_catalog.now()) AS oldest_due_at
    FROM int.plugin_delivery_queue AS d
) AS q;
COMMENT ON VIEW plugin_webhooks.health IS 'One row: the worker of this database and the state of its queue. Counts the whole queue: meant for people and for checks once a minute.';

CREATE OR REPLACE FUNCTION plugin_webhooks.wake_launcher() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'wake_launcher_wrapper';
COMMENT ON FUNCTION plugin_webhooks.wake_launcher() IS
    'At commit, lets the launcher look for databases to serve. Called by CREATE EXTENSION; harmless at any time. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.schedule_processor(schedule text DEFAULT '* * * * *') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    job_id bigint;
BEGIN
    IF pg_catalog.to_regprocedure('cron.schedule(text,text,text)') IS NULL THEN
        RAISE EXCEPTION 'pg_cron is not installed in database %', pg_catalog.current_database()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'CREATE EXTENSION pg_cron here, or use cron.schedule_in_database from the database that has it.';
    END IF;
    EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job_id
        USING 'plugin_webhook_process'::text, schedule,
              'select public.rpc_process_plugin_deliveries(50)'::text;
    RETURN job_id;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.schedule_processor(text) IS
    'Schedules rpc_process_plugin_deliveries(50) in pg_cron under the name plugin_webhook_process and returns the job''s id; calling it again changes the schedule. The job runs as the caller. schedule: a pg_cron expression, default each minute. Raises 0A000 where pg_cron is not installed.';

-- 70_grants.sql
-- Who may do what. First nobody, whatever default privileges say; then the roles of the interface, where they exist.

CREATE OR REPLACE FUNCTION plugin_webhooks.grant_on_schema(schema_name text, role_name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    statement CONSTANT text := pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I', schema_name, role_name);
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_depend AS d
               JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
               WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = schema_name::regnamespace AND d.deptype = 'e') THEN
        EXECUTE statement;
    ELSE
        -- In CREATE EXTENSION PostgreSQL would take all that is granted on the host's schema for a part of the
        -- extension, and no dump would carry it.
        PERFORM plugin_webhooks.grant_as_administrator(statement);
    END IF;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.grant_on_schema(text, text) IS
    'Grants USAGE on a schema, which may be the host''s, to a role. Called by grant_to_roles(). Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.grant_to_roles() RETURNS text[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    granted  text[] := '{}';
    policy   record;
    cron_job record;
BEGIN
    FOR policy IN
        SELECT * FROM (VALUES
            ('anon', 'int', 'plugins', 'is_active'),
            ('authenticated', 'int', 'plugins', 'true'),
            ('authenticated', 'int', 'plugin_installations',
                'tenant_id = (SELECT plugin_webhooks.admin_tenant_id())'),
            ('authenticated', 'int', 'plugin_webhook_subscriptions',
                'EXISTS (SELECT FROM int.plugin_installations AS i WHERE i.id = plugin_installation_id
                         AND i.tenant_id = (SELECT plugin_webhooks.admin_tenant_id()))'),
            ('authenticated', 'int', 'plugin_delivery_queue',
                'tenant_id = (SELECT plugin_webhooks.admin_tenant_id())'),
            ('authenticated', 'int', 'plugin_delivery_attempts',
                'tenant_id = (SELECT plugin_webhooks.admin_tenant_id())'),
            ('authenticated', 'audit', 'entity_changes',
                'tenant_id = (SELECT plugin_webhooks.admin_tenant_id())'),
            ('service_role', 'int', 'plugin_delivery_queue', 'true'),
            ('service_role', 'int', 'plugin_delivery_attempts', 'true')
        ) AS p (role_name, schema_name, table_name, condition)
        WHERE pg_catalog.to_regrole(p.role_name) IS NOT NULL
    LOOP
        EXECUTE pg_catalog.format('DROP POLICY IF EXISTS %I ON %I.%I',
            policy.table_name || '_select_' || policy.role_name, policy.schema_name, policy.table_name);
        EXECUTE pg_catalog.format('CREATE POLICY %I ON %I.%I FOR SELECT TO %I USING (%s)',
            policy.table_name || '_select_' || policy.role_name,
            policy.schema_name, policy.table_name, policy.role_name, policy.condition);
    END LOOP;

    IF pg_catalog.to_regrole('anon') IS NOT NULL THEN
        GRANT SELECT ON public.v_plugins, public.v_plugin_installations,
            public.v_plugin_webhook_subscriptions, public.v_plugin_delivery_queue_recent,
            public.v_plugin_delivery_attempts, public.v_audit_entity_changes TO anon;
        -- The views run with the caller's rights. Row policies leave anon the active plugins and
        -- nothing else, and without USAGE on the schemas there is no way around the views.
        GRANT SELECT ON int.plugins, int.plugin_installations, int.plugin_webhook_subscriptions,
            int.plugin_delivery_queue, int.plugin_delivery_attempts, audit.entity_changes TO anon;
        GRANT EXECUTE ON FUNCTION plugin_webhooks.current_user_id(), plugin_webhooks.admin_tenant_id() TO anon;
        GRANT EXECUTE ON FUNCTION public.rpc_plugin_ingest_webhook(text, uuid, jsonb, text) TO anon;
        granted := granted || 'anon'::text;
    END IF;

    IF pg_catalog.to_regrole('authenticated') IS NOT NULL THEN
        PERFORM plugin_webhooks.grant_on_schema('int', 'authenticated');
        PERFORM plugin_webhooks.grant_on_schema('audit', 'authenticated');
        GRANT SELECT ON public.v_plugins, public.v_plugin_installations,
            public.v_plugin_webhook_subscriptions, public.v_plugin_delivery_queue_recent,
            public.v_plugin_delivery_attempts, public.v_audit_entity_changes TO authenticated;
        GRANT SELECT ON int.plugins, int.plugin_installations, int.plugin_webhook_subscriptions,
            int.plugin_delivery_queue, int.plugin_delivery_attempts, audit.entity_changes TO authenticated;
        GRANT EXECUTE ON FUNCTION plugin_webhooks.current_user_id(), plugin_webhooks.admin_tenant_id() TO authenticated;
        GRANT EXECUTE ON FUNCTION
            public.rpc_install_plugin(uuid, text, text, jsonb),
            public.rpc_update_plugin_installation(uuid, uuid, text, text, jsonb),
            public.rpc_uninstall_plugin(uuid, uuid),
            public.rpc_upsert_plugin_webhook_subscription(uuid, uuid, text, text, text[], text[], boolean),
            public.rpc_delete_plugin_webhook_subscription(uuid, uuid),
            public.rpc_plugin_ingest_webhook(text, uuid, jsonb, text)
            TO authenticated;
        granted := granted || 'authenticated'::text;
    END IF;

    IF pg_catalog.to_regrole('service_role') IS NOT NULL THEN
        PERFORM plugin_webhooks.grant_on_schema('int', 'service_role');
        GRANT SELECT ON int.plugin_delivery_queue, int.plugin_delivery_attempts TO service_role;
        GRANT EXECUTE ON FUNCTION
            public.rpc_register_plugin(text, text, text, boolean, boolean),
            public.rpc_process_plugin_deliveries(integer),
            public.rpc_plugin_ingest_webhook(text, uuid, jsonb, text)
            TO service_role;
        granted := granted || 'service_role'::text;
    END IF;

    -- The role that pg_cron runs the processor as.
    IF pg_catalog.to_regclass('cron.job') IS NOT NULL THEN
        FOR cron_job IN EXECUTE
            'SELECT DISTINCT j.username::text AS role_name FROM cron.job AS j
             WHERE j.jobname = ''plugin_webhook_process'' AND pg_catalog.to_regrole(pg_catalog.quote_ident(j.username)) IS NOT NULL'
        LOOP
            PERFORM plugin_webhooks.grant_on_schema('public', cron_job.role_name);
            EXECUTE pg_catalog.format(
                'GRANT EXECUTE ON FUNCTION public.rpc_process_plugin_deliveries(integer) TO %I', cron_job.role_name);
            granted := granted || cron_job.role_name;
        END LOOP;
    END IF;
    RETURN granted;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.grant_to_roles() IS
    'Grants anon, authenticated, service_role and pg_cron''s role what the interface gives them, as far as these roles exist, with their row policies; returns the roles granted. CREATE EXTENSION calls it; call it again when a role appears later. Executable by the owner only.';

-- Functions that run with their owner's rights belong to whom 05_take_over.sql found, all other code to the
-- extension's owner: the owner of a table that was taken over must not change what a superuser runs.
DO $$
DECLARE
    member record;
BEGIN
    FOR member IN
        SELECT 'FUNCTION'::text AS kind, p.oid::regprocedure::text AS name,
               CASE WHEN p.prosecdef THEN o.object ELSE pg_catalog.pg_get_userbyid(e.extowner)::text END AS owner
        FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_proc AS p ON d.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.objid
        CROSS JOIN (SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'function owner') AS o
        WHERE e.extname = 'plugin_webhooks'
          AND NOT (p.prosecdef AND EXISTS (SELECT FROM plugin_webhooks.taking_over AS t
                                           WHERE t.note = 'function' AND t.object = p.oid::regprocedure::text))
        UNION ALL
        SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass::text, pg_catalog.pg_get_userbyid(e.extowner)
        FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_class AS c ON d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
        WHERE e.extname = 'plugin_webhooks'
          AND (c.relkind = 'v' OR c.oid IN ('plugin_webhooks.instance'::regclass, 'plugin_webhooks.replaced'::regclass))
    LOOP
        EXECUTE pg_catalog.format('ALTER %s %s OWNER TO %I', member.kind, member.name, member.owner);
    END LOOP;
END
$$;

DO $$
DECLARE
    member record;
    entry  record;
BEGIN
    FOR member IN
        SELECT 'FUNCTION'::text AS kind, p.oid::regprocedure::text AS name, p.proowner AS owner,
               coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)) AS acl
        FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
        JOIN pg_catalog.pg_proc AS p ON p.oid = d.objid
        WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_proc'::regclass
          AND d.refclassid = 'pg_catalog.pg_extension'::regclass
        UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, c.relowner, c.relacl
        FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
        JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND c.relkind IN ('r', 'v', 'S')
        WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass
          AND d.refclassid = 'pg_catalog.pg_extension'::regclass
        UNION ALL
        SELECT 'SEQUENCE', c.oid::regclass::text, c.relowner, c.relacl
        FROM pg_catalog.pg_class AS c
        WHERE c.oid = 'audit.entity_changes_id_seq'::regclass
        UNION ALL
        SELECT 'SCHEMA', pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl
        FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
        JOIN pg_catalog.pg_namespace AS n ON n.oid = d.objid
        WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_namespace'::regclass
          AND d.refclassid = 'pg_catalog.pg_extension'::regclass
    LOOP
        -- Also where PUBLIC has nothing: PostgreSQL records what a dump compares with at every GRANT and REVOKE.
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM PUBLIC', member.kind, member.name);
        FOR entry IN
            SELECT x.grantee FROM pg_catalog.aclexplode(member.acl) AS x
            WHERE x.grantee <> member.owner AND x.grantee <> 0
            UNION
            SELECT x.grantee FROM pg_catalog.pg_attribute AS a, pg_catalog.aclexplode(a.attacl) AS x
            WHERE member.kind = 'TABLE' AND a.attrelid = pg_catalog.to_regclass(CASE member.kind WHEN 'TABLE' THEN member.name END)
              AND x.grantee <> member.owner AND x.grantee <> 0
        LOOP
            EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', member.kind, member.name,
                pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(entry.grantee)));
        END LOOP;
    END LOOP;
END
$$;

-- Functions that run with their owner's rights use tables of this schema.
DO $$
DECLARE
    owner CONSTANT text := (SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'function owner');
BEGIN
    IF NOT pg_catalog.has_schema_privilege(owner, 'plugin_webhooks', 'USAGE') THEN
        PERFORM plugin_webhooks.grant_as_administrator(
            pg_catalog.format('GRANT USAGE ON SCHEMA plugin_webhooks TO %I', owner));
    END IF;
END
$$;
SELECT plugin_webhooks.grant_to_roles();
SELECT plugin_webhooks.attach_host();

-- What an administrator had granted to other roles on objects that were there before.
SELECT plugin_webhooks.grant_as_administrator(t.statement) FROM plugin_webhooks.taking_over AS t WHERE t.note = 'grant';

-- 90_finish.sql
-- Last words of CREATE EXTENSION.

-- Data that is here while the script runs is at home here: it was taken over, or is being upgraded. A dump
-- brings its data later, and the place it comes from along.
DO $$
BEGIN
    PERFORM plugin_webhooks.settle_pg_net();
    IF NOT EXISTS (SELECT FROM plugin_webhooks.instance) AND EXISTS (SELECT FROM int.plugins) THEN
        PERFORM plugin_webhooks.resume();
    END IF;
END
$$;

-- After a take-over: no DROP EXTENSION by surprise, and what the administrator should know.
DO $$
DECLARE
    refused text;
    extras  text;
BEGIN
    IF EXISTS (SELECT FROM plugin_webhooks.taking_over AS t WHERE t.note = 'table') THEN
        IF pg_catalog.to_regclass('audit.hand_back_before_drop_extension') IS NULL THEN
            CREATE VIEW audit.hand_back_before_drop_extension AS
                SELECT 'SELECT plugin_webhooks.hand_back()'::text AS statement FROM audit.entity_changes WHERE false;
            COMMENT ON VIEW audit.hand_back_before_drop_extension IS
                'Depends on the audit log and is no part of the extension, so that DROP EXTENSION plugin_webhooks refuses to delete what was here before. SELECT plugin_webhooks.hand_back() first.';
            ALTER EXTENSION plugin_webhooks DROP VIEW audit.hand_back_before_drop_extension;
        END IF;
        SELECT pg_catalog.string_agg(pg_catalog.format('installation %s: %s', r.installation_id, r.reason), E'\n' ORDER BY r.installation_id)
        INTO refused FROM plugin_webhooks.refused_installations() AS r;
        IF refused IS NOT NULL THEN
            RAISE WARNING 'the address policy refuses the webhook_url of installations that were taken over'
                USING DETAIL = refused,
                      HINT = 'List their networks in plugin_webhooks.allowed_networks, or have the URLs changed. SELECT * FROM plugin_webhooks.refused_installations() lists them again.';
        END IF;
        SELECT pg_catalog.string_agg(n.statement, E'\n' ORDER BY n.object, n.statement)
        INTO extras FROM plugin_webhooks.not_in_dumps AS n WHERE n.kind IN ('index', 'trigger', 'policy', 'constraint')
          -- Triggers on the host's tables stand for these.
          AND n.statement NOT LIKE '% FOREIGN KEY %';
        IF extras IS NOT NULL THEN
            RAISE WARNING 'pg_dump does not carry everything that was on the tables'
                USING DETAIL = extras,
                      HINT = 'Keep the statements of plugin_webhooks.not_in_dumps with each dump.';
        END IF;
    END IF;
END
$$;
DROP TABLE plugin_webhooks.taking_over;

SELECT plugin_webhooks.wake_launcher();

DO $$
DECLARE
    scheduled boolean := false;
    silenced  boolean;
BEGIN
    IF pg_catalog.to_regclass('cron.job') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM cron.job WHERE command ILIKE ''%rpc_process_plugin_deliveries%'')'
            INTO scheduled;
    END IF;
    IF NOT scheduled THEN
        -- CREATE EXTENSION lowers the level to warning; this notice is meant to be read, though not by
        -- a session that wants errors only.
        silenced := pg_catalog.current_setting('client_min_messages') = 'warning';
        IF silenced THEN
            PERFORM pg_catalog.set_config('client_min_messages', 'notice', true);
        END IF;
        IF pg_catalog.to_regclass('cron.job') IS NOT NULL THEN
            RAISE NOTICE 'nothing schedules the delivery processor yet: SELECT plugin_webhooks.schedule_processor();';
        ELSE
            RAISE NOTICE 'nothing schedules the delivery processor yet: run "select public.rpc_process_plugin_deliveries(50)" each minute, with pg_cron or another scheduler';
        END IF;
        IF silenced THEN
            PERFORM pg_catalog.set_config('client_min_messages', 'warning', true);
        END IF;
    END IF;
END
$$;
