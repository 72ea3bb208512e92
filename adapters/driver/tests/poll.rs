//! Polls of a `ServiceConnection` and its `Driver`, over an in-memory transport and in virtual time.

#![cfg(test)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use countersign::{
    Buffers, Candidates, CloseReason, Config, Digest, Error, Event, Instant, Key, KeyRejection,
    KeyRequest, Mac, Nonce, Outbox, Peer, Protocol, Scheme, SendError, Session, Storage, TimedOut,
};
use countersign_driver::{
    Chunk, Failure, Flow, Interest, Io, Keys, Progress, ServiceConnection, StreamService,
};

/// Length of every buffer in bytes.
const BUFFER: usize = 1024;
/// More calls than any poll makes. An endless poll exceeds it and fails its test.
const ENDLESS: usize = 100_000;
const NO_KEY: Option<Key> = None;

fn at(millis: u64) -> Instant {
    Instant::EPOCH.saturating_add(Duration::from_millis(millis))
}

/// The transport and the peer behind it.
struct Transport {
    /// Sent by the peer and not read yet.
    sent: Vec<u8>,
    /// The peer sends this repeatedly, faster than it is read.
    flood: Option<Vec<u8>>,
    /// The peer has shut its write side.
    eof: bool,
    /// How many more bytes can be written.
    room: usize,
    /// A write without room returns 0 instead of `None`.
    writes_zero: bool,
    read_fails: bool,
    write_fails: bool,
    /// Written bytes stay in the transport: a flush would block.
    holds: bool,
    flush_fails: bool,
    /// `may_read` returns false.
    unreadable: bool,
    /// All written bytes.
    written: Vec<u8>,
    /// How many bytes were read.
    bytes_read: usize,
    reads: usize,
    writes: usize,
    shuts: usize,
    acknowledged: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken;

impl Transport {
    fn new(sent: Vec<u8>) -> Self {
        Self {
            sent,
            flood: None,
            eof: false,
            room: usize::MAX,
            writes_zero: false,
            read_fails: false,
            write_fails: false,
            holds: false,
            flush_fails: false,
            unreadable: false,
            written: Vec::new(),
            bytes_read: 0,
            reads: 0,
            writes: 0,
            shuts: 0,
            acknowledged: 0,
        }
    }

    fn flooding(bytes: Vec<u8>) -> Self {
        Self { flood: Some(bytes), ..Self::new(Vec::new()) }
    }
}

impl Io for Transport {
    type Error = Broken;

    fn may_read(&self) -> bool {
        !self.unreadable
    }

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Broken> {
        assert!(!into.is_empty(), "an empty read");
        self.reads += 1;
        assert!(self.reads < ENDLESS, "endless reads");
        if self.read_fails {
            return Err(Broken);
        }
        if let Some(flood) = &self.flood {
            while self.sent.len() < into.len() {
                self.sent.extend_from_slice(flood);
            }
        }
        let n = into.len().min(self.sent.len());
        if n == 0 {
            return Ok(self.eof.then_some(0));
        }
        into[..n].copy_from_slice(&self.sent[..n]);
        self.sent.drain(..n);
        self.bytes_read += n;
        Ok(Some(n))
    }

    fn discard(&mut self) -> Result<Option<usize>, Broken> {
        self.read(&mut [0; 1024])
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Broken> {
        assert!(!from.is_empty(), "an empty write");
        assert_eq!(self.shuts, 0, "a write after the write side was shut");
        self.writes += 1;
        assert!(self.writes < ENDLESS, "endless writes");
        if self.write_fails {
            return Err(Broken);
        }
        let n = from.len().min(self.room);
        self.room -= n;
        self.written.extend_from_slice(&from[..n]);
        Ok((n > 0 || self.writes_zero).then_some(n))
    }

    fn shut_write(&mut self) -> Result<(), Broken> {
        self.shuts += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<bool, Broken> {
        if self.flush_fails { Err(Broken) } else { Ok(!self.holds) }
    }

    fn acknowledge(&mut self) {
        self.acknowledged += 1;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Open,
    Message(Vec<u8>),
    Writable,
    Wake,
    Finished,
    Timeout,
    Closed(Result<(), Error>),
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Finish,
    Abort(CloseReason),
}

/// Records how it was called, and does what the test has set.
#[derive(Default)]
struct Recorder {
    calls: Vec<Call>,
    greeting: &'static [u8],
    /// Sends every message back.
    echo: bool,
    /// Does not finish when the peer does.
    stays_open: bool,
    /// An answer is still due.
    busy: bool,
    timeout: Option<Instant>,
    /// Its deadline is due again at once.
    always_due: bool,
    on_message: Option<Action>,
    on_timeout: Option<Action>,
    /// How often `poll_timeout` was called.
    timeout_polls: Cell<usize>,
}

fn perform(action: Option<Action>, out: &mut Outbox<'_>) {
    match action {
        None => {}
        Some(Action::Finish) => out.finish(),
        Some(Action::Abort(why)) => out.abort(why),
    }
}

impl Recorder {
    fn record(&mut self, call: Call) {
        assert!(self.calls.len() < ENDLESS, "endless calls");
        self.calls.push(call);
    }

    fn messages(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call, Call::Message(_))).count()
    }

    fn timeouts(&self) -> usize {
        self.calls.iter().filter(|&call| *call == Call::Timeout).count()
    }

    /// The result that `on_closed` was called with: once, as the last call.
    fn closed(&self) -> Result<(), Error> {
        let mut ends = self.calls.iter().filter(|call| matches!(call, Call::Closed(_)));
        assert_eq!(ends.next(), self.calls.last(), "called after `on_closed`");
        assert_eq!(ends.next(), None);
        match self.calls.last() {
            Some(Call::Closed(result)) => *result,
            _ => panic!("not closed: {:?}", self.calls),
        }
    }
}

impl StreamService for Recorder {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        self.record(Call::Open);
        if !self.greeting.is_empty() {
            out.send(self.greeting).unwrap();
        }
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        self.record(Call::Message(chunk.bytes.to_vec()));
        perform(self.on_message, out);
        if self.echo && out.send_chunk(chunk.bytes, chunk.remaining) == Err(SendError::Full) {
            return Flow::Backpressure;
        }
        Flow::Consumed
    }

