-- Last words of CREATE EXTENSION.
SELECT plugin_webhooks.wake_launcher();

DO $$
DECLARE
    scheduled boolean := false;
    silenced  boolean;
BEGIN
    IF pg_catalog.to_regclass('cron.job') IS NOT NULL THEN
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
        IF pg_catalog.to_regclass('cron.job') IS NOT NULL THEN
            RAISE NOTICE 'nothing schedules the delivery processor yet: SELECT plugin_webhooks.schedule_processor();';
        ELSE
            RAISE NOTICE 'nothing schedules the delivery processor yet: run "select public.rpc_process_plugin_deliveries(50)" each minute, with pg_cron or another scheduler';
        END IF;
        IF silenced THEN
            PERFORM pg_catalog.set_config('client_min_messages', 'warning', true);
        END IF;
    END IF;
END
$$;
