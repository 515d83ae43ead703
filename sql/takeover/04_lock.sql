-- Before anything is looked at or changed: every lock that this script, or the way back, will need later, each as
-- strong as it will have to be. Who takes a stronger one in the middle waits for transactions that wait for him.

CREATE OR REPLACE FUNCTION plugin_webhooks.lock_relation(relation oid, mode text) RETURNS void
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'lock_relation_wrapper';
COMMENT ON FUNCTION plugin_webhooks.lock_relation(oid, text) IS
    'Locks a table or a view, and no table below it, until the end of the transaction. mode: SHARE ROW EXCLUSIVE or '
    'ACCESS EXCLUSIVE. While it waits it looks for deadlocks often enough to be the one that ends with 40P01. Called '
    'by lock_for(). Executable by the owner only.';

-- Applications write in a fixed order: auth.users, app.tenants, their own tables, audit.entity_changes, the queue.
-- What they only read on the way (plugins, installations, subscriptions) is locked against writers first, and
-- against readers last. The views come before everything, so that who reads them, and writes then, is stopped at
-- the door; where that is a deadlock, because somebody writes first, they come last.
CREATE OR REPLACE FUNCTION plugin_webhooks.lock_for(purpose text, lock_timeout interval) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET lock_timeout = 0 SET log_lock_waits = off
    AS $$
DECLARE
    patience CONSTANT interval := coalesce(nullif(lock_timeout, interval '0'), interval '1 minute');
    give_up  CONSTANT timestamptz := pg_catalog.clock_timestamp() + patience;
    step_out timestamptz;
    in_line  interval := interval '1 second';
    views_at integer := 1;
    wanted   record;
    object   text;
    locked   oid;
    how      text;
    failed   text;
    holders  text;
