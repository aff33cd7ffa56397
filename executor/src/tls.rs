//! TLS for every client of the process: rustls with ring.

/// Makes ring the process's provider of cryptography, unless there is one already. To be called before a TLS client is
/// built; calling it again changes nothing.
pub fn install() {
    // An error says that a provider is there, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
