//! As whom a column's values become jsonb. to_jsonb calls the cast to json that a type brings, at any depth of
//! arrays and composites: code of whoever made it, which gets no rights of whoever writes to the table.
#![expect(unsafe_code, reason = "types by their catalogs")]

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::{self, cache};

/// Whose rights to_jsonb gets for a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConvertedAs {
    /// Those of the writer: no code of anybody but superusers is called, and nobody else can have it called.
    Writer,
    /// Those of the owner of the casts' functions.
    Caster(pg_sys::Oid),
    /// Those of a type's owner, who has made no cast, but might while a statement runs.
    TypeOwner(pg_sys::Oid),
}

/// Types that to_jsonb meets in a value.
#[derive(Default)]
struct Met {
    types: Vec<pg_sys::Oid>,
    /// Who is no superuser and owns a type or the function of its cast, with the type.
    owners: Vec<(pg_sys::Oid, pg_sys::Oid)>,
    /// Whether one of the functions is theirs.
    calls_them: bool,
}

/// Raises 0A000 where several roles decide what is called. The owner of a type does, even without a cast: he can make
/// one, or another one, while a statement runs. Good for one generation of `pg::cache`.
pub fn converted_as(type_oid: pg_sys::Oid, table: &str, column: &str) -> Result<ConvertedAs> {
    let mut met = Met::default();
    met.walk(type_oid);
    let Some((role, _)) = met.owners.first() else {
        return Ok(ConvertedAs::Writer);
    };
    if met.owners.iter().any(|(other, _)| other != role) {
        let mut types: Vec<_> = met
            .owners
            .iter()
            .map(|(_, of)| pg::type_name(*of))
            .collect();
        types.dedup();
        return Err(Error::CastsOfSeveral {
            column: format!("{table}.{column}"),
            types,
        }
        .into());
    }
    Ok(if met.calls_them {
        ConvertedAs::Caster(*role)
    } else {
        ConvertedAs::TypeOwner(*role)
    })
}

impl Met {
    /// Goes where jsonb_categorize_type() of PostgreSQL goes.
    fn walk(&mut self, type_oid: pg_sys::Oid) {
        // SAFETY: look-ups in the system catalogs, of a type that a column has; raise for none that exists.
        let (base, element, is_row) = unsafe {
            let base = pg_sys::getBaseType(type_oid);
            let element = pg_sys::get_element_type(base);
            (base, element, pg_sys::type_is_rowtype(base))
        };
        // Of records without a type of their own no table has a column.
        if base == pg_sys::RECORDOID || base == pg_sys::RECORDARRAYOID || self.types.contains(&base)
        {
            return;
        }
        self.types.push(base);
        if element != pg_sys::InvalidOid {
            self.walk(element);
        } else if is_row {
            self.walk_columns(base);
        } else if base.to_u32() >= pg_sys::FirstNormalObjectId {
            cache::watch_type(base);
            let no_superuser = |role: &pg_sys::Oid| !pg::is_superuser(*role);
            let owner = pg::type_owner(base).filter(no_superuser);
            let caster = cast_to_json(base)
                .and_then(pg::function_owner)
                .filter(no_superuser);
            self.calls_them |= caster.is_some();
            let both = owner.into_iter().chain(caster);
            self.owners.extend(both.map(|role| (role, base)));
        }
    }

    fn walk_columns(&mut self, row_type: pg_sys::Oid) {
        // SAFETY: a look-up in the system catalogs; the copy of the descriptor is the caller's memory context's, and
        // has natts attributes.
        let columns: Vec<pg_sys::Oid> = unsafe {
            cache::watch(pg_sys::get_typ_typrelid(row_type));
            let descriptor = pg_sys::lookup_rowtype_tupdesc_copy(row_type, -1);
            let attributes = pg::version::attributes(descriptor).iter();
            let there = attributes.filter(|attribute| !attribute.attisdropped);
            there.map(|attribute| attribute.atttypid).collect()
        };
        for column in columns {
            self.walk(column);
        }
    }
}

/// The function of a type's cast to json, as to_jsonb finds it; `None` without one.
pub fn cast_to_json(base_type: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let mut function = pg_sys::InvalidOid;
    // SAFETY: a look-up in the system catalogs; writes the function's oid.
    let path = unsafe {
        pg_sys::find_coercion_pathway(
            pg_sys::JSONOID,
            base_type,
            pg_sys::CoercionContext::COERCION_EXPLICIT,
            &mut function,
        )
    };
    (path == pg_sys::CoercionPathType::COERCION_PATH_FUNC).then_some(function)
}
