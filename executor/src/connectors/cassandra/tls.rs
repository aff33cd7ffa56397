//! TLS to Cassandra: the connector's `spark.cassandra.connection.ssl.*`, by OpenSSL.
//!
//! The files are read where the connection is made, which is on the scheduler and on every executor. Stores are PKCS12
//! or PEM; Java's own format is refused with the command that converts it. As in the connector, the server's
//! certificate must be vouched for, by whom the trust store names and by nobody else. It is not compared with the address
//! then, since the certificates of a ring seldom name its nodes: `headwater.ssl.verifyHost` asks for that as well. The
//! system's authorities vouch for everybody, so that where there is no trust store the address is compared always.

use crate::tls::{PEM, PKCS12, store_type};
use headwater_proto::error::{Error, Result};
use openssl::error::ErrorStack;
use openssl::pkcs12::{ParsedPkcs12_2, Pkcs12};
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509VerifyResult};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::Path;

const PREFIX: &str = "spark.cassandra.connection.ssl";
/// OpenSSL's `X509_V_ERR_HOSTNAME_MISMATCH` and `X509_V_ERR_IP_ADDRESS_MISMATCH`, which its bindings do not name.
const NAME_MISMATCHES: [i32; 2] = [62, 64];

/// How the line to a cluster is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tls {
    /// Who may vouch for a server; the system's authorities when unset.
    truststore: Option<Store>,
    /// Who we are, for servers that ask.
    keystore: Option<Store>,
    /// The oldest version of the protocol, when one is named.
    version: Option<Version>,
    /// Whether a certificate must be for the node's IP address; without a trust store it must in any case.
    verify_host: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Version {
    Tls12,
    Tls13,
}

/// A file of certificates and keys.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Store {
    path: String,
    pkcs12: bool,
    password: Option<String>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

fn invalid(message: String) -> Error {
    Error::invalid("CASSANDRA_INVALID_OPTION", message)
}

impl Store {
    /// The store of `spark.cassandra.connection.ssl.{which}.*`, where a path is given.
    fn parse<'a>(which: &str, text: &impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>> {
        let option = |what: &str| format!("{PREFIX}.{which}.{what}");
        let Some(path) = text(&option("path")).filter(|path| !path.is_empty()) else { return Ok(None) };
        let pkcs12 = match store_type(text(&option("type")), path).as_str() {
            PKCS12 => true,
            PEM => false,
            other => {
                return Err(invalid(format!(
                    "option {} is {path}, a store of type {other}, which cannot be read here: convert it (keytool \
                     -importkeystore -srckeystore {path} -destkeystore {which}.p12 -deststoretype PKCS12) and set {} to \
                     PKCS12, or give a PEM file",
                    option("path"),
                    option("type"),
                )));
            }
        };
        Ok(Some(Self { path: path.into(), pkcs12, password: text(&option("password")).map(String::from) }))
    }

    fn error(&self, why: impl fmt::Display) -> Error {
        Error::invalid("TLS_INVALID_CERTIFICATE", format!("store {} of {PREFIX}.* cannot be used: {why}", self.path))
    }

    async fn read(&self) -> Result<Vec<u8>> {
        tokio::fs::read(Path::new(&self.path)).await.map_err(|why| self.error(why))
    }

    fn open(&self, bytes: &[u8]) -> Result<ParsedPkcs12_2> {
        Pkcs12::from_der(bytes)
            .and_then(|store| store.parse2(self.password.as_deref().unwrap_or_default()))
            .map_err(|why| self.error(format_args!("{}; check its password and type", reasons(&why))))
    }

    /// The certificates in it, as the only roots of trust of `builder`, which begins with the system's.
    async fn trust(&self, builder: &mut SslConnectorBuilder) -> Result<()> {
        let bytes = self.read().await?;
        let certificates = if self.pkcs12 {
            let store = self.open(&bytes)?;
            store.cert.into_iter().chain(store.ca.into_iter().flatten()).collect()
        } else {
            X509::stack_from_pem(&bytes).map_err(|why| self.error(reasons(&why)))?
        };
        if certificates.is_empty() {
            return Err(self.error("there is no certificate in it"));
        }
        let mut roots = X509StoreBuilder::new().map_err(|why| self.error(reasons(&why)))?;
        for certificate in certificates {
            roots.add_cert(certificate).map_err(|why| self.error(reasons(&why)))?;
        }
        builder.set_cert_store(roots.build());
        Ok(())
    }

    /// The key and certificates in it, as what `builder` presents.
    async fn present(&self, builder: &mut SslConnectorBuilder) -> Result<()> {
        let bytes = self.read().await?;
        let (key, mut chain) = if self.pkcs12 {
            let store = self.open(&bytes)?;
            (store.pkey, store.cert.into_iter().chain(store.ca.into_iter().flatten()).collect::<Vec<_>>())
        } else {
            let password = self.password.as_deref().unwrap_or_default().as_bytes();
            let key =
                PKey::private_key_from_pem_passphrase(&bytes, password).map_err(|why| self.error(reasons(&why)))?;
            (Some(key), X509::stack_from_pem(&bytes).map_err(|why| self.error(reasons(&why)))?)
        };
        let Some(key) = key else { return Err(self.error("there is no private key in it")) };
        if chain.is_empty() {
            return Err(self.error("there is no certificate in it"));
        }
        let own = chain.remove(0);
        (|| {
            builder.set_certificate(&own)?;
            for certificate in chain {
                builder.add_extra_chain_cert(certificate)?;
            }
            builder.set_private_key(&key)?;
            builder.check_private_key()
        })()
        .map_err(|why: ErrorStack| self.error(reasons(&why)))
    }
}

