//! When a session takes and releases the leases of its buffers.

use super::*;

const NONE: (usize, usize, usize) = (0, 0, 0);

#[test]
fn idle_session_holds_no_lease() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut endpoint = Endpoint::established(&framed(framing));
        assert_eq!(endpoint.pools.held(), NONE);
        endpoint.drive_idle();
        assert_eq!(endpoint.pools.held(), NONE);
        endpoint.send(b"message").unwrap();
        assert_eq!(endpoint.pools.held(), (0, 0, 1));
        endpoint.drive_idle();
        assert_eq!(endpoint.pools.held(), NONE);
        endpoint.feed(&frame(b"message"));
        assert_eq!(endpoint.pools.held(), (0, 1, 0));
        endpoint.events();
        endpoint.consume();
        endpoint.drive_idle();
        assert_eq!(endpoint.pools.held(), NONE);
    }
}

#[test]
fn partial_header_holds_no_lease() {
    for len in 1..4 {
        let mut endpoint = Endpoint::established(&framed(Framing::U32));
        let bytes = frame(b"message");
        endpoint.feed(&bytes[..len]);
        endpoint.drive_idle();
        assert_eq!(endpoint.pools.held(), NONE, "after {len} bytes");
        assert!(endpoint.session.wants_read());
        endpoint.feed(&bytes[len..]);
        assert_eq!(endpoint.events(), [whole_message()]);
        assert_eq!(endpoint.chunk(), b"message");
    }
}

#[test]
fn partial_frame_keeps_its_lease() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    let bytes = frame(&[9; 60]);
    endpoint.feed(&bytes[..40]);
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), (0, 1, 0));
    endpoint.feed(&bytes[40..]);
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.chunk(), [9; 60]);
}

#[test]
fn pending_chunk_keeps_its_lease() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(b""));
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), (0, 1, 0));
    endpoint.consume();
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), NONE);
}

#[test]
fn handshake_lease_is_released_once_drained() {
    let digest = Digest::Sha256;
    let mut client = Endpoint::client(&challenge(digest));
    assert_eq!(client.pools.held(), (1, 0, 0));
    client.feed(&[0x6e; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.provide_key(&key(digest, SECRET));
    assert_eq!(client.events(), [], "the response is not transmitted yet");
    assert_eq!(client.pools.held(), (1, 0, 0));
    let mut response = client.transmit(31);
    assert_eq!(client.events(), []);
    assert_eq!(client.pools.held(), (1, 0, 0));
    response.extend(client.transmit(1));
    assert_eq!(client.events(), [Event::Established]);
    assert_eq!(client.pools.held(), NONE);

    let mut server = Endpoint::server(&challenge(digest));
    server.transmit_all();
    server.feed(&response);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    assert_eq!(server.pools.held(), (1, 0, 0));
    server.provide_key(&key(digest, SECRET));
    assert_eq!(server.events(), [Event::Established]);
    assert_eq!(server.pools.held(), NONE);

    let mut endpoint = Endpoint::server(&framed(Framing::U32));
    assert_eq!(endpoint.pools.held(), (1, 0, 0));
    assert_eq!(endpoint.events(), [Event::Established]);
    assert_eq!(endpoint.pools.held(), NONE);
}

#[test]
fn failed_session_holds_no_lease_once_drained() {
    let mut endpoint = Endpoint::server(&challenge(Digest::Sha256));
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    assert_eq!(endpoint.pools.held(), NONE, "an aborted handshake transmits nothing");

    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send(b"queued").unwrap();
    endpoint.feed(&frame(&[1; 60])[..50]);
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.pools.held(), (0, 1, 1));
    endpoint.eof();
    assert_eq!(endpoint.error(), Error::Truncated(Truncated::Message));
    assert_eq!(endpoint.pools.held(), (0, 0, 1));
    endpoint.transmit_all();
    assert_eq!(endpoint.pools.held(), NONE);

    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.session.recv_space();
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    assert_eq!(endpoint.pools.held(), NONE);
}

#[test]
fn closed_session_holds_no_lease() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.feed(b"last");
    endpoint.eof();
    assert_eq!(endpoint.events().len(), 1);
    endpoint.send(b"answer").unwrap();
    endpoint.consume();
    endpoint.finish();
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
    assert_eq!(endpoint.pools.held(), (0, 0, 1));
    endpoint.transmit_all();
    assert_eq!(endpoint.events(), [Event::Closed]);
    assert_eq!(endpoint.pools.held(), NONE);
}

