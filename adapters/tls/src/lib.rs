//! TLS around a countersign session: a machine around a machine, so that no adapter knows of it.
//!
//! * [`Tls`]: any [`Protocol`](countersign::Protocol) inside TLS 1.3, or 1.2 with the extended master
//!   secret.
//! * [`Credentials`]: what this end shows and whom it trusts, from PEM; a certificate that is no CA's
//!   is a pin.
//! * [`TlsFactory`]: makes them for adapters, and ties sessions of the scheme `mutual` to the very TLS
//!   connection that they are in (RFC 9266).
//!
//! TLS is rustls with ring. There is no resumption, no early data and no ALPN: a connection proves
//! whose it is anew, whatever was proved before.
//!
//! A peer can break a debug assertion of rustls, by a bad record after we have said that we close. In debug
//! builds that is a panic: switch it off by `[profile.dev.package.rustls]` with `debug-assertions = false`.

mod credentials;
mod error;
mod pins;
mod records;
mod tls;
mod tls_factory;

pub use credentials::{Credentials, CredentialsError};
pub use error::TlsError;
pub use tls::Tls;
pub use tls_factory::TlsFactory;
