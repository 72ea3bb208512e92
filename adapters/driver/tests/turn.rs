//! The turn, over a transport in memory and at moments that each test chooses.

#![cfg(test)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use countersign::{
    Buffers, Candidates, CloseReason, Config, Digest, Error, Instant, Key, KeyRejection,
    KeyRequest, Mac, Nonce, Outbox, Peer, Protocol, Scheme, SendError, Session, Storage, TimedOut,
};
use countersign_driver::{Chunk, Connection, Failure, Flow, Io, Keys, Progress, Service, Wait};

/// Length of every buffer in bytes.
const BUFFER: usize = 1024;
/// More calls than any turn has a reason to make: one that does not end is a test that fails.
const ENDLESS: usize = 100_000;
const NO_KEY: Option<Key> = None;

fn at(millis: u64) -> Instant {
    Instant::EPOCH.saturating_add(Duration::from_millis(millis))
}

/// The other end of the connection, as far as a turn sees it.
struct Transport {
    /// What the peer has sent, and nobody has read.
    sent: Vec<u8>,
    /// The peer sends this again and again, faster than anyone reads.
    flood: Option<Vec<u8>>,
    /// The peer has shut its write side.
    eof: bool,
    /// How many bytes more it takes.
    room: usize,
    /// A write without room says 0 rather than nothing.
    says_zero: bool,
    read_fails: bool,
    write_fails: bool,
    /// What was written does not leave.
    holds: bool,
    flush_fails: bool,
    /// It says that there is nothing to read.
    unreadable: bool,
    /// All that was written.
    heard: Vec<u8>,
    /// How much was read.
    taken: usize,
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
            says_zero: false,
            read_fails: false,
            write_fails: false,
            holds: false,
            flush_fails: false,
            unreadable: false,
            heard: Vec::new(),
            taken: 0,
            reads: 0,
            writes: 0,
            shuts: 0,
            acknowledged: 0,
        }
    }

    fn flooding(with: Vec<u8>) -> Self {
        Self { flood: Some(with), ..Self::new(Vec::new()) }
    }
}

impl Io for Transport {
    type Error = Broken;

    fn may_read(&self) -> bool {
        !self.unreadable
    }

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Broken> {
        assert!(!into.is_empty(), "a read of nothing");
        self.reads += 1;
        assert!(self.reads < ENDLESS, "reads without end");
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
        self.taken += n;
        Ok(Some(n))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Broken> {
        assert!(!from.is_empty(), "a write of nothing");
        assert_eq!(self.shuts, 0, "a write after the write side was shut");
        self.writes += 1;
        assert!(self.writes < ENDLESS, "writes without end");
        if self.write_fails {
            return Err(Broken);
        }
        let n = from.len().min(self.room);
        self.room -= n;
        self.heard.extend_from_slice(&from[..n]);
        Ok((n > 0 || self.says_zero).then_some(n))
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
enum Act {
    Finish,
    Abort(CloseReason),
}

/// Writes down how it was called, and does as it is told.
#[derive(Default)]
struct Recorder {
    calls: Vec<Call>,
    greeting: &'static [u8],
    /// Sends every message back.
    echo: bool,
    /// Does not finish when the peer does.
    stays: bool,
    /// Owes an answer that is still to come.
    busy: bool,
    timeout: Option<Instant>,
    /// Its timeout is due again at once.
    restless: bool,
    on_message: Option<Act>,
    on_timeout: Option<Act>,
    /// How often it was asked for its timeout.
    asked: Cell<usize>,
}

fn act(what: Option<Act>, out: &mut Outbox<'_>) {
    match what {
        None => {}
        Some(Act::Finish) => out.finish(),
        Some(Act::Abort(why)) => out.abort(why),
    }
}

impl Recorder {
    fn record(&mut self, call: Call) {
        assert!(self.calls.len() < ENDLESS, "calls without end");
        self.calls.push(call);
    }

    fn messages(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call, Call::Message(_))).count()
    }

    fn timeouts(&self) -> usize {
        self.calls.iter().filter(|&call| *call == Call::Timeout).count()
    }

    /// How it was told that the connection has ended: once, and nothing after it.
    fn closed(&self) -> Result<(), Error> {
        let mut ends = self.calls.iter().filter(|call| matches!(call, Call::Closed(_)));
        assert_eq!(ends.next(), self.calls.last(), "called after it was over");
        assert_eq!(ends.next(), None);
        match self.calls.last() {
            Some(Call::Closed(how)) => *how,
            _ => panic!("not told of the end: {:?}", self.calls),
        }
    }
}

impl Service for Recorder {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        self.record(Call::Open);
        if !self.greeting.is_empty() {
            out.send(self.greeting).unwrap();
        }
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        self.record(Call::Message(chunk.bytes.to_vec()));
        act(self.on_message, out);
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
        if !self.stays {
            out.finish();
        }
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.record(Call::Timeout);
        if !self.restless {
            self.timeout = None;
        }
        act(self.on_timeout, out);
    }

