//! What the catalogs say about the extension's objects, as lines that two databases can be compared by.

use std::collections::BTreeSet;

use postgres::Client;

/// One line for each property of each object in the extension's schemas and of each member elsewhere.
/// Nothing in it depends on oids, names of databases or times. Host objects count where they are tied to
/// the extension: triggers that call its functions.
const CATALOG: &str = r#"
with extension as (
    select oid, extowner, extconfig from pg_extension where extname = 'plugin_webhooks'
), own_schema as (
    select oid, nspname from pg_namespace where nspname in ('int', 'audit', 'plugin_webhooks')
), member as (
    select classid, objid from pg_depend, extension
    where refclassid = 'pg_extension'::regclass and refobjid = extension.oid and deptype = 'e'
), relation as (
    select c.* from pg_class c
    where c.relkind in ('r', 'v', 'S')
      and (c.relnamespace in (select oid from own_schema)
           or ('pg_class'::regclass, c.oid) in (select classid, objid from member))
), routine as (
    select p.* from pg_proc p
    where p.pronamespace in (select oid from own_schema)
       or ('pg_proc'::regclass, p.oid) in (select classid, objid from member)
)
select format('column %s.%s: %s', a.attrelid::regclass, a.attname,
              concat_ws(' ', format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
                        nullif(a.attidentity, ''), 'default ' || pg_get_expr(d.adbin, d.adrelid), a.attacl::text))
from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
union all
select format('relation %s: %s', r.oid::regclass, concat_ws(' ', r.relkind, r.relpersistence, r.relowner::regrole,
              case when r.relrowsecurity then 'row security' end, case when r.relforcerowsecurity then 'forced' end,
              (select array_agg(o order by o) from unnest(r.reloptions) o)))
from relation r
union all
select format('constraint %s.%s: %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid))
from relation r join pg_constraint c on c.conrelid = r.oid
union all
select format('index %s', pg_get_indexdef(i.indexrelid)) from relation r join pg_index i on i.indrelid = r.oid
union all
select format('policy %s.%s: %s', p.polrelid::regclass, p.polname, concat_ws(' | ', p.polcmd, p.polpermissive,
              (select array_agg(x::regrole::text order by x::regrole::text) from unnest(p.polroles) x),
              pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)))
from relation r join pg_policy p on p.polrelid = r.oid
union all
select format('trigger %s, enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
from pg_trigger t
where not t.tgisinternal and (t.tgrelid in (select oid from relation) or t.tgfoid in (select oid from routine))
union all
select format('view %s: %s', r.oid::regclass, pg_get_viewdef(r.oid)) from relation r where r.relkind = 'v'
union all
select format('function %s: %s, owner %s', p.oid::regprocedure, pg_get_functiondef(p.oid), p.proowner::regrole) from routine p
union all
select format('grant %s on %s: %s%s', x.privilege_type, o.name,
              case x.grantee when 0 then 'PUBLIC' else x.grantee::regrole::text end, case when x.is_grantable then ' grantable' end)
from (
    select r.oid::regclass::text as name, r.relowner as owner, r.relacl as acl from relation r
    union all
    select p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)) from routine p
    union all
    select 'schema ' || n.nspname, n.nspowner, n.nspacl from pg_namespace n where n.oid in (select oid from own_schema)
) o, aclexplode(o.acl) x where x.grantee <> o.owner
union all
select format('initial grant %s on %s: %s', x.privilege_type, pg_describe_object(i.classoid, i.objoid, i.objsubid),
              case x.grantee when 0 then 'PUBLIC' else x.grantee::regrole::text end)
from pg_init_privs i join member m on m.classid = i.classoid and m.objid = i.objoid, aclexplode(i.initprivs) x
union all
select format('comment on %s: %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description)
from pg_description d
where (d.classoid, d.objoid) in (
    select 'pg_class'::regclass::oid, oid from relation union all select 'pg_proc'::regclass, oid from routine
    union all select 'pg_namespace'::regclass, oid from own_schema)
union all
select format('member %s', pg_describe_object(classid, objid, 0)) from member
union all
select format('dumped %s', t.oid::regclass) from extension, unnest(extconfig) as t (oid)
"#;

/// Everything that the catalogs say about the extension in this database.
#[track_caller]
pub fn catalog(client: &mut Client) -> BTreeSet<String> {
    client
        .batch_execute("set search_path = pg_catalog")
        .expect("set search_path");
    let rows = client
        .query(CATALOG, &[])
        .unwrap_or_else(|error| panic!("read the catalogs: {}", crate::sql::describe(&error)));
    client
        .batch_execute("reset search_path")
        .expect("reset search_path");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Fails with the lines that only one side has.
#[track_caller]
pub fn assert_same_lines(left: (&str, &BTreeSet<String>), right: (&str, &BTreeSet<String>)) {
    let only_left: Vec<&String> = left.1.difference(right.1).collect();
    let only_right: Vec<&String> = right.1.difference(left.1).collect();
    assert!(
        only_left.is_empty() && only_right.is_empty(),
        "only {}: {only_left:#?}\nonly {}: {only_right:#?}",
        left.0,
        right.0
    );
}
