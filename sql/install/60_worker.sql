-- The worker, for those who look after it.

CREATE OR REPLACE FUNCTION plugin_webhooks.worker_pid() RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    -- The numbers of the singleton lock in src/worker/lock.rs: a test compares them.
    SELECT l.pid FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.objsubid = 7 AND l.classid = 1886873719 AND l.granted
      AND l.mode = 'ExclusiveLock'
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                        WHERE d.datname = pg_catalog.current_database())
    LIMIT 1
$$;
COMMENT ON FUNCTION plugin_webhooks.worker_pid() IS 'Process id of the worker that delivers this database, or null.';

CREATE OR REPLACE FUNCTION plugin_webhooks.queue_state()
    RETURNS TABLE (pending bigint, due bigint, sending bigint, dead_last_hour bigint, oldest_due_at timestamptz)
    LANGUAGE c STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'queue_state_wrapper';
COMMENT ON FUNCTION plugin_webhooks.queue_state() IS
    'Counts the queue for plugin_webhooks.health, as the owner of the queue: to plan a query of a table is enough to '
    'run code that its owner attached to it. Executable by the owner only.';

CREATE OR REPLACE VIEW plugin_webhooks.health WITH (security_invoker = true) AS
SELECT w.pid AS worker_pid,
       a.state AS worker_state,
       -- PostgreSQL goes on showing what an idle worker did last.
       CASE WHEN a.state <> 'idle' THEN a.query
            WHEN i.paused_because IS NULL THEN 'waiting' ELSE 'paused' END AS worker_activity,
       a.backend_start AS worker_started_at,
       q.pending, q.due, q.sending, q.dead_last_hour, q.oldest_due_at,
       CASE WHEN pg_catalog.isfinite(q.oldest_due_at) THEN pg_catalog.now() - q.oldest_due_at END AS oldest_due_age,
       i.paused_because,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby: its primary delivers'
            WHEN i.paused_because IS NULL THEN 'active'
            ELSE 'paused copy: SELECT plugin_webhooks.resume() if it is to deliver' END AS instance
FROM (SELECT plugin_webhooks.worker_pid() AS pid) AS w
CROSS JOIN (SELECT plugin_webhooks.paused_because() AS paused_because) AS i
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = w.pid
CROSS JOIN plugin_webhooks.queue_state() AS q;
COMMENT ON VIEW plugin_webhooks.health IS
    'One row: the worker of this database and the state of its queue. Counts the whole queue: meant for people and '
    'for checks once a minute.';

CREATE OR REPLACE FUNCTION plugin_webhooks.wake_launcher() RETURNS void
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'wake_launcher_wrapper';
COMMENT ON FUNCTION plugin_webhooks.wake_launcher() IS
    'At commit, lets the launcher look for databases to serve. Called by CREATE EXTENSION; harmless at any time. '
    'Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.schedule_processor(schedule text DEFAULT '* * * * *') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    job_id bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM plugin_webhooks.host_objects AS h
                   WHERE h.object = 'cron.schedule(text,text,text)' AND h.status = 'bound') THEN
        RAISE EXCEPTION 'pg_cron is not installed in database %', pg_catalog.current_database()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'CREATE EXTENSION pg_cron here, or use cron.schedule_in_database '
                         'from the database that has it.';
    END IF;
    EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job_id
        USING 'plugin_webhook_process'::text, schedule,
              'select public.rpc_process_plugin_deliveries(50)'::text;
    RETURN job_id;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.schedule_processor(text) IS
    'Schedules rpc_process_plugin_deliveries(50) in pg_cron under the name plugin_webhook_process and returns the '
    'job''s id; calling it again changes the schedule. The job runs as the caller. schedule: a pg_cron expression, '
    'default each minute. Raises 0A000 where pg_cron is not installed.';