    fn on_writable(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.record(Call::Writable);
    }

    fn on_wake(&mut self, _: &mut Outbox<'_>, _: Instant) {
        self.record(Call::Wake);
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.record(Call::Finished);
        if !self.stays_open {
            out.finish();
        }
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.record(Call::Timeout);
        if !self.always_due {
            self.timeout = None;
        }
        perform(self.on_timeout, out);
    }

    fn is_idle(&self) -> bool {
        !self.busy
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timeout_polls.set(self.timeout_polls.get() + 1);
        self.timeout
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.record(Call::Closed(result));
    }
}

type TestConnection = ServiceConnection<Box<dyn Protocol>, Recorder, Broken>;

fn connection(scheme: Scheme, service: Recorder) -> TestConnection {
    connection_in(|| vec![0; BUFFER], scheme, service)
}

/// A connection with other buffers.
fn connection_in<B: Storage + 'static>(
    buffer: impl Fn() -> B,
    scheme: Scheme,
    service: Recorder,
) -> TestConnection {
    let buffers = Buffers { handshake: buffer(), receive: buffer(), send: buffer() };
    let nonce = Nonce::from_bytes([1; Nonce::LEN]);
    let session = Session::server(&Config::new(scheme), nonce, buffers, Instant::EPOCH).unwrap();
    ServiceConnection::new(Box::new(session), service)
}

/// A connection of the scheme `none`, which is established at its first poll.
fn open(service: Recorder) -> TestConnection {
    connection(Scheme::None, service)
}

const SHA256: Digest = Digest::Sha256;

fn challenge(service: Recorder) -> TestConnection {
    connection(Scheme::Challenge { digest: SHA256 }, service)
}

