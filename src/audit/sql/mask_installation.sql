-- $1: a row of int.plugin_installations. The same with what its configuration holds beside routing values masked:
-- names of headers and keys stay, their values do not.
SELECT CASE pg_catalog.jsonb_typeof($1 -> 'config')
    WHEN 'object' THEN pg_catalog.jsonb_set($1, '{config}', coalesce((
        SELECT pg_catalog.jsonb_object_agg(c.key, CASE
            WHEN c.key IN ('timeout_ms', 'retry_schedule', 'max_per_second', 'order', 'batch', 'cloudevents')
                OR c.value = 'null'
                THEN c.value
            WHEN c.key = 'webhook_url' AND c.value #>> '{}' ~* '^https?://[^/?#@]+(/[^?#]*)?([?#].*)?$'
                THEN pg_catalog.to_jsonb(pg_catalog.regexp_replace(c.value #>> '{}', '[?#].*$', '?***'))
            WHEN c.key IN ('headers', 'secret_headers') AND pg_catalog.jsonb_typeof(c.value) = 'object'
                THEN coalesce((
                    SELECT pg_catalog.jsonb_object_agg(h.name, '***'::pg_catalog.text)
                    FROM pg_catalog.jsonb_object_keys(c.value) AS h (name)), '{}')
            ELSE '"***"'
        END)
        FROM pg_catalog.jsonb_each($1 -> 'config') AS c), '{}'))
    WHEN 'null' THEN $1
    -- Nothing where the column is not recorded.
    ELSE pg_catalog.jsonb_set($1, '{config}', '"***"', false)
END
