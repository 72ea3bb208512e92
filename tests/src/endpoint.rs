use std::collections::VecDeque;

use countersign::{
    Error, Event, Fingerprint, Instant, Peer, Protocol, Remaining, SendError, Session,
};

use crate::{ChunkSizes, KeySet, LeasedBuffer, Pipe, candidates};

/// What an endpoint observed, except what depends on chunking: `Writable` and the boundaries
/// between the chunks of a byte stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A key was requested.
    KeyNeeded,
    /// The handshake is complete; the session knows this about the peer.
    Established(Box<PeerInfo>),
    /// A chunk, or a run of adjacent raw chunks.
    Chunk {
        /// Whether it begins a message.
        first: bool,
        /// What follows it in its message.
        remaining: Remaining,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The peer sends no more messages.
    PeerFinished,
    /// Both sides have finished.
    Closed,
    /// The session has failed.
    Failed(Error),
}

/// Everything that a session knows about its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PeerInfo {
    pub authenticated: bool,
    pub name: Option<String>,
    pub key_id: Option<String>,
    pub fingerprint: Option<Fingerprint>,
    pub session_id: Option<[u8; 16]>,
    pub exporter: Option<[u8; 32]>,
}

impl From<Peer<'_>> for PeerInfo {
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

/// What the application of an endpoint does.
#[derive(Clone, Debug)]
pub struct Application {
    /// Messages to send, in order.
    pub messages: VecDeque<Vec<u8>>,
    /// Longest chunk to send, in bytes. Limited further by the session's own maximum.
    pub chunk: usize,
    /// Sends every chunk back.
    pub echo: bool,
    /// Finishes once all messages are sent; otherwise once the peer has finished.
    pub finish_first: bool,
    /// How many polls it holds a chunk before it answers.
    pub hold: usize,
    /// How it answers key requests.
    pub keys: KeySet,
}

impl Application {
    /// Sends every chunk back; finishes when the peer has finished.
    #[must_use]
    pub fn echo(keys: KeySet, hold: usize) -> Self {
        Self { messages: VecDeque::new(), chunk: 0, echo: true, finish_first: false, hold, keys }
    }

    /// Sends `messages` in chunks of at most `chunk` bytes, then finishes.
    #[must_use]
    pub fn sending(keys: KeySet, messages: Vec<Vec<u8>>, chunk: usize) -> Self {
        Self { messages: messages.into(), chunk, echo: false, finish_first: true, hold: 0, keys }
    }
}

/// One endpoint of a connection in memory: a session, its application, and a record of what it
/// observed.
#[derive(Debug)]
pub struct Endpoint {
    /// The session under test.
    pub session: Session<LeasedBuffer>,
    app: Application,
    observed: Vec<Observed>,
    /// What follows the current chunk, and how many more polls the application holds it.
    chunk: Option<(Remaining, usize)>,
    /// How many bytes of the first message are sent.
    sent: usize,
    established: bool,
    peer_finished: bool,
    /// A send returned `Full`, and `Writable` has not followed.
    blocked: bool,
    eof_handled: bool,
}

impl Endpoint {
    /// Makes an endpoint that has observed nothing yet.
    #[must_use]
    pub fn new(session: Session<LeasedBuffer>, app: Application) -> Self {
        Self {
            session,
            app,
            observed: Vec::new(),
            chunk: None,
            sent: 0,
            established: false,
            peer_finished: false,
            blocked: false,
            eof_handled: false,
        }
    }

    /// Returns everything observed so far.
    #[must_use]
    pub fn observed(&self) -> &[Observed] {
        &self.observed
    }

    /// Returns what the session knew about its peer when the handshake was complete.
    #[must_use]
    pub fn peer_info(&self) -> Option<&PeerInfo> {
        self.observed.iter().find_map(|observed| match observed {
            Observed::Established(peer) => Some(&**peer),
            _ => None,
        })
    }

