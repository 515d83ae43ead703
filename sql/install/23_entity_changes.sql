-- The audit log.

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
COMMENT ON COLUMN audit.entity_changes.changed_fields IS
    'UPDATE only: the columns whose value changed, in the table''s column order.';
COMMENT ON COLUMN audit.entity_changes.user_id IS 'Claim sub of the session that made the change, where there is one.';
COMMENT ON COLUMN audit.entity_changes.tenant_id IS
    'The row''s tenant_id; app.tenants counts as its own tenant. Null: no delivery.';
COMMENT ON COLUMN audit.entity_changes.ip_address IS
    'From the first source in plugin_webhooks.ip_address_from that has one; by default the first address of the header '
    'x-forwarded-for, which any caller can forge unless a proxy replaces it, else the address of the database''s '
    'client.';
CREATE INDEX IF NOT EXISTS entity_changes_tenant_id_idx ON audit.entity_changes (tenant_id, id);
ALTER TABLE audit.entity_changes ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('audit.entity_changes', '');
SELECT pg_catalog.pg_extension_config_dump('audit.entity_changes_id_seq', '');

CREATE OR REPLACE TRIGGER entity_changes_plugin_enqueue_trigger
    AFTER INSERT ON audit.entity_changes
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION int.enqueue_plugin_events_from_audit();
