-- $1: a row of int.plugin_installations. The same with what its configuration holds beside routing values masked:
-- names of headers and keys stay, their values do not.
SELECT CASE pg_catalog.jsonb_typeof($1 -> 'config')
    WHEN 'object' THEN pg_catalog.jsonb_set($1, '{config}', coalesce((
        SELECT pg_catalog.jsonb_object_agg(c.key, CASE
            WHEN c.value = 'null'
                OR c.key IN ('timeout_ms', 'max_per_second') AND pg_catalog.jsonb_typeof(c.value) = 'number'
                OR c.key = 'cloudevents' AND pg_catalog.jsonb_typeof(c.value) = 'boolean'
                OR c.key = 'order' AND c.value IN ('"none"', '"record"', '"installation"')
                OR c.key = 'batch' AND c.value::text ~ '^{("max_(events|wait_ms)": [0-9]+(, )?)*}$'
                OR c.key = 'retry_schedule' AND c.value::text ~ '^\[([0-9]+(, )?)*\]$'
                THEN c.value
            WHEN c.key = 'webhook_url' AND c.value #>> '{}'
                ~* '^https?://[^/?#@[:space:][:cntrl:]]+(/[^?#[:space:][:cntrl:]]*)?([?#].*)?$'
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
