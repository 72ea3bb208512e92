//! What a session owes its peer beside messages: control frames, and the last word of a handshake.

use crate::error::CloseReason;
use crate::framing::{Control, MAX_CONTROL};
use crate::send_buffer::SendBuffer;

/// Control frames are made one at a time, when nothing else waits to be sent, in a place of their
/// own: an idle session answers a PING without a lease, and no application can fill their room. A
/// side whose messages wait owes no sign of life; these are one.
pub(crate) struct ControlQueue {
    bytes: [u8; MAX_CONTROL],
    /// The bytes from `head` to `tail` wait to be transmitted.
    head: u8,
    tail: u8,
    ping: bool,
    /// The newest, if several were asked for.
    pong: Option<[u8; 8]>,
    close: Option<CloseReason>,
    fin_made: bool,
    /// What waits to be transmitted was made behind the FIN.
    behind_fin: bool,
}

impl ControlQueue {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; MAX_CONTROL],
            head: 0,
            tail: 0,
            ping: false,
            pong: None,
            close: None,
            fin_made: false,
            behind_fin: false,
        }
    }

    pub(crate) fn ping(&mut self) {
        self.ping = true;
    }

    pub(crate) fn pong(&mut self, token: [u8; 8]) {
        self.pong = Some(token);
    }

    /// The session has failed: no more signs of life, no orderly end.
    pub(crate) fn close(&mut self, why: Option<CloseReason>) {
        (self.ping, self.pong, self.fin_made) = (false, None, true);
        self.close = why;
    }

    /// The last word of a handshake, as it is.
    pub(crate) fn say(&mut self, word: &[u8]) {
        self.bytes[..word.len()].copy_from_slice(word);
        (self.head, self.tail) = (0, word.len() as u8);
    }

    /// Nothing, not even what was begun.
    pub(crate) fn forget(&mut self) {
        self.close(None);
        (self.head, self.tail) = (0, 0);
    }

    /// Bytes that wait.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.head.into()..self.tail.into()]
    }

    /// `n` of the [`pending`](Self::pending) bytes are out.
    pub(crate) fn handle_transmitted(&mut self, n: usize) {
        self.head += n as u8;
    }

    /// Drops the signs of life that wait, even one that was begun, if the FIN is out; whether it is.
    pub(crate) fn forget_behind_fin(&mut self) -> bool {
        // Nothing that goes out behind the FIN is anything else.
        let out = self.fin_made && (self.head == self.tail || self.behind_fin);
        if out {
            self.forget();
        }
        out
    }

    /// Whether a FIN is due: all messages are queued, and where they end is to be said.
    fn owes_fin(&self, send_buffer: &SendBuffer) -> bool {
        send_buffer.is_sealed() && send_buffer.is_finished() && !self.fin_made
    }

    /// Whether nothing is owed and nothing waits.
    pub(crate) fn is_settled(&self, send_buffer: &SendBuffer) -> bool {
        self.head == self.tail
            && !self.ping
            && self.pong.is_none()
            && self.close.is_none()
            && !self.owes_fin(send_buffer)
    }

    /// Makes the next frame that is owed, if nothing waits that was made or queued before.
    pub(crate) fn make(&mut self, send_buffer: &mut SendBuffer) {
        if self.head < self.tail || !send_buffer.is_drained() {
            return;
        }
        self.behind_fin = self.fin_made;
        let control = if let Some(token) = self.pong.take() {
            Control::Pong(token)
        } else if core::mem::take(&mut self.ping) {
            Control::Ping(send_buffer.token())
        } else if self.owes_fin(send_buffer) {
            self.fin_made = true;
            Control::Fin
        } else if let Some(why) = self.close.take() {
            Control::Close(why)
        } else {
            return;
        };
        (self.head, self.tail) = (0, send_buffer.control(control, &mut self.bytes) as u8);
    }
}
