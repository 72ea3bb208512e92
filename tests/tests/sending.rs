//! What is sent is sent whole and in order, whatever is called in between.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use countersign::{
    CloseReason, Event, Framing, Instant, Protocol, Remaining, Role, SendError, Session,
};
use countersign_tests::{
    Cover, Honest, Pools, Region, SECRET, Say, Speech, config, framing, hear, multiprocessing, role,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Lengths of what is around a sealed frame's payload, in bytes: N and the type, and the tag.
const TYPED: usize = 5;
const TAG: usize = 16;

#[derive(Clone, Debug)]
enum Call {
    /// A part of that length; what follows it.
    Chunk(usize, Follows),
    /// The same, written in place; the last of these was sent, the one before was not.
    Space(usize, usize, Follows),
    /// Room asked for and left alone.
    Leave(usize),
    Transmit(usize),
    Poll,
    /// Whether there are leases to be had.
    Dry(bool),
    /// A heartbeat passes, in which the peer asks for a sign of life.
    Beat,
    Finish,
    Abort,
}

#[derive(Clone, Copy, Debug)]
enum Follows {
    Nothing,
    /// What was announced, less this part.
    WhatIsDue,
    Bytes(u64),
    Unknown,
}

fn call() -> impl Strategy<Value = Call> {
    let len = || prop_oneof![4 => 0..12_usize, 2 => 40..70_usize, 1 => 0..200_usize];
    let follows = || {
        prop_oneof![
            4 => Just(Follows::Nothing),
            6 => Just(Follows::WhatIsDue),
            2 => (0..90_u64).prop_map(Follows::Bytes),
            1 => select(&[u64::MAX, u32::MAX as u64, i32::MAX as u64][..]).prop_map(Follows::Bytes),
            1 => Just(Follows::Unknown),
        ]
    };
    prop_oneof![
        12 => (len(), follows()).prop_map(|(len, follows)| Call::Chunk(len, follows)),
        4 => (len(), len(), follows()).prop_map(|(a, b, follows)| Call::Space(a, b, follows)),
        2 => len().prop_map(Call::Leave),
        10 => (0..90_usize).prop_map(Call::Transmit),
        8 => Just(Call::Poll),
        2 => any::<bool>().prop_map(Call::Dry),
        2 => Just(Call::Beat),
    ]
}

/// Some calls, then perhaps the end and some more.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let end = select(&[Call::Finish, Call::Abort][..]);
    (vec(call(), 0..80), vec(end, 0..3), vec(call(), 0..12))
        .prop_map(|(before, end, after)| [before, end, after].concat())
}

/// A frame that is no message, and that goes out when all that was queued before it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owed {
    Pong,
    Ping,
    Fin,
    Close,
}

struct Sender {
    session: Session<Region>,
    peer: Honest,
    pools: Pools,
    speech: Speech,
    now: Instant,
    capacity: usize,
    /// The frames of all that was taken. `None`: a byte that only who holds the key can tell.
    taken: Vec<Option<u8>>,
    /// The bytes of messages among them.
    said: Vec<u8>,
    transmitted: Vec<u8>,
    /// What the peer made of them, and for how many heartbeats it has heard nothing.
    heard: Vec<u8>,
    unheard: usize,
    owed: Vec<Owed>,
    /// Of such a frame, the bytes that have not been transmitted. It takes no room from messages.
    begun: usize,
    /// Bytes of the message begun that are due, or whether there is one.
    due: u64,
    in_message: bool,
    dry: bool,
    finished: bool,
    aborted: bool,
    /// Room for that many bytes was promised.
    promised: usize,
    fill: u8,
}

impl Sender {
    fn new(speech: Speech, role: Role, capacity: usize) -> Self {
        let pools = Pools::default();
        let config =
            speech.config(role, Honest::HEARTBEAT).with_stall_timeout(Duration::from_secs(1 << 20));
        let sizes = (config.receive_len(), capacity);
        let mut session = speech.end(role, &config, &pools, sizes);
        let (peer, _) = Honest::met(speech, &mut session);
        Self {
            session,
            peer,
            pools,
            speech,
            now: Instant::EPOCH,
            capacity,
            taken: Vec::new(),
            said: Vec::new(),
            transmitted: Vec::new(),
            heard: Vec::new(),
            unheard: 0,
            owed: Vec::new(),
            begun: 0,
            due: 0,
            in_message: false,
            dry: false,
            finished: false,
            aborted: false,
            promised: 0,
            fill: 0,
        }
    }

