-- Tables that were there before this script get the defaults, constraints and indexes of those that it creates.
-- Where they have them already, nothing is locked for long and nothing is read.

ALTER TABLE int.plugins
    ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
    ALTER COLUMN key SET NOT NULL,
    ALTER COLUMN name SET NOT NULL,
    ALTER COLUMN description DROP NOT NULL,
    ALTER COLUMN is_integration SET DEFAULT false, ALTER COLUMN is_integration SET NOT NULL,
    ALTER COLUMN is_active SET DEFAULT true, ALTER COLUMN is_active SET NOT NULL,
    ALTER COLUMN created_at SET DEFAULT pg_catalog.now(), ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET DEFAULT pg_catalog.now(), ALTER COLUMN updated_at SET NOT NULL;
ALTER TABLE int.plugin_installations
    ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
    ALTER COLUMN tenant_id SET NOT NULL,
    ALTER COLUMN plugin_id SET NOT NULL,
    ALTER COLUMN status SET DEFAULT 'installed', ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN secret_ref DROP NOT NULL,
    ALTER COLUMN config DROP DEFAULT, ALTER COLUMN config DROP NOT NULL,
    ALTER COLUMN installed_by DROP DEFAULT, ALTER COLUMN installed_by DROP NOT NULL,
    ALTER COLUMN installed_at SET DEFAULT pg_catalog.now(), ALTER COLUMN installed_at SET NOT NULL,
    ALTER COLUMN updated_at SET DEFAULT pg_catalog.now(), ALTER COLUMN updated_at SET NOT NULL;
ALTER TABLE int.plugin_webhook_subscriptions
    ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
    ALTER COLUMN plugin_installation_id SET NOT NULL,
    ALTER COLUMN table_schema DROP DEFAULT, ALTER COLUMN table_schema SET NOT NULL,
    ALTER COLUMN table_name SET NOT NULL,
    ALTER COLUMN operations DROP DEFAULT, ALTER COLUMN operations SET NOT NULL,
    ALTER COLUMN changed_fields_allowlist DROP DEFAULT, ALTER COLUMN changed_fields_allowlist DROP NOT NULL,
    ALTER COLUMN include_payload SET DEFAULT false, ALTER COLUMN include_payload SET NOT NULL,
    ALTER COLUMN created_at SET DEFAULT pg_catalog.now(), ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET DEFAULT pg_catalog.now(), ALTER COLUMN updated_at SET NOT NULL;
ALTER TABLE audit.entity_changes
    ALTER COLUMN table_schema DROP DEFAULT, ALTER COLUMN table_schema SET NOT NULL,
    ALTER COLUMN table_name SET NOT NULL,
    ALTER COLUMN record_id SET NOT NULL,
    ALTER COLUMN operation SET NOT NULL,
    ALTER COLUMN old_data DROP NOT NULL,
    ALTER COLUMN new_data DROP NOT NULL,
    ALTER COLUMN changed_fields DROP NOT NULL,
    ALTER COLUMN user_id DROP DEFAULT, ALTER COLUMN user_id DROP NOT NULL,
    ALTER COLUMN tenant_id DROP DEFAULT, ALTER COLUMN tenant_id DROP NOT NULL,
    ALTER COLUMN ip_address DROP DEFAULT, ALTER COLUMN ip_address DROP NOT NULL,
    ALTER COLUMN user_agent DROP DEFAULT, ALTER COLUMN user_agent DROP NOT NULL,
    ALTER COLUMN created_at SET DEFAULT pg_catalog.now(), ALTER COLUMN created_at SET NOT NULL;
ALTER TABLE int.plugin_delivery_queue
    ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
    ALTER COLUMN tenant_id SET NOT NULL,
    ALTER COLUMN plugin_installation_id SET NOT NULL,
    ALTER COLUMN source_entity_change_id SET NOT NULL,
    ALTER COLUMN event_type SET NOT NULL,
    ALTER COLUMN payload DROP DEFAULT, ALTER COLUMN payload SET NOT NULL,
    ALTER COLUMN status SET DEFAULT 'pending', ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN attempts SET DEFAULT 0, ALTER COLUMN attempts SET NOT NULL,
    ALTER COLUMN next_attempt_at SET DEFAULT pg_catalog.now(), ALTER COLUMN next_attempt_at SET NOT NULL,
    ALTER COLUMN last_error DROP NOT NULL,
    ALTER COLUMN net_request_id DROP NOT NULL,
    ALTER COLUMN sent_at DROP DEFAULT, ALTER COLUMN sent_at DROP NOT NULL,
    ALTER COLUMN created_at SET DEFAULT pg_catalog.now(), ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET DEFAULT pg_catalog.now(), ALTER COLUMN updated_at SET NOT NULL;

-- Constraints and indexes: same meaning under another name is renamed, another meaning under the same
-- name is replaced, what is missing is added.
DO $$
DECLARE
    wanted record;
    same   record;
