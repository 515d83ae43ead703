#!/usr/bin/env bash
# Sends one change through a database with plugin_webhooks to a receiver started here, and checks what arrives:
# registers a plugin, stores a secret, installs, subscribes, writes a row, waits, and takes it all away again.
#
#   PGDATABASE=mydb ./smoke.sh 'node receiver.js'
#
# Connects as psql does (PGHOST, PGPORT, PGUSER, PGDATABASE) and needs a superuser; plugin_webhooks.allowed_networks
# has to hold 127.0.0.1. SECRET chooses the signing secret, VERIFY the way to verify, TENANT an existing tenant of a
# host that has tenants. Prints `ok` and the delivery, and exits with 0; or says what is wrong, and exits with 1.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: smoke.sh 'command that starts a receiver'" >&2
    exit 2
fi
receiver=$1
plugin=smoke_$$_$RANDOM
tenant=${TENANT:-$(cat /proc/sys/kernel/random/uuid)}
secret=${SECRET:-whsec_$(head -c 24 /dev/urandom | base64)}
waits=30 # seconds
output=$(mktemp)
pid=

sql() {
    psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
        --set plugin="$plugin" --set tenant="$tenant" --set secret="$secret" "$@"
}

finish() {
    # Whatever happened before: nothing of this stays but the plugin's row, which is not active.
    if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi
    sql <<'SQL' >/dev/null 2>&1 || echo "smoke.sh: could not clean up plugin $plugin" >&2
SELECT public.rpc_uninstall_plugin(i.tenant_id, i.id)
FROM int.plugin_installations i JOIN int.plugins p ON p.id = i.plugin_id WHERE p.key = :'plugin';
SELECT public.rpc_register_plugin(:'plugin', 'Smoke test', p_is_active => false);
DROP TABLE IF EXISTS public.:"plugin";
SELECT plugin_webhooks.delete_secret(id) FROM plugin_webhooks.secret_names WHERE name = :'plugin';
SQL
    rm -f "$output"
}
trap finish EXIT

fail() {
    echo "smoke.sh: $*" >&2
    exit 1
}

# Waits until the receiver has printed a line with this text, and prints it.
line_with() {
    local end=$((SECONDS + waits))
    until grep --max-count=1 --fixed-strings -- "$1" "$output"; do
        if [ "$SECONDS" -ge "$end" ] || ! kill -0 "$pid" 2>/dev/null; then return 1; fi
        sleep 0.1
    done
}

WEBHOOK_SECRET=$secret PORT=0 $receiver >"$output" &
pid=$!
url=$(line_with '"listening"') || fail "the receiver does not listen"
url=$(sed -E 's/.*"(http[^"]*)".*/\1/' <<<"$url")

installation=$(sql --set url="$url" <<'SQL'
\o /dev/null
SELECT public.rpc_register_plugin(:'plugin', 'Smoke test');
SELECT plugin_webhooks.create_secret(:'secret', :'plugin', 'of a smoke test');
CREATE TABLE public.:"plugin" (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, title text);
SELECT audit.track(pg_catalog.format('public.%I', :'plugin')::regclass);
\o
SELECT public.rpc_install_plugin(:'tenant', :'plugin', :'plugin',
    pg_catalog.jsonb_build_object('webhook_url', :'url'));
SQL
)
sql --set installation="$installation" <<'SQL' >/dev/null
SELECT public.rpc_upsert_plugin_webhook_subscription(
    :'tenant', :'installation', 'public', :'plugin', '{INSERT}', p_include_payload => true);
INSERT INTO public.:"plugin" VALUES (1, :'tenant', 'smoke');
SQL

# With a worker that runs, the row is on its way since the commit; without one, this sends it.
sql --command 'SELECT public.rpc_process_plugin_deliveries()' >/dev/null
if ! arrived=$(line_with "\"$installation\""); then
    sql --set installation="$installation" <<'SQL' >&2
SELECT 'status ' || status || ', ' || coalesce(last_error, 'no error') FROM int.plugin_delivery_queue
WHERE plugin_installation_id = :'installation';
SQL
    fail "nothing arrived within $waits s"
fi
for expected in '"title": *"smoke"' '"operation": *"INSERT"' "\"plugin_key\": *\"$plugin\""; do
    grep --quiet --extended-regexp "$expected" <<<"$arrived" || fail "not what was sent: $arrived"
done
end=$((SECONDS + waits))
until [ "$(sql --set installation="$installation" <<<"SELECT status FROM int.plugin_delivery_queue
    WHERE plugin_installation_id = :'installation'")" = delivered ]; do
    [ "$SECONDS" -lt "$end" ] || fail "it arrived, but is not delivered"
    sleep 0.1
done
echo "ok $arrived"
