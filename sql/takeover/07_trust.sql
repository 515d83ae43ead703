-- Whose what was found is, and whose code hangs on it. An object runs with the rights of its own owner: so all of it
-- belongs to one role, and to no superuser. A role with nothing but CREATE on the database can make schemas and
-- tables of any name: they are no former system.

-- Which member of the extension belongs to whom. Tables that a former system has: to its owner, whose data it is. What
-- tenants and the worker reach else: to the dedicated role, which is nobody, so that nobody can change it. All other
-- code, what an operator calls, views, and the record of where the data is active: to the extension's owner.
CREATE OR REPLACE VIEW plugin_webhooks.member_owners AS
SELECT m.*, e.extowner AS extension_owner
FROM pg_catalog.pg_extension AS e
JOIN LATERAL (
    SELECT 'FUNCTION'::text AS kind, p.oid::regprocedure::text AS object, p.proowner AS owner,
           p.prosecdef AND (n.nspname = 'public' OR p.proname IN ('current_user_id', 'admin_tenant_id')) AS reached,
           false AS data
    FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_proc AS p ON p.oid = d.objid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e' AND d.refobjid = e.oid
      AND d.refclassid = 'pg_catalog.pg_extension'::regclass
    UNION ALL
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass::text, c.relowner,
           c.relkind = 'r' AND (n.nspname, c.relname) NOT IN (
               ('plugin_webhooks', 'host_bindings'), ('plugin_webhooks', 'instance'),
               ('plugin_webhooks', 'replaced'), ('plugin_webhooks', 'taking_over')),
           c.relkind = 'r' AND n.nspname IN ('int', 'audit')
    FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_class AS c ON c.oid = d.objid AND c.relkind IN ('r', 'v')
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e' AND d.refobjid = e.oid
      AND d.refclassid = 'pg_catalog.pg_extension'::regclass
) AS m ON true
WHERE e.extname = 'plugin_webhooks';
COMMENT ON VIEW plugin_webhooks.member_owners IS
    'Functions, tables and views of the extension with their owners. reached: tenants or the worker reach it, so it '
    'belongs to plugin_webhooks_owner. data: a table that a former system has, too; it belongs to the owner of the '
    'system that was taken over. Readable by the owner only.';

DO $$
DECLARE
    dedicated CONSTANT name := 'plugin_webhooks_owner';
    -- What an earlier version reaches belongs to roles that CREATE EXTENSION has found; a superuser's moves, and what
    -- is the dedicated role's beside a former owner's tables is as it should be.
    updating  CONSTANT boolean := EXISTS (
        SELECT FROM plugin_webhooks.member_owners AS m WHERE m.kind = 'FUNCTION' AND m.reached);
    owners    CONSTANT oid[] := ARRAY(
        SELECT DISTINCT r.oid
        FROM plugin_webhooks.member_owners AS m JOIN pg_catalog.pg_roles AS r ON r.oid = m.owner
        WHERE m.reached AND NOT r.rolsuper AND (m.data OR r.rolname <> dedicated));
    -- No former system had tables in schema plugin_webhooks: they were handed back.
    found_by  CONSTANT oid[] := ARRAY(
        SELECT DISTINCT f.owner FROM plugin_webhooks.found AS f WHERE f.name NOT LIKE 'plugin_webhooks.%');
    owner     name;
    nobody    oid[];
    trusted   oid[];
    -- A former system of somebody who is not the owner of the database.
    stranger  boolean;
