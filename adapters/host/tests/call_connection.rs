//! Connections that are driven by calls: one connected to another.

#![cfg(test)]

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use countersign::{Config, Error, Instant, Key, Mutual, ProcessId, Remaining, Scheme, SendError};
use countersign_driver::MessageBuffer;
use countersign_host::{
    Address, AddressError, CallConnection, CallError, ConnectionOptions, Connector, MessageMemory,
    OwnedChunk, PoolOptions, Pools, ProtocolFactory, Sending, SessionFactory, StartError, Step,
    Stream,
};

const NOW: Instant = Instant::EPOCH;
/// Length of every buffer in bytes. Messages of a few thousand bytes have several chunks.
const BUFFER: usize = 512;

fn key() -> Key {
    Key::mutual(b"a key that is long enough for anyone").unwrap()
}

fn factory(name: &str, process: u8) -> SessionFactory {
    let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
    let mutual = Mutual::new(name.parse().unwrap(), process_id);
    let mut options = PoolOptions::default();
    options.buffer_len = BUFFER;
    SessionFactory::new(Config::new(Scheme::Mutual(mutual)), Pools::new(&options))
}

struct Half {
    connection: CallConnection,
    stream: Stream,
}

impl Half {
    fn poll(&mut self) -> Step {
        self.connection.poll(&mut &self.stream, &key(), NOW)
    }

    fn send(&mut self, message: &[u8]) {
        let mut sending = Sending::message(message);
        assert!(self.connection.send(&mut sending).is_none());
        assert!(sending.is_taken());
    }

    fn recv(&mut self) -> Option<Result<Option<Vec<u8>>, CallError>> {
        self.connection.recv(NOW)
    }
}

struct Pair {
    client: Half,
    server: Half,
}

impl Pair {
    fn new(max_message: usize) -> Self {
        Self::with_limits(max_message, max_message)
    }

    /// `client` and `server` are the longest messages of each end.
    fn with_limits(client: usize, server: usize) -> Self {
        let (a, b) = UnixStream::pair().unwrap();
        let half = |stream: UnixStream, protocol, max_message| {
            stream.set_nonblocking(true).unwrap();
            let memory = MessageMemory::new(max_message, 4 * max_message);
            Half {
                connection: CallConnection::new(protocol, &memory),
                stream: Stream::Unix(stream),
            }
        };
        let waker = Waker::noop();
        let client = half(a, factory("client", 1).client(&waker.into(), NOW).unwrap(), client);
        let server = half(b, factory("server", 2).server(&waker.into(), NOW).unwrap(), server);
        let mut pair = Self { client, server };
        assert!(pair.client.connection.established().is_none());
        pair.poll();
        assert!(matches!(pair.client.connection.established(), Some(Ok(()))));
        assert_eq!(pair.server.connection.peer().unwrap().name, Some("client"));
        assert!(pair.client.connection.handle().is_none());
        pair
    }

    /// Polls both ends until nothing more happens.
    fn poll(&mut self) -> (Step, Step) {
        let mut steps = None;
        loop {
            let next = (self.client.poll(), self.server.poll());
            if steps.replace(next) == Some(next) {
                return next;
            }
        }
    }

    /// The next message that the server receives.
    fn recv(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        for _ in 0..10_000 {
            if let Some(received) = self.server.recv() {
                return received;
            }
            self.poll();
        }
        panic!("nothing arrives");
    }

    fn chunk(&mut self) -> OwnedChunk {
        for _ in 0..10_000 {
            if let Some(received) = self.server.connection.recv_chunk(NOW) {
                return received.unwrap().unwrap();
            }
            self.poll();
        }
        panic!("nothing arrives");
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        for _ in 0..10_000 {
            if let Some(read) = self.server.connection.read(into, NOW) {
                return read.unwrap();
            }
            self.poll();
        }
        panic!("nothing arrives");
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 7) as u8).collect()
}

#[test]
fn messages_of_any_length_arrive_whole() {
    let mut pair = Pair::new(100_000);
    for len in [0, 1, 400, BUFFER, 5000, 100_000] {
        let message = bytes(len);
        let mut sending = Sending::message(message.clone());
        let mut received = None;
        while pair.client.connection.send(&mut sending).is_none() {
            pair.poll();
            if received.is_none() {
                received = pair.server.recv();
            }
        }
        let received = received.unwrap_or_else(|| pair.recv());
        assert!(received.unwrap().unwrap() == message, "{len}");
    }
    assert!(pair.server.recv().is_none());
}

