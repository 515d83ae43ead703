//! Who made a change, as far as the session says: user, address, user agent.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::net::IpAddr;
use std::rc::Rc;

use pgrx::pg_sys;
use serde_json::Value;

use crate::{caller, host, pg, settings};

/// In the setting's list, the address of the database's client.
const CONNECTION: &str = "connection";

/// Who changed it. The values are kept as PostgreSQL keeps them.
#[derive(Default)]
pub struct Origin {
    user: Option<[u8; 16]>,
    ip_address: Option<pg::Varlena>,
    user_agent: Option<pg::Varlena>,
}

impl Origin {
    pub fn user(&self) -> Option<pg_sys::Datum> {
        self.user
            .as_ref()
            .map(|user| pg_sys::Datum::from(user.as_ptr()))
    }

    pub fn ip_address(&self) -> Option<pg_sys::Datum> {
        self.ip_address.as_ref().map(pg::Varlena::datum)
    }

    pub fn user_agent(&self) -> Option<pg_sys::Datum> {
        self.user_agent.as_ref().map(pg::Varlena::datum)
    }

    /// The origin of what the session does now.
    pub fn current() -> Rc<Origin> {
        let asked = Asked::now();
        let known = KNOWN.with_borrow(|known| {
            known
                .as_ref()
                .filter(|(of, _)| *of == asked)
                .map(|(_, origin)| origin.clone())
        });
        known.unwrap_or_else(|| {
            let origin = Rc::new(Origin::read(&asked));
            KNOWN.replace(Some((asked, origin.clone())));
            origin
        })
    }

    fn read(asked: &Asked) -> Origin {
        let headers: Value = asked
            .headers
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(Value::Null);
        let header = |name: &str| headers.get(name).and_then(Value::as_str);
        // The first address of a list of proxies is that of the client.
        let address_in = |list: &str| list.split(',').next()?.trim().parse::<IpAddr>().ok();
        let sources = asked.address_from.as_deref().map(CStr::to_string_lossy);
        let address = sources.unwrap_or_default().split(',').find_map(|source| {
            match source.trim().to_ascii_lowercase().as_str() {
                CONNECTION => client_address(),
                name => header(name)
                    .and_then(address_in)
                    .map(|address| address.to_string()),
            }
        });
        // Where auth.uid() is not what was bound, writing goes on.
        let hosts = host::user_id().ok().flatten();
        let user = hosts.unwrap_or_else(caller::claimed_user);
        Origin {
            user: user.map(|user| *user.as_bytes()),
            ip_address: address.and_then(|address| pg::Varlena::inet(&address)),
            // A text of PostgreSQL holds no NUL.
            user_agent: header("user-agent").map(|agent| {
                let printable = agent.chars().filter(|letter| !letter.is_control());
                pg::Varlena::text(&printable.take(1000).collect::<String>())
            }),
        }
    }
}

/// What an origin depends on.
#[derive(PartialEq, Eq)]
struct Asked {
    claims: Option<String>,
    /// Read by the host's auth.uid() before there was request.jwt.claims.
    legacy_user: Option<String>,
    headers: Option<String>,
    address_from: Option<CString>,
    /// Set where the host's auth.uid() is asked: what it says is good for one transaction.
    transaction: Option<u32>,
}

thread_local! {
    /// A session often makes many changes for one user.
    static KNOWN: RefCell<Option<(Asked, Rc<Origin>)>> = const { RefCell::new(None) };
}

impl Asked {
    fn now() -> Self {
        let transaction = pg::version::local_transaction_id();
        Self {
            claims: pg::session_setting(caller::CLAIMS_SETTING),
            legacy_user: pg::session_setting(c"request.jwt.claim.sub"),
            headers: pg::session_setting(c"request.headers"),
            address_from: settings::ip_address_from(),
            transaction: host::usable(host::UID).map(|_| transaction),
        }
    }
}

/// The client's address does not change in the life of a backend.
fn client_address() -> Option<String> {
    thread_local! {
        static ADDRESS: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
    }
    if let Some(known) = ADDRESS.with_borrow(Clone::clone) {
        return known;
    }
    let address = pg::one::<String>("SELECT pg_catalog.host(pg_catalog.inet_client_addr())", &[]);
    ADDRESS.replace(Some(address.clone()));
    address
}
