-- The end of CREATE EXTENSION.

-- Foreign keys to a host's tables, as the owner of ours. Where he may read both tables PostgreSQL compares them in one
-- query, which evaluates what hangs on the host's as him: so, for the moment, he may not read his own, and each row is
-- looked up as the owner of the host's table.
DO $$
DECLARE
    key record;
BEGIN
    FOR key IN
        SELECT c.conrelid::regclass AS child, c.conname AS name, pg_catalog.pg_get_userbyid(t.relowner) AS owner
        FROM pg_catalog.pg_constraint AS c
        JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid
        WHERE c.contype = 'f' AND NOT c.convalidated
          AND (c.conrelid, c.conname) IN (
              ('int.plugin_installations'::regclass, 'plugin_installations_tenant_id_fkey'),
              ('int.plugin_installations'::regclass, 'plugin_installations_installed_by_fkey'),
              ('int.plugin_delivery_queue'::regclass, 'plugin_delivery_queue_tenant_id_fkey'))
    LOOP
        PERFORM plugin_webhooks.grant_as_administrator(
            pg_catalog.format('REVOKE SELECT ON %s FROM %I', key.child, key.owner));
        -- Who may read it all the same, as a member of another role, keeps what checks new rows only.
        IF NOT pg_catalog.has_any_column_privilege(key.owner, key.child, 'SELECT') THEN
            PERFORM plugin_webhooks.as_owner_of(
                key.child, pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I', key.child, key.name));
        END IF;
        PERFORM plugin_webhooks.grant_as_administrator(
            pg_catalog.format('GRANT SELECT ON %s TO %I', key.child, key.owner));
    END LOOP;
END
$$;

-- Data that is here while the script runs is active here: it was taken over, or is being upgraded. A dump
-- brings its data later, and the place it comes from along.
DO $$
BEGIN
    PERFORM plugin_webhooks.settle_pg_net();
    IF NOT EXISTS (SELECT FROM plugin_webhooks.instance)
       AND plugin_webhooks.as_owner_of('int.plugins', 'SELECT 1::bigint FROM int.plugins LIMIT 1') IS NOT NULL THEN
        PERFORM plugin_webhooks.resume();
    END IF;
END
$$;

-- What the former owner says about an object stays, also over an update.
DO $$
DECLARE
    kept record;
BEGIN
    -- The same as the extension's, of tables that it gave back before: nothing of the owner's own.
    DELETE FROM plugin_webhooks.replaced AS r USING plugin_webhooks.found_comments AS o
    WHERE r.step = 11 AND r.object = o.name AND r.statement = o.statement AND o.statement <> o.removal;
    FOR kept IN SELECT r.statement FROM plugin_webhooks.replaced AS r
                WHERE r.step = 11 AND r.statement NOT LIKE '% IS NULL' LOOP
        EXECUTE kept.statement;
    END LOOP;
END
$$;

-- After a take-over: no DROP EXTENSION by surprise, and what the administrator should know.
DO $$
DECLARE
    refused text;
    extras  text;
BEGIN
    IF EXISTS (SELECT FROM plugin_webhooks.taking_over AS t WHERE t.note = 'table') THEN
        IF pg_catalog.to_regclass('audit.hand_back_before_drop_extension') IS NULL THEN
            CREATE VIEW audit.hand_back_before_drop_extension AS
                SELECT 'SELECT plugin_webhooks.hand_back()'::text AS statement FROM audit.entity_changes WHERE false;
            COMMENT ON VIEW audit.hand_back_before_drop_extension IS
                'Depends on the audit log and is no part of the extension, so that DROP EXTENSION plugin_webhooks '
                'refuses to delete what was here before. SELECT plugin_webhooks.hand_back() first.';
            ALTER EXTENSION plugin_webhooks DROP VIEW audit.hand_back_before_drop_extension;
        END IF;
        SELECT pg_catalog.string_agg(
                   CASE WHEN r.position <= 5
                       THEN pg_catalog.format('installation %s: %s', r.installation_id, r.reason) END, E'\n'
                   ORDER BY r.position)
               || CASE WHEN pg_catalog.count(*) > 5
                      THEN pg_catalog.format(E'\nand %s more', pg_catalog.count(*) - 5) ELSE '' END
        INTO refused
        FROM (
            SELECT f.installation_id, f.reason, pg_catalog.row_number() OVER (ORDER BY f.installation_id) AS position
            FROM plugin_webhooks.refused_installations() AS f
        ) AS r;
        IF refused IS NOT NULL THEN
            RAISE WARNING 'nothing can be sent to some of the installations that were taken over'
                USING DETAIL = refused,
                      HINT = 'List their networks in plugin_webhooks.allowed_networks, or have their configuration '
                             'changed: SELECT * FROM plugin_webhooks.refused_installations()';
        END IF;
        SELECT pg_catalog.string_agg(
                   pg_catalog.format('%s %s', k.number, CASE WHEN k.number = 1 THEN k.kind ELSE k.plural END), ', '
                   ORDER BY k.kind)
        INTO extras
        FROM (
            SELECT n.kind, CASE n.kind WHEN 'index' THEN 'indexes' WHEN 'policy' THEN 'policies' ELSE n.kind || 's' END
                       AS plural,
                   pg_catalog.count(*) AS number
            FROM plugin_webhooks.not_in_dumps AS n
            WHERE n.kind IN ('index', 'trigger', 'policy', 'constraint')
              -- Triggers on the host's tables stand for these.
              AND n.statement NOT LIKE '% FOREIGN KEY %'
            GROUP BY n.kind
        ) AS k;
        IF extras IS NOT NULL THEN
            RAISE WARNING 'pg_dump no longer carries what was added to the tables: %', extras
                USING HINT = 'SELECT statement FROM plugin_webhooks.not_in_dumps lists them, to keep with each dump.';
        END IF;
    END IF;
END
$$;
DROP VIEW plugin_webhooks.found_comments;
DROP VIEW plugin_webhooks.found;
DROP TABLE plugin_webhooks.taking_over;

SELECT plugin_webhooks.wake_launcher();

DO $$
DECLARE
    scheduled boolean := false;
    silenced  boolean;
    has_cron  CONSTANT boolean := EXISTS (
        SELECT FROM plugin_webhooks.host_objects AS h WHERE h.object = 'cron.job' AND h.status = 'bound');
BEGIN
    IF has_cron THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM cron.job WHERE command ILIKE ''%rpc_process_plugin_deliveries%'')'
            INTO scheduled;
    END IF;
    IF NOT scheduled THEN
        -- CREATE EXTENSION lowers the level to warning; this notice is meant to be read, though not by
        -- a session that wants errors only.
        silenced := pg_catalog.current_setting('client_min_messages') = 'warning';
        IF silenced THEN
            PERFORM pg_catalog.set_config('client_min_messages', 'notice', true);
        END IF;
        IF has_cron THEN
            RAISE NOTICE 'nothing schedules the delivery processor yet: SELECT plugin_webhooks.schedule_processor();';
        ELSE
            RAISE NOTICE USING MESSAGE = 'nothing schedules the delivery processor yet: '
                'run "select public.rpc_process_plugin_deliveries(50)" each minute, with pg_cron or another scheduler';
        END IF;
        IF silenced THEN
            PERFORM pg_catalog.set_config('client_min_messages', 'warning', true);
        END IF;
    END IF;
END
$$;
