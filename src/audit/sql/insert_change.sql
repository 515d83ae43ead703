-- One row of the audit log, for one that rows cannot be appended to.
INSERT INTO audit.entity_changes
    (table_schema, table_name, record_id, operation, old_data, new_data, changed_fields,
     user_id, tenant_id, ip_address, user_agent)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
