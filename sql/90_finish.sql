-- Last words of CREATE EXTENSION.
SELECT plugin_webhooks.wake_launcher();

DO $$
DECLARE
    scheduled boolean := false;
BEGIN
    IF pg_catalog.to_regclass('cron.job') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM cron.job WHERE command ILIKE ''%rpc_process_plugin_deliveries%'')'
            INTO scheduled;
    END IF;
    IF NOT scheduled THEN
        -- CREATE EXTENSION silences notices; this one is meant to be read.
        PERFORM pg_catalog.set_config('client_min_messages', 'notice', true);
        IF pg_catalog.to_regclass('cron.job') IS NOT NULL THEN
            RAISE NOTICE 'nothing schedules the delivery processor yet: SELECT plugin_webhooks.schedule_processor();';
        ELSE
            RAISE NOTICE 'nothing schedules the delivery processor yet: run "select public.rpc_process_plugin_deliveries(50)" each minute, with pg_cron or another scheduler';
        END IF;
        PERFORM pg_catalog.set_config('client_min_messages', 'warning', true);
    END IF;
END
$$;
