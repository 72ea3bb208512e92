//! What is sent is sent whole and in order, whatever is called in between.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{
    Config, Event, Framing, Instant, Machine, Nonce, Reason, Rest, Scheme, SendError, Session,
};
use countersign_tests::{Pools, Region, config};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const NOW: Instant = Instant::EPOCH;

#[derive(Clone, Debug)]
enum Call {
    /// A part of that length; what follows it.
    Part(usize, Follows),
    /// The same, written in place; the last of these was sent, the one before was not.
    Space(usize, usize, Follows),
    /// Room asked for and left alone.
    Leave(usize),
    Transmit(usize),
    Poll,
    /// Whether there are leases to be had.
    Dry(bool),
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
            1 => select(&[u64::MAX, u32::MAX as u64][..]).prop_map(Follows::Bytes),
            1 => Just(Follows::Unknown),
        ]
    };
    prop_oneof![
        12 => (len(), follows()).prop_map(|(len, follows)| Call::Part(len, follows)),
        4 => (len(), len(), follows()).prop_map(|(a, b, follows)| Call::Space(a, b, follows)),
        2 => len().prop_map(Call::Leave),
        10 => (0..90_usize).prop_map(Call::Transmit),
        8 => Just(Call::Poll),
        2 => any::<bool>().prop_map(Call::Dry),
    ]
}

/// Some calls, then perhaps the end and some more.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let end = select(&[Call::Finish, Call::Abort][..]);
    (vec(call(), 0..80), vec(end, 0..2), vec(call(), 0..12))
        .prop_map(|(before, end, after)| [before, end, after].concat())
}

struct Sender {
    session: Session<Region>,
    pools: Pools,
    framing: Framing,
    capacity: usize,
    /// The frames of all that was taken.
    taken: Vec<u8>,
    transmitted: Vec<u8>,
    /// Bytes of the message begun that are due.
    due: u64,
    dry: bool,
    finished: bool,
    aborted: bool,
    /// Room for that many bytes was promised.
    promised: usize,
    fill: u8,
}

impl Sender {
    fn new(framing: Framing, capacity: usize) -> Self {
        let pools = Pools::default();
        let config = Config::new(Scheme::None).with_framing(framing);
        let nonce = Nonce::from_bytes([0; Nonce::LEN]);
        let mut session =
            Session::client(&config, nonce, pools.buffers(64, capacity), NOW).unwrap();
        assert_eq!(session.poll_event(NOW), Ok(Some(Event::Established)));
        Self {
            session,
            pools,
            framing,
            capacity,
            taken: Vec::new(),
            transmitted: Vec::new(),
            due: 0,
            dry: false,
            finished: false,
            aborted: false,
            promised: 0,
            fill: 0,
        }
    }

    fn pending(&self) -> usize {
        self.taken.len() - self.transmitted.len()
    }

    fn leased(&self) -> bool {
        self.pools.send.held() > 0
    }

    fn rest(&self, len: usize, follows: Follows) -> Rest {
        match follows {
            Follows::Nothing => Rest::End,
            Follows::WhatIsDue => Rest::Bytes(self.due.saturating_sub(len as u64)),
            Follows::Bytes(n) => Rest::Bytes(n),
            Follows::Unknown => Rest::Unknown,
        }
    }

    /// The header of such a part, what is due after it, and all that speaks against sending it.
    fn expect(&self, len: usize, rest: Rest, leased: bool) -> (Vec<u8>, u64, Vec<SendError>) {
        let mut against = Vec::new();
        if self.aborted {
            against.push(SendError::Ended);
        } else if self.finished {
            against.push(SendError::Finished);
        }
        let (mut header, mut due) = (Vec::new(), 0);
        if self.framing == Framing::U32 {
            let total = match rest {
                Rest::End => Some(len as u64),
                Rest::Bytes(more) => more.checked_add(len as u64),
                Rest::More | Rest::Unknown => None,
            };
            due = total.map_or(0, |total| total - len as u64);
            match (total, total.and_then(|total| u32::try_from(total).ok())) {
                (Some(total), _) if self.due > 0 && total == self.due => {}
                (Some(_), _) if self.due > 0 => {
                    against.push(SendError::LengthMismatch { due: self.due });
                }
                (_, Some(total)) => header = total.to_be_bytes().to_vec(),
                _ => against.push(SendError::LengthNeeded),
            }
        }
        let max = self.capacity - if self.framing == Framing::U32 { 4 } else { 0 };
        if len > max {
            against.push(SendError::TooLong { max });
        }
        let needed = header.len() + len;
        let starved = self.dry && !leased;
        if needed > 0 && (starved || self.pending() + needed > self.capacity) {
            against.push(SendError::Full);
        }
        (header, due, against)
    }

