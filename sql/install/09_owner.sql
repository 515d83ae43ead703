-- Who owns what tenants and the worker reach: one role that is no superuser, and has no way to become one. Code that
-- comes with these objects, such as a trigger, runs with its rights. The tables that a former system had stay its
-- owner's.

DO $$
DECLARE
    dedicated CONSTANT name := 'plugin_webhooks_owner';
    reasons   text[];
BEGIN
    IF pg_catalog.to_regrole(dedicated) IS NULL THEN
        BEGIN
            CREATE ROLE plugin_webhooks_owner;
            COMMENT ON ROLE plugin_webhooks_owner IS
                'Owns the tables of the extension plugin_webhooks, and its functions that tenants call. Nobody logs in '
                'as this role or is a member of it.';
        EXCEPTION
            -- CREATE EXTENSION in another database was faster.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    SELECT pg_catalog.array_agg(x.reason ORDER BY x.position) INTO reasons
    FROM pg_catalog.pg_roles AS r
    CROSS JOIN LATERAL (
        SELECT pg_catalog.string_agg(o.object, ', ' ORDER BY o.object) AS objects
        FROM (
            SELECT pg_catalog.pg_describe_object(s.classid, s.objid, s.objsubid) AS object
            FROM pg_catalog.pg_shdepend AS s
            WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = r.oid AND s.deptype = 'o'
              AND s.dbid = (SELECT d.oid FROM pg_catalog.pg_database AS d
                            WHERE d.datname = pg_catalog.current_database())
              AND NOT EXISTS (
                  SELECT FROM pg_catalog.pg_depend AS d
                  JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'plugin_webhooks'
                  WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype = 'e'
                    AND d.refclassid = 'pg_catalog.pg_extension'::regclass)
            LIMIT 5
        ) AS o
    ) AS own
    CROSS JOIN LATERAL (VALUES
        (1, r.rolcanlogin, 'it can log in'::text),
        (2, r.rolsuper, 'it is a superuser'),
        (3, r.rolcreatedb, 'it has the attribute CREATEDB'),
        (4, r.rolcreaterole, 'it has the attribute CREATEROLE'),
        (5, r.rolreplication, 'it has the attribute REPLICATION'),
        (6, r.rolbypassrls, 'it has the attribute BYPASSRLS'),
        (7, EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.member = r.oid),
            'it is a member of '
                || (SELECT pg_catalog.string_agg(pg_catalog.pg_get_userbyid(m.roleid)::text, ', ')
                    FROM pg_catalog.pg_auth_members AS m WHERE m.member = r.oid)),
        (8, EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.roleid = r.oid),
            'its members are '
                || (SELECT pg_catalog.string_agg(pg_catalog.pg_get_userbyid(m.member)::text, ', ')
                    FROM pg_catalog.pg_auth_members AS m WHERE m.roleid = r.oid)),
        -- Made by somebody who was a member for a moment.
        (9, own.objects IS NOT NULL, 'in this database it owns ' || own.objects)
    ) AS x (position, holds, reason)
    WHERE r.rolname = dedicated AND x.holds;
    IF reasons IS NOT NULL THEN
        RAISE EXCEPTION 'role % cannot own what tenants reach: %', dedicated,
                pg_catalog.array_to_string(reasons, ', ')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Take that away from the role, or rename it: CREATE EXTENSION makes it where it is missing.';
    END IF;
END
$$;