    fn is_idle(&self) -> bool {
        !self.busy
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.asked.set(self.asked.get() + 1);
        self.timeout
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.record(Call::Closed(why));
    }
}

type Link = Connection<Box<dyn Protocol>, Recorder>;

fn link(scheme: Scheme, service: Recorder) -> Link {
    link_in(|| vec![0; BUFFER], scheme, service)
}

/// In buffers of another kind.
fn link_in<B: Storage + 'static>(
    buffer: impl Fn() -> B,
    scheme: Scheme,
    service: Recorder,
) -> Link {
    let buffers = Buffers { handshake: buffer(), receive: buffer(), send: buffer() };
    let nonce = Nonce::from_bytes([1; Nonce::LEN]);
    let session = Session::server(&Config::new(scheme), nonce, buffers, Instant::EPOCH).unwrap();
    Connection::new(Box::new(session), service)
}

/// Of the scheme `none`, and so open from its first turn.
fn open(service: Recorder) -> Link {
    link(Scheme::None, service)
}

const SHA256: Digest = Digest::Sha256;

fn challenge(service: Recorder) -> Link {
    link(Scheme::Challenge { digest: SHA256 }, service)
}

/// The right answer to the challenge that every link's nonce makes.
fn response() -> Vec<u8> {
    Mac::new(SHA256, b"key").tag(&[1; 32]).bytes().to_vec()
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// A frame that is too long by its header, and the error that comes of it.
const TOO_LONG: [u8; 4] = [0xff; 4];
const TOO_LONG_ERROR: Error = Error::FrameTooLong { len: 0xffff_ffff };

fn turn(link: &mut Link, io: &mut Transport, now: Instant) -> Progress<Broken> {
    link.turn(io, &NO_KEY, now)
}

/// The turn is to end waiting.
fn waits(link: &mut Link, io: &mut Transport, now: Instant) -> Wait {
    match turn(link, io, now) {
        Progress::Wait(wait) => wait,
        other => panic!("no wait but {other:?}"),
    }
}

/// The turn is to be the last.
fn over(link: &mut Link, io: &mut Transport, now: Instant) -> Result<(), Failure<Broken>> {
    match turn(link, io, now) {
        Progress::Closed(how) => how,
        other => panic!("not over but {other:?}"),
    }
}

fn failed(error: Error) -> Result<(), Failure<Broken>> {
    Err(Failure::Protocol(error))
}

#[test]
fn the_end_is_the_last_that_a_service_hears() {
    let mut link = open(Recorder { timeout: Some(at(500)), ..Recorder::default() });
    let mut io = Transport::new(TOO_LONG.to_vec());
    let wait = waits(&mut link, &mut io, at(0));
    assert_eq!(wait.until, Some(at(1000)), "the service's own timeout is no more");
    let asked = link.service().asked.get();
    link.wake();
    assert_eq!(waits(&mut link, &mut io, at(600)).until, Some(at(1000)));
    assert_eq!(over(&mut link, &mut io, at(1000)), failed(TOO_LONG_ERROR));
    link.wake();
    let _ = turn(&mut link, &mut io, at(2000));
    link.abandon();
    assert_eq!(link.service().asked.get(), asked);
    assert_eq!(link.service().calls, [Call::Open, Call::Closed(Err(TOO_LONG_ERROR))]);
}

#[test]
fn what_has_only_begun_to_arrive_is_acknowledged_at_once() {
    let mut link = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    let mut acknowledged = |sent: &[u8]| {
        io.sent.extend_from_slice(sent);
        waits(&mut link, &mut io, at(0));
        core::mem::take(&mut io.acknowledged)
    };
    assert_eq!(acknowledged(b""), 1, "the handshake is over");
    assert_eq!(acknowledged(b""), 0);
    assert_eq!(acknowledged(&frame(b"whole")), 0);
    assert_eq!(acknowledged(&frame(b"begun")[..3]), 1);
    assert_eq!(acknowledged(&frame(b"begun")[3..4]), 1);
    assert_eq!(acknowledged(&frame(b"begun")[4..]), 0);
    assert_eq!(acknowledged(&frame(&[0; 3 * BUFFER])[..BUFFER + 4]), 1, "parts are to come");
}

#[test]
fn what_was_answered_is_acknowledged_by_the_answer() {
    let mut link = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport::new(frame(b"begun")[..3].to_vec());
    let mut acknowledged = |sent: &[u8]| {
        io.sent.extend_from_slice(sent);
        waits(&mut link, &mut io, at(0));
        core::mem::take(&mut io.acknowledged)
    };
    assert_eq!(acknowledged(b""), 1);
    let whole_and_begun = [&frame(b"begun")[3..], &frame(b"next")[..5]].concat();
    assert_eq!(acknowledged(&whole_and_begun), 0, "the echo says so");
    assert_eq!(acknowledged(&frame(b"next")[5..6]), 1);
}

#[test]
fn an_answer_that_could_not_leave_acknowledges_nothing() {
    let mut link = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    (io.acknowledged, io.room) = (0, 2);
    io.sent = [&frame(b"whole")[..], &frame(b"next")[..5]].concat();
    assert!(waits(&mut link, &mut io, at(0)).write);
    assert_eq!((io.heard.len(), io.acknowledged), (2, 1));
}

#[test]
fn who_cannot_be_read_is_waited_for_and_not_read() {
    let mut link = open(Recorder::default());
    let mut io = Transport { unreadable: true, ..Transport::new(frame(b"whole")) };
    assert!(waits(&mut link, &mut io, at(0)).read);
    assert_eq!(io.reads, 0);
    io.unreadable = false;
    assert!(waits(&mut link, &mut io, at(0)).read);
    assert_eq!(link.service().calls, [Call::Open, Call::Message(b"whole".to_vec())]);
}

#[test]
fn a_handshake_is_not_acknowledged_before_it_is_over() {
    let mut link = challenge(Recorder::default());
    let mut io = Transport::new(response()[..5].to_vec());
    let keys = Some(Key::challenge(SHA256, b"key").unwrap());
    assert!(matches!(link.turn(&mut io, &keys, at(0)), Progress::Wait(_)));
    assert_eq!(io.acknowledged, 0);
    io.sent = response()[5..].to_vec();
    assert!(matches!(link.turn(&mut io, &keys, at(0)), Progress::Wait(_)));
    assert_eq!(io.acknowledged, 1);
}

#[test]
fn an_orderly_end_is_told_once_and_last() {
    let service = Recorder { timeout: Some(at(500)), echo: true, ..Recorder::default() };
    let mut link = open(service);
    let mut io = Transport { eof: true, ..Transport::new(frame(b"ab")) };
    assert_eq!(over(&mut link, &mut io, at(0)), Ok(()));
    link.wake();
    let _ = turn(&mut link, &mut io, at(600));
    link.abandon();
    assert_eq!(
        link.service().calls,
        [Call::Open, Call::Message(b"ab".to_vec()), Call::Finished, Call::Closed(Ok(()))]
    );
    assert_eq!((io.heard, io.shuts), (frame(b"ab"), 1));
}

#[test]
fn a_transport_that_fails_is_told_once_and_last() {
    let mut link = open(Recorder { timeout: Some(at(500)), ..Recorder::default() });
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    io.read_fails = true;
    assert_eq!(over(&mut link, &mut io, at(1)), Err(Failure::Io(Broken)));
    link.wake();
    let _ = turn(&mut link, &mut io, at(600));
    assert_eq!(link.service().calls, [Call::Open, Call::Closed(Err(Error::Transport))]);
}

#[test]
fn a_wake_during_the_handshake_is_given_after_it() {
    let key = Key::challenge(SHA256, b"key").unwrap();
    let mut link = challenge(Recorder::default());
    let mut io = Transport::new(Vec::new());
    let _ = link.turn(&mut io, &key, at(0));
    link.wake();
    let _ = link.turn(&mut io, &key, at(1));
    assert_eq!(link.service().calls, []);
    io.sent = response();
    let _ = link.turn(&mut io, &key, at(2));
    assert_eq!(link.service().calls, [Call::Open, Call::Wake]);
    assert!(!link.is_woken());
    let _ = link.turn(&mut io, &key, at(3));
    assert_eq!(link.service().calls.len(), 2);
}

#[test]
fn a_service_that_finishes_on_its_timeout_gets_its_blocked_part_again() {
    let service = Recorder {
        echo: true,
        timeout: Some(at(10)),
        on_timeout: Some(Act::Finish),
        ..Recorder::default()
    };
    let mut link = open(service);
    let chunks = [vec![7; 600], vec![8; 600]];
    let mut io = Transport { room: 0, eof: true, ..Transport::new(Vec::new()) };
    io.sent = chunks.iter().flat_map(|chunk| frame(chunk)).collect();
    // The answer to the first fills the send side, and the peer does not read.
    assert_eq!(waits(&mut link, &mut io, at(0)).until, Some(at(10)));
    assert_eq!(link.service().messages(), 2);
    waits(&mut link, &mut io, at(20));
    assert_eq!(link.service().messages(), 3, "{:?}", link.service().calls);
    io.room = usize::MAX;
    assert_eq!(over(&mut link, &mut io, at(30)), Ok(()));
    assert_eq!(link.service().closed(), Ok(()));
    assert_eq!((io.heard, io.shuts), (frame(&chunks[0]), 1));
}

#[test]
fn a_blocked_part_comes_again_after_a_wake_and_when_there_is_room() {
    let mut link = open(Recorder { echo: true, ..Recorder::default() });
    let chunks = [vec![7; 600], vec![8; 600]];
    let mut io = Transport { room: 0, ..Transport::new(Vec::new()) };
    io.sent = chunks.iter().flat_map(|chunk| frame(chunk)).collect();
    assert!(waits(&mut link, &mut io, at(0)).write);
    assert_eq!(link.service().messages(), 2);
    link.wake();
    waits(&mut link, &mut io, at(1));
    assert_eq!(link.service().calls[3..], [Call::Wake, Call::Message(chunks[1].clone())]);
    io.room = usize::MAX;
    waits(&mut link, &mut io, at(2));
    assert_eq!(link.service().calls[5..], [Call::Writable, Call::Message(chunks[1].clone())]);
    assert_eq!(io.heard, [frame(&chunks[0]), frame(&chunks[1])].concat());
}

#[test]
fn a_turn_ends_though_the_peer_sends_without_end() {
    let mut link = open(Recorder::default());
    let mut io = Transport::flooding(frame(&[7; 508]));
    for turns in 1..=3 {
        assert!(matches!(turn(&mut link, &mut io, at(turns)), Progress::Yield));
        assert!(io.reads <= 8 * turns as usize, "{} reads", io.reads);
        assert!(link.service().messages() > turns as usize);
    }
}

#[test]
fn a_turn_ends_though_writing_failed_and_the_peer_sends_without_end() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { write_fails: true, ..Transport::flooding(frame(&[7; 508])) };
    assert_eq!(over(&mut link, &mut io, at(0)), Err(Failure::Io(Broken)));
    assert!(io.reads <= 64, "{} reads", io.reads);
    assert_eq!(link.service().closed(), Err(Error::Transport));
}

