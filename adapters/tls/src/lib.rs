//! countersign sessions inside TLS, by [rustls].
//!
//! * [`Credentials`]: the certificate that an endpoint presents, and those that it trusts, from PEM.
//!   A trusted certificate that is not a CA's is a pin.
//! * [`TlsFactory`]: makes the protocol of each connection. Pass it to an adapter where you would pass
//!   a [`SessionFactory`].
//! * [`Tls`]: one connection, a [`Protocol`](countersign::Protocol) around another one. No adapter
//!   needs to know about TLS.
//! * [`TlsError`]: why TLS failed.
//!
//! # A session inside TLS
//!
//! ```
//! use std::task::Waker;
//! use countersign::{Config, Event, Instant, Protocol, Scheme};
//! use countersign_tls::{Credentials, Pools, PoolOptions, ProtocolFactory, SessionFactory, TlsFactory};
//!
//! # let key = rcgen::KeyPair::generate()?;
//! # let own = rcgen::CertificateParams::new(vec!["server.example".into()])?.self_signed(&key)?;
//! # let (certificate, key) = (own.pem(), key.serialize_pem());
//! // `certificate` and `key` are PEM: a self-signed certificate for "server.example".
//! let sessions = || SessionFactory::new(Config::new(Scheme::None), Pools::new(&PoolOptions::default()));
//! let presented = Credentials::new().with_certificate(certificate.as_bytes(), key.as_bytes())?;
//! let pinned = Credentials::new().with_trust(certificate.as_bytes())?;
//! let servers = TlsFactory::server(sessions(), &presented)?;
//! let clients = TlsFactory::client(sessions(), &pinned, "server.example")?;
//!
//! // Adapters do the rest. Here two protocols are connected in memory.
//! let now = Instant::EPOCH;
//! let mut client = clients.client(&Waker::noop().into(), now)?;
//! let mut server = servers.server(&Waker::noop().into(), now)?;
//! fn transfer(from: &mut dyn Protocol, to: &mut dyn Protocol, now: Instant) {
//!     let bytes = from.poll_transmit(now);
//!     let space = to.recv_space();
//!     let n = bytes.len().min(space.len());
//!     space[..n].copy_from_slice(&bytes[..n]);
//!     to.handle_received(n, now);
//!     from.handle_transmitted(n, now);
//! }
//! client.split().1.send(b"hello").unwrap_err(); // not before Established
//! loop {
//!     if let Some(Event::Established) = client.poll_event(now)? {
//!         client.split().1.send(b"hello")?;
//!     }
//!     transfer(&mut *client, &mut *server, now);
//!     if let Some(Event::Chunk { .. }) = server.poll_event(now)? {
//!         assert_eq!(server.split().0, b"hello");
//!         break;
//!     }
//!     transfer(&mut *server, &mut *client, now);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Properties
//!
//! * TLS 1.3, or TLS 1.2 with the extended master secret, by rustls with ring.
//! * Sessions of the scheme `mutual` are bound to their TLS connection by its exporter (RFC 9266). An
//!   attacker with certificates that both sides trust cannot relay them between two connections.
//! * No resumption, no early data, no ALPN: every connection verifies its certificates anew.
//! * An end of stream without close_notify is `Truncated`, unless the inner protocol has reported the
//!   peer's authenticated end of messages.
//! * One handshake deadline covers TLS and the session. At most 32 KiB of the peer's TLS handshake
//!   are read.
//!
//! # Debug assertions in rustls
//!
//! A peer can break a debug assertion of rustls by sending a bad record after our close_notify. In
//! debug builds this panics. To switch it off, put this into the `Cargo.toml` of your workspace:
//!
//! ```toml
//! [profile.dev.package.rustls]
//! debug-assertions = false
//! ```

mod credentials;
mod credentials_error;
mod hardening;
mod record_tracker;
mod tls;
mod tls_error;
mod tls_factory;
mod trusted_certificates;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use countersign;
pub use countersign_host::{
    BoxedProtocol, PoolOptions, Pools, ProtocolFactory, SessionFactory, StartError,
};
pub use rustls;

pub use credentials::Credentials;
pub use credentials_error::CredentialsError;
pub use tls::Tls;
pub use tls_error::TlsError;
pub use tls_factory::TlsFactory;
