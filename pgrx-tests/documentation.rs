//! The reference in `docs/` against the catalog: what exists is documented as it is, and nothing else.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::operator;
    use pgrx::prelude::*;
    use plugin_webhooks_core::failure::FailureKind;
    use std::collections::BTreeSet;

    const SETTINGS: &str = include_str!("../docs/settings.md");
    const FUNCTIONS: &str = include_str!("../docs/functions.md");
    const ERRORS: &str = include_str!("../docs/errors.md");
    const OPERATIONS: &str = include_str!("../docs/operations.md");

    /// The cells of the rows of all tables of a document.
    fn table_rows(document: &str) -> impl Iterator<Item = Vec<&str>> {
        document
            .lines()
            .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
            .map(|row| row.split('|').map(str::trim).collect())
    }

    /// What stands between backquotes.
    fn code(text: &str) -> impl Iterator<Item = &str> {
        text.split('`').skip(1).step_by(2)
    }

    fn column(query: &str) -> Vec<String> {
        operator()
            .rows(query)
            .iter()
            .map(|row| row.trim_matches(['(', ')']).trim_matches('"').to_owned())
            .collect()
    }

    #[pg_extern]
    fn every_setting_is_documented_with_default_range_and_unit() {
        let described: Vec<String> = table_rows(SETTINGS)
            .filter(|cells| cells[0].starts_with("`plugin_webhooks."))
            .map(|cells| {
                let plain = |cell: &str| cell.replace('`', "").replace("empty", "");
                let default = cells[1].split(" (").next().map(plain).unwrap_or_default();
                let range = match cells[2] {
                    numbers if numbers.chars().all(|c| c.is_ascii_digit() || c == '–') => {
                        numbers.replace('–', " to ")
                    }
                    names if names.starts_with('`') => plain(names).replace(", ", " or "),
                    _ => String::new(),
                };
                let unit = if ["ms", "s"].contains(&cells[3]) {
                    cells[3]
                } else {
                    ""
                };
                format!("{} = {}; {range}; {unit}", plain(cells[0]), default)
            })
            .collect();
        let defined = operator().value(
            "select string_agg(format('%s = %s; %s; %s', name, boot_val,
                        coalesce(min_val || ' to ' || max_val, array_to_string(enumvals, ' or ')), unit),
                    E'\\n' order by name)
             from pg_settings where name like 'plugin\\_webhooks.%'",
        );
        assert_eq!(described, defined.lines().collect::<Vec<_>>());
    }

    #[pg_extern]
    fn every_function_and_view_is_documented_with_its_arguments() {
        let documented: BTreeSet<String> = table_rows(FUNCTIONS)
            .flat_map(|cells| code(cells[0]).map(str::to_owned).collect::<Vec<_>>())
            .map(|signature| {
                signature
                    .replace(" bool ", " boolean ")
                    .replace(" int ", " integer ")
            })
            .collect();
        let existing: BTreeSet<String> = column(
            "select case when n.nspname = 'public' then '' else n.nspname || '.' end || o.name
             from (select p.pronamespace, p.proname || '('
                          || replace(replace(replace(replace(replace(pg_get_function_arguments(p.oid), '::text[]', ''),
                                     '::text', ''), '::jsonb', ''), '::uuid', ''), ' DEFAULT ', ' = ') || ')', p.oid, \
                                     'pg_proc'::regclass
                   from pg_proc p
                   union all
                   select c.relnamespace, c.relname, c.oid, 'pg_class'::regclass from pg_class c where c.relkind = 'v'
                  ) as o (namespace, name, id, catalog)
             join pg_namespace n on n.oid = o.namespace and n.nspname <> 'tests'
             join pg_depend d on d.classid = o.catalog and d.objid = o.id and d.deptype = 'e'
             join pg_extension e on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
             where e.extname = 'plugin_webhooks'",
        )
        .into_iter()
        .map(|name| name.replace("NULL", "null"))
        .collect();
        let same = |name: &&String| name.contains('(') || name.contains("v_") || name.contains('.');
        assert_eq!(
            documented.iter().filter(same).collect::<Vec<_>>(),
            existing.iter().collect::<Vec<_>>()
        );
    }

    #[pg_extern]
    fn the_columns_of_the_public_views_are_documented() {
        for cells in table_rows(FUNCTIONS) {
            let name = cells[0].trim_matches('`');
            if !name.starts_with("v_") {
                continue;
            }
            let columns = operator().value(&format!(
                "select string_agg(attname, ', ' order by attnum) from pg_attribute
                 where attrelid = 'public.{name}'::regclass and attnum > 0"
            ));
            assert_eq!(cells[1], columns, "{name}");
        }
    }

    #[pg_extern]
    fn every_sqlstate_that_a_comment_names_is_documented() {
        let documented: BTreeSet<&str> = table_rows(ERRORS)
            .flat_map(|cells| code(cells[0]).collect::<Vec<_>>())
            .filter(|code| code.len() == 5)
            .collect();
        let named = column(
            "select distinct m.state[1] from pg_proc p,
                    regexp_matches(substring(obj_description(p.oid, 'pg_proc') from 'Raises .*'),
                                   '\\m[0-9A-Z][0-9][0-9A-Z]{3}\\M', 'g') as m (state)
             where p.pronamespace in ('public'::regnamespace, 'int'::regnamespace, 'audit'::regnamespace,
                                      'plugin_webhooks'::regnamespace)",
        );
        assert!(named.len() > 10, "{named:?}");
        for sqlstate in &named {
            assert!(
                documented.contains(sqlstate.as_str()),
                "{sqlstate} is not in docs/errors.md"
            );
        }
    }

    #[pg_extern]
    fn every_kind_of_failure_is_documented_and_no_other() {
        let kinds = FailureKind::ALL.map(FailureKind::as_str);
        let (last, others) = kinds.split_last().expect("there are kinds");
        let comment = operator().value(
            "select col_description(attrelid, attnum) from pg_attribute
             where attrelid = 'int.plugin_delivery_attempts'::regclass and attname = 'error_kind'",
        );
        let expected = format!("Null: delivered. Else {} or {last}.", others.join(", "));
        assert_eq!(comment, expected);
        let described = OPERATIONS
            .lines()
            .find_map(|line| line.strip_prefix("`error_kind` is null"))
            .expect("a line about error_kind");
        assert_eq!(code(described).collect::<Vec<_>>(), kinds);
    }
}
