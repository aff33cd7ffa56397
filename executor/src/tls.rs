//! TLS, the same for every client in this process: rustls with ring, installed once.
//!
//! reqwest and tokio-postgres are linked without a provider of their own; whoever makes one of their clients calls
//! [`install_provider`] first.

use headwater_proto::error::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::{Arc, Once};

/// Makes ring the process's provider of cryptography, unless an embedder has chosen another. Cheap to call again.
pub fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that there is one already, which is what is wanted.
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("another provider of cryptography is installed already");
        }
    });
}

fn provider() -> Arc<CryptoProvider> {
    install_provider();
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

/// Type of a store of keys or certificates that is text.
pub const PEM: &str = "PEM";
/// Type of a store that is a `.p12` file.
pub const PKCS12: &str = "PKCS12";

/// Which type of store a file is, in upper case: what is declared, else what its name says, else Java's default, `JKS`.
pub fn store_type(declared: Option<&str>, location: &str) -> String {
    let location = location.to_ascii_lowercase();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| location.ends_with(suffix));
    match declared {
        Some(declared) => declared.trim().to_ascii_uppercase(),
        None if ends(&[".pem", ".crt", ".cer"]) => PEM.into(),
        None if ends(&[".p12", ".pfx", ".pkcs12"]) => PKCS12.into(),
        None => "JKS".into(),
    }
}

/// The certificates of a PEM file, as roots of trust.
///
/// # Errors
/// A file that cannot be read or holds no certificate; the message names it.
pub fn roots_of(file: &Path) -> Result<RootCertStore> {
    let invalid = |why: String| {
        Error::invalid("TLS_INVALID_CERTIFICATE", format!("root certificates in {}: {why}", file.display()))
    };
    let pem = std::fs::read(file).map_err(|error| invalid(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() { Err(invalid("there is no certificate in it".into())) } else { Ok(roots) }
}

/// How much of a server's certificate is checked.
#[derive(Debug)]
pub enum Verify {
    /// Nothing: the line is encrypted, the other end unknown.
    Nothing,
    /// That a root vouches for it, not whose it is.
    Chain(RootCertStore),
    /// Also that it is for the host that was asked for.
    Host(RootCertStore),
}

/// A client's configuration that checks this much.
///
/// # Errors
/// Roots that make no verifier.
pub fn client_config(verify: Verify) -> Result<ClientConfig> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?;
    Ok(match verify {
        Verify::Host(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        Verify::Chain(roots) => {
            let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| Error::invalid("TLS_INVALID_CERTIFICATE", error))?;
            let lenient = Lenient { signatures: Signatures(self::provider()), chain: Some(chain) };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(lenient)).with_no_client_auth()
        }
        Verify::Nothing => {
            let lenient = Lenient { signatures: Signatures(provider), chain: None };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(lenient)).with_no_client_auth()
        }
    })
}

#[derive(Debug)]
struct Signatures(Arc<CryptoProvider>);

/// Checks the chain or nothing, never the name; the handshake's signatures always.
#[derive(Debug)]
struct Lenient {
    signatures: Signatures,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // The chain is checked before the name, so that a wrong name says that the chain is right.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.signatures.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.signatures.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_read_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let refused = |file: &Path| roots_of(file).unwrap_err().to_string();
        assert!(refused(&file).contains("ca.pem"), "{}", refused(&file));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(refused(&file).contains("no certificate"), "{}", refused(&file));
    }

    #[test]
    fn every_strictness_makes_a_configuration() {
        install_provider();
        install_provider();
        assert!(client_config(Verify::Nothing).is_ok());
        assert!(client_config(Verify::Host(RootCertStore::empty())).is_ok());
        let error = client_config(Verify::Chain(RootCertStore::empty())).unwrap_err();
        assert!(error.message.contains("root"), "{error}");
    }
}