/// The correct response to the challenge of every connection, which has a fixed nonce.
fn response() -> Vec<u8> {
    Mac::new(SHA256, b"key").tag(&[1; 32]).bytes().to_vec()
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// The header of a frame that is too long, and its error.
const TOO_LONG: [u8; 4] = [0xff; 4];
const TOO_LONG_ERROR: Error = Error::FrameTooLong { len: 0xffff_ffff };

fn poll(connection: &mut TestConnection, io: &mut Transport, now: Instant) -> Progress<Broken> {
    poll_with(connection, io, &NO_KEY, now)
}

fn poll_with<K: Keys + ?Sized>(
    connection: &mut TestConnection,
    io: &mut Transport,
    keys: &K,
    now: Instant,
) -> Progress<Broken> {
    loop {
        match connection.poll(io, keys, now) {
            Progress::Event(event) => assert_eq!(event, Event::Established),
            progress => return progress,
        }
    }
}

/// Polls; fails unless the connection waits.
fn waits(connection: &mut TestConnection, io: &mut Transport, now: Instant) -> Interest {
    match poll(connection, io, now) {
        Progress::Wait(interest) => interest,
        other => panic!("expected Wait, got {other:?}"),
    }
}

/// Polls; fails unless the connection is closed.
fn closed(
    connection: &mut TestConnection,
    io: &mut Transport,
    now: Instant,
) -> Result<(), Failure<Broken>> {
    match poll(connection, io, now) {
        Progress::Closed(result) => result,
        other => panic!("expected Closed, got {other:?}"),
    }
}

fn failed(error: Error) -> Result<(), Failure<Broken>> {
    Err(Failure::Protocol(error))
}

#[test]
fn on_closed_is_the_last_call() {
    let mut connection = open(Recorder { timeout: Some(at(500)), ..Recorder::default() });
    let mut io = Transport::new(TOO_LONG.to_vec());
    let interest = waits(&mut connection, &mut io, at(0));
    assert_eq!(interest.until, Some(at(1000)), "the deadline of the service is removed");
    let timeout_polls = connection.service().timeout_polls.get();
    connection.wake();
    assert_eq!(waits(&mut connection, &mut io, at(600)).until, Some(at(1000)));
    assert_eq!(closed(&mut connection, &mut io, at(1000)), failed(TOO_LONG_ERROR));
    connection.wake();
    let _ = poll(&mut connection, &mut io, at(2000));
    connection.abandon(CloseReason::Shutdown);
    assert_eq!(connection.service().timeout_polls.get(), timeout_polls);
    assert_eq!(connection.service().calls, [Call::Open, Call::Closed(Err(TOO_LONG_ERROR))]);
}

#[test]
fn partial_message_is_acknowledged_at_once() {
    let mut connection = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    let mut acknowledged = |sent: &[u8]| {
        io.sent.extend_from_slice(sent);
        waits(&mut connection, &mut io, at(0));
        core::mem::take(&mut io.acknowledged)
    };
    assert_eq!(acknowledged(b""), 1, "the handshake is over");
    assert_eq!(acknowledged(b""), 0);
    assert_eq!(acknowledged(&frame(b"whole")), 0);
    assert_eq!(acknowledged(&frame(b"begun")[..3]), 1);
    assert_eq!(acknowledged(&frame(b"begun")[3..4]), 1);
    assert_eq!(acknowledged(&frame(b"begun")[4..]), 0);
    assert_eq!(acknowledged(&frame(&[0; 3 * BUFFER])[..BUFFER + 4]), 1, "more chunks follow");
}

#[test]
fn reply_acknowledges_what_was_received() {
    let mut connection = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport::new(frame(b"begun")[..3].to_vec());
    let mut acknowledged = |sent: &[u8]| {
        io.sent.extend_from_slice(sent);
        waits(&mut connection, &mut io, at(0));
        core::mem::take(&mut io.acknowledged)
    };
    assert_eq!(acknowledged(b""), 1);
    let whole_and_begun = [&frame(b"begun")[3..], &frame(b"next")[..5]].concat();
    assert_eq!(acknowledged(&whole_and_begun), 0, "the reply acknowledges it");
    assert_eq!(acknowledged(&frame(b"next")[5..6]), 1);
}

#[test]
fn unsent_reply_does_not_acknowledge() {
    let mut connection = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    (io.acknowledged, io.room) = (0, 2);
    io.sent = [&frame(b"whole")[..], &frame(b"next")[..5]].concat();
    assert!(waits(&mut connection, &mut io, at(0)).write);
    assert_eq!((io.written.len(), io.acknowledged), (2, 1));
}

#[test]
fn unreadable_transport_is_not_read() {
    let mut connection = open(Recorder::default());
    let mut io = Transport { unreadable: true, ..Transport::new(frame(b"whole")) };
    assert!(waits(&mut connection, &mut io, at(0)).read);
    assert_eq!(io.reads, 0);
    io.unreadable = false;
    assert!(waits(&mut connection, &mut io, at(0)).read);
    assert_eq!(connection.service().calls, [Call::Open, Call::Message(b"whole".to_vec())]);
}

#[test]
fn handshake_is_acknowledged_when_it_is_over() {
    let mut connection = challenge(Recorder::default());
    let mut io = Transport::new(response()[..5].to_vec());
    let keys = Some(Key::challenge(SHA256, b"key").unwrap());
    assert!(matches!(poll_with(&mut connection, &mut io, &keys, at(0)), Progress::Wait(_)));
    assert_eq!(io.acknowledged, 0);
    io.sent = response()[5..].to_vec();
    assert!(matches!(poll_with(&mut connection, &mut io, &keys, at(0)), Progress::Wait(_)));
    assert_eq!(io.acknowledged, 1);
}

#[test]
fn orderly_end_is_reported_once_and_last() {
    let service = Recorder { timeout: Some(at(500)), echo: true, ..Recorder::default() };
    let mut connection = open(service);
    let mut io = Transport { eof: true, ..Transport::new(frame(b"ab")) };
    assert_eq!(closed(&mut connection, &mut io, at(0)), Ok(()));
    connection.wake();
    let _ = poll(&mut connection, &mut io, at(600));
    connection.abandon(CloseReason::Shutdown);
    assert_eq!(
        connection.service().calls,
        [Call::Open, Call::Message(b"ab".to_vec()), Call::Finished, Call::Closed(Ok(()))]
    );
    assert_eq!((io.written, io.shuts), (frame(b"ab"), 1));
}

#[test]
fn transport_failure_is_reported_once_and_last() {
    let mut connection = open(Recorder { timeout: Some(at(500)), ..Recorder::default() });
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    io.read_fails = true;
    assert_eq!(closed(&mut connection, &mut io, at(1)), Err(Failure::Io(Broken)));
    connection.wake();
    let _ = poll(&mut connection, &mut io, at(600));
    assert_eq!(connection.service().calls, [Call::Open, Call::Closed(Err(Error::Transport))]);
}

#[test]
fn wake_during_the_handshake_is_deferred() {
    let key = Key::challenge(SHA256, b"key").unwrap();
    let mut connection = challenge(Recorder::default());
    let mut io = Transport::new(Vec::new());
    let _ = poll_with(&mut connection, &mut io, &key, at(0));
    connection.wake();
    let _ = poll_with(&mut connection, &mut io, &key, at(1));
    assert_eq!(connection.service().calls, []);
    io.sent = response();
    let _ = poll_with(&mut connection, &mut io, &key, at(2));
    assert_eq!(connection.service().calls, [Call::Open, Call::Wake]);
    let _ = poll_with(&mut connection, &mut io, &key, at(3));
    assert_eq!(connection.service().calls.len(), 2);
}

#[test]
fn service_that_finishes_gets_its_refused_chunk_again() {
    let service = Recorder {
        echo: true,
        timeout: Some(at(10)),
        on_timeout: Some(Action::Finish),
        ..Recorder::default()
    };
    let mut connection = open(service);
    let chunks = [vec![7; 600], vec![8; 600]];
    let mut io = Transport { room: 0, eof: true, ..Transport::new(Vec::new()) };
    io.sent = chunks.iter().flat_map(|chunk| frame(chunk)).collect();
    // The reply to the first fills the send buffer, and the peer does not read.
    assert_eq!(waits(&mut connection, &mut io, at(0)).until, Some(at(10)));
    assert_eq!(connection.service().messages(), 2);
    waits(&mut connection, &mut io, at(20));
    assert_eq!(connection.service().messages(), 3, "{:?}", connection.service().calls);
    io.room = usize::MAX;
    assert_eq!(closed(&mut connection, &mut io, at(30)), Ok(()));
    assert_eq!(connection.service().closed(), Ok(()));
    assert_eq!((io.written, io.shuts), (frame(&chunks[0]), 1));
}

#[test]
fn refused_chunk_is_offered_after_wake_and_writable() {
    let mut connection = open(Recorder { echo: true, ..Recorder::default() });
    let chunks = [vec![7; 600], vec![8; 600]];
    let mut io = Transport { room: 0, ..Transport::new(Vec::new()) };
    io.sent = chunks.iter().flat_map(|chunk| frame(chunk)).collect();
    assert!(waits(&mut connection, &mut io, at(0)).write);
    assert_eq!(connection.service().messages(), 2);
    connection.wake();
    waits(&mut connection, &mut io, at(1));
    assert_eq!(connection.service().calls[3..], [Call::Wake, Call::Message(chunks[1].clone())]);
    io.room = usize::MAX;
    waits(&mut connection, &mut io, at(2));
    assert_eq!(connection.service().calls[5..], [Call::Writable, Call::Message(chunks[1].clone())]);
    assert_eq!(io.written, [frame(&chunks[0]), frame(&chunks[1])].concat());
}

#[test]
fn poll_yields_while_the_peer_floods() {
    let mut connection = open(Recorder::default());
    let mut io = Transport::flooding(frame(&[7; 508]));
    for polls in 1..=3 {
        assert!(matches!(poll(&mut connection, &mut io, at(polls)), Progress::Yield));
        assert!(io.reads <= 8 * polls as usize, "{} reads", io.reads);
        assert!(connection.service().messages() > polls as usize);
    }
}

#[test]
fn poll_ends_after_a_failed_write_while_the_peer_floods() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { write_fails: true, ..Transport::flooding(frame(&[7; 508])) };
    assert_eq!(closed(&mut connection, &mut io, at(0)), Err(Failure::Io(Broken)));
    assert!(io.reads <= 64, "{} reads", io.reads);
    assert_eq!(connection.service().closed(), Err(Error::Transport));
}

