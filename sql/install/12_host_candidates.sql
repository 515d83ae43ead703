-- What the extension may use of a host, as it is there now and whether it may be trusted. The library has the query
-- of this view too (src/host/), for databases whose SQL is older: nothing else stands in this file.
CREATE OR REPLACE VIEW plugin_webhooks.host_candidates AS
WITH wanted AS (
    SELECT * FROM (VALUES
    ('auth.uid()'::text, 'function'::text, '{}'::regtype[], 'uuid'::regtype,
     NULL::text[], NULL::regtype[], NULL::name, 'the calling user'::text),
    ('authz.get_current_tenant_id()', 'function', '{}', 'uuid', NULL, NULL, NULL, 'the tenant context'),
    ('authz.rpc_setup(uuid,text)', 'function', '{uuid,text}', 'uuid', NULL, NULL, NULL,
     'who may call the functions of tenant admins'),
    ('authz.has_permission(uuid,uuid,text)', 'function', '{uuid,uuid,text}', 'boolean', NULL, NULL, NULL,
     'row policies and tenant views'),
    ('authz.is_tenant_member(uuid,uuid)', 'function', '{uuid,uuid}', 'boolean', NULL, NULL, NULL,
     'members of a tenant, assignees'),
    ('util.check_rate_limit(text,text,integer,integer,uuid,uuid)', 'function',
     '{text,text,integer,integer,uuid,uuid}', 'boolean', NULL, NULL, NULL, 'limits'),
    ('vault.decrypted_secrets', 'view', NULL, NULL, '{name,decrypted_secret}', '{text,text}', NULL, 'secrets'),
    ('app.tenants', 'table', NULL, NULL, '{id}', '{uuid}', NULL, 'foreign keys'),
    ('auth.users', 'table', NULL, NULL, '{id}', '{uuid}', NULL, 'foreign keys'),
    ('app.work_orders', 'table', NULL, NULL,
     '{id,tenant_id,title,description,priority,maintenance_type,assigned_to,location_id,asset_id,due_date,'
     'pm_schedule_id,project_id,status}', '{uuid,uuid,-,-,-,-,-,-,-,-,-,-,-}', NULL, 'work_order.create'),
    ('app.pm_schedules', 'table', NULL, NULL, '{id,tenant_id,is_active}', '{uuid,uuid,boolean}', NULL,
     'work_order.create'),
    ('app.projects', 'table', NULL, NULL, '{id,tenant_id}', '{uuid,uuid}', NULL, 'work_order.create'),
    ('app.locations', 'table', NULL, NULL, '{id,tenant_id}', '{uuid,uuid}', NULL, 'work_order.create'),
    ('app.assets', 'table', NULL, NULL, '{id,tenant_id}', '{uuid,uuid}', NULL, 'work_order.create'),
    ('cfg.priority_catalogs', 'table', NULL, NULL, '{tenant_id,entity_type,key}', '{uuid,-,-}', NULL,
     'work_order.create'),
    ('cfg.maintenance_type_catalogs', 'table', NULL, NULL, '{tenant_id,entity_type,key}', '{uuid,-,-}', NULL,
     'work_order.create'),
    ('cfg.get_default_status(uuid,text,jsonb)', 'function', '{uuid,text,jsonb}', 'text', NULL, NULL, NULL,
     'work_order.create'),
    ('cron.job', 'table', NULL, NULL, '{jobname,username,command}', '{-,-,text}', 'pg_cron', 'jobs of the processor'),
    ('cron.schedule(text,text,text)', 'function', '{text,text,text}', 'bigint', NULL, NULL, 'pg_cron',
     'schedule_processor()'),
    ('net._http_response', 'table', NULL, NULL, '{id,status_code}', '{bigint,integer}', 'pg_net', 'taking over')
    ) AS w (object, kind, arguments, result, columns, types, extension, used_for)
), place AS (
    -- Whose objects are trusted in any schema: superusers, the database's owner, the owner of what was taken over.
    SELECT d.datdba AS database_owner, (
        SELECT c.relowner FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'int'
        JOIN pg_catalog.pg_depend AS m ON m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid
         AND m.refclassid = 'pg_catalog.pg_extension'::regclass AND m.deptype = 'e'
        JOIN pg_catalog.pg_extension AS e ON e.oid = m.refobjid AND e.extname = 'plugin_webhooks'
        WHERE c.relname = 'plugins'
    ) AS own_owner
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
), role AS (
    SELECT r.oid, r.rolsuper,
           -- The role that stands for the owner of whatever database this is.
           CASE r.rolname WHEN 'pg_database_owner' THEN p.database_owner ELSE r.oid END AS effective,
           -- What tenants reach runs as this one: nothing of a host's is its.
           r.rolname = 'plugin_webhooks_owner' AS dedicated,
           r.rolsuper OR r.rolname = 'pg_database_owner' OR r.oid = p.database_owner
               OR coalesce(r.oid = p.own_owner, false) AS trusted
    FROM pg_catalog.pg_roles AS r CROSS JOIN place AS p
), present AS (
    SELECT w.object, n.oid AS schema_oid, 'pg_catalog.pg_proc'::regclass::oid AS class, f.oid, f.proowner AS owner,
           CASE WHEN f.prokind <> 'f' THEN 'is not a plain function'
                WHEN f.proretset THEN 'returns a set'
                WHEN f.prorettype <> w.result THEN pg_catalog.format('returns %s, expected %s',
                    pg_catalog.format_type(f.prorettype, NULL), pg_catalog.format_type(w.result, NULL))
           END AS problem
    FROM wanted AS w
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = pg_catalog.split_part(w.object, '.', 1)
    JOIN pg_catalog.pg_proc AS f ON f.pronamespace = n.oid
     AND f.proname = pg_catalog.split_part(pg_catalog.split_part(w.object, '(', 1), '.', 2)
     AND f.proargtypes::text = pg_catalog.array_to_string(w.arguments::oid[], ' ')
    WHERE w.kind = 'function'
    UNION ALL
    SELECT w.object, n.oid, 'pg_catalog.pg_class'::regclass, c.oid, c.relowner,
           CASE WHEN c.relkind NOT IN ('r', 'p') AND (c.relkind, w.kind) <> ('v', 'view') THEN
                    pg_catalog.format('is a %s, expected a %s', CASE c.relkind WHEN 'v' THEN 'view'
                        WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                        WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' ELSE 'relation' END, w.kind)
                ELSE (
                    SELECT pg_catalog.string_agg(
                               CASE WHEN a.attname IS NULL THEN pg_catalog.format('has no column %s', x.name)
                                    ELSE pg_catalog.format('column %s is %s, expected %s', x.name,
                                        pg_catalog.format_type(a.atttypid, NULL),
                                        pg_catalog.format_type(x.type, NULL)) END, ', ')
                    FROM ROWS FROM (pg_catalog.unnest(w.columns), pg_catalog.unnest(w.types)) AS x (name, type)
                    LEFT JOIN pg_catalog.pg_attribute AS a
                      ON a.attrelid = c.oid AND a.attname = x.name AND a.attnum > 0 AND NOT a.attisdropped
                    WHERE a.attname IS NULL OR x.type <> 0 AND a.atttypid <> x.type)
           END
    FROM wanted AS w
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = pg_catalog.split_part(w.object, '.', 1)
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = pg_catalog.split_part(w.object, '.', 2)
    WHERE w.kind <> 'function'
)
SELECT w.object, w.kind, w.used_for, x.schema_oid, n.nspowner AS schema_owner, x.oid, x.owner,
       e.oid AS extension_oid, e.extname AS extension, w.extension IS NOT NULL AS by_extension,
       CASE WHEN w.extension IS NOT NULL AND NOT coalesce(e.extname = w.extension AND founder.rolsuper, false)
             AND NOT (owner.rolsuper AND schema_owner.rolsuper) THEN
           pg_catalog.format('is no member of a superuser''s extension %s', w.extension)
       ELSE x.problem END AS problem,
       -- Who owns an object of a superuser's schema where PUBLIC may create nothing was let in by a superuser.
       NOT owner.dedicated AND (
           owner.trusted OR coalesce(founder.rolsuper, false) OR schema_owner.rolsuper AND NOT EXISTS (
               SELECT FROM pg_catalog.aclexplode(n.nspacl) AS a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE'
           )
       ) AS owner_trusted,
       -- A schema's owner can rename it and put up another: nobody else's object is looked up in there.
       schema_owner.rolsuper OR schema_owner.effective = owner.effective AS schema_trusted
FROM wanted AS w
LEFT JOIN present AS x ON x.object = w.object
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = x.schema_oid
LEFT JOIN role AS owner ON owner.oid = x.owner
LEFT JOIN role AS schema_owner ON schema_owner.oid = n.nspowner
LEFT JOIN pg_catalog.pg_depend AS d ON d.classid = x.class AND d.objid = x.oid AND d.deptype = 'e'
 AND d.refclassid = 'pg_catalog.pg_extension'::regclass
LEFT JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
LEFT JOIN role AS founder ON founder.oid = e.extowner;
