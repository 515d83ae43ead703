-- Which objects of a host are used: those that were there, and to be trusted, when a superuser looked. No name is
-- trusted because something has it: everybody with CREATE on the database can make a schema vault or auth.

COMMENT ON VIEW plugin_webhooks.host_candidates IS
    'What there is of a host now, and whether the rule of attach_host() trusts its owner and the owner of its schema. '
    'Read host_objects instead.';

CREATE TABLE IF NOT EXISTS plugin_webhooks.host_bindings (
    object        text PRIMARY KEY,
    object_oid    oid NOT NULL,
    owner         oid NOT NULL,
    schema_oid    oid NOT NULL,
    schema_owner  oid NOT NULL,
    extension_oid oid NOT NULL,
    named         boolean NOT NULL
);
COMMENT ON TABLE plugin_webhooks.host_bindings IS
    'The host''s objects that are used, each as it was at the last attach_host(): one that is not the same any more is '
    'not used. True of this database only: no dump carries it.';
COMMENT ON COLUMN plugin_webhooks.host_bindings.extension_oid IS 'The extension that it is a member of; 0 for none.';
COMMENT ON COLUMN plugin_webhooks.host_bindings.named IS
    'Trusted because attach_host() was told so; later calls keep to that.';
ALTER TABLE plugin_webhooks.host_bindings ENABLE ROW LEVEL SECURITY;
CREATE OR REPLACE TRIGGER host_bindings_forget
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON plugin_webhooks.host_bindings
    FOR EACH STATEMENT EXECUTE FUNCTION int.forget_subscriptions();
ALTER TABLE plugin_webhooks.host_bindings ENABLE ALWAYS TRIGGER host_bindings_forget;

CREATE OR REPLACE VIEW plugin_webhooks.host_objects AS
SELECT s.object, s.kind, s.used_for, s.owner, s.extension,
       CASE WHEN s.oid IS NULL THEN 'not there' WHEN s.reason IS NULL THEN 'bound' ELSE 'ignored' END AS status,
       s.reason
FROM (
    SELECT c.object, c.kind, c.used_for, c.oid, pg_catalog.pg_get_userbyid(c.owner) AS owner, c.extension,
           CASE WHEN c.oid IS NULL THEN
                    CASE WHEN b.object IS NOT NULL THEN 'was dropped, renamed or moved after attach_host()' END
                WHEN c.by_extension THEN c.problem
                WHEN (c.oid, c.owner, c.schema_oid, c.schema_owner, coalesce(c.extension_oid, 0))
                   = (b.object_oid, b.owner, b.schema_oid, b.schema_owner, b.extension_oid) THEN NULL
                WHEN c.oid = b.object_oid AND c.owner <> b.owner THEN
                    pg_catalog.format('owner changed after attach_host(), from %s to %s',
                        pg_catalog.pg_get_userbyid(b.owner), pg_catalog.pg_get_userbyid(c.owner))
                WHEN c.problem IS NOT NULL THEN c.problem
                WHEN NOT c.owner_trusted THEN
                    pg_catalog.format('owner %s is not trusted', pg_catalog.pg_get_userbyid(c.owner))
                WHEN NOT c.schema_trusted THEN
                    pg_catalog.format('its schema belongs to %s, who is not trusted',
                        pg_catalog.pg_get_userbyid(c.schema_owner))
                WHEN b.object IS NULL THEN 'appeared after attach_host()'
                WHEN c.oid <> b.object_oid THEN 'was replaced after attach_host()'
                ELSE 'its schema or its extension changed after attach_host()'
           END AS reason
    FROM plugin_webhooks.host_candidates AS c
    LEFT JOIN plugin_webhooks.host_bindings AS b ON b.object = c.object
) AS s;
COMMENT ON VIEW plugin_webhooks.host_objects IS
    'Every object of a host that the extension can use, and whether it does. bound: it is called or read, with the '
    'rights of its own owner. ignored: it is there and not used, reason says why. not there: the extension''s own '
    'means are used. attach_host() binds anew.';

CREATE OR REPLACE FUNCTION plugin_webhooks.bind_host(trusted_owners text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    missing text;
    named   oid[];
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = CURRENT_USER AND r.rolsuper) THEN
        RAISE EXCEPTION 'only a superuser says which objects of the host are trusted'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT pg_catalog.left(t.name, 100) INTO missing FROM pg_catalog.unnest(trusted_owners) AS t (name)
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = t.name) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'role "%" does not exist', missing
            USING ERRCODE = 'undefined_object', HINT = 'trusted_owners lists names of roles.';
    END IF;
    LOCK TABLE plugin_webhooks.host_bindings IN SHARE ROW EXCLUSIVE MODE;
    named := ARRAY(
        SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = ANY (trusted_owners)
        UNION
        SELECT x.owner FROM plugin_webhooks.host_bindings AS b, pg_catalog.unnest(ARRAY[b.owner, b.schema_owner])
            AS x (owner)
        WHERE b.named);
    DELETE FROM plugin_webhooks.host_bindings;
    INSERT INTO plugin_webhooks.host_bindings
        (object, object_oid, owner, schema_oid, schema_owner, extension_oid, named)
    SELECT c.object, c.oid, c.owner, c.schema_oid, c.schema_owner, coalesce(c.extension_oid, 0),
           c.owner = ANY (named) OR c.schema_owner = ANY (named)
    FROM plugin_webhooks.host_candidates AS c
    WHERE c.problem IS NULL AND NOT c.by_extension
      AND (c.owner_trusted OR c.owner = ANY (named))
      AND (c.schema_trusted OR c.schema_owner = ANY (named));
END
$$;
COMMENT ON FUNCTION plugin_webhooks.bind_host(text[]) IS
    'Binds the host''s objects that are there now; see attach_host(), which calls it. Executable by the owner only, '
    'who must be a superuser.';

-- The tables of the next files refer to the host's.
SELECT plugin_webhooks.bind_host('{}');