#[test]
fn input_before_a_failed_write_is_delivered() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    // More than one poll reads while the peer can be written to.
    let sent: Vec<_> = (0..20).map(|n| vec![n; 700]).collect();
    let mut io = Transport { write_fails: true, eof: true, ..Transport::new(Vec::new()) };
    io.sent = sent.iter().flat_map(|body| frame(body)).collect();
    assert_eq!(closed(&mut connection, &mut io, at(0)), Err(Failure::Io(Broken)));
    let mut expected = vec![Call::Open];
    expected.extend(sent.into_iter().map(Call::Message));
    expected.extend([Call::Finished, Call::Closed(Err(Error::Transport))]);
    assert_eq!(connection.service().calls, expected);
    assert_eq!(io.writes, 1);
}

#[test]
fn failed_write_after_an_error_keeps_the_error() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(TOO_LONG.to_vec()) };
    waits(&mut connection, &mut io, at(0));
    (io.write_fails, io.flood) = (true, Some(vec![7; 512]));
    assert_eq!(closed(&mut connection, &mut io, at(1)), failed(TOO_LONG_ERROR));
    assert_eq!(connection.service().closed(), Err(TOO_LONG_ERROR));
}

#[test]
fn chunk_complete_before_a_late_poll_is_delivered() {
    let mut connection = open(Recorder::default());
    let whole = frame(&[7; 500]);
    let mut io = Transport::new(whole[..100].to_vec());
    assert_eq!(waits(&mut connection, &mut io, at(0)).until, Some(at(30_000)));
    io.sent = whole[100..].to_vec();
    assert_eq!(waits(&mut connection, &mut io, at(60_000)).until, None);
    assert_eq!(connection.service().calls, [Call::Open, Call::Message(vec![7; 500])]);
}

#[test]
fn chunk_incomplete_at_a_late_poll_times_out() {
    let mut connection = open(Recorder::default());
    let whole = frame(&[7; 500]);
    let mut io = Transport::new(whole[..100].to_vec());
    waits(&mut connection, &mut io, at(0));
    io.sent = whole[100..503].to_vec();
    waits(&mut connection, &mut io, at(30_000));
    assert_eq!(connection.driver().error(), Some(Error::TimedOut(TimedOut::Receive)));
    assert_eq!(connection.service().closed(), Err(Error::TimedOut(TimedOut::Receive)));
}

#[test]
fn response_received_before_a_late_poll_is_in_time() {
    let key = Key::challenge(SHA256, b"key").unwrap();
    let mut connection = challenge(Recorder::default());
    let mut io = Transport::new(Vec::new());
    let _ = poll_with(&mut connection, &mut io, &key, at(0));
    io.sent = response();
    let _ = poll_with(&mut connection, &mut io, &key, at(6_000));
    assert!(connection.driver().is_established());
}

