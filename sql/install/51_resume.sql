-- Whether this database sends: only where its data is active, never from a copy.

CREATE OR REPLACE FUNCTION plugin_webhooks.paused_because() RETURNS text
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'paused_because_wrapper';
COMMENT ON FUNCTION plugin_webhooks.paused_because() IS
    'Why nothing is sent from here: this is a copy, the active instance is elsewhere. Null when deliveries go out. '
    'Executable by the owner only.';

CREATE OR REPLACE FUNCTION plugin_webhooks.resume() RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION plugin_webhooks.resume() IS
    'Makes this database the active instance of its data: what waits is sent from here from now on. Call it after a '
    'restore that replaces the original, after pg_upgrade, and after a change of plugin_webhooks.site. Executable by '
    'the owner only.';
