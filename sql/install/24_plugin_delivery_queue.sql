-- The queue of deliveries.

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
-- Of a table that was there before.
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
COMMENT ON TABLE int.plugin_delivery_queue IS
    'The delivery queue: one row for each change and installation that subscribed to it.';
COMMENT ON COLUMN int.plugin_delivery_queue.id IS 'Sent as X-Plugin-Delivery-Id; the same for every attempt.';
COMMENT ON COLUMN int.plugin_delivery_queue.payload IS 'The request body is exactly payload::text.';
COMMENT ON COLUMN int.plugin_delivery_queue.status IS
    'pending: waits for next_attempt_at, or an attempt runs. delivered: answered 2xx. dead: given up. sending and '
    'failed: not used by this version; what another one left as sending goes back to pending.';
COMMENT ON COLUMN int.plugin_delivery_queue.attempts IS
    'Failed attempts so far. One more than the retry schedule has delays, by default the 8th, makes the delivery dead.';
COMMENT ON COLUMN int.plugin_delivery_queue.last_error IS
    'Why the last attempt failed, at most 500 characters: http <status>: <start of body>, or the kind of network '
    'error.';
COMMENT ON COLUMN int.plugin_delivery_queue.net_request_id IS
    'pg_net''s request for it, in databases that were taken over: read then, never written.';
COMMENT ON COLUMN int.plugin_delivery_queue.sent_at IS
    'When the row was last claimed, or its dispatch requested.';
COMMENT ON COLUMN int.plugin_delivery_queue.claim_id IS
    'Identifies the claim that sends it; null while its dispatch is only requested. An outcome of another claim '
    'changes nothing.';
COMMENT ON COLUMN int.plugin_delivery_queue.lease_expires_at IS
    'A row that is claimed, or whose dispatch is requested, is free again when this has passed.';

-- What the worker claims, installation by installation.
CREATE INDEX IF NOT EXISTS plugin_delivery_queue_waiting_idx
    ON int.plugin_delivery_queue (plugin_installation_id, next_attempt_at)
    WHERE status = 'pending' AND lease_expires_at IS NULL;
-- Leases that have passed.
CREATE INDEX IF NOT EXISTS plugin_delivery_queue_claimed_idx
    ON int.plugin_delivery_queue (lease_expires_at) WHERE status = 'sending' OR lease_expires_at IS NOT NULL;
-- Of an earlier version. What a former system has under these names stays.
DO $$
DECLARE
    earlier record;
BEGIN
    FOR earlier IN
        SELECT x.indexrelid::regclass AS index FROM pg_catalog.pg_index AS x
        WHERE x.indrelid = 'int.plugin_delivery_queue'::regclass
          AND x.indexrelid IN (pg_catalog.to_regclass('int.plugin_delivery_queue_pending_idx'),
                               pg_catalog.to_regclass('int.plugin_delivery_queue_sending_idx'))
          AND NOT EXISTS (SELECT FROM plugin_webhooks.found AS f WHERE f.note = 'table' AND f.oid = x.indrelid)
    LOOP
        EXECUTE pg_catalog.format('DROP INDEX %s', earlier.index);
    END LOOP;
END
$$;
-- What a tenant reads.
CREATE INDEX IF NOT EXISTS plugin_delivery_queue_tenant_id_idx
    ON int.plugin_delivery_queue (tenant_id, created_at);
-- What goes with a row of the audit log.
CREATE INDEX IF NOT EXISTS plugin_delivery_queue_source_entity_change_id_idx
    ON int.plugin_delivery_queue (source_entity_change_id);
ALTER TABLE int.plugin_delivery_queue ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('int.plugin_delivery_queue', '');

-- The host's tenants, where it has such a table: see 21_plugin_installations.sql.
DO $$
BEGIN
    IF EXISTS (SELECT FROM plugin_webhooks.host_objects AS h WHERE h.object = 'app.tenants' AND h.status = 'bound')
       AND EXISTS (SELECT FROM plugin_webhooks.taking_over AS t WHERE t.note = 'owner'
                   AND (t.object = 'plugin_webhooks_owner'
                        OR pg_catalog.has_table_privilege(t.object, 'app.tenants', 'REFERENCES')))
       AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
        WHERE c.conrelid = 'int.plugin_delivery_queue'::regclass AND a.attname = 'tenant_id'
          AND c.confrelid = pg_catalog.to_regclass('app.tenants') AND c.contype = 'f')
    THEN
        ALTER TABLE int.plugin_delivery_queue ADD CONSTRAINT plugin_delivery_queue_tenant_id_fkey
            FOREIGN KEY (tenant_id) REFERENCES app.tenants (id) ON DELETE CASCADE NOT VALID;
    END IF;
END
$$;

CREATE OR REPLACE TRIGGER plugin_delivery_queue_references
    AFTER INSERT OR UPDATE OF tenant_id, plugin_installation_id, source_entity_change_id
    ON int.plugin_delivery_queue
    FOR EACH ROW EXECUTE FUNCTION plugin_webhooks.check_references(
        'tenant_id', 'app', 'tenants', 'plugin_installation_id', 'int', 'plugin_installations',
        'source_entity_change_id', 'audit', 'entity_changes');
-- Whoever sets a row to pending by hand wants it sent anew: the outcome of an attempt that runs counts no more.
CREATE OR REPLACE TRIGGER plugin_delivery_queue_forget_claim
    BEFORE UPDATE OF status ON int.plugin_delivery_queue
    FOR EACH ROW WHEN (NEW.status = 'pending' AND NEW.lease_expires_at = OLD.lease_expires_at)
    EXECUTE FUNCTION plugin_webhooks.forget_claim();
