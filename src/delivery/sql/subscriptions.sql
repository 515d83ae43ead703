-- The subscriptions of the tenants $1 to the table $2.$3, in the order of tenants: the caller may stop at one of them.
SELECT i.tenant_id, i.id, p.key, s.operations, s.changed_fields_allowlist, s.include_payload
FROM int.plugin_installations AS i
JOIN int.plugin_webhook_subscriptions AS s ON s.plugin_installation_id = i.id
JOIN int.plugins AS p ON p.id = i.plugin_id
WHERE i.tenant_id = ANY ($1) AND i.status = 'installed' AND s.table_schema = $2 AND s.table_name = $3
ORDER BY i.tenant_id, i.id