BEGIN
    -- One owner. Of a former system a superuser's part counts, too: it must not become somebody else's.
    IF updating AND pg_catalog.cardinality(owners) > 1 THEN
        INSERT INTO plugin_webhooks.taking_over
        SELECT 'difference', pg_catalog.format('%s belongs to %s', m.object, pg_catalog.pg_get_userbyid(m.owner))
        FROM plugin_webhooks.member_owners AS m WHERE m.reached AND m.owner = ANY (owners) ORDER BY m.kind, m.object;
    ELSIF NOT updating AND pg_catalog.cardinality(found_by) > 1 THEN
        INSERT INTO plugin_webhooks.taking_over
        SELECT 'difference', pg_catalog.format('%s belongs to %s, and other objects to another role',
                   f.name, pg_catalog.pg_get_userbyid(f.owner))
        FROM plugin_webhooks.found AS f WHERE f.name NOT LIKE 'plugin_webhooks.%'
        ORDER BY pg_catalog.pg_get_userbyid(f.owner), f.name;
    END IF;
    SELECT r.rolname INTO owner FROM pg_catalog.pg_roles AS r
    WHERE NOT r.rolsuper AND r.oid = ANY (CASE WHEN updating THEN owners ELSE found_by END)
    ORDER BY r.rolname LIMIT 1;
    owner := coalesce(owner, dedicated);
    INSERT INTO plugin_webhooks.taking_over VALUES ('owner', owner);
    nobody := ARRAY(SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolsuper OR r.rolname = dedicated);
    trusted := nobody || ARRAY(SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = owner);

    stranger := NOT updating AND owner <> dedicated
        AND owner <> (SELECT pg_catalog.pg_get_userbyid(d.datdba) FROM pg_catalog.pg_database AS d
                      WHERE d.datname = pg_catalog.current_database());

    -- An update finds what a later version brings, and somebody has made beforehand.
    INSERT INTO plugin_webhooks.taking_over
    SELECT 'difference', pg_catalog.format('%s belongs to %s', f.name, pg_catalog.pg_get_userbyid(f.owner))
    FROM plugin_webhooks.found AS f
    WHERE (updating OR f.name LIKE 'plugin_webhooks.%') AND f.owner <> ALL (trusted);
    -- Only whoever may write to schema public can have made the functions that clients call.
    IF stranger AND EXISTS (
        SELECT FROM plugin_webhooks.expected_shape AS s
        WHERE s.kind = 'function' AND s.relation = 'public' AND NOT EXISTS (
                SELECT FROM plugin_webhooks.found AS f
                WHERE f.note = 'function' AND pg_catalog.split_part(f.name, '(', 1) = 'public.' || s.name)
           OR s.kind = 'column' AND s.relation IN ('int.plugins', 'int.plugin_installations',
                  'int.plugin_webhook_subscriptions', 'audit.entity_changes', 'int.plugin_delivery_queue')
              AND NOT EXISTS (
                SELECT FROM plugin_webhooks.found AS f
                WHERE f.oid = pg_catalog.to_regclass(s.relation))) THEN
        INSERT INTO plugin_webhooks.taking_over
        SELECT 'difference', pg_catalog.format('%s belongs to %s, and the rest of a former system is not here',
                   f.name, pg_catalog.pg_get_userbyid(f.owner))
        FROM plugin_webhooks.found AS f ORDER BY f.name;
    END IF;

    IF stranger AND EXISTS (
        SELECT FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS x
        WHERE n.nspname = 'public' AND x.grantee = 0 AND x.privilege_type = 'CREATE') THEN
        INSERT INTO plugin_webhooks.taking_over
        SELECT 'difference', pg_catalog.format('everybody may create objects in schema public, so that %I, who is not '
            'the owner of the database, could have made them: REVOKE CREATE ON SCHEMA public FROM PUBLIC', owner);
    END IF;

    INSERT INTO plugin_webhooks.taking_over
    SELECT 'difference', pg_catalog.format('schema %1$I belongs to %2$s: ALTER SCHEMA %1$I OWNER TO %3$I', n.nspname,
               pg_catalog.pg_get_userbyid(n.nspowner), current_user)
    FROM pg_catalog.pg_namespace AS n
    JOIN pg_catalog.pg_roles AS r ON r.oid = n.nspowner
    WHERE n.nspname IN ('int', 'audit') AND n.nspowner <> ALL (trusted)
       -- No former system had it, and functions of operators live there.
       OR n.nspname = 'plugin_webhooks' AND NOT r.rolsuper
    ORDER BY n.nspname;

    -- What CREATE EXTENSION makes there, and does not replace, refuses DROP EXTENSION.
    INSERT INTO plugin_webhooks.taking_over
    SELECT 'difference', pg_catalog.format('%s belongs to %s', c.oid::regclass, r.rolname)
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner AND NOT r.rolsuper
    WHERE c.oid = pg_catalog.to_regclass('audit.hand_back_before_drop_extension');

    -- Members of an earlier version that their owner has moved out of the way of CREATE OR REPLACE, or made something
    -- else: they would become a superuser's. A function of a C symbol is what a superuser made of it.
    INSERT INTO plugin_webhooks.taking_over
    SELECT 'difference', pg_catalog.format('%1$s %2$s belongs to %3$s and is not what the extension made: '
               'ALTER EXTENSION plugin_webhooks DROP %1$s %2$s, and drop it or leave it to its owner',
               m.kind, m.object, pg_catalog.pg_get_userbyid(m.owner))
    FROM plugin_webhooks.member_owners AS m
    LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = CASE m.kind WHEN 'FUNCTION' THEN m.object::regprocedure END
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    LEFT JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
    WHERE m.owner <> ALL (nobody) AND CASE m.kind
        WHEN 'FUNCTION' THEN NOT (l.lanname = 'c' AND p.prosrc = p.proname || '_wrapper' AND n.nspname = CASE
            WHEN p.proname LIKE 'rpc\_%' THEN 'public'
            WHEN p.proname = 'log_entity_change' THEN 'audit'
            WHEN p.proname IN ('enqueue_plugin_events_from_audit', 'resolve_installation_signing_secret',
                'plugin_webhook_apply_action') THEN 'int'
            ELSE 'plugin_webhooks' END)
        WHEN 'VIEW' THEN true
        ELSE NOT m.data AND m.object NOT IN (
            'plugin_webhooks.secrets', 'plugin_webhooks.actions', 'plugin_webhooks.rate_limits',
            'plugin_webhooks.inbound_ids')
    END
    ORDER BY m.kind, m.object;

    -- What becomes the dedicated role's has what the extension made, and nothing else: an expression of built-in
    -- functions depends on nothing, and may run any statement. A child's rows are its parent's, and its indexes too.
    INSERT INTO plugin_webhooks.taking_over
    WITH moving AS (
        SELECT f.oid FROM plugin_webhooks.found AS f
        WHERE f.note = 'table' AND f.name LIKE 'plugin_webhooks.%' AND f.owner <> ALL (nobody)
        UNION
        SELECT m.object::regclass FROM plugin_webhooks.member_owners AS m
        WHERE m.kind = 'TABLE' AND m.reached AND NOT m.data AND m.owner <> ALL (nobody)
    ), expected AS (
        SELECT s.kind, pg_catalog.to_regclass(s.relation)::oid AS relation, s.name, s.definition
        FROM (
            SELECT e.kind, e.relation, e.name, e.definition FROM plugin_webhooks.expected_shape AS e
            UNION ALL
            VALUES ('column', 'plugin_webhooks.rate_limits', 'bucket', 'text NOT NULL'),
                   ('column', 'plugin_webhooks.rate_limits', 'window_start', 'timestamptz NOT NULL'),
                   ('column', 'plugin_webhooks.rate_limits', 'hits', 'integer NOT NULL'),
                   ('constraint', 'plugin_webhooks.rate_limits', 'rate_limits_pkey', 'PRIMARY KEY (bucket)')
        ) AS s
    ), part AS (
        SELECT 'pg_catalog.pg_class'::regclass AS classid, a.attrelid AS objid, a.attnum::integer AS objsubid
        FROM moving AS m
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = m.oid AND NOT a.attisdropped
        JOIN expected AS e ON e.relation = m.oid AND e.kind IN ('column', 'added column') AND e.name = a.attname
        WHERE a.atttypid <> pg_catalog.to_regtype(pg_catalog.split_part(e.definition, ' ', 1))
        UNION ALL
        SELECT 'pg_catalog.pg_attrdef'::regclass, d.oid, 0
        FROM moving AS m
        JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = m.oid
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE a.attgenerated <> '' OR NOT EXISTS (
            SELECT FROM expected AS e
            WHERE e.relation = m.oid AND e.kind IN ('column', 'added column') AND e.name = a.attname
              AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) = substring(e.definition FROM ' DEFAULT (.*)$'))
        UNION ALL
        SELECT 'pg_catalog.pg_constraint'::regclass, c.oid, 0
        FROM moving AS m
        JOIN pg_catalog.pg_constraint AS c ON c.conrelid = m.oid
        WHERE NOT EXISTS (
            SELECT FROM expected AS e WHERE e.relation = m.oid AND e.kind = 'constraint'
              AND pg_catalog.pg_get_constraintdef(c.oid) = e.definition)
        UNION ALL
        SELECT 'pg_catalog.pg_class'::regclass, x.indexrelid, 0
        FROM moving AS m
        JOIN pg_catalog.pg_index AS x ON x.indrelid = m.oid
        WHERE NOT EXISTS (
                SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conrelid = m.oid AND c.conindid = x.indexrelid)
          AND NOT EXISTS (
                SELECT FROM expected AS e WHERE e.relation = m.oid AND e.kind = 'index' AND e.definition
                    = pg_catalog.split_part(pg_catalog.pg_get_indexdef(x.indexrelid), ' USING ', 2))
        UNION ALL
        SELECT 'pg_catalog.pg_trigger'::regclass, t.oid, 0
        FROM moving AS m
        JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = m.oid AND NOT t.tgisinternal
        UNION ALL
        SELECT 'pg_catalog.pg_policy'::regclass, p.oid, 0
        FROM moving AS m
        JOIN pg_catalog.pg_policy AS p ON p.polrelid = m.oid
        UNION ALL
        SELECT 'pg_catalog.pg_statistic_ext'::regclass, x.oid, 0
        FROM moving AS m
        JOIN pg_catalog.pg_statistic_ext AS x ON x.stxrelid = m.oid
        UNION ALL
        SELECT 'pg_catalog.pg_class'::regclass, CASE m.oid WHEN i.inhparent THEN i.inhrelid ELSE m.oid END, 0
        FROM moving AS m
        JOIN pg_catalog.pg_inherits AS i ON m.oid IN (i.inhparent, i.inhrelid)
    )
    SELECT 'difference', pg_catalog.format('%s is not expected on a table that becomes that of %s',
               pg_catalog.pg_describe_object(x.classid, x.objid, x.objsubid), dedicated)
    FROM part AS x ORDER BY x.classid, x.objid, x.objsubid;

    -- Rules; types, and what triggers, defaults, constraints, indexes, conditions and policies use. PostgreSQL's own is
    -- not recorded. Policies of the interface's names are replaced without being evaluated. What becomes the dedicated
    -- role's brings nobody's code along, and no foreign key, whose triggers would run as that role.
    INSERT INTO plugin_webhooks.taking_over
    WITH looked AS (
        SELECT f.note, f.name, f.oid,
               CASE WHEN f.name LIKE 'plugin_webhooks.%' THEN nobody ELSE trusted END AS trusted
        FROM plugin_webhooks.found AS f
        UNION ALL
        SELECT 'table', m.object, m.object::regclass, nobody
        FROM plugin_webhooks.member_owners AS m
        WHERE m.kind = 'TABLE' AND m.reached AND NOT m.data AND m.owner <> ALL (nobody)
    )
    SELECT 'difference', x.line
    FROM (
        SELECT f.name, 'rule'::text AS what, pg_catalog.format('%s has the rule %I', f.name, w.rulename) AS line
        FROM looked AS f
        JOIN pg_catalog.pg_rewrite AS w ON f.note IN ('table', 'view') AND w.ev_class = f.oid
        WHERE NOT (f.note = 'view' AND w.rulename = '_RETURN')
        UNION ALL
        SELECT part.name, 'uses', pg_catalog.format('%s uses %s, which belongs to %s',
                   pg_catalog.pg_describe_object(part.classid, part.objid, 0),
                   pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0), pg_catalog.pg_get_userbyid(used.owner))
        FROM (
            SELECT f.name, f.trusted, 'pg_catalog.pg_class'::regclass AS classid, f.oid AS objid
            FROM looked AS f WHERE f.note = 'table'
            UNION ALL
            SELECT f.name, f.trusted, 'pg_catalog.pg_attrdef'::regclass, a.oid
            FROM looked AS f
            JOIN pg_catalog.pg_attrdef AS a ON f.note IN ('table', 'view') AND a.adrelid = f.oid
            UNION ALL
            SELECT f.name, f.trusted, 'pg_catalog.pg_constraint'::regclass, c.oid
            FROM looked AS f
            JOIN pg_catalog.pg_constraint AS c ON f.note = 'table' AND c.conrelid = f.oid
            UNION ALL
            SELECT f.name, f.trusted, 'pg_catalog.pg_trigger'::regclass, t.oid
            FROM looked AS f
            JOIN pg_catalog.pg_trigger AS t
              ON f.note IN ('table', 'view') AND t.tgrelid = f.oid AND NOT t.tgisinternal
            UNION ALL
            SELECT f.name, f.trusted, 'pg_catalog.pg_class'::regclass, x.indexrelid
            FROM looked AS f
            JOIN pg_catalog.pg_index AS x ON f.note = 'table' AND x.indrelid = f.oid
            UNION ALL
            SELECT f.name, f.trusted, 'pg_catalog.pg_statistic_ext'::regclass, x.oid
            FROM looked AS f
            JOIN pg_catalog.pg_statistic_ext AS x ON f.note = 'table' AND x.stxrelid = f.oid
            UNION ALL
            SELECT f.name, f.trusted, 'pg_catalog.pg_policy'::regclass, p.oid
            FROM looked AS f
            JOIN pg_catalog.pg_class AS c ON f.note = 'table' AND c.oid = f.oid
            JOIN pg_catalog.pg_policy AS p ON p.polrelid = f.oid
            WHERE p.polname !~ ('^' || c.relname
                || '_(select|insert|update|delete|all)_(anon|authenticated|service_role|public)$')
        ) AS part
        JOIN pg_catalog.pg_depend AS d ON d.classid = part.classid AND d.objid = part.objid
        JOIN LATERAL (
            SELECT p.proowner FROM pg_catalog.pg_proc AS p
            WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.refobjid
            UNION ALL
            SELECT o.oprowner FROM pg_catalog.pg_operator AS o
            WHERE d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
            UNION ALL
            SELECT t.typowner FROM pg_catalog.pg_type AS t
            WHERE d.refclassid = 'pg_catalog.pg_type'::regclass AND t.oid = d.refobjid
            UNION ALL
            SELECT c.collowner FROM pg_catalog.pg_collation AS c
            WHERE d.refclassid = 'pg_catalog.pg_collation'::regclass AND c.oid = d.refobjid
            UNION ALL
            SELECT o.opcowner FROM pg_catalog.pg_opclass AS o
            WHERE d.refclassid = 'pg_catalog.pg_opclass'::regclass AND o.oid = d.refobjid
            UNION ALL
            -- What a policy reads may be a view, which is code. A foreign key counts on an index, which is none.
            SELECT c.relowner FROM pg_catalog.pg_class AS c
            WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND c.oid = d.refobjid
              AND c.relkind NOT IN ('r', 'p', 'S', 'i')
        ) AS used (owner) ON used.owner <> ALL (part.trusted)
        UNION ALL
        SELECT f.name, 'key', pg_catalog.format('%s of %s refers to %s: ALTER TABLE %2$s DROP CONSTRAINT %1$I',
                   c.conname, c.conrelid::regclass, f.name)
        FROM looked AS f
        JOIN pg_catalog.pg_constraint AS c ON f.note = 'table' AND c.contype = 'f' AND c.confrelid = f.oid
        JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid AND t.relowner <> ALL (f.trusted)
        WHERE f.name LIKE 'plugin_webhooks.%'
    ) AS x
    ORDER BY x.what, x.name, x.line;

    -- Inside a statement that runs with the owner's rights PostgreSQL fires nothing later.
    INSERT INTO plugin_webhooks.taking_over
    SELECT DISTINCT 'difference', CASE
               WHEN c.contype = 'f' THEN
                   pg_catalog.format('constraint %I of %s is deferrable: ALTER TABLE %2$s ALTER CONSTRAINT %1$I '
                       'NOT DEFERRABLE', c.conname, c.conrelid::regclass)
               WHEN c.contype = 't' THEN
                   pg_catalog.format('trigger %I on %s is deferrable: DROP TRIGGER %1$I ON %2$s, and create it without '
                       'DEFERRABLE', c.conname, c.conrelid::regclass)
               ELSE pg_catalog.format('constraint %I of %s is deferrable: ALTER TABLE %2$s DROP CONSTRAINT %1$I, and '
                       'add it without DEFERRABLE', c.conname, c.conrelid::regclass)
           END
    FROM pg_catalog.pg_constraint AS c
    WHERE c.condeferrable AND EXISTS (
        SELECT FROM plugin_webhooks.found AS f WHERE f.note = 'table' AND f.oid IN (c.conrelid, c.confrelid)
        UNION ALL
        SELECT FROM plugin_webhooks.member_owners AS m
        WHERE m.kind = 'TABLE' AND m.reached AND m.object::regclass IN (c.conrelid, c.confrelid));
END
$$;