#[test]
fn send_reports_taken_and_then_sent() {
    let mut pair = Pair::new(100_000);
    let message = bytes(50_000);
    let (mut first, mut second) = (Sending::message(&message), Sending::message(b"second"));
    assert!(pair.client.connection.send(&mut first).is_none());
    assert!(first.is_taken() && pair.client.connection.wants_poll());
    // The first message is still queued.
    assert!(pair.client.connection.send(&mut second).is_none());
    assert!(!second.is_taken());
    let mut chunks = 0;
    while pair.client.connection.send(&mut first).is_none() {
        pair.client.poll();
        pair.server.poll();
        chunks += usize::from(matches!(pair.server.connection.recv_chunk(NOW), Some(Ok(Some(_)))));
    }
    assert!(chunks > 50, "sent before the peer has read: {chunks}");
    assert!(pair.client.connection.send(&mut second).is_none());
    assert!(second.is_taken());
}

#[test]
fn given_up_receive_keeps_what_has_arrived() {
    let mut pair = Pair::new(100_000);
    pair.client.send(&bytes(3000));
    pair.client.poll();
    for _ in 0..3 {
        pair.server.poll();
        assert!(pair.server.recv().is_none());
    }
    assert!(pair.recv().unwrap().unwrap() == bytes(3000));
}

#[test]
fn chunks_follow_a_given_up_receive() {
    let mut pair = Pair::new(100_000);
    pair.client.send(&bytes(3000));
    pair.client.poll();
    pair.server.poll();
    assert!(pair.server.recv().is_none());
    let first = pair.chunk();
    assert!(first.first && first.remaining == Remaining::More);
    let mut all = first.bytes;
    loop {
        let chunk = pair.chunk();
        assert!(!chunk.first);
        all.extend(chunk.bytes);
        if chunk.remaining == Remaining::End {
            break;
        }
    }
    assert!(all == bytes(3000));
    pair.client.send(b"next");
    assert_eq!(pair.recv().unwrap().unwrap(), b"next");
}

#[test]
fn reads_take_bytes_across_messages() {
    let mut pair = Pair::new(100_000);
    let mut space = [0; 7];
    assert!(matches!(pair.server.connection.read(&mut [], NOW), Some(Ok(0))));
    assert!(pair.server.connection.read(&mut space, NOW).is_none());
    pair.client.send(b"0123456789");
    assert_eq!((pair.read(&mut space), &space), (7, b"0123456"));
    // The end of a message that was read in part is a chunk, or a message.
    let rest = pair.chunk();
    assert_eq!((&rest.bytes[..], rest.first, rest.remaining), (&b"789"[..], false, Remaining::End));
    pair.client.send(b"0123456789");
    pair.read(&mut space);
    assert_eq!(pair.recv().unwrap().unwrap(), b"789");
    // Empty messages have no bytes.
    pair.client.send(b"");
    pair.poll();
    assert!(pair.server.connection.read(&mut space, NOW).is_none());
    pair.client.send(b"abc");
    assert_eq!((pair.read(&mut space), &space[..3]), (3, &b"abc"[..]));
    // The start of a message that `recv` has begun to collect.
    pair.client.send(&bytes(2000));
    pair.client.poll();
    pair.server.poll();
    assert!(pair.server.recv().is_none());
    let mut all = Vec::new();
    while all.len() < 2000 {
        let n = pair.read(&mut space);
        all.extend_from_slice(&space[..n]);
    }
    assert!(all == bytes(2000));
    pair.client.send(b"next");
    assert_eq!(pair.recv().unwrap().unwrap(), b"next");
}

#[test]
fn receive_returns_the_rest_of_a_message_that_was_read_in_part() {
    let mut pair = Pair::new(100_000);
    let mut space = [0; 7];
    for reads in [1, 2, 200] {
        pair.client.send(&bytes(5000));
        let mut all = Vec::new();
        for _ in 0..reads {
            let n = pair.read(&mut space);
            all.extend_from_slice(&space[..n]);
        }
        let rest = pair.recv().unwrap().unwrap();
        assert!([all, rest].concat() == bytes(5000), "{reads}");
    }
}

