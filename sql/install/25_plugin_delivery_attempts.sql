-- Attempts: what the network said, each time. Without foreign keys, so that a batch of outcomes costs no look-ups;
-- rows go by age, and outlive the delivery they are about.

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
COMMENT ON TABLE int.plugin_delivery_attempts IS
    'One row an attempt to send a delivery, kept for plugin_webhooks.retain_attempts. Written by the worker.';
COMMENT ON COLUMN int.plugin_delivery_attempts.delivery_id IS 'The delivery; it may be gone.';
COMMENT ON COLUMN int.plugin_delivery_attempts.attempt IS
    'Failed attempts before this one plus 1. A number comes twice when an outcome was lost in a crash.';
COMMENT ON COLUMN int.plugin_delivery_attempts.started_at IS 'When the attempt began.';
COMMENT ON COLUMN int.plugin_delivery_attempts.duration_ms IS
    'Milliseconds from then to its end; 0 for a delivery that could not be sent.';
COMMENT ON COLUMN int.plugin_delivery_attempts.status_code IS 'HTTP status, where one arrived.';
COMMENT ON COLUMN int.plugin_delivery_attempts.error_kind IS
    'Null: delivered. Else status, timeout, dns, denied, connect, tls, protocol, setting, secret, payload or internal.';
COMMENT ON COLUMN int.plugin_delivery_attempts.response_start IS
    'Start of the response''s body, at most 1024 bytes, without control characters.';
CREATE INDEX IF NOT EXISTS plugin_delivery_attempts_delivery_id_idx
    ON int.plugin_delivery_attempts (delivery_id);
CREATE INDEX IF NOT EXISTS plugin_delivery_attempts_tenant_id_idx
    ON int.plugin_delivery_attempts (tenant_id, id);
ALTER TABLE int.plugin_delivery_attempts ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('int.plugin_delivery_attempts', '');
SELECT pg_catalog.pg_extension_config_dump('int.plugin_delivery_attempts_id_seq', '');
