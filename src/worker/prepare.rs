//! Turns claimed rows into requests with their signing keys, or says why one cannot be sent. Reads secrets, and
//! warns once where one is missing; sends nothing and writes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pgrx::Uuid;
use pgrx::prelude::*;
use plugin_webhooks_core::endpoint::{Endpoint, Unusable};
use plugin_webhooks_core::failure::FailureKind;
use plugin_webhooks_core::request::Request;
use plugin_webhooks_core::retry::Schedule;
use plugin_webhooks_core::secret_names::AllowedNames;
use plugin_webhooks_core::signing_key::SigningKey;

use super::endpoints::{Endpoints, SecretRef, Target};
use super::in_flight::Attempt;
use crate::delivery::queue::Claimed;
use crate::limits::SECRET_REF_CHARACTERS;
use crate::secrets::Secret;
use crate::{error, pg, secrets, settings};

const NO_SECRET_REMEDY: &str =
    "Set secret_ref of the installation to the name of an existing secret.";

const NOT_BASE64_REMEDY: &str = "Store it with base64 after whsec_, or without whsec_.";

const NOT_ALLOWED_REMEDY: &str = "Correct secret_ref, plugin_webhooks.allowed_secret_names, or whose secret it is: \
    plugin_webhooks.refused_secret_refs lists such installations.";

/// A claimed delivery that can be sent when the claim has committed.
pub struct Prepared {
    pub attempt: Attempt,
    pub request: Request,
}

/// Why something cannot be sent.
#[derive(Clone)]
pub struct Refusal {
    pub kind: FailureKind,
    pub reason: String,
    /// Trying again would not help.
    pub dead: bool,
    /// The installation's own.
    schedule: Option<Schedule>,
}

/// A claimed delivery that cannot be sent.
pub struct Unsendable {
    pub attempt: Attempt,
    pub refusal: Refusal,
    /// Less than two seconds old.
    pub fresh: bool,
}

impl Unsendable {
    pub fn new(delivery: &Claimed, claim_id: i64, refusal: Refusal) -> Self {
        let mut attempt = attempt(delivery, claim_id);
        attempt.schedule.clone_from(&refusal.schedule);
        Self {
            attempt,
            refusal,
            fresh: delivery.fresh,
        }
    }
}

/// Why a secret cannot be used, and what to do about it.
struct Unreadable {
    reason: String,
    remedy: String,
}

/// A secret, and the key that it stands for.
struct Signing {
    secret: Secret,
    key: Arc<SigningKey>,
}

/// The secrets of one claim, by name: each is read once.
type Secrets = HashMap<String, Result<Option<Signing>, Unreadable>>;

/// Remembers endpoints, and which installations it has warned of.
#[derive(Default)]
pub struct Preparer {
    endpoints: Endpoints,
    names: AllowedNames,
    warned: HashSet<Uuid>,
    /// Somebody waits for the transaction, and may cancel it.
    in_call: bool,
}

impl Preparer {
    /// For a transaction that is not a worker's.
    pub fn in_call() -> Self {
        Self {
            in_call: true,
            ..Self::default()
        }
    }

    /// From now on, each installation is worth a warning again.
    pub fn forget_warnings(&mut self) {
        self.warned.clear();
    }

    /// Prepares the rows of one claim, in its transaction.
    pub fn prepare(
        &mut self,
        claimed: Vec<Claimed>,
        claim_id: i64,
    ) -> (Vec<Prepared>, Vec<Unsendable>) {
        let targets = self
            .endpoints
            .of(claimed.iter().map(|delivery| delivery.installation));
        self.names = settings::allowed_secret_names();
        let mut secrets = Secrets::new();
        let mut prepared = Vec::with_capacity(claimed.len());
        let mut unsendable = Vec::new();
        for delivery in claimed {
            match self.request(delivery, claim_id, &targets, &mut secrets) {
                Ok(request) => prepared.push(request),
                Err(reason) => unsendable.push(reason),
            }
        }
        (prepared, unsendable)
    }

    /// To which of these installations nothing can be sent now, and why.
    pub fn refusals(
        &mut self,
        installations: impl Iterator<Item = Uuid> + Clone,
    ) -> HashMap<Uuid, Refusal> {
        let targets = self.endpoints.of(installations.clone());
        self.names = settings::allowed_secret_names();
        let mut secrets = Secrets::new();
        let all: HashSet<Uuid> = installations.collect();
        all.into_iter()
            .filter_map(|id| {
                let refusal = self.destination(id, &targets, &mut secrets).err()?;
                Some((id, refusal))
            })
            .collect()
    }

    fn request(
        &mut self,
        mut delivery: Claimed,
        claim_id: i64,
        targets: &HashMap<Uuid, Target>,
        secrets: &mut Secrets,
    ) -> Result<Prepared, Unsendable> {
        let refused = |refusal| Unsendable::new(&delivery, claim_id, refusal);
        if delivery.body.is_none() {
            return Err(refused(too_long("payload")));
        }
        if delivery.event_type.is_none() {
            return Err(refused(too_long("event type")));
        }
        let (endpoint, key) = self
            .destination(delivery.installation, targets, secrets)
            .map_err(refused)?;
        // An installation without secret_ref never wanted a signature.
        let wanted = targets
            .get(&delivery.installation)
            .is_some_and(|target| matches!(target.secret_ref, SecretRef::Name(_)));
        if wanted && key.is_none() {
            self.warn_once(
                delivery.installation,
                "secret_ref resolves to no secret, its deliveries go out unsigned",
                NO_SECRET_REMEDY,
            );
        }
        let mut attempt = attempt(&delivery, claim_id);
        attempt.schedule.clone_from(&endpoint.retry_schedule);
        Ok(Prepared {
            attempt,
            request: Request {
                delivery_id: delivery.id.to_string(),
                event_type: delivery.event_type.take().unwrap_or_default(),
                body: delivery.body.take().unwrap_or_default(),
                key,
                endpoint,
            },
        })
    }