#[test]
fn exhausted_memory_is_reported_and_loses_nothing() {
    const MAX: usize = 2000;
    let mut pair = Pair::new(MAX);
    let memory = MessageMemory::new(MAX, 0);
    let others = [memory.buffer(), memory.buffer()].map(|mut buffer| {
        buffer.reserve(buffer.max_len()).unwrap();
        buffer
    });
    let protocol = factory("server", 2).server(&Waker::noop().into(), NOW).unwrap();
    pair.server.connection = CallConnection::new(protocol, &memory);
    let protocol = factory("client", 1).client(&Waker::noop().into(), NOW).unwrap();
    pair.client.connection = CallConnection::new(protocol, &MessageMemory::default());
    pair.poll();
    pair.client.send(&bytes(MAX));
    for _ in 0..2 {
        let received = pair.recv();
        assert!(matches!(received, Err(CallError::MemoryExhausted)), "{received:?}");
    }
    drop(others);
    assert!(pair.recv().unwrap().unwrap() == bytes(MAX));
}

/// Nothing reports when there is memory again: a call that waited for it could wait for ever.
#[test]
fn exhausted_memory_fails_a_long_message_and_delays_a_short_one() {
    const MAX: usize = 20_000;
    let mut pair = Pair::new(MAX);
    let memory = MessageMemory::new(MAX, 0);
    let protocol = factory("server", 2).server(&Waker::noop().into(), NOW).unwrap();
    pair.server.connection = CallConnection::new(protocol, &memory);
    let protocol = factory("client", 1).client(&Waker::noop().into(), NOW).unwrap();
    pair.client.connection = CallConnection::new(protocol, &MessageMemory::default());
    pair.poll();
    let others = [memory.buffer(), memory.buffer()].map(|mut buffer| {
        buffer.reserve(buffer.max_len()).unwrap();
        buffer
    });
    let long = bytes(MAX);
    let sent = pair.server.connection.send(&mut Sending::message(&long));
    assert!(matches!(sent, Some(Err(CallError::MemoryExhausted))), "{sent:?}");
    // Messages of one chunk fill the send buffer, without a poll that would empty it.
    let mut short = Sending::message(&b"short"[..]);
    let mut taken = 0;
    while pair.server.connection.send(&mut short).is_none() && short.is_taken() {
        short = Sending::message(&b"short"[..]);
        taken += 1;
    }
    assert!(taken > 0 && !short.is_taken());
    pair.poll();
    assert!(pair.server.connection.send(&mut short).is_none());
    assert!(short.is_taken());
    drop(others);
    let mut long = Sending::message(&long);
    while pair.server.connection.send(&mut long).is_none() {
        pair.poll();
        while let Some(received) = pair.client.recv() {
            received.unwrap();
        }
    }
    assert!(long.is_taken());
}

#[test]
fn message_that_is_too_long_can_be_taken_in_chunks() {
    let mut pair = Pair::with_limits(10_000, 2000);
    pair.client.send(&bytes(2001));
    for _ in 0..2 {
        let received = pair.recv();
        assert!(matches!(received, Err(CallError::MessageTooLong)), "{received:?}");
    }
    let mut all = Vec::new();
    loop {
        let chunk = pair.chunk();
        assert_eq!(chunk.first, all.is_empty());
        all.extend(chunk.bytes);
        if chunk.remaining == Remaining::End {
            break;
        }
    }
    assert!(all == bytes(2001));
    pair.client.send(&bytes(2000));
    assert!(pair.recv().unwrap().unwrap() == bytes(2000));
}

#[test]
fn message_longer_than_the_queue_is_not_sent() {
    let mut pair = Pair::new(2000);
    let message = bytes(2001);
    let mut sending = Sending::message(&message);
    let Some(Err(CallError::Send(error))) = pair.client.connection.send(&mut sending) else {
        panic!("sent")
    };
    assert_eq!(error, SendError::TooLong { max: 2000 });
    assert!(!sending.is_taken());
    pair.client.send(&bytes(2000));
    assert!(pair.recv().unwrap().unwrap() == bytes(2000));
}

