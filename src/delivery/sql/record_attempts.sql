-- One row an attempt. The tenant and the installation come from the claim, not from the queue: the
-- delivery may be gone.
INSERT INTO int.plugin_delivery_attempts
    (delivery_id, tenant_id, plugin_installation_id, attempt, started_at, duration_ms,
     status_code, error_kind, response_start)
SELECT a.delivery, a.tenant, a.installation, a.attempt,
       pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => a.age), a.duration,
       a.status, a.error, a.response
FROM ROWS FROM (
    pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::uuid[]), pg_catalog.unnest($3::uuid[]),
    pg_catalog.unnest($4::int[]), pg_catalog.unnest($5::float8[]), pg_catalog.unnest($6::int[]),
    pg_catalog.unnest($7::int[]), pg_catalog.unnest($8::text[]), pg_catalog.unnest($9::text[])
) AS a (delivery, tenant, installation, attempt, age, duration, status, error, response)