#[test]
fn what_the_peer_sent_before_a_write_failed_is_delivered() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    // More than one turn reads of a peer to which one can write.
    let sent: Vec<_> = (0..20).map(|n| vec![n; 700]).collect();
    let mut io = Transport { write_fails: true, eof: true, ..Transport::new(Vec::new()) };
    io.sent = sent.iter().flat_map(|body| frame(body)).collect();
    assert_eq!(over(&mut link, &mut io, at(0)), Err(Failure::Io(Broken)));
    let mut expected = vec![Call::Open];
    expected.extend(sent.into_iter().map(Call::Message));
    expected.extend([Call::Finished, Call::Closed(Err(Error::Transport))]);
    assert_eq!(link.service().calls, expected);
    assert_eq!(io.writes, 1);
}

#[test]
fn a_write_that_fails_after_an_error_leaves_the_error_as_it_is() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(TOO_LONG.to_vec()) };
    waits(&mut link, &mut io, at(0));
    (io.write_fails, io.flood) = (true, Some(vec![7; 512]));
    assert_eq!(over(&mut link, &mut io, at(1)), failed(TOO_LONG_ERROR));
    assert_eq!(link.service().closed(), Err(TOO_LONG_ERROR));
}

#[test]
fn a_part_that_was_whole_before_a_late_turn_is_delivered() {
    let mut link = open(Recorder::default());
    let whole = frame(&[7; 500]);
    let mut io = Transport::new(whole[..100].to_vec());
    assert_eq!(waits(&mut link, &mut io, at(0)).until, Some(at(30_000)));
    io.sent = whole[100..].to_vec();
    assert_eq!(waits(&mut link, &mut io, at(60_000)).until, None);
    assert_eq!(link.service().calls, [Call::Open, Call::Message(vec![7; 500])]);
}

