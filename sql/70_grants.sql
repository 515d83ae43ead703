-- Who may do what. First nobody, whatever default privileges say; then the roles of the interface, where they exist.

CREATE FUNCTION plugin_webhooks.grant_to_roles() RETURNS text[]
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
          AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_policies AS existing
              WHERE existing.schemaname = p.schema_name::name AND existing.tablename = p.table_name::name
                AND existing.policyname = (p.table_name || '_select_' || p.role_name)::name)
    LOOP
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
        GRANT USAGE ON SCHEMA int, audit TO authenticated;
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
        GRANT USAGE ON SCHEMA int TO service_role;
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
            EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA public TO %I', cron_job.role_name);
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
        FOR entry IN
            SELECT DISTINCT x.grantee FROM pg_catalog.aclexplode(member.acl) AS x
            WHERE x.grantee <> member.owner
        LOOP
            EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', member.kind, member.name,
                CASE entry.grantee WHEN 0 THEN 'PUBLIC'
                     ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(entry.grantee)) END);
        END LOOP;
    END LOOP;
END
$$;

SELECT plugin_webhooks.grant_to_roles();
