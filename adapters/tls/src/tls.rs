//! TLS as a machine.
//!
//! ```text
//!  transport          Tls                                        inner machine
//!   read ──▶ recv_space ─▶ input ─▶ rustls ─▶ reader ──────▶ recv_space
//!   write ◀─ poll_transmit ◀─ output ◀─ rustls ◀─ writer ◀── poll_transmit
//! ```
//! What comes in is decrypted in [`poll_event`](Protocol::poll_event) alone, and only as fast as the
//! inner machine takes it. What goes out is encrypted a buffer at a time, and the inner machine is told
//! that it has left when its ciphertext has: so its deadlines, its leases and its signs of life mean
//! what they mean without TLS. Until the TLS handshake is over the inner machine hears nothing but the
//! time, and its handshake's deadline is that of both.
//!
//! Here are its state, its beginning and its failure; `receive` and `send` have a direction each, and
//! `machine` what driver and application see.

mod protocol;
mod receive;
mod send;

use std::fmt;
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use crate::error::TlsError;
use countersign::{CloseReason, Error, Event, Instant, Protocol};
use countersign_host::StartError;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};

use crate::error::tls_error;
use crate::records::Records;

/// RFC 9266, section 4.2.
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Records that are left for alerts when the keys of TLS 1.2 are used up.
const SPARE_RECORDS: u64 = 16;
/// How long the last word of a connection that failed may take to leave.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long a record may take to arrive, and what TLS itself has to say to leave.
const STALL: Duration = Duration::from_secs(30);

/// A machine inside TLS, itself a machine. `M` is a pointer to it: a box, say.
pub struct Tls<M> {
    inner: M,
    tls: Connection,
    /// The TLS handshake is over, and the inner machine has been told.
    open: bool,
    /// The peer showed a certificate that is trusted.
    verified: bool,
    /// TLS failed.
    failed: Option<Error>,
    /// The inner machine did.
    inner_failed: bool,
    /// It may have, and has not been asked since.
    in_doubt: bool,

    /// Room for ciphertext, the front of which may be filled, and that in part looked at.
    input: Vec<u8>,
    filled: usize,
    taken: usize,
    /// The room was offered, and nobody has said what became of it.
    offered: bool,
    /// Where records begin and end in what was read.
    records: Records,
    /// When the record that has begun is to be whole, while we read.
    receive_by: Option<Instant>,
    /// How much of the TLS handshake was looked at, in bytes.
    handshake: usize,
    /// There may be decrypted bytes that the inner machine has not taken.
    plain: bool,
    /// It has announced a part that is not consumed.
    chunk: bool,
    /// It has said that its peer has finished.
    peer_finished: bool,
    /// The peer's close_notify has come.
    peer_closed: bool,
    eof: bool,
    /// What is at hand, or has come before, is dealt with first.
    broken: Option<Error>,

    /// Ciphertext to transmit, and how much of it is out.
    output: Vec<u8>,
    sent: usize,
    /// When it is to be, where that is not the inner machine's to say.
    send_by: Option<Instant>,
    /// The inner machine's bytes that it carries.
    carried: usize,
    /// Records that our keys are good for.
    records_left: u64,
    /// Our close_notify is on its way.
    closing: bool,
}

impl<M: DerefMut<Target: Protocol>> Tls<M> {
    /// The end that connected, to a server of this name. A session of the scheme `mutual` is to be
    /// configured [for a channel binding](countersign::Config::with_channel_binding), or it will not
    /// be bound to this connection; [`TlsFactory`](crate::TlsFactory) sees to that. A connection that
    /// takes up an earlier one fails.
    ///
    /// # Errors
    /// [`StartError::Channel`], also if `config` does not require the extended master secret, without
    /// which TLS 1.2 has no channel binding (RFC 9266, section 3).
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        inner: M,
    ) -> Result<Self, StartError> {
        if !config.require_ems {
            return Err(StartError::Channel);
        }
        let tls = ClientConnection::new(config, name).map_err(|_| StartError::Channel)?;
        Ok(Self::new(tls.into(), inner))
    }

    /// The end that was connected to. As for [`client`](Self::client).
    ///
    /// # Errors
    /// [`StartError::Channel`], also if `config` does not require the extended master secret.
    pub fn server(config: Arc<ServerConfig>, inner: M) -> Result<Self, StartError> {
        if !config.require_ems {
            return Err(StartError::Channel);
        }
        let tls = ServerConnection::new(config).map_err(|_| StartError::Channel)?;
        Ok(Self::new(tls.into(), inner))
    }

    fn new(tls: Connection, inner: M) -> Self {
        Self {
            inner,
            tls,
            open: false,
            verified: false,
            failed: None,
            inner_failed: false,
            in_doubt: false,
            input: Vec::new(),
            filled: 0,
            taken: 0,
            offered: false,
            records: Records::default(),
            receive_by: None,
            handshake: 0,
            plain: false,
            chunk: false,
            peer_finished: false,
            peer_closed: false,
            eof: false,
            broken: None,
            output: Vec::new(),
            sent: 0,
            send_by: None,
            carried: 0,
            records_left: u64::MAX,
            closing: false,
        }
    }

    fn has_failed(&self) -> bool {
        self.failed.is_some() || self.inner_failed
    }

    /// What the inner machine says, and whether it has failed.
    fn poll_inner(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        let event = self.inner.poll_event(now);
        self.in_doubt &= matches!(event, Ok(Some(_)));
        match &event {
            Ok(Some(Event::Chunk { .. })) => self.chunk = true,
            Ok(Some(Event::PeerFinished)) => self.peer_finished = true,
            Ok(_) => {}
            Err(_) => {
                self.inner_failed = true;
                self.hurry(now);
            }
        }
        event
    }

    /// TLS failed; its alert, if it has one, still goes out.
    fn fail(&mut self, error: Error, now: Instant) -> Error {
        self.failed = Some(error);
        self.carried = 0;
        self.forget_input();
        self.plain = false;
        self.receive_by = None;
        self.inner.abort(CloseReason::Protocol, now);
        self.send_by = Some(now.saturating_add(LAST_WORD));
        error
    }

    /// The TLS handshake is over: the inner machine's begins.
    fn begin(&mut self, now: Instant) -> Result<(), Error> {
        // With a context that is there and empty, which in TLS 1.2 is not the same as none.
        match self.tls.export_keying_material([0; 32], BINDING_LABEL, Some(&[])) {
            Ok(exporter) => self.inner.bind_channel(&exporter, now),
            Err(error) => return Err(self.fail(tls_error(&error), now)),
        }
        // Of a session that is taken up again nothing would have been verified here.
        if self.tls.handshake_kind() == Some(HandshakeKind::Resumed) {
            return Err(self.fail(Error::from(TlsError::Broken), now));
        }
        // TLS 1.3 changes its keys in time; with those of 1.2 no more can be said when they are used up.
        if let Some(SupportedCipherSuite::Tls12(suite)) = self.tls.negotiated_cipher_suite() {
            self.records_left = suite.common.confidentiality_limit.saturating_sub(SPARE_RECORDS);
        }
        self.verified = self.tls.peer_certificates().is_some();
        // Something may have come right behind the handshake.
        (self.open, self.plain) = (true, true);
        Ok(())
    }
}

/// Says where it is, and nothing of its bytes.
impl<M> fmt::Debug for Tls<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("open", &self.open)
            .field("closing", &self.closing)
            .field("peer_closed", &self.peer_closed)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
