//! Frames that a session sends beside messages: control frames, and the alert of a failed handshake.

use crate::error::CloseReason;
use crate::framing::{Control, MAX_CONTROL};
use crate::send_buffer::SendBuffer;

/// Encodes one control frame at a time, into a buffer of its own, when no message waits.
///
/// The separate buffer lets an idle session answer a PING without a lease, and keeps room that the
/// application cannot fill. Queued messages take precedence: they serve as keepalive themselves.
pub(crate) struct ControlFrames {
    bytes: [u8; MAX_CONTROL],
    /// The bytes from `head` to `tail` wait to be transmitted.
    head: u8,
    tail: u8,
    ping: bool,
    /// The token of the newest PING that is not answered.
    pong: Option<[u8; 8]>,
    close: Option<CloseReason>,
    fin_encoded: bool,
    /// The bytes that wait were encoded after the FIN.
    encoded_after_fin: bool,
}

impl ControlFrames {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; MAX_CONTROL],
            head: 0,
            tail: 0,
            ping: false,
            pong: None,
            close: None,
            fin_encoded: false,
            encoded_after_fin: false,
        }
    }

    pub(crate) fn ping(&mut self) {
        self.ping = true;
    }

    pub(crate) fn pong(&mut self, token: [u8; 8]) {
        self.pong = Some(token);
    }

    /// The session has failed: drops the keepalives and the FIN, and queues a CLOSE if there is a
    /// reason to send.
    pub(crate) fn close(&mut self, why: Option<CloseReason>) {
        (self.ping, self.pong, self.fin_encoded) = (false, None, true);
        self.close = why;
    }

    /// Queues the alert of a failed handshake.
    pub(crate) fn queue_alert(&mut self, alert: &[u8]) {
        self.bytes[..alert.len()].copy_from_slice(alert);
        (self.head, self.tail) = (0, alert.len() as u8);
    }

    /// Drops everything, also a frame that is transmitted in part.
    pub(crate) fn clear(&mut self) {
        self.close(None);
        (self.head, self.tail) = (0, 0);
    }

    /// The bytes that wait to be transmitted.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.head.into()..self.tail.into()]
    }

    /// The first `n` of the [`pending`](Self::pending) bytes were transmitted.
    pub(crate) fn handle_transmitted(&mut self, n: usize) {
        self.head += n as u8;
    }

    /// If the FIN is transmitted, drops the keepalives, also one that is transmitted in part.
    /// Returns whether the FIN is transmitted.
    pub(crate) fn clear_after_fin(&mut self) -> bool {
        // Everything that was encoded after the FIN is a keepalive.
        let out = self.fin_encoded && (self.head == self.tail || self.encoded_after_fin);
        if out {
            self.clear();
        }
        out
    }

    /// Whether a FIN is to be sent: the framing has one and all messages are queued.
    fn needs_fin(&self, send_buffer: &SendBuffer) -> bool {
        send_buffer.is_sealed() && send_buffer.is_finished() && !self.fin_encoded
    }

    /// Whether nothing waits to be encoded or transmitted.
    pub(crate) fn is_empty(&self, send_buffer: &SendBuffer) -> bool {
        self.head == self.tail
            && !self.ping
            && self.pong.is_none()
            && self.close.is_none()
            && !self.needs_fin(send_buffer)
    }

    /// Encodes the next frame, unless an earlier frame or message still waits.
    pub(crate) fn encode_next(&mut self, send_buffer: &mut SendBuffer) {
        if self.head < self.tail || !send_buffer.is_drained() {
            return;
        }
        self.encoded_after_fin = self.fin_encoded;
        let control = if let Some(token) = self.pong.take() {
            Control::Pong(token)
        } else if core::mem::take(&mut self.ping) {
            Control::Ping(send_buffer.token())
        } else if self.needs_fin(send_buffer) {
            self.fin_encoded = true;
            Control::Fin
        } else if let Some(why) = self.close.take() {
            Control::Close(why)
        } else {
            return;
        };
        (self.head, self.tail) = (0, send_buffer.control(control, &mut self.bytes) as u8);
    }
}
