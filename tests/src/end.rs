use std::collections::VecDeque;

use countersign::{
    Error, Event, Fingerprint, Instant, Peer, Protocol, Remaining, SendError, Session,
};

use crate::{Pace, Region, Ring, Wire, answer};

/// What an end saw. Whatever depends on how bytes were cut is not in it: neither Writable nor the
/// borders between the parts of a byte stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A key was asked for.
    KeyNeeded,
    /// The handshake is over, and this is who is there.
    Established(Box<Met>),
    /// A part, or a run of adjacent raw ones.
    Chunk {
        /// It was a message's first.
        first: bool,
        /// What was to follow it.
        remaining: Remaining,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The peer sends no more.
    PeerFinished,
    /// Both have finished.
    Closed,
    /// The end of it.
    Failed(Error),
}

/// All that an end knows of its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Met {
    pub authenticated: bool,
    pub name: Option<String>,
    pub key_id: Option<String>,
    pub fingerprint: Option<Fingerprint>,
    pub session_id: Option<[u8; 16]>,
    pub exporter: Option<[u8; 32]>,
}

impl From<Peer<'_>> for Met {
    fn from(peer: Peer<'_>) -> Self {
        Self {
            authenticated: peer.authenticated,
            name: peer.name.map(Into::into),
            key_id: peer.key_id.map(Into::into),
            fingerprint: peer.fingerprint,
            session_id: peer.session_id.copied(),
            exporter: peer.exporter.copied(),
        }
    }
}

/// What the application at an end does.
#[derive(Clone, Debug)]
pub struct App {
    /// Messages to send, each as soon as the one before is out.
    pub say: VecDeque<Vec<u8>>,
    /// The longest part to say them in, in bytes; more than fits is as much as fits.
    pub chunk: usize,
    /// Sends every part back.
    pub echo: bool,
    /// Finishes when all is said; otherwise when the peer has finished.
    pub finish_first: bool,
    /// For how many turns it looks at a part before it answers.
    pub hold: usize,
    /// How it answers a key request.
    pub ring: Ring,
}

impl App {
    /// Sends every part back, and finishes when the peer has.
    #[must_use]
    pub fn echo(ring: Ring, hold: usize) -> Self {
        Self { say: VecDeque::new(), chunk: 0, echo: true, finish_first: false, hold, ring }
    }

    /// Says `messages` in parts of at most `part` bytes, then finishes.
    #[must_use]
    pub fn say(ring: Ring, messages: Vec<Vec<u8>>, chunk: usize) -> Self {
        Self { say: messages.into(), chunk, echo: false, finish_first: true, hold: 0, ring }
    }
}

/// One end: a session, its application, and what it saw.
#[derive(Debug)]
pub struct End {
    /// The session.
    pub session: Session<Region>,
    app: App,
    seen: Vec<Seen>,
    /// What follows the part at hand, and for how many turns it will still be held.
    chunk: Option<(Remaining, usize)>,
    /// How much of the first message to say is said.
    said: usize,
    established: bool,
    peer_finished: bool,
    /// Something was Full and Writable has not come.
    blocked: bool,
    told_eof: bool,
}

impl End {
    /// `app` at an end that has seen nothing yet.
    #[must_use]
    pub fn new(session: Session<Region>, app: App) -> Self {
        Self {
            session,
            app,
            seen: Vec::new(),
            chunk: None,
            said: 0,
            established: false,
            peer_finished: false,
            blocked: false,
            told_eof: false,
        }
    }

    /// All that it saw.
    #[must_use]
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Whom it met, if the handshake was ever over.
    #[must_use]
    pub fn met(&self) -> Option<&Met> {
        self.seen.iter().find_map(|seen| match seen {
            Seen::Established(met) => Some(&**met),
            _ => None,
        })
    }