    fn framing(&self) -> Framing {
        self.speech.framing()
    }

    fn tag(&self) -> usize {
        if self.speech.is_tagged() { TAG } else { 0 }
    }

    /// A frame of that type.
    fn sealed(&self, kind: u8, payload: &[Option<u8>]) -> Vec<Option<u8>> {
        let n = (1 + payload.len() + self.tag()) as u32;
        let header = n.to_be_bytes().into_iter().chain([kind]).map(Some);
        header.chain(payload.iter().copied()).chain(vec![None; self.tag()]).collect()
    }

    /// The next frame that is owed, if its turn has come.
    fn make(&mut self) {
        if self.pending() > 0 || self.owed.is_empty() {
            return;
        }
        self.owed.sort_unstable();
        let frame = match self.owed.remove(0) {
            Owed::Pong => self.sealed(2, &[None; 8]),
            Owed::Ping => self.sealed(1, &[None; 8]),
            Owed::Fin => self.sealed(4, &[]),
            Owed::Close => self.sealed(5, &[Some(3)]),
        };
        self.begun = frame.len();
        self.taken.extend(frame);
    }

    fn owe(&mut self, owed: Owed) {
        if self.framing() == Framing::Sealed && !self.owed.contains(&owed) {
            self.owed.push(owed);
        }
    }

    fn pending(&self) -> usize {
        self.taken.len() - self.transmitted.len()
    }

    /// Bytes of messages that wait.
    fn queued(&self) -> usize {
        self.pending() - self.begun
    }

    fn leased(&self) -> bool {
        self.pools.send.held() > 0
    }

    fn remaining(&self, len: usize, follows: Follows) -> Remaining {
        match follows {
            Follows::Nothing => Remaining::End,
            Follows::WhatIsDue => Remaining::Bytes(self.due.saturating_sub(len as u64)),
            Follows::Bytes(n) => Remaining::Bytes(n),
            Follows::Unknown => Remaining::Unknown,
        }
    }

    /// The frame of such a part but for the part, what is due after it, and all that speaks against
    /// sending it.
    fn expect(
        &self,
        len: usize,
        remaining: Remaining,
        leased: bool,
    ) -> (Vec<u8>, u64, Vec<SendError>) {
        let mut against = Vec::new();
        if self.aborted {
            against.push(SendError::Ended);
        } else if self.finished {
            against.push(SendError::Finished);
        }
        let (mut header, mut due) = (Vec::new(), 0);
        if let Framing::U32 | Framing::Multiprocessing = self.framing() {
            let total = match remaining {
                Remaining::End => Some(len as u64),
                Remaining::Bytes(more) => more.checked_add(len as u64),
                Remaining::More | Remaining::Unknown => None,
            };
            due = total.map_or(0, |total| total - len as u64);
            match (total, total.and_then(|total| self.length(total))) {
                (Some(total), _) if self.due > 0 && total == self.due => {}
                (Some(_), _) if self.due > 0 => {
                    against.push(SendError::LengthMismatch { due: self.due });
                }
                (_, Some(length)) => header = length,
                _ => against.push(SendError::LengthNeeded),
            }
        }
        let max = match self.framing() {
            Framing::U32 => self.capacity - 4,
            // There is room for the longest header, though few have it.
            Framing::Multiprocessing => self.capacity - 12,
            // There is room for a tag even where there is none.
            Framing::Sealed => self.capacity - TYPED - TAG,
            _ => self.capacity,
        };
        if len > max {
            against.push(SendError::TooLong { max });
        }
        let needed = self.overhead(&header, len, remaining) + len;
        let awaiting_buffer = self.dry && !leased;
        if needed > 0 && (awaiting_buffer || self.queued() + needed > self.capacity) {
            against.push(SendError::Full);
        }
        (header, due, against)
    }

