//! A certificate authority of our own and the certificates it issues.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::tree::Tree;

/// An authority that a server can be told to trust.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pem_path: Option<PathBuf>,
}

impl Default for Ca {
    fn default() -> Ca {
        Ca::new()
    }
}

impl Ca {
    /// A new authority.
    pub fn new() -> Ca {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "plugin_webhooks test authority");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a self-signed certificate");
        Ca {
            issuer,
            pem_path: None,
        }
    }

    /// A new authority whose certificate lies in the tree, readable by the servers.
    pub fn create(tree: &Tree) -> Ca {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut ca = Ca::new();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = tree.dir().join(format!("ca{number}.pem"));
        fs::write(&path, ca.pem()).expect("write the authority's certificate");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("make it readable");
        ca.pem_path = Some(path);
        ca
    }

    /// The authority's certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The file with it.
    ///
    /// # Panics
    /// When the authority was not created in a tree.
    #[track_caller]
    pub fn pem_path(&self) -> &Path {
        self.pem_path.as_deref().expect("an authority in a tree")
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A certificate of this authority for `names` (host names or addresses).
    pub fn identity(&self, names: &[&str]) -> Identity {
        self.certify(params(names))
    }

    /// The same, but its time is over.
    pub fn expired_identity(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.certify(params)
    }

    /// The same, but its time has not come.
    pub fn early_identity(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.not_before = date_time_ymd(4000, 1, 1);
        self.certify(params)
    }

    fn certify(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.der().clone(),
            key,
        }
    }
}

/// What a TLS server shows: a certificate, and the key that belongs to it.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    /// A certificate that no authority signed.
    pub fn self_signed(names: &[&str]) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(names).self_signed(&key).expect("a certificate");
        Identity {
            certificate: certificate.der().clone(),
            key,
        }
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], PrivateKeyDer::from(key))
            .expect("a certificate that fits its key");
        Arc::new(config)
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    CertificateParams::new(names).expect("names for a certificate")
}