BEGIN
    FOR wanted IN
        SELECT w.relation::regclass AS relation, w.name, w.type, w.columns::text[] AS columns, w.definition FROM (VALUES
            ('int.plugins'::text, 'plugins_pkey'::text, 'p'::text, '{id}'::text, 'PRIMARY KEY (id)'::text),
            ('int.plugins', 'plugins_key_key', 'u', '{key}', 'UNIQUE (key)'),
            ('int.plugins', 'plugins_key_check', 'c', NULL,
             'CHECK (((key ~ ''^[a-z0-9_]+$''::text) AND ((length(key) >= 2) AND (length(key) <= 80))))'),
            ('int.plugin_installations', 'plugin_installations_pkey', 'p', '{id}', 'PRIMARY KEY (id)'),
            ('int.plugin_installations', 'plugin_installations_tenant_id_plugin_id_key', 'u', '{tenant_id,plugin_id}', 'UNIQUE (tenant_id, plugin_id)'),
            ('int.plugin_installations', 'plugin_installations_plugin_id_fkey', 'f', '{plugin_id}',
             'FOREIGN KEY (plugin_id) REFERENCES "int".plugins(id) ON DELETE CASCADE'),
            ('int.plugin_installations', 'plugin_installations_status_check', 'c', NULL,
             'CHECK ((status = ANY (ARRAY[''installed''::text, ''disabled''::text, ''uninstalled''::text])))'),
            ('int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_pkey', 'p', '{id}', 'PRIMARY KEY (id)'),
            ('int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_installation_table_key', 'u',
             '{plugin_installation_id,table_schema,table_name}', 'UNIQUE (plugin_installation_id, table_schema, table_name)'),
            ('int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_plugin_installation_id_fkey', 'f', '{plugin_installation_id}',
             'FOREIGN KEY (plugin_installation_id) REFERENCES "int".plugin_installations(id) ON DELETE CASCADE'),
            ('int.plugin_webhook_subscriptions', 'plugin_webhook_subscriptions_operations_check', 'c', NULL,
             'CHECK (((cardinality(operations) > 0) AND (operations <@ ARRAY[''INSERT''::text, ''UPDATE''::text, ''DELETE''::text])))'),
            ('audit.entity_changes', 'entity_changes_pkey', 'p', '{id}', 'PRIMARY KEY (id)'),
            ('audit.entity_changes', 'entity_changes_operation_check', 'c', NULL,
             'CHECK ((operation = ANY (ARRAY[''INSERT''::text, ''UPDATE''::text, ''DELETE''::text])))'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_pkey', 'p', '{id}', 'PRIMARY KEY (id)'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_installation_change_key', 'u',
             '{plugin_installation_id,source_entity_change_id}', 'UNIQUE (plugin_installation_id, source_entity_change_id)'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_plugin_installation_id_fkey', 'f', '{plugin_installation_id}',
             'FOREIGN KEY (plugin_installation_id) REFERENCES "int".plugin_installations(id) ON DELETE CASCADE'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_source_entity_change_id_fkey', 'f', '{source_entity_change_id}',
             'FOREIGN KEY (source_entity_change_id) REFERENCES audit.entity_changes(id) ON DELETE CASCADE'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_status_check', 'c', NULL,
             'CHECK ((status = ANY (ARRAY[''pending''::text, ''sending''::text, ''delivered''::text, ''failed''::text, ''dead''::text])))'),
            ('int.plugin_delivery_queue', 'plugin_delivery_queue_attempts_check', 'c', NULL, 'CHECK ((attempts >= 0))')
        ) AS w (relation, name, type, columns, definition)
    LOOP
        -- The closest one: of the same meaning, else of the same columns, else of the same name.
        SELECT c.conname, pg_catalog.pg_get_constraintdef(c.oid) = wanted.definition AS equal INTO same
        FROM pg_catalog.pg_constraint AS c
        WHERE c.conrelid = wanted.relation
          AND (pg_catalog.pg_get_constraintdef(c.oid) = wanted.definition
               OR c.conname = wanted.name
               OR c.contype IN ('p', 'u', 'f') AND c.contype = wanted.type::"char" AND wanted.columns = ARRAY(
                   SELECT a.attname::text FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k (number, position)
                   JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.position))
        ORDER BY c.conname = wanted.name AND pg_catalog.pg_get_constraintdef(c.oid) = wanted.definition DESC,
                 pg_catalog.pg_get_constraintdef(c.oid) = wanted.definition DESC
        LIMIT 1;
        IF NOT FOUND THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', wanted.relation, wanted.name, wanted.definition);
        ELSIF NOT same.equal THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s',
                wanted.relation, same.conname, wanted.name, wanted.definition);
        ELSIF same.conname <> wanted.name THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', wanted.relation, same.conname, wanted.name);
        END IF;
    END LOOP;

    FOR wanted IN
        SELECT w.schema_name, w.table_name, w.name, w.definition FROM (VALUES
            ('int'::text, 'plugin_installations'::text, 'plugin_installations_plugin_id_idx'::text, 'btree (plugin_id)'::text),
            ('audit', 'entity_changes', 'entity_changes_tenant_id_idx', 'btree (tenant_id, id)'),
            ('int', 'plugin_delivery_attempts', 'plugin_delivery_attempts_delivery_id_idx', 'btree (delivery_id)'),
            ('int', 'plugin_delivery_attempts', 'plugin_delivery_attempts_tenant_id_idx', 'btree (tenant_id, id)'),
            ('int', 'plugin_delivery_queue', 'plugin_delivery_queue_pending_idx',
             'btree (plugin_installation_id, next_attempt_at) WHERE (status = ''pending''::text)'),
            ('int', 'plugin_delivery_queue', 'plugin_delivery_queue_sending_idx',
             'btree (lease_expires_at) WHERE (status = ''sending''::text)'),
            ('int', 'plugin_delivery_queue', 'plugin_delivery_queue_tenant_id_idx', 'btree (tenant_id, created_at)'),
            ('int', 'plugin_delivery_queue', 'plugin_delivery_queue_source_entity_change_id_idx', 'btree (source_entity_change_id)')
        ) AS w (schema_name, table_name, name, definition)
    LOOP
        SELECT i.relname, pg_catalog.split_part(pg_catalog.pg_get_indexdef(i.oid), ' USING ', 2) = wanted.definition AS equal INTO same
        FROM pg_catalog.pg_class AS i
        JOIN pg_catalog.pg_index AS x ON x.indexrelid = i.oid AND x.indisvalid AND NOT x.indisunique
        JOIN pg_catalog.pg_class AS t ON t.oid = x.indrelid AND t.relname = wanted.table_name
        WHERE t.relnamespace = wanted.schema_name::regnamespace
          AND (i.relname = wanted.name
               OR pg_catalog.split_part(pg_catalog.pg_get_indexdef(i.oid), ' USING ', 2) = wanted.definition)
        ORDER BY i.relname = wanted.name DESC
        LIMIT 1;
        IF FOUND AND same.equal THEN
            IF same.relname <> wanted.name THEN
                EXECUTE pg_catalog.format('ALTER INDEX %I.%I RENAME TO %I', wanted.schema_name, same.relname, wanted.name);
            END IF;
            CONTINUE;
        END IF;
        IF FOUND THEN
            EXECUTE pg_catalog.format('ALTER INDEX %I.%I RENAME TO %I', wanted.schema_name, same.relname, same.relname || '_before');
        END IF;
        EXECUTE pg_catalog.format('CREATE INDEX %I ON %I.%I USING %s', wanted.name, wanted.schema_name, wanted.table_name, wanted.definition);
    END LOOP;