    /// Polls the session once at `now`: timers, events, output, input. Returns whether there was
    /// progress.
    pub fn poll(
        &mut self,
        (input, reads): (&mut Pipe, &mut ChunkSizes),
        (output, writes): (&mut Pipe, &mut ChunkSizes),
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
                Ok(None) if self.step_application(now) => moved = true,
                Ok(None) => break,
                Err(error) => {
                    if !matches!(self.observed.last(), Some(Observed::Failed(_))) {
                        self.observed.push(Observed::Failed(error));
                        self.chunk = None;
                        moved = true;
                    }
                    assert_eq!(
                        self.observed.last(),
                        Some(&Observed::Failed(error)),
                        "errors change"
                    );
                    break;
                }
            }
        }
        moved |= self.chunk.is_some_and(|(_, held)| held > 0);
        let n = output.write(self.session.poll_transmit(now), writes.next_size());
        self.session.handle_transmitted(n, now);
        // Both kinds of driver occur: one read per poll, and reads until one returns nothing.
        let dry = reads.period().is_multiple_of(2);
        loop {
            let wants = self.session.wants_read();
            let space = self.session.recv_space();
            assert!(wants || space.is_empty(), "receive space although wants_read is false");
            if space.is_empty() {
                break;
            }
            let n = input.read(space, reads.next_size());
            self.session.handle_received(n, now);
            moved |= n > 0;
            if n == 0 && input.at_end() && !self.eof_handled {
                self.eof_handled = true;
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
                self.observed.push(Observed::KeyNeeded);
                let answer = candidates(&self.app.keys, &self.session.key_request().unwrap());
                self.session.provide_key(answer, now).unwrap();
            }
            Event::Established => {
                self.established = true;
                let peer = self.session.peer().unwrap();
                self.observed.push(Observed::Established(Box::new(peer.into())));
            }
            Event::Chunk { first, remaining } => {
                assert!(self.chunk.is_none(), "a chunk before the previous one was consumed");
                self.chunk = Some((remaining, self.app.hold));
                self.observe_chunk(first, remaining);
            }
            Event::Writable => {
                assert!(self.blocked, "Writable without Full");
                self.blocked = false;
            }
            Event::PeerFinished => {
                assert!(self.chunk.is_none(), "PeerFinished before the last chunk was consumed");
                self.peer_finished = true;
                self.observed.push(Observed::PeerFinished);
            }
            Event::Closed => self.observed.push(Observed::Closed),
            event => panic!("unknown event: {event:?}"),
        }
    }

    fn observe_chunk(&mut self, first: bool, remaining: Remaining) {
        let chunk = self.session.split().0;
        if let (
            Remaining::Unknown,
            false,
            Some(Observed::Chunk { remaining: Remaining::Unknown, bytes, .. }),
        ) = (remaining, first, self.observed.last_mut())
        {
            bytes.extend_from_slice(chunk);
        } else {
            self.observed.push(Observed::Chunk { first, remaining, bytes: chunk.to_vec() });
        }
    }

    /// Lets the application take one step of its own. Returns whether it did.
    fn step_application(&mut self, now: Instant) -> bool {
        if !self.established || self.blocked {
            return false;
        }
        if let Some((remaining, held)) = &mut self.chunk {
            if *held > 0 {
                *held -= 1;
            } else {
                let (chunk, mut outbox) = self.session.split();
                assert!(chunk.len() <= outbox.max_chunk(), "a chunk longer than can be sent");
                let sent =
                    if self.app.echo { outbox.send_chunk(chunk, *remaining) } else { Ok(()) };
                if self.on_send(sent) {
                    self.chunk = None;
                    self.session.consume(now);
                    return true;
                }
                return false;
            }
        }
        if let Some(message) = self.app.messages.front() {
            let mut outbox = self.session.split().1;
            let len = (message.len() - self.sent).min(self.app.chunk).min(outbox.max_chunk());
            let end = self.sent + len;
            let remaining = match message.len() - end {
                0 => Remaining::End,
                more => Remaining::Bytes(more as u64),
            };
            let sent = outbox.send_chunk(&message[self.sent..end], remaining);
            if !self.on_send(sent) {
                return false;
            }
            self.sent = end;
            if remaining == Remaining::End {
                self.sent = 0;
                self.app.messages.pop_front();
            }
            return true;
        }
        if self.app.finish_first || self.peer_finished {
            self.session.finish(now);
        }
        false
    }

    fn on_send(&mut self, sent: Result<(), SendError>) -> bool {
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

/// Drives two endpoints, each with its own sizes of reads and writes, until neither makes progress.
/// Returns the bytes from the client to the server and from the server to the client.
pub fn drive_pair(
    (client, client_reads, client_writes): (&mut Endpoint, &mut ChunkSizes, &mut ChunkSizes),
    (server, server_reads, server_writes): (&mut Endpoint, &mut ChunkSizes, &mut ChunkSizes),
) -> (Vec<u8>, Vec<u8>) {
    let (mut up, mut down) = (Pipe::default(), Pipe::default());
    let max_idle = client_reads.period()
        + client_writes.period()
        + server_reads.period()
        + server_writes.period();
    let mut idle = 0;
    let now = Instant::EPOCH;
    while idle <= max_idle {
        let server_moved = server.poll((&mut up, server_reads), (&mut down, server_writes), now);
        let client_moved = client.poll((&mut down, client_reads), (&mut up, client_writes), now);
        idle = if server_moved || client_moved { 0 } else { idle + 1 };
    }
    (up.written().to_vec(), down.written().to_vec())
}

/// Drives one endpoint with `bytes` and then the end of the stream as its input, until it makes no
/// progress. Returns its output.
pub fn drive_with(
    end: &mut Endpoint,
    bytes: &[u8],
    reads: &mut ChunkSizes,
    writes: &mut ChunkSizes,
) -> Vec<u8> {
    let (mut input, mut output) = (Pipe::with(bytes), Pipe::default());
    let max_idle = reads.period() + writes.period();
    let mut idle = 0;
    while idle <= max_idle {
        let moved = end.poll((&mut input, reads), (&mut output, writes), Instant::EPOCH);
        idle = if moved { 0 } else { idle + 1 };
    }
    output.written().to_vec()
}
