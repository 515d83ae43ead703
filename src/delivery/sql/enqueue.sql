-- Deliveries as an Enqueuer made them, one an element of the arrays. One that is there already stays as it is.
INSERT INTO int.plugin_delivery_queue
    (tenant_id, plugin_installation_id, source_entity_change_id, event_type, payload)
SELECT d.tenant_id, d.installation_id, d.change_id, d.event_type, d.payload
FROM ROWS FROM (
    pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::uuid[]), pg_catalog.unnest($3::bigint[]),
    pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::jsonb[])
) AS d (tenant_id, installation_id, change_id, event_type, payload)
ON CONFLICT (plugin_installation_id, source_entity_change_id) DO NOTHING
