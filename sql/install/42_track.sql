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

CREATE OR REPLACE FUNCTION audit.track_all(dry_run boolean DEFAULT true)
    RETURNS TABLE (tracked regclass, action text, reason text)
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
    AS 'MODULE_PATHNAME', 'track_all_wrapper';
COMMENT ON FUNCTION audit.track_all(boolean) IS
    'The tables with row triggers of other names that call audit.log_entity_change(), and what is done to each: '
    'replace (by the triggers of audit.track(), where the audit log gets the same rows in the same order for each '
    'record; the former ones stay, disabled) or keep, with the reason. Changes nothing unless dry_run is false. Runs '
    'with the caller''s rights; a table that is in use is kept. Raises 23514 (null).';

CREATE OR REPLACE FUNCTION audit.untrack(p_table regclass) RETURNS void
    LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'untrack_wrapper';
COMMENT ON FUNCTION audit.untrack(regclass) IS
    'Detaches every trigger that calls audit.log_entity_change() from a table; does nothing when there is none. '
    'Raises 23514 (null).';