#[test]
fn flood_does_not_postpone_session_deadlines() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::flooding(frame(&[7; 508])) };
    assert!(matches!(poll(&mut connection, &mut io, at(0)), Progress::Yield));
    assert!(matches!(poll(&mut connection, &mut io, at(29_999)), Progress::Yield));
    assert_eq!(connection.driver().error(), None);
    // Timers run last in a poll, so the next poll acts on it.
    assert!(matches!(poll(&mut connection, &mut io, at(30_000)), Progress::Yield));
    let _ = poll(&mut connection, &mut io, at(30_000));
    assert_eq!(connection.service().closed(), Err(Error::TimedOut(TimedOut::Send)));
}

#[test]
fn flood_does_not_postpone_service_deadlines() {
    let mut connection = open(Recorder { timeout: Some(at(50)), ..Recorder::default() });
    let mut io = Transport::flooding(frame(&[7; 508]));
    assert!(matches!(poll(&mut connection, &mut io, at(0)), Progress::Yield));
    assert_eq!(connection.service().timeouts(), 0);
    assert!(matches!(poll(&mut connection, &mut io, at(50)), Progress::Yield));
    assert_eq!(connection.service().timeouts(), 1);
}

#[test]
fn service_that_is_always_due_is_called_once_a_poll() {
    let service = Recorder { timeout: Some(at(0)), always_due: true, ..Recorder::default() };
    let mut connection = open(service);
    let mut io = Transport::new(Vec::new());
    for polls in 1..=3 {
        assert_eq!(waits(&mut connection, &mut io, at(1)).until, Some(at(0)));
        assert_eq!(connection.service().timeouts(), polls);
    }
}

#[test]
fn queued_output_drains_after_an_error() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(TOO_LONG.to_vec()) };
    assert_eq!(connection.driver().error(), None);
    let interest = waits(&mut connection, &mut io, at(0));
    assert_eq!(connection.driver().error(), Some(TOO_LONG_ERROR));
    assert_eq!(connection.service().closed(), Err(TOO_LONG_ERROR));
    assert!(interest.read && interest.write, "{interest:?}");
    assert_eq!(io.shuts, 0);

    io.room = 4;
    waits(&mut connection, &mut io, at(2_000));
    assert_eq!(io.shuts, 0);
    io.room = usize::MAX;
    let interest = waits(&mut connection, &mut io, at(5_000));
    assert_eq!((&io.written, io.shuts), (&frame(b"welcome"), 1));
    // The limit of 1 s starts when all output is written.
    assert_eq!(interest, Interest { read: true, write: false, until: Some(at(6_000)) });

    io.sent = vec![7; 5_000];
    waits(&mut connection, &mut io, at(5_500));
    assert_eq!(io.sent, []);
    waits(&mut connection, &mut io, at(5_999));
    assert_eq!(closed(&mut connection, &mut io, at(6_000)), failed(TOO_LONG_ERROR));
    assert_eq!(io.shuts, 1);
}

#[test]
fn end_of_stream_closes_after_an_error() {
    let mut connection = open(Recorder::default());
    let mut io = Transport::new(TOO_LONG.to_vec());
    waits(&mut connection, &mut io, at(0));
    io.sent = vec![7; 3_000];
    io.eof = true;
    assert_eq!(closed(&mut connection, &mut io, at(10)), failed(TOO_LONG_ERROR));
    assert_eq!((io.sent, io.shuts), (Vec::new(), 1));
}

#[test]
fn at_most_256_kib_are_discarded_after_an_error() {
    let mut connection = open(Recorder::default());
    let mut io = Transport::new(TOO_LONG.to_vec());
    waits(&mut connection, &mut io, at(0));
    (io.bytes_read, io.flood) = (0, Some(vec![7; 999]));
    let result = loop {
        match poll(&mut connection, &mut io, at(1)) {
            Progress::Event(event) => panic!("{event:?}"),
            Progress::Yield => {}
            Progress::Wait(interest) => panic!("waits for {interest:?}"),
            Progress::Closed(result) => break result,
        }
    };
    assert_eq!(result, failed(TOO_LONG_ERROR));
    assert_eq!(io.bytes_read, 256 << 10);
    assert_eq!(io.shuts, 1);
}

#[test]
fn reading_stops_at_the_discard_limit_during_output() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(TOO_LONG.to_vec()) };
    waits(&mut connection, &mut io, at(0));
    io.flood = Some(vec![7; 999]);
    let interest = loop {
        match poll(&mut connection, &mut io, at(1)) {
            Progress::Event(event) => panic!("{event:?}"),
            Progress::Yield => {}
            Progress::Wait(interest) => break interest,
            Progress::Closed(result) => panic!("closed with unsent bytes: {result:?}"),
        }
    };
    assert_eq!(interest, Interest { read: false, write: true, until: Some(at(30_000)) });
    let reads = io.reads;
    waits(&mut connection, &mut io, at(2));
    assert_eq!(io.reads, reads);
    io.room = usize::MAX;
    assert_eq!(closed(&mut connection, &mut io, at(3)), failed(TOO_LONG_ERROR));
    assert_eq!((io.written, io.reads, io.shuts), (frame(b"welcome"), reads, 1));
}

