//! Orderly ends: finish, end of stream, `Closed`, and the getters about them.

use super::*;

#[test]
fn peer_finished_waits_for_the_last_consume() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut endpoint = Endpoint::established(&framed(framing));
        endpoint.feed(&frame(b"last"));
        endpoint.eof();
        assert!(matches!(endpoint.poll(), Ok(Some(Event::Chunk { .. }))));
        assert_eq!(endpoint.events(), []);
        assert!(endpoint.chunk().ends_with(b"last"));
        endpoint.consume();
        assert_eq!(endpoint.events(), [Event::PeerFinished]);
        assert_eq!(endpoint.events(), [], "`PeerFinished` is emitted once");
    }
}

#[test]
fn peer_finished_follows_every_received_message() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&[frame(b"one"), frame(b""), frame(b"three")].concat());
    endpoint.eof();
    for message in [&b"one"[..], b"", b"three"] {
        assert_eq!(endpoint.events(), [whole_message()]);
        assert_eq!(endpoint.chunk(), message);
        endpoint.consume();
    }
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
}

#[test]
fn closed_is_the_last_event_in_either_finish_order() {
    for peer_first in [true, false] {
        let mut endpoint = Endpoint::established(&framed(Framing::U32));
        endpoint.send(b"queued").unwrap();
        if peer_first {
            endpoint.eof();
            assert_eq!(endpoint.events(), [Event::PeerFinished]);
            endpoint.finish();
            assert_eq!(endpoint.events(), [], "the message is not transmitted yet");
            assert!(!endpoint.session.is_done());
            assert_eq!(endpoint.transmit_all(), frame(b"queued"));
            assert_eq!(endpoint.events(), [Event::Closed]);
        } else {
            endpoint.finish();
            assert_eq!(endpoint.transmit_all(), frame(b"queued"));
            assert_eq!(endpoint.events(), []);
            assert!(endpoint.session.wants_shutdown() && !endpoint.session.is_done());
            endpoint.eof();
            assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
        }
        assert!(endpoint.session.is_done());
        assert_eq!(endpoint.events(), []);
        assert_eq!(endpoint.timeout(), None);
        assert!(!endpoint.session.wants_read() && !endpoint.session.wants_write());
        assert_eq!(endpoint.pools.held(), (0, 0, 0));
    }
}

#[test]
fn finish_is_idempotent() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.finish();
    endpoint.session.split().1.finish();
    endpoint.finish();
    assert_eq!(endpoint.transmit_all(), b"");
    assert!(endpoint.session.wants_shutdown());
    endpoint.eof();
    endpoint.finish();
    assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
    endpoint.finish();
    assert_eq!(endpoint.events(), []);
    assert!(endpoint.session.is_done());
}

#[test]
fn shutdown_waits_for_all_queued_bytes() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    assert!(!endpoint.session.wants_shutdown(), "the application may still send");
    endpoint.send(b"abc").unwrap();
    endpoint.finish();
    for remaining in [2, 1, 0] {
        assert!(!endpoint.session.wants_shutdown());
        assert_eq!(endpoint.transmit(1).len(), 1);
        assert_eq!(endpoint.session.wants_shutdown(), remaining == 0);
    }
}

#[test]
fn messages_can_be_sent_to_a_finished_peer() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
    endpoint.send(b"answer").unwrap();
    assert_eq!(endpoint.transmit_all(), b"answer");
    assert!(!endpoint.session.is_done());
}

#[test]
fn messages_arrive_after_local_finish() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.finish();
    endpoint.feed(&frame(b"late"));
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.chunk(), b"late");
}

#[test]
fn early_finish_lets_the_handshake_complete() {
    let digest = Digest::Sha256;
    let mut client = Endpoint::client(&challenge(digest));
    client.finish();
    assert!(!client.session.wants_shutdown());
    client.feed(&[1; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.provide_key(&key(digest, SECRET));
    assert!(!client.session.wants_shutdown(), "the response is not transmitted yet");
    assert_eq!(client.events(), []);
    assert_eq!(client.transmit_all().len(), 32);
    assert!(!client.session.wants_shutdown(), "the session is not established yet");
    assert_eq!(client.events(), [Event::Established]);
    assert_eq!(client.send(b"no"), Err(SendError::Finished));
    assert!(client.session.wants_shutdown());
    client.eof();
    assert_eq!(client.events(), [Event::PeerFinished, Event::Closed]);
}

#[test]
fn bytes_after_eof_are_ignored() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    let space = endpoint.session.recv_space();
    space[..4].copy_from_slice(&frame(b""));
    endpoint.eof();
    endpoint.session.handle_received(4, endpoint.now);
    assert_eq!(endpoint.offer(&frame(b"")), 0);
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
}

#[test]
fn is_receiving_spans_a_frame_from_first_to_last_byte() {
    let mut endpoint = Endpoint::server(&framed(Framing::U32));
    assert!(!endpoint.session.is_receiving(), "the session is not established yet");
    assert_eq!(endpoint.events(), [Event::Established]);
    assert!(!endpoint.session.is_receiving());
    // The frame is longer than a chunk.
    let frame = frame(&[7; 100]);
    for (from, to) in [(0, 1), (1, 4), (4, 60)] {
        endpoint.feed(&frame[from..to]);
        assert_eq!(endpoint.events(), []);
        assert!(endpoint.session.is_receiving(), "{to}");
    }
    endpoint.feed(&frame[60..64]);
    assert_eq!(endpoint.events(), [Event::Chunk { first: true, remaining: Remaining::Bytes(40) }]);
    assert!(!endpoint.session.is_receiving(), "the application must consume the chunk first");
    endpoint.consume();
    assert_eq!(endpoint.events(), []);
    assert!(endpoint.session.is_receiving());
    endpoint.feed(&frame[64..]);
    assert_eq!(endpoint.events(), [Event::Chunk { first: false, remaining: Remaining::End }]);
    endpoint.consume();
    assert_eq!(endpoint.events(), []);
    assert!(!endpoint.session.is_receiving());
    endpoint.feed(&frame[..1]);
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    assert!(!endpoint.session.is_receiving());
}

#[test]
fn session_is_idle_only_between_messages() {
    let mut endpoint = Endpoint::server(&framed(Framing::U32));
    assert!(!endpoint.session.is_idle(), "the session is not established yet");
    assert_eq!(endpoint.events(), [Event::Established]);
    assert!(endpoint.session.is_idle());
    for byte in frame(b"x") {
        endpoint.feed(&[byte]);
        assert!(!endpoint.session.is_idle());
        endpoint.events();
        assert!(!endpoint.session.is_idle());
    }
    endpoint.consume();
    assert!(endpoint.session.is_idle());
    endpoint.send_chunk(b"ha", Remaining::Bytes(2)).unwrap();
    assert!(!endpoint.session.is_idle());
    endpoint.transmit_all();
    assert!(!endpoint.session.is_idle(), "half of a message is transmitted");
    endpoint.send_chunk(b"lf", Remaining::End).unwrap();
    assert!(!endpoint.session.is_idle());
    endpoint.transmit_all();
    assert!(endpoint.session.is_idle());
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    assert!(!endpoint.session.is_idle());
}

#[test]
fn abort_after_closed_is_ignored() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.finish();
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
    endpoint.session.split().1.abort(CloseReason::Application);
    endpoint.session.abort(CloseReason::Application, endpoint.now);
    assert_eq!(endpoint.events(), []);
    assert!(endpoint.session.is_done());
}