    /// How `total` bytes are announced; `None` if they cannot be.
    fn length(&self, total: u64) -> Option<Vec<u8>> {
        let short = match self.framing() {
            Framing::U32 => return Some(u32::try_from(total).ok()?.to_be_bytes().to_vec()),
            _ => i32::try_from(total).ok(),
        };
        let long = || [&[0xff; 4][..], &total.to_be_bytes()].concat();
        Some(short.map_or_else(long, |total| total.to_be_bytes().to_vec()))
    }

    /// How long what is around such a part is, in bytes.
    fn overhead(&self, header: &[u8], len: usize, remaining: Remaining) -> usize {
        match self.framing() {
            Framing::Sealed if len == 0 && !ends(remaining) => 0,
            Framing::Sealed => TYPED + self.tag(),
            _ => header.len(),
        }
    }

    /// Compares what came of an attempt with what was to come of it.
    fn attempted(
        &mut self,
        result: Result<(), SendError>,
        (header, due, against): (Vec<u8>, u64, Vec<SendError>),
        (bytes, remaining): (&[u8], Remaining),
    ) {
        let overhead = self.overhead(&header, bytes.len(), remaining);
        match result {
            Ok(()) => {
                assert_eq!(against, [], "it should not have been taken");
                let payload: Vec<_> = bytes.iter().copied().map(Some).collect();
                if self.framing() != Framing::Sealed {
                    self.taken.extend(header.into_iter().map(Some));
                    self.taken.extend(payload);
                } else if overhead > 0 {
                    self.in_message = !ends(remaining);
                    let kind = if self.in_message { 3 } else { 0 };
                    self.taken.extend(self.sealed(kind, &payload));
                }
                self.said.extend_from_slice(bytes);
                self.due = due;
            }
            Err(error) => {
                assert!(against.contains(&error), "{error:?} is not among {against:?}");
                if error == SendError::Full {
                    self.promised = self.promised.max(overhead + bytes.len());
                }
            }
        }
    }

    fn call(&mut self, call: &Call) {
        self.fill = self.fill.wrapping_add(1);
        match *call {
            Call::Chunk(len, follows) => {
                let remaining = self.remaining(len, follows);
                let expected = self.expect(len, remaining, self.leased());
                let bytes = vec![self.fill; len];
                let result = self.session.split().1.send_chunk(&bytes, remaining);
                self.attempted(result, expected, (&bytes, remaining));
            }
            Call::Space(left, len, follows) => {
                let remaining = self.remaining(len, follows);
                let first = self.expect(left, Remaining::End, self.leased());
                let around = self.overhead(&first.0, left, Remaining::End);
                let takes_lease = first.2.is_empty() && around + left > 0;
                let expected = self.expect(len, remaining, self.leased() || takes_lease);
                let fill = self.fill;
                let mut outbox = self.session.split().1;
                let before = outbox.send_space(left, Remaining::End).map(|space| space.fill(!fill));
                let result = outbox.send_space(len, remaining).map(|space| space.fill(fill));
                outbox.commit();
                outbox.commit();
                assert_eq!(before.is_ok(), first.2.is_empty());
                if before == Err(SendError::Full) {
                    self.promised = self.promised.max(around + left);
                }
                self.attempted(result, expected, (&vec![fill; len], remaining));
            }
            Call::Leave(len) => {
                let (header, due, against) = self.expect(len, Remaining::End, self.leased());
                let result = self.session.split().1.send_space(len, Remaining::End).map(|_| ());
                if result.is_ok() {
                    assert_eq!(against, []);
                } else {
                    self.attempted(result, (header, due, against), (&vec![0; len], Remaining::End));
                }
            }
            Call::Transmit(limit) => {
                self.make();
                let bytes = self.session.poll_transmit(self.now);
                let taken = &self.taken[self.transmitted.len()..];
                let shown = if self.begun > 0 { self.begun } else { taken.len() };
                assert_eq!(bytes.len(), shown);
                for (byte, taken) in bytes.iter().zip(taken) {
                    assert!(taken.is_none_or(|taken| taken == *byte), "{bytes:?} {taken:?}");
                }
                let bytes = bytes[..bytes.len().min(limit)].to_vec();
                self.session.handle_transmitted(bytes.len(), self.now);
                self.heard.extend(self.peer.hear(&bytes).into_iter().flat_map(|(_, chunk)| chunk));
                self.begun = self.begun.saturating_sub(bytes.len());
                self.transmitted.extend(bytes);
                if self.pending() == 0 {
                    self.unheard = 0;
                }
            }
            Call::Poll => self.poll(),
            Call::Dry(dry) => {
                self.dry = dry;
                self.pools.send.set_dry(dry);
            }
            Call::Beat => self.beat(),
            Call::Finish => {
                self.session.finish(self.now);
                if !self.finished && !self.aborted {
                    self.owe(Owed::Fin);
                }
                self.finished = true;
            }
            Call::Abort => {
                self.session.abort(CloseReason::Application, self.now);
                if !self.aborted {
                    self.owed.clear();
                    self.owe(Owed::Close);
                }
                self.aborted = true;
                self.promised = 0;
            }
        }
        assert_eq!(self.session.wants_write(), self.pending() > 0 || !self.owed.is_empty());
    }