#[test]
fn reading_waits_for_a_lease_and_resumes() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(b"message")[..3]);
    endpoint.drive_idle();
    endpoint.pools.receive.exhausted.set(true);
    assert!(!endpoint.session.awaiting_buffer(), "no lease has been requested yet");
    assert!(endpoint.session.wants_read());
    assert_eq!(endpoint.offer(&frame(b"message")[3..]), 0);
    assert!(endpoint.session.awaiting_buffer());
    assert!(endpoint.session.wants_read(), "the session still wants the bytes");
    assert_eq!(endpoint.events(), []);
    endpoint.send(b"not blocked").unwrap();
    assert_eq!(endpoint.transmit_all(), frame(b"not blocked"));
    endpoint.pools.receive.exhausted.set(false);
    endpoint.feed(&frame(b"message")[3..]);
    assert!(!endpoint.session.awaiting_buffer());
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.chunk(), b"message");
}

#[test]
fn sending_waits_for_a_lease_and_resumes() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.pools.send.exhausted.set(true);
    assert_eq!(endpoint.send(b"message"), Err(SendError::Full));
    assert!(endpoint.session.awaiting_buffer());
    assert!(!endpoint.session.wants_write());
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.transmit_all(), b"");
    assert!(endpoint.session.awaiting_buffer(), "polling keeps the request");
    assert!(endpoint.pools.send.awaited.get(), "polling keeps the place in the queue");
    endpoint.feed(&frame(b"not blocked"));
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.consume();
    endpoint.pools.send.exhausted.set(false);
    assert_eq!(endpoint.events(), [Event::Writable]);
    assert!(!endpoint.session.awaiting_buffer());
    endpoint.send(b"message").unwrap();
    assert_eq!(endpoint.transmit_all(), frame(b"message"));
    assert_eq!(endpoint.pools.send.leased.get(), 0);
}

#[test]
fn unused_send_lease_is_released() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.pools.send.exhausted.set(true);
    assert_eq!(endpoint.send(b"message"), Err(SendError::Full));
    endpoint.pools.send.exhausted.set(false);
    assert_eq!(endpoint.events(), [Event::Writable]);
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), NONE);
}

#[test]
fn error_releases_an_empty_send_lease() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32).with_max_frame(1));
    endpoint.pools.send.exhausted.set(true);
    assert_eq!(endpoint.send(b"message"), Err(SendError::Full));
    endpoint.pools.send.exhausted.set(false);
    assert_eq!(endpoint.events(), [Event::Writable]);
    endpoint.feed(&frame(b"too long"));
    assert_eq!(endpoint.pools.held(), (0, 1, 1));
    assert_eq!(endpoint.error(), Error::FrameTooLong { len: 8 });
    assert_eq!(endpoint.pools.held(), NONE);
}

#[test]
fn finished_or_failed_session_awaits_no_lease() {
    for aborts in [true, false] {
        let mut endpoint = Endpoint::established(&framed(Framing::Raw));
        endpoint.pools.send.exhausted.set(true);
        endpoint.pools.receive.exhausted.set(true);
        assert_eq!(endpoint.send(b"message"), Err(SendError::Full));
        assert_eq!(endpoint.offer(b"message"), 0);
        assert!(endpoint.session.awaiting_buffer());
        if aborts {
            endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
        } else {
            endpoint.finish();
            endpoint.eof();
            assert_eq!(endpoint.events(), [Event::Writable, Event::PeerFinished, Event::Closed]);
        }
        assert!(!endpoint.session.awaiting_buffer());
        assert!(endpoint.session.is_done());
        assert_eq!(endpoint.transmit_all(), b"");
        assert!(!endpoint.pools.send.awaited.get() && !endpoint.pools.receive.awaited.get());
    }
}

