//! Look-ups in PostgreSQL's system catalogs, by name and by oid. Asks no permission, changes nothing.
//! Each runs inside a transaction, as all code that a function of SQL reaches.
#![expect(unsafe_code, reason = "C strings and tuples of the catalog caches")]

use std::ffi::CStr;

use pgrx::prelude::*;

/// Whether a role is a superuser.
pub fn is_superuser(role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system catalogs.
    unsafe { pg_sys::superuser_arg(role) }
}

/// Oid of an extension in this database, or `None`. Made anew, it has another.
pub fn extension(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: reads a C string; with missing_ok it does not raise.
    let oid = unsafe { pg_sys::get_extension_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Oid of a schema, or `None`.
fn namespace(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: reads a C string; with missing_ok it does not raise.
    let oid = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Name of a schema.
pub fn namespace_name(oid: pg_sys::Oid) -> String {
    // SAFETY: returns null or a palloc'd C string.
    unsafe {
        let name = pg_sys::get_namespace_name(oid);
        if name.is_null() {
            return String::new();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// A relation by its schema and its own name.
#[derive(Clone, Copy)]
pub struct TableName<'a> {
    pub schema: &'a CStr,
    pub name: &'a CStr,
    /// Tables of the same schema that its statements may join: they have one owner.
    pub joined: &'a [&'a CStr],
}

impl<'a> TableName<'a> {
    pub const fn new(schema: &'a CStr, name: &'a CStr) -> Self {
        let joined = &[];
        Self {
            schema,
            name,
            joined,
        }
    }

    pub const fn joined_with(self, joined: &'a [&'a CStr]) -> Self {
        Self { joined, ..self }
    }
}

/// Oid of a relation, or `None`.
pub fn relation(table: TableName<'_>) -> Option<pg_sys::Oid> {
    relation_in(namespace(table.schema)?, table.name)
}

fn relation_in(namespace: pg_sys::Oid, name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: reads a C string; returns InvalidOid for a name that is not there.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), namespace) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Each of the tables that statements may join, as far as they are there, with its owner.
pub fn joined_owners(table: TableName<'_>) -> impl Iterator<Item = (&CStr, pg_sys::Oid)> {
    let namespace = namespace(table.schema);
    table.joined.iter().filter_map(move |name| {
        let owner = owner(relation_in(namespace?, name)?)?;
        Some((*name, owner))
    })
}

/// What `read` takes from a tuple of a catalog cache, or `None` without one.
///
/// # Safety
/// The cache has one key, an oid. What `read` returns does not point into the tuple.
unsafe fn cached<R>(
    cache: pg_sys::SysCacheIdentifier::Type,
    key: pg_sys::Oid,
    read: impl FnOnce(pg_sys::HeapTuple) -> R,
) -> Option<R> {
    // SAFETY: the key is of the type of the cache's column; the tuple is alive until it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache as i32, pg_sys::Datum::from(key));
        if tuple.is_null() {
            return None;
        }
        let result = read(tuple);
        pg_sys::ReleaseSysCache(tuple);
        Some(result)
    }
}

/// Owner of a relation.
pub fn owner(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: the cache has one key, an oid; a tuple of pg_class starts with this struct.
    unsafe {
        cached(pg_sys::SysCacheIdentifier::RELOID, relation, |tuple| {
            let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
            (*form).relowner
        })
    }
}

/// Name of a role; its oid where it has none.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: with noerr it returns null or a palloc'd C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            return role.to_u32().to_string();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// Owner of a function.
pub fn function_owner(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: the cache has one key, an oid; a tuple of pg_proc starts with this struct.
    unsafe {
        cached(pg_sys::SysCacheIdentifier::PROCOID, function, |tuple| {
            let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
            (*form).proowner
        })
    }
}

/// Owner of a type.
pub fn type_owner(of: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: the cache has one key, an oid; a tuple of pg_type starts with this struct.
    unsafe {
        cached(pg_sys::SysCacheIdentifier::TYPEOID, of, |tuple| {
            let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_type>();
            (*form).typowner
        })
    }
}

/// Name of a type, for people.
pub fn type_name(oid: pg_sys::Oid) -> String {
    // SAFETY: returns a palloc'd C string, whatever the oid is.
    unsafe { CStr::from_ptr(pg_sys::format_type_be(oid)) }
        .to_string_lossy()
        .into_owned()
}

/// Oid of the extension that a relation is a member of, or `None`.
pub fn extension_of_relation(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: looks two oids up in a catalog.
    let oid = unsafe { pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, relation) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Name of a column, or `None`.
pub fn column_name(relation: pg_sys::Oid, number: i16) -> Option<String> {
    // SAFETY: with missing_ok it returns null or a palloc'd C string.
    unsafe {
        let name = pg_sys::get_attname(relation, number, true);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// A function as it is now, whatever an older snapshot of the transaction shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Function {
    pub oid: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// The type of its result; `None` for a set, and for what is no plain function.
    pub returns: Option<pg_sys::Oid>,
}

/// The function of this schema, name and argument types, which nobody replaces by another, gives away or drops until
/// the end of the transaction; waits for who is doing so. Asks no right on the schema.
pub fn lock_function(schema: &CStr, name: &CStr, arguments: &[pg_sys::Oid]) -> Option<Function> {
    loop {
        let found = function(schema, name, arguments)?;
        // SAFETY: waits for a lock on a number; what committed until now is seen afterwards.
        unsafe {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            pg_sys::LockDatabaseObject(pg_sys::ProcedureRelationId, found.oid, 0, lock);
            if function(schema, name, arguments) == Some(found) {
                return Some(found);
            }
            pg_sys::UnlockDatabaseObject(pg_sys::ProcedureRelationId, found.oid, 0, lock);
        }
    }
}

fn function(schema: &CStr, name: &CStr, arguments: &[pg_sys::Oid]) -> Option<Function> {
    let schema = namespace(schema)?;
    // SAFETY: the keys are of the types of the cache's columns; a tuple of pg_proc starts with this struct, and is
    // alive until it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache3(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(pg_sys::buildoidvector(
                arguments.as_ptr(),
                arguments.len() as i32,
            )),
            pg_sys::Datum::from(schema),
        );
        if tuple.is_null() {
            return None;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let is_plain = form.prokind as u8 == pg_sys::PROKIND_FUNCTION && !form.proretset;
        let function = Function {
            oid: form.oid,
            owner: form.proowner,
            returns: is_plain.then_some(form.prorettype),
        };
        pg_sys::ReleaseSysCache(tuple);
        Some(function)
    }
}

