//! Where the deliveries of an installation go. Each version of an installation's configuration is read and parsed
//! once, however many of its deliveries are claimed. Sends nothing.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::Uuid;
use plugin_webhooks_core::endpoint::{Endpoint, Unusable};

use crate::delivery::installations;
use crate::pg::BoundedText;

/// Installations remembered at most; then it starts again.
const MOST: usize = 1_000;

/// The name of a signing secret.
pub enum SecretRef {
    None,
    Name(String),
    TooLong,
}

/// What is known of an installation when its deliveries are claimed.
pub struct Target {
    pub endpoint: Rc<Result<Endpoint, Unusable>>,
    pub secret_ref: SecretRef,
    pub tenant: Uuid,
    pub plugin: String,
}

/// An endpoint, and the version of the row that it was read from.
struct Known {
    version: String,
    endpoint: Rc<Result<Endpoint, Unusable>>,
}

/// Remembers endpoints from claim to claim.
#[derive(Default)]
pub struct Endpoints {
    known: HashMap<Uuid, Known>,
}

impl Endpoints {
    /// The installations of one claim, with one query.
    pub fn of(&mut self, installations: impl Iterator<Item = Uuid>) -> HashMap<Uuid, Target> {
        let ids: Vec<Uuid> = installations.collect::<HashSet<_>>().into_iter().collect();
        if ids.is_empty() {
            return HashMap::new();
        }
        if self.known.len() + ids.len() > MOST {
            self.known.clear();
        }
        let version = |id| self.known.get(id).map(|known| known.version.clone());
        let versions = ids.iter().map(version).collect();
        let mut targets = HashMap::with_capacity(ids.len());
        for found in installations::read(ids, versions) {
            let secret_ref = match found.secret_ref {
                None => SecretRef::None,
                Some(BoundedText(Some(name))) => SecretRef::Name(name),
                Some(BoundedText(None)) => SecretRef::TooLong,
            };
            if let Some(config) = found.config {
                let endpoint = Rc::new(installations::endpoint(config));
                let version = found.version;
                self.known.insert(found.id, Known { version, endpoint });
            }
            if let Some(known) = self.known.get(&found.id) {
                let endpoint = known.endpoint.clone();
                let target = Target {
                    endpoint,
                    secret_ref,
                    tenant: found.tenant,
                    plugin: found.plugin,
                };
                targets.insert(found.id, target);
            }
        }
        targets
    }
}