#[test]
fn peer_that_finished_sends_no_more() {
    let mut pair = Pair::new(100_000);
    let message = bytes(3000);
    let mut finish = Sending::finish();
    pair.client.send(&message);
    // The FIN follows queued messages.
    assert!(pair.client.connection.send(&mut finish).is_none());
    assert!(!finish.is_taken());
    assert!(pair.recv().unwrap().unwrap() == message);
    while !finish.is_taken() {
        assert!(pair.client.connection.send(&mut finish).is_none());
        pair.poll();
    }
    for _ in 0..2 {
        assert!(matches!(pair.recv(), Ok(None)));
        assert!(matches!(pair.server.connection.recv_chunk(NOW), Some(Ok(None))));
        assert!(matches!(pair.server.connection.read(&mut [0], NOW), Some(Ok(0))));
    }
    // The other direction is open, and our own end is final.
    let late = pair.client.connection.send(&mut Sending::message(b"late"));
    assert!(matches!(late, Some(Err(CallError::Send(SendError::Finished)))), "{late:?}");
    pair.server.send(b"reply");
    pair.poll();
    assert!(matches!(pair.client.recv(), Some(Ok(Some(it))) if it == b"reply"));
    assert!(pair.server.connection.send(&mut Sending::finish()).is_none());
    assert_eq!(pair.poll(), (Step::Closed, Step::Closed));
    assert!(matches!(pair.client.recv(), Some(Ok(None))));
    assert!(matches!(pair.client.connection.send(&mut finish), Some(Ok(()))));
    let late = pair.client.connection.send(&mut Sending::message(b"late"));
    assert!(matches!(late, Some(Err(CallError::Send(SendError::Finished)))), "{late:?}");
}

#[test]
fn lost_connection_is_reported_after_received_messages() {
    let mut pair = Pair::new(100_000);
    pair.client.send(b"message");
    pair.client.poll();
    let (closed, _) = UnixStream::pair().unwrap();
    pair.client.stream = Stream::Unix(closed);
    pair.server.poll();
    assert!(matches!(pair.server.recv(), Some(Ok(Some(it))) if it == b"message"));
    pair.server.poll();
    let received = pair.server.recv();
    let truncated = matches!(&received, Some(Err(CallError::Protocol(Error::Truncated(_)))));
    assert!(truncated, "{received:?}");
    let sent = pair.server.connection.send(&mut Sending::message(b"late"));
    assert!(matches!(&sent, Some(Err(CallError::Protocol(Error::Truncated(_))))), "{sent:?}");
}

#[test]
fn changes_counts_events_that_calls_wait_for() {
    let mut pair = Pair::new(100_000);
    let before = pair.server.connection.changes();
    pair.server.poll();
    assert_eq!(pair.server.connection.changes(), before);
    // A call that has to wait leaves no work for a poll.
    assert!(pair.server.recv().is_none() && !pair.server.connection.wants_poll());
    pair.client.send(b"message");
    pair.client.poll();
    pair.server.poll();
    assert_ne!(pair.server.connection.changes(), before);
}

#[test]
fn connector_parses_its_address_and_keeps_its_options() {
    let connector = |address| Connector::new(address, factory("client", 1), key());
    assert_eq!(connector("nowhere").unwrap_err(), AddressError);
    let mut options = ConnectionOptions::default();
    options.timeout = Some(Duration::from_secs(3));
    let connector = connector("unix:/tmp/socket").unwrap().with_options(options);
    assert_eq!(connector.address(), &Address::Unix("/tmp/socket".into()));
    assert_eq!(connector.clone().options().timeout, Some(Duration::from_secs(3)));
}

#[test]
fn connector_begins_connections_with_its_keys() {
    let connector = Connector::new("unix:unused", factory("client", 1), key()).unwrap();
    let mut pair = Pair::new(1000);
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (pair.client.stream, pair.server.stream) = (Stream::Unix(a), Stream::Unix(b));
    let protocol = factory("server", 2).server(&Waker::noop().into(), NOW).unwrap();
    pair.server.connection = CallConnection::new(protocol, &MessageMemory::default());
    pair.client.connection = connector.begin(Waker::noop(), NOW).unwrap();
    let keys = connector.keys();
    for _ in 0..5 {
        pair.server.poll();
        let stream = &mut &pair.client.stream;
        let _ = pair.client.connection.poll(stream, &**keys, NOW);
    }
    assert!(matches!(pair.client.connection.established(), Some(Ok(()))));
}

#[test]
fn connector_without_a_buffer_cannot_begin() {
    let mut pools = PoolOptions::default();
    pools.handshakes = 0;
    let config = Config::new(Scheme::None);
    let factory = Arc::new(SessionFactory::new(config, Pools::new(&pools)));
    let address = "127.0.0.1:1".parse().unwrap();
    let connector = Connector::of(address, factory, Arc::new(None::<Key>));
    let begun = connector.begin(Waker::noop(), NOW);
    assert!(matches!(begun, Err(CallError::Start(StartError::Config(_)))));
}