    /// Where the deliveries of an installation go, and what they are signed with.
    fn destination(
        &mut self,
        installation: Uuid,
        targets: &HashMap<Uuid, Target>,
        secrets: &mut Secrets,
    ) -> Result<(Endpoint, Option<Arc<SigningKey>>), Refusal> {
        let refusal = |kind, dead, reason| Refusal {
            kind,
            reason,
            dead,
            schedule: None,
        };
        let Some(target) = targets.get(&installation) else {
            let reason = "the installation is gone".into();
            return Err(refusal(FailureKind::Setting, false, reason));
        };
        let endpoint = match &*target.endpoint {
            Ok(endpoint) => endpoint.clone(),
            Err(unusable) => {
                let dead = matches!(unusable, Unusable::NoUrl(_));
                return Err(refusal(FailureKind::Setting, dead, unusable.to_string()));
            }
        };
        match self.key(installation, target, secrets) {
            Ok(key) => Ok((endpoint, key)),
            Err(reason) => Err(Refusal {
                schedule: endpoint.retry_schedule.clone(),
                ..refusal(FailureKind::Secret, false, reason)
            }),
        }
    }

    /// What a delivery is signed with, `None` for an unsigned one, or why it cannot be sent.
    fn key(
        &mut self,
        installation: Uuid,
        target: &Target,
        secrets: &mut Secrets,
    ) -> Result<Option<Arc<SigningKey>>, String> {
        if let SecretRef::TooLong = target.secret_ref {
            return Err(format!(
                "secret_ref is longer than {SECRET_REF_CHARACTERS} characters"
            ));
        }
        if let SecretRef::Name(name) = &target.secret_ref {
            let (tenant, plugin) = (target.tenant, target.plugin.as_str());
            if !secrets::may_refer(&self.names, name, tenant, plugin) {
                return self.refuse(installation);
            }
            let signing = secrets
                .entry(name.clone())
                .or_insert_with(|| read_signing(name, self.in_call));
            match signing {
                Ok(Some(signing)) if !signing.secret.is_for(tenant, plugin) => {
                    return self.refuse(installation);
                }
                Ok(Some(signing)) => {
                    // The next trouble is worth a new warning.
                    self.warned.remove(&installation);
                    return Ok(Some(Arc::clone(&signing.key)));
                }
                Ok(None) => {}
                Err(Unreadable { reason, remedy }) => {
                    self.warn_once(
                        installation,
                        &format!("its signing secret cannot be read: {reason}"),
                        remedy,
                    );
                    return Err("the signing secret cannot be read".into());
                }
            }
        }
        if settings::require_signature() {
            return Err(
                "unsigned: secret_ref resolves to no secret and plugin_webhooks.require_signature is on"
                    .into(),
            );
        }
        Ok(None)
    }

    /// Never unsigned: the tenant would not notice, and its receiver might take it.
    fn refuse(&mut self, installation: Uuid) -> Result<Option<Arc<SigningKey>>, String> {
        self.warn_once(
            installation,
            "secret_ref names a secret that it may not use",
            NOT_ALLOWED_REMEDY,
        );
        Err("secret_ref names a secret that this installation may not use".into())
    }

    fn warn_once(&mut self, installation: Uuid, reason: &str, remedy: &str) {
        if self.warned.insert(installation) {
            error::warn(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("plugin_webhooks: installation {installation}: {reason}"),
                remedy,
            );
        }
    }
}

/// The attempt that would send a delivery.
fn attempt(delivery: &Claimed, claim_id: i64) -> Attempt {
    Attempt {
        delivery: delivery.id,
        tenant: delivery.tenant,
        installation: delivery.installation,
        claim_id,
        failures: delivery.failures,
        body_bytes: delivery.body.as_ref().map_or(0, String::len),
        schedule: None,
    }
}

fn too_long(what: &str) -> Refusal {
    Refusal {
        kind: FailureKind::Payload,
        reason: format!("the {what} is too long to send"),
        dead: true,
        schedule: None,
    }
}

fn read_signing(name: &str, in_call: bool) -> Result<Option<Signing>, Unreadable> {
    let Some(secret) = read_secret(name, in_call)? else {
        return Ok(None);
    };
    match SigningKey::new(secret.text(), settings::standard_webhooks()) {
        Ok(key) => Ok(Some(Signing {
            secret,
            key: Arc::new(key),
        })),
        Err(error) => Err(Unreadable {
            reason: error.to_string(),
            remedy: NOT_BASE64_REMEDY.into(),
        }),
    }
}

/// A broken secret must not stop the others: reading one costs a subtransaction.
fn read_secret(name: &str, in_call: bool) -> Result<Option<Secret>, Unreadable> {
    // The claim saw rows that are younger than the transaction's snapshot; so must this.
    let read = || pg::with_latest_snapshot(|| secrets::by_name(name));
    let (reason, remedy) = match pg::caught_error(read) {
        Ok(Ok(secret)) => return Ok(secret),
        Ok(Err(report)) => (
            report.message().to_string(),
            report.hint().map(str::to_owned),
        ),
        Err(error) if in_call && pg::ends_transaction(&error) => error.rethrow(),
        Err(error) => (pg::caught_message(error), None),
    };
    Err(Unreadable {
        reason,
        remedy: remedy.unwrap_or_else(|| NO_SECRET_REMEDY.into()),
    })
}
