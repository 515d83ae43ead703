-- Attaching the audit log to tables.

CREATE OR REPLACE FUNCTION audit.track(p_table regclass, p_exclude text[] DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'track_except_wrapper';
COMMENT ON FUNCTION audit.track(regclass, text[]) IS
    'Attaches the audit triggers to a table, or replaces those of an earlier version. p_exclude: columns that are '
    'never written to the audit log; null keeps the list as it is. Runs with the caller''s rights: the table''s owner, '
    'with EXECUTE granted, or a superuser. Raises 42809 (not a table, a system table, or a list for a table whose '
    'triggers track() did not make), 42703 (no column id), 23514 (null, or a column that is not there or always '
    'recorded).';

CREATE OR REPLACE FUNCTION audit.untrack(p_table regclass) RETURNS void
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'untrack_wrapper';
COMMENT ON FUNCTION audit.untrack(regclass) IS
    'Detaches every trigger that calls audit.log_entity_change() from a table; does nothing when there is none. '
    'Raises 23514 (null).';
