-- Rows of the audit log that the extension did not write itself. {changes}: where they are. The casts, which a
-- type may bring along, run as the owner of the log. $1: this is the active instance. In a copy a row older than
-- its transaction comes from a dump, with its deliveries.
SELECT c.id::bigint, c.tenant_id::uuid, c.table_schema::text, c.table_name::text, c.operation::text,
       c.record_id::text, c.old_data::jsonb, c.new_data::jsonb, c.changed_fields::text[]
FROM {changes} AS c
WHERE c.tenant_id IS NOT NULL
  AND ($1 OR c.created_at BETWEEN pg_catalog.now() AND pg_catalog.clock_timestamp())
