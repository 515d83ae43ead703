-- The same as the extension does, as one would write it in PL/pgSQL: row triggers, a log and a queue with
-- the extension's own columns, constraints and indexes.

create schema pl;

create table pl.changes (like audit.entity_changes including all);

create table pl.queue (like int.plugin_delivery_queue including all);
alter table pl.queue
    add foreign key (plugin_installation_id) references int.plugin_installations (id) on delete cascade,
    add foreign key (source_entity_change_id) references pl.changes (id) on delete cascade;

create function pl.log() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    old_data jsonb;
    new_data jsonb;
    current_data jsonb;
    changed text[];
    claims text := nullif(current_setting('request.jwt.claims', true), '');
    headers text := nullif(current_setting('request.headers', true), '');
begin
    if tg_op <> 'INSERT' then old_data := to_jsonb(old); end if;
    if tg_op <> 'DELETE' then new_data := to_jsonb(new); end if;
    current_data := coalesce(new_data, old_data);
    if tg_op = 'UPDATE' then
        select array_agg(n.key) into changed from jsonb_each(new_data) n where old_data -> n.key is distinct from n.value;
    end if;
    insert into pl.changes
        (table_schema, table_name, record_id, operation, old_data, new_data, changed_fields, user_id, tenant_id,
         ip_address, user_agent)
    values (tg_table_schema, tg_table_name, current_data ->> 'id', tg_op, old_data, new_data, changed,
            (claims::jsonb ->> 'sub')::uuid, (current_data ->> 'tenant_id')::uuid,
            inet_client_addr(), headers::jsonb ->> 'user-agent');
    return null;
end
$$;

create function pl.enqueue() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if new.tenant_id is null then
        return null;
    end if;
    insert into pl.queue (tenant_id, plugin_installation_id, source_entity_change_id, event_type, payload)
    select new.tenant_id, i.id, new.id, lower('entity_change.' || new.table_name || '.' || new.operation),
           jsonb_build_object(
               'v', 1, 'tenant_id', new.tenant_id, 'installation_id', i.id, 'plugin_key', p.key,
               'audit', jsonb_build_object(
                   'id', new.id, 'table_schema', new.table_schema, 'table_name', new.table_name,
                   'record_id', new.record_id, 'operation', new.operation, 'changed_fields', new.changed_fields),
               'snapshot', case when s.include_payload
                   then jsonb_build_object('old_data', new.old_data, 'new_data', new.new_data)
                   else jsonb_build_object('record_id', new.record_id, 'changed_fields', new.changed_fields) end)
    from int.plugin_installations i
    join int.plugin_webhook_subscriptions s on s.plugin_installation_id = i.id
    join int.plugins p on p.id = i.plugin_id
    where i.tenant_id = new.tenant_id and i.status = 'installed'
      and s.table_schema = new.table_schema and s.table_name = new.table_name and new.operation = any (s.operations)
      and (new.operation <> 'UPDATE' or coalesce(cardinality(s.changed_fields_allowlist), 0) = 0
           or s.changed_fields_allowlist && new.changed_fields)
    on conflict (plugin_installation_id, source_entity_change_id) do nothing;
    return null;
end
$$;
create trigger enqueue after insert on pl.changes for each row execute function pl.enqueue();

create table plain (
    id bigint generated always as identity primary key, tenant_id uuid, title text, status text, amount numeric,
    due timestamptz, active boolean, n integer
);
create table by_statement (like plain including all);
create table by_row (like plain including all);
create table plpgsql (like plain including all);
create table base as select k from generate_series(1, 20000) k;

select audit.track('by_statement');
create trigger audit after insert or update or delete on by_row for each row execute function audit.log_entity_change();
create trigger audit after insert or update or delete on plpgsql for each row execute function pl.log();

-- The indexes that a database from before the extension has on its log.
create function seven_indexes() returns void
    language plpgsql
as $$
declare
    log text;
begin
    drop index audit.entity_changes_tenant_id_idx;
    foreach log in array array['audit.entity_changes', 'pl.changes'] loop
        execute format('create index on %s (table_schema, table_name, record_id)', log);
        execute format('create index on %s (user_id)', log);
        execute format('create index on %s (tenant_id)', log);
        execute format('create index on %s (created_at)', log);
        execute format('create index on %s (operation)', log);
        execute format('create index on %s (tenant_id, created_at desc)', log);
    end loop;
end
$$;

create function subscribe(tenant uuid, hear integer, deaf integer, strangers integer) returns void
    language plpgsql
as $$
begin
    insert into int.plugins (key, name) select 'plugin_' || n, 'Plugin' from generate_series(1, hear + deaf) n;
    insert into int.plugin_installations (tenant_id, plugin_id, config)
        select tenant, id, '{"webhook_url": "https://receiver.invalid/"}' from int.plugins;
    insert into int.plugin_webhook_subscriptions (plugin_installation_id, table_schema, table_name, operations)
        select i.id, 'public', case when substr(p.key, 8)::int <= hear then t else t || '_2' end, '{INSERT,UPDATE,DELETE}'
        from int.plugin_installations i join int.plugins p on p.id = i.plugin_id,
             unnest(array['by_statement', 'by_row', 'plpgsql']) t;
    insert into int.plugin_installations (tenant_id, plugin_id)
        select gen_random_uuid(), (select id from int.plugins order by key limit 1) from generate_series(1, strangers);
    insert into int.plugin_webhook_subscriptions (plugin_installation_id, table_schema, table_name, operations)
        select i.id, 'public', t, '{INSERT,UPDATE,DELETE}'
        from int.plugin_installations i, unnest(array['by_statement', 'by_row', 'plpgsql']) t
        where i.tenant_id <> tenant;
end
$$;