#[test]
fn getters_take_no_lease() {
    let endpoint = Endpoint::established(&framed(Framing::U32));
    assert!(endpoint.session.wants_read() && !endpoint.session.wants_write());
    assert!(
        !endpoint.session.wants_shutdown()
            && !endpoint.session.is_done()
            && !endpoint.session.awaiting_buffer()
    );
    assert!(endpoint.session.peer().is_some() && endpoint.session.key_request().is_none());
    assert_eq!(endpoint.pools.held(), NONE);
}

/// The time for which a lease is used freely at most, in microseconds.
const TERM: u64 = 31_100_000;

/// A frame of 24 bytes.
fn short() -> Vec<u8> {
    frame(&[7; 20])
}

/// Receives `begin` and the first 17 bytes of a frame; returns how many chunks that were.
fn receive_overlapping(endpoint: &mut Endpoint, begin: &[u8]) -> usize {
    let mut bytes = [begin, &short()[..17]].concat();
    let mut chunks = 0;
    while !bytes.is_empty() {
        let n = endpoint.offer(&bytes);
        assert!(n > 0);
        bytes.drain(..n);
        chunks += endpoint.drain_chunks().len();
    }
    chunks
}

#[test]
fn lease_is_returned_after_its_term_by_a_peer_that_overlaps_frames() {
    let mut endpoint = Endpoint::new(&framed(Framing::U32), Role::Server, 256, 64);
    assert_eq!(endpoint.events(), [Event::Established]);
    assert_eq!(receive_overlapping(&mut endpoint, &[]), 0);
    // The rest of one frame, with the first bytes of the next: the buffer is never empty.
    let rest = &short()[17..];
    for second in [10, 20, 29] {
        endpoint.advance_to(second * 1_000_000);
        assert_eq!(receive_overlapping(&mut endpoint, rest), 1);
        assert_eq!(endpoint.pools.held(), (0, 1, 0));
    }
    endpoint.advance_to(TERM);
    assert_eq!(receive_overlapping(&mut endpoint, rest), 1);
    // From now on only the rest of the frame is read.
    assert_eq!(endpoint.session.recv_space().len(), rest.len());
    endpoint.advance_to(TERM + 10_000_000);
    assert_eq!(endpoint.offer(&[rest, &short()].concat()), rest.len());
    assert_eq!(endpoint.drain_chunks().len(), 1);
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    // The next lease has a term of its own.
    receive_overlapping(&mut endpoint, &short());
    assert_eq!(endpoint.session.recv_space().len(), 256 - 24 - 17);
}

#[test]
fn receive_lease_is_returned_early_while_others_wait() {
    for framing in [Framing::U32, Framing::Multiprocessing] {
        let mut endpoint = Endpoint::established(&framed(framing));
        receive_overlapping(&mut endpoint, &short());
        endpoint.pools.receive.contended.set(true);
        let mut stream = [&short()[17..], &short(), &short()].concat();
        let mut chunks = 0;
        let mut returned = 0;
        while !stream.is_empty() {
            let n = endpoint.offer(&stream);
            stream.drain(..n);
            chunks += endpoint.drain_chunks().len();
            returned += usize::from(endpoint.pools.held().1 == 0);
        }
        // The first read after others wait may still be of any length; each frame then ends a lease.
        assert_eq!(chunks, 3);
        assert!(returned >= 1, "{framing:?}");
        assert_eq!(endpoint.pools.held(), (0, 0, 0));
    }
}

#[test]
fn nothing_is_read_ahead_of_a_chunk_once_the_term_is_over() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.feed(b"first");
    assert_eq!(endpoint.events().len(), 1);
    assert!(endpoint.session.wants_read());
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    receive_overlapping(&mut endpoint, &[]);
    endpoint.advance_to(1);
    endpoint.pools.receive.contended.set(true);
    assert_eq!(endpoint.events(), []);
    endpoint.feed(&short()[17..]);
    assert_eq!(endpoint.events(), [whole_message()]);
    assert!(!endpoint.session.wants_read());
    assert_eq!(endpoint.session.recv_space(), []);
    endpoint.consume();
    assert_eq!(endpoint.events(), []);
    assert!(endpoint.session.wants_read());
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}