END
$$;

-- Host tables give tenants and users their foreign keys. A dump does not carry these; what does is in 55_home.sql.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT w.relation::regclass AS relation, w.column_name, pg_catalog.to_regclass(w.host) AS host, w.action, w.name FROM (VALUES
            ('int.plugin_installations'::text, 'tenant_id'::text, 'app.tenants'::text, 'CASCADE'::text, 'plugin_installations_tenant_id_fkey'::text),
            ('int.plugin_delivery_queue', 'tenant_id', 'app.tenants', 'CASCADE', 'plugin_delivery_queue_tenant_id_fkey'),
            ('int.plugin_installations', 'installed_by', 'auth.users', 'SET NULL', 'plugin_installations_installed_by_fkey')
        ) AS w (relation, column_name, host, action, name)
    LOOP
        IF wanted.host IS NOT NULL AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_constraint AS c
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
            WHERE c.conrelid = wanted.relation AND c.confrelid = wanted.host AND c.contype = 'f' AND a.attname = wanted.column_name)
        THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s (id) ON DELETE %s',
                wanted.relation, wanted.name, wanted.column_name, wanted.host, wanted.action);
        END IF;
    END LOOP;
END
$$;

-- The functions' own tables belong to whom the functions belong.
DO $$
DECLARE
    function_owner CONSTANT text := (SELECT t.object FROM plugin_webhooks.taking_over AS t WHERE t.note = 'function owner');
    table_owner    CONSTANT text := (
        SELECT pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class AS c
        LEFT JOIN plugin_webhooks.taking_over AS t ON t.note = 'table' AND t.object = c.oid::regclass::text
        WHERE c.oid IN ('int.plugins'::regclass, 'int.plugin_installations'::regclass,
                        'int.plugin_webhook_subscriptions'::regclass, 'int.plugin_delivery_queue'::regclass)
        ORDER BY t.note IS NULL, c.relname LIMIT 1);
    relation       regclass;
BEGIN
    FOREACH relation IN ARRAY ARRAY['plugin_webhooks.secrets', 'plugin_webhooks.actions', 'plugin_webhooks.rate_limits']::regclass[] LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', relation, function_owner);
    END LOOP;
    FOREACH relation IN ARRAY ARRAY['int.plugins', 'int.plugin_installations', 'int.plugin_webhook_subscriptions',
                                    'int.plugin_delivery_queue', 'int.plugin_delivery_attempts']::regclass[] LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', relation, table_owner);
    END LOOP;
END
$$;