    /// Compares what came of an attempt with what was to come of it.
    fn attempted(
        &mut self,
        result: Result<(), SendError>,
        (header, due, against): (Vec<u8>, u64, Vec<SendError>),
        bytes: &[u8],
    ) {
        match result {
            Ok(()) => {
                assert_eq!(against, [], "it should not have been taken");
                self.taken.extend(header);
                self.taken.extend_from_slice(bytes);
                self.due = due;
            }
            Err(error) => {
                assert!(against.contains(&error), "{error:?} is not among {against:?}");
                if error == SendError::Full {
                    self.promised = self.promised.max(header.len() + bytes.len());
                }
            }
        }
    }

    fn call(&mut self, call: &Call) {
        self.fill = self.fill.wrapping_add(1);
        match *call {
            Call::Part(len, follows) => {
                let rest = self.rest(len, follows);
                let expected = self.expect(len, rest, self.leased());
                let bytes = vec![self.fill; len];
                let result = self.session.split().1.send_part(&bytes, rest);
                self.attempted(result, expected, &bytes);
            }
            Call::Space(left, len, follows) => {
                let rest = self.rest(len, follows);
                let first = self.expect(left, Rest::End, self.leased());
                let takes_lease = first.2.is_empty() && first.0.len() + left > 0;
                let expected = self.expect(len, rest, self.leased() || takes_lease);
                let fill = self.fill;
                let mut outbox = self.session.split().1;
                let before = outbox.send_space(left, Rest::End).map(|space| space.fill(!fill));
                let result = outbox.send_space(len, rest).map(|space| space.fill(fill));
                outbox.commit();
                outbox.commit();
                assert_eq!(before.is_ok(), first.2.is_empty());
                if before == Err(SendError::Full) {
                    self.promised = self.promised.max(first.0.len() + left);
                }
                self.attempted(result, expected, &vec![fill; len]);
            }
            Call::Leave(len) => {
                let (header, due, against) = self.expect(len, Rest::End, self.leased());
                let result = self.session.split().1.send_space(len, Rest::End).map(|_| ());
                if result.is_ok() {
                    assert_eq!(against, []);
                } else {
                    self.attempted(result, (header, due, against), &vec![0; len]);
                }
            }
            Call::Transmit(limit) => {
                let bytes = self.session.poll_transmit(NOW);
                assert_eq!(bytes, &self.taken[self.transmitted.len()..]);
                let n = bytes.len().min(limit);
                self.transmitted.extend_from_slice(&bytes[..n]);
                self.session.handle_transmitted(n, NOW);
            }
            Call::Poll => self.poll(),
            Call::Dry(dry) => {
                self.dry = dry;
                self.pools.send.set_dry(dry);
            }
            Call::Finish => {
                self.finished = true;
                self.session.finish(NOW);
            }
            Call::Abort => {
                self.aborted = true;
                self.promised = 0;
                self.session.abort(Reason::Application, NOW);
            }
        }
        assert_eq!(self.session.wants_write(), self.pending() > 0);
    }

    fn poll(&mut self) {
        while let Ok(Some(event)) = self.session.poll_event(NOW) {
            assert_eq!(event, Event::Writable);
            assert!(self.promised > 0, "room that nobody was promised");
            assert!(self.pending() + self.promised <= self.capacity, "there is not enough");
            self.promised = 0;
        }
        // Who has finished needs no lease to be told that it may go on.
        let lease = self.finished || !self.dry || self.leased();
        let room = lease && self.pending() + self.promised <= self.capacity;
        assert!(self.promised == 0 || !room, "there is room and nobody says so");
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn what_is_taken_goes_out_whole_and_nothing_else_does(
        framing in select(&[Framing::Raw, Framing::U32][..]),
        capacity in prop_oneof![Just(64_usize), 64..150_usize],
        calls in calls(),
    ) {
        let mut sender = Sender::new(framing, capacity);
        for call in &calls {
            sender.call(call);
        }
        sender.call(&Call::Dry(false));
        while sender.session.wants_write() {
            sender.call(&Call::Transmit(33));
        }
        sender.call(&Call::Poll);
        sender.call(&Call::Transmit(1));
        prop_assert_eq!(&sender.transmitted, &sender.taken);
        prop_assert_eq!(sender.promised, 0);
        prop_assert_eq!(sender.pools.held(), 0);
    }
}
