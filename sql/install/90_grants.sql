-- Who may do what. First nobody, whatever default privileges say; then the roles of the interface, where they exist.

CREATE OR REPLACE FUNCTION plugin_webhooks.grant_on_schema(schema_name text, role_name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    statement CONSTANT text := pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I', schema_name, role_name);
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_depend AS d
               JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
               WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = schema_name::regnamespace
                 AND d.deptype = 'e') THEN
        EXECUTE statement;
    ELSE
        -- In CREATE EXTENSION PostgreSQL would take all that is granted on the host's schema for a part of the
        -- extension, and no dump would carry it.
        PERFORM plugin_webhooks.grant_as_administrator(statement);
    END IF;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.grant_on_schema(text, text) IS
    'Grants USAGE on a schema, which may be the host''s, to a role. Called by grant_to_roles(). Executable by the '
    'owner only.';

-- Row policies and grants are made by a function, because anon, authenticated and service_role may appear later.
CREATE OR REPLACE FUNCTION plugin_webhooks.grant_to_roles() RETURNS text[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    granted  text[] := '{}';
    withheld text[] := '{}';
    cron_job record;
BEGIN
    IF pg_catalog.to_regrole('anon') IS NOT NULL THEN
        DROP POLICY IF EXISTS plugins_select_anon ON int.plugins;
        CREATE POLICY plugins_select_anon ON int.plugins FOR SELECT TO anon USING (is_active);

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
        DROP POLICY IF EXISTS plugins_select_authenticated ON int.plugins;
        CREATE POLICY plugins_select_authenticated ON int.plugins FOR SELECT TO authenticated USING (true);

        DROP POLICY IF EXISTS plugin_installations_select_authenticated ON int.plugin_installations;
        CREATE POLICY plugin_installations_select_authenticated ON int.plugin_installations
            FOR SELECT TO authenticated USING (tenant_id = (SELECT plugin_webhooks.admin_tenant_id()));

        DROP POLICY IF EXISTS plugin_webhook_subscriptions_select_authenticated
            ON int.plugin_webhook_subscriptions;
        CREATE POLICY plugin_webhook_subscriptions_select_authenticated ON int.plugin_webhook_subscriptions
            FOR SELECT TO authenticated USING (
                EXISTS (SELECT FROM int.plugin_installations AS i WHERE i.id = plugin_installation_id
                        AND i.tenant_id = (SELECT plugin_webhooks.admin_tenant_id())));

        DROP POLICY IF EXISTS plugin_delivery_queue_select_authenticated ON int.plugin_delivery_queue;
        CREATE POLICY plugin_delivery_queue_select_authenticated ON int.plugin_delivery_queue
            FOR SELECT TO authenticated USING (tenant_id = (SELECT plugin_webhooks.admin_tenant_id()));

        DROP POLICY IF EXISTS plugin_delivery_attempts_select_authenticated ON int.plugin_delivery_attempts;
        CREATE POLICY plugin_delivery_attempts_select_authenticated ON int.plugin_delivery_attempts
            FOR SELECT TO authenticated USING (tenant_id = (SELECT plugin_webhooks.admin_tenant_id()));

        DROP POLICY IF EXISTS entity_changes_select_authenticated ON audit.entity_changes;
        CREATE POLICY entity_changes_select_authenticated ON audit.entity_changes
            FOR SELECT TO authenticated USING (tenant_id = (SELECT plugin_webhooks.admin_tenant_id()));

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
        DROP POLICY IF EXISTS plugin_delivery_queue_select_service_role ON int.plugin_delivery_queue;
        CREATE POLICY plugin_delivery_queue_select_service_role ON int.plugin_delivery_queue
            FOR SELECT TO service_role USING (true);

        DROP POLICY IF EXISTS plugin_delivery_attempts_select_service_role ON int.plugin_delivery_attempts;
        CREATE POLICY plugin_delivery_attempts_select_service_role ON int.plugin_delivery_attempts
            FOR SELECT TO service_role USING (true);

        PERFORM plugin_webhooks.grant_on_schema('int', 'service_role');
        GRANT SELECT ON int.plugin_delivery_queue, int.plugin_delivery_attempts TO service_role;
        GRANT EXECUTE ON FUNCTION
            public.rpc_register_plugin(text, text, text, boolean, boolean),
            public.rpc_process_plugin_deliveries(integer),
            public.rpc_plugin_ingest_webhook(text, uuid, jsonb, text)
            TO service_role;
        granted := granted || 'service_role'::text;
    END IF;

    -- The role that pg_cron runs the processor as. Who may schedule a job may call it by this name: that alone gives
    -- a role nothing.
    IF EXISTS (SELECT FROM plugin_webhooks.host_objects AS h WHERE h.object = 'cron.job' AND h.status = 'bound') THEN
        FOR cron_job IN EXECUTE
            'SELECT DISTINCT r.rolname::text AS role_name, r.rolsuper OR r.rolname = ''service_role''
                    OR r.oid = (SELECT d.datdba FROM pg_catalog.pg_database AS d
                                WHERE d.datname = pg_catalog.current_database())
                    OR r.oid = (SELECT c.relowner FROM pg_catalog.pg_class AS c
                                WHERE c.oid = ''int.plugins''::pg_catalog.regclass)
                    OR pg_catalog.has_function_privilege(r.oid,
                        ''public.rpc_process_plugin_deliveries(integer)'', ''EXECUTE'') AS trusted
             FROM cron.job AS j JOIN pg_catalog.pg_roles AS r ON r.rolname = j.username::text
             WHERE j.jobname = ''plugin_webhook_process'' AND j.command ILIKE $1'
            USING '%rpc_process_plugin_deliveries%'
        LOOP
            IF NOT cron_job.trusted THEN
                withheld := withheld || pg_catalog.quote_ident(cron_job.role_name);
                CONTINUE;
            END IF;
            PERFORM plugin_webhooks.grant_on_schema('public', cron_job.role_name);
            EXECUTE pg_catalog.format(
                'GRANT EXECUTE ON FUNCTION public.rpc_process_plugin_deliveries(integer) TO %I', cron_job.role_name);
            granted := granted || cron_job.role_name;
        END LOOP;
    END IF;
    IF withheld <> '{}' THEN
        RAISE NOTICE 'pg_cron runs plugin_webhook_process as %, who may not execute the processor',
                pg_catalog.array_to_string(withheld, ', ')
            USING HINT = pg_catalog.format('If that is as it should be: GRANT USAGE ON SCHEMA public TO %1$s; '
                'GRANT EXECUTE ON FUNCTION public.rpc_process_plugin_deliveries(integer) TO %1$s;',
                pg_catalog.array_to_string(withheld, ', '));
    END IF;
    RETURN granted;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.grant_to_roles() IS
    'Grants anon, authenticated and service_role what the interface gives them, as far as these roles exist, with '
    'their row policies, and the role of the pg_cron job plugin_webhook_process the processor if it is a superuser, '
    'the owner of the database or of the tables, or service_role; returns the roles granted. CREATE EXTENSION calls '
    'it; call it again when a role appears later. Executable by the owner only.';

-- Owners: see plugin_webhooks.member_owners.
DO $$
DECLARE
    member record;
BEGIN
    FOR member IN
        SELECT m.kind, m.object, w.owner
        FROM plugin_webhooks.member_owners AS m
        CROSS JOIN LATERAL (
            SELECT CASE WHEN m.data
                    THEN (SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'owner')
                WHEN m.reached THEN 'plugin_webhooks_owner'
                ELSE pg_catalog.pg_get_userbyid(m.extension_owner)::text END AS owner
        ) AS w
        WHERE pg_catalog.pg_get_userbyid(m.owner) <> w.owner::name
    LOOP
        EXECUTE pg_catalog.format('ALTER %s %s OWNER TO %I', member.kind, member.object, member.owner);
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
            WHERE member.kind = 'TABLE'
              AND a.attrelid = pg_catalog.to_regclass(CASE member.kind WHEN 'TABLE' THEN member.name END)
              AND x.grantee <> member.owner AND x.grantee <> 0
        LOOP
            EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', member.kind, member.name,
                pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(entry.grantee)));
        END LOOP;
    END LOOP;
END
$$;

-- The owner of a table looks it up by its schema, also in the checks of its foreign keys. A restore makes the
-- dedicated role the owner first: of another one a dump carries what it needs.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT w.schema_name, w.owner
        FROM (VALUES
            ('int'::text, (SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'owner')),
            ('audit', (SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'owner')),
            ('plugin_webhooks', 'plugin_webhooks_owner')
        ) AS w (schema_name, owner)
        WHERE NOT pg_catalog.has_schema_privilege(w.owner, w.schema_name, 'USAGE')
    LOOP
        IF wanted.owner = 'plugin_webhooks_owner' THEN
            PERFORM plugin_webhooks.grant_on_schema(wanted.schema_name, wanted.owner);
        ELSE
            PERFORM plugin_webhooks.grant_as_administrator(
                pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I', wanted.schema_name, wanted.owner));
        END IF;
    END LOOP;
END
$$;
SELECT plugin_webhooks.grant_to_roles();
SELECT plugin_webhooks.attach_host();

-- What an administrator had granted to other roles on objects that were there before.
SELECT plugin_webhooks.grant_as_administrator(t.statement)
FROM plugin_webhooks.taking_over AS t WHERE t.note = 'grant';
