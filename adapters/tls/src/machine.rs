//! TLS as a machine.
//!
//! ```text
//!  transport          Tls                                        inner machine
//!   read ──▶ recv_space ─▶ input ─▶ rustls ─▶ reader ──────▶ recv_space
//!   write ◀─ poll_transmit ◀─ output ◀─ rustls ◀─ writer ◀── poll_transmit
//! ```
//! What comes in is decrypted in [`poll_event`](Machine::poll_event) alone, and only as fast as the
//! inner machine takes it. What goes out is encrypted a buffer at a time, and the inner machine is told
//! that it has left when its ciphertext has: so its deadlines, its leases and its signs of life mean
//! what they mean without TLS. Until the TLS handshake is over the inner machine hears nothing but the
//! time, and its handshake's deadline is that of both.

use std::fmt;
use std::io::{Read, Write};
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use countersign::{
    BadTls, Candidates, Error, Event, Instant, KeyError, KeyRequest, Machine, Outbox, Peer, Reason,
    Refuse, TimedOut, Truncated,
};
use countersign_drive::StartError;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};

use crate::error::tls_error;
use crate::records::Records;

/// What is read at once: the longest record.
const INPUT_LEN: usize = 5 + (16 << 10) + 256;
/// RFC 9266, section 4.2.
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// The most that is taken of a TLS handshake, in bytes.
const MAX_HANDSHAKE: usize = 32 << 10;
/// How much of a message goes into one record, in bytes (RFC 8446, section 5.1).
const MAX_FRAGMENT: usize = 16 << 10;
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
    /// Ciphertext to transmit, and how much of it is out.
    output: Vec<u8>,
    sent: usize,
    /// When it is to be, where that is not the inner machine's to say.
    send_by: Option<Instant>,
    /// The inner machine's bytes that it carries.
    carried: usize,
    /// Records that our keys are good for.
    records_left: u64,
    /// The TLS handshake is over, and the inner machine has been told.
    open: bool,
    /// The peer showed a certificate that is trusted.
    verified: bool,
    /// Our close_notify is on its way.
    closing: bool,
    /// The peer's has come.
    peer_closed: bool,
    eof: bool,
    /// What is at hand, or has come before, is dealt with first.
    broken: Option<Error>,
    /// TLS failed.
    failed: Option<Error>,
    /// The inner machine did.
    inner_failed: bool,
    /// It has announced a part that is not consumed.
    part: bool,
    /// It has said that its peer has finished.
    peer_finished: bool,
}