impl Tls {
    /// What the options say, found by name in `text`; none where the line is plain text.
    ///
    /// # Errors
    /// A value that is none of those there are, a store of another type, a client's certificate without its store.
    pub fn parse<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>> {
        let boolean = |name: &str| match text(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(invalid(format!("option {name} is '{other}': expected true or false"))),
        };
        let enabled = boolean(&format!("{PREFIX}.enabled"))?;
        let client_auth = boolean(&format!("{PREFIX}.clientAuth.enabled"))?;
        let verify_host = boolean("headwater.ssl.verifyHost")?;
        if !enabled {
            return Ok(None);
        }
        let protocol = format!("{PREFIX}.protocol");
        let version = match text(&protocol) {
            None | Some("" | "TLS") => None,
            Some("TLSv1.2") => Some(Version::Tls12),
            Some("TLSv1.3") => Some(Version::Tls13),
            Some(other) => {
                return Err(invalid(format!("option {protocol} is '{other}': expected TLS, TLSv1.2 or TLSv1.3")));
            }
        };
        let keystore = if client_auth { Store::parse("keyStore", &text)? } else { None };
        if client_auth && keystore.is_none() {
            return Err(Error::invalid(
                "CASSANDRA_MISSING_OPTION",
                format!("option {PREFIX}.clientAuth.enabled needs {PREFIX}.keyStore.path"),
            ));
        }
        Ok(Some(Self { truststore: Store::parse("trustStore", &text)?, keystore, version, verify_host }))
    }

    /// Whether a certificate may be for another address: only where the options name who vouches for the ring.
    fn any_address(&self) -> bool {
        !self.verify_host && self.truststore.is_some()
    }

    /// What the driver makes its connections with.
    ///
    /// # Errors
    /// `TLS_INVALID_CERTIFICATE`: a store that cannot be read, with its path.
    pub async fn connector(&self) -> Result<SslConnectorBuilder> {
        let failed = |why: ErrorStack| Error::internal(reasons(&why));
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
        match &self.truststore {
            Some(store) => store.trust(&mut builder).await?,
            // The OpenSSL that is built in knows no system.
            None => {
                let found = openssl_probe::probe();
                builder.load_verify_locations(found.cert_file.as_deref(), None).map_err(|why| {
                    Error::invalid(
                        "TLS_INVALID_CERTIFICATE",
                        format!(
                            "this system's authorities cannot be read ({}): set {PREFIX}.trustStore.path",
                            reasons(&why)
                        ),
                    )
                })?;
            }
        }
        if let Some(store) = &self.keystore {
            store.present(&mut builder).await?;
        }
        let version = self.version.map_or(SslVersion::TLS1_2, |version| match version {
            Version::Tls12 => SslVersion::TLS1_2,
            Version::Tls13 => SslVersion::TLS1_3,
        });
        builder.set_min_proto_version(Some(version)).map_err(failed)?;
        if self.any_address() {
            // The driver asks for the address to be compared; that alone is forgiven.
            builder.set_verify_callback(SslVerifyMode::PEER, |vouched, context| {
                if !vouched && NAME_MISMATCHES.contains(&context.error().as_raw()) {
                    context.set_error(X509VerifyResult::OK);
                    return true;
                }
                vouched
            });
        }
        Ok(builder)
    }
}

/// The reasons of a stack of errors, without places in OpenSSL's source.
fn reasons(errors: &ErrorStack) -> String {
    let reasons: Vec<_> = errors.errors().iter().filter_map(openssl::error::Error::reason).collect();
    if reasons.is_empty() { errors.to_string() } else { reasons.join(", ") }
}

