//! TLS towards the servers that a process is a client of: which certificates are believed.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::config::ConfigError;

/// The configuration keys that a fault is named by.
#[derive(Clone, Copy, Debug)]
pub struct TlsKeys {
    /// Where the server is named.
    pub url: &'static str,
    /// Where the file with authorities is named.
    pub ca_file: &'static str,
}

/// Believes a server whose certificate comes from `ca_file`, or from the system's authorities without one, and is made
/// out to the name that the server is reached by.
///
/// # Errors
/// The file holds no certificates, or there is no authority at all.
pub fn believing(ca_file: Option<&Path>, keys: TlsKeys) -> Result<ClientConfig, ConfigError> {
    let (key, certificates) = match ca_file {
        Some(path) => {
            let unreadable = |error| {
                let expected = format!("PEM with certificates in {} ({error})", path.display());
                ConfigError::invalid(keys.ca_file, expected)
            };
            let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            (keys.ca_file, certificates.map_err(unreadable)?)
        }
        // What cannot be read of the system's authorities is left out: those that could be may well be enough.
        None => (keys.url, rustls_native_certs::load_native_certs().certs),
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(ConfigError::invalid(key, "at least one authority to trust, for TLS"));
    }
    // Named, as the program holds more than one provider: rustls does not choose between them, and panics.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::invalid(keys.url, format!("TLS that can be set up ({error})")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
