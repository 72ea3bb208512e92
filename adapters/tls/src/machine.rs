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
use std::io::{ErrorKind, Read, Write};
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use countersign::{
    Candidates, Error, Event, Instant, KeyError, KeyRequest, Machine, Outbox, Peer, Reason, Refuse,
    TimedOut, Truncated,
};
use countersign_drive::StartError;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::error::tls_error;
use crate::records::Records;

/// What is read at once: the longest record.
const INPUT_LEN: usize = 5 + (16 << 10) + 256;
/// RFC 9266, section 4.2.
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// How long the last word of a connection that failed may take to leave.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long that of one that ended in order may.
const FAREWELL: Duration = Duration::from_secs(30);

/// How long a record may take once it has begun, while it is read.
const STALL: Duration = Duration::from_secs(30);

/// A machine inside TLS, itself a machine. `M` is a pointer to it: a box, say.
pub struct Tls<M> {
    inner: M,
    tls: Connection,
    /// Ciphertext that was read and not looked at.
    input: Vec<u8>,
    /// How much of it there is; the rest is room.
    filled: usize,
    /// Of what there is, how much was looked at.
    taken: usize,
    /// Whether what was looked at ends within a record, and when that is given up.
    records: Records,
    stalled: Option<Instant>,
    /// Decrypted bytes that the inner machine has not taken.
    plain: usize,
    /// Ciphertext to transmit, and how much of it is out.
    output: Vec<u8>,
    sent: usize,
    /// The inner machine's bytes that it carries.
    carried: usize,
    /// The TLS handshake is over, and the inner machine has been told.
    open: bool,
    /// The peer showed a certificate that is trusted.
    verified: bool,
    /// Our close_notify is on its way.
    closing: bool,
    /// The peer's has come.
    peer_closed: bool,
    eof: bool,
    failed: Option<Error>,
    /// When what is left to say is dropped.
    parting: Option<Instant>,
}

