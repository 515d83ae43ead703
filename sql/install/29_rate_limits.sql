-- Counters of the rate limits. They stay here: no dump carries them.

CREATE UNLOGGED TABLE IF NOT EXISTS plugin_webhooks.rate_limits (
    bucket       text PRIMARY KEY,
    window_start timestamptz NOT NULL,
    hits         integer NOT NULL
);
COMMENT ON TABLE plugin_webhooks.rate_limits IS
    'Calls in the current minute, where the host brings no util.check_rate_limit or knows no user. Not worth a WAL '
    'record: lost in a crash. The worker deletes rows of minutes that are long over.';
ALTER TABLE plugin_webhooks.rate_limits ENABLE ROW LEVEL SECURITY;
