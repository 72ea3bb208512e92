//! Driver and application calls at unusual moments.

use super::*;

#[test]
fn empty_read_keeps_unparsed_bytes() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut endpoint = Endpoint::established(&framed(framing));
        endpoint.feed(&frame(b"x"));
        endpoint.session.recv_space();
        endpoint.session.handle_received(0, endpoint.now); // The next read would block.
        let events = endpoint.events();
        assert_eq!(events.len(), 1, "{framing:?}");
    }
}

#[test]
fn eof_after_a_whole_message_is_no_truncation() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(b"x"));
    endpoint.session.recv_space();
    endpoint.session.handle_received(0, endpoint.now);
    endpoint.eof();
    assert_eq!(endpoint.poll(), Ok(Some(whole_message())));
}

#[test]
fn stale_receive_space_accepts_no_bytes() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.session.recv_space();
    assert_eq!(endpoint.events(), []); // Releases the lease.
    endpoint.session.handle_received(5, endpoint.now);
    assert_eq!(endpoint.events(), []);
}

#[test]
fn unpolled_bytes_are_not_marked_transmitted() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    assert_eq!(endpoint.session.poll_transmit(endpoint.now), b"");
    endpoint.send(b"abc").unwrap();
    endpoint.session.handle_transmitted(2, endpoint.now);
    assert_eq!(endpoint.transmit_all(), b"abc");
}

#[test]
fn excess_transmitted_count_spares_later_messages() {
    let mut client = Endpoint::client(&challenge(Digest::Sha256));
    client.feed(&[0x6e; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.provide_key(&key(Digest::Sha256, SECRET));
    assert_eq!(client.session.poll_transmit(client.now).len(), 32);
    client.session.handle_transmitted(99, client.now);
    client.session.handle_transmitted(99, client.now);
    assert_eq!(client.events(), [Event::Established]);
    client.send(b"hello").unwrap();
    client.session.handle_transmitted(99, client.now);
    assert_eq!(client.transmit_all(), b"hello");
}

#[test]
fn handshake_bytes_without_offered_space_are_ignored() {
    let mut endpoint = Endpoint::server(&challenge(Digest::Sha256));
    endpoint.session.handle_received(32, endpoint.now);
    assert_eq!(endpoint.events(), []);
}

#[test]
fn handshake_bytes_after_eof_are_ignored() {
    let mut endpoint = Endpoint::server(&challenge(Digest::Sha256));
    endpoint.session.recv_space();
    endpoint.eof();
    endpoint.session.handle_received(32, endpoint.now);
    assert_eq!(endpoint.error(), Error::Truncated(Truncated::Handshake));
}

#[test]
fn finish_within_a_message_closes_without_an_error() {
    // The peer reports the truncation; this side ends in order.
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.send_chunk(b"ab", Remaining::Bytes(3)).unwrap();
    endpoint.finish();
    assert_eq!(endpoint.transmit_all(), b"\0\0\0\x05ab");
    assert!(endpoint.session.wants_shutdown() && !endpoint.session.is_done());
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
    assert!(endpoint.session.is_done());
}

#[test]
fn eof_ends_waiting_for_a_receive_buffer() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.pools.receive.exhausted.set(true);
    endpoint.offer(b"x");
    assert!(endpoint.session.awaiting_buffer());
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
    assert!(!endpoint.session.awaiting_buffer());
}

#[test]
fn abort_releases_the_lease_taken_for_writable() {
    // `Writable` takes the lease; the application then sends nothing.
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.pools.send.exhausted.set(true);
    assert_eq!(endpoint.send(b"m"), Err(SendError::Full));
    endpoint.pools.send.exhausted.set(false);
    assert_eq!(endpoint.events(), [Event::Writable]);
    assert_eq!(endpoint.pools.held(), (0, 0, 1));
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}

#[test]
fn finish_releases_the_lease_taken_for_writable() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.pools.send.exhausted.set(true);
    assert_eq!(endpoint.send(b"m"), Err(SendError::Full));
    endpoint.pools.send.exhausted.set(false);
    assert_eq!(endpoint.events(), [Event::Writable]);
    assert_eq!(endpoint.pools.held(), (0, 0, 1));
    endpoint.finish();
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
    assert!(endpoint.session.is_done());
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}

#[test]
fn closed_session_holds_no_lease_after_its_last_bytes() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(b"bye").unwrap();
    endpoint.finish();
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
    endpoint.transmit(usize::MAX);
    assert_eq!(endpoint.events(), [Event::Closed]);
    assert!(endpoint.session.is_done());
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}

#[test]
fn failed_session_holds_no_lease_after_its_last_bytes() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(b"bye").unwrap();
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    endpoint.transmit(usize::MAX);
    assert!(endpoint.session.is_done());
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}