impl<M: DerefMut<Target: Machine>> Tls<M> {
    /// The end that connected, to a server of this name. A session of the scheme `mutual` is to be
    /// configured [for a channel binding](countersign::Config::with_channel_binding), or it will not
    /// be bound to this connection; [`TlsSessions`](crate::TlsSessions) sees to that. A connection that
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
            input: Vec::new(),
            filled: 0,
            taken: 0,
            offered: false,
            records: Records::default(),
            receive_by: None,
            handshake: 0,
            plain: false,
            output: Vec::new(),
            sent: 0,
            send_by: None,
            carried: 0,
            records_left: u64::MAX,
            open: false,
            verified: false,
            closing: false,
            peer_closed: false,
            eof: false,
            broken: None,
            failed: None,
            inner_failed: false,
            part: false,
            peer_finished: false,
        }
    }

    fn is_drained(&self) -> bool {
        self.sent == self.output.len() && !self.tls.wants_write()
    }

    /// Whether the inner machine has ended its direction in order, and close_notify is to say so. After
    /// an error there is none, so that the peer can tell the end from one that was meant.
    fn owes_close(&self) -> bool {
        !self.closing && !self.has_failed() && self.inner.wants_shutdown()
    }

    fn has_failed(&self) -> bool {
        self.failed.is_some() || self.inner_failed
    }

    /// What the inner machine says, and whether it has failed.
    fn poll_inner(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        let event = self.inner.poll_event(now);
        match &event {
            Ok(Some(Event::Message { .. })) => self.part = true,
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
        self.inner.abort(Reason::Protocol, now);
        self.send_by = Some(now.saturating_add(LAST_WORD));
        error
    }

    fn forget_input(&mut self) {
        (self.input, self.filled, self.taken) = (Vec::new(), 0, 0);
    }

    /// Drops what waits to be transmitted.
    fn forget_output(&mut self) {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut std::io::sink()).is_err() {
                break;
            }
        }
        (self.output, self.sent, self.send_by) = (Vec::new(), 0, None);
    }

    /// Has rustls look at what was read, if anything was and it takes it. Whether it did.
    fn decrypt(&mut self) -> bool {
        if self.taken == self.filled || self.broken.is_some() {
            return false;
        }
        let mut rest = &self.input[self.taken..self.filled];
        let before = rest.len();
        let read = self.tls.read_tls(&mut rest);
        let n = before - rest.len();
        self.taken += n;
        if self.taken == self.filled {
            self.forget_input();
        }
        if !self.open {
            self.handshake += n;
        }
        // What it reads from is memory: its only error is of a message that is too long for it.
        if read.is_err() || self.handshake > MAX_HANDSHAKE {
            self.broken = Some(Error::Tls(BadTls::Broken));
            return false;
        }
        // What came before an error counts all the same.
        self.plain = self.open;
        match self.tls.process_new_packets() {
            Ok(state) if state.peer_has_closed() => {
                self.peer_closed = true;
                // Behind close_notify there is nothing (RFC 8446, section 6.1).
                self.forget_input();
                self.records = Records::default();
                self.receive_by = None;
            }
            Ok(_) => {}
            Err(error) => self.broken = Some(tls_error(&error)),
        }
        n > 0
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
            return Err(self.fail(Error::Tls(BadTls::Broken), now));
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

    /// Hands the inner machine decrypted bytes, or their end. Whether there was anything.
    fn deliver(&mut self, now: Instant) -> bool {
        if !self.plain && !self.peer_closed {
            return false;
        }
        let space = self.inner.recv_space();
        if space.is_empty() {
            return false;
        }
        // An error is that there is nothing for now.
        let read = self.tls.reader().read(space);
        self.inner.handle_received(*read.as_ref().unwrap_or(&0), now);
        match read {
            Ok(n) if n > 0 => true,
            Ok(_) => {
                self.plain = false;
                self.inner.handle_eof(now);
                true
            }
            Err(_) => {
                self.plain = false;
                false
            }
        }
    }

    /// What ends it when there is nothing more to deal with first.
    fn end(&mut self, now: Instant) -> Result<(), Error> {
        if self.part || self.plain {
            return Ok(());
        }
        if let Some(error) = self.broken {
            return Err(self.fail(error, now));
        }
        if self.eof && !self.peer_closed && self.taken == self.filled && !self.inner.is_done() {
            if self.peer_finished {
                // It has said so itself, and needs nobody's word.
                self.inner.handle_eof(now);
            } else {
                let what = self.cut_off();
                return Err(self.fail(Error::Truncated(what), now));
            }
        }
        Ok(())
    }

    /// What an end of the transport's stream cuts off, where the peer has not said that it closes.
    fn cut_off(&self) -> Truncated {
        match self.inner.peer() {
            None => Truncated::Handshake,
            Some(_) if self.inner.is_receiving() => Truncated::Message,
            Some(_) => Truncated::Stream,
        }
    }

    /// Encrypts what the inner machine has to say, if all before it is out.
    fn encrypt(&mut self, now: Instant) {
        if self.sent < self.output.len() {
            return;
        }
        (self.output, self.sent) = (Vec::new(), 0);
        if self.open && self.failed.is_none() && self.carried == 0 {
            let bytes = self.inner.poll_transmit(now);
            let records = bytes.len().div_ceil(MAX_FRAGMENT) as u64;
            if records > self.records_left {
                self.fail(Error::Tls(BadTls::KeysUsedUp), now);
            } else {
                self.records_left -= records;
                // It takes as many bytes as it has room for.
                self.carried = self.tls.writer().write(bytes).unwrap_or(0);
            }
        }
        if self.owes_close() {
            self.tls.send_close_notify();
            self.closing = true;
        }
        while self.tls.wants_write() {
            // What it writes to is memory.
            if self.tls.write_tls(&mut self.output).is_err() {
                break;
            }
        }
        // The inner machine sees to what it has to say itself, and until then to its handshake.
        if self.open && self.carried == 0 && !self.output.is_empty() {
            self.send_by.get_or_insert(now.saturating_add(STALL));
        }
    }

    /// Once an inner machine that failed has nothing more to say, what is left has a moment to leave.
    fn hurry(&mut self, now: Instant) {
        if self.inner_failed && self.inner.is_done() && !self.is_drained() {
            let soon = now.saturating_add(LAST_WORD);
            self.send_by = Some(self.send_by.map_or(soon, |at| at.min(soon)));
        }
    }

    /// What was encrypted last is out.
    fn settle(&mut self, now: Instant) {
        (self.output, self.sent, self.send_by) = (Vec::new(), 0, None);
        let carried = std::mem::take(&mut self.carried);
        if carried > 0 {
            self.inner.handle_transmitted(carried, now);
        }
    }

    /// Starts or stops the clock for the rest of a record.
    fn watch_records(&mut self, now: Instant, progress: bool) {
        if !self.open || self.records.at_boundary() || self.failed.is_some() {
            self.receive_by = None;
        } else if progress || self.receive_by.is_none() {
            self.receive_by = Some(now.saturating_add(STALL));
        }
    }
}

