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