#[test]
fn a_part_that_was_not_whole_before_a_late_turn_is_too_late() {
    let mut link = open(Recorder::default());
    let whole = frame(&[7; 500]);
    let mut io = Transport::new(whole[..100].to_vec());
    waits(&mut link, &mut io, at(0));
    io.sent = whole[100..503].to_vec();
    waits(&mut link, &mut io, at(30_000));
    assert_eq!(link.error(), Some(Error::TimedOut(TimedOut::Receive)));
    assert_eq!(link.service().closed(), Err(Error::TimedOut(TimedOut::Receive)));
}

#[test]
fn a_response_that_came_before_a_late_turn_is_in_time() {
    let key = Key::challenge(SHA256, b"key").unwrap();
    let mut link = challenge(Recorder::default());
    let mut io = Transport::new(Vec::new());
    let _ = link.turn(&mut io, &key, at(0));
    io.sent = response();
    let _ = link.turn(&mut io, &key, at(6_000));
    assert!(link.established());
}

#[test]
fn bytes_without_end_do_not_put_off_a_deadline() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::flooding(frame(&[7; 508])) };
    assert!(matches!(turn(&mut link, &mut io, at(0)), Progress::Yield));
    assert!(matches!(turn(&mut link, &mut io, at(29_999)), Progress::Yield));
    assert_eq!(link.error(), None);
    // The last thing that this turn does, so the next one acts on it.
    assert!(matches!(turn(&mut link, &mut io, at(30_000)), Progress::Yield));
    let _ = turn(&mut link, &mut io, at(30_000));
    assert_eq!(link.service().closed(), Err(Error::TimedOut(TimedOut::Send)));
}

