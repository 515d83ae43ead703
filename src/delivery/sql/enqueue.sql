-- {is_active}: this is the active instance. In a copy a row older than its transaction comes from a dump, with its deliveries.
INSERT INTO int.plugin_delivery_queue
    (tenant_id, plugin_installation_id, source_entity_change_id, event_type, payload)
SELECT c.tenant_id, i.id, c.id,
       pg_catalog.lower('entity_change.' || c.table_name || '.' || c.operation),
       pg_catalog.jsonb_build_object(
           'v', 1,
           'tenant_id', c.tenant_id,
           'installation_id', i.id,
           'plugin_key', p.key,
           'audit', pg_catalog.jsonb_build_object(
               'id', c.id,
               'table_schema', c.table_schema,
               'table_name', c.table_name,
               'record_id', c.record_id,
               'operation', c.operation,
               'changed_fields', c.changed_fields),
           'snapshot', CASE WHEN s.include_payload
               THEN pg_catalog.jsonb_build_object('old_data', c.old_data, 'new_data', c.new_data)
               ELSE pg_catalog.jsonb_build_object('record_id', c.record_id, 'changed_fields', c.changed_fields)
           END)
FROM {changes} AS c
JOIN int.plugin_installations AS i ON i.tenant_id = c.tenant_id AND i.status = 'installed'
JOIN int.plugin_webhook_subscriptions AS s
    ON s.plugin_installation_id = i.id
   AND s.table_schema = c.table_schema
   AND s.table_name = c.table_name
   AND c.operation = ANY (s.operations)
   AND (c.operation <> 'UPDATE'
        OR coalesce(pg_catalog.cardinality(s.changed_fields_allowlist), 0) = 0
        OR s.changed_fields_allowlist && c.changed_fields)
JOIN int.plugins AS p ON p.id = i.plugin_id
WHERE {is_active} OR c.created_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp()
ON CONFLICT (plugin_installation_id, source_entity_change_id) DO NOTHING