#[test]
fn end_of_stream_is_read_once_after_an_error() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, eof: true, ..Transport::new(TOO_LONG.to_vec()) };
    let interest = waits(&mut connection, &mut io, at(0));
    // Reading on would report the end of the stream again and again.
    assert!(!interest.read && interest.write, "{interest:?}");
    io.room = usize::MAX;
    assert_eq!(closed(&mut connection, &mut io, at(1)), failed(TOO_LONG_ERROR));
}

#[test]
fn peer_that_does_not_read_times_out_after_an_error() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(TOO_LONG.to_vec()) };
    assert_eq!(waits(&mut connection, &mut io, at(0)).until, Some(at(30_000)));
    let interest = waits(&mut connection, &mut io, at(30_000));
    assert_eq!((interest.until, io.shuts), (Some(at(31_000)), 1));
    assert_eq!(closed(&mut connection, &mut io, at(31_000)), failed(TOO_LONG_ERROR));
}

#[test]
fn stopped_connection_finishes_after_the_quiet_time() {
    let mut connection = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport::new(frame(b"ab"));
    waits(&mut connection, &mut io, at(0));
    connection.driver_mut().stop();
    assert_eq!(waits(&mut connection, &mut io, at(1_000)).until, Some(at(1_100)));
    // A message that arrives meanwhile is answered, and restarts the quiet time.
    io.sent = frame(b"cd");
    let interest = waits(&mut connection, &mut io, at(1_050));
    assert_eq!((interest.until, io.shuts), (Some(at(1_150)), 0));
    assert_eq!(io.written, [frame(b"ab"), frame(b"cd")].concat());
    waits(&mut connection, &mut io, at(1_149));
    assert_eq!(io.shuts, 0);
    let interest = waits(&mut connection, &mut io, at(1_150));
    assert_eq!((interest.until, io.shuts), (Some(at(2_150)), 1));
    io.eof = true;
    assert_eq!(closed(&mut connection, &mut io, at(1_200)), Ok(()));
    assert_eq!(connection.service().closed(), Ok(()));
    assert_eq!(io.shuts, 1);
}

#[test]
fn stop_aborts_if_the_peer_does_not_finish_in_a_second() {
    let mut connection = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    stop_idle(&mut connection, &mut io);
    assert_eq!(waits(&mut connection, &mut io, at(1_099)).until, Some(at(1_100)));
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    assert_eq!(closed(&mut connection, &mut io, at(1_100)), failed(shutdown));
    assert_eq!(connection.service().closed(), Err(shutdown));
    assert_eq!(io.shuts, 1);
}

#[test]
fn unflushed_output_is_waited_for() {
    let mut connection = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport { holds: true, ..Transport::new(frame(b"ab")) };
    let interest = waits(&mut connection, &mut io, at(0));
    assert!(interest.read && interest.write, "{interest:?}");
    io.holds = false;
    let interest = waits(&mut connection, &mut io, at(0));
    assert!(interest.read && !interest.write, "{interest:?}");
}

#[test]
fn close_waits_a_second_for_the_last_flush() {
    for flushed in [true, false] {
        let mut connection = open(Recorder { echo: true, ..Recorder::default() });
        let mut io = Transport { eof: true, holds: true, ..Transport::new(frame(b"ab")) };
        let interest = waits(&mut connection, &mut io, at(0));
        assert_eq!(interest, Interest { read: false, write: true, until: Some(at(1_000)) });
        assert_eq!(connection.service().closed(), Ok(()));
        assert_eq!((&io.written, io.shuts), (&frame(b"ab"), 1));
        io.holds = !flushed;
        let now = if flushed { at(10) } else { at(1_000) };
        assert_eq!(closed(&mut connection, &mut io, now), Ok(()));
    }
}

#[test]
fn input_before_a_failed_flush_is_delivered() {
    let mut connection = open(Recorder::default());
    let mut io = Transport { flush_fails: true, ..Transport::new(frame(b"ab")) };
    assert_eq!(closed(&mut connection, &mut io, at(0)), Err(Failure::Io(Broken)));
    let calls = [Call::Open, Call::Message(b"ab".to_vec()), Call::Closed(Err(Error::Transport))];
    assert_eq!(connection.service().calls, calls);
}

#[test]
fn flush_error_after_an_orderly_end_is_reported() {
    // At the first flush, which follows the last bytes; at a later one; together with the deadline.
    for (holds, now) in [(false, 0), (true, 10), (true, 1_000)] {
        let mut connection = open(Recorder { echo: true, ..Recorder::default() });
        let mut io = Transport { eof: true, holds, ..Transport::new(frame(b"ab")) };
        io.flush_fails = !holds;
        if holds {
            assert!(waits(&mut connection, &mut io, at(0)).write);
            assert_eq!(connection.service().closed(), Ok(()));
            io.flush_fails = true;
        }
        assert_eq!(closed(&mut connection, &mut io, at(now)), Err(Failure::Io(Broken)));
    }
}

/// Stops an idle connection, which shuts its write side at 100 ms.
fn stop_idle(connection: &mut TestConnection, io: &mut Transport) {
    waits(connection, io, at(0));
    connection.driver_mut().stop();
    waits(connection, io, at(0));
    assert_eq!(io.shuts, 0);
    assert_eq!(waits(connection, io, at(100)).until, Some(at(1_100)));
    assert_eq!(io.shuts, 1);
}