#[test]
fn sealed_frames_return_the_lease_too() {
    let (mut client, mut server) = pair::established(&pair::client(), &pair::server());
    client.send(b"two").unwrap();
    let bytes = client.transmit_all();
    server.feed(&bytes[..bytes.len() - 1]);
    server.pools.receive.contended.set(true);
    assert_eq!(server.events(), []);
    assert_eq!(server.session.recv_space().len(), 1);
    server.feed(&bytes[bytes.len() - 1..]);
    assert_eq!(server.drain_chunks().len(), 1);
    assert_eq!(server.pools.held(), (0, 0, 0));
}

#[test]
fn send_lease_is_returned_after_its_term_by_a_peer_that_reads_slowly() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(&[1; 64]).unwrap();
    // The peer reads 10 bytes every second, and as many are queued again.
    for second in 0..30 {
        endpoint.advance_to(second * 1_000_000);
        assert_eq!(endpoint.transmit(10).len(), 10);
        endpoint.send(&[2; 10]).unwrap();
    }
    endpoint.advance_to(TERM);
    assert_eq!(endpoint.transmit(10).len(), 10);
    assert_eq!(endpoint.send(&[3; 10]), Err(SendError::Full));
    assert_eq!(endpoint.events(), [], "until the buffer is empty");
    assert_eq!(endpoint.transmit(53).len(), 53);
    assert_eq!(endpoint.send(&[3; 1]), Err(SendError::Full));
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.transmit_all().len(), 1);
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    assert_eq!(endpoint.events(), [Event::Writable]);
    endpoint.send(&[3; 10]).unwrap();
    assert_eq!(endpoint.transmit(1).len(), 1);
    endpoint.send(&[3; 1]).unwrap();
}

#[test]
fn send_lease_is_returned_early_while_others_wait() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send(b"first").unwrap();
    assert_eq!(endpoint.transmit(1).len(), 1);
    endpoint.send(b"second").unwrap();
    endpoint.pools.send.contended.set(true);
    assert_eq!(endpoint.transmit(1).len(), 1);
    assert_eq!(endpoint.send(b"third"), Err(SendError::Full));
    assert_eq!(endpoint.transmit_all(), [frame(b"first"), frame(b"second")].concat()[2..]);
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    assert_eq!(endpoint.events(), [Event::Writable]);
    endpoint.send(b"third").unwrap();
    assert_eq!(endpoint.transmit_all(), frame(b"third"));
}

#[test]
fn revoked_receive_lease_ends_the_session_with_a_close() {
    let (mut client, mut server) = pair::established(&pair::client(), &pair::server());
    server.send(b"queued").unwrap();
    client.send(b"a message of more than 16 bytes").unwrap();
    let bytes = client.transmit_all();
    server.feed(&bytes[..bytes.len() - 1]);
    assert_eq!(server.events(), []);
    server.pools.receive.revoked.set(true);
    assert_eq!(server.error(), Error::Overload);
    assert_eq!(server.pools.held(), (0, 0, 1));
    client.feed(&server.transmit_all());
    assert_eq!(client.events(), [whole_message()]);
    client.consume();
    assert_eq!(client.error(), Error::PeerClosed(CloseReason::Timeout));
    assert_eq!(server.pools.held(), NONE);
    assert!(server.session.is_done());
}

#[test]
fn revoked_send_lease_is_returned_with_the_queued_bytes() {
    for failed in [false, true] {
        let (_, mut server) = pair::established(&pair::client(), &pair::server());
        server.send(b"queued").unwrap();
        assert_eq!(server.transmit(3).len(), 3);
        let mut error = Error::Overload;
        if failed {
            error = Error::Aborted(CloseReason::Application);
            server.session.abort(CloseReason::Application, server.now);
        }
        server.pools.send.revoked.set(true);
        if !failed {
            assert_eq!(server.error(), error);
        }
        assert_eq!(server.transmit_all(), b"", "nothing may follow a part of a frame");
        assert_eq!(server.pools.held(), NONE);
        assert_eq!(server.error(), error);
        assert!(server.session.is_done());
    }
}

#[test]
fn session_without_a_lease_is_not_revoked() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(b"ab")[..5]);
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.pools.held(), NONE, "the bytes are parked");
    endpoint.pools.receive.revoked.set(true);
    endpoint.pools.send.revoked.set(true);
    assert_eq!(endpoint.events(), []);
}
