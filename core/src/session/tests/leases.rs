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