/// A failed handshake as an error that no repetition mends; none where `error` is another failure of the line.
pub fn handshake_error(error: &io::Error, label: &str) -> Option<Error> {
    let tls = error.get_ref()?.downcast_ref::<openssl::ssl::Error>()?;
    // Without reasons of OpenSSL's own, the other end went away.
    tls.ssl_error()?;
    Some(Error::invalid(
        "CASSANDRA_TLS_FAILED",
        format!(
            "no encrypted connection to cassandra on {label}: {tls}; check {PREFIX}.trustStore.path, which must hold the \
             authority of its certificate (without one, the certificate must be for the node's IP address), and whether it \
             wants a client's certificate ({PREFIX}.clientAuth.enabled)"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn parse(pairs: &[(&str, &'static str)]) -> Result<Option<Tls>> {
        let options: BTreeMap<String, &'static str> =
            pairs.iter().map(|(name, value)| (format!("{PREFIX}.{name}"), *value)).collect();
        Tls::parse(|name| options.get(name).copied())
    }

    #[test]
    fn options_are_read_or_refused() {
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&[("enabled", "false"), ("trustStore.path", "/t.jks")]).unwrap(), None);
        let plain = parse(&[("enabled", "true")]).unwrap().unwrap();
        assert_eq!((plain.truststore, plain.keystore, plain.verify_host), (None, None, false));
        let refused = |pairs: &[(&str, &'static str)], expect: &str| {
            let error = parse(&[&[("enabled", "true")], pairs].concat()).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        refused(&[("trustStore.path", "/t.jks")], "keytool");
        refused(&[("trustStore.path", "/t.pem"), ("trustStore.type", "jks")], "type JKS");
        refused(&[("clientAuth.enabled", "true")], "keyStore.path");
        refused(&[("protocol", "SSLv3")], "TLSv1.2");
        refused(&[("clientAuth.enabled", "yes")], "true or false");
    }

    #[test]
    fn passwords_stay_out_of_debug() {
        let tls = parse(&[("enabled", "true"), ("trustStore.path", "/t.p12"), ("trustStore.password", "hunter2")]);
        let tls = tls.unwrap().unwrap();
        assert_eq!(tls.truststore.as_ref().and_then(|store| store.password.as_deref()), Some("hunter2"));
        assert!(!format!("{tls:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, garbage) = (folder.path().join("empty.pem"), folder.path().join("garbage.p12"));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&garbage, "no store").unwrap();
        for (path, expect) in [
            ("/nowhere/t.pem", "No such file"),
            (empty.to_str().unwrap(), "no certificate"),
            (garbage.to_str().unwrap(), "check its password"),
        ] {
            let store = Store { path: path.into(), pkcs12: path.ends_with(".p12"), password: None };
            let tls = Tls { truststore: Some(store), keystore: None, version: None, verify_host: false };
            let error = tls.connector().await.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(expect), "{error}");
        }
    }

    /// A certificate that vouches for itself.
    fn authority(name: &str) -> X509 {
        use openssl::asn1::Asn1Time;
        let key = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
        let mut subject = openssl::x509::X509NameBuilder::new().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let mut certificate = X509::builder().unwrap();
        certificate.set_version(2).unwrap();
        certificate.set_subject_name(&subject).unwrap();
        certificate.set_issuer_name(&subject).unwrap();
        certificate.set_pubkey(&key).unwrap();
        certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        certificate.sign(&key, openssl::hash::MessageDigest::sha256()).unwrap();
        certificate.build()
    }

    #[tokio::test]
    async fn a_trust_store_is_all_that_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring.pem");
        std::fs::write(&path, authority("ring").to_pem().unwrap()).unwrap();
        let store = Store { path: path.to_str().unwrap().into(), pkcs12: false, password: None };
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        // As the system's authorities are, where it has them.
        builder.cert_store_mut().add_cert(authority("public")).unwrap();
        store.trust(&mut builder).await.unwrap();
        let roots = builder.build().into_context().cert_store().all_certificates();
        let names: Vec<_> = roots.iter().map(|root| format!("{:?}", root.subject_name())).collect();
        assert!(names.len() == 1 && names[0].contains("ring"), "{names:?}");
    }

    #[test]
    fn public_authorities_vouch_for_an_address() {
        let store = ("trustStore.path", "/t.pem");
        let any_address = |pairs: &[(&str, &'static str)]| {
            parse(&[&[("enabled", "true")], pairs].concat()).unwrap().unwrap().any_address()
        };
        assert!(any_address(&[store]));
        assert!(!any_address(&[]));
        let tls = Tls { verify_host: true, ..parse(&[("enabled", "true"), store]).unwrap().unwrap() };
        assert!(!tls.any_address());
    }
}
