-- What tenants see. security_invoker: the caller's grants and row policies apply.

CREATE OR REPLACE VIEW public.v_plugins WITH (security_invoker = true) AS
SELECT p.id, p.key, p.name, p.description, p.is_integration, p.is_active, p.created_at, p.updated_at
FROM int.plugins AS p
WHERE p.is_active;
COMMENT ON VIEW public.v_plugins IS 'Active plugins. Readable by anon and authenticated.';

CREATE OR REPLACE VIEW public.v_plugin_installations WITH (security_invoker = true) AS
SELECT i.id, i.tenant_id, i.plugin_id, p.key AS plugin_key, p.name AS plugin_name, p.is_integration,
       i.status, i.secret_ref, i.config, i.installed_by, i.installed_at, i.updated_at
FROM int.plugin_installations AS i
JOIN int.plugins AS p ON p.id OPERATOR(pg_catalog.=) i.plugin_id
WHERE i.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_plugin_installations IS
    'Installations of the current tenant, for its admins; zero rows for anyone else.';

CREATE OR REPLACE VIEW public.v_plugin_webhook_subscriptions WITH (security_invoker = true) AS
SELECT s.id, i.tenant_id, s.plugin_installation_id, p.key AS plugin_key, s.table_schema, s.table_name,
       s.operations, s.changed_fields_allowlist, s.include_payload, s.created_at, s.updated_at
FROM int.plugin_webhook_subscriptions AS s
JOIN int.plugin_installations AS i ON i.id OPERATOR(pg_catalog.=) s.plugin_installation_id
JOIN int.plugins AS p ON p.id OPERATOR(pg_catalog.=) i.plugin_id
WHERE i.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_plugin_webhook_subscriptions IS
    'Subscriptions of the current tenant, for its admins; zero rows for anyone else.';

CREATE OR REPLACE VIEW public.v_plugin_delivery_queue_recent WITH (security_invoker = true) AS
SELECT q.id, q.tenant_id, q.plugin_installation_id, p.key AS plugin_key, q.event_type, q.status,
       q.attempts, q.last_error, q.created_at, q.updated_at
FROM int.plugin_delivery_queue AS q
JOIN int.plugin_installations AS i ON i.id OPERATOR(pg_catalog.=) q.plugin_installation_id
JOIN int.plugins AS p ON p.id OPERATOR(pg_catalog.=) i.plugin_id
WHERE q.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_plugin_delivery_queue_recent IS
    'Deliveries of the current tenant without their payload, for its admins; zero rows for anyone else.';

CREATE OR REPLACE VIEW public.v_plugin_delivery_attempts WITH (security_invoker = true) AS
SELECT a.id, a.delivery_id, a.tenant_id, a.plugin_installation_id, p.key AS plugin_key, a.attempt,
       a.started_at, a.duration_ms, a.status_code, a.error_kind, a.response_start
FROM int.plugin_delivery_attempts AS a
LEFT JOIN int.plugin_installations AS i ON i.id OPERATOR(pg_catalog.=) a.plugin_installation_id
LEFT JOIN int.plugins AS p ON p.id OPERATOR(pg_catalog.=) i.plugin_id
WHERE a.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_plugin_delivery_attempts IS
    'Attempts to send deliveries of the current tenant, for its admins; zero rows for anyone else. plugin_key is null '
    'once the plugin is uninstalled.';

CREATE OR REPLACE VIEW public.v_audit_entity_changes WITH (security_invoker = true) AS
SELECT c.id, c.table_schema, c.table_name, c.record_id, c.operation, c.old_data, c.new_data,
       c.changed_fields, c.user_id, c.tenant_id, c.created_at
FROM audit.entity_changes AS c
WHERE c.tenant_id OPERATOR(pg_catalog.=) (SELECT plugin_webhooks.admin_tenant_id());
COMMENT ON VIEW public.v_audit_entity_changes IS
    'The audit log of the current tenant, for its admins; zero rows for anyone else.';