#[test]
fn bytes_without_end_do_not_put_off_a_service() {
    let mut link = open(Recorder { timeout: Some(at(50)), ..Recorder::default() });
    let mut io = Transport::flooding(frame(&[7; 508]));
    assert!(matches!(turn(&mut link, &mut io, at(0)), Progress::Yield));
    assert_eq!(link.service().timeouts(), 0);
    assert!(matches!(turn(&mut link, &mut io, at(50)), Progress::Yield));
    assert_eq!(link.service().timeouts(), 1);
}

#[test]
fn a_service_that_is_always_due_is_called_once_a_turn() {
    let service = Recorder { timeout: Some(at(0)), restless: true, ..Recorder::default() };
    let mut link = open(service);
    let mut io = Transport::new(Vec::new());
    for turns in 1..=3 {
        assert_eq!(waits(&mut link, &mut io, at(1)).until, Some(at(0)));
        assert_eq!(link.service().timeouts(), turns);
    }
}

#[test]
fn after_an_error_what_was_queued_drains_and_the_peer_has_a_second_to_leave() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(TOO_LONG.to_vec()) };
    assert_eq!(link.error(), None);
    let wait = waits(&mut link, &mut io, at(0));
    assert_eq!(link.error(), Some(TOO_LONG_ERROR));
    assert_eq!(link.service().closed(), Err(TOO_LONG_ERROR));
    assert!(wait.read && wait.write, "{wait:?}");
    assert_eq!(io.shuts, 0);

    io.room = 4;
    waits(&mut link, &mut io, at(2_000));
    assert_eq!(io.shuts, 0);
    io.room = usize::MAX;
    let wait = waits(&mut link, &mut io, at(5_000));
    assert_eq!((&io.heard, io.shuts), (&frame(b"welcome"), 1));
    // The second begins when all is written.
    assert_eq!(wait, Wait { read: true, write: false, until: Some(at(6_000)) });

    io.sent = vec![7; 5_000];
    waits(&mut link, &mut io, at(5_500));
    assert_eq!(io.sent, []);
    waits(&mut link, &mut io, at(5_999));
    assert_eq!(over(&mut link, &mut io, at(6_000)), failed(TOO_LONG_ERROR));
    assert_eq!(io.shuts, 1);
}

#[test]
fn after_an_error_the_connection_is_over_as_soon_as_the_peer_leaves() {
    let mut link = open(Recorder::default());
    let mut io = Transport::new(TOO_LONG.to_vec());
    waits(&mut link, &mut io, at(0));
    io.sent = vec![7; 3_000];
    io.eof = true;
    assert_eq!(over(&mut link, &mut io, at(10)), failed(TOO_LONG_ERROR));
    assert_eq!((io.sent, io.shuts), (Vec::new(), 1));
}

#[test]
fn after_an_error_no_more_than_256_kib_are_thrown_away() {
    let mut link = open(Recorder::default());
    let mut io = Transport::new(TOO_LONG.to_vec());
    waits(&mut link, &mut io, at(0));
    (io.taken, io.flood) = (0, Some(vec![7; 999]));
    let how = loop {
        match turn(&mut link, &mut io, at(1)) {
            Progress::Yield => {}
            Progress::Wait(wait) => panic!("waits for {wait:?}"),
            Progress::Closed(how) => break how,
        }
    };
    assert_eq!(how, failed(TOO_LONG_ERROR));
    assert_eq!(io.taken, 256 << 10);
    assert_eq!(io.shuts, 1);
}

#[test]
fn who_has_sent_too_much_after_an_error_is_not_read_while_bytes_wait_for_it() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(TOO_LONG.to_vec()) };
    waits(&mut link, &mut io, at(0));
    io.flood = Some(vec![7; 999]);
    let wait = loop {
        match turn(&mut link, &mut io, at(1)) {
            Progress::Yield => {}
            Progress::Wait(wait) => break wait,
            Progress::Closed(how) => panic!("over with bytes unsent: {how:?}"),
        }
    };
    assert_eq!(wait, Wait { read: false, write: true, until: Some(at(30_000)) });
    let reads = io.reads;
    waits(&mut link, &mut io, at(2));
    assert_eq!(io.reads, reads);
    io.room = usize::MAX;
    assert_eq!(over(&mut link, &mut io, at(3)), failed(TOO_LONG_ERROR));
    assert_eq!((io.heard, io.reads, io.shuts), (frame(b"welcome"), reads, 1));
}

