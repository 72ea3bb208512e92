//! The options of TLS.

use std::path::PathBuf;

/// TLS, of a server.
#[derive(clap::Args)]
pub(crate) struct ServerTlsArgs {
    /// Accept TLS connections with the certificate in this PEM file, followed by its chain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in a PEM file that only its owner can read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Require client certificates that are in this PEM file, or signed by a CA in it
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
}

/// TLS, of a client.
#[derive(clap::Args)]
pub(crate) struct ClientTlsArgs {
    /// Connect inside TLS. The server's certificate must be signed by a CA in this PEM file and be for the
    /// server's name, or be in this file itself, with any name
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// The client certificate, in a PEM file, followed by its chain
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in a PEM file that only its owner can read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The name in the server's certificate, if it is not the host in ADDR; for a Unix socket the default
    /// is `localhost`
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub(crate) tls_name: Option<String>,
}