    /// One turn at the moment `now`. Returns whether anything moved.
    pub fn turn(
        &mut self,
        (input, reads): (&mut Wire, &mut Pace),
        (output, writes): (&mut Wire, &mut Pace),
        now: Instant,
    ) -> bool {
        let mut moved = false;
        self.session.handle_timeout(now);
        loop {
            match self.session.poll_event(now) {
                Ok(Some(event)) => {
                    self.on_event(event, now);
                    moved = true;
                }
                Ok(None) if self.act(now) => moved = true,
                Ok(None) => break,
                Err(error) => {
                    if !matches!(self.seen.last(), Some(Seen::Failed(_))) {
                        self.seen.push(Seen::Failed(error));
                        self.chunk = None;
                        moved = true;
                    }
                    assert_eq!(self.seen.last(), Some(&Seen::Failed(error)), "errors change");
                    break;
                }
            }
        }
        moved |= self.chunk.is_some_and(|(_, held)| held > 0);
        let n = output.write(self.session.poll_transmit(now), writes.step());
        self.session.handle_transmitted(n, now);
        // Some drivers read once a turn, others until a read comes back empty.
        let dry = reads.period().is_multiple_of(2);
        loop {
            let wants = self.session.wants_read();
            let space = self.session.recv_space();
            assert!(wants || space.is_empty(), "there is room for bytes that are not wanted");
            if space.is_empty() {
                break;
            }
            let n = input.read(space, reads.step());
            self.session.handle_received(n, now);
            moved |= n > 0;
            if n == 0 && input.at_end() && !self.told_eof {
                self.told_eof = true;
                self.session.handle_eof(now);
                moved = true;
            }
            if n == 0 || !dry {
                break;
            }
        }
        if self.session.wants_shutdown() {
            output.shut();
        }
        moved || n > 0
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::KeyNeeded => {
                self.seen.push(Seen::KeyNeeded);
                let answer = answer(&self.app.ring, &self.session.key_request().unwrap());
                self.session.provide_key(answer, now).unwrap();
            }
            Event::Established => {
                self.established = true;
                let peer = self.session.peer().unwrap();
                self.seen.push(Seen::Established(Box::new(peer.into())));
            }
            Event::Chunk { first, remaining } => {
                assert!(self.chunk.is_none(), "a part before the last was consumed");
                self.chunk = Some((remaining, self.app.hold));
                self.see_part(first, remaining);
            }
            Event::Writable => {
                assert!(self.blocked, "room that nobody asked for");
                self.blocked = false;
            }
            Event::PeerFinished => {
                assert!(self.chunk.is_none(), "the end before the last part was consumed");
                self.peer_finished = true;
                self.seen.push(Seen::PeerFinished);
            }
            Event::Closed => self.seen.push(Seen::Closed),
            event => panic!("an event that this does not know: {event:?}"),
        }
    }

    fn see_part(&mut self, first: bool, remaining: Remaining) {
        let chunk = self.session.split().0;
        if let (
            Remaining::Unknown,
            false,
            Some(Seen::Chunk { remaining: Remaining::Unknown, bytes, .. }),
        ) = (remaining, first, self.seen.last_mut())
        {
            bytes.extend_from_slice(chunk);
        } else {
            self.seen.push(Seen::Chunk { first, remaining, bytes: chunk.to_vec() });
        }
    }

    /// One thing that the application does unasked. Returns whether there was one.
    fn act(&mut self, now: Instant) -> bool {
        if !self.established || self.blocked {
            return false;
        }
        if let Some((remaining, held)) = &mut self.chunk {
            if *held > 0 {
                *held -= 1;
            } else {
                let (chunk, mut outbox) = self.session.split();
                assert!(chunk.len() <= outbox.max_chunk(), "a part that cannot be sent on");
                let sent =
                    if self.app.echo { outbox.send_chunk(chunk, *remaining) } else { Ok(()) };
                if self.sent(sent) {
                    self.chunk = None;
                    self.session.consume(now);
                    return true;
                }
                return false;
            }
        }
        if let Some(message) = self.app.say.front() {
            let mut outbox = self.session.split().1;
            let len = (message.len() - self.said).min(self.app.chunk).min(outbox.max_chunk());
            let end = self.said + len;
            let remaining = match message.len() - end {
                0 => Remaining::End,
                more => Remaining::Bytes(more as u64),
            };
            let sent = outbox.send_chunk(&message[self.said..end], remaining);
            if !self.sent(sent) {
                return false;
            }
            self.said = end;
            if remaining == Remaining::End {
                self.said = 0;
                self.app.say.pop_front();
            }
            return true;
        }
        if self.app.finish_first || self.peer_finished {
            self.session.finish(now);
        }
        false
    }

    fn sent(&mut self, sent: Result<(), SendError>) -> bool {
        match sent {
            Ok(()) => true,
            Err(SendError::Full) => {
                self.blocked = true;
                false
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Drives two ends, each at its own pace of reading and of writing, until nothing moves.
///
/// Returns what went from the client to the server, and from the server to the client.
pub fn converse(
    (client, client_reads, client_writes): (&mut End, &mut Pace, &mut Pace),
    (server, server_reads, server_writes): (&mut End, &mut Pace, &mut Pace),
) -> (Vec<u8>, Vec<u8>) {
    let (mut up, mut down) = (Wire::default(), Wire::default());
    let patience = client_reads.period()
        + client_writes.period()
        + server_reads.period()
        + server_writes.period();
    let mut idle = 0;
    let now = Instant::EPOCH;
    while idle <= patience {
        let server_moved = server.turn((&mut up, server_reads), (&mut down, server_writes), now);
        let client_moved = client.turn((&mut down, client_reads), (&mut up, client_writes), now);
        idle = if server_moved || client_moved { 0 } else { idle + 1 };
    }
    (up.carried().to_vec(), down.carried().to_vec())
}

/// Drives one end against `bytes` and then the end of the stream, until nothing moves. Returns
/// what it sent.
pub fn listen(end: &mut End, bytes: &[u8], reads: &mut Pace, writes: &mut Pace) -> Vec<u8> {
    let (mut input, mut output) = (Wire::with(bytes), Wire::default());
    let patience = reads.period() + writes.period();
    let mut idle = 0;
    while idle <= patience {
        let moved = end.turn((&mut input, reads), (&mut output, writes), Instant::EPOCH);
        idle = if moved { 0 } else { idle + 1 };
    }
    output.carried().to_vec()
}
