use super::*;

#[test]
fn the_peers_end_is_not_told_before_its_last_part_is_consumed() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut end = End::open(&framed(framing));
        end.feed(&frame(b"last"));
        end.eof();
        assert!(matches!(end.poll(), Ok(Some(Event::Chunk { .. }))));
        assert_eq!(end.events(), []);
        assert!(end.chunk().ends_with(b"last"));
        end.consume();
        assert_eq!(end.events(), [Event::PeerFinished]);
        assert_eq!(end.events(), [], "it is told once");
    }
}

#[test]
fn the_end_of_the_stream_waits_behind_every_message_that_came_before() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&[frame(b"one"), frame(b""), frame(b"three")].concat());
    end.eof();
    for message in [&b"one"[..], b"", b"three"] {
        assert_eq!(end.events(), [whole()]);
        assert_eq!(end.chunk(), message);
        end.consume();
    }
    assert_eq!(end.events(), [Event::PeerFinished]);
}

#[test]
fn closed_comes_last_and_once_whoever_finishes_first() {
    for peer_first in [true, false] {
        let mut end = End::open(&framed(Framing::U32));
        end.send(b"word").unwrap();
        if peer_first {
            end.eof();
            assert_eq!(end.events(), [Event::PeerFinished]);
            end.finish();
            assert_eq!(end.events(), [], "the word is not out");
            assert!(!end.session.is_done());
            assert_eq!(end.sent(), frame(b"word"));
            assert_eq!(end.events(), [Event::Closed]);
        } else {
            end.finish();
            assert_eq!(end.sent(), frame(b"word"));
            assert_eq!(end.events(), []);
            assert!(end.session.wants_shutdown() && !end.session.is_done());
            end.eof();
            assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
        }
        assert!(end.session.is_done());
        assert_eq!(end.events(), []);
        assert_eq!(end.timeout(), None);
        assert!(!end.session.wants_read() && !end.session.wants_write());
        assert_eq!(end.pools.held(), (0, 0, 0));
    }
}

#[test]
fn finishing_twice_is_finishing_once() {
    let mut end = End::open(&framed(Framing::U32));
    end.finish();
    end.session.split().1.finish();
    end.finish();
    assert_eq!(end.sent(), b"");
    assert!(end.session.wants_shutdown());
    end.eof();
    end.finish();
    assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
    end.finish();
    assert_eq!(end.events(), []);
    assert!(end.session.is_done());
}

#[test]
fn the_write_side_is_shut_only_once_all_is_sent() {
    let mut end = End::open(&framed(Framing::Raw));
    assert!(!end.session.wants_shutdown(), "there may be more");
    end.send(b"abc").unwrap();
    end.finish();
    for left in [2, 1, 0] {
        assert!(!end.session.wants_shutdown());
        assert_eq!(end.transmit(1).len(), 1);
        assert_eq!(end.session.wants_shutdown(), left == 0);
    }
}

#[test]
fn a_peer_that_has_finished_is_still_answered() {
    let mut end = End::open(&framed(Framing::Raw));
    end.eof();
    assert_eq!(end.events(), [Event::PeerFinished]);
    end.send(b"answer").unwrap();
    assert_eq!(end.sent(), b"answer");
    assert!(!end.session.is_done());
}

#[test]
fn messages_still_come_after_we_have_finished() {
    let mut end = End::open(&framed(Framing::U32));
    end.finish();
    end.feed(&frame(b"late"));
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.chunk(), b"late");
}

#[test]
fn finishing_before_the_handshake_is_over_lets_it_go_on() {
    let digest = Digest::Sha256;
    let mut client = End::client(&challenge(digest));
    client.finish();
    assert!(!client.session.wants_shutdown());
    client.feed(&[1; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.key(&key(digest, SECRET));
    assert!(!client.session.wants_shutdown(), "the response is not out");
    assert_eq!(client.events(), []);
    assert_eq!(client.sent().len(), 32);
    assert!(!client.session.wants_shutdown(), "not before it is established");
    assert_eq!(client.events(), [Event::Established]);
    assert_eq!(client.send(b"no"), Err(SendError::Finished));
    assert!(client.session.wants_shutdown());
    client.eof();
    assert_eq!(client.events(), [Event::PeerFinished, Event::Closed]);
}

#[test]
fn bytes_behind_the_end_of_the_stream_do_not_count() {
    let mut end = End::open(&framed(Framing::U32));
    let space = end.session.recv_space();
    space[..4].copy_from_slice(&frame(b""));
    end.eof();
    end.session.handle_received(4, end.now);
    assert_eq!(end.offer(&frame(b"")), 0);
    assert_eq!(end.events(), [Event::PeerFinished]);
}

#[test]
fn a_session_is_receiving_from_a_frames_first_byte_to_its_last() {
    let mut end = End::server(&framed(Framing::U32));
    assert!(!end.session.is_receiving(), "not before it is established");
    assert_eq!(end.events(), [Event::Established]);
    assert!(!end.session.is_receiving());
    // Longer than a part.
    let frame = frame(&[7; 100]);
    for (from, to) in [(0, 1), (1, 4), (4, 60)] {
        end.feed(&frame[from..to]);
        assert_eq!(end.events(), []);
        assert!(end.session.is_receiving(), "{to}");
    }
    end.feed(&frame[60..64]);
    assert_eq!(end.events(), [Event::Chunk { first: true, remaining: Remaining::Bytes(40) }]);
    assert!(!end.session.is_receiving(), "it is our turn");
    end.consume();
    assert_eq!(end.events(), []);
    assert!(end.session.is_receiving());
    end.feed(&frame[64..]);
    assert_eq!(end.events(), [Event::Chunk { first: false, remaining: Remaining::End }]);
    end.consume();
    assert_eq!(end.events(), []);
    assert!(!end.session.is_receiving());
    end.feed(&frame[..1]);
    end.session.abort(CloseReason::Shutdown, end.now);
    assert!(!end.session.is_receiving());
}

#[test]
fn a_session_is_idle_between_messages_only() {
    let mut end = End::server(&framed(Framing::U32));
    assert!(!end.session.is_idle(), "not before it is established");
    assert_eq!(end.events(), [Event::Established]);
    assert!(end.session.is_idle());
    for byte in frame(b"x") {
        end.feed(&[byte]);
        assert!(!end.session.is_idle());
        end.events();
        assert!(!end.session.is_idle());
    }
    end.consume();
    assert!(end.session.is_idle());
    end.send_chunk(b"ha", Remaining::Bytes(2)).unwrap();
    assert!(!end.session.is_idle());
    end.sent();
    assert!(!end.session.is_idle(), "half a message is out");
    end.send_chunk(b"lf", Remaining::End).unwrap();
    assert!(!end.session.is_idle());
    end.sent();
    assert!(end.session.is_idle());
    end.session.abort(CloseReason::Shutdown, end.now);
    assert!(!end.session.is_idle());
}

#[test]
fn after_closed_an_abort_changes_nothing() {
    let mut end = End::open(&framed(Framing::Raw));
    end.finish();
    end.eof();
    assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
    end.session.split().1.abort(CloseReason::Application);
    end.session.abort(CloseReason::Application, end.now);
    assert_eq!(end.events(), []);
    assert!(end.session.is_done());
}
