//! A session under test, and a model of what it must send.

use std::time::Duration;

use countersign::{
    CloseReason, Event, Framing, Instant, Protocol, Remaining, Role, SendError, Session,
};
use countersign_tests::{Action, HonestPeer, LeasedBuffer, Pools, SECRET, SessionSpec, receive};

use crate::call::{Call, Follows};

/// Lengths of what surrounds the payload of a sealed frame, in bytes: N and type, and the tag.
const TYPED: usize = 5;
const TAG: usize = 16;

/// A control frame. It is sent once everything queued before it has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Control {
    Pong,
    Ping,
    Fin,
    Close,
}

pub(crate) struct Sender {
    pub(crate) session: Session<LeasedBuffer>,
    peer: HonestPeer,
    pub(crate) pools: Pools,
    spec: SessionSpec,
    now: Instant,
    capacity: usize,
    /// The frames of everything accepted. `None` stands for a byte that depends on the key.
    accepted: Vec<Option<u8>>,
    /// The payload among them.
    pub(crate) payload_sent: Vec<u8>,
    transmitted: Vec<u8>,
    /// What the peer received, and for how many heartbeat intervals it has received nothing.
    pub(crate) payload_received: Vec<u8>,
    silent_intervals: usize,
    controls: Vec<Control>,
    /// How many bytes of a control frame are not yet transmitted. They take no space from messages.
    control_left: usize,
    /// How many announced bytes of the current message are outstanding, and whether there is one.
    outstanding: u64,
    in_message: bool,
    exhausted: bool,
    finished: bool,
    aborted: bool,
    /// After `Full`: for how many bytes `Writable` is due.
    pub(crate) promised: usize,
    fill: u8,
}

impl Sender {
    pub(crate) fn new(spec: SessionSpec, role: Role, capacity: usize) -> Self {
        let pools = Pools::default();
        let config = spec
            .config(role, HonestPeer::HEARTBEAT)
            .with_stall_timeout(Duration::from_secs(1 << 20));
        let sizes = (config.receive_len(), capacity);
        let mut session = spec.session(role, &config, &pools, sizes);
        let (peer, _) = HonestPeer::connected(spec, &mut session);
        Self {
            session,
            peer,
            pools,
            spec,
            now: Instant::EPOCH,
            capacity,
            accepted: Vec::new(),
            payload_sent: Vec::new(),
            transmitted: Vec::new(),
            payload_received: Vec::new(),
            silent_intervals: 0,
            controls: Vec::new(),
            control_left: 0,
            outstanding: 0,
            in_message: false,
            exhausted: false,
            finished: false,
            aborted: false,
            promised: 0,
            fill: 0,
        }
    }

    fn framing(&self) -> Framing {
        self.spec.framing()
    }

    fn tag(&self) -> usize {
        if self.spec.is_tagged() { TAG } else { 0 }
    }

    /// Returns the frame of that type and payload.
    fn sealed(&self, kind: u8, payload: &[Option<u8>]) -> Vec<Option<u8>> {
        let n = (1 + payload.len() + self.tag()) as u32;
        let header = n.to_be_bytes().into_iter().chain([kind]).map(Some);
        header.chain(payload.iter().copied()).chain(vec![None; self.tag()]).collect()
    }

    /// Starts the next control frame once everything before it is sent.
    fn start_control(&mut self) {
        if self.pending() > 0 || self.controls.is_empty() {
            return;
        }
        self.controls.sort_unstable();
        let frame = match self.controls.remove(0) {
            Control::Pong => self.sealed(2, &[None; 8]),
            Control::Ping => self.sealed(1, &[None; 8]),
            Control::Fin => self.sealed(4, &[]),
            Control::Close => self.sealed(5, &[Some(3)]),
        };
        self.control_left = frame.len();
        self.accepted.extend(frame);
    }