#[test]
fn flood_does_not_postpone_the_end_of_a_stop() {
    let mut connection = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    stop_idle(&mut connection, &mut io);
    io.flood = Some(frame(&[7; 508]));
    let mut now = 100;
    let result = loop {
        now += 50;
        assert!(now <= 1_200, "does not end");
        match poll(&mut connection, &mut io, at(now)) {
            Progress::Event(event) => panic!("{event:?}"),
            Progress::Yield => {}
            Progress::Wait(interest) => panic!("waits for {interest:?}"),
            Progress::Closed(result) => break result,
        }
    };
    assert_eq!(result, failed(Error::Aborted(CloseReason::Shutdown)));
    assert_eq!(connection.service().closed(), Err(Error::Aborted(CloseReason::Shutdown)));
}

#[test]
fn stop_waits_for_a_partial_frame() {
    let mut connection = open(Recorder { echo: true, ..Recorder::default() });
    let whole = frame(&[7; 500]);
    let mut io = Transport::new(whole[..2].to_vec());
    waits(&mut connection, &mut io, at(0));
    connection.driver_mut().stop();
    for now in [0, 200, 5_000] {
        assert_eq!(waits(&mut connection, &mut io, at(now)).until, Some(at(30_000)));
    }
    io.sent = whole[2..100].to_vec();
    waits(&mut connection, &mut io, at(6_000));
    io.sent = whole[100..].to_vec();
    assert_eq!(waits(&mut connection, &mut io, at(7_000)).until, Some(at(7_100)));
    assert_eq!((&io.written, io.shuts), (&whole, 0));
    waits(&mut connection, &mut io, at(7_100));
    assert_eq!(io.shuts, 1);
}

#[test]
fn stop_waits_until_the_reply_is_sent() {
    let mut connection = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(frame(b"ab")) };
    waits(&mut connection, &mut io, at(0));
    connection.driver_mut().stop();
    for now in [0, 200, 5_000] {
        waits(&mut connection, &mut io, at(now));
        assert_eq!(io.shuts, 0);
    }
    io.room = usize::MAX;
    assert_eq!(waits(&mut connection, &mut io, at(6_000)).until, Some(at(6_100)));
    waits(&mut connection, &mut io, at(6_100));
    assert_eq!((io.written, io.shuts), (frame(b"ab"), 1));
}

#[test]
fn stop_waits_for_a_busy_service() {
    let mut connection = open(Recorder { busy: true, ..Recorder::default() });
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    connection.driver_mut().stop();
    for now in [0, 200, 60_000] {
        assert_eq!(waits(&mut connection, &mut io, at(now)).until, None);
        assert_eq!(io.shuts, 0);
    }
    connection.service_mut().busy = false;
    connection.wake();
    assert_eq!(waits(&mut connection, &mut io, at(70_000)).until, Some(at(70_100)));
    waits(&mut connection, &mut io, at(70_100));
    assert_eq!(io.shuts, 1);
}

#[test]
fn busy_service_restarts_the_quiet_time() {
    let mut connection = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    connection.driver_mut().stop();
    waits(&mut connection, &mut io, at(0));
    connection.service_mut().busy = true;
    assert_eq!(waits(&mut connection, &mut io, at(50)).until, None);
    connection.service_mut().busy = false;
    assert_eq!(waits(&mut connection, &mut io, at(90)).until, Some(at(190)));
    waits(&mut connection, &mut io, at(189));
    assert_eq!(io.shuts, 0);
    waits(&mut connection, &mut io, at(190));
    assert_eq!(io.shuts, 1);
}

#[test]
fn second_stop_has_no_effect() {
    let mut connection = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    connection.driver_mut().stop();
    waits(&mut connection, &mut io, at(0));
    connection.driver_mut().stop();
    assert_eq!(waits(&mut connection, &mut io, at(50)).until, Some(at(100)));
    assert_eq!(waits(&mut connection, &mut io, at(100)).until, Some(at(1_100)));
    connection.driver_mut().stop();
    assert_eq!(waits(&mut connection, &mut io, at(500)).until, Some(at(1_100)));
    assert_eq!(
        closed(&mut connection, &mut io, at(1_100)),
        failed(Error::Aborted(CloseReason::Shutdown))
    );
}

/// A buffer that can be leased while `available`.
struct Scarce {
    bytes: Vec<u8>,
    available: Rc<Cell<bool>>,
}

