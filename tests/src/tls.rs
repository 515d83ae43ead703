//! A certificate authority of our own and the certificates it issues.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::tree::Tree;

/// An authority that a server can be told to trust.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pem_path: PathBuf,
}

impl Ca {
    /// A new authority whose certificate lies in the tree, readable by the servers.
    pub fn create(tree: &Tree) -> Ca {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "plugin_webhooks test authority");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a self-signed certificate");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pem_path = tree.dir().join(format!("ca{number}.pem"));
        fs::write(&pem_path, issuer.pem()).expect("write the authority's certificate");
        fs::set_permissions(&pem_path, fs::Permissions::from_mode(0o644))
            .expect("make it readable");
        Ca { issuer, pem_path }
    }

    /// The authority's certificate as a PEM file.
    pub fn pem_path(&self) -> &Path {
        &self.pem_path
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// What a TLS server needs to be one of `names` (host names or addresses).
    pub(crate) fn server_config(&self, names: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let params = CertificateParams::new(names).expect("names for a certificate");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("a certificate that fits its key");
        Arc::new(config)
    }
}