impl<M: DerefMut<Target: Machine>> Tls<M> {
    /// The end that connected, to a server of this name. A session of the scheme `mutual` is to be
    /// configured [for a channel binding](countersign::Config::with_channel_binding), or it will not
    /// be bound to this connection.
    ///
    /// # Errors
    /// [`StartError::Channel`].
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        inner: M,
    ) -> Result<Self, StartError> {
        let tls = ClientConnection::new(config, name).map_err(|_| StartError::Channel)?;
        Ok(Self::new(tls.into(), inner))
    }

    /// The end that was connected to. As for [`client`](Self::client).
    ///
    /// # Errors
    /// [`StartError::Channel`].
    pub fn server(config: Arc<ServerConfig>, inner: M) -> Result<Self, StartError> {
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
            records: Records::default(),
            stalled: None,
            plain: 0,
            output: Vec::new(),
            sent: 0,
            carried: 0,
            open: false,
            verified: false,
            closing: false,
            peer_closed: false,
            eof: false,
            failed: None,
            parting: None,
        }
    }

    fn is_drained(&self) -> bool {
        self.sent == self.output.len() && !self.tls.wants_write()
    }

    /// Whether the inner machine has ended, and with it all but our close_notify.
    fn owes_close(&self) -> bool {
        !self.closing && self.failed.is_none() && self.inner.wants_shutdown()
    }

    /// TLS failed; its alert, if it has one, still goes out.
    fn fail(&mut self, error: Error, now: Instant) -> Error {
        self.failed = Some(error);
        self.carried = 0;
        self.forget_input();
        self.plain = 0;
        self.inner.abort(Reason::Protocol, now);
        self.parting = Some(now.saturating_add(LAST_WORD));
        error
    }

    fn forget_input(&mut self) {
        (self.input, self.filled, self.taken) = (Vec::new(), 0, 0);
    }

    /// Has rustls look at what was read, if anything was. Whether it did.
    fn decrypt(&mut self, now: Instant) -> Result<bool, Error> {
        if self.taken == self.filled {
            return Ok(false);
        }
        let mut rest = &self.input[self.taken..self.filled];
        let before = rest.len();
        // What it reads from is memory; its only error is of a message that is too long for it.
        let read = self.tls.read_tls(&mut rest);
        let looked_at = before - rest.len();
        if self.records.pass(&self.input[self.taken..self.taken + looked_at]) {
            self.stalled = None;
        }
        self.taken += looked_at;
        if self.taken == self.filled {
            self.forget_input();
        }
        if read.is_err() {
            return Err(self.fail(Error::Tls(countersign::BadTls::Broken), now));
        }
        let state = self.tls.process_new_packets();
        match state {
            Ok(state) => {
                self.plain = state.plaintext_bytes_to_read();
                self.peer_closed |= state.peer_has_closed();
                Ok(true)
            }
            Err(error) => Err(self.fail(tls_error(&error), now)),
        }
    }

    /// The TLS handshake is over: the inner machine's begins.
    fn begin(&mut self, now: Instant) -> Result<(), Error> {
        // With a context that is there and empty, which in TLS 1.2 is not the same as none.
        match self.tls.export_keying_material([0; 32], BINDING_LABEL, Some(&[])) {
            Ok(exporter) => self.inner.bind_channel(&exporter, now),
            Err(error) => return Err(self.fail(tls_error(&error), now)),
        }
        self.verified = self.tls.peer_certificates().is_some();
        self.open = true;
        Ok(())
    }

    /// Hands the inner machine decrypted bytes, or their end. Whether there was anything.
    fn deliver(&mut self, now: Instant) -> bool {
        if self.plain == 0 && !self.peer_closed {
            return false;
        }
        let space = self.inner.recv_space();
        if space.is_empty() {
            return false;
        }
        match self.tls.reader().read(space) {
            Ok(n) => {
                self.plain = self.plain.saturating_sub(n);
                self.inner.handle_received(n, now);
                if n == 0 {
                    self.inner.handle_eof(now);
                }
                true
            }
            // The end of the stream without close_notify, and nothing for now.
            Err(error) => {
                debug_assert!(error.kind() == ErrorKind::WouldBlock, "{error}");
                self.plain = 0;
                self.inner.handle_received(0, now);
                false
            }
        }
    }

    /// What an end of the transport's stream cuts off, where the peer has not said that it closes.
    fn cut_off(&self) -> Truncated {
        match self.inner.peer() {
            None => Truncated::Handshake,
            Some(_) if self.inner.is_receiving() => Truncated::Message,
            Some(_) => Truncated::Stream,
        }
    }

    fn next_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !self.open {
            if self.inner.is_done() {
                // Its deadline is over, or it was aborted.
                return self.inner.poll_event(now);
            }
            if !self.tls.is_handshaking() {
                self.begin(now)?;
            } else if !self.decrypt(now)? {
                if self.eof {
                    return Err(self.fail(Error::Truncated(Truncated::Handshake), now));
                }
                return Ok(None);
            }
        }
        loop {
            match self.inner.poll_event(now) {
                Ok(None) => {}
                ended @ Err(_) => {
                    self.part(now);
                    return ended;
                }
                event => return event,
            }
            if self.deliver(now) {
                continue;
            }
            // Not before the inner machine has taken what there was.
            if self.plain > 0 || !self.decrypt(now)? {
                break;
            }
        }
        let cut = self.eof && !self.peer_closed && self.plain == 0 && self.taken == self.filled;
        if cut && !self.inner.is_done() {
            let what = self.cut_off();
            return Err(self.fail(Error::Truncated(what), now));
        }
        Ok(None)
    }

    /// Encrypts what the inner machine has to say, if all before it is out.
    fn encrypt(&mut self, now: Instant) {
        if self.sent < self.output.len() {
            return;
        }
        (self.output, self.sent) = (Vec::new(), 0);
        if self.open && self.failed.is_none() && self.carried == 0 {
            let bytes = self.inner.poll_transmit(now);
            // It takes as many bytes as it has room for.
            self.carried = self.tls.writer().write(bytes).unwrap_or(0);
        }
        if self.owes_close() {
            self.tls.send_close_notify();
            self.closing = true;
            self.parting = Some(now.saturating_add(FAREWELL));
        }
        while self.tls.wants_write() {
            // What it writes to is memory.
            if self.tls.write_tls(&mut self.output).is_err() {
                break;
            }
        }
    }

    /// Bytes of a record that is not whole are in no buffer of the inner machine's, so its deadlines
    /// do not know of them. As with its own, time in which we do not read is not the peer's.
    fn watch(&mut self, now: Instant) {
        self.stalled = if self.open && self.records.is_within() && self.wants_read() {
            self.stalled.or(Some(now.saturating_add(STALL)))
        } else {
            None
        };
    }

    /// Once the inner machine has nothing more to say, what is left of it has a moment to leave.
    fn part(&mut self, now: Instant) {
        if self.inner.is_done() && !self.is_drained() {
            let soon = now.saturating_add(LAST_WORD);
            self.parting = Some(self.parting.map_or(soon, |at| at.min(soon)));
        }
    }

    /// What was encrypted last is out.
    fn settle(&mut self, now: Instant) {
        (self.output, self.sent) = (Vec::new(), 0);
        let carried = std::mem::take(&mut self.carried);
        if carried > 0 {
            self.inner.handle_transmitted(carried, now);
        }
        self.parting = None;
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
        may && self.taken == self.filled
            && self.plain == 0
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
        self.is_drained() && (self.closing || self.failed.is_some())
    }

    fn is_done(&self) -> bool {
        self.is_drained() && (self.failed.is_some() || (self.closing && self.inner.is_done()))
    }

    fn is_receiving(&self) -> bool {
        self.open && (self.inner.is_receiving() || self.records.is_within())
    }

    fn is_idle(&self) -> bool {
        self.open
            && self.inner.is_idle()
            && self.is_drained()
            && self.taken == self.filled
            && self.plain == 0
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
        self.inner.consume(now);
    }

    fn finish(&mut self, now: Instant) {
        self.inner.finish(now);
    }

    fn abort(&mut self, why: Reason, now: Instant) {
        self.inner.abort(why, now);
    }

    fn recv_space(&mut self) -> &mut [u8] {
        if !self.wants_read() {
            return &mut [];
        }
        self.input.resize(INPUT_LEN, 0);
        &mut self.input
    }

    fn handle_received(&mut self, n: usize, _now: Instant) {
        (self.filled, self.taken) = (n.min(self.input.len()), 0);
        if self.filled == 0 {
            self.forget_input();
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.eof = true;
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
        if self.stalled.is_some_and(|at| at <= now) {
            self.stalled = None;
            self.fail(Error::TimedOut(TimedOut::Receive), now);
        }
        self.part(now);
        if self.parting.is_some_and(|at| at <= now) {
            // Behind half a record nothing can be said.
            (self.parting, self.closing) = (None, true);
            while self.tls.wants_write() {
                if self.tls.write_tls(&mut std::io::sink()).is_err() {
                    break;
                }
            }
            (self.output, self.sent) = (Vec::new(), 0);
        }
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        let event = self.next_event(now);
        self.watch(now);
        event
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        self.encrypt(now);
        self.part(now);
        &self.output[self.sent..]
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        self.sent = (self.sent + n).min(self.output.len());
        if self.sent == self.output.len() {
            self.settle(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.inner.poll_timeout(), self.stalled, self.parting].into_iter().flatten().min()
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