    fn queue_control(&mut self, control: Control) {
        if self.framing() == Framing::Sealed && !self.controls.contains(&control) {
            self.controls.push(control);
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.accepted.len() - self.transmitted.len()
    }

    /// Returns how many bytes of messages are queued.
    fn queued(&self) -> usize {
        self.pending() - self.control_left
    }

    fn leased(&self) -> bool {
        self.pools.send.held() > 0
    }

    fn remaining(&self, len: usize, follows: Follows) -> Remaining {
        match follows {
            Follows::Nothing => Remaining::End,
            Follows::Outstanding => Remaining::Bytes(self.outstanding.saturating_sub(len as u64)),
            Follows::Bytes(n) => Remaining::Bytes(n),
            Follows::Unknown => Remaining::Unknown,
        }
    }

    /// Returns what precedes such a chunk, what is outstanding after it, and every reason for which
    /// it may be refused.
    fn expect(&self, len: usize, remaining: Remaining) -> (Vec<u8>, u64, Vec<SendError>) {
        let mut reasons = Vec::new();
        if self.aborted {
            reasons.push(SendError::Ended);
        } else if self.finished {
            reasons.push(SendError::Finished);
        }
        let (mut header, mut outstanding) = (Vec::new(), 0);
        if let Framing::U32 | Framing::Multiprocessing = self.framing() {
            let total = match remaining {
                Remaining::End => Some(len as u64),
                Remaining::Bytes(more) => more.checked_add(len as u64),
                Remaining::More | Remaining::Unknown => None,
            };
            outstanding = total.map_or(0, |total| total - len as u64);
            match (total, total.and_then(|total| self.length(total))) {
                (Some(total), _) if self.outstanding > 0 && total == self.outstanding => {}
                (Some(_), _) if self.outstanding > 0 => {
                    reasons.push(SendError::LengthMismatch { due: self.outstanding });
                }
                (_, Some(length)) => header = length,
                _ => reasons.push(SendError::LengthNeeded),
            }
        }
        let max = match self.framing() {
            Framing::U32 => self.capacity - 4,
            // Space for the longest header is reserved, whichever header is used.
            Framing::Multiprocessing => self.capacity - 12,
            // Space for a tag is reserved, even if frames have none.
            Framing::Sealed => self.capacity - TYPED - TAG,
            _ => self.capacity,
        };
        if len > max {
            reasons.push(SendError::TooLong { max });
        }
        let needed = self.overhead(&header, len, remaining) + len;
        let awaiting_buffer = self.exhausted && !self.leased();
        if needed > 0 && (awaiting_buffer || self.queued() + needed > self.capacity) {
            reasons.push(SendError::Full);
        }
        (header, outstanding, reasons)
    }

    /// Returns the header that announces `total` bytes, or `None` if it cannot be expressed.
    fn length(&self, total: u64) -> Option<Vec<u8>> {
        let short = match self.framing() {
            Framing::U32 => return Some(u32::try_from(total).ok()?.to_be_bytes().to_vec()),
            _ => i32::try_from(total).ok(),
        };
        let long = || [&[0xff; 4][..], &total.to_be_bytes()].concat();
        Some(short.map_or_else(long, |total| total.to_be_bytes().to_vec()))
    }

    /// Returns how many bytes surround such a chunk.
    fn overhead(&self, header: &[u8], len: usize, remaining: Remaining) -> usize {
        match self.framing() {
            Framing::Sealed if len == 0 && !ends(remaining) => 0,
            Framing::Sealed => TYPED + self.tag(),
            _ => header.len(),
        }
    }

    /// Compares the result of a call with the expected one.
    fn check_result(
        &mut self,
        result: Result<(), SendError>,
        (header, outstanding, reasons): (Vec<u8>, u64, Vec<SendError>),
        (bytes, remaining): (&[u8], Remaining),
    ) {
        let overhead = self.overhead(&header, bytes.len(), remaining);
        match result {
            Ok(()) => {
                assert_eq!(reasons, [], "accepted in spite of");
                let payload: Vec<_> = bytes.iter().copied().map(Some).collect();
                if self.framing() != Framing::Sealed {
                    self.accepted.extend(header.into_iter().map(Some));
                    self.accepted.extend(payload);
                } else if overhead > 0 {
                    self.in_message = !ends(remaining);
                    let kind = if self.in_message { 3 } else { 0 };
                    self.accepted.extend(self.sealed(kind, &payload));
                }
                self.payload_sent.extend_from_slice(bytes);
                self.outstanding = outstanding;
            }
            Err(error) => {
                assert!(reasons.contains(&error), "{error:?} is not among {reasons:?}");
                if error == SendError::Full {
                    self.promised = self.promised.max(overhead + bytes.len());
                }
            }
        }
    }

    pub(crate) fn call(&mut self, call: &Call) {
        self.fill = self.fill.wrapping_add(1);
        match *call {
            Call::Chunk(len, follows) => {
                let remaining = self.remaining(len, follows);
                let expected = self.expect(len, remaining);
                let bytes = vec![self.fill; len];
                let result = self.session.split().1.send_chunk(&bytes, remaining);
                self.check_result(result, expected, (&bytes, remaining));
            }
            Call::InPlace(len, follows) => {
                let remaining = self.remaining(len, follows);
                let expected = self.expect(len, remaining);
                let fill = self.fill;
                let mut filled = false;
                let result = self.session.split().1.send_with(len, remaining, |space| {
                    assert_eq!(space, vec![0; len]);
                    space.fill(fill);
                    filled = true;
                });
                assert_eq!(filled, result.is_ok());
                self.check_result(result, expected, (&vec![fill; len], remaining));
            }
            Call::Transmit(limit) => {
                self.start_control();
                let bytes = self.session.poll_transmit(self.now);
                let accepted = &self.accepted[self.transmitted.len()..];
                let shown = if self.control_left > 0 { self.control_left } else { accepted.len() };
                assert_eq!(bytes.len(), shown);
                for (byte, accepted) in bytes.iter().zip(accepted) {
                    assert!(
                        accepted.is_none_or(|accepted| accepted == *byte),
                        "{bytes:?} {accepted:?}"
                    );
                }
                let bytes = bytes[..bytes.len().min(limit)].to_vec();
                self.session.handle_transmitted(bytes.len(), self.now);
                self.payload_received
                    .extend(self.peer.receive(&bytes).into_iter().flat_map(|(_, chunk)| chunk));
                self.control_left = self.control_left.saturating_sub(bytes.len());
                self.transmitted.extend(bytes);
                if self.pending() == 0 {
                    self.silent_intervals = 0;
                }
            }
            Call::Poll => self.poll(),
            Call::Exhausted(exhausted) => {
                self.exhausted = exhausted;
                self.pools.send.set_exhausted(exhausted);
            }
            Call::Heartbeat => self.heartbeat(),
            Call::Finish => {
                self.session.finish(self.now);
                if !self.finished && !self.aborted {
                    self.queue_control(Control::Fin);
                }
                self.finished = true;
            }
            Call::Abort => {
                self.session.abort(CloseReason::Application, self.now);
                if !self.aborted {
                    self.controls.clear();
                    self.queue_control(Control::Close);
                }
                self.aborted = true;
                self.promised = 0;
            }
        }
        assert_eq!(self.session.wants_write(), self.pending() > 0 || !self.controls.is_empty());
    }

    fn heartbeat(&mut self) {
        let cut_off = self.finished && self.in_message;
        // A peer that receives nothing for seven intervals closes the session.
        if !self.spec.is_mutual() || self.aborted || cut_off || self.silent_intervals > 5 {
            return;
        }
        self.silent_intervals += 1;
        if self.pending() == 0 && self.controls.is_empty() {
            self.queue_control(Control::Ping);
        }
        self.now = self.now.saturating_add(HonestPeer::HEARTBEAT);
        self.session.handle_timeout(self.now);
        // A session with an answer to send need not send a PING.
        let ping = [self.peer.output(), self.peer.perform(&Action::Ping)].concat();
        let keys = self.spec.keys(SECRET);
        for (event, _) in receive(&mut self.session, &keys, &ping, self.now) {
            self.on_event(event);
        }
        self.queue_control(Control::Pong);
    }

    fn on_event(&mut self, event: Event) {
        assert_eq!(event, Event::Writable);
        assert!(self.promised > 0, "Writable without Full");
        assert!(self.queued() + self.promised <= self.capacity, "Writable without enough space");
        self.promised = 0;
    }

    fn poll(&mut self) {
        while let Ok(Some(event)) = self.session.poll_event(self.now) {
            self.on_event(event);
        }
        // After the application has finished, `Writable` needs no lease.
        let lease = self.finished || !self.exhausted || self.leased();
        let room = lease && self.queued() + self.promised <= self.capacity;
        assert!(self.promised == 0 || !room, "space without Writable");
    }
}

/// Whether nothing of the message follows.
fn ends(remaining: Remaining) -> bool {
    matches!(remaining, Remaining::End | Remaining::Bytes(0))
}
