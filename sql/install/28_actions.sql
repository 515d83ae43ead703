-- What a partner's signed call may do.

CREATE TABLE IF NOT EXISTS plugin_webhooks.actions (
    action         text PRIMARY KEY,
    handler_schema text NOT NULL,
    handler_name   text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT actions_action_check CHECK (action ~ '^[a-z0-9_]+(\.[a-z0-9_]+)*$' AND pg_catalog.length(action) <= 100)
);
COMMENT ON TABLE plugin_webhooks.actions IS
    'Inbound actions added with plugin_webhooks.register_action. noop and work_order.create are built in.';
ALTER TABLE plugin_webhooks.actions ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('plugin_webhooks.actions', '');

CREATE OR REPLACE FUNCTION plugin_webhooks.registered_actions()
    RETURNS TABLE (action text, handler_schema text, handler_name text)
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'registered_actions_wrapper';
COMMENT ON FUNCTION plugin_webhooks.registered_actions() IS
    'Reads plugin_webhooks.actions for plugin_webhooks.inbound_actions, as its owner. Executable by the owner only.';

CREATE OR REPLACE VIEW plugin_webhooks.inbound_actions WITH (security_invoker = true) AS
SELECT 'noop'::text AS action, NULL::text AS handler, true AS built_in
UNION ALL SELECT 'work_order.create', NULL, true
UNION ALL SELECT a.action,
                 pg_catalog.format('%I.%I(uuid,jsonb)', a.handler_schema, a.handler_name), false
          FROM plugin_webhooks.registered_actions() AS a;
COMMENT ON VIEW plugin_webhooks.inbound_actions IS 'The allowlist of inbound actions.';

CREATE OR REPLACE FUNCTION plugin_webhooks.register_action(action text, handler regprocedure) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'register_action_wrapper';
COMMENT ON FUNCTION plugin_webhooks.register_action(text, regprocedure) IS
    'Adds an inbound action, or changes its handler: a function (tenant uuid, data jsonb) returns jsonb, run with its '
    'owner''s rights. Raises 23514 (null, malformed name), 42P13 (handler of another shape), 42710 (built-in name).';

CREATE OR REPLACE FUNCTION plugin_webhooks.unregister_action(action text) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'unregister_action_wrapper';
COMMENT ON FUNCTION plugin_webhooks.unregister_action(text) IS
    'Removes an inbound action. Raises P0001 (not registered), 42710 (built in), 23514 (null).';

CREATE OR REPLACE FUNCTION int.plugin_webhook_apply_action(p_tenant_id uuid, p_action text, p_data jsonb) RETURNS jsonb
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'plugin_webhook_apply_action_wrapper';
COMMENT ON FUNCTION int.plugin_webhook_apply_action(uuid, text, jsonb) IS
    'Runs one inbound action for a tenant without a signature. Executable by the owner only. Raises 22023 (unknown '
    'action) and what the action raises.';
