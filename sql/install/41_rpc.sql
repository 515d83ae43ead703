-- The functions that clients call by name. Argument names and defaults are an interface: never rename.
-- None is STRICT: a required argument that is null raises.

CREATE OR REPLACE FUNCTION public.rpc_register_plugin(
    p_key text, p_name text, p_description text DEFAULT NULL,
    p_is_integration boolean DEFAULT false, p_is_active boolean DEFAULT true
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_register_plugin_wrapper';
COMMENT ON FUNCTION public.rpc_register_plugin(text, text, text, boolean, boolean) IS
    'Inserts or updates a plugin by key and returns its id. Executable by service_role. Raises 23514 for a missing or '
    'malformed key or a missing name.';

CREATE OR REPLACE FUNCTION public.rpc_install_plugin(
    p_tenant_id uuid, p_plugin_key text, p_secret_ref text DEFAULT NULL, p_config jsonb DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_install_plugin_wrapper';
COMMENT ON FUNCTION public.rpc_install_plugin(uuid, text, text, jsonb) IS
    'Installs a plugin for a tenant, or re-installs it: status installed again, secret_ref and config replaced. '
    'Returns the installation''s id. Executable by authenticated, needs tenant.admin. At most 10 a minute. Raises '
    '28000, 42501, 23514, P0001 (unknown plugin), 22023 (bad config), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_update_plugin_installation(
    p_tenant_id uuid, p_installation_id uuid, p_status text DEFAULT NULL,
    p_secret_ref text DEFAULT NULL, p_config jsonb DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_update_plugin_installation_wrapper';
COMMENT ON FUNCTION public.rpc_update_plugin_installation(uuid, uuid, text, text, jsonb) IS
    'Changes status (installed, disabled, uninstalled), secret_ref or config; null keeps the old value. Executable by '
    'authenticated, needs tenant.admin. At most 20 a minute. Raises 28000, 42501, 23514, P0001 (unknown '
    'installation), 22023 (bad config), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_uninstall_plugin(p_tenant_id uuid, p_installation_id uuid) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_uninstall_plugin_wrapper';
COMMENT ON FUNCTION public.rpc_uninstall_plugin(uuid, uuid) IS
    'Deletes an installation with its subscriptions and deliveries. Executable by authenticated, needs tenant.admin. '
    'At most 10 a minute. Raises 28000, 42501, 23514, P0001 (unknown installation), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_upsert_plugin_webhook_subscription(
    p_tenant_id uuid, p_installation_id uuid, p_table_schema text, p_table_name text,
    p_operations text[], p_changed_fields_allowlist text[] DEFAULT NULL,
    p_include_payload boolean DEFAULT false
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_upsert_plugin_webhook_subscription_wrapper';
COMMENT ON FUNCTION public.rpc_upsert_plugin_webhook_subscription(uuid, uuid, text, text, text[], text[], boolean) IS
    'Subscribes an installation to a table, or changes that subscription; returns its id. Names are trimmed. '
    'Executable by authenticated, needs tenant.admin. At most 30 a minute. Raises 28000, 42501, 23514 (missing name, '
    'empty or unknown operations), P0001 (unknown installation), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_delete_plugin_webhook_subscription(
    p_tenant_id uuid, p_subscription_id uuid
) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_delete_plugin_webhook_subscription_wrapper';
COMMENT ON FUNCTION public.rpc_delete_plugin_webhook_subscription(uuid, uuid) IS
    'Deletes a subscription; deliveries already enqueued are still sent. Executable by authenticated, needs '
    'tenant.admin. At most 30 a minute. Raises 28000, 42501, 23514, P0001 (unknown subscription), 54000.';

CREATE OR REPLACE FUNCTION public.rpc_process_plugin_deliveries(p_batch_size integer DEFAULT 25) RETURNS integer
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_process_plugin_deliveries_wrapper';
COMMENT ON FUNCTION public.rpc_process_plugin_deliveries(integer) IS
    'Moves up to p_batch_size due deliveries, fairly over installations: those that cannot be sent are dead, or '
    'pending with a reason, when it returns; the worker sends the others, and it makes sure that one runs. Returns '
    'expired leases to the queue. Null or less than 1 means 25; at most 10000. Executable by service_role and by '
    'pg_cron''s role. Never waits for the network.';

CREATE OR REPLACE FUNCTION public.rpc_plugin_ingest_webhook(
    p_plugin_key text, p_installation_id uuid, p_payload jsonb, p_signature text
) RETURNS jsonb
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rpc_plugin_ingest_webhook_wrapper';
COMMENT ON FUNCTION public.rpc_plugin_ingest_webhook(text, uuid, jsonb, text) IS
    'A partner''s call: p_signature is the hex HMAC-SHA256 of p_payload::text with the installation''s secret; '
    'p_payload.action picks an action of the allowlist (default noop), p_payload.data is its input. Optional members, '
    'checked when present: installation_id, timestamp (Unix seconds, at most 300 off), id (text of 1 to 200 '
    'characters: runs once, later calls get the first answer). Executable by anon, authenticated, service_role. At '
    'most 120 a minute and installation. Raises 23514, P0001 (unknown installation), 28000 (no secret), 42501 (wrong '
    'signature, another installation or time), 22023 (unknown action, malformed member), 54000, and what the action '
    'raises.';
