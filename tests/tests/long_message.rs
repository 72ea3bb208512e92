//! A message of more than 2 GiB: in the framing `multiprocessing` it has the long header, and
//! passes in chunks through buffers of the usual length.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{
    Buffers, Digest, Error, Event, Framing, Instant, Nonce, Protocol, Remaining, Role, SendError,
    Session, Storage,
};
use countersign_tests::{
    HonestPeer, LeasedBuffer, Policy, Pools, SECRET, SessionSpec, drain, receive,
};

const NOW: Instant = Instant::EPOCH;
const SPEC: SessionSpec =
    SessionSpec::Multiprocessing(Policy::Strict(Digest::Sha256), Framing::Multiprocessing);
/// More than an `i32` can express.
const LEN: u64 = (1 << 31) + 123_457;
const HEADER: [u8; 12] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 1, 0xe2, 0x41];
const HEADER_LEN: usize = HEADER.len();
/// Length of every buffer, in bytes.
const BUFFER: usize = 64 << 10;
const CHUNK: usize = BUFFER - HEADER_LEN;

/// Returns a client and a server after their handshake. The server accepts frames of up to
/// `max_frame` bytes.
fn pair<B: Storage>(max_frame: u64, buffers: impl Fn() -> Buffers<B>) -> [Session<B>; 2] {
    let make = |role, nonce: u8| {
        let config = SPEC.config(role, HonestPeer::HEARTBEAT).with_max_frame(max_frame);
        let nonce = Nonce::from_bytes([nonce; Nonce::LEN]);
        match role {
            Role::Client => Session::client(&config, nonce, buffers(), NOW),
            Role::Server => Session::server(&config, nonce, buffers(), NOW),
        }
        .unwrap()
    };
    let mut endpoints = [make(Role::Client, 1), make(Role::Server, 2)];
    let keys = SPEC.keys(SECRET);
    while endpoints.iter().any(|end| end.peer().is_none()) {
        for at in [1, 0] {
            let accepted = drain(&mut endpoints[at], NOW);
            receive(&mut endpoints[1 - at], &keys, &accepted, NOW);
        }
    }
    endpoints
}

/// A message with a prime period, which divides no buffer's length.
struct Pattern(Vec<u8>);

impl Pattern {
    const PERIOD: u64 = 65_521;

    fn new() -> Self {
        let byte = |at: u64| (at % Self::PERIOD).wrapping_mul(0x9e37_79b9).to_be_bytes()[4];
        Self((0..Self::PERIOD + BUFFER as u64).map(byte).collect())
    }

    /// Returns the `len` bytes at offset `at`.
    fn chunk(&self, at: u64, len: usize) -> &[u8] {
        &self.0[(at % Self::PERIOD) as usize..][..len]
    }
}

/// Returns the length of the chunk at offset `at`, and what follows it.
fn chunk(at: u64) -> (usize, Remaining) {
    let len = (LEN - at).min(CHUNK as u64);
    match LEN - at - len {
        0 => (len as usize, Remaining::End),
        more => (len as usize, Remaining::Bytes(more)),
    }
}

#[test]
fn message_over_2_gib_passes_through_fixed_buffers() {
    let memory =
        || Buffers { handshake: vec![0; 1024], receive: vec![0; BUFFER], send: vec![0; BUFFER] };
    let [mut client, mut server] = pair(LEN, memory);
    let pattern = Pattern::new();
    let (mut accepted, mut written, mut received) = (0, 0, 0);
    while received < LEN {
        while accepted < LEN {
            let (len, remaining) = chunk(accepted);
            match client.split().1.send_chunk(pattern.chunk(accepted, len), remaining) {
                Ok(()) => accepted += len as u64,
                Err(full) => {
                    assert_eq!(full, SendError::Full);
                    break;
                }
            }
        }
        let (bytes, space) = (client.poll_transmit(NOW), server.recv_space());
        let n = bytes.len().min(space.len());
        space[..n].copy_from_slice(&bytes[..n]);
        if written == 0 {
            assert_eq!(space[..HEADER_LEN], HEADER);
        }
        client.handle_transmitted(n, NOW);
        server.handle_received(n, NOW);
        written += n as u64;
        assert!(
            n > 0 && written - received <= 2 * BUFFER as u64,
            "more in flight than the buffers hold"
        );

        while let Some(event) = server.poll_event(NOW).unwrap() {
            let (len, remaining) = chunk(received);
            assert_eq!(event, Event::Chunk { first: received == 0, remaining });
            assert!(server.split().0 == pattern.chunk(received, len), "from byte {received} on");
            server.consume(NOW);
            received += len as u64;
        }
        while let Some(event) = client.poll_event(NOW).unwrap() {
            assert_eq!(event, Event::Writable);
        }
    }
    assert_eq!(written, LEN + HEADER_LEN as u64);
    // A message after it is an ordinary one.
    assert!(client.is_idle() && server.is_idle());
    client.split().1.send(b"short").unwrap();
    let sent = drain(&mut client, NOW);
    assert_eq!(sent, b"\0\0\0\x05short");
    let received = receive(&mut server, &SPEC.keys(SECRET), &sent, NOW);
    assert_eq!(
        received,
        [(Event::Chunk { first: true, remaining: Remaining::End }, b"short".to_vec())]
    );
}

#[test]
fn message_over_max_frame_is_refused_at_its_header() {
    for limit in [0, 1 << 20, i32::MAX as u64, LEN - 1] {
        let (pools, clients) = (Pools::default(), Pools::default());
        let [mut client, _] = pair::<LeasedBuffer>(LEN, || clients.buffers(BUFFER, BUFFER));
        let [_, mut server] = pair::<LeasedBuffer>(limit, || pools.buffers(BUFFER, BUFFER));
        client.split().1.send_chunk(&[7; CHUNK], Remaining::Bytes(LEN - CHUNK as u64)).unwrap();
        let sent = drain(&mut client, NOW);
        let (before, last) = sent[..HEADER_LEN].split_at(HEADER_LEN - 1);
        assert_eq!(receive(&mut server, &SPEC.keys(SECRET), before, NOW), []);
        assert_eq!(
            (server.poll_event(NOW), pools.held()),
            (Ok(None), 0),
            "a header needs no lease"
        );
        receive(&mut server, &SPEC.keys(SECRET), last, NOW);
        assert_eq!(server.poll_event(NOW), Err(Error::FrameTooLong { len: LEN }));
        assert!(!server.wants_read() && server.is_done());
        assert_eq!(pools.held(), 0);
    }
}

#[test]
fn message_of_i32_max_bytes_has_the_short_header() {
    for (more, header) in [(0, &[0x7f, 0xff, 0xff, 0xff][..]), (1, &[0xff; 4])] {
        let pools = Pools::default();
        let [mut client, mut server] = pair::<LeasedBuffer>(LEN, || pools.buffers(BUFFER, BUFFER));
        let len = i32::MAX as u64 + more;
        client.split().1.send_chunk(&[7; CHUNK], Remaining::Bytes(len - CHUNK as u64)).unwrap();
        let sent = drain(&mut client, NOW);
        assert_eq!(&sent[..4], header);
        let received = receive(&mut server, &SPEC.keys(SECRET), &sent, NOW);
        let remaining = Remaining::Bytes(len - CHUNK as u64);
        assert_eq!(received, [(Event::Chunk { first: true, remaining }, vec![7; CHUNK])]);
    }
}
