-- What an operator calls. Executable by the extension's owner and superusers, and by whom they grant it to.

CREATE OR REPLACE FUNCTION plugin_webhooks.create_secret(
    new_secret text, new_name text, new_description text DEFAULT ''
) RETURNS uuid
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'create_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.create_secret(text, text, text) IS
    'Stores a secret under a unique name in the embedded store and returns its id. Creates the key file when there is neither key nor secret yet. Raises 23514 (null or blank), 23505 (name taken), 55000 (key file missing, unreadable, of wrong form or open to other users).';

CREATE OR REPLACE FUNCTION plugin_webhooks.update_secret(
    secret_id uuid, new_secret text DEFAULT NULL, new_name text DEFAULT NULL, new_description text DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'update_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.update_secret(uuid, text, text, text) IS
    'Changes a secret, its name or its description; null keeps the old value. Raises P0001 (unknown id), 23514 (blank), 23505 (name taken), 55000 (key file).';

CREATE OR REPLACE FUNCTION plugin_webhooks.delete_secret(secret_id uuid) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'delete_secret_wrapper';
COMMENT ON FUNCTION plugin_webhooks.delete_secret(uuid) IS
    'Deletes a secret. Raises P0001 (unknown id), 23514 (null).';

CREATE OR REPLACE VIEW plugin_webhooks.secret_names WITH (security_invoker = true) AS
SELECT s.id, s.name, s.description, s.key_id, s.created_at, s.updated_at
FROM plugin_webhooks.secrets AS s;
COMMENT ON VIEW plugin_webhooks.secret_names IS 'The embedded secrets without their values.';

CREATE OR REPLACE FUNCTION plugin_webhooks.register_action(action text, handler regprocedure) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'register_action_wrapper';
COMMENT ON FUNCTION plugin_webhooks.register_action(text, regprocedure) IS
    'Adds an inbound action, or changes its handler: a function (tenant uuid, data jsonb) returns jsonb, run with its owner''s rights. Raises 23514 (null, malformed name), 42P13 (handler of another shape), 42710 (built-in name).';

CREATE OR REPLACE FUNCTION plugin_webhooks.unregister_action(action text) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'unregister_action_wrapper';
COMMENT ON FUNCTION plugin_webhooks.unregister_action(text) IS
    'Removes an inbound action. Raises P0001 (not registered), 42710 (built in), 23514 (null).';

CREATE OR REPLACE VIEW plugin_webhooks.inbound_actions WITH (security_invoker = true) AS
SELECT 'noop'::text AS action, NULL::text AS handler, true AS built_in
UNION ALL SELECT 'work_order.create', NULL, true
UNION ALL SELECT a.action,
                 pg_catalog.format('%I.%I(uuid,jsonb)', a.handler_schema, a.handler_name), false
          FROM plugin_webhooks.actions AS a;
COMMENT ON VIEW plugin_webhooks.inbound_actions IS 'The allowlist of inbound actions.';

CREATE OR REPLACE FUNCTION int.resolve_installation_signing_secret(p_installation_id uuid) RETURNS text
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'resolve_installation_signing_secret_wrapper';
COMMENT ON FUNCTION int.resolve_installation_signing_secret(uuid) IS
    'The plaintext of an installation''s signing secret, or null. Executable by the owner only; kept for databases whose own code calls it.';

CREATE OR REPLACE FUNCTION int.plugin_webhook_apply_action(p_tenant_id uuid, p_action text, p_data jsonb) RETURNS jsonb
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'plugin_webhook_apply_action_wrapper';
COMMENT ON FUNCTION int.plugin_webhook_apply_action(uuid, text, jsonb) IS
    'Runs one inbound action for a tenant without a signature. Executable by the owner only. Raises 22023 (unknown action) and what the action raises.';

CREATE OR REPLACE FUNCTION plugin_webhooks.worker_pid() RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT l.pid FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.objsubid = 7 AND l.classid = 1886873719 AND l.granted
      AND l.mode = 'ExclusiveLock'
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                        WHERE d.datname = pg_catalog.current_database())
    LIMIT 1
$$;
COMMENT ON FUNCTION plugin_webhooks.worker_pid() IS 'Process id of the worker that delivers this database, or null.';

CREATE OR REPLACE VIEW plugin_webhooks.health WITH (security_invoker = true) AS
SELECT w.pid AS worker_pid,
       a.state AS worker_state,
       a.query AS worker_activity,
       a.backend_start AS worker_started_at,
       q.pending, q.due, q.sending, q.dead_last_hour, q.oldest_due_at,
       CASE WHEN pg_catalog.isfinite(q.oldest_due_at) THEN pg_catalog.now() - q.oldest_due_at END AS oldest_due_age,
       plugin_webhooks.paused_because() AS paused_because
FROM (SELECT plugin_webhooks.worker_pid() AS pid) AS w
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = w.pid
CROSS JOIN (
    SELECT pg_catalog.count(*) FILTER (WHERE d.status = 'pending') AS pending,
           pg_catalog.count(*) FILTER (WHERE d.status = 'pending' AND d.next_attempt_at <= pg_catalog.now()) AS due,
           pg_catalog.count(*) FILTER (WHERE d.status = 'sending') AS sending,
           pg_catalog.count(*) FILTER (WHERE d.status = 'dead' AND d.updated_at > pg_catalog.now() - interval '1 hour') AS dead_last_hour,
           pg_catalog.min(d.next_attempt_at) FILTER (WHERE d.status = 'pending' AND d.next_attempt_at <= pg_catalog.now()) AS oldest_due_at
    FROM int.plugin_delivery_queue AS d
) AS q;
COMMENT ON VIEW plugin_webhooks.health IS 'One row: the worker of this database and the state of its queue. Counts the whole queue: meant for people and for checks once a minute.';

CREATE OR REPLACE FUNCTION plugin_webhooks.wake_launcher() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'wake_launcher_wrapper';
COMMENT ON FUNCTION plugin_webhooks.wake_launcher() IS
    'At commit, lets the launcher look for databases to serve. Called by CREATE EXTENSION; harmless at any time. Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.schedule_processor(schedule text DEFAULT '* * * * *') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    job_id bigint;
BEGIN
    IF pg_catalog.to_regprocedure('cron.schedule(text,text,text)') IS NULL THEN
        RAISE EXCEPTION 'pg_cron is not installed in database %', pg_catalog.current_database()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'CREATE EXTENSION pg_cron here, or use cron.schedule_in_database from the database that has it.';
    END IF;
    EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job_id
        USING 'plugin_webhook_process'::text, schedule,
              'select public.rpc_process_plugin_deliveries(50)'::text;
    RETURN job_id;
END
$$;
COMMENT ON FUNCTION plugin_webhooks.schedule_processor(text) IS
    'Schedules rpc_process_plugin_deliveries(50) in pg_cron under the name plugin_webhook_process and returns the job''s id; calling it again changes the schedule. The job runs as the caller. schedule: a pg_cron expression, default each minute. Raises 0A000 where pg_cron is not installed.';