BEGIN
    LOOP
        step_out := least(pg_catalog.clock_timestamp() + in_line, give_up);
        BEGIN
            object := 'the schemas int, audit, plugin_webhooks';
            locked := NULL;
            PERFORM pg_catalog.set_config('lock_timeout',
                greatest(1, extract(epoch FROM step_out - pg_catalog.clock_timestamp()) * 1000)::integer::text, true);
            PERFORM FROM pg_catalog.pg_extension AS e WHERE e.extname = 'plugin_webhooks' FOR UPDATE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'extension "plugin_webhooks" does not exist'
                    USING ERRCODE = 'undefined_object', HINT = 'Another session was faster.';
            END IF;
            PERFORM FROM pg_catalog.pg_namespace AS n
            WHERE n.nspname IN ('public', 'int', 'audit', 'plugin_webhooks') ORDER BY n.nspname FOR UPDATE;
            FOR wanted IN
                WITH extension AS (
                    SELECT e.oid FROM pg_catalog.pg_extension AS e WHERE e.extname = 'plugin_webhooks'
                ), own AS (
                    -- What is the extension's, and what a take-over makes so.
                    SELECT n.position, n.name, pg_catalog.to_regclass(n.name)::oid AS oid
                    FROM (VALUES
                        (1, 'int.plugins'::text), (2, 'int.plugin_installations'),
                        (3, 'int.plugin_webhook_subscriptions'), (4, 'audit.entity_changes'),
                        (5, 'int.plugin_delivery_queue'), (6, 'int.plugin_delivery_attempts'),
                        (7, 'plugin_webhooks.secrets'), (8, 'plugin_webhooks.actions'),
                        (9, 'plugin_webhooks.inbound_ids')
                    ) AS n (position, name)
                ), member AS (
                    SELECT d.objid AS oid FROM pg_catalog.pg_depend AS d JOIN extension AS e ON e.oid = d.refobjid
                    WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass
                      AND d.refclassid = 'pg_catalog.pg_extension'::regclass
                    UNION SELECT o.oid FROM own AS o
                ), host AS (
                    SELECT h.oid, CASE h.oid WHEN pg_catalog.to_regclass('auth.users') THEN 1
                                             WHEN pg_catalog.to_regclass('app.tenants') THEN 2 ELSE 3 END AS position
                    FROM (
                        SELECT t.tgrelid AS oid FROM pg_catalog.pg_trigger AS t
                        WHERE t.tgfoid = pg_catalog.to_regprocedure('plugin_webhooks.follow_host()')
                           -- Tables that get row triggers again.
                           OR purpose = 'hand_back' AND t.tgtype & 1 = 0
                           AND t.tgfoid = pg_catalog.to_regprocedure('audit.log_entity_change()')
                        UNION
                        SELECT c.confrelid FROM pg_catalog.pg_constraint AS c
                        WHERE purpose <> 'hand_back' AND c.contype = 'f'
                          AND c.conrelid IN (SELECT m.oid FROM member AS m)
                        UNION
                        SELECT pg_catalog.to_regclass(n.name)::oid
                        FROM (VALUES ('auth.users'::text), ('app.tenants')) AS n (name) WHERE purpose <> 'hand_back'
                    ) AS h
                    WHERE h.oid NOT IN (SELECT m.oid FROM member AS m WHERE m.oid IS NOT NULL)
                ), lock AS (
                    SELECT views_at AS step, v.position, pg_catalog.to_regclass(v.name)::oid AS oid,
                           'ACCESS EXCLUSIVE'::text AS mode
                    FROM (VALUES
                        (1, 'public.v_plugins'::text), (2, 'public.v_plugin_installations'),
                        (3, 'public.v_plugin_webhook_subscriptions'), (4, 'public.v_plugin_delivery_queue_recent'),
                        (5, 'public.v_plugin_delivery_attempts'), (6, 'public.v_audit_entity_changes')
                    ) AS v (position, name)
                    WHERE purpose <> 'attach_host'
                    UNION ALL
                    SELECT 2, h.position, h.oid,
                           CASE WHEN purpose = 'hand_back' AND h.position > 1 THEN 'ACCESS EXCLUSIVE'
                                ELSE 'SHARE ROW EXCLUSIVE' END
                    FROM host AS h
                    UNION ALL
                    -- Each row of the audit log refers to a user.
                    SELECT CASE views_at WHEN 1 THEN 4 ELSE 2 END, 0, h.oid, 'ACCESS EXCLUSIVE'
                    FROM host AS h WHERE purpose = 'hand_back' AND h.position = 1
                    UNION ALL
                    SELECT 3, o.position, o.oid,
                           CASE WHEN o.position <= 3 THEN 'SHARE ROW EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END
                    FROM own AS o WHERE o.position <= 5 AND purpose <> 'attach_host'
                    UNION ALL
                    SELECT 4, o.position, o.oid, 'ACCESS EXCLUSIVE' FROM own AS o WHERE purpose <> 'attach_host'
                    UNION ALL
                    -- The worker reads in instance that it is over; a lock would have it wait, and then fail.
                    SELECT 5, 0, m.oid, 'ACCESS EXCLUSIVE' FROM member AS m
                    WHERE purpose <> 'attach_host' AND (purpose <> 'hand_back'
                          OR m.oid IS DISTINCT FROM pg_catalog.to_regclass('plugin_webhooks.instance'))
                )
                SELECT l.oid, l.mode, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
                FROM lock AS l
                JOIN pg_catalog.pg_class AS c ON c.oid = l.oid AND c.relkind IN ('r', 'p', 'v')
                JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                ORDER BY l.step, l.position, l.oid
            LOOP
                object := wanted.name;
                locked := wanted.oid;
                how := wanted.mode;
                PERFORM pg_catalog.set_config('lock_timeout',
                    greatest(1, extract(epoch FROM step_out - pg_catalog.clock_timestamp()) * 1000)::integer::text,
                    true);
                PERFORM plugin_webhooks.lock_relation(wanted.oid, wanted.mode);
                IF pg_catalog.to_regclass(wanted.name) IS DISTINCT FROM wanted.oid THEN
                    RAISE EXCEPTION '% was renamed or dropped', wanted.name USING ERRCODE = 'lock_not_available';
                END IF;
            END LOOP;
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            -- What was locked is free again.
            failed := SQLSTATE;
        END;
        IF pg_catalog.clock_timestamp() >= give_up THEN
            SELECT pg_catalog.string_agg(
                       coalesce(
                           pg_catalog.format('Process %s (application_name %s, role %s, %s since %s)', l.pid,
                               pg_catalog.quote_literal(coalesce(a.application_name, '')), coalesce(a.usename, '?'),
                               coalesce(a.state, a.backend_type, 'state not shown'),
                               coalesce(a.state_change, a.backend_start)),
                           pg_catalog.format('The prepared transaction %s, since %s', p.gid, p.prepared),
                           'A prepared transaction')
                       || pg_catalog.format(' holds %s on %s%s', l.mode, object,
                           '. Its query: ' || pg_catalog.left(nullif(a.query, ''), 100)), E'\n'
                       ORDER BY a.xact_start, l.pid)
            INTO holders
            FROM pg_catalog.pg_locks AS l
            LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
            LEFT JOIN pg_catalog.pg_prepared_xacts AS p
              ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction::text
            WHERE l.locktype = 'relation' AND l.relation = locked AND l.granted
              AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                                WHERE d.datname = pg_catalog.current_database())
              AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
              AND (how = 'ACCESS EXCLUSIVE' OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'));
            RAISE EXCEPTION 'could not lock % within % s', object,
                    pg_catalog.round(extract(epoch FROM patience), 1)
                USING ERRCODE = 'lock_not_available',
                      DETAIL = coalesce(holders, 'Who was in the way is gone.'),
                      HINT = 'Nothing was changed. End that transaction, or set lock_timeout to wait longer, and run '
                             'the statement again.';
        END IF;
        IF failed = '55P03' THEN
            -- Whoever queued behind us goes ahead, then we wait for longer.
            PERFORM pg_catalog.pg_sleep(0.1);
            in_line := in_line * 2;
        ELSE
            -- Somebody locks in another order: next time the other way round.
            views_at := 7 - views_at;
            PERFORM pg_catalog.pg_sleep(0.01 + 0.05 * pg_catalog.random());
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.lock_for(text, interval) IS
    'Locks what CREATE EXTENSION, hand_back or attach_host (purpose) is about to change, before it changes anything, '
    'in the order in which applications write. Waits in line for a second; then, or where that would be a deadlock, '
    'lets everybody pass, and waits for longer. Raises 55P03, and names who is in the way, when lock_timeout (0: a '
    'minute) has passed. Executable by the owner only.';

SELECT plugin_webhooks.lock_for('install', pg_catalog.current_setting('lock_timeout')::interval);