#[test]
fn after_an_error_a_peer_that_has_left_is_not_read_while_bytes_wait_for_it() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, eof: true, ..Transport::new(TOO_LONG.to_vec()) };
    let wait = waits(&mut link, &mut io, at(0));
    // Its end of stream would be reported again and again.
    assert!(!wait.read && wait.write, "{wait:?}");
    io.room = usize::MAX;
    assert_eq!(over(&mut link, &mut io, at(1)), failed(TOO_LONG_ERROR));
}

#[test]
fn after_an_error_a_peer_that_does_not_read_is_left_at_the_stall_timeout() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(TOO_LONG.to_vec()) };
    assert_eq!(waits(&mut link, &mut io, at(0)).until, Some(at(30_000)));
    let wait = waits(&mut link, &mut io, at(30_000));
    assert_eq!((wait.until, io.shuts), (Some(at(31_000)), 1));
    assert_eq!(over(&mut link, &mut io, at(31_000)), failed(TOO_LONG_ERROR));
}

#[test]
fn an_idle_connection_that_is_to_stop_finishes_when_it_has_been_quiet() {
    let mut link = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport::new(frame(b"ab"));
    waits(&mut link, &mut io, at(0));
    link.stop();
    assert_eq!(waits(&mut link, &mut io, at(1_000)).until, Some(at(1_100)));
    // What comes meanwhile is answered, and the quiet begins anew.
    io.sent = frame(b"cd");
    let wait = waits(&mut link, &mut io, at(1_050));
    assert_eq!((wait.until, io.shuts), (Some(at(1_150)), 0));
    assert_eq!(io.heard, [frame(b"ab"), frame(b"cd")].concat());
    waits(&mut link, &mut io, at(1_149));
    assert_eq!(io.shuts, 0);
    let wait = waits(&mut link, &mut io, at(1_150));
    assert_eq!((wait.until, io.shuts), (Some(at(2_150)), 1));
    io.eof = true;
    assert_eq!(over(&mut link, &mut io, at(1_200)), Ok(()));
    assert_eq!(link.service().closed(), Ok(()));
    assert_eq!(io.shuts, 1);
}

#[test]
fn a_peer_that_does_not_agree_to_a_stop_within_a_second_is_left() {
    let mut link = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    link_stops(&mut link, &mut io);
    assert_eq!(waits(&mut link, &mut io, at(1_099)).until, Some(at(1_100)));
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    assert_eq!(over(&mut link, &mut io, at(1_100)), failed(shutdown));
    assert_eq!(link.service().closed(), Err(shutdown));
    assert_eq!(io.shuts, 1);
}

#[test]
fn what_a_transport_holds_back_is_waited_for() {
    let mut link = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport { holds: true, ..Transport::new(frame(b"ab")) };
    let wait = waits(&mut link, &mut io, at(0));
    assert!(wait.read && wait.write, "{wait:?}");
    io.holds = false;
    let wait = waits(&mut link, &mut io, at(0));
    assert!(wait.read && !wait.write, "{wait:?}");
}

#[test]
fn a_connection_is_not_over_before_its_last_bytes_have_left_or_had_a_second_to() {
    for leave in [true, false] {
        let mut link = open(Recorder { echo: true, ..Recorder::default() });
        let mut io = Transport { eof: true, holds: true, ..Transport::new(frame(b"ab")) };
        let wait = waits(&mut link, &mut io, at(0));
        assert_eq!(wait, Wait { read: false, write: true, until: Some(at(1_000)) });
        assert_eq!(link.service().closed(), Ok(()));
        assert_eq!((&io.heard, io.shuts), (&frame(b"ab"), 1));
        io.holds = !leave;
        let now = if leave { at(10) } else { at(1_000) };
        assert_eq!(over(&mut link, &mut io, now), Ok(()));
    }
}

#[test]
fn what_the_peer_sent_before_a_flush_failed_is_delivered() {
    let mut link = open(Recorder::default());
    let mut io = Transport { flush_fails: true, ..Transport::new(frame(b"ab")) };
    assert_eq!(over(&mut link, &mut io, at(0)), Err(Failure::Io(Broken)));
    let calls = [Call::Open, Call::Message(b"ab".to_vec()), Call::Closed(Err(Error::Transport))];
    assert_eq!(link.service().calls, calls);
}

/// An open and idle link is stopped, and shuts its write side at 100 ms.
fn link_stops(link: &mut Link, io: &mut Transport) {
    waits(link, io, at(0));
    link.stop();
    waits(link, io, at(0));
    assert_eq!(io.shuts, 0);
    assert_eq!(waits(link, io, at(100)).until, Some(at(1_100)));
    assert_eq!(io.shuts, 1);
}