impl<M: DerefMut<Target: Machine>> Machine for Tls<M> {
    fn peer(&self) -> Option<Peer<'_>> {
        let mut peer = self.inner.peer()?;
        peer.authenticated |= self.verified;
        Some(peer)
    }

    fn key_request(&self) -> Option<KeyRequest<'_>> {
        self.inner.key_request()
    }

    fn wants_read(&self) -> bool {
        let may = self.failed.is_none() && !self.eof && !self.peer_closed;
        may && self.broken.is_none()
            && self.taken == self.filled
            && !self.plain
            && (!self.open || self.inner.wants_read())
            && !self.inner.is_done()
    }

    fn wants_write(&self) -> bool {
        let inner = self.open && self.failed.is_none() && self.inner.wants_write();
        !self.is_drained() || inner || self.owes_close()
    }

    fn starved(&self) -> bool {
        self.inner.starved()
    }

    fn wants_shutdown(&self) -> bool {
        let ended = self.closing || (self.inner_failed && self.inner.wants_shutdown());
        self.is_drained() && (self.failed.is_some() || ended)
    }

    fn is_done(&self) -> bool {
        let ended = (self.closing || self.inner_failed) && self.inner.is_done();
        self.is_drained() && (self.failed.is_some() || ended)
    }

    fn is_receiving(&self) -> bool {
        self.open && (!self.records.at_boundary() || self.inner.is_receiving())
    }

    fn is_idle(&self) -> bool {
        self.open
            && self.inner.is_idle()
            && self.is_drained()
            && self.records.at_boundary()
            && self.taken == self.filled
            && !self.plain
    }

    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, Refuse>,
        now: Instant,
    ) -> Result<(), KeyError> {
        self.inner.provide_key(answer, now)
    }

    /// Nothing: it is bound to this connection.
    fn bind_channel(&mut self, _exporter: &[u8; 32], _now: Instant) {}

    fn split(&mut self) -> (&[u8], Outbox<'_>) {
        self.inner.split()
    }

    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)> {
        let (mut peer, outbox) = self.inner.split_peer()?;
        peer.authenticated |= self.verified;
        Some((peer, outbox))
    }

    fn consume(&mut self, now: Instant) {
        self.part = false;
        self.inner.consume(now);
    }

    fn finish(&mut self, now: Instant) {
        self.inner.finish(now);
    }

    fn abort(&mut self, why: Reason, now: Instant) {
        self.inner.abort(why, now);
    }

    fn recv_space(&mut self) -> &mut [u8] {
        self.offered = self.wants_read();
        if !self.offered {
            // Time in which we do not read is not the peer's.
            self.receive_by = None;
            return &mut [];
        }
        self.input.resize(INPUT_LEN, 0);
        &mut self.input
    }

    fn handle_received(&mut self, n: usize, now: Instant) {
        if !std::mem::take(&mut self.offered) {
            return;
        }
        (self.filled, self.taken) = (n.min(self.input.len()), 0);
        let progress = self.records.pass(&self.input[..self.filled]);
        self.watch_records(now, progress);
        if self.filled == 0 {
            self.forget_input();
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.eof = true;
        self.receive_by = None;
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
        self.hurry(now);
        if self.send_by.is_some_and(|at| at <= now) {
            if !self.closing && !self.has_failed() {
                self.fail(Error::TimedOut(TimedOut::Send), now);
            }
            // Behind half a record nothing can be said.
            self.closing = true;
            self.forget_output();
        }
        if self.receive_by.is_some_and(|at| at <= now) && !self.has_failed() {
            self.fail(Error::TimedOut(TimedOut::Receive), now);
        }
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !self.open {
            if self.inner.is_done() {
                // Its deadline is over, or it was aborted.
                return self.poll_inner(now);
            }
            if !self.tls.is_handshaking() {
                self.begin(now)?;
            } else if !self.decrypt() {
                return match self.broken {
                    Some(error) => Err(self.fail(error, now)),
                    None if self.eof => Err(self.fail(Error::Truncated(Truncated::Handshake), now)),
                    None => Ok(None),
                };
            }
        }
        loop {
            if let Some(event) = self.poll_inner(now)? {
                return Ok(Some(event));
            }
            // Nothing is decrypted before the inner machine has taken what there was.
            if !self.deliver(now) && (self.plain || !self.decrypt()) {
                break;
            }
        }
        self.end(now)?;
        Ok(None)
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        self.encrypt(now);
        self.hurry(now);
        &self.output[self.sent..]
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        self.sent = (self.sent + n).min(self.output.len());
        if self.sent == self.output.len() {
            self.settle(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.inner.poll_timeout(), self.send_by, self.receive_by].into_iter().flatten().min()
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
