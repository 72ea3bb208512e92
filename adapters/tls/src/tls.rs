//! [`Tls`]: its state, its construction, the end of the TLS handshake, and failure.
//!
//! ```text
//!  transport          Tls                                         inner protocol
//!   read ──▶ recv_space ─▶ input ─▶ rustls ─▶ reader ───────▶ recv_space
//!   write ◀─ poll_transmit ◀─ output ◀─ rustls ◀─ writer ◀── poll_transmit
//! ```
//!
//! Received records are decrypted only in [`poll_event`](Protocol::poll_event), and only as fast as
//! the inner protocol consumes the plaintext. Sent bytes are encrypted one buffer at a time, and the
//! inner protocol's `handle_transmitted` is called only when the whole ciphertext has left. Its
//! deadlines, leases and heartbeats therefore work as they do without TLS.
//!
//! ```text
//!              finish_handshake                  needs_close_notify
//!  handshaking ───────────────▶ open ─────────────────────────────▶ write closed ──▶ done
//!       │                         │                                    │
//!       └──────── fail ───────────┴─────────────── fail ───────────────┘
//!                   │
//!                   ▼
//!            failed: the alert is sent within FINAL_FLUSH_TIMEOUT ──▶ done
//! ```
//!
//! While TLS is handshaking, the inner protocol receives only the passage of time. Its handshake
//! deadline covers both handshakes.
//!
//! `receive` and `send` hold one direction each; `protocol` implements [`Protocol`].

mod protocol;
mod receive;
mod send;

use std::fmt;
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use countersign::{CloseReason, Error, Event, Instant, Protocol};
use countersign_host::StartError;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};

use crate::record_tracker::RecordTracker;
use crate::tls_error::{TlsError, tls_error};

/// Label of the exporter for channel bindings (RFC 9266, section 4.2).
const CHANNEL_BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Records reserved for alerts when the keys of a TLS 1.2 connection are exhausted.
const ALERT_RECORD_RESERVE: u64 = 16;
/// Time for the remaining output of a failed connection to leave.
const FINAL_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for the rest of a record to arrive, and for TLS's own records to leave.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);

/// A protocol inside TLS, itself a [`Protocol`]. `P` is a pointer to the inner protocol, such as
/// `Box<Session<B>>` or [`BoxedProtocol`](countersign_host::BoxedProtocol).
///
/// [`TlsFactory`](crate::TlsFactory) makes one for each connection. Construct a `Tls` directly to
/// wrap a protocol of your own:
///
/// ```
/// use std::sync::Arc;
/// use countersign::{Buffers, Config, Instant, Nonce, Protocol, Scheme, Session};
/// use countersign_tls::{Tls, rustls};
///
/// let mut roots = rustls::RootCertStore::empty(); // add the CA's certificate here
/// let mut config = rustls::ClientConfig::builder()
///     .with_root_certificates(roots)
///     .with_no_client_auth();
/// config.require_ems = true;
/// config.resumption = rustls::client::Resumption::disabled();
///
/// let buffers = || vec![0; 1024].into_boxed_slice();
/// let buffers = Buffers { handshake: buffers(), receive: buffers(), send: buffers() };
/// let nonce = Nonce::from_bytes([7; Nonce::LEN]); // use Nonce::generate(&mut rng)
/// let session = Session::client(&Config::new(Scheme::None), nonce, buffers, Instant::EPOCH)?;
///
/// let name = "server.example".try_into()?;
/// let mut tls = Tls::client(Arc::new(config), name, Box::new(session))?;
/// let client_hello = tls.poll_transmit(Instant::EPOCH);
/// assert_eq!(client_hello[0], 22); // a handshake record
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tls<P> {
    inner: P,
    tls: Connection,
    /// The TLS handshake has finished, and the inner protocol has its channel binding.
    open: bool,
    /// The peer presented a certificate, and rustls accepted it.
    peer_verified: bool,
    /// Why TLS failed.
    error: Option<Error>,
    /// The inner protocol's `poll_event` returned an error.
    inner_failed: bool,
    /// A call that may have failed the inner protocol was made since it was last polled dry.
    inner_unpolled: bool,

    /// Receive buffer for ciphertext. Empty while it holds nothing.
    input: Vec<u8>,
    input_len: usize,
    /// Bytes of `input` that rustls has read.
    input_read: usize,
    /// `recv_space` returned `input`, and `handle_received` has not been called since.
    space_lent: bool,
    /// Record boundaries in the received bytes.
    records: RecordTracker,
    /// When the record that has begun must be complete. `None` while we do not read.
    recv_deadline: Option<Instant>,
    /// Bytes of the TLS handshake that rustls has read.
    handshake_len: usize,
    /// rustls may hold plaintext that the inner protocol has not received.
    plaintext_pending: bool,
    /// The inner protocol announced a chunk that is not consumed.
    chunk_held: bool,
    /// The inner protocol reported `PeerFinished`.
    peer_finished: bool,
    /// The peer's close_notify was received.
    close_notify_received: bool,
    eof_received: bool,
    /// An error in the peer's records. Reported after the plaintext before it is consumed.
    deferred_error: Option<Error>,

    /// Ciphertext to transmit.
    output: Vec<u8>,
    /// Bytes of `output` that were transmitted.
    output_sent: usize,
    /// When `output` must have left, where the inner protocol has no deadline for it.
    send_deadline: Option<Instant>,
    /// Bytes of the inner protocol that `output` contains.
    inner_in_flight: usize,
    /// Records that our keys may still protect.
    records_remaining: u64,
    /// Our close_notify is queued, or nothing can be sent any more.
    write_closed: bool,
}