#[test]
fn a_peer_that_goes_on_sending_does_not_put_off_the_end_of_a_stop() {
    let mut link = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    link_stops(&mut link, &mut io);
    io.flood = Some(frame(&[7; 508]));
    let mut now = 100;
    let how = loop {
        now += 50;
        assert!(now <= 1_200, "goes on");
        match turn(&mut link, &mut io, at(now)) {
            Progress::Yield => {}
            Progress::Wait(wait) => panic!("waits for {wait:?}"),
            Progress::Closed(how) => break how,
        }
    };
    assert_eq!(how, failed(Error::Aborted(CloseReason::Shutdown)));
    assert_eq!(link.service().closed(), Err(Error::Aborted(CloseReason::Shutdown)));
}

#[test]
fn a_frame_that_is_half_received_is_answered_before_a_stop() {
    let mut link = open(Recorder { echo: true, ..Recorder::default() });
    let whole = frame(&[7; 500]);
    let mut io = Transport::new(whole[..2].to_vec());
    waits(&mut link, &mut io, at(0));
    link.stop();
    for now in [0, 200, 5_000] {
        assert_eq!(waits(&mut link, &mut io, at(now)).until, Some(at(30_000)));
    }
    io.sent = whole[2..100].to_vec();
    waits(&mut link, &mut io, at(6_000));
    io.sent = whole[100..].to_vec();
    assert_eq!(waits(&mut link, &mut io, at(7_000)).until, Some(at(7_100)));
    assert_eq!((&io.heard, io.shuts), (&whole, 0));
    waits(&mut link, &mut io, at(7_100));
    assert_eq!(io.shuts, 1);
}