/// Whether an SQL function is this symbol of a library, in this project its own.
pub fn is_own_function(function: pg_sys::Oid, symbol: &CStr) -> bool {
    const LANGUAGE_C: u32 = 13;
    const CACHE: pg_sys::SysCacheIdentifier::Type = pg_sys::SysCacheIdentifier::PROCOID;
    // SAFETY: the cache has one key, an oid; a tuple of pg_proc starts with this struct; prosrc is a text that
    // is never null, and is copied before the tuple is released.
    let own = unsafe {
        cached(CACHE, function, |tuple| {
            let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
            if (*form).prolang.to_u32() != LANGUAGE_C {
                return false;
            }
            let mut null = false;
            let prosrc = pg_sys::Anum_pg_proc_prosrc as i16;
            let source = pg_sys::SysCacheGetAttr(CACHE as i32, tuple, prosrc, &mut null);
            String::from_datum(source, null)
                .is_some_and(|name| name.as_bytes() == symbol.to_bytes())
        })
    };
    own == Some(true)
}

/// Length of a list; null is the empty one.
///
/// # Safety
/// `list` is a list that is alive, or null.
pub unsafe fn length(list: *const pg_sys::List) -> i32 {
    // SAFETY: null, or points to a live list.
    unsafe { list.as_ref().map_or(0, |list| list.length) }
}

/// The oids of a list of oids.
///
/// # Safety
/// `list` is one that is alive, or null.
pub unsafe fn oids(list: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: a list has as many elements as its length says, and these are oids; null has none.
    unsafe {
        (0..length(list) as usize)
            .map(|n| (*(*list).elements.add(n)).oid_value)
            .collect()
    }
}