impl Storage for Scarce {
    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    fn lease(&mut self) -> bool {
        self.available.get()
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn release(&mut self) {}
}

#[test]
fn stop_waits_for_a_receive_buffer() {
    let available = Rc::new(Cell::new(true));
    let buffer = || Scarce { bytes: vec![0; BUFFER], available: available.clone() };
    let mut connection =
        connection_in(buffer, Scheme::None, Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    available.set(false);
    io.sent = frame(b"ab");
    connection.driver_mut().stop();
    for now in [0, 200, 5_000] {
        let interest = waits(&mut connection, &mut io, at(now));
        // It asks for the buffer again after a while.
        assert_eq!((interest.read, interest.until, io.shuts), (false, Some(at(now + 250)), 0));
    }
    available.set(true);
    connection.wake();
    assert_eq!(waits(&mut connection, &mut io, at(6_000)).until, Some(at(6_100)));
    assert_eq!(io.written, frame(b"ab"));
    waits(&mut connection, &mut io, at(6_100));
    assert_eq!(io.shuts, 1);
}

#[test]
fn stop_aborts_a_handshake() {
    let mut connection = challenge(Recorder::default());
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    connection.driver_mut().stop();
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    assert_eq!(waits(&mut connection, &mut io, at(1)).until, Some(at(1_001)));
    assert_eq!(connection.driver().error(), Some(shutdown));
    assert_eq!(io.shuts, 1);
    io.eof = true;
    assert_eq!(closed(&mut connection, &mut io, at(2)), failed(shutdown));
    assert_eq!(connection.service().calls, [Call::Closed(Err(shutdown))]);
}

#[test]
fn stop_ends_a_half_closed_connection() {
    let mut connection = open(Recorder { stays_open: true, ..Recorder::default() });
    let mut io = Transport { eof: true, ..Transport::new(Vec::new()) };
    let interest = waits(&mut connection, &mut io, at(0));
    assert_eq!(interest, Interest { read: false, write: false, until: None });
    connection.driver_mut().stop();
    assert_eq!(waits(&mut connection, &mut io, at(0)).until, Some(at(100)));
    assert_eq!(closed(&mut connection, &mut io, at(100)), Ok(()));
    assert_eq!(connection.service().calls, [Call::Open, Call::Finished, Call::Closed(Ok(()))]);
    assert_eq!(io.shuts, 1);
}

#[test]
fn abandoned_connection_is_reported_once() {
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    let mut connection = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    connection.abandon(CloseReason::Shutdown);
    connection.abandon(CloseReason::Shutdown);
    assert_eq!(connection.service().calls, [Call::Open, Call::Closed(Err(shutdown))]);

    let mut connection = open(Recorder::default());
    let mut io = Transport::new(TOO_LONG.to_vec());
    waits(&mut connection, &mut io, at(0));
    connection.abandon(CloseReason::Shutdown);
    assert_eq!(connection.service().closed(), Err(TOO_LONG_ERROR));
}

#[test]
fn write_of_zero_bytes_counts_as_would_block() {
    let mut connection = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, writes_zero: true, ..Transport::new(Vec::new()) };
    let interest = waits(&mut connection, &mut io, at(0));
    assert!(interest.write, "{interest:?}");
    assert!(io.writes <= 2, "{} writes", io.writes);
    io.room = usize::MAX;
    assert!(!waits(&mut connection, &mut io, at(1)).write);
    assert_eq!(io.written, frame(b"welcome"));
}

#[test]
fn abort_sends_queued_output_first() {
    let service = Recorder {
        greeting: b"welcome",
        on_message: Some(Action::Abort(CloseReason::Protocol)),
        ..Recorder::default()
    };
    let mut connection = open(service);
    let mut io = Transport { room: 3, ..Transport::new([frame(b"ab"), frame(b"cd")].concat()) };
    waits(&mut connection, &mut io, at(0));
    let aborted = Error::Aborted(CloseReason::Protocol);
    assert_eq!(connection.driver().error(), Some(aborted));
    assert_eq!(
        connection.service().calls,
        [Call::Open, Call::Message(b"ab".to_vec()), Call::Closed(Err(aborted))]
    );
    (io.room, io.eof) = (usize::MAX, true);
    assert_eq!(closed(&mut connection, &mut io, at(1)), failed(aborted));
    assert_eq!((io.written, io.shuts), (frame(b"welcome"), 1));
}

#[test]
fn abort_in_on_timeout_takes_effect_in_the_same_poll() {
    let service = Recorder {
        timeout: Some(at(10)),
        on_timeout: Some(Action::Abort(CloseReason::Timeout)),
        ..Recorder::default()
    };
    let mut connection = open(service);
    let mut io = Transport::new(Vec::new());
    waits(&mut connection, &mut io, at(0));
    waits(&mut connection, &mut io, at(10));
    assert_eq!(connection.service().closed(), Err(Error::Aborted(CloseReason::Timeout)));
    assert_eq!(io.shuts, 1);
}

/// The correct key, and a second one for another digest.
struct Two(Key, Key);

impl Keys for Two {
    fn hold(&self, _: &Peer<'_>) -> bool {
        true
    }

    fn candidates(&self, _: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        Ok(Candidates::two(&self.0, &self.1))
    }
}

#[test]
fn keys_for_another_digest_count_as_unknown() {
    let other = Key::challenge(Digest::Sha1, b"key").unwrap();
    let two = Two(Key::challenge(SHA256, b"key").unwrap(), other.clone());
    for keys in [&NO_KEY as &dyn Keys, &other, &two] {
        let mut connection = challenge(Recorder::default());
        let mut io = Transport { eof: true, ..Transport::new(response()) };
        match poll_with(&mut connection, &mut io, keys, at(0)) {
            Progress::Closed(result) => {
                assert_eq!(result, failed(Error::Refused(KeyRejection::Unknown)));
            }
            other => panic!("expected Closed, got {other:?}"),
        }
        let refused = Error::Refused(KeyRejection::Unknown);
        assert_eq!(connection.service().calls, [Call::Closed(Err(refused))]);
    }
}
