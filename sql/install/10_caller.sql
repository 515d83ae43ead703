-- Who calls. Policies and views ask these; both answer for the host where there is one.

CREATE OR REPLACE FUNCTION plugin_webhooks.current_user_id() RETURNS uuid
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'current_user_id_wrapper';
COMMENT ON FUNCTION plugin_webhooks.current_user_id() IS
    'The calling user: auth.uid() where the host has it, else claim sub of request.jwt.claims. Null when there is '
    'none. Executable by anon, authenticated.';

CREATE OR REPLACE FUNCTION plugin_webhooks.admin_tenant_id() RETURNS uuid
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_tenant_id_wrapper';
COMMENT ON FUNCTION plugin_webhooks.admin_tenant_id() IS
    'The current tenant context if the caller holds tenant.admin there, else null. Never raises for a caller without '
    'rights. Executable by anon, authenticated.';