#[test]
fn a_stop_waits_until_the_answer_has_left() {
    let mut link = open(Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport { room: 0, ..Transport::new(frame(b"ab")) };
    waits(&mut link, &mut io, at(0));
    link.stop();
    for now in [0, 200, 5_000] {
        waits(&mut link, &mut io, at(now));
        assert_eq!(io.shuts, 0);
    }
    io.room = usize::MAX;
    assert_eq!(waits(&mut link, &mut io, at(6_000)).until, Some(at(6_100)));
    waits(&mut link, &mut io, at(6_100));
    assert_eq!((io.heard, io.shuts), (frame(b"ab"), 1));
}

#[test]
fn a_stop_waits_for_an_answer_that_the_service_owes() {
    let mut link = open(Recorder { busy: true, ..Recorder::default() });
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    link.stop();
    for now in [0, 200, 60_000] {
        assert_eq!(waits(&mut link, &mut io, at(now)).until, None);
        assert_eq!(io.shuts, 0);
    }
    link.service_mut().busy = false;
    link.wake();
    assert_eq!(waits(&mut link, &mut io, at(70_000)).until, Some(at(70_100)));
    waits(&mut link, &mut io, at(70_100));
    assert_eq!(io.shuts, 1);
}

#[test]
fn an_answer_that_comes_to_be_owed_begins_the_quiet_anew() {
    let mut link = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    link.stop();
    waits(&mut link, &mut io, at(0));
    link.service_mut().busy = true;
    assert_eq!(waits(&mut link, &mut io, at(50)).until, None);
    link.service_mut().busy = false;
    assert_eq!(waits(&mut link, &mut io, at(90)).until, Some(at(190)));
    waits(&mut link, &mut io, at(189));
    assert_eq!(io.shuts, 0);
    waits(&mut link, &mut io, at(190));
    assert_eq!(io.shuts, 1);
}

#[test]
fn to_stop_again_changes_nothing() {
    let mut link = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    link.stop();
    waits(&mut link, &mut io, at(0));
    link.stop();
    assert_eq!(waits(&mut link, &mut io, at(50)).until, Some(at(100)));
    assert_eq!(waits(&mut link, &mut io, at(100)).until, Some(at(1_100)));
    link.stop();
    assert_eq!(waits(&mut link, &mut io, at(500)).until, Some(at(1_100)));
    assert_eq!(over(&mut link, &mut io, at(1_100)), failed(Error::Aborted(CloseReason::Shutdown)));
}

/// A buffer that can be leased when there is one.
struct Scarce {
    bytes: Vec<u8>,
    any: Rc<Cell<bool>>,
}

impl Storage for Scarce {
    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    fn lease(&mut self) -> bool {
        self.any.get()
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
fn a_stop_waits_for_a_buffer_to_read_what_may_have_come() {
    let any = Rc::new(Cell::new(true));
    let buffer = || Scarce { bytes: vec![0; BUFFER], any: any.clone() };
    let mut link = link_in(buffer, Scheme::None, Recorder { echo: true, ..Recorder::default() });
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    any.set(false);
    io.sent = frame(b"ab");
    link.stop();
    for now in [0, 200, 5_000] {
        let wait = waits(&mut link, &mut io, at(now));
        assert_eq!((wait.read, wait.until, io.shuts), (false, None, 0));
    }
    any.set(true);
    link.wake();
    assert_eq!(waits(&mut link, &mut io, at(6_000)).until, Some(at(6_100)));
    assert_eq!(io.heard, frame(b"ab"));
    waits(&mut link, &mut io, at(6_100));
    assert_eq!(io.shuts, 1);
}

#[test]
fn a_handshake_is_given_up_at_a_stop() {
    let mut link = challenge(Recorder::default());
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    link.stop();
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    assert_eq!(waits(&mut link, &mut io, at(1)).until, Some(at(1_001)));
    assert_eq!(link.error(), Some(shutdown));
    assert_eq!(io.shuts, 1);
    io.eof = true;
    assert_eq!(over(&mut link, &mut io, at(2)), failed(shutdown));
    assert_eq!(link.service().calls, [Call::Closed(Err(shutdown))]);
}

#[test]
fn a_service_that_stays_after_its_peer_has_finished_is_stopped_too() {
    let mut link = open(Recorder { stays: true, ..Recorder::default() });
    let mut io = Transport { eof: true, ..Transport::new(Vec::new()) };
    let wait = waits(&mut link, &mut io, at(0));
    assert_eq!(wait, Wait { read: false, write: false, until: None });
    link.stop();
    assert_eq!(waits(&mut link, &mut io, at(0)).until, Some(at(100)));
    assert_eq!(over(&mut link, &mut io, at(100)), Ok(()));
    assert_eq!(link.service().calls, [Call::Open, Call::Finished, Call::Closed(Ok(()))]);
    assert_eq!(io.shuts, 1);
}

#[test]
fn a_connection_that_is_abandoned_tells_its_service_once() {
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    let mut link = open(Recorder::default());
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    link.abandon();
    link.abandon();
    assert_eq!(link.service().calls, [Call::Open, Call::Closed(Err(shutdown))]);

    let mut link = open(Recorder::default());
    let mut io = Transport::new(TOO_LONG.to_vec());
    waits(&mut link, &mut io, at(0));
    link.abandon();
    assert_eq!(link.service().closed(), Err(TOO_LONG_ERROR));
}

#[test]
fn a_transport_that_takes_zero_bytes_is_waited_for() {
    let mut link = open(Recorder { greeting: b"welcome", ..Recorder::default() });
    let mut io = Transport { room: 0, says_zero: true, ..Transport::new(Vec::new()) };
    let wait = waits(&mut link, &mut io, at(0));
    assert!(wait.write, "{wait:?}");
    assert!(io.writes <= 2, "{} writes", io.writes);
    io.room = usize::MAX;
    assert!(!waits(&mut link, &mut io, at(1)).write);
    assert_eq!(io.heard, frame(b"welcome"));
}

#[test]
fn a_service_that_aborts_ends_with_its_reason_once_its_last_word_is_out() {
    let service = Recorder {
        greeting: b"welcome",
        on_message: Some(Act::Abort(CloseReason::Protocol)),
        ..Recorder::default()
    };
    let mut link = open(service);
    let mut io = Transport { room: 3, ..Transport::new([frame(b"ab"), frame(b"cd")].concat()) };
    waits(&mut link, &mut io, at(0));
    let aborted = Error::Aborted(CloseReason::Protocol);
    assert_eq!(link.error(), Some(aborted));
    assert_eq!(
        link.service().calls,
        [Call::Open, Call::Message(b"ab".to_vec()), Call::Closed(Err(aborted))]
    );
    (io.room, io.eof) = (usize::MAX, true);
    assert_eq!(over(&mut link, &mut io, at(1)), failed(aborted));
    assert_eq!((io.heard, io.shuts), (frame(b"welcome"), 1));
}

#[test]
fn a_service_that_aborts_on_its_timeout_ends_in_the_same_turn() {
    let service = Recorder {
        timeout: Some(at(10)),
        on_timeout: Some(Act::Abort(CloseReason::Timeout)),
        ..Recorder::default()
    };
    let mut link = open(service);
    let mut io = Transport::new(Vec::new());
    waits(&mut link, &mut io, at(0));
    waits(&mut link, &mut io, at(10));
    assert_eq!(link.service().closed(), Err(Error::Aborted(CloseReason::Timeout)));
    assert_eq!(io.shuts, 1);
}

/// A right key and a second that was made for another digest.
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
fn keys_for_another_digest_are_the_same_as_none() {
    let other = Key::challenge(Digest::Sha1, b"key").unwrap();
    let two = Two(Key::challenge(SHA256, b"key").unwrap(), other.clone());
    for keys in [&NO_KEY as &dyn Keys, &other, &two] {
        let mut link = challenge(Recorder::default());
        let mut io = Transport { eof: true, ..Transport::new(response()) };
        match link.turn(&mut io, keys, at(0)) {
            Progress::Closed(how) => assert_eq!(how, failed(Error::Refused(KeyRejection::Unknown))),
            other => panic!("not over but {other:?}"),
        }
        let refused = Error::Refused(KeyRejection::Unknown);
        assert_eq!(link.service().calls, [Call::Closed(Err(refused))]);
    }
}
