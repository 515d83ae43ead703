-- No schema or table has a name of more than 63 bytes: a longer one matches nothing, and is not read.
SELECT i.tenant_id, i.id, p.key, s.table_schema, s.table_name, s.operations,
       s.changed_fields_allowlist, s.include_payload
FROM int.plugin_installations AS i
JOIN int.plugin_webhook_subscriptions AS s ON s.plugin_installation_id = i.id
JOIN int.plugins AS p ON p.id = i.plugin_id
WHERE i.tenant_id = ANY ($1) AND i.status = 'installed'
  AND pg_catalog.octet_length(s.table_schema) <= 63 AND pg_catalog.octet_length(s.table_name) <= 63
ORDER BY i.id