impl<P: DerefMut<Target: Protocol>> Tls<P> {
    /// The client's end of a connection to the server `name`.
    ///
    /// Configure a session of the scheme `mutual`
    /// [for a channel binding](countersign::Config::with_channel_binding); otherwise it is not bound
    /// to this TLS connection. [`TlsFactory`](crate::TlsFactory) does this. A connection that resumes
    /// an earlier TLS session fails with [`TlsError::Broken`], so disable resumption in `config`.
    ///
    /// # Errors
    /// [`StartError::Channel`] if rustls refuses `config`, or if `config` does not require the
    /// extended master secret, without which TLS 1.2 has no channel binding (RFC 9266, section 3).
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        inner: P,
    ) -> Result<Self, StartError> {
        if !config.require_ems {
            return Err(StartError::Channel);
        }
        let tls = ClientConnection::new(config, name).map_err(|_| StartError::Channel)?;
        Ok(Self::new(tls.into(), inner))
    }

    /// The server's end of a connection. The requirements are those of [`client`](Self::client).
    ///
    /// # Errors
    /// [`StartError::Channel`] if rustls refuses `config`, or if `config` does not require the
    /// extended master secret.
    pub fn server(config: Arc<ServerConfig>, inner: P) -> Result<Self, StartError> {
        if !config.require_ems {
            return Err(StartError::Channel);
        }
        let tls = ServerConnection::new(config).map_err(|_| StartError::Channel)?;
        Ok(Self::new(tls.into(), inner))
    }

    fn new(tls: Connection, inner: P) -> Self {
        Self {
            inner,
            tls,
            open: false,
            peer_verified: false,
            error: None,
            inner_failed: false,
            inner_unpolled: false,
            input: Vec::new(),
            input_len: 0,
            input_read: 0,
            space_lent: false,
            records: RecordTracker::default(),
            recv_deadline: None,
            handshake_len: 0,
            plaintext_pending: false,
            chunk_held: false,
            peer_finished: false,
            close_notify_received: false,
            eof_received: false,
            deferred_error: None,
            output: Vec::new(),
            output_sent: 0,
            send_deadline: None,
            inner_in_flight: 0,
            records_remaining: u64::MAX,
            write_closed: false,
        }
    }

    fn has_failed(&self) -> bool {
        self.error.is_some() || self.inner_failed
    }

    /// Polls the inner protocol, and records what its events and errors mean here.
    fn poll_inner(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        let event = self.inner.poll_event(now);
        self.inner_unpolled &= matches!(event, Ok(Some(_)));
        match &event {
            Ok(Some(Event::Chunk { .. })) => self.chunk_held = true,
            Ok(Some(Event::PeerFinished)) => self.peer_finished = true,
            Ok(_) => {}
            Err(_) => {
                self.inner_failed = true;
                self.limit_final_flush(now);
            }
        }
        event
    }

    /// Fails the connection. An alert that rustls has queued is still sent.
    fn fail(&mut self, error: Error, now: Instant) -> Error {
        self.error = Some(error);
        self.inner_in_flight = 0;
        self.discard_input();
        self.plaintext_pending = false;
        self.recv_deadline = None;
        self.inner.abort(CloseReason::Protocol, now);
        self.send_deadline = Some(now.saturating_add(FINAL_FLUSH_TIMEOUT));
        error
    }

    /// Binds the inner protocol to the TLS connection whose handshake has just finished.
    fn finish_handshake(&mut self, now: Instant) -> Result<(), Error> {
        // The context is present and empty. In TLS 1.2 an absent context gives another exporter.
        match self.tls.export_keying_material([0; 32], CHANNEL_BINDING_LABEL, Some(&[])) {
            Ok(exporter) => self.inner.bind_channel(&exporter, now),
            Err(error) => return Err(self.fail(tls_error(&error), now)),
        }
        // No certificate is verified on a resumed session.
        if self.tls.handshake_kind() == Some(HandshakeKind::Resumed) {
            return Err(self.fail(Error::from(TlsError::Broken), now));
        }
        // TLS 1.3 updates its keys in time. TLS 1.2 cannot, so its records are counted.
        if let Some(SupportedCipherSuite::Tls12(suite)) = self.tls.negotiated_cipher_suite() {
            self.records_remaining =
                suite.common.confidentiality_limit.saturating_sub(ALERT_RECORD_RESERVE);
        }
        self.peer_verified = self.tls.peer_certificates().is_some();
        // Application data may have arrived directly behind the handshake.
        (self.open, self.plaintext_pending) = (true, true);
        Ok(())
    }
}

/// Prints the state of the connection, and none of its bytes.
impl<P> fmt::Debug for Tls<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("open", &self.open)
            .field("write_closed", &self.write_closed)
            .field("close_notify_received", &self.close_notify_received)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
