-- Ids of $3 due rows, and their installations: tenants take turns, in a tenant its installations, in an installation
-- the oldest row goes first. {found} is find_due.sql.
SELECT due.id, due.installation_id
FROM (
    SELECT r.id, found.installation_id,
           pg_catalog.row_number() OVER (PARTITION BY found.tenant_id ORDER BY r.turn) AS turn
    FROM (
        {found}
    ) AS found (tenant_id, installation_id, ids)
    CROSS JOIN pg_catalog.unnest(found.ids) WITH ORDINALITY AS r (id, turn)
) AS due
ORDER BY due.turn
LIMIT $3
