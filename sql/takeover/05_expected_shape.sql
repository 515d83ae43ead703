-- The shape of what sql/install makes and of what may be adopted, written once: for the adoption, for the
-- convergence of tables that were there before, and for the list of what a dump leaves out. The test
-- the_expected_shape_is_what_the_install_script_makes (tests/e2e/upgrade.rs) compares it with a fresh install.

-- kind            | definition
-- column          | type, NOT NULL, DEFAULT; must be there at the adoption. DEFAULT NULL: none, a default that is there
--                 | is dropped. Without DEFAULT: none in a fresh install, and one that is there stays
-- added column    | the same; an addition of the extension, which sql/install adds where it is missing
-- constraint      | as pg_get_constraintdef() says it, for tables whose data a dump carries
-- index           | as pg_get_indexdef() says it, from the access method on; without those of constraints
-- trigger         | none: the name counts
-- function        | names, types and defaults of its arguments, and its result: what clients rely on
-- view            | names and types of its columns, as they were before the first addition
CREATE OR REPLACE VIEW plugin_webhooks.expected_shape AS
SELECT pg_catalog.row_number() OVER () AS position, e.kind, e.relation, e.name, e.definition
FROM (VALUES
('column', 'int.plugins', 'id', 'uuid NOT NULL DEFAULT gen_random_uuid()'),
('column', 'int.plugins', 'key', 'text NOT NULL'),
('column', 'int.plugins', 'name', 'text NOT NULL'),
('column', 'int.plugins', 'description', 'text'),
('column', 'int.plugins', 'is_integration', 'boolean NOT NULL DEFAULT false'),
('column', 'int.plugins', 'is_active', 'boolean NOT NULL DEFAULT true'),
('column', 'int.plugins', 'created_at', 'timestamptz NOT NULL DEFAULT now()'),
('column', 'int.plugins', 'updated_at', 'timestamptz NOT NULL DEFAULT now()'),
('constraint', 'int.plugins', 'plugins_pkey', 'PRIMARY KEY (id)'),
('constraint', 'int.plugins', 'plugins_key_key', 'UNIQUE (key)'),
('constraint', 'int.plugins', 'plugins_key_check',
    'CHECK (((key ~ ''^[a-z0-9_]+$''::text) AND ((length(key) >= 2) AND (length(key) <= 80))))'),
('trigger', 'int.plugins', 'plugins_adopt', NULL),
('trigger', 'int.plugins', 'plugins_audit_changes', NULL),
('trigger', 'int.plugins', 'plugins_audit_inserts', NULL),
('trigger', 'int.plugins', 'plugins_forget_subscriptions', NULL),

('column', 'int.plugin_installations', 'id', 'uuid NOT NULL DEFAULT gen_random_uuid()'),
('column', 'int.plugin_installations', 'tenant_id', 'uuid NOT NULL'),
('column', 'int.plugin_installations', 'plugin_id', 'uuid NOT NULL'),
('column', 'int.plugin_installations', 'status', 'text NOT NULL DEFAULT ''installed''::text'),
('column', 'int.plugin_installations', 'secret_ref', 'text'),
('column', 'int.plugin_installations', 'config', 'jsonb DEFAULT NULL'),
('column', 'int.plugin_installations', 'installed_by', 'uuid DEFAULT NULL'),
('column', 'int.plugin_installations', 'installed_at', 'timestamptz NOT NULL DEFAULT now()'),
('column', 'int.plugin_installations', 'updated_at', 'timestamptz NOT NULL DEFAULT now()'),
('constraint', 'int.plugin_installations', 'plugin_installations_pkey', 'PRIMARY KEY (id)'),
('constraint', 'int.plugin_installations', 'plugin_installations_tenant_id_plugin_id_key',
    'UNIQUE (tenant_id, plugin_id)'),
('constraint', 'int.plugin_installations', 'plugin_installations_plugin_id_fkey',
    'FOREIGN KEY (plugin_id) REFERENCES "int".plugins(id) ON DELETE CASCADE'),
('constraint', 'int.plugin_installations', 'plugin_installations_status_check',
    'CHECK ((status = ANY (ARRAY[''installed''::text, ''disabled''::text, ''uninstalled''::text])))'),
('constraint', 'int.plugin_installations', 'plugin_installations_secret_ref_size_check',
    'CHECK (((updated_at < now()) OR ((octet_length(secret_ref) <= 800) AND (length(secret_ref) <= 200))))'),
('constraint', 'int.plugin_installations', 'plugin_installations_config_size_check',
    'CHECK (((updated_at < now()) OR ((pg_column_size(config) <= 524288) AND '
    '(octet_length((config)::text) <= 65536))))'),
('constraint', 'int.plugin_installations', 'plugin_installations_webhook_url_size_check',
    'CHECK (((updated_at < now()) OR (length((config ->> ''webhook_url''::text)) <= 2048)))'),
('index', 'int.plugin_installations', 'plugin_installations_plugin_id_idx', 'btree (plugin_id)'),
('trigger', 'int.plugin_installations', 'plugin_installations_adopt', NULL),
('trigger', 'int.plugin_installations', 'plugin_installations_audit_changes', NULL),
('trigger', 'int.plugin_installations', 'plugin_installations_audit_inserts', NULL),
('trigger', 'int.plugin_installations', 'plugin_installations_forget_inbound_ids', NULL),
('trigger', 'int.plugin_installations', 'plugin_installations_forget_subscriptions', NULL),
('trigger', 'int.plugin_installations', 'plugin_installations_note_change', NULL),
('trigger', 'int.plugin_installations', 'plugin_installations_references', NULL),

('column', 'int.plugin_webhook_subscriptions', 'id', 'uuid NOT NULL DEFAULT gen_random_uuid()'),
('column', 'int.plugin_webhook_subscriptions', 'plugin_installation_id', 'uuid NOT NULL'),
('column', 'int.plugin_webhook_subscriptions', 'table_schema', 'text NOT NULL DEFAULT NULL'),
('column', 'int.plugin_webhook_subscriptions', 'table_name', 'text NOT NULL'),
('column', 'int.plugin_webhook_subscriptions', 'operations', 'text[] NOT NULL DEFAULT NULL'),
('column', 'int.plugin_webhook_subscriptions', 'changed_fields_allowlist', 'text[] DEFAULT NULL'),
('column', 'int.plugin_webhook_subscriptions', 'include_payload', 'boolean NOT NULL DEFAULT false'),
('column', 'int.plugin_webhook_subscriptions', 'created_at', 'timestamptz NOT NULL DEFAULT now()'),
('column', 'int.plugin_webhook_subscriptions', 'updated_at', 'timestamptz NOT NULL DEFAULT now()'),
('constraint', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_pkey', 'PRIMARY KEY (id)'),
('constraint', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_installation_table_key',
    'UNIQUE (plugin_installation_id, table_schema, table_name)'),
('constraint', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_plugin_installation_id_fkey',
    'FOREIGN KEY (plugin_installation_id) REFERENCES "int".plugin_installations(id) ON DELETE CASCADE'),
('constraint', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_operations_check',
    'CHECK (((cardinality(operations) > 0) AND '
    '(operations <@ ARRAY[''INSERT''::text, ''UPDATE''::text, ''DELETE''::text])))'),
('constraint', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_table_size_check',
    'CHECK (((updated_at < now()) OR ((octet_length(table_schema) <= 63) AND (octet_length(table_name) <= 63))))'),
('constraint', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_allowlist_size_check',
    'CHECK (((updated_at < now()) OR ((cardinality(changed_fields_allowlist) <= 1600) AND '
    '(changed_fields_allowlist = ((changed_fields_allowlist)::name[])::text[]))))'),
('trigger', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_forget_subscriptions', NULL),
('trigger', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_note_change', NULL),
('trigger', 'int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_references', NULL),

('column', 'audit.entity_changes', 'id', 'bigint NOT NULL'),
('column', 'audit.entity_changes', 'table_schema', 'text NOT NULL DEFAULT NULL'),
('column', 'audit.entity_changes', 'table_name', 'text NOT NULL'),
('column', 'audit.entity_changes', 'record_id', 'text NOT NULL'),
('column', 'audit.entity_changes', 'operation', 'text NOT NULL'),
('column', 'audit.entity_changes', 'old_data', 'jsonb'),
('column', 'audit.entity_changes', 'new_data', 'jsonb'),
('column', 'audit.entity_changes', 'changed_fields', 'text[]'),
('column', 'audit.entity_changes', 'user_id', 'uuid DEFAULT NULL'),
('column', 'audit.entity_changes', 'tenant_id', 'uuid DEFAULT NULL'),
('column', 'audit.entity_changes', 'ip_address', 'inet DEFAULT NULL'),
('column', 'audit.entity_changes', 'user_agent', 'text DEFAULT NULL'),
('column', 'audit.entity_changes', 'created_at', 'timestamptz NOT NULL DEFAULT now()'),
('constraint', 'audit.entity_changes', 'entity_changes_pkey', 'PRIMARY KEY (id)'),
('constraint', 'audit.entity_changes', 'entity_changes_operation_check',
    'CHECK ((operation = ANY (ARRAY[''INSERT''::text, ''UPDATE''::text, ''DELETE''::text])))'),
('index', 'audit.entity_changes', 'entity_changes_tenant_id_idx', 'btree (tenant_id, id)'),
('trigger', 'audit.entity_changes', 'entity_changes_plugin_enqueue_trigger', NULL),

('column', 'int.plugin_delivery_queue', 'id', 'uuid NOT NULL DEFAULT gen_random_uuid()'),
('column', 'int.plugin_delivery_queue', 'tenant_id', 'uuid NOT NULL'),
('column', 'int.plugin_delivery_queue', 'plugin_installation_id', 'uuid NOT NULL'),
('column', 'int.plugin_delivery_queue', 'source_entity_change_id', 'bigint NOT NULL'),
('column', 'int.plugin_delivery_queue', 'event_type', 'text NOT NULL'),
('column', 'int.plugin_delivery_queue', 'payload', 'jsonb NOT NULL DEFAULT NULL'),
('column', 'int.plugin_delivery_queue', 'status', 'text NOT NULL DEFAULT ''pending''::text'),
('column', 'int.plugin_delivery_queue', 'attempts', 'integer NOT NULL DEFAULT 0'),
('column', 'int.plugin_delivery_queue', 'next_attempt_at', 'timestamptz NOT NULL DEFAULT now()'),
('column', 'int.plugin_delivery_queue', 'last_error', 'text'),
('column', 'int.plugin_delivery_queue', 'net_request_id', 'bigint'),
('column', 'int.plugin_delivery_queue', 'sent_at', 'timestamptz DEFAULT NULL'),
('column', 'int.plugin_delivery_queue', 'created_at', 'timestamptz NOT NULL DEFAULT now()'),
('column', 'int.plugin_delivery_queue', 'updated_at', 'timestamptz NOT NULL DEFAULT now()'),
('added column', 'int.plugin_delivery_queue', 'claim_id', 'bigint'),
('added column', 'int.plugin_delivery_queue', 'lease_expires_at', 'timestamptz'),
('constraint', 'int.plugin_delivery_queue', 'plugin_delivery_queue_pkey', 'PRIMARY KEY (id)'),
('constraint', 'int.plugin_delivery_queue', 'plugin_delivery_queue_installation_change_key',
    'UNIQUE (plugin_installation_id, source_entity_change_id)'),
('constraint', 'int.plugin_delivery_queue', 'plugin_delivery_queue_plugin_installation_id_fkey',
    'FOREIGN KEY (plugin_installation_id) REFERENCES "int".plugin_installations(id) ON DELETE CASCADE'),
('constraint', 'int.plugin_delivery_queue', 'plugin_delivery_queue_source_entity_change_id_fkey',
    'FOREIGN KEY (source_entity_change_id) REFERENCES audit.entity_changes(id) ON DELETE CASCADE'),
('constraint', 'int.plugin_delivery_queue', 'plugin_delivery_queue_status_check',
    'CHECK ((status = ANY (ARRAY[''pending''::text, ''sending''::text, ''delivered''::text, '
    '''failed''::text, ''dead''::text])))'),
('constraint', 'int.plugin_delivery_queue', 'plugin_delivery_queue_attempts_check', 'CHECK ((attempts >= 0))'),
('index', 'int.plugin_delivery_queue', 'plugin_delivery_queue_pending_idx',
    'btree (plugin_installation_id, next_attempt_at) WHERE (status = ''pending''::text)'),
('index', 'int.plugin_delivery_queue', 'plugin_delivery_queue_sending_idx',
    'btree (lease_expires_at) WHERE (status = ''sending''::text)'),
('index', 'int.plugin_delivery_queue', 'plugin_delivery_queue_tenant_id_idx', 'btree (tenant_id, created_at)'),
('index', 'int.plugin_delivery_queue', 'plugin_delivery_queue_source_entity_change_id_idx',
    'btree (source_entity_change_id)'),
('trigger', 'int.plugin_delivery_queue', 'plugin_delivery_queue_references', NULL),

('constraint', 'int.plugin_delivery_attempts', 'plugin_delivery_attempts_pkey', 'PRIMARY KEY (id)'),
('constraint', 'int.plugin_delivery_attempts', 'plugin_delivery_attempts_attempt_check', 'CHECK ((attempt > 0))'),
('constraint', 'int.plugin_delivery_attempts', 'plugin_delivery_attempts_duration_ms_check',
    'CHECK ((duration_ms >= 0))'),
('constraint', 'int.plugin_delivery_attempts', 'plugin_delivery_attempts_response_start_check',
    'CHECK ((octet_length(response_start) <= 1024))'),
('index', 'int.plugin_delivery_attempts', 'plugin_delivery_attempts_delivery_id_idx', 'btree (delivery_id)'),
('index', 'int.plugin_delivery_attempts', 'plugin_delivery_attempts_tenant_id_idx', 'btree (tenant_id, id)'),

('constraint', 'plugin_webhooks.secrets', 'secrets_pkey', 'PRIMARY KEY (id)'),
('constraint', 'plugin_webhooks.secrets', 'secrets_binding_check',
    'CHECK (((aad_version = 2) OR ((tenant_id IS NULL) AND (plugin_key IS NULL))))'),
('constraint', 'plugin_webhooks.secrets', 'secrets_name_key', 'UNIQUE (name)'),
('constraint', 'plugin_webhooks.secrets', 'secrets_name_check', 'CHECK ((name <> ''''::text))'),
('constraint', 'plugin_webhooks.secrets', 'secrets_nonce_check', 'CHECK ((octet_length(nonce) = 24))'),

('constraint', 'plugin_webhooks.actions', 'actions_pkey', 'PRIMARY KEY (action)'),
('constraint', 'plugin_webhooks.actions', 'actions_action_check',
    'CHECK (((action ~ ''^[a-z0-9_]+(\.[a-z0-9_]+)*$''::text) AND (length(action) <= 100)))'),

('constraint', 'plugin_webhooks.inbound_ids', 'inbound_ids_pkey', 'PRIMARY KEY (plugin_installation_id, id)'),
('constraint', 'plugin_webhooks.inbound_ids', 'inbound_ids_id_check',
    'CHECK (((length(id) >= 1) AND (length(id) <= 200)))'),
('index', 'plugin_webhooks.inbound_ids', 'inbound_ids_created_at_idx', 'btree (created_at)'),

('function', 'public', 'rpc_register_plugin',
    '(p_key text, p_name text, p_description text DEFAULT, p_is_integration boolean DEFAULT, '
    'p_is_active boolean DEFAULT) RETURNS uuid'),
('function', 'public', 'rpc_install_plugin',
    '(p_tenant_id uuid, p_plugin_key text, p_secret_ref text DEFAULT, p_config jsonb DEFAULT) RETURNS uuid'),
('function', 'public', 'rpc_update_plugin_installation',
    '(p_tenant_id uuid, p_installation_id uuid, p_status text DEFAULT, p_secret_ref text DEFAULT, '
    'p_config jsonb DEFAULT) RETURNS void'),
('function', 'public', 'rpc_uninstall_plugin', '(p_tenant_id uuid, p_installation_id uuid) RETURNS void'),
('function', 'public', 'rpc_upsert_plugin_webhook_subscription',
    '(p_tenant_id uuid, p_installation_id uuid, p_table_schema text, p_table_name text, p_operations text[], '
    'p_changed_fields_allowlist text[] DEFAULT, p_include_payload boolean DEFAULT) RETURNS uuid'),
('function', 'public', 'rpc_delete_plugin_webhook_subscription',
    '(p_tenant_id uuid, p_subscription_id uuid) RETURNS void'),
('function', 'public', 'rpc_process_plugin_deliveries', '(p_batch_size integer DEFAULT) RETURNS integer'),
('function', 'public', 'rpc_plugin_ingest_webhook',
    '(p_plugin_key text, p_installation_id uuid, p_payload jsonb, p_signature text) RETURNS jsonb'),
('function', 'audit', 'log_entity_change', '() RETURNS trigger'),
('function', 'int', 'enqueue_plugin_events_from_audit', '() RETURNS trigger'),
('function', 'int', 'resolve_installation_signing_secret', '(p_installation_id uuid) RETURNS text'),
('function', 'int', 'plugin_webhook_apply_action',
    '(p_tenant_id uuid, p_action text, p_data jsonb) RETURNS jsonb'),

('view', 'public.v_plugins', NULL,
    'id uuid, key text, name text, description text, is_integration boolean, is_active boolean, '
    'created_at timestamp with time zone, updated_at timestamp with time zone'),
('view', 'public.v_plugin_installations', NULL,
    'id uuid, tenant_id uuid, plugin_id uuid, plugin_key text, plugin_name text, is_integration boolean, '
    'status text, secret_ref text, config jsonb, installed_by uuid, installed_at timestamp with time zone, '
    'updated_at timestamp with time zone'),
('view', 'public.v_plugin_webhook_subscriptions', NULL,
    'id uuid, tenant_id uuid, plugin_installation_id uuid, plugin_key text, table_schema text, table_name text, '
    'operations text[], changed_fields_allowlist text[], include_payload boolean, '
    'created_at timestamp with time zone, updated_at timestamp with time zone'),
('view', 'public.v_plugin_delivery_queue_recent', NULL,
    'id uuid, tenant_id uuid, plugin_installation_id uuid, plugin_key text, event_type text, status text, '
    'attempts integer, last_error text, created_at timestamp with time zone, '
    'updated_at timestamp with time zone'),
('view', 'public.v_audit_entity_changes', NULL,
    'id bigint, table_schema text, table_name text, record_id text, operation text, old_data jsonb, '
    'new_data jsonb, changed_fields text[], user_id uuid, tenant_id uuid, created_at timestamp with time zone')
) AS e (kind, relation, name, definition);
COMMENT ON VIEW plugin_webhooks.expected_shape IS
    'What CREATE EXTENSION makes of tables, and expects of what it adopts. Readable by the owner only.';