    fn beat(&mut self) {
        let cut_off = self.finished && self.in_message;
        // Who hears nothing for seven would give up.
        if !self.speech.is_mutual() || self.aborted || cut_off || self.unheard > 5 {
            return;
        }
        self.unheard += 1;
        if self.pending() == 0 && self.owed.is_empty() {
            self.owe(Owed::Ping);
        }
        self.now = self.now.saturating_add(Honest::HEARTBEAT);
        self.session.handle_timeout(self.now);
        // Who has an answer to send need not ask.
        let ping = [self.peer.sent(), self.peer.say(&Say::Ping)].concat();
        let ring = self.speech.ring(SECRET);
        for (event, _) in hear(&mut self.session, &ring, &ping, self.now) {
            self.on_event(event);
        }
        self.owe(Owed::Pong);
    }

    fn on_event(&mut self, event: Event) {
        assert_eq!(event, Event::Writable);
        assert!(self.promised > 0, "room that nobody was promised");
        assert!(self.queued() + self.promised <= self.capacity, "there is not enough");
        self.promised = 0;
    }

    fn poll(&mut self) {
        while let Ok(Some(event)) = self.session.poll_event(self.now) {
            self.on_event(event);
        }
        // Who has finished needs no lease to be told that it may go on.
        let lease = self.finished || !self.dry || self.leased();
        let room = lease && self.queued() + self.promised <= self.capacity;
        assert!(self.promised == 0 || !room, "there is room and nobody says so");
    }
}

/// Whether nothing of a message follows.
fn ends(remaining: Remaining) -> bool {
    matches!(remaining, Remaining::End | Remaining::Bytes(0))
}

fn speech() -> impl Strategy<Value = Speech> {
    prop_oneof![
        3 => framing().prop_map(Speech::None),
        1 => multiprocessing(),
        3 => select(&Cover::ALL[..]).prop_map(Speech::Mutual),
    ]
}

proptest! {
    #![proptest_config(config(2500))]

    #[test]
    fn what_is_taken_goes_out_whole_and_nothing_else_does(
        speech in speech(),
        role in role(),
        capacity in prop_oneof![Just(64_usize), 64..150_usize],
        calls in calls(),
    ) {
        let mut sender = Sender::new(speech, role, capacity);
        for call in &calls {
            sender.call(call);
        }
        sender.call(&Call::Dry(false));
        while sender.session.wants_write() {
            sender.call(&Call::Transmit(33));
        }
        sender.call(&Call::Poll);
        sender.call(&Call::Transmit(1));
        prop_assert_eq!(sender.pending(), 0);
        if speech.is_mutual() {
            prop_assert_eq!(&sender.heard, &sender.said);
        }
        prop_assert_eq!(sender.promised, 0);
        prop_assert_eq!(sender.pools.held(), 0);
    }
}
